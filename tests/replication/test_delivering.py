"""Who gives out what: replicas that say words to each other behind their ops, and count what their
consumers get."""
import random

import pytest

from crdtredis.replication.delivering import UNSAID, Delivering, Mode, Right
from tests.core.test_state import Node

GROUP = 0, b"s", b"g"
OTHER = 0, b"s", b"h"


class Giver:
    """A replica with consumers, now and then."""

    def __init__(self, name: str, seed: int):
        self.name, self.node = name, Node(name, seed=seed)
        self.delivering = Delivering(name)
        self.told = 0
        # what was said to each of the groups, as it is to be compared with
        self.said: dict[str, dict] = {}

    def read(self, *options) -> list[bytes]:
        d = self.delivering
        rights = [(GROUP, right_of(d))] if d.mode is Mode.RIGHTS else []
        self.node.executor.give(d.mode, rights)
        self.node("MULTI")                                      # in which it does not wait
        self.node("XREADGROUP", "GROUP", "g", self.name, *options, "STREAMS", "s", ">")
        (reply,) = self.node("EXEC")
        return [i for i, _ in reply[0][1]] if reply else []


def right_of(d: Delivering) -> Right:
    said = GROUP in d.mine or any(GROUP in d.words[r].groups for r in d.linked)
    return d.right(GROUP) if said else UNSAID


class World:
    """Links are queues: ops, and words in between."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.givers = [Giver(n, i + 1) for i, n in enumerate("abcd"[:self.rng.choice([2, 3, 4])])]
        self.names = {g.name for g in self.givers}
        self.queues = {(a.name, b.name): [] for a in self.givers for b in self.givers if a is not b}
        self.got: dict[bytes, int] = {}
        first = self.givers[0]
        first.node("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
        for g in self.givers:
            g.delivering.link(self.names - {g.name})
        self.settle()

    def push(self, a: Giver) -> None:
        ops, a.told = a.node.log[a.told:], len(a.node.log)
        for b in self.givers:
            if b is not a and ops:
                self.queues[a.name, b.name].append(ops)

    def say(self, a: Giver) -> None:
        self.push(a)
        d = a.delivering
        number = d.say()
        for b in self.givers:
            if b is not a:
                before = a.said.get(b.name, {})
                changes = {g: d.mine.get(g, 0) for g in {*before, *d.mine}
                           if d.mine.get(g) != before.get(g)}
                a.said[b.name] = dict(d.mine)
                word = d.words.get(b.name)
                self.queues[a.name, b.name].append((number, word.number if word else 0, changes))

    def deliver(self, a: Giver, b: Giver) -> None:
        queue = self.queues[a.name, b.name]
        if not queue:
            return
        item = queue.pop(0)
        if isinstance(item, bytes):
            b.node.receive(item)
        else:
            b.delivering.hear(a.name, *item)
            if item[2]:
                self.say(b)

    def settle(self) -> None:
        for g in self.givers:
            self.say(g)
        while any(self.queues.values()):
            for a in self.givers:
                for b in self.givers:
                    if a is not b:
                        self.deliver(a, b)

    def count(self, ids: list[bytes]) -> None:
        for i in ids:
            self.got[i] = self.got.get(i, 0) + 1

    def step(self) -> None:
        rng = self.rng
        g = rng.choice(self.givers)
        x = rng.random()
        if x < 0.25:
            g.node.replica.now += rng.randrange(2)
            g.node("XADD", "s", "*", "f", g.name)
        elif x < 0.5:
            self.count(g.read(*rng.choice([(), ("COUNT", 1)])))
        elif x < 0.62:
            if g.delivering.consumes(GROUP, rng.random() < 0.6) and rng.random() < 0.8:
                self.say(g)
        elif x < 0.75:
            rng.choice([self.push, self.say])(g)
        else:
            a, b = rng.sample(self.givers, 2)
            self.deliver(a, b)


@pytest.mark.parametrize("block", range(4))
def test_each_entry_is_given_out_once(block):
    for seed in range(block, 120, 4):
        w = World(seed)
        for _ in range(200):
            w.step()
        assert set(w.got.values()) <= {1}, f"seed {seed}: twice"
        w.rng.choice(w.givers).delivering.consumes(GROUP, True)
        w.settle()
        for g in w.givers:
            w.count(g.read())
        w.settle()
        ids = [i for i, _ in w.givers[0].node("XRANGE", "s", "-", "+")]
        assert w.got == dict.fromkeys(ids, 1), f"seed {seed}"


def test_entries_are_given_out_where_they_were_added():
    w = World(1)
    a, b = w.givers[:2]
    for g in w.givers:
        g.delivering.consumes(GROUP, True)
    at_a, at_b = a.node("XADD", "s", "*", "f", "v"), b.node("XADD", "s", "*", "f", "v")
    w.settle()
    assert b.read() == [at_b] and a.read() == [at_a]
    b.delivering.consumes(GROUP, False)
    assert a.node("XLEN", "s") == 2 and b.read() == []
    more = b.node("XADD", "s", "*", "f", "v")
    w.settle()
    assert a.read() == [more], "where it was added nobody wants it"


def test_its_own_are_given_out_at_once():
    w = World(3)
    a, b = w.givers[:2]
    at_a = a.node("XADD", "s", "*", "f", "v")
    assert a.read() == [at_a], "nobody else has a consumer"
    a.delivering.consumes(GROUP, True)
    w.settle()
    b.delivering.consumes(GROUP, True)
    at_b = b.node("XADD", "s", "*", "f", "v")
    assert b.read() == [], "A may have it to give"
    w.settle()
    assert b.read() == [at_b]


def test_who_was_first_does_not_wait_for_one_that_comes():
    d = Delivering("a")
    d.link({"b"})
    d.consumes(GROUP, True)
    assert d.say() == 1
    d.hear("b", 1, 0, {GROUP: 1})
    assert d.right(GROUP) == Right(True, True, frozenset("b"), True), "b will hear of both"
    d.consumes(GROUP, False)
    assert d.right(GROUP) == Right(False, False)
    d.consumes(GROUP, True)
    assert d.say() == 2 and d.right(GROUP) == Right(False, False)
    assert d.hear("b", 2, 1, {}) == set() and not d.right(GROUP).own
    assert d.hear("b", 3, 2, {}) == {GROUP} and d.right(GROUP).settled
    # the same once more, of one that speaks anew: what it was told before may hold there
    d.forget("b")
    assert d.mode is Mode.NOTHING
    d.hear("b", 4, 0, {GROUP: 1}, again=True)
    assert d.mode is Mode.RIGHTS and not d.right(GROUP).own
    d.hear("b", 5, 2, {})
    assert d.right(GROUP).own


def test_who_is_linked_and_has_not_spoken_stops_all():
    d = Delivering("a")
    assert d.mode is Mode.ALL, "alone it gives all"
    assert d.link({"b"}) and not d.link({"b"}) and d.mode is Mode.NOTHING
    d.consumes(GROUP, True)
    d.hear("b", 1, 0, {})
    assert d.right(GROUP) == Right(True, False) and d.mode is Mode.RIGHTS
    d.hear("b", 2, d.say(), {OTHER: 2})
    assert d.right(GROUP) == Right(True, True, settled=True)
    assert d.right(OTHER) == Right(False, False), "b may have heard of no consumer here"
    d.link(set())
    assert d.mode is Mode.ALL


def test_a_new_token_is_another_consumer():
    """It went and came again within one word."""
    d = Delivering("b")
    d.link({"a"})
    d.hear("a", 1, 0, {GROUP: 1})
    d.consumes(GROUP, True)
    assert not d.right(GROUP).own
    d.hear("a", 2, 0, {GROUP: 2})
    assert d.right(GROUP).own, "that one waits for a word from here, which names both"
    assert d.right(GROUP).but == {"a"} and not d.right(GROUP).rest


def test_tokens_of_groups_that_come_and_go_are_not_kept():
    d = Delivering("a")
    for n in range(1000):
        d.consumes((0, b"s", b"%d" % n), True)
        d.say()
        d.consumes((0, b"s", b"%d" % n), False)
    assert len(d._came) < 200


def test_what_its_former_processes_added_is_its_own():
    former, other, node = Node("a"), Node("b", seed=2), Node("a", epoch=2, seed=3)
    former("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
    mine = former("XADD", "s", "*", "f", "v")
    other.receive(former.log)
    other.log = b""
    other("XADD", "s", "*", "f", "v")
    node.receive(former.log)
    node.receive(other.log)
    node.executor.give(Mode.RIGHTS, [(GROUP, Right(True, False, settled=True))])
    reply = node("XREADGROUP", "GROUP", "g", "x", "STREAMS", "s", ">")
    assert [i for i, _ in reply[0][1]] == [mine] and node("XLEN", "s") == 2


def test_a_group_that_is_shared_is_given_out_everywhere():
    node = Node("a")
    node.executor.give(Mode.RIGHTS, [(GROUP, Right(False, False))])
    other = Node("b", seed=2)
    other("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
    other("XGROUP", "CREATE", "s", "h", 0, "SHARED")
    i = other("XADD", "s", "*", "f", "v")
    node.receive(other.log)
    read = ("XREADGROUP", "GROUP", "g", "x", "STREAMS", "s", ">")
    node("MULTI")
    node(*read)
    assert node("EXEC") == [None]
    assert node("XREADGROUP", "GROUP", "h", "x", "STREAMS", "s", ">")[0][1][0][0] == i
    node.executor.give(Mode.ALL, [])
    assert node(*read)[0][1][0][0] == i

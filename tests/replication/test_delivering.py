"""Who gives out what: replicas that say words to each other behind their ops, and count what their
consumers get."""
import random

import pytest

from crdtredis.replication.delivering import Delivering
from tests.core.test_state import Node

GROUP = 0, b"s", b"g"


class Giver:
    """A replica with consumers, now and then."""

    def __init__(self, name: str, seed: int):
        self.name, self.node = name, Node(name, seed=seed)
        self.node.replica.give_by_origin(True)
        self.delivering = Delivering(name, 1)
        self.told = 0

    def read(self, names: set, *options) -> list[bytes]:
        if GROUP not in self.delivering.mine:
            return []
        self.node.replica.let_give(*GROUP, self.delivering.givers(GROUP, names))
        reply = self.node("XREADGROUP", "GROUP", "g", self.name, *options, "STREAMS", "s", ">")
        return [i for i, _ in reply[0][1]] if reply else []


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
        for b in self.givers:
            if b is not a:
                self.queues[a.name, b.name].append(a.delivering.word(b.name))

    def deliver(self, a: Giver, b: Giver) -> None:
        queue = self.queues[a.name, b.name]
        if not queue:
            return
        item = queue.pop(0)
        if isinstance(item, bytes):
            b.node.receive(item)
        elif b.delivering.hear(a.name, item):
            self.say(b)

    def settle(self) -> None:
        for g in self.givers:
            self.say(g)
        while any(self.queues.values()):
            for a in self.givers:
                for b in self.givers:
                    if a is not b:
                        self.deliver(a, b)

    def step(self) -> None:
        rng = self.rng
        g = rng.choice(self.givers)
        x = rng.random()
        if x < 0.25:
            g.node.replica.now += rng.randrange(2)
            g.node("XADD", "s", "*", "f", g.name)
        elif x < 0.5:
            for i in g.read(self.names, *rng.choice([(), ("COUNT", 1)])):
                self.got[i] = self.got.get(i, 0) + 1
        elif x < 0.62:
            if g.delivering.consumes(GROUP, rng.random() < 0.6):
                self.say(g)
        elif x < 0.75:
            self.push(g)
        else:
            a, b = rng.sample(self.givers, 2)
            self.deliver(a, b)


@pytest.mark.parametrize("block", range(4))
def test_each_entry_is_given_out_once(block):
    for seed in range(block, 60, 4):
        w = World(seed)
        for _ in range(150):
            w.step()
        assert set(w.got.values()) <= {1}, f"seed {seed}: twice"
        w.rng.choice(w.givers).delivering.consumes(GROUP, True)
        w.settle()
        for g in w.givers:
            for i in g.read(w.names):
                w.got[i] = w.got.get(i, 0) + 1
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
    assert b.read(w.names) == [at_b] and a.read(w.names) == [at_a]
    b.delivering.consumes(GROUP, False)
    assert a.node("XLEN", "s") == 2 and b.read(w.names) == []
    more = b.node("XADD", "s", "*", "f", "v")
    w.settle()
    assert a.read(w.names) == [more], "where it was added nobody wants it"


def test_a_lost_link_voids_what_was_said():
    w = World(2)
    a = w.givers[0]
    a.delivering.consumes(GROUP, True)
    w.settle()
    assert a.delivering.givers(GROUP, w.names)
    a.delivering.link(set())
    assert a.delivering.givers(GROUP, w.names) == list(w.names), "alone it gives all"
    a.delivering.link(w.names - {a.name})
    assert a.delivering.givers(GROUP, w.names) == [], "until they have spoken"
    w.settle()
    assert a.delivering.givers(GROUP, w.names)


def test_a_group_that_is_shared_is_given_out_everywhere():
    w = World(3)
    w.givers[0].node.replica.give_by_origin(False)
    i = w.givers[1].node("XADD", "s", "*", "f", "v")
    w.settle()
    reply = w.givers[0].node("XREADGROUP", "GROUP", "g", "x", "STREAMS", "s", ">")
    assert reply[0][1][0][0] == i

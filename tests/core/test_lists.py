"""Long lists: the packed blocks (core/block.pxi) against a Python list, and against replicas that
hold the same list in other blocks.

    python -m pytest tests/core/test_lists.py
    python -m tests.core.test_lists FIRST LAST       # other seeds
"""
import random
import sys

import pytest

from crdtredis._core import Replica, probe_make, probe_members, probe_memory, probe_pack
from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.test_state import Node
from tests.simulation.oracle import Ops, told

KEY = b"l"


def value(rng, n):
    """Bytes that tell themselves apart, of many lengths: empty ones, ordinary ones, too long for a
    page with others."""
    size = rng.choice([0, 1, 3, 3, 8, 32, 32, 100, 127, 128, 500, 2048, 2049, 5000]
                      if rng.random() < .1 else [0, 1, 3, 8, 32])
    return (b"%d." % n).ljust(size, b"x")[:max(size, 1)] if size else b""


class Side:
    """A replica and what its list should be."""

    def __init__(self, name, seed):
        self.replica = Replica(name, 1, seed=seed)
        self.replica.now = 1000
        self.made = 0

    def shown(self):
        type, shown = probe_members(self.replica, 0, KEY)
        return shown if type == pb.LIST else []

    def do(self, effects):
        probe_make(self.replica, effects)

    def burst(self, rng, model):
        """One pattern of use, a few to a few hundred times."""
        what = rng.choice(["push", "push", "push", "pop", "pop", "queue", "middle", "remove", "set",
                           "busy", "many"])
        tail = rng.random() < .5
        times = rng.choice([1, 2, 3, 20, 200, 400] if what in ("push", "pop", "queue", "busy")
                           else [1, 3, 20])
        for _ in range(times):
            self.replica.now += rng.choice([0, 0, 1])
            self.made += 1
            n = len(model)
            v = value(rng, self.made)
            at = rng.randrange(n + 1)
            if what in ("push", "busy") or (what == "queue" and n < 3):
                if what == "busy":                           # other keys are written meanwhile
                    for _ in range(rng.choice([0, 1, 2, 300])):
                        self.do([("set", 0, b"other", b"x")])
                effects = [self.insert(model, n if tail else 0, v)]
            elif what == "many":                             # of one op, with others between
                effects = []
                for i in range(rng.choice([2, 3, 40, 300])):
                    effects.append(self.insert(model, len(model) if tail else 0, value(rng, i)))
                    if rng.random() < .1:
                        effects.append(("set", 0, b"other", b"x"))
            elif what == "middle":
                effects = [self.insert(model, at + i if at + i <= n + i else n, value(rng, i))
                           for i in range(rng.choice([1, 1, 3]))]
            elif n == 0:
                break
            elif what == "pop":
                effects = [self.remove(model, n - 1 if tail else 0)]
            elif what == "queue":
                effects = [self.insert(model, n if tail else 0, v),
                           self.remove(model, 0 if tail else n)]
            elif what == "remove":
                effects = [self.remove(model, at % n)]
            else:
                at %= n
                model[at] = v
                effects = [("member", 0, KEY, ("set", pb.LIST, v, at))]
            self.do(effects)

    @staticmethod
    def insert(model, at, v):
        model.insert(at, v)
        return "member", 0, KEY, ("insert", pb.LIST, v, at)

    @staticmethod
    def remove(model, at):
        del model[at]
        return "member", 0, KEY, ("remove", pb.LIST, b"", at)


def exchange(*sides):
    """Everybody gets everything; returns the batches."""
    batches = [s.replica.take_ops() for s in sides]
    for s in sides:
        for batch in batches:
            if batch:
                s.replica.receive(batch)
        s.replica.take_ops()
    return batches


def run(seed, rounds=12):
    """In turn, and at times both at once: then only equality is asked, and what the ops say."""
    rng, packs = random.Random(seed), random.Random(f"packed {seed}")
    sides = [Side("A", seed), Side("B", seed + 1)]
    log, model = [], []
    concurrently = False
    for _ in range(rounds):
        side = rng.choice(sides)
        concurrently = rng.random() < .3
        if concurrently:
            for side in sides:
                mine = list(model)
                for _ in range(rng.randint(1, 2)):
                    side.burst(rng, mine)
                if rng.random() < .2:
                    side.do([("del", 0, KEY, None)])
                    mine = []
                side.replica.check()
                assert side.shown() == mine, f"seed {seed}"
        else:
            for _ in range(rng.randint(1, 3)):
                side.burst(rng, model)
            side.replica.check()
            assert side.shown() == model, f"seed {seed}"
        log += exchange(*sides)
        for s in sides:
            if packs.random() < .5:
                probe_pack(s.replica)
            s.replica.check()
        assert sides[0].replica.digest() == sides[1].replica.digest(), f"seed {seed}"
        assert sides[0].shown() == sides[1].shown(), f"seed {seed}"
        if concurrently:
            model = sides[0].shown()
        else:
            assert sides[1].shown() == model, f"seed {seed}"
    late = Replica("C", 1, seed=seed)
    late.now = 10**6
    for batch in log:
        if batch:
            late.receive(batch)
    late.check()
    assert late.digest() == sides[0].replica.digest(), f"seed {seed}"
    return log, sides[0].shown()


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_bursts_of_all_kinds(first):
    for seed in range(first, first + 20):
        run(seed)


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_what_the_ops_say(seed):
    log, shown = run(seed, rounds=2)
    if sum(map(len, log)) < 60_000:                          # the oracle compares all with all
        found = Ops()
        for batch in filter(None, log):
            found.read(batch)
        expected = told(found).get((0, KEY))
        assert not shown if expected is None else expected.shows("list", shown)


@pytest.mark.parametrize("pushes", ["own ops", "one op", "with writes between", "to the head"])
def test_an_element_takes_little_more_than_its_bytes(pushes):
    r = Side("A", 1)
    before = probe_memory()[1]
    for i in range(0, 20_000, 20):
        effects = [("member", 0, KEY, ("insert", pb.LIST, b"%032d" % j, 0 if pushes == "to the head"
                                       else 10**9)) for j in range(i, i + 20)]
        for op in [effects] if pushes == "one op" else [[e] for e in effects]:
            r.do(op)
            if pushes == "with writes between":
                for _ in range(i % 3):
                    r.do([("set", 0, b"other", b"x")])
        r.replica.take_ops()
    assert (probe_memory()[1] - before) / 20_000 < 37


def test_what_a_queue_took_is_given_back():
    r = Side("A", 1)
    r.do([("member", 0, KEY, ("insert", pb.LIST, b"x", 0))] * 3)
    r.replica.take_ops()
    before = probe_memory()
    for i in range(30_000):
        r.do([("member", 0, KEY, ("insert", pb.LIST, b"%d" % i, 10**9))])
        # it fills up to a hundred, then some leave for each that comes
        if i % 5000 > 100:
            r.do([("member", 0, KEY, ("remove", pb.LIST, b"", 0))])
        if i % 5000 == 4999:
            while len(r.shown()) > 3:
                r.do([("member", 0, KEY, ("remove", pb.LIST, b"", 0))])
            r.replica.take_ops()
            r.replica.check()
            assert probe_memory()[1] - before[1] < 2000


def test_an_assignment_leaves_nothing_of_the_value_before():
    r = Node("a")
    r("RPUSH", "l", *range(10))
    r("LSET", "l", 4, "x"), r("LSET", "l", 5, "x")
    before = probe_memory()
    for i in range(50):
        r("LSET", "l", 4 + i % 2, "xyz"[i % 3])
        assert probe_memory() == before


def test_an_index_in_the_middle_of_a_long_list():
    """Thousands of inserts to the left and right of the last one, into few blocks; no op says more
    than its element."""
    r = Side("A", 1)
    model = []
    for i in range(8000):
        r.do([Side.insert(model, len(model) // 2, b"%d" % i)])
        assert len(r.replica.take_ops()) < 100
    r.replica.check()
    assert r.shown() == model
    while model:
        r.do([Side.remove(model, len(model) // 2)])
    assert r.shown() == []
    r.replica.check()


@pytest.mark.parametrize("apart", [1, 7, 40])
def test_replicas_that_insert_between_each_others_inserts(apart):
    """In turn it is a plain list; when both insert at once, before they have heard of each other,
    every element is there, once, and in the order in which each replica had it."""
    sides = [Side("A", 1), Side("B", 2)]
    model = [b"first", b"last"]
    sides[0].do([("member", 0, KEY, ("insert", pb.LIST, v, 10**9)) for v in model])
    exchange(*sides)
    for i in range(300):
        sides[i % 2].do([Side.insert(model, len(model) // 2, b"%d" % i)])
        if i % apart == 0:
            before = [s.shown() for s in sides]
            exchange(*sides)
            assert sides[0].replica.digest() == sides[1].replica.digest()
            model = sides[0].shown()
            for shown in before:
                assert [v for v in model if v in set(shown)] == shown
        else:
            model = sides[(i + 1) % 2].shown()
    exchange(*sides)
    for s in sides:
        s.replica.check()
        assert sorted(s.shown()) == sorted([b"first", b"last", *[b"%d" % i for i in range(300)]])
        assert s.shown()[0] == b"first" and s.shown()[-1] == b"last"


def test_a_delete_that_saw_half_of_a_block():
    """A has pushed on while B deleted; what B had not seen stays, in blocks that are cut where B's
    knowledge ends."""
    for tail in (True, False):
        a, b = Side("A", 1), Side("B", 2)
        model = []
        for i in range(100):
            a.do([Side.insert(model, len(model) if tail else 0, b"%d" % i)])
        exchange(a, b)
        for i in range(100, 150):
            a.do([Side.insert(model, len(model) if tail else 0, b"%d" % i)])
        b.do([("del", 0, KEY, None)])
        exchange(a, b)
        for s in (a, b):
            s.replica.check()
            assert s.shown() == [v for v in model if int(v) >= 100]
        assert a.replica.digest() == b.replica.digest()


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        run(number)
    print("ok")

"""Laws of inserts at one place, for random schedules of two to five replicas that all work there:
every element once, in one order.

Elements have names of their own, so a list is a sequence of names and each law can be read off what
clients see:

- what a replica shows is what was added in the ops it has seen less what was removed in them, each
  once;
- a `LINSERT` puts its element right beside the pivot, there and then;
- elements that a client once saw in an order stand in it for ever, in every replica: an insert
  stays between the neighbours it was given.

Places are chosen as people and programs do: to one side of the last, to both in turn, in the
middle, beside somebody else's newest; with pauses in which replicas do not hear of each other,
restarts, and elements removed or assigned to meanwhile.

    python -m tests.simulation.test_inserts FIRST LAST
"""
import random
import sys
from itertools import count

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Executor
from tests.simulation.views import Client

KEY = "l"
PATTERNS = ["after", "before", "in turn", "in turn", "middle", "middle", "ends", "random side",
            "anywhere"]


class Node:
    def __init__(self, name, seed):
        self.replica = Replica(name, 1, seed=seed)
        self.replica.now = 1000
        self.client = Client(self.replica, Executor(self.replica))
        self.epoch = 1
        self.log = []                             # (batch, added, removed), own and received
        self.sent = {}
        self.added, self.removed = set(), set()

    def take(self, added=(), removed=()):
        self.added |= set(added)
        self.removed |= set(removed)
        if batch := self.replica.take_ops():
            self.log.append((batch, frozenset(added), frozenset(removed)))

    def shown(self):
        there = self.client("LRANGE", KEY, 0, -1)
        assert self.client("LLEN", KEY) == len(there)
        assert len(there) == len(set(there)), f"{self.replica.id} shows {there}"
        assert set(there) == self.added - self.removed, f"{self.replica.id} shows {there}"
        return there

    def restart(self):
        """A new process: its ops are another actor's."""
        self.epoch += 1
        self.replica.new_epoch(self.epoch)


def in_order(seen, there):
    """Do the elements that both have stand in the same order?"""
    both = set(seen) & set(there)
    return [e for e in seen if e in both] == [e for e in there if e in both]


def pick(rng, pattern, i, there, newest):
    """(where, pivot) of the i-th insert of a burst."""
    if pattern == "middle":
        return "BEFORE", there[len(there) // 2]
    if pattern == "anywhere":
        return rng.choice(["BEFORE", "AFTER"]), rng.choice(there)
    if pattern == "ends":
        return ("AFTER", there[0]) if i % 2 else ("BEFORE", there[-1])
    side = {"after": 1, "before": 0, "in turn": i % 2, "random side": rng.randrange(2)}[pattern]
    return ("BEFORE", "AFTER")[side], newest if newest in there else there[len(there) // 2]


def run(seed):
    rng = random.Random(seed)
    nodes = [Node(n, seed + i) for i, n in enumerate("abcde"[:rng.choice([2, 2, 3, 5])])]
    fresh = count()
    patterns = rng.sample(PATTERNS, rng.choice([1, 1, 2, 3]))
    long, restarts, removes = rng.choice([3, 20, 60]), rng.random() < .2, rng.choice([0, 0, .1, .3])
    seen = []                                     # lists that somebody was shown
    newest = None

    def exchange(source, target, most):
        at = source.sent.get(target, 0)
        for batch, added, removed in source.log[at:at + most]:
            target.replica.receive(batch)
            target.take(added, removed)
            at += 1
        source.sent[target] = at

    def insert(n, where, pivot):
        before = n.shown()
        element = b"%s%d" % (n.replica.id.encode(), next(fresh))
        assert n.client("LINSERT", KEY, where, pivot, element) == len(before) + 1
        n.take([element])
        at = before.index(pivot) + (where == "AFTER")
        now = n.shown()
        assert now == [*before[:at], element, *before[at:]], f"seed {seed}: {where} {pivot}: {now}"
        return element

    nodes[0].client("RPUSH", KEY, *(start := [b"first", b"x", b"last"]))
    nodes[0].take(start)
    for _ in range(rng.randint(5, 40)):
        n = rng.choice(nodes)
        for o in nodes:
            if o is not n and rng.random() < .4:
                exchange(o, n, rng.choice([1, 5, 1 << 30]))
        there = n.shown()
        if not there:
            continue
        seen.append(there)
        if restarts and rng.random() < .2:
            n.restart()
        if rng.random() < removes:
            gone = rng.choice(there)
            # Only its maker assigns to an element, so that no value is hidden by another.
            if rng.random() < .5 or not gone.startswith(n.replica.id.encode()):
                assert n.client("LREM", KEY, 1, gone) == 1
                n.take(removed=[gone])
            else:                                 # another name in its place
                element = b"%s%d" % (n.replica.id.encode(), next(fresh))
                assert n.client("LSET", KEY, there.index(gone), element) == b"OK"
                n.take([element], [gone])
            continue
        pattern = rng.choice(patterns)
        for i in range(rng.randint(1, long)):
            there = n.shown()
            newest = insert(n, *pick(rng, pattern, i, there, newest))
        n.replica.check()
    seen += [n.shown() for n in nodes]
    for _ in nodes:
        for a in nodes:
            for b in nodes:
                if a is not b:
                    exchange(a, b, 1 << 30)
    there = nodes[0].shown()
    for n in nodes:
        n.replica.check()
        assert n.shown() == there, f"seed {seed}: replicas differ"
        assert n.replica.digest() == nodes[0].replica.digest(), f"seed {seed}: digests differ"
    for s in seen:
        assert in_order(s, there), f"seed {seed}: {s}, then {there}"


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_inserts_at_one_place(first):
    for seed in range(first, first + 20):
        run(seed)


if __name__ == "__main__":
    for s in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
        run(s)
    print(f"seeds {sys.argv[1]} to {sys.argv[2]} held")

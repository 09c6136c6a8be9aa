"""Laws of concurrent pops (SPOP, LPOP, RPOP, LMPOP, ZPOPMIN, ZPOPMAX, ZMPOP), for random schedules
of two to four replicas.

Every element is added once in all, so a replica must hold, at every moment, exactly what was added
in the ops it has seen less what was popped in them, whoever popped it and however often. So: a pop
answers only what is there; what two replicas popped at the same time goes once and takes nothing
else along; what is added meanwhile stays; at the end nothing is left but what nobody was given.
Elements of a list, and members of a sorted set, stand in one order in all replicas, at every
moment.

    python -m tests.simulation.test_pops FIRST LAST
"""
import random
import sys
from itertools import count

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Executor
from tests.simulation.views import Client, content, flat_pairs

POPS = {"set": [("SPOP", "k"), ("SPOP", "k", 1), ("SPOP", "k", 3)],
        "list": [("LPOP", "k"), ("RPOP", "k"), ("LPOP", "k", 3), ("RPOP", "k", 2),
                 ("LMPOP", 1, "k", "LEFT", "COUNT", 2), ("LMPOP", 2, "none", "k", "RIGHT")],
        "zset": [("ZPOPMIN", "k"), ("ZPOPMAX", "k"), ("ZPOPMIN", "k", 3),
                 ("ZMPOP", 1, "k", "MIN", "COUNT", 2), ("ZMPOP", 2, "none", "k", "MAX")]}


class Node:
    def __init__(self, name, seed):
        self.replica = Replica(name, 1, seed=seed)
        self.replica.now = 1000
        self.client = Client(self.replica, Executor(self.replica))
        # batches, own and received, each with what it added and popped
        self.log = []
        self.sent = {}

    def take(self, added=(), popped=()):
        if batch := self.replica.take_ops():
            self.log.append((batch, frozenset(added), frozenset(popped)))


def popped_by(argv, reply):
    """The elements that a pop has answered."""
    if reply is None:
        return []
    if argv[0] in ("LMPOP", "ZMPOP"):
        assert reply[0] == b"k"
        return [e[0] if argv[0] == "ZMPOP" else e for e in reply[1]]
    if argv[0].startswith("Z"):
        return [name for name, _ in flat_pairs(reply)]
    return reply if isinstance(reply, list) else [reply]


def add(rng, type, fresh):
    names = [b"%d" % next(fresh) for _ in range(rng.choice([1, 1, 2, 5]))]
    if type == "set":
        return names, ("SADD", "k", *names)
    if type == "list":
        return names, (rng.choice(["LPUSH", "RPUSH"]), "k", *names)
    return names, ("ZADD", "k", *(x for n in names for x in (rng.randrange(5), n)))


def run(seed):
    rng = random.Random(seed)
    type = rng.choice(list(POPS))
    nodes = [Node(n, seed + i) for i, n in enumerate("abcd"[:rng.randint(2, 4)])]
    # what was added, and popped, in the ops a node has
    seen = {n: [set(), set()] for n in nodes}
    fresh = count()
    pops = rng.choice([0.3, 0.5, 0.7])

    def exchange(source, target, most):
        at = source.sent.get(target, 0)
        for batch, added, popped in source.log[at:at + most]:
            if rng.random() < 0.1 and source.log[:at]:
                target.replica.receive(rng.choice(source.log[:at])[0])
            target.replica.receive(batch)
            target.take(added, popped)            # relayed; with what is known already it is empty
            at += 1
            # Causal: a batch that waits is not there yet. Logs are in causal order and handed on in
            # order, so none does.
            seen[target][0] |= added
            seen[target][1] |= popped
        source.sent[target] = at

    def look(n):
        kind = n.client("TYPE", "k").decode()
        there = content(n.client, b"k", kind) if kind != "none" else []
        names = [m for m, _ in there] if type == "zset" else list(there)
        assert set(names) == seen[n][0] - seen[n][1] and len(names) == len(set(names)), (
            f"seed {seed}: {n.replica.id} holds {names}")
        return names

    for _ in range(rng.randint(10, 60)):
        n = rng.choice(nodes)
        x = rng.random()
        if x < 0.4:
            exchange(rng.choice([o for o in nodes if o is not n]), n, rng.choice([1, 2, 100]))
        elif rng.random() < pops:
            argv = rng.choice(POPS[type])
            before = look(n)
            got = popped_by(argv, n.client(*argv))
            assert set(got) <= set(before) and len(got) == len(set(got)), (
                f"seed {seed}: {argv} gave {got} of {before}")
            if type != "set":                     # from the end it names, in order
                assert got in (before[:len(got)], before[:: -1][:len(got)]), (
                    f"seed {seed}: {argv} gave {got} of {before}")
            seen[n][1] |= set(got)
            n.take(popped=got)
        else:
            names, argv = add(rng, type, fresh)
            n.client(*argv)
            seen[n][0] |= set(names)
            n.take(added=names)
        look(n)
        n.replica.check()
    before = [look(n) for n in nodes]
    for _ in nodes:
        for a in nodes:
            for b in nodes:
                if a is not b:
                    exchange(a, b, 1 << 30)
    left = [look(n) for n in nodes]
    assert len({n.replica.digest() for n in nodes}) == 1, f"seed {seed}: digests differ"
    if type != "set":
        assert all(names == left[0] for names in left), f"seed {seed}: {left}"
        for names in before:                      # the order in which elements stand never changes
            assert [e for e in names if e in left[0]] == [e for e in left[0] if e in names], (
                f"seed {seed}: {names}, then {left[0]}")


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_pops(first):
    for seed in range(first, first + 100):
        run(seed)


if __name__ == "__main__":
    for s in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
        run(s)
    print(f"seeds {sys.argv[1]} to {sys.argv[2]} held")

"""A walk through a state that changes under it: what comes back from the walk and the log since its
beginning is what the whole log brings back, whatever happened in between.

The simulated clusters (world.py) do the same with few keys and small collections. Here are those
that a walk takes in pieces: tables that grow and shrink, large collections, lists of many blocks.
"""
import random

import pytest

from tests.core.test_state import NOW, Node, stream, taken
from crdtredis._core import StateWriter, probe_records

LARGE = [b"large:0", b"large:1"]
MEMBERS = [b"%d" % i for i in range(160)]
KEYS = [b"key:%d" % i for i in range(300)]
ANYWHERE = [("FLUSHALL",), ("SWAPDB", 0, 1), ("SELECT", 1), ("SELECT", 0)]


def lists(rng):
    k, n = rng.choice(LARGE), rng.choice([1, 1, 3, 40])
    v = rng.choice([b"%d" % rng.randrange(50), b"w" * 2100])      # the latter has its own block
    return rng.choice([
        ("RPUSH", k, *[v] * n), ("RPUSH", k, *[v] * n), ("LPUSH", k, *[v] * n),
        ("LINSERT", k, "BEFORE", v, b"i"), ("LINSERT", k, "AFTER", v, b"9"), ("LSET", k, -2, v),
        ("LSET", k, rng.randrange(40), v), ("LREM", k, rng.choice([1, -1, 0]), v),
        ("LPOP", k, 5), ("RPOP", k, 5), ("LTRIM", k, 2, -3),
        ("LMOVE", k, LARGE[0], "LEFT", "RIGHT"), rng.choice([("DEL", k), ("RENAME", k, LARGE[1])])])


def members(rng):
    k, m, start = rng.choice(LARGE), rng.choice(MEMBERS), rng.randrange(100)
    some = MEMBERS[start:start + rng.choice([40, 100])]
    return rng.choice([
        ("HSET", k, *(x for m in some for x in (m, b"5"))), ("HDEL", k, *some),
        ("HINCRBY", k, m, 3), ("HINCRBY", k, m, -4), ("HINCRBYFLOAT", k, m, "0.1"), ("HDEL", k, m),
        ("ZADD", k, *(x for m in some for x in (b"0.5", m))), ("ZREM", k, *some),
        ("ZINCRBY", k, "0.1", m), ("ZINCRBY", k, 3, m), ("ZREM", k, m), ("PEXPIRE", k, 400),
        rng.choice([("DEL", k), ("RENAME", k, LARGE[1]), ("SET", k, "x")])])


def keys(rng):
    k, other, start = rng.choice(KEYS[:60]), rng.choice(KEYS[:60]), rng.randrange(250)
    some = KEYS[start:start + 200]
    return rng.choice([
        ("MSET", *(x for k in some for x in (k, b"v"))), ("DEL", *some), ("SET", k, "v"),
        ("INCR", k), ("INCR", k), ("INCRBY", other, -3), ("INCRBYFLOAT", k, "0.1"), ("DEL", k),
        ("RENAME", k, other), ("COPY", k, other, "REPLACE"), ("PEXPIRE", k, 20), ("PERSIST", k),
        ("SET", k, "5", "PX", 500), ("SET", other, "7", "KEEPTTL"), ("SADD", k, "a"),
        ("HINCRBY", k, "a", 2), ("HDEL", k, "a"), ("GETDEL", k)])


class Cluster:
    def __init__(self, seed: int, command) -> None:
        self.rng, self.command, self.now = random.Random(seed), command, NOW
        self.nodes = [Node(n, seed=seed) for n in "abc"[:self.rng.choice([1, 2, 3, 3])]]

    def some(self) -> list[tuple]:
        rng = self.rng
        if rng.random() < 0.02:
            return [rng.choice(ANYWHERE)]
        if rng.random() < 0.1:
            return [("MULTI",), *(self.command(rng) for _ in range(4)), ("EXEC",)]
        return [self.command(rng)]

    def work(self, steps: int) -> None:
        rng = self.rng
        for _ in range(steps):
            self.now += rng.choice([0, 0, 1, 5, 30])
            node, x = rng.choice(self.nodes), rng.random()
            node.replica.now = self.now
            if x < 0.75:
                for argv in self.some():
                    node(*argv)
            elif x < 0.87:
                node.receive(rng.choice(self.nodes).log)
            elif x < 0.97:
                for other in self.nodes:
                    node.replica.record_clock(other.replica.actor, other.replica.clock_ids())
                node.replica.collect(rng.choice([20, 5000]))
                node.log += node.replica.take_ops()
            else:
                node.replica.new_epoch(1 + max(e for _, _, e, _ in node.replica.actors()))


def replayed(node: Node, log: bytes, now: int) -> Node:
    node.replica.now, node.replica.recovering = now, True
    node.receive(log)
    node.replica.recovering = False
    node.replica.check()
    return node


def agree(a: Node, b: Node) -> None:
    assert a.replica.clock() == b.replica.clock()
    assert a.replica.digest() == b.replica.digest()
    assert [a.replica.keys(db)[0] for db in (0, 1)] == [b.replica.keys(db)[0] for db in (0, 1)]


@pytest.mark.parametrize("command", [lists, members, keys])
@pytest.mark.parametrize("block", range(2))
def test_the_walk_and_the_log_behind_it_are_the_state(command, block):
    for seed in range(block, 60, 2):
        c = Cluster(seed, command)
        rng, (node, *others) = c.rng, c.nodes
        c.work(rng.randint(5, 80))
        node.log += node.replica.take_ops()
        begin, walk, messages = len(node.log), StateWriter(node.replica), []
        most, pace, left = rng.choice([1, 300, 3000]), rng.choice([0.02, 0.1, 0.5, 1]), 60
        while record := walk.next(most):
            messages += probe_records(record)[0]
            if left and rng.random() < pace:
                left -= 1
                c.work(rng.randint(1, 3))
        c.work(rng.choice([0, 20]))
        back = replayed(taken(messages), node.log[begin:], c.now)
        whole = replayed(Node("z", 9, seed=2), node.log, c.now)
        agree(back, whole)
        agree(back, node)
        for other in others:                # had not observed all of it, and go on
            for argv in c.some() + c.some():
                other(*argv)
            back.receive(other.log)
            whole.receive(other.log)
            agree(back, whole)
        for n in (back, whole):
            for other in c.nodes:
                n.replica.record_clock(other.replica.actor, n.replica.clock_ids())
            while not n.replica.collect(5000):
                pass
            n.replica.check()
        agree(back, whole)
        agree(back, taken(stream(back.replica)))

"""FLUSHDB: a database is let go of whole where nothing of it may stay, and only there; its keys are
freed a little at a time."""
import random

import pytest

from crdtredis._core import Replica, probe_get, probe_make, probe_memory
from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.test_collections import exchange, pair, run


@pytest.mark.parametrize("first", range(10_000, 10_400, 50))
def test_random_clusters_with_many_flushes(first):
    for seed in range(first, first + 50):
        run(seed, flushes=.1)


def fill(r, rng, db=0):
    for i in range(300):
        key = b"%d" % rng.randrange(200)
        probe_make(r,
                   [rng.choice([("set", db, key, b"v" * rng.randrange(50)),
                                ("expire", db, key, 10**9 + i),
                                   ("member", db, b"h" + key, ("set", pb.HASH, b"%d" % i, b"v")),
                                   ("member", db, b"big", ("set", pb.SET, b"%d" % i, b"")),
                                   ("member", db, b"list", ("insert", pb.LIST, b"%d" % i, 0))])])


def test_all_memory_comes_back_and_other_databases_stay():
    rng = random.Random(1)
    r = Replica("A", 1, seed=1)
    probe_make(r, [("set", 0, b"x", b"1"), ("flush", 0, b"", None)])
    r.take_ops()
    r.collect_garbage()
    fill(r, rng, 3)
    r.take_ops()
    before, kept, deadlines = probe_memory(), r.keys(3), r.stats()["deadlines"]
    fill(r, rng)
    probe_make(r, [("flush", 0, b"", None)])
    r.check()
    assert r.keys(0) == (0, 0) and r.keys(3) == kept and r.stats()["deadlines"] == deadlines
    probe_make(r, [("set", 0, b"new", b"1"), ("expire", 0, b"new", 10**9)])
    r.check()
    probe_make(r, [("flush", 0, b"", None)])
    steps = 0
    while r.collect_garbage(10):
        steps += 1
        r.check()
    r.take_ops()
    assert steps > 10 and probe_memory() == before


def test_a_write_that_the_flush_had_not_seen_stays():
    a, b = pair()
    for i in range(100):
        probe_make(a, [("set", 0, b"%d" % i, b"v")])
    exchange(a, b)
    probe_make(a, [("flush", 0, b"", None)])
    probe_make(b, [("set", 0, b"7", b"w"), ("expire", 0, b"8", 10**9)])
    exchange(a, b)
    for r in a, b:
        assert r.keys() == (1, 2), "the key, and a deadline without content"
        r.check()


def test_a_deadline_alone_that_the_flush_had_not_seen_stays():
    a, b = pair()
    probe_make(a, [("set", 0, b"k", b"v")])
    exchange(a, b)
    probe_make(a, [("flush", 0, b"", None)])
    probe_make(b, [("expire", 0, b"k", 10**9)])
    exchange(a, b)
    assert a.keys() == b.keys() == (0, 1) and a.digest() == b.digest()


@pytest.mark.parametrize("of", ["own", "another's", "another's, cancelled before"])
def test_counters(of):
    """The flusher's own entries go at once, here and there; of another's a tombstone stays until
    that one has seen the flush."""
    a, b = pair()
    maker = a if of == "own" else b
    for i in range(100):
        probe_make(maker, [("add", 0, b"%d" % i, 1)])
    exchange(a, b)
    if of == "another's, cancelled before":
        probe_make(a, [("del", 0, b"%d" % i, None) for i in range(100)])
        exchange(a, b)
    probe_make(a, [("set", 0, b"x", b"1"), ("flush", 0, b"", None)])
    assert a.keys() == ((0, 0) if of == "own" else (0, 100))
    probe_make(b, [("add", 0, b"5", 3)])
    exchange(a, b)
    for r in a, b:
        r.check()
        assert r.keys()[0] == 1, "the increment that the flush had not seen counts"
        r.record_clock(a.actor, a.clock_ids())
        r.record_clock(b.actor, b.clock_ids())
        r.collect()
    assert probe_get(a, 0, b"5") == b"3"

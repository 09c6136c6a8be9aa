"""Micro-benchmarks of the parts that every request passes: RESP, op codec, table, merge, segment
records, and a whole command.

    python -m pytest bench/micro  # a table; --benchmark-compare for two commits
    python -m pytest bench/micro --benchmark-autosave

Each measures one call that does a thousand things, so that the border between Python and C weighs
little. Nothing asserts a time.
"""
import random

import pytest

from crdtredis._core import (Replica, TableProbe, batch_ranges, probe_make, probe_record,
                             probe_records, slice_batch)
from crdtredis._engine import Executor
from crdtredis._resp import RequestParser, encode_reply
from tests.respclient import encode

N = 1000
NOW = 1_700_000_000_000


def replica(name: str = "a") -> Replica:
    r = Replica(name, 1, seed=1)
    r.now = NOW
    return r


def batch(kind: str) -> bytes:
    """A thousand ops of one origin."""
    r = replica("origin")
    for i in range(N):
        key = b"key:%012d" % i
        if kind == "set":
            probe_make(r, [("set", 0, key, b"v" * 32)])
        elif kind == "incr":
            probe_make(r, [("add", 0, key, 1)])
        else:
            probe_make(r, [("set", 0, b"one", b"%032d" % i)])
    return r.take_ops()


@pytest.mark.parametrize("pieces", [1, 64])
def test_parse_requests(benchmark, pieces):
    data = encode("SET", "key:000000000001", "v" * 32) * N
    size = -(-len(data) // pieces)

    def run():
        p = RequestParser()
        return sum(len(p.feed(data[i:i + size])) for i in range(0, len(data), size))

    assert benchmark(run) == N


def test_encode_replies(benchmark):
    values = [b"v" * 32, 12345, None, [b"a", b"b"]] * (N // 4)
    assert len(benchmark(encode_reply, values, 3)) > N


@pytest.mark.parametrize("kind", ["set", "incr", "same key"])
def test_merge_batch(benchmark, kind):
    ops = batch(kind)
    benchmark.pedantic(lambda r: r.receive(ops), setup=lambda: ((replica("b"),), {}), rounds=200)


def test_drop_duplicates(benchmark):
    ops, r = batch("set"), replica("b")
    r.receive(ops)
    benchmark(r.receive, ops)


def test_merge_concurrent_writes(benchmark):
    """Each key already holds a write that the batch has not seen."""
    ops = batch("set")

    def fresh():
        r = replica("b")
        probe_make(r, [("set", 0, b"key:%012d" % i, b"w" * 32) for i in range(N)])
        return (r,), {}

    benchmark.pedantic(lambda r: r.receive(ops), setup=fresh, rounds=100)


def test_make_ops(benchmark):
    r = replica()
    effects = [("set", 0, b"key:%012d" % i, b"v" * 32) for i in range(N)]

    def run():
        for e in effects:
            probe_make(r, [e])
        return r.take_ops()

    assert benchmark(run)


def test_slice_batch(benchmark):
    ops = batch("set")
    actor = batch_ranges(ops)[0][0]
    assert benchmark(slice_batch, ops, {actor: N // 2})


def test_digest(benchmark):
    r = replica("b")
    r.receive(batch("set"))
    benchmark(r.digest)


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_table_find(benchmark, size):
    t = TableProbe()
    keys = [b"key:%012d" % i for i in range(size)]
    for k in keys:
        t.add(k)
    wanted = random.Random(1).sample(keys, N)
    benchmark(lambda: [t.find(k) for k in wanted])


def test_table_add_and_remove(benchmark):
    keys = [b"key:%012d" % i for i in range(N)]

    def run():
        t = TableProbe()
        for k in keys:
            t.add(k)
        for k in keys:
            t.remove(k)

    benchmark(run)


@pytest.mark.parametrize("size", [100, 100_000])
def test_segment_record(benchmark, size):
    payload = b"x" * size
    benchmark(probe_record, payload)


def test_read_segment_records(benchmark):
    data = probe_record(b"x" * 100) * N
    assert len(benchmark(probe_records, data)[0]) == N


@pytest.mark.parametrize("command", ["SET", "GET", "INCR", "PING"])
def test_execute(benchmark, command):
    """From argv to reply bytes, the op included."""
    r = replica()
    executor = Executor(r)
    session = executor.session(2)
    rest = {"SET": [b"v" * 32], "PING": None}.get(command, [])
    argvs = [[command.encode()] + ([] if rest is None else [b"key:%012d" % i, *rest])
             for i in range(N)]

    def run():
        for argv in argvs:
            executor.execute(session, argv)
        r.take_ops()

    benchmark(run)

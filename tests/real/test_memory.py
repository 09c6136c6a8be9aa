"""Memory comes back: three processes through which much has passed and in which nothing is left hold no more than before.

There are no tombstones, so what is removed must leave nothing behind, in any replica; counters leave stubs until everybody has heard of
their removal. used_memory counts every allocation of the keyspace, exactly.

    CRDT_MEMORY_ELEMENTS=300000 python -m pytest tests/real/test_memory.py
"""
import os
import time

import pytest

from tests.real.cluster import Cluster

ELEMENTS = int(os.environ.get("CRDT_MEMORY_ELEMENTS", "50000"))
BATCH = 500
# What may stay: scratch room, which is bounded (keyspace.pxd, DECODED_KEPT).
SLACK = 64 << 10


@pytest.fixture(scope="module")
def mesh():
    c = Cluster(3, gc_interval="200ms", appendfsync="no").start()
    yield c
    for s in c:
        s.dispose()


def info(s) -> dict:
    return dict(line.split(b":", 1) for section in ("memory", "crdt") for line in s("INFO", section).split(b"\r\n") if b":" in line)


def used(s) -> int:
    return int(info(s)[b"used_memory"])


def batches(n: int):
    return [range(i, min(i + BATCH, n)) for i in range(0, n, BATCH)]


def run(mesh, commands) -> None:
    """Commands in pipelines; command i goes to server i modulo 3."""
    commands = list(commands)
    connections = [s.connect() for s in mesh]
    for i, c in enumerate(connections):
        mine = commands[i::3]
        for at in range(0, len(mine), 100):
            for reply in c.pipeline(mine[at:at + 100]):
                assert not isinstance(reply, Exception), reply
        c.close()


def queue(mesh, n):
    """Pushed at one replica, popped at another, while it is pushed to."""
    a, b, c = mesh
    pushed = popped = 0
    with a.connect() as pusher, b.connect() as popper:
        while popped < n:
            if pushed < n:
                end = min(pushed + BATCH, n)
                pusher.pipeline([["RPUSH", "q", *range(i, min(i + 10, end))] for i in range(pushed, end, 10)])
                pushed = end
            for got in popper.pipeline([["LPOP", "q", 20]] * (BATCH // 20)):
                if got:
                    assert [int(e) for e in got] == list(range(popped, popped + len(got))), "the queue lost its order"
                    popped += len(got)


def collections(mesh, n):
    """Filled from everywhere, emptied in other ways: by name, by chance, by rank, by index, whole."""
    run(mesh, [["SADD", "s", *r] for r in batches(n)] + [["HSET", "h", *(x for i in r for x in (i, f"value{i}"))] for r in batches(n)] +
        [["ZADD", "z", *(x for i in r for x in (i % 1000, i))] for r in batches(n)] + [["RPUSH", "l", *r] for r in batches(n)] +
        [["LPUSH", "l", *r] for r in batches(n // 2)])
    mesh.sync()
    half = n // 2
    run(mesh, [["SREM", "s", *r] for r in batches(half)] + [["HDEL", "h", *r] for r in batches(half)] + [["ZREM", "z", *r] for r in batches(half)] +
        [["LPOP", "l", BATCH] for _ in batches(half // 3)] + [["LTRIM", "l", 0, half]])
    mesh.sync()
    a, b, c = mesh
    while a("SPOP", "s", BATCH):
        pass
    while b("ZPOPMIN", "z", BATCH):
        pass
    while c("RPOP", "l", BATCH):
        pass
    b("DEL", "h")


def counters(mesh, n):
    """Counters of three replicas each, removed by one that counted and by one that had not seen all of it."""
    keys = min(n // 20, 2000)
    commands = [c for i in range(keys) for c in (["HINCRBY", f"h{i % 50}", i, 1], ["INCR", f"c{i}"], ["ZINCRBY", f"z{i % 50}", 1, i])]
    for s in mesh:
        run([s] * 3, commands)
    mesh.sync()
    mesh.pause()
    run([mesh[0]] * 3, [["INCR", f"c{i}"] for i in range(keys)])
    run([mesh[1]] * 3, [["DEL", f"c{i}", f"h{i % 50}"] for i in range(keys)] + [["ZREM", f"z{i % 50}", i] for i in range(keys)])
    mesh.sync()
    run([mesh[2]] * 3, [["DEL", f"c{i}"] for i in range(keys)])


def settled(mesh, baseline) -> list:
    """[(used, stubs)] once both are back where they were, or as they are after a minute."""
    end = time.monotonic() + 60
    while True:
        found = [(used(s), int(info(s)[b"stubs"])) for s in mesh]
        if all(u <= b + SLACK and stubs == 0 for (u, stubs), b in zip(found, baseline)) or time.monotonic() > end:
            return found
        time.sleep(0.1)


@pytest.mark.parametrize("load", [queue, collections, counters])
def test_memory_returns_to_its_baseline(mesh, load):
    load(mesh, 200)                             # what is allocated once is there now
    mesh.sync()
    mesh[0]("FLUSHALL")
    mesh.sync()
    baseline = [used(s) for s in mesh]
    load(mesh, ELEMENTS)
    mesh.sync()
    mesh.assert_converged()
    assert [s("DBSIZE") for s in mesh] == [0, 0, 0]
    found = settled(mesh, baseline)
    assert all(u <= b + SLACK and stubs == 0 for (u, stubs), b in zip(found, baseline)), f"{baseline} before, {found} (used, stubs) after"

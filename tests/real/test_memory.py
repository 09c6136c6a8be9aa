"""Memory comes back: three processes through which much has passed and in which nothing is left
hold no more than before.

Removed keys leave no tombstones, so what is removed must leave nothing behind, in any replica;
counters leave tombstones until everybody has heard of their removal. used_memory counts every
allocation of the keyspace, exactly.

    CRDT_MEMORY_ELEMENTS=300000 python -m pytest tests/real/test_memory.py
"""
import os
import time

import pytest

from tests.real.cluster import Cluster, Server, until
from tests.respclient import encode

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
    return dict(line.split(b":", 1) for section in ("memory", "crdt")
                for line in s("INFO", section).split(b"\r\n") if b":" in line)


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
                pusher.pipeline([["RPUSH", "q", *range(i, min(i + 10, end))]
                                 for i in range(pushed, end, 10)])
                pushed = end
            for got in popper.pipeline([["LPOP", "q", 20]] * (BATCH // 20)):
                if got:
                    assert [int(e) for e in got] == list(range(popped, popped + len(got))), (
                        "the queue lost its order")
                    popped += len(got)


def collections(mesh, n):
    """Filled from everywhere, emptied in other ways: by name, by chance, by rank, by index,
    whole."""
    run(mesh,
        [["SADD", "s", *r] for r in batches(n)] +
        [["HSET", "h", *(x for i in r for x in (i, f"value{i}"))] for r in batches(n)] +
        [["ZADD", "z", *(x for i in r for x in (i % 1000, i))] for r in batches(n)] +
        [["RPUSH", "l", *r] for r in batches(n)] +
        [["LPUSH", "l", *r] for r in batches(n // 2)])
    mesh.sync()
    half = n // 2
    run(mesh,
        [["SREM", "s", *r] for r in batches(half)] + [["HDEL", "h", *r] for r in batches(half)] +
        [["ZREM", "z", *r] for r in batches(half)] +
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
    """Counters of three replicas each, removed by one that counted and by one that had not seen all
    of it."""
    keys = min(n // 20, 2000)
    commands = [c for i in range(keys) for c in (["HINCRBY", f"h{i % 50}", i, 1], ["INCR", f"c{i}"],
                                                 ["ZINCRBY", f"z{i % 50}", 1, i])]
    for s in mesh:
        run([s] * 3, commands)
    mesh.sync()
    mesh.pause()
    run([mesh[0]] * 3, [["INCR", f"c{i}"] for i in range(keys)])
    run([mesh[1]] * 3,
        [["DEL", f"c{i}", f"h{i % 50}"] for i in range(keys)] + [["ZREM", f"z{i % 50}", i]
                                                                 for i in range(keys)])
    mesh.sync()
    run([mesh[2]] * 3, [["DEL", f"c{i}"] for i in range(keys)])


def settled(mesh, baseline) -> list:
    """[(used, tombstones)] once both are back where they were, or as they are after a minute."""
    end = time.monotonic() + 60
    while True:
        found = [(used(s), int(info(s)[b"tombstones"])) for s in mesh]
        if (all(u <= b + SLACK and tombstones == 0 for (u, tombstones), b in zip(found, baseline))
            or time.monotonic() > end):
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
    assert all(u <= b + SLACK and tombstones == 0 for (u, tombstones), b in zip(found, baseline)), (
        f"{baseline} before, {found} (used, tombstones) after")


def fill(s, how: str) -> None:
    """Some 50 to 100 MB."""
    with s.connect() as c:
        if how == "one string":
            c("SET", "large", b"x" * 100_000_000)
        elif how == "strings":
            c.pipeline([["MSET",
                         *(w for j in range(i, i + 1000) for w in (f"key:{j}", "v" * (j % 90)))]
                         for i in range(0, 600_000, 1000)])
        else:
            c.pipeline([["HSET", "hash",
                         *(w for j in range(i, i + 1000) for w in (f"key:{j}", "v" * (j % 90)))]
                         for i in range(0, 600_000, 1000)])
        c("SET", "newest", "stays at the end of the heap")


@pytest.mark.parametrize("how, command", [("strings", ["FLUSHALL"]), ("hash", ["DEL", "hash"]),
                                          ("one string", ["DEL", "large"]),
                                          ("one string", ["SET", "large", "x"])])
def test_the_system_gets_the_memory_of_what_is_deleted_back(how, command):
    """Without being asked, and with what was allocated last still in use."""
    with_little = 16 << 20
    s = Server("a", appendfsync="no").start()
    # what replication and HTTP need is loaded after the first PONG
    until(lambda: " ready, " in s.log())
    empty = s.resident_bytes()
    fill(s, how)
    assert s.resident_bytes() > empty + 40_000_000
    s(*command)
    until(lambda: s.resident_bytes() < empty + with_little)
    if command != ["FLUSHALL"]:
        assert s("GET", "newest") == b"stays at the end of the heap"
    fill(s, how)                                # what was given back can be used again
    assert s("GET", "key:599999" if how == "strings" else "newest")


def occupy(s, how, clients):
    """With what clients are owed, listen to, have sent, and have read."""
    if how == "messages":
        for c in clients:
            c("SUBSCRIBE", "ch")
        with s.connect() as publisher:
            for _ in range(900):
                publisher.pipeline([("PUBLISH", "ch", "x" * 150)] * 100)
        return
    for k, c in enumerate(clients):
        if how == "channels":
            c.send("SUBSCRIBE", *(f"{k}:{i}:{'x' * 400}" for i in range(8000)))
            for _ in range(8000):
                c.read()
        elif how == "a moment":             # too short for whoever looks once a second
            c.send("MULTI")
            c.socket.sendall(encode(b"SET", b"k", b"x" * 20_000) * 200)
            if k == 29:
                for sent in clients:
                    for _ in range(201):
                        sent.read()
        elif how == "MULTI":
            c("MULTI")
            for _ in range(200):
                c.pipeline([("SET", "k", "x" * 20_000)])
        else:
            c("CLIENT", "TRACKING", "ON")
            for i in range(0, 40_000, 1000):
                c("MGET", *(f"{k}:{j}:{'x' * 30}" for j in range(i, i + 1000)))


@pytest.mark.parametrize("how", ["messages", "channels", "MULTI", "a moment", "tracking"])
def test_the_system_gets_the_memory_back_that_clients_took(how):
    s = Server("a", appendfsync="no", client_output_buffer_limit="pubsub 0 0 0").start()
    until(lambda: " ready, " in s.log())
    empty = s.resident_bytes()
    clients = [s.connect(resp=3) for _ in range(30)]
    occupy(s, how, clients)
    s("SET", "newest", "stays at the end of the heap")
    assert s.resident_bytes() > empty + 80_000_000
    for c in clients:
        c.close()
    until(lambda: s.resident_bytes() < empty + (40 << 20))
    assert s("PING") == b"PONG"


def test_the_system_gets_the_memory_back_that_came_and_went_between_two_looks():
    """Large messages for a peer: whoever looks once in a while sees none of them in use."""
    mesh = Cluster(2, appendfsync="no").start()
    mesh.sync()
    with mesh[1].connect() as ear, mesh[0].connect() as c:
        ear("SUBSCRIBE", "ch")
        until(lambda: c("PUBLISH", "ch", "x") == 0
              and b"pubsub_messages_sent:0" not in c("INFO", "stats"))
        empty = mesh[0].resident_bytes()
        for _ in range(20):
            c("PUBLISH", "ch", b"x" * (15 << 20))
        assert mesh[0].peak_bytes() > empty + (80 << 20)
        until(lambda: mesh[0].resident_bytes() < empty + (40 << 20))
    for s in mesh:
        s.dispose()


def test_the_system_gets_the_memory_back_of_what_was_in_the_way():
    """Holes too small to be given back: tried in vain, and when the rest goes, tried soon again."""
    s = Server("a", appendfsync="no").start()
    until(lambda: " ready, " in s.log())
    empty = s.resident_bytes()
    with s.connect() as c:
        for i in range(0, 700_000, 1000):
            c("MSET", *(w for j in range(i, i + 1000) for w in (f"key:{j}", "v" * 150)))
        for i in range(0, 700_000, 1000):
            c("DEL", *(f"key:{j}" for j in range(i, i + 1000) if j % 50))
    time.sleep(14)
    assert s.resident_bytes() > empty + (50 << 20)
    s("FLUSHALL")
    until(lambda: s.resident_bytes() < empty + (40 << 20), seconds=8)
    s.dispose()


def test_memory_purge_gives_back_what_is_too_little_to_be_noticed():
    s = Server("a", appendfsync="no").start()
    for i in range(0, 40_000, 400):
        s("MSET", *(w for j in range(i, i + 400) for w in (f"key:{j}", "v" * 150)))
    for i in range(0, 40_000, 400):
        s("DEL", *(f"key:{j}" for j in range(i, i + 400)))
    before = s.resident_bytes()
    assert s("MEMORY", "PURGE") == b"OK"
    until(lambda: s.resident_bytes() < before - (5 << 20))

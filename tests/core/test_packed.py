"""Small collections that nobody looks at are packed: the same cells in less memory."""
import os

import pytest

from crdtredis._core import BlocksProbe, KeyDigests, StateWriter, probe_pack
from crdtredis.commands.snapshot import write_snapshot
from tests.core.test_state import NOW, Node, same, stream, taken

NAMES = ["a", "bb", "", "x" * 200, "12"]
KINDS = {
    "set": [("SADD", "k", *NAMES)],
    "set of several ops": [("SADD", "k", n) for n in NAMES],
    "hash": [("HSET", "k", *(w for n in NAMES for w in (n, n * 2)))],
    "hash that kept no deadline": [("HSETEX", "k", "KEEPTTL", "FIELDS", 1, "f", "3"),
                                   ("HSET", "k", "g", "2")],
    "sorted set": [("ZADD", "k", 3, "c", 1, "a", 2, "b", 2, "ab")],
    "scores": [("ZADD", "k", "-0", "minus", "0", "zero", "inf", "inf", "-inf", "ninf", "0.1",
                "tenth", "1e15", "large", "-999999999999999", "whole", "1e300", "huge")],
    "list": [("RPUSH", "k", "a", "", "ccc", "x" * 300)],
    "list from the left": [("LPUSH", "k", "a", "", "ccc")],
    "list that was popped": [("RPUSH", "k", *"abcdef"), ("LPOP", "k", 2), ("RPOP", "k")],
    "list with gaps": [("RPUSH", "k", "a"), ("SET", "other", 1), ("RPUSH", "k", "b", "c"),
                       ("INCR", "n"), ("INCR", "n"), ("RPUSH", "k", "d"), ("LPOP", "k")],
    "list of one": [("RPUSH", "k", "a")],
    "with a deadline": [("SADD", "k", "a", "b"), ("PEXPIREAT", "k", NOW + 10_000)],
    "64 members": [("SADD", "k", *range(64))],
}
# whose tables are in another order then, which means nothing
REORDERED = ["sorted set", "scores", "64 members"]
READS = [("TYPE", "k"), ("EXISTS", "k"), ("PTTL", "k"), ("DUMP", "k"), ("SMEMBERS", "k"),
         ("HGETALL", "k"), ("ZRANGE", "k", 0, -1, "WITHSCORES"), ("ZRANK", "k", "b"),
         ("LRANGE", "k", 0, -1), ("SCAN", 0)]
NAMED = ["a", "bb", "", "x" * 200, "12", "f", "g", "tenth", "minus", "inf", "whole", "none", "63"]
# of packed ones they leave them so
LOOKS = [(what, "k", name) for what in ("SISMEMBER", "HGET", "HSTRLEN", "HEXISTS", "ZSCORE")
         for name in NAMED]
# not packed
LARGE = {
    "65 members": [("SADD", "k", *range(65))],
    "more bytes than are packed": [("HSET", "k", "f", "x" * 1100)],
    "a list of more bytes": [("RPUSH", "k", "x" * 600, "y" * 600)],
    "a counter": [("HINCRBY", "k", "f", 1)],
    "a field with a deadline": [("HSET", "k", "f", 1), ("HPEXPIREAT", "k", NOW + 9000, "FIELDS", 1,
                                                        "f")],
    "an element that was changed": [("RPUSH", "k", "a", "b"), ("LSET", "k", 0, "c")],
    "a list of two runs": [("RPUSH", "k", "a", "b"), ("LINSERT", "k", "BEFORE", "b", "x")],
    "a stream": [("XADD", "k", "1-1", "f", "v")],
}


def made(commands) -> Node:
    node = Node("a")
    for command in commands:
        node(*command)
    return node


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_packed_is_the_same_state(kind):
    node, plain = made(KINDS[kind]), made(KINDS[kind])
    messages, digest = stream(plain.replica), plain.replica.digest()
    for _ in range(2):
        assert probe_pack(node.replica) == 1
        assert node.replica.digest() == digest
        if kind not in REORDERED:
            assert stream(node.replica) == messages
        node.replica.check()
        assert probe_pack(node.replica, change=False) == 1
        for read in READS:
            probe_pack(node.replica)
            got, want = node(*read), plain(*read)
            if read[0] == "SMEMBERS" and isinstance(got, list):
                got, want = sorted(got), sorted(want)
            assert got == want or read[0] == "DUMP" and kind in REORDERED, read
        probe_pack(node.replica)
        for look in LOOKS:
            assert node(*look) == plain(*look), look
        assert probe_pack(node.replica, change=False) == 1
        same(node.replica, plain.replica)
        assert probe_pack(node.replica, change=False) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_to_what_is_packed(kind):
    writes = {"set": [("SADD", "k", "new"), ("SREM", "k", "a"), ("SPOP", "k", 99)],
              "hash": [("HSET", "k", "a", "new"), ("HINCRBY", "k", "12", 1),
                       ("HDEL", "k", "f", "bb")],
              "sorted": [("ZADD", "k", 9, "a"), ("ZINCRBY", "k", 1, "b"), ("ZREM", "k", "c")],
              "scores": [("ZADD", "k", 9, "tenth"), ("ZREM", "k", "inf")],
              "list": [("RPUSH", "k", "r"), ("LPUSH", "k", "l"), ("LSET", "k", 0, "new"),
                       ("LREM", "k", 0, "a"), ("LPOP", "k")],
              "with": [("PERSIST", "k"), ("SREM", "k", "a")], "64": [("SADD", "k", 64)]}
    common = [("EXPIRE", "k", 100), ("PERSIST", "k"), ("RENAME", "k", "l"), ("COPY", "l", "k"),
              ("DEL", "l"), ("SET", "k", "text"), ("FLUSHALL",)]
    node, plain = made(KINDS[kind]), made(KINDS[kind])
    for write in [*writes[kind.split()[0]], *common]:
        probe_pack(node.replica)
        got, want = node(*write), plain(*write)
        assert (sorted(got), write) == (sorted(want), write) if write[0] == "SPOP" else got == want
        node.replica.check()
        assert node.replica.digest() == plain.replica.digest(), write
    same(node.replica, plain.replica)


@pytest.mark.parametrize("kind", LARGE)
def test_what_is_not_plain_or_small_stays(kind):
    node = made(LARGE[kind])
    before = node.replica.digest()
    assert probe_pack(node.replica) == 0
    node.replica.check()
    assert node.replica.digest() == before


def test_concurrent_writes_under_a_packed_key_meet_it():
    a, b = Node("a"), Node("b")
    a.replica.declare("b", 1)
    b.replica.declare("a", 1)
    a("SADD", "k", "x", "y")
    a("RPUSH", "l", "x", "y")
    b.receive(a.log)
    b("SREM", "k", "x")
    b("LPOP", "l")
    a("SADD", "k", "x", "z")                        # a new dot, which b has not seen
    probe_pack(a.replica)
    a.receive(b.log)
    probe_pack(b.replica)
    b.receive(a.log)
    assert a.replica.digest() == b.replica.digest()
    assert sorted(a("SMEMBERS", "k")) == sorted(b("SMEMBERS", "k")) == [b"x", b"y", b"z"]
    assert a("LRANGE", "l", 0, -1) == b("LRANGE", "l", 0, -1) == [b"y"]


def test_it_takes_less_and_gives_all_of_it_back():
    node = Node("a")
    node("SADD", "warm", "up")
    node("FLUSHALL")
    node.replica.collect_garbage()
    node.replica.take_ops()
    node.replica.pack()
    base = BlocksProbe.used()
    for i in range(500):
        node("SADD", f"set:{i}", *range(5))
        node("HSET", f"hash:{i}", *(w for f in range(5) for w in (f"f{f}", "12345678")))
        node("ZADD", f"zset:{i}", *(w for f in range(5) for w in (f, f"member{f}")))
        node("RPUSH", f"list:{i}", *"abcde")
    full = BlocksProbe.used()
    assert probe_pack(node.replica) == 2000
    packed = BlocksProbe.used()
    assert packed[0] - base[0] < .5 * (full[0] - base[0])
    assert packed[1] - base[1] < 2 * 2000 + 10      # a key and what it holds
    assert node("MEMORY", "USAGE", "set:7") < 120
    for i in range(0, 500, 2):                      # some are unpacked, some die packed
        node("SMEMBERS", f"set:{i}")
        node("DEL", f"zset:{i}")
    node("FLUSHALL")
    while node.replica.collect_garbage(100):
        pass
    node.replica.take_ops()
    assert BlocksProbe.used()[1] <= base[1] + 1


def test_what_was_open_leaves_no_pages_behind():
    """Among the many that were open at once stood their keys."""
    node = Node("a")
    base, slabs = BlocksProbe.used()[0], BlocksProbe.slabs()
    for i in range(20_000):
        node("ZADD", f"zset:{i:06}", *(w for f in range(5) for w in (i + f, f"member{f}")))
    node.replica.take_ops()
    assert probe_pack(node.replica) == 20_000
    grown = BlocksProbe.used()[0] - base
    assert BlocksProbe.slabs() - slabs < 1.1 * grown + (1 << 20)


def test_a_state_that_is_taken_in_is_packed():
    node = Node("a")
    for i in range(200):
        node("SADD", f"set:{i}", 1, 2)
    z = taken(stream(node.replica))
    z.replica.now += 2000
    z.replica.pack()
    assert packed(z) == 200
    assert z.replica.digest() == node.replica.digest()


# ---- when ----------------------------------------------------------------------------------------

def packed(node: Node) -> int:
    return probe_pack(node.replica, change=False)


def test_what_is_in_use_is_not_packed():
    node = made([("SADD", "k", "a"), ("SADD", "l", "a")])
    node.replica.now = NOW + 499
    assert not node.replica.pack() and packed(node) == 0
    node.replica.now = NOW + 2000
    node("SISMEMBER", "k", "a")
    node.replica.pack()
    assert packed(node) == 1                        # l
    node.replica.now = NOW + 4000
    node.replica.pack()
    assert packed(node) == 2
    node("SADD", "l", "b")
    assert packed(node) == 1
    node.replica.now = NOW + 6000
    node.replica.pack()
    assert packed(node) == 2


def test_what_was_idle_before_it_was_opened_is_packed():
    node = made([("SADD", "k", "a")])
    node("RESTORE", "l", 0, node("DUMP", "k"), "IDLETIME", 1000)
    node.replica.now = NOW + 600
    node.replica.pack()
    assert packed(node) == 2


def test_only_so_many_wait():
    node = Node("a")
    for i in range((1 << 16) + 1000):
        node("SADD", f"set:{i}", 1)
    while node.replica.pack(100):
        pass
    assert packed(node) == 1000


def test_a_key_that_has_gone_or_moved_is_passed_over():
    node = made([("SADD", "k", "a"), ("HSET", "h", "f", 1), ("RPUSH", "l", 1), ("SADD", "m", 1)])
    node("DEL", "k")
    node("SET", "h", "text")
    node("EXPIRE", "m", 1000)
    node("FLUSHDB")
    node("SADD", "m", 1)
    node.replica.now = NOW + 2000
    node.replica.pack()
    node.replica.check()
    assert packed(node) == 1
    assert node("SMEMBERS", "m") == [b"1"]


def test_one_that_moves_is_not_forgotten():
    a, b = Node("a"), Node("b")
    a.replica.declare("b", 1)
    a("SADD", "k", "x")
    b("SET", "k", "text")
    a.receive(b.log)                                # a string beside the set
    a.replica.now = NOW + 2000
    a.replica.pack()
    assert packed(a) == 1 and a("TYPE", "k") == b"set"


def test_looking_at_all_keys_leaves_them_packed():
    node = made([c for kind in KINDS for c in KINDS[kind][:1]])
    for i in range(50):
        node("SADD", f"set:{i}", 1)
    node("SADD", "large", *range(64))
    before = probe_pack(node.replica)
    for look in [("SCAN", 0), ("KEYS", "*"), ("RANDOMKEY",), ("TYPE", "set:1"), ("TTL", "set:2"),
                 ("EXISTS", "set:3"), ("OBJECT", "FREQ", "set:3"), ("MEMORY", "USAGE", "set:4"),
                 ("EXPIRE", "set:5", 100), ("PERSIST", "set:5"), ("DBSIZE",), ("TOUCH", "set:6")]:
        node(*look)
    node.replica.digest()
    sums = KeyDigests(node.replica, b"\xff" * 512)
    while sums.step(1000):
        pass
    walk = StateWriter(node.replica)
    while walk.next(1 << 16):
        pass
    node.replica.collect()
    with open(os.devnull, "wb") as f:
        write_snapshot(node.replica, f.fileno())
    assert packed(node) == before == 51

"""Small collections that nobody looks at are packed: the same cells in less memory."""
import os
import random

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
READS = [("TYPE", "k"), ("EXISTS", "k"), ("PTTL", "k"), ("DUMP", "k"), ("SCAN", 0)]
NAMED = ["a", "bb", "", "x" * 200, "12", "f", "g", "tenth", "minus", "inf", "whole", "none", "63"]
# of packed ones they leave them so
LOOKS = [(what, "k", name) for what in ("SISMEMBER", "HGET", "HSTRLEN", "HEXISTS", "ZSCORE")
         for name in NAMED] + [
    *((what, "k") for what in ("HLEN", "SCARD", "ZCARD", "LLEN", "HGETALL", "HKEYS", "HVALS",
                               "SMEMBERS")),
    *((what, "k", *NAMED) for what in ("HMGET", "SMISMEMBER", "ZMSCORE")),
    *((what, "k", 0, "COUNT", 1) for what in ("HSCAN", "SSCAN", "ZSCAN")),
    ("HRANDFIELD", "k", 99, "WITHVALUES"), ("SRANDMEMBER", "k", 99), ("ZRANDMEMBER", "k", 99),
    ("HTTL", "k", "FIELDS", 1, "a"),
    ("SINTER", "k", "other set", "k"), ("SUNION", "k", "other set"), ("SDIFF", "k", "other set"),
    ("SDIFF", "other set", "k"), ("SINTERCARD", 2, "k", "other set"), ("SUNIONSTORE", "to", "k"),
    ("SINTERSTORE", "to", "k", "other set"),
    ("ZRANGE", "k", 0, -1, "WITHSCORES"), ("ZRANGE", "k", 0, 1, "REV"), ("ZRANK", "k", "b"),
    ("ZRANGE", "k", 1, 2, "BYSCORE"), ("ZRANGE", "k", "-", "+", "BYLEX"), ("ZCOUNT", "k", 0, 2),
    ("ZREVRANK", "k", "ab", "WITHSCORE"), ("ZRANGESTORE", "to", "k", 0, 1),
    ("ZUNION", 2, "k", "other set", "WITHSCORES"), ("ZDIFF", 2, "k", "other set"),
    ("LRANGE", "k", 0, -1), ("LRANGE", "k", 1, -2), ("LINDEX", "k", 0), ("LINDEX", "k", -1),
    ("LPOS", "k", "ccc"), ("LPOS", "k", "a", "RANK", -1), ("LLEN", "none"), ("HGETALL", "none"),
    ("SORT", "k", "ALPHA", "BY", "nosort")]
UNORDERED = ["HGETALL", "HKEYS", "HVALS", "SMEMBERS", "HSCAN", "SSCAN", "ZSCAN", "HRANDFIELD",
             "SRANDMEMBER", "ZRANDMEMBER", "SINTER", "SUNION", "SDIFF", "SORT"]
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
            assert node(*read) == plain(*read) or read[0] == "DUMP" and kind in REORDERED, read
        probe_pack(node.replica)
        same(node.replica, plain.replica)
        assert probe_pack(node.replica, change=False) == 0


def in_one_order(argv, reply):
    """A reply without what a client may not rely on."""
    if argv[0] not in UNORDERED or not isinstance(reply, list):
        return reply
    if argv[0].endswith("SCAN"):
        return [reply[0], in_one_order(("SMEMBERS" if argv[0] == "SSCAN" else "HGETALL",),
                                       reply[1])]
    if argv[0] == "HGETALL" or argv[-1] == "WITHVALUES":
        return dict(zip(reply[::2], reply[1::2], strict=True))
    return sorted(reply)


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_reads_leaves_it_packed(kind):
    node, plain = made(KINDS[kind]), made(KINDS[kind])
    for replica in node, plain:
        replica("SADD", "other set", "a", "x", "12", 1, 2, 70)
    opened = 0
    for look in LOOKS:
        probe_pack(node.replica)
        got, want = (in_one_order(look, replica(*look)) for replica in (node, plain))
        assert got == want, look
        opened += packed(node) < probe_pack(node.replica)
        if look[1] == "to":
            assert node("TYPE", "to") == plain("TYPE", "to")
            node("DEL", "to"), plain("DEL", "to")
    assert opened <= len(LOOKS) // 6                # each thirteenth look at a key unpacks it
    assert node.replica.digest() == plain.replica.digest()


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_to_what_is_packed(kind):
    writes = {"set": [("SADD", "k", "new"), ("SADD", "k", "a", "", "new2"), ("SREM", "k", "a"),
                      ("SREM", "k", "none"), ("SMOVE", "k", "to", "bb"), ("SPOP", "k", 99)],
              "hash": [("HSET", "k", "a", "new"), ("HSETNX", "k", "a", "x"),
                       ("HSETNX", "k", "nx", "x"), ("HSET", "k", "", "", "more", 3),
                       ("HSETEX", "k", "KEEPTTL", "FIELDS", 1, "a", "3"), ("HINCRBY", "k", "12", 1),
                       ("HDEL", "k", "f", "bb"), ("HSET", "k", "long", "x" * 900)],
              "sorted": [("ZADD", "k", 9, "a"), ("ZADD", "k", 2, "aa"), ("ZADD", "k", 2, "bb"),
                         ("ZADD", "k", "NX", 1, "a"), ("ZADD", "k", "GT", "CH", 10, "a", 1, "b"),
                         ("ZADD", "k", "INCR", 1, "new"),
                         ("ZADD", "k", -1, "first", 1, "a", 2, "a"),
                         ("ZINCRBY", "k", 1, "b"), ("ZREM", "k", "c", "none")],
              "scores": [("ZADD", "k", 9, "tenth"), ("ZADD", "k", "-inf", "n", 0, "zz"),
                         ("ZREM", "k", "inf")],
              "list": [("RPUSH", "k", "r"), ("RPUSH", "k", "s", "t"), ("LPUSH", "k", "l"),
                       ("LPUSH", "k", "m"), ("LPOP", "k"), ("RPOP", "k"), ("LPOP", "k", 2),
                       ("LINSERT", "k", "BEFORE", "r", "i"), ("LSET", "k", 0, "new"),
                       ("LREM", "k", 0, "a"), ("LPOP", "k"), ("RPUSH", "k", "x" * 2000)],
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


WRITES = {
    "set": lambda r: [*r.choices([("SADD", "k"), ("SREM", "k")], [3, 1])[0],
                      *r.choices(range(70), k=r.choice([1, 1, 3]))],
    "hash": lambda r: r.choices([
        ["HSET", "k", r.randrange(20), "x" * r.choice([0, 1, 30, 120])],
        ["HDEL", "k", *r.choices(range(20), k=2)], ["HSETNX", "k", r.randrange(20), "nx"],
        ["HINCRBY", "k", 99, 1], ["HDEL", "k", 99]], [6, 2, 2, 1, 1])[0],
    "sorted set": lambda r: r.choices([
        ["ZADD", "k", r.choice([0, 1, 1, -2, "0.5", "1e300", "-inf"]), r.randrange(70)],
        ["ZADD", "k", r.choice(["NX", "XX", "GT", "LT"]), r.randrange(3), r.randrange(70)],
        ["ZREM", "k", *r.choices(range(70), k=2)]], [6, 3, 2])[0],
    "list": lambda r: [*r.choices([("RPUSH", "k", "x" * r.randrange(40)),
                                   ("LPUSH", "k", *range(r.randrange(1, 4))), ("LPOP", "k"),
                                   ("RPOP", "k"), ("SET", "other", 1)], [4, 2, 2, 1, 2])[0]],
}


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("seed", range(4))
def test_any_writes_to_what_is_packed_and_to_what_is_not_come_to_the_same(kind, seed):
    """At whoever makes them, and at a replica that receives them and writes itself."""
    r = random.Random(seed)
    node, plain, far = Node("a"), Node("a"), Node("b")
    for replica in node, plain:
        replica.replica.declare("b", 1)
    far.replica.declare("a", 1)
    stayed, sent = 0, [0, 0]
    for i in range(400):
        write = WRITES[kind](r) if i % 40 else ("DEL", "k")     # what cannot be packed goes, too
        before = probe_pack(node.replica)
        assert node(*write) == plain(*write), write
        stayed += before and packed(node) == before
        assert node.replica.digest() == plain.replica.digest(), write
        if i % 20 == 0:
            node.replica.check()
            if r.random() < .3:
                far(*WRITES[kind](r))               # concurrent to what is on its way
            probe_pack(far.replica)
            far.receive(node.log[sent[0]:])
            probe_pack(node.replica)
            for replica in node, plain:
                replica.receive(far.log[sent[1]:])
            sent = [len(node.log), len(far.log)]
            far.replica.check()
            assert far.replica.digest() == node.replica.digest() == plain.replica.digest()
    assert stayed
    same(node.replica, plain.replica)


def test_a_scan_that_goes_on_in_what_has_been_packed_misses_nothing():
    for large in (True, False):
        node = Node("a")
        node("SADD", "k", *range(1000 if large else 60))
        cursor, seen = node("SSCAN", "k", 0, "COUNT", 3)
        node("SREM", "k", *range(60, 1000))
        for _ in range(100):                        # the table shrinks with each change
            node("SADD", "k", 0)
        node.replica.pack()
        probe_pack(node.replica)
        while cursor != b"0":
            cursor, more = node("SSCAN", "k", cursor, "COUNT", 3)
            seen += more
        assert {str(i).encode() for i in range(60)} <= set(seen)


def test_a_hot_one_is_soon_unpacked():
    for command in [("SMEMBERS", "k"), ("SADD", "k", "a")]:
        node = made([("SADD", "k", "a", "b")])
        probe_pack(node.replica)
        opened = []
        for _ in range(13):
            node(*command)
            opened.append(packed(node) == 0)
        assert opened == sorted(opened) and opened[-1] and not opened[0]


@pytest.mark.parametrize("n", [5, 9, 13, 40, 63])
def test_keys_and_values_come_in_one_order_though_one_of_the_two_unpacks(n):
    node = made([("HSET", "k", *(w for i in range(n) for w in (f"f{i}", f"v{i}")))])
    probe_pack(node.replica)
    node("HSET", "k", "new", "vnew")                # stands behind all others
    assert packed(node) == 1
    keys, looks = node("HKEYS", "k"), 0
    while packed(node) and (looks := looks + 1):
        assert node("HKEYS", "k") == keys
    assert looks > 1
    assert node("HKEYS", "k") == keys
    assert [b"f" + v[1:] if v != b"vnew" else b"new" for v in node("HVALS", "k")] == keys


@pytest.mark.parametrize("first, write", [
    (("SADD", "k", *range(64)), ("SADD", "k", 64)),
    (("HSET", "k", "f", "x" * 900), ("HSET", "k", "g", "x" * 200)),
    (("HSET", "k", "f", "x" * 900), ("HSET", "k", "f", "x" * 1100))])
def test_what_grows_too_large_is_unpacked(first, write):
    node = made([first])
    assert probe_pack(node.replica) == 1
    node(*write)
    assert packed(node) == 0
    node.replica.check()
    assert node.replica.digest() == made([first, write]).replica.digest()


def test_many_are_read_at_once():
    """More than there is room for side by side."""
    node = Node("a")
    for i in range(300):
        node("SADD", f"set:{i}", i, "x" * 100, *range(1000, 1050))
    probe_pack(node.replica)
    keys = [f"set:{i}" for i in range(300)]
    want = sorted(str(i).encode() for i in [*range(300), *range(1000, 1050)])
    for _ in range(2):
        assert sorted(node("SUNION", *keys)) == sorted([*want, b"x" * 100])
        assert len(node("SINTER", *keys, *keys)) == 51
        probe_pack(node.replica)
    node("SUNIONSTORE", "set:7", *keys)
    assert node("SCARD", "set:7") == 351
    node.replica.check()


def test_what_fits_in_one_order_only_is_left_as_it_is():
    """Side by side, one actor's members say less of their dots than in turn with another's, as a
    table may have them."""
    held = []
    for size in range(100, 260):
        a, b, node = Node("a"), Node("b"), Node("c", seed=3)
        for name in "ab":
            node.replica.declare(name, 1)
        a("HSET", "k", "a" * 60, "")
        first = len(a.log)
        for name in "bcdef":
            a("HSET", "k", name * 60, "")
        for name in "ghijk":
            b("HSET", "k", name * 60, "")
        b("HSET", "k", "l" * 60, "x" * size)
        node.receive(a.log[:first])
        assert probe_pack(node.replica) == 1
        node.receive(a.log[first:])
        node.receive(b.log)
        held.append(packed(node))
        digest = node.replica.digest()
        node.replica.check()
        stream(node.replica)
        assert packed(node) == held[-1] and node.replica.digest() == digest
    assert held == sorted(held, reverse=True) and held[0] and not held[-1]


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
    assert packed(node) == 2
    node("SPOP", "l")
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

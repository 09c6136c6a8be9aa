"""Eviction: which keys the policies choose, that replicas agree, that each keeps to its share."""
from __future__ import annotations

import pytest

from crdtredis._core import shared_batch
from tests.commands.run import NOW, Client, exchange

SLOT = 10                       # ms after which shares go round


def server(policy: str, name: str = "a", samples: int = 64, **options) -> Client:
    c = Client(name)
    c.replica.set_eviction(policy, samples, **options)
    return c


def keys(c: Client) -> set[bytes]:
    return set(c("KEYS", "*"))


def test_the_least_recently_used_goes_first():
    c = server("allkeys-lru")
    for i in range(20):
        c("SET", i, "x")
        c.now += 1000
    for i in range(5):                              # read, and
        c("GET", i)
    c("APPEND", 5, "x")                             # written
    c("SET", 6, "y")
    assert c.replica.evict(13) == 13
    assert keys(c) == {b"%d" % i for i in range(7)}


def test_the_least_frequently_used_goes_first():
    c = server("allkeys-lfu", log_factor=0)
    for i in range(20):
        c("SET", i, "x")
    for i in range(10):
        for _ in range(i + 1):
            c("GET", i)
    assert c("OBJECT", "FREQ", 9) == 15 and c("OBJECT", "FREQ", 15) == 5
    assert c.replica.evict(15) == 15
    assert keys(c) == {b"%d" % i for i in range(5, 10)}


def test_the_nearest_deadline_goes_first():
    c = server("volatile-ttl")
    for i in range(20):
        c("SET", i, "x", "EX", 1000 - i)
        c("SET", f"for-ever-{i}", "x")
    assert c.replica.evict(15) == 15
    assert keys(c) == {b"%d" % i for i in range(5)} | {b"for-ever-%d" % i for i in range(20)}


@pytest.mark.parametrize("policy", ["lru", "lfu", "random", "ttl"])
def test_volatile_policies_leave_keys_without_a_deadline(policy):
    c = server("volatile-" + policy)
    for i in range(50):
        c("SET", i, "x", "EX", 1000)
        c("RPUSH", f"for-ever-{i}", "x")
        c("EXPIRE", f"for-ever-{i}", 5000)
    assert c.replica.evict(1) == 1                  # others are candidates now,
    for i in range(50):
        c("PERSIST", f"for-ever-{i}")               # and no longer
        c("INCR", f"count-{i}")
    left = len(c("KEYS", "[0-9]*"))
    assert c.replica.evict(1000) == left
    assert all(k.startswith((b"for-ever", b"count")) for k in keys(c))
    assert c("DBSIZE") >= 99, "but for the one that was a candidate, and went, before"
    c.replica.check()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_keys_of_all_types_and_databases_go(policy):
    c = server(policy)
    for db in range(0, 16, 5):
        c("SELECT", db)
        c("SET", "s", "x")
        c("RPUSH", "l", 1, 2)
        c("HSET", "h", "f", 1)
        c("SADD", "t", 1)
        c("ZADD", "z", 1, "m")
        c("INCR", "n")
        c("EXPIRE", "s", 100)
    c.replica.system_set(b"members", {b"a": b"1"})
    assert c.replica.evict(1000) == 24
    assert [c.replica.keys(db)[0] for db in range(16)] == [0] * 16
    assert c.replica.system_hash(b"members") == {b"a": b"1"}, "nobody evicts that"
    assert c.replica.evict() == 0
    c.replica.check()


def test_replicas_agree_and_a_concurrent_write_survives():
    a, b = server("allkeys-random", "a"), Client("b")
    for i in range(20):
        a("SET", i, "x")
        a("HINCRBY", f"h{i}", "f", 1)
    exchange(a, b)
    b("SET", 3, "y")
    b("HINCRBY", "h3", "f", 5)
    b("PEXPIRE", 4, 1000)
    assert a.replica.evict(1000) == 40
    exchange(a, b)
    assert a.replica.digest() == b.replica.digest()
    assert keys(a) == keys(b) == {b"3", b"h3"}
    assert b("GET", 3) == b"y" and a("HGET", "h3", "f") == b"5"


def test_keys_that_stay_at_home_go_in_ops_that_stay_at_home():
    c = server("allkeys-random")
    c.replica.local_keys = [b"job:*"]
    for i in range(20):
        c("SET", f"job:{i}", "x")
    shared = c.replica.clock()
    assert c.replica.evict(1000) == 20
    assert c.replica.clock() == shared and keys(c) == set()


def test_a_shared_key_goes_without_the_one_at_home_that_hides_it():
    a, b = server("volatile-lru", "a"), Client("b")
    a.replica.local_keys = [b"k"]
    a("SET", "k", "mine")
    b("SET", "k", "shared", "EX", 100)
    a.replica.receive(b.replica.take_ops())
    assert a("GET", "k") == b"mine"
    assert a.replica.evict(10) == 1
    b.replica.receive(shared_batch(a.replica.take_ops()))
    assert a("GET", "k") == b"mine" and b("GET", "k") is None


def test_what_expires_leaves_the_one_at_home_that_hides_it():
    a, b = Client("a"), Client("b")
    a.replica.local_keys = [b"k"]
    a("SET", "k", "mine")
    b("SET", "k", "shared", "EX", 1)
    a.replica.receive(b.replica.take_ops())
    a.now += 60_000
    a.replica.tick()
    assert a("GET", "k") == b"mine"


# ---- shares --------------------------------------------------------------------------------------

def gone(c: Client, share: int, turn: int, shares: int = 2) -> set[bytes]:
    """What goes of 200 keys while it is this turn."""
    c.now = NOW + turn * SLOT
    c.replica.share_eviction(shares, share)
    before = keys(c)
    assert c.replica.evict(20) == 20
    return before - keys(c)


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random"])
def test_shares_are_apart_and_go_round(policy):
    found = {}
    for share in range(2):
        for turn in range(2):
            c = server(policy, "ab"[share], samples=5)
            for i in range(200):
                c("SET", i, "x")
            found[share, turn] = set().union(*(gone(c, share, turn + 2 * n) for n in range(3)))
    assert not found[0, 0] & found[1, 0] and not found[0, 1] & found[1, 1]
    assert not found[0, 0] & found[0, 1] and not found[1, 0] & found[1, 1]
    assert found[0, 0] & found[1, 1], "each has its turn with all keys"


def test_where_a_share_is_empty_any_key_goes():
    c = server("allkeys-lru")
    c.replica.share_eviction(50, 7)
    for i in range(10):
        c("SET", i, "x")
    assert c.replica.evict(10) == 10


# ---- what a key was used for ---------------------------------------------------------------------

def test_frequency_grows_ever_more_slowly_and_decays():
    c = server("allkeys-lfu")
    c("SET", "k", "x")
    for _ in range(1000):
        c("GET", "k")
    count = c("OBJECT", "FREQ", "k")
    assert 10 < count < 40
    c.now += 3 * 60_000
    assert c("OBJECT", "FREQ", "k") == count - 3
    c.replica.set_eviction("allkeys-lfu", decay=0)
    assert c("OBJECT", "FREQ", "k") == count
    c.replica.set_eviction("allkeys-lfu")
    c.now += 60_000 * 300
    assert c("OBJECT", "FREQ", "k") == 0


def test_the_effects_of_a_command_on_a_key_count_once():
    c = server("allkeys-lfu", log_factor=0)
    c("HSET", "h", *range(20))
    assert c("OBJECT", "FREQ", "h") == 5
    c("HSET", "h", *range(20))
    assert c("OBJECT", "FREQ", "h") == 6
    c("SET", "s", "x")
    c("SET", "s", "y")
    assert c("OBJECT", "FREQ", "s") == 6, "also of a value that was replaced"

"""Room at max_memory: when keys are evicted, and what is told of it."""
from __future__ import annotations

import gc

import pytest

from crdtredis._core import probe_pack
from tests.commands.run import NOW, Client

OOM = "OOM command not allowed when used memory > 'maxmemory'."
ROOM = 200_000                      # bytes beside what an empty server takes


def cache(policy: str = "allkeys-lru", room: int = ROOM, **options) -> Client:
    """tenacity: unless given without a bound of time, which a busy machine would reach. What other
    tests have left counts in what is used, and goes at any moment."""
    gc.collect()
    c = Client()
    c.executor.set_eviction(policy, **{"tenacity": 100} | options)
    c.executor.max_memory = used(c) + room
    return c


def used(c: Client) -> int:
    return c.replica.stats()["memory"]


def fill(c: Client, n: int = 3000) -> None:
    for i in range(n):
        assert c("SET", f"k{i}", "x" * 100) == b"OK"


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_writes_find_room(policy):
    c = cache(policy)
    fill(c)
    stats = c.executor.eviction_stats()
    assert used(c) <= c.executor.max_memory + 1000
    assert c("DBSIZE") + stats["evicted"] == 3000 and c("DBSIZE") > 500
    assert c("GET", "k2999") and used(c) > c.executor.max_memory - 1000
    c.replica.check()


def test_nothing_is_evicted_below_the_limit_or_without_a_policy():
    c = cache("noeviction")
    for i in range(3000):
        c.raw("SET", f"k{i}", "x" * 100)
    assert c.error("SET", "k", "x") == OOM and c.executor.eviction_stats()["evicted"] == 0
    c.executor.max_memory = 2 * used(c)
    c.executor.set_eviction("allkeys-lru")
    c("SET", "k", "x")
    assert c.executor.eviction_stats()["evicted"] == 0


def test_when_nothing_may_go_writes_are_refused():
    c = cache("volatile-lru")
    for i in range(100):
        c("SET", i, "x", "EX", 1000)
    texts = [c.raw("SET", f"k{i}", "x" * 100) for i in range(3000)]
    assert texts[-1].decode() == f"-{OOM}\r\n" and not c("KEYS", "?")
    assert c.error("EVAL", "return redis.call('SET', 'k', 1)", 0).startswith("OOM")
    assert c("GET", "k0") == b"x" * 100 and c("DEL", "k0", "k1") == 2
    assert c("SET", "k0", "x") == b"OK", "there is room again"


def test_scripts_and_transactions_have_room_made_before_they_begin():
    c = cache()
    fill(c)
    size = c("DBSIZE")
    c("EVAL", "for i = 1, 300 do redis.call('SET', 's' .. i, ('x'):rep(100)) end", 0)
    assert c("DBSIZE") == size + 300 - 1 or c("DBSIZE") == size + 300
    c("SET", "k", "x")
    assert used(c) <= c.executor.max_memory + 1000
    size = c("DBSIZE")
    c("MULTI")
    for i in range(100):
        c("SET", f"m{i}", "x" * 100)
    assert c("EXEC") == [b"OK"] * 100
    assert c("DBSIZE") >= size + 98, "none of its own went"


def test_large_values_are_freed_before_the_next_key_goes():
    c = cache(room=20_000_000, tenacity=100)
    for i in range(4):
        c("SADD", f"s{i}", *range(50_000))
    c.executor.max_memory = used(c) - 1_000_000
    c("SET", "k", "x")
    assert c("DBSIZE") == 4 and used(c) <= c.executor.max_memory + 1000


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_what_was_opened_is_packed_before_any_key_goes(policy):
    c = cache(policy, room=20_000_000)
    for i in range(1500):
        c("SADD", i, *range(60))
    probe_pack(c.replica)
    c.executor.max_memory = used(c) + 3_000_000     # what a thousand take that are open
    c("SUNION", *range(1500))
    assert used(c) > c.executor.max_memory
    assert c("SET", "k", "x") == b"OK" and used(c) <= c.executor.max_memory
    assert c("DBSIZE") == 1501 and c.executor.eviction_stats()["evicted"] == 0
    c.replica.check()


def test_one_go_is_bounded_in_time():
    c = cache(room=10_000_000, tenacity=0)
    fill(c, 20_000)
    c.executor.max_memory = used(c) // 2
    c("SET", "k", "x")                              # lets the next iterations go on
    assert 0 < c.executor.eviction_stats()["evicted"] < 100
    c.executor.set_eviction("allkeys-lru", tenacity=100)
    c("SET", "k", "x")
    assert used(c) <= c.executor.max_memory + 1000


def test_counters_leave_tombstones_and_do_not_drag_all_keys_along():
    other = Client("b")
    for i in range(300):
        other("INCR", f"n{i}")
    c = cache(room=600_000)
    c.replica.receive(other.replica.take_ops())
    fill(c, 6000)
    assert 100 < c.replica.stats()["tombstones"] <= 300 and c("DBSIZE") > 2000
    assert used(c) <= c.executor.max_memory * 17 // 16 + 1000
    for i in range(6000):
        assert c("INCR", f"m{i}") == 1
    assert c.replica.stats()["tombstones"] <= 300, "own counters leave none"
    assert c("DBSIZE") > 2000
    c.replica.check()


def test_above_what_may_be_owed_a_few_keys_go_for_each_command():
    """Others do not know of the tombstones yet, so no key that goes makes room."""
    other = Client("b")
    for i in range(4000):
        other("INCR", f"n{i}")
    c = cache(room=0)
    c.replica.receive(other.replica.take_ops())
    c.executor.max_memory = used(c) // 2
    c("SET", "k", "x")                              # as many as may be owed
    before, evicted = c("DBSIZE"), c.executor.eviction_stats()["evicted"]
    assert before > 1000 and evicted > 100
    for i in range(20):
        c("SET", f"k{i}", "x")
        now = c.executor.eviction_stats()["evicted"]
        assert now - evicted <= 4
        evicted = now
    assert c("DBSIZE") >= before - 80
    c.replica.check()


def test_evicted_is_fired_and_invalidates_before_the_reply():
    c = cache()
    c.executor.notify = "Ee"
    listener, tracker = c.other(), c.other(3)
    listener("SUBSCRIBE", "__keyevent@0__:evicted")
    tracker("CLIENT", "TRACKING", "ON")
    tracker("SET", "k", "x")
    tracker("GET", "k")
    c.now += 5000
    fill(c)
    assert b"__keyevent@0__:evicted" in listener.session.take_replies()
    pushed = tracker.session.take_replies()
    assert b"invalidate" in pushed and b"$1\r\nk\r\n" in pushed


def test_a_lone_replica_pays_for_all_and_one_of_several_from_its_share():
    c = cache()
    c.replica.share_eviction(4, 1)
    fill(c)
    assert used(c) <= c.executor.max_memory + 1000 and c("DBSIZE") > 500


def test_latency_events_and_their_names():
    c = cache(room=4_000_000, tenacity=100)
    c.executor.set_latency_threshold(1)
    fill(c, 20_000)
    c.executor.max_memory = 100
    c.raw("SET", "k", "x")
    assert "eviction-cycle" in c.executor.latency_events()
    assert c("DBSIZE") == 0


def test_idle_time_and_frequency_are_told_under_their_policies():
    c = cache("allkeys-lfu")
    c("SET", "k", "x")
    assert c("OBJECT", "FREQ", "k") == 5 and c("OBJECT", "FREQ", "none") is None
    assert c.error("OBJECT", "IDLETIME", "k") == (
        "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when "
        "switching between policies at runtime LRU and LFU data will take some time to adjust.")
    dump = c("DUMP", "k")
    c("RESTORE", "r", 0, dump, "FREQ", 77)
    assert c("OBJECT", "FREQ", "r") == 77
    c("RESTORE", "i", 0, dump, "IDLETIME", 77)
    assert c("OBJECT", "FREQ", "i") == 5
    c.executor.set_eviction("allkeys-lru")
    c("SET", "k", "x")
    c.now = NOW + 3000
    assert c("OBJECT", "IDLETIME", "k") == 3
    assert c.error("OBJECT", "FREQ", "k").startswith("ERR An LFU maxmemory policy is not selected")


def test_reset_statistics():
    c = cache()
    fill(c)
    assert c.executor.eviction_stats()["evicted"]
    c.executor.reset_stats()
    assert not c.executor.eviction_stats()["evicted"]

"""Generic key commands through an Executor, with time passed in. What redis-server answers to the
same calls is tested in tests/compat."""
import random
import time

import pytest

from crdtredis.commands.keys import matches
from tests.commands.run import NOW, Client, exchange

EXPIRES = [("EXPIRE", 1000, False), ("PEXPIRE", 1, False), ("EXPIREAT", 1000, True),
           ("PEXPIREAT", 1, True)]


@pytest.fixture
def c():
    return Client()


# ---- existence -----------------------------------------------------------------------------------

def test_del_counts_each_key_once(c):
    c("MSET", "a", 1, "b", 2)
    assert c("DEL", "a", "a", "b", "nope") == 2
    assert c("EXISTS", "a", "b") == 0


def test_exists_counts_repetitions(c):
    c("SET", "a", 1)
    assert c("EXISTS", "a", "a", "b") == 2


def test_unlink_is_del(c):
    c("SET", "a", 1)
    assert c("UNLINK", "a", "b") == 1


def test_type(c):
    c("SET", "a", 1)
    assert (c("TYPE", "a"), c("TYPE", "b")) == (b"string", b"none")


def test_a_command_that_changes_nothing_makes_no_op(c):
    c("SET", "a", 1)
    for argv in [("DEL", "x"), ("EXPIRE", "x", 5), ("PERSIST", "a"), ("EXPIRE", "a", 5, "XX"),
                 ("RENAME", "a", "a"), ("COPY", "x", "y"),
                 ("SWAPDB", 1, 1), ("SWAPDB", 4, 5), ("FLUSHDB", "nonsense"), ("TTL", "a"),
                 ("TOUCH", "a"), ("MOVE", "x", 1)]:
        assert c.effects(*argv) == 0, argv


@pytest.mark.parametrize("make, read", [
    (("HSET", "a", "f", 1, "g", 2), ("HGETALL", "a")), (("SADD", "a", 1), ("SMEMBERS", "a")),
    (("ZADD", "a", 1, "m", 2, "n"), ("ZRANGE", "a", 0, -1, "WITHSCORES")),
    (("RPUSH", "a", 1, 2), ("LRANGE", "a", 0, -1)), (("SET", "a", 1), ("GET", "a"))])
def test_a_deadline_that_goes_leaves_what_was_there_before(c, make, read):
    c(*make)
    held, size = c(*read), c("MEMORY", "USAGE", "a")
    for _ in range(2):
        c("EXPIRE", "a", 100)
        assert c(*read) == held and c("TTL", "a") == 100 and c("MEMORY", "USAGE", "a") > size
        c.replica.check()
        c("PERSIST", "a")
        c.replica.check()
        assert c(*read) == held and c("TTL", "a") == -1
    c("DEL", "a")
    c.replica.check()
    assert c("EXISTS", "a") == 0


def test_what_a_key_holds_outlives_its_deadline():
    a, b = Client("a"), Client("b")
    a("HSET", "k", "f", 1)
    exchange(a, b)
    b("HSET", "k", "g", 2)
    a("EXPIRE", "k", 100)
    a("DEL", "k")
    exchange(a, b)
    for c in a, b:
        assert c("HGETALL", "k") == [b"g", b"2"] and c("TTL", "k") == -1
        c.replica.check()
    assert a.replica.digest() == b.replica.digest()


def test_a_deadline_that_came_with_the_value_is_held_with_it():
    """And takes a place of its own while the key holds something else."""
    a, b = Client("a"), Client("b")
    a("SET", "k", "v", "EX", 100)
    b("HSET", "k", "f", 1)
    alone, size = a.replica.inspect(0, b"k"), a("MEMORY", "USAGE", "k")
    assert alone["deadlines"][0]["seq"] == alone["writes"][0]["seq"] == 1
    a.replica.receive(b.replica.take_ops())
    assert a("TTL", "k") == 100 and a("TYPE", "k") == b"hash"
    assert a.replica.inspect(0, b"k")["deadlines"] == alone["deadlines"]
    a.replica.check()
    b("DEL", "k")
    exchange(a, b)
    for c in a, b:
        assert c("GET", "k") == b"v" and c("TTL", "k") == 100
        assert c("MEMORY", "USAGE", "k") == size and c.replica.inspect(0, b"k") == alone
        c.replica.check()
    a("EXPIRE", "k", 100)
    held = a.replica.inspect(0, b"k")
    assert held["deadlines"][0]["seq"] == 2 and held["writes"] == alone["writes"]
    a("SET", "k", "w", "EX", 50)
    assert a("MEMORY", "USAGE", "k") == size and a("TTL", "k") == 50
    a("DEL", "k")
    a.replica.check()
    exchange(a, b)
    assert a.replica.digest() == b.replica.digest() and b("EXISTS", "k") == 0


@pytest.mark.parametrize("argv", [("SET", "k", "w"), ("DEL", "k"), ("SET", "k", "w", "EX", 5)])
def test_a_deadline_that_came_with_the_value_outlives_who_has_not_seen_it(argv):
    a, b = Client("a"), Client("b")
    a("SET", "k", "old")
    exchange(a, b)
    b(*argv)
    a.now += 1000
    a("SET", "k", "v", "EX", 100)
    exchange(a, b)
    for c in a, b:
        assert c("GET", "k") == b"v" and c("PTTL", "k") == 100_000 + a.now - c.now
        c.replica.check()
    assert a.replica.digest() == b.replica.digest()


@pytest.mark.parametrize("argv", [("DEL", "a", "b"), ("RENAME", "a", "b"), ("RENAMENX", "a", "n"),
                                  ("COPY", "a", "n"), ("MOVE", "a", 1), ("SWAPDB", 0, 1),
                                  ("FLUSHALL",), ("EXPIRE", "a", 5), ("PEXPIREAT", "a", 1)])
def test_one_command_is_one_op(c, argv):
    c("SET", "a", 1, "EX", 100)
    c("SET", "b", 1, "EX", 100)
    assert c.effects(*argv) == 1


def test_hits_and_misses(c):
    c("SET", "a", 1)
    for argv in [("EXISTS", "a", "b"), ("TTL", "a"), ("TYPE", "b"), ("TOUCH", "a"),
                 ("OBJECT", "ENCODING", "b")]:
        c(*argv)
    assert ({k: v for k, v in c.executor.stats().items() if k in ("hits", "misses")}
            == {"hits": 3, "misses": 3})


# ---- deadlines -----------------------------------------------------------------------------------

@pytest.mark.parametrize("name,unit,absolute", EXPIRES)
def test_expire_and_what_reads_it(c, name, unit, absolute):
    c("SET", "a", 1)
    assert c(name, "a", ((NOW if absolute else 0) + 60_000) // unit) == 1
    assert c("TTL", "a") == 60
    assert c("PTTL", "a") == 60_000
    assert c("EXPIRETIME", "a") == (NOW + 60_000) // 1000
    assert c("PEXPIRETIME", "a") == NOW + 60_000


def test_a_key_goes_at_its_deadline_and_not_before(c):
    c("SET", "a", 1, "PX", 1000)
    c.now += 1000
    assert (c("EXISTS", "a"), c("PTTL", "a"), c("TTL", "a")) == (1, 0, 0)
    c.now += 1
    for argv, gone in [(("EXISTS", "a"), 0), (("TTL", "a"), -2), (("PTTL", "a"), -2),
                       (("EXPIRETIME", "a"), -2), (("PEXPIRETIME", "a"), -2),
                       (("TYPE", "a"), b"none"), (("KEYS", "*"), []), (("SCAN", 0), [b"0", []]),
                       (("RANDOMKEY",), None), (("PERSIST", "a"), 0),
                       (("EXPIRE", "a", 10), 0), (("DEL", "a"), 0), (("TOUCH", "a"), 0),
                       (("OBJECT", "ENCODING", "a"), None), (("COPY", "a", "b"), 0),
                       (("MOVE", "a", 1), 0), (("MEMORY", "USAGE", "a"), None)]:
        assert c(*argv) == gone, argv
    assert c.error("RENAME", "a", "b") == "ERR no such key"
    assert c("SET", "b", 1) == b"OK" and c("RENAMENX", "b", "a") == 1, (
        "an expired key is in nobody's way")
    assert c("TTL", "a") == -1, "nothing of the expired key comes back"


def test_ttl_rounds_to_the_nearest_second(c):
    c("SET", "a", 1, "PX", 1499)
    assert c("TTL", "a") == 1
    c("PEXPIRE", "a", 1500)
    assert c("TTL", "a") == 2
    c("PEXPIREAT", "a", NOW + 10_499)
    assert c("EXPIRETIME", "a") == NOW // 1000 + 10


@pytest.mark.parametrize("when", [0, -1, -9223372036854775])
@pytest.mark.parametrize("name,unit,absolute", EXPIRES)
def test_a_time_in_the_past_deletes(c, name, unit, absolute, when):
    c("SET", "a", 1)
    assert c(name, "a", when) == 1
    assert c("EXISTS", "a") == 0
    assert c("DBSIZE") == 0


def test_this_very_moment_is_past(c):
    c("SET", "a", 1)
    assert c("PEXPIREAT", "a", NOW) == 1
    assert c("DBSIZE") == 0


@pytest.mark.parametrize("current,when,nx,xx,gt,lt", [(None, 10, 1, 0, 0, 1), (20, 10, 0, 1, 0, 1),
                                                      (20, 20, 0, 1, 0, 0), (20, 30, 0, 1, 1, 0)])
def test_conditions(c, current, when, nx, xx, gt, lt):
    for option, expected in [("NX", nx), ("xx", xx), ("GT", gt), ("Lt", lt)]:
        c("SET", "a", 1, *(["EX", current] if current else []))
        assert c("EXPIRE", "a", when, option) == expected, option
        assert c("TTL", "a") == (when if expected else current or -1)
    c("SET", "a", 1, *(["EX", current] if current else []))
    assert c("EXPIRE", "a", when, "XX", "GT") == (xx and gt)


def test_an_unmet_condition_keeps_a_key_from_a_deadline_in_the_past(c):
    c("SET", "a", 1, "EX", 10)
    assert c("EXPIRE", "a", -1, "GT") == 0
    assert c("TTL", "a") == 10


def test_the_last_deadline_of_all(c):
    c("SET", "k", "v")
    c("PEXPIREAT", "k", 2**63 - 1)
    c.replica.tick()
    assert c("GET", "k") == b"v" and c("PEXPIRETIME", "k") == 2**63 - 1


def test_expire_errors(c):
    c("SET", "a", 1)
    assert c.error("EXPIRE", "a", "x", "foo") == "ERR Unsupported option foo"
    assert c.error("EXPIRE", "a", 1, "y" * 200) == "ERR Unsupported option " + "y" * 200
    assert (c.error("EXPIRE", "a", "x", "NX", "GT")
            == "ERR NX and XX, GT or LT options at the same time are not compatible")
    assert (c.error("EXPIRE", "a", "x", "GT", "LT")
            == "ERR GT and LT options at the same time are not compatible")
    assert c.error("EXPIRE", "a", "x") == "ERR value is not an integer or out of range"
    for name, _, absolute in EXPIRES:
        for when in ([9223372036854775807] if name == "PEXPIRE"
                     else [9223372036854775807, -9223372036854775808] if name.startswith("EXPIRE")
                     else []):
            assert (c.error(name, "nope", when)
                    == f"ERR invalid expire time in '{name.lower()}' command")
    assert c("PEXPIREAT", "a", 9223372036854775807) == 1
    assert c("TTL", "a") == (9223372036854775807 - NOW + 500) // 1000


def test_persist(c):
    c("SET", "a", 1, "EX", 10)
    assert (c("PERSIST", "a"), c("PERSIST", "a"), c("TTL", "a"), c("PERSIST", "b")) == (1, 0, -1, 0)


# ---- concurrency ---------------------------------------------------------------------------------

def test_the_later_expire_wins_and_a_rename_leaves_a_concurrent_write(c):
    d = Client("b")
    c("MSET", "k", 1, "src", "seen")
    exchange(c, d)
    c("EXPIRE", "k", 10)
    d.now += 5
    d("EXPIRE", "k", 50)
    c("RENAME", "src", "dst")
    d("SET", "src", "unseen")
    c.now = d.now
    exchange(c, d)
    for x in (c, d):
        assert x("TTL", "k") == 50
        assert x("MGET", "src", "dst") == [b"unseen", b"seen"]
    assert c("CRDT.DIGEST") == d("CRDT.DIGEST")


def test_a_delete_takes_back_what_it_saw_of_a_counter(c):
    d = Client("b")
    c("INCRBY", "n", 10)
    exchange(c, d)
    c("UNLINK", "n")
    d("INCRBY", "n", 5)
    exchange(c, d)
    assert (c("GET", "n"), d("GET", "n"), c("DBSIZE")) == (b"5", b"5", 1)


def test_swapdb_exchanges_what_was_seen(c):
    d = Client("b")
    c("MSET", "only0", 0, "both", 0)
    c("SELECT", 1)
    c("SET", "both", 1, "EX", 100)
    exchange(c, d)
    c("SWAPDB", 0, 1)
    d("SET", "late", 1)
    exchange(c, d)
    for x in (c.other(), d.other()):
        assert sorted(x("KEYS", "*")) == [b"both", b"late"]
        assert (x("GET", "both"), x("TTL", "both")) == (b"1", 100)
        x("SELECT", 1)
        assert sorted(x("KEYS", "*")) == [b"both", b"only0"]
        assert (x("GET", "both"), x("TTL", "both")) == (b"0", -1)


def test_flushall_leaves_a_concurrent_write(c):
    d = Client("b")
    c("MSET", "a", 1, "b", 1)
    exchange(c, d)
    c("FLUSHALL", "ASYNC")
    d("SET", "a", 2)
    exchange(c, d)
    assert c("KEYS", "*") == d("KEYS", "*") == [b"a"]


# ---- moving and copying --------------------------------------------------------------------------

def test_keys_with_a_deadline_are_counted_as_they_come_and_go(c):
    def counted(db=0):
        c.replica.check()                           # which counts them one by one
        return c.replica.deadlines(db)[0]

    for i in range(10):
        c("SET", f"k{i}", i, "PX", 1000 * (i + 1))
    assert c.replica.deadlines(0) == (10, 5500)
    c("PERSIST", "k0")
    c("SET", "k1", "without")
    c("SET", "k2", "with", "KEEPTTL")
    c("DEL", "k3")
    c("INCR", "k4")
    c("EXPIRE", "k5", 7)
    assert counted() == 7
    c("SADD", "s", "a")
    c("EXPIRE", "s", 100)
    c("SREM", "s", "a")
    assert counted() == 7
    c("RENAME", "k6", "k7")
    c("MOVE", "k8", 1)
    assert (counted(), counted(1)) == (5, 1)
    c("SWAPDB", 0, 1)
    assert (counted(), counted(1)) == (1, 5)
    c.now += 60_000
    c.replica.tick()
    assert (counted(), counted(1)) == (0, 0)
    c("SET", "k", "v", "EX", 10)
    c("FLUSHALL")
    assert counted() == 0


def test_the_mean_time_to_live_is_that_of_a_sample(c):
    for i in range(20_000):
        c("SET", f"k{i}", i, "PX", 100_000 + i)
    n, mean = c.replica.deadlines(0)
    assert n == 20_000 and 108_000 < mean < 112_000


def test_rename_carries_the_deadline_and_drops_the_target(c):
    c("SET", "a", 1, "EX", 100)
    c("SET", "b", 2, "EX", 5)
    assert c("RENAME", "a", "b") == b"OK"
    assert (c("GET", "b"), c("TTL", "b"), c("EXISTS", "a")) == (b"1", 100, 0)
    c("SET", "p", "x")
    c("RENAME", "p", "b")
    assert (c("GET", "b"), c("TTL", "b")) == (b"x", -1)


def test_rename_of_a_counter_and_of_a_large_value(c):
    c("INCRBY", "n", 5)
    c("RENAME", "n", "m")
    assert (c("GET", "m"), c("INCR", "m"), c("EXISTS", "n")) == (b"5", 6, 0)
    c("INCRBYFLOAT", "f", "0.5")
    c("COPY", "f", "g")
    assert c("GET", "g") == b"0.5"
    c("SET", "big", "v" * 1_000_000)
    c("RENAME", "big", "bigger")
    assert c("STRLEN", "bigger") == 1_000_000


def test_rename_to_itself(c):
    c("SET", "a", 1)
    assert (c("RENAME", "a", "a"), c("RENAMENX", "a", "a")) == (b"OK", 0)
    assert c.error("RENAME", "x", "x") == "ERR no such key"
    assert c.error("RENAMENX", "x", "x") == "ERR no such key"


def test_renamenx(c):
    c("MSET", "a", 1, "b", 2)
    assert ((c("RENAMENX", "a", "b"), c("RENAMENX", "a", "c"), c("MGET", "a", "b", "c"))
            == (0, 1, [None, b"2", b"1"]))


def test_copy(c):
    c("SET", "a", 1, "EX", 100)
    assert (c("COPY", "a", "b"), c("COPY", "a", "b"), c("COPY", "x", "b")) == (1, 0, 0)
    assert (c("GET", "b"), c("TTL", "b")) == (b"1", 100)
    c("SET", "b", 2)
    assert c("COPY", "a", "b", "REPLACE") == 1
    assert (c("GET", "b"), c("TTL", "b")) == (b"1", 100)
    assert c("COPY", "a", "a", "DB", 2) == 1
    assert (c.error("COPY", "a", "a") == c.error("COPY", "a", "a", "DB", 0)
            == "ERR source and destination objects are the same")
    assert c.error("COPY", "a", "b", "DB") == c.error("COPY", "a", "b", "x") == "ERR syntax error"
    assert c.error("COPY", "a", "b", "DB", 16) == "ERR DB index is out of range"
    c("SELECT", 2)
    assert c("TTL", "a") == 100


def test_move(c):
    c("SET", "a", 1, "EX", 100)
    assert c("MOVE", "a", 1) == 1
    assert c("EXISTS", "a") == 0
    c("SET", "a", 2)
    assert c("MOVE", "a", 1) == 0
    assert c.error("MOVE", "a", 0) == "ERR source and destination objects are the same"
    assert c.error("MOVE", "a", "x") == "ERR value is not an integer or out of range"
    assert (c.error("MOVE", "a", 99999999999)
            == "ERR value is out of range, value must between -2147483648 and 2147483647")
    assert c.error("MOVE", "a", -1) == "ERR DB index is out of range"
    c("SELECT", 1)
    assert (c("GET", "a"), c("TTL", "a")) == (b"1", 100)


def test_swapdb_of_many_keys(c):
    for i in range(1000):
        c("SET", f"k{i}", "v" * (i % 50))
    c("SET", "gone", 1, "PX", 1)
    c.now += 2
    assert c("SWAPDB", 0, 5) == b"OK"
    assert c("DBSIZE") == 0
    c("SELECT", 5)
    assert c("DBSIZE") == 1000 and all(c("STRLEN", f"k{i}") == i % 50 for i in range(1000))
    c.replica.check()


def test_swapdb_errors(c):
    assert c.error("SWAPDB", "a", 0) == "ERR invalid first DB index"
    assert c.error("SWAPDB", 0, 99999999999) == "ERR invalid second DB index"
    assert c.error("SWAPDB", 0, 16) == c.error("SWAPDB", -1, 0) == "ERR DB index is out of range"


def test_flush(c):
    c("SET", "a", 1)
    c("SELECT", 1)
    c("SET", "b", 1)
    assert c("FLUSHDB", "sync") == b"OK"
    assert c("DBSIZE") == 0
    c("SELECT", 0)
    assert c("DBSIZE") == 1
    assert c("FLUSHALL", "ASYNC") == b"OK"
    assert c("DBSIZE") == 0
    assert c.error("FLUSHALL", "x") == c.error("FLUSHDB", "SYNC", "ASYNC") == "ERR syntax error"
    c.replica.check()


def test_everything_in_one_transaction_is_one_op(c):
    d = c.other()
    c("MULTI")
    for argv in [("SET", "a", 1), ("RENAME", "a", "b"), ("EXPIRE", "b", 100), ("COPY", "b", "c"),
                 ("DEL", "b"), ("SWAPDB", 0, 1)]:
        assert c(*argv) == b"QUEUED"
    before = sum(c.replica.clock().values())
    assert c("EXEC") == [b"OK", b"OK", 1, 1, 1, b"OK"]
    assert sum(c.replica.clock().values()) == before + 1
    d("SELECT", 1)
    assert (d("GET", "c"), d("TTL", "c"), d("DBSIZE")) == (b"1", 100, 1)


# ---- walking -------------------------------------------------------------------------------------

def test_keys_and_patterns(c):
    c("MSET", "one", 1, "two", 1, "three", 1, "", 1)
    assert sorted(c("KEYS", "*")) == [b"", b"one", b"three", b"two"]
    assert sorted(c("KEYS", "t*")) == [b"three", b"two"]
    assert sorted(c("KEYS", "?[nw]?")) == [b"one", b"two"]


def scan_all(c, *args):
    cursor, found = b"0", []
    while True:
        cursor, keys = c("SCAN", cursor, *args)
        found += keys
        if cursor == b"0":
            return found


def test_scan_options(c):
    c("MSET", *[x for i in range(300) for x in (f"k{i}", i)])
    assert sorted(scan_all(c)) == sorted(b"k%d" % i for i in range(300))
    assert sorted(scan_all(c, "MATCH", "k1?", "COUNT", 1)) == [b"k1%d" % i for i in range(10)]
    assert scan_all(c, "TYPE", "list") == scan_all(c, "TYPE", "nonsense") == []
    assert len(scan_all(c, "type", "STRING", "count", 1000000)) == 300
    assert len(c("SCAN", 0, "COUNT", 9223372036854775807)[1]) == 300
    cursor, keys = c("SCAN", 0)
    assert 10 <= len(keys) < 40


@pytest.mark.parametrize("cursor,ok", [("0", 1), ("", 1), ("00", 1), ("+0", 1), ("-0", 1),
                                       ("18446744073709551615", 1), ("0\0x", 1), ("-1", 1),
                                       ("x", 0),
                                       (" 0", 0), ("0 ", 0), ("18446744073709551616", 0),
                                       ("99999999999999999999999", 0), ("+", 0), ("1x", 0),
                                       ("0.", 0)])
def test_scan_cursors(c, cursor, ok):
    c("SET", "a", 1)
    if ok:
        assert len(c("SCAN", cursor)) == 2
    else:
        assert c.error("SCAN", cursor) == "ERR invalid cursor"


def test_scan_errors(c):
    for args, text in [(["COUNT", 0], "syntax error"), (["COUNT", -1], "syntax error"),
                       (["COUNT", "x"], "value is not an integer or out of range"),
                       (["COUNT"], "syntax error"), (["FOO", 1], "syntax error"),
                       (["MATCH"], "syntax error"), (["TYPE"], "syntax error")]:
        assert c.error("SCAN", 0, *args) == "ERR " + text


@pytest.mark.parametrize("seed", range(8))
def test_scan_returns_whatever_stays(seed):
    """The guarantee: a key that is there from the first call to the last comes at least once,
    whatever happens between the calls."""
    rng = random.Random(seed)
    c = Client()
    stay = {b"stay%d" % i for i in range(rng.choice([5, 300, 2000]))}
    others = [b"other%d" % i for i in range(rng.choice([50, 3000]))]
    for k in stay:
        c("SET", k, 1)
    if seed % 2:
        for k in others:
            c("SET", k, 1)
    gone = {b"gone%d" % i for i in range(50)}
    for k in gone:
        c("SET", k, 1, "PX", 10)
    c.now += 11
    found, cursor, calls = set(), b"0", 0
    while True:
        cursor, keys = c("SCAN", cursor, "COUNT", rng.choice([1, 10, 50]))
        found.update(keys)
        calls += 1
        if cursor == b"0":
            break
        for k in rng.sample(others, min(len(others), 200)):
            c(*(("SET", k, 1) if (calls // 8 + seed) % 2 else ("DEL", k)))
        if calls % 16 == 0:
            c.replica.tick()
        assert calls < 100_000
    assert stay <= found
    assert not gone & found
    c.replica.check()


def test_randomkey_reaches_every_key(c):
    c("MSET", *[x for i in range(8) for x in (f"k{i}", i)])
    assert len({c("RANDOMKEY") for _ in range(400)}) == 8
    assert Client()("RANDOMKEY") is None


def test_dbsize(c):
    c("MSET", "a", 1, "b", 1)
    c("DEL", "a")
    assert c("DBSIZE") == 1


# ---- OBJECT --------------------------------------------------------------------------------------

@pytest.mark.parametrize("value,encoding,references",
                         [("0", b"int", 2147483647), ("9999", b"int", 2147483647),
                                                       ("10000", b"int", 1), ("-1", b"int", 1),
                                                       ("9223372036854775807", b"int", 1),
                                                       ("9223372036854775808", b"embstr", 1),
                                                       ("01", b"embstr", 1),
                                                       ("", b"embstr", 1), ("x" * 44, b"embstr", 1),
                                                       ("x" * 45, b"raw", 1),
                                                       ("1.5", b"embstr", 1)])
def test_object_encoding_and_refcount(c, value, encoding, references):
    c("SET", "a", value)
    assert (c("OBJECT", "ENCODING", "a"), c("object", "refcount", "a")) == (encoding, references)


@pytest.mark.parametrize("limits,before,after", [
    ({"hash_max_listpack_entries": 1}, "listpack", "hashtable"),
    ({"hash_max_listpack_value": 0}, "listpack", "hashtable"),
    ({"set_max_intset_entries": 1}, "intset", "listpack"),
    ({"set_max_intset_entries": 1, "set_max_listpack_entries": 1}, "intset", "hashtable"),
    ({"set_max_intset_entries": 0, "set_max_listpack_value": 0}, "intset", "hashtable"),
    ({"zset_max_listpack_entries": 1}, "listpack", "skiplist"),
    ({"zset_max_listpack_value": 0}, "listpack", "skiplist"),
    ({"list_max_listpack_size": 1}, "listpack", "quicklist"),
    ({"list_max_listpack_size": 0}, "listpack", "quicklist"),
    ({"list_max_listpack_size": -5}, "listpack", "listpack")])
def test_object_encoding_goes_by_limits(c, limits, before, after):
    make = {"h": ("HSET", "k", "1", "a", "2", "b"), "s": ("SADD", "k", "1", "2"),
            "z": ("ZADD", "k", "1", "1", "2", "2"), "l": ("RPUSH", "k", "a", "b")}
    c(*make[next(iter(limits))[0]])
    assert c("OBJECT", "ENCODING", "k") == before.encode()
    c.executor.set_encoding_limits(**limits)
    assert c("OBJECT", "ENCODING", "k") == after.encode()


@pytest.mark.parametrize("limit,fits", [(-1, 4094), (-2, 8190), (-5, 65534), (1, 8190)])
def test_a_small_list_by_bytes(c, limit, fits):
    c.executor.set_encoding_limits(list_max_listpack_size=limit)
    c("RPUSH", "l", "x" * fits)
    assert c("OBJECT", "ENCODING", "l") == b"listpack"
    c("LSET", "l", 0, "x" * (fits + 1))
    assert c("OBJECT", "ENCODING", "l") == b"quicklist"


def test_object_of_a_counter(c):
    c("INCRBY", "n", 12345)
    assert c("OBJECT", "ENCODING", "n") == b"int"


def test_object_idletime_and_touch(c):
    c("SET", "a", 1)
    c.now += 100_000
    assert c("OBJECT", "IDLETIME", "a") == 100
    assert c("TTL", "a") == -1 and c("EXISTS", "a") == 1 and c("TYPE", "a") == b"string"
    assert c("OBJECT", "IDLETIME", "a") == 100, "looking at it is no use of it"
    assert c("TOUCH", "a", "b") == 1
    assert c("OBJECT", "IDLETIME", "a") == 0


def test_object_local(c):
    c("SET", "job:1", 1)
    c.replica.local_keys = [b"job:*"]
    c("SET", "job:2", 1)
    c("SET", "a", 1)
    assert [c("OBJECT", "LOCAL", k) for k in ("job:1", "job:2", "a", "job:3")] == [0, 1, 0, None]
    c("SELECT", 1)
    assert c("OBJECT", "LOCAL", "job:2") is None
    assert b"LOCAL key" in c("OBJECT", "HELP")


def test_object_errors(c):
    c("SET", "a", 1)
    assert c.error("OBJECT", "FREQ",
                   "a").startswith("ERR An LFU maxmemory policy is not selected, access frequency "
                                   "not tracked.")
    assert c("OBJECT", "FREQ", "b") is None
    assert (c.error("OBJECT", "ENCODING")
            == "ERR wrong number of arguments for 'object|encoding' command")
    assert c.error("OBJECT", "x", "a") == "ERR unknown subcommand 'x'. Try OBJECT HELP."
    assert c.error("OBJECT") == "ERR wrong number of arguments for 'object' command"
    assert b"ENCODING key" in c("OBJECT", "HELP")


def test_memory_usage(c):
    c("SET", "a", "x")
    c("SET", "b", "x" * 10_000)
    assert (0 < c("MEMORY", "USAGE", "a") < 200 < 10_000 <= c("MEMORY", "USAGE", "b", "SAMPLES",
                                                              0) < 12_500)
    assert c("MEMORY", "USAGE", "c") is None
    for args in [("SAMPLES",), ("SAMPLES", -1), ("FOO", 1)]:
        assert c.error("MEMORY", "USAGE", "a", *args) == "ERR syntax error"


# ---- patterns ------------------------------------------------------------------------------------

@pytest.mark.parametrize("pattern,text,expected", [
    ("*", "", 1), ("**", "", 0), ("", "", 1), ("", "a", 0), ("a", "a", 1), ("a", "A", 0),
    ("h?llo", "hello", 1), ("h?llo", "hllo", 0),
    ("h*llo", "hllo", 1), ("h*llo", "heeeello", 1), ("h[ae]llo", "hallo", 1),
    ("h[ae]llo", "hillo", 0), ("h[^e]llo", "hallo", 1), ("h[^e]llo", "hello", 0),
    ("h[a-b]llo", "hbllo", 1), ("h[b-a]llo", "hbllo", 1), ("[]a", "a", 0), ("[^]a", "xa", 1),
    ("[", "[", 0), ("[a", "a", 1), ("[a", "ab", 0), ("[a-", "-", 1), ("[^", "x", 1),
    (r"\*", "*", 1), (r"\*", "x", 0), (r"[\]]", "]", 1), (r"[\-a]", "-", 1), ("a\\", "a\\", 1),
    (r"\a", "a", 1), ("a*b*c", "aXbXbc", 1), ("a*b*c", "aXbXcX", 0),
    ("*a", "aaa", 1), ("a*", "a", 1), ("a**", "a", 1), ("*?", "", 0), ("*?", "x", 1),
    ("[a-]x", "]x", 0), ("a[*]b", "a*b", 1), ("a[?]b", "axb", 0)])
def test_patterns(pattern, text, expected):
    assert matches(pattern.encode(), text.encode()) == expected


def test_patterns_without_case():
    assert matches(b"MAX*[A-C]", b"maxmemory-b", True) and not matches(b"MAX*", b"maxmemory")


def test_ranges_compare_signed_bytes():
    assert (matches(b"[\x80-\xff]", b"\x90") and matches(b"[\xff-a]", b"\x05")
            and not matches(b"[b-\xff]", b"c"))


def test_patterns_match_as_the_definition_says():
    """Against a direct recursive definition, on all short patterns over a nasty alphabet."""
    def unit(p, ch):
        """(does the first element of p match ch, rest of p)"""
        if p[0] == "?":
            return True, p[1:]
        if p[0] == "[":
            i, hit = 1, False
            invert = p[1:2] == "^"
            i += invert
            while i < len(p) and p[i] != "]":
                if p[i] == "\\" and i + 1 < len(p):
                    i += 1
                    hit |= p[i] == ch
                elif i + 2 < len(p) and p[i + 1] == "-":
                    hit |= min(p[i], p[i + 2]) <= ch <= max(p[i], p[i + 2])
                    i += 2
                else:
                    hit |= p[i] == ch
                i += 1
            return hit != invert, p[i + 1:]
        if p[0] == "\\" and len(p) > 1:
            p = p[1:]
        return p[0] == ch, p[1:]

    def match(p, s):
        if not p:
            return not s
        if not s:
            return not p.strip("*")
        if p[0] == "*":
            return match(p[1:], s) or match(p, s[1:])
        ok, rest = unit(p, s[0])
        return ok and match(rest, s[1:])

    rng = random.Random(7)
    for _ in range(30_000):
        p = "".join(rng.choice("ab*?[]^-\\") for _ in range(rng.randint(0, 8)))
        s = "".join(rng.choice("ab]-^\\") for _ in range(rng.randint(1, 6)))
        assert matches(p.encode(), s.encode()) == match(p, s), (p, s)


@pytest.mark.parametrize("limit, element, least",
                         [(0, 1, 2), (1, 1, 2), (3, 1, 4), (-1, 100, 41), (-5, 1000, 66),
                          (-6, 1000, 66), (-2**31, 1000, 66)])
def test_where_a_list_is_called_a_quicklist(c, limit, element, least):
    """The bytes of -5 hold for everything below it, and 0 is 1."""
    c.executor.set_encoding_limits(list_max_listpack_size=limit)
    for n in range(1, least + 1):
        c("RPUSH", "l", "x" * element)
        assert c("OBJECT", "ENCODING", "l") == (b"quicklist" if n == least else b"listpack"), n


def test_no_pattern_takes_long():
    # of this process alone, whatever else the machine does
    begun = time.process_time()
    assert not matches(b"a*" * 200 + b"b", b"a" * 20_000)
    assert not matches(b"*[a-z]" * 300 + b"!", b"x" * 5_000)
    assert time.process_time() - begun < 2


def test_no_command_compares_for_long(c):
    """What a pattern would find after that it does not find. Others find theirs."""
    dear = b"*" + b"a" * 30_000 + b"b*"
    for i in range(30):
        c("SET", b"a" * 400_000 + b"%d" % i, "v")
    c("SADD", "s", *(b"a" * 400_000 + b"%d" % i for i in range(30)))
    begun = time.process_time()
    assert c("KEYS", dear) == c("SCAN", 0, "COUNT", 100, "MATCH", dear)[1] == []
    assert c("SSCAN", "s", 0, "MATCH", dear)[1] == []
    assert time.process_time() - begun < 10
    assert len(c("KEYS", "*a*a*7")) == 3 and len(c("KEYS", "*[0-9]")) == 30
    assert not matches(dear, b"a" * 400_000 + b"b")


@pytest.mark.parametrize("dear", [b"[" + b"a" * 500_000 + b"]", b"*" * 500_000 + b"x",
                                  b"*" + b"a" * 500_000, b"?" + b"*" * 500_000 + b"x"])
def test_a_key_costs_little_once_all_steps_are_taken(c, dear):
    for i in range(10_000):
        c("SET", i, "v")
    begun = time.process_time()
    assert c("KEYS", dear) == []
    assert time.process_time() - begun < 1
    assert len(c("KEYS", "99*")) == 111


@pytest.mark.parametrize("name", [0, 1, 4095, 4096])
def test_lengths_stand_in_a_word_or_have_their_own(c, name):
    """Of keys of any length, whose values grow and shrink beyond what the word holds."""
    name = b"n" * name
    for n in (0, 1, 524_287, 524_288, 524_287, 3, 1 << 20, 524_286, 0):
        c("SET", name, b"v" * n)
        assert c("STRLEN", name) == n and c("GET", name) == b"v" * n
        c("EXPIRE", name, 100)
        assert c("APPEND", name, "w") == n + 1 and c("TTL", name) == 100
        c("RENAME", name, b"other")
        assert c("GET", "other") == b"v" * n + b"w"
        c("RENAME", b"other", name)
        assert c("MEMORY", "USAGE", name) > len(name) + n
        c.replica.check()
    c("DEL", name)
    c("INCR", name)
    c("RPUSH", name + b"l", *range(9))
    c.replica.check()
    assert c("KEYS", name + b"*") in ([name, name + b"l"], [name + b"l", name])
    assert c("FLUSHALL") == b"OK" and c("DBSIZE") == 0
    c.replica.check()


# ---- hidden types --------------------------------------------------------------------------------

@pytest.mark.parametrize("hidden", [("SET", "k", "v"), ("INCR", "k"), ("SADD", "k", "m"),
                                    ("ZADD", "k", 1, "m"), ("ZINCRBY", "k", 1, "m")])
def test_a_write_removes_the_types_under_its_key_that_are_hidden(hidden):
    a, b = Client("a"), Client("b")
    a(*hidden), b("HSET", "k", "f", 1)
    exchange(a, b)
    assert a("TYPE", "k") == b("TYPE", "k") == b"hash"
    a("HSET", "k", "g", 2)
    exchange(a, b)
    b("HDEL", "k", "f", "g")
    exchange(a, b)
    assert a("EXISTS", "k") == b("EXISTS", "k") == 0

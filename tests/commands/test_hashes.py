"""Hash commands through an Executor. What redis-server answers to the same calls is tested in
tests/compat."""
import random
import re

import pytest

from tests.commands.local import (NOT_FLOAT, NOT_INTEGER, NOW, NULL, OK, SYNTAX, WRONG_TYPE, Local,
                                  array, bulk, error, num, sync)
from tests.respclient import decode


@pytest.fixture
def r():
    return Local()


def everything(r: Local, key="h") -> dict:
    flat = decode(r("HGETALL", key))
    return dict(zip(flat[::2], flat[1::2]))


# ---- writing and reading -------------------------------------------------------------------------

def test_hset_counts_new_fields(r):
    assert r("HSET", "h", "a", 1, "b", 2) == num(2)
    assert r("HSET", "h", "a", 3, "c", 4, "c", 5) == num(1)
    assert everything(r) == {b"a": b"3", b"b": b"2", b"c": b"5"}
    assert r("HMSET", "h", "d", "") == OK
    assert r("HGET", "h", "d") == bulk("")
    assert r("HSET", "h", "", "empty name") == num(1)
    assert r("HGET", "h", "") == bulk("empty name")


def test_hgetdel(r):
    r("HSET", "h", "a", 1, "b", "two", "c", 3)
    r("EXPIRE", "h", 100)
    assert r("HGETDEL", "h", "FIELDS", 3, "a", "x", "a") == array(bulk(1), NULL, NULL)
    assert everything(r) == {b"b": b"two", b"c": b"3"} and r.deadline("h") == NOW + 100_000
    r.ops()
    assert r("HGETDEL", "h", "FIELDS", 1, "x") == r("HGETDEL", "x", "FIELDS", 1, "a") == array(NULL)
    assert r.ops() == 0
    assert r("HINCRBY", "h", "c", 4) == num(7)
    assert r("HGETDEL", "h", "fields", 2, "b", "c") == array(bulk("two"), bulk(7)) and r.ops() == 2
    assert r("EXISTS", "h") == num(0) and r("HSET", "h", "a", 1) == num(1) and r.deadline("h") == -1
    assert Local(resp=3)("HGETDEL", "h", "FIELDS", 1, "a") == b"*1\r\n_\r\n"


def test_hgetdel_refusals(r):
    r("HSET", "h", "a", 1)
    r("SET", "s", 1)
    missing = error("ERR Mandatory argument FIELDS is missing or not at the right position")
    assert r("HGETDEL", "h", "FOO", 1, "a") == missing == r("HGETDEL", "x", "FOO", "y", "a")
    for n in (0, -1, "x", "", 2**64):
        assert r("HGETDEL", "h", "FIELDS", n, "a") == error(
            "ERR Number of fields must be a positive integer"), n
    for fields in ([2, "a"], [1, "a", "b"], [2**62, "a"]):
        assert r("HGETDEL", "h", "FIELDS", *fields) == error(
            "ERR The `numfields` parameter must match the number of arguments"), fields
    assert r("HGETDEL", "s", "FOO", "x", "a") == WRONG_TYPE
    assert everything(r) == {b"a": b"1"}


def test_a_field_that_is_written_survives_the_concurrent_hgetdel(r):
    other = Local("b")
    r("HSET", "h", "a", 1, "b", 2)
    sync(r, other)
    assert r("HGETDEL", "h", "FIELDS", 2, "a", "b") == array(bulk(1), bulk(2))
    assert other("HSET", "h", "a", 5) == num(0)
    sync(r, other)
    assert everything(r) == everything(other) == {b"a": b"5"}


def test_hscan_without_values(r):
    r("HSET", "h", "a", 1, "b", 2)
    assert sorted(decode(r("HSCAN", "h", 0, "novalues"))[1]) == [b"a", b"b"]
    assert decode(r("HSCAN", "h", 0, "NOVALUES", "MATCH", "b", "NOVALUES")) == [b"0", [b"b"]]
    assert r("HSCAN", "h", 0, "NOVALUES", "COUNT") == SYNTAX
    r("HSET", "l", *range(2000))
    found, cursor = [], b"0"
    while True:
        cursor, some = decode(r("HSCAN", "l", cursor, "COUNT", 100, "NOVALUES"))
        found += some
        if cursor == b"0":
            break
    assert sorted(map(int, set(found))) == list(range(0, 2000, 2))
    r("SADD", "s", "a")
    r("ZADD", "z", 1, "a")
    for scan in (["SCAN", 0], ["SSCAN", "s", 0], ["ZSCAN", "z", 0]):
        assert r(*scan, "NOVALUES") == error("ERR NOVALUES option can only be used in HSCAN")


@pytest.mark.parametrize("name", ["HSET", "HMSET"])
def test_pairs_are_pairs(r, name):
    assert (r(name, "h", "a", 1, "b")
            == error(f"ERR wrong number of arguments for '{name.lower()}' command"))
    assert r("EXISTS", "h") == num(0)


def test_reads(r):
    r("HSET", "h", "a", "1", "b", "long" * 50)
    assert r("HGET", "h", "x") == r("HGET", "x", "a") == NULL
    assert r("HMGET", "h", "a", "x", "a") == array(bulk(1), NULL, bulk(1))
    assert r("HMGET", "x", "a", "b") == array(NULL, NULL)
    assert (r("HLEN", "h"), r("HLEN", "x")) == (num(2), num(0))
    assert ((r("HEXISTS", "h", "a"), r("HEXISTS", "h", "x"), r("HEXISTS", "x", "a"))
            == (num(1), num(0), num(0)))
    assert ((r("HSTRLEN", "h", "b"), r("HSTRLEN", "h", "x"), r("HSTRLEN", "x", "a"))
            == (num(200), num(0), num(0)))
    assert sorted(decode(r("HKEYS", "h"))) == [b"a", b"b"]
    assert sorted(decode(r("HVALS", "h"))) == [b"1", b"long" * 50]
    assert r("HGETALL", "x") == r("HKEYS", "x") == r("HVALS", "x") == array()


def test_resp3():
    r = Local(resp=3)
    assert r("HGETALL", "h") == b"%0\r\n"
    r("HSET", "h", "a", 1)
    assert r("HGETALL", "h") == b"%1\r\n" + bulk("a") + bulk(1)
    assert r("HKEYS", "h") == array(bulk("a"))
    assert r("HGET", "h", "x") == b"_\r\n"
    assert r("HRANDFIELD", "h", 5, "WITHVALUES") == array(array(bulk("a"), bulk(1)))
    assert r("HRANDFIELD", "h", -2, "WITHVALUES") == array(*[array(bulk("a"), bulk(1))] * 2)


def test_hsetnx(r):
    assert ((r("HSETNX", "h", "a", 1), r("HSETNX", "h", "a", 2), r("HGET", "h", "a"))
            == (num(1), num(0), bulk(1)))


def test_hdel(r):
    r("HSET", "h", "a", 1, "b", 2, "c", 3)
    assert r("HDEL", "h", "a", "a", "x") == num(1)
    assert r("HDEL", "h", "b", "c", "a", "d") == num(2)
    assert (r("EXISTS", "h"), r("HDEL", "h", "a"), r("DBSIZE")) == (num(0), num(0), num(0))


def test_the_last_field_takes_the_deadline_with_it(r):
    r("HSET", "h", "a", 1)
    r("EXPIRE", "h", 100)
    r("HDEL", "h", "a")
    r("HSET", "h", "a", 2)
    assert r.deadline("h") == -1


def test_writes_keep_the_deadline(r):
    r("HSET", "h", "a", 1)
    r("EXPIRE", "h", 100)
    for argv in [("HSET", "h", "b", 2), ("HSETNX", "h", "c", 3), ("HINCRBY", "h", "a", 1),
                 ("HINCRBYFLOAT", "h", "a", 1), ("HDEL", "h", "b")]:
        r(*argv)
        assert r.deadline("h") == NOW + 100_000, argv


def test_an_expired_hash_is_gone(r):
    r("HSET", "h", "a", 1, "b", 2)
    r("PEXPIRE", "h", 10)
    r.later(11)
    assert ((r("HGET", "h", "a"), r("HLEN", "h"), r("HGETALL", "h"), r("HDEL", "h", "a"))
            == (NULL, num(0), array(), num(0)))
    assert r("HINCRBY", "h", "a", 5) == num(5)
    assert (everything(r), r.deadline("h")) == ({b"a": b"5"}, -1)


def test_wrong_type(r):
    r("SET", "s", 1)
    for argv in [("HSET", "s", "f", 1), ("HMSET", "s", "f", 1), ("HSETNX", "s", "f", 1),
                 ("HGET", "s", "f"), ("HMGET", "s", "f"), ("HGETALL", "s"),
                 ("HKEYS", "s"), ("HVALS", "s"), ("HLEN", "s"), ("HSTRLEN", "s", "f"),
                 ("HEXISTS", "s", "f"), ("HDEL", "s", "f"),
                 ("HINCRBY", "s", "f", 1), ("HINCRBYFLOAT", "s", "f", 1), ("HRANDFIELD", "s"),
                 ("HRANDFIELD", "s", 1), ("HSCAN", "s", 0)]:
        assert r(*argv) == WRONG_TYPE, argv
    r("HSET", "h", "f", 1)
    assert r("GET", "h") == r("INCR", "h") == r("SADD", "h", "x") == WRONG_TYPE
    assert r("SET", "h", "v") == OK and r("TYPE", "h") == b"+string\r\n"


# ---- counters ------------------------------------------------------------------------------------

def test_hincrby(r):
    assert r("HINCRBY", "h", "n", 5) == num(5)
    assert r("HINCRBY", "h", "n", -7) == num(-2)
    assert (r("HGET", "h", "n"), r("HSTRLEN", "h", "n")) == (bulk(-2), num(2))
    r("HSET", "h", "n", 9223372036854775806)
    assert r("HINCRBY", "h", "n", 1) == num(9223372036854775807)
    assert r("HINCRBY", "h", "n", 1) == error("ERR increment or decrement would overflow")
    r("HSET", "h", "t", "text", "z", " 1")
    for f in "tz":
        assert r("HINCRBY", "h", f, 1) == error("ERR hash value is not an integer")
    assert r("HINCRBY", "h", "n", "x") == NOT_INTEGER
    assert r("HINCRBY", "h", "n", "1.0") == NOT_INTEGER


def test_hincrbyfloat(r):
    assert r("HINCRBYFLOAT", "h", "f", "10.5") == bulk("10.5")
    assert r("HINCRBYFLOAT", "h", "f", "0.1") == bulk("10.6")
    assert r("HINCRBYFLOAT", "h", "f", "-10.6") == bulk("0")
    assert r("HINCRBY", "h", "f", 3) == num(3)
    r("HSET", "h", "f", "5.0e3")
    assert r("HINCRBYFLOAT", "h", "f", "2.0e2") == bulk("5200")
    r("HSET", "h", "t", "text")
    assert r("HINCRBYFLOAT", "h", "t", 1) == error("ERR hash value is not a float")
    assert r("HINCRBYFLOAT", "h", "f", "x") == NOT_FLOAT
    for word in ("inf", "-inf"):
        assert r("HINCRBYFLOAT", "h", "f", word) == error("ERR value is NaN or Infinity")
    for _ in range(100):
        last = r("HINCRBYFLOAT", "h", "tenth", "0.1")
    assert last == bulk("10.00000000000000014") or last == bulk("10")
    assert (r("HINCRBYFLOAT", "h", "big", "1e19") == bulk("10000000000000000000")
            == r("HGET", "h", "big"))


# ---- effects -------------------------------------------------------------------------------------

def test_what_changes_nothing_makes_no_op(r):
    r("HSET", "h", "a", "x", "n", 9223372036854775807)
    r.ops()
    for argv in [("HSETNX", "h", "a", 1), ("HDEL", "h", "x"), ("HDEL", "x", "a"),
                 ("HINCRBY", "h", "a", 1), ("HINCRBY", "h", "n", 1), ("HGETALL", "h"),
                 ("HRANDFIELD", "h", 1), ("HSCAN", "h", 0), ("HSET", "h", "a")]:
        r(*argv)
        assert r.ops() == 0, argv
    for argv in [("HSET", "h", "a", "x"), ("HSET", "h", "a", 1, "b", 2, "c", 3),
                 ("HDEL", "h", "b", "c", "n", "a")]:
        r(*argv)
        assert r.ops() == 1, argv


# ---- random fields -------------------------------------------------------------------------------

def test_hrandfield(r):
    assert ((r("HRANDFIELD", "x"), r("HRANDFIELD", "x", 3), r("HRANDFIELD", "x", -3))
            == (NULL, array(), array()))
    r("HSET", "h", *[x for i in range(100) for x in (f"f{i}", i)])
    assert re.match(rb"f\d+$", decode(r("HRANDFIELD", "h")))
    for n in (1, 10, 40, 99, 100, 1000):
        some = decode(r("HRANDFIELD", "h", n))
        assert len(set(some)) == len(some) == min(n, 100)
    many = decode(r("HRANDFIELD", "h", -500, "withvalues"))
    assert len(many) == 1000 and all(f == b"f" + v for f, v in zip(many[::2], many[1::2]))
    assert r("HRANDFIELD", "h", 0) == array()
    assert r("HRANDFIELD", "h", "x") == NOT_INTEGER
    assert r("HRANDFIELD", "h", 1, "x") == r("HRANDFIELD", "h", 1, "WITHVALUES", "x") == SYNTAX
    assert r("HRANDFIELD", "h",
             -9223372036854775808).startswith(b"-ERR value is out of range, value must between")
    for n in (-9223372036854775807, 9223372036854775807):
        assert r("HRANDFIELD", "h", n, "WITHVALUES") == error("ERR value is out of range")


# ---- HSCAN ---------------------------------------------------------------------------------------

def scan(r, *options, key="h"):
    cursor, found, calls = b"0", [], 0
    while True:
        cursor, part = decode(r("HSCAN", key, cursor, *options))
        found += zip(part[::2], part[1::2])
        calls += 1
        if cursor == b"0":
            return found, calls


@pytest.mark.parametrize("size", [0, 1, 100, 1000])
def test_hscan_finds_all(r, size):
    if size:
        r("HSET", "h", *[x for i in range(size) for x in (f"f{i}", i)])
    found, calls = scan(r)
    assert sorted(found) == sorted((b"f%d" % i, b"%d" % i) for i in range(size))
    assert calls == 1 or size == 1000, "a small hash comes in one piece"
    assert scan(r, "COUNT", 10_000)[1] == 1
    assert all(f.endswith(b"7") for f, _ in scan(r, "MATCH", "*7")[0])


def test_hscan_refusals(r):
    r("HSET", "h", "a", 1)
    assert r("HSCAN", "h", "x") == r("HSCAN", "none", "x") == error("ERR invalid cursor")
    assert (r("HSCAN", "h", 0, "COUNT", 0) == r("HSCAN", "h", 0, "TYPE", "hash")
            == r("HSCAN", "h", 0, "MATCH") == SYNTAX)
    assert r("HSCAN", "h", 0, "COUNT", "x") == NOT_INTEGER
    assert r("HSCAN", "none", 0, "nonsense") == array(bulk(0), array())


# ---- other commands ------------------------------------------------------------------------------

def test_key_commands_carry_hashes(r):
    r("HSET", "h", "a", 1)
    r("HINCRBY", "h", "n", 3)
    r("EXPIRE", "h", 50)
    assert r("COPY", "h", "g") == num(1)
    r("RENAME", "g", "i")
    assert (everything(r, "i"), r.deadline("i")) == ({b"a": b"1", b"n": b"3"}, NOW + 50_000)
    assert sorted(decode(r("SCAN", 0, "TYPE", "hash", "COUNT", 100))[1]) == [b"h", b"i"]
    assert r("TYPE", "i") == b"+hash\r\n"
    assert decode(r("MEMORY", "USAGE", "i")) > 100
    assert r("HINCRBY", "i", "n", 1) == num(4)


@pytest.mark.parametrize("fields,encoding",
                         [({"a": "x" * 64}, "listpack"), ({"a": "x" * 65}, "hashtable"),
                                             ({"x" * 65: 1}, "hashtable"),
                                             ({str(i): i for i in range(512)}, "listpack"),
                                             ({str(i): i for i in range(513)}, "hashtable")])
def test_encoding(r, fields, encoding):
    r("HSET", "h", *[x for pair in fields.items() for x in pair])
    assert r("OBJECT", "ENCODING", "h") == bulk(encoding)


# ---- concurrency: the rows and examples of the contract ------------------------------------------

@pytest.fixture
def ab():
    return Local("a"), Local("b")


def same(*replicas, key="h"):
    first, *rest = (everything(r, key) for r in replicas)
    assert all(x == first for x in rest)
    assert len({r.replica.digest() for r in replicas}) == 1
    for r in replicas:
        r.replica.check()
    return first


def test_HSH_1_different_fields(ab):
    a, b = ab
    a("HSET", "h", "f1", "a")
    b("HSET", "h", "f2", "b")
    sync(a, b)
    assert same(a, b) == {b"f1": b"a", b"f2": b"b"}


def test_one_field_the_later_wins(ab):
    a, b = ab
    b("HSET", "h", "f", "b")
    a.later(5)
    a("HSET", "h", "f", "a")
    sync(a, b)
    assert same(a, b) == {b"f": b"a"}


def test_increments_add_up(ab):
    a, b = ab
    a("HINCRBY", "h", "f", 1)
    b("HINCRBY", "h", "f", 1)
    a("HINCRBYFLOAT", "h", "r", "0.1")
    b("HINCRBYFLOAT", "h", "r", "0.2")
    sync(a, b)
    assert same(a, b)[b"f"] == b"2"
    a("HSET", "h", "f", 100)
    b("HINCRBY", "h", "f", 5)
    sync(a, b)
    assert same(a, b)[b"f"] == b"105"


def test_hdel_and_hset(ab):
    a, b = ab
    a("HSET", "h", "f", "old", "g", 1)
    sync(a, b)
    a("HDEL", "h", "f", "g")
    b("HSET", "h", "f", "old")
    sync(a, b)
    assert same(a, b) == {b"f": b"old"}


def test_hdel_and_hincrby(ab):
    a, b = ab
    a("HINCRBY", "h", "f", 10)
    sync(a, b)
    a("HDEL", "h", "f")
    assert a("EXISTS", "h") == num(0)
    b("HINCRBY", "h", "f", 5)
    sync(a, b)
    assert same(a, b) == {b"f": b"5"}


def test_del_takes_back_what_it_saw_of_every_field():
    a, b, c = Local("a"), Local("b"), Local("c")
    a("HSET", "h", "s", "x")
    b("HINCRBY", "h", "n", 10)
    sync(a, b, c)
    a("DEL", "h")
    b("HINCRBY", "h", "n", 2)
    c("HSET", "h", "t", "y")
    sync(a, b, c)
    assert same(a, b, c) == {b"n": b"2", b"t": b"y"}


def test_a_deadline_and_a_write(ab):
    a, b = ab
    a("HSET", "h", "f", 1)
    a("EXPIRE", "h", 10)
    sync(a, b)
    a("HSET", "h", "g", 2)
    b("EXPIRE", "h", 50)
    sync(a, b)
    assert same(a, b) == {b"f": b"1", b"g": b"2"}
    assert a.deadline("h") == b.deadline("h") == NOW + 50_000


def test_random_histories_converge():
    """Two and three replicas, random commands, exchange now and then: equal states whenever all is
    exchanged."""
    for seed in range(60):
        rng = random.Random(seed)
        replicas = [Local(n) for n in "abc"[:rng.choice([2, 3])]]
        for _ in range(80):
            r = rng.choice(replicas)
            f = rng.choice("fgn")
            r(*rng.choice([("HSET", "h", f, rng.randint(0, 9)), ("HDEL", "h", f),
                           ("HINCRBY", "h", "n", rng.randint(-3, 3)), ("DEL", "h"),
                           ("HINCRBYFLOAT", "h", f, "0.5"), ("HSETNX", "h", f, "x"),
                           ("EXPIRE", "h", 1000), ("RENAME", "h", "i"), ("RENAME", "i", "h")]))
            r.later(rng.choice([0, 0, 1]))
            if rng.random() < 0.15:
                sync(*replicas)
        sync(*replicas)
        same(*replicas)
        same(*replicas, key="i")

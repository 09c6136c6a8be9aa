"""Deadlines of hash fields through an Executor. What Redis 8.2 answers to the same calls is tested
in tests/compat/test_newer.py."""
import pytest

from crdtredis.commands import rdb
from tests.commands.local import NOW, NULL, WRONG_TYPE, Local, array, bulk, error, num, sync
from tests.commands.test_hashes import everything
from tests.respclient import decode


@pytest.fixture
def r():
    r = Local()
    r("HSET", "h", "a", 1, "b", "two", "c", 3)
    return r


def numbers(*n: int) -> bytes:
    return array(*map(num, n))


def times(r: Local, *fields, key="h") -> bytes:
    return r("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)


# ---- setting and reading -------------------------------------------------------------------------

def test_hexpire(r):
    assert r("HEXPIRE", "h", 10, "FIELDS", 3, "a", "x", "a") == numbers(1, -2, 1)
    assert r("HTTL", "h", "FIELDS", 3, "a", "b", "x") == numbers(10, -1, -2)
    assert r("HPEXPIRE", "h", 1500, "FIELDS", 1, "b") == numbers(1)
    assert r("HTTL", "h", "FIELDS", 1, "b") == numbers(2)
    assert r("HPTTL", "h", "FIELDS", 1, "b") == numbers(1500)
    assert r("HPEXPIREAT", "h", NOW + 7001, "FIELDS", 1, "c") == numbers(1)
    assert r("HEXPIRETIME", "h", "FIELDS", 1, "c") == numbers((NOW + 7001 + 999) // 1000)
    assert r("HEXPIREAT", "h", NOW // 1000 + 9, "FIELDS", 1, "c") == numbers(1)
    assert times(r, "a", "b", "c") == numbers(NOW + 10_000, NOW + 1500, NOW + 9000)
    assert r("HPERSIST", "h", "FIELDS", 3, "a", "a", "x") == numbers(1, -1, -2)
    assert times(r, "a") == numbers(-1)
    assert r("HEXPIRE", "x", 10, "FIELDS", 1, "a") == numbers(-2)
    assert r("HTTL", "x", "FIELDS", 1, "a") == numbers(-2)


def test_conditions(r):
    set_by = lambda *how: r("HEXPIRE", "h", *how, "FIELDS", 2, "a", "b")  # noqa: E731
    r("HEXPIRE", "h", 10, "FIELDS", 1, "a")
    assert set_by(20, "NX") == numbers(0, 1)
    assert set_by(15, "XX") == numbers(1, 1)
    assert set_by(15, "GT") == numbers(0, 0) == set_by(15, "LT")
    r("HPERSIST", "h", "FIELDS", 1, "b")
    assert set_by(20, "GT") == numbers(1, 0) and set_by(18, "LT") == numbers(1, 1)
    assert set_by(0, "NX") == numbers(0, 0) and set_by(0, "LT") == numbers(2, 2)
    assert everything(r) == {b"c": b"3"}


def test_refusals(r):
    r("SET", "s", 1)
    r.ops()
    missing = error("ERR Mandatory argument FIELDS is missing or not at the right position")
    count = error("ERR The `numfields` parameter must match the number of arguments")
    for name, *more in (("HEXPIRE", 10), ("HPERSIST",), ("HTTL",), ("HGETEX", "EX", 5)):
        assert r(name, "s", *more, "FOO", 0, "a") == WRONG_TYPE
        assert r(name, "h", *more, "FOO", 0, "a") == missing
        assert r(name, "h", *more, "FIELDS", 2, "a") == count == r(
            name, "h", *more, "FIELDS", 1, "a", "b")
    for n in (0, "x", -1, 2**64):
        assert r("HTTL", "h", "FIELDS", n, "a") == error(
            "ERR Number of fields must be a positive integer")
        assert r("HEXPIRE", "h", 1, "FIELDS", n, "a") == error(
            "ERR Parameter `numFields` should be greater than 0")
        assert r("HSETEX", "h", "FIELDS", n, "a", 1) == error("ERR invalid number of fields")
    assert r("HEXPIRE", "h", -1, "FOO") == error("ERR wrong number of arguments for 'hexpire' "
                                                 "command")
    assert r("HEXPIRE", "h", -1, "FOO", 1, "a") == error("ERR invalid expire time, must be >= 0")
    late = error("ERR invalid expire time in 'hpexpireat' command")
    assert r("HPEXPIREAT", "h", 2**46, "FIELDS", 1, "a") == late
    assert r("HPEXPIREAT", "h", 2**46 - 1, "FIELDS", 1, "x") == numbers(-2)
    assert r("HEXPIRE", "h", 2**62, "FIELDS", 1, "a") == error(
        "ERR invalid expire time in 'hexpire' command")
    for more in (["FNX", "FXX"], ["FNX", "FNX"]):
        assert r("HSETEX", "h", *more, "FIELDS", 1, "a", 1) == error(
            "ERR Only one of FXX or FNX arguments can be specified")
    assert r("HSETEX", "h", "EX", 1, "KEEPTTL", "FIELDS", 1, "a", 1) == error(
        "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified")
    assert r("HSETEX", "h", "NY", "FIELDS", 1, "a", 1) == error("ERR unknown argument: NY")
    for more in (["NX", "XX"], ["XX", "EX", 1, "NX"]):
        assert r("HSETEX", "h", *more, "FIELDS", 1, "a", 1) == error("ERR syntax error")
    assert r.ops() == 0


# ---- what it hides -------------------------------------------------------------------------------

def test_a_passed_deadline_hides_the_field(r):
    r("HPEXPIRE", "h", 100, "FIELDS", 1, "a")
    r.later(100)
    assert r("HGET", "h", "a") == bulk(1)
    r.later(1)
    assert everything(r) == {b"b": b"two", b"c": b"3"} and r("HLEN", "h") == num(2)
    assert r("HGET", "h", "a") == NULL and r("HEXISTS", "h", "a") == num(0)
    assert r("HMGET", "h", "a", "c") == array(NULL, bulk(3)) and r("HSTRLEN", "h", "a") == num(0)
    assert b"a" not in r("HKEYS", "h") and r("HVALS", "h").startswith(b"*2")
    assert r("HSCAN", "h", 0, "NOVALUES") == array(bulk(0), r("HKEYS", "h"))
    assert r("HTTL", "h", "FIELDS", 1, "a") == numbers(-2) == r("HPERSIST", "h", "FIELDS", 1, "a")
    assert r("HGETDEL", "h", "FIELDS", 1, "a") == array(NULL) and r("HDEL", "h", "a") == num(0)
    for n in (1, -1, 3, -40):
        assert b"$1\r\na" not in r("HRANDFIELD", "h", n)
    assert r("HRANDFIELD", "h", 9).startswith(b"*2")
    assert r("COPY", "h", "i") == num(1) and r("HLEN", "i") == num(2)


def test_a_write_to_an_expired_field_starts_afresh(r):
    r("HPEXPIRE", "h", 1, "FIELDS", 3, "a", "b", "c")
    r("HSET", "h", "d", 1)
    r.later(2)
    assert r("HINCRBY", "h", "a", 5) == num(5) and r("HSETNX", "h", "b", 1) == num(1)
    assert r("HSETEX", "h", "KEEPTTL", "FIELDS", 1, "c", 7) == num(1)
    assert everything(r) == {b"a": b"5", b"b": b"1", b"c": b"7", b"d": b"1"}
    assert times(r, "a", "b", "c", "d") == numbers(-1, -1, -1, -1)
    r.replica.check()


def test_a_hash_without_a_field_that_is_seen_is_none(r):
    r("EXPIRE", "h", 1000)
    r("HPEXPIRE", "h", 1, "FIELDS", 3, "a", "b", "c")
    r.later(2)
    assert r("EXISTS", "h") == num(0) and r("TYPE", "h") == b"+none\r\n"
    assert r("SET", "h", "v", "NX") == b"+OK\r\n" and r.deadline("h") == -1
    r("DEL", "h")
    r("HSET", "h", "a", 1)
    assert everything(r) == {b"a": b"1"} and r.deadline("h") == -1


def test_expired_fields_are_removed(r):
    r("EXPIRE", "h", 1000)
    r("HPEXPIRE", "h", 5, "FIELDS", 1, "a")
    r("HPEXPIRE", "h", 9, "FIELDS", 1, "b")
    assert r.replica.tick() == 6
    r.later(6)
    r.ops()
    assert r.replica.tick() == 4 and r.ops() == 1
    assert r.replica.inspect(0, b"h")["collections"]["hash"]["live"] == 2
    assert r.replica.stats()["expired_fields"] == 1
    r("HPEXPIRE", "h", 1, "FIELDS", 1, "c")
    r.later(10)
    r.replica.tick()
    assert r.replica.keys(0) == (0, 0), "with the last field goes the key, and its deadline"
    r.replica.check()


def test_info_tells_of_them(r):
    r("HSET", "g", "f", 1)
    assert r.replica.subexpiring(0) == 0
    r("HPEXPIRE", "h", 5, "FIELDS", 2, "a", "b")
    r("HPEXPIRE", "g", 50, "FIELDS", 1, "f")
    assert r.replica.subexpiring(0) == 2 and b",expires=0,avg_ttl=0,subexpiry=2\r\n" in r("INFO")
    r("HPERSIST", "g", "FIELDS", 1, "f")
    assert r.replica.subexpiring(0) == 1
    r.later(6)
    r.replica.tick()
    assert r.replica.subexpiring(0) == 0 and b"\r\nexpired_subkeys:2\r\n" in r("INFO")
    r("HPEXPIRE", "h", 50, "FIELDS", 1, "c")
    r("FLUSHALL")
    assert r.replica.subexpiring(0) == 0
    r.replica.check()


@pytest.mark.timeout(60)
def test_random_fields_among_many_that_are_not_seen():
    """A few of them cost no look at all the others each."""
    r = Local()
    names = [f"{i:0100}" for i in range(60)]
    r("HSET", "h", *(x for i in (*range(20_000), *names) for x in (i, 1)))
    r("HPEXPIRE", "h", 5, "FIELDS", 20_000, *range(20_000))
    r.later(6)
    found = decode(r("HRANDFIELD", "h", -10_000))
    assert len(found) == 10_000 and {f.decode() for f in found} == set(names)
    assert len(decode(r("HRANDFIELD", "h", 15))) == 15


def test_many_at_once():
    r = Local()
    r("HSET", "h", *(x for i in range(1000) for x in (i, i)))
    r("HPEXPIRE", "h", 5, "FIELDS", 999, *range(999))
    r.later(6)
    r.ops()
    r.replica.tick()
    assert r.ops() == 10, "a hundred in an op"
    assert everything(r) == {b"999": b"999"}


# ---- what other writes do to it ------------------------------------------------------------------

def test_hset_clears_it_and_others_keep_it(r):
    r("HPEXPIRE", "h", 50, "FIELDS", 3, "a", "b", "c")
    r("HINCRBY", "h", "a", 1)
    r("HSET", "h", "b", "new")
    r("HSETEX", "h", "KEEPTTL", "FIELDS", 1, "c", "x")
    assert times(r, "a", "b", "c") == numbers(NOW + 50, -1, NOW + 50)
    assert r.replica.inspect_member(0, b"h", b"a").keys() == {"hash", "field deadlines"}
    r("HDEL", "h", "a")
    assert r.replica.inspect_member(0, b"h", b"a") == {}
    r("HSET", "h", "a", 1)
    assert times(r, "a") == numbers(-1)
    r.replica.check()


def test_hsetex_of_a_hash_that_is_new_or_there(r):
    """As in Valkey."""
    assert r("HSETEX", "n", "XX", "FIELDS", 1, "a", 1) == num(0) and r("EXISTS", "n") == num(0)
    assert r("HSETEX", "n", "NX", "NX", "PX", 70, "FIELDS", 1, "a", 1) == num(1)
    assert r("HSETEX", "n", "NX", "FNX", "FIELDS", 1, "b", 1) == num(0)
    assert r("HSETEX", "n", "XX", "FNX", "FIELDS", 1, "b", 1) == num(1)
    assert r("HSETEX", "n", "XX", "FNX", "FIELDS", 1, "b", 1) == num(0)
    r.replica.now = NOW + 71
    r("HDEL", "n", "b")
    assert r("HSETEX", "n", "NX", "FIELDS", 1, "a", 2) == num(1)


def test_hsetex(r):
    assert r("HSETEX", "h", "PX", 70, "FIELDS", 2, "a", 5, "n", 6) == num(1)
    assert times(r, "a", "n", "b") == numbers(NOW + 70, NOW + 70, -1)
    assert r("HSETEX", "h", "FNX", "FIELDS", 2, "a", 1, "m", 1) == num(0)
    assert r("HSETEX", "h", "FXX", "EX", 1, "FIELDS", 2, "a", 1, "m", 1) == num(0)
    assert r("HSETEX", "h", "FXX", "FIELDS", 1, "a", 9) == num(1) and times(r, "a") == numbers(-1)
    assert r("HSETEX", "h", "PXAT", 1, "FIELDS", 4, "a", 1, "b", 1, "c", 1, "n", 1) == num(1)
    assert r("EXISTS", "h") == num(0)
    assert r("HSETEX", "h", "PXAT", 1, "FIELDS", 1, "a", 1) == num(1)
    assert r.replica.keys(0) == (0, 0)


def test_hgetex(r):
    assert r("HGETEX", "h", "FIELDS", 2, "a", "x") == array(bulk(1), NULL)
    assert r("HGETEX", "h", "EX", 5, "FIELDS", 2, "a", "b") == array(bulk(1), bulk("two"))
    assert times(r, "a", "b") == numbers(NOW + 5000, NOW + 5000)
    assert r("HGETEX", "h", "PERSIST", "FIELDS", 1, "a") == array(bulk(1))
    assert r("HGETEX", "h", "PX", 0, "FIELDS", 2, "b", "b") == array(bulk("two"), NULL)
    assert times(r, "a", "b") == numbers(-1, -2)
    assert r("HGETEX", "x", "EX", 5, "FIELDS", 1, "a") == array(NULL)


def test_it_goes_along(r):
    r("HPEXPIRE", "h", 70, "FIELDS", 1, "a")
    payload = r.executor.execute(r.session, [b"DUMP", b"h"]).split(b"\r\n", 1)[1][:-2]
    r("RENAME", "h", "i")
    r("COPY", "i", "j")
    r("SWAPDB", 0, 1)
    r("SWAPDB", 0, 1)
    r("RESTORE", "d", 0, payload)
    for key in "ijd":
        assert times(r, "a", "b", "c", key=key) == numbers(NOW + 70, -1, -1), key
        assert everything(r, key) == {b"a": b"1", b"b": b"two", b"c": b"3"}
    assert r("OBJECT", "ENCODING", "i") == bulk("listpackex")
    r.later(71)
    r("DEL", "d")
    assert r("RESTORE", "d", 0, payload) == b"+OK\r\n"
    assert everything(r, "d") == {b"b": b"two", b"c": b"3"}


# {a: 1, b: two, c: 300}, a and c with deadlines, as Redis 8.2.3 dumps it, packed, and not; and
# Valkey 9.1.
DUMPED = ["1900d8c32cbb03000030300000000900816102"
          "0101f400d8c32cbb03000009816302c12c02f409dbc32cbb030000098162028374776f040001ff"
          "0c00cc45b6d779745799",
          "1800d8c32cbb03000003430a0163c12c010001620374776f010161c0010c00b258e8c5b5b6299b",
          "16030161c00100d8c32cbb03000001620374776fffffffffffffffff0163c12c0109dbc32cbb0300005000732ebe"
          "46ef7a493e"]


@pytest.mark.parametrize("payload", [*map(bytes.fromhex, DUMPED)],
                         ids=["packed", "large", "valkey"])
def test_what_redis_dumps(payload):
    r = Local()
    assert r("RESTORE", "h", 0, payload) == b"+OK\r\n"
    assert everything(r) == {b"a": b"1", b"b": b"two", b"c": b"300"}
    assert times(r, "a", "b", "c") == numbers(4102444800000, -1, 4102444800777)
    for i in range(1, len(payload) - 10):
        for byte in (b"", b"\xff"):
            changed = payload[:i] + byte + payload[i + 1:-10]
            reply = r("RESTORE", "x", 0, rdb.sealed(changed, payload[-10]), "REPLACE")
            assert reply in (b"+OK\r\n", error("ERR Bad data format"))
    r.replica.check()


def test_deadlines_that_no_server_reads(r):
    late = (1 << 48).to_bytes(8, "little")
    for payload in (rdb.sealed(b"\x18" + late + b"\1\1\1f\1v", 12),
                    rdb.sealed(b"\x16\1\1f\1v" + late, 80)):
        assert r("RESTORE", "x", 0, payload) == error("ERR Bad data format")
    for version in (12, 79, 81):        # the type is Valkey's own
        assert r("RESTORE", "x", 0, rdb.sealed(b"\x16\1\1f\1v" + b"\xff" * 8, version)) == error(
            "ERR DUMP payload version or checksum are wrong")


def test_a_hash_without_deadlines_costs_nothing(r):
    before = int(r("MEMORY", "USAGE", "h")[1:])
    r("HEXPIRE", "h", 10, "FIELDS", 1, "a")
    assert int(r("MEMORY", "USAGE", "h")[1:]) > before
    r("HSET", "h", "a", 1)
    assert int(r("MEMORY", "USAGE", "h")[1:]) == before


def test_it_outlives_the_deadline_of_its_key(r):
    r("HPEXPIRE", "h", 10, "FIELDS", 1, "a")
    assert r.replica.tick() == 11
    r.replica.check()
    r("EXPIRE", "h", 1000)
    r.replica.check()
    r("PERSIST", "h")
    r.replica.check()
    assert times(r, "a") == numbers(NOW + 10) and r.replica.tick() == 11
    r.later(11)
    r.replica.tick()
    r.replica.check()
    assert r.replica.inspect(0, b"h")["collections"]["hash"]["live"] == 2
    assert r.deadline("h") == -1 and r.replica.tick() == -1


# ---- two replicas --------------------------------------------------------------------------------

@pytest.fixture
def two():
    a, b = Local("a"), Local("b")
    a("HSET", "h", "f", 1)
    sync(a, b)
    return a, b


def settled(a: Local, b: Local, value, deadline: int) -> None:
    sync(a, b)
    for r in (a, b):
        r.replica.check()
        assert r("HGET", "h", "f") == (NULL if value is None else bulk(value))
        assert times(r, "f") == numbers(deadline)
    assert a.replica.digest() == b.replica.digest()


def test_beside_a_string_and_its_deadline():
    a, b = Local("a"), Local("b")
    a("SET", "h", "v", "PX", 100)
    alone = a("MEMORY", "USAGE", "h")
    b("HSET", "h", "f", 1)
    b("HPEXPIRE", "h", 50, "FIELDS", 1, "f")
    settled(a, b, 1, NOW + 50)
    for r in (a, b):
        assert r.deadline("h") == NOW + 100
        r.later(51)
        assert r("GET", "h") == bulk("v")
    b.replica.tick()
    sync(a, b)
    for r in (a, b):
        r.replica.check()
        assert r("GET", "h") == bulk("v") and r.deadline("h") == NOW + 100
        assert r("MEMORY", "USAGE", "h") == alone
    assert a.replica.digest() == b.replica.digest()


def test_HFT_1(two):
    a, b = two
    a("HEXPIRE", "h", 100, "FIELDS", 1, "f")
    b("HINCRBY", "h", "f", 1)
    settled(a, b, 2, NOW + 100_000)


@pytest.mark.parametrize("later", [True, False])
def test_hset_beside_hexpire(two, later):
    a, b = two
    (b if later else a).later(5)
    a("HPEXPIREAT", "h", NOW + 100, "FIELDS", 1, "f")
    b("HSET", "h", "f", "new")
    settled(a, b, "new", -1 if later else NOW + 100)


@pytest.mark.parametrize("later", [True, False])
def test_two_deadlines(two, later):
    a, b = two
    (b if later else a).later(5)
    a("HPEXPIREAT", "h", NOW + 100, "FIELDS", 1, "f")
    b("HPERSIST", "h", "FIELDS", 1, "f")
    assert b.ops() == 1, "there is none to take away"
    b("HPEXPIREAT", "h", NOW + 200, "FIELDS", 1, "f")
    settled(a, b, 1, NOW + 200 if later else NOW + 100)


def test_keepttl_keeps_what_it_has_not_seen(two):
    a, b = two
    a("HPEXPIREAT", "h", NOW + 100, "FIELDS", 1, "f")
    b.later(5)
    b("HSETEX", "h", "KEEPTTL", "FIELDS", 1, "f", "new")
    settled(a, b, "new", NOW + 100)


def test_an_increment_does_not_hold_against_a_newer_deadline(two):
    a, b = two
    a("HPEXPIREAT", "h", NOW + 100, "FIELDS", 1, "f")
    sync(a, b)
    a("HPEXPIREAT", "h", NOW + 200, "FIELDS", 1, "f")
    b.later(5)
    b("HINCRBY", "h", "f", 1)
    settled(a, b, 2, NOW + 200)


def test_what_survives_a_removal_brings_its_deadline(two):
    a, b = two
    a("HPEXPIREAT", "h", NOW + 100, "FIELDS", 1, "f")
    sync(a, b)
    b.later(99)
    b("HINCRBY", "h", "f", 1)
    a.later(101)
    a.replica.tick()
    assert a("EXISTS", "h") == num(0)
    sync(a, b)
    assert b("HGET", "h", "f") == bulk(1), "the increment that nobody had seen,"
    assert times(b, "f") == numbers(NOW + 100), "with the deadline"
    assert a("EXISTS", "h") == num(0)
    b.later(2)
    settled(a, b, None, -2)
    for r in (a, b):
        r.later(10_000)
        r.replica.tick()
    sync(a, b)
    assert a.replica.keys(0)[0] == b.replica.keys(0)[0] == 0


def test_each_is_left_to_whoever_set_it():
    """Though one before it has been removed here: a's clock may be right, and b's ahead."""
    a, b = Local("a"), Local("b")
    a("HSET", "h", "f", 1, "g", 2, "i", 3)
    a("HPEXPIRE", "h", 1000, "FIELDS", 1, "f")
    a("HPEXPIRE", "h", 9000, "FIELDS", 1, "g")
    sync(a, b)
    for ms, left in ((11_000, 3), (1, 2), (7999, 2), (1, 1)):
        b.later(ms)
        b.replica.tick()
        assert b.replica.inspect(0, b"h")["collections"]["hash"]["live"] == left
    assert b.replica.stats()["expired_fields"] == 2


def test_deadlines_without_fields_go_though_others_keep_coming(two):
    a, b = two
    for i in range(100):
        a("HSET", "h", "x", 1, i, 1)
        sync(a, b)
        a("HDEL", "h", i)
        b("HEXPIRE", "h", 1000, "FIELDS", 1, i)
        sync(a, b)
        for r in (a, b):
            r.later(4000)
            r.replica.tick()
        sync(a, b)
    assert decode(a("MEMORY", "USAGE", "h")) < 2000
    for r in (a, b):
        r.later(20_000)
        r.replica.tick()
        r.replica.check()
        assert "field deadlines" not in r.replica.inspect(0, b"h")["collections"]
        assert r.replica.stats()["expired_fields"] == 0, "no field has"


def test_deadlines_without_fields_that_an_op_has_no_room_for(two):
    a, b = two
    names = [str(i) * 4_000_000 for i in range(6)]
    a("HSET", "h", "x", 1, *(x for n in names for x in (n, 1)))
    sync(a, b)
    a("HDEL", "h", *names)
    b("HEXPIRE", "h", 1000, "FIELDS", len(names), *names)
    sync(a, b)
    b.later(20_000)
    b.ops()
    b.replica.tick()
    assert b.ops() > 1 and decode(b("MEMORY", "USAGE", "h")) < 2000


def test_a_deadline_without_its_field_goes(two):
    a, b = two
    a("HDEL", "h", "f")
    b("HPEXPIREAT", "h", NOW + 10_000_000, "FIELDS", 1, "f")
    settled(a, b, None, -2)
    assert a.replica.keys(0) == (0, 1)
    a("HSET", "h", "g", 1)
    sync(a, b)
    a("HINCRBY", "h", "f", 1)
    settled(a, b, 1, -1)
    a("HDEL", "h", "f", "g")
    b("HPEXPIREAT", "h", NOW + 10_000_000, "FIELDS", 1, "f")
    sync(a, b)
    for r in (a, b):
        r.later(20_000)
        r.replica.tick()
    sync(a, b)
    assert a.replica.keys(0) == b.replica.keys(0) == (0, 0)

"""INCREX: bounds, lifetimes, and what concurrent replicas get. The other counters are in
test_strings.py, and their digits in test_against_redis.py. Redis 8.8 gives the same replies."""
import pytest

from tests.commands.local import (NOT_FLOAT, NOT_INTEGER, NOW, NULL, OK, SYNTAX, WRONG_TYPE, Local,
                                  array, bulk, error, num, sync)

MAX, MIN = 2**63 - 1, -2**63


@pytest.fixture
def c():
    return Local()


def whole(*numbers):
    return array(*map(num, numbers))


def real(*numbers):
    return array(*map(bulk, numbers))


def test_by_whole_numbers(c):
    assert c("INCREX", "k") == whole(1, 1)
    assert c("INCREX", "k", "BYINT", 5) == whole(6, 5)
    assert c("INCREX", "k", "byint", -10) == whole(-4, -10)
    c.ops()
    assert c("INCREX", "k", "BYINT", 0) == whole(-4, 0) and c.ops() == 1
    c("SET", "k", "7")
    assert c("INCREX", "k") == whole(8, 1) and c("GET", "k") == bulk(8)


def test_by_fractions(c):
    c("SET", "k", "1.5")
    assert c("INCREX", "k", "BYFLOAT", "0.25") == real("1.75", "0.25")
    assert c("INCREX", "k", "BYFLOAT", 1) == real("2.75", 1)
    assert c("INCREX", "k", "BYINT", 1) == NOT_INTEGER
    assert c("INCREX", "k", "BYFLOAT", "0.25") == real(3, "0.25")
    assert c("INCREX", "k") == whole(4, 1)
    three = Local(resp=3)
    assert three("INCREX", "k", "BYFLOAT", "0.1") == b"*2\r\n,0.1\r\n,0.1\r\n"


@pytest.mark.parametrize("before, options, without, cut", [
    (50, ["BYINT", 100, "UBOUND", 80], 0, 80), (10, ["BYINT", -100, "LBOUND", 0], 0, 0),
    (50, ["BYINT", 5, "UBOUND", 30], 0, 30), (-50, ["BYINT", -5, "LBOUND", -30], 0, -30),
    (50, ["BYINT", -25, "UBOUND", 30], 25, 25), (5, ["BYINT", 5, "UBOUND", 10], 10, 10),
    (5, ["BYINT", 5, "LBOUND", 20, "UBOUND", 30], 0, 20),
    (MAX - 7, ["BYINT", MAX - 7], 0, MAX), (MIN + 8, ["BYINT", MIN + 8], 0, MIN),
    (MAX - 7, ["BYINT", MAX - 7, "UBOUND", MAX - 1], 0, MAX - 1)])
def test_bounds(c, before, options, without, cut):
    c("SET", "k", before)
    c.ops()
    if without:
        assert c("INCREX", "k", *options) == whole(without, without - before)
        c("SET", "k", before)
    else:
        assert c("INCREX", "k", *options, "EX", 9) == whole(before, 0)
        assert c.ops() == 0 and c.deadline("k") == -1
    assert c("INCREX", "k", *options, "SATURATE", "EX", 9) == whole(cut, cut - before)
    assert c("GET", "k") == bulk(cut) and c.deadline("k") == NOW + 9000


@pytest.mark.parametrize("before, options, after, step", [
    ("10", ["BYFLOAT", 100, "UBOUND", "42.5"], "42.5", "32.5"),
    ("0", ["BYFLOAT", -100, "LBOUND", "-5.5"], "-5.5", "-5.5"),
    ("50.5", ["BYFLOAT", "5.5", "UBOUND", 30], "30", "-20.5")])
def test_bounds_of_fractions(c, before, options, after, step):
    c("SET", "k", before)
    assert c("INCREX", "k", *options) == real(before, 0) and c("GET", "k") == bulk(before)
    assert c("INCREX", "k", *options, "SATURATE") == real(after, step)
    assert c("GET", "k") == bulk(after)


def test_a_result_beyond_the_bounds_makes_no_key(c):
    assert c("INCREX", "k", "BYINT", 5, "LBOUND", 10) == whole(0, 0)
    assert c("INCREX", "k", "BYFLOAT", "-0.5", "UBOUND", "-1.5") == real(0, 0)
    assert c("EXISTS", "k") == num(0) and c.ops() == 0


def test_a_step_that_is_no_number_of_64_bits(c):
    c("SET", "k", MAX - 7)
    assert c("INCREX", "k", "BYINT", 1, "SATURATE", "UBOUND", MIN) == error(
        "ERR applied increment would overflow")
    assert c("GET", "k") == bulk(MAX - 7)


def test_lifetimes(c):
    c("INCREX", "k", "EX", 100, "BYINT", 5)
    assert c.deadline("k") == NOW + 100_000
    c("INCREX", "k")
    assert c.deadline("k") == NOW + 100_000                        # as INCR
    c("INCREX", "k", "PX", 10, "ENX")
    assert c.deadline("k") == NOW + 100_000 and c("GET", "k") == bulk(7)
    c("INCREX", "k", "PERSIST")
    assert c.deadline("k") == -1
    c("INCREX", "k", "PXAT", NOW + 5, "ENX")
    assert c.deadline("k") == NOW + 5
    assert c("INCREX", "k", "EXAT", 1, "ENX") == whole(10, 1) and c("GET", "k") == bulk(10)
    assert c("INCREX", "k", "EXAT", 1) == whole(11, 1) and c("GET", "k") == NULL
    c.ops()
    assert c("INCREX", "k", "PXAT", 1) == whole(1, 1) and c.ops() == 0


def test_refusals(c):
    for options in (["FOO"], ["BYINT", 1, "FOO"], ["BYINT", 1, "BYFLOAT", 1], ["BYINT"],
                    ["BYINT", 1, "BYINT", 2], ["LBOUND", 0, "LBOUND", 1], ["SATURATE", "SATURATE"],
                    ["EX", 10, "PX", 5], ["EX", 10, "PERSIST"], ["PERSIST", "EX", 10],
                    ["PERSIST", "ENX"], ["ENX", "PERSIST"], ["ENX", "ENX", "EX", 10],
                    ["EX", 1, "EX", 2], ["PERSIST", "PERSIST"], ["EX"], ["KEEPTTL"], ["UBOUND"]):
        assert c("INCREX", "k", *options) == SYNTAX, options
    assert c("INCREX", "k", "ENX") == error("ERR ENX flag requires an expiration")
    assert c("INCREX", "k", "BYINT", "1.5") == error(
        "ERR Increment is not an integer or out of range")
    assert c("INCREX", "k", "UBOUND", "x") == error("ERR UBOUND is not an integer or out of range")
    assert c("INCREX", "k", "BYFLOAT", "x") == error("ERR Increment is not a valid float")
    assert c("INCREX", "k", "BYFLOAT", "inf") == error(
        "ERR BYFLOAT increment cannot be Infinity")
    for by in (["BYINT", 1], ["BYFLOAT", "0.5"]):
        assert c("INCREX", "k", *by, "LBOUND", 10, "UBOUND", 5) == error(
            "ERR LBOUND can't be greater than UBOUND")
        assert c("INCREX", "k", *by, "EX", 0) == error(
            "ERR invalid expire time in 'increx' command")
    c("SET", "k", "hello")
    assert c("INCREX", "k") == NOT_INTEGER and c("INCREX", "k", "BYFLOAT", 1) == NOT_FLOAT
    c("SET", "k", "inf")
    assert c("INCREX", "k", "BYFLOAT", 1) == error("ERR value cannot be Infinity")
    c("RPUSH", "l", "a")
    assert c("INCREX", "l") == WRONG_TYPE == c("INCREX", "l", "BYFLOAT", 1)


def test_concurrent_increments_add_up_beyond_the_bound(c):
    """Bounds are about what a replica shows."""
    other = Local("b")
    assert c("SET", "k", 8) == OK
    sync(c, other)
    assert c("INCREX", "k", "BYINT", 2, "UBOUND", 10) == whole(10, 2)
    assert other("INCREX", "k", "BYINT", 5, "UBOUND", 10, "SATURATE") == whole(10, 2)
    sync(c, other)
    assert c("GET", "k") == other("GET", "k") == bulk(12)
    assert c("INCREX", "k", "UBOUND", 10) == whole(12, 0)

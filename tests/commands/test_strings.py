"""String commands on one replica: every option, reply and refusal; what a command leaves in the
log; and what concurrent replicas get."""
import itertools

import pytest

from crdtredis._core import probe_make
from tests.commands.local import (NOT_FLOAT, NOT_INTEGER, NOW, NULL, OK, SYNTAX, WRONG_TYPE, Local,
                                  array, bulk, error, num, sync)

TOO_LONG = error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
OVERFLOW = error("ERR increment or decrement would overflow")
MAX, MIN = 2**63 - 1, -2**63


def bad_time(name):
    return error(f"ERR invalid expire time in '{name}' command")


@pytest.fixture
def c():
    return Local()


# ---- SET -----------------------------------------------------------------------------------------
def test_set_and_get_any_bytes(c):
    for value in (b"", b"a", b"\0\r\n\xff", b"x" * 100_000):
        assert c("SET", "k", value) == OK
        assert c("GET", "k") == bulk(value)
    assert c("SET", b"\0\xff", b"v") == OK and c("GET", b"\0\xff") == bulk("v")
    assert c("GET", "missing") == NULL
    assert Local(resp=3)("GET", "missing") == b"_\r\n"


def test_set_conditions(c):
    assert c("SET", "k", 1, "XX") == NULL and c("GET", "k") == NULL
    assert c("SET", "k", 1, "nx") == OK
    assert c("SET", "k", 2, "NX") == NULL and c("GET", "k") == bulk(1)
    assert c("SET", "k", 3, "XX") == OK and c("GET", "k") == bulk(3)
    assert c("SET", "k", 4, "NX", "XX") == SYNTAX


def test_set_get_answers_the_old_value(c):
    assert c("SET", "k", 1, "GET") == NULL
    assert c("SET", "k", 2, "get") == bulk(1)
    assert c("SET", "k", 3, "NX", "GET") == bulk(2) and c("GET", "k") == bulk(2)
    assert c("SET", "new", 3, "NX", "GET") == NULL and c("GET", "new") == bulk(3)
    assert c("SET", "other", 3, "XX", "GET") == NULL and c("GET", "other") == NULL


@pytest.mark.parametrize("word, time, deadline", [("EX", 10, NOW + 10_000), ("px", 10, NOW + 10),
                                                  ("EXAT", 1_800_000_000, 1_800_000_000_000),
                                                  ("PXAT", 1_800_000_000_001, 1_800_000_000_001)])
def test_set_with_a_lifetime(c, word, time, deadline):
    assert c("SET", "k", "v", word, time) == OK
    assert c.deadline("k") == deadline
    c.replica.now = deadline
    assert c("GET", "k") == bulk("v")
    c.later(1)
    assert c("GET", "k") == NULL


def test_set_clears_the_deadline_unless_told_to_keep_it(c):
    c("SET", "k", 1, "EX", 10)
    assert c("SET", "k", 2, "KEEPTTL") == OK and c.deadline("k") == NOW + 10_000
    assert c("SET", "k", 3) == OK and c.deadline("k") == -1
    c("SET", "k", 1, "EX", 10)
    assert c("SET", "k", 2, "EX", 5) == OK and c.deadline("k") == NOW + 5_000
    c.later(6_000)
    # the expired one is gone, with its deadline
    assert c("SET", "k", 9, "KEEPTTL") == OK and c.deadline("k") == -1


def test_set_lifetime_words_repeat_but_do_not_mix(c):
    assert c("SET", "k", 1, "EX", 10, "EX", 20) == OK and c.deadline("k") == NOW + 20_000
    words = [("EX", "10"), ("PX", "10"), ("EXAT", "1800000000"), ("PXAT", "1800000000000"),
             ("KEEPTTL",)]
    for a, b in itertools.permutations(words, 2):
        assert c("SET", "k", 1, *a, *b) == SYNTAX
    for bad in (["EX"], ["PERSIST"], ["EX", "1", "10"], [""], ["NXX"], ["GE"], ["PXAT"]):
        assert c("SET", "k", 1, *bad) == SYNTAX


@pytest.mark.parametrize("argv, name", [(("SET", "k", "v", "{}", None), "set"),
                                        (("GETEX", "k", "{}", None), "getex")])
def test_bad_times(c, argv, name):
    c("SET", "k", "old")
    for word, time, reply in [("EX", 0, bad_time(name)), ("PX", -1, bad_time(name)),
                              ("EXAT", 0, bad_time(name)), ("PXAT", MIN, bad_time(name)),
                              ("EX", MAX // 1000 + 1, bad_time(name)),
                              ("EXAT", MAX // 1000 + 1, bad_time(name)),
                              ("PX", MAX, bad_time(name)),
                              ("EX", (MAX - NOW) // 1000 + 1, bad_time(name)),
                              ("EX", "x", NOT_INTEGER), ("PX", "1.5", NOT_INTEGER),
                              ("EX", "", NOT_INTEGER), ("PXAT", MAX + 1, NOT_INTEGER)]:
        assert c(*[word if a == "{}" else time if a is None else a for a in argv]) == reply, (
            (word, time))
    assert c("GET", "k") == bulk("old") and c.deadline("k") == -1
    assert c("SET", "k", "v", "PXAT", MAX) == OK and c.deadline("k") == MAX


def test_setex_and_psetex(c):
    assert c("SETEX", "k", 10, "v") == OK and c.deadline("k") == NOW + 10_000
    assert (c("PSETEX", "k", 10, "w") == OK and c.deadline("k") == NOW + 10
            and c("GET", "k") == bulk("w"))
    assert c("SETEX", "k", 0, "v") == bad_time("setex")
    assert c("pSetEx", "k", -1, "v") == bad_time("psetex")
    assert c("SETEX", "k", "x", "v") == NOT_INTEGER


def test_a_past_deadline_removes_at_once(c):
    c("SET", "k", 1)
    c.ops()
    assert (c("SET", "k", 2, "EXAT", 1) == OK and c("EXISTS", "k") == num(0)
            and c("DBSIZE") == num(0))
    assert c.ops()
    assert c("SET", "k", 2, "PXAT", 1) == OK
    assert not c.ops()                                     # nothing was there: nothing to tell
    c("SET", "k", 1)
    assert c("GETEX", "k", "PXAT", 1) == bulk(1) and c("EXISTS", "k") == num(0)
    c("SET", "k", 1)
    assert c("SET", "k", 2, "GET", "XX", "EXAT", 1) == bulk(1) and c("EXISTS", "k") == num(0)


def test_setnx_getset_getdel(c):
    assert (c("SETNX", "k", 1) == num(1) and c("SETNX", "k", 2) == num(0)
            and c("GET", "k") == bulk(1))
    assert c("GETSET", "k", 3) == bulk(1) and c("GETSET", "new", 3) == NULL
    c("EXPIRE", "k", 10)
    assert c("GETSET", "k", 4) == bulk(3) and c.deadline("k") == -1
    assert c("GETDEL", "k") == bulk(4) and c("GETDEL", "k") == NULL and c("EXISTS", "k") == num(0)
    c("SET", "k", 1, "PX", 1)
    c.later(2)
    assert c("SETNX", "k", 2) == num(1) and c.deadline("k") == -1


def test_getex(c):
    # the key is looked up before the time is read
    assert c("GETEX", "missing", "EX", 0) == NULL
    assert c("GETEX", "missing", "NX") == SYNTAX
    c("SET", "k", "v")
    c.ops()
    assert c("GETEX", "k") == bulk("v") and c("GETEX", "k", "PERSIST") == bulk("v")
    assert not c.ops()
    assert c("GETEX", "k", "EX", 10) == bulk("v") and c.deadline("k") == NOW + 10_000
    assert c("GETEX", "k", "persist") == bulk("v") and c.deadline("k") == -1
    assert c("GETEX", "k", "PXAT", NOW + 5) == bulk("v") and c.deadline("k") == NOW + 5
    for bad in (["KEEPTTL"], ["GET"], ["PERSIST", "EX", "1"], ["EX", "1", "PERSIST"], ["EX"],
                ["EX", "1", "PX", "1"]):
        assert c("GETEX", "k", *bad) == SYNTAX


# ---- conditions ----------------------------------------------------------------------------------
DIGEST_LENGTH = error("ERR must be exactly 16 hexadecimal characters")
HELLO = "9555e8555c62dcfd"


def test_set_if_equal(c):
    assert c("SET", "k", 1, "IFEQ", "") == NULL and c("GET", "k") == NULL
    c("SET", "k", "hello")
    assert c("SET", "k", "x", "IFEQ", "hell") == NULL == c("SET", "k", "x", "IFEQ", "hello!")
    assert c("SET", "k", 7, "ifeq", "hello") == OK and c("GET", "k") == bulk(7)
    c("INCR", "k")
    assert c("SET", "k", "w", "IFEQ", "8", "EX", 10) == OK and c.deadline("k") == NOW + 10_000
    assert c("SET", "k", "v", "IFEQ", "w", "KEEPTTL") == OK and c.deadline("k") == NOW + 10_000
    assert c("SET", "k", "u", "IFEQ", "v") == OK and c.deadline("k") == -1
    assert c("SET", "k", "x", "IFEQ", "x", "GET") == bulk("u") == c("GET", "k")
    assert c("SET", "k", "x", "GET", "IFEQ", "u") == bulk("u") and c("GET", "k") == bulk("x")
    c.ops()
    assert c("SET", "k", "y", "IFEQ", "no", "PX", 1) == NULL and c.ops() == 0


def test_set_if_not_equal(c):
    assert c("SET", "k", "a", "IFNE", "a") == OK
    assert c("SET", "k", "b", "IFNE", "a") == NULL and c("GET", "k") == bulk("a")
    assert c("SET", "k", "b", "IFNE", "c", "GET") == bulk("a") and c("GET", "k") == bulk("b")
    assert c("SET", "new", "b", "IFNE", "c", "GET") == NULL and c("GET", "new") == bulk("b")


def test_set_by_digest(c):
    assert c("SET", "k", "x", "IFDEQ", 5) == NULL       # how it is written matters where it is used
    assert c("SET", "k", "hello", "IFDNE", HELLO) == OK
    assert c("SET", "k", "x", "IFDNE", HELLO.upper()) == NULL
    assert c("SET", "k", "x", "IFDEQ", "z" * 16) == NULL
    assert c("SET", "k", "x", "IFDEQ", HELLO.upper(), "GET") == bulk("hello")
    for wrong in ("", HELLO[1:], "0" + HELLO):
        assert (DIGEST_LENGTH == c("SET", "k", "y", "IFDEQ", wrong)
                == c("SET", "k", "y", "IFDNE", wrong, "GET") == c("DELEX", "k", "IFDEQ", wrong)
                == c("DELEX", "k", "IFDNE", wrong))
    assert c("GET", "k") == bulk("x")


def test_conditions_exclude_one_another(c):
    c("SET", "k", "v")
    for options in (["NX", "IFEQ", "v"], ["IFEQ", "v", "XX"], ["IFEQ", "v", "IFNE", "w"],
                    ["IFDEQ", HELLO, "IFEQ", "v"], ["IFEQ"], ["IFDNE"], ["IFXX", "v"]):
        assert c("SET", "k", "x", *options) == SYNTAX, options
    assert c("SET", "k", "x", "IFEQ", "w", "IFEQ", "v") == OK      # of the same one the last holds


@pytest.mark.parametrize("word", ["IFEQ", "IFNE", "IFDEQ", "IFDNE"])
def test_conditions_on_other_types(c, word):
    c("RPUSH", "l", "a")
    assert c("SET", "l", "x", word, "a") == WRONG_TYPE == c("SET", "l", "x", word, "a", "GET")
    assert c("DELEX", "l", word, "a") == error("ERR Key should be of string type if conditions "
                                               "are specified") == c("DELEX", "l", "FOO", "a")
    assert c("DELIFEQ", "l", "a") == WRONG_TYPE == c("DIGEST", "l")
    assert c("DELEX", "l") == num(1) and c("EXISTS", "l") == num(0)


def test_delex_and_delifeq(c):
    assert c("DELEX", "k") == c("DELEX", "k", "FOO", "v") == c("DELIFEQ", "k", "v") == num(0)
    c("SET", "k", "hello")
    c.ops()
    assert (c("DELEX", "k", "IFEQ", "x") == c("DELEX", "k", "IFNE", "hello") == num(0)
            == c("DELEX", "k", "IFDEQ", "0" * 16) == c("DELEX", "k", "IFDNE", HELLO)
            == c("DELIFEQ", "k", "hell"))
    assert c("DELEX", "k", "FOO", "x") == error(
        "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
    for wrong in (["IFEQ"], ["IFEQ", "a", "b"]):
        assert c("DELEX", "k", *wrong) == error("ERR wrong number of arguments for 'delex' command")
    assert c.ops() == 0
    for condition in (["DELEX", "k", "ifeq", "hello"], ["DELEX", "k", "IFNE", ""],
                      ["DELEX", "k", "IFDEQ", HELLO], ["DELEX", "k", "IFDNE", "0" * 16],
                      ["DELEX", "k"], ["DELIFEQ", "k", "hello"]):
        assert c("SET", "k", "hello", "EX", 9) == OK and c(*condition) == num(1), condition
        assert c("GET", "k") == NULL and c.deadline("k") == -2


def test_two_replicas_that_both_find_their_condition(c):
    other = Local("b")
    c("SET", "lock", "mine")
    sync(c, other)
    other.later(1)
    assert c("DELEX", "lock", "IFEQ", "mine") == num(1)
    assert other("SET", "lock", "yours", "IFEQ", "mine") == OK
    sync(c, other)
    assert c("GET", "lock") == other("GET", "lock") == bulk("yours")       # the write survives


# What xxHash's own library gives; the lengths are on both sides of where the algorithm changes.
DIGESTS = {
    0: "2d06800538d394c2", 1: "c44bdff4074eecdb", 2: "9093381c8763d62e", 3: "c3489259e968ad9e",
    4: "d3d60c1519014e89", 8: "b88dee77f6bf6980", 9: "03688dcad730d826", 16: "9da23836adf2be1e",
    17: "f34c3c9cf5a112d1", 32: "99cb9ad0f1a11fbe", 33: "c077b45492d29cde", 128: "65f3c2c00fa93185",
    129: "28065c6ec25f5b25", 240: "4917a75c0ef8eed7", 241: "541b19226f0052e8",
    255: "99b37c2c806e33d3", 256: "ff5a1cefade75bb9", 1024: "71bee625238addb4",
    1025: "d9b414f4e1bbf7ad", 1088: "b74e423e955e509d", 2048: "3293e8238bd8f743",
    2049: "922549b11c04c2eb", 5000: "ed0146266d138bd8"}


@pytest.mark.parametrize("n", DIGESTS)
def test_digests(c, n):
    c("SET", "k", bytes(i * 7 + (i >> 8) & 255 for i in range(n)))
    assert c("DIGEST", "k") == bulk(DIGESTS[n])


def test_digest_of_what_is_not_there_and_of_numbers(c):
    assert c("DIGEST", "k") == NULL and Local(resp=3)("DIGEST", "k") == b"_\r\n"
    c("INCRBY", "k", 123)
    assert c("DIGEST", "k") == bulk("404a763b3f4c8c9a")
    c("SET", "k", "v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytl"
                  "s2kwlj7626sd")
    assert c("DIGEST", "k") == bulk("00006c38adf31777")


# ---- MSETEX --------------------------------------------------------------------------------------
def test_msetex(c):
    assert c("MSETEX", 2, "a", 1, "b", 2) == num(1) and c.ops() == 1
    assert c("MGET", "a", "b") == array(bulk(1), bulk(2))
    assert c("MSETEX", 2, "a", 3, "n", 4, "NX") == num(0) == c("MSETEX", 2, "a", 3, "n", 4, "xx")
    assert c.ops() == 0 and c("GET", "n") == NULL
    assert c("MSETEX", 2, "a", 3, "b", 4, "XX", "PX", 500) == num(1)
    assert c.deadline("a") == c.deadline("b") == NOW + 500
    assert c("MSETEX", 1, "a", 5, "KEEPTTL") == num(1) and c.deadline("a") == NOW + 500
    assert c("MSETEX", 2, "a", 5, "a", 6) == num(1) and c.deadline("a") == -1
    assert c("GET", "a") == bulk(6)
    c("RPUSH", "l", "x")
    assert c("MSETEX", 2, "l", 1, "m", 2, "EXAT", 1_800_000_000) == num(1)
    assert c("GET", "l") == bulk(1) and c.deadline("m") == 1_800_000_000_000
    assert c("MSETEX", 2, "l", 1, "m", 2, "PXAT", 1) == num(1)
    assert c("EXISTS", "l", "m") == num(0)
    assert c("MSETEX", 2, "p", 1, "q", 2, "EX", 10, "NX") == num(1)
    assert c.deadline("q") == NOW + 10_000


def test_msetex_refusals(c):
    numkeys = error("ERR invalid numkeys value")
    for n in (0, -1, "x", "", 2**31, 2**63):
        assert c("MSETEX", n, "a", 1) == numkeys, n
    for n in (2, 2**31 - 1):
        assert c("MSETEX", n, "a", 1, "b") == error("ERR wrong number of key-value pairs")
    for options in (["b", 2], ["NX", "XX"], ["EX", 1, "PX", 1], ["KEEPTTL", "EX", 1], ["EX"],
                    ["GET"], ["IFEQ", 1], ["PERSIST"]):
        assert c("MSETEX", 1, "a", 1, *options) == SYNTAX, options
    assert c("MSETEX", 1, "a", 1, "EX", "x") == NOT_INTEGER
    assert c("MSETEX", 1, "a", 1, "EX", 0) == bad_time("msetex") and c("EXISTS", "a") == num(0)
    assert c("COMMAND", "GETKEYS", "MSETEX", 2, "a", "EX", "b", 9, "EX", 1) == array(
        bulk("a"), bulk("b"))


# ---- several keys --------------------------------------------------------------------------------
def test_mset_mget(c):
    assert c("MSET", "a", 1, "b", 2, "a", 3) == OK
    assert c("MGET", "a", "missing", "b", "a") == array(bulk(3), NULL, bulk(2), bulk(3))
    assert c("MSET", "a", 1, "b") == error("ERR wrong number of arguments for 'mset' command")
    assert c("MSETNX", "a") == error("ERR wrong number of arguments for 'msetnx' command")
    assert c("MSETNX", "x", 1, "a", 2) == num(0) and c("EXISTS", "x") == num(0)
    assert c("MSETNX", "x", 1, "x", 2) == num(1) and c("GET", "x") == bulk(2)
    c("INCR", "n")
    c("INCRBY", "m", 20)
    # counters share one scratch place
    assert c("MGET", "n", "m", "n") == array(bulk(1), bulk(20), bulk(1))


def test_mset_is_one_op(c):
    c("MSET", "a", 1, "b", 2, "c", 3)
    assert c.ops() == 1


# ---- parts ---------------------------------------------------------------------------------------
def test_append_and_strlen(c):
    assert (c("APPEND", "k", "ab") == num(2) and c("APPEND", "k", b"\0c") == num(4)
            and c("GET", "k") == bulk(b"ab\0c"))
    assert c("STRLEN", "k") == num(4) and c("STRLEN", "missing") == num(0)
    assert c("APPEND", "empty", "") == num(0) and c("EXISTS", "empty") == num(1)
    c.ops()
    assert c("APPEND", "k", "") == num(4) and not c.ops()
    c("INCRBY", "n", 12)
    assert (c("STRLEN", "n") == num(2) and c("APPEND", "n", "x") == num(3)
            and c("GET", "n") == bulk("12x"))
    c("EXPIRE", "k", 10)
    c("APPEND", "k", "z")
    assert c.deadline("k") == NOW + 10_000
    c.later(10_001)
    assert c("APPEND", "k", "new") == num(3) and c.deadline("k") == -1


@pytest.mark.parametrize("first, last, part", [(0, -1, "Hello"), (0, 0, "H"), (1, 3, "ell"),
                                               (-3, -1, "llo"), (-100, 1, "He"), (3, 100, "lo"),
                                               (4, 3, ""), (-1, -3, ""), (-100, -200, ""),
                                               (0, -100, "H"), (5, 9, ""), (MIN, MAX, "Hello"),
                                               (MAX, MIN, "")])
def test_getrange(c, first, last, part):
    c("SET", "k", "Hello")
    assert c("GETRANGE", "k", first, last) == bulk(part) == c("SUBSTR", "k", first, last)
    assert c("GETRANGE", "missing", first, last) == bulk("")


def test_getrange_refuses(c):
    assert c("GETRANGE", "k", "x", 1) == NOT_INTEGER == c("SUBSTR", "k", 0, "1.5")
    c("SET", "k", "")
    assert c("GETRANGE", "k", 0, -1) == bulk("")


def test_setrange(c):
    assert c("SETRANGE", "k", 3, "ab") == num(5) and c("GET", "k") == bulk(b"\0\0\0ab")
    assert c("SETRANGE", "k", 1, "x") == num(5) and c("GET", "k") == bulk(b"\0x\0ab")
    c.ops()
    assert c("SETRANGE", "missing", 5, "") == num(0) and c("EXISTS", "missing") == num(0)
    assert c("SETRANGE", "k", 600_000_000, "") == num(5)
    assert (c("SETRANGE", "k", -1, "x") == error("ERR offset is out of range")
            and c("SETRANGE", "k", "x", "x") == NOT_INTEGER)
    for offset in (512 << 20, MAX):
        assert c("SETRANGE", "k", offset, "x") == TOO_LONG
    assert not c.ops()


def test_a_value_has_at_most_512_mb(c):
    limit = 512 << 20
    assert c("SETRANGE", "k", limit - 1, "ab") == TOO_LONG
    assert c("SETRANGE", "k", limit - 1, "a") == num(limit)
    assert c("APPEND", "k", "b") == TOO_LONG and c("STRLEN", "k") == num(limit)


# ---- counters ------------------------------------------------------------------------------------
def test_integers(c):
    assert (c("INCR", "n") == num(1) and c("INCRBY", "n", 41) == num(42)
            and c("DECR", "n") == num(41) and c("DECRBY", "n", -9) == num(50))
    assert c("GET", "n") == bulk(50)
    c("SET", "n", 10, "EX", 5)
    assert c("INCR", "n") == num(11) and c.deadline("n") == NOW + 5_000
    c.later(5_001)
    assert c("DECR", "n") == num(-1) and c.deadline("n") == -1


@pytest.mark.parametrize("value", ["", " 1", "1 ", "+1", "01", "-0", "1.0", "x",
                                   "9223372036854775808", "1\0"])
def test_what_is_no_integer(c, value):
    c("SET", "k", value)
    for argv in (("INCR", "k"), ("DECR", "k"), ("INCRBY", "k", 1), ("DECRBY", "k", 1),
                 ("INCRBY", "other", value), ("DECRBY", "other", value)):
        assert c(*argv) == NOT_INTEGER
    assert c("GET", "k") == bulk(value) and c("EXISTS", "other") == num(0)


def test_integer_limits(c):
    c("SET", "n", MAX - 1)
    assert (c("INCR", "n") == num(MAX) and c("INCR", "n") == OVERFLOW and c("INCRBY", "n", MAX)
            == OVERFLOW)
    c("SET", "n", MIN)
    assert (c("DECR", "n") == OVERFLOW and c("INCRBY", "n", -1) == OVERFLOW
            and c("INCRBY", "n", MAX) == num(-1))
    assert c("DECRBY", "n", MIN) == error("ERR decrement would overflow")
    assert c("INCRBY", "n", MIN) == OVERFLOW
    assert c("INCRBY", "m", MIN) == num(MIN) and c("GET", "m") == bulk(MIN)


@pytest.mark.parametrize("value, step, sum", [("10.50", "0.1", "10.6"), ("10.6", "-5", "5.6"),
                                              ("5.0e3", "2.0e2", "5200"), ("3.0", "1.000000", "4"),
                                              ("0", "0.00000000000000001", "0.00000000000000001"),
                                              ("-1", "1", "0"),
                                              ("1e15", ".5", "1000000000000000.5"),
                                              ("9223372036854775807", "1", "9223372036854775808"),
                                              ("1", "1e20", "100000000000000000000")])
def test_incrbyfloat(c, value, step, sum):
    c("SET", "f", value)
    assert c("INCRBYFLOAT", "f", step) == bulk(sum) == c("GET", "f")


def test_incrbyfloat_shows_no_noise(c):
    for i in range(1, 501):
        assert c("INCRBYFLOAT", "f", "0.1") == bulk(f"{i / 10:g}")
    assert c("INCRBYFLOAT", "f", "-0.3") == bulk("49.7")


def test_incrbyfloat_refuses(c):
    c("SET", "f", "x")
    assert c("INCRBYFLOAT", "f", 1) == NOT_FLOAT
    c("SET", "f", 1)
    for step in ("x", "", " 1", "1 ", "nan", "1,5"):
        assert c("INCRBYFLOAT", "f", step) == NOT_FLOAT
    for step in ("inf", "-inf"):
        assert c("INCRBYFLOAT", "f", step) == error("ERR increment would produce NaN or Infinity")
    c("SET", "f", "inf")
    assert c("INCRBYFLOAT", "f", 1) == error("ERR increment would produce NaN or Infinity")
    assert c("GET", "f") == bulk("inf")


def test_fractions_and_whole_numbers_meet(c):
    c("INCRBYFLOAT", "f", "1.5")
    assert c("INCR", "f") == NOT_INTEGER
    assert (c("INCRBYFLOAT", "f", "0.5") == bulk(2) and c("INCR", "f") == num(3)
            and c("GET", "f") == bulk(3))
    assert c("INCRBYFLOAT", "f", "1.5") == bulk("4.5")
    assert c("INCRBYFLOAT", "f", "9223372036854775807.5") == bulk("9223372036854775812")
    assert c("INCR", "f") == NOT_INTEGER


# ---- LCS -----------------------------------------------------------------------------------------
def pair(first, last):
    return array(num(first), num(last))


def test_lcs(c):
    c("MSET", "a", "ohmytext", "b", "mynewtext")
    assert c("LCS", "a", "b") == bulk("mytext") and c("LCS", "a", "b", "LEN") == num(6)
    first, second = [pair(4, 7), pair(5, 8)], [pair(2, 3), pair(0, 1)]
    assert (c("LCS", "a", "b", "IDX") == array(bulk("matches"),
                                               array(array(*first), array(*second)), bulk("len"),
                                               num(6)))
    assert c("LCS", "a", "b", "idx", "minmatchlen", 4, "withmatchlen") == \
        array(bulk("matches"), array(array(*first, num(4))), bulk("len"), num(6))
    assert (c("LCS", "a", "b", "IDX", "MINMATCHLEN", -5, "LEN")
            == error("ERR If you want both the length and indexes, please just use IDX."))
    c("MSET", "x", "ab", "y", "ba")
    # of several longest, the one that Redis finds
    assert c("LCS", "x", "y") == bulk("b") and c("LCS", "y", "x") == bulk("a")
    c("DEL", "x", "y")
    assert c("LCS", "a", "missing") == bulk("") and c("LCS", "x", "y", "LEN") == num(0)
    assert c("LCS", "x", "y", "IDX") == array(bulk("matches"), array(), bulk("len"), num(0))
    assert c("LCS", "a", "b", "MINMATCHLEN") == SYNTAX == c("LCS", "a", "b", "x")
    assert c("LCS", "a", "b", "MINMATCHLEN", "x") == NOT_INTEGER
    r3 = Local(resp=3)
    assert (r3("LCS", "x", "y", "IDX") == b"%2\r\n" + bulk("matches") + array() + bulk("len") +
            num(0))


def test_lcs_of_counters_and_of_too_much(c):
    c("INCRBY", "n", 1234)
    c("INCRBY", "m", 9924)
    assert c("LCS", "n", "m") == bulk("24") and c("LCS", "n", "n") == bulk("1234")
    c("SET", "a", b"x" * 20_000)
    assert (c("LCS", "a", "a", "LEN")
            == error("ERR Insufficient memory, transient memory for LCS exceeds "
                     "proto-max-bulk-len"))


# ---- other types, accesses -----------------------------------------------------------------------
HASH = 1


def test_other_types(c):
    probe_make(c.replica, [("member", 0, b"h", ("set", HASH, b"field", b"value"))])
    c.ops()
    for argv in (("GET", "h"), ("SET", "h", 1, "GET"), ("SET", "h", 1, "NX", "GET"),
                 ("GETSET", "h", 1), ("GETDEL", "h"), ("GETEX", "h"), ("STRLEN", "h"),
                 ("GETRANGE", "h", 0, 1), ("APPEND", "h", "x"), ("SETRANGE", "h", 0, "x"),
                 ("SETRANGE", "h", 0, ""), ("INCR", "h"), ("DECRBY", "h", 1),
                 ("INCRBYFLOAT", "h", 1), ("SETBIT", "h", 0, 1), ("GETBIT", "h", 0),
                 ("BITCOUNT", "h"), ("BITPOS", "h", 1), ("BITOP", "OR", "k", "x", "h"),
                 ("BITFIELD", "h"), ("BITFIELD", "h", "SET", "u8", 0, 1),
                 ("BITFIELD_RO", "h", "GET", "u8", 0)):
        assert c(*argv) == WRONG_TYPE, argv
    assert c("LCS", "k", "h") == error("ERR The specified keys must contain string values")
    assert (c("MGET", "h") == array(NULL) and c("SETNX", "h", 1) == num(0)
            and c("MSETNX", "h", 1) == num(0) and c("SET", "h", 1, "NX") == NULL)
    assert c.ops() == 0
    assert c("SET", "h", 1, "XX") == OK and c("GET", "h") == bulk(1)


@pytest.mark.parametrize("argv", [("SET", "h", "v"), ("SET", "h", "v", "EX", 10),
                                  ("MSET", "h", "v"), ("SETEX", "h", 10, "v"),
                                  ("BITOP", "NOT", "h", "k")])
def test_writes_that_replace_another_type(c, argv):
    probe_make(c.replica, [("member", 0, b"h", ("set", HASH, b"field", b"value"))])
    c("SET", "k", "v")
    assert c(*argv)[:1] in b"+:" and c("TYPE", "h") == b"+string\r\n"
    assert c("BITOP", "AND", "h", "missing") == num(0) and c("EXISTS", "h") == num(0)


def test_hits_and_misses(c):
    c("SET", "k", 1)
    before = c.executor.stats()
    for argv in (("GET", "k"), ("GET", "x"), ("MGET", "k", "x", "x"), ("STRLEN", "k"),
                 ("INCR", "k"), ("APPEND", "x", "y")):
        c(*argv)
    after = c.executor.stats()
    assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (3, 3)


# ---- concurrent replicas -------------------------------------------------------------------------
@pytest.fixture
def ab():
    return Local("a"), Local("b")


def both(ab, *argv):
    a, b = ab
    assert a(*argv) == b(*argv)
    return a(*argv)


def test_concurrent_increments_add_up(ab):
    a, b = ab
    a("SET", "n", 10)
    sync(a, b)
    assert a("INCRBY", "n", 7) == num(17) and b("DECRBY", "n", 3) == num(7)
    sync(a, b)
    assert both(ab, "GET", "n") == bulk(14)
    a("INCRBYFLOAT", "n", "0.25")
    b("INCRBYFLOAT", "n", "0.5")
    sync(a, b)
    assert both(ab, "GET", "n") == bulk("14.75")


def test_concurrent_changes_are_all_kept(ab):
    a, b = ab
    a("SET", "k", "base")
    sync(a, b)
    a("APPEND", "k", "-a")
    b.later(1)
    b("SETRANGE", "k", 0, "B")
    sync(a, b)
    assert both(ab, "GET", "k") == bulk("Base-a")


def test_concurrent_set_and_increment(ab):
    a, b = ab
    a("SET", "n", 10)
    sync(a, b)
    a("SET", "n", 100)
    b("INCRBY", "n", 5)
    sync(a, b)
    assert both(ab, "GET", "n") == bulk(105)
    a("SET", "n", "text")
    b("INCR", "n")
    sync(a, b)
    assert both(ab, "GET", "n") == bulk("text") and both(ab, "INCR", "n") == NOT_INTEGER


def test_concurrent_getdel_and_append(ab):
    a, b = ab
    a("SET", "k", "x")
    sync(a, b)
    assert a("GETDEL", "k") == bulk("x")
    b("APPEND", "k", "y")
    sync(a, b)
    assert both(ab, "GET", "k") == b"$-1\r\n"            # it goes with the value it was made in


def test_concurrent_lifetimes(ab):
    a, b = ab
    a("SET", "k", "x")
    sync(a, b)
    a("GETEX", "k", "PX", 1000)
    b.later(1)
    b("GETEX", "k", "PX", 5000)
    sync(a, b)
    assert a.deadline("k") == b.deadline("k") == NOW + 5001


@pytest.mark.parametrize("before", [("HSET", "k", "f", "v"), ("RPUSH", "k", "x"),
                                    ("SADD", "k", "x"), ("ZADD", "k", 1, "x"), ("SET", "k", "v")])
def test_a_set_that_keeps_the_deadline_keeps_that_there_is_none(ab, before):
    """PERSIST is the later word on the deadline, whatever type the key had."""
    a, b = ab
    a(*before)
    a("EXPIRE", "k", 100)
    sync(a, b)
    b("EXPIRE", "k", 5)
    a.later(1)
    a("PERSIST", "k")
    a("SET", "k", "x", "KEEPTTL")
    sync(a, b)
    assert a.deadline("k") == b.deadline("k") == -1 and both(ab, "GET", "k") == bulk("x")


def test_a_set_that_keeps_the_deadline_keeps_the_word_of_a_hidden_set(ab):
    """A's HSET hides B's SET, which was the later word on the deadline: there is none. A's SET
    KEEPTTL takes the place of both."""
    a, b = ab
    c = Local("c")
    sync(a, b, c)
    a("HSET", "k", "f", "v")
    c("SADD", "k", "x")
    c("EXPIRE", "k", 5)
    b.later(1)
    b("SET", "k", "v")
    early = a.replica.take_ops() + b.replica.take_ops()
    a.replica.receive(early)
    a("SET", "k", "x", "KEEPTTL")
    for made in (early, a.replica.take_ops(), c.replica.take_ops()):
        for r in (a, b, c):
            r.replica.receive(made)
    assert {r.deadline("k") for r in (a, b, c)} == {-1}


def test_sum_beyond_64_bits_saturates(ab):
    a, b = ab
    a("SET", "n", MAX - 10)
    sync(a, b)
    a("INCRBY", "n", 8)
    b("INCRBY", "n", 9)
    sync(a, b)
    assert both(ab, "GET", "n") == bulk(MAX) and both(ab, "INCR", "n") == OVERFLOW


def test_an_append_of_nothing_counts_as_a_change_to_who_watches(c):
    c("SET", "k", "v")
    other = c.executor.session()
    c("WATCH", "k")
    c.ops()
    c.executor.execute(other, [b"APPEND", b"k", b""])
    assert c.ops() == 0
    c("MULTI"), c("PING")
    assert c("EXEC") == b"*-1\r\n"

"""SORT and SORT_RO through an Executor; with two of them, what concurrent commands do to a stored
result.

What redis-server answers to the same calls is tested in tests/compat."""
import random

import pytest

from tests.commands.local import Local, sync
from tests.commands.run import Client


@pytest.fixture
def c():
    return Client()


def test_by_number_and_by_text(c):
    c("RPUSH", "l", 10, 9, 1.5, -2, "0x10", "")
    assert c("SORT", "l") == [b"-2", b"", b"1.5", b"9", b"10", b"0x10"]
    assert c("SORT", "l", "DESC") == [b"0x10", b"10", b"9", b"1.5", b"", b"-2"]
    assert c("SORT", "l", "ALPHA") == [b"", b"-2", b"0x10", b"1.5", b"10", b"9"]
    assert c("SORT_RO", "l", "alpha", "desc", "asc", "LIMIT", 1, 2) == [b"-2", b"0x10"]


def test_sets_and_sorted_sets(c):
    c("SADD", "s", 3, 1, 2)
    c("ZADD", "z", 1, "c", 2, "a", 3, "b")
    assert c("SORT", "s", "DESC") == [b"3", b"2", b"1"]
    assert c("SORT", "z", "ALPHA") == [b"a", b"b", b"c"]
    assert c("SORT", "z", "BY", "nosort") == [b"c", b"a", b"b"]
    assert c("SORT", "z", "BY", "nosort", "DESC", "LIMIT", 1, 5) == [b"a", b"c"]
    assert sorted(c("SORT", "s", "BY", "nosort")) == [b"1", b"2", b"3"]
    # what is stored has some order, by text
    c("SORT", "s", "BY", "nosort", "STORE", "out")
    assert c("LRANGE", "out", 0, -1) == [b"1", b"2", b"3"]


def test_equal_numbers_are_ordered_as_texts_equal_weights_stay(c):
    c("RPUSH", "l", "1.0", "01", "1", "b", "a")
    c("LTRIM", "l", 0, 2)
    assert c("SORT", "l") == [b"01", b"1", b"1.0"]
    assert c("SORT", "l", "DESC") == [b"1.0", b"1", b"01"]
    assert c("SORT", "l", "BY", "none_*") == [b"01", b"1", b"1.0"]                  # all 0
    assert c("SORT", "l", "BY", "none_*", "ALPHA") == [b"1.0", b"01", b"1"]
    assert c("SORT", "l", "BY", "none_*", "ALPHA", "DESC") == [b"1.0", b"01", b"1"]


def test_patterns(c):
    c("RPUSH", "l", "a", "b", "c")
    c("MSET", "w_a", 3, "w_b", 1, "x-c-y", 7, "c->", "arrow")
    c("HSET", "h_a", "f", 1, "g", "one")
    c("HSET", "h_c", "f", -1)
    c("INCR", "w_c")
    c("INCR", "w_c")
    assert c("SORT", "l", "BY", "w_*") == [b"b", b"c", b"a"]
    assert c("SORT", "l", "BY", "h_*->f") == [b"c", b"b", b"a"]
    assert c("SORT", "l", "BY", "w_*", "ALPHA", "DESC") == [b"a", b"c", b"b"]
    # no weight comes first
    assert c("SORT", "l", "BY", "h_*->f", "ALPHA") == [b"b", b"c", b"a"]
    assert c("SORT", "l", "BY", "h_*->f", "ALPHA", "DESC") == [b"a", b"c", b"b"]
    assert c("SORT", "l", "ALPHA", "GET", "#", "GET", "h_*->g", "GET", "x-*-y", "GET", "w_a") == [
        b"a", b"one", None, None, b"b", None, None, None, b"c", None, b"7", None]
    # no field: a key of that name
    assert c("SORT", "l", "BY", "nosort", "GET", "*->") == [None, None, b"arrow"]
    assert c("SORT", "l", "BY", "nosort", "GET", "h_*", "GET", "w_*->f") == [None] * 6
    assert c("SORT", "l", "BY", "w_*", "BY", "nosort") == [b"a", b"b", b"c"]


def test_limits(c):
    c("RPUSH", "l", *range(10))
    for sorting in [(), ("BY", "nosort"), ("DESC",), ("BY", "nosort", "DESC")]:
        whole = c("SORT", "l", *sorting)
        for skip in (-5, 0, 1, 9, 10, 2**63 - 1):
            for most in (-2**63, -1, 0, 1, 5, 2**63 - 1):
                first = max(skip, 0)
                assert (c("SORT", "l", *sorting, "LIMIT", skip, most)
                        == (whole[first:] if most < 0 else whole[first:first + most]))


def test_stored(c):
    c("RPUSH", "l", 3, 1, 2)
    c("SET", "out", "x", "EX", 100)
    assert c("SORT", "l", "STORE", "out") == 3
    assert c("LRANGE", "out", 0, -1) == [b"1", b"2", b"3"]
    assert c("TTL", "out") == -1
    # the target is the source
    assert c("SORT", "l", "DESC", "STORE", "l") == 3
    assert c("LRANGE", "l", 0, -1) == [b"3", b"2", b"1"]
    assert c("SORT", "l", "BY", "nosort", "GET", "#", "GET", "none_*", "STORE", "out") == 6
    assert c("LRANGE", "out", 0, -1) == [b"3", b"", b"2", b"", b"1", b""]
    c("MSET", "v_1", "one", "v_2", "two")
    # the target is looked up first
    assert c("SORT", "l", "GET", "v_*", "STORE", "v_1") == 3
    assert c("LRANGE", "v_1", 0, -1) == [b"one", b"two", b""]
    assert c("SORT", "none", "STORE", "out") == 0 and c("EXISTS", "out") == 0
    assert c("SORT", "l", "LIMIT", 3, 1, "STORE", "l") == 0 and c("EXISTS", "l") == 0
    assert c.effects("SORT", "none", "STORE", "out") == 0


@pytest.mark.parametrize("argv, text", [
    (("SORT", "l"), "ERR One or more scores can't be converted into double"),
    (("SORT", "l", "STORE", "out"), "ERR One or more scores can't be converted into double"),
    (("SORT", "n", "BY", "w_*"), "ERR One or more scores can't be converted into double"),
    (("SORT", "l", "LIMIT", 1), "ERR syntax error"),
    (("SORT", "l", "LIMIT", 1, "x"), "ERR value is not an integer or out of range"),
    (("SORT", "l", "BY"), "ERR syntax error"),
    (("SORT", "k", "BAD"), "ERR syntax error"),
    (("SORT_RO", "l", "STORE", "out"), "ERR syntax error"),
    (("SORT", "k"), "WRONGTYPE Operation against a key holding the wrong kind of value")])
def test_refusals_change_nothing(c, argv, text):
    c("RPUSH", "l", "nan", 1)
    c("RPUSH", "n", 1)
    c("MSET", "k", 1, "w_1", "1 x", "out", "kept")
    assert c.error(*argv) == text
    assert c.effects(*argv) == 0 and c("GET", "out") == b"kept"


@pytest.mark.parametrize("text", ["nan", "1 ", "1e400", "-1e400", "1e-400", "abc", "1,5", "--1"])
def test_what_is_no_number(c, text):
    c("RPUSH", "l", 1, text)
    assert "can't be converted" in c.error("SORT", "l")
    assert len(c("SORT", "l", "ALPHA")) == 2


def test_replies_in_resp3(c):
    d = c.other(resp=3)
    d("RPUSH", "l", 2, 1)
    assert (d.raw("SORT", "l", "GET", "none_*", "GET", "#")
            == b"*4\r\n_\r\n$1\r\n1\r\n_\r\n$1\r\n2\r\n")
    assert d.raw("SORT", "none") == b"*0\r\n"


def test_many_elements_against_python(c):
    rng = random.Random(4)
    values = [repr(rng.uniform(-1e6, 1e6)) if rng.random() < 0.5
              else str(rng.randrange(-1000, 1000)) for _ in range(5000)]
    c("RPUSH", "l", *values)
    by_number = sorted(values, key=lambda v: (float(v), v))
    assert c("SORT", "l") == [v.encode() for v in by_number]
    assert c("SORT", "l", "DESC", "LIMIT", 10, 100) == [v.encode() for v in by_number[::-1][10:110]]
    assert c("SORT", "l", "ALPHA") == [v.encode() for v in sorted(values)]
    # all bytes count, NUL too
    texts = [rng.randbytes(rng.randrange(6)) for _ in range(3000)]
    c("RPUSH", "t", *texts)
    assert c("SORT", "t", "ALPHA") == sorted(texts)
    assert c("SORT", "t", "ALPHA", "DESC", "STORE", "out") == 3000
    assert c("LRANGE", "out", 0, -1) == sorted(texts, reverse=True)


def test_an_expired_weight_is_none(c):
    c("RPUSH", "l", 1, 2)
    c("SET", "w_1", 5, "PX", 10)
    c("SET", "w_2", 3)
    assert c("SORT", "l", "BY", "w_*") == [b"2", b"1"]
    c.now += 20
    assert c("SORT", "l", "BY", "w_*") == [b"1", b"2"]


def test_where_the_keys_are(c):
    assert (c("COMMAND", "GETKEYS", "SORT", "l", "BY", "STORE", "LIMIT", 0, 1, "GET", "STORE",
              "STORE", "a", "STORE", "b") == [b"l", b"b"])
    assert c("COMMAND", "GETKEYS", "SORT_RO", "l", "BY", "w_*") == [b"l"]


# ---- two replicas --------------------------------------------------------------------------------

def test_a_stored_result_replaces_what_was_seen():
    """Both sort what they see; the target then has both results. What was pushed concurrently
    stays, as beside any DEL and RPUSH."""
    a, b = Local("a"), Local("b")
    a("RPUSH", "l", 2, 1)
    a("RPUSH", "out", "old")
    sync(a, b)
    a("SORT", "l", "STORE", "out")
    b("RPUSH", "out", "new")
    sync(a, b)
    assert a("LRANGE", "out", 0, -1) == b("LRANGE", "out", 0, -1)
    assert sorted(x for x in a("LRANGE", "out", 0, -1).split(b"\r\n")[2::2]) == [b"1", b"2", b"new"]
    a("SORT", "l", "STORE", "out")
    b("SORT", "l", "DESC", "STORE", "out")
    sync(a, b)
    assert a("LRANGE", "out", 0, -1) == b("LRANGE", "out", 0, -1)
    assert a("LLEN", "out") == b":4\r\n"
    a.replica.check()
    b.replica.check()

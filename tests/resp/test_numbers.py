"""Numbers in text: the same as Redis, and as Python where that is an oracle."""
from __future__ import annotations

import math
import random
import re
import struct

import pytest

from crdtredis._resp import encode_reply, read_double, read_int, read_long_double, show_double
from tests.respclient import Connection, ReplyError

INTEGERS = [b"0", b"-0", b"1", b"-1", b"01", b"+1", b" 1", b"1 ", b"", b"-", b"--1", b"1a",
            b"9223372036854775807", b"9223372036854775808",
            b"-9223372036854775808", b"-9223372036854775809", b"18446744073709551616",
            b"99999999999999999999", b"1" * 21, b"1\0", b"0x1"]
REALS = [b"0", b"-0", b"0.1", b".5", b"5.", b"+1", b"1e3", b"1E-3", b"1e", b"e1", b"0x10",
         b"0x1p-3", b"inf", b"-inf", b"+inf", b"infinity",
         b"INF", b"nan", b"-nan", b"nan(1)", b"", b" 1", b"1 ", b"\t1", b"1\0", b"1e400", b"1e-400",
         b"1e5000", b"-1e5000", b"1e-5000", b"1e-320",
         b"0e-5000", b"3.0", b"123456789012345678901234567890", b"0.00000000000000001",
         b"0.000000000000000001", b"-1e-30", b"--1", b"1,5",
         b"1" * 400, b"0." + b"0" * 300 + b"1", b"1" * 5119, b"1" * 5120]


def test_integers_are_redis_integers(reference):
    rng = random.Random(1)
    texts = INTEGERS + [str(rng.choice([1, -1]) * rng.getrandbits(rng.randrange(1, 66))).encode()
                        for _ in range(2000)]
    with Connection(reference.port) as redis:
        redis("FLUSHALL")
        answers = redis.pipeline(c for t in texts
                                 for c in (("SET", "k", "0"), ("INCRBY", "k", t)))[1::2]
    for text, theirs in zip(texts, answers):
        assert read_int(text) == (None if isinstance(theirs, ReplyError) else theirs), text
        if re.fullmatch(rb"0|-?[1-9][0-9]*", text) and -2**63 <= int(text) < 2**63:
            assert read_int(text) == int(text)


@pytest.mark.parametrize("text", REALS, ids=lambda t: repr(t[:24]))
def test_reals_are_redis_reals(reference, text):
    ours, long = read_double(text), read_long_double(text)
    with Connection(reference.port) as redis:
        redis("FLUSHALL")
        added, increased = redis.pipeline([("ZADD", "z", text, "m"), ("INCRBYFLOAT", "k", text)])
        if len(text) < 5120:                # from there on only Redis's ZADD goes on reading
            assert (ours is None) == isinstance(added, ReplyError)
        if ours is not None:
            assert float(redis("ZSCORE", "z", "m")) == ours
        if long in (b"inf", b"-inf"):
            assert str(increased) == "ERR increment would produce NaN or Infinity"
        else:
            assert long == (None if isinstance(increased, ReplyError) else increased)


def test_long_doubles_print_as_redis_does(reference):
    rng = random.Random(2)
    texts = [b"%d.%0*de%d" % (rng.getrandbits(rng.randrange(1, 80)), rng.randrange(1, 25),
                              rng.getrandbits(30), rng.randrange(-30, 30))
             for _ in range(1000)] + [b"1e4932", b"-1.1e4932"]
    with Connection(reference.port) as redis:
        redis("FLUSHALL")
        theirs = redis.pipeline(c for t in texts
                                for c in (("DEL", "k"), ("INCRBYFLOAT", "k", t)))[1::2]
    assert [read_long_double(t) for t in texts] == theirs


@pytest.mark.parametrize("value, text", [
    (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (-17.0, "-17"), (0.1, "0.1"), (3.14, "3.14"),
    (1e17, "100000000000000000"), (2.0**62, "4611686018427387904"),
    (2.0**63, "9223372036854776000"), (1e22, "1e+22"), (1.5e300, "1.5e+300"),
    (-1.5e-300, "-1.5e-300"), (1e-6, "0.000001"), (1e-7, "1e-7"),
    (0.00012345, "1.2345e-4"), (0.000123, "0.000123"), (0.0001234567, "1.234567e-4"),
    (0.1234567, "0.1234567"), (1234.5678901234567, "1234.5678901234567"),
    (123456.7890123, "1.234567890123e+5"), (5e-324, "5e-324"),
    (2.2250738585072014e-308, "2.2250738585072014e-308"),
    (1.7976931348623157e308, "1.7976931348623157e+308"), (math.inf, "inf"), (-math.inf, "-inf"),
    (math.nan, "nan"),
])
def test_doubles_are_written_as_redis_7_2_does(value, text):
    assert show_double(value).decode() == text
    assert encode_reply(value, 3) == b",%b\r\n" % text.encode()
    assert encode_reply(value, 2) == b"$%d\r\n%b\r\n" % (len(text), text.encode())


def test_doubles_take_the_shortest_digits_that_read_back():
    rng = random.Random(3)
    values = [struct.unpack("d", struct.pack("Q", rng.getrandbits(64)))[0] for _ in range(20000)]
    values += [rng.randrange(10**6) / 10**rng.randrange(9)
               for _ in range(5000)] + [rng.getrandbits(60) * 5e-324 for _ in range(1000)]
    for v in values:
        if math.isfinite(v):
            text = show_double(v).decode()
            assert float(text) == v
            digits = re.sub(r"e.*|[-.]", "", text).strip("0")
            assert digits == re.sub(r"e.*|[-.]", "", repr(v)).strip("0") or float(v).is_integer(), v


def test_doubles_as_the_redis_that_is_installed(reference):
    """7.0 writes 17 digits: it agrees wherever 17 digits drop to the shortest form by
    themselves."""
    with Connection(reference.port) as redis:
        redis("FLUSHALL")
        for text in (b"0", b"1", b"-1", b"0.5", b"1.25", b"1e15", b"inf", b"-inf",
                     b"4503599627370495", b"0.03125"):
            redis("ZADD", "z", text, "m")
            assert redis("ZSCORE", "z", "m") == show_double(float(text)), text

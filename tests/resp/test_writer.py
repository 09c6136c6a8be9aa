"""Replies in both dialects."""
from __future__ import annotations

import random

import pytest

from crdtredis._resp import Refusal, NullArray, Push, Raw, Simple, Verbatim, encode_reply


@pytest.mark.parametrize("value, resp2, resp3", [
    (None, b"$-1\r\n", b"_\r\n"),
    (NullArray(), b"*-1\r\n", b"_\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (-(1 << 63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    (1 << 63, b"$19\r\n9223372036854775808\r\n", b"(9223372036854775808\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
    ("\xe4", b"$2\r\n\xc3\xa4\r\n", b"$2\r\n\xc3\xa4\r\n"),
    ("\udcff", b"$1\r\n\xff\r\n", b"$1\r\n\xff\r\n"),
    (Simple("OK"), b"+OK\r\n", b"+OK\r\n"),
    (Refusal("ERR a\r\nb\r\n"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
    (Verbatim("text"), b"$4\r\ntext\r\n", b"=8\r\ntxt:text\r\n"),
    (Raw(b":7\r\n"), b":7\r\n", b":7\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ((1, [None, b"x"]), b"*2\r\n:1\r\n*2\r\n$-1\r\n$1\r\nx\r\n",
     b"*2\r\n:1\r\n*2\r\n_\r\n$1\r\nx\r\n"),
    ({b"a": 1, "b": [2]}, b"*4\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*1\r\n:2\r\n",
     b"%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*1\r\n:2\r\n"),
    ({7}, b"*1\r\n:7\r\n", b"~1\r\n:7\r\n"),
    (frozenset(), b"*0\r\n", b"~0\r\n"),
    (Push([b"invalidate", None]), b"*2\r\n$10\r\ninvalidate\r\n$-1\r\n",
     b">2\r\n$10\r\ninvalidate\r\n_\r\n"),
])
def test_each_type(value, resp2, resp3):
    assert encode_reply(value) == encode_reply(value, 2) == resp2
    assert encode_reply(value, 3) == resp3


def test_integers_of_every_length():
    rng = random.Random(4)
    for n in {*range(-1100, 1100),
              *(s * 10**e + d for s in (1, -1) for e in range(19) for d in (-1, 0, 1)),
              *(rng.getrandbits(63) for _ in range(1000))}:
        assert encode_reply(n) == b":%d\r\n" % n


@pytest.mark.parametrize("size", [0, 1, 9, 10, 99, 100, 999, 1000, 65535, 65536, 1 << 20])
def test_bulk_strings_of_every_length(size):
    assert (encode_reply([b"x" * size, b"y"]) == b"*2\r\n$%d\r\n%b\r\n$1\r\ny\r\n" %
            (size, b"x" * size))


def test_what_is_no_reply():
    for value in (object(), [1, object()], {b"a": {1: 2j}}):
        with pytest.raises(TypeError, match="no reply is made of"):
            encode_reply(value)

"""Random request streams: whole commands of every form a client may choose, and streams with a few
bytes damaged."""
from __future__ import annotations

import random

from tests.respclient import encode

WORDS = [b"PING", b"ECHO", b"echo", b"nonsense", b"", b"a", b"x" * 17, b"\r\n", b"\xff\xfe", b'"',
         b"'", b"\\", b"*1", b"$3", b"-1", b"a b"]
QUOTED = [b'"a b"', b"'a b'", rb'"\x41\x4a\n\r\t\b\a\q\\"', rb"'\'\n'", b'x"y z"', b"x'y'", b'""',
          b"''", b"plain", b"tab\tbed", b"\x0b\x0c",
          rb'"\x4"', rb'"\xzz"', b"\xc3\xa4"]
UNBALANCED = [b'"a', b"'a", b'"a"b', b"'a'b", rb'"a\"', b'"', b"'", b'""""']
BAD = [b"*2147483648\r\n", b"*x\r\n", b"*\r\n", b"* 1\r\n", b"*01\r\n", b"*1\r\n$-1\r\n",
       b"*1\r\n$x\r\n", b"*1\r\n$\r\n", b"*1\r\n$536870913\r\n",
       b"*1\r\n:1\r\n", b"*1\r\nfoo\r\n", b"*1\r\n\r\n\r\n", b"*1\r\n\xff\r\n",
       b"*1\r\n$9223372036854775808\r\n", b"*99999999999999999999\r\n"]
EMPTY = [b"*0\r\n", b"*-1\r\n", b"*-7\r\n", b"\r\n", b"\n", b"  \t \r\n",
         b"*-9223372036854775808\r\n"]


def words(rng: random.Random) -> list[bytes]:
    return [rng.choice([b"ECHO", b"PING", b"nope"])] + rng.choices(WORDS,
                                                                   k=rng.choice([0, 1, 1, 1, 2, 5]))


def sound(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.6:
        return encode(*words(rng))
    if kind < 0.9:
        return b" ".join([b"ECHO",
                          *rng.choices(QUOTED, k=rng.randrange(4))]) + rng.choice([b"\r\n", b"\n"])
    return rng.choice(EMPTY)


def stream(rng: random.Random) -> bytes:
    """A few commands; in half of the streams the last is broken, or random bytes are changed,
    dropped or doubled."""
    parts = [sound(rng) for _ in range(rng.randrange(1, 6))]
    kind = rng.random()
    if kind < 0.15:
        parts.append(rng.choice(BAD))
    elif kind < 0.3:
        parts.append(b"ECHO " + rng.choice(UNBALANCED) + b"\r\n")
    data = bytearray(b"".join(parts))
    if kind > 0.7:
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            data[at:at + 1] = rng.choice([b"", data[at:at + 1] * 2, bytes([rng.randrange(1, 256)]),
                                          b"\r", b"\n", b"$", b"*", b"9"])
            if not data:
                break
    return bytes(data)

"""What command generators draw from: few keys, so that commands meet; values at every edge; numbers
good and bad.

A generator is a function `command(rng) -> argv` (a tuple of bytes, str or numbers): one random call
of its command group, mostly valid, sometimes with a wrong option, arity or type. It must be a
function of `rng` alone, must not depend on wall time (relative deadlines lie at least 100 s ahead
or in the past), and must not emit commands that stop, block or reconfigure the server.
"""
from __future__ import annotations

import random

KEYS = ["k", "n", "n2", "f", "s", "empty", "{t}1", "{t}2", "missing", "bin\0\r\n\xff"]
# sequences use the databases below this one
DATABASES = 3

INTEGERS = ["0", "1", "-1", "2", "10", "100", "255", "-128", "65536", "4294967296",
            "9223372036854775807", "-9223372036854775808",
            "9223372036854775806"]
BAD_INTEGERS = ["", "+1", "01", "-0", "1.0", "1e3", " 1", "1 ", "x", "0x10", "9223372036854775808",
                "-9223372036854775809",
                "18446744073709551616", "1\0"]
FLOATS = ["0", "1.5", "-2.25", "3.0", "1e3", "-1e-3", "0.1", "0.2", "1e15", "123456789.123456789",
          "5.0e-2", ".5", "5."]
BAD_FLOATS = ["", "nan", "inf", "-inf", "+inf", "1e400", "abc", "1,5", " 1", "1 ", "0x1p3", "1e",
              "--1"]
# out of range for a double; having read such a one, Redis refuses the next SORT
BAD_DOUBLES = [x for x in BAD_FLOATS if x != "1e400"]
TEXTS = ["", "a", "abc", "hello world", "\0\1\2", "\xff\xfe", "12abc", "x" * 44, "y" * 45,
         "long" * 300, "line\r\nbreak"]


def key(rng: random.Random) -> bytes:
    return rng.choice(KEYS).encode("latin-1")


def integer(rng: random.Random, bad: float = 0.08) -> bytes:
    if rng.random() < bad:
        return rng.choice(BAD_INTEGERS).encode()
    return rng.choice(INTEGERS).encode() if rng.random() < 0.5 else b"%d" % rng.randint(-20, 20)


def index(rng: random.Random, bad: float = 0.05) -> bytes:
    """A position inside or just outside a short string."""
    return integer(rng) if rng.random() < bad else b"%d" % rng.randint(-15, 15)


def real(rng: random.Random, bad: float = 0.08) -> bytes:
    return rng.choice(BAD_FLOATS if rng.random() < bad else FLOATS).encode()


def text(rng: random.Random) -> bytes:
    return rng.choice(TEXTS).encode("latin-1")


def value(rng: random.Random) -> bytes:
    """Text, a whole number or a fraction."""
    return rng.choice([text, text, integer, real])(rng)


def case(rng: random.Random, word: str) -> str:
    """The word, now and then in another case: command names and options are case-insensitive."""
    return word if rng.random() < 0.8 else rng.choice([word.lower(), word.title(), word.swapcase()])

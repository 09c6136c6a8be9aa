"""Deadlines at the edges of what a number can say, compared with redis-server: reply, and the
deadline that results."""
from __future__ import annotations

import pytest

from tests.respclient import ReplyError

NUMBERS = ["0", "-0", "-1", "100000", "1.5", "nan", "inf", "1e308", "", "x", " 1", "+1", "01",
           "0x10", "1700000000", "9007199254740993", "4611686018427387904",
           "9223372036854774", "9223372036854775", "9223372036854776", "9223370336854775",
           "7523372036854775807", "9223372036854775000",
           "9223372036854775807", "9223372036854775808", "18446744073709551616",
           "-9223372036854775", "-9223372036854776",
           "-9223372036854775807", "-9223372036854775808", "-9223372036854775809"]
COMMANDS = [*(f"SET k v {option} {{}}" for option in ("EX", "PX", "EXAT", "PXAT")),
            *(f"GETEX k {option} {{}}" for option in ("EX", "PX", "EXAT", "PXAT")),
            "SETEX k {} v", "PSETEX k {} v",
            *(f"{name} k {{}}{option}" for name in ("EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT")
              for option in ("", " NX", " XX", " GT", " LT"))]


@pytest.mark.parametrize("before", [None, 1_000_000, 2**62],
                         ids=["without a deadline", "soon", "late"])
def test_deadlines_at_the_edges(reference, server, before):
    with reference.connect() as theirs, server(appendfsync="no").connect() as ours:
        def answer(c, argv):
            c("SET", "k", "old")
            if before:
                c("PEXPIRE", "k", before)
            try:
                reply = c(*argv)
            except ReplyError as e:
                reply = str(e)
            return reply, c("PTTL", "k"), c("GET", "k")

        theirs("FLUSHALL")
        for command in COMMANDS:
            for number in NUMBERS:
                if before and number == str(before) and command.endswith(("GT", "LT")):
                    # decided by whether a millisecond has passed
                    continue
                argv = [number if word == "{}" else word for word in command.split()]
                (reply, ttl, value), (expected, their_ttl,
                                      their_value) = answer(ours, argv), answer(theirs, argv)
                assert (reply, value) == (expected, their_value), argv
                assert ttl == their_ttl or (ttl > 0 and abs(ttl - their_ttl) < 60_000), argv

"""Ten thousand starts of one replica in a live cluster: run by hand, for hours, or with fewer:
STARTS=1000 pytest -s tests/real/slow_restarts.py

Each adds to the same hundred counters and is killed. What is left afterwards, in all three, must be
what a cluster has that did the same without a restart.
"""
import faulthandler
import os

import pytest

from tests.real.test_false_handshakes import shake_hands
from tests.real.test_restarts import clock, entries, restart_often

STARTS = int(os.environ.get("STARTS", "10000"))


def left(c) -> list:
    """Per replica: entries of a counter, size of its handshake, keys, memory."""
    out = []
    for s in c:
        _, _, told = shake_hands(s, [])
        memory = next(int(line.split(b":")[1]) for line in s("INFO", "memory").split(b"\r\n")
                      if line.startswith(b"used_memory_dataset:"))
        out.append((entries(s), len(told), len(clock(s)), s("DBSIZE"), memory))
    return out


@pytest.mark.timeout(0)
def test_what_is_left_of_many_restarts(cluster):
    faulthandler.cancel_dump_traceback_later()          # which would end it after some minutes
    c, fresh = cluster(3), cluster(3)
    restart_often(c, STARTS)
    restart_often(fresh, STARTS, fresh=True)
    for some in (c, fresh):
        some.sync()
        some.assert_converged()
        assert some[2]("GET", "counter:7") == b"%d" % STARTS
    for found, expected in zip(left(c), left(fresh), strict=True):
        print("entries, handshake, clock, keys, memory:", found, "without restarts:", expected)
        assert found[:4] == expected[:4]
        assert abs(found[4] - expected[4]) <= expected[4] * 0.05

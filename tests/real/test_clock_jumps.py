"""A wall clock that is set while clients wait: what they wait for, a pause and idleness are
measured by a clock that nobody sets."""
import mmap
import re
import struct
import time

import pytest

from tests.real.chaos import library
from tests.real.cluster import Server, until

HOUR = 3_600_000                # ms


@pytest.fixture
def jumping(tmp_path, processes):
    """A server and jump(ms), which sets its clock so far off the true one."""
    clock = tmp_path / "clock"
    clock.write_bytes(bytes(8))
    server = Server("a", max_clock_skew="24h", timeout="600s")
    server.start(LD_PRELOAD=str(library(tmp_path)), WRONG_CLOCK=str(clock))
    with open(clock, "r+b") as f, mmap.mmap(f.fileno(), 0) as off:
        yield server, lambda ms: struct.pack_into("=q", off, 0, ms)


WAITING = [("BLPOP", "q", "1"), ("BZPOPMIN", "q", "1"), ("WAIT", "1", "1000")]


def blocked(server, n: int) -> None:
    until(lambda: int(re.search(rb"blocked_clients:(\d+)", server("INFO", "clients"))[1]) == n)


def test_time_limits_are_kept_though_the_clock_is_set_back(jumping):
    server, jump = jumping
    clients = [server.connect(timeout=60) for _ in WAITING]
    for c, command in zip(clients, WAITING):
        c.send(*command)
    blocked(server, len(WAITING))
    jump(-HOUR)
    assert [c.read() for c in clients] == [None, None, 0]


def test_time_limits_do_not_end_early_though_the_clock_is_set_ahead(jumping):
    server, jump = jumping
    clients = [server.connect() for _ in WAITING]
    for c, command in zip(clients, WAITING):
        c.send(*command[:-1], 300 * int(command[-1]))
    blocked(server, len(WAITING))
    jump(HOUR)
    until(lambda: int(server("TIME")[0]) > time.time() + HOUR / 2000)
    blocked(server, len(WAITING))


def test_a_pause_ends_though_the_clock_is_set_back(jumping):
    server, jump = jumping
    with server.connect(timeout=60) as c:
        assert c("CLIENT", "PAUSE", "500") == b"OK"
        jump(-HOUR)
        assert c("GET", "k") is None


def test_nobody_counts_as_idle_because_the_clock_was_set_ahead(jumping):
    server, jump = jumping
    with server.connect() as c:
        c("CLIENT", "SETNAME", "quiet")
        jump(HOUR)
        rows = until(lambda: int(server("TIME")[0]) > time.time() + HOUR / 2000
                     and server("CLIENT", "LIST"))
        idle, = re.findall(rb"name=quiet age=\d+ idle=(\d+)", rows)
        assert int(idle) < 600
        assert c("PING") == b"PONG"


def test_deadlines_are_looked_at_though_the_clock_is_set_back(jumping):
    server, jump = jumping
    for _ in range(2):
        server("SET", "k", "v", "PX", "50")
        until(lambda: server("DBSIZE") == 0)
        jump(-HOUR)

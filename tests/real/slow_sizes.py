"""Values and operations as large as they may be, in real processes: minutes and gigabytes. Run by
hand: pytest -s tests/real/slow_sizes.py"""
import time

import pytest

from tests.real.cluster import Server, until
from tests.real.slow_large_ops import MB, peak, reset_peak
from tests.respclient import ReplyError

TOO_LARGE = "ERR operation too large"


@pytest.fixture
def server(processes):
    return Server("a").start()


def large(server, **values: int) -> None:
    """Sets keys to values of so many bytes."""
    with server.connect(timeout=120.0) as c:
        for i, (key, size) in enumerate(values.items()):
            assert c("SET", key, bytes([65 + i]) * size) == b"OK"


def test_many_large_commands_in_one_pipeline_are_logged_so_that_they_can_be_read_again(server):
    """One record of them all was longer than its length field can tell."""
    large(server, s=450 * MB)
    reset_peak(server)
    begun = time.monotonic()
    with server.connect(timeout=300.0) as c:
        replies = c.pipeline([("COPY", "s", "d", "REPLACE")] * 10)
    took = time.monotonic() - begun
    most = peak(server)
    print(f"\n10 COPYs of 450 MB: {took:.1f} s, {most / MB:.0f} MB resident at most")
    assert replies == [1] * 10
    server.kill()
    begun = time.monotonic()
    server.start(wait=False)
    server.wait_ready(300.0)
    until(lambda: loaded(server), 300.0)
    print(f"started again in {time.monotonic() - begun:.1f} s, {peak(server) / MB:.0f} MB resident "
          "at most")
    assert server("STRLEN", "d") == 450 * MB and most < 2000 * MB


def loaded(server) -> bool:
    try:
        return server("EXISTS", "d") == 1
    except ReplyError as e:
        assert str(e).startswith("LOADING")
        return False


def test_no_value_is_longer_than_can_be_read_again(server):
    with pytest.raises(ReplyError, match="expected a size from 1mb to 512mb"):
        server("CONFIG", "SET", "proto-max-bulk-len", "2gb")
    large(server, d=512 * MB)
    with server.connect(timeout=120.0) as c, pytest.raises((ReplyError, OSError)):
        c("SET", "e", b"x" * (512 * MB + 1))
    with pytest.raises(ReplyError, match="exceeds maximum allowed size"):
        server("APPEND", "d", "x")
    server.kill()
    server.start(wait=False)
    server.wait_ready(300.0)
    until(lambda: loaded(server), 300.0)
    assert server("STRLEN", "d") == 512 * MB and server("EXISTS", "e") == 0


def test_a_transaction_that_becomes_too_large_is_refused_where_it_does_and_reaches_its_peer(
        cluster):
    servers = cluster(2)
    servers.sync()
    a, b = servers[0], servers[1]
    large(a, s=300 * MB)
    for s in servers:
        reset_peak(s)
    with a.connect(timeout=120.0) as c:
        c("MULTI")
        for target in "xyz":
            c("COPY", "s", target)
        c("INCR", "n")
        replies = c("EXEC")
    assert [r if isinstance(r, int) else str(r) for r in replies] == [1, 1, TOO_LARGE, 1]
    until(lambda: b("EXISTS", "x") == 1, 300.0)
    assert b("STRLEN", "y") == 300 * MB and b("EXISTS", "z") == 0
    servers.assert_converged(120.0)
    print(f"\n600 MB in one op: {', '.join(f'{peak(s) / MB:.0f}' for s in servers)} MB resident at "
          "most, with 900 MB of data")


def test_an_answer_beyond_the_output_limit_takes_no_memory(server):
    server("CONFIG", "SET", "client-output-buffer-limit", f"normal {20 * MB} 0 0")
    large(server, v=5 * MB)
    time.sleep(3)                                   # until what the value came in is given back
    reset_peak(server)
    before = server.resident_bytes()
    with server.connect(timeout=60.0) as c, pytest.raises(OSError):
        c("MGET", *["v"] * 100)
    print(f"\nMGET of 500 MB with a limit of 20 MB: {(peak(server) - before) / MB:.0f} MB")
    assert peak(server) - before < 60 * MB and server("PING") == b"PONG"

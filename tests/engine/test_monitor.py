"""MONITOR and sockets: a client that does not read costs bounded memory, and one that goes leaves
nothing behind."""
from tests.engine.conftest import with_threads


def monitoring(s):
    c = s.connect()
    c.send("MONITOR")
    c.expect(b"+OK\r\n")
    return c


@with_threads
def test_who_does_not_read_is_let_go(served):
    s = served(monitor_hard=1_000_000)
    slow, worker = monitoring(s), s.connect()
    for _ in range(300):
        worker.send("ECHO " + "x" * 50_000)
        worker.expect(b"$50000\r\n" + b"x" * 50_000 + b"\r\n")
        omem = s.on_engine(lambda: max(row["omem"] for row in s.loop.clients()))
        assert omem <= 1_000_000
    assert s.on_engine(lambda: s.loop.stats()["closed_output"]) == 1
    slow.closed()


@with_threads
def test_one_that_goes_is_shown_nothing_more(served):
    s = served()
    first, second, third, worker = monitoring(s), monitoring(s), monitoring(s), s.connect()
    second.sock.close()
    s.wait(lambda: s.loop.stats()["connected"] == 3)
    worker.send("PING")
    worker.expect(b"+PONG\r\n")
    first.send("RESET")
    third.sock.close()
    s.wait(lambda: s.loop.stats()["connected"] == 2)
    worker.send("PING")
    worker.expect(b"+PONG\r\n")
    rest = b""
    while not rest.endswith(b"+RESET\r\n"):
        rest += first.read(1)
    assert rest.count(b'"PING"') == 1
    assert first.silent()


def test_a_long_pipeline_is_shown_whole_and_in_order(served):
    s = served()
    monitor, worker = monitoring(s), s.connect()
    n = 3000
    worker.send(*[f"ECHO {i}" for i in range(n)])
    for i in range(n):
        line = b""
        while not line.endswith(b"\r\n"):
            line += monitor.read(1)
        assert line.endswith(b'] "ECHO" "%d"\r\n' % i)

"""Clients that wait for keys, over sockets: their pipelines, their ends, pauses, peers and the
log."""
from __future__ import annotations

import os
import socket
import time

import pytest

from crdtredis._engine import OPS, Bridge, Executor
from tests.engine.conftest import encode, with_threads
from tests.engine.test_bridge import batch_of
from tests.engine.test_loop import attached

OK, PONG, NULL = b"+OK\r\n", b"+PONG\r\n", b"*-1\r\n"


def popped(key: str, element: str) -> bytes:
    return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key.encode(), len(element),
                                                  element.encode())


def blocked(s, n: int) -> None:
    s.wait(lambda: s.loop.stats()["blocked"] == n)


@with_threads
def test_what_is_pipelined_behind_waits(served):
    s = served()
    c, d = s.connect(), s.connect()
    c.send("PING", "BLPOP k 0", "PING", "BLPOP k 0", "ECHO x")
    c.expect(PONG)
    assert c.silent()
    d.send("RPUSH k 1").expect(b":1\r\n")
    c.expect(popped("k", "1") + PONG)
    assert c.silent()
    c.send("ECHO y")
    d.send("RPUSH k 2").expect(b":1\r\n")
    c.expect(popped("k", "2") + b"$1\r\nx\r\n$1\r\ny\r\n")


@with_threads
def test_a_command_cut_behind_a_wait(served):
    s = served()
    c, d = s.connect(), s.connect()
    rest = encode("SET a " + "x" * 1000)
    c.raw(encode("BLPOP k 0") + rest[:500])
    blocked(s, 1)
    d.send("RPUSH k 1").expect(b":1\r\n")
    c.expect(popped("k", "1"))
    c.raw(rest[500:])
    c.expect(OK)


@with_threads
def test_fifty_clients_are_served_in_order(served):
    s = served()
    waiting = [s.connect() for _ in range(50)]
    for i, c in enumerate(waiting):
        c.send("BLPOP k other 0" if i % 2 else "BLPOP other k 0")
        blocked(s, i + 1)
    d = s.connect()
    d.send("RPUSH k " + " ".join(map(str, range(20)))).expect(b":20\r\n")
    for i in range(20, 40):
        d.send(f"LPUSH k {i}").expect(b":1\r\n")
    d.send("MULTI", *(f"RPUSH k {i}" for i in range(40, 50)), "EXEC").read(1)
    for i, c in enumerate(waiting):
        c.expect(popped("k", str(i)))
    blocked(s, 0)


@with_threads
def test_a_client_that_is_gone_takes_nothing(served):
    s = served()
    ways = [lambda c: c.sock.close(), lambda c: c.sock.shutdown(socket.SHUT_WR),
            lambda c: c.sock.shutdown(socket.SHUT_RDWR)]
    d = s.connect()
    for leave in ways:
        c = s.connect()
        c.send("BLPOP k 0", "SET behind 1")
        blocked(s, 1)
        leave(c)
        s.wait(lambda: s.loop.connected == 1)
        d.send("RPUSH k x", "DEL k").expect(b":1\r\n:1\r\n")
    d.send("GET behind", "CLIENT ID").expect(b"$-1\r\n:1\r\n")


@with_threads
def test_time_limits(served):
    s = served()
    a, b, c = s.connect(), s.connect(), s.connect()
    began = time.monotonic()
    a.send("BLPOP k 0.1", "PING").expect(NULL + PONG)
    assert time.monotonic() - began > 0.09
    a.send("BLPOP k 20")
    b.send("BLPOP k 0.05").expect(NULL)
    assert s.on_engine(lambda: s.loop.stats()["timeouts"]) == 1
    c.send("RPUSH k x").expect(b":1\r\n")
    a.expect(popped("k", "x"))
    c.send("BLPOP k 0.001").expect(NULL)
    assert s.on_engine(lambda: s.loop.stats()["timeouts"]) == 0


@with_threads
def test_client_unblock_and_kill(served):
    s = served()
    a, b, d = s.connect(), s.connect(), s.connect()
    a.send("CLIENT ID").expect(b":1\r\n")
    b.send("CLIENT ID").expect(b":2\r\n")
    d.send("CLIENT UNBLOCK 1", "CLIENT UNBLOCK 99").expect(b":0\r\n:0\r\n")
    a.send("BLPOP k 0", "PING")
    blocked(s, 1)
    d.send("CLIENT UNBLOCK 1").expect(b":1\r\n")
    a.expect(NULL + PONG)
    a.send("BLMOVE k l LEFT LEFT 0")
    b.send("BZPOPMIN k 100")
    blocked(s, 2)
    d.send("CLIENT UNBLOCK 1 ERROR", "CLIENT UNBLOCK 1", "CLIENT UNBLOCK 2 TIMEOUT",
        "CLIENT UNBLOCK 2 LATER").expect(
        b":1\r\n:0\r\n:1\r\n-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n")
    a.expect(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")
    b.expect(NULL)
    a.send("BLPOP k 0")
    blocked(s, 1)
    d.send("CLIENT KILL ID 1", "RPUSH k x", "LLEN k").expect(b":1\r\n:1\r\n:1\r\n")
    assert a.closed() == b""


def test_client_list(served):
    s = served()
    a, d = s.connect(), s.connect()
    a.send("BLPOP k 0", "PING")
    blocked(s, 1)
    row = s.on_engine(lambda: s.loop.clients())[0]
    assert row["flags"] == "b" and row["cmd"] == "blpop"
    assert row["qbuf"] == len(encode("PING")) and row["tot-mem"] < 20_000
    d.send("RPUSH k x").expect(b":1\r\n")
    a.expect(popped("k", "x") + PONG)
    assert s.on_engine(s.loop.clients)[0]["flags"] == "N"


def test_waiting_clients_own_no_read_buffer(served):
    s = served()
    many = [s.connect() for _ in range(200)]
    for c in many:
        c.send("BLPOP k 0")
    blocked(s, 200)
    assert max(row["tot-mem"] for row in s.on_engine(s.loop.clients)) < 5_000
    d = s.connect()
    d.send("RPUSH k " + " ".join("x" * 200)).expect(b":200\r\n")
    for c in many:
        c.expect(popped("k", "x"))


def test_elements_from_a_peer(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    bridge.set_wanted(True)
    c = s.connect()
    c.send("BLPOP k 0", "BZPOPMIN z 0")
    blocked(s, 1)
    batch, peer = batch_of("RPUSH k x y", "ZADD z 1 m")
    bridge.send_receive(1, batch)
    c.expect(popped("k", "x") + b"*3\r\n$1\r\nz\r\n$1\r\nm\r\n$1\r\n1\r\n")
    deadline = time.monotonic() + 30
    peer.now = int(time.time() * 1000)
    # the loop may have done so before anybody wanted ops
    peer.declare(s.replica.id, s.replica.epoch)
    while time.monotonic() < deadline:
        for kind, _, data in bridge.drain():
            if kind == OPS:
                peer.receive(data)
        if peer.clock() == s.on_engine(s.replica.clock):
            break
    assert peer.digest() == s.on_engine(s.replica.digest)
    x = Executor(peer)
    assert x.execute(x.session(), [b"LRANGE", b"k", b"0", b"-1"]) == b"*1\r\n$1\r\ny\r\n"


@with_threads
@pytest.mark.parametrize("mode", ["WRITE", "ALL"])
def test_nobody_is_served_during_a_pause(served, mode):
    bridge = Bridge()
    s = served(bridge=bridge)
    a, b, d = s.connect(), s.connect(), s.connect()
    a.send("BLPOP k 0")
    blocked(s, 1)
    b.send("BLPOP k 0.05")
    blocked(s, 2)
    d.send(f"CLIENT PAUSE 60000 {mode}").expect(OK)
    batch, _ = batch_of("RPUSH k x")
    bridge.send_receive(1, batch)
    b.expect(NULL)                          # time limits run on
    assert a.silent(0.1)
    s.on_engine(s.loop.unpause)             # in mode ALL no client can ask for it
    a.expect(popped("k", "x"))


def test_what_peers_send_waits_for_the_end_of_a_join(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    a = s.connect()
    a.send("BLPOP k 0")
    blocked(s, 1)
    s.on_engine(lambda: setattr(s.loop, "joining", True))
    bridge.send_receive(1, batch_of("RPUSH k x")[0])
    assert a.silent(0.1) and s.replica.keys()[0] == 0 and bridge.incoming[0] == 1
    s.on_engine(lambda: setattr(s.loop, "joining", False))
    a.expect(popped("k", "x"))


def test_a_pause_that_is_ended_by_a_client(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    a, d = s.connect(), s.connect()
    a.send("BLPOP k 0")
    blocked(s, 1)
    d.send("CLIENT PAUSE 60000 WRITE").expect(OK)
    bridge.send_receive(1, batch_of("RPUSH k x")[0])
    assert a.silent(0.1)
    d.send("CLIENT UNPAUSE").expect(OK)
    a.expect(popped("k", "x"))


def test_who_waits_is_not_served_while_writes_are_refused_for_the_clock(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    c = s.connect()
    c.send("BLPOP k 0")
    blocked(s, 1)
    s.connect().send("SET a 1").expect(OK)
    # what has just been stamped is too far ahead
    s.on_engine(lambda: setattr(s.replica, "max_clock_skew", -1000))
    batch, _ = batch_of("RPUSH k 1")
    bridge.send_receive(1, batch)
    s.wait(lambda: s.replica.keys()[0] == 2)
    assert c.silent()
    s.on_engine(lambda: setattr(s.replica, "max_clock_skew", 60_000))
    c.expect(popped("k", "1"))


def test_a_command_that_a_pause_held_back_may_wait(served):
    s = served()
    a, d = s.connect(), s.connect()
    d.send("CLIENT PAUSE 100 WRITE").expect(OK)
    a.send("BLPOP k 0", "PING")
    d.send("RPUSH k x").expect(b":1\r\n")
    a.expect(popped("k", "x") + PONG)


def test_nobody_is_told_of_an_element_that_is_not_logged(served, tmp_path):
    writer = attached(tmp_path / "log")
    s = served(log=writer)
    a, d = s.connect(), s.connect()
    a.send("ECHO a", "BLPOP k 0")
    a.expect(b"$1\r\na\r\n")
    blocked(s, 1)
    s.on_engine(lambda: writer.attach(os.open("/dev/full", os.O_WRONLY), 1, 0, 0, 1 << 40, 0))
    refusal = b"-MISCONF Errors writing to the AOF file: No space left on device\r\n"
    d.send("RPUSH k x").expect(refusal)
    a.expect(refusal)
    a.send("PING").expect(PONG)
    a.send("BLPOP k 0").expect(refusal)


@with_threads
def test_shutting_down_with_clients_waiting(served):
    s = served()
    many = [s.connect() for _ in range(20)]
    for c in many:
        c.send("BLPOP k 5", "PING")
    blocked(s, 20)
    s.loop.stop()
    s.thread.join(5)
    assert not s.thread.is_alive()
    assert [c.closed() for c in many] == [b""] * 20


def test_a_reply_that_nobody_wants(served):
    s = served()
    a, d = s.connect(), s.connect()
    a.send("CLIENT REPLY SKIP", "BLPOP k 0", "PING")
    blocked(s, 1)
    d.send("RPUSH k x").expect(b":1\r\n")
    a.expect(PONG)
    a.send("CLIENT REPLY OFF", "BLPOP k 0", "CLIENT REPLY ON")
    blocked(s, 1)
    d.send("RPUSH k x").expect(b":1\r\n")
    a.expect(OK)


def test_a_move_by_the_one_who_waits_and_then_works(served):
    """A worker's loop: take a job into a list of its own, do it, remove it."""
    s = served()
    worker, d = s.connect(), s.connect()
    for _ in range(300):
        worker.send("BLMOVE jobs mine LEFT RIGHT 0", "LREM mine 1 job")
    for _ in range(300):
        d.send("RPUSH jobs job").expect(b":1\r\n")
    worker.expect(b"$3\r\njob\r\n:1\r\n" * 300)
    d.send("EXISTS jobs mine").expect(b":0\r\n")


def test_a_client_that_was_served_late_has_not_been_idle(served):
    s = served(timeout=2, hz=100)
    a, d = s.connect(), s.connect()
    a.send("BLPOP k 0")
    for _ in range(25):
        time.sleep(0.1)
        d.send("PING").expect(PONG)
    d.send("RPUSH k x").expect(b":1\r\n")
    a.expect(popped("k", "x"))
    time.sleep(0.3)
    a.send("PING").expect(PONG)


def test_a_large_element_that_goes_round_many_clients(served):
    """Each move is an op with the whole element; a loop iteration takes no more than it does of
    other commands."""
    s = served()
    many = [s.connect() for _ in range(30)]
    for i, c in enumerate(many):
        c.send("BLMOVE k k LEFT RIGHT 0")
        blocked(s, i + 1)
    last, d = s.connect(), s.connect()
    last.send("BLPOP k 0")
    blocked(s, 31)
    element = b"x" * (10 << 20)
    iterations = s.on_engine(lambda: s.loop.stats()["iterations"])
    d.send([b"RPUSH", b"k", element]).expect(b":1\r\n")
    last.sock.settimeout(60)
    last.expect(b"*2\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(element), element))
    for c in many:
        c.expect(b"$%d\r\n%b\r\n" % (len(element), element))
    assert s.on_engine(lambda: s.loop.stats()["iterations"]) - iterations > 30 * 10 // 32
    d.send("EXISTS k").expect(b":0\r\n")

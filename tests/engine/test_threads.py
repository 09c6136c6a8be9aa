"""I/O threads: whatever a client may notice is as without them. Tests of the other files here that
have `with_threads` run with two and with four of them, too; the rest, and tests/real, where
CRDT_REDIS_IO_THREADS says how many."""
from __future__ import annotations

import os
import random
import re
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Executor, Loop
from tests.engine.conftest import encode
from tests.engine.test_scripts import BUSY, KILLED, line
from tests.real.cluster import ROOT, free_port

COMMANDS = ["PING", "SET {k} {v}", "GET {k}", "INCR {k}:n", "APPEND {k} {v}", "STRLEN {k}",
            "RPUSH {k}:l {v} b", "LPOP {k}:l", "LRANGE {k}:l 0 -1", "NOPE {k}", "MULTI", "EXEC",
            "DISCARD", "SELECT 1", "SELECT 0", "HELLO 3", "HELLO 2", "HGETALL {k}:h",
            "HSET {k}:h f {v}", "CLIENT REPLY SKIP", "ECHO {v}", "BLPOP {k}:l {k}:none 0.001"]

several = pytest.mark.parametrize("threads", [2, 4])


def threads_of_process() -> dict[str, str]:
    """{id: name} of the I/O threads."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
        except OSError:
            continue
        if name.startswith("io_"):
            found[task.name] = name
    return found


# ---- clients that come and go --------------------------------------------------------------------

class Talk:
    """One connection's life: bytes to be sent in pieces, and how it ends. `alone` is what it is
    replied to by a server that nobody else talks to."""

    def __init__(self, rng: random.Random, number: int):
        self.end = rng.choice(["quit", "half", "half", "reset"])
        # who hangs up while it is blocked is closed at once: it is not said when that is
        commands = COMMANDS if self.end == "quit" else COMMANDS[:-1]
        self.data = b"".join(
            encode(rng.choice(commands).format(k=f"k{number}",
                                               v="x" * rng.choice([1, 9, 300, 5000, 40_000])))
            for _ in range(rng.choice([1, 1, 3, 10, 60])))
        if self.end == "quit":
            self.data += encode("QUIT")
        self.pieces, at = [], 0
        while at < len(self.data):
            n = rng.choice([1, 20, 100, 2000, 100_000])
            self.pieces.append(self.data[at:at + n])
            at += n
            if len(self.pieces) > 20:
                self.pieces.append(self.data[at:])
                break
        self.got = bytearray()


def alone(s, talks):
    for t in talks:
        c = s.connect()
        threading.Thread(target=send_all, args=(c.sock, t)).start()
        yield c.closed()
        c.sock.close()
        s.sockets.clear()


def without_ids(replies: bytes) -> bytes:
    """HELLO says which client it is."""
    return re.sub(rb"id\r\n:\d+", rb"id\r\n:0", replies)


def send_all(sock, talk):
    sock.sendall(talk.data)
    if talk.end != "quit":
        sock.shutdown(socket.SHUT_WR)


@several
@pytest.mark.parametrize("seed", range(int(os.environ.get("CHAOS_SEEDS", "2"))))
def test_hundreds_come_and_go_and_get_what_they_would_get_alone(served, seed, threads):
    rng = random.Random(seed)
    talks = [Talk(rng, i) for i in range(500)]
    s = served(io_threads=threads)
    waiting, selector = list(talks), selectors.DefaultSelector()
    deadline = time.monotonic() + 60
    while waiting or selector.get_map():
        assert time.monotonic() < deadline, "replies are missing"
        while waiting and len(selector.get_map()) < 150:
            sock = socket.create_connection(("127.0.0.1", s.port))
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, waiting.pop())
        for key, events in selector.select(1):
            sock, t = key.fileobj, key.data
            try:
                if events & selectors.EVENT_WRITE and t.pieces and rng.random() < 0.7:
                    t.pieces[0] = t.pieces[0][sock.send(t.pieces[0]):]
                    if not t.pieces[0]:
                        t.pieces.pop(0)
                    if not t.pieces:
                        selector.modify(sock, selectors.EVENT_READ, t)
                        if t.end == "half":
                            sock.shutdown(socket.SHUT_WR)
                if not t.pieces and t.end == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    gone = True
                elif events & selectors.EVENT_READ:
                    got = sock.recv(1 << 16)
                    t.got += got
                    gone = not got
                else:
                    gone = False
            except BlockingIOError:
                continue
            if gone:
                selector.unregister(sock)
                sock.close()
    s.wait(lambda: s.loop.connected == 0)
    stats = s.on_engine(s.loop.stats)
    assert stats["threaded_reads"] > 100 and stats["threaded_writes"] > 100
    for t, expected in zip(talks, alone(served(io_threads=1), talks), strict=True):
        got, expected = without_ids(t.got), without_ids(expected)
        assert got == expected if t.end != "reset" else expected.startswith(got)


@several
def test_large_values_of_many(served, threads):
    """Bytes that no piece holds, and replies that no socket takes at once."""
    s = served(io_threads=threads)
    values = [bytes([65 + i]) * (3_000_000 + 1000 * i) for i in range(12)]
    clients = [s.connect() for _ in values]

    def send(client, i):
        client.send([b"SET", b"k%d" % i, values[i]], f"GET k{i}", f"STRLEN k{i}")
    senders = [threading.Thread(target=send, args=(c, i)) for i, c in enumerate(clients)]
    for t in senders:
        t.start()
    for i, c in enumerate(clients):
        c.expect(b"+OK\r\n$%d\r\n%b\r\n:%d\r\n" % (len(values[i]), values[i], len(values[i])))


@several
def test_messages_to_many_subscribers(served, threads):
    """Of several lengths: they wait in blocks of their own, and share them."""
    s = served(io_threads=threads)
    listeners = [s.connect().send("SUBSCRIBE ch") for _ in range(40)]
    for c in listeners:
        c.expect(b"*3\r\n$9\r\nsubscribe\r\n$2\r\nch\r\n:1\r\n")
    speakers = [s.connect() for _ in range(4)]
    sent = [b"x" * n for n in (1, 400, 600, 5000, 300_000)] * 4
    for i, message in enumerate(sent):
        speakers[i % 4].send([b"PUBLISH", b"ch", message])
        speakers[i % 4].expect(b":40\r\n")
    for c in listeners:
        c.expect(b"".join(b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$%d\r\n%b\r\n" % (len(m), m)
                          for m in sent))
    assert s.on_engine(s.loop.stats)["threaded_writes"] > 40


@several
def test_unix_sockets(served, tmp_path, threads):
    s = served(io_threads=threads)
    s.on_engine(lambda: s.loop.listen_unix(str(tmp_path / "s")))
    clients = []
    for _ in range(20):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(str(tmp_path / "s"))
        clients.append(s.adopt(sock))
    for _ in range(20):
        for c in clients:
            c.send("PING")
        for c in clients:
            c.expect(b"+PONG\r\n")


@several
def test_each_has_its_own_transaction_and_protocol(served, threads):
    """Pipelines of 60 clients in pieces, so that each has its MULTI open while others are read: who
    has RESP3 between its two HELLOs is told of a map, who has not of an array."""
    s = served(io_threads=threads)
    clients = [s.connect() for _ in range(60)]
    wanted = {2: b"*4\r\n$1\r\nf\r\n$%d\r\n%b\r\n$1\r\ng\r\n$1\r\n1\r\n",
              3: b"%%2\r\n$1\r\nf\r\n$%d\r\n%b\r\n$1\r\ng\r\n$1\r\n1\r\n"}
    for turn in range(5):
        values = [b"%d" % i * (1 + 700 * (i % 3)) for i in range(60)]
        sent = [b"".join(map(encode, (
            f"HELLO {2 + i % 2}", "MULTI", [b"HSET", b"h%d" % i, b"f", v, b"g", b"1"],
            f"HGETALL h{i}", f"DEL h{i}", "EXEC", "HELLO 2", f"HGETALL h{i}", "INCR turns")))
            for i, v in enumerate(values)]
        for part in range(3):
            for c, data in zip(clients, sent, strict=True):
                third = len(data) // 3
                c.raw(data[part * third:(part + 1) * third if part < 2 else len(data)])
        for i, (c, v) in enumerate(zip(clients, values, strict=True)):
            hello = (b"%7\r\n", b"*14\r\n")
            got = bytearray()
            ends = b"*0\r\n:"
            while ends not in got or not got.endswith(b"\r\n"):
                got += c.sock.recv(1 << 16)
            assert got.startswith(hello[i % 2 == 0])
            assert (b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n:2\r\n"
                    + wanted[2 + i % 2] % (len(v), v) + b":1\r\n" + hello[1]) in got
    assert s.on_engine(s.loop.stats)["threaded_reads"] > 60
    c.send("GET turns").expect(b"$3\r\n300\r\n")


@several
def test_what_a_client_is_told_of_itself(served, threads):
    """CLIENT LIST and INFO count what threads have read and sent; REPLY SKIP skips one."""
    s = served(io_threads=threads)
    clients = [s.connect() for _ in range(20)]
    for c in clients:
        c.send("CLIENT REPLY SKIP", "ECHO x", f"CLIENT SETNAME n{c.sock.fileno()}", "SELECT 2")
    for c in clients:
        c.expect(b"+OK\r\n+OK\r\n")
    rows = s.on_engine(s.loop.clients)
    assert {(r["name"], r["db"], r["cmd"]) for r in rows} == {
        (f"n{c.sock.fileno()}", 2, "select") for c in clients}
    stats = s.on_engine(s.loop.stats)
    assert stats["net_in"] == sum(len(encode(line)) for c in clients for line in (
        "CLIENT REPLY SKIP", "ECHO x", f"CLIENT SETNAME n{c.sock.fileno()}", "SELECT 2"))
    assert stats["net_out"] == 20 * len(b"+OK\r\n+OK\r\n")
    assert 20 <= stats["threaded_reads"] and 20 <= stats["threaded_writes"]
    assert stats["threads_active"] == 1


# ---- what happens between a call and its result --------------------------------------------------

class Held:
    """The engine thread does nothing meanwhile."""

    def __init__(self, s):
        self.s, self.begun, self.over = s, threading.Event(), threading.Event()

    def __enter__(self):
        self.s.loop.call_soon(lambda: (self.begun.set(), self.over.wait(10)))
        assert self.begun.wait(10)

    def __exit__(self, *exc):
        self.over.set()


@several
def test_what_comes_while_a_script_runs_is_not_forgotten(served, threads):
    """Both were read at once; the script of the first then lets the second, of which another
    command has come since, have its turn."""
    s = served(io_threads=threads)
    s.executor.busy_reply_threshold = 300
    a, b = s.connect(), s.connect()
    with Held(s):
        a.send([b"EVAL", b"while true do end", b"0"])
        time.sleep(0.01)                        # epoll has them in this order
        b.send("PING")
    time.sleep(0.1)
    b.send("ECHO x")                            # before it does so for the first time
    b.expect(BUSY + BUSY)
    b.send("SCRIPT KILL").expect(b"+OK\r\n")
    assert KILLED in line(a)


@several
@pytest.mark.parametrize("kill", ["CLIENT KILL ID 2", "CLIENT KILL TYPE normal"])
def test_who_is_killed_between_runs_nothing(served, kill, threads):
    """What was read of it by then is dropped with it."""
    s = served(io_threads=threads)
    a, b = s.connect(), s.connect()
    a.send("PING").expect(b"+PONG\r\n")
    b.send("PING").expect(b"+PONG\r\n")
    with Held(s):
        a.send(kill)
        time.sleep(0.01)
        b.send("SET k v")
    assert b.closed() == b""
    a.expect(b":1\r\n")
    s.connect().send("EXISTS k").expect(b":0\r\n")


@several
def test_a_pause_holds_back_what_was_read(served, threads):
    s = served(io_threads=threads)
    a, b = s.connect(), s.connect()
    b.send("PING").expect(b"+PONG\r\n")
    with Held(s):
        a.send("CLIENT PAUSE 300 ALL")
        time.sleep(0.01)
        b.send("SET k v", "GET k")
    a.expect(b"+OK\r\n")
    begun = time.monotonic()
    b.expect(b"+OK\r\n$1\r\nv\r\n")
    assert time.monotonic() - begun > 0.1


@several
def test_what_a_client_sends_while_it_waits_is_read_later(served, threads):
    s = served(io_threads=threads)
    a, b = s.connect(), s.connect()
    a.send("BLPOP k 0")
    s.wait(lambda: s.loop.stats()["blocked"] == 1)
    a.send("ECHO x")
    assert a.silent()
    b.send("RPUSH k v").expect(b":1\r\n")
    a.expect(b"*2\r\n$1\r\nk\r\n$1\r\nv\r\n$1\r\nx\r\n")


@several
def test_who_is_logged_out_between_is_a_stranger(served, threads):
    """Its bytes were read for a client that could do everything."""
    s = served(io_threads=threads)
    a, b = s.connect(), s.connect()
    a.send("ACL SETUSER u on nopass +@all ~*").expect(b"+OK\r\n")
    b.send("AUTH u x").expect(b"+OK\r\n")
    with Held(s):
        a.send("ACL SETUSER u off", "ACL DELUSER u")
        time.sleep(0.01)
        b.send("SET k v", "SET k w")
    a.expect(b"+OK\r\n:1\r\n")
    assert b.closed() == b""
    s.connect().send("EXISTS k").expect(b":0\r\n")


# ---- threads -------------------------------------------------------------------------------------

def test_few_calls_wake_nobody(served):
    s = served(io_threads=3)
    s.on_engine(lambda: setattr(s.loop, "io_least", 4))
    c = s.connect()
    for _ in range(20):
        c.send("PING").expect(b"+PONG\r\n")
    stats = s.on_engine(s.loop.stats)
    assert stats["threaded_reads"] == stats["threaded_writes"] == stats["threads_active"] == 0


def test_without_them_nothing_is_counted(served):
    s = served(io_threads=1)
    clients = [s.connect() for _ in range(20)]
    for c in clients:
        c.send("PING")
    for c in clients:
        c.expect(b"+PONG\r\n")
    assert s.loop.io_threads == 1 and s.loop.io_least == 0
    stats = s.on_engine(s.loop.stats)
    assert stats["threaded_reads"] == stats["threaded_writes"] == 0


def test_they_end_with_the_loop():
    before = threads_of_process()
    loop = Loop(Executor(Replica("a", 1)))
    for n in (2, 5, 3):
        loop.io_threads = n
        assert loop.io_threads == n
        until(lambda n=n: len(threads_of_process().keys() - before.keys()) == n - 1)
    loop.close()
    assert loop.io_threads == 1
    until(lambda: not threads_of_process().keys() - before.keys())
    loop.io_threads = 2
    del loop
    until(lambda: not threads_of_process().keys() - before.keys())


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_they_have_no_signals_and_sleep():
    before = threads_of_process()
    loop = Loop(Executor(Replica("a", 1)))
    loop.io_threads = 3
    until(lambda: len(threads_of_process().keys() - before.keys()) == 2)
    for task in threads_of_process().keys() - before.keys():
        status = Path(f"/proc/self/task/{task}/status")
        until(lambda s=status: s.read_text().split("State:")[1].split()[0] == "S")
        blocked = int(status.read_text().split("SigBlk:")[1].split()[0], 16)
        assert all(blocked >> (n - 1) & 1 for n in (1, 2, 10, 12, 15))
    loop.close()


@pytest.mark.parametrize("n", [0, 65, 1 << 31])
def test_a_number_of_them_that_is_none(n):
    loop = Loop(Executor(Replica("a", 1)))
    with pytest.raises(ValueError, match="io_threads: expected 1 to 64"):
        loop.io_threads = n
    assert loop.io_threads == 1


# With a stack that no address space holds.
NO_ROOM = """import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
from crdtredis import cli
sys.exit(cli.main())
"""


def test_a_server_without_them_says_why(tmp_path):
    script = f"ulimit -s {8 << 20}; exec '{sys.executable}' -c '{NO_ROOM}' \"$@\""
    done = subprocess.run(
        ["bash", "-c", script, "-", "--port", str(free_port()), "--http-port", "0", "--data-dir",
         str(tmp_path / "data"), "--io-threads", "4"],
        capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2, done
    assert "io_threads 4: an I/O thread cannot be started: " in done.stderr

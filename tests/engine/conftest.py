"""An executor over a fresh replica, a loop on a thread of its own, and a few commands that only
tests need."""
from __future__ import annotations

import os
import socket
import threading
import time

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Executor, Loop
from crdtredis._resp import Simple
from crdtredis.commands import table
from crdtredis.errors import CommandError

NOW = 1_700_000_000_000
# of each loop, and of each server (tests/real/cluster.py): 1 unless the environment says otherwise
IO_THREADS = int(os.environ.get("CRDT_REDIS_IO_THREADS", "1"))
# For tests of what a connection can be, which `served` has with one thread, with two and with four.
with_threads = pytest.mark.parametrize(
    "served", [IO_THREADS] if "CRDT_REDIS_IO_THREADS" in os.environ else [1, 2, 4], indirect=True)
tokens = []


def _register():
    def command(name, arity, flags="", replicas=""):
        return table.command(name, arity=arity, flags=flags, group="server", since="0.0.0",
                             summary="For tests.", replicas=replicas)

    @command("TEST.DEFER", -1, "blocking")
    def defer(session, argv):
        if not session.can_block:
            return b"at once"
        tokens.append(session.defer(int(argv[1]) if len(argv) > 1 else None,
                                    lambda: Simple("TIMEOUT")))

    @command("TEST.DEFER.RAISE", 2, "blocking")
    def defer_and_fail(session, argv):
        """Fails after defer(), in the time limit, or because what it resolves to is no reply."""
        def in_time():
            raise ZeroDivisionError("in the time limit")
        token = session.defer(20, in_time)
        if argv[1] == b"at-once":
            raise ZeroDivisionError("after defer()")
        if argv[1] == b"refused":
            raise CommandError("CODE as asked")
        if argv[1] == b"reply":
            token.resolve([1, object()])
        return table.NO_REPLY

    @command("TEST.RAISE", 2)
    def fail(session, argv):
        if argv[1] == b"command":
            raise CommandError("CODE as asked")
        raise ZeroDivisionError(argv[1].decode())

    @command("TEST.BIG", 2)
    def big(session, argv):
        return b"x" * int(argv[1])

    @command("TEST.OBJECT", 1)
    def no_reply_object(session, argv):
        return object()

    @command("TEST.SLEEP", 2)
    def sleep(session, argv):
        time.sleep(float(argv[1]))


if "TEST.DEFER" not in table.load():
    _register()


@pytest.fixture
def replica():
    r = Replica("a", NOW, seed=1)
    r.now = NOW
    return r


@pytest.fixture
def executor(replica):
    return Executor(replica)


@pytest.fixture
def run(executor):
    """run("SET k v", ...) -> replies of one session, the words split at spaces."""
    session = executor.session()

    def run(*lines, session=session):
        return b"".join(executor.execute(session, [w.encode() for w in line.split(" ")])
                        for line in lines)
    run.session = session
    return run


class Served:
    """A loop on its thread, and clients of it."""

    def __init__(self, log=None, bridge=None, io_threads=IO_THREADS, **settings):
        self.replica = Replica("a", int(time.time() * 1000))
        self.executor = Executor(self.replica)
        self.loop = Loop(self.executor, log, bridge)
        self.loop.io_threads = io_threads
        self.loop.io_least = 1          # also with few clients
        for name, value in settings.items():
            setattr(self.loop, name, value)
        self.port = self.loop.listen_tcp("127.0.0.1", 0)
        self.sockets = []
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()

    def connect(self, timeout=10) -> Client:
        return self.adopt(socket.create_connection(("127.0.0.1", self.port), timeout))

    def adopt(self, sock) -> Client:
        self.sockets.append(sock)
        return Client(sock)

    def on_engine(self, fn):
        """fn() on the engine thread; its result."""
        done, result = threading.Event(), []

        def call():
            try:
                result.append(fn())
            finally:
                done.set()
        self.loop.call_soon(call)
        assert done.wait(10)
        return result[0]

    def wait(self, condition, timeout=10):
        """Until condition() holds on the engine thread."""
        deadline = time.monotonic() + timeout
        while not self.on_engine(condition):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def close(self):
        self.loop.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        for s in self.sockets:
            s.close()


class Client:
    """A socket that speaks bytes: what is tested here lies below any client library."""

    def __init__(self, sock):
        self.sock = sock

    def send(self, *lines):
        """Commands as RESP arrays, words split at spaces."""
        self.sock.sendall(b"".join(encode(line) for line in lines))
        return self

    def raw(self, data):
        self.sock.sendall(data)
        return self

    def read(self, n):
        out = bytearray()
        while len(out) < n:
            got = self.sock.recv(min(n - len(out), 1 << 20))
            if not got:
                break
            out += got
        return bytes(out)

    def expect(self, data):
        got = self.read(len(data))
        assert got == data

    def closed(self) -> bytes:
        """What comes before the end of the stream."""
        out = bytearray()
        try:
            while got := self.sock.recv(1 << 20):
                out += got
        except ConnectionResetError:
            pass
        return bytes(out)

    def silent(self, seconds=0.15) -> bool:
        self.sock.settimeout(seconds)
        try:
            return not self.sock.recv(1)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(10)


def encode(line) -> bytes:
    words = [w.encode() for w in line.split(" ")] if isinstance(line, str) else line
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


@pytest.fixture
def served(request):
    """served(**settings) -> Served."""
    started = []
    threads = getattr(request, "param", IO_THREADS)

    def start(**settings):
        started.append(Served(**{"io_threads": threads, **settings}))
        return started[-1]
    yield start
    for s in started:
        s.close()

"""Listening for HTTP: how many connections there may be, and how long one may stand still.

The Redis clients of this process live on the same file descriptors, and whoever reaches the port
can open connections and then say nothing, or half a request, or read no reply. So there are at
most `limit` connections, the engine leaves that many descriptors to us (Loop.reserve), and each
connection must get on:

    TLS handshake           done within HEADERS seconds of the connection's beginning
    request line, headers   whole within HEADERS seconds of their first byte, the first ones of the
                            connection's beginning
    a body                  some of it every STALL seconds, however long all of it takes
    a reply               some of it taken every STALL seconds
    between requests        IDLE seconds; more than the keep-alive of our own peers

Time in which the transport is paused is ours, not the sender's, and does not count. Beyond the
limit the one that has said nothing for longest makes room for the newcomer; else, of those in their
handshake or those without a request, whichever are more, the earliest of the address that has most
of them; else the one idle for longest between two; while all are at work, the newcomer is closed.
So half-sent requests, however many, keep neither peers nor operators out.

A handshake costs as much as twenty requests, and asyncio's objects for it 100 KB. So a connection
is a socket and nothing else until its first message (ClientHello, a record of up to 16 KB) is there
as a whole: the kernel says when (SO_RCVLOWAT). BEGINS handshakes begin in a turn of the loop, of
each address one in turn, and HANDSHAKES are under way at most; then the earliest of the address
that has most of them makes room, since who means it needs one or two round trips.

aiohttp has none of this but a timeout between requests, and no place for it: it is done one layer
below, by a Protocol around aiohttp's, with an accept loop of our own (an asyncio server counts a
connection only after its TLS handshake).
"""
from __future__ import annotations

import asyncio
import asyncio.sslproto
import itertools
import logging
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError

from crdtredis.replication.wire import CONTENT_TYPE, Refusal, refusal_body, proto

log = logging.getLogger("crdtredis.http")

# connections accepted before others of the loop have their turn
ACCEPTS = 64
# of them, those that another made room for whose descriptor is closed in a later round
DISPLACES = 8
BEGINS = 8                              # handshakes that begin in a turn of the loop
HANDSHAKES = 128                        # under way at a time
RECORD = 5                              # bytes before a record of TLS: kind, version, length
HANDSHAKE = 22                          # the kind
RECORD_MAX = 1 << 14                    # bytes in one that is not encrypted
LOOK = 1.0                              # seconds between two looks at all connections
CUT_EVERY = 10.0                        # ... at who may ask no more since its certificate expired
# What aiohttp calls itself in replies, the ones to malformed requests included, which no handler
# sees: nobody is told versions.
web_response.SERVER_SOFTWARE = "crdt-redis"
# Bytes that asyncio decrypts at a time. Each connection has a buffer of that size from before its
# handshake on: with asyncio's own 256 KiB, strangers who say nothing took 80 MB.
asyncio.sslproto.SSLProtocol.max_size = 64 << 10


class Sparing:
    """Writes in a minute one line about each caller and why it is refused, and MOST at most; the
    next one after that says how many more it were."""

    MOST = 20

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.begun, self.left = clock, clock(), 0
        self.told: set[tuple[str, str]] = set()

    def __call__(self, who: str | None, why: str) -> None:
        who, now = who or "?", self.clock()
        if now - self.begun >= 60:
            if self.left:
                log.warning("%d more requests were refused so", self.left)
            self.begun, self.left = now, 0
            self.told.clear()
        if (who, why) in self.told or len(self.told) >= self.MOST:
            self.left += 1
            return
        self.told.add((who, why))
        log.warning("%s is refused: %s", who, why)


log_refused = Sparing()


def is_no_fault(record: logging.LogRecord) -> bool:
    """aiohttp logs malformed requests with a traceback, as if they were a fault here."""
    fault = record.exc_info[1] if record.exc_info else None
    if isinstance(fault, web.RequestPayloadError):          # a body that nobody wants
        fault = fault.__cause__
    if not isinstance(fault, HttpProcessingError):
        return True
    who = record.args[0] if isinstance(record.args, tuple) and record.args else None
    # behind the colon stands what it sent
    log_refused(who, f"its request is malformed: {' '.join(fault.message.split(':')[0].split())}")
    return False


log.addFilter(is_no_fault)


@dataclass(frozen=True)
class Timeouts:
    """Seconds, as above."""
    headers: float = 10.0
    stall: float = 30.0
    idle: float = 75.0


def network(address: str) -> str | bytes:
    """What one caller has of addresses: of IPv6 the first half of one."""
    return (socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8] if ":" in address
            else address)


class Connection(asyncio.Protocol):
    """One connection: `inner` speaks HTTP, this one looks at the clock. Times are the loop's."""

    def __init__(self, listener: Listener, s: socket.socket, at: str, now: float) -> None:
        self.listener, self.at, self.network, self.since = listener, at, network(at), now
        # One of these three, in this order: ours alone, Listener._connect, asyncio's.
        self.socket: socket.socket | None = s
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.begun = False                                      # the task has
        self.needs = 1                  # bytes that must be there before anybody looks
        self.inner: asyncio.Protocol    # once there is a transport
        self.request: web.BaseRequest | None = None             # that a handler is at work on
        self.requests = 0                                       # that handlers were given
        # when the headers that are not whole yet began
        self.asked: float | None = now
        # when bytes last came or went, or a request ended
        self.moved = now
        self.unsent = 0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.listener.of[transport] = self
        self.inner = self.listener.make()
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.moved = self.listener.now()
        if self.request is None and self.asked is None:
            self.asked = self.moved
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.open.discard(self)
        self.listener.of.pop(self.transport, None)
        self.inner.connection_lost(exc)

    # What the application says.

    def begin(self, request: web.BaseRequest) -> None:
        self.request, self.asked = request, None
        self.requests += 1
        self.moved = self.listener.now()

    def end(self) -> None:
        self.request, self.moved = None, self.listener.now()

    # What the listener asks.

    def is_late(self, now: float) -> bool:
        timeouts, t = self.listener.timeouts, self.transport
        if t is None:
            return now - self.since > timeouts.headers
        unsent = t.get_write_buffer_size()
        if unsent:
            if unsent != self.unsent:
                self.unsent, self.moved = unsent, now
            return now - self.moved > timeouts.stall
        self.unsent = 0
        if self.request is not None:
            if self.request.content.is_eof() or not t.is_reading():
                self.moved = now
            return now - self.moved > timeouts.stall
        if self.asked is not None:
            return now - self.asked > timeouts.headers
        return now - self.moved > timeouts.idle

    def drop(self) -> None:
        if self.socket is not None:
            self.listener.forget(self)
        elif self.transport is not None:
            self.transport.abort()
        elif self.task is not None:
            self.task.cancel()


def earliest_of_most(connections: Iterable[Connection]) -> Connection:
    """Of the address that has most of them."""
    counts = Counter(c.network for c in connections)
    return min(connections, key=lambda c: (-counts[c.network], c.since))


class Listener:
    """Accepts on these sockets, which listen and do not block, until stop(). They stay open: they
    are the caller's.

    make        a new protocol for each connection that is through its handshake.
    limit       connections at a time. open, refused, late, displaced: those there are, and counts
                since the start.
    silent, waiting, shaking: of those that are open whose first message is not there; is there, by
                network; and whose handshake is under way. The earliest first.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol], sockets: Iterable[socket.socket],
                 limit: int, tls: ssl.SSLContext | None = None,
                 timeouts: Timeouts = Timeouts()) -> None:
        self.make, self.sockets, self.limit, self.tls, self.timeouts = make, list(
                sockets), limit, tls, timeouts
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.open: set[Connection] = set()
        self.silent: dict[Connection, None] = {}
        self.waiting: dict[str | bytes, dict[Connection, None]] = {}
        self.shaking: dict[Connection, None] = {}
        self._beginning: asyncio.Handle | None = None
        self._leaving = 0               # displaced ones whose descriptor asyncio closes
        self.of: dict[Any, Connection] = {}                     # by transport
        self.refused = self.late = self.displaced = 0
        self._timer: asyncio.Handle | None = None
        for s in self.sockets:
            self.loop.add_reader(s, self._accept, s)
        self._look()

    def stop(self) -> None:
        """No new connections; those that are open stay."""
        for s in self.sockets:
            self.loop.remove_reader(s)
        self.sockets = []

    def close(self) -> None:
        self.stop()
        self._timer.cancel()
        for c in list(self.open):
            c.drop()
        if self._beginning is not None:
            self._beginning.cancel()

    def cut(self, unwanted: Callable[[web.BaseRequest], str]) -> None:
        """Drop connections whose request under way has become unwanted(request), a reason."""
        for c in list(self.open):
            if c.request is not None and (why := unwanted(c.request)):
                log_refused(c.request.remote, why)
                c.drop()

    # ---- accepting -------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        before = self._leaving
        for _ in range(min(ACCEPTS, max(self.limit // 4, 1))):
            if self._leaving - before >= DISPLACES:
                return
            try:
                s, at = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                # out of descriptors: they wait in the backlog
                log.warning("HTTP connections cannot be accepted: %s", e.strerror)
                self.loop.remove_reader(listening)
                self.loop.call_later(1.0, self._again, listening)
                return
            s.setblocking(False)
            if len(self.open) >= self.limit and not self._make_room():
                self.refused += 1
                s.close()
                continue
            c = Connection(self, s, at[0], self.now())
            self.open.add(c)
            self.silent[c] = None
            if self.tls is not None:
                self._need(c, RECORD)
            self.loop.add_reader(s, self._heard, c)

    def _again(self, listening: socket.socket) -> None:
        if listening in self.sockets:
            self.loop.add_reader(listening, self._accept, listening)

    def _need(self, c: Connection, n: int) -> None:
        c.needs = n
        c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, n)

    def _heard(self, c: Connection, told: bool = True) -> None:
        """It has said something, or has gone. Where the kernel has told the same twice, it knows
        no better, or no more will come: asyncio finds out."""
        try:
            data = c.socket.recv(RECORD + RECORD_MAX, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            c.drop()
            return
        n = 1
        if self.tls is not None and data[0] == HANDSHAKE:
            n = RECORD + (min(int.from_bytes(data[3:RECORD], "big"), RECORD_MAX)
                          if len(data) >= RECORD else 0)
        if len(data) < n and n > c.needs:
            self._need(c, n)
        elif told or len(data) >= n:
            del self.silent[c]
            self.loop.remove_reader(c.socket)
            self.waiting.setdefault(c.network, {})[c] = None
            if self._beginning is None:
                self._beginning = self.loop.call_soon(self._begin)

    def _begin(self) -> None:
        for _ in range(BEGINS):
            if not self.waiting:
                break
            from_one = self.waiting.pop(next(iter(self.waiting)))
            c = next(iter(from_one))
            del from_one[c]
            if from_one:                                        # the other networks' turn
                self.waiting[c.network] = from_one
            if len(self.shaking) >= HANDSHAKES:
                self._displace(earliest_of_most(self.shaking))
            self._need(c, 1)
            s, c.socket = c.socket, None
            self.shaking[c] = None
            c.task = self.loop.create_task(self._connect(c, s))
            c.task.add_done_callback(lambda _, c=c, s=s: self._connected(c, s))
        self._beginning = self.loop.call_soon(self._begin) if self.waiting else None

    async def _connect(self, c: Connection, s: socket.socket) -> None:
        # from here on the socket is asyncio's to close
        c.begun = True
        try:
            await self.loop.connect_accepted_socket(lambda: c, s, ssl=self.tls)
        except (OSError, asyncio.CancelledError) as e:          # no TLS, none in time, or gone
            # Its frames refer to it, and to all that the handshake took: that would stay until
            # the collector comes.
            e.__traceback__ = None
            if isinstance(e, ssl.SSLCertVerificationError):
                log_refused(c.at, f"its certificate is not accepted: {e.verify_message}")

    def _connected(self, c: Connection, s: socket.socket) -> None:
        """At the end of _connect, also where it was cancelled, perhaps before it began."""
        c.task = None
        self.shaking.pop(c, None)
        if c.transport is None:
            self.open.discard(c)
        if not c.begun:
            s.close()

    def forget(self, c: Connection) -> None:
        """One whose socket is ours alone."""
        if c in self.silent:
            self.loop.remove_reader(c.socket)
            del self.silent[c]
        else:
            del self.waiting[c.network][c]
            if not self.waiting[c.network]:
                del self.waiting[c.network]
        self.open.discard(c)
        c.socket.close()

    def _make_room(self) -> bool:
        """Drop the connection that is missed least, if any is without a request."""
        while self.silent:
            c = next(iter(self.silent))
            self._heard(c, told=False)                          # since the last turn of the loop
            if c in self.silent:
                self._displace(c)
            if len(self.open) < self.limit:
                return True
        # through their handshake, or not: squatters of one kind keep out nobody of the other
        shaken = [c for c in self.open if c.transport is not None and c.request is None
                  and not c.requests]
        if new := max(shaken, [*itertools.chain(*self.waiting.values()), *self.shaking],
                         key=len):
            self._displace(earliest_of_most(new))
        elif idle := [c for c in self.open if c.request is None]:
            self._displace(min(idle, key=lambda c: c.moved if c.asked is None else c.asked))
        else:
            return False
        return True

    def _displace(self, c: Connection) -> None:
        self.displaced += 1
        self._leaving += c.socket is None
        self.open.discard(c)
        self.shaking.pop(c, None)
        c.drop()

    def _look(self) -> None:
        now = self.now()
        for c in [c for c in self.open if c.is_late(now)]:
            self.late += 1
            c.drop()
        self._timer = self.loop.call_later(min(LOOK, self.timeouts.headers / 2), self._look)


# ---- the two servers -----------------------------------------------------------------------------


class Served:
    """An application that is being served."""

    def __init__(self, runner: web.AppRunner, listener: Listener,
                 unwanted: Callable[[web.BaseRequest], str]) -> None:
        self.runner, self.listener, self.unwanted = runner, listener, unwanted
        self._cut()

    def _cut(self) -> None:
        """Requests under way, streams above all, of those who may ask no more are cut off."""
        self.listener.cut(self.unwanted)
        self._timer = self.listener.loop.call_later(CUT_EVERY, self._cut)

    def renew_tls(self, tls: ssl.SSLContext | None) -> None:
        """For connections from now on; requests under way of those who may ask no more are cut
        off. From any thread."""
        self.listener.tls = tls
        self.listener.loop.call_soon_threadsafe(self.listener.cut, self.unwanted)

    async def close(self) -> None:
        """No new connections and no new requests; those under way may finish (AppRunner's
        shutdown_timeout)."""
        self.listener.stop()
        self._timer.cancel()
        await self.runner.cleanup()
        self.listener.close()


async def serve(app: web.Application, sockets: Iterable[socket.socket], limit: int,
                tls: ssl.SSLContext | None = None, shutdown: float = 2.5,
                timeouts: Timeouts = Timeouts(),
                unwanted: Callable[[web.BaseRequest], str] = lambda request: "") -> Served:
    """Serve app. Call it in the loop that is to do it. shutdown: seconds that a stop leaves to
    requests under way. unwanted: see Listener.cut."""
    @web.middleware
    async def noted(request: web.Request,
                    handler: Callable[[web.Request],
                                      Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        c = listener.of.get(request.transport)
        if c is None:                                           # it has ended meanwhile
            return await handler(request)
        c.begin(request)
        try:
            return await handler(request)
        finally:
            c.end()

    app.middlewares.insert(0, noted)
    runner = web.AppRunner(app, access_log=None, logger=log, handle_signals=False,
                           shutdown_timeout=shutdown, keepalive_timeout=timeouts.idle)
    await runner.setup()
    assert runner.server is not None
    listener = Listener(runner.server, sockets, limit, tls, timeouts)
    return Served(runner, listener, unwanted)


class Loading:
    """While the log is loaded there is no application yet: a thread that answers /health with 503,
    and peers with "try again"."""

    REASON = "loading the log"

    def __init__(self, sockets: Iterable[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        self._sockets, self._tls = list(sockets), tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="loading",
                                        daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when nothing is accepted any more."""
        self._started.wait()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._done.set)
            self._thread.join()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        listener = Listener(lambda:
                            asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=16 << 10),
                                                         self._reply), self._sockets, 64,
                                                         self._tls)
        self._started.set()
        await self._done.wait()
        listener.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError, OSError):
            writer.close()
            return
        if path.startswith(b"/replication/"):
            kind, body = CONTENT_TYPE, refusal_body(Refusal(proto.BUSY, self.REASON))
        elif path.partition(b"?")[0] == b"/health":
            kind, body = ("application/json",
                          b'{"status":"failing","reasons":["%b"],"warnings":[]}' %
                          self.REASON.encode())
        else:
            kind, body = "application/json", b'{"error":"%b"}' % self.REASON.encode()
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nServer: crdt-redis\r\nContent-Type: "
                     b"%b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                     % (kind.encode(), len(body)) + body)
        writer.close()

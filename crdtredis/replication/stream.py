"""Pushes on one long-lived connection, for a request of its own costs HTTP ten times what a small
push costs otherwise.

    GET /replication/stream, Upgrade: crdt-redis   ->
                                                   <-   101, and from here on frames:
    push                                           ->
                                                   <-   reply, or refusal

    frame = [length of what follows: u32 LE][kind: 1 byte][a body as in a request: see
    proto/replication.proto]

Between the pushes go messages of clients, and the other way what clients listen to, with those who
know of it (messages.py); and words about consumer groups (consumers.py).

Pushes are applied in the order in which they come. A reply is for all pushes up to the number it
names, so one reply may do for many: what was logged is said at once, and then not again for
REPLY_PAUSE. A refusal is for the push it names alone. An empty push is a question whether anybody
is there.

Where no stream can be had (an older replica, a proxy that knows no Upgrade), pushes are requests;
large ops always are.

Bounds: a frame is as long as a body may be, and is refused by its length. The receiver stops
reading while it holds more that is not applied than its budget, or while its replies are not read;
the sender's window is smaller than that budget. A stream without a word ends, and where there are
too many, no further ones begin: what cannot have one goes on in requests.
"""
from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, NamedTuple

from crdtredis.replication.consumers import SINCE, WORDS
from crdtredis.replication.flow import progress_limit
from crdtredis.replication.messages import BACKLOG, Hears
from crdtredis.replication.oplog import NOTHING, Chunk
from crdtredis.replication.wire import BODY_MAX, HEAD_MAX, Refusal, decode, encode, proto

if TYPE_CHECKING:
    from crdtredis.replication.consumers import Consumers
    from crdtredis.replication.messages import Messages
    from crdtredis.replication.sessions import InboundSession, InboundSessions

UPGRADE = "crdt-redis"                  # the protocol's name in the header
PUSH, REPLY, REFUSAL, MESSAGES, LISTENING = 1, 2, 3, 4, 5
FRAME_HEAD = 5                          # bytes
# bytes of a frame up to which it is put together, to be sent with one call
JOIN = 64 << 10
REPLY_PAUSE = 0.005                     # seconds
# seconds: far more than between two questions whether anybody is there
SILENCE = 600.0
# bytes that a push takes here beside its own, until it is replied to
PENDING = 200


class FrameLink(asyncio.Protocol):
    """Frames over a connection that HTTP has left to us. `inner` is the protocol it had before,
    which learns of its end."""

    def __init__(self, transport: asyncio.Transport, most: int, frame: Callable[[int, bytes], None],
                 lost: Callable[[Exception], None],
                 flow: Callable[[], None] = lambda: None) -> None:
        """most: bytes of the longest frame expected. frame(kind, body) is called for each, and may
        raise Refusal; lost(why) once, at the end; flow() when `is_full`, whether what was sent
        waits to be read over there, has changed."""
        self.transport, self.most, self._frame, self._lost, self._flow = (
                transport, most, frame, lost, flow)
        self.is_full = False
        self.closed = False
        self._why: Exception | None = None
        self._rest = bytearray()
        self._inner = transport.get_protocol()
        transport.set_protocol(self)

    def send(self, kind: int, *parts: bytes) -> None:
        if self.closed:
            return
        size = 1 + sum(map(len, parts))
        head = size.to_bytes(4, "little") + kind.to_bytes(1, "little")
        if size <= JOIN:
            self.transport.write(b"".join((head, *parts)))
        else:
            self.transport.write(head + parts[0])
            for part in parts[1:]:
                self.transport.write(part)

    @property
    def backlog(self) -> int:
        """Bytes that the system has not taken yet."""
        return 0 if self.closed else self.transport.get_write_buffer_size()

    def close(self, why: Exception | None = None) -> None:
        """At once; what the system has taken may still arrive."""
        self._why = self._why or why
        self.closed = True
        self.transport.abort()

    # What asyncio calls.

    def data_received(self, data: bytes) -> None:
        buffer: bytes | bytearray = data
        if self._rest:
            self._rest += data
            buffer = self._rest
        at = 0
        try:
            while len(buffer) - at >= FRAME_HEAD and not self.closed:
                size = int.from_bytes(buffer[at:at + 4], "little")
                if not 1 <= size <= self.most:
                    raise Refusal(proto.TOO_LARGE,
                                  f"a frame of {size} bytes, where at most {self.most} were "
                                  "expected")
                if len(buffer) - at - 4 < size:
                    break
                with memoryview(buffer) as view:
                    body = bytes(view[at + FRAME_HEAD:at + 4 + size])
                kind = buffer[at + 4]
                at += 4 + size
                self._frame(kind, body)
        except Refusal as e:
            self.close(e)
        if buffer is self._rest:
            del self._rest[:at]
        elif at < len(data):
            self._rest += data[at:]

    def eof_received(self) -> bool:
        return False                                            # close

    def pause_writing(self) -> None:
        self.is_full = True
        self._flow()

    def resume_writing(self) -> None:
        self.is_full = False
        self._flow()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._inner.connection_lost(error)
        self._lost(self._why or error or ConnectionResetError("the stream has ended"))


class PushReceiver:
    """The side that replies: takes pushes of one peer, until the connection ends or another stream
    of that peer begins."""

    def __init__(self, sessions: InboundSessions, session: InboundSession,
                 transport: asyncio.Transport, messages: Messages | None = None,
                 consumers: Consumers | None = None) -> None:
        """messages: where the sender knows of them."""
        self._messages, self._joined = messages, False
        self.sessions, self.session = sessions, session
        self.ended = asyncio.get_running_loop().create_future()
        self.link = FrameLink(transport, BODY_MAX, self._frame, self._lost, self._read_or_wait)
        # [bytes, done, Refusal or None], in the order they came
        self._pending: deque[list] = deque()
        self._held = 0                                          # bytes of them
        # pushes that are, and that the peer knows to be
        self._replied = self._said = 0
        self._version = 0                                       # of the clock in the newest reply
        self._at = 0.0                                          # when that was
        self._later: asyncio.TimerHandle | None = None
        self._last_frame = time.monotonic()
        self._watch = asyncio.get_running_loop().call_later(SILENCE, self._look)
        before, session.traffic.stream = session.traffic.stream, self.link
        if before:
            before.close()
        self._consumers, self._voice = consumers, None
        if consumers is not None and session.speaks >= SINCE:
            self._voice = consumers.listen(self.link, session.replica, session.process)

    def _lost(self, why: Exception) -> None:
        self._watch.cancel()
        if self._messages:
            self._messages.leave(self.link)
        if self._voice is not None:
            self._consumers.ended(self._voice)
        if not self.ended.done():
            self.ended.set_result(None)

    def _read_or_wait(self) -> None:
        """Who does not read the replies, of which there may be one for every few bytes, is not read
        from either."""
        if self.link.closed:
            return
        if self._held > self.session.traffic.inbound.most or self.link.is_full:
            self.link.transport.pause_reading()
        else:
            self.link.transport.resume_reading()

    def _look(self) -> None:
        """The peer's machine may have gone without a word: a stream that is in use asks whether
        anybody is there."""
        rest = self._last_frame + SILENCE - time.monotonic()
        if rest <= 0 and not self._pending:
            self.link.close()
        else:
            self._watch = asyncio.get_running_loop().call_later(max(rest, 1.0), self._look)

    def _hear(self, body: bytes) -> None:
        """Messages have no reply. They are bounded like pushes, until the engine has them."""
        self.sessions.session(self.session.replica, self.session.key)
        self.sessions.refuse_foreign(self.session, int.from_bytes(body[:8], "little"))
        size = len(body) + PENDING

        def done() -> None:
            self._held -= size
            self._read_or_wait()

        self._held += size
        self._last_frame = time.monotonic()
        self._read_or_wait()
        self._messages.heard(body, done)

    def _word(self, body: bytes) -> None:
        self.sessions.session(self.session.replica, self.session.key)
        self._last_frame = time.monotonic()
        self._consumers.came(self._voice, body, lambda actor: self.sessions.refuse_foreign(
                self.session, actor))

    def _frame(self, kind: int, body: bytes) -> None:
        if self._messages and not self._joined:
            # now the other end is ready for frames, and not earlier
            self._joined = True
            self._messages.join(self.link, LISTENING)
        if kind == MESSAGES and self._messages:
            return self._hear(body)
        if kind == WORDS and self._voice is not None:
            return self._word(body)
        if kind != PUSH:
            raise Refusal(proto.MALFORMED, f"a frame of kind {kind}")
        push = [len(body) + PENDING, False, None]
        self._pending.append(push)
        self._held += push[0]
        self._last_frame = time.monotonic()
        self._read_or_wait()
        try:
            self.sessions.session(self.session.replica, self.session.key)
            _, batch = decode(proto.Push, body)
        except Refusal as e:
            self._done(push, e)
        else:
            if batch:
                self.sessions.take(self.session, batch, lambda refusal: self._done(push, refusal))
            else:
                self._done(push, None)

    def _done(self, push: list, refusal: Refusal | None) -> None:
        push[1:] = True, refusal
        while self._pending and self._pending[0][1]:
            size, _, refusal = self._pending.popleft()
            self._held -= size
            self._replied += 1
            if refusal is not None:
                self.link.send(REFUSAL,
                               encode(proto.Refusal(code=refusal.code, text=refusal.text,
                                                   pushes=self._replied)))
        self._read_or_wait()
        if self._later is None and self._replied > self._said:
            wait = self._at + REPLY_PAUSE - time.monotonic()
            if wait <= 0:
                self._reply()
            else:
                self._later = asyncio.get_running_loop().call_later(wait, self._reply)

    def _reply(self) -> None:
        self._later, self._at = None, time.monotonic()
        reply = self.sessions.reply(self._version, pushes=self._replied)
        self._version, self._said = reply.version, self._replied
        self.link.send(REPLY, encode(reply))


class Sent(NamedTuple):
    chunk: Chunk
    size: int                           # bytes, declarations included
    told: Set[int]                      # actors declared with it


class PushSender:
    """The side that pushes."""

    def __init__(self, transport: asyncio.Transport,
                 replied: Callable[[list[Sent], proto.Reply | proto.Refusal], None],
                 lost: Callable[[PushSender, Exception], None],
                 limit: Callable[[int], float], messages: Messages | None = None) -> None:
        """replied(pushes, message): these have had their reply; a refusal is about the last of
        them. lost: the stream has ended. limit(bytes): seconds to wait for any reply when so many
        bytes are under way. messages: learn what the other end listens to."""
        self._messages, self.hears = messages, Hears()
        self._replied, self._limit = replied, limit
        self.unreplied: deque[Sent] = deque()
        self.bytes = 0                                          # of them
        self._settled = 0                                       # pushes that have had their reply
        # when the newest came, or what is under way began
        self._last_frame = 0.0
        self.link = FrameLink(transport, HEAD_MAX + FRAME_HEAD, self._frame,
                              lambda why: self._lost(lost, why))

    def _lost(self, lost: Callable[[PushSender, Exception], None], why: Exception) -> None:
        if self._messages:
            self._messages.gone(self.hears)
        lost(self, why)

    def messages(self, head: bytes, batch: bytes) -> bool:
        """Send messages; False where those before are not taken in."""
        if self.link.closed or self.link.backlog > BACKLOG:
            return False
        self.link.send(MESSAGES, head, batch)
        return True

    def push(self, chunk: Chunk, batch: bytes, told: Set[int] = frozenset()) -> None:
        if not self.unreplied:
            self._last_frame = time.monotonic()
        self.unreplied.append(Sent(chunk, len(batch), told))
        self.bytes += len(batch)
        self.link.send(PUSH, NO_HEAD, batch)

    def look(self) -> None:
        """End it where it stands still, and ask whether anybody is there. To be called now and
        then."""
        if self.unreplied and time.monotonic() - self._last_frame > self._limit(self.bytes):
            self.link.close(TimeoutError("nothing moved for "
                                         f"{time.monotonic() - self._last_frame:.1f} s"))
        elif not self.unreplied:
            self.push(NOTHING, b"")

    def stands(self, seconds: float) -> bool:
        """Has a push been without any reply for so long? From any thread."""
        return (bool(self.unreplied)
                and time.monotonic() - self._last_frame > progress_limit(seconds, self.bytes))

    def _settle(self, until: int) -> list[Sent]:
        pushes = []
        while self._settled < until and self.unreplied:
            pushes.append(self.unreplied.popleft())
            self.bytes -= pushes[-1].size
            self._settled += 1
        if self._settled != until:
            raise Refusal(proto.MALFORMED, "a reply to what was not sent, or was replied to before")
        return pushes

    def _frame(self, kind: int, body: bytes) -> None:
        if kind == LISTENING and self._messages:
            return self._messages.listens(self.hears, body)
        if kind not in (REPLY, REFUSAL):
            raise Refusal(proto.MALFORMED, f"a frame of kind {kind}")
        self._last_frame = time.monotonic()
        message, _ = decode(proto.Reply if kind == REPLY else proto.Refusal, body)
        self._replied(self._settle(message.pushes), message)


NO_HEAD = bytes(4)                      # an empty Push

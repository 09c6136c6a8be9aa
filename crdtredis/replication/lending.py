"""A full sync to a replica that cannot call the one that has what it lacks: behind NAT or a
firewall, or with no address that it knows.

    GET /replication/lend, Upgrade: crdt-redis    the giver calls, as it does to push     ->
                                                  <-   101, and from here on frames:
    offer: the giver's clock                      ->   once a round, while its log is not enough
                                                  <-   ask: a Sync, as the body of a request
    given: as a frame of the reply to one         ->   any number
    end of the reply                              ->

So it is the protocol of /replication/sync, asked for in the other direction (`Lender` serves it,
`Way` is what the receiver asks instead of a Peer). The receiver takes the offer where none of its
own conversations reaches that process.

Bounds: one way of each replica, the newest. A given is as long as a record may be, and is refused
by its length. The receiver stops reading while more than HELD bytes are not taken in; the giver
makes no next piece while the system does not take the last one. A way without a word ends, one
without an offer soon.
"""
from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING

from crdtredis.clocks import Clock
from crdtredis.replication.flow import ProgressLimit
from crdtredis.replication.giving import SYNC_MOST, Giver
from crdtredis.replication.receiving import FRAME_MOST, Handle, Receiver, refusal
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.stream import FRAME_HEAD, SILENCE, FrameLink
from crdtredis.replication.wire import Refusal, decode, encode, entries, proto, to_clock

if TYPE_CHECKING:
    from crdtredis.replication.sessions import InboundSession, InboundSessions

log = logging.getLogger("crdtredis.replication")

OFFER, ASK, GIVEN, END = 1, 2, 3, 4
HELD = 4 << 20                          # bytes


class Lender:
    """The giver's side, which has called."""

    def __init__(self, transport: asyncio.Transport, giver: Giver, runtime: Runtime, replica: str,
                 process: int) -> None:
        self._giver, self._runtime = giver, runtime
        self._replica, self._process = replica, process
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self.link = FrameLink(transport, SYNC_MOST + FRAME_HEAD, self._frame, self._lost,
                              self._flow)

    def offer(self, clock: Clock) -> None:
        if not self.link.is_full:               # whoever reads none of them needs no more
            self.link.send(OFFER, encode(proto.Pull(clock=entries(clock))))

    def close(self) -> None:
        self.link.close()

    def _flow(self) -> None:
        if self.link.is_full:
            self._room.clear()
        else:
            self._room.set()

    def _lost(self, why: Exception) -> None:
        """The next piece is refused. What is under way is not cancelled: a full sync that is just
        begun has pinned the log, and nobody would let go of it."""
        self._room.set()

    def _frame(self, kind: int, body: bytes) -> None:
        if kind != ASK or self._task and not self._task.done():
            raise Refusal(proto.MALFORMED, f"a frame of kind {kind} that does not come next")
        request, _ = decode(proto.Sync, body)
        self._task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: proto.Sync) -> None:
        try:
            given = await self._giver.open(self._replica, self._process, request)
            await self._giver.serve(given, request, self._send)
        except Refusal as e:
            self.link.send(GIVEN, encode(proto.Given(step=proto.REFUSED, refusal=proto.Refusal(
                code=e.code, text=e.text))))
        except Exception as e:
            if not isinstance(e, TimeoutError):
                log.error("a full sync could not be given to %s", self._replica, exc_info=e)
            self.link.close(e)
        self.link.send(END)

    async def _send(self, head: proto.Given, data: bytes) -> None:
        """Returns when there is room for more."""
        if self.link.closed:
            raise Refusal(proto.NO_SYNC, "the receiver has hung up")
        self.link.send(GIVEN, encode(head, data))
        async with ProgressLimit(self._runtime.settings.timeout) as patience:
            patience.wrote(len(data))
            patience.alive()
            await self._room.wait()


class Way:
    """The receiver's side, which was called: stands where a Peer that can be called would."""

    def __init__(self, sessions: InboundSessions, session: InboundSession, receiver: Receiver,
                 transport: asyncio.Transport) -> None:
        self.replica, self.process = session.replica, session.process
        self.url = f"lent by {self.replica}"
        self.handshake_at = time.monotonic()
        self.acked: Clock = {}
        self._sessions, self._inbound, self._receiver = sessions, session, receiver
        self._frames: deque[tuple[int, bytes]] = deque()
        self._held = 0
        self._came = asyncio.Event()
        self._asking = False
        self._last_frame = time.monotonic()
        self.ended = asyncio.get_running_loop().create_future()
        self.link = FrameLink(transport, FRAME_MOST + FRAME_HEAD, self._frame, self._lost)
        self._patience = sessions.runtime.settings.timeout      # until it has offered something
        self._watch = asyncio.get_running_loop().call_later(1.0, self._look)

    @property
    def session(self) -> int:
        return 0 if self.link.closed else self._inbound.key

    @property
    def is_paused(self) -> bool:
        return self._receiver.cut_off(self.replica)

    @property
    def state(self) -> str:
        return "lost" if self.link.closed else "up"

    async def ready(self) -> bool:
        return bool(self.session)

    def hurry(self) -> None:
        """Whoever lent it compares clocks by itself."""

    async def sync(self, request: proto.Sync, handle: Handle) -> None:
        """As receiving.ask. A reply that was not read to its end ends the connection: nobody could
        tell the rest of it from the next."""
        if self.link.closed:
            raise ConnectionResetError(f"{self.replica} lends no connection any more")
        self._asking = True
        self.link.send(ASK, encode(request))
        try:
            async with ProgressLimit(self._sessions.runtime.settings.timeout) as patience:
                await self._reply(handle, patience)
        finally:
            if self._asking:
                self.link.close()

    async def _reply(self, handle: Handle, patience: ProgressLimit) -> None:
        refused: Refusal | None = None
        while True:
            while not self._frames:
                if self.link.closed:
                    raise ConnectionResetError("the connection that was lent has ended")
                self._came.clear()
                await self._came.wait()
            kind, body = self._frames.popleft()
            self._held -= len(body)
            self._read_or_wait()
            patience.alive()
            if kind == END:
                self._asking = False
                if refused:
                    raise refused
                return
            head, data = decode(proto.Given, body)
            if self.is_paused:
                raise Refusal(proto.PAUSED, "replication was paused here")
            if refused or head.step == proto.REFUSED:
                refused = refused or refusal(head.refusal)
            elif head.step != proto.WAIT:
                await handle(head, data)
            patience.alive()

    def _read_or_wait(self) -> None:
        if self.link.closed:
            return
        if self._held > HELD:
            self.link.transport.pause_reading()
        else:
            self.link.transport.resume_reading()

    def _frame(self, kind: int, body: bytes) -> None:
        self._sessions.session(self.replica, self._inbound.key)
        self._last_frame = time.monotonic()
        if kind == OFFER:
            offer, _ = decode(proto.Pull, body)
            self.acked, self._patience = to_clock(offer.clock), SILENCE
            self._receiver.offered(self)
        elif kind in (GIVEN, END) and self._asking:
            self._frames.append((kind, body))
            self._held += len(body)
            self._read_or_wait()
            self._came.set()
        else:
            raise Refusal(proto.MALFORMED, f"a frame of kind {kind} that does not come next")

    def _lost(self, why: Exception) -> None:
        self._watch.cancel()
        self._came.set()
        self._receiver.withdrawn(self)
        if not self.ended.done():
            self.ended.set_result(None)

    def _look(self) -> None:
        rest = self._last_frame + self._patience - time.monotonic()
        if rest <= 0:
            self.link.close()
        else:
            self._watch = asyncio.get_running_loop().call_later(max(rest, 1.0), self._look)

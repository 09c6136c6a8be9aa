"""Taking in the state of a peer, where no log holds any more what this replica lacks: the
receiver's side of a full sync.

    begin    the giver's clock S and the digests of its buckets of keys
    compare  with the digests of this replica's, made after S was known. From there to the join no
             op that S covers is applied here, for a bucket left out as equal must stay equal; such
             ops are dropped where they come in (LogTail.gate), since the join brings them
    stage    the buckets that differ, or that changed while they were looked at, and the tail, into
             a file (storage/stage.py). Where the connection breaks, it goes on where it was
    join     once the file is checked and on disk, and nobody is being given this replica's state
             (storage/exchange.py)

By itself it begins when a peer has said that its log no longer holds what this replica lacks and
nobody else may have it in his (`Receiver.want`). One at a time. What fails leaves everything as it
was and is tried again, after pauses that grow; so do they where full syncs succeed and are wanted
again soon. Each that succeeds raises this replica's clock to S at least, so two replicas that lack
each other's ops take each other's state in turn, and then lack nothing.
"""
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from crdtredis import clocks
from crdtredis._core import batch_ranges, bucket_map, record
from crdtredis.clocks import Actor, Clock
from crdtredis.errors import DamagedBatch
from crdtredis.replication import plan
from crdtredis.replication.faults import words
from crdtredis.replication.flow import Body, ProgressLimit, read
from crdtredis.replication.giving import BUCKET_BYTES, PACK_MOST, Giver, unpacked
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.wire import (ACTORS_MOST, BODY_MAX, CONTENT_TYPE, HEAD_MAX, OP_MOST,
                                        Refusal, declarations, decode, encode, proto, to_clock)
from crdtredis.storage.format import FormatError
from crdtredis.storage.stage import Contents, Draft, Stage

if TYPE_CHECKING:
    from crdtredis.replication.lending import Way
    from crdtredis.replication.peer import Peer
    from crdtredis.replication.registry import Registry
    from crdtredis.replication.tail import LogTail
    from crdtredis.storage.exchange import StateExchange

log = logging.getLogger("crdtredis.replication")

BUCKETS = 4096
DIGESTS = BUCKETS * 16                  # bytes
# bytes of a frame: a record with one item as large as an op may be, and a head
FRAME_MOST = OP_MOST + HEAD_MAX
FLUSH = 1 << 20                         # bytes that are written to the stage at once
ROUNDS = 3                              # that others are given to bring what is lacking
RESUME = 300.0                          # s after which a broken stream is given up
LOOK = 0.05                             # s between two looks at what is waited for
LONG_AGO = 600.0                        # s after which a full sync is no reason for a pause
PAUSE_MOST = 300.0                      # s

# What a new attempt on the same stream may mend.
BROKEN = (OSError, aiohttp.ClientError, asyncio.TimeoutError)
PASSING = {proto.NO_SESSION, proto.BUSY, proto.PAUSED}

Handle = Callable[[proto.Given, bytes], Awaitable[None]]


@dataclass
class ReceiverCounts:
    """Since the start."""
    begun: int = 0
    joined: int = 0
    failed: int = 0
    bytes: int = 0                      # of the stages
    last_bytes: int = 0                 # of the last one that was joined,
    last_seconds: float = -1.0          # that it took,
    last_pause: float = 0.0             # and for which writes waited


class Receiving:
    """One full sync from one peer."""

    def __init__(self, receiver: Receiver, peer: Peer | Way) -> None:
        self._r, self.peer, self._process = receiver, peer, peer.process
        self._tail, self._runtime = receiver._tail, receiver._runtime
        self._call, self._exchange = receiver._call, receiver._exchange
        self.phase = "beginning"
        self.begun = time.monotonic()
        self.bytes = 0
        self.asked = BUCKETS                                    # buckets asked for
        self.seconds = -1.0                                     # that it took
        self._sync = 0
        self._start: Clock = {}
        self._theirs: tuple[bytes, bytes] | None = None         # digests, unsure
        self._before: Clock | None = None                       # None: all buckets are asked for
        self._buckets: bytes | None = None
        self._records = self._batches = 0
        self._over: proto.Given | None = None
        self._clock: Clock = {}
        self._actors: tuple[Actor, ...] = ()
        self._draft: Draft | None = None
        self._waiting: list[bytes] = []                         # to be written
        self._waiting_bytes = 0
        self._writing: asyncio.Future[Any] | None = None

    async def run(self) -> float:
        """Returns the seconds for which writes waited. Raises what went wrong; nothing has changed
        then."""
        held = False
        try:
            await self._begin()
            await self._compare()
            contents = await self._stage()
            self.phase, held = "waiting to join", True
            while not self._r.giver.close() or not await self._call(self._exchange.hold):
                await asyncio.sleep(LOOK)
            # Only now: a checkpoint that ended would remove what no segment names.
            stage = await self._on_disk(self._draft.publish)
            # From here on a segment may name it, whatever becomes of this task: it stays.
            self.phase, self._draft, held = "joining", None, False
            return await asyncio.shield(asyncio.ensure_future(self._join(stage, contents)))
        finally:
            self._tail.gate = {}
            self._r.giver.reopen()
            if held:
                self._exchange.let_go_soon()
            await self._discard()
            await self._say_over()

    async def _discard(self) -> None:
        if self._writing:
            await asyncio.wait({self._writing})
        if self._draft is not None:
            try:
                await asyncio.to_thread(self._draft.discard)
            except OSError as e:
                log.warning("%s", e)

    # ---- its parts -------------------------------------------------------------------------------

    async def _begin(self) -> None:
        async def handle(head: proto.Given, data: bytes) -> None:
            if head.step == proto.BEGUN:
                self._sync, self._start = head.sync, to_clock(head.clock)
                self._clock = dict(self._start)
                self._tail.gate = self._start
            elif head.step == proto.DIGESTS and len(data) == DIGESTS + BUCKET_BYTES:
                self._theirs = data[:DIGESTS], data[DIGESTS:]
            else:
                raise unexpected(head)

        empty = not self._tail.head
        await self._ask(proto.Sync(digests=not empty), handle)
        if not self._sync or (self._theirs is None) != empty:
            raise Refusal(proto.MALFORMED, f"{self.peer.replica} began no full sync")

    async def _compare(self) -> None:
        self.phase = "comparing"
        await self._tail.settled()
        if self._theirs is None:
            return
        clock, digests = await self._call(lambda: (self._exchange.clock(),
                                                   self._exchange.digests()))
        while await self._call(digests.step):
            pass
        self._before = clock
        self._buckets = bucket_map(await self._call(digests.result), self._theirs)
        self.asked = int.from_bytes(self._buckets).bit_count()

    async def _stage(self) -> Contents:
        self.phase = "receiving"
        number = await self._call(self._exchange.next_stage)
        await self._on_disk(self._begin_draft, number)
        broken = 0
        moved = time.monotonic()
        while self._over is None:
            at = self._records + self._batches
            try:
                await self._ask(proto.Sync(sync=self._sync, buckets=self._buckets or b"",
                                           at=at, unpacks=True), self._take)
                if self._over is None:
                    raise ConnectionResetError("the stream ended early")
            except (*BROKEN, Refusal) as e:
                if self._disk_failed(e) or isinstance(e, Refusal) and e.code not in PASSING:
                    raise
                if self._records + self._batches > at:
                    broken, moved = 0, time.monotonic()
                if time.monotonic() - moved > RESUME:
                    raise
                broken += 1
                log.info("the full sync from %s broke after %d bytes (%s); it goes on",
                         self.peer.replica, self.bytes, words(e))
                s = self._runtime.settings
                await asyncio.sleep(plan.backoff(broken, s.retry, s.retry_cap,
                                                 self._runtime.chance))
                await self._find_way()
        await self._flush()
        if (self._over.records, self._over.batches) != (self._records, self._batches):
            raise Refusal(proto.MALFORMED, f"{self.peer.replica} gave {self._over.records} "
                                           f"records, and {self._records} came")
        if not self._clock.keys() <= {a.id for a in self._actors}:
            raise Refusal(proto.MALFORMED, f"{self.peer.replica} did not say whose operations "
                                           "its state holds")
        self.phase = "checking"
        contents = Contents(self._start, self._clock, self._actors, self._records, self._batches)
        stage = await self._on_disk(self._draft.complete, contents)
        checking = await self._call(lambda: self._exchange.check(stage))
        while await self._call(checking.step):
            pass
        if checking.contents != contents:
            raise Refusal(proto.MALFORMED, f"what {self.peer.replica} gave is not what it began "
                                           "with")
        return contents

    def _disk_failed(self, e: Exception) -> bool:
        writing = self._writing
        return writing is not None and writing.done() and writing.exception() is not None

    async def _take(self, head: proto.Given, data: bytes) -> None:
        if head.size > PACK_MOST:
            raise Refusal(proto.TOO_LARGE, f"{head.size} packed bytes are more than {PACK_MOST}")
        if head.size:
            data = await asyncio.to_thread(unpacked, data, head.size)
        if head.step == proto.RECORD and not self._batches:
            self._records += 1
        elif head.step == proto.TAIL:
            if not self._batches:
                self._actors = tuple(declarations(data))
            clocks.join(self._clock, {a: last for a, _, last in batch_ranges(data)})
            if len(self._clock) > ACTORS_MOST:
                raise Refusal(proto.MALFORMED, "more actors than there can be")
            self._batches += 1
            data = record(data)
        elif head.step == proto.OVER:
            self._over = head
            return
        else:
            raise unexpected(head)
        self.bytes += len(data)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= FLUSH:
            await self._flush()

    async def _flush(self) -> None:
        """Write what waits to the stage."""
        if self._writing is not None:
            await asyncio.shield(self._writing)
        data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
        await self._on_disk(self._draft.put, data)

    def _on_disk(self, work: Callable[..., Any], *argv: Any) -> Awaitable[Any]:
        """In a thread. It goes on where who waits for it goes away, and `_discard` comes behind
        it."""
        self._writing = asyncio.ensure_future(asyncio.to_thread(work, *argv))
        return asyncio.shield(self._writing)

    def _begin_draft(self, number: int) -> None:
        self._draft = Draft(self._exchange.folder, number, self._r.identity.replica,
                            self.peer.replica, self._buckets)

    async def _join(self, stage: Stage, contents: Contents) -> float:
        outcome = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def done(error: str | None, seconds: float) -> None:
            loop.call_soon_threadsafe(outcome.set_result, (error, seconds))

        await self._call(lambda: self._exchange.join(stage, contents, self._before, done))
        error, seconds = await outcome
        if error is not None:           # the file goes with the next start, or gives way to another
            raise Refusal(proto.UNKNOWN, error)
        self._tail.gate = {}
        await self._tail.resync()
        return seconds

    async def _ask(self, request: proto.Sync, handle: Handle) -> None:
        """As ask(); where the session has ended, which shows only now, once more in a new one."""
        try:
            await self.peer.sync(request, handle)
        except Refusal as e:
            if e.code != proto.NO_SESSION:
                raise
            await asyncio.sleep(self._runtime.settings.retry)
            await self._find_way()
            await self.peer.sync(request, handle)

    async def _find_way(self) -> None:
        """The giver's process may be reached by another of its addresses by now: that of the newest
        handshake counts."""
        await self.peer.ready()
        self.peer = max((p for p in (*self._r.peers, *self._r.ways.values())
                         if p.session and p.process == self._process),
                        key=lambda p: p.handshake_at, default=self.peer)

    async def _say_over(self) -> None:
        """The giver keeps its log for this, until it is told or loses patience."""
        async def handle(head: proto.Given, data: bytes) -> None:
            pass

        if self._sync and self.peer.session:
            try:
                await self._ask(proto.Sync(sync=self._sync, over=True), handle)
            except (*BROKEN, Refusal):
                pass

async def ask(runtime: Runtime, peer: Peer, request: proto.Sync, handle: Handle) -> None:
    """One request about a full sync; handle(head, data) is called for each frame of the reply.
    Raises Refusal, TimeoutError, what aiohttp raises, or handle."""
    if reason := plan.exposed(peer.url, runtime.settings):
        raise Refusal(proto.UNAUTHORIZED, reason)
    request.session = peer.session
    buffer = bytearray()
    async with ProgressLimit(runtime.settings.timeout) as patience:
        async with runtime.http.post(
                peer.urls["sync"], data=Body(encode(request), patience=patience),
                headers=runtime.headers, timeout=aiohttp.ClientTimeout(),
                allow_redirects=False, ssl=runtime.tls) as r:
            if r.status in (404, 405):
                raise Refusal(proto.WRONG_VERSION, f"{peer.replica} runs a version without full "
                                                   "sync: upgrade it")
            if r.status != 200 or r.content_type != CONTENT_TYPE:
                body = await read(r.content, r.content_length, BODY_MAX, patience)
                if r.content_type != CONTENT_TYPE:
                    raise Refusal(proto.UNKNOWN, f"it replied with {r.status} {r.reason}")
                raise refusal(decode(proto.Refusal, body)[0])
            async for data in r.content.iter_any():
                patience.alive()
                buffer += data
                while len(buffer) >= 4:
                    size = int.from_bytes(buffer[:4], "little")
                    if size > FRAME_MOST:
                        raise Refusal(proto.TOO_LARGE, f"a frame of {size} bytes is more than "
                                                       f"{FRAME_MOST}")
                    if len(buffer) < 4 + size:
                        break
                    with memoryview(buffer) as view:
                        body = bytes(view[4:4 + size])
                    del buffer[:4 + size]
                    head, data = decode(proto.Given, body)
                    if peer.is_paused:
                        raise Refusal(proto.PAUSED, "replication was paused here")
                    if head.step == proto.REFUSED:
                        raise refusal(head.refusal)
                    if head.step != proto.WAIT:
                        await handle(head, data)
                    patience.alive()


def refusal(said: proto.Refusal) -> Refusal:
    return Refusal(said.code, said.text)


def unexpected(head: proto.Given) -> Refusal:
    return Refusal(proto.MALFORMED, f"a step {head.step} of a full sync that does not come next")


class Receiver:
    """now: the full sync under way. error: of the last one; "" where it was joined."""

    def __init__(self, identity: Any, tail: LogTail, registry: Registry, runtime: Runtime,
                 giver: Giver, call: Callable[[Callable[[], Any]], Awaitable[Any]],
                 exchange: StateExchange | None) -> None:
        self.identity, self._tail, self._registry = identity, tail, registry
        self._runtime, self.giver, self._call, self._exchange = runtime, giver, call, exchange
        self.now: Receiving | None = None
        self.ways: dict[str, Way] = {}                          # that are lent, by replica
        self.error = ""
        self.counts = ReceiverCounts()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0                                      # in a row
        self._joined: list[float] = []                          # when, of late (monotonic)
        self._not_before = 0.0
        self._asked: dict[str, tuple[Clock, int]] = {}          # by peer: see `_others_may`

    @property
    def peers(self) -> list[Peer]:
        return self._registry.peers

    def cut_off(self, replica: str) -> bool:
        return self._registry.cut_off(replica)

    def offered(self, way: Way) -> None:
        """A peer says, once a round, that its log no longer holds what is lacking here."""
        before = self.ways.get(way.replica)
        self.ways[way.replica] = way
        if before not in (None, way):
            before.link.close()
        if not any(p.session and p.process == way.process for p in self.peers):
            self.want(way)

    def withdrawn(self, way: Way) -> None:
        if self.ways.get(way.replica) is way:
            del self.ways[way.replica]

    def want(self, peer: Peer | Way) -> None:
        """This peer's log no longer holds what is lacking here; called once a round."""
        if (self._exchange is None or self.now is not None or self._runtime.stopping
            or time.monotonic() < self._not_before):
            return
        lacks = clocks.lacking(self._tail.head, peer.acked)
        if lacks and not self._others_may(peer, lacks):
            self.begin(peer)

    def _others_may(self, peer: Peer | Way, lacks: Clock) -> bool:
        """May another peer give by its log what this one lacks the log for? It is given a few
        rounds, as long as nothing comes."""
        head = clocks.only(self._tail.head, lacks)
        before, rounds = self._asked.get(peer.url, (None, 0))
        rounds = rounds + 1 if before == head else 1
        self._asked[peer.url] = head, rounds
        return rounds <= ROUNDS and any(
            p is not peer and p.gives_by_log and any(p.acked.get(a, 0) > head.get(a, 0)
                                                     for a in lacks)
            for p in self._registry.peers)

    def refuses(self, peer: Peer) -> str:
        """Why a full sync from this peer cannot begin now, "" where it can."""
        if self._exchange is None or self._runtime.stopping:
            return "no full sync can be taken in"
        if self.now is not None:
            return f"a full sync from {self.now.peer.replica} is under way"
        return ("" if peer.session and not peer.is_paused
                else f"there is no connection to {peer.url}: {peer.state}")

    def begin(self, peer: Peer | Way) -> asyncio.Task[None]:
        self.now = Receiving(self, peer)
        self.counts.begun += 1
        self._task = asyncio.get_running_loop().create_task(self._run(self.now))
        return self._task

    async def _run(self, now: Receiving) -> None:
        name = now.peer.replica
        log.info("a full sync from %s begins", name)
        try:
            pause = await now.run()
            keys = await self._call(self._exchange.keys)
        except asyncio.CancelledError:
            self._ended(now, "it was cancelled")
            raise
        except Exception as e:
            if not isinstance(e, (*BROKEN, Refusal, FormatError, DamagedBatch)):
                log.error("a full sync failed", exc_info=e)
            self._ended(now, e.text if isinstance(e, Refusal) else words(e))
        else:
            for p in self._registry.peers:
                p.state_joined()
            self._ended(now, "")
            self.counts.last_pause = pause
            log.info("the full sync from %s is joined: %d bytes, %d keys here now, %.1f s, writes "
                     "waited %.2f s", name, now.bytes, keys, self.counts.last_seconds, pause)
            now.peer.hurry()

    def _ended(self, now: Receiving, error: str) -> None:
        s, at = self._runtime.settings, time.monotonic()
        self.now, self.error = None, error
        self.counts.bytes += now.bytes
        now.seconds = at - now.begun
        if error:
            self._failures += 1
            self.counts.failed += 1
            self._not_before = at + plan.backoff(self._failures, s.retry,
                                                 max(s.retry_cap, s.retry), self._runtime.chance)
            log.warning("the full sync from %s failed: %s", now.peer.replica, error)
            return
        self._failures = 0
        self.counts.joined += 1
        self.counts.last_bytes, self.counts.last_seconds = now.bytes, now.seconds
        # the next one of these is not so urgent
        self._joined = [t for t in self._joined if t > at - LONG_AGO] + [at]
        if len(self._joined) > 1:
            self._not_before = at + plan.backoff(len(self._joined), s.retry, PAUSE_MOST,
                                                 self._runtime.chance)

    def progress(self, peer: Peer) -> str:
        """How far a full sync from this peer, or to it, has come; "" where there is none."""
        now = self.now
        if now is not None and now.peer.replica == peer.replica:
            return f"{now.phase}, {now.bytes} bytes in {time.monotonic() - now.begun:.0f} s"
        for g in list(self.giver.givings.values()):
            if g.replica == peer.replica and not g.over:
                return f"giving, {g.bytes} bytes in {time.monotonic() - g.begun:.0f} s"
        return ""

    def refresh(self) -> None:
        """PAUSE, or the peer was removed: nothing goes on."""
        now = self.now
        if now and now.phase != "joining" and (
                now.peer.is_paused
                or now.peer not in (*self._registry.peers, *self.ways.values())):
            self._task.cancel()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

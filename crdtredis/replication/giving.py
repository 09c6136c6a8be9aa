"""Giving the state to replicas that lack what no log holds any more: the giver's side of a full
sync (proto/replication.proto, Sync).

    begin   in one moment: the clock, the log's position, which is pinned. Then the bucket digests
    state   the buckets asked for, piece by piece, each read when there is room for it: what the
            receiver does not read is not read here either. So a slow receiver costs this replica
            its pinned log, and no memory
    tail    the log from that position up to where it stood when the last piece was read, once it is
            on disk: what is given away for good must not be lost here
    over    the receiver has taken it in, or given up

Pieces are made in the engine's thread, one per visit, so between two of them clients have their
turn. A connection that breaks costs what was on its way: the receiver goes on behind what
came last.

What is sent is packed where that is quicker, which slow lines show (`Packing`).

Bounds: GIVINGS at a time, one for each replica, who begins anew gives up the one before. One whose
receiver is silent ends (`_look`), and so do all that nobody reads when this replica is to join a
stage itself: it gives no state while that changes by anything but operations. A second request for
one supersedes the first. `Rate` limits what all of them send together.
"""
from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crdtredis.replication.runtime import Runtime
from crdtredis.replication.wire import Refusal, encode_keys, entries, proto
from crdtredis.storage.reader import LogReader, Removed

if TYPE_CHECKING:
    from crdtredis.replication.tail import LogTail
    from crdtredis.storage.exchange import Giving, StateExchange

log = logging.getLogger("crdtredis.replication")

GIVINGS = 4
SYNC_MOST = 4096                        # bytes of the body of a request
BUCKET_BYTES = 512                      # a bit for each bucket
IDLE = 600.0                            # s without a request after which one is given up
PACK_LEAST, PACK_MOST = 1024, 16 << 20  # bytes: more would take long without a word
PLACES = 1024                           # where a broken stream can go on,
PLACES_BYTES = 16 << 20                 # and what they take, of each full sync
LOOK = 1.0                              # s between two looks for those to be given up

Send = Callable[[proto.Given, bytes], Awaitable[None]]


class Rate:
    """Bytes per second, over all who send."""

    def __init__(self) -> None:
        self._free = 0.0                # when the next bytes may go

    def take(self, size: int, most: int, now: float) -> float:
        """Seconds to wait before so many bytes are sent; most: bytes a second, 0: no limit."""
        at = max(self._free, now) if most else now
        self._free = at + size / most if most else now
        return at - now


class Packing:
    """Packs what is sent while that is quicker than waiting for the bytes it saves."""

    def __init__(self) -> None:
        # averages of late: seconds that a byte takes to be sent, and to be packed, and what is left
        self._wait, self._cost, self._left = 0.0, 2e-8, 0.5

    async def pack(self, data: bytes) -> tuple[bytes, int]:
        """(data, its size before it was packed, or 0)."""
        if (not PACK_LEAST <= len(data) <= PACK_MOST
                or self._wait * (1 - self._left) <= self._cost):
            self._left += (0.5 - self._left) / 64               # what comes may be another kind
            return data, 0
        began = time.monotonic()
        packed = await asyncio.to_thread(zlib.compress, data, 1)
        self._cost += ((time.monotonic() - began) / len(data) - self._cost) / 8
        self._left += (min(len(packed) / len(data), 1.0) - self._left) / 8
        return (packed, len(data)) if len(packed) < len(data) else (data, 0)

    def sent(self, size: int, seconds: float) -> None:
        self._wait += (seconds / max(size, 1) - self._wait) / 8


def unpacked(data: bytes, size: int) -> bytes:
    """Raises Refusal(MALFORMED) where it is not what was packed."""
    unpack = zlib.decompressobj()
    try:
        out = unpack.decompress(data, size)
    except zlib.error as e:
        raise Refusal(proto.MALFORMED, "what was packed does not unpack") from e
    if not unpack.eof or unpack.unused_data or len(out) != size:
        raise Refusal(proto.MALFORMED, f"what was packed has another size than {size} bytes")
    return out


@dataclass(frozen=True)
class Place:
    """Where a stream goes on: behind this cursor of the state, or at this position of the log, ()
    being before the declarations with which the tail begins."""
    cursor: bytes = b""
    position: tuple[int, ...] | None = None


@dataclass
class Given:
    """A full sync under way, on this side."""
    replica: str
    process: int
    key: int
    source: Giving
    # by how many records and batches come before: the newest ones
    places: OrderedDict[int, Place] = field(default_factory=OrderedDict)
    places_bytes: int = 0               # of their cursors
    packing: Packing = field(default_factory=Packing)
    end: tuple[int, int] | None = None  # of the log when the last piece had been read
    reader: LogReader | None = None     # of the log up to there
    records: int = 0                    # of the state, when they have been made
    bytes: int = 0                      # sent
    over: bool = False                  # all of it was
    requests: int = 0                   # that are being served,
    turn: object = None                 # and of the newest of them
    begun: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)         # time of a request, or of its end


@dataclass
class GiverCounts:
    """Since the start."""
    begun: int = 0
    given: int = 0                      # that were sent to the end
    bytes: int = 0


class Giver:
    """exchange: None where there is none (tests): everything is refused."""

    def __init__(self, tail: LogTail, runtime: Runtime,
                 call: Callable[[Callable[[], Any]], Awaitable[Any]],
                 exchange: StateExchange | None) -> None:
        """call: runs a function in the engine thread."""
        self._tail, self._runtime, self._call, self._exchange = tail, runtime, call, exchange
        self.givings: dict[int, Given] = {}
        self.counts = GiverCounts()
        self.closed = False             # a stage is to be joined here: none begins
        # is this process of this replica known to have ended, or silent for too long?
        self.is_gone: Callable[[str, int], bool] = lambda replica, process: False
        self.refuse_cut_off: Callable[[str], None] = lambda replica: None
        self._rate = Rate()
        self._watch: asyncio.TimerHandle | None = None

    # ---- requests --------------------------------------------------------------------------------

    async def open(self, replica: str, process: int, request: proto.Sync) -> Given:
        """The full sync that this process of a replica asks for. Raises Refusal: MALFORMED,
        NO_SYNC, BUSY where none can be begun."""
        if len(request.buckets) not in (0, BUCKET_BYTES):
            raise Refusal(proto.MALFORMED, f"{len(request.buckets)} bytes name no buckets")
        if not request.sync:
            return await self._begin(replica, process, request)
        g = self.givings.get(request.sync)
        if g is None or (g.replica, g.process) != (replica, process):
            raise Refusal(proto.NO_SYNC, "there is no such full sync, or it was given up: begin "
                                         "another")
        return g

    async def _begin(self, replica: str, process: int, request: proto.Sync) -> Given:
        if self._exchange is None:
            raise Refusal(proto.UNKNOWN, "this replica gives no full syncs")
        for g in [g for g in self.givings.values() if g.replica == replica]:
            self._end(g, "the receiver began anew")
        if self.closed:
            raise Refusal(proto.BUSY, "the replica takes in a full sync itself")
        if len(self.givings) >= GIVINGS:
            raise Refusal(proto.BUSY, f"{GIVINGS} full syncs are being given")
        try:
            source = await self._call(lambda: self._exchange.begin(request.digests,
                                                                   not request.compare))
        except (OSError, RuntimeError, LookupError) as e:
            raise Refusal(proto.BUSY, f"no full sync can be given now: {e}") from e
        g = Given(replica, process, self._runtime.chance.getrandbits(63) | 1, source)
        if self.closed or len(self.givings) >= GIVINGS:         # that took time
            source.release()
            raise Refusal(proto.BUSY, "the replica takes in a full sync itself, or gives others")
        self.givings[g.key] = g
        self.counts.begun += 1
        if self._watch is None:
            self._look()
        return g

    async def serve(self, g: Given, request: proto.Sync, send: Send) -> None:
        """Everything that this request asks for. Raises Refusal, or what send does."""
        g.requests += 1
        g.turn = turn = object()
        try:
            if not request.sync:
                await self._digests(g, turn, request, send)
            elif request.over:
                self._end(g, None)
                await send(proto.Given(step=proto.OVER), b"")
            elif request.keys:
                await self._keys(g, turn, request.buckets, send)
            else:
                await self._stream(g, turn, request, send)
        finally:
            g.requests -= 1
            g.last = time.monotonic()

    async def _digests(self, g: Given, turn: object, request: proto.Sync, send: Send) -> None:
        await send(proto.Given(step=proto.BEGUN, sync=g.key, clock=entries(g.source.clock)), b"")
        if not request.digests:
            return
        said = time.monotonic()
        while (found := await self._call(g.source.step_digests)) is None:
            self._check(g, turn)
            if time.monotonic() - said > LOOK:
                await send(proto.Given(), b"")
                said = time.monotonic()
        await send(proto.Given(step=proto.DIGESTS), b"".join(found))

    async def _keys(self, g: Given, turn: object, buckets: bytes, send: Send) -> None:
        try:
            clock, found = await self._call(lambda: self._exchange.key_digests(buckets))
            while await self._call(found.step):
                self._check(g, turn)
            keys, unsure = await self._call(found.result)
        except (ValueError, OverflowError) as e:
            raise Refusal(proto.TOO_LARGE, str(e)) from e
        await send(proto.Given(step=proto.KEYS, clock=entries(clock)), encode_keys(keys, unsure))
        await send(proto.Given(step=proto.OVER), b"")

    async def _stream(self, g: Given, turn: object, request: proto.Sync, send: Send) -> None:
        """What comes behind the first `at` records and batches."""
        buckets, at, packs = request.buckets or None, request.at, request.unpacks
        if not at:
            g.places, g.places_bytes = OrderedDict({0: Place()}), 0
            g.end, g.reader, g.begun = None, None, time.monotonic()
            log.info("%s is given a full sync", g.replica)
        place = g.places.get(at)
        if place is None:
            raise Refusal(proto.NO_SYNC, "the full sync cannot go on there: begin another")
        while place.position is None:
            self._check(g, turn)
            record, place = await self._call(lambda p=place: self._next(g, buckets, p))
            if not record:
                g.records = at
                await self._durable(g, send)
                break
            at = await self._sent(g, turn, at, place, proto.RECORD, record, packs, send)
        while True:
            batch, place = await self._tail_behind(g, place)
            self._check(g, turn)
            if not batch:
                break
            at = await self._sent(g, turn, at, place, proto.TAIL, batch, packs, send)
        if not g.over:
            g.over = True
            self.counts.given += 1
            log.info("%s was given a full sync: %d bytes in %.1f s", g.replica, g.bytes,
                     time.monotonic() - g.begun)
        # The log stays pinned until the receiver has joined it: what it lacks then is there.
        await send(proto.Given(step=proto.OVER, records=g.records, batches=at - g.records), b"")

    async def _sent(self, g: Given, turn: object, at: int, behind: Place, step: int, data: bytes,
                    packs: bool, send: Send) -> int:
        size = 0
        if packs:
            data, size = await g.packing.pack(data)
        began = time.monotonic()
        pause = self._rate.take(len(data), self._runtime.settings.full_sync_rate,
                                time.monotonic())
        while pause > 0:
            await asyncio.sleep(min(pause, LOOK))
            pause -= LOOK
            await send(proto.Given(), b"")
        self._check(g, turn)
        g.places[at + 1] = behind
        g.places_bytes += len(behind.cursor)
        while len(g.places) > PLACES or g.places_bytes > PLACES_BYTES and len(g.places) > 1:
            g.places_bytes -= len(g.places.popitem(last=False)[1].cursor)
        await send(proto.Given(step=step, size=size), data)
        g.last = time.monotonic()
        g.packing.sent(len(data), g.last - began)
        g.bytes += len(data)
        self.counts.bytes += len(data)
        return at + 1

    def _next(self, g: Given, buckets: bytes | None, place: Place) -> tuple[bytes, Place]:
        """In the engine's thread."""
        try:
            record, behind = g.source.next(buckets, place.cursor)
        except OverflowError as e:
            raise Refusal(proto.TOO_LARGE, str(e)) from e
        if record:
            return record, Place(behind)
        g.end = g.source.end()
        return b"", Place(b"", ())

    def _check(self, g: Given, turn: object) -> None:
        """Raises Refusal(NO_SYNC) where it is over, or another request goes on with it."""
        self._check_log(g)
        if self.givings.get(g.key) is not g or g.turn is not turn:
            raise Refusal(proto.NO_SYNC, "the full sync was given up, or goes on elsewhere")
        self.refuse_cut_off(g.replica)

    # ---- the tail --------------------------------------------------------------------------------

    async def _durable(self, g: Given, send: Send) -> None:
        """Returns when the log is on disk up to the end of what is given."""
        syncing = asyncio.ensure_future(asyncio.to_thread(self._sync, g))
        while not (await asyncio.wait({syncing}, timeout=LOOK))[0]:
            await send(proto.Given(), b"")
        if not syncing.result():
            self._end(g, "the log here has failed")
            raise Refusal(proto.NO_SYNC, "the giver's log has failed")

    def _sync(self, g: Given) -> bool:
        self._exchange.log.sync(all_policies=True)
        return g.source.is_sound() and self._exchange.log.durable_to(g.end)

    async def _tail_behind(self, g: Given, place: Place) -> tuple[bytes, Place]:
        if not place.position:
            return self._tail.declarations_beyond(()), Place(b"", g.source.position)
        if g.reader is None:
            g.reader = LogReader(self._exchange.folder, lambda: g.end,
                                 first=lambda: self._exchange.log.first)
        try:
            batch, behind = await asyncio.to_thread(g.reader.read, place.position)
        except Removed:
            self._check_log(g)
            raise Refusal(proto.NO_SYNC, "the full sync was given up: its log is gone") from None
        return batch, Place(b"", behind)

    # ---- the end ---------------------------------------------------------------------------------

    def _end(self, g: Given, why: str | None) -> None:
        """why: None where it has been taken in."""
        if self.givings.pop(g.key, None) is None:
            return
        g.source.release()
        if why and not g.over:
            log.warning("the full sync of %s was given up: %s", g.replica, why)

    def _check_log(self, g: Given) -> None:
        if g.source.pin.broken:
            self._end(g, "the disk here is nearly full, and the log is shortened")

    def _look(self) -> None:
        """Give up those that nobody will go on with."""
        now = time.monotonic()
        for g in list(self.givings.values()):
            self._check_log(g)
            if not g.requests and now - g.last > IDLE:
                self._end(g, f"no word of it for {IDLE:g} s")
            elif not g.requests and self.is_gone(g.replica, g.process):
                self._end(g, "the receiver is gone")
        self._watch = (asyncio.get_running_loop().call_later(LOOK, self._look)
                       if self.givings else None)

    def close(self) -> bool:
        """None begins any more, and those that nobody reads at the moment end. True when none is
        left."""
        self.closed = True
        for g in list(self.givings.values()):
            if not g.requests:
                self._end(g, "the replica takes in a full sync itself")
        return not self.givings

    def reopen(self) -> None:
        self.closed = False

    def stop(self) -> None:
        for g in list(self.givings.values()):
            self._end(g, "the replica stops")
        if self._watch:
            self._watch.cancel()

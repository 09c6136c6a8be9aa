"""The end of the log, between the engine and the peers: what is logged goes out, what peers sent
goes in. Runs in the sync thread's loop.

    engine --drain--> OpLog --cursors--> peers
    engine <-receive-- take <-- peers, whether they pushed or were pulled from

There is one entrance for foreign ops, `take`: the engine applies and logs them, and only then it
says that it is done, so that a reply never claims more than the log holds.

The engine is looked at as soon as it has made something, but not more often than plan.Pace says: at
low rates an op leaves at once, at high ones each look brings many loop iterations, and the cost per
op of Python and HTTP goes towards nothing. What came from peers is told of at once after a rest,
and then gathered for a moment (GATHER): nobody but the sender waits for it.

The log that failed: the engine goes on reading and hands over nothing, and the head here stays
where the log was. What is in the kernel and not in the log is claimed to nobody; the engine says
GAP when the log is whole again.
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from crdtredis import clocks
from crdtredis._core import ReceiveStatus, batch_ranges, slice_batch
from crdtredis.clocks import Actor, Clock
from crdtredis.errors import DamagedBatch
from crdtredis.replication import plan
from crdtredis.replication.local import KernelView, LocalReplica
from crdtredis.replication.oplog import NOTHING, Chunk, Cursor, OpLog, Segments
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.wire import Refusal, declarations, proto
from crdtredis.storage.batch import declaration

STOPPED = -100                          # beside the engine's results: it will give none any more
# seconds; replies to peers are gathered for so long, but for the first after a rest
GATHER = 0.005
# What is said to the sender of a Batch that the engine could not take whole; {} is this replica.
REFUSALS = {
    ReceiveStatus.BAD: (proto.MALFORMED, "the ops do not decode"),
    ReceiveStatus.FULL: (proto.BUSY, "too many ops wait at {} for what they depend on"),
    ReceiveStatus.UNDECLARED: (
        proto.MALFORMED,
        "ops of an actor that was never declared, or a declaration that contradicts a known one"),
    ReceiveStatus.UNLOGGED: (proto.BUSY, "the log of {} cannot be written"),
    ReceiveStatus.CROWD: (proto.BUSY, "more new processes of replicas at once than {} takes in"),
    STOPPED: (proto.STOPPING, "{} is stopping"),
}


class Engine(Protocol):
    """What is needed of the engine thread. All but `call` never block."""

    fd: int                             # readable when `drain` has something

    def drain(self) -> tuple[list[bytes], list[tuple[int, int]], bool]:
        """(logged batches in order, [(token, status) of finished receives], were batches dropped
        before or among these?)"""

    def want(self) -> None:
        """Have it hand over, from now on, what it logs."""

    def receive(self, token: int, batch: bytes) -> None:
        """Queue a Batch to be applied and logged; drain() brings the reply."""

    def wait_for_more(self, patient: bool) -> None:
        """Whether drain() will be called in a moment, so that what peers sent need not be told
        of."""

    def soon(self, function: Callable[[], Any]) -> None:
        """Have the engine thread run it, between two iterations."""

    async def call(self, function: Callable[[], Any]) -> Any:
        """Run in the engine thread, between two iterations."""


def nothing() -> None:
    pass


class LogTail:
    """The log's newest ops, and the way into it.

    log, head: what is logged here. own_actors: this replica's, of all epochs. actors: those that
    the log declares. waiting: ops in the kernel's causal buffer, as last asked. Three functions are
    called, once somebody (registry.Registry) has set them: grown() when there is more to send,
    changed() when the clock has moved, early() when ops came before what they depend on.
    """

    def __init__(self, local: LocalReplica, engine: Engine, segments: Segments,
                 runtime: Runtime) -> None:
        settings, own = runtime.settings, local.actor
        self._local, self._engine, self._runtime = local, engine, runtime
        self.log = OpLog(local.clock, segments, settings.memory, most_entry=settings.chunk_size)
        self.actors = dict(local.actors)
        self.own_actors = {a.id for a in self.actors.values()
                           if a.replica == own.replica} | {own.id}
        self.waiting = 0
        # what the kernel is yet to be told of others' clocks, and whether that is under way
        self._noted: dict[Actor, Clock] = {}
        self._noting = False
        self.duplicate_ops = 0
        # ops up to there come with a full sync, and by no other way
        self.gate: Clock = {}
        self.grown: Callable[[], None] = nothing
        self.changed: Callable[[], None] = nothing
        self.early: Callable[[], None] = nothing
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tokens = 0
        self._receiving: dict[int, Callable[[int], None]] = {}
        self._pace = plan.Pace(settings)
        self._draining: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._wanted = False
        self._resync: asyncio.Task[None] | None = None
        self._held: list[bytes] | None = None   # batches drained while resynchronising
        self._missed = False                    # ... and of those some were dropped: once more

    # ---- what the engine made --------------------------------------------------------------------

    @property
    def head(self) -> Clock:
        return self.log.head.seqs

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._engine.fd, self._drain)

    def stop(self) -> None:
        self._loop.remove_reader(self._engine.fd)
        if self._draining:
            self._draining.cancel()
        if self._gathering:
            self._gathering.cancel()
        receiving, self._receiving = self._receiving, {}
        for finish in receiving.values():
            finish(STOPPED)

    def _drain(self) -> None:
        """The engine has something: look at once, or, soon after another look, when its pause is
        over."""
        wait = self._pace.due - time.monotonic()
        if wait > 0:
            self._loop.remove_reader(self._engine.fd)
            self._draining = self._loop.call_later(wait, self._drain_late)
        else:
            self._pace.looked(self._look(), time.monotonic())

    def _drain_late(self) -> None:
        self._draining = None
        self._loop.add_reader(self._engine.fd, self._drain)
        self._pace.looked(self._look(), time.monotonic())

    def _gather(self) -> None:
        """Look at what comes from peers, from now on, when this time is over."""
        if self._gathering is None and not self._runtime.stopping:
            self._engine.wait_for_more(True)
            pause = max(GATHER, self._pace.due - time.monotonic())
            self._gathering = self._loop.call_later(pause, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        try:
            self._pace.looked(self._look(), time.monotonic())
        finally:
            if self._gathering is None:
                self._engine.wait_for_more(False)

    def _look(self) -> int:
        """Take what the engine has: bytes of batches with own ops."""
        before = self.head.get(self._local.actor.id)
        batches, acks, dropped = self._engine.drain()
        joined = list(self._joined(batches))
        if self._held is not None:
            self._held += joined
            if dropped or sum(map(len, self._held)) > self._runtime.settings.memory:
                self._held.clear()
                self._missed = True
        elif dropped or not self._append(joined):
            self._start_resync()
        if batches:
            self.grown()
        for token, status in acks:
            finish = self._receiving.pop(token, None)
            if finish:
                finish(status)
        if acks:
            self._gather()
        if batches or acks:
            self.changed()
        return sum(map(len, batches)) if self.head.get(self._local.actor.id) != before else 0

    def _joined(self, batches: list[bytes]) -> Iterable[bytes]:
        """The loop iterations' batches put together to about a chunk each: Batches concatenated are
        a Batch."""
        parts: list[bytes] = []
        size = 0
        for batch in batches:
            if batch.startswith(b"\x0a"):
                for a in declarations(batch):
                    self.actors[a.id] = a
            if size and size + len(batch) > self._runtime.settings.chunk_size:
                yield b"".join(parts)
                parts, size = [], 0
            parts.append(batch)
            size += len(batch)
        if parts:
            yield b"".join(parts)

    async def _catch_up_with_engine(self) -> None:
        """Batches are missing between what is here and what the engine makes now; they are in the
        segments. What is drained meanwhile is held, for part of it follows on the clock that is
        being asked for."""
        try:
            self._missed = True
            while self._missed:
                self._held, self._missed = [], False
                view = await self._engine.call(self._local.view)
                self.actors.update(view.actors)
                self.waiting = view.waiting
                # the head stays: a GAP will come with the log's recovery
                if not view.logged:
                    break
                self.log.reset(view.clock)
                if not self._append(self._held):
                    self._missed = True
        finally:
            self._held = self._resync = None
        self.grown()
        self.changed()

    def _append(self, batches: list[bytes]) -> bool:
        """False where something is missing before or between them."""
        now = time.monotonic()
        return all(self.log.append(batch, now) for batch in batches)

    async def want(self) -> None:
        """From now on the engine is to hand over what it logs (before there is a peer it does not,
        since that costs). Returns when the log here is up to date."""
        if not self._wanted:
            self._wanted = True
            self._engine.want()
            self._start_resync()
        if self._resync:
            await asyncio.shield(self._resync)

    async def resync(self) -> None:
        """Take the kernel's clock for what is logged: a stage has been joined."""
        while self._resync:
            await asyncio.shield(self._resync)
        self._start_resync()
        await asyncio.shield(self._resync)

    def _start_resync(self) -> None:
        self._held = []
        self._resync = self._loop.create_task(self._catch_up_with_engine())

    # ---- what comes in ---------------------------------------------------------------------------

    def take(self, batch: bytes, done: Callable[[Clock, Refusal | None], None]) -> None:
        """Have ops applied and logged; then done({actor: last seq} of what the batch holds, None or
        a Refusal: MALFORMED or BUSY)."""
        try:
            found = batch_ranges(batch)
        except DamagedBatch as e:
            return done({}, Refusal(proto.MALFORMED, f"the ops do not decode: {e}"))
        last = {actor: last for actor, _, last in found}
        count = sum(last - first + 1 for _, first, last in found)
        wanted = batch
        if found and clocks.observed(self.head, last):
            self.duplicate_ops += count
            wanted = b""
        elif self.gate and any(first <= self.gate.get(actor, 0) for actor, first, _ in found):
            wanted = slice_batch(batch, self.gate)
        if found and not wanted:
            # Nothing of it but the actors that it declares: its sender will not name them again.
            try:
                told = [a for a in declarations(batch) if a.id not in self.actors]
            except Refusal as e:
                return done({}, e)
            if not told:
                return done(last, None)
            wanted = declaration(told)

        def finish(status: int) -> None:
            if status in REFUSALS:
                code, text = REFUSALS[status]
                return done({}, Refusal(code, text.format(self._local.actor.replica)))
            if not self.gate and not clocks.observed(self.head, last):
                self.early()
            done(last, None)

        self._tokens += 1
        self._receiving[self._tokens] = finish
        self._engine.receive(self._tokens, wanted)

    def send(self, kind: int, data: bytes, done: Callable[[], None]) -> None:
        """Hand the engine what is no op (messages.py); done() when it has it."""
        self._tokens += 1
        self._receiving[self._tokens] = lambda status: done()
        self._engine.receive(self._tokens, data, kind)

    async def settled(self) -> None:
        """Returns when all that was taken so far is applied, or waits for others."""
        await self.receive(b"")                                 # they are replied to in order

    async def receive(self, batch: bytes) -> Clock:
        """As `take`, for somebody who waits for it; raises its Refusal."""
        self._engine.wait_for_more(False)
        future = self._loop.create_future()

        def done(last: Clock, refusal: Refusal | None) -> None:
            if future.done():
                return                                          # nobody waits any more
            if refusal:
                future.set_exception(refusal)
            else:
                future.set_result(last)

        self.take(batch, done)
        return await future

    async def take_declarations(self, part: proto.Part, data: bytes) -> bytes:
        """Take the declarations that stand before a part; returns the part."""
        if part.declarations:
            await self.receive(data[:part.declarations])
        return data[part.declarations:]

    # ---- what readers get ------------------------------------------------------------------------

    async def read(self, cursor: Cursor, limit: int) -> Chunk:
        """The next ops for a cursor, from memory or the segments; NOTHING when it has everything,
        or when the segments have nothing for it although memory begins behind it. That is so for a
        moment after memory has moved on while they were read, hence the second look, and never for
        longer unless files were taken away: then it is no reason to look for ever."""
        looks = 0
        while self.log.is_old(cursor):
            looks += not cursor.reading
            if looks > 2:
                return NOTHING
            chunk = await asyncio.to_thread(self.log.older, cursor, limit)
            if chunk:
                return chunk
        return self.log.take(cursor, limit)

    def declarations_beyond(self, known: Iterable[int]) -> bytes:
        """Declarations of every actor that a reader who knows `known` may not know: ops name actors
        in runs, deps and effects, and the log declares all of them."""
        missing = self.undeclared(known)
        return declaration(self.actors[a] for a in missing) if missing else b""

    def undeclared(self, known: Iterable[int]) -> set[int]:
        """Actors that the log declares and that are not among `known`. A process that made no op
        yet is nobody's business: told, it would be kept by every replica for ever."""
        return self.actors.keys() - known

    # ---- the kernel ------------------------------------------------------------------------------

    async def view(self) -> KernelView:
        """The kernel as it is now, which may be ahead of the log."""
        return await self._engine.call(self._local.view)

    async def record_clock(self, actor: Actor, clock: Clock) -> None:
        """Tell the kernel what a peer has in its log."""
        self.waiting = await self._engine.call(lambda: self._local.record_clock(actor, clock))

    def note_clock(self, actor: Actor, clock: Clock) -> None:
        """The same without waiting for the engine, for who asks must not: the newest of each."""
        self._noted[actor] = clock
        if not self._noting:
            self._noting = True
            self._engine.soon(self._record_noted)

    def _record_noted(self) -> None:
        """In the engine thread."""
        self._noting = False                                    # what comes now is called for again
        while self._noted:
            self._local.record_clock(*self._noted.popitem())

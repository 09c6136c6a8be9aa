"""The middle of replication: who we are, what is logged here, what comes in, and who waits for
what. Runs in the sync thread's loop.

    engine --drain--> OpLog --cursors--> peer.Peer --HTTP--> other replicas
    engine <-receive-- push, pull, handshake (here) <--HTTP-- other replicas

There is one entrance for foreign ops, `take`, whether a peer pushed them or we pulled them: the
engine applies and logs them, and only then it says that it is done, so that a reply never claims
more than the log holds. What arrives is bounded by a budget in bytes for each peer; who finds it
used up waits, and the peers' windows close by themselves.

The engine is looked at as soon as it has made something, but not more often than plan.Pace says: at
low rates an op leaves at once, at high ones each look brings many iterations, and the cost per op
of Python and HTTP goes towards nothing. What came from peers is told of at once after a rest, and
then gathered for a moment (GATHER): nobody but the sender waits for it.

Sessions: a handshake opens one per replica, and every push and pull names it. A replica that
restarted has forgotten its sessions and so makes the other side shake hands, and send its clock,
again. Two processes with one replica id: the one that came later takes the id over here and the
earlier is refused, so the two cannot replace each other in turn for ever. When the later one has
been silent for Settings.silence, the earlier may come back: what its clients wrote is not lost with
the mistake. /health of the refused says so.

The log that failed: the engine goes on reading and hands over nothing, and the head here stays
where the log was. What is in the kernel and not in the log is claimed to nobody; the engine says
GAP when the log is whole again.

PAUSE is checked where bytes would cross: before anything is handed to the engine and before
anything leaves. All state here belongs to the loop's thread, except `paused_all` and Peer.paused,
which are plain flags that PAUSE sets at once from the engine thread.
"""
from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from multidict import CIMultiDict

from crdtredis import clocks
from crdtredis._core import ReceiveStatus
from crdtredis.clocks import Actor, Clock
from crdtredis.errors import DamagedBatch
from crdtredis.replication import plan
from crdtredis.replication.flow import Traffic
from crdtredis.replication.oplog import (NOTHING, Cursor, LargeOp, NeedsFullSync, OpLog, Chunk,
                                         Segments)
from crdtredis.replication.waiters import Waiter, Waiters
from crdtredis.replication.wire import (CONTENT_TYPE, OP_MOST, PART, PROTOCOL, Refusal,
                                        declarations, declare, entries, ranges, to_clock,
                                        proto)

if TYPE_CHECKING:
    from crdtredis.replication.peer import Peer

log = logging.getLogger("crdtredis.replication")

STOPPED = -100                          # beside the engine's results: it will give none any more
# seconds; replies to peers are gathered for so long, but for the first after a rest
GATHER = 0.005
SESSIONS = 1000                         # of replicas that shook hands, listed here or not
RETIRED = 1000                          # processes remembered as superseded, over all replica ids
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


@dataclass(frozen=True)
class KernelView:
    """The kernel as of one moment."""
    clock: Clock
    actors: dict[int, Actor]            # that the log declares
    waiting: int = 0                    # ops held back, for their time or for what they depend on
    logged: bool = True                 # all of `clock` is in the log


@dataclass
class LocalReplica:
    """This process among the replicas. Three functions for the engine thread: renew(epoch) makes an
    epoch above that one durable, writes under it from then on and returns the new actor; view()
    looks at the kernel; record_clock(actor, clock) tells it what a peer has, so that it can let go
    of what was kept for that one, and returns how many ops wait."""
    actor: Actor
    actors: dict[int, Actor]            # that the log declares
    clock: Clock                        # of the log, at the start
    renew: Callable[[int], Actor]
    view: Callable[[], KernelView]
    record_clock: Callable[[Actor, Clock], int]
    process: int = field(default_factory=lambda: random.SystemRandom().getrandbits(63) | 1)


@dataclass
class InboundSession:
    replica: str
    process: int
    key: int
    last_request: float                 # monotonic, of the newest request
    traffic: Traffic                    # of the replica, in whatever session
    cursor: Cursor | None = None        # of its pulls


class Hub:
    def __init__(self, local: LocalReplica, engine: Engine, segments: Segments,
                 settings: plan.Settings,
                 chance: random.Random | None = None) -> None:
        self.local, self.engine, self.settings = local, engine, settings
        self.chance = chance or random.Random()
        self.actors = dict(local.actors)
        self.own = {a.id for a in self.actors.values()
                    if a.replica == self.replica} | {local.actor.id}
        self.log = OpLog(local.clock, segments, settings.memory, most_entry=settings.chunk_size)
        self.peers: list[Peer] = []
        self.sessions: dict[str, InboundSession] = {}
        self.paused_all = False
        self.stopping = False
        # ops in the kernel's causal buffer, as last asked
        self.waiting = 0
        # another process with our replica id called: what it was told, when
        self._twin = ("", 0.0)
        self.received_ops = self.duplicate_ops = self.refused = 0
        self.unidentified_traffic = Traffic(settings.inbound)   # of callers without a session
        self._retired: OrderedDict[int, str] = OrderedDict()
        self._tokens = 0
        self._receiving: dict[int, Callable[[int], None]] = {}
        self.waiters = Waiters()
        self._until: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self.http: aiohttp.ClientSession | None = None          # set by whoever runs the loop
        self._pace = plan.Pace(settings)
        self._draining: asyncio.TimerHandle | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._wanted = False
        self._resync: asyncio.Task[None] | None = None
        # batches drained while resynchronising
        self._held: list[bytes] | None = None
        # ... and of those some were dropped: once more
        self._missed = False
        self._renewing = asyncio.Lock()
        self._renewals = plan.Renewals()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def replica(self) -> str:
        return self.local.actor.replica

    @property
    def settings(self) -> plan.Settings:
        return self._settings

    @settings.setter
    def settings(self, settings: plan.Settings) -> None:
        """With what every request to a peer has in common, made once."""
        self._settings = settings
        self.headers = CIMultiDict({"Content-Type": CONTENT_TYPE, "X-Replica": self.replica})
        if settings.token:
            self.headers["Authorization"] = f"Bearer {settings.token}"

    @property
    def head(self) -> Clock:
        return self.log.head.seqs

    # ---- what the engine made --------------------------------------------------------------------

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.engine.fd, self._drain)

    def stop(self) -> None:
        self.stopping = True
        self._loop.remove_reader(self.engine.fd)
        if self._draining:
            self._draining.cancel()
        if self._gathering:
            self._gathering.cancel()
        for s in self.sessions.values():
            if s.traffic.stream:
                s.traffic.stream.close()
        receiving, self._receiving = self._receiving, {}
        for finish in receiving.values():
            finish(STOPPED)

    def _drain(self) -> None:
        """The engine has something: look at once, or, soon after another look, when its pause is
        over."""
        wait = self._pace.due - time.monotonic()
        if wait > 0:
            self._loop.remove_reader(self.engine.fd)
            self._draining = self._loop.call_later(wait, self._drain_late)
        else:
            self._pace.looked(self._look(), time.monotonic())

    def _drain_late(self) -> None:
        self._draining = None
        self._loop.add_reader(self.engine.fd, self._drain)
        self._pace.looked(self._look(), time.monotonic())

    def _gather(self) -> None:
        """Look at what comes from peers, from now on, when this time is over."""
        if self._gathering is None and not self.stopping:
            self.engine.wait_for_more(True)
            pause = max(GATHER, self._pace.due - time.monotonic())
            self._gathering = self._loop.call_later(pause, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        try:
            self._pace.looked(self._look(), time.monotonic())
        finally:
            if self._gathering is None:
                self.engine.wait_for_more(False)

    def _look(self) -> int:
        """Take what the engine has: bytes of batches with own ops."""
        before = self.head.get(self.local.actor.id)
        batches, acks, dropped = self.engine.drain()
        joined = list(self._joined(batches))
        if self._held is not None:
            self._held += joined
            if dropped or sum(map(len, self._held)) > self.settings.memory:
                self._held.clear()
                self._missed = True
        elif dropped or not self._append(joined):
            self._start_resync()
        if batches:
            for p in self.peers:
                p.grow()
        for token, status in acks:
            finish = self._receiving.pop(token, None)
            if finish:
                finish(status)
        if acks:
            self._gather()
        if batches or acks:
            self.wake()
        return sum(map(len, batches)) if self.head.get(self.local.actor.id) != before else 0

    def _joined(self, batches: list[bytes]) -> Iterable[bytes]:
        """The loop iterations' batches put together to about a chunk each: Batches concatenated are
        a Batch."""
        parts: list[bytes] = []
        size = 0
        for batch in batches:
            if batch.startswith(b"\x0a"):
                for a in declarations(batch):
                    self.actors[a.id] = a
            if size and size + len(batch) > self.settings.chunk_size:
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
                view = await self.engine.call(self.local.view)
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
        for p in self.peers:
            p.grow()
        self.wake()

    def _append(self, batches: list[bytes]) -> bool:
        """False where something is missing before or between them."""
        now = time.monotonic()
        return all(self.log.append(batch, now) for batch in batches)

    async def want(self) -> None:
        """From now on the engine is to hand over what it logs (before there is a peer it does not,
        since that costs). Returns when the log here is up to date."""
        if not self._wanted:
            self._wanted = True
            self.engine.want()
            self._start_resync()
        if self._resync:
            await asyncio.shield(self._resync)

    def _start_resync(self) -> None:
        self._held = []
        self._resync = self._loop.create_task(self._catch_up_with_engine())

    # ---- waiting ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something moved: our clock or what a peer has. Lets those go whose condition holds."""
        for future, condition in list(self._until.items()):
            if not future.done() and condition():
                future.set_result(None)
        freed = [x for actor in self.waiters.actors
                 for x in self.waiters.free(actor, self._reached(actor))]
        if freed:
            self.engine.soon(lambda: [done(replicas) for done, replicas in freed])

    async def until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            future = self._loop.create_future()
            self._until[future] = condition
            try:
                await future
            finally:
                del self._until[future]

    def wait(self, waiter: Waiter) -> None:
        """Have waiter.done called in the engine thread, once enough replicas have what it waits
        for."""
        self.waiters.enter(waiter)
        self.wake()

    def _reached(self, actor: int) -> list[int]:
        """Up to where each replica has this actor in its log, greatest first. A replica with two
        addresses is one replica, of which the process counts that shook hands last: the former may
        have had what this one lost."""
        newest: dict[str, Peer] = {}
        for p in self.peers:
            if p.is_replica and (p.replica not in newest
                                 or p.handshake_at > newest[p.replica].handshake_at):
                newest[p.replica] = p
        return sorted((max(p.acked.get(actor, 0) for p in self.peers if p.is_replica
                           and p.process == n.process)
                       for n in newest.values()), reverse=True)

    def acknowledged(self, actor: int, seq: int) -> int:
        """Replicas that have this op of ours in their log."""
        return sum(1 for s in self._reached(actor) if s >= seq)

    # ---- what operators must know ----------------------------------------------------------------

    @property
    def conflict(self) -> str:
        """What shows that another process uses our replica id, "" where nothing does. From any
        thread."""
        text, at = self._twin
        if text and time.monotonic() - at < self.settings.silence:
            return text
        return next((f"peer {p.url}: {p.error}" for p in self.peers
                     if p.refusal == proto.SAME_REPLICA), "")

    def faults(self) -> list[str]:
        """Why clients should not be given to this server, as far as replication knows. From any
        thread."""
        conflict = self.conflict
        return [conflict] * bool(conflict) + [f"operations of {p.replica} cannot be taken "
                                              f"here: {p.error}" for p in self.peers
                                              if p.cannot_take]

    # ---- what comes in ---------------------------------------------------------------------------

    def take(self, batch: bytes, done: Callable[[Clock, Refusal | None], None]) -> None:
        """Have ops applied and logged; then done({actor: last seq} of what the batch holds, None or
        a Refusal: MALFORMED or BUSY)."""
        try:
            found = ranges(batch)
        except DamagedBatch as e:
            return done({}, Refusal(proto.MALFORMED, f"the ops do not decode: {e}"))
        last = {actor: last for actor, _, last in found}
        count = sum(last - first + 1 for _, first, last in found)
        self.received_ops += count
        if found and clocks.observed(self.head, last):
            self.duplicate_ops += count
            return done(last, None)

        def finish(status: int) -> None:
            if status in REFUSALS:
                code, text = REFUSALS[status]
                return done({}, Refusal(code, text.format(self.replica)))
            if not clocks.observed(self.head, last):
                # some wait: ask around soon for what they depend on
                for p in self.peers:
                    p.hurry()
            done(last, None)

        self._tokens += 1
        self._receiving[self._tokens] = finish
        self.engine.receive(self._tokens, batch)

    async def receive(self, batch: bytes) -> Clock:
        """As `take`, for somebody who waits for it; raises its Refusal."""
        self.engine.wait_for_more(False)
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

    async def verify_identity(self, hello: proto.Hello, told: Iterable[Actor]) -> None:
        """What a peer's Hello tells about ourselves: maybe that we must take a newer epoch before
        going on."""
        async with self._renewing:
            above = plan.newer_epoch(self.local.actor, self.head, told, to_clock(hello.clock),
                                     int(time.time() * 1000))
            if above is not None:
                if not self._renewals.take(time.monotonic()):
                    raise Refusal(proto.SAME_REPLICA,
                                                     f"{hello.replica} knows replica "
                                                     f"{self.replica} in a later life, which has "
                                                     "happened too often of "
                                                     "late: does another process use its id?")
                old = self.local.actor
                try:
                    new = await self.engine.call(lambda: self.local.renew(above))
                except OSError as e:
                    # a full disk: nothing of ours was said to anybody
                    raise Refusal(proto.BUSY,
                                  f"{self.replica} cannot store a new epoch: {e.strerror}") from e
                self.local.actor = new
                self.own.add(new.id)
                log.warning("%s knows replica %s in a later life than this one (epoch %d): going "
                            "on as epoch %d",
                            hello.replica, self.replica, old.epoch, new.epoch)

    def hello(self, session: int = 0) -> tuple[proto.Hello, bytes]:
        own = self.local.actor
        return proto.Hello(version=PROTOCOL, cluster=self.settings.cluster, replica=own.replica,
                          epoch=own.epoch,
                          process=self.local.process, now=int(time.time() * 1000),
                          clock=entries(self.head),
                          session=session), self.declarations_beyond(())

    def check_hello(self, hello: proto.Hello) -> None:
        try:
            plan.check_hello(hello, cluster=self.settings.cluster, replica=self.replica,
                       process=self.local.process,
                       now_ms=int(time.time() * 1000), skew=self.settings.skew)
        except Refusal as e:
            if e.code == proto.SAME_REPLICA:
                self._twin = e.text, time.monotonic()
            raise

    def cut_off(self, replica: str) -> bool:
        """Is replication with this replica paused? A caller nobody can place may be the paused peer
        that has not shaken hands yet."""
        if self.paused_all or any(p.paused and p.replica == replica for p in self.peers):
            return True
        unidentified = any(p.paused and not p.replica for p in self.peers)
        return unidentified and not any(p.replica == replica for p in self.peers)

    def _refuse_paused(self, replica: str) -> None:
        if self.stopping:
            raise Refusal(proto.STOPPING, f"{self.replica} is stopping")
        if self.cut_off(replica):
            raise Refusal(proto.PAUSED,
                          f"{self.replica} has paused replication with {replica} (CRDT.PEER RESUME "
                          "there)")

    async def handshake(self, hello: proto.Hello, declared: bytes) -> tuple[proto.Hello, bytes]:
        """Reply a handshake. Raises Refusal."""
        told = declarations(declared)
        await self.want()
        if hello.process == self.local.process:
            # a peer list that names this replica itself: the caller will see
            return self.hello()
        self.check_hello(hello)
        self._refuse_paused(hello.replica)
        self._refuse_retired(hello)
        await self.verify_identity(hello, told)
        self._refuse_retired(hello)                             # that took time
        before = self.sessions.get(hello.replica)
        if before and before.process != hello.process:
            self._retired.pop(hello.process, None)
            self._retired[before.process] = before.replica
            while len(self._retired) > RETIRED:
                self._retired.popitem(last=False)
        session = InboundSession(hello.replica, hello.process, self.chance.getrandbits(63) | 1,
                          time.monotonic(),
                          before.traffic if before else Traffic(self.settings.inbound))
        self.sessions[hello.replica] = session
        self._bound_sessions(session)
        for p in self.peers:
            if ((p.replica == hello.replica or not p.replica)
                and (p.state != "up" or p.process != hello.process)):
                # it is there: do not wait for our own back-off
                p.wanted.set()
        return self.hello(session.key)

    def _bound_sessions(self, newest: InboundSession) -> None:
        """Names are cheap: of replicas beyond SESSIONS the one that has been silent for longest
        shakes hands again, should there be such a one; not a listed peer, whose name others can use
        but not multiply."""
        if len(self.sessions) > SESSIONS:
            listed = {p.replica for p in self.peers} | {newest.replica}
            gone = min((s for s in self.sessions.values() if s.replica not in listed),
                       key=lambda s: s.last_request, default=None)
            if gone:
                del self.sessions[gone.replica]
                gone.traffic.end()

    def _refuse_retired(self, hello: proto.Hello) -> None:
        """A and its copy A' both call: A, A', A (refused, and so on). A' is stopped; A calls after
        `silence`: A' is the refused one now."""
        session = self.sessions.get(hello.replica)
        if (hello.process in self._retired and session
            and time.monotonic() - session.last_request < self.settings.silence):
            raise Refusal(proto.SAME_REPLICA,
                                             "another process has taken over replica_id "
                                             f"{hello.replica!r}: "
                                             "give each replica its own, or stop one of them")

    def session(self, replica: str, key: int) -> InboundSession:
        found = self.sessions.get(replica)
        if found is None or found.key != key:
            raise Refusal(proto.NO_SESSION, "no such session: shake hands first")
        self._refuse_paused(replica)
        found.last_request = time.monotonic()
        return found

    def traffic(self, replica: str) -> Traffic:
        """By what a request says of its sender."""
        found = self.sessions.get(replica)
        return found.traffic if found else self.unidentified_traffic

    def has(self, session: InboundSession, clock: Clock) -> None:
        """The process of this session has all of `clock` in its log."""
        for p in self.peers:
            if p.replica == session.replica and p.process == session.process:
                p.has(clock)

    async def push(self, replica: str, request: proto.Push, batch: bytes) -> proto.Reply:
        """Take ops from a peer; replied to once they are logged, or wait for others. Raises
        Refusal."""
        session, part = self.session(replica, request.session), None
        if request.HasField("part"):
            part = await self._take_part(session, request.part, batch)
        elif batch:
            self.has(session, await self.receive(batch))
        return self.reply(request.since, part=part)

    def reply(self, version: int, **more: Any) -> proto.Reply:
        """To pushes: what the log has got since the clock had this version."""
        head = self.log.head
        return proto.Reply(clock=entries(head.since(version)), version=head.version,
                           waiting=self.waiting, **more)

    async def _take_part(self, session: InboundSession, part: proto.Part,
                         data: bytes) -> proto.Part:
        """Returns which part is wanted next. What is here stays, should the engine refuse the whole
        for the moment."""
        parts, data = session.traffic.parts, await self.take_declarations(part, data)
        if self.head.get(part.actor, 0) < part.seq:             # else it came by another way
            self._make_room(session, part.size)
            whole = parts.add(part, data)
            if whole is None:
                return proto.Part(actor=part.actor, seq=part.seq, size=part.size,
                                 at=parts.held(part))
            try:
                self.has(session, await self.receive(whole))
            except Refusal as e:
                if e.code == proto.MALFORMED:
                    parts.clear()
                raise
        parts.clear()
        return proto.Part(actor=part.actor, seq=part.seq, size=part.size, at=part.size)

    def _make_room(self, session: InboundSession, size: int) -> None:
        """Bound what large ops of all peers take while they come in. Refusal(BUSY)."""
        others = sorted((s for s in self.sessions.values() if s is not session),
                        key=lambda s: s.last_request)
        used = sum(s.traffic.parts.have for s in others)
        for other in others:
            if used + size > 2 * OP_MOST and other.traffic.parts.have:
                if time.monotonic() - other.last_request < self.settings.timeout:
                    raise Refusal(proto.BUSY, "other large ops are on their way here")
                used -= other.traffic.parts.have
                other.traffic.parts.clear()

    async def take_declarations(self, part: proto.Part, data: bytes) -> bytes:
        """Take the declarations that stand before a part; returns the part."""
        if part.declarations:
            await self.receive(data[:part.declarations])
        return data[part.declarations:]

    async def pull(self, replica: str, request: proto.Pull) -> tuple[proto.Reply, bytes]:
        """A comparison of clocks, or up to request.limit bytes of the ops that a peer wants. Raises
        Refusal.

        Only a comparison says what the peer has logged. C fetches b1, which depends on an a1 it
        lacks: C's next pull claims b1, so that it is not sent again, while b1 waits in C's memory;
        a WAIT at B that took this for an acknowledgement would lie."""
        session = self.session(replica, request.session)
        clock, part = to_clock(request.clock), None
        batch, more = b"", False
        if not request.limit:
            self.has(session, clock)
            self.wake()
        elif lent := self._still_lent(session, request.part):
            part, batch = self._lend(session, lent, request.part, b"")
            more = True
        else:
            known = {a for a, seq in clock.items() if seq}
            if request.actors:
                clock = clocks.leaving_out(clock, self.head, set(request.actors))
            # taken: a second pull meanwhile gets its own
            cursor, session.cursor = session.cursor, None
            if cursor is None or not clocks.observed(clock, cursor.clock):
                try:
                    cursor = self.log.cursor(clock)
                except NeedsFullSync as e:
                    raise Refusal(proto.NEEDS_FULL_SYNC,
                                                        f"{replica} needs a full sync: the log of "
                                                        f"{self.replica} no longer holds "
                                                        f"ops that it lacks ({e})") from e
            clocks.join(cursor.clock, clock)
            chunk = await self.read(cursor, min(request.limit, self.settings.chunk_size))
            more = self.log.pending(cursor)
            batch = self.declarations_beyond(known) if chunk else b""
            if chunk.large:
                part, batch = self._lend(session, chunk.large, request.part, batch)
                more = True
            else:
                batch += chunk.batch
                session.traffic.lend(None, 0.0)
            session.cursor = cursor
            self._refuse_paused(replica)                        # reading took time
        head = self.log.head
        return proto.Reply(clock=entries(head.seqs), version=head.version, waiting=self.waiting,
                           more=more, part=part), batch

    @staticmethod
    def _still_lent(session: InboundSession, part: proto.Part) -> LargeOp | None:
        lent = session.traffic.lent
        return (lent if lent and part.at and (lent.actor, lent.seq) == (part.actor, part.seq)
                else None)

    def _lend(self, session: InboundSession, large: LargeOp, wanted: proto.Part,
              told: bytes) -> tuple[proto.Part, bytes]:
        """A part of this op, from where it is wanted on, and what belongs behind the head."""
        size = len(large.batch)
        known = ((wanted.actor, wanted.seq, wanted.size) == (large.actor, large.seq, size)
                 and wanted.at < size)
        at = wanted.at if known else 0
        session.traffic.lend(large, self.settings.timeout)
        part = proto.Part(actor=large.actor, seq=large.seq, size=size, at=at,
                          declarations=len(told))
        return part, told + memoryview(large.batch)[at:at + PART]

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
        return declare(self.actors[a] for a in missing) if missing else b""

    def undeclared(self, known: Iterable[int]) -> set[int]:
        """Actors that the log declares and that are not among `known`. A process that made no op
        yet is nobody's business: told, it would be kept by every replica for ever."""
        return self.actors.keys() - known

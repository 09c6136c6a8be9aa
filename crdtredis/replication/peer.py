"""One peer: the conversation this replica leads with it. One task, never in anyone's way.

    wait until allowed -> shake hands -> push and exchange side by side until something fails ->
    back off, again

*Push* follows a cursor over the log, own ops only. When caught up, ops leave as soon as the hub
brings them, on a stream (stream.py) and without a task of their own (`grow`); while the window is
full they gather, so the batches grow with the load. Where there is no stream, each push is a
request and several are in flight; the receiver's waiting room and the density of seqs make their
order harmless. What must be read from segments, and large ops, which go in requests of their own,
are the push loop's. What a peer acknowledged (`known`) is what its answers say, and is taken afresh
from its Hello whenever it comes back: it may have lost its unsynced tail.

*Exchange* compares clocks every sync_interval, fetches what is overdue and hands on what the peer
cannot get otherwise: the rules are clocks.overdue's. It also repeats own ops that were sent but
never applied.

A failure ends the conversation: back-off with jitter, then a new handshake. After max_retries the
peer counts as down and is tried on at the cap. A refusal (wrong cluster, wrong token, a second
process with one id ...) is shown as such and tried again at the cap, for operators mend things; so
is an address where something else than a replica answers (faults.py). Where ops are refused, here
or there, a handshake proves nothing: the state stays "refused" until what was refused has arrived
(`Impasse`). Of several addresses of one replica one is talked to; the others stand by, since a
handshake through one ends the conversation through another. A peer that lacks ops which the log no
longer holds is not pushed to: its state says it needs a full sync.

Everything but `paused` belongs to the sync thread's loop.
"""
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from crdtredis import clocks
from crdtredis.clocks import Actor, Clock, actor_id
from crdtredis.replication import plan
from crdtredis.replication.faults import recognise, words
from crdtredis.replication.flow import Body, Parts, Patience, patience_for, read
from crdtredis.replication.oplog import Cursor, Large, NeedsFullSync, Piece
from crdtredis.replication.stream import UPGRADE, Outlet, Sent
from crdtredis.replication.wire import (ACTORS_MOST, BODY_MAX, CONTENT_TYPE, HEAD_MAX, PART,
                                        Refusal, declarations,
                                        decode, encode, entries, ranges, to_clock, wire)

if TYPE_CHECKING:
    from crdtredis.replication.hub import Hub

log = logging.getLogger("crdtredis.replication")

# Refusals that a new handshake, or a moment's patience, can mend; the others need an operator.
PASSING = {wire.NO_SESSION, wire.BUSY, wire.STOPPING, wire.PAUSED}
# Those that are about the ops sent.
UNTAKEABLE = {wire.MALFORMED, wire.TOO_LARGE}
# States that an attempt does not change before it has succeeded, or failed otherwise.
LASTING = {"not answering", "down", "refused", "paused", "self", "standby"}
# States of addresses that need no conversation: this replica's own, and those of a replica that is
# talked to through another.
APART = {"self", "standby"}
# seconds before sending again to a peer whose queues are full: at first, and at most
BUSY_PAUSE = 0.05, 1.0
# seconds that CRDT.SYNC first gives ops to move on by themselves before it hands them on
BRING_UP_PATIENCE = 0.1
NO_LIMIT = aiohttp.ClientTimeout()      # of aiohttp's own: see flow.Patience
# seconds without an answer after which a peer is shown as not answering
MUTE = 5.0
# least seconds between two exchanges, however much in a hurry somebody is
BREATHER = 0.2


@dataclass
class Counts:
    """Since the peer was added."""
    ops_sent: int = 0
    bytes_sent: int = 0
    pushes: int = 0
    # answers to pulls; what it pushed is counted by its own session
    ops_received: int = 0
    bytes_received: int = 0
    pulls: int = 0
    exchanges: int = 0
    relayed: int = 0                    # ops of other origins handed on
    handshakes: int = 0
    failures: int = 0
    full_syncs: int = 0                 # how often it was found to need one


@dataclass
class Impasse:
    """Ops that were refused, as clocks: what the peer must have, and what this replica must have,
    before the link counts as up again."""
    error: str
    there: Clock = field(default_factory=dict)
    here: Clock = field(default_factory=dict)


@dataclass(frozen=True)
class PeerInfo:
    """What CRDT.PEERS, INFO and /stats show of a peer."""
    url: str
    replica: str                        # "" until it has been met
    # connecting, up, not answering, retrying, down, refused, paused, needs full sync, standby, self
    state: str
    lag_ops: int                        # own ops it has not acknowledged
    lag_ms: int                         # age of the oldest of them
    queued_bytes: int                   # bytes of the log from there on, as far as memory holds it
    in_flight: int
    missing_ops: int                    # ops it is known to have and this replica has not
    last_contact_ms: int                # since its last answer; -1: never
    error: str                          # the last one; "" while all is well
    counts: Counts


class Peer:
    def __init__(self, hub: Hub, url: str) -> None:
        self.hub, self.url = hub, url.rstrip("/")
        self._urls = {what: URL(f"{self.url}/replication/{what}")
                      for what in ("handshake", "push", "pull", "stream")}
        self.replica = ""
        # of the Hello that `known` began with
        self.process = 0
        # when it shook hands last (monotonic)
        self.met = 0.0
        self.paused = False
        self.error = ""
        # its code, where the last fault was one that an operator must mend
        self.refusal: int | None = None
        self.counts = Counts()
        # what it has in its log, as far as we were told
        self.known: Clock = {}
        # look again: the log has grown, or a push was answered
        self.grown = asyncio.Event()
        self.wanted = asyncio.Event()                           # do not sleep: try now
        self._state = "connecting"
        self._failures = 0                                      # in a row
        self._contact = 0.0
        self._asked: set[Patience] = set()                      # requests without an answer yet
        self._cursor: Cursor | None = None                      # of the push
        self._window = plan.Window(hub.settings.window)
        self._busy_pause = BUSY_PAUSE[0]
        self._outlet: Outlet | None = None                      # the stream, where there is one
        self._lost: Exception | None = None                     # it has ended, and why
        # nothing to send, nothing went wrong: the loop waits for `grown`
        self._idle = False
        self._next: Piece | None = None                         # to be sent before what the log has
        self._actor: Actor | None = None                        # that it acts as
        self._session = 0
        self._version = 0                                       # of its clock
        self._declared: set[int] = set()                        # actors it knows
        self._it_lacks = ""                                     # why it needs a full sync
        # why this replica does, as far as this peer can help
        self._here_lacks = ""
        self._pushes: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()                          # a large op: one at a time
        self._sent = wire.Part()                                # how much it has of the last one
        self._parts = Parts()                                   # of the last one fetched from it
        self._fault: BaseException | None = None                # what a push ended with
        self._impasse: Impasse | None = None
        self._exchanging = asyncio.Lock()
        self._before: Clock | None = None                       # our clock at the last exchange,
        self._theirs: Clock | None = None                       # and the peer's
        self._conversation: asyncio.Task[None] | None = None
        # of the next attempt, for who waits for it
        self._outcome: asyncio.Future[bool] | None = None

    # ---- what others see -------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        return self.paused or self.hub.paused_all

    @property
    def state(self) -> str:
        if self._state == "self":
            return "self"
        if self.is_paused:
            return "paused"
        if self._is_mute:
            return "not answering"
        return ("needs full sync" if self._state == "up" and (self._it_lacks or self._here_lacks)
                else self._state)

    @property
    def contact(self) -> float:
        """When it answered last (monotonic); 0.0: never."""
        return self._contact

    @property
    def _is_mute(self) -> bool:
        """It takes what is sent, or so it seems, and nothing comes back: stopped, hung, or cut off
        by something that drops packets."""
        outlet = self._outlet
        return (time.monotonic() - self._contact > MUTE
                and (any(p.stands(MUTE) for p in list(self._asked)) or outlet is not None
                     and outlet.stands(MUTE)))

    @property
    def is_replica(self) -> bool:
        """Its acknowledgements count: it was met, and is not ourselves under another name."""
        return bool(self.replica) and self._state != "self"

    @property
    def cannot_take(self) -> bool:
        """Are there ops of this peer that this replica refuses?"""
        return self._impasse is not None and bool(self._impasse.here)

    def info(self) -> PeerInfo:
        now = time.monotonic()
        cursor = self._cursor or Cursor({}, self.hub.own)
        ops, age, size = (self.hub.log.lag(cursor, self.known, now) if self._state not in APART
                          else (0, 0.0, 0))
        return PeerInfo(self.url, self.replica, self.state, ops, int(age * 1000), size,
                        self._in_flight,
                        clocks.behind(self.hub.head, dict(self.known)),
                        int((now - self._contact) * 1000) if self._contact else -1,
                        self.error or self._it_lacks or self._here_lacks
                        or ("no answer" if self._is_mute else ""), self.counts)

    # ---- the task --------------------------------------------------------------------------------

    async def run(self) -> None:
        hub = self.hub
        await hub.want()
        while not hub.stopping:
            if self.is_paused:
                await self._sleep(3600.0)
                continue
            self._conversation = asyncio.create_task(self._converse())
            try:
                await asyncio.wait({self._conversation})
                fault = None if self._conversation.cancelled() else self._conversation.exception()
            finally:
                self._conversation.cancel()
            self._told(False)
            # cancelled by PAUSE, or a clean end: shake hands again
            if fault is None or self.is_paused:
                continue
            await self._sleep(self._after(fault))

    def _after(self, fault: BaseException) -> float:
        """Note a failed conversation; returns the pause before the next."""
        s = self.hub.settings
        self.counts.failures += 1
        was_up, before = self._state == "up", self.error
        self._failures = 1 if was_up else self._failures + 1
        self.error = words(fault)
        if isinstance(fault, Refusal):
            self.error = fault.text if fault.code == wire.UNKNOWN else f"{fault.name}: {fault.text}"
            if fault.code == wire.PAUSED:
                self._state, self.refusal = "paused", None
                if self.error != before:
                    log.warning("peer %s: %s", self.url, self.error)
                return plan.backoff(self._failures, s.retry, s.retry_cap, self.hub.chance)
            if fault.code not in PASSING:
                self._state, self.refusal = "refused", fault.code
                if self._impasse:
                    self._impasse.error = self.error
                if self.error != before:
                    log.error("peer %s refused: %s", self.url, self.error)
                return plan.backoff(self._failures, s.retry, s.retry_cap, self.hub.chance)
            if fault.code == wire.NO_SESSION and was_up:
                self._state = "connecting"
                return 0.0
        self.refusal = None
        if not isinstance(fault, (Refusal, OSError, aiohttp.ClientError, asyncio.TimeoutError)):
            log.error("peer %s: unforeseen", self.url, exc_info=fault)
        self._state = ("down" if self._failures > s.max_retries else "not answering"
                       if isinstance(fault, TimeoutError) else "retrying")
        if was_up or self._failures == s.max_retries + 1:
            log.warning("peer %s %s: %s", self.url, "is down" if self._state == "down" else "lost",
                        self.error)
        return plan.backoff(self._failures, s.retry, s.retry_cap, self.hub.chance)

    async def _sleep(self, seconds: float) -> None:
        """Until the time is up or somebody wants this peer now."""
        if seconds:
            try:
                await asyncio.wait_for(self.wanted.wait(), seconds)
            except asyncio.TimeoutError:
                return
        self.wanted.clear()

    def refresh(self) -> None:
        """PAUSE, RESUME or a change of settings: look at the flags again."""
        if self.is_paused and self._conversation:
            self._conversation.cancel()
        self.wanted.set()

    def hurry(self) -> None:
        """Compare clocks soon."""
        if self._session:
            self.wanted.set()

    async def ready(self) -> bool:
        """Is it up, if need be after one more attempt?"""
        if self._session:
            return True
        if self.is_paused or self._state in APART:
            return False
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        self.wanted.set()
        return await asyncio.shield(self._outcome)

    async def try_twice(self, act: Callable[[], Awaitable[None]]) -> bool:
        """Did act() succeed, be it after a new handshake? A session ends unseen, until something is
        asked in it: where the peer has restarted, or has just been met through another of its
        addresses."""
        for attempt in range(2):
            # of the second the end of the first may be told
            if not (await self.ready() or attempt and await self.ready()):
                break
            session, conversation = self._session, self._conversation
            try:
                await act()
                return True
            except Exception:
                if conversation and self._session == session:
                    conversation.cancel()
                    await asyncio.wait({conversation})
        return False

    def _told(self, up: bool) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome and not outcome.done():
            outcome.set_result(up)

    # ---- the conversation ------------------------------------------------------------------------

    async def _converse(self) -> None:
        hub = self.hub
        if self._state != "up":
            self._state = self._state if self._state in LASTING else "connecting"
        try:
            await self._handshake()
        except (aiohttp.ClientError, TimeoutError) as e:
            if reason := await recognise(self.url, e):
                raise Refusal(wire.UNKNOWN, reason) from e
            raise
        if self._state == "self":
            self._told(False)
            # nothing to do until PAUSE, RESUME or REMOVE
            await asyncio.Event().wait()
        if other := next((p for p in hub.peers if self._is_served_by(p)), None):
            return await self._stand_by(other)
        self._window, self._fault, self._next = plan.Window(hub.settings.window), None, None
        self._it_lacks = ""
        self._before, self._theirs = dict(hub.head), dict(self.known)
        if self._impasse:
            self._state, self.error = "refused", self._impasse.error
        else:
            self._is_up()
        self.wanted.clear()
        response = await self._open_stream()
        tasks = {asyncio.create_task(self._exchange_loop()),
                 asyncio.create_task(self._watch_stream())}
        try:
            self._cursor = hub.log.cursor(self.known, hub.own)
            tasks.add(asyncio.create_task(self._push_loop()))
        except NeedsFullSync as e:
            self._needs_full_sync(e)
        self._told(True)
        hub.wake()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for t in done:
                t.result()
        finally:
            self._session = 0
            for t in tasks | self._pushes:
                t.cancel()
            await asyncio.gather(*tasks, *self._pushes, return_exceptions=True)
            self._pushes.clear()
            if response is not None:
                outlet, self._outlet = self._outlet, None
                outlet.link.close()
                response.close()

    def _is_served_by(self, other: Peer) -> bool:
        """Is `other`, in whatever state but a broken one, an address of the same process? Then one
        conversation is enough."""
        return (other is not self and other in self.hub.peers and other.process == self.process
                and other._state != "standby"
                and (other.is_paused or other._session != 0 or not other._failures))

    async def _stand_by(self, other: Peer) -> None:
        self._state, self._session = "standby", 0
        self._failures, self.error, self.refusal = 0, "", None
        log.info("peer %s stands by: replica %s is reached as %s", self.url, self.replica,
                 other.url)
        self._told(False)
        while self._is_served_by(other):
            await asyncio.sleep(min(self.hub.settings.interval, self.hub.settings.timeout))

    async def _open_stream(self) -> aiohttp.ClientResponse | None:
        """Sets the outlet, where the peer has streams; what is returned must be closed with it."""
        self._outlet, self._lost = None, None
        s = self.hub.settings
        async with Patience(s.timeout) as patience:
            headers = {**self.hub.headers, "Connection": "Upgrade", "Upgrade": UPGRADE,
                       "X-Session": f"{self._session:x}"}
            response = await self.hub.http.get(self._urls["stream"], headers=headers,
                                               timeout=NO_LIMIT, allow_redirects=False)
            # an older replica, or a proxy that knows no such thing; why else, requests tell
            if response.status != 101:
                async with response:
                    await read(response.content, response.content_length, BODY_MAX, patience)
                return None
        self._outlet = Outlet(response.connection.transport, self._answered, self._ended,
                              lambda n: patience_for(self.hub.settings.timeout, n))
        return response

    def _is_up(self) -> None:
        self._state, self._failures, self.error, self.refusal, self._impasse = (
                "up", 0, "", None, None)
        log.info("peer %s is up: replica %s, %d ops behind, %d ops ahead", self.url, self.replica,
                 clocks.behind(self.known, self.hub.head), clocks.behind(self.hub.head, self.known))

    def _needs_full_sync(self, e: NeedsFullSync) -> None:
        if not self._it_lacks:
            self.counts.full_syncs += 1
            self._it_lacks = (f"{self.replica} needs a full sync: the log here no longer holds ops "
                              f"that it lacks ({e})")
            log.error("peer %s: %s", self.url, self._it_lacks)

    def _servable(self) -> bool:
        try:
            self.hub.log.cursor(self.known)
        except NeedsFullSync:
            return False
        return True

    async def _handshake(self) -> None:
        hub = self.hub
        self.counts.handshakes += 1
        mine, declared = hub.hello()
        hello, batch = await self._ask("handshake", mine, declared, wire.Hello, BODY_MAX)
        if hello.process == hub.identity.process:
            self._state, self.replica, self.error = ("self", hub.replica,
                                                     "this is the replica itself")
            return
        hub.judge(hello)
        told = declarations(batch)
        if self.replica and self.replica != hello.replica:
            log.warning("peer %s was replica %s and is now %s", self.url, self.replica,
                        hello.replica)
        self.replica = hello.replica
        if hub.cut_off(self.replica):
            raise Refusal(wire.PAUSED, f"replication with {self.replica} is paused here")
        epoch = hub.identity.actor.epoch
        await hub.meet(hello, told)
        if hub.identity.actor.epoch != epoch:                   # say so before going on
            return await self._handshake()
        if self._state in APART:
            self._state = "connecting"
        self._actor = Actor(actor_id(hello.replica, hello.epoch), hello.replica, hello.epoch)
        if hello.process != self.process:
            self._impasse = None                                # what it had then it may have lost
        self.process, self.known, self.met = hello.process, to_clock(hello.clock), time.monotonic()
        self._declared = {a.id for a in told}
        self._session, self._version = hello.session, 0

    async def _ask(self, what: str, head, batch: bytes | memoryview, kind,
                   most: int = HEAD_MAX + 4) -> tuple:
        """One request; its answer may have `most` bytes. Raises Refusal, TimeoutError, or what
        aiohttp raises."""
        hub = self.hub
        if reason := plan.exposed(self.url, hub.settings):
            raise Refusal(wire.UNAUTHORIZED, reason)
        async with Patience(hub.settings.timeout) as patience:
            self._asked.add(patience)
            try:
                async with hub.http.post(self._urls[what],
                                         data=Body(encode(head), batch, patience=patience),
                                         headers=hub.headers,
                                         timeout=NO_LIMIT, allow_redirects=False) as r:
                    answer = await read(r.content, r.content_length, most, patience)
            finally:
                self._asked.discard(patience)
        if r.content_type != CONTENT_TYPE:
            raise Refusal(wire.UNKNOWN,
                          f"{urlsplit(self.url).netloc} is not a replica's http_port: it answered "
                          f"with {r.status} {r.reason}")
        self._contact = time.monotonic()
        if r.status != 200:
            failure, _ = decode(wire.Failure, answer)
            raise Refusal(failure.code, failure.text)
        return decode(kind, answer)

    def has(self, clock: Clock) -> None:
        """It has all of `clock` in its log. Of actors that nobody else ever heard of it may go on
        making up others."""
        clocks.join(self.known, clock)
        if len(self.known) > ACTORS_MOST:
            self.known = clocks.only(self.known, self.hub.actors)

    def _heard(self, answer: wire.Answer) -> None:
        self.has(to_clock(answer.clock))
        self._version = max(self._version, answer.version)
        self.hub.wake()

    # ---- push ------------------------------------------------------------------------------------

    @property
    def _in_flight(self) -> int:
        """Pushes under way."""
        outlet = self._outlet
        return self._window.in_flight + (len(outlet.unanswered) if outlet and outlet.bytes else 0)

    @property
    def _open(self) -> bool:
        """May more be sent? As requests so many at a time, on a stream as many bytes as so many
        requests have."""
        if self._outlet:
            return self._outlet.bytes < int(self._window.size) * self.hub.settings.chunk
        return self._window.open

    async def _push_loop(self) -> None:
        hub = self.hub
        while True:
            self.grown.clear()
            if self._lost is not None:
                raise self._lost
            if self._fault is not None:
                fault, self._fault = self._fault, None
                if not isinstance(fault, Refusal) or fault.code != wire.BUSY:
                    raise fault
                await self._yield_to_busy()
            piece, self._next = self._next, None
            if not piece and self._open:
                piece = await hub.read(self._cursor, hub.settings.chunk)
            if piece and self._outlet and not piece.large:
                self._send(piece)
            elif piece:
                self._window.in_flight += 1
                push = asyncio.create_task(self._deliver(piece))
                self._pushes.add(push)
                push.add_done_callback(self._delivered)
                # what comes behind it could only wait for it over there
                if piece.large:
                    await asyncio.wait({push})
            else:
                self._idle = True
                try:
                    await self.grown.wait()
                finally:
                    self._idle = False

    def grow(self) -> None:
        """The log has grown, or there is room for more: send it, at once where nothing but sending
        is to be done."""
        if not self._idle or not self._outlet or self._fault:
            self.grown.set()
            return
        log, cursor = self.hub.log, self._cursor
        while cursor.at < log.end and self._open:
            if log.is_old(cursor):
                self.grown.set()
                return
            piece = log.take(cursor, self.hub.settings.chunk)
            if piece.large:
                self._next = piece
                self.grown.set()
                return
            if not piece:
                return
            self._send(piece)

    def _send(self, piece: Piece) -> None:
        """On the stream. PAUSE, which ends the conversation, holds before that: nothing leaves any
        more."""
        if self.is_paused:
            return
        told = self.hub.untold(self._declared)
        batch = self.hub.foreword(self._declared) + piece.batch if told else piece.batch
        self._outlet.push(piece, batch, told)                   # each, until one has its answer

    def _answered(self, pushes: list[Sent], message: wire.Answer | wire.Failure) -> None:
        """An answer has come on the stream."""
        self._contact = time.monotonic()
        refused = pushes.pop().piece if isinstance(message, wire.Failure) and pushes else None
        for piece, size, told in pushes:
            if piece:
                self._declared |= told
                self._taken()
                self.counts.pushes += 1
                self.counts.bytes_sent += size
                self.counts.ops_sent += piece.ops
        if refused is None:
            self._heard(message)
        else:
            self._fault = self._refused(Refusal(message.code, message.text), refused)
        self.grow()

    def _ended(self, outlet: Outlet, why: Exception) -> None:
        if outlet is self._outlet:
            self._lost = why
            self.grown.set()

    def _taken(self) -> None:
        """A push has been."""
        self._window.succeeded()
        self._busy_pause = BUSY_PAUSE[0]

    def _delivered(self, push: asyncio.Task[None]) -> None:
        """A push ended: the loop looks again, at what there is to send and at what went wrong."""
        self._pushes.discard(push)
        self._window.in_flight -= 1
        if push.cancelled():
            return
        if push.exception() is None:
            self._taken()
        else:
            self._fault = push.exception()
        self.grown.set()

    async def _yield_to_busy(self) -> None:
        """The peer's queues are full: fewer at a time, after a pause, and again from what it
        acknowledged."""
        self._window.refused()
        await asyncio.gather(*self._pushes, return_exceptions=True)
        while self._outlet and self._outlet.bytes and not self._lost:
            self.grown.clear()
            await self.grown.wait()
        await asyncio.sleep(self._busy_pause)
        self._busy_pause = min(2 * self._busy_pause, BUSY_PAUSE[1])
        self._fault = None
        self._cursor = self.hub.log.cursor(self.known, self.hub.own)

    async def _deliver(self, piece: Piece) -> None:
        """One push, answered; of a large op as many as it takes."""
        try:
            if piece.large:
                async with self._sending:
                    await self._deliver_large(piece.large)
            else:
                told = self.hub.untold(self._declared)
                await self._push(self.hub.foreword(self._declared) + piece.batch if told
                                 else piece.batch, told)
        except Refusal as e:
            raise self._refused(e, piece)
        self.counts.ops_sent += piece.ops

    def _refused(self, refusal: Refusal, piece: Piece) -> Refusal:
        """Note what was refused; returns the refusal."""
        if refusal.code in UNTAKEABLE:
            self._impasse = self._impasse or Impasse(refusal.text)
            clocks.join(self._impasse.there,
                        {actor: last for actor, _, last in ranges(piece.batch)})
        return refusal

    async def _deliver_large(self, large: Large) -> None:
        """In parts, beginning with the first that the peer is not known to have."""
        view, told = memoryview(large.batch), self.hub.untold(self._declared)
        foreword = self.hub.foreword(self._declared) if told else b""
        if (self._sent.actor, self._sent.seq, self._sent.size) != (large.actor, large.seq,
                                                                   len(view)):
            self._sent = wire.Part(actor=large.actor, seq=large.seq, size=len(view))
        # the last byte again is how to hear that it has all
        at, patience = min(self._sent.at, len(view) - 1), 3
        while at < len(view):
            part = wire.Part(actor=large.actor, seq=large.seq, size=len(view), at=at,
                             told=len(foreword))
            answer = await self._push(foreword + view[at:at + PART] if foreword
                                      else view[at:at + PART], told, part)
            foreword, told = b"", set()
            # it may have lost what it had, but not again and again
            patience -= answer.part.at <= at
            if patience < 0:
                raise Refusal(wire.UNKNOWN,
                              f"{self.replica} does not get on with an op of {len(view)} bytes")
            at = self._sent.at = answer.part.at

    async def _push(self, batch: bytes | memoryview, told: Set[int],
                    part: wire.Part | None = None) -> wire.Answer:
        head = wire.Push(session=self._session, known=self._version, part=part)
        answer, _ = await self._ask("push", head, batch, wire.Answer)
        self._declared |= told
        self.counts.pushes += 1
        self.counts.bytes_sent += len(batch)
        self._heard(answer)
        return answer

    # ---- exchange --------------------------------------------------------------------------------

    async def _exchange_loop(self) -> None:
        s = self.hub.settings
        pause = s.settle
        while True:
            await self._sleep(pause)
            await self.exchange()
            if self._it_lacks and self._servable():
                # others brought it up: shake hands, and push again
                return
            await asyncio.sleep(min(BREATHER, s.interval))
            pause = self.hub.settings.interval

    async def _watch_stream(self) -> None:
        """A stream that stands still ends as soon as a request would, however rarely clocks are
        compared."""
        while True:
            await asyncio.sleep(min(self.hub.settings.interval, self.hub.settings.timeout))
            if self._outlet:
                self._outlet.look()

    async def exchange(self, everything: bool = False) -> None:
        """Compare clocks and move what is overdue, in both directions; `everything` takes whatever
        is lacking here at once."""
        async with self._exchanging:
            hub = self.hub
            self.counts.exchanges += 1
            answer, _ = await self._ask("pull",
                                        wire.Pull(session=self._session, clock=entries(hub.head)),
                                        b"", wire.Answer)
            self._heard(answer)
            theirs = to_clock(answer.clock)
            hub.waiting = await hub.engine.call(lambda: hub.identity.hear(self._actor, theirs))
            due = (clocks.lacking(hub.head, theirs) if everything
                   else clocks.overdue(hub.head, theirs, self._before))
            stuck = clocks.overdue(theirs, self._before or {}, self._theirs)
            self._before, self._theirs = dict(hub.head), theirs
            if not any(p._sending.locked() for p in hub.peers):
                hub.log.shrink()
            if due:
                try:
                    await self._pull(due)
                except Refusal as e:
                    if e.code in UNTAKEABLE:
                        self._impasse = self._impasse or Impasse(e.text)
                        clocks.join(self._impasse.here, due)
                        # all of what it said lately will do
                        if len(self._impasse.here) > ACTORS_MOST:
                            self._impasse.here = due
                    raise
            elif clocks.covers(hub.head, theirs):
                self._here_lacks = ""
            if self._in_flight:
                stuck = {a: s for a, s in stuck.items() if a not in hub.own}
            if stuck and not self._it_lacks:
                await self.hand_on(set(stuck))
            if (self._impasse and clocks.covers(self.known, self._impasse.there)
                and clocks.covers(hub.head, self._impasse.here)):
                self._is_up()

    async def _pull(self, due: Clock) -> None:
        """Fetch ops of the actors in `due`. The clock sent covers what is here and what the answers
        brought."""
        hub = self.hub
        clock = dict(hub.head)
        more = True
        while more and not self.is_paused:
            try:
                pull = wire.Pull(session=self._session, clock=entries(clock),
                                 limit=hub.settings.chunk, actors=due, part=self._parts.next())
                answer, batch = await self._ask("pull", pull, b"", wire.Answer, BODY_MAX)
            except Refusal as e:
                if e.code != wire.NEEDS_FULL_SYNC:
                    raise
                if not self._here_lacks:
                    log.error("peer %s: %s", self.url, e.text)
                self._here_lacks = e.text
                return
            self._heard(answer)
            self.counts.pulls += 1
            if self.is_paused or not batch:
                return
            self.counts.bytes_received += len(batch)
            if answer.HasField("part"):
                batch = await self._fetched(answer.part, batch)
                if batch is None:
                    continue
            brought = clocks.behind(clock, to := await hub.receive(batch))
            self.counts.ops_received += brought
            clocks.join(clock, to)
            more = answer.more and brought > 0

    async def _fetched(self, part: wire.Part, data: bytes) -> bytes | None:
        """The whole op once this was its last part."""
        before = self._parts.held(part)
        whole = self._parts.add(part, await self.hub.told(part, data))
        if whole is not None:
            self._parts.clear()
        elif self._parts.held(part) == before:
            raise Refusal(wire.MALFORMED, f"{self.replica} sends the same part of an op again")
        return whole

    async def hand_on(self, actors: set[int]) -> None:
        """Push ops of these actors from what the peer is known to have, one request after the
        other."""
        hub = self.hub
        try:
            cursor = hub.log.cursor(self.known, actors)
        except NeedsFullSync as e:
            return self._needs_full_sync(e)
        while piece := await hub.read(cursor, hub.settings.chunk):
            await self._deliver(piece)
            self.counts.relayed += piece.ops

    async def bring_up(self, target: Clock) -> None:
        """Return when the peer has all of `target`. What is on its way, from here or from others,
        is awaited; what has stood still for a moment is handed on."""
        patience = BRING_UP_PATIENCE
        while True:
            before = dict(self.known)
            try:
                return await asyncio.wait_for(self.hub.until(lambda:
                                                             clocks.covers(self.known, target)),
                                                             patience)
            except asyncio.TimeoutError:
                patience = min(2 * patience, 10 * BRING_UP_PATIENCE)
                await self.exchange()
            stuck = clocks.overdue(self.known, target, before)
            if self._in_flight:
                stuck = {a: s for a, s in stuck.items() if a not in self.hub.own}
            if stuck:
                await self.hand_on(set(stuck))

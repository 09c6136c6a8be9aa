"""One peer: the conversation this replica leads with it. One task, never in anyone's way.

    wait until allowed -> shake hands -> push and compare clocks side by side until something fails
    -> back off, again

*Push* follows a cursor over the log, own ops only. When caught up, ops leave as soon as the tail
brings them, on a stream (stream.py) and without a task of their own (`grow`); while the window is
full they gather, so the batches grow with the load. Where there is no stream, each push is a
request and several are in flight; the receiver's causal buffer and the density of seqs make their
order harmless. What must be read from segments, and large ops, which go in requests of their own,
are the push loop's. What a peer acknowledged (`acked`) is what its replies say, and is taken afresh
from its Hello whenever it comes back: it may have lost its unsynced tail.

*Anti-entropy* compares clocks every sync_interval, fetches what is overdue and relays what the peer
cannot get otherwise: the rules are clocks.overdue's. It also repeats own ops that were sent but
never applied.

A failure ends the conversation: back-off with jitter, then a new handshake. After max_retries the
peer counts as down and is tried on at the cap. A refusal (wrong cluster, wrong token, a second
process with one id ...) is shown as such and tried again at the cap, for operators mend things; so
is an address where something else than a replica listens (faults.py). Where ops are refused, here
or there, a handshake proves nothing: the state stays "refused" until what was refused has arrived
(`RefusedOps`). Of several addresses of one replica one is talked to; the others stand by, since a
handshake through one ends the conversation through another. A peer that lacks ops which the log no
longer holds is not pushed to: its state says it needs a full sync, which it asks for itself
(receiving.py), as this replica does where the peer says so.

Everything but `paused` belongs to the sync thread's loop.
"""
from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from crdtredis import clocks
from crdtredis._core import batch_ranges
from crdtredis.clocks import Actor, Clock, actor_id
from crdtredis.members import Member
from crdtredis.replication import plan
from crdtredis.replication.consumers import SINCE as CONSUMERS_SINCE
from crdtredis.replication.faults import recognise, words
from crdtredis.replication.flow import Body, PartialOp, ProgressLimit, progress_limit, read
from crdtredis.replication.lending import Lender
from crdtredis.replication.local import OwnIdentity
from crdtredis.replication.messages import HEADER
from crdtredis.replication.oplog import NOTHING, Chunk, Cursor, LargeOp, NeedsFullSync
from crdtredis.replication.receiving import Handle, Receiver, ask
from crdtredis.replication.registry import Registry
from crdtredis.replication.runtime import Runtime, certificate_end
from crdtredis.replication.stream import UPGRADE, PushSender, Sent
from crdtredis.replication.tail import LogTail
from crdtredis.replication.wire import (ACTORS_MOST, BODY_MAX, CONTENT_TYPE, HEAD_MAX, PART,
                                        Refusal, declarations, decode, encode, entries, to_clock,
                                        proto)

log = logging.getLogger("crdtredis.replication")

# Refusals that a new handshake, or a moment's patience, can mend; the others need an operator.
PASSING = {proto.NO_SESSION, proto.BUSY, proto.STOPPING, proto.PAUSED}
# Those that are about the ops sent.
UNTAKEABLE = {proto.MALFORMED, proto.TOO_LARGE}
# States that an attempt does not change before it has succeeded, or failed otherwise.
LASTING = {"not replying", "down", "refused", "paused", "self", "standby"}
# States of addresses that need no conversation: this replica's own, and those of a replica that is
# talked to through another.
APART = {"self", "standby"}
# seconds before sending again to a peer whose queues are full: at first, and at most
BUSY_PAUSE = 0.05, 1.0
# seconds that CRDT.SYNC first gives ops to move on by themselves before it relays them
BRING_UP_PATIENCE = 0.1
NO_LIMIT = aiohttp.ClientTimeout()      # of aiohttp's own: see flow.ProgressLimit
# seconds without a reply after which a peer is shown as not replying
MUTE = 5.0
# least seconds between two anti-entropy rounds, however much in a hurry somebody is
LACKS_MOST = 32         # looks at what is lacking that are kept
BREATHER = 0.2


@dataclass
class Counts:
    """Since the peer was added."""
    ops_sent: int = 0
    bytes_sent: int = 0
    pushes: int = 0
    # replies to pulls; what it pushed is counted by its own session
    ops_received: int = 0
    bytes_received: int = 0
    pulls: int = 0
    anti_entropy_rounds: int = 0
    relayed: int = 0                    # ops of other origins relayed
    handshakes: int = 0
    failures: int = 0
    full_syncs: int = 0                 # how often it was found to need one


@dataclass
class RefusedOps:
    """Ops that were refused, as clocks: what the peer must have, and what this replica must have,
    before the link counts as up again."""
    error: str
    there: Clock = field(default_factory=dict)
    here: Clock = field(default_factory=dict)


@dataclass(frozen=True)
class PeerInfo:
    """What CRDT.PEERS, INFO and /stats show of a peer."""
    url: str
    replica: str                        # "" until the first handshake
    # connecting, up, not replying, retrying, down, refused, paused, needs full sync, full sync,
    # standby, self
    state: str
    lag_ops: int                        # own ops it has not acknowledged
    lag_ms: int                         # age of the oldest of them
    queued_bytes: int                   # bytes of the log from there on, as far as memory holds it
    in_flight: int
    missing_ops: int                    # ops it is known to have and this replica has not
    last_contact_ms: int                # since its last reply; -1: never
    error: str                          # the last one; "" while all is well
    counts: Counts
    full_sync: str = ""                 # how far one has come; "": none is under way
    # s since 1970, until when the certificate holds that it has shown here; 0: none
    certificate_ends: int = 0
    calls_ms: int = -1                  # since its last request here; -1: it does not call


class Peer:
    """asked_for: the table of members when CRDT.PEER ADD named it, which takes back a replica that
    was removed then, while that has not been done yet; None: it has, or nobody did. member: the
    replica id whose record in the cluster named it; "": the configuration did, or an operator.
    speaks: the newest version of the protocol it knows; 0: it has not shaken hands. met: its clock
    then. here: our address on the stream to it; "": there is no stream, None: no conversation."""

    def __init__(self, identity: OwnIdentity, tail: LogTail, registry: Registry,
                 runtime: Runtime, url: str, member: str = "",
                 receiver: Receiver | None = None) -> None:
        """receiver: takes in the peer's state where its log is not enough."""
        self._identity, self._tail, self._registry = identity, tail, registry
        self._runtime, self.url, self._receiver = runtime, url.rstrip("/"), receiver
        self.urls = {what: URL(f"{self.url}/replication/{what}")
                     for what in ("handshake", "push", "pull", "stream", "sync", "lend",
                                  "keep")}
        self.replica = ""
        self.member = member
        self.asked_for: Mapping[str, Member] | None = None
        self.speaks, self.met = 0, Clock()
        self.here: str | None = None
        self.certificate_ends = 0
        # of the Hello that `acked` began with
        self.process = 0
        # when it shook hands last (monotonic)
        self.handshake_at = 0.0
        self.paused = False
        self.error = ""
        # its code, where the last fault was one that an operator must mend
        self.refusal: int | None = None
        self.counts = Counts()
        # what it has in its log, as far as we were told
        self.acked: Clock = {}
        # look again: the log has grown, or a push was replied to
        self.grown = asyncio.Event()
        self.wanted = asyncio.Event()                           # do not sleep: try now
        self._state = "connecting"
        self._failures = 0                                      # in a row
        self._contact = 0.0
        self._asked: set[ProgressLimit] = set()                 # requests without a reply yet
        self._cursor: Cursor | None = None                      # of the push
        self._window = plan.Window(self._runtime.settings.window)
        self._busy_pause = BUSY_PAUSE[0]
        self._sender: PushSender | None = None                  # the stream, where there is one
        self._lost: Exception | None = None                     # it has ended, and why
        # where it may ask for the state, and what to close then
        self._lender: Lender | None = None
        self._lent: aiohttp.ClientResponse | None = None
        # nothing to send, nothing went wrong: the loop waits for `grown`
        self._idle = False
        self._next: Chunk | None = None                         # to be sent before what the log has
        self._actor: Actor | None = None                        # that it acts as
        self.session = 0
        self._version = 0                                       # of its clock
        self._declared: set[int] = set()                        # actors it knows
        # of processes that have ended: what it was told last, and the mark of what it told
        self._ended_told, self._ended_heard = b"", 0
        self._it_lacks = ""                                     # why it needs a full sync
        # why this replica does, as far as this peer can help
        self._here_lacks = ""
        self._pushes: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Lock()                          # a large op: one at a time
        self._sent = proto.Part()                               # how much it has of the last one
        self._parts = PartialOp()                               # of the last one fetched from it
        self._fault: BaseException | None = None                # what a push ended with
        self._refused_ops: RefusedOps | None = None
        self._anti_entropy_lock = asyncio.Lock()
        # looks at what was lacking here of what it has: when (monotonic), and what
        self._lacked: list[tuple[float, Clock]] = []
        self._before: Clock | None = None                       # our clock in the last round,
        self._theirs: Clock | None = None                       # and the peer's
        self._conversation: asyncio.Task[None] | None = None
        # of the next attempt, for who waits for it
        self._outcome: asyncio.Future[bool] | None = None

    # ---- what others see -------------------------------------------------------------------------

    @property
    def is_paused(self) -> bool:
        return self.paused or self._registry.paused_all

    @property
    def state(self) -> str:
        if self._state == "self":
            return "self"
        if self.is_paused:
            return "paused"
        if self._is_mute:
            return "not replying"
        if self._state == "up" and self.full_sync:
            return "full sync"
        return ("needs full sync" if self._state == "up" and (self._it_lacks or self._here_lacks)
                else self._state)

    @property
    def sender(self) -> PushSender | None:
        """The stream, where there is one."""
        return self._sender

    @property
    def full_sync(self) -> str:
        """How far a full sync from it, or to it, has come; "" where none is under way."""
        return self._receiver.progress(self) if self._receiver is not None else ""

    def state_joined(self) -> None:
        """This replica has taken in a state: what it still lacks has to be asked for anew."""
        self._here_lacks = ""

    @property
    def gives_by_log(self) -> bool:
        """As far as it has told, its log holds all that is lacking here."""
        return self._state == "up" and self.session != 0 and not self._here_lacks

    def lacking_for(self) -> float | None:
        """Seconds for which it is known that something is lacking here that the peer has; None:
        nothing is, or the peer is not up, so nobody knows. Cost: linear in the actors."""
        now, looks = time.monotonic(), self._lacked
        while looks and not clocks.lacking(self._tail.head, looks[0][1]):
            del looks[0]
        if lacks := clocks.lacking(self._tail.head, dict(self.acked)):
            if len(looks) == LACKS_MOST:        # the oldest says most; of the others every other
                del looks[1::2]
            looks.append((now, lacks))
        return now - looks[0][0] if looks and self.state == "up" else None

    @property
    def contact(self) -> float:
        """When it replied last (monotonic); 0.0: never."""
        return self._contact

    @property
    def _is_mute(self) -> bool:
        """It takes what is sent, or so it seems, and nothing comes back: stopped, hung, or cut off
        by something that drops packets."""
        sender = self._sender
        return (time.monotonic() - self._contact > MUTE
                and (any(p.stands(MUTE) for p in list(self._asked)) or sender is not None
                     and sender.stands(MUTE)))

    @property
    def is_replica(self) -> bool:
        """Its acknowledgements count: it has shaken hands, and is not ourselves under another
        name."""
        return bool(self.replica) and self._state != "self"

    @property
    def is_unmet(self) -> bool:
        """Is the first attempt to reach it since the start under way? What it knows, nobody here
        knows then."""
        return not (self.speaks or self.counts.failures or self.is_paused
                    or self._state == "self")

    @property
    def cannot_take(self) -> bool:
        """Are there ops of this peer that this replica refuses?"""
        return (self._refused_ops is not None and bool(self._refused_ops.here)
                and self._state not in APART)

    def info(self) -> PeerInfo:
        now = time.monotonic()
        cursor = self._cursor or Cursor({}, self._tail.own_actors)
        ops, age, size = (self._tail.log.lag(cursor, self.acked, now) if self._state not in APART
                          else (0, 0.0, 0))
        return PeerInfo(self.url, self.replica, self.state, ops, int(age * 1000), size,
                        self._in_flight,
                        clocks.behind(self._tail.head, dict(self.acked)),
                        int((now - self._contact) * 1000) if self._contact else -1,
                        self.error or self._it_lacks or self._here_lacks
                        or ("no reply" if self._is_mute else ""), self.counts, self.full_sync,
                        self.certificate_ends)

    # ---- the task --------------------------------------------------------------------------------

    async def run(self) -> None:
        try:
            await self._run()
        finally:
            self._tell_outcome(False)

    async def _run(self) -> None:
        await self._tail.want()
        while not self._runtime.stopping:
            if self.is_paused:
                await self._sleep(3600.0)
                continue
            self._conversation = asyncio.create_task(self._converse())
            try:
                await asyncio.wait({self._conversation})
                fault = None if self._conversation.cancelled() else self._conversation.exception()
            finally:
                self._conversation.cancel()
            self._tell_outcome(False)
            # cancelled by PAUSE, or a clean end: shake hands again
            if fault is None or self.is_paused:
                continue
            await self._sleep(self._after(fault))

    def _after(self, fault: BaseException) -> float:
        """Note a failed conversation; returns the pause before the next."""
        s = self._runtime.settings
        unmet = self.is_unmet
        self.counts.failures += 1
        if unmet:
            self._registry.met()                                # who waited for it goes on
        was_up, before = self._state == "up", self.error
        self._failures = 1 if was_up else self._failures + 1
        self.error = words(fault)
        if isinstance(fault, Refusal):
            self.error = fault.text
            if fault.code != proto.UNKNOWN:
                self.error = f"{fault.name}: {fault.text}"
            if fault.code == proto.PAUSED:
                self._state, self.refusal = "paused", None
                if self.error != before:
                    log.warning("peer %s: %s", self.url, self.error)
                return plan.backoff(self._failures, s.retry, s.retry_cap, self._runtime.chance)
            if fault.code not in PASSING:
                self._state, self.refusal = "refused", fault.code
                if self._refused_ops:
                    self._refused_ops.error = self.error
                if self.error != before:
                    log.error("peer %s refused: %s", self.url, self.error)
                return plan.backoff(self._failures, s.retry, s.retry_cap, self._runtime.chance)
            if fault.code == proto.NO_SESSION and was_up:
                self._state = "connecting"
                return 0.0
        self.refusal = None
        if not isinstance(fault, (Refusal, OSError, aiohttp.ClientError, asyncio.TimeoutError)):
            log.error("peer %s: unforeseen", self.url, exc_info=fault)
        self._state = ("down" if self._failures > s.max_retries else "not replying"
                       if isinstance(fault, TimeoutError) else "retrying")
        if was_up or self._failures == s.max_retries + 1:
            log.warning("peer %s %s: %s", self.url, "is down" if self._state == "down" else "lost",
                        self.error)
        return plan.backoff(self._failures, s.retry, s.retry_cap, self._runtime.chance)

    async def _sleep(self, seconds: float) -> None:
        """Until the time is up or somebody wants this peer now."""
        if seconds:
            try:
                await asyncio.wait_for(self.wanted.wait(), seconds)
            except TimeoutError:
                return
        self.wanted.clear()

    def refresh(self) -> None:
        """PAUSE, RESUME or a change of settings: look at the flags again."""
        if self.is_paused and self._conversation:
            self._conversation.cancel()
        self.wanted.set()

    def begin_anew(self) -> None:
        """Nothing goes on over the connections that there are."""
        if self._conversation:
            self._conversation.cancel()
        self.wanted.set()

    def hurry(self) -> None:
        """Compare clocks soon."""
        if self.session:
            self.wanted.set()

    async def ready(self) -> bool:
        """Is it up, if need be after one more attempt?"""
        if self.session:
            return True
        if self.is_paused or self._state in APART or self not in self._registry.peers:
            return False
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        self.wanted.set()
        return await asyncio.shield(self._outcome)

    async def try_twice(self, act: Callable[[], Awaitable[None]]) -> bool:
        """Did act() succeed, be it after a new handshake? A session ends unseen, until something is
        asked in it: where the peer has restarted, or has just shaken hands through another of its
        addresses."""
        for attempt in range(2):
            # of the second the end of the first may be told
            if not (await self.ready() or attempt and await self.ready()):
                break
            session, conversation = self.session, self._conversation
            try:
                await act()
                return True
            except Exception:
                if conversation and self.session == session:
                    conversation.cancel()
                    await asyncio.wait({conversation})
        return False

    def _tell_outcome(self, up: bool) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome and not outcome.done():
            outcome.set_result(up)

    # ---- the conversation ------------------------------------------------------------------------

    async def _converse(self) -> None:
        if self._state != "up":
            self._state = self._state if self._state in LASTING else "connecting"
        try:
            await self._handshake()
        except (aiohttp.ClientError, TimeoutError) as e:
            if reason := await recognise(self.url, e):
                raise Refusal(proto.UNKNOWN, reason) from e
            raise
        if self._state == "self":
            self._tell_outcome(False)
            # nothing to do until PAUSE, RESUME or REMOVE
            await asyncio.Event().wait()
        if other := next((p for p in self._registry.peers if self._is_served_by(p)), None):
            return await self._stand_by(other)
        self._window = plan.Window(self._runtime.settings.window)
        self._fault = self._next = None
        self._it_lacks = ""
        self._ended_told, self._ended_heard = b"", 0
        self._before, self._theirs = dict(self._tail.head), dict(self.acked)
        if self._refused_ops:
            self._state, self.error = "refused", self._refused_ops.error
        else:
            self._is_up()
        self.wanted.clear()
        response = await self._open_stream()
        self.here = "" if response is None else response.connection.transport.get_extra_info(
                "sockname")[0]
        self._registry.met()
        tasks = {asyncio.create_task(self._anti_entropy_loop()),
                 asyncio.create_task(self._watch_stream())}
        try:
            self._cursor = self._tail.log.cursor(self.acked, self._tail.own_actors)
            tasks.add(asyncio.create_task(self._push_loop()))
        except NeedsFullSync as e:
            self._needs_full_sync(e)
        self._tell_outcome(True)
        self._registry.wake()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for t in done:
                t.result()
        except NeedsFullSync:
            pass                        # removed while it was being read: told after the handshake
        finally:
            self.session, self.here = 0, None
            for t in tasks | self._pushes:
                t.cancel()
            await asyncio.gather(*tasks, *self._pushes, return_exceptions=True)
            self._pushes.clear()
            self._withdraw()
            if response is not None:
                sender, self._sender = self._sender, None
                sender.link.close()
                response.close()
                if self._runtime.consumers:
                    self._runtime.consumers.hush(sender.link)

    def _is_served_by(self, other: Peer) -> bool:
        """Is `other`, in whatever state but a broken one, an address of the same process? Then one
        conversation is enough."""
        return (other is not self and other in self._registry.peers
                and other.process == self.process
                and other._state != "standby"
                and (other.is_paused or other.session != 0 or not other._failures))

    async def _stand_by(self, other: Peer) -> None:
        self._state, self.session = "standby", 0
        self._failures, self.error, self.refusal = 0, "", None
        log.info("peer %s stands by: replica %s is reached as %s", self.url, self.replica,
                 other.url)
        self._tell_outcome(False)
        while self._is_served_by(other):
            await asyncio.sleep(min(self._runtime.settings.interval,
                                    self._runtime.settings.timeout))

    async def _open_stream(self) -> aiohttp.ClientResponse | None:
        """Sets the sender, where the peer has streams; what is returned must be closed with it."""
        self._sender, self._lost = None, None
        response = await self._upgrade("stream",
                                       {HEADER: "1"} if self._runtime.messages else {})
        if response is None:
            return None
        self.certificate_ends = certificate_end(
            response.connection.transport.get_extra_info("ssl_object"))
        self._sender = PushSender(response.connection.transport, self._replied, self._ended,
                              lambda n: progress_limit(self._runtime.settings.timeout, n),
                              self._runtime.messages)
        if self._runtime.messages:
            self._sender.push(NOTHING, b"")                     # has it say what it listens to
        if self._runtime.consumers and self.speaks >= CONSUMERS_SINCE:
            self._runtime.consumers.speak(self.replica, self._sender.link)
        return response

    async def _upgrade(self, what: str, headers: dict[str, str]) -> aiohttp.ClientResponse | None:
        """A connection without HTTP; None where there is none: an older replica, or a proxy that
        knows no such thing. Why else, requests tell."""
        async with ProgressLimit(self._runtime.settings.timeout) as patience:
            response = await self._runtime.http.get(
                self.urls[what], headers={
                    **self._runtime.headers, **headers, "Connection": "Upgrade",
                    "Upgrade": UPGRADE, "X-Session": f"{self.session:x}"},
                timeout=NO_LIMIT, allow_redirects=False, ssl=self._runtime.tls)
            if response.status == 101:
                return response
            async with response:
                await read(response.content, response.content_length, BODY_MAX, patience)
            return None

    async def _offer(self, receiver: Receiver) -> None:
        """It may be unable to call: here is a connection on which it can ask for the state."""
        if self._lender is not None and self._lender.link.closed:
            self._withdraw()
        if self._lender is None:
            self._lent = await self._upgrade("lend", {})
            if self._lent is None:
                return
            self._lender = Lender(self._lent.connection.transport, receiver.giver, self._runtime,
                                  self.replica, self.process)
        self._lender.offer(dict(self._tail.head))

    def _withdraw(self) -> None:
        if self._lender is not None:
            self._lender.close()
            self._lent.close()
            self._lender = self._lent = None

    async def sync(self, request: proto.Sync, handle: Handle) -> None:
        """A request about a full sync, as receiving.ask."""
        await ask(self._runtime, self, request, handle)

    async def keep(self, secret: bytes, testimony: proto.Testimony) -> None:
        """Leave it there (keeping.py). Raises as _ask."""
        await self._ask("keep", proto.Keep(session=self.session, secret=secret,
                                           testimony=testimony), b"", proto.Kept)

    def _is_up(self) -> None:
        self._state, self._failures, self.error, self.refusal, self._refused_ops = (
                "up", 0, "", None, None)
        log.info("peer %s is up: replica %s, %d ops behind, %d ops ahead", self.url, self.replica,
                 clocks.behind(self.acked, self._tail.head), clocks.behind(self._tail.head,
                                                                           self.acked))

    def _needs_full_sync(self, e: NeedsFullSync) -> None:
        if not self._it_lacks:
            self.counts.full_syncs += 1
            self._it_lacks = (f"{self.replica} needs a full sync: the log here no longer holds ops "
                              f"that it lacks ({e})")
            log.error("peer %s: %s", self.url, self._it_lacks)

    def _servable(self) -> bool:
        try:
            self._tail.log.cursor(self.acked)
        except NeedsFullSync:
            return False
        return True

    async def _handshake(self) -> None:
        self.counts.handshakes += 1
        mine, declared = self._identity.hello()
        hello, batch = await self._ask("handshake", mine, declared, proto.Hello, BODY_MAX)
        if hello.process == self._identity.process:
            self._state, self.replica, self.error = ("self", self._identity.replica,
                                                     "this is the replica itself")
            return
        self._identity.check_hello(hello)
        told = declarations(batch)
        if self.replica and self.replica != hello.replica:
            log.warning("peer %s was replica %s and is now %s", self.url, self.replica,
                        hello.replica)
        self.replica = hello.replica
        self.speaks, self.met = max(hello.version, hello.speaks), to_clock(hello.clock)
        if not self._registry.members.takes_back(self.asked_for, self.replica):
            self._registry.members.refuse_removed(self.replica)
        if self._registry.cut_off(self.replica):
            raise Refusal(proto.PAUSED, f"replication with {self.replica} is paused here")
        epoch = self._identity.epoch
        await self._identity.verify(hello, told)
        if self._identity.epoch != epoch:                      # say so before going on
            return await self._handshake()
        if self._state in APART:
            self._state = "connecting"
        self._actor = Actor(actor_id(hello.replica, hello.epoch), hello.replica, hello.epoch)
        if hello.process != self.process:
            self._refused_ops = None                            # what it had then it may have lost
        self.process, self.acked = hello.process, to_clock(hello.clock)
        self.handshake_at = time.monotonic()
        self._declared = {a.id for a in told}
        self.session, self._version = hello.session, 0

    async def _ask(self, what: str, head, batch: bytes | memoryview, kind,
                   most: int = HEAD_MAX + 4) -> tuple:
        """One request; its reply may have `most` bytes. Raises Refusal, TimeoutError, or what
        aiohttp raises."""
        if reason := plan.exposed(self.url, self._runtime.settings):
            raise Refusal(proto.UNAUTHORIZED, reason)
        async with ProgressLimit(self._runtime.settings.timeout) as patience:
            self._asked.add(patience)
            try:
                async with self._runtime.http.post(self.urls[what],
                                         data=Body(encode(head), batch, patience=patience),
                                         headers=self._runtime.headers,
                                         timeout=NO_LIMIT, allow_redirects=False,
                                         ssl=self._runtime.tls) as r:
                    reply = await read(r.content, r.content_length, most, patience)
            finally:
                self._asked.discard(patience)
        if r.content_type != CONTENT_TYPE:
            raise Refusal(proto.UNKNOWN,
                          f"{urlsplit(self.url).netloc} is not a replica's http_port: it replied "
                          f"with {r.status} {r.reason}")
        self._contact = time.monotonic()
        if r.status != 200:
            refusal, _ = decode(proto.Refusal, reply)
            raise Refusal(refusal.code, refusal.text)
        return decode(kind, reply)

    def has(self, clock: Clock) -> None:
        """It has all of `clock` in its log. Of actors that nobody else knows it may go on
        making up others."""
        clocks.join(self.acked, clock)
        if len(self.acked) > ACTORS_MOST:
            self.acked = clocks.only(self.acked, self._tail.actors)

    def _record_reply(self, reply: proto.Reply) -> None:
        self.has(to_clock(reply.clock))
        self._version = max(self._version, reply.version)
        self._registry.wake()

    # ---- push ------------------------------------------------------------------------------------

    @property
    def _in_flight(self) -> int:
        """Pushes under way."""
        sender = self._sender
        return self._window.in_flight + (len(sender.unreplied) if sender and sender.bytes else 0)

    @property
    def _open(self) -> bool:
        """May more be sent? As requests so many at a time, on a stream as many bytes as so many
        requests have."""
        if self._sender:
            return self._sender.bytes < int(self._window.size) * self._runtime.settings.chunk_size
        return self._window.open

    async def _push_loop(self) -> None:
        while True:
            self.grown.clear()
            if self._lost is not None:
                raise self._lost
            if self._fault is not None:
                fault, self._fault = self._fault, None
                if not isinstance(fault, Refusal) or fault.code != proto.BUSY:
                    raise fault
                await self._yield_to_busy()
            chunk, self._next = self._next, None
            if not chunk and self._open:
                chunk = await self._tail.read(self._cursor, self._runtime.settings.chunk_size)
            if chunk and self._sender and not chunk.large:
                self._send(chunk)
            elif chunk:
                self._window.in_flight += 1
                push = asyncio.create_task(self._deliver(chunk))
                self._pushes.add(push)
                push.add_done_callback(self._delivered)
                # what comes behind it could only wait for it over there
                if chunk.large:
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
        if not self._idle or not self._sender or self._fault:
            self.grown.set()
            return
        log, cursor = self._tail.log, self._cursor
        while cursor.at < log.end and self._open:
            if log.is_old(cursor):
                self.grown.set()
                return
            chunk = log.take(cursor, self._runtime.settings.chunk_size)
            if chunk.large:
                self._next = chunk
                self.grown.set()
                return
            if not chunk:
                return
            self._send(chunk)

    def _send(self, chunk: Chunk) -> None:
        """On the stream. PAUSE, which ends the conversation, holds before that: nothing leaves any
        more."""
        if self.is_paused:
            return
        batch, told = self._with_declarations(chunk.batch)
        self._sender.push(chunk, batch, told)                   # each, until one has its reply

    def _replied(self, pushes: list[Sent], message: proto.Reply | proto.Refusal) -> None:
        """A reply has come on the stream."""
        self._contact = time.monotonic()
        refused = pushes.pop().chunk if isinstance(message, proto.Refusal) and pushes else None
        for chunk, size, told in pushes:
            if chunk:
                self._declared |= told
                self._taken()
                self.counts.pushes += 1
                self.counts.bytes_sent += size
                self.counts.ops_sent += chunk.ops
        if refused is None:
            self._record_reply(message)
        else:
            self._fault = self._refused(Refusal(message.code, message.text), refused)
        self.grow()

    def _ended(self, sender: PushSender, why: Exception) -> None:
        if sender is self._sender:
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
        while self._sender and self._sender.bytes and not self._lost:
            self.grown.clear()
            await self.grown.wait()
        await asyncio.sleep(self._busy_pause)
        self._busy_pause = min(2 * self._busy_pause, BUSY_PAUSE[1])
        self._fault = None
        self._cursor = self._tail.log.cursor(self.acked, self._tail.own_actors)

    def _with_declarations(self, batch: bytes) -> tuple[bytes, set[int]]:
        """(the batch, behind declarations of the actors that the peer may not know, these)."""
        missing = self._tail.undeclared(self._declared)
        if missing:
            batch = self._tail.declarations_beyond(self._declared) + batch
        return batch, missing

    async def _deliver(self, chunk: Chunk) -> None:
        """One push, with its reply; of a large op as many as it takes."""
        try:
            if chunk.large:
                async with self._sending:
                    await self._deliver_large(chunk.large)
            else:
                await self._push(*self._with_declarations(chunk.batch))
        except Refusal as e:
            raise self._refused(e, chunk) from e
        self.counts.ops_sent += chunk.ops

    def _refused(self, refusal: Refusal, chunk: Chunk) -> Refusal:
        """Note what was refused; returns the refusal."""
        if refusal.code in UNTAKEABLE:
            self._refused_ops = self._refused_ops or RefusedOps(refusal.text)
            clocks.join(self._refused_ops.there,
                        {actor: last for actor, _, last in batch_ranges(chunk.batch)})
        return refusal

    async def _deliver_large(self, large: LargeOp) -> None:
        """In parts, beginning with the first that the peer is not known to have."""
        view = memoryview(large.batch)
        declarations, told = self._with_declarations(b"")
        if (self._sent.actor, self._sent.seq, self._sent.size) != (large.actor, large.seq,
                                                                   len(view)):
            self._sent = proto.Part(actor=large.actor, seq=large.seq, size=len(view))
        # the last byte again is how to learn that it has all
        at, patience = min(self._sent.at, len(view) - 1), 3
        while at < len(view):
            part = proto.Part(actor=large.actor, seq=large.seq, size=len(view), at=at,
                             declarations=len(declarations))
            reply = await self._push(declarations + view[at:at + PART] if declarations
                                      else view[at:at + PART], told, part)
            declarations, told = b"", set()
            # it may have lost what it had, but not again and again
            patience -= reply.part.at <= at
            if patience < 0:
                raise Refusal(proto.UNKNOWN,
                              f"{self.replica} does not get on with an op of {len(view)} bytes")
            at = self._sent.at = reply.part.at

    async def _push(self, batch: bytes | memoryview, told: Set[int],
                    part: proto.Part | None = None) -> proto.Reply:
        head = proto.Push(session=self.session, since=self._version, part=part)
        reply, _ = await self._ask("push", head, batch, proto.Reply)
        self._declared |= told
        self.counts.pushes += 1
        self.counts.bytes_sent += len(batch)
        self._record_reply(reply)
        return reply

    # ---- anti-entropy ----------------------------------------------------------------------------

    async def _anti_entropy_loop(self) -> None:
        s = self._runtime.settings
        pause = s.settle
        while True:
            await self._sleep(pause)
            await self.anti_entropy()
            if self._here_lacks and self._receiver is not None:
                self._receiver.want(self)
            if self._it_lacks and self._servable():
                # others brought it up: shake hands, and push again
                return
            if self._it_lacks and self._receiver is not None:
                await self._offer(self._receiver)
            await asyncio.sleep(min(BREATHER, s.interval))
            pause = self._runtime.settings.interval

    async def _watch_stream(self) -> None:
        """A stream that stands still ends as soon as a request would, however rarely clocks are
        compared."""
        while True:
            await asyncio.sleep(min(self._runtime.settings.interval,
                                    self._runtime.settings.timeout))
            if self._sender:
                self._sender.look()

    async def anti_entropy(self, everything: bool = False) -> None:
        """Compare clocks and move what is overdue, in both directions; `everything` takes whatever
        is lacking here at once."""
        async with self._anti_entropy_lock:
            self.counts.anti_entropy_rounds += 1
            told = self._runtime.ended
            reply, _ = await self._ask(
                "pull", proto.Pull(session=self.session, clock=entries(self._tail.head),
                                   ended=told if told != self._ended_told else b"",
                                   ended_heard=self._ended_heard), b"", proto.Reply)
            self._record_reply(reply)
            self._ended_told = told
            if reply.ended:
                self._ended_heard = zlib.crc32(reply.ended)
                self._runtime.hear_ended(reply.ended)
            theirs = to_clock(reply.clock)
            await self._tail.record_clock(self._actor, theirs)
            due = (clocks.lacking(self._tail.head, theirs) if everything
                   else clocks.overdue(self._tail.head, theirs, self._before))
            due = {a: s for a, s in due.items() if s > self._tail.gate.get(a, 0)}
            self.lacking_for()
            stuck = clocks.overdue(theirs, self._before or {}, self._theirs)
            self._before, self._theirs = dict(self._tail.head), theirs
            if not any(p._sending.locked() for p in self._registry.peers):
                self._tail.log.shrink()
            if due:
                try:
                    await self._pull(due)
                except Refusal as e:
                    if e.code in UNTAKEABLE:
                        self._refused_ops = self._refused_ops or RefusedOps(e.text)
                        clocks.join(self._refused_ops.here, due)
                        # all of what it said lately will do
                        if len(self._refused_ops.here) > ACTORS_MOST:
                            self._refused_ops.here = due
                    raise
            elif clocks.observed(self._tail.head, theirs):
                self._here_lacks = ""
            if self._in_flight:
                stuck = {a: s for a, s in stuck.items() if a not in self._tail.own_actors}
            if stuck and not self._it_lacks:
                await self.relay(set(stuck))
            if (self._refused_ops and clocks.observed(self.acked, self._refused_ops.there)
                and clocks.observed(self._tail.head, self._refused_ops.here)):
                self._is_up()

    async def _pull(self, due: Clock) -> None:
        """Fetch ops of the actors in `due`. The clock sent covers what is here and what the replies
        brought."""
        clock = dict(self._tail.head)
        more = True
        while more and not self.is_paused:
            try:
                pull = proto.Pull(session=self.session, clock=entries(clock),
                                  limit=self._runtime.settings.chunk_size, actors=due,
                                  part=self._parts.next())
                reply, batch = await self._ask("pull", pull, b"", proto.Reply, BODY_MAX)
            except Refusal as e:
                if e.code != proto.NEEDS_FULL_SYNC:
                    raise
                if not self._here_lacks:
                    log.error("peer %s: %s", self.url, e.text)
                self._here_lacks = e.text
                return
            self._record_reply(reply)
            self.counts.pulls += 1
            if self.is_paused or not batch:
                return
            self.counts.bytes_received += len(batch)
            if reply.HasField("part"):
                batch = await self._fetched(reply.part, batch)
                if batch is None:
                    continue
            brought = clocks.behind(clock, to := await self._tail.receive(batch))
            self.counts.ops_received += brought
            clocks.join(clock, to)
            more = reply.more and brought > 0

    async def _fetched(self, part: proto.Part, data: bytes) -> bytes | None:
        """The whole op once this was its last part."""
        before = self._parts.held(part)
        whole = self._parts.add(part, await self._tail.take_declarations(part, data))
        if whole is not None:
            self._parts.clear()
        elif self._parts.held(part) == before:
            raise Refusal(proto.MALFORMED, f"{self.replica} sends the same part of an op again")
        return whole

    async def relay(self, actors: set[int]) -> None:
        """Push ops of these actors from what the peer is known to have, one request after the
        other."""
        try:
            cursor = self._tail.log.cursor(self.acked, actors)
            while chunk := await self._tail.read(cursor, self._runtime.settings.chunk_size):
                await self._deliver(chunk)
                self.counts.relayed += chunk.ops
        except NeedsFullSync as e:
            self._needs_full_sync(e)

    async def bring_up(self, target: Clock) -> None:
        """Return when the peer has all of `target`. What is on its way, from here or from others,
        is awaited; what has stood still for a moment is relayed."""
        patience = BRING_UP_PATIENCE
        while True:
            before = dict(self.acked)
            try:
                return await asyncio.wait_for(self._registry.until(lambda:
                                                             clocks.observed(self.acked, target)),
                                                             patience)
            except TimeoutError:
                patience = min(2 * patience, 10 * BRING_UP_PATIENCE)
                await self.anti_entropy()
            stuck = clocks.overdue(self.acked, target, before)
            if self._in_flight:
                stuck = {a: s for a, s in stuck.items() if a not in self._tail.own_actors}
            if stuck:
                await self.relay(set(stuck))

"""What other replicas ask of this one: handshakes, pushes and pulls. Runs in the sync thread's
loop.

A handshake opens one session per replica, and every push and pull names it. A replica that
restarted has forgotten its sessions and so makes the other side shake hands, and send its clock,
again. Two processes with one replica id: the one that came later takes the id over here and the
earlier is refused, so the two cannot replace each other in turn for ever. When the later one has
been silent for Settings.silence, the earlier may come back: what its clients wrote is not lost with
the mistake. /health of the refused says so.

What arrives is bounded by a budget in bytes for each peer (flow.Traffic); who finds it used up
waits, and the peers' windows close by themselves.
"""
from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crdtredis import clocks
from crdtredis.clocks import Actor, Clock, actor_id
from crdtredis.kinds import is_peer
from crdtredis.replication.flow import Traffic
from crdtredis.replication.giving import Giver
from crdtredis.replication.keeping import Keeper
from crdtredis.replication.local import OwnIdentity
from crdtredis.replication.oplog import Cursor, LargeOp, NeedsFullSync
from crdtredis.replication.registry import Registry
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.tail import LogTail
from crdtredis.replication.wire import (OP_MOST, PART, Refusal, declarations, entries, proto,
                                        to_clock)

SESSIONS = 1000                         # of replicas that shook hands, listed here or not
ENDED_SINCE = 5                         # a version of the protocol: wire.SPEAKS
RETIRED = 1000                          # processes remembered as superseded, over all replica ids


@dataclass
class InboundSession:
    replica: str
    process: int
    actor: Actor                        # that it acts as
    key: int
    last_request: float                 # monotonic, of the newest request
    traffic: Traffic                    # of the replica, in whatever session
    cursor: Cursor | None = None        # of its pulls
    logged: Clock = field(default_factory=dict)     # what it has said that its log holds
    speaks: int = 0                     # the newest version of the protocol that it knows
    url: str = ""                       # where it says that it can be called


class InboundSessions:
    """by_replica: the session of each replica that shook hands."""

    def __init__(self, identity: OwnIdentity, tail: LogTail, registry: Registry,
                 runtime: Runtime, giver: Giver) -> None:
        self._identity, self._tail, self._registry = identity, tail, registry
        self.runtime, self.giver, self.keeper = runtime, giver, Keeper()
        giver.is_gone, giver.refuse_cut_off = self._is_gone, self._refuse_cut_off
        self.by_replica: dict[str, InboundSession] = {}
        self.unidentified_traffic = Traffic(runtime.settings.inbound)   # of callers without session
        self._retired: OrderedDict[int, str] = OrderedDict()

    def stop(self) -> None:
        """End the streams."""
        self.giver.stop()
        for s in self.by_replica.values():
            if s.traffic.stream:
                s.traffic.stream.close()

    async def handshake(self, hello: proto.Hello, declared: bytes) -> tuple[proto.Hello, bytes]:
        """The reply to a handshake. Raises Refusal."""
        told = declarations(declared)
        await self._tail.want()
        if hello.process == self._identity.process:
            # a peer list that names this replica itself: the caller will see
            return self._identity.hello()
        self._identity.check_hello(hello)
        self._refuse_cut_off(hello.replica)
        self._refuse_retired(hello)
        await self._identity.verify(hello, told)
        self._refuse_retired(hello)                             # that took time
        before = self.by_replica.get(hello.replica)
        if before and before.process != hello.process:
            self._retired.pop(hello.process, None)
            self._retired[before.process] = before.replica
            while len(self._retired) > RETIRED:
                self._retired.popitem(last=False)
        session = InboundSession(
            hello.replica, hello.process,
            Actor(actor_id(hello.replica, hello.epoch), hello.replica, hello.epoch),
            self.runtime.chance.getrandbits(63) | 1,
            time.monotonic(), before.traffic if before else Traffic(self.runtime.settings.inbound))
        session.logged = clocks.only(to_clock(hello.clock), self._tail.head)
        session.speaks = max(hello.version, hello.speaks)
        session.url = hello.url if "://" in hello.url and is_peer(hello.url) else ""
        self.by_replica[hello.replica] = session
        self._bound_sessions(session)
        self._registry.is_there(hello.replica, hello.process)
        return self._identity.hello(session.key)

    def _bound_sessions(self, newest: InboundSession) -> None:
        """Names are cheap: of replicas beyond SESSIONS the one that has been silent for longest
        shakes hands again, should there be such a one; not a listed peer, whose name others can use
        but not multiply."""
        if len(self.by_replica) > SESSIONS:
            listed = {p.replica for p in self._registry.peers} | {newest.replica}
            gone = min((s for s in self.by_replica.values() if s.replica not in listed),
                       key=lambda s: s.last_request, default=None)
            if gone:
                del self.by_replica[gone.replica]
                gone.traffic.end()

    def _refuse_cut_off(self, replica: str) -> None:
        if self.runtime.stopping:
            raise Refusal(proto.STOPPING, f"{self._identity.replica} is stopping")
        members = self._registry.members
        asked = [self._registry.asked_for.get(replica)]
        asked += [p.asked_for for p in self._registry.peers if p.replica == replica]
        if not any(members.takes_back(x, replica) for x in asked):
            members.refuse_removed(replica)
        if self._registry.cut_off(replica):
            raise Refusal(proto.PAUSED,
                          f"{self._identity.replica} has paused replication with {replica} "
                          "(CRDT.PEER RESUME there)")

    def _refuse_retired(self, hello: proto.Hello) -> None:
        """A and its copy A' both call: A, A', A (refused, and so on). A' is stopped; A calls after
        `silence`: A' is the refused one now."""
        session = self.by_replica.get(hello.replica)
        if (hello.process in self._retired and session
            and time.monotonic() - session.last_request < self.runtime.settings.silence):
            raise Refusal(proto.SAME_REPLICA,
                          f"another process has taken over replica_id {hello.replica!r}: "
                          "give each replica its own, or stop one of them")

    def _is_gone(self, replica: str, process: int) -> bool:
        """Is this process known to have ended, or silent for too long?"""
        if any(p.session and p.process == process for p in self._registry.peers):
            return False
        found = self.by_replica.get(replica)
        return (found is None or found.process != process
                or time.monotonic() - found.last_request > self.runtime.settings.silence)

    def session(self, replica: str, key: int) -> InboundSession:
        found = self.by_replica.get(replica)
        if found is None or found.key != key:
            raise Refusal(proto.NO_SESSION, "no such session: shake hands first")
        self._refuse_cut_off(replica)
        found.last_request = time.monotonic()
        return found

    def traffic(self, replica: str) -> Traffic:
        """By what a request says of its sender."""
        found = self.by_replica.get(replica)
        return found.traffic if found else self.unidentified_traffic

    # ---- requests --------------------------------------------------------------------------------

    def take(self, session: InboundSession, batch: bytes,
             done: Callable[[Refusal | None], None]) -> None:
        """Have ops of this peer applied and logged; then done(None), or done(why they were not)."""
        def taken(last: Clock, refusal: Refusal | None) -> None:
            if refusal is None:
                self._record(session, last)
            done(refusal)

        self._tail.take(batch, taken)

    def refuse_foreign(self, session: InboundSession, actor: int) -> None:
        """Messages that name another replica's op could make that one's wait for ever."""
        known = self._tail.actors.get(actor)
        if known is not None and known.replica != session.replica:
            raise Refusal(proto.MALFORMED, "messages in the name of another replica")

    def silent(self) -> dict[str, float]:
        """Seconds since the last request of each replica that shook hands. From any thread."""
        now = time.monotonic()
        return {s.replica: now - s.last_request for s in list(self.by_replica.values())}

    def logged(self) -> dict[str, Clock]:
        """As registry.logged, of replicas that came by themselves and are no longer silent than
        Settings.silence. From any thread."""
        oldest = time.monotonic() - self.runtime.settings.silence
        removed = self._registry.members.is_removed
        return {s.replica: s.logged for s in list(self.by_replica.values())
                if s.last_request >= oldest and not removed(s.replica)}

    def older_than(self, version: int) -> str:
        """A replica that came by itself, of late, and knows no such version of the protocol; "":
        none. From any thread."""
        oldest = time.monotonic() - self.runtime.settings.silence
        return next((s.replica for s in list(self.by_replica.values())
                     if s.speaks < version and s.last_request >= oldest), "")

    def _record(self, session: InboundSession, clock: Clock) -> None:
        self._registry.record(session.replica, session.process, clock)

    async def push(self, replica: str, request: proto.Push, batch: bytes) -> proto.Reply:
        """Take ops from a peer. The reply comes once they are logged, or wait for others. Raises
        Refusal."""
        session, part = self.session(replica, request.session), None
        if request.HasField("part"):
            part = await self._take_part(session, request.part, batch)
        elif batch:
            self._record(session, await self._tail.receive(batch))
        return self.reply(request.since, part=part)

    def reply(self, version: int, **more: Any) -> proto.Reply:
        """To pushes: what the log has got since the clock had this version."""
        head = self._tail.log.head
        return proto.Reply(clock=entries(head.since(version)), version=head.version,
                           waiting=self._tail.waiting, **more)

    async def _take_part(self, session: InboundSession, part: proto.Part,
                         data: bytes) -> proto.Part:
        """Returns which part is wanted next. What is here stays, should the engine refuse the whole
        for the moment."""
        parts, data = session.traffic.parts, await self._tail.take_declarations(part, data)
        if self._tail.head.get(part.actor, 0) < part.seq:             # else it came by another way
            self._make_room(session, part.size)
            whole = parts.add(part, data)
            if whole is None:
                return proto.Part(actor=part.actor, seq=part.seq, size=part.size,
                                 at=parts.held(part))
            try:
                self._record(session, await self._tail.receive(whole))
            except Refusal as e:
                if e.code == proto.MALFORMED:
                    parts.clear()
                raise
        parts.clear()
        return proto.Part(actor=part.actor, seq=part.seq, size=part.size, at=part.size)

    def _make_room(self, session: InboundSession, size: int) -> None:
        """Bound what large ops of all peers take while they come in. Refusal(BUSY)."""
        others = sorted((s for s in self.by_replica.values() if s is not session),
                        key=lambda s: s.last_request)
        used = sum(s.traffic.parts.have for s in others)
        for other in others:
            if used + size > 2 * OP_MOST and other.traffic.parts.have:
                if time.monotonic() - other.last_request < self.runtime.settings.timeout:
                    raise Refusal(proto.BUSY, "other large ops are on their way here")
                used -= other.traffic.parts.have
                other.traffic.parts.clear()

    async def pull(self, replica: str, request: proto.Pull) -> tuple[proto.Reply, bytes]:
        """A comparison of clocks, or up to request.limit bytes of the ops that a peer wants. Raises
        Refusal.

        Only a comparison says what the peer has logged. C fetches b1, which depends on an a1 it
        lacks: C's next pull claims b1, so that it is not sent again, while b1 waits in C's memory;
        a WAIT at B that took this for an acknowledgement would lie."""
        session = self.session(replica, request.session)
        clock, part = to_clock(request.clock), None
        batch, more, ended = b"", False, b""
        if not request.limit:
            session.logged = clocks.only(clock, self._tail.head)
            self._record(session, clock)
            self._registry.wake()
            self._tail.note_clock(session.actor, session.logged)
            if request.ended:
                self.runtime.hear_ended(request.ended)
            if session.speaks >= ENDED_SINCE and (
                    zlib.crc32(self.runtime.ended) != request.ended_heard):
                ended = self.runtime.ended
        elif lent := self._still_lent(session, request.part):
            part, batch = self._lend(session, lent, request.part, b"")
            more = True
        else:
            known = {a for a, seq in clock.items() if seq}
            if request.actors:
                clock = clocks.leaving_out(clock, self._tail.head, set(request.actors))
            # taken: a second pull meanwhile gets its own
            cursor, session.cursor = session.cursor, None
            try:
                if cursor is None or not clocks.observed(clock, cursor.clock):
                    cursor = self._tail.log.cursor(clock)
                clocks.join(cursor.clock, clock)
                chunk = await self._tail.read(cursor, min(request.limit,
                                                          self.runtime.settings.chunk_size))
            except NeedsFullSync as e:
                raise Refusal(proto.NEEDS_FULL_SYNC,
                              f"{replica} needs a full sync: the log of "
                              f"{self._identity.replica} no longer holds ops that it lacks "
                              f"({e})") from e
            more = self._tail.log.pending(cursor)
            batch = self._tail.declarations_beyond(known) if chunk else b""
            if chunk.large:
                part, batch = self._lend(session, chunk.large, request.part, batch)
                more = True
            else:
                batch += chunk.batch
                session.traffic.lend(None, 0.0)
            session.cursor = cursor
            self._refuse_cut_off(replica)                        # reading took time
        head = self._tail.log.head
        return proto.Reply(clock=entries(head.seqs), version=head.version,
                           waiting=self._tail.waiting,
                           more=more, part=part, ended=ended), batch

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
        session.traffic.lend(large, self.runtime.settings.timeout)
        part = proto.Part(actor=large.actor, seq=large.seq, size=size, at=at,
                          declarations=len(told))
        return part, told + memoryview(large.batch)[at:at + PART]

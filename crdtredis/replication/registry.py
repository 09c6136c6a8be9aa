"""The peers of this replica: which there are, which are paused, what they have, and who waits for
that. Runs in the sync thread's loop, but for what says otherwise.

PAUSE is checked where bytes would cross: before anything is handed to the engine and before
anything leaves. `paused_all` and Peer.paused are plain flags that PAUSE sets at once from the
engine thread.
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from crdtredis import clocks
from crdtredis.clocks import Clock
from crdtredis.members import Member
from crdtredis.replication.local import OwnIdentity
from crdtredis.replication.members import Members
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.tail import LogTail
from crdtredis.replication.waiters import Waiter, Waiters
from crdtredis.replication.wire import proto

if TYPE_CHECKING:
    from crdtredis.replication.peer import Peer


class Arrival:
    """Somebody waits until all of a clock is here; of the actors that lack, one after the other."""

    def __init__(self, clock: Clock, done: Callable[[], None]) -> None:
        self.left = iter(clock.items())
        self.done = done
        self.waiter: Waiter | None = None   # for the actor that it waits for now


class Registry:
    """peers: replaced by another list, never changed, so that any thread may iterate over it."""

    def __init__(self, identity: OwnIdentity, tail: LogTail, runtime: Runtime,
                 soon: Callable[[Callable[[], Any]], None]) -> None:
        """soon: has the engine thread run a function."""
        self._identity, self._runtime, self._soon = identity, runtime, soon
        self._tail = tail
        self.peers: list[Peer] = []
        self.members = Members(identity.replica)
        # {replica: what it has said that its log holds}, of those that call this one
        self.callers: Callable[[], dict[str, Clock]] = dict
        # a conversation has begun, or the first attempt has failed
        self.met: Callable[[], None] = lambda: None
        self.paused_all = False
        # replicas that are paused by their id, for nobody can be called there
        self.paused_ids: frozenset[str] = frozenset()
        # {replica: the table when CRDT.PEER ADD named its id, which takes it back}: see Members
        self.asked_for: Mapping[str, Mapping[str, Member]] = {}
        self.waiters = Waiters()
        self.arrivals = Waiters()           # for our own clock
        self._until: dict[asyncio.Future[None], Callable[[], bool]] = {}
        tail.grown, tail.changed, tail.early = self.grow, self.wake, self.hurry

    def cut_off(self, replica: str) -> bool:
        """Is replication with this replica paused? A caller nobody can place may be the paused peer
        that has not shaken hands yet."""
        if (self.paused_all or replica in self.paused_ids
                or any(p.paused and p.replica == replica for p in self.peers)):
            return True
        unidentified = any(p.paused and not p.replica for p in self.peers)
        return unidentified and not any(p.replica == replica for p in self.peers)

    # ---- what the log and the sessions tell ------------------------------------------------------

    def record(self, replica: str, process: int, clock: Clock) -> None:
        """This process has all of `clock` in its log."""
        for p in self.peers:
            if p.replica == replica and p.process == process:
                p.has(clock)

    def is_there(self, replica: str, process: int) -> None:
        """This process shook hands: no address it may have waits for its own back-off."""
        for p in self.peers:
            if ((p.replica == replica or not p.replica)
                    and (p.state != "up" or p.process != process)):
                p.wanted.set()

    def grow(self) -> None:
        for p in self.peers:
            p.grow()

    def hurry(self) -> None:
        """Some ops wait: ask around soon for what they depend on."""
        for p in self.peers:
            p.hurry()

    # ---- waiting ---------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something moved: our clock or what a peer has. Lets those go whose condition holds."""
        for future, condition in list(self._until.items()):
            if not future.done() and condition():
                future.set_result(None)
        freed = [x for actor in self.waiters.actors
                 for x in self.waiters.free(actor, self._reached(actor))]
        if freed:
            self._soon(lambda: [done(replicas) for done, replicas in freed])
        head = self._tail.head
        for go_on, _ in [x for actor in self.arrivals.actors
                         for x in self.arrivals.free(actor, [head.get(actor, 0)])]:
            go_on(1)

    async def until(self, condition: Callable[[], bool]) -> None:
        if not condition():
            future = asyncio.get_running_loop().create_future()
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

    def expect(self, arrival: Arrival) -> None:
        """Have arrival.done called in the engine thread, once the log here has all of its clock."""
        head = self._tail.head
        for actor, seq in arrival.left:
            if head.get(actor, 0) < seq:
                arrival.waiter = Waiter(actor, seq, 1, lambda _: self.expect(arrival))
                self.arrivals.enter(arrival.waiter)
                return
        self._soon(arrival.done)

    def expect_no_more(self, arrival: Arrival) -> None:
        """Nothing happens when it has come already."""
        arrival.left = iter(())
        arrival.done = lambda: None
        if arrival.waiter is not None:
            self.arrivals.leave(arrival.waiter)

    def _reached(self, actor: int) -> list[int]:
        """Up to where each replica has this actor in its log, greatest first. A replica with two
        addresses is one replica, of which the process counts that shook hands last: the former may
        have had what this one lost. One that cannot be called tells where it calls."""
        newest: dict[str, Peer] = {}
        for p in self.peers:
            if p.is_replica and (p.replica not in newest
                                 or p.handshake_at > newest[p.replica].handshake_at):
                newest[p.replica] = p
        told = [max(p.acked.get(actor, 0) for p in self.peers if p.is_replica
                    and p.process == n.process) for n in newest.values()]
        told += [c.get(actor, 0) for r, c in self.callers().items() if r not in newest]
        return sorted(told, reverse=True)

    def acknowledged(self, actor: int, seq: int) -> int:
        """Replicas that have this op of ours in their log."""
        return sum(1 for s in self._reached(actor) if s >= seq)

    def logged(self) -> dict[str, Clock]:
        """{replica: the clock of its newest process's log, as far as it has told}; {its id or url:
        {}} of a peer that has not shaken hands since the start. From any thread."""
        out: dict[str, Clock] = {}
        newest: dict[str, Peer] = {}
        for p in sorted(self.peers, key=lambda p: -p.handshake_at):
            if self.members.is_removed(p.replica or p.member):
                continue
            if not p.replica:
                out[p.member or p.url] = {}
            elif p.is_replica and newest.setdefault(p.replica, p).process == p.process:
                clocks.join(out.setdefault(p.replica, {}), dict(p.acked))
        return out

    # ---- what operators must know ----------------------------------------------------------------

    @property
    def conflict(self) -> str:
        """What shows that another process uses our replica id, "" where nothing does. From any
        thread."""
        text, at = self._identity.twin
        if text and time.monotonic() - at < self._runtime.settings.silence:
            return text
        return next((f"peer {p.url}: {p.error}" for p in self.peers
                     if p.refusal == proto.SAME_REPLICA), "")

    def faults(self) -> list[str]:
        """Why clients should not be given to this server, as far as replication knows. From any
        thread."""
        out = [self.conflict] if self.conflict else []
        if self.members.is_removed(self.members.own) or any(
                p.refusal == proto.REMOVED and not self.members.is_removed(p.replica)
                for p in self.peers):
            out.append("this replica was removed from the cluster (CRDT.PEER REMOVE): CRDT.PEER "
                       "ADD its address, or its id, at a member takes it back")
        out += [f"operations of {p.replica} cannot be taken here: {p.error}"
                for p in self.peers if p.cannot_take]
        return out

"""Words about consumer groups between replicas: delivering.py says what follows from them. Runs in
the sync thread's loop.

    A's engine --which groups have a consumer--> Consumers --frames--> B's PushReceiver, Consumers
    A's engine <------what it may give out------ Consumers <--frames-- B's PushSender, Consumers

Each stream of pushes (stream.py) carries what the side that pushes has to say, all of it first and
then what changes. A word is heard when the newest op of its sender is in the log here, and the
words before it were heard. What follows is done in rounds: what is new is looked at, the engine is
told what it may give out, and only then it is said to others, behind the newest op that was made
until then.

So two replicas are linked where each can call the other. Who cannot be called, or cannot call, or
is of an older build, counts as one without consumers; but not before GRACE intervals have passed:
a stream that breaks and begins anew, or a replica that restarts, costs no entry given out twice.
Nor does one count for ever that takes no word in (UNHEARD), or whose ops do not come (UNREAD).

Bounds: groups and names are bounded where they come from (engine/consumers.pxi) and where they are
taken; frames are about FRAME bytes; words that cannot be heard yet are BYTES_MOST for each stream.
"""
from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from crdtredis.clocks import Clock
from crdtredis.replication.delivering import Delivering, Group, Mode, Right
from crdtredis.replication.waiters import Waiter
from crdtredis.replication.wire import Refusal, decode, encode, proto

if TYPE_CHECKING:
    from crdtredis.replication.registry import Registry
    from crdtredis.replication.runtime import Runtime
    from crdtredis.replication.stream import FrameLink

log = logging.getLogger("crdtredis.replication")

SINCE = 6                               # a version of the protocol: wire.SPEAKS
WORDS = 6                               # kind of a frame: see stream.py
FRAME = 1 << 20                         # bytes of groups in a frame, about
GROUPS_MOST = 110_000                   # that a replica names: engine/consumers.pxd has 100,000,
NAME_MOST = 4096                        # and bytes of key and name
BYTES_MOST = 64 << 20
HELD = 200                              # bytes that a group takes beside those that it came in
PIECE = 500                             # groups that the engine is told of at once
GRACE = 1.5                             # sync_intervals until one that is lost counts for nothing
RARELY = 4                              # times GRACE between two that one is expected
UNHEARD = 60.0                          # seconds without progress of what hears,
UNREAD = 600.0                          # and of what is to be heard
PROCESSES = 2000                        # that are known again

Give = Callable[[int, list[tuple[Group, Right | None]]], tuple[int, int]]


def changes(data: bytes) -> Iterator[tuple[bool, Group]]:
    """As engine/consumers.pxi tells them."""
    at = 0
    while at < len(data):
        key = at + 13 + int.from_bytes(data[at + 5:at + 9], "little")
        end = key + int.from_bytes(data[at + 9:at + 13], "little")
        yield data[at] == 1, (int.from_bytes(data[at + 1:at + 5], "little"), data[at + 13:key],
                              data[key:end])
        at = end


def weight(group: Group) -> int:
    return 50 + len(group[1]) + len(group[2])


class Voice:
    """What one stream brings of a replica."""

    def __init__(self, link: FrameLink, replica: str, again: bool) -> None:
        self.link, self.replica, self.again = link, replica, again
        self.spoke = False
        self.part: list[proto.Consumed] = []
        self.pending: deque[tuple[proto.Consumers, dict[Group, int]]] = deque()
        self.bytes = 0                                          # of both
        self.waiter: Waiter | None = None
        # the log's seq that was waited with, and since when
        self.reached, self.since = -1, 0.0

    def stands(self, head: Clock, now: float) -> bool:
        """Has what it waits for not moved for UNREAD?"""
        reached = head.get(self.pending[0][0].actor, 0) if self.pending else -1
        if reached != self.reached or not self.pending:
            self.reached, self.since = reached, now
        return now - self.since > UNREAD


class Ear:
    """The other end of a stream on which this replica speaks."""

    def __init__(self, link: FrameLink, due: set[Group]) -> None:
        self.link, self.due = link, due
        self.owed = True                                        # a word, whatever is due
        # numbers of words that said something: the first that is not known to be heard, and when
        # it was said; the last
        self.first = self.last = 0
        self.since = 0.0

    def heard(self, number: int, now: float) -> None:
        if self.first and number >= self.first:
            self.first, self.since = (0 if number >= self.last else number + 1), now


class Consumers:
    """mode: as the engine has it; None: unknown."""

    def __init__(self, replica: str, registry: Registry, runtime: Runtime,
                 head: Callable[[], Clock], call: Callable[[Callable[[], Any]], Awaitable[Any]],
                 give: Give, now: Callable[[], float] = time.monotonic) -> None:
        """head: what is in the log. call: runs a function in the engine thread; give: one that
        tells it what it may give out, and returns the newest op made here."""
        self._registry, self._runtime, self._head = registry, runtime, head
        self._call, self._give, self._now = call, give, now
        self.delivering = Delivering(replica)
        self.mode: Mode | None = None
        self._told: dict[Group, Right | None] = {}              # the engine
        self._touched: set[Group] = set()                       # look at what may be given out of
        self._all = False                                       # ... all
        self._ears: dict[str, Ear] = {}
        self._voices: dict[str, Voice] = {}
        self._processes: dict[str, int] = {}                    # whose voices they were
        self._broken: dict[str, float] = {}                     # since when not all is well
        self._expected: dict[str, float] = {}                   # from when on it is, once more
        self._task: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    # ---- the engine ------------------------------------------------------------------------------

    def drained(self, data: bytes) -> None:
        """Which groups have a consumer here."""
        told = list(changes(data[1:]))
        if data[:1] == b"\1":
            now = {group for _, group in told}
            told = [(False, g) for g in self.delivering.mine if g not in now] + told
        for begun, group in told:
            if self.delivering.consumes(group, begun):
                self._touched.add(group)
                for ear in self._ears.values():
                    ear.due.add(group)
        self._go_on()

    # ---- streams ---------------------------------------------------------------------------------

    def speak(self, replica: str, link: FrameLink) -> None:
        """There is a stream to a replica that understands."""
        self._ears[replica] = Ear(link, set(self.delivering.mine))
        self._expect(replica)

    def hush(self, link: FrameLink) -> None:
        self._ears = {r: e for r, e in self._ears.items() if e.link is not link}
        self.look()

    def listen(self, link: FrameLink, replica: str, process: int) -> Voice:
        """There is a stream from a replica that will speak. Until it does, this one gives out
        nothing."""
        if before := self._voices.pop(replica, None):
            self._silence(before)
        if len(self._processes) > PROCESSES:
            self._processes.clear()
        voice = Voice(link, replica, self._processes.get(replica) == process)
        self._voices[replica], self._processes[replica] = voice, process
        self.delivering.forget(replica)
        self._expect(replica)
        return voice

    def _expect(self, replica: str) -> None:
        """It has come, and counts before all is well. But not again and again while that fails."""
        now = self._now()
        if now >= self._expected.get(replica, 0.0):
            self._broken.pop(replica, None)
            self._expected[replica] = now + RARELY * self._grace
        self.look()

    def ended(self, voice: Voice) -> None:
        """What it has said counts a little longer."""
        self._silence(voice)
        if self._voices.get(voice.replica) is voice:
            del self._voices[voice.replica]
            self.look()

    def _silence(self, voice: Voice) -> None:
        if voice.waiter is not None:
            self._registry.arrivals.leave(voice.waiter)
        voice.pending.clear()

    def came(self, voice: Voice, body: bytes, refuse_foreign: Callable[[int], None]) -> None:
        """A frame. Raises Refusal. refuse_foreign: does where an actor is another replica's."""
        if len(body) > 2 * FRAME:
            raise Refusal(proto.TOO_LARGE, "a frame of too many consumer groups")
        word, _ = decode(proto.Consumers, body)
        refuse_foreign(word.actor)
        voice.bytes += len(body) + HELD * len(word.groups)
        if voice.bytes > BYTES_MOST:
            raise Refusal(proto.TOO_LARGE, "words about consumer groups that cannot be heard")
        if any(len(g.key) + len(g.group) > NAME_MOST for g in word.groups):
            raise Refusal(proto.MALFORMED, "a consumer group with a name that is too long")
        voice.part += word.groups
        if not word.more:
            groups = {(g.database, g.key, g.group): g.token for g in voice.part}
            voice.part = []
            voice.pending.append((word, groups))
            if not voice.spoke:
                voice.spoke = True
                self.look()
            self._hear(voice)

    def _hear(self, voice: Voice) -> None:
        """Those whose time has come."""
        said = self.delivering
        while voice.pending:
            word, groups = voice.pending[0]
            if self._head().get(word.actor, 0) < word.seq:
                voice.waiter = Waiter(word.actor, word.seq, 1, lambda _: self._hear(voice))
                self._registry.arrivals.enter(voice.waiter)
                break
            voice.pending.popleft()
            self._touched |= said.hear(voice.replica, word.number, word.heard, groups, voice.again)
            voice.again = False
            if ear := self._ears.get(voice.replica):
                ear.heard(word.heard, self._now())
                ear.owed = ear.owed or bool(groups)
            if len(said.words[voice.replica].groups) > GROUPS_MOST:
                voice.link.close(Refusal(proto.TOO_LARGE, "too many groups with consumers"))
                voice.pending.clear()
        if not voice.pending:
            voice.bytes = 0
        self._go_on()

    # ---- links -----------------------------------------------------------------------------------

    def _there(self) -> set[str]:
        """Replicas that may be linked, or come to be: by URL where no more is known."""
        registry = self._registry
        there, known = set(self._voices), {registry.members.own}
        for p in registry.peers:
            known |= {p.replica, p.member, p.url}
            if p.state not in ("self", "standby") and not 0 < p.speaks < SINCE:
                there.add(p.replica or p.url)
        if self._runtime.settings.discovery:
            there |= {r for r, url in registry.members.to_call().items()
                      if r not in known and url not in known}
        return {r for r in there if not registry.members.is_removed(r)}

    def _is_whole(self, replica: str) -> bool:
        ear, voice, now = self._ears.get(replica), self._voices.get(replica), self._now()
        return (ear is not None and not ear.link.closed and voice is not None and voice.spoke
                and not (ear.first and now - ear.since > UNHEARD)
                and not voice.stands(self._head(), now))

    @property
    def _grace(self) -> float:
        return GRACE * self._runtime.settings.interval

    def look(self) -> None:
        """Who is linked? To be called when that may have changed, and now and then."""
        now, grace = self._now(), self._grace
        there = self._there()
        self._broken = {r: self._broken.get(r, now) for r in there if not self._is_whole(r)}
        self._expected = {r: t for r, t in self._expected.items() if r in self._broken}
        left = [since + grace - now for since in self._broken.values()]
        linked = {r for r in there if r not in self._broken or now < self._broken[r] + grace}
        for replica in self.delivering.linked - linked - self._voices.keys():
            self.delivering.forget(replica)
        if self.delivering.link(linked):
            self._all = True
        if self._later is not None:
            self._later.cancel()
        if soon := [x for x in left if x > 0]:
            self._later = asyncio.get_running_loop().call_later(min(soon) + 0.001, self.look)
        self._go_on()

    # ---- rounds ----------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._task is None and not self._runtime.stopping and self._is_due():
            self._task = asyncio.get_running_loop().create_task(self._work())

    def _is_due(self) -> bool:
        return bool(self._touched or self._all or self.delivering.mode != self.mode
                    or any(e.due or e.owed for e in self._ears.values()))

    async def _work(self) -> None:
        try:
            while self._is_due() and not self._runtime.stopping:
                await self._round()
        except Exception:
            if not self._runtime.stopping:
                log.exception("consumer groups: what is given out is looked at anew")
            self.mode = None
        finally:
            self._task = None

    def _right(self, group: Group) -> Right | None:
        said = self.delivering
        if group in said.mine or any(group in said.words[r].groups for r in said.linked):
            return said.right(group)
        return None

    async def _round(self) -> None:
        said = self.delivering
        mode, number = said.mode, said.say()
        touched, self._touched = self._touched, set()
        if self._all or mode != self.mode:
            touched = set(said.mine).union(*(w.groups for w in said.words.values()), self._told)
            self._all = False
        words = []
        for replica, ear in self._ears.items():
            if ear.due or ear.owed:
                word = said.words.get(replica)
                words.append((replica, ear, word.number if word else 0,
                              [(g, said.mine.get(g, 0)) for g in ear.due]))
                ear.due, ear.owed = set(), False
        newest = None
        try:
            newest = await self._tell_engine(mode, touched)
        finally:
            if newest is None:
                for _, ear, _, groups in words:
                    ear.due.update(g for g, _ in groups)
                    ear.owed = True
        for replica, ear, heard, groups in words if newest else ():
            if self._ears.get(replica) is ear and not self._registry.cut_off(replica):
                self._say(ear, number, heard, groups, newest)

    async def _tell_engine(self, mode: Mode, touched: set[Group]) -> tuple[int, int] | None:
        """Returns the newest op made here until then; None: what is linked has changed meanwhile.
        """
        rights: list[tuple[Group, Right | None]] = []
        if self.mode is None and mode is not Mode.ALL:
            await self._tell(Mode.NOTHING, [])                  # and forget what was said before
        if mode != self.mode:
            self._told = {}                                     # nor does the engine know any more
        newest = await self._tell(mode, [])
        self.mode = mode
        for group in touched if mode is Mode.RIGHTS else ():
            if self.delivering.mode is not mode:
                self.mode = None
                return None
            right = self._right(group)
            if right != self._told.get(group):
                rights.append((group, right))
                if right is None:
                    self._told.pop(group, None)
                else:
                    self._told[group] = right
            if len(rights) == PIECE:
                newest = await self._tell(mode, rights)
                rights = []
        return await self._tell(mode, rights) if rights else newest

    async def _tell(self, mode: Mode, rights: list[tuple[Group, Right | None]]) -> tuple[int, int]:
        return await self._call(lambda: self._give(mode, rights))

    def _say(self, ear: Ear, number: int, heard: int, groups: list[tuple[Group, int]],
             newest: tuple[int, int]) -> None:
        word = proto.Consumers(actor=newest[0], seq=newest[1], number=number, heard=heard)
        if groups:
            ear.last = number
            if not ear.first:
                ear.first, ear.since = number, self._now()
        size = 0
        for (db, key, name), token in groups:
            if size > FRAME:
                word.more = True
                ear.link.send(WORDS, encode(word))
                word.more, size = False, 0
                del word.groups[:]
            word.groups.add(database=db, key=key, group=name, token=token)
            size += weight((db, key, name))
        ear.link.send(WORDS, encode(word))
        if ear.link.backlog > BYTES_MOST:
            ear.link.close(ConnectionError("what is said about consumer groups is not taken in"))

    # ---- for who wants to know -------------------------------------------------------------------

    def readers(self, group: Group) -> list[str]:
        """Other replicas that have a consumer of the group. From any thread."""
        words = dict(self.delivering.words)
        return sorted(r for r, w in words.items() if group in w.groups)

    def waits_for(self, group: Group) -> list[str]:
        """Replicas that have not said what this one needs to know before it gives out others'
        entries. From any thread."""
        return sorted(self.delivering.unheard(group))

"""When can nothing of a process that has ended come any more? Then its tombstones may go.

A process that ends with the memory of its machine is followed by a new actor (storage/witness.py).
The old one stays in the clocks, and a counter entry of it that was cancelled as a tombstone, for an
increment that did not know of the cancellation could still come (core/cell.pxi). That none can is
no fact of any log: an op may lie in a causal buffer, on a disk that is away, or be on its way. So
the members of the cluster agree on the last seq of it:

  freeze   A replica fixes, for each actor that has ended, the last seq that it has applied, makes
           that durable, and tells it in its `Ack`. From then on it applies no later op of that
           actor (Replica.freeze), unless a member that it counted then has one: a member whose
           Ack says a greater seq raises its own.
  close    A replica that knows an Ack of each member, all of which name the same members and the
           same last seq, and each of which was made by somebody who had seen all these others,
           lets the tombstones of that actor go.

Why that is safe. Say X has closed an actor at seq 5, and one of the members applies its op 6 later;
let Y be the first. It had frozen the actor at 5, so another member Z that it counts has told it of
6. X's Ack of Z says 5, Y had seen that Ack, and believes only what was made by who has it on disk
(`follows`). So Z had frozen the actor at 5, too, and has applied 6 since: before Y.

    A: INCR c (A1, 5), INCR c (A1, 6), which only C gets; A loses its memory and the end of its
    log, and goes on as A2.   B: DEL c, which leaves a tombstone for (A1, 5).
    A and B freeze A1 at 5, C at 6. Of C's Ack they learn of 6, take that op, and say 6 themselves.
    Had B asked A alone: no tombstone, and C's op brings the whole total back.

What each condition is for; tests/replication/test_ended.py has an example of each:

  - durable before it is told: else a crash forgets it, and takes what the others refuse;
  - of all members, who agree on who they are: else one that has more is not asked;
  - a member that came later raises nothing that was frozen before: nobody had asked it;
  - each has seen the others' Acks: else Y could believe an Ack of Z of another life;
  - `follows`: a directory that was restored, or copied, has forgotten what its replica said. Nobody
    who knows better believes it, until it has taken over what was said (`_adopt`). One that holds
    more of an ended actor than was agreed on cannot: it must start anew (`parted`), and so must a
    new replica that got an op from one that lost it.

A member that is away, or of a version that does not know this, says nothing: nothing is closed
then. Pure: no socket, no file, no time.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

NAME = "ended.json"                     # of the file that keeps it
MOST = 4096                             # actors that are frozen
LIVES = 1000                            # that an Ack names
ACKS = 1000                             # replicas
BYTES = 1 << 20                         # of all Acks together; more are not told

Version = tuple[int, int]               # a process of a replica's directory, and a count


@dataclass(frozen=True)
class Ack:
    """turn: grows with every change; the version with every change but of `seen`. chain: {life:
    count} of the processes of this directory before. last: {actor: seq}, in the order in which they
    were frozen. members: {replica: from which place in `last` on it may raise}."""
    replica: str
    version: Version = (0, 0)
    turn: int = 0
    chain: Mapping[int, int] = field(default_factory=dict)
    last: Mapping[int, int] = field(default_factory=dict)
    members: Mapping[str, int] = field(default_factory=dict)
    seen: Mapping[str, Version] = field(default_factory=dict)

    def follows(self, version: Version) -> bool:
        """Was it made by who has this one, of the same replica, on disk?"""
        life, count = version
        return self.version[1] >= count if self.version[0] == life else (
            self.chain.get(life, 0) >= count)

    def told(self) -> dict[str, Any]:
        return {"replica": self.replica, "version": self.version, "turn": self.turn,
                "chain": list(self.chain.items()), "last": list(self.last.items()),
                "members": list(self.members.items()), "seen": list(self.seen.items())}


def encode(acks: Iterable[Ack]) -> bytes:
    return orjson.dumps([a.told() for a in acks])


def decode(data: bytes) -> list[Ack]:
    """ValueError where it is none."""
    try:
        found = orjson.loads(data)
        acks = [Ack(j["replica"], version(j["version"]), number(j["turn"]),
                    {number(k): number(n) for k, n in j["chain"]},
                    {number(k): number(n) for k, n in j["last"]},
                    {text(k): number(n) for k, n in j["members"]},
                    {text(k): version(n) for k, n in j["seen"]}) for j in found]
    except (KeyError, TypeError) as e:
        raise ValueError("no acknowledgement") from e
    if len(acks) > ACKS or any(len(a.last) > MOST or len(a.chain) > LIVES or not isinstance(
            a.replica, str) for a in acks):
        raise ValueError("more than can be")
    return acks


def number(x: Any) -> int:
    if type(x) is not int or not 0 <= x < 1 << 64:
        raise ValueError(f"{x!r} is no number")
    return x


def text(x: Any) -> str:
    if not isinstance(x, str):
        raise ValueError(f"{x!r} is no name")
    return x


def version(x: Any) -> Version:
    life, count = x
    return number(life), number(count)


class Ended:
    """own: the Ack of this replica, as it is on disk. acks: of the others, the newest each."""

    def __init__(self, replica: str, life: int, stored: bytes = b"") -> None:
        """life: random, of this process. stored: what was stored last. ValueError where it is not
        of this replica."""
        self.own, *others = decode(stored) if stored else [Ack(replica)]
        if self.own.replica != replica:
            raise ValueError("another replica's")
        self.acks, self._life = {a.replica: a for a in others}, life
        self._other: Ack | None = None      # of this replica, which this directory does not know
        self._apart = False                 # ... and cannot take over
        self.waits_for = ""                 # why nothing is frozen, or closed
        self._told = b""
        self._limits: dict[int, int] = {}

    # ---- what others say -------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        """ValueError: they are no Acks."""
        for ack in decode(data):
            if ack.version[1] >> 62:
                raise ValueError("more changes than there can be")   # no room for the next
            if ack.replica == self.own.replica:
                if not self.own.follows(ack.version) and (
                        self._other is None or ack.follows(self._other.version)):
                    self._other = ack
            elif self._believes(ack):
                self.acks[ack.replica] = ack
                self._told = b""

    def _believes(self, ack: Ack) -> bool:
        known = self.acks.get(ack.replica)
        before = self.own.seen.get(ack.replica) if known is None else known.version
        if before is None:
            return len(self.acks) < ACKS
        return ack.follows(before) and (known is None or ack.version != before
                                        or ack.turn > known.turn)

    @property
    def is_full(self) -> bool:
        """Are there as many actors frozen as can be?"""
        return len(self.own.last) >= MOST

    def told(self) -> bytes:
        """For the others: every Ack known here, each as its replica made it."""
        if not self._told and self.own.turn:
            told = encode([self.own, *self.acks.values()])
            self._told = told if len(told) <= BYTES else encode([self.own])
        return self._told

    # ---- what this one says ----------------------------------------------------------------------

    def step(self, me: int, members: Iterable[str], ended: Iterable[int],
             applied: Mapping[int, int], freeze: Callable[[Mapping[int, int]], None],
             store: Callable[[bytes], None]) -> None:
        """Say what is new: as `next`. freeze(limits): from now on no op beyond is applied.
        store(data): makes that durable, and the log before it; what it raises is raised, and
        nothing was said then."""
        ack = self.next(me, members, ended, applied)
        limits = self.limits(ack)
        if limits != self._limits:
            freeze(limits)
            self._limits = limits
        if ack is not None:
            store(encode([ack, *self.acks.values()]))
            self.published(ack)

    def next(self, me: int, members: Iterable[str], ended: Iterable[int],
             applied: Mapping[int, int]) -> Ack | None:
        """The Ack that is to be put on disk, then published(); None: there is nothing new. me: the
        actor that this replica acts as. members: of the cluster, this replica among them. ended:
        actors whose replica has gone on as another. applied: the clock here. Between this and
        published() no op is applied."""
        there = set(members)
        self.acks = {r: a for r, a in self.acks.items() if r in there}
        base = self._adopt(applied)
        if base is None or me in base.last:     # it is about to find out, and to go on as another
            return None
        last = {a: max(seq, applied.get(a, 0)) for a, seq in base.last.items()}
        counted = {r: place for r, place in base.members.items() if r in there}
        counted |= {r: len(last) for r in sorted(there - counted.keys())}
        if self._agreed(there):
            told = {a for z in self.acks.values() for a in z.last}
            for a in sorted({*ended, *told} - last.keys() - {me})[:max(MOST - len(last), 0)]:
                last[a] = applied.get(a, 0)
        seen = {r: a.version for r, a in self.acks.items()}
        seen = {r: v for r, v in base.seen.items() if r in there} | seen
        changed = (last, counted, list(last)) != (base.last, base.members, list(base.last))
        if not changed and seen == base.seen and base is self.own:
            return None
        life, count = base.version
        chain = dict(base.chain)
        if life != self._life:
            changed = True
            if life:
                chain[life] = max(count, chain.get(life, 0))
            count = chain.pop(self._life, 0)
            chain = dict(list(chain.items())[-LIVES:])
        return Ack(self.own.replica, (self._life, count + changed), self.own.turn + 1, chain, last,
                   counted, seen)

    def published(self, ack: Ack) -> None:
        """It is on disk."""
        self.own, self._told, self._other, self._apart = ack, b"", None, False
        self.acks = {r: a for r, a in self.acks.items() if r not in ack.seen
                     or a.follows(ack.seen[r])}

    def _agreed(self, there: set[str]) -> bool:
        """Do all members take part, and know of each other?"""
        self.waits_for = next((r for r in sorted(there - {self.own.replica})
                               if r not in self.acks or self.acks[r].members.keys() != there), "")
        return not self.waits_for

    def _adopt(self, applied: Mapping[int, int]) -> Ack | None:
        """What the next Ack goes on from; None: it cannot."""
        other, own = self._other, self.own
        if other is None:
            return own
        limits = self.limits(other)
        if any(max(applied.get(a, 0), own.last.get(a, 0)) > seq for a, seq in limits.items()):
            self._apart = True
            return None
        self._apart = False
        life, count = own.version
        chain = {**own.chain, **other.chain}
        if life:
            chain[life] = max(count, chain.get(life, 0))
        # what was frozen here stays so, and nobody may raise it who might not before
        last = {**other.last, **{a: n for a, n in own.last.items() if a not in other.last}}
        members = {r: place if not own.last or own.members.get(r) == 0 else len(last)
                   for r, place in other.members.items()}
        return Ack(own.replica, other.version, max(own.turn, other.turn), chain, last, members,
                   other.seen)

    def parted(self) -> bool:
        """Does this directory hold ops that the cluster has agreed not to take any more?"""
        places = {r: {actor: i for i, actor in enumerate(a.last)} for r, a in self.acks.items()}
        return self._apart or any(self._is_refused(a, seq, places)
                                  for a, seq in self.own.last.items())

    def _is_refused(self, actor: int, seq: int,
                    places: Mapping[str, Mapping[int, int]]) -> bool:
        """Is there a member that will never take the actor's op `seq`, which is applied here?
        Whoever has not frozen it will, and so will who is raised by one that will. places: where in
        the Ack of each replica an actor stands."""
        acks = {r: a for r, a in self.acks.items() if r in self.own.members}
        left = {r: [z for z, place in a.members.items() if place <= places[r][actor]]
                for r, a in acks.items() if a.last.get(actor, seq) < seq}
        takes = self.own.members.keys() - left.keys()
        while left:
            more = {r for r, raised in left.items() if not takes.isdisjoint(raised)}
            if not more:
                return True
            takes |= more
            left = {r: z for r, z in left.items() if r not in more}
        return False

    # ---- what follows ----------------------------------------------------------------------------

    def limits(self, ack: Ack | None = None) -> dict[int, int]:
        """{actor: the last seq of it that may be applied here}. ack: as if it were published."""
        own = ack or self.own
        acks = {r: a for r, a in self.acks.items() if r in own.members
                and (r not in own.seen or a.follows(own.seen[r]))}
        return {a: max([seq, *(z.last.get(a, 0) for r, z in acks.items() if own.members[r] <= i)])
                for i, (a, seq) in enumerate(own.last.items())}

    def closed(self, members: Iterable[str], applied: Mapping[int, int]) -> list[int]:
        """Actors of which no member will ever apply more than is applied here."""
        there, own = set(members), self.own
        acks = {r: a for r, a in [*self.acks.items(), (own.replica, own)] if r in there}
        if acks.keys() != there or own.members.keys() != there:
            return []
        for r in sorted(there):
            if acks[r].members.keys() != there or any(
                    acks[r].seen.get(z) != acks[z].version for z in there - {r}):
                self.waits_for = r
                return []
        return [a for a, seq in own.last.items() if applied.get(a, 0) == seq
                and all(acks[r].last.get(a) == seq for r in there)]

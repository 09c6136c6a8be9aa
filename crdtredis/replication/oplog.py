"""The ops this replica has logged, as peers are served with them: recent ones from memory, older ones from the segments.

There is one log and no queue per peer. A peer is a Cursor: the clock of what it has or was sent, and a place in the log. A slow or
absent peer costs its cursor and nothing else; when memory has moved on past it, it reads segments, and when those no longer hold
what it lacks, it is told so (NeedsFullSync) instead of being sent ops whose predecessors it could never get.

    segments:  [............ older ............|.... also in memory ....]
    memory:                                    ^ floor                  ^ head
    cursor.clock < floor: read segments from the last one that begins at or below it. Else: memory.

An entry is one Batch as it came from the engine: the ops of one or more turns, own and foreign, in the order they were applied. Its
`ranges` say whose ops it holds, so most entries are handed out or skipped without looking at a byte; only one that a peer has in
part, or wants in part, is cut (in the kernel). Since the engine writes a turn to the segment before it hands the same bytes here, the
segments hold everything that memory ever held.

Memory is bounded in bytes and entries. Times are monotonic seconds, passed in. Nothing here does I/O but `older`, which is meant
for a worker thread and touches nothing but the cursor.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from crdtredis.replication import plan
from crdtredis.replication.wire import Clock, cut, ranges

ALL = (1 << 64) - 1                     # as a seq in a clock: every op of that actor


class NeedsFullSync(Exception):
    """The log no longer holds ops that the reader lacks. `lost`: {actor: last seq that is gone}."""

    def __init__(self, lost: Clock) -> None:
        super().__init__(", ".join(f"{a:016x} up to {s}" for a, s in sorted(lost.items())[:4]) + (" ..." if len(lost) > 4 else ""))
        self.lost = lost


class Segments(Protocol):
    """What this module needs of the stored log. Called from worker threads."""

    def floor(self) -> Clock:
        """The clock at the beginning of the oldest segment: ops up to there are not in the log."""

    def since(self, clock: Clock) -> Iterator[bytes]:
        """Batches, in the order they were logged, from a place before which every op is covered by clock, up to the end of the
        log as it is when reached."""


@dataclass(slots=True)
class Entry:
    batch: bytes
    ranges: dict[int, tuple[int, int]]  # actor -> first and last seq; dense
    at: float                           # when it came
    offset: int                         # bytes that came before it


@dataclass(frozen=True, slots=True)
class Piece:
    """What a reader was handed out."""
    batch: bytes
    ops: int

    def __bool__(self) -> bool:
        return self.ops > 0


NOTHING = Piece(b"", 0)


@dataclass(slots=True)
class Cursor:
    """A reader's place. `clock` covers what it has and what was handed out to it; `actors`: it wants no others (None: all)."""
    clock: Clock
    actors: set[int] | None = None
    at: int = 0                         # number of the next entry to look at
    settled: int = 0                    # entries before this one are known to be no longer needed
    old: Iterator[bytes] | None = None

    def wants(self, actor: int) -> bool:
        return self.actors is None or actor in self.actors

    def part(self, clock: Clock) -> Clock:
        return clock if self.actors is None else plan.only(clock, tuple(self.actors))

    def mask(self, actors: Iterable[int]) -> Clock:
        """The clock to cut with: what it has, and all of what it does not want."""
        return self.clock if self.actors is None else {**self.clock, **{a: ALL for a in actors if a not in self.actors}}


class Head:
    """This replica's clock as logged, with a version that grows with it, so that an answer can hold what changed since another."""

    def __init__(self, clock: Clock) -> None:
        self.seqs = dict(clock)
        self.version = 1
        self._changed = dict.fromkeys(clock, 1)                 # actor -> version, in the order of the versions

    def advance(self, actor: int, seq: int) -> None:
        self.version += 1
        self.seqs[actor] = seq
        self._changed.pop(actor, None)
        self._changed[actor] = self.version

    def since(self, version: int) -> Clock:
        out = {}
        for actor, changed in reversed(self._changed.items()):
            if changed <= version:
                break
            out[actor] = self.seqs[actor]
        return out


class OpLog:
    def __init__(self, clock: Clock, segments: Segments, most_bytes: int, most_entries: int = 50_000) -> None:
        """clock: what the segments hold when memory is still empty."""
        self.head = Head(clock)
        self.floor: Clock = dict(clock)
        self.segments = segments
        self.most_bytes, self.most_entries = most_bytes, most_entries
        self.bytes = 0                  # in memory
        self.total = 0                  # ever appended
        self._first = 0                 # number of the oldest entry in memory
        self._entries: deque[Entry] = deque()

    @property
    def end(self) -> int:
        return self._first + len(self._entries)

    def append(self, batch: bytes, now: float) -> bool:
        """Take what the engine has logged. False where it does not follow on what is here: blocks were dropped between, see `reset`."""
        found: dict[int, tuple[int, int]] = {}
        for actor, first, last in ranges(batch):
            if actor in found:
                first, last = min(found[actor][0], first), max(found[actor][1], last)
            found[actor] = first, last
        seqs = self.head.seqs
        if all(last <= seqs.get(actor, 0) for actor, (_, last) in found.items()):
            return True
        if any(first > seqs.get(actor, 0) + 1 for actor, (first, _) in found.items()):
            return False
        for actor, (_, last) in found.items():
            if last > seqs.get(actor, 0):
                self.head.advance(actor, last)
        self._entries.append(Entry(batch, found, now, self.total))
        self.bytes += len(batch)
        self.total += len(batch)
        while (self.bytes > self.most_bytes or len(self._entries) > self.most_entries) and len(self._entries) > 1:
            gone = self._entries.popleft()
            self._first += 1
            self.bytes -= len(gone.batch)
            plan.join(self.floor, {a: last for a, (_, last) in gone.ranges.items()})
        return True

    def reset(self, clock: Clock) -> None:
        """Forget memory: everything up to `clock`, the replica's own, is now read from the segments."""
        self._first = self.end + 1                              # one more, so that readers at the end are before it, too
        self._entries.clear()
        self.bytes = 0
        for actor, seq in plan.lacking(self.head.seqs, clock).items():
            self.head.advance(actor, seq)
        self.floor = dict(self.head.seqs)

    # ---- reading ------------------------------------------------------------------------------------------------------

    def cursor(self, clock: Clock, actors: set[int] | None = None) -> Cursor:
        """A reader that has `clock`. Raises NeedsFullSync."""
        found = Cursor(dict(clock), actors, at=-1)
        self.check(found)
        if self._is_old(found):
            return found
        found.at = found.settled = self._first
        return found

    def check(self, cursor: Cursor) -> None:
        """Raises NeedsFullSync where the log has lost something this reader lacks, of whatever actor: others' ops depend on it."""
        if self._is_old(cursor, every=True):
            lost = plan.below_log(self.segments.floor(), cursor.clock)
            if lost:
                raise NeedsFullSync(lost)

    def _is_old(self, cursor: Cursor, every: bool = False) -> bool:
        """Does it lack what memory no longer holds?"""
        return cursor.at < self._first and bool(plan.lacking(cursor.clock, self.floor if every else cursor.part(self.floor)))

    def is_old(self, cursor: Cursor) -> bool:
        """Must the next ops for this reader come from `older`?"""
        return cursor.old is not None or self._is_old(cursor)

    def pending(self, cursor: Cursor) -> bool:
        """Is there anything for this reader?"""
        return bool(plan.lacking(cursor.clock, cursor.part(self.head.seqs)))

    def take(self, cursor: Cursor, limit: int) -> Piece:
        """The next ops from memory, about `limit` bytes (at least one entry's, if any are wanted); NOTHING at the end."""
        cursor.at = max(cursor.at, self._first)
        parts, size, ops, clock = [], 0, 0, cursor.clock
        for e in islice(self._entries, cursor.at - self._first, None):
            wanted = {a: r for a, r in e.ranges.items() if r[1] > clock.get(a, 0) and cursor.wants(a)}
            if wanted:
                if size and size + len(e.batch) > limit:
                    break
                whole = len(wanted) == len(e.ranges) and all(first > clock.get(a, 0) for a, (first, _) in wanted.items())
                part = e.batch if whole else cut(e.batch, cursor.mask(e.ranges))
                parts.append(part)
                size += len(part)
                for a, (first, last) in wanted.items():
                    ops += last - max(first - 1, clock.get(a, 0))
                    clock[a] = last
            cursor.at += 1
        return Piece(parts[0] if len(parts) == 1 else b"".join(parts), ops) if parts else NOTHING

    def older(self, cursor: Cursor, limit: int) -> Piece:
        """The next ops from the segments, about `limit` bytes; NOTHING when the end was reached: go on with `take`, or here if `is_old`
        still says so. Blocks on the disk. A cursor is used by one caller at a time."""
        if cursor.old is None:
            cursor.old = iter(self.segments.since(dict(cursor.clock)))
        parts, size = [], 0
        for batch in cursor.old:
            parts.append(batch)
            size += len(batch)
            if size >= limit:
                piece = self._wanted(cursor, b"".join(parts))
                if piece:
                    return piece
                parts, size = [], 0
        cursor.old = None
        return self._wanted(cursor, b"".join(parts))

    @staticmethod
    def _wanted(cursor: Cursor, batch: bytes) -> Piece:
        part = cut(batch, cursor.clock if cursor.actors is None else cursor.mask({a for a, _, _ in ranges(batch)}))
        found = ranges(part)
        plan.join(cursor.clock, {a: last for a, _, last in found})
        return Piece(part, sum(last - first + 1 for _, first, last in found)) if found else NOTHING

    # ---- how far a reader is ------------------------------------------------------------------------------------------

    def lag(self, cursor: Cursor, acked: Clock, now: float) -> tuple[int, float, int]:
        """(ops, seconds, bytes) between what this reader has acknowledged and the head; bytes only of what is in memory.

        The one method for other threads too: it iterates over copies, which are made in one step."""
        ops = plan.behind(acked, cursor.part(dict(self.head.seqs)))
        if not ops:
            return 0, 0.0, 0
        at = max(cursor.settled, self._first)
        oldest = None
        for e in islice(self._entries.copy(), at - self._first, None):
            if any(last > acked.get(a, 0) and cursor.wants(a) for a, (_, last) in e.ranges.items()):
                oldest = e
                break
            at += 1
        cursor.settled = at
        return (ops, now - oldest.at, self.total - oldest.offset) if oldest else (ops, 0.0, 0)

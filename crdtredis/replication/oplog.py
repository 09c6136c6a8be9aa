"""The ops this replica has logged, as peers are served with them: recent ones from memory, older
ones from the segments.

There is one log and no queue per peer. A peer is a Cursor: the clock of what it has or was sent,
and a position in the log. A slow or absent peer costs its cursor and nothing else; when memory has
moved on past it, it reads segments, and when those no longer hold what it lacks, it is told so
(NeedsFullSync) instead of being sent ops whose predecessors it could never get.

    segments:  [............ older ............|.... also in memory ....]
    memory:                                    ^ floor                  ^ head
    cursor.clock < floor: read segments from the last one that begins at or below it. Else: memory.

An entry is one Batch as it came from the engine: the ops of one or more iterations, own and
foreign, in the order they were applied. Its `ranges` say whose ops it holds, so most entries are
handed out or skipped without looking at a byte; only one that a peer has in part, or wants in part,
is cut (in the kernel). Since the engine writes a loop iteration to the segment before it hands the
same bytes here, the segments hold everything that memory ever held.

No chunk that is handed out holds much more than what was asked for, but for one op at least:
batches are cut between ops, here and when they come from segments. An op of more than PART bytes
is always a chunk of its own. It may be hundreds of megabytes and takes a peer long to fetch, so its
bytes are shared by all who were handed it, from memory or from segments (`_large`), and live as
long as one of them.

A cursor that fell back to segments remembers its place in them, for memory may move on past it
again before the peer catches up.

Memory is bounded in bytes and entries. Times are monotonic seconds, passed in. Nothing here does
I/O but `older`, which is meant for worker threads, one of which reads at a time.
"""
from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol
from weakref import WeakValueDictionary

from crdtredis import clocks
from crdtredis._core import batch_ranges, slice_batch, split_batch
from crdtredis.clocks import Clock
from crdtredis.replication.wire import PART
from crdtredis.storage.format import LogPosition
from crdtredis.storage.reader import Removed

# bytes of the segments after which others may read, whether something was found or not
READ_MOST = 4 << 20
ALL = (1 << 64) - 1                     # as a seq in a clock: every op of that actor


class NeedsFullSync(Exception):
    """The log no longer holds ops that the reader lacks. `lost`: {actor: last seq that is gone}."""

    def __init__(self, lost: Clock) -> None:
        super().__init__(", ".join(f"{a:016x} up to {s}" for a, s in sorted(lost.items())[:4]) +
                         (" ..." if len(lost) > 4 else ""))
        self.lost = lost


class Segments(Protocol):
    """What this module needs of the stored log. Called from worker threads."""

    def floor(self) -> Clock:
        """The clock at the beginning of the oldest segment: ops up to there are not in the log."""

    def find(self, clock: Clock) -> LogPosition:
        """A position before which every op is covered by clock."""

    def read(self, position: LogPosition) -> tuple[bytes, LogPosition]:
        """Some records from there on as one Batch, in the order they were logged, and the position
        behind them; b"" at the end of the log. Raises Removed where that place is no more."""


class LargeOp:
    """An op of more than PART bytes, in a Batch of its own. Holding this object, not its bytes, is
    what shares them."""

    __slots__ = ("batch", "actor", "seq", "__weakref__")

    def __init__(self, batch: bytes, actor: int, seq: int) -> None:
        self.batch, self.actor, self.seq = batch, actor, seq


@dataclass(slots=True)
class Entry:
    batch: bytes
    ranges: dict[int, tuple[int, int]]  # actor -> first and last seq; dense
    at: float                           # when it came
    offset: int                         # bytes that came before it
    large: LargeOp | None = None        # it is one op of more than PART bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a reader was handed out."""
    batch: bytes
    ops: int
    large: LargeOp | None = None        # of which this is all

    def __bool__(self) -> bool:
        return self.ops > 0


NOTHING = Chunk(b"", 0)


@dataclass(slots=True)
class Cursor:
    """A reader's position. `clock` covers what it has and what was handed out to it; `actors`: it
    wants no others (None: all)."""
    clock: Clock
    actors: set[int] | None = None
    at: int = 0                         # number of the next entry to look at
    settled: int = 0                    # entries before this one are known to be no longer needed
    # in the segments: what it wants of the ops before was handed out
    position: LogPosition | None = None
    reading: bool = False               # the end of the segments was not reached yet
    # from before `position`, to be handed out first
    read: deque[bytes] = field(default_factory=deque)

    def wants(self, actor: int) -> bool:
        return self.actors is None or actor in self.actors

    def part(self, clock: Clock) -> Clock:
        return clock if self.actors is None else clocks.only(clock, tuple(self.actors))

    def mask(self, actors: Iterable[int]) -> Clock:
        """The clock to cut with: what it has, and all of what it does not want."""
        return (self.clock if self.actors is None
                else {**self.clock, **{a: ALL for a in actors if a not in self.actors}})


def spans(batch: bytes) -> dict[int, tuple[int, int]]:
    """{actor: (first seq, last seq)} of the ops in a Batch."""
    found: dict[int, tuple[int, int]] = {}
    for actor, first, last in batch_ranges(batch):
        found[actor] = (found[actor][0] if actor in found else first, last)
    return found


class Head:
    """This replica's clock as logged, with a version that grows with it, so that a reply can hold
    what changed since another."""

    def __init__(self, clock: Clock) -> None:
        self.seqs = dict(clock)
        self.version = 1
        # actor -> version, in the order of the versions
        self._changed = dict.fromkeys(clock, 1)

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
    def __init__(self, clock: Clock, segments: Segments, most_bytes: int,
                 most_entries: int = 50_000, most_entry: int = 512 << 10) -> None:
        """clock: what the segments hold when memory is still empty. most_entry: bytes of an entry,
        unless it is one op."""
        self.head = Head(clock)
        self.floor: Clock = dict(clock)
        self.segments = segments
        self.most_bytes, self.most_entries, self.most_entry = most_bytes, most_entries, min(
                most_entry, PART)
        self.born = time.monotonic()
        self.bytes = 0                  # in memory
        self.total = 0                  # ever appended
        self._first = 0                 # number of the oldest entry in memory
        self._entries: deque[Entry] = deque()
        self._large: WeakValueDictionary[tuple[int, int], LargeOp] = WeakValueDictionary()
        # one reads at a time, so that no more than one record is held beside what is handed out
        self._disk = threading.Lock()

    @property
    def end(self) -> int:
        return self._first + len(self._entries)

    def append(self, batch: bytes, now: float) -> bool:
        """Take what the engine has logged. False where it does not follow on what is here: blocks
        were dropped between, see `reset`."""
        found = spans(batch)
        seqs = self.head.seqs
        if all(last <= seqs.get(actor, 0) for actor, (_, last) in found.items()):
            return True
        if any(first > seqs.get(actor, 0) + 1 for actor, (first, _) in found.items()):
            return False
        for actor, (_, last) in found.items():
            if last > seqs.get(actor, 0):
                self.head.advance(actor, last)
        for part in split_batch(batch, self.most_entry):
            large = self._shared(part) if len(part) > PART else None
            self._entries.append(Entry(large.batch if large else part, found if part is batch
                                       else spans(part), now, self.total, large))
            self.bytes += len(part)
            self.total += len(part)
        while ((self.bytes > self.most_bytes or len(self._entries) > self.most_entries)
               and len(self._entries) > 1):
            self._drop_oldest()
        return True

    def _drop_oldest(self) -> None:
        gone = self._entries.popleft()
        self._first += 1
        self.bytes -= len(gone.batch)
        clocks.join(self.floor, {a: last for a, (_, last) in gone.ranges.items()})

    def _shared(self, batch: bytes) -> LargeOp:
        """This op as it is already held by somebody, else as it is given."""
        (actor, seq, _), = batch_ranges(batch)
        found = self._large.get((actor, seq))
        if found is None:
            found = self._large[actor, seq] = LargeOp(batch, actor, seq)
        return found

    def shrink(self) -> None:
        """Let go of a newest entry that alone is more than memory should hold; who still lacks it
        reads it from the segments. Called now and then, for those who take it at once should find
        it."""
        if self.bytes > self.most_bytes:
            self._drop_oldest()

    def reset(self, clock: Clock) -> None:
        """Forget memory: everything up to `clock`, the replica's own, is now read from the
        segments."""
        # one more, so that readers at the end are before it, too
        self._first = self.end + 1
        self._entries.clear()
        self.bytes = 0
        for actor, seq in clocks.lacking(self.head.seqs, clock).items():
            self.head.advance(actor, seq)
        self.floor = dict(self.head.seqs)

    # ---- reading ---------------------------------------------------------------------------------

    def cursor(self, clock: Clock, actors: set[int] | None = None) -> Cursor:
        """A reader that has `clock`. Raises NeedsFullSync."""
        found = Cursor(dict(clock), actors, at=-1)
        self.check(found)
        if self._is_old(found):
            return found
        found.at = found.settled = self._first
        return found

    def check(self, cursor: Cursor) -> None:
        """Raises NeedsFullSync where the log has lost something this reader lacks, of whatever
        actor: others' ops depend on it."""
        if self._is_old(cursor, every=True):
            lost = clocks.lacking(cursor.clock, self.segments.floor())
            if lost:
                raise NeedsFullSync(lost)

    def _is_old(self, cursor: Cursor, every: bool = False) -> bool:
        """Does it lack what memory no longer holds?"""
        return (cursor.at < self._first
                and bool(clocks.lacking(cursor.clock,
                                        self.floor if every else cursor.part(self.floor))))

    def is_old(self, cursor: Cursor) -> bool:
        """Must the next ops for this reader come from `older`?"""
        return cursor.reading or self._is_old(cursor)

    def pending(self, cursor: Cursor) -> bool:
        """Is there anything for this reader?"""
        return bool(clocks.lacking(cursor.clock, cursor.part(self.head.seqs)))

    def take(self, cursor: Cursor, limit: int) -> Chunk:
        """The next ops from memory, about `limit` bytes (at least one entry's, if any are wanted);
        NOTHING at the end."""
        cursor.at = max(cursor.at, self._first)
        parts, size, ops, clock, large = [], 0, 0, cursor.clock, None
        end = self.end
        while cursor.at < end:
            # a deque finds what is near its ends at once
            e = self._entries[cursor.at - self._first]
            wanted = {a: r for a, r in e.ranges.items() if r[1] > clock.get(a, 0)
                      and cursor.wants(a)}
            if wanted:
                if size and size + len(e.batch) > limit:
                    break
                whole = (len(wanted) == len(e.ranges)
                         and all(first > clock.get(a, 0) for a, (first, _) in wanted.items()))
                part = e.batch if whole else slice_batch(e.batch, cursor.mask(e.ranges))
                parts.append(part)
                size += len(part)
                large = large or e.large
                for a, (first, last) in wanted.items():
                    ops += last - max(first - 1, clock.get(a, 0))
                    clock[a] = last
            cursor.at += 1
        return (Chunk(parts[0] if len(parts) == 1 else b"".join(parts), ops, large) if parts
                else NOTHING)

    def older(self, cursor: Cursor, limit: int) -> Chunk:
        """The next ops from the segments, about `limit` bytes; NOTHING when there were none for
        this reader, or the end was reached: go on as `is_old` says. Blocks on the disk. A cursor is
        used by one caller at a time; one that raised is spoilt. Raises NeedsFullSync where what it
        wants was removed since it began."""
        with self._disk:
            if not cursor.reading:
                cursor.reading = True
                self._find_place(cursor)
            parts, size, ops, passed = [], 0, 0, 0
            while passed < READ_MOST:
                if not cursor.read:
                    try:
                        batch, cursor.position = self.segments.read(cursor.position)
                    except Removed:
                        self._find_place(cursor)
                        continue
                    cursor.read.extend(self._wanted(cursor, batch))
                    cursor.reading = bool(batch)
                    passed += len(batch)
                    if not batch:
                        break
                while cursor.read and (not size or size + len(cursor.read[0]) <= limit):
                    parts.append(cursor.read.popleft())
                    size += len(parts[-1])
                    for a, first, last in batch_ranges(parts[-1]):
                        ops += last - first + 1
                        cursor.clock[a] = last
                if size > PART:
                    large = self._shared(parts[0])
                    return Chunk(large.batch, ops, large)
                if cursor.read:
                    break
            return Chunk(b"".join(parts), ops) if parts else NOTHING

    def _find_place(self, cursor: Cursor) -> None:
        unwanted = ({} if cursor.actors is None
                    else dict.fromkeys(self.head.seqs.keys() - cursor.actors, ALL))
        found = self.segments.find({**unwanted, **cursor.clock})
        # Only now: what is removed from here on is noticed by the reading.
        lost = clocks.lacking(cursor.clock, cursor.part(self.segments.floor()))
        if lost:
            raise NeedsFullSync(lost)
        cursor.position = max(found, cursor.position) if cursor.position else found

    def _wanted(self, cursor: Cursor, batch: bytes) -> list[bytes]:
        """What this reader lacks and wants of a Batch, cut to entries."""
        found, clock = batch_ranges(batch), cursor.clock
        wanted = [r for r in found if r[2] > clock.get(r[0], 0) and cursor.wants(r[0])]
        if not wanted:
            return []
        if len(wanted) < len(found) or any(first <= clock.get(a, 0) for a, first, _ in wanted):
            batch = slice_batch(batch, cursor.mask({a for a, _, _ in found}))
        return split_batch(batch, self.most_entry)

    # ---- how far a reader is ---------------------------------------------------------------------

    def lag(self, cursor: Cursor, acked: Clock, now: float) -> tuple[int, float, int]:
        """(ops, seconds, bytes) between what this reader has acknowledged and the head; bytes only
        of what is in memory. The seconds are those since the oldest of the ops came; at least,
        where it is older than what is in memory.

        The one method for other threads too: it iterates over copies, which are made in one
        step."""
        ops = clocks.behind(acked, cursor.part(dict(self.head.seqs)))
        if not ops:
            return 0, 0.0, 0
        at = max(cursor.settled, self._first)
        oldest = None
        entries = self._entries.copy()
        for e in islice(entries, at - self._first, None):
            if any(last > acked.get(a, 0) and cursor.wants(a) for a, (_, last) in e.ranges.items()):
                oldest = e
                break
            at += 1
        cursor.settled = at
        if oldest is None:
            return ops, now - (entries[0].at if entries else self.born), 0
        return ops, now - oldest.at, self.total - oldest.offset

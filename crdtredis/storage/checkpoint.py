"""Checkpoints: the state as it was written down, so that a start need not replay the whole log.

A checkpoint is a file (format.py says what stands in it) that holds the state as a walk through the
keyspace found it (core/give.pxi), and the place in the log where that walk began. A start takes the
state in and replays the log from that place on.

Who does what:

    engine thread   walks, a piece of about 64 KiB per iteration, and hands each to the file thread.
                    When that has QUEUE bytes before it, the walk pauses until it has written them
    checkpoint      a thread of its own while one is made: writes, has the kernel begin to write
                    early, and does all that waits for the disk

Order on disk: the file, under a temporary name; the log, up to where the walk ended, for the state
holds ops up to there, and only the log can take back again what a part of them says; then the name;
then checkpoints before the last one go, and what of the log they alone needed (retention.py). A
crash anywhere leaves the former checkpoint or this one. The last one stays, and the log from its
position on: should this one turn out to be damaged, a start begins with that.

What goes wrong is told, by `status` and in the log of messages, and harms nothing: the file is
removed, and the log is as it was. That is so for a full disk, too: a checkpoint leaves KEEP_FREE
bytes of it alone, which are the log's; before it gives up, what the log keeps for peers goes. None
is begun, and none completed, when the log has failed since, or while the log holds ops that could
not be applied: they are in no state.
"""
from __future__ import annotations

import errno
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from crdtredis._core import Replica, StateReader, StateWriter, record, write_back
from crdtredis.errors import DamagedState
from crdtredis.storage.batch import FIXED64, fields
from crdtredis.storage.chain import ChainError
from crdtredis.storage.format import (FormatError, LogPosition, as_position, opened,
                                      read_batches, sync_directory)
from crdtredis.storage.retention import KEEP_FREE, Retention, room
from crdtredis.storage.segments import SegmentLog, write_all
from crdtredis.storage.stage import remove_superseded_stages

MAGIC = b"CRDTCHK1"
FORMAT = 1
NAME = re.compile(r"checkpoint-(\d{16})\.ckpt")
QUEUE = 8 << 20                         # bytes that wait to be written
EARLY = 4 << 20                         # bytes after which the kernel is asked to write them
HEADER_MOST = 1 << 20
SYNCS = 100                             # of the log, until it is on disk up to the walk's end
KEPT = 2                                # checkpoints
PATIENCE = 60.0                         # s after a failure
LEAST = 4                               # bytes of an element, at least
END = b"\x1a"                           # with what the message State begins that holds an End

log = logging.getLogger("crdtredis.storage")


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    number: int
    position: LogPosition               # where in the log its walk began
    begin: int                          # the first record of the state begins here
    size: int
    elements: tuple[int, ...]           # about how many it holds: Replica.elements


def checkpoint_path(folder: Path, number: int) -> Path:
    return folder / f"checkpoint-{number:016d}.ckpt"


def checkpoint_numbers(folder: Path) -> list[int]:
    return sorted(int(m[1]) for name in os.listdir(folder) if (m := NAME.fullmatch(name)))


def open_checkpoint(folder: Path, number: int, replica_id: str | None) -> Checkpoint:
    """FormatError where it is none of this replica."""
    path = checkpoint_path(folder, number)
    with opened(path) as fd:
        start = os.pread(fd, len(MAGIC) + 8, 0)
        size = 16 + int.from_bytes(start[8:12], "little")
        if start[:8] != MAGIC or size > HEADER_MOST:
            raise FormatError(0, f"does not begin with {MAGIC.decode()} and a header")
        payloads = list(read_batches(fd, 8, size))
        try:
            (payload, _, _), = payloads
            j = orjson.loads(payload)
            if j["format"] != FORMAT or j["number"] != number:
                raise FormatError(8, "the header is that of another version, or another file")
            if replica_id is not None and j["replica"] != replica_id:
                raise FormatError(8, f"belongs to replica {j['replica']!r}, not to {replica_id!r}")
            position = as_position(j["position"])
            elements = [int(n) for n in j.get("elements", ())]
        except (ValueError, KeyError, TypeError) as e:
            raise FormatError(8, f"the header is not what the format says: {e!r}") from None
        whole = os.fstat(fd).st_size            # what was there as the walk began may have gone
        left = whole // LEAST
        for i, n in enumerate(elements):
            elements[i] = max(0, min(n, left))
            left -= elements[i]
        return Checkpoint(path, number, position, size, whole, tuple(elements))


def read_records(c: Checkpoint) -> Iterator[tuple[bytes, int]]:
    """(payload, offset behind it), of the state and of the footer. FormatError where a record is
    not sound."""
    with opened(c.path) as fd:
        for payload, after, _ in read_batches(fd, c.begin, c.size, 1):
            yield payload, after


def verified(c: Checkpoint) -> tuple[LogPosition, int]:
    """What `verify` returns, at once. FormatError."""
    steps = verify(c)
    try:
        while True:
            next(steps)
    except StopIteration as e:
        return e.value


def verify(c: Checkpoint) -> Generator[int, None, tuple[LogPosition, int]]:
    """Read it whole, before any of it is believed: yields offsets, and returns where in the log its
    walk ended, and the greatest stamp then. FormatError where a record is not sound, or the last
    ones are not the state's end and the footer."""
    before = last = b""
    for payload, after in read_records(c):
        before, last = last, payload
        yield after
    try:
        end = as_position(orjson.loads(last)["end"])
    except (ValueError, KeyError, TypeError):
        end = None
    if before[:1] != END or end is None:
        raise FormatError(c.size, "the file ends before the state does")
    return end, end_stamp(before)


def end_stamp(message: bytes) -> int:
    """The greatest stamp that a state's End tells: every op in the state has that one or an
    earlier. FormatError."""
    for _, _, end, _, _ in fields(message):
        for number, wire, value, _, _ in fields(end) if isinstance(end, bytes) else ():
            if number == 3 and wire == FIXED64:
                return int.from_bytes(value, "little")
    return 0


def take_state(c: Checkpoint, replica: Replica) -> Iterator[tuple[int, StateReader]]:
    """Put it into a replica that holds nothing: yields offsets, and the reader. FormatError where
    it is not what the format says; the replica is to be thrown away then."""
    reader, at = StateReader(replica), c.begin
    reader.expect(c.elements)
    try:
        for message, after in read_records(c):
            if not reader.over:         # the footer says nothing of the state
                reader.take(message)
            at = after
            yield at, reader
    except DamagedState as e:
        raise FormatError(at, str(e)) from None
    if not reader.over:
        raise FormatError(at, "the file ends before the state does")


# ---- making them ---------------------------------------------------------------------------------

@dataclass(frozen=True)
class CheckpointStatus:
    in_progress: bool
    scheduled: bool                     # is another to follow it?
    made: int                           # since the start
    failed: int
    error: str | None                   # of the last one; None: it was made, or there was none
    last_time: int                      # Unix time of the last one that was made; 0: none
    last_seconds: float                 # that the last one took; -1: none
    seconds: float                      # since the one under way was begun; -1: none is
    size: int                           # bytes of the last one that was made
    written: int                        # bytes of the one under way


class Checkpoints:
    """Methods are for the engine thread. found: with which the start began. call_soon, add_work:
    the loop's."""

    def __init__(self, folder: Path, replica: Replica, segments: SegmentLog, retention: Retention,
                 found: Checkpoint | None,
                 call_soon: Callable[[Callable[[], None]], None],
                 add_work: Callable[[Callable[[], bool]], None]) -> None:
        self._folder, self._replica, self._log = folder, replica, segments
        self.retention = retention
        self._call_soon, self._add_work = call_soon, add_work
        self._job: Job | None = None
        self._waiters: list[Callable[[str | None], None]] = []
        self._scheduled: list[Callable[[str | None], None]] | None = None   # those of the next one
        # Those that a start may begin with, as far as is known: number and position, ascending.
        self._kept: list[tuple[int, LogPosition]] = []
        self._made = self._failed = self._size = self._last_time = 0
        self._last_seconds = -1.0
        self._error: str | None = None
        self.position: LogPosition = (1, 0)     # where in the log the newest one begins
        self._not_before = 0.0                  # after a failure: none by itself before then
        self._held = False
        for leftover in folder.glob("checkpoint-*.tmp"):
            leftover.unlink()
        if found is not None:
            self._kept.append((found.number, found.position))
            before = oldest_position(folder, found)
            if before < found.position:
                retention.expect(before[0])
            self.position, self._size = found.position, found.size
            self._last_time = int(found.path.stat().st_mtime)

    @property
    def in_progress(self) -> bool:
        return self._job is not None

    def begin(self, done: Callable[[str | None], None] | None = None) -> None:
        """Begin one; where one is under way, after that. done(why it failed, or None) is called in
        the end."""
        dones = [] if done is None else [done]
        if self._job is not None or self._held:
            self._scheduled = (self._scheduled or []) + dones
            return
        self._waiters += dones
        self._job = Job(self)
        self._add_work(self._job.walk)

    def hold(self) -> None:
        """Whatever is to begin from now on waits for let_go()."""
        self._held = True

    def let_go(self) -> None:
        self._held = False
        self._begin_scheduled()

    def status(self) -> CheckpointStatus:
        job = self._job
        return CheckpointStatus(job is not None, self._scheduled is not None, self._made,
                                self._failed, self._error, self._last_time, self._last_seconds,
                                time.monotonic() - job.begun if job else -1.0, self._size,
                                job.written if job else 0)

    def due(self, threshold: int) -> bool:
        """Is it time for one? After so many closed segments, or when what a start would replay is
        twice what it would take in, and worth the while."""
        status = self._log.status()
        closed = status.segment - self.position[0]
        return (not self.in_progress and status.failure is None
                and time.monotonic() >= self._not_before
                and (closed >= threshold
                     or closed > 1 and self._log.bytes_since(self.position) > 2 * self._size))

    def stop(self) -> None:
        """Give up the one under way, and those to come."""
        scheduled, self._scheduled = self._scheduled or [], None
        self._waiters += scheduled
        if self._job is not None:
            self._job.give_up("the server stops")

    def remove_superseded(self, job: Job) -> None:
        """In the thread of the job, whose checkpoint is on disk. OSError."""
        self._kept = [*self._kept, (job.number, job.position)][-KEPT:]
        kept = {number for number, _ in self._kept}
        for number in checkpoint_numbers(self._folder):
            if number not in kept:
                checkpoint_path(self._folder, number).unlink()
        sync_directory(self._folder)
        if len(kept) == KEPT:
            remove_superseded_stages(self._folder, self._log.writer.position()[0],
                                     self._log.first, self._kept[0][1][0])
            self.retention.remove(self._kept[0][1][0])

    def _ended(self, job: Job) -> None:
        self._job = None
        self._last_seconds = time.monotonic() - job.begun
        self._error = job.error
        if job.error is None:
            self._made += 1
            self._size, self._last_time = job.written, int(time.time())
            self.position = job.position
            log.info("checkpoint %d: %d bytes in %.1f s", job.number, job.written,
                     self._last_seconds)
        else:
            self._failed += 1
            self._not_before = time.monotonic() + PATIENCE
            log.warning("no checkpoint was made: %s", job.error)
        waiters, self._waiters = self._waiters, []
        for done in waiters:
            done(job.error)
        self._begin_scheduled()

    def _begin_scheduled(self) -> None:
        if self._scheduled is not None and not self._held:
            waiters, self._scheduled = self._scheduled, None
            self.begin()
            self._waiters += waiters


class Job:
    """One checkpoint in the making."""

    def __init__(self, owner: Checkpoints) -> None:
        self._owner = owner
        self._log, self._folder = owner._log, owner._folder
        self.begun = time.monotonic()
        self.error: str | None = None
        self.written = 0                        # bytes
        self.number = 0
        self.position: LogPosition = (0, 0)
        self._elements: list[int] = []
        self._end: LogPosition = (0, 0)         # of the log when the walk ended
        self._failures = 0                      # of the log when it began
        self._begun = self._walked = False
        self._state: StateWriter | None = None  # None: before the walk, and after it
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._waiting = 0                       # bytes in the queue; changed by both threads
        self._lock = threading.Lock()
        self._paused = False
        self._thread = threading.Thread(target=self._write, name="checkpoint", daemon=True)

    # ---- the engine's thread ---------------------------------------------------------------------

    def walk(self) -> bool:
        """A piece; between two iterations, so that all that is applied is in the log. False: not
        now, or it is over."""
        try:
            return self._walk()
        except Exception as e:                  # whatever it is: told, and the server goes on
            log.error("a checkpoint failed", exc_info=e)
            self.give_up(repr(e))
            return False

    def _walk(self) -> bool:
        if not self._begun and not self._start() or self._state is None or self.error is not None:
            return False
        with self._lock:
            self._paused = self._waiting >= QUEUE
        if self._paused:
            return False
        if self._walked:                        # and all that was applied by then is in the log
            self._end = self._log.writer.position()
            self._pieces.put(None)
            self._state = None
            return False
        piece = self._state.next()
        if piece:
            with self._lock:
                self._waiting += len(piece)
            self._pieces.put(piece)
        self._walked = not piece
        return True

    def _start(self) -> bool:
        self._begun = True
        status = self._log.status()
        if status.failure is not None or not self._log.writer.is_open:
            self.error = f"the log has failed: {status.failure}"
        elif self._log.holds_unapplied:
            self.error = "the repaired log holds operations that wait for others"
        if self.error is not None:
            self._owner._ended(self)
            return False
        self._failures = status.failures
        self.position = self._log.writer.position()
        self._elements = self._owner._replica.elements()
        self._state = StateWriter(self._owner._replica, home=True)
        self.number = max(checkpoint_numbers(self._folder), default=0) + 1
        self._thread.start()
        return True

    def _resume(self) -> None:
        if self._state is not None and self.error is None:
            self._owner._add_work(self.walk)

    def give_up(self, why: str) -> None:
        """Leaves nothing behind."""
        self.error = self.error or why
        self._begun, self._state = True, None
        if self._thread.ident is None:
            self._owner._ended(self)
            return
        self._pieces.put(None)
        self._thread.join()

    # ---- the thread of the file ------------------------------------------------------------------

    def _write(self) -> None:
        path = checkpoint_path(self._folder, self.number)
        draft = path.with_suffix(".ckpt.tmp")
        try:
            self._fill(draft)
            if self.error is None:
                self._publish(draft, path)
        except OSError as e:
            self.error = self.error or f"{draft.name}: {e.strerror}"
        except Exception as e:
            self.error = self.error or repr(e)
        if self.error is not None:
            try:
                draft.unlink(missing_ok=True)
            except OSError as e:
                log.error("%s cannot be removed: %s", draft, e.strerror)
        self._owner._call_soon(lambda: self._owner._ended(self))

    def _fill(self, draft: Path) -> None:
        header = orjson.dumps({"format": FORMAT, "replica": self._owner._replica.id,
                               "number": self.number,
                               "created_ms": time.time_ns() // 1_000_000,
                               "position": list(self.position), "elements": self._elements})
        with opened(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            self._put(fd, MAGIC + record(header))
            early = 0
            while (piece := self._pieces.get()) is not None:
                self._put(fd, piece)
                with self._lock:
                    self._waiting -= len(piece)
                    resume = self._paused and self._waiting < QUEUE // 2
                    self._paused = self._paused and not resume
                if resume:
                    self._owner._call_soon(self._resume)
                if self.written - early >= EARLY:
                    early = self.written
                    self._ease(fd)
            self._put(fd, record(orjson.dumps({"end": list(self._end)})))
            os.fdatasync(fd)

    def _put(self, fd: int, data: bytes) -> None:
        while room(fd) < KEEP_FREE + len(data):
            if not self._owner.retention.make_room():
                raise OSError(errno.ENOSPC, "the disk is nearly full")
        write_all(fd, data)
        self.written += len(data)

    def _ease(self, fd: int) -> None:
        try:
            write_back(fd, self.written)
        except OSError as e:
            if e.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise                           # else: not to be had of this file system

    def _publish(self, draft: Path, path: Path) -> None:
        """The state holds ops up to the walk's end, so the log must, on disk, before it counts."""
        for _ in range(SYNCS):
            self._log.sync(all_policies=True)
            failed = self._log.status().failures != self._failures
            if failed or self._log.durable_to(self._end):
                break                   # else: a segment was begun meanwhile, with what is wanted
        if failed or not self._log.durable_to(self._end):
            raise OSError(errno.EIO, "the log could not be forced to disk")
        os.rename(draft, path)
        sync_directory(self._folder)
        try:
            self._owner.remove_superseded(self)
        except (OSError, ChainError) as e:
            log.error("%s: what is superseded cannot be removed: %s", self._folder, e)


def oldest_position(folder: Path, found: Checkpoint) -> LogPosition:
    """Of this checkpoint and older ones, as far as their headers can be read."""
    position = found.position
    for number in checkpoint_numbers(folder):
        try:
            if number < found.number:
                position = min(position, open_checkpoint(folder, number, None).position)
        except (FormatError, OSError):
            pass
    return position

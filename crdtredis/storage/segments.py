"""The log while the server runs: one open segment file, its successors, and what becomes of errors.

Who does what:

    engine thread   appends each turn's record without the GIL (core/log.pxi); calls tick() when the writer asks for it and once a
                    second: begins a new segment when the old one is full, and tries again after a failure
    fdatasync       a thread of its own that once a second makes durable what is not (policy everysec), closes former segments
                    after the same, and reports a failure. It alone closes descriptors, so none is closed under it.

Policies (`appendfsync`): `always`, the engine syncs each turn before its replies leave, and a new segment before it is used. `everysec`, about
a second can be lost when the machine crashes, and nothing when only the process does. `no`, the kernel decides.

A new segment costs the loop an open, a write and a rename; with `everysec` all syncing that goes with it is the thread's.

**Failure.** core/log.pxi says why a failed file is never trusted again. tick() then writes a fresh segment: header, all that is
in doubt in former files (after a failed fdatasync), the records that could not be written. Only when that is durable does
it get its name and the log is open again; so a full disk heals by itself within a second of being given room. The header's
`follows` voids what was written again. If what is in doubt cannot even be read back, the log stays failed: memory has it, the
disk does not, and only a restart (and the peers) can settle it.
"""
from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from crdtredis._core import SegmentWriter
from crdtredis.storage.chain import header_of
from crdtredis.storage.format import (Actor, Clock, FormatError, Header, Place, encode_header, read_batches, segment_path,
                                      sync_directory)

POLICIES = {"no": 0, "everysec": 1, "always": 2}      # as enum LogPolicy in core/log.pxd
ALWAYS = POLICIES["always"]
NO = POLICIES["no"]
SYNC_INTERVAL = 1.0                                     # s

log = logging.getLogger("storage")


@dataclass
class Former:
    """A segment that has a successor and may not be durable yet."""
    fd: int
    number: int
    end: int
    durable: int


@dataclass(frozen=True)
class LogStatus:
    failure: str | None                 # why writes are refused; None: all is well
    segment: int                        # number of the open segment
    size: int                           # bytes in it
    unsynced: int                       # bytes not known to be on disk
    policy: str
    failures: int                       # since the start
    syncs: int                          # by the thread
    slowest_sync: float                 # s


class SegmentLog:
    """The log, open for writing at `place` (from recovery; None in a fresh directory). OSError when that is impossible.

    describe: () -> (actors, clock) of the replica, for headers: exactly what has been appended so far, which is true between turns.
    Methods are for the engine thread unless they say otherwise. The writer is the engine's part.
    """

    def __init__(self, folder: Path, replica_id: str, describe: Callable[[], tuple[Iterable[Actor], Clock]], *, place: Place | None = None,
                 policy: str = "everysec", max_segment_size: int = 64 << 20, wall_ms: Callable[[], int] | None = None,
                 writer: SegmentWriter | None = None) -> None:
        self.writer = writer or SegmentWriter()
        self._folder = folder
        self._replica_id = replica_id
        self._describe = describe
        self._policy = policy
        self._most = max_segment_size
        self._wall_ms = wall_ms or (lambda: time.time_ns() // 1_000_000)
        self._formers: list[Former] = []
        self._doubt: Place | None = None                # nothing behind this place may be on disk
        self._failure: str | None = None
        self._failures = self._syncs = 0
        self._slowest = 0.0
        self._formers_lock = threading.Lock()           # the list; held for moments
        self._sync_lock = threading.Lock()              # fdatasync and closing; held for as long as the disk takes
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        for leftover in folder.glob("segment-*.tmp"):
            leftover.unlink()
        if place is not None and place[1] < max_segment_size:
            number, size = place
            fd = os.open(segment_path(folder, number), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            os.fdatasync(fd)
        else:
            number = place[0] + 1 if place else 1
            fd, size = self._create(number, place, durable=True)
        self.writer.attach(fd, number, size, size, self._limit(size), POLICIES[policy])

    def start(self) -> None:
        """Start the fdatasync thread."""
        self._thread = threading.Thread(target=self._run, name="fdatasync", daemon=True)
        self._thread.start()

    # ---- the engine's calls -------------------------------------------------------------------------------------------

    def tick(self) -> str | None:
        """Do what is due. Returns why writes must be refused (for -MISCONF), None when the log is open."""
        if self.writer.is_failed:
            self._note()
            self._retry()
        elif self.writer.due:
            self._succeed()
        return self._failure

    def configure(self, *, policy: str | None = None, max_segment_size: int | None = None) -> None:
        """Change settings at run time. From `always` on, everything before is durable when this returns."""
        self._policy = policy or self._policy
        self._most = max_segment_size or self._most
        self.writer.configure(self._limit(0), POLICIES[self._policy])
        if self._policy == "always":
            self.sync()

    def close(self) -> str | None:
        """Sync and close everything, whatever the policy. Returns what went wrong."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.sync(all_policies=True)
        if self.writer.is_failed:
            self._note()
        former = self.writer.attach(-1, 0, 0, 0, 0, 0)
        for fd in [former, *(f.fd for f in self._formers)]:
            if fd >= 0:
                os.close(fd)
        self._formers.clear()
        return self._failure

    # ---- for any thread -----------------------------------------------------------------------------------------------

    def status(self) -> LogStatus:
        _, number, end, durable = self.writer.snapshot()
        with self._formers_lock:
            unsynced = end - durable + sum(f.end - f.durable for f in self._formers)
        return LogStatus(self._failure, number, end, unsynced, self._policy, self._failures, self._syncs, self._slowest)

    def sync(self, all_policies: bool = False) -> None:
        """Make durable what the policy asks for. A failure closes the log for writes; see status()."""
        with self._sync_lock:
            wanted = all_policies or self._policy != "no"
            while True:
                with self._formers_lock:
                    if not self._formers:
                        break
                    f = self._formers[0]
                if wanted and f.durable < f.end:
                    if not self._fdatasync(f.fd, (f.number, f.durable)):
                        return
                    f.durable = f.end
                with self._formers_lock:
                    self._formers.pop(0)
                os.close(f.fd)
            if wanted and self.writer.is_open:
                fd, number, end, durable = self.writer.snapshot()
                if durable < end and self._fdatasync(fd, (number, durable)):
                    self.writer.mark_durable(fd, end)

    # ---- inside -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(SYNC_INTERVAL):
            self.sync()

    def _fdatasync(self, fd: int, place: Place) -> bool:
        begun = time.monotonic()
        try:
            os.fdatasync(fd)
        except OSError as e:
            self._doubt = min(self._doubt or place, place)
            self.writer.fail(e.errno, True)
            return False
        self._syncs += 1
        self._slowest = max(self._slowest, time.monotonic() - begun)
        return True

    def _limit(self, size: int) -> int:
        """Where a segment of this size so far is full: a large header must not bring rotation with every turn."""
        return max(self._most, size + self._most // 2)

    def _note(self) -> None:
        """Put the writer's failure into words, once."""
        error, syncing = self.writer.note_failure()
        if self._failure is None:
            self._failures += 1
            number, _ = self.writer.place()
            what = "fdatasync of" if syncing else "writing to"
            self._failure = f"{what} {segment_path(self._folder, number).name} failed: {os.strerror(error)}"
            log.error("%s; writes are refused until a new segment can be written", self._failure)

    def _create(self, number: int, follows: Place | None, *, durable: bool, clock: Clock | None = None,
                copy: Callable[[int], None] | None = None) -> tuple[int, int]:
        """A new segment file under its final name: (descriptor, size). copy appends what it must hold before it gets the name."""
        actors, now = self._describe()
        header = Header(self._replica_id, number, self._wall_ms(), tuple(actors), dict(now if clock is None else clock), follows)
        path = segment_path(self._folder, number)
        draft = path.with_suffix(".log.tmp")
        fd = os.open(draft, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            write_all(fd, encode_header(header))
            if copy is not None:
                copy(fd)
            if durable:
                os.fdatasync(fd)
            os.rename(draft, path)
            if durable:
                sync_directory(self._folder)
            return fd, os.fstat(fd).st_size
        except BaseException:
            os.close(fd)
            for leftover in (draft, path):
                try:
                    os.unlink(leftover)
                except OSError:
                    pass                # the next attempt writes over it
            raise

    def _succeed(self) -> None:
        """The segment is full: go on in the next. If that one cannot be made, the old one goes on growing meanwhile."""
        fd, number, end, durable = self.writer.snapshot()
        policy = POLICIES[self._policy]
        try:
            new, size = self._create(number + 1, (number, end), durable=policy == ALWAYS)
        except OSError as e:
            log.warning("no new segment can be made (%s); segment %d goes on", e.strerror, number)
            self.writer.configure(end + self._most // 16, policy)
            return
        with self._formers_lock:
            self._formers.append(Former(fd, number, end, durable))
        self.writer.attach(new, number + 1, size, size if policy == ALWAYS else 0, self._limit(size), policy)

    def _retry(self) -> None:
        with self._sync_lock:
            fd, number, end, durable = self.writer.snapshot()
            _, syncing = self.writer.note_failure()
            doubt = self._doubt or ((number, durable) if syncing else None)
            follows = doubt or (number, end)

            def copy(to: int) -> None:
                if doubt is not None:
                    for f in [*(f for f in self._formers if f.number >= doubt[0]), Former(fd, number, end, durable)]:
                        self._copy_records(to, f, doubt)
                write_all(to, self.writer.waiting())

            try:
                header = header_of(segment_path(self._folder, follows[0]), follows[0], None)
                if follows[1] < header.size and header.follows is not None:
                    follows = header.follows            # even the header is in doubt: the log leaves that file out
                new, size = self._create(number + 1, follows, durable=True, clock=header.clock, copy=copy)
            except (OSError, FormatError) as e:
                log.debug("the log cannot be opened again yet: %s", e)
                return
            with self._formers_lock:
                # What is in doubt has been written again. A file of which only a write failed still has to be synced.
                void = [f for f in self._formers if doubt is not None and f.number >= doubt[0]]
                self._formers = [f for f in self._formers if f not in void]
                current = Former(fd, number, end, durable)
                (self._formers if doubt is None else void).append(current)
            self.writer.attach(new, number + 1, size, size, self._limit(size), POLICIES[self._policy])
            for f in void:
                os.close(f.fd)
            self._doubt = None
            log.warning("the log is open again in segment %d, after: %s", number + 1, self._failure)
            self._failure = None

    def _copy_records(self, to: int, f: Former, doubt: Place) -> None:
        """Write again what former file `f` holds behind the place in doubt, if it can be read back whole."""
        path = segment_path(self._folder, f.number)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            begin = doubt[1] if f.number == doubt[0] else 0
            begin = max(begin, header_of(path, f.number, None).size)
            for _, after, _ in read_batches(fd, begin, f.end):
                write_all(to, os.pread(fd, after - begin, begin))
                begin = after
        finally:
            os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        n = os.write(fd, view)
        if n == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        view = view[n:]

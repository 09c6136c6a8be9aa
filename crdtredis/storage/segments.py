"""The log while the server runs: one open segment file, its successors, and what becomes of errors.

Who does what:

    engine thread   appends each loop iteration's record without the GIL
                    (core/segment_writer.pxi); calls tick() when the writer asks for it and once a
                    second: begins a new segment when the old one is full, and tries again after a
                    failure
    fdatasync       a thread of its own that once a second makes durable what is not (policy
                    everysec), closes former segments after the same, and reports a failure. It
                    alone closes descriptors, so none is closed under it.

Policies (`appendfsync`): `always`, the engine syncs each iteration before its replies leave, and a
new segment before it is used. `everysec`, about a second can be lost when the machine crashes, and
nothing when only the process does. `no`, the kernel decides about the open segment; closed ones are
synced all the same, so that what a loss of power may take away is never more than the end.

write() waits while fdatasync has much to write, or the journal of the file system records where.
So with `everysec`, where much is logged, the thread has the kernel begin to write ten times a
second, which leaves little to fdatasync, and has room set aside ahead of the end, which is given
back when the segment is left.

A new segment costs the loop an open, a write and a rename; with `everysec` all syncing that goes
with it is the thread's, in the order of the log: never does a later segment become durable by it
before an earlier one, and when no former one is left, a mark in the open one says so. Until then
its header says from where on a loss of power may have left nothing (`unsynced`).

**Failure.** core/segment_writer.pxi says why a failed file is never trusted again. tick() then
writes a fresh segment: header, all that is in doubt in former files (after a failed fdatasync), the
records that could not be written. Only when that is durable does it get its name and the log is
open again; so a full disk heals by itself within a second of being given room. The header's
`follows` voids what was written again. If what is in doubt cannot even be read back, the log stays
failed: memory has it, the disk does not, and only a restart (and the peers) can settle it. While
anything is in doubt, nothing is synced but by that: asked a second time, the kernel would say that
all is well.

**Start.** A server that was killed on a full disk must come up again, with what it has, for
reading. So the log may begin its life failed: while `claim` (which makes this process's epoch
durable) cannot be done, nothing is written.

**Removal.** Somebody may take the open file's name away; the bytes live on as long as the
descriptor. tick() looks, and writes the file again.
"""
from __future__ import annotations

import dataclasses
import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from crdtredis._core import SegmentWriter, record, reserve, write_back
from crdtredis.clocks import Actor, Clock, join, lacking
from crdtredis.storage.chain import ChainError, header_of, read_chain
from crdtredis.storage.format import (FormatError, Header, Joined, LogPosition, encode_header,
                                      opened, read_at, read_batches, read_header,
                                      segment_numbers, segment_path, sync_directory)

POLICIES = {"no": 0, "everysec": 1, "always": 2}      # as enum LogPolicy in core/segment_writer.pxd
ALWAYS = POLICIES["always"]
SYNC_INTERVAL = 1.0                                     # s
LOOKS = 10                              # between two syncs: has much been written?
MUCH = 256 << 10                        # bytes between two looks
AHEAD = 16 << 20                        # bytes of room set aside at a time,
PLENTY = 64 * AHEAD                     # where so many are free
COPY = 4 << 20                                          # bytes at once
MARK = record(b"")                                      # see format.py

log = logging.getLogger("crdtredis.storage")


@dataclasses.dataclass
class ClosedSegment:
    """A segment that has a successor and may not be durable yet."""
    fd: int
    number: int
    end: int
    durable: int


class Pin:
    """Keeps the log from `position` on, until it is released; any number of times, by any
    thread. yields: or broken, where the disk is nearly full."""

    def __init__(self, position: LogPosition, yields: bool,
                 release: Callable[[Pin], None]) -> None:
        self.position, self.yields, self.broken = position, yields, False
        self.held = True                # neither released nor broken
        self._release = release

    def release(self) -> None:
        self._release(self)

    def move(self, position: LogPosition) -> None:
        """On to a later position. One that was released keeps nothing any more."""
        self.position = position


@dataclasses.dataclass(frozen=True)
class LogStatus:
    failure: str | None                 # why writes are refused; None: all is well
    missing: str | None                 # a closed segment that somebody removed
    segment: int                        # number of the open segment
    size: int                           # bytes in it
    unsynced: int                       # bytes not known to be on disk
    policy: str
    failures: int                       # since the start
    syncs: int                          # by the thread
    slowest_sync: float                 # s


class SegmentLog:
    """The log, open for writing at `position` (from recovery; None in a fresh directory). OSError
    when that is impossible.

    describe: () -> (actors, clock) of the replica, for headers: exactly what has been appended so
    far, which is true between iterations. unsynced, unapplied: as recovery found them. claim: what
    must be done before anything is written; OSError while it cannot be. may_shorten: may the next
    segment hold short records (format.py)? Behind one that does all do. Methods are for the engine
    thread unless they say otherwise. The writer is the engine's part. """

    def __init__(self, folder: Path, replica_id: str,
                 describe: Callable[[], tuple[Iterable[Actor], Clock]], *,
                 position: LogPosition | None = None, unsynced: LogPosition | None = None,
                 unapplied: Clock | None = None, claim: Callable[[], None] | None = None,
                 may_shorten: Callable[[], bool] = lambda: False,
                 policy: str = "everysec", max_segment_size: int = 64 << 20,
                 wall_ms: Callable[[], int] | None = None,
                 writer: SegmentWriter | None = None) -> None:
        self.writer = writer or SegmentWriter()
        self._folder = folder
        self._replica_id = replica_id
        self._describe = describe
        self._unapplied = unapplied or {}  # ops in a repaired log's segments that are not applied
        self._claim = claim
        self._may_shorten = may_shorten
        self._policy = policy
        self._most = max_segment_size
        self._wall_ms = wall_ms or (lambda: time.time_ns() // 1_000_000)
        self._closed: list[ClosedSegment] = []
        self._loose: LogPosition | None = None  # from here on what the last process closed may not
                                                # be on disk
        self._named = 0                 # names up to this number are on disk
        self._unmarked = False          # the open segment's header says `unsynced`, and no mark yet
                                        # that it is over
        self._doubt: LogPosition | None = None  # nothing behind this position may be on disk
        self._failure: str | None = None
        self._missing: str | None = None
        # ns; the directory's time when its names were last looked at
        self._listed = 0
        self._failures = self._syncs = 0
        self._slowest = 0.0
        self._closed_lock = threading.Lock()    # the list; held for moments
        # fdatasync and closing; held for as long as the disk takes
        self._sync_lock = threading.Lock()
        self._looked: LogPosition = (0, 0)      # where the log ended when the thread looked last
        self._reserved: LogPosition = (0, 0)    # up to where there is room; (number, 0): none, and
                                                # none is to be had
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        for leftover in folder.glob("segment-*.tmp"):
            leftover.unlink()
        if position is None:
            fd, size = self._create(1, None, durable=True)
            self.writer.attach(fd, 1, size, size, self._limit(size), POLICIES[policy])
        else:
            self._resume(position, unsynced)
        self._first = self._removed = segment_numbers(folder)[0]    # those before `_first` are
                                        # removed; where that failed, those before `_removed`
        self._pins: set[Pin] = set()
        self._pins_lock = threading.Lock()              # also for `_first`; held for moments
        if claim is not None:
            self._try_claim()
        elif position is not None and position[1] >= max_segment_size and self.writer.is_open:
            self._succeed()

    def start(self) -> None:
        """Start the fdatasync thread."""
        self._thread = threading.Thread(target=self._run, name="fdatasync", daemon=True)
        self._thread.start()

    # ---- the engine's calls ----------------------------------------------------------------------

    def tick(self) -> str | None:
        """Do what is due. Returns why writes must be refused (for -MISCONF), None when the log is
        open."""
        if self._is_gone():
            self._restore()
        if self.writer.is_failed:
            self._note()
            self._retry()
        elif self.writer.due:
            self._succeed()
        else:
            self._mark()
        return self._failure

    def configure(self, *, policy: str | None = None, max_segment_size: int | None = None) -> None:
        """Change settings at run time. From `always` on, everything before is durable when this
        returns."""
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
        if self.writer.is_open and self._mark():
            self.sync(all_policies=True)
        if self.writer.is_failed:
            self._note()
        end = self.writer.position()[1]
        former = self.writer.attach(-1, 0, 0, 0, 0, 0)
        if former >= 0 and self._failure is None:
            release(former, end)
        for fd in [former, *(f.fd for f in self._closed)]:
            if fd >= 0:
                shut(fd)
        self._closed.clear()
        return self._failure

    # ---- for any thread --------------------------------------------------------------------------

    def status(self) -> LogStatus:
        _, number, end, durable = self.writer.snapshot()
        with self._closed_lock:
            unsynced = end - durable + sum(f.end - f.durable for f in self._closed)
        return LogStatus(self._failure, self._missing, number, end, unsynced, self._policy,
                         self._failures, self._syncs, self._slowest)

    def sync(self, all_policies: bool = False) -> None:
        """Make durable what the policy asks for, in the order of the log; closed segments in any
        case. A failure closes the log for writes; see status()."""
        with self._sync_lock:
            if self._doubt is not None:
                return                  # asked again, the kernel would say that all is well
            if not (self._sync_names() and self._sync_loose()):
                return
            while True:
                with self._closed_lock:
                    if not self._closed:
                        break
                    f = self._closed[0]
                if f.durable < f.end:
                    if not self._fdatasync(f.fd, (f.number, f.durable)):
                        return
                    f.durable = f.end
                with self._closed_lock:
                    self._closed.pop(0)
                release(f.fd, f.end)
                shut(f.fd)
            if (all_policies or self._policy != "no") and self.writer.is_open:
                fd, number, end, durable = self.writer.snapshot()
                named = number <= self._named
                if named and durable < end and self._fdatasync(fd, (number, durable)):
                    self.writer.mark_durable(fd, end)

    def durable_to(self, position: LogPosition) -> bool:
        """Is the log on disk up to there?"""
        with self._sync_lock:
            _, number, end, durable = self.writer.snapshot()
            unsynced = self._unsynced(number, end, durable)
            return (self.writer.is_open and self._doubt is None and self._named >= position[0]
                    and (unsynced is None or unsynced >= position))

    @property
    def first(self) -> int:
        """Number of the oldest segment; those before are superseded and removed."""
        return self._first

    def pin(self, position: LogPosition, yields: bool = False) -> Pin:
        """Keep the log from there on, for somebody who is going to read it. LookupError where it
        was removed already."""
        with self._pins_lock:
            if position[0] < self._first:
                raise LookupError(f"segment {position[0]} was removed; the log begins with segment "
                                  f"{self._first}")
            found = Pin(position, yields, self._unpin)
            self._pins.add(found)
            return found

    @property
    def pins(self) -> int:
        return len(self._pins)

    def _unpin(self, pin: Pin) -> None:
        with self._pins_lock:
            pin.held = False
            self._pins.discard(pin)

    def break_pins(self) -> bool:
        """Those that yield keep nothing any more. False where there is none. From any thread."""
        with self._pins_lock:
            broken = {pin for pin in self._pins if pin.yields}
            for pin in broken:
                pin.broken, pin.held = True, False
            self._pins -= broken
        return bool(broken)

    def remove_first(self) -> bool:
        """Remove the oldest segment, durably; the caller knows that nobody needs it. False: a pin
        does, or there is no other. OSError where that fails: it is no part of the log any more, and
        the next call goes on with it, so that none goes before an older one. Waits for the disk.
        One thread at a time."""
        self._remove_files()
        with self._pins_lock:
            if (self._first >= self.writer.position()[0]
                    or any(pin.position[0] <= self._first for pin in self._pins)):
                return False
            self._first += 1
        self._remove_files()
        return True

    def _remove_files(self) -> None:
        while self._removed < self._first:
            segment_path(self._folder, self._removed).unlink(missing_ok=True)
            sync_directory(self._folder)
            self._removed += 1

    def bytes_since(self, position: LogPosition) -> int:
        """Bytes of the log behind this position; of closed segments as many as they may hold."""
        number, end = self.writer.position()
        between = number - position[0] - 1
        if between < 0:
            return end - position[1]
        return max(self._most - position[1], 0) + between * self._most + end

    @property
    def holds_unapplied(self) -> bool:
        """Do ops stand in a repaired log that are not applied?"""
        self._unapplied = lacking(self._describe()[1], self._unapplied)
        return bool(self._unapplied)

    # ---- syncing ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            for _ in range(LOOKS):
                if self._stop.wait(SYNC_INTERVAL / LOOKS):
                    return
                self.ease()
            self.sync()
            self._look_around()

    def ease(self) -> None:
        """Leave little to do to the next fdatasync, if much has been written since the last
        call."""
        with self._sync_lock:
            fd, number, end, durable = self.writer.snapshot()
            before, self._looked = self._looked, (number, end)
            grown = end - before[1] if before[0] == number else end
            if self._policy != "everysec" or self._doubt is not None or not self.writer.is_open:
                return
            if grown < MUCH:
                return
            try:
                write_back(fd, end)
            except OSError as e:
                if e.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                    self._in_doubt(self._unsynced(number, end, durable) or (number, durable), e)
                    return                              # else: not to be had of this file system
            self._reserve(fd, number, end)

    def _reserve(self, fd: int, number: int, end: int) -> None:
        if self._reserved[0] != number:
            self._reserved = number, end
        upto = self._reserved[1]
        if not upto or end + AHEAD // 2 < upto:
            return
        try:
            space = os.fstatvfs(fd)
            if space.f_bavail * space.f_frsize < PLENTY:
                return
            reserve(fd, max(upto, end), AHEAD)
            self._reserved = number, max(upto, end) + AHEAD
        except OSError as e:
            log.debug("no room is set aside in segment %d: %s", number, e.strerror)
            self._reserved = number, 0

    def _fdatasync(self, fd: int, position: LogPosition) -> bool:
        """Of what begins at `position`. Where it fails, that and all behind it is in doubt."""
        begun = time.monotonic()
        try:
            os.fdatasync(fd)
        except OSError as e:
            return self._in_doubt(position, e)
        self._syncs += 1
        self._slowest = max(self._slowest, time.monotonic() - begun)
        return True

    def _in_doubt(self, position: LogPosition, e: OSError) -> bool:
        self._doubt = min(self._doubt or position, position)
        self.writer.fail(e.errno, True)
        return False

    def _sync_names(self) -> bool:
        """The names of all segments so far: a file whose name is lost is lost, synced or not."""
        _, number, end, durable = self.writer.snapshot()
        if number > self._named:
            try:
                sync_directory(self._folder)
            except OSError as e:
                return self._in_doubt(self._unsynced(number, end, durable) or (number, end), e)
            self._named = number
        return True

    def _sync_loose(self) -> bool:
        """What the last process closed and perhaps did not come to sync."""
        while self._loose is not None:
            number = self._loose[0]
            try:
                fd = os.open(segment_path(self._folder, number), os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                pass                                    # _look_around tells
            except OSError as e:
                return self._in_doubt(self._loose, e)
            else:
                try:
                    if not self._fdatasync(fd, self._loose):
                        return False
                    release(fd, os.fstat(fd).st_size)
                finally:
                    shut(fd)
            with self._closed_lock:
                first = self._closed[0].number if self._closed else self.writer.position()[0]
            self._loose = (number + 1, 0) if number + 1 < first else None
        return True

    def _unsynced(self, number: int, end: int, durable: int) -> LogPosition | None:
        """Where what is not known to be on disk begins, if the open segment is this. None:
        nowhere."""
        if self._loose is not None:
            return self._loose
        with self._closed_lock:
            if self._closed:
                return self._closed[0].number, self._closed[0].durable
        return (number, durable) if durable < end else None

    def _mark(self) -> bool:
        """Say in the open segment that all former ones are on disk, once they are. True when it was
        said now."""
        if not self._unmarked or self._closed or self._loose is not None:
            return False
        self._unmarked = False
        return self.writer.add(MARK)

    def _look_around(self) -> None:
        """Are the closed segments still there? Nothing can be done about it here, but somebody
        should know before the next start."""
        try:
            now = os.stat(self._folder).st_mtime_ns
            if now == self._listed:
                return
            newest, numbers = self.writer.position()[0], set(segment_numbers(self._folder))
        except OSError as e:
            log.error("%s cannot be read: %s", self._folder, e.strerror)
            return
        self._listed = now
        gone = next((n for n in range(self._first, newest) if n not in numbers), None)
        was, self._missing = self._missing, None
        if gone is not None:
            name = segment_path(self._folder, gone).name
            self._missing = f"{name} was removed: the next start will be refused"
        if self._missing and not was:
            log.error("%s: %s", self._folder, self._missing)

    # ---- files -----------------------------------------------------------------------------------

    def _limit(self, size: int) -> int:
        """Where a segment of this size so far is full: a large header must not bring rotation with
        every iteration."""
        return max(self._most, size + self._most // 2)

    def _note(self) -> None:
        """Put the writer's failure into words, once."""
        error, syncing = self.writer.note_failure()
        if self._failure is None:
            self._failures += 1
            name = segment_path(self._folder, self.writer.position()[0]).name
            what = f"fdatasync of {name}" if syncing else f"writing to {name}"
            if self._claim is not None:
                what = "writing a new epoch to identity.json"
            self._failure = f"{what} failed: {os.strerror(error)}"
            log.error("%s; writes are refused until it, or a new segment, can be written",
                      self._failure)

    def _resume(self, position: LogPosition, unsynced: LogPosition | None) -> None:
        """Go on in the newest segment. Whatever the policy, all that was recovered is durable then,
        or in doubt."""
        number, size = position
        self._loose = unsynced
        fd = os.open(segment_path(self._folder, number), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self.writer.short = read_header(fd, brief=True).short
        self.writer.attach(fd, number, size, 0, self._limit(size), POLICIES[self._policy])
        self._unmarked = unsynced is not None
        self.sync(all_policies=True)

    def _try_claim(self) -> None:
        try:
            self._claim()
            self._claim = None
        except OSError as e:
            self.writer.fail(e.errno, False)

    def _draft(self, number: int, fill: Callable[[int], None], durable: bool) -> int:
        """A file that `fill` has written, under the name of segment `number`: its descriptor.
        Before it is whole it has another name."""
        path = segment_path(self._folder, number)
        draft = path.with_suffix(".log.tmp")
        fd = os.open(draft, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fill(fd)
            if durable:
                os.fdatasync(fd)
            os.rename(draft, path)
            if durable:
                sync_directory(self._folder)
                self._named = number
            return fd
        except BaseException:
            shut(fd)
            draft.unlink(missing_ok=True)
            raise

    def _create(self, number: int, follows: LogPosition | None, *, durable: bool,
                unsynced: LogPosition | None = None, clock: Clock | None = None,
                copy: Callable[[int], None] = lambda fd: None) -> tuple[int, int]:
        """A new segment: (descriptor, size). clock: at `follows`, where that is not now. copy
        appends what it must hold from the beginning."""
        actors, now = self._describe()
        self._unapplied = lacking(now, self._unapplied)
        return self._write_new(Header(self._replica_id, number, self._wall_ms(), tuple(actors),
                                      now if clock is None else clock, follows,
                                      ceiling={**now, **self._unapplied}, unsynced=unsynced),
                               durable, copy)

    def _write_new(self, header: Header, durable: bool,
                   copy: Callable[[int], None] = lambda fd: None) -> tuple[int, int]:
        header = dataclasses.replace(header, short=self.writer.short or self._may_shorten())

        def fill(fd: int) -> None:
            write_all(fd, encode_header(header))
            copy(fd)

        try:
            fd = self._draft(header.number, fill, durable)
        except BaseException:
            # It may have its name, but perhaps not on disk.
            segment_path(self._folder, header.number).unlink(missing_ok=True)
            raise
        self.writer.short = header.short        # of the next that it is attached to
        return fd, os.fstat(fd).st_size

    def _succeed(self) -> None:
        """The segment is full: go on in the next. If that one cannot be made, the old one goes on
        growing meanwhile."""
        fd, number, end, durable = self.writer.snapshot()
        policy = POLICIES[self._policy]
        unsynced = self._unsynced(number, end, durable)
        try:
            new, size = self._create(number + 1, (number, end), durable=policy == ALWAYS,
                                     unsynced=unsynced)
        except OSError as e:
            log.warning("no new segment can be made (%s); segment %d goes on", e.strerror, number)
            self.writer.configure(end + self._most // 16, policy)
            return
        with self._closed_lock:
            self._closed.append(ClosedSegment(fd, number, end, durable))
        self._unmarked = unsynced is not None
        self.writer.attach(new, number + 1, size, size if policy == ALWAYS else 0,
                           self._limit(size), policy, healed=False)

    def begin_joined(self, stage: int, actors: Iterable[Actor], clock: Clock) -> None:
        """Go on in a new segment, which says that this stage is joined to what stands before it;
        clock: what the stage brings. All of it is durable when this returns, so that nothing which
        may go wrong later goes back behind it. OSError: nothing has changed."""
        self.sync(all_policies=True)
        fd, number, end, durable = self.writer.snapshot()
        if not self.writer.is_open or self._unsynced(number, end, durable) is not None:
            raise OSError(errno.EIO, "the log could not be forced to disk")
        known, before = self._describe()
        after = dict(before)
        join(after, clock)
        unapplied = lacking(after, self._unapplied)
        new, size = self._write_new(
            Header(self._replica_id, number + 1, self._wall_ms(),
                   tuple(dict.fromkeys((*map(tuple, known), *map(tuple, actors)))), after,
                   (number, end), ceiling={**after, **unapplied},
                   joined=Joined(stage, before)), True)
        self._unapplied = unapplied
        with self._closed_lock:
            self._closed.append(ClosedSegment(fd, number, end, durable))
        self._unmarked = False
        self.writer.attach(new, number + 1, size, size, self._limit(size),
                           POLICIES[self._policy], healed=False)

    # ---- what went wrong -------------------------------------------------------------------------

    def _retry(self) -> None:
        """Open the log again in a new segment, with all that is in doubt or was not written."""
        if self._claim is not None:
            self._try_claim()
            if self._claim is not None:
                return
        with self._sync_lock:
            fd, number, end, durable = self.writer.snapshot()
            _, syncing = self.writer.note_failure()
            doubt = self._doubt or ((number, durable) if syncing else None)
            if doubt is None and self._policy == "always" and durable < end:
                # The file took some records of the iteration that failed at a later one. What is
                # acknowledged from now on must not stand behind records that are not on disk.
                try:
                    os.fdatasync(fd)
                    durable = end
                except OSError:
                    doubt = number, durable
            follows = doubt or (number, end)

            def copy(to: int) -> None:
                if doubt is not None:
                    self._copy_records(to, doubt, number, end)
                write_all(to, self.writer.waiting())

            try:
                header = header_of(segment_path(self._folder, follows[0]), follows[0], None)
                if follows[1] < header.size and header.follows is not None:
                    follows = header.follows    # even the header is in doubt: that file is left out
                # Of what the former segments hold behind that header the clock says nothing, and
                # what waited is not in them yet: two bounds.
                unsynced = self._unsynced(number, end, durable) if doubt is None else None
                new, size = self._create(number + 1, follows, durable=True, unsynced=unsynced,
                                         clock=header.clock, copy=copy)
            except (OSError, FormatError, ChainError) as e:
                log.debug("the log cannot be opened again yet: %s", e)
                return
            with self._closed_lock:
                # What is in doubt has been written again. A file of which only a write failed still
                # has to be synced.
                void = [f for f in self._closed if doubt is not None and f.number >= doubt[0]]
                self._closed = [f for f in self._closed if f not in void]
                current = ClosedSegment(fd, number, end, durable)
                (self._closed if doubt is None else void).append(current)
            if doubt is not None:
                self._loose = None
            self._unmarked = unsynced is not None
            self._doubt = None
            self.writer.attach(new, number + 1, size, size, self._limit(size),
                               POLICIES[self._policy])
            for f in void:
                release(f.fd, f.end)
                shut(f.fd)
            log.warning("the log is open again in segment %d, after: %s", number + 1, self._failure)
            self._failure = None

    def _copy_records(self, to: int, doubt: LogPosition, number: int, end: int) -> None:
        """Write again what the log holds from the position in doubt to the end of segment `number`,
        if it can be read back whole."""
        for link in read_chain(self._folder, number, None, first=self._first):
            if link.number < doubt[0]:
                continue
            with opened(link.path) as fd:
                at = max(link.begin, doubt[1] if link.number == doubt[0] else 0)
                last = end if link.number == number else link.end
                if last is None:
                    last = os.fstat(fd).st_size
                for _, after, _ in read_batches(fd, at, last):
                    write_all(to, read_at(fd, after - at, at))
                    at = after

    def _is_gone(self) -> bool:
        """Has somebody taken the open segment's name away?"""
        fd, number, _, _ = self.writer.snapshot()
        if fd < 0:
            return False
        try:
            found, own = os.stat(segment_path(self._folder, number)), os.fstat(fd)
            # another file has the name; what is no file is a descriptor that broke
            return stat.S_ISREG(own.st_mode) and not os.path.samestat(found, own)
        except FileNotFoundError:
            return True
        except OSError:
            return False                # a descriptor that broke: the next write says so

    def _restore(self) -> None:
        """Write the open segment, whose name is gone, again from what its descriptor still
        reaches."""
        with self._sync_lock:
            fd, number, end, _ = self.writer.snapshot()
            name = segment_path(self._folder, number).name

            def copy(to: int) -> None:
                at = 0
                while at < end:
                    data = read_at(fd, min(COPY, end - at), at)
                    if not data:
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    write_all(to, data)
                    at += len(data)

            try:
                new = self._draft(number, copy, durable=True)
            except OSError as e:
                if self.writer.is_open:
                    log.error("%s was removed under the running server and cannot be "
                              "written again: %s",
                              name, e.strerror)
                    self.writer.fail(e.errno, False)
                return
            self.writer.attach(new, number, end, end, self._limit(0), POLICIES[self._policy],
                               healed=False)
            shut(fd)
            log.error("%s was removed under the running server; it has been written again", name)


def release(fd: int, end: int) -> None:
    """Give back what was set aside behind the end."""
    try:
        os.ftruncate(fd, end)
    except OSError as e:
        log.debug("room behind the end of a segment stays: %s", e.strerror)


def shut(fd: int) -> None:
    """Close it. An error here tells nothing: what matters was synced before, and the descriptor is
    gone in any case."""
    try:
        os.close(fd)
    except OSError as e:
        log.warning("closing a segment: %s", e.strerror)


def copy_file(source: Path, to: Path) -> None:
    """A new file, durable but for its name."""
    with opened(source) as fd, opened(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as made:
        at = 0
        while piece := os.pread(fd, COPY, at):
            write_all(made, piece)
            at += len(piece)
        os.fsync(made)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        n = os.write(fd, view)
        if n == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        view = view[n:]

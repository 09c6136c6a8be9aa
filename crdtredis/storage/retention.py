"""How long does the log stay? What becomes of segments that checkpoints have made superfluous.

A start needs the log from the position of the checkpoint it begins with. Two checkpoints are kept,
so that one may turn out to be damaged. Segments that end before the older one's position are
*superseded*: no start reads them. They stay

    while somebody has pinned them (SegmentLog.pin): a backup, or a peer's full sync, which reads
    the log from there;
    while a known peer has not acknowledged all that they hold, but never more than
    `replication_log_size` bytes of them, however many peers are away and for however long.

A peer that has been away for more than that needs a full sync; the log of messages says so when its
segments go, and /health until it is there. When the disk is nearly full, what is kept for peers
goes first of all, before a checkpoint or a write fails for good (make_room), and then what a full
sync that is given reads, which ends: writes come before peers.

The log ends nowhere in the middle: segments go in ascending order, each durably before the next
one, by the thread that made the checkpoint, after that is on disk. So a crash leaves a log that
begins with one of them, and a start accepts that, for a checkpoint goes on behind it (recovery.py).

Of a segment nothing is lacking to a peer whose clock covers the ceiling of the next one's header.
"""
from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crdtredis.clocks import Clock, observed
from crdtredis.storage.chain import header_of
from crdtredis.storage.format import FormatError, segment_path
from crdtredis.storage.segments import SegmentLog

log = logging.getLogger("crdtredis.storage")


KEEP_FREE = 64 << 20                    # bytes of the disk that are left to the log


def room(where: int | Path) -> int:
    """Free bytes of the disk of this file. OSError."""
    space = os.statvfs(where)
    return space.f_bavail * space.f_frsize


@dataclass(frozen=True)
class RetentionStatus:
    first: int                          # number of the oldest segment
    kept: int                           # superseded segments that are kept, as last counted,
    kept_bytes: int                     # and their bytes
    removed: int                        # segments since the start
    pins: int
    error: str | None                   # why the last removal ended early


class Retention:
    """most: the setting replication_log_size, in bytes. logged: {name of each known peer: the clock
    of what it has in its log, as far as it has told}, empty where it has told nothing yet. Called
    in any thread. remove and make_room wait for the disk; expect is for when nobody calls them
    yet."""

    def __init__(self, folder: Path, segments: SegmentLog, most: int,
                 logged: Callable[[], Mapping[str, Clock]]) -> None:
        self.most = most
        self._folder, self._log, self._logged = folder, segments, logged
        self._before = 0                # the segments before this one are superseded
        self._kept = self._kept_bytes = self._removed = 0
        self._error: str | None = None
        self._floor: Clock = {}         # ops up to there may be gone, as far as was removed here
        self._given_up: set[str] = set()    # whom the log was no longer kept for
        self._lock = threading.Lock()   # one removes at a time
        self._relief: threading.Thread | None = None

    def status(self) -> RetentionStatus:
        return RetentionStatus(self._log.first, self._kept, self._kept_bytes, self._removed,
                               self._log.pins, self._error)

    def given_up(self) -> list[str]:
        """The peers that lack what was removed since the start, as far as they have told; and those
        that have told nothing since."""
        logged = self._logged()
        return sorted(name for name in self._given_up
                      if name in logged and not observed(logged[name], self._floor))

    def expect(self, before: int) -> None:
        """The segments before this one are superseded."""
        self._before = before
        self._count()

    def remove(self, before: int) -> None:
        """Remove the superseded segments, those before number `before`, that nobody needs."""
        self._before = before
        self._remove(self.most)

    def make_room(self) -> bool:
        """The disk is nearly full: keep nothing for peers, and where that is not enough, nothing
        for the full syncs that are given. True where that removed something."""
        removed = self._removed
        self._remove(0)
        if self._removed == removed and self._log.break_pins():
            log.warning("the disk is nearly full: the log is not kept any longer for those who "
                        "follow it or are given a full sync")
            self._remove(0)
        return self._removed > removed

    def relieve(self) -> None:
        """The log cannot be written: make room, if there is little, in a thread of its own. To be
        called now and then, from one thread."""
        if self._kept and not (self._relief and self._relief.is_alive()):
            try:
                nearly_full = room(self._folder) < KEEP_FREE
            except OSError:
                return
            if nearly_full:
                self._relief = threading.Thread(target=self.make_room, name="relief", daemon=True)
                self._relief.start()

    def _remove(self, most: int) -> None:
        with self._lock:
            self._remove_oldest(most)

    def _remove_oldest(self, most: int) -> None:
        try:
            sizes = self._count()
            self._error = None
            logged = self._logged()     # asked once: what they acknowledge meanwhile, next time
            lost: set[str] = set()
            for number, size in sizes.items():
                ceiling = self._ceiling(number + 1)
                lack = {name for name, clock in logged.items()
                        if ceiling is None or not observed(clock, ceiling)}
                if lack and self._kept_bytes <= most or not self._log.remove_first():
                    break
                lost |= lack
                self._floor = self._floor if ceiling is None else ceiling
                self._removed += 1
                self._kept -= 1
                self._kept_bytes -= size
            if lost:
                self._given_up = lost.union(self._given_up.intersection(logged))
                log.warning("the log begins with segment %d now: %s may lack operations that stood "
                            "before, for no more than %d bytes (replication_log_size) are kept, "
                            "and less on a full disk", self._log.first, ", ".join(sorted(lost)),
                            most)
        except OSError as e:
            self._error = f"superseded segments cannot be removed: {e}"
            log.error("%s", self._error)

    def _count(self) -> dict[int, int]:
        """{number: bytes} of the superseded segments."""
        sizes = {n: self._size(n) for n in range(self._log.first, self._before)}
        self._kept, self._kept_bytes = len(sizes), sum(sizes.values())
        return sizes

    def _size(self, number: int) -> int:
        try:
            return segment_path(self._folder, number).stat().st_size
        except FileNotFoundError:
            return 0

    def _ceiling(self, number: int) -> Clock | None:
        """No op beyond it stands before this segment. None: unknown."""
        try:
            return header_of(segment_path(self._folder, number), number, None).ceiling
        except FormatError:
            return None                 # a void one, which nothing else reads

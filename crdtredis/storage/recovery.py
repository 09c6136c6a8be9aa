"""Bringing the log back into memory at the start: what is cut, what is refused, what is never done.

Every record of the log is given to the replica in order, by the entrance that all foreign ops use. Three things can be wrong:

  torn tail   The newest segment ends in something that is no whole record, and no sound record stands behind it. That is what a crash
              in the middle of a write leaves. It is cut off and reported. With `always` nothing acknowledged was in it; with
              `everysec` and a crash of the machine at most about the last second. Peers that had received those writes give them back.
  damage      A bad record with a sound one behind it, a bad record in a closed segment, a closed segment that ends too early, a
              missing file, a header that is not this replica's: bits rotted, or somebody worked on the files. The start is refused with
              file, offset and reason, and nothing is changed. `crdt-redis check` explains, `check --repair` keeps what is sound.
  nonsense    The checksum is right, but the payload is no batch of this version, or needs ops that the log does not hold. Refused too.

Never does it leave out a record in the middle and go on, for the clock would then claim ops that are not there.

How a torn tail is told from damage in the newest segment: the rest of the file is searched for a sound record at any offset. A value that
contains the bytes of a segment could so make a torn tail look like damage; then the start is refused without need, and repair helps.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crdtredis._core import record_find
from crdtredis.errors import EXIT_DATA, DamagedBatch, StartError, StrangerError, WaitingRoomFull
from crdtredis.storage.chain import ChainError, Link, header_of, read_chain
from crdtredis.storage.format import CutShort, FormatError, Place, covered, read_batches, segment_numbers, segment_path, sync_directory


class RecoveryError(StartError):
    """The log cannot be brought back as it is. Nothing on disk has been changed."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path}: offset {offset}: {reason}. `crdt-redis check {path.parent}` tells more", EXIT_DATA)
        self.path = path
        self.offset = offset
        self.reason = reason


class Receiver(Protocol):
    """What recovery needs of a Replica."""
    recovering: bool

    def receive(self, batch: bytes) -> object: ...
    def declare(self, replica_id: str, epoch: int) -> object: ...
    def clock_ids(self) -> dict[int, int]: ...
    def waiting(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Cut:
    """A torn tail that was cut off."""
    path: Path
    offset: int                         # the file ends here now; 0: it had no complete header and was removed
    lost: int                           # bytes
    reason: str


@dataclass(frozen=True)
class Recovered:
    place: Place | None                 # where the log ends; None: there is none yet
    cuts: tuple[Cut, ...]
    segments: int
    records: int
    bytes: int
    seconds: float
    waiting: int                        # ops that need others which a repaired log lost and peers may still have
    left_out: int                       # records of a repaired log whose actors are declared nowhere, or that found no room to wait


def recover(folder: Path, replica_id: str, replica: Receiver, progress: Callable[[int, int], None] | None = None) -> Recovered:
    """recovery() in one go; progress(bytes done, bytes in all) is called about once per MiB."""
    steps = recovery(folder, replica_id, replica)
    while True:
        try:
            step = next(steps)
        except StopIteration as e:
            return e.value
        if progress is not None:
            progress(*step)


def recovery(folder: Path, replica_id: str, replica: Receiver) -> Generator[tuple[int, int], None, Recovered]:
    """Give the whole log to a fresh replica and cut a torn tail. The caller holds the lock of the directory.

    A generator, so that the caller can serve clients between two steps of about 1 MiB: it yields (bytes done, bytes in all) and returns what
    it found. RecoveryError when anything but a torn tail is wrong; the replica is then to be thrown away. Cost: linear in the log.
    """
    begun = time.monotonic()
    links, torn_headers = find_links(folder, replica_id)
    for path in torn_headers:
        os.unlink(path)
    if torn_headers:
        sync_directory(folder)
    cuts = [Cut(path, 0, 0, "was being created") for path in torn_headers]
    if not links:
        return Recovered(None, tuple(cuts), 0, 0, 0, time.monotonic() - begun, 0, 0)
    total = sum(link.path.stat().st_size if link.end is None else link.end for link in links)
    done = records = left_out = 0
    place: Place = (0, 0)
    repaired = any(link.header.repaired for link in links)
    replica.recovering = True
    try:
        for link in links if repaired else links[:1]:
            for _, name, epoch in link.header.actors:
                replica.declare(name, epoch)
        for link in links:
            if not repaired and not covered(link.header.clock, replica.clock_ids()):
                raise RecoveryError(link.path, 0, "this segment begins after ops that the segments before it do not hold")
            fd = os.open(link.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                at, end = link.header.size, os.fstat(fd).st_size if link.end is None else link.end
                try:
                    for batch, after, count in read_batches(fd, at, end, 1 if repaired else 1 << 20):
                        left_out += not give(replica, batch, link.path, at, repaired)
                        at = after
                        records += count
                        yield done + at, total
                except FormatError as e:
                    at = e.offset
                    if link is not links[-1]:
                        raise RecoveryError(link.path, e.offset, e.reason) from None
                    cuts.append(cut_tail(link.path, fd, e))
                done += at
                place = (link.number, at)
            finally:
                os.close(fd)
    finally:
        replica.recovering = False
    waiting = replica.waiting()["ops"]
    if waiting and not repaired:
        raise RecoveryError(links[-1].path, place[1], f"{waiting} ops need others that the log does not hold")
    return Recovered(place, tuple(cuts), len(links), records, done, time.monotonic() - begun, waiting, left_out)


def find_links(folder: Path, replica_id: str | None) -> tuple[list[Link], list[Path]]:
    """The log's links, and newest files that were only being created. RecoveryError where the chain is broken."""
    numbers = segment_numbers(folder)
    if numbers and numbers != list(range(numbers[0], numbers[-1] + 1)):
        missing = next(n for n in range(numbers[0], numbers[-1]) if n not in numbers)
        raise RecoveryError(segment_path(folder, missing), 0, "the file is missing, and later ones are there")
    torn = []
    while numbers:
        path = segment_path(folder, numbers[-1])
        try:
            header_of(path, numbers[-1], replica_id)
            break
        except CutShort as e:
            if holds_records(path):     # the length of the header record rotted
                raise RecoveryError(path, e.offset, f"{e.reason}, but sound records are there") from None
            torn.append(path)
            numbers.pop()
        except FormatError as e:
            raise RecoveryError(path, e.offset, e.reason) from None
    if not numbers:
        return [], torn
    try:
        return read_chain(folder, numbers[-1], replica_id), torn
    except ChainError as e:
        raise RecoveryError(e.path, e.offset, e.reason) from None


def holds_records(path: Path) -> bool:
    return record_find(path.read_bytes(), 0) >= 0


def give(replica: Receiver, batch: bytes, path: Path, at: int, repaired: bool) -> bool:
    """False when a record of a repaired log had to be left out: peers may have what it holds."""
    try:
        replica.receive(batch)
    except DamagedBatch as e:
        raise RecoveryError(path, at, f"a sound record here or in the MiB behind it cannot be applied: {e}") from None
    except StrangerError as e:
        if not repaired:
            raise RecoveryError(path, at, f"a sound record here or in the MiB behind it cannot be applied: {e}") from None
        return False
    except WaitingRoomFull as e:
        if not repaired:
            raise RecoveryError(path, at, f"ops need others that the log does not hold: {e}") from None
        return False
    return True


def cut_tail(path: Path, fd: int, e: FormatError) -> Cut:
    """Cut the newest segment at this offset, unless a sound record stands behind it."""
    size = os.fstat(fd).st_size
    rest = os.pread(fd, size - e.offset, e.offset)
    found = record_find(rest, 1)
    if found >= 0:
        raise RecoveryError(path, e.offset, f"{e.reason}, and a sound record follows at offset {e.offset + found}: no torn tail, but damage")
    os.ftruncate(fd, e.offset)
    os.fsync(fd)
    return Cut(path, e.offset, size - e.offset, e.reason)

"""Bringing the log back into memory at the start: what is cut, what is refused, what is never done.

Every record of the log is given to the replica in order, by the entrance that all foreign ops use.
Three things can be wrong:

  torn end    The log ends in something that is no whole record, and no sound record stands behind
              it in that file. That is what a crash in the middle of a write leaves. It is cut off
              and reported. With `always` nothing acknowledged was in it; with `everysec` and a
              crash of the machine at most about the last second. Peers that had received those
              writes give them back. Nearly always it is the end of the newest segment. When the
              power goes soon after a rotation, the segment before may have lost its end, its header
              or its name, and the newest be there: see below.
  damage      A bad record with a sound one behind it, a bad record in a segment that was on disk,
              one that ends too early, a missing file, a header that is not this replica's: bits
              rotted, or somebody worked on the files. The start is refused with file, offset and
              reason, and nothing is changed. `crdt-redis check` explains, `check --repair` keeps
              what is sound.
  nonsense    The checksum is right, but the payload is no batch of this version, or needs ops that
              the log does not hold. Refused too. Where one op of a batch cannot be applied it is
              named, and `check --repair` puts one without effect in its place.

Never does it leave out a record in the middle and go on, for the clock would then claim ops that
are not there.

How a torn end is told from damage in a segment that has successors: the header of the newest names
the position from which on the log was not known to be on disk (`unsynced`), and no segment behind
holds the mark that it came to be. The successors are then set aside (*.torn): nothing in them was
durable by any promise, for the fdatasync thread goes in the order of the log. Some of their ops
could be applied all the same, and those that build on what was lost would wait for it, perhaps for
ever; a log that simply ends is worth more.

How it is told in the segment itself: the rest of the file is searched for a sound record at any
offset. A value that contains the bytes of a segment could so make a torn end look like damage; then
the start is refused without need, and repair helps.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from crdtredis._core import StateReader, batch_ranges, batch_until, record_find
from crdtredis.clocks import Clock, lacking, observed
from crdtredis.errors import EXIT_DATA, DamagedBatch, StartError, UndeclaredActor, CausalBufferFull
from crdtredis.storage.batch import Op, ops_of
from crdtredis.storage.chain import ChainError, Link, header_of, read_chain
from crdtredis.storage.checkpoint import (Checkpoint, checkpoint_numbers, checkpoint_path,
                                          open_checkpoint, take_state, verify)
from crdtredis.storage.format import (CutShort, FormatError, LogPosition, holds_mark, opened,
                                      read_at, read_batches, read_header, read_records,
                                      segment_numbers, segment_path, sync_directory)
from crdtredis.storage.stage import join_steps, open_stage, stage_path
from crdtredis.storage.stage import verify as verify_stage


class RecoveryError(StartError):
    """The log cannot be brought back as it is. Nothing on disk has been changed."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path}: offset {offset}: {reason}. `crdt-redis check "
                         f"{path.parent}` tells more", EXIT_DATA)
        self.path = path
        self.offset = offset
        self.reason = reason


class Gap(RecoveryError):
    """Every byte is sound, and ops are missing."""


class Headless(RecoveryError):
    """The beginning of the log was removed, and no checkpoint stands in for it."""
    stamp = 0                           # as of TooEarly

    def __init__(self, path: Path, number: int, why: str = "") -> None:
        super().__init__(path, 0, f"the log begins with this segment, number {number}, and no "
                         "checkpoint that could be used holds what stood before"
                         + (f" ({why})" if why else ""))


class TooEarly(RecoveryError):
    """What must be taken in whole holds operations stamped after `until`; or has gone, since
    checkpoints hold it, and later ones: stamp 0."""

    def __init__(self, path: Path, stamp: int) -> None:
        super().__init__(path, 0, "it holds what came later")
        self.stamp = stamp


class Receiver(Protocol):
    """What recovery needs of a Replica."""
    recovering: bool
    newest_stamp: int

    def receive(self, batch: bytes) -> object: ...
    def declare(self, replica_id: str, epoch: int) -> object: ...
    def clock_ids(self, home: bool = False) -> dict[int, int]: ...
    def waiting(self) -> dict[str, int]: ...
    def actors(self) -> list[tuple[int, str, int, int]]: ...


@dataclass(frozen=True)
class Truncation:
    """A torn end that was cut off."""
    path: Path
    offset: int                         # the file ends here now; 0: it is not there any more
    lost: int                           # bytes
    reason: str
    kept: bool = False                  # removed from the log, but left as *.torn


Replace = Callable[[Path, int, Op | None], bytes]


@dataclass(frozen=True)
class Recovered:
    position: LogPosition | None        # where the log ends; None: there is none yet
    truncations: tuple[Truncation, ...]
    segments: int
    records: int
    bytes: int
    seconds: float
    unsynced: LogPosition | None = None  # from here on closed segments are not known to be on disk
    # Of a repaired log:
    # ops that need others which it lost and peers may still have
    waiting: int = 0
    # records whose actors are declared nowhere, or that found no room to wait
    left_out: int = 0
    # up to where ops stand in it that are not applied
    unapplied: Clock = field(default_factory=dict)
    begun_with: Checkpoint | None = None
    ignored: str = ""                   # why not with a newer checkpoint
    stages: frozenset[int | None] = frozenset()     # that segments of the log name
    repaired: bool = False              # something of it was, some time

    @property
    def checkpoint(self) -> Path | None:
        return self.begun_with.path if self.begun_with else None


def recover(folder: Path, replica_id: str, replica: Receiver,
            progress: Callable[[int, int], None] | None = None, **how: object) -> Recovered:
    """recovery() in one go; progress(bytes done, bytes in all) is called about once per MiB."""
    steps = recovery(folder, replica_id, replica, **how)
    while True:
        try:
            step = next(steps)
        except StopIteration as e:
            return e.value
        if progress is not None:
            progress(*step)


def recovery(folder: Path, replica_id: str, replica: Receiver, *, change: bool = True,
             replace: Replace | None = None, until: int | None = None
             ) -> Generator[tuple[int, int], None, Recovered]:
    """Give the whole log to a fresh replica and cut a torn end. The caller holds the lock of the
    directory.

    A generator, so that the caller can serve clients between two steps of about 1 MiB: it yields
    (bytes done, bytes in all) and returns what it found. RecoveryError when anything but a torn end
    is wrong; nothing on disk is changed then, and the replica is to be thrown away. Cost: linear in
    the log.

    change: False leaves a torn end where it is. replace(file, offset of the record, op): the Batch
    to go on with instead of an op that cannot be applied (None: of a record that is no Batch at
    all); without it, such an op is an error. until: ops stamped later are left out; Headless or
    TooEarly where the log does not go back so far.
    """
    begun = time.monotonic()
    links, truncations = find_links(folder, replica_id)
    total = sum(link.path.stat().st_size if link.end is None else link.end for link in links)
    checkpoint, ignored = None, ""
    # A repair looks at all that the log still holds.
    if replace is None or not is_whole(links):
        checkpoint, ignored = yield from usable_checkpoint(folder, replica_id, links, total,
                                                            until)
    if checkpoint is None and not is_whole(links):
        raise Headless(links[0].path, links[0].number, ignored)
    needed = [x for x in links if checkpoint is None or x.number >= checkpoint.position[0]]
    state: StateReader | None = None
    done = records = left_out = 0
    position: LogPosition | None = None
    unsynced: LogPosition | None = None
    repaired = any(link.repaired for link in needed)
    logged: dict[int, int] = {}         # up to where a repaired log has ops, applied or not
    torn = False
    replica.recovering = True
    try:
        declare(replica, needed if repaired else needed[:1])
        if checkpoint is not None:
            try:
                for at, state in take_state(checkpoint, replica):
                    yield at, checkpoint.size + total
            except FormatError as e:
                raise RecoveryError(checkpoint.path, e.offset, e.reason) from None
            done, total = checkpoint.size, checkpoint.size + total
        for i, link in enumerate(links):
            if checkpoint is not None and link.number < checkpoint.position[0]:
                done += link.end or 0
                continue
            header = link.header()
            unsynced = header.unsynced
            with opened(link.path, os.O_RDWR if change else os.O_RDONLY) as fd:
                at, end = link.begin, os.fstat(fd).st_size if link.end is None else link.end
                if (checkpoint is not None and link.number == checkpoint.position[0]
                        and not link.repaired):         # what was written anew is read whole
                    at = max(at, checkpoint.position[1])
                elif header.joined is not None and not goes_without(link):
                    for _ in joined(link, header.joined.stage, replica_id, replica, until):
                        yield done + at, total
                try:
                    most = 1 if repaired else 1 << 20
                    for batch, after, count, marks in read_records(fd, at, end, most):
                        where = Stretch(link.path, fd, at, after)
                        if until is not None:
                            batch = cut(batch, until, where)
                        left_out += not give(replica, batch, where, repaired, replace)
                        if repaired:
                            logged |= lacking(logged,
                                              {a: last for a, _, last in batch_ranges(batch)})
                        if marks:
                            unsynced = None
                        at = after
                        records += count
                        yield done + at, total
                except FormatError as e:
                    at, torn = e.offset, True
                    truncations += behind(folder, links[-1].number, link.number)
                    truncations.append(torn_end(link, links[i + 1:], fd, e))
                    if change:
                        remove(folder, truncations)
                        os.ftruncate(fd, at)
                        os.fsync(fd)
                done += at
                position = (link.number, at)
            if torn:
                links = links[:i + 1]
                break
    finally:
        replica.recovering = False
    # In the end, and not where a segment begins: ops of an actor have no gaps, so what a clock
    # names and the log lacks stays missing; and an earlier version began segments before it had
    # written the last ops that the header's clock names, which stand behind that header then.
    clock = replica.clock_ids(home=True)
    if state is not None and not observed(clock, state.clock()):
        # It was on disk when the checkpoint got its name: no torn end, whatever the segment says.
        raise RecoveryError(checkpoint.path, checkpoint.size,
                            "the log ends before operations that this checkpoint holds; without "
                            "it, a start brings back what the log and older checkpoints hold")
    for link in links if not repaired and until is None else []:
        if not observed(clock, link.header().clock):
            raise RecoveryError(link.path, 0, "this segment begins after ops that the segments "
                                              "before it do not hold")
    waiting = replica.pending()["ops"]
    if waiting and not repaired:
        raise Gap(links[-1].path, position[1],
                  f"{waiting} ops need others that the log does not hold")
    if truncations and change and not torn:
        remove(folder, truncations)
    return Recovered(position, tuple(truncations), len(links), records, done,
                     time.monotonic() - begun,
                     unsynced,
                     waiting, left_out, lacking(clock, logged),
                     checkpoint, ignored, frozenset(link.stage for link in links),
                     any(link.repaired for link in links))


def is_whole(links: list[Link]) -> bool:
    """Does the log need no checkpoint?"""
    return not links or links[0].follows is None


def goes_without(link: Link) -> bool:
    """Has a repair accepted that the stage of this segment is gone? What it brought, and what
    builds on that, only peers can give."""
    return link.repaired and not stage_path(link.folder, link.stage).exists()


def joined(link: Link, number: int, replica_id: str, replica: Receiver,
           until: int | None) -> Iterator[int]:
    """Join the stage that this segment names; yields offsets. RecoveryError where it is not whole:
    what the records behind it build on is missing then."""
    path = stage_path(link.folder, number)
    try:
        stage = open_stage(path, number, replica_id)
        contents = yield from verify_stage(stage, replica)
        yield from join_steps(stage, contents, replica)
    except FileNotFoundError:
        if until is not None:
            raise TooEarly(path, 0) from None
        raise RecoveryError(path, 0, f"the file is missing, and segment {link.number} builds on "
                                     "it") from None
    except FormatError as e:
        raise RecoveryError(path, e.offset, e.reason) from None
    if until is not None and replica.newest_stamp > until:
        raise TooEarly(path, replica.newest_stamp)


def holds(links: list[Link], position: LogPosition) -> bool:
    """Does the log reach this position, as far as the sizes of its files tell?"""
    link = next((link for link in links if link.number == position[0]), None)
    if link is None:
        return False
    if link.repaired:
        return True                     # its records have moved: what they hold, the end tells
    return link.begin <= position[1] <= (link.path.stat().st_size if link.end is None else link.end)


def cut(batch: bytes, until: int, where: Stretch) -> bytes:
    try:
        return batch_until(batch, until)
    except DamagedBatch as e:
        raise RecoveryError(where.path, where.begin, f"what the records hold: {e}") from None


def usable_checkpoint(folder: Path, replica_id: str, links: list[Link], total: int,
                      until: int | None
                      ) -> Generator[tuple[int, int], None, tuple[Checkpoint | None, str]]:
    """The newest checkpoint that a start may begin with, and what is wrong with newer ones. It is
    read once before anything of it is believed, for a replica that has taken in a part cannot begin
    anew. The log goes back to the one before the newest at least, so what is wrong with one costs
    time and nothing else.

    Where the log is whole and a repair has left ops out that the checkpoint may hold in part, the
    log alone counts."""
    wrong = []
    for number in reversed(checkpoint_numbers(folder)):
        name = checkpoint_path(folder, number).name
        try:
            found = open_checkpoint(folder, number, replica_id)
            if is_whole(links) and any(x.repaired for x in links if x.number >= found.position[0]):
                wrong.append("the log was repaired")
                break
            steps = verify(found)
            while True:
                next(steps)
                yield 0, found.size + total
        except (FormatError, OSError) as e:
            wrong.append(f"{name}: {e}")
        except StopIteration as e:
            end, stamp = e.value
            beyond = next((p for p in (found.position, end) if not holds(links, p)), None)
            if until is not None and stamp > until:
                wrong.append(f"{name}: holds what came later")
                continue
            if beyond is None:
                return found, "; ".join(wrong)
            wrong.append(f"{name}: the log does not reach offset {beyond[1]} of segment "
                         f"{beyond[0]}")
    return None, "; ".join(wrong)


def declare(replica: Receiver, links: list[Link]) -> None:
    """Make known the actors that these headers name."""
    seen = set()
    for link in links:
        for actor in link.header().actors:
            if actor not in seen:
                seen.add(actor)
                replica.declare(actor[1], actor[2])


# ---- the torn end --------------------------------------------------------------------------------


def find_links(folder: Path, replica_id: str | None) -> tuple[list[Link], list[Truncation]]:
    """The log's links, and the newest files where they are behind its torn end. RecoveryError where
    the chain is broken."""
    numbers = segment_numbers(folder)
    first, begins = oldest_needed(folder, replica_id, numbers), numbers[0] if numbers else 1
    truncations: list[Truncation] = []
    while numbers:
        newest, path = numbers[-1], segment_path(folder, numbers[-1])
        try:
            header_of(path, newest, replica_id)
        except CutShort as e:
            if holds_records(path):     # the length of the header record rotted
                raise RecoveryError(path, e.offset,
                                    f"{e.reason}, but sound records are there") from None
            truncations.append(Truncation(path, 0, path.stat().st_size, "was being created"))
            numbers.pop()
            continue
        except FormatError as e:
            raise RecoveryError(path, e.offset, e.reason) from None
        try:
            return whole_chain(folder, numbers, replica_id, first), truncations
        except ChainError as e:
            if e.number < begins and checkpoint_numbers(folder):
                raise Headless(segment_path(folder, begins), begins) from None
            later = [n for n in numbers if n > e.number]
            empty = not e.path.exists() or not holds_records(e.path)
            if not (e.torn and empty and may_be_torn(folder, later, (e.number, 0))):
                raise RecoveryError(e.path, e.offset, e.reason) from None
            truncations += behind(folder, newest, e.number)
            numbers = numbers[:-len(later)]
    if number := max(checkpoint_numbers(folder), default=0):
        raise RecoveryError(checkpoint_path(folder, number), 0,
                            "no segment of the log is there that goes on behind this checkpoint")
    return [], truncations


def oldest_needed(folder: Path, replica_id: str | None, numbers: list[int]) -> int:
    """From which number on no segment may be missing: from the oldest that is there, where a
    checkpoint goes on behind it; else from the first."""
    for number in checkpoint_numbers(folder) if numbers and numbers[0] > 1 else []:
        try:
            if open_checkpoint(folder, number, replica_id).position[0] >= numbers[0]:
                return numbers[0]
        except (FormatError, OSError):
            pass                        # usable_checkpoint says what is wrong with it
    return 1


def whole_chain(folder: Path, numbers: list[int], replica_id: str | None,
                first: int = 1) -> list[Link]:
    """read_chain of a directory that has these segments. A gap in them breaks it, too, even where
    only void ones are missing."""
    links = read_chain(folder, numbers[-1], replica_id, first=first)
    for expected, number in enumerate(numbers, numbers[0]):
        if number != expected:
            raise ChainError(segment_path(folder, expected), expected, 0,
                             "the file is missing, and later ones are there", True)
    return links


def may_be_torn(folder: Path, later: list[int], position: LogPosition) -> bool:
    """Whether a loss of power may have ended the log at `position`, in front of these segments:
    when the newest was begun, what stands there was not known to be on disk, and no mark behind
    says that it came to be."""
    unsynced = header_of(segment_path(folder, later[-1]), later[-1], None).unsynced
    if unsynced is None or unsynced > position:
        return False
    for number in later:
        try:
            with opened(segment_path(folder, number)) as fd:
                if holds_mark(fd, read_header(fd).size):
                    return False
        except FormatError:
            pass                        # its header is lost, too, and with it the marks behind
    return True


def torn_end(link: Link, later: list[Link], fd: int, e: FormatError) -> Truncation:
    """That the log ends here as a crash ends it. RecoveryError where it is damage."""
    if later and not may_be_torn(link.folder, [x.number for x in later], (link.number, e.offset)):
        raise RecoveryError(link.path, e.offset, e.reason) from None
    size = os.fstat(fd).st_size
    found = record_find(read_at(fd, size - e.offset, e.offset), 1)
    if found >= 0:
        why = (f"{e.reason}, and a sound record follows at offset {e.offset + found}: no torn end, "
               "but damage")
        raise RecoveryError(link.path, e.offset, why) from None
    return Truncation(link.path, e.offset, size - e.offset, e.reason)


def behind(folder: Path, newest: int, number: int) -> list[Truncation]:
    """The segments behind a torn end in segment `number`, newest first."""
    reason = f"stood behind the torn end of segment {number}"
    return [Truncation(path, 0, path.stat().st_size, reason, kept=True)
            for n in range(newest, number, -1) if (path := segment_path(folder, n)).exists()]


def remove(folder: Path, truncations: list[Truncation]) -> None:
    """Take these segments out of the log; they come newest first, so that a crash in between leaves
    what is judged as before."""
    for truncation in truncations:
        if truncation.offset == 0 and truncation.kept:
            truncation.path.rename(free_name(truncation.path, "torn"))
        elif truncation.offset == 0:
            truncation.path.unlink()
    sync_directory(folder)


def free_name(path: Path, ending: str) -> Path:
    """segment-1.log.torn, or segment-1.log.2.torn where that is taken, ..."""
    taken, found = 1, path.with_suffix(f".log.{ending}")
    while found.exists():
        taken += 1
        found = path.with_suffix(f".log.{taken}.{ending}")
    return found


def holds_records(path: Path) -> bool:
    return record_find(path.read_bytes(), 0) >= 0


# ---- ops that cannot be applied ------------------------------------------------------------------


@dataclass(frozen=True)
class Stretch:
    """Whole records of a segment file."""
    path: Path
    fd: int
    begin: int
    end: int


def give(replica: Receiver, batch: bytes, where: Stretch, repaired: bool,
         replace: Replace | None) -> bool:
    """False when a record of a repaired log had to be left out: peers may have what it holds."""
    try:
        try:
            replica.receive(batch)
        except DamagedBatch:
            for offset, op in unsound(replica, where):
                if replace is None:
                    what = described(replica, op)
                    raise RecoveryError(where.path, offset, f"{what} cannot be applied") from None
                replica.receive(replace(where.path, offset, op))
    except (UndeclaredActor, CausalBufferFull) as e:
        if not repaired:
            raise Gap(where.path, where.begin,
                                               "a sound record here or in the MiB behind it cannot "
                                               "be "
                                               f"applied: {e}") from None
        return False
    return True


def unsound(replica: Receiver, where: Stretch) -> Iterator[tuple[int, Op | None]]:
    """Gives the records one by one, and those that are refused op by op: (offset of the record,
    each op that is refused). None instead of an op: the record is no Batch. What was given before
    is given again, which changes nothing."""
    at = where.begin
    for batch, after, _ in read_batches(where.fd, where.begin, where.end, 1):
        try:
            replica.receive(batch)
        except DamagedBatch:
            try:
                ops = list(ops_of(batch))
            except FormatError:
                yield at, None
                ops = []
            for op in ops:
                try:
                    replica.receive(op.alone)
                except DamagedBatch:
                    yield at, op
        at = after


def described(replica: Receiver, op: Op | None) -> str:
    if op is None:
        return "the sound record here is no batch of this version and"
    names = {actor: f"{name}/{epoch}" for actor, name, epoch, _ in replica.actors()}
    actor = names.get(op.actor, f"{op.actor:016x}")
    return f"op {op.seq} of actor {actor}, in the sound record here,"

"""crdt-redis check [--repair [--to NEW]] DIR: is it sound, and if not, what can be kept?

Check reads everything and changes nothing. It explains each segment in a line, names damage by file
and offset, and says what the next start will do. The last step brings the log back into a replica
in memory, as a start would.

Repair keeps what is sound. For each segment with damage a new file is written that holds the header
(rebuilt where it cannot be read) and all records with a right checksum, wherever they stand; then
the damaged file is renamed to *.damaged and the new one takes its name. A missing segment is
replaced by an empty one. Sound files are not touched. The new file's header says "repaired":
recovery then accepts that ops are missing. Ops that depend on missing ones are not applied until a
peer has sent those, so after a repair start the replica with its peers, and look at /health: what
no peer has is lost, and so is what builds on it.

A log whose beginning was removed needs a checkpoint. Repair sets aside those that no start could
begin with. Where none is left, the rest of the log becomes a log of its own: its ops wait for what
stood before, which only peers can give.

So with a stage (storage/stage.py) that is damaged or missing, where no checkpoint lies behind it:
repair sets it aside, and what was written after it waits for what it brought.

An op that is sound as bytes but that this version cannot apply (a fault in the version that made
it) stops the start, too, and no peer would take it. Repair names it and puts an op without effect
in its place; the original record stays in the *.damaged file.

With --to the directory is copied, file by file, and the copy is repaired: the original stays as it
is.

Running it twice does no more than running it once. It refuses to work on a directory that a server
uses.
"""
from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from crdtredis._core import Replica, record, record_find
from crdtredis.clocks import Actor
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.storage.batch import Op, ops_of, run
from crdtredis.storage.chain import ChainError, header_of, read_chain
from crdtredis.storage.checkpoint import (checkpoint_numbers, checkpoint_path, open_checkpoint,
                                          take_state, verify)
from crdtredis.storage.format import (CutShort, Foreign, FormatError, Header, encode_header,
                                      opened, read_at, read_batches, segment_numbers,
                                      segment_path, sync_directory)
from crdtredis.storage.identity import read_identity
from crdtredis.storage.lock import LOCK, DirectoryLock
from crdtredis.storage.recovery import (Gap, Headless, described, free_name, holds_records,
                                        oldest_needed, recover)
from crdtredis.storage.segments import copy_file, write_all
from crdtredis.storage.stage import stage_path

GAP_MOST = 10_000                       # numbers of segments that are missing side by side


@dataclass
class Finding:
    """What was found in one segment file."""
    number: int
    path: Path
    header: Header | None = None
    records: int = 0
    size: int = 0
    used: int = 0                       # where the log ends in it
    faults: list[tuple[int, str]] = field(default_factory=list)    # (offset, what)
    torn: int | None = None             # offset of the torn end of the log: no damage
    behind: bool = False                # stands behind the torn end
    void: bool = False                  # no part of the log
    missing: bool = False
    foreign: bool = False

    def line(self) -> str:
        if self.missing:
            return f"{self.path.name}: missing"
        what = [f"{self.records} records", f"{self.size} bytes"]
        if self.void:
            what.append("void: written again in a later segment")
        if self.header and self.header.repaired:
            what.append("repaired")
        if self.torn is not None:
            what.append(f"torn tail of {self.size - self.torn} bytes at offset {self.torn}: the "
                        "next start cuts it off")
        if self.behind:
            what.append("behind the torn end: the next start sets it aside")
        what += [f"DAMAGED at offset {offset}: {reason}" for offset, reason in self.faults]
        return f"{self.path.name}: " + ", ".join(what)


def main(folder: str, repair: bool, to: str | None = None) -> int:
    """Print what is found to standard output. 0 when the directory is sound (now); EXIT_DATA
    otherwise. StartError when it is in use. to: a new directory, whose copy of it is repaired."""
    where = Path(folder)
    if to is not None:
        with DirectoryLock(where):
            copy(where, Path(to))
        where = Path(to)
    with DirectoryLock(where):
        identity = read_identity(where)
        if identity is None:
            print(f"{where}: no identity.json: no data directory of a replica")
            return EXIT_DATA
        print(f"replica {identity.replica_id}, last epoch {identity.epoch}")
        findings = examine(where, identity.replica_id)
        if any(f.faults or f.missing for f in findings):
            forgive(findings, where, identity.replica_id, identity.epoch)
        for f in findings:
            print(f.line())
        damaged = [f for f in findings if f.faults or f.missing]
        if damaged and not repair:
            print(f"{len(damaged)} of {len(findings)} segments are damaged: a start would be "
                  "refused. "
                  "Restore them from a backup, or keep what is sound with --repair")
            return EXIT_DATA
        if any(f.foreign for f in damaged):
            print("a segment of another replica is no damage that can be repaired; move it away "
                  "yourself")
            return EXIT_DATA
        actors = {a for f in findings if f.header for a in f.header.actors}
        actors.add((Replica(identity.replica_id, identity.epoch).actor, identity.replica_id,
                    identity.epoch))
        for f in damaged:
            kept, lost = mend(f, findings, identity.replica_id, sorted(actors))
            print(f"{f.path.name}: kept {kept} records, left out {lost} bytes")
        check_checkpoints(where, identity.replica_id, identity.epoch, repair)
        while True:
            if repair:
                begin_anew(where, identity.replica_id, sorted(actors))
            while repair and mend_ops(where, identity.replica_id, identity.epoch, sorted(actors)):
                pass                    # what stood behind the first gap was not looked at yet
            error = rehearse(where, identity.replica_id, identity.epoch)
            if repair and go_without_stage(where, identity.replica_id, error, sorted(actors)):
                continue
            useless = useless_checkpoint(where, error)
            if not repair or useless is None:
                break
            set_aside(useless)          # and once more, with an older one or the log alone
        if error and not repair:
            print("a start would be refused. --repair keeps what can be applied")
        return EXIT_DATA if error else 0


def copy(folder: Path, to: Path) -> None:
    """All files there. StartError where there is something; OSError; and nothing is left then."""
    try:
        to.mkdir(mode=0o700)
    except FileExistsError:
        raise StartError(f"{to}: is there already; the copy needs a new directory",
                         EXIT_CONFIG) from None
    try:
        for x in os.scandir(folder):
            if x.is_file(follow_symlinks=False) and x.name != LOCK:
                copy_file(Path(x.path), to / x.name)
        sync_directory(to)
        sync_directory(to.absolute().parent)
    except BaseException:
        shutil.rmtree(to)
        raise


def useless_checkpoint(folder: Path, error: StartError | None) -> Path | None:
    """One with which this start cannot be made, although it is sound."""
    if isinstance(error, Headless):
        return next((checkpoint_path(folder, n) for n in checkpoint_numbers(folder)), None)
    path = getattr(error, "path", None)
    return path if path is not None and path.suffix == ".ckpt" else None


def go_without_stage(folder: Path, replica_id: str, error: StartError | None,
                     actors: list[Actor]) -> bool:
    """Where this start fails for a stage: set it aside, if it is there, and have the log go on
    without it. True when something was done."""
    path = getattr(error, "path", None)
    if path is None or path.suffix != ".state":
        return False
    links = read_chain(folder, segment_numbers(folder)[-1], replica_id,
                       first=segment_numbers(folder)[0])
    link = next(x for x in links if x.stage is not None
                and stage_path(folder, x.stage).name == path.name)
    if path.exists():
        set_aside(path)
    if not link.repaired:
        header = dataclasses.replace(link.header(), actors=tuple(actors), repaired=True)
        replace_segment(link.path, header, rewritten(link.path, link.begin, {}))
    print(f"{link.path.name}: goes on without {path.name}; what that brought, and what builds on "
          "it, only peers can give")
    return True


def check_checkpoints(folder: Path, replica_id: str, epoch: int, repair: bool) -> None:
    """A line for each. A damaged one is no reason to refuse a start while there is another or the
    log is whole; repair sets it aside."""
    for number in checkpoint_numbers(folder):
        path = checkpoint_path(folder, number)
        try:
            found = open_checkpoint(folder, number, replica_id)
            for _ in verify(found):
                pass
            replica = replica_for(replica_id, epoch)
            replica.recovering = True           # keys that stay at home come from nowhere else
            for _ in take_state(found, replica):
                pass
            print(f"{path.name}: sound, {found.size} bytes, segment {found.position[0]} from "
                  f"offset {found.position[1]} on follows")
        except (FormatError, OSError) as e:
            print(f"{path.name}: DAMAGED: {e}: a start begins with an older one or the whole log, "
                  "if there is such")
            if repair:
                set_aside(path)


def set_aside(path: Path) -> None:
    path.rename(path.with_suffix(".damaged"))
    sync_directory(path.parent)
    print(f"{path.name}: set aside")


def begin_anew(folder: Path, replica_id: str, actors: list[Actor]) -> None:
    """Where the beginning of the log was removed and no checkpoint is left that goes on behind it:
    a log that begins with the oldest segment there is, and whose ops wait for others."""
    numbers = segment_numbers(folder)
    if not numbers or oldest_needed(folder, replica_id, numbers) == numbers[0]:
        return
    try:
        links = read_chain(folder, numbers[-1], replica_id, first=numbers[0])
    except ChainError:
        return                          # rehearse() says it
    if links[0].follows is not None:
        header = dataclasses.replace(links[0].header(), actors=tuple(actors), clock={},
                                     follows=None, repaired=True)
        replace_segment(links[0].path, header, rewritten(links[0].path, links[0].begin, {}))
        print(f"{links[0].path.name}: the log begins here now; what builds on what stood before "
              "waits for it")


def replica_for(replica_id: str, epoch: int) -> Replica:
    """One that is thrown away."""
    replica = Replica(replica_id, epoch + 1, pending_limit=1 << 40)
    replica.now = time.time_ns() // 1_000_000
    return replica


def mend_ops(folder: Path, replica_id: str, epoch: int, actors: list[Actor]) -> bool:
    """Put ops without effect in the place of those that cannot be applied, and accept that some are
    missing though every byte is sound (a record cut out by hand). True when something was done."""
    replica = replica_for(replica_id, epoch)
    found: dict[Path, dict[int, dict[tuple[int, int], bytes] | None]] = {}      # see `rewritten`

    def replace(path: Path, offset: int, op: Op | None) -> bytes:
        instead = op.without_effect if op else b""
        print(f"{path.name}: offset {offset}: {described(replica, op)} cannot be applied: "
              + ("set aside; one without effect is in its place" if instead else "left out"))
        records = found.setdefault(path, {})
        if op is None:
            records[offset] = None
            return b""
        records.setdefault(offset, {})[op.actor, op.seq] = instead
        return op.declared + run(op.actor, [instead]) if instead else b""

    try:
        recover(folder, replica_id, replica, change=False, replace=replace)
    except Gap as e:
        print(f"{e.path.name}: {e.reason}: accepted")
        found.setdefault(e.path, {})    # written again as it is, but "repaired"
    except StartError:
        return False                    # rehearse() says it
    for path, records in found.items():
        header = dataclasses.replace(header_of(path, int(path.name[8:24]), replica_id),
                                     actors=tuple(actors), repaired=True)
        replace_segment(path, header, rewritten(path, header.size, records))
    return bool(found)


def rewritten(path: Path, begin: int,
              records: dict[int, dict[tuple[int, int], bytes] | None]) -> Iterator[bytes]:
    """The records of a segment, some with other ops: records[offset] is {(actor, seq): the op to
    write instead}, or None to leave it out."""
    try:
        with opened(path) as fd:
            at = begin
            for batch, after, _ in read_batches(fd, begin, os.fstat(fd).st_size, 1):
                hit = next((offset for offset in records if at <= offset < after), None)
                if hit is None:
                    yield read_at(fd, after - at, at)
                elif (instead := records[hit]) is not None:
                    ops = list(ops_of(batch))
                    runs = [run(op.actor, [raw]) for op in ops
                            if (raw := instead.get((op.actor, op.seq), op.raw))]
                    yield record(b"".join([ops[-1].declared, *runs]))
                at = after
    except FormatError:
        pass                            # the torn end of the log


def rehearse(folder: Path, replica_id: str, epoch: int) -> StartError | None:
    """Recover into a replica that is thrown away, without a change. Why it failed."""
    replica = replica_for(replica_id, epoch)
    try:
        r = recover(folder, replica_id, replica, change=False)
    except StartError as e:
        print(e)
        return e
    if r.checkpoint:
        print(f"{r.checkpoint.name}: the next start begins with it")
    for truncation in r.truncations:
        what = ("sets it aside" if truncation.kept else
                f"cuts {truncation.lost} bytes off at offset {truncation.offset}")
        print(f"{truncation.path.name}: {truncation.reason}: the next start {what}")
    print(f"sound: {r.segments} segments, {r.records} records, {r.bytes} bytes" +
          (f"; {r.waiting} ops wait for others that were lost and that peers may have" if r.waiting
           else "") +
          (f"; {r.left_out} records are of unknown actors" if r.left_out else ""))
    return None


def examine(folder: Path, replica_id: str) -> list[Finding]:
    """One finding per segment, ascending, missing numbers included, but for those that may have
    been removed because checkpoints made them superfluous."""
    present = segment_numbers(folder)
    if not present:
        return []
    for before, n in pairwise(present):
        if n - before > GAP_MOST:
            raise StartError(f"{segment_path(folder, n).name}: {n - before - 1} segments are "
                             "missing before it: if the file was renamed, give it its name again",
                             EXIT_DATA)
    first = 1
    if present[0] > GAP_MOST or may_be_shortened(folder, present[0]):
        first = present[0]
    found = {n: Finding(n, segment_path(folder, n)) for n in range(first, present[-1] + 1)}
    for n, f in found.items():
        if n not in present:
            f.missing = True
            continue
        f.size = f.path.stat().st_size
        try:
            f.header = header_of(f.path, n, replica_id)
        except Foreign as e:
            f.foreign = True
            f.faults.append((e.offset, e.reason))
        except CutShort as e:
            if n == present[-1] and not holds_records(f.path):
                f.torn = 0
            else:
                f.faults.append((e.offset, e.reason))
        except FormatError as e:
            f.faults.append((e.offset, e.reason))
    log = in_log(found)
    for f, end in log:
        read_records(f, f.size if end is None else end, newest=f is log[-1][0])
    return list(found.values())


def may_be_shortened(folder: Path, first: int) -> bool:
    """Has there ever been a checkpoint, or has a repair made this the first segment?"""
    try:
        return (any(folder.glob("checkpoint-*"))
                or header_of(segment_path(folder, first), first, None).follows is None)
    except FormatError:
        return False


def forgive(findings: list[Finding], folder: Path, replica_id: str, epoch: int) -> None:
    """Faults that a loss of power explains are none: recovery is the judge."""
    try:
        found = recover(folder, replica_id, replica_for(replica_id, epoch), change=False)
    except StartError:
        return
    for f in findings:
        truncation = next((c for c in found.truncations if c.path == f.path), None)
        if truncation is not None:
            f.behind, f.torn = truncation.kept, None if truncation.kept else truncation.offset
        if truncation is not None or f.missing:
            f.missing = False
            f.faults.clear()


def in_log(found: dict[int, Finding]) -> list[tuple[Finding, int | None]]:
    """The segments that belong to the log, each with its end as the next one gives it. Where a
    header that would say so is lost, the segment before is taken to belong to it whole."""
    numbers = [n for n, f in found.items() if f.torn != 0]
    out: list[tuple[Finding, int | None]] = []
    number, end = (numbers[-1] if numbers else 0), None
    while number in found:
        f = found[number]
        repaired = f.header is not None and f.header.repaired
        out.append((f, None if repaired else end))
        follows = f.header.follows if f.header else (number - 1, None)
        if follows is None or not 0 < follows[0] < number:
            number, end = (0, None) if follows is None else (number - 1, None)
        else:
            number, end = follows
    members = {f.number for f, _ in out}
    for f in found.values():
        if f.number not in members and f.torn is None:
            f.void, f.missing = True, False
            f.faults.clear()
    return out[::-1]


def read_records(f: Finding, end: int, newest: bool) -> None:
    """Count the records up to `end`, noting each fault and going on behind it."""
    if f.missing or f.foreign or f.torn == 0:
        return
    f.used = end
    sound = 0
    for piece in pieces(f, min(end, f.size)):
        if isinstance(piece, FormatError):
            f.faults.append((piece.offset, piece.reason))
        else:
            f.records += piece[2]
            sound = piece[1]
    if f.size < end:
        f.faults.append((f.size, f"the file ends here, but the log goes on to offset {end}"))
    elif newest and f.header and len(f.faults) == 1 and f.faults[0][0] >= sound:
        f.torn = f.faults.pop()[0]


def pieces(f: Finding, end: int) -> Iterator[tuple[int, int, int] | FormatError]:
    """The sound records up to `end`, behind damage all, as (offset, offset behind, count), and a
    FormatError for each stretch between them that is none."""
    with opened(f.path) as fd:
        at = f.header.size if f.header else 0
        if f.header is None:
            at = next_record(fd, 0, end)
        while at < end:
            try:
                for _, after, count in read_batches(fd, at, end):
                    yield at, after, count
                    at = after
                return
            except FormatError as e:
                yield e
                end = f.size            # bytes that were inserted have moved those behind them
                at = next_record(fd, e.offset + 1, end)


def next_record(fd: int, begin: int, end: int) -> int:
    """Offset of the first sound record from `begin` on, wherever it starts; `end` when there is
    none."""
    found = record_find(read_at(fd, end - begin, begin), 0)
    return end if found < 0 else begin + found


def mend(f: Finding, findings: list[Finding], replica_id: str,
         actors: list[Actor]) -> tuple[int, int]:
    """Put a file with what is sound in the damaged one's place: (records kept, bytes left out).

    actors: all that any sound header names, and the last of this replica, since the record that
    declared one may be lost.
    """
    before = next((x for x in reversed(findings) if x.number < f.number and not x.void), None)
    after = next((x for x in findings if x.number > f.number and not x.void), None)
    # Of a lost header's clocks this is left: nothing that stands before this segment is beyond what
    # stands before the next. And behind short records all segments may hold such.
    follows = ((before.number, before.used or before.size) if before
               else (f.number - 1, 0) if f.number > 1 else None)    # that one was removed
    lost = Header(replica_id, f.number, 0, (), {}, follows,
                  ceiling=after.header.ceiling if after and after.header else None,
                  short=after.header.short if after and after.header else True)
    header = dataclasses.replace(f.header or lost, actors=tuple(actors), repaired=True)
    kept = sound = 0

    def records() -> Iterator[bytes]:
        nonlocal kept, sound
        if f.missing:
            return
        with opened(f.path) as source:
            for piece in pieces(f, min(f.used or f.size, f.size)):
                if not isinstance(piece, FormatError):
                    begin, after, count = piece
                    yield read_at(source, after - begin, begin)
                    kept += count
                    sound += after - begin

    replace_segment(f.path, header, records())
    return kept, f.size - sound - (f.header.size if f.header else 0)


def replace_segment(path: Path, header: Header, records: Iterable[bytes]) -> None:
    """Write a segment anew; what had its name, if anything, becomes *.damaged."""
    draft = path.with_suffix(".log.tmp")
    with opened(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as out:
        write_all(out, encode_header(header))
        for data in records:
            write_all(out, data)
        os.fsync(out)
    if path.exists():
        os.link(path, free_name(path, "damaged"))
    os.rename(draft, path)
    sync_directory(path.parent)

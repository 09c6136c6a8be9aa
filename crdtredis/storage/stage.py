"""Stages: what a full sync has brought, on disk and checked whole before any of it is joined.

A replica that lacks operations which no log holds any more is given the state of another
(replication/receiving.py). It writes that into a file (format.py says what stands in it), in one
go or in several where the connection breaks, checks the file and forces it to disk. Only then does
it get its name, and the log a segment whose header names it: from then on it is part of what the
log holds, and a start that reaches that segment joins it there (recovery.py). A checkpoint that
begins behind makes it superfluous.

While it grows, the file ends in .tmp. Whatever a start finds of that kind, or without a segment
that names it, is of a full sync that never counted, and goes.

A stage leaves KEEP_FREE bytes of the disk alone, which are the log's.
"""
from __future__ import annotations

import errno
import os
import re
from collections.abc import Container, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from crdtredis._core import Replica, StateCheck, StateJoin, record
from crdtredis.clocks import Actor, Clock
from crdtredis.errors import DamagedState
from crdtredis.storage.chain import read_chain
from crdtredis.storage.format import (FormatError, as_json, from_json, opened, read_batches,
                                      sync_directory)
from crdtredis.storage.segments import write_all

MAGIC = b"CRDTSTG1"
FORMAT = 1
NAME = re.compile(r"stage-(\d{16})\.state")
KEEP_FREE = 64 << 20                    # bytes of the disk that are left to the log
HEADER_MOST = 1 << 20                   # bytes of its record
SLICE = 2_000                           # elements of a step of the join


@dataclass(frozen=True)
class Stage:
    path: Path
    number: int
    giver: str                          # whose state it is
    buckets: bytes | None               # of which buckets; None: of all
    begin: int                          # the first record of the state begins here
    size: int


@dataclass(frozen=True)
class Contents:
    """What a stage brings, as its footer says it and its records bear out."""
    start: Clock                        # the giver's as it began,
    clock: Clock                        # raised by the tail
    actors: tuple[Actor, ...]           # all that are named in `clock`, and perhaps more
    records: int
    batches: int


def stage_path(folder: Path, number: int) -> Path:
    return folder / f"stage-{number:016d}.state"


def stage_numbers(folder: Path) -> list[int]:
    return sorted(int(m[1]) for name in os.listdir(folder) if (m := NAME.fullmatch(name)))


def remove_strays(folder: Path, named: Container[int]) -> None:
    """At a start: remove what no segment of this log names, and drafts. OSError."""
    for draft in folder.glob("stage-*.tmp"):
        draft.unlink()
    for number in stage_numbers(folder):
        if number not in named:
            stage_path(folder, number).unlink()


def remove_superseded_stages(folder: Path, newest: int, first: int, before: int) -> None:
    """Remove those that no start needs any more. The log goes from segment `first` to `newest`, and
    the oldest checkpoint from which a start may go on does so in segment `before`. A stage is older
    than the segment that names it, and one that none names yet is as new as the newest. OSError,
    ChainError, FormatError."""
    numbers = [n for n in stage_numbers(folder) if n < before]
    if not numbers:
        return
    naming = {link.stage: link.number for link in read_chain(folder, newest, None, first=first)}
    for number in numbers:
        if naming.get(number, 0) <= before:
            stage_path(folder, number).unlink()


# ---- writing -------------------------------------------------------------------------------------


class Draft:
    """A stage in the making. For worker threads, one at a time. OSError where the disk will not
    have it; discard() it then."""

    def __init__(self, folder: Path, number: int, replica_id: str, giver: str,
                 buckets: bytes | None) -> None:
        self._folder, self.number = folder, number
        self._final = stage_path(folder, number)
        self._path = self._final.with_suffix(".state.tmp")
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.size = 0
        try:
            self.put(MAGIC + record(orjson.dumps(
                {"format": FORMAT, "replica": replica_id, "number": number, "giver": giver,
                 "buckets": None if buckets is None else buckets.hex()})))
        except BaseException:
            self.discard()
            raise

    def put(self, data: bytes) -> None:
        """Whole records."""
        space = os.fstatvfs(self._fd)
        if space.f_bavail * space.f_frsize < KEEP_FREE + len(data):
            raise OSError(errno.ENOSPC, "the disk is nearly full", str(self._path))
        write_all(self._fd, data)
        self.size += len(data)

    def complete(self, contents: Contents) -> Stage:
        """Force it to disk. What is returned is to be verified, then published."""
        self.put(record(orjson.dumps(
            {"clock": as_json(contents.clock), "actors": [list(a) for a in contents.actors],
             "records": contents.records, "batches": contents.batches})))
        os.fdatasync(self._fd)
        return open_stage(self._path, self.number, None)

    def publish(self) -> Stage:
        """Give it its name."""
        os.rename(self._path, self._final)
        sync_directory(self._folder)
        os.close(self._fd)
        self._fd = -1
        return open_stage(self._final, self.number, None)

    def discard(self) -> None:
        """Nothing is left of it, unless the disk is broken; what was published stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._path.unlink(missing_ok=True)


# ---- reading -------------------------------------------------------------------------------------


def open_stage(path: Path, number: int, replica_id: str | None) -> Stage:
    """FormatError where it is none of this replica."""
    with opened(path) as fd:
        start = os.pread(fd, len(MAGIC) + 8, 0)
        begin = 16 + int.from_bytes(start[8:12], "little")
        if start[:8] != MAGIC or begin > HEADER_MOST:
            raise FormatError(0, f"does not begin with {MAGIC.decode()} and a header")
        try:
            (payload, _, _), = read_batches(fd, 8, begin)
            j = orjson.loads(payload)
            if j["format"] != FORMAT or j["number"] != number:
                raise FormatError(8, "the header is that of another version, or another file")
            if replica_id is not None and j["replica"] != replica_id:
                raise FormatError(8, f"belongs to replica {j['replica']!r}, not to {replica_id!r}")
            buckets = None if j["buckets"] is None else bytes.fromhex(j["buckets"])
            return Stage(path, number, j["giver"], buckets, begin, os.fstat(fd).st_size)
        except (ValueError, KeyError, TypeError) as e:
            raise FormatError(8, f"the header is not what the format says: {e!r}") from None


def read_stage(stage: Stage) -> Iterator[tuple[bytes, int]]:
    """(payload, offset behind it) of all records but the header. FormatError where one is not
    sound."""
    with opened(stage.path) as fd:
        for payload, after, _ in read_batches(fd, stage.begin, stage.size, 1):
            yield payload, after


def verify(stage: Stage, replica: Replica) -> Generator[int, None, Contents]:
    """Read it whole, before any of it is believed: yields offsets, and returns what it brings.
    FormatError where a record is not sound, where the state and the tail are nothing that this
    replica could join, or where the footer is missing or says something else. Nothing of it is put
    into the replica; but the actors that it names are declared there."""
    check = StateCheck(replica, stage.buckets)
    records = batches = 0
    held: bytes | None = None           # the last record: the footer, should no other follow
    at = stage.begin
    try:
        for payload, after in read_stage(stage):
            if not check.over:
                check.take(payload)
                records += 1
            else:
                if held is not None:
                    check.tail(held)
                    batches += 1
                held = payload
            at = after
            yield at
        if held is None or not check.whole:
            raise FormatError(at, "the file ends before the tail does")
        j = orjson.loads(held)
        found = Contents(check.start_clock(), from_json(j["clock"]),
                         tuple(Actor(int(a), str(r), int(e)) for a, r, e in j["actors"]),
                         j["records"], j["batches"])
    except DamagedState as e:
        raise FormatError(at, str(e)) from None
    except (ValueError, KeyError, TypeError) as e:
        raise FormatError(at, f"the footer is not what the format says: {e!r}") from None
    if (check.clock(), records, batches) != (found.clock, found.records, found.batches):
        raise FormatError(at, "the footer says something else than the records before it")
    return found


def join_steps(stage: Stage, contents: Contents, replica: Replica) -> Iterator[int]:
    """Join a verified stage to a replica, a slice per step: yields offsets. Until it is over, the
    replica makes no op and applies no other. FormatError, or whatever else, where that fails: the
    replica is to be thrown away then."""
    joining = StateJoin(replica, stage.buckets)
    try:
        for i, (payload, after) in enumerate(read_stage(stage)):
            if i < contents.records:
                more = joining.take(payload, SLICE)
                while more:
                    yield after
                    more = joining.step(SLICE)
            elif i < contents.records + contents.batches:
                joining.apply(payload)
            yield after
    except DamagedState as e:
        raise FormatError(stage.begin, str(e)) from None
    joining.finish()

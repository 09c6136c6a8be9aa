"""The log shipped: a backup that goes on, so that a restore loses seconds and not a day.

A follower (moving/following.py) fetches a backup, and from where that ends it is sent the bytes of
the log's files as they grow, and new checkpoints now and then. What it keeps is a data directory in
the making, of the same files:

    backup-<16 digits>/         a *generation*, called as the time when it was begun (ms)
        identity.json, segment-*, checkpoint-*, stage-*     see format.py
        followed.json           {"format": 1, "through_ms": ...}: all that the server wrote up to
                                then is in this generation, and on disk

Segments only grow, so that wherever a follower is killed, a log is left that a crash could have
left: the end of the newest is torn, at most. A segment is on disk before the next is begun, a stage
before the segment that names it; a checkpoint and a generation get their names when they are whole
and on disk.

**Who comes again** says up to where it has the log, and a hash of its newest segment up to there.
The server goes on where that is what it has itself. It is not where the server lost in a crash what
it had sent, and went on differently; and it has none where checkpoints have made it superfluous.
Then the follower takes a new backup, as another generation.

The server keeps nothing for a follower but the log, while it is connected, and up to
`replication_log_size` bytes of that (64 MB at least); one that is gone, or slower, is not waited
for. It reads a
piece at a time, and closed files do not change (reader.py says why reading beside the writer is
safe).

    the stream of a reply:      frame, frame, ...
    a frame:                    a line of JSON, and behind it `size` bytes
        {"file": ..., "at": ..., "size": ..., "of": ...}    bytes of a file. `of`: its whole size,
                                                            of what is no segment
        {"through": ms, "epoch": ...}   all that was written up to then has been sent; identity.json
                                        has this epoch
"""
from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from crdtredis.storage.checkpoint import checkpoint_numbers, checkpoint_path
from crdtredis.storage.format import (CutShort, FormatError, LogPosition, opened, read_at,
                                      read_batches, read_header, segment_numbers, segment_path,
                                      sync_directory)
from crdtredis.storage.segments import SegmentLog, write_all
from crdtredis.storage.stage import stage_path

GENERATION = re.compile(r"backup-\d{16}")
HEARD = "followed.json"
HEARD_MOST = 1 << 16
PIECE = 1 << 20
LINE_MOST = 1 << 16             # bytes of a frame's line


class Gone(Exception):
    """The log does not go on from there."""


# ---- the server's side ---------------------------------------------------------------------------

class Shipping:
    """The log from `position` on, and checkpoints newer than number `known`, one every `every`
    seconds at most. For worker threads, one at a time."""

    def __init__(self, folder: Path, segments: SegmentLog, position: LogPosition, known: int,
                 every: float) -> None:
        self.position = position        # what has been sent
        self._folder, self._log = folder, segments
        self._known, self._every = known, every
        self._looked = time.monotonic() - every
        self._checkpoint: Iterator[bytes] = iter(())
        self._files = self._run()
        newest, end = segments.writer.position()
        if position[0] < segments.first or position > (newest, end):
            raise Gone

    def next(self) -> bytes:
        """Some frames; b"" where there is nothing new. Gone, OSError."""
        try:
            if piece := next(self._checkpoint, b""):
                return piece + next(self._files)
            if time.monotonic() - self._looked >= self._every:
                self._looked = time.monotonic()
                newest = max(checkpoint_numbers(self._folder), default=0)
                if newest > self._known:
                    self._known = newest
                    self._checkpoint = whole(checkpoint_path(self._folder, newest))
            return next(self._files)
        except (FileNotFoundError, FormatError):
            raise Gone from None

    def _run(self) -> Iterator[bytes]:
        while True:
            number, at = self.position
            newest, end = self._log.writer.position()
            path = segment_path(self._folder, number)
            with opened(path) as fd:
                if at == 0 and (joined := read_header(fd, brief=True).joined):
                    yield from whole(stage_path(self._folder, joined.stage))
                if number < newest:
                    end = end_of(self._folder, number)
                while at < end:
                    piece = read_at(fd, min(PIECE, end - at), at)
                    if not piece:
                        raise OSError(errno.EIO, "has become shorter", str(path))
                    at += len(piece)
                    self.position = number, at
                    yield frame({"file": path.name, "at": at - len(piece),
                                 "size": len(piece)}) + piece
            if number < newest:
                self.position = number + 1, 0
            else:
                yield b""


def end_of(folder: Path, number: int) -> int:
    """Where the log leaves a segment that has a successor; of one that it has left out, or that was
    repaired, the size. FormatError, OSError."""
    with opened(segment_path(folder, number)) as fd:
        repaired = read_header(fd, brief=True).repaired
        size = os.fstat(fd).st_size
    with opened(segment_path(folder, number + 1)) as fd:
        follows = read_header(fd, brief=True).follows
    return size if repaired or not follows or follows[0] != number else follows[1]


def whole(path: Path) -> Iterator[bytes]:
    """A file that does not change any more, although it may be removed."""
    with opened(path) as fd:
        at, size = 0, os.fstat(fd).st_size
        while at < size:
            piece = read_at(fd, min(PIECE, size - at), at)
            yield frame({"file": path.name, "at": at, "size": len(piece), "of": size}) + piece
            at += len(piece)


def frame(fields: dict) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def digest_of(path: Path, end: int) -> str:
    """Of the bytes up to there; "" where there are not so many. OSError."""
    found = hashlib.blake2b(digest_size=32)
    with opened(path) as fd:
        at = 0
        while at < end:
            piece = read_at(fd, min(PIECE, end - at), at)
            if not piece:
                return ""
            found.update(piece)
            at += len(piece)
    return found.hexdigest()


def goes_on(folder: Path, position: LogPosition, digest: str) -> bool:
    """Is what a follower has up to this position what is here? OSError."""
    try:
        return digest_of(segment_path(folder, position[0]), position[1]) == digest
    except FileNotFoundError:
        return False


# ---- the follower's side -------------------------------------------------------------------------

def generations(folder: Path) -> list[Path]:
    """Those that are whole, the oldest first. OSError."""
    return sorted(folder / name for name in os.listdir(folder) if GENERATION.fullmatch(name))


def heard(generation: Path) -> int:
    """ms; 0: it does not say."""
    try:
        with opened(generation / HEARD) as fd:
            found = orjson.loads(read_at(fd, HEARD_MOST, 0))["through_ms"]
        return found if type(found) is int and 0 <= found < 1 << 48 else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def note_heard(generation: Path, ms: int) -> None:
    """Durable when it returns. OSError."""
    path = generation / HEARD
    draft = path.with_suffix(".json.tmp")
    with opened(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        write_all(fd, orjson.dumps({"format": 1, "through_ms": ms}))
        os.fsync(fd)
    os.rename(draft, path)
    sync_directory(generation)


def settle(generation: Path) -> LogPosition:
    """Removes what a follower that was killed left half written; up to where it has the log then.
    FormatError, OSError."""
    for draft in generation.glob("*.tmp"):
        draft.unlink()
    while numbers := segment_numbers(generation):
        path = segment_path(generation, numbers[-1])
        with opened(path, os.O_RDWR) as fd:
            try:
                at = read_header(fd, brief=True).size
                for _, after, _ in read_batches(fd, at, os.fstat(fd).st_size):
                    at = after
            except CutShort as e:
                at = e.offset
            if at:
                os.ftruncate(fd, at)
                os.fsync(fd)
                return numbers[-1], at
        path.unlink()
        sync_directory(generation)
    raise FormatError(0, "no segment is there")

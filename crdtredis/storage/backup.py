"""A backup: the files that a start needs, as one tar archive, taken while the server writes on.

It holds identity.json, the newest checkpoint, the segments behind it up to where the log stood when
the backup began, and the stages that those name; last comes LAST, which says what must have come.
So an archive that ends too early is known, and up to when it holds all that was written
(`through_ms`; restore.py). The log is pinned meanwhile; the other files, few, are
opened at the beginning, so that they are read although they become superfluous.
"""
from __future__ import annotations

import errno
import io
import os
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from crdtredis.storage.checkpoint import checkpoint_numbers, open_checkpoint
from crdtredis.storage.format import (FormatError, LogPosition, opened, read_at, read_header,
                                      segment_path, sync_directory)
from crdtredis.storage.segments import Pin, SegmentLog
from crdtredis.storage.shipping import end_of
from crdtredis.storage.stage import stage_path

LAST = "backup.json"
NAMES = re.compile(r"identity\.json|segment-\d{16}\.log|checkpoint-\d{16}\.ckpt"
                   r"|stage-\d{16}\.state")
LAST_MOST = 256 << 20       # bytes of it
HEADER_MOST = 1 << 16       # bytes of what says more of a file than its header holds
PIECE = 1 << 20
TRIES = 10                  # while checkpoints come and go


@dataclass(frozen=True)
class Part:
    path: Path
    size: int
    fd: int = -1                # -1: is opened when it is read


class Backup:
    """What belongs to one that begins now; close() lets it go. OSError, LookupError. For any
    thread."""

    def __init__(self, folder: Path, segments: SegmentLog, through_ms: int = 0,
                 history: bool = False) -> None:
        """through_ms: all that was written up to then is in the log. 0: unknown. history: with
        older checkpoints, and all of the log that is still there."""
        self.parts: list[Part] = []
        self.began = int(time.time())
        self.through_ms = through_ms
        self.end: LogPosition = (0, 0)
        self.checkpoint = 0             # its number
        self._pin: Pin | None = None
        for left in reversed(range(TRIES)):
            try:
                self._open(folder, segments, history)
                return
            except BaseException as e:
                self.close()
                if not (left and isinstance(e, (FileNotFoundError, LookupError, FormatError))):
                    raise                       # else: removed between two looks

    def _open(self, folder: Path, segments: SegmentLog, history: bool) -> None:
        self._pin = segments.pin((segments.first, 0))
        first, held = segments.first, 0         # what stands before segment `held` is in the state
        self._add(folder / "identity.json")
        numbers = checkpoint_numbers(folder)
        for n in numbers if history else numbers[-1:]:
            found = open_checkpoint(folder, n, None)
            self._add(found.path)
            self.checkpoint = found.number
            held = held or found.position[0]
            first = first if history else held
        number, end = self.end = segments.writer.position()     # behind what a checkpoint holds
        for n in range(number, first - 1, -1):
            path = segment_path(folder, n)
            with opened(path) as fd:
                header = read_header(fd, brief=True)
            self.parts.append(Part(path, end if n == number else end_of(folder, n)))
            if header.joined and (history or n > held):
                try:
                    self._add(stage_path(folder, header.joined.stage))
                except FileNotFoundError:       # superseded, and removed: the log goes back no
                    if n > held:                # further then
                        raise

    def _add(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.parts.append(Part(path, os.fstat(fd).st_size, fd))

    def close(self) -> None:
        for part in self.parts:
            if part.fd >= 0:
                os.close(part.fd)
        self.parts = []
        if self._pin:
            self._pin.release()
            self._pin = None

    @property
    def size(self) -> int:
        """Bytes of the archive."""
        return len(self._last()) + sum(
            len(head(p.path.name, p.size, self.began)) + p.size + len(padding(p.size))
            for p in self.parts)

    def read(self) -> Iterator[bytes]:
        """The archive in pieces. OSError."""
        for part in self.parts:
            yield head(part.path.name, part.size, self.began)
            if part.fd >= 0:
                yield from read_whole(part.fd, part)
            else:
                with opened(part.path) as fd:
                    yield from read_whole(fd, part)
        yield self._last()

    def _last(self) -> bytes:
        last = orjson.dumps({"format": 1, "created_ms": self.began * 1000,
                             "through_ms": self.through_ms,
                             "files": {p.path.name: p.size for p in self.parts}})
        return (head(LAST, len(last), self.began) + last + padding(len(last))
                + bytes(2 * tarfile.BLOCKSIZE))


def read_whole(fd: int, part: Part) -> Iterator[bytes]:
    at = 0
    while at < part.size:
        piece = read_at(fd, min(PIECE, part.size - at), at)
        if not piece:
            raise OSError(errno.EIO, "has become shorter", str(part.path))
        yield piece
        at += len(piece)
    if missing := padding(at):
        yield missing


def head(name: str, size: int, now: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, now, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


class Header(tarfile.TarInfo):
    """tarfile reads what is no file into memory, whatever its size."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        found = super().frombuf(buf, encoding, errors)
        if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) and found.size > HEADER_MOST:
            raise ValueError(f"{found.name!r} is too large a header")
        return found


def unpack(archive: io.BufferedIOBase, draft: Path) -> int:
    """Into this directory: its through_ms. ValueError and others (restore.py) where it is none or
    damaged, OSError."""
    found: dict[str, int] = {}
    last = None
    with tarfile.open(fileobj=archive, mode="r|*", tarinfo=Header) as tar:
        for member in tar:
            if not member.isreg() or last is not None:
                raise ValueError(f"{member.name!r} does not belong there")
            source = tar.extractfile(member)
            if member.name == LAST:
                last = orjson.loads(source.read(LAST_MOST))
                continue
            if not NAMES.fullmatch(member.name) or member.name in found:
                raise ValueError(f"{member.name!r} does not belong there")
            fd = os.open(draft / member.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(fd, "wb", buffering=0) as f:
                while piece := source.read(PIECE):
                    f.write(piece)
                os.fsync(f.fileno())
            found[member.name] = member.size
    if last is None or last["format"] != 1 or last["files"] != found:
        raise ValueError("it ends too early")
    through = last.get("through_ms", 0)
    if type(through) is not int or not 0 <= through < 1 << 48:
        raise ValueError("through_ms is no time")
    sync_directory(draft)
    return through

"""`crdt-redis backup --follow`: a backup, and behind it the log of the server as it grows
(storage/shipping.py says what is kept and how it is sent).

What is there goes on where the server says that it can; else a new backup is begun as another
generation, beside those that are there. A connection that breaks, or stands still, is made again,
for ever, and so where the disk here fails or is full; but where the first one fails, the address is
wrong, say, and that ends it.

**What is removed.** Where a generation has a checkpoint that is older than --keep, older ones go,
and the log before it. A former generation goes when it ends before that time, and in any case when
GENERATIONS newer ones are there.
"""
from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError

import orjson

from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.storage.backup import NAMES, unpack
from crdtredis.storage.chain import ChainError
from crdtredis.storage.checkpoint import (Checkpoint, checkpoint_numbers, checkpoint_path,
                                          open_checkpoint, verified)
from crdtredis.storage.format import (FormatError, LogPosition, opened, segment_numbers,
                                      segment_path, sync_directory)
from crdtredis.storage.identity import read_identity, store_identity
from crdtredis.storage.lock import DirectoryLock
from crdtredis.storage.segments import write_all
from crdtredis.storage.shipping import (LINE_MOST, PIECE, digest_of, generations, heard,
                                        note_heard, settle)
from crdtredis.storage.stage import remove_superseded_stages

PAUSES = 0.2, 30.0              # s before it connects again: the first, the longest
GENERATIONS = 3                 # of which more are never kept
TOLD_EVERY = 10.0               # s, where there is something to tell
LARGEST = 1 << 50               # bytes of a file

Open = Callable[[str], HTTPResponse]            # of a path with its query. HTTPError, OSError


class Stopped(BaseException):
    """By a signal."""


class Refused(Exception):
    """What came is not what was asked for; it is asked again."""


def follow(fetch: Open, folder: Path, keep: float) -> int:
    """Until a signal ends it: 0. keep: seconds. StartError, OSError; what is there stays."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / "identity.json").exists():
        raise StartError(f"{folder}: is a data directory; a backup is kept in one of its own",
                         EXIT_CONFIG)
    before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        with DirectoryLock(folder):
            try:
                Follower(fetch, folder, keep).run()
            except Stopped:
                tell(f"stopped; {folder} can be restored{up_to(folder)}")
        return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop(number: int, frame: object) -> None:
    raise Stopped


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def up_to(folder: Path) -> str:
    found = generations(folder)
    ms = heard(found[-1]) if found else 0
    return (" up to " + time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ms / 1000)) if ms
            else ", once the first backup is whole" if not found else "")


class Follower:
    def __init__(self, fetch: Open, folder: Path, keep: float) -> None:
        self._fetch, self._folder, self._keep = fetch, folder, keep
        self._connected = False         # ever
        self._received = 0              # bytes since the last word
        self._told = time.monotonic()
        self._fd = -1                   # of the segment that is written, or of another file
        self._path: Path | None = None
        self._at = 0
        self._unsynced = False
        self._due = False               # is there something that may make other things superfluous?

    def run(self) -> None:
        pause, most = PAUSES
        for draft in self._folder.glob("backup-*.part"):
            shutil.rmtree(draft)
        while True:
            try:
                self._once()
                pause = PAUSES[0]
                why = "the server ended the connection"
            except (HTTPException, OSError, Refused, EOFError, ValueError) as e:
                if not self._connected or isinstance(e, HTTPError) and (
                        e.code < 500 and e.code != 408):
                    raise
                e = getattr(e, "reason", "") or e
                why = getattr(e, "strerror", "") or str(e) or "the connection broke"
            finally:
                self._leave()
            tell(f"{why}; connecting again")
            time.sleep(pause)
            pause = min(2 * pause, most)

    def _once(self) -> None:
        """A connection, to its end."""
        every = int(self._keep / 4)
        if found := generations(self._folder):
            newest = found[-1]
            try:
                position = settle(newest)
                digest = digest_of(segment_path(newest, position[0]), position[1])
                known = max(checkpoint_numbers(newest), default=0)
                with self._fetch(f"/backup?follow=1&segment={position[0]}&offset={position[1]}"
                                 f"&checkpoint={known}&every={every}&digest={digest}") as response:
                    self._begun(response, newest)
                    tell(f"going on with {newest}")
                    self._receive(response, newest)
                return
            except HTTPError as e:
                if e.code != 410:
                    raise
                tell(f"the log at the server does not go on behind {newest.name}: a new backup")
            except FormatError as e:
                tell(f"{newest} is damaged ({e}): a new backup")
        with self._fetch(f"/backup?follow=1&every={every}") as response:
            generation = self._take(response)
            self._receive(response, generation)

    def _begun(self, response: HTTPResponse, generation: Path | None) -> None:
        if response.headers.get("X-Follow") != "1":
            raise StartError("the server is of a version that cannot be followed", EXIT_DATA)
        replica = response.headers.get("X-Replica")
        mine = read_identity(generation) if generation else None
        if mine and replica != mine.replica_id:
            raise StartError(f"{self._folder} follows replica {mine.replica_id!r}, and this is "
                             f"{replica!r}: give each a directory of its own", EXIT_CONFIG)
        self._connected = True

    def _take(self, response: HTTPResponse) -> Path:
        """A new generation from what the reply begins with."""
        found = generations(self._folder)
        self._begun(response, found[-1] if found else None)
        size = response.headers.get("X-Backup-Size", "")
        if not size.isdigit():
            raise Refused("this is no crdt-redis")
        after = int(found[-1].name[7:]) + 1 if found else 0
        name = f"backup-{max(time.time_ns() // 1_000_000, after):016d}"
        draft = self._folder / f"{name}.part"
        draft.mkdir(mode=0o700)
        try:
            archive = Limited(response, int(size), self._progress)
            try:
                through = unpack(archive, draft)
            except (ArithmeticError, KeyError, TypeError, ValueError) as e:
                raise Refused(f"the backup is damaged: {e}") from None
            archive.drain()
            note_heard(draft, through)
            generation = self._folder / name
            os.rename(draft, generation)
            sync_directory(self._folder)
        finally:
            if draft.exists():
                shutil.rmtree(draft)
        tell(f"{generation}: {size} bytes; following")
        self._due = True
        return generation

    def _receive(self, response: HTTPResponse, generation: Path) -> None:
        """The frames of a reply, to its end."""
        while line := response.readline(LINE_MOST):
            fields = orjson.loads(line)
            if not isinstance(fields, dict):
                raise Refused("no frame begins here")
            if "through" in fields:
                self._note(generation, fields)
            else:
                self._write(response, generation, fields)

    def _note(self, generation: Path, fields: dict) -> None:
        through, epoch = fields["through"], fields.get("epoch")
        if type(through) is not int or type(epoch) is not int:
            raise Refused("a frame without a time")
        self._sync()
        mine = read_identity(generation)
        if mine and 0 < epoch != mine.epoch:
            store_identity(generation, replace(mine, epoch=epoch, left=None))
        if through > heard(generation):
            note_heard(generation, through)
        if self._due:
            self._due = not self._prune(generation)
        self._progress(0)

    def _write(self, response: HTTPResponse, generation: Path, fields: dict) -> None:
        name, at, size = fields.get("file"), fields.get("at"), fields.get("size")
        of = fields.get("of", 0)
        if (not isinstance(name, str) or not NAMES.fullmatch(name) or name == "identity.json"
                or not all(type(n) is int and 0 <= n <= LARGEST for n in (at, size, of))
                or size > PIECE or name.startswith("segment-") != (not of)):
            raise Refused("no frame begins here")
        data = response.read(size)
        if len(data) < size:
            raise EOFError("the connection broke")
        if of:
            self._write_whole(generation / name, at, data, of)
        else:
            self._append(generation / name, at, data)
        self._progress(size)

    def _append(self, path: Path, at: int, data: bytes) -> None:
        """To a segment. The one before is on disk when it begins."""
        if path != self._path:
            numbers = segment_numbers(path.parent)
            if at == 0 and path != segment_path(path.parent, numbers[-1] + 1) or at and (
                    path != segment_path(path.parent, numbers[-1])):
                raise Refused(f"{path.name} does not follow")
            self._leave()
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._path = path
            self._at = os.fstat(self._fd).st_size
            if at == 0:
                sync_directory(path.parent)
        if at != self._at:
            raise Refused(f"{path.name} goes on at {at}, and ends at {self._at}")
        write_all(self._fd, data)
        self._at += len(data)
        self._unsynced = True

    def _write_whole(self, path: Path, at: int, data: bytes, of: int) -> None:
        """A part of a checkpoint or stage, which gets its name in the end."""
        draft = path.with_suffix(path.suffix + ".tmp")
        with opened(draft, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if at == 0 else 0)) as fd:
            if os.lseek(fd, 0, os.SEEK_END) != at:
                raise Refused(f"{path.name} goes on at {at}")
            write_all(fd, data)
            if at + len(data) < of:
                return
            os.fsync(fd)
        os.rename(draft, path)
        sync_directory(path.parent)
        self._due |= path.suffix == ".ckpt"

    def _sync(self) -> None:
        if self._unsynced:
            try:
                os.fdatasync(self._fd)
            except OSError as e:        # asked again, the kernel would say that all is well
                raise StartError(f"{self._path}: {e.strerror}: remove {self._path.parent}, of "
                                 "which nobody knows what is on disk", EXIT_DATA) from None
            self._unsynced = False

    def _leave(self) -> None:
        """The file that is written; durable."""
        if self._fd >= 0:
            try:
                self._sync()
            finally:
                os.close(self._fd)
                self._fd, self._path, self._unsynced = -1, None, False

    def _progress(self, size: int) -> None:
        self._received += size
        if self._received and time.monotonic() - self._told >= TOLD_EVERY:
            tell(f"{self._received} bytes{up_to(self._folder)}")
            self._received, self._told = 0, time.monotonic()

    # ---- what goes -------------------------------------------------------------------------------

    def _prune(self, generation: Path) -> bool:
        """False where the log has not come so far as a checkpoint: to be called again then."""
        before = time.time_ns() // 1_000_000 - int(self._keep * 1000)
        for i, old in enumerate(reversed(generations(self._folder))):
            if old != generation and (i >= GENERATIONS or heard(old) < before):
                # not half of it under its name
                gone = old.rename(old.with_name(f"{old.name}.part"))
                sync_directory(self._folder)
                shutil.rmtree(gone)
        chosen: Checkpoint | None = None
        end = where_it_ends(generation)
        over = True
        for number in checkpoint_numbers(generation):
            found, upto, stamp = looked_at(generation, number)
            if found is None:
                checkpoint_path(generation, number).unlink()
            elif upto > end:
                over = False
            elif stamp >> 16 <= before:
                chosen = found
        if chosen is None:
            return over
        for number in checkpoint_numbers(generation):
            if number < chosen.number:
                checkpoint_path(generation, number).unlink()
        sync_directory(generation)
        numbers = segment_numbers(generation)
        with suppress(ChainError, FormatError):
            remove_superseded_stages(generation, numbers[-1], numbers[0], chosen.position[0])
        for number in numbers:
            if number < chosen.position[0]:
                segment_path(generation, number).unlink()
                sync_directory(generation)
        return over


def where_it_ends(generation: Path) -> LogPosition:
    number = segment_numbers(generation)[-1]
    return number, segment_path(generation, number).stat().st_size


def looked_at(generation: Path, number: int) -> tuple[Checkpoint | None, LogPosition, int]:
    """(None where it is damaged, where its walk ended, its greatest stamp)."""
    try:
        found = open_checkpoint(generation, number, None)
        return found, *verified(found)
    except FormatError:
        return None, (0, 0), 0


class Limited(io.RawIOBase):
    """The first `left` bytes of a reply, as a file."""

    def __init__(self, response: HTTPResponse, left: int, step: Callable[[int], None]) -> None:
        self._response, self._left, self._step = response, left, step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = min(self._left, PIECE if size < 0 else size)
        data = self._response.read(wanted) if wanted else b""
        if len(data) < wanted:
            raise EOFError("the connection broke")
        self._left -= len(data)
        self._step(len(data))
        return data

    def drain(self) -> None:
        while self._left:
            self.read(PIECE)

"""A disk that fails when told to, and that can lose its power, under real processes.

    disk = Disk(folder)                         # folder: the data directory
    process = Popen(..., env=os.environ | disk.environment)
    disk.fail("fdatasync", "segment-", errno.EIO, times=1)
    disk.heal()
    disk.power_loss(rng)  # after the process is dead: leaves what a disk might have

What a loss of power leaves. A file has at least the bytes it had at its last fdatasync, at most
those it had in the end, and between them perhaps zeros, as file systems do that enlarge a file
before its content is there. Names are changed in the order in which they were given, and at least
those before the last fsync of the directory. Nothing else is promised by POSIX or by the journaling
file systems of Linux, and nothing else may be relied on.
"""
from __future__ import annotations

import mmap
import os
import random
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

CALLS = {"create": 1, "write": 2, "fdatasync": 3, "rename": 4, "pread": 5, "ftruncate": 6,
         "fsync directory": 7, "unlink": 8}
KILL = -1
RULE = struct.Struct("=ii5q80s")
RULES = 16
SOURCE = Path(__file__).with_name("faulty.c")
_library: Path | None = None


def library() -> Path:
    """The preloaded library, compiled once per process."""
    global _library
    if _library is None:
        _library = Path(tempfile.mkdtemp(prefix="crdt-redis-faulty-")) / "faulty.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", _library,
                        SOURCE, "-ldl"], check=True)
    return _library


class Disk:
    """Of one data directory. It must be of one file system with its parent, where the bookkeeping
    goes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.realpath(folder))
        self._own = self.folder.with_name(self.folder.name + ".disk")
        self._shadow = self._own / "shadow"
        self._shadow.mkdir(parents=True)
        self._trace = self._own / "trace"
        self._trace.touch()
        control = self._own / "control"
        control.write_bytes(bytes(RULE.size * RULES))
        with open(control, "r+b") as f:
            self._rules = mmap.mmap(f.fileno(), 0)
        self.environment = {"LD_PRELOAD": str(library()), "FAULTS_DIR": str(self.folder),
                            "FAULTS_CONTROL": str(control),
                            "FAULTS_TRACE": str(self._trace), "FAULTS_SHADOW": str(self._shadow)}
        if self.folder.exists():
            self.begin_again()

    # ---- faults ----------------------------------------------------------------------------------

    def fail(self, call: str, match: str = "", error: int = 0, *, skip: int = 0, times: int = -1,
             delay: float = 0.0, most: int = 0) -> int:
        """From the next call on: those of CALLS on names that contain `match` fail with this errno
        (0: they do not; KILL: the process dies), but for the first `skip`, and at most `times`.
        delay: seconds each takes; most: bytes each moves. Returns a number for hits()."""
        for i in range(RULES):
            if RULE.unpack_from(self._rules, i * RULE.size)[0] == 0:
                # The kind of call comes last: before it, there is no rule.
                RULE.pack_into(self._rules, i * RULE.size, 0, error, skip, times, int(delay * 1e6),
                               most, 0, match.encode())
                struct.pack_into("=i", self._rules, i * RULE.size, CALLS[call])
                return i
        raise ValueError("too many rules")

    def hits(self, rule: int) -> int:
        return RULE.unpack_from(self._rules, rule * RULE.size)[6]

    def heal(self) -> None:
        self._rules[:] = bytes(len(self._rules))

    def fill(self) -> None:
        """No room: nothing can be created or grow. What is there can be read, cut, renamed and
        synced."""
        import errno
        for call in ("create", "write"):
            self.fail(call, "", errno.ENOSPC)

    # ---- power -----------------------------------------------------------------------------------

    def events(self) -> list[list[str]]:
        return [line.split(" ", 2) for line in self._trace.read_text().splitlines()]

    def forget(self) -> None:
        """What was removed from the folder by now is gone for good: it takes no room any more."""
        for path in self._shadow.iterdir():
            if path.stat().st_nlink == 1:
                path.unlink()

    def power_loss(self, rng: random.Random | None = None, target: Path | None = None) -> Path:
        """Make the directory (or `target`) what a disk might hold that lost its power now. Without
        rng: the least that was promised. Returns the directory. Only after the process is dead."""
        events = self.events()
        promised = max((i for i, e in enumerate(events) if e[0] == "names"), default=-1)
        changes = [i for i, e in enumerate(events) if e[0] in ("name", "gone") and i > promised]
        last = rng.choice([promised, *changes]) if rng else promised
        names: dict[str, str] = {}
        synced: dict[str, int] = {}
        for i, e in enumerate(events):
            if e[0] == "sync":
                synced[e[1]] = int(e[2])
            elif e[0] == "name" and i <= last:
                names[e[2]] = e[1]
            elif e[0] == "gone" and i <= last:
                names.pop(e[1], None)
        content = {}
        for name, inode in names.items():
            whole = (self._shadow / inode).read_bytes()
            least = min(synced.get(inode, 0), len(whole))
            kept = (least if rng is None
                    else rng.choice([least, len(whole), rng.randint(least, len(whole))]))
            content[name] = whole[:kept] + (bytes(rng.randint(0, len(whole) - kept)) if rng
                                            and rng.random() < 0.2 else b"")
        folder = target or self.folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
        if target is None:
            self.begin_again()
        return folder

    def begin_again(self) -> None:
        """What is in the directory now is on disk."""
        shutil.rmtree(self._shadow)
        self._shadow.mkdir()
        lines = []
        for path in self.folder.iterdir():
            s = path.stat()
            os.link(path, self._shadow / str(s.st_ino))
            lines += [f"name {s.st_ino} {path.name}\n", f"sync {s.st_ino} {s.st_size}\n"]
        self._trace.write_text("".join(lines) + "names\n")

    def close(self) -> None:
        self._rules.close()
        shutil.rmtree(self._own, ignore_errors=True)

"""One process per data directory.

flock on the file LOCK is held as long as the process lives, whatever way it ends, so there is no stale lock to remove by hand. The process id
inside is only for the message. flock (not fcntl) because the lock belongs to the open file: closing another descriptor
of the same file, in a library say, does not release it. On NFS, Linux turns it into a lock on the server.
"""
from __future__ import annotations

import fcntl
import os
from pathlib import Path

from crdtredis.errors import EXIT_DATA, StartError


class DirectoryLock:
    """Held from the constructor on. StartError when the directory is in use or cannot be locked."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "LOCK"
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise StartError(f"{self.path}: cannot be opened: {e.strerror}", EXIT_DATA) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StartError(f"{folder} is in use by another crdt-redis (process {owner}); each replica needs its own data_dir",
                             EXIT_DATA) from None
        except OSError as e:
            os.close(self._fd)
            raise StartError(f"{self.path}: cannot be locked: {e.strerror}", EXIT_DATA) from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except OSError:
            pass                        # a full disk: the id is a courtesy, the lock is what counts

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

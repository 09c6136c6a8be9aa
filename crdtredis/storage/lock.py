"""One process per data directory.

The directory itself is locked with flock, and the file LOCK in it: held as long as the process
lives, whatever way it ends, so there is no stale lock to remove by hand, and whoever removes LOCK
all the same admits nobody. The file is for versions that knew no other lock, for file systems where
a directory cannot be locked (NFS), and for the process id in it, which is only for the message.

flock (not fcntl) because the lock belongs to the open file: closing another descriptor of the same
file, in a library say, does not release it. On NFS, Linux turns it into a lock on the server.
"""
from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from crdtredis.errors import EXIT_DATA, StartError

log = logging.getLogger("crdtredis.storage")

LOCK = "LOCK"                           # name of the file


class DirectoryLock:
    """Held from the constructor on. StartError when the directory is in use or cannot be locked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LOCK
        self._fds: list[int] = []
        try:
            directory = self._lock(folder, os.O_RDONLY | os.O_DIRECTORY)
            file = self._lock(self.path, os.O_RDWR | os.O_CREAT)
        except BaseException:
            self.release()
            raise
        if not directory and not file:
            self.release()
            raise StartError(f"{self.path}: cannot be opened or locked", EXIT_DATA)
        if file:
            try:
                os.ftruncate(self._fds[-1], 0)
                os.pwrite(self._fds[-1], b"%d\n" % os.getpid(), 0)
            except OSError:
                pass                    # a full disk: the id is a courtesy, the lock is what counts

    def _lock(self, path: Path, flags: int) -> bool:
        """False where the one of the two cannot be had; StartError when somebody has it."""
        try:
            fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
            self._fds.append(fd)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(f"{self.folder} is in use by another crdt-redis (process "
                             f"{self._owner()}); "
                             "each replica needs its own data_dir", EXIT_DATA) from None
        except OSError as e:
            log.warning("%s cannot be locked: %s", path, e.strerror)
            return False
        return True

    def _owner(self) -> str:
        try:
            return self.path.read_bytes()[:20].decode("ascii", "replace").strip() or "unknown"
        except OSError:
            return "unknown"

    def release(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

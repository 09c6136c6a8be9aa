"""A file that is there whole, or not at all."""
from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from crdtredis.storage.format import sync_directory

ENDS = signal.SIGTERM, signal.SIGHUP


@contextmanager
def whole(to: Path) -> Iterator[BinaryIO]:
    """What the body writes gets the name once it is on disk, and nothing is left where the body or
    the disk fails, or a signal ends the process. Only its owner may read it. OSError: also where
    what has the name is no file (a device, a pipe), which stays. Main thread only."""
    if to.exists() and not to.is_file():
        raise OSError(errno.EEXIST, "it is there, and no file that could be replaced", str(to))
    to = to.resolve()                   # a link stays
    with ended_in_order():
        try:
            fd, draft = tempfile.mkstemp(prefix=f"{to.name}.", suffix=".part", dir=to.parent)
        except OSError as e:
            raise OSError(e.errno, e.strerror, str(to)) from None
        try:
            with open(fd, "w+b") as f:
                yield f
                f.flush()
                os.fsync(f.fileno())
            os.rename(draft, to)
            sync_directory(to.parent)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """What would end the process at once raises SystemExit."""
    mine = [s for s in ENDS if signal.getsignal(s) is signal.SIG_DFL]   # others stay ignored
    for s in mine:
        signal.signal(s, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        for s in mine:
            signal.signal(s, signal.SIG_DFL)

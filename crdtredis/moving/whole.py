"""A file that is there whole, or not at all."""
from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from crdtredis.storage.format import sync_directory


@contextmanager
def whole(to: Path) -> Iterator[BinaryIO]:
    """What the body writes gets the name once it is on disk, and nothing is left where the body or
    the disk fails. Only its owner may read it. OSError."""
    fd, draft = tempfile.mkstemp(prefix=f"{to.name}.", suffix=".part", dir=to.absolute().parent)
    try:
        with open(fd, "w+b") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.rename(draft, to)
        sync_directory(to.absolute().parent)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)

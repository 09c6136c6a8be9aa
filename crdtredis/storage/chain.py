"""Which parts of the segment files are the log? (format.py explains the chain.)

From the newest segment backwards, each header's `follows` says where the log goes on in an earlier file. The result is a list of links
in reading order; what is in no link is void.
"""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from crdtredis.storage.format import Foreign, FormatError, Header, read_header, segment_path


@dataclass(frozen=True)
class Link:
    path: Path
    header: Header
    end: int | None                     # the log leaves the file here; None: at its end (the newest segment, and repaired ones)

    @property
    def number(self) -> int:
        return self.header.number


class ChainError(Exception):
    """The chain is broken at this file."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path}: offset {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


def header_of(path: Path, number: int, replica_id: str | None) -> Header:
    """The header of one segment, checked against its name and owner. FormatError (CutShort), OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        header = read_header(fd)
    finally:
        os.close(fd)
    if replica_id is not None and header.replica != replica_id:
        raise Foreign(8, f"belongs to replica {header.replica!r}, not to {replica_id!r}")
    if header.number != number:
        raise FormatError(8, f"the header says segment {header.number}: the file was renamed or copied")
    return header


def read_chain(folder: Path, newest: int, replica_id: str | None, known: dict[int, Header] | None = None) -> list[Link]:
    """The links from the first segment to `newest`. ChainError where it is broken.

    known: headers read before, by number; those read now are added. A header never changes once it is written.
    """
    links: list[Link] = []
    number, end = newest, None
    while True:
        path = segment_path(folder, number)
        header = known.get(number) if known is not None else None
        if header is None:
            try:
                header = header_of(path, number, replica_id)
            except FormatError as e:
                raise ChainError(path, e.offset, e.reason) from None
            except FileNotFoundError:
                raise ChainError(path, 0, f"the file is missing, but segment {links[-1].number} continues it" if links else
                                 "the file is missing") from None
            if known is not None:
                known[number] = header
        links.append(Link(path, header, None if header.repaired else end))
        if header.follows is None:
            return links[::-1]
        number, end = header.follows
        if number >= header.number:
            raise ChainError(path, 8, f"the header says that it follows segment {number}")

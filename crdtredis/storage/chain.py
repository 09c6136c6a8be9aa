"""Which parts of the segment files are the log? (format.py explains the chain.)

From the newest segment backwards, each header's `follows` says where the log goes on in an earlier
file. The result is a list of links in reading order; what is in no link is void. Where the oldest
segments were removed (format.py), the chain ends at the oldest that is left.

A link keeps only what the chain needs of a header. Clocks and actors grow with the replica's past,
and all headers together with its square: whoever wants one reads it then (`Link.header`) and lets
it go.
"""
from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crdtredis.storage.format import (CutShort, Foreign, FormatError, Header, LogPosition, opened,
                                      read_header, segment_path)


@dataclass(frozen=True, slots=True)
class Link:
    folder: Path
    number: int
    begin: int                          # the first record begins here
    end: int | None                     # the log leaves the file here; None: at its end (the newest
                                        # segment, and repaired ones)
    follows: LogPosition | None
    repaired: bool
    stage: int | None = None            # that is joined before the first record

    @property
    def path(self) -> Path:
        return segment_path(self.folder, self.number)

    def header(self) -> Header:
        """Read again. FormatError, OSError."""
        return header_of(self.path, self.number, None)


class ChainError(Exception):
    """The chain is broken at this file. torn: as a crash could have left it (the file or the end of
    its header is missing)."""

    def __init__(self, path: Path, number: int, offset: int, reason: str, torn: bool) -> None:
        super().__init__(f"{path}: offset {offset}: {reason}")
        self.path = path
        self.number = number
        self.offset = offset
        self.reason = reason
        self.torn = torn


def header_of(path: Path, number: int, replica_id: str | None, brief: bool = False) -> Header:
    """The header of one segment, checked against its name and owner. FormatError (CutShort),
    OSError. brief: see read_header."""
    with opened(path) as fd:
        header = read_header(fd, brief)
    if replica_id is not None and header.replica != replica_id:
        raise Foreign(8, f"belongs to replica {header.replica!r}, not to {replica_id!r}")
    if header.number != number:
        raise FormatError(8, f"the header says segment {header.number}: the file was renamed or "
                             "copied")
    return header


def index_of(links: Sequence[Link], number: int) -> int:
    """Of the first link whose number is at least this."""
    return bisect_left(links, number, key=lambda link: link.number)


def read_chain(folder: Path, newest: int, replica_id: str | None,
               known: Sequence[Link] = (), first: int = 1) -> list[Link]:
    """The links up to `newest`, from the first segment on, or from number `first`, where those
    before were removed. ChainError where it is broken.

    known: the links as they were once. Only what has come since is read: a header never changes
    once it is written.
    """
    links: list[Link] = []
    number, end = newest, None
    while True:
        at = index_of(known, number)
        if at < len(known) and known[at].number == number:
            link = known[at]
            links.append(replace(link, end=None if link.repaired else end))
            return [*known[:at], *reversed(links)]
        path = segment_path(folder, number)
        try:
            header = header_of(path, number, replica_id, brief=True)
        except FormatError as e:
            raise ChainError(path, number, e.offset, e.reason, isinstance(e, CutShort)) from None
        except FileNotFoundError:
            what = f", but segment {links[-1].number} continues it" if links else ""
            raise ChainError(path, number, 0, f"the file is missing{what}", True) from None
        links.append(Link(folder, number, header.size, None if header.repaired else end,
                          header.follows,
                          header.repaired, header.joined.stage if header.joined else None))
        if header.follows is None or header.follows[0] < first:
            return links[::-1]
        number, end = header.follows
        if number >= links[-1].number:
            reason = f"the header says that it follows segment {number}"
            raise ChainError(path, links[-1].number, 8, reason, False)

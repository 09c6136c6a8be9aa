"""The log as the sync thread reads it, while the engine goes on writing it.

Peers that lack more than memory holds are served from the segment files. The start is the last
segment whose header's ceiling the peer's clock covers: everything in earlier ones it has. From
there on every record is given out; cutting what the peer has is the caller's business (it does so
anyway).

What stays at home (core/home.pxi) is left out here: nobody else gets it.

A reader is a position, a segment's number and an offset in it, and nothing else: no file stays open
and no bytes are kept for one that pauses, so it may come back after days and goes on where it was.

Reading beside the writer is safe because the reader never goes beyond the position that the writer
published after its write, and closed segments do not change. The oldest may be removed at any time
(retention.py): `Removed` then says that the place is gone. When a failed file gave way to another
(format.py, the chain) while it was being read, the reader goes on in the new one: what had been
void and is read twice is known by its dots.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from crdtredis._core import shared_batch
from crdtredis.clocks import Clock, join, lacking, observed
from crdtredis.storage.batch import declaration
from crdtredis.storage.chain import ChainError, Link, index_of, read_chain
from crdtredis.storage.format import Header, LogPosition, opened, read_batches, segment_path


T = TypeVar("T")


class Removed(Exception):
    """The segment of that position was removed: its reader looks for another place."""


class LogReader:
    """For worker threads; nothing here changes but the links that are known."""

    def __init__(self, folder: Path, position: Callable[[], LogPosition],
                 batch_bytes: int = 1 << 18, first: Callable[[], int] = lambda: 1) -> None:
        """position: SegmentWriter.position, where the log ends now. batch_bytes: of one read,
        unless a record is larger. first: SegmentLog.first, which ascends before a file goes."""
        self._folder = folder
        self._position = position
        self._first = first
        self._batch = batch_bytes
        self._links: list[Link] = []    # as last read; replaced, never changed

    def links(self) -> list[Link]:
        """The chain up to the open segment. Cost: linear in the segments that were begun since the
        last call."""
        links, newest, first = self._links, self._position()[0], self._first()
        if links and links[0].number < first:
            links = links[index_of(links, first):]
        if not links or links[-1].number != newest:
            # A segment's position in the chain is settled when the next one begins.
            links = read_chain(self._folder, newest, None, links, first)
        self._links = links
        return links

    def _steadily(self, look: Callable[[], T]) -> T:
        """Again, where a file went while it looked."""
        while True:
            first = self._first()
            try:
                return look()
            except (ChainError, FileNotFoundError):
                if self._first() == first:
                    raise

    def floor(self) -> Clock:
        """Ops up to there are not in the log, or not all: those before the oldest segment (where a
        repair left that unknown, a later one), and those that came with a stage."""
        return self._steadily(self._floor)

    def _floor(self) -> Clock:
        links = self.links()
        for link in links:
            header = link.header()
            if header.ceiling is not None or link.follows is None:
                break
        floor = dict(header.clock if header.ceiling is None else header.ceiling)
        for link in links:
            if link.stage is not None:
                header = link.header()
                join(floor, lacking(header.joined.before, header.clock))
        return floor

    def find(self, clock: Clock) -> LogPosition:
        """A position before which `clock` covers every op that the log holds."""
        return self._steadily(lambda: self._start(clock))[1]

    def _start(self, clock: Clock) -> tuple[Header, LogPosition]:
        """The last segment where a reader with this clock may begin: format.py says where that
        is."""
        links = self.links()
        i = len(links) - 1
        header = links[i].header()
        while i > 0:
            before = links[i - 1].header()
            known = header.ceiling is not None and observed(clock, header.ceiling)
            if known and header.clock != before.clock:
                break
            i, header = i - 1, before
        return header, (header.number, header.size)

    def read(self, position: LogPosition) -> tuple[bytes, LogPosition]:
        """The records from a position on, as a Batch of about `batch_bytes` but of one record at
        least, and the position behind them; b"" at the end of the log as it is now. Raises Removed,
        FormatError on a damaged record, OSError."""
        try:
            found = self._steadily(lambda: self._read(position))
        except (ChainError, FileNotFoundError):
            if position[0] >= self._first():
                raise
            raise Removed from None
        if position[0] < self._first():         # its place among the links may have been lost
            raise Removed
        return found

    def _read(self, position: LogPosition) -> tuple[bytes, LogPosition]:
        number, at = position
        while True:
            newest, end = self._position()
            links = self.links() if number != newest else []
            i = index_of(links, number)
            # closed, perhaps only now: then the chain says where it ends
            if links:
                mine = links[i] if links[i].number == number else None
                end = at if mine is None else mine.end
                if end is None:
                    end = os.stat(mine.path).st_size
            if at < end:
                with opened(segment_path(self._folder, number)) as fd:
                    for batch, after, _ in read_batches(fd, at, end, self._batch, self._batch):
                        at = after
                        batch = shared_batch(batch)
                        if batch:
                            return batch, (number, at)
            if not links:
                return b"", (number, at)
            following = links[i + (links[i].number == number)]
            number, at = following.number, following.begin

    def since(self, clock: Clock) -> Iterator[bytes]:
        """Batches, from `find` up to the end of the log as it is when it is reached. The first
        declares the actors of the ops before."""
        header, position = self._steadily(lambda: self._start(clock))
        if header.actors:
            yield declaration(header.actors)
        while True:
            batch, position = self.read(position)
            if not batch:
                return
            yield batch

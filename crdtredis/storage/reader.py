"""The log as the sync thread reads it, while the engine goes on writing it.

Peers that lack more than memory holds are served from the segment files. The start is the last segment whose header's clock
the peer's clock covers: everything in earlier ones it has. From there on every record is given out; cutting what the peer has is
the caller's business (it does so anyway).

Reading beside the writer is safe because the reader never goes beyond the place that the writer published after its write, and
closed segments do not change. When a failed file gave way to another (format.py, the chain) while it was being read, the reader
goes on in the new one: what had been void and is read twice is known by its dots.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from crdtredis.storage.chain import Link, read_chain
from crdtredis.storage.format import Clock, Header, Place, covered, declaration, read_batches


class LogReader:
    """For worker threads; each iteration has its own file descriptor."""

    def __init__(self, folder: Path, place: Callable[[], Place], batch_bytes: int = 1 << 18) -> None:
        """place: SegmentWriter.place, where the log ends now."""
        self._folder = folder
        self._place = place
        self._batch = batch_bytes
        self._headers: dict[int, Header] = {}

    def links(self) -> list[Link]:
        return read_chain(self._folder, self._place()[0], None, self._headers)

    def floor(self) -> dict[int, int]:
        """The clock at the beginning of the oldest segment: ops up to there are not in the log."""
        return dict(self.links()[0].header.clock)

    def since(self, clock: Clock) -> Iterator[bytes]:
        """Batches of about `batch_bytes`, in log order, from a place before which `clock` covers every op, up to the end of the log as it
        is when it is reached. The first declares the actors of the ops before that place. Raises FormatError on a damaged record, OSError."""
        links = self.links()
        first = max((i for i, link in enumerate(links) if covered(link.header.clock, clock)), default=0)
        actors = links[first].header.actors
        if actors:
            yield declaration(actors)
        link: Link | None = links[first]
        while link is not None:
            fd = os.open(link.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                at = link.header.size
                while True:
                    number, end = self._place()
                    if number != link.number:               # closed, perhaps only now: then the chain says where it ends
                        links = self.links()
                        mine = next((x for x in links if x.number == link.number), None)
                        end = at if mine is None else os.fstat(fd).st_size if mine.end is None else mine.end
                    for batch, at, _ in read_batches(fd, at, end, self._batch):
                        yield batch
                    if number != link.number:
                        break
                    if self._place() == (number, at):
                        return
            finally:
                os.close(fd)
            link = next((x for x in links if x.number > link.number), None)

"""The agreement on ended processes (ended.py) as a server keeps it: on its disk, with its kernel
and its members. Everything here runs in the engine thread.
"""
from __future__ import annotations

import errno
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crdtredis.replication.ended import MOST, NAME, Ended
from crdtredis.storage.identity import replace_file

if TYPE_CHECKING:
    from crdtredis.replication.service import Service

log = logging.getLogger("crdtredis.replication")

ACTORS_A_SECOND = 200                   # that are looked at


class Agreement:
    """replica: the kernel (_core.Replica). make_durable: forces all of the log to the disk; whether
    that was done. closed: the actors of which nothing can come any more."""

    def __init__(self, replica: Any, folder: Path, service: Service,
                 make_durable: Callable[[], bool]) -> None:
        self._replica, self._service, self._make_durable = replica, service, make_durable
        self.closed: set[int] = set()
        self._due = 0.0                         # monotonic
        self._file, life = folder / NAME, secrets.randbits(63) | 1
        try:
            stored = self._file.read_bytes()
            self.ended = Ended(replica.id, life, stored)
        except (OSError, ValueError) as e:
            # as in a directory that was restored
            self.ended = Ended(replica.id, life)
            if not isinstance(e, FileNotFoundError):
                log.error("%s: damaged (%s): going on without it, tombstones stay until a peer has "
                          "told what stood there", self._file, e)
        replica.freeze(self.ended.limits())
        service.tell_ended(self.ended.told())

    def hear(self, told: bytes) -> None:
        """What a peer tells of it."""
        try:
            self.ended.hear(told)
        except ValueError as e:
            log.warning("what a peer says of processes that have ended is no such thing: %s", e)

    def step(self) -> bool:
        """Moves it on, while tombstones stay, or patches of strings, here or at another. Whether
        some may go now. Cost: linear in the actors, so it does nothing until they are due again."""
        ended, replica = self.ended, self._replica
        if time.monotonic() < self._due:
            return False
        stats = replica.stats()
        if not (ended.own.turn or ended.acks or stats["tombstones"] or stats["patched"]):
            return False
        self._due = time.monotonic() + stats["actors"] / ACTORS_A_SECOND
        members, stranger = self._service.members_there(), self._service.stranger()
        if not members or stranger:         # who is no member yet may have more than they have
            ended.waits_for = stranger
            return False
        clock, actors = replica.clock_ids(), [a for a in replica.actors() if a[3]]
        newest: dict[str, int] = {replica.id: replica.epoch}
        for _, name, epoch, _ in actors:
            newest[name] = max(newest.get(name, 0), epoch)
        try:
            ended.step(replica.actor, members, [a for a, name, epoch, _ in actors
                                                if epoch < newest[name]], clock, replica.freeze,
                       self._store)
        except OSError as e:
            log.warning("%s cannot be written: %s", self._file, e.strerror)
            return False
        self._service.tell_ended(ended.told())
        closed = set(ended.closed(members, clock)) - self.closed
        if closed:
            self.closed |= closed
            replica.close(closed)
        return bool(closed)

    def warnings(self) -> list[str]:
        """What somebody should see to, for /health."""
        return [f"it is agreed on {MOST} processes that have ended, and on no more: of further "
                "ones tombstones stay, and what is remembered of strings that change "
                "(operation.md, Ended processes)"] if self.ended.is_full else []

    def _store(self, data: bytes) -> None:
        if not self._make_durable():
            raise OSError(errno.EIO, "the log before it cannot be made durable")
        replace_file(self._file, data)

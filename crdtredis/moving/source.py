"""A live server that data are moved from: it takes us for a replica (SYNC), so it sends a snapshot,
and from then on each command that changes something.

What comes is written to files at once, since a server drops a replica that lags by more than its
output buffer may hold: the snapshot to one, the commands to several of PIECE bytes, of which those
that have been read are removed.
"""
from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from crdtredis.moving.commands import Command, Commands
from crdtredis.moving.snapshot import Damaged
from crdtredis.moving.target import Address, Connection, ServerError

PIECE = 64 << 20


class Source:
    """`folder`: for the files, some GB perhaps; whoever made it removes it."""

    def __init__(self, address: Address, folder: Path) -> None:
        self.address, self.folder = address, folder
        self.connection = Connection(address)
        self.failure = ""               # why no more commands come
        self.received = self.read = 0   # bytes of commands
        self._changed = threading.Condition()
        self._ends = False

    def begin(self) -> int:
        """How many bytes the snapshot has."""
        c = self.connection
        c.socket.sendall(b"SYNC\r\n")
        while (line := c.line()) in (b"\n", b"\r\n"):
            pass                        # "still at work"
        if not line.startswith(b"$") or not line[1:].strip().isdigit():
            raise ServerError(f"{self.address}: {line[:200].decode('utf-8', 'replace').strip()}")
        return int(line[1:])

    def snapshot(self, size: int) -> Iterator[int]:
        """Receives it; how many bytes are here. Commands come from then on."""
        c = self.connection
        with open(self.folder / "snapshot", "wb") as f:
            while f.tell() < size:
                if not (piece := c.file.read1(min(1 << 20, size - f.tell()))):
                    raise ServerError(f"{self.address} closed the connection")
                f.write(piece)
                yield f.tell()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        number = 0
        try:
            while True:
                path = self.folder / f"commands-{number}"
                number += 1
                with open(path, "wb", buffering=0) as f:
                    while f.tell() < PIECE:
                        piece = self.connection.file.read1(1 << 20)
                        if not piece:
                            raise ServerError("it closed the connection")
                        f.write(piece)
                        with self._changed:
                            self.received += len(piece)
                            self._changed.notify()
        except TimeoutError:
            self.failure = "it was silent for a minute"
        except (OSError, ValueError, ServerError) as e:
            self.failure = str(e)
        with self._changed:
            self._changed.notify()

    def stop(self) -> None:
        """Nothing more is waited for: `commands` ends once it has given out what is here."""
        with self._changed:
            self._ends = True
            self._changed.notify()

    def commands(self) -> Iterator[list[Command]]:
        """What has come, in batches; an empty one about once a second while nothing comes. Ends
        after stop(), or with the connection (see `failure`)."""
        stream = Commands()
        number = offset = 0
        while True:
            with self._changed:
                if not self._ends and not self.failure and self.read == self.received:
                    self._changed.wait(1.0)
                upto, over = self.received, self._ends or bool(self.failure)
            if self.read == upto:
                if over:
                    return
                yield []
                continue
            with open(self.folder / f"commands-{number}", "rb") as f:
                f.seek(offset)
                piece = f.read(min(1 << 20, upto - self.read))
            if not piece:               # this file is full
                os.unlink(self.folder / f"commands-{number}")
                number, offset = number + 1, 0
                continue
            offset += len(piece)
            self.read += len(piece)
            try:
                yield stream.feed(piece)
            except Damaged as e:
                raise ServerError(f"{self.address} sends what is no command: {e}") from None

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
from typing import BinaryIO

from crdtredis.moving.commands import Command, Commands
from crdtredis.moving.progress import Progress
from crdtredis.moving.snapshot import Damaged
from crdtredis.moving.target import Address, Connection, ServerError, encode

PIECE = 64 << 20


def receive(c: Connection, f: BinaryIO, quiet: bool = False) -> None:
    """Asks for a snapshot, and writes it to a file."""
    try:
        c.socket.sendall(b"SYNC\r\n")
        while (line := c.line()) in (b"\n", b"\r\n"):
            pass                        # "still at work"
        if not line.startswith(b"$") or not line[1:].strip().isdigit():
            raise ServerError(f"{c.to}: {line[:200].decode('utf-8', 'replace').strip()}")
        size = int(line[1:])
        with Progress("bytes of the snapshot", size, quiet) as progress:
            while progress.done < size:
                if not (piece := c.file.read1(min(1 << 20, size - progress.done))):
                    raise ServerError(f"{c.to} closed the connection")
                f.write(piece)
                progress.step(len(piece))
    except TimeoutError:
        raise ServerError(f"{c.to}: it was silent for a minute") from None
    except ConnectionError as e:
        raise ServerError(f"{c.to}: {e.strerror}") from None


class Source:
    """`folder`: for the files, some GB perhaps; whoever made it removes it."""

    def __init__(self, address: Address, folder: Path) -> None:
        self.address, self.folder = address, folder
        self.connection = Connection(address)
        self.failure = ""               # why no more commands come
        self.received = self.read = 0   # bytes of commands
        self._changed = threading.Condition()
        self._ends = False

    def snapshot(self, once: bool) -> Path:
        """Receives it. Commands come from then on; once: they need not, so a server that gives none
        (ours) does not refuse."""
        if not once:
            self.connection.run([encode([b"REPLCONF", b"listening-port", b"0"])])
        path = self.folder / "snapshot"
        with open(path, "wb") as f:
            receive(self.connection, f)
        threading.Thread(target=self._receive, daemon=True).start()

        return path

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

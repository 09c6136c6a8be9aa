"""A connection to a server: commands in a pipeline, replies read behind it."""
from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

PATIENCE = 60.0             # seconds without a byte


class ServerError(Exception):
    """A server cannot be reached, or says what ends the work."""


class Address(NamedTuple):
    host: str
    port: int
    user: str
    password: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def address(text: str) -> Address:
    """Of redis://[[user]:password@]host[:port], or host:port. ValueError."""
    u = urlsplit(text if "://" in text else f"redis://{text}")
    if u.scheme != "redis" or not u.hostname or u.path not in ("", "/") or u.query:
        raise ValueError(f"{text!r}: expected redis://[[user]:password@]host[:port], or host:port")
    return Address(u.hostname, u.port or 6379, unquote(u.username or ""),
                   unquote(u.password or ""))


def encode(argv: Sequence[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(argv), b"".join([b"$%d\r\n%b\r\n" % (len(a), a) for a in argv]))


class Connection:
    """To the server at this address, authenticated. ServerError, from each method too."""

    def __init__(self, to: Address) -> None:
        self.to = to
        try:
            self.socket = socket.create_connection((to.host, to.port), PATIENCE)
        except OSError as e:
            raise ServerError(f"{to} cannot be reached: {e.strerror or e}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", 1 << 16)
        if to.password:
            self("AUTH", *([to.user] if to.user else []), to.password)

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def __call__(self, *argv: str):
        """The reply to one command. ServerError where it is an error."""
        reply = self.run([encode([a.encode() for a in argv])])[0]
        if isinstance(reply, Exception):
            raise ServerError(f"{self.to}: {reply}")
        return reply

    def run(self, commands: Sequence[bytes]) -> list:
        """The replies to encoded commands; an error is a `Refused` in its place."""
        try:
            self.socket.sendall(b"".join(commands))
            return [self.reply() for _ in commands]
        except OSError as e:
            raise ServerError(f"{self.to}: {e.strerror or e}") from None

    def line(self) -> bytes:
        line = self.file.readline(1 << 16)
        if not line.endswith(b"\n"):
            raise ServerError(f"{self.to} closed the connection")
        return line

    def reply(self):
        line = self.line()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refused(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            n = int(rest)
            return None if n < 0 else self.file.read(n + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise ServerError(f"{self.to} does not speak Redis's protocol: {line[:40]!r}")


class Refused(Exception):
    """An error reply."""

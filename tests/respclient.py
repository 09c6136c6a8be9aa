"""A RESP client small enough to trust: what the tests and benches talk to servers with.

It sends commands as arrays of bulk strings (`send`), and reads replies either as the exact bytes of
one complete reply (`raw`), which is what differential tests compare, or as Python values (`read`).
Calling the connection does both. Client libraries translate, retry and reconnect on their own; a
test that says "the server answered this" must not have such a helper in between.

Values: simple and bulk strings are `bytes`, integers and booleans as such, doubles `float`, nulls
`None`, arrays and pushes `list`, sets `list`, maps `dict`, an error is a `ReplyError`, raised by a
call and returned by `read` (so that it can stand inside an array).
"""
from __future__ import annotations

import socket


class ReplyError(Exception):
    """An error reply; `str()` is its text without the leading '-'."""

    def __eq__(self, other):
        return isinstance(other, ReplyError) and str(self) == str(other)

    __hash__ = Exception.__hash__


def encode(*argv) -> bytes:
    """One command as the array of bulk strings that every client sends. Strings are sent as UTF-8,
    numbers as their text."""
    parts = [b"*%d\r\n" % len(argv)]
    for a in argv:
        a = a if isinstance(a, bytes) else str(a).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(a), a))
    return b"".join(parts)


class Connection:
    """One client connection to 127.0.0.1:port, or to a Unix socket when `port` is a path."""

    def __init__(self, port: int | str, *, resp: int = 2, password: str | None = None,
                 timeout: float = 20.0):
        if isinstance(port, int):
            self.socket = socket.create_connection(("127.0.0.1", port), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(port)
        self.buffer, self.at = b"", 0
        if resp == 3 or password:
            self("HELLO", resp, *(["AUTH", "default", password] if password else []))

    def close(self) -> None:
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __call__(self, *argv):
        """Send one command and return its reply; an error reply is raised."""
        self.send(*argv)
        value = self.read()
        if isinstance(value, ReplyError):
            raise value
        return value

    def send(self, *argv) -> None:
        self.socket.sendall(encode(*argv))

    def pipeline(self, commands) -> list:
        """Send all commands at once and return their replies, errors among them as values."""
        commands = list(commands)
        self.socket.sendall(b"".join(encode(*c) for c in commands))
        return [self.read() for _ in commands]

    # replies
    # ----------------------------------------------------------------------------------------------
    def raw(self) -> bytes:
        """The bytes of one complete reply."""
        start = self.at
        self._skip()
        out = self.buffer[start:self.at]
        if self.at > 1 << 20 or self.at == len(self.buffer):
            self.buffer, self.at = self.buffer[self.at:], 0
        return out

    def read(self):
        """The value of one complete reply."""
        return decode(self.raw())

    def _fill(self) -> None:
        more = self.socket.recv(1 << 18)
        if not more:
            raise ConnectionError("the server closed the connection; unread: "
                                  f"{self.buffer[self.at:][:200]!r}")
        self.buffer += more

    def _line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n", self.at)) < 0:
            self._fill()
        line = self.buffer[self.at:end]
        self.at = end + 2
        return line

    def _skip(self) -> None:
        left = 1
        while left:
            left -= 1
            line = self._line()
            kind = line[:1]
            if kind in b"$=!" and line[1:] != b"-1":
                self.at += int(line[1:]) + 2
                while len(self.buffer) < self.at:
                    self._fill()
            elif kind in b"*~>" and line[1:] != b"-1":
                left += int(line[1:])
            elif kind == b"%":
                left += 2 * int(line[1:])
            elif kind not in (b"+", b"-", b":", b",", b"_", b"#", b"(", b"*", b"$"):
                raise AssertionError(f"not a reply: {line!r}")


def decode(raw: bytes):
    """The value of the one complete reply in `raw`; anything after it is a fault."""
    value, at = _value(raw, 0)
    assert at == len(raw), f"bytes after the reply: {raw[at:]!r}"
    return value


def _value(raw: bytes, at: int):
    end = raw.index(b"\r\n", at)
    kind, text, at = raw[at:at + 1], raw[at + 1:end], end + 2
    if kind == b"+":
        return text, at
    if kind == b"-":
        return ReplyError(text.decode(errors="replace")), at
    if kind in b":(":
        return int(text), at
    if kind == b",":
        return float(text), at
    if kind == b"#":
        return text == b"t", at
    if kind == b"_" or text == b"-1":
        return None, at
    n = int(text)
    if kind in b"$=!":
        assert raw[at + n:at + n + 2] == b"\r\n", "a bulk string without its end"
        body = raw[at:at + n]
        return (body[4:] if kind == b"=" else ReplyError(body.decode()) if kind == b"!"
                else body), at + n + 2
    items = []
    for _ in range(2 * n if kind == b"%" else n):
        item, at = _value(raw, at)
        items.append(item)
    return (dict(zip(map(_hashable, items[::2]), items[1::2])) if kind == b"%" else items), at


def _hashable(value):
    return tuple(value) if isinstance(value, list) else value


def elements(raw: bytes) -> list[bytes]:
    """The elements of one array reply, each as its own bytes."""
    at = raw.index(b"\r\n") + 2
    out = []
    while at < len(raw):
        _, end = _value(raw, at)
        out.append(raw[at:end])
        at = end
    return out

"""Commands as servers write them down: append only files ("AOF"), and what a server sends to its
replicas. They are handed on as the bytes that they came in."""
from __future__ import annotations

from typing import NamedTuple

from crdtredis.moving.snapshot import Damaged

MOST_ARGUMENTS = 1 << 20
LONGEST = 512 << 20         # bytes of an argument
LINE = 64                   # bytes of a line that counts; comments may have COMMENT
COMMENT = 1024


class Command(NamedTuple):
    name: bytes             # in upper case
    argument: bytes         # the first one, nearly always a key; b"": none
    raw: bytes


class Commands:
    """A stream of them, which begins at byte `at` of something; behind feed() `at` is where those
    that are whole end, comments and empty lines included."""

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self._held = bytearray()
        self._need = 0                  # so many bytes must be held before it pays to look again

    @property
    def held(self) -> int:
        """Bytes of one that is not whole yet."""
        return len(self._held)

    def feed(self, piece: bytes) -> list[Command]:
        """The commands that this piece makes whole. Damaged, then and ever after."""
        found: list[Command] = []
        self._held += piece
        at = 0
        while len(self._held) >= self._need and (end := self._end(at, found)):
            at = end
        del self._held[:at]
        self.at += at
        self._need = max(0, self._need - at)
        return found

    def _end(self, begin: int, found: list[Command]) -> int:
        """Where the command that begins there ends, which is added; 0: it is not whole."""
        held = self._held
        self._need = begin + 1
        if len(held) <= begin:
            return 0
        if held[begin] in b"#\r\n":                     # a comment; the sign of an idle connection
            return self._line(begin, COMMENT)
        if held[begin] not in b"*":
            raise Damaged(self.at + begin, "no command begins here")
        if not (at := self._line(begin, LINE)):
            return 0
        count = self._number(begin, at, b"*", MOST_ARGUMENTS)
        name = argument = b""
        for i in range(count):
            if not (text := self._line(at, LINE)):
                return 0
            end = text + self._number(at, text, b"$", LONGEST)
            if len(held) < end + 2:
                self._need = end + 2
                return 0
            if held[end:end + 2] != b"\r\n":
                raise Damaged(self.at + end, "an argument is longer than it says")
            if i == 0:
                name = bytes(held[text:end]).upper()
            elif i == 1:
                argument = bytes(held[text:end])
            at = end + 2
        if count:
            found.append(Command(name, argument, bytes(held[begin:at])))
        return at

    def _line(self, begin: int, most: int) -> int:
        """Where the next line begins; 0: this one is not whole."""
        end = self._held.find(b"\n", begin, begin + most)
        if end < 0 and len(self._held) >= begin + most:
            raise Damaged(self.at + begin, "a line without an end")
        return end + 1

    def _number(self, begin: int, end: int, sign: bytes, most: int) -> int:
        text = bytes(self._held[begin:end])
        digits = text[1:-2]
        if text[:1] != sign or text[-2:] != b"\r\n" or not digits.isdigit() or int(digits) > most:
            raise Damaged(self.at + begin, f"{sign.decode()} and a number are missing")
        return int(digits)

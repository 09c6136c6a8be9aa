"""Snapshot files ("RDB") of Redis 2.6 to 8 and of Valkey: which keys they hold, and where.

Values are not decoded here: with its type byte before it a value has the form that RESTORE takes,
so only its end must be found, for which commands/rdb.pyx reads it. Modules' values are passed over
and told.
"""
from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from crdtredis.commands import rdb
from crdtredis.moving.target import encode

MAGICS = b"REDIS", b"VALKEY"
HEAD = 9                    # bytes of magic and version
SEAL = 11                   # bytes that payload() adds to those of a value

# What stands in place of a type byte.
SLOTS, LIBRARY, _, MODULE, IDLE, FREQ, AUX, SIZES, AT_MS, AT_S, SELECT, END = range(0xf4, 0x100)
LENGTHS = {IDLE: 1, SIZES: 2, SLOTS: 3}
# Types that RESTORE does not take here.
MODULE_VALUE = 7
# A collection of so many bytes is made part by part, not by one RESTORE, for which servers have a
# limit.
LARGE = 64 << 20
LONGEST = 512 << 20         # bytes of an argument, in servers that do not say
DATABASES = 16
PART = 10_000               # words of a command
PART_BYTES = 1 << 20
# type: (the command that adds to it, how many words an element is)
ADDED = {**dict.fromkeys((1, 10, 14, 18), ("RPUSH", 1)), **dict.fromkeys((2, 11, 20), ("SADD", 1)),
         **dict.fromkeys((3, 5, 12, 17), ("ZADD", 2)), **dict.fromkeys((4, 9, 13, 16), ("HSET", 2))}
HASH_VALKEY = 22            # of which Redis had another form


class Damaged(Exception):
    """The file is not what it should be, from byte `at` on."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(f"byte {at}: {why}")
        self.at = at


class Key(NamedTuple):
    db: int
    name: bytes
    deadline: int           # ms since 1970; 0: none
    type: int               # the type byte
    begin: int              # of the value
    end: int
    untaken: str            # what it is that cannot be taken; "": it can


class Library(NamedTuple):
    text: bytes


class Snapshot:
    """One at the beginning of `data`; `at` is how far it has been read."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def read(self) -> Iterator[Key | Library]:
        """All that it holds, in its order. Damaged: where it is no snapshot, holds what nobody
        knows, or ends too early; at its end where the checksum is wrong."""
        head = bytes(self.take(HEAD))
        version = next((head[len(m):] for m in MAGICS if head.startswith(m)), b"")
        if not version.isdigit():
            raise Damaged(0, "this is no snapshot")
        db = deadline = 0
        while (kind := self.number(1)) != END:
            if kind == AT_MS:
                deadline = self.number(8)
            elif kind == AT_S:
                deadline = self.number(4) * 1000
            elif kind == SELECT:
                db = self.length()
            elif kind == LIBRARY:
                yield Library(self.text())
            elif kind == MODULE:
                begin = self.at
                yield Key(db, b"", 0, kind, begin, self.at,
                          f"what module {self.module()} keeps besides")
            elif kind == AUX:
                self.text(), self.text()
            elif kind in LENGTHS:
                self.lengths(LENGTHS[kind])
            elif kind == FREQ:
                self.number(1)
            else:
                name, begin = self.text(), self.at
                untaken = self.value(kind, head)
                yield Key(db, name, deadline, kind, begin, self.at, untaken)
                deadline = 0
        if int(version) >= 5:
            end = self.at
            if (sum := self.number(8)) and sum != rdb.crc64(self.data[:end]):
                raise Damaged(end, "the checksum is wrong")

    # ---- values ----------------------------------------------------------------------------------

    def value(self, kind: int, head: bytes) -> str:
        """Passes over it. What it is, where it cannot be taken."""
        try:
            if kind != HASH_VALKEY or head.startswith(b"VALKEY"):
                self.at = rdb.value_end(self.data, self.at, kind)
                return ""
        except ValueError as e:
            raise Damaged(self.at, str(e)) from None
        except NotImplementedError:
            pass
        if kind == MODULE_VALUE:
            return f"value of module {self.module()}"
        raise Damaged(self.at, f"a value of the unknown type {kind}")

    def module(self) -> str:
        """Its value, or what it keeps besides; its name."""
        module = self.length()
        while part := self.length():
            if part in (1, 2):
                self.length()
            elif part in (3, 4):
                self.take(4 * (part - 2))
            elif part == 5:
                self.text()
            else:
                raise Damaged(self.at, f"a part of kind {part} in a module's value")
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        return "".join(letters[module >> 10 + 6 * i & 63] for i in reversed(range(9)))

    # ---- bytes -----------------------------------------------------------------------------------

    def take(self, n: int) -> memoryview:
        piece = self.data[self.at:self.at + n]
        if len(piece) < n:
            raise Damaged(len(self.data), "the file ends too early")
        self.at += n
        return piece

    def number(self, n: int) -> int:
        return int.from_bytes(self.take(n), "little")

    def read_at(self, read):
        try:
            found, self.at = read(self.data, self.at)
        except ValueError as e:
            raise Damaged(self.at, str(e)) from None
        return found

    def length(self) -> int:
        return self.read_at(rdb.length_at)

    def lengths(self, n: int) -> None:
        for _ in range(n):
            self.length()

    def text(self) -> bytes:
        return self.read_at(rdb.text_at)


# ---- as commands ---------------------------------------------------------------------------------

class Sent(NamedTuple):
    what: str               # of what is counted
    name: str               # of the command
    argument: bytes         # its first one
    raw: bytes


def assigned(data: memoryview, key: Key, longest: int) -> list[Sent]:
    name = key.name
    add, width = ADDED.get(key.type, ("", 0))
    if not add or key.end - key.begin <= min(LARGE, longest - SEAL):
        return [Sent("key", "RESTORE", name, encode(
            [b"RESTORE", name, b"%d" % key.deadline, payload(data, key), b"REPLACE", b"ABSTTL"]))]
    found = [Sent("key", "DEL", name, encode([b"DEL", name]))]
    words: list[bytes] = []
    size = 0
    for member, value in rdb.elements(data, key.begin, key.type):
        if add == "ZADD":
            member, value = repr(struct.unpack("<d", value)[0]).encode(), member
        words += (member, value) if width == 2 else (member or value,)
        size += len(member) + len(value)
        if len(words) >= PART or size >= PART_BYTES:
            found.append(Sent("part", add, name, encode([add.encode(), name, *words])))
            words, size = [], 0
    if words:
        found.append(Sent("part", add, name, encode([add.encode(), name, *words])))
    if key.deadline:
        found.append(Sent("part", "PEXPIREAT", name,
                          encode([b"PEXPIREAT", name, b"%d" % key.deadline])))
    return found


def payload(data: memoryview, key: Key) -> bytes:
    """What RESTORE takes."""
    return rdb.sealed(bytes([key.type]) + bytes(data[key.begin:key.end]))


def restoring(data: memoryview, longest: int, leave: Callable[[str, bytes], None],
              expired: Callable[[], None]) -> Iterator[list[Sent]]:
    """For each thing that a snapshot holds, the commands that make it elsewhere, in place of what
    is there; none where it has expired, or cannot be taken: leave(why, name) is called then.
    longest: bytes of an argument that the server takes."""
    now = int(time.time() * 1000)
    db = -1
    for entry in Snapshot(data).read():
        found = []
        if isinstance(entry, Library):
            found = [Sent("library", "FUNCTION", b"",
                          encode([b"FUNCTION", b"LOAD", b"REPLACE", entry.text]))]
        elif entry.untaken:
            leave(entry.untaken, entry.name)
        elif entry.db >= DATABASES:
            leave("key in a database beyond 15", entry.name)
        elif 0 < entry.deadline <= now:
            expired()
        elif entry.end - entry.begin + SEAL > longest and entry.type not in ADDED:
            leave("larger than proto-max-bulk-len of the server", entry.name)
        else:
            if entry.db != db:
                db = entry.db
                found = [Sent("select", "SELECT", b"%d" % db, encode([b"SELECT", b"%d" % db]))]
            found += assigned(data, entry, longest)
        yield found

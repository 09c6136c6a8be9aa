"""What stands in a data directory. This page comes before the code that writes and reads it.

    LOCK                        locked with flock while a server (or `check --repair`) uses the directory; holds the process id
    identity.json               {"format": 1, "replica_id": "eu-1", "epoch": 1767225600000}: see identity.py
    segment-<16 digits>.log     the log, numbered from 1
    *.damaged                   what `check --repair` set aside; nothing reads it

A segment:

    "CRDTSEG1"                  8 bytes
    record                      the header; its payload is JSON:
        format                  1
        replica                 whose log this is
        number                  the one in the file name
        created_ms              wall clock, for people
        actors                  [[id, replica, epoch], ...]: all that are named in `clock`, and perhaps more
        clock                   {"id": seq}: every op up to there stands in earlier segments; more may
        follows                 [number, offset], or null in the first segment: see below
        repaired                true in a segment that `check --repair` wrote: ops may be missing, and others wait for them
    record ...                  one or more per turn of the engine; the payload is an encoded Batch (proto/crdtredis.proto)

    record = length of payload (u32 LE), CRC-32C of those 4 bytes and the payload (u32 LE), payload: see core/segment.pxi

**The chain.** A segment continues the log at the place that its `follows` names. Nearly always that is the end of the segment before. After
a failed write or fdatasync it lies further back: what came behind that place is in doubt, is written again at the beginning of the new
segment, and is void where it stood. So the log is read from the newest segment backwards, place by place, to find what counts,
and then forwards. Whole segments can be void. `follows` also shows when a closed segment has lost its end.

    segment 7                       segment 8                     segment 9, follows [7, 5000]
    [header|records ... 5000|void]  [void: ...................]   [header|records of 7 from 5000 on, those of 8, what was pending|...]

**What may be torn.** Only the end of the newest segment: a crash came in the middle of a write. See recovery.py.

Numbers have no gaps. A change of this page changes `format` and the digit of the magic.
"""
from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from crdtredis._core import record, records_join

MAGIC = b"CRDTSEG1"
FORMAT = 1
CHUNK = 4 << 20                         # bytes read at once
HEADER_MOST = 64 << 20                  # bytes of a header record: 65535 actors fit several times
SEGMENT_NAME = re.compile(r"segment-(\d{16})\.log")

Clock = Mapping[int, int]               # actor id -> seq
Actor = tuple[int, str, int]            # id, replica, epoch
Place = tuple[int, int]                 # segment number, offset in it


class FormatError(Exception):
    """These bytes are not what this page says: offset in the file and the reason."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"offset {offset}: {reason}")
        self.offset = offset
        self.reason = reason


class CutShort(FormatError):
    """The file ends within the header: it was being created."""


class Foreign(FormatError):
    """A segment of another replica."""


@dataclass(frozen=True)
class Header:
    replica: str
    number: int
    created_ms: int
    actors: tuple[Actor, ...]
    clock: dict[int, int]
    follows: Place | None
    repaired: bool = False
    size: int = 0                       # bytes of magic and header record: where the first record begins


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:016d}.log"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segment files in the directory, ascending."""
    return sorted(int(m[1]) for name in os.listdir(folder) if (m := SEGMENT_NAME.fullmatch(name)))


def encode_header(h: Header) -> bytes:
    payload = orjson.dumps({"format": FORMAT, "replica": h.replica, "number": h.number, "created_ms": h.created_ms,
                            "actors": [list(a) for a in h.actors], "clock": {str(a): s for a, s in h.clock.items()}, "follows": h.follows,
                            **({"repaired": True} if h.repaired else {})})
    return MAGIC + record(payload)


def read_header(fd: int) -> Header:
    """The header of an open segment file. FormatError where it is not one, CutShort where the file ends before it is complete."""
    start = os.pread(fd, len(MAGIC) + 8, 0)
    if start[:len(MAGIC)] != MAGIC[:len(start)]:
        if start.strip(b"\0") or os.pread(fd, 1 << 16, 0).strip(b"\0"):
            raise FormatError(0, f"does not begin with {MAGIC.decode()}: no segment of this format version")
        raise CutShort(0, "holds nothing but zeros")
    size = 16 + int.from_bytes(start[8:12], "little")
    if len(start) < 16:
        raise CutShort(0, "ends within the header")
    if size > HEADER_MOST:
        raise FormatError(8, "the header record is damaged")
    data = os.pread(fd, size, 0)
    if len(data) < size:
        raise CutShort(0, "ends within the header")
    payload, end, count, _ = records_join(data, 8, 1)
    if count != 1 or end != size:
        raise FormatError(8, "the header record is damaged")
    try:
        j = orjson.loads(payload)
        if j["format"] != FORMAT:
            raise FormatError(8, f"format {j['format']}, this program reads format {FORMAT}")
        return Header(j["replica"], j["number"], j["created_ms"], tuple((int(a), str(r), int(e)) for a, r, e in j["actors"]),
                      {int(a): int(s) for a, s in j["clock"].items()}, tuple(j["follows"]) if j["follows"] else None,
                      bool(j.get("repaired")), size)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise FormatError(8, f"the header is not what the format says: {e!r}") from None


def read_batches(fd: int, begin: int, end: int, most: int = 1 << 20, chunk: int = CHUNK) -> Iterator[tuple[bytes, int, int]]:
    """The records of a segment file between two offsets, joined to Batches of about `most` bytes: (Batch, offset behind it, records).
    chunk: bytes read at once, unless a record is larger.

    FormatError at the first record that is not sound, CutShort if it reaches beyond `end`; all before it have been given out.
    Reads with pread in pieces: a mapped file would turn an I/O error or a shorter file into a signal that ends the process.
    """
    at, want = begin, chunk
    while at < end:
        data = pread(fd, min(want, end - at), at)
        pos, status = 0, 1
        while status == 1:
            batch, pos, count, status = records_join(data, pos, most)
            if count:
                yield batch, at + pos, count
        at += pos
        if status == -2:
            raise FormatError(at, "a damaged record (length or checksum)")
        if status == -1:
            head = data[pos:pos + 8]
            need = 8 + (int.from_bytes(head[:4], "little") if len(head) == 8 else 0)
            if at + need > end:
                raise CutShort(at, "a record that is cut short")
            want = max(chunk, need)
        if pos == 0 and len(data) < min(want, end - at) and at + len(data) >= os.fstat(fd).st_size:
            raise CutShort(at, "the file ends here")


def pread(fd: int, size: int, at: int) -> bytes:
    """os.pread that goes on to `size` bytes or the end of the file: one call gives at most 2 GiB."""
    data = os.pread(fd, size, at)
    while len(data) < size and (more := os.pread(fd, size - len(data), at + len(data))):
        data += more
    return data


def declaration(actors: Iterable[Actor]) -> bytes:
    """A Batch that declares these actors: what must come before ops that are read from the middle of the log."""
    out = bytearray()
    for actor, replica, epoch in actors:
        name = replica.encode()
        body = b"\x09" + actor.to_bytes(8, "little") + b"\x12" + varint(len(name)) + name + (b"\x18" + varint(epoch) if epoch else b"")
        out += b"\x0a" + varint(len(body)) + body
    return bytes(out)


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def covered(clock: Clock, by: Clock) -> bool:
    """Whether `by` has every op that `clock` has."""
    return all(seq <= by.get(actor, 0) for actor, seq in clock.items())


def sync_directory(folder: Path) -> None:
    """Make creations and renames in the directory durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

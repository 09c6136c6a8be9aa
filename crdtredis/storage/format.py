"""What stands in a data directory. This page comes before the code that writes and reads it.

    LOCK                        locked with flock, as the directory itself is, while a server (or
                                `check`) uses the directory; holds the process id
    identity.json               {"format": 1, "replica_id": "eu-1", "epoch": 1767225600000,
                                "cluster": "default"}: see identity.py
    segment-<16 digits>.log     the log, numbered from 1; the oldest may have been removed
    checkpoint-<16 digits>.ckpt     the state as a walk found it; below
    stage-<16 digits>.state     the state of another replica, which was joined to this one's; below
    *.damaged                   what `check --repair` set aside; nothing reads it
    *.torn                      segments behind a torn end, set aside by a start (recovery.py);
                                nothing reads them

A segment:

    "CRDTSEG1"                  8 bytes
    record                      the header; its payload is JSON:
        format                  1
        replica                 whose log this is
        group                   the replication group that the operations are of. Left out: 0, the
                                only one so far
        number                  the one in the file name
        created_ms              wall clock, for people
        actors                  [[id, replica, epoch], ...]: all that are named in `clock`, and
                                perhaps more
        clock                   {"id": seq}: every op up to there stands in earlier segments
        ceiling                 {"id": seq}: no op beyond there stands in earlier segments. Left out
                                where it is `clock`, as it nearly always is; null where a repair
                                could not tell
        follows                 [number, offset], or null in the first segment: see below
        repaired                true in a segment that `check --repair` wrote: ops may be missing,
                                and others wait for them
        unsynced                [number, offset]: from there on the log was not known to be on disk
                                when this segment was begun. Left out where all of it was
        joined                  {"stage": number, "before": {"id": seq}}: between the segments
                                before and this one's records stands a stage (below). `clock` is the
                                one behind it, `before` the one before it. Left out where there is
                                none. Such a header has format 2, for a program that passed over
                                this would lack the stage's operations. A segment in which records
                                may have the shorter form has format 3, with `joined` or without: a
                                program that does not know them would take them for a torn end
    record ...                  one or more per loop iteration; the payload is an encoded Batch
                                (proto/crdtredis.proto). One without payload is a mark: all earlier
                                segments are on disk

    record = length of payload (u32 LE), CRC-32C of those 4 bytes and the payload (u32 LE), payload;
    or a shorter form of the same: see core/record.pxi

**The chain.** A segment continues the log at the position that its `follows` names. Nearly always
that is the end of the segment before. After a failed write or fdatasync it lies further back: what
came behind that position is in doubt, is written again at the beginning of the new segment, and is
void where it stood. So the log is read from the newest segment backwards, position by position, to
find what counts, and then forwards. Whole segments can be void. `follows` also shows when a closed
segment has lost its end.

    segment 7                       segment 8                     segment 9, follows [7, 5000]
    [header|records ... 5000|void]  [void: ...................]   [header|records of 7 from 5000 on,
                                    those of 8, what was pending|...]

**What may be torn.** The end of the log: a crash came in the middle of a write. That is the end of
the newest segment; or, where the power went while earlier ones were not on disk yet, a position
that `unsynced` allows and no mark behind it denies. See recovery.py.

**Where a reader may begin.** At a segment whose ceiling its clock covers: then it lacks nothing of
what stands before. Versions that wrote no ceiling gave a segment begun after a failed write the
clock of the one it follows, so of two with the same clock only the first is a beginning.

**A checkpoint** holds the state (checkpoint.py, proto/state.proto):

    "CRDTCHK1"                  8 bytes
    record                      the header; its payload is JSON:
        format                  1
        replica                 whose state this is
        number                  the one in the file name
        created_ms              wall clock, for people
        position                [segment, offset]: where in the log the walk began. All of the log
                                from there on is to be replayed on top of the state
        elements                [n, ...]: how many each database held then, about what is to come.
                                Versions before did not write it
    record ...                  the stream: one message State each. The last one is its End
    record                      the footer; its payload is JSON:
        end                     [segment, offset]: where in the log the walk ended. The state holds
                                operations up to there, so where the log has lost them (a copy from
                                under a running server, a disk that lied), the checkpoint is no good

A file of that name is whole and on disk; while it is written it ends in .tmp. The newest two are
kept; what is older is superseded.

**A stage** holds what a full sync brought (stage.py): the state of another replica, and what that
one logged while it gave it. A segment names it, `joined`; no other counts, and none is needed any
more once the positions of all checkpoints that are kept lie behind that segment's beginning.

    "CRDTSTG1"                  8 bytes
    record                      the header; its payload is JSON:
        format                  1
        replica                 whose directory this is
        number                  the one in the file name
        giver                   whose state it is
        buckets                 512 bytes in hexadecimal, a bit for each bucket of keys that is
                                here: see Sync in proto/replication.proto; null: all are
    record ...                  the stream: one message State each. The last one is its End
    record ...                  an encoded Batch each: the tail, in the giver's order
    record                      the footer; its payload is JSON:
        clock                   {"id": seq}: that of the stream's beginning, raised by the tail
        actors                  as in a segment
        records                 how many messages State,
        batches                 and Batches there are

**The beginning of the log.** Segments that end before the position of every checkpoint that is kept
are superseded, and removed in ascending order (retention.py). So the oldest segment may be any
number, where a checkpoint's position is in it or behind; its `follows` then leads to what is no
more. Its ceiling says what a reader must have. A first segment that follows nothing, whatever its
number, begins a log that needs no checkpoint.

Numbers of segments have no gaps between the oldest and the newest. A change of this page changes
`format` and the digit of the magic.
"""
from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from crdtredis._core import record, record_sound, records_join
from crdtredis.clocks import Actor, Clock

MAGIC = b"CRDTSEG1"
FORMAT = 1
FORMAT_JOINED = 2                       # of a header that names a stage
FORMAT_SHORT = 3                        # of a segment that may hold short records
READ_SIZE = 4 << 20                     # bytes read at once
HEADER_MOST = 64 << 20                  # bytes of a header record: 65535 actors fit several times
SEGMENT_NAME = re.compile(r"segment-(\d{16})\.log")

LogPosition = tuple[int, int]           # segment number, offset in it


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
class Joined:
    """A stage that counts as part of the log, before the segment that names it."""
    stage: int
    before: Clock                       # of the log in front of it


@dataclass(frozen=True)
class Header:
    replica: str
    number: int
    created_ms: int
    actors: tuple[Actor, ...]
    clock: Clock
    follows: LogPosition | None
    repaired: bool = False
    ceiling: Clock | None = None        # None: unknown
    unsynced: LogPosition | None = None
    joined: Joined | None = None
    short: bool = False                 # records may have the shorter form
    # bytes of magic and header record: where the first record begins
    size: int = 0


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"segment-{number:016d}.log"


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segment files in the directory, ascending."""
    return sorted(int(m[1]) for name in os.listdir(folder) if (m := SEGMENT_NAME.fullmatch(name)))


def encode_header(h: Header) -> bytes:
    fields = {"format": FORMAT_SHORT if h.short else FORMAT_JOINED if h.joined else FORMAT,
              "replica": h.replica, "number": h.number, "created_ms": h.created_ms,
              "actors": [list(a) for a in h.actors], "clock": as_json(h.clock),
              "follows": h.follows}
    if h.ceiling != h.clock:
        fields["ceiling"] = None if h.ceiling is None else as_json(h.ceiling)
    if h.repaired:
        fields["repaired"] = True
    if h.unsynced:
        fields["unsynced"] = h.unsynced
    if h.joined:
        fields["joined"] = {"stage": h.joined.stage, "before": as_json(h.joined.before)}
    return MAGIC + record(orjson.dumps(fields))


def as_json(clock: Clock) -> dict[str, int]:
    return {str(actor): seq for actor, seq in clock.items()}


def from_json(clock: dict[str, int]) -> dict[int, int]:
    return {int(actor): int(seq) for actor, seq in clock.items()}


def as_position(pair: list[int] | None) -> LogPosition | None:
    return (int(pair[0]), int(pair[1])) if pair else None


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of this file, closed at the end. An OSError of what is done with it names the
    file; so does one where something else is there, a FIFO, say, which would be waited for."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        yield fd
    except OSError as e:
        e.filename = e.filename or str(path)
        raise
    finally:
        os.close(fd)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset` on, fewer where the file ends. OSError. (One pread gives 2 GiB at
    most, and may give less.)"""
    pieces = []
    while size > 0 and (piece := os.pread(fd, size, offset)):
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_header(fd: int, brief: bool = False) -> Header:
    """The header of an open segment file. FormatError where it is not one, CutShort where the file
    ends before it is complete.

    brief: without what grows with the replica's past, actors and clocks, which then are empty."""
    start = os.pread(fd, len(MAGIC) + 8, 0)
    if start[:len(MAGIC)] != MAGIC[:len(start)]:
        if not MAGIC.startswith(os.pread(fd, 1 << 16, 0).rstrip(b"\0")):
            raise FormatError(0,
                              f"does not begin with {MAGIC.decode()}: no segment of this format "
                              "version")
        raise CutShort(0, "holds nothing but zeros")
    size = 16 + int.from_bytes(start[8:12], "little")
    if len(start) < 16:
        raise CutShort(0, "ends within the header")
    if size > HEADER_MOST:
        raise FormatError(8, "the header record is damaged")
    data = read_at(fd, size, 0)
    if len(data) < size or data[-1] == 0:
        # JSON does not end in a zero; a file that was enlarged before it was written does.
        raise CutShort(0, "ends within the header")
    payload, end, count, *_ = records_join(data, 8, 1)
    if count != 1 or end != size:
        raise FormatError(8, "the header record is damaged")
    try:
        j = orjson.loads(payload)
        joined = j.get("joined")
        short = j["format"] == FORMAT_SHORT
        expected = FORMAT_JOINED if joined else FORMAT
        if not short and j["format"] != expected:
            raise FormatError(8, f"format {j['format']}, this program reads formats {expected} "
                                 f"and {FORMAT_SHORT}")
        if j.get("group", 0) != 0:
            raise FormatError(8, f"of replication group {j['group']}, this program knows only 0")
        if brief:
            j |= {"actors": [], "clock": {}, "ceiling": None}
        if joined:
            joined = Joined(int(joined["stage"]), {} if brief else from_json(joined["before"]))
        clock, repaired = from_json(j["clock"]), bool(j.get("repaired"))
        ceiling = None if repaired else clock           # of a header that names none
        if "ceiling" in j:
            ceiling = None if j["ceiling"] is None else from_json(j["ceiling"])
        actors = tuple((int(a), str(r), int(e)) for a, r, e in j["actors"])
        return Header(j["replica"], j["number"], j["created_ms"], actors, clock,
                      as_position(j["follows"]), repaired, ceiling,
                      as_position(j.get("unsynced")), joined or None, short, size)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        raise FormatError(8, f"the header is not what the format says: {e!r}") from None


def read_batches(fd: int, begin: int, end: int, most: int = 1 << 20,
                 read_size: int = READ_SIZE) -> Iterator[tuple[bytes, int, int]]:
    """As read_records, without the marks."""
    for batch, after, count, _ in read_records(fd, begin, end, most, read_size):
        yield batch, after, count


def read_records(fd: int, begin: int, end: int, most: int = 1 << 20,
                 read_size: int = READ_SIZE) -> Iterator[tuple[bytes, int, int, int]]:
    """The records of a segment file between two offsets, joined to Batches of about `most` bytes:
    (Batch, offset behind it, records without the marks, marks). A Batch is empty where only marks
    are left. read_size: bytes read at once, unless a record is larger.

    FormatError at the first record that is not sound, CutShort if it reaches beyond `end`; all
    before it have been given out. Reads with pread in pieces: a mapped file would turn an I/O error
    or a shorter file into a signal that ends the process.
    """
    at = begin
    while at < end:
        size = min(read_size, end - at)
        data = read_at(fd, size, at)
        pos, status = 0, 1
        while status == 1:
            before = pos
            batch, pos, count, marks, status = records_join(data, pos, most)
            if pos > before:
                yield batch, at + pos, count, marks
        at += pos
        if status == -2:
            raise FormatError(at, "a damaged record (length or checksum)")
        if pos == 0 and len(data) < size:
            raise CutShort(at, "the file ends here")
        if status == -1:
            head = data[pos:pos + 8]
            need = 8 + (payload_size(head) if len(head) == 8 else 0)
            if at + need > end:
                raise CutShort(at, "a record that is cut short")
            if is_short(head):
                read_size = max(read_size, need)
            elif need > read_size:                  # one large op: held once
                payload = read_at(fd, need - 8, at + 8)
                if len(payload) < need - 8:
                    raise CutShort(at, "the file ends here")
                if not record_sound(head, payload):
                    raise FormatError(at, "a damaged record (length or checksum)")
                at += need
                yield payload, at, 1, 0
                del payload


def is_short(head: bytes) -> bool:
    """Whether these 8 bytes begin a record of the shorter form (core/record.pxi)."""
    return len(head) == 8 and head[3] >> 4 == 15


def payload_size(head: bytes) -> int:
    """Bytes of a record behind these 8."""
    return int.from_bytes(head[:4], "little") & (2047 if is_short(head) else -1)


def holds_mark(fd: int, begin: int) -> bool:
    """Whether there is a mark among the records from `begin` to the end of the file, as far as they
    are sound."""
    try:
        for *_, marks in read_records(fd, begin, os.fstat(fd).st_size):
            if marks:
                return True
    except FormatError:
        pass                            # where the sound ones end
    return False


def sync_directory(folder: Path) -> None:
    """Make creations and renames in the directory durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

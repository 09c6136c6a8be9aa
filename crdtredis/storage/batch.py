"""Encoded Batches by hand (proto/crdtredis.proto), where storage needs one that nobody made, or one
op of many.

Not for what happens often: receiving, cutting and joining Batches is the kernel's.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crdtredis.clocks import Actor
from crdtredis.storage.format import FormatError

VARINT, FIXED64, BYTES = 0, 1, 2        # wire types
# of keys that stay at home (core/home.pxi): whose their ops are, the first of their databases
HOME_ACTOR, HOME_DB = 0x656d6f68, 17


@dataclass(frozen=True)
class Op:
    """One op of a Batch."""
    actor: int
    seq: int
    raw: bytes                          # the encoded Op
    declared: bytes                     # the declarations of its Batch

    @property
    def alone(self) -> bytes:
        """A Batch that holds nothing else."""
        return self.declared + run(self.actor, [self.raw])

    @property
    def without_effect(self) -> bytes:
        """An encoded Op in its place that changes nothing: it deletes a key that no client made.
        b"" where the head of it cannot be read, so that none can be made.

        Replicas that apply it instead of the other are equal to each other, and the ops behind it
        can be applied."""
        try:
            parts = list(fields(self.raw))
        except FormatError:
            return b""
        head = b"".join(self.raw[begin:end] for number, _, _, begin, end in parts if number < 4)
        if [number for number, wire, _, _, _ in parts if number in (1, 2)] != [1, 2]:
            return b""
        key = b"\0set aside\0" + self.actor.to_bytes(8, "little") + self.seq.to_bytes(8, "little")
        db = b"\x10" + varint(HOME_DB) if self.actor == HOME_ACTOR else b""
        return head + sized(4, b"\x08\x03" + db + sized(3, key))


def ops_of(batch: bytes) -> Iterator[Op]:
    """The ops of a Batch in order; what stays at home of one is another. FormatError where it is
    none."""
    declared = b""
    for number, wire, body, begin, end in fields(batch):
        if wire != BYTES or number not in (1, 2):
            raise FormatError(begin, "no field of a Batch")
        parts = list(fields(body))
        if not parts or parts[0][:2] != (1, FIXED64):
            raise FormatError(begin, "an actor without id")
        actor = int.from_bytes(parts[0][2], "little")
        if number == 1:
            declared += batch[begin:end]
            continue
        for n, w, raw, at, _ in parts[1:]:
            if n not in (2, 3) or w != BYTES:
                raise FormatError(begin + at, "no field of a Run")
            first = next(fields(raw), None)
            if first is None or first[:2] != (1, VARINT):
                raise FormatError(begin + at, "an op without seq")
            yield Op(actor if n == 2 else HOME_ACTOR, first[2], raw, declared)


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes, int, int]]:
    """(number, wire type, value, begin, end) of each field of an encoded message. FormatError."""
    at = 0
    while at < len(data):
        begin = at
        tag, at = read_varint(data, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = read_varint(data, at)
        elif wire in (FIXED64, BYTES):
            size = 8
            if wire == BYTES:
                size, at = read_varint(data, at)
            if size > len(data) - at:
                raise FormatError(begin, "a field that is cut short")
            value = data[at:at + size]
            at += size
        else:
            raise FormatError(begin, f"wire type {wire}")
        yield tag >> 3, wire, value, begin, at


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    n = shift = 0
    while True:
        if at == len(data) or shift > 63:
            raise FormatError(at, "a number that does not end")
        n |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return n, at


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def sized(number: int, body: bytes) -> bytes:
    """A field of bytes."""
    return varint(number << 3 | BYTES) + varint(len(body)) + body


def run(actor: int, ops: Iterable[bytes]) -> bytes:
    """Consecutive ops of one actor, as a field of a Batch."""
    return sized(2, b"\x09" + actor.to_bytes(8, "little") + b"".join(sized(2, op) for op in ops))


def declaration(actors: Iterable[Actor]) -> bytes:
    """A Batch that declares these actors: what must come before ops that are read from the middle
    of the log."""
    return b"".join(sized(1, b"\x09" + actor.to_bytes(8, "little") + sized(2, replica.encode()) +
                          (b"\x18" + varint(epoch) if epoch else b""))
                    for actor, replica, epoch in actors)

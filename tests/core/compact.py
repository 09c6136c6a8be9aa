"""The shorter form of an op's effects (crdtredis/core/compact.pxi), read and written as its
description says, without the kernel."""
from crdtredis.replication import crdtredis_pb2 as pb

NAME, VALUE, KEEP, RUN, WHOLE, OWN, REST, DB = (1 << i for i in range(8))
SAME = 128
# fields of an Effect that have a place of their own
PLACED = ("kind", "db", "key", "type", "name", "value", "keep", "run_seq", "whole")


def varint(v: int) -> bytes:
    out = bytearray()
    while v >= 128:
        out.append(v & 127 | 128)
        v >>= 7
    return bytes(out + bytes([v]))


def text(b: bytes) -> bytes:
    return varint(len(b)) + b


def zigzag(v: int) -> int:
    return (v << 1 ^ v >> 63) & 2**64 - 1


def compact(effects, actor: int) -> bytes:
    """Op.compact of these effects (pb.Effect), of an op of this actor (id)."""
    out, before = b"", None
    for e in effects:
        rest = pb.Effect()
        rest.CopyFrom(e)
        for name in PLACED:
            rest.ClearField(name)
        own = e.actor == actor != 0
        if own:
            rest.ClearField("actor")
        tail = rest.SerializeToString(deterministic=True)
        here = (e.kind, e.type, e.db, e.key)
        flags = (NAME * bool(e.name) | VALUE * bool(e.value) | KEEP * e.keep
                 | RUN * bool(e.run_seq) | WHOLE * bool(e.whole) | OWN * own | REST * bool(tail))
        if here == before:
            out += bytes([SAME | flags])
        else:
            out += bytes([e.kind | e.type << 3, flags | DB * bool(e.db)])
            out += (varint(e.db) if e.db else b"") + text(e.key)
        before = here
        out += b"".join(text(x) for x in (e.name, e.value) if x)
        out += varint(e.run_seq) if e.run_seq else b""
        out += varint(zigzag(e.whole)) if e.whole else b""
        out += text(tail) if tail else b""
    return out


def effects_of(op, actor: int) -> list:
    """The effects of a pb.Op of this actor (id), whatever their form. Of what is no such op,
    AssertionError or IndexError."""
    assert not (op.effects and op.compact)
    if not op.compact:
        return list(op.effects)
    data, at = op.compact, 0
    found: list = []

    def number() -> int:
        nonlocal at
        v = shift = 0
        while True:
            c, at = data[at], at + 1
            v |= (c & 127) << shift
            shift += 7
            if c < 128:
                return v

    def piece() -> bytes:
        nonlocal at
        n = number()
        at += n
        assert at <= len(data)
        return data[at - n:at]

    while at < len(data):
        head, at = data[at], at + 1
        e = pb.Effect()
        if head & SAME:
            last, flags = found[-1], head & ~SAME
            e.kind, e.type, e.db, e.key = last.kind, last.type, last.db, last.key
        else:
            flags, at = data[at], at + 1
            e.kind, e.type = head & 7, head >> 3
            e.db = number() if flags & DB else 0
            e.key = piece()
        e.name = piece() if flags & NAME else b""
        e.value = piece() if flags & VALUE else b""
        e.keep = bool(flags & KEEP)
        e.run_seq = number() if flags & RUN else 0
        whole = number() if flags & WHOLE else 0
        e.whole = whole >> 1 ^ -(whole & 1)
        if flags & REST:
            e.MergeFromString(piece())
        if flags & OWN:
            e.actor = actor
        found.append(e)
    return found

"""What travels between replicas, as bytes: framing, limits, versions, and the little that Python
must know of a Batch.

A body is [length of the head, 4 bytes little endian][head: a message of proto/replication.proto][an
encoded Batch]. The Batch is the op bytes as the kernel made them: this module hands them on and
never parses an op. Two things about a Batch are needed here:

- which ops it holds, how to cut those off that a peer has, and how to cut it into smaller ones. The
  kernel says all three (batch_ranges, slice_batch, split_batch), in one pass over the bytes.
- the declarations of actors at its very front, because an op may only be sent to a peer that knows
  the actors it names. The encoder puts declarations first, so reading them stops at the first byte
  that is none (`declarations`).

Everything from a peer is hostile until checked: every length is compared with what is there before
anything is allocated, a head is at most HEAD_MAX bytes, and whatever does not decode raises Refusal
with code MALFORMED. Pure: no socket, no clock.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping

from google.protobuf.message import DecodeError, Message

from crdtredis.clocks import Actor, Clock, actor_id
from crdtredis.replication import crdtredis_pb2 as ops, replication_pb2 as proto
from crdtredis.storage.batch import read_varint
from crdtredis.storage.format import FormatError

# raised when an older receiver could not understand a sender
PROTOCOL = 2
# raised when there is something that older ones do without; 3: members; 4: keeping; 5: ended;
# 6: consumers; 7: patches; 8: effects in the shorter form
SPEAKS = 8
CONTENT_TYPE = "application/x-crdt-redis"
HEAD_MAX = 4 << 20                      # a clock of 65535 actors takes about 1.2 MB
# a head, declarations of 65535 actors (10 MB), and a request's ops or a part of one
BODY_MAX = 32 << 20
# bytes of a Batch beyond which it is one op and travels in parts of so many
PART = 2 << 20
ACTORS_MOST = 65535                     # that a clock can have: core/actors.pxd
TEXT_MOST = 1000                        # characters of what a peer says
# bytes of such a Batch; beyond what is made today, since old logs hold larger ops
OP_MOST = 2 << 30


def one_line(text: str) -> str:
    """What a peer may have made goes into messages and replies: cut, and on one line."""
    return "".join(c if c.isprintable() else " " for c in text[:TEXT_MOST])


class Refusal(Exception):
    """One side says no. `code` is a proto.Code, `text` says why in words an operator can act on."""

    def __init__(self, code: int, text: str) -> None:
        text = one_line(text) or "no reason given"
        super().__init__(text)
        self.code, self.text = code, text

    @property
    def name(self) -> str:
        """Of its code; a newer peer may have codes that are not known here."""
        known = proto.Code.DESCRIPTOR.values_by_number.get(self.code)
        return known.name.lower().replace("_", " ") if known else f"code {self.code}"


def encode(head: Message, batch: bytes = b"") -> bytes:
    data = head.SerializeToString()
    return b"".join((len(data).to_bytes(4, "little"), data, batch))


def decode(kind: type[Message], body: bytes) -> tuple[Message, bytes]:
    """The head and the Batch behind it. Raises Refusal(MALFORMED)."""
    size = int.from_bytes(body[:4], "little") if len(body) >= 4 else HEAD_MAX + 1
    if size > HEAD_MAX or size > len(body) - 4:
        raise Refusal(proto.MALFORMED,
                      "the body is shorter than its head says, or the head longer than allowed")
    head = kind()
    try:
        head.ParseFromString(body[4:4 + size])
    except DecodeError as e:
        raise Refusal(proto.MALFORMED, f"the head is no {kind.DESCRIPTOR.name}") from e
    return head, body[4 + size:]


def entries(clock: Mapping[int, int]) -> list[proto.ClockEntry]:
    return [proto.ClockEntry(actor=a, seq=s) for a, s in clock.items()]


def to_clock(found: Collection[proto.ClockEntry]) -> Clock:
    """Raises Refusal(MALFORMED) where there are more entries than actors can be."""
    if len(found) > ACTORS_MOST:
        raise Refusal(proto.MALFORMED,
                      f"a clock of {len(found)} actors, where {ACTORS_MOST} are the most there can "
                      "be")
    return {e.actor: e.seq for e in found}


KeyDigests = dict[tuple[int, bytes], bytes]     # (database, key) -> 16 bytes


def encode_keys(keys: KeyDigests, unsure: bytes) -> bytes:
    """What stands behind the head of KEYS: a bitmap of the buckets that changed while they were
    looked at (512 bytes), then for each key its database and size (4 bytes each, little endian),
    its bytes and its digest (16 bytes)."""
    parts = [unsure]
    for (db, key), digest in keys.items():
        parts += db.to_bytes(4, "little"), len(key).to_bytes(4, "little"), key, digest
    return b"".join(parts)


def decode_keys(data: bytes) -> tuple[KeyDigests, bytes]:
    """Raises Refusal(MALFORMED)."""
    keys: KeyDigests = {}
    unsure, at = data[:512], 512
    while at < len(data):
        size = int.from_bytes(data[at + 4:at + 8], "little")
        end = at + 8 + size + 16
        if end > len(data):
            break
        keys[int.from_bytes(data[at:at + 4], "little"), data[at + 8:end - 16]] = data[end - 16:end]
        at = end
    if at != len(data):
        raise Refusal(proto.MALFORMED, "the digests of keys are cut short")
    return keys, unsure


def refusal_body(refusal: Refusal) -> bytes:
    return encode(proto.Refusal(code=refusal.code, text=refusal.text))


def declarations(batch: bytes) -> list[Actor]:
    """The actors declared at the front of a Batch. Raises Refusal where one is cut short, wrong or
    not what its id says."""
    found, at = [], 0
    while at < len(batch) and batch[at] == 0x0A:                # field 1 of Batch, length-delimited
        try:
            size, at = read_varint(batch, at + 1)
        except FormatError as e:
            raise Refusal(proto.MALFORMED, "a length is cut short or too long") from e
        if size > 4096 or size > len(batch) - at:
            raise Refusal(proto.MALFORMED, "a declaration of an actor is cut short or too long")
        try:
            actor = ops.Actor.FromString(batch[at:at + size])
        except DecodeError as e:
            raise Refusal(proto.MALFORMED, "a declaration of an actor does not decode") from e
        if actor.id != actor_id(actor.replica, actor.epoch):
            raise Refusal(proto.MALFORMED,
                          f"actor {actor.id:016x} is not what {actor.replica!r} in epoch "
                          f"{actor.epoch} is called")
        found.append(Actor(actor.id, actor.replica, actor.epoch))
        at += size
    return found

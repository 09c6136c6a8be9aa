"""The independent oracle: what must be there, read off the bare set of ops, with no state and no
merging.

An op is decoded from its stored bytes with the generated protobuf classes, so neither the kernel's
codec nor its cells take part. The rule is the one rule of the contract: an effect removes what its
replica had observed, and nothing else. It holds for every place: the string of a key, a field, a
member, an element of a list.

- A write survives unless another op that observed it (or a later effect of its own op) assigned or
  removed at the same place.
- An increment survives unless such an op removed or assigned there; increments do not remove. A
  counter is the sum of the surviving steps (a step: the total that an increment carries, less the
  total before it in its run) over the winning write's number.
- HyperLogLogs are strings: all that survive are shown together, before any other.
- A collection is the places that anything survives at; a list has them in the order of their
  positions, a sorted set by score.
- The deadline is the latest of the surviving deadline writes and of the surviving SETs that cleared
  it. That of a field likewise, with the writes to the field that did not keep it.
- A stream is its entries, which XTRIM removes up to an id, and a head. An XADD assigns to the
  entry and to the head's top, and adds one to its counter. It is there as long as any word about
  the top survives, and the greatest of those counts, as of those about what was deleted.
- Of several types under one key the first of TYPE_ORDER is seen.

Worked example: A `SET c 10`, synced; A `DEL c` || B `INCRBY c 5`. The delete observed the write and
not the increment, so only the step 5 survives: c is 5 everywhere.
"""
from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from fractions import Fraction

from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.compact import effects_of
from tests.core import hyperloglog
from tests.core.model import is_whole, number, number_text, sum_of
from tests.simulation.oracle_groups import GROUPS, Act, Bytes, packed
from tests.simulation.oracle_groups import shown as shown_group

PATCH = 7                               # pb.Kind
TYPE_ORDER = [pb.STREAM_HEAD, pb.LIST, pb.HASH, pb.ZSET, pb.SET, pb.STRING]
TYPE_NAMES = {pb.STRING: "string", pb.HASH: "hash", pb.SET: "set", pb.ZSET: "zset", pb.LIST: "list",
              pb.STREAM: "stream", pb.STREAM_HEAD: "stream"}
TOP, DELETED, ADDED = b"t", b"d", b"a"              # of the head of a stream


@dataclass
class Op:
    dot: tuple                      # ((replica, epoch), seq)
    stamp: int
    deps: dict                      # {(replica, epoch): seq}, in full
    effects: list                   # of pb.Effect

    def observed(self, dot) -> bool:
        return self.deps.get(dot[0], 0) >= dot[1]


class Ops:
    """The set of ops found in logs. Deps stand in an op only as far as they changed, so each
    actor's ops are read in order. `positions` keeps what was decoded, for the next Ops of the same
    world."""

    def __init__(self, positions: dict | None = None):
        self.ops: dict[tuple, Op] = {}
        self.names: dict[int, tuple] = {}
        self.deps: dict[tuple, dict] = {}
        self.positions = {} if positions is None else positions

    def read(self, batch: bytes) -> None:
        b = pb.Batch.FromString(batch)
        for a in b.actors:
            self.names[a.id] = (a.replica, a.epoch)
        for run in b.runs:
            actor = self.names[run.actor]
            for op in run.ops:
                if (actor, op.seq) in self.ops:
                    continue
                assert op.seq == 1 or (actor, op.seq - 1) in self.ops, (
                    f"a log holds op {op.seq} of {actor} and not the one before")
                deps = self.deps.get(actor, {}) | {self.names[d.actor]: d.seq for d in op.deps}
                self.deps[actor] = deps
                self.ops[actor, op.seq] = Op((actor, op.seq), op.stamp, deps | {actor: op.seq - 1},
                                             effects_of(op, run.actor))

    def clock(self) -> dict:
        out: dict = {}
        for actor, seq in self.ops:
            out[actor] = max(out.get(actor, 0), seq)
        return out

    def place(self, op: Op, i: int, effect) -> bytes | tuple:
        """Where in its collection an effect on one member acts: a list position as something that
        sorts, else the name."""
        if effect.type != pb.LIST:
            return effect.name
        known = (op.dot, i, effect.name)
        if known not in self.positions:
            self.positions[known] = position(effect.name, op.dot, self.names, i)
        return self.positions[known]


def total(effect) -> Fraction | float:
    """The total that an increment carries; a float where it is infinite or not a number."""
    if effect.HasField("exact"):
        return exact_value(effect.exact)
    return extended_value(effect.fraction) if effect.fraction else Fraction(effect.whole)


def exact_value(x) -> Fraction | float:
    """Of a message Exact."""
    if x.plus or x.minus:
        return math.nan if x.plus and x.minus else math.inf if x.plus else -math.inf
    return int.from_bytes(x.limbs, "little", signed=True) * Fraction(2) ** (64 * x.low)


def extended_value(data: bytes) -> Fraction | float:
    """Of an 80-bit number."""
    mantissa = int.from_bytes(data[:8], "little")
    sign_exponent = int.from_bytes(data[8:], "little")
    if sign_exponent & 0x7fff == 0x7fff:
        return (math.nan if mantissa << 1 & (1 << 64) - 1
                else math.copysign(math.inf, -1 if sign_exponent & 0x8000 else 1))
    value = mantissa * Fraction(2) ** (max(sign_exponent & 0x7fff, 1) - 16383 - 63)
    return -value if sign_exponent & 0x8000 else value


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at


def unzigzag(v):
    return v >> 1 ^ -(v & 1)


def position(data: bytes, dot: tuple, names: dict, place: int = 0) -> tuple:
    """The steps of a list position, given in the op `dot`, as tuples that sort as the kernel must
    sort them: by major, the dot of the run, offset, own dot. A dot there is ((replica, epoch), seq,
    effect index); `names` tells actors by their ids. place: of the effect in its op."""
    at, steps = 0, []

    def read_dot(actor, index=None):
        nonlocal at
        if actor is None:
            actor, at = names[int.from_bytes(data[at:at + 8], "little")], at + 8
        seq, at = read_varint(data, at)
        if index is None:
            index, at = read_varint(data, at)
        return actor, seq, index

    while at < len(data):
        flags, at = data[at], at + 1
        major = 0
        if not flags & 16:
            major, at = read_varint(data, at)
        offset, at = read_varint(data, at)
        if flags & 1:
            index = place
            if not flags & 64:
                index, at = read_varint(data, at)
            own = (*dot, index)
        else:
            own = read_dot(dot[0] if flags & 8 else None, 0 if flags & 64 else None)
        run = own if flags & 2 else read_dot(own[0] if flags & 4 else None,
                                             0 if flags & 32 else None)
        steps.append((unzigzag(major), run, unzigzag(offset), own))
    return tuple(steps)


@dataclass
class Value:
    """What a string, a field or an element reads; of a sorted set's member the score. `answers`:
    what may stand for it, since a client was shown it as the result of one of the increments."""
    text: bytes | None = None
    score: float | None = None
    any: bool = False                       # infinities met
    answers: list = field(default_factory=list)
    deadline: int | None = None             # of a field, ms

    def is_text(self, text: bytes | tuple | None) -> bool:
        """A field that has a deadline is (text, ms)."""
        if self.deadline is not None:
            text, deadline = text if isinstance(text, tuple) else (text, None)
            if deadline != self.deadline:
                return False
        if isinstance(text, bytes) and text[:4] == b"HYLL":     # whether it was counted is not told
            return text[:8] + text[16:] == (self.text or b"")[:8] + (self.text or b"")[16:]
        return text == self.text or text in map(number_text, self.answers)

    def is_score(self, score: float) -> bool:
        return self.any or score == self.score or score in self.answers


@dataclass
class Told:
    """One key: its visible type, {place: Value}, and its deadline in ms or None."""
    type: str
    members: dict = field(default_factory=dict)
    deadline: int | None = None
    head: tuple = ()                        # of a stream: top, max-deleted, entries-added, groups

    def visible(self, now: int) -> bool:
        return self.deadline is None or now <= self.deadline

    def shows(self, type: str, content) -> bool:
        """Is this what a client reads? `content`: bytes; {field: bytes}; a set of bytes; [(member,
        score)]; [bytes]; ({id: fields}, top, max-deleted, entries-added, groups)."""
        if type != self.type:
            return False
        m = self.members
        if type == "string":
            return m[b""].is_text(content)
        if type == "hash":
            return m.keys() == content.keys() and all(v.is_text(content[f]) for f, v in m.items())
        if type == "set":
            return m.keys() == content
        if type == "stream":
            return ({i: v.text for i, v in m.items()}, *self.head) == content
        if type == "zset":
            return len(content) == len(m) and all(n in m and m[n].is_score(s) for n,
                                                  s in content) and \
                content == sorted(content, key=lambda x: (x[1], x[0]))
        return [m[p].text for p in sorted(m)] == content


def told(found: Ops, now: int = 0) -> dict[tuple[int, bytes], Told]:
    """{(db, key): Told} for every key with content, expired or not; of fields those that have not
    expired."""
    # (db, key) -> {(type, place): [(op, index, what, payload)]}: "write", "add", "remove"
    values: dict[tuple, dict] = {}
    wide: dict[tuple, list] = {}            # (db, key) -> [(op, index, "remove", type or None)]
    deadlines: dict[tuple, list] = {}       # as values, for the deadline: "write", "remove"
    flushes: dict[int, list] = {}
    trims: dict[tuple, list] = {}           # (db, key) -> [(op, index, "remove", the last id)]
    groups: dict[tuple, list] = {}          # (db, key) -> [(group, Act)]
    added: dict[tuple, list] = {}           # (db, key) -> [(op, index, id)] of a stream's entries
    sums: dict[tuple, Fraction] = {}
    patches: dict[tuple, list] = {}         # (db, key) -> [(op, index, root or None, effect)]
    for op in sorted(found.ops.values(), key=lambda o: o.dot):
        for i, e in enumerate(op.effects):
            if e.kind == pb.FLUSH:
                flushes.setdefault(e.db, []).append((op, i, "remove", None))
                continue
            at = (e.db, e.key)
            if e.kind == pb.DEADLINE:
                who = found.names[e.actor] if e.actor else op.dot[0]
                deadlines.setdefault((*at, e.name) if e.type == pb.HASH else at,
                                     []).append((op, i, "write",
                                                 (e.stamp or op.stamp, who, True,
                                                  e.deadline or None)))
            elif e.kind == pb.DELETE:
                wide.setdefault(at, []).append((op, i, "remove", None))
                deadlines.setdefault(at, []).append((op, i, "remove", None))
            elif e.kind == PATCH:
                root = (found.names[e.actor], e.deadline) if e.actor else None
                patches.setdefault(at, []).append((op, i, root, e))
                values.setdefault(at, {}).setdefault((pb.STRING, b""), [])
            elif e.kind == pb.CLEAR:
                wide.setdefault(at, []).append((op, i, "remove", e.type))
            elif e.type == GROUPS:
                act = Act(op, i, chr(e.name[0]), Bytes(e.value))
                groups.setdefault(at, []).append((e.name[1:], act))
                if act.letter == "g":
                    values.setdefault(at, {}).setdefault((GROUPS, e.name[1:]), []).append(
                        (op, i, "write" if e.kind == pb.ASSIGN else "remove", act))
            elif e.type == pb.STREAM and e.kind == pb.REMOVE and e.keep:
                trims.setdefault(at, []).append((op, i, "remove", e.name))
            else:
                if e.type == pb.STREAM and e.kind == pb.ASSIGN:
                    added.setdefault(at, []).append((op, i, packed(e.name)))
                    head = values.setdefault(at, {})
                    head.setdefault((pb.STREAM_HEAD, TOP), []).append(
                        (op, i, "write", (op.stamp, op.dot[0], e.name, False)))
                    if e.run_seq:
                        run = (op.dot[0], at, e.run_seq, e.run_index)
                        head.setdefault((pb.STREAM_HEAD, ADDED), []).append(
                            (op, i, "add", (total(e) - sums.get(run, 0), None, False)))
                        sums[run] = total(e)
                place = (e.type, found.place(op, i, e))
                acts = values.setdefault(at, {}).setdefault(place, [])
                if e.kind == pb.ASSIGN:
                    acts.append((op, i, "write", (op.stamp, op.dot[0], Rooted.of(e.value, op, i)
                                                  if e.type == pb.STRING else e.value,
                                                  not e.keep)))
                    if e.type == pb.STRING and not e.keep:
                        deadlines.setdefault(at, []).append((op, i, "remove", None))
                    elif e.type == pb.HASH and not e.keep:
                        deadlines.setdefault((*at, e.name), []).append((op, i, "remove", None))
                elif e.kind == pb.INCREMENT:
                    run = (op.dot[0], at, place, e.run_seq, e.run_index)
                    acts.append((op, i, "add",
                                 (total(e) - sums.get(run, 0), extended_value(e.shown) if e.shown
                                  else None, e.wide)))
                    sums[run] = total(e)
                else:
                    acts.append((op, i, "remove", None))
                    if e.type == pb.HASH:
                        deadlines.setdefault((*at, e.name), []).append((op, i, "remove", None))
    out = {}
    for at, places in values.items():
        flushed = flushes.get(at[0], [])
        types: dict[int, dict] = {}
        clears, writes, creates = [], {}, {}
        for (type, place), acts in places.items():
            shown = pb.STREAM if type in (pb.STREAM_HEAD, GROUPS) else type
            removals = [w for w in wide.get(at, []) if w[3] in (None, shown)] + flushed
            if type == pb.STREAM:
                removals += [t for t in trims.get(at, []) if place <= t[3]]
            if type == GROUPS:
                creates[place] = [a for _, a in surviving(acts, removals)]
                continue
            if type == pb.STREAM:
                ops = [(op, i, what, (op, i)) for op, i, what, _ in acts]
                writes[packed(place)] = [w for _, w in surviving(ops, removals)]
            kept = surviving(acts, removals)
            if type == pb.STRING and at in patches:
                kept = changed(kept, acts, removals, patches[at])
            value = value_of(type, kept) if kept else None
            if kept and type == pb.STREAM_HEAD and place != ADDED:
                value = Value(max(p[2] for _, p in kept))
            if kept and type == pb.HASH:
                words = surviving(deadlines.get((*at, place), []), removals)
                value.deadline = latest(words, kept)
                if value.deadline is not None and now > value.deadline:
                    value = None
            if value:
                types.setdefault(type, {})[place] = value
                if type == pb.STRING:
                    clears = kept
        head = types.pop(pb.STREAM_HEAD, {})
        entries = types.pop(pb.STREAM, {})
        assert not entries or TOP in head, "an entry that is in no stream"
        if TOP in head:
            types[pb.STREAM_HEAD] = entries
        if not types:
            continue
        seen = next(t for t in TYPE_ORDER if t in types)
        about = ()
        if TOP in head:
            there = {i: w for i, w in writes.items() if w}
            about = *head_of(head, entries), {
                g: shown_group(found.names, c, [a for n, a in groups[at] if n == g], there,
                               added.get(at, []))
                for g, c in creates.items() if c}
        out[at] = Told(TYPE_NAMES[seen], types[seen],
                       latest(surviving(deadlines.get(at, []), flushed), clears), about)
    return out


class Rooted(bytes):
    """What a write wrote, with its op and the effect's index there."""

    @classmethod
    def of(cls, value: bytes, op: Op, index: int) -> Rooted:
        self = cls(value)
        self.op, self.index = op, index
        return self


def change(s: bytearray, e) -> None:
    if e.keep:
        s += e.value
        return
    at, skip, bits = e.run_seq // 8, e.run_seq % 8, 8 * len(e.value) - e.run_index
    s.extend(bytes(max(0, at + len(e.value) - len(s))))
    for b in range(skip, bits):
        mask = 128 >> b % 8
        s[at + b // 8] = s[at + b // 8] & ~mask | e.value[b // 8] & mask


def changed(kept: list, acts: list, wide: list, patches: list) -> list:
    """The string, where it was changed in place: what survived of the writes, each with the patches
    that name it, or what no write shows. A patch of a write removes others that it observed, and
    what belongs to none."""
    def acted(base: bytes, some: list) -> bytes:
        s = bytearray(base)
        for op, i, _, e in sorted(some, key=lambda p: (p[0].stamp, p[0].dot[0], p[1])):
            change(s, e)
        return bytes(s)

    out = []
    for what, payload in kept:
        if what == "write":
            w, at = payload[2].op, payload[2].index
            if any(root and root != w.dot and (i > at if o is w else o.observed(w.dot))
                   for o, i, root, _ in patches):
                continue
            mine = [p for p in patches if p[2] == w.dot and (p[0] is not w or p[1] > at)]
            payload = (*payload[:2], acted(payload[2], mine), payload[3])
        out.append((what, payload))
    removers = [(o, j) for o, j, what, _ in [*acts, *wide] if what != "add"]
    removers += [(o, j) for o, j, root, _ in patches if root]
    loose = [p for p in patches if not p[2] and not any(
        j > p[1] if o is p[0] else o.observed(p[0].dot) for o, j in removers)]
    if loose and all(what != "write" for what, _ in out):
        out.append(("write", (-1, ("", 0), acted(b"", loose), False)))
    return out


def head_of(head: dict, entries: dict) -> tuple:
    """Told.head. No stream ends below what was deleted, or has fewer added than there are."""
    deleted = head[DELETED].text if DELETED in head else bytes(16)
    added = int(head[ADDED].text) if ADDED in head else 0
    return max(head[TOP].text, deleted), deleted, max(added, len(entries))


def latest(words: list, writes: list) -> int | None:
    """The deadline that the latest word says, of the surviving deadline writes and of the writes to
    the content that cleared it; [(what, payload)] both. ms, or None."""
    said = [p for _, p in words]
    said += [(p[0], p[1], False, None) for what, p in writes if what == "write" and p[3]]
    return max(said, key=lambda w: w[:3])[3] if said else None


def surviving(acts: list, wide: list = ()) -> list:
    """[(what, payload)] of the writes and increments that nothing removed, `wide` neither. A write
    removes what was there before it."""
    removers = [(op, i) for op, i, what, _ in [*acts, *wide] if what != "add"]
    return [(what, payload) for op, i, what, payload in acts if what != "remove" and
            not any(j > i if o is op else o.observed(op.dot) for o, j in removers)]


def value_of(type: int, kept: list) -> Value:
    winner = max((p for what, p in kept if what == "write"), key=lambda w: w[:2], default=None)
    steps = [p[0] for what, p in kept if what == "add"]
    answers = [p[1] for what, p in kept if what == "add" and p[1] is not None]
    if type == pb.ZSET:
        base = struct.unpack("<d", winner[2])[0] if winner else 0.0
        parts = [Fraction(base) if math.isfinite(base) else base, *steps]
        if any(isinstance(p, float) for p in parts):
            return Value(any=bool(steps), score=base)
        return Value(score=float(sum(parts)), answers=answers)
    union = type == pb.STRING and hyperloglog.shown([p[2] for what, p in kept if what == "write"])
    if union:
        return Value(union)
    base = number(winner[2]) if winner else Fraction(0)
    if base is None or not steps:
        return Value(winner[2])
    is_real = (winner is not None and not is_whole(winner[2])
               or any(p[2] for what, p in kept if what == "add"))
    return Value(number_text(sum_of(base, steps, is_real)), answers=answers)

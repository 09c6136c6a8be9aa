"""The independent oracle: what must be there, read off the bare set of ops, with no state and no merging.

An op is decoded from its stored bytes with the generated protobuf classes, so neither the kernel's codec nor its cells take part. The
rule is the one rule of the contract: an effect removes what its replica had observed, and nothing else.

- A write survives unless another op that observed it (or a later effect of its own op) assigned or removed at the same place.
- An increment survives unless such an op removed or assigned there; increments do not remove. A counter is the sum of the surviving
  steps (a step: the total that an increment carries, less the total before it in its run) over the winning write's number.
- The deadline is the latest of the surviving deadline writes and of the surviving SETs that cleared it.

Worked example: A `SET c 10`, synced; A `DEL c` || B `INCRBY c 5`. The delete observed the write and not the increment, so only the
step 5 survives: c is 5 everywhere.
"""
from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.model import number, number_text


@dataclass
class Op:
    dot: tuple                      # ((replica, epoch), seq)
    stamp: int
    deps: dict                      # {(replica, epoch): seq}, in full
    effects: list                   # of pb.Effect

    def observed(self, dot) -> bool:
        return self.deps.get(dot[0], 0) >= dot[1]


class Ops:
    """The set of ops found in logs. Deps stand in an op only as far as they changed, so each actor's ops are read in order."""

    def __init__(self):
        self.ops: dict[tuple, Op] = {}
        self.names: dict[int, tuple] = {}
        self.deps: dict[tuple, dict] = {}

    def read(self, batch: bytes) -> None:
        b = pb.Batch.FromString(batch)
        for a in b.actors:
            self.names[a.id] = (a.replica, a.epoch)
        for run in b.runs:
            actor = self.names[run.actor]
            for op in run.ops:
                if (actor, op.seq) in self.ops:
                    continue
                assert op.seq == 1 or (actor, op.seq - 1) in self.ops, f"a log holds op {op.seq} of {actor} and not the one before"
                deps = self.deps.get(actor, {}) | {self.names[d.actor]: d.seq for d in op.deps}
                self.deps[actor] = deps
                self.ops[actor, op.seq] = Op((actor, op.seq), op.stamp, deps | {actor: op.seq - 1}, list(op.effects))

    def clock(self) -> dict:
        out: dict = {}
        for actor, seq in self.ops:
            out[actor] = max(out.get(actor, 0), seq)
        return out


def total(effect) -> Fraction:
    """The total that an increment carries."""
    if not effect.fraction:
        return Fraction(effect.whole)
    mantissa = int.from_bytes(effect.fraction[:8], "little")
    sign_exponent = int.from_bytes(effect.fraction[8:], "little")
    value = Fraction(mantissa) * Fraction(2) ** ((sign_exponent & 0x7fff) - 16383 - 63)
    return -value if sign_exponent & 0x8000 else value


@dataclass
class Told:
    """One key: its text, and its deadline in ms or None. `sum`: the text is this sum."""
    text: bytes
    deadline: int | None
    sum: Fraction | None = None

    def is_text(self, text: bytes | None) -> bool:
        """Is this what a replica may show? Replicas agree to the last byte, but they compute sums with 64-bit mantissas, which hold
        decimal fractions only nearly: those may be off by what rounding explains. And only sums of 64-bit numbers saturate."""
        exact = self.sum is None or self.sum.denominator & (self.sum.denominator - 1) == 0 and abs(self.sum) < 2**62
        if exact or text is None or text == self.text:
            return text == self.text
        return abs((number(text) or 0) - self.sum) <= max(1, abs(self.sum)) / 10**15

    def visible(self, now: int) -> bool:
        return self.deadline is None or now <= self.deadline


def told(found: Ops) -> dict[tuple[int, bytes], Told]:
    """{(db, key): Told} for every key with content, expired or not."""
    values: dict[tuple, list] = {}          # (db, key) -> [(op, index, what, payload)]: "write", "add", "remove"
    deadlines: dict[tuple, list] = {}       # the same for the deadline: "write", "remove"
    flushes: dict[int, list] = {}
    sums: dict[tuple, Fraction] = {}
    for op in sorted(found.ops.values(), key=lambda o: o.dot):
        for i, e in enumerate(op.effects):
            if e.kind == pb.FLUSH:
                flushes.setdefault(e.db, []).append((op, i, "remove", None))
                continue
            at = (e.db, e.key)
            v, d = values.setdefault(at, []), deadlines.setdefault(at, [])
            if e.kind == pb.ASSIGN:
                v.append((op, i, "write", (op.stamp, op.dot[0], e.value, not e.keep)))
                if not e.keep:
                    d.append((op, i, "remove", None))
            elif e.kind == pb.INCREMENT:
                run = (op.dot[0], at, e.run_seq, e.run_index)
                v.append((op, i, "add", total(e) - sums.get(run, 0)))
                sums[run] = total(e)
            elif e.kind == pb.DEADLINE:
                who = found.names[e.actor] if e.actor else op.dot[0]
                d.append((op, i, "write", (e.stamp or op.stamp, who, True, e.deadline or None)))
            else:
                v.append((op, i, "remove", None))
                if e.kind == pb.DELETE:
                    d.append((op, i, "remove", None))
    out = {}
    for at in values:
        kept = surviving(values[at] + flushes.get(at[0], []))
        writes = [p for what, p in kept if what == "write"]
        steps = [p for what, p in kept if what == "add"]
        if not writes and not steps:
            continue
        words = [p for what, p in surviving(deadlines[at] + flushes.get(at[0], []))]
        words += [(stamp, actor, False, None) for stamp, actor, _, clears in writes if clears]
        winner = max(writes, key=lambda w: w[:2], default=None)
        base = number(winner[2]) if winner else Fraction(0)
        counted = None if base is None or not steps else base + sum(steps)
        deadline = max(words, key=lambda w: w[:3])[3] if words else None
        out[at] = Told(winner[2] if counted is None else number_text(counted), deadline, counted)
    return out


def surviving(acts: list) -> list:
    """[(what, payload)] of the writes and increments that nothing removed. A write removes what was there before it."""
    removers = [(op, i) for op, i, what, _ in acts if what != "add"]
    return [(what, payload) for op, i, what, payload in acts if what != "remove" and
            not any(j > i if o is op else o.observed(op.dot) for o, j in removers)]

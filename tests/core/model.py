"""An executable model of strings, counters and deadlines under replication: dictionaries instead of
speed.

The kernel must give this model's outcome for every schedule (test_model.py). It is written to be
read: a key is a set of *writes*, a *counter entry* per actor, and the writes of its deadline
register; an op is a list of effects; applying one is a function of op and state.

Names are those of the kernel. An actor is (replica id, epoch), a dot is (actor, seq), a clock is
{actor: seq}. Totals are exact fractions; what is read of them is rounded once, to 64 bits of
mantissa. A single Redis rounds at every increment: where that shows, an increment carries what its
client was answered (`Counter entry.shown`), which holds as long as the key reads from the same
writes and counter entries.

HyperLogLogs are strings, too. Of writes that stand side by side the latest is shown; but all
HyperLogLogs together, register by register the greatest, and before any other text:

    A: PFADD h a writes {a}  ||  B: PFADD h b writes {b}  ->  {a, b};  A: SET h x as well  ->  {b}

    a, b = Model("a"), Model("b")
    ops = [a.execute([("add", 0, b"k", 7)], now=1), b.execute([("add", 0, b"k", 3)], now=1)]
    a.receive(ops[1]); b.receive(ops[0])
    assert a.get(0, b"k", now=1) == b.get(0, b"k", now=1) == b"10"
"""
from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from fractions import Fraction

from tests.core import hyperloglog

WHOLE = re.compile(rb"-?[1-9][0-9]*|0")
REAL = re.compile(rb"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
LEAST, MOST = -2**63, 2**63 - 1


def is_whole(text: bytes) -> bool:
    return WHOLE.fullmatch(text) is not None and LEAST <= int(text) <= MOST


def rounded(value: Fraction, bits: int = 64) -> Fraction:
    """The nearest number with so many bits of mantissa, of two the even one."""
    size = abs(value)
    unit = Fraction(2) ** (size.numerator.bit_length() - size.denominator.bit_length() - bits - 1)
    # two or three bits too fine, so not rounded yet
    while value and round(size / unit) >> bits:
        unit *= 2
    return round(value / unit) * unit


def number(text: bytes) -> Fraction | None:
    """The number that a string is, or None."""
    if is_whole(text):
        return Fraction(int(text))
    return rounded(Fraction(text.decode())) if REAL.fullmatch(text) else None


def sum_of(base: Fraction, parts: list, is_real: bool) -> Fraction:
    """What is read of a sum: whole numbers stop at the limits of 64 bits, unless they are
    `is_real`."""
    value = base + sum(parts)
    if value.denominator == 1 and (not is_real or LEAST <= value <= MOST):
        return min(max(value, Fraction(LEAST)), Fraction(MOST))
    return rounded(value)


def number_text(value: Fraction) -> bytes:
    """To 17 places."""
    if value.denominator == 1:
        return b"%d" % value.numerator
    places = 17
    digits = f"{round(abs(value) * 10**places):0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(
            ".").encode()


@dataclass
class Op:
    dot: tuple
    stamp: int
    deps: dict
    effects: list = field(default_factory=list)

    def observed(self, dot) -> bool:
        return dot == self.dot or self.deps.get(dot[0], 0) >= dot[1]


@dataclass
class Count:
    run: tuple                       # (seq, effect index) of the increment that began it
    seq: int                         # the newest increment, and the sum of the run up to there
    total: Fraction
    # the newest cancellation: the sum as of that increment counts no more
    cancelled_seq: int = 0
    cancelled: Fraction = Fraction(0)
    # (what was read, the number its client was shown): of the newest increment
    shown: tuple | None = None
    # it has left 64 bits as a floating point number: sums with it do not stop there
    wide: bool = False

    @property
    def live(self) -> bool:
        return self.seq > self.cancelled_seq


@dataclass
class Key:
    # dot -> (stamp, actor, value, clears the deadline)
    writes: dict = field(default_factory=dict)
    counts: dict = field(default_factory=dict)       # actor -> Counter entry
    # dot -> (stamp, actor, ms or None for "no deadline")
    deadlines: dict = field(default_factory=dict)

    def live(self) -> bool:
        return bool(self.writes) or any(t.live for t in self.counts.values())

    def empty(self) -> bool:
        return not (self.writes or self.counts or self.deadlines)

    def seen(self) -> list:
        return [(a, t.run, t.seq, t.total) for a, t in self.counts.items() if t.live]

    def stated(self):
        """(stamp, actor, whether a deadline write says it, ms or None): the latest word on the
        deadline; None when there is none."""
        words = [(s, a, True, ms) for s, a, ms in self.deadlines.values()]
        words += [(s, a, False, None) for s, a, _, clears in self.writes.values() if clears]
        return max(words, key=lambda w: w[:3], default=None)

    def context(self) -> frozenset:
        """All that the number is read from."""
        dot = max(self.writes, key=lambda d: self.writes[d][:2], default=None)
        return frozenset([dot, *((a, t.run, t.seq, t.cancelled_seq) for a, t in self.counts.items()
                                 if t.live)])

    def text(self) -> bytes | None:
        winner = max(self.writes.values(), key=lambda w: w[:2], default=None)
        live = [t for t in self.counts.values() if t.live]
        union = hyperloglog.shown([w[2] for w in self.writes.values()])
        if union is not None:
            return union
        if not live:
            return winner and winner[2]
        base = number(winner[2]) if winner else Fraction(0)
        if base is None:
            return winner[2]
        answers = [t.shown[1] for t in live if t.shown and t.shown[0] == self.context()]
        assert len(answers) < 2, "two increments that have seen each other"
        if answers:
            return number_text(answers[0])
        is_real = winner is not None and not is_whole(winner[2]) or any(t.wide for t in live)
        return number_text(sum_of(base, [t.total - t.cancelled for t in live], is_real))

    # effects
    def remove(self, op: Op, seen: list) -> None:
        self.writes = {d: w for d, w in self.writes.items() if not op.observed(d)}
        for actor, run, seq, total in seen:
            t = self.counts.get(actor)
            if t and t.run == run and seq > t.cancelled_seq:
                t.cancelled_seq, t.cancelled = seq, total
                if not t.live and actor == op.dot[0]:
                    # its own actor cancelled it: nobody needs the tombstone
                    del self.counts[actor]

    def clear_deadline(self, op: Op) -> None:
        self.deadlines = {d: w for d, w in self.deadlines.items() if not op.observed(d)}

    def increment(self, op: Op, run, total, shown=None, wide=False) -> None:
        actor, seq = op.dot
        t = self.counts.get(actor)
        if t is None or t.run < run:
            self.counts[actor] = Count(run, seq, total, shown=shown, wide=wide)
        elif t.run == run and seq >= t.seq:
            t.seq, t.total, t.shown, t.wide = seq, total, shown, wide


class Model:
    """One replica."""

    def __init__(self, replica: str, epoch: int = 1):
        self.actor = (replica, epoch)
        self.clock: dict = {}
        self.newest_stamp = 0
        self.keys: dict[tuple, Key] = {}               # (db, key) -> Key
        self.pending: list[Op] = []                       # ops that wait for others

    # ---- commands: each list of them is one op ---------------------------------------------------
    def execute(self, commands: list, now: int) -> Op | None:
        """("set" | "keep", db, key, value), ("add", db, key, step), ("incr", db, key, step as text:
        shown as Redis adds it), ("del", db, key, None), ("expire", db, key, ms; 0: never),
        ("flush", db, b"", None). The op, applied here; None when nothing was changed."""
        dot = self.actor, self.clock.get(self.actor, 0) + 1
        op = Op(dot, max(self.newest_stamp + 1, now << 16), dict(self.clock))
        for name, db, key, argument in commands:
            self._command(op, now, name, (db, key), argument)
        if not op.effects:
            return None
        self._record(op)
        return op

    def _make(self, op: Op, *effect) -> None:
        op.effects.append(effect)
        self._apply(op, effect)

    def _command(self, op: Op, now: int, name: str, at: tuple, argument) -> None:
        k = self.keys.get(at)
        if name == "flush":
            if any(db == at[0] for db, _ in self.keys):
                self._make(op, "flush", at,
                           {key: x.seen() for key, x in self.keys.items() if key[0] == at[0]})
        elif name == "del":
            if k:
                self._make(op, "delete", at, k.seen())
        elif name == "expire":
            if k and self.get(*at, now) is not None:
                self._make(op, "deadline", at, argument or None, op.stamp, self.actor)
        else:
            if k and self.get(*at, now) is None:       # what is hidden goes first
                self._make(op, "delete", at, k.seen())
            elif k and name in ("keep", "add", "incr"):
                # what was said about the deadline goes on being said
                word = k.stated()
                if word and (word[2] or name == "keep"):
                    self._make(op, "deadline", at, word[3], word[0], word[1])
            k = self.keys.get(at)
            if name in ("add", "incr"):
                t = k.counts.get(self.actor) if k else None
                run, total = ((t.run, t.total) if t and t.live
                              else ((op.dot[1], len(op.effects)), Fraction(0)))
                step, shown = number(argument) if name == "incr" else Fraction(argument), None
                wide = bool(t and t.live and t.wide)
                if name == "incr":
                    after = copy.deepcopy(k) if k else Key()
                    wanted = rounded(number(after.text() or b"0") + step)
                    wide |= not (LEAST <= step <= MOST and LEAST <= wanted <= MOST)
                    after.increment(op, run, total + step, wide=wide)
                    if after.text() != number_text(wanted):
                        shown = after.context(), wanted
                self._make(op, "increment", at, run, total + step, shown, wide)
            else:
                self._make(op, "assign", at, argument, name == "keep", k.seen() if k else [])

    # ---- ops -------------------------------------------------------------------------------------
    def receive(self, op: Op) -> None:
        """The one entrance for others' ops: known ones are dropped, those that come too early
        wait."""
        moved = all(op.dot != w.dot for w in self.pending)
        if moved:
            self.pending.append(op)
        while moved:
            moved = False
            for op in list(self.pending):
                actor, seq = op.dot
                if self.clock.get(actor, 0) >= seq:
                    self.pending.remove(op)
                elif (self.clock.get(actor, 0) == seq - 1
                      and all(self.clock.get(a, 0) >= n for a, n in op.deps.items())):
                    self.pending.remove(op)
                    for effect in op.effects:
                        self._apply(op, effect)
                    self._record(op)
                    moved = True

    def _record(self, op: Op) -> None:
        self.clock[op.dot[0]] = op.dot[1]
        self.newest_stamp = max(self.newest_stamp, op.stamp)

    def _apply(self, op: Op, effect: tuple) -> None:
        kind, at, *rest = effect
        if kind == "flush":
            for key in [key for key in self.keys if key[0] == at[0]]:
                self._apply(op, ("delete", key, rest[0].get(key, [])))
            return
        k = self.keys.setdefault(at, Key())
        if kind == "assign":
            value, keep, seen = rest
            k.remove(op, seen)
            if not keep:
                k.clear_deadline(op)
            k.writes[op.dot] = (op.stamp, op.dot[0], value, not keep)
        elif kind == "increment":
            k.increment(op, *rest)
        elif kind == "delete":
            k.remove(op, rest[0])
            k.clear_deadline(op)
        elif kind == "deadline":
            ms, stamp, actor = rest
            k.clear_deadline(op)
            k.deadlines[op.dot] = (stamp, actor, ms)
        if k.empty():
            del self.keys[at]

    # ---- views -----------------------------------------------------------------------------------
    def get(self, db: int, key: bytes, now: int) -> bytes | None:
        k = self.keys.get((db, key))
        if k is None or not k.live():
            return None
        word = k.stated()
        return None if word and word[3] is not None and now > word[3] else k.text()

    def deadline(self, db: int, key: bytes) -> int:
        """ms, or -1."""
        word = self.keys[db, key].stated() if (db, key) in self.keys else None
        return word[3] if word and word[3] is not None else -1

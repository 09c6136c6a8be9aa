"""An executable model of strings that are changed in place: SETRANGE, SETBIT, BITFIELD and APPEND
as effects, how replicas forget what they need no more, and what they do where that was too early.

A string is a *text*: the bytes of one SET and *patches*. A patch names its root, the dot of the SET
it changes; none: of a key without one, it belongs to the *loose* text. Changes:

  ("over", at, ((mask, bits), ...))    the bits of some bytes, from byte `at` on
  ("append", bytes)                    behind the end

The value of a text: its patches act one after the other in the order of their *places* (stamp,
actor, index in the op). That is a function of the set of ops, so replicas agree. A patch lives and
dies with its root, whatever its stamp; loose ones are removed one by one by who observed them, as
members of a set are. A SET shows; the loose text hides behind it.

    "x" is synced. A: APPEND a at stamp 5. B: APPEND bb at 3, SETRANGE 1 Z at 4.
    B shows xZb, A shows xa. Both then show xZba.

Forgetting. A replica *folds* a patch, the lowest of its text, into the text's base once every
process it knows has observed it and all that those did before has arrived here. Then whatever comes
later has a later stamp, and a removal that comes later has observed the whole base.

Forgetting too early. That is wrong where a process is not known yet: one that follows another which
lost the end of its log (it may have forgotten what its predecessor had acknowledged), one on a
directory that was restored, a new replica. Two replicas would then differ for ever:

    A: SETBIT b 1 1, which B and C acknowledge. C folds it. B loses it with its power, and before it
    hears of A again, it does SETBIT b 1 0, by a clock that is behind. C lets B's act last, A first.

So each replica knows what it has folded (`folded`, a clock), and every op says what its maker had
observed. An op that is *late*, which has not observed all of `folded`, may have come too late; keys
whose texts it touches are written anew by whoever noticed (`mend`), as any SET does. So replicas
are equal again as soon as those SETs are everywhere. A late removal leaves the base alone."""
from __future__ import annotations

import copy
from dataclasses import dataclass, field

NOWHERE = (-1, "", 0)                     # before every place


def covers(clock: dict, dot: tuple) -> bool:
    return clock.get(dot[0], 0) >= dot[1]


def includes(clock: dict, other: dict) -> bool:
    return all(clock.get(a, 0) >= n for a, n in other.items())


def raise_clock(clock: dict, by: dict) -> None:
    for a, n in by.items():
        clock[a] = max(clock.get(a, 0), n)


@dataclass
class Op:
    dot: tuple
    stamp: int
    deps: dict
    effects: list = field(default_factory=list)

    def observed(self, dot: tuple) -> bool:
        return covers(self.deps, dot) or dot[0] == self.dot[0] and dot[1] <= self.dot[1]


def act(s: bytearray, change: tuple) -> None:
    if change[0] == "append":
        s += change[1]
        return
    _, at, cells = change
    s.extend(bytes(max(0, at + len(cells) - len(s))))
    for i, (mask, bits) in enumerate(cells, at):
        s[i] = s[i] & ~mask | bits


@dataclass
class Text:
    """last, upto: of the last patch in a loose base, its dot and place; None: there is no base."""
    base: bytes = b""
    last: tuple | None = None
    upto: tuple = NOWHERE
    patches: dict = field(default_factory=dict)        # place -> (dot, change)

    def live(self) -> bool:
        return self.last is not None or bool(self.patches)

    def shown(self) -> bytes:
        s = bytearray(self.base)
        for place in sorted(self.patches):
            act(s, self.patches[place][1])
        return bytes(s)

    def newest(self) -> tuple | None:
        """Dot of the patch that acts last."""
        return self.patches[max(self.patches)][0] if self.patches else self.last

    def cut(self, op: Op, late: bool) -> None:
        """Removes what op observed of a loose text."""
        self.patches = {p: x for p, x in self.patches.items() if not op.observed(x[0])}
        if self.last and op.observed(self.last) and not late:
            self.base, self.last, self.upto = b"", None, NOWHERE

    def fold(self, stable, folded: dict, most: int) -> None:
        s = bytearray(self.base)
        for place in sorted(self.patches)[:most]:
            dot, change = self.patches[place]
            if not stable(dot):
                break
            act(s, change)
            self.last, self.upto = dot, place
            raise_clock(folded, dict([dot]))
            del self.patches[place]
        self.base = bytes(s)


def join(m: Text, t: Text, mine: dict, theirs: dict, late: bool, loose: bool) -> Text:
    """The text here and the giver's. What one side has observed and not kept, it has folded, or, of
    a loose text, removed."""
    def left(x, y, clock):
        return {p: v for p, v in x.patches.items() if p in y.patches or not covers(clock, v[0])}
    patches = left(m, t, theirs) | left(t, m, mine)
    folded_there = m.patches.keys() - patches.keys()
    folded_here = t.patches.keys() - patches.keys()
    if not loose:
        base = t if folded_there and not folded_here else m
        return Text(base.base, base.last, base.upto, patches)
    long, short, clock = (m, t, theirs) if m.upto >= t.upto else (t, m, mine)

    def alive(x, y, clock):
        """Is x's base still there, as y knows? Whoever removes any of it removes all."""
        return x.last and (late or x.last == y.last or not covers(clock, x.last)
                           or any(d == x.last for d, _ in y.patches.values()))
    base = Text()
    if alive(long, short, clock):
        base = long
    elif alive(short, long, mine if clock is theirs else theirs):
        base = short
    return Text(base.base, base.last, base.upto, patches)


@dataclass
class Key:
    writes: dict = field(default_factory=dict)         # dot -> (stamp, actor, Text)
    loose: Text = field(default_factory=Text)

    def empty(self) -> bool:
        return not self.writes and not self.loose.live()

    def text(self) -> tuple:
        """(root, text) that show."""
        if self.writes:
            root = max(self.writes, key=lambda d: self.writes[d][:2])
            return root, self.writes[root][2]
        return None, self.loose

    def remove(self, op: Op, late: bool) -> None:
        self.writes = {d: w for d, w in self.writes.items() if not op.observed(d)}
        self.loose.cut(op, late)

    def digest(self) -> tuple:
        """Roots and bytes shown; of a loose text the newest patch. Never what is folded."""
        return ({d: (s, t.shown()) for d, (s, _, t) in self.writes.items()},
                (self.loose.newest(), self.loose.shown()) if self.loose.live() else None)


class Replica:
    """One process of a replica. others: how many other replicas there are; 0: none, then nothing is
    concurrent, and a change is made in place. An actor is (replica, process)."""

    def __init__(self, me: tuple, others: int):
        self.me, self.seq, self.stamp, self.others = me, 0, 0, others
        self.clock: dict = {}
        self.keys: dict[str, Key] = {}
        self.log: list[Op] = []
        self.known: dict[tuple, dict] = {}             # actor -> what it has observed
        self.closed: set = set()                       # actors of which nothing more can come
        self.folded: dict = {}
        self.loaded: dict = {}                         # `folded` as a checkpoint's walk ended
        self.marks: set = set()                        # keys to be written anew
        self.giving = 0                                # states under way: nothing is folded
        self.replaying = False

    # ---- commands --------------------------------------------------------------------------------
    def make(self, now: int, *commands) -> Op:
        """One op: ("set", key, value), ("del", key), ("append", key, bytes), ("over", key, at,
        cells)."""
        self.seq += 1
        self.stamp = max(self.stamp + 1, now)
        op = Op((self.me, self.seq), self.stamp, dict(self.clock))
        for name, key, *rest in commands:
            e = (name, key, *rest)
            if name in ("append", "over"):
                root, text = self.keys.get(key, Key()).text()
                e = ("patch", key, root, (name, *rest), len(text.shown()))
            op.effects.append(e)
            self.effect(op, len(op.effects) - 1, e, False)
        self.record(op)
        return op

    def mend(self, now: int) -> None:
        """Writes anew what was touched by late ops."""
        for key in sorted(self.marks & self.keys.keys()):
            self.make(now, ("set", key, self.keys[key].text()[1].shown()))
        self.marks.clear()

    # ---- ops -------------------------------------------------------------------------------------
    def ready(self, op: Op) -> bool:
        a, s = op.dot
        return self.clock.get(a, 0) == s - 1 and includes(self.clock, op.deps)

    def apply(self, op: Op, replay: bool = False) -> None:
        """replay: from the own log, over a state that may hold it."""
        if covers(self.clock, op.dot) and not replay:
            return
        self.replaying = replay
        late = not includes({**op.deps, op.dot[0]: op.dot[1]}, self.folded)
        for i, e in enumerate(op.effects):
            self.effect(op, i, e, late)
        self.replaying = False
        self.record(op)

    def record(self, op: Op) -> None:
        if not covers(self.clock, op.dot):
            self.clock[op.dot[0]] = op.dot[1]
            self.log.append(op)
        self.stamp = max(self.stamp, op.stamp)
        raise_clock(self.known.setdefault(op.dot[0], {}), op.deps | dict([op.dot]))

    def effect(self, op: Op, index: int, e: tuple, late: bool) -> None:
        kind, key, *rest = e
        k = self.keys.setdefault(key, Key())
        if late and not k.empty() and (kind == "patch" or k.loose.last):
            self.marks.add(key)
        if kind == "patch":
            self.patch(op, index, k, *rest, late)
        else:
            k.remove(op, late)
        if kind == "set":
            k.writes[op.dot] = (op.stamp, op.dot[0], Text(rest[0]))
        if k.empty():
            del self.keys[key]

    def patch(self, op: Op, index: int, k: Key, root, change: tuple, seen: int, late: bool) -> None:
        """seen: the length that its maker saw."""
        if root is not None:                           # what it saw hidden behind the root goes
            k.writes = {d: w for d, w in k.writes.items() if d == root or not op.observed(d)}
            k.loose.cut(op, late)
            if root not in k.writes:                   # its root is gone, and so is it
                return
        text = k.loose if root is None else k.writes[root][2]
        place = (op.stamp, op.dot[0], index)
        if self.alone() and not self.replaying or self.replaying and covers(self.loaded, op.dot):
            self.in_place(op, place, text, change, seen)
        else:
            text.patches[place] = (op.dot, change)

    def in_place(self, op: Op, place: tuple, text: Text, change: tuple, seen: int) -> None:
        """Its place is absolute, so that it may be met again over a state that holds it and what
        came behind it: that comes again, too, in the order in which it was made."""
        if change[0] == "append":
            change = ("over", seen, tuple((255, b) for b in change[1]))
        s = bytearray(text.base)
        act(s, change)
        text.base, text.last, text.upto = bytes(s), op.dot, place
        raise_clock(self.folded, dict([op.dot]))

    # ---- forgetting ------------------------------------------------------------------------------
    def hear(self, other: Replica) -> None:
        """An acknowledgement."""
        raise_clock(self.known.setdefault(other.me, {}), other.clock)

    def foreign(self) -> set:
        return {a for a in self.known if a[0] != self.me[0]}

    def alone(self) -> bool:
        return not self.others and not self.foreign()

    def stable(self, dot: tuple) -> bool:
        def has(a):
            k = self.known[a]
            return covers(k, dot) and self.clock.get(a, 0) >= k.get(a, 0)
        return len({a[0] for a in self.foreign()}) >= self.others and all(
            has(a) for a in self.known if a != self.me and a not in self.closed)

    def texts(self):
        for k in self.keys.values():
            yield from (t for _, _, t in k.writes.values())
            yield k.loose

    def fold(self, most: int = 1 << 30) -> None:
        if not self.giving:
            for text in self.texts():
                text.fold(self.stable, self.folded, most)

    # ---- states ----------------------------------------------------------------------------------
    def take(self, key: str, theirs: Key | None, clock: dict, folded: dict) -> None:
        """Joins a key of another; clock and folded: his as his stream began, since when he has not
        folded."""
        late = not (includes(self.clock, folded) and includes(clock, self.folded))
        m, t = self.keys.setdefault(key, Key()), copy.deepcopy(theirs) or Key()
        if late and (m.loose.live() or m.writes.keys() & t.writes.keys()):
            self.marks.add(key)
        writes = {}
        for d in m.writes.keys() | t.writes.keys():
            if d in m.writes and d in t.writes:
                stamp, actor, text = m.writes[d]
                writes[d] = (stamp, actor,
                             join(text, t.writes[d][2], self.clock, clock, late, False))
            elif d in m.writes and not covers(clock, d):
                writes[d] = m.writes[d]
            elif d in t.writes and not covers(self.clock, d):
                writes[d] = t.writes[d]
        m.writes, m.loose = writes, join(m.loose, t.loose, self.clock, clock, late, True)
        if m.empty():
            del self.keys[key]

    def took(self, clock: dict, stamp: int, folded: dict) -> None:
        """Behind the last key."""
        raise_clock(self.clock, clock)
        for a, n in clock.items():
            raise_clock(self.known.setdefault(a, {}), {a: n})
        raise_clock(self.folded, folded)
        self.stamp = max(self.stamp, stamp)

    def digest(self) -> dict:
        return {key: k.digest() for key, k in self.keys.items()}

    def value(self, key: str) -> bytes | None:
        return self.keys[key].text()[1].shown() if key in self.keys else None


# ---- what the ops say, with no state -------------------------------------------------------------

def told(ops: list[Op], key: str) -> tuple | None:
    """Key.digest."""
    acts = [(op, i, e) for op in ops for i, e in enumerate(op.effects) if e[1] == key]

    def removed(op, i, root):
        """root: a write's own dot, None of a loose patch."""
        return any((o is not op and o.observed(op.dot) or o is op and j > i)
                   and (e[0] != "patch" or e[2] is not None and e[2] != root) for o, j, e in acts)

    def shown(base, patches):
        s = bytearray(base)
        for _, _, change in sorted(patches):
            act(s, change)
        return bytes(s)
    writes = {}
    for op, i, e in acts:
        if e[0] == "set" and not removed(op, i, op.dot):
            writes[op.dot] = (op.stamp, shown(e[2], [
                ((o.stamp, o.dot[0], j), o.dot, x[3]) for o, j, x in acts
                if x[0] == "patch" and x[2] == op.dot and (o is not op or j > i)]))
    loose = sorted(((op.stamp, op.dot[0], i), op.dot, e[3]) for op, i, e in acts
                   if e[0] == "patch" and e[2] is None and not removed(op, i, None))
    if not writes and not loose:
        return None
    return writes, (loose[-1][1], shown(b"", loose)) if loose else None

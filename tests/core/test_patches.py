"""Strings changed in place: the model (patches.py) in random clusters.

Oracles: replicas are equal, and equal to what the ops say; so is an observer that never folds, a
replay of everything over a folded state, and a recovery from a checkpoint that took each key at a
moment of its own. Where processes lose the end of their log, come back on old disks, or join late,
replicas are equal once all that was noticed is written anew. Each fault of FAULTS must be caught.

    python -m tests.core.test_patches [schedules [first seed]]
"""
from __future__ import annotations

import copy
import inspect
import random
import sys
import textwrap

from tests.core import patches
from tests.core.patches import Replica, Text, act, covers, told

KEYS = ["k", "l"]


def command(rng: random.Random) -> tuple:
    key, x = rng.choice(KEYS), rng.random()
    if x < 0.25:
        return "append", key, bytes(rng.choice(b"abc") for _ in range(rng.randint(1, 3)))
    if x < 0.5:
        mask = 128 >> rng.randrange(8)
        return "over", key, rng.randrange(3), ((mask, mask * rng.randrange(2)),)
    if x < 0.65:
        return "over", key, rng.randrange(5), tuple((255, rng.choice(b"xyz"))
                                                    for _ in range(rng.randint(1, 3)))
    return ("del", key) if x < 0.85 else ("set", key, rng.choice([b"", b"one", b"1234567"]))


class World:
    """violent: tails are lost, disks restored, replicas join late."""

    def __init__(self, seed: int, violent: bool):
        self.rng = rng = random.Random(seed)
        self.violent, self.now, self.lives, self.noticed = violent, 0, 0, 0
        names = "ABCD"[:rng.choice([2, 3, 3, 4])]
        self.rs = [Replica((n, 0), len(names) - 1) for n in names]
        self.skew = {n: rng.randrange(30) for n in names}
        self.disks: dict[str, list] = {}               # name -> a log that was copied
        self.barred: dict[str, dict] = {}

    def deliver(self, src: Replica, dst: Replica, limit: int) -> None:
        for op in list(src.log):
            if limit and dst.ready(op):
                late = len(dst.marks)
                dst.apply(op)
                self.noticed += len(dst.marks) > late
                limit -= 1

    def command(self, r: Replica) -> None:
        rng = self.rng
        n = rng.choice([1, 1, 1, 2, 4])
        r.make(self.now + self.skew[r.me[0]], *[command(rng) for _ in range(n)])

    def sync(self, r: Replica, o: Replica) -> None:
        """r takes o's state, which works on meanwhile; then what o did since."""
        rng, clock, stamp, folded = self.rng, dict(o.clock), o.stamp, dict(o.folded)
        o.giving += 1
        begin = len(o.log)
        for key in rng.sample(KEYS, len(KEYS)):
            r.take(key, o.keys.get(key), clock, folded)
            if rng.random() < 0.5:
                self.command(o)
            if rng.random() < 0.5:
                self.deliver(rng.choice(self.rs), o, 3)
            o.fold(rng.choice([1, 99]))
        o.giving -= 1
        had = dict(r.clock)
        r.took(clock, stamp, folded)
        r.log += [op for op in o.log[:begin] if covers(clock, op.dot) and not covers(had, op.dot)]
        for op in o.log[begin:]:
            r.apply(op)

    def reborn(self, i: int, log: list) -> None:
        """A new process on this log, or on a checkpoint and what follows."""
        old, rng = self.rs[i], self.rng
        self.lives += 1
        new = Replica((old.me[0], self.lives), old.others)
        cut = rng.randint(0, len(log))
        if rng.random() < 0.5 and cut:
            self.checkpointed(new, log, cut, old.folded)
        else:
            replay(new, log)
        new.closed = set(old.closed)
        self.rs[i] = new

    def checkpointed(self, new: Replica, log: list, begin: int, folded: dict) -> None:
        """From a checkpoint whose walk began there and took each key at a moment of its own."""
        rng = self.rng
        end = rng.randint(begin, len(log))
        at = {k: rng.randint(begin, end) for k in KEYS}
        w = Replica((new.me[0], -1), new.others)
        replay(w, log[:begin])
        w.stable = lambda dot: covers(folded, dot)
        w.fold(rng.choice([0, 2, 99]))
        new.folded, new.loaded = dict(w.folded), dict(w.folded)
        begun, stamp = dict(w.clock), w.stamp
        for n in range(begin, end + 1):
            for k in KEYS:
                if at[k] == n and k in w.keys:
                    new.keys[k] = copy.deepcopy(w.keys[k])
            if n < end:
                w.apply(log[n])
        new.clock, new.stamp, new.log = begun, stamp, log[:begin]
        for op in log[:begin]:
            patches.raise_clock(new.known.setdefault(op.dot[0], {}), op.deps | dict([op.dot]))
        new.marks = set(w.marks)
        for op in log[begin:]:
            new.apply(op, replay=True)

    def step(self) -> None:
        rng, rs = self.rng, self.rs
        self.now += rng.random() < 0.5
        i = rng.randrange(len(rs))
        r, o, x = rs[i], rng.choice(rs), rng.random()
        if x < 0.45:
            self.command(r)
        elif x < 0.68:
            for q in rs:
                self.deliver(q, r, rng.choice([0, 1, 5, -1]))
        elif x < 0.76:
            r.fold(rng.choice([1, 2, 99]))
        elif x < 0.88:
            for q in rs:
                if q is not r and rng.random() < 0.9:
                    r.hear(q)
        elif x < 0.92 and o is not r:
            self.sync(r, o)
        elif x < 0.94:
            r.mend(self.now + self.skew[r.me[0]])
        elif x < 0.97:
            self.reborn(i, r.log[:rng.randint(max(0, len(r.log) - 4), len(r.log))]
                        if self.violent else r.log)
        elif self.violent and x < 0.985:
            self.disks[r.me[0]] = list(r.log)
        elif self.violent and r.me[0] in self.disks:
            self.reborn(i, self.disks[r.me[0]])

    def settle(self) -> None:
        for _ in range(20):
            for a in self.rs:
                for b in self.rs:
                    self.deliver(a, b, -1)
                    if a is not b:
                        b.hear(a)
            if not any(r.marks for r in self.rs) and all(r.clock == self.rs[0].clock
                                                         for r in self.rs):
                return
            for r in self.rs:
                r.mend(self.now)
        raise AssertionError("they never settle")

    def finish(self) -> None:
        rs = self.rs
        self.settle()
        want = rs[0].digest()
        assert all(r.digest() == want for r in rs), "digests differ"
        left = {op.dot: op for r in rs for op in r.log}
        z = Replica(("Z", 0), 9)                       # never folds
        replay(z, list(left.values()))
        assert z.digest() == want, "an observer that never folds differs"
        ops = list(left.values())
        assert {k: t for k in KEYS if (t := told(ops, k))} == want, "the ops say something else"
        if not self.violent:
            assert not self.noticed, "something was late without any loss"
        for r in rs:
            r.closed = {a for a in r.known if a not in {q.me for q in rs}}
            for q in rs:
                r.hear(q) if q is not r else None
        for r in rs:                                   # everybody knows that everybody has it
            r.fold()
            assert r.digest() == want, "folding changes the digest"
            assert not any(t.patches for t in r.texts()), "something is never forgotten"
        a, b = self.rng.sample(rs, 2)
        for key in KEYS:
            a.take(key, b.keys.get(key), b.clock, b.folded)
            assert a.digest() == want, "joining an equal changes something"


def replay(r: Replica, log: list) -> None:
    left = list(log)
    while left:
        op = next(op for op in left if r.ready(op))
        r.apply(op)
        left.remove(op)


def run(seed: int) -> World:
    world = World(seed, seed % 2 == 0)
    for _ in range(world.rng.randint(5, 60)):
        world.step()
    try:
        world.finish()
    except AssertionError as e:
        raise AssertionError(f"seed {seed}: {e}") from e
    return world


def one_replica(seed: int) -> None:
    """Alone: no patch is ever kept, bytes are as in one Redis, and a checkpoint taken in the middle
    and the log behind its beginning make the same."""
    rng = random.Random(seed)
    r, expected = Replica(("A", 0), 0), {}
    n = rng.randint(1, 25)
    begin = rng.randint(0, n)
    end = rng.randint(begin, n)
    at, taken = {k: rng.randint(begin, end) for k in KEYS}, {}
    for i in range(n + 1):
        if i == begin:
            start, folded = dict(r.clock), dict(r.folded)
        taken |= {k: copy.deepcopy(r.keys.get(k)) for k in KEYS if at[k] == i}
        if i == end:
            loaded = dict(r.folded)
        commands = [command(rng) for _ in range(rng.choice([1, 1, 3]))]
        r.make(i, *commands)
        for name, key, *rest in commands:
            s = bytearray(expected.get(key, b""))
            if name in ("append", "over"):
                act(s, (name, *rest))
                expected[key] = bytes(s)
            elif name == "set":
                expected[key] = rest[0]
            else:
                expected.pop(key, None)
        assert {k: r.value(k) for k in r.keys} == expected, f"seed {seed}"
    assert not any(t.patches for t in r.texts()), f"seed {seed}: a patch is kept"
    back = Replica(("A", 1), 0)
    back.keys = {k: v for k, v in taken.items() if v}
    back.clock, back.folded, back.loaded = start, folded, loaded
    for op in r.log[begin:]:
        back.apply(op, replay=True)
    assert back.digest() == r.digest(), f"seed {seed}: it comes back another"


def cluster(names: str) -> list[Replica]:
    return [Replica((n, 0), len(names) - 1) for n in names]


def exchange(*rs: Replica) -> None:
    for _ in rs:
        for a in rs:
            for b in rs:
                for op in a.log:
                    if b.ready(op):
                        b.apply(op)
                b.hear(a) if a is not b else None


def shows(rs: list, want: bytes | None) -> None:
    exchange(*rs)
    assert [r.value("k") for r in rs] == [want] * len(rs)


def bit(n: int, to: int = 1) -> tuple:
    return "over", "k", n // 8, ((128 >> n % 8, (128 >> n % 8) * to),)


def test_contract():
    rs = a, b = cluster("AB")
    a.make(0, bit(7))
    exchange(a, b)
    a.make(1, bit(1)), b.make(1, bit(2))
    shows(rs, bytes([0b01100001]))                     # BIT-1
    a.make(2, bit(3)), b.make(2, ("del", "k"))
    shows(rs, bytes([0b00010000]))                     # BIT-2
    rs = a, b = cluster("AB")
    a.make(0, ("set", "k", b"x"))
    exchange(a, b)
    a.make(1, ("append", "k", b"a")), b.make(1, ("append", "k", b"b"))
    shows(rs, b"xab")                                  # APP-1
    b.make(2, ("append", "k", b"c")), a.make(2, ("set", "k", b"y"))
    shows(rs, b"y")
    a.make(3, ("set", "k", b"x"))
    exchange(a, b)
    b.make(3, ("append", "k", b"bb")), b.make(4, ("over", "k", 1, ((255, 90),)))
    a.make(9, ("append", "k", b"a"))
    shows(rs, b"xZba")                                 # the example at the head of patches.py
    for late in (0, 1):                                # the SET may have either stamp
        now = 20 + 10 * late
        b.make(now + late, ("append", "k", b"c")), a.make(now + 1 - late, ("set", "k", b"z"))
        shows(rs, b"z")
    rs = a, b = cluster("AB")                          # a log that is cut: no hole is left
    a.make(0, ("append", "k", b"old"))
    exchange(a, b)
    a.make(1, ("del", "k")), b.make(1, ("append", "k", b"new"))
    shows(rs, b"new")
    rs = a, b = cluster("AB")                          # a SET that nobody saw hides loose bits
    a.make(5, ("append", "k", b"bits")), b.make(0, ("set", "k", b"v"))
    shows(rs, b"v")
    a.make(6, ("append", "k", b"w"))
    exchange(a, b)
    b.make(7, ("del", "k"))
    shows(rs, None)


def test_lost_tail():
    """The example at the head of patches.py: the design that went before differed here for ever."""
    a, b, c = cluster("ABC")
    a.make(10, bit(1))
    exchange(a, b, c)
    c.fold()
    assert c.keys["k"].loose.last == (("A", 0), 1)
    b = Replica(("B", 1), 2)                           # it has nothing, and hears of nobody
    late = b.make(5, bit(1, 0))
    for r in (a, c):
        r.apply(late)
    assert (a.value("k"), c.value("k")) == (b"\x40", b"\x00") and c.marks == {"k"}
    c.mend(11)
    shows([a, b, c], b"\x00")


def test_joins():
    a, b = cluster("AB")                               # what the giver folded is in his base
    a.make(0, ("set", "k", b"x"))
    a.make(1, ("append", "k", b"y"))
    exchange(a, b)
    b.fold()
    assert not b.keys["k"].text()[1].patches
    a.take("k", b.keys["k"], b.clock, b.folded)
    assert a.digest() == b.digest()
    a, b, c = cluster("ABC")                           # a late state; who knows by a state alone
    a.make(10, bit(1))                                 # what was folded
    exchange(a, b, c)
    c.fold()
    b, d = Replica(("B", 1), 2), Replica(("D", 0), 3)
    d.take("k", c.keys["k"], c.clock, c.folded)
    d.took(c.clock, c.stamp, c.folded)
    d.apply(b.make(5, bit(1, 0)))
    assert d.marks == {"k"}
    c.take("k", b.keys["k"], b.clock, b.folded)
    assert c.marks == {"k"}
    a, b = cluster("AB")                               # while a state is given nothing is folded
    a.giving = 1
    a.apply(b.make(0, ("append", "k", b"x")))
    a.hear(b)
    a.fold()
    assert a.keys["k"].loose.patches


def test_log_over_a_checkpoint():
    """Alone: a change that the checkpoint holds, and one that was removed before it."""
    for commands, want in [([("append", "k", b"ab")], b"ab"),
                           ([("append", "k", b"old"), ("del", "k"), ("append", "k", b"n")], b"n")]:
        a, back = Replica(("A", 0), 0), Replica(("A", 1), 0)
        ops = [a.make(i, c) for i, c in enumerate(commands)]
        back.keys, back.loaded = copy.deepcopy(a.keys), dict(a.folded)
        for op in ops:
            back.apply(op, replay=True)
        assert back.value("k") == want


def test_random_clusters():
    noticed = sum(run(seed).noticed for seed in range(1500))
    assert noticed, "no tail that was lost was ever noticed"


def test_one_replica():
    for seed in range(400):
        one_replica(seed)


# ---- faults --------------------------------------------------------------------------------------

def edited(cls, name: str, old: str, new: str) -> tuple:
    """The method with one piece of its source replaced."""
    source = textwrap.dedent(inspect.getsource(getattr(cls, name)))
    assert source.count(old) == 1, (name, old)
    scope = dict(vars(patches))
    exec("from __future__ import annotations\n" + source.replace(old, new), scope)
    return cls, name, scope[name]


FAULTS = {
    "folds a patch before an earlier one": edited(
        Text, "fold", "            break", "            continue"),
    "takes for stable what was acknowledged, not what was done before": edited(
        Replica, "stable", "and self.clock.get(a, 0) >= k.get(a, 0)", ""),
    "folds at once": edited(Replica, "stable", "all(", "True or all("),
    "forgets what ended processes may have done": edited(
        Replica, "stable", "a not in self.closed)",
        "a == max(b for b in self.known if b[0] == a[0]))"),
    "nothing is late": edited(Replica, "apply", "late = not", "late = 0 and not"),
    "no join is late": edited(Replica, "take", "late = not", "late = 0 and not"),
    "what is noticed is not written anew": edited(Replica, "mend", "self.make", "(lambda *x: 0)"),
    "what a giver folded is not known": edited(
        Replica, "took", "raise_clock(self.folded, folded)", "pass"),
    "folds while a state is given": edited(Replica, "fold", "not self.giving", "True"),
    "a patch whose root is gone goes to the winner": edited(
        Replica, "patch", "return", "root = k.text()[0]"),
    "a delete takes unseen patches": edited(Text, "cut", "if not op.observed(x[0])", "if 0"),
    "a delete leaves the base": edited(Text, "cut", "self.last and", "0 and"),
    "a patch leaves the writes it saw hidden": edited(
        Replica, "patch", "d == root or not op.observed(d)", "True"),
    "a patch leaves the loose text it saw hidden": edited(
        Replica, "patch", "k.loose.cut(op, late)", "pass"),
    "join: the longer base always stands": edited(
        patches, "join", "if alive(long, short, clock)", "if True"),
    "join: the base here always stands": edited(
        patches, "join", "t if folded_there and not folded_here else m", "m"),
    "join: patches that are folded act again": edited(
        patches, "join", "or not covers(clock, v[0])", "or True"),
    "join: unseen patches go": edited(
        patches, "join", "p in y.patches or not covers(clock, v[0])", "p in y.patches"),
    "alone: APPEND met again appends again": edited(
        Replica, "in_place", 'change[0] == "append"',
        'change[0] == "append" and not self.replaying'),
}


def test_faults_are_known():
    assert len(FAULTS) == 19


def trial(n: int, first: int) -> None:
    def schedules():
        test_contract()
        test_lost_tail()
        test_joins()
        test_log_over_a_checkpoint()
        for seed in range(first, first + n):
            run(seed)
            one_replica(seed)
    schedules()
    print(f"{n} schedules held", flush=True)
    for name, (cls, method, bad) in FAULTS.items():
        good = getattr(cls, method)
        setattr(cls, method, bad)
        try:
            schedules()
            print("NOT CAUGHT:", name, flush=True)
        except (AssertionError, KeyError, StopIteration) as e:
            print("caught:", name, "|", str(e).split("\n")[0][:60], flush=True)
        setattr(cls, method, good)


if __name__ == "__main__":
    trial(*[int(x) for x in (sys.argv[1:] + ["2000", "1"][len(sys.argv) - 1:])])

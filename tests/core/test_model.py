"""The kernel against the model (model.py): random schedules, and every small interleaving.

Random: the same commands run on kernels and models of a small cluster, and the same ops are
delivered, early, late, twice, or never. After every step clock and visible keys of the replica
concerned must agree with its model; at the end all digests are equal.

Exhaustive: two replicas with two concurrent ops each, three with one each, and four ops of which
one has seen another, each op every command, on every kind of key that was there before. Observers
receive them in every order that causality allows; all must end with the digest of the first, and
with what the model shows.
"""
import os
import random
from itertools import permutations, product

import pytest

from crdtredis._core import Replica, probe_get, probe_make
from tests.core.hyperloglog import made_of
from tests.core.model import Model, number

SCHEDULES = int(os.environ.get("CRDT_MODEL_SCHEDULES", "2000"))
BLOCKS = 10
KEYS = [b"k", b"l"]
# of HyperLogLogs, one dense and one damaged
IMAGES = [made_of("a"), made_of("b", "c"), made_of("a", "d", dense=True), made_of("e")[:-1]]


class Both:
    """One replica as kernel and as model."""

    def __init__(self, name: str, epoch: int = 1):
        self.real, self.model = Replica(name, epoch, seed=7, expiry_grace=0), Model(name, epoch)

    def meet(self, others) -> "Both":
        for o in others:
            self.real.declare(*o.model.actor)
        return self

    def execute(self, commands, now):
        """(bytes of the op, model's op), or None when nothing changed."""
        self.real.now = now
        made = probe_make(self.real, commands)
        op = self.model.execute(commands, now)
        assert bool(made) == bool(op), f"one made an op, the other did not: {commands}"
        return (self.real.take_ops(), op) if op else None

    def receive(self, both, now):
        self.real.now = now
        self.real.receive(both[0])
        self.model.receive(both[1])
        self.real.take_ops()

    def agree(self, now, told=""):
        self.real.now = now
        assert self.real.clock() == self.model.clock, told
        for key in KEYS:
            assert probe_get(self.real, 0, key) == self.model.get(0, key, now), (
                f"{key} at {self.real.id} {told}")
            if self.model.get(0, key, now) is not None:
                assert self.real.inspect(0, key)["deadline"] == self.model.deadline(0, key), (
                    f"deadline of {key} {told}")
        assert self.real.keys()[0] == sum(k.live() for k in self.model.keys.values()), told
        assert self.real.pending()["ops"] == len(self.model.pending), told


def command(rng, b: Both, now, huge: bool):
    """A command that a client could cause now: deletes and deadlines only of visible keys,
    increments only of numbers. `huge`: many numbers at the 64-bit limits and beyond."""
    key = rng.choice(KEYS)
    value = b.model.get(0, key, now)
    x = rng.random()
    if x < 0.16:
        return ("set", 0, key,
                rng.choice([b"1", b"-5", b"text", b"", b"9223372036854775807" if huge else b"0.1",
                            *rng.sample(IMAGES, rng.randrange(3))]))
    if x < 0.28:
        return ("keep", 0, key,
                rng.choice([b"7", b"tail", b"-9223372036854775808" if huge else b"1.5",
                            *rng.sample(IMAGES, rng.randrange(3))]))
    if x < 0.62:
        if value is not None and number(value) is None:
            return ("del", 0, key, None)
        if rng.random() < 0.6:
            return ("add", 0, key,
                    rng.choice([1, 2, -3, 10, 0, 2.0**62 if huge else 0.5,
                                -2.0**62 if huge else -0.25]))
        return ("incr", 0, key,
                rng.choice([b"0.1", b"-0.3", b"123456789.1", b"7", b"1e-30",
                            b"9223372036854775807" if huge else b"1e15",
                                            b"-9223372036854775807" if huge else b"-1e15",
                                            b"1e20" if huge else b"0.7"]))
    if x < 0.80:
        return ("del", 0, key, None) if value is not None else ("add", 0, key, 1)
    if x < 0.95:
        return (("expire", 0, key, rng.choice([0, now + 1, now + 3, now + 1000]))
                if value is not None else ("set", 0, key, b"9"))
    if any(b.model.get(0, k, now) is not None for k in KEYS):
        return ("flush", 0, b"", None)
    return ("set", 0, key, b"3")


def transaction(rng, b: Both, now, huge: bool):
    """Commands that one op makes; what each may be depends on the ones before, so a scratch copy of
    the model runs along."""
    import copy
    n = 1 if rng.random() < 0.85 else rng.randint(2, 4)
    if n == 1:
        return [command(rng, b, now, huge)]
    scratch = Both.__new__(Both)
    scratch.model = copy.deepcopy(b.model)
    out = []
    for _ in range(n):
        out.append(command(rng, scratch, now, huge))
        scratch.model.execute(out[-1:], now)
    return out


def run(seed):
    rng = random.Random(seed)
    names = rng.sample(["a", "b", "c", "d"], rng.choice([2, 3, 3, 4]))
    cluster = [Both(n, rng.choice([1, 2])) for n in names]
    for b in cluster:
        b.meet(o for o in cluster if o is not b)
    log, now, told = [], 1000, f"(seed {seed})"
    huge = rng.random() < 0.2
    on_the_way = {b: [] for b in cluster}
    for _ in range(rng.randint(5, 40)):
        now += rng.choice([0, 0, 1, 2])
        b = rng.choice(cluster)
        if rng.random() < 0.5:
            made = b.execute(transaction(rng, b, now, huge), now)
            if made:
                log.append(made)
                for o in cluster:
                    if o is not b:
                        on_the_way[o].append(made)
        elif on_the_way[b]:
            queue = on_the_way[b]
            for _ in range(rng.choice([1, 1, 2, 5])):
                if queue:
                    at = 0 if rng.random() < 0.7 else rng.randrange(len(queue))
                    b.receive(queue[at] if rng.random() < 0.1 else queue.pop(at), now)
        b.agree(now, told)
    for b in cluster:
        rng.shuffle(on_the_way[b])
        for made in on_the_way[b]:
            b.receive(made, now)
        b.agree(now, told)
        b.real.check()
    assert len({b.real.digest() for b in cluster}) == 1, f"digests differ {told}"
    for later in (now + 2, now + 500, now + 5000):
        for b in cluster:
            b.agree(later, told)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_schedules(block):
    for seed in range(block, SCHEDULES, BLOCKS):
        run(seed)


# ---- every small interleaving --------------------------------------------------------------------

K = (0, b"k")
COMMANDS = {
    "set text": [("set", *K, b"text")],
    "set number": [("set", *K, b"100")],
    "append": [("keep", *K, b"5")],
    "pfadd": [("keep", *K, made_of("a", "b"))],
    "set hyperloglog": [("set", *K, made_of("a", "c"))],
    "incr": [("add", *K, 7)],
    "decr": [("add", *K, -4)],
    "del": [("del", *K, None)],
    "expire": [("expire", *K, 5000)],
    "persist": [("expire", *K, 0)],
    "set ex": [("set", *K, b"1"), ("expire", *K, 9000)],
    "incr del incr": [("add", *K, 1), ("del", *K, None), ("add", *K, 2)],
    "flush": [("flush", 0, b"", None)],
}
NUMERIC = ["incr", "decr", "incr del incr"]
BEFORE = {
    "nothing": [],
    "string": [("a", [("set", *K, b"10")])],
    "hyperloglog": [("a", [("set", *K, made_of("a"))])],
    "counter": [("a", [("add", *K, 10)]), ("b", [("add", *K, 20)])],
    "deadline": [("a", [("set", *K, b"3"), ("expire", *K, 7000)]), ("b", [("add", *K, 1)])],
}
SHORT = ["set number", "append", "incr", "del", "expire", "incr del incr", "pfadd"]


def world(names, before):
    """Replicas in one state, and the ops that made it."""
    cluster = {n: Both(n) for n in names}
    for b in cluster.values():
        b.meet(o for o in cluster.values() if o is not b)
    made = []
    for who, commands in BEFORE[before]:
        made.append(cluster[who].execute(commands, 1000))
        for n, b in cluster.items():
            if n != who:
                b.receive(made[-1], 1000)
    return cluster, made


def possible(b: Both, name: str, now: int) -> bool:
    value = b.model.get(*K, now)
    return not (name in NUMERIC and value is not None and number(value) is None)


def orders(history):
    """Every order of the ops in which each comes after those of its own replica and those it
    depends on."""
    def extend(done, rest):
        if not rest:
            yield done
        for i, op in enumerate(rest):
            if all(p in done for p in op[2]):
                yield from extend(done + [op], rest[:i] + rest[i + 1:])
    yield from extend([], history)


def check_every_order(names, made, history, told):
    """`history`: [(index, both, indexes it comes after)]."""
    wanted = None
    history = [(i, both, [history[j] for j in after]) for i, both, after in history]
    for order in orders(history):
        z = Both("z").meet(Both(n) for n in names)
        for both in made:
            z.receive(both, 1100)
        for _, both, _ in order:
            z.receive(both, 1100)
        digest = z.real.digest()
        if wanted is None:
            wanted = digest
            z.agree(1100, told)
            z.agree(8000, told)
        assert digest == wanted, f"order {[i for i, _, _ in order]} of {told}"


@pytest.mark.parametrize("before", BEFORE)
def test_two_replicas_two_ops_each(before):
    for one, two in product(SHORT, repeat=2):
        for three, four in product(SHORT, repeat=2):
            cluster, made = world("ab", before)
            history = []
            for who, name, after in [("a", one, []), ("a", two, [0]), ("b", three, []),
                                     ("b", four, [2])]:
                b = cluster[who]
                op = (b.execute(COMMANDS[name], 1001 + len(history) % 2) if possible(b, name, 1001)
                      else None)
                history.append((len(history), op, after))
            history = renumber(history)
            check_every_order("ab", made, history,
                              f"before {before}: a {one}, {two} || b {three}, {four}")


@pytest.mark.parametrize("before", BEFORE)
def test_two_and_three_replicas_one_op_each(before):
    for names in (["a", "b"], ["a", "b", "c"]):
        for chosen in product(COMMANDS, repeat=len(names)):
            cluster, made = world(names if "b" in names else ["a", "b"], before)
            history = []
            for who, name in zip(names, chosen):
                b = cluster[who]
                history.append((len(history), b.execute(COMMANDS[name], 1001)
                                if possible(b, name, 1001) else None, []))
            check_every_order(names, made, renumber(history), f"before {before}: {chosen}")


@pytest.mark.parametrize("before", BEFORE)
def test_an_op_that_has_seen_one_of_three(before):
    for chosen in product(SHORT, repeat=4):
        cluster, made = world("abc", before)
        history = []
        for who, name in zip("abc", chosen):
            b = cluster[who]
            history.append((len(history), b.execute(COMMANDS[name], 1001) if possible(b, name, 1001)
                            else None, []))
        c = cluster["c"]
        if history[0][1]:
            c.receive(history[0][1], 1002)
        last = c.execute(COMMANDS[chosen[3]], 1002) if possible(c, chosen[3], 1002) else None
        history.append((3, last, [0, 2]))
        check_every_order("abc", made, renumber(history),
                          f"before {before}: a, b, c {chosen[:3]}, then c, having seen a's, "
                          f"{chosen[3]}")


def renumber(history):
    """Without the commands that made no op."""
    kept = [h for h in history if h[1]]
    place = {h[0]: i for i, h in enumerate(kept)}
    return [(i, h[1], [place[j] for j in h[2] if j in place]) for i, h in enumerate(kept)]


def test_every_arrival_order_of_a_chain():
    """Four ops of which each depends on the one before, in all 24 orders: what comes early waits,
    and nothing is lost."""
    cluster, _ = world("ab", "nothing")
    a, b = cluster["a"], cluster["b"]
    ops = [a.execute([("add", *K, 1)], 1000)]
    b.receive(ops[0], 1000)
    ops.append(b.execute([("set", *K, b"50")], 1000))
    a.receive(ops[1], 1000)
    ops.append(a.execute([("add", *K, 2)], 1000))
    b.receive(ops[2], 1000)
    ops.append(b.execute([("add", *K, 3)], 1000))
    a.receive(ops[3], 1000)
    for order in permutations(ops):
        z = Both("z").meet([a, b])
        for op in order:
            z.receive(op, 1000)
        z.agree(1000)
        assert z.real.digest() == a.real.digest() == b.real.digest()
        assert z.real.pending() == {"ops": 0, "bytes": 0, "held": 0}

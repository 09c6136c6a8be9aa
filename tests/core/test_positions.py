"""Positions of list elements (core/position.pxi): there is one between any two, never moved, and
they stay short.

The order is told by the oracle's own reading of the wire form (tests/simulation/oracle.py), not by
the kernel.

    python -m pytest tests/core/test_positions.py
    python -m tests.core.test_positions    # up to a million inserts of each pattern; half an hour
"""
import hashlib
import random
import sys
import time
import zlib
from pathlib import Path
from types import MappingProxyType

import pytest

from crdtredis._core import Replica, probe_between, probe_make, probe_members
from crdtredis._engine import Executor
from crdtredis.errors import DamagedBatch
from crdtredis.replication import crdtredis_pb2 as pb
from tests.respclient import ReplyError
from tests.simulation.oracle import Ops, position, told
from tests.simulation.views import Client

KEY = b"l"
LEAST, MOST = -2**63, 2**63 - 1
MAX_STEPS = 256
OWN_LEVELS = 8
NO_ROOM = "ERR no room left at this place of the list: too many elements were inserted between " \
          "the same two"


class Node:
    """A replica, and a client of it."""

    def __init__(self, name="A", epoch=1):
        self.replica = Replica(name, epoch, seed=1)
        self.replica.now = 1000
        self.do = Client(self.replica, Executor(self.replica))

    def insert(self, at, value=b"v"):
        """The batch of one insert before the element at an index; b"" where it was refused."""
        probe_make(self.replica, [("member", 0, KEY, ("insert", pb.LIST, value, at))])
        return self.replica.take_ops()

    def elements(self):
        return probe_members(self.replica, 0, KEY)[1] or []


def exchange(*nodes, batches=()):
    """Everybody gets the batches, and all that was made since."""
    batches = [*batches, *(n.replica.take_ops() for n in nodes)]
    for n in nodes:
        for _, replica, epoch, _ in [a for other in nodes for a in other.replica.actors()]:
            n.replica.declare(replica, epoch)
        for batch in filter(None, batches):
            n.replica.receive(batch)
        n.replica.take_ops()


def varint(v):
    out = bytearray()
    while v >= 128:
        out.append(v & 127 | 128)
        v >>= 7
    return bytes(out + bytes([v]))


def wire(steps, ids):
    """The wire form of steps (major, run, offset, own), a dot being (actor's name, seq, index)."""
    def zigzag(v):
        return varint((v << 1 ^ v >> 63) & 2**64 - 1)

    def dot(name, seq, index):
        return ids[name].to_bytes(8, "little") + varint(seq) + varint(index)

    return b"".join(b"\0" + zigzag(major) + zigzag(offset) + dot(*own) + dot(*run)
                    for major, run, offset, own in steps)


def name_of(batch):
    """The position that the last effect of a batch names."""
    return pb.Batch.FromString(batch).runs[-1].ops[-1].effects[-1].name


def depth(data):
    """Steps of a position in wire form."""
    return len(position(data, ("own", 1), AnyActor()))


class AnyActor(dict):
    def __missing__(self, key):
        return key


# ---- one between any two -------------------------------------------------------------------------

NUMBERS = [LEAST, LEAST + 1, LEAST + 2, -2**40, -2**32, -1, 0, 0, 0, 1, 2**32, 2**40,
           MOST - 2, MOST - 1, MOST]


def some_position(rng, below):
    """Steps as a peer may send them, often below those of another."""
    steps = list(rng.choice(below))[:rng.randrange(3)] if below and rng.random() < .6 else []
    for _ in range(rng.choice([1, 1, 2, 3])):
        dots = [(rng.choice("AB"), rng.randint(1, 3), rng.randrange(2)) for _ in range(2)]
        steps.append((rng.choice(NUMBERS), dots[0], rng.choice(NUMBERS), dots[1]))
    if steps[-1][0] == LEAST:                                # which is refused
        steps[-1] = (LEAST + 1, *steps[-1][1:])
    return tuple(steps)


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_there_is_one_between_any_two(first):
    """Whatever stands there, of whatever origin."""
    for seed in range(first, first + 100):
        rng = random.Random(seed)
        nodes = {n: Node(n) for n in "AB"}
        for n in nodes.values():
            n.replica.declare("A", 1)
            n.replica.declare("B", 1)
        ids = {r: i for i, r, _, _ in nodes["A"].replica.actors()}
        names = {i: r for r, i in ids.items()}
        there = []
        for _ in range(8):
            there.append(some_position(rng, there))
        there = sorted(set(there))
        for _ in range(150):
            at = len(there) // 2 + rng.randint(-1, 1)
            if rng.random() < .3:
                at = rng.randrange(len(there) + 1)
            who = rng.choice("AB")
            left, right = there[at - 1] if at else (), there[at] if at < len(there) else ()
            made = probe_between(nodes[who].replica, wire(left, ids), wire(right, ids))
            assert made is not None, f"seed {seed}: {left} {right}"
            steps = position(made, ((who, 1), 1), names)
            assert left < steps, f"seed {seed}: {left} {steps}"
            assert not right or steps < right, f"seed {seed}: {steps} {right}"
            assert steps[-1][3][0] == who
            there.insert(at, steps)
            probe_make(nodes[who].replica, [("set", 0, b"other", b"x")])         # its next dot


def test_pushes_beside_the_ends_of_all_numbers():
    """What a peer, by mistake or on purpose, puts at the ends: pushes still go to the ends, in all
    replicas."""
    for major, offset in [(MOST, 0), (MOST, MOST), (MOST - 1, MOST),
                          (LEAST + 1, 0), (LEAST + 1, LEAST), (LEAST + 2, LEAST)]:
        peer, a, b = Node("P"), Node("A"), Node("B")
        sent = batch_at(peer, [(major, ("P", 1, 0), offset, ("P", 1, 0))], b"far")
        for n in (a, b):
            n.replica.receive(sent)
            n.replica.take_ops()
        assert a.do("RPUSH", KEY, "r1", "r2") == 3 and a.do("RPUSH", KEY, "r3") == 4
        assert a.do("LPUSH", KEY, "l1", "l2") == 6 and a.do("LPUSH", KEY, "l3") == 7
        expected = [b"l3", b"l2", b"l1", b"far", b"r1", b"r2", b"r3"]
        assert a.elements() == expected, (major, offset)
        exchange(a, b)
        b.do("RPUSH", KEY, "r4")
        b.do("LPUSH", KEY, "l4")
        exchange(a, b)
        for n in (a, b):
            n.replica.check()
            assert n.elements() == [b"l4", *expected, b"r4"], (major, offset)
        assert a.replica.digest() == b.replica.digest()


def batch_at(peer, steps, value, ids=MappingProxyType({})):
    """An op of a peer that inserts at a position of its choice. `ids`: of the actors that the steps
    name, beside the peer's own."""
    actor = next(i for i, r, _, _ in peer.replica.actors() if r == peer.replica.id)
    ids = {**ids, peer.replica.id: actor}
    effect = pb.Effect(kind=pb.ASSIGN, type=pb.LIST, key=KEY, value=value, name=wire(steps, ids))
    op = pb.Op(seq=1, stamp=1000 << 16, effects=[effect])
    return pb.Batch(actors=[pb.Actor(id=actor, replica=peer.replica.id, epoch=1)],
                    runs=[pb.Run(actor=actor, ops=[op])]).SerializeToString()


@pytest.mark.parametrize("end", ["head", "tail"])
def test_a_push_beside_the_last_of_all_positions_is_refused(end):
    """A peer can make one that nothing stands beyond. A push there is refused, and so is a move,
    which leaves its element where it was."""
    number, push, side = (LEAST, "LPUSH", "LEFT") if end == "head" else (MOST, "RPUSH", "RIGHT")
    steps = [(number, ("P", 1, 0), number, ("P", 1, 0))] * MAX_STEPS
    if end == "head":
        steps[-1] = (LEAST + 1, *steps[-1][1:])
    peer, a = Node("P"), Node("A")
    a.replica.receive(batch_at(peer, steps, b"far"))
    a.replica.take_ops()
    a.do("RPUSH", "from", "x")
    a.replica.take_ops()
    before = a.replica.digest(), a.replica.clock()
    for argv in [(push, KEY, "v"), (push + "X", KEY, "v"), ("LMOVE", "from", KEY, "LEFT", side),
                 ("LINSERT", KEY, "BEFORE" if end == "head" else "AFTER", "far", "v")]:
        reply = a.do(*argv)
        assert isinstance(reply, ReplyError) and str(reply) == NO_ROOM, argv
        assert a.replica.take_ops() == b"" and (a.replica.digest(), a.replica.clock()) == before
    assert a.do("LPUSH" if end == "tail" else "RPUSH", KEY, "v") == 2
    assert a.do("LRANGE", "from", 0, -1) == [b"x"]


def test_a_position_that_names_a_dot_to_come_is_the_same_everywhere():
    """A peer makes up the very position that A's first push will have. Whichever arrives first, all
    show the same."""
    peer, a, b, c = Node("P"), Node("A"), Node("B"), Node("C")
    ids = {r: i for n in (peer, a) for i, r, _, _ in n.replica.actors()}
    for n in (b, c, peer):
        n.replica.declare("A", 1)
    dot = ("A", 1, 0)
    for value in (b"v", b"v" * 3000):
        a.replica.now = 2000                                 # its stamp is the later
        made_up = batch_at(peer, [(0, dot, 0, dot)], b"made up", ids)
        assert a.do("RPUSH", KEY, value) == 1
        pushed = a.replica.take_ops()
        for n, batches in ((a, [made_up]), (b, [made_up, pushed]), (c, [pushed, made_up])):
            for batch in batches:
                n.replica.receive(batch)
            n.replica.take_ops()
            n.replica.check()
        assert a.elements() == b.elements() == c.elements() == [b"made up"]
        assert a.replica.digest() == b.replica.digest() == c.replica.digest()
        peer, a, b, c = Node("P"), Node("A"), Node("B"), Node("C")
        for n in (b, c):
            n.replica.declare("A", 1)


def test_what_is_no_position_is_refused():
    peer, a = Node("P"), Node("A")
    dot = ("P", 1, 0)
    for steps in [[(LEAST, dot, 0, dot)], [(0, dot, 0, dot)] * (MAX_STEPS + 1), []]:
        with pytest.raises(DamagedBatch):
            a.replica.receive(batch_at(peer, steps, b"v"))
    assert a.elements() == [] and a.replica.clock() == {}
    a.replica.receive(batch_at(peer, [(LEAST, dot, 0, dot), (0, dot, 0, dot)], b"v"))
    assert a.elements() == [b"v"]


# ---- how long they get ---------------------------------------------------------------------------

class Measure:
    def __init__(self):
        self.inserts = self.bytes = self.deepest = self.longest = 0

    def take(self, batch):
        name = name_of(batch)
        self.inserts += 1
        self.bytes += len(batch)
        self.longest = max(self.longest, len(name))
        if len(name) > 20 * self.deepest:
            self.deepest = max(self.deepest, depth(name))


def by_one(n, where):
    """Inserts by one replica; where(i, length, last) is the index of the i-th."""
    node, m = Node(), Measure()
    node.insert(0), node.insert(1)
    last = 1
    for i in range(n):
        last = where(i, i + 2, last)
        m.take(node.insert(last))
    node.replica.check()
    return m


def by_several(n, names, burst, where, at_once):
    """Each makes `burst` inserts, then it is another's turn; or all do at once, and then
    exchange."""
    nodes, m = [Node(name) for name in names], Measure()
    exchange(*nodes, batches=[nodes[0].insert(0), nodes[0].insert(1)])
    length = 2
    while m.inserts < n:
        batches = []
        for node in nodes:
            for i in range(burst):
                batches.append(node.insert(where(length + i)))
                m.take(batches[-1])
            if not at_once:
                exchange(*nodes, batches=batches)
                batches = []
                length += burst
        if at_once:
            exchange(*nodes, batches=batches)
            length += burst * len(nodes)
    for node in nodes:
        node.replica.check()
        assert len(node.elements()) == length
    assert len({node.replica.digest() for node in nodes}) == 1
    return m


def with_restarts(n, every):
    node, m = Node(), Measure()
    node.insert(0), node.insert(1)
    for i in range(n):
        m.take(node.insert((i + 2) // 2))
        if i % every == every - 1:
            node.replica.new_epoch(i + 2)
    node.replica.check()
    return m


def in_the_middle(length):
    return length // 2


def one(where):
    return lambda n: by_one(n, where)


def in_turn(names, burst):
    return lambda n: by_several(n, names, burst, in_the_middle, False)


def at_once(names, burst, where=in_the_middle):
    return lambda n: by_several(n, names, burst, where, True)


# {pattern: (how, deepest position there may be after some thousands)}
PATTERNS = {
    "always after the first": (one(lambda i, length, last: 1), 2),
    "always before the last": (one(lambda i, length, last: length - 1), 2),
    "left and right of the newest in turn": (one(lambda i, length, last: last + i % 2), 2),
    "in the middle": (one(lambda i, length, last: length // 2), 2),
    "anywhere": (one(lambda i, length, last: random.Random(i).randint(1, length - 1)), 4),
    "two in turn, in the middle": (in_turn("AB", 1), 2),
    "two in turn, twos in the middle": (in_turn("AB", 2), OWN_LEVELS + 2),
    "two in turn, sevens in the middle": (in_turn("AB", 7), OWN_LEVELS + 2),
    "two at once, in the middle": (at_once("AB", 1), 2),
    "two at once, fives in the middle": (at_once("AB", 5), 4),
    "two at once, hundreds in the middle": (at_once("AB", 100), 4),
    "two at once, after the first": (at_once("AB", 5, lambda length: 1), 2),
    "three in turn, in the middle": (in_turn("ABC", 1), OWN_LEVELS + 2),
    "three at once, threes in the middle": (at_once("ABC", 3), 130),       # a bit or so each
    "three at once, after the first": (at_once("ABC", 3, lambda length: 1), 2),
    "one that restarts, in the middle": (lambda n: with_restarts(n, 10), OWN_LEVELS + 2),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_positions_stay_short(pattern):
    how, deepest = PATTERNS[pattern]
    m = how(2000 if "restarts" in pattern else 8000)
    assert m.deepest <= deepest and m.longest <= 25 * deepest
    if "restarts" not in pattern:                            # whose ops say much about actors
        assert m.bytes / m.inserts < 60 + 20 * deepest


def test_a_place_without_room_refuses_inserts():
    """Who always inserts right beside the newest, on a side that nobody can foresee, uses up the
    room there. The insert is refused, and leaves no trace; a peer has taken every one before;
    elsewhere in the list nothing has changed, and where elements go there is room again."""
    rng = random.Random(1)
    a, b = Node("A"), Node("B")
    a.do("RPUSH", KEY, "first", "last")
    at, n, batches = 1, 0, [a.replica.take_ops()]
    while True:
        at += rng.randrange(2)
        batch = a.insert(at, b"%d" % n)
        if not batch:
            break
        batches.append(batch)
        n += 1
    assert n > 5000 and depth(name_of(batches[-1])) == MAX_STEPS
    before = a.replica.digest(), a.replica.clock()
    elements = a.elements()
    pivot = elements[at - 1]
    reply = a.do("LINSERT", KEY, "AFTER", pivot, "v")
    assert str(reply) == NO_ROOM
    a.do("MULTI")
    a.do("LINSERT", KEY, "AFTER", pivot, "v")
    a.do("SET", "k", "v")
    replies = a.do("EXEC")
    assert isinstance(replies[0], ReplyError) and replies[1] == b"OK"
    assert pb.Batch.FromString(a.replica.take_ops()).runs[0].ops[0].effects[0].key == b"k"
    a.do("DEL", "k")
    assert a.replica.digest() == before[0] and a.elements() == elements
    exchange(a, b, batches=batches)
    b.replica.check()
    assert b.elements() == elements and a.replica.digest() == b.replica.digest()
    assert a.do("LINSERT", KEY, "AFTER", "first", "second") == len(elements) + 1
    assert a.do("LPUSH", KEY, "l") == len(elements) + 2
    assert a.do("RPUSH", KEY, "r") == len(elements) + 3
    for v in elements[at - 300:at + 300]:
        a.do("LREM", KEY, 1, v)
    assert a.do("LINSERT", KEY, "AFTER", elements[at - 301], "v") > 0
    a.replica.check()


# ---- mixed with those of before ------------------------------------------------------------------

def test_positions_of_before_are_as_they_were():
    """A log of a version that shared room out otherwise: of one run with the same offset, up to 62
    steps deep. It means what it meant; new positions go between any of them, in all replicas."""
    log = zlib.decompress((Path(__file__).parent / "list_of_deep_positions.zlib").read_bytes())
    nodes = [Node("A", 2), Node("D")]
    for n in nodes:
        n.replica.receive(log)
        n.replica.take_ops()
        n.replica.check()
        assert hashlib.sha256(b" ".join(n.elements())).hexdigest().startswith("b09c14647f7a3d89")
    model = nodes[0].elements()
    made = []
    for i in range(0, 2 * len(model) + 1, 2):                # one into each gap
        model.insert(i, b"new %d" % i)
        made.append(nodes[i // 2 % 2].insert(i, model[i]))
        exchange(*nodes, batches=made[-1:])
    rng = random.Random(1)
    for i in range(400):                                     # and some beside those
        at = rng.randrange(len(model) + 1)
        model.insert(at, b"more %d" % i)
        made.append(nodes[i % 2].insert(at, model[at]))
        exchange(*nodes, batches=made[-1:])
    found = Ops()
    known = nodes[0].replica.actors()
    actors = pb.Batch(actors=[pb.Actor(id=i, replica=r, epoch=e) for i, r, e, _ in known])
    for batch in [actors.SerializeToString(), log, *made]:
        found.read(batch)
    for n in nodes:
        n.replica.check()
        assert n.elements() == model
    assert told(found)[0, KEY].shows("list", model)
    assert nodes[0].replica.digest() == nodes[1].replica.digest()


# ---- what concurrent inserts look like -----------------------------------------------------------

def test_inserts_to_both_sides_at_once_are_there_once():
    """Both replicas make hundreds of inserts to the left and right of the newest, at one place,
    before they hear of each other."""
    a, b = Node("A"), Node("B")
    a.do("RPUSH", KEY, "first", "last")
    exchange(a, b)
    for n, name in ((a, "a"), (b, "b")):
        newest = "first"
        for i in range(600):
            where = ("AFTER", "BEFORE")[i % 2]
            assert n.do("LINSERT", KEY, where, newest, f"{name}{i}") == i + 3
            newest = f"{name}{i}"
    local = a.elements(), b.elements()
    exchange(a, b)
    assert a.elements() == b.elements() and a.replica.digest() == b.replica.digest()
    merged = a.elements()
    assert len(merged) == len(set(merged)) == 1202
    for there in local:
        assert [v for v in merged if v in set(there)] == there
    of_a = [i for i, v in enumerate(merged) if v.startswith(b"a")]
    assert of_a[-1] - of_a[0] == 599                         # not mixed with the other's


@pytest.mark.parametrize("levels", range(OWN_LEVELS - 1))
def test_runs_inserted_into_others_runs_are_not_mixed(levels):
    """B's run within A's, A's within that, and so on; then both insert at that place at once, one
    after the other."""
    a, b = Node("A"), Node("B")
    a.do("RPUSH", KEY, "first", "last")
    exchange(a, b)
    at = 1
    for i in range(levels):
        who = (b, a)[i % 2]
        exchange(a, b, batches=[who.insert(at, b"x%d" % i), who.insert(at + 1, b"y%d" % i)])
        at += 1
    log = [[], []]
    for i in range(20):
        log[0].append(a.insert(at + i, b"a%d" % i))
        log[1].append(b.insert(at + i, b"b%d" % i))
    exchange(a, b, batches=log[0] + log[1])
    shown = a.elements()
    assert b.elements() == shown
    of_whom = [v[:1] for v in shown[at:at + 40]]
    assert of_whom in ([b"a"] * 20 + [b"b"] * 20, [b"b"] * 20 + [b"a"] * 20)


def main():
    for pattern, (how, _) in PATTERNS.items():
        for n in [10_000, 100_000, 1_000_000]:
            if "restarts" in pattern and n > 20_000:
                continue
            start = time.monotonic()
            m = how(n)
            print(f"{pattern:38} {m.inserts:8} inserts: {m.bytes / m.inserts:6.1f} bytes of log "
                  f"each, deepest {m.deepest:3}, longest {m.longest:4} bytes, "
                  f"{time.monotonic() - start:6.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())

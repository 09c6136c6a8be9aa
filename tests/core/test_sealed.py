"""Entries of streams in blocks: whoever reads, changes, gives or joins a stream meets the same as
in one whose entries all stand by themselves, in a quarter of the memory.

The two are replicas of the same name to which the same happens: one seals and opens at random, the
other opens every block at once. Whole clusters that do so are the simulation's."""
import random

import pytest

from crdtredis._core import (BucketDigests, StateReader, StateWriter, probe_groups, probe_memory,
                             probe_records, probe_seal, probe_sealed)
from tests.core.test_buckets import digests
from tests.core.test_join import all_of, join, same
from tests.core.test_state import NOW, Node, stream, taken
from tests.core.test_streams import checkpoint, ids

MOST = 2**64 - 1
ODD_IDS = ["0-1", "0-2", "1-0", f"1-{MOST}", "2-0", f"{2**48 + 5}-7", f"{2**48 + 5}-65543",
           f"{2**63}-{2**32}", f"{MOST}-0", f"{MOST}-{MOST}"]
SHAPES = [("name", "alice", "age", "42"), ("name", "bob", "age", "7"), ("f", ""), ("", "v"),
          ("name", "x"), ("name", "a" * 130, "age", "b" * 300), ("long", "x" * 600),
          ("f", "1", "f", "2"), ("name", "alice", "agf", "42")]


class Both:
    """A replica that seals, and one that does not; both get the same."""

    def __init__(self, name: str, dice: random.Random):
        self.dice = dice
        self.nodes = Node(name), Node(name)
        self.blocks = 0

    def __call__(self, *argv):
        replies = [node(*argv) for node in self.nodes]
        assert str(replies[0]) == str(replies[1]), argv
        self.shake()
        return replies[0]

    def receive(self, log: bytes) -> None:
        for node in self.nodes:
            node.receive(log)
        self.shake()

    def shake(self) -> None:
        sealed, plain = self.nodes
        assert sealed.log == plain.log
        self.blocks = max(self.blocks, probe_seal(sealed.replica, self.dice.getrandbits(63) | 1))
        assert probe_seal(plain.replica, 0) == 0

    def later(self, ms: int) -> None:
        for node in self.nodes:
            node.replica.now += ms
            node.replica.tick()

    @property
    def log(self) -> bytes:
        return self.nodes[0].log

    def compare(self) -> None:
        sealed, plain = (node.replica for node in self.nodes)
        sealed.check(), plain.check()
        assert sealed.digest() == plain.digest()
        assert stream(sealed, 300) == stream(plain, 300)
        assert checkpoint(sealed, 1) == checkpoint(plain, 1)
        assert digests(sealed) == digests(plain)
        assert probe_groups(sealed, 0, b"s") == probe_groups(plain, 0, b"s")
        for argv in (("DUMP", "s"), ("XLEN", "s"), ("XRANGE", "s", "-", "+"),
                     ("XREVRANGE", "s", "+", "-"), ("XREVRANGE", "s", "+", "-", "COUNT", 3),
                     ("XREAD", "STREAMS", "s", "0"),
                     ("XINFO", "STREAM", "s", "FULL", "COUNT", 0)):
            self(*argv)


def entry_ids(node, key="s") -> list[str]:
    return [i.decode() for i, _ in node("XRANGE", key, "-", "+")]


def change(node: Both, rng: random.Random, turn: int) -> None:
    x, some = rng.random(), entry_ids(node)
    picked = rng.sample(some, min(len(some), rng.choice([1, 1, 3])))
    if x < 0.55 or not some:
        for n in range(rng.choice([1, 3, 20])):
            i = rng.choice(["*", "*", "*", f"{NOW + rng.randrange(10**5)}-{rng.randrange(3)}",
                            f"{NOW + 10**6 + turn}-{n}"])          # which the other may choose, too
            node("XADD", "s", i, *rng.choice(SHAPES[:rng.choice([2, 9])]))
    elif x < 0.68:
        node("XDEL", "s", *picked)
    elif x < 0.74:
        node("XTRIM", "s", *rng.choice([("MAXLEN", len(some) * 2 // 3), ("MINID", picked[0]),
                                        ("MAXLEN", "~", len(some) - 1)]))
    elif x < 0.76:
        node("XGROUP", "CREATE", "s", "g", rng.choice(["0", "$", picked[0]]))
    elif x < 0.86:
        node("XREADGROUP", "GROUP", "g", rng.choice("xy"), "COUNT", rng.randint(1, 9), "STREAMS",
             "s", rng.choice([">", ">", "0"]))
    elif x < 0.9:
        node("XACK", "s", "g", *picked), node("XCLAIM", "s", "g", "z", 0, *picked)
    elif x < 0.93:
        node("XDELEX", "s", rng.choice(["KEEPREF", "DELREF", "ACKED"]), "IDS", len(picked), *picked)
    elif x < 0.95:
        node("XGROUP", "SETID", "s", "g", rng.choice(["0", picked[0]]))
    elif x < 0.97:
        node("COPY", "s", "t", "REPLACE"), node("XLEN", "t")
    elif x < 0.98:
        node("DEL", "s")
    else:
        node("XREAD", "COUNT", 3, "STREAMS", "s", picked[0])
        node("XRANGE", "s", picked[0], picked[-1]), node("XREVRANGE", "s", picked[-1], picked[0])


@pytest.mark.parametrize("seed", range(40))
def test_what_is_sealed_is_the_same_as_what_is_not(seed):
    rng = random.Random(seed)
    a, b = Both("a", rng), Both("b", rng)
    told = {a: 0, b: 0}
    for turn in range(60):
        node, other = rng.choice([(a, b), (b, a)])
        node.later(rng.choice([0, 0, 1, 1100]))
        change(node, rng, turn // 6)
        if rng.random() < 0.3:
            log, told[node] = node.log[told[node]:], len(node.log)
            other.receive(log)
    for node, other in ((a, b), (b, a), (a, b)):
        other.receive(node.log)
    a.compare(), b.compare()
    assert a.nodes[0].replica.digest() == b.nodes[1].replica.digest()
    assert max(a.blocks, b.blocks) > 1


def test_ids_and_fields_of_all_kinds_stay_as_they_are():
    node = Both("a", random.Random(7))
    for n, i in enumerate(ODD_IDS):
        node("XADD", "s", i, *SHAPES[n % len(SHAPES)])
    for dice in range(1, 40):
        probe_seal(node.nodes[0].replica, dice)
        assert entry_ids(node) == ODD_IDS
        node.compare()
    assert node.blocks


def filled(n: int, name: str = "a", **more) -> Node:
    node = Node(name, **more)
    for i in range(n):
        node.replica.now += i % 3 == 0
        node("XADD", "s", "*", "name", "alice", "age", 42)
    return node


def entry_bytes(node: Node) -> float:
    return node("MEMORY", "USAGE", "s", "SAMPLES", 0) / node("XLEN", "s")


def test_an_entry_takes_a_quarter():
    node = filled(5000)
    node.replica.check()
    assert entry_bytes(node) < 20
    probe_seal(node.replica, 0)
    assert entry_bytes(node) > 80
    for _ in range(3):                          # what was opened is sealed behind two looks
        node.replica.now += 2000
        node.replica.tick()
    assert entry_bytes(node) < 20
    node.replica.check()


def test_a_small_one_is_sealed_when_nothing_comes_any_more():
    node = filled(20)
    before = entry_bytes(node)
    for _ in range(2):
        node.replica.now += 2000
        node.replica.tick()
    assert entry_bytes(node) < before / 2
    node("XADD", "s", "*", "name", "bob", "age", 1)
    assert node("XLEN", "s") == 21
    node.replica.check()


def test_what_comes_late_finds_the_end_open():
    """b's entries come 300 steps behind: the blocks that they would stand in are not made."""
    a, b = Node("a"), Node("b", seed=2)
    pieces: list[bytes] = []
    told = opened = before = 0
    for i in range(4000):
        for node in (a, b):
            node.replica.now += i % 2
            node("XADD", "s", "*", "f", i)
        pieces.append(b.log[told:])
        told = len(b.log)
        if i >= 300:
            a.receive(pieces[i - 300])
        now = probe_sealed(a.replica, 0, b"s")[0]
        opened += now < before
        before = now
    a.replica.check()
    assert before > 6000 and opened < 20
    for piece in pieces[-300:]:
        a.receive(piece)
    b.receive(a.log)
    for node in (a, b):
        for _ in range(3):
            node.replica.now += 2000
            node.replica.tick()
        node.replica.check()
        n, blocks = probe_sealed(node.replica, 0, b"s")
        assert n > 7900 and blocks < 150
    assert a.replica.digest() == b.replica.digest()
    assert ids(a) != entry_ids(a) == entry_ids(b), "what came late is read late"


def test_a_block_far_behind_is_closed_again():
    """A late entry opens one; nothing that comes later stands near it."""
    a, b = filled(2000), Node("b", seed=2)
    ms, seq = entry_ids(a)[500].split("-")
    b("XADD", "s", f"{ms}-{int(seq) + 1}", "name", "late", "age", 1)
    before = probe_sealed(a.replica, 0, b"s")[0]
    a.receive(b.log)
    assert before - 64 <= probe_sealed(a.replica, 0, b"s")[0] < before
    for _ in range(3):
        a.replica.now += 2000
        a.replica.tick()
    a.replica.check()
    assert a("XLEN", "s") == 2001 and probe_sealed(a.replica, 0, b"s")[0] > 1990


@pytest.mark.parametrize("most", [1, 300, 64 << 10])
@pytest.mark.parametrize("step", [1, 7, 1 << 30])
def test_a_full_sync_of_sealed_ones(most, step):
    """What either removed goes, what only one has stays, in blocks that both had sealed."""
    a = filled(400)
    b = Node("b", seed=2)
    b.receive(a.log)
    some = entry_ids(a)
    for n in (0, 1, 64, 65, 127, 200, 399):
        a("XDEL", "s", some[n])
    b("XDEL", "s", some[3], some[201]), b("XTRIM", "s", "MINID", some[2])
    b("XADD", "s", "*", "name", "carol", "age", 1)
    a("XADD", "s", "*", "other", "carol")
    wanted = all_of(a.log, b.log)
    for node in (a, b):
        probe_seal(node.replica, 5)
    of_a, of_b = stream(a.replica, most), stream(b.replica, most)
    dice = random.Random(most)
    join(b.replica, of_a, most=step, between=lambda: probe_seal(b.replica, dice.getrandbits(60)))
    join(a.replica, of_b, most=step)
    same(a.replica, wanted), same(b.replica, wanted)


def test_what_says_another_thing_gives_way_to_the_giver():
    """c has b's entries, but one is another's under the same dot: b's state rules."""
    a, b = Node("a"), Node("a")
    for i in range(200):
        a("XADD", "s", f"{i + 1}-0", "f", "v")
        b("XADD", "s", f"{i + 1}-0", "f", "w" if i == 100 else "v")
    c, d = taken(stream(a.replica), "c"), taken(stream(b.replica), "d")
    for node in (c, d):
        probe_seal(node.replica, 9)
    join(c.replica, stream(d.replica))
    assert c.replica.digest() == d.replica.digest() != a.replica.digest()


@pytest.mark.parametrize("seed", range(12))
def test_a_checkpoint_under_way_while_entries_come_and_go(seed):
    rng = random.Random(seed)
    a = filled(300)
    begun = len(a.log)
    walk, out = StateWriter(a.replica, home=True), []
    while record := walk.next(rng.choice([1, 200, 2000])):
        out.append(probe_records(record)[0][0])
        some = entry_ids(a)
        x = rng.random()
        if x < 0.3:
            a("XADD", "s", "*", "name", "dave", "age", 3)
        elif x < 0.5:
            a("XDEL", "s", *rng.sample(some, min(5, len(some))))
        elif x < 0.6:
            a("XTRIM", "s", "MAXLEN", max(0, len(some) - rng.randrange(30)))
        probe_seal(a.replica, rng.getrandbits(60))
    again = Node("a", 9, seed=3)
    again.replica.recovering = True
    reader = StateReader(again.replica)
    for message in out:
        reader.take(message)
    again.replica.receive(a.log[begun:])
    again.replica.recovering = False
    again.replica.check()
    assert again.replica.digest() == a.replica.digest()
    assert ids(again) == ids(a)


def test_a_digest_under_way_does_not_mind():
    a = filled(500)
    before, dice = digests(a.replica), random.Random(1)
    walk = BucketDigests(a.replica)
    while walk.step(10):
        probe_seal(a.replica, dice.getrandbits(60))
    assert walk.result() == before == digests(a.replica)


@pytest.mark.parametrize("removal", [("DEL", "s"), ("FLUSHALL",), ("XTRIM", "s", "MAXLEN", 0),
                                     ("UNLINK", "s"), ("SET", "s", "v")])
def test_nothing_is_left_behind(removal):
    before = probe_memory()
    a, b = filled(3000), Node("b", seed=2)
    b.receive(a.log)
    b("XADD", "s", "*", "f", "v")
    a.receive(b.log)
    a(*removal)
    b.receive(a.log)
    assert a.replica.digest() == b.replica.digest()
    for node in (a, b):
        while node.replica.collect_garbage(7):
            pass
        node.replica.check()
        assert node("TYPE", "s") == {"XTRIM": b"stream", "SET": b"string"}.get(removal[0], b"none")
    del a, b, node
    assert probe_memory() == before


@pytest.mark.parametrize("removal", ["XTRIM", "XDEL"])
def test_a_block_is_used_up_from_its_front(removal):
    """Each entry that goes is the first one: no block is made anew for it."""
    node = filled(300)
    blocks = probe_sealed(node.replica, 0, b"s")[1]
    some = entry_ids(node)
    for n in range(300):
        node(removal, "s", *([some[n]] if removal == "XDEL" else ["MAXLEN", 299 - n]))
        node.replica.check()
        assert entry_ids(node) == some[n + 1:]
        assert probe_sealed(node.replica, 0, b"s")[1] <= blocks
    again = Node("b", seed=2)
    again.receive(node.log)
    assert again.replica.digest() == node.replica.digest()

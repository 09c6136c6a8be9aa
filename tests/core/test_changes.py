"""Strings that are changed in place, in the kernel (core/patches.pxi, core/fold.pxi). The model of
it is patches.py; whole clusters are the simulation's."""
import random
import time

import pytest

from crdtredis._core import PatchHold, Replica, StateReader, StateWriter
from crdtredis._engine import Executor
from tests.core.test_join import join, payload
from tests.respclient import decode

NOW = 1_700_000_000_000


class Node:
    """A replica and the log that it would have. others: those that it counts with."""

    def __init__(self, name: str, names: str, epoch: int = 1, now: int = NOW):
        self.replica = Replica(name, epoch, seed=1, max_clock_skew=1 << 40)
        self.replica.now = now
        self.replica.set_members(set(names))
        self.executor = Executor(self.replica)
        self.session = self.executor.session(2)
        self.log: list[bytes] = []

    def __call__(self, *argv):
        reply = decode(self.executor.execute(self.session, [
            a if isinstance(a, bytes) else str(a).encode() for a in argv]))
        self.written()
        return reply

    def written(self) -> None:
        batch = self.replica.take_ops()
        if batch:
            self.log.append(batch)

    def take(self, other) -> None:
        for batch in other.log:
            self.replica.receive(batch)
        self.written()

    def hear(self, other) -> None:
        self.replica.declare(other.replica.id, other.replica.epoch)
        self.replica.record_clock(other.replica.actor, other.replica.clock_ids())


def cluster(names: str) -> list[Node]:
    nodes = [Node(n, names) for n in names]
    for a in nodes:
        for b in nodes:
            a.hear(b) if a is not b else None
    return nodes


def exchange(*nodes: Node) -> None:
    for _ in nodes:
        for a in nodes:
            for b in nodes:
                if a is not b:
                    b.take(a)
    for a in nodes:
        for b in nodes:
            a.hear(b) if a is not b else None
        a.replica.check()


def same(nodes: list[Node], want, key="k") -> None:
    exchange(*nodes)
    assert [n("GET", key) for n in nodes] == [want] * len(nodes)
    assert len({n.replica.digest() for n in nodes}) == 1
    for n in nodes:
        n.replica.fold()
        n.replica.check()
    assert [n("GET", key) for n in nodes] == [want] * len(nodes)
    assert len({n.replica.digest() for n in nodes}) == 1
    assert [n.replica.patches[1:3] for n in nodes] == [(0, 0)] * len(nodes)


def test_a_text_that_is_undone_stays_where_it_is():
    """Though with what is undone its lengths take more room."""
    nodes = a, b = cluster("ab")
    for i in range(20):
        a("SET", i, b"x" * (524_280 + i), "EX", 100)
    exchange(*nodes)
    a.replica.now += 10
    for i in range(20):
        a("APPEND", i, b"a" * 100)
        b("APPEND", i, b"b")
    exchange(*nodes)
    for i in range(20):
        same(nodes, b"x" * (524_280 + i) + b"b" + b"a" * 100, i)
        assert a("TTL", i) == b("TTL", i) == 100


def test_contract():
    nodes = a, b = cluster("ab")
    a("SETBIT", "k", 7, 1)
    exchange(a, b)
    a("SETBIT", "k", 1, 1), b("SETBIT", "k", 2, 1)
    same(nodes, bytes([0b01100001]))                   # BIT-1
    a("SETBIT", "k", 3, 1), b("DEL", "k")
    same(nodes, bytes([0b00010000]))                   # BIT-2
    a("SET", "k", "x")
    exchange(a, b)
    a("APPEND", "k", "a"), b("APPEND", "k", "b")
    same(nodes, b"xab")                                # APP-1
    b("APPEND", "k", "c"), a("SET", "k", "y")
    same(nodes, b"y")
    b("SETRANGE", "k", 3, "zz"), a("BITFIELD", "k", "SET", "u8", 0, 88)
    same(nodes, b"X\0\0zz")


def test_order_of_stamps():
    """The example at the head of patches.pxi."""
    a, b = cluster("ab")
    a("SET", "k", "x")
    exchange(a, b)
    b("APPEND", "k", "bb"), b("SETRANGE", "k", 1, "Z")
    a.replica.now += 5
    a("APPEND", "k", "a")
    assert (a("GET", "k"), b("GET", "k")) == (b"xa", b"xZb")
    same([a, b], b"xZba")


def test_a_log_that_is_cut_has_no_hole():
    a, b = cluster("ab")
    a("APPEND", "k", "old")
    exchange(a, b)
    a("DEL", "k"), b("APPEND", "k", "new")
    same([a, b], b"new")


def test_loose_and_rooted():
    a, b = cluster("ab")
    b.replica.now += 9
    b("APPEND", "k", "bits"), a("SET", "k", "v")
    same([a, b], b"v")
    a("APPEND", "k", "w")
    exchange(a, b)
    b("DEL", "k")
    same([a, b], None)


def test_changes_of_counters_and_counted_are_sets():
    a, b = cluster("ab")
    a("INCRBY", "k", 12)
    exchange(a, b)
    a("APPEND", "k", "0"), b("INCR", "k")
    same([a, b], b"121")
    a("PFADD", "h", "x")
    a("SETRANGE", "h", 16, "\x80")
    assert a.replica.patches[:2] == (0, 0)


def test_alone_nothing_is_remembered():
    a = Node("a", "a")
    for i in range(100):
        a("SETBIT", "b", i * 7, 1), a("APPEND", "l", "x" * i), a("SETRANGE", "s", i, "ab")
    assert a.replica.patches == (0, 0, 0, 0)
    assert a("STRLEN", "l") == 4950 and a("BITCOUNT", "b") == 100 and a("GET", "s") == (
        b"a" * 99 + b"ab")
    large = Node("c", "c")
    large("SET", "k", bytes(1 << 20))
    before = sum(map(len, large.log))
    large("SETBIT", "k", 4711, 1), large("APPEND", "k", "12345"), large("SETRANGE", "k", 7, "xyz")
    assert sum(map(len, large.log)) - before < 250


def test_alone_recovery_over_a_checkpoint():
    """Whatever the walk met of what the log brings again."""
    for seed in range(60):
        rng = random.Random(seed)
        a = Node("a", "a")
        keys = [f"k{i}" for i in range(5)]

        def step():
            k = rng.choice(keys)
            a(*rng.choice([("APPEND", k, "abc"), ("APPEND", k, "d"),
                           ("SETBIT", k, rng.randrange(60), 1),
                           ("SETRANGE", k, rng.randrange(9), "xyz"), ("DEL", k), ("SET", k, "set"),
                           ("BITFIELD", k, "INCRBY", "u5", rng.randrange(30), 3)]))
        for _ in range(rng.randrange(20)):
            step()
        begin, walk, messages = len(a.log), StateWriter(a.replica, home=True), []
        while record := walk.next(rng.choice([1, 40])):
            messages.append(payload(record))
            for _ in range(rng.randrange(4)):
                step()
        for _ in range(rng.randrange(6)):
            step()
        back = Replica("a", 2, seed=2)
        back.now = NOW
        back.recovering = True
        reader = StateReader(back)
        for message in messages:
            reader.take(message)
        for record in a.log[begin:]:
            back.receive(record)
        back.recovering = False
        back.check()
        assert back.digest() == a.replica.digest(), f"seed {seed}"


def test_lost_tail():
    """As in fold.pxi: c has folded what b' never knew."""
    a, b, c = nodes = cluster("abc")
    for n in nodes:
        n.replica.now = NOW + 10
    a("SETBIT", "k", 1, 1)
    exchange(*nodes)
    c.replica.fold()
    assert c.replica.patches[1] == 0 and a.replica.patches[1] == 1
    late = Node("b", "abc", epoch=2)
    late("SETBIT", "k", 1, 0), late("SETBIT", "k", 2, 1)
    for n in (a, c):
        n.take(late)
    assert (a("GET", "k"), c("GET", "k")) == (b"\x60", b"\x20")
    assert a.replica.patches[2] == 0 and c.replica.patches[2] == 1
    c.replica.tick()
    assert c.replica.patches[3] == 0, "it waits for more of the same"
    c.replica.now += 2000
    c.replica.tick()
    c.written()
    for n in (a, late, b):
        n.hear(c)
    b.replica.close([late.replica.actor])
    exchange(a, c, late)
    assert {n("GET", "k") for n in (a, c, late)} == {b"\x20"}
    assert len({n.replica.digest() for n in (a, c, late)}) == 1


def test_what_is_on_its_way_is_waited_for_before_a_text_is_written_anew():
    """It would go with that, for nobody there had observed it; but not for ever."""
    def late_at_c():
        a, b, c = nodes = cluster("abc")
        a("APPEND", "k", "x")
        exchange(*nodes)
        c.replica.fold()
        late = Node("b", "abc", epoch=2)
        late("APPEND", "k", "y")
        c.take(late)
        a("APPEND", "k", "z")
        return a, c, late

    def tick(c, ms):
        c.replica.now += ms
        c.replica.tick()
        return c.replica.patches[3]
    a, c, late = late_at_c()
    c.hear(a)                                   # which has more
    assert tick(c, 2000) == 0
    c.take(a)
    assert tick(c, 1) == 1
    c.written()
    a.take(late), a.take(c)
    assert sorted(c("GET", "k")) == sorted(b"xyz") == sorted(a("GET", "k"))
    a, c, late = late_at_c()
    c.hear(a)
    assert [tick(c, ms) for ms in (2000, 58_000, 2000)] == [0, 0, 1]
    a, c, late = late_at_c()
    c.replica.set_apart(True)
    assert tick(c, 2000) == 0
    c.replica.set_apart(False)
    assert tick(c, 1) == 1


def test_a_late_set_beside_a_text_of_its_own_actor_is_given_and_taken():
    """What was refused: until such a key is written anew it has two writes of one actor."""
    a, b, c = nodes = cluster("abc")
    a("SETBIT", "other", 1, 1)
    exchange(*nodes)
    c.replica.fold()
    late = Node("b", "abc", epoch=2)
    late("APPEND", "k", "x")
    for n in (a, c):
        n.take(late), n.hear(late)
    c.hear(a)
    c.replica.fold()
    late("SET", "k", "v")
    c.take(late)
    assert c.replica.patches[1:3] == (0, 1) and len(c.replica.inspect(0, b"k")["writes"]) == 2
    walk, messages = StateWriter(c.replica), []
    while record := walk.next():
        messages.append(payload(record))
    back = Replica("c", 2, seed=2)
    back.recovering = True
    reader = StateReader(back)
    for message in messages:
        reader.take(message)
    back.recovering = False
    back.check()
    assert back.digest() == c.replica.digest()
    d = Node("d", "abcd")
    join(d.replica, messages)
    assert d.replica.digest() == c.replica.digest() and d("GET", "k") == b"v"


def test_a_member_that_is_away_holds_back():
    a, b = cluster("ab")
    c = Node("c", "abc")
    for n in (a, b):
        n.replica.set_members({"a", "b", "c"})
    a("SETBIT", "k", 1, 1)
    exchange(a, b)
    a.replica.fold()
    assert a.replica.patches[1] == 1
    a.replica.set_members({"a", "b"})
    a.replica.fold()
    assert a.replica.patches[1] == 0
    c("GET", "k")


def test_a_process_that_goes_on_as_the_one_before_waits_for_none_of_itself():
    a, b = cluster("ab")
    a("APPEND", "k", "x"), b("APPEND", "l", "x")
    exchange(a, b)
    back = Node("a", "ab", epoch=2)
    back.take(a), back.take(b)
    back.replica.resume(1)
    back("APPEND", "k", "y")
    same([back, b], b"xy")


def test_a_whole_value_beside_an_older_version():
    a, b = cluster("ab")
    a.replica.set_members({"a", "b"}, False)
    a("SETBIT", "k", 1, 1), a("APPEND", "k", "x"), a("SETRANGE", "k", 1, "yz")
    assert a.replica.patches == (0, 0, 0, 0) and a("GET", "k") == b"@yz"
    same([a, b], b"@yz")


def test_once_there_is_a_change_nobody_is_older():
    """Whoever made it knew: so a start that has met nobody yet goes on with them."""
    a, b = cluster("ab")
    b("APPEND", "k", "x")
    a.replica.set_members(None, False)
    a("APPEND", "l", "x")
    assert a.replica.patches[1] == 0
    a.take(b)
    a("APPEND", "l", "x")
    assert a.replica.patches[:2] == (2, 2)
    exchange(a, b)
    b.replica.fold()
    walk, messages = StateWriter(b.replica), []
    while record := walk.next(100):
        messages.append(payload(record))
    back = Node("a", "ab", epoch=2)
    back.replica.set_members(None, False)
    join(back.replica, messages)
    back("APPEND", "l", "y")
    assert back.replica.patches[1] == 1 and back("GET", "l") == b"xxy"


def test_while_a_state_is_given_nothing_is_folded():
    a, b = cluster("ab")
    a("SETBIT", "k", 1, 1)
    exchange(a, b)
    hold, walk = PatchHold(a.replica), StateWriter(a.replica)
    a.replica.fold()
    hold.release()
    a.replica.fold()
    assert a.replica.patches[1] == 1
    while walk.next():
        pass
    a.replica.fold()
    assert a.replica.patches[1] == 0


def random_change(rng: random.Random):
    k = rng.choice(["k", "l"])
    return rng.choice([("APPEND", k, rng.choice(["a", "bcd"])), ("SETBIT", k, rng.randrange(30), 1),
                       ("SETRANGE", k, rng.randrange(7), rng.choice(["QR", "S"])),
                       ("SETBIT", k, rng.randrange(30), 0), ("DEL", k),
                       ("SET", k, rng.choice(["", "value"])), ("GET", k)])


@pytest.mark.parametrize("first", [0, 40])
def test_joins(first):
    """Of clusters that fold as they like, each takes the other's state, or gets its ops."""
    for seed in range(first, first + 40):
        rng = random.Random(seed)
        nodes = cluster("abc")
        for _ in range(rng.randrange(60)):
            n, o = rng.sample(nodes, 2)
            x = rng.random()
            if x < 0.5:
                n.replica.now += rng.randrange(3)
                n(*random_change(rng))
            elif x < 0.8:
                n.take(o)
            elif x < 0.9:
                n.hear(o)
            else:
                n.replica.fold(rng.choice([1, 9]))
        a, b, c = nodes
        walk, messages = StateWriter(b.replica), []
        while record := walk.next(rng.choice([1, 100])):
            messages.append(payload(record))
        join(a.replica, messages)
        plain = Node("z", "abcz")
        for n in (a, b, c):
            plain.take(n)
        for _ in range(3):
            for n in (b, c):
                a.take(n)
        assert a.replica.patches[2] == 0, "nothing was late"
        for key in ("k", "l"):
            assert a("GET", key) == plain("GET", key), f"seed {seed}"
        assert a.replica.digest() == plain.replica.digest(), f"seed {seed}"



@pytest.mark.parametrize("first", [("SET", "k", "x"), ("APPEND", "k", "x")])
@pytest.mark.parametrize("giver", [0, 1])
def test_one_side_has_folded(first, giver):
    """The base of who has folded holds what the other still has as a patch."""
    nodes = a, b = cluster("ab")
    a(*first)
    exchange(a, b)
    a("APPEND", "k", "a"), b("SETRANGE", "k", 0, "B")
    exchange(a, b)
    b.replica.fold()
    assert (a.replica.patches[1] >= 2, b.replica.patches[1]) == (True, 0)
    a("APPEND", "k", "1"), b("APPEND", "k", "2")
    walk, messages = StateWriter(nodes[giver].replica), []
    while record := walk.next(100):
        messages.append(payload(record))
    join(nodes[1 - giver].replica, messages)
    same([a, b], b"Ba12")


def test_join_of_many():
    """Its time is linear in the patches that both sides have of a key."""
    a, b = cluster("ab")
    a("SET", "k", "")
    exchange(a, b)
    for n in (a, b):
        for i in range(20_000):
            n.replica.now += 1
            n("SETBIT", "k", 2 * i + (n is b), 1)
    walk, messages = StateWriter(b.replica), []
    while record := walk.next(100):
        messages.append(payload(record))
    spent = []
    for n in (Node("c", "abc"), a):
        began = time.process_time()
        join(n.replica, messages)
        spent.append(time.process_time() - began)
    assert spent[1] < 20 * spent[0] + 0.5
    assert a("BITCOUNT", "k") == 40_000
    a.replica.check()

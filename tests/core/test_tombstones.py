"""Tombstones: how long they live, over restarts too; and that looking for those that may go costs
little, however many there are."""
import random
from collections import Counter

import pytest

from crdtredis._core import Replica, probe_get, probe_make, slice_batch
from crdtredis._engine import Executor
from tests.respclient import decode

NOW = 1_700_000_000_000
HASH = 1


class Node:
    """A replica, its log, and a client."""

    def __init__(self, name: str, epoch: int, log: list[bytes] = ()):
        self.replica = r = Replica(name, epoch, seed=5)
        r.now = NOW
        r.recovering = True
        for batch in log:
            r.receive(batch)
        r.recovering = False
        self.log = list(log)
        self.executor = Executor(r)
        self.session = self.executor.session()

    def __call__(self, *argv):
        return decode(self.executor.execute(self.session,
                                            [a if isinstance(a, bytes) else str(a).encode()
                                             for a in argv]))

    def iterate(self) -> bytes:
        batch = self.replica.take_ops()
        if batch:
            self.log.append(batch)
        return batch

    def hear(self, *others: "Node") -> None:
        """Everything the others have, and that they have it; then they hear of us."""
        for o in others:
            o.iterate()
            for _, name, epoch, _ in o.replica.actors():
                self.replica.declare(name, epoch)
            for batch in o.log:
                self.replica.receive(batch)
            self.replica.record_clock(o.replica.actor, o.replica.clock_ids())
        self.iterate()

    @property
    def tombstones(self) -> int:
        return self.replica.stats()["tombstones"]


def meet(*nodes: Node) -> None:
    for _ in range(2):
        for n in nodes:
            n.hear(*(o for o in nodes if o is not n))


def counted(a: Node, key: str, fields) -> None:
    for f in fields:
        a("HINCRBY", key, f, 1)


def test_a_call_looks_at_no_more_than_it_is_granted():
    a, b = Node("a", 1), Node("b", 1)
    counted(b, "h", range(5000))
    meet(a, b)
    a("DEL", "h")
    a.hear(b)
    assert a.tombstones == 5000 and a("EXISTS", "h") == 0
    for _ in range(20):
        a.replica.collect(100)
    # b has not seen the removal
    assert a.tombstones == 5000
    meet(a, b)
    calls = 0
    while a.tombstones:
        before, calls = a.tombstones, calls + 1
        a.replica.collect(100)
        a.replica.check()
        # a bucket holds one on the average
        assert before - a.tombstones <= 300 and calls < 1000
    # the last tombstone takes collection and key along
    assert calls >= 20 and a.replica.keys() == (0, 0)


def test_members_without_tombstones_cost_nothing():
    a, b = Node("a", 1), Node("b", 1)
    counted(a, "large", range(20_000))
    counted(b, "h", range(3))
    meet(a, b)
    a("HDEL", "h", *range(3))
    meet(a, b)
    assert a.tombstones == 3
    # the slots of two small tables, and of fifteen empty databases
    a.replica.collect(200)
    assert a.tombstones == 0 and a("HLEN", "large") == 20_000


def test_tombstones_that_must_stay_do_not_hide_those_that_may_go():
    """Some of a process that ended without having seen the removal stay, in a hash of their own and
    beside others."""
    a, b, dead = Node("a", 1), Node("b", 1), Node("dead", 1)
    for key in ("h", "mixed", "other"):
        counted(dead, key, range(1000))
    meet(a, b, dead)
    for key in ("mixed", "i", "j", "k"):
        counted(b, key, range(1000, 1300))
    b("INCR", "n")
    meet(a, b)
    a("FLUSHALL")
    meet(a, b)
    assert a.tombstones == 3000 + 1200 + 1
    for _ in range(200):
        a.replica.collect(100)
    a.replica.check()
    assert a.tombstones == 3000 and a.replica.keys() == (0, 3)
    assert a("HRANDFIELD", "h") is None


@pytest.mark.parametrize("seed", range(20))
def test_what_is_looked_through_may_change_meanwhile(seed):
    rng = random.Random(seed)
    a, b = Node("a", 1), Node("b", 1)
    for step in range(150):
        n, key = rng.choice([a, b]), rng.choice("hijk")
        x = rng.random()
        if x < 0.6:
            counted(n, key, rng.sample(range(300), rng.choice([1, 5, 80])))
        elif x < 0.7:
            n("HSET", key, *(v for f in rng.sample(range(300), 20) for v in (f, 1)))
        elif x < 0.9:
            n("HDEL", key, *rng.sample(range(300), rng.choice([1, 10, 200])))
        else:
            n(*rng.choice([("DEL", key), ("DEL", key), ("FLUSHDB",), ("RENAME", key, "h")]))
        if rng.random() < 0.3:
            meet(a, b)
        for n in (a, b):
            n.replica.collect(rng.choice([0, 3, 50]))
            n.replica.collect_garbage(rng.choice([0, 10]))
            n.replica.check()
    meet(a, b)
    meet(a, b)
    for n in (a, b):
        for _ in range(10):
            n.replica.collect()
        assert n.tombstones == 0
    assert a.replica.digest() == b.replica.digest()


# ---- choosing at random among them ---------------------------------------------------------------


def even(found: Counter, among: int, draws: int) -> bool:
    """Is every one drawn about as often? Six standard deviations."""
    mean = draws / among
    return len(found) == among and all(abs(n - mean) < 6 * mean ** 0.5 for n in found.values())


@pytest.mark.parametrize("live", [1, 3, 70, 500])
def test_every_field_is_as_likely_among_tombstones(live):
    a, b = Node("a", 1), Node("b", 1)
    counted(b, "h", range(5000))
    meet(a, b)
    a("HDEL", "h", *range(live, 5000))
    assert a.tombstones == 5000 - live and a("HLEN", "h") == live
    draws = 400 if live < 10 else 20 * live
    assert even(Counter(a("HRANDFIELD", "h") for _ in range(draws)), live, draws)
    assert len(a("HRANDFIELD", "h", live)) == live
    # by one look at all
    assert even(Counter(a("HRANDFIELD", "h", -20 * max(live, 100))), live, 20 * max(live, 100))


def test_every_scored_member_is_as_likely_among_tombstones():
    a, b = Node("a", 1), Node("b", 1)
    for i in range(3000):
        b("ZINCRBY", "z", i, i)
    meet(a, b)
    a("ZREM", "z", *range(3, 3000))
    assert even(Counter(a("ZRANDMEMBER", "z", -2000)[i] for i in range(2000)), 3, 2000)
    assert even(Counter(a("ZRANDMEMBER", "z") for _ in range(400)), 3, 400)
    found = a("ZRANDMEMBER", "z", -2000, "WITHSCORES")
    assert all(float(score) == float(member) for member, score in zip(found[::2], found[1::2]))


@pytest.mark.parametrize("seed", range(5))
def test_what_was_found_among_tombstones_is_used_only_while_it_is_all_there_is(seed):
    """Hashes and a database of few live elements that are deleted, added and of the same names."""
    rng = random.Random(seed)
    a, b = Node("a", 1), Node("b", 1)
    live = {key: set() for key in "hi"}
    for key in "hi":
        counted(b, key, range(3000))
    for i in range(3000):
        b("INCR", f"k{i}")
    meet(a, b)
    for key in "hi":
        a("HDEL", key, *range(3000))
        assert a("EXISTS", key) == 0
    a("DEL", *(f"k{i}" for i in range(3000)))
    assert a.tombstones == 9000 and a("RANDOMKEY") is None
    for _ in range(60):
        key, f = rng.choice("hi"), rng.choice([*range(6), "long" * 1500])
        if rng.random() < 0.6:
            a("HSET", key, f, "v")
            live[key].add(str(f).encode())
        else:
            a("HDEL", key, f)
            live[key].discard(str(f).encode())
        for key in "hi":
            if live[key]:
                assert set(a("HRANDFIELD", key, -60)) == live[key]
        assert ({a("RANDOMKEY") for _ in range(30)} == ({k.encode() for k in "hi" if live[k]}
                                                        or {None}))
    a.replica.check()


def test_every_key_is_as_likely_among_expired_ones():
    a = Node("a", 1)
    for i in range(3000):
        a("SET", f"k{i}", "v", *(("PXAT", NOW + 1) if i >= 3 else ()))
    # nobody has removed them yet
    a.replica.now = NOW + 10
    assert even(Counter(a("RANDOMKEY") for _ in range(300)), 3, 300)
    a("DEL", "k0", "k1", "k2")
    assert a("RANDOMKEY") is None


# ---- how long they live, over restarts -----------------------------------------------------------


def test_an_increment_on_its_way_from_a_process_that_ended_counts_only_its_own_part():
    """a INCRs (1), and again (2) on the way to b; a ends and starts again; b, which saw the first
    only, deletes. The next process of a has seen the delete, but that is no word on what the one
    before had sent: b keeps the tombstone, or (2) would count as 2."""
    a, b = Node("a", 1), Node("b", 1)
    a("INCR", "n")
    b.hear(a)
    a("INCR", "n")
    on_its_way = a.iterate()
    # orderly: its log has everything
    a = Node("a", 2, a.log)
    b("DEL", "n")
    b.iterate()
    b.replica.declare("a", 2)
    b.replica.record_clock(a.replica.actor, {**a.replica.clock_ids(), **b.replica.clock_ids()})
    a.hear(b)
    assert a("GET", "n") == b"1"
    a("SET", "x", "1")
    a_op = slice_batch(a.iterate(), {})
    # waits: it has seen the second INCR
    b.replica.receive(a_op)
    b.replica.collect()
    assert b.tombstones == 1
    b.replica.receive(on_its_way)
    assert b("GET", "n") == b"1" and b.replica.digest() == a.replica.digest()


def test_an_increment_that_its_own_replica_lost_counts_only_its_own_part():
    """a loses power and with it the second INCR, which b has. The next process of a deletes what it
    knows of; it keeps the tombstone for when b brings the increment back."""
    a, b = Node("a", 1), Node("b", 1)
    a("INCR", "n")
    a.iterate()
    kept = list(a.log)
    a("INCR", "n")
    b.hear(a)
    a = Node("a", 2, kept)
    a("DEL", "n")
    a.iterate()
    a.replica.collect()
    assert a.tombstones == 1
    a.hear(b)
    assert a("GET", "n") == b"1"
    b.hear(a)
    assert b("GET", "n") == b"1" and b.replica.digest() == a.replica.digest()


def test_restarts_alone_leave_no_tombstones():
    """Ten lives of a replica that counts, deletes its own and ends: what each took back of itself
    needs no tombstone, elsewhere neither."""
    log, b = [], Node("b", 1)
    for epoch in range(1, 11):
        a = Node("a", epoch, log)
        counted(a, "h", range(10))
        a("INCR", "n")
        meet(a, b)
        a("DEL", "h", "n")
        meet(a, b)
        log = a.log
        a.replica.collect()
        b.replica.collect()
        assert a.tombstones == b.tombstones == 0
    assert (probe_get(a.replica, 0, b"n") is None
            and not probe_make(a.replica, [("del", 0, b"n", None)]))


# ---- of processes that have ended ----------------------------------------------------------------

def test_no_op_beyond_what_was_agreed_on_is_applied():
    a, b, other = Node("a", 1), Node("b", 1), Node("c", 1)
    batches = []
    for _ in range(4):
        b("INCR", "k")
        batches.append(b.iterate())
    for batch in batches[:2]:
        a.replica.receive(batch)
    actor, r = b.replica.actor, a.replica
    r.receive(batches[3])               # it waits already
    r.freeze({actor: 2, 99: 1})
    r.receive(batches[2])
    r.check()
    assert r.clock_ids()[actor] == 2 and r.pending()["ops"] == 2
    assert r.takes({actor: 2, 99: 1}) and not r.takes({actor: 3}) and not r.takes({99: 2})
    other("SET", "k2", "v")
    r.receive(other.iterate())
    assert a("GET", "k2") == b"v"       # of others all come
    r.freeze({actor: 3})
    r.check()
    assert r.clock_ids()[actor] == 3 and r.pending()["ops"] == 1
    r.freeze({})
    r.check()
    assert r.clock_ids()[actor] == 4 and a("GET", "k") == b"4"
    r.freeze({actor: 1})                # what is applied is
    assert r.takes({actor: 4}) and not r.takes({actor: 5})


def test_who_is_frozen_may_be_declared_later():
    a, b, c, d = (Node(n, 1) for n in "abcd")
    batches = []
    for _ in range(4):
        b("INCR", "k")
        batches.append(b.iterate())
    actor, r = b.replica.actor, a.replica
    r.freeze({actor: 2, 99: 1})
    assert r.takes({actor: 2}) and not r.takes({actor: 3})
    for batch in batches:
        r.receive(batch)
    r.check()
    assert r.clock_ids() == {actor: 2} and not r.takes({actor: 3})
    c.replica.freeze({actor: 2})
    c.replica.freeze({})                # what stood before stands no more
    d.replica.freeze({actor: 2})
    d.replica.freeze({actor: 3})
    for batch in batches:
        c.replica.receive(batch)
        d.replica.receive(batch)
    assert c.replica.clock_ids() == {actor: 4} and d.replica.clock_ids() == {actor: 3}


def test_a_tombstone_goes_when_its_actor_is_closed():
    a, b = Node("a", 1), Node("b", 1)
    counted(b, "h", range(10))
    a.hear(b)
    a("DEL", "h")
    a.iterate()
    a.replica.freeze({b.replica.actor: 10})
    a.replica.collect()
    assert a.tombstones == 10           # others may still have more
    a.replica.close([b.replica.actor, 99])
    a.replica.collect()
    a.replica.check()
    assert a.tombstones == 0

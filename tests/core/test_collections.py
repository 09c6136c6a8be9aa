"""Hashes, sets, sorted sets and lists under replication, against an oracle that reads the outcome
off the bare set of ops.

Random clusters make effects, exchange ops with loss of order, duplicates and relays, collect
tombstones and start again from their log. In the end all replicas must be equal, and what they show
must be what the oracle (tests/simulation/oracle.py) says. The simulation does the same with client
commands; here effects are made directly, also such as no command makes in one op.

    python -m pytest tests/core/test_collections.py            # a few hundred schedules
    python -m tests.core.test_collections FIRST LAST           # any others, by seed
"""
import gc
import random
import sys

import pytest

from crdtredis._core import Replica, probe_make, probe_members, probe_pack
from crdtredis.replication import crdtredis_pb2 as pb
from tests.simulation.oracle import TYPE_NAMES, TYPE_ORDER, Ops, told

KEYS = [b"k", b"l"]
NONE = 255
TYPES = [t for t in TYPE_ORDER if t != pb.STREAM_HEAD]      # streams: test_streams.py


# ---- random clusters -----------------------------------------------------------------------------

def random_effect(rng, types, flushes=.01):
    key = rng.choice(KEYS)
    x = rng.random()
    if x < .06:
        return "del", 0, key, None
    if x < .06 + flushes:
        return "flush", 0, b"", None
    type = rng.choice(types)
    name = rng.choice([b"a", b"b", b"c"])
    what = rng.choice(["set", "set", "add", "remove"])
    if type == pb.STRING:
        return ("set", 0, key, rng.choice([b"1", b"text"]))
    if type == pb.LIST:
        return "member", 0, key, (rng.choice(["insert", "insert", "insert", "remove", "set"]), type,
                                  b"%d" % rng.randrange(99),
                                  rng.choice([0, 99, rng.randrange(6)]))
    if type == pb.SET:
        return "member", 0, key, (rng.choice(["set", "remove"]), type, name, b"")
    if type == pb.HASH and what == "set":
        return "member", 0, key, (what, type, name, rng.choice([b"5", b"text"]))
    return "member", 0, key, (what, type, name, rng.choice([1, 2, -3]))


class Cluster:
    def __init__(self, rng, n):
        self.rng = rng
        self.replicas = [Replica(name, 1, seed=i) for i, name in enumerate("ABC"[:n])]
        self.epochs = [1] * n
        # what each replica has taken: its own ops and those it received
        self.logs = [[] for _ in range(n)]
        self.sent = {}
        for i in range(n):
            self.take(i)

    def take(self, i):
        batch = self.replicas[i].take_ops()
        if batch:
            self.logs[i].append(batch)

    def deliver(self, source, target, most):
        """The next batches of source's log, now and then an old one again; relays what source has
        received from others."""
        at = self.sent.get((source, target), 0)
        for batch in self.logs[source][at:at + most]:
            self.replicas[target].receive(batch)
            at += 1
            if self.rng.random() < .1:
                self.replicas[target].receive(self.rng.choice(self.logs[source][:at]))
        self.sent[source, target] = at
        self.take(target)

    def restart(self, i):
        """Comes back from its log as a new actor."""
        self.epochs[i] += 1
        replica = Replica(self.replicas[i].id, self.epochs[i], seed=self.rng.getrandbits(30))
        replica.recovering = True
        for batch in self.logs[i]:
            replica.receive(batch)
        replica.recovering = False
        replica.now = self.replicas[i].now
        assert replica.digest() == self.replicas[i].digest(), "the log does not give the state back"
        self.replicas[i] = replica
        self.take(i)

    def settle(self):
        n = len(self.replicas)
        for _ in range(n + 1):
            for i in range(n):
                for j in range(n):
                    if i != j:
                        self.deliver(i, j, 1 << 30)


def as_lists_do(shown, effects, key):
    """What random effects make of a list, in its own replica."""
    shown = list(shown)
    for what, _, of, argument in effects:
        if what in ("del", "flush") and (what == "flush" or of == key):
            shown = []
        elif what == "member" and of == key:
            do, _, value, at = argument
            if do == "insert":
                shown.insert(at, value)
            elif shown:
                at = min(at, len(shown) - 1)
                shown[at:at + 1] = [value] if do == "set" else []
    return shown


def run(seed, steps=50, flushes=.01):
    rng, packs = random.Random(seed), random.Random(f"packed {seed}")
    types = rng.choice([[t] for t in TYPES] + [TYPES, TYPES])
    c = Cluster(rng, rng.choice([2, 3, 3]))
    n = len(c.replicas)
    for now in range(1000, 1000 + steps):
        i, j = rng.randrange(n), rng.randrange(n)
        c.replicas[i].now = now
        x = rng.random()
        if x < .6:
            effects = [random_effect(rng, types, flushes) for _ in range(rng.choice([1, 1, 1, 3]))]
            before = {key: probe_members(c.replicas[i], 0, key) for key in KEYS}
            probe_make(c.replicas[i], effects)
            if types == [pb.LIST]:
                for key in KEYS:
                    found = probe_members(c.replicas[i], 0, key)[1] or []
                    assert found == as_lists_do(before[key][1] or [], effects, key), (
                        f"seed {seed}: {effects} on {before}")
            c.take(i)
        elif x < .9:
            if i != j:
                c.deliver(j, i, rng.choice([1, 2, 5, 100]))
        elif x < .92:
            c.restart(i)
        else:
            c.replicas[i].record_clock(c.replicas[j].actor, c.replicas[j].clock_ids())
            c.replicas[i].collect()
        c.replicas[i].check()
        if packs.random() < .3:                    # a form means nothing
            probe_pack(c.replicas[packs.randrange(n)])
    c.settle()
    digests = {r.digest() for r in c.replicas}
    assert len(digests) == 1, (
        f"seed {seed}: {[{k: r.inspect(0, k) for k in KEYS} for r in c.replicas]}")
    found = Ops()
    for log in c.logs:
        for batch in log:
            found.read(batch)
    expected = told(found)
    for r in c.replicas:
        for key in KEYS:
            type, shown = probe_members(r, 0, key)
            at = expected.get((0, key))
            shown = set(shown) if type == pb.SET else shown
            right = type == NONE if at is None else at.shows(TYPE_NAMES[type], shown)
            assert right, f"seed {seed}: {r.id} {key}"


@pytest.mark.parametrize("first", range(0, 600, 50))
def test_random_clusters_converge_to_what_the_ops_say(first):
    for seed in range(first, first + 50):
        run(seed)


# ---- named examples ------------------------------------------------------------------------------

def exchange(a, b):
    for _ in range(2):
        for source, target in ((a, b), (b, a)):
            batch = source.take_ops()
            if batch:
                target.receive(batch)
    assert a.digest() == b.digest()


def pair():
    a, b = Replica("A", 1, seed=1), Replica("B", 1, seed=2)
    exchange(a, b)
    return a, b


def push(r, value, at):
    probe_make(r, [("member", 0, b"l", ("insert", pb.LIST, value, at))])


@pytest.mark.parametrize("type", [pb.SET, pb.HASH, pb.ZSET, pb.LIST])
@pytest.mark.parametrize("unseen", [None, "the newest", "an old one assigned again",
                                    "one of a third replica"])
def test_a_large_collection_goes_at_once_only_where_all_of_it_was_seen(type, unseen):
    """A removal from afar of a hundred members and more looks at the newest dot of each actor
    instead of the members."""
    def add(r, i):
        name, argument = ((b"%d" % i, 10**6) if type == pb.LIST
                          else (b"%d" % i, b"v" if type == pb.HASH else b"" if type == pb.SET
                                else i))
        probe_make(r,
                   [("member", 0, b"l", ("insert" if type == pb.LIST else "set", type, name,
                                         argument))])

    a, b, c = (Replica(name, 1, seed=i) for i, name in enumerate("ABC"))
    for i in range(200):
        add(a, i)
    for source in a, b, c:
        batch = source.take_ops()
        for target in a, b, c:
            target.receive(batch)
    if unseen == "the newest":
        add(a, 200)
    elif unseen == "an old one assigned again":
        if type == pb.LIST:
            probe_make(a, [("member", 0, b"l", ("set", type, b"3", 3))])
        else:
            add(a, 3)
    elif unseen == "one of a third replica":
        add(c, 201)
        a.receive(c.take_ops())
    probe_make(b, [("del", 0, b"l", None)])
    a.receive(b.take_ops())
    a.check()
    left = {None: [], "the newest": [b"200"], "an old one assigned again": [b"3"],
            "one of a third replica": [b"201"]}[unseen]
    kind, shown = probe_members(a, 0, b"l")
    assert (([] if kind == NONE else [name for name, _ in shown] if type == pb.ZSET
             else list(shown)) == left)
    batch = a.take_ops()
    for r in b, c:
        r.receive(batch)
    while a.collect_garbage(10):
        pass
    assert a.digest() == b.digest() == c.digest()


@pytest.mark.parametrize("at", [0, 10**6])
@pytest.mark.parametrize("in_one_op", [True, False])
def test_pushes_of_two_replicas_do_not_interleave(at, in_one_op):
    a, b = pair()
    for r, name in ((a, b"a"), (b, b"b")):
        effects = [("member", 0, b"l", ("insert", pb.LIST, name, at)) for _ in range(3)]
        for op in [effects] if in_one_op else [[e] for e in effects]:
            probe_make(r, op)
    exchange(a, b)
    assert (probe_members(a, 0, b"l")[1] == probe_members(b, 0, b"l")[1] in
            ([b"a"] * 3 + [b"b"] * 3, [b"b"] * 3 + [b"a"] * 3))


@pytest.mark.parametrize("at", [0, 10**6])
def test_pushes_beside_an_element_that_both_know_do_not_interleave(at):
    a, b = pair()
    push(a, b"x", 0)
    exchange(a, b)
    for _ in range(3):
        push(a, b"a", at)
        push(b, b"b", at)
    exchange(a, b)
    shown = probe_members(a, 0, b"l")[1]
    shown.remove(b"x")
    assert shown in ([b"a"] * 3 + [b"b"] * 3, [b"b"] * 3 + [b"a"] * 3)


def test_inserts_after_one_element_stand_next_to_it_in_one_order():
    a, b = pair()
    push(a, b"x", 0)
    push(a, b"z", 1)
    exchange(a, b)
    push(a, b"y1", 1)
    push(b, b"y2", 1)
    exchange(a, b)
    shown = probe_members(a, 0, b"l")[1]
    assert (shown == probe_members(b, 0, b"l")[1] and shown[0] == b"x" and shown[3] == b"z"
            and set(shown[1:3]) == {b"y1", b"y2"})


def test_a_queue_through_a_list_leaves_no_memory_behind():
    a, b = pair()
    probe_make(a, [("set", 0, b"other", b"v")])
    exchange(a, b)
    gc.collect()
    before = a.stats()["memory"]                             # of the whole process
    for i in range(1000):
        push(a, b"%d" % i, 10**6)
    exchange(a, b)
    for i in range(1000):
        assert probe_members(b, 0, b"l")[1][0] == b"%d" % i
        probe_make(b, [("member", 0, b"l", ("remove", pb.LIST, b"", 0))])
        push(a, b"more", 10**6)
        if i % 100 == 0:
            exchange(a, b)
    exchange(a, b)
    assert probe_members(a, 0, b"l")[1] == [b"more"] * 1000
    probe_make(a, [("del", 0, b"l", None)])
    exchange(a, b)
    assert probe_members(b, 0, b"l") == (NONE, None)
    a.receive(b.take_ops() or b"")
    for r in (a, b):
        r.collect_garbage()
    assert a.stats()["memory"] <= before + 4096


def test_a_position_is_not_given_out_twice():
    a, b = pair()
    push(a, b"1", 0)
    exchange(a, b)
    probe_make(a, [("member", 0, b"l", ("remove", pb.LIST, b"", 0))])
    # were it the position of 1, B's set would bring 1's place back
    push(a, b"2", 0)
    probe_make(b, [("member", 0, b"l", ("set", pb.LIST, b"1b", 0))])
    exchange(a, b)
    assert sorted(probe_members(a, 0, b"l")[1]) == [b"1b", b"2"]


def test_a_value_replaces_those_it_has_seen():
    a, b = pair()
    for i in range(3):
        push(a, b"%d" % i, 10**6)
    exchange(a, b)
    sizes = []
    for i in range(20):
        r = (a, b)[i % 2]
        probe_make(r, [("member", 0, b"l", ("set", pb.LIST, b"v", 1))])
        exchange(a, b)
        sizes.append([x.inspect(0, b"l")["memory"] for x in (a, b)])
    assert sizes[-1] == sizes[0] and a.stats()["conflicts"] == b.stats()["conflicts"] == 0


def test_a_place_in_a_run_is_not_given_out_twice():
    a, b = pair()
    push(a, b"x", 0)
    push(a, b"1", 1)
    exchange(a, b)
    probe_make(a, [("member", 0, b"l", ("remove", pb.LIST, b"", 1))])
    # goes on in the same run, where 1 stood
    push(a, b"2", 1)
    probe_make(b, [("member", 0, b"l", ("set", pb.LIST, b"1b", 1))])
    exchange(a, b)
    assert sorted(probe_members(a, 0, b"l")[1]) == [b"1b", b"2", b"x"]


def test_ops_of_an_ended_process_that_come_late_count_only_their_part():
    """A process ended after it had sent them; a delete took its counter entry back, and nobody may
    forget that while they can still come."""
    old, b = Replica("old", 1, seed=1), Replica("B", 1, seed=2)
    step = [("member", 0, b"h", ("add", pb.HASH, b"f", 10))]
    probe_make(old, step)
    b.receive(old.take_ops())
    probe_make(b, [("member", 0, b"h", ("remove", pb.HASH, b"f", None))])
    probe_make(old, step)                                    # of which B hears late
    late = old.take_ops()
    b.record_clock(b.declare("old", 2), {**b.clock_ids()})   # its next life has seen all of B
    b.collect()
    assert b.stats()["tombstones"] == 1
    b.receive(late)
    assert probe_members(b, 0, b"h") == (pb.HASH, {b"f": b"10"})


if __name__ == "__main__":
    for s in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
        run(s)
    print(f"seeds {sys.argv[1]} to {sys.argv[2]} converged")

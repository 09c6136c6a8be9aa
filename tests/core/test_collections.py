"""Hashes, sets, sorted sets and lists under replication, against an oracle that reads the outcome off the bare set of ops.

Random clusters make effects, exchange ops with loss of order, duplicates and relays, collect stubs and start again from their log. In
the end all replicas must be equal, and what they show must be what `told` says: a write or an increment counts unless an op that had
seen it removed it. `told` keeps no state and applies nothing; it decodes the ops with the generated classes.

    python -m pytest tests/core/test_collections.py            # a few hundred schedules
    python -m tests.core.test_collections FIRST LAST           # any others, by seed
"""
import gc
import random
import struct
import sys

import pytest

from crdtredis._core import Replica, probe_make, probe_members
from crdtredis.replication import crdtredis_pb2 as pb

KEYS = [b"k", b"l"]
TYPE_ORDER = [pb.LIST, pb.HASH, pb.ZSET, pb.SET, pb.STRING]
NONE = 255


# ---- the oracle ----------------------------------------------------------------------------------------------------

def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return value, at


def unzigzag(v):
    return v >> 1 ^ -(v & 1)


def position(data, dot, names):
    """The steps of a list position as tuples that sort as the kernel must sort them; dots are (replica, epoch, seq, index)."""
    at, steps = 0, []

    def read_dot(actor):
        nonlocal at
        if actor is None:
            actor, at = int.from_bytes(data[at:at + 8], "little"), at + 8
        seq, at = read_varint(data, at)
        index, at = read_varint(data, at)
        return actor, (*names[actor], seq, index)

    while at < len(data):
        flags, at = data[at], at + 1
        major, at = read_varint(data, at)
        offset, at = read_varint(data, at)
        if flags & 1:
            index, at = read_varint(data, at)
            actor, own = dot[0], (*names[dot[0]], dot[1], index)
        else:
            actor, own = read_dot(None)
        run = own if flags & 2 else read_dot(actor if flags & 4 else None)[1]
        steps.append((unzigzag(major), run, unzigzag(offset), own))
    return tuple(steps)


def told(batches):
    """{key: (type, content)} of the visible types, from encoded batches in any order, with repetitions."""
    names, ops = {}, {}
    for batch in map(pb.Batch.FromString, batches):
        names |= {a.id: (a.replica, a.epoch) for a in batch.actors}
        ops |= {(run.actor, op.seq): op for run in batch.runs for op in run.ops}
    deps, known = {}, {}
    for actor, seq in sorted(ops):
        known.setdefault(actor, {}).update({d.actor: d.seq for d in ops[actor, seq].deps})
        deps[actor, seq] = {**known[actor], actor: seq - 1}
    acts, wide, totals = {}, [], {}
    for dot, op in sorted(ops.items()):
        for i, e in enumerate(op.effects):
            name = position(e.name, dot, names) if e.type == pb.LIST and e.kind <= pb.REMOVE else e.name
            place = (e.key, e.type, name)
            if e.kind in (pb.DELETE, pb.CLEAR, pb.FLUSH):
                wide.append((dot, i, e))
            elif e.kind == pb.INCREMENT:
                run = (dot[0], place, e.run_seq, e.run_index)
                acts.setdefault(place, []).append((dot, i, "add", e.whole - totals.get(run, 0)))
                totals[run] = e.whole
            elif e.kind == pb.ASSIGN:
                acts.setdefault(place, []).append((dot, i, "write", ((op.stamp, *names[dot[0]]), e.value)))
            elif e.kind == pb.REMOVE:
                acts.setdefault(place, []).append((dot, i, "remove", None))
    for dot, i, e in wide:
        for (key, type, _), list_ in acts.items():
            if e.kind == pb.FLUSH or key == e.key and (e.kind == pb.DELETE or type == e.type):
                list_.append((dot, i, "remove", None))

    def sees(a, b):
        return deps[a].get(b[0], 0) >= b[1]

    shown = {}
    for (key, type, name), list_ in acts.items():
        left = [(what, value) for dot, i, what, value in list_ if what != "remove" and not any(
            w != "add" and (j > i if dot == other else sees(other, dot)) for other, j, w, _ in list_)]
        if left:
            writes = [v for what, v in left if what == "write"]
            value = max(writes)[1] if writes else None
            added = [v for what, v in left if what == "add"]
            shown.setdefault(key, {}).setdefault(type, {})[name] = content(type, value, added)
    out = {}
    for key, types in shown.items():
        type = next(t for t in TYPE_ORDER if t in types)
        members = types[type]
        if type == pb.STRING:
            out[key] = type, members[b""]
        elif type == pb.LIST:
            out[key] = type, [members[p] for p in sorted(members)]
        elif type == pb.ZSET:
            out[key] = type, sorted(members.items(), key=lambda m: (m[1], m[0]))
        else:
            out[key] = type, members
    return out


def content(type, value, added):
    if type == pb.ZSET:
        return (struct.unpack("<d", value)[0] if value is not None else 0.0) + sum(added)
    base = 0 if value is None else int(value) if value.lstrip(b"-").isdigit() else None
    return value if base is None or not added else b"%d" % (base + sum(added))


# ---- random clusters -----------------------------------------------------------------------------------------------

def random_effect(rng, types):
    key = rng.choice(KEYS)
    x = rng.random()
    if x < .06:
        return "del", 0, key, None
    if x < .07:
        return "flush", 0, b"", None
    type = rng.choice(types)
    name = rng.choice([b"a", b"b", b"c"])
    what = rng.choice(["set", "set", "add", "remove"])
    if type == pb.STRING:
        return ("set", 0, key, rng.choice([b"1", b"text"]))
    if type == pb.LIST:
        return "member", 0, key, (rng.choice(["insert", "insert", "insert", "remove", "set"]), type, b"%d" % rng.randrange(99),
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
        self.logs = [[] for _ in range(n)]                   # what each replica has taken: its own ops and those it received
        self.sent = {}
        for i in range(n):
            self.take(i)

    def take(self, i):
        batch = self.replicas[i].take_ops()
        if batch:
            self.logs[i].append(batch)

    def deliver(self, source, target, most):
        """The next batches of source's log, now and then an old one again; relays what source has received from others."""
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


def run(seed, steps=50):
    rng = random.Random(seed)
    types = rng.choice([[t] for t in TYPE_ORDER] + [TYPE_ORDER, TYPE_ORDER])
    c = Cluster(rng, rng.choice([2, 3, 3]))
    n = len(c.replicas)
    for now in range(1000, 1000 + steps):
        i, j = rng.randrange(n), rng.randrange(n)
        c.replicas[i].now = now
        x = rng.random()
        if x < .6:
            probe_make(c.replicas[i], [random_effect(rng, types) for _ in range(rng.choice([1, 1, 1, 3]))])
            c.take(i)
        elif x < .9:
            if i != j:
                c.deliver(j, i, rng.choice([1, 2, 5, 100]))
        elif x < .92:
            c.restart(i)
        else:
            c.replicas[i].hear(c.replicas[j].actor, c.replicas[j].clock_ids())
            c.replicas[i].collect()
        c.replicas[i].check()
    c.settle()
    digests = {r.digest() for r in c.replicas}
    assert len(digests) == 1, f"seed {seed}: {[{k: r.inspect(0, k) for k in KEYS} for r in c.replicas]}"
    expected = told([b for log in c.logs for b in log])
    for r in c.replicas:
        for key in KEYS:
            type, shown = probe_members(r, 0, key)
            assert (type, shown) == expected.get(key, (NONE, None)), f"seed {seed}: {r.id} {key}"


@pytest.mark.parametrize("first", range(0, 600, 50))
def test_random_clusters_converge_to_what_the_ops_say(first):
    for seed in range(first, first + 50):
        run(seed)


# ---- named examples ------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("at", [0, 10**6])
@pytest.mark.parametrize("in_one_op", [True, False])
def test_pushes_of_two_replicas_do_not_interleave(at, in_one_op):
    a, b = pair()
    for r, name in ((a, b"a"), (b, b"b")):
        effects = [("member", 0, b"l", ("insert", pb.LIST, name, at)) for _ in range(3)]
        for op in [effects] if in_one_op else [[e] for e in effects]:
            probe_make(r, op)
    exchange(a, b)
    assert probe_members(a, 0, b"l")[1] == probe_members(b, 0, b"l")[1] in ([b"a"] * 3 + [b"b"] * 3, [b"b"] * 3 + [b"a"] * 3)


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
    assert shown == probe_members(b, 0, b"l")[1] and shown[0] == b"x" and shown[3] == b"z" and set(shown[1:3]) == {b"y1", b"y2"}


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
    push(a, b"2", 0)                                         # were it the position of 1, B's set would bring 1's place back
    probe_make(b, [("member", 0, b"l", ("set", pb.LIST, b"1b", 0))])
    exchange(a, b)
    assert sorted(probe_members(a, 0, b"l")[1]) == [b"1b", b"2"]


def test_a_place_in_a_run_is_not_given_out_twice():
    a, b = pair()
    push(a, b"x", 0)
    push(a, b"1", 1)
    exchange(a, b)
    probe_make(a, [("member", 0, b"l", ("remove", pb.LIST, b"", 1))])
    push(a, b"2", 1)                                         # goes on in the same run, where 1 stood
    probe_make(b, [("member", 0, b"l", ("set", pb.LIST, b"1b", 1))])
    exchange(a, b)
    assert sorted(probe_members(a, 0, b"l")[1]) == [b"1b", b"2", b"x"]


if __name__ == "__main__":
    for s in range(int(sys.argv[1]), int(sys.argv[2]) + 1):
        run(s)
    print(f"seeds {sys.argv[1]} to {sys.argv[2]} converged")

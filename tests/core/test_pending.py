"""The causal buffer: ops that come before what they depend on wait, cost no more for being many,
and leave when they may."""
import random
from itertools import permutations

import pytest

from crdtredis._core import (Replica, batch_ranges, probe_get, probe_make, probe_memory,
                             probe_receive, probe_retry)
from crdtredis.errors import DamagedBatch, UndeclaredActor, CausalBufferFull
from crdtredis.replication import crdtredis_pb2 as pb

NOW = 1_700_000_000_000
SKEW = 60_000


def replicas(names: str, now: int = NOW, **settings) -> list[Replica]:
    """Replicas that know of each other."""
    out = [Replica(name, 1, seed=3, **settings) for name in names]
    for r in out:
        r.now = now
        for name in names:
            r.declare(name, 1)
    return out


def write(r: Replica, key: bytes = b"k", value: bytes = b"v") -> bytes:
    probe_make(r, [("set", 0, key, value)])
    return r.take_ops()


def parts(batch: bytes) -> list[bytes]:
    """A batch of many ops as batches of one."""
    found = pb.Batch.FromString(batch)
    return [pb.Batch(runs=[pb.Run(actor=run.actor, ops=[op])]).SerializeToString()
            for run in found.runs for op in run.ops]


def history(rng: random.Random, writers: list[Replica], n: int) -> list[bytes]:
    """n ops, each of which has seen some of those before it."""
    ops = []
    for i in range(n):
        r = rng.choice(writers)
        for op in ops:
            if rng.random() < 0.3:
                r.receive(op)
        r.take_ops()
        ops.append(write(r, rng.choice([b"k", b"l", b"m"]), b"%d" % i))
    return ops


@pytest.mark.parametrize("seed", range(60))
def test_any_order_leads_to_the_same_state(seed):
    rng = random.Random(seed)
    names = "abcdefgh"[:rng.choice([2, 3, 5, 8])]
    *writers, first, last = replicas(names + "yz")
    ops = history(rng, writers, rng.choice([5, 20, 60]))
    for op in ops:
        first.receive(op)
    assert first.pending() == {"ops": 0, "bytes": 0, "held": 0}
    shuffled = ops + rng.choices(ops, k=len(ops) // 3)                    # some come twice
    rng.shuffle(shuffled)
    for op in shuffled:
        before = last.pending()["ops"]
        last.receive(op)
        last.check()
        assert last.pending()["ops"] <= before + 1
    assert last.pending() == {"ops": 0, "bytes": 0, "held": 0}
    assert last.digest() == first.digest() and last.clock() == first.clock()


def test_all_orders_of_a_lattice():
    """Three actors with two ops each, the second of each behind the first ones of all."""
    *writers, first = replicas("abcz")
    ops = [write(r, b"k", b"1") for r in writers]
    for r in writers:
        for op in ops:
            r.receive(op)
        r.take_ops()
    ops += [write(r, b"k", b"2") for r in writers]
    digests = set()
    for order in permutations(ops):
        z = replicas("abcz")[-1]
        for op in order:
            z.receive(op)
            z.check()
        assert z.pending()["ops"] == 0
        digests.add(z.digest())
    assert len(digests) == 1


def test_a_duplicate_of_a_waiting_op_takes_no_room():
    a, z = replicas("az")
    batch = b"".join(parts_from(a, 20)[1:])
    for _ in range(3):
        z.receive(batch)
        assert z.pending()["ops"] == 19
        z.check()


def parts_from(r: Replica, n: int, size: int = 1) -> list[bytes]:
    return [write(r, b"k%d" % i, b"v" * size) for i in range(n)]


def test_one_op_sets_many_free_over_many_iterations():
    """What one loop iteration applies is bounded, however much an op has set free; and nothing that
    is free is forgotten."""
    a, z = replicas("az")
    first, *rest = parts_from(a, 4000, 500)
    z.receive(b"".join(rest))
    assert z.pending()["ops"] == 3999
    status, more = probe_receive(z, first)
    assert (status, more) == (0, True) and z.pending()["ops"] > 3000
    z.check()
    iterations = 0
    while more:
        before, iterations = z.pending()["ops"], iterations + 1
        more = probe_retry(z)
        assert 0 < before - z.pending()["ops"] < 600
        z.check()
    assert iterations > 5 and z.pending()["ops"] == 0 and z.clock() == {("a", 1): 4000}


def test_an_op_that_comes_again_while_it_is_free_but_not_yet_applied_is_applied_once():
    a, z = replicas("az")
    ops = parts_from(a, 4000, 500)
    z.receive(b"".join(ops[1:]))
    z.take_ops()
    assert probe_receive(z, ops[0])[1]
    done = z.clock()[("a", 1)]
    # the next, which is in the room
    probe_receive(z, ops[done])
    probe_receive(z, b"".join(ops[done:done + 10]))
    z.check()
    while probe_retry(z):
        pass
    assert z.clock() == {("a", 1): 4000} and z.pending()["bytes"] == 0
    assert batch_ranges(z.take_ops()) == [(a.actor, 1, 4000)]             # each once, in order


# ---- bounds --------------------------------------------------------------------------------------


def test_the_room_is_bounded_and_says_when_it_is_full():
    a, z = replicas("az", pending_limit=20_000)
    first, *rest = parts_from(a, 300, 40)
    with pytest.raises(CausalBufferFull):
        z.receive(b"".join(rest))
    full = z.pending()
    # half of it, for one actor
    assert 0 < full["ops"] < 299 and 9_000 < full["bytes"] <= 10_000
    z.check()
    with pytest.raises(CausalBufferFull):
        z.receive(rest[-1])
    assert z.pending() == full
    # what needs no room is taken in however full it is
    z.receive(first)
    assert z.clock() == {("a", 1): 1 + full["ops"]} and z.pending()["bytes"] == 0
    # and the sender, who was told, sends the others again
    z.receive(b"".join(rest))
    assert z.clock() == {("a", 1): 300}


def test_one_actor_does_not_keep_others_from_waiting():
    a, b, c, z = replicas("abcz", pending_limit=20_000)
    with pytest.raises(CausalBufferFull):
        z.receive(b"".join(parts_from(a, 300, 40)[1:]))
    late, early = parts_from(b, 2)
    z.receive(early)
    z.check()
    # but all of them together stay below the limit
    with pytest.raises(CausalBufferFull):
        z.receive(b"".join(parts_from(c, 300, 40)[1:]))
    assert z.pending()["bytes"] <= 20_000
    z.receive(late)
    assert z.clock() == {("b", 1): 2}


def test_what_follows_an_op_without_room_is_looked_at():
    """A batch that begins with ops that find no room may hold, behind them, those that they wait
    for."""
    a, b, z = replicas("abz", pending_limit=4000)
    cause = write(a)
    b.receive(cause)
    b.take_ops()
    effects = parts_from(b, 100, 40)
    with pytest.raises(CausalBufferFull):
        z.receive(b"".join(effects) + cause)
    assert z.clock()[("a", 1)] == 1
    z.receive(b"".join(effects))
    assert z.clock() == {("a", 1): 1, ("b", 1): 100}


def test_no_op_takes_the_room_that_an_earlier_one_of_its_actor_needs():
    a, z = replicas("az", pending_limit=4000)
    write(a)
    probe_make(a, [("set", 0, b"k", b"x" * 3000)])
    probe_make(a, [("set", 0, b"k", b"y")])
    with pytest.raises(CausalBufferFull):
        z.receive(a.take_ops())
    assert z.pending()["ops"] == 0


def test_an_op_larger_than_the_room_is_applied_when_it_need_not_wait():
    a, z = replicas("az", pending_limit=1000)
    first, large = write(a), write(a, b"large", b"x" * 5000)
    with pytest.raises(CausalBufferFull):
        z.receive(large)
    z.receive(first)
    z.receive(large)
    assert probe_get(z, 0, b"large") == b"x" * 5000


def test_what_a_repaired_log_holds_finds_room():
    """Behind a record that was lost, everything waits: nobody but this log may have it."""
    a, z = replicas("az", pending_limit=1000)
    lost, *rest = parts_from(a, 300, 40)
    z.recovering = True
    z.receive(b"".join(rest))
    z.recovering = False
    assert z.pending()["ops"] == 299
    with pytest.raises(CausalBufferFull):
        z.receive(write(a))
    z.receive(lost)                                                       # a peer had it
    assert z.clock() == {("a", 1): 300} and z.pending()["bytes"] == 0


def test_all_memory_is_given_back():
    before = probe_memory()
    a, b, z = replicas("abz")
    for r in (a, b):
        z.receive(b"".join(parts_from(r, 500)[1:]))
    assert z.pending()["ops"] == 998
    del a, b, z, r
    assert probe_memory() == before


# ---- what is refused when it comes, not when it may be applied -----------------------------------


def with_effect(seq: int, deps=(), **effect) -> bytes:
    op = pb.Op(seq=seq, stamp=NOW << 16, deps=[pb.Dep(actor=a, seq=s) for a, s in deps],
               effects=[pb.Effect(**effect)])
    return pb.Batch(actors=[pb.Actor(id=7, replica="X", epoch=1)],
                    runs=[pb.Run(actor=7, ops=[op])]).SerializeToString()


# the stamp of an actor nobody declared
STRANGE = dict(kind=pb.DEADLINE, key=b"k", deadline=5, stamp=1, actor=99)


@pytest.mark.parametrize("batch, error", [
    (with_effect(2, **STRANGE), DamagedBatch), (with_effect(1, **STRANGE), DamagedBatch),
    (with_effect(2, deps=[(99, 1)], key=b"k"), UndeclaredActor),
    (with_effect(1, deps=[(99, 1)], key=b"k"), UndeclaredActor),
    (with_effect(2, deps=[(7, 1)], key=b"k"), DamagedBatch)],
    ids=["stamp of a stranger, early", "stamp of a stranger", "behind a stranger, early",
         "behind a stranger", "behind itself"])
def test_an_op_that_could_never_be_applied_is_refused_although_it_must_wait(batch, error):
    z = Replica("z", 1)
    z.now = NOW
    with pytest.raises(error):
        z.receive(batch)
    assert z.pending()["ops"] == 0
    z.receive(with_effect(1, key=b"first"))
    # the same dot, this time sound
    z.receive(with_effect(2, key=b"k", value=b"v"))
    assert probe_get(z, 0, b"k") == b"v"


# ---- the clock on the wall -----------------------------------------------------------------------


def test_ops_from_the_future_are_held_until_it_comes():
    a, b, z = replicas("abz", now=NOW)
    a.now = NOW + SKEW + 5000
    ahead = parts_from(a, 10)
    b.now = a.now
    b.receive(b"".join(ahead))
    b.take_ops()
    behind = write(b, b"b", b"has seen it")
    z.receive(b"".join(ahead))
    z.receive(behind)
    assert z.pending()["ops"] == 11 and z.pending()["held"] == 10
    assert z.held() == [("a", 1, 10, NOW + SKEW + 5000)]
    z.check()
    z.now = NOW + 4999
    z.tick()
    assert z.pending()["held"] == 10 and z.clock() == {}
    z.receive(ahead[3])                                                   # comes again
    assert z.pending()["held"] == 10
    z.now = NOW + 5000
    z.tick()
    z.check()
    assert (z.clock() == {("a", 1): 10, ("b", 1): 1}
            and z.pending() == {"ops": 0, "bytes": 0, "held": 0} and z.held() == [])


def test_those_held_go_in_the_order_of_their_times():
    names = "abcdefghij"
    *writers, z = replicas(names + "z")
    order = list(writers)
    random.Random(5).shuffle(order)
    for i, r in enumerate(order):
        r.now = NOW + SKEW + 1000 * (i + 1)
    for r in writers:
        z.receive(write(r, r.id.encode()))
        z.check()
    assert len(z.held()) == len(names)
    for i, r in enumerate(order):
        z.now = NOW + 1000 * (i + 1)
        z.tick()
        z.check()
        assert {name for name, _ in z.clock()} == {o.id for o in order[:i + 1]}


def test_stamps_are_accepted_up_to_a_time():
    a, z = replicas("az")
    a.now = NOW + 7_200_000
    ahead = write(a)
    z.receive(ahead)
    assert z.pending()["held"] == 1 and not z.runs_ahead
    # a little less than it takes
    z.accepted = NOW + 7_200_000 - SKEW - 1
    z.tick()
    assert z.pending()["held"] == 1
    z.accepted = NOW + 7_200_000 - SKEW
    z.tick()
    assert z.clock() == {("a", 1): 1} and z.newest_stamp == a.newest_stamp and z.now == NOW
    z.check()


def test_who_took_in_accepted_stamps_makes_its_own_behind_them_and_is_well_while_they_are_accepted(
        ):
    """The stamps of what was seen are below those of what is made, or a replaced deadline could
    come back: so they go on from there."""
    a, b, z = replicas("abz")
    a.now, b.accepted = NOW + 7_200_000, NOW + 7_200_000
    b.receive(write(a))
    b.take_ops()
    made = write(b, b"of b")
    assert a.newest_stamp < b.newest_stamp < a.newest_stamp + 10 and not b.runs_ahead
    b.accepted = 0
    assert b.runs_ahead
    b.now = NOW + 7_200_000 - SKEW
    assert not b.runs_ahead                                               # the clock has come
    z.receive(made)
    # behind a's op
    assert z.pending() == {"ops": 1, "bytes": z.pending()["bytes"], "held": 0}


@pytest.mark.parametrize("set_back", [0, SKEW, SKEW + 1])
def test_a_clock_that_is_set_back_runs_ahead_beyond_the_allowed_skew(set_back):
    a, = replicas("a", expiry_grace=0)
    probe_make(a, [("set", 0, b"k", b"v"), ("expire", 0, b"k", NOW - 3 * SKEW)])
    a.take_ops()
    a.now = NOW - set_back
    assert a.runs_ahead == (set_back > SKEW)
    # nor is what has expired removed by an op
    a.tick()
    assert bool(a.take_ops()) == (set_back <= SKEW)

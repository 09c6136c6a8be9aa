"""The op codec against the generated protobuf classes, in both directions, and against hostile
bytes."""
import random

import pytest

from crdtredis._core import Replica, batch_ranges, probe_make, probe_reencode, slice_batch
from crdtredis.errors import DamagedBatch, UndeclaredActor
from crdtredis.replication import crdtredis_pb2 as pb

TYPES = [0, 1, 2, 3, 4, 6, 7]
INTS = [0, 1, 127, 128, 16383, 16384, 2**31, 2**40, 2**48 - 1]


def random_bytes(rng, most=300):
    return rng.randbytes(rng.choice([0, 1, 2, 127, 128, rng.randrange(most)]))


def fraction(rng, message):
    """A total: whole, or a fraction that is not a whole number in 64 bits (the encoder writes those
    as `whole`)."""
    if rng.random() < .5:
        message.whole = rng.choice([0, 1, -1, 2**63 - 1, -2**63, rng.randrange(-10**9, 10**9)])
    else:
        message.fraction = (rng.getrandbits(63) | 1 << 63 |
                            1).to_bytes(8,
                                        "little") + (16383 +
                                                     rng.randrange(-40, 40)).to_bytes(2, "little")


def random_op(rng):
    op = pb.Op(seq=rng.choice(INTS[1:]), stamp=rng.getrandbits(64) | 1)
    for _ in range(rng.choice([0, 0, 1, 3])):
        op.deps.add(actor=rng.getrandbits(64), seq=rng.choice(INTS[1:]))
    for _ in range(rng.choice([1, 1, 1, 4])):
        x = op.effects.add(kind=rng.randrange(6), db=rng.randrange(17), key=random_bytes(rng),
                           type=rng.choice(TYPES), name=random_bytes(rng),
                           value=random_bytes(rng, 5000), keep=rng.random() < .5,
                           run_seq=rng.choice(INTS), run_index=rng.choice([0, 1, 300, 2**32 - 1]),
                           deadline=rng.choice([0, 1, 1700000000000, 2**63 - 1]),
                           stamp=rng.choice([0, rng.getrandbits(64)]),
                           actor=rng.choice([0, rng.getrandbits(64)]))
        if x.kind == pb.INCREMENT:
            fraction(rng, x)
        for _ in range(rng.choice([0, 0, 1, 3])):
            s = x.observed.add(actor=rng.getrandbits(64), run_seq=rng.choice(INTS),
                           run_index=rng.choice([0, 1, 2**32 - 1]), seq=rng.choice(INTS),
                           type=rng.choice(TYPES), name=random_bytes(rng), key=random_bytes(rng))
            fraction(rng, s)
    return op


def test_every_op_of_the_generated_classes_is_read_and_written_back_byte_for_byte():
    rng = random.Random(1)
    for _ in range(3000):
        data = random_op(rng).SerializeToString(deterministic=True)
        assert probe_reencode(data) == data


def test_every_op_made_here_is_what_the_generated_classes_would_write():
    rng = random.Random(2)
    a, b = Replica("A", 1, seed=1), Replica("B", 2, seed=2)
    # they declare themselves
    a.receive(b.take_ops())
    b.receive(a.take_ops())
    for n in range(2000):
        r = rng.choice([a, b])
        r.now = n
        key = rng.choice([b"k", b"l", bytes(200), b""])
        probe_make(r,
                   [rng.choice([("set", rng.randrange(3), key, random_bytes(rng)),
                                ("keep", 0, key, b"1"), ("set", 0, b"n", b"1"),
                                   ("add", 0, b"n", rng.choice([1, -5, .1, 1e30, 2.0**70])),
                                   ("expire", 0, key, n + 5), ("del", 0, key, None),
                                   ("flush", 0, b"", None)]) for _ in range(rng.choice([1, 1, 3]))])
        data = r.take_ops()
        assert pb.Batch.FromString(data).SerializeToString(deterministic=True) == data
        assert (not data or batch_ranges(data) == [(run.actor, run.ops[0].seq, run.ops[-1].seq)
                                                   for run in pb.Batch.FromString(data).runs])
        (b if r is a else a).receive(data)
        (b if r is a else a).take_ops()
    assert a.digest() == b.digest()


def test_what_the_decoder_takes_from_damaged_bytes_is_sound():
    """Whatever is accepted must mean something definite: encoding it again is stable."""
    rng = random.Random(3)
    accepted = 0
    for _ in range(20000):
        data = bytearray(random_op(rng).SerializeToString())[:400]
        for _ in range(rng.choice([1, 2, 8])):
            if data:
                x = rng.random()
                at = rng.randrange(len(data))
                if x < .6:
                    data[at] = rng.getrandbits(8)
                elif x < .8:
                    del data[at:at + rng.randrange(1, 9)]
                else:
                    data[at:at] = rng.randbytes(rng.randrange(1, 4))
        out = probe_reencode(bytes(data))
        if out is not None:
            accepted += 1
            assert probe_reencode(out) == out
    assert accepted > 100


def damaged(op=None, **fields):
    op = op or pb.Op(seq=1, stamp=1 << 16)
    op.effects.add(**fields)
    return pb.Batch(actors=[ACTOR], runs=[pb.Run(actor=ACTOR.id, ops=[op])]).SerializeToString()


ACTOR = pb.Actor(id=7, replica="X", epoch=1)


@pytest.mark.parametrize("effect", [
    # no position
    dict(kind=pb.ASSIGN, key=b"k", type=pb.LIST, name=b"f", value=b"v"),
    # a string has no fields
    dict(kind=pb.ASSIGN, key=b"k", name=b"f", value=b"v"),
    # a run without a name
    dict(kind=pb.INCREMENT, key=b"k", run_seq=0, whole=1),
    # a run from the future
    dict(kind=pb.INCREMENT, key=b"k", run_seq=2, whole=1),
    # a stamp of nobody
    dict(kind=pb.DEADLINE, key=b"k", deadline=5, stamp=1),
    # ... or of somebody unknown
    dict(kind=pb.DEADLINE, key=b"k", deadline=5, stamp=1, actor=99),
    # ... or later than the op
    dict(kind=pb.DEADLINE, key=b"k", deadline=5, stamp=2 << 16, actor=7),
    dict(kind=pb.FLUSH, key=b"k"),
    dict(kind=pb.DELETE, key=b"k", name=b"f"),
    dict(kind=pb.ASSIGN, key=b"k", type=pb.SET, name=b"m", value=b"v"),
    dict(kind=pb.ASSIGN, key=b"k", type=pb.ZSET, name=b"m", value=b"12345678"[:7]),
    # not a number
    dict(kind=pb.ASSIGN, key=b"k", type=pb.ZSET, name=b"m", value=bytes(6) + b"\xf8\x7f"),
    dict(kind=pb.DELETE, key=b"k", observed=[pb.ObservedCount(actor=7, seq=1, key=b"l")]),
    dict(kind=pb.DELETE, key=b"k", db=17),
    dict(kind=pb.DELETE, key=b"k", deadline=-1),
])
def test_an_effect_that_is_not_understood_is_refused_whole(effect):
    replica = Replica("A", 1)
    op = pb.Op(seq=1, stamp=1 << 16)
    op.effects.add(kind=pb.ASSIGN, key=b"before", value=b"v")
    with pytest.raises(DamagedBatch):
        replica.receive(damaged(op, **effect))
    assert replica.clock() == {} and replica.keys() == (0, 0)


def test_unknown_fields_and_kinds_are_refused():
    replica = Replica("A", 1)
    good = damaged(kind=pb.ASSIGN, key=b"k", value=b"v")
    for data in (good + b"\x1a\x00", good[:-1], good + b"\x08\x01"):
        with pytest.raises(DamagedBatch):
            Replica("A", 1).receive(data)
    with pytest.raises(DamagedBatch):
        replica.receive(damaged(kind=9, key=b"k"))
    with pytest.raises(DamagedBatch):
        # no effect
        replica.receive(pb.Batch(actors=[ACTOR],
                                 runs=[pb.Run(actor=7,
                                              ops=[pb.Op(seq=1, stamp=1)])]).SerializeToString())
    replica.receive(good)
    assert replica.clock() == {("X", 1): 1}


def test_strangers_are_refused():
    replica = Replica("A", 1)
    run = pb.Run(actor=7, ops=[pb.Op(seq=1, stamp=1, effects=[pb.Effect(key=b"k", value=b"v")])])
    with pytest.raises(UndeclaredActor):
        replica.receive(pb.Batch(runs=[run]).SerializeToString())
    replica.receive(pb.Batch(actors=[ACTOR], runs=[run]).SerializeToString())
    with pytest.raises(UndeclaredActor):
        replica.receive(pb.Batch(actors=[pb.Actor(id=7, replica="Y", epoch=1)]).SerializeToString())
    own = pb.Run(actor=replica.actor,
                 ops=[pb.Op(seq=1, stamp=1, effects=[pb.Effect(key=b"k", value=b"v")])])
    # somebody else has our identity
    with pytest.raises(UndeclaredActor):
        replica.receive(pb.Batch(runs=[own]).SerializeToString())


def test_new_actors_come_as_they_are_until_few_are_left_and_one_by_one_then():
    """A new replica learns all there are at once; nobody can use them all up in a moment, nor after
    a restart."""
    replica = Replica("A", 1)
    replica.now = now = 1_700_000_000_000

    def declare(first, n):
        replica.receive(pb.Batch(actors=[pb.Actor(id=i, replica="X", epoch=i)
                                         for i in range(first, first + n)]).SerializeToString())

    declare(1, 49_151)
    # known ones are no newcomers
    declare(1, 49_151)
    declare(49_152, 1_024)
    assert len(replica.actors()) == 50_176
    with pytest.raises(UndeclaredActor, match="more new actors at once"):
        declare(60_000, 1)
    replica.now = now + 9_999
    with pytest.raises(UndeclaredActor):
        declare(60_000, 1)
    replica.now = now + 30_000
    declare(60_000, 3)
    with pytest.raises(UndeclaredActor):
        declare(60_003, 1)
    # a clock that was set back lets nobody in, nor out for ever
    replica.now = now - 1_000_000
    with pytest.raises(UndeclaredActor):
        declare(60_003, 1)
    replica.now += 10_000
    declare(60_003, 1)
    other = Replica("B", 1)
    # what the log holds is let in
    other.recovering = True
    other.receive(pb.Batch(actors=[pb.Actor(id=i, replica="X", epoch=i)
                                   for i in range(1, 60_000)]).SerializeToString())
    assert len(other.actors()) == 60_000
    # ... and counts with the next process
    other.recovering = False
    other.receive(pb.Batch(actors=[pb.Actor(id=i, replica="X", epoch=i)
                                   for i in range(60_000, 61_024)]).SerializeToString())
    with pytest.raises(UndeclaredActor):
        other.receive(pb.Batch(actors=[pb.Actor(id=61_024, replica="X",
                                                epoch=61_024)]).SerializeToString())


@pytest.mark.parametrize("shape", ["random", "ascending", "descending", "inside"])
def test_actors_are_ordered_by_replica_and_epoch_however_they_come(shape):
    rng = random.Random(7)
    names = {"random": lambda i: (rng.choice(["a", "ab", "b", "ä", "A"]),
                                  rng.randrange(1, 1 << 63)), "ascending": lambda i: ("a", i + 1),
             "descending": lambda i: ("a", 2**64 - 1 - i),
             "inside": lambda i: ("a", 2**40 + (i // 2 if i % 2 else 2**30 - i // 2))}[shape]
    replica = Replica("m", 5)
    for i in range(2000):
        replica.declare(*names(i))
        if i % 400 == 0:
            replica.check()
    replica.check()


def test_a_slice_lacks_exactly_what_the_clock_covers():
    rng = random.Random(4)
    a = Replica("A", 1, seed=1)
    for n in range(30):
        probe_make(a, [("set", 0, b"k%d" % n, b"v")])
    batch = a.take_ops()
    assert slice_batch(batch, {}) == batch and slice_batch(batch, {a.actor: 30}) == b""
    for _ in range(50):
        known = rng.randrange(30)
        b = Replica("B", 1)
        b.receive(slice_batch(batch, {a.actor: known}))
        assert b.pending()["ops"] == (30 - known if known else 0)
        b.receive(batch)
        assert b.digest() == a.digest() and b.pending()["ops"] == 0
    with pytest.raises(DamagedBatch):
        slice_batch(batch[:-1], {})
    with pytest.raises(DamagedBatch):
        batch_ranges(batch[:-1])

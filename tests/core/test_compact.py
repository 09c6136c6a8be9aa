"""The shorter form of effects (crdtredis/core/compact.pxi) against the tests' own (compact.py), the
plain form, and hostile bytes."""
import random

import pytest

from crdtredis._core import Replica, plain_op, probe_reencode
from crdtredis._engine import Executor
from crdtredis.errors import DamagedBatch
from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.compact import compact, effects_of
from tests.core.test_codec import random_op
from tests.simulation.oracle import position

NOW = 1_700_000_000_000


def like_the_one_before(rng, op, own):
    """Several effects in a row name one key, or one that differs in one thing."""
    for x, y in zip(op.effects, op.effects[1:], strict=False):
        if rng.random() < .7:
            for name in ("kind", "db", "key", "type"):
                if rng.random() < .9:
                    setattr(y, name, getattr(x, name))
        if y.kind != pb.INCREMENT:
            for name in ("whole", "fraction"):
                y.ClearField(name)
        if rng.random() < .3:
            y.actor = own
    return op


def test_the_forms_say_the_same():
    rng, own = random.Random(5), 0x1234567890abcdef
    repeated = 0
    for _ in range(3000):
        op = like_the_one_before(rng, random_op(rng), own)
        plain = op.SerializeToString(deterministic=True)
        short = pb.Op(seq=op.seq, stamp=op.stamp, deps=op.deps, compact=compact(op.effects, own))
        data = short.SerializeToString(deterministic=True)
        assert effects_of(short, own) == list(op.effects)
        assert probe_reencode(data, own) == data == probe_reencode(plain, own, True)
        assert probe_reencode(data, own, False) == plain == plain_op(data, own)
        assert plain_op(plain, own) == plain
        repeated += any((x.kind, x.db, x.key, x.type) == (y.kind, y.db, y.key, y.type)
                        for x, y in zip(op.effects, op.effects[1:], strict=False))
    assert repeated > 300


def test_what_the_decoder_takes_from_damaged_bytes_is_sound():
    rng, own = random.Random(6), 77
    accepted = 0
    for _ in range(20000):
        op = like_the_one_before(rng, random_op(rng), own)
        short = pb.Op(seq=op.seq, stamp=op.stamp, deps=op.deps, compact=compact(op.effects, own))
        data = bytearray(short.SerializeToString())[:400]
        for _ in range(rng.choice([1, 2, 8])):
            at = rng.randrange(len(data))
            if rng.random() < .7:
                data[at] = rng.getrandbits(8)
            else:
                data[at:at] = rng.randbytes(rng.randrange(1, 4))
        out = probe_reencode(bytes(data), own)
        if out is not None:
            accepted += 1
            assert probe_reencode(out, own) == out
            assert (plain_op(out, own)
                    == probe_reencode(out, own, False) == probe_reencode(plain_op(out, own), own))
    assert accepted > 100


GOOD = bytes([pb.ASSIGN | pb.SET << 3, 1]) + b"\x01k\x01m"


@pytest.mark.parametrize("data", [
    b"\x81\x01m",                                       # as the one before: there is none
    b"\x82\x01v",
    GOOD + b"\x81\x02m",                                # reaches beyond the end
    GOOD + b"\x81",
    GOOD + b"\x81\x00",                                 # said to be there, and empty
    GOOD[:-1],
    GOOD[:1],
    bytes([pb.ASSIGN | 5 << 3, 1]) + b"\x01k\x01m",     # a type that no effect has
    bytes([pb.ASSIGN | 9 << 3, 1]) + b"\x01k\x01m",
    bytes([pb.ASSIGN, 128 | 2]) + b"\x00\x01k\x01v",    # database 0 is not said,
    bytes([pb.ASSIGN, 128 | 2]) + b"\x11\x01k\x01v",    # and 17 is nobody else's
    bytes([pb.ASSIGN, 128 | 2]) + b"\x21\x01k\x01v",
    bytes([pb.INCREMENT, 8]) + b"\x01k\x00",            # a run without a number
    bytes([pb.INCREMENT, 8 | 16]) + b"\x01k\x01\x00",
    bytes([pb.INCREMENT, 8]) + b"\x01k\x02",            # ... from the future
    bytes([pb.INCREMENT, 8 | 64]) + b"\x01k\x01\x00",   # no rest
    bytes([pb.INCREMENT, 8 | 64]) + b"\x01k\x01\x02\x50\x02",       # `whole` has its place
    bytes([pb.INCREMENT, 8 | 64]) + b"\x01k\x01\x03\x32\x01v",      # so has `value`
    bytes([pb.ASSIGN, 2 | 32 | 64]) + b"\x01k\x01v\x09\x79" + bytes([7] + [0] * 7),  # two actors
    b"\xff" * 11,
])
def test_what_is_no_effect_is_refused_whole(data):
    replica = Replica("A", 1)
    op = pb.Op(seq=1, stamp=1 << 16, compact=data)
    batch = pb.Batch(actors=[pb.Actor(id=7, replica="X", epoch=1)],
                     runs=[pb.Run(actor=7, ops=[op])])
    with pytest.raises(DamagedBatch):
        replica.receive(batch.SerializeToString())
    assert replica.clock() == {} and replica.keys() == (0, 0)
    op.compact = GOOD
    batch.runs[0].ops[0].CopyFrom(op)
    replica.receive(batch.SerializeToString())
    assert replica.clock() == {("X", 1): 1}


def test_an_op_has_one_form():
    op = pb.Op(seq=1, stamp=1 << 16, compact=GOOD).SerializeToString()
    both = (pb.Op(seq=1, stamp=1 << 16, effects=effects_of(pb.Op(compact=GOOD), 7))
            .SerializeToString() + op[op.index(b"\x2a"):])
    assert probe_reencode(op) == op and probe_reencode(op + op[op.index(b"\x2a"):]) is None
    assert probe_reencode(both) is None
    for data in (both, op[:-1], op + b"\x30\x01"):
        with pytest.raises(DamagedBatch):
            plain_op(data, 7)


class Node:
    def __init__(self, name: str, short: bool):
        self.replica = Replica(name, 1, seed=1)
        self.replica.now = NOW
        self.replica.set_members({"a", "b"}, True, short)
        self.executor = Executor(self.replica)
        self.session = self.executor.session(2)

    def __call__(self, *argv) -> pb.Batch:
        self.executor.execute(self.session, [str(a).encode() for a in argv])
        return pb.Batch.FromString(self.replica.take_ops() or b"")


def commands(rng):
    keys, names = ["k", "l", "m"], [f"n{i}" for i in range(6)]
    some = [rng.choice(names) for _ in range(rng.choice([1, 1, 5]))]
    key = rng.choice(keys)
    return rng.choice([
        ("SET", "s" + key, rng.choice(names)), ("SET", "s" + key, "v", "EX", 100),
        ("APPEND", "s" + key, "more"), ("SETBIT", "s" + key, rng.randrange(99), 1),
        ("INCR", "c" + key), ("INCRBY", "c" + key, -5), ("INCRBYFLOAT", "c" + key, "1.25"),
        ("SADD", "t" + key, *some), ("SREM", "t" + key, *some),
        ("HSET", "h" + key, *(x for n in some for x in (n, "v" + n))),
        ("HINCRBY", "h" + key, "i", 3),
        ("HEXPIRE", "h" + key, 100, "FIELDS", 1, some[0]),
        ("ZADD", "z" + key, *(x for n in some for x in (rng.randrange(9), n))),
        ("ZINCRBY", "z" + key, 1.5, some[0]),
        ("RPUSH", "l" + key, *some), ("LPUSH", "l" + key, *some), ("LPOP", "l" + key, 2),
        ("RPOP", "l" + key), ("LINSERT", "l" + key, "BEFORE", some[0], "x"),
        ("LSET", "l" + key, 0, "y"), ("LREM", "l" + key, 1, some[0]),
        ("XADD", "x" + key, "*", "f", "v"), ("RENAME", "t" + key, "tm"),
        ("DEL", "c" + key), ("FLUSHDB",)])


def meaning(node, batch):
    """Positions by their steps, for those have two forms, too."""
    names = {i: (r, e) for i, r, e, _ in node.replica.actors()}
    found = []
    for run in batch.runs:
        for op in run.ops:
            for i, e in enumerate(effects_of(op, run.actor)):
                where = None
                if e.type == pb.LIST and e.kind <= pb.REMOVE:
                    where = position(e.name, (names[run.actor], op.seq), names, i)
                    e.ClearField("name")
                found.append((op.seq, op.stamp, e.SerializeToString(deterministic=True), where))
    return found


def test_commands_make_the_same_in_either_form_and_in_fewer_bytes():
    """... and give others the same state, whatever they make themselves."""
    rng = random.Random(8)
    short, plain, other = Node("a", True), Node("a", False), Node("b", False)
    sizes = [0, 0]
    for n in range(4000):
        argv = commands(rng)
        for node in (short, plain):
            node.replica.now = NOW + n
        one, two = short(*argv), plain(*argv)
        assert meaning(short, one) == meaning(plain, two), argv
        sizes[0] += one.ByteSize()
        sizes[1] += two.ByteSize()
        assert not any(op.effects for run in one.runs for op in run.ops)
        other.replica.receive(one.SerializeToString())
        if n % 3 == 0:
            other.replica.now = NOW + n
            theirs = other(*commands(rng)).SerializeToString()
            for node in (short, plain):
                node.replica.receive(theirs)
                node.replica.take_ops()
        if n % 500 == 0:
            assert short.replica.digest() == plain.replica.digest()
    short.replica.check()
    other.replica.check()
    assert sizes[0] < 0.93 * sizes[1]


def test_concurrent_replicas_of_both_forms_end_equal():
    rng = random.Random(9)
    nodes = [Node("a", True), Node("b", False)]
    logs = [b"", b""]
    for n in range(3000):
        i = rng.randrange(2)
        nodes[i].replica.now = NOW + n
        logs[i] += nodes[i](*commands(rng)).SerializeToString()
        if rng.random() < .05:
            nodes[i].replica.set_members({"a", "b"}, True, rng.random() < .5)
        if rng.random() < .1:
            nodes[1 - i].replica.receive(logs[i])
            logs[1 - i] += nodes[1 - i].replica.take_ops() or b""
    for i in (0, 1, 0, 1):
        nodes[1 - i].replica.receive(logs[i])
        logs[1 - i] += nodes[1 - i].replica.take_ops() or b""
    assert nodes[0].replica.digest() == nodes[1].replica.digest()
    for node in nodes:
        node.replica.check()


@pytest.mark.parametrize("argv, most", [
    (("SADD", "set:1", *(f"member:{i}" for i in range(5))), 12 + 7 + 5 * 10),
    (("RPUSH", "list", *(f"{i:032}" for i in range(5))), 12 + 7 + 5 * 38),
    (("INCR", "counter"), 12 + 2 + 8 + 1 + 1),
    (("HSET", "h", "a", "1", "b", "2", "c", "3"), 12 + 5 + 3 * 5)])
def test_bytes_of_an_op(argv, most):
    """Beside seq, stamp and two keys, no byte that says what follows from another."""
    batch = Node("a", True)(*argv)
    assert batch.runs[0].ops[0].ByteSize() <= most + 2

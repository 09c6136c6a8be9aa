"""Batches as bytes: cutting them between ops."""
import random

import pytest

from crdtredis._core import Replica, batch_ranges, probe_make, slice_batch, split_batch
from crdtredis.errors import DamagedBatch
from crdtredis.replication import crdtredis_pb2


def batch_of(chance: random.Random, runs: int) -> bytes:
    """Runs of several replicas in turn, with ops of 1 to some thousand bytes; declarations at the
    front."""
    replicas = [Replica(name, 1) for name in "abc"]
    parts = []
    for i in range(runs):
        r = replicas[i % 3]
        for _ in range(chance.randrange(1, 5)):
            size = chance.choice((1, 10, 100, 1000, 5000))
            probe_make(r, [("set", 0, b"k%d" % chance.randrange(5), b"v" * chance.randrange(size))])
        parts.append(r.take_ops())
    return b"".join(sorted(parts, key=lambda p: p[0] != 0x0A))


def ops(*batches: bytes) -> list:
    return [(run.actor, op.SerializeToString()) for batch in batches
            for run in crdtredis_pb2.Batch.FromString(batch).runs
            for op in run.ops]


def test_a_split_keeps_every_op_in_order_and_within_the_limit():
    chance = random.Random(1)
    for _ in range(300):
        batch, most = batch_of(chance,
                               chance.randrange(1,
                                                12)), chance.choice((30, 100, 300, 1000, 6000,
                                                                     10**6))
        parts = split_batch(batch, most)
        assert ops(*parts) == ops(batch)
        for part in parts:
            assert len(part) <= most or len(ops(part)) == 1


def test_an_op_that_is_too_large_has_the_same_bytes_wherever_it_was_cut_out():
    a = Replica("a", 1)
    probe_make(a, [("set", 0, b"before", b"1")])
    probe_make(a, [("set", 0, b"large", b"v" * 10_000)])
    probe_make(a, [("set", 0, b"after", b"1")])
    whole = a.take_ops()
    large = split_batch(whole, 1000)[1]
    assert batch_ranges(large) == [(a.actor, 2, 2)]
    assert split_batch(slice_batch(whole, {a.actor: 1}), 5000)[0] == large
    assert split_batch(large, 1000)[0] is large and split_batch(whole, 1 << 20)[0] is whole


def test_what_is_no_batch_is_not_split():
    for bad in (b"\xff" * 100, b"\x12\x0b\x09" + b"\x01" * 8 + b"\x12\x7f" + b"\0" * 100,
                b"\x12\x63" + b"\0" * 99):
        with pytest.raises(DamagedBatch):
            split_batch(bad, 10)

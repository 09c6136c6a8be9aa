"""Digests of buckets: equal exactly where the states are, however they are computed; and what
changes meanwhile is unsure. And streams of some buckets, which go on where they broke off.
"""
import random

import pytest

from crdtredis._core import BucketDigests, StateWriter, bucket_map, key_bucket
from tests.core.test_state import Node, cluster, filled, stream, with_field_deadlines
from tests.simulation.commands import KEYS


def digests(replica, most=1000, tombstones=True):
    b = BucketDigests(replica, tombstones)
    while b.step(most):
        pass
    return b.result()


@pytest.mark.parametrize("block", range(4))
def test_they_are_the_same_in_whatever_steps(block):
    for seed in range(block, 100, 4):
        for node in cluster(seed)[0]:
            whole = digests(node.replica, 1 << 30)
            assert digests(node.replica, 1) == whole and not any(whole[1])


def test_replicas_of_one_state_have_the_same():
    for seed in range(40):
        nodes, _ = cluster(seed)
        for node in nodes:
            for other in nodes:
                node.receive(other.log)
        assert len({node.replica.digest() for node in nodes}) == 1
        assert len({digests(node.replica, 7, tombstones=False) for node in nodes}) == 1


def test_a_bucket_differs_where_a_key_does():
    a, b = Node("a"), Node("b")
    for i in range(500):
        a("SET", f"key:{i}", i)
    b.receive(a.log)
    b("SET", "key:7", "x"), b("HSET", "h", "f", "v"), b("EXPIRE", "key:8", 1000)
    b("SELECT", 1), b("SET", "key:9", 9)
    differ = bucket_map(digests(a.replica), digests(b.replica))
    assert ({i for i in range(4096) if differ[i >> 3] >> (i & 7) & 1}
            == {key_bucket(0, b"key:7"), key_bucket(0, b"h"), key_bucket(0, b"key:8"),
                key_bucket(1, b"key:9")})


def test_deadlines_of_the_fields_of_a_large_hash():
    a, b = with_field_deadlines()
    assert digests(a.replica, 1) == digests(b.replica)
    b("HPEXPIRE", "h", 77, "FIELDS", 1, 180)
    differ = bucket_map(digests(a.replica, 1), digests(b.replica))
    assert differ[key_bucket(0, b"h") >> 3] == 1 << (key_bucket(0, b"h") & 7)
    a.receive(b.log)
    assert digests(a.replica, 1) == digests(b.replica)


def test_what_the_cluster_knows_of_itself_counts():
    a, b = Node("a"), Node("b")
    a("SET", "k", 1)
    b.receive(a.log)
    assert a.replica.digest() == b.replica.digest()
    b.replica.system_set(b"members", {b"c": b"1"})
    b.replica.take_ops()
    assert a.replica.digest() != b.replica.digest()
    differ = bucket_map(digests(a.replica), digests(b.replica))
    assert ([i for i in range(4096) if differ[i >> 3] >> (i & 7) & 1]
            == [key_bucket(16, b"members")])


def test_a_tombstone_makes_a_difference_where_it_is_asked_for():
    a, b = Node("a"), Node("b")
    a("INCR", "k")
    b.receive(a.log)
    before = digests(b.replica), digests(b.replica, tombstones=False)
    b("DEL", "k")
    assert b.replica.stats()["tombstones"] == 1
    now = digests(b.replica), digests(b.replica, tombstones=False)
    assert now[0] != before[0] and any(now[0][0]) and not any(now[1][0])


@pytest.mark.parametrize("change", [
    ("SET", "s", "x"), ("SADD", "large", "x"), ("SREM", "large", "1"), ("RPUSH", "l", "x"),
    ("DEL", "large"), ("EXPIRE", "s", 10), ("FLUSHDB",)])
def test_what_changes_meanwhile_is_unsure(change):
    for steps in (1, 5, 100):
        a = Node("a")
        a("SADD", "large", *range(500)), a("RPUSH", "l", *range(500)), a("SET", "s", "v")
        b = BucketDigests(a.replica)
        for _ in range(steps):
            b.step(1)
        a(*change)
        while b.step(10):
            pass
        unsure = b.result()[1]
        if change[0] == "FLUSHDB":
            assert unsure == bytes([255]) * 512
        else:
            i = key_bucket(0, str(change[1]).encode())
            assert unsure[i >> 3] >> (i & 7) & 1


def test_every_element_counts_once_in_a_table_that_shrinks():
    """Of keys that were removed the buckets are unsure, of all others the sums are right."""
    for seed in range(200):
        rng = random.Random(seed)
        a = Node("a", seed=seed)
        a("MSET", *(x for i in range(400) for x in (f"key:{i}", i)))
        b = BucketDigests(a.replica)
        for _ in range(rng.randrange(300)):
            b.step(1)
        a("DEL", *(f"key:{i}" for i in range(rng.randint(340, 370))))
        while b.step(1):
            pass
        sums, unsure = b.result()
        right = digests(a.replica)[0]
        for i in range(4096):
            assert (unsure[i >> 3] >> (i & 7) & 1
                    or sums[16 * i:16 * i + 16] == right[16 * i:16 * i + 16])


def test_a_result_before_the_end_is_refused():
    b = BucketDigests(filled().replica)
    with pytest.raises(RuntimeError):
        b.result()
    with pytest.raises(ValueError):
        bucket_map((b"", b""), (b"", b""))


# ---- streams -------------------------------------------------------------------------------------

def records(replica, buckets=None, cursor=b"", most=64 << 10):
    walk, out = StateWriter(replica, buckets, cursor), []
    while record := walk.next(most):
        out.append(record)
    return out


@pytest.mark.parametrize("block", range(4))
def test_a_stream_goes_on_behind_any_record(block):
    for seed in range(block, 60, 4):
        for node in cluster(seed)[0]:
            some = random.Random(seed).randbytes(512)
            whole, out, cursor = records(node.replica, some, most=1), [], b""
            while record := (walk := StateWriter(node.replica, some, cursor)).next(1):
                out.append(record)
                cursor = walk.cursor()
            assert out == whole


def test_a_stream_begins_where_the_digests_did():
    a = filled()
    start = BucketDigests(a.replica).cursor()
    head = stream(a.replica)[0]
    a("SET", "later", "x")
    assert records(a.replica, None, start)[0][8:] == head != stream(a.replica)[0]


def test_only_what_is_asked_for_is_given():
    a = Node("a")
    for key in KEYS:
        a("SET", key, "v")
    some = bytearray(512)
    some[key_bucket(0, KEYS[0]) >> 3] |= 1 << (key_bucket(0, KEYS[0]) & 7)
    assert records(a.replica, bytes(512))[1:] == records(a.replica, bytes(512))[-1:]
    walk = StateWriter(a.replica, bytes(some))
    while walk.next():
        pass
    assert walk.counts() == (1, 1)


def test_cursors_of_others_are_refused():
    a, b = filled(), Node("b", seed=5)
    walk = StateWriter(a.replica)
    walk.next()
    cursor = walk.cursor()
    for wrong in (b"x", cursor[:-1], cursor[:8], cursor + b"\0",
                  bytes([cursor[0] ^ 1]) + cursor[1:], cursor[:9] + b"\1" + cursor[10:]):
        with pytest.raises(ValueError):
            StateWriter(a.replica, None, wrong)
    with pytest.raises(ValueError):
        StateWriter(b.replica, None, cursor)
    with pytest.raises(ValueError):
        StateWriter(a.replica, b"x")

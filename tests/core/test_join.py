"""Joining the state of another replica: whatever the two hold, and whatever the giver does while it
is read, the receiver holds then what the ops of both leave there.

That whole clusters with joins come out as the bare ops say is the simulation's
(tests/simulation/world.py).
"""
import pytest

from crdtredis._core import (BucketDigests, Replica, StateCheck, StateJoin, StateWriter, bucket_map,
                             probe_records)
from tests.core.test_buckets import digests
from tests.core.test_state import NOW, cluster, stream
from tests.simulation.commands import Clients


def payload(record: bytes) -> bytes:
    (out,), status, _ = probe_records(record)
    assert status == 0
    return out


def checked(replica: Replica, messages: list[bytes], tail: tuple | list = (),
            buckets: bytes | None = None) -> StateCheck:
    check = StateCheck(replica, buckets)
    for message in messages:
        check.take(message)
    for batch in tail:
        check.tail(batch)
    assert check.whole
    return check


def join(replica: Replica, messages: list[bytes], tail: tuple | list = (),
         buckets: bytes | None = None, most: int = 1 << 30, between=lambda: None) -> None:
    check = checked(replica, messages, tail, buckets)
    joining = StateJoin(replica, buckets)
    for message in messages:
        more = joining.take(message, most)
        while more:
            between()
            more = joining.step(most)
    while joining.step(most):
        between()
    for batch in tail:
        joining.apply(batch)
    assert joining.counts() == check.counts() and joining.start_clock() == check.start_clock()
    joining.finish()
    replica.check()


def all_of(*logs: bytes) -> Replica:
    """A replica that got the ops of all logs, in their order."""
    replica = Replica("y", 7, seed=3)
    replica.now = NOW + (1 << 30)
    for log in logs:
        replica.receive(log)
    assert not replica.pending()["ops"]
    return replica


def same(a: Replica, b: Replica) -> None:
    assert a.clock() == b.clock()
    assert a.digest() == b.digest()
    for db in range(16):
        assert a.keys(db)[0] == b.keys(db)[0]


@pytest.mark.parametrize("block", range(10))
def test_two_states_come_to_what_the_ops_of_both_come_to(block):
    for seed in range(block, 400, 10):
        nodes, rng = cluster(seed)
        receiver, giver = rng.sample(nodes, 2)
        expected = all_of(receiver.log, giver.log)
        join(receiver.replica, stream(giver.replica, rng.choice([1, 200, 64 << 10])),
             most=rng.choice([1, 1, 7, 1 << 30]), between=receiver.replica.check)
        same(receiver.replica, expected)
        assert giver.replica.digest() == all_of(giver.log).digest()


@pytest.mark.parametrize("block", range(10))
def test_the_giver_works_on(block):
    for seed in range(block, 400, 10):
        nodes, rng = cluster(seed)
        clients, now = Clients(rng), max(n.replica.now for n in nodes) + 1
        receiver, giver, other = nodes
        for node in nodes:
            node.replica.now = now
        digesting, begun = BucketDigests(giver.replica), len(giver.log)
        buckets = None
        tail, messages = [], []

        def work():
            before = len(giver.log)
            for argv in clients.next(now):
                giver(*argv)
            if rng.random() < 0.1:
                giver.receive(other.log)
            if rng.random() < 0.1:
                giver.replica.record_clock(other.replica.actor, other.replica.clock_ids())
                giver.replica.collect()
            if len(giver.log) > before:
                tail.append(giver.log[before:])

        while digesting.step(rng.choice([1, 5])):
            if rng.random() < 0.3:
                work()
        if rng.random() < 0.7:
            buckets = bucket_map(digesting.result(), digests(receiver.replica))
        cursor = digesting.cursor()
        while record := (walk := StateWriter(giver.replica, buckets, cursor)).next(
                rng.choice([1, 1, 100])):
            messages.append(payload(record))
            cursor = walk.cursor()
            if rng.random() < 0.5:
                work()
        assert b"".join(tail) == giver.log[begun:]
        for _ in range(rng.choice([0, 0, 3])):
            for argv in clients.next(now):
                receiver(*argv)
        expected = all_of(receiver.log, giver.log)
        join(receiver.replica, messages, tail, buckets, rng.choice([1, 1, 7, 1 << 30]))
        same(receiver.replica, expected)

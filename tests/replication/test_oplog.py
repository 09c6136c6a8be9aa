"""The log as its readers see it: memory, segments, and the seam between them."""
import random

import pytest

from crdtredis._core import Replica, probe_make
from crdtredis.replication import plan
from crdtredis.replication.oplog import Head, NeedsFullSync, OpLog
from crdtredis.replication.wire import ranges
from tests.replication.network import Log


class Writer:
    """Makes turns of some replicas' ops, as the engine would log them at one replica."""

    def __init__(self, *names):
        self.replicas = [Replica(n, 1) for n in names]
        self.clock, self.stored = {}, Log()

    def turn(self, *counts) -> bytes:
        parts = []
        for r, n in zip(self.replicas, counts):
            for i in range(n):
                probe_make(r, [("set", 0, b"key%d" % i, b"v" * 20)])
            parts.append(r.take_ops())
        batch = b"".join(parts)
        self.stored.append(dict(self.clock), batch)
        plan.join(self.clock, {a: last for a, _, last in ranges(batch)})
        return batch


def drain(log, cursor, limit=500):
    """Everything a reader gets, checking that it is dense, each op once, and in pieces of about the limit."""
    clock, ops = dict(cursor.clock), 0
    while True:
        piece = log.older(cursor, limit) if log.is_old(cursor) else log.take(cursor, limit)
        if not piece:
            if log.is_old(cursor):
                continue
            return clock, ops
        assert len(piece.batch) <= 3 * limit
        found = ranges(piece.batch)
        assert piece.ops == sum(last - first + 1 for _, first, last in found)
        ops += piece.ops
        for actor, first, last in found:
            assert first == clock.get(actor, 0) + 1, "a gap or a repeat"
            clock[actor] = last


def test_a_reader_gets_each_op_once_wherever_it_lies():
    w, chance = Writer("a", "b"), random.Random(3)
    log = OpLog({}, w.stored, most_bytes=2000)
    clocks = [{}]
    for _ in range(200):
        assert log.append(w.turn(chance.randrange(3), chance.randrange(1, 3)), 0.0)
        clocks.append(dict(w.clock))
    assert log.bytes <= 2000 and log.floor
    for clock in [*clocks, {w.replicas[0].actor: 5}, {w.replicas[1].actor: w.clock[w.replicas[1].actor]}]:
        at, ops = drain(log, log.cursor(clock))
        assert at == {**clock, **w.clock} and ops == plan.behind(clock, w.clock)


def test_a_reader_of_some_actors_gets_no_others():
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=1500)
    for _ in range(50):
        log.append(w.turn(1, 1), 0.0)
    a, b = (r.actor for r in w.replicas)
    for start in ({}, {a: 20}, {a: 20, b: 50}, {a: 50}):
        at, ops = drain(log, log.cursor(start, {a}))
        assert at.get(a) == 50 and at.get(b) == start.get(b) and ops == 50 - start.get(a, 0)


def test_a_reader_follows_what_is_appended():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    cursor = log.cursor({})
    for n in range(1, 20):
        log.append(w.turn(3), 0.0)
        assert log.pending(cursor)
        piece = log.take(cursor, 1 << 20)
        assert piece.ops == 3 and not log.take(cursor, 1 << 20) and not log.pending(cursor)


def test_memory_is_bounded_in_bytes_and_entries():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20, most_entries=10)
    for _ in range(100):
        log.append(w.turn(1), 0.0)
    assert log.end - log._first == 10 and log.total > log.bytes
    small = OpLog({}, w.stored, most_bytes=1)
    for _, batch in w.stored.batches:
        small.append(batch, 0.0)
    assert small.end - small._first == 1


def test_a_repeated_batch_is_not_logged_twice():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    batch = w.turn(3)
    assert log.append(batch, 0.0) and log.append(batch, 0.0) and log.end == 1


def test_missing_batches_are_noticed_and_read_from_segments():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    log.append(w.turn(2), 0.0)
    reader = log.cursor({})
    log.take(reader, 1000)
    w.turn(5)                                                   # dropped by the bridge
    after = w.turn(1)
    assert not log.append(after, 0.0)
    log.reset(w.clock)
    assert log.is_old(reader) and drain(log, reader)[1] == 6
    assert log.append(after, 0.0) and log.append(w.turn(4), 0.0)
    assert drain(log, reader)[1] == 4


def test_what_the_log_has_lost_is_said():
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=100)
    for _ in range(10):
        log.append(w.turn(1, 1), 0.0)
    a, b = (r.actor for r in w.replicas)
    del w.stored.batches[:6]
    assert drain(log, log.cursor({a: 6, b: 6}))[1] == 8
    for clock, lost in (({}, {a: 6, b: 6}), ({a: 6}, {b: 6}), ({a: 9, b: 5}, {b: 6})):
        with pytest.raises(NeedsFullSync) as e:
            log.cursor(clock)
        assert e.value.lost == lost
        with pytest.raises(NeedsFullSync):                      # own ops alone would wait for ever for the others
            log.cursor(clock, {a})


def test_lag_counts_from_the_oldest_unacknowledged():
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    a, b = (r.actor for r in w.replicas)
    cursor = log.cursor({}, {a})
    for second in range(5):
        log.append(w.turn(2, 1), float(second))
    ops, age, size = log.lag(cursor, {}, 10.0)
    assert (ops, age, size) == (10, 10.0, log.bytes)
    ops, age, size = log.lag(cursor, {a: 5}, 10.0)
    assert (ops, age) == (5, 8.0) and size < log.bytes
    assert log.lag(cursor, {a: 10}, 10.0) == (0, 0.0, 0)


def test_the_head_tells_what_changed():
    head = Head({1: 5, 2: 6})
    assert head.since(0) == {1: 5, 2: 6} and head.since(head.version) == {}
    seen = head.version
    head.advance(2, 7)
    head.advance(3, 1)
    head.advance(2, 8)
    assert head.since(seen) == {2: 8, 3: 1} and head.since(head.version) == {}

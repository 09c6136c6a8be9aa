"""The log as its readers see it: memory, segments, and the seam between them."""
import random
from collections import deque

import pytest

from crdtredis.clocks import behind, join
from crdtredis._core import Replica, batch_ranges, probe_make
from crdtredis.replication.oplog import Head, NeedsFullSync, OpLog
from crdtredis.replication.wire import PART
from tests.replication.network import Log


class Writer:
    """Makes iterations of some replicas' ops, as the engine would log them at one replica."""

    def __init__(self, *names):
        self.replicas = [Replica(n, 1) for n in names]
        self.clock, self.stored = {}, Log()

    def iterate(self, *counts) -> bytes:
        parts = []
        for r, n in zip(self.replicas, counts):
            for i in range(n):
                probe_make(r, [("set", 0, b"key%d" % i, b"v" * 20)])
            parts.append(r.take_ops())
        batch = b"".join(parts)
        self.stored.append(dict(self.clock), batch)
        join(self.clock, {a: last for a, _, last in batch_ranges(batch)})
        return batch


def drain(log, cursor, limit=500):
    """Everything a reader gets, checking that it is dense, each op once, and in chunks of about the
    limit."""
    clock, ops = dict(cursor.clock), 0
    while True:
        chunk = log.older(cursor, limit) if log.is_old(cursor) else log.take(cursor, limit)
        if not chunk:
            if log.is_old(cursor):
                continue
            return clock, ops
        assert len(chunk.batch) <= 3 * limit
        found = batch_ranges(chunk.batch)
        assert chunk.ops == sum(last - first + 1 for _, first, last in found)
        ops += chunk.ops
        for actor, first, last in found:
            assert first == clock.get(actor, 0) + 1, "a gap or a repeat"
            clock[actor] = last


def test_a_reader_gets_each_op_once_wherever_it_lies():
    w, chance = Writer("a", "b"), random.Random(3)
    log = OpLog({}, w.stored, most_bytes=2000)
    clocks = [{}]
    for _ in range(200):
        assert log.append(w.iterate(chance.randrange(3), chance.randrange(1, 3)), 0.0)
        clocks.append(dict(w.clock))
    assert log.bytes <= 2000 and log.floor
    for clock in [*clocks, {w.replicas[0].actor: 5},
                  {w.replicas[1].actor: w.clock[w.replicas[1].actor]}]:
        at, ops = drain(log, log.cursor(clock))
        assert at == {**clock, **w.clock} and ops == behind(clock, w.clock)


@pytest.mark.parametrize("memory", [1 << 20, 1500], ids=["memory", "segments"])
def test_a_reader_of_some_actors_gets_no_others(memory):
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=memory)
    for _ in range(50):
        log.append(w.iterate(1, 1), 0.0)
    a, b = (r.actor for r in w.replicas)
    for start in ({}, {a: 20}, {a: 20, b: 50}, {a: 50}):
        cursor = log.cursor(start, {a})
        at, ops = drain(log, cursor)
        assert cursor.clock.get(b) == start.get(b), "it claims what it did not get"
        assert at.get(a) == 50 and at.get(b) == start.get(b) and ops == 50 - start.get(a, 0)


def test_a_reader_follows_what_is_appended():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    cursor = log.cursor({})
    for n in range(1, 20):
        log.append(w.iterate(3), 0.0)
        assert log.pending(cursor)
        chunk = log.take(cursor, 1 << 20)
        assert chunk.ops == 3 and not log.take(cursor, 1 << 20) and not log.pending(cursor)


def test_memory_is_bounded_in_bytes_and_entries():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20, most_entries=10)
    for _ in range(100):
        log.append(w.iterate(1), 0.0)
    assert log.end - log._first == 10 and log.total > log.bytes
    small = OpLog({}, w.stored, most_bytes=1)
    for _, batch in w.stored.batches:
        small.append(batch, 0.0)
    assert small.end - small._first == 1


def test_a_repeated_batch_is_not_logged_twice():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    batch = w.iterate(3)
    assert log.append(batch, 0.0) and log.append(batch, 0.0) and log.end == 1


def made(replica, *sizes) -> bytes:
    """A loop iteration's Batch of ops with values of so many bytes."""
    for i, size in enumerate(sizes):
        probe_make(replica, [("set", 0, b"key%d" % i, b"v" * size)])
    return replica.take_ops()


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["memory", "segments"])
def test_an_iteration_larger_than_a_request_is_handed_out_in_requests(
        memory):
    a, stored = Replica("a", 1), Log()
    sizes = [3000] * 400 + [PART + 1] + [10] * 3 + [700_000]
    stored.append({}, made(a, *sizes))
    log = OpLog({}, stored, most_bytes=memory)
    assert log.append(stored.batches[0][1], 0.0)
    if not memory:
        log.reset({a.actor: len(sizes)})
    cursor, chunks = log.cursor({}), []
    while (chunk := log.older(cursor, 512 << 10) if log.is_old(cursor)
           else log.take(cursor, 512 << 10)):
        chunks.append(chunk)
    assert sum(p.ops for p in chunks) == len(sizes) and cursor.clock == {a.actor: len(sizes)}
    assert ([(p.ops, p.large is not None) for p in chunks if len(p.batch) > 512 << 10]
            == [(1, True), (1, False)])
    large = next(p.large for p in chunks if p.large)
    assert ((large.actor, large.seq) == (a.actor, 401)
            and batch_ranges(large.batch) == [(a.actor, 401, 401)])


def test_readers_share_the_bytes_of_a_large_op_wherever_each_got_them():
    a, stored = Replica("a", 1), Log()
    log = OpLog({}, stored, most_bytes=1 << 20)
    batch = made(a, 5, PART + 1)
    stored.append({}, batch)
    log.append(batch, 0.0)
    log.append(batch, 0.0)
    early = log.cursor({a.actor: 1})
    taken = log.take(early, 1000)
    log.append(made(a, 5), 0.0)                                 # now memory holds only this one
    chunks = [taken]
    for _ in range(2):
        late = log.cursor({a.actor: 1})
        assert log.is_old(late)
        chunks.append(log.older(late, 1000))
    assert all(p.large is taken.large and p.batch is taken.batch for p in chunks)
    del taken, chunks
    # and with the last of them the bytes go
    assert not log._large


def test_an_entry_larger_than_memory_is_let_go_of():
    a, stored = Replica("a", 1), Log()
    log = OpLog({}, stored, most_bytes=1 << 20)
    log.append(made(a, PART), 0.0)
    assert log.bytes > log.most_bytes
    log.shrink()
    assert log.bytes == 0 and log.floor == log.head.seqs
    log.append(made(a, 5), 0.0)
    log.shrink()
    assert log.end - log._first == 1 and log.take(log.cursor({a.actor: 1}), 1000).ops == 1


def test_a_reader_that_falls_back_goes_on_near_where_it_was():
    """It wants only the ops of `a`, so its clock never says what it was handed out of the others'
    log."""
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=2000)
    a, b = (r.actor for r in w.replicas)
    cursor = log.cursor({}, {a})
    for _ in range(300):
        log.append(w.iterate(1, 9), 0.0)
        log.take(cursor, 1 << 20)
    for round_ in range(5):
        before, done = w.stored.read_bytes, cursor.clock[a]
        for _ in range(20):
            log.append(w.iterate(1, 9), 0.0)
        while not log.is_old(cursor):
            log.append(w.iterate(1, 9), 0.0)
        behind = sum(len(batch) for _, batch in w.stored.batches[done:])
        while log.is_old(cursor):
            log.older(cursor, 500)
        assert cursor.clock[a] > done + 10
        assert w.stored.read_bytes - before <= behind + 2000
        drain(log, cursor)


def test_a_pause_between_two_readings_costs_nothing_although_segments_begin_far_back():
    """Its own place is nearer than the last beginning of a segment that its clock covers."""
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=1)
    w.stored.find = lambda clock: (0, 0)
    cursor = log.cursor({}, {w.replicas[0].actor})
    for _ in range(100):
        log.append(w.iterate(1, 1), 0.0)
    assert drain(log, cursor)[1] == 100
    for _ in range(10):
        log.append(w.iterate(1, 1), 0.0)
    before = w.stored.read_bytes
    assert drain(log, cursor)[1] == 10
    assert w.stored.read_bytes - before == sum(len(batch) for _, batch in w.stored.batches[-10:])


def test_missing_batches_are_noticed_and_read_from_segments():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    log.append(w.iterate(2), 0.0)
    reader = log.cursor({})
    log.take(reader, 1000)
    w.iterate(5)                                                # dropped by the bridge
    after = w.iterate(1)
    assert not log.append(after, 0.0)
    log.reset(w.clock)
    assert log.is_old(reader) and drain(log, reader)[1] == 6
    assert log.append(after, 0.0) and log.append(w.iterate(4), 0.0)
    assert drain(log, reader)[1] == 4


def test_what_the_log_has_lost_is_said():
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=100)
    for _ in range(10):
        log.append(w.iterate(1, 1), 0.0)
    a, b = (r.actor for r in w.replicas)
    del w.stored.batches[:6]
    assert drain(log, log.cursor({a: 6, b: 6}))[1] == 8
    for clock, lost in (({}, {a: 6, b: 6}), ({a: 6}, {b: 6}), ({a: 9, b: 5}, {b: 6})):
        with pytest.raises(NeedsFullSync) as e:
            log.cursor(clock)
        assert e.value.lost == lost
        # own ops alone would wait for ever for the others
        with pytest.raises(NeedsFullSync):
            log.cursor(clock, {a})


def test_lag_counts_from_the_oldest_unacknowledged():
    w = Writer("a", "b")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    a, b = (r.actor for r in w.replicas)
    cursor = log.cursor({}, {a})
    for second in range(5):
        log.append(w.iterate(2, 1), float(second))
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


def test_lag_of_what_is_older_than_memory():
    """After a restart memory holds nothing of what the segments do: it is at least as old as the
    process."""
    w = Writer("a")
    w.iterate(5)
    log = OpLog(w.clock, w.stored, most_bytes=10_000)
    log.born = 100.0
    cursor = log.cursor({})
    assert log.lag(cursor, {}, 130.0) == (5, 30.0, 0)
    assert log.lag(cursor, dict(w.clock), 130.0) == (0, 0.0, 0)


class Walked(deque):
    def __iter__(self):
        raise AssertionError("the whole log is walked")


def test_a_reader_at_the_end_finds_the_next_op_without_a_walk_through_the_log():
    w = Writer("a")
    log = OpLog({}, w.stored, most_bytes=1 << 20)
    log._entries = Walked()
    for _ in range(20):
        assert log.append(w.iterate(1), 0.0)
    cursor = log.cursor(w.clock)
    assert not log.take(cursor, 500)
    assert log.append(w.iterate(2), 0.0)
    assert log.take(cursor, 500).ops == 2 and cursor.clock == w.clock

"""How much a loop iteration does, and what becomes of it: records, messages for the sync thread,
memory."""
import os
import resource
import sys

import pytest

from crdtredis._core import (Replica, SegmentWriter, batch_ranges, probe_make, probe_records,
                             split_batch)
from crdtredis._engine import OPS, RESULT, Bridge
from crdtredis.replication import crdtredis_pb2 as pb

OK = b"+OK\r\n"


def records(path) -> list[list[tuple[int, int, int]]]:
    """Of each record in a file: the ranges of its ops."""
    payloads, status, _ = probe_records(path.read_bytes())
    assert status == 0
    return [batch_ranges(p) for p in payloads]


def count(ranges) -> int:
    return sum(last - first + 1 for _, first, last in ranges)


@pytest.fixture
def logged(served, tmp_path):
    def start(**settings):
        writer = SegmentWriter()
        writer.attach(os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR), 1, 0, 0, 1 << 40, 0)
        return served(log=writer, **settings), tmp_path / "log"
    return start


def test_a_pipeline_stops_when_the_iteration_has_made_enough(logged):
    """Commands that were parsed ahead wait for the next iteration like any others."""
    s, path = logged(iteration_limit=100, record_limit=1 << 40)
    c = s.connect()
    c.send("SET s " + "x" * 200, *["COPY s d REPLACE"] * 40).expect(OK + b":1\r\n" * 40)
    found = [r for r in records(path) if r]
    assert [count(r) for r in found] == [1] * 41


def test_an_iteration_is_as_many_records_as_its_ops_need(logged):
    s, path = logged(record_limit=1000)
    c = s.connect()
    c.send(*[f"SET k{i} " + "x" * 90 for i in range(200)]).expect(OK * 200)
    c.send("MULTI", *[f"SET t{i} " + "x" * 90 for i in range(100)], "EXEC").read(1)
    c.send("PING")
    while s.on_engine(lambda: s.replica.keys(0)[0]) < 300:
        pass
    found = records(path)
    assert sum(map(count, found)) == 201
    payloads = probe_records(path.read_bytes())[0]
    assert all(len(p) <= 1000 or count(r) == 1 for p, r in zip(payloads, found))
    assert max(map(len, payloads)) > 9000, "the transaction is one op, whatever its size"


def test_the_sync_thread_is_given_large_ops_one_by_one(served):
    bridge = Bridge()
    bridge.set_wanted(True)
    s = served(bridge=bridge)
    c = s.connect()
    c.send("SET s " + "x" * 1_500_000, *["COPY s d REPLACE"] * 4).expect(OK + b":1\r\n" * 4)
    c.send("SET a 1", "SET b 1").expect(OK * 2)
    blocks = [batch for kind, _, batch in bridge.drain() if kind == OPS]
    assert sum(count(batch_ranges(b)) for b in blocks) == 7
    assert all(count(batch_ranges(b)) == 1 for b in blocks if len(b) > 1_000_000)


def test_what_a_peer_sent_is_lent_to_the_engine_and_let_go_with_the_answer(served, replica):
    bridge = Bridge()
    s = served(bridge=bridge)
    peer = Replica("b", 1_700_000_000_000)
    peer.now = 1_700_000_000_000
    probe_make(peer, [("set", 0, b"k", b"x" * 3_000_000)])
    batch = peer.take_ops()
    before = sys.getrefcount(batch)
    bridge.send_receive(1, batch)
    s.wait(lambda: s.replica.keys(0)[0] == 1)     # noqa: F821 (until del below)
    s.on_engine(lambda: None)
    assert sys.getrefcount(batch) == before + 1
    [token] = [token for _, token, _ in bridge.drain()]
    assert token == 1 and sys.getrefcount(batch) == before
    bridge.send_receive(2, batch)
    del bridge, s


def peak(fresh=False) -> int:
    """Bytes that this process has held at most; fresh: from now on."""
    if fresh:
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) << 10


@pytest.mark.parametrize("lines",
                         [["MGET " + " ".join(["k"] * 100)], ["MULTI", *["GET k"] * 100, "EXEC"],
                          ["LRANGE l 0 -1"], ["KEYS *"]])
def test_what_a_command_answers_beyond_the_output_limit_is_not_kept(served, lines):
    """200 MB and more, of which the client will see nothing."""
    s = served(output_hard=1_000_000)
    c, other = s.connect(), s.connect()
    c.send("SET k " + "x" * 2_000_000, *["RPUSH l " + " ".join(["y" * 100_000] * 20)] * 100).read(5)
    s.wait(lambda: s.executor.command_stats().get("rpush", (0,))[0] == 100)
    if lines == ["KEYS *"]:
        s.on_engine(lambda: [s.executor.execute(s.executor.session(),
                                                [b"SET", b"%d" % i * 100_000, b""])
                                                for i in range(100_000, 100_100)])
    before = peak(fresh=True)
    c.send(*lines)
    s.wait(lambda: s.loop.stats()["closed_output"] == 1)
    assert peak() - before < 50_000_000
    try:
        assert len(c.closed()) < 1_000_000
    except ConnectionResetError:
        pass
    other.send("PING").expect(b"+PONG\r\n")


def test_answers_of_any_kind_come_to_the_limit_at_any_place(served):
    """The buffer is begun anew inside each kind of answer once; whoever gets there is closed,
    everybody else gets all."""
    s = served(output_hard=1500)
    lines = ["MULTI", "ECHO " + "x" * 300, "LPUSH s x", "ZSCORE z m", "COMMAND COUNT", "GET none",
             "CONFIG GET max*", "HGETALL h", "SMEMBERS t"] * 1
    c = s.connect()
    c.send("SET s 1", "ZADD z 1.5 m", "HSET h f v", "SADD t m").expect(OK + b":1\r\n" * 3)
    ends = set()
    for n in range(0, 1200, 7):
        c = s.connect()
        c.send(*lines[:1], "ECHO " + "y" * n, *lines[1:], "EXEC", "QUIT")
        got = c.closed()
        ends.add(bool(got))
        assert not got or got.endswith(OK)
    assert ends == {True, False}


# ---- large ops that a peer sent ------------------------------------------------------------------

LARGE = 1 << 20                         # bytes, from which on an op is not copied


def from_a_peer(*sizes: int) -> tuple[bytes, list[bytes]]:
    """The declaration of a peer, and its ops, which set k0, k1 ... to values of these sizes."""
    peer = Replica("b", 1_700_000_000_000)
    peer.now = 1_700_000_000_000
    for i, size in enumerate(sizes):
        probe_make(peer, [("set", 0, b"k%d" % i, b"%d" % (i % 10) * size)])
    batches = split_batch(peer.take_ops(), 0)
    return pb.Batch(actors=[pb.Actor(id=peer.actor, replica="b",
                                     epoch=peer.epoch)]).SerializeToString(), batches


def received(s, bridge, token: int, batch: bytes) -> list[bytes]:
    """The Batches that come back, once it is answered."""
    bridge.send_receive(token, batch)
    drained = []
    s.wait(lambda: drained.extend(bridge.drain()) or drained and drained[-1][:2] == (RESULT, token))
    assert drained[-1][2] == b"\0"
    return [batch for kind, _, batch in drained if kind == OPS]


def test_a_large_op_that_a_peer_sent_is_logged_as_it_came_and_handed_back_as_the_same_object(
        logged):
    bridge = Bridge()
    bridge.set_wanted(True)
    s, path = logged(bridge=bridge)
    declaration, batches = from_a_peer(3 * LARGE, LARGE, 5)
    received(s, bridge, 1, declaration)
    for token, batch in enumerate(batches, 2):
        before = sys.getrefcount(batch)
        back = received(s, bridge, token, batch)
        assert b"".join(back)[-len(batch):] == batch
        assert (back[-1] is batch) == (token < 4)
        del back
        assert sys.getrefcount(batch) == before
    assert b"".join(probe_records(path.read_bytes())[0]) == declaration + b"".join(batches)


def test_large_ops_among_others_in_one_batch_are_handed_back_one_by_one(logged):
    bridge = Bridge()
    bridge.set_wanted(True)
    s, path = logged(bridge=bridge)
    declaration, batches = from_a_peer(5, 2 * LARGE, 6, 7, LARGE, LARGE)
    sent = declaration + b"".join(batches)
    before = sys.getrefcount(sent)
    back = received(s, bridge, 1, sent)
    assert sys.getrefcount(sent) == before
    assert b"".join(back) == b"".join(probe_records(path.read_bytes())[0])
    assert [r for b in back for r in batch_ranges(b)] == [r for r in batch_ranges(b"".join(back))]
    assert all(sum(last - first + 1 for _, first, last in batch_ranges(b)) == 1 for b in back
               if len(b) > LARGE)
    other = Replica("c", 1)
    other.now = 1_700_000_000_000
    other.receive(b"".join(back))
    assert other.digest() == s.on_engine(s.replica.digest)


def test_a_large_op_that_cannot_be_logged_is_kept_and_lent_no_longer(served, tmp_path):
    """The disk takes its head and a part of it: that is cut off again."""
    bridge, writer, path = Bridge(), SegmentWriter(), tmp_path / "log"
    writer.attach(os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND), 1, 0, 0, 1 << 40, 0)
    s = served(bridge=bridge, log=writer)
    declaration, (batch,) = from_a_peer(3 * LARGE)
    received(s, bridge, 1, declaration)
    before, limits = sys.getrefcount(batch), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * LARGE, limits[1]))
    try:
        bridge.send_receive(2, batch)
        s.wait(lambda: writer.is_failed)
        s.on_engine(lambda: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bridge.drain()[-1] == (RESULT, 2, b"\xfc") and sys.getrefcount(batch) == before
    assert probe_records(path.read_bytes())[:2] == ([declaration], 0)
    assert probe_records(writer.waiting())[:2] == ([batch], 0)


def test_a_large_op_that_the_sync_thread_is_too_slow_for_is_let_go(served):
    bridge = Bridge(max_out=2 * LARGE)
    bridge.set_wanted(True)
    s = served(bridge=bridge)
    declaration, batches = from_a_peer(LARGE, LARGE, LARGE, LARGE)
    bridge.send_receive(0, declaration)
    before = [sys.getrefcount(b) for b in batches]
    for token, batch in enumerate(batches):
        bridge.send_receive(token, batch)
    s.wait(lambda: s.replica.keys(0)[0] == 4)
    s.on_engine(lambda: None)
    assert bridge.gaps and bridge.drain()[-1][:2] == (RESULT, 3)
    del batch
    assert [sys.getrefcount(b) for b in batches] == before

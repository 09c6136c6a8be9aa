"""How much a turn does, and what becomes of it: records, blocks for the sync thread, memory."""
import os

import pytest

from crdtredis._core import SegmentWriter, batch_ranges, probe_records
from crdtredis._engine import OPS, Bridge

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


def test_a_pipeline_stops_when_the_turn_has_made_enough(logged):
    """Commands that were parsed ahead wait for the next turn like any others."""
    s, path = logged(turn_limit=100, record_limit=1 << 40)
    c = s.connect()
    c.send("SET s " + "x" * 200, *["COPY s d REPLACE"] * 40).expect(OK + b":1\r\n" * 40)
    found = [r for r in records(path) if r]
    assert [count(r) for r in found] == [1] * 41


def test_a_turn_is_as_many_records_as_its_ops_need(logged):
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
    import sys
    from crdtredis._core import Replica, probe_make
    bridge = Bridge()
    s = served(bridge=bridge)
    peer = Replica("b", 1_700_000_000_000)
    peer.now = 1_700_000_000_000
    probe_make(peer, [("set", 0, b"k", b"x" * 3_000_000)])
    batch = peer.take_ops()
    before = sys.getrefcount(batch)
    bridge.send_receive(1, batch)
    s.wait(lambda: s.replica.keys(0)[0] == 1)
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


@pytest.mark.parametrize("lines", [["MGET " + " ".join(["k"] * 100)], ["MULTI", *["GET k"] * 100, "EXEC"], ["LRANGE l 0 -1"], ["KEYS *"]])
def test_what_a_command_answers_beyond_the_output_limit_is_not_kept(served, lines):
    """200 MB and more, of which the client will see nothing."""
    s = served(output_hard=1_000_000)
    c, other = s.connect(), s.connect()
    c.send("SET k " + "x" * 2_000_000, *["RPUSH l " + " ".join(["y" * 100_000] * 20)] * 100).read(5)
    s.wait(lambda: s.executor.command_stats().get("rpush", (0,))[0] == 100)
    if lines == ["KEYS *"]:
        s.on_engine(lambda: [s.executor.execute(s.executor.session(), [b"SET", b"%d" % i * 100_000, b""]) for i in range(100_000, 100_100)])
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
    """The buffer is begun anew inside each kind of answer once; whoever gets there is closed, everybody else gets all."""
    s = served(output_hard=1500)
    lines = ["MULTI", "ECHO " + "x" * 300, "LPUSH s x", "ZSCORE z m", "COMMAND COUNT", "GET none", "CONFIG GET max*", "HGETALL h", "SMEMBERS t"] * 1
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

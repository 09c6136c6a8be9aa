"""The crossing to the sync thread: order, bounds, answers."""
from __future__ import annotations

import select
import time

import pytest

from crdtredis._core import Replica
from crdtredis._engine import GAP, OPS, RESULT, Bridge, Executor
from tests.engine.conftest import NOW

OK = b"+OK\r\n"


def drained(bridge, n=1, timeout=5):
    out = []
    deadline = time.monotonic() + timeout
    while len(out) < n:
        assert select.select([bridge.fd], [], [], deadline - time.monotonic())[0], f"only {out}"
        out += bridge.drain()
    return out


def batch_of(*commands):
    """What a peer would send."""
    peer = Replica("b", NOW)
    peer.now = NOW
    x = Executor(peer)
    session = x.session()
    for command in commands:
        x.execute(session, command.encode().split())
    return peer.take_ops(), peer


def test_no_ops_unless_wanted(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    s.connect().send("SET a 1").expect(OK)
    assert bridge.drain() == []
    bridge.set_wanted(True)
    assert bridge.drain() == [(GAP, 0, b"")], "what came before is in the segments"
    s.connect().send("SET a 2").expect(OK)
    ((kind, token, data),) = drained(bridge)
    assert kind == OPS
    other = Replica("c", NOW)
    other.now = int(time.time() * 1000)
    _, first = batch_of()
    bridge.set_wanted(False)
    s.connect().send("SET a 3").expect(OK)
    assert bridge.drain() == []
    assert data


def test_a_batch_is_applied_then_answered(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    batch, _ = batch_of("SET a 1", "INCRBY n 5")
    bridge.send_receive(77, batch)
    ((kind, token, data),) = drained(bridge)
    assert (kind, token, data) == (RESULT, 77, b"\0")
    s.connect().send("GET a", "GET n").expect(b"$1\r\n1\r\n$1\r\n5\r\n")
    bridge.send_receive(78, batch)
    assert drained(bridge)[0][2][0] == 0, "a duplicate is no fault"
    bridge.send_receive(79, b"nonsense")
    assert drained(bridge)[0][2][0] == 256 - 1
    bridge.send_receive(80, b"")
    assert drained(bridge)[0][:2] == (RESULT, 80)


def test_answers_keep_the_order_of_the_batches(served):
    bridge = Bridge()
    served(bridge=bridge)
    batch, _ = batch_of("SET a 1")
    for token in range(1000):
        bridge.send_receive(token, batch)
    assert [token for _, token, _ in drained(bridge, 1000)] == list(range(1000))
    assert bridge.incoming == (0, 0)


def test_too_slow_a_sync_thread_gets_a_gap(served):
    bridge = Bridge(max_out=100_000)
    s = served(bridge=bridge)
    bridge.set_wanted(True)
    bridge.drain()
    c = s.connect()
    for i in range(50):
        c.send([b"SET", b"k%d" % i, b"x" * 10_000]).expect(OK)
    assert bridge.outgoing[1] <= 100_000 and bridge.gaps > 0
    kinds = [kind for kind, _, _ in bridge.drain()]
    assert kinds[0] == GAP and set(kinds[1:]) == {OPS} and kinds.count(GAP) == 1


def test_a_batch_is_not_acknowledged_when_the_log_fails(served):
    from tests.engine.test_loop import attached
    bridge = Bridge()
    s = served(bridge=bridge, log=attached("/dev/full"))
    batch, _ = batch_of("SET a 1")
    bridge.send_receive(1, batch)
    assert drained(bridge)[0][2][0] == 256 - 4
    bridge.send_receive(2, batch)
    assert drained(bridge)[0][2][0] == 256 - 4
    s.connect().send("SET a 2").expect(b"-MISCONF Errors writing to the AOF file: No space left "
                                       b"on device\r\n")


@pytest.mark.parametrize("wanted", [False, True])
def test_commands_go_on_while_much_is_received(served, wanted):
    bridge = Bridge()
    s = served(bridge=bridge)
    bridge.set_wanted(wanted)
    batch, _ = batch_of(*(f"SET k{i} v" for i in range(2000)))
    for token in range(200):
        bridge.send_receive(token, batch)
    c = s.connect()
    c.send("PING").expect(b"+PONG\r\n")
    answers = []
    while len(answers) < 200:
        answers += [message for message in drained(bridge) if message[0] == RESULT]
    assert {a[2][0] for a in answers} == {0}


def test_what_peers_sent_is_not_signalled_to_one_who_will_look_by_himself(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    bridge.set_wanted(True)
    assert [kind for kind, _, _ in drained(bridge)] == [GAP]
    batch, _ = batch_of("SET a 1")

    def signalled() -> bool:
        return bool(select.select([bridge.fd], [], [], 0)[0])

    bridge.wait_for_more(True)
    bridge.send_receive(1, batch)
    deadline = time.monotonic() + 5
    while bridge.outgoing[0] < 2:               # the op that was logged, and the answer
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert not signalled()
    # an own op is a signal, and what came before is before it
    s.connect().send("SET b 1").expect(OK)
    assert signalled()
    found = drained(bridge, 3)
    assert [kind for kind, _, _ in found] == [OPS, RESULT, OPS]
    bridge.send_receive(2, batch_of("SET a 2")[0])
    while bridge.outgoing[0] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    bridge.wait_for_more(False)                 # what came in between is told of
    assert signalled() and drained(bridge)[-1][:2] == (RESULT, 2)

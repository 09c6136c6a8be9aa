"""Messages from and to the sync thread: behind the ops, given out when their op is applied, and
bounded."""
import time

from crdtredis._core import Replica
from crdtredis._engine import HEARD, INTEREST, LISTENS, OPS, PUBLISHED, RESULT, Bridge
from tests.engine.conftest import encode
from tests.engine.test_bridge import batch_of, drained
from tests.engine.test_pubsub import push, subscriber

OK = b"+OK\r\n"


def messages_in(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """(kind, channel, message) of a PUBLISHED."""
    out, at = [], 16
    while at < len(data):
        n, m = (int.from_bytes(data[at + i:at + i + 4], "little") for i in (8, 12))
        out.append((data[at + 16], data[at + 17:at + 17 + n], data[at + 17 + n:at + 17 + n + m]))
        at += 17 + n + m
    return out


def heard(actor: int, seq: int, *messages: bytes, channel=b"ch", kind=0) -> bytes:
    return (actor.to_bytes(8, "little") + seq.to_bytes(8, "little")
            + b"".join(bytes(8) + len(channel).to_bytes(4, "little")
                       + len(m).to_bytes(4, "little") + bytes([kind]) + channel + m
                       for m in messages))


def everything(s, bridge, pattern=b"*"):
    """A peer listens to this."""
    bridge.send_receive(1, b"\1\1" + len(pattern).to_bytes(4, "little") + pattern, INTEREST)
    drained(bridge)


def test_messages_come_behind_the_ops_before_them(served):
    bridge = Bridge()
    bridge.set_wanted(True)
    s = served(bridge=bridge)
    everything(s, bridge)
    c = s.connect()
    for i in range(50):
        c.send(f"SET k {i}", f"PUBLISH ch {i}", "SET l 1").expect(OK + b":0\r\n" + OK)
    found = []
    while sum(len(messages_in(d)) for k, _, d in found if k == PUBLISHED) < 50:
        found += drained(bridge)
    seen = b""
    for kind, _, data in found:
        if kind == OPS:
            seen += data
        elif kind == PUBLISHED:
            for _, channel, text in messages_in(data):
                assert channel == b"ch" and int.from_bytes(data[8:16], "little") > 2 * int(text)
                other = Replica("c", 1)
                other.now = int(time.time() * 1000)
                other.receive(seen)
                assert max(other.clock().values()) >= int.from_bytes(data[8:16], "little")
    c.send("SET k last", "PUBLISH ch last").expect(OK + b":0\r\n")
    found = []
    while not any(k == PUBLISHED for k, _, _ in found):
        found += drained(bridge)
    data, = [d for k, _, d in found if k == PUBLISHED]
    assert int.from_bytes(data[8:16], "little") == max(s.on_engine(s.replica.clock).values())
    assert s.executor.message_stats()["sent"] == 51


def test_what_is_listened_to_is_told(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    a, b = s.connect(), s.connect()
    for c in (a, b):
        c.send("SUBSCRIBE x").read(len(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n"))
    ((kind, _, data),) = drained(bridge)
    assert kind == LISTENS and len(data) == 11 and data[:3] == b"\0\1\0"
    a.send("UNSUBSCRIBE x").read(len(b"*3\r\n$11\r\nunsubscribe\r\n$1\r\nx\r\n:0\r\n"))
    assert bridge.drain() == []
    b.sock.close()
    ((_, _, gone),) = drained(bridge)
    assert gone == b"\0\0\0" + data[3:]
    c = s.connect()
    c.send("PSUBSCRIBE p*").read(len(b"*3\r\n$10\r\npsubscribe\r\n$2\r\np*\r\n:1\r\n"))
    assert [d for _, _, d in drained(bridge)] == [b"\0\1\1\2\0\0\0p*"]
    c.send("PSUBSCRIBE __keyspace@0__:*", "SUBSCRIBE __keyevent@0__:set", "SSUBSCRIBE s")
    ((_, _, data),) = drained(bridge)
    assert len(data) == 11 and data[:3] == b"\0\1\2", "each replica fires its own events"


def test_too_many_changes_are_told_anew(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    c = s.connect(60)
    c.send("HELLO 3", "SUBSCRIBE kept")
    drained(bridge)
    c.send("SUBSCRIBE first")
    s.wait(lambda: s.executor.pubsub_stats()["channels"] == 2)
    # nobody fetches; half a MiB of changes with each command
    name = "n" * 60_000
    for i in range(300):
        c.send(f"PSUBSCRIBE {name}{i}", f"PUNSUBSCRIBE {name}{i}")
    c.send("ECHO done")
    got = b""
    while b"$4\r\ndone\r\n" not in got[-60:]:
        got += c.read(1) if got.endswith(b"\r\n$4\r\ndone") else c.sock.recv(1 << 20)
    data = b""
    while not data.startswith(b"\1"):
        for kind, _, data in drained(bridge):
            assert kind == LISTENS and len(data) < 20 << 20
        c.send("PSUBSCRIBE x", "PUNSUBSCRIBE x")
    assert data[1:].count(b"\1\0") >= 2 and len(data) < 100


def test_a_message_waits_for_its_op(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    sub, reader = subscriber(s, "ch"), s.connect()
    drained(bridge)
    first, peer = batch_of("SET k 1", "SET k 2")
    bridge.send_receive(7, heard(peer.actor, 2, b"one"), HEARD)
    bridge.send_receive(8, heard(peer.actor, 2, b"two", b"three"), HEARD)
    assert {t for k, t, _ in drained(bridge, 2) if k == RESULT} == {7, 8}
    assert sub.silent()
    assert s.on_engine(s.executor.message_stats)["waiting_bytes"] > 0
    bridge.send_receive(9, first)
    for text in (b"one", b"two", b"three"):
        sub.expect(push(b"ch", text))
        if text == b"one":
            reader.send("GET k").expect(b"$1\r\n2\r\n")
    bridge.send_receive(10, heard(peer.actor, 2, b"four"), HEARD)
    sub.expect(push(b"ch", b"four"))
    stats = s.on_engine(s.executor.message_stats)
    assert stats["received"] == 4 and stats["dropped"] == stats["waiting_bytes"] == 0


def test_messages_of_one_replica_stay_in_order(served):
    """One that names an op which is here waits behind one whose op is not."""
    bridge = Bridge()
    s = served(bridge=bridge)
    sub = subscriber(s, "ch")
    drained(bridge)
    first, peer = batch_of("SET k 1")
    bridge.send_receive(1, heard(peer.actor, 1, b"one"), HEARD)
    bridge.send_receive(2, heard(peer.actor, 0, b"two"), HEARD)
    bridge.send_receive(3, heard(peer.actor + 1, 0, b"of another"), HEARD)
    sub.expect(push(b"ch", b"of another"))
    bridge.send_receive(4, first)
    sub.expect(push(b"ch", b"one") + push(b"ch", b"two"))
    # the op and a message behind it come at once, before what waits has been looked at
    both, _ = batch_of("SET k 1", "SET k 2")
    s.on_engine(lambda: (bridge.send_receive(5, heard(peer.actor, 2, b"three"), HEARD),
                         bridge.send_receive(6, both),
                         bridge.send_receive(7, heard(peer.actor, 0, b"four"), HEARD)))
    sub.expect(push(b"ch", b"three") + push(b"ch", b"four"))
    # ... whichever of its actors the second names, as after a restart
    more, _ = batch_of("SET k 1", "SET k 2", "SET k 3")
    s.on_engine(lambda: (bridge.send_receive(8, heard(peer.actor, 3, b"five"), HEARD),
                         bridge.send_receive(9, more),
                         bridge.send_receive(10, heard(peer.actor + 1, 0, b"six"), HEARD)))
    sub.expect(push(b"ch", b"five") + push(b"ch", b"six"))


def test_before_its_first_op_a_replica_names_the_last_of_its_former_actor(served):
    """Else its messages overtook what it had written before it was started."""
    bridge = Bridge()
    s = served(bridge=bridge)
    everything(s, bridge)
    c = s.connect()

    def named():
        c.send("PUBLISH ch m").expect(b":0\r\n")
        found = []
        while not any(kind == PUBLISHED for kind, _, _ in found):
            found += drained(bridge)
        data = next(data for kind, _, data in found if kind == PUBLISHED)
        return int.from_bytes(data[:8], "little"), int.from_bytes(data[8:16], "little")

    assert named() == (s.replica.actor, 0)
    bridge.send_receive(2, batch_of("SET l 1")[0])
    made = []
    for _ in range(2):
        c.send("SET k 1", "SET k 2").expect(OK * 2)
        made.append((s.replica.actor, 2))
        assert named() == made[-1]
        for _ in range(2):
            s.on_engine(lambda: s.replica.new_epoch(s.replica.epoch + 1))
            assert named() == made[-1] != (s.replica.actor, 2)


def test_the_longest_message_waits_too(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    sub = subscriber(s, "ch")
    drained(bridge)
    batch, peer = batch_of("SET k 1")
    longest = b"x" * ((16 << 20) - 2)                   # with its channel
    bridge.send_receive(1, heard(peer.actor, 1, longest), HEARD)
    bridge.send_receive(2, heard(peer.actor, 1, b"behind it"), HEARD)
    drained(bridge, 2)
    stats = s.on_engine(s.executor.message_stats)
    assert stats["waiting_bytes"] > 16 << 20 and stats["dropped"] == 1
    bridge.send_receive(3, batch)
    sub.expect(push(b"ch", longest))


def test_what_waits_is_bounded(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    sub = subscriber(s, "ch")
    drained(bridge)
    batch, peer = batch_of("SET k 1")
    for i in range(20):
        bridge.send_receive(i, heard(peer.actor, 1, bytes([65 + i]) * (1 << 20)), HEARD)
    drained(bridge, 20)
    stats = s.on_engine(s.executor.message_stats)
    assert 15 << 20 < stats["waiting_bytes"] <= 16 << 20 and stats["dropped"] >= 4
    bridge.send_receive(99, batch)
    for i in range(15):
        sub.expect(push(b"ch", bytes([65 + i]) * (1 << 20)))


def test_very_many_messages_are_given_out_a_piece_at_a_time(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    sub = subscriber(s, "ch")
    drained(bridge)
    unheard = heard(1, 0, *[b""] * 900_000, channel=b"")
    before = s.on_engine(s.loop.stats)["iterations"]
    bridge.send_receive(1, unheard, HEARD)
    bridge.send_receive(2, heard(1, 0, *[b"%06d" % i for i in range(60_000)]), HEARD)
    bridge.send_receive(3, heard(1, 0, b"behind"), HEARD)
    got = sub.read(60_000 * len(push(b"ch", b"000000")))
    assert got == b"".join(push(b"ch", b"%06d" % i) for i in range(60_000))
    sub.expect(push(b"ch", b"behind"))
    stats = s.on_engine(s.executor.message_stats)
    assert stats == {**stats, "received": 960_001, "dropped": 0, "waiting_bytes": 0}
    assert s.on_engine(s.loop.stats)["iterations"] - before > 10


def test_what_waits_for_time_alone_is_not_dropped(served):
    """Patterns that do not match make it slow; batches come faster."""
    bridge = Bridge()
    s = served(bridge=bridge)
    sub = subscriber(s, "ch")
    slow = s.connect()
    slow.send("PSUBSCRIBE " + " ".join(f"*c*h*{i}" for i in range(500)))
    drained(bridge)
    text = b"x" * 1000
    for i in range(40):
        bridge.send_receive(i, heard(1, 0, *[text] * 1000), HEARD)
    one = push(b"ch", text)
    for _ in range(40):
        assert sub.read(1000 * len(one)) == one * 1000
        assert s.on_engine(s.executor.message_stats)["waiting_bytes"] < 10 << 20
    stats = s.on_engine(s.executor.message_stats)
    assert stats == {**stats, "received": 40_000, "dropped": 0, "waiting_bytes": 0}


def test_messages_of_other_shapes_do_no_harm(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    sub = subscriber(s, "ch")
    drained(bridge)
    good = heard(1, 0, b"m")
    for data in (b"", b"x" * 15, good[:-1], good[:20], heard(1, 0, b"m", kind=1), b"\xff" * 100):
        bridge.send_receive(1, data, HEARD)
        bridge.send_receive(2, data, INTEREST)
    bridge.send_receive(3, good, HEARD)
    sub.expect(push(b"ch", b"m"))


def test_large_messages_stay_at_home(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    everything(s, bridge)
    sub, c = subscriber(s, "ch"), s.connect(60)
    c.raw(encode([b"PUBLISH", b"ch", b"x" * ((16 << 20) + 1)])).expect(b":1\r\n")
    sub.read(16 << 20)
    stats = s.on_engine(s.executor.message_stats)
    assert stats["sent"] == 0 and stats["dropped"] == 1


def test_a_sync_thread_that_stands_still_costs_no_more_than_its_queue(served):
    bridge = Bridge(1 << 20)
    s = served(bridge=bridge)
    everything(s, bridge)
    c = s.connect()
    for _ in range(30):
        c.raw(encode([b"PUBLISH", b"ch", b"x" * 100_000])).expect(b":0\r\n")
    assert bridge.outgoing[1] <= 1 << 20
    stats = s.on_engine(s.executor.message_stats)
    assert stats["dropped"] >= 19 and stats["sent"] == 30


def test_ids_that_a_peer_has_chosen_stand_in_no_common_chain(served):
    bridge = Bridge()
    served(bridge=bridge)
    begun = time.process_time()
    for i in range(0, 60_000, 10_000):
        bridge.send_receive(1, b"".join(b"\1\0" + (k << 40).to_bytes(8, "little")
                                        for k in range(i, i + 10_000)), INTEREST)
        drained(bridge)
    assert time.process_time() - begun < 3


def test_interest_counts_peers(served):
    bridge = Bridge()
    s = served(bridge=bridge)
    c = s.connect()

    def sent() -> int:
        c.send("PUBLISH ch m").expect(b":0\r\n")
        return s.on_engine(s.executor.message_stats)["sent"]

    listens = b"\1\1\2\0\0\0c*"
    for data, n in ((listens, 1), (listens, 2), (b"\0" + listens[1:], 3), (b"\0" + listens[1:], 3)):
        bridge.send_receive(1, data, INTEREST)
        time.sleep(0)
        s.wait(lambda: bridge.incoming[0] == 0)
        assert sent() == n

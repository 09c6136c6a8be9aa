"""Who reads groups of streams here: what the sync thread is told of it, and what clients get by
what it says."""
import time

from crdtredis._core import Replica
from crdtredis._engine import CONSUMERS, Bridge, Executor
from crdtredis.replication.consumers import changes
from crdtredis.replication.delivering import Mode, Right
from tests.engine.test_bridge import drained

OK = b"+OK\r\n"
READ = "XREADGROUP GROUP g c STREAMS s >"
GROUP = 0, b"s", b"g"


def serve(served, patience=60_000):
    bridge = Bridge()
    s = served(bridge=bridge)
    s.executor.consumer_patience = patience
    c = s.connect()
    c.send("XGROUP CREATE s g 0 MKSTREAM").expect(OK)
    return s, bridge, c


def told(bridge) -> list:
    ((kind, _, data),) = drained(bridge)
    assert kind == CONSUMERS and data[:1] == b"\0"
    return list(changes(data[1:]))


def give(s, mode, *rights):
    return s.on_engine(lambda: s.executor.give(mode, list(rights)))


def from_elsewhere(s, entry="XADD s 9-9 f v") -> None:
    """An entry that another replica has added."""
    other = Replica("b", 5)
    other.now = int(time.time() * 1000)
    x = Executor(other)
    x.execute(x.session(), entry.encode().split())
    s.on_engine(lambda: s.replica.receive(other.take_ops()))


def test_the_sync_thread_is_told_of_the_first_and_of_the_end(served):
    s, bridge, c = serve(served)
    for _ in range(3):
        c.send(READ).expect(b"*-1\r\n")
    assert told(bridge) == [(True, GROUP)]
    s.executor.consumer_patience = 0
    assert told(bridge) == [(False, GROUP)] and bridge.outgoing == (0, 0)
    assert s.on_engine(lambda: s.executor.gives(0, b"s")) == {}


def test_who_waits_is_a_consumer(served):
    s, bridge, c = serve(served, patience=0)
    c.send("XGROUP CREATE s h 0").expect(OK)
    waits = s.connect()
    waits.send("XREADGROUP GROUP x y NOACK COUNT 1 GROUP g GROUP BLOCK 0 STREAMS s >")
    assert told(bridge) == [(True, GROUP)]
    # another group is forgotten meanwhile, and again
    for _ in range(2):
        c.send("XREADGROUP GROUP h c STREAMS s >").expect(b"*-1\r\n")
        found = []
        while len(found) < 2:
            found += told(bridge)
        assert found == [(True, (0, b"s", b"h")), (False, (0, b"s", b"h"))]
    waits.sock.close()
    assert told(bridge) == [(False, GROUP)]


def test_groups_that_are_read_are_bounded(served):
    """The one that was read the longest ago goes; the last one stays."""
    s, bridge, c = serve(served)
    bridge.drain()
    n = 100_000
    session = s.on_engine(lambda: s.executor.session())

    def read(first, last):
        for i in range(first, last):
            key = b"k%d" % i
            s.executor.execute(session, [b"XGROUP", b"CREATE", key, b"g", b"0", b"MKSTREAM"])
            s.executor.execute(session, [b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", key,
                                         b">"])

    mine = set()
    for first in range(0, n + 2000, 2000):
        s.on_engine(lambda: read(first, first + 2000))
        for kind, _, data in bridge.drain():
            if kind == CONSUMERS:
                for begun, group in changes(data[1:]):
                    (mine.add if begun else mine.remove)(group[1])
    while len(mine) != n:
        for begun, group in told(bridge):
            (mine.add if begun else mine.remove)(group[1])
    assert b"k0" not in mine and b"k%d" % (n + 1999) in mine


def test_a_name_too_long_to_be_told_is_given_out(served):
    s, bridge, c = serve(served)
    give(s, Mode.NOTHING)
    key = "k" * 4096
    c.send(f"XADD {key} 1-1 f v", f"XGROUP CREATE {key} g 0",
           f"XREADGROUP GROUP g c COUNT 1 STREAMS {key} >")
    c.expect(b"$3\r\n1-1\r\n" + OK + entries("1-1", key=key))
    assert bridge.outgoing == (0, 0)


def test_nothing_is_given_out_until_it_may_be(served):
    s, bridge, c = serve(served)
    actor, seq = give(s, Mode.NOTHING)
    assert actor == s.replica.actor and seq > 0
    c.send("XADD s 1-1 f v").expect(b"$3\r\n1-1\r\n")
    begun = time.monotonic()
    c.send("MULTI", READ, "EXEC").expect(OK + b"+QUEUED\r\n" + b"*1\r\n*-1\r\n")
    c.send([b"EVAL", b"return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 's', '>')",
            b"0"]).expect(b"$-1\r\n")
    assert time.monotonic() - begun < 0.9, "in these it does not wait"
    c.send(READ)
    give(s, Mode.RIGHTS)
    # its own, but not at once: what others say is not known
    c.expect(entries("1-1"))
    c.send("XADD s 2-1 f v").expect(b"$3\r\n2-1\r\n")
    c.send(READ.replace("STREAMS", "BLOCK 0 STREAMS")).expect(entries("2-1"))


def entries(*ids: str, key="s") -> bytes:
    return b"*1\r\n*2\r\n$%d\r\n%s\r\n*%d\r\n" % (len(key), key.encode(), len(ids)) + b"".join(
        b"*2\r\n$%d\r\n%s\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n" % (len(i), i.encode()) for i in ids)


def test_what_others_have_added_goes_where_it_is_said_to(served):
    s, bridge, c = serve(served)
    give(s, Mode.RIGHTS, (GROUP, Right(False, False, settled=True)))
    from_elsewhere(s)
    c.send("XADD s 10-1 f v").expect(b"$4\r\n10-1\r\n")
    c.send(READ).expect(b"*-1\r\n")
    give(s, Mode.RIGHTS, (GROUP, Right(False, True, frozenset("b"), True)))
    c.send(READ).expect(b"*-1\r\n")
    waits = s.connect()
    waits.send(READ.replace("STREAMS", "BLOCK 0 STREAMS"))
    c.send("PING").expect(b"+PONG\r\n")
    give(s, Mode.RIGHTS, (GROUP, Right(False, True, frozenset("ab"), True)))
    c.send(READ).expect(b"*-1\r\n")
    give(s, Mode.RIGHTS, (GROUP, Right(False, True, frozenset("ac"), True)))
    waits.expect(entries("9-9"))
    assert s.on_engine(lambda: s.executor.gives(0, b"s"))[b"g"] == {
        "consumer": True, "settled": True, "own": False, "others": True, "but": ["a", "c"]}
    give(s, Mode.RIGHTS, (GROUP, Right(True, False, settled=True)))
    c.send(READ).expect(entries("10-1"))
    give(s, Mode.ALL)
    assert s.on_engine(lambda: s.executor.gives(0, b"s"))[b"g"]["others"]


def test_what_was_passed_over_is_looked_at_again_where_it_counts(served):
    """What is for another replica to give out is walked over once: until somebody else gives it
    out, the group begins anew, or the entry becomes one of this replica."""
    s, bridge, c = serve(served)
    give(s, Mode.RIGHTS, (GROUP, Right(True, False, settled=True)))
    from_elsewhere(s, "XADD s 8-8 f v")
    c.send(READ).expect(b"*-1\r\n")
    c.send("XADD s 9-1 f v", READ).expect(b"$3\r\n9-1\r\n" + entries("9-1"))
    c.send("XADD s 9-2 f v", READ).expect(b"$3\r\n9-2\r\n" + entries("9-2"))
    c.send("XGROUP SETID s g 0", READ).expect(OK + entries("9-1", "9-2"))
    c.send("XGROUP DESTROY s g", "XGROUP CREATE s g 0", READ).expect(
        b":1\r\n" + OK + entries("9-1", "9-2"))
    give(s, Mode.RIGHTS, (GROUP, Right(True, True, frozenset("c"), True)))
    c.send(READ).expect(entries("8-8"))
    c.send(READ).expect(b"*-1\r\n")


def test_an_entry_that_another_replica_assigned_to_and_lost_is_its_own_again(served):
    """Two writes stand at one id, and the later shows: that of b, until b, which knows of no other,
    removes it."""
    s, bridge, c = serve(served)
    give(s, Mode.RIGHTS, (GROUP, Right(True, False, settled=True)))
    other = Replica("b", 5)
    other.now = int(time.time() * 1000) + 500
    x = Executor(other)
    session = x.session()

    def at_b(command):
        x.execute(session, command.encode().split())
        s.on_engine(lambda: s.replica.receive(other.take_ops()))

    c.send("XADD s 5-5 f v").expect(b"$3\r\n5-5\r\n")
    at_b("XADD s 5-5 f v")
    c.send(READ).expect(b"*-1\r\n")
    at_b("XDEL s 5-5")
    c.send(READ).expect(entries("5-5"))


def test_a_replica_takes_over_what_it_gives_out(served):
    """So two whose consumers wait with CLAIM take over nothing twice."""
    s, bridge, c = serve(served)
    give(s, Mode.ALL)
    from_elsewhere(s, "XADD s 8-8 f v")
    c.send("XADD s 9-1 f v", READ).expect(b"$3\r\n9-1\r\n" + entries("8-8", "9-1"))
    claims = READ.replace("STREAMS", "CLAIM 0 STREAMS")
    give(s, Mode.NOTHING)
    c.send("MULTI", claims, "EXEC").expect(OK + b"+QUEUED\r\n" + b"*1\r\n*-1\r\n")
    for right, wanted in ((Right(True, False, settled=True), b"9-1"),
                          (Right(False, True, frozenset("c"), True), b"8-8")):
        give(s, Mode.RIGHTS, (GROUP, right))
        c.send("MULTI", claims, "EXEC").expect(
            OK + b"+QUEUED\r\n" + b"*1\r\n*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*4\r\n$3\r\n"
            + wanted + b"\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n:")
        while c.read(1) != b"\n":              # for how long it was pending
            pass
        c.expect(b":1\r\n")


def test_what_was_said_does_not_outlive_the_mode(served):
    s, bridge, c = serve(served)
    give(s, Mode.RIGHTS, (GROUP, Right(True, True, settled=True)))
    from_elsewhere(s)
    give(s, Mode.NOTHING)
    give(s, Mode.RIGHTS)
    c.send("MULTI", READ, "EXEC").expect(OK + b"+QUEUED\r\n" + b"*1\r\n*-1\r\n")
    give(s, Mode.RIGHTS, (GROUP, Right(True, True, settled=True)))
    give(s, Mode.RIGHTS, (GROUP, None))
    c.send("MULTI", READ, "EXEC").expect(OK + b"+QUEUED\r\n" + b"*1\r\n*-1\r\n")


def test_keys_at_home_are_given_out_here(served):
    s, bridge, c = serve(served)
    s.on_engine(lambda: setattr(s.replica, "local_keys", [b"home:*"]))
    give(s, Mode.NOTHING)
    c.send("XADD home:s 1-1 f v").expect(b"$3\r\n1-1\r\n")
    c.send("XGROUP CREATE home:s g 0").expect(OK)
    c.send("XREADGROUP GROUP g c STREAMS home:s >").expect(
        entries("1-1", key="home:s"))
    assert bridge.outgoing == (0, 0), "and nobody is told"


def test_what_is_not_fetched_is_told_anew(served):
    s, bridge, c = serve(served)
    session = s.on_engine(lambda: s.executor.session())
    keys = {b"%4000d" % i for i in range(4500)}

    def read_all():
        for key in keys:
            s.executor.execute(session, [b"XGROUP", b"CREATE", key, b"g", b"0", b"MKSTREAM"])
            s.executor.execute(session, [b"XREADGROUP", b"GROUP", b"g", b"c", b"STREAMS", key,
                                         b">"])
    s.on_engine(read_all)
    found = []
    while not found or found[-1][0] != CONSUMERS:
        found += drained(bridge)
    data = found[-1][2]
    assert data[:1] == b"\1"
    assert {group[1] for begun, group in changes(data[1:]) if begun} == keys

"""Replicas in conversation: real kernels, real HTTP on loopback, engine and disk of a few lines
(network.py).

Named after what they guard against. The classic faults of such systems: the whole log applied at
every sync; ids used again after a crash or a restored backup; a time as watermark; two nodes that
sync each other for ever; a dead peer that stops the others; a queue without bound. Each has its
test here.
"""
import asyncio
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from crdtredis._core import Replica
from crdtredis.replication import crdtredis_pb2 as pb
from crdtredis.replication import peer as peers
from crdtredis.replication.oplog import Chunk
from crdtredis.replication.wire import CONTENT_TYPE, PROTOCOL, decode, encode, entries, proto
from tests.replication import network
from tests.replication.network import Network, Node, converged, traffic, until


def run(coroutine_function):
    """A test that is a coroutine."""
    def test():
        asyncio.run(asyncio.wait_for(coroutine_function(), 60))
    test.__name__, test.__doc__ = coroutine_function.__name__, coroutine_function.__doc__
    return test


async def all_up(*nodes):
    await until(lambda: all(p.state == "up" for n in nodes for p in n.registry.peers))


@run
async def test_ops_reach_everyone_once():
    async with Network(3) as nodes:
        await all_up(*nodes)
        for i in range(300):
            for n in nodes:
                n.set(f"{n.name}{i}", str(i))
            if i % 20 == 0:
                await asyncio.sleep(0.002)
        await converged(nodes)
        # several rounds later: nothing is sent once more
        await asyncio.sleep(0.5)
        assert [traffic(n) for n in nodes] == [600, 600, 600]
        assert all(p.counts.relayed == 0 and p.info().lag_ops == 0 for n in nodes
                   for p in n.registry.peers)


@run
async def test_replicas_that_agree_are_silent():
    async with Network(3) as nodes:
        await all_up(*nodes)
        nodes[0].set("k", "v")
        await converged(nodes)
        await asyncio.sleep(0.3)
        before = [(len(n.engine.received), p.counts.pushes, p.counts.pulls) for n in nodes
                  for p in n.registry.peers]
        rounds = sum(p.counts.anti_entropy_rounds for n in nodes for p in n.registry.peers)
        await asyncio.sleep(0.6)
        assert (before == [(len(n.engine.received), p.counts.pushes, p.counts.pulls) for n in nodes
                           for p in n.registry.peers])
        assert sum(p.counts.anti_entropy_rounds for n in nodes for p in n.registry.peers) > rounds


@run
async def test_an_outage_is_caught_up_without_repeats():
    # Few rounds: on a busy machine nothing moves for 0.1 s now and then, and then others hand it
    # on.
    async with Network(3, memory=5_000, interval=20.0) as (a, b, c):
        await all_up(a, b, c)
        a.set("before", "x")
        await converged([a, b, c])
        await b.stop()
        for i in range(2000):
            a.set(f"k{i}", f"v{i}")
            if i % 100 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: len(c.replica.clock_ids()) == len(a.replica.clock_ids())
                    and c.get("k1999") == "v1999")
        assert a.tail.log.bytes <= 10_000                       # so what b lacks is in the segments
        reads = a.log.reads
        await b.start()
        b.connect()
        await converged([a, b, c])
        # and not the op it had, nor any twice
        assert a.log.reads > reads and traffic(b) == 2000
        assert c.peer(b).counts.relayed == 0


@run
async def test_what_a_third_replica_missed_is_handed_on():
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        a.pause(c), c.pause(a)
        for i in range(50):
            a.set(f"k{i}", "v")
        await until(lambda: c.get("k49") == "v")
        await converged([a, b, c])
        await until(lambda: b.peer(c).counts.relayed + c.peer(b).counts.ops_received >= 50)


@run
async def test_handed_on_also_to_a_peer_that_cannot_ask():
    nodes = [Node(n) for n in "abc"]
    a, b, c = nodes
    try:
        for n in nodes:
            await n.start(nodes)
        # c calls nobody, and nobody but b calls c
        a.connect(b), b.connect(a, c)
        a.set("k", "v")
        await until(lambda: c.get("k") == "v")
    finally:
        for n in nodes:
            await n.stop()


@run
async def test_an_op_stamped_long_ago_arrives_late_and_counts():
    """With a time as watermark it would be lost: c has compared clocks often with both others
    before it comes."""
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        a.pause()
        a.set("old", "v")
        for i in range(30):
            b.set(f"k{i}", "v")
            await asyncio.sleep(0.01)
        assert c.get("k29") == "v" and c.get("old") is None
        a.pause(paused=False)
        await converged([a, b, c])
        assert c.get("old") == "v"


@run
async def test_pause_cuts_both_directions_and_resume_joins_them():
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        a.pause()
        a.set("from-a", "1"), b.set("from-b", "2")
        await until(lambda: c.get("from-b") == "2")
        await asyncio.sleep(0.4)
        assert b.get("from-a") is None and a.get("from-b") is None and c.get("from-a") is None
        assert all(p.state == "paused" for p in a.registry.peers)
        await until(lambda: b.peer(a).state == c.peer(a).state == "paused")
        assert b.peer(a).error == "paused: a has paused replication with b (CRDT.PEER RESUME there)"
        a.pause(paused=False)
        await converged([a, b, c], 3)


@run
async def test_nothing_leaves_on_a_stream_from_the_moment_of_a_pause():
    """PAUSE sets a flag in the engine's thread. The stream lives on until this one has seen it."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        pushed, peer = [], a.peer(b)
        await until(lambda: peer._sender is not None)
        sender, peer._sender = peer._sender, SimpleNamespace(push=lambda *sent: pushed.append(sent))
        for a.registry.paused_all in (True, False):
            peer._send(Chunk(b"", 1))
        peer._sender = sender
        assert len(pushed) == 1


@run
async def test_pause_of_one_peer_holds_before_it_was_ever_met():
    nodes = [Node("a"), Node("b")]
    a, b = nodes
    try:
        await a.start(nodes)
        await b.start(nodes)
        peer = a.new_peer(b.url)
        peer.paused = True
        a.registry.peers.append(peer)
        b.connect()
        b.set("k", "v")
        await until(lambda: "paused" in b.peer(a).error)
        assert a.get("k") is None
    finally:
        for n in nodes:
            await n.stop()


@run
async def test_a_dead_and_a_mute_peer_stop_nobody():
    """One refuses connections, one accepts and never replies."""
    async def mute(reader, writer):
        await asyncio.sleep(60)

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    dead = await asyncio.start_server(mute, "127.0.0.1", 0)
    ports = [s.sockets[0].getsockname()[1] for s in (server, dead)]
    dead.close()
    async with Network(2, timeout=0.3, max_retries=2) as (a, b):
        for port in ports:
            a.call(f"http://127.0.0.1:{port}")
        await until(lambda: a.peer(b).state == "up")
        worst = 0.0
        for i in range(200):
            at = time.monotonic()
            a.set(f"k{i}", "v")
            await until(lambda: b.get(f"k{i}") == "v", 2)
            worst = max(worst, time.monotonic() - at)
        assert worst < 1.0
        await until(lambda: [p.state for p in a.registry.peers] == ["up", "down", "down"])
        tried = a.registry.peers[2].counts.handshakes
        await until(lambda: a.registry.peers[2].counts.handshakes > tried)  # down, but still tried
        info = a.registry.peers[2].info()
        assert info.error and info.lag_ops == 200 and info.queued_bytes > 0
    server.close()


@run
async def test_a_peer_that_has_stopped_replying_is_shown_so():
    """As after SIGSTOP: connections stand, the kernel takes what is sent, and nothing comes
    back."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(peers, "MUTE", 0.3)
        patched.setattr(network, "streams", False)
        async with Network(2, timeout=20.0) as (a, b):
            await all_up(a, b)
            resumed, pull = asyncio.Event(), b.sessions.pull

            async def hanging(*args):
                await resumed.wait()
                return await pull(*args)

            patched.setattr(b.sessions, "pull", hanging)
            await until(lambda: a.peer(b).state == "not replying")
            assert a.peer(b).info().error == "no reply"
            await until(lambda: b.peer(a).state == "up")
            resumed.set()
            await until(lambda: a.peer(b).state == "up" and not a.peer(b).info().error)


@run
async def test_a_slow_peer_costs_no_memory():
    """Its backlog is its place in the log, which is bounded, not a queue."""
    async with Network(2, memory=20_000, timeout=10.0) as (a, b):
        await all_up(a, b)
        await b.stop()
        for i in range(5000):
            a.set(f"k{i % 10}", "v" * 50)
            if i % 50 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert a.tail.log.bytes <= 40_000 and a.tail.log.end - a.tail.log._first <= 5000
        assert not a.tail._receiving and not a.peer(b)._pushes


@run
async def test_what_arrives_is_bounded():
    """In requests; for a stream see test_a_receiver_whose_engine_is_slow_stops_reading."""
    network.streams = False
    async with Network(2, inbound=1000, interval=20.0) as (a, b):
        await all_up(a, b)
        budget = b.sessions.by_replica["a"].traffic.inbound
        await budget.acquire(900)
        a.set("k", "v" * 500)
        await asyncio.sleep(0.2)
        assert b.get("k") is None                               # waits in its own connection
        budget.release(900)
        await until(lambda: b.get("k") is not None)
        a.set("big", "v" * 5000)                                # more than the whole budget: alone
        await until(lambda: b.get("big") is not None and budget.used == 0)
    network.streams = True


@run
async def test_the_tail_falls_behind_the_engine_and_loses_nothing():
    async with Network(2) as (a, b):
        await all_up(a, b)
        a.engine.room = 3
        for i in range(500):
            a.set(f"k{i}", str(i))
            if i % 7 == 0:
                await asyncio.sleep(0.001)
        await converged([a, b])
        assert traffic(b) == 500


@run
async def test_a_lost_tail_comes_back_and_no_dot_is_used_twice():
    """kill -9 before the log reached the disk: b has ops of a that a has not."""
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        for i in range(20):
            a.set(f"k{i}", "first life")
        await converged([a, b, c])
        await a.stop()
        del a.log.batches[5:]
        await a.start()
        a.set("k19", "second life")                             # before it has met anybody
        a.connect()
        await converged([a, b, c])
        assert a.get("k10") == "first life" and len({n.get("k19") for n in (a, b, c)}) == 1


@run
async def test_what_a_peer_acknowledged_and_lost_is_sent_again():
    """The peer does not ask for it: who sends must take the clock of the handshake, not the
    greatest it has heard."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        for i in range(20):
            a.set(f"k{i}", "v")
            await until(lambda: b.get(f"k{i}") == "v")
        await converged([a, b])
        await b.stop()
        del b.log.batches[10:]
        await b.start()                                         # and calls nobody
        await until(lambda: a.peer(b).state == "up" and b.get("k19") == "v")
        await until(lambda: a.registry.acknowledged(a.replica.actor, 20) == 1)


@run
async def test_a_restored_backup_goes_on_as_a_newer_epoch():
    """The clock was set back too, so that even the start's epoch is an old one."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        a.set("k", "1")
        await converged([a, b])
        backup, old = list(a.log.batches), a.epoch
        await a.stop()
        await a.start()
        a.connect()
        later = a.epoch
        for i in range(10):
            a.set(f"later{i}", "x")
        await converged([a, b])
        await a.stop()
        a.log.batches = backup
        await a.start(epoch=old + 1)
        assert a.epoch < later
        a.connect()
        await converged([a, b])
        assert a.epoch > later and a.get("later9") == "x"
        a.set("k", "2")
        await converged([a, b])
        assert b.get("k") == "2"


@run
async def test_an_actor_without_ops_that_a_hostile_op_names_is_declared_to_others():
    """b and d take such an op from a stranger: b, which starts again, gives it to a, and a to c.
    What is cut to chunks lacks the declarations that the log has beside the op."""
    stranger, idle = Replica("stranger", 1), Replica("idle", 1)
    op = pb.Op(seq=1, stamp=1 << 16, effects=[
        pb.Effect(kind=pb.DEADLINE, key=b"k", deadline=2**60, stamp=1, actor=idle.actor)])
    batch = pb.Batch(actors=[pb.Actor(id=r.actor, replica=r.id, epoch=r.epoch)
                             for r in (stranger, idle)],
                     runs=[pb.Run(actor=stranger.actor, ops=[op])]).SerializeToString()
    nodes = [Node(n, chunk_size=64) for n in "abcd"]
    a, b, c, d = nodes
    try:
        for n in nodes:
            await n.start(nodes)
        for n in (b, d):
            n.engine.receive(0, batch)
        await b.stop()
        await b.start(nodes)
        a.connect(b, c)
        d.connect(c)
        await converged(nodes)
        assert c.replica.clock() == {("stranger", 1): 1}
    finally:
        for n in nodes:
            await n.stop()


@run
async def test_an_actor_known_with_ops_it_never_made_is_left():
    """What a resumed snapshot of a machine looks like to its peers: the same actor, earlier."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        a.set("k", "1")
        await converged([a, b])
        epoch = a.epoch
        await a.stop()
        a.log.batches.clear()
        await a.start(epoch=epoch)
        a.connect()
        await converged([a, b])
        assert a.epoch > epoch and a.get("k") == "1"
        a.set("k", "2")
        await converged([a, b])
        assert b.get("k") == "2"


@run
async def test_two_processes_with_one_replica_id_are_refused_clearly():
    async with Network(2) as (a, b):
        await all_up(a, b)
        twin = Node("a")
        try:
            await twin.start([b])
            twin.connect(b)
            await until(lambda: a.peer(b).state == "refused" or twin.peer(b).state == "refused")
            text = a.peer(b).error + twin.peer(b).error
            assert "replica_id 'a'" in text and "same replica" in text
            # and they do not take turns for ever
            await asyncio.sleep(0.5)
            assert (a.peer(b).state == "refused" and twin.peer(b).state == "up"
                    and twin.epoch < time.time() * 1000 + 5000)
        finally:
            await twin.stop()


@run
async def test_a_peer_list_may_name_the_replica_itself():
    async with Network(2) as (a, b):
        a.connect(a)
        await until(lambda: a.peer(a).state == "self")
        a.set("k", "v")
        await until(lambda: b.get("k") == "v")
        assert a.registry.acknowledged(0, 0) == 1


@pytest.mark.parametrize("change, what", [
    ({"cluster": "other"}, "wrong cluster"), ({"token": "secret"}, "unauthorized"),
    ({"token": ""}, "unauthorized")])
def test_an_undeclared_actor_is_refused(change, what):
    async def test():
        a, b = Node("a", token="right"), Node("b", **{"token": "right"} | change)
        try:
            await a.start([b])
            await b.start([a])
            b.connect()
            b.set("k", "v")
            await until(lambda: b.peer(a).state == "refused")
            assert what in b.peer(a).error and a.get("k") is None
        finally:
            await a.stop()
            await b.stop()
    asyncio.run(test())


@run
async def test_a_clock_too_far_off_is_refused():
    async with Network(2, skew=0.5) as (a, b):
        await all_up(a, b)
        hello, declared = b.identity.hello()
        hello.now += 700
        async with a.runtime.http.post(f"{a.url}/replication/handshake", data=encode(hello,
                                                                                     declared),
                                   headers={"Content-Type": CONTENT_TYPE}) as r:
            refusal, _ = decode(proto.Refusal, await r.read())
        assert (r.status == 409 and refusal.code == proto.CLOCK_SKEW
                and "max_clock_skew" in refusal.text)


@run
async def test_the_same_push_twice_changes_nothing():
    async with Network(2) as (a, b):
        await all_up(a, b)
        session = b.sessions.by_replica["a"].key
        a.registry.peers[0].paused = True
        a.registry.peers[0].refresh()
        a.set("k", "v")
        batch = a.tail.declarations_beyond(()) + a.log.batches[-1][1]
        for n in (1, 2, 3):
            async with a.runtime.http.post(f"{b.url}/replication/push",
                                       data=encode(proto.Push(session=session), batch),
                                       headers={"Content-Type": CONTENT_TYPE,
                                                "X-Replica": "a"}) as r:
                reply, _ = decode(proto.Reply, await r.read())
            assert r.status == 200 and {e.actor: e.seq for e in reply.clock}[a.replica.actor] == 1
        assert b.get("k") == "v" and len(b.engine.received) == 1 and b.tail.duplicate_ops == 2


@run
async def test_garbage_is_refused_and_harms_nobody():
    async with Network(2) as (a, b):
        await all_up(a, b)
        session = b.sessions.by_replica["a"].key
        good = {"Content-Type": CONTENT_TYPE, "X-Replica": "a"}
        for path, body, headers, status in (
                ("push", b"", good, 400), ("push", b"\xff" * 100, good, 400),
                ("push", encode(proto.Push(session=1)), good, 409),
                ("push", encode(proto.Push(session=session), b"\xff" * 100), good, 400),
                ("push", encode(proto.Push(session=session),
                                b"\x12\x0b\x09" + b"\x01" * 8 + b"\x12\x00"), good, 400),
                ("push", encode(proto.Push(session=session)),
                 {**good, "Content-Type": "text/plain"},
                 400),
                ("push", encode(proto.Push(session=session)), {**good, "X-Replica": "b"}, 409),
                ("pull", encode(proto.Pull(session=5, clock=entries({1: 1}))), good, 409),
                ("handshake", b"\x01\x02", good, 400),
                ("handshake", encode(proto.Hello(version=PROTOCOL + 1)), good, 403)):
            async with a.runtime.http.post(f"{b.url}/replication/{path}", data=body,
                                       headers=headers) as r:
                assert r.status == status, (path, body)
                refusal, _ = decode(proto.Refusal, await r.read())
                assert refusal.text and "Traceback" not in refusal.text
        async with a.runtime.http.get(f"{b.url}/replication/push") as r:
            assert r.status == 405 and r.headers["Allow"] == "POST"
            refusal, _ = decode(proto.Refusal, await r.read())
            assert refusal.code == proto.MALFORMED and refusal.text == "method not allowed"
        async with a.runtime.http.get(f"{b.url}/nothing") as r:
            assert (r.status == 404
                    and (await r.json())["error"].startswith("not found; there are /health"))
        async with a.runtime.http.post(f"{b.url}/replication/nothing", data=b"") as r:
            assert r.status == 404 and decode(proto.Refusal, await r.read())[0].text == "not found"
        a.set("k", "v")
        await until(lambda: b.get("k") == "v")


@run
async def test_a_peer_below_the_log_is_told_and_sent_nothing_it_could_not_use():
    async with Network(2, memory=100) as (a, b):
        await all_up(a, b)
        await b.stop()
        for i in range(20):
            a.set(f"k{i}", "v" * 20)
            # each an entry of its own
            await until(lambda: a.tail.head.get(a.replica.actor) == i + 1)
        assert a.tail.log.floor[a.replica.actor] == 19
        del a.log.batches[:10]
        b.log.batches.clear()
        await b.start()
        b.connect()
        b.set("own", "1")
        await until(lambda: a.peer(b).state == "needs full sync"
                    and b.peer(a).state == "needs full sync")
        assert ("no longer holds" in a.peer(b).info().error
                and "no longer holds" in b.peer(a).info().error)
        await asyncio.sleep(0.3)
        assert b.get("k19") is None and b.replica.pending()["ops"] == 0
        assert a.get("own") == "1"                              # the other direction is as always


@run
async def test_another_peer_can_spare_the_full_sync():
    async with Network(3, memory=100) as (a, b, c):
        await all_up(a, b, c)
        await b.stop()
        for i in range(20):
            a.set(f"k{i}", "v" * 20)
            await until(lambda: a.tail.head.get(a.replica.actor) == i + 1)
        await until(lambda: c.get("k19"))
        del a.log.batches[:10]
        await b.start()
        b.connect()
        await converged([a, b, c])
        await all_up(a, b, c)


@contextmanager
def without_members(node, removed):
    """These replicas were removed from the cluster, as this one knows it."""
    before = node.registry.members.is_removed
    node.registry.members.is_removed = removed.__contains__
    yield
    node.registry.members.is_removed = before


@pytest.mark.parametrize("streams", [True, False])
def test_the_log_is_removed_under_a_peer_that_reads_it(monkeypatch, caplog, streams):
    """It is told so as if it had come too late; what it lacks it gets from another."""
    monkeypatch.setattr(network, "streams", streams)
    run(read_while_removed)()
    assert "unforeseen" not in caplog.text


async def read_while_removed():
    async with Network(3, memory=100) as (a, b, c):
        await all_up(a, b, c)
        await b.stop()
        for i in range(40):
            a.set(f"k{i}", "v" * 2000)
            await until(lambda: a.tail.head.get(a.replica.actor) == i + 1)
        await until(lambda: c.get("k39"))
        await c.stop()
        real = a.log.read

        def read(position):
            a.log.first = len(a.log.batches) - 10
            return real(position)

        a.log.read = read
        await b.start()
        b.connect()
        await until(lambda: b.peer(a).state == "needs full sync"
                    and a.peer(b).state == "needs full sync")
        await asyncio.sleep(0.3)
        assert b.get("k39") is None and b.replica.pending()["ops"] == 0
        await c.start()
        c.connect()
        await converged([a, b, c])
        await all_up(a, b, c)


@run
async def test_what_the_log_is_kept_for():
    """Each replica once, with what its newest process has told; a peer that was not met has told
    nothing; who came by itself counts, too."""
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        a.set("k", "v")
        await converged([a, b, c])
        head = dict(a.tail.head)
        await until(lambda: a.registry.logged() == {"b": head, "c": head})
        await until(lambda: a.sessions.logged() == {"b": head, "c": head})
        await b.stop()
        a.set("k", "w")
        await until(lambda: c.get("k") == "w")
        now = dict(a.tail.head)
        await until(lambda: a.registry.logged() == {"b": head, "c": now})
        with without_members(a, {"b"}):
            assert set(a.registry.logged()) == set(a.sessions.logged()) == {"c"}
        a.registry.peers = [p for p in a.registry.peers if p.url != b.url]
        assert set(a.registry.logged()) == {"c"}
        a.call("http://127.0.0.1:1")
        assert a.registry.logged()["http://127.0.0.1:1"] == {}
        lonely = Node("d")
        await lonely.start([])
        try:
            lonely.names = [a]
            lonely.connect(a)
            await until(lambda: a.sessions.logged().get("d") == a.tail.head)
            assert "d" not in a.registry.logged()
        finally:
            await lonely.stop()


@run
async def test_ops_from_the_future_are_held_not_lost():
    async with Network(2, skew=0.6) as (a, b):
        await all_up(a, b)
        a.replica.now = int(time.time() * 1000) + 1500
        from crdtredis._core import probe_make
        probe_make(a.replica, [("set", 0, b"k", b"v")])
        a.engine.iterate()
        await asyncio.sleep(0.2)
        assert b.get("k") is None and b.replica.pending()["held"] == 1
        assert a.peer(b).acked.get(a.replica.actor, 0) == 0     # not claimed
        await until(lambda: b.replica.tick() and b.get("k") == "v"
                    or (setattr(b.replica, "now", int(time.time() * 1000)), False)[1])
        b.engine.iterate()
        await converged([a, b])

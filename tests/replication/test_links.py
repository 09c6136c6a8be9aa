"""Links that are not as the mesh would like them: one direction only, one replica under two names,
a process beside its own copy, a log that has failed. What a peer is said to have, it must have; and
what stands in the way must be seen and must pass."""
import asyncio
import random
import time
from functools import partial
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
import pytest

from crdtredis._core import ReceiveStatus, Replica, batch_ranges, probe_make
from crdtredis.clocks import Actor
from crdtredis.replication.peer import RefusedOps
from crdtredis.replication.service import COMPACT_SINCE, PATCHES_SINCE, Service
from crdtredis.replication.sessions import InboundSessions
from crdtredis.replication.waiters import Waiter
from crdtredis.replication.wire import (CONTENT_TYPE, SPEAKS, declarations, decode, encode, entries,
                                        proto)
from crdtredis.storage.batch import declaration
from tests.replication import network
from tests.replication.invariants import overclaims
from tests.replication.network import Network, Node, converged, until
from tests.replication.test_peers import all_up, run


async def started(*nodes: Node) -> None:
    for n in nodes:
        await n.start(nodes)


async def stopped(*nodes: Node) -> None:
    for n in nodes:
        await n.stop()


# ---- one direction -------------------------------------------------------------------------------

@run
async def test_of_one_that_only_calls_the_kernel_is_told_what_it_has():
    """Else tombstones of its increments would wait until it writes again."""
    nodes = a, b = [Node(n) for n in "ab"]
    try:
        await started(*nodes)
        b.connect(a)
        b.make("add", "n", 1)
        await until(lambda: a.get("n") == "1")
        a.make("del", "n")
        await until(lambda: b.get("n") is None)
        assert a.replica.stats()["tombstones"] == 1
        await until(lambda: a.replica.collect() and not a.replica.stats()["tombstones"])
    finally:
        await stopped(*nodes)


@run
async def test_a_new_actor_behind_a_one_way_link_is_fetched():
    """b reaches a, a reaches nobody. a's actor is unknown to b at their handshake and writes for
    the first time later."""
    a, b = Node("a"), Node("b")
    try:
        await started(a, b)
        b.connect(a)
        await all_up(b)
        states = set()
        a.set("k", "v")
        await until(lambda: states.add(b.peer(a).state) or b.get("k") == "v")
        await asyncio.sleep(0.3)
        assert states == {"up"} and b.peer(a).counts.failures == 0
    finally:
        await stopped(a, b)


@run
async def test_an_actor_met_only_through_another_is_declared():
    """c reaches b only. What it asks b for depends on an actor c has never heard of."""
    a, b, c = nodes = [Node(n) for n in "abc"]
    try:
        await started(*nodes)
        b.connect(a), c.connect(b)
        await all_up(b, c)
        a.set("k", "1")
        await until(lambda: b.get("k") == "1")
        b.set("k", "2")
        await until(lambda: c.get("k") == "2")
        await converged(nodes)
        assert c.peer(b).counts.failures == 0
    finally:
        await stopped(*nodes)


async def ask(node: Node, what: str, head, batch: bytes = b"", replica: str = "a",
              kind=proto.Reply):
    """One raw request to a node, in the name of a replica: (status, head of the reply, ops)."""
    async with aiohttp.ClientSession() as http, http.post(
            f"{node.url}/replication/{what}", data=encode(head, batch),
            headers={"Content-Type": CONTENT_TYPE, "X-Replica": replica}) as r:
        assert r.content_type == CONTENT_TYPE
        return r.status, *decode(kind if r.status == 200 else proto.Refusal, await r.read())


@run
async def test_a_pull_of_ops_says_nothing_about_what_is_logged():
    """Its clock claims what the asker does not want to be sent: only a comparison is an
    acknowledgement."""
    async with Network(2, interval=60.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        b.set("k", "v")
        me, session = b.replica.actor, b.sessions.by_replica["a"].key
        claimed = entries({me: 1})
        await ask(b, "pull", proto.Pull(session=session, clock=claimed, limit=1000))
        await ask(b, "pull", proto.Pull(session=session, clock=claimed, limit=1000, actors=[me]))
        assert b.peer(a).acked.get(me, 0) == 0 and b.registry.acknowledged(me, 1) == 0
        await ask(b, "pull", proto.Pull(session=session, clock=claimed))
        assert b.registry.acknowledged(me, 1) == 1


@run
async def test_a_pull_brings_ops_of_the_wanted_actors_only():
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        for n in (a, b, c):
            n.set(n.name, "v")
        await converged([a, b, c])
        status, reply, batch = await ask(b, "pull",
                                          proto.Pull(session=b.sessions.by_replica["a"].key,
                                                     limit=1 << 20,
                                                    actors=[c.replica.actor]))
        assert status == 200 and not reply.more
        assert [actor for actor, _, _ in batch_ranges(batch)] == [c.replica.actor]
        # what it may depend on is declared
        assert {x.replica for x in declarations(batch)} == {"a", "b", "c"}


@run
async def test_what_a_process_has_is_not_put_down_to_another_of_the_same_replica():
    """b calls one process of a, and another one calls b."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        hello, declared = a.identity.hello()
        hello.process += 1
        status, reply, _ = await ask(b, "handshake", hello, declared, kind=proto.Hello)
        b.set("k", "v")
        await ask(b, "pull",
                  proto.Pull(session=reply.session, clock=entries({b.replica.actor: 1000})))
        assert b.peer(a).acked.get(b.replica.actor, 0) < 1000


@run
async def test_a_caller_of_an_older_version_counts_until_it_is_silent():
    async with Network(2, interval=60.0) as (a, b):
        await all_up(a, b)
        session = a.sessions.by_replica["b"]
        assert a.sessions.older_than(SPEAKS) == ""
        session.speaks = SPEAKS - 1
        assert a.sessions.older_than(SPEAKS) == "b" and a.sessions.older_than(SPEAKS - 1) == ""
        session.last_request -= a.runtime.settings.silence
        assert a.sessions.older_than(SPEAKS) == ""


def test_who_knows_patches():
    """All whom one may send an op to; one that was never met counts as older, but for
    a replica that began with nothing."""
    def peer(replica, speaks, state="up", member=""):
        return SimpleNamespace(replica=replica, member=member, url="http://x", speaks=speaks,
                               state=state)

    registry = SimpleNamespace(peers=[peer("a", 0, "self")], members=SimpleNamespace(own="a"))
    sessions = SimpleNamespace(by_replica={}, older_than=lambda version: "")
    service = SimpleNamespace(registry=registry, sessions=sessions,
                              members_there=lambda: {"a", "b"})
    service.all_speak = partial(Service.all_speak, service)
    knows = partial(Service.knows_patches, service)
    assert (knows(False), knows(True)) == (False, True)
    registry.peers.append(peer("b", SPEAKS))
    assert (knows(False), knows(True)) == (True, True)
    registry.peers.append(peer("", 0, "connecting"))
    assert (knows(False), knows(True)) == (False, True)
    registry.peers[1:] = [peer("b", PATCHES_SINCE - 1)]
    assert (knows(False), knows(True)) == (False, False)
    registry.peers[1:] = []
    sessions.by_replica["b"] = SimpleNamespace(replica="b", speaks=SPEAKS)
    assert (knows(False), knows(True)) == (True, True)
    registry.peers.append(peer("", 0, "down", member="b"))      # it calls, and cannot be called
    assert (knows(False), knows(True)) == (True, True)
    sessions.older_than = lambda version: "c"
    assert (knows(False), knows(True)) == (False, False)


def test_of_one_that_only_calls_the_log_is_kept_for_what_it_lacks():
    """That nobody can call it does not mean that it has nothing."""
    def logged(called, calls):
        return Service.logged(SimpleNamespace(registry=SimpleNamespace(logged=lambda: called),
                                              sessions=SimpleNamespace(logged=lambda: calls)))

    assert logged({"b": {}, "http://x": {}}, {"b": {1: 7}, "c": {1: 6}}) == {
        "b": {1: 7}, "c": {1: 6}, "http://x": {}}
    assert logged({"b": {1: 5}}, {"b": {1: 7}}) == {"b": {1: 5}}
    assert logged({"b": {}}, {}) == {"b": {}}


def test_who_knows_the_shorter_form_of_effects():
    """All whom one may send an op to, whatever this replica began with."""
    b = SimpleNamespace(replica="b", url="http://x", speaks=SPEAKS, state="up")
    sessions = SimpleNamespace(by_replica={}, older_than=lambda version: "")
    service = SimpleNamespace(registry=SimpleNamespace(peers=[], members=SimpleNamespace(own="a")),
                              sessions=sessions, members_there=lambda: {"a"})
    service.all_speak = partial(Service.all_speak, service)
    knows = partial(Service.knows_compact, service)
    assert knows()                                      # there is nobody else
    service.registry.peers.append(b)
    assert knows()
    b.speaks = COMPACT_SINCE - 1
    assert not knows()
    b.speaks = 0                                        # it was never met
    assert not knows()
    sessions.by_replica["b"] = SimpleNamespace(replica="b", speaks=COMPACT_SINCE)
    assert knows()
    sessions.older_than = lambda version: "c" if version > COMPACT_SINCE - 1 else ""
    assert not knows()
    sessions.older_than = lambda version: ""
    service.members_there = lambda: {"a", "b", "c"}     # it is b's peer
    assert not knows()
    service.members_there = set                         # ... or may be
    assert not knows()


# ---- what is refused -----------------------------------------------------------------------------


def refusing(node: Node):
    """Have the node's engine refuse, as it would what does not decode, until the returned list is
    filled."""
    healed, receive = [], node.engine.receive

    def refuse(token, batch):
        if healed:
            return receive(token, batch)
        node.engine.results.append((token, ReceiveStatus.BAD))
        node.engine.signal()

    node.engine.receive = refuse
    return healed


@run
async def test_a_link_whose_ops_are_refused_says_so_all_the_time():
    """b fetches from a what it cannot take, a pushes to c what c cannot take: handshakes succeed,
    and prove nothing."""
    nodes = a, b, c = [Node(n) for n in "abc"]
    try:
        await started(*nodes)
        b.connect(a), a.connect(c)
        await all_up(a, b)
        healed = refusing(b), refusing(c)
        a.set("k", "v")
        fetching, pushing = b.peer(a), a.peer(c)
        await until(lambda: fetching.state == pushing.state == "refused")
        states = set()
        handshakes = fetching.counts.handshakes, pushing.counts.handshakes
        await until(lambda: states.update((fetching.state, pushing.state)) or (
            fetching.counts.handshakes > handshakes[0] + 3
            and pushing.counts.handshakes > handshakes[1] + 3))
        assert states == {"refused"}
        assert (b.registry.faults() == [f"operations of a cannot be taken here: {fetching.error}"]
                and "malformed" in fetching.error)
        # it serves on, and c is the one with a problem
        assert a.registry.faults() == []
        for h in healed:
            h.append(True)
        await until(lambda: fetching.state == pushing.state == "up" and b.get("k") == c.get("k")
                    == "v")
        assert fetching.error == pushing.error == "" and b.registry.faults() == []
    finally:
        await stopped(*nodes)


# ---- acknowledgements ----------------------------------------------------------------------------


@run
async def test_one_replica_under_two_addresses_has_one_conversation_and_counts_once():
    async with Network(2) as (a, b):
        async def pipe(reader, writer):
            try:
                while data := await reader.read(1 << 16):
                    writer.write(data)
            except OSError:
                pass
            writer.close()

        async def forward(reader, writer):
            to, back = await asyncio.open_connection("127.0.0.1", urlsplit(b.url).port)
            open_ends.extend((writer, back))
            await asyncio.gather(pipe(reader, back), pipe(to, writer))

        open_ends: list[asyncio.StreamWriter] = []
        road = await asyncio.start_server(forward, "127.0.0.1", 0)
        other = a.call(f"http://127.0.0.1:{road.sockets[0].getsockname()[1]}")
        first = a.peer(b)
        quiet = 0, 0.0

        def settled() -> bool:
            """A handshake each, a few more where they crossed, and then no more."""
            nonlocal quiet
            n, now = sum(p.counts.handshakes for p in a.registry.peers), time.monotonic()
            quiet = quiet if quiet[0] == n else (n, now)
            return (now - quiet[1] > 0.5 and sorted(p.state for p in a.registry.peers)
                    == ["standby", "up"])

        await until(settled)
        a.set("k", "v")
        await until(lambda: b.get("k") == "v" and a.registry.acknowledged(a.replica.actor, 1) == 1)
        assert a.registry.acknowledged(0, 0) == 1

        # whichever talks, the other takes over when it is lost
        a.registry.peers.remove(first)
        a.tasks.pop(first).cancel()
        await until(lambda: other.state == "up")
        direct = a.call(b.url)
        await until(lambda: direct.state == "standby" and other.state == "up")
        road.close()
        for end in open_ends:
            end.transport.abort()
        await until(lambda: direct.state == "up" and other.state in ("retrying", "down"))
        a.set("k", "w")
        await until(lambda: b.get("k") == "w")


@run
async def test_what_a_process_had_and_the_next_lost_is_not_acknowledged():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(network, "streams", False)
        async with Network(2) as (a, b):
            a.set("k", "v")
            await until(lambda: a.registry.acknowledged(a.replica.actor, 1) == 1)
            other = a.new_peer(b.url.replace("127.0.0.1", "localhost"))
            a.registry.peers.append(other)
            task = asyncio.create_task(other.run())
            await until(lambda: other.state == "standby")
            task.cancel()                                       # the address is dead from now on
            await b.stop()
            b.log.batches.clear()
            held, push = asyncio.Event(), InboundSessions.push

            async def holding(*args):
                await held.wait()
                return await push(*args)

            patched.setattr(InboundSessions, "push", holding)
            await b.start()
            await until(lambda: a.peer(b).process == b.identity.process)
            assert other.acked and b.get("k") is None
            assert a.registry.acknowledged(a.replica.actor, 1) == 0
            held.set()
            await until(lambda: a.registry.acknowledged(a.replica.actor, 1) == 1)


@run
async def test_what_fails_in_a_session_that_has_ended_is_tried_in_a_new_one():
    """As of a peer that has restarted, or that was met through another address: nobody has noticed
    yet."""
    async with Network(2, interval=60.0) as (a, b):
        await all_up(a, b)
        p = a.peer(b)
        b.sessions.by_replica.clear()
        outcome = await Service._synchronise(SimpleNamespace(
            registry=a.registry, tail=a.tail, _syncs=asyncio.Semaphore()), 20.0)
        assert outcome.synced == (b.url,) and p.counts.handshakes == 2
        b.sessions.by_replica.clear()
        a.set("k", "v")
        assert await p.try_twice(lambda: p.bring_up({a.replica.actor: 1})) and b.get("k") == "v"


@run
async def test_who_waits_is_replied_once_enough_replicas_have_it():
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        a.pause(c), c.pause(a), b.pause(c), c.pause(b)
        replies, me = [], a.replica.actor
        a.set("k", "v")
        waiters = [Waiter(me, 1, count, lambda n, count=count: replies.append((count, n)))
                   for count in (1, 2, 2, 3)]
        for w in waiters:
            a.registry.wait(w)
        await until(lambda: replies == [(1, 1)])
        a.registry.waiters.leave(waiters[1])                    # its client has gone
        for n, m in ((a, c), (c, a), (b, c), (c, b)):
            n.pause(m, paused=False)
        await until(lambda: len(replies) > 1)
        assert replies == [(1, 1), (2, 2)] and len(a.registry.waiters) == 1


@run
async def test_nothing_is_claimed_that_is_not_logged():
    """With relays, slow links and ops that arrive before what they depend on: whatever a peer is
    said to have, its log has. The log of a node of this network cannot lose anything, so what it
    has holds for ever."""
    async with Network(3, interval=0.05) as nodes:
        await all_up(*nodes)
        chance = random.Random(5)
        delay_some(nodes, chance)
        for i in range(150):
            n = chance.choice(nodes)
            n.set(f"k{chance.randrange(10)}", str(i))
            if chance.random() < 0.2:
                n.pause(chance.choice([m for m in nodes if m is not n]),
                        paused=chance.random() < 0.5)
            await asyncio.sleep(chance.random() * 0.01)
            overclaims(nodes)
        for n in nodes:
            n.pause(paused=False)
            for p in n.registry.peers:
                p.paused = False
                p.refresh()
        await until(lambda: overclaims(nodes) or len({n.replica.digest() for n in nodes}) == 1, 20)
        await converged(nodes)


def delay_some(nodes, chance) -> None:
    """Pushes take a while to be applied, each as long as it likes, so they overtake each other."""
    for n in nodes:
        receive = n.engine.receive

        def later(token, batch, receive=receive):
            asyncio.get_running_loop().call_later(chance.random() * 0.03, receive, token, batch)

        n.engine.receive = later


# ---- two processes with one id -------------------------------------------------------------------


@run
async def test_a_refused_process_comes_back_when_the_other_has_gone():
    """A copied directory, run twice. What the refused one's clients wrote meanwhile is not lost;
    and it knows that it is refused."""
    # b takes nobody for gone in the time this test takes
    a, twin, b = Node("a"), Node("a"), Node("b", retry_cap=10.0)
    try:
        await started(a, b)
        await twin.start([b], epoch=a.epoch + 1)
        a.connect(b)
        await all_up(a)
        twin.connect(b)
        await until(lambda: a.peer(b).state == "refused" and twin.peer(b).state == "up")
        a.set("mine", "1"), twin.set("its", "2")
        await until(lambda: b.get("its") == "2")
        assert ("has taken over replica_id 'a'" in a.registry.conflict
                and a.registry.faults() == [a.registry.conflict])
        assert twin.registry.faults() == [] and b.registry.faults() == []
        tried = a.peer(b).counts.handshakes
        # the other lives: it stays out, and they do not take turns
        await until(lambda: a.peer(b).counts.handshakes > tried + 5)
        assert (a.peer(b).state == "refused" and twin.peer(b).counts.handshakes == 1
                and b.get("mine") is None)
        await twin.stop()
        b.sessions.by_replica["a"].last_request -= b.runtime.settings.silence
        await until(lambda: b.get("mine") == "1" and a.get("its") == "2")
        await converged([a, b])
        assert a.registry.faults() == [] and a.epoch > twin.epoch
    finally:
        await stopped(a, twin, b)


# 0.9 s of silence, on a machine that may be busy
SHORT = {"interval": 0.1, "retry_cap": 0.3}


@run
async def test_a_twin_that_calls_is_a_fault_only_while_it_does():
    a, twin = Node("a", **SHORT), Node("a", **SHORT)
    try:
        await started(a, twin)
        twin.connect(a)
        await until(lambda: a.registry.conflict and twin.registry.conflict)
        await twin.stop()
        await until(lambda: not a.registry.conflict)
    finally:
        await stopped(a, twin)


# ---- the log -------------------------------------------------------------------------------------


@run
async def test_what_the_failed_log_lacks_is_not_claimed():
    """The tail falls behind while the log of a has failed, and reads what the kernel has: the
    kernel has more than the log."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        a.set("k", "1")
        await converged([a, b])
        me = a.replica.actor
        a.engine.failed = True
        # in memory only; its client got an error
        a.set("k", "2")
        a.engine.overflow()
        await asyncio.sleep(0.2)
        assert a.tail.head == {me: 1} and b.peer(a).info().missing_ops == 0
        reads = a.log.reads
        await asyncio.sleep(0.3)
        assert a.log.reads <= reads + 2
        # not taken in meanwhile, but nothing ends
        b.set("l", "1")
        await asyncio.sleep(0.2)
        assert a.peer(b).error == "" or "busy" in a.peer(b).error or a.peer(b).state == "up"
        a.engine.heal()
        await converged([a, b])
        assert b.get("k") == "2" and a.get("l") == "1"


@run
async def test_ops_are_acknowledged_once_the_engine_says_that_they_are_logged():
    """Not before, whatever comes of them; and what it refuses is acknowledged by nobody."""
    async with Network(2, interval=60.0) as (a, b):
        await all_up(a, b)
        session, theirs = a.sessions.by_replica["b"], b.replica.actor
        a.pause(b), b.pause(a)
        b.set("k", "v")
        batch = b.log.batches[-1][1]
        held, receive = [], a.engine.receive
        a.engine.receive = lambda *argv: held.append(argv)
        replies = []
        for _ in range(2):
            a.sessions.take(session, batch, replies.append)
            a.tail._look()                                      # the engine has said nothing
        assert replies == [] and a.peer(b).acked.get(theirs, 0) == 0 and len(held) == 2
        (token, _), (other, _) = held
        a.engine.results.append((token, ReceiveStatus.UNLOGGED))
        a.engine.signal()
        await until(lambda: replies)
        assert replies[0].code == proto.BUSY and a.peer(b).acked.get(theirs, 0) == 0
        receive(other, batch)
        await until(lambda: len(replies) == 2)
        assert replies[1] is None and a.get("k") == "v" and a.tail.head == {theirs: 1}
        assert a.peer(b).acked[theirs] == 1 and len(replies) == 2


@run
async def test_a_peer_is_served_while_the_log_has_failed_with_what_it_holds():
    """The first peer ever comes while the log has failed: it is replied to, from the clock of the
    start."""
    a, b = Node("a"), Node("b")
    try:
        await started(a, b)
        a.set("k", "1")
        a.engine.failed = True
        a.set("l", "1")
        b.connect(a)
        await all_up(b)
        assert a.tail.head == {}
        a.engine.heal()
        await until(lambda: b.get("k") == b.get("l") == "1")
    finally:
        await stopped(a, b)


@run
async def test_a_reader_whom_the_segments_cannot_serve_does_not_spin():
    """Files were taken away under the server: memory begins behind what they hold."""
    async with Network(2, memory=200) as (a, b):
        await all_up(a, b)
        await b.stop()
        for i in range(20):
            a.set(f"k{i}", "v" * 20)
            await until(lambda: a.tail.head.get(a.replica.actor) == i + 1)
        cursor = a.tail.log.cursor({})
        a.log.batches.clear()
        reads = a.log.reads
        assert not await asyncio.wait_for(a.tail.read(cursor, 1000), 5)
        assert a.log.reads - reads == 2


# ---- bad company ---------------------------------------------------------------------------------


async def resets(reader, writer):
    await reader.read(100)
    writer.transport.abort()


async def speaks_something_else(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")


async def speaks_no_http(reader, writer):
    writer.write(b"\xff" * 1000)


async def replies_nonsense(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: "
                 b"application/x-crdt-redis\r\nContent-Length: 100\r\n\r\n" + b"\xff" * 100)


async def replies_half(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-crdt-redis\r\nContent-Length: "
                 b"100\r\n\r\n\x01")
    await asyncio.sleep(60)


async def fails(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 500 Oops\r\nContent-Type: "
                 b"application/json\r\nContent-Length: 2\r\n\r\n{}")


async def reads_nothing(reader, writer):
    await asyncio.sleep(60)


@run
async def test_no_kind_of_bad_peer_stops_the_others():
    kinds = [resets, speaks_something_else, speaks_no_http, replies_nonsense, replies_half, fails,
             reads_nothing]
    servers = [await asyncio.start_server(kind, "127.0.0.1", 0) for kind in kinds]
    async with Network(2, timeout=0.3) as (a, b):
        await all_up(a, b)
        for s in servers:
            a.call(f"http://127.0.0.1:{s.sockets[0].getsockname()[1]}")
        bad = a.registry.peers[1:]
        written = 0
        while not all(p.counts.handshakes > 2 for p in bad):
            a.set(f"k{written}", "v")
            await until(lambda: b.get(f"k{written}") == "v")
            written += 1
        assert a.peer(b).counts.failures == 0 and all(p.error and p.state != "up" for p in bad)
        assert all(not p._pushes and not p.acked for p in bad) and written > 0
    for s in servers:
        s.close()


# ---- actors --------------------------------------------------------------------------------------


def ops_of(replica: str, count: int) -> tuple[bytes, list[bytes]]:
    """The declaration of an actor, and so many batches of an op each."""
    x = Replica(replica, 5)
    batches = []
    for i in range(count):
        probe_make(x, [("set", 0, b"x", b"%d" % i)])
        batches.append(x.take_ops())
    told = declaration([Actor(x.actor, replica, 5)])
    assert batches[0].startswith(told)
    return told, [b.removeprefix(told) for b in batches]


@run
async def test_what_is_declared_beside_ops_that_are_here_is_known():
    """Whoever sent it has said it, and does not say it again."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        b.set("k", "v")
        await converged([a, b])
        told, (first, second) = ops_of("x", 2)
        batch = b.tail.log.take(b.tail.log.cursor({}), 1 << 20).batch
        await a.tail.receive(told + batch)
        await a.tail.receive(first)
        await a.tail.receive(second)
        assert a.get("x") == "1" and a.tail.duplicate_ops >= 1


@run
async def test_what_is_declared_beside_ops_that_a_join_brings_is_known():
    async with Network(1) as (a,):
        told, (first, second) = ops_of("x", 2)
        a.tail.gate = {actor: 1 for actor, _, _ in batch_ranges(first)}
        await a.tail.receive(told + first)
        a.tail.gate = {}
        await a.tail.receive(second)
        assert a.get("x") is None
        await a.tail.receive(first)
        assert a.get("x") == "1"


@run
async def test_an_address_that_stands_by_takes_nothing_and_refuses_nothing():
    """What it once refused is for the conversation that goes on."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        peer = a.peer(b)
        peer._refused_ops = RefusedOps("the ops do not decode", here={1: 1})
        assert a.registry.faults() == ["operations of b cannot be taken here: "]
        peer._state = "standby"
        assert a.registry.faults() == []

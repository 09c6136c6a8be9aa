"""Pushes on a stream: what is sent on it, what ends it, and what it refuses. Everything else about
pushes is in the other files, whose nodes have streams; test_requests.py has them without."""
import asyncio
import struct
import time

import aiohttp
import pytest

from crdtredis._core import ReceiveStatus, Replica, probe_make
from crdtredis.replication.stream import REPLY, REFUSAL, NO_HEAD, PENDING, PUSH, UPGRADE
from crdtredis.replication.wire import BODY_MAX, PROTOCOL, decode, encode, proto
from tests.replication import network
from tests.replication.network import Network, Node, converged, traffic, until
from tests.replication.test_bodies import Proxy, alone, through, value
from tests.replication.test_peers import all_up, run


class Caller:
    """A stream to a node, spoken by hand in the name of another."""

    def __init__(self, node: Node, replica: str, session: int | None = None):
        self.node, self.replica = node, replica
        self.session = node.sessions.by_replica[replica].key if session is None else session

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        head = ("GET /replication/stream HTTP/1.1\r\nHost: x\r\n"
                f"Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n"
                f"X-Replica: {self.replica}\r\nX-Session: {self.session:x}\r\n\r\n")
        self.writer.write(head.encode())
        self.status = int((await self.reader.readuntil(b"\r\n\r\n")).split()[1])
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    def push(self, batch: bytes, kind: int = PUSH) -> None:
        self.writer.write(struct.pack("<IB", len(batch) + 5, kind) + NO_HEAD + batch)

    async def reply(self):
        """(kind, message) of the next frame; None where the stream has ended."""
        try:
            size, kind = struct.unpack("<IB", await self.reader.readexactly(5))
            body = await self.reader.readexactly(size - 1)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return kind, decode(proto.Reply if kind == REPLY else proto.Refusal, body)[0]


@run
async def test_what_is_made_here_goes_on_the_stream():
    async with Network(3) as nodes:
        await all_up(*nodes)
        for i in range(50):
            for n in nodes:
                n.set(f"{n.name}{i}", "v")
            await asyncio.sleep(0.001)
        await converged(nodes)
        for n in nodes:
            for p in n.registry.peers:
                assert p._sender is not None and not p._pushes
                await until(lambda p=p: p.info().lag_ops == 0 and p.info().in_flight == 0)
                assert p.counts.ops_sent == 50 and p.counts.pushes >= 1 and p._window.in_flight == 0
        assert [traffic(n) for n in nodes] == [100, 100, 100]


@run
async def test_a_stream_that_is_cut_again_and_again_loses_nothing():
    async with Network(2) as (a, b):
        alone(a, b)
        async with Proxy(b, most=20_000) as proxy:
            peer = through(a, proxy)
            for i in range(400):
                a.set(f"k{i}", value(1000))
                await asyncio.sleep(0.002)
            await until(lambda: b.get("k399") is not None, 30)
            await converged([a, b])
            assert proxy.connections > 10 and peer.counts.failures > 5


@run
async def test_a_stream_that_stands_still_is_given_up():
    async with Network(2, timeout=0.4) as (a, b):
        alone(a, b)
        a.connect(b)
        peer = a.peer(b)
        await until(lambda: peer._sender is not None)
        b.engine.receive = lambda token, batch: None            # takes it, and never replies
        a.set("k", "v")
        await until(lambda: "nothing moved for" in peer.error)
        del b.engine.receive
        await until(lambda: b.get("k") == "v")


@run
async def test_a_full_receiver_is_tried_again_with_fewer_at_a_time():
    """What it refused it has not taken the declarations of either: a's ops name an actor c, which b
    knows from nowhere else."""
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        c = Replica("c", 1)
        c.now = int(time.time() * 1000)
        probe_make(c, [("set", 0, b"of-c", b"1")])
        await a.tail.receive(c.take_ops())
        receive, refusals = b.engine.receive, 0

        def busy(token, batch):
            nonlocal refusals
            if refusals < 3:
                refusals += 1
                b.engine.results.append((token, ReceiveStatus.FULL))
                b.engine.signal()
            else:
                receive(token, batch)
        b.engine.receive = busy
        sizes = []
        for i in range(100):
            a.set(f"k{i}", value(20_000))
            sizes.append(a.peer(b)._window.size)
            await asyncio.sleep(0.002)
        await converged([a, b])
        assert refusals == 3 and min(sizes) < 4.0 and a.peer(b).counts.failures == 0


@run
async def test_a_receiver_whose_engine_is_slow_stops_reading():
    async with Network(2, inbound=100_000, interval=30.0) as (a, b):
        await all_up(a, b)
        receive, waiting = b.engine.receive, []
        b.engine.receive = lambda token, batch: waiting.append((token, batch))
        async with Caller(b, "a") as caller:
            a.registry.peers[0].paused = True
            a.registry.peers[0].refresh()
            for i in range(400):
                a.set(f"k{i}", value(10_000), iteration=False)
                a.engine.iterate()
            caller.push(a.tail.declarations_beyond(()))
            for _, batch in a.log.batches[-400:]:
                caller.push(batch)
            await until(lambda: waiting)
            await asyncio.sleep(0.3)
            held = sum(len(batch) + len(NO_HEAD) + PENDING for _, batch in waiting)
            # the budget, and what the loop reads at once
            assert held < 100_000 + 300_000
            b.engine.receive = receive
            for token, batch in waiting:
                receive(token, batch)
            await until(lambda: b.get("k399") is not None)
            pushes = 0
            while pushes < 401:
                kind, reply = await asyncio.wait_for(caller.reply(), 5)
                assert kind == REPLY and reply.pushes > pushes
                pushes = reply.pushes


@run
async def test_replies_come_in_order_and_few():
    """What was known already is done at once, yet not said before what came earlier."""
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.set("known", "1")
        await converged([a, b])
        known = a.log.batches[-1][1]
        receive, waiting = b.engine.receive, []
        b.engine.receive = lambda token, batch: waiting.append((token, batch))
        a.registry.peers[0].paused = True
        a.registry.peers[0].refresh()
        a.set("new", "1")
        new = a.log.batches[-1][1]
        async with Caller(b, "a") as caller:
            caller.push(b"")
            assert (await caller.reply())[1].pushes == 1
            caller.push(known), caller.push(new), caller.push(known), caller.push(b"")
            await until(lambda: waiting)
            first = await caller.reply()
            assert first[1].pushes == 2
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(caller.reply(), 0.1)
            b.engine.receive = receive
            receive(*waiting[0])
            kind, reply = await asyncio.wait_for(caller.reply(), 5)
            assert (reply.pushes == 5 and {e.actor: e.seq for e in reply.clock}
                    == {a.replica.actor: 2})
            for _ in range(300):
                caller.push(known)
            count = 0
            while reply.pushes < 305:
                kind, reply = await asyncio.wait_for(caller.reply(), 5)
                count += 1
            assert count < 100


@run
async def test_what_is_refused_on_a_stream_is_named():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        async with Caller(b, "a") as caller:
            caller.push(b"\xff" * 100)
            caller.push(b"")
            kind, refusal = await caller.reply()
            assert (kind, refusal.code, refusal.pushes) == (REFUSAL, proto.MALFORMED, 1)
            reply = None
            while kind != REPLY or reply.pushes < 2:
                kind, reply = await asyncio.wait_for(caller.reply(), 5)
            b.registry.paused_all = True
            caller.push(b"")
            kind, refusal = await caller.reply()
            assert (kind, refusal.code, refusal.pushes) == (REFUSAL, proto.PAUSED, 3)
            b.registry.paused_all = False


@run
async def test_frames_that_are_none_end_the_stream_and_harm_nobody():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        for wild in (b"\0\0\0\0" * 10, b"\xff" * 10, struct.pack("<IB", BODY_MAX + 2, PUSH),
                     struct.pack("<IB", 5, 77) + NO_HEAD,
                     struct.pack("<IB", 5, REPLY) + NO_HEAD):
            async with Caller(b, "a") as caller:
                assert caller.status == 101
                caller.writer.write(wild)
                assert await asyncio.wait_for(caller.reply(), 5) is None
        async with Caller(b, "a") as caller:
            # a frame, but no body in it
            caller.writer.write(struct.pack("<IB", 105, PUSH) + b"\xff" * 104)
            kind, refusal = await asyncio.wait_for(caller.reply(), 5)
            assert kind == REFUSAL and refusal.code == proto.MALFORMED
        a.pause(b, False)
        a.set("k", "v")
        await until(lambda: b.get("k") == "v")


@run
async def test_a_stream_wants_a_session_and_a_second_one_replaces_the_first():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        for replica, session in (("a", 5), ("nobody", 1)):
            async with Caller(b, replica, session) as caller:
                assert caller.status == 409
        async with aiohttp.ClientSession() as http:
            for headers in ({}, {"Connection": "Upgrade", "Upgrade": "websocket"}):
                async with http.get(f"{b.url}/replication/stream", headers=headers) as r:
                    assert r.status == 400
        async with Caller(b, "a") as first, Caller(b, "a") as second:
            assert await asyncio.wait_for(first.reply(), 5) is None
            second.push(b"")
            assert (await asyncio.wait_for(second.reply(), 5))[1].pushes == 1


@pytest.mark.parametrize("frame", [
    struct.pack("<IB", 5, PUSH) + NO_HEAD, b"\xff" * 100, struct.pack("<IB", 3, REPLY) + b"xx",
    (lambda body: struct.pack("<IB", len(body) + 1, REPLY) + body)(encode(proto.Reply(pushes=7)))])
def test_a_reply_that_is_none_ends_the_conversation(frame):
    """From a peer that speaks the rest of the protocol well."""
    async def test():
        a = Node("a", retry=60.0, retry_cap=60.0)
        try:
            await a.start([])

            async def serve(reader, writer):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    if b"/stream" in head:
                        writer.write("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: "
                                     f"{UPGRADE}\r\n\r\n".encode())
                        await reader.readexactly(5)
                        writer.write(frame)
                        await asyncio.sleep(60)
                    await reader.readexactly(
                            int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                    hello = proto.Hello(version=PROTOCOL, cluster="default", replica="b", epoch=1,
                                       process=5, now=int(time.time() * 1000), session=9)
                    body = encode(hello if b"/handshake" in head else proto.Reply())
                    head = ("HTTP/1.1 200 x\r\nContent-Type: application/x-crdt-redis\r\n"
                            f"Content-Length: {len(body)}\r\n\r\n")
                    writer.write(head.encode() + body)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            peer = a.call(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await until(lambda: peer._sender is not None)
            a.set("k", "v")
            await until(lambda: peer.state == "refused")
            assert "malformed" in peer.error or "too large" in peer.error
            server.close()
        finally:
            await a.stop()
    asyncio.run(asyncio.wait_for(test(), 30))


@run
async def test_a_peer_without_streams_is_pushed_to_in_requests():
    network.streams = False
    try:
        async with Network(2) as (a, b):
            await all_up(a, b)
            assert a.peer(b)._sender is None
            a.set("k", "v")
            await converged([a, b])
            assert a.peer(b).counts.failures == 0
    finally:
        network.streams = True

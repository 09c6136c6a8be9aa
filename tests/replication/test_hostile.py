"""A peer that makes things up, floods, or says nothing: it costs a bounded amount of memory and
connections, and the others go on."""
import asyncio
import socket
import struct
import time

import pytest
from aiohttp import web

from crdtredis.replication import sessions, stream
from crdtredis.replication.wire import (ACTORS_MOST, CONTENT_TYPE, PROTOCOL, TEXT_MOST, Refusal,
                                        encode, entries, to_clock,
                                        proto)
from tests.replication.network import Network, Node, until
from tests.replication.test_bodies import serving
from tests.replication.test_peers import all_up, run
from tests.replication.test_stream import Caller


def hello(replica: str, process: int) -> proto.Hello:
    now = int(time.time() * 1000)
    return proto.Hello(version=PROTOCOL, cluster="default", replica=replica, epoch=1,
                      process=process, now=now)


@run
async def test_sessions_of_made_up_replicas_are_few_and_a_peer_keeps_its_own():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        await b.sessions.handshake(hello("x0", 100), b"")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sessions, "SESSIONS", 20)
            async with Caller(b, "x0") as caller:
                assert caller.status == 101
                for i in range(1, 100):
                    await b.sessions.handshake(hello(f"x{i}", 100 + i), b"")
                # it ends with its session
                assert await asyncio.wait_for(caller.reply(), 5) is None
        assert len(b.sessions.by_replica) == 20 and {"a", "x99"} < b.sessions.by_replica.keys()
        a.set("k", "v")
        await until(lambda: b.get("k") == "v")


@run
async def test_who_does_not_read_the_replies_is_not_read_from():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        async with Caller(b, "a") as caller:
            end = caller.writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            refused = struct.pack("<IB", 201, stream.PUSH) + b"\xff" * 200
            sent = 0
            with pytest.raises(TimeoutError):                   # nobody takes any more
                while sent < 100_000_000:
                    caller.writer.write(refused * 1000)
                    sent += len(refused) * 1000
                    async with asyncio.timeout(5):
                        await caller.writer.drain()
            link = b.sessions.by_replica["a"].traffic.stream
            assert link.is_full and link.transport.get_write_buffer_size() < 8 << 20
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            for i in range(1000):                               # and it goes on where it was
                kind, refusal = await asyncio.wait_for(caller.reply(), 5)
                while kind == stream.REPLY:
                    kind, refusal = await asyncio.wait_for(caller.reply(), 5)
                assert refusal.pushes == i + 1
        a.pause(b, False)
        a.set("k", "v")
        await until(lambda: b.get("k") == "v")


@run
async def test_a_stream_on_which_nothing_is_said_ends():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stream, "SILENCE", 0.2)
            async with Caller(b, "a") as caller:
                assert caller.status == 101
                assert await asyncio.wait_for(caller.reply(), 10) is None


@run
async def test_streams_leave_connections_for_requests():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.pause(b)
        callers = []
        for i in range(140):
            await b.sessions.handshake(hello(f"x{i}", 100 + i), b"")
            callers.append(await Caller(b, f"x{i}").__aenter__())
        assert ({c.status for c in callers[:120]} == {101} and {c.status for c in callers[130:]}
                == {503})
        a.pause(b, False)
        # in a request, where there is no room for a stream
        a.set("k", "v")
        await until(lambda: b.get("k") == "v")
        for c in callers:
            c.writer.close()
        # another conversation finds room again
        b.sessions.by_replica["a"].key += 1
        a.registry.peers[0].hurry()
        await until(lambda: a.registry.peers[0]._sender)


def test_a_peer_with_an_unknown_code_and_much_text_is_shown_and_tried_again():
    async def newer(request):
        nonlocal asked
        asked += 1
        text = "new\nreason\x1b[2J" + "x" * 100_000
        return web.Response(body=encode(proto.Refusal(code=99, text=text)), status=400,
                            content_type=CONTENT_TYPE)

    async def test():
        runner, url = await serving(newer)
        a = Node("a", retry_cap=0.01, retry=0.01)
        try:
            await a.start([])
            peer = a.call(url)
            await until(lambda: asked >= 3)
            assert peer.state == "refused" and peer.error.startswith("code 99: new reason [2Jxxx")
            assert len(peer.error) < TEXT_MOST + 20
        finally:
            await a.stop()
            await runner.cleanup()
    asked = 0
    asyncio.run(asyncio.wait_for(test(), 60))


@run
async def test_what_is_no_http_is_quoted_on_one_line():
    async def garbage(reader, writer):
        await reader.read(100)
        writer.write(b"HTTP/1.1 200 OK\r\nX:" + b"\x01y" * 20_000 + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as server:
        async with Network(1, retry=0.01, retry_cap=0.01) as (a,):
            peer = a.call(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await until(lambda: peer.counts.failures > 2)
            assert peer.error.isprintable() and 0 < len(peer.error) < TEXT_MOST + 20


@run
async def test_clocks_of_made_up_actors_are_passed_over():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        a.set("k", "v")
        peer = a.registry.peers[0]
        await until(lambda: peer.acked.get(a.replica.actor) == 1)
        for i in range(3):
            peer.has({made_up: 1 for made_up in range(i * ACTORS_MOST, (i + 1) * ACTORS_MOST)})
        assert len(peer.acked) <= ACTORS_MOST and peer.acked[a.replica.actor] == 1


def test_a_clock_has_no_more_entries_than_there_can_be_actors():
    most = {actor: 1 for actor in range(ACTORS_MOST)}
    assert to_clock(entries(most)) == most
    with pytest.raises(Refusal, match="65536 actors"):
        to_clock(entries(most | {ACTORS_MOST: 1}))

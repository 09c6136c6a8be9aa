"""Bodies on their way: large ops in parts, slow and broken links, peers that send without end or
never read. Real HTTP on loopback, at times through a proxy that is slow or cuts."""
import asyncio
import os
import random
import socket
from dataclasses import replace

import aiohttp
import aiohttp.abc
import pytest
from aiohttp import web

from crdtredis._core import ReceiveStatus
from crdtredis.replication import plan
from crdtredis.replication.flow import REPLIES, STEP, Budget, PartialOp, ProgressLimit
from crdtredis.replication.peer import Peer
from crdtredis.replication.wire import (BODY_MAX, CONTENT_TYPE, HEAD_MAX, OP_MOST, PART, Refusal,
                                        decode, encode, proto)
from tests.replication.network import Network, Node, converged, until
from tests.replication.test_peers import all_up, run


class Proxy:
    """Between two nodes: passes at most `rate` bytes a second on each connection, and cuts each
    after `most` bytes to the target."""

    def __init__(self, target: Node, rate: float = 1e12, most: float = 1e12):
        self.target, self.rate, self.most = target, rate, most
        self.passed, self.connections = 0, 0

    async def __aenter__(self) -> "Proxy":
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 16)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target.port,
                                                                   limit=1 << 16)
        back = asyncio.create_task(self._pass(other_reader, writer))
        try:
            left = self.most
            while data := await reader.read(min(1 << 14, int(min(left, 1 << 14)))):
                self.passed += len(data)
                left -= len(data)
                other_writer.write(data)
                await other_writer.drain()
                await asyncio.sleep(len(data) / self.rate)
                if left <= 0:
                    break
        except ConnectionError:
            # an end of either side is what this is made for
            pass
        finally:
            back.cancel()
            for w in (writer, other_writer):
                w.transport.abort()

    @staticmethod
    async def _pass(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


def alone(*nodes: Node) -> None:
    """From here on they call nobody."""
    for n in nodes:
        for p in n.registry.peers:
            n.tasks[p].cancel()
        n.registry.peers.clear()


def through(node: Node, proxy: Proxy) -> Peer:
    peer = node.call(proxy.url)
    return peer


def value(n: int) -> str:
    return random.Random(n).randbytes(n // 2).hex()


@run
async def test_a_large_op_is_pushed_in_parts():
    async with Network(3) as nodes:
        await all_up(*nodes)
        a, b, c = nodes
        a.set("before", "1")
        a.set("large", value(5 * PART))
        a.set("after", "1")
        await converged(nodes)
        assert b.get("large") == value(5 * PART) and b.get("after") == "1"
        assert a.peer(b).counts.pushes >= 6
        await until(lambda: a.peer(b).info().lag_ops == 0)
        assert max(map(len, b.engine.received)) < 5 * PART + 200
        assert all(s.traffic.parts.have == 0 for s in b.sessions.by_replica.values())


@run
async def test_a_large_op_is_pulled_in_parts():
    """c hears of it only from b, which it asks."""
    nodes = [Node(n) for n in "abc"]
    a, b, c = nodes
    try:
        for n in nodes:
            await n.start(nodes)
        a.connect(b), c.connect(b)
        a.set("large", value(5 * PART))
        a.set("after", "1")
        await until(lambda: c.get("after") == "1", 20)
        assert c.get("large") == value(5 * PART) and c.peer(b).counts.pulls >= 6
        assert c.peer(b)._parts.have == 0
    finally:
        for n in nodes:
            await n.stop()


@pytest.mark.parametrize("way", ["push", "pull"])
def test_after_a_broken_connection_a_large_op_goes_on_where_it_stopped(way):
    async def test():
        size = 20 * PART
        async with Network(2) as (a, b):
            alone(a, b)
            async with Proxy(b if way == "push" else a, most=3 * PART + 100_000) as proxy:
                if way == "pull":
                    # requests to pull are small: what comes back must be cut
                    proxy.most = 1e12

                    async def cut(reader, writer):
                        left = 3 * PART + 100_000
                        while left > 0 and (data := await reader.read(1 << 16)):
                            proxy.passed += len(data)
                            left -= len(data)
                            writer.write(data)
                            await writer.drain()
                        writer.transport.abort()
                    proxy._pass = cut
                peer = through(a if way == "push" else b, proxy)
                await until(lambda: peer.state == "up")
                a.set("large", value(size))
                await until(lambda: b.get("large") is not None, 30)
                assert b.get("large") == value(size)
                assert proxy.connections > 5
                # each cut may cost what was on its way, and what a receiver of half a part throws
                # away
                assert proxy.passed < size + proxy.connections * 1.5 * PART
    asyncio.run(asyncio.wait_for(test(), 60))


@run
async def test_an_op_may_take_longer_than_the_time_limit_as_long_as_it_moves():
    async with Network(2, timeout=1.0) as (a, b):
        alone(a, b)
        async with Proxy(b, rate=800_000) as proxy:
            peer = through(a, proxy)
            await until(lambda: peer.state == "up")
            a.set("large", value(PART - 1000))                  # one request, which takes 2.6 s
            await until(lambda: b.get("large") is not None, 20)


@run
async def test_each_step_that_moves_renews_the_time_limit():
    async with ProgressLimit(5.0) as limit:
        for moved in (limit.moved, limit.wrote):
            before = limit._limit.when()
            await asyncio.sleep(0.001)
            moved(STEP - 1)
            assert limit._limit.when() == before
            moved(1)
            assert limit._limit.when() > before


@run
async def test_a_link_that_stands_still_is_given_up():
    async with Network(2, timeout=0.4) as (a, b):
        alone(a, b)
        async with Proxy(b) as proxy:
            peer = through(a, proxy)
            await until(lambda: peer.state == "up")
            proxy.rate = 1.0
            a.set("large", value(5 * PART))
            await until(lambda: peer.counts.failures >= 1)
            assert "nothing moved for 0.4 s" in peer.error      # here, or as the other side says
            proxy.rate = 1e12
            await until(lambda: b.get("large") is not None, 20)


@run
async def test_a_peer_that_uploads_slowly_keeps_nobody_else_waiting():
    async with Network(3, timeout=60.0) as (a, b, c):
        await all_up(a, b, c)
        budget = b.sessions.by_replica["a"].traffic.inbound
        writers = []
        # requests in a's name, more than its budget, that never end
        for _ in range(20):
            writers.append((await asyncio.open_connection("127.0.0.1", b.port))[1])
            writers[-1].write("POST /replication/push HTTP/1.1\r\nHost: x\r\nX-Replica: "
                              f"a\r\nContent-Type: {CONTENT_TYPE}\r\n"
                              f"Content-Length: {b.runtime.settings.inbound // 4}\r\n\r\n"
                              "xx".encode())
        await until(lambda: budget.used >= budget.most)
        for i in range(20):
            c.set(f"k{i}", "v")
            await until(lambda: b.get(f"k{i}") == "v")
        assert budget.used >= budget.most
        for w in writers:
            w.close()


@run
async def test_replies_that_nobody_reads_are_few_and_given_up():
    async with Network(2, timeout=1.0) as (a, b):
        await all_up(a, b)
        for i in range(40):
            a.set(f"k{i}", value(400_000))
        await converged([a, b])
        key = a.sessions.by_replica["b"].key
        body = encode(proto.Pull(session=key, clock=[], limit=1 << 20))
        sockets, loop = [], asyncio.get_running_loop()
        for _ in range(30):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.setblocking(False)
            sockets.append(s)
            await loop.sock_connect(s, ("127.0.0.1", a.port))
        await until(lambda: len(a.runner.server.connections) >= 30)
        # else the system would take in a whole reply
        for connection in a.runner.server.connections:
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET,
                                                                     socket.SO_SNDBUF, 4096)
        for s in sockets:
            await loop.sock_sendall(
                s, "POST /replication/pull HTTP/1.1\r\nHost: x\r\nX-Replica: b\r\nContent-Type: "
                   f"{CONTENT_TYPE}\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        replies = a.sessions.by_replica["b"].traffic.replies

        def held():
            return sum(c.transport.get_write_buffer_size() for c in a.runner.server.connections)
        await until(lambda: replies.locked() and held() > REPLIES * 1000)
        # a few steps each, not a reply each
        assert held() < REPLIES * 4 * STEP
        await until(lambda: not replies.locked(), 20)
        for s in sockets:
            s.close()
        a.set("last", "1")
        await until(lambda: b.get("last") == "1")


async def serving(handler) -> tuple[web.AppRunner, str]:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/replication/{what}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("declared", [True, False])
def test_a_reply_without_end_is_not_read_to_its_end(declared):
    sent = 0

    async def endless(request):
        nonlocal sent
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        if declared:
            response.content_length = 1 << 40
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 20))
                sent += 1 << 20
        except ConnectionError:
            pass                                                # which the test waits for
        return response

    async def test():
        runner, url = await serving(endless)
        a = Node("a", retry_cap=60.0, retry=60.0)
        try:
            await a.start([])
            peer = a.call(url)
            await until(lambda: peer.state == "refused")
            assert "too large" in peer.error and sent < BODY_MAX + (64 << 20)
        finally:
            await a.stop()
            await runner.cleanup()
    asyncio.run(asyncio.wait_for(test(), 60))


@run
async def test_bodies_that_are_or_unfold_too_large_are_refused():
    async with Network(2) as (a, b):
        await all_up(a, b)
        # a refused body is not read to its end
        good = {"Content-Type": CONTENT_TYPE, "X-Replica": "a", "Connection": "close"}
        session = b.sessions.by_replica["a"].key
        part = proto.Part(actor=1, seq=1, size=OP_MOST + 1)
        for path, body, headers, code in (
                ("pull", bytes(HEAD_MAX + 5), good, proto.TOO_LARGE),
                ("push", bytes(BODY_MAX + 1), good, proto.TOO_LARGE),
                ("push", bytes(100), {**good, "Content-Encoding": "deflate"}, proto.MALFORMED),
                ("push", encode(proto.Push(session=session, part=part), b"x"), good,
                 proto.TOO_LARGE),
                ("push", encode(proto.Push(session=session, part=proto.Part(
                    actor=1, seq=1, size=3)),
                                b"1234"), good, proto.MALFORMED),
                ("push", encode(proto.Push(session=session,
                                          part=proto.Part(actor=1, seq=1, size=3, at=2**64 - 1)),
                                          b"1"), good, proto.MALFORMED)):
            async with a.runtime.http.post(f"{b.url}/replication/{path}", data=body,
                                       headers=headers) as r:
                refusal, _ = decode(proto.Refusal, await r.read())
                assert refusal.code == code, (path, refusal)

        async def chunks():
            yield b"x"
        async with a.runtime.http.post(f"{b.url}/replication/push", data=chunks(),
                                       headers=good) as r:
            refusal, _ = decode(proto.Refusal, await r.read())
            assert refusal.code == proto.MALFORMED and "Content-Length" in refusal.text


@run
async def test_a_refused_large_op_stays_whole_at_the_receiver_until_it_can_be_taken():
    async with Network(2) as (a, b):
        await all_up(a, b)
        receive, refusals = b.engine.receive, 0

        def busy(token, batch):
            nonlocal refusals
            if len(batch) > PART and refusals < 3:
                refusals += 1
                b.engine.results.append((token, ReceiveStatus.FULL))
                os.eventfd_write(b.engine.fd, 1)
            else:
                receive(token, batch)
        b.engine.receive = busy
        a.set("large", value(6 * PART))
        await until(lambda: b.get("large") is not None, 20)
        assert refusals == 3 and a.peer(b).counts.bytes_sent < 7 * PART


def test_parts_hold_what_has_come_and_nothing_that_was_only_announced():
    parts, whole = PartialOp(), bytes(range(256)) * 10
    part = lambda at, size=len(whole): proto.Part(actor=1, seq=2, size=size, at=at)   # noqa: E731
    assert parts.add(part(0), whole[:1000]) is None and parts.have == parts.held(part(5)) == 1000
    # does not continue
    assert parts.add(part(900), whole[900:1500]) is None and parts.have == 1000
    assert parts.add(part(1000, size=OP_MOST), b"x") is None and parts.have == 1000   # another op
    assert parts.held(part(0, size=OP_MOST)) == 0
    assert (parts.add(part(1000), whole[1000:]) == whole
            and parts.add(part(len(whole) - 1), whole[-1:]) == whole)
    assert parts.add(part(0), b"x") is None and parts.next() == part(1)
    parts.clear()
    assert parts.next() is None
    for bad in (part(len(whole)), part(0, size=0), part(2**64 - 1)):
        with pytest.raises(Refusal):
            parts.add(bad, b"x")
    with pytest.raises(Refusal):
        parts.add(part(0), b"")


def test_a_budget_serves_in_order_and_survives_who_gives_up():
    async def test():
        budget, order = Budget(10), []

        async def use(n, name):
            await budget.acquire(n)
            order.append(name)
        await budget.acquire(8)
        waiting = [asyncio.create_task(use(n, n)) for n in (5, 1, 100)]
        gone = asyncio.create_task(use(3, "gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert order == [] and budget.used == 8                 # the small one does not overtake
        budget.release(8)
        await asyncio.gather(*waiting[:2])
        assert order == [5, 1] and budget.used == 6
        budget.release(6)
        await waiting[2]
        assert budget.used == 100                               # larger than all of it: alone
        late = asyncio.create_task(use(1, "late"))
        await asyncio.sleep(0)
        budget.release(100)
        late.cancel()                                           # when it had been given already
        await asyncio.gather(late, return_exceptions=True)
        assert budget.used == 0 and not budget._waiting
    asyncio.run(test())


class Everywhere(aiohttp.abc.AbstractResolver):
    """Every host name is this machine's."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET,
                 "proto": 0, "flags": 0}]

    async def close(self):
        pass


@run
async def test_the_token_crosses_no_network_unencrypted_unless_that_is_allowed():
    shown = []

    async def record(request):
        shown.append(request.headers.get("Authorization"))
        return web.Response(status=503)
    runner, url = await serving(record)
    a = Node("a", token="secret", retry=60.0, retry_cap=60.0)
    try:
        await a.start([])
        await a.runtime.http.close()
        a.runtime.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=Everywhere()))
        peer = a.call(url.replace("127.0.0.1", "peer.example"))
        await until(lambda: peer.state == "refused")
        assert ("allow_plain_peers" in peer.error and "https://peer.example" in peer.error
                and not shown)
        a.runtime.settings = replace(a.runtime.settings, allow_plain=True)
        peer.refresh()
        await until(lambda: shown == ["Bearer secret"])
    finally:
        await a.stop()
        await runner.cleanup()


def test_where_the_token_may_go():
    with_token = plan.Settings(token="secret")
    for url in ("https://peer:1", "http://localhost:1", "http://127.0.0.1:1", "http://127.9.9.9:1",
                "http://[::1]:1", "http://LOCALHOST:1"):
        assert plan.exposed(url, with_token) == "", url
    for url in ("http://peer:1", "http://10.0.0.1:1", "http://[fe80::1]:1",
                "http://127.0.0.1.example:1", "http://localhost.example:1"):
        assert plan.exposed(url, with_token), url
        assert (plan.exposed(url, plan.Settings())
                == plan.exposed(url, replace(with_token, allow_plain=True)) == "")

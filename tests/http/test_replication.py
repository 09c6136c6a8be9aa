"""The replication routes as bytes of HTTP: which requests are refused, with which status and
code."""
import asyncio
import contextlib
import re

import aiohttp
import pytest
from aiohttp import web

from crdtredis.http import replication
from crdtredis.replication import receiving
from crdtredis.replication.stream import UPGRADE
from crdtredis.replication.wire import (BODY_MAX, CONTENT_TYPE, HEAD_MAX, Refusal, decode, encode,
                                        proto)
from tests.replication.network import Network
from tests.replication.test_peers import all_up, run

OURS = {"Content-Type": CONTENT_TYPE, "X-Replica": "a"}


async def spoken(node, head: str, body: bytes = b"") -> bytes:
    """What comes back for a request written by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
    async with asyncio.timeout(20):
        found = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"(?i)content-length: (\d+)", found)[1])
        found += await reader.readexactly(length)
    writer.close()
    return found


async def ask(node, path: str, body: bytes, headers: dict) -> tuple[int, proto.Refusal]:
    async with aiohttp.ClientSession() as client:
        url = f"{node.url}/replication/{path}"
        async with client.post(url, data=body, headers=headers,
                               skip_auto_headers=["Content-Type"]) as r:
            return r.status, decode(proto.Refusal, await r.read())[0]


@run
async def test_every_refusal_has_its_status():
    codes = {c.number for c in proto.Code.DESCRIPTOR.values} - {proto.UNKNOWN}
    assert codes <= set(replication.STATUS)
    assert all(400 <= status < 600 for status in replication.STATUS.values())


@run
async def test_only_bodies_of_our_type_are_read_and_only_as_they_are():
    """No web page can send the type without being asked first, and a small body must not unfold
    into a large one."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        push = encode(proto.Push(session=b.sessions.by_replica["a"].key))
        for headers in ({"X-Replica": "a"}, OURS | {"Content-Type": "text/plain"},
                        OURS | {"Content-Encoding": "gzip"}):
            for path in ("handshake", "push", "pull"):
                status, refusal = await ask(b, path, push, headers)
                assert (status, refusal.code) == (400, proto.MALFORMED)
                assert CONTENT_TYPE in refusal.text
        assert not b.engine.received


@run
async def test_a_body_says_how_long_it_is():
    async with Network(2) as (a, b):
        await all_up(a, b)
        head = ("POST /replication/push HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n"
                f"Content-Type: {CONTENT_TYPE}\nX-Replica: a\nTransfer-Encoding: chunked\n")
        found = await spoken(b, head, b"0\r\n\r\n")
        assert found.startswith(b"HTTP/1.1 400 ") and b"expected a Content-Length" in found


@run
async def test_what_is_too_long_is_refused_before_it_comes():
    async with Network(2) as (a, b):
        await all_up(a, b)
        for path, most in (("handshake", BODY_MAX), ("push", BODY_MAX), ("pull", HEAD_MAX + 4),
                           ("sync", replication.SYNC_MOST)):
            head = (f"POST /replication/{path} HTTP/1.1\nHost: 127.0.0.1\nConnection: close\n"
                    f"Content-Type: {CONTENT_TYPE}\nX-Replica: a\nContent-Length: {most + 1}\n")
            found = await spoken(b, head)
            assert found.startswith(b"HTTP/1.1 413 ") and f"more than {most}".encode() in found


@run
async def test_a_session_that_is_not_there_is_named_so():
    async with Network(2) as (a, b):
        await all_up(a, b)
        for path, message in (("push", proto.Push(session=1)), ("pull", proto.Pull(session=1)),
                              ("sync", proto.Sync(session=1))):
            status, refusal = await ask(b, path, encode(message), OURS)
            assert (status, refusal.code) == (409, proto.NO_SESSION)


@run
async def test_full_syncs_that_cannot_be():
    """Of a peer that shook hands: a wrong bitmap, one that never began, another's, and a replica
    that gives none."""
    async with Network(2) as (a, b):
        await all_up(a, b)
        key = b.sessions.by_replica["a"].key
        for message, status, code in (
                (proto.Sync(buckets=bytes(511)), 400, proto.MALFORMED),
                (proto.Sync(sync=7), 409, proto.NO_SYNC),
                (proto.Sync(sync=7, over=True), 409, proto.NO_SYNC),
                (proto.Sync(), 500, proto.UNKNOWN)):
            message.session = key
            found, refusal = await ask(b, "sync", encode(message), OURS)
            assert (found, refusal.code) == (status, code), message


def test_a_peer_of_a_version_without_full_syncs_is_told_as_such(monkeypatch):
    async def missing(*_):
        raise web.HTTPNotFound

    async def body():
        async with Network(2) as (a, b):
            await all_up(a, b)
            with pytest.raises(Refusal, match="b runs a version without full sync: upgrade it"):
                await receiving.ask(a.runtime, a.registry.peers[0], proto.Sync(), missing)

    monkeypatch.setattr(replication.Replication, "sync", missing)
    asyncio.run(asyncio.wait_for(body(), 60))


@pytest.mark.parametrize("upgrade, session, status", [("websocket", "1", 400), ("", "1", 400),
                                                      (UPGRADE, "1", 409), (UPGRADE, "x", 409)])
def test_a_stream_wants_its_upgrade_and_a_session(upgrade, session, status):
    async def body():
        async with Network(2) as (a, b):
            await all_up(a, b)
            found = await spoken(b, "GET /replication/stream HTTP/1.1\nHost: 127.0.0.1\n"
                                    f"Upgrade: {upgrade}\nX-Replica: a\nX-Session: {session}\n"
                                    "Connection: close\n")
            assert found.startswith(f"HTTP/1.1 {status} ".encode())
    asyncio.run(asyncio.wait_for(body(), 60))


def test_a_caller_that_hangs_up_before_its_stream_begins_is_no_error(monkeypatch, caplog):
    prepare = web.StreamResponse.prepare

    async def after_it_hung_up(response, request):
        request.transport.abort()
        return await prepare(response, request)

    async def body():
        async with Network(2) as (a, b):
            await all_up(a, b)
            session = b.sessions.by_replica["a"].key
            monkeypatch.setattr(web.StreamResponse, "prepare", after_it_hung_up)
            reader, writer = await asyncio.open_connection("127.0.0.1", b.port)
            writer.write("GET /replication/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                         f"Upgrade: {UPGRADE}\r\nX-Replica: a\r\n"
                         f"X-Session: {session:x}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):          # the end, or a reset
                assert await reader.read() == b""
            writer.close()
            monkeypatch.undo()
    asyncio.run(asyncio.wait_for(body(), 60))
    assert not [r for r in caplog.records if r.levelname == "ERROR"]

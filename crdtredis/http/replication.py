"""The replication routes: bodies in, bodies out. What is accepted and why is decided in
replication/sessions.py.

A body's length must be declared and allowed, and there must be room for it in the budget of what
its sender has under way here, before it is read: a sender that is faster than the engine waits, in
its own connections and without keeping others waiting. Reading and writing go on as long as
something moves (flow.ProgressLimit); replies with ops are a few per peer at a time, so that nobody
who asks and does not read fills this process with replies. The media type is insisted on, so that
no web page can make a browser send such a request without asking first, and encodings are refused,
since a small body must not unfold into a large one.
"""
from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from aiohttp import web

from crdtredis.replication import keeping
from crdtredis.replication.flow import STEP, ProgressLimit, read
from crdtredis.replication.giving import SYNC_MOST
from crdtredis.replication.lending import Way
from crdtredis.replication.messages import HEADER
from crdtredis.replication.stream import UPGRADE, PushReceiver
from crdtredis.replication.wire import (BODY_MAX, CONTENT_TYPE, HEAD_MAX, Refusal, decode, encode,
                                        refusal_body, proto)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from crdtredis.replication.giving import Given
    from crdtredis.replication.receiving import Receiver
    from crdtredis.replication.sessions import InboundSession, InboundSessions

# The status beside the code: a proxy or a log reader should see roughly what is the matter.
STATUS = {
    proto.MALFORMED: 400, proto.UNAUTHORIZED: 401, proto.WRONG_CLUSTER: 403,
    proto.WRONG_VERSION: 403, proto.SAME_REPLICA: 409, proto.CLOCK_SKEW: 409,
    proto.NO_SESSION: 409, proto.PAUSED: 503, proto.BUSY: 503, proto.TOO_LARGE: 413,
    proto.NEEDS_FULL_SYNC: 409, proto.STOPPING: 503, proto.REMOVED: 403, proto.NO_SYNC: 409,
}


def refused(refusal: Refusal) -> web.Response:
    return web.Response(status=STATUS.get(refusal.code, 500), body=refusal_body(refusal),
                        content_type=CONTENT_TYPE)


class Replication:
    def __init__(self, sessions: InboundSessions, receiver: Receiver, streams: int) -> None:
        """streams: at a time. The connections beyond them are for requests, which every peer
        needs."""
        self.sessions, self.receiver = sessions, receiver
        self._streams, self._most_streams = 0, streams

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/replication/handshake", self.handshake),
                web.post("/replication/push", self.push),
                web.post("/replication/pull", self.pull),
                web.post("/replication/sync", self.sync),
                web.post("/replication/keep", self.keep),
                web.post("/replication/claim", self.claim),
                web.get("/replication/stream", self.stream),
                web.get("/replication/lend", self.lend)]

    async def handshake(self, request: web.Request) -> web.StreamResponse:
        return await self.reply(request, proto.Hello, lambda hello,
                                 batch: self.sessions.handshake(hello, batch), BODY_MAX)

    async def push(self, request: web.Request) -> web.StreamResponse:
        async def work(head: proto.Push, batch: bytes) -> tuple[proto.Reply, bytes]:
            return await self.sessions.push(request.headers.get("X-Replica", ""), head, batch), b""

        return await self.reply(request, proto.Push, work, BODY_MAX)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Pushes from here on come as frames (replication/stream.py)."""
        messages = self.sessions.runtime.messages if HEADER in request.headers else None
        return await self.upgrade(request, lambda session: PushReceiver(
            self.sessions, session, request.transport, messages,
            self.sessions.runtime.consumers))

    async def lend(self, request: web.Request) -> web.StreamResponse:
        """The caller serves full syncs on this connection (replication/lending.py)."""
        return await self.upgrade(request, lambda session: Way(
            self.sessions, session, self.receiver, request.transport))

    async def upgrade(self, request: web.Request,
                      begin: Callable[[InboundSession], PushReceiver | Way]
                      ) -> web.StreamResponse:
        """The connection is what `begin` makes of it, until that has ended."""
        try:
            if request.headers.get("Upgrade", "").lower() != UPGRADE:
                raise Refusal(proto.MALFORMED, f"expected Upgrade: {UPGRADE}")
            key = request.headers.get("X-Session", "")
            if self._streams >= self._most_streams:
                raise Refusal(proto.BUSY, "there are as many streams as are served at a time")
            session = self.sessions.session(request.headers.get("X-Replica", ""),
                                       int(key, 16) if re.fullmatch("[0-9a-f]{1,16}", key) else 0)
        except Refusal as e:
            return refused(e)
        response = web.StreamResponse(status=101,
                                      headers={"Connection": "Upgrade", "Upgrade": UPGRADE})
        self._streams += 1
        try:
            await response.prepare(request)
            await begin(session).ended
        except ConnectionError:
            # the caller has hung up before it had its 101: nobody is there to be told
            pass
        finally:
            self._streams -= 1
        return response

    async def pull(self, request: web.Request) -> web.StreamResponse:
        replica = request.headers.get("X-Replica", "")
        replies = self.sessions.traffic(replica).replies
        try:
            async with asyncio.timeout(self.sessions.runtime.settings.timeout):
                await replies.acquire()
        except TimeoutError:
            return refused(Refusal(proto.BUSY, "replies to earlier requests of this replica have "
                                               "not been read"))
        try:
            return await self.reply(request, proto.Pull, lambda head,
                                     _: self.sessions.pull(replica, head), HEAD_MAX + 4)
        finally:
            replies.release()

    async def keep(self, request: web.Request) -> web.StreamResponse:
        """What a replica that stops leaves here (replication/keeping.py)."""
        replica = request.headers.get("X-Replica", "")

        async def work(head: proto.Keep, _: bytes) -> tuple[proto.Kept, bytes]:
            self.sessions.session(replica, head.session)
            self.sessions.keeper.keep(replica, head)
            return proto.Kept(), b""

        return await self.reply(request, proto.Keep, work, HEAD_MAX + 4)

    async def claim(self, request: web.Request) -> web.StreamResponse:
        async def work(head: proto.Claim, _: bytes) -> tuple[proto.Kept, bytes]:
            seen = self.sessions.keeper.claim(request.headers.get("X-Replica", ""), head.secret)
            return proto.Kept(testimony=seen and keeping.as_testimony(seen)), b""

        return await self.reply(request, proto.Claim, work, HEAD_MAX + 4)

    async def sync(self, request: web.Request) -> web.StreamResponse:
        """A part of a full sync: the reply is as long as it takes (replication/giving.py)."""
        replica, giver = request.headers.get("X-Replica", ""), self.sessions.giver

        async def work(head: proto.Sync, _: bytes) -> tuple[Given, proto.Sync]:
            session = self.sessions.session(replica, head.session)
            return await giver.open(replica, session.process, head), head

        return await self.reply(request, proto.Sync, work, SYNC_MOST, self.give)

    async def give(self, request: web.Request, given: Given,
                   head: proto.Sync) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = CONTENT_TYPE

        async def send(head: proto.Given, data: bytes) -> None:
            """Returns when there is room for more."""
            body = encode(head, data)
            async with ProgressLimit(self.sessions.runtime.settings.timeout) as patience:
                await response.write(len(body).to_bytes(4, "little"))
                for at in range(0, len(body), STEP):
                    await response.write(memoryview(body)[at:at + STEP])
                    patience.wrote(STEP)

        async def stream() -> None:
            try:
                await self.sessions.giver.serve(given, head, send)
            except Refusal as e:
                await send(proto.Given(step=proto.REFUSED,
                                       refusal=proto.Refusal(code=e.code, text=e.text)), b"")
            await response.write_eof()

        return await self.stream_out(request, response, stream)

    async def reply(self, request: web.Request, kind, work, most: int,
                    respond=None) -> web.StreamResponse:
        """most: bytes that a body of this kind can have. respond: sends what `work` gave."""
        budget, size = self.sessions.traffic(request.headers.get("X-Replica",
                                                       "")).inbound, request.content_length
        try:
            if request.content_type != CONTENT_TYPE or "Content-Encoding" in request.headers:
                raise Refusal(proto.MALFORMED,
                              f"expected a body of type {CONTENT_TYPE}, not encoded")
            if size is None:
                raise Refusal(proto.MALFORMED, "expected a Content-Length")
            if size > most:
                raise Refusal(proto.TOO_LARGE, f"a body of {size} bytes is more than {most}")
            await budget.acquire(size)
            try:
                async with ProgressLimit(self.sessions.runtime.settings.timeout) as patience:
                    body = await read(request.content, size, size, patience)
                head, batch = decode(kind, body)
                del body
                found = await work(head, batch)
                del batch
            finally:
                budget.release(size)
        except Refusal as e:
            return refused(e)
        except TimeoutError as e:
            return refused(Refusal(proto.UNKNOWN, f"the body did not come: {e}"))
        except ConnectionError:
            # it broke off while it was sending: nobody reads this
            return refused(Refusal(proto.UNKNOWN, "the body ended early"))
        return await (respond or self.send)(request, *found)

    async def send(self, request: web.Request, out: Message, ops: bytes) -> web.StreamResponse:
        body = encode(out, ops)
        if len(body) <= STEP:
            return web.Response(body=body, content_type=CONTENT_TYPE)
        response = web.StreamResponse()
        response.content_type, response.content_length = CONTENT_TYPE, len(body)

        async def stream() -> None:
            async with ProgressLimit(self.sessions.runtime.settings.timeout) as patience:
                for at in range(0, len(body), STEP):
                    await response.write(memoryview(body)[at:at + STEP])
                    patience.wrote(STEP)
                await response.write_eof()

        return await self.stream_out(request, response, stream)

    @staticmethod
    async def stream_out(request: web.Request, response: web.StreamResponse,
                         stream: Callable[[], Awaitable[None]]) -> web.StreamResponse:
        """A reply that is written step by step."""
        try:
            await response.prepare(request)
            await stream()
        except TimeoutError:
            if request.transport:
                # and what the socket would not take goes with it
                request.transport.abort()
        except ConnectionError:
            # who asked has gone: aiohttp sees that too
            pass
        return response

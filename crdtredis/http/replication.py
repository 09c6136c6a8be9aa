"""The replication routes: bodies in, bodies out. What is accepted and why is decided in replication/hub.py.

Before a body is read its length must be known and allowed, and there must be room for it in the budget of bytes received and not yet
applied: a sender that is faster than the engine waits here, in its own connection. Reading is under a time limit. The media type is
insisted on, so that no web page can make a browser send such a request without asking first.
"""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from crdtredis.replication.wire import BODY_MAX, CONTENT_TYPE, Refusal, decode, encode, failure, wire

if TYPE_CHECKING:
    from crdtredis.replication.front import Front

# The status beside the code: a proxy or a log reader should see roughly what is the matter.
STATUS = {
    wire.MALFORMED: 400, wire.UNAUTHORIZED: 401, wire.WRONG_CLUSTER: 403, wire.WRONG_VERSION: 403, wire.SAME_REPLICA: 409, wire.CLOCK_SKEW: 409,
    wire.NO_SESSION: 409, wire.PAUSED: 503, wire.BUSY: 503, wire.TOO_LARGE: 413, wire.NEEDS_FULL_SYNC: 409, wire.STOPPING: 503,
}


def refused(refusal: Refusal) -> web.Response:
    return web.Response(status=STATUS.get(refusal.code, 500), body=failure(refusal), content_type=CONTENT_TYPE)


class Replication:
    def __init__(self, front: Front) -> None:
        self.hub = front.hub

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/replication/handshake", self.handshake), web.post("/replication/push", self.push),
                web.post("/replication/pull", self.pull)]

    async def handshake(self, request: web.Request) -> web.Response:
        return await self.answer(request, wire.Hello, lambda hello, batch: self.hub.handshake(hello, batch))

    async def push(self, request: web.Request) -> web.Response:
        async def work(head: wire.Push, batch: bytes) -> tuple[wire.Answer, bytes]:
            return await self.hub.push(request.headers.get("X-Replica", ""), head, batch), b""

        return await self.answer(request, wire.Push, work)

    async def pull(self, request: web.Request) -> web.Response:
        return await self.answer(request, wire.Pull, lambda head, _: self.hub.pull(request.headers.get("X-Replica", ""), head))

    async def answer(self, request: web.Request, kind, work) -> web.Response:
        hub, size = self.hub, request.content_length
        try:
            if request.content_type != CONTENT_TYPE:
                raise Refusal(wire.MALFORMED, f"expected a body of type {CONTENT_TYPE}")
            if size is None:
                raise Refusal(wire.MALFORMED, "expected a Content-Length")
            if size > BODY_MAX:
                raise Refusal(wire.TOO_LARGE, f"a body of {size} bytes is more than {BODY_MAX}")
            await hub.budget.acquire(size)
            try:
                async with asyncio.timeout(hub.settings.timeout):
                    body = await request.read()
                head, batch = decode(kind, body)
                del body
                out, ops = await work(head, batch)
            finally:
                await hub.budget.release(size)
        except Refusal as e:
            hub.refused += 1
            return refused(e)
        return web.Response(body=encode(out, ops), content_type=CONTENT_TYPE)

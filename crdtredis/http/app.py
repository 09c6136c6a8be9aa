"""The aiohttp application: who may ask, what an error looks like, and which routes there are.

With an `auth_token`, every route but GET /health wants it as bearer token, /metrics too (Prometheus sends one when told to): numbers
about keys and peers are nobody's business who was not let in. /health stays open because load balancers and orchestrators seldom
carry secrets, and says no more than which part is failing.

No answer holds a traceback or a path: what a handler did not foresee is logged, and the client gets "internal error". Errors are JSON; on
the replication routes they are the Failure of the protocol, like every other refusal there, whoever finds them.
"""
from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from crdtredis.http.replication import Replication, refused
from crdtredis.replication.wire import BODY_MAX, Refusal, wire

if TYPE_CHECKING:
    from crdtredis.replication.front import Front
    from crdtredis.server import Server

log = logging.getLogger("crdtredis.http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN = {"/health"}
PEERS = "/replication/"                 # what lies below is for peers


def error(request: web.Request, status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """In the language of who asks."""
    if not request.path.startswith(PEERS):
        return web.json_response({"error": text}, status=status, headers=headers)
    code = wire.TOO_LARGE if status == 413 else wire.MALFORMED if 400 <= status < 500 and status != 408 else wire.UNKNOWN
    response = refused(Refusal(code, text))
    response.set_status(status)
    response.headers.update(headers or {})
    return response


def application(front: Front, server: Server | None = None) -> web.Application:
    """The routes for peers, and with a server those for operators too."""
    token = front.hub.settings.token.encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and request.path not in OPEN:
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, b"Bearer " + token):
                if request.path.startswith(PEERS):
                    return refused(Refusal(wire.UNAUTHORIZED, "the auth_token is missing or another one than this replica's"))
                return web.json_response({"error": "unauthorized"}, status=401, headers={"WWW-Authenticate": "Bearer"})
        try:
            return await handler(request)
        except web.HTTPException as e:
            if e.status < 400:
                raise
            return error(request, e.status, e.reason.lower(), {k: v for k, v in e.headers.items() if k == "Allow"})
        except TimeoutError:
            return error(request, 408, "timeout")
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return error(request, 500, "internal error")

    app = web.Application(middlewares=[guard], client_max_size=BODY_MAX)
    app.add_routes(Replication(front).routes())
    if server is not None:
        from crdtredis.http.operators import Operators

        app.add_routes(Operators(server, front).routes())
    return app

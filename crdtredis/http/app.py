"""The aiohttp application: who may ask, what an error looks like, and which routes there are.

With an `auth_token`, every route but GET /health wants it as bearer token, /metrics too (Prometheus
sends one when told to): numbers about keys and peers are nobody's business who was not let in.
Tokens of fewer rights stand beside it: `operator_token` opens all but replication, and auth_token
that alone then; `metrics_token` opens what monitoring reads.
/health stays open because load balancers and orchestrators seldom carry secrets, and says no more
than which part is failing; so does the page at /, which holds no data, because a browser cannot
show a token before there is a page to ask for it.

**Web pages.** A browser on this machine, or on one that can reach it, runs the scripts of any page;
none of them has business here.

- *A page that calls our address* (cross-origin) cannot read the replies, since none has a CORS
  header, but what it sends arrives, and costs. So nothing but / and /health replies to it; and
  whatever changes something or replicates is refused when it has an Origin or a Sec-Fetch-Site
  header at all: browsers put Origin on every such request and let no
  script leave it out; replicas, curl and libraries send neither. PATCH and the media type of
  replication are also such that a browser asks first (OPTIONS), and it gets no permission.
- *A page whose own host name points to our address* (DNS rebinding) is one origin with us for the
  browser: it reads replies, chooses the media type, and over plain http there is no Sec-Fetch-Site.
  But Host names its domain, and its POST still has an Origin. So without an `auth_token`
  operators' routes take only a Host that is an IP address (then the page came from that very
  address), localhost, or a name in http_bind or bind. With a token any name will do: the page does
  not know the token. Replication routes take any Host, because replicas on a private network call
  each other by whatever names they have. /health replies to any name, as load balancers need, but
  gives its reasons only where the others would reply, or to a caller on this machine (`crdt-redis
  healthcheck` shows no token) that no proxy speaks for.

No reply holds a traceback or a path: what a handler did not foresee is logged, and the client gets
"internal error". Errors are JSON; on the replication routes they are the Refusal of the protocol,
like every other refusal there, whoever finds them.
"""
from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp import web

from crdtredis import audit
from crdtredis.http.operated import Operated
from crdtredis.http.replication import Replication, refused
from crdtredis.http.serving import log_refused
from crdtredis.replication.wire import BODY_MAX, Refusal, proto

if TYPE_CHECKING:
    from crdtredis.replication.service import Service

log = logging.getLogger("crdtredis.http")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN = {"/health", "/"}                  # the page itself holds no data
AVAILABILITY = "/v1/"
MONITORING = ("/metrics", "/stats", AVAILABILITY)       # paths begin so
PEERS = "/replication/"                 # what lies below is for peers
SAFE = {"GET", "HEAD"}
FROM_PAGES = ("Origin", "Sec-Fetch-Site")
FROM_PROXIES = ("forwarded", "via", "x-real-ip", "x-forwarded-", "x-envoy-")  # names begin so
OURS = ("same-origin", "none")          # of our own page, or typed


def error(request: web.Request, status: int, text: str,
          headers: dict[str, str] | None = None) -> web.Response:
    """In the language of who asks."""
    if not request.path.startswith(PEERS):
        return web.json_response({"error": text}, status=status, headers=headers)
    code = {401: proto.UNAUTHORIZED, 403: proto.UNAUTHORIZED, 408: proto.UNKNOWN,
        413: proto.TOO_LARGE}.get(
        status, proto.MALFORMED if 400 <= status < 500 else proto.UNKNOWN)
    response = refused(Refusal(code, text))
    response.set_status(status)
    response.headers.update(headers or {})
    return response


def token_of(request: web.Request) -> bytes:
    """What a request shows: a bearer token or, where clients of Redis Enterprise ask, who know no
    other way, a password."""
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    kind = kind.lower()
    if kind == "basic" and request.path.startswith(AVAILABILITY):
        try:
            return base64.b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return given.encode("utf-8", "surrogateescape") if kind == "bearer" else b""


def audit_request(request: web.Request, status: int | None = None) -> None:
    audit.request(request.remote or "?", request.method, request.path_qs, status,
                  " ".join(request.get("changes", ())))


def unwanted(server: Operated, request: web.BaseRequest) -> str:
    """Why its caller may not replicate, by the certificate it has shown; "": it may, or does not
    want to."""
    if not request.path.startswith(PEERS) or request.transport is None:
        return ""
    return server.refuses_peer(request.transport.get_extra_info("ssl_object"))


def is_our_name(request: web.Request, names: set[str]) -> bool:
    """Whether Host, which HTTP/1.0 may lack, names no domain, or one of `names`."""
    for host in request.headers.getall("Host", ()):
        name = re.sub(r":[0-9]*$", "", host).lower().removesuffix(".")
        if name != "localhost" and not name.endswith(".localhost") and name not in names:
            try:
                ip_address(name.removeprefix("[").removesuffix("]"))
            except ValueError:
                return False
    return True


def is_from_here(request: web.Request) -> bool:
    """Whether who asks is on this machine: at the address that it asks, or at a loopback one."""
    at = request.transport and request.transport.get_extra_info("sockname")
    remote = request.remote or ""
    return (bool(at) and (remote == at[0] or remote == "::1" or remote.startswith("127."))
            and not any(h.lower().startswith(FROM_PROXIES) for h in request.headers))


def is_from_elsewhere(request: web.Request) -> bool:
    """Whether a browser says that another page than ours made it ask."""
    return "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in OURS


def tokens(peer: str, operator: str | None,
           monitor: str | None) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """What opens replication, operators' routes and what monitoring reads; empty: it stands open,
    to requests by our own names."""
    operators = {t.encode() for t in (operator or peer,) if t}
    return ({peer.encode()} if peer else set(), operators,
            operators | ({monitor.encode()} if monitor else set()))


def application(service: Service, server: Operated | None = None) -> web.Application:
    """The routes for peers, and with a server those for operators too."""
    names = ({name.removeprefix("-").lower() for name in server.config.http_addresses}
             if server is not None else set())
    peers, operators, monitors = tokens(service.runtime.settings.token,
                                        server and server.config.operator_token,
                                        server and server.config.metrics_token)

    def shows(request: web.Request, allowed: set[bytes]) -> bool:
        given = token_of(request)
        return any([hmac.compare_digest(given, token) for token in allowed])

    def is_trusted(request: web.Request) -> bool:
        return shows(request, monitors) or (is_our_name(request, names)
                                            and (not monitors or is_from_here(request)))

    @web.middleware
    async def audited(request: web.Request, handler: Handler) -> web.StreamResponse:
        on = audit.is_on()
        response = await handler(request)
        if (on or audit.is_on()) and (response.status in (401, 403, 421) or (
                request.method not in SAFE and request.path not in OPEN
                and not request.path.startswith(PEERS))):
            audit_request(request, response.status)
        return response

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        replicates = request.path.startswith(PEERS)
        wanted = (peers if replicates else monitors
                  if request.path.startswith(MONITORING) and request.method in SAFE else operators)
        if ((replicates or request.method not in SAFE or request.path == "/backup")
            and any(h in request.headers for h in FROM_PAGES)
                or request.path not in OPEN and is_from_elsewhere(request)):
            return error(request, 403, "web pages have no business here")
        if request.path in OPEN:
            pass
        elif wanted and not shows(request, wanted):
            if shows(request, monitors | peers):
                return error(request, 403, "this token does not open it")
            return error(request, 401, f"the {'auth_' * replicates}token is missing or wrong",
                         {"WWW-Authenticate": "Bearer"})
        elif not replicates and not wanted and not is_our_name(request, names):
            return error(request, 421,
                         "without an auth_token, Host must be an IP address, localhost or a name "
                         "in http_bind")
        if request.path == "/backup" and audit.is_on():         # which takes long
            audit_request(request)
        if server is not None and (why := unwanted(server, request)):
            log_refused(request.remote, why)
            return error(request, 401, f"its caller is no peer: {why}")
        try:
            return await handler(request)
        except web.HTTPException as e:
            if e.status < 400:
                raise
            text = e.reason.lower()
            if e.status == 404 and not replicates:
                text += "; there are /health, /metrics, /stats, /config, /backup and /v1/bdbs"
            return error(request, e.status, text,
                         {k: v for k, v in e.headers.items() if k == "Allow"})
        except TimeoutError:
            return error(request, 408, "timeout")
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return error(request, 500, "internal error")

    app = web.Application(middlewares=[audited, guard], client_max_size=BODY_MAX)
    limit = server.http_limit if server is not None else 256
    app.add_routes(Replication(service.sessions, service.receiver, max(limit // 2, 1)).routes())
    if server is not None:
        from crdtredis.http.availability import Availability
        from crdtredis.http.operators import Operators
        from crdtredis.http.page import Page

        routes = Operators(server, service, is_trusted)
        app.add_routes(routes.routes())
        app.add_routes(Page(server, routes.ask).routes())
        app.add_routes(Availability(server, service, routes.findings).routes())
        app.on_shutdown.append(routes.stop)
    return app

"""Is this replica fit for clients that could go to another? As clients of Redis Enterprise ask (the
multi-database clients of redis-py, Jedis, Lettuce), so that their failover follows ours.

    GET /v1/bdbs                    the database, with the addresses it is reached at
    GET /v1/bdbs/1/availability     200, or 503 with error_code and description: as /health
    GET /v1/local/bdbs/1/endpoint/availability
                                    the same
        ?extend_check=lag&availability_lag_tolerance_ms=100
                                    503, too, while this replica lacks, so long after it knew of
                                    them, operations of a peer that is up

A replica knows of what it lacks by what peers send, and by the clocks they compare every
sync_interval. A peer that cannot be reached does not count: were it down, all the others would be
unfit at the very moment when clients need one.
"""
from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from crdtredis.http.operated import Operated

if TYPE_CHECKING:
    from crdtredis.replication.service import Service

TOLERANCE, TOLERANCE_MOST = 100, 3_600_000      # ms
WAIT_MOST = 1.0                                 # seconds that a request waits for what is lacking
LOOKS = 0.01                                    # seconds between looks
UID = "1"                                       # of the one database


def failing(status: int, code: str, text: str) -> web.Response:
    return web.json_response({"error_code": code, "description": text}, status=status)


class Availability:
    """findings: Operators.findings."""

    def __init__(self, server: Operated, service: Service,
                 findings: Callable[[], Awaitable[tuple[list[str], list[str]]]]) -> None:
        self.server, self.service, self.findings = server, service, findings

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/bdbs", self.databases),
                web.get("/v1/bdbs/{uid}/availability", self.availability),
                web.get("/v1/local/bdbs/{uid}/endpoint/availability", self.availability)]

    async def databases(self, request: web.Request) -> web.Response:
        config = self.server.config
        here = request.transport and request.transport.get_extra_info("sockname")
        try:
            name = request.url.host or "localhost"
        except ValueError:                      # a port that is none
            name = "localhost"
        found: list[dict[str, Any]] = [
            {"uid": f"{UID}:{i}", "dns_name": name, "addr": [here[0]] if here else [],
             "addr_type": "internal", "port": port}
            for i, port in enumerate((config.server_port, config.tls_port), 1) if port]
        return web.json_response([{"uid": int(UID), "name": config.cluster_name, "type": "redis",
                                   "status": "active", "crdt": True, "endpoints": found}])

    async def availability(self, request: web.Request) -> web.Response:
        if request.match_info["uid"] != UID:
            return failing(404, "db_not_found", "there is one database, 1")
        checks = {c for c in request.query.get("extend_check", "").split(",") if c}
        given = request.query.get("availability_lag_tolerance_ms", str(TOLERANCE))
        if checks - {"lag"} or not (given.isascii() and given.isdigit() and len(given) < 9
                                    and int(given) <= TOLERANCE_MOST):
            return failing(400, "invalid_param", "extend_check is lag, and "
                           f"availability_lag_tolerance_ms 0 to {TOLERANCE_MOST}")
        reasons, _ = await self.findings()
        if checks and not reasons:
            reasons = await self.lags(int(given) / 1000)
        if reasons:
            return failing(503, "bdb_unavailable", "; ".join(reasons))
        return web.json_response({})

    async def lags(self, tolerance: float) -> list[str]:
        """What was known of already `tolerance` seconds ago, and is not here. What only came to be
        known a moment ago has as long to come."""
        begun = time.monotonic()
        while True:
            ages = {p.replica or p.url: p.lacking_for() for p in list(self.service.registry.peers)}
            late = [name for name, age in ages.items() if age is not None and age >= tolerance]
            if (late or all(age is None for age in ages.values())
                    or time.monotonic() - begun >= min(tolerance, WAIT_MOST)):
                return [f"operations of peer {name} are lacking for more than "
                        f"{tolerance * 1000:g} ms" for name in sorted(late)]
            await asyncio.sleep(LOOKS)

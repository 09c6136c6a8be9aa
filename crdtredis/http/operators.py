"""What operators and their tools ask a server: is it well, what does it do, how is it set.

    GET /health    200 or 503; {"status"}, and "reasons" and "warnings" for whom app.py trusts. A
                   reason means: give this server no clients. That a peer is down is a warning only,
                   for this replica serves on, and taking it out of service too would help nobody.
    GET /stats     everything INFO knows, as JSON numbers, with peers and clock
    GET /metrics   the same for Prometheus
    GET /config    every setting, secrets masked
    PATCH /config  {"name": value, ...}: what may change at run time, all or nothing
    GET /backup    a tar archive for `crdt-redis restore` (storage/backup.py); BACKUPS at a time

State of the engine is fetched by a call that runs between two of its iterations; an engine that
does not come to it within a moment is itself a finding, and /health says so. """
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from crdtredis import info
from crdtredis.http.operated import Operated
from crdtredis.sources import ConfigError

if TYPE_CHECKING:
    from crdtredis.replication.service import Service

log = logging.getLogger("crdtredis.http")

SILENCE = 60.0                          # seconds that whoever fetches a backup may take nothing
PATIENCE = 2.0                          # seconds for the engine to reply
BODY_MAX = 1 << 20                      # bytes of a PATCH
BACKUPS = 2


def as_json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS, default=str),
                        status=status, content_type="application/json")


class Operators:
    def __init__(self, server: Operated, service: Service,
                 is_trusted: Callable[[web.Request], bool]) -> None:
        self.server, self.service, self.is_trusted = server, service, is_trusted
        self._backups = 0

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/health", self.health), web.get("/stats", self.stats),
                web.get("/metrics", self.metrics),
                web.get("/config", self.config), web.patch("/config", self.change),
                web.get("/backup", self.backup)]

    async def ask(self, function: Callable[[], Any]) -> Any:
        """Run in the engine thread. TimeoutError when it does not get to it."""
        return await asyncio.wait_for(self.service.engine.call(function), PATIENCE)

    async def health(self, request: web.Request) -> web.Response:
        reasons, warnings = [], []
        try:
            reasons, warnings = await self.ask(self.server.health)
        except TimeoutError:
            reasons.append(f"the engine did not reply within {PATIENCE:g} s")
        for p in self.service.peers():
            if p.state == "needs full sync":
                (reasons if p.missing_ops else warnings).append(f"peer {p.replica}: {p.error}")
            elif p.state == "full sync" and p.missing_ops:
                reasons.append(f"full sync with peer {p.replica}: {p.full_sync}")
            elif p.state not in ("up", "full sync", "standby", "self", "connecting"):
                warnings.append(f"peer {p.replica or p.url} is "
                                f"{p.state}{f' ({p.error})' if p.error else ''}")
        found: dict[str, Any] = {"status": "failing" if reasons else "ok"}
        if self.is_trusted(request):
            found |= {"reasons": reasons, "warnings": warnings}
        return as_json(found, 503 if reasons else 200)

    async def stats(self, request: web.Request) -> web.Response:
        fields = await self.ask(lambda: info.collect(self.server.executor))
        clock = await self.ask(self.server.replica.clock)
        for field in [f for f in fields["crdt"] if f.startswith("peer") and f[4:].isdigit()]:
            del fields["crdt"][field]                           # "peers" below says it better
        return as_json({**fields, "peers": [asdict(p) for p in self.service.peers()],
                        "clock": {f"{replica}/{epoch}": seq for (replica, epoch),
                                  seq in clock.items()}})

    async def metrics(self, request: web.Request) -> web.Response:
        # late: a start must not wait for the Prometheus library
        from crdtredis.http import metrics

        executor = self.server.executor
        fields, latencies = await self.ask(lambda: (info.collect(executor), executor.latencies()))
        disk = await asyncio.to_thread(metrics.look, str(self.server.folder))
        body, kind = metrics.render(fields, self.service.peers(), latencies, disk)
        return web.Response(body=body, headers={"Content-Type": kind})

    async def config(self, request: web.Request) -> web.Response:
        return as_json(self.server.config.as_json())

    async def backup(self, request: web.Request) -> web.StreamResponse:
        from crdtredis.storage.backup import Backup

        if self._backups >= BACKUPS:
            return as_json({"error": f"{BACKUPS} backups are being taken"}, 503)
        self._backups += 1
        try:
            backup = await asyncio.to_thread(Backup, self.server.folder, self.server.log)
            try:
                name = f"crdt-redis-{self.server.replica.id}-{int(time.time())}.tar"
                response = web.StreamResponse(headers={
                    "Content-Type": "application/x-tar", "X-Backup-Size": str(backup.size),
                    "Content-Disposition": f'attachment; filename="{name}"'})
                await response.prepare(request)
                pieces = backup.read()
                while piece := await asyncio.to_thread(next, pieces, None):
                    async with asyncio.timeout(SILENCE):
                        await response.write(piece)
                await response.write_eof()
                return response
            except (OSError, TimeoutError) as e:
                # What has been sent lacks its last member, so nobody takes it for whole.
                log.warning("a backup for %s ends before its time: %s", request.remote,
                            str(e) or "it takes nothing")
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError from None
            finally:
                backup.close()
        finally:
            self._backups -= 1

    async def change(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return as_json({"error": "expected a body of type application/json"}, 415)
        if request.content_length is None or request.content_length > BODY_MAX:
            return as_json({"error": f"expected a Content-Length of at most {BODY_MAX}"}, 413)
        async with asyncio.timeout(self.service.runtime.settings.timeout):
            body = await request.read()
        try:
            wanted = orjson.loads(body)
            if not isinstance(wanted, dict):
                raise ValueError
        except ValueError:
            return as_json({"error": "expected a JSON object of settings"}, 400)
        try:
            await self.ask(lambda: self.server.config.patch(wanted))
        except ConfigError as e:
            return as_json({"error": "nothing was changed",
                            "faults": [{"setting": f.setting, "problem": f.problem}
                                       for f in e.faults]}, 400)
        return as_json(self.server.config.as_json())

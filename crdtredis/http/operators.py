"""What operators and their tools ask a server: is it well, what does it do, how is it set.

    GET /health    200 or 503; {"status"}, and "reasons" and "warnings" for whom app.py trusts. A
                   reason means: give this server no clients. That a peer is down is a warning only,
                   for this replica serves on, and taking it out of service too would help nobody.
    GET /stats     everything INFO knows, as JSON numbers, with peers and clock
    GET /metrics   the same for Prometheus
    GET /config    every setting, secrets masked
    PATCH /config  {"name": value, ...}: what may change at run time, all or nothing
    GET /backup    a tar archive for `crdt-redis restore` (storage/backup.py); BACKUPS at a time.
                   ?history: with all of the log that is still there. ?follow: behind it the log as
                   it grows (storage/shipping.py), FOLLOWERS at a time; with segment, offset and
                   digest that alone, or 410 where it does not go on from there

State of the engine is fetched by a call that runs between two of its iterations; an engine that
does not come to it within a moment is itself a finding, and /health says so. """
from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from crdtredis import info, staleness
from crdtredis.http.operated import Operated
from crdtredis.sources import ConfigError

if TYPE_CHECKING:
    from crdtredis.replication.service import Service
    from crdtredis.storage.followers import Follower
    from crdtredis.storage.format import LogPosition
    from crdtredis.storage.segments import Pin

log = logging.getLogger("crdtredis.http")

SILENCE = 60.0                          # seconds that whoever fetches a backup may take nothing
PATIENCE = 2.0                          # seconds for the engine to reply
BODY_MAX = 1 << 20                      # bytes of a PATCH
BACKUPS = 2
FOLLOWERS = 4
BEHIND = 64 << 20                       # bytes that one who follows may be behind in any case
SHIP_EVERY = 0.1                        # seconds between two looks at a log that did not grow
HEARD_EVERY = 1.0                       # seconds between two words on up to when all was sent


def as_json(data: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS, default=str),
                        status=status, content_type="application/json")


class Operators:
    def __init__(self, server: Operated, service: Service,
                 is_trusted: Callable[[web.Request], bool]) -> None:
        self.server, self.service, self.is_trusted = server, service, is_trusted
        self._backups = 0
        self._stops = False

    async def stop(self, app: web.Application) -> None:
        """Who follows gets what there is, and no more."""
        self._stops = True

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/health", self.health), web.get("/stats", self.stats),
                web.get("/metrics", self.metrics),
                web.get("/config", self.config), web.patch("/config", self.change),
                web.get("/backup", self.backup)]

    async def ask(self, function: Callable[[], Any]) -> Any:
        """Run in the engine thread. TimeoutError when it does not get to it."""
        return await asyncio.wait_for(self.service.engine.call(function), PATIENCE)

    async def findings(self) -> tuple[list[str], list[str]]:
        """(reasons why this server should not be given clients, warnings)"""
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
        return reasons, warnings

    async def health(self, request: web.Request) -> web.Response:
        reasons, warnings = await self.findings()
        found: dict[str, Any] = {"status": "failing" if reasons else "ok"}
        if self.is_trusted(request):
            found |= {"reasons": reasons, "warnings": warnings}
        return as_json(found, 503 if reasons else 200)

    async def stats(self, request: web.Request) -> web.Response:
        fields = await self.ask(lambda: info.collect(self.server.executor))
        clock = await self.ask(self.server.replica.clock)
        for section, begin in ("crdt", "peer"), ("persistence", "follower"):
            for name in [f for f in fields[section] if re.fullmatch(begin + r"\d+", f)]:
                del fields[section][name]                       # said better below
        lags = self.server.followers.lags(self.server.replica.now, self.server.log.bytes_since)
        fields["followers"] = [f.fields() | {"lag_bytes": behind, "lag_ms": ms}
                               for f, behind, ms in lags]
        delays, advised = await self.ask(lambda: (info.delays(self.server.executor),
                                                  info.advised(self.server.executor)))
        return as_json({**fields, "certificate_ends": self.server.certificate_ends,
                        "peers": [asdict(p) for p in self.service.peers()],
                        "staleness": staleness.lags(delays),
                        # no keys for who may see figures alone
                        "advice": Counter(x["kind"] for x in advised),
                        "clock": {f"{replica}/{epoch}": seq for (replica, epoch),
                                  seq in clock.items()}})

    async def metrics(self, request: web.Request) -> web.Response:
        # late: a start must not wait for the Prometheus library
        from crdtredis.http import metrics

        executor = self.server.executor
        fields, latencies, delays = await self.ask(
            lambda: (info.collect(executor), executor.latencies(), info.delays(executor)))
        disk = await asyncio.to_thread(metrics.look, str(self.server.folder))
        body, kind = metrics.render(fields, self.service.peers(), latencies, disk, delays,
                                    self.server.certificate_ends,
                                    ", ".join(request.headers.getall("Accept", ())))
        return web.Response(body=body, headers={"Content-Type": kind, "Vary": "Accept"})

    async def config(self, request: web.Request) -> web.Response:
        return as_json(self.server.config.as_json())

    async def backup(self, request: web.Request) -> web.StreamResponse:
        follows = "follow" in request.query
        comes_again = follows and "segment" in request.query
        if self._backups >= BACKUPS and not comes_again:
            return as_json({"error": f"{BACKUPS} backups are being taken"}, 503)
        followers = self.server.followers.all
        if follows and len(followers) >= FOLLOWERS:
            return as_json({"error": f"{FOLLOWERS} follow already"}, 503)
        who = self._follower(request) if follows else None
        self._backups += not comes_again
        if who is not None:
            followers.append(who)
        try:
            if who is not None and comes_again:
                return await self._ship(request, who)
            return await self._back_up(request, who)
        finally:
            self._backups -= not comes_again
            if who is not None:
                followers.remove(who)

    def _follower(self, request: web.Request) -> Follower:
        from crdtredis.storage.followers import Follower

        host, port, *_ = (request.transport and request.transport.get_extra_info("peername")
                          or ("?", 0))
        return Follower(f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                        self.server.replica.now, self.server.log.writer.position())

    async def _back_up(self, request: web.Request, who: Follower | None) -> web.StreamResponse:
        from crdtredis.storage.backup import Backup

        through, _ = await self._moment()
        backup = await asyncio.to_thread(Backup, self.server.folder, self.server.log, through,
                                         "history" in request.query)
        try:
            name = f"crdt-redis-{self.server.replica.id}-{int(time.time())}.tar"
            async with self._sending(request, {
                    "Content-Type": "application/x-tar", "X-Backup-Size": str(backup.size),
                    "X-Backup-Checkpoint": str(backup.checkpoint),
                    "Content-Disposition": f'attachment; filename="{name}"'},
                    who is not None) as response:
                pieces = backup.read()
                while piece := await asyncio.to_thread(next, pieces, None):
                    await put(response, piece)
                if who is not None:
                    self._backups -= 1          # it is no backup any more
                    who.position = backup.end
                    try:
                        pin = self.server.log.pin(backup.end, yields=True)
                        backup.close()
                        await self._follow(request, response, who, backup.checkpoint, pin)
                    finally:
                        self._backups += 1
            return response
        finally:
            backup.close()

    async def _ship(self, request: web.Request, who: Follower) -> web.StreamResponse:
        from crdtredis.storage.shipping import goes_on

        try:
            position = number(request, "segment"), number(request, "offset")
            known = number(request, "checkpoint")
            number(request, "every")
        except ValueError:
            return as_json({"error": "expected segment, offset, checkpoint, every and digest"}, 400)
        end = self.server.log.writer.position()
        if position > end or not await asyncio.to_thread(
                goes_on, self.server.folder, position, request.query.get("digest", "")):
            return as_json({"error": "the log does not go on from there"}, 410)
        try:
            pin = self.server.log.pin(position, yields=True)
        except LookupError:
            return as_json({"error": "the log does not go on from there any more"}, 410)
        who.position = position
        try:
            async with self._sending(request, {"Content-Type": "application/octet-stream"},
                                     True) as response:
                await self._follow(request, response, who, known, pin)
            return response
        finally:
            pin.release()

    async def _follow(self, request: web.Request, response: web.StreamResponse, who: Follower,
                      known: int, pin: Pin) -> None:
        """Sends the log from who.position on as it grows, until somebody ends it. The pin moves
        along; whoever is too far behind, and everybody while the disk is nearly full, has none."""
        from crdtredis.storage.shipping import Gone, Shipping, frame

        segments, config = self.server.log, self.server.config
        who.backup, who.pin = False, pin
        try:
            every = number(request, "every")
        except ValueError:
            every = 3600
        moment: tuple[int, LogPosition] | None = None
        last = 0.0

        def look() -> None:
            nonlocal pin
            if self.server.disk_low or segments.bytes_since(who.position) > max(
                    config.replication_log_size, BEHIND):
                pin.release()
            elif pin.held or pin.broken:        # a broken one is not renewed
                pin.move(who.position)
            else:
                who.pin = pin = segments.pin(who.position, yields=True)

        try:
            shipping = Shipping(self.server.folder, segments, who.position, known, every)
            while True:
                if moment is None and time.monotonic() - last >= HEARD_EVERY:
                    moment, last = await self._moment(), time.monotonic()
                piece = await asyncio.to_thread(shipping.next)
                if piece:
                    await put(response, piece, look)
                who.position = shipping.position
                if moment is not None and who.position >= moment[1]:
                    await put(response, frame({"through": moment[0],
                                               "epoch": self.server.identity.epoch}))
                    who.through = max(moment[0], who.through)
                    moment = None
                look()
                if not piece:
                    if self._stops:
                        return
                    await asyncio.sleep(SHIP_EVERY)
        except (Gone, LookupError):
            self.server.followers.outrun += 1
            log.warning("%s follows no more: the log was removed before it had come so far",
                        who.address)
        finally:
            pin.release()

    async def _moment(self) -> tuple[int, LogPosition]:
        """(ms, position): all that is stamped up to then stands before this position in the log.
        (0, ...) where the engine does not come to say it."""
        server = self.server
        try:
            return await self.ask(lambda: (server.replica.now - 1, server.log.writer.position()))
        except TimeoutError:
            return 0, server.log.writer.position()

    @asynccontextmanager
    async def _sending(self, request: web.Request, headers: dict[str, str],
                       follows: bool) -> AsyncIterator[web.StreamResponse]:
        """A reply in pieces. What ends it before its time is told, and no error of ours."""
        if follows:
            headers |= {"X-Follow": "1"}
        response = web.StreamResponse(headers={**headers, "X-Replica": self.server.replica.id})
        try:
            await response.prepare(request)
            yield response
            await response.write_eof()
        except (OSError, TimeoutError) as e:
            # What has been sent lacks its last member, so nobody takes it for whole.
            log.log(logging.INFO if follows else logging.WARNING,
                    "a backup for %s ends%s: %s", request.remote,
                    "" if follows else " before its time", str(e) or "it takes nothing")
            if request.transport is not None:
                request.transport.abort()

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
        request["changes"] = [str(name)[:64] for name in wanted][:32]        # for the audit log
        try:
            await self.ask(lambda: self.server.config.patch(wanted))
        except ConfigError as e:
            return as_json({"error": "nothing was changed",
                            "faults": [{"setting": f.setting, "problem": f.problem}
                                       for f in e.faults]}, 400)
        return as_json(self.server.config.as_json())


async def put(response: web.StreamResponse, piece: bytes,
              meanwhile: Callable[[], None] | None = None) -> None:
    """meanwhile: is called now and then while it waits for whoever takes it."""
    async with asyncio.timeout(SILENCE):
        if meanwhile is None:
            await response.write(piece)
            return
        writing = asyncio.ensure_future(response.write(piece))
        try:
            while not (await asyncio.wait({writing}, timeout=HEARD_EVERY))[0]:
                meanwhile()
            await writing
        finally:
            writing.cancel()


def number(request: web.Request, name: str) -> int:
    """ValueError where it is none."""
    text = request.query[name] if name in request.query else ""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise ValueError(name)
    return int(text)

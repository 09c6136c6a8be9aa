"""Spans for OpenTelemetry, with `tracing`: slow commands, and the way of an operation from its
write here to each replica. Off, it costs nothing.

    HGETALL         a command that SLOWLOG took. Its number there (crdtredis.slowlog.id) leads to
                    the arguments, which stay here.
    replicate       every tracing_interval, the next operation that clients make here: from the
      -> eu-2       moment it is logged here until eu-2 has logged it, a span for each peer that
      -> us-1       was up. An error where PATIENCE was not enough, or the peer was removed.

Spans are measured by the steady clock, so none ends before it began.

The official SDK makes and sends the spans, as its own variables say (OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_BSP_...). What a
collector does not take is dropped. The SDK is an optional extra, and no part of the executable.
"""
from __future__ import annotations

import asyncio
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from crdtredis import __version__
from crdtredis.errors import EXIT_CONFIG, StartError

PATIENCE = 60.0         # seconds that an operation is followed
STOP_PATIENCE = 2.0     # seconds that the last spans have to go out when the server stops
COMMANDS = 128          # slow ones that become spans, each time one looks
LOOKS = 1.0             # seconds between looks at the slow log
MISSING = ("tracing needs OpenTelemetry's SDK, which is not installed (pip install "
           "'crdtredis[tracing]'), and which the executable has no room for")
ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
HEADER = re.compile(r"[!#-'*+.0-9A-Z^-z|~-]+[ \t]*=[ !#-+\--:<-\[\]-~]*")
SHORTENED = re.compile(rb"\.\.\. \((\d{1,9}) more arguments\)")     # the last of the slow log's 32


def check_variables() -> None:
    """StartError where an address or headers will not do. They may hold secrets, and the SDK would
    log them."""
    for name in ENDPOINTS:
        if not re.match(r"https?://|$", os.environ.get(name, ""), re.I):
            raise StartError(f"tracing: {name}: expected http://HOST:PORT or https://HOST:PORT",
                             EXIT_CONFIG)
    for name in HEADERS:
        headers = [h.strip() for h in os.environ.get(name, "").split(",")]
        if not all(HEADER.fullmatch(h) and unquote(h).isascii() and unquote(h).isprintable()
                   for h in headers if h):
            raise StartError(f"tracing: {name}: expected NAME=VALUE,NAME=VALUE,..., whose values "
                             "have signs as URLs have them (%20)", EXIT_CONFIG)


def argument_count(args: list[bytes]) -> int:
    """How many arguments an entry of the slow log had beside its name."""
    more = SHORTENED.fullmatch(args[-1]) if len(args) == 32 else None
    return len(args) - 1 + (int(more[1]) - 1 if more else 0)


def clock() -> Callable[[], int]:
    """Reads the time in ns; whoever sets the system's clock meanwhile, it goes on."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: offset + time.monotonic_ns()


def provider_of(replica: str) -> Any:
    """What sends the spans of this replica. StartError where the SDK is missing, or its variables
    are wrong."""
    check_variables()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        here = Resource.create({"service.name": "crdtredis", "service.instance.id": replica,
                                "service.version": __version__})
        provider = TracerProvider(resource=here.merge(OTELResourceDetector().detect()),
                                  shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ImportError as e:
        raise StartError(MISSING, EXIT_CONFIG) from e
    except ValueError as e:             # some of them are read as the SDK is imported
        raise StartError(f"tracing: {e}", EXIT_CONFIG) from e
    return provider


class Tracing:
    """Runs beside a replication.service.Service. slow: the newest entries of the slow log, as
    Executor.slowlog. interval: tracing_interval in seconds, as it is when it is asked for."""

    def __init__(self, provider: Any, service: Any, slow: Callable[[int], list[Any]],
                 interval: Callable[[], float]) -> None:
        self._provider, self._tracer = provider, provider.get_tracer("crdtredis")
        self._service, self._slow, self._interval = service, slow, interval
        self._told = -1                 # number of the last slow command that has a span

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tell_slow())
                tasks.create_task(self._follow())
        finally:
            # a collector that does not reply must not hold up the end of the server
            end = threading.Thread(target=self._provider.shutdown, daemon=True)
            end.start()
            await asyncio.to_thread(end.join, STOP_PATIENCE)

    # ---- slow commands ---------------------------------------------------------------------------

    async def _tell_slow(self) -> None:
        while True:
            for number, seconds, usec, args, address, name in reversed(
                    await self._service.engine.call(lambda: self._slow(COMMANDS))):
                if number > self._told:
                    self._told = number
                    self._tell(number, seconds, usec, args, address, name)
            await asyncio.sleep(LOOKS)

    def _tell(self, number: int, seconds: int, usec: int, args: list[bytes], address: str,
              name: str) -> None:
        from opentelemetry.trace import SpanKind

        command = args[0][:64].decode("ascii", "replace").upper()
        told: dict[str, Any] = {
            "db.system.name": "redis", "db.operation.name": command, "client.address": address,
            "crdtredis.slowlog.id": number, "crdtredis.arguments": argument_count(args)}
        if name:
            told["crdtredis.client.name"] = name
        span = self._tracer.start_span(command, kind=SpanKind.SERVER, attributes=told,
                                       start_time=seconds * 10**9)
        span.end(seconds * 10**9 + usec * 1000)

    # ---- the way of an operation -----------------------------------------------------------------

    async def _follow(self) -> None:
        tail = self._service.tail
        while True:
            before = {a: tail.head.get(a, 0) for a in tail.own_actors}

            def made() -> list[int]:
                return [a for a in tail.own_actors if tail.head.get(a, 0) > before.get(a, 0)]

            await self._until(made)
            for actor in made()[:1]:
                await self._follow_one(actor, before.get(actor, 0) + 1)
            rested = time.monotonic()
            while (left := rested + self._interval() - time.monotonic()) > 0:
                await asyncio.sleep(min(left, LOOKS))           # the interval may change

    async def _follow_one(self, actor: int, seq: int) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        peers, now = [p for p in self._service.registry.peers if p.state == "up"], clock()
        span = self._tracer.start_span("replicate", kind=SpanKind.PRODUCER, start_time=now(),
                                       attributes={"crdtredis.seq": seq,
                                                   "crdtredis.peers": len(peers)})
        context = set_span_in_context(span)
        try:
            await asyncio.gather(*(self._follow_to(p, actor, seq, context, now) for p in peers))
        finally:
            span.end(now())

    async def _follow_to(self, peer: Any, actor: int, seq: int, context: Any,
                         now: Callable[[], int]) -> None:
        from opentelemetry.trace import Status, StatusCode

        registry = self._service.registry
        span = self._tracer.start_span(f"-> {peer.replica}", context, start_time=now(),
                                       attributes={"crdtredis.peer": peer.replica})
        try:
            async with asyncio.timeout(PATIENCE):
                await self._until(lambda: peer.acked.get(actor, 0) >= seq
                                  or peer not in registry.peers)
            if peer.acked.get(actor, 0) < seq:
                span.set_status(Status(StatusCode.ERROR, "it is no peer any more"))
        except TimeoutError:
            span.set_status(Status(StatusCode.ERROR, f"not there after {PATIENCE:g} s"))
        finally:
            span.end(now())

    def _until(self, condition: Callable[[], Any]) -> Awaitable[None]:
        return self._service.registry.until(condition)

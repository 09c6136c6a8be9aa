"""Spans reach a collector: of slow commands, and of operations on their way to other replicas."""
import asyncio
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from crdtredis import tracing
from crdtredis.errors import StartError
from tests.real.cluster import ROOT, Cluster, Server, until

if os.environ.get("CRDT_REDIS_EXECUTABLE"):
    pytest.skip("the executable has no OpenTelemetry SDK", allow_module_level=True)


class Collector(ThreadingHTTPServer):
    """Takes what exporters send."""

    def __init__(self):
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest)

        taken = self.taken = []
        headers = self.headers = []

        class Take(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers.append((self.path, self.headers.get("x-key")))
                taken.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Take)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def spans(self, name=None):
        """[(attributes of the sender, span)]"""
        return [({a.key: a.value.string_value for a in r.resource.attributes}, span)
                for taken in list(self.taken) for r in taken.resource_spans
                for scope in r.scope_spans for span in scope.spans if name in (None, span.name)]


@pytest.fixture
def collector():
    found = Collector()
    yield found
    found.shutdown()
    found.server_close()


def variables(collector, **more):
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100", **more}


def started(n, interval, **environment):
    cluster = Cluster(n, tracing="yes", tracing_interval=interval)
    for s in cluster:
        s.start(wait=False, **environment)
    for s in cluster:
        s.wait_ready()
    return cluster


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def test_an_operation_is_followed_to_each_replica(processes, collector):
    a, *others = started(3, "100ms", **variables(collector, OTEL_EXPORTER_OTLP_HEADERS="x-key=k"))
    n = 0

    def followed():
        nonlocal n
        n += 1
        a("SET", "k", n)
        return [(told, s) for told, s in collector.spans("replicate")
                if told["service.instance.id"] == "a" and attributes(s)["crdtredis.peers"] == 2]

    told, way = until(followed)[0]
    assert told["service.name"] == "crdtredis" and told["service.version"]
    assert collector.headers[0] == ("/v1/traces", "k")
    legs = [s for _, s in collector.spans() if s.parent_span_id == way.span_id]
    assert sorted(s.name for s in legs) == sorted(f"-> {s.name}" for s in others)
    for leg in legs:
        assert leg.trace_id == way.trace_id and leg.status.code != 2
        assert (way.start_time_unix_nano <= leg.start_time_unix_nano
                <= leg.end_time_unix_nano <= way.end_time_unix_nano)


def test_slow_commands_have_spans_without_arguments(processes, collector):
    s = Server(tracing="yes", slowlog_log_slower_than=0)
    s.start(**variables(collector, OTEL_SERVICE_NAME="cache"))
    with s.connect() as c:
        c("CLIENT", "SETNAME", "me")
        c("LPUSH", "secret", "a", "b")
        entry = next(e for e in c("SLOWLOG", "GET", -1) if e[3][0] == b"LPUSH")
        (told, span), = until(lambda: collector.spans("LPUSH"))
        found = attributes(span)
        assert told["service.name"] == "cache" and found["crdtredis.slowlog.id"] == entry[0]
        assert found["crdtredis.arguments"] == 3 and found["crdtredis.client.name"] == "me"
        assert found["client.address"] == entry[4].decode()
        assert span.end_time_unix_nano - span.start_time_unix_nano == entry[2] * 1000
        until(lambda: collector.spans("SLOWLOG"))
        c("RPUSH", "l", *range(99))                     # of which the slow log keeps 32
        (_, span), = until(lambda: collector.spans("RPUSH"))
        assert attributes(span)["crdtredis.arguments"] == 100
    s.stop()
    assert not [taken for taken in collector.taken if b"secret" in taken.SerializeToString()]


def test_a_collector_that_is_not_there_stops_nothing(processes):
    s = Server(tracing="yes", slowlog_log_slower_than=0)
    s.start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="10")
    with s.connect() as c:
        assert [c("INCR", "k") for _ in range(3)] == [1, 2, 3]
        until(lambda: "opentelemetry" in s.log())
    assert s.stop() == 0


def test_an_interval_that_is_changed_holds_at_once(processes, collector):
    c = started(2, "1h", **variables(collector))
    n = 0

    def followed():
        nonlocal n
        n += 1
        c[0]("SET", "k", n)
        return [s for told, s in collector.spans("replicate")
                if told["service.instance.id"] == "a"]

    until(followed)
    c[0]("CONFIG", "SET", "tracing-interval", "100ms")
    until(lambda: len(followed()) > 2)


def followed(acked, meanwhile):
    """The spans of an operation that b has, or has not, once `meanwhile` has been called, if that
    ends the wait."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    registry = SimpleNamespace(peers=[SimpleNamespace(replica="b", state="up", acked={7: acked})])

    async def until(condition):
        meanwhile(registry)
        assert condition()

    registry.until = until
    service = SimpleNamespace(registry=registry)
    asyncio.run(tracing.Tracing(provider, service, list, float)._follow_one(7, 1))
    return kept.get_finished_spans()


def test_a_peer_that_is_removed_meanwhile_is_not_waited_for():
    leg, way = followed(0, lambda registry: registry.peers.clear())
    assert not leg.status.is_ok and leg.status.description == "it is no peer any more"
    assert leg.parent.span_id == way.context.span_id and way.status.is_unset


def test_no_span_ends_before_it_begins(monkeypatch):
    """Though the clock is set back meanwhile."""
    from opentelemetry.sdk import trace

    def set_back(_):
        for module in trace, tracing.time:
            monkeypatch.setattr(module, "time_ns", lambda: 1)

    leg, way = followed(1, set_back)
    assert leg.status.is_unset
    assert 1 < way.start_time <= leg.start_time <= leg.end_time <= way.end_time


@pytest.mark.parametrize("names, text", [
    *((tracing.HEADERS, text) for text in ("Authorization: Bearer s3cret", "k=a,s3cret",
                                           "k=s3cret%0a", "k=s3c;ret")),
    (tracing.ENDPOINTS, "me:s3cret@collector:4318"), (tracing.ENDPOINTS, "grpc://me:s3cret@c")])
def test_what_will_not_do_is_refused_and_not_told(monkeypatch, names, text):
    for name in names:
        with monkeypatch.context() as m:
            m.setenv(name, text)
            with pytest.raises(StartError) as e:
                tracing.provider_of("a")
            assert name in str(e.value) and "cret" not in str(e.value)


def test_what_will_do(monkeypatch):
    for text in "", "http://me:word@[::1]:4318", "https://collector/v1":
        monkeypatch.setenv(tracing.ENDPOINTS[0], text)
        tracing.check_variables()
    for text in "", "a=b", " Authorization=Bearer x , k=%20y,", "a=":
        monkeypatch.setenv(tracing.HEADERS[0], text)
        tracing.check_variables()


@pytest.mark.parametrize("text, variables, said", [
    ("raise ImportError('none')", {}, "crdtredis[tracing]"),
    # read as it is imported
    ("", {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-1"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be")])
def test_what_the_sdk_lacks_is_told_at_the_start(tmp_path, text, variables, said):
    if text:
        (tmp_path / "opentelemetry.py").write_text(text)
    found = subprocess.run(
        [sys.executable, "-m", "crdtredis", "--tracing", "yes", "--data-dir", tmp_path / "data",
         "--port", "0", "--unixsocket", tmp_path / "s", "--http-port", "0"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", **variables},
        capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and said in found.stderr, found
    assert len(found.stderr.splitlines()) == 1, found.stderr

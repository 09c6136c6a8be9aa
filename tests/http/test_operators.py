"""/health, /stats, /metrics and /config of a running server."""
import json
import re
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.real.cluster import Server, executable
from tests.respclient import ReplyError


def ask(server, path: str, method: str = "GET", body=None, token: str | None = None,
        kind: str = "application/json", authorization: str = ""):
    """(status, headers, body as text)"""
    data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.address}{path}", data, {"Content-Type": kind},
                                     method=method)
    if token is not None or authorization:
        request.add_header("Authorization", authorization or f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as r:
            return r.status, r.headers, r.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


def until(condition, seconds=60):
    """What condition() returns once it is true; an OSError counts as false."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_healthy_server_says_so(server):
    status, headers, text = ask(server(), "/health")
    assert status == 200 and json.loads(text) == {"status": "ok", "reasons": [], "warnings": []}
    assert headers["Content-Type"].startswith("application/json")


def test_a_peer_that_is_down_is_a_warning(server):
    s = server(peers=["127.0.0.1:1"], retry_interval="10ms", max_retries="1")
    for _ in range(200):
        status, _, text = ask(s, "/health")
        if json.loads(text)["warnings"]:
            break
    assert status == 200 and "127.0.0.1:1 is" in json.loads(text)["warnings"][0]


def test_memory_that_runs_out_is_a_warning(server):
    s = server(max_memory="2mb")
    assert json.loads(ask(s, "/health")[2])["warnings"] == []
    for i in range(21):
        s("SET", f"k{i}", "x" * 100_000)
    found = json.loads(ask(s, "/health")[2])
    assert found["status"] == "ok" and "of max_memory" in found["warnings"][0]


def test_operations_that_wait_for_long_are_a_warning(monkeypatch):
    from types import SimpleNamespace

    from crdtredis import server as module

    replica = SimpleNamespace(pending=lambda: {"ops": 7, "bytes": 700, "held": 3},
                              stats=lambda: {"memory": 10, "actors": 3}, runs_ahead=0,
                              ahead=lambda: [], clock_ids=dict)
    monkeypatch.setattr(module, "held", lambda replica: {})
    fake = SimpleNamespace(executor=SimpleNamespace(loading=False, misconf=None), log=None,
                           checkpoints=None, retention=None, replica=replica, sync=None,
                           _unapplied={}, disk_low=False, mirror=None,
                           certificate_ends={},
                           _waiting=module.WAITING_LONG, config=SimpleNamespace(max_memory=0))
    assert (module.Server.health(fake)
            == ([], [f"4 received operations have waited for others for {module.WAITING_LONG} s"]))
    fake._waiting -= 1
    assert module.Server.health(fake) == ([], [])


def test_stats_are_those_of_info(server):
    s = server()
    s("SET", "k", "v")
    found = json.loads(ask(s, "/stats")[2])
    assert (found["keyspace"]["db0"].startswith("keys=1") and found["crdt"]["replica_id"] == "a"
            and found["peers"] == [])
    assert list(found["clock"].values()) == [1]


# what redis_exporter makes metrics of, where a replica has such a thing; redis-commander shows all
EXPORTED = """uptime_in_seconds process_id connected_clients blocked_clients tracking_clients
client_recent_max_output_buffer client_recent_max_input_buffer allocator_active allocator_allocated
allocator_resident allocator_frag_ratio allocator_frag_bytes allocator_rss_ratio allocator_rss_bytes
used_memory used_memory_rss used_memory_peak used_memory_lua used_memory_overhead
used_memory_startup used_memory_dataset used_memory_scripts maxmemory mem_fragmentation_ratio
mem_fragmentation_bytes mem_clients_slaves mem_clients_normal expired_stale_perc
mem_not_counted_for_evict lazyfree_pending_objects active_defrag_running migrate_cached_sockets
active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses
expired_time_cap_reached_count loading rdb_changes_since_last_save rdb_bgsave_in_progress
rdb_last_save_time rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec
rdb_last_cow_size aof_enabled aof_rewrite_in_progress aof_rewrite_scheduled
aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_cow_size aof_current_size
aof_base_size aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync aof_delayed_fsync
aof_last_bgrewrite_status aof_last_write_status module_fork_in_progress module_fork_last_cow_size
pubsub_channels pubsub_patterns latest_fork_usec connected_slaves repl_backlog_size
repl_backlog_active repl_backlog_first_byte_offset repl_backlog_histlen master_repl_offset
second_repl_offset slave_expires_tracked_keys sync_full sync_partial_ok sync_partial_err
total_connections_received total_commands_processed rejected_connections total_net_input_bytes
total_net_output_bytes expired_keys evicted_keys keyspace_hits keyspace_misses used_cpu_sys
used_cpu_user used_cpu_sys_children used_cpu_user_children role redis_version redis_build_id
redis_mode os maxmemory_policy tcp_port run_id""".split()


def fields(server) -> dict[str, str]:
    return dict(line.split(":", 1) for line in server("INFO", "everything").decode().splitlines()
                if ":" in line)


def test_all_fields_of_redis_are_there(server, reference):
    of_calls = re.compile("(cmd|error)stat_|latency_percentiles|db[0-9]")
    assert [name for name in fields(reference).keys() - fields(server()).keys()
            if not of_calls.match(name)] == []


def test_all_fields_that_exporters_want_are_there(server):
    s = server()
    s("SET", "k", "x" * 10_000)
    found = fields(s)
    assert [name for name in EXPORTED if name not in found] == []
    assert 10_000 < int(found["aof_current_size"]) < 100_000 and found["aof_base_size"] == "0"
    assert (int(found["allocator_allocated"]) == int(found["used_memory"])
            <= int(found["allocator_active"]) <= int(found["allocator_resident"])
            <= int(found["used_memory_rss"]))


def test_metrics_are_read_by_prometheus(server):
    from prometheus_client.parser import text_string_to_metric_families

    s = server(peers=["127.0.0.1:1"])
    s("SET", "k", "v"), s("GET", "k")
    status, headers, text = ask(s, "/metrics")
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    assert families["crdt_redis_own_ops"].samples[0].value == 1
    assert ({m.labels["command"] for m in families["crdt_redis_command_calls"].samples}
            >= {"set", "get"})
    took = families["crdt_redis_command_duration_seconds"].samples
    assert {m.labels["family"] for m in took} >= {"string", "connection"}
    took = [m for m in took if m.labels["family"] == "string"]
    assert families["crdt_redis_command_duration_seconds"].type == "histogram"
    buckets = [m.value for m in took if m.name.endswith("_bucket")]
    count = next(m.value for m in took if m.name.endswith("_count"))
    assert (buckets == sorted(buckets) and buckets[-1] == count >= 2
            and next(m.value for m in took if m.name.endswith("_sum")) > 0)
    for name in ("log_bytes", "log_segments", "disk_free_bytes", "disk_size_bytes", "open_files",
                 "max_open_files"):
        assert families[f"crdt_redis_{name}"].samples[0].value > 0, name
    assert families["crdt_redis_open_files"].samples[0].value < 64
    assert ({m.labels["mode"] for m in families["crdt_redis_cpu_seconds"].samples}
            == {"user", "system"})
    states = [m for m in families["crdt_redis_peer_state"].samples if m.value]
    assert len(states) == 1 and states[0].labels["peer"] == "http://127.0.0.1:1"


OPENMETRICS = "application/openmetrics-text"


@pytest.mark.parametrize("accept, openmetrics", [
    ("", False), ("*/*", False), ("text/plain", False), (OPENMETRICS, True),
    # Prometheus 2.x, 3.x, and one that is told to prefer the text format
    (f"{OPENMETRICS};version=1.0.0,{OPENMETRICS};version=0.0.1;q=0.75,text/plain;version=0.0.4;"
     "q=0.5,*/*;q=0.1", True),
    (f"{OPENMETRICS};version=1.0.0;escaping=allow-utf-8;q=0.6,{OPENMETRICS};version=0.0.1;q=0.5,"
     "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
     True),
    (f"text/plain;version=0.0.4;q=0.6,{OPENMETRICS};version=1.0.0;q=0.5", False),
    # what is not to be had, or makes no sense
    (f"{OPENMETRICS};version=2.0.0, text/plain;q=0.1", False), (f"{OPENMETRICS};q=0", False),
    (f"{OPENMETRICS};q=much", False), ("application/json", False),
    (f" {OPENMETRICS.upper()} ", True),
])
def test_the_format_of_metrics_is_what_is_asked_for(accept, openmetrics):
    from crdtredis.http.metrics import wants_openmetrics

    assert wants_openmetrics(accept) is openmetrics


def test_metrics_in_both_formats(server):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
    from prometheus_client.parser import text_string_to_metric_families

    s = server(peers=["127.0.0.1:1"])
    s("SET", "k", "v")
    found = []
    for accept, kind, parse in (
            (None, "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
            (OPENMETRICS, f"{OPENMETRICS}; version=1.0.0; charset=utf-8", strict)):
        request = urllib.request.Request(f"http://{s.address}/metrics",
                                         headers={"Accept": accept} if accept else {})
        with urllib.request.urlopen(request, timeout=10) as r:
            assert (r.headers["Content-Type"], r.headers["Vary"]) == (kind, "Accept")
            text = r.read().decode()
        assert text.endswith("# EOF\n") == (accept is not None) and text.count("# EOF") < 2
        found.append({sample.name for f in parse(text) for sample in f.samples})
    assert found[0] == found[1]


def test_durations_of_commands_agree_with_their_number(server):
    """Whether latency_tracking is on, was off, or the statistics were reset meanwhile."""
    from prometheus_client.parser import text_string_to_metric_families

    def took():
        families = text_string_to_metric_families(ask(s, "/metrics")[2])
        return {m.name.rpartition("_")[2]: m.value for f in families for m in f.samples
                if m.name.startswith("crdt_redis_command_duration_seconds_")
                and m.labels["family"] == "list" and "le" not in m.labels}

    def work():
        s("DEL", "l"), s("RPUSH", "l", *range(20_000)), s("LREM", "l", 0, "none")

    s = server()
    work()
    first = took()
    assert first["count"] == 2 and first["sum"] > 0
    s("CONFIG", "SET", "latency-tracking", "no")
    work()
    assert took() == first
    s("CONFIG", "SET", "latency-tracking", "yes")
    assert took() == first
    work()
    second = took()
    assert second["count"] == 4 and first["sum"] < second["sum"]
    s("CONFIG", "SET", "latency-tracking", "no")
    s("CONFIG", "RESETSTAT")
    work()
    assert took() == {"count": 0, "sum": 0}


def test_how_late_writes_of_others_are_visible(cluster):
    from prometheus_client.parser import text_string_to_metric_families

    a, b, _ = cluster(3)
    b("SET", "k", "v")
    b("CRDT.SYNC")
    x = {x["replica"]: x for x in json.loads(ask(a, "/stats")[2])["staleness"]}["b"]
    assert x["ops"] >= 1 and 0 <= x["p50_ms"] <= x["p999_ms"] <= x["max_ms"]
    families = {f.name: f for f in text_string_to_metric_families(ask(a, "/metrics")[2])}
    late = [m for m in families["crdt_redis_visibility_delay_seconds"].samples
            if m.labels["replica"] == "b"]
    assert [m.value for m in late if m.name.endswith("_count")] >= [x["ops"]]
    assert [m.value for m in late if m.name.endswith("_bucket")][-1] >= x["ops"]
    assert {m.labels["replica"]: m.value for m in
            families["crdt_redis_visibility_predicted_ops"].samples}["b"] == 0


def test_what_clients_listen_to_and_which_scripts_there_are_is_counted(server):
    from prometheus_client.parser import text_string_to_metric_families

    s = server()
    s("EVAL", "return 1", 0)
    s("FUNCTION", "LOAD", "#!lua name=l\n"
      "redis.register_function('f', function() end) redis.register_function('g', function() end)")
    s("SET", "k", "v")
    listener, reader = s.connect(resp=3), s.connect(resp=3)
    for what in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
        listener(what, "one")
    reader("CLIENT", "TRACKING", "ON"), reader("GET", "k")
    found = {f.name.removeprefix("crdt_redis_"): f.samples[0].value
             for f in text_string_to_metric_families(ask(s, "/metrics")[2]) if f.samples}
    ones = ("pubsub_clients", "pubsub_channels", "pubsub_patterns", "pubsub_shard_channels",
            "tracking_clients", "tracking_keys", "tracking_items", "cached_scripts", "libraries")
    assert {name: found[name] for name in ones} == dict.fromkeys(ones, 1)
    zeros = ("tracking_prefixes", "evicted_clients", "evicted_scripts", "pubsub_messages_sent",
             "pubsub_messages_received", "pubsub_messages_dropped")
    assert {name: found[name] for name in zeros} == dict.fromkeys(zeros, 0)
    assert found["functions"] == 2 and found["script_memory_bytes"] > 10_000


def test_what_users_were_refused_is_counted(server):
    s = server()
    s("ACL", "SETUSER", "u", "on", ">p", "~a", "&a", "+get", "+publish")
    with s.connect() as c:
        for words, times in ((("AUTH", "u", "wrong"), 1), (("AUTH", "u", "p"), 0),
                             (("SET", "a", "v"), 2), (("GET", "b"), 3), (("PUBLISH", "b", "m"), 4)):
            for _ in range(times):
                with pytest.raises(ReplyError):
                    c(*words)
            if not times:
                c(*words)
    text = ask(s, "/metrics")[2]
    for what, n in ("auth", 1), ("cmd", 2), ("key", 3), ("channel", 4):
        assert f"\ncrdt_redis_acl_access_denied_{what}_total {n}.0\n" in text


def test_the_configuration_is_shown_and_changed(server):
    s = server(auth_token="hush")
    found = json.loads(ask(s, "/config", token="hush")[2])
    assert (found["replica_id"] == "a" and found["auth_token"] == "********"
            and "hush" not in json.dumps(found))
    status, _, text = ask(s, "/config", "PATCH", {"sync_interval": "2s", "log_level": "debug",
                                                  "auth_token": "********"}, token="hush")
    assert status == 200 and json.loads(text)["sync_interval"] == "2s"
    for wrong, setting in (({"sync_interval": "soon"}, "sync_interval"),
                           ({"data_dir": "/x"}, "data_dir"), ({"no_such": 1}, "no_such")):
        status, _, text = ask(s, "/config", "PATCH", wrong | {"log_level": "warning"}, token="hush")
        assert status == 400 and json.loads(text)["faults"][0]["setting"] == setting
    # all or nothing
    assert json.loads(ask(s, "/config", token="hush")[2])["log_level"] == "debug"


@pytest.mark.parametrize("body, kind, status",
                         [(b"[", "application/json", 400), (b"[]", "application/json", 400),
                                                (b"{}", "text/plain", 415),
                                                (b" " * (2 << 20), "application/json", 413)])
def test_a_wrong_patch_is_refused(server, body, kind, status):
    found, _, text = ask(server(), "/config", "PATCH", body, kind=kind)
    assert found == status and "error" in json.loads(text)


def test_the_token_guards_everything_but_health(server):
    s = server(auth_token="open-sesame")
    assert ask(s, "/health")[0] == 200
    for path in ("/stats", "/metrics", "/config", "/nothing"):
        assert ask(s, path)[0] == ask(s, path, token="wrong")[0] == 401
    assert ask(s, "/replication/push", "POST", b"", kind="application/x-crdt-redis")[0] == 401
    assert (ask(s, "/stats", token="open-sesame")[0] == 200
            and ask(s, "/nothing", token="open-sesame")[0] == 404)
    assert "/health" in ask(s, "/", token="open-sesame")[2]
    assert ask(s, "/stats", "DELETE", token="open-sesame")[0] == 405


def test_tokens_of_fewer_rights(server):
    s = server(auth_token="peer", operator_token="operator", metrics_token="metrics")
    for request, *statuses in (         # without one, with a wrong one, with each
            (["/metrics"], 401, 401, 403, 200, 200), (["/stats"], 401, 401, 403, 200, 200),
            (["/config"], 401, 401, 403, 403, 200), (["/backup"], 401, 401, 403, 403, 200),
            (["/nothing"], 401, 401, 403, 403, 404),
            (["/config", "PATCH", {}], 401, 401, 403, 403, 200),
            (["/stats", "POST", {}], 401, 401, 403, 403, 405),
            (["/replication/push", "POST", b""], 401, 401, 400, 403, 403)):
        for token, status in zip((None, "wrong", "peer", "metrics", "operator"), statuses,
                                 strict=True):
            assert ask(s, *request, token=token)[0] == status, (request, token)
    assert ask(s, "/health")[0] == 200
    text = ask(s, "/config", token="operator")[2]
    assert json.loads(text)["metrics_token"] == "********"
    # without a token for operators that of peers opens all
    s = server(auth_token="peer", metrics_token="metrics")
    assert (ask(s, "/config", token="peer")[0], ask(s, "/stats", token="peer")[0],
            ask(s, "/stats", token="metrics")[0], ask(s, "/config", token="metrics")[0]) == (
                200, 200, 200, 403)


def test_an_engine_that_does_not_reply_is_a_reason(server):
    s = server(enable_debug_command="local")
    # replication and HTTP start a moment after the first PONG
    until(lambda: ask(s, "/health")[0] == 200)
    with s.connect() as c:
        c.send("DEBUG", "SLEEP", "6")
        until(lambda: "did not reply" in ask(s, "/health")[2])
        c.read()
    assert ask(s, "/health")[0] == 200


class SlowStart(Server):
    """Its log takes as long to load as the file `wait` is there."""

    CODE = """if True:
        import os, sys, time
        import crdtredis.server as server
        real = server.recovery
        def slow(*args):
            while os.path.exists("wait"):
                time.sleep(0.01)
                yield 0, 1
            return (yield from real(*args))
        server.recovery = slow
        from crdtredis.cli import main
        sys.exit(main(sys.argv[1:]))"""

    def command(self):
        (self.directory / "wait").touch()
        return [sys.executable, "-c", self.CODE, *super().command()[len(executable()):]]


def test_health_replies_while_the_log_is_loaded(processes):
    s, peer = SlowStart("a"), Server("b")
    peer.peers, s.peers = [s.address], [peer.address]
    peer.start()
    s.start(wait=False)
    status, headers, text = until(lambda: ask(s, "/health"))
    assert (status == 503 and json.loads(text) == {"status": "failing",
                                                   "reasons": ["loading the log"], "warnings": []})
    assert headers["Content-Type"] == "application/json" and headers["Server"] == "crdt-redis"
    for path in ("/stats", "/config", "/metrics"):
        assert ask(s, path)[0] == 503
    # the peer is told why
    until(lambda: "loading" in "".join(json.loads(ask(peer, "/health")[2])["warnings"]))
    (s.directory / "wait").unlink()
    until(lambda: ask(s, "/health")[0] == 200)
    peer("SET", "k", "v")
    peer("CRDT.SYNC")
    assert s("GET", "k") == b"v"


class SlowReplication(SlowStart):
    """What replication and HTTP are made of takes as long to load as the file `wait` is there."""

    CODE = """if True:
        import os, sys, time
        from crdtredis.server import Server
        real = Server._load_replication
        def slow(self):
            while os.path.exists("wait"):
                time.sleep(0.01)
            real(self)
        Server._load_replication = slow
        from crdtredis.cli import main
        sys.exit(main(sys.argv[1:]))"""


def test_clients_are_served_before_replication_is_loaded_and_what_they_wrote_is_replicated(
        processes):
    s, peer = SlowReplication("a"), Server("b")
    peer.peers, s.peers = [s.address], [peer.address]
    peer.start()
    s.start()
    assert s("SET", "early", "v") == b"OK" and s("GET", "early") == b"v"
    (s.directory / "wait").unlink()
    with s.connect() as c:
        # in one loop iteration: waits for it
        assert c.pipeline([["SET", "late", "v"], ["CRDT.SYNC"]])[0] == b"OK"
    until(lambda: peer("MGET", "early", "late") == [b"v", b"v"])
    assert until(lambda: ask(s, "/health"))[0] == 200


def test_a_start_that_fails_while_loading_ends(processes):
    s = SlowStart("a")
    s.data_dir.mkdir()
    s.start(wait=False)
    assert until(lambda: ask(s, "/health"))[0] == 503
    s.process.terminate()
    assert s.process.wait(20) == 0

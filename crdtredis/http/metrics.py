"""Metrics for Prometheus, made at each scrape from one look at the server (info.collect), so that
nothing is counted twice or kept.

Counters end in _total, times are seconds, sizes bytes. A registry of our own: the process's default
one stays as it is.
"""
from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily,
                                    InfoMetricFamily, Metric)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from crdtredis import staleness
from crdtredis.commands.table import COMMANDS

if TYPE_CHECKING:
    from crdtredis.info import Fields
    from crdtredis.replication.peer import PeerInfo

PREFIX = "crdt_redis_"
OPENMETRICS = "application/openmetrics-text"
ACCEPT_MOST = 1024                      # bytes of the header that are looked at

# name -> (section of INFO, field, help)
GAUGES = {
    "uptime_seconds": ("server", "uptime_in_seconds", "Time since the start"),
    "connected_clients": ("clients", "connected_clients", "Client connections"),
    "blocked_clients": ("clients", "blocked_clients", "Clients that wait for a deferred reply"),
    "pubsub_clients": ("clients", "pubsub_clients", "Clients that listen to something"),
    "pubsub_channels": ("stats", "pubsub_channels", "Channels that somebody listens to"),
    "pubsub_patterns": ("stats", "pubsub_patterns", "Patterns that somebody listens to"),
    "pubsub_shard_channels": ("stats", "pubsubshard_channels",
                              "Shard channels that somebody listens to"),
    "tracking_clients": ("clients", "tracking_clients", "Clients that cache what they read"),
    "tracking_keys": ("stats", "tracking_total_keys", "Keys that they are to hear of"),
    "tracking_items": ("stats", "tracking_total_items", "Readers of those keys together"),
    "tracking_prefixes": ("stats", "tracking_total_prefixes",
                          "Prefixes of keys that clients are to hear of"),
    "cached_scripts": ("memory", "number_of_cached_scripts", "Scripts of EVAL in the cache"),
    "libraries": ("memory", "number_of_libraries", "Libraries of functions"),
    "functions": ("memory", "number_of_functions", "Functions in them"),
    "script_memory_bytes": ("memory", "used_memory_vm_total",
                            "Memory of Lua, of scripts and functions"),
    "memory_used_bytes": ("memory", "used_memory", "Memory of the keyspace"),
    "memory_limit_bytes": ("memory", "maxmemory", "max_memory; 0: no limit"),
    "memory_resident_bytes": ("memory", "used_memory_rss", "Resident memory of the process"),
    "loading": ("persistence", "loading", "1 while the log is read at the start"),
    "known_actors": ("crdt", "known_actors",
                     "Actors in the clock: of each replica one per boot, or container, that wrote"),
    "checkpoint_in_progress": ("persistence", "rdb_bgsave_in_progress",
                               "1 while a checkpoint is made"),
    "checkpoint_bytes": ("persistence", "checkpoint_bytes", "Size of the newest checkpoint"),
    "checkpoint_time_seconds": ("persistence", "checkpoint_time",
                                "Unix time of the newest checkpoint; 0: there is none"),
    "checkpoint_duration_seconds": ("persistence", "rdb_last_bgsave_time_sec",
                                    "How long the last one took; -1: none was made"),
    "disk_low": ("persistence", "disk_low",
                 "1 while less than disk_free_warning is free where the data directory is"),
    "log_kept_segments": ("persistence", "log_kept_segments",
                          "Superseded segments that are kept for peers"),
    "log_kept_bytes": ("persistence", "log_kept_bytes", "Bytes of them"),
    "followers": ("persistence", "followers", "Who follows the log (backup --follow)"),
    "followers_lag_bytes": ("persistence", "followers_lag_bytes",
                            "Bytes of the log that the last of them has not been sent"),
    "followers_lag_seconds": ("persistence", "followers_lag_seconds",
                              "For how long the last of them has not been sent all"),
    "log_pins": ("persistence", "log_pins", "Readers that keep the log from their position on"),
    "waiting_ops": ("crdt", "waiting_ops", "Received operations that wait for what they depend on"),
    "held_ops": ("crdt", "ops_held_for_clock_skew",
                 "Operations held because they are stamped too far ahead of this clock"),
    "stamps_ahead_seconds": ("crdt", "stamps_ahead_seconds",
                             "How far the stamps here are ahead of the clock"),
    "writes_refused_for_clock": ("crdt", "writes_refused_for_clock",
                                 "1 while that is more than max_clock_skew, and writes are "
                                 "refused"),
    "tombstones": ("crdt", "tombstones",
              "Counter entries cancelled and kept until their actor is known to have seen it"),
    "full_sync_in_progress": ("replication", "full_sync_in_progress",
                              "1 while the state of a peer is taken in"),
    "differing_peers": ("replication", "differing_peers",
                        "Peers whose data differed when they were last compared"),
    "mirror_up": ("mirror", "mirror_up", "1 while the mirror is followed"),
    "mirror_lag_seconds": ("mirror", "mirror_lag_seconds",
                           "For how long the oldest change has not been at the mirror"),
    "mirror_queued": ("mirror", "mirror_queued", "Keys and members that it lacks, as listed"),
    "mirror_given_up": ("mirror", "mirror_given_up", "Values that it did not take"),
    "full_syncs_giving": ("replication", "full_syncs_giving",
                          "Peers that are being given the state of this replica"),
    "full_sync_last_seconds": ("replication", "full_sync_last_seconds",
                               "Time that the last full sync took here; -1: there was none"),
}
COUNTERS = {
    "connections": ("stats", "total_connections_received", "Connections accepted"),
    "connections_rejected": ("stats", "rejected_connections",
                             "Connections refused for max_connections"),
    "tls_handshakes": ("stats", "tls_handshakes", "TLS handshakes of clients"),
    "tls_handshakes_failed": ("stats", "tls_handshakes_failed",
                              "Those that failed, or took too long"),
    "tls_errors": ("stats", "tls_errors", "TLS connections that an error ended after that"),
    **{f"acl_access_denied_{what}": ("stats", f"acl_access_denied_{what}", help_text)
       for what, help_text in (("auth", "Passwords that were wrong"),
                               ("cmd", "Commands refused to users without the right to them"),
                               ("key", "Those refused for a key"),
                               ("channel", "Those refused for a channel"),
                               ("tls_cert", "Certificates of clients that name no user"))},
    "commands": ("stats", "total_commands_processed", "Commands executed"),
    "network_input_bytes": ("stats", "total_net_input_bytes", "Bytes read from clients"),
    "network_output_bytes": ("stats", "total_net_output_bytes", "Bytes sent to clients"),
    "keyspace_hits": ("stats", "keyspace_hits", "Reads that found their key"),
    "keyspace_misses": ("stats", "keyspace_misses", "Reads that did not"),
    "expired_keys": ("stats", "expired_keys", "Keys removed because their deadline passed"),
    "expired_subkeys": ("stats", "expired_subkeys", "Fields of hashes removed likewise"),
    "evicted_keys": ("stats", "evicted_keys", "Keys evicted here, at max_memory"),
    "evicted_clients": ("stats", "evicted_clients",
                        "Clients closed because all took more than maxmemory_clients"),
    "evicted_scripts": ("stats", "evicted_scripts", "Scripts that made room for newer ones"),
    "pubsub_messages_sent": ("stats", "pubsub_messages_sent", "Messages sent to other replicas"),
    "pubsub_messages_received": ("stats", "pubsub_messages_received",
                                 "Messages of other replicas"),
    "pubsub_messages_dropped": ("stats", "pubsub_messages_dropped",
                                "Messages between replicas that were dropped"),
    "checkpoints": ("persistence", "rdb_saves", "Checkpoints made"),
    "checkpoints_failed": ("persistence", "checkpoints_failed", "Checkpoints that failed"),
    "log_removed_segments": ("persistence", "log_removed_segments",
                             "Segments removed because checkpoints made them superfluous"),
    "followers_outrun": ("persistence", "followers_outrun",
                         "Followers that were too slow: the log had gone before they had it"),
    "own_ops": ("crdt", "own_ops", "Operations of this process"),
    "applied_ops": ("crdt", "applied_ops", "Operations of all replicas in the clock"),
    "conflicts": ("crdt", "conflicts_decided", "Concurrent writes that had to be decided"),
    "mirror_sent": ("mirror", "mirror_sent", "Keys, deadlines and members sent to the mirror"),
    "mirror_sent_bytes": ("mirror", "mirror_sent_bytes", "Bytes of them"),
    "mirror_passes": ("mirror", "mirror_passes", "Times that all keys were sent"),
    "full_syncs_joined": ("replication", "full_syncs_joined",
                          "Times that the state of a peer was taken in"),
    "full_syncs_failed": ("replication", "full_syncs_failed", "Times that this failed"),
    "full_sync_received_bytes": ("replication", "full_sync_received_bytes", "Bytes of those"),
    "full_syncs_given": ("replication", "full_syncs_given",
                         "Times that the state of this replica was given to a peer"),
    "full_sync_given_bytes": ("replication", "full_sync_given_bytes", "Bytes of those"),
}
PEER_GAUGES = {
    "lag_ops": ("lag_ops", 1, "Own operations the peer has not acknowledged"),
    "lag_seconds": ("lag_ms", 1000, "Age of the oldest of them"),
    "queued_bytes": ("queued_bytes", 1,
                     "Bytes of the log from there on, as far as memory holds it"),
    "missing_ops": ("missing_ops", 1, "Operations the peer has and this replica has not"),
    "pushes_in_flight": ("in_flight", 1, "Requests under way"),
}
PEER_COUNTERS = {
    "sent_ops": ("ops_sent", "Operations sent, repeats included"),
    "sent_bytes": ("bytes_sent", "Bytes of them"),
    "received_ops": ("ops_received", "Operations fetched by pull"),
    "received_bytes": ("bytes_received", "Bytes of them"),
    "pushes": ("pushes", "Pushes replied to"),
    "pulls": ("pulls", "Pulls replied to with operations"),
    "anti_entropy_rounds": ("anti_entropy_rounds", "Anti-entropy rounds"),
    "relayed_ops": ("relayed", "Operations of third replicas relayed"),
    "handshakes": ("handshakes", "Handshakes begun"),
    "failures": ("failures", "Conversations that failed"),
    "full_syncs_needed": ("full_syncs", "Times the log no longer held what was lacking"),
}
STATES = ("connecting", "up", "not replying", "retrying", "down", "refused", "paused",
          "needs full sync", "full sync", "standby", "self")


@dataclass(frozen=True)
class Disk:
    """What the system says; segments may number thousands, so it is asked for in a thread of its
    own."""
    log_bytes: int
    segments: int
    free: int
    size: int
    open_files: int
    max_open_files: int


def look(folder: str) -> Disk:
    log_bytes = segments = 0
    with os.scandir(folder) as entries:
        for e in entries:
            if e.name.startswith("segment-"):
                try:
                    log_bytes += e.stat().st_size
                except FileNotFoundError:                       # removed meanwhile
                    continue
                segments += 1
    space = os.statvfs(folder)
    return Disk(log_bytes, segments, space.f_bavail * space.f_frsize,
                space.f_blocks * space.f_frsize, len(os.listdir("/proc/self/fd")) - 1,
                resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def family(command: str) -> str:
    """The group of a command, by its name in commandstats."""
    spec = COMMANDS.get(command.upper())
    return spec.group if spec is not None else "other"


class Snapshot:
    """A collector of one look."""

    def __init__(self, fields: dict[str, Fields], peers: Iterable[PeerInfo],
                 latencies: dict[str, tuple[list[int], int]], disk: Disk,
                 delays: dict[str, dict[str, Any]], ends: dict[str, float]) -> None:
        self.fields, self.peers, self.latencies, self.disk = fields, list(peers), latencies, disk
        self.delays, self.ends = delays, ends

    def collect(self) -> Iterable[Metric]:
        f = self.fields
        yield InfoMetricFamily(PREFIX + "server", "What is running", {
            "version": str(f["server"]["crdt_redis_version"]),
            "replica": str(f["crdt"]["replica_id"]), "cluster": str(f["crdt"]["cluster_name"]),
            "epoch": str(f["crdt"]["epoch"])})
        for name, (section, field, text) in GAUGES.items():
            yield GaugeMetricFamily(PREFIX + name, text, float(f[section].get(field, 0)))
        for name, (section, field, text) in COUNTERS.items():
            yield CounterMetricFamily(PREFIX + name, text, float(f[section].get(field, 0)))
        yield GaugeMetricFamily(PREFIX + "log_failed",
                                "1 while writes are refused because the log cannot be written",
                                float(f["persistence"]["aof_last_write_status"] != "ok"))
        yield from self.resources()
        yield from self.commands()
        yield from self.keyspace()
        yield from self.of_peers()
        yield from self.staleness()
        end = GaugeMetricFamily(PREFIX + "certificate_end_time_seconds",
                                "Unix time at which a certificate or a revocation list expires, by "
                                "the setting that names it", labels=["setting"])
        for name, at in self.ends.items():
            end.add_metric([name], at)
        yield end

    def resources(self) -> Iterable[Metric]:
        cpu = CounterMetricFamily(PREFIX + "cpu_seconds", "CPU time of the process",
                                  labels=["mode"])
        for mode, field in (("user", "used_cpu_user"), ("system", "used_cpu_sys")):
            cpu.add_metric([mode], float(self.fields["cpu"][field]))
        yield cpu
        for name, value, text in (
                ("log_bytes", self.disk.log_bytes, "Size of all segments of the log"),
                ("log_segments", self.disk.segments, "Segments of the log"),
                ("log_unsynced_bytes", self.fields["persistence"].get("log_unsynced_bytes", 0),
                 "Bytes of the log not forced to disk yet"),
                ("disk_free_bytes", self.disk.free, "Free space where the data directory is"),
                ("disk_size_bytes", self.disk.size, "Size of that file system"),
                ("open_files", self.disk.open_files, "File descriptors in use"),
                ("max_open_files", self.disk.max_open_files, "File descriptors allowed")):
            yield GaugeMetricFamily(PREFIX + name, text, float(value))

    def commands(self) -> Iterable[Metric]:
        calls = CounterMetricFamily(PREFIX + "command_calls", "Calls by command",
                                    labels=["command"])
        seconds = CounterMetricFamily(PREFIX + "command_seconds", "Time spent in a command",
                                      labels=["command"])
        failed = CounterMetricFamily(PREFIX + "command_failures",
                                     "Calls that were refused or ended in an error",
                                     labels=["command"])
        for field, text in self.fields["commandstats"].items():
            name, found = field.removeprefix("cmdstat_"), dict(part.split("=")
                                                               for part in text.split(","))
            calls.add_metric([name], float(found["calls"]))
            seconds.add_metric([name], float(found["usec"]) / 1e6)
            failed.add_metric([name], float(found["rejected_calls"]) + float(found["failed_calls"]))
        duration = HistogramMetricFamily(PREFIX + "command_duration_seconds",
                                         "How long commands took, by group of commands",
                                         labels=["family"])
        timed = defaultdict(list)
        for name, found in self.latencies.items():
            timed[family(name)].append(found)
        for of, commands in sorted(timed.items()):
            took = [sum(n) for n in zip(*(counts for counts, _ in commands))]
            duration.add_metric([of], [(f"{(1 << i) / 1e6:g}", float(sum(took[:i + 1])))
                                       for i in range(len(took) - 1)]
                                + [("+Inf", float(sum(took)))],
                                sum(usec for _, usec in commands) / 1e6)
        return calls, seconds, failed, duration

    def staleness(self) -> Iterable[Metric]:
        late = HistogramMetricFamily(PREFIX + "visibility_delay_seconds",
                                     "How late operations of a replica became visible here, by "
                                     "the clocks of both", labels=["replica"])
        predicted = GaugeMetricFamily(PREFIX + "visibility_predicted_seconds",
                                      "Within which 99.9 % of them are predicted to, or NaN",
                                      labels=["replica"])
        foretold = CounterMetricFamily(PREFIX + "visibility_predicted_ops",
                                       "Operations for which there was a prediction",
                                       labels=["replica"])
        within = CounterMetricFamily(PREFIX + "visibility_predicted_right",
                                     "Those that it held for", labels=["replica"])
        for replica, d in sorted(self.delays.items()):
            x = staleness.lag(replica, d)
            late.add_metric([replica], staleness.doublings(d["all"]), d["sum"] / 1e3)
            predicted.add_metric([replica], x["predicted_ms"] / 1e3
                                 if x["predicted_ms"] != staleness.NONE else float("nan"))
            foretold.add_metric([replica], float(x["foretold"]))
            within.add_metric([replica], float(x["within"]))
        return late, predicted, foretold, within

    def keyspace(self) -> Iterable[Metric]:
        keys = GaugeMetricFamily(PREFIX + "keys", "Live keys", labels=["db"])
        expiring = GaugeMetricFamily(PREFIX + "keys_expiring", "Live keys with a deadline",
                                     labels=["db"])
        for db, text in self.fields["keyspace"].items():
            found = dict(part.split("=") for part in text.split(","))
            keys.add_metric([db], float(found["keys"]))
            expiring.add_metric([db], float(found["expires"]))
        return keys, expiring

    def of_peers(self) -> Iterable[Metric]:
        state = GaugeMetricFamily(PREFIX + "peer_state", "1 for the state the peer is in",
                                  labels=["peer", "replica", "state"])
        for p in self.peers:
            for s in STATES:
                state.add_metric([p.url, p.replica, s], float(p.state == s))
        yield state
        for name, (field, unit, text) in PEER_GAUGES.items():
            gauge = GaugeMetricFamily(f"{PREFIX}peer_{name}", text, labels=["peer", "replica"])
            for p in self.peers:
                gauge.add_metric([p.url, p.replica], getattr(p, field) / unit)
            yield gauge
        for name, (field, text) in PEER_COUNTERS.items():
            counter = CounterMetricFamily(f"{PREFIX}peer_{name}", text, labels=["peer", "replica"])
            for p in self.peers:
                counter.add_metric([p.url, p.replica], float(getattr(p.counts, field)))
            yield counter


def wants_openmetrics(accept: str) -> bool:
    """Which of the two formats does a request ask for (RFC 9110, 12.5.1)? As Prometheus's own
    exporters have it: OpenMetrics in a version that we have, where that has the greatest weight."""
    weighed = []
    for part in accept[:ACCEPT_MOST].lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        given = dict(p.split("=", 1) for p in parameters if "=" in p)
        try:
            weight = float(given.get("q", "1"))
        except ValueError:
            continue
        if kind == OPENMETRICS and given.get("version", "1.0.0").strip('"') in ("1.0.0", "0.0.1"):
            weighed.append((weight, True))
        elif kind in ("text/plain", "text/*", "*/*"):
            weighed.append((weight, False))
    # of equal ones the first
    weight, found = max(weighed, key=lambda w: w[0], default=(0.0, False))
    return found and weight > 0


def render(fields: dict[str, Fields], peers: Iterable[PeerInfo],
           latencies: dict[str, tuple[list[int], int]], disk: Disk,
           delays: dict[str, dict[str, Any]], ends: dict[str, float],
           accept: str = "") -> tuple[bytes, str]:
    """(body, content type) of a scrape. latencies: Executor.latencies(), delays:
    info.delays(), ends: certificates.ends(). accept: the header of the request."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot(fields, peers, latencies, disk, delays, ends))
    if wants_openmetrics(accept):
        return openmetrics(registry), f"{OPENMETRICS}; version=1.0.0; charset=utf-8"
    return generate_latest(registry), "text/plain; version=0.0.4; charset=utf-8"

"""INFO: what a server says of itself, gathered from its parts.

Fields go by Redis's names wherever Redis has a field for the thing, so that dashboards and clients
find what they look for; what Redis has and this server has not is left out, or stands there with
the value it has in a Redis that does not use the thing (no RDB child, no replicas of the
master-replica kind). What is our own is in the section `crdt`.

Everything is read from an Executor. Its `server` may be None (tests, the simulation) and any part
of the server may be missing: what only that part knows is then left out or 0. Nothing is kept here
between two calls.

/stats (http/) is made from the same `collect`, as numbers rather than text.
"""
from __future__ import annotations

import hashlib
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from crdtredis import REDIS_VERSION, __version__, advice

DATABASES = 16
BEGUN = time.monotonic()               # of this process, nearly
STARTED = os.urandom(16).hex()         # names it

Fields = dict[str, Any]
SECTIONS: dict[str, Callable[[Any], Fields]] = {}
# What INFO, without arguments, leaves out.
ONLY_ALL = frozenset({"commandstats", "latencystats"})


def section(function: Callable[[Any], Fields]) -> Callable[[Any], Fields]:
    SECTIONS[function.__name__] = function
    return function


# Of a server without a log, in place of what storage.checkpoint tells.
NO_CHECKPOINTS = SimpleNamespace(in_progress=False, scheduled=False, made=0, failed=0, error=None,
                                 last_time=0, last_seconds=-1.0, seconds=-1.0, size=0, written=0)


class Parts(Protocol):
    """What INFO and the commands about the server reach of it; of a part that is not there, or not
    yet, None. Server has all of them, tests have some (SomeParts)."""

    config: Any                         # config.Config
    engine: Any                         # _engine.Loop: stats(), call_soon()
    log: Any                            # storage.segments.SegmentLog: status(), sync()
    checkpoints: Any                    # storage.checkpoint.Checkpoints
    retention: Any                      # storage.retention.Retention
    sync: Any                           # replication.service.Service
    last_save: int | None               # Unix time when the log was last forced to disk on request
    saves: Any                          # commands.server.Saves, made by the first who asks
    snapshots: Any                      # commands.snapshot.Snapshots, likewise
    mirror: Any                         # moving.mirror.Mirror
    followers: Any                      # storage.followers.Followers
    agreement: Any                      # replication.agreement.Agreement

    disk_free: int                      # bytes where the data directory is; -1: unknown
    disk_low: bool                      # less than disk_free_warning
    certificate_ends: dict[str, float]  # s since 1970, by setting: certificates.ends

    def stop(self, reason: str = "") -> None:
        """Begin an orderly stop."""


@dataclass
class SomeParts:
    """An executor without a server, or with only some parts of one."""
    config: Any = None
    engine: Any = None
    log: Any = None
    checkpoints: Any = None
    retention: Any = None
    sync: Any = None
    last_save: int | None = None
    saves: Any = None
    snapshots: Any = None
    mirror: Any = None
    followers: Any = None
    agreement: Any = None
    disk_free: int = -1
    disk_low: bool = False
    certificate_ends: dict[str, float] = field(default_factory=dict)


def parts(executor: Any) -> Parts:
    return executor.server if executor.server is not None else SomeParts()


def delays(executor: Any) -> dict[str, dict[str, Any]]:
    """Replica.delays(), without those of replicas that were removed from the cluster."""
    return {replica: d for replica, d in executor.replica.delays().items()
            if not is_removed(executor, replica)}


def advised(executor: Any) -> list[dict[str, Any]]:
    """advice.advice(), without what leads to replicas that were removed."""
    replica = executor.replica
    return [x for x in advice.advice(replica.meetings(advice.ALL), replica.origins())
            if not is_removed(executor, x.get("replica", ""))]


def is_removed(executor: Any, replica: str) -> bool:
    sync = parts(executor).sync
    return sync is not None and sync.registry.members.is_removed(replica)


def setting(executor: Any, name: str, default: Any) -> Any:
    config = parts(executor).config
    return getattr(config, name) if config is not None else default


def engine_stats(executor: Any) -> Fields:
    engine = parts(executor).engine
    return engine.stats() if engine is not None else {}


def human(n: float) -> str:
    """1536 -> 1.50K, as Redis writes sizes."""
    if n < 1024:
        return f"{int(n)}B"
    for unit in "KMGTP":
        n /= 1024
        if n < 1024 or unit == "P":
            return f"{n:.2f}{unit}"
    raise AssertionError


def status_kb(field: str) -> int:
    """A line of /proc/self/status in bytes: VmRSS, VmHWM."""
    try:
        with open("/proc/self/status", encoding="ascii") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def memory_limit(root: str = "/") -> int:
    """Bytes at which the kernel ends a process of this one's control group (a container's limit,
    systemd's MemoryMax=), of either version, or of one above; 0: none is to be seen."""
    limits = []
    with suppress(OSError):
        for line in Path(root, "proc/self/cgroup").read_text().splitlines():
            _, kinds, group = line.split(":", 2)
            if kinds and "memory" not in kinds.split(","):
                continue
            top = Path(root, "sys/fs/cgroup/memory" if kinds else "sys/fs/cgroup")
            # (A container may see a path that it does not have: its own is the topmost.)
            place = top / group.strip("/")
            for folder in (place, *place.parents[:len(place.parts) - len(top.parts)]):
                with suppress(OSError, ValueError):         # "max"
                    limits.append(int((folder / ("memory.limit_in_bytes" if kinds else
                                                 "memory.max")).read_text()))
    return min((x for x in limits if x < 1 << 60), default=0)


# What the process takes without data: interpreter, libraries and code. This module is imported
# before anything is loaded.
STARTUP_RSS = status_kb("VmRSS")


def run_id(replica: Any) -> str:
    """40 hex digits that name this process start, as Redis's do."""
    return hashlib.sha1(f"{replica.id}/{STARTED}".encode(), usedforsecurity=False).hexdigest()


def uptime() -> int:
    """Seconds since the start, whatever has become of the clock."""
    return int(time.monotonic() - BEGUN)


# ---- sections ------------------------------------------------------------------------------------

@section
def server(x: Any) -> Fields:
    replica = x.replica
    config = parts(x).config
    return {
        "redis_version": REDIS_VERSION, "crdt_redis_version": __version__,
        "redis_git_sha1": "00000000", "redis_git_dirty": 0,
        "redis_build_id": hashlib.sha1(__version__.encode(),
                                       usedforsecurity=False).hexdigest()[:16],
        "redis_mode": "standalone", "os": " ".join(os.uname()[i] for i in (0, 2, 4)),
        "arch_bits": 64,
        "monotonic_clock": "POSIX clock_gettime", "multiplexing_api": "epoll",
        "atomicvar_api": "c11-builtin", "gcc_version": platform.python_compiler().split()[-1],
        "python_version": platform.python_version(), "process_id": os.getpid(),
        "process_supervised": "systemd" if os.environ.get("NOTIFY_SOCKET") else "no",
        "run_id": run_id(replica),
        "tcp_port": setting(x, "server_port", 0) or setting(x, "tls_port", 0),
        "server_time_usec": replica.now * 1000,
        "uptime_in_seconds": uptime(),
        "uptime_in_days": uptime() // 86400, "hz": setting(x, "hz", 10),
        "configured_hz": setting(x, "hz", 10),
        "lru_clock": replica.now // 1000 % (1 << 24),
        "executable": os.path.abspath(sys.argv[0] or sys.executable),
        "config_file": os.path.abspath(config.file) if config is not None and config.file else "",
        "io_threads_active": int(engine_stats(x).get("threads_active", False)),
        **{f"{name}_days_left": int((end - time.time()) // 86400)
           for name, end in parts(x).certificate_ends.items()},
    }


@section
def clients(x: Any) -> Fields:
    engine = engine_stats(x)
    return {
        "connected_clients": engine.get("connected", 0), "cluster_connections": 0,
        "maxclients": setting(x, "max_connections", 0), "client_recent_max_input_buffer": 0,
        "client_recent_max_output_buffer": 0,
        "blocked_clients": engine.get("blocked", 0),
        "tracking_clients": x.tracking_stats()["clients"],
        "pubsub_clients": x.pubsub_stats()["clients"],
        "clients_in_timeout_table": engine.get("timeouts", 0),
        "total_blocking_keys": engine.get("waited_keys", 0),
        "total_blocking_keys_on_nokey": engine.get("read_keys", 0),
    }


def scripts(x: Any) -> dict[str, int]:
    """What the cache of scripts holds; nothing before the first script."""
    if x.scripts is None:
        return dict.fromkeys(("scripts", "text_bytes", "evicted", "vm_bytes"), 0)
    return x.scripts.stats()


def functions(x: Any) -> dict[str, int]:
    """What libraries are compiled; nothing before the first of them."""
    if x.functions is None:
        return dict.fromkeys(("libraries", "functions", "vm_bytes", "text_bytes"), 0)
    return x.functions.stats()


@section
def memory(x: Any) -> Fields:
    used = x.replica.stats()["memory"]
    rss, peak = status_kb("VmRSS"), status_kb("VmHWM")
    limit = setting(x, "max_memory", 0)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # used_memory is the keyspace: what max_memory limits. The peak is the process's, since the
    # kernel counts none. What beside the data and the process itself takes memory (buffers,
    # replication, gaps between allocations) is told as fragmentation.
    expected = used + STARTUP_RSS
    lua, libraries = scripts(x), functions(x)
    vms = lua["vm_bytes"] + libraries["vm_bytes"]
    texts = lua["text_bytes"] + libraries["text_bytes"]
    # as Redis has it with an allocator that says nothing of itself
    resident = max(rss - vms, used, 1)
    return {
        "used_memory": used, "used_memory_human": human(used), "used_memory_rss": rss,
        "used_memory_rss_human": human(rss),
        "used_memory_peak": peak, "used_memory_peak_human": human(peak),
        "used_memory_peak_perc": f"{100 * rss / peak if peak else 0:.2f}%",
        "used_memory_startup": STARTUP_RSS, "used_memory_overhead": 0, "used_memory_dataset": used,
        "used_memory_dataset_perc": "100.00%",
        "total_system_memory": total, "total_system_memory_human": human(total),
        "used_memory_vm_eval": lua["vm_bytes"], "used_memory_lua": lua["vm_bytes"],
        "used_memory_lua_human": human(lua["vm_bytes"]),
        "used_memory_scripts_eval": lua["text_bytes"], "number_of_cached_scripts": lua["scripts"],
        "number_of_functions": libraries["functions"],
        "number_of_libraries": libraries["libraries"],
        "used_memory_vm_functions": libraries["vm_bytes"], "used_memory_vm_total": vms,
        "used_memory_vm_total_human": human(vms), "used_memory_functions": libraries["text_bytes"],
        "used_memory_scripts": texts, "used_memory_scripts_human": human(texts),
        "maxmemory": limit,
        "maxmemory_human": human(limit),
        "maxmemory_policy": setting(x, "maxmemory_policy", "noeviction"),
        "allocator_allocated": used, "allocator_active": resident, "allocator_resident": resident,
        "allocator_frag_ratio": f"{resident / used if used else 0:.2f}",
        "allocator_frag_bytes": resident - used,
        "allocator_rss_ratio": "1.00", "allocator_rss_bytes": 0,
        "rss_overhead_ratio": f"{rss / resident:.2f}", "rss_overhead_bytes": rss - resident,
        "mem_fragmentation_ratio": f"{rss / expected if expected else 0:.2f}",
        "mem_fragmentation_bytes": max(0, rss - expected),
        "mem_not_counted_for_evict": 0, "mem_replication_backlog": 0, "mem_clients_slaves": 0,
        "mem_total_replication_buffers": 0, "mem_cluster_links": 0,
        "mem_clients_normal": engine_stats(x).get("client_memory", 0), "mem_aof_buffer": 0,
        "mem_allocator": "libc", "active_defrag_running": 0, "lazyfree_pending_objects": 0,
        "lazyfreed_objects": 0,
    }


# Checkpoints are made in slices, without another process.
NO_FORK = {"current_cow_peak": 0, "current_cow_size": 0, "current_cow_size_age": 0,
           "current_fork_perc": "0.00", "current_save_keys_processed": 0,
           "current_save_keys_total": 0, "aof_rewrites_consecutive_failures": 0}


@section
def persistence(x: Any) -> Fields:
    log, checkpoints = parts(x).log, parts(x).checkpoints
    made = checkpoints.status() if checkpoints is not None else NO_CHECKPOINTS
    out = {
        "loading": int(x.loading), "async_loading": 0, "rdb_changes_since_last_save": x.changes,
        "rdb_bgsave_in_progress": int(made.in_progress),
        "rdb_last_save_time": last_save(x), "rdb_last_bgsave_status": "err" if made.error else "ok",
        "rdb_last_bgsave_time_sec": round(made.last_seconds),
        "rdb_current_bgsave_time_sec": round(made.seconds),
        "rdb_saves": made.made, "rdb_last_cow_size": 0, "aof_enabled": int(log is not None),
        "aof_rewrite_in_progress": int(made.in_progress),
        "aof_rewrite_scheduled": int(made.scheduled),
        "aof_last_rewrite_time_sec": round(made.last_seconds),
        "aof_current_rewrite_time_sec": round(made.seconds),
        "aof_last_bgrewrite_status": "err" if made.error else "ok", "aof_rewrites": made.made,
        "aof_last_write_status": "err" if x.misconf else "ok", "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
        **NO_FORK, "rdb_last_load_keys_expired": 0, "rdb_last_load_keys_loaded": 0,
    }
    if x.misconf:
        out["aof_last_write_error"] = x.misconf
    if log is not None:
        status = log.status()
        out |= {"appendfsync": status.policy, "log_segment": status.segment,
                "log_segment_bytes": status.size, "log_unsynced_bytes": status.unsynced,
                "log_failures": status.failures, "log_syncs": status.syncs,
                "log_slowest_sync_ms": round(status.slowest_sync * 1000),
                "checkpoint_time": made.last_time, "checkpoint_bytes": made.size,
                "checkpoint_written_bytes": made.written, "checkpoints_failed": made.failed,
                "checkpoint_error": made.error or "",
                "disk_free_bytes": parts(x).disk_free, "disk_low": int(parts(x).disk_low)}
        # what a start would read
        since = 0 if checkpoints is None else log.bytes_since(checkpoints.position)
        out |= {"aof_current_size": made.size + max(since, 0), "aof_base_size": made.size,
                **dict.fromkeys(("aof_pending_rewrite", "aof_buffer_length",
                                 "aof_pending_bio_fsync", "aof_delayed_fsync"), 0)}
    if (retention := parts(x).retention) is not None:
        kept = retention.status()
        out |= {"log_first_segment": kept.first, "log_kept_segments": kept.kept,
                "log_kept_bytes": kept.kept_bytes, "log_removed_segments": kept.removed,
                "log_pins": kept.pins}
    if (followers := parts(x).followers) is not None and log is not None:
        lags = followers.lags(x.replica.now, log.bytes_since)
        out |= {"followers": len(lags),
                "followers_lag_bytes": max((f.bytes for f in lags), default=0),
                "followers_lag_seconds": max((f.ms for f in lags), default=0) / 1000,
                "followers_outrun": followers.outrun}
        out |= {f"follower{i}": ",".join(f"{k}={v}" for k, v in {
                    **f.fields(), "log_kept": int(f.kept), "lag_bytes": behind,
                    "lag_seconds": ms / 1000}.items())
                for i, (f, behind, ms) in enumerate(lags)}
    return out


def last_save(x: Any) -> int:
    """Unix time: the log is always saved, so what counts is the last time it was forced to disk on
    request, else the start."""
    at = parts(x).last_save
    return at if at is not None else x.replica.epoch // 1000


@section
def stats(x: Any) -> Fields:
    counts, engine, replica = x.stats(), engine_stats(x), x.replica.stats()
    pubsub, messages, sync = x.pubsub_stats(), x.message_stats(), parts(x).sync
    snapshots, eviction = parts(x).snapshots, x.eviction_stats()
    return {
        "total_connections_received": engine.get("accepted", 0),
        "total_commands_processed": counts["commands"],
        "instantaneous_ops_per_sec": int(engine.get("ops_per_second", 0)),
        "total_net_input_bytes": engine.get("net_in", 0),
        "total_net_output_bytes": engine.get("net_out", 0),
        "total_net_repl_input_bytes": peer_total(x, "bytes_received"),
        "total_net_repl_output_bytes": peer_total(x, "bytes_sent"),
        "instantaneous_input_kbps": f"{engine.get('in_per_second', 0) / 1024:.2f}",
        "instantaneous_output_kbps": f"{engine.get('out_per_second', 0) / 1024:.2f}",
        "rejected_connections": engine.get("rejected", 0),
        "tls_handshakes": engine.get("tls_handshakes", 0),
        "tls_handshakes_failed": engine.get("tls_failed", 0),
        "tls_errors": engine.get("tls_errors", 0), "sync_full": peer_total(x, "full_syncs"),
        "sync_partial_ok": peer_total(x, "pulls"),
        "sync_partial_err": 0, "expired_subkeys": replica["expired_fields"],
        "expired_keys": replica["expired"], "expired_stale_perc": "0.00",
        "expired_time_cap_reached_count": 0,
        "evicted_keys": eviction["evicted"],
        "total_eviction_exceeded_time": eviction["over_ms"],
        "current_eviction_exceeded_time": eviction["over_now_ms"],
        "evicted_clients": engine.get("evicted", 0),
        "evicted_scripts": scripts(x)["evicted"],
        "keyspace_hits": counts["hits"],
        "keyspace_misses": counts["misses"], "pubsub_channels": pubsub["channels"],
        "pubsub_patterns": pubsub["patterns"],
        "pubsubshard_channels": pubsub["shard_channels"],
        "pubsub_messages_sent": messages["sent"],
        "pubsub_messages_received": messages["received"],
        "pubsub_messages_dropped": messages["dropped"] + (sync.messages.dropped if sync else 0),
        "latest_fork_usec": snapshots.microseconds if snapshots else 0,
        "total_forks": snapshots.sent if snapshots else 0,
        "migrate_cached_sockets": 0, "slave_expires_tracked_keys": 0,
        "dump_payload_sanitizations": x.command_stats().get("restore", (0,))[0],
        **dict.fromkeys(("active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits",
                         "active_defrag_key_misses", "total_active_defrag_time",
                         "current_active_defrag_time", "expire_cycle_cpu_milliseconds",
                         "reply_buffer_shrinks", "reply_buffer_expands"), 0),
        "instantaneous_input_repl_kbps": "0.00", "instantaneous_output_repl_kbps": "0.00",
        **{f"tracking_total_{what}": x.tracking_stats()[what]
           for what in ("keys", "items", "prefixes")},
        "unexpected_error_replies": 0,
        "total_error_replies": counts["errors"],
        **{f"acl_access_denied_{what}": n for what, n in x.users.refused.items()},
        "total_reads_processed": engine.get("iterations", 0),
        "total_writes_processed": engine.get("iterations", 0),
        "io_threaded_reads_processed": engine.get("threaded_reads", 0),
        "io_threaded_writes_processed": engine.get("threaded_writes", 0),
        "client_query_buffer_limit_disconnections": engine.get("closed_query", 0),
        "client_output_buffer_limit_disconnections": engine.get("closed_output", 0),
        "clients_timed_out": engine.get("timed_out", 0),
    }


@section
def replication(x: Any) -> Fields:
    # The replication of Redis does not exist here. Clients read `role` to find out whether they may
    # write: they may.
    name = run_id(x.replica)
    return {
        "role": "master", "connected_slaves": 0, "master_failover_state": "no-failover",
        "master_replid": name,
        "master_replid2": "0" * 40, "master_repl_offset": 0, "second_repl_offset": -1,
        "repl_backlog_active": 0, "repl_backlog_size": 0,
        "repl_backlog_first_byte_offset": 0, "repl_backlog_histlen": 0,
        **full_syncs(x),
    }


def full_syncs(x: Any) -> Fields:
    """None before replication has started."""
    sync = parts(x).sync
    if sync is None:
        return {}
    f = sync.full_syncs()
    return {"full_sync_in_progress": int(bool(f.source)), "full_sync_from": f.source,
            "full_sync_phase": f.phase.replace(" ", "-"), "full_sync_bytes": f.bytes,
            "full_syncs_joined": f.joined, "full_syncs_failed": f.failed,
            "full_sync_received_bytes": f.received_bytes, "full_sync_last_bytes": f.last_bytes,
            "full_sync_last_seconds": round(f.last_seconds, 3),
            "full_sync_last_pause_ms": round(f.last_pause * 1000), "full_sync_error": f.error,
            "full_syncs_giving": f.giving, "full_syncs_given": f.given,
            "differing_peers": len(sync.verifier.differences()),
            "full_sync_given_bytes": f.given_bytes}


def ended_processes(x: Any) -> Fields:
    """Of which it is agreed, or being agreed, that nothing more can come (replication/ended.py)."""
    agreement = parts(x).agreement
    return {} if agreement is None else {
        "ended_processes_frozen": len(agreement.ended.own.last),
        "ended_processes_closed": len(agreement.closed),
        "ended_processes_wait_for": agreement.ended.waits_for}


@section
def crdt(x: Any) -> Fields:
    replica = x.replica
    stats, waiting, clock = replica.stats(), replica.pending(), replica.clock()
    peers = peer_infos(x)
    out: Fields = {
        "replica_id": replica.id, "epoch": replica.epoch,
        "cluster_name": setting(x, "cluster_name", ""),
        "own_ops": clock.get((replica.id, replica.epoch), 0), "applied_ops": sum(clock.values()),
        "known_actors": stats["actors"],
        "waiting_ops": waiting["ops"], "waiting_bytes": waiting["bytes"],
        "ops_held_for_clock_skew": waiting["held"],
        "stamps_ahead_seconds": max(0, (replica.newest_stamp >> 16) - replica.now) / 1000,
        "writes_refused_for_clock": int(replica.runs_ahead),
        "effects_applied": stats["changes"], "conflicts_decided": stats["conflicts"],
        "tombstones": stats["tombstones"], **ended_processes(x),
        "keys_with_deadline_state": stats["deadlines"], "peers": len(peers),
        "peers_up": sum(p.state == "up" for p in peers),
    }
    for i, (name, epoch, ops, ms) in enumerate(replica.held()):
        out[f"held{i}"] = f"replica={name},epoch={epoch},ops={ops},ahead_ms={ms - replica.now}"
    for i, p in enumerate(peers):
        out[f"peer{i}"] = (
            f"url={p.url},replica={p.replica},state={p.state.replace(' ', '-')},"
            f"lag_ops={p.lag_ops},lag_ms={p.lag_ms},queued_bytes={p.queued_bytes},"
            f"missing_ops={p.missing_ops},last_contact_ms={p.last_contact_ms},"
            f"calls_ms={p.calls_ms}"
            + f",certificate_ends={p.certificate_ends}" * (p.certificate_ends > 0))
    return out


def peer_infos(x: Any) -> list:
    sync = parts(x).sync
    return sync.peers() if sync is not None else []


def peer_total(x: Any, count: str) -> int:
    return sum(getattr(p.counts, count) for p in peer_infos(x))


@section
def mirror(x: Any) -> Fields:
    there = parts(x).mirror
    if there is not None:
        return there.fields()
    return {"mirror_state": "connecting" if setting(x, "redis_addr", "") else "off"}


@section
def cpu(x: Any) -> Fields:
    own, thread = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(
            resource.RUSAGE_THREAD)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "used_cpu_sys": f"{own.ru_stime:.6f}", "used_cpu_user": f"{own.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
        "used_cpu_sys_main_thread": f"{thread.ru_stime:.6f}",
        "used_cpu_user_main_thread": f"{thread.ru_utime:.6f}",
    }


@section
def modules(x: Any) -> Fields:
    return {}


@section
def commandstats(x: Any) -> Fields:
    return {f"cmdstat_{name}": f"calls={calls},usec={usec},"
                               f"usec_per_call={usec / calls if calls else 0:.2f},"
                               f"rejected_calls={rejected},failed_calls={failed}"
            for name, (calls, usec, rejected, failed) in x.command_stats().items()}


@section
def errorstats(x: Any) -> Fields:
    return {f"errorstat_{code}": f"count={n}" for code, n in x.error_stats().items()}


@section
def latencystats(x: Any) -> Fields:
    # From histograms, so each is the upper bound of a power of two.
    if not x.latency_tracking:
        return {}
    shown = [(f"{float(p):f}".rstrip("0").rstrip("."), float(p) / 100)
             for p in setting(x, "latency_tracking_info_percentiles", ("50", "99", "99.9"))]
    return {f"latency_percentiles_usec_{name}": ",".join(f"p{p}={percentile(took, part):.3f}"
                                                         for p, part in shown)
            for name, (took, _) in x.latencies().items()}


def percentile(took: list[int], part: float) -> float:
    """Microseconds within which that part of the calls was done; `took` as in
    Executor.latencies."""
    wanted, found = part * sum(took), 0
    for i, n in enumerate(took):
        found += n
        if n and found >= wanted:
            return float(1 << i)
    return 0.0


@section
def cluster(x: Any) -> Fields:
    return {"cluster_enabled": 0}


@section
def keyspace(x: Any) -> Fields:
    out = {}
    for db in range(DATABASES):
        live, _ = x.replica.keys(db)
        if live:
            expires, mean = x.replica.deadlines(db)
            out[f"db{db}"] = (f"keys={live},expires={expires},avg_ttl={mean},"
                              f"subexpiry={x.replica.subexpiring(db)}")
    return out


# ---- gathering -----------------------------------------------------------------------------------

def wanted(names: Iterable[str]) -> list[str]:
    """Which sections the arguments of INFO name, in INFO's order; unknown ones are passed over, as
    in Redis."""
    asked = {name.lower() for name in names} or {"default"}
    if asked & {"all", "everything"}:
        return list(SECTIONS)
    return [name for name in SECTIONS if name in asked
            or ("default" in asked and name not in ONLY_ALL)]


def collect(executor: Any, names: Iterable[str] = ("all",)) -> dict[str, Fields]:
    """{section: {field: value}}. Cost: O(peers + commands + connections), whatever the size of the
    data."""
    return {name: SECTIONS[name](executor) for name in wanted(names)}


def text(executor: Any, names: Iterable[str] = ()) -> str:
    """The reply of INFO."""
    return "\r\n".join(f"# {name.upper() if name in ('cpu', 'crdt') else name.title()}\r\n"
                       + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
                       for name, fields in collect(executor, names).items())

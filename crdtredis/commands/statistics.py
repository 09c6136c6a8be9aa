"""SLOWLOG, COMMANDLOG, MEMORY and LATENCY: where time and memory go.

The logs of commands are kept by the executor, and so are the histograms and events of LATENCY.
Memory figures are those of INFO; MEMORY USAGE is native and stands in objects.pyx.
"""
from crdtredis import info
from crdtredis._engine import COMMAND_LOGS
from crdtredis._resp import Simple, Verbatim
from crdtredis.commands.table import command
from crdtredis.commands.usage import container
from crdtredis.errors import (COMMANDLOG_TYPE, NO_SAMPLES, SLOWLOG_COUNT, WRONG_ARITY,
                              CommandError, integer)

OK = Simple("OK")


# ---- SLOWLOG -------------------------------------------------------------------------------------

container("SLOWLOG", "server", "2.2.12", "The log of slow commands.")


@command("SLOWLOG|GET [count]", arity=-2, flags="admin loading stale", group="server",
         since="2.2.12", complexity="O(N) with the entries answered",
         tips="nondeterministic_output request_policy:all_nodes",
         summary="The newest entries: id, time, microseconds, arguments, client's address and "
                 "name. -1: all.")
def slowlog_get(session, argv):
    if len(argv) > 3:
        raise CommandError(WRONG_ARITY % "slowlog|get")
    count = integer(argv[2], SLOWLOG_COUNT, -1) if len(argv) == 3 else 10
    return [list(entry) for entry in session.executor.slowlog(count)]


@command("SLOWLOG|LEN", arity=2, flags="admin loading stale", group="server", since="2.2.12",
         tips="nondeterministic_output request_policy:all_nodes response_policy:agg_sum",
         summary="The number of entries.")
def slowlog_len(session, argv):
    return len(session.executor.slowlog())


@command("SLOWLOG|RESET", arity=2, flags="admin loading stale", group="server", since="2.2.12",
         tips="request_policy:all_nodes response_policy:all_succeeded",
         summary="Removes all entries.")
def slowlog_reset(session, argv):
    session.executor.slowlog_reset()
    return OK


# ---- COMMANDLOG ----------------------------------------------------------------------------------

container("COMMANDLOG", "server", "8.1.0", "The logs of commands that cost much.")


def log_type(arg: bytes) -> int:
    found = COMMAND_LOGS.get(arg.decode("latin-1").lower())
    if found is None:
        raise CommandError(COMMANDLOG_TYPE)
    return found


def commandlog(synopsis: str, arity: int, tips: str, summary: str, complexity: str = "O(1)"):
    return command(f"COMMANDLOG|{synopsis} <SLOW | LARGE-REQUEST | LARGE-REPLY>", arity=arity,
                   flags="admin loading stale", group="server", since="8.1.0", tips=tips,
                   complexity=complexity, summary=summary)


@commandlog("GET count", 4, "request_policy:all_nodes nondeterministic_output",
            "The newest entries of a log: id, time, microseconds or bytes, arguments, client's "
            "address and name. -1: all.", "O(N) with the entries answered")
def commandlog_get(session, argv):
    count = integer(argv[2], SLOWLOG_COUNT, -1)
    return [list(entry) for entry in session.executor.slowlog(count, log_type(argv[3]))]


@commandlog("LEN", 3,
            "request_policy:all_nodes response_policy:agg_sum nondeterministic_output",
            "The number of entries of a log.")
def commandlog_len(session, argv):
    return len(session.executor.slowlog(-1, log_type(argv[2])))


@commandlog("RESET", 3, "request_policy:all_nodes response_policy:all_succeeded",
            "Removes all entries of a log.")
def commandlog_reset(session, argv):
    session.executor.slowlog_reset(log_type(argv[2]))
    return OK


# ---- MEMORY --------------------------------------------------------------------------------------

container("MEMORY", "server", "4.0.0", "Memory in use.")


@command("MEMORY|STATS", arity=2, group="server", since="4.0.0",
         tips="nondeterministic_output request_policy:all_shards response_policy:special",
         summary="What takes memory.")
def memory_stats(session, argv):
    m = info.memory(session.executor)
    used, rss, peak = m["used_memory"], m["used_memory_rss"], m["used_memory_peak"]
    counts = {db: session.replica.keys(db) for db in range(info.DATABASES)}
    keys = sum(live for live, _ in counts.values())
    return {
        "peak.allocated": peak, "total.allocated": used, "startup.allocated": info.STARTUP_RSS,
        "replication.backlog": 0, "clients.slaves": 0,
        "clients.normal": 0, "cluster.links": 0, "aof.buffer": 0, "lua.caches": 0,
        "functions.caches": 0,
        # A slot of the table is a word; tables are between three and seven eighths full.
        **{f"db.{db}": {"overhead.hashtable.main": elements * 8, "overhead.hashtable.expires": 0,
                        "overhead.hashtable.slot-to-keys": 0}
           for db, (live, elements) in counts.items() if elements},
        "overhead.total": 0, "keys.count": keys, "keys.bytes-per-key": used // keys if keys else 0,
        "dataset.bytes": used,
        "dataset.percentage": 100.0, "peak.percentage": 100.0 * rss / peak if peak else 0.0,
        "fragmentation": float(m["mem_fragmentation_ratio"]),
        "fragmentation.bytes": m["mem_fragmentation_bytes"],
    }


@command("MEMORY|DOCTOR", arity=2, group="server", since="4.0.0",
         tips="nondeterministic_output request_policy:all_shards response_policy:special",
         summary="Whether anything looks wrong with memory.")
def memory_doctor(session, argv):
    m = info.memory(session.executor)
    limit, used = m["maxmemory"], m["used_memory"]
    if limit and used > limit * 0.9 and m["maxmemory_policy"] != "noeviction":
        return Verbatim(f"The data takes {m['used_memory_human']} of the {m['maxmemory_human']} "
                        "that max_memory allows: keys are evicted, as maxmemory_policy says.\n")
    if limit and used > limit * 0.9:
        return Verbatim(f"The data takes {m['used_memory_human']} of the {m['maxmemory_human']} "
                        "that max_memory allows: writes will be refused.\n")
    return Verbatim("Nothing looks wrong with the memory of this server.\n")


@command("MEMORY|PURGE", arity=2, group="server", since="4.0.0",
         tips="request_policy:all_shards response_policy:all_succeeded",
         summary="Gives free memory back to the system.")
def memory_purge(session, argv):
    session.executor.replica.purge()
    return OK


@command("MEMORY|MALLOC-STATS", arity=2, group="server", since="4.0.0",
         tips="nondeterministic_output request_policy:all_shards response_policy:special",
         summary="Statistics of the allocator: there are none.")
def memory_malloc_stats(session, argv):
    return "Stats not supported for the current allocator"


# ---- LATENCY -------------------------------------------------------------------------------------

GRAPH_WIDTH, GRAPH_ROWS = 80, 4
container("LATENCY", "server", "2.8.13", "Latency events.")


def latency(synopsis: str, arity: int, summary: str, since: str = "2.8.13",
            tips="nondeterministic_output request_policy:all_nodes response_policy:special"):
    return command(f"LATENCY|{synopsis}", arity=arity, flags="admin noscript loading stale",
                   group="server", since=since, tips=tips, summary=summary)


def text(arg: bytes) -> str:
    return arg.decode("utf-8", "surrogateescape")


@latency("LATEST", 2, "The newest sample of each event, and the longest ever.")
def latency_latest(session, argv):
    return [[name, *samples[-1], longest]
            for name, (longest, samples) in session.executor.latency_events().items()]


@latency("HISTORY event", 3, "The newest 160 samples of an event, as seconds since 1970 and ms.")
def latency_history(session, argv):
    _, samples = session.executor.latency_events().get(text(argv[2]), (0, []))
    return [list(sample) for sample in samples]


@latency("RESET [event]...", -2, "Forgets samples; answers of how many events.",
         tips="request_policy:all_nodes response_policy:all_succeeded")
def latency_reset(session, argv):
    if len(argv) == 2:
        return session.executor.forget_latency()
    return session.executor.forget_latency([text(a).lower() for a in argv[2:]])


def age(seconds: int) -> str:
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def graph(name: str, longest: int, samples: list[tuple[int, int]], now: int) -> str:
    """A column for each sample, the age below it, read downwards. now: seconds since 1970."""
    low, high = min(ms for _, ms in samples), max(ms for _, ms in samples)
    lines = [f"{name} - high {high} ms, low {low} ms (all time high {longest} ms)",
             "-" * GRAPH_WIDTH]
    for part in [samples[i:i + GRAPH_WIDTH] for i in range(0, len(samples), GRAPH_WIDTH)]:
        # thirds of a row: 1 to 3 * GRAPH_ROWS
        heights = [1 + (ms - low) * (3 * GRAPH_ROWS - 1) // max(high - low, 1) for _, ms in part]
        for row in reversed(range(GRAPH_ROWS)):
            lines.append("".join(" _o#|"[min(max(h - 3 * row, 0), 4)] for h in heights))
        ages = [age(max(now - at, 0)) for at, _ in part]
        lines += ["", *("".join(a[i:i + 1] or " " for a in ages)
                        for i in range(max(map(len, ages))))]
    return "\n".join(line.rstrip() for line in lines) + "\n"


@latency("GRAPH event", 3, "The newest samples of an event as a graph.")
def latency_graph(session, argv):
    name = text(argv[2])
    found = session.executor.latency_events().get(name)
    if found is None:
        raise CommandError(NO_SAMPLES % name)
    return Verbatim(graph(name, *found, session.replica.now // 1000))


ADVICE = {
    "command": "see SLOWLOG GET; commands that go through whole collections or keyspaces are "
               "better split (SCAN, HSCAN, ranges), and huge keys removed in parts",
    "fast-command": "these take microseconds by themselves: the machine was busy, or the process "
                    "was not let run (virtual machine, swap, limits of CPU)",
    "command-unblocking": "commands that had waited for a key are slow themselves: see SLOWLOG GET",
    "expire-cycle": "many or huge keys expire at the same time: spread their deadlines",
    "aof-write": "the log could not be written at once: the disk is slow or shared; with "
                 "appendfsync always every iteration waits for it",
    "receive-ops": "large operations of other replicas are applied: look for what is written there",
}


@latency("DOCTOR", 2, "A report on latency.")
def latency_doctor(session, argv):
    events = session.executor.latency_events()
    threshold = info.setting(session.executor, "latency_monitor_threshold", 0)
    if not events:
        return Verbatim(f"No event has taken {threshold} ms or longer.\n" if threshold else
                        "Events are not sampled: CONFIG SET latency-monitor-threshold "
                        "<milliseconds> begins it.\n")
    lines = []
    for name, (longest, samples) in events.items():
        took = [ms for _, ms in samples]
        mean = sum(took) / len(took)
        deviation = sum(abs(ms - mean) for ms in took) / len(took)
        period = max(session.replica.now // 1000 - samples[0][0], 1) / len(took)
        lines += [f"{name}: {len(took)} samples, {mean:.0f} ms on average (mean deviation "
                  f"{deviation:.0f} ms), one in {period:.1f} s; the longest ever {longest} ms.",
                  f"  {ADVICE[name]}."]
    return Verbatim("\n".join(lines) + "\n")


@latency("HISTOGRAM [command]...", -2,
         "How many calls of the commands took up to 1, 2, 4 ... microseconds.", "7.0.0")
def latency_histogram(session, argv):
    wanted = {text(a).lower() for a in argv[2:]}
    out = {}
    for name, (took, _) in session.executor.latencies().items():
        if not wanted or name in wanted or name.partition("|")[0] in wanted:
            calls, bounds = 0, {}
            for i, n in enumerate(took):
                calls += n
                if n:
                    bounds[1 << i] = calls
            out[name] = {"calls": calls, "histogram_usec": bounds}
    return out

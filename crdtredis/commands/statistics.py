"""SLOWLOG, MEMORY and LATENCY: where time and memory go.

The slow log is kept by the executor, and so are the histograms of LATENCY HISTOGRAM. Memory figures
are those of INFO; MEMORY USAGE is native and stands in objects.pyx. Latency events are not sampled:
the rest of LATENCY answers as a Redis does whose latency monitor has seen nothing.
"""
from crdtredis import info
from crdtredis._resp import Simple, Verbatim
from crdtredis.commands.table import command
from crdtredis.commands.usage import container
from crdtredis.errors import NO_SAMPLES, SLOWLOG_COUNT, WRONG_ARITY, CommandError, integer

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

container("LATENCY", "server", "2.8.13", "Latency events.")


def latency(synopsis: str, arity: int, summary: str, since: str = "2.8.13",
            tips="nondeterministic_output request_policy:all_nodes response_policy:special"):
    return command(f"LATENCY|{synopsis}", arity=arity, flags="admin noscript loading stale",
                   group="server", since=since, tips=tips, summary=summary)


@latency("LATEST", 2, "The newest sample of each event: none.")
def latency_latest(session, argv):
    return []


@latency("HISTORY event", 3, "The samples of an event: none.")
def latency_history(session, argv):
    return []


@latency("RESET [event]...", -2, "Forgets samples; answers of how many events: 0.",
         tips="request_policy:all_nodes response_policy:all_succeeded")
def latency_reset(session, argv):
    return 0


@latency("DOCTOR", 2, "A report on latency.")
def latency_doctor(session, argv):
    return Verbatim("Latency events are not sampled by this server. See SLOWLOG GET for slow "
                    "commands and INFO commandstats for the mean "
                    "time of each command.\n")


@latency("GRAPH event", 3, "The samples of an event as a graph: none.")
def latency_graph(session, argv):
    raise CommandError(NO_SAMPLES % argv[2].decode("utf-8", "surrogateescape"))


@latency("HISTOGRAM [command]...", -2,
         "How many calls of the commands took up to 1, 2, 4 ... microseconds.", "7.0.0")
def latency_histogram(session, argv):
    wanted = {a.decode("utf-8", "surrogateescape").lower() for a in argv[2:]}
    out = {}
    for name, took in session.executor.latencies().items():
        if not wanted or name in wanted or name.partition("|")[0] in wanted:
            calls, bounds = 0, {}
            for i, n in enumerate(took):
                calls += n
                if n:
                    bounds[1 << i] = calls
            out[name] = {"calls": calls, "histogram_usec": bounds}
    return out

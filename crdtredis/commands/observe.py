"""Commands that look into the running server: SLOWLOG, MEMORY, LATENCY, DEBUG.

The slow log is kept by the executor, and so are the histograms of LATENCY HISTOGRAM. Memory figures
are those of INFO. Latency events are not sampled: the rest of LATENCY answers as a Redis does whose
latency monitor has seen nothing. MEMORY USAGE is native and stands in keys.pyx.
"""
import logging
import time
from math import inf

from crdtredis import info
from crdtredis._resp import Raw, Simple, Verbatim, encode_reply
from crdtredis.commands.table import command
from crdtredis.commands.usage import container
from crdtredis.kinds import is_loopback
from crdtredis.errors import (DEBUG_NOT_ALLOWED, DEBUG_PROTOCOL, DEBUG_RESP2, DEBUG_SLEEP,
                              DEBUG_SUBCOMMAND, NOT_FLOAT, NO_SAMPLES, SLOWLOG_COUNT, WRONG_ARITY,
                              CommandError, integer)

log = logging.getLogger("crdtredis.debug")
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


# ---- DEBUG ---------------------------------------------------------------------------------------

DEBUG_HELP = """\
DEBUG <subcommand> [<arg> ...]. Subcommands:
ERROR <text>
    Answers with this error: for tests of clients.
LOG <message>
    Writes the message to the log.
PROTOCOL <string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false>
    Answers with a value of this type: for tests of clients.
SET-ACTIVE-EXPIRE <0|1>
    Whether expired keys, which nobody sees, are removed.
SLEEP <seconds>
    Stands still for so long; fractions are allowed.
HELP
    This text."""
# DEBUG PROTOCOL: the values that Redis's answers with, since tests compare them. Of the last two,
# what comes before a reply in RESP3.
VALUES = {"string": "Hello World", "integer": 12345, "double": 3.141,
          "bignum": 1234567999999999999999999999999999999, "null": None, "array": [0, 1, 2],
          "set": {0, 1, 2}, "map": {0: False, 1: True, 2: False},
          "verbatim": Verbatim("This is a verbatim\nstring"), "true": True, "false": False}
ATTRIBUTE = (b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n",
             "Some real reply following the attribute")
PUSH = b">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n", "Some real reply following the push reply"


def debug_sleep(session, arg: bytes):
    try:
        seconds = float(arg)
    except ValueError:
        raise CommandError(NOT_FLOAT) from None
    if 3600 < seconds < inf:
        raise CommandError(DEBUG_SLEEP)
    if 0 < seconds < inf:                   # any other is no time at all, as in Redis
        time.sleep(seconds)
    return OK


def debug_set_active_expire(session, arg: bytes):
    engine = info.parts(session.executor).engine
    if engine is not None:
        engine.active_expire = arg != b"0"
    return OK


def debug_log(session, arg: bytes):
    log.warning("DEBUG LOG: %s", arg[:1024].decode("utf-8", "backslashreplace"))
    return OK


def debug_error(session, arg: bytes):
    raise CommandError(" ".join(arg.decode("utf-8", "surrogateescape").splitlines()))


def debug_protocol(session, arg: bytes):
    name = arg.decode("latin-1").lower()
    if name in VALUES:
        return VALUES[name]
    if name == "push" and session.resp < 3:
        raise CommandError(DEBUG_RESP2)
    if name not in ("attrib", "push"):
        raise CommandError(DEBUG_PROTOCOL % "|".join(VALUES))
    before, text = ATTRIBUTE if name == "attrib" else PUSH
    return Raw((before if session.resp >= 3 else b"") + encode_reply(text, session.resp))


def is_local(address: str) -> bool:
    """Is it that of a client on this machine, as CLIENT LIST shows it? Port 0 is that of a Unix
    socket."""
    host, _, port = address.rpartition(":")
    return port == "0" or is_loopback(host.strip("[]"))


DEBUG = {b"SLEEP": debug_sleep, b"SET-ACTIVE-EXPIRE": debug_set_active_expire, b"LOG": debug_log,
         b"ERROR": debug_error, b"PROTOCOL": debug_protocol}


@command("DEBUG subcommand [arg]...", arity=-2, flags="admin noscript loading stale",
         group="server", since="1.0.0", complexity="Depends on the subcommand",
         summary="For tests: lets the server stand still, keeps expired keys from being removed, "
                 "answers as it is told.")
def debug(session, argv):
    allowed = info.setting(session.executor, "enable_debug_command", "yes")
    if allowed == "no" or (allowed == "local" and not is_local(session.addr)):
        raise CommandError(DEBUG_NOT_ALLOWED)
    what = argv[1].upper()
    if what == b"HELP" and len(argv) == 2:
        return [Simple(line) for line in DEBUG_HELP.splitlines()]
    if what not in DEBUG or len(argv) != 3:
        shown = argv[1][:128].decode("utf-8", "replace")
        raise CommandError(DEBUG_SUBCOMMAND % (shown, len(argv) - 2))
    return DEBUG[what](session, argv[2])

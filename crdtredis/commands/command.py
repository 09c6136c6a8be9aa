"""COMMAND and its subcommands: the command table, told to clients.

Everything is derived from commands/table.py. Only what a registration does not say stands here:
what a command does to each of its keys (KEY_ACCESS; clients and proxies use it to route), hints for
cluster clients (TIPS), and how the arguments are written (USAGE in commands/usage.py, from which
redis-cli makes its hints).

`COMMAND INFO` is ten elements: name, arity, flags, first key, last key, step, access categories,
tips, key specifications, subcommands. In RESP3 the lists without an order are sets, and the
descriptions are maps.
"""
import functools

from crdtredis._resp import Raw, Simple, encode_reply
from crdtredis.commands import usage
from crdtredis.commands.keys import matches
from crdtredis.commands.table import COMMANDS, Spec, command
from crdtredis.errors import (INVALID_ARGUMENTS, INVALID_COMMAND, INVALID_NUMBER_OF_ARGUMENTS,
                              NO_KEY_ARGUMENTS, PATTERN_TOO_LONG, SYNTAX, CommandError)

PATTERN_MOST = 4096         # bytes of all patterns of one command

# Of commands that write: what becomes of the keys. (first, last relative to first or negative from
# the end, step) with flags; without positions, the registration's. Others: RO, or what "write"
# alone tells.
KEY_ACCESS: dict[str, list[tuple[tuple[int, int, int] | None, str]]] = {
    **dict.fromkeys(("GETSET", "GETEX", "INCR", "DECR", "INCRBY", "DECRBY", "INCRBYFLOAT", "SETBIT",
                     "MOVE", "HINCRBY",
                     "HINCRBYFLOAT", "ZINCRBY"), [(None, "RW access update")]),
    **dict.fromkeys(("SET", "BITFIELD"), [(None, "RW access update variable_flags")]),
    **dict.fromkeys(("SETEX", "PSETEX", "MSET", "RESTORE"), [(None, "OW update")]),
    **dict.fromkeys(("SETNX", "MSETNX"), [(None, "OW insert")]),
    **dict.fromkeys(("SETRANGE", "EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "PERSIST", "HSET",
                     "HMSET",
                     "LSET", "ZADD", "GEOADD"), [(None, "RW update")]),
    **dict.fromkeys(("HSETNX", "SADD", "LPUSH", "RPUSH", "LPUSHX", "RPUSHX", "LINSERT"),
                    [(None, "RW insert")]),
    **dict.fromkeys(("HDEL", "SREM", "LREM", "LTRIM", "ZREM", "ZREMRANGEBYRANK", "ZREMRANGEBYSCORE",
                     "ZREMRANGEBYLEX"), [(None, "RW delete")]),
    **dict.fromkeys(("DEL", "UNLINK"), [(None, "RM delete")]),
    **dict.fromkeys(("STRLEN", "EXISTS", "TYPE", "TOUCH", "WATCH", "MEMORY|USAGE",
                     "OBJECT|ENCODING", "OBJECT|FREQ", "OBJECT|IDLETIME",
                     "OBJECT|REFCOUNT", "HEXISTS", "HSTRLEN", "HLEN", "SCARD", "SISMEMBER", "LLEN",
                     "ZCARD"), [(None, "RO")]),
    **dict.fromkeys(("GETDEL", "SPOP", "LPOP", "RPOP", "ZPOPMIN", "ZPOPMAX", "BLPOP", "BRPOP",
                     "BZPOPMIN", "BZPOPMAX"), [(None, "RW access delete")]),
    "APPEND": [(None, "RW insert")],
    "BITOP": [((2, 0, 1), "OW update"), ((3, -1, 1), "RO access")],
    **dict.fromkeys(("SMOVE", "LMOVE", "RPOPLPUSH", "BLMOVE", "BRPOPLPUSH"),
                    [((1, 0, 1), "RW access delete"), ((2, 0, 1), "RW insert")]),
    "SINTERSTORE": [((1, 0, 1), "RW update"), ((2, -1, 1), "RO access")],
    **dict.fromkeys(("SUNIONSTORE", "SDIFFSTORE"),
                    [((1, 0, 1), "OW update"), ((2, -1, 1), "RO access")]),
    "ZRANGESTORE": [((1, 0, 1), "OW update"), ((2, 0, 1), "RO access")],
    "RENAME": [((1, 0, 1), "RW access delete"), ((2, 0, 1), "OW update")],
    "RENAMENX": [((1, 0, 1), "RW access delete"), ((2, 0, 1), "OW insert")],
    "COPY": [((1, 0, 1), "RO access"), ((2, 0, 1), "OW update")],
    "GEOSEARCHSTORE": [((1, 0, 1), "OW update"), ((2, 0, 1), "RO access")],
    **dict.fromkeys(("GEORADIUS", "GEORADIUSBYMEMBER", "SORT", "SORT_RO"),
                    [((1, 0, 1), "RO access")]),
    **dict.fromkeys(("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"), [((1, 0, 1), "OW update")]),
}

# Keys that are found in the arguments, beside those that KEY_ACCESS gives a place.
# The number of keys stands here, the keys behind it; and what becomes of them.
COUNTED_KEYS = {"LMPOP": (1, "RW access delete"),
                **dict.fromkeys(("SINTERCARD", "ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD"),
                                (1, "RO access")),
                "ZMPOP": (1, "RW access delete"),
                **dict.fromkeys(("BLMPOP", "BZMPOP"), (2, "RW access delete")),
                **dict.fromkeys(("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"), (2, "RO access"))}
# A key stands behind each of these words, looked for from there on.
KEYWORD_KEYS = {"GEORADIUS": (6, ("STORE", "STOREDIST"), "OW update"),
                "GEORADIUSBYMEMBER": (5, ("STORE", "STOREDIST"), "OW update")}
# Keys of which a specification cannot tell where they stand: what BY and GET find, and SORT's
# target, which STORE names wherever it stands.
UNKNOWN_KEYS = {"SORT": ("RO access", "OW update"), "SORT_RO": ("RO access",)}

# Where what becomes of the key depends on the call: "variable_flags".
VARIABLE = {
    "SET": lambda argv: "RW access update" if b"GET" in (a.upper() for a in argv[3:])
    else "OW update",
    "BITFIELD": lambda argv: "RW access update"
    if {a.upper() for a in argv[2:]} & {b"SET", b"INCRBY"} else "RO access",
}

_ALL, _NODES = "request_policy:all_shards", "request_policy:all_nodes"
TIPS: dict[str, str] = {
    **dict.fromkeys(("DEL", "UNLINK", "EXISTS", "TOUCH"),
                    "request_policy:multi_shard response_policy:agg_sum"),
    **dict.fromkeys(("FLUSHALL", "FLUSHDB", "PING"), f"{_ALL} response_policy:all_succeeded"),
    **dict.fromkeys(("TTL", "PTTL", "TIME", "LASTSAVE", "DUMP", "OBJECT|ENCODING", "OBJECT|FREQ",
                     "OBJECT|IDLETIME", "OBJECT|REFCOUNT"),
                    "nondeterministic_output"),
    **dict.fromkeys(("COMMAND", "COMMAND|LIST", "COMMAND|DOCS", "COMMAND|INFO", "FUNCTION|LIST",
                     "MODULE|LIST"), "nondeterministic_output_order"),
    **dict.fromkeys(("LATENCY|DOCTOR", "LATENCY|GRAPH", "LATENCY|HISTOGRAM", "LATENCY|HISTORY",
                     "LATENCY|LATEST"),
                    f"nondeterministic_output {_NODES} response_policy:special"),
    **dict.fromkeys(("MEMORY|DOCTOR", "MEMORY|MALLOC-STATS", "MEMORY|STATS"),
                    f"nondeterministic_output {_ALL} response_policy:special"),
    **dict.fromkeys(("CONFIG|SET", "LATENCY|RESET", "SLOWLOG|RESET"),
                    f"{_NODES} response_policy:all_succeeded"),
    **dict.fromkeys(("MEMORY|PURGE", "FUNCTION|FLUSH"), f"{_ALL} response_policy:all_succeeded"),
    **dict.fromkeys(("CLIENT|INFO", "CLIENT|LIST"), "nondeterministic_output"),
    "SLOWLOG|GET": f"nondeterministic_output {_NODES}",
    "SLOWLOG|LEN": f"nondeterministic_output {_NODES} response_policy:agg_sum",
    **dict.fromkeys(("HGETALL", "HKEYS", "HVALS", "SMEMBERS", "SINTER", "SUNION", "SDIFF"),
                    "nondeterministic_output_order"),
    **dict.fromkeys(("HRANDFIELD", "HSCAN", "SPOP", "SRANDMEMBER", "SSCAN", "ZRANDMEMBER", "ZSCAN"),
                    "nondeterministic_output"),
    "MSET": "request_policy:multi_shard response_policy:all_succeeded",
    "MSETNX": "request_policy:multi_shard response_policy:agg_min",
    "MGET": "request_policy:multi_shard",
    "SCAN": "nondeterministic_output request_policy:special",
    "KEYS": f"{_ALL} nondeterministic_output_order",
    "RANDOMKEY": f"{_ALL} nondeterministic_output",
    "DBSIZE": f"{_ALL} response_policy:agg_sum",
    "INFO": f"nondeterministic_output {_ALL} response_policy:special",
    "WAIT": f"{_ALL} response_policy:agg_min",
    "WAITAOF": f"{_ALL} response_policy:agg_min",
}


def find(name: bytes) -> Spec | None:
    return COMMANDS.get(name.decode("latin-1").upper())


def subcommands(spec: Spec) -> list[Spec]:
    return [s for s in COMMANDS.values() if s.container == spec.name]


def top_level() -> list[Spec]:
    return [s for s in COMMANDS.values() if s.container is None]


def key_access(spec: Spec) -> list[tuple[tuple[int, int, int], str]]:
    """((first, last, step), flags) for each group of keys with fixed places; last counts from
    first, or, negative, from the end of the command."""
    declared = KEY_ACCESS.get(spec.name)
    if not isinstance(spec.keys, tuple):
        return declared or []
    first, last, step = spec.keys
    whole = (first, last - first if last >= 0 else last, step)
    return [(at or whole, flags) for at, flags in declared
            or [(None, "RW access update" if "write" in spec.flags else "RO access")]]


def key_specs(spec: Spec) -> list[tuple[str, dict, dict]]:
    """Flags, where to begin, and what to find there, for each group of keys."""
    def index(at):
        return {"type": "index", "spec": {"index": at}}

    def span(last, step):
        return {"type": "range", "spec": {"lastkey": last, "keystep": step, "limit": 0}}

    out = [(flags, index(first), span(last, step)) for (first, last, step),
           flags in key_access(spec)]
    if spec.name in COUNTED_KEYS:
        at, flags = COUNTED_KEYS[spec.name]
        out.append((flags, index(at),
                    {"type": "keynum", "spec": {"keynumidx": 0, "firstkey": 1, "keystep": 1}}))
    if spec.name in KEYWORD_KEYS:
        start, words, flags = KEYWORD_KEYS[spec.name]
        out += [(flags, {"type": "keyword", "spec": {"keyword": word, "startfrom": start}},
                 span(0, 1)) for word in words]
    unknown = {"type": "unknown", "spec": {}}
    return out + [(flags, unknown, unknown) for flags in UNKNOWN_KEYS.get(spec.name, ())]


def access_of(spec: Spec, argv: list[bytes], positions: list[int]) -> list[str]:
    """What argv's command does to each of its keys."""
    access = {}
    for (first, last, step), flags in key_access(spec):
        end = len(argv) + last if last < 0 else first + last
        access.update(dict.fromkeys(range(first, end + 1, step), flags))
    found = (COUNTED_KEYS.get(spec.name) or KEYWORD_KEYS.get(spec.name)
             or UNKNOWN_KEYS.get(spec.name) or ("",))[-1]
    if spec.name in VARIABLE:
        access[positions[0]] = VARIABLE[spec.name](argv)
    return [access.get(i, found) for i in positions]


def simple_set(words) -> set:
    return {Simple(w) for w in words}


def describe(spec: Spec) -> list:
    """The ten elements of COMMAND INFO."""
    first, last, step = (spec.keys if isinstance(spec.keys, tuple) else (1, 1, 1)
                         if key_access(spec) else (0, 0, 0))
    specs = [{"flags": simple_set(flags.split()), "begin_search": begin, "find_keys": find}
             for flags, begin, find in key_specs(spec)]
    return [spec.name.lower(), spec.arity, simple_set(spec.redis_flags), first, last, step,
            simple_set("@" + c for c in spec.categories),
            TIPS.get(spec.name, "").split(), specs, [describe(s) for s in subcommands(spec)]]


def document(spec: Spec) -> dict:
    """COMMAND DOCS; "replicas" is our own: what concurrent replicas get."""
    out = {"summary": spec.summary, "since": spec.since, "group": spec.group,
           "complexity": spec.complexity}
    if spec.replicas:
        out["replicas"] = spec.replicas
    if arguments := usage.arguments(spec.name):
        out["arguments"] = arguments
    if under := subcommands(spec):
        out["subcommands"] = {s.name.lower(): document(s) for s in under}
    return out


@functools.cache
def told(how, spec: Spec, resp: int) -> Raw:
    """describe or document, as the bytes of the reply: they never change, and all of them together
    would hold the loop for 10 ms."""
    return Raw(encode_reply(how(spec), resp))


def keys_of(argv: list[bytes]) -> tuple[Spec, list[int]]:
    """The command that argv calls, and where its keys are."""
    spec = find(argv[0])
    if spec is not None and "container" in spec.flags and len(argv) > 1:
        spec = find(argv[0] + b"|" + argv[1]) or spec
    if spec is None:
        raise CommandError(INVALID_COMMAND)
    if spec.keys is None:
        raise CommandError(NO_KEY_ARGUMENTS)
    if len(argv) != spec.arity and (spec.arity > 0 or len(argv) < -spec.arity):
        raise CommandError(INVALID_NUMBER_OF_ARGUMENTS)
    positions = spec.key_positions(argv)
    if not positions:
        raise CommandError(INVALID_ARGUMENTS)
    return spec, positions


# ---- the commands --------------------------------------------------------------------------------

@command("COMMAND", arity=-1, flags="loading stale container", group="server", since="2.8.13",
         complexity="O(N) with the number of commands",
         summary="Describes every command.", categories="connection")
def command_all(session, argv):
    return [told(describe, s, session.resp) for s in top_level()]


def subcommand(name: str, arity: int, summary: str, since: str = "7.0.0"):
    return command(f"COMMAND|{name}", arity=arity, flags="loading stale", group="server",
                   since=since, summary=summary,
                   complexity="O(1)" if name in ("COUNT", "HELP")
                   else "O(N) with the number of commands", categories="connection")


@subcommand("COUNT", 2, "The number of commands.", "2.8.13")
def command_count(session, argv):
    return len(top_level())


@subcommand("INFO", -2, "Describes the named commands, or all.", "2.8.13")
def command_info(session, argv):
    if len(argv) == 2:
        return command_all(session, argv)
    return [told(describe, s, session.resp) if (s := find(name)) else None for name in argv[2:]]


@subcommand("DOCS", -2, "Documents the named commands, or all.")
def command_docs(session, argv):
    wanted = [s for name in argv[2:] if (s := find(name))] if len(argv) > 2 else top_level()
    return {s.name.lower(): told(document, s, session.resp) for s in wanted}


def check_patterns(patterns: list[bytes]) -> None:
    """Before they are compared with the names of commands or settings, which are short: what a
    pattern may cost grows with it."""
    if sum(map(len, patterns)) > PATTERN_MOST:
        raise CommandError(PATTERN_TOO_LONG)


@subcommand("LIST", -2, "The names of commands, filtered if asked for.")
def command_list(session, argv):
    if len(argv) == 2:
        return [s.name.lower() for s in COMMANDS.values()]
    if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
        raise CommandError(SYNTAX)
    by, what = argv[3].upper(), argv[4]
    if by == b"MODULE":
        return []
    if by == b"ACLCAT":
        return [s.name.lower() for s in COMMANDS.values()
                if what.lower().decode("latin-1") in s.categories]
    if by == b"PATTERN":
        check_patterns([what])
        return [s.name.lower() for s in COMMANDS.values()
                if matches(what, s.name.lower().encode(), True)]
    raise CommandError(SYNTAX)


@subcommand("GETKEYS", -3, "The keys among the arguments of a command.", "2.8.13")
def command_getkeys(session, argv):
    _, positions = keys_of(argv[2:])
    return [argv[2 + i] for i in positions]


@subcommand("GETKEYSANDFLAGS", -3,
            "The keys among the arguments of a command, and what it does to them.")
def command_getkeysandflags(session, argv):
    spec, positions = keys_of(argv[2:])
    return [[argv[2 + i], simple_set(flags.split())] for i,
            flags in zip(positions, access_of(spec, argv[2:], positions))]


@subcommand("HELP", 2, "Lists the subcommands.", "5.0.0")
def command_help(session, argv):
    return usage.help_lines("COMMAND")

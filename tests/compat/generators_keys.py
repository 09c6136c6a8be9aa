"""Random generic key and server commands: DEL, EXPIRE and TTL with their kin, KEYS and SCAN with
patterns, RENAME, COPY, MOVE, SWAPDB, OBJECT, and what of the server commands answers alike on two
servers."""
from __future__ import annotations

from tests.compat.words import BAD_INTEGERS, DATABASES, case, integer, key, text, value

SECONDS = ["100", "1000", "1000000", "9223372036"]
MILLISECONDS = ["100000", "1000000", "999999999", "9223372036854"]
DATES = ["4102444800", "33177117420"]
PAST = ["0", "-1", "-100000"]
BAD_TIMES = ["x", "", "1.5", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
             "9223372036854776", "-9223372036854776", " 1", "+1"]
DBS = [str(n) for n in range(DATABASES)]
BAD_DBS = ["16", "-1", "x", "", "99999999999", "99999999999999999999", "1.0", "2147483648"]
# Every byte of it is an edge of the pattern language, or stands in one of the keys.
ALPHABET = ["*", "?", "[", "]", "^", "-", "\\", "k", "n", "s", "e", "m", "{", "}", "t", "1", "2",
            "\0", "\xff", "\r", "a", "z"]
PATTERNS = ["*", "**", "?", "k*", "*s*", "{t}[12]", "{t}[^1]", "[a-n]", "[n-a]*", "n[0-9]",
            "*[^a-z]", "", "\\k", "[\\k]", "[k", "[", "m*s*i*g", "*m*p*y*",
            "bin*", "*\xff", "[\x80-\xff]", "*[\x80-\xff]", "n\\", "n2\\", "?*?*?"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def _keys(rng, name, most=4):
    return [name, *[key(rng) for _ in range(rng.choice([0] + [1] * 12 + [2] * 6 + [most] * 3))]]


def _expire(rng):
    name = rng.choice(["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"])
    x = rng.random()
    if x < 0.12:
        when = rng.choice(BAD_TIMES)
    elif x < 0.25:
        when = rng.choice(PAST + ["1000000000"] * name.endswith("AT"))
    elif name.endswith("AT"):
        when = rng.choice(DATES) + ("000" if name[0] == "P" else "")
    else:
        when = rng.choice(MILLISECONDS if name[0] == "P" else SECONDS)
    options = [case(rng, rng.choice(["NX", "XX", "GT", "LT"]))
               for _ in range(rng.choice([0, 0, 0, 1, 1, 1, 2, 3]))]
    if rng.random() < 0.05:
        options.append(rng.choice(["foo", "", "NXX", "EX", "o" * 200, "line\r\nbreak"]))
    return [name, key(rng), when, *options]


def pattern(rng):
    if rng.random() < 0.6:
        return rng.choice(PATTERNS).encode("latin-1")
    return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 6))).encode("latin-1")


def _scan(rng):
    out = ["SCAN", "0"]
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        out += rng.choice([lambda: ["MATCH", pattern(rng)],
                           lambda: ["COUNT",
                                    rng.choice(["1", "2", "10", "1000", "9223372036854775807"])],
                           lambda: ["TYPE",
                                    rng.choice(["string", "STRING", "list", "zset", "nosuch",
                                                ""])]])()
    if rng.random() < 0.15:
        out += rng.choice([["COUNT", "0"], ["COUNT", "-1"], ["COUNT", rng.choice(BAD_INTEGERS)],
                           ["COUNT"], ["MATCH"], ["TYPE"], ["FOO", "1"], ["x"]])
    if rng.random() < 0.08:
        out[1] = rng.choice(["x", " 0", "0 ", "18446744073709551616", "-x", "0x", "1.0"])
    return out


def _db(rng):
    return rng.choice(BAD_DBS) if rng.random() < 0.1 else rng.choice(DBS)


def _copy(rng):
    out = ["COPY", key(rng), key(rng)]
    for _ in range(rng.choice([0, 1, 1, 2])):
        out += rng.choice([lambda: [case(rng, "REPLACE")], lambda: [case(rng, "DB"), _db(rng)]])()
    if rng.random() < 0.05:
        out.append(rng.choice(["DB", "x", "", "REPLACED"]))
    return out


def _object(rng):
    # REFCOUNT and ENCODING depend on what the value went through (see differences.py), so only of
    # what was just set.
    return rng.choice([["OBJECT", "FREQ", key(rng)], ["OBJECT", "ENCODING"],
                       ["OBJECT", "ENCODING", "missing2"], ["OBJECT", "IDLETIME", "missing2"],
                       ["OBJECT", "REFCOUNT", "missing2"], ["OBJECT"],
                       ["OBJECT", "nosuch", key(rng)], ["OBJECT", "FREQ", key(rng), "x"],
                       ["OBJECT", "HELP", "x"], ["OBJECT", "line\r\nbreak"]])


def _server(rng):
    return rng.choice([
        ["WAIT", "0", "0"], ["WAIT", "0", "x"], ["WAIT", "x", "0"], ["WAIT", "0", "-1"], ["ROLE"],
        ["ROLE", "x"], ["TIME"], ["TIME", "x"], ["LASTSAVE", "x"],
        ["SLOWLOG", "GET", "x"], ["SLOWLOG", "GET", "-2"], ["SLOWLOG", "nosuch"], ["SLOWLOG"],
        ["SLOWLOG", "LEN", "x"],
        ["MEMORY", "USAGE", "missing2"], ["MEMORY", "USAGE", key(rng), "SAMPLES"],
        ["MEMORY", "USAGE", key(rng), "SAMPLES", "-1"],
        ["MEMORY", "USAGE", key(rng), "SAMPLES", "x"], ["MEMORY", "USAGE", key(rng), "x", "1"],
        ["MEMORY", "nosuch"], ["MEMORY", "PURGE", "x"],
        ["LATENCY", "LATEST"], ["LATENCY", "HISTORY", "nosuch"], ["LATENCY", "RESET", "nosuch"],
        ["LATENCY", "GRAPH", "nosuch"], ["LATENCY", "nosuch"],
        ["FUNCTION", "FLUSH"], ["FUNCTION", "FLUSH", "ASYNC"], ["FUNCTION", "FLUSH", "x"],
        ["FUNCTION", "LIST"], ["ACL", "WHOAMI"], ["ACL", "USERS"],
        ["ACL", "LIST"], ["ACL", "GETUSER", "nobody"], ["ACL", "CAT", "nosuch"], ["ACL", "nosuch"],
        ["READONLY"], ["READWRITE"], ["ASKING"],
        ["CLUSTER", "INFO"], ["CLUSTER"], ["SHUTDOWN", "nosuch"], ["SHUTDOWN", "SAVE", "NOSAVE"],
        ["SHUTDOWN", "ABORT"], ["SHUTDOWN", "ABORT", "NOW"],
        ["BGSAVE", "x"], ["BGSAVE", "SCHEDULE", "x"], ["SAVE", "x"], ["BGREWRITEAOF", "x"],
        ["CONFIG", "GET"], ["CONFIG", "GET", "nosuch*"], ["CONFIG", "GET", "save"],
        ["CONFIG", "GET", "SAVE"], ["CONFIG", "GET", "maxmemory", "timeout"],
        ["CONFIG", "GET", "maxmemory-p*"], ["CONFIG", "GET", "databases"],
        ["CONFIG", "SET", "nosuch", "1"], ["CONFIG", "SET", "maxmemory"],
        ["CONFIG", "SET", "hz", "10", "hz", "10"], ["CONFIG", "SET", "hz", "10", "nosuch", "x"],
        ["CONFIG", "SET", "databases", "5"], ["CONFIG", "nosuch"],
        ["CONFIG", "SET", "save", ""], ["CONFIG", "RESETSTAT", "x"],
    ])


def _getkeys(rng):
    call = rng.choice([["GET", "a"], ["MSET", "a", "1", "b", "2"], ["RENAME", "a", "b"],
                       ["COPY", "a", "b"], ["OBJECT", "ENCODING", "a"], ["PING", "x"],
                       ["nosuch", "x"], ["GET", "a", "b"], ["DEL", "a", "b", "c"],
                       ["BITOP", "AND", "d", "a", "b"], ["SET", "a", "1", "NX"],
                       ["EXPIRE", "a", "1"], ["KEYS", "*"], ["MEMORY", "USAGE", "a"],
                       ["MSETNX", "a", "1"], ["LCS", "a", "b", "LEN"],
                       ["GETDEL", "a"], ["APPEND", "a", "x"], ["SETRANGE", "a", "0", "x"]])
    return ["COMMAND", rng.choice(["GETKEYS", "GETKEYS", "GETKEYSANDFLAGS"]), *call]


COMMANDS = [
    lambda r: _keys(r, r.choice(["DEL", "UNLINK"])),
    lambda r: _keys(r, r.choice(["EXISTS", "TOUCH"])), lambda r: _keys(r, "TYPE", 2),
    _expire, _expire, _expire, _expire,
    lambda r: _keys(r, r.choice(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"]), 2),
    lambda r: _keys(r, r.choice(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"]), 2),
    lambda r: _keys(r, "PERSIST", 2),
    lambda r: ["KEYS", pattern(r)], lambda r: ["KEYS", pattern(r)], _scan, _scan,
    lambda r: ["RANDOMKEY"], lambda r: ["DBSIZE"],
    lambda r: ["RENAME", key(r), key(r)], lambda r: ["RENAME", key(r), key(r)],
    lambda r: ["RENAMENX", key(r), key(r)],
    _copy, _copy, lambda r: ["MOVE", key(r), _db(r)], lambda r: ["SWAPDB", _db(r), _db(r)],
    lambda r: ["FLUSHDB", *r.choice([[], ["ASYNC"], ["sync"], ["x"], ["SYNC", "x"]])]
    if r.random() < 0.2 else ["DBSIZE"],
    lambda r: ["FLUSHALL", *r.choice([[], ["ASYNC"], ["x"]])] if r.random() < 0.1
    else ["RANDOMKEY"],
    lambda r: ["SET", key(r), value(r)],
    lambda r: ["SET", key(r), text(r), "EX", r.choice(SECONDS)],
    lambda r: ["INCRBY", key(r), integer(r)],
    _object, _server, _getkeys,
]

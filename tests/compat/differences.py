"""Where the replies of crdt-redis may differ from those of redis-server 7.0, and why: the one list
that the differential tests obey.

`NOISE` holds replies that no two servers, not even two of Redis, give alike: they depend on time,
chance, memory layout or table order. Each has its own comparison, as strict as it can be.
`DIFFERENCES` holds what is different on purpose, with the reason; README quotes it (`python -m
tests.compat.differences` prints the table). A reply that is neither equal nor listed fails the
test.

A rule is asked with the command as sent (name in upper case) and the two raw replies.
"""
from __future__ import annotations

from dataclasses import dataclass
from collections.abc import Callable

from tests.commands import payloads
from tests.commands.run import Client
from tests.respclient import ReplyError, decode


@dataclass(frozen=True)
class Rule:
    # "GET", or "CLIENT ID" for a subcommand
    commands: tuple[str, ...]
    same: Callable[[tuple[bytes, ...], bytes, bytes], bool]          # argv, theirs, ours
    what: str
    reason: str


def _values(test):
    """A comparison of decoded replies of one and the same RESP kind; errors must be equal."""
    def same(argv, theirs, ours):
        if theirs[:1] == b"-" or ours[:1] == b"-" or theirs[:1] != ours[:1]:
            return theirs == ours
        return test(decode(theirs), decode(ours))
    return same


def _near(tolerance):
    def test(t, o):
        if isinstance(t, list):
            return len(t) == len(o) and all(map(test, t, o))
        return t == o if t is None or o is None or min(t, o) < 0 else abs(t - o) <= tolerance
    return _values(test)


def _pairs(x):
    return x if isinstance(x, dict) else dict(zip(x[::2], x[1::2]))


def _scan(t, o):
    """One call, as in EXEC: the same keys when both are at the end; else cursors and what lies
    before them are a server's own."""
    return (len(t) == len(o) == 2 and isinstance(t[1], list)
            and (t[0] != b"0" or o[0] != b"0" or sorted(t[1]) == sorted(o[1])))


def _flat(x):
    return [y for pair in x.items() for y in pair] if isinstance(x, dict) else x


def _field_values(flat):
    return sorted(zip(flat[::2], flat[1::2]))


def _hscan(t, o):
    return (len(t) == len(o) == 2 and isinstance(t[1], list)
            and (t[0] != b"0" or o[0] != b"0" or _field_values(t[1]) == _field_values(o[1])))


def _zscan(t, o):
    return (len(t) == len(o) == 2 and isinstance(t[1], list)
            and (t[0] != b"0" or o[0] != b"0" or _scores(_by_member(t[1]), _by_member(o[1]))))


def _by_member(flat):
    return [x for pair in _field_values(flat) for x in pair]


def _chosen(argv, theirs, ours):
    """A random choice: as many, or all that there are, when more than a sequence can have made were
    asked for."""
    def test(t, o):
        if t is None or o is None or not isinstance(t, list):
            return (t is None) == (o is None)
        return len(t) == len(o) and (len(argv[2]) < 4 or len(argv) > 3 or sorted(t) == sorted(o))
    return _values(test)(argv, theirs, ours)


def _scores(t, o):
    """Texts of the same numbers: 7.0 writes scores with 17 digits, 7.2 with as few as it takes, and
    each with an exponent elsewhere; a zero may have lost its sign."""
    if isinstance(t, list):
        return len(t) == len(o) and all(map(_scores, t, o))
    return (t == o
            or (isinstance(t, bytes)
                and (b"e" in o + t or len(o) < len(t) and (len(t) > 16 or t == b"-0"))
                and float(t) == float(o)))


def _as_many(argv, theirs, ours):
    """With COUNT and without ANY: as many, and of other places; distances are equal where they are
    told."""
    words = {a.upper() for a in argv}
    if b"COUNT" not in words or b"ANY" in words:
        return False
    def distance(x):
        return x[1] if b"WITHDIST" in words else b""
    return _values(lambda t,
                   o: [distance(x) for x in t] == [distance(x) for x in o])(argv, theirs, ours)


def _dumped(t, o):
    """The same value, as a replica of its own reads both payloads."""
    if t is None or o is None:
        return t == o
    c = Client()
    c("RESTORE", "theirs", 0, t)
    c("RESTORE", "ours", 0, o)
    return payloads.read(c, "theirs") == payloads.read(c, "ours")


def _xinfo(t, o):
    """All but how the tree is laid out, and of groups what the rules of XINFO GROUPS and CONSUMERS
    say."""
    t, o = _pairs(t), _pairs(o)
    groups = ([_group(g) for g in x[b"groups"]] if isinstance(x[b"groups"], list) else x[b"groups"]
              for x in (t, o))
    return list(t) == list(o) and next(groups) == next(groups) and all(
        t[k] == o[k] for k in t if not k.startswith(b"radix-tree") and k != b"groups")


def _group(g):
    g = _pairs(g)
    pel = [[i, owner, n] for i, owner, _, n in g[b"pending"]]
    rows = [(c[b"name"], c[b"pel-count"], [[i, n] for i, _, n in c[b"pending"]])
            for c in map(_pairs, g[b"consumers"]) if c[b"pel-count"]]
    return list(g), g[b"name"], g[b"last-delivered-id"], g[b"pel-count"], pel, rows


def _idle(at):
    """Rows but for their times, the at-th of each."""
    def rows(x):
        return [r[:at] + r[at + 1:] for r in x]
    return _values(lambda t, o: (rows(t) == rows(o)
                                 if t and isinstance(t[0], list) and len(t[0]) == 4 else t == o))


def _named(*names):
    """Rows of names and values: these are equal."""
    def rows(x):
        return [[_pairs(r)[n.encode()] for n in names] for r in x]
    return _values(lambda t, o: rows(t) == rows(o))


def _consumers(t, o):
    """By name what is pending: of some nothing, which 7.0 does not have."""
    t, o = ({_pairs(r)[b"name"]: _pairs(r)[b"pending"] for r in x} for x in (t, o))
    return list(o) == sorted(o) and all(o.get(n) == t.get(n, 0) for n in {**t, **o})


def _hello(t, o):
    t, o = _pairs(t), _pairs(o)
    return list(t) == list(o) and all(t[k] == o[k] for k in t if k not in (b"id", b"version"))


NOISE = [
    Rule(("TTL", "EXPIRETIME", "HTTL", "HEXPIRETIME"), _near(1), "seconds",
         "the two servers run the command a moment apart"),
    Rule(("PTTL", "PEXPIRETIME", "HPTTL", "HPEXPIRETIME"), _near(1500), "milliseconds",
         "the two servers run the command a moment apart"),
    Rule(("KEYS",), _values(lambda t, o: sorted(t) == sorted(o)), "order", "table order"),
    Rule(("DBSIZE",), _values(lambda t, o: 0 <= t - o < 4), "keys set to expire in the past",
         "Redis counts them until it looks at them"),
    Rule(("SCAN",), _values(_scan), "order, cursors", "table order"),
    Rule(("SMEMBERS", "SINTER", "SUNION", "SDIFF", "HKEYS", "HVALS", "SPOP"),
         _values(lambda t, o: sorted(t) == sorted(o)), "order", "table order"),
    Rule(("HGETALL",), _values(lambda t, o: _field_values(_flat(t)) == _field_values(_flat(o))),
         "order", "table order"),
    Rule(("SSCAN",), _values(_scan), "order, cursors", "table order"),
    Rule(("HSCAN",), _values(_hscan), "order, cursors", "table order"),
    Rule(("SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER"), _chosen, "which", "chance"),
    Rule(("ZADD", "ZINCRBY", "ZSCORE", "ZMSCORE", "ZRANGE", "ZREVRANGE", "ZRANGEBYSCORE",
          "ZREVRANGEBYSCORE", "ZPOPMIN", "ZPOPMAX", "ZMPOP", "ZUNION",
          "ZINTER", "ZDIFF"), _values(_scores),
         "digits",
         "7.0 writes scores with 17 digits, 7.2, whose form is ours, with as few as it takes"),
    Rule(("GEOSEARCH", "GEORADIUS", "GEORADIUS_RO", "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"),
         _as_many, "which, of places at exactly the same distance",
         "with COUNT, Redis sorts in part only, and what comes first there is no promise"),
    Rule(("DUMP",), _values(_dumped), "bytes",
         "a value has many forms; ours are those that Redis reads since 4.0"),
    Rule(("ZSCAN",), _values(lambda t, o: _zscan(t, o) or _scores(t, o)), "order, cursors, digits",
         "table order; see ZRANGE"),
    Rule(("RANDOMKEY",), _values(lambda t, o: (t is None) == (o is None)), "which key", "chance"),
    Rule(("TIME",), _values(lambda t, o: abs(int(t[0]) - int(o[0])) <= 2), "now", "time"),
    Rule(("LASTSAVE",), _values(lambda t, o: True), "time", "time of the last save"),
    Rule(("CLIENT ID", "MEMORY USAGE", "OBJECT IDLETIME"), _values(lambda t, o: type(t) is type(o)),
         "number", "of this process"),
    Rule(("CLIENT LIST", "CLIENT INFO", "INFO"), _values(lambda t, o: True), "text",
         "of this process"),
    Rule(("HELLO",), _values(_hello), "version, id",
         "of this process; the reported version is that of the Redis whose behaviour is the "
         "target"),
    Rule(("CONFIG GET",), _values(lambda t, o: _pairs(t) == _pairs(o)), "order", "table order"),
    Rule(("COMMAND GETKEYSANDFLAGS",),
         _values(lambda t, o: [(k, sorted(f)) for k, f in t] == [(k, sorted(f)) for k, f in o]),
         "order of the flags", "a set"),
    Rule(("XINFO STREAM",), _values(_xinfo), "`radix-tree-keys`, `radix-tree-nodes`",
         "of Redis's memory; ours are those of a stream of full nodes"),
    Rule(("XPENDING",), _idle(2), "idle times", "time"),
    Rule(("XINFO GROUPS",), _named("name", "pending", "last-delivered-id"),
         "`entries-read`, `lag`; `consumers`", "Redis does not know them where entries were "
         "removed; who reads or claims is a consumer, be there anything for it or not, as in 7.2"),
    Rule(("XINFO CONSUMERS",), _values(_consumers), "times; who has nothing",
         "time; see XINFO GROUPS; `inactive` is told, as in 7.2"),
    Rule(("XGROUP CREATECONSUMER",), lambda argv, theirs, ours: theirs == b":1\r\n" and
         ours == b":0\r\n", "whether it is new", "see XINFO GROUPS"),
    Rule(("SLOWLOG GET",), _values(lambda t, o: True), "entries", "time"),
]

def _never(argv, theirs, ours):
    """A difference that the generators keep away from, because it shows in the key's value and so
    in any later reply."""
    return False


def _looked_at_first(argv, theirs, ours):
    """Redis 7 looks the key up first, so only of one that is not there, or no string."""
    return (theirs in (b":0\r\n", b":-1\r\n") or theirs.startswith(b"-WRONGTYPE")) and ours in (
        b"-ERR syntax error\r\n", b"-ERR value is not an integer or out of range\r\n")


DIFFERENCES: list[Rule] = [
    Rule(("BITCOUNT", "BITPOS"), _looked_at_first,
         "of a key that is not there, or no string, wrong arguments are refused",
         "as in Redis 8"),
    Rule(("BITFIELD",), _never,
         "`OVERFLOW SAT SET` of a signed field to a number near -2^63 stores the least value of "
         "the field",
         "Redis computes the distance to the limit in 64 bits, where it overflows, and stores the "
         "greatest"),
    Rule(("BITFIELD", "BITFIELD_RO"), _never,
         "an offset `#n` so large that n times the width exceeds 64 bits is an error",
         "Redis multiplies without a check and uses what is left"),
    Rule(("OBJECT ENCODING", "OBJECT REFCOUNT"), _never,
         "told from the value alone: `int`, `embstr` to 44 bytes, else `raw`; 2147483647 "
         "references "
         "for 0 to 9999, else 1; of collections from what they hold, by the default limits of 7.2",
         "Redis also tells by which command the value was "
         "made (`raw` after APPEND, `embstr` after INCRBYFLOAT), and goes on calling large what "
         "once was"),
    Rule(("HRANDFIELD", "SRANDMEMBER"), _never, "a count below -16777216 is out of range",
         "the client, not the data, says how long that reply is"),
    Rule(("WATCH", "CLIENT TRACKING"), _never, "see what happens to the groups of a stream",
         "they are part of what the key holds"),
    Rule(("XGROUP CREATE", "XGROUP SETID"), _never,
         "of an id above the last one: what is added below it later is given out",
         "a group passes over what it has seen, and no id says that"),
    Rule(("XCLAIM",), _never, "`LASTID` gives out what is there up to that id",
         "see XGROUP CREATE"),
    Rule(("XREADGROUP", "XAUTOCLAIM"), _never, "at most 1,000,000 entries of a key in a call",
         "one call is one op, which peers apply at once"),
    Rule(("SWAPDB",), _never, "cost: O(keys in both databases)",
         "the database is part of a key's name for the peers"),
    Rule(("ZADD", "ZINCRBY", "ZRANGE"), _never,
         "a stored score of zero has no sign, nor the reply of an increment",
         "Redis drops the sign in small sorted sets only"),
    Rule(("RESTORE",), _never,
         "bytes after the value, an encoding in place of a count, a score that is no number are "
         "bad data; a deadline beyond 64 bits is "
         "refused; an idle time is kept up to 194 days; FREQ is checked and has no effect",
         "no server writes such payloads, Redis looks less closely; there is "
         "no LFU policy"),
    Rule(("ZRANGEBYLEX", "ZLEXCOUNT", "ZREMRANGEBYLEX"), _never,
         "of members that are not in the order of their names, since their "
         "scores differ, other ones are answered",
         "a range by name means nothing there, and Redis leaves the answer open"),
    Rule(("GEOSEARCH", "GEORADIUS", "GEORADIUSBYMEMBER", "GEOSEARCHSTORE"), _never,
         "of places at exactly the same distance, `COUNT` takes those found first",
         "Redis sorts them in part only, and takes any"),
    Rule(("SORT", "SORT_RO"), _never,
         "`ALPHA` compares bytes, all of them, and equal ones keep their order",
         "Redis asks the locale, stops at a NUL without `STORE`, and with `BY` and `LIMIT` sorts "
         "in part only"),
    Rule(("SORT", "SORT_RO"), _never, "a number out of range spoils only the call that meets it",
         "in Redis also the next one, by what it leaves in errno"),
    Rule(("ZSCAN",), _never, "scores have as few digits as it takes",
         "Redis writes 17 of them for large sorted sets"),
    Rule(("COMMAND",), _never,
         "INFO, DOCS and HELP tell of this server's commands in its own words; tips and key "
         "specifications are arrays in RESP3, "
         "not sets; GETKEYS takes a command without arguments, as since 7.2",
         "derived from this server's table"),
    Rule(("CONFIG",), _never,
         "parameters are this server's settings, by Redis's name where there is one; texts about "
         "wrong values are its own",
         "one declaration serves CONFIG, flags, environment, file and HTTP"),
    Rule(("SAVE", "BGSAVE", "BGREWRITEAOF", "LASTSAVE"), _never, "they force the log to disk",
         "there are no snapshots: the log is the data"),
    Rule(("LATENCY", "MEMORY DOCTOR", "MEMORY STATS", "LOLWUT", "DEBUG"), _never,
         "events are not sampled; reports are in other words; of DEBUG "
         "there are ERROR, LOG, PROTOCOL, SET-ACTIVE-EXPIRE and SLEEP",
         "they tell of Redis's inside"),
    Rule(("ACL LIST", "ACL GETUSER"), lambda argv, theirs,
         ours: theirs.replace(b"nopass", b"nopass sanitize-payload").split(b"\r\n")[2:] ==
         ours.split(b"\r\n")[2:],
         "the flag sanitize-payload is listed", "as in 7.2"),
    Rule(("HELP",), _never, "HELP subcommands answer in their own words",
         "derived from the command table"),
]


def find(rules: list[Rule], argv: tuple[bytes, ...]) -> list[Rule]:
    """The rules for a command, by its name alone or with its first argument."""
    name = argv[0].upper().decode("latin-1")
    full = f"{name} {argv[1].upper().decode('latin-1')}" if len(argv) > 1 else name
    return [r for r in rules if name in r.commands or full in r.commands or "*" in r.commands]


def same(argv: tuple[bytes, ...], theirs: bytes, ours: bytes) -> bool:
    """Whether two replies to one command are equal, or differ as a rule allows."""
    if theirs == ours:
        return True
    try:
        return any(r.same(argv, theirs, ours) for r in find(NOISE, argv) + find(DIFFERENCES, argv))
    except (ReplyError, ValueError, TypeError, KeyError, AssertionError):
        return False


def table() -> str:
    rows = ["| command | what differs | why |", "|---|---|---|"]
    return "\n".join(rows +
                     [f"| {', '.join(f'`{c}`' for c in r.commands)} | {r.what} | {r.reason} |"
                      for r in DIFFERENCES])


if __name__ == "__main__":
    print(table())

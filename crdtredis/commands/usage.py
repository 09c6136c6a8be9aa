"""How the arguments of each command are written, for COMMAND DOCS (redis-cli makes its hints from
it) and the HELP subcommands.

One line per command, in the notation of manual pages: CAPITALS are typed as they stand, lower case
is filled in, [ ] may be left out, < > only groups, | separates alternatives, and ... repeats what
is before it. `arguments` turns a line into the tree that COMMAND DOCS answers.
"""
import re

from crdtredis._resp import Simple
from crdtredis.commands.table import COMMANDS

_UNIT = "<M | KM | FT | MI>"
_PLACES = "[ASC | DESC] [COUNT count [ANY]]"
_WITH = "[WITHCOORD] [WITHDIST] [WITHHASH]"
_AREA = (f"<FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius {_UNIT} | BYBOX "
         f"width height {_UNIT}>")
_EXPIRY = "<EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds"

USAGE = dict(line.partition(": ")[::2] for line in f"""\
ACL|CAT: [category]
ACL|GETUSER: username
APPEND: key value
AUTH: [username] password
BGSAVE: [SCHEDULE]
BITCOUNT: key [start end [BYTE | BIT]]
BITFIELD: key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment>]...
BITFIELD_RO: key [GET encoding offset]...
BITOP: <AND | OR | XOR | NOT> destkey key...
BITPOS: key bit [start [end [BYTE | BIT]]]
BLMOVE: source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout
BLMPOP: timeout numkeys key... <LEFT | RIGHT> [COUNT count]
BLPOP: key... timeout
BRPOP: key... timeout
BRPOPLPUSH: source destination timeout
BZMPOP: timeout numkeys key... <MIN | MAX> [COUNT count]
BZPOPMAX: key... timeout
BZPOPMIN: key... timeout
CLIENT|CACHING: <YES | NO>
CLIENT|KILL: <addr | [ID client-id | TYPE type | ADDR addr | LADDR addr | USER username | SKIPME yesno | MAXAGE seconds]...>
CLIENT|LIST: [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id...]
CLIENT|NO-EVICT: <ON | OFF>
CLIENT|NO-TOUCH: <ON | OFF>
CLIENT|PAUSE: timeout [WRITE | ALL]
CLIENT|REPLY: <ON | OFF | SKIP>
CLIENT|SETINFO: <LIB-NAME libname | LIB-VER libver>
CLIENT|SETNAME: connection-name
CLIENT|TRACKING: <ON | OFF> [REDIRECT client-id] [PREFIX prefix]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
CLIENT|UNBLOCK: client-id [TIMEOUT | ERROR]
COMMAND|DOCS: [command-name]...
COMMAND|GETKEYS: command [arg]...
COMMAND|GETKEYSANDFLAGS: command [arg]...
COMMAND|INFO: [command-name]...
COMMAND|LIST: [FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]
CONFIG|GET: parameter...
CONFIG|SET: <parameter value>...
COPY: source destination [DB destination-db] [REPLACE]
CRDT.CONFLICTS: [count] [VERBOSE]
CRDT.INSPECT: key
CRDT.PEER: <ADD | REMOVE | PAUSE | RESUME> peer
CRDT.PEERS: [VERBOSE]
CRDT.SYNC: [timeout-ms]
DEBUG: subcommand [arg]...
DECR: key
DECRBY: key decrement
DEL: key...
DUMP: key
ECHO: message
EXISTS: key...
EXPIRE: key seconds [NX | XX | GT | LT]
EXPIREAT: key unix-time-seconds [NX | XX | GT | LT]
EXPIRETIME: key
FLUSHALL: [ASYNC | SYNC]
FLUSHDB: [ASYNC | SYNC]
FUNCTION|FLUSH: [ASYNC | SYNC]
GEOADD: key [NX | XX] [CH] <longitude latitude member>...
GEODIST: key member1 member2 [M | KM | FT | MI]
GEOHASH: key [member]...
GEOPOS: key [member]...
GEORADIUS: key longitude latitude radius {_UNIT} {_WITH} {_PLACES} [STORE key | STOREDIST key]
GEORADIUS_RO: key longitude latitude radius {_UNIT} {_WITH} {_PLACES}
GEORADIUSBYMEMBER: key member radius {_UNIT} {_WITH} {_PLACES} [STORE key | STOREDIST key]
GEORADIUSBYMEMBER_RO: key member radius {_UNIT} {_WITH} {_PLACES}
GEOSEARCH: key {_AREA} {_PLACES} {_WITH}
GEOSEARCHSTORE: destination source {_AREA} {_PLACES} [STOREDIST]
GET: key
GETBIT: key offset
GETDEL: key
GETEX: key [{_EXPIRY[1:]} | PERSIST]
GETRANGE: key start end
GETSET: key value
HDEL: key field...
HELLO: [protover [AUTH username password] [SETNAME clientname]]
HEXISTS: key field
HGET: key field
HGETALL: key
HINCRBY: key field increment
HINCRBYFLOAT: key field increment
HKEYS: key
HLEN: key
HMGET: key field...
HMSET: key <field value>...
HRANDFIELD: key [count [WITHVALUES]]
HSCAN: key cursor [MATCH pattern] [COUNT count]
HSET: key <field value>...
HSETNX: key field value
HSTRLEN: key field
HVALS: key
INCR: key
INCRBY: key increment
INCRBYFLOAT: key increment
INFO: [section]...
KEYS: pattern
LATENCY|GRAPH: event
LATENCY|HISTOGRAM: [command]...
LATENCY|HISTORY: event
LATENCY|RESET: [event]...
LCS: key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]
LINDEX: key index
LINSERT: key <BEFORE | AFTER> pivot element
LLEN: key
LMOVE: source destination <LEFT | RIGHT> <LEFT | RIGHT>
LMPOP: numkeys key... <LEFT | RIGHT> [COUNT count]
LOLWUT: [VERSION version]
LPOP: key [count]
LPOS: key element [RANK rank] [COUNT num-matches] [MAXLEN len]
LPUSH: key element...
LPUSHX: key element...
LRANGE: key start stop
LREM: key count element
LSET: key index element
LTRIM: key start stop
MEMORY|USAGE: key [SAMPLES count]
MGET: key...
MOVE: key db
MSET: <key value>...
MSETNX: <key value>...
OBJECT|ENCODING: key
OBJECT|FREQ: key
OBJECT|IDLETIME: key
OBJECT|REFCOUNT: key
PERSIST: key
PEXPIRE: key milliseconds [NX | XX | GT | LT]
PEXPIREAT: key unix-time-milliseconds [NX | XX | GT | LT]
PEXPIRETIME: key
PING: [message]
PSETEX: key milliseconds value
PTTL: key
RENAME: key newkey
RENAMENX: key newkey
RESTORE: key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]
RPOP: key [count]
RPOPLPUSH: source destination
RPUSH: key element...
RPUSHX: key element...
SADD: key member...
SCAN: cursor [MATCH pattern] [COUNT count] [TYPE type]
SCARD: key
SDIFF: key...
SDIFFSTORE: destination key...
SELECT: index
SET: key value [NX | XX] [GET] [{_EXPIRY[1:]} | KEEPTTL]
SETBIT: key offset value
SETEX: key seconds value
SETNX: key value
SETRANGE: key offset value
SHUTDOWN: [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]
SINTER: key...
SINTERCARD: numkeys key... [LIMIT limit]
SINTERSTORE: destination key...
SISMEMBER: key member
SLOWLOG|GET: [count]
SMEMBERS: key
SMISMEMBER: key member...
SMOVE: source destination member
SORT: key [BY by-pattern] [LIMIT offset count] [GET get-pattern]... [ASC | DESC] [ALPHA] [STORE destination]
SORT_RO: key [BY by-pattern] [LIMIT offset count] [GET get-pattern]... [ASC | DESC] [ALPHA]
SPOP: key [count]
SRANDMEMBER: key [count]
SREM: key member...
SSCAN: key cursor [MATCH pattern] [COUNT count]
STRLEN: key
SUBSTR: key start end
SUNION: key...
SUNIONSTORE: destination key...
SWAPDB: index1 index2
TOUCH: key...
TTL: key
TYPE: key
UNLINK: key...
WAIT: numreplicas timeout
WAITAOF: numlocal numreplicas timeout
WATCH: key...
ZADD: key [NX | XX] [GT | LT] [CH] [INCR] <score member>...
ZCARD: key
ZCOUNT: key min max
ZDIFF: numkeys key... [WITHSCORES]
ZDIFFSTORE: destination numkeys key...
ZINCRBY: key increment member
ZINTER: numkeys key... [WEIGHTS weight...] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]
ZINTERCARD: numkeys key... [LIMIT limit]
ZINTERSTORE: destination numkeys key... [WEIGHTS weight...] [AGGREGATE <SUM | MIN | MAX>]
ZLEXCOUNT: key min max
ZMPOP: numkeys key... <MIN | MAX> [COUNT count]
ZMSCORE: key member...
ZPOPMAX: key [count]
ZPOPMIN: key [count]
ZRANDMEMBER: key [count [WITHSCORES]]
ZRANGE: key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
ZRANGEBYLEX: key min max [LIMIT offset count]
ZRANGEBYSCORE: key min max [WITHSCORES] [LIMIT offset count]
ZRANGESTORE: destination source min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]
ZRANK: key member [WITHSCORE]
ZREM: key member...
ZREMRANGEBYLEX: key min max
ZREMRANGEBYRANK: key start stop
ZREMRANGEBYSCORE: key min max
ZREVRANGE: key start stop [WITHSCORES]
ZREVRANGEBYLEX: key max min [LIMIT offset count]
ZREVRANGEBYSCORE: key max min [WITHSCORES] [LIMIT offset count]
ZREVRANK: key member [WITHSCORE]
ZSCAN: key cursor [MATCH pattern] [COUNT count]
ZSCORE: key member
ZUNION: numkeys key... [WEIGHTS weight...] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]
ZUNIONSTORE: destination numkeys key... [WEIGHTS weight...] [AGGREGATE <SUM | MIN | MAX>]
""".splitlines())

TYPES = {
    **dict.fromkeys(("key", "key1", "key2", "newkey", "source", "destination", "destkey"), "key"),
    **dict.fromkeys(("seconds", "milliseconds", "count", "offset", "start", "end", "db",
                     "destination-db", "index", "index1", "index2", "decrement",
                     "numreplicas", "numlocal", "numkeys", "stop", "rank", "num-matches", "len",
                     "timeout", "timeout-ms", "cursor", "protover",
                     "min-match-len", "client-id", "ttl", "frequency", "version", "bit"),
                     "integer"),
    **dict.fromkeys(("unix-time-seconds", "unix-time-milliseconds"), "unix-time"),
    **dict.fromkeys(("longitude", "latitude", "radius", "width", "height"), "double"),
    **dict.fromkeys(("pattern", "by-pattern", "get-pattern"), "pattern"),
}

TOKEN = re.compile(r"\.\.\.|[][<>|]|[^][<>|\s.]+")


def arguments(name: str) -> list[dict]:
    """The arguments of a command as COMMAND DOCS shows them; empty for one that takes none."""
    words = TOKEN.findall(USAGE.get(name, ""))
    found = sequence(words)
    assert not words, f"{name}: unbalanced"
    keys = 0
    for a in found:
        if a["type"] == "key":
            a["key_spec_index"] = keys
            keys += 1
    return [dict(sorted(a.items(), key=lambda item: ORDER.index(item[0]))) for a in found]


ORDER = ["name", "type", "key_spec_index", "token", "flags", "arguments"]


def sequence(words: list[str]) -> list[dict]:
    """Reads up to the end, a closing bracket or a bar."""
    out: list[dict] = []
    while words and words[0] not in "]>|":
        word = words.pop(0)
        if word in "[<":
            a = alternatives(words)
            if words.pop(0) == "]":
                flag(a, "optional")
        elif word.isupper():
            a = {"name": word.lower(), "type": "pure-token", "token": word}
            if words and words[0] not in "[<]>|" and not words[0].isupper():
                following = words.pop(0)
                a = {"name": following, "type": TYPES.get(following, "string"), "token": word}
        else:
            a = {"name": word, "type": TYPES.get(word, "string")}
        if words and words[0] == "...":
            words.pop(0)
            flag(a, "multiple")
        out.append(a)
    return out


def alternatives(words: list[str]) -> dict:
    """What stands between brackets: one argument, a block of several, or a choice."""
    choices = [block(sequence(words))]
    while words and words[0] == "|":
        words.pop(0)
        choices.append(block(sequence(words)))
    if len(choices) == 1:
        return choices[0]
    return {"name": "option", "type": "oneof", "arguments": choices}


def block(items: list[dict]) -> dict:
    return (items[0] if len(items) == 1 else {"name": items[0]["name"], "type": "block",
                                              "arguments": items})


def flag(argument: dict, name: str) -> None:
    argument["flags"] = argument.get("flags", set()) | {Simple(name)}


def help_lines(container: str) -> list[Simple]:
    """The reply of a HELP subcommand."""
    out = [f"{container} <subcommand> [<arg> ...]. Subcommands:"]
    for spec in COMMANDS.values():
        if spec.container == container:
            out += [f"{spec.name.partition('|')[2]} {USAGE.get(spec.name, '')}".rstrip(),
                    f"    {spec.summary}"]
    return [Simple(line) for line in out]


def help_of(container: str):
    """The handler of a HELP subcommand."""
    return lambda session, argv: help_lines(container)

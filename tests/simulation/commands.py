"""What the simulated clients do: `Clients` chooses the next command of a schedule.

Each schedule has its own mixture: one type alone, so that its rare cases are met often, or all
types at once. In a mixture every key has a type that it mostly is used as, so that commands rarely
fail, and now and then is used as another, so that types clash. Names and values are few, so that
commands meet; of fractions some are such as binary numbers do not hold.
"""
from __future__ import annotations

import functools
import random

from crdtredis._core import Replica
from crdtredis._engine import Executor
from tests.respclient import decode

KEYS = [b"k", b"l", b"m", b"{n}"]
DATABASES = 2                             # that clients use
NAMES = ["a", "b", "c", "d"]
TYPES = ["string", "hash", "set", "zset", "list", "stream"]
SIDES = ["LEFT", "RIGHT"]
# A command so refused would prove nothing.
MEANINGLESS = (b"-ERR unknown command", b"-ERR wrong number of arguments", b"-ERR syntax error",
               b"-ERR DUMP payload")
# Replies and effects that chance decides.
RANDOM = {"SPOP", "SRANDMEMBER", "HRANDFIELD", "ZRANDMEMBER"}
# Replies whose order is that of a table.
UNORDERED = {"HGETALL", "SMEMBERS"}
# Runs the commands that stand in ARGV, each behind the number of its words.
SCRIPT = """
local at, last = 1
while ARGV[at] do
  last = redis.pcall(unpack(ARGV, at + 1, at + ARGV[at]))
  at = at + 1 + ARGV[at]
end
return last"""
# Of a stream one of the first entries, as many as ARGV says.
REMOVE_ENTRY = """
local there = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
return #there > 0 and redis.call('XDEL', KEYS[1], there[#there][1])"""
# Ids begin anew: all that is there goes, and the top is set back.
SET_BACK = """
redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
return redis.pcall('XSETID', KEYS[1], ARGV[1])"""
# Likewise of a group's records.
ACK_ENTRY = """
local there = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[2])
return #there > 0 and redis.call('XACK', KEYS[1], ARGV[1], there[#there][1])"""


@functools.cache
def dumps() -> dict[str, list[bytes]]:
    """{type: payloads that RESTORE takes}."""
    executor = Executor(Replica("dump", 1, seed=1))
    session = executor.session(2)

    def run(*argv):
        return decode(executor.execute(session, [str(a).encode() for a in argv]))

    def dumped(*argv):
        run(*argv)
        payload = run("DUMP", "k")
        run("DEL", "k")
        return payload

    return {"string": [dumped("SET", "k", "restored"), dumped("SET", "k", 7)],
            "hash": [dumped("HSET", "k", "a", "restored", "b", 5)],
            "set": [dumped("SADD", "k", "a", "b"), dumped("SADD", "k", 1, 2)],
            "zset": [dumped("ZADD", "k", 1, "a", "2.5", "c")],
            "list": [dumped("RPUSH", "k", "x", "y", "r"), dumped("RPUSH", "k", *range(40))],
            "stream": [dumped("XADD", "k", "3-1", "f", "restored")]}


class Clients:
    def __init__(self, rng: random.Random):
        self.rng = rng
        self.types = rng.choice([["string"], ["list"], ["list"], ["stream"], rng.sample(TYPES, 1),
                                 rng.sample(TYPES, 2), TYPES, TYPES, TYPES])
        self.home = {k: rng.choice(self.types) for k in KEYS}
        self.keys = KEYS[:rng.choice([1, 2, 4, 4])]   # one key alone meets itself more often
        self.long = rng.choice([0, 0, 0, 20, 100])    # elements that a push may bring
        # now and then a hundred members: large collections are removed in another way
        self.many = rng.random() < 0.15
        # values that are larger than what a block of a list packs, or nearly
        self.large = rng.random() < 0.1
        # most work at one place, beside each other's newest elements
        self.crowd = self.types == ["list"] and rng.random() < 0.4
        # of commands on strings, those of HyperLogLogs
        self.counting = rng.choice([0, 0, 0.2, 0.6])
        # ..., those that change a string in place
        self.changing = rng.choice([0.1, 0.5, 0.9])
        # of commands on streams, those of consumer groups
        self.grouping = rng.choice([0, 0.3, 0.6])
        # ids begin anew again and again
        self.back = rng.choice([0, 0, 0.05, 0.15])
        self.pushed = 0

    def next(self, now: int, inside: bool = False) -> list[tuple]:
        """A client's next command; a transaction is several."""
        rng = self.rng
        k, other = rng.choice(self.keys), rng.choice(self.keys)
        if not inside and rng.random() < 0.08:
            body = [c for _ in range(rng.randint(1, 5)) for c in self.next(now, True)]
            return [("WATCH", k)] * (rng.random() < 0.2) + [("MULTI",
                                                             )] + body + [
                                                                 (rng.choice(
                                                                     ["EXEC"] * 9 + ["DISCARD"]),)]
        if not inside and rng.random() < 0.04:
            body = [c for _ in range(rng.randint(1, 5)) for c in self.next(now, True)]
            return [("EVAL", SCRIPT, 0, *(word for c in body for word in (len(c), *c)))]
        x = rng.random()
        if x < 0.11:
            return [rng.choice([("DEL", k), ("DEL", k), ("DEL", k, other), ("UNLINK", other)])]
        if x < 0.20:
            return [self.deadline(k, now)]
        if x < 0.27:
            return [self.any_type(k, other)]
        kind = self.home[k] if rng.random() < 0.85 else rng.choice(self.types)
        other = rng.choice([o for o in self.keys if self.home[o] == kind] or [k])
        if rng.random() < 0.03:
            return [("RESTORE", k, rng.choice([0, 0, self.soon()]), rng.choice(dumps()[kind]),
                     *rng.choice([(), ("REPLACE",), ("REPLACE",)]))]
        if self.many and kind in ("hash", "set", "zset") and rng.random() < 0.2:
            return [self.several(kind, k)]
        if kind in ("set", "zset", "list") and rng.random() < 0.04:
            to = rng.choice([o for o in self.keys if self.home[o] == "list"] or [k])
            return [rng.choice([("SORT", k, "ALPHA", "STORE", to),
                                ("SORT", k, "ALPHA", "DESC", "LIMIT", 0, 2, "STORE", to),
                                ("SORT_RO", k, "ALPHA")])]
        if inside and rng.random() < 0.05:                    # there they never wait
            return [rng.choice([("BLPOP", k, other, 0), ("BRPOP", k, 0),
                                ("BLMOVE", k, other, *rng.choices(SIDES, k=2), 0),
                                ("BLMOVEM", k, other, *rng.choices(SIDES, k=2), 0, "EXACTLY", 2,
                                 "BULK"),
                                ("BZPOPMIN", k, other, 0),
                                ("BLMPOP", 0, 2, k, other, "LEFT"), ("BZMPOP", 0, 1, k, "MAX")])]
        return [getattr(self, kind)(k, other)]

    def several(self, kind, k):
        """Many members at once. They are no counters: World.tombstones looks for those under
        NAMES."""
        rng = self.rng
        members = range(start := rng.randrange(60), start + rng.choice([5, 40, 100]))
        if rng.random() < 0.6:
            return {"hash": ("HSET", k, *(x for m in members for x in (m, m))),
                    "set": ("SADD", k, *members),
                    "zset": ("ZADD", k, *(x for m in members for x in (m % 7, m)))}[kind]
        return {"hash": ("HDEL", k, *members),
                "set": rng.choice([("SREM", k, *members), ("SPOP", k, 30)]),
                "zset": rng.choice([("ZREM", k, *members), ("ZREMRANGEBYRANK", k, 3, 50),
                                    ("ZPOPMIN", k, 30)])}[kind]

    # ---- keys ------------------------------------------------------------------------------------
    def soon(self):
        return self.rng.choice([1, 5, 30, 400, 5000])

    def deadline(self, k, now):
        soon = self.soon()
        return self.rng.choice([("PEXPIRE", k, soon), ("PEXPIREAT", k, now + soon),
                                ("PEXPIRE", k, soon, "GT"), ("PEXPIRE", k, soon, "NX"),
                                ("PERSIST", k), ("EXPIRE", k, -1)])

    def any_type(self, k, other):
        return self.rng.choice([("RENAME", k, other), ("RENAME", k, other), ("RENAMENX", k, other),
                                ("COPY", k, other, "REPLACE"),
                                ("COPY", k, other), ("COPY", k, other, "DB", 1), ("MOVE", k, 1),
                                ("SELECT", self.rng.randrange(DATABASES)),
                                ("SELECT", 0), ("TYPE", k), ("PTTL", other), ("EXISTS", k, other),
                                self.rng.choice([("FLUSHDB",), ("FLUSHALL",), ("SWAPDB", 0, 1),
                                                 ("TOUCH", k), ("EXISTS", other)])])

    # ---- strings and counters --------------------------------------------------------------------
    def string(self, k, other):
        rng, soon = self.rng, self.soon()
        if rng.random() < self.counting:
            return rng.choice([("PFADD", k, *rng.choices("abcdefgh", k=rng.randint(1, 3))),
                               ("PFADD", k, rng.choice(NAMES)), ("PFADD", other),
                               ("PFCOUNT", k), ("PFCOUNT", k, other), ("PFMERGE", k, other),
                               ("PFDEBUG", "TODENSE", k) if rng.random() < 0.1 else ("GET", k)])
        if rng.random() < self.changing:
            at = rng.choice([0, 1, 2, 5, 9, 30])
            field = rng.choice(["u3", "i8", "u13"])
            return rng.choice([("APPEND", k, rng.choice(["a", "bc", "1"])), ("APPEND", k, "xyz"),
                               ("SETRANGE", k, at, rng.choice(["Q", "RS", "TUVWX"])),
                               ("SETBIT", k, rng.randrange(40), rng.randrange(2)),
                               ("SETBIT", k, at, 1),
                               ("BITFIELD", k, "SET", field, at, rng.randrange(8),
                                "INCRBY", "u2", rng.randrange(20), 1),
                               ("BITFIELD", k, "INCRBY", field, at, 5), ("GET", k),
                               ("SET", k, rng.choice(["", "0", "abcdefgh"]))])
        if rng.random() < 0.45:
            return rng.choice([("SET", k, rng.choice(["1", "-7", "text", "", "0.5", "9" * 18])),
                               ("SET", k, "v", "PX", soon),
                               ("SET", k, "5", "KEEPTTL"), ("SET", k, "nx", "NX"),
                               ("SET", k, "text", rng.choice(["IFEQ", "IFNE"]), "5"),
                               ("MSETEX", 2, k, "2", other, "v", "PX", soon),
                               ("MSETEX", 2, k, "7", other, "8", "XX", "KEEPTTL"),
                               ("DELEX", k, rng.choice(["IFEQ", "IFNE"]), "5"),
                               ("DELIFEQ", k, "text"), ("DIGEST", k),
                               ("GETSET", k, "5"), ("APPEND", k, "1"), ("SETRANGE", k, 1, "7"),
                               ("SETBIT", k, 3, 1), ("MSET", k, "2", other, "3"),
                               ("MSETNX", k, "2", other, "3"), ("GETDEL", k), ("GET", k),
                               ("GETEX", k, "PX", soon), ("GETEX", k, "PERSIST"), ("STRLEN", k),
                               ("BITOP", "NOT", k, other)])
        return rng.choice([("INCR", k), ("INCR", k), ("INCRBY", k, 10), ("DECRBY", k, 3),
                           ("INCRBY", k, 0), ("DECR", other),
                           ("INCRBYFLOAT", k, "0.5"),
                           ("INCRBYFLOAT", k,
                            rng.choice(["-0.25", "0.1", "-0.3", "123456789.1", "1e20"])),
                           ("INCRBY", k, rng.choice([2**63 - 1, -2**63])),
                           ("INCREX", k, "BYINT", 4, "UBOUND", 9, "SATURATE"),
                           ("INCREX", k, "BYFLOAT", "0.5", "LBOUND", -3, "PX", soon, "ENX"),
                           ("INCREX", k, "BYINT", -4, "LBOUND", -9, "PERSIST")])

    # ---- hashes ----------------------------------------------------------------------------------
    def hash(self, k, other):
        rng = self.rng
        f, g = rng.choice(NAMES), rng.choice(NAMES)
        v = rng.choice(["1", "-7", "text", "", "0.5"])
        if rng.random() < 0.25:
            return self.fields(k, f, g, v)
        if rng.random() < 0.35:
            return rng.choice([("HINCRBY", k, f, 1), ("HINCRBY", k, f, 10), ("HINCRBY", k, g, -3),
                               ("HINCRBY", k, f, 0),
                               ("HINCRBYFLOAT", k, f, "0.5"),
                               ("HINCRBYFLOAT", k, g, rng.choice(["-0.25", "0.1", "123456789.1"]))])
        return rng.choice([("HSET", k, f, v), ("HSET", k, f, v, g, "2"), ("HMSET", k, f, v),
                           ("HSETNX", k, f, v), ("HDEL", k, f), ("HDEL", k, f, g),
                           ("HDEL", k, *NAMES), ("HGETDEL", k, "FIELDS", 2, f, g), ("HGET", k, f),
                           ("HGETALL", k), ("HLEN", k),
                           ("HMGET", k, f, g), ("HSTRLEN", k, f), ("HRANDFIELD", k)])

    def fields(self, k, f, g, v):
        rng, soon = self.rng, self.soon()
        when = rng.choice([("PX", soon), ("PXAT", 1), ("KEEPTTL",), ("KEEPTTL",)])
        return rng.choice([("HPEXPIRE", k, soon, "FIELDS", 1, f),
                           ("HPEXPIRE", k, soon, "FIELDS", 2, f, g),
                           ("HPEXPIRE", k, soon, rng.choice(["NX", "XX", "GT", "LT"]), "FIELDS", 1,
                            f),
                           ("HEXPIRE", k, 0, "FIELDS", 1, f), ("HPERSIST", k, "FIELDS", 2, f, g),
                           ("HSETEX", k, *when, "FIELDS", 1, f, v),
                           ("HSETEX", k, *when, "FIELDS", 2, f, v, g, "3"),
                           ("HSETEX", k, rng.choice(["FNX", "FXX"]), *when, "FIELDS", 1, f, v),
                           ("HGETEX", k, "PX", soon, "FIELDS", 2, f, g),
                           ("HGETEX", k, "PERSIST", "FIELDS", 1, f), ("HPTTL", k, "FIELDS", 1, f)])

    # ---- sets ------------------------------------------------------------------------------------
    def set(self, k, other):
        rng = self.rng
        m, n = rng.choice(NAMES), rng.choice(NAMES)
        return rng.choice([("SADD", k, m), ("SADD", k, m, n), ("SADD", k, *NAMES), ("SREM", k, m),
                           ("SREM", k, m, n), ("SPOP", k), ("SPOP", k, 2),
                           ("SMOVE", k, other, m), ("SINTERSTORE", k, other, rng.choice(self.keys)),
                           ("SUNIONSTORE", k, other, rng.choice(self.keys)),
                           ("SDIFFSTORE", k, other, rng.choice(self.keys)), ("SMEMBERS", k),
                           ("SISMEMBER", k, m), ("SCARD", k),
                           ("SRANDMEMBER", k),
                           (rng.choice(["SINTERCARD", "SUNIONCARD", "SDIFFCARD"]), 2, k, other)])

    # ---- sorted sets -----------------------------------------------------------------------------
    def zset(self, k, other):
        rng = self.rng
        m, n = rng.choice(NAMES), rng.choice(NAMES)
        score = rng.choice([0, 1, 1, 2, 3, -1, "0.5", 5, 10, "inf" if rng.random() < 0.1 else 4])
        x = rng.random()
        if x < 0.25:
            return rng.choice([("ZINCRBY", k, score, m), ("ZINCRBY", k, 1, m),
                               ("ZINCRBY", k, rng.choice(["-0.25", "0.1", "-0.3", "1e16"]), n),
                               ("ZADD", k, "INCR", 2, m),
                               ("ZADD", k, "GT", "INCR", -1, m), ("ZADD", k, "XX", "INCR", 1, n)])
        if x < 0.55:
            return rng.choice([("ZADD", k, score, m), ("ZADD", k, score, m, 1, n),
                               ("ZADD", k, "NX", score, m), ("ZADD", k, "XX", score, m),
                               ("ZADD", k, "GT", "CH", score, m), ("ZADD", k, "LT", score, m),
                               ("ZADD", k, "XX", "GT", score, m, 7, n)])
        if x < 0.72:
            return rng.choice([("ZREM", k, m), ("ZREM", k, m, n), ("ZPOPMIN", k), ("ZPOPMAX", k),
                               ("ZPOPMIN", k, 2), ("ZREMRANGEBYSCORE", k, 0, 1),
                               ("ZREMRANGEBYRANK", k, 0, 0), ("ZREMRANGEBYLEX", k, "[a", "[b"),
                               ("ZMPOP", 2, k, other, "MAX")])
        if x < 0.84:
            return rng.choice([("ZUNIONSTORE", k, 2, other, k),
                               ("ZINTERSTORE", k, 2, other, k, "WEIGHTS", 1, 2),
                               ("ZDIFFSTORE", k, 2, other, k),
                               ("GEOADD", k, rng.choice([2, 3]), 41, m),
                               ("GEOADD", k, "NX", "13.361389", "38.115556", n),
                               ("GEOSEARCHSTORE", k, other, "FROMLONLAT", 3, 41, "BYRADIUS", 2000,
                                "km"),
                               ("ZRANGESTORE", k, other, 0, 1),
                               ("ZUNIONSTORE", k, 1, other, "WEIGHTS", 2, "AGGREGATE", "MAX")])
        return rng.choice([("ZRANGE", k, 0, -1), ("ZREVRANGE", k, 0, 1, "WITHSCORES"),
                           ("ZRANK", k, m), ("ZREVRANK", k, m), ("ZCOUNT", k, 1, 3),
                           ("ZSCORE", k, m), ("ZCARD", k), ("ZRANGEBYSCORE", k, "(0", 4),
                           ("ZRANDMEMBER", k)])

    # ---- lists -----------------------------------------------------------------------------------
    def element(self):
        """Of few values or, more often, one that is there once."""
        if self.rng.random() < 0.4:
            return self.rng.choice("xyz")
        self.pushed += 1
        if self.large and self.rng.random() < 0.3:
            return f"{self.pushed}:".ljust(self.rng.choice([60, 1000, 2048, 2049, 5000]), "v")
        return str(self.pushed)

    def index(self):
        rng = self.rng
        return rng.choice([0, 0, 1, 2, 3, -1, -1, -2, rng.randrange(-self.long - 5, self.long + 5)])

    def list(self, k, other):
        rng = self.rng
        if self.crowd and rng.random() < 0.7:
            return "LINSERT", k, rng.choice(["BEFORE",
                                             "AFTER"]), str(max(1,
                                                                self.pushed -
                                                                rng.choice(
                                                                    [0, 0, 0, 1, 1, 2,
                                                                     5]))), self.element()
        x = rng.random()
        if x < 0.40:
            n = rng.choice([1, 1, 1, 2, 3, rng.randint(1, self.long) if self.long else 1])
            return rng.choice([("RPUSH", k), ("RPUSH", k), ("LPUSH", k), ("RPUSHX", k),
                               ("LPUSHX", k)]) + tuple(self.element() for _ in range(n))
        if x < 0.54:
            count = rng.choice([(), (), (), (0,), (2,), (rng.randint(1, self.long + 2),)])
            return rng.choice([("LPOP", k, *count), ("LPOP", k, *count), ("RPOP", k, *count),
                               ("LMPOP", 2, k, other, rng.choice(SIDES), "COUNT", 2)])
        if x < 0.64:
            sides = rng.choices(SIDES, k=2)
            return rng.choice([("LMOVE", k, other, *sides), ("RPOPLPUSH", k, other),
                               ("LMOVEM", k, rng.choice([k, other]), *sides,
                                rng.choice(["COUNT", "EXACTLY"]), rng.randint(1, self.long + 3),
                                rng.choice(["OBO", "BULK"]))])
        if x < 0.75:
            pivot = (rng.choice("xyz") if rng.random() < 0.6 or not self.pushed
                     else str(rng.randint(max(1, self.pushed - 20), self.pushed)))
            return "LINSERT", k, rng.choice(["BEFORE", "AFTER"]), pivot, self.element()
        if x < 0.83:
            return "LSET", k, self.index(), self.element()
        if x < 0.92:
            return rng.choice([("LREM", k, rng.choice([0, 1, -1, 2, -2]), rng.choice("xyz")),
                               ("LTRIM", k, self.index(), self.index()),
                               ("LTRIM", k, 1, -1), ("LTRIM", k, 0, -2)])
        return rng.choice([("LRANGE", k, self.index(), self.index()), ("LINDEX", k, self.index()),
                           ("LLEN", k), ("LPOS", k, rng.choice("xyz")),
                           ("LPOS", k, rng.choice("xyz"), "RANK", -1, "COUNT", 0)])

    # ---- streams ---------------------------------------------------------------------------------
    def stream(self, k, other):
        """Small explicit ids, which meet, and those of `*`. Some streams have only the latter."""
        rng = self.rng
        ids = [f"{rng.randrange(1, 6)}-{rng.randrange(3)}" for _ in range(2)]
        pairs = ["f", rng.choice("xyz"), *rng.choice([(), ("g", str(rng.randrange(9)))])]
        stars = k == self.keys[0]
        if self.back:                           # few ids, so that they hide each other
            stars = False
            ids = [rng.choice(["2-1", "2-1", "4-1", "5-1"]) for _ in ids]
        if rng.random() < self.back:
            return "EVAL", SET_BACK, 1, k, rng.choice(["0-1", "1-0"])
        if rng.random() < self.grouping:
            return self.groups(k, ids)
        x = rng.random()
        if x < 0.08:
            how = rng.choice([("IDMP", rng.choice("pq"), rng.choice("ab")), ("IDMPAUTO", "p")])
            return ("XADD", k, *how, *rng.choice([(), ("MAXLEN", 3)]), "*", *pairs)
        if x < 0.09:
            return "XCFGSET", k, *rng.choice([("IDMP-MAXSIZE", 1), ("IDMP-MAXSIZE", 2),
                                              ("IDMP-MAXSIZE", 100), ("IDMP-DURATION", 1)])
        if x < 0.45 or stars and x < 0.55:
            bound = rng.choice([(), (), (), ("MAXLEN", 3), ("MAXLEN", "~", 2), ("MINID", ids[0])])
            return ("XADD", k, *rng.choice([(), (), ("NOMKSTREAM",)]), *bound,
                    "*" if stars or rng.random() < 0.4 else rng.choice([ids[0], "5-*", "9-*"]),
                    *pairs)
        if x < 0.65:
            return rng.choice([("XDEL", k, *ids), ("XDEL", k, ids[0]),
                               ("EVAL", REMOVE_ENTRY, 1, k, rng.randint(1, 4))])
        if x < 0.75:
            return rng.choice([("XTRIM", k, "MAXLEN", rng.randrange(5)),
                               ("XTRIM", k, "MINID", rng.choice([*ids, "99-0"]))])
        if x < 0.80:
            return rng.choice([("XSETID", k, rng.choice([*ids, "9-9"])),
                               ("XSETID", k, "9-9", "ENTRIESADDED", 40, "MAXDELETEDID", ids[0])])
        return rng.choice([("XLEN", k), ("XRANGE", k, "-", "+", "COUNT", 2),
                           ("XREVRANGE", k, "+", ids[0]), ("XREAD", "STREAMS", k, ids[0]),
                           ("XREAD", "COUNT", 2, "STREAMS", k, other, 0, ids[1]),
                           ("XREAD", "STREAMS", k, "+")])

    def groups(self, k, ids):
        rng = self.rng
        g, c = rng.choice(["g", "g", "h"]), rng.choice("xyz")
        start = rng.choice(["0", "0", "$", ids[0]])
        x = rng.random()
        if x < 0.2:
            return ("XGROUP", "CREATE", k, g, start, "MKSTREAM")
        if x < 0.3:
            return rng.choice([("XGROUP", "SETID", k, g, start), ("XGROUP", "DESTROY", k, g),
                               ("XGROUP", "DELCONSUMER", k, g, c),
                               ("XGROUP", "CREATECONSUMER", k, g, c)])
        if x < 0.75:
            return ("XREADGROUP", "GROUP", g, c,
                    *rng.choice([(), (), ("COUNT", rng.randint(1, 3)), ("NOACK",),
                                  ("MAXCOUNT", rng.randint(1, 3)), ("MAXSIZE", 60)]),
                    *(("CLAIM", 0) if x < 0.4 else ()),
                    "STREAMS", k, rng.choice([">", ">", ">", "0"]))
        return rng.choice([("XACK", k, g, *ids), ("XAUTOCLAIM", k, g, c, 0, 0, "COUNT", 2),
                           ("XCLAIM", k, g, c, 0, *ids),
                           ("XCLAIM", k, g, c, 0, *ids, "FORCE", "JUSTID"),
                           ("XNACK", k, g, rng.choice(["SILENT", "FAIL", "FATAL"]), "IDS",
                            len(ids), *ids, *rng.choice([(), ("FORCE",), ("RETRYCOUNT", 3)])),
                           ("EVAL", ACK_ENTRY, 1, k, g, rng.randint(1, 4))])

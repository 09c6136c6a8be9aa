"""What keys a user has no right to can't be read nor written, whatever the command and its options:
two servers differ only in such keys, and the user can't tell one from the other.

A *schedule* is a function of its seed. Of the keys that commands are drawn from (tests/compat), a
user may read and write some, only read some, and the others not at all. Both servers hold the same
but for those others. The user runs random commands, alone, in transactions and in scripts. Then

- each reply is the same at both servers: it says nothing of what those keys hold;
- no key changes but those that the user may write, and these are the same at both servers.
"""
from __future__ import annotations

import random
import re

import pytest

from tests.commands.run import Client
from tests.compat.harness import as_bytes, generators
from tests.compat.words import KEYS, key

SIDES, ENDS = ["LEFT", "RIGHT"], ["MIN", "MAX"]


def newer(rng):
    """What redis-server 7.0 does not have, and what waits for keys."""
    j, k, n = key(rng), key(rng), rng.choice([1, 2])
    ks, side, end, v = [j, k][:n], rng.choice(SIDES), rng.choice(ENDS), rng.choice("12ab")
    some = ["FIELDS", "1", rng.choice("fgab")]
    condition = rng.choice([[], ["IFEQ", v], ["IFNE", v]])
    return rng.choice([
        ("BLPOP", j, k, "0"), ("BRPOP", k, "0"), ("BLMPOP", "0", n, *ks, side, "COUNT", "2"),
        ("BLMOVE", j, k, side, side, "0"), ("BRPOPLPUSH", j, k, "0"), ("BZPOPMIN", j, k, "0"),
        ("BZPOPMAX", k, "0"), ("BZMPOP", "0", n, *ks, end), ("CRDT.INSPECT", k), ("DIGEST", k),
        ("DELEX", k, *condition), ("DELIFEQ", k, v), ("SET", k, v, *condition),
        ("SET", k, v, "GET", *condition), ("MSETEX", n, *(x for m in ks for x in (m, v))),
        ("MSETEX", 2, j, v, k, v, "NX"), ("INCREX", k), ("INCREX", k, "LBOUND", "0", "UBOUND", "9"),
        ("HEXPIRE", k, "100", *some), ("HTTL", k, *some), ("HGETDEL", k, *some),
        ("HGETEX", k, "EX", "100", *some), ("HPERSIST", k, *some),
        ("HSETEX", k, "EX", "100", "FIELDS", "1", "f", v), ("SDIFFCARD", n, *ks),
        ("SUNIONCARD", n, *ks), ("XACKDEL", k, "g", "IDS", "1", "1-1"),
        ("XDELEX", k, "DELREF", "IDS", "1", "1-1"), ("XCFGSET", k, "IDMP-DURATION", "10"),
        ("XREADGROUP", "GROUP", "g", "c", "CLAIM", "0", "STREAMS", j, k, ">", ">"),
        ("LMPOP", n, *ks, side), ("LMOVEM", j, k, side, rng.choice(SIDES), "COUNT", "2", "OBO"),
        ("BLMOVEM", j, k, side, side, "0", "EXACTLY", "2", "BULK"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", k),
        ("EVAL_RO", "return {redis.call('STRLEN', ARGV[1]), KEYS[1]}", "1", j, k),
        ("EVAL", "return redis.call('SET', ARGV[1], 1)", "1", j, k),
        ("OBJECT", "LOCAL", k), ("SORT", k, "BY", "*", "GET", "*", "GET", "#", "ALPHA"),
        ("SORT_RO", k, "BY", k + b"*->f", "GET", k + b"*", "ALPHA"),
        ("GEORADIUS", j, "0", "0", "9000", "km", "STORE", k),
        ("GEOSEARCHSTORE", j, k, "FROMLONLAT", "0", "0", "BYRADIUS", "9000", "km")])


def filled(rng, k, kind: str) -> list[tuple]:
    """Commands that make k hold something of this type."""
    n = str(rng.randrange(1, 9))
    more = [str(x) for x in range(rng.randrange(4))]
    return {"string": [("SET", k, n * 9)], "list": [("RPUSH", k, n, "a", "b", *more)],
            "set": [("SADD", k, "a", n, *more)], "hash": [("HSET", k, "f", "1", "g", n)],
            "zset": [("ZADD", k, "1", "a", n, "b")],
            "geo": [("GEOADD", k, n, "1", "a", "2", n, "b")],
            "stream": [("XADD", k, "1-1", "f", n), ("XADD", k, "2-1", "f", "v"),
                       ("XGROUP", "CREATE", k, "g", "0"), ("XREADGROUP", "GROUP", "g", "c", "COUNT",
                                                           "1", "STREAMS", k, ">")]}[kind]


KINDS = ["string", "list", "set", "hash", "zset", "geo", "stream"]
NAMES = [k.encode("latin-1") for k in KEYS]
# These look at, or remove, all keys, whosever they are (as in Redis); they have no key to check.
OF_ALL = {b"KEYS", b"SCAN", b"RANDOMKEY", b"DBSIZE", b"FLUSHALL", b"FLUSHDB", b"SWAPDB"}
CHANCE = {b"SPOP", b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER"}
# Chance decides, or what else the server has done.
UNLIKE = CHANCE | {b"COMMAND", b"CLIENT", b"INFO",
          b"OBJECT", b"TIME", b"MEMORY", b"DEBUG", b"CRDT.INSPECT"}
CLOSING = {b"QUIT", b"RESET", b"AUTH", b"HELLO", b"SELECT", b"MOVE", b"SUBSCRIBE", b"MULTI",
           b"EXEC", b"DISCARD", b"WATCH", b"CONFIG", b"ACL", b"SHUTDOWN", b"MONITOR", b"PSUBSCRIBE",
           b"SSUBSCRIBE"}
# These note something in a key, and want the right to read it only, as in Redis.
NOTING = {b"XREADGROUP", b"PFCOUNT", b"PFDEBUG"}
RUN = b"return redis.pcall(unpack(ARGV))"


class World:
    """A server, its administrator, and the user."""

    def __init__(self, rules: list[bytes]) -> None:
        self.admin = Client()
        self.admin("ACL", "SETUSER", "u", "on", "nopass", "+@all", "&*", *rules)

    def run(self, *commands) -> list[bytes]:
        """What the user is replied, on a connection of its own: it may have to wait."""
        user = self.admin.other()
        user("AUTH", "u", "any")
        return [user.raw(*argv) for argv in commands]

    def of(self, names: list[bytes]) -> list[tuple]:
        return [(name, self.admin.raw("DUMP", name), self.admin.raw("PEXPIRETIME", name))
                for name in names]


def literal(name: bytes) -> bytes:
    """A pattern of this key alone, among NAMES."""
    return re.sub(rb"[^a-z0-9{}]", b"?", name)


def drawn(rng, groups) -> tuple[bytes, ...]:
    while True:
        argv = as_bytes(groups[rng.choice(list(groups))](rng))
        if argv and argv[0].upper() not in OF_ALL | CLOSING:
            return argv


def keys_of(argv) -> set[bytes]:
    return {name for name in NAMES if name in argv}


def run(seed: int, steps: int = 60) -> int:
    """How many commands of the user were not refused."""
    rng = random.Random(seed)
    groups = generators()
    groups.pop("connection", None)
    if rng.random() < 0.6:
        groups = {name: groups[name] for name in rng.sample(sorted(groups), 2)}
    groups["newer"] = newer
    kinds = {name: rng.choice(("mine", "mine", "read", "other", "other")) for name in NAMES}
    mine, read, other = ([n for n in NAMES if kinds[n] == kind]
                         for kind in ("mine", "read", "other"))
    rules = [b"~" + literal(n) for n in mine] + [b"%R~" + literal(n) for n in read]
    a, b = World(rules), World(rules)
    kind = rng.choice([*KINDS, None])           # of nearly all keys, so that few commands fail
    for name in NAMES:
        for w in (a, b):
            same = random.Random(f"{seed}{name}") if name not in other else rng
            for argv in filled(same, name, kind or same.choice(KINDS)):
                w.admin.raw(*argv)
    for _ in range(steps // 3):
        argv = drawn(rng, groups)
        found = keys_of(argv)
        if argv[0].upper() not in UNLIKE and found:
            if found <= set(other):
                a.admin.other().raw(*argv)
            elif not found & set(other):
                a.admin.other().raw(*argv), b.admin.other().raw(*argv)
    assert a.of(mine + read) == b.of(mine + read)
    ran = 0
    before = a.of(other + read), b.of(other + read)
    for _ in range(steps):
        argv = drawn(rng, groups)
        commands = rng.choice(([argv], [argv], [(b"MULTI",), argv, (b"EXEC",)],
                               [(b"EVAL", RUN, b"0", *argv)]))
        said = a.run(*commands), b.run(*commands)
        ran += b"NOPERM" not in repr(said[0]).encode()
        after = a.of(other + read), b.of(other + read)
        changed = [x[0] for was, now in zip(before, after) for x in set(now) - set(was)]
        if argv[0].upper() not in NOTING or keys_of(argv) & set(other):
            assert not changed, (seed, commands, changed, said)
        before = after
        if argv[0].upper() not in UNLIKE:
            assert said[0] == said[1], (seed, commands, kinds, said)
        elif argv[0].upper() in CHANCE:
            break                       # the keys of the user differ from here on
        assert a.of(mine) == b.of(mine), (seed, commands, kinds)
    return ran


@pytest.mark.parametrize("block", range(10))
def test_keys_of_others(block):
    ran = sum(run(seed) for seed in range(block * 20, block * 20 + 20))
    assert ran > 100

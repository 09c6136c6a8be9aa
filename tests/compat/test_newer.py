"""Commands that are newer than the redis-server of the other tests, compared with servers that have
them, where such are named:

    CRDT_COMPAT_NEWER="redis-8.2=/path/redis-server valkey-9.1=/path/valkey-server"

Without it these tests are skipped; what was learnt so is in tests/commands, as examples. Where the
two servers differ, crdt-redis follows Redis, and a command of Valkey alone follows Valkey.
"""
import os
import random

import pytest

from tests.compat.harness import Pair, as_bytes
from tests.real.cluster import Reference, Server

SERVERS = dict(p.split("=", 1) for p in os.environ.get("CRDT_COMPAT_NEWER", "").split())
SEQUENCES = 200
KEYS, FIELDS, VALUES = ["k", "l", "m", "h"], ["a", "b", "c", "EX"], ["1", "2", "v", "", "EX", "10"]
TIMES = [["EX", "100"], ["PX", "99999999"], ["EXAT", "4102444800"], ["PXAT", "1"], ["KEEPTTL"],
         ["EX", "0"], ["EX", "x"], ["PX"]]


def both(rng):
    """What Redis 8.2 and Valkey 9.1 have alike."""
    k, f, v = rng.choice(KEYS), rng.choice(FIELDS), rng.choice(VALUES)
    return rng.choice([
        ("SET", k, v), ("SET", k, v, "EX", "100"), ("DEL", k), ("HSET", "h", f, v), ("INCR", k),
        ("RPUSH", "m", v), ("GET", k), ("TTL", k),
        ("HGETDEL", "h", "FIELDS", "2", f, rng.choice(FIELDS)), ("HGETDEL", k, "FIELDS", "1", f),
        ("HGETDEL", "h", "FIELDS"), ("HSCAN", "h", "0", "NOVALUES", "COUNT", "100"),
        ("HSCAN", k, "0", "MATCH", "[ab]", "NOVALUES"), ("SSCAN", "none", "0", "NOVALUES"),
        ("SCAN", "0", "NOVALUES"), ("HGETALL", "h"),
        ("BITPOS", k, rng.choice(["0", "1", "2", "x"]),
         *rng.choice([[], ["1"], ["x"], ["0", "x"]])),
        ("BITCOUNT", k, *rng.choice([[], ["0", "1"], ["x", "1"], ["1", "x"], ["0", "1", "BITS"]])),
    ])


def fields(rng):
    """Deadlines of hash fields, in Redis alone."""
    k, f, g, v = rng.choice(["h", "h", "h", "k"]), *rng.sample(FIELDS, 2), rng.choice(VALUES)
    time = rng.choice([*TIMES, ["EX", "-1"], ["PXAT", "70368744177664"], ["PERSIST"], []])
    some = rng.choice([["FIELDS", "1", f], ["FIELDS", "2", f, g], ["FIELDS", "2", f, f],
                       ["FIELDS", rng.choice(["0", "x", "3", "-1", str(2**63)]), f],
                       ["FOO", "1", f], ["FIELDS", "1"], ["FIELDS", "1", f, "NX"]])
    pairs = rng.choice([["FIELDS", "1", f, v], ["FIELDS", "2", f, v, g, "3"], ["FIELDS", "1", f],
                        ["FIELDS", "2", f, v], ["FIELDS", "0", f, v], ["FOO", "1", f, v],
                        ["FIELDS", "2", f, v, f, "4"]])
    when = rng.choice(["100", "0", "-1", "x", "4102444800", "1", str(2**62), "99999999999999"])
    return rng.choice([
        ("HSET", "h", f, v, g, "1"), ("HDEL", "h", f), ("HINCRBY", "h", f, "2"), ("DEL", "h"),
        ("HGETALL", "h"), ("HLEN", "h"), ("HMGET", "h", f, g), ("HSETNX", "h", f, v),
        ("HINCRBYFLOAT", "h", f, "1.5"), ("RENAME", "h", "g"), ("RENAME", "g", "h"),
        ("COPY", "h", "g", "REPLACE"), ("HGETALL", "g"), ("HTTL", "g", "FIELDS", "2", f, g),
        ("HEXPIRE", k, when, *some), ("HEXPIRE", k, "1000", *some), ("HPERSIST", k, *some),
        ("HEXPIRE", k, when, rng.choice(["NX", "XX", "GT", "LT", "gt", "FOO"]), *some),
        ("HPEXPIRE", k, "5000000", rng.choice(["NX", "XX", "GT", "LT"]), *some),
        ("HEXPIREAT", k, when, *some), ("HPEXPIREAT", k, when, *some),
        ("HPEXPIREAT", k, rng.choice(["4102444800001", "70368744177663", "1"]), *some),
        ("HTTL", k, *some), ("HEXPIRETIME", k, *some), ("HPEXPIRETIME", k, *some),
        ("HGETEX", k, *time, *some), ("HGETEX", k, "PERSIST", *some),
        ("HSETEX", k, *time, *pairs), ("HSETEX", k, "KEEPTTL", *pairs),
        ("HSETEX", k, rng.choice(["FNX", "FXX", "FOO"]), *time, *pairs),
        ("HSETEX", k, *time, "FNX", rng.choice(["FXX", "FNX", "KEEPTTL"]), *pairs),
        ("HGETDEL", k, *some), ("EXISTS", "h"), ("TTL", "h"), ("EXPIRE", "h", "100")])


def entries(rng):
    """Removal of stream entries that groups refer to, in Redis alone. (Of ids that are not there it
    takes a group that was destroyed for one that still waits for them.)"""
    k, g = rng.choice(["s", "s", "s", "t", "k"]), rng.choice(["g", "h", "h", "x"])
    ids = [f"{rng.randrange(12)}-1" for _ in range(rng.choice([1, 1, 2, 3, 5]))]
    option = rng.choice([[], ["KEEPREF"], ["DELREF"], ["ACKED"], ["acked"], ["FOO"]])
    counted = rng.choice([["IDS", str(len(ids)), *ids]] * 8 + [
        ["IDS", str(len(ids) + 1), *ids], ["IDS", "0", *ids], ["IDS", "x", *ids], ids, ["IDS", "1"],
        ["IDS", "2", "1-1", "x"], ["IDS", "1", "1-1", "IDS", "1", "2-1"]])
    options = rng.choice([[*option, *counted], [*counted, *option], [*option, *counted, *option]])
    most = rng.choice([["MAXLEN", str(rng.randrange(8))], ["MINID", f"{rng.randrange(12)}"],
                       ["MAXLEN", "=", "3"], ["MINID", "=", "5-2"], ["MAXLEN", "x"], []])
    return rng.choice([
        *[("XADD", "s", f"{rng.randrange(1, 12)}-1", "f", "v")] * 2, ("XADD", "t", "1-1", "f", "v"),
        ("XADD", "s", *rng.choice([[*option, *most], [*most, *option], [*option, *option]]),
         f"{rng.randrange(6, 14)}-1", "f", "v"),
        ("XTRIM", k, *most, *option), ("XTRIM", k, *option, *most),
        ("XDELEX", k, *options), ("XACKDEL", k, g, *options), ("XACKDEL", "s", g, *options),
        ("XDELEX", "s", *option, *counted), ("XACKDEL", "s", "g", *option, *counted),
        ("XGROUP", "CREATE", "s", rng.choice(["g", "h"]), rng.choice(["0", "$"]),
         *rng.choice([[], ["MKSTREAM"]])), ("XGROUP", "DESTROY", "s", "x"),
        *[("XREADGROUP", "GROUP", rng.choice(["g", "h"]), "c", "COUNT", rng.choice(["1", "3"]),
           "STREAMS", "s", ">")] * 3, ("XACK", "s", g, *ids), ("XDEL", "s", *ids[:1]),
        ("XPENDING", "s", g), ("XRANGE", "s", "-", "+"), ("XLEN", "s"), ("SET", "k", "v"),
        rng.choice([("DEL", "s"), ("XLEN", "t")])])


def redis(rng):
    return both(rng) if rng.random() < 0.7 else rng.choice([
        ("HGETDEL", "h", rng.choice(["FIELDS", "FOO"]), rng.choice(["0", "x", "2", "-1"]), "a"),
        ("HGETDEL", rng.choice(KEYS), "FIELDS", "2", "a", "b", "c"), ("BITCOUNT", "k", "1"),
        ("CLIENT", "KILL", *rng.choice([("ID", "x"), ("MAXAGE", "x"), ("MAXAGE", "0"),
                                        ("ID", "0"), ("TYPE", "x"), ("USER", "x")]))])


def valkey(rng):
    k, v, w = rng.choice(KEYS), rng.choice(VALUES), rng.choice(VALUES)
    if rng.random() < 0.4:
        return both(rng)
    time = rng.choice(TIMES) if rng.random() < 0.5 else []
    return rng.choice([
        ("SET", k, v, "IFEQ", w, *time), ("SET", k, v, *time, "IFEQ", w, "GET"),
        ("SET", k, v, "IFEQ", w, rng.choice(["NX", "XX", "IFEQ", "x"])), ("SET", k, v, "IFEQ"),
        ("DELIFEQ", k, v), ("DELIFEQ", k),
        ("MSETEX", "1", k, v, *time), ("MSETEX", "2", k, v, rng.choice(KEYS), w, *time),
        ("MSETEX", "2", k, v, rng.choice(KEYS), w, rng.choice(["NX", "XX"]), *time),
        ("MSETEX", "1", k, v, rng.choice(["GET", "PERSIST", "IFEQ"])),
        ("COMMANDLOG", "LEN", rng.choice(["large-request", "x"])), ("COMMANDLOG", "GET", "1"),
        ("COMMANDLOG", "GET", rng.choice(["x", "-2"]), "slow"),
        ("COMMANDLOG", "RESET", "LARGE-REPLY"),
        ("CLIENT", "LIST", *rng.choice([
            ("NAME", "x"), ("IDLE", "x"), ("IDLE", "0"), ("DB", "16"), ("DB", "x"), ("FLAGS", "z"),
            ("NOT-FLAGS", "z"), ("MAXAGE", "0"), ("TYPE", "x"), ("SKIPME", "x"), ("FOO", "1"),
            ("NOT-USER", "x"), ("NOT-IDLE", "1"), ("LIB-NAME", "x"), ("IP", "1.2.3.4")])),
        ("CLIENT", "KILL", *rng.choice([("NAME", "x"), ("FLAGS", "z"), ("IDLE", "0"),
                                        ("ID", "999999", "999998"), ("DB", "x"), ("IP", "x")]))])


@pytest.mark.parametrize("name, choose", [("redis", redis), ("redis", fields), ("redis", entries),
                                          ("valkey", valkey)])
def test_replies_are_equal(name, choose):
    found = [path for server, path in SERVERS.items() if server.startswith(name)]
    if not found:
        pytest.skip(f"CRDT_COMPAT_NEWER names no server of {name}")
    theirs = Reference(binary=found[0]).start()
    ours = Server(appendfsync="no").start()
    pair = Pair(theirs, ours)
    try:
        for seed in range(SEQUENCES):
            rng = random.Random(seed)
            steps = [(0, as_bytes(choose(rng))) for _ in range(40)]
            wrong = pair.run(rng.choice([2, 3]), steps)
            assert wrong is None, f"seed {seed}: {wrong}, after {steps[:wrong[0]]}"
    finally:
        pair.close()
        ours.dispose()
        theirs.dispose()

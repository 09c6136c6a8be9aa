"""Random set commands. What is chosen at random must leave no trace: SPOP takes everything, or the
only member there can be."""
from __future__ import annotations

from tests.compat.generators_hashes import HASHES, field, scan
from tests.compat.words import case, integer, key, text

SETS = ["s", "{t}2", "k"]
ONE = "one"                                             # a key that holds nothing but one member


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def where(rng):
    return rng.choice(SETS) if rng.random() < 0.7 else key(rng)


def member(rng):
    return rng.choice([field, field, integer, text])(rng)


def some(rng, least=1):
    return [member(rng) for _ in range(rng.choice([least, 1, 2, 3, 5, 12]))]


def sources(rng):
    return [where(rng) for _ in range(rng.choice([1, 2, 2, 2, 3, 4]))]


def _random(rng):
    out = ["SRANDMEMBER", where(rng)]
    if rng.random() < 0.7:
        out.append(rng.choice(["0", "1", "3", "-3", "100", "-1", "9223372036854775807",
                               "-9223372036854775808", "x", ""]))
    return out if rng.random() < 0.95 else out + ["x"]


def _pop(rng):
    return rng.choice([["SPOP", ONE], ["SPOP", ONE, "1"], ["SPOP", where(rng), "1000"],
                       ["SPOP", where(rng), "0"], ["SPOP", where(rng), "-1"],
                       ["SPOP", where(rng), "x"], ["SPOP", where(rng), "9223372036854775807"],
                       ["SPOP", where(rng), "9223372036854775808"],
                       ["SPOP", where(rng), "1", "2"]])


def _card(rng):
    keys = sources(rng)
    n = (len(keys) if rng.random() < 0.8
         else rng.choice([0, -1, "x", "", len(keys) + 1, len(keys) + 2, len(keys) - 1,
                          "9223372036854775807"]))
    out = ["SINTERCARD", n, *keys]
    if rng.random() < 0.5:
        out += [case(rng, "LIMIT"),
                rng.choice(["0", "1", "2", "100", "-1", "x", "9223372036854775807"])]
    return out if rng.random() < 0.92 else out + [rng.choice(["LIMIT", "x", ""])]


COMMANDS = [
    lambda r: ["SADD", where(r), *some(r)], lambda r: ["SADD", where(r), *some(r)],
    lambda r: ["SADD", where(r), *some(r)],
    lambda r: ["SADD", where(r), *some(r)], lambda r: ["SADD", ONE, "x"],
    lambda r: ["SADD", r.choice(HASHES), *[r.randint(0, 700) for _ in range(150)]],
    lambda r: ["SREM", where(r), *some(r)], lambda r: ["SREM", where(r), *some(r)],
    lambda r: ["SISMEMBER", where(r), member(r)], lambda r: ["SMISMEMBER", where(r), *some(r)],
    lambda r: ["SCARD", where(r)],
    lambda r: ["SMEMBERS", where(r)], lambda r: ["SMEMBERS", where(r)],
    lambda r: ["SMOVE", where(r), where(r), member(r)],
    lambda r: ["SMOVE", where(r), where(r), member(r)],
    lambda r: [r.choice(["SINTER", "SUNION", "SDIFF"]), *sources(r)],
    lambda r: [r.choice(["SINTER", "SUNION", "SDIFF"]), *sources(r)],
    lambda r: [r.choice(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), where(r), *sources(r)],
    lambda r: [r.choice(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), where(r), *sources(r)],
    _pop, _pop, _random, _random, _card, _card, lambda r: scan(r, "SSCAN"),
    lambda r: scan(r, "SSCAN"),
    lambda r: r.choice([["SADD", "k"], ["SREM", "k"], ["SMEMBERS"], ["SMEMBERS", "k", "s"],
                        ["SISMEMBER", "k"], ["SPOP"], ["SMOVE", "k", "s"], ["SINTER"],
                        ["SINTERSTORE", "k"], ["SINTERCARD", "1"], ["SSCAN", "k"], ["SCARD"]]),
]

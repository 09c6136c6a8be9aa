"""Random hash commands. What is chosen at random leaves no trace: HRANDFIELD only reads."""
from __future__ import annotations

from tests.compat.generators_keys import pattern
from tests.compat.words import BAD_INTEGERS, case, integer, key, real, text, value

FIELDS = ["f", "g", "n", "n2", "r", "", "field with spaces", "\0\xff",
          "x" * 70] + [f"f{i}" for i in range(5)]
HASHES = ["s", "{t}1", "k"]                             # so that hashes grow beyond a field or two


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def where(rng):
    return rng.choice(HASHES) if rng.random() < 0.7 else key(rng)


def field(rng):
    return rng.choice(FIELDS).encode("latin-1")


def _set(rng):
    out = [rng.choice(["HSET", "HSET", "HMSET"]), where(rng)]
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        out += [field(rng), value(rng)]
    return out if rng.random() < 0.95 else out + [field(rng)]


def _random(rng):
    out = ["HRANDFIELD", where(rng)]
    if rng.random() < 0.8:
        out.append(rng.choice(["0", "1", "3", "-3", "100", "-1", "9223372036854775807",
                               "-9223372036854775808", "4611686018427387904", "x", ""]))
        if rng.random() < 0.5:
            out.append(case(rng, "WITHVALUES") if rng.random() < 0.9
                       else rng.choice(["WITHVALUE", "", "1"]))
    return out


def scan(rng, name):
    out = [name, where(rng), "0"]
    for _ in range(rng.choice([0, 1, 1, 2])):
        out += rng.choice([lambda: ["MATCH", pattern(rng)],
                           lambda: ["COUNT",
                                    rng.choice(["1", "2", "10", "1000", "9223372036854775807"])]])()
    if rng.random() < 0.15:
        out += rng.choice([["COUNT", "0"], ["COUNT", "-1"], ["COUNT", rng.choice(BAD_INTEGERS)],
                           ["COUNT"], ["MATCH"], ["TYPE", "hash"], ["FOO", "1"], ["x"]])
    if rng.random() < 0.08:
        out[2] = rng.choice(["x", " 0", "0 ", "18446744073709551616", "-x", "0x", "1.0"])
    return out


COMMANDS = [
    _set, _set, _set, _set,
    lambda r: ["HSETNX", where(r), field(r), value(r)],
    lambda r: ["HSETNX", where(r), field(r), value(r)],
    lambda r: ["HGET", where(r), field(r)], lambda r: ["HGET", where(r), field(r)],
    lambda r: ["HEXISTS", where(r), field(r)],
    lambda r: ["HSTRLEN", where(r), field(r)], lambda r: ["HLEN", where(r)],
    lambda r: ["HMGET", where(r), *[field(r) for _ in range(r.randint(1, 5))]],
    lambda r: [r.choice(["HGETALL", "HKEYS", "HVALS"]), where(r)],
    lambda r: [r.choice(["HGETALL", "HKEYS", "HVALS"]), where(r)],
    lambda r: ["HDEL", where(r), *[field(r) for _ in range(r.choice([1, 1, 2, 4, 20]))]],
    lambda r: ["HDEL", where(r), *[field(r) for _ in range(r.choice([1, 1, 2, 4, 20]))]],
    lambda r: ["HINCRBY", where(r), r.choice(["n", "n2"]), integer(r)],
    lambda r: ["HINCRBY", where(r), field(r), integer(r)],
    lambda r: ["HINCRBYFLOAT", where(r), r.choice(["r", "n"]), real(r)],
    lambda r: ["HINCRBYFLOAT", where(r), field(r), integer(r)],
    lambda r: ["HSET", where(r), "n", integer(r, 0)],
    lambda r: ["HSET", where(r), "r", r.choice(["1.5", "-0.25", "3"])],
    _random, _random, lambda r: scan(r, "HSCAN"), lambda r: scan(r, "HSCAN"),
    lambda r: r.choice([["HSET", "k"], ["HSET", "k", "f"], ["HGET", "k"], ["HDEL", "k"], ["HLEN"],
                        ["HSCAN", "k"], ["HRANDFIELD"], ["HMGET", "k"], ["HLEN", "k", "x"],
                        ["HRANDFIELD", "k", "1", "WITHVALUES", "x"], ["HINCRBY", "k", "f"],
                        ["HSETNX", "k", "f", text(r), "x"]]),
]

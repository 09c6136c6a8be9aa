"""Random sorted set commands. What is chosen at random leaves no trace. Ranges by name are asked of
sets with one score only: of others Redis leaves the answer open. Sums stay within the digits of a
double, but for some fractions that every implementation rounds alike."""
from __future__ import annotations

from tests.compat.generators_hashes import scan
from tests.compat.generators_sets import member
from tests.compat.words import BAD_DOUBLES, BAD_INTEGERS, case, key, text

ZSETS = ["s", "{t}1", "k"]
# here all members have the score 0: no other group's command comes to it
SAME = "same"
SCORES = ["0", "1", "1", "2", "3", "-1", "-2", "1.5", "0.5", "-2.25", "10", "1e3", "0.1", "0.2",
          "100", "inf", "-inf", "+inf", "123456789012", "1e20"]
NAMES = ["a", "aa", "b", "bb", "c", "", "\0\xff", "d", "z" * 70]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def where(rng):
    return rng.choice(ZSETS) if rng.random() < 0.75 else key(rng)


def score(rng, bad=0.05):
    return rng.choice(BAD_DOUBLES if rng.random() < bad else SCORES)


def name(rng):
    return rng.choice(NAMES).encode("latin-1")


def some(rng):
    return [member(rng) for _ in range(rng.choice([1, 1, 2, 3, 8]))]


def _add(rng):
    out = ["ZADD", where(rng)]
    if rng.random() < 0.5:
        out += [case(rng, rng.choice(["NX", "XX", "GT", "LT", "CH", "CH", "INCR"]))
                for _ in range(rng.choice([1, 1, 2, 3]))]
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        out += [score(rng, 0.02), member(rng)]
    return out if rng.random() < 0.96 else out + [rng.choice(["1", "x", "NX"])]


def _add_one(rng):
    out = ["ZADD", where(rng), rng.choice(["INCR", "incr"])]
    out += rng.choice([[], [], ["NX"], ["XX"], ["GT"], ["LT"], ["CH"], ["XX", "GT"]])
    return out + [score(rng), member(rng)]


def _same_names(rng):
    out = ["ZADD", SAME]
    for _ in range(rng.choice([1, 3, 6])):
        out += ["0", name(rng)]
    return out


def score_bound(rng):
    bound = rng.choice(["-inf", "+inf", "inf", "0", "1", "2", "-1", "1.5", "0.1", "10", "1e3",
                        "-2"])
    if rng.random() < 0.3:
        bound = "(" + bound
    return (bound if rng.random() < 0.95
            else rng.choice([*BAD_DOUBLES, "((1", "(", " 1", "1\0x", "x"]))


def name_bound(rng):
    if rng.random() < 0.05:
        return rng.choice(["", "a", "+a", "-x", "1", "*", "+\0x"])
    return rng.choice([b"-", b"+", b"[" + name(rng), b"(" + name(rng), b"[" + name(rng)])


def rank(rng):
    if rng.random() < 0.05:
        return rng.choice(BAD_INTEGERS)
    return rng.choice(["0", "1", "2", "3", "-1", "-2", "-3", "5", "-5", "100", "-100",
                       "9223372036854775807", "-9223372036854775808"])


def limit(rng):
    out = [case(rng, "LIMIT"), rng.choice(["0", "1", "2", "-1", "100"]),
           rng.choice(["1", "2", "-1", "0", "100", "-5"])]
    return (out if rng.random() < 0.95
            else rng.choice([["LIMIT"], ["LIMIT", "1"], ["LIMIT", "x", "1"],
                             ["LIMIT", "0", "1.0"]]))


def _options(rng, *others):
    out = []
    if rng.random() < 0.5:
        out += [case(rng, "WITHSCORES")]
    if rng.random() < 0.4:
        out += limit(rng)
    for o in others:
        if rng.random() < 0.3:
            out += [case(rng, o)]
    return out if rng.random() < 0.95 else out + [rng.choice(["x", "", "REV", "BYSCORE", "BYLEX"])]


def _by_rank(rng):
    with_scores = [case(rng, "WITHSCORES")] if rng.random() < 0.5 else []
    return [rng.choice(["ZRANGE", "ZRANGE", "ZREVRANGE"]), where(rng), rank(rng), rank(rng),
            *with_scores]


def _range(rng):
    kind = rng.randrange(4)
    if kind == 0:
        return ["ZRANGE", where(rng), rank(rng), rank(rng), *_options(rng, "REV")]
    if kind == 1:
        return ["ZRANGE", where(rng), score_bound(rng), score_bound(rng), "BYSCORE",
                *_options(rng, "REV")]
    if kind == 2:
        return ["ZRANGE", SAME, name_bound(rng), name_bound(rng), "BYLEX", *_options(rng, "REV")]
    return [rng.choice(["ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZREVRANGE"]), where(rng),
            score_bound(rng), score_bound(rng), *_options(rng)]


def _by_name(rng):
    return [rng.choice(["ZRANGEBYLEX", "ZREVRANGEBYLEX"]), SAME, name_bound(rng), name_bound(rng),
            *(limit(rng) if rng.random() < 0.4 else [])]


def _remove_range(rng):
    return rng.choice([["ZREMRANGEBYRANK", where(rng), rank(rng), rank(rng)],
                       ["ZREMRANGEBYSCORE", where(rng), score_bound(rng), score_bound(rng)],
                       ["ZREMRANGEBYLEX", SAME, name_bound(rng), name_bound(rng)]])


def _pop(rng):
    out = [rng.choice(["ZPOPMIN", "ZPOPMAX"]), where(rng)]
    return out + rng.choice([[], [], ["1"], ["2"], ["0"], ["100"], ["-1"], ["x"], ["1", "2"]])


def _combine(rng):
    keys = [where(rng) for _ in range(rng.choice([1, 2, 2, 2, 3, 4]))]
    n = (len(keys) if rng.random() < 0.9
         else rng.choice([0, -1, "x", "", len(keys) + 1, len(keys) - 1, "9223372036854775807"]))
    name = rng.choice(["ZUNION", "ZINTER", "ZDIFF", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE",
                       "ZINTERCARD"])
    out = [name, *([where(rng)] if "STORE" in name else []), n, *keys]
    if name == "ZINTERCARD":
        return out + (["LIMIT", rng.choice(["0", "1", "2", "-1", "x"])] if rng.random() < 0.5
                      else [])
    if rng.random() < (0.05 if "DIFF" in name else 0.4):
        out += [case(rng, "WEIGHTS"),
                *[rng.choice(["1", "2", "-1", "0.5", "0", "inf", "3"]) for _ in keys]]
    if rng.random() < (0.05 if "DIFF" in name else 0.4):
        out += [case(rng, "AGGREGATE"), rng.choice(["SUM", "MIN", "max", "MAX", "AVG"])]
    if rng.random() < (0.05 if "STORE" in name else 0.6):
        out += [case(rng, "WITHSCORES")]
    return (out if rng.random() < 0.95
            else out + [rng.choice(["x", "WEIGHTS", "AGGREGATE", "LIMIT"])])


def _keys(rng):
    return ["COMMAND", rng.choice(["GETKEYS", "GETKEYSANDFLAGS"]),
            *rng.choice([_combine, _pop_many, _store])(rng)]


def _store(rng):
    kind = rng.randrange(3)
    ends = [(rank(rng), rank(rng)), (score_bound(rng), score_bound(rng), "BYSCORE"),
            (name_bound(rng), name_bound(rng), "BYLEX")][kind]
    out = ["ZRANGESTORE", where(rng), SAME if kind == 2 else where(rng), *ends]
    if rng.random() < 0.4:
        out += ["REV"]
    return out + (limit(rng) if rng.random() < 0.3 else [])


def _pop_many(rng):
    keys = [where(rng) for _ in range(rng.choice([1, 2, 3]))]
    n = len(keys) if rng.random() < 0.9 else rng.choice([0, -1, "x", len(keys) + 1, len(keys) - 1])
    out = ["ZMPOP", n, *keys,
           rng.choice(["MIN", "MAX", "min", "MID"] if rng.random() < 0.3 else ["MIN", "MAX"])]
    return out + rng.choice([[], [], ["COUNT", "1"], ["COUNT", "3"], ["COUNT", "100"],
                             ["COUNT", "0"], ["COUNT", "x"], ["COUNT"],
                             ["COUNT", "1", "COUNT", "1"]])


def _random(rng):
    out = ["ZRANDMEMBER", where(rng)]
    if rng.random() < 0.8:
        out.append(rng.choice(["0", "1", "3", "-3", "1000", "-1", "9223372036854775807",
                               "-9223372036854775808", "4611686018427387904", "x", ""]))
        if rng.random() < 0.5:
            out.append(case(rng, "WITHSCORES") if rng.random() < 0.9
                       else rng.choice(["WITHSCORE", "", "1"]))
    return out


COMMANDS = [
    _combine, _combine, _combine, _combine, _keys, _store, _store, _pop_many, _random,
    lambda r: scan(r, "ZSCAN"), lambda r: ["SADD", where(r), *some(r)],
    _add, _add, _add, _add, _add_one, _same_names, _same_names,
    lambda r: ["ZREM", SAME, name(r), name(r)],
    lambda r: ["ZINCRBY", where(r), score(r), member(r)],
    lambda r: ["ZINCRBY", where(r), score(r), member(r)],
    lambda r: ["ZREM", where(r), *some(r)], lambda r: ["ZREM", where(r), *some(r)],
    lambda r: ["ZSCORE", where(r), member(r)], lambda r: ["ZMSCORE", where(r), *some(r)],
    lambda r: ["ZCARD", where(r)],
    lambda r: [r.choice(["ZRANK", "ZREVRANK"]), where(r), member(r)],
    lambda r: [r.choice(["ZRANK", "ZREVRANK"]), where(r), member(r)],
    lambda r: ["ZCOUNT", where(r), score_bound(r), score_bound(r)],
    lambda r: ["ZLEXCOUNT", SAME, name_bound(r), name_bound(r)],
    _by_rank, _by_rank, _range, _range, _range, _by_name, _by_name, _remove_range, _pop,
    lambda r: r.choice([["ZADD", "k"], ["ZADD", "k", "1"], ["ZADD", "k", "NX"],
                        ["ZINCRBY", "k", "1"], ["ZSCORE", "k"], ["ZREM", "k"], ["ZCARD"],
                        ["ZRANGE", "k", "0"],
                        ["ZRANK", "k"], ["ZCOUNT", "k", "1"], ["ZPOPMIN"], ["ZMSCORE", "k"],
                        ["ZINCRBY", "k", "NX", text(r)], ["ZREMRANGEBYRANK", "k", "1"]]),
]

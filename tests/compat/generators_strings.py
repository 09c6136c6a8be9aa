"""Random string commands: SET and its options, GET and its kin, counters, parts of strings, LCS."""
from __future__ import annotations

from tests.compat.words import case, index, integer, key, real, text, value

# Times in whole units. Relative ones lie far enough ahead that the two servers' moments of
# execution make no visible difference.
AHEAD = {"EX": ["100", "1000000"], "PX": ["100000", "999999999"],
         "EXAT": ["4102444800", "33177117420"],
         "PXAT": ["4102444800000", "33177117420000"]}
PAST = {"EXAT": ["1", "1000000000"], "PXAT": ["1", "1000000000000"]}
BAD_TIMES = ["0", "-1", "x", "", "1.5", "9223372036854775807", "-9223372036854775808",
             "9223372036854775", "9223372036854776",
             "9223372036854775808", " 1", "9223370000000000000"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def _time(rng, word):
    x = rng.random()
    if x < 0.12:
        return rng.choice(BAD_TIMES)
    return rng.choice(PAST[word] if word in PAST and x < 0.3 else AHEAD[word])


def _lifetime(rng, word=None):
    word = word or rng.choice(list(AHEAD))
    return [case(rng, word), _time(rng, word)]


def _set(rng):
    out = ["SET", key(rng), value(rng)]
    if rng.random() < 0.5:
        for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
            out += rng.choice([lambda: _lifetime(rng),
                               lambda: [case(rng,
                                             rng.choice(["NX", "XX", "GET", "GET", "KEEPTTL"]))],
                               lambda: [case(rng, rng.choice(["NX", "XX", "GET", "KEEPTTL"]))]])()
    if rng.random() < 0.04:
        out.append(rng.choice(["EX", "PERSIST", "", "NXX", "PXAT", "x", "100"]))
    return out


def _getex(rng):
    out = ["GETEX", key(rng)]
    for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
        out += (_lifetime(rng) if rng.random() < 0.6
                else [case(rng, rng.choice(["PERSIST", "PERSIST", "KEEPTTL", "NX", "EX"]))])
    return out


def _pairs(rng):
    out = [x for _ in range(rng.randint(1, 4)) for x in (key(rng), value(rng))]
    return out if rng.random() < 0.95 else out + [key(rng)]


def _setrange(rng):
    at = rng.choice(["0", "1", "3", "10", "100", "5000", "-1", "536870912", "9223372036854775807",
                     "x", ""])
    return ["SETRANGE", key(rng), at, text(rng) if rng.random() < 0.9 else ""]


def _lcs(rng):
    out = ["LCS", key(rng), key(rng)]
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3, 4])):
        out += rng.choice([["LEN"], ["IDX"], ["IDX"], ["WITHMATCHLEN"],
                           ["MINMATCHLEN",
                            rng.choice(["0", "1", "2", "4", "-1", "x", "99999999999"])],
                           ["MINMATCHLEN", "2"]])
    if rng.random() < 0.04:
        out.append(rng.choice(["MINMATCHLEN", "x", ""]))
    return out


def _few_letters(rng):
    return bytes(rng.choice(b"abc") for _ in range(rng.randint(0, 25)))


COMMANDS = [
    _set, _set, _set, _set,
    lambda r: ["SET", key(r), integer(r, 0)], lambda r: ["SET", key(r), real(r, 0)],
    lambda r: ["SETNX", key(r), value(r)],
    lambda r: ["SETEX", key(r), _time(r, "EX"), value(r)],
    lambda r: ["PSETEX", key(r), _time(r, "PX"), value(r)],
    lambda r: ["GETSET", key(r), value(r)], lambda r: ["GETDEL", key(r)], _getex, _getex,
    lambda r: ["GET", key(r)], lambda r: ["GET", key(r)], lambda r: ["STRLEN", key(r)],
    lambda r: ["MGET", *[key(r) for _ in range(r.randint(1, 5))]],
    lambda r: ["MSET", *_pairs(r)], lambda r: ["MSETNX", *_pairs(r)],
    lambda r: ["APPEND", key(r), value(r)], lambda r: ["APPEND", key(r), value(r)],
    lambda r: [r.choice(["GETRANGE", "SUBSTR"]), key(r), index(r), index(r)],
    lambda r: ["GETRANGE", key(r), integer(r), integer(r)],
    _setrange,
    lambda r: [r.choice(["INCR", "DECR"]), key(r)],
    lambda r: [r.choice(["INCR", "DECR"]), r.choice(["n", "n2", "f"])],
    lambda r: [r.choice(["INCRBY", "DECRBY"]), key(r), integer(r)],
    lambda r: [r.choice(["INCRBY", "DECRBY"]), r.choice(["n", "n2", "f"]), integer(r)],
    lambda r: ["INCRBYFLOAT", key(r), real(r)],
    lambda r: ["INCRBYFLOAT", r.choice(["f", "n"]), real(r)],
    lambda r: ["INCRBYFLOAT", r.choice(["f", "n"]), integer(r)],
    lambda r: ["TTL", key(r)],
    _lcs, lambda r: ["SET", key(r), _few_letters(r)],
]

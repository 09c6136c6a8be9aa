"""Random SORT and SORT_RO: lists, sets and sorted sets of their own, without NUL bytes, where ALPHA
of Redis would stop; of other keys ALPHA is asked with STORE only. A set that stays unsorted is
stored, which gives it an order. Elements of which ALPHA says that they are equal stay as they are,
which means something in lists only; and with LIMIT, Redis would leave them in any order."""
from __future__ import annotations

from tests.compat.words import BAD_INTEGERS, case, key

LISTS, SETS, ZSETS = ["sl1", "sl2"], ["ss1"], ["sz1"]
ELEMENTS = ["1", "2", "3", "10", "-1", "1.5", "007", "2", "0x10", " 5", "", "1e3", "inf", "-inf",
            "100000000000000000000", "9007199254740993"]
WORDS = ["a", "b", "B", "ab", "\xff", "nan", "1 ", "x*y"]
WEIGHTS = ["1", "2", "2", "-3", "0.5", "", "10", "x", "inf"]
SORTED = ["sort1", "sort2", "sl1"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def element(rng):
    return rng.choice(ELEMENTS if rng.random() < 0.93 else WORDS).encode("latin-1")


def pattern(rng):
    return rng.choice(["w_*", "w_*", "h_*->f", "h_*->f", "h_*->g", "*", "w_*->", "*_w", "none_*"])


def _limit(rng):
    if rng.random() < 0.04:
        return rng.choice([["LIMIT"], ["LIMIT", "1"], ["LIMIT", "1", rng.choice(BAD_INTEGERS)],
                           ["LIMIT", rng.choice(BAD_INTEGERS), "1"]])
    return [case(rng, "LIMIT"),
            rng.choice(["0", "1", "2", "5", "100", "-1", "-9223372036854775808"]),
            rng.choice(["0", "1", "2", "3", "100", "-1", "-5", "9223372036854775807"])]


def _sort(rng):
    own = rng.random() < 0.85
    source = rng.choice(LISTS + LISTS + SETS + ZSETS) if own else key(rng)
    is_set = source in SETS or not own
    store = rng.random() < 0.3
    options = []
    if rng.random() < 0.4:
        options.append([case(rng, rng.choice(["ASC", "DESC", "DESC"]))])
    kind = rng.random()
    limited = rng.random() < 0.3
    by_pattern = 0.25 <= kind < 0.6 and not limited
    if rng.random() < 0.5 and (own or store) and not (by_pattern and source not in LISTS):
        options.append([case(rng, "ALPHA")])
    if kind < 0.25 and (store or not is_set):
        options.append([case(rng, "BY"), rng.choice(["nosort", "#", "", "k"])])
    elif by_pattern:
        options.append([case(rng, "BY"), pattern(rng)])
    if limited:
        options.append(_limit(rng))
    if rng.random() < 0.35:
        options += [[case(rng, "GET"), rng.choice(["#", "#", pattern(rng), "nosuch"])]
                    for _ in range(rng.choice([1, 1, 2, 3]))]
    if store:
        options.append([case(rng, "STORE"), rng.choice(SORTED) if own else "sort3"])
    rng.shuffle(options)
    argv = [source, *[word for o in options for word in o]]
    if rng.random() < 0.03:
        argv.append(rng.choice(["x", "", "BY", "GET", "STORE", "LIMIT"]))
    return ["SORT" if store or rng.random() < 0.8 else "SORT_RO", *argv]


COMMANDS = [
    _sort, _sort, _sort, _sort, _sort, _sort, _sort,
    lambda r: ["RPUSH", r.choice(LISTS), *[element(r) for _ in range(r.choice([1, 3, 8]))]],
    lambda r: ["RPUSH", r.choice(LISTS), *[element(r) for _ in range(r.choice([1, 3, 8]))]],
    lambda r: ["SADD", r.choice(SETS), *[element(r) for _ in range(r.choice([1, 3, 8]))]],
    lambda r: ["ZADD", r.choice(ZSETS),
               *[x for _ in range(r.choice([1, 3, 8]))
                 for x in (r.choice(["1", "2", "3", "-1"]), element(r))]],
    lambda r: ["SET", b"w_" + element(r), r.choice(WEIGHTS)],
    lambda r: ["SET", b"w_" + element(r), r.choice(WEIGHTS)],
    lambda r: ["HSET", b"h_" + element(r), "f", r.choice(WEIGHTS)],
    lambda r: ["HSET", b"h_" + element(r), "f", r.choice(WEIGHTS), "g", "x"],
    lambda r: ["INCR", b"w_" + element(r)], lambda r: ["LRANGE", r.choice(SORTED + ["sort3"]), "0",
                                                       "-1"], lambda r: ["TYPE", r.choice(SORTED)],
    lambda r: ["DEL", r.choice(LISTS + SORTED)],
    lambda r: ["SET", r.choice(SORTED), "x", "EX", "1000"],
    lambda r: ["COMMAND", r.choice(["GETKEYS", "GETKEYSANDFLAGS"]), *_sort(r)],
    lambda r: r.choice([["SORT"], ["SORT_RO"], ["SORT_RO", "sl1", "STORE", "sort1"],
                        ["SORT", "w_1"], ["SORT", "none", "STORE", "sort1"]]),
]

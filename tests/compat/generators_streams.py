"""Random stream commands. Ids are explicit, since two servers make different ones of `*`; and no
XSETID brings a top down, below which entries would come that readers have behind them: XREAD then
gives what Redis skips."""
from __future__ import annotations

from tests.compat.words import BAD_INTEGERS, case, integer, key, text, value

STREAMS = ["s", "{t}1", "k"]
BAD_IDS = ["", "-", "+", "1-", "-1", "1-1-1", "x", "1-x", "+1-1", "01-1", " 1-1", "1--1", "-0-1",
           "1- 1", "18446744073709551616-1", "1-18446744073709551616", "x" * 200, "(1-1", "1-1\0x",
           "18446744073709551615-18446744073709551615", "0", "0-0"]
FIELDS = ["f", "g", "n", "", "field with spaces", "\0\xff"]
COUNTS = ["0", "1", "2", "5", "100", "-1", "9223372036854775807"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def where(rng):
    return rng.choice(STREAMS) if rng.random() < 0.85 else key(rng)


def id_(rng, bad: float = 0.05) -> str:
    if rng.random() < bad:
        return rng.choice(BAD_IDS).encode("latin-1")
    return rng.choice([f"{rng.randint(1, 40)}-{rng.randint(0, 3)}", f"{rng.randint(1, 60)}"])


def place(rng):
    """7.0 does not know `+` yet."""
    id = id_(rng)
    return "0" if id == b"+" else id


def bound(rng) -> str:
    x = rng.random()
    if x < 0.4:
        return rng.choice("-+")
    return "(" * (x < 0.55) + id_(rng, 0) if x < 0.95 else rng.choice(BAD_IDS)


def count(rng) -> list:
    if rng.random() < 0.7:
        return []
    return rng.choice([[case(rng, "COUNT"), rng.choice(COUNTS)],
                       [case(rng, "COUNT"), rng.choice(COUNTS)],
                       [case(rng, "COUNT"), rng.choice(BAD_INTEGERS)], ["COUNT"], ["x"]])


def trimming(rng) -> list:
    how = [case(rng, "MAXLEN"), rng.choice(["0", "1", "3", "10", integer(rng)])]
    if rng.random() < 0.5:
        how = [case(rng, "MINID"), id_(rng)]
    if rng.random() < 0.4:
        how.insert(1, rng.choice("~=="))
    if rng.random() < 0.15:
        how += [case(rng, "LIMIT"), rng.choice(["0", "1", "100", "-1", "x"])]
    return how + (["MAXLEN", "1"] if rng.random() < 0.03 else [])


def _add(rng):
    out = ["XADD", where(rng)]
    if rng.random() < 0.1:
        out.append(case(rng, "NOMKSTREAM"))
    if rng.random() < 0.2:
        out += trimming(rng)
    at = rng.choice([1, 5, 10, 20, 30, 38])
    out.append(id_(rng) if rng.random() < 0.5
               else rng.choice([f"{at}-*", f"{at}-*", f"{at}-{rng.randint(0, 3)}"]))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        out += [rng.choice(FIELDS).encode("latin-1"), value(rng)]
    return out if rng.random() < 0.97 else out + ["odd"]


def _setid(rng):
    out = ["XSETID", where(rng), rng.choice(["60-1", "60-1", "60-2", id_(rng, 0.5)])]
    if rng.random() < 0.5:
        out += [case(rng, "ENTRIESADDED"), rng.choice(["0", "1", "100", "-1", "x", ""])]
    if rng.random() < 0.5:
        out += [case(rng, "MAXDELETEDID"), rng.choice(["0-0", "5-1", "60-1", "61-0", id_(rng)])]
    return out if rng.random() < 0.95 else out + ["x"]


def _read(rng):
    out = ["XREAD", *count(rng)]
    keys = [where(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
    if rng.random() < 0.1:
        out += [case(rng, "BLOCK"), rng.choice(["-1", "x", "", "1.5"])]
    if rng.random() < 0.04:
        out += rng.choice([["GROUP", "g", "c"], ["NOACK"], ["x"]])
    return out + [case(rng, "STREAMS"), *keys,
                  *[rng.choice(["$", "0", "0-0", "0", place(rng), place(rng)]) for _ in keys]]


COMMANDS = [
    _add, _add, _add, _add, _add, _add,
    lambda r: ["XRANGE", where(r), bound(r), bound(r), *count(r)],
    lambda r: ["XRANGE", where(r), "-", "+", *count(r)],
    lambda r: ["XREVRANGE", where(r), bound(r), bound(r), *count(r)],
    lambda r: ["XREVRANGE", where(r), "+", "-", *count(r)],
    lambda r: ["XLEN", where(r)],
    _read, _read, _read,
    lambda r: ["XDEL", where(r), *[id_(r) for _ in range(r.choice([1, 1, 2, 5]))]],
    lambda r: ["XDEL", where(r), *[id_(r) for _ in range(r.choice([1, 1, 2, 5]))]],
    lambda r: ["XTRIM", where(r), *trimming(r)],
    _setid,
    lambda r: ["XINFO", case(r, "STREAM"), where(r)],
    lambda r: ["XINFO", case(r, "STREAM"), where(r), case(r, "FULL"),
               *(["COUNT", r.choice(COUNTS)] if r.random() < 0.5 else [])],
    lambda r: ["COPY", where(r), where(r), "REPLACE"],
    lambda r: ["DEL", where(r)],
    lambda r: ["TYPE", where(r)],
    lambda r: r.choice([["XADD", "s"], ["XADD", "s", "1-1"], ["XADD", "s", "1-1", "f"],
                        ["XADD", "s", "MAXLEN", "5", "90-1", "f"], ["XLEN"], ["XLEN", "s", "x"],
                        ["XRANGE", "s", "-"], ["XDEL", "s"], ["XTRIM", "s"],
                        ["XTRIM", "s", "x", "1"], ["XTRIM", "s", "LIMIT", "1"], ["XREAD"],
                        ["XREAD", "STREAMS", "s"],
                        ["XREAD", "COUNT", "1", "x", "y"], ["XREAD", "STREAMS", "s", ">"],
                        ["XINFO"], ["XINFO", "STREAM"], ["XINFO", "STREAM", "s", "x"],
                        ["XINFO", "STREAM", "s", "FULL", "COUNT"], ["XINFO", "x", "s"],
                        ["XSETID", "s"], ["XADD", text(r), "x", "f", "v"]]),
]

"""Random commands of consumer groups, with entries to give out. A group begins at an end of the
stream only: an entry that is added below where it begins, behind it in time, is new to a group here
and passed over by Redis. Idle times are none or longer than a test lasts."""
from __future__ import annotations

from tests.compat.generators_streams import BAD_IDS, STREAMS, bound, count, id_
from tests.compat.words import BAD_INTEGERS, case, key

GROUPS = ["g", "g", "g", "h"]
CONSUMERS = ["a", "a", "bob", "c", "\0\xff", ""]
IDLE = ["0", "0", "0", "100000000", "-5"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def where(rng):
    return rng.choice(STREAMS[:2]) if rng.random() < 0.9 else key(rng)


def group(rng):
    return rng.choice(GROUPS) if rng.random() < 0.95 else "nobody"


def consumer(rng):
    return rng.choice(CONSUMERS).encode("latin-1")


def start(rng):
    return rng.choice(["0", "0", "$", "0-0"]) if rng.random() < 0.97 else rng.choice(
        ["x", "", "1-1-1", "-", ">"])


def number(rng, usual):
    return rng.choice(usual) if rng.random() < 0.95 else rng.choice(BAD_INTEGERS)


def ids(rng):
    return [id_(rng, 0.02) for _ in range(rng.choice([1, 1, 2, 5]))]


def _add(rng):
    at = rng.choice([1, 5, 10, 20, 30, 38])
    out = ["XADD", where(rng), *rng.choice([[], [], [], ["MAXLEN", "3"]]), f"{at}-*"]
    return out + ["f", str(at)] * rng.choice([1, 1, 2])


def _create(rng):
    out = ["XGROUP", case(rng, "CREATE"), where(rng), group(rng), start(rng)]
    if rng.random() < 0.6:
        out.append(case(rng, "MKSTREAM"))
    if rng.random() < 0.2:
        out += [case(rng, "ENTRIESREAD"), rng.choice(["0", "3", "-1", "-2", "x"])]
    return out if rng.random() < 0.97 else out + ["x"]


def _setid(rng):
    out = ["XGROUP", case(rng, "SETID"), where(rng), group(rng), start(rng)]
    if rng.random() < 0.2:
        out += [case(rng, "ENTRIESREAD"), rng.choice(["0", "3", "-1", "-2", "x"])]
    return out if rng.random() < 0.97 else out + ["MKSTREAM"]


def _read(rng):
    out = ["XREADGROUP", case(rng, "GROUP"), group(rng), consumer(rng), *count(rng)]
    if rng.random() < 0.2:
        out.append(case(rng, "NOACK"))
    if rng.random() < 0.05:
        out += [case(rng, "BLOCK"), rng.choice(["-1", "x", ""])]
    if rng.random() < 0.03:
        out = ["XREADGROUP", *rng.choice([["NOACK", "COUNT", "1"], ["GROUP", "g", "a", "x"]])]
    keys = [where(rng) for _ in range(rng.choice([1, 1, 1, 2]))]
    return out + [case(rng, "STREAMS"), *keys,
                  *[rng.choice([">", ">", ">", "0", id_(rng, 0.02), "$" if rng.random() < 0.1
                                else ">"]) for _ in keys]]


def _pending(rng):
    out = ["XPENDING", where(rng), group(rng)]
    if rng.random() < 0.3:
        return out
    if rng.random() < 0.3:
        out += [case(rng, "IDLE"), number(rng, IDLE)]
    out += [*rng.choice([["-", "+"], ["-", "+"], [bound(rng), bound(rng)]]),
            number(rng, ["0", "1", "3", "10", "100", "-1"])]
    if rng.random() < 0.4:
        out.append(consumer(rng))
    return out if rng.random() < 0.95 else out[:-1]


def _claim(rng):
    out = ["XCLAIM", where(rng), group(rng), consumer(rng), number(rng, IDLE), *ids(rng)]
    if rng.random() < 0.15:
        out += [case(rng, "IDLE"), number(rng, IDLE)]
    if rng.random() < 0.15:
        out += [case(rng, "TIME"), number(rng, ["0", "-1", "1000000000000", "9999999999999"])]
    if rng.random() < 0.2:
        out += [case(rng, "RETRYCOUNT"), number(rng, ["0", "1", "7", "-3"])]
    if rng.random() < 0.3:
        out.append(case(rng, "FORCE"))
    if rng.random() < 0.3:
        out.append(case(rng, "JUSTID"))
    if rng.random() < 0.1:
        out += [case(rng, "LASTID"), rng.choice(["0-0", "x"])]
    return out if rng.random() < 0.97 else out + ["x"]


def _autoclaim(rng):
    out = ["XAUTOCLAIM", where(rng), group(rng), consumer(rng), number(rng, IDLE),
           rng.choice(["0", "0", "-", "+", id_(rng), bound(rng), rng.choice(BAD_IDS)])]
    if rng.random() < 0.4:
        out += [case(rng, "COUNT"), rng.choice(["1", "2", "5", "0", "-1", "x",
                                                "9223372036854775807"])]
    if rng.random() < 0.3:
        out.append(case(rng, "JUSTID"))
    return out if rng.random() < 0.97 else out + ["x"]


COMMANDS = [
    _add, _add, _add, _add, _create, _create, _create, _read, _read, _read, _read, _read,
    _setid, _pending, _pending, _claim, _claim, _autoclaim, _autoclaim,
    lambda r: ["XACK", where(r), group(r), *ids(r), *ids(r)],
    lambda r: ["XACK", where(r), group(r), *ids(r), *ids(r)],
    lambda r: ["XDEL", where(r), *ids(r)],
    lambda r: ["XTRIM", where(r), "MAXLEN", r.choice("0123")],
    lambda r: ["XGROUP", case(r, "CREATECONSUMER"), where(r), group(r), consumer(r)],
    lambda r: ["XGROUP", case(r, "DELCONSUMER"), where(r), group(r), consumer(r)],
    lambda r: ["XGROUP", case(r, "DESTROY"), where(r), group(r)],
    lambda r: ["XINFO", case(r, "GROUPS"), where(r)],
    lambda r: ["XINFO", case(r, "CONSUMERS"), where(r), group(r)],
    lambda r: ["XINFO", "STREAM", where(r)],
    lambda r: ["DEL", where(r)],
    lambda r: r.choice([["XGROUP"], ["XGROUP", "x"], ["XGROUP", "CREATE", "s"],
                        ["XGROUP", "CREATE", "s", "g"], ["XGROUP", "DESTROY", "s"],
                        ["XGROUP", "DESTROY", "s", "g", "x"], ["XGROUP", "SETID", "s", "g"],
                        ["XGROUP", "CREATECONSUMER", "s", "g"],
                        ["XGROUP", "DELCONSUMER", "s", "g", "a", "x"],
                        ["XREADGROUP"], ["XREADGROUP", "GROUP", "g", "a", "STREAMS", "s"],
                        ["XREADGROUP", "GROUP", "g", "a", "COUNT", "1", "s", ">"],
                        ["XREADGROUP", "COUNT", "1", "BLOCK", "1", "STREAMS", "s", ">"],
                        ["XACK", "s"], ["XACK", "s", "g"], ["XPENDING", "s"],
                        ["XPENDING", "s", "g", "IDLE"], ["XPENDING", "s", "g", "-"],
                        ["XPENDING", "s", "g", "IDLE", "0", "-", "+"],
                        ["XPENDING", "s", "g", "IDLE", "0", "-", "+", "1", "a", "x"],
                        ["XCLAIM", "s", "g", "a", "0"], ["XCLAIM", "s", "g", "a"],
                        ["XAUTOCLAIM", "s", "g", "a", "0"],
                        ["XAUTOCLAIM", "s", "g", "a", "0", "0", "COUNT"],
                        ["XINFO", "GROUPS"], ["XINFO", "GROUPS", "s", "x"],
                        ["XINFO", "CONSUMERS", "s"], ["XINFO", "CONSUMERS", "s", "g", "x"]]),
]

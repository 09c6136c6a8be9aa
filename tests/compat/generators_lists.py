"""Random list commands that do not block."""
from __future__ import annotations

from tests.compat.words import case, index, integer, key, text

SIDES = ["LEFT", "RIGHT"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def _element(rng):
    """Of few values, so that elements repeat and are found."""
    return rng.choice([b"a", b"b", b"c", b"a"]) if rng.random() < .8 else text(rng)


def _push(rng):
    return [rng.choice(["LPUSH", "RPUSH", "RPUSH", "LPUSHX", "RPUSHX"]), key(rng),
            *[_element(rng) for _ in range(rng.choice([0, 1, 1, 2, 5, 70]))]]


def _pop(rng):
    argv = [rng.choice(["LPOP", "RPOP"]), key(rng)]
    if rng.random() < .4:
        argv.append(integer(rng) if rng.random() < .3 else rng.choice(["0", "1", "2", "5"]))
    return argv + (["more"] if rng.random() < .02 else [])


def _side(rng):
    return case(rng, rng.choice(SIDES)) if rng.random() < .96 else "MIDDLE"


def _lmpop(rng):
    n = rng.randint(1, 3)
    count = [case(rng, "COUNT"), integer(rng, .2)] if rng.random() < .4 else []
    return ["LMPOP", rng.choice([n, n, n, n, 0, -1, n + 1, "x"]), *[key(rng) for _ in range(n)],
            _side(rng), *count,
            *(["more"] if rng.random() < .02 else [])]


def _lpos(rng):
    argv = ["LPOS", key(rng), _element(rng)]
    for word in rng.sample(["RANK", "COUNT", "MAXLEN", "WRONG"], rng.choice([0, 1, 1, 2, 3])):
        if word != "WRONG" or rng.random() < .1:
            n = rng.choice(["0", "1", "2", "-1", "-2", integer(rng)])
            # refused since 7.2
            argv += [case(rng, word), "-3" if n == b"-9223372036854775808" else n]
    return argv[:-1] if rng.random() < .03 else argv


COMMANDS = [
    _push, _push, _push, _push, _pop, _pop, _lmpop, _lpos, _lpos,
    lambda rng: ["LLEN", key(rng)],
    lambda rng: ["LRANGE", key(rng), index(rng), index(rng)],
    lambda rng: ["LRANGE", key(rng), "0", "-1"],
    lambda rng: ["LINDEX", key(rng), index(rng)],
    lambda rng: ["LSET", key(rng), index(rng), _element(rng)],
    lambda rng: ["LINSERT", key(rng), case(rng, rng.choice(["BEFORE", "AFTER", "AFTER"]))
                 if rng.random() < .96 else "AT", _element(rng), _element(rng)],
    lambda rng: ["LREM", key(rng), integer(rng) if rng.random() < .3
                 else rng.choice(["0", "1", "-1", "2", "-2"]), _element(rng)],
    lambda rng: ["LTRIM", key(rng), index(rng), index(rng)],
    lambda rng: ["LMOVE", key(rng), key(rng), _side(rng), _side(rng)],
    lambda rng: ["RPOPLPUSH", key(rng), key(rng)],
]

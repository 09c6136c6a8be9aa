"""Random HyperLogLog commands, and what else touches such strings."""
from __future__ import annotations

from tests.compat.words import case, index, key, text


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def _elements(rng, most=5):
    """Few, so that they meet."""
    return [rng.choice([str(rng.randrange(30)), text(rng), "x" * rng.randrange(40)])
            for _ in range(rng.randint(0, most))]


def _big(rng):
    """So many that registers stand side by side, and that it becomes dense."""
    begin = rng.randrange(10**6)
    return ["PFADD", "big", *[str(begin + i) for i in range(rng.choice([3, 30, 300, 2500]))]]


def _damage(rng):
    """Of the head: of a damaged body Redis may change a part before it finds the damage."""
    return ["SETRANGE", key(rng), rng.choice(["0", "4", "5", "15"]),
            rng.choice([b"\0", b"\1", b"\x80", b"\xff", b"a"])]


COMMANDS = [
    lambda r: ["PFADD", key(r), *_elements(r)], lambda r: ["PFADD", key(r), *_elements(r)],
    lambda r: ["PFADD", key(r), *_elements(r)], lambda r: ["PFADD", key(r), *_elements(r)],
    lambda r: ["PFCOUNT", key(r)], lambda r: ["PFCOUNT", key(r)],
    lambda r: ["PFCOUNT", *[key(r) for _ in range(r.randint(0, 3))]],
    lambda r: ["PFMERGE", *[key(r) for _ in range(r.randint(0, 3))]],
    lambda r: ["PFMERGE", key(r), key(r)],
    lambda r: ["PFDEBUG", case(r, r.choice(["ENCODING", "ENCODING", "DECODE", "TODENSE", "GETREG",
                                            "x"])), key(r)],
    lambda r: ["GET", key(r)], lambda r: ["GET", key(r)], lambda r: ["STRLEN", key(r)],
    lambda r: ["GETRANGE", key(r), index(r), index(r)], lambda r: ["TYPE", key(r)],
    lambda r: ["COPY", key(r), key(r)], lambda r: ["RENAME", key(r), key(r)],
    lambda r: ["DEL", key(r)], lambda r: ["APPEND", key(r), text(r)],
    lambda r: ["EXPIRE", key(r), "1000"], lambda r: ["TTL", key(r)], lambda r: ["INCR", key(r)],
    lambda r: ["SADD", key(r), "a"],
    lambda r: ["SET", key(r), text(r)], lambda r: ["BITCOUNT", key(r)],
    _damage, _big, lambda r: ["PFMERGE", key(r), "big"], lambda r: ["PFMERGE", "big", "big"],
    lambda r: ["PFCOUNT", "big", key(r)], lambda r: ["PFCOUNT", "big"], lambda r: ["GET", "big"],
    lambda r: ["PFDEBUG", r.choice(["ENCODING", "DECODE"]), "big"],
]

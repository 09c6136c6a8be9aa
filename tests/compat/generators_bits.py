"""Random bitmap commands: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP, BITFIELD, BITFIELD_RO."""
from __future__ import annotations

from tests.compat.words import case, index, integer, key, text

BAD_OFFSETS = ["-1", "x", "", "4294967296", "9223372036854775807", "1.0", " 1", "01", "#1"]
TYPES = ["u1", "u8", "i8", "u16", "i16", "u7", "i5", "u33", "i64", "u63", "i63", "i1", "u2"]
BAD_TYPES = ["u64", "i65", "u0", "i0", "x8", "u", "i", "", "U8", "u-1", "u08", "i99999999999", "8"]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def _offset(rng):
    if rng.random() < 0.06:
        return rng.choice(BAD_OFFSETS)
    return str(rng.choice([rng.randrange(20), rng.randrange(200), rng.randrange(20000)]))


def _range(rng, length=4):
    """Nothing, or start [end [unit]] of up to `length` arguments."""
    out = [index(rng) if rng.random() < 0.9 else str(rng.randint(-200, 200)),
           index(rng) if rng.random() < 0.9 else str(rng.randint(-200, 200)),
           case(rng, rng.choice(["BIT", "BYTE", "BIT"])) if rng.random() < 0.95
           else rng.choice(["bits", "", "x"]), "more"]
    return out[:rng.choice([0, 1, 2, 2, 3, 3, 3] + [length])]


def _bitop(rng):
    word = rng.choice(["AND", "OR", "XOR", "NOT"])
    n = rng.choice([1, 1, 1, 2]) if word == "NOT" else rng.randint(1, 4)
    if rng.random() < 0.03:
        word = rng.choice(["NAND", "", "DIFF"])
    return ["BITOP", case(rng, word), key(rng), *[key(rng) for _ in range(n)]]


def _field(rng):
    at = rng.choice([str(rng.randrange(70)), str(rng.randrange(70)), f"#{rng.randrange(6)}",
                     f"#{rng.randrange(6)}", _offset(rng),
                     rng.choice(["#-1", "#", "#x", "-1"]) if rng.random() < 0.2 else "0"])
    return [rng.choice(BAD_TYPES if rng.random() < 0.03 else TYPES), at]


def _operand(rng, word):
    """Not SET to numbers near -2^63: see differences.py."""
    n = integer(rng, 0.03)
    return "-4611686018427387904" if word == "SET" and n == b"-9223372036854775808" else n


def _bitfield(rng, name="BITFIELD"):
    out = [name, key(rng)]
    for _ in range(rng.choice([0, 1, 1, 2, 3, 5])):
        x = rng.random()
        if x < 0.25 or name == "BITFIELD_RO" and x < 0.95:
            out += [case(rng, "GET"), *_field(rng)]
        elif x < 0.5:
            out += [case(rng, "OVERFLOW"),
                    case(rng,
                         rng.choice(["WRAP", "SAT", "FAIL", "FAIL", "x" if x < 0.27 else "SAT"]))]
        else:
            word = rng.choice(["SET", "INCRBY"])
            out += [case(rng, word), *_field(rng), _operand(rng, word)]
    if rng.random() < 0.04:
        out.append(rng.choice(["GET", "SET", "OVERFLOW", "x", ""]))
    return out


COMMANDS = [
    lambda r: ["SETBIT", key(r), _offset(r), r.choice(["0", "1", "1", "1"]) if r.random() < 0.95
               else r.choice(["2", "-1", "x", ""])],
    lambda r: ["SETBIT", key(r), _offset(r), r.choice(["0", "1"])],
    lambda r: ["GETBIT", key(r), _offset(r)],
    lambda r: ["BITCOUNT", key(r), *_range(r)], lambda r: ["BITCOUNT", key(r), *_range(r)],
    lambda r: ["BITPOS", key(r), r.choice(["0", "1"]) if r.random() < 0.95 else integer(r),
               *_range(r)],
    lambda r: ["BITPOS", key(r), r.choice(["0", "1"]), *_range(r)],
    _bitop, _bitop, _bitfield, _bitfield, _bitfield, lambda r: _bitfield(r, "BITFIELD_RO"),
    lambda r: ["SET", key(r), text(r)],
    lambda r: ["SET", key(r),
               r.choice([b"\xff" * 20, b"\0" * 20, b"\xff" * 9 + b"\0" * 9, b"\0" * 40 + b"\1"])],
    lambda r: ["INCR", key(r)], lambda r: ["DEL", key(r)],
]

"""Random DUMP and RESTORE: payloads in every form that redis-server 7.0 reads, sound and damaged,
and all options.

What a server dumps is compared by what it holds (differences.py). Damage is of the kinds that both
servers must refuse; what Redis takes although no server writes it is left out (it reads on into
version and checksum where a value ends too early).
"""
from __future__ import annotations

from tests.commands.payloads import FORMS, Choice, seal
from tests.compat.words import case, index, integer, key, text, value

FORMS_OF_7_0 = sorted(FORMS.keys() - {"set listpack"})
SCORES = [0.0, 1.0, -1.5, 3.0, 1e300, float("inf"), float("-inf"), 0.1]


def command(rng):
    argv = rng.choice(COMMANDS)(rng)
    return tuple([case(rng, argv[0]), *argv[1:]])


def body(rng) -> bytes:
    form = rng.choice(FORMS_OF_7_0)
    kind, n = form.split()[0], rng.choice([1, 1, 2, 3, 10])
    items = [value(rng) for _ in range(n)]
    if "intset" in form:
        items = [index(rng, 0) for _ in range(n)]
    held = {"string": lambda: items[0], "list": lambda: items, "set": lambda: set(items),
            "hash": lambda: {i: value(rng) for i in items},
            "zset": lambda: dict(sorted({i: rng.choice(SCORES) for i in items}.items(),
                                        key=lambda pair: (pair[1], pair[0])))}[kind]()
    return FORMS[form](Choice(rng.choice([None, rng.randrange(1 << 30)])), held)


def payload(rng) -> bytes:
    b, x = body(rng), rng.random()
    if x < 0.8:
        return seal(b, rng.choice([1, 6, 9, 10, 10, 10]))
    if x < 0.85:
        return seal(b, rng.choice([13, 99, 65535]))                 # 12 is that of 8
    if x < 0.9:
        return seal(bytes([rng.choice([8, 21, 99, 246, 255])]) + b[1:])
    s = bytearray(seal(b))
    s[rng.randrange(len(s))] ^= 1 << rng.randrange(8)
    return rng.choice([bytes(s), bytes(s[:9]), b"", text(rng)])


def _restore(rng):
    ttl = rng.choice(["0", "0", "0", "0", "100000", "1000000000"])
    options = [[rng.choice(["REPLACE", "REPLACE", "replace"])]] if rng.random() < 0.7 else []
    if rng.random() < 0.15:
        options.append([case(rng, "ABSTTL")])
        ttl = rng.choice(["0", "1", "1000", "4102444800000"])
    if rng.random() < 0.1:
        options.append([case(rng, rng.choice(["IDLETIME", "FREQ"])),
                        rng.choice(["0", "100", "255", "256", "-1", integer(rng)])])
    if rng.random() < 0.05:
        options.append(rng.choice([["x"], ["IDLETIME"], ["FREQ"], ["IDLETIME", "1", "FREQ", "1"],
                                   ["EX", "5"]]))
    if rng.random() < 0.05:
        ttl = rng.choice(["-1", "x", "", "1.5", "9223372036854775808"])
    rng.shuffle(options)
    return ["RESTORE", key(rng), ttl, payload(rng),
            *(word for option in options for word in option)]


COMMANDS = [_restore, _restore, _restore, lambda rng: ["DUMP", key(rng)],
            lambda rng: ["DUMP", key(rng)],
            lambda rng: rng.choice([["DUMP"], ["DUMP", key(rng), "x"], ["RESTORE"],
                                    ["RESTORE", key(rng), "0"]])]

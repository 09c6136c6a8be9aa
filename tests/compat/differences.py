"""Where the replies of crdt-redis may differ from those of redis-server 7.0, and why: the one list that the differential tests obey.

`NOISE` holds replies that no two servers, not even two of Redis, give alike: they depend on time, chance, memory layout or table order.
Each has its own comparison, as strict as it can be. `DIFFERENCES` holds what is different on purpose, with the reason; README quotes it
(`python -m tests.compat.differences` prints the table). A reply that is neither equal nor listed fails the test.

A rule is asked with the command as sent (name in upper case) and the two raw replies.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from tests.respclient import ReplyError, decode


@dataclass(frozen=True)
class Rule:
    commands: tuple[str, ...]                                        # "GET", or "CLIENT ID" for a subcommand
    same: Callable[[tuple[bytes, ...], bytes, bytes], bool]          # argv, theirs, ours
    what: str
    reason: str


def _values(test):
    """A comparison of decoded replies of one and the same RESP kind; errors must be equal."""
    def same(argv, theirs, ours):
        if theirs[:1] == b"-" or ours[:1] == b"-" or theirs[:1] != ours[:1]:
            return theirs == ours
        return test(decode(theirs), decode(ours))
    return same


def _near(tolerance):
    def test(t, o):
        return t == o if t is None or o is None or min(t, o) < 0 else abs(t - o) <= tolerance
    return _values(test)


def _hello(t, o):
    def fields(x):
        return x if isinstance(x, dict) else dict(zip(x[::2], x[1::2]))
    t, o = fields(t), fields(o)
    return list(t) == list(o) and all(t[k] == o[k] for k in t if k not in (b"id", b"version"))


NOISE = [
    Rule(("TTL", "EXPIRETIME"), _near(1), "seconds", "the two servers run the command a moment apart"),
    Rule(("PTTL", "PEXPIRETIME"), _near(1500), "milliseconds", "the two servers run the command a moment apart"),
    Rule(("KEYS",), _values(lambda t, o: sorted(t) == sorted(o)), "order", "table order"),
    Rule(("RANDOMKEY",), _values(lambda t, o: (t is None) == (o is None)), "which key", "chance"),
    Rule(("TIME",), _values(lambda t, o: abs(int(t[0]) - int(o[0])) <= 2), "now", "time"),
    Rule(("LASTSAVE",), _values(lambda t, o: True), "time", "time of the last save"),
    Rule(("CLIENT ID", "MEMORY USAGE", "OBJECT IDLETIME"), _values(lambda t, o: type(t) is type(o)), "number", "of this process"),
    Rule(("CLIENT LIST", "CLIENT INFO", "INFO"), _values(lambda t, o: True), "text", "of this process"),
    Rule(("HELLO",), _values(_hello), "version, id", "of this process; the reported version is that of the Redis whose behaviour is the target"),
    Rule(("SLOWLOG GET",), _values(lambda t, o: True), "entries", "time"),
]

def _never(argv, theirs, ours):
    """A difference that the generators keep away from, because it shows in the key's value and so in any later reply."""
    return False


DIFFERENCES: list[Rule] = [
    Rule(("BITFIELD",), _never, "`OVERFLOW SAT SET` of a signed field to a number near -2^63 stores the least value of the field",
         "Redis computes the distance to the limit in 64 bits, where it overflows, and stores the greatest"),
    Rule(("BITFIELD", "BITFIELD_RO"), _never, "an offset `#n` so large that n times the width exceeds 64 bits is an error",
         "Redis multiplies without a check and uses what is left"),
    Rule(("INCRBYFLOAT",), _never, "after a `SET` of a fraction, the last of more than 18 significant digits can differ",
         "the sum and the value that was set are kept apart, so that concurrent increments add up; Redis rounds their sum each time"),
]


def find(rules: list[Rule], argv: tuple[bytes, ...]) -> list[Rule]:
    """The rules for a command, by its name alone or with its first argument."""
    name = argv[0].upper().decode("latin-1")
    full = f"{name} {argv[1].upper().decode('latin-1')}" if len(argv) > 1 else name
    return [r for r in rules if name in r.commands or full in r.commands or "*" in r.commands]


def same(argv: tuple[bytes, ...], theirs: bytes, ours: bytes) -> bool:
    """Whether two replies to one command are equal, or differ as a rule allows."""
    if theirs == ours:
        return True
    try:
        return any(r.same(argv, theirs, ours) for r in find(NOISE, argv) + find(DIFFERENCES, argv))
    except (ReplyError, ValueError, TypeError, KeyError, AssertionError):
        return False


def table() -> str:
    rows = ["| command | what differs | why |", "|---|---|---|"]
    return "\n".join(rows + [f"| {', '.join(f'`{c}`' for c in r.commands)} | {r.what} | {r.reason} |" for r in DIFFERENCES])


if __name__ == "__main__":
    print(table())

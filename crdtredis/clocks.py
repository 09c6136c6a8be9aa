"""What all of storage and replication name: the actors that make ops, and clocks, which say how far
the ops of each are there.

The ops of an actor are numbered from 1 on, and a clock has no gaps: {actor: 5} is ops 1 to 5. An
actor that a clock does not name has none. Pure functions; all cost O(length of the clocks).
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

Clock = dict[int, int]                  # actor id -> highest seq, without gaps

ENTRY = rb"[A-Za-z0-9._:-]{1,128}/[0-9]{1,20}=[0-9]{1,20}"
ENTRIES_MOST = 65_535                   # of a token: as many actors as a replica may know
TOKEN = re.compile(rb"%s(?:,%s)*" % (ENTRY, ENTRY))


class Actor(NamedTuple):
    """One process start of one replica, and those behind it that can prove to go on with it."""
    id: int
    replica: str
    epoch: int


def actor_id(replica: str, epoch: int) -> int:
    """The id by which ops name an actor: see Actor.id in proto/crdtredis.proto."""
    digest = hashlib.blake2b(epoch.to_bytes(8, "little") + replica.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def as_token(actors: Iterable[tuple[tuple[str, int], int]]) -> str:
    """A clock as one word, for clients that carry it from replica to replica: replica/epoch=seq,
    with commas between. actors: ((replica, epoch), seq)."""
    return ",".join(f"{replica}/{epoch}={seq}" for (replica, epoch), seq in sorted(actors))


def from_token(token: bytes) -> Clock:
    """What as_token wrote. ValueError where it did not."""
    if token and (token.count(b",") >= ENTRIES_MOST or not TOKEN.fullmatch(token)):
        raise ValueError("not a clock")
    clock: Clock = {}
    for entry in token.decode().split(",") if token else ():
        name, _, seq = entry.partition("=")
        replica, _, epoch = name.rpartition("/")
        if int(epoch) >> 64 or int(seq) >> 64:
            raise ValueError("not a clock")
        join(clock, {actor_id(replica, int(epoch)): int(seq)})
    return clock


def observed(clock: Mapping[int, int], other: Mapping[int, int]) -> bool:
    return all(clock.get(a, 0) >= s for a, s in other.items())


def lacking(have: Mapping[int, int], there: Mapping[int, int]) -> Clock:
    """The part of `there` that `have` does not cover."""
    return {a: s for a, s in there.items() if have.get(a, 0) < s}


def behind(have: Mapping[int, int], there: Mapping[int, int]) -> int:
    """Ops that `there` covers and `have` does not."""
    return sum(s - have.get(a, 0) for a, s in lacking(have, there).items())


def join(clock: Clock, other: Mapping[int, int]) -> None:
    """clock := the least clock that covers both."""
    for a, s in other.items():
        if clock.get(a, 0) < s:
            clock[a] = s


def only(clock: Mapping[int, int], actors: Iterable[int]) -> Clock:
    return {a: clock[a] for a in actors if a in clock}


def leaving_out(have: Mapping[int, int], there: Mapping[int, int], wanted: set[int]) -> Clock:
    """The clock to serve a reader by that has `have` and wants of `there` no other actors than
    `wanted`."""
    return {**have, **{a: s for a, s in lacking(have, there).items() if a not in wanted}}


def overdue(have: Mapping[int, int], there: Mapping[int, int],
            before: Mapping[int, int] | None) -> Clock:
    """What is lacking and did not move: `before` is `have` as it was in the round before, None
    if there was none."""
    if before is None:
        return {}
    return {a: s for a, s in lacking(have, there).items() if have.get(a, 0) == before.get(a, 0)}

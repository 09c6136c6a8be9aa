"""What could be done better, with its evidence: what CRDT.ADVICE, /stats and the page say of the
kernel's counts (core/conflict.pxi, core/origins.pxi). It advises, and never acts.

    numbers     most conflicts under a prefix are of values that are integers
    inside      elements come between others of lists, under a prefix that is written to much
    home        nearly all writes under a prefix come from one of the replicas

Where one replica makes nearly all writes whatever the key, none of them says anything of a prefix.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

INCREASES = {"string": "INCRBY", "hash": "HINCRBY"}
SYSTEM_DB = 16
ALL = 128               # rows of both that the kernel has
LEAST = 32              # sampled writes under a prefix; of fewer nothing is said
MUCH = 0.01             # of all writes
HOME = 0.9              # of the writes under a prefix
INSIDE = 0.1            # of the elements that come into its lists


def increase(m: Mapping[str, Any]) -> str | None:
    """Of one of Replica.meetings(): the command that would have kept both sides of most."""
    ours = m["latest"]["db"] == SYSTEM_DB           # no command reaches it
    return INCREASES.get(m["type"]) if 2 * m["integers"] > m["conflicts"] and not ours else None


def shown(prefix: bytes, cut: bool) -> str:
    """cut: keys go on behind it."""
    return repr(prefix + (b"*" if cut else b""))[1:]


def percent(part: int, whole: int) -> str:
    """100 only where it is."""
    return f"{100 * part // whole} %"


def of_conflicts(meetings: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    for m in sorted(meetings, key=lambda m: -m["conflicts"]):
        last, command = m["latest"], increase(m)
        if command is None:
            continue
        keys = shown(m["prefix"], m["prefix"] != last["key"])
        yield {"kind": "numbers", "db": last["db"], "keys": keys,
               "evidence": f"{m['integers']} of {m['conflicts']} concurrent writes to {keys} "
                           f"({m['type']}, db {last['db']}; {', '.join(m['won'])}) were of "
                           "integers, of which one was lost each time",
               "advice": f"{command} in place of {'SET' if command == 'INCRBY' else 'HSET'} keeps "
                         "both"}


def of_writes(origins: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    total, one_in = origins["sampled"], origins["one_in"]
    by: Counter[str] = Counter()
    for row in origins["rows"]:
        by.update(row["by"])
    rows = [row for row in sorted(origins["rows"], key=lambda row: -row["sampled"])
            if row["sampled"] >= max(LEAST, MUCH * total)]
    for row in rows:
        keys, inside, inserts = keys_of(row), row["inside"], row["inserts"]
        if inserts >= LEAST and inside >= INSIDE * inserts:
            yield {"kind": "inside", "db": row["db"], "keys": keys,
                   "evidence": f"{percent(inside, inserts)} of about {inserts * one_in} elements "
                               f"that came into lists {keys} (db {row['db']}) here were put "
                               f"between others, in lists of up to {row['longest']}; "
                               f"{percent(row['sampled'], total)} of all writes are to these keys",
                   "advice": "LINSERT looks at the elements one by one and cuts a list into ever "
                             "smaller pieces: a sorted set, with the place as score, has neither"}
    for row in rows:
        replica, most = max(row["by"].items(), key=lambda r: r[1])
        if (replica and most >= HOME * row["sampled"]
                and by[replica] < HOME * by.total()):
            keys = keys_of(row)
            yield {"kind": "home", "db": row["db"], "keys": keys, "replica": replica,
                   "evidence": f"{percent(most, row['sampled'])} of about "
                               f"{row['sampled'] * one_in} writes to {keys} (db {row['db']}) come "
                               f"from {replica}, which makes {percent(by[replica], by.total())} of "
                               "all writes",
                   "advice": f"let all who write these keys do so at {replica}: then SET NX, WATCH "
                             "and scripts hold for all of them, and nothing conflicts; if the "
                             "others need not read them either, local_keys keeps them at home"}


def keys_of(row: Mapping[str, Any]) -> str:
    return shown(row["prefix"], row["cut"] or row["prefix"].endswith(b":"))


def advice(meetings: Iterable[Mapping[str, Any]],
           origins: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of Replica.meetings() and Replica.origins(), what loses data first."""
    return [*of_conflicts(meetings), *of_writes(origins)]


def line(x: Mapping[str, Any]) -> str:
    """As CRDT.ADVICE writes it."""
    return f"{x['evidence']}: {x['advice']}"

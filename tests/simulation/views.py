"""What clients see of a replica, and whether a command does there what it would do in a fresh one.

`view` reads everything with commands. `Shadow` is the client's model of a command: whatever a
replica has merged (writes that stand side by side, counters in parts, hidden types, positions of
many origins, tombstones), to clients it is a Redis that holds what they read. So before a command
its view is copied, by plain commands, into a replica of one's own without any history; then both
execute the command, and must give the same reply and read the same afterwards.
"""
from __future__ import annotations

from crdtredis._core import Replica, probe_groups
from crdtredis._engine import Executor
from tests.respclient import decode
from tests.simulation.commands import DATABASES, KEYS, RANDOM, UNORDERED


class Client:
    """Commands without effects on anybody's session: a session of one's own."""

    def __init__(self, replica: Replica, executor: Executor):
        self.replica, self.executor = replica, executor
        self.session = executor.session(2)

    def __call__(self, *argv):
        return decode(self.executor.execute(self.session,
                                            [a if isinstance(a, bytes) else str(a).encode()
                                             for a in argv]))


def flat_pairs(flat: list) -> list:
    return list(zip(flat[::2], flat[1::2]))


def content(client: Client, key: bytes, type: str):
    """As oracle.Told.shows wants it. Reads that overlap must agree."""
    if type == "string":
        text = client("GET", key)
        assert client("STRLEN", key) == len(text)
        return text
    if type == "hash":
        fields = dict(flat_pairs(client("HGETALL", key)))
        assert client("HLEN", key) == len(fields)
        times = client("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
        return {f: v if at == -1 else (v, at) for (f, v), at in zip(fields.items(), times)}
    if type == "set":
        members = client("SMEMBERS", key)
        assert client("SCARD", key) == len(members) == len(set(members))
        return set(members)
    if type == "zset":
        scores = [(m, float(s)) for m, s in flat_pairs(client("ZRANGE", key, 0, -1, "WITHSCORES"))]
        assert client("ZCARD", key) == len(scores)
        return scores
    if type == "stream":
        return entries(client, key)
    elements = client("LRANGE", key, 0, -1)
    assert client("LLEN", key) == len(elements)
    middle = len(elements) // 2
    assert [client("LINDEX", key, i) for i in (middle, -1)] == [elements[middle], elements[-1]]
    return elements


def packed_id(text: bytes) -> bytes:
    return b"".join(int(n).to_bytes(8, "big") for n in text.split(b"-"))


def text_id(packed: bytes) -> bytes:
    return b"%d-%d" % (int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:], "big"))


def packed_fields(pairs: list[bytes]) -> bytes:
    """As an entry's write holds them; none is long here."""
    return bytes([len(pairs) // 2]) + b"".join(bytes([len(x)]) + x for x in pairs)


def unpacked_fields(packed: bytes) -> list[bytes]:
    at, out = 1, []
    while at < len(packed):
        out.append(packed[at + 1:at + 1 + packed[at]])
        at += 1 + packed[at]
    return out


def entries(client: Client, key: bytes) -> tuple:
    there = client("XRANGE", key, "-", "+")
    about = dict(flat_pairs(client("XINFO", "STREAM", key)))
    assert client("XLEN", key) == len(there) == about[b"length"]
    assert client("XREVRANGE", key, "+", "-") == there[::-1]
    came = client("XREAD", "STREAMS", key, 0)
    assert sorted(came[0][1] if came else [], key=lambda e: packed_id(e[0])) == there
    ids = [packed_id(i) for i, _ in there]
    assert ids == sorted(set(ids))
    return ({packed_id(i): packed_fields(pairs) for i, pairs in there},
            packed_id(about[b"last-generated-id"]), packed_id(about[b"max-deleted-entry-id"]),
            about[b"entries-added"], groups(client, key))


def groups(client: Client, key: bytes) -> dict:
    told = told_groups(client.replica, client.session.db, key)
    about = [dict(flat_pairs(g)) for g in client("XINFO", "GROUPS", key)]
    assert [g[b"name"] for g in about] == sorted(told)
    for g in about:
        last, new, consumers, pending = told[g[b"name"]]
        assert pair(packed_id(g[b"last-delivered-id"])) == last and g[b"lag"] == len(new)
        assert (g[b"consumers"], g[b"pending"]) == (len(consumers), len(pending))
        rows = client("XPENDING", key, g[b"name"], "-", "+", 10000)
        assert [(pair(packed_id(i)), o, n) for i, o, _, n in rows] == [
            (i, o, n) for i, o, _, n in pending]
    return told


def told_groups(replica: Replica, db: int, key: bytes) -> dict:
    """As oracle_groups.shown tells them."""
    return {g: (pair(last), sorted(map(pair, new)), consumers,
                [(pair(i), *rest) for i, *rest in pending])
            for g, (last, new, consumers, pending) in probe_groups(replica, db, key).items()}


def pair(packed: bytes) -> tuple[int, int]:
    return int.from_bytes(packed[:8], "big"), int.from_bytes(packed[8:], "big")


def has_groups(seen: dict) -> bool:
    return any(type == "stream" and what[4] for type, what, _ in seen.values())


def make_stream(client: Client, key: bytes, what: tuple) -> None:
    there, top, deleted, added, _ = what
    for i, packed in sorted(there.items()) or [(b"\xff" * 16, b"\1\1f\1v")]:
        client("XADD", key, text_id(i), *unpacked_fields(packed))
    if not there:
        client("XTRIM", key, "MAXLEN", 0)
    client("XSETID", key, text_id(top), "ENTRIESADDED", added, "MAXDELETEDID", text_id(deleted))


def view(client: Client) -> dict:
    """{(db, key): (type, content, deadline in ms or None)} of the visible keys."""
    out = {}
    for db in range(DATABASES):
        client("SELECT", db)
        for k in KEYS:
            type = client("TYPE", k).decode()
            deadline = client("PEXPIRETIME", k)
            assert (type == "none") == (deadline == -2), f"{k}: type {type}, deadline {deadline}"
            if type != "none":
                out[db, k] = type, content(client, k, type), None if deadline == -1 else deadline
    return out


def shared(seen: dict) -> dict:
    """Of a view what replicas have in common: that a HyperLogLog was counted is of each alone."""
    return {at: (type, what[:8] + what[16:] if type == "string" and what[:4] == b"HYLL" else what,
                 deadline) for at, (type, what, deadline) in seen.items()}


class Shadow:
    def __init__(self, now: int, before: dict, selected: int):
        self.replica = Replica("shadow", 1, seed=1)
        self.replica.now = now - 1             # a deadline of this very ms would be taken as passed
        self.executor = Executor(self.replica)
        self.client = client = Client(self.replica, self.executor)
        for (db, k), (type, what, deadline) in before.items():
            client("SELECT", db)
            if type == "string":
                client("SET", k, what)
            elif type == "hash":
                for f, v in what.items():
                    text, at = v if isinstance(v, tuple) else (v, None)
                    client("HSET", k, f, text)
                    if at is not None:
                        client("HPEXPIREAT", k, at, "FIELDS", 1, f)
            elif type == "set":
                client("SADD", k, *what)
            elif type == "zset":
                client("ZADD", k, *(x for m, s in what for x in (repr(s), m)))
            elif type == "stream":
                make_stream(client, k, what)
            else:
                client("RPUSH", k, *what)
            if deadline is not None:
                client("PEXPIREAT", k, deadline)
        client("SELECT", selected)
        self.replica.now = now

    def compare(self, argv: tuple, reply: bytes) -> None:
        expected, found = self.client(*argv), decode(reply)
        if argv[0] in UNORDERED and isinstance(found, list):
            expected, found = sorted(expected), sorted(found)
        assert found == expected, (
            f"{argv} answers {found}, but {expected} in a replica without history")

    def compare_views(self, commands: list, after: dict) -> None:
        told = view(self.client)
        assert after == told, f"{commands} leaves {after}, but {told} in a replica without history"


def can_be_shadowed(commands: list[tuple]) -> bool:
    scripts = [c for c in commands if c[0] == "EVAL"]
    if any("GROUP" in str(word) for c in commands for word in c):
        return False                       # what is new comes in the order of arrival
    # ids of `*` are made of the time and of who makes them; the order of arrival is of each alone
    if any("XADD" in c and "*" in c or "XREAD" in c and "+" not in c for c in commands):
        return False
    return not (any(c[0] in RANDOM or len(commands) > 1 and c[0] in UNORDERED for c in commands)
                or any(word in RANDOM | UNORDERED for c in scripts for word in c))

"""Differential testing of commands that wait: the same steps by several clients against
redis-server and crdt-redis.

A step is (client, command). After each one everything that any client is sent is collected, so that
a transcript says who was served, with what, and who still waits; the transcripts of the two servers
must be equal. To know that nothing more will come, an observer asks CLIENT LIST who is blocked:
both servers send what a command caused, to whomever, before they read the observer's next request.

What redis-server 7.0 does otherwise than 7.2, which crdt-redis follows, is not generated: an EXEC
that makes several keys of one waiting client ready, a waiting client with keys of another type,
XREADGROUP of a stream or group that goes, and time limits out of range.

    python -m tests.compat.waiting --scenarios 5000
"""
from __future__ import annotations

import argparse
import random
import sys
import time

from tests.respclient import Connection, encode

CLIENTS = 5
KEYS = ["a", "b", "c"]
PATIENCE = 10.0         # s
# of a stream that nothing removes
GROUPS = [(0, [("XGROUP", "CREATE", "groups", g, "$", "MKSTREAM")]) for g in "gh"]
LOOK = {b"list": lambda k: ("LRANGE", k, 0, -1),
        b"zset": lambda k: ("ZRANGE", k, 0, -1, "WITHSCORES"), b"string": lambda k: ("GET", k),
        b"stream": lambda k: ("XRANGE", k, "-", "+")}


def command(rng: random.Random) -> list[tuple]:
    """What one client does: a command, or a transaction."""
    one = rng.choice(KEYS)
    if rng.random() < 0.1:
        inside = [x for _ in range(rng.randint(1, 4)) for x in changes(rng, one)]
        return [("MULTI",), *inside, *([waits(rng)] if rng.random() < 0.3 else []), ("EXEC",)]
    return [waits(rng)] if rng.random() < 0.5 else changes(rng, one)


def changes(rng: random.Random, key: str) -> list[tuple]:
    argv = plain(rng, key)
    return [("DEL", key), argv] if argv[0] in ("ZUNIONSTORE", "ZRANGESTORE") else [argv]


def waits(rng: random.Random) -> tuple:
    """A call that waits where nothing is there, or that is refused."""
    keys = [rng.choice(KEYS) for _ in range(rng.choice([1, 1, 2, 3]))]
    timeout = rng.choice(["0", "0", "1000", "500.5", "0x10", "1e3",
                          *(["-1", "x", "1e", ""] if rng.random() < 0.2 else [])])
    side = rng.choice(["LEFT", "RIGHT"]) if rng.random() < 0.97 else "MIDDLE"
    count = rng.choice([[], [], ["COUNT", "1"], ["COUNT", "2"], ["COUNT", "10"], ["COUNT", "0"]])
    once = list(dict.fromkeys(keys))        # of a key twice, 7.0 serves one
    n = len(keys) if rng.random() < 0.95 else rng.choice(["0", "-1", "9", "x"])
    return tuple(rng.choice([
        ["XREADGROUP", "GROUP", rng.choice("ggh"), rng.choice("ab"),
         *rng.choice([[], ["COUNT", "1"]]), *rng.choice([[], ["NOACK"]]), "BLOCK",
         rng.choice(["0", "0", "100000"]), "STREAMS", "groups", ">"],
        ["XREAD", *rng.choice([[], ["COUNT", "1"]]), "BLOCK", rng.choice(["0", "0", "100000"]),
         "STREAMS", *once, *(rng.choice(["$", "$", "0", "5-1", "20"]) for _ in once)],
        ["BLPOP", *keys, timeout], ["BLPOP", *keys, timeout], ["BRPOP", *keys, timeout],
        ["BLMPOP", timeout, n, *keys, side, *count],
        ["BLMOVE", keys[0], rng.choice(KEYS), side, rng.choice(["LEFT", "RIGHT"]), timeout],
        ["BLMOVE", keys[0], rng.choice(KEYS), side, rng.choice(["LEFT", "RIGHT"]), timeout],
        ["BRPOPLPUSH", keys[0], rng.choice(KEYS), timeout],
        ["BZPOPMIN", *keys, timeout], ["BZPOPMAX", *keys, timeout],
        ["BZMPOP", timeout, n, *keys, rng.choice(["MIN", "MAX"]), *count]]))


def plain(rng: random.Random, key: str) -> tuple:
    """A call that never waits, on one key but for what it reads."""
    some = [rng.choice("xyz") + str(rng.randrange(100)) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    return tuple(rng.choice([
        ["RPUSH", key, *some], ["RPUSH", key, *some], ["LPUSH", key, *some], ["RPUSHX", key, *some],
        ["LINSERT", key, "BEFORE", "x1", "x2"],
        ["ZADD", key, *(x for i, s in enumerate(some) for x in (i, s))],
        ["ZADD", key, *(x for i, s in enumerate(some) for x in (i, s))],
        ["ZINCRBY", key, "1.5", some[0]], ["DEL", key], ["DEL", key], ["LPOP", key],
        ["RPOP", key, "2"], ["ZPOPMIN", key],
        ["RPUSH", "store", *some], ["ZADD", "zstore", "1", some[0]], ["RENAME", "store", key],
        ["RENAME", "zstore", key], ["COPY", "store", key],
        ["COPY", "zstore", key, "REPLACE"], ["LMOVE", "store", key, "LEFT", "RIGHT"],
        ["RPOPLPUSH", "store", key], ["ZUNIONSTORE", key, "1", "zstore"],
        ["ZRANGESTORE", key, "zstore", "0", "-1"], ["SET", "other", "text"],
        ["XADD", key, f"{rng.randrange(40)}-*", "f", some[0]],
        ["XADD", key, "NOMKSTREAM", f"{rng.randrange(40)}-1", "f", some[0]],
        ["XADD", key, "MAXLEN", "2", f"{rng.randrange(40)}-1", "f", some[0]],
        *[["XADD", "groups", f"{rng.randrange(40)}-*", "f", some[0]]] * 3,
        ["XDEL", "groups", f"{rng.randrange(40)}-0"], ["XACK", "groups", "g", "20-0"],
        ["XREADGROUP", "GROUP", rng.choice("gh"), "c", "STREAMS", "groups", ">"],
        ["XDEL", key, f"{rng.randrange(9)}-1"], ["XTRIM", key, "MAXLEN", "1"],
        ["LRANGE", key, "0", "-1"], ["ZRANGE", key, "0", "-1", "WITHSCORES"],
        ["TYPE", key], ["EXISTS", *KEYS]]))


def make(seed: int) -> tuple[int, list]:
    rng = random.Random(seed)
    resp = rng.choice([2, 3])
    return resp, GROUPS + [(rng.randrange(CLIENTS), command(rng))
                           for _ in range(rng.randint(5, 40))]


class Side:
    """One server with its clients."""

    def __init__(self, process, resp: int):
        self.observer = process.connect()
        self.observer("FLUSHALL")
        self.clients = [process.connect(resp=resp) for _ in range(CLIENTS)]
        self.ids = [c("CLIENT", "ID") for c in self.clients]
        self.owed = [0] * CLIENTS

    def blocked(self) -> list[bool]:
        lines = self.observer("CLIENT", "LIST", "ID", *self.ids).decode().splitlines()
        rows = [dict(field.partition("=")[::2] for field in line.split(" ")) for line in lines]
        flags = {int(row["id"]): row["flags"] for row in rows}
        return ["b" in flags[i] for i in self.ids]

    def step(self, client: int, commands: list) -> list:
        """Sends the commands, and answers what each client has been sent since, and who is blocked.
        One that still waits is unblocked first, in one way or the other."""
        said = []
        while self.owed[client]:
            self.observer("CLIENT", "UNBLOCK", self.ids[client], "ERROR" if len(commands[0][0]) % 2
                          else "TIMEOUT")
            self.take(client, said)
        self.clients[client].socket.sendall(b"".join(encode(*argv) for argv in commands))
        self.owed[client] += len(commands)
        deadline = time.monotonic() + PATIENCE
        while self.owed[client] and not self.blocked()[client]:
            assert time.monotonic() < deadline, "neither answered nor blocked"
            while self.owed[client] and ready(self.clients[client]):
                self.take(client, said)
        blocked = self.blocked()
        for i in range(CLIENTS):
            while self.owed[i] and not blocked[i]:
                self.take(i, said)
        return sorted(said, key=lambda x: x[0]), blocked

    def take(self, client: int, said: list) -> None:
        said.append((client, self.clients[client].raw()))
        self.owed[client] -= 1

    def close(self) -> None:
        for c in [*self.clients, self.observer]:
            c.close()


def ready(c: Connection) -> bool:
    """Whether a reply has come."""
    if c.at < len(c.buffer):
        return True
    c.socket.setblocking(False)
    try:
        c._fill()
        return True
    except BlockingIOError:
        return False
    finally:
        c.socket.settimeout(PATIENCE)


def run(theirs, ours, resp: int, steps: list):
    """None, or the first step after which the transcripts differ: (its number, redis, ours)."""
    sides = [Side(p, resp) for p in (theirs, ours)]
    try:
        for n, (client, commands) in enumerate(steps):
            t, o = (s.step(client, commands) for s in sides)
            if t != o:
                return n, t, o
        t, o = ([(key, s.observer("TYPE", key), s.observer(*LOOK[s.observer("TYPE", key)](key)))
                 for key in sorted(s.observer("KEYS", "*"))] for s in sides)
        if t != o:
            return len(steps), t, o
        return None
    finally:
        for s in sides:
            s.close()


def shrink(theirs, ours, resp: int, steps: list) -> list:
    at = len(steps) - 1
    while at >= 0:
        fewer = steps[:at] + steps[at + 1:]
        if run(theirs, ours, resp, fewer):
            steps = fewer
        at -= 1
    return steps


def check(theirs, ours, seed: int) -> None:
    resp, steps = make(seed)
    found = run(theirs, ours, resp, steps)
    if found is None:
        return
    steps = shrink(theirs, ours, resp, steps[:found[0] + 1])
    at, t, o = run(theirs, ours, resp, steps) or found
    lines = [f"transcripts differ: seed {seed}, RESP{resp}"]
    lines += [f"  client {c}: " + " | ".join(" ".join(map(str, argv)) for argv in commands) for c,
              commands in steps[:at + 1]]
    raise AssertionError("\n".join([*lines, f"  redis: {t!r}", f"  ours:  {o!r}"]))


def main() -> int:
    from tests.real.cluster import Reference, Server, stop_all
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--scenarios", type=int, default=200)
    p.add_argument("--first", type=int, default=1)
    a = p.parse_args()
    try:
        theirs, ours = Reference().start(), Server(appendfsync="no").start()
        for seed in range(a.first, a.first + a.scenarios):
            check(theirs, ours, seed)
        print(f"{a.scenarios} scenarios equal")
    except AssertionError as e:
        print(e)
        return 1
    finally:
        stop_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())

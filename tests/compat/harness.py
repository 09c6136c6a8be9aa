"""Differential testing: the same random commands against redis-server and crdt-redis, replies
compared byte by byte.

A *sequence* is a list of steps (client number, argv). Two clients of each server, speaking RESP2 or
RESP3, run it in the same order on an empty server; every reply must be equal but for what
`differences.py` lists. At the end every key is looked at. A sequence is a function of its seed and
of the generators (`generators_*.py`, one per command group: see words.py for what they promise).

A failing sequence is shrunk, step by step, to one in which every step is needed, and printed with
its seed:

    python -m tests.compat.harness --seed 4711                  # that one again
    python -m tests.compat.harness --sequences 100000  # fresh seeds; --first chooses where to begin

SCAN and its kin are run to their end at both servers and compared as a set, since cursors are
private to a server. EXEC replies are compared element by element, each under the rule of its
command.
"""
from __future__ import annotations

import argparse
import importlib
import pkgutil
import random
import sys
import time
from pathlib import Path

from tests.compat import differences, generators_connection
from tests.compat.words import DATABASES, KEYS
from tests.respclient import Connection, ReplyError, decode, elements, encode

CLIENTS = 2
CLOSED = b"(connection closed)"
SCANS = {b"SCAN": 1, b"HSCAN": 2, b"SSCAN": 2, b"ZSCAN": 2}           # where the cursor stands


def generators() -> dict:
    """group -> command(rng), from every generators_*.py beside this file."""
    here = Path(__file__).parent
    found = sorted(m.name for m in pkgutil.iter_modules([str(here)])
                   if m.name.startswith("generators_"))
    return {name.removeprefix("generators_"):
            importlib.import_module(f"tests.compat.{name}").command for name in found}


def as_bytes(argv) -> tuple[bytes, ...]:
    return tuple(a if isinstance(a, bytes) else str(a).encode("utf-8", "surrogateescape")
                 for a in argv)


def make(seed: int) -> tuple[int, list]:
    """The sequence of a seed: RESP version, and steps."""
    rng = random.Random(seed)
    groups = generators()
    connection = groups.pop("connection")
    names = sorted(groups)
    weights = [rng.choice([0, 1, 3]) for _ in names]
    if not any(weights):
        weights = [1] * len(names)

    def ordinary(rng):
        return groups[rng.choices(names, weights)[0]](rng) if names else ("PING",)

    steps = []
    talkative = rng.choice([0.02, 0.1, 0.4])
    for _ in range(rng.randint(5, 50)):
        client = 0 if rng.random() < 0.8 else rng.randrange(CLIENTS)
        if rng.random() < 0.08:
            for argv in generators_connection.transaction(rng, ordinary):
                steps.append((client, as_bytes(argv)))
                if rng.random() < 0.1:
                    steps.append(((client + 1) % CLIENTS, as_bytes(ordinary(rng))))
        else:
            steps.append((client,
                          as_bytes(connection(rng) if rng.random() < talkative else ordinary(rng))))
    return rng.choice([2, 3]), steps


def last_look() -> list:
    """The steps that end every sequence: what is there, in each database."""
    steps = [(0, (b"RESET",))]
    for db in range(DATABASES):
        steps += [(0, (b"SELECT", b"%d" % db)), (0, (b"KEYS", b"*")), (0, (b"DBSIZE",))]
        for k in KEYS:
            k = k.encode("latin-1")
            steps += [(0, (b"TYPE", k)), (0, (b"GET", k)), (0, (b"STRLEN", k)),
                      (0, (b"PEXPIRETIME", k)), (0, (b"HGETALL", k)), (0, (b"SMEMBERS", k)),
                      (0, (b"ZRANGE", k, b"0", b"-1", b"WITHSCORES")),
                      (0, (b"XINFO", b"STREAM", k, b"FULL", b"COUNT", b"0")),
                      (0, (b"XINFO", b"GROUPS", k)), (0, (b"XINFO", b"CONSUMERS", k, b"g")),
                      (0, (b"XPENDING", k, b"g", b"-", b"+", b"100"))]
    return steps


class Side:
    """One of the two servers: its clients, and the replies it gave."""

    def __init__(self, process):
        self.process = process
        self.clients: list[Connection | None] = [None] * CLIENTS

    def begin(self, resp: int) -> None:
        for i in range(CLIENTS):
            if self.clients[i] is None:
                self.clients[i] = self.process.connect()
            c = self.clients[i]
            for argv in [("RESET",), ("HELLO", resp)] + ([("FLUSHALL",)] if i == 0 else []):
                c(*argv)

    def ask(self, client: int, commands: list) -> list[bytes]:
        """Send the commands at once and collect their replies."""
        c = self.clients[client]
        if c is None:
            return [CLOSED] * len(commands)
        out = []
        try:
            c.socket.sendall(b"".join(encode(*argv) for argv in commands))
            for argv in commands:
                out.append(self._scan(c, argv, c.raw()))
        except (ConnectionError, BrokenPipeError):
            c.close()
            self.clients[client] = None
            out += [CLOSED] * (len(commands) - len(out))
        return out

    @staticmethod
    def _scan(c: Connection, argv, reply: bytes) -> bytes:
        """SCAN, HSCAN, SSCAN or ZSCAN from 0, run to the end: one reply with the sorted set of all
        keys, pairs or members."""
        name = argv[0].upper()
        at = SCANS.get(name, 0)
        if (not at or argv[at:at + 1] != (b"0",) or reply[:1] != b"*" or reply.startswith(b"*0")
            or reply.startswith(b"*-")):
            return reply
        cursor, found = decode(reply)
        for _ in range(100_000):
            if cursor == b"0":
                paired = name in (b"HSCAN", b"ZSCAN") and b"NOVALUES" not in argv
                units = zip(found[::2], found[1::2]) if paired else ((x,) for x in found)
                return encode(*(x for unit in sorted(set(units)) for x in unit))
            cursor, more = c(*argv[:at], cursor, *argv[at + 1:])
            found += more
        raise AssertionError("SCAN does not end")

    def close(self) -> None:
        for c in self.clients:
            if c:
                c.close()


class Pair:
    """redis-server and crdt-redis, side by side."""

    def __init__(self, theirs, ours):
        self.theirs, self.ours = Side(theirs), Side(ours)
        self.commands = 0

    def close(self) -> None:
        self.theirs.close()
        self.ours.close()

    def run(self, resp: int, steps: list):
        """None, or the first mismatch: (index of the step, argv, theirs, ours)."""
        steps = steps + last_look()
        self.theirs.begin(resp)
        self.ours.begin(resp)
        queues: list[list | None] = [None] * CLIENTS                 # commands queued since MULTI
        i = 0
        while i < len(steps):
            client, batch, j = steps[i][0], [], i
            while j < len(steps) and steps[j][0] == client:
                batch.append(steps[j][1])
                j += 1
                # what follows must not be in the pipeline
                if batch[-1] and batch[-1][0].upper() in SCANS:
                    break
            theirs, ours = self.theirs.ask(client, batch), self.ours.ask(client, batch)
            self.commands += len(batch)
            for n, (argv, t, o) in enumerate(zip(batch, theirs, ours)):
                if not self._same(queues, client, argv, t, o):
                    return i + n, argv, t, o
            i = j
        return None

    @staticmethod
    def _same(queues, client, argv, theirs: bytes, ours: bytes) -> bool:
        name, queue = argv[0].upper(), queues[client]
        if theirs == b"+QUEUED\r\n":
            queue.append(argv)
        elif name == b"MULTI" and theirs == b"+OK\r\n":
            queues[client] = []
        elif (queue is not None and name in (b"EXEC", b"DISCARD", b"RESET", b"QUIT")
              and not theirs.startswith(b"-ERR wrong")):
            queues[client] = None
        if theirs == ours:
            return True
        if name == b"EXEC" and theirs[:1] == ours[:1] == b"*" and queue is not None:
            t, o = elements(theirs), elements(ours)
            return len(t) == len(o) == len(queue) and all(map(differences.same, queue, t, o))
        return differences.same(argv, theirs, ours)

    def shrink(self, resp: int, steps: list, attempts: int = 400) -> list:
        """A shorter sequence that still shows a mismatch: steps are left out in halves, quarters
        ... single steps."""
        size = max(1, len(steps) // 2)
        while attempts and size:
            at = 0
            while at < len(steps) and attempts:
                attempts -= 1
                fewer = steps[:at] + steps[at + size:]
                if self.run(resp, fewer):
                    steps = fewer
                else:
                    at += size
            size //= 2
        return steps

    def check(self, seed: int) -> None:
        """Run the sequence of a seed; a mismatch is shrunk and raised as an AssertionError that
        tells everything."""
        resp, steps = make(seed)
        if self.run(resp, steps) is None:
            return
        small = self.shrink(resp, steps)
        found = self.run(resp, small)
        # it does not come back on a shorter sequence
        if found is None:
            small, found = steps, self.run(resp, steps)
        raise AssertionError(describe(seed, resp, small, found))


def describe(seed: int, resp: int, steps: list, found) -> str:
    lines = [f"replies differ: seed {seed}, RESP{resp}; again with: python -m tests.compat.harness "
             f"--seed {seed}"]
    if found is None:
        return lines[0] + "\n  (only once: not when run again)"
    at, argv, theirs, ours = found
    for client, step in steps[:at + 1]:
        lines.append(f"  client {client}: " + " ".join(show(a) for a in step))
    if at >= len(steps):
        lines.append("  at the end: " + " ".join(show(a) for a in argv))
    return "\n".join(lines + [f"  redis: {theirs[:2000]!r}", f"  ours:  {ours[:2000]!r}"])


def show(arg: bytes) -> str:
    plain = arg.decode("ascii", "replace")
    return (plain if plain.isprintable() and plain and not set(plain) & set(" '\"\\\ufffd")
            else repr(arg)[1:])


def main() -> int:
    from tests.real.cluster import Reference, Server, stop_all
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seed", type=int, help="run this one sequence")
    p.add_argument("--sequences", type=int, default=1000)
    p.add_argument("--first", type=int, default=1)
    p.add_argument("--keep-going", action="store_true",
                   help="count mismatches, show one of each command")
    p.add_argument("--self", action="store_true",
                   help="compare redis-server with itself: a check of the harness")
    a = p.parse_args()
    seeds = [a.seed] if a.seed is not None else range(a.first, a.first + a.sequences)
    failed, shown = 0, set()
    try:
        theirs = Reference().start()
        ours = Reference().start() if a.self else Server(appendfsync="no").start()
        pair = Pair(theirs, ours)
        start = time.monotonic()
        for seed in seeds:
            try:
                if a.keep_going:
                    resp, steps = make(seed)
                    found = pair.run(resp, steps)
                    if found:
                        failed += 1
                        if found[1][0].upper() not in shown:
                            shown.add(found[1][0].upper())
                            pair.check(seed)
                else:
                    pair.check(seed)
            except AssertionError as e:
                print(e, flush=True)
                if not a.keep_going:
                    return 1
            except (ConnectionError, OSError, ReplyError) as e:
                print(f"seed {seed}: {e!r}\n{ours.log()}", flush=True)
                return 1
        print(f"{len(seeds) - failed} of {len(seeds)} sequences equal, {pair.commands} commands, "
              f"{time.monotonic() - start:.1f} s")
        return 1 if failed else 0
    finally:
        stop_all()


if __name__ == "__main__":
    sys.exit(main())

"""The figures of the project: crdt-redis beside redis-server, measured in turn on this machine.

    python -m bench.compare                              # everything; about half an hour
    python -m bench.compare pipelined --rounds 3 -n 200000
    python -m bench.compare memory busy lag              # chosen sections

Every figure is a ratio taken in one run: rounds alternate between the two servers, and the median
counts. Next to requests per second stands the server's CPU time per request (user + system of the
process, over the requests), which a busy machine disturbs least. The others run with `--appendonly
yes --appendfsync everysec --save "" --auto-aof-rewrite-percentage 0`, crdt-redis with its defaults,
all on one disk. Tables are printed as Markdown. Nothing here fails for being slow.

CRDT_REDIS_EXECUTABLE chooses the executable to measure instead of this checkout. BENCH_PEERS names
servers beside the redis-server on the path, for throughput, memory and stalls:
BENCH_PEERS="redis-8.2=/path/redis-server valkey-9.1=/path/valkey-server".
"""
from __future__ import annotations

import argparse
import csv
import io
import os
import random
import selectors
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.real.cluster import Cluster, Process, Reference, Server, executable, stop_all
from tests.respclient import encode

TESTS = "ping_mbulk,set,get,incr,mset,lpush,rpush,lpop,rpop,lrange_100,sadd,hset,spop,zadd,zpopmin"
ROOT = Path(__file__).resolve().parents[1]
MILLION = 1_000_000


# ---- measuring -----------------------------------------------------------------------------------

class Peer(Reference):
    """A server to compare with, with a log as ours has."""

    def __init__(self, name: str, binary: str):
        super().__init__("--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
                         "--auto-aof-rewrite-percentage", "0")
        self.name, self.binary = name, binary

    def command(self) -> list[str]:
        return [self.binary, *super().command()[1:]]


def others() -> list[Callable[[], Process]]:
    """What makes each of the servers to compare with, not started."""
    found = [("redis-server", Reference("x").command()[0])] + [tuple(p.split("=", 1))
                                                               for p in os.environ.get(
                                                                   "BENCH_PEERS", "").split()]
    return [lambda name=name, binary=binary: Peer(name, binary) for name, binary in found]


def redis_with_log() -> Process:
    return others()[0]().start()


def ours(name: str = "a", **settings) -> Server:
    return Server(name, appendfsync="everysec", **settings).start()


def benchmark(server: Process, test: str, n: int, clients: int, pipeline: int, keys: int, size: int,
              cpu: int | None = None) -> dict:
    """One run of redis-benchmark: requests/s, server CPU in microseconds per request, p99 in ms."""
    argv = ["redis-benchmark", "-p", server.port, "-t", test, "-n", n, "-c", clients, "-P",
            pipeline, "-r", keys, "-d", size, "--csv"]
    if cpu is not None:
        argv = ["taskset", "-c", cpu] + argv
    before = server.cpu_seconds()
    out = subprocess.run([str(x) for x in argv], capture_output=True, text=True, check=True)
    used = server.cpu_seconds() - before
    row = list(csv.DictReader(io.StringIO(out.stdout)))[-1]
    return {"rps": float(row["rps"]), "cpu": used / n * 1e6, "p99": float(row["p99_latency_ms"])}


def median(runs: list[dict]) -> dict:
    return {k: statistics.median(r[k] for r in runs) for k in runs[0]}


def table(title: str, head: list[str], rows: list[list]) -> None:
    print(f"\n### {title}\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{x:.2f}" if isinstance(x, float) else str(x) for x in row) + " |")
    sys.stdout.flush()


# What the tests that take something away find, by the number of an element.
PRELOADS = {
    "lpop": lambda numbers: ("RPUSH", "mylist", *("x" * 32 for _ in numbers)),
    "rpop": lambda numbers: ("RPUSH", "mylist", *("x" * 32 for _ in numbers)),
    "spop": lambda numbers: ("SADD", "myset", *(f"element:{i:012}" for i in numbers)),
    "zpopmin": lambda numbers: ("ZADD", "myzset",
                                *(x for i in numbers for x in (i, f"element:{i:012}"))),
}


def preload(server: Process, test: str, n: int) -> None:
    """So much that all n requests of the test find something."""
    if test in PRELOADS:
        with server.connect() as c:
            for i in range(0, n, 1000):
                c(*PRELOADS[test](range(i, i + 1000)))


def throughput(a, title: str, tests: str, n: int, pipeline: int, sizes=(32,)) -> None:
    """A table of the tests, all servers in turn. Ratios are to the best of the others."""
    rows = []
    names: list[str] = []
    for size in sizes:
        mine, *theirs = ours(), *(make().start() for make in others())
        names = [s.name for s in theirs]
        runs: dict = {(t, s): [] for t in tests.split(",") for s in (mine, *theirs)}
        for i in range(a.rounds):
            for test in tests.split(","):
                for s in (mine, *theirs) if i % 2 else (*theirs, mine):
                    preload(s, test, n)
                    runs[test, s].append(benchmark(s, test, n, a.clients, pipeline, a.keys, size))
        for test in tests.split(","):
            o, found = median(runs[test, mine]), [median(runs[test, s]) for s in theirs]
            rows.append([test if len(sizes) == 1 else f"{test} {size} B",
                         *(r["cpu"] for r in found), o["cpu"],
                         o["cpu"] / min(r["cpu"] for r in found),
                         f"{o['rps']:.0f}", o["rps"] / max(r["rps"] for r in found), o["p99"],
                         o["p99"] / min(r["p99"] for r in found)])
        for s in (mine, *theirs):
            s.dispose()
    table(f"{title} (-n {n} -c {a.clients} -P {pipeline} -r {a.keys}, {a.rounds} rounds)",
          ["test", *(f"{name} µs CPU/req" for name in names), "ours", "to the best", "ours req/s",
           "to the best", "ours p99 ms", "to the best"], rows)


# What one command of a fill is, by the number it is for: names have 16 bytes, values 32.
FIVE = range(5)
FILLS = {
    "strings": lambda i: (b"SET", b"key:%012d" % i, b"%032d" % i),
    "set members": lambda i: (b"SADD", b"set", b"key:%012d" % i),
    "sorted set members": lambda i: (b"ZADD", b"zset", b"%d" % i, b"key:%012d" % i),
    "hash fields": lambda i: (b"HSET", b"hash", b"key:%012d" % i, b"%032d" % i),
    "list elements": lambda i: (b"RPUSH", b"list", b"%032d" % i),
    "counters": lambda i: (b"INCR", b"key:%012d" % i),
    "strings with TTL": lambda i: (b"SET", b"key:%012d" % i, b"%032d" % i, b"EX", b"100000"),
}
# Keys of five elements, a fifth as many of them.
SMALL_FILLS = {
    "hashes of 5": lambda i: (b"HSET", b"key:%012d" % i,
                              *(x for j in FIVE for x in (b"field%d" % j, b"value:%07d" % i))),
    "sets of 5 integers": lambda i: (b"SADD", b"key:%012d" % i, *(b"%d" % (i + j) for j in FIVE)),
    "sets of 5 strings": lambda i: (b"SADD", b"key:%012d" % i,
                                    *(b"member:%d:%d" % (i, j) for j in FIVE)),
    "sorted sets of 5": lambda i: (b"ZADD", b"key:%012d" % i,
                                   *(x for j in FIVE for x in (b"%d" % (i + j), b"member%d" % j))),
    "HyperLogLogs of 5": lambda i: (b"PFADD", b"key:%012d" % i, *(b"%d:%d" % (i, j) for j in FIVE)),
    "lists of 5": lambda i: (b"RPUSH", b"key:%012d" % i, *(b"value:%07d" % i for j in FIVE)),
}


def fill(server: Process, n: int, what: str = "strings") -> None:
    """n of them, in a fixed pseudo-random order."""
    with server.connect() as c:
        for start in range(0, n, 10_000):
            numbers = [i * 7919 % n for i in range(start, min(start + 10_000, n))]
            command = FILLS.get(what) or SMALL_FILLS[what]
            c.socket.sendall(b"".join(encode(*command(i)) for i in numbers))
            for _ in numbers:
                c.raw()


# ---- sections ------------------------------------------------------------------------------------

def pipelined(a):
    throughput(a, "Pipelined throughput", a.tests, a.n, 16)


def unpipelined(a):
    throughput(a, "Unpipelined", a.tests, a.n // 5, 1)


def large(a):
    throughput(a, "Large values", "set,get", a.n // 10, 1, sizes=(1024, 65536))


def memory(a):
    """Growth of resident memory for a million of each, and for a fifth as many keys of five."""
    rows = []
    for what in (*FILLS, *SMALL_FILLS):
        n = a.keys_in_memory // (5 if what in SMALL_FILLS else 1)
        *theirs, mine = servers = [*(make().start() for make in others()), ours()]
        grown = []
        for s in servers:
            before = s.resident_bytes()
            fill(s, n, what)
            time.sleep(1.5)
            grown.append((s.resident_bytes() - before) / 1e6)
        rows.append([f"{n} {what}", *grown, grown[-1] / min(grown[:-1])])
        names = [s.name for s in theirs]
        stop_all()
    table("Memory: growth of RSS in MB (names of 16 bytes, values of 32)",
          ["what", *names, "ours", "to the best"], rows)


# One command of a kind, by its number; each begins with what has to be there.
FIVE_NAMES = [b"member:%d" % j for j in FIVE]
LOGGED = {
    "SET": lambda i: (b"SET", b"key:%012d" % i, b"%032d" % i),
    "SET, EX": lambda i: (b"SET", b"key:%012d" % i, b"%032d" % i, b"EX", b"100"),
    "INCR": lambda i: (b"INCR", b"counter"),
    "HINCRBY": lambda i: (b"HINCRBY", b"hash", b"field", b"1"),
    "EXPIRE": lambda i: (b"EXPIRE", b"key:%012d" % i, b"100"),
    "DEL": lambda i: (b"DEL", b"key:%012d" % i),
    "LPUSH": lambda i: (b"LPUSH", b"list", b"%032d" % i),
    "RPUSH of 5": lambda i: (b"RPUSH", b"list", *(b"%032d" % i for _ in FIVE)),
    "LPOP": lambda i: (b"LPOP", b"list"),
    "SADD": lambda i: (b"SADD", b"set", b"member:%012d" % i),
    "SADD of 5": lambda i: (b"SADD", b"set:%d" % i, *FIVE_NAMES),
    "HSET": lambda i: (b"HSET", b"hash:%d" % i, b"field", b"%032d" % i),
    "HSET of 5": lambda i: (b"HSET", b"hash:%d" % i, *(x for n in FIVE_NAMES for x in (n, b"v"))),
    "ZADD": lambda i: (b"ZADD", b"zset", b"%d" % i, b"member:%012d" % i),
    "ZADD of 5": lambda i: (b"ZADD", b"zset:%d" % i,
                            *(x for n in FIVE_NAMES for x in (b"%d" % i, n))),
    "ZINCRBY": lambda i: (b"ZINCRBY", b"zset", b"1.5", b"member:%012d" % i),
    "APPEND of 100 to 1 MiB": lambda i: (b"APPEND", b"large", b"x" * 100),
    "SETRANGE of 100 in 1 MiB": lambda i: (b"SETRANGE", b"large", b"%d" % (i * 331), b"y" * 100),
    "SETBIT in 1 MiB": lambda i: (b"SETBIT", b"large", b"%d" % (i * 2654435 % (8 << 20)), b"1"),
}
# Of a million members, or as many as --keys-in-memory.
LINEAR = {
    "RENAME set": ("RENAME", "set", "other"), "COPY zset": ("COPY", "zset", "copy"),
    "MOVE hash": ("MOVE", "hash", 1), "SUNIONSTORE": ("SUNIONSTORE", "union", "other"),
    "ZUNIONSTORE": ("ZUNIONSTORE", "zunion", 1, "zset"),
    "SORT STORE": ("SORT", "list", "STORE", "sorted"), "RENAME list": ("RENAME", "list", "moved"),
}


def without_checkpoints() -> list[Process]:
    """All servers, ours the last; no log shrinks meanwhile."""
    return [*(make().start() for make in others()), ours(compaction_threshold=1_000_000)]


def logged_bytes(server: Process) -> int:
    """Of the log, when it grows no more."""
    size = -1
    while True:
        rows = dict(r.split(":", 1) for r in server("INFO", "persistence").decode().split("\r\n")
                    if ":" in r)
        if size == (size := int(rows["aof_current_size"])):
            return size
        time.sleep(0.3)


def log(a):
    """Bytes of log per command, one client without a pipeline; of large strings fewer commands."""
    rows = []
    servers = without_checkpoints()
    for s in servers:
        s("SET", "large", b"x" * (1 << 20))
    for what, command in LOGGED.items():
        n = 200 if "MiB" in what else 2000
        used = []
        for s in servers:
            before = logged_bytes(s)
            with s.connect() as c:
                for i in range(n):
                    c(*command(i))
            used.append((logged_bytes(s) - before) / n)
        rows.append([what, *used, used[-1] / min(used[:-1])])
    table("Log: bytes per command", ["command", *(s.name for s in servers), "to the least"], rows)


def linear(a):
    """Commands that read or write all members: server CPU, log beside the payload of DUMP."""
    rows = []
    n = a.keys_in_memory
    servers = without_checkpoints()
    for s in servers:
        for what in ("set members", "sorted set members", "hash fields", "list elements"):
            fill(s, n, what)
    for name, command in LINEAR.items():
        times, used = [], []
        for s in servers:
            cpu, size = s.cpu_seconds(), logged_bytes(s)
            s(*command)
            grown = logged_bytes(s) - size
            times.append((s.cpu_seconds() - cpu) / n * 1e9)
            used.append(grown / n)
        rows.append([name, *times, times[-1] / min(times[:-1]), *used])
    names = [s.name for s in servers]
    table(f"{n} members: server CPU in ns per member, bytes of log per member",
          ["command", *(f"{x}, ns" for x in names), "by the best", *(f"{x}, bytes" for x in names)],
          rows)


class Spinning(Server):
    """Our server in a process in which a pure-Python thread spins while a file exists
    (bench/spinning.py)."""

    @property
    def flag(self) -> Path:
        return self.directory / "spin"

    def command(self):
        return [sys.executable, str(ROOT / "bench" / "spinning.py"),
                str(self.flag)] + super().command()[len(executable()):]


def busy(a):
    s = Spinning("a", appendfsync="everysec").start()
    runs: dict = {False: [], True: []}
    for _ in range(a.rounds):
        for spin in (False, True):
            s.flag.touch() if spin else s.flag.unlink(missing_ok=True)
            time.sleep(0.3)
            runs[spin].append(benchmark(s, "set", a.n // 2, a.clients, 16, a.keys, 32,
                                        cpu=os.cpu_count() - 1))
    idle, spinning = median(runs[False]), median(runs[True])
    table("A busy sync thread: SET -P 16, client pinned to one core",
          ["idle req/s", "spinning req/s", "ratio"],
          [[f"{idle['rps']:.0f}", f"{spinning['rps']:.0f}", spinning["rps"] / idle["rps"]]])


# Writes at a rate, in pipelines of a millisecond or of one, which keep step with no timer of the
# servers.
LOADER = """
import random, socket, sys, time
port, rate = map(int, sys.argv[1:])
s = socket.create_connection(("127.0.0.1", port))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
batch = max(1, rate // 1000)
one = b"*3\\r\\n$3\\r\\nSET\\r\\n$16\\r\\nkey:%012d\\r\\n$32\\r\\n%032d\\r\\n"
data = b"".join(one % (i, i) for i in range(batch))
due = time.monotonic()
while True:
    s.sendall(data)
    left = batch
    while left: left -= s.recv(1 << 16).count(b"\\n")
    due = max(due + batch / rate * random.uniform(0.5, 1.5), time.monotonic() - 0.1)
    time.sleep(max(0.0, due - time.monotonic()))
"""


def lag(a):
    """From the write's reply at A until it is visible at B, while A takes writes at a given
    rate."""
    c = Cluster(2).start()
    c.sync()
    rows = []
    for rate in a.rates:
        load = (subprocess.Popen([sys.executable, "-c", LOADER, str(c[0].port), str(rate)]) if rate
                else None)
        time.sleep(0.5)
        seen = []
        with c[0].connect() as w, c[1].connect() as r:
            for i in range(a.samples):
                w("SET", "probe", i)
                start = time.perf_counter()
                while r("GET", "probe") != b"%d" % i:
                    time.sleep(0.0001)
                seen.append((time.perf_counter() - start) * 1e3)
                time.sleep(random.uniform(0, 0.02))
        if load:
            load.kill()
            load.wait()
        seen.sort()
        rows.append([rate or "single writes", seen[len(seen) // 2], seen[int(len(seen) * 0.99)],
                     seen[-1]])
    table(f"Replication lag on loopback, {a.samples} samples",
          ["writes/s beside", "p50 ms", "p99 ms", "max ms"], rows)


def idle(a):
    """CPU of a replica with so many peers: idle, and while one of them takes single writes at a low
    rate."""
    rows = []
    for count in (1, 2, 3):
        c = Cluster(count, appendfsync="everysec", sync_interval="5s").start()
        c.sync()
        used: dict[int, list[list[float]]] = {0: [], a.low_rate: []}
        for _ in range(a.rounds):
            for rate in used:
                time.sleep(0.5)
                before, begun = [s.cpu_seconds() for s in c], time.monotonic()
                steadily(c[0], rate, 5.0)
                passed = time.monotonic() - begun
                used[rate].append([(s.cpu_seconds() - b) / passed * 100 for s, b in zip(c, before)])
        rows.append([count - 1, *(statistics.median(x[i] for x in used[rate]) if i < count else "-"
                                  for rate in used for i in (0, 1))])
        stop_all()
    table("Idle and light load: % of a core",
          ["peers", "idle", "a peer, idle", f"{a.low_rate} SET/s here",
           f"a peer, {a.low_rate} SET/s there"], rows)


def steadily(server: Process, rate: int, seconds: float) -> None:
    """Single SETs, evenly spaced."""
    begun = due = time.monotonic()
    with server.connect() as c:
        while (now := time.monotonic()) < begun + seconds:
            if not rate:
                time.sleep(seconds)
                continue
            c("SET", f"key:{random.randrange(100_000):012}", "x" * 32)
            due += 1 / rate
            time.sleep(max(0.0, due - now))


def peers(a):
    """CPU of one server per SET, alone and with live peers, until they have taken everything."""
    rows, alone, n = [], None, a.n // 4
    for count in (1, 2, 3, 5):
        c = Cluster(count, appendfsync="everysec").start()
        c.sync()
        runs = []
        for _ in range(a.rounds):
            before = c[0].cpu_seconds()
            run = benchmark(c[0], "set", n, a.clients, 16, a.keys, 32)
            c.sync(120_000)
            runs.append(run | {"cpu": (c[0].cpu_seconds() - before) / n * 1e6})
        m = median(runs)
        alone = alone or m["cpu"]
        command = len(encode("SET", "key:000000012345", "x" * 32))
        sent = [dict(zip(p[::2], p[1::2])) for p in c[0]("CRDT.PEERS", "VERBOSE")]
        sent = [dict(zip(p[b"counts"][::2],
                         p[b"counts"][1::2]))[b"bytes_sent"] / (n * a.rounds) / command
                         for p in sent]
        rows.append([count - 1, f"{m['rps']:.0f}", m["cpu"], m["cpu"] / alone,
                     max(sent, default="-")])
        stop_all()
    table("Cost of peers: SET -P 16 at one server, 16-byte keys and 32-byte values",
          ["peers", "req/s", "µs CPU/req", "to none", "bytes sent to a peer / RESP bytes"], rows)


def growth(a):
    rows, first = [], None
    for n in (10_000, MILLION) + ((10 * MILLION,) if a.ten_million else ()):
        s = ours()
        fill(s, n)
        used = [median([benchmark(s, test, a.n // 2, a.clients, 16, n, 32)
                        for _ in range(a.rounds)])["cpu"] for test in ("set", "get")]
        first = first or used
        rows.append([n, used[0], used[0] / first[0], used[1], used[1] / first[1]])
        s.dispose()
    table("Growth: µs CPU per request by number of keys (-P 16)",
          ["keys", "SET", "to first", "GET", "to first"], rows)
    s, times = ours(), {}
    sizes = (10, 1000, MILLION)
    for n in sizes:
        for what in ("list elements", "sorted set members"):
            fill(s, n, what)
        for name, commands in GROWING.items():
            commands = [c.replace("MIDDLE", str(n // 2)) for c in commands]
            times.setdefault(name,
                             []).append(statistics.median(cost(s, commands)
                                                          for _ in range(a.rounds)))
        s("FLUSHALL")
    table("Growth: µs CPU per request by size of the list or sorted set (one client, 10,000 in a "
          "pipeline)",
          ["command", *map(str, sizes), "last to first"],
          [[name, *t, t[-1] / t[0]] for name, t in times.items()])
    s, times = ours(), {}
    for n in sizes:
        for command in CHANGES:
            s("SETRANGE", "string", n - 1, "x")
            times.setdefault(command, []).append(statistics.median(
                cost(s, [command.replace("MIDDLE", str(n // 2)) + c for c in "01"])
                for _ in range(a.rounds)))
            s("DEL", "string")
    table("Growth: µs CPU per request by bytes of the string (one client, 10,000 in a pipeline)",
          ["command", *map(str, sizes), "last to first"],
          [[name, *t, t[-1] / t[0]] for name, t in times.items()])


# Read the same, or leave the size as it was: a push is followed by a pop.
GROWING = {
    "LPUSH, LPOP": ("LPUSH list x", "LPOP list"),
    "LINDEX middle": ("LINDEX list MIDDLE",),
    "LSET middle": ("LSET list MIDDLE x",),
    "ZADD middle": ("ZADD zset MIDDLE key:000000000001",),
    "ZRANK": ("ZRANK zset key:000000000003",),
    "ZRANGE middle": ("ZRANGE zset MIDDLE MIDDLE",),
    "ZADD, ZPOPMIN": ("ZADD zset -1 first", "ZPOPMIN zset"),
}


# Of a string; 0 or 1 follows.
CHANGES = ("SETBIT string MIDDLE ", "SETRANGE string MIDDLE some-", "APPEND string ",
           "BITFIELD string INCRBY u16 MIDDLE 1")


def cost(server: Process, commands: list[str], times: int = 10_000) -> float:
    """Server CPU in µs per command."""
    data = b"".join(encode(*c.split()) for c in commands) * times
    before = server.cpu_seconds()
    with server.connect() as c:
        for _ in range(5):
            c.socket.sendall(data)
            for _ in range(times * len(commands)):
                c.raw()
    return (server.cpu_seconds() - before) / (5 * times * len(commands)) * 1e6


def beside(a, measure: Callable[[Process], float]) -> list[float]:
    """What is measured at servers that have just been started, each in turn, in the order of
    `beside_titles`: medians of all rounds; and ours by the best of the others."""
    makers = [lambda make=make: make().start() for make in others()] + [ours]
    runs: list[list[float]] = [[] for _ in makers]
    for _ in range(a.rounds):
        for found, start in zip(runs, makers):
            server = start()
            found.append(measure(server))
            server.dispose()
    *theirs, mine = map(statistics.median, runs)
    return [*theirs, mine, mine / min(theirs)]


def beside_titles() -> list[str]:
    return [*(f"{make().name}, µs" for make in others()), "crdt-redis, µs", "by the best"]


def pubsub(a):
    """PUBLISH of 32 bytes, 16 in a pipeline: server CPU in µs per request, by how many clients
    listen."""
    rows = []
    for listeners in (0, 1, 100):
        n = min(a.n, 5_000_000 // (16 * max(listeners, 1)) * 16)
        rows.append([listeners, *beside(a, lambda s, k=listeners, n=n: published(s, k, n))])
    table("PUBLISH", ["subscribers", *beside_titles()], rows)


def rested(server: Process) -> float:
    """Its CPU seconds once it has nothing to do: a start goes on behind the first PONG."""
    before = -1.0
    while (now := server.cpu_seconds()) - before > 0.005:
        before = now
        time.sleep(0.2)
    return now


def published(server: Process, listeners: int, n: int) -> float:
    """Until all of them have all of the messages."""
    message = b"x" * 32
    size = len(b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$32\r\n%b\r\n" % message)
    subscribers = selectors.DefaultSelector()
    for _ in range(listeners):
        c = server.connect()
        c("SUBSCRIBE", "ch")
        c.socket.setblocking(False)
        subscribers.register(c.socket, selectors.EVENT_READ, [n * size, c])

    def read():
        left = listeners
        while left:
            for key, _ in subscribers.select():
                key.data[0] -= len(key.fileobj.recv(1 << 18))
                if key.data[0] <= 0:
                    subscribers.unregister(key.fileobj)
                    left -= 1

    data = encode(b"PUBLISH", b"ch", message) * 16
    reader = threading.Thread(target=read)
    reader.start()
    before = rested(server)
    with server.connect() as c:
        for _ in range(n // 16):
            c.socket.sendall(data)
            for _ in range(16):
                c.raw()
        reader.join()
        used = server.cpu_seconds() - before
    return used / n * 1e6


# What scripts are compared by: (text, keys and arguments). The last one is what job queues run.
SCRIPTS = {
    "one SET": ("return redis.call('SET', KEYS[1], ARGV[1])", (b"1", b"k", b"v")),
    "20 commands": ("""
local id = redis.call('INCR', KEYS[1] .. ':id')
local job = KEYS[1] .. ':' .. id % 1000
redis.call('HSET', job, 'data', ARGV[1], 'state', 'waiting')
redis.call('LPUSH', KEYS[1] .. ':waiting', id)
for _ = 1, 3 do
    redis.call('LLEN', KEYS[1] .. ':waiting')
    redis.call('HGET', job, 'state')
    redis.call('ZADD', KEYS[1] .. ':at', id, id % 100)
    redis.call('HINCRBY', job, 'tries', 1)
end
redis.call('RPOP', KEYS[1] .. ':waiting')
redis.call('HSET', job, 'state', 'done')
redis.call('ZREM', KEYS[1] .. ':at', id % 100)
redis.call('INCRBY', KEYS[1] .. ':done', 1)
return id""", (b"1", b"q", b"x" * 100)),
}


def scripts(a):
    """EVAL, EVALSHA and FCALL: server CPU in µs per request, 16 in a pipeline and one by one."""
    rows = []
    for name, (text, args) in SCRIPTS.items():
        for how in ("EVAL", "EVALSHA", "FCALL"):
            for pipeline in (16, 1):
                n = a.n // (10 if name == "one SET" else 50) // 16 * 16
                rows.append([f"{how} of {name}, -P {pipeline}", *beside(
                    a, lambda s, how=how, text=text, args=args, n=n, pipeline=pipeline:
                    scripted(s, how, text, args, n, pipeline))])
    table("Scripts", ["what", *beside_titles()], rows)


def scripted(server: Process, how: str, text: str, args, n: int, pipeline: int) -> float:
    if how == "FCALL":
        library = ("#!lua name=bench\nredis.register_function('f', function(KEYS, ARGV)\n"
                   f"{text}\nend)")
        server("FUNCTION", "LOAD", library)
        name = b"f"
    else:
        name = text.encode() if how == "EVAL" else server("SCRIPT", "LOAD", text)
    data = encode(how.encode(), name, *args) * pipeline
    with server.connect() as c:
        c.socket.sendall(data)
        for _ in range(pipeline):
            c.raw()
        before = rested(server)
        for _ in range(n // pipeline):
            c.socket.sendall(data)
            for _ in range(pipeline):
                c.raw()
        return (server.cpu_seconds() - before) / n * 1e6


def program(a):
    """Size of the executable and its start with an empty data directory."""
    path = Path(os.environ.get("CRDT_REDIS_EXECUTABLE") or ROOT / "dist" / "crdt-redis")
    times = []
    for _ in range(a.rounds):
        s = Server("a")
        start = time.monotonic()
        s.start(wait=False)
        while True:
            try:
                with s.connect() as c:
                    c("PING")
                    break
            except OSError:
                time.sleep(0.001)
        times.append(time.monotonic() - start)
        s.dispose()
    size = f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "not built"
    table("Executable", ["measured", "size", "exec to first PONG, s"],
          [[Path(executable()[0]).name, size, statistics.median(times)]])


SECTIONS = {f.__name__: f for f in (pipelined, unpipelined, large, memory, log, linear, busy,
                                    lag, idle, peers, growth, pubsub, scripts,
                                    program)}


def options(p: argparse.ArgumentParser, sections: dict[str, Callable], rounds: int) -> None:
    p.add_argument("sections", nargs="*", help=f"of {', '.join(sections)}; none: all")
    p.add_argument("--rounds", type=int, default=rounds)


def run(p: argparse.ArgumentParser, module: str, sections: dict[str, Callable]) -> int:
    """Prints the chosen sections, or all."""
    a = p.parse_args()
    if unknown := set(a.sections) - set(sections):
        p.error(f"no such section: {', '.join(unknown)}")
    if not shutil.which("redis-benchmark"):
        p.error("redis-benchmark is needed: install the Debian package redis-tools")
    print(f"`python -m {module} {' '.join(sys.argv[1:])}`")
    try:
        for name in a.sections or sections:
            sections[name](a)
            stop_all()
    finally:
        stop_all()
    return 0


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(p, SECTIONS, rounds=5)
    p.add_argument("-n", type=int, default=MILLION,
                   help="requests of a pipelined run; other runs take a part of it")
    p.add_argument("--clients", type=int, default=50)
    p.add_argument("--keys", type=int, default=100_000)
    p.add_argument("--tests", default=TESTS)
    p.add_argument("--rates", type=int, nargs="*", default=[0, 500, 5000, 20_000, 100_000],
                   help="of lag: writes/s")
    p.add_argument("--low-rate", type=int, default=500)
    p.add_argument("--samples", type=int, default=500)
    p.add_argument("--keys-in-memory", type=int, default=MILLION)
    p.add_argument("--ten-million", action="store_true", help="growth: 10,000,000 keys as well")
    return run(p, "bench.compare", SECTIONS)


if __name__ == "__main__":
    sys.exit(main())

"""What ops cost that come before what they depend on: the causal buffer, alone and in real
clusters.

    python -m bench.waiting kernel -n 100000  # seconds of CPU and the longest call, per shape
    python -m bench.waiting mesh --seconds 15   # three writers, every replica: the longest PING
    python -m bench.waiting line --seconds 15 --rate 60000    # a - b - c without a link from a to c

kernel: a replica is given the same ops in the order that hurts. mesh and line: server processes
under load, each with a client that sends PING every few milliseconds; then how long it takes until
all have the same. Nothing here fails for being slow.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time

from crdtredis._core import Replica, probe_make
from tests.real.cluster import Cluster, Server, stop_all
from tests.respclient import encode

CHUNK = 4096                    # ops per call, about half a megabyte: what a push carries


# ---- the kernel alone ----------------------------------------------------------------------------


def made(replica: Replica, n: int, now: int) -> bytes:
    replica.now = now
    for i in range(n):
        probe_make(replica, [("set", 0, b"k%d" % (i % 1000), b"v" * 60)])
    return replica.take_ops()


def give(replica: Replica, batches: list[bytes]) -> list[float]:
    spent = []
    for batch in batches:
        begun = time.perf_counter()
        replica.receive(batch)
        spent.append(time.perf_counter() - begun)
        replica.take_ops()
    return spent


def writers(now: int) -> tuple[Replica, Replica, Replica]:
    a, b, z = (Replica(name, 1, pending_limit=1 << 30) for name in "abz")
    for r in (a, b, z):
        r.now = now
        for name in "abz":
            r.declare(name, 1)
    return a, b, z


def crossed(n: int) -> tuple[Replica, list[bytes]]:
    """b's ops, each behind one of a's; all of b's come first."""
    a, b, z = writers(1000)
    first, second = [], []
    for _ in range(n // CHUNK + 1):
        ours, theirs = [], []
        for _ in range(CHUNK // 2):
            ours.append(made(a, 1, 1000))
            b.receive(ours[-1])
            b.take_ops()
            theirs.append(made(b, 1, 1000))
        first.append(b"".join(theirs))
        second.append(b"".join(ours))
    return z, first + second


def backwards(n: int) -> tuple[Replica, list[bytes]]:
    """One writer's chunks, the last first."""
    a, _, z = writers(1000)
    return z, [made(a, CHUNK, 1000) for _ in range(n // CHUNK + 1)][::-1]


def shuffled(n: int) -> tuple[Replica, list[bytes]]:
    """One writer's ops one by one, in no order at all."""
    import random
    a, _, z = writers(1000)
    ops = [made(a, 1, 1000) for _ in range(n)]
    random.Random(1).shuffle(ops)
    return z, [b"".join(ops[i:i + CHUNK]) for i in range(0, n, CHUNK)]


def kernel(n: int) -> None:
    print("| shape | ops | CPU s | longest call ms |\n|---|---|---|---|")
    for shape in (crossed, backwards, shuffled):
        z, batches = shape(n)
        spent = give(z, batches)
        assert z.pending()["ops"] == 0
        print(f"| {shape.__name__} | {n} | {sum(spent):.2f} | {max(spent) * 1e3:.1f} |", flush=True)
    a, _, z = writers(10_000_000)
    spent = give(z, [made(a, CHUNK, 20_000_000) for _ in range(n // CHUNK + 1)])
    print(f"| held for their stamps | {n} | {sum(spent):.2f} | {max(spent) * 1e3:.1f} |")
    spent = []
    for _ in range(20):
        begun = time.perf_counter()
        z.tick()
        spent.append(time.perf_counter() - begun)
    print(f"| ... looked at again | | {statistics.mean(spent):.4f} | {max(spent) * 1e3:.1f} |")


# ---- real clusters -------------------------------------------------------------------------------


class Pings(threading.Thread):
    """The gaps between the answers to PING at one server."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.connection, self.gaps, self.going = server.connect(timeout=120), [], True

    def run(self) -> None:
        while self.going:
            begun = time.perf_counter()
            self.connection("PING")
            self.gaps.append(time.perf_counter() - begun)
            time.sleep(0.003)


class Load(threading.Thread):
    """Pipelined SETs for some seconds, `rate` a second at most (0: as many as go)."""

    def __init__(self, server: Server, seconds: float, rate: int) -> None:
        super().__init__(daemon=True)
        self.connection, self.seconds, self.rate, self.sent = server.connect(
                timeout=120), seconds, rate, 0
        self.batch = b"".join(encode(b"SET", b"key:%d" % i, b"v" * 32) for i in range(500))

    def run(self) -> None:
        socket, begun = self.connection.socket, time.perf_counter()
        while (now := time.perf_counter() - begun) < self.seconds:
            if self.rate and self.sent > self.rate * now:
                time.sleep(0.002)
                continue
            socket.sendall(self.batch)
            left = 500 * 5
            while left:
                left -= len(socket.recv(left))
            self.sent += 500


def under_load(servers: list[Server], writing: list[Server], seconds: float, rate: int,
               patience: float) -> None:
    pings, loads = [Pings(s) for s in servers], [Load(s, seconds, rate) for s in writing]
    for t in pings + loads:
        t.start()
    for t in loads:
        t.join()
    written, begun = sum(t.sent for t in loads), time.perf_counter()
    while (time.perf_counter() - begun < patience
           and len({tuple(map(str, s("CRDT.CLOCK"))) for s in servers}) > 1):
        time.sleep(0.1)
    same = len({tuple(map(str, s("CRDT.CLOCK"))) for s in servers}) == 1
    for t in pings:
        t.going = False
        t.join()
    print(f"{written} writes; all have the same {time.perf_counter() - begun:.1f} s after the last"
          if same else
          f"{written} writes; NOT the same {patience:.0f} s after the last")
    print("| replica | longest PING ms | p99 ms | CPU s | RSS MB | waiting "
          "|\n|---|---|---|---|---|---|")
    for s, p in zip(servers, pings):
        info = dict(line.split(":", 1) for line in s("INFO", "crdt").decode().split("\r\n")
                    if ":" in line)
        print(f"| {s.name} | {max(p.gaps) * 1e3:.0f} | "
              f"{sorted(p.gaps)[int(len(p.gaps) * .99)] * 1e3:.1f} | {s.cpu_seconds():.1f} | "
              f"{s.resident_bytes() >> 20} | {info['waiting_ops']} |", flush=True)


def mesh(seconds: float, rate: int, patience: float) -> None:
    cluster = Cluster(3)
    for s in cluster.start():
        s("CONFIG", "SET", "sync-interval", "5s")
    time.sleep(1)
    under_load(list(cluster), list(cluster), seconds, rate, patience)


def line(seconds: float, rate: int, patience: float) -> None:
    servers = [Server(name) for name in "abc"]
    servers[0].peers, servers[2].peers = [servers[1].address], [servers[1].address]
    servers[1].peers = [servers[0].address, servers[2].address]
    for s in servers:
        s.start()
    time.sleep(2)
    under_load(servers, servers[:2], seconds, rate // 2, patience)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("shape", choices=["kernel", "mesh", "line"])
    p.add_argument("-n", type=int, default=100_000)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--rate", type=int, default=0, help="writes a second in all; 0: as many as go")
    p.add_argument("--patience", type=float, default=60)
    a = p.parse_args()
    try:
        if a.shape == "kernel":
            kernel(a.n)
        else:
            {"mesh": mesh, "line": line}[a.shape](a.seconds, a.rate, a.patience)
    finally:
        stop_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())

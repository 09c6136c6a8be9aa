"""How long does one command, or work in the background, keep every other client waiting?

    python -m bench.stalls                           # every scenario; some minutes
    python -m bench.stalls flushall expiry --rounds 3
    BENCH_PEERS="redis-8.2=/path/redis-server valkey-9.1=/path/valkey-server" python -m bench.stalls

Beside each scenario a client in a process of its own sends a PING every millisecond; the figure is
the longest time between two replies, median of the rounds, which alternate between the servers;
which they are stands in bench/compare.py. Memory is the resident size two seconds after the
scenario over that of the empty server. Tables are printed as Markdown; nothing here fails for being
slow.
"""
from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from bench.compare import others, table
from tests.real.cluster import Process, Server, stop_all
from tests.respclient import encode

PINGER = """
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
worst, last = 0.0, None
print("ready", flush=True)
sys.stdin.readline()
s.setblocking(True)
import select
while not select.select([sys.stdin], [], [], 0)[0]:
    begin = time.perf_counter()
    s.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n")
    while not s.recv(100).endswith(b"\\n"): pass
    worst = max(worst, time.perf_counter() - begin)
    time.sleep(0.001)
print(worst, flush=True)
"""


def longest_gap(server: Process, scenario: Callable[[], None]) -> float:
    """ms between two PONGs at most, while the scenario runs and half a second longer."""
    with subprocess.Popen([sys.executable, "-c", PINGER, str(server.port)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as p:
        p.stdout.readline()
        p.stdin.write("go\n")
        p.stdin.flush()
        time.sleep(0.2)
        scenario()
        time.sleep(0.5)
        p.stdin.write("end\n")
        p.stdin.flush()
        return float(p.stdout.readline()) * 1e3


def send_all(server: Process, commands, batch: int = 100) -> None:
    """Sends the commands in pipelines, and waits for as many replies, none of which spans lines."""
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pending: list[bytes] = []

        def flush() -> None:
            s.sendall(b"".join(pending))
            left = len(pending)
            while left:
                data = s.recv(1 << 16)
                assert data and b"-" not in data[:1], data[:200]
                left -= data.count(b"\n")
            pending.clear()

        for command in commands:
            pending.append(command)
            if len(pending) == batch:
                flush()
        flush()


def strings(n: int, ttl_ms: int = 0, at_once: int = 100):
    for i in range(0, n, at_once):
        if ttl_ms:
            yield b"".join(encode(b"SET", b"key:%012d" % j, b"%032d" % j, b"PX", ttl_ms)
                           for j in range(i, i + at_once))
        else:
            yield encode(b"MSET",
                         *(word for j in range(i, i + at_once)
                           for word in (b"key:%012d" % j, b"%032d" % j)))


def members(n: int):
    for i in range(0, n, 1000):
        yield encode(b"SADD", b"set", *(b"member:%012d" % j for j in range(i, i + 1000)))


MB100 = b"x" * 100_000_000


def flushall(server: Process, a) -> float:
    send_all(server, strings(a.keys))
    return longest_gap(server, lambda: server("FLUSHALL"))


def flush_counters(server: Process, a) -> float:
    send_all(server, (encode(b"INCR", b"counter:%d" % i) for i in range(a.keys // 5)), 1000)
    return longest_gap(server, lambda: server("FLUSHALL"))


def delete(server: Process, a, command: str = "DEL") -> float:
    send_all(server, members(1_000_000))
    return longest_gap(server, lambda: server(command, "set"))


def unlink(server: Process, a) -> float:
    return delete(server, a, "UNLINK")


def set_large(server: Process, a) -> float:
    gap = longest_gap(server, lambda: server("SET", "large", MB100))
    server("DEL", "large")
    return gap


def get_large(server: Process, a) -> float:
    server("SET", "large", MB100)
    gap = longest_gap(server, lambda: server("GET", "large"))
    server("DEL", "large")
    return gap


def del_large(server: Process, a) -> float:
    server("SET", "large", MB100)
    return longest_gap(server, lambda: server("DEL", "large"))


def insert(server: Process, a) -> float:
    gap = longest_gap(server, lambda: send_all(server, strings(a.keys, at_once=10)))
    server("FLUSHALL")
    return gap


def expiry(server: Process, a) -> float:
    def scenario() -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            for i in range(0, 500_000, 1000):
                s.sendall(b"".join(encode(b"SET", b"key:%012d" % j, b"x", b"PXAT", at)
                                   for j in range(i, i + 1000)))
                left = 1000
                while left:
                    left -= s.recv(1 << 16).count(b"\n")
        time.sleep(max(0.0, at / 1000 - time.time()) + 3)

    at = int(time.time() * 1000) + 6000
    return longest_gap(server, scenario)


def everysec(server: Process, a) -> float:
    """Writes as fast as they are taken (100 MB/s or so) for five seconds."""
    def scenario() -> None:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            send_all(server, (encode(b"SET", b"key:%d" % i, b"x" * 10_000) for i in range(500)), 50)

    return longest_gap(server, scenario)


def steady(server: Process, a) -> float:
    """Writes of 20 MB/s for ten seconds."""
    def scenario() -> None:
        begun = due = time.monotonic()
        while time.monotonic() < begun + 10:
            send_all(server, (encode(b"SET", b"key:%d" % i, b"x" * 10_000) for i in range(20)), 20)
            due += 0.01
            time.sleep(max(0.0, due - time.monotonic()))

    return longest_gap(server, scenario)


def checkpoint(server: Process, a) -> float:
    """BGSAVE, until it is over. Prints what it took."""
    def scenario() -> None:
        begun = time.monotonic()
        server("BGSAVE")
        while b"rdb_bgsave_in_progress:1" in server("INFO", "persistence"):
            time.sleep(0.01)
        files = {end: sum(f.stat().st_size for f in server.directory.rglob(f"*{end}"))
                 for end in (".ckpt", ".log")}
        print(f"{server.name}: {time.monotonic() - begun:.2f} s, {files['.ckpt'] >> 20} MiB, "
              f"log {files['.log'] >> 20} MiB")

    send_all(server, strings(a.keys))
    return longest_gap(server, scenario)


SCENARIOS = {f.__name__: f for f in (flushall, flush_counters, delete, unlink, set_large, get_large,
                                     del_large, insert, expiry, everysec, steady, checkpoint)}


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; none: all")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--keys", type=int, default=5_000_000)
    a = p.parse_args()
    print(f"`python -m bench.stalls {' '.join(sys.argv[1:])}`")
    head: list[str] = []
    rows = []
    try:
        for name in a.scenarios or SCENARIOS:
            gaps: dict[str, list[float]] = {}
            memory: dict[str, list[float]] = {}
            for _ in range(a.rounds):
                for make in (lambda: Server("a"), *others()):
                    s = make().start()
                    # ours loads what replication needs meanwhile
                    time.sleep(2)
                    empty = s.resident_bytes()
                    gaps.setdefault(s.name, []).append(SCENARIOS[name](s, a))
                    time.sleep(2)
                    memory.setdefault(s.name, []).append(s.resident_bytes() / empty)
                    s.dispose()
            head = list(gaps)
            rows.append([name, *(statistics.median(gaps[n]) for n in head),
                         *(statistics.median(memory[n]) for n in head)])
    finally:
        stop_all()
    table("Stalls: longest PING gap in ms, and resident memory afterwards to that when empty "
          f"({a.keys} keys, {a.rounds} rounds)",
          ["scenario", *(f"{n}, ms" for n in head), *(f"{n}, memory" for n in head)], rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

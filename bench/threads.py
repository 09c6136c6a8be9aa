"""What I/O threads leave to the engine: CPU time per request of its thread alone, and of the whole
process, of clients that do not pipeline, and how long they wait; beside other servers with as many
threads.

    python -m bench.threads [-n 100000] [-c 50,200,1000] [--rounds 3] [--tests set,get,tls]
                            [--threads 1,2,4] [--other CHECKOUT]
    BENCH_PEERS="redis-8.2=/path/redis-server valkey-9.1=/path/valkey-server" ...

One interleaved run: each load is given to one server after the other, --rounds times, and the least
of all rounds counts. `x one thread's` is the median over the rounds of the whole process' time as
a multiple of what the same server needs with one thread in the same round, so that what else the
machine does weighs on both. `tls` is GET over TLS, of our servers. All threads of a server share
one core, at the lowest priority, so that the load generator outruns it and finds it busy, as on a
machine with more cores: then many clients are ready at a time (req/iteration, of ours). For
throughput that says nothing, and p99 compares servers on one core, no more. BENCH_PEERS: other
servers; without it redis-server. --other: one more of ours, from another checkout that was built.
All have each number of threads.
"""
from __future__ import annotations

import argparse
import csv
import itertools
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from bench.tls import certificate
from tests.real.cluster import Process, Reference, Server, free_port, stop_all

SLOWED = ("nice", "-n", "19", "taskset", "-c", "1")


class Ours(Server):
    def command(self) -> list[str]:
        return [*SLOWED, *super().command()]


class Theirs(Reference):
    def command(self) -> list[str]:
        return [*SLOWED, *super().command()]


def engine_seconds(s: Process) -> float:
    """CPU time of the thread that runs commands: the first."""
    return int(Path(f"/proc/{s.pid}/task/{s.pid}/schedstat").read_text().split()[0]) / 1e9


def iterations(s: Process) -> int:
    if not isinstance(s, Ours):
        return 0
    fields = dict(line.split(b":", 1) for line in s("INFO", "stats").splitlines() if b":" in line)
    return int(fields[b"total_reads_processed"])


def p99(port: int, test: str, n: int, clients: str, *options: str) -> float:
    """Milliseconds."""
    done = subprocess.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", test, "-n",
                           str(n), "-c", clients, "-r", "100000", "--csv", *options], check=True,
                          capture_output=True, text=True, timeout=600)
    rows = list(csv.DictReader(line for line in done.stdout.splitlines() if line[:1] == '"'))
    return float(rows[0]["p99_latency_ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100_000)
    parser.add_argument("-c", default="200")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tests", default="set,get")
    parser.add_argument("--threads", default="1,2,4")
    parser.add_argument("--other", default="")
    given = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    cert, key = certificate(Path(folder.name))
    peers = dict(p.split("=", 1) for p in os.environ.get("BENCH_PEERS", "").split())
    servers: dict[str, Process] = {}
    secure: dict[str, int] = {}
    counts = given.threads.split(",")
    for name, binary in peers.items() or [("redis", None)]:
        for n in counts:
            servers[f"{name} {n}"] = Theirs(
                "--save", "", "--appendonly", "yes", "--io-threads", n,
                *(("--io-threads-do-reads", "yes") if not peers else ()), binary=binary)
    for name in ("ours", "other") if given.other else ("ours",):
        for n in counts:
            secure[f"{name} {n}"] = free_port()
            servers[f"{name} {n}"] = Ours("a", io_threads=n, tls_port=secure[f"{name} {n}"],
                                          tls_cert_file=cert, tls_key_file=key,
                                          tls_auth_clients="no")
    runs: dict[tuple[str, str, str], list[list[float]]] = {}
    try:
        for name, s in servers.items():
            s.start(**({"PYTHONPATH": given.other} if name.startswith("other") else {}))
        for test, clients, _ in itertools.product(given.tests.split(","), given.c.split(","),
                                                  range(given.rounds)):
            tls = test == "tls"
            for name, s in servers.items():
                if tls and name not in secure:
                    continue
                before = engine_seconds(s), s.cpu_seconds(), iterations(s)
                late = p99(secure[name] if tls else s.port, "get" if tls else test, given.n,
                           clients, *(("--tls", "--cacert", str(cert)) if tls else ()))
                after = engine_seconds(s), s.cpu_seconds(), iterations(s)
                runs.setdefault((test, clients, name), []).append(
                    [(after[0] - before[0]) / given.n * 1e6,
                     (after[1] - before[1]) / given.n * 1e6, late,
                     (after[2] - before[2]) / given.n])
    finally:
        stop_all()
        folder.cleanup()
    print("| test | -c | server, threads | engine's thread µs CPU/req | whole process | "
          "x one thread's | p99 ms | req/iteration |")
    print("|---|---|---|---|---|---|---|---|")
    for (test, clients, name), rounds in runs.items():
        engine, whole, late, turns = map(min, zip(*rounds, strict=True))
        alone = runs.get((test, clients, f"{name.split()[0]} 1"), rounds)
        ratio = statistics.median(r[1] / a[1] for r, a in zip(rounds, alone, strict=True))
        print(f"| {test} | {clients} | {name} | {engine:.2f} | {whole:.2f} | {ratio:.2f} | "
              f"{late:.1f} | {f'{1 / turns:.0f}' if turns else ''} |")


if __name__ == "__main__":
    main()

"""What I/O threads leave to the engine: CPU time per request of its thread alone, and of the whole
process, of clients that do not pipeline; beside redis-server with as many threads.

    python -m bench.threads [-n 100000] [-c 200] [--rounds 3] [--tests set,get] [--threads 1,2,4]
                            [--other CHECKOUT]

One interleaved run: in each round each server has each load, and the least CPU time of all rounds
counts. All threads of a server share one core, at the lowest priority, so that the load generator
outruns it and finds it busy, as on a machine with more cores: then many clients are ready at a
time. For throughput and latency that says nothing. --other: one more, with one thread, from another
checkout that was built.
"""
from __future__ import annotations

import argparse
from pathlib import Path

from bench.tls import load
from tests.real.cluster import Process, Reference, Server, stop_all

SLOWED = ("nice", "-n", "19", "taskset", "-c", "1")


class Ours(Server):
    def command(self) -> list[str]:
        return [*SLOWED, *super().command()]


class Redis(Reference):
    def command(self) -> list[str]:
        return [*SLOWED, *super().command()]


def engine_seconds(s: Process) -> float:
    """CPU time of the thread that runs commands: the first."""
    return int(Path(f"/proc/{s.pid}/task/{s.pid}/schedstat").read_text().split()[0]) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100_000)
    parser.add_argument("-c", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tests", default="set,get")
    parser.add_argument("--threads", default="1,2,4")
    parser.add_argument("--other", default="")
    given = parser.parse_args()
    servers: dict[str, Process] = {}
    for n in given.threads.split(","):
        servers[f"redis {n}"] = Redis("--save", "", "--appendonly", "yes", "--io-threads", n,
                                      "--io-threads-do-reads", "yes")
        servers[f"ours {n}"] = Ours("a", io_threads=n)
    if given.other:
        servers["other 1"] = Ours("a")
    best: dict[tuple[str, str], tuple[float, float]] = {}
    try:
        for name, s in servers.items():
            s.start(**({"PYTHONPATH": given.other} if name == "other 1" else {}))
        for _ in range(given.rounds):
            for test in given.tests.split(","):
                for name, s in servers.items():
                    before = engine_seconds(s), s.cpu_seconds()
                    load(s.port, test, 1, given.n, "-c", str(given.c))
                    took = [(after - b) / given.n * 1e6 for after, b in
                            zip((engine_seconds(s), s.cpu_seconds()), before, strict=True)]
                    least = best.get((test, name), took)
                    best[test, name] = min(least[0], took[0]), min(least[1], took[1])
    finally:
        stop_all()
    print("| test | server, threads | engine's thread µs CPU/req | whole process |")
    print("|---|---|---|---|")
    for (test, name), (engine, whole) in best.items():
        print(f"| {test} | {name} | {engine:.2f} | {whole:.2f} |")


if __name__ == "__main__":
    main()

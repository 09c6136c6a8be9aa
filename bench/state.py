"""What it costs to give the state out and to take it in, beside the other servers.

    python -m bench.state                                # everything; about half an hour
    python -m bench.state start fullsync --keys 1000000
    BENCH_PEERS="redis-8.2=/path/redis-server valkey-9.1=/path/valkey-server" python -m bench.state

A checkpoint is compared with a rewrite of the AOF, a start from one with a start from an RDB file,
a full sync with that of a replica, and the disk that is used with an AOF which is rewritten as by
default. What "memory" is: resident at most while it goes on, over resident before; with what the
kernel copied for the child of a fork, which its parent tells (`..._cow_size`). A *probe* is a
client that sends one SET after the other, 2,000 a second at most. Tables are printed as Markdown;
nothing here fails for being slow.
"""
from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from bench.compare import MILLION, benchmark, fill, options, others, run, table
from bench.stalls import send_all, strings
from tests.real.cluster import Cluster, Process, Reference, Server, stop_all, until
from tests.respclient import encode

REWRITTEN = ["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]
PATIENCE = 900.0                        # s, for a full sync
SAVED = ["--save", "", "--appendonly", "no"]


def servers(options: list[str]) -> list[Process]:
    """Ours and the others, not started; the others with these options."""
    out: list[Process] = [Server("a", appendfsync="everysec")]
    for make in others():
        peer = make()
        out.append(Reference(*options, binary=peer.binary))
        out[-1].name = peer.name
    return out


def is_ours(server: Process) -> bool:
    return isinstance(server, Server)


def info(server: Process, section: str) -> dict[str, str]:
    lines = server("INFO", section).decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def forget_peak(server: Process) -> None:
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")


def median_rows(runs: dict[str, list[list[float]]]) -> list[list]:
    return [[name, *(statistics.median(column) for column in zip(*rows))]
            for name, rows in runs.items()]


class Client:
    """In a thread, from the beginning of a `with` to its end."""

    def __init__(self, server: Process):
        self.server, self.running = server, True
        self.thread = threading.Thread(target=self.run)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.running = False
        self.thread.join()

    def run(self) -> None:
        raise NotImplementedError


class Probe(Client):
    """Sends SETs one by one, and notes how long each takes."""

    def __init__(self, server: Process):
        super().__init__(server)
        self.seconds: list[float] = []

    def run(self) -> None:
        with self.server.connect() as c:
            while self.running:
                begun = time.perf_counter()
                c("SET", "probe", "x")
                self.seconds.append(time.perf_counter() - begun)
                time.sleep(0.0005)

    def take(self) -> tuple[float, float]:
        """p99 and the longest since the last call, in ms."""
        seconds, self.seconds = sorted(self.seconds), []
        return seconds[int(len(seconds) * 0.99)] * 1e3, seconds[-1] * 1e3


class Load(Client):
    """Sends SETs of known keys in pipelines of 100, so many a second."""

    def __init__(self, server: Process, rate: int, keys: int):
        super().__init__(server)
        self.rate, self.keys = rate, keys

    def run(self) -> None:
        send_all(self.server, self.paced())

    def paced(self) -> Iterator[bytes]:
        due, i = time.monotonic(), 0
        while self.running or i % 100:
            yield encode(b"SET", b"key:%012d" % (i * 7919 % self.keys), b"%032d" % i)
            i += 1
            if i % 100 == 0:
                due += 100 / self.rate
                time.sleep(max(0.0, due - time.monotonic()))


def is_saving(server: Process) -> bool:
    found = info(server, "persistence")
    return "1" in (found["rdb_bgsave_in_progress"], found["aof_rewrite_in_progress"])


# ---- sections ------------------------------------------------------------------------------------

def checkpoint(a) -> None:
    """A checkpoint, or a rewritten AOF, while SETs come at half the rate that one thread takes."""
    runs: dict = {}
    for _ in range(a.rounds):
        for s in servers([*REWRITTEN, "--auto-aof-rewrite-percentage", "0"]):
            s.start()
            send_all(s, strings(a.keys))
            time.sleep(3)
            with Load(s, a.rate, a.keys), Probe(s) as probe:
                time.sleep(1)
                probe.take()
                time.sleep(5)
                before = probe.take()
                resident, used = s.resident_bytes(), s.cpu_seconds()
                forget_peak(s)
                begun = time.monotonic()
                s("BGREWRITEAOF")
                while is_saving(s):
                    time.sleep(0.02)
                took, used = time.monotonic() - begun, s.cpu_seconds() - used
                during = probe.take()
            copied = 0 if is_ours(s) else int(info(s, "persistence")["aof_last_cow_size"])
            runs.setdefault(s.name, []).append(
                [took, used, *before, *during, (s.peak_bytes() + copied) / resident])
            s.dispose()
    table(f"Checkpoint: {a.keys} strings, {a.rate} SETs a second beside it ({a.rounds} rounds)",
          ["server", "seconds", "CPU of its process meanwhile, s", "p99 of a SET before, ms",
           "longest", "p99 during it", "longest", "memory"], median_rows(runs))


def start(a) -> None:
    """From what an orderly end left: ours a checkpoint, the others an RDB file."""
    runs: dict = {}
    all_of_them = servers(SAVED)
    for s in all_of_them:
        s.start()
        send_all(s, strings(a.keys))
        s("SAVE")
        s.stop(timeout=120)
    for _ in range(a.rounds):
        for s in all_of_them:
            begun = time.monotonic()
            s.start(wait=False)
            s.wait_ready(600)
            took = time.monotonic() - begun
            assert s("DBSIZE") == a.keys
            runs.setdefault(s.name, []).append([took, s.cpu_seconds()])
            s.stop(timeout=120)
    table(f"Start: {a.keys} strings, from a checkpoint and from an RDB file ({a.rounds} rounds)",
          ["server", "seconds from exec to PONG", "CPU, s"], median_rows(runs))


def fullsync(a) -> None:
    """A new replica, which no log can help: what it costs and what clients of the giver notice."""
    runs: dict = {}
    for s in servers([*SAVED, "--repl-diskless-sync-delay", "0"]):
        if is_ours(s):
            s.settings |= {"replication_log_size": "0", "max_segment_size": "4mb"}
        s.start()
        send_all(s, strings(a.keys))
        if is_ours(s):
            for _ in range(3):                  # the log before the checkpoints goes
                send_all(s, (encode("SET", "filler", "x" * 4096) for _ in range(2000)))
                s("SAVE")
        for i in range(a.rounds):               # who was removed does not come back by itself
            new = (Server(f"b{i}", sync_interval="200ms") if is_ours(s) else
                   Reference(*SAVED, binary=s.binary)).start()
            with Probe(s) as probe:
                time.sleep(2)
                before = probe.take()
                resident, used = s.resident_bytes(), s.cpu_seconds()
                forget_peak(s)
                begun = time.monotonic()
                if is_ours(s):
                    new("CRDT.PEER", "ADD", s.address)
                else:
                    new("REPLICAOF", "127.0.0.1", s.port)
                field, there = (("full_syncs_joined", "1") if is_ours(s) else
                                ("master_link_status", "up"))
                until(lambda: info(new, "replication").get(field) == there, PATIENCE)  # noqa: B023
                took, used = time.monotonic() - begun, s.cpu_seconds() - used
                during = probe.take()
            assert new("DBSIZE") == s("DBSIZE")
            copied = 0 if is_ours(s) else int(info(s, "persistence")["rdb_last_cow_size"])
            runs.setdefault(s.name, []).append(
                [took, used, new.cpu_seconds(), *before, *during,
                 (s.peak_bytes() + copied) / resident, new.peak_bytes() / s.resident_bytes()])
            if is_ours(s):
                s("CRDT.PEER", "REMOVE", new.name)
            new.dispose()
        s.dispose()
    table(f"Full sync: {a.keys} strings to a new replica ({a.rounds} rounds)",
          ["server", "seconds", "CPU of the giver, s", "of the receiver",
           "p99 at the giver before, ms", "longest", "p99 during it", "longest", "memory",
           "the receiver's, to the giver's"], median_rows(runs))


def catchup(a) -> None:
    """A peer that missed a million small ops."""
    rows = []
    for _ in range(a.rounds):
        c = Cluster(2, appendfsync="everysec", sync_interval="1s").start()
        c.sync()
        c[1].stop()
        fill(c[0], MILLION)
        quiet = benchmark(c[0], "set", 20_000, 10, 1, 1000, 32)["p99"]
        c[1].start()
        begun, during = time.monotonic(), []
        while c[1]("DBSIZE") < MILLION:
            during.append(benchmark(c[0], "set", 2_000, 10, 1, 1000, 32)["p99"])
        took = time.monotonic() - begun
        rows.append([took, MILLION / took, c[1].cpu_seconds(), quiet,
                     statistics.median(during or [quiet])])
        stop_all()
    table(f"Catch-up: {MILLION} SETs missed ({a.rounds} rounds)",
          ["seconds", "ops/s", "CPU of the receiver since its start, s",
           "p99 at the sender before, ms", "during it"],
          [[statistics.median(column) for column in zip(*rows)]])


WORKLOADS: dict[str, Callable[[int], bytes]] = {
    "1,000 counters": lambda i: encode(b"INCR", b"counter:%d" % (i * 7919 % 1000)),
    "queue": lambda i: (encode(b"LPUSH", b"queue", b"%032d" % i) if i % 2 == 0 else
                        encode(b"RPOP", b"queue")),
    "cache of 100,000": lambda i: encode(b"SET", b"page:%d" % (i * 7919 % 100_000), b"%0500d" % i,
                                         b"EX", b"%d" % (60 + i % 600)),
}


def disk(a) -> None:
    """Bytes of the data directory while a workload goes on."""
    rows = []
    for title, command in WORKLOADS.items():
        for s in servers(REWRITTEN):
            s.start()
            found = []
            for part in range(10):
                first = part * a.writes // 10
                send_lines(s, (command(i) for i in range(first, first + a.writes // 10)))
                found.append(size(s))
            time.sleep(10)
            rows.append([title, s.name, *(f"{x / 1e6:.0f}" for x in found[1::2]),
                         f"{max(found) / 1e6:.0f}", f"{size(s) / 1e6:.0f}"])
            s.dispose()
    table(f"MB of disk while {a.writes} writes come", ["writes", "server", "after 20 %", "40 %",
                                                       "60 %", "80 %", "100 %", "most", "10 s on"],
          rows)


def send_lines(server: Process, commands: Iterator[bytes]) -> None:
    """As send_all, whatever the replies are."""
    with server.connect() as c:
        while batch := list(itertools.islice(commands, 500)):
            c.socket.sendall(b"".join(batch))
            for _ in batch:
                c.raw()


def size(server: Process) -> int:
    total = 0
    for f in server.directory.rglob("*"):
        try:
            total += f.stat().st_blocks * 512 if f.is_file() and f.name != "output.log" else 0
        except FileNotFoundError:               # a file went meanwhile
            pass
    return total


SECTIONS = {f.__name__: f for f in (checkpoint, start, fullsync, catchup, disk)}


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(p, SECTIONS, rounds=3)
    p.add_argument("--keys", type=int, default=10 * MILLION)
    p.add_argument("--rate", type=int, default=50_000, help="SETs a second beside a checkpoint")
    p.add_argument("--writes", type=int, default=5 * MILLION, help="of disk")
    return run(p, "bench.state", SECTIONS)


if __name__ == "__main__":
    sys.exit(main())

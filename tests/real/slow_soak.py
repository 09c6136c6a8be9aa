"""Five replicas under everything that can go wrong, for an hour; run by hand:

    python -m tests.real.slow_soak --minutes 60 --first 1   # --first: a seed

As chaos.py, whose clients keep books of what was acknowledged, in rounds of a few minutes, each of
which ends with everything mended and checked. Beside them at every replica: the simulation's
clients, with all commands, on a few keys of which the replicas make sense together. Names are used
again and again, so what is held stays as much as it is: memory, disk and the clock are printed with
each round. In the end all is deleted, and must be given back.
"""
from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.real.chaos import Chaos, Node
from tests.real.cluster import Server, stop_all
from tests.respclient import ReplyError
from tests.simulation.commands import Clients

TOPOLOGY = "ab bc cd de ea ac ca"       # who calls whom: a ring of one-way pairs, and a chord
VALUES = 1000                           # of a node, before old ones are deleted
ELEMENTS = 20_000                       # of the list that all write
PACE = 0.03                             # s
GIVEN_BACK = 1.3                        # memory, deleted all, over that of a fresh replica, and
SLACK = 8 << 20                         # bytes of it
# what would take away more than these clients' own
FOREIGN = {"FLUSHDB", "FLUSHALL", "SWAPDB", "SELECT", "MOVE"}


def info(server: Server) -> dict[str, str]:
    text = server("INFO", "memory").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


class Soaked(Node):
    """noisy: commands that were answered, and refused."""

    def __init__(self, world: Chaos, name: str, rng: random.Random) -> None:
        super().__init__(world, name, rng)
        self.noise = threading.Thread()
        self.noisy = [0, 0]

    def _one(self, c, n: int) -> None:
        if len(self.values) > VALUES:
            old = next(iter(self.values))
            del self.values[old]
            c("DEL", old)
            self.deleted.append(old)
        super()._one(c, n)

    def write(self) -> None:
        super().write()
        self.noise = threading.Thread(target=self._make_noise, daemon=True)
        self.noise.start()

    def _make_noise(self) -> None:
        while not self.world.over:
            clients = Clients(self.rng)
            if not self.up.wait(0.1):
                continue
            try:
                with self.server.connect(timeout=5.0) as c:
                    for _ in range(1000):
                        if self.world.over:
                            break
                        for argv in clients.next(int(time.time() * 1000)):
                            if FOREIGN.isdisjoint(argv):        # in the words of a script, too
                                try:
                                    c(*argv)
                                    self.noisy[0] += 1
                                except ReplyError:
                                    self.noisy[1] += 1
                        time.sleep(self.rng.random() * PACE)
            except OSError:
                time.sleep(0.02)


class Soak(Chaos):
    def __init__(self, seed: int, folder: Path) -> None:
        super().__init__(seed, folder, TOPOLOGY, "abcde", Soaked, PACE, forgetful=True)

    def mend(self) -> None:
        super().mend()
        for n in self.nodes:
            n.noise.join(60)
            assert not n.noise.is_alive(), f"the other client of {n.name} hangs"

    def figures(self) -> str:
        """Of each replica: memory, its highest since the start, bytes of disk, actors in the
        clock."""
        out = []
        for n in self.nodes:
            found = info(n.server)
            disk = sum(f.stat().st_size for f in n.server.data_dir.iterdir() if f.is_file())
            clock = len(n.server("CRDT.CLOCK")) // 2
            out.append(f"{n.name} {int(found['used_memory']) / 1e6:.1f} MB in use, "
                       f"{int(found['used_memory_rss']) / 1e6:.0f} MB resident, "
                       f"{disk / 1e6:.0f} MB of disk, {clock} actors")
        return "\n    ".join(out)

    def shorten(self) -> None:
        """So that neither the list nor what the disks of this test remember grows all the time."""
        gone = self.nodes[0].server("LRANGE", "list", ELEMENTS, -1)
        self.nodes[0].server("LTRIM", "list", 0, ELEMENTS - 1)
        gone = {x.decode() for x in gone}
        for n in self.nodes:
            n.disk.forget()
            n.elements = [x for x in n.elements if x not in gone]
            n.deleted = n.deleted[-100_000:]

    def give_back(self) -> None:
        """Everything is deleted: memory as that of a replica that never had anything."""
        fresh = Server("fresh").start()
        empty = int(info(fresh)["used_memory"])
        fresh.dispose()
        self.nodes[0].server("FLUSHALL")
        bound = int(empty * GIVEN_BACK) + SLACK
        self.until("memory in use", lambda: [int(info(n.server)["used_memory"])
                                             for n in self.nodes],
                   lambda found: all(x < bound for x in found))
        self.until("digests", self.states, lambda found: all(x == found[0] for x in found))


def soak(seed: int, minutes: float, every: float, folder: Path) -> None:
    world = Soak(seed, folder)
    begun, rounds = time.monotonic(), 0
    try:
        world.start()
        while time.monotonic() - begun < minutes * 60:
            world.done.clear()
            world.run(every * 60)
            world.check()
            world.shorten()
            rounds += 1
            print(f"after {(time.monotonic() - begun) / 60:.0f} min: {len(world.done)} events, "
                  f"{sum(n.commands for n in world.nodes)} commands with books, "
                  f"{sum(n.noisy[0] for n in world.nodes)} others "
                  f"({sum(n.noisy[1] for n in world.nodes)} refused), "
                  f"{world.joined} full syncs\n    {world.figures()}", flush=True)
        world.give_back()
        print(f"all deleted:\n    {world.figures()}", flush=True)
    except BaseException:
        print(f"seed {seed}, round {rounds + 1}: {' | '.join(world.done)}")
        for n in world.nodes:
            print(f"--- {n.name}\n{n.server.log(60)}")
        raise
    finally:
        world.close()


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--first", type=int, default=1)
    p.add_argument("--minutes", type=float, default=60.0)
    p.add_argument("--round", type=float, default=4.0, help="minutes between two checks")
    a = p.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="crdt-redis-soak-") as folder:
            soak(a.first, a.minutes, a.round, Path(folder))
    finally:
        stop_all()
    return 0


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(main())

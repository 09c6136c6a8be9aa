"""Everything that can go wrong between server processes, at once, under a seed.

    python -m tests.real.chaos --schedules 20 --seconds 20  # prints each seed; a failure names it
    python -m tests.real.chaos --first 7 --schedules 1

Three servers in a random topology that is connected at least: a line, a mesh, pairs of which only
one calls the other. Between them are links (links.py) that break, slow down and lose what goes one
way. Disks fill and fail (tests/storage/faults.py), wall clocks jump (wrongclock.c), processes are
killed with SIGKILL and start again. Under every other seed logs are forgotten as soon as there is a
checkpoint, so who was away takes full syncs. With TLS, which servers and clients speak then, each
side shows a certificate; those of servers are revoked and come back. Meanwhile clients write and
delete at every server and note what was acknowledged.

What must hold:
- `WAIT` never counts a server that has not got the write.
- After everything is mended: all CRDT.DIGESTs and clocks are equal, every acknowledged write is at
  every server, what was deleted is nowhere, no increment is lost or counted twice, every element is
  in its list once, and every server calls itself healthy.

The seed decides what happens, not when: processes take their own time. So a failure may need
several runs of its seed.
"""
from __future__ import annotations

import argparse
import errno
import mmap
import os
import random
import re
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.real.certificates import Authority, of_replica
from tests.real.cluster import Server, free_port, stop_all
from tests.real.links import Link, Links
from tests.real.test_replication import health
from tests.respclient import Connection, ReplyError
from tests.storage.faults import Disk

# seconds until everything must be equal again; generous, for a busy machine
HEAL = 120.0
# ms a clock may be off: two of them together stay below max_clock_skew
SKEW = 20_000
LARGE = 3 << 20                         # bytes of the largest values
SETTINGS = {"sync_interval": "200ms", "retry_interval": "50ms", "sync_timeout": "3s",
            "max_segment_size": "1mb"}
FORGETFUL = {"max_segment_size": "64kb", "compaction_threshold": 1, "replication_log_size": "0"}


def library(folder: Path) -> Path:
    source = Path(__file__).with_name("wrongclock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o",
                    folder / "wrongclock.so", source, "-ldl"], check=True)
    return folder / "wrongclock.so"


class SecureServer(Server):
    """Clients reach it over TLS alone, and show a certificate."""

    context: ssl.SSLContext

    def connect(self, **options) -> Connection:
        c = Connection(self.settings["tls_port"], **options)
        try:
            c.socket = self.context.wrap_socket(c.socket, server_hostname="localhost")
        except BaseException:
            c.close()
            raise
        return c


class Node:
    """A server with its disk, its clock, and the clients that write to it."""

    def __init__(self, world: Chaos, name: str, rng: random.Random) -> None:
        self.world, self.name, self.rng = world, name, rng
        self.server = world.server(name, appendfsync=rng.choice(("always", "everysec", "no")),
                                   **SETTINGS | (FORGETFUL if world.forgetful else {}))
        self.disk = Disk(self.server.data_dir)
        clock = self.server.directory / "clock"
        clock.write_bytes(bytes(8))
        with open(clock, "r+b") as f:
            self._clock = mmap.mmap(f.fileno(), 0)
        self._environment = self.disk.environment | {"LD_PRELOAD":
                                                     f"{self.disk.environment['LD_PRELOAD']}:{world.library}",
                                                     "WRONG_CLOCK": str(clock)}
        self.up = threading.Event()
        # acknowledged: key -> size of its value
        self.values: dict[str, int] = {}
        self.deleted: list[str] = []                            # acknowledged, like the next
        self.elements: list[str] = []
        self.counted = self.sent = 0                            # increments: acknowledged, tried
        self.commands = 0
        self.waits: list[str] = []                              # where WAIT was wrong
        self.waited = 0
        self.thread: threading.Thread | None = None

    def set_clock(self, ms: int) -> None:
        struct.pack_into("=q", self._clock, 0, ms)

    def start(self) -> None:
        self.server.start(wait=False, **self._environment)
        self.up.set()

    def kill(self) -> None:
        self.up.clear()
        self.server.kill()

    # ---- its clients -----------------------------------------------------------------------------

    def write(self) -> None:
        """Until the world is over."""
        self.thread = threading.Thread(target=self._write, daemon=True)
        self.thread.start()

    def _write(self) -> None:
        while not self.world.over:
            if not self.up.wait(0.1):
                continue
            try:
                with self.server.connect(timeout=5.0) as c:
                    while not self.world.over:
                        self.commands += 1
                        self._one(c, self.commands)
                        time.sleep(self.rng.random() * self.world.pace)
            except (OSError, ReplyError):
                # killed, loading, or its disk is full
                time.sleep(0.02)

    def _one(self, c, n: int) -> None:
        key, what = f"{self.name}:{n}", self.rng.random()
        if what < 0.5:
            size = LARGE if self.rng.random() < 0.004 else self.rng.randrange(200)
            c("SET", key, key.ljust(size, "."))
            self.values[key] = max(size, len(key))
            if what < 0.1:
                self._wait(c, key)
        elif what < 0.7:
            self.sent += 1
            c("INCR", "count")
            self.counted += 1
        elif what < 0.9:
            c("RPUSH", "list", key)
            self.elements.append(key)
        elif what < 0.94 and self.values:
            old = self.rng.choice(list(self.values))
            # if it is not acknowledged, the key may be there or not
            del self.values[old]
            c("DEL", old)
            self.deleted.append(old)
        else:
            c("MULTI")
            c("SET", key, key), c("SET", key + "'", key + "'")
            c("EXEC")
            self.values |= {key: len(key), key + "'": len(key) + 1}

    def _wait(self, c, key: str) -> None:
        count = c("WAIT", 2, self.rng.choice((1, 50, 300)))
        have, unknown = 0, 0
        for other in self.world.nodes:
            if other is not self:
                try:
                    with other.server.connect(timeout=5.0) as d:
                        have += d("EXISTS", key)
                except (OSError, ReplyError):
                    # dead or loading; kill -9 takes nothing from its log
                    unknown += 1
        self.waited += count > 0
        if count > have + unknown:
            self.waits.append(f"{self.name}: WAIT said {count} for {key}, {have} have it, "
                              f"{unknown} could not be asked")


class Chaos:
    """pace: at most so many seconds between two commands of a client. tls: between servers, and of
    clients."""

    def __init__(self, seed: int, folder: Path, topology: str = "", names: str = "abc",
                 node: type[Node] = Node, pace: float = 0.004,
                 forgetful: bool | None = None, tls: bool = False) -> None:
        self.rng, self.pace = random.Random(seed), pace
        self.forgetful = seed % 2 == 0 if forgetful is None else forgetful
        self.library = library(folder)
        self.over = False
        self.authority: Authority | None = None
        if tls:
            self._begin_tls(folder, names)
        self.links = Links()
        self.nodes = [node(self, name, random.Random(f"{seed}{name}")) for name in names]
        self.between: dict[tuple[str, str], Link] = {}
        for a, b in topology.split() or self._topology():
            x, y = self._node(a), self._node(b)
            link = self.between[a, b] = self.links.to(y.server.http_port)
            x.server.peers.append(link.address)
        self.done: list[str] = []

    def _begin_tls(self, folder: Path, names: str) -> None:
        """Certificates of yesterday, for clocks that are off; and of lists, each revokes one
        more."""
        (folder / "yesterday").write_bytes(struct.pack("=q", -86_400_000))
        self.authority = ca = Authority(folder, LD_PRELOAD=str(self.library),
                                        WRONG_CLOCK=str(folder / "yesterday"))
        self._certificates = {name: ca.sign(name) for name in names}
        self._client = ca.sign("client")
        self._lists = [ca.list_revoked(), *(ca.list_revoked(name) for name in names)]

    def server(self, name: str, **settings: object) -> Server:
        if self.authority is None:
            return Server(name, **settings)
        server = SecureServer(name, **of_replica(
            self._certificates[name], self.authority, tls_auth_peers="yes", port=0,
            tls_port=free_port(), tls_auth_clients="yes", tls_crl_file=self._lists[0]) | settings)
        server.context = ssl.create_default_context(cafile=self.authority.file)
        server.context.load_cert_chain(*self._client)
        return server

    def _node(self, name: str) -> Node:
        return next(n for n in self.nodes if n.name == name)

    def _topology(self) -> list[str]:
        """Who calls whom: each of two or three pairs in one direction or both."""
        pairs = ["ab", "bc", "ac"]
        self.rng.shuffle(pairs)
        out = []
        for pair in pairs[:self.rng.choice((2, 2, 3))]:
            out += self.rng.choice(([pair], [pair[::-1]], [pair, pair[::-1]], [pair, pair[::-1]]))
        return out

    # ---- what happens ----------------------------------------------------------------------------

    def start(self) -> None:
        for n in self.nodes:
            n.start()
        for n in self.nodes:
            n.server.wait_ready()

    def run(self, seconds: float) -> None:
        """Trouble for so long, and its end."""
        self.over = False
        for n in self.nodes:
            n.write()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            event, weight = zip(*self.events())
            self.rng.choices(event, weight)[0]()
            time.sleep(self.rng.random() * 0.5)
        self.mend()

    def events(self) -> list[tuple[Callable[[], None], int]]:
        return [(self.cut, 4), (self.swallow, 2), (self.slow, 3), (self.mend_link, 6),
                (self.kill, 2), (self.jump, 2), (self.fill, 1), (self.fail, 1),
                (self.heal, 3), (self.pause, 1), (self.resume, 2),
                *([(self.revoke, 3)] if self.authority is not None else [])]

    def note(self, what: str) -> None:
        self.done.append(what)

    def link(self) -> Link:
        name = self.rng.choice(list(self.between))
        self.note(f"link {name}")
        return self.between[name]

    def node(self) -> Node:
        node = self.rng.choice(self.nodes)
        self.note(f"node {node.name}")
        return node

    def cut(self) -> None:
        self.note("cut")
        self.link().cut()

    def swallow(self) -> None:
        self.note("swallow")
        self.link().swallow(self.rng.choice(("there", "back")))

    def slow(self) -> None:
        self.note("slow")
        link = self.link()
        link.delay = self.rng.choice((0.0, 0.02, 0.2))
        link.rate = self.rng.choice((None, 50_000, 1_000_000))

    def mend_link(self) -> None:
        self.note("mend")
        self.link().mend()

    def kill(self) -> None:
        self.note("kill")
        node = self.node()
        node.kill()
        node.disk.heal()                                        # a start needs to write
        node.set_clock(self.rng.randint(-SKEW, SKEW))
        time.sleep(self.rng.random() * 0.5)
        node.start()
        node.server.wait_ready()

    def jump(self) -> None:
        self.note("jump")
        self.node().set_clock(self.rng.randint(-SKEW, SKEW))

    def fill(self) -> None:
        self.note("fill")
        self.node().disk.fill()

    def fail(self) -> None:
        self.note("fail")
        call, error = self.rng.choice((("fdatasync", errno.EIO), ("write", errno.EIO),
                                       ("create", errno.EACCES)))
        self.node().disk.fail(call, "segment-", error, times=self.rng.choice((1, 3)))

    def heal(self) -> None:
        self.note("heal")
        self.node().disk.heal()

    def pause(self) -> None:
        self.note("pause")
        self.tell(self.node(), "CRDT.PEER", "PAUSE", "*")

    def resume(self) -> None:
        self.note("resume")
        self.tell(self.node(), "CRDT.PEER", "RESUME", "*")

    def revoke(self) -> None:
        """Or take it back, at one server."""
        self.note("revoke")
        self.tell(self.node(), "CONFIG", "SET", "tls-crl-file", self.rng.choice(self._lists))

    def tell(self, node: Node, *argv) -> object:
        try:
            with node.server.connect(timeout=10.0) as c:
                return c(*argv)
        except (OSError, ReplyError):
            return None

    # ---- what must hold --------------------------------------------------------------------------

    def mend(self) -> None:
        self.links.mend()
        for n in self.nodes:
            n.disk.heal()
            if n.server.process.poll() is not None:             # its disk failed in a full sync
                self.note(f"{n.name} had ended")
                n.start()
                n.server.wait_ready()
            self.tell(n, "CRDT.PEER", "RESUME", "*")
            if self.authority is not None:
                self.tell(n, "CONFIG", "SET", "tls-crl-file", self._lists[0])
        time.sleep(1.0)                                         # clients go on for a moment
        self.over = True
        for n in self.nodes:
            n.thread.join(60)
            assert not n.thread.is_alive(), f"a client of {n.name} hangs"

    def check(self) -> None:
        for n in self.nodes:
            assert not n.waits, n.waits
        self.until("digests", self.states, lambda found: found[0][0] is not None
                   and all(x == found[0] for x in found))
        self.joined = sum(len(re.findall("full sync from . is joined", n.server.log(10**9)))
                          for n in self.nodes)
        self.until("health", lambda: [health(n.server)[1]["reasons"] for n in self.nodes],
                   lambda found: not any(found))
        sent, counted = (sum(getattr(n, what) for n in self.nodes) for what in ("sent", "counted"))
        for n in self.nodes:
            with n.server.connect() as c:
                for m in self.nodes:
                    keys = list(m.values)
                    wrong = [k for k, found in zip(keys, c.pipeline(["STRLEN", k] for k in keys))
                             if found != m.values[k]]
                    assert not wrong, (
                        f"{n.name} lacks what {m.name} acknowledged: {wrong[:10]} ({len(wrong)} of "
                        f"{len(keys)})")
                    back = [k for k, found in zip(m.deleted, c.pipeline(
                        ["EXISTS", k] for k in m.deleted)) if found]
                    assert not back, f"{n.name} has what {m.name} deleted: {back[:10]}"
                found = [x.decode() for x in c("LRANGE", "list", 0, -1)]
                assert len(found) == len(set(found)), f"{n.name}: elements twice"
                missing = {x for m in self.nodes for x in m.elements} - set(found)
                assert not missing, (
                    f"{n.name} lacks the acknowledged elements {sorted(missing)[:10]} "
                    f"({len(missing)})")
                assert counted <= int(c("GET", "count") or 0) <= sent, (
                    f"{n.name}: {c('GET', 'count')} of {counted} to {sent} increments")

    def states(self) -> list[tuple]:
        for n in self.nodes:
            self.tell(n, "CRDT.SYNC", 1000)                     # no back-off is waited for
        return [(self.tell(n, "CRDT.DIGEST"), self.tell(n, "CRDT.CLOCK")) for n in self.nodes]

    def until(self, what: str, look: Callable[[], list], good: Callable[[list], bool]) -> None:
        end = time.monotonic() + HEAL
        while not good(found := look()):
            assert time.monotonic() < end, (
                f"{what} after {HEAL:g} s: "
                f"{found}\n{[self.tell(n, 'CRDT.PEERS') for n in self.nodes]}")
            time.sleep(0.2)

    def close(self) -> None:
        self.over = True
        self.links.close()
        for n in self.nodes:
            n.server.dispose()
            n.disk.close()


def run(seed: int, seconds: float, topology: str = "", tls: bool = False) -> str:
    """Raises AssertionError, with what had happened. Returns a summary."""
    with tempfile.TemporaryDirectory(prefix="crdt-redis-chaos-") as folder:
        world = Chaos(seed, Path(folder), topology, tls=tls)
        try:
            world.start()
            world.run(seconds)
            world.check()
        except BaseException as e:
            logs = "\n".join(f"--- {n.name}\n{n.server.log(40)}" for n in world.nodes)
            raise AssertionError(f"seed {seed}, {' '.join(a + b for a, b in world.between)}: "
                                 f"{e}\n{' | '.join(world.done)}\n{logs}") from e
        finally:
            world.close()
    counts = [sum(f(n) for n in world.nodes) for f in (lambda n: len(n.values), lambda n: n.counted,
                                                       lambda n: len(n.elements),
                                                       lambda n: len(n.deleted),
                                                       lambda n: n.waited)]
    return (f"seed {seed:5} {' '.join(a + b for a, b in world.between):20} {len(world.done)} "
            f"events; acknowledged {counts[0]} values, {counts[1]} increments, {counts[2]} "
            f"elements, {counts[3]} removals; {counts[4]} WAITs; {world.joined} full syncs")


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--first", type=int, default=1)
    p.add_argument("--schedules", type=int, default=10)
    p.add_argument("--seconds", type=float, default=20.0)
    p.add_argument("--topology", default="", help="who calls whom, such as 'ab ba bc cb'")
    p.add_argument("--tls", action="store_true",
                   help="between servers and of clients, with certificates")
    a = p.parse_args()
    try:
        for seed in range(a.first, a.first + a.schedules):
            print(run(seed, a.seconds, a.topology, a.tls), flush=True)
    finally:
        stop_all()
    return 0


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(main())

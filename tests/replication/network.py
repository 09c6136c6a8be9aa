"""Replicas with real kernels, log tails, peers and HTTP in one event loop, but with an engine and a
disk of a few lines: what a node has logged is a list that survives its restart. So a test can lose
a tail, go back to an old copy, or cut a log short. Every node checks at each step what must always
hold (invariants.py); where it did not, stop() says so."""
from __future__ import annotations

import asyncio
import os
import random
import time

import aiohttp
from aiohttp import web

from crdtredis import clocks
from crdtredis._core import ReceiveStatus, Replica, batch_ranges, probe_get, probe_make
from crdtredis.errors import DamagedBatch, UndeclaredActor, CausalBufferFull
from crdtredis.http.app import application
from crdtredis.replication import plan
from crdtredis.replication.giving import Giver
from crdtredis.replication.local import KernelView, LocalReplica, OwnIdentity
from crdtredis.replication.receiving import Receiver
from crdtredis.replication.registry import Registry
from crdtredis.replication.resolver import Resolver
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.sessions import InboundSessions
from crdtredis.replication.tail import LogTail
from crdtredis.replication.peer import Peer
from crdtredis.clocks import Actor
from crdtredis.storage.batch import declaration
from crdtredis.storage.reader import Removed
from tests.replication.invariants import watch

FAST = dict(interval=0.1, retry=0.02, retry_cap=0.1, timeout=5.0, linger=0.001)


class Log:
    """Segments in memory: batches from `begin` on, each with what the clock was before it."""

    def __init__(self):
        self.batches: list[tuple[dict, bytes]] = []
        self.reads = self.read_bytes = 0
        self.first = 0                  # batches before this one are removed

    def append(self, before: dict, batch: bytes) -> None:
        self.batches.append((before, batch))

    def floor(self):
        return dict(self.batches[self.first][0]) if self.batches else {}

    def find(self, clock):
        self.reads += 1
        return 0, max((i for i, (before, _) in enumerate(self.batches)
                       if i >= self.first and clocks.observed(clock, before)),
                      default=self.first)

    def read(self, position):
        if position[1] < self.first:
            raise Removed
        batch = self.batches[position[1]][1] if position[1] < len(self.batches) else b""
        self.read_bytes += len(batch)
        return batch, (0, position[1] + bool(batch))


class FakeEngine:
    """Applies and logs at once what it is given. `room` is how many batches wait for the tail
    before all are dropped."""

    def __init__(self, replica: Replica, log: Log, room: int = 1 << 30):
        self.replica, self.log, self.room = replica, log, room
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.out: list[bytes] = []
        self.results: list[tuple[int, int]] = []
        self.dropped = self.wanted = False
        self.received: list[bytes] = []
        self.logged = replica.clock_ids()
        self.failed = False             # the log takes nothing
        self.unlogged = b""

    def want(self):
        self.wanted = True

    def wait_for_more(self, patient: bool):
        """It signals at once in any case."""

    def signal(self):
        os.eventfd_write(self.fd, 1)

    def overflow(self):
        """The tail has fallen behind."""
        self.out.clear()
        self.dropped = True
        self.signal()

    def heal(self):
        """The log is whole again, and holds what waited."""
        self.failed = False
        batch, self.unlogged = self.unlogged, b""
        self.log.append(self.logged, batch)
        self.logged = self.replica.clock_ids()
        if self.wanted:
            self.overflow()

    def iterate(self):
        """The end of a loop iteration: log what was made or received, and hand it over."""
        if self.failed:
            self.unlogged += self.replica.take_ops()
            return
        before, self.logged = self.logged, self.replica.clock_ids()
        batch = self.replica.take_ops()
        if batch:
            self.log.append(before, batch)
            if self.wanted:
                self.out.append(batch)
                if len(self.out) > self.room:
                    self.out.clear()
                    self.dropped = True
            os.eventfd_write(self.fd, 1)

    def drain(self):
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        out = self.out, self.results, self.dropped
        self.out, self.results, self.dropped = [], [], False
        return out

    def receive(self, token, batch):
        if self.failed:
            self.results.append((token, ReceiveStatus.UNLOGGED))
            return self.signal()
        self.received.append(batch)
        self.replica.now = int(time.time() * 1000)
        status = 0
        try:
            self.replica.receive(batch)
        except DamagedBatch:
            status = ReceiveStatus.BAD
        except CausalBufferFull:
            status = ReceiveStatus.FULL
        except UndeclaredActor:
            status = ReceiveStatus.UNDECLARED
        self.iterate()
        self.results.append((token, status))
        os.eventfd_write(self.fd, 1)

    async def call(self, function):
        return function()

    def soon(self, function):
        function()


# whether nodes started from here on offer streams to push on
streams = True


@web.middleware
async def without_streams(request, handler):
    """As an older replica, or a proxy between."""
    if request.path.endswith("/stream"):
        raise web.HTTPNotFound
    return await handler(request)


class Node:
    """One replica, startable again after stop() on what its log holds."""

    def __init__(self, name: str, **settings):
        self.name, self.log = name, Log()
        self.settings = plan.Settings(**{**FAST, **settings})
        self.port = 0
        self.epoch = 0
        self.names: list[Node] = []
        self.running = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, peers=None, epoch=None):
        if peers is not None:
            self.names = list(peers)
        self.epoch = epoch if epoch is not None else max(self.epoch + 1, int(time.time() * 1000))
        self.replica = r = Replica(self.name, self.epoch,
                                   max_clock_skew=int(self.settings.skew * 1000))
        r.now = int(time.time() * 1000)
        r.recovering = True
        for _, batch in self.log.batches:
            r.receive(batch)
        r.recovering = False
        # as the header of a new segment does
        self.log.append(r.clock_ids(), declaration(self.view().actors.values()))
        self.engine = FakeEngine(r, self.log)
        # declares its actor, before any op of it
        self.engine.iterate()
        local = LocalReplica(Actor(r.actor, self.name, r.epoch), self.view().actors,
                             r.clock_ids(), self.renew, self.view, self.record_clock)
        self.runtime = Runtime(self.name, self.settings, random.Random(1))
        self.tail = LogTail(local, self.engine, self.log, self.runtime)
        self.identity = OwnIdentity(local, self.engine.call, self.tail, self.runtime)
        self.registry = Registry(self.identity, self.tail, self.runtime, self.engine.soon)
        giver = Giver(self.tail, self.runtime, self.engine.call, None)
        self.sessions = InboundSessions(self.identity, self.tail, self.registry, self.runtime,
                                        giver)
        self.receiver = Receiver(self.identity, self.tail, self.registry, self.runtime, giver,
                                 self.engine.call, None)
        self.runtime.http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, resolver=Resolver()))
        watch(self)
        self.tail.start()
        app = application(self)
        if not streams:
            app.middlewares.append(without_streams)
        self.runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.tasks = {}
        self.running = True
        return self

    def view(self) -> KernelView:
        r = self.replica
        logged = not (self.running and self.engine.failed)
        return KernelView(r.clock_ids(), {a[0]: Actor(*a) for a in r.declared()},
                          r.pending()["ops"],
                    logged)

    def renew(self, above: int) -> Actor:
        self.replica.new_epoch(max(above + 1, int(time.time() * 1000)))
        self.epoch = self.replica.epoch
        return Actor(self.replica.actor, self.name, self.epoch)

    def record_clock(self, actor: Actor, clock: dict) -> int:
        self.replica.record_clock(actor.id, clock)
        return self.replica.pending()["ops"]

    def connect(self, *others: Node) -> None:
        for o in others or [n for n in self.names if n is not self]:
            self.call(o.url)

    def new_peer(self, url: str) -> Peer:
        return Peer(self.identity, self.tail, self.registry, self.runtime, url)

    def call(self, url: str) -> Peer:
        """A further peer, by its address."""
        peer = self.new_peer(url)
        self.registry.peers.append(peer)
        self.tasks[peer] = asyncio.create_task(peer.run())
        return peer

    async def stop(self):
        if self.running:
            self.running = False
            self.runtime.stopping = True
            self.sessions.stop()
            self.tail.stop()
            for t in self.tasks.values():
                t.cancel()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
            await self.runtime.http.close()
            await self.runner.cleanup()
            os.close(self.engine.fd)
            assert not self.broken, self.broken

    def set(self, key: str, value: str, iteration: bool = True) -> None:
        self.make("set", key, value.encode(), iteration)

    def make(self, what: str, key: str, argument=None, iteration: bool = True) -> None:
        """An op of probe_make."""
        self.replica.now = int(time.time() * 1000)
        probe_make(self.replica, [(what, 0, key.encode(), argument)])
        if iteration:
            self.engine.iterate()

    def get(self, key: str):
        value = probe_get(self.replica, 0, key.encode())
        return value if value is None else value.decode()

    def peer(self, other: Node) -> Peer:
        return next(p for p in self.registry.peers if p.url == other.url)

    def pause(self, name="*", paused=True):
        if name == "*":
            self.registry.paused_all = paused
        else:
            self.peer(name).paused = paused
        for p in self.registry.peers:
            p.refresh()


class Network:
    def __init__(self, n: int = 3, **settings):
        self.nodes = [Node(name, **settings) for name in "abcdefgh"[:n]]

    async def __aenter__(self):
        for node in self.nodes:
            await node.start(self.nodes)
        for node in self.nodes:
            node.connect()
        return self.nodes

    async def __aexit__(self, *_):
        for node in self.nodes:
            await node.stop()


async def until(condition, seconds: float = 8.0):
    """Wait for a condition to come true; the assertion message is its value at the end."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        await asyncio.sleep(0.005)


async def converged(nodes, seconds: float = 8.0):
    await until(lambda: len({n.replica.digest() for n in nodes}) == 1
                and len({tuple(sorted(n.replica.clock_ids().items())) for n in nodes}) == 1,
                seconds)


def traffic(node: Node) -> int:
    """Ops the node's engine was handed by peers so far, repeats included."""
    return sum(last - first + 1 for batch in node.engine.received for _, first,
               last in batch_ranges(batch))

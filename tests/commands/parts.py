"""Stand-ins for the parts of a server that Python commands reach: what the engine, the log and the
sync thread would do, without threads."""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace

from crdtredis.config import Config
from crdtredis.info import SomeParts
from crdtredis.replication.service import FullSyncStatus
from tests.commands.run import NOW, Client


class Engine:
    """call_soon runs when the test says iteration()."""

    def __init__(self):
        self.calls, self.stopped = deque(), False

    def call_soon(self, function):
        self.calls.append(function)

    def iterate(self):
        while self.calls:
            self.calls.popleft()()

    def stop(self):
        self.stopped = True

    def stats(self):
        return {"connected": 3, "blocked": 1, "accepted": 5, "ops_per_second": 12.7,
                "in_per_second": 2048}


class Log:
    def __init__(self):
        self.synced, self.failure = 0, None

    def sync(self, all_policies=False):
        assert all_policies
        self.synced += 1

    def status(self):
        return SimpleNamespace(failure=self.failure, segment=7, size=4096, unsynced=10,
                               policy="everysec", failures=0, syncs=self.synced, slowest_sync=0.0)


@dataclass
class PeerInfo:
    url: str
    replica: str = ""
    state: str = "up"
    lag_ops: int = 0
    lag_ms: int = 0
    queued_bytes: int = 0
    in_flight: int = 0
    missing_ops: int = 0
    last_contact_ms: int = -1
    calls_ms: int = -1
    certificate_ends: int = 0
    error: str = ""
    counts: SimpleNamespace = field(default_factory=lambda:
                                    SimpleNamespace(bytes_sent=11, bytes_received=7, full_syncs=0,
                                                    pulls=2))


class Sync:
    def __init__(self):
        self.urls, self.paused, self.logged = {}, set(), 0
        self.waiting, self.syncing, self.expected, self.left = [], [], [], []
        self.messages = SimpleNamespace(dropped=3)
        self.verifier = SimpleNamespace(differences=lambda: [])

    def peers(self):
        return [PeerInfo(u, r) for u, r in self.urls.items()]

    def take_back(self, replica):
        return replica == "removed"

    def add(self, url):
        if url in self.urls:
            raise ValueError(f"there is a peer {url} already")
        self.urls[url] = ""

    def full_syncs(self):
        return FullSyncStatus("", "", 0, 1, 0, 100, 100, 0.5, 0.1, "", 0, 2, 200)

    def member(self, name):
        raise KeyError(name)

    def _find(self, name):
        return name if name in self.urls else next(u for u, r in self.urls.items() if r == name)

    def remove(self, name):
        if name not in self.urls:
            raise KeyError(name)
        del self.urls[name]

    def pause(self, name):
        if name != "*" and name not in self.urls:
            raise KeyError(name)
        self.paused.add(name)

    def resume(self, name):
        self.paused.discard(name)

    def acknowledged(self, actor, seq):
        self.wrote = actor, seq
        return self.logged

    def when_acknowledged(self, actor, seq, count, done):
        self.waiting.append((actor, seq, count, done))
        return lambda: self.left.append(done)

    def when_here(self, clock, done):
        self.expected.append((clock, done))
        return lambda: self.left.append(done)

    def when_synced(self, done, timeout=None):
        self.syncing.append((done, timeout))
        return lambda: self.left.append(done)


def client(**settings) -> Client:
    """A client of a server whose parts are these stand-ins."""
    server = SomeParts(config=Config.of(**{"enable_debug_command": "yes"} | settings),
                       engine=Engine(), log=Log(), sync=Sync())
    server.stop = lambda reason="": server.engine.stop()
    c = Client(server=server)
    c.server = server
    return c


__all__ = ["NOW", "client"]

"""Messages between replicas under a seed: real engines with their loops and bridges, and between
them links that are simulated: slow, cut, with ops that come late, twice, by other ways, or by
relays; and processes that are killed and start again from their logs.

What must hold, whatever happens: a subscriber has a message at most once, those of one replica in
the order in which they were published, and never before the writes that the publisher's replica had
made. Once all links stand, messages arrive.

    A: INCR a -> 7; PUBLISH ch "a 7"     C has the message   ->   GET a at C is 7 or more
"""
from __future__ import annotations

import os
import random
import socket
import threading

import pytest

from crdtredis._core import Replica, batch_ranges, slice_batch
from crdtredis._engine import HEARD, INTEREST, OPS, PUBLISHED, Bridge, Executor, Loop
from tests.engine.conftest import encode

SCHEDULES = int(os.environ.get("CRDT_MESSAGE_SCHEDULES", "60"))
BLOCKS = 6
NOW = 1_700_000_000_000
# a peer listens to everything
ALL = b"\1\1\1\0\0\0*"


class Process:
    """One start of a replica: its loop on a thread, a subscriber, a client that writes."""

    def __init__(self, name: str, epoch: int, log: list[bytes]):
        self.replica = Replica(name, epoch)
        self.replica.now = NOW
        self.replica.recovering = True
        for batch in log:
            self.replica.receive(batch)
        self.replica.recovering = False
        self.executor, self.bridge = Executor(self.replica), Bridge()
        self.bridge.set_wanted(True)
        self.loop = Loop(self.executor, None, self.bridge)
        port = self.loop.listen_tcp("127.0.0.1", 0)
        self.thread = threading.Thread(target=self.loop.run, daemon=True)
        self.thread.start()
        self.bridge.send_receive(0, ALL, INTEREST)
        self.client, self.subscriber = (socket.create_connection(("127.0.0.1", port), 20)
                                        for _ in range(2))
        self.subscriber.sendall(encode(f"SUBSCRIBE ch only-{name}"))
        assert self._line(self.subscriber, 12)[-1] == b":2"
        self.rest = b""

    @staticmethod
    def _line(sock, n: int) -> list[bytes]:
        data = b""
        while data.count(b"\r\n") < n:
            data += sock.recv(1 << 16)
        return data.split(b"\r\n")[:n]

    def ask(self, command: str, lines: int = 1) -> bytes:
        """The last line of the reply."""
        self.client.sendall(encode(command))
        return self._line(self.client, lines)[-1]

    def heard(self) -> list[str]:
        """What has come since. Everything that the engine was handed before has been done."""
        done = threading.Event()
        # what comes over the bridge is taken in the iteration in which it is seen, or the next one
        self.loop.call_soon(lambda: self.loop.call_soon(done.set))
        assert done.wait(20)
        assert self.ask(f"PUBLISH only-{self.replica.id} mark") == b":1"
        found = []
        while True:
            *whole, self.rest = self.rest.split(b"\r\n")
            texts = [line.decode() for line in whole]
            # *3, $7, message, $2, ch, $n, text
            for at in range(0, len(texts) - len(texts) % 7, 7):
                if texts[at + 6] == "mark":
                    self.rest = b"\r\n".join([*whole[at + 7:], self.rest])
                    return found
                found.append(texts[at + 6])
            self.rest = b"\r\n".join([*whole[len(texts) - len(texts) % 7:], self.rest])
            self.rest += self.subscriber.recv(1 << 16)

    def end(self) -> None:
        self.loop.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.client.close()
        self.subscriber.close()


class Station:
    def __init__(self, name: str):
        self.name, self.epoch, self.log = name, 1, []
        self.written = self.published = 0       # of its counter; messages
        self.start()

    def start(self) -> None:
        self.process = Process(self.name, self.epoch, self.log)
        self.newest = {"a": 0, "b": 0, "c": 0}  # number of the last message that came from each


class World:
    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.relays = self.rng.random() < 0.5
        self.stations = [Station(name) for name in "abc"]
        # what is on its way: ("ops" or "messages", bytes)
        self.links = {(x, y): [] for x in self.stations for y in self.stations if x is not y}
        self.cut: set = set()
        self.received = 0

    def run(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(30, 80)):
            rng.choice([self.publish, self.publish, self.publish, self.deliver, self.deliver,
                        self.deliver, self.exchange, self.link, self.kill])()
        self.heal()

    # ---- what happens ----------------------------------------------------------------------------

    def publish(self) -> None:
        s = self.rng.choice(self.stations)
        for _ in range(self.rng.choice([1, 1, 3])):
            for _ in range(self.rng.choice([0, 1, 1, 4])):
                s.written = int(s.process.ask(f"INCR {s.name}")[1:])
            self.say(s)
        self.hear(s)
        self.collect(s)

    def say(self, s: Station) -> None:
        s.published += 1
        s.process.ask(f"PUBLISH ch {s.name}:{s.written}:{s.published}")

    def collect(self, s: Station) -> None:
        """What its sync thread is told goes to the log, and onto the links."""
        own = s.process.replica.actor
        for kind, _, data in s.process.bridge.drain():
            if kind == OPS:
                s.log.append(data)
                if not self.relays:
                    data = slice_batch(data, {a: 1 << 40 for a, _, _ in batch_ranges(data)
                                              if a != own})
            if kind in (OPS, PUBLISHED) and data:
                for (x, y), queue in self.links.items():
                    if x is s and (x, y) not in self.cut:
                        queue.append((kind, data))

    def deliver(self) -> None:
        (x, y), queue = self.rng.choice(list(self.links.items()))
        for _ in range(self.rng.choice([1, 2, 20])):
            if queue:
                self.hand(y, *queue.pop(0))

    def hand(self, y: Station, kind: int, data: bytes) -> None:
        y.process.bridge.send_receive(1, data, HEARD if kind == PUBLISHED else 0)
        self.hear(y)
        self.collect(y)

    def exchange(self) -> None:
        """Somebody fetches what another's log has, beside the stream; or has it already."""
        x, y = self.rng.sample(self.stations, 2)
        for batch in self.rng.sample(x.log, min(len(x.log), self.rng.choice([1, 3, 100]))):
            self.hand(y, OPS, batch)

    def link(self) -> None:
        """Breaks a link, and with it what is on its way; or mends it."""
        at = self.rng.choice(list(self.links))
        self.links[at].clear()
        self.cut ^= {at}

    def kill(self) -> None:
        s = self.rng.choice(self.stations)
        if self.rng.random() < 0.5:
            return
        self.collect(s)
        s.process.end()
        s.epoch += 1
        s.start()
        for at, queue in self.links.items():
            if s in at:
                queue.clear()

    # ---- what must hold --------------------------------------------------------------------------

    def hear(self, s: Station) -> None:
        for text in s.process.heard():
            name, n, number = text.split(":")
            assert int(number) > s.newest[name], f"{s.name} has {text} behind {s.newest[name]}"
            s.newest[name] = int(number)
            if int(n):
                found = s.process.ask(f"EVAL return(tonumber(redis.call('get','{name}'))or(0)) 0")
                assert int(found[1:]) >= int(n), f"{s.name} has {text} before the write: {found}"
            self.received += 1

    def heal(self) -> None:
        self.cut.clear()
        for queue in self.links.values():
            queue.clear()
        for _ in range(2):                      # what depends on what came later comes then
            for x, y in self.links:
                for batch in x.log:
                    self.hand(y, OPS, batch)
        for s in self.stations:
            for _ in range(3):
                s.written = int(s.process.ask(f"INCR {s.name}")[1:])
                self.say(s)
            self.hear(s)
            self.collect(s)
        for (_, y), queue in self.links.items():
            while queue:
                self.hand(y, *queue.pop(0))
        last = {s.name: s.published for s in self.stations}
        for s in self.stations:
            assert s.newest == last, f"{s.name} has {s.newest} of {last}"
            stats = s.process.executor.message_stats()
            assert stats["waiting_bytes"] == stats["dropped"] == 0, stats

    def close(self) -> None:
        for s in self.stations:
            s.process.end()


def check(seed: int) -> int:
    """How many messages came."""
    world = World(seed)
    try:
        world.run()
    except AssertionError as e:
        raise AssertionError(f"seed {seed}: {e}") from e
    finally:
        world.close()
    return world.received


@pytest.mark.parametrize("block", range(BLOCKS))
def test_messages(block):
    assert sum(check(seed) for seed in range(block, SCHEDULES, BLOCKS)) > 100

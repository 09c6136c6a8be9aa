"""Readers of streams: whatever replicas do to each other, a reader that stays at one replica gets
each entry that survives once, in the order in which it arrived there.

Replicas add, delete and trim; their ops arrive late and in any order that causality allows, also by
states (full syncs); and they are killed and start again, from a checkpoint that was walked while
they worked and the log behind it. Readers poll XREAD with the id that they got last, or that was
the last when they began (`$`). Ids are those of `*`, or explicit ones that nobody uses twice.

Replay one schedule:  python -m tests.simulation.test_readers --seed 4711
"""
from __future__ import annotations

import argparse
import random
import sys

import pytest

from crdtredis._core import Replica, StateJoin, StateReader, StateWriter
from crdtredis._engine import Executor
from tests.respclient import decode
from tests.simulation.views import packed_id

START = 1_700_000_000_000
SCHEDULES = 400
BLOCKS = 4


class Node:
    def __init__(self, world, name):
        self.world, self.name, self.epoch = world, name, 0
        self.log: list = []               # batches, and (messages, tail) of a state that was joined
        self.checkpoint: tuple = ([], 0)  # messages, records that stood before the walk
        self.start()

    def start(self) -> None:
        self.epoch += 1
        self.walk: tuple | None = None
        self.replica = replica = Replica(self.name, self.epoch, seed=self.world.rng.randrange(99))
        replica.now = self.world.now
        messages, begin = self.checkpoint
        self.world.actors.append((self.name, self.epoch))
        self.world.declare(replica)
        replica.recovering = True
        reader = StateReader(replica)
        for message in messages:
            reader.take(message)
        for record in self.log[begin:]:
            if isinstance(record, tuple):
                join(replica, *record)
            else:
                replica.receive(record)
        replica.recovering = False
        replica.check()
        self.executor = Executor(replica)
        self.session = self.executor.session(2)
        for other in self.world.nodes:
            self.world.declare(other.replica)

    def __call__(self, *argv):
        self.replica.now = self.world.now
        reply = decode(self.executor.execute(self.session, [str(a).encode() for a in argv]))
        self.keep()
        return reply

    def keep(self) -> None:
        if batch := self.replica.take_ops():
            self.log.append(batch)

    def receive(self, batch: bytes) -> None:
        self.replica.now = self.world.now
        self.replica.receive(batch)
        self.keep()

    def walk_on(self) -> None:
        """A checkpoint is begun, or goes on a little."""
        rng = self.world.rng
        if self.walk is None:
            self.walk = StateWriter(self.replica, home=True), [], len(self.log)
        writer, messages, begin = self.walk
        for _ in range(rng.choice([1, 2, 50])):
            if not (record := writer.next(rng.choice([1, 1, 100, 64 << 10]))):
                self.walk, self.checkpoint = None, (messages, begin)
                return
            messages.append(record[8:])

    def sync_from(self, giver: Node) -> None:
        """The giver works on meanwhile."""
        rng, begin = self.world.rng, len(giver.log)
        writer, messages = StateWriter(giver.replica), []
        while record := writer.next(rng.choice([1, 50, 64 << 10])):
            messages.append(record[8:])
            if rng.random() < 0.3:
                self.world.command(giver)
        tail = []
        for record in giver.log[begin:]:
            if isinstance(record, tuple):
                return
            tail.append(record)
        join(self.replica, messages, tail)
        self.walk = None
        self.log.append((messages, tail))
        self.keep()
        self.replica.check()


def join(replica: Replica, messages: list, tail: list) -> None:
    joining = StateJoin(replica)
    for message in messages:
        more = joining.take(message, 3)
        while more:
            more = joining.step(3)
    while joining.step(3):
        pass
    for batch in tail:
        joining.apply(batch)
    joining.finish()


class Reader:
    def __init__(self, node: Node, at: str):
        self.node, self.at, self.got = node, at, []
        self.before = {i for i, _ in node("XRANGE", "s", "-", "+")} if at != "0" else set()

    def poll(self, *count) -> bool:
        reply = self.node("XREAD", *count, "STREAMS", "s", self.at)
        for i, _ in reply[0][1] if reply else []:
            assert i not in self.got, f"{i.decode()} comes again, behind {self.at}"
            self.got.append(i)
            self.at = i.decode()
        return bool(reply)


class World:
    def __init__(self, seed: int):
        self.rng = rng = random.Random(seed)
        self.now = START
        self.nodes: list[Node] = []
        self.actors: list[tuple] = []
        self.syncs, self.kills = rng.choice([0, 0.01, 0.05]), rng.choice([0, 0.02, 0.1])
        # what is known of a stream that is gone ends with the process, as the contract of explicit
        # ids ends with their stream
        self.deletes = 0 if self.kills else rng.choice([0, 0.03])
        self.explicit = 0 if self.deletes else rng.choice([0, 0.3])
        self.used: set = set()
        self.readers: list[Reader] = []
        for name in "abcd"[:rng.choice([2, 2, 3, 4])]:
            self.nodes.append(Node(self, name))

    def declare(self, replica: Replica) -> None:
        for actor in self.actors:
            replica.declare(*actor)

    def command(self, node: Node) -> None:
        rng, x = self.rng, self.rng.random()
        there = [i.decode() for i, _ in node("XRANGE", "s", "-", "+")]
        if x < self.deletes:
            node("DEL", "s")
        elif x < 0.62:
            bound = rng.choice([(), (), (), ("MAXLEN", rng.randrange(2, 9))])
            id = "*"
            if rng.random() < self.explicit:
                id = f"{START - 500 + rng.randrange(600)}-{rng.randrange(1 << 40)}"
            reply = node("XADD", "s", *bound, id, "f", rng.randrange(9))
            if isinstance(reply, bytes):
                assert reply not in self.used, f"{reply} was made twice"
                self.used.add(reply)
        elif x < 0.82 and there:
            node("XDEL", "s", *rng.sample(there, min(len(there), rng.randint(1, 3))))
        elif x < 0.9:
            node("XTRIM", "s", "MAXLEN", rng.randrange(6))
        elif self.explicit and x < 0.93 and not there:
            node("XSETID", "s", f"{START - 100}-0")
        elif x < 0.95:
            for argv in [("MULTI",), ("XADD", "s", "*", "f", 1), ("XTRIM", "s", "MAXLEN", 1),
                         ("XADD", "s", "*", "f", 2), ("EXEC",)]:
                reply = node(*argv)
            self.used |= {i for i in reply if isinstance(i, bytes)}

    def deliver(self, a: Node, b: Node, most: int) -> None:
        for record in a.log if a is not b else ():
            for batch in record[1] if isinstance(record, tuple) else [record]:
                before = b.replica.clock_ids()
                b.receive(batch)
                most -= b.replica.clock_ids() != before
                if most == 0:
                    return

    def step(self) -> None:
        rng = self.rng
        self.now += rng.choice([0, 0, 1, 7])
        node, x = rng.choice(self.nodes), rng.random()
        if x < 0.4:
            self.command(node)
        elif x < 0.6:
            self.deliver(rng.choice(self.nodes), node, rng.choice([1, 1, 3, 1000]))
        elif x < 0.62 or len(self.readers) < 2:
            id = node("XREVRANGE", "s", "+", "-", "COUNT", 1)
            came = node("XREAD", "STREAMS", "s", 0)
            self.readers.append(Reader(node, came[0][1][-1][0].decode()
                                       if id and rng.random() < 0.3 else "0"))
        elif x < 0.85:
            rng.choice(self.readers).poll(*rng.choice([(), ("COUNT", 1), ("COUNT", 3)]))
        elif x < 0.85 + self.syncs:
            self.nodes.remove(node)
            node.sync_from(rng.choice(self.nodes))
            self.nodes.append(node)
        elif x < 0.9 + self.kills / 2:
            node.walk_on()
        elif x > 1 - self.kills:
            node.start()

    def run(self) -> None:
        for _ in range(self.rng.randint(50, 250)):
            self.step()
        for _ in self.nodes:
            for a in self.nodes:
                for b in self.nodes:
                    self.deliver(a, b, -1)
        clocks = [n.replica.clock_ids() for n in self.nodes]
        if any(c != clocks[0] for c in clocks):       # what only states hold
            for n in self.nodes:
                for o in self.nodes:
                    if n is not o:
                        n.sync_from(o)
        assert len({n.replica.digest() for n in self.nodes}) == 1
        for r in self.readers:
            while r.poll():
                pass
            there = {i for i, _ in r.node("XRANGE", "s", "-", "+")}
            missed = sorted(there - r.before - set(r.got), key=packed_id)
            assert not missed, f"a reader at {r.node.name} never got {missed}, but {r.got}"
        # ... and all readers of a replica in one order
        for a in self.readers:
            for b in self.readers:
                if a.node is b.node:
                    both = set(a.got) & set(b.got)
                    assert [i for i in a.got if i in both] == [i for i in b.got if i in both]


def check(seed: int) -> None:
    try:
        World(seed).run()
    except AssertionError as e:
        raise AssertionError(f"seed {seed}: {e}\nagain with: "
                             f"python -m tests.simulation.test_readers --seed {seed}") from e


@pytest.mark.parametrize("block", range(BLOCKS))
def test_each_entry_once(block):
    for seed in range(block, SCHEDULES, BLOCKS):
        check(seed)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seed", type=int)
    p.add_argument("--schedules", type=int, default=1000)
    a = p.parse_args()
    for one in [a.seed] if a.seed is not None else range(a.schedules):
        check(one)
    sys.exit(0)

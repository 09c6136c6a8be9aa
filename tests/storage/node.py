"""A replica with its log on a real disk, run by hand: what the engine does, without the engine."""
import os
import random
from pathlib import Path

from crdtredis._core import Replica, probe_get, probe_make, record
from crdtredis.storage.recovery import recover
from crdtredis.storage.segments import SegmentLog


NOW = 1_700_000_000_000             # ms


class Node:
    # does it write effects and records of the shorter form?
    short = "SHORT_RECORDS" in os.environ

    def __init__(self, folder: Path, epoch: int = 1, replica_id: str = "a", **settings) -> None:
        self.folder = folder
        self.replica = Replica(replica_id, epoch, seed=epoch)
        self.recovered = recover(folder, replica_id, self.replica)
        self.replica.now = NOW + epoch
        self.replica.set_members({replica_id}, True, self.short)
        self.log = SegmentLog(folder, replica_id, self.describe, position=self.recovered.position,
                              unsynced=self.recovered.unsynced,
                              unapplied=self.recovered.unapplied, wall_ms=lambda: 7,
                              may_shorten=lambda: self.replica.makes_compact, **settings)
        self.ends = []                  # (segment number, end) after each loop iteration

    def describe(self):
        return self.replica.declared(), self.replica.clock_ids()

    def iterate(self, *effects) -> bool:
        """One iteration that makes one op of these effects [(name, key, argument)]: True when it
        may be acknowledged."""
        self.replica.now += 1
        probe_make(self.replica, [(name, 0, key, argument) for name, key, argument in effects])
        batch = self.last = self.replica.take_ops()
        ok = self.log.writer.add(record(batch)) if batch else True
        if self.log.writer.due:
            self.log.tick()
        self.ends.append(self.log.writer.position())
        return ok

    def set(self, key: bytes, value: bytes) -> bool:
        return self.iterate(("set", key, value))

    def fill(self, iterations: int, seed: int = 1, size: int = 40) -> None:
        rng = random.Random(seed)
        for i in range(iterations):
            self.iterate(*(("set", b"k%d" % rng.randrange(50),
                         b"%d:" % i + rng.randbytes(rng.randrange(size)))
                         for _ in range(rng.randrange(1, 4))))

    def get(self, key: bytes):
        return probe_get(self.replica, 0, key)

    def digest(self) -> str:
        return self.replica.digest()

    def close(self):
        return self.log.close()

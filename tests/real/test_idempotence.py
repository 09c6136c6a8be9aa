"""XADD IDMP while replicas are killed: what a producer tries until it is answered is there at least
once, and at most once for each replica at which it tried: one does not know at once what another
has done. So who goes on where it was has it there once."""
from __future__ import annotations

import random
import threading
import time

import pytest

from tests.real.cluster import Cluster, Server, until
from tests.respclient import Connection, ReplyError

PRODUCERS = 6
IDS = 150


class Producer(threading.Thread):
    """Adds IDS entries, each until it is answered: at one replica, or, where it moves, at the next
    one after a failure. Some replies it does not wait for."""

    def __init__(self, cluster: Cluster, number: int, moves: bool) -> None:
        super().__init__(daemon=True)
        self.ports = [s.port for s in cluster]
        self.number, self.moves = number, moves
        self.random = random.Random(number)
        self.at = number % len(self.ports)
        self.connection: Connection | None = None
        self.answers: dict[int, bytes] = {}
        self.tried: list[set[int]] = [set() for _ in range(IDS)]
        self.tries = 0
        self.fault: BaseException | None = None

    def command(self, i: int) -> tuple:
        return ("XADD", "s", "IDMP", f"p{self.number}", i, "*", "entry", f"{self.number} {i}")

    def add(self, i: int) -> bytes | None:
        """The answer; None where there was none."""
        self.tried[i].add(self.at)
        self.tries += 1
        try:
            if self.connection is None:
                self.connection = Connection(self.ports[self.at], timeout=20.0)
            if self.random.random() < 0.1:
                self.connection.send(*self.command(i))
                raise ConnectionError("it does not wait")
            return self.connection(*self.command(i))
        except (OSError, ReplyError) as e:
            assert not isinstance(e, ReplyError) or str(e).startswith(("LOADING", "MISCONF")), e
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            if self.moves:
                self.at = (self.at + 1) % len(self.ports)
            return None

    def run(self) -> None:
        try:
            for i in range(IDS):
                while (answer := self.add(i)) is None:
                    time.sleep(0.01)
                self.answers[i] = answer
        except BaseException as e:
            self.fault = e


@pytest.mark.parametrize("moves", [False, True])
def test_producers_that_try_again_while_replicas_are_killed(moves):
    cluster = Cluster(3, stream_idmp_duration=3600, stream_idmp_maxsize=1000).start()
    producers = [Producer(cluster, n, moves) for n in range(PRODUCERS)]
    for p in producers:
        p.start()
    rng = random.Random(14)
    kills = 0
    while kills < 6 or any(p.is_alive() for p in producers) and kills < 60:
        time.sleep(rng.random() / 4)
        s = rng.choice(list(cluster))
        s.kill()
        time.sleep(rng.random() / 4)
        s.start()
        kills += 1
    for p in producers:
        p.join(120)
        assert p.fault is None and len(p.answers) == IDS, (p.fault, len(p.answers))
    assert sum(p.tries for p in producers) > PRODUCERS * IDS
    cluster.sync()
    cluster.assert_converged()
    there: dict[bytes, list[bytes]] = {}
    for entry, fields in cluster[0]("XRANGE", "s", "-", "+"):
        there.setdefault(fields[1], []).append(entry)
    assert len(there) == PRODUCERS * IDS
    for p in producers:
        for i in range(IDS):
            entries = there[f"{p.number} {i}".encode()]
            assert p.answers[i] in entries and len(entries) <= len(p.tried[i])
    length = cluster[0]("XLEN", "s")
    for s in cluster:
        for p in producers:
            for i in range(0, IDS, 10):
                assert s(*p.command(i)) == min(
                    there[f"{p.number} {i}".encode()],
                    key=lambda x: tuple(map(int, x.split(b"-")))), "all answer the first"
        assert s("XLEN", "s") == length
    cluster.sync()
    cluster.assert_converged()


def test_ids_that_have_run_out_go_though_nobody_adds_anything():
    s = Server("a", stream_idmp_duration=1).start()

    def tracked() -> int:
        told = s("XINFO", "STREAM", "s")
        return told[told.index(b"iids-tracked") + 1]

    with s.connect() as c:
        c.pipeline(("XADD", "s", "IDMP", f"p{i}", "a", "*", "f", "v") for i in range(3000))
    until(lambda: tracked() == 0)
    assert s("XLEN", "s") == 3000

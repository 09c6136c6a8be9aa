"""How late the writes of other replicas become visible: what the kernel counts, and what is said of
it."""
import random

import pytest

from crdtredis import staleness
from crdtredis._core import Replica
from tests.commands.run import NOW, Client

MINUTE = 60_000


class Pair:
    """b writes, and a applies after so many ms."""

    def __init__(self):
        self.a, self.b, self.now = Client("a"), Client("b"), NOW

    def write(self, delay: int, n: int = 1, **at):
        """n ops, which are applied at self.now."""
        for _ in range(n):
            self.b.now = self.now - delay
            # a stamp is never smaller than one before: so each is of a process of its own time
            self.b.replica.now = self.b.now
            self.b("SET", "k", "v")
        self.a.replica.now = self.a.now = self.now
        self.a.replica.receive(self.b.replica.take_ops())

    @property
    def found(self):
        return self.a.replica.delays()["b"]


def test_bounds_are_near_and_above():
    """Whatever a delay is, it is counted at most an eighth too high."""
    pair, chance = Pair(), random.Random(7)
    pair.now += 1 << 40
    delays = sorted({chance.randrange(1 << bits) for bits in range(1, 32) for _ in range(20)},
                    reverse=True)
    for delay in delays:                # so stamps ascend
        pair.write(delay)
    d = pair.found
    assert d["ops"] == len(delays) == sum(n for _, n in d["all"]) and d["most"] == delays[0]
    assert d["sum"] == sum(delays)
    bounds = [ms for ms, n in d["all"] for _ in range(n)]
    for bound, delay in zip(bounds, reversed(delays)):
        assert delay <= bound <= delay + delay // 8


def test_what_is_longer_than_can_be_counted_and_what_comes_from_the_future():
    pair = Pair()
    pair.now += 1 << 40
    pair.write(1 << 35)
    pair.write(-500)
    d = pair.found
    assert d["all"] == [(0, 1), ((1 << 31) - 1, 1)] and d["most"] == 1 << 35
    assert d["sum"] == (1 << 31) - 1


def test_the_minute_before_predicts_the_next():
    pair = Pair()
    pair.write(10, 998)
    pair.write(0, 2)
    assert pair.found["predicted"] is None
    pair.now += MINUTE
    pair.write(10, 20)
    pair.write(8, 10)
    d = pair.found
    assert d["predicted"] == 10 and sum(n for _, n in d["window"]) == 30
    x = staleness.lag("b", d)
    assert (x["predicted_ms"], x["foretold"], x["within"], x["ops"]) == (10, 30, 30, 1030)
    pair.now += 15
    pair.write(15, 10)
    x = staleness.lag("b", pair.found)
    assert (x["foretold"], x["within"], x["max_ms"]) == (40, 30, 15)
    assert staleness.line(x) == (
        "b: of its last 1040 operations 50 % were here within 10 ms, 99 % within 10 ms, 99.9 % "
        "within 15 ms, all within 15 ms; predicted: 99.9 % within 10 ms; predictions held for 75 % "
        "of 40")
    pair.now += MINUTE
    pair.write(0)
    d = pair.found
    assert (d["foretold"], d["within"], d["predicted"]) == (40, 30, 15)
    x = staleness.lag("b", d)
    assert (x["foretold"], x["within"]) == (41, 31)     # with the minute under way


def test_a_clock_that_is_set_back_begins_a_window():
    pair = Pair()
    pair.write(0)
    since = pair.found["since"]
    pair.a.replica.now = since - MINUTE // 2
    pair.b("SET", "k", "v")
    pair.a.replica.receive(pair.b.replica.take_ops())
    assert pair.found["since"] == since - MINUTE // 2


def test_own_operations_that_come_back_are_no_delays():
    a, again = Client("a"), Replica("a", NOW + 1)
    a("SET", "mine", "v")
    again.now = NOW + 50
    again.receive(a.replica.take_ops())
    assert again.keys()[0] == 1 and again.delays() == {}


def test_memory_is_bounded():
    """The longest silent give way."""
    a = Replica("a", NOW)
    for i in range(300):
        other = Replica(f"r{i}", NOW)
        other.now = a.now = NOW + i
        other.system_set(b"k", {b"f": b"v"})
        a.receive(other.take_ops())
    assert a.delays().keys() == {f"r{i}" for i in range(44, 300)}
    assert {d["ops"] for d in a.delays().values()} == {1}
    assert len(a.delays()) == 256 and len(staleness.lags(a.delays())) == 256


@pytest.mark.parametrize("counts, part, ms", [
    ({}, .5, -1), ({5: 1}, .5, 5), ({5: 1}, .999, 5), ({1: 99, 7: 1}, .99, 1),
    ({1: 98, 7: 2}, .99, 7), ({1: 1, 2: 1, 3: 1}, .5, 2), ({1: 999, 9: 1}, 1, 9)])
def test_quantiles(counts, part, ms):
    assert staleness.quantile(counts, part) == ms


def test_doublings_are_those_of_prometheus():
    found = staleness.doublings([(0, 2), (3, 1), (15, 4), ((1 << 31) - 1, 1)])
    assert found[:5] == [("0", 2), ("0.001", 2), ("0.003", 3), ("0.007", 3), ("0.015", 7)]
    assert found[-2:] == [("2097.15", 7), ("+Inf", 8)] and len(found) == 23


def test_all_is_said_only_of_all():
    assert staleness.floor_of(100) == "100" and staleness.floor_of(99.9999) == "99.99"

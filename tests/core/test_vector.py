"""What each of many actors has observed: pages of it are shared, and it is still what each has."""
import random

import pytest

from crdtredis._core import Replica
from crdtredis.clocks import actor_id
from crdtredis.storage.batch import read_varint
from tests.core.test_join import join
from tests.core.test_state import Node, stream, taken


def fields(data: bytes):
    """(number, value) of a message's fields: an int, or bytes."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        else:
            n, at = (8, at) if tag & 7 == 1 else read_varint(data, at)
            value, at = data[at:at + n], at + n
        yield tag >> 3, value


def numbers(data: bytes) -> list[int]:
    out, at = [], 0
    while at < len(data):
        n, at = read_varint(data, at)
        out.append(n)
    return out


def known(node: Node) -> dict:
    """{actor: {actor: the newest op of it that its own newest one had observed}}, as the Head of
    its state tells them."""
    head = next(v for number, v in fields(stream(node.replica)[0]) if number == 1)
    actors = [(dict(fields(v))[2].decode(), dict(fields(v))[3])
              for number, v in fields(head) if number == 4]
    rows = [numbers(dict(fields(v)).get(1, b"")) for number, v in fields(head) if number == 6]
    out, row = {}, [0] * len(actors)
    for actor, told in zip(actors, rows, strict=True):
        at = 0
        for passed, change in zip(told[::2], told[1::2], strict=True):
            at += passed
            row[at] += change >> 1 ^ -(change & 1)
            at += 1
        out[actor] = {a: seq for a, seq in zip(actors, row, strict=True) if seq}
    return out


@pytest.mark.parametrize("seed", range(3))
def test_each_replica_knows_what_each_actor_had_observed(seed):
    """As a list of all ops tells it. They have hundreds of lives, hear of each other when it comes
    to it, and acknowledge."""
    rng, expected = random.Random(seed), {}
    nodes = [Node(name, seed=i) for i, name in enumerate("abc")]
    heard = {(x, y): 0 for x in nodes for y in nodes if x is not y}
    for i in range(1500):
        n = rng.choice(nodes)
        if rng.random() < 0.3:
            n.replica.new_epoch(n.replica.epoch + 1)
        clock = {k: v for k, v in n.replica.clock().items() if k != (n.replica.id, n.replica.epoch)}
        n("INCR", "n")
        expected[n.replica.id, n.replica.epoch] = clock
        if rng.random() < 0.4:
            o = rng.choice([o for o in nodes if o is not n])
            n.receive(o.log[heard[n, o]:])
            heard[n, o] = len(o.log)
            o.replica.record_clock(n.replica.actor, n.replica.clock_ids())
        if i % 100 == 0:
            n.replica.check()
    for n in nodes * 2:
        for o in nodes:
            if o is not n:
                n.receive(o.log)
    for n in nodes:
        n.replica.check()
        assert known(n) == expected
    z = taken(stream(nodes[0].replica))
    z.replica.check()
    assert known(z) == expected


def test_who_joins_takes_no_more_for_observed_than_it_is_told():
    """It knows more of one actor than who gives, and nothing of the next."""
    a, b, c = Node("a", seed=1), Node("b", seed=2), Node("c", seed=3)
    for i in range(100):
        c.replica.new_epoch(i + 2)
        c("INCR", "n")
    for n in (a, b):
        n.receive(c.log)
    a("INCR", "n")
    b.receive(a.log), b("INCR", "n")
    messages = stream(b.replica)
    c.receive(a.log), c("INCR", "n")
    a.receive(c.log), a("INCR", "n")
    z = Node("z", seed=4)
    z.receive(c.log)
    z.receive(a.log)
    mine = known(z)
    join(z.replica, messages)
    z.replica.check()
    assert known(z) == mine | {("b", 1): known(b)["b", 1]}
    assert z.replica.clock_ids()[actor_id("b", 1)] == 1


def memory() -> int:
    """Of all replicas of this process."""
    return Replica("m", 1).stats()["memory"]


def test_many_lives_cost_what_they_differ_in():
    """Not each as much as all: 4 MB that would be, for each that makes, hears, and loads them."""
    a, b, z, lives = *(Node(name, seed=i) for i, name in enumerate("abz")), 1000
    before = memory()
    for epoch in range(2, lives + 2):
        a.replica.new_epoch(epoch)
        a("SET", "k", epoch)
        b.receive(a.log)
        b.replica.record_clock(a.replica.actor, a.replica.clock_ids())
        a.log = b""
    made = memory() - before
    join(z.replica, stream(b.replica))
    joined = memory() - before - made
    assert made < 2 * 2000 * lives and joined < 2000 * lives, (made, joined)


def test_a_large_collection_costs_no_more_after_many_lives():
    a, grown = Node("a"), []
    for lives in (1, 1000):
        for epoch in range(a.replica.epoch + 1, a.replica.epoch + lives):
            a.replica.new_epoch(epoch)
            a("INCR", "n")
        before = memory()
        for i in range(100):
            a("SADD", f"{lives}:{i}", *range(100))
        grown.append(memory() - before)
    assert grown[1] < grown[0] + 100 * 445, grown         # bytes: a vector of a few actors each

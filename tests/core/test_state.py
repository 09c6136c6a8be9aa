"""The state as bytes: what is given out and taken in is the same state, whatever it is, and nothing
else is taken.

Laws over random clusters: a replica that takes in the stream of another has its clock, its digest,
and under every name the same writes, counter entries and tombstones; and goes on as the other does:
both apply the same further ops, and let go of the same tombstones. That a walk may take its time
while the replica works is the simulation's (tests/simulation/world.py).
"""
import random
from pathlib import Path

import pytest

from crdtredis._core import Replica, StateReader, StateWriter, probe_pack, probe_records
from crdtredis._engine import Executor
from crdtredis.errors import DamagedState
from tests.respclient import decode
from tests.simulation.commands import KEYS, NAMES, Clients

NOW = 1_700_000_000_000
GOLDEN = Path(__file__).parent / "golden"


class Node:
    def __init__(self, name: str, epoch: int = 1, seed: int = 1):
        self.replica = Replica(name, epoch, seed=seed)
        self.replica.now = NOW
        self.executor = Executor(self.replica)
        self.session = self.executor.session(2)
        self.log = b""

    def __call__(self, *argv):
        reply = self.executor.execute(self.session,
                [a if isinstance(a, bytes) else str(a).encode() for a in argv])
        self.log += self.replica.take_ops()
        return decode(reply) if reply else None

    def receive(self, log: bytes) -> None:
        self.replica.receive(log)
        self.log += self.replica.take_ops()


def stream(replica: Replica, most: int = 64 << 10) -> list[bytes]:
    """The messages of its state."""
    walk, out = StateWriter(replica), []
    while record := walk.next(most):
        (payload,), status, _ = probe_records(record)
        assert status == 0
        out.append(payload)
    assert walk.over
    return out


def taken(messages: list[bytes], name: str = "z", epoch: int = 9) -> Node:
    node = Node(name, epoch, seed=2)
    node.replica.recovering = True
    reader = StateReader(node.replica)
    for message in messages:
        assert not reader.over
        reader.take(message)
    assert reader.over
    node.replica.recovering = False
    node.replica.check()
    return node


def everything(replica: Replica) -> dict:
    """What stands under every name of the simulation's clients, as INSPECT tells it, hidden and
    cancelled things included."""
    out = {}
    for db in (0, 1):
        for key in KEYS:
            state = replica.inspect(db, key)
            if state is not None:
                del state["memory"]
                names = map(str.encode, [*NAMES, *map(str, range(160))])
                out[db, key] = state, {name: timeless(replica.inspect_member(db, key, name))
                        for name in names}
    return out


def timeless(member: dict) -> dict:
    """Without the times of a set's writes, which mean nothing."""
    for write in member.get("set", {}).get("writes", []):
        del write["ms"], write["counter"]
    return member


def same(a: Replica, b: Replica) -> None:
    assert a.clock() == b.clock()
    assert a.digest() == b.digest()
    assert ordered(everything(a)) == ordered(everything(b))
    assert [a.keys(db) for db in range(17)] == [b.keys(db) for db in range(17)]
    assert a.stats()["tombstones"] == b.stats()["tombstones"] and a.newest_stamp == b.newest_stamp


def ordered(state):
    """Writes of one stamp, those of a set's member, are told in no particular order."""
    if isinstance(state, dict):
        return ({k: sorted(map(ordered, v), key=repr) if k in ("writes", "counts", "deadlines")
                else ordered(v) for k, v in state.items()})
    return tuple(map(ordered, state)) if isinstance(state, tuple) else state


def cluster(seed: int) -> tuple[list[Node], random.Random]:
    rng, packs = random.Random(seed), random.Random(f"packed {seed}")
    nodes, clients, now = [Node(n, seed=seed) for n in "abc"], Clients(rng), NOW
    for _ in range(rng.randint(1, 120)):
        now += rng.choice([0, 1, 5, 100])
        node, other = rng.choice(nodes), rng.choice(nodes)
        node.replica.now = now
        for argv in clients.next(now):
            node(*argv)
        if packs.random() < 0.3:
            probe_pack(packs.choice(nodes).replica)
        if rng.random() < 0.3:
            other.replica.now = now
            other.receive(node.log)
        if rng.random() < 0.1:
            other.replica.record_clock(node.replica.actor, node.replica.clock_ids())
            other.replica.collect()
    return nodes, rng


@pytest.mark.parametrize("block", range(10))
def test_what_is_taken_in_is_what_was_given_out(block):
    for seed in range(block, 300, 10):
        nodes, rng = cluster(seed)
        for node in nodes:
            other = taken(stream(node.replica, rng.choice([1, 1, 300, 5000, 64 << 10])))
            other.replica.now = node.replica.now
            same(node.replica, other.replica)


@pytest.mark.parametrize("block", range(5))
def test_it_goes_on_as_the_other_does(block):
    for seed in range(1000 + block, 1100, 5):
        nodes, rng = cluster(seed)
        node = rng.choice(nodes)
        other = taken(stream(node.replica, rng.choice([1, 64 << 10])))
        other.replica.now = node.replica.now
        for n in nodes:
            node.receive(n.log)
            other.receive(n.log)
        same(node.replica, other.replica)
        for n in nodes:
            for r in (node.replica, other.replica):
                r.record_clock(n.replica.actor, node.replica.clock_ids())
        for r in (node.replica, other.replica):
            while not r.collect():
                pass
            r.check()
        assert node.replica.digest() == other.replica.digest()


def with_field_deadlines() -> tuple[Node, Node]:
    """Of a large hash, some asserted again by another replica, some without their fields."""
    a, b = Node("a"), Node("b", seed=2)
    a("HSET", "h", *(x for i in range(200) for x in (i, i)))
    a("HPEXPIRE", "h", 5000, "FIELDS", 150, *range(150))
    b.receive(a.log)
    b("HINCRBY", "h", 7, 1), b("HSETEX", "h", "KEEPTTL", "FIELDS", 2, 8, "x", 199, "y")
    b("HPERSIST", "h", "FIELDS", 1, 9), b("HPEXPIRE", "h", 9000, "FIELDS", 2, 10, 199)
    a("HDEL", "h", 10, 11), a("HSET", "h", 199, "z")
    b.receive(a.log)
    a.receive(b.log)
    return a, b


@pytest.mark.parametrize("most", [1, 300, 64 << 10])
def test_deadlines_of_the_fields_of_a_large_hash(most):
    a, b = with_field_deadlines()
    other = taken(stream(b.replica, most))
    other.replica.now = b.replica.now
    same(b.replica, other.replica)
    other.replica.check()
    asked = "HPEXPIRETIME", "h", "FIELDS", 200, *range(200)
    assert a(*asked) == b(*asked) == other(*asked)
    for node in (a, b, other):
        node.replica.now += 10_000
    for node in (b, other):
        assert node("HLEN", "h") == a("HLEN", "h")


def test_the_state_of_a_state_is_the_same():
    nodes, _ = cluster(7)
    for node in nodes:
        other = taken(stream(taken(stream(node.replica)).replica, 200))
        other.replica.now = node.replica.now
        same(node.replica, other.replica)


def filled() -> Node:
    """Every sort of item."""
    a, b = Node("a"), Node("b")
    for n in (a, b):
        n("SET", "s", n.replica.id), n("INCR", "n"), n("INCRBYFLOAT", "f", "0.1"), n("HSET", "h",
                "f", n.replica.id, "g", "1")
        n("HINCRBY", "h", "n", 5), n("SADD", "set", "x", n.replica.id), n("ZADD", "z", 1,
                "m"), n("ZINCRBY", "z", "0.3", "n")
        n("RPUSH", "l", "x", "y", "z" * 3000), n("LPUSH", "l", "w", "v"), n("LSET", "l", 1,
                "assigned"), n("EXPIRE", "s", 1000)
        n("SELECT", 3), n("SET", "k", "in 3", "PX", 77), n("SELECT", 0)
        n.replica.now += 7
    a.receive(b.log)
    b.receive(a.log)
    b("DEL", "n")                           # a tombstone
    a("INCR", "n")
    a.receive(b.log)
    a("LINSERT", "l", "BEFORE", "y", "between")
    a("LREM", "l", 1, "x")
    return a


def test_every_sort_of_item():
    a = filled()
    other = taken(stream(a.replica))
    other.replica.now = a.replica.now
    same(a.replica, other.replica)
    for command in [("LRANGE", "l", 0, -1), ("GET", "f"), ("GET", "n"), ("PTTL", "s"),
            ("ZRANGE", "z", 0, -1, "WITHSCORES")]:
        assert a(*command) == other(*command)


def test_lists_are_packed_as_they_were():
    for command in ("RPUSH", "LPUSH"):
        a = Node("a")
        for i in range(0, 3000, 3):
            a(command, "l", i, i + 1, i + 2)
        other = taken(stream(a.replica))
        assert other("LRANGE", "l", 0, -1) == a("LRANGE", "l", 0, -1)
        assert other.replica.inspect(0, b"l")["memory"] < 1.2 * a.replica.inspect(0, b"l")["memory"]


def commands_of(what: str, rng: random.Random) -> list[tuple]:
    return {"strings": [("SET", f"key:{i}", f"value {i}") for i in range(2000)],
            "counters": [("INCR", f"counter:{i % 500}") for i in range(2000)],
            "deadlines": [("SET", f"key:{i}", "v", "EX", 1000 + i) for i in range(1000)],
            "hash": [("HSET", f"hash:{i % 10}", f"field:{i}", i) for i in range(2000)],
            "hashes": [("HSET", f"hash:{i}", "name", "x", "age", i) for i in range(1000)],
            "set": [("SADD", "set", *(f"member:{i + j}" for j in range(10)))
                    for i in range(0, 2000, 10)],
            "sets of one": [("SADD", f"set:{i}", "m") for i in range(1000)],
            "zset": [("ZADD", "z", i / 3, f"member:{i}") for i in range(2000)],
            "list": [("RPUSH", "l", *range(i, i + 5)) for i in range(0, 2000, 5)],
            "list of single pushes": [("LPUSH", "l", i) for i in range(2000)],
            "inserts": [("RPUSH", "l", *range(100)),
                    *(("LINSERT", "l", "BEFORE", rng.randrange(100), f"x{i}") for i in range(500))],
            "floats": [("INCRBYFLOAT", f"f:{i}", "0.1") for i in range(500)]}[what]


@pytest.mark.parametrize("what", ["strings", "counters", "deadlines", "hash", "hashes", "set",
        "sets of one", "zset", "list", "list of single pushes",
                                  "inserts", "floats"])
def test_not_larger_than_the_log_that_made_it(what):
    a = Node("a")
    for command in commands_of(what, random.Random(what)):
        a.replica.now += 1
        a(*command)
    messages = stream(a.replica)
    size = sum(map(len, messages))
    assert size <= len(a.log), f"{size} bytes of state, {len(a.log)} of the log"
    same(a.replica, taken(messages).replica)


def test_many_restarts_cost_what_they_told():
    """The deps of all processes, not each with all."""
    a = Node("a")
    for epoch in range(2, 301):
        a("SET", "k", epoch)
        a.replica.new_epoch(epoch)
        a("SET", "l", epoch)
    head = stream(a.replica)[0]
    assert len(head) < 300 * 40, len(head)
    same(a.replica, taken(stream(a.replica)).replica)


def test_large_keys_come_in_pieces():
    a = Node("a")
    for i in range(0, 20_000, 100):
        a("SADD", "set", *(f"member:{j}" for j in range(i, i + 100)))
        a("RPUSH", "l", *range(i, i + 100))
    messages = stream(a.replica, 4096)
    assert len(messages) > 50 and max(map(len, messages[1:])) < 4096 + 16_000
    same(a.replica, taken(messages).replica)


@pytest.mark.parametrize("fill", [
    lambda i, v: ("HSET", "k", i, v), lambda i, v: ("SADD", "k", b"%d" % i + v),
    lambda i, v: ("ZADD", "k", i, b"%d" % i + v), lambda i, v: ("RPUSH", "k", v)])
def test_few_large_elements_come_in_pieces(fill):
    """One piece with all of them would hold the loop, and need as much memory again."""
    a = Node("a")
    for i in range(30):
        a(*fill(i, bytes(1 << 20)))
    messages = stream(a.replica)
    assert max(map(len, messages)) < 8 << 20
    assert sum(map(len, messages)) < 34 << 20
    same(a.replica, taken(messages).replica)


# ---- what is refused -----------------------------------------------------------------------------


def test_no_cut_or_flipped_byte_puts_anything_unsound_in():
    messages = stream(filled().replica)
    for i, message in enumerate(messages):
        for at in range(len(message)):
            for changed in (message[:at],
                    message[:at] + bytes([message[at] ^ 1 << at % 8]) + message[at + 1:]):
                replica = Replica("z", 9, seed=2)
                reader = StateReader(replica)
                for before in messages[:i]:
                    reader.take(before)
                state = replica.digest()
                try:
                    reader.take(changed)
                except DamagedState:
                    assert replica.digest() == state
                    with pytest.raises(DamagedState):
                        reader.take(message)                    # nothing more is taken
                replica.check()


def test_order_of_messages():
    head, piece, end = stream(filled().replica)
    for wrong in ([piece], [end], [head, head], [head, end], [head, piece, end, end],
            [head, piece, piece, end], [head, b""], [b""]):
        reader = StateReader(Replica("z", 9))
        with pytest.raises(DamagedState):
            for message in wrong:
                reader.take(message)
        assert not reader.over or len(wrong) == 4


def test_only_an_empty_replica_takes_it():
    a = filled()
    with pytest.raises(ValueError):
        StateReader(a.replica)


def test_streams_of_earlier_versions_are_taken():
    """A stream written once, and its digest then. Such files stay for ever."""
    for path in sorted(GOLDEN.glob("state-*.bin")):
        payloads, status, _ = probe_records(path.read_bytes())
        assert status == 0
        node = taken(payloads)
        assert node.replica.digest() == path.with_suffix(".digest").read_text().strip()


@pytest.mark.parametrize("n", [0, 1, 8, 9, 100, 5000])
def test_tables_that_were_made_too_large_are_as_small_as_any_at_once(n):
    """However few changes come, what chooses by chance or scans finds no sea of empty slots."""
    giver = Node("a")
    for i in range(n):
        giver("SET", f"k{i}", i)
    memory = []
    for told in ([], [1_000_000]):
        node = Node("b")
        node.replica.recovering = True
        reader = StateReader(node.replica)
        reader.expect(told)
        for message in stream(giver.replica):
            reader.take(message)
        node.replica.recovering = False
        assert node.replica.digest() == giver.replica.digest()
        node.replica.check()
        memory.append(node.replica.stats()["memory"])
        for i in range(n):
            node("SET", f"l{i}", i)
            node.replica.check() if i < 300 else None
    assert memory[1] <= memory[0] + 8 * 3 * n + 100

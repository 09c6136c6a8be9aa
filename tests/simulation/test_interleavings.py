"""Every small interleaving of client commands: what a few concurrent ops leave does not depend on
the order in which they arrive.

Two and three replicas that share a state (BEFORE) execute commands without hearing of each other;
then observers receive the ops in every order that causality allows. All must end with one digest
and read the same, and the first must show what the oracle reads off the ops. The shapes, each with
every combination of the commands of a type on every state of that type:

    three       a || b || c
    two by two  a1, a2 || b1, b2
    seen        a || b || c1, then c2 by the same replica after it has received a's
    types       a || b of any two types, then c that has received both

What an op is depends only on what its replica had seen, so each is made once and used in all
combinations: an order costs some microseconds, and CI replays a few hundred thousand. An op is one
command, or several in MULTI and EXEC.

    python -m tests.simulation.test_interleavings --large  # every shape; ten minutes
    python -m tests.simulation.test_interleavings --large --only "list, three: two by two"
    # one, as a failure names it
    python -m tests.simulation.test_interleavings --only "list, three: LPOP k || RPUSH k p || DEL k"
"""
from __future__ import annotations

import argparse
import functools
import sys
import time
from itertools import permutations, product

import pytest

from crdtredis._core import Replica, probe_members
from crdtredis._engine import Executor
from crdtredis.replication import crdtredis_pb2 as pb
from tests.simulation.commands import MEANINGLESS
from tests.simulation.oracle import TYPE_NAMES, Ops, told
from tests.simulation.views import told_groups

NONE = 255
KEYS = [b"k", b"l"]
ANY = ["DEL k", "PEXPIREAT k 5000", "RENAME k l", "COPY k l REPLACE", "FLUSHALL", "SET k s"]
COMMANDS = {
    "string": ["SET k 100", "SET k text", "SET k 1 PXAT 9000", "APPEND k 5", "INCRBY k 7",
               "DECRBY k 4", "INCRBYFLOAT k 0.5", "GETDEL k", "PERSIST k",
               "INCR k; DEL k; INCRBY k 2"],
    "hash": ["HSET k f a", "HSET k f 5 g 6", "HSETNX k h 1", "HINCRBY k f 2", "HINCRBY k g -1",
             "HDEL k f", "HDEL k f g h", "HINCRBYFLOAT k f 0.5",
             "HINCRBY k f 1; HDEL k f; HINCRBY k f 3", "PERSIST k", "HPEXPIREAT k 5000 FIELDS 1 f",
             "HPERSIST k FIELDS 2 f g", "HSETEX k KEEPTTL FIELDS 1 f 7",
             "HSETEX k PXAT 9000 FIELDS 2 f 8 h 1", "HGETEX k PXAT 500 FIELDS 1 f"],
    "set": ["SADD k x", "SADD k x y z", "SREM k x", "SREM k x y", "SPOP k", "SPOP k 2",
            "SMOVE k l x", "SUNIONSTORE l k l", "SDIFFSTORE k k l",
            "SREM k x; SADD k x"],
    "zset": ["ZADD k 5 x", "ZADD k GT CH 7 x", "ZADD k NX 2 w 3 y", "ZINCRBY k 1 x",
             "ZINCRBY k -2 y", "ZADD k XX INCR 4 x", "ZREM k x", "ZPOPMIN k",
             "ZREMRANGEBYSCORE k 1 2", "ZUNIONSTORE l 2 k l",
             "ZINCRBY k 1 x; ZREM k x; ZINCRBY k 3 x"],
    "list": ["RPUSH k p", "RPUSH k p q r", "LPUSH k p q", "LPOP k", "RPOP k", "LPOP k 2",
             "LSET k 0 n", "LSET k -1 m", "LINSERT k AFTER x i",
             "LINSERT k BEFORE x j", "LREM k 0 x", "LTRIM k 1 -1", "LMOVE k k LEFT RIGHT",
             "LMOVEM k k LEFT LEFT COUNT 2 OBO",
             "RPOPLPUSH k l", "LPOP k; LPUSH k t", "LSET k 0 u; RPUSH k v"],
    "stream": ["XADD k * f 1", "XADD k 5-1 f 2", "XADD k 4-1 f 3", "XADD k MAXLEN 1 7-1 f 4",
               "XDEL k 2-1", "XDEL k 1-1 2-1", "XTRIM k MAXLEN 0", "XTRIM k MINID 2-1",
               "XSETID k 6-0", "XSETID k 6-0 ENTRIESADDED 9 MAXDELETEDID 3-1",
               "XADD k 5-1 f 5; XDEL k 5-1", "XADD k 5-1 f 6; DEL k; XADD k 3-1 f 7",
               "XTRIM k MAXLEN 0; XADD k 5-2 f 8"],
    "groups": ["XGROUP CREATE k g 0 MKSTREAM", "XGROUP CREATE k g 1-1 MKSTREAM",
               "XGROUP CREATE k g $ MKSTREAM", "XGROUP SETID k g 0", "XGROUP SETID k g 2-1",
               "XGROUP DESTROY k g", "XREADGROUP GROUP g x STREAMS k >",
               "XREADGROUP GROUP g y COUNT 1 STREAMS k >",
               "XREADGROUP GROUP g y NOACK COUNT 2 STREAMS k >", "XREADGROUP GROUP g x STREAMS k 0",
               "XACK k g 1-1 2-1 5-1", "XCLAIM k g y 0 1-1 2-1",
               "XCLAIM k g z 0 1-1 3-1 FORCE JUSTID", "XGROUP DELCONSUMER k g x",
               "XNACK k g FAIL IDS 2 1-1 2-1", "XNACK k g SILENT IDS 2 1-1 3-1 FORCE",
               "XGROUP CREATECONSUMER k g z", "XADD k 5-1 f 2", "XDEL k 1-1", "XTRIM k MAXLEN 1",
               "XADD k 6-1 f 3; XREADGROUP GROUP g x STREAMS k >; XADD k 7-1 f 4",
               "XGROUP DESTROY k g; XGROUP CREATE k g 1-1; XREADGROUP GROUP g z STREAMS k >"],
}
# States: ops of a, b and c in turn, each of which has seen the ones before.
BEFORE = {
    "string": {"nothing": [], "number": ["SET k 10"], "counter": ["INCRBY k 10", "INCRBY k 20"],
               "deadline": ["SET k 3 PXAT 7000", "INCR k"]},
    "hash": {"nothing": [], "fields": ["HSET k f 10 g text"],
             "counters": ["HINCRBY k f 10", "HINCRBY k f 20", "HSET k g 1; PEXPIREAT k 7000"],
             "deadlines": ["HSETEX k PXAT 7000 FIELDS 2 f 3 g text", "HINCRBY k f 1"]},
    "set": {"nothing": [], "two": ["SADD k x y", "SADD l y"],
            "added twice": ["SADD k x", "SREM k x", "SADD k x y; PEXPIREAT k 7000"]},
    "zset": {"nothing": [], "two": ["ZADD k 1 x 2 y"],
             "counted": ["ZINCRBY k 1 x", "ZINCRBY k 2 x", "ZADD k 3 y; PEXPIREAT k 7000"]},
    "list": {"nothing": [], "three": ["RPUSH k x y x"],
             "of all": ["RPUSH k x y", "LPUSH k w", "RPUSH k z; LINSERT k AFTER x i"],
             "deadline": ["RPUSH k x y z; PEXPIREAT k 7000", "LPOP k; LPUSH k w", "LSET k 1 u"]},
    "stream": {"nothing": [], "two": ["XADD k 1-1 f a; XADD k 2-1 f b"],
               "of all": ["XADD k 1-1 f a", "XADD k 2-1 f b; XADD k 3-1 f c",
                          "XDEL k 3-1; PEXPIREAT k 7000"],
               "empty": ["XADD k 2-1 f a; XDEL k 2-1"]},
    "groups": {"nothing": [], "entries": ["XADD k 1-1 f a", "XADD k 2-1 f b"],
               "begun": ["XADD k 1-1 f a; XGROUP CREATE k g 0", "XADD k 2-1 f b",
                         "XADD k 3-1 f c"],
               "given": ["XADD k 1-1 f a; XGROUP CREATE k g 0; XADD k 2-1 f b",
                         "XADD k 3-1 f b; XREADGROUP GROUP g x COUNT 2 STREAMS k >",
                         "XADD k 4-1 f c"],
               "read": ["XADD k 1-1 f a; XADD k 2-1 f b; XGROUP CREATE k g 1-1",
                        "XREADGROUP GROUP g x STREAMS k >"]},
}
SHORT = {
    "string": ["SET k 100", "APPEND k 5", "INCRBY k 7", "DECRBY k 4", "DEL k", "PEXPIREAT k 5000",
               "PERSIST k", "INCR k; DEL k; INCRBY k 2"],
    "hash": ["HSET k f a", "HSET k f 5 g 6", "HINCRBY k f 2", "HDEL k f", "HDEL k f g h", "DEL k",
             "PEXPIREAT k 5000", "HINCRBY k f 1; HDEL k f; HINCRBY k f 3",
             "HPEXPIREAT k 5000 FIELDS 1 f", "HSETEX k KEEPTTL FIELDS 1 f 7",
             "HPERSIST k FIELDS 1 f"],
    "set": ["SADD k x", "SADD k x y z", "SREM k x", "SPOP k", "DEL k", "SMOVE k l x",
            "SUNIONSTORE l k l", "PEXPIREAT k 5000"],
    "zset": ["ZADD k 5 x", "ZINCRBY k 1 x", "ZINCRBY k -2 y", "ZREM k x", "ZPOPMIN k",
             "ZADD k GT CH 7 x", "DEL k", "ZINCRBY k 1 x; ZREM k x; ZINCRBY k 3 x"],
    "list": ["RPUSH k p", "LPUSH k p q", "LPOP k", "RPOP k", "LSET k 0 n", "LINSERT k AFTER x i",
             "LINSERT k BEFORE x j", "LTRIM k 1 -1", "DEL k",
             "LPOP k; LPUSH k t"],
    "groups": ["XGROUP CREATE k g 0 MKSTREAM", "XGROUP SETID k g 1-1",
               "XREADGROUP GROUP g x STREAMS k >", "XREADGROUP GROUP g y COUNT 1 STREAMS k >",
               "XACK k g 1-1 2-1 5-1", "XCLAIM k g y 0 1-1 2-1", "XNACK k g FAIL IDS 1 1-1",
               "XADD k 5-1 f 2",
               "XDEL k 2-1", "XGROUP DESTROY k g"],
    "stream": ["XADD k 5-1 f 2", "XADD k MAXLEN 1 7-1 f 4", "XDEL k 2-1", "XTRIM k MAXLEN 0",
               "XSETID k 6-0 ENTRIESADDED 9", "DEL k", "XADD k 5-1 f 6; DEL k; XADD k 3-1 f 7"],
}
CLASHING = ["SET k 1", "INCR k", "HSET k f a", "HSET k f a; PEXPIREAT k 5000", "HINCRBY k f 2",
            "HDEL k f", "SADD k x", "SREM k x", "ZADD k 5 x", "ZINCRBY k 1 x", "ZREM k x",
            "RPUSH k p", "XADD k 5-1 f 1", "XTRIM k MAXLEN 0",
            "LPOP k", "LSET k 0 n", "DEL k", "PEXPIREAT k 5000", "RENAME k l", "SET k v KEEPTTL"]
AFTER_CLASH = ["DEL k", "SET k v KEEPTTL", "HSET k f z", "XADD k 6-1 f 1", "RPUSH k z",
               "SADD k z", "ZADD k 1 z", "INCR k", "RENAME k l", "PERSIST k"]


@functools.cache
def origin(name: str, before: tuple, heard: tuple, own: tuple, at: int = 0) -> tuple[bytes, ...]:
    """What each of the ops `own` of a replica is as bytes, b"" where a command changes nothing,
    after the shared ops `before` (who, op, batch), of which it makes its own again, and after those
    it has `heard`: (i, batch) before its i-th."""
    replica = Replica(name, 1, seed=3)
    replica.receive(hello())
    replica.take_ops()
    executor = Executor(replica)
    session = executor.session(2)
    replica.now = 1000
    for who, op, batch in before:
        if who != name:
            replica.receive(batch)
            replica.take_ops()
        else:
            execute(executor, session, op)
            assert replica.take_ops() == batch
    out = []
    # a: 1001 and 1004, b: 1002 and 1003, c: 1001 and 1003: earlier, later and equal.
    times = (at, at) if at else {"a": (1001, 1004), "b": (1002, 1003), "c": (1001, 1003)}[name]
    for i, op in enumerate(own):
        for before_own, batch in heard:
            if before_own == i:
                replica.receive(batch)
        replica.take_ops()
        replica.now = times[min(i, 1)]
        execute(executor, session, op)
        out.append(replica.take_ops())
    return tuple(out)


def execute(executor, session, op: str) -> None:
    commands = [c.split(" ") for c in op.split("; ")]
    for argv in commands if len(commands) == 1 else [["MULTI"], *commands, ["EXEC"]]:
        reply = executor.execute(session, [a.encode() for a in argv])
        assert not reply.startswith(MEANINGLESS), f"{argv}: {reply}"


@functools.cache
def hello() -> bytes:
    """Makes the three known to each other."""
    return pb.Batch(actors=[pb.Actor(id=Replica(n, 1).actor, replica=n, epoch=1)
                            for n in "abc"]).SerializeToString()


@functools.cache
def shared(type: str, name: str) -> tuple[tuple, ...]:
    """The ops of a state: (who, op, batch)."""
    return made_by_three(BEFORE[type][name])


def made_by_three(ops: list[str]) -> tuple[tuple, ...]:
    made = ()
    for who, op in zip("abc", ops):
        made += ((who, op, origin(who, made, (), (op,), 1000)[0]),)
    return made


def reads(z: Replica) -> list:
    return [(probe_members(z, 0, k), told_groups(z, 0, k)) for k in KEYS]


def replay(base: bytes, orders: list, ops: list[bytes], told_too: bool) -> str | None:
    """What is wrong with the state after any of the orders (tuples of indexes into ops), or
    None."""
    wanted = None
    for order in orders:
        z = Replica("z", 1, seed=7)
        z.now = 1100
        z.receive(base)
        for i in order:
            z.receive(ops[i])
        try:
            z.check()
        except AssertionError as e:
            return f"order {order}: {e}"
        found = z.digest(), reads(z)
        if wanted is None:
            wanted = found
            if z.pending()["ops"]:
                return "ops wait for ever"
            if told_too and (fault := differs_from_oracle(z, base, [ops[i] for i in order])):
                return fault
        if found != wanted:
            digests = ", digests differ" * (found[0] != wanted[0])
            return (f"order {order} gives {found[1]}, order {orders[0]} gives {wanted[1]}{digests}")
    return None


def differs_from_oracle(z: Replica, base: bytes, ops: list[bytes]) -> str | None:
    found = Ops()
    for batch in (base, *ops):
        found.read(batch)
    for now in (1100, 6000, 8000, 10_000):
        z.now = now
        expected = told(found, now)
        for k in KEYS:
            type, shown = probe_members(z, 0, k)
            if type == pb.STREAM:
                shown = *shown, told_groups(z, 0, k)
            t = expected.get((0, k))
            t = t if t is not None and t.visible(now) else None
            if (type == NONE if t is None
                else t.shows(TYPE_NAMES.get(type), set(shown) if type == pb.SET else shown)):
                continue
            return f"at {now} {k} is {shown}, but the ops say {t}"
    return None


def orders_of(n: int, after: list[tuple]) -> list[tuple]:
    """The orders of n ops that have (i before j) for every pair of `after`."""
    return [p for p in permutations(range(n)) if all(p.index(i) < p.index(j) for i, j in after)]


class Run:
    def __init__(self, large: bool = False, only: str = ""):
        self.large, self.only = large, only
        self.orders = self.histories = 0

    def wants(self, where: str, shape: str, *ops: tuple) -> bool:
        name = " || ".join(", ".join(o) for o in ops)
        return not self.only or self.only in (where, f"{where}: {shape}", f"{where}: {name}")

    def look(self, where: str, base: bytes, ops: list, after: list, names: tuple) -> None:
        """`ops`: batches; those that are empty are left out."""
        kept = [i for i, b in enumerate(ops) if b]
        place = {i: n for n, i in enumerate(kept)}
        orders = ORDERS(len(kept),
                        tuple((place[i], place[j]) for i, j in after if i in place and j in place))
        self.histories += 1
        self.orders += len(orders)
        # The oracle takes longer than all orders: of the large number of histories it looks at
        # some.
        fault = replay(base, orders, [ops[i] for i in kept],
                       self.only != "" or self.histories % 7 == 0)
        if fault:
            name = f"{where}: {' || '.join(', '.join(o) for o in names)}"
            raise AssertionError(f'{fault}\nagain with: python -m '
                                 f'tests.simulation.test_interleavings --only "{name}"')

    # ---- shapes ----------------------------------------------------------------------------------
    def three(self, type: str, name: str) -> None:
        where, before = f"{type}, {name}", shared(type, name)
        base = hello() + b"".join(batch for _, _, batch in before)
        for ops in product(COMMANDS[type] + ANY, repeat=3):
            if self.wants(where, "three", *((o,) for o in ops)):
                made = [origin(who, before, (), (op,))[0] for who, op in zip("abc", ops)]
                self.look(where, base, made, [], tuple((o,) for o in ops))

    def two_by_two(self, type: str, name: str) -> None:
        where, before = f"{type}, {name}", shared(type, name)
        base = hello() + b"".join(batch for _, _, batch in before)
        pairs = list(product(COMMANDS[type] + ANY if self.large else SHORT[type], repeat=2))
        for one, two in product(pairs, repeat=2):
            if self.wants(where, "two by two", one, two):
                made = [*origin("a", before, (), one), *origin("b", before, (), two)]
                self.look(where, base, made, [(0, 1), (2, 3)], (one, two))

    def seen(self, type: str, name: str) -> None:
        where, before = f"{type}, {name}", shared(type, name)
        base = hello() + b"".join(batch for _, _, batch in before)
        commands = COMMANDS[type] + ANY if self.large else SHORT[type]
        for a, b, c1, c2 in product(commands, repeat=4):
            if not self.wants(where, "seen", (a,), (b,), (c1, "a's", c2)):
                continue
            of_a = origin("a", before, (), (a,))[0]
            made = [of_a, origin("b", before, (), (b,))[0],
                    *origin("c", before, ((1, of_a),), (c1, c2))]
            self.look(where, base, made, [(0, 3), (2, 3)], ((a,), (b,), (c1, "a's", c2)))

    def types(self, type: str, name: str) -> None:
        where, before = f"types, {type}, {name}", shared(type, name)
        base = hello() + b"".join(batch for _, _, batch in before)
        every = [c for of in COMMANDS.values() for c in of] + ANY
        for a, b in product(every if self.large else CLASHING, repeat=2):
            of_a, of_b = origin("a", before, (), (a,))[0], origin("b", before, (), (b,))[0]
            for c in every if self.large else AFTER_CLASH:
                if self.wants(where, "types", (a,), (b,), ("both", c)):
                    of_c = origin("c", before, ((0, of_a), (0, of_b)), (c,))[0]
                    self.look(where, base, [of_a, of_b, of_c], [(0, 2), (1, 2)],
                              ((a,), (b,), ("both", c)))


ORDERS = functools.cache(lambda n, after: orders_of(n, list(after)))
STATES = [(type, name) for type in BEFORE for name in BEFORE[type]]
# One state of each type is enough where types meet.
CLASH_STATES = [("string", "deadline"), ("hash", "counters"), ("set", "two"), ("zset", "counted"),
                ("list", "of all"), ("stream", "of all")]


@pytest.mark.parametrize("type, name", STATES)
def test_three_replicas_one_op_each(type, name):
    Run().three(type, name)


@pytest.mark.parametrize("type, name", STATES)
def test_two_replicas_two_ops_each(type, name):
    Run().two_by_two(type, name)


@pytest.mark.parametrize("type, name", STATES)
def test_an_op_that_has_seen_one_of_three(type, name):
    Run().seen(type, name)


@pytest.mark.parametrize("type, name", CLASH_STATES)
def test_two_types_and_an_op_that_has_seen_both(type, name):
    Run().types(type, name)


@pytest.mark.parametrize("low", ["5-1", "9-1"])
@pytest.mark.parametrize("high", ["9-2", "10-2", "20-1"])
def test_ids_that_begin_anew(low, high):
    """The top is set back below what a group has given out last. a adds two, b the lower one, too,
    a gives out both, and c removes b's."""
    given = "XREADGROUP GROUP g x STREAMS k >"
    before = made_by_three([f"XADD k 10-1 f a; XGROUP CREATE k g 0; {given}",
                            "XTRIM k MAXLEN 0; XSETID k 1-0"])
    base = hello() + b"".join(batch for _, _, batch in before)
    b = origin("b", before, (), (f"XADD k {low} f b",))[0]
    a = origin("a", before, ((1, b),), (f"XADD k {low} f a; XADD k {high} f a", given))
    c = origin("c", before, ((0, b),), (f"XDEL k {low}",))[0]
    ops, after = [*a, b, c], [(0, 1), (2, 1), (2, 3)]
    assert replay(base, orders_of(4, after), ops, True) is None
    z = Replica("z", 1, seed=7)
    z.now = 1100
    for batch in (base, *a, b, c):
        z.receive(batch)
    assert [told_groups(z, 0, b"k")[b"g"][1]] == [[tuple(map(int, low.split("-")))]], "a's is new"


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--large", action="store_true", help="all commands in every shape")
    p.add_argument("--only", default="",
                   help="one state, shape of a state, or history, as failures name them")
    a = p.parse_args()
    run = Run(a.large, a.only)
    start = time.monotonic()
    try:
        for shape in (run.three, run.two_by_two, run.seen):
            for state in STATES:
                shape(*state)
                origin.cache_clear()
        for state in CLASH_STATES:
            run.types(*state)
            origin.cache_clear()
    except AssertionError as e:
        print(e)
        return 1
    print(f"{run.histories} histories, {run.orders} orders, {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Joining the state of another replica: whatever the two hold, and whatever the giver does while it
is read, the receiver holds then what the ops of both leave there.

That whole clusters with joins come out as the bare ops say is the simulation's
(tests/simulation/world.py).
"""
import random

import pytest

from crdtredis._core import (BucketDigests, Replica, StateCheck, StateJoin, StateWriter, bucket_map,
                             probe_pack, probe_records, slice_batch)
from crdtredis._engine import Executor
from crdtredis.errors import DamagedState
from tests.core.test_buckets import digests
from tests.core.test_state import NOW, Node, cluster, filled, stream, with_field_deadlines
from tests.respclient import decode
from tests.simulation.commands import Clients


def payload(record: bytes) -> bytes:
    (out,), status, _ = probe_records(record)
    assert status == 0
    return out


def checked(replica: Replica, messages: list[bytes], tail: tuple | list = (),
            buckets: bytes | None = None) -> StateCheck:
    check = StateCheck(replica, buckets)
    for message in messages:
        check.take(message)
    for batch in tail:
        check.tail(batch)
    assert check.whole
    return check


def join(replica: Replica, messages: list[bytes], tail: tuple | list = (),
         buckets: bytes | None = None, most: int = 1 << 30, between=lambda: None) -> None:
    check = checked(replica, messages, tail, buckets)
    joining = StateJoin(replica, buckets)
    for message in messages:
        more = joining.take(message, most)
        while more:
            between()
            more = joining.step(most)
    while joining.step(most):
        between()
    for batch in tail:
        joining.apply(batch)
    assert joining.counts() == check.counts() and joining.start_clock() == check.start_clock()
    joining.finish()
    replica.check()


def all_of(*logs: bytes) -> Replica:
    """A replica that got the ops of all logs, in their order."""
    replica = Replica("y", 7, seed=3)
    replica.now = NOW + (1 << 30)
    for log in logs:
        replica.receive(log)
    assert not replica.pending()["ops"]
    return replica


def same(a: Replica, b: Replica) -> None:
    assert a.clock() == b.clock()
    assert a.digest() == b.digest()
    for db in range(16):
        assert a.keys(db)[0] == b.keys(db)[0]


def test_a_removal_that_knew_a_part_leaves_the_rest_of_what_was_joined():
    """Of a large set, of which each side keeps what was written in it."""
    a, b, other = Node("a"), Node("b", seed=2), Node("c", seed=3)
    a("SADD", "s", *range(200))
    for node in (b, other):
        node.receive(a.log)
    a("SADD", "s", "late")
    walk, messages = StateWriter(a.replica), []
    while record := walk.next():
        messages.append(payload(record))
    join(other.replica, messages)
    b("DEL", "s")
    for node in (a, other):
        node.receive(b.log)
        assert node("SMEMBERS", "s") == [b"late"]
    assert a.replica.digest() == other.replica.digest()


@pytest.mark.parametrize("block", range(10))
def test_two_states_come_to_what_the_ops_of_both_come_to(block):
    for seed in range(block, 400, 10):
        nodes, rng = cluster(seed)
        receiver, giver = rng.sample(nodes, 2)
        expected = all_of(receiver.log, giver.log)

        def between(r=receiver.replica):
            probe_pack(r)
            r.check()

        join(receiver.replica, stream(giver.replica, rng.choice([1, 200, 64 << 10])),
             most=rng.choice([1, 1, 7, 1 << 30]), between=between)
        same(receiver.replica, expected)
        assert giver.replica.digest() == all_of(giver.log).digest()


@pytest.mark.parametrize("block", range(10))
def test_the_giver_works_on(block):
    for seed in range(block, 400, 10):
        nodes, rng = cluster(seed)
        clients, now = Clients(rng), max(n.replica.now for n in nodes) + 1
        receiver, giver, other = nodes
        for node in nodes:
            node.replica.now = now
        digesting, begun = BucketDigests(giver.replica), len(giver.log)
        buckets = None
        tail, messages = [], []

        def work():
            before = len(giver.log)
            for argv in clients.next(now):
                giver(*argv)
            if rng.random() < 0.1:
                giver.receive(other.log)
            if rng.random() < 0.1:
                giver.replica.record_clock(other.replica.actor, other.replica.clock_ids())
                giver.replica.collect()
            if len(giver.log) > before:
                tail.append(giver.log[before:])

        while digesting.step(rng.choice([1, 5])):
            if rng.random() < 0.3:
                work()
        if rng.random() < 0.7:
            buckets = bucket_map(digesting.result(), digests(receiver.replica))
        cursor = digesting.cursor()
        while record := (walk := StateWriter(giver.replica, buckets, cursor)).next(
                rng.choice([1, 1, 100])):
            messages.append(payload(record))
            cursor = walk.cursor()
            if rng.random() < 0.5:
                work()
        assert b"".join(tail) == giver.log[begun:]
        for _ in range(rng.choice([0, 0, 3])):
            for argv in clients.next(now):
                receiver(*argv)
        expected = all_of(receiver.log, giver.log)
        join(receiver.replica, messages, tail, buckets, rng.choice([1, 1, 7, 1 << 30]))
        same(receiver.replica, expected)


# ---- large keys ----------------------------------------------------------------------------------

def large(rng: random.Random) -> tuple[Node, Node]:
    """Two nodes with large keys of every type; each has changed some of them without the other."""
    a, b = Node("a"), Node("b", seed=2)
    for key, command in [("set", "SADD"), ("list", "RPUSH"), ("stack", "LPUSH"), ("gone", "RPUSH"),
                         ("no", "SADD")]:
        for i in range(0, 300, 50):
            a(command, key, *(f"{key}:{j}" for j in range(i, i + 50)))
    a("HSET", "hash", *(x for i in range(200) for x in (i, f"value {i}")))
    a("ZADD", "zset", *(x for i in range(200) for x in (i, f"member {i}")))
    for i in range(100):
        a("HINCRBY", "counters", i, i), a("RPUSH", f"list:{i}", *range(i % 7)), a("SET", i, i)
    b.receive(a.log)
    for node in (a, b):
        node.replica.now += 10
        for _ in range(rng.choice([1, 20, 200])):
            i, key = rng.randrange(300), rng.choice(["list", "stack", "gone"])
            node(*rng.choice([
                ("SREM", "set", f"set:{i}"), ("SADD", "set", i), ("LPOP", key), ("RPOP", key),
                ("RPUSH", key, i), ("LPUSH", key, i), ("LSET", key, i % 50, node.replica.id),
                ("LREM", key, 1, f"{key}:{i}"), ("LINSERT", key, "BEFORE", f"{key}:{i}", i),
                ("LTRIM", key, i % 10, -5), ("HDEL", "hash", i), ("HSET", "hash", i, "x"),
                ("HINCRBY", "counters", i % 100, 1), ("HDEL", "counters", i % 100),
                ("ZREM", "zset", f"member {i}"), ("ZINCRBY", "zset", 1, f"member {i}"),
                ("DEL", f"list:{i % 100}"), ("DEL", i % 100), ("EXPIRE", i % 100, 1000),
                ("RPUSH", f"list:{i % 100}", i), ("SET", i % 150, node.replica.id)]))
        if rng.random() < 0.5:
            node("DEL", rng.choice(["gone", "no", "hash", "list", "counters"]))
    return a, b


@pytest.mark.parametrize("seed", range(40))
def test_large_keys_are_joined_in_steps(seed):
    rng = random.Random(seed)
    receiver, giver = rng.sample(large(rng), 2)
    expected = all_of(receiver.log, giver.log)
    slices = []
    join(receiver.replica, stream(giver.replica, rng.choice([1, 500, 64 << 10])),
         most=rng.choice([1, 10, 100]), between=lambda: slices.append(1))
    same(receiver.replica, expected)
    assert len(slices) > 10
    for key in ("list", "stack", "gone"):
        shown = Executor(expected)
        assert (receiver("LRANGE", key, 0, -1)
                == decode(shown.execute(shown.session(2), [b"LRANGE", key.encode(), b"0", b"-1"])))


def test_a_list_is_packed_as_it_was():
    for command in ("RPUSH", "LPUSH"):
        a, b = Node("a"), Node("b", seed=2)
        for i in range(0, 3000, 3):
            a(command, "l", i, i + 1, i + 2)
        join(b.replica, stream(a.replica))
        assert b("LRANGE", "l", 0, -1) == a("LRANGE", "l", 0, -1)
        assert b.replica.inspect(0, b"l")["memory"] < 1.2 * a.replica.inspect(0, b"l")["memory"]


def two_types(fields: range) -> tuple[Node, Node, Node]:
    """a knows the hash under a key, b the set, c both."""
    a, b, c = Node("a"), Node("b", seed=2), Node("c", seed=3)
    a("HSET", "k", *(x for i in fields for x in (i, i)))
    b("SADD", "k", *range(100))
    c.receive(a.log + b.log)
    return a, b, c


@pytest.mark.parametrize("most", [1, 2])
def test_a_collection_is_emptied_in_the_middle_of_its_walk(most):
    for i in range(20):                    # a few members have no buckets
        a, b, c = two_types(range(i, i + (1 if i < 5 else 20)))
        a.receive(b.log)
        a("DEL", "k")
        join(c.replica, stream(a.replica), most=most)
        same(c.replica, a.replica)


def test_a_collection_goes_in_the_middle_of_being_given():
    a, b, giver = two_types(range(100))
    receiver = Node("d", seed=4)
    receiver.receive(giver.log)
    walk = StateWriter(giver.replica)
    messages = [payload(walk.next(1)) for _ in range(20)]
    a("DEL", "k")                          # of the hash alone
    before = len(giver.log)
    giver.receive(a.log)
    assert giver("TYPE", "k") == b"set"
    while record := walk.next(1):
        messages.append(payload(record))
    join(receiver.replica, messages, [giver.log[before:]])
    same(receiver.replica, giver.replica)


def test_a_block_of_a_list_that_has_grown_is_given_again():
    for kept in range(1, 6):
        a, b = Node("a"), Node("b", seed=2)
        for i in range(6):                 # each push is a block
            for one, other in ((a, b), (b, a)):
                one("RPUSH", "l", *(f"{i} of {one.replica.id}: {j}" for j in range(20)))
                other.receive(one.log)
        before = len(a.log)
        walk = StateWriter(a.replica)
        messages = [payload(walk.next(1)) for _ in range(2 * kept + 3)]
        a("LTRIM", "l", 0, 20 * (2 * kept + 1) - 1)
        a("RPUSH", "l", "more", "and more")
        while record := walk.next(1):
            messages.append(payload(record))
        join(b.replica, messages, [a.log[before:]])
        same(b.replica, a.replica)


# ---- what else there is --------------------------------------------------------------------------

def test_the_two_replica_example():
    a, b = Node("a"), Node("b", seed=2)
    a("SET", "k", 1)
    b.receive(a.log)
    of_b = stream(b.replica)
    a("DEL", "k")
    b("SET", "j", 2)
    of_a, of_b = stream(a.replica), stream(b.replica)
    join(a.replica, of_b)
    join(b.replica, of_a)
    for node in (a, b):
        assert node("GET", "k") is None and node("GET", "j") == b"2"
        assert node.replica.clock() == {("a", 1): 2, ("b", 1): 1}
    assert a.replica.digest() == b.replica.digest()


@pytest.mark.parametrize("most", [1, 1 << 30])
def test_deadlines_of_fields(most):
    """Those that the giver has removed go, with their fields or without; what nobody had seen
    stays."""
    a, b = with_field_deadlines()
    a("HPEXPIRE", "h", 7000, "FIELDS", 1, 160)
    b("HDEL", "h", *range(50)), b("HSET", "h", 60, 1), b("HPEXPIRE", "h", 70, "FIELDS", 1, 199)
    wanted = all_of(a.log, b.log)
    of_a, of_b = stream(a.replica, 300), stream(b.replica, 300)
    join(a.replica, of_b, most=most)
    join(b.replica, of_a, most=most)
    for node in (a, b):
        same(node.replica, wanted)


def test_ops_go_on_above_the_join():
    """They name actors that only the state brought; and what others sent comes without gaps."""
    a, b, c = Node("a"), Node("b", seed=2), Node("c", seed=3)
    c("SET", "k", 1), c("INCR", "n")
    a.receive(c.log)
    a("SET", "k", 2), a("INCR", "n")
    join(b.replica, stream(a.replica))
    assert {a.replica.actor, c.replica.actor} <= {actor for actor, _, _ in b.replica.declared()}
    b("INCR", "n")
    fresh = Node("z", seed=4)
    join(fresh.replica, stream(a.replica))
    fresh.receive(b.log)                   # declares whom it names
    assert fresh.replica.digest() == b.replica.digest() and fresh("GET", "n") == b"3"
    before = len(a.log)
    a.receive(b.log)
    a("INCR", "n")
    b.receive(a.log[before:])
    assert b("GET", "n") == b"4"


def test_waiting_ops_that_the_state_held_are_forgotten_and_others_come():
    a, b, c = Node("a"), Node("b", seed=2), Node("c", seed=3)
    for i in range(10):
        a("SET", "k", i)
    c.receive(a.log)
    c("SET", "j", 1)
    messages = stream(a.replica)
    b.receive(slice_batch(a.log, {a.replica.actor: 5}))
    b.receive(slice_batch(c.log, {a.replica.actor: 99}))
    assert b.replica.pending()["ops"] == 6 and b("GET", "j") is None
    join(b.replica, messages)
    b.log += b.replica.take_ops()
    assert b.replica.pending()["ops"] == 0 and b("GET", "j") == b"1" and b("GET", "k") == b"9"


def test_what_is_barred_waits():
    a, b = Node("a"), Node("b", seed=2)
    a("SET", "k", 1)
    b.replica.declare("a", 1)
    b.replica.bar({a.replica.actor: 2})
    a("SET", "k", 2), a("SET", "k", 3)
    b.receive(a.log)
    assert b("GET", "k") is None and b.replica.pending()["ops"] == 3
    b.replica.check()
    b.replica.bar({a.replica.actor: 1})
    assert b("GET", "k") is None
    b.replica.bar()
    b.replica.check()
    assert b("GET", "k") == b"3" and b.replica.pending()["ops"] == 0


def test_watched_keys_and_deadlines():
    a, b = Node("a"), Node("b", seed=2)
    for node in (a, b):
        node("SET", "same", 1) if node is a else node.receive(a.log)
    a("SET", "other", 1), a("EXPIRE", "same", 100)
    for key, aborted in (("same", True), ("other", True), ("nothing", False)):
        c = Node("c", seed=3)
        c.receive(b.log)
        c("WATCH", key)
        join(c.replica, stream(a.replica))
        c("MULTI"), c("PING")
        assert (c("EXEC") is None) == aborted
        assert c("PTTL", "same") == 100_000
        c.replica.now += 200_000
        c.replica.tick()
        assert c("EXISTS", "same") == 0 and c.replica.keys()[1] == 1


def test_while_it_is_joined_nothing_else_changes():
    a, b = filled(), Node("c", seed=2)
    d = Node("d", seed=3)
    d("INCR", "n"), b.receive(d.log)
    b("SET", "mine", 1, "PX", 50), b("DEL", "n")
    b.replica.record_clock(d.replica.actor, b.replica.clock_ids())  # so its tombstone may go
    messages = stream(a.replica)
    checked(b.replica, messages)
    digests_under_way = BucketDigests(b.replica)
    walk = StateWriter(b.replica)
    joining = StateJoin(b.replica)
    assert b.replica.joining
    b.replica.now += 1000
    assert b.replica.stats()["tombstones"] == 1
    assert b.replica.tick() == -1 and b.replica.collect()
    assert b.replica.stats()["tombstones"] == 1
    for refused in (lambda: b.replica.receive(a.log), lambda: StateJoin(b.replica),
                    lambda: StateCheck(b.replica), lambda: StateWriter(b.replica), walk.next,
                    lambda: BucketDigests(b.replica), digests_under_way.step,
                    lambda: b.replica.new_epoch(99), joining.finish, lambda: joining.apply(b"")):
        with pytest.raises(RuntimeError):
            refused()
    reply = b.executor.execute(b.session, [b"SET", b"k", b"v"])
    assert b"TRYAGAIN" in reply and b("GET", "k") is None
    head, piece, end = messages
    assert not joining.take(head) and joining.take(piece, 1)
    with pytest.raises(RuntimeError):
        joining.take(piece)
    while joining.step(1):
        b.replica.check()
    with pytest.raises(RuntimeError):
        joining.finish()
    joining.take(end)
    while joining.step():
        pass
    joining.finish()
    assert not b.replica.joining and b("SET", "k", "v") == b"OK"
    b.replica.check()


# ---- what is refused -----------------------------------------------------------------------------

def refused(replica, messages, tail=(), buckets=None) -> str:
    before = replica.digest(), replica.clock(), replica.newest_stamp
    with pytest.raises(DamagedState) as e:
        checked(replica, messages, tail, buckets)
    assert (replica.digest(), replica.clock(), replica.newest_stamp) == before
    replica.check()
    return str(e.value)


def test_a_key_that_was_not_asked_for():
    a = Node("a")
    a("SET", "k", 1)
    assert "asked" in refused(Node("b").replica, stream(a.replica), buckets=bytes(512))


def test_stamps_too_far_ahead():
    a, b = Node("a"), Node("b", seed=2)
    a("SET", "k", 1)
    before = stream(a.replica), len(a.log)
    a.replica.now += 10_000_000
    a("SET", "k", 2)
    assert "ahead" in refused(b.replica, stream(a.replica))
    assert "ahead" in refused(b.replica, before[0], [a.log[before[1]:]])
    b.replica.accepted = a.replica.now
    checked(b.replica, stream(a.replica))


def test_ops_of_this_process_that_it_never_made():
    a, b = Node("a"), Node("a", seed=2)
    a("SET", "k", 1)
    assert "never made" in refused(b.replica, stream(a.replica))
    c = Node("c")
    messages = stream(c.replica)
    assert "never made" in refused(b.replica, messages, [a.log])


def test_a_tail_that_is_not_one():
    a, b, c = Node("a"), Node("b", seed=2), Node("c", seed=3)
    a("SET", "k", 1)
    messages, begun = stream(a.replica), len(a.log)
    a("SET", "k", 2)
    middle = len(a.log)
    a("SET", "k", 3)
    c.receive(a.log)
    c("SET", "j", 1)
    gap, behind = a.log[middle:], slice_batch(c.log, {a.replica.actor: 99})
    for tail in ([gap], [behind], [b"x"], [a.log[begun:-1]], [a.log[begun:middle], behind]):
        refused(b.replica, messages, tail)
    checked(b.replica, messages, [a.log[begun:]])
    checked(b.replica, messages, [a.log, behind])


def test_a_walk_whose_last_ops_are_missing_is_not_whole():
    a, b = Node("a"), Node("b", seed=2)
    a("SET", "k", 1)
    walk = StateWriter(a.replica)
    messages, begun = [payload(walk.next())], len(a.log)
    a("SET", "j", 2)
    while record := walk.next():
        messages.append(payload(record))
    check = StateCheck(b.replica)
    for message in messages:
        check.take(message)
    assert check.over and not check.whole
    check.tail(a.log[begun:])
    assert check.whole and check.clock() == a.replica.clock_ids()


def test_no_cut_or_flipped_byte_joins_anything_unsound():
    """What a look at all of it lets pass is joined."""
    messages = stream(filled().replica)
    for i, message in enumerate(messages):
        for at in range(0, len(message), 3):
            changed = message[:at] + bytes([message[at] ^ 1 << at % 8]) + message[at + 1:]
            b = Node("c", seed=2)
            b("SET", "s", "mine"), b("RPUSH", "l", "mine"), b("INCR", "n")
            altered = [*messages[:i], changed, *messages[i + 1:]]
            try:
                checked(b.replica, altered)
            except (DamagedState, AssertionError):
                continue
            join(b.replica, altered)


# ---- states that were falsified ------------------------------------------------------------------

@pytest.mark.parametrize("before, after", [
    (b"string value", b"other string"), (b"field value", b"other field"), (b"member", b"nember"),
    (b"element 2", b"element 9"), (b"assigned", b"forgotte"), (b"a field", b"b field"),
    (b"\x00\x00\x00\x00\x00\x00\x45\x40", b"\x00\x00\x00\x00\x00\x00\x46\x40")])
@pytest.mark.parametrize("most", [1, 1 << 30])
def test_the_state_of_who_had_all_that_is_here_takes_the_place_of_what_was_falsified(
        before, after, most):
    a, b = Node("a"), Node("b", seed=2)
    a("SET", "string", "string value", "EX", 1000), a("HSET", "hash", "a field", "field value")
    a("SADD", "set", "member", "another"), a("ZADD", "zset", 42, "scored"), a("INCR", "counter")
    a("RPUSH", "list", *(f"element {i}" for i in range(6))), a("LSET", "list", 3, "assigned")
    assert a.log.count(before) == 1
    b.receive(a.log.replace(before, after))
    b.replica.check()
    assert b.replica.digest() != a.replica.digest() and b.replica.clock() == a.replica.clock()
    join(b.replica, stream(a.replica), most=most)
    same(b.replica, a.replica)


def test_a_falsified_counter_and_deadline_give_way():
    for command in (("INCRBY", "k", 5), ("INCRBYFLOAT", "k", "0.5"), ("HINCRBY", "k", "f", 5),
                    ("ZINCRBY", "k", 5, "m"), ("SET", "k", "v", "PXAT", NOW + 5000)):
        a, b, wrong = Node("a"), Node("b", seed=2), Node("a")
        a(*command)
        wrong(*(x if x not in (5, "0.5", NOW + 5000) else 7 if x != NOW + 5000 else NOW + 7000
                for x in command))
        b.receive(wrong.log)
        assert b.replica.digest() != a.replica.digest() and b.replica.clock() == a.replica.clock()
        join(b.replica, stream(a.replica))
        same(b.replica, a.replica)


def test_where_the_giver_had_not_all_nothing_gives_way():
    a, b = Node("a"), Node("b", seed=2)
    a("SET", "k", "one value")
    b.receive(a.log.replace(b"one", b"two"))
    b("SET", "j", 1)
    join(b.replica, stream(a.replica))
    assert b("GET", "k") == b"two value" and b("GET", "j") == b"1"

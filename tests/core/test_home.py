"""Keys that stay at home: which they are, what others get of the ops on them, and what the log and
a checkpoint bring back."""
import pytest

from crdtredis._core import (BucketDigests, Replica, StateCheck, StateReader, StateWriter,
                             batch_ranges, probe_records, probe_take, shared_batch, slice_batch,
                             split_batch)
from crdtredis.errors import DamagedBatch, DamagedState
from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.test_state import NOW, Node, stream

FIRST = 17                                  # of their databases
ACTOR = 0x656d6f68                          # of their ops


def node(*patterns: bytes, name: str = "a", epoch: int = 1) -> Node:
    n = Node(name, epoch)
    n.replica.local_keys = patterns or [b"job:*"]
    return n


def recovered(log: bytes, checkpoint=(), *, name: str = "a", epoch: int = 2) -> Node:
    n = Node(name, epoch, seed=5)
    n.replica.recovering = True
    reader = StateReader(n.replica)
    for message in checkpoint:
        reader.take(message)
    n.replica.receive(log)
    n.replica.recovering = False
    return n


def checkpoint(replica: Replica, most: int = 1) -> list[bytes]:
    walk, out = StateWriter(replica, home=True), []
    while record := walk.next(most):
        out += probe_records(record)[0]
    return out


def fill(n: Node, prefix: str) -> None:
    """A key of every type, with counters, deadlines and removed members."""
    n("SET", prefix + "string", "secret")
    n("INCRBY", prefix + "counter", 5)
    n("INCRBYFLOAT", prefix + "counter", "0.25")
    n("HSET", prefix + "hash", "secret", 1, "other", "x")
    n("HINCRBY", prefix + "hash", "secret", 4)
    n("HDEL", prefix + "hash", "secret")
    n("HINCRBY", prefix + "hash", "secret", 2)
    n("SADD", prefix + "set", "secret", "b")
    n("ZADD", prefix + "zset", 1, "secret", 2, "b")
    n("ZINCRBY", prefix + "zset", 3, "secret")
    n("RPUSH", prefix + "list", "secret", "b", "c")
    n("LINSERT", prefix + "list", "BEFORE", "b", "between")
    n("LREM", prefix + "list", 1, "c")
    n("EXPIRE", prefix + "set", 1000)
    n("SET", prefix + "gone", 1)
    n("INCR", prefix + "gone")
    n("DEL", prefix + "gone")


def seen(n: Node, prefix: str) -> list:
    return [n("GET", prefix + "string"), n("GET", prefix + "counter"),
            sorted(n("HGETALL", prefix + "hash")), sorted(n("SMEMBERS", prefix + "set")),
            n("ZRANGE", prefix + "zset", 0, -1, "WITHSCORES"),
            n("LRANGE", prefix + "list", 0, -1), n("PEXPIRETIME", prefix + "set"),
            n("EXISTS", prefix + "gone")]


# ---- what others get -----------------------------------------------------------------------------

def test_ops_on_keys_that_stay_at_home_have_a_sequence_of_their_own():
    n = node()
    n("SET", "k", 1)
    n("RPUSH", "job:q", "x")
    n("SET", "k", 2)
    assert batch_ranges(n.log) == [(n.replica.actor, 1, 1), (ACTOR, 1, 1), (n.replica.actor, 2, 2)]
    assert batch_ranges(shared_batch(n.log)) == [(n.replica.actor, 1, 1), (n.replica.actor, 2, 2)]
    assert n.replica.clock() == {("a", 1): 2}
    assert n.replica.clock_ids(home=True) == {n.replica.actor: 2, ACTOR: 1}
    assert ACTOR not in {a[0] for a in n.replica.actors() + n.replica.declared()}


def test_an_op_on_both_kinds_is_one_piece_of_the_log_and_others_get_the_shared_half():
    n, b = node(), Node("b")
    for argv in [("MULTI",), ("RPUSH", "job:q", "secret"), ("INCR", "jobs"),
                 ("SET", "job:last", "secret"), ("EXEC",)]:
        n(*argv)
    assert batch_ranges(n.log) == [(n.replica.actor, 1, 1)]
    shared = shared_batch(n.log)
    assert b"secret" in n.log and b"secret" not in shared and b"job:" not in shared
    run, = pb.Batch.FromString(shared).runs
    assert [[(e.db, e.key) for e in op.effects] for op in run.ops] == [[(0, b"jobs")]]
    b.receive(shared)
    assert (b("GET", "jobs"), b("EXISTS", "job:q", "job:last")) == (b"1", 0)
    assert b.replica.digest() == n.replica.digest()
    n.replica.check()


def test_nothing_of_them_reaches_others_whatever_the_command():
    n, b = node(b"job:*", b"*:lock"), Node("b")
    fill(n, "job:")
    fill(n, "shared:")
    n("RENAME", "job:string", "job:renamed")
    n("COPY", "job:hash", "job:copy")
    n("SUNIONSTORE", "job:union", "job:set", "shared:set")
    n("SORT", "job:set", "ALPHA", "STORE", "job:sorted")
    n("EVAL", "redis.call('SET', KEYS[1], 'secret')", 1, "a:lock")
    n("MOVE", "job:counter", 1)
    n("LMOVE", "job:list", "job:other", "LEFT", "RIGHT")
    shared = shared_batch(n.log)
    assert b"job:" not in shared and b"lock" not in shared and b"between" in shared
    b.receive(shared)
    assert b.replica.digest() == n.replica.digest()
    assert all(b"job:" not in m and b"lock" not in m for m in stream(n.replica))
    other = Node("c", 3)
    reader = StateReader(other.replica)
    for message in stream(n.replica):
        reader.take(message)
    assert other.replica.digest() == n.replica.digest()
    assert n("EXISTS", "job:renamed", "job:copy", "job:union", "job:sorted", "a:lock",
             "job:other") == 6
    for r in (n, b):
        r.replica.check()


def test_a_batch_without_them_is_handed_on_as_it_is():
    n = node()
    fill(n, "shared:")
    assert shared_batch(n.log) is n.log
    assert shared_batch(b"") == b""
    only = node()
    only("SET", "job:1", 1)
    assert shared_batch(only.log) == b""


def test_half_an_op_is_never_in_a_record_of_its_own():
    n = node()
    for i in range(30):
        for argv in [("MULTI",), ("SET", "job:1", "secret" * i), ("SET", "k", "x" * 50),
                     ("EXEC",), ("SET", "job:2", i)]:
            n.executor.execute(n.session, [str(a).encode() for a in argv])
    records = probe_take(n.replica, 100)
    payloads = [p for r in records for p in probe_records(r)[0]]
    assert len(payloads) > 30
    assert sum(p.count(b"job:1") for p in payloads) == 30
    assert all((b"job:1" in p) == (b"xxxxx" in p) for p in payloads)
    again = recovered(b"".join(payloads))
    again.replica.local_keys = [b"job:*"]
    assert (again("GET", "job:2"), again("GET", "job:1")) == (b"29", b"secret" * 29)


def test_a_log_is_cut_between_ops_and_not_within():
    n = node()
    for i in range(9):
        n("MULTI"), n("SET", "job:1", i), n("SET", "k", i), n("EXEC")
    assert slice_batch(n.log, {}) == n.log
    parts = split_batch(n.log, 150)
    assert len(parts) > 2 and sum(p.count(b"job:1") for p in parts) == 9
    *_, (actor, _, last) = batch_ranges(n.log)
    assert batch_ranges(slice_batch(n.log, {actor: 4})) == [
        (actor, seq, seq) for seq in range(5, last + 1)]
    assert [r for p in parts for r in batch_ranges(p)] == batch_ranges(n.log)
    for half in (b"", b"\x80"):
        for cut in (batch_ranges, lambda b: slice_batch(b, {}), lambda b: split_batch(b, 10)):
            with pytest.raises(DamagedBatch):
                cut(damaged_half(half))


def damaged_half(half: bytes) -> bytes:
    """A run of one op, behind whose shared half no whole one for home stands."""
    run = b"\x09" + bytes(8) + b"\x12\x02\x08\x01\x1a" + half
    return b"\x12" + bytes([len(run)]) + run


@pytest.mark.parametrize("sizes", [(3 << 20, 10), (10, 3 << 20), (3 << 20, 2 << 20)])
def test_large_halves(sizes):
    n, b = node(), Node("b")
    for argv in [("MULTI",), ("SET", "k", "x" * sizes[0]), ("SET", "job:1", "y" * sizes[1]),
                 ("EXEC",), ("SET", "job:2", "y" * sizes[1]), ("SET", "l", 1)]:
        n(*argv)
    shared = shared_batch(n.log)
    assert b"yy" not in shared
    b.receive(shared)
    assert (b.replica.digest(), b("STRLEN", "k")) == (n.replica.digest(), sizes[0])
    again = recovered(n.log)
    again.replica.local_keys = [b"job:*"]
    assert (again("STRLEN", "job:1"), again("STRLEN", "job:2"), again("GET", "l")) == (
        sizes[1], sizes[1], b"1")


# ---- what comes back -----------------------------------------------------------------------------

def test_the_log_brings_them_back_and_they_go_on():
    n = node()
    fill(n, "job:")
    fill(n, "shared:")
    again = recovered(n.log)
    again.replica.local_keys = [b"job:*"]
    assert (seen(again, "job:"), seen(again, "shared:")) == (seen(n, "job:"), seen(n, "shared:"))
    assert again.replica.digest() == n.replica.digest()
    again.replica.check()
    for r in (n, again):
        r("INCRBY", "job:counter", 3)
        r("RPUSH", "job:list", "more")
        r("HINCRBY", "job:hash", "secret", 1)
    assert seen(again, "job:") == seen(n, "job:")
    once_more = recovered(n.log, epoch=3)
    once_more.replica.local_keys = [b"job:*"]
    assert seen(once_more, "job:") == seen(n, "job:")


def test_without_patterns_they_are_still_there():
    n = node()
    fill(n, "job:")
    again = recovered(n.log)
    assert seen(again, "job:") == seen(n, "job:")
    again("SADD", "job:set", "later")
    assert shared_batch(again.log) == b""
    again("DEL", "job:set")
    again("SADD", "job:set", "later")
    assert b"later" in shared_batch(again.log)


def test_a_checkpoint_holds_them_as_of_any_moment_of_its_walk():
    n = node()
    fill(n, "job:")
    fill(n, "shared:")
    walk, out, before = StateWriter(n.replica, home=True), [], len(n.log)
    i = 0
    while record := walk.next(1):
        out += probe_records(record)[0]
        n("INCR", "job:counter2")
        n("RPUSH", "job:list", i)
        n("LPOP", "job:list")
        if i % 3 == 0:
            n("DEL", "job:counter2")
        i += 1
    again = recovered(n.log[before:], out)
    again.replica.local_keys = [b"job:*"]
    again.replica.check()
    assert seen(again, "job:") == seen(n, "job:")
    assert again("GET", "job:counter2") == n("GET", "job:counter2")
    assert again.replica.clock_ids(home=True) == n.replica.clock_ids(home=True)
    again("INCR", "job:counter2")
    again.replica.check()


def test_a_deadline_is_due_at_once_whichever_process_set_it():
    n = node()
    n("SET", "job:1", 1, "PX", 10)
    again = recovered(n.log)
    again.replica.now = NOW + 20
    assert again("EXISTS", "job:1") == 0
    again.replica.tick()
    assert again.replica.keys() == (0, 0)
    assert shared_batch(again.replica.take_ops()) == b""


def test_tombstones_of_earlier_processes_go():
    n = node()
    n("INCR", "job:1")
    again = recovered(n.log)
    again.replica.local_keys = [b"job:*"]
    again("INCR", "job:1")
    again("DEL", "job:1")
    again.replica.collect()
    assert (again.replica.stats()["tombstones"], again.replica.keys()) == (0, (0, 0))


# ---- which they are ------------------------------------------------------------------------------

def shared_keys(n: Node) -> set:
    return {e.key for run in pb.Batch.FromString(shared_batch(n.log)).runs for op in run.ops
            for e in op.effects}


def test_patterns_change_for_keys_that_are_not_there_yet():
    n = node()
    n("SET", "job:1", 1)
    n("SET", "lock:1", 1)
    n.replica.local_keys = [b"lock:*"]
    n("SET", "job:1", 2)
    n("SET", "lock:1", 2)
    assert shared_keys(n) == {b"lock:1"}
    n("DEL", "job:1", "lock:1")
    n.log = b""
    n("SET", "job:1", 2)
    n("SET", "lock:1", 2)
    assert shared_keys(n) == {b"job:1"}


def test_what_expired_is_not_there():
    n = node()
    n("SET", "job:1", 1, "PX", 10)
    n.replica.local_keys = []
    n.replica.now += 20
    n("SET", "job:1", 2)
    assert shared_keys(n) == {b"job:1"}
    n.replica.tick()
    assert n("GET", "job:1") == b"2"
    n.replica.check()


@pytest.mark.parametrize("pattern, key, matches", [
    (b"job:*", b"job:", True), (b"job:*", b"jobs", False), (b"*", b"", True), (b"", b"", True),
    (b"", b"x", False), (b"a[bc]?", b"abx", True), (b"a[bc]?", b"adx", False),
    (b"job:*", b"job:" + b"x" * 5000, True), (b"*x", b"x" * 4096, True),
    (b"*x", b"x" * 4097, False), (b"j?b:*", b"job:" + b"x" * 5000, False),
    (b"*", b"x" * 5000, True), (b"x", b"x" * 5000, False), (b"", b"x" * 5000, False)])
def test_which_keys_match(pattern, key, matches):
    n = node(b"other", pattern)
    n("SET", key, 1)
    assert (key not in shared_keys(n)) == matches


def test_patterns_have_bounds():
    r = node().replica
    for bad in ([b"x"] * 65, [b"x" * 257]):
        with pytest.raises(ValueError):
            r.local_keys = bad
        assert r.local_keys == [b"job:*"]
    r.local_keys = [b"x" * 256] * 64
    assert r.local_keys == [b"x" * 256] * 64


# ---- beside a shared key of the same name --------------------------------------------------------

def both() -> tuple[Node, Node]:
    """b has other patterns: a's key at home hides b's."""
    a, b = node(), Node("b")
    a("RPUSH", "job:q", "mine")
    b("RPUSH", "job:q", "theirs")
    a.receive(b.log)
    return a, b


def test_it_hides_a_shared_one_of_its_name():
    a, b = both()
    assert (a("LRANGE", "job:q", 0, -1), b("LRANGE", "job:q", 0, -1)) == ([b"mine"], [b"theirs"])
    assert a("KEYS", "*") == [b"job:q"]
    assert a("SCAN", 0, "TYPE", "list")[1]
    a("RPUSH", "job:q", "more")
    assert a("LLEN", "job:q") == 2
    assert a.replica.digest() == b.replica.digest()
    assert a.replica.inspect(0, b"job:q")["hides"]
    assert a("DEL", "job:q") == 1
    assert a("LRANGE", "job:q", 0, -1) == [b"theirs"]
    assert "local" not in a.replica.inspect(0, b"job:q")
    a("RPUSH", "job:q", "for all")
    assert b"for all" in shared_batch(a.log)
    a.replica.check()


def executed(n: Node) -> bool:
    return n("MULTI") == b"OK" and n("PING") == b"QUEUED" and n("EXEC") is not None


@pytest.mark.parametrize("argv", [("RPUSH", "job:q", "x"), ("DEL", "job:q"), ("FLUSHALL",)])
def test_what_peers_do_to_a_hidden_key_aborts_no_transaction(argv):
    a, b = both()
    a("WATCH", "job:q", "k")
    b.log = b""
    b(*argv)
    a.receive(b.log)
    assert executed(a)
    a("WATCH", "job:q")
    a("RPUSH", "job:q", "x")
    assert not executed(a)
    a("WATCH", "job:q")
    a("FLUSHALL")
    assert not executed(a)
    a("WATCH", "job:q")
    b.log = b""
    b("RPUSH", "job:q", "shown now")
    a.receive(b.log)
    assert not executed(a)


@pytest.mark.parametrize("reaped", [False, True])
def test_a_key_at_home_that_expires_is_a_change_though_it_uncovers_another(reaped):
    a, _ = both()
    a("PEXPIRE", "job:q", 10)
    a("WATCH", "job:q")
    assert executed(a)
    a("WATCH", "job:q")
    a.replica.now += 20
    if reaped:
        a.replica.tick()
    assert a("LRANGE", "job:q", 0, -1) == [b"theirs"] and not executed(a)


@pytest.mark.parametrize("reaped", [False, True])
def test_a_key_at_home_that_had_expired_before_watch_is_no_change_when_it_goes(reaped):
    a, b = both()
    a("PEXPIRE", "job:q", 10)
    a.replica.now += 20
    a("WATCH", "job:q")
    if reaped:
        a.replica.now += 100_000
        a.replica.tick()
    assert executed(a)
    a("WATCH", "job:q")
    a("RPUSH", "job:q", "x")
    if reaped:
        a.replica.tick()
    assert not executed(a)


@pytest.mark.parametrize("argv", [
    ("RENAME", "src", "job:q"), ("COPY", "src", "job:q", "REPLACE"),
    ("SUNIONSTORE", "job:q", "src"), ("SORT", "src", "ALPHA", "STORE", "job:q"),
    ("ZUNIONSTORE", "job:q", 1, "src"), ("SET", "job:q", "secret"),
    ("BITOP", "NOT", "job:q", "nothing"), ("GETSET", "job:2", "secret")])
def test_what_takes_the_place_of_a_key_at_home_stays_there(argv):
    """Also where its removal uncovers one that all replicas share."""
    a, b = both()
    if argv[0] == "GETSET":
        a("SET", "job:2", 1)
    a("SADD", "src", "secret")
    before, a.log = a.log, b""
    a(*argv)
    assert b"secret" not in shared_batch(a.log)
    a.replica.check()
    b.receive(shared_batch(before + a.log))
    assert b("LRANGE", "job:q", 0, -1) == [b"theirs"]


@pytest.mark.parametrize("argv", [
    ("RESTORE", "job:x", 0), ("RENAME", "src", "job:x"), ("COPY", "src", "job:x", "REPLACE"),
    ("SUNIONSTORE", "job:x", "src"), ("SORT", "src", "ALPHA", "STORE", "job:x")])
def test_an_expired_remainder_at_home_does_not_hide_what_is_written_there(argv):
    n, b = node(), Node("b")
    b("SADD", "job:x", "theirs")
    n("SADD", "src", "new")
    n("SADD", "job:x", "old")
    n("PEXPIRE", "job:x", 10)
    n.replica.now += 20
    n.receive(b.log)
    if argv[0] == "RESTORE":
        argv += (n("DUMP", "src"), "REPLACE")
    n(*argv)
    found = n("LRANGE", "job:x", 0, -1) if argv[0] == "SORT" else n("SMEMBERS", "job:x")
    assert (found, n("PTTL", "job:x")) == ([b"new"], -1)
    n.replica.check()
    again = recovered(n.log)
    again.replica.local_keys = n.replica.local_keys
    again.replica.now = n.replica.now
    assert again("DBSIZE") == n("DBSIZE")
    assert again("PTTL", "job:x") == -1


def test_values_that_leave_home_by_name_are_shared():
    n, b = node(), Node("b")
    fill(n, "job:")
    for type in ("string", "counter", "hash", "set", "zset", "list"):
        n("RENAME", "job:" + type, "public:" + type)
    b.receive(shared_batch(n.log))
    assert seen(b, "public:") == seen(n, "public:")
    assert b.replica.digest() == n.replica.digest()
    for r in (n, b):
        r.replica.check()


def test_flush_and_swap():
    a, b = both()
    a("SET", "k", 1)
    a("SWAPDB", 0, 1)
    assert (a("DBSIZE"), a("SELECT", 1), sorted(a("KEYS", "*"))) == (0, b"OK", [b"job:q", b"k"])
    assert a("LRANGE", "job:q", 0, -1) == [b"mine"]
    a("FLUSHALL")
    assert (a("DBSIZE"), a.replica.keys(FIRST + 1)) == (0, (0, 0))
    b.receive(shared_batch(a.log))
    assert b.replica.digest() == a.replica.digest()


def test_scan_comes_to_all_of_them():
    n = node()
    names = {f"{p}{i}".encode() for p in ("job:", "k") for i in range(200)}
    for name in names:
        n("SET", name, 1)
    found, cursor = [], 0
    while True:
        cursor, some = n("SCAN", cursor, "COUNT", 7)
        found += some
        if cursor == b"0":
            break
    assert sorted(found) == sorted(names)
    assert n("DBSIZE") == 400
    assert {n("RANDOMKEY")[:3] == b"job" for _ in range(200)} == {True, False}
    n.replica.local_keys = []
    for name in names:
        if name.startswith(b"k"):
            n("DEL", name)
    assert n("RANDOMKEY").startswith(b"job:")


# ---- what others must not send -------------------------------------------------------------------

def test_a_peer_that_names_what_stays_at_home_is_refused():
    n = node(name="x")
    n("MULTI")
    n("SET", "job:1", 1)
    n("SET", "k", 1)
    n("EXEC")
    n("SET", "job:2", 1)
    b = node()
    with pytest.raises(DamagedBatch):
        b.replica.receive(n.log)
    actors = [pb.Actor(id=5, replica="x", epoch=4)]

    def op(**effect):
        return [pb.Op(seq=1, stamp=NOW << 16, effects=[pb.Effect(**effect)])]

    for batch in [
            pb.Batch(actors=actors, runs=[pb.Run(actor=5, ops=op(db=FIRST, key=b"job:1"))]),
            pb.Batch(runs=[pb.Run(actor=ACTOR, ops=op(key=b"job:1"))]),
            pb.Batch(actors=[pb.Actor(id=ACTOR, replica="x", epoch=4)])]:
        with pytest.raises(Exception, match="batch|actor"):
            b.replica.receive(batch.SerializeToString())
    # a dep on what only this replica has
    b("SET", "job:3", 1)
    with pytest.raises(Exception, match="batch|actor"):
        b.replica.receive(pb.Batch(actors=actors, runs=[pb.Run(actor=5, ops=[pb.Op(
            seq=1, stamp=NOW << 16, deps=[pb.Dep(actor=ACTOR, seq=1)],
            effects=[pb.Effect(key=b"z")])])]).SerializeToString())
    assert sorted(b("KEYS", "*")) == [b"job:3", b"k"]       # what came before the damage
    b.replica.check()


def test_a_state_that_names_what_stays_at_home_is_refused():
    n = node(name="x")
    n("SET", "job:1", 1)
    check = StateCheck(Replica("b", 7))
    with pytest.raises(DamagedState):
        for message in checkpoint(n.replica):
            check.take(message)


def test_digests_of_buckets_leave_them_out():
    n, b = node(), Node("b")
    n("SET", "k", 1)
    fill(n, "job:")
    b.receive(shared_batch(n.log))
    results = []
    for r in (n.replica, b.replica):
        digests = BucketDigests(r)
        while digests.step():
            pass
        results.append(digests.result())
    assert results[0] == results[1]

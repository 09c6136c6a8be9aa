"""No command makes an op larger than one may be: it is refused before it has changed anything, or
it is a removal and is cut."""
import random

import pytest

from crdtredis.replication import crdtredis_pb2 as pb
from tests.commands.run import Client, exchange
from tests.respclient import decode
from tests.simulation.commands import Clients

TOO_LARGE = "ERR operation too large"
LIMIT = 100_000


@pytest.fixture
def c():
    client = Client()
    client.replica.op_limit = LIMIT
    return client


def op_sizes(batch: bytes) -> list[int]:
    """Bytes of the effects of each op."""
    return [pb.Op(effects=op.effects).ByteSize() for run in pb.Batch.FromString(batch or b"").runs
            for op in run.ops]


def content(c) -> str:
    return c.replica.digest()


def wide(client, key, n, size=1000):
    """A list of n elements of `size` bytes."""
    for i in range(0, n, 50):
        client("RPUSH", key, *(str(j).ljust(size) for j in range(i, min(i + 50, n))))


def refused(c, *argv) -> None:
    before = content(c), c.replica.clock(), c.replica.keys()
    assert c.error(*argv) == TOO_LARGE, argv
    assert (content(c), c.replica.clock(), c.replica.keys()) == before, (
        f"{argv[0]} has changed something")
    c.replica.check()


LONG = "x" * 40_000
MEMBERS = [str(i).ljust(40) for i in range(2500)]


@pytest.mark.parametrize("argv", [
    ("SET", "k", "x" * LIMIT), ("SETEX", "k", 100, "x" * LIMIT),
    ("SET", "x" * 60_000, "x" * 60_000), ("GETSET", "k", "x" * LIMIT),
    ("MSET", "a", LONG, "b", LONG, "c", LONG), ("MSETNX", "a", LONG, "b", LONG, "c", LONG),
    ("APPEND", "long", "x" * LIMIT), ("APPEND", "k", "x" * LIMIT),
    ("SETRANGE", "k", 0, "x" * LIMIT), ("SETBIT", "x" * LIMIT, 0, 1),
    ("BITFIELD", "k", *["SET", "u8", 0, 1] * 3000),
    ("HSET", "h", "a", LONG, "b", LONG, "c", LONG), ("HMSET", "h", "a", LONG, "b", LONG, "c", LONG),
    ("HSETNX", "h", "a", "x" * LIMIT),
    ("SADD", "s", *MEMBERS, *(m + "y" for m in MEMBERS)),
    ("ZADD", "z", *(x for m in MEMBERS for x in (1, m))),
    ("RPUSH", "l", LONG, LONG, LONG), ("LPUSH", "l", LONG, LONG, LONG),
    ("RPUSHX", "list", LONG, LONG, LONG), ("LSET", "list", 0, "x" * LIMIT),
    ("LINSERT", "list", "BEFORE", "0".ljust(1000), "x" * LIMIT), ("PEXPIRE", "x" * LIMIT, 100),
    ("INCR", "x" * LIMIT)])
def test_what_the_arguments_alone_make_too_large(c, argv):
    c("SET", "long", LONG)
    wide(c, "list", 10)
    if argv[0] == "PEXPIRE":
        c.replica.op_limit = 1 << 20
        c("SET", argv[1], 1)
        c.replica.op_limit = LIMIT
    refused(c, *argv)


def large_keys(c):
    """hash, set, zset, list and string, each too large for one op."""
    c.replica.op_limit = 1 << 30
    c("HSET", "hash", *(x for m in MEMBERS for x in (m, m)))
    c("SADD", "set", *MEMBERS, *(m + "y" for m in MEMBERS))
    c("ZADD", "zset", *(x for i, m in enumerate(MEMBERS) for x in (i, m)))
    wide(c, "list", 200)
    c("SET", "string", "x" * 2 * LIMIT)
    c("EXPIRE", "zset", 1000)
    c.replica.op_limit = LIMIT


@pytest.mark.parametrize("argv", [
    *(what for key in ("hash", "set", "zset", "list", "string") for what in (
        ("COPY", key, "to"), ("COPY", key, "small", "REPLACE"), ("RENAME", key, "to"),
        ("RENAMENX", key, "to"), ("MOVE", key, 1))),
    ("SUNIONSTORE", "to", "set"), ("SINTERSTORE", "small", "set"),
    ("SDIFFSTORE", "to", "set", "none"), ("ZUNIONSTORE", "to", 1, "zset"),
    ("ZINTERSTORE", "to", 1, "zset"), ("ZRANGESTORE", "to", "zset", 0, -1),
    ("SORT", "list", "ALPHA", "STORE", "to"), ("SWAPDB", 0, 1),
    ("BITOP", "NOT", "to", "string"), ("LPOP", "list", 199), ("LTRIM", "list", 0, 0),
    ("LREM", "same", 0, "x"), ("SPOP", "set", 4500), ("ZPOPMIN", "zset", 2400),
    ("ZREMRANGEBYRANK", "zset", 1, -1), ("ZREM", "zset", *MEMBERS), ("SREM", "set", *MEMBERS),
    ("HDEL", "hash", *MEMBERS),
    ("LMPOP", 1, "same", "LEFT", "COUNT", 2400), ("BLMPOP", 0, 1, "same", "LEFT", "COUNT", 2400),
    ("ZMPOP", 1, "zset", "MIN", "COUNT", 2400),
    ("LMOVEM", "same", "to", "LEFT", "LEFT", "COUNT", 2400, "OBO"),
    ("LMOVEM", "list", "list", "LEFT", "LEFT", "COUNT", 190, "OBO"),
    ("BLMOVEM", "same", "same", "LEFT", "RIGHT", 0, "EXACTLY", 2400, "BULK"),
    ("SMOVE", "members", "other", "x" * 60_000), ("LMOVE", "string list", "to", "LEFT", "LEFT")],
    ids=lambda a: " ".join(map(str, a))[:40])
def test_what_the_data_make_too_large(c, argv):
    large_keys(c)
    c("SET", "small", "v")
    c.replica.op_limit = 1 << 20
    c("SADD", "members", "x" * 60_000)
    c("RPUSH", "string list", "x" * LIMIT)
    c("RPUSH", "same", *"x" * 2500)
    if argv[0] == "LTRIM" or argv[0] == "LPOP":
        wide(c, "list", 2500, 10)
    if argv[0] == "LPOP":
        argv = ("LPOP", "list", 2600)
    c.replica.op_limit = LIMIT
    refused(c, *argv)


def peak() -> int:
    """Bytes that this process has held at most, ever or since clear_refs was written to."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) << 10


def test_what_is_refused_is_not_copied_before(c):
    """A list of hundreds of megabytes would be held twice for nothing."""
    c.replica.op_limit = 10 << 20
    for _ in range(12):
        c("RPUSH", "l", *["x" * 500_000] * 8)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")
    before = peak()
    for to in "l", "m":
        assert c.error("LMOVEM", "l", to, "LEFT", "LEFT", "COUNT", 2**63 - 1, "OBO") == TOO_LARGE
    assert peak() - before < 20 << 20


def test_all_that_fits_is_served(c):
    """The bounds are not too small: ops of nine tenths of the limit."""
    c("SET", "k", "x" * 90_000)
    c("APPEND", "k", "x" * 90_000)
    c("SETBIT", "k", 80 * LIMIT, 1)
    c("HSET", "h", "a", "x" * 45_000, "b", "x" * 45_000)
    c("RENAME", "h", "i")
    c("COPY", "i", "j")
    c("MSET", "a", "x" * 45_000, "b", "x" * 45_000)
    wide(c, "l", 80, 1000)
    c("COPY", "l", "m")
    assert c("LLEN", "m") == 80 and c("HLEN", "j") == 2
    sizes = op_sizes(c.replica.take_ops())
    assert max(sizes) < LIMIT and sum(s > 80_000 for s in sizes) == 7


def test_a_transaction_is_bounded_as_a_whole(c):
    """The command that would make it too large answers with an error; what ran before and fits
    after is one op."""
    c("SET", "s", LONG)
    c("DEL", "nothing")
    c.replica.take_ops()
    c("MULTI")
    for target in "abcd":
        c("COPY", "s", target)
    c("SET", "last", 1)
    replies = c("EXEC")
    assert [str(r) for r in replies] == ["1", "1", TOO_LARGE, TOO_LARGE,
        "b'OK'"] or [r if isinstance(r, (int, bytes)) else str(r) for r in replies] == [
        1, 1, TOO_LARGE, TOO_LARGE, b"OK"]
    assert c("EXISTS", "a", "b", "c", "d", "last") == 3
    [size] = op_sizes(c.replica.take_ops())
    assert 80_000 < size < LIMIT


def test_a_transaction_takes_no_more_than_its_op_could_hold(c):
    c("MULTI")
    assert c("SET", "a", LONG) == c("SET", "b", LONG) == b"QUEUED"
    assert c.error("SET", "c", LONG) == TOO_LARGE
    assert c.error("EXEC").startswith("EXECABORT")
    assert c("EXISTS", "a", "b") == 0


def test_what_stood_before_a_transaction_counts_for_nothing(c):
    c("SET", "a", "x" * 90_000)
    c("MULTI")
    c("SET", "b", "x" * 90_000)
    assert c("EXEC") == [b"OK"]


# ---- removals that list many counter entries -----------------------------------------------------

def counters(c, key="h", n=6000):
    """A hash of n counters, and a sorted set."""
    for i in range(n):
        c("HINCRBY", key, f"field-{i}", 1)
    for i in range(n // 3):
        c("ZINCRBY", "z", 1, f"member-{i}")
    for i in range(100):
        c("HINCRBYFLOAT", "y", f"a member with a longer name {i}", 0.1)


def applied(c, batch):
    """A replica that has seen what c made so far and then gets the batch."""
    sizes = op_sizes(batch)
    assert max(sizes) < LIMIT, sizes
    return len(sizes)


@pytest.mark.parametrize("argv", [("DEL", "h"), ("UNLINK", "z", "h"),  ("FLUSHDB",), ("FLUSHALL",),
                                  ("SET", "h", "v"), ("EXPIRE", "h", -1),
                                  ("SET", "h", "v", "EX", 100)])
def test_a_removal_too_large_for_an_op_is_cut(c, argv):
    d, e = Client("b"), Client("c")
    counters(c)
    c("HSET", "h", "plain", 1)
    exchange(c, d, e)
    e("HINCRBY", "h", "field-7", 5)             # nobody has seen it
    c(*argv)
    batch = c.replica.take_ops()
    assert len(op_sizes(batch)) > 2 and max(op_sizes(batch)) < LIMIT
    assert c("GET", "h") == b"v" if argv[0] == "SET" else c("HLEN", "h") == 0
    d.replica.receive(batch)
    assert content(c) == content(d)
    e.replica.receive(batch)
    late = e.replica.take_ops()
    c.replica.receive(late)
    d.replica.receive(late)
    assert content(c) == content(d) == content(e)
    if argv[0] != "SET":
        assert c("HGETALL", "h") == [b"field-7", b"5"]
    assert c.replica.stats()["torn"] == 0
    for r in (c, d, e):
        r.replica.check()


def test_a_key_whose_time_has_come_is_removed_whatever_it_lists(c):
    d = Client("b")
    counters(c)
    c("PEXPIRE", "h", 50)
    exchange(c, d)
    c.now = d.now = c.now + 1000
    c.replica.tick()
    batch = c.replica.take_ops()
    assert len(op_sizes(batch)) > 1 and max(op_sizes(batch)) < LIMIT
    d.replica.receive(batch)
    assert content(c) == content(d) and c.replica.keys()[0] == 2


@pytest.mark.parametrize("argv", [("DEL", "h"), ("FLUSHALL",), ("FLUSHDB",), ("SET", "h", "v"),
                                  ("GETSET", "h", "v"), ("RENAME", "small", "h"), ("DEL", "z", "h"),
                                  ("SUNIONSTORE", "h", "set"), ("EXPIRE", "h", -1)])
def test_in_a_transaction_it_is_refused(c, argv):
    counters(c)
    c("SET", "small", 1)
    c("SADD", "set", 1)
    c.replica.take_ops()
    c("MULTI")
    c("SET", "first", 1)
    c(*argv)
    c("SET", "last", 1)
    replies = c("EXEC")
    wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value"
    assert str(replies[1]) in (TOO_LARGE, wrong_type)
    assert (c("HLEN", "h") == 6000 and c("ZCARD", "z") == 2000
            and c("EXISTS", "first", "last", "small") == 3)
    assert len(op_sizes(c.replica.take_ops())) == 1 and c.replica.stats()["torn"] == 0


def test_what_a_transaction_would_first_remove_counts(c):
    """A write to a key that has expired removes what is left of it."""
    counters(c)
    c("PEXPIRE", "h", 50)
    c.now += 100
    c.replica.take_ops()
    c("MULTI")
    for argv in (("HSET", "h", "f", 1), ("SET", "h", 1), ("MSET", "a", 1, "h", 2), ("SADD", "h", 1),
                 ("SET", "other", 1)):
        c(*argv)
    replies = c("EXEC")
    assert [str(r) for r in replies[:4]] == [TOO_LARGE] * 4 and c("GET", "other") == b"1"
    assert c.replica.stats()["torn"] == 0 and len(op_sizes(c.replica.take_ops())) == 1
    assert c("HSET", "h", "f", 1) == 1          # alone it is cut
    assert c("HGETALL", "h") == [b"f", b"1"] and max(op_sizes(c.replica.take_ops())) < LIMIT


# ---- every command -------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(60))
def test_no_schedule_makes_an_op_too_large_or_half_a_refused_one(seed):
    """What simulated clients do, at two replicas, with a limit that small values come up to."""
    rng = random.Random(seed)
    clients = Clients(rng)
    clients.large = clients.large or rng.random() < 0.5
    clients.many = clients.many or rng.random() < 0.5
    limit = rng.choice([300, 600, 1500, 4000])
    a, b = Client("a"), Client("b")
    a.replica.op_limit = b.replica.op_limit = limit
    iterations = 0
    for _ in range(150):
        c = rng.choice((a, b))
        a.now = b.now = a.now + rng.choice([0, 1, 40])
        for argv in clients.next(a.now):
            before = content(c), c.replica.keys()
            reply = c.raw(*argv)
            # a script goes on behind a command that is refused, and answers what its last one does
            if argv[0] != "EVAL" and reply.startswith(b"-" + TOO_LARGE.encode()):
                iterations += 1
                assert (content(c), c.replica.keys()) == before, f"{argv} was refused half done"
        if rng.random() < 0.1:
            c.replica.tick()
        if rng.random() < 0.3:
            for source, target in ((a, b), (b, a)):
                batch = source.replica.take_ops()
                assert all(s <= limit + 100 for s in op_sizes(batch)), op_sizes(batch)
                target.replica.receive(batch)
    exchange(a, b)
    assert content(a) == content(b)
    assert a.replica.stats()["torn"] == b.replica.stats()["torn"] == 0
    a.replica.check()
    b.replica.check()
    decode(a.raw("PING"))


def test_totals_that_take_kilobytes_count(c):
    """A counter that was incremented by 1e4900 and by 1e-30 has a total of 2 KB, which whatever
    replaces or removes it lists."""
    fields = [f"f{i}" for i in range(60)]
    for f in fields:
        for step in ("1e4900", "1e-30", "1e-4900"):
            c("HINCRBYFLOAT", "h", f, step)
    refused(c, "HSET", "h", *(x for f in fields for x in (f, "v")))
    c.replica.take_ops()
    c("HSET", "h", *(x for f in fields[:20] for x in (f, "v")))
    c("MULTI")
    c("HDEL", "h", *fields[20:40])
    c("DEL", "h")
    assert c("EXEC")[0] == 20
    c("FLUSHALL")
    made = c.replica.take_ops()
    assert made and max(op_sizes(made)) <= LIMIT and c("DBSIZE") == 0
    c.replica.check()


def test_counters_that_many_replicas_increment_count(c):
    """What replaces one lists what each of them has added."""
    fields = [f"f{i}" for i in range(60)]
    for i in range(20):
        other = Client(f"r{i}")
        for f in fields:
            other("HINCRBY", "h", f, 1)
        c.replica.receive(other.replica.take_ops())
    c.replica.take_ops()
    c.replica.op_limit = 20_000
    refused(c, "HSET", "h", *(x for f in fields for x in (f, "v")))
    c("HSET", "h", *(x for f in fields[:10] for x in (f, "v")))
    assert op_sizes(c.replica.take_ops())[0] > 10 * 20 * 16 and c.replica.stats()["torn"] == 0


def grouped(c, key, groups, n) -> list[str]:
    """A stream of n entries, all pending with x in each group. Their ids."""
    c.replica.op_limit = 1 << 30
    ids = [f"{i}-0" for i in range(1, n + 1)]
    for i in ids:
        c("XADD", key, i, "f", "v")
    for group in groups:
        c("XGROUP", "CREATE", key, group, 0)
        c("XREADGROUP", "GROUP", group, "x", "STREAMS", key, ">")
    c.replica.take_ops()
    return ids


@pytest.mark.parametrize("last", [[], ["LASTID", "250-0"]])
def test_claims_each_of_which_is_an_effect_of_its_own_count(c, last):
    """Of two neighbours one was delivered once more than the other."""
    group, name = "g" * 500, "c" * 500
    ids = grouped(c, "s", [group], 200)
    c("XCLAIM", "s", group, "x", 0, *ids[::2])
    for i in range(201, 300):
        c("XADD", "s", f"{i}-0", "f", "v")
    c.replica.op_limit = LIMIT
    refused(c, "XCLAIM", "s", group, name, 0, *ids, *last)
    c.replica.take_ops()
    assert len(c("XCLAIM", "s", group, name, 0, *ids[:60], *last)) == 60
    assert len(op_sizes(c.replica.take_ops())) == 1 and c.replica.stats()["torn"] == 0
    assert len(c("XREADGROUP", "GROUP", group, "x", "STREAMS", "s", ">")[0][1]) == (
        49 if last else 99)


@pytest.mark.parametrize("argv", [("XDELEX", "s", "DELREF", "IDS", 1, "1-0"),
                                  ("XTRIM", "s", "MAXLEN", 1, "DELREF"),
                                  ("XADD", "s", "MAXLEN", 1, "DELREF", "*", "f", "v")])
def test_references_in_many_groups_count(c, argv):
    key = "s" * 3000
    argv = [key if a == "s" else a for a in argv]
    grouped(c, key, [f"group {i}" for i in range(60)], 2)
    c.replica.op_limit = LIMIT
    refused(c, *argv)
    c.replica.op_limit = 3 * LIMIT
    c(*argv)
    assert len(op_sizes(c.replica.take_ops())) == 1 and c.replica.stats()["torn"] == 0


def test_references_that_are_not_there_do_not_count(c):
    ids = grouped(c, "s", [], 200)
    for i in range(60):
        c("XGROUP", "CREATE", "s", f"group {i}", 0)
    c.replica.op_limit = LIMIT
    assert c("XDELEX", "s", "DELREF", "IDS", 100, *ids[:100]) == [1] * 100
    assert c("XTRIM", "s", "MAXLEN", 0, "DELREF") == 100

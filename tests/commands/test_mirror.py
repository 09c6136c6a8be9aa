"""What a mirror lacks, and how it comes there: commands here, and at the mirror what is made of
them, batch by batch; some batches are lost, or arrive and are not known to have."""
import random

import pytest

from crdtredis.commands import mirror
from tests.commands.payloads import told
from tests.commands.run import Client, exchange
from tests.respclient import decode

ROOM = 1 << 10


def run(c: Client, commands) -> list:
    """The replies, errors among them."""
    return [decode(c.raw(*argv)) for argv in commands]


class Pair:
    """A client of a replica, and one of its mirror."""

    def __init__(self, most: int = 32 << 20, chance: random.Random | None = None):
        self.here, self.there = Client(), Client()
        self.chance, self.cursor = chance, 0
        self.replica = self.here.replica
        mirror.configure(self.replica, True, most)

    def step(self, room: int = ROOM) -> None:
        if mirror.begins_pass(self.replica):
            if mirror.begin_pass(self.replica):
                self.there("FLUSHDB")
            self.cursor = 0
        data, n = mirror.take(self.replica, room)
        fate = self.chance.random() if self.chance else 1.0
        if fate < 0.1:                          # it was not sent
            return mirror.put_back(self.replica)
        replies = run(self.there, parsed(data))
        assert len(replies) == n
        if fate < 0.2:                          # nobody knows whether it arrived
            return mirror.put_back(self.replica)
        refused = [i for i, r in enumerate(replies) if isinstance(r, Exception)]
        assert not refused, replies
        assert not mirror.settle(self.replica, refused,
                                 [i for i, r in enumerate(replies) if r == 0])
        if mirror.sweeps(self.replica):
            cursor, keys = self.there("SCAN", self.cursor, "COUNT", 5)
            self.cursor = int(cursor)
            mirror.missing(self.replica, keys, self.cursor == 0)

    def follow(self, room: int = ROOM) -> None:
        chance, self.chance = self.chance, None
        for _ in range(100_000):
            if not mirror.wants(self.replica):
                break
            self.step(room)
        self.chance = chance
        assert not mirror.wants(self.replica)
        assert mirror.figures(self.replica)["since"] == 0
        self.replica.check()

    def assert_equal(self) -> None:
        assert state(self.here) == state(self.there)


def parsed(data: bytes) -> list:
    found, at = [], 0

    def line() -> bytes:
        nonlocal at
        end = data.index(b"\r\n", at)
        text, at = data[at:end], end + 2
        return text

    while at < len(data):
        argv = []
        for _ in range(int(line()[1:])):
            n = int(line()[1:])
            argv.append(data[at:at + n])
            at += n + 2
        found.append(argv)
    return found


READS = {b"string": ("GET",), b"list": ("LRANGE", 0, -1), b"hash": ("HGETALL",),
         b"set": ("SMEMBERS",), b"zset": ("ZRANGE", 0, -1, "WITHSCORES")}


def state(c: Client) -> dict:
    found = {}
    for key in c("KEYS", "*"):
        kind = c("TYPE", key)
        name, *rest = READS[kind]
        value = c(name, key, *rest)
        if kind == b"hash":
            value = dict(zip(value[::2], value[1::2]))
        elif kind == b"set":
            value = set(value)
        found[key] = kind, value, c("PEXPIRETIME", key)
    return found


def later(c: Client, seconds: int) -> int:
    return c.replica.now + seconds * 1000


def change(c: Client, r: random.Random) -> None:
    """Some command. Keys are few, so their types change."""
    key, i = r.choice("abcdefgh"), r.randrange(40)
    big = r.choice(("hash", "set", "zset"))
    add = {"hash": lambda x: ("HSET", big, x, r.random()), "set": lambda x: ("SADD", big, x),
           "zset": lambda x: ("ZADD", big, r.random(), x)}
    remove = {"hash": "HDEL", "set": "SREM", "zset": "ZREM"}
    commands = [
        ("SET", key, i), ("SET", key, "x" * i, "PXAT", later(c, 100 + i)), ("DEL", key),
        ("DEL", key), ("HSET", key, i, i), ("HDEL", key, i), ("SADD", key, i), ("SREM", key, i),
        ("ZADD", key, i / 3, i), ("ZINCRBY", key, 0.1, i), ("RPUSH", key, i), ("LPOP", key),
        ("INCRBYFLOAT", key, "0.1"), ("PEXPIREAT", key, later(c, 100 + i)), ("PERSIST", key),
        ("RENAME", key, r.choice("abcdefgh")), ("PEXPIREAT", big, later(c, 100 + i)),
        ("PERSIST", big)]
    if r.random() < 0.4:
        for j in range(r.randrange(30)):
            x = r.randrange(700)
            run(c, [add[big](x) if r.random() < 0.7 else (remove[big], big, x)])
    elif r.random() < 0.01:
        run(c, [("DEL", big)])
        run(c, [("HSET", big, *range(1400)) if big == "hash" else
                    ("SADD", big, *range(700)) if big == "set" else
                    ("ZADD", big, *(x for j in range(700) for x in (j, j)))])
    elif r.random() < 0.01:
        run(c, [(r.choice(("FLUSHDB", "FLUSHALL")),)])
    else:
        run(c, [r.choice(commands)])


@pytest.mark.parametrize("seed", range(12))
def test_the_mirror_comes_out_equal(seed):
    r = random.Random(seed)
    p = Pair(most=r.choice((1000, 5000, 32 << 20)), chance=r)
    p.there("SET", "foreign", 1)
    p.there("RPUSH", "a", "of another type")
    for _ in range(10):
        for _ in range(r.randrange(200)):
            change(p.here, r)
            if r.random() < 0.1:
                p.step(r.choice((100, 1 << 10, 1 << 16)))
        p.follow(r.choice((100, 1 << 10, 1 << 16)))
        p.assert_equal()


def test_deadlines_come_along_and_what_expires_goes():
    p = Pair()
    end = later(p.here, 10)
    p.here("SET", "s", 1, "PXAT", end)
    p.here("HSET", "h", "f", 1)
    p.here("PEXPIREAT", "h", end)
    p.here("SET", "t", 1)
    p.follow()
    p.assert_equal()
    p.here("PERSIST", "s")
    p.follow()
    p.assert_equal()
    for c in (p.here, p.there):
        c.replica.now = end + 1
    p.there.replica.now = end - 1               # its own clock has not reached that
    assert p.here("EXISTS", "h") == 0
    p.here.replica.tick()
    p.follow()
    assert p.there("EXISTS", "h") == 0
    assert p.there("EXISTS", "s", "t") == 2


def test_a_deadline_that_finds_no_key_there_brings_all_of_it():
    p = Pair()
    p.here("SADD", "s", *range(400))
    p.here("PEXPIREAT", "s", later(p.here, 10))
    p.follow()
    p.there("DEL", "s")                         # it was quicker to expire there
    p.here("PERSIST", "s")
    p.follow()
    p.assert_equal()


def test_what_came_when_the_key_had_expired_there_is_sent_as_a_whole():
    """On its way it lost time: the deadline has passed there, so that the field makes a hash of its
    own, which the next deadline finds."""
    p = Pair()
    p.here("HSET", "h", *range(1000))
    p.here("PEXPIREAT", "h", later(p.here, 100))
    p.follow()
    p.here("PEXPIREAT", "h", later(p.here, 1))
    p.here("HSET", "h", "new", 1)
    data, n = mirror.take(p.replica, ROOM)
    p.here("PEXPIREAT", "h", later(p.here, 200))
    for c in (p.here, p.there):
        c.replica.now += 2000
    replies = run(p.there, parsed(data))
    assert p.there("HLEN", "h") == 1 and len(replies) == n
    mirror.settle(p.replica, [], [i for i, r in enumerate(replies) if r == 0])
    p.follow()
    p.assert_equal()


def test_what_has_gone_goes_where_its_memory_is_full():
    """What is refused goes behind what is listed, and is lacking since as long as before."""
    p = Pair()
    p.here("SET", "old", 1)
    p.follow()
    begun = p.replica.now
    run(p.here, [("SET", "a", 1), ("SADD", "b", *range(6000))])
    p.replica.now += 10_000
    p.here("DEL", "old")
    firsts = []
    for _ in range(4):
        data, n = mirror.take(p.replica, 1)
        firsts.append(parsed(data)[0][:2])
        full = firsts[-1][0] != b"DEL"
        assert n == 1 and mirror.settle(p.replica, [0] if full else [], [], full) == []
        f = mirror.figures(p.replica)
        assert f["again"] and f["since"] == begun
    assert firsts == [[b"SET", b"a"], [b"DEL", mirror.PART], [b"SADD", mirror.PART],
                      [b"DEL", b"old"]]
    p.there("DEL", "old")
    p.follow()
    p.assert_equal()
    assert not mirror.figures(p.replica)["again"]


def test_of_large_collections_the_members_that_changed_are_sent():
    p = Pair()
    p.here("HSET", "h", *range(20_000))
    p.here("SADD", "s", *range(10_000))
    p.here("ZADD", "z", *(x for i in range(10_000) for x in (i / 7, i)))
    p.follow(1 << 16)
    p.assert_equal()
    before = mirror.figures(p.replica)["sent_bytes"]
    p.here("HSET", "h", 0, "x", "new", 1)
    p.here("HDEL", "h", 2)
    p.here("SADD", "s", "new")
    p.here("SREM", "s", 5)
    p.here("ZINCRBY", "z", "inf", 3)
    p.here("ZREM", "z", 4)
    p.here("PEXPIREAT", "z", later(p.here, 100))
    p.follow()
    p.assert_equal()
    assert mirror.figures(p.replica)["sent_bytes"] - before < 1000


def test_a_list_that_no_single_command_should_bring():
    p = Pair()
    for i in range(66):
        p.here("RPUSH", "l", str(i) * (512 << 10), i)
    p.here("PEXPIREAT", "l", later(p.here, 10))
    p.there("SET", "l", "what was there before")
    p.follow()
    p.assert_equal()
    p.here("RPUSH", "l", *range(2000))
    p.here("PERSIST", "l")
    p.follow()
    p.assert_equal()


@pytest.mark.parametrize("size", [1, 65 << 20])
def test_groups_come_along_with_streams_of_any_size(size):
    pair = Pair()
    c = pair.here
    c("XADD", "s", "1-1", "f", b"v" * size), c("XADD", "s", "2-1", "f", "v")
    c("XGROUP", "CREATE", "s", "g", 0), c("XGROUP", "CREATECONSUMER", "s", "g", "idle")
    c("XREADGROUP", "GROUP", "g", "x", "STREAMS", "s", ">")
    c("XADD", "s", "3-1", "f", "v"), c("XDEL", "s", "2-1")
    pair.follow()
    assert told(pair.there, "s") == told(c, "s")
    c("XACK", "s", "g", "1-1")
    pair.follow()
    about = told(pair.there, "s")
    assert about == told(c, "s")
    assert [row[0] for row in about[b"groups"][b"g"][b"pending"]] == [b"2-1"]


@pytest.mark.parametrize("kind", ["hash", "set", "zset"])
def test_a_large_one_that_changes_while_it_is_copied(kind):
    r = random.Random(kind)
    p = Pair()

    def add(*names):
        run(p.here, [("HSET", "k", n, r.random()) if kind == "hash" else ("SADD", "k", n)
                         if kind == "set" else ("ZADD", "k", r.random(), n) for n in names])

    add(*range(6000))
    p.there("SET", "k", "what was there stays until the copy is whole")
    for i in range(200):
        p.step(ROOM)
        add(*(r.randrange(9000) for _ in range(10)))
        p.here({"hash": "HDEL", "set": "SREM", "zset": "ZREM"}[kind], "k", r.randrange(9000))
        if i == 100:
            p.here("PEXPIREAT", "k", later(p.here, 100))
    p.follow()
    p.assert_equal()
    p.here("DEL", "k")
    add(*range(6000))
    p.step(ROOM)
    p.step(ROOM)
    p.here("DEL", "k")
    p.here("SET", "k", "small")
    p.follow()
    p.assert_equal()


def test_what_is_listed_is_bounded_and_more_makes_a_pass():
    p = Pair(most=10_000)
    p.follow()
    passes = mirror.figures(p.replica)["passes"]
    for i in range(1000):
        p.here("SET", i, i)
        assert mirror.figures(p.replica)["queued_bytes"] <= 10_000
    f = mirror.figures(p.replica)
    assert f["losses"] == 1 and f["queued"] == 0 and f["building"]
    p.follow()
    p.assert_equal()
    assert mirror.figures(p.replica)["passes"] == passes + 1
    key = "k" * 20_000                          # one that is larger than all that may be listed
    p.here("SET", key, 1)
    p.follow()
    p.assert_equal()


def test_a_pass_ends_however_fast_keys_change():
    p = Pair(most=3000)
    run(p.here, [("SET", i, i) for i in range(2000)])
    n = 0
    for _ in range(2000):
        run(p.here, [("SET", n % 5000 + j, n) for j in range(100)])
        n += 100
        p.step(4 << 10)
    assert mirror.figures(p.replica)["losses"] > 1
    p.there("DEL", *range(5000))
    assert all(p.there("EXISTS", i) == 0 for i in range(5000))
    for _ in range(2000):
        run(p.here, [("SET", n % 5000 + j, n) for j in range(100)])
        n += 100
        p.step(4 << 10)
    assert p.there("DBSIZE") > 4900


def test_keys_of_other_databases_and_of_the_mirror_itself_stay():
    p = Pair()
    p.here("SET", mirror.MARK, 1)
    p.here("SET", mirror.PART, 1)
    p.here("SELECT", 1)
    p.here("SET", "k", 1)
    p.follow()
    assert p.there("DBSIZE") == 0
    p.here("FLUSHDB")
    assert not mirror.wants(p.replica)
    p.here("SET", "k", 2)
    p.here("SWAPDB", 0, 1)
    p.here("SELECT", 0)
    p.follow()
    assert p.there("KEYS", "*") == [b"k"]


def test_keys_at_home_are_mirrored_and_uncover_what_they_hide():
    p = Pair()
    p.here("SET", "job", "shared")
    p.follow()
    p.replica.local_keys = [b"job*"]
    p.here("DEL", "job")
    p.here("SET", "job", "home")
    p.here("RPUSH", "job:2", 1)
    p.follow()
    assert p.there("GET", "job") == b"home"
    p.assert_equal()
    p.here("DEL", "job")
    p.follow()
    p.assert_equal()


def test_ops_of_a_peer_are_followed():
    p, q = Pair(), Client(name="q")
    q("SET", "k", 1)
    q("HSET", "h", "f", 1)
    exchange(p.here, q)
    p.follow()
    p.assert_equal()
    assert p.there("GET", "k") == b"1"
    q("FLUSHALL")
    p.here("SET", "mine", 1)
    exchange(p.here, q)
    p.follow()
    assert p.there("KEYS", "*") == [b"mine"]


def test_what_is_refused():
    p = Pair()
    p.follow()
    p.here("SET", "a", 1)
    p.here("SET", "b", 1)
    data, n = mirror.take(p.replica, ROOM)
    assert n == 2
    assert mirror.settle(p.replica, [1], []) == [b"b"]
    assert not mirror.wants(p.replica)
    p.here("SADD", "s", *range(400))
    p.follow()
    p.there("SET", "s", "meddled with")
    p.here("SADD", "s", "new")
    data, n = mirror.take(p.replica, ROOM)
    assert parsed(data) == [[b"SADD", b"s", b"new"]]
    assert mirror.settle(p.replica, [0], []) == []
    p.follow()
    assert p.there("SCARD", "s") == 401


def test_without_a_mirror_nothing_is_listed():
    p = Pair()
    p.here("SET", "k", 1)
    mirror.configure(p.replica, False)
    p.here("SET", "k", 2)
    f = mirror.figures(p.replica)
    assert not mirror.wants(p.replica) and f["queued"] == 0 and f["since"] == 0
    assert mirror.take(p.replica, ROOM) == (b"", 0)
    assert mirror.settle(p.replica, [], []) == []

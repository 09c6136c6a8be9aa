"""Keys that are never replicated, on real processes: LOC-1, what a peer gets, kill -9, full syncs,
and clients that see one database."""
import threading

import pytest

from tests.real.cluster import Cluster, Server, until
from tests.real.links import Link, Links
from tests.respclient import ReplyError

SECRET, PUBLIC = b"S3cretW0rd", b"Publ1cW0rd"


@pytest.fixture
def two():
    c = Cluster(2, local_keys="job:*,*:lock", gc_interval="50ms").start()
    yield c
    for s in c:
        s.dispose()


def synced(a: Server, b: Server) -> None:
    a("CRDT.SYNC", 20_000)
    b("CRDT.SYNC", 20_000)
    assert a("CRDT.DIGEST") == b("CRDT.DIGEST")


def test_LOC_1(two):
    a, b = two
    assert a("RPUSH", "job:q", "x") == 1
    a("SET", "k", 1)
    synced(a, b)
    assert (b("LLEN", "job:q"), b("GET", "k")) == (0, b"1")
    assert b("RPUSH", "job:q", "y", "z") == 2
    synced(a, b)
    assert a("LRANGE", "job:q", 0, -1) == [b"x"]
    a.restart()                                                   # kill -9
    assert (a("LRANGE", "job:q", 0, -1), a("GET", "k")) == ([b"x"], b"1")
    assert a.stop() == 0
    a.start()
    assert a("LPOP", "job:q") == b"x"
    synced(a, b)
    assert b("LLEN", "job:q") == 2
    a.restart()
    assert a("EXISTS", "job:q") == 0


class Recorded(Link):
    """A link that keeps what passes."""

    def __init__(self, *args):
        super().__init__(*args)
        self.heard = bytearray()

    async def _pump(self, reader, writer, way):
        while data := await reader.read(1 << 15):
            self.heard += data
            writer.write(data)
            await writer.drain()


def test_no_byte_of_them_reaches_a_peer(monkeypatch):
    """Pushes, pulls from the log's files, a full sync and a repair, with a key of every type, and
    ops on both kinds."""
    monkeypatch.setattr("tests.real.links.Link", Recorded)
    links = Links()
    settings = {"sync_interval": "200ms", "retry_interval": "50ms", "local_keys": "job:*"}
    a, b = Server("a", **settings), Server("b", **settings)
    there, back = links.to(b.http_port), links.to(a.http_port)
    a.peers, b.peers = [there.address], [back.address]
    try:
        a.start()
        fill(a)                 # before there is a peer: it is read from files
        b.start()
        until(lambda: b("GET", "all") == PUBLIC)
        fill(a)
        synced(a, b)
        b("CRDT.PEER", "PAUSE", "*")
        fill(a)
        a("BGREWRITEAOF")
        until(lambda: list(a.data_dir.glob("checkpoint-*")))
        b("CRDT.PEER", "RESUME", "*")
        synced(a, b)
        b("CRDT.VERIFY")
        b("CRDT.REPAIR", "a")
        synced(a, b)
        heard = bytes(there.heard + back.heard)
        assert PUBLIC in heard
        assert SECRET not in heard and b"job:" not in heard
        on_disk = b"".join(f.read_bytes() for f in b.data_dir.rglob("*") if f.is_file())
        assert PUBLIC in on_disk
        assert SECRET not in on_disk and b"job:" not in on_disk
        assert (b("DBSIZE"), a("DBSIZE")) == (2, 8)
    finally:
        a.dispose()
        b.dispose()
        links.close()


def fill(a: Server) -> None:
    s = SECRET.decode()
    a("SET", "all", PUBLIC)
    a("SET", "job:" + s, s)
    a("SET", "job:" + s, s, "PX", 100_000)
    a("HSET", "job:hash", s, s)
    a("SADD", "job:set", s)
    a("ZADD", "job:zset", 1, s)
    a("RPUSH", "job:list", s, s, s)
    a("LPOP", "job:list")
    a("APPEND", "job:string", s)
    a("EVAL", "redis.call('RPUSH', 'job:list', ARGV[1]) redis.call('INCR', 'jobs')", 0, s)
    with a.connect() as c:
        for argv in [("MULTI",), ("SET", "all", PUBLIC), ("RPUSH", "job:list", s), ("EXEC",)]:
            c(*argv)
    a("DEL", "job:set")
    a("SADD", "job:set", s)


def test_ops_on_both_kinds_are_whole_after_kill_9():
    """Queue and counter go up in one transaction, while the process is killed again and again."""
    a = Server("a", local_keys="job:*", appendfsync="no")
    a.start()
    try:
        for _ in range(4):
            told, stop = [0], threading.Event()

            def work():
                try:
                    with a.connect() as c:
                        while not stop.is_set():
                            told[0] = c("EVAL", "redis.call('RPUSH', 'job:q', 'x')"
                                        "return redis.call('INCR', 'jobs')", 0)
                except (OSError, ReplyError):
                    pass

            worker = threading.Thread(target=work)
            worker.start()
            before = told[0]
            until(lambda: told[0] > before + 50)
            a.kill()
            stop.set()
            worker.join()
            a.start()
            jobs = int(a("GET", "jobs"))
            assert jobs >= told[0]
            assert a("LLEN", "job:q") == jobs
    finally:
        a.dispose()


def test_a_new_replica_and_a_repair_leave_them_alone(two):
    a, b = two
    a("RPUSH", "job:q", "a")
    b("RPUSH", "job:q", "b")
    for i in range(200):
        a("SET", f"k{i}", i)
    synced(a, b)
    c = Server("c", peers=[a.address], sync_interval="200ms", retry_interval="50ms")
    c.start()
    until(lambda: c("DBSIZE") == 200)
    assert c("EXISTS", "job:q") == 0
    until(lambda: c("CRDT.DIGEST") == a("CRDT.DIGEST"))
    # it has no patterns: its key of that name is for all who have none of their own
    c("RPUSH", "job:q", "c")
    c("CRDT.SYNC", 20_000)
    assert (a("LRANGE", "job:q", 0, -1), b("LRANGE", "job:q", 0, -1)) == ([b"a"], [b"b"])
    assert dict(pairs(a("CRDT.INSPECT", "job:q")))[b"hides"] == 1
    assert a("CRDT.DIGEST") == c("CRDT.DIGEST")
    b("CRDT.REPAIR", "a")
    synced(a, b)
    assert b("LRANGE", "job:q", 0, -1) == [b"b"]
    assert a("LPOP", "job:q") == b"a"
    assert a("LRANGE", "job:q", 0, -1) == [b"c"]


def pairs(flat: list) -> list:
    return list(zip(flat[::2], flat[1::2]))


def test_clients_see_one_database(two):
    a, b = two
    with a.connect() as one, a.connect() as other:
        one("WATCH", "job:w")
        other("SET", "job:w", 1)
        one("MULTI")
        one("SET", "job:w", 2)
        assert one("EXEC") is None
        one.send("BLPOP", "job:queue", 0)
        until(lambda: b"blocked_clients:1" in a("INFO", "clients"))
        other("RPUSH", "job:queue", "x")
        assert one.read() == [b"job:queue", b"x"]
        a("CONFIG", "SET", "notify-keyspace-events", "KEA")
        one("SUBSCRIBE", "__keyspace@0__:job:n")
        other("SET", "job:n", 1, "PX", 20)
        events = [one.read()[2] for _ in range(3)]
        assert events == [b"set", b"expire", b"expired"]
    a("SET", "k", 1)
    assert sorted(a("KEYS", "*")) == [b"job:w", b"k"]
    assert a("DBSIZE") == 2 and b"db0:keys=2" in a("INFO", "keyspace")
    assert a("MEMORY", "USAGE", "job:w") > 0 and a("OBJECT", "ENCODING", "job:w") == b"int"
    assert dict(pairs(a("CRDT.INSPECT", "job:w")))[b"local"] == 1
    assert b"local" not in dict(pairs(a("CRDT.INSPECT", "k")))
    synced(a, b)
    assert b("KEYS", "*") == [b"k"]
    a("FLUSHALL")
    assert a("DBSIZE") == 0


def test_patterns_change_at_run_time(two):
    a, b = two
    assert a("CONFIG", "GET", "local-keys") == [b"local-keys", b"job:* *:lock"]
    a("SET", "rate:1", 1)
    a("SET", "x:lock", 1)
    a("CONFIG", "SET", "local-keys", "rate:*")
    a("SET", "rate:2", 1)
    a("INCR", "rate:1")                               # is there, and stays what it is
    a("INCR", "x:lock")
    a("SET", "y:lock", 1)
    synced(a, b)
    assert b("MGET", "rate:1", "rate:2", "x:lock", "y:lock") == [b"2", None, None, b"1"]
    assert a("MGET", "rate:1", "rate:2", "x:lock", "y:lock") == [b"2", b"1", b"2", b"1"]
    for bad in ("x" * 257, " ".join(f"p{i}" for i in range(65))):
        with pytest.raises(ReplyError):
            a("CONFIG", "SET", "local-keys", bad)
    assert a("CONFIG", "GET", "local-keys")[1] == b"rate:*"
    a("CONFIG", "SET", "local-keys", "")
    a("DEL", "rate:2")
    a("SET", "rate:2", 1)
    synced(a, b)
    assert b("GET", "rate:2") == b"1"


def test_messages_of_a_replica_that_wrote_only_such_keys_arrive(two):
    """Messages wait for what their replica has written, by the names of ops that others get."""
    a, b = two
    a("SET", "job:1", 1)
    a.restart()
    a("SET", "job:1", 2)
    with b.connect() as s:
        s("SUBSCRIBE", "ch")
        until(lambda: a("PUBLISH", "ch", "m") is not None
              and b"pubsub_messages_sent:0" not in a("INFO", "stats"))
        assert s.read() == [b"message", b"ch", b"m"]


def test_a_checkpoint_brings_them_back():
    a = Server("a", local_keys="job:*")
    a.start()
    try:
        fill(a)
        a("SAVE")
        a("RPUSH", "job:list", "behind it")
        before = [a("LRANGE", "job:list", 0, -1), a("HGETALL", "job:hash"), a("DBSIZE")]
        a.restart()
        assert [a("LRANGE", "job:list", 0, -1), a("HGETALL", "job:hash"), a("DBSIZE")] == before
        assert "checkpoint" in a.log(500)
    finally:
        a.dispose()

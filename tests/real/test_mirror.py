"""The local mirror: a redis-server that is kept equal to database 0, whatever happens to either."""
from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import random
import signal
import socket
import threading
import time
import urllib.request

import pytest

from crdtredis._core import Replica
from crdtredis.commands.mirror import MARK, PART
from crdtredis.moving import mirror
from tests.real.cluster import Reference, until
from tests.real.test_export import LATER, assert_same, everything, fill_all
from tests.respclient import ReplyError


@pytest.fixture
def redis(processes):
    def start(*options, directory=None):
        return Reference("--save", "", *options, directory=directory).start()
    return start


def mirrored(server, **settings):
    return {"redis_addr": f"127.0.0.1:{server.port}", **settings}


def info(server) -> dict:
    return dict(line.split(":", 1) for line in server("INFO", "mirror").decode().splitlines()
                if ":" in line)


def up_to_date(server) -> bool:
    found = info(server)
    return found["mirror_state"] == "following" and float(found["mirror_lag_seconds"]) == 0


def assert_equal(server, redis) -> None:
    """Once nothing is lacking any more."""
    until(lambda: up_to_date(server))
    there = everything(redis, [0])
    assert there.pop((0, MARK), None)
    assert_same(there, everything(server, [0]))


def http(server, path: str):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}{path}", timeout=20) as r:
        return r.read().decode()


def health(server) -> dict:
    return json.loads(http(server, "/health"))


def test_every_kind_of_value_what_was_there_before_and_what_changes(server, redis):
    a, r = server(), redis()
    fill_all(a, 14_500, [0], 40_000)
    others = r.connect()
    others("SELECT", 1)
    others("SET", "of others", 1)
    assert info(a) == {"mirror_state": "off"}
    a("CONFIG", "SET", "redis-addr", f"127.0.0.1:{r.port}")
    assert_equal(a, r)
    a("FUNCTION", "FLUSH")
    fill_all(a, 3_000, [0], 40_000)             # changes each of those
    a("DEL", "s:0", "n:0", "l:0", "compresses")
    a("RENAME", "s:1", "renamed")
    a("PEXPIREAT", "h:1", LATER)
    a("PERSIST", struct_key(a))
    a("SET", "soon", 1, "PX", 200)
    a("SADD", "soon too", *range(500))
    a("PEXPIRE", "soon too", 200)
    until(lambda: a("EXISTS", "soon", "soon too") == 0)
    assert_equal(a, r)
    for i in range(0, 50_000, 5_000):
        a("RPUSH", "long", *range(i, i + 5_000))
        a("HSET", "fields", *(x for j in range(i, i + 5_000) for x in (j, f"v{j}")))
    a("SET", "large", os.urandom(30 << 20))
    assert_equal(a, r)
    a("HSET", "fields", "one", "more")
    a("PEXPIREAT", "fields", LATER)
    assert_equal(a, r)
    a("SWAPDB", 0, 15)
    assert_equal(a, r)
    a("FLUSHALL")
    until(lambda: r("DBSIZE") == 1)
    a("SET", "k", 1)
    assert_equal(a, r)
    assert others("KEYS", "*") == [b"of others"]


def struct_key(server) -> bytes:
    """A key with a deadline."""
    return next(key for (_, key), (_, _, end) in everything(server, [0]).items() if end > 0)


def test_ops_of_peers_keys_at_home_and_a_full_sync(cluster, redis):
    r = redis()
    mesh = cluster(2, local_keys="home:*")
    a, b = mesh
    a("CONFIG", "SET", "redis-addr", f"127.0.0.1:{r.port}")
    fill_all(b, 1_000, [0], 40_000)
    a("SET", "home:1", "a's")
    b("SET", "home:1", "b's")
    mesh.sync()
    assert_equal(a, r)
    assert r("GET", "home:1") == b"a's"
    mesh.pause()
    a("FLUSHALL")
    b("SET", "concurrent", 1)
    mesh.sync()
    assert_equal(a, r)
    assert r("EXISTS", "concurrent") == 1
    a("CRDT.REPAIR", b.address)
    b("SET", "after", 1)
    mesh.sync()
    assert_equal(a, r)


def test_foreign_data_stay(server, redis):
    r = redis()
    r("SET", "of others", 1)
    a = server(**mirrored(r))
    a("SET", "k", 1)
    until(lambda: info(a)["mirror_state"] == "refused")
    assert "has 1 keys and is no mirror" in info(a).get("mirror_error", "")
    assert r("KEYS", "*") == [b"of others"]
    found = health(a)
    assert found["status"] == "ok" and "is no mirror" in str(found["warnings"])
    a("CONFIG", "SET", "redis-db", 3)
    until(lambda: up_to_date(a))
    assert r("KEYS", "*") == [b"of others"]
    assert health(a)["warnings"] == []
    with r.connect() as c:
        c("SELECT", 3)
        assert c("GET", "k") == b"1"
    b = server("b", **mirrored(r, redis_db=3))
    until(lambda: info(b)["mirror_state"] == "refused")
    assert "is the mirror of replica a" in info(b).get("mirror_error", "")
    b("CONFIG", "SET", "redis-addr", f"127.0.0.1:{a.port}")
    until(lambda: "that is a crdt-redis" in info(b).get("mirror_error", ""))
    b("CONFIG", "SET", "redis-addr", f"127.0.0.1:{b.port}")
    until(lambda: "that is a crdt-redis" in info(b).get("mirror_error", ""))
    b("CONFIG", "SET", "redis-addr", "")
    assert info(b) == {"mirror_state": "off"}


def test_data_that_swapdb_puts_in_its_place_stay(server, redis):
    r = redis()
    others = r.connect()
    others("SELECT", 1)
    others("MSET", *(x for i in range(50) for x in (f"of others {i}", i)))
    a = server(**mirrored(r))
    a("MSET", "k", 1, "other", 1)
    assert_equal(a, r)
    foreign = sorted(others("KEYS", "*"))
    r("SWAPDB", 0, 1)
    a("DEL", "k")
    until(lambda: "swapped to database 1" in info(a).get("mirror_error", ""))
    assert info(a)["mirror_state"] == "refused" and sorted(r("KEYS", "*")) == foreign
    a("SET", "later", 1)
    r("SWAPDB", 0, 1)
    assert_equal(a, r)
    r("SWAPDB", 0, 1)
    until(lambda: info(a)["mirror_state"] == "refused")
    a("CONFIG", "SET", "redis-db", 1)
    a("SET", "later still", 1)
    until(lambda: up_to_date(a))
    assert sorted(set(others("KEYS", "*")) - {MARK}) == sorted(a("KEYS", "*"))
    assert sorted(r("KEYS", "*")) == foreign


def test_of_two_that_claim_one_database_only_one_writes(server, redis):
    r = redis()
    seen = r.connect()
    seen("MONITOR")
    both = server("a"), server("b", replica_id="b")
    for s in both:
        s("MSET", *(x for i in range(2000) for x in (f"of {s.port}: {i}", i)))
    for db in range(12):
        r("CLIENT", "PAUSE", 300)
        threads = [threading.Thread(target=s, args=(
            "CONFIG", "SET", "redis-db", db, "redis-addr", f"127.0.0.1:{r.port}")) for s in both]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        until(lambda: sorted(info(s)["mirror_state"] for s in both) == ["following", "refused"])
        wins = next(s for s in both if info(s)["mirror_state"] == "following")
        until(lambda: up_to_date(wins))                                         # noqa: B023
        r("SELECT", db)
        assert sorted(set(r("KEYS", "*")) - {MARK}) == sorted(wins("KEYS", "*"))
        r("PING", "over")
        written = []
        while b"over" not in (line := seen.read()):
            written.append(line)
        loses = next(s for s in both if s is not wins)
        assert f"of {wins.port}: 7".encode() in b"".join(written)
        assert f"of {loses.port}:".encode() not in b"".join(written)


def test_what_a_redis_may_refuse(server, redis):
    r, other = redis(), redis()
    r("CONFIG", "SET", "requirepass", "se cret")
    a = server(**mirrored(r))
    a("SET", "k", 1)
    until(lambda: "NOAUTH" in info(a).get("mirror_error", ""))
    a("CONFIG", "SET", "redis-password", "wrong")
    until(lambda: "WRONGPASS" in info(a).get("mirror_error", ""))
    a("CONFIG", "SET", "redis-password", "se cret")
    c = r.connect(password="se cret")
    assert_equal_by(a, c)
    assert "se cret" not in str([a("CONFIG", "GET", "*password*"), a("INFO", "everything"),
                                 http(a, "/config"), http(a, "/stats"), a.log(1000)])
    c("REPLICAOF", "127.0.0.1", other.port)
    a("SET", "k", 2)
    until(lambda: info(a)["mirror_state"] == "refused")
    c("REPLICAOF", "NO", "ONE")
    c("FLUSHDB")
    assert_equal_by(a, c)
    c("CONFIG", "SET", "maxmemory", 1)
    a("SET", "k", 3)
    until(lambda: "OOM" in info(a).get("mirror_error", ""))
    assert a("GET", "k") == b"3"
    c("CONFIG", "SET", "maxmemory", 0)
    assert_equal_by(a, c)
    c("ACL", "SETUSER", "m", "on", ">pw", "~*", "+@all", "-restore")
    a("CONFIG", "SET", "redis-user", "m", "redis-password", "pw")
    a("SADD", "s", 1)
    until(lambda: "NOPERM" in info(a).get("mirror_error", ""))
    c("ACL", "SETUSER", "m", "+restore")
    assert_equal_by(a, c)


def assert_equal_by(server, c) -> None:
    until(lambda: up_to_date(server))
    keys = sorted(server("KEYS", "*"))
    assert sorted(set(c("KEYS", "*")) - {MARK}) == keys
    for key in keys:
        assert c("TYPE", key) == server("TYPE", key)
        if server("TYPE", key) == b"string":
            assert c("GET", key) == server("GET", key)


def test_what_is_deleted_here_goes_there_although_its_memory_is_full(server, redis):
    r = redis("--maxmemory", "12mb")
    a = server(**mirrored(r))

    def write(name: str) -> None:
        with a.connect() as c:
            for i in range(0, 1500, 100):
                c.pipeline([("SET", f"{name}:{j}", os.urandom(4000)) for j in range(i, i + 100)])

    write("old")
    until(lambda: up_to_date(a))
    write("new")
    a("SADD", "large", *(f"member {i}" for i in range(10_000)))
    until(lambda: "OOM" in info(a).get("mirror_error", ""))
    assert info(a)["mirror_state"] == "refused" and health(a)["status"] == "ok"
    assert any("OOM" in w for w in health(a)["warnings"])
    a("DEL", *(f"old:{i}" for i in range(1500)))
    assert_equal(a, r)
    assert info(a)["mirror_given_up"] == "0" and health(a)["warnings"] == []


def test_of_a_copy_that_was_not_ended_nothing_stays(server, redis):
    r = redis()
    a = server(**mirrored(r))
    until(lambda: up_to_date(a))
    with a.connect() as c:
        for i in range(0, 1_000_000, 20_000):
            c("SADD", "s", *(f"member {j}" for j in range(i, i + 20_000)))
        until(lambda: r("EXISTS", PART) == 1)
        r("CLIENT", "KILL", "TYPE", "normal")
        r._disconnect()
        c("DEL", "s")
    until(lambda: info(a)["mirror_connections"] == "2")
    assert_equal(a, r)


def test_a_socket_and_what_is_no_redis(server, redis, tmp_path):
    r = redis("--unixsocket", str(tmp_path / "redis.sock"))
    a = server(redis_addr=str(tmp_path / "redis.sock"))
    a("SET", "k", 1)
    assert_equal(a, r)
    a("CONFIG", "SET", "redis-addr", f"127.0.0.1:{a.http_port}")
    until(lambda: "does not speak" in info(a).get("mirror_error", ""))
    a("CONFIG", "SET", "redis-addr", "127.0.0.1:1")
    until(lambda: "refused" in info(a).get("mirror_error", "").lower())
    assert "mirror_up 0" in http(a, "/metrics").replace("crdt_redis_", "")
    with pytest.raises(ReplyError):
        a("CONFIG", "SET", "redis-addr", "redis://127.0.0.1:1")
    a("SET", "k", 2)
    a("CONFIG", "SET", "redis-addr", str(tmp_path / "redis.sock"))
    assert_equal(a, r)
    text = http(a, "/metrics")
    assert "crdt_redis_mirror_up 1" in text and "crdt_redis_mirror_lag_seconds 0" in text
    assert json.loads(http(a, "/stats"))["mirror"]["mirror_state"] == "following"


def test_one_that_hangs_keeps_nobody_and_runs_nothing_late(server, redis):
    r = redis()
    a = server(**mirrored(r))
    a("SET", "k", 0)
    assert_equal(a, r)
    os.kill(r.pid, signal.SIGSTOP)
    try:
        with a.connect() as c:
            for i in range(20_000):
                c("SET", "k", i)
                if i % 100 == 0:
                    c("SET", f"k:{i}", os.urandom(20_000))
        until(lambda: info(a)["mirror_state"] == "lost")
        a("SET", "k", "the last")
        assert a.process.poll() is None
    finally:
        os.kill(r.pid, signal.SIGCONT)
    assert_equal(a, r)
    for _ in range(200):
        assert r("GET", "k") == b"the last"


def test_a_connection_of_its_name_from_before_is_ended(server, redis):
    r = redis()
    with r.connect() as before, r.connect() as other:
        before("CLIENT", "SETNAME", "crdt-redis-mirror:a")
        other("CLIENT", "SETNAME", "crdt-redis-mirror:b")
        a = server(**mirrored(r))
        a("SET", "k", 1)
        assert_equal(a, r)
        assert other("PING") == b"PONG"
        with pytest.raises((OSError, EOFError)):
            before("PING")


def write_all_the_time(server, seed: int, over: threading.Event) -> threading.Thread:
    def work() -> None:
        r = random.Random(seed)
        c = None
        while not over.is_set():
            try:
                c = c or server.connect(timeout=5.0)
                c.pipeline([some(r) for _ in range(50)])
                time.sleep(0.002)
            except (OSError, EOFError, ReplyError, TypeError):
                c = None
                time.sleep(0.05)

    t = threading.Thread(target=work, daemon=True)
    t.start()
    return t


def some(r: random.Random) -> tuple:
    i = r.randrange(3000)
    return r.choice((
        ("SET", f"s:{i}", r.random()), ("SET", f"s:{i}", os.urandom(i), "PX", r.randrange(5000)),
        ("DEL", f"s:{i}", f"h:{i % 100}"), ("INCRBY", f"n:{i}", i), ("RPUSH", f"l:{i % 50}", i),
        ("LPOP", f"l:{i % 50}"), ("HSET", f"h:{i % 100}", i, i), ("HSET", "wide", i, r.random()),
        ("HDEL", "wide", i), ("SADD", "set", i), ("SREM", "set", i), ("ZADD", "zset", i / 3, i),
        ("ZREM", "zset", i), ("PEXPIRE", f"n:{i}", 3000), ("PERSIST", f"n:{i}")))


def test_chaos(cluster, redis):
    """Of the mirror, of the server, of both; a peer writes as well."""
    r = random.Random(5)
    to = redis("--save", "1", "1")
    mesh = cluster(2)
    a, b = mesh
    a("CONFIG", "SET", "redis-addr", f"127.0.0.1:{to.port}")
    a.settings |= mirrored(to)
    over = threading.Event()
    writers = [write_all_the_time(s, i, over) for i, s in enumerate((a, a, b))]
    for what in ("kill mirror", "stop", "flush", "kill ours", "kill both", "flush here", "meddle"):
        until(lambda: info(a)["mirror_state"] in ("following", "building"))
        time.sleep(r.random() / 2)
        if what in ("kill mirror", "kill both"):
            to.kill()
        if what in ("kill ours", "kill both"):
            a.restart()
        if what in ("kill mirror", "kill both"):
            time.sleep(0.2)
            to.start()
        if what == "stop":
            os.kill(to.pid, signal.SIGSTOP)
            until(lambda: info(a)["mirror_state"] == "lost")
            os.kill(to.pid, signal.SIGCONT)
        if what == "flush":
            to("FLUSHALL")
        if what == "flush here":
            a("FLUSHALL")
        if what == "meddle":
            to("SET", "wide", "another type")
            to("CLIENT", "KILL", "TYPE", "normal")
            to._disconnect()
    over.set()
    for t in writers:
        t.join()
    mesh.sync()
    a("CONFIG", "SET", "redis-addr", "")        # what "meddle" broke and nothing has touched
    a("CONFIG", "SET", "redis-addr", f"127.0.0.1:{to.port}")
    until(lambda: all(s("DBSIZE") == len(s("KEYS", "*")) for s in mesh))
    time.sleep(5.1)                             # all deadlines have passed
    assert_equal(a, to)


def test_a_name_that_takes_long_to_look_up_takes_no_thread_from_peers(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: over.wait(60) and [])
    monkeypatch.setattr(mirror, "PATIENCE", 0.05)
    monkeypatch.setattr(mirror, "RETRY", (0.01, 0.01))

    async def call(function):
        return function()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2))
        m = mirror.Mirror(Replica("a", 1), call)
        m.configure(mirror.Target("redis.example:6379", 0, "", ""))
        task = asyncio.create_task(m.run())
        await asyncio.sleep(0.5)
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: 7) == 7
        assert m.state == "lost"
        task.cancel()

    try:
        asyncio.run(run())
    finally:
        over.set()

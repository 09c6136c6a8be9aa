"""`crdt-redis restore --until`, judged by what clients wrote down themselves: for each write, when
they sent it and when they had the reply."""
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from crdtredis.moving.backing_up import moment
from crdtredis.errors import StartError
from tests.real.cluster import Cluster, Server, until
from tests.real.test_backup import run
from tests.real.test_full_sync import QUICK, forget


def now() -> int:
    return time.time_ns() // 1_000_000


def past(ms: int) -> int:
    """Waits until the clock is beyond: what is written from now on is later."""
    while now() <= ms:
        time.sleep(0.001)
    return ms


class Writer:
    """A client and its own log: (sent, replied) of each transaction, which adds to a list, a
    counter, a hash and a set, and takes away from another list."""

    def __init__(self, server: Server, name: str) -> None:
        self.c, self.name = server.connect(), name
        self.log: list[tuple[int, int]] = []
        for i in range(1000):
            self.c("RPUSH", f"{name}:left", i)

    def write(self, times: int = 1) -> None:
        for _ in range(times):
            i, sent = len(self.log), now()
            self.c.pipeline([("MULTI",), ("RPUSH", f"{self.name}:list", i),
                             ("INCR", f"{self.name}:count"),
                             ("HSET", f"{self.name}:hash", i % 7, i),
                             ("SADD", f"{self.name}:set", i), ("LPOP", f"{self.name}:left"),
                             ("INCRBY", "sum", 1), ("SET", f"{self.name}:last", i, "PX", 10 ** 9),
                             ("EXEC",)])
            self.log.append((sent, now()))

    def check(self, server: Server, ms: int) -> int:
        """How many of them are there as of then: a beginning of the log, and whole."""
        n = int(server("GET", f"{self.name}:count") or 0)
        assert sum(replied <= ms for _, replied in self.log) <= n
        assert n <= sum(sent <= ms for sent, _ in self.log)
        assert server("LRANGE", f"{self.name}:list", 0, -1) == [b"%d" % i for i in range(n)]
        found = server("HGETALL", f"{self.name}:hash")
        assert dict(zip(found[::2], found[1::2])) == {b"%d" % (i % 7): b"%d" % i for i in range(n)}
        assert set(server("SMEMBERS", f"{self.name}:set")) == {b"%d" % i for i in range(n)}
        assert server("LRANGE", f"{self.name}:left", 0, 0) == [b"%d" % n][:n < 1000]
        if n:
            assert server("GET", f"{self.name}:last") == b"%d" % (n - 1)
            assert 0 < server("PTTL", f"{self.name}:last") <= 10 ** 9
        return n


def gone_back(source, ms: int, name: str = "a", cluster: str = "then", **settings) -> Server:
    b = Server(name, cluster_name=cluster, **settings)
    out = run("restore", source, b.data_dir, "--new-cluster", cluster, "--until", ms)
    assert "sound" in out
    return b.start()


def moments(logs: list[list[tuple[int, int]]]) -> list[int]:
    every = sorted(t for log in logs for pair in log for t in pair)
    return [every[i * (len(every) - 1) // 3] for i in range(4)]


def test_each_moment_is_what_the_client_had_written_by_then(server, tmp_path):
    a = server("a", max_segment_size="64kb")
    w = Writer(a, "w")
    began = now()
    w.write(300)
    a.kill()                            # and goes on as another, or the same, actor
    a.start()
    w.c = a.connect()
    w.write(300)
    end = past(now())
    a("FLUSHALL")                       # the accident
    w.c("SET", "after", 1)
    archive = tmp_path / "b.tar"
    run("backup", "--history", "--from", a.address, "--to", archive)
    seen = set()
    for ms in [*moments([w.log]), end]:
        b = gone_back(archive, ms)
        assert b("GET", "after") is None
        seen.add(w.check(b, ms))
        assert int(b("GET", "sum") or 0) == int(b("GET", "w:count") or 0)
        b.dispose()
    assert 600 in seen and len(seen) > 2 and min(seen) < 600
    # the log is whole, so nothing is too early; but what is too late is not there
    b = gone_back(archive, began - 10 ** 6)
    assert b("DBSIZE") == 0
    out = run("restore", archive, tmp_path / "to", "--new-cluster", "then", "--until",
              now() + 10 ** 7, code=2)
    assert "is not covered: what is there goes from the beginning to " in out
    assert {p.name for p in tmp_path.iterdir()} == {"b.tar"}


@pytest.mark.parametrize("kind", ["archive", "directory"])
def test_not_before_the_oldest_checkpoint(server, tmp_path, kind):
    a = server("a", max_segment_size="64kb", replication_log_size="0")
    w = Writer(a, "w")
    before = past(now())
    for _ in range(2 if kind == "directory" else 1):
        w.write(200)
        first = past(now())
        a("SAVE")
    w.write(100)
    if kind == "archive":
        run("backup", "--from", a.address, "--to", source := tmp_path / "b.tar")
    else:
        source = a.data_dir
        assert "is in use" in run("restore", source, tmp_path / "to", code=4)
        a.stop()
    ms = moments([w.log[-100:]])[1]
    w.check(gone_back(source, ms), ms)
    out = run("restore", source, tmp_path / "to", "--new-cluster", "then", "--until", before,
              code=2)
    begin = moment(out.split("goes from ")[1].split(" to ")[0])
    assert before < begin <= first + 1
    assert not (tmp_path / "to").exists() and not (tmp_path / "to.restoring").exists()
    b = gone_back(source, begin)
    w.check(b, begin)


def test_not_before_what_a_full_sync_brought(processes, tmp_path):
    """Which the history has, as long as the server does; without it, not before the checkpoint that
    was made then."""
    a, b = c = Cluster(2, **QUICK).start()
    writers = [Writer(s, s.name) for s in c]
    for w in writers:
        w.write(20)
    c.sync()
    c.pause()
    writers[1].write(20)
    before = past(now())
    writers[0].write(20)
    b.stop()
    forget(a)
    writers[0].c = a.connect()
    a("CRDT.PEER", "PAUSE", "*")
    writers[0].write(20)
    b.start()
    writers[1].c = b.connect()
    c.resume()
    until(lambda: b("GET", "a:count") == b"60")
    joined = past(now())
    writers[1].write(20)
    middle = past(now())
    assert b"full_syncs_joined:1" in b("INFO", "replication")
    writers[1].write(40)
    end = past(now())
    run("backup", "--history", "--from", b.address, "--to", archive := tmp_path / "b.tar")
    for ms in (joined, middle, end):
        x = gone_back(archive, ms, "b")
        assert [w.check(x, ms) for w in writers] == [60, {joined: 40, middle: 60}.get(ms, 100)]
        x.dispose()
    out = run("restore", archive, tmp_path / "to", "--new-cluster", "then", "--until", before,
              code=2)
    begin = moment(out.split("is not covered: what is there goes from ")[1].split(" to ")[0])
    assert before < begin <= joined + 1
    gone_back(archive, begin, "b").dispose()
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["tar", "xf", archive, "-C", data], check=True)
    stage, = data.glob("stage-*")
    checkpoint, = data.glob("checkpoint-*")
    checkpoint.rename(tmp_path / "aside")
    x = gone_back(data, middle, "b")    # from the log alone, which holds it
    assert [w.check(x, middle) for w in writers] == [60, 60]
    x.dispose()
    stage.unlink()                      # as where checkpoints have made it superfluous
    (tmp_path / "aside").rename(checkpoint)
    out = run("restore", data, tmp_path / "to", "--new-cluster", "then", "--until", before, code=2)
    assert before < moment(out.split("goes from ")[1].split(" to ")[0]) <= joined + 1
    x = gone_back(data, end, "b")
    assert [w.check(x, end) for w in writers] == [60, 100]


def test_two_replicas_go_back_to_the_same(tmp_path):
    c = Cluster(2).start()
    a, b = c
    writers = [Writer(s, s.name) for s in c]
    c.sync()
    a("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    for _ in range(30):
        for w in writers:
            w.write(3)
    middle = past(now())
    a("FUNCTION", "LOAD", "REPLACE",
      "#!lua name=lib\nredis.register_function('f', function() return 2 end)")
    c.pause()                           # what b writes now, a logs later, behind its own
    for w in writers:
        w.write(30)
    late = past(now())
    writers[0].write(30)
    c.sync()
    a.kill()
    a.start()
    writers[0].c = a.connect()
    for w in writers:
        w.write(10)
    c.sync()
    for s in c:
        run("backup", "--history", "--from", s.address, "--to", tmp_path / f"{s.name}.tar")
    for ms, answer in [(middle, 1), (late, 2), (moments([w.log for w in writers])[2], None)]:
        x = gone_back(tmp_path / "a.tar", ms, "a", sync_interval="200ms")
        y = gone_back(tmp_path / "b.tar", ms, "b", peers=[x.address], sync_interval="200ms")
        for s in (x, y):
            counts = [w.check(s, ms) for w in writers]
            assert int(s("GET", "sum") or 0) == sum(counts)
            if answer:
                assert s("FCALL", "f", 0) == answer
        until(lambda: all(b"up" in repr_of(s("CRDT.PEERS")) for s in (x, y)))
        x("CRDT.SYNC", 20_000)
        y("CRDT.SYNC", 20_000)
        until(lambda: x("CRDT.DIGEST") == y("CRDT.DIGEST"))
        x("INCR", "sum")
        until(lambda: int(y("GET", "sum")) == sum(counts) + 1)
        x.dispose()
        y.dispose()
    c.pause()
    for s in c:
        s.dispose()


def repr_of(x) -> bytes:
    return repr(x).encode()


def test_the_former_cluster_is_refused_and_its_directories_are(server, tmp_path):
    settings = {"sync_interval": "100ms", "retry_interval": "50ms"}
    a = server("a", **settings)
    b = server("b", peers=[a.address], **settings)
    a("SET", "k", "before")
    ms = past(now())
    a("SET", "k", "after")
    until(lambda: b("GET", "k") == b"after")
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")
    a.stop()
    # at the address that b calls
    old = Server("a", directory=tmp_path / "x")
    old.directory.mkdir()
    old.port, old.http_port = a.port, a.http_port
    old.settings = {"cluster_name": "then", **settings}
    run("restore", tmp_path / "b.tar", old.data_dir, "--new-cluster", "then", "--until", ms)
    old.start()
    until(lambda: any(b"wrong cluster" in repr_of(p) for p in b("CRDT.PEERS")))
    old("CRDT.PEER", "ADD", b.address)
    until(lambda: any(b"wrong cluster" in repr_of(p) for p in old("CRDT.PEERS")))
    assert old("GET", "k") == b"before" and b("GET", "k") == b"after"
    # nobody of the former cluster is known
    assert b"'b'" not in repr_of(old("CRDT.MEMBERS"))
    # its directory does not come in under the new name, an empty one does
    b.stop()
    b.settings = {"cluster_name": "then", **settings}
    b.start(wait=False)
    assert b.process.wait(30) == 4
    b.process = None
    assert "belongs to cluster 'default', but cluster_name is 'then'" in b.log()
    shutil.rmtree(b.data_dir)
    b.peers = [old.address]
    b.start()
    until(lambda: b("GET", "k") == b"before")
    # and the restored one starts under no other
    old.stop()
    old.settings = settings
    old.start(wait=False)
    assert old.process.wait(30) == 4
    old.process = None
    assert "belongs to cluster 'then', but cluster_name is 'default'" in old.log()


def test_no_number_is_used_twice(server, tmp_path):
    """What is left out stays with its actors: the next process is another one."""
    a = server("a")
    a("SET", "k", 1)
    ms = past(now())
    a("INCR", "k")
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")
    clock = {x.rpartition(b"=")[0] for x in a("CRDT.CLOCK", "TOKEN").split(b",")}
    b = gone_back(tmp_path / "b.tar", ms)
    assert b("GET", "k") == b"1"
    b("SET", "k", "other")
    after = dict(x.rsplit(b"=", 1) for x in b("CRDT.CLOCK", "TOKEN").split(b","))
    assert len(after) == 2 and clock < set(after)
    assert int(after[clock.pop()]) == 1


def test_deadlines_and_keys_at_home(server, tmp_path):
    a = server("a", local_keys="home:*")
    a("SET", "home:a", 1)
    a("SET", "short", 1, "PX", 100)
    a("SET", "long", 1, "EX", 5000)
    a("SET", "none", 1)
    for key in ("moved", "home:moved"):
        a("SET", key, 1, "EX", 5000)
    ms = past(now())
    a("PERSIST", "long")
    a("EXPIRE", "none", 4000)
    with a.connect() as c:
        c.pipeline([("MULTI",), ("SET", "home:a", 2), ("SET", "b", 2), ("DEL", "moved"),
                    ("DEL", "home:moved"), ("EXEC",)])
    end = past(now())
    until(lambda: a("GET", "short") is None)
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")
    for at, values in ((ms, [b"1", None, None, b"1", b"1", b"1", b"1"]),
                       (end, [b"2", b"2", None, b"1", b"1", None, None])):
        b = gone_back(tmp_path / "b.tar", at, local_keys="home:*")
        keys = "home:a", "b", "short", "long", "none", "moved", "home:moved"
        assert b("MGET", *keys) == values
        if at == ms:
            assert 0 < b("TTL", "long") <= 5000 and b("TTL", "none") == -1
            assert b("OBJECT", "LOCAL", "home:moved") == 1 and 0 < b("TTL", "home:moved") <= 5000
        else:
            assert b("TTL", "long") == -1 and 0 < b("TTL", "none") <= 4000
        b.restart()                     # from what it has written itself
        assert b("MGET", *keys[3:4]) == [b"1"]
        b.dispose()


def test_a_new_cluster_without_a_moment_has_all(server, tmp_path):
    a = server("a", max_segment_size="64kb")
    w = Writer(a, "w")
    w.write(100)
    a("SAVE")
    w.write(100)
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")
    b = Server("a", cluster_name="other")
    run("restore", tmp_path / "b.tar", b.data_dir, "--new-cluster", "other")
    b.start()
    assert w.check(b, now()) == 200 and b("CRDT.DIGEST")


def test_what_is_asked_wrongly_is_said(server, tmp_path):
    a = server("a")
    a("SET", "k", 1)
    run("backup", "--from", a.address, "--to", tmp_path / "b.tar")
    for argv, code, text in [
            (("--until", "1"), 2, "needs --new-cluster"),
            (("--until", "yesterday", "--new-cluster", "x"), 2, "expected a time such as"),
            (("--until", "2026-01-01T00:00:00", "--new-cluster", "x"), 2, "of which zone"),
            (("--until", "9" * 40, "--new-cluster", "x"), 2, "expected a time such as"),
            (("--new-cluster", "a b"), 2, "expected 1 to 64 letters"),
            (("--new-cluster", "x" * 65), 2, "expected 1 to 64 letters"),
            (("--new-cluster", "default"), 2, "is of cluster 'default' already")]:
        out = run("restore", tmp_path / "b.tar", tmp_path / "to", *argv, code=code)
        assert text in out and out.count("\n") == 1, out
        assert {p.name for p in tmp_path.iterdir()} == {"b.tar"}
    (tmp_path / "dir").mkdir()
    assert "neither a data directory" in run("restore", tmp_path / "dir", tmp_path / "to", code=2)


def test_what_is_damaged_leaves_nothing_behind(server, tmp_path):
    """Found by the check at the end, when all was there."""
    a = server("a")
    for i in range(100):
        a("SET", f"key:{i}", "x" * 100)
    a.stop()
    path, = a.data_dir.glob("segment-*")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    to = tmp_path / "to"
    for more in ((), ("--new-cluster", "x"), ("--new-cluster", "x", "--until", now())):
        out = run("restore", a.data_dir, to, *more, code=4)
        assert "damaged record" in out and not list(tmp_path.iterdir())
    assert "nothing was restored, for what came is damaged" in run("restore", a.data_dir, to,
                                                                   code=4)


@pytest.mark.parametrize("text, ms", [
    ("2026-11-29T01:30:00Z", 1795915800000), ("2026-11-29T02:30:00.5+01:00", 1795915800500),
    ("1795915800", 1795915800000), ("1795915800.123", 1795915800123),
    ("1795915800123", 1795915800123), ("0", 0), ("99999999999", 99999999999000),
    ("100000000000", 100000000000)])
def test_how_a_moment_is_written(text, ms):
    assert moment(text) == ms


@pytest.mark.parametrize("text", ["", "-1", "1e9", "x", "2026-11-29", "2026-11-29T01:30:00",
                                  "0001-01-01T00:00:00+14:00", "999999999999999", "1.", ".5"])
def test_what_is_no_moment(text):
    with pytest.raises(StartError):
        moment(text)


def test_a_moment_has_the_millisecond_that_it_names():
    at = datetime(2026, 11, 29, 1, 30, tzinfo=UTC)
    for i in range(1000):
        text = (at + timedelta(milliseconds=i)).isoformat(timespec="milliseconds")
        assert moment(text) == 1795915800000 + i

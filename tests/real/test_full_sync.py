"""Full syncs of real processes: who was away for longer than the log was kept comes back by itself.

What must hold: in the end the digests are equal, whatever was written meanwhile and wherever; what
was deleted stays deleted, and no increment is lost or counted twice. That is so through kill -9 of
either side at any moment, broken connections and a full disk, which cost time and nothing else.
"""
import errno
import json
import time
import urllib.error
import urllib.request
from contextlib import closing

import pytest

from crdtredis._core import record
from crdtredis.storage.format import read_batches, read_header
from tests.real.cluster import Cluster, Server, until
from tests.real.links import Links
from tests.real.test_crash import Load
from tests.respclient import ReplyError
from tests.storage.faults import KILL, Disk

QUICK = {"sync_interval": "200ms", "retry_interval": "50ms", "max_segment_size": "64kb",
         "replication_log_size": "0", "compaction_threshold": 1000}


def info(server) -> dict[str, str]:
    text = server("INFO", "replication").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def fill(server, begin: int, end: int, width: int = 20) -> None:
    """Of every type; some keys of many elements."""
    value = "v" * width
    with server.connect() as c:
        for i in range(begin, end, 500):
            c.pipeline([x for j in range(i, min(i + 500, end)) for x in (
                ("SET", f"key:{j}", f"{value} {j}"), ("HSET", f"hash:{j % 50}", j, value),
                ("HSET", "large", j, value), ("RPUSH", f"list:{j % 9}", j), ("ZADD", "z", j, j),
                ("SADD", "s", j), ("INCRBY", f"count:{j % 20}", 3), ("INCRBYFLOAT", "f", "0.5"),
                ("HINCRBY", "counts", j % 30, 2), ("EXPIRE", f"key:{j - 7}", 100_000))])


def segments(server) -> list[int]:
    return sorted(int(p.name[8:24]) for p in server.data_dir.glob("segment-*.log"))


def forget(server) -> None:
    """Checkpoints, until nothing of the log is left of what stood there before; and a restart, for
    memory holds the newest operations, too."""
    before = segments(server)[-1]
    while segments(server)[0] <= before:
        with server.connect() as c:
            c.pipeline([("SET", "filler", "x" * 4096)] * 40)
        assert server("SAVE") == b"OK"
    server.restart()


def stages(server) -> list[str]:
    return sorted(p.name for p in server.data_dir.glob("stage-*"))


def converged(*servers, within: float = 60.0) -> None:
    until(lambda: len({s("CRDT.DIGEST") for s in servers}) == 1, within)


@pytest.fixture
def pair(processes):
    def start(**settings) -> Cluster:
        return Cluster(2, **QUICK | settings).start()
    return start


def away(a, b) -> dict:
    """b is gone, a has written, deleted and counted, and its log holds none of it any more. Returns
    what there must be in the end, by key."""
    b.kill()
    fill(a, 2000, 4000)
    with a.connect() as c:
        c.pipeline([("DEL", f"key:{j}") for j in range(0, 1000, 2)] + [
            ("HDEL", "large", *range(500)), ("SREM", "s", *range(500)), ("LTRIM", "list:3", 10, -1),
            ("ZREM", "z", *range(500)), ("DEL", "hash:7", "count:3", "f"), ("INCRBY", "count:4", 9),
            ("INCRBYFLOAT", "f", "0.25"), ("PERSIST", "key:901"), ("HDEL", "counts", 5)])
    forget(a)
    return {"count:3": None, "count:4": b"%d" % (4000 // 20 * 3 + 9), "f": b"0.25",
            "key:0": None, "key:1": a("GET", "key:1")}


def check(server, expected: dict) -> None:
    assert {k: server("GET", k) for k in expected} == expected


def test_a_peer_that_was_away_for_too_long(pair):
    a, b = pair()
    fill(a, 0, 2000)
    converged(a, b)
    expected = away(a, b)
    load = Load(a)
    b.start()
    other = Load(b)
    until(lambda: info(b)["full_syncs_joined"] == "1")
    load.join()
    other.join()
    converged(a, b)
    for s in (a, b):
        check(s, expected)
        assert load.missing(s) == [] and other.missing(s) == []
    sent = [load.sent[i] + other.sent[i] for i in range(4)]
    assert [int(a("GET", f"count{i}")) for i in range(4)] == sent
    assert "is joined: " in b.log() and "was given a full sync: " in a.log()
    told = info(b)
    assert told["full_sync_error"] == ""
    assert int(told["full_sync_last_bytes"]) > 0 and int(info(a)["full_syncs_given"]) == 1
    # only what differed was asked for, once; and there is no next one
    assert told["full_syncs_joined"] == "1" and info(a)["full_syncs_joined"] == "0"
    b.restart()
    converged(a, b)


def test_a_new_replica_gets_the_state(pair, processes):
    a, b = pair()
    fill(a, 0, 3000)
    converged(a, b)
    forget(a)
    forget(b)
    new = [Server(name, [a.address], **QUICK).start() for name in ("c", "d", "e")]
    converged(a, b, *new)
    until(lambda: all(int(info(n)["full_syncs_joined"]) > 0 for n in new))
    fill(new[0], 5000, 5100)
    converged(a, b, *new)
    for n in new:
        assert len(stages(n)) == 1
        n("SAVE")
        n("SAVE")
        assert stages(n) == []                                  # both checkpoints hold it
        n.restart()
    converged(a, b, *new)


def test_a_stop_in_the_middle_of_a_join_loses_nothing(processes):
    a = Server("a", **QUICK).start()
    fill(a, 0, 2000)
    with a.connect() as c:
        for i in range(0, 300_000, 1000):
            c("SADD", "big", *range(i, i + 1000))
    forget(a)
    b = Server("b", [a.address], **QUICK).start()
    until(lambda: info(b)["full_sync_phase"] == "joining" or info(b)["full_syncs_joined"] == "1")
    assert b.stop() == 0
    b.start()
    converged(a, b)
    assert b("SCARD", "big") == 300_000
    b.restart()
    converged(a, b)


def test_both_lack_what_the_other_forgot(pair):
    a, b = servers = pair()
    fill(a, 0, 1000)
    converged(a, b)
    servers.pause()
    for s, at in ((a, 10_000), (b, 20_000)):
        fill(s, at, at + 500)
        s("INCRBY", "count:1", at)
        s("DEL", f"key:{at // 10_000}", f"hash:{at // 10_000}")
        forget(s)
    servers.resume()
    converged(a, b)
    assert int(a("GET", "count:1")) == 1000 // 20 * 3 + 30_000 + 2 * 500 // 20 * 3
    assert a("EXISTS", "key:1", "key:2") == 0
    # and that is all, however often clocks are compared from here on
    load = Load(a)
    after_rounds(servers, 5)
    counts = [info(s)["full_syncs_joined"] for s in servers]
    assert sorted(counts) in (["0", "1"], ["1", "1"]), counts
    after_rounds(servers, 10)
    load.join()
    converged(a, b)
    assert [info(s)["full_syncs_joined"] for s in servers] == counts


def after_rounds(servers, n: int) -> None:
    before = [rounds(s) for s in servers]
    until(lambda: all(rounds(s) > b + n for s, b in zip(servers, before)))


def stats(server) -> dict:
    with urllib.request.urlopen(f"http://{server.address}/stats", timeout=10) as r:
        return json.load(r)


def rounds(server) -> int:
    return sum(p["counts"]["anti_entropy_rounds"] for p in stats(server)["peers"])


def test_the_connection_breaks_in_the_middle(processes):
    with closing(Links()) as links:
        a = Server("a", **QUICK | {"replication_rate_limit": "200kb"}).start()
        fill(a, 0, 5000, width=200)
        forget(a)
        link = links.to(a.http_port)
        b = Server("b", [link.address], **QUICK).start()
        for part in range(1, 4):
            until(lambda n=part: int(info(b)["full_sync_bytes"]) > n * 100_000)
            link.cut()
            time.sleep(0.1)
            link.mend()
        a("CONFIG", "SET", "replication-rate-limit", "0")
        until(lambda: info(b)["full_syncs_joined"] == "1")
        converged(a, b)
        assert info(b)["full_syncs_failed"] == "0"
        assert "it goes on" in b.log() and info(a)["full_syncs_given"] == "1"


@pytest.mark.parametrize("call, match", [
    ("create", "stage-"), ("write", "stage-"), ("fdatasync", "stage-"), ("rename", "stage-"),
    ("create", "segment-"), ("fdatasync", "segment-"), ("rename", "segment-"),
    ("unlink", "stage-")])
def test_the_receiver_is_killed_at_each_call(processes, call, match):
    a = Server("a", **QUICK).start()
    fill(a, 0, 3000)
    forget(a)
    size = a("DBSIZE")
    b = Server("b", [a.address], **QUICK)
    disk = Disk(b.data_dir)
    b.start(**disk.environment)
    # of its own log the first segment is there; the next one is the join's
    disk.fail(call, match, KILL)
    if call == "unlink":
        until(lambda: info(b)["full_syncs_joined"] == "1")
        with pytest.raises((OSError, EOFError)):
            b("SAVE")
            b("SAVE")
    until(lambda: b.process.poll() is not None)
    b.process = None
    b._disconnect()
    disk.heal()
    b.start(**disk.environment)
    converged(a, b)
    assert b("DBSIZE") == size
    b("SET", "later", "x")
    converged(a, b)
    b.restart()
    converged(a, b)


@pytest.mark.parametrize("side", ["giver", "receiver"])
@pytest.mark.parametrize("phase", ["comparing", "receiving", "waiting to join", "joining", "after"])
def test_killed_in_each_phase(pair, side, phase):
    a, b = pair(replication_rate_limit="2mb")
    fill(a, 0, 2000)
    converged(a, b)
    expected = away(a, b)
    b.start()
    mine = a if side == "giver" else b
    until(lambda: info(b).get("full_sync_phase") == phase.replace(" ", "-")
          or int(info(b).get("full_syncs_joined", 0)) > 0)
    load = Load(b if mine is a else a)
    mine.kill()
    mine.start()
    until(lambda: len(load.acknowledged) > 500)
    load.join()
    converged(a, b)
    for s in (a, b):
        check(s, expected)
        assert load.missing(s) == []
        load.check_counters(s)


def test_a_full_disk_while_it_is_staged(processes):
    a = Server("a", **QUICK).start()
    fill(a, 0, 3000)
    forget(a)
    b = Server("b", [a.address], **QUICK)
    disk = Disk(b.data_dir)
    rule = disk.fail("write", "stage-", errno.ENOSPC)
    b.start(**disk.environment)
    until(lambda: int(info(b).get("full_syncs_failed", 0)) >= 2)
    assert b("DBSIZE") == 0 and b("SET", "own", "x") == b"OK" and disk.hits(rule) >= 2
    assert "No space left" in info(b)["full_sync_error"]
    assert "No space left" in json.dumps(health(b))
    disk.heal()
    converged(a, b)
    assert a("GET", "own") == b"x"
    until(lambda: info(b)["full_sync_error"] == "")


def health(server) -> dict:
    try:
        with urllib.request.urlopen(f"http://{server.address}/health", timeout=10) as r:
            return json.load(r)
    except urllib.error.HTTPError as e:
        return json.load(e)


def test_repair_takes_what_differs(pair):
    a, b = pair()
    fill(a, 0, 2000)
    converged(a, b)
    a("SET", "one", "x")
    until(lambda: len(b("CRDT.CLOCK")) == 4)                    # it has said who it is: its only op
    converged(a, b)
    reply = b("CRDT.REPAIR", "a")
    found = dict(zip(reply[::2], reply[1::2]))
    assert found[b"buckets"] == 0 and found[b"bytes"] < 10_000
    converged(a, b)
    with pytest.raises(ReplyError, match="No such peer"):
        b("CRDT.REPAIR", "nobody")
    b("CRDT.PEER", "PAUSE", "*")
    with pytest.raises(ReplyError, match="Not repaired: there is no connection"):
        b("CRDT.REPAIR", "a")


def test_the_rate_is_kept_and_makes_the_giver_pack(processes):
    a = Server("a", **QUICK | {"replication_rate_limit": "300kb"}).start()
    fill(a, 0, 4000, width=200)
    forget(a)
    b = Server("b", [a.address], **QUICK).start()
    until(lambda: info(b)["full_syncs_joined"] == "1")
    told, given = info(b), int(info(a)["full_sync_given_bytes"])
    assert given / float(told["full_sync_last_seconds"]) < 400_000
    assert given < int(told["full_sync_last_bytes"]) / 2
    converged(a, b)


def test_reads_go_on_while_writes_wait(processes):
    """The join of a state of some size: nobody who reads waits for it, and no write is lost."""
    a = Server("a", **QUICK).start()
    fill(a, 0, 20_000)
    forget(a)
    b = Server("b", [a.address], **QUICK).start()
    load = Load(b)
    slowest = 0.0
    with b.connect() as c:
        while info(b)["full_syncs_joined"] == "0":
            begun = time.monotonic()
            c("GET", "key:1")
            slowest = max(slowest, time.monotonic() - begun)
    load.join()
    converged(a, b)
    assert load.missing(a) == [] and load.missing(b) == []
    assert slowest < 1.0


def falsify(server, before: bytes, after: bytes) -> None:
    """Change bytes of the log of a stopped server, as no checksum notices: as a fault in a program
    or in a memory would."""
    path, = server.data_dir.glob("segment-*.log")
    with open(path, "rb") as f:
        end = path.stat().st_size
        begin = read_header(f.fileno()).size
        records = [payload for payload, _, _ in read_batches(f.fileno(), begin, end, 1)]
        f.seek(0)
        head = f.read(begin)
    assert any(before in r for r in records)
    path.write_bytes(head + b"".join(record(r.replace(before, after)) for r in records))


def verdict(server, *peer) -> dict:
    """Of a comparison in which nothing changed: what did is not compared, and so not told."""
    def told():
        reply, = server("CRDT.VERIFY", *peer)
        found = dict(zip(reply[::2], reply[1::2]))
        return found if found.get(b"compared") == 4096 else None
    return until(told)


def test_a_difference_is_found_and_named(pair):
    a, b = pair(verify_interval="1s", max_segment_size="64mb")
    fill(a, 0, 1000)
    a("SET", "the key", "the value")
    converged(a, b)
    assert verdict(a) == {b"peer": b"b", b"compared": 4096, b"differ": 0, b"keys": []}
    assert b.stop() == 0
    falsify(b, b"the value", b"a faulty!")
    b.start()
    until(lambda: a("CRDT.PEERS")[0].startswith(f"http://{b.address} b: up".encode()))
    assert verdict(a, "b") == {b"peer": b"b", b"compared": 4096, b"differ": 1,
                               b"keys": [[0, b"the key"]]}
    until(lambda: "the key" in json.dumps(health(b)))           # by itself
    assert info(b)["differing_peers"] == "1"
    until(lambda: a("CRDT.CLOCK") == b("CRDT.CLOCK"))
    reply = b("CRDT.REPAIR", "a")
    assert dict(zip(reply[::2], reply[1::2]))[b"buckets"] == 1
    assert b("GET", "the key") == b"the value"
    converged(a, b)
    until(lambda: info(b)["differing_peers"] == "0")
    assert verdict(a)[b"differ"] == 0
    with pytest.raises(ReplyError, match="No such peer"):
        a("CRDT.VERIFY", "nobody")


def test_writes_that_go_on_are_no_difference(pair):
    a, b = pair()
    until(lambda: b": up" in b("CRDT.PEERS")[0])
    load = Load(a)
    reply, = b("CRDT.VERIFY")
    load.join()
    found = dict(zip(reply[::2], reply[1::2]))
    assert found.get(b"differ") == 0 or b"were not equal within 5 s" in found[b"error"]
    converged(a, b)
    assert b("CRDT.VERIFY")[0][5] == 0


def test_a_caller_whose_record_no_log_holds_is_called(processes):
    """b knows a's address, a knows b by nothing but its record, which has not come."""
    a = Server("a", **QUICK).start()
    b = Server("b", [a.address], **QUICK).start()
    fill(a, 0, 500)
    converged(a, b)
    a.kill()
    for path in a.data_dir.iterdir():   # a lost all it had, and what it is told of no log has
        path.unlink()
    fill(b, 500, 1500)
    forget(b)
    a.start()
    converged(a, b)
    until(lambda: info(a)["full_syncs_joined"] == "1")      # a moment after the state is there
    assert a("EXISTS", "key:3", "key:1400") == 2


@pytest.fixture
def one_way(processes):
    """b can call a, and a has lost all it had. What it lacks no log of b holds."""
    def start(**settings) -> tuple[Server, Server]:
        settings = QUICK | {"peer_discovery": False} | settings
        a = Server("a", **settings).start()
        b = Server("b", [a.address], **settings).start()
        fill(a, 0, 500)
        converged(a, b)
        a.kill()
        for path in a.data_dir.iterdir():
            path.unlink()
        fill(b, 500, 3000)
        forget(b)
        a.start()
        return a, b
    return start


def test_who_cannot_call_is_given_the_state_on_a_connection_from_the_giver(one_way):
    a, b = one_way()
    load = Load(b)
    until(lambda: info(a)["full_syncs_joined"] == "1")
    load.join()
    converged(a, b)
    assert a("CRDT.PEERS") == [] and a("EXISTS", "key:3", "key:2900") == 2
    assert load.missing(a) == []
    assert "is joined: " in a.log() and "was given a full sync: " in b.log()
    # and what is written after goes as ever, both ways
    a("SET", "here", 1), b("SET", "there", 1)
    until(lambda: a("EXISTS", "here", "there") == b("EXISTS", "here", "there") == 2)
    until(lambda: b": up" in b("CRDT.PEERS")[0])


@pytest.mark.parametrize("side", ["giver", "receiver"])
def test_either_is_killed_while_the_connection_is_lent(one_way, side):
    a, b = one_way(replication_rate_limit="200kb")
    until(lambda: info(a)["full_sync_from"] == "b" and int(info(a)["full_sync_bytes"]) > 50_000)
    killed = b if side == "giver" else a
    killed.kill()
    killed.start()
    for s in (a, b):
        s("CONFIG", "SET", "replication_rate_limit", 0)
    converged(a, b)
    assert a("EXISTS", "key:3", "key:2900") == 2

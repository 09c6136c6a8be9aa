"""Checkpoints of real processes under load: kill -9 at any moment of one, and at each call.

What must hold is what holds without them (test_crash.py): what was acknowledged is there, nothing
is counted twice, and the digest is that of a peer that never stopped.
"""
import os
import random
import threading
import time
import urllib.error
import urllib.request

import pytest

from tests.real.cluster import Server, until
from tests.real.test_crash import Load
from tests.respclient import ReplyError
from tests.storage.faults import KILL, Disk

ROUNDS = int(os.environ.get("CRDT_CHECKPOINT_ROUNDS", "6"))


def info(server) -> dict[str, str]:
    text = server("INFO", "persistence").decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


def fill(server, keys: int) -> None:
    with server.connect() as c:
        for i in range(0, keys, 500):
            c.pipeline([x for j in range(i, i + 500) for x in (
                ("SET", f"key:{j}", f"value {j}"), ("HSET", f"hash:{j % 50}", j, j),
                ("RPUSH", f"list:{j % 9}", j), ("ZADD", "z", j, j), ("SADD", "s", j),
                ("INCRBYFLOAT", f"f:{j % 20}", "0.1"), ("EXPIRE", f"key:{j - 7}", 100_000))])


def checkpoints(server) -> list[str]:
    return sorted(p.name for p in server.data_dir.glob("checkpoint-*"))


def test_a_killed_server_comes_back_from_checkpoint_and_log(server):
    a = server()
    fill(a, 20_000)
    rng = random.Random(5)
    for _ in range(ROUNDS):
        load = Load(a)
        before = [int(a("GET", f"count{i}") or 0) for i in range(4)]
        time.sleep(rng.random() / 5)
        a("BGSAVE")
        end = rng.choice(["begin", "middle", "after"])
        if end == "middle":
            time.sleep(rng.random() * 0.3)
        elif end == "after":
            until(lambda: info(a)["rdb_bgsave_in_progress"] == "0")
        a.kill()
        load.join()
        a.start()
        assert load.missing(a) == []
        for i in range(4):
            now = int(a("GET", f"count{i}") or 0)
            assert max(load.counters[i], before[i]) <= now <= before[i] + load.sent[i]
        assert all(name.endswith(".ckpt") for name in checkpoints(a)) and len(checkpoints(a)) < 3
    assert a("SAVE") == b"OK"
    digest = a("CRDT.DIGEST")
    a.restart()
    assert a("CRDT.DIGEST") == digest
    assert "keys from checkpoint-" in a.log()


def test_a_peer_that_never_stopped_agrees(cluster):
    a, b = both = cluster(2)
    fill(a, 3000)
    load, other = Load(a), Load(b)
    for _ in range(3):
        a("BGREWRITEAOF")
        until(lambda: info(a)["aof_rewrite_in_progress"] == "0")
    a.kill()
    load.join()
    a.start()
    other.join()
    both.assert_converged(within=30)
    assert a.log().count("keys from checkpoint-") == 1


def test_one_at_a_time(server):
    a = server()
    fill(a, 20_000)
    assert a("BGSAVE") == b"Background saving started"
    with pytest.raises(ReplyError, match="ERR Background save already in progress"):
        a("BGSAVE")
    with pytest.raises(ReplyError, match="ERR Background append only file rewriting already"):
        a("BGREWRITEAOF")
    until(lambda: info(a)["rdb_bgsave_in_progress"] == "0")
    told = info(a)
    assert (told["rdb_saves"], told["rdb_last_bgsave_status"]) == ("1", "ok")
    assert int(told["checkpoint_bytes"]) == (a.data_dir / checkpoints(a)[0]).stat().st_size
    assert a("BGSAVE") == b"Background saving started"


def test_closed_segments_trigger_one(server):
    a = server(max_segment_size="1mb", compaction_threshold=3)
    fill(a, 20_000)
    until(lambda: checkpoints(a) and info(a)["rdb_bgsave_in_progress"] == "0")
    digest = a("CRDT.DIGEST")
    a.restart()
    assert a("CRDT.DIGEST") == digest


def segments(server) -> list[int]:
    return [int(p.name[8:24]) for p in sorted(server.data_dir.glob("segment-*.log"))]


def disk_use(server) -> int:
    total = 0
    for p in server.data_dir.iterdir():
        try:
            total += p.stat().st_size
        except FileNotFoundError:           # removed meanwhile
            pass
    return total


def metrics(server) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10) as r:
        lines = r.read().decode().splitlines()
    return {name: float(value) for line in lines if line[0] != "#" and "{" not in line
            for name, value in [line.split(" ")]}


def idle(server) -> None:
    until(lambda: info(server)["rdb_bgsave_in_progress"] == "0")


@pytest.mark.parametrize("load", ["counter", "queue"])
def test_disk_use_follows_the_live_data(server, load):
    a = server(max_segment_size="64kb", compaction_threshold=4, appendfsync="no")
    commands = {"counter": [("INCR", "n")] * 1000,
                "queue": [x for i in range(500) for x in (("RPUSH", "q", f"job {i}"),
                                                          ("LPOP", "q"))]}[load]
    most = 0
    with a.connect() as c:
        for saves in range(1, 9):
            written = segments(a)[-1] + 8
            while segments(a)[-1] < written:
                c.pipeline(commands)
                most = max(most, disk_use(a))
            until(lambda: int(info(a)["rdb_saves"]) >= saves)
    idle(a)
    # what was written between three checkpoints, at most
    assert most < 40 * (64 << 10) < segments(a)[-1] * (64 << 10)
    assert segments(a)[0] > 20 and "no checkpoint was made" not in a.log(1000)
    told = info(a)
    assert int(told["log_first_segment"]) == segments(a)[0]
    assert int(told["log_removed_segments"]) == segments(a)[0] - 1
    assert (told["log_kept_segments"], told["log_kept_bytes"]) == ("0", "0")
    found = metrics(a)
    assert found["crdt_redis_log_removed_segments_total"] == segments(a)[0] - 1
    assert found["crdt_redis_log_kept_bytes"] == 0
    assert found["crdt_redis_checkpoints_total"] == int(told["rdb_saves"])
    digest, n = a("CRDT.DIGEST"), a("GET", "n")
    a.kill()
    a.start()
    assert a("CRDT.DIGEST") == digest and a("GET", "n") == n


def test_the_log_waits_for_a_peer_within_its_bound(cluster):
    a, b = both = cluster(2, max_segment_size="64kb", replication_log_size="2mb",
                          sync_interval="200ms", retry_interval="50ms")
    both.assert_converged(within=30)
    b.stop()
    first = segments(a)[-1]
    fill(a, 3000)
    for _ in range(3):
        assert a("SAVE") == b"OK"
    assert segments(a)[0] <= first and int(info(a)["log_kept_bytes"]) > 0
    assert metrics(a)["crdt_redis_log_kept_bytes"] == int(info(a)["log_kept_bytes"])
    b.start()                               # it gets all of it from the log
    both.assert_converged(within=30)

    def freed():
        assert a("SAVE") == b"OK"
        return info(a)["log_kept_bytes"] == "0"

    until(freed)
    b.stop()
    fill(a, 20_000)
    for _ in range(3):
        assert a("SAVE") == b"OK"
    assert 0 < int(info(a)["log_kept_bytes"]) <= 2 << 20
    assert "b may lack operations that stood before" in a.log(1000)
    assert b"it has been away for more than replication_log_size" in health(a)
    assert a("CONFIG", "SET", "replication-log-size", "0") == b"OK" and a("SAVE") == b"OK"
    assert info(a)["log_kept_bytes"] == "0"
    digest = a("CRDT.DIGEST")
    a.restart()
    knows_its_peers(a)
    assert a("CRDT.DIGEST") == digest
    # Without a full sync it is told, and what it has stays as it is.
    b.start()
    until(lambda: b"needs a full sync" in health(a))
    assert a("CRDT.DIGEST") == digest


def health(server) -> bytes:
    try:
        with urllib.request.urlopen(f"http://{server.address}/health", timeout=10) as r:
            return r.read()
    except urllib.error.HTTPError as e:
        return e.read()


def knows_its_peers(server) -> None:
    """Before that, the log is kept for whoever there may be."""
    until(lambda: server.log(1000).rfind("ready, ") > server.log(1000).rfind("connect with: "))


@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("power", [False, True])
def test_killed_between_two_removals(processes, step, power):
    """The checkpoint before last goes first, then segments: whatever is left, a start brings all of
    it back, and from the older checkpoint, too, when the newest is damaged."""
    a = Server("a", max_segment_size="64kb", appendfsync="always")
    disk = Disk(a.data_dir)
    a.start(**disk.environment)
    knows_its_peers(a)
    for _ in range(2):
        fill(a, 2000)
        assert a("SAVE") == b"OK"
    fill(a, 500)
    digest, before = a("CRDT.DIGEST"), segments(a)
    disk.fail("unlink", "", KILL, skip=step)
    with pytest.raises((OSError, EOFError)):
        a("SAVE")
    a.process.wait()
    a.process = None
    a._disconnect()
    disk.heal()
    assert segments(a) == before[max(step - 1, 0):]
    if power:
        disk.power_loss(random.Random(step))
    newest = a.data_dir / checkpoints(a)[-1]
    for damage in (False, True):
        if damage:
            whole = newest.read_bytes()
            newest.write_bytes(whole[:300] + b"\xff" + whole[301:])
        a.start()
        assert a("CRDT.DIGEST") == digest
        a.kill()
    a.start()
    knows_its_peers(a)
    for _ in range(3):
        assert a("SAVE") == b"OK"
    assert segments(a)[0] > before[0] + 6 and len(checkpoints(a)) == 2
    a.restart()
    assert a("CRDT.DIGEST") == digest


def test_killed_at_any_time_while_the_log_is_shortened(server):
    a = server(max_segment_size="64kb", compaction_threshold=2)
    rng, first = random.Random(11), 1
    fill(a, 500)
    for _ in range(ROUNDS):
        before = [int(a("GET", f"count{i}") or 0) for i in range(4)]
        load, saves = Load(a), rng.randrange(1, 4)
        while int(info(a)["rdb_saves"]) < saves:
            fill(a, 500)
        time.sleep(rng.random() / 2)
        a.kill()
        load.join()
        a.start()
        assert load.missing(a) == []
        for i in range(4):
            now = int(a("GET", f"count{i}") or 0)
            assert max(load.counters[i], before[i]) <= now <= before[i] + load.sent[i]
        assert segments(a)[0] >= first
        first = segments(a)[0]
    assert first > 1
    numbers = segments(a)
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_save_waits_for_one_that_is_under_way_and_schedules_another(server):
    a = server()
    fill(a, 20_000)
    assert a("BGSAVE") == b"Background saving started"
    assert a("BGSAVE", "SCHEDULE") == b"Background saving scheduled"
    assert info(a)["aof_rewrite_scheduled"] == "1"
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(saved(a))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert replies == [b"OK"] * 3
    idle(a)
    assert info(a)["rdb_saves"] in ("2", "3") and info(a)["aof_rewrite_scheduled"] == "0"


def saved(server) -> bytes:
    with server.connect() as c:
        return c.pipeline([("SAVE",)])[0]


@pytest.mark.parametrize("call", ["create", "write", "fdatasync", "rename", "unlink"])
def test_killed_at_each_call(processes, call):
    a = Server("a")
    disk = Disk(a.data_dir)
    a.start(**disk.environment)
    fill(a, 2000)
    for _ in range(2):                      # a third one removes the first
        assert a("SAVE") == b"OK"
    a("SET", "k", "v")
    digest = a("CRDT.DIGEST")
    disk.fail(call, "checkpoint-", KILL)
    with pytest.raises((OSError, EOFError)):
        a("SAVE")
    a.process.wait()
    a.process = None
    a._disconnect()
    disk.heal()
    a.start()
    assert a("CRDT.DIGEST") == digest
    assert a("SAVE") == b"OK"
    assert len(checkpoints(a)) == 2

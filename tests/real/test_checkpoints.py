"""Checkpoints of real processes under load: kill -9 at any moment of one, and at each call.

What must hold is what holds without them (test_crash.py): what was acknowledged is there, nothing
is counted twice, and the digest is that of a peer that never stopped.
"""
import os
import random
import time

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
        assert all(name.endswith(".ckpt") for name in checkpoints(a)) and len(checkpoints(a)) < 2
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


@pytest.mark.parametrize("call", ["create", "write", "fdatasync", "rename", "unlink"])
def test_killed_at_each_call(processes, call):
    a = Server("a")
    disk = Disk(a.data_dir)
    a.start(**disk.environment)
    fill(a, 2000)
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
    assert len(checkpoints(a)) == 1

"""Processes that end with the memory of their machine: nothing of them stays but their names, and
nothing that was removed comes back."""
import json
import shutil
import urllib.request
from dataclasses import replace

import pytest

from crdtredis.replication import ended
from tests.real.cluster import until

COUNTERS = 300
ENDS = 5


def tombstones(s) -> int:
    return info(s)["tombstones"]


def info(s) -> dict:
    lines = [line.split(":", 1) for line in s("INFO", "crdt").decode().splitlines() if ":" in line]
    return {k: int(v) if v.isdigit() else v for k, v in lines}


def health(s) -> dict:
    with urllib.request.urlopen(f"http://{s.address}/health") as reply:
        return json.load(reply)


def end(s) -> None:
    """As a container that is killed: no testimony, no witness."""
    s.kill()
    s.witness.unlink()


def count(s, n: int = COUNTERS) -> None:
    with s.connect() as c:
        c.pipeline([["INCR", f"c:{i}"] for i in range(n)])


def remove(s, n: int = COUNTERS) -> None:
    with s.connect() as c:
        c.pipeline([["DEL", f"c:{i}"] for i in range(n)])


def leave_tombstones(pair) -> None:
    """A process of b ends before it sees its counters removed."""
    a, b = pair
    count(b)
    pair.sync()
    end(b)
    remove(a)
    b.start()
    pair.sync()


def end_one(pair) -> None:
    """And nothing of it stays."""
    leave_tombstones(pair)
    gone(pair)


def met(c):
    """c, when all are members to each."""
    until(lambda: all(len(s("CRDT.MEMBERS")) == len(c) for s in c))
    return c


@pytest.fixture
def pair(cluster):
    return met(cluster(2, gc_interval="50ms", sync_interval="200ms", retry_interval="50ms"))


def gone(c) -> None:
    for s in c:
        until(lambda s=s: tombstones(s) == 0)
    c.sync()
    for s in c:
        assert s("DBSIZE") == 0
    c.assert_converged()


def test_a_cache_of_counters_gets_its_memory_back(pair):
    """Each life leaves some 300 KB of tombstones; in the end there are none, and what they took is
    free."""
    a, b = pair
    for s in pair:
        s("CONFIG", "SET", "maxmemory", "4mb")
    before = [int(s("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0]) for s in pair]
    for life in range(ENDS):
        count(a, 2500)
        pair.sync()
        end(a)
        remove(b, 2500)
        a.start()
        pair.sync()
        gone(pair)
    for s in pair:
        s("MEMORY", "PURGE")
        assert info(s)["ended_processes_closed"] == ENDS
        used = int(s("INFO", "memory").split(b"used_memory:")[1].split(b"\r")[0])
        assert used - before[list(pair).index(s)] < 200_000


def test_all_end_at_once(pair):
    a, b = pair
    count(a)
    count(b)
    pair.sync()
    remove(a)
    pair.sync()
    for s in pair:
        end(s)
    for s in pair:
        s.start()
    pair.sync()
    gone(pair)


def test_an_older_directory_brings_nothing_back(pair):
    a, b = pair
    count(b)
    pair.sync()
    b.stop()
    copy = b.data_dir.with_name("copy")
    shutil.copytree(b.data_dir, copy)
    b.start()
    pair.sync()
    count(b)
    pair.sync()
    end(b)
    remove(a)
    b.start()
    pair.sync()
    gone(pair)
    end(b)
    shutil.rmtree(b.data_dir)
    copy.rename(b.data_dir)
    b.start()
    pair.sync()
    gone(pair)


def test_who_is_away_is_waited_for(cluster):
    c = met(cluster(3, gc_interval="50ms", sync_interval="200ms", retry_interval="50ms"))
    a, b, away = c
    count(b)
    c.sync()
    away.stop()
    end(b)
    remove(a)
    b.start()
    until(lambda: info(a)["ended_processes_wait_for"] == away.name)
    assert tombstones(a) == COUNTERS
    away.start()
    c.sync()
    gone(c)
    for s in c:
        assert info(s)["ended_processes_wait_for"] == ""


def test_a_peer_that_was_never_met_is_waited_for(pair):
    a, b = pair
    count(b)
    pair.sync()
    a("CRDT.PEER", "ADD", "127.0.0.1:1")
    end(b)
    remove(a)
    b.start()
    until(lambda: info(b)["tombstones"] == COUNTERS)
    until(lambda: info(a)["ended_processes_wait_for"] == "http://127.0.0.1:1")
    assert tombstones(a) == COUNTERS and info(a)["ended_processes_frozen"] == 0
    a("CRDT.PEER", "REMOVE", "127.0.0.1:1")
    gone(pair)


def test_what_was_frozen_outlives_the_process(pair):
    a, b = pair
    end_one(pair)
    b.stop()
    a.kill()
    a.start()
    assert info(a)["ended_processes_frozen"] == 1
    b.start()
    until(lambda: all(info(s)["ended_processes_closed"] == 1 for s in pair))


@pytest.mark.parametrize("left", [0, 100])
def test_what_was_frozen_is_told_again_where_it_was_damaged(pair, left):
    a, b = pair
    end_one(pair)
    a.kill()
    kept = a.data_dir / "ended.json"
    kept.write_bytes(kept.read_bytes()[:left])
    a.start()
    pair.sync()
    for s in pair:
        until(lambda s=s: info(s).get("ended_processes_closed") == 1)
    assert ("damaged" in a.log()) == (left > 0)


def test_on_no_more_than_so_many_is_agreed(pair):
    """Of further ones what is there stays, and all else goes on."""
    a, b = pair
    end_one(pair)
    for s in pair:
        s.kill()
    for s in pair:
        kept = s.data_dir / ended.NAME
        acks = ended.decode(kept.read_bytes())
        last = [dict(k.last) for k in acks]
        for k in last:
            k |= {n: 1 for n in range(1, ended.MOST + 1 - len(k))}
        kept.write_bytes(ended.encode(replace(k, last=x) for k, x in zip(acks, last)))
        s.start()
    pair.sync()
    gone(pair)
    leave_tombstones(pair)
    for s in pair:
        until(lambda s=s: tombstones(s) == COUNTERS)    # of the process that was agreed on none
        assert any("on no more" in w for w in health(s)["warnings"])
    count(a)
    pair.sync()
    pair.assert_converged()
    assert {s("GET", "c:0") for s in pair} == {b"1"}

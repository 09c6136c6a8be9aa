"""Servers on disks that fill, fail, stall and lose their power: what was acknowledged under which
promise, and what heals by itself.

The disk is simulated below the C library of the real process (tests/storage/faults.py).
"""
import errno
import json
import os
import random
import time
import urllib.error
import urllib.request

import pytest

from crdtredis.storage import check
from crdtredis.storage.format import segment_numbers, segment_path
from tests.real.cluster import Server
from tests.respclient import ReplyError
from tests.storage.faults import Disk


@pytest.fixture
def on_disk(processes):
    """on_disk(name, **settings): a server that is not started yet, and its disk."""
    disks = []

    def make(name="a", **settings):
        server = Server(name, **({"sync_interval": "200ms", "retry_interval": "50ms"} | settings))
        disks.append(Disk(server.data_dir))
        return server, disks[-1]
    yield make
    for disk in disks:
        disk.close()


def begin(server, disk, wait=True):
    server.start(wait=wait, **disk.environment)


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.02)


def health(server):
    try:
        with urllib.request.urlopen(f"http://{server.address}/health", timeout=10) as r:
            return r.status, json.load(r)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


def damage_and_repair(server):
    """Some of what the stopped server had acknowledged is lost."""
    path = segment_path(server.data_dir, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2] + b"\xff\xff\xff" + whole[len(whole) // 2 + 3:])
    assert check.main(str(server.data_dir), True) == 0


def accepted(server, *argv):
    try:
        return server(*argv) == b"OK"
    except ReplyError as e:
        assert str(e).startswith("MISCONF"), e
        return False


def fill_until_refused(server, prefix, size=3000):
    """{key: value} of what was acknowledged before a write was refused."""
    held = {}
    for i in range(10_000):
        if not accepted(server, "SET", f"{prefix}{i}", value := f"{i}:" + "x" * size):
            return held
        held[f"{prefix}{i}"] = value
    raise AssertionError("never refused")


def missing(server, held):
    with server.connect() as c:
        found = c.pipeline([["GET", k] for k in held])
    return [k for (k, v), reply in zip(held.items(), found) if reply != v.encode()]


# ---- what a promise is worth ---------------------------------------------------------------------


def test_with_always_what_was_acknowledged_survives_any_loss_of_power(on_disk):
    a, disk = on_disk(appendfsync="always", max_segment_size="64kb")
    rng = random.Random(1)
    held = {}
    for life in range(4):
        begin(a, disk)
        assert missing(a, held) == []
        with a.connect() as c:
            for i in range(60):
                keys = [f"{life}:{i}:{j}" for j in range(rng.randrange(1, 4))]
                c.pipeline([["SET", k, k * 50] for k in keys])
                held |= {k: k * 50 for k in keys}
        a.kill()
        disk.power_loss(rng if life % 2 else None)
    begin(a, disk)
    assert missing(a, held) == [] and len(held) > 300


def test_with_everysec_what_the_thread_has_synced_survives_and_the_rest_ends_at_one_place(on_disk):
    """Rotations all the time, so that power is lost around one; a stalled disk keeps several
    segments open."""
    a, disk = on_disk(max_segment_size="64kb")
    rng = random.Random(2)
    held, n, cut = {}, 0, False
    for life in range(6):
        begin(a, disk)
        assert missing(a, held) == []
        there = int(a("GET", "last") or -1)
        n = there + 1
        rule = disk.fail("fdatasync", "segment", skip=rng.randrange(1, 4), delay=60)
        with a.connect() as c:
            while not disk.hits(rule):
                c.pipeline([x for i in range(n, n + 20)
                            for x in (["SET", f"k{i}", f"{i}:" + "y" * 500], ["SET", "last", i])])
                n += 20
            # several segments that are never synced
            for _ in range(25):
                c.pipeline([x for i in range(n, n + 20)
                            for x in (["SET", f"k{i}", f"{i}:" + "y" * 500], ["SET", "last", i])])
                n += 20
        a.kill()
        disk.heal()
        disk.power_loss(rng)
        begin(a, disk)
        last = int(a("GET", "last") or -1)
        # a prefix
        assert missing(a, {f"k{i}": f"{i}:" + "y" * 500 for i in range(last + 1)}) == []
        assert a("EXISTS", f"k{last + 2}") == 0
        held = {f"k{i}": f"{i}:" + "y" * 500 for i in range(last + 1)}
        cut |= "stood behind the torn end" in a.log(400)
        a.stop()
        disk.begin_again()
    assert cut and held


# ---- full disks ----------------------------------------------------------------------------------


def test_a_peer_that_is_served_from_the_log_gets_what_stands_before_a_full_disk(on_disk):
    a, disk = on_disk()
    b, other = on_disk("b")
    a.peers, b.peers = [b.address], [a.address]
    begin(a, disk)
    held = {f"before{i}": "v" for i in range(200)}
    for k in held:
        assert accepted(a, "SET", k, "v")
    rule = disk.fail("write", "segment", errno.ENOSPC, skip=20)
    held |= fill_until_refused(a, "full")
    assert len(held) >= 219 and disk.hits(rule)
    disk.heal()
    until(lambda: accepted(a, "SET", "after", "1"))
    held["after"] = "1"
    a.kill()
    # nothing of it is in memory any more
    begin(a, disk)
    begin(b, other)
    until(lambda: a("CRDT.DIGEST") == b("CRDT.DIGEST"))
    assert missing(b, held) == []
    for s, d in ((a, disk), (b, other)):
        s.kill()
        begin(s, d)
    assert missing(b, held) == [] and missing(a, held) == []
    b("SET", "b", "1")
    until(lambda: a("GET", "b") == b"1")


def test_a_server_that_was_killed_on_a_full_disk_comes_up_reads_and_heals(on_disk):
    a, disk = on_disk()
    b, other = on_disk("b")
    a.peers, b.peers = [b.address], [a.address]
    begin(a, disk)
    begin(b, other)
    assert accepted(a, "SET", "k", "1") and a("INCR", "n") == 1
    until(lambda: b("GET", "n") == b"1")
    disk.fill()
    for _ in range(3):
        a.kill()
        begin(a, disk)
        assert a("MGET", "k", "n") == [b"1", b"1"]
        assert not accepted(a, "SET", "k", "2")
        status, told = health(a)
        assert status == 503 and "No space left on device" in json.dumps(told)
    # a peer works on, and is read from here once it is healed
    assert b("INCR", "n") == 2
    disk.heal()
    until(lambda: accepted(a, "SET", "k", "3"))
    until(lambda: health(a)[0] == 200)
    until(lambda: a("GET", "n") == b"2")
    assert a("INCR", "n") == 3
    until(lambda: b("MGET", "k", "n") == [b"3", b"3"])
    a.kill()
    begin(a, disk)
    assert a("MGET", "k", "n") == [b"3", b"3"]
    until(lambda: a("CRDT.DIGEST") == b("CRDT.DIGEST"))


# ---- failing disks -------------------------------------------------------------------------------


def test_a_sync_that_fails_while_a_new_segment_is_made(on_disk):
    """Every acknowledged write comes back although no byte that the failed sync put in doubt ever
    reached the disk."""
    a, disk = on_disk(max_segment_size="64kb")
    begin(a, disk)
    held = {}
    for round_ in range(3):
        slow = disk.fail("rename", "segment", delay=3.0, times=1)
        failing = disk.fail("fdatasync", "segment", errno.EIO, times=1)
        i = 0
        while not disk.hits(slow):
            key = f"{round_}:{i}"
            if accepted(a, "SET", key, "z" * 3000):
                held[key] = "z" * 3000
            i += 1
        until(lambda: disk.hits(failing))
        disk.heal()
        until(lambda: accepted(a, "SET", "k", "1"))
    null = disk.fail("write", "segment", errno.EIO, times=1)    # a failure of another kind, later
    assert not accepted(a, "SET", "refused", "1") and disk.hits(null)
    disk.heal()
    until(lambda: accepted(a, "SET", "k", "2"))
    a.kill()
    begin(a, disk)
    assert missing(a, held) == [] and a("GET", "k") == b"2"


def test_short_writes_and_reads_are_gone_on_with(on_disk):
    a, disk = on_disk()
    disk.fail("write", "segment", most=7)
    disk.fail("pread", "segment", most=1000)
    begin(a, disk)
    held = {f"k{i}": "v" * 100 for i in range(200)}
    for k, v in held.items():
        assert accepted(a, "SET", k, v)
    a.kill()
    begin(a, disk)
    assert missing(a, held) == []


def test_a_read_error_of_the_log_delays_a_peer_and_nothing_else(on_disk):
    a, disk = on_disk()
    b, other = on_disk("b")
    a.peers, b.peers = [b.address], [a.address]
    begin(a, disk)
    held = {f"k{i}": "v" * 100 for i in range(500)}
    for k, v in held.items():
        assert accepted(a, "SET", k, v)
    a.kill()
    begin(a, disk)
    rule = disk.fail("pread", "segment", errno.EIO)
    begin(b, other)
    until(lambda: disk.hits(rule) > 2)
    assert accepted(a, "SET", "meanwhile", "1")
    disk.heal()
    held["meanwhile"] = "1"
    until(lambda: b("DBSIZE") == 501)
    assert missing(b, held) == []


def test_a_start_on_a_failing_disk_names_the_file_and_leaves_the_log_as_it_is(on_disk):
    a, disk = on_disk()
    begin(a, disk)
    accepted(a, "SET", "k", "v")
    a.kill()
    path = segment_path(a.data_dir, 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b"torn")
    for call in ("pread", "ftruncate"):
        disk.fail(call, "segment", errno.EIO)
        with pytest.raises(AssertionError, match=f"{path}: Input/output error"):
            begin(a, disk)
        disk.heal()
        assert path.read_bytes().startswith(whole)
    begin(a, disk)
    assert a("GET", "k") == b"v"


# ---- hands in the directory ----------------------------------------------------------------------


def test_a_segment_that_is_removed_under_the_server_is_written_again(on_disk):
    a, disk = on_disk()
    begin(a, disk)
    held = {f"k{i}": "v" for i in range(100)}
    for k in held:
        accepted(a, "SET", k, "v")
    path = segment_path(a.data_dir, segment_numbers(a.data_dir)[-1])
    path.unlink()
    until(path.exists)
    assert accepted(a, "SET", "after", "1")
    a.kill()
    begin(a, disk)
    assert missing(a, held | {"after": "1"}) == []


def test_removing_the_lock_file_admits_no_second_server(on_disk):
    a, disk = on_disk()
    begin(a, disk)
    (a.data_dir / "LOCK").unlink()
    second = Server("a", directory=str(a.directory))
    with pytest.raises(AssertionError, match="in use by another"):
        second.start()
    second.dispose()
    assert accepted(a, "SET", "k", "v")


def test_after_a_repair_health_says_that_ops_wait_until_a_peer_gives_back_what_was_lost(on_disk):
    a, disk = on_disk()
    b, other = on_disk("b")
    a.peers, b.peers = [b.address], [a.address]
    begin(a, disk)
    begin(b, other)
    for i in range(100):
        accepted(a, "SET", f"k{i}", "v")
    until(lambda: b("DBSIZE") == 100)
    b.stop()
    a.stop()
    damage_and_repair(a)
    begin(a, disk)
    until(lambda: "wait for others that it lost" in json.dumps(health(a)[1]))
    assert health(a)[0] == 503 and a("DBSIZE") < 100
    begin(b, other)
    until(lambda: health(a)[0] == 200)
    assert a("DBSIZE") == 100
    until(lambda: a("CRDT.DIGEST") == b("CRDT.DIGEST"))


def test_after_a_repair_without_peers_what_waits_for_ever_is_a_warning(on_disk):
    """Nobody can give back what was lost: a 503 would keep clients away from the only replica for
    ever."""
    a, disk = on_disk()
    begin(a, disk)
    for i in range(100):
        accepted(a, "SET", f"k{i}", "v")
    a.stop()
    damage_and_repair(a)
    begin(a, disk)
    until(lambda: "there is no peer that could have them" in json.dumps(health(a)[1]["warnings"]))
    assert health(a)[0] == 200 and a("DBSIZE") < 100 and accepted(a, "SET", "k", "v")


def test_a_new_data_directory_is_the_owners_and_an_open_one_is_warned_of(on_disk):
    a, disk = on_disk()
    begin(a, disk)
    accepted(a, "SET", "k", "v")
    assert a.data_dir.stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in a.data_dir.iterdir()} == {0o600}
    assert "open to other users" not in a.log(400)
    a.stop()
    a.data_dir.chmod(0o755)
    begin(a, disk)
    assert "is open to other users of this machine (mode 755): chmod 700 it" in a.log(400)
    if os.geteuid() == 0:               # a volume of Kubernetes with fsGroup
        a.stop()
        os.chown(a.data_dir, 65532, -1)
        a.data_dir.chmod(0o2770)
        begin(a, disk)
        assert "open to other users" not in a.log(400).rsplit("connect with: ", 1)[1]

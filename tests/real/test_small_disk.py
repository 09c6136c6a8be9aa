"""Servers on a file system that is really small and really full."""
import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.real.cluster import Server, executable, until
from tests.real.links import Links
from tests.real.test_full_sync import QUICK, forget
from tests.respclient import ReplyError


@pytest.fixture
def small(processes):
    """small(MiB, **settings): a server, not started yet, whose data directory is all of a file
    system of this size."""
    mounted = []

    def make(size: int, **settings) -> Server:
        a = Server("a", **settings)
        a.data_dir.mkdir(exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=700", "tmpfs",
                               a.data_dir], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        mounted.append(a)
        return a
    yield make
    for a in mounted:
        if a.process:
            a.kill()
        subprocess.run(["umount", a.data_dir], check=True)


def write(a: Server, *argv) -> bool:
    try:
        a(*argv)
        return True
    except ReplyError as e:
        assert str(e).startswith("MISCONF"), e
        return False


def fill_up(path: Path) -> None:
    """To the last byte."""
    with open(path, "wb", buffering=0) as f:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    f.write(bytes(size))
            except OSError:
                pass


def health(a: Server) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://{a.address}/health", timeout=10) as r:
            return r.status, json.load(r)
    except urllib.error.HTTPError as e:
        return e.code, json.load(e)


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_server_killed_on_a_full_disk_starts_and_serves_reads(small, policy):
    a = small(16, appendfsync=policy, max_segment_size="1mb")
    a.start()
    room, filler = a.data_dir / "room", a.data_dir / "filler"
    room.write_bytes(bytes(4 << 20))
    held = {}
    for i in range(10_000):
        if not write(a, "SET", f"k{i}", value := f"{i}:" + "x" * 3000):
            break
        held[f"k{i}"] = value
    assert 2000 < len(held) < 10_000
    for _ in range(4):
        a.kill()
        fill_up(filler)
        assert os.statvfs(a.data_dir).f_bavail == 0
        a.start()
        with a.connect() as c:
            assert c.pipeline([["GET", k] for k in held]) == [v.encode() for v in held.values()]
        assert a("DBSIZE") == len(held) and not write(a, "SET", "k", "v")
        status, told = health(a)
        assert status == 503 and "No space left on device" in json.dumps(told)
        with pytest.raises(ReplyError):
            a("SAVE")
        assert not list(a.data_dir.glob("checkpoint-*"))
    room.unlink()
    until(lambda: write(a, "SET", "k", "v"))
    until(lambda: health(a)[0] == 200)
    digest = a("CRDT.DIGEST")
    a.kill()
    a.start()
    assert a("CRDT.DIGEST") == digest and a("GET", "k") == b"v"


@pytest.mark.parametrize("peers", [[], ["127.0.0.1:1"]], ids=["alone", "peer away"])
def test_three_times_the_size_of_the_disk_is_written(small, peers):
    """Also where a peer is away for whom more would be kept than there is room for."""
    a = small(200, appendfsync="no", max_segment_size="1mb", compaction_threshold=8)
    a.peers = peers
    a.start()
    value = "v" * 1000
    with a.connect() as c:
        for saves in range(1, 21):
            for _ in range(30):
                c.pipeline([("SET", f"k{i % 100}", value) for i in range(1000)])
            until(lambda: int(persistence(a)["rdb_saves"]) >= saves)
    until(lambda: persistence(a)["rdb_bgsave_in_progress"] == "0")
    assert health(a)[0] == 200 and a("DBSIZE") == 100
    size = sum(p.stat().st_size for p in a.data_dir.iterdir())
    assert size < (140 if peers else 100) << 20
    assert ("127.0.0.1:1 may lack operations" in a.log(1000)) == bool(peers)
    digest = a("CRDT.DIGEST")
    a.kill()
    a.start()
    assert a("CRDT.DIGEST") == digest


def test_a_full_sync_to_a_slow_receiver_does_not_fill_the_disk(small):
    """It reads the log, which is kept for it no longer than there is room."""
    a = small(100, appendfsync="no", max_segment_size="1mb", compaction_threshold=8,
              replication_log_size=0)
    a.start()
    for i in range(8):
        a("SET", f"large{i}", os.urandom(1 << 20))
    forget(a)
    links = Links()
    link = links.to(a.http_port)
    link.rate = 50_000
    b = Server("b", [link.address], peer_discovery="no", **QUICK).start()
    until(lambda: "b is given a full sync" in a.log(1000))
    value, saves = "v" * 1000, int(persistence(a)["rdb_saves"])

    def given_up() -> bool:
        return "the full sync of b was given up: the disk here is nearly full" in a.log(1000)

    with a.connect() as c:
        for _ in range(30):             # three times the disk, if it took so much
            for _ in range(10):
                c.pipeline([("SET", f"k{i % 100}", value) for i in range(1000)])
            saves += 1
            until(lambda: given_up() or int(persistence(a)["rdb_saves"]) >= saves)
            if given_up():
                break
    assert given_up()
    until(lambda: write(a, "SET", "k", "v"))
    until(lambda: health(a)[0] == 200)
    link.mend()
    until(lambda: a("CRDT.DIGEST") == b("CRDT.DIGEST"), 120)
    links.close()
    b.dispose()


def persistence(a: Server) -> dict[str, str]:
    return dict(line.split(":", 1) for line in a("INFO", "persistence").decode().split("\r\n")
                if ":" in line)


def test_backups_and_what_is_restored(small, server, tmp_path):
    """On a full disk, and where a file system ends."""
    a = server("a")
    a("SET", "k", os.urandom(3 << 20))
    disk = small(1).data_dir
    for argv, text in [(("backup", "--from", a.address, "--to", disk / "b.tar"), "No space left"),
                       (("backup", "--from", a.address, "--to", tmp_path / "b.tar"), "bytes"),
                       (("restore", tmp_path / "b.tar", disk / "data"), "No space left"),
                       (("restore", tmp_path / "b.tar", disk), "is a mount point")]:
        done = subprocess.run([*executable(), *argv], capture_output=True, text=True)
        assert text in done.stdout + done.stderr, done
        assert "Traceback" not in done.stderr and not list(disk.iterdir())


def test_low_space_warns_before_anything_fails(small):
    a = small(48, disk_free_warning="32mb").start()
    until(lambda: int(persistence(a)["disk_free_bytes"]) > 32 << 20)
    assert health(a) == (200, {"status": "ok", "reasons": [], "warnings": []})
    with open(a.data_dir / "something else", "wb") as f:
        f.write(bytes(20 << 20))
    until(lambda: persistence(a)["disk_low"] == "1")
    status, found = health(a)
    assert status == 200 and "less than disk_free_warning (32 MB)" in found["warnings"][0]
    assert int(persistence(a)["disk_free_bytes"]) < 32 << 20 and write(a, "SET", "k", "v")
    with urllib.request.urlopen(f"http://{a.address}/metrics", timeout=10) as r:
        assert b"\ncrdt_redis_disk_low 1.0\n" in r.read()
    a("CONFIG", "SET", "disk-free-warning", "1mb")
    until(lambda: persistence(a)["disk_low"] == "0")
    assert health(a)[1]["warnings"] == []
    log = a.log_path.read_text()
    assert log.count("less than disk_free_warning") == 1 and log.count("MB are free again") == 1
    a("CONFIG", "SET", "disk-free-warning", 0)

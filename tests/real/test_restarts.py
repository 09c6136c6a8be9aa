"""Restarts leave nothing behind: a replica that was killed or stopped goes on as the actor it was,
unless it cannot be sure that its log holds all that this one gave out and was told."""
import json
import os
import random
import shutil

import pytest

from crdtredis.storage.witness import AT
from tests.real.cluster import Server, until

COUNTERS = 100


def clock(server) -> dict:
    """{replica/epoch: newest op}, of those who ever made one."""
    found = server("CRDT.CLOCK")
    return dict(zip(found[::2], found[1::2], strict=True))


def count(server, by: int = 1) -> None:
    with server.connect() as c:
        c.pipeline([["INCRBY", f"counter:{i}", by] for i in range(COUNTERS)])


def entries(server, key: str = "counter:7") -> list:
    """(replica, total) of the counter entries: INSPECT but for what differs between two clusters
    that did the same."""
    found = server("CRDT.INSPECT", key)
    told = dict(zip(found[::2], found[1::2], strict=True))
    counts = [dict(zip(e[::2], e[1::2], strict=True)) for e in told[b"counter_entries"]]
    return [(e[b"actor"].split(b"/")[0], e[b"total"], e[b"tombstone"]) for e in counts]


def restart_often(c, starts: int, fresh: bool = False) -> None:
    """a starts so many times, in a live cluster, adds to each counter, and ends in whatever way.
    fresh: it only does what it would do, and starts once more."""
    a, chance = c[0], random.Random(1)
    for i in range(starts):
        count(a)
        if chance.random() < 0.2:
            c[1]("DEL", "other")
            c[1]("INCR", "other")
        stop = chance.random() < 0.2
        if not fresh or i == starts - 1:
            a.stop() if stop else a.kill()
            a.start()


def leaves_nothing(c, starts: int) -> None:
    restart_often(c, starts)
    c.sync()
    for s in c:
        assert s("GET", "counter:7") == str(starts).encode()
        assert len(entries(s)) <= 2 and entries(s)[0][:2] == (b"a", b"%d" % starts)
        assert len(clock(s)) <= 3
    c.assert_converged()
    for s in c:
        s("DEL", *(f"counter:{i}" for i in range(COUNTERS)))
    c.sync()
    for s in c:
        s("SET", f"seen-by-{s.name}", 1)
    c.sync()
    for s in c:
        until(lambda s=s: b"\r\ntombstones:0\r\n" in s("INFO", "crdt"))


def test_restarts_leave_nothing_behind(cluster):
    leaves_nothing(cluster(3, gc_interval="50ms"), 12)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_it_goes_on(server, how):
    a = server()
    a("SET", "k", "v")
    before = clock(a)
    a.stop() if how == "stopped" else a.kill()
    a.start()
    assert clock(a) == before
    a("SET", "k", "w")
    assert len(clock(a)) == 1 and clock(a).keys() == before.keys()


def test_two_processes_never_have_one_name_in_info(server):
    a = server()
    a("SET", "k", "v")
    ids = set()
    for _ in range(2):
        ids |= {line for line in a("INFO", "server").split(b"\r\n") if line.startswith(b"run_id")}
        a.restart()
    assert len(ids) == 2


# ---- what is not proven --------------------------------------------------------------------------

def no_page(a, copy):
    """The machine was started anew, or the container."""
    a.witness.unlink()


def lost_end(a, copy):
    path = sorted(a.data_dir.glob("segment-*.log"))[-1]
    os.truncate(path, path.stat().st_size - 1)


def older_disk(a, copy):
    """A backup of this very process's time is put back, in the same directory."""
    for path in a.data_dir.iterdir():
        path.unlink()
    for path in copy.iterdir():
        shutil.copy(path, a.data_dir)


def copied_disk(a, copy):
    moved = a.data_dir.with_name("moved")
    a.data_dir.rename(moved)
    shutil.copytree(moved, a.data_dir)


def used_elsewhere(a, copy):
    """A process of another machine, which has no such page, used the directory meanwhile."""
    a.witness.rename(a.witness.with_name("aside"))
    a.start()
    a.kill()
    a.witness.with_name("aside").rename(a.witness)


def copied_page(a, copy):
    kept = a.witness.read_bytes()
    a.witness.rename(a.witness.with_name("aside"))
    a.witness.write_bytes(kept)
    a.witness.chmod(0o600)
    a.witness.with_name("aside").unlink()


def clocks_parted(a, copy):
    """An image of the memory was gone back to, and the clock on the wall set right."""
    with open(a.witness, "r+b") as f:
        f.seek(AT + 24)
        wall = int.from_bytes(f.read(8), "little")
        f.seek(AT + 24)
        f.write((wall - 5000).to_bytes(8, "little"))


def open_to_others(a, copy):
    a.witness.chmod(0o666)


def one_more(a, word: int) -> None:
    with open(a.witness, "r+b") as f:
        f.seek(8 + 8 * word)
        more = int.from_bytes(f.read(8), "little") + 1
        f.seek(8 + 8 * word)
        f.write(more.to_bytes(8, "little"))


def another_made(a, copy):
    """An op was made that never came to the log."""
    one_more(a, 0)


def log_reached_further(a, copy):
    one_more(a, 2)


def older_format(a, copy):
    with open(a.witness, "r+b") as f:
        f.write(b"crdtwit0")


@pytest.mark.parametrize("what", [
    no_page, lost_end, older_disk, copied_disk, used_elsewhere, copied_page, clocks_parted,
    open_to_others, another_made, log_reached_further, older_format], ids=lambda f: f.__name__)
def test_it_is_another_where_anything_is_not_proven(server, tmp_path, what):
    a = server()
    for i in range(3):
        a("SET", f"k{i}", "v")
    shutil.copytree(a.data_dir, tmp_path / "copy")
    a("SET", "last", "v")
    before = clock(a)
    a.kill()
    what(a, tmp_path / "copy")
    a.start()
    a("SET", "after", "v")
    assert len(clock(a)) == 2, f"{before} went on: {clock(a)}"
    # and from then on it goes on as that one
    now = clock(a)
    a.kill()
    a.witness.chmod(0o600)
    a.start()
    a("SET", "once", "v")
    now = clock(a) if what is open_to_others else now
    a.restart()
    a("SET", "after", "w")
    assert now.keys() == clock(a).keys()


def test_a_page_of_somebody_else_is_left_alone(server):
    """It may be a link, a pipe, or hold nonsense: the server starts, and is another."""
    a = server()
    a("SET", "k", "v")
    for make in (lambda p: p.symlink_to("/dev/null"), lambda p: os.mkfifo(p, 0o600),
                 lambda p: p.mkdir(), lambda p: p.write_bytes(b"x" * 4096),
                 lambda p: p.write_bytes(b"short")):
        a.kill()
        path = a.witness
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        make(path)
        path.is_symlink() or path.chmod(0o700)
        a.start()
        before = len(clock(a))
        a("SET", "k", "v")
        assert len(clock(a)) == before + 1
    a.kill()
    path.unlink()


def test_pages_of_directories_that_are_gone_go(server, tmp_path):
    a = Server("gone").start()
    stray = a.witness
    assert stray.exists()
    a.kill()
    shutil.rmtree(a.data_dir)
    b = server("b")
    assert not stray.exists() and b.witness.exists()
    a.dispose()


def test_a_later_life_elsewhere_is_left_behind_as_ever(cluster, tmp_path):
    """A copy of a's disk ran under its name and wrote. When a comes back, which goes on as it was,
    it learns so from b, and is another from then on; all that both wrote is kept."""
    c = cluster(2)
    a, b = c
    a("INCRBY", "n", 1)
    c.sync()
    a.kill()
    copy = Server("a", [b.address], sync_interval="200ms", retry_interval="50ms")
    shutil.copytree(a.data_dir, copy.data_dir)
    copy.start()
    copy("INCRBY", "n", 10)
    until(lambda: b("GET", "n") == b"11")
    copy.kill()
    assert json.loads((copy.data_dir / "identity.json").read_text())["replica_id"] == "a"
    copy.dispose()
    a.start()
    until(lambda: a("GET", "n") == b"11")
    a("INCRBY", "n", 100)
    c.sync()
    assert a("GET", "n") == b("GET", "n") == b"111"
    c.assert_converged()
    found = clock(a)
    a.restart()
    a("INCRBY", "n", 1000)
    assert clock(a).keys() == found.keys()


def test_what_it_had_said_that_it_had_is_lost(cluster, tmp_path):
    """A copy of a's disk lacks what b removed; a had it and said so, so b let go of the tombstone.
    Were the next process the same actor, b would count the ten again."""
    c = cluster(2, gc_interval="50ms")
    a, b = c
    a("INCRBY", "n", 10)
    c.sync()
    shutil.copytree(a.data_dir, tmp_path / "copy")
    b("DEL", "n")
    c.sync()
    until(lambda: b"\r\ntombstones:0\r\n" in b("INFO", "crdt"))
    b("CRDT.PEER", "PAUSE", "*")
    a.kill()
    older_disk(a, tmp_path / "copy")
    a.start()
    assert a("INCRBY", "n", 1) == 11
    c.sync()
    assert a("GET", "n") == b("GET", "n") == b"1"
    c.assert_converged()

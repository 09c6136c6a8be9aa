"""Restarts leave nothing behind: a replica that was killed or stopped goes on as the actor it was,
unless it cannot be sure that its log holds all that this one gave out and was told."""
import json
import os
import random
import shutil
import signal
import time

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
        if i % 100 == 99:                       # those between may be too short for a handshake
            c.sync()
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


# ---- where the page does not outlive the process -------------------------------------------------

def leaving(cluster, n: int = 2, **settings):
    """Of these, a leaves with a peer what it has seen, and has no page when it starts again."""
    c = cluster(n, **settings)
    a = c[0]
    a("CONFIG", "SET", "leave-with-peer", "yes")
    a("INCR", "n")
    c.sync()
    return c


def lives(a) -> int:
    """Actors of it that ever made anything."""
    return sum(name.startswith(b"a/") for name in clock(a))


def elsewhere(a) -> None:
    """It is to start in another container, or after the machine has been started anew."""
    a.witness.unlink()


def test_a_peer_says_that_all_is_here(cluster):
    c = leaving(cluster)
    a, b = c
    for _ in range(3):
        assert a.stop() == 0
        elsewhere(a)
        a.start()
        a("CONFIG", "SET", "leave-with-peer", "yes")
        a("INCR", "n")
        assert lives(a) == 1
        until(lambda: b"up" in a("CRDT.PEERS")[0])
    c.sync()
    assert a("GET", "n") == b("GET", "n") == b"4"
    # where it stays on its machine, the page says nothing any more, and the peer does
    a.restart()
    a("INCR", "n")
    assert lives(a) == 1
    c.sync()
    c.assert_converged()


def copied_twice(c, tmp_path, page: bool = False):
    """Two go on from one directory: one of them is another. page: the first on the same machine."""
    a, b = c
    page or elsewhere(a)
    shutil.copytree(a.data_dir, tmp_path / "copy")
    a.start()
    a("INCR", "n")
    assert lives(a) == 1
    c.sync()
    a.kill()
    elsewhere(a)
    shutil.rmtree(a.data_dir)
    shutil.copytree(tmp_path / "copy", a.data_dir)


def copied_from_its_machine(c, tmp_path):
    copied_twice(c, tmp_path, True)


def peer_was_stopped(c, tmp_path):
    elsewhere(c[0])
    c[1].restart()


def lost_since(c, tmp_path):
    elsewhere(c[0])
    lost_end(c[0], None)


def ran_without(c, tmp_path):
    """A process started meanwhile, that could not reach the peer."""
    a, b = c
    elsewhere(a)
    os.kill(b.pid, signal.SIGSTOP)
    a.start()
    a.kill()
    os.kill(b.pid, signal.SIGCONT)
    elsewhere(a)


def identity_put_back(c, tmp_path):
    """As before, and what the peer's secret stood in is put back."""
    a, b = c
    elsewhere(a)
    kept = (a.data_dir / "identity.json").read_bytes()
    a.start()
    a("INCR", "n")
    c.sync()
    a.kill()
    elsewhere(a)
    (a.data_dir / "identity.json").write_bytes(kept)


@pytest.mark.parametrize("what", [
    copied_twice, copied_from_its_machine, peer_was_stopped, lost_since, ran_without,
    identity_put_back], ids=lambda f: f.__name__)
def test_it_is_another_where_no_peer_says_so(cluster, tmp_path, what):
    c = leaving(cluster)
    a, b = c
    assert a.stop() == 0
    assert a.url_left == f"http://{b.address}"
    what(c, tmp_path)
    a.start()
    a("INCR", "n")
    c.sync()
    c.assert_converged()
    assert lives(a) == 2 and a("GET", "n") == b("GET", "n")
    assert int(a("GET", "n")) == (2 if what in (peer_was_stopped, lost_since, ran_without) else 3)


def test_no_peer_takes_it(cluster):
    """Then the page goes on being about this replica."""
    c = leaving(cluster)
    a, b = c
    b.kill()
    until(lambda: b": up" not in a("CRDT.PEERS")[0])
    assert a.stop() == 0
    a.start()
    a("INCR", "n")
    assert lives(a) == 1
    a.kill()
    b.start()
    a.start()
    c.sync()


def test_a_peer_that_hangs_keeps_nobody_from_stopping(cluster):
    c = leaving(cluster)
    a, b = c
    os.kill(b.pid, signal.SIGSTOP)
    begun = time.monotonic()
    assert a.stop() == 0
    assert time.monotonic() - begun < 15
    a.start()
    a("INCR", "n")
    assert lives(a) == 2           # it may be that b has it
    os.kill(b.pid, signal.SIGCONT)
    c.sync()
    c.assert_converged()


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

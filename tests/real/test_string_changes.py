"""Strings that are changed in place, on three real processes: kill -9 under load, lost tails, a
replica that joins late, and what the log and the wire take of a change of a long string."""
import random
import threading
import time

import pytest

from tests.real.cluster import Server, until
from tests.real.test_crash import newest_segment
from tests.respclient import ReplyError


class Changers:
    """One writer for each server: appends to l, sets its own bits of b, overwrites its own bytes of
    s. What was acknowledged is remembered."""

    def __init__(self, cluster):
        self.cluster, self.stopping = cluster, False
        self.pieces = [[] for _ in cluster]
        self.sent = [0 for _ in cluster]
        self.bits = [set() for _ in cluster]
        self.threads = [threading.Thread(target=self._write, args=(i,))
                        for i in range(len(cluster))]
        for t in self.threads:
            t.start()

    def _write(self, me: int) -> None:
        n = 0
        while not self.stopping:
            try:
                with self.cluster[me].connect() as c:
                    while not self.stopping:
                        n = self.sent[me] = n + 1
                        piece = b"<%d.%d>" % (me, n)
                        bit = 8 * (n % 4000) + me
                        replies = c.pipeline([("APPEND", "l", piece), ("SETBIT", "b", bit, 1),
                                              ("SETRANGE", "s", 4 * me, b"%03d" % (n % 1000)),
                                              ("BITFIELD", "f", "INCRBY", "u32", 32 * me, 1)])
                        if not any(isinstance(r, ReplyError) for r in replies):
                            self.pieces[me].append(piece)
                            self.bits[me].add(bit)
                        time.sleep(0.002)
            except OSError:
                time.sleep(0.05)                    # it was killed

    def join(self) -> None:
        self.stopping = True
        for t in self.threads:
            t.join(30)
            assert not t.is_alive()

    def check(self, writers) -> None:
        """Everywhere the same; of these writers each piece once, in order, and each bit."""
        shown = [(s("GET", "l"), s("GET", "b"), s("GET", "s"), s("GET", "f"))
                 for s in self.cluster]
        assert len(set(shown)) == 1
        pieces, bits, _, fields = shown[0]
        found = [p + b">" for p in pieces.split(b">")[:-1]]
        assert len(found) == len(set(found)) and b"".join(found) == pieces
        for i in writers:
            mine = [p for p in found if p.startswith(b"<%d." % i)]
            have = set(mine)
            assert [p for p in self.pieces[i] if p not in have] == []
            assert mine == sorted(mine, key=lambda p: int(p[3:-1]))
            assert all(bits[b // 8] & 128 >> b % 8 for b in self.bits[i])
            assert len(self.pieces[i]) <= int.from_bytes(fields[4 * i:4 * i + 4]) <= self.sent[i]


def changing(cluster):
    """Until all of them know that all others know changes of strings; before, they write SETs."""
    def changes(s) -> bool:
        s("DEL", "probe"), s("APPEND", "probe", "x")
        return b"loose" in b"%r" % (s("CRDT.INSPECT", "probe"),)
    for s in cluster:
        until(lambda: changes(s))               # noqa: B023
    return cluster


def test_kill_under_load(cluster):
    c = changing(cluster(3, appendfsync="everysec"))
    load, rng = Changers(c), random.Random(1)
    for victim in (1, 0, 2, 1):
        time.sleep(0.5)
        c[victim]("BGSAVE")
        time.sleep(rng.random() / 10)
        c[victim].kill()
        time.sleep(0.3)
        c[victim].start()
    until(lambda: min(map(len, load.pieces)) > 100)
    load.join()
    c.sync()
    c.assert_converged()
    load.check(range(3))
    until(lambda: not any(patched(s, k) for s in c for k in "lbsf"))
    before = c.digests()
    for s in c:                                     # from checkpoints and logs
        s.kill(), s.start()
    c.sync()
    assert c.digests() == before
    load.check(range(3))


def test_lost_tails(cluster):
    """A loses the end of its log again and again: all are equal in the end."""
    c = changing(cluster(3, appendfsync="everysec"))
    rng = random.Random(2)
    for _ in range(3):
        load = Changers(c)
        until(lambda: len(load.pieces[0]) > 100)
        c[0].kill()
        path = newest_segment(c[0])
        with open(path, "r+b") as f:
            f.truncate(path.stat().st_size - rng.randint(1, 6000))
        c[0].start()
        time.sleep(0.3)
        load.join()
        c.sync()
        time.sleep(1.5)                             # what was late is written anew
        c.sync()
        c.assert_converged()
        shown = [tuple(s("GET", k) for k in "lbsf") for s in c]
        assert len(set(shown)) == 1
        c[1]("FLUSHALL")
        c.sync()


def test_a_change_of_a_long_string_is_small_everywhere(cluster):
    """Also for a replica that comes later, while changes go on."""
    c = changing(cluster(2))
    c[0]("SET", "k", bytes(1 << 20))
    c.sync()
    sizes = [newest_segment(s).stat().st_size for s in c]
    for i in range(1000):
        c[i % 2]("SETBIT", "k", i * 8009 % (8 << 20), 1)
    c.sync()
    grown = [newest_segment(s).stat().st_size - n for s, n in zip(c, sizes)]
    assert max(grown) < 300_000
    assert c[0]("BITCOUNT", "k") == c[1]("BITCOUNT", "k") == 1000
    late = Server("z", [s.address for s in c], sync_interval="200ms", retry_interval="50ms").start()
    c.servers.append(late)
    for i in range(200):
        c[i % 2]("APPEND", "k", "x")
    c.sync()
    c.assert_converged()
    assert {s("STRLEN", "k") for s in c} == {(1 << 20) + 200}
    late("SETBIT", "k", 1, 1)
    c.sync()
    assert {s("GETBIT", "k", 1) for s in c} == {1}


def patched(s, key) -> bool:
    return b"patches" in b"%r" % (s("CRDT.INSPECT", key),)


def test_nothing_is_folded_while_one_was_never_met(cluster):
    """It may have changed the same already, knowing of nobody."""
    c = changing(cluster(2))
    c.sync()
    late = Server("z", sync_interval="200ms", retry_interval="50ms")
    for s in c:
        s("CRDT.PEER", "ADD", late.address), s("CRDT.PEER", "PAUSE", late.address)
    for i in range(20):
        c[i % 2]("APPEND", "k", f"<{i:02}>")
    until(lambda: len({s("GET", "k") for s in c}) == 1)
    time.sleep(1.5)
    assert all(patched(s, "k") for s in c)
    c.servers.append(late.start())
    late("APPEND", "k", "<zz>")
    c.sync()
    c.assert_converged()
    value = late("GET", "k")
    assert sorted(value[i:i + 4] for i in range(0, 84, 4)) == sorted(
        [b"<%02d>" % i for i in range(20)] + [b"<zz>"])
    until(lambda: not any(patched(s, "k") for s in c))


def test_what_is_written_anew_waits_for_who_is_away(cluster):
    """What that one made meanwhile, and nobody else has seen, would go with it."""
    c = changing(cluster(3))
    a, b, other = c
    b("APPEND", "k", "<0>"), b("APPEND", "k", "<1>")
    size = newest_segment(b).stat().st_size
    b("APPEND", "k", "<2>")
    c.sync()
    until(lambda: not any(patched(s, "k") for s in c))
    b.kill()
    with open(newest_segment(b), "r+b") as f:       # with its power
        f.truncate(size)
    for s in (a, other):
        s("CRDT.PEER", "PAUSE", b.address)
    b.start()
    b("APPEND", "k", "<late>")
    a("CRDT.PEER", "PAUSE", "*")
    assert a("APPEND", "k", "<away>") == len("<0><1><2><away>")
    other("CRDT.PEER", "RESUME", b.address)
    until(lambda: b"<late>" in other("GET", "k"))
    time.sleep(3)
    assert patched(other, "k")                      # it is not written anew
    a("CRDT.PEER", "RESUME", other.address)
    until(lambda: b"<late>" in a("GET", "k"))
    c.sync()
    until(lambda: all(not patched(s, "k") for s in c))
    c.sync()
    c.assert_converged()
    value, = {s("GET", "k") for s in c}
    assert value in (b"<0><1><2><late><away>", b"<0><1><2><away><late>")


@pytest.mark.parametrize("synchronized", [True, False])
def test_a_new_replica_changes_what_is_there(cluster, synchronized):
    """Also before it has met anybody."""
    c = changing(cluster(2))
    for i in range(20):
        c[i % 2]("APPEND", "k", f"<{i:02}>")
    c.sync()
    late = Server("z", [s.address for s in c], sync_interval="200ms", retry_interval="50ms").start()
    c.servers.append(late)
    if synchronized:
        assert late("CRDT.SYNC", 20_000)[3] == []       # unreachable
        assert late("APPEND", "k", "<z>") == 83
    else:
        late("APPEND", "k", "<z>")
    c.sync()
    c.assert_converged()
    pieces = sorted(b"<%02d>" % i for i in range(20))
    for s in c:
        found = [p + b">" for p in s("GET", "k").split(b">")[:-1]]
        assert found[-1] == b"<z>" and sorted(found[:-1]) == pieces

"""kill -9, lost tails and damaged files, on real processes under load.

What must hold: with `appendfsync always` and with `everysec` a killed *process* loses nothing it
acknowledged, since every write is in the file before its reply leaves. Power loss can take what was
not yet synced: that is staged here by cutting the end off the newest segment. Then the torn record
goes, everything before it stays, and what a peer had received comes back from that peer. Any damage
that a torn write cannot explain stops the start, with file and offset.
"""
import os
import random
import threading
import time

import pytest

from crdtredis._core import record
from crdtredis.replication.wire import actor_id, declarations
from crdtredis.storage.batch import declaration, run
from crdtredis.storage.chain import read_chain
from crdtredis.storage.format import read_batches, segment_numbers
from crdtredis.storage.identity import take_identity
from tests.real.cluster import Server, until
from tests.respclient import ReplyError
from tests.storage.node import Node

WRITERS = 4


class Load:
    """Writers that set fresh keys and increment a counter each, and remember what was
    acknowledged."""

    def __init__(self, server, pipeline: int = 1):
        self.server, self.pipeline = server, pipeline
        self.acknowledged: dict[str, str] = {}
        self.counters = [0] * WRITERS              # acknowledged
        self.sent = [0] * WRITERS
        self.stopping = False
        self.threads = [threading.Thread(target=self._write, args=(i,)) for i in range(WRITERS)]
        for t in self.threads:
            t.start()

    def _write(self, me: int) -> None:
        n = 0
        try:
            with self.server.connect() as c:
                while not self.stopping:
                    keys = [f"w{me}:{n + i}" for i in range(self.pipeline)]
                    n += self.pipeline
                    commands = [x for k in keys
                                for x in (("SET", k, k + "-value"), ("INCR", f"count{me}"))]
                    self.sent[me] += self.pipeline
                    for k, reply in zip([k for k in keys for _ in range(2)], c.pipeline(commands)):
                        assert not isinstance(reply, ReplyError), reply
                        if reply == b"OK":
                            self.acknowledged[k] = k + "-value"
                        else:
                            self.counters[me] = reply
        except OSError:
            pass                                    # the server was killed

    def join(self) -> None:
        self.stopping = True
        for t in self.threads:
            t.join(30)
            assert not t.is_alive()

    def missing(self, server) -> list:
        keys = list(self.acknowledged)
        with server.connect() as c:
            found = c.pipeline([["GET", k] for k in keys])
        return [k for k, v in zip(keys, found) if v != self.acknowledged[k].encode()]

    def check_counters(self, server) -> None:
        for i in range(WRITERS):
            have = int(server("GET", f"count{i}") or 0)
            assert self.counters[i] <= have <= self.sent[i]


def newest_segment(server):
    return max(server.data_dir.glob("segment-*.log"))


@pytest.mark.parametrize("policy", ["always", "everysec"])
@pytest.mark.parametrize("pipeline", [1, 20])
def test_kill_under_load_loses_nothing_acknowledged(server, policy, pipeline):
    s = server(appendfsync=policy)
    for round_ in range(3):
        load = Load(s, pipeline)
        until(lambda: len(load.acknowledged) > 100 * (round_ + 1))
        s.kill()
        load.join()
        s.start()
        assert load.missing(s) == []
        load.check_counters(s)
        s("FLUSHALL")


def test_lost_tail_comes_back_from_the_peers(cluster):
    """The tail that A lost had reached B and C: nothing is missing afterwards, and A's new writes
    use no dot again."""
    c = cluster(3, appendfsync="everysec")
    a = c[0]
    rng = random.Random(1)
    for _ in range(3):
        load = Load(a, 10)
        time.sleep(0.5)
        load.join()
        c.sync()
        a.kill()
        path = newest_segment(a)
        size = path.stat().st_size
        with open(path, "r+b") as f:
            f.truncate(size - rng.randint(1, size // 2))
        a.start()
        a("SET", "after", "restart")
        a("INCR", "count0")
        c.sync()
        for s in c:
            assert load.missing(s) == []
            assert int(s("GET", "count0")) == load.counters[0] + 1
        c.assert_converged()
        a("FLUSHALL")
        c.sync()


def test_power_loss_with_everysec_is_bounded(server):
    """What was acknowledged more than two seconds before the crash is in the synced part; the file
    never shrinks below it."""
    s = server(appendfsync="everysec")
    load = Load(s)
    time.sleep(0.5)
    load.join()
    time.sleep(2.0)
    synced = newest_segment(s).stat().st_size
    late = Load(s)
    time.sleep(0.3)
    s.kill()
    late.join()
    with open(newest_segment(s), "r+b") as f:
        f.truncate(synced)
    s.start()
    for i in range(WRITERS):
        assert s("GET", f"w{i}:0") == f"w{i}:0-value".encode()
    assert int(s("GET", "count0")) >= load.counters[0]


def test_every_cut_of_the_tail_recovers_a_prefix(processes):
    """Whatever length the last segment has left after its first records, the start succeeds with a
    prefix of what was written."""
    s = Server().start()
    for i in range(40):
        s("SET", f"k{i}", "v" * i)
    s.stop()
    whole = newest_segment(s).read_bytes()
    name = newest_segment(s).name
    rng = random.Random(2)
    before = 0
    cuts = sorted(rng.sample(range(len(whole) // 2, len(whole)), 6))
    for cut in cuts:
        for f in s.data_dir.glob("segment-*.log"):
            f.unlink()
        (s.data_dir / name).write_bytes(whole[:cut])
        s.start()
        present = [bool(s("EXISTS", f"k{i}")) for i in range(40)]
        assert present == sorted(present, reverse=True), "not a prefix"
        assert sum(present) >= before
        before = sum(present)
        s.stop()
    assert before > 0


def test_damage_before_the_tail_stops_the_start(processes):
    s = Server().start()
    for i in range(200):
        s("SET", f"k{i}", "v" * 50)
    s.stop()
    path = newest_segment(s)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(AssertionError) as e:
        s.start()
    assert path.name in str(e.value) and "offset" in str(e.value)
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    s.start()
    assert s("DBSIZE") == 200


def test_a_restored_backup_takes_back_what_it_lacks(cluster, tmp_path):
    """An older copy of the data directory is put in place: a new epoch, and the peers bring what is
    missing."""
    import shutil
    c = cluster(2)
    a, b = c
    a("SET", "old", 1)
    a("INCRBY", "n", 5)
    c.sync()
    a.stop()
    shutil.copytree(a.data_dir, tmp_path / "backup")
    a.start()
    a("SET", "new", 2)
    a("INCRBY", "n", 7)
    c.sync()
    a.kill()
    shutil.rmtree(a.data_dir)
    shutil.copytree(tmp_path / "backup", a.data_dir)
    a.start()
    a("INCRBY", "n", 100)
    c.sync()
    for s in c:
        assert s("MGET", "old", "new", "n") == [b"1", b"2", b"112"]
    c.assert_converged()


def test_killed_replica_catches_up(cluster):
    c = cluster(3)
    a, b, d = c
    a("SET", "k", 0)
    c.sync()
    b.kill()
    with a.connect() as conn:
        conn.pipeline([["INCR", "k"]] * 5000)
        conn.pipeline([["SET", f"key:{i}", i] for i in range(5000)])
    b.start()
    c.sync()
    assert b("GET", "k") == b"5000" and b("DBSIZE") == 5001
    c.assert_converged()


def test_clean_stop_keeps_everything(processes):
    s = Server(appendfsync="no").start()
    with s.connect() as c:
        c.pipeline([["SET", f"k{i}", i] for i in range(20000)])
    assert s.stop() == 0
    s.start()
    assert s("DBSIZE") == 20000


def test_a_second_process_on_one_directory_is_refused(processes):
    s = Server().start()
    other = Server(directory=str(s.directory))
    with pytest.raises(AssertionError, match="in use by another"):
        other.start()
    other.dispose()
    assert s("PING") == b"PONG"


def test_another_replica_id_is_refused(processes):
    s = Server("a").start()
    s.stop()
    s.name = "z"
    with pytest.raises(AssertionError, match="(?i)replica.?id"):
        s.start()


def test_starts_that_make_no_operation_are_kept_nowhere(cluster):
    """Neither at the replica that was started, nor at its peer, on disk or in what they tell each
    other."""
    c = cluster(2)
    a, b = c
    a("SET", "k", 1)
    b("SET", "l", 1)
    # each has said that it is there, which it does once
    until(lambda: all(len(s("CRDT.MEMBERS")) == 2 for s in c))
    c.sync()
    for _ in range(5):
        a.kill()
        a.witness.unlink()
        a.start()
        a("GET", "k")
        b("SET", "l", 2)                            # is pushed to each life of A
        c.sync()
    a("SET", "k", 2)
    c.sync()
    b.kill()
    b.witness.unlink()
    b.start()
    b("SET", "l", 3)
    c.sync()
    ours = {}
    for s in c:
        s.stop()
        declared = set()
        numbers = segment_numbers(s.data_dir)
        for link in read_chain(s.data_dir, numbers[-1], None):
            declared |= {(r, e) for _, r, e in link.header().actors}
            with open(link.path, "rb") as f:
                for batch, _, _ in read_batches(f.fileno(), link.begin,
                                                os.fstat(f.fileno()).st_size, 1):
                    declared |= {(a.replica, a.epoch) for a in declarations(batch)}
        ours[s.name] = declared
    assert ours["a"] == ours["b"] and sorted(r for r, _ in ours["a"]) == ["a", "a", "b", "b"]


def test_long_before_the_actors_are_used_up_there_is_a_warning(processes):
    s = Server()
    s.data_dir.mkdir()
    take_identity(s.data_dir, "a", 1)
    node = Node(s.data_dir)
    actors = [(actor_id("b", i), "b", i) for i in range(1, 16_400)]
    ops = [run(actor, [b"\x08\x01\x11" + (1).to_bytes(8, "little") + b"\x22\x04\x08\x03\x1a\x00"])
           for actor, _, _ in actors]
    assert node.log.writer.add(record(declaration(actors) + b"".join(ops)))
    node.close()
    s.start()
    end = time.monotonic() + 20
    while "65535 are the end" not in s.log():
        assert time.monotonic() < end
        time.sleep(0.1)

"""Consumer groups on real servers: which replica gives out an entry, and that each is given out
once."""
import contextlib
import random
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.real.cluster import ROOT, Cluster, until
from tests.respclient import decode, encode


def gives_out(server, group: bytes = b"g", key="s") -> dict:
    """What CRDT.INSPECT tells of the group; nothing where nobody reads it."""
    with server.connect(resp=3) as c:
        return (c("CRDT.INSPECT", key) or {}).get(b"gives_out", {}).get(group, {})


@pytest.fixture(scope="module")
def mesh():
    c = Cluster(3).start()
    yield c
    for s in c:
        s.dispose()


@pytest.fixture
def three(mesh):
    """In step, and empty; nobody reads anything."""
    mesh.sync()
    until(lambda: not any(gives_out(s) for s in mesh))
    mesh[0]("FLUSHALL")
    mesh.sync()
    yield mesh
    mesh.sync()
    mesh.assert_converged()


def ids(reply) -> list[bytes]:
    return [i for i, _ in reply[0][1]] if reply else []


def read(server, consumer="x", group="g", key="s", *options) -> list[bytes]:
    return ids(server("XREADGROUP", "GROUP", group, consumer, *options, "STREAMS", key, ">"))


def read_until_empty(server, consumer="x") -> list[bytes]:
    out = []
    while got := read(server, consumer, "g", "s", "COUNT", 3):
        server("XACK", "s", "g", *got)
        out += got
    return out


def add(server, n: int, key="s") -> list[bytes]:
    return [server("XADD", key, "*", "f", i) for i in range(n)]


def begin(cluster, *options) -> None:
    cluster[0]("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM", *options)
    cluster.sync()


def test_STR_S2_each_entry_to_one_of_the_consumers(three):
    a, b, _ = three
    begin(three)
    assert read(a) == read(b) == []
    added = add(a, 10) + add(b, 10)
    three.sync()
    got = [i for s in (a, b, a, b) for i in read_until_empty(s)]
    three.sync()
    got += [i for s in (a, b) for i in read_until_empty(s)]
    assert sorted(got) == sorted(added)
    # B's consumer stops
    added = add(b, 5)
    got = []
    until(lambda: got.extend(read_until_empty(a)) or len(got) >= 5)
    assert sorted(got) == sorted(added)
    three.sync()
    assert read_until_empty(b) == [] and len(set(s("XPENDING", "s", "g")[0] for s in three)) == 1


def test_its_own_entries_at_once(three):
    """No other replica has a consumer: not even a word is waited for, be there none for long."""
    a = three[0]
    begin(three)
    three.pause()
    (added,) = add(a, 1)
    with a.connect() as c:
        assert ids(c("XREADGROUP", "GROUP", "g", "x", "BLOCK", 20_000, "STREAMS", "s", ">")) == [
            added]


def test_a_consumer_that_polls_gets_all(three):
    """Each time it has been forgotten since, and its first answer waits for what others say."""
    a, b, c = three
    begin(three)
    for _ in range(3):
        added = add(a, 2) + add(b, 2) + add(c, 2)
        three.sync()
        assert sorted(read(c)) == sorted(added)
        until(lambda: not gives_out(c))


def wait(server, consumer: str):
    """A client that waits for entries."""
    c = server.connect()
    c.socket.sendall(encode("XREADGROUP", "GROUP", "g", consumer, "BLOCK", 60_000, "STREAMS", "s",
                            ">"))
    until(lambda: server("CLIENT", "LIST").count(b"flags=b"))
    return c


def test_who_waits_gets_what_others_leave(three):
    a, b, c = three
    begin(three)
    with wait(c, "x") as x:
        until(lambda: gives_out(c).get(b"others"))
        (added,) = add(b, 1)
        assert ids(decode(x.raw())) == [added]
    with wait(c, "x") as x, wait(a, "y") as y:
        # they are not forgotten while they wait
        until(lambda: gives_out(b).get(b"consumers_at") == [b"a", b"c"])
        for _ in range(3):
            assert gives_out(c)[b"consumer"] and gives_out(a)[b"consumer"]
        (at_c,), (at_b,) = add(c, 1), add(b, 1)
        assert ids(decode(x.raw())) == [at_c]
        assert ids(decode(y.raw())) == [at_b], "the first by name of those with a consumer"


def test_a_shared_group_is_given_out_everywhere(three):
    begin(three, "SHARED")
    three[1]("XGROUP", "SETID", "s", "g", 0)
    three.pause()
    added = add(three[1], 2)
    three.sync()
    three.pause()
    assert [read(s) for s in three] == [added] * 3
    three.sync()
    assert [read(s) for s in three] == [[]] * 3


class Count:
    """Entries that were added, and how often consumers got each."""

    def __init__(self, servers, seed: int):
        self.servers, self.rng = list(servers), random.Random(seed)
        self.added: set[bytes] = set()
        self.got: Counter = Counter()

    def steps(self, n: int, servers=()) -> None:
        rng = self.rng
        for _ in range(n):
            server = rng.choice(list(servers) or self.servers)
            if rng.random() < 0.5:
                self.added.update(add(server, 1))
            else:
                self.read(server, *rng.choice([(), ("COUNT", 1), ("BLOCK", 10)]))

    def read(self, server, *options) -> None:
        found = read(server, server.name, "g", "s", *options)
        self.got.update(found)
        if found and self.rng.random() < 0.5:
            server("XACK", "s", "g", *found)

    def read_all(self) -> None:
        """Until none is left, wherever it is."""
        def read_some():
            for server in self.servers:
                self.read(server)
            return self.added <= self.got.keys()
        until(read_some)


@pytest.mark.parametrize("seed", range(2))
def test_each_entry_once_while_consumers_come_and_go(three, seed):
    begin(three)
    count = Count(three, seed)
    for _ in range(4):
        count.steps(60)
        # one of them goes for as long as it takes until it is forgotten
        rest = count.rng.sample(count.servers, 2)
        gone = next(s for s in three if s not in rest)
        for _ in range(20):
            count.steps(5, rest)
        until(lambda: not gives_out(gone).get(b"consumer"))
        count.added.update(add(gone, 3))
    count.read_all()
    three.sync()
    count.read_all()
    assert set(count.got.values()) == {1} and count.got.keys() == count.added
    assert [read(s) for s in three] == [[]] * 3


def test_every_entry_at_least_once_through_partitions_and_crashes(cluster):
    three = cluster(3)
    three.sync()
    begin(three)
    a, b, c = three
    count = Count(three, 7)
    count.steps(40)
    b("CRDT.PEER", "PAUSE", "*")
    count.steps(40)
    # apart for so long that each side gives out what it has of the other's
    until(lambda: gives_out(b).get(b"others") or count.steps(1, [b]))
    count.steps(40)
    b("CRDT.PEER", "RESUME", "*")
    count.steps(40)
    c.kill()
    count.steps(40, [a, b])
    # what it had added and they have got of it, too
    there = {i for i, _ in a("XRANGE", "s", "-", "+")}
    until(lambda: count.read(a) or count.read(b) or there <= count.got.keys())
    c.start()
    count.steps(40)
    three.sync()
    count.read_all()
    assert count.got.keys() == count.added
    three.sync()
    three.assert_converged()



def test_a_replica_that_restarts_gives_out_its_own_once(cluster):
    """The others leave it what it had added, for longer than that takes."""
    a, b = two = cluster(2, sync_interval="20s")
    two.sync()
    begin(two)
    assert read(a) == read(b) == []
    added = add(a, 3), add(b, 3)
    two.sync()
    b.kill()
    until(lambda: b"up" not in b"".join(a("CRDT.PEERS")))
    assert [read(a), read(a)] == [added[0], []]
    b.start()
    assert read(b, "x", "g", "s", "BLOCK", 30_000) == added[1]
    two.sync()
    assert read(a) == read(b) == []
    assert gives_out(a)[b"consumers_at"] == [b"b"] and gives_out(b)[b"waits_for"] == []


def test_what_a_removed_replica_has_added_is_given_out(cluster):
    a, b = two = cluster(2, sync_interval="20s")
    two.sync()
    begin(two)
    assert read(b) == []
    added = add(b, 3)
    two.sync()
    b.kill()
    with wait(a, "x") as x:
        a("CRDT.PEER", "REMOVE", "b")
        assert ids(decode(x.raw())) == added


def test_the_worker_of_operation_md(three, tmp_path):
    """Two at two replicas do each job once, and those of one that died."""
    page = (ROOT / "packaging" / "operation.md").read_text()
    program, = re.findall(r"```python\n(.*?)```", page, re.S)
    program = program.replace("    work(id, fields)", "    r.rpush('done', fields[b'f'])")
    (tmp_path / "worker.py").write_text(program)
    a, b, c = three
    a("XGROUP", "CREATE", "jobs", "workers", "0", "MKSTREAM")
    a("XADD", "jobs", "*", "f", "left")
    left, = read(a, "dead", "workers", "jobs")
    a("XCLAIM", "jobs", "workers", "dead", 0, left, "IDLE", 3_600_000)
    three.sync()
    with contextlib.ExitStack() as stack:
        for s in a, b:
            worker = stack.enter_context(subprocess.Popen([sys.executable, tmp_path / "worker.py",
                                                           str(s.port)]))
            stack.callback(worker.kill)
        until(lambda: b"left" in c("LRANGE", "done", 0, -1))        # twice, if both claim it
        for s in three:
            add(s, 5, "jobs")
        until(lambda: c("LLEN", "done") >= 16 and c("XPENDING", "jobs", "workers")[0] == 0)
    done = Counter(c("LRANGE", "done", 0, -1))
    assert 1 <= done.pop(b"left") <= 2 and done == {str(i).encode(): 3 for i in range(5)}

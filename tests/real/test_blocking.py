"""Clients that wait for keys, on real processes: elements from other replicas, clients and servers
that die, memory."""
import select
import subprocess
import threading
import time

import pytest
import redis

from tests.real.cluster import Cluster, Server
from tests.respclient import Connection


def blocked(server, n: int) -> None:
    end = time.monotonic() + 10
    while f"blocked_clients:{n}\r\n" not in server("INFO", "clients").decode():
        assert time.monotonic() < end, server("CLIENT", "LIST")
        time.sleep(0.01)


@pytest.fixture(scope="module")
def three():
    cluster = Cluster(3).start()
    yield cluster
    for s in cluster:
        s.dispose()


@pytest.fixture
def s():
    server = Server().start()
    yield server
    server.dispose()


def test_an_element_pushed_elsewhere(three):
    a, b, c = three
    with b.connect() as waiting, c.connect() as other:
        waiting.send("BLPOP", "queue", 0)
        other.send("BZPOPMIN", "scores", 0)
        blocked(b, 1)
        blocked(c, 1)
        a("RPUSH", "queue", "x", "y")
        a("ZADD", "scores", 1, "m")
        assert waiting.read() == [b"queue", b"x"]
        assert other.read() == [b"scores", b"m", b"1"]
    three.sync()
    three.assert_converged()
    assert [s("LRANGE", "queue", 0, -1) for s in three] == [[b"y"]] * 3
    assert [s("EXISTS", "scores") for s in three] == [0] * 3
    a("DEL", "queue")


def test_two_replicas_give_out_the_same_element(three):
    """As two replicas can that pop it concurrently: here they have the push, and not yet each
    other's pop."""
    a, b, c = three
    three.sync()
    b("CRDT.PEER", "PAUSE", "c")
    c("CRDT.PEER", "PAUSE", "b")
    a("CRDT.PEER", "PAUSE", "*")
    with b.connect() as at_b, c.connect() as at_c:
        at_b.send("BLPOP", "jobs", 0)
        at_c.send("BLPOP", "jobs", 0)
        blocked(b, 1)
        blocked(c, 1)
        a("RPUSH", "jobs", "job")
        a("CRDT.PEER", "RESUME", "*")
        assert at_b.read() == [b"jobs", b"job"]
        assert at_c.read() == [b"jobs", b"job"]
    three.sync()
    three.assert_converged()
    assert [s("EXISTS", "jobs") for s in three] == [0] * 3


def test_a_queue_across_replicas_loses_nothing(three):
    """Pushed at every replica, taken at one: every job is done once."""
    a, b, c = three
    done, n = [], 300

    def work():
        with b.connect() as worker:
            while (got := worker("BLPOP", "work", 20)) and got[1] != b"stop":
                done.append(got[1])

    workers = [threading.Thread(target=work) for _ in range(3)]
    for w in workers:
        w.start()
    for i in range(n):
        three[i % 3]("RPUSH", "work", i)
    three.sync()
    b("RPUSH", "work", "stop", "stop", "stop")
    for w in workers:
        w.join(30)
    assert sorted(map(int, done)) == list(range(n))
    three.sync()
    three.assert_converged()
    assert [s("EXISTS", "work") for s in three] == [0] * 3


def test_a_client_killed_while_it_waits_takes_nothing(s):
    process = subprocess.Popen(["redis-cli", "-p", str(s.port), "BLPOP", "k", "0"],
                               stdout=subprocess.PIPE)
    blocked(s, 1)
    process.kill()
    process.wait()
    blocked(s, 0)
    s("RPUSH", "k", "x")
    assert s("LRANGE", "k", 0, -1) == [b"x"]


@pytest.mark.parametrize("how", ["SHUTDOWN", "SIGTERM"])
def test_a_server_stops_with_clients_waiting(s, how):
    waiting = [s.connect() for _ in range(20)]
    for i, c in enumerate(waiting):
        c.send(*("BLPOP", f"k{i}", 0) if i % 2 else ("BLMOVE", f"k{i}", "to", "LEFT", "LEFT", 100))
    blocked(s, 20)
    if how == "SIGTERM":
        assert s.stop() == 0
    else:
        with pytest.raises(ConnectionError):
            s("SHUTDOWN")
        assert s.process.wait(20) == 0
        s.process = None
        s._disconnect()
    for c in waiting:
        with pytest.raises(ConnectionError):
            c.read()
    s.start()
    assert s("DBSIZE") == 0


def test_what_was_given_out_is_not_given_out_again_after_a_crash(s):
    taken = []
    with s.connect() as worker:
        for i in range(50):
            worker.send("BLPOP", "k", 0)
            s("RPUSH", "k", i)
            taken.append(worker.read()[1])
        s("RPUSH", "k", "left")
    s.kill()
    s.start()
    assert taken == [b"%d" % i for i in range(50)]
    assert s("LRANGE", "k", 0, -1) == [b"left"]


def test_memory_returns_after_many_rounds(s):
    """A worker and those who feed it: a list that is filled and emptied 200,000 times leaves
    nothing behind."""
    rounds, batch = 200_000, 500

    def memory() -> int:
        fields = dict(line.split(":", 1) for line in s("INFO", "memory").decode().splitlines()
                      if ":" in line)
        return int(fields["used_memory"])

    s("RPUSH", "k", "x")
    s("LPOP", "k")
    before = memory()
    with s.connect() as worker, s.connect() as feeder:
        for _ in range(rounds // batch):
            for i in range(batch):
                worker.send("BLPOP", "k", "other",
                            10) if i % 2 else worker.send("BLMPOP", 0, 1, "k", "LEFT")
            assert feeder.pipeline([("RPUSH", "k", "element")] * batch)[0] == 1
            for _ in range(batch):
                worker.read()
    assert s("EXISTS", "k", "other") == 0
    assert memory() - before < 100_000


def test_redis_py(s):
    r = redis.Redis(port=s.port, decode_responses=True)
    r.rpush("l", "a", "b", "c")
    assert r.blpop(["none", "l"], timeout=1) == ("l", "a")
    assert r.brpop("l") == ("l", "c")
    assert r.blmove("l", "m", 1, "LEFT", "RIGHT") == "b"
    assert r.brpoplpush("m", "l", timeout=1) == "b"
    assert r.blmpop(1, 2, "none", "l", direction="LEFT", count=2) == ["l", ["b"]]
    r.zadd("z", {"a": 1, "b": 2, "c": 3})
    assert r.bzpopmin("z") == ("z", "a", 1.0) and r.bzpopmax("z") == ("z", "c", 3.0)
    assert r.bzmpop(1, 1, ["z"], min=True)[0] == "z"
    assert r.blpop("none", timeout=0.01) is None


def test_many_clients_wait_for_one_key(s):
    """One element costs one of them, not all; and nobody keeps a read buffer while waiting."""
    n = 2000
    many = [Connection(s.port) for _ in range(n)]
    try:
        for c in many:
            c.send("BLPOP", "k", *(f"k{i}" for i in range(5)), 0)
        blocked(s, n)
        began = s.cpu_seconds()
        for i in range(200):
            s("RPUSH", "k", i)
        assert s.cpu_seconds() - began < 1
        blocked(s, n - 200)
        poll = select.poll()
        by_fd = {c.socket.fileno(): c for c in many}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        served = [by_fd[fd] for fd, _ in poll.poll(0)]
        assert sorted(int(c.read()[1]) for c in served) == list(range(200))
    finally:
        for c in many:
            c.close()
    blocked(s, 0)

"""io_threads beside peers: clients of all kinds come and go, one replica is killed (kill -9) and
started again, and replies are under way when the servers end; thousands of connections that come
and go leave no memory and no descriptor behind. IO_ATTACK_SECONDS: how long."""
from __future__ import annotations

import os
import random
import socket
import struct
import threading
import time

import pytest

from tests.real.cluster import Cluster, until
from tests.respclient import Connection, ReplyError, encode

SECONDS = float(os.environ.get("IO_ATTACK_SECONDS", "4"))
GONE = (OSError, EOFError, ConnectionError)


class Attack:
    """Threads of clients, until `over`. What is wrong ends up in `wrong`."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.acknowledged: dict[str, int] = {}
        self.counted: dict[str, int] = {}
        self.threads: list[threading.Thread] = []

    def run(self, client, *args) -> None:
        self.threads.append(threading.Thread(target=self._forever, args=(client, *args)))
        self.threads[-1].start()

    def _forever(self, client, number, *args) -> None:
        rng = random.Random(number)
        name = client.__name__
        while not self.over.is_set():
            try:
                client(self, rng, number, *args)
                self.counted[name] = self.counted.get(name, 0) + 1
            except GONE as e:
                if isinstance(e, TimeoutError):
                    self.wrong.append(f"{name}: no reply")
                time.sleep(0.02)
            except Exception as e:
                self.wrong.append(f"{name}: {e!r}")
                return

    def connect(self, server, **options) -> Connection:
        return Connection(server.port, timeout=60, **options)

    def end(self) -> None:
        self.over.set()
        for t in self.threads:
            t.join(90)
            assert not t.is_alive(), "a client waits for a reply in vain"


def refused(e: ReplyError) -> bool:
    """Starting, full, or CLIENT KILLed in between."""
    return str(e).startswith(("LOADING", "MASTERDOWN", "ERR max number of clients"))


def writes(attack, rng, number, server):
    """What was acknowledged is there after kill -9."""
    with attack.connect(server) as c:
        for _ in range(200):
            if attack.over.is_set():
                return
            n = attack.acknowledged.get(f"w{number}", 0) + 1
            try:
                c("SET", f"w{number}", n)
            except ReplyError as e:
                assert refused(e), e
                return
            attack.acknowledged[f"w{number}"] = n


def talks(attack, rng, number, server):
    """Replies in order, in the protocol that holds at each."""
    def reply(resp):
        return [b"_\r\n" if resp == 3 else b"$-1\r\n"]

    def echo(text):
        return f"${len(text)}\r\n{text}\r\n".encode()

    sent, expected = [], []
    resp = 2
    for i in range(rng.choice([1, 3, 30, 200])):
        kind = rng.randrange(5)
        text = f"{number}.{i}" + "x" * rng.choice([0, 0, 0, 3000])
        if kind == 0:
            resp = rng.choice([2, 3])
            sent += [encode("HELLO", resp), encode("ECHO", text)]
            expected += [None, echo(text)]
        elif kind == 1:
            sent += [encode("MULTI"), encode("ECHO", text), encode("GET", "none"), encode("EXEC")]
            expected += [b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n",
                         b"*2\r\n" + echo(text) + reply(resp)[0]]
        elif kind == 2:
            sent.append(encode("GET", "none"))
            expected += reply(resp)
        else:
            sent.append(encode("ECHO", text))
            expected.append(echo(text))
    data = b"".join(sent)
    with attack.connect(server) as c:
        cut = rng.randrange(len(data))
        c.socket.sendall(data[:cut])
        if rng.random() < 0.5:
            time.sleep(rng.random() / 50)
        if rng.random() < 0.1:          # reset in the middle
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        c.socket.sendall(data[cut:])
        for want in expected:
            got = c.raw()
            if got.startswith((b"-LOADING", b"-MASTERDOWN", b"-ERR max number")):
                return
            assert want is None or got == want, (got, want)


def blocks(attack, rng, number, server):
    with attack.connect(server) as c, attack.connect(server) as other:
        try:
            c.send("BLPOP", f"l{number}", 5)
            if rng.random() < 0.2:
                return                  # hangs up
            other("RPUSH", f"l{number}", "a")
            got = c.read()
            if isinstance(got, ReplyError):
                raise got
            assert got == [f"l{number}".encode(), b"a"]
        except ReplyError as e:
            assert refused(e) or str(e).startswith("UNBLOCKED"), e


def listens(attack, rng, number, server):
    """Messages of one publisher come in its order; RESP3, between replies."""
    with attack.connect(server) as c, attack.connect(server) as p:
        try:
            c("HELLO", 3)
            c.send("SUBSCRIBE", f"c{number}")
            c.read()
            for i in range(20):
                p("PUBLISH", f"c{number}", f"{i}" + "x" * rng.choice([1, 2000]))
            for i in range(20):
                assert c.read()[2].rstrip(b"x") == str(i).encode()
        except ReplyError as e:
            assert refused(e), e


def reads_slowly(attack, rng, number, server):
    """... until the output limit ends it, as a rule."""
    with attack.connect(server) as c:
        try:
            c("SET", "large", b"y" * 1_000_000)
        except ReplyError as e:
            assert refused(e), e
            return
        for _ in range(60):
            c.send("GET", "large")
        time.sleep(0.3)
        for _ in range(60):             # unless it is let go of
            c.raw()


def kills(attack, rng, number, server):
    with attack.connect(server) as c:
        try:
            ids = [line.split(b" ")[0][3:] for line in c("CLIENT", "LIST").splitlines()]
            for id in rng.sample(ids, min(3, len(ids))):
                c("CLIENT", "KILL", "ID", id, "SKIPME", "yes")
            c("CLIENT", "PAUSE", rng.choice([1, 20]), rng.choice(["WRITE", "ALL"]))
        except ReplyError as e:
            assert refused(e), e
    time.sleep(0.1)


def bursts(attack, rng, number, server):
    """More than there may be: each gets PONG or is told why not."""
    socks = []
    try:
        for _ in range(200):
            socks.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            socks[-1].sendall(encode("PING"))
        for s in socks:
            try:
                got = s.recv(200)
            except ConnectionError:     # closed with its PING unread
                continue
            assert got in (b"+PONG\r\n", b"") or got.startswith(
                (b"-ERR max number of clients", b"-LOADING", b"-MASTERDOWN")), got
    finally:
        for s in socks:
            s.close()
    time.sleep(0.2)


def comes_and_goes(attack, rng, number, server):
    """A hundred at once, each with a part of a pipeline; some read, some reset, some only connect,
    and one waits."""
    socks = []
    try:
        for _ in range(100):
            socks.append(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            k = f"{number}.{rng.randrange(100)}"
            data = (encode("PING") + encode("SET", k, "v" * rng.choice([1, 20_000]))
                    + encode("GET", k) * rng.choice([1, 30]) + encode("BLPOP", "nothing", 1))
            socks[-1].sendall(data[:rng.randrange(len(data))])
        for s in socks:
            if (end := rng.randrange(4)) == 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif end == 1:
                s.shutdown(socket.SHUT_WR)
                while s.recv(1 << 16):
                    pass
    finally:
        for s in socks:
            s.close()


@pytest.fixture(params=["2", "4"])
def cluster(monkeypatch, request):
    monkeypatch.setenv("CRDT_REDIS_IO_THREADS", request.param)      # woken for each call
    c = Cluster(3, appendfsync="always", max_connections=150,
                client_output_buffer_limit="normal 8388608 0 0")
    yield c.start()
    for s in c:
        s.dispose()


def test_clients_of_all_kinds_while_a_replica_is_killed(cluster):
    a, b, _ = cluster
    attack = Attack(cluster)
    for server in (a, b):
        for client, n in ((writes, 8), (talks, 10), (blocks, 3), (listens, 3), (reads_slowly, 1),
                          (kills, 1), (bursts, 1)):
            for _ in range(n):
                attack.run(client, len(attack.threads), server)
    for kill in (True, True, True, False):
        before = dict(attack.acknowledged)          # the first eight are on a
        until(lambda b=before: attack.wrong or all(  # it serves writes again
            attack.acknowledged.get(f"w{i}", 0) > b.get(f"w{i}", 0) for i in range(8)), 120)
        time.sleep(SECONDS / 4)
        if kill:
            a.kill()
            a.start(wait=False)
    attack.end()
    assert not attack.wrong
    for client in (writes, talks, blocks, listens, bursts):
        assert attack.counted.get(client.__name__), attack.counted
    for s in cluster:
        s.wait_ready()
        s._disconnect()
    cluster.sync()
    for s in cluster:
        for key, n in attack.acknowledged.items():
            assert int(s("GET", key)) >= n, (s.name, key)
    cluster.assert_converged()
    print(attack.counted, sum(attack.acknowledged.values()))


def descriptors(server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def connections(server) -> int:
    return int(server("INFO", "stats").split(b"total_connections_received:")[1].split()[0])


def test_thousands_come_and_go_and_leave_nothing(monkeypatch):
    """At b, while peers write, and a is killed and comes back."""
    monkeypatch.setenv("CRDT_REDIS_IO_THREADS", "4")
    cluster = Cluster(2, appendfsync="always", max_connections=2000)
    a, b = cluster.start()
    try:
        for s in cluster:                   # keys and what all keep for good
            for n in range(6):
                for i in range(100):
                    s("SET", f"{n}.{i}", "v" * 20_000)
        cluster.sync()

        def wave(kill):
            attack = Attack(cluster)
            for s in (a, b):
                for client, n in ((comes_and_goes, 3), (writes, 2)):
                    for _ in range(n):
                        attack.run(client, len(attack.threads), s)
            enough = connections(b) + 2000
            until(lambda: attack.wrong or connections(b) > enough - 1000 * kill, 120)
            if kill:
                a.kill()
                a.start()
                until(lambda: attack.wrong or connections(b) > enough, 120)
            attack.end()
            assert not attack.wrong
            cluster.sync()
            until(lambda: b"connected_clients:1\r" in b("INFO", "clients"), 20)

        wave(kill=False)
        fds, resident = descriptors(b), b.resident_bytes()
        for kill in (True, False):
            wave(kill)
        until(lambda: descriptors(b) <= fds + 2, 20)        # links to a that are being made anew
        until(lambda: b.resident_bytes() < resident + (8 << 20), 20)
        cluster.assert_converged()
    finally:
        for s in cluster:
            s.dispose()


def test_replies_are_under_way_when_the_server_ends(cluster):
    """Each client gets whole replies up to the end, and all of what it had asked for before."""
    a = cluster[0]
    a("SET", "k", b"z" * 100_000)
    clients = [Connection(a.port, timeout=20) for _ in range(60)]
    for c in clients:
        for _ in range(20):
            c.send("GET", "k")
    whole = []

    def read(c):
        n = 0
        try:
            while True:
                assert c.raw() == b"$100000\r\n" + b"z" * 100_000 + b"\r\n"
                n += 1
        except GONE:
            whole.append(n)

    threads = [threading.Thread(target=read, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    time.sleep(0.05)
    assert a.stop() == 0
    for t in threads:
        t.join(20)
        assert not t.is_alive()
    assert len(whole) == 60 and sum(whole) > 0

"""PUBLISH between real processes: order, data before messages, at most once, what stays at home."""
import threading

import pytest

from tests.real.cluster import until
from tests.respclient import ReplyError


@pytest.fixture
def three(cluster):
    return cluster(3)


class Subscriber:
    """A connection that listens; `publish` is how the others wake it."""

    def __init__(self, server, *commands):
        self.connection = server.connect(resp=3)
        for command in commands:
            self.connection(*command)

    def heard_from(self, server, channel="ch", publish="PUBLISH"):
        """Returns once messages of that server arrive here: until its replica has been told that
        somebody listens, they do not."""
        self.connection.socket.settimeout(0.05)

        def arrived():
            server(publish, channel, "probe")
            try:
                return self.connection.read()
            except TimeoutError:
                return None
        until(arrived)
        server(publish, channel, "end of probes")
        self.connection.socket.settimeout(20)
        while self.connection.read()[-1] != b"end of probes":
            pass

    def read(self):
        return self.connection.read()


def stats(server) -> dict[str, int]:
    lines = server("INFO", "stats").decode().splitlines()
    return {k.removeprefix("pubsub_messages_"): int(v) for k, _, v in
            (line.partition(":") for line in lines) if k.startswith("pubsub_messages_")}


def test_PUB_1(three):
    a, _, c = three
    s = Subscriber(c, ("SUBSCRIBE", "ch"))
    s.heard_from(a)
    before = stats(a)["sent"]
    n = 10_000

    def write():
        with a.connect() as w:
            for i in range(0, n, 100):
                commands = [x for j in range(i, i + 100)
                            for x in (("SET", "k", j), ("PUBLISH", "ch", j))]
                assert all(r in (b"OK", 0) for r in w.pipeline(commands))

    writer = threading.Thread(target=write)
    writer.start()
    with c.connect() as reader:
        for i in range(n):
            assert s.read() == [b"message", b"ch", b"%d" % i]
            if i % 10 == 0:
                assert int(reader("GET", "k")) >= i
    writer.join()
    assert stats(a)["sent"] - before == n
    assert stats(a)["dropped"] == stats(c)["dropped"] == 0


def test_messages_of_many_sizes_kinds_and_origins(three):
    a, b, c = three
    s = Subscriber(c, ("SUBSCRIBE", "ch"), ("PSUBSCRIBE", "p*"), ("SSUBSCRIBE", "sh"))
    for server in (a, b):
        s.heard_from(server)
        s.heard_from(server, "probed")
        s.heard_from(server, "sh", "SPUBLISH")
    for size in (0, 1, 1000, 100_000, 1_000_000, 5_000_000):
        for server in (a, b):
            server("PUBLISH", "ch", "x" * size)
            assert s.read() == [b"message", b"ch", b"x" * size]
    a("PUBLISH", "pq", "m")
    assert s.read() == [b"pmessage", b"p*", b"pq", b"m"]
    a("SPUBLISH", "sh", "m")
    assert s.read() == [b"smessage", b"sh", b"m"]
    a("MULTI")
    a("SET", "k", "in a transaction")
    a("PUBLISH", "ch", "k")
    assert a("EXEC") == [b"OK", 0]
    assert s.read()[2] == b"k" and c("GET", "k") == b"in a transaction"
    assert a("EVAL", "redis.call('SET', 'k', 'in a script') "
             "return redis.call('PUBLISH', 'ch', 'k')", 0) == 0
    assert s.read()[2] == b"k" and c("GET", "k") == b"in a script"
    # one op of 5 MB, which goes in requests of its own
    a("SET", "k", "y" * 5_000_000)
    a("PUBLISH", "ch", "large")
    assert s.read()[2] == b"large" and len(c("GET", "k")) == 5_000_000


def test_what_nobody_listens_to_stays_at_home(cluster):
    three = cluster(3, pubsub_local="home*")
    a, _, c = three
    s = Subscriber(c, ("SUBSCRIBE", "ch", "home1", "__keyspace@0__:k"),
                   ("PSUBSCRIBE", "__keyevent@*"))
    s.connection.read(), s.connection.read()
    s.heard_from(a)
    before = stats(a)["sent"]
    for channel in ("other", "home1", "__keyspace@0__:k", "__keyevent@0__:set"):
        a("PUBLISH", channel, "m")
    a("SPUBLISH", "ch", "m")
    assert stats(a)["sent"] == before
    a("CONFIG", "SET", "pubsub-local", "")
    a("PUBLISH", "home1", "now")
    assert s.read() == [b"message", b"home1", b"now"]
    s.connection("UNSUBSCRIBE", "ch")
    until(lambda: a("PUBLISH", "ch", "m") == 0 and stats(a)["sent"] == (
        a("PUBLISH", "ch", "m"), stats(a)["sent"])[1])


def test_a_message_after_a_restart_comes_behind_what_was_written_before_it(cluster):
    a, c = cluster(2)
    c("CRDT.PEER", "PAUSE", "*")
    n = 20_000
    with a.connect() as w:
        for i in range(0, n, 1000):
            w.pipeline(("SET", f"k{j}", "x" * 2000) for j in range(i, i + 1000))
    a.restart()
    with c.connect() as listener:
        listener("SUBSCRIBE", "ch")
        c("CRDT.PEER", "RESUME", "*")
        listener.socket.settimeout(0.002)

        def arrived():
            a("PUBLISH", "ch", "m")
            try:
                return listener.read()
            except TimeoutError:
                return None
        until(arrived)
        assert c("DBSIZE") == n


def test_messages_and_data_over_cuts_and_restarts(three):
    """Whatever happens to the publisher's replica and to the links: each message at most once, in
    order, and never before the data."""
    a, b, c = three
    s = Subscriber(c, ("SUBSCRIBE", "ch"))
    s.heard_from(a)
    stop, published = threading.Event(), [0]

    def write():
        while not stop.is_set():
            try:
                with a.connect() as w:
                    while not stop.is_set():
                        i = published[0] + 1
                        w("SET", "k", i)
                        w("PUBLISH", "ch", i)
                        published[0] = i
            except (OSError, ReplyError, ConnectionError):
                pass

    writer = threading.Thread(target=write)
    writer.start()
    heard = []

    def listen():
        with c.connect() as reader:
            while not stop.is_set():
                try:
                    message = s.read()
                except TimeoutError:
                    continue
                if message[2].isdigit():
                    i = int(message[2])
                    heard.append((i, int(reader("GET", "k"))))

    s.connection.socket.settimeout(20)
    listener = threading.Thread(target=listen)
    listener.start()

    def heard_since(n):
        return len(heard) > n + 100

    for disturb in (lambda: c("CRDT.PEER", "PAUSE", "*"), lambda: c("CRDT.PEER", "RESUME", "*"),
                    lambda: a("CRDT.PEER", "PAUSE", "*"), lambda: a("CRDT.PEER", "RESUME", "*"),
                    a.restart, b.restart, lambda: c("CRDT.PEER", "PAUSE", "*"),
                    lambda: c("CRDT.PEER", "RESUME", "*"), a.restart):
        was = published[0]
        until(lambda: published[0] > was + 100)
        disturb()
        n = len(heard)
        if getattr(disturb, "__name__", "") == "restart":
            until(lambda: heard_since(n))
    n = len(heard)
    until(lambda: heard_since(n))
    stop.set()
    a("PUBLISH", "ch", "the end")
    writer.join()
    listener.join()
    numbers = [i for i, _ in heard]
    assert numbers == sorted(set(numbers))
    assert all(seen >= i for i, seen in heard)

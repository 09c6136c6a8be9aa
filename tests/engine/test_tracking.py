"""Client-side caching and sockets: what it may cost, who leaves, and what is too much to be named
key by key."""
import pytest

from tests.commands.run import Client
from tests.engine.conftest import encode, with_threads
from tests.respclient import decode


def tracking(s, *options):
    c = s.connect(60)
    c.send("HELLO 3")
    line = b""
    while not line.endswith(b"$7\r\nmodules\r\n*0\r\n"):
        line += c.read(1)
    c.send(" ".join(["CLIENT TRACKING ON", *options]))
    c.expect(b"+OK\r\n")
    return c


def stats(s):
    return s.on_engine(s.executor.tracking_stats)


def invalid(*keys) -> bytes:
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n" % len(keys) + b"".join(
        b"$%d\r\n%b\r\n" % (len(k), k) for k in keys)


NULL = b">2\r\n$10\r\ninvalidate\r\n_\r\n"


def test_keys_beyond_the_limit_are_said_to_be_invalid(served):
    s = served()
    s.on_engine(lambda: setattr(s.executor, "tracking_table_max_keys", 10))
    c, worker = tracking(s), s.connect()
    keys = [f"key:{i}" for i in range(1000)]
    c.send("MGET " + " ".join(keys))
    c.expect(b"*1000\r\n" + b"_\r\n" * 1000)
    gone = set()
    while len(gone) < 990:
        head = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$"
        c.expect(head)
        line = c.read(3)
        gone.add(c.read(int(line[:1]) + 2)[:-2].decode())
    assert stats(s) == {"clients": 1, "keys": 10, "items": 10, "prefixes": 0}
    # of the others it is still told
    for key in set(keys) - gone:
        worker.send(f"SET {key} v")
        worker.expect(b"+OK\r\n")
        c.expect(invalid(key.encode()))
    for key in gone:
        worker.send(f"SET {key} v")
    worker.expect(b"+OK\r\n" * 990)
    assert c.silent() and stats(s)["keys"] == 0


@with_threads
def test_who_goes_leaves_nothing(served):
    s = served()
    worker = s.connect()
    last = tracking(s)
    last.send("GET k")
    last.expect(b"_\r\n")
    for i in range(50):
        c = tracking(s, *(["BCAST", "PREFIX", f"p{i}"] if i % 2 else []))
        c.send("GET k")
        c.expect(b"_\r\n")
        c.sock.close()
    s.wait(lambda: s.executor.tracking_stats()["clients"] == 1)
    assert stats(s) == {"clients": 1, "keys": 1, "items": 26, "prefixes": 0}
    worker.send("SET k v")
    worker.expect(b"+OK\r\n")
    last.expect(invalid(b"k"))
    assert stats(s)["items"] == 0
    last.send("GET k")
    last.expect(b"$1\r\nv\r\n")
    last.sock.close()
    s.wait(lambda: not any(s.executor.tracking_stats().values()))


@with_threads
def test_the_one_that_gets_the_messages_goes(served):
    s = served()
    other, worker = s.connect(), s.connect()
    other.send("CLIENT ID")
    other_id = int(other.read(4)[1:-2])
    c = tracking(s, "REDIRECT", str(other_id))
    c.send("GET k", "GET l")
    c.expect(b"_\r\n" * 2)
    other.sock.close()
    s.wait(lambda: s.loop.stats()["connected"] == 2)
    broken = b">2\r\n$21\r\ntracking-redir-broken\r\n:%d\r\n" % other_id
    worker.send("MSET k 1 l 2")
    worker.expect(b"+OK\r\n")
    c.expect(broken * 2)
    assert "R" in s.on_engine(lambda: s.loop.clients())[-1]["flags"]
    c.send("CLIENT TRACKING ON", "GET k")
    c.expect(b"+OK\r\n$1\r\n1\r\n")
    worker.send("SET k 2")
    c.expect(invalid(b"k"))


def test_what_is_too_much_to_be_listed_makes_everything_invalid(served):
    s = served()
    c, own = tracking(s), tracking(s, "NOLOOP")
    c.send("GET elsewhere")
    c.expect(b"_\r\n")
    own.raw(encode([b"MSET", *[x for i in range(40) for x in (b"%02d" % i + b"k" * 1_000_000,
                                                             b"v")]]))
    own.expect(b"+OK\r\n")
    c.expect(NULL)
    own.expect(NULL)
    assert stats(s)["keys"] == 0


@with_threads
def test_a_broadcast_of_many_long_keys_comes_in_parts(served):
    s = served()
    c, worker = tracking(s, "BCAST"), s.connect(60)
    keys = [b"%02d" % i + b"k" * 1_000_000 for i in range(40)]
    for i in range(0, 40, 20):
        worker.raw(encode([b"MSET", *[x for k in keys[i:i + 20] for x in (k, b"v")]]))
        worker.expect(b"+OK\r\n")
    found = []
    while len(found) < 40:
        head = b""
        while not head.endswith(b"\r\n") or head.count(b"\r\n") < 4:
            head += c.read(1)
        for _ in range(int(head.split(b"*")[1])):
            c.expect(b"$1000002\r\n")
            found.append(c.read(1_000_004)[:-2])
    assert sorted(found) == keys


@with_threads
@pytest.mark.parametrize("first", [0, 1])
def test_what_another_changed_in_the_same_iteration_is_not_its_own(served, first):
    s = served()
    own, other = tracking(s, "BCAST", "NOLOOP"), s.connect()
    own.send("SET own v")
    own.expect(b"+OK\r\n")

    def both():
        for c in (other, own)[::1 if first else -1]:
            c.send(f"HSET h f{c.sock.fileno()} v")

    s.on_engine(both)
    other.expect(b":1\r\n")
    own.expect(b":1\r\n" + invalid(b"h"))


@with_threads
def test_who_does_not_read_what_it_is_told_is_closed(served):
    s = served(monitor_hard=1 << 20)
    deaf, hears, worker = tracking(s, "BCAST"), tracking(s, "BCAST", "PREFIX", "other"), s.connect()
    key = "k" * 10_000
    for _ in range(2000):
        worker.send(f"SET {key} v").expect(b"+OK\r\n")
    s.wait(lambda: s.loop.stats()["connected"] == 2)
    deaf.closed()
    assert s.loop.stats()["closed_output"] == 1 == stats(s)["clients"]
    worker.send("SET other v").expect(b"+OK\r\n")
    hears.expect(invalid(b"other"))


@pytest.fixture
def c():
    return Client(resp=3)


def test_prefixes_are_bounded(c):
    def begin(names):
        return c("CLIENT", "TRACKING", "ON", "BCAST", *[x for n in names for x in ("PREFIX", n)])
    assert "too many prefixes" in c.error("CLIENT", "TRACKING", "ON", "BCAST", *[
        x for i in range(1025) for x in ("PREFIX", f"{i:05}")])
    assert begin(f"{i:05}" for i in range(1000)) == b"OK"
    begin(f"{i:05}" for i in range(1000, 1024))
    assert "too many prefixes" in c.error("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "x")
    assert c.executor.tracking_stats()["prefixes"] == 1024
    big = c.other(3)
    for i in range(64):
        raw = big.raw("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", b"%05d" % (i + 2000)
                      + b"x" * (1 << 20))
        if raw.startswith(b"-ERR too many"):
            break
    assert i > 60
    assert c("CLIENT", "TRACKING", "OFF") == b"OK" == big("CLIENT", "TRACKING", "OFF")
    assert not any(c.executor.tracking_stats().values())


def test_many_prefixes_each_get_their_keys(c):
    others = []
    for i in range(50):
        others.append(c.other(3))
        others[-1]("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", f"{i:02}:", "NOLOOP")
    c("MSET", *[x for i in range(0, 50, 2) for j in "ba" for x in (f"{i:02}:{j}", "v")], "other", 1)
    for i, o in enumerate(others):
        sent = o.session.take_replies()
        assert sent == (invalid(b"%02d:a" % i, b"%02d:b" % i) if i % 2 == 0 else b"")
    others[0].raw("SET", "00:own", "v")
    assert others[0].session.take_replies() == b""


def test_own_messages_stand_behind_the_reply_of_the_transaction(c):
    c("CLIENT", "TRACKING", "ON")
    c.raw("MULTI")
    for command in (("GET", "k"), ("SET", "k", "1"), ("MGET", "k", "l"), ("DEL", "k")):
        c.raw(*command)
    raw = c.raw("EXEC")
    reply, *messages = split(raw)
    assert decode(reply) == [None, b"OK", [b"1", None], 1]
    assert messages == [invalid(b"k"), invalid(b"k")]


def split(raw: bytes) -> list[bytes]:
    out = []
    while raw:
        out.append(first(raw))
        raw = raw[len(out[-1]):]
    return out


def first(raw: bytes) -> bytes:
    at, left = 0, 1
    while left:
        left -= 1
        end = raw.index(b"\r\n", at) + 2
        line = raw[at:end]
        at = end
        if line[:1] == b"$" and line != b"$-1\r\n":
            at += int(line[1:]) + 2
        elif line[:1] in b"*>":
            left += int(line[1:])
    return raw[:at]

"""CLIENT TRACKING between real processes: what peers do makes keys invalid."""
import pytest

from tests.real.cluster import until


@pytest.fixture
def two(cluster):
    return cluster(2)


def tracking(server, *options):
    c = server.connect(resp=3)
    c("CLIENT", "TRACKING", "ON", *options)
    return c


def invalid(c):
    word, keys = c.read()
    assert word == b"invalidate"
    return keys


def test_a_write_at_the_other_replica(two):
    a, b = two
    a("SET", "k", "1")
    a("SADD", "s", "x")
    two.sync()
    c = tracking(a)
    assert c("GET", "k") == b"1" and c("SISMEMBER", "s", "x") == 1
    b("SET", "other", "1")
    b("SET", "k", "2")
    assert invalid(c) == [b"k"]
    assert c("GET", "k") == b"2"
    b("SREM", "s", "x")
    assert invalid(c) == [b"s"]
    b("SET", "s", "not read again")
    b("DEL", "k")
    assert invalid(c) == [b"k"]
    assert c("PING") == b"PONG"


def test_a_prefix(two):
    a, b = two
    c = tracking(a, "BCAST", "PREFIX", "user:", "NOLOOP")
    assert c("SET", "user:own", "1") == b"OK"
    b.connect().pipeline([("MULTI",), ("SET", "user:2", "v"), ("SET", "thing", "v"),
                          ("SET", "user:1", "v"), ("SET", "user:2", "w"), ("EXEC",)])
    assert invalid(c) == [b"user:1", b"user:2"]
    assert c("PING") == b"PONG"


def test_expiry_is_told_at_both_replicas(two):
    a, b = two
    a("SET", "k", "v", "PX", 500)
    two.sync()
    for c in [tracking(a), tracking(b)]:
        # who was given a value is told that it is no more
        while c("GET", "k") is not None:
            assert invalid(c) == [b"k"]


def test_a_flush_at_the_other_replica(two):
    a, b = two
    a("SET", "k", "v")
    two.sync()
    c, d = tracking(a), tracking(a, "BCAST", "PREFIX", "nothing")
    c("GET", "k")
    b("FLUSHALL")
    assert invalid(c) is None and invalid(d) is None
    assert b"tracking_total_keys:0" in a("INFO", "stats")


def test_what_was_missing_comes(two):
    a, b = two
    c = tracking(a)
    assert c("HGETALL", "h") == {}
    b("HSET", "h", "f", "v")
    assert invalid(c) == [b"h"]
    assert c("HGETALL", "h") == {b"f": b"v"}


def test_ops_that_come_after_an_outage(two):
    a, b = two
    a("SET", "k", "1")
    two.sync()
    b.kill()
    c = tracking(a)
    c("GET", "k")
    b.restart()
    b("SET", "k", "2")
    assert invalid(c) == [b"k"]
    until(lambda: c("GET", "k") == b"2")


def test_a_state_that_is_joined_makes_everything_invalid(two):
    a, b = two
    a("SET", "k", "v")
    two.sync()
    c, d = tracking(b), tracking(b, "BCAST", "PREFIX", "nothing")
    assert c("GET", "k") == b"v"
    b("CRDT.REPAIR", "a")
    assert invalid(c) is None and invalid(d) is None
    assert c("GET", "k") == b"v"
    a("SET", "k", "w")
    assert invalid(c) == [b"k"]

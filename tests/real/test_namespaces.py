"""Replication over cables that are pulled, flap and are slow: packets are lost and nobody is
told."""
import time

import pytest

from tests.real.cluster import until
from tests.real.namespaces import Network, can_make_namespaces

pytestmark = pytest.mark.skipif(not can_make_namespaces(),
                                reason="network namespaces need root and the command ip")


@pytest.fixture
def network(processes):
    """network(n, **settings) -> Network, started."""
    made = []

    def make(n: int, **settings) -> Network:
        made.append(Network(n, **{"sync_timeout": "2s", "retry_interval": "100ms"} | settings))
        return made[-1].start()
    yield make
    for n in made:
        n.dispose()


def equal(hosts) -> bool:
    return len({h("CRDT.DIGEST") for h in hosts}) == 1


def alive(host, peer) -> bool:
    peers = [dict(zip(p[::2], p[1::2])) for p in host("CRDT.PEERS", "VERBOSE")]
    return any(p[b"replica"] == peer.name.encode() and p[b"state"] == b"up" for p in peers)


def test_a_pulled_cable(network):
    """The others go on at once, and so does the lonely one; all are equal once it is back, though
    no connection was ever closed."""
    n = network(3)
    a, b, c = n
    a("SET", "before", "1")
    until(lambda: all(h("GET", "before") == b"1" for h in n))
    c.unplug()
    for i in range(50):
        begun = time.monotonic()
        a("INCR", "count")
        c("INCR", "count")
        c("RPUSH", "list", f"c{i}")
        a("RPUSH", "list", f"a{i}")
        until(lambda: b("LLEN", "list") == i + 1, 10)
        assert time.monotonic() - begun < 5, "one dead peer holds up the others"
    until(lambda: not alive(a, c) and not alive(b, c) and alive(a, b))
    c.plug()
    until(lambda: equal(n) and a("LLEN", "list") == 100, 30)
    assert a("GET", "count") == b"100"


def test_a_cable_that_flaps(network):
    n = network(3)
    a, b, c = n
    written = 0
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for cable in (c.unplug, c.plug, b.unplug, b.plug):
            cable()
            for host in n:
                host("INCR", "count")
                host("SADD", "set", f"{host.name}{written}")
                written += 1
            time.sleep(0.05)
    until(lambda: equal(n), 30)
    assert a("GET", "count") == b"%d" % written
    assert a("SCARD", "set") == written


def test_a_slow_cable_holds_up_nobody_else(network):
    """1 Mbit/s to c: 20 MB take minutes, and what a and b say to each other takes as long as
    before. The sender does not keep what c has not taken yet in memory."""
    n = network(3, sync_timeout="5s")
    a, b, c = n
    until(lambda: alive(a, b) and alive(a, c))
    before = a.resident_bytes()
    c.slow_down(1_000_000)
    with a.connect() as client:
        for i in range(20):
            client.pipeline([("SET", f"key:{i}:{j}", "x" * 10_000) for j in range(100)])
    held = a.resident_bytes() - before
    longest = 0.0
    for i in range(100):
        begun = time.monotonic()
        a("SET", "news", i)
        until(lambda: b("GET", "news") == b"%d" % i, 20)
        longest = max(longest, time.monotonic() - begun)
    assert longest < 5
    assert c("DBSIZE") < 2000, "the cable is slow"
    assert held < 80 << 20
    c.slow_down(1_000_000_000)
    until(lambda: equal(n), 120)


def test_a_new_replica_by_a_cable_that_is_pulled_in_its_full_sync(network):
    n = network(2, replication_log_size="0", max_segment_size="64kb", compaction_threshold="1000")
    a, b = n
    b.stop()
    for h in (a,):
        with h.connect() as client:
            for i in range(100):
                client.pipeline([("SET", f"key:{i}:{j}", "x" * 1000) for j in range(100)])
        h("SAVE")
        h("SET", "more", "x" * 70_000)
        h("SAVE")
    b.slow_down(20_000_000)
    b.directory.joinpath("data").rename(b.directory / "lost")
    b.start()
    until(lambda: b"full_sync_phase:" in b("INFO", "replication")
          and b"full_sync_phase:none" not in b("INFO", "replication")
          or b("DBSIZE") > 1000)
    for _ in range(3):
        b.unplug()
        time.sleep(0.5)
        b.plug()
        time.sleep(0.5)
    until(lambda: equal(n), 60)
    assert b("DBSIZE") == a("DBSIZE")

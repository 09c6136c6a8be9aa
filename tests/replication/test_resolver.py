"""Looking up the names of peers: one that nobody replies for stops nobody, and is asked for once at
a time."""
import asyncio
import socket
import threading

import pytest

from crdtredis.replication.resolver import MOST, Resolver
from tests.replication.network import Network, converged, until
from tests.replication.test_peers import all_up, run


@pytest.fixture
def dead(monkeypatch):
    """Names in .dead: looked up until the test ends. What was asked for."""
    asked, over, real = [], threading.Event(), socket.getaddrinfo

    def getaddrinfo(host, *more, **options):
        asked.append(host)
        if host.endswith(".dead"):
            over.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield asked
    over.set()


def test_dead_names_delay_no_healthy_peer(dead):
    async def test():
        async with Network(2, memory=2_000, timeout=0.3) as (a, b):
            await all_up(a, b)
            await b.stop()
            for i in range(5):
                a.call(f"http://peer{i}.dead:1")
            for i in range(500):
                a.set(f"k{i}", "v")
                await asyncio.sleep(0)
            await until(lambda: all(p.counts.handshakes > 1 for p in a.registry.peers[1:]))
            a.registry.peers[0].urls = {k: u.with_host("localhost") for k,
                                    u in a.registry.peers[0].urls.items()}
            await b.start()
            # from the segments, and its name looked up
            await converged([a, b])
            assert a.log.reads and sorted(dead.count(f"peer{i}.dead") for i in range(5)) == [1] * 5

    asyncio.run(asyncio.wait_for(test(), 30))


@run
async def test_names_are_found_or_not():
    names = Resolver()
    found = await names.resolve("localhost", 7, socket.AF_UNSPEC)
    assert {"127.0.0.1", "::1"} >= {f["host"] for f in found} and {f["port"] for f in found} == {7}
    for name in ("no.such.host.invalid", "x" * 300 + ".invalid", "a..b"):
        with pytest.raises(OSError):
            await names.resolve(name, 7)
    assert names._lookups == {}


def test_look_ups_are_bounded(dead):
    async def test():
        names = Resolver()
        tasks = [asyncio.create_task(names.resolve(f"n{i}.dead"))
                 for i in range(MOST)] + [asyncio.create_task(names.resolve("n0.dead"))]
        await until(lambda: len(dead) == MOST)
        with pytest.raises(OSError, match="being looked up"):
            await names.resolve("one.more")
        assert len(names._lookups) == MOST
        for t in tasks:
            t.cancel()

    asyncio.run(test())

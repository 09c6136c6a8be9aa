"""What a replica that stops leaves with a peer: kept once, given once."""
import asyncio
import socket
import threading
import time
import types

import aiohttp
import pytest

from crdtredis.replication import keeping, plan
from crdtredis.replication.keeping import Keeper
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.wire import Refusal, proto
from crdtredis.storage.identity import Left
from crdtredis.storage.witness import Sighting
from tests.replication.network import Network
from tests.replication.test_links import ask
from tests.replication.test_peers import all_up, run

SEEN = Sighting(7, 5, 3, (2, 100))
SECRET = b"s" * 16


def keep(secret: bytes = SECRET, seen: Sighting = SEEN) -> proto.Keep:
    return proto.Keep(secret=secret, testimony=keeping.as_testimony(seen))


def test_it_is_given_once_and_to_whom_it_is_meant_for():
    k = Keeper()
    k.keep("a", keep())
    assert k.claim("b", SECRET) is None and k.claim("a", b"t" * 16) is None
    assert k.claim("a", SECRET) == SEEN
    assert k.claim("a", SECRET) is None


def test_the_newest_of_each_replica_and_of_so_many(monkeypatch):
    monkeypatch.setattr(keeping, "REPLICAS", 2)
    k = Keeper()
    for name, secret in ("a", SECRET), ("b", SECRET), ("a", b"t" * 16), ("c", SECRET):
        k.keep(name, keep(secret))
    assert k.claim("b", SECRET) is None                         # the oldest of three
    assert k.claim("a", SECRET) is None and k.claim("a", b"t" * 16) == SEEN


def test_an_image_of_memory_that_was_gone_back_to_gives_nothing(monkeypatch):
    k = Keeper()
    for off, found in (1000, SEEN), (1001, None), (-1001, None):
        k.keep("a", keep())
        later = k._kept["a"].parted + off
        monkeypatch.setattr(keeping, "parted", lambda later=later: later)
        assert k.claim("a", SECRET) == found
        monkeypatch.undo()
        assert k.claim("a", SECRET) is None


@pytest.mark.parametrize("secret", [b"", b"s" * 15, b"s" * 17, b"s" * 100_000])
def test_a_secret_is_16_bytes(secret):
    with pytest.raises(Refusal, match="secret"):
        Keeper().keep("a", keep(secret))


def leave(node, tried: list, secret: bytes = SECRET):
    return keeping.leave(node.registry.peers, secret, SEEN, tried.append)


@run
async def test_over_http():
    async with Network(2) as (a, b):
        await all_up(a, b)
        tried = []
        assert await leave(a, tried) == b.url and tried == [b.url]
        left = Left(b.url, SECRET)
        assert await keeping.claim(Left(b.url, b"t" * 16), a.runtime, None) is None
        assert await keeping.claim(left, b.runtime, None) is None               # it is a's
        assert await keeping.claim(left, a.runtime, None) == SEEN
        assert await keeping.claim(left, a.runtime, None) is None
        status, refusal, _ = await ask(b, "keep", proto.Keep(session=1, secret=SECRET))
        assert status == 409 and refusal.code == proto.NO_SESSION
        key = b.sessions.by_replica["a"].key
        status, refusal, _ = await ask(b, "keep", proto.Keep(session=key, secret=b"short"))
        assert status == 400
    assert await keeping.claim(left, a.runtime, None) is None   # nobody is there
    async with Network(1) as (other,):
        assert await keeping.claim(Left(f"{other.url}/nothing", SECRET), a.runtime, None) is None


@run
async def test_where_it_is_not_certain_that_a_peer_has_it_not_no_other_is_asked():
    async with Network(3) as (a, b, c):
        await all_up(a, b, c)
        first, second = a.registry.peers
        answers = {}

        async def post(self, what, head, batch, kind, most=0):
            raise answers[self.url]

        for p in first, second:
            p._ask = types.MethodType(post, p)
        answers[second.url] = Refusal(proto.STOPPING, "it stops")
        for failure in (TimeoutError(), aiohttp.ServerDisconnectedError(),
                        Refusal(proto.UNKNOWN, "a proxy's word"),
                        Refusal(proto.MALFORMED, "half a reply")):
            answers[first.url], tried = failure, []
            with pytest.raises(type(failure)):
                await leave(a, tried)
            assert tried == [first.url]
        refused = aiohttp.ClientConnectorError(None, OSError("refused"))
        for failure in (refused, Refusal(proto.BUSY, "busy"), Refusal(proto.STOPPING, "it stops")):
            answers[first.url], tried = failure, []
            assert await leave(a, tried) == "" and tried == [first.url, second.url]
        first.speaks, tried = keeping.SINCE - 1, []
        assert await leave(a, tried) == "" and tried == [second.url]


def test_a_name_that_takes_long_to_look_up_delays_no_start(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: over.wait(60) and [])
    monkeypatch.setattr(keeping, "PATIENCE", 0.2)
    begun = time.monotonic()
    try:
        assert asyncio.run(keeping.claim(Left("http://peer.example:1", SECRET),
                                         Runtime("a", plan.Settings()), None)) is None
        assert time.monotonic() - begun < 30
    finally:
        over.set()

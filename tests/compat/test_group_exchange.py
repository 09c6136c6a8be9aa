"""Streams with consumer groups exchanged: what one server has dumped the other restores, with all
that XINFO STREAM FULL says. Redis's `lag` and, in the oldest form, `entries-read` may be unknown
where they are known here; and when a consumer was active is not in the form that is written."""
from __future__ import annotations

import random

import pytest

from tests.compat.test_newer import SERVERS
from tests.real.cluster import Reference
from tests.respclient import ReplyError

GROUPS, CONSUMERS = ["g", "h", "a group with a long name, name, name, name"], ["x", "y", "", "xx"]


def history(rng):
    """Commands on stream s."""
    yield "XADD", "s", "1-1", "f", "v"
    top = 1
    for _ in range(rng.choice([5, 40])):
        g, c, x = rng.choice(GROUPS), rng.choice(CONSUMERS), rng.random()
        id = f"{rng.randint(1, top)}-1"
        if x < 0.3:
            top += 1
            yield "XADD", "s", f"{top}-1", "f", "v" * rng.choice([1, 1, 30])
        elif x < 0.45:
            yield ("XGROUP", "CREATE", "s", g, rng.choice(["0", "$", id]),
                   *rng.choice([(), (), ("ENTRIESREAD", rng.randint(0, top))]))
        elif x < 0.75:
            yield ("XREADGROUP", "GROUP", g, c, "COUNT", rng.randint(1, 4),
                   *rng.choice([(), (), ("NOACK",)]), "STREAMS", "s", ">")
        elif x < 0.85:
            yield rng.choice([("XACK", "s", g, id), ("XGROUP", "SETID", "s", g, id),
                              ("XGROUP", "CREATECONSUMER", "s", g, c),
                              ("XGROUP", "DELCONSUMER", "s", g, c), ("XDEL", "s", id),
                              ("XTRIM", "s", "MAXLEN", rng.choice([0, 3, 10]))])
        else:
            yield ("XCLAIM", "s", g, c, 0, id, *rng.choice([(), ("TIME", 1_600_000_000_123)]),
                   *rng.choice([(), ("RETRYCOUNT", 1000)]), *rng.choice([(), ("FORCE",)]))


def told(client, key, times=False) -> dict:
    """What XINFO STREAM FULL says."""
    def pairs(v):
        return dict(zip(v[::2], v[1::2], strict=True))
    about = pairs(client("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    for name in b"radix-tree-keys", b"radix-tree-nodes":
        del about[name]
    about[b"groups"] = {g[b"name"]: g for g in map(pairs, about[b"groups"])}
    for g in about[b"groups"].values():
        assert len(g[b"pending"]) == g[b"pel-count"]
        g[b"consumers"] = {c[b"name"]: c for c in map(pairs, g[b"consumers"])}
        assert sum(c[b"pel-count"] for c in g[b"consumers"].values()) == g[b"pel-count"]
        for c in g[b"consumers"].values():
            if not times:
                c.pop(b"active-time", None)
        del g[b"lag"]
    return about


def exchange(giver, taker, key=b"s") -> None:
    payload = giver("DUMP", key)
    assert taker("RESTORE", "copy", 0, payload, "REPLACE") == b"OK"
    assert told(taker, "copy") == told(giver, key), payload


@pytest.fixture(scope="module", params=["the usual one", *SERVERS])
def other(request, reference):
    if request.param not in SERVERS:
        yield reference
        return
    server = Reference("--save", "", binary=SERVERS[request.param]).start()
    yield server
    server.dispose()


def test_groups_come_along(other, server):
    ours = server(appendfsync="no")
    given = 0
    with other.connect() as theirs, ours.connect() as mine:
        for seed in range(120):
            for client in theirs, mine:
                client("FLUSHALL")
                for argv in history(random.Random(seed)):
                    try:
                        client(*argv)
                    except ReplyError:
                        pass
                given += len(client("XINFO", "GROUPS", "s"))
            exchange(mine, theirs)
            exchange(theirs, mine)
            exchange(mine, theirs, "copy")
    assert given > 300

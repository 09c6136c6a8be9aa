"""Streams with consumer groups exchanged: what one server has dumped the other restores, with all
that XINFO STREAM FULL says, and what the one has saved, or sends to a follower, the other loads."""
from __future__ import annotations

import random

import pytest

from crdtredis._resp import RequestParser
from crdtredis.commands.snapshot import write_snapshot
from crdtredis.moving.snapshot import restoring
from tests.commands.payloads import told
from tests.commands.run import Client
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


@pytest.mark.parametrize("program", [None, *SERVERS.values()], ids=["the usual one", *SERVERS])
def test_whole_files(program):
    ours, taken = Client(), Client()
    for seed in range(60):
        for argv in history(random.Random(seed)):
            ours.now += 1
            ours.raw(*(f"s{seed}" if word == "s" else word for word in argv))
    theirs = Reference("--save", "", "--appendonly", "no", binary=program)
    try:
        with open(theirs.directory / "dump.rdb", "wb") as f:
            write_snapshot(ours.replica, f.fileno())
        theirs.start()
        assert theirs("DBSIZE") == ours("DBSIZE") == 60
        theirs("SAVE")
        data = (theirs.directory / "dump.rdb").read_bytes()
        for some in restoring(memoryview(data), 1 << 20, None, None):
            for argv in RequestParser().feed(b"".join(sent.raw for sent in some)):
                assert not taken.raw(*argv).startswith(b"-"), argv
        records = 0
        for seed in range(60):
            there = told(ours, f"s{seed}")
            assert there == told(theirs, f"s{seed}") == told(taken, f"s{seed}")
            records += sum(g[b"pel-count"] for g in there[b"groups"].values())
        assert records > 50
    finally:
        theirs.dispose()

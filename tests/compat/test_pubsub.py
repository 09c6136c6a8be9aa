"""Publish and subscribe: the same sessions on redis-server and on ours, byte for byte."""
import random

import pytest

from tests.real.cluster import Server

NAMES = ["a", "b", "c", "news.x", "news.y", ""]
PATTERNS = ["*", "news.*", "?", "[ab]", "news.[^x]", "\\a"]


@pytest.fixture(scope="module")
def ours():
    server = Server(appendfsync="no").start()
    yield server
    server.dispose()


def commands(rng: random.Random) -> list[tuple[int, tuple]]:
    """(whose, command): client 0 publishes, 1 and 2 subscribe."""
    out = []
    for _ in range(60):
        who = rng.randrange(3)
        names = [rng.choice(NAMES) for _ in range(rng.randrange(1, 4))]
        choice = rng.random()
        if who == 0 or choice < 0.2:
            out.append((0, rng.choice([("PUBLISH", names[0], "m"), ("SPUBLISH", names[0], "m"),
                                       ("PUBSUB", "NUMSUB", *names), ("PUBSUB", "NUMPAT"),
                                       ("PUBSUB", "SHARDNUMSUB", *names),
                                       ("PUBSUB", "CHANNELS", "["), ("PUBSUB", "NUMPAT", "x"),
                                       ("PUBLISH", "a"),
                                       ("EVAL", "return redis.call('PUBLISH', 'a', 'b')", 0)])))
        elif choice < 0.9:
            kind = rng.choice(["SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE",
                               "SSUBSCRIBE", "SUNSUBSCRIBE"])
            if kind in ("PSUBSCRIBE", "PUNSUBSCRIBE"):
                names = [rng.choice(PATTERNS) for _ in names]
            out.append((who, (kind, *names)))
        else:
            out.append((who, rng.choice([("PING",), ("PING", "x"), ("GET", "k"), ("RESET",),
                                         ("PUBLISH", "a", "own"), ("SUBSCRIBE",), ("MULTI", "x"),
                                         ("CLIENT", "GETNAME"), ("UNSUBSCRIBE", "none")])))
    return out


def replies(server, resp: int, seed: int) -> list[list[bytes]]:
    """What each client is sent by each command. Messages of one PUBLISH may come in any order, and
    own ones before or after the reply, by version: so they are sorted."""
    rng = random.Random(seed)
    clients = [server.connect(resp=resp) for _ in range(3)]
    sent = [[] for _ in clients]
    try:
        for i, (who, command) in enumerate(commands(rng)):
            clients[who].send(*command)
            # on one thread: when the last has its reply, all have theirs
            for c, found in zip(clients, sent):
                c.send("NOSUCHCOMMAND", i)
                part = []
                while b"-ERR unknown command 'NOSUCHCOMMAND', with args" not in (raw := c.raw()):
                    part.append(raw)
                found.append(sorted(part))
    finally:
        for c in clients:
            c.close()
    return sent


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("seed", range(15))
def test_sessions_are_equal(reference, ours, resp, seed):
    assert replies(ours, resp, seed) == replies(reference, resp, seed)

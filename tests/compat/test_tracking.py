"""Client-side caching: the same sessions on redis-server and on ours, byte for byte."""
import random

import pytest

from tests.real.cluster import Server
from tests.respclient import encode

KEYS = ["a", "b", "fo", "foo", "foobar", "x:1", "x:2", ""]
PREFIXES = ["f", "foo", "x:", "a", "b", ""]


@pytest.fixture(scope="module")
def ours():
    server = Server(appendfsync="no").start()
    yield server
    server.dispose()


def options(rng: random.Random, noloop: bool) -> list:
    """Of CLIENT TRACKING, sensible or not. Messages are redirected to client 3, which runs nothing:
    redis-server sends others theirs in the middle of EXEC's reply."""
    out = []
    for word in ("BCAST", "OPTIN", "OPTOUT", "NOLOOP")[:3 + noloop]:
        if rng.random() < 0.2:
            out.append(word)
    if rng.random() < 0.3:
        out += ["REDIRECT", "3rd"]
    # of two that overlap in one command, redis-server refuses the command and obeys it
    if "BCAST" in out and rng.random() < 0.7:
        out += ["PREFIX", rng.choice(PREFIXES)]
    return out


READS = [("GET", "K"), ("MGET", "K", "L"), ("EXISTS", "K"), ("TTL", "K"), ("LLEN", "K"),
         ("SINTERCARD", 2, "K", "L"), ("SINTERCARD", 9, "K"), ("ZUNION", 2, "K", "L"), ("GET",),
         ("SORT_RO", "K"), ("STRLEN", "K"), ("GETRANGE", "K", 0, 1), ("TYPE", "K"), ("WATCH", "K"),
         ("EVAL_RO", "redis.pcall('get', KEYS[1])", 1, "K"), ("UNWATCH",), ("PING",),
         ("EVAL", "return redis.call('exists', KEYS[1])", 1, "K")]
WRITES = [("SET", "K", "1"), ("SET", "K", "2"), ("DEL", "K"), ("DEL", "K", "L"), ("INCR", "K"),
          ("APPEND", "K", "0"), ("EXPIRE", "K", 1_000_000), ("PERSIST", "K"), ("GETDEL", "K"),
          ("MSET", "K", "1", "L", "2"), ("RENAME", "K", "L"), ("SETNX", "K", "1"), ("FLUSHDB",),
          ("GETEX", "K", "EX", 900_000), ("COPY", "K", "L"), ("LPUSH", "K", "x"), ("SETRANGE",)]
# Where a client's own script writes, redis-server forgets NOLOOP in a broadcast: so not with these.
SCRIPT = ("EVAL", "return redis.call('set', KEYS[1], '3')", 1, "K")


def with_keys(rng: random.Random, command: tuple) -> tuple:
    names = {"K": rng.choice(KEYS), "L": rng.choice(KEYS)}
    return tuple(names.get(word, word) for word in command)


def step(rng: random.Random, noloop: bool) -> list[tuple]:
    """Commands that one client sends together."""
    choice = rng.random()
    if choice < 0.15:
        return [("CLIENT", "TRACKING", "ON", *options(rng, noloop))]
    if choice < 0.18:
        return [("CLIENT", "TRACKING", "OFF")]
    if choice < 0.25:
        return [("CLIENT", "TRACKINGINFO"), ("CLIENT", "GETREDIR")]
    one, two = [with_keys(rng, rng.choice(READS if rng.random() < 0.6 else WRITES)) for _ in "12"]
    if choice < 0.4:
        return [("CLIENT", "CACHING", rng.choice(["YES", "NO", "MAYBE"])), one, two]
    if choice < 0.5:
        return [("MULTI",), one, two, ("EXEC",)]
    if choice < 0.55:
        return [("CLIENT", "CACHING", "YES"), ("MULTI",), one, two, ("EXEC",), two]
    if choice < 0.6:
        return [("SELECT", rng.randrange(2))]
    if choice < 0.65 and not noloop:
        return [with_keys(rng, SCRIPT)]
    return [one]


def sent(server, seed: int, resp: int) -> list:
    """What each client is sent by each step. The order of messages and replies is not compared."""
    rng = random.Random(seed)
    server("FLUSHALL")
    clients = [server.connect(resp=resp) for _ in range(4)]
    out = []
    try:
        ids = [c("CLIENT", "ID") for c in clients]
        if resp == 2:
            clients[3]("SUBSCRIBE", "__redis__:invalidate")
        # what was read by those who track no more is kept while anybody tracks
        clients[2]("CLIENT", "TRACKING", "ON", *(["REDIRECT", ids[3]] if resp == 2 else []))
        for i in range(150):
            commands = step(rng, seed % 2)
            who = rng.randrange(3)
            if who == 2 and commands[0][:2] == ("CLIENT", "TRACKING"):
                continue
            # at once, so that it is one iteration, in which a broadcast names a key once
            clients[who].socket.sendall(b"".join(
                encode(*[ids[3] if word == "3rd" else word for word in c]) for c in commands))
            server("PING")          # on one thread: what they cause has been sent
            for n, c in enumerate(clients):
                c.send("NOSUCHCOMMAND", i)
                part = []
                while b"-ERR unknown command 'NOSUCHCOMMAND', with args" not in (raw := c.raw()):
                    part.append(raw)
                for k, client_id in enumerate(ids):
                    part = [p.replace(b":%d\r\n" % client_id, b":<%d>\r\n" % k) for p in part]
                out.append((i, who, commands, n, sorted(part)))
    finally:
        for c in clients:
            c.close()
    return out


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_sessions_are_equal(reference, ours, resp, seed):
    got, wanted = sent(ours, seed, resp), sent(reference, seed, resp)
    for one, other in zip(got, wanted, strict=True):
        assert one == other

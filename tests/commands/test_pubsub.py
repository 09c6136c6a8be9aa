"""SUBSCRIBE, PUBLISH and PUBSUB without sockets: who gets which message, in which form and order,
and what a subscriber may do."""
import time

import pytest

from tests.commands.run import Client
from tests.respclient import decode

KINDS = [("SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH", b"message"),
         ("SSUBSCRIBE", "SUNSUBSCRIBE", "SPUBLISH", b"smessage")]


@pytest.fixture
def c():
    return Client()


def bulk(*words) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def received(client) -> bytes:
    return client.session.take_replies()


@pytest.mark.parametrize("resp, mark", [(2, b"*"), (3, b">")])
@pytest.mark.parametrize("begin, end, publish, word", KINDS)
def test_a_channel(c, resp, mark, begin, end, publish, word):
    s = c.other(resp)
    confirmed = mark + b"3\r\n" + bulk(begin.lower().encode(), b"ch") + b":1\r\n"
    assert s.raw(begin, "ch") == confirmed == s.raw(begin, "ch")
    assert c(publish, "ch", b"a\r\n\0b") == 1 and c(publish, "other", "x") == 0
    assert received(s) == mark + b"3\r\n" + bulk(word, b"ch", b"a\r\n\0b")
    for _ in range(2):
        assert s.raw(end, "ch") == mark + b"3\r\n" + bulk(end.lower().encode(), b"ch") + b":0\r\n"
    assert c(publish, "ch", "x") == 0 and received(s) == b""
    null = b"$-1\r\n" if resp == 2 else b"_\r\n"
    assert s.raw(end) == mark + b"3\r\n" + bulk(end.lower().encode()) + null + b":0\r\n"


def test_a_pattern_finds_what_keys_finds(c):
    patterns = ["*", "h?llo", "h[ae]llo", "h[^e]llo", "h[a-b]llo", "a\\*b", "", "h*o*", "[", "\\"]
    names = ["hello", "hallo", "hbllo", "a*b", "axb", "", "[", "\\", "h", "ho", "hxoxo"]
    for pattern in patterns:
        s = c.other(3)
        s("PSUBSCRIBE", pattern)
        for name in names:
            c("FLUSHALL")
            c("SET", name, "v")
            # KEYS takes a lone star for everything, the empty name included
            found = c("KEYS", pattern) == [name.encode()] and (pattern, name) != ("*", "")
            assert c("PUBLISH", name, "m") == found
            assert bool(received(s)) == found, (pattern, name)
        s("PUNSUBSCRIBE")


def test_channel_and_patterns_each_bring_the_message(c):
    s = c.other(3)
    s("SUBSCRIBE", "ch")
    s("PSUBSCRIBE", "c*")
    s("PSUBSCRIBE", "*h")
    assert c("PUBLISH", "ch", "m") == 3
    assert received(s) == (b">3\r\n" + bulk(b"message", b"ch", b"m")
                           + b">4\r\n" + bulk(b"pmessage", b"c*", b"ch", b"m")
                           + b">4\r\n" + bulk(b"pmessage", b"*h", b"ch", b"m"))
    assert c("PUBSUB", "NUMPAT") == 2
    # a pattern is nothing to shard channels, nor are these to channels
    assert c("SPUBLISH", "ch", "m") == 0


def test_what_ends_is_named_one_by_one_with_the_number_left(c):
    s = c.other(3)
    s("SUBSCRIBE", "a")
    s("PSUBSCRIBE", "p")
    s("SUBSCRIBE", "b")
    s("SSUBSCRIBE", "a")
    assert s.raw("UNSUBSCRIBE") == b"".join(
        b">3\r\n" + bulk(b"unsubscribe", name) + b":%d\r\n" % left
        for name, left in ((b"a", 2), (b"b", 1)))
    assert c("PUBSUB", "CHANNELS") == [] and c("PUBSUB", "SHARDCHANNELS") == [b"a"]
    assert s.raw("PUNSUBSCRIBE") == b">3\r\n" + bulk(b"punsubscribe", b"p") + b":0\r\n"
    assert s.raw("SUNSUBSCRIBE") == b">3\r\n" + bulk(b"sunsubscribe", b"a") + b":0\r\n"
    assert set(c.executor.pubsub_stats().values()) == {0}


def test_a_subscriber_that_speaks_resp2_may_do_little(c):
    s = c.other(2)
    s("SUBSCRIBE", "ch")
    for command in ("GET k", "PUBLISH ch m", "CLIENT LIST", "HELLO 3", "MULTI"):
        name = command.lower().split()[0] + ("|list" if "CLIENT" in command else "")
        assert s.error(*command.split()) == (
            f"ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
            "RESET are allowed in this context")
    assert s.error("NOSUCH").startswith("ERR unknown command")
    assert s.error("GET").startswith("ERR wrong number")
    assert s("PING") == [b"pong", b""] and s("PING", "hi") == [b"pong", b"hi"]
    assert s("RESET") == b"RESET"
    assert s("PING") == b"PONG" and c("PUBLISH", "ch", "m") == 0
    for begin, end in (("PSUBSCRIBE", "PUNSUBSCRIBE"), ("SSUBSCRIBE", "SUNSUBSCRIBE")):
        s(begin, "x")
        assert "only (P|S)SUBSCRIBE" in s.error("GET", "k")
        s(end, "x")
        assert s("GET", "k") is None


def test_one_that_speaks_resp3_may_do_everything(c):
    s = c.other(3)
    s("SUBSCRIBE", "ch")
    assert s("PING") == b"PONG" and s("SET", "k", "v") == b"OK"
    assert s.raw("PUBLISH", "ch", "m") == b":1\r\n>3\r\n" + bulk(b"message", b"ch", b"m")
    s("HELLO", 2)
    assert "only (P|S)SUBSCRIBE" in s.error("GET", "k")


def test_own_messages_stand_behind_the_reply(c):
    s = c.other(3)
    s("SUBSCRIBE", "ch")
    push = b">3\r\n" + bulk(b"message", b"ch", b"m")
    script = "redis.call('PUBLISH', 'ch', 'm') return redis.call('PUBLISH', 'ch', 'm')"
    assert s.raw("EVAL", script, 0) == b":1\r\n" + push + push
    s("MULTI")
    for command in ("PING", "PUBLISH ch m", "UNSUBSCRIBE ch", "PUBLISH ch m", "SUBSCRIBE ch"):
        s(*command.split())
    assert s.raw("EXEC") == (b"*5\r\n+PONG\r\n:1\r\n>3\r\n" + bulk(b"unsubscribe", b"ch")
                             + b":0\r\n:0\r\n>3\r\n" + bulk(b"subscribe", b"ch") + b":1\r\n" + push)


def test_messages_and_confirmations_come_although_replies_are_off(c):
    s = c.other(3)
    s.raw("CLIENT", "REPLY", "OFF")
    assert s.raw("SUBSCRIBE", "ch") == b">3\r\n" + bulk(b"subscribe", b"ch") + b":1\r\n"
    push = b">3\r\n" + bulk(b"message", b"ch", b"m")
    assert s.raw("PUBLISH", "ch", "m") == push
    c("PUBLISH", "ch", "m")
    assert received(s) == push
    assert s.raw("CLIENT", "REPLY", "ON") == b"+OK\r\n"


def test_the_dialects_of_two_subscribers(c):
    two, three = c.other(2), c.other(3)
    two("SUBSCRIBE", "ch")
    three("SUBSCRIBE", "ch")
    assert c("PUBLISH", "ch", "m") == 2
    rest = b"3\r\n" + bulk(b"message", b"ch", b"m")
    assert (received(two), received(three)) == (b"*" + rest, b">" + rest)


def test_scripts_publish_and_do_not_subscribe(c):
    for command in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE"):
        assert "not allowed from script" in c.error("EVAL", f"return redis.call('{command}', 'x')",
                                                    0)
    assert "not allowed from read-only" in c.error("EVAL_RO", "return redis.call('PUBLISH', 'x', "
                                                   "'y')", 0)
    s = c.other()
    s("SSUBSCRIBE", "x")
    assert c("EVAL", "return redis.call('SPUBLISH', 'x', 'y')", 0) == 1


def test_pubsub(c):
    s, t = c.other(3), c.other(3)
    s.raw("SUBSCRIBE", "a", "b", "ab")
    t.raw("SUBSCRIBE", "a")
    t.raw("SSUBSCRIBE", "sh")
    t.raw("PSUBSCRIBE", "a*")
    s.raw("PSUBSCRIBE", "a*", "b*")
    assert set(c("PUBSUB", "CHANNELS")) == {b"a", b"b", b"ab"}
    assert set(c("PUBSUB", "CHANNELS", "a*")) == {b"a", b"ab"}
    assert c("PUBSUB", "NUMSUB", "a", "x", "b") == [b"a", 2, b"x", 0, b"b", 1]
    assert c("PUBSUB", "NUMSUB") == [] and c("PUBSUB", "NUMPAT") == 2
    assert c("PUBSUB", "SHARDCHANNELS") == [b"sh"]
    assert c("PUBSUB", "SHARDCHANNELS", "x*") == []
    assert c("PUBSUB", "SHARDNUMSUB", "sh", "a") == [b"sh", 1, b"a", 0]
    assert c.error("PUBSUB", "channels", "a", "b") == (
        "ERR unknown subcommand or wrong number of arguments for 'channels'. Try PUBSUB HELP.")
    assert c.error("PUBSUB", "NOSUCH") == "ERR unknown subcommand 'NOSUCH'. Try PUBSUB HELP."
    assert b"CHANNELS [pattern]" in c("PUBSUB", "HELP")
    assert c.executor.pubsub_stats()["clients"] == 2
    row = decode(t.raw("CLIENT", "INFO")).decode()
    assert " sub=1 psub=1 ssub=1 " in row and " flags=P " in row
    info = decode(c.raw("INFO", "everything")).decode()
    for field in ("pubsub_channels:3", "pubsub_patterns:2", "pubsubshard_channels:1",
                  "pubsub_clients:2"):
        assert field in info.splitlines()


def test_names_and_numbers_are_bounded(c):
    s = c.other(3)
    longest = "n" * 65536
    assert s("SUBSCRIBE", longest) == [b"subscribe", longest.encode(), 1]
    for command in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
        assert s.error(command, "x", longest + "n").startswith("ERR a channel or pattern")
    assert c("PUBSUB", "CHANNELS") == [longest.encode()]         # not even the first of two
    # to publish where nobody can listen is no mistake
    assert c("PUBLISH", longest + "n", "m") == 0
    s("UNSUBSCRIBE")
    c.executor.limit_subscriptions(1 << 30, 1000)
    for i in range(0, 1000, 100):
        s.raw("SUBSCRIBE", *range(i, i + 100))
    for command in ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"):
        assert s.error(command, "x") == "ERR too many subscriptions of one client"
    assert c("PUBLISH", 999, "m") == 1
    s.raw("UNSUBSCRIBE")
    assert set(c.executor.pubsub_stats().values()) == {0}


def test_those_of_one_kind_end_whatever_there_is_of_others():
    """None of them is searched for among all the others."""
    c = Client(resp=3)
    n = 30_000
    c.raw("PSUBSCRIBE", *(f"p{i}" for i in range(n)))
    c.raw("SUBSCRIBE", *(f"c{i}" for i in range(n)))
    begun = time.process_time()
    assert c.raw("UNSUBSCRIBE").count(b"unsubscribe") == n
    assert time.process_time() - begun < 3
    assert c("PUBSUB", "NUMPAT") == n and c("PUBSUB", "CHANNELS") == []


def test_what_takes_too_long_to_compare_does_not_match(c):
    s = c.other(3)
    s.raw("PSUBSCRIBE", "*" + "a" * 32768 + "b", "*", "a*")
    assert c("PUBLISH", "a" * 8000, "m") == 2
    # at 2 ns each these steps would take half an hour
    assert c("PUBLISH", "a" * (64 << 20), "m") == 2
    assert c("PUBLISH", "a" * 8000 + "b", "m") == 2


def test_subscriptions_of_all_take_bounded_memory(c):
    c.executor.limit_subscriptions(1 << 20, 1 << 20)
    clients = [c.other(3) for _ in range(17)]
    for i, s in enumerate(clients):
        reply = s.raw("PSUBSCRIBE", f"{i:04}" + "x" * 64000)
        assert reply.startswith(b">3\r\n") == (i < 16)
    assert reply == b"-ERR the subscriptions of all clients take too much memory\r\n"
    assert c.executor.pubsub_stats()["bytes"] <= 1 << 20


def test_a_random_history_against_a_model(c):
    """Subscriptions of several clients come and go; who gets a message, and the counts, are those
    of a model of sets."""
    import random
    rng = random.Random(7)
    clients = [c.other(3) for _ in range(5)]
    model = [{"SUBSCRIBE": set(), "PSUBSCRIBE": set(), "SSUBSCRIBE": set()} for _ in clients]
    for step in range(4000):
        i = rng.randrange(5)
        kind = rng.choice(["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"])
        names = [f"{rng.randrange(40)}" + "*" * (kind == "PSUBSCRIBE")
                 for _ in range(rng.randrange(1, 4))]
        action = rng.random()
        if action < 0.4:
            clients[i].raw(kind, *names)
            model[i][kind] |= set(names)
        elif action < 0.7:
            clients[i].raw(kind.replace("SUB", "UNSUB"), *names)
            model[i][kind] -= set(names)
        elif action < 0.75:
            clients[i].raw(kind.replace("SUB", "UNSUB"))
            model[i][kind].clear()
        elif action < 0.77:
            clients[i].raw("RESET")
            clients[i].raw("HELLO", 3)
            for s in model[i].values():
                s.clear()
        else:
            name = f"{rng.randrange(40)}"
            expected = [(name in m["SUBSCRIBE"]) + sum(name.startswith(p[:-1])
                                                      for p in m["PSUBSCRIBE"]) for m in model]
            assert c("PUBLISH", name, "m") == sum(expected)
            for s, n in zip(clients, expected):
                assert received(s).count(b">") == n
    stats = c.executor.pubsub_stats()
    for kind, field in (("SUBSCRIBE", "channels"), ("PSUBSCRIBE", "patterns"),
                        ("SSUBSCRIBE", "shard_channels")):
        assert stats[field] == len(set().union(*(m[kind] for m in model)))

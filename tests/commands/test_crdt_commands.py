"""CRDT.*: reading the state of one replica, and steering replication through a stand-in for the
sync thread."""
from dataclasses import replace
from types import SimpleNamespace

import pytest

from crdtredis.clocks import ENTRIES_MOST, from_token
from crdtredis.config import Config
from crdtredis.replication.peer import Counts, PeerInfo
from tests.commands.parts import client
from tests.commands.run import NOW, Client, exchange
from tests.respclient import decode


@pytest.fixture
def c():
    return client()


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def test_clock(c):
    assert c("CRDT.CLOCK") == []
    c("SET", "a", 1)
    c("MSET", "b", 1, "c", 1)
    assert c("CRDT.CLOCK") == [b"a/%d" % NOW, 2]
    d = Client("b")
    d("SET", "x", 1)
    exchange(c, d)
    assert pairs(c("CRDT.CLOCK")) == pairs(d("CRDT.CLOCK")) == {b"a/%d" % NOW: 2, b"b/%d" % NOW: 1}


def test_digest_is_equal_exactly_when_states_are(c):
    d = Client("b")
    assert c("CRDT.DIGEST") == d("CRDT.DIGEST")
    c("SET", "a", 1)
    assert c("CRDT.DIGEST") != d("CRDT.DIGEST")
    exchange(c, d)
    assert c("CRDT.DIGEST") == d("CRDT.DIGEST") and len(c("CRDT.DIGEST")) == 32
    d("EXPIRE", "a", 10)
    assert c("CRDT.DIGEST") != d("CRDT.DIGEST")


def test_inspect_shows_winner_and_loser():
    c, d = Client("a", resp=3), Client("b", resp=3)
    c("SET", "k", "first")
    d.now += 5
    d("SET", "k", "second")
    exchange(c, d)
    assert c("CRDT.INSPECT", "nosuch") is None
    for x in (c, d):
        x.now = NOW + 5
        seen = x("CRDT.INSPECT", "k")
        assert [w[b"value"] for w in seen[b"writes"]] == [b"second", b"first"]
        assert seen[b"writes"][0][b"actor"] == b"b/%d" % NOW
        assert (seen[b"type"], seen[b"visible"]) == (b"string", True)
    d("SET", "k", "third")
    assert [w[b"value"] for w in d("CRDT.INSPECT", "k")[b"writes"]] == [b"third"]


def test_inspect_of_a_counter_with_a_deadline_in_another_database():
    c = Client(resp=3)
    c("SELECT", 3)
    c("INCRBY", "n", 7)
    c("PEXPIRE", "n", 5000)
    seen = c("CRDT.INSPECT", "n")
    assert seen[b"counter_entries"][0][b"total"] == b"7" and seen[b"deadline"] == NOW + 5000
    c("SELECT", 0)
    assert c("CRDT.INSPECT", "n") is None


def test_conflicts():
    c, d = Client("a", resp=3), Client("b", resp=3)
    assert c("CRDT.CONFLICTS") == []
    for i in range(15):
        c("SET", f"k{i}", "mine")
        d.now += 1
        d("SET", f"k{i}", "yours")
    exchange(c, d)
    found = c("CRDT.CONFLICTS", "VERBOSE")
    assert (len(c("CRDT.CONFLICTS")) == len(found) == 10 and len(c("CRDT.CONFLICTS", 100))
            == len(c("CRDT.CONFLICTS", 100, "verbose")) == 15 and c("CRDT.CONFLICTS", 0) == [])
    assert ((found[0][b"key"], found[0][b"winner"][b"value"], found[0][b"loser"][b"value"])
            == (b"k14", b"yours", b"mine"))
    assert (c.error("CRDT.CONFLICTS", "x") == c.error("CRDT.CONFLICTS", -1)
            == "ERR value is not an integer or out of range")
    for wrong in ((1, 2), ("TOP", 1, 2), (1, "TOP"), ("VERBOSE", "TOP")):
        assert c.error("CRDT.CONFLICTS", *wrong) in (
            "ERR syntax error", "ERR value is not an integer or out of range")


def test_where_conflicts_are():
    """By prefix, type and replicas, with what was lost."""
    c, d, e = Client("a", resp=3), Client("b", resp=3), Client("c", resp=3)
    assert c("CRDT.CONFLICTS", "TOP") == []
    for i in range(7):
        c("SET", f"stats:{i}", i)
        d("SET", f"stats:{i}:x", "alone")
    for x, value in ((d, 1000), (e, "text")):
        x.now += 1
        for i in range(7 if x is d else 2):
            x("SET", f"stats:{i}", value)
    for x in (c, d):
        x("HSET", "plain", "f", x.replica.id * 3)
    exchange(c, d, e)
    first, *others = c("CRDT.CONFLICTS", "TOP", "VERBOSE")
    assert (first[b"prefix"], first[b"type"], first[b"conflicts"], first[b"over"]) == (
        b"stats:", b"string", 7, 0)
    assert first[b"won"] == {b"a": 0, b"b": 7} and first[b"lost_bytes"] == 7
    assert first[b"integers"] == 7 and first[b"latest"][b"key"] == b"stats:6"
    rows = {(m[b"prefix"], *sorted(m[b"won"])): m[b"conflicts"] for m in others}
    assert rows == {(b"stats:", b"b", b"c"): 2, (b"plain", b"a", b"b"): 1}
    lines = c("CRDT.CONFLICTS", "top")
    assert lines[0] == (b"7 in db 0 string 'stats:*': a won 0, b won 7; 7 bytes lost, the latest "
                        b"under 'stats:6': '1000' of b won over '6' of a; 7 of integers: INCRBY "
                        b"would have kept both")
    assert b"db 0 hash 'plain': " in lines[2] and lines[:1] == c("CRDT.CONFLICTS", "TOP", 1)


def test_scores_that_meet_are_told_as_numbers():
    a, b = Client("a", resp=3), Client("b", resp=3)
    for x, score in (a, 1), (b, "-2.5"):
        x("ZADD", "z", score, "m")
    exchange(a, b)
    assert a("CRDT.CONFLICTS")[0].endswith(b"db 0 zset 'z' 'm': '-2.5' of b won over '1' of a")
    assert b"'-2.5' of b won over '1' of a" in a("CRDT.CONFLICTS", "TOP")[0]


def test_what_comes_last_and_loses_is_the_loser():
    """Of three that meet: c's write is the earliest, and comes when b's has lost already."""
    for order in "bc", "cb":
        a, *others = clients = [Client(x, resp=3) for x in "abc"]
        for ms, x in zip((2, 1, 0), clients, strict=True):
            x.now += ms
            x("SET", "k", x.replica.id)
        ops = {x.replica.id: x.replica.take_ops() for x in others}
        for x in order:
            a.replica.receive(ops[x])
            found = a("CRDT.CONFLICTS", 1, "VERBOSE")[0]
            assert (found[b"winner"][b"value"], found[b"loser"][b"value"]) == (b"a", x.encode())
        met = {tuple(m[b"won"].items()) for m in a("CRDT.CONFLICTS", "TOP", "VERBOSE")}
        assert met == {((b"a", 1), (b"b", 0)), ((b"a", 1), (b"c", 0))}


def test_a_start_counts_no_conflicts():
    """What the log brings back was counted when it came."""
    a, b = Client("a"), Client("b")
    for x in (a, b):
        x("SET", "k", x.replica.id)
    ops, again = [x.replica.take_ops() for x in (a, b)], Client("d")
    again.replica.recovering = True
    for batch in ops:
        again.replica.receive(batch)
    assert again("CRDT.CONFLICTS") == again("CRDT.CONFLICTS", "TOP") == []
    assert again.replica.stats()["conflicts"] == 0 and len(again("CRDT.INSPECT", "k")) > 1


def test_where_conflicts_are_takes_bounded_memory():
    """Of any number of prefixes the frequent one is not lost, and what it may be too high by is
    said."""
    c, d = Client("a", resp=3), Client("b", resp=3)
    for i in range(1500):
        for x in (c, d):
            x("SET", f"{i}:", x.replica.id)
            if i % 20 == 0:
                x("SET", f"often:{i}", "v" + x.replica.id)
    exchange(c, d)
    rows = c("CRDT.CONFLICTS", "TOP", 1000, "VERBOSE")
    assert len(rows) == 128 and rows[0][b"prefix"] == b"often:"
    assert 75 <= rows[0][b"conflicts"] <= 75 + rows[0][b"over"]
    assert sum(row[b"conflicts"] for row in rows) == 1575
    assert all(sum(row[b"won"].values()) == row[b"conflicts"] - row[b"over"] for row in rows)
    assert b" less) in db 0 string" in c("CRDT.CONFLICTS", "TOP")[-1]


def test_lag():
    c, d = Client("a", resp=3), Client("b", resp=3)
    assert c("CRDT.LAG") == [] and c.error("CRDT.LAG", "x") == "ERR syntax error"
    for i in range(1000):
        d("SET", "k", i)
        if i in (500, 999):                 # the first 501 are 30 ms late, then 498, at once
            c.replica.now = c.now = c.now + 30 * (i == 500)
            c.replica.receive(d.replica.take_ops())
            d.now = c.now
    d("SET", "k", "late")
    c.now += 400
    c.replica.now = c.now
    c.replica.receive(d.replica.take_ops())
    found, = c("CRDT.LAG", "VERBOSE")
    assert found == {b"replica": b"b", b"ops": 1001, b"p50_ms": 31, b"p99_ms": 31,
                     b"p999_ms": 31, b"max_ms": 415, b"predicted_ms": -1, b"foretold": 0,
                     b"within": 0}
    assert c("CRDT.LAG") == [b"b: of its last 1001 operations 50 % were here within 31 ms, 99 % "
                             b"within 31 ms, 99.9 % within 31 ms, all within 415 ms"]


def test_peers(monkeypatch, c):
    from crdtredis.commands import crdt
    monkeypatch.setattr(crdt, "asdict", lambda p: {"url": p.url, "state": p.state})
    c.server.sync.urls["http://b:1"] = "b"
    assert c("CRDT.PEERS", "VERBOSE") == [[b"url", b"http://b:1", b"state", b"up"]]
    assert Client()("CRDT.PEERS") == [] and c.error("CRDT.PEERS", "x") == "ERR syntax error"


def test_a_line_per_peer():
    from crdtredis.commands.crdt import peer_line
    up = PeerInfo("http://b:1", "b", "up", 0, 0, 0, 0, 2, 15, "", Counts())
    assert (peer_line(up, 0)
            == "http://b:1 b: up, it lacks 0 of ours, we lack 2 of its, last contact 15 ms ago")
    down = PeerInfo("http://c:1", "", "down", 7, 1500, 0, 0, 0, -1, "refused", Counts())
    assert (peer_line(down, 0)
            == ("http://c:1 (no handshake yet): down, it lacks 7 of ours for 1500 ms, "
                "we lacked 0 of its when it last told, no contact yet; refused"))
    calls = replace(down, calls_ms=20)
    assert peer_line(calls, 0).endswith("no contact yet, it called here 20 ms ago; refused")
    second = PeerInfo("http://b:2", "b", "standby", 0, 0, 0, 0, 0, 15, "", Counts())
    assert peer_line(second, 0) == "http://b:2 b: standby, it is reached by another address"
    ends = replace(second, certificate_ends=20 * 86400)
    for day, said in ((6, ""), (7, ", its certificate expires in 13.0 days"),
                      (20, ", its certificate has expired")):
        assert peer_line(ends, day * 86_400_000) == peer_line(second, 0) + said


def test_a_line_per_conflict():
    c, d = Client("a", resp=3), Client("b", resp=3)
    c("HSET", "h", "f", "mine")
    d.now += 1
    d("HSET", "h", "f", "it's \n")
    exchange(c, d)
    line, = c("CRDT.CONFLICTS")
    assert line.endswith(b"""db 0 hash 'h' 'f': "it's \\n" of b won over 'mine' of a""")


def test_peer_add_and_remove(c):
    urls = c.server.sync.urls
    assert c("CRDT.PEER", "ADD", "10.0.0.1:8080") == b"OK"
    assert c("CRDT.PEER", "add", "http://host:81/") == b"OK"
    assert list(urls) == ["http://10.0.0.1:8080", "http://host:81"]
    assert "already" in c.error("CRDT.PEER", "ADD", "host:81")
    assert c("CRDT.PEER", "REMOVE", "http://host:81") == b"OK"
    assert list(urls) == ["http://10.0.0.1:8080"]
    for name in ["host", "host:0", "ftp://host:1", "host:99999", "a b:1", ""]:
        assert c.error("CRDT.PEER", "ADD", name).startswith("ERR A peer is given as")
    assert (c.error("CRDT.PEER", "REMOVE", "nosuch") == c.error("CRDT.PEER", "PAUSE", "nosuch")
            == "ERR No such peer: nosuch")
    assert c.error("CRDT.PEER", "x", "y") == c.error("CRDT.PEER", "x") == "ERR syntax error"
    assert c.error("CRDT.PEER", "ADD") == "ERR wrong number of arguments for 'crdt.peer' command"
    assert c.error("CRDT.PEER", "HELP", "x") == "ERR syntax error"
    assert c("CRDT.PEER", "help")[1] == b"ADD <host:port>"


@pytest.mark.parametrize("bind, own, others", [
    (("127.0.0.1", "-::1"), ["127.0.0.1", "[::1]", "localhost"], ["127.0.0.2", "10.0.0.1"]),
    (("*",), ["127.0.0.1", "[::1]", "127.0.0.9"], ["192.0.2.1", "[2001:db8::1]", "host"]),
    (("name.invalid",), [], ["127.0.0.1"])])
def test_a_replica_is_no_peer_of_its_own(c, bind, own, others):
    c.server.config = Config.load(environ={}, settings={
        "bind": list(bind), "requirepass": "x", "auth_token": "x"})
    urls = c.server.sync.urls
    for host in own:
        for text in (f"{host}:8080", f"http://{host}:8080/", f"https://{host}:8080"):
            assert c.error("CRDT.PEER", "ADD", text) == "ERR That is the address of this replica"
    assert not urls
    for host in others:
        assert c("CRDT.PEER", "ADD", f"{host}:8080") == b"OK"
    assert len(urls) == len(others) and c("CRDT.PEER", "ADD", "127.0.0.1:8081") == b"OK"


def test_pause_and_resume(c):
    sync = c.server.sync
    assert c("CRDT.PEER", "PAUSE", "*") == b"OK" and sync.paused == {"*"}
    assert c("CRDT.PEER", "RESUME", "*") == b"OK" and sync.paused == set()


def test_sync_answers_when_it_is_done(c):
    assert c.raw("CRDT.SYNC") == b""
    done, timeout = c.server.sync.syncing.pop()
    assert timeout == 30
    done(SimpleNamespace(synced=("http://b:1",), unfinished=(), unreachable=("http://c:1",)))
    assert (decode(c.session.take_replies()) == [b"synced", [b"http://b:1"], b"unreachable",
                                                 [b"http://c:1"]])


def test_sync_out_of_time_is_an_error(c):
    c.raw("CRDT.SYNC", 1500)
    done, timeout = c.server.sync.syncing.pop()
    assert timeout == 1.5
    done(SimpleNamespace(synced=(), unfinished=("http://b:1",), unreachable=()))
    assert c.session.take_replies() == b"-ERR Not in sync with http://b:1 after 1500 ms\r\n"


def test_sync_arguments(c):
    c.raw("CRDT.SYNC", 0)
    done, timeout = c.server.sync.syncing.pop()
    assert timeout is None
    d = c.other()
    assert d.error("CRDT.SYNC", "x") == "ERR timeout is not an integer or out of range"
    assert d.error("CRDT.SYNC", -1) == "ERR timeout is negative"
    d("MULTI")
    assert d.error("CRDT.SYNC") == "ERR Command not allowed inside a transaction"


def test_clock_as_a_token(c):
    c("SET", "k", "v")
    token = c("CRDT.CLOCK", "token")
    actor, seq = c("CRDT.CLOCK")
    assert token == b"%s=%d" % (actor, seq)
    assert c("CRDT.WAITFOR", token, 0) == c("CRDT.WAITFOR", "", 0) == 1
    ahead = b"other/7=1," + token
    c("MULTI")
    assert c("CRDT.WAITFOR", ahead, 0) == b"QUEUED"
    assert c("EXEC") == [0]                     # nobody waits there
    assert c.raw("CRDT.WAITFOR", ahead, 0) == b""
    clock, done = c.server.sync.expected.pop()
    assert clock == from_token(ahead) and len(clock) == 2
    done()
    assert c.session.take_replies() == b":1\r\n"


@pytest.mark.parametrize("token", ["a", "a/1", "a/1=", "a/1=2,", "a/1=2;b/1=2", "a/-1=2", "a/1=-2",
                                   "é/1=2", "a b/1=2", "a/1=2\n", "a" * 129 + "/1=2",
                                   "a/18446744073709551616=1", "a/1=18446744073709551616"])
def test_no_clock(c, token):
    assert c.error("CRDT.WAITFOR", token, 0).startswith("ERR not a clock")


def test_a_token_names_as_many_actors_as_there_may_be(c):
    """More would only keep the others waiting."""
    most = b",".join(b"a/%d=0" % i for i in range(ENTRIES_MOST))
    assert c("CRDT.WAITFOR", most, 0) == 1
    assert c.error("CRDT.WAITFOR", most + b",a/1=0", 0).startswith("ERR not a clock")


def test_waitfor_arguments(c):
    assert c.error("CRDT.CLOCK", "token", "x") == c.error("CRDT.CLOCK", "x") == "ERR syntax error"
    assert c.error("CRDT.WAITFOR", "", "x") == "ERR timeout is not an integer or out of range"
    assert c.error("CRDT.WAITFOR", "", -1) == "ERR timeout is negative"
    assert c("CRDT.WAITFOR", "a/18446744073709551615=0", 0) == 1


def test_without_replication():
    c = Client()
    assert c("CRDT.SYNC") == [b"synced", [], b"unreachable", []]
    assert c.error("CRDT.PEER", "ADD", "a:1") == "ERR This server has no replication"


def test_help_names_every_command(c):
    text = b"\n".join(c("CRDT.HELP"))
    for name in (b"CLOCK", b"DIGEST", b"INSPECT key", b"PEERS", b"PEER <HELP", b"SYNC [timeout-ms]",
                 b"CONFLICTS [TOP]", b"LAG", b"HELP"):
        assert b"CRDT." + name in text

"""Commands that wait for keys, without sockets: what they answer, who is served, in which order,
and what ends a wait."""
from __future__ import annotations

import random

import pytest

from tests.commands.run import Client, exchange
from tests.compat import waiting
from tests.respclient import ReplyError, decode

BLOCKED = b""           # what execute answers while the reply is owed
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


def clients(n: int, resp: int = 2) -> list[Client]:
    first = Client(resp=resp)
    return [first, *(first.other(resp) for _ in range(n - 1))]


def blocks(c: Client, *argv) -> None:
    assert c.raw(*argv) == BLOCKED


def got(c: Client):
    """What the client has been sent since: one value, or None for nothing."""
    sent = c.session.take_replies()
    if not sent:
        return None
    value = decode(sent)
    return str(value) if isinstance(value, ReplyError) else value


def later(c: Client, ms: int) -> None:
    c.now += ms
    c.executor.expire_deferred()


# ---- at the call ---------------------------------------------------------------------------------

def test_an_element_that_is_there_is_taken_at_once():
    c = Client()
    c("RPUSH", "l", "a", "b", "c", "d", "e")
    assert c("BLPOP", "l", 0) == [b"l", b"a"]
    assert c("BRPOP", "none", "l", 0) == [b"l", b"e"]
    assert c("BLMPOP", 0, 2, "none", "l", "LEFT", "COUNT", 2) == [b"l", [b"b", b"c"]]
    assert c("BLMOVE", "l", "m", "LEFT", "RIGHT", 0) == b"d"
    assert c("BRPOPLPUSH", "m", "m", 0) == b"d"
    assert c("BLMOVEM", "m", "m", "LEFT", "RIGHT", 0) == [b"d"]
    assert c("BLMOVEM", "m", "m", "LEFT", "RIGHT", 0, "COUNT", 2**63 - 1, "BULK") == [b"d"]
    assert c("EXISTS", "l") == 0
    c("ZADD", "z", 1, "a", 2, "b", 3, "c", 4, "d")
    assert c("BZPOPMIN", "z", 0) == [b"z", b"a", b"1"]
    assert c("BZPOPMAX", "none", "z", 0) == [b"z", b"d", b"4"]
    assert c("BZMPOP", 0, 1, "z", "MAX", "COUNT", 10) == [b"z", [[b"c", b"3"], [b"b", b"2"]]]
    assert c("EXISTS", "z") == 0


def test_replies_in_resp3():
    a, b = clients(2, resp=3)
    a("ZADD", "z", 1, "a", 2, "b")
    assert a.raw("BZPOPMIN", "z", 0) == b"*3\r\n$1\r\nz\r\n$1\r\na\r\n,1\r\n"
    assert a.raw("BZMPOP", 0, 1, "z", "MIN") == b"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nb\r\n,2\r\n"
    for argv in ("BLPOP l 0.001", "BLMOVE l m LEFT LEFT 0.001", "BZMPOP 0.001 1 z MIN",
                 "BLMOVEM l m LEFT LEFT 0.001", "BLMOVEM l m LEFT LEFT 0.001 EXACTLY 2 OBO"):
        blocks(b, *argv.split())
        later(b, 1)
        assert b.session.take_replies() == b"_\r\n"
    blocks(b, "BZPOPMAX", "z", 0)
    a("ZADD", "z", 1.5, "m")
    assert b.session.take_replies() == b"*3\r\n$1\r\nz\r\n$1\r\nm\r\n,1.5\r\n"


def test_the_first_key_in_the_order_of_arguments_wins():
    c = Client()
    c("RPUSH", "l2", "b")
    c("RPUSH", "l1", "a")
    assert c("BLPOP", "l1", "l2", 0) == [b"l1", b"a"]
    assert c("BLPOP", "l1", "l2", 0) == [b"l2", b"b"]


@pytest.mark.parametrize("argv", ["BLPOP s 0", "BRPOP none s 0", "BLMPOP 0 1 s LEFT",
                                  "BLMOVE s d LEFT LEFT 0", "BRPOPLPUSH s d 0", "BZPOPMIN s 0",
                                  "BLMOVEM s d LEFT LEFT 0", "BLMOVEM s d LEFT LEFT 0 COUNT 2 OBO",
                                  "BZPOPMAX none s 0", "BZMPOP 0 2 none s MIN"])
def test_a_key_of_another_type_is_refused_at_the_call(argv):
    c = Client()
    c("SET", "s", "x")
    assert c.error(*argv.split()) == WRONG_TYPE


@pytest.mark.parametrize("timeout, text",
                         [("-1", "timeout is negative"), ("-1.5", "timeout is negative"),
                                           ("x", "timeout is not a float or out of range"),
                                           ("", "timeout is not a float or out of range"),
                                           ("nan", "timeout is not a float or out of range"),
                                           (" 1", "timeout is not a float or out of range"),
                                           ("1e400", "timeout is out of range"),
                                           ("1e5000", "timeout is not a float or out of range"),
                                           ("9223372036854775807", "timeout is out of range"),
                                           ("0x7FFFFFFFFFFFFFFF", "timeout is out of range"),
                                           ("inf", "timeout is out of range"),
                                           ("-inf", "timeout is negative")])
def test_time_limits_that_are_refused(timeout, text):
    c = Client()
    for argv in (["BLPOP", "k", timeout], ["BZPOPMIN", "k", timeout],
                 ["BLMOVE", "k", "l", "LEFT", "LEFT", timeout], ["BRPOPLPUSH", "k", "l", timeout],
                 ["BLMOVEM", "k", "l", "LEFT", "LEFT", timeout, "COUNT", "0", "OBO"],
                 ["BLMPOP", timeout, "1", "k", "LEFT"], ["BZMPOP", timeout, "1", "k", "MIN"]):
        assert c.error(*argv) == "ERR " + text


@pytest.mark.parametrize("argv, text", [
    ("BLMPOP x 0 k LEFT", "numkeys should be greater than 0"),
    ("BLMPOP 0 2 k LEFT", "syntax error"), ("BLMPOP 0 1 k UP", "syntax error"),
    ("BLMPOP x 1 k LEFT COUNT 0", "count should be greater than 0"),
    ("BLMPOP x 1 k LEFT COUNT 1 COUNT 1", "syntax error"),
    ("BLMPOP x 1 k LEFT", "timeout is not a float or out of range"),
    ("BZMPOP x 1 k LEFT", "syntax error"),
    ("BZMPOP x 1 k MIN COUNT", "syntax error"),
    ("BZMPOP x 1 k MAX COUNT -1", "count should be greater than 0"),
    ("BLMOVEM a b LEFT UP x", "syntax error"), ("BLMOVEM a b LEFT LEFT 0 COUNT 1", "syntax error"),
    ("BLMOVEM a b LEFT LEFT 0 COUNT 1 OBO 1", "syntax error"),
    ("BLMOVEM a b LEFT LEFT 0 EXACTLY 0 UP", "count should be greater than 0"),
    ("BLMOVEM a b LEFT LEFT COUNT 1 OBO 0", "timeout is not a float or out of range"),
    ("BLMOVEM a b LEFT LEFT", "wrong number of arguments for 'blmovem' command"),
    ("BLMOVE a b LEFT UP x", "syntax error"), ("BLMOVE a b UP LEFT x", "syntax error"),
    ("BLPOP k", "wrong number of arguments for 'blpop' command"),
    ("BZMPOP 0 1 k", "wrong number of arguments for 'bzmpop' command")])
def test_arguments_that_are_refused(argv, text):
    assert Client().error(*argv.split()) == "ERR " + text


def test_inside_exec_nobody_waits():
    a, b = clients(2)
    for argv in ("MULTI", "BLPOP l 0", "BLMPOP 0 1 l LEFT", "BLMOVE l m LEFT LEFT 0",
                 "BRPOPLPUSH l m 0", "BZPOPMIN z 0", "BZMPOP 0 1 z MIN", "BLMOVEM l m LEFT LEFT 0",
                 "RPUSH l x", "BLMOVEM l m LEFT LEFT 0 EXACTLY 2 OBO", "BLPOP l 0"):
        a(*argv.split())
    assert (a.raw("EXEC") == b"*10\r\n" + b"*-1\r\n" * 2 + b"$-1\r\n" * 2 + b"*-1\r\n" * 3 +
            b":1\r\n*-1\r\n*2\r\n$1\r\nl\r\n$1\r\nx\r\n")


# ---- being served --------------------------------------------------------------------------------

@pytest.mark.parametrize("wait, wake, answer", [
    ("BLPOP k 0", "RPUSH k a b", [b"k", b"a"]), ("BRPOP k 0", "RPUSH k a b", [b"k", b"b"]),
    ("BLPOP k 0", "LPUSH k a b", [b"k", b"b"]),
    ("BLMPOP 0 1 k RIGHT COUNT 5", "RPUSH k a b", [b"k", [b"b", b"a"]]),
    ("BLMOVE k d RIGHT LEFT 0", "RPUSH k a b", b"b"),
    ("BRPOPLPUSH k d 0", "RPUSH k a b", b"b"),
    ("BLMOVEM k d RIGHT LEFT 0", "RPUSH k a b", [b"b"]),
    ("BLMOVEM k d LEFT LEFT 0 COUNT 5 OBO", "RPUSH k a b", [b"b", b"a"]),
    ("BLMOVEM k d LEFT LEFT 0 EXACTLY 2 BULK", "RPUSH k a b c", [b"a", b"b"]),
    ("BLMOVEM k k LEFT LEFT 0 EXACTLY 2 OBO", "RPUSH k a b c", [b"b", b"a"]),
    ("BLPOP k 0", "LMOVEM list k LEFT LEFT COUNT 2 OBO", [b"k", b"y"]),
    ("BLMOVEM k d LEFT LEFT 0 EXACTLY 3 BULK", "SORT list ALPHA STORE k", [b"x", b"y", b"z"]),
    ("BLMOVEM k d LEFT LEFT 0 EXACTLY 3 BULK", "RENAME list k", [b"x", b"y", b"z"]),
    ("BZPOPMIN k 0", "ZADD k 2 b 1 a", [b"k", b"a", b"1"]),
    ("BZPOPMAX k 0", "ZADD k 2 b 1 a", [b"k", b"b", b"2"]),
    ("BZMPOP 0 1 k MIN COUNT 2", "ZADD k 2 b 1 a", [b"k", [[b"a", b"1"], [b"b", b"2"]]]),
    ("BZPOPMIN k 0", "ZINCRBY k 3 a", [b"k", b"a", b"3"]),
    ("BLPOP k 0", "RENAME list k", [b"k", b"x"]), ("BLPOP k 0", "COPY list k", [b"k", b"x"]),
    ("BLPOP k 0", "LMOVE list k LEFT RIGHT", [b"k", b"x"]),
    ("BLPOP k 0", "RPOPLPUSH list k", [b"k", b"z"]),
    ("BLPOP k 0", "BLMOVE list k LEFT RIGHT 0", [b"k", b"x"]),
    ("BZPOPMIN k 0", "RENAME zset k", [b"k", b"x", b"1"]),
    ("BZPOPMIN k 0", "ZUNIONSTORE k 2 set zset WEIGHTS 0 2", [b"k", b"y", b"0"]),
    ("BZPOPMIN k 0", "ZRANGESTORE k zset 0 -1", [b"k", b"x", b"1"]),
    ("BZPOPMIN k 0", "ZINTERSTORE k 1 zset", [b"k", b"x", b"1"]),
    ("BZPOPMIN k 0", "ZDIFFSTORE k 2 zset set", [b"k", b"x", b"1"]),
    ("BLPOP k 0", "SWAPDB 0 1", [b"k", b"other"])])
def test_what_wakes_a_client(wait, wake, answer):
    a, b = clients(2)
    b("SELECT", 1)
    b("RPUSH", "k", "other")
    b("SELECT", 0)
    b("RPUSH", "list", "x", "y", "z")
    b("ZADD", "zset", 1, "x")
    b("SADD", "set", "y")
    blocks(a, *wait.split())
    b(*wake.split())
    assert got(a) == answer
    assert a("ECHO", "on") == b"on"


def test_clients_are_served_in_the_order_of_their_coming():
    a, b, c, d = clients(4)
    blocks(a, "BLPOP", "k", 0)
    blocks(b, "BLPOP", "other", "k", 0)
    blocks(c, "BRPOP", "k", "k", "k", 0)
    d("RPUSH", "k", "1", "2")
    assert [got(x) for x in (a, b, c)] == [[b"k", b"1"], [b"k", b"2"], None]
    blocks(a, "BLPOP", "k", 0)
    d("RPUSH", "k", "3", "4", "5")
    assert got(c) == [b"k", b"5"]           # first in the line, and it pops from the tail
    assert got(a) == [b"k", b"3"]
    assert d("LRANGE", "k", 0, -1) == [b"4"]


def test_who_waits_for_another_type_is_passed_over():
    a, b, c, d = clients(4)
    blocks(a, "BZPOPMIN", "k", 0)
    blocks(b, "BLPOP", "k", 0)
    blocks(c, "BZPOPMIN", "k", 0)
    d("RPUSH", "k", "x")
    assert [got(x) for x in (a, b, c)] == [None, [b"k", b"x"], None]
    d("SET", "k", "text")
    d("DEL", "k")
    d("HSET", "k", "f", "v")
    d("DEL", "k")
    d("ZADD", "k", 1, "m")
    assert [got(x) for x in (a, b, c)] == [[b"k", b"m", b"1"], None, None]


def test_while_a_client_waits_keys_of_another_type_are_passed_over():
    a, b = clients(2)
    blocks(a, "BLPOP", "k1", "k2", 0)
    b("SET", "k1", "text")
    b("RPUSH", "k2", "x")
    assert got(a) == [b"k2", b"x"]


def test_a_transaction_is_seen_as_a_whole():
    a, b, c = clients(3)
    blocks(a, "BLPOP", "k", 0)
    for argv in ("MULTI", "RPUSH k a", "DEL k", "EXEC"):
        b(*argv.split())
    assert got(a) is None
    for argv in ("MULTI", "LPUSH k a", "DEL k", "SET k foo", "EXEC"):
        b(*argv.split())
    assert got(a) is None
    b("DEL", "k")
    for argv in ("MULTI", "LPUSH k a", "LPUSH k b", "LPUSH k c", "EXEC"):
        b(*argv.split())
    assert got(a) == [b"k", b"c"]
    blocks(a, "BLPOP", "x", "y", 0)
    for argv in ("MULTI", "RPUSH y 2", "RPUSH x 1", "EXEC"):
        b(*argv.split())
    assert got(a) == [b"x", b"1"]           # by the order of its arguments
    assert b("LRANGE", "y", 0, -1) == [b"2"]


def test_databases_are_apart():
    a, b, c = clients(3)
    a("SELECT", 3)
    blocks(a, "BLPOP", "k", 0)
    b("RPUSH", "k", "x")
    assert got(a) is None
    b("MOVE", "k", 3)
    assert got(a) == [b"k", b"x"]
    blocks(b, "BLPOP", "k", 0)
    c("SELECT", 3)
    c("RPUSH", "k", "y")
    c("SWAPDB", 0, 3)
    assert got(b) == [b"k", b"y"]


# ---- BLMOVEM -------------------------------------------------------------------------------------

@pytest.mark.parametrize("wake", ["RPUSH s 3", "LPUSH s 3", "LINSERT s BEFORE 1 3",
                                  "LMOVE feed s LEFT RIGHT", "LMOVEM feed s LEFT LEFT COUNT 1 OBO",
                                  "BLMOVEM feed s LEFT LEFT 0", "RPUSHX s 3"])
def test_exactly_waits_for_a_list_to_grow(wake):
    a, b = clients(2)
    a("RPUSH", "s", 1)
    a("RPUSH", "feed", 3)
    blocks(b, "BLMOVEM", "s", "d", "LEFT", "RIGHT", 0, "EXACTLY", 3, "BULK")
    a("RPUSH", "s", 2)
    a("LSET", "s", 0, 1)
    assert got(b) is None and a("LRANGE", "s", 0, -1) == [b"1", b"2"] and a("EXISTS", "d") == 0
    a(*wake.split())
    there = got(b)
    assert sorted(there) == [b"1", b"2", b"3"] and a("LRANGE", "d", 0, -1) == there
    assert a("EXISTS", "s") == 0 and not b.session.blocked


def test_exactly_keeps_its_place_behind_which_others_take_what_is_too_little():
    a, b, c, d = clients(4)
    blocks(b, "BLMOVEM", "s", "d", "LEFT", "RIGHT", 0, "EXACTLY", 2, "BULK")
    blocks(c, "BLPOP", "s", 0)
    blocks(d, "BLPOP", "s", 0)
    a("RPUSH", "s", "a")
    assert got(c) == [b"s", b"a"] and got(b) is None and got(d) is None
    a("RPUSH", "s", "b", "c")
    assert got(b) == [b"b", b"c"] and got(d) is None
    a("RPUSH", "s", "d")
    assert got(d) == [b"s", b"d"]


def test_many_who_wait_for_more_cost_one_of_them():
    """Who wants as many as another who got none is not asked; who wants fewer is."""
    clients_ = clients(202)
    a, waiting_ = clients_[0], clients_[1:]
    for w in waiting_[:200]:
        blocks(w, "BLMOVEM", "s", "d", "LEFT", "RIGHT", 0, "EXACTLY", 5, "BULK")
    blocks(waiting_[200], "BLMOVEM", "s", "d", "LEFT", "RIGHT", 0, "EXACTLY", 3, "BULK")
    a("RPUSH", "s", 1)
    a("RPUSH", "s", 2)
    a("RPUSH", "s", 3)
    assert got(waiting_[200]) == [b"1", b"2", b"3"]
    a("RPUSH", "s", *range(12))
    assert [got(w) is not None for w in waiting_[:4]] == [True, True, False, False]
    assert a("LLEN", "s") == 2


def test_exactly_ends_with_its_time_and_with_a_destination_of_another_type():
    a, b = clients(2)
    blocks(b, "BLMOVEM", "s", "d", "LEFT", "RIGHT", 1, "EXACTLY", 3, "BULK")
    a("RPUSH", "s", 1, 2)
    later(b, 1000)
    assert b.session.take_replies() == b"*-1\r\n" and not b.session.blocked
    a("SET", "d", "x")
    blocks(b, "BLMOVEM", "s", "d", "LEFT", "RIGHT", 1, "EXACTLY", 3, "BULK")
    a("RPUSH", "s", 3)
    assert got(b) == WRONG_TYPE and a("LLEN", "s") == 3
    assert b.error("BLMOVEM", "s", "d", "LEFT", "RIGHT", 1) == WRONG_TYPE


# ---- BLMOVE --------------------------------------------------------------------------------------

def test_moves_in_a_chain():
    a, b, c, d = clients(4)
    blocks(c, "BLPOP", "l3", 0)
    blocks(b, "BLMOVE", "l2", "l3", "LEFT", "LEFT", 0)
    blocks(a, "BRPOPLPUSH", "l1", "l2", 0)
    d("RPUSH", "l1", "x")
    assert [got(x) for x in (a, b, c)] == [b"x", b"x", [b"l3", b"x"]]
    assert d("KEYS", "*") == []


def test_moves_in_a_circle():
    a, b, c = clients(3)
    blocks(a, "BRPOPLPUSH", "l1", "l2", 0)
    blocks(b, "BRPOPLPUSH", "l2", "l1", 0)
    c("RPUSH", "l1", "foo")
    assert [got(x) for x in (a, b)] == [b"foo", b"foo"]
    assert c("LRANGE", "l1", 0, -1) == [b"foo"]
    assert c("EXISTS", "l2") == 0


def test_a_move_to_the_same_list():
    a, b, c = clients(3)
    blocks(a, "BLMOVE", "l", "l", "LEFT", "RIGHT", 0)
    blocks(b, "BLPOP", "l", 0)
    c("RPUSH", "l", "x")
    assert [got(x) for x in (a, b)] == [b"x", [b"l", b"x"]]
    assert c("EXISTS", "l") == 0


def test_a_move_to_a_key_of_another_type_is_refused_when_its_time_comes():
    a, b, c = clients(3)
    c("SET", "to", "text")
    blocks(a, "BLMOVE", "from", "to", "LEFT", "RIGHT", 0)
    blocks(b, "BLPOP", "from", 0)
    c("RPUSH", "from", "x")
    assert got(a) == WRONG_TYPE
    assert got(b) == [b"from", b"x"]
    assert c("GET", "to") == b"text"


# ---- what ends a wait ----------------------------------------------------------------------------

def test_time_limits():
    a, b, c, d = clients(4)
    blocks(a, "BLPOP", "k", 1)
    blocks(b, "BRPOPLPUSH", "k", "l", "0.0101")
    blocks(c, "BZMPOP", "0.5", 1, "k", "MIN")
    later(a, 10)
    assert [got(x) for x in (a, b, c)] == [None, None, None]
    later(a, 1)
    assert [x.session.take_replies() for x in (a, b, c)] == [b"", b"*-1\r\n", b""]
    later(a, 489)
    assert [x.session.take_replies() for x in (a, b, c)] == [b"", b"", b"*-1\r\n"]
    d("RPUSH", "k", "x")
    assert got(a) == [b"k", b"x"]
    later(a, 10_000)
    assert got(a) is None


def test_the_answer_of_a_time_limit():
    a = Client()
    for argv in ("BLPOP k 1", "BLMOVE k l LEFT LEFT 1", "BZPOPMIN k 1", "BLMPOP 1 1 k LEFT"):
        blocks(a, *argv.split())
        later(a, 1000)
        assert a.session.take_replies() == b"*-1\r\n"


def test_unblock():
    a, b = clients(2)
    assert a.session.unblock() is False
    blocks(a, "BLPOP", "k", 0)
    assert a.session.unblock() is True
    assert a.session.take_replies() == b"*-1\r\n"
    blocks(a, "BLPOP", "k", 0)
    assert a.session.unblock(True) is True
    assert got(a) == "UNBLOCKED client unblocked via CLIENT UNBLOCK"
    assert a.session.unblock(True) is False
    b("RPUSH", "k", "x")
    assert got(a) is None and b("LLEN", "k") == 1


def test_a_client_that_goes_leaves_its_lines():
    a, b, c = clients(3)
    blocks(a, "BLPOP", "k", "l", 5)
    blocks(b, "BLPOP", "k", 0)
    del a.session
    c("RPUSH", "k", "x")
    assert got(b) == [b"k", b"x"]
    later(c, 10_000)


def test_replies_that_the_client_does_not_want():
    a, b = clients(2)
    a.raw("CLIENT", "REPLY", "SKIP")
    blocks(a, "BLPOP", "k", 0)
    b("RPUSH", "k", "x")
    assert got(a) is None
    assert a("ECHO", "on") == b"on"
    a.raw("CLIENT", "REPLY", "OFF")
    blocks(a, "BLPOP", "k", 1)
    later(a, 2000)
    assert got(a) is None
    a.raw("CLIENT", "REPLY", "ON")
    blocks(a, "BLPOP", "k", 1)
    later(a, 2000)
    assert a.session.take_replies() == b"*-1\r\n"


def test_keys_that_have_expired_are_not_there():
    a, b = clients(2)
    b("RPUSH", "k", "old")
    b("PEXPIRE", "k", 10)
    b.now += 11
    blocks(a, "BLPOP", "k", 0)
    b("RPUSH", "k", "new")
    assert got(a) == [b"k", b"new"] and b("EXISTS", "k") == 0
    b("RPUSH", "k", "x")
    b("PEXPIRE", "k", 10)
    assert a("BLPOP", "k", 0) == [b"k", b"x"]
    b("RPUSH", "k", "y")
    assert b("PTTL", "k") == -1


# ---- what is counted -----------------------------------------------------------------------------

def test_a_command_that_waits_is_counted_once():
    a, b = clients(2)
    a.executor.set_slowlog(0, 128)
    blocks(a, "BLPOP", "k", 0)
    assert not [e for e in a.executor.slowlog() if e[3][0] == b"BLPOP"]
    b("RPUSH", "k", "x")
    assert got(a) == [b"k", b"x"]
    assert a.executor.command_stats()["blpop"][0] == 1
    assert [e[3] for e in a.executor.slowlog() if e[3][0] == b"BLPOP"] == [[b"BLPOP", b"k", b"0"]]
    b("SET", "to", "text")
    blocks(a, "BLMOVE", "k", "to", "LEFT", "LEFT", 0)
    b("RPUSH", "k", "x")
    calls, _, rejected, failed = a.executor.command_stats()["blmove"]
    assert (calls, rejected, failed) == (1, 0, 1)
    assert a.executor.error_stats()["WRONGTYPE"] == 1


def test_what_is_served_is_an_op_of_its_own():
    a, b = clients(2)
    blocks(a, "BLMOVE", "k", "l", "LEFT", "LEFT", 0)
    assert b.effects("RPUSH", "k", "x") == 2
    assert b.effects("RPUSH", "k", "y") == 1


def test_watchers_see_what_is_served():
    a, b, c = clients(3)
    blocks(a, "BLMOVE", "k", "l", "LEFT", "LEFT", 0)
    c("WATCH", "l")
    b("RPUSH", "k", "x")
    c("MULTI")
    assert c("EXEC") is None


def test_with_no_memory_left_what_waits_is_served_all_the_same():
    a, b = clients(2)
    blocks(a, "BLMOVE", "k", "l", "LEFT", "LEFT", 0)
    b("MULTI")
    b("RPUSH", "k", "x")
    b.executor.max_memory = 1
    assert b.error("BLMOVE", "k", "l", "LEFT", "LEFT", 0).startswith("OOM")
    b.executor.max_memory = 0
    b("DISCARD")
    other = Client("b")
    other("RPUSH", "k", "x")
    a.executor.max_memory = 1
    exchange(a, other)
    a.executor.serve_waiting()
    assert got(a) == b"x"


# ---- several replicas ----------------------------------------------------------------------------

def test_elements_that_a_peer_pushed_are_served():
    a, b = Client("a"), Client("b", epoch=1_700_000_000_001)
    waiting = b.other()
    blocks(waiting, "BLPOP", "k", 0)
    a("RPUSH", "k", "x", "y")
    exchange(a, b)
    b.executor.serve_waiting()
    assert got(waiting) == [b"k", b"x"]
    exchange(a, b)
    assert a("LRANGE", "k", 0, -1) == b("LRANGE", "k", 0, -1) == [b"y"]
    assert a.replica.digest() == b.replica.digest()


def test_two_replicas_with_waiting_clients_both_give_the_element_out():
    a, b = Client("a"), Client("b", epoch=1_700_000_000_001)
    third = Client("c", epoch=1_700_000_000_002)
    at_a, at_b = a.other(), b.other()
    blocks(at_a, "BLPOP", "k", 0)
    blocks(at_b, "BZPOPMIN", "z", 0)
    blocks(b, "BLPOP", "k", 0)
    third("RPUSH", "k", "job")
    exchange(a, b, third)
    for c in (a, b):
        c.executor.serve_waiting()
    assert got(at_a) == got(b) == [b"k", b"job"]
    exchange(a, b, third)
    assert a.replica.digest() == b.replica.digest() == third.replica.digest()
    assert third("EXISTS", "k") == 0 and got(at_b) is None


def test_a_push_beside_a_waiting_client_is_taken_before_a_peer_sees_it():
    a, b = Client("a"), Client("b", epoch=1_700_000_000_001)
    at_a = a.other()
    blocks(at_a, "BLPOP", "k", 0)
    blocks(b, "BLPOP", "k", 0)
    a("RPUSH", "k", "job")
    assert got(at_a) == [b"k", b"job"]
    exchange(a, b)
    b.executor.serve_waiting()
    assert got(b) is None


def test_a_flush_elsewhere_that_uncovers_another_type():
    """B's list covers A's sorted set under one key; A flushes what it saw, the list, and the set
    that it had not seen stays."""
    a, b, c = Client("a"), Client("b",
                                  epoch=1_700_000_000_001), Client("c", epoch=1_700_000_000_002)
    waiting = b.other()
    blocks(waiting, "BZPOPMIN", "k", 0)
    a("RPUSH", "k", "x")
    batch = a.replica.take_ops()
    b.replica.receive(batch)
    c("ZADD", "k", 1, "m")
    b.replica.receive(c.replica.take_ops())
    b.executor.serve_waiting()
    assert got(waiting) is None             # the list shows
    a("FLUSHALL")
    b.replica.receive(a.replica.take_ops())
    b.executor.serve_waiting()
    assert got(waiting) == [b"k", b"m", b"1"]


def is_there(r: Client, argv: tuple) -> bool:
    """Could a command that waits at r be served?"""
    if argv[0] == "XREAD":
        at = argv.index("STREAMS") + 1
        half = (len(argv) - at) // 2
        return any(r("TYPE", key) == b"stream" and r("XREAD", "STREAMS", key, id)
                   for key, id in zip(argv[at:at + half], argv[at + half:]) if id not in "$+")
    keys = argv[1:2] if argv[0] in ("BLMOVE", "BRPOPLPUSH") else argv[1:]
    wanted = b"zset" if "Z" in argv[0] else b"list"
    return wanted in [r("TYPE", k) for k in set(keys) & set(waiting.KEYS)]


def test_nobody_waits_for_what_is_there():
    """Random commands at three replicas that hear of each other now and then, out of order: whoever
    still waits has nothing to take, and all replicas end up equal."""
    for seed in range(60):
        rng = random.Random(seed)
        replicas = [Client(name, epoch=1_700_000_000_000 + i) for i, name in enumerate("abc")]
        for r in replicas:
            for other in replicas:
                r.replica.declare(other.replica.id, other.replica.epoch)
        sessions = [[r.other() for _ in range(4)] for r in replicas]
        last: dict[Client, tuple] = {}
        inbox: list[list[bytes]] = [[], [], []]
        for n in range(200):
            i = rng.randrange(3)
            r = replicas[i]
            free = [c for c in sessions[i] if not c.session.blocked]
            if rng.random() < 0.3:
                rng.shuffle(inbox[i])
                while inbox[i]:
                    r.replica.receive(inbox[i].pop())
                r.executor.serve_waiting()
            elif len(free) < 2:
                rng.choice(sessions[i]).session.unblock(rng.random() < 0.5)
            else:
                c = rng.choice(free)
                last[c] = waiting.waits(rng) if rng.random() < 0.4 else waiting.plain(rng,
                    rng.choice(waiting.KEYS)) if rng.random() < 0.9 else rng.choice(
                    [("FLUSHALL",), ("SET", "a", "x"), ("PEXPIRE", "b", 5)])
                c.raw(*last[c])
            r.now += 1
            if made := r.replica.take_ops():
                for j in {0, 1, 2} - {i}:
                    inbox[j].append(made)
            for c in sessions[i]:
                c.session.take_replies()
                if c.session.blocked:
                    assert not is_there(r, last[c]), (seed, n, last[c])
        for r, batches in zip(replicas, inbox):
            for batch in batches:
                r.replica.receive(batch)
        assert len({r.replica.digest() for r in replicas}) == 1, seed
        for r, some in zip(replicas, sessions):
            for c in some:
                c.session.unblock()
            r.executor.serve_waiting()
            assert r.replica.stats()["watched"] == 0
            r.replica.check()


# ---- many ----------------------------------------------------------------------------------------

def test_many_keys_and_many_clients():
    first = Client()
    keys = [f"k{i}" for i in range(1000)]
    waiting = [first.other() for _ in range(50)]
    for w in waiting:
        blocks(w, "BLPOP", *keys, 0)
    for i, w in enumerate(waiting):
        first("RPUSH", f"k{i * 19}", i)
        assert got(w) == [f"k{i * 19}".encode(), str(i).encode()]
    assert first("DBSIZE") == 0


def test_memory_returns():
    first = Client()
    waiting = first.other()
    first("SET", "x", "y")
    first.replica.take_ops()
    before = first.replica.stats()["memory"]
    for i in range(2000):
        blocks(waiting, "BLPOP", "k", f"k{i}", 5)
        first("RPUSH", f"k{i}", "x")
        assert got(waiting) == [f"k{i}".encode(), b"x"]
        first.replica.take_ops()
    assert first.replica.stats()["watched"] == 0
    after = first.replica.stats()["memory"]
    assert after <= before + 1000

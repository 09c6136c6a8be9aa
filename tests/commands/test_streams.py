"""Streams through an Executor: what the commands answer, in which order readers are given entries,
who waits and is served, and streams as bytes. What redis-server answers to the same calls is tested
in tests/compat; what the kernel holds, in tests/core/test_streams.py."""
from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtredis.commands import rdb
from tests.commands import payloads
from tests.commands.payloads import Choice, read, seal
from tests.commands.run import NOW, Client, exchange
from tests.commands.test_blocking import blocks, got, later

INVALID = "ERR Invalid stream ID specified as stream command argument"
NOT_ABOVE = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
BAD_FORMAT = "ERR Bad data format"
MOST = 2**64 - 1


@pytest.fixture
def c():
    return Client()


def add(c, *ids, key: str = "s") -> None:
    for i in ids:
        assert c("XADD", key, i, "f", i) == (i if "-" in i else f"{i}-0").encode()


def ids(reply) -> list[str]:
    return [i.decode() for i, _ in reply]


def ranged(c, key: str = "s") -> list[str]:
    return ids(c("XRANGE", key, "-", "+"))


def came(c, after: str, key: str = "s") -> list[str]:
    """What XREAD gives."""
    reply = c("XREAD", "STREAMS", key, after)
    return ids(reply[0][1]) if reply else []


def about(c, key: str = "s", *full) -> dict:
    flat = c("XINFO", "STREAM", key, *full)
    return dict(zip(flat[::2], flat[1::2]))


# ---- ids -----------------------------------------------------------------------------------------

def test_ids_of_a_star(c):
    made = [tuple(map(int, c("XADD", "s", "*", "f", i).split(b"-"))) for i in range(5)]
    assert made == sorted(set(made)) and made[0][0] == NOW
    c.now -= 1000                                       # a clock that goes back
    assert tuple(map(int, c("XADD", "s", "*", "f", 1).split(b"-"))) > made[-1]
    assert all(seq < 2**53 for _, seq in made)


def test_ids_of_two_replicas_differ():
    a, b = Client("a"), Client("b")
    assert a("XADD", "s", "*", "f", 1) != b("XADD", "s", "*", "f", 2)
    exchange(a, b)
    assert a("XLEN", "s") == b("XLEN", "s") == 2 and ranged(a) == ranged(b)


def test_partial_ids(c):
    add(c, "5", "5-1")
    assert c("XADD", "s", "5-*", "f", 1) == b"5-2"
    assert c("XADD", "s", "6-*", "f", 1) == b"6-0"
    assert c.error("XADD", "s", "5-*", "f", 1) == NOT_ABOVE
    assert c.error("XADD", "s", "6-0", "f", 1) == NOT_ABOVE
    assert c.error("XADD", "s", "0-0", "f", 1) == (
        "ERR The ID specified in XADD must be greater than 0-0")
    add(c, f"6-{MOST}")
    assert c.error("XADD", "s", "6-*", "f", 1) == NOT_ABOVE
    assert c("XADD", "s", "*", "f", 1).startswith(b"%d-" % NOW)
    add(c, f"{MOST}-{MOST}")
    for i in ("*", f"{MOST}-*", "1-1"):
        assert c.error("XADD", "s", i, "f", 1) == (
            "ERR The stream has exhausted the last possible ID, unable to add more items")


def test_a_star_where_the_sequence_ends(c):
    add(c, f"{NOW + 10}-{MOST}")
    ms, seq = c("XADD", "s", "*", "f", 1).split(b"-")
    assert int(ms) == NOW + 11


@pytest.mark.parametrize("text", ["", "-", "+", "1-", "-1", "1-1-1", "x", "1-x", "1--1", "1" * 128,
                                  "18446744073709551616", "1-18446744073709551616", "1-*-1"])
def test_what_is_no_id(c, text):
    assert c.error("XADD", "s", text, "f", 1) == INVALID
    assert c.error("XDEL", "s", text) == INVALID if c("EXISTS", "s") else True
    assert c.error("XSETID", "s", text) == INVALID


def test_ids_that_redis_reads(c):
    # whatever strtoull takes
    assert c("XADD", "s", "+1-01", "f", 1) == b"1-1"
    assert c("XADD", "s", " 2- 3", "f", 1) == b"2-3"
    assert c("XADD", "s", b"4-1\0x", "f", 1) == b"4-1"


# ---- ranges --------------------------------------------------------------------------------------

def test_ranges(c):
    c("XADD", "s", "1-1", "a", 1, "b", 2)
    add(c, "1-2", "2-0", "3-5")
    assert c("XRANGE", "s", "-", "+", "COUNT", 1) == [[b"1-1", [b"a", b"1", b"b", b"2"]]]
    assert ids(c("XRANGE", "s", "1", "2")) == ["1-1", "1-2", "2-0"]
    assert ids(c("XRANGE", "s", "(1-1", "(3-5")) == ["1-2", "2-0"]
    assert ids(c("XRANGE", "s", "(1-1", "(3")) == ["1-2", "2-0", "3-5"]
    assert ids(c("XREVRANGE", "s", "+", "-", "COUNT", 2)) == ["3-5", "2-0"]
    assert ids(c("XREVRANGE", "s", "2", "1-2")) == ["2-0", "1-2"]
    assert c("XRANGE", "s", "3", "1") == c("XREVRANGE", "s", "1", "3") == []
    assert c.raw("XRANGE", "s", "-", "+", "COUNT", 0) == b"*-1\r\n"
    assert c("XRANGE", "none", "-", "+", "COUNT", 0) == []
    assert c.error("XRANGE", "s", f"({MOST}-{MOST}", "+") == (
        "ERR invalid start ID for the interval")
    assert c.error("XRANGE", "s", "-", "(0-0") == "ERR invalid end ID for the interval"
    for wrong in ("(-", "(+", "(", "x"):
        assert c.error("XRANGE", "s", wrong, "+") == INVALID


def test_another_type_is_refused(c):
    c("SET", "k", 1)
    for argv in (("XADD", "k", "*", "f", 1), ("XLEN", "k"), ("XRANGE", "k", "-", "+"),
                 ("XREAD", "STREAMS", "k", "0"), ("XDEL", "k", "1-1"), ("XSETID", "k", "1-1"),
                 ("XTRIM", "k", "MAXLEN", 1), ("XINFO", "STREAM", "k")):
        assert c.error(*argv) == WRONG_TYPE
    add(c, "1-1")
    for argv in (("GET", "s"), ("HGET", "s", "f"), ("LPOP", "s"), ("SADD", "s", 1), ("SORT", "s")):
        assert c.error(*argv) == WRONG_TYPE
    assert c("TYPE", "s") == b"stream" and c("OBJECT", "ENCODING", "s") == b"stream"
    assert c("SCAN", 0, "TYPE", "stream")[1] == [b"s"]
    assert c("MEMORY", "USAGE", "s") > 0


# ---- trimming and removing -----------------------------------------------------------------------

def test_trimming(c):
    add(c, *(f"{i}-0" for i in range(1, 11)))
    assert c("XTRIM", "s", "MAXLEN", 8) == 2 and ranged(c)[0] == "3-0"
    assert c("XTRIM", "s", "MINID", "=", "5") == 2 and ranged(c)[0] == "5-0"
    assert c("XTRIM", "s", "MAXLEN", "~", 2) == 0
    assert c("XADD", "s", "MAXLEN", 3, "11-0", "f", 1) == b"11-0"
    assert ranged(c) == ["9-0", "10-0", "11-0"]
    assert c("XADD", "s", "MINID", "11", "12-0", "f", 1) and ranged(c) == ["11-0", "12-0"]
    assert c("XTRIM", "s", "MAXLEN", 0) == 2 and c("EXISTS", "s") == 1 and c("XLEN", "s") == 0
    assert about(c)[b"last-generated-id"] == b"12-0"
    assert about(c)[b"max-deleted-entry-id"] == b"0-0"
    assert about(c)[b"entries-added"] == 12
    assert c("XTRIM", "none", "MAXLEN", 0) == 0
    assert c.effects("XTRIM", "s", "MAXLEN", 0) == 0


def test_about_trims_whole_nodes(c):
    c.executor.set_encoding_limits(stream_node_max_entries=10)
    add(c, *(f"{i}-0" for i in range(1, 96)))
    assert c("XTRIM", "s", "MAXLEN", "~", 51) == 40
    assert c("XTRIM", "s", "MINID", "~", "60", "LIMIT", 9) == 0
    assert c("XTRIM", "s", "MINID", "~", "65", "LIMIT", 10) == 10
    assert c("XTRIM", "s", "MINID", "~", "65", "LIMIT", 0) == 10 and ranged(c)[0] == "61-0"
    assert c("XTRIM", "s", "MAXLEN", "=", 34) == 1                     # and up to their ends
    assert c("XTRIM", "s", "MAXLEN", "~", 20) == 9 and ranged(c)[0] == "71-0"
    assert c("XTRIM", "s", "MAXLEN", "~", 0) == 25


def test_refusals_of_trimming(c):
    add(c, "1-1")
    for argv, text in (
            (("XTRIM", "s", "MAXLEN", -1), "ERR The MAXLEN argument must be >= 0."),
            (("XTRIM", "s", "MAXLEN", "~", 1, "LIMIT", -1), "ERR The LIMIT argument must be >= 0."),
            (("XTRIM", "s", "MAXLEN", 1, "LIMIT", 1),
             "ERR syntax error, LIMIT cannot be used without the special ~ option"),
            (("XTRIM", "s", "LIMIT", 1),
             "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"),
            (("XTRIM", "s", "LIMIT", 0),
             "ERR syntax error, XTRIM must be called with a trimming strategy"),
            (("XTRIM", "s", "MAXLEN", 1, "MINID", 1),
             "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"),
            (("XTRIM", "s", "MINID", "x"), INVALID), (("XTRIM", "s", "x", 1), "ERR syntax error"),
            (("XADD", "s", "LIMIT", 5, "9-1", "f", 1),
             "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"),
            (("XADD", "s", "9-1", "f"), "ERR wrong number of arguments for 'xadd' command"),
            (("XADD", "s", "9-1", "f", 1, "g"),
             "ERR wrong number of arguments for 'xadd' command")):
        assert c.error(*argv) == text, argv
    assert ranged(c) == ["1-1"]


def test_nomkstream(c):
    assert c("XADD", "s", "NOMKSTREAM", "1-1", "f", 1) is None and c("EXISTS", "s") == 0
    add(c, "1-1")
    assert c("XADD", "s", "NOMKSTREAM", "1-2", "f", 1) == b"1-2"


def test_removing(c):
    add(c, "1-1", "2-1", "3-1", "4-1")
    assert c("XDEL", "s", "3-1", "3-1", "9-9", "2-1") == 2
    assert ranged(c) == ["1-1", "4-1"] and about(c)[b"max-deleted-entry-id"] == b"3-1"
    assert about(c)[b"entries-added"] == 4
    assert c("XDEL", "s", "1-1", "4-1") == 2 and c("XLEN", "s") == 0 and c("EXISTS", "s") == 1
    assert about(c)[b"max-deleted-entry-id"] == about(c)[b"last-generated-id"] == b"4-1"
    assert about(c)[b"recorded-first-entry-id"] == b"0-0" and about(c)[b"first-entry"] is None
    assert c("XDEL", "none", "1-1") == 0 and c.effects("XDEL", "s", "1-1") == 0
    c("DEL", "s")
    assert c("EXISTS", "s") == 0 and c("TYPE", "s") == b"none"
    add(c, "1-1")
    assert about(c)[b"entries-added"] == 1 and about(c)[b"max-deleted-entry-id"] == b"0-0"


def test_xsetid(c):
    assert c.error("XSETID", "s", "1-1") == "ERR no such key"
    add(c, "1-1", "2-1", "3-1")
    c("XDEL", "s", "2-1")
    assert c("XSETID", "s", "9-1", "ENTRIESADDED", 7, "MAXDELETEDID", "5-5") == b"OK"
    assert [about(c)[k] for k in (b"last-generated-id", b"entries-added", b"max-deleted-entry-id")
            ] == [b"9-1", 7, b"5-5"]
    for argv, text in (
            (("2-1",), "ERR The ID specified in XSETID is smaller than current "
                       "max_deleted_entry_id"),
            (("9-1", "MAXDELETEDID", "9-2"), "ERR The ID specified in XSETID is smaller than the "
                                             "provided max_deleted_entry_id"),
            (("9-1", "ENTRIESADDED", 1),
             "ERR The entries_added specified in XSETID is smaller than the target stream length"),
            (("9-1", "ENTRIESADDED", -1), "ERR entries_added must be positive"),
            (("9-1", "x"), "ERR syntax error"), (("9-1", "ENTRIESADDED"), "ERR syntax error")):
        assert c.error("XSETID", "s", *argv) == text, argv
    add(c, "9-2")
    assert c.error("XSETID", "s", "9-1") == (
        "ERR The ID specified in XSETID is smaller than the target stream top item")
    assert about(c)[b"entries-added"] == 8


def test_a_top_can_come_down_where_nothing_is_above(c):
    add(c, "1-1", "5-1")
    c("XTRIM", "s", "MAXLEN", 0)
    assert c("XSETID", "s", "2-1") == b"OK"
    add(c, "2-2")
    assert ranged(c) == ["2-2"]


# ---- XINFO ---------------------------------------------------------------------------------------

def test_xinfo(c):
    add(c, *(f"{i}-0" for i in range(1, 13)))
    assert list(about(c)) == [
        b"length", b"radix-tree-keys", b"radix-tree-nodes", b"last-generated-id",
        b"max-deleted-entry-id", b"entries-added", b"recorded-first-entry-id", b"groups",
        b"first-entry", b"last-entry"]
    assert about(c)[b"first-entry"] == [b"1-0", [b"f", b"1-0"]]
    assert about(c)[b"last-entry"] == [b"12-0", [b"f", b"12-0"]]
    full = about(c, "s", "FULL")
    assert len(full[b"entries"]) == 10 and full[b"groups"] == []
    assert len(about(c, "s", "FULL", "COUNT", 0)[b"entries"]) == 12
    assert len(about(c, "s", "FULL", "COUNT", -1)[b"entries"]) == 10
    assert len(about(c, "s", "full", "count", 3)[b"entries"]) == 3
    assert c.error("XINFO", "STREAM", "none") == "ERR no such key"
    assert c.error("XINFO", "STREAM", "s", "x").startswith("ERR unknown subcommand or wrong number")
    d = c.other(3)
    assert d("XINFO", "STREAM", "s")[b"length"] == 12
    assert b"STREAM key [FULL [COUNT count]]" in c("XINFO", "HELP")


# ---- reading -------------------------------------------------------------------------------------

def test_xread(c):
    add(c, "1-1", "2-1", "3-1")
    add(c, "5-5", key="t")
    assert c("XREAD", "STREAMS", "s", "t", "none", "1-1", "0", "0") == [
        [b"s", [[b"2-1", [b"f", b"2-1"]], [b"3-1", [b"f", b"3-1"]]]],
        [b"t", [[b"5-5", [b"f", b"5-5"]]]]]
    assert came(c, "0") == ["1-1", "2-1", "3-1"] and came(c, "2-0") == ["2-1", "3-1"]
    assert c("XREAD", "COUNT", 1, "STREAMS", "s", "0")[0][1][0][0] == b"1-1"
    assert c.raw("XREAD", "STREAMS", "s", "3-1") == b"*-1\r\n"
    assert c.raw("XREAD", "STREAMS", "s", "$") == b"*-1\r\n"
    assert came(c, "+") == ["3-1"] and c.raw("XREAD", "STREAMS", "none", "+") == b"*-1\r\n"
    assert c.other(3)("XREAD", "STREAMS", "t", "0") == {b"t": [[b"5-5", [b"f", b"5-5"]]]}


def read_in_all(c, *options, keys="stu", ids="000") -> dict:
    reply = c("XREAD", *options, "STREAMS", *keys, *ids)
    return {k.decode(): [i.decode() for i, _ in entries] for k, entries in reply or []}


def test_xread_of_so_many_entries_in_all(c):
    for key in "stu":
        add(c, "1-0", "2-0", "3-0", key=key)
    assert read_in_all(c, "COUNT", 2, "MAXCOUNT", 3) == {"s": ["1-0", "2-0"], "t": ["1-0"]}
    assert read_in_all(c, "MAXCOUNT", 4, ids="200") == {"s": ["3-0"], "t": ["1-0", "2-0", "3-0"]}
    assert read_in_all(c, "MAXCOUNT", 1, ids=["3", "+", "0"]) == {"t": ["3-0"]}
    assert read_in_all(c, "MAXCOUNT", MOST // 2) == {k: ["1-0", "2-0", "3-0"] for k in "stu"}


def test_xread_of_so_many_bytes_in_all(c):
    """What does not fit is left, and so is all behind it; but the first entry is given anyhow."""
    for key in "stu":
        c("XADD", key, "1-0", "f", "v" * 100), c("XADD", key, "2-0", "f", "v")
    large, small = (len(c.raw("XRANGE", "s", i, i)) - 4 for i in ("1-0", "2-0"))
    assert read_in_all(c, "MAXSIZE", 1) == {"s": ["1-0"]}
    assert read_in_all(c, "MAXSIZE", large + small - 1) == {"s": ["1-0"]}
    assert read_in_all(c, "MAXSIZE", large + small) == {"s": ["1-0", "2-0"]}
    assert read_in_all(c, "MAXSIZE", 2 * large + small) == {"s": ["1-0", "2-0"], "t": ["1-0"]}
    assert read_in_all(c, "MAXSIZE", 10**9, "MAXCOUNT", 2, "COUNT", 1) == {
        "s": ["1-0"], "t": ["1-0"]}


def test_refusals_of_xread(c):
    for argv, text in (
            (("STREAMS", "s", "t", "0"), "ERR Unbalanced 'xread' list of streams: for each stream "
                                         "key an ID or '$' must be specified."),
            (("MAXCOUNT", 0, "STREAMS", "s", "0"), "ERR MAXCOUNT must be > 0"),
            (("MAXSIZE", -1, "STREAMS", "s", "0"), "ERR MAXSIZE must be > 0"),
            (("MAXSIZE", "x", "STREAMS", "s", "0"),
             "ERR value is not an integer or out of range"),
            (("COUNT", 3, "MAXCOUNT", 2, "STREAMS", "s", "0"),
             "ERR MAXCOUNT must not be less than COUNT"),
            (("STREAMS", "s", ">"), "ERR The > ID can be specified only when calling XREADGROUP "
                                    "using the GROUP <group> <consumer> option."),
            (("GROUP", "g", "c", "STREAMS", "s", "0"), "ERR The GROUP option is only supported by "
                                                       "XREADGROUP. You called XREAD instead."),
            (("NOACK", "STREAMS", "s", "0"), "ERR The NOACK option is only supported by XREADGROUP."
                                             " You called XREAD instead."),
            (("BLOCK", "x", "STREAMS", "s", "0"), "ERR timeout is not an integer or out of range"),
            (("BLOCK", -1, "STREAMS", "s", "0"), "ERR timeout is negative"),
            (("COUNT", "x", "STREAMS", "s", "0"),
             "ERR value is not an integer or out of range"),
            (("COUNT", 1, "s", "0"), "ERR syntax error"), (("STREAMS", "s", "(1"), INVALID),
            (("STREAMS", "s", "$1-1-1"), INVALID)):
        assert c.error("XREAD", *argv) == text, argv


def test_late_entries_are_given_behind_what_was_there():
    a, b = Client("a"), Client("b")
    add(a, "5-1")
    add(b, "6-1")
    assert came(b, "0") == ["6-1"]
    exchange(a, b)
    assert came(b, "6-1") == ["5-1"] and came(b, "5-1") == []       # in the order of arrival
    assert came(b, "0") == ["6-1", "5-1"] and came(a, "0") == ["5-1", "6-1"]
    assert ranged(a) == ranged(b) == ["5-1", "6-1"]
    b("XDEL", "s", "6-1")
    assert came(b, "6-1") == ["5-1"]                                # its place is remembered


# ---- waiting -------------------------------------------------------------------------------------

def test_a_reader_waits(c):
    d, e = c.other(), c.other()
    blocks(d, "XREAD", "BLOCK", 0, "STREAMS", "none", "s", "0", "$")
    blocks(e, "XREAD", "COUNT", 1, "BLOCK", 5000, "STREAMS", "s", "3-3")
    add(c, "2-1")
    assert got(d) == [[b"s", [[b"2-1", [b"f", b"2-1"]]]]] and got(e) is None
    add(c, "4-1")
    assert got(e) == [[b"s", [[b"4-1", [b"f", b"4-1"]]]]]
    blocks(d, "XREAD", "BLOCK", 1000, "STREAMS", "s", "$")
    later(c, 1001)
    assert d.session.take_replies() == b"*-1\r\n"


def test_a_dollar_is_what_it_was_at_the_call(c):
    d = c.other()
    add(c, "1-1")
    blocks(d, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    c("XDEL", "s", "1-1")
    assert got(d) is None
    c("MULTI")
    for i in ("2-1", "3-1"):
        c("XADD", "s", i, "f", 1)
    c("EXEC")
    assert ids(got(d)[0][1]) == ["2-1", "3-1"]


def test_what_a_peer_added_wakes_a_reader():
    a, b = Client("a"), Client("b")
    add(b, "6-1")
    d = b.other()
    blocks(d, "XREAD", "BLOCK", 0, "STREAMS", "s", "6-1")
    e = b.other(3)
    blocks(e, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    add(a, "5-1")
    exchange(a, b)
    b.executor.serve_waiting()
    assert ids(got(d)[0][1]) == ["5-1"] == ids(got(e)[b"s"])


def test_a_plus_waits_for_the_first(c):
    d = c.other()
    blocks(d, "XREAD", "BLOCK", 0, "STREAMS", "s", "+")
    add(c, "1-1")
    assert ids(got(d)[0][1]) == ["1-1"]


def test_nobody_waits_in_a_transaction_or_script(c):
    c("MULTI")
    c("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    assert c.raw("EXEC") == b"*1\r\n*-1\r\n"
    assert c.error("EVAL", "return redis.call('xread', 'BLOCK', 1, 'STREAMS', 's', '$')", 0
                   ).startswith("ERR xread command is not allowed with BLOCK option from scripts")
    assert c("EVAL", "redis.call('XADD', KEYS[1], '7-1', 'f', 'v') "
                     "return redis.call('XRANGE', KEYS[1], '-', '+')", 1, "s") == [
        [b"7-1", [b"f", b"v"]]]


def test_another_type_is_no_stream_to_who_waits(c):
    d = c.other()
    blocks(d, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    c("LPUSH", "s", 1)
    c("DEL", "s")
    assert got(d) is None
    add(c, "1-1")
    assert ids(got(d)[0][1]) == ["1-1"]


def test_replies_of_commands_on_keys(c):
    assert c("COMMAND", "GETKEYS", "XREAD", "COUNT", 1, "STREAMS", "a", "b", 0, 0) == [b"a", b"b"]
    u = c.other()
    c("ACL", "SETUSER", "u", "on", "nopass", "+@stream", "~a*")
    u("AUTH", "u", "x")
    assert u.raw("XREAD", "STREAMS", "a", "ab", 0, 0) == b"*-1\r\n"
    assert u.error("XREAD", "STREAMS", "a", "b", 0, 0).startswith("NOPERM")
    assert u.error("SET", "a", 1).startswith("NOPERM")


# ---- copies --------------------------------------------------------------------------------------

def filled(c) -> None:
    add(c, "1-1", "2-1", "3-1", "4-1")
    c("XDEL", "s", "2-1")
    c("XTRIM", "s", "MINID", "2")
    c("XSETID", "s", "9-9", "ENTRIESADDED", 12)


def whole(c, key: str = "s"):
    return read(c, key)


@pytest.mark.parametrize("empty", [0, 1])
def test_copies(c, empty):
    filled(c)
    if empty:
        c("XTRIM", "s", "MAXLEN", 0)
    before = whole(c)
    assert c("COPY", "s", "t") == 1 and whole(c, "t") == before
    c("RENAME", "t", "u")
    assert whole(c, "u") == before and c("EXISTS", "t") == 0
    c("MOVE", "u", 1)
    c("SELECT", 1)
    assert whole(c, "u") == before
    c("SWAPDB", 0, 1)
    assert whole(c, "s") == before and c("EXISTS", "u") == 0
    payload = c("DUMP", "s")
    assert c("RESTORE", "r", 0, payload) == b"OK" and whole(c, "r") == before
    assert c("RESTORE", "r", 0, payload, "REPLACE") == b"OK" and whole(c, "r") == before
    c.replica.check()
    other = Client("b")
    exchange(c, other)
    other("SELECT", 1)
    assert whole(other, "r") == before and other.replica.digest() == c.replica.digest()


def test_a_deadline(c):
    add(c, "1-1")
    c("PEXPIRE", "s", 100)
    add(c, "1-2")
    assert c("PTTL", "s") == 100
    c.now += 101
    assert c("XLEN", "s") == 0 and c("XREAD", "STREAMS", "s", 0) is None
    add(c, "1-1")
    assert ranged(c) == ["1-1"] and c("TTL", "s") == -1 and about(c)[b"entries-added"] == 1


# ---- bytes ---------------------------------------------------------------------------------------
# ids ascend: each is more than the one before by so much
STEPS = st.lists(st.tuples(st.sampled_from([0, 0, 1, 200, 70000, 2**40]),
                           st.sampled_from([1, 1, 2, 5000, 2**33])), min_size=1, max_size=30)
WORDS = st.one_of(st.binary(max_size=12), st.sampled_from([b"f", b"g", b"12", b"-4097", b"x" * 70,
                                                           b"y" * 5000, b"2147483648"]))
PAIRS = st.one_of(st.just([b"f", b"1", b"g", b"two"]),
                  st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3).map(
                      lambda pairs: [word for pair in pairs for word in pair]))


@st.composite
def streams(draw):
    out, ms, seq = [], draw(st.integers(0, 2**41)), draw(st.integers(0, 3))
    for up, more in draw(STEPS):
        ms, seq = (ms + up, more if up else seq + more)
        out.append(((ms, seq), draw(PAIRS)))
    return out


def as_told(entries: list) -> list:
    return [[b"%d-%d" % i, list(fields)] for i, fields in entries]


@given(streams(), st.integers(1, 3), st.integers(1, 12), st.integers(0, 1000), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_all_forms_of_payloads(entries, version, size, seed, removed):
    c = Client()
    body = payloads.stream(entries, version, Choice(seed if seed % 2 else None), size=size,
                           gone=entries[0][0], added=len(entries) + 3, removed=removed)
    assert c("RESTORE", "s", 0, seal(body)) == b"OK"
    assert c("XRANGE", "s", "-", "+") == as_told(entries)
    told = about(c)
    assert told[b"last-generated-id"] == as_told(entries)[-1][0]
    assert told[b"entries-added"] == len(entries) + 3 * (version > 1)
    c.replica.check()
    again = c("DUMP", "s")
    assert again[0] == 19 and again[-10:-8] == b"\x0a\0"
    assert c("RESTORE", "t", 0, again) == b"OK" and whole(c, "t") == whole(c)


def test_a_long_stream_is_dumped_in_blocks(c):
    entries = [((i // 3, i % 3 + 1), [b"f", b"v" * (i % 90), b"n", b"%d" % i]) for i in range(700)]
    assert c("RESTORE", "s", 0, seal(payloads.stream(entries))) == b"OK"
    payload = c("DUMP", "s")
    assert c("RESTORE", "t", 0, payload) == b"OK"
    assert c("XRANGE", "t", "-", "+") == as_told(entries) and payload[1] & 0x3f >= 7


ENTRIES = [((5, i), [b"f", b"%d" % i]) for i in range(1, 6)]


@pytest.mark.parametrize("body", [
    payloads.stream(ENTRIES[::-1]),                                     # ids descend
    payloads.stream(ENTRIES, top=(5, 4)),                               # the top is below them
    payloads.stream(ENTRIES, added=2**63),
    payloads.stream(ENTRIES, groups=b"\x01"),                           # cut
    payloads.stream(ENTRIES) + b"x",
    payloads.stream(ENTRIES)[:-2],
    payloads.stream([((5, 1), [b"f", b"v"])] * 2),                      # an id twice
    payloads.stream(ENTRIES).replace(b"\x05\x05\x05", b"\x06\x05\x05"),  # more are said than are
], ids=range(8))
def test_damaged_payloads(c, body):
    assert body != payloads.stream(ENTRIES), "nothing is damaged"
    assert c.error("RESTORE", "s", 0, seal(body)) == BAD_FORMAT
    assert c("EXISTS", "s") == 0


def test_any_byte_may_be_damaged(c):
    """Whatever a payload with a right checksum says: it is refused, or gives a sound stream."""
    sound = payloads.stream(ENTRIES[:3] + [((6, 1), [b"a", b"1", b"b", b"x" * 30])], size=3)
    rng = random.Random(1)
    for _ in range(2000):
        b = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2])):
            b[rng.randrange(1, len(b))] = rng.choice([0, 1, 2, 127, 128, 255, rng.randrange(256)])
        reply = c.raw("RESTORE", "s", 0, seal(bytes(b)), "REPLACE")
        if reply == b"+OK\r\n":
            n = len(c("XRANGE", "s", "-", "+"))
            assert n == c("XLEN", "s") == len(c("XREVRANGE", "s", "+", "-"))
        else:
            assert reply == b"-ERR Bad data format\r\n"
    c.replica.check()


def test_the_end_of_a_value_in_a_file():
    body = payloads.stream(ENTRIES)
    assert rdb.value_end(body + b"rest", 1, body[0]) == len(body)
    with pytest.raises(ValueError):
        rdb.value_end(body[:-3], 1, body[0])


def test_payloads_are_exchanged_with_redis(c, reference):
    with reference.connect() as r:
        r("CONFIG", "SET", "sanitize-dump-payload", "yes")
        for seed in range(30):
            rng, ms = random.Random(seed), 1
            for call in (c, r):
                call("FLUSHALL")
            for _ in range(rng.choice([1, 5, 250])):
                ms += rng.choice([0, 1, 300, 2**33])
                names = rng.choice([["f"], ["f", "g"], ["f", "g"], [b"\0\xff", ""]])
                argv = ["XADD", "s", f"{ms}-*", *(x for n in names for x in (
                    n, rng.choice(["", -5000, 127, 2**40, "v" * rng.choice([1, 63, 64, 5000])])))]
                assert c(*argv) == r(*argv)
            told = [c("XRANGE", "s", "-", "+"), r("XRANGE", "s", "-", "+")]
            for i, _ in told[0][::3]:
                assert c("XDEL", "s", i) == r("XDEL", "s", i) == 1
            theirs = r("DUMP", "s")
            r("RESTORE", "s", 0, c("DUMP", "s"), "REPLACE")
            c("RESTORE", "s", 0, theirs, "REPLACE")
            assert told[0] == told[1] and read(c, "s") == read(r, "s")


# ---- what a deletion leaves ----------------------------------------------------------------------

@pytest.mark.parametrize("word", ["XDEL s 1-0", "XCFGSET s IDMP-MAXSIZE 5"])
def test_words_that_a_deletion_has_left_go(word):
    """XDEL says up to where entries were deleted; a DEL that had not seen it leaves that, and
    nothing else. Who said it removes it, or another a while later."""
    a, b = Client("a"), Client("b", epoch=1_700_000_000_001)
    a("XADD", "s", "1-0", "f", "v"), a("XADD", "stays", "2-0", "f", "v")
    a("XDEL", "stays", "2-0")
    exchange(a, b)
    a(*word.split()), b("DEL", "s")
    exchange(a, b)
    assert a.replica.keys() == b.replica.keys() == (1, 2)
    for c in (a, b):
        c.now += 1000
        c.replica.tick()
        c.now += 1000
        c.replica.tick()
    ops = a.replica.take_ops()
    assert ops and not b.replica.take_ops(), "A has removed it, not B"
    b.replica.receive(ops)
    for c in (a, b, a, b):                      # the counter's tombstone goes when all know of it
        c("APPEND", "k", "x"), exchange(a, b), c.replica.collect()
    a("DEL", "k"), exchange(a, b)
    assert a.replica.digest() == b.replica.digest() and b.replica.keys() == (1, 1)
    b("XADD", "s", "1-0", "f", "v")
    exchange(a, b)
    b(*word.split()), a("DEL", "s")
    exchange(a, b)
    for c in (a, b):
        c.now += 20_000
    a.replica.tick()
    for c in (a, b, a, b):
        c("APPEND", "k", "x"), exchange(a, b), c.replica.collect()
    a("DEL", "k"), exchange(a, b)
    for c in (a, b):
        assert c.replica.keys() == (1, 1) and c("XLEN", "stays") == 0 and c("EXISTS", "stays") == 1
        c.replica.check()
    assert a.replica.digest() == b.replica.digest()


def test_what_is_added_beside_the_removal_of_such_words_stays():
    a, b = Client("a"), Client("b", epoch=1_700_000_000_001)
    a("XADD", "s", "1-0", "f", "v"), exchange(a, b)
    a("XDEL", "s", "1-0"), b("DEL", "s"), exchange(a, b)
    a.now = b.now = a.now + 2000
    b("XADD", "s", "2-0", "f", "v")
    a.replica.tick()
    exchange(a, b)
    for c in (a, b):
        assert c("XRANGE", "s", "-", "+") == [[b"2-0", [b"f", b"v"]]]
        c.now += 20_000
        c.replica.tick()
    exchange(a, b)
    assert a.replica.digest() == b.replica.digest() and b("XLEN", "s") == 1

"""Consumer groups through an Executor: what is given to whom, what is pending, who waits and is
served, and what a call costs. What redis-server answers to the same calls is tested in
tests/compat; what the kernel holds, in tests/core/test_groups.py."""
from __future__ import annotations

import time

import pytest

from crdtredis._core import probe_memory
from tests.commands.run import NOW, Client, exchange
from tests.commands.test_blocking import blocks, clients, got, later

NOGROUP = "NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.fixture
def c():
    c = Client()
    c("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    return c


def add(c, *ids, key="s"):
    for i in ids:
        c("XADD", key, f"{i}-0", "f", i)


def read(c, consumer="a", after=">", *options, key="s", group="g"):
    """The ids that it is given."""
    reply = c("XREADGROUP", "GROUP", group, consumer, *options, "STREAMS", key, after)
    return numbers(reply[0][1]) if reply else []


def numbers(entries):
    return [int(e[0].split(b"-")[0]) for e in entries]


def pending(c, *more, key="s", group="g"):
    """(id, owner, idle, deliveries) each."""
    return [(int(i.split(b"-")[0]), o.decode(), idle, n) for i, o, idle, n in
            c("XPENDING", key, group, *(more or ("-", "+", 100)))]


def rows(reply):
    return [dict(zip((w.decode() for w in r[::2]), r[1::2])) for r in reply]


def told(c, key="s"):
    return rows(c("XINFO", "GROUPS", key))


def consumers(c, key="s", group="g"):
    return {r.pop("name").decode(): r for r in rows(c("XINFO", "CONSUMERS", key, group))}


# ---- giving out ----------------------------------------------------------------------------------

def test_each_entry_is_given_to_one_consumer(c):
    add(c, 1, 2, 3)
    assert read(c, "a", ">", "COUNT", 2) == [1, 2]
    assert read(c, "b") == [3] and read(c, "a") == read(c, "b") == []
    assert pending(c) == [(1, "a", 0, 1), (2, "a", 0, 1), (3, "b", 0, 1)]
    assert read(c, "a", "0") == [1, 2] and read(c, "a", "1-0") == [2] and read(c, "c", "0") == []
    assert c("XACK", "s", "g", "1-0", "1-0", "3-0", "9-0") == 2
    assert read(c, "a", "0") == [2] and read(c, "b", "0") == []


def test_replies_in_resp3():
    c = Client(resp=3)
    c("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    add(c, 1)
    assert c("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">") == {
        b"s": [[b"1-0", [b"f", b"1"]]]}
    assert c("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">") is None
    assert c("XINFO", "GROUPS", "s")[0][b"pending"] == 1


def test_a_key_twice_is_read_on_from_where_it_was_left(c):
    add(c, 1, 2, 3)
    reply = c("XREADGROUP", "GROUP", "g", "a", "COUNT", 2, "STREAMS", "s", "s", "s", ">", ">", ">")
    assert [(k, numbers(e)) for k, e in reply] == [(b"s", [1, 2]), (b"s", [3])]
    reply = c("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", "s", ">", "2-0")
    assert [(k, numbers(e)) for k, e in reply] == [(b"s", [3])]


def test_noack_leaves_nothing_pending(c):
    add(c, 1)
    assert read(c, "a", ">", "NOACK") == [1] and pending(c) == [] and read(c, "b") == []


def test_history_counts_a_delivery_and_tells_what_is_gone(c):
    add(c, 1, 2, 3)
    read(c)
    c("XDEL", "s", "2-0")
    c.now += 5
    assert c("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", "0")[0][1] == [
        [b"1-0", [b"f", b"1"]], [b"2-0", None], [b"3-0", [b"f", b"3"]]]
    assert pending(c) == [(1, "a", 0, 2), (2, "a", 5, 1), (3, "a", 0, 2)]


def test_many_deliveries_are_one_effect_as_long_as_they_are_alike(c):
    add(c, *range(1, 101))
    read(c)
    assert c.effects("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", 0) == 1
    assert {x[3] for x in pending(c)} == {2}


def test_a_group_begins_anew(c):
    add(c, 1, 2)
    assert read(c) == [1, 2]
    c("XGROUP", "SETID", "s", "g", "1")
    assert read(c, "b") == [2] and pending(c) == [(1, "a", 0, 1), (2, "b", 0, 1)]
    c("XGROUP", "SETID", "s", "g", "$")
    assert read(c) == []


def test_counts_at_the_edge(c):
    assert read(c, "a", ">", "COUNT", 2**63 - 1) == []
    add(c, 1, 2)
    assert read(c, "a", ">", "COUNT", -1) == [1, 2]                 # as without


# ---- consumers -----------------------------------------------------------------------------------

def test_consumers_are_told_by_name_with_what_they_have(c):
    for name in ("bob", "a", "carol", "bo"):
        assert c("XGROUP", "CREATECONSUMER", "s", "g", name) == 1
    assert c("XGROUP", "CREATECONSUMER", "s", "g", "a") == 0
    add(c, 1, 2, 3)
    read(c, "carol", ">", "COUNT", 2)
    read(c, "bo")
    assert {n: r["pending"] for n, r in consumers(c).items()} == {
        "a": 0, "bo": 1, "bob": 0, "carol": 2}
    assert list(consumers(c)) == ["a", "bo", "bob", "carol"]
    assert c("XPENDING", "s", "g") == [3, b"1-0", b"3-0", [[b"bo", b"1"], [b"carol", b"2"]]]
    assert c("XGROUP", "DELCONSUMER", "s", "g", "carol") == 2
    assert pending(c) == [(3, "bo", 0, 1)]


def test_times_of_a_consumer(c):
    """A call that gets nothing counts as seen, here, and makes no effect."""
    read(c)
    c.now += 100
    assert consumers(c)["a"] == {"pending": 0, "idle": 100, "inactive": -1}
    add(c, 1)
    read(c)
    c.now += 100
    assert c.effects("XREADGROUP", "GROUP", "g", "a", "STREAMS", "s", ">") == 0
    assert consumers(c)["a"] == {"pending": 1, "idle": 0, "inactive": 100}


def test_who_finds_nothing_is_a_consumer_too(c):
    read(c, "a")
    c("XCLAIM", "s", "g", "b", 0, "1-0")
    c("XAUTOCLAIM", "s", "g", "c", 0, 0)
    assert list(consumers(c)) == ["a", "b", "c"]


def test_what_two_replicas_gave_out_is_the_later_ones():
    a, b = Client("a"), Client("b")
    a("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    add(a, 1, 2)
    exchange(a, b)
    assert read(a, "first") == [1, 2]
    b.now += 5
    assert read(b, "second", ">", "COUNT", 1) == [1]
    exchange(a, b)
    for c in (a, b):
        c.now = NOW + 5
        assert {n: r["pending"] for n, r in consumers(c).items()} == {"first": 1, "second": 1}
        assert pending(c, "-", "+", 9, "first") == [(2, "first", 5, 1)]
        assert pending(c, "-", "+", 9, "second") == [(1, "second", 0, 1)]
        assert pending(c, "1-1", "+", 9, "second") == []
        c.replica.check()


def test_what_is_given_in_all_has_a_bound(c):
    """What is not given stays new, or pending as it was."""
    c("XGROUP", "CREATE", "t", "g", "$", "MKSTREAM")
    for key in "st":
        add(c, 1, 2, 3, key=key)

    def given(*options, after=">"):
        reply = c("XREADGROUP", "GROUP", "g", "a", *options, "STREAMS", "s", "t", after, after)
        return {k.decode(): numbers(entries) for k, entries in reply or []}
    assert given("MAXCOUNT", 2, "COUNT", 2) == {"s": [1, 2]}
    assert given("MAXSIZE", 1) == {"s": [3]} and given("MAXCOUNT", 2) == {"t": [1, 2]}
    assert given("MAXCOUNT", 4, after="0") == {"s": [1, 2, 3], "t": [1]}
    assert [n for *_, n in pending(c) + pending(c, key="t")] == [2, 2, 2, 2, 1]
    c.now += 10
    assert given("CLAIM", 10, "MAXCOUNT", 4) == {"s": [1, 2, 3], "t": [1]}
    assert given("CLAIM", 10, "MAXSIZE", 1) == {"t": [2]} and given("MAXSIZE", 1) == {"t": [3]}
    assert given("MAXCOUNT", 1) == {} and [n for *_, n in pending(c, key="t")] == [3, 2, 1]
    assert c.error("XREADGROUP", "GROUP", "g", "a", "COUNT", 2, "MAXCOUNT", 1, "STREAMS", "s",
                   ">") == "ERR MAXCOUNT must not be less than COUNT"


@pytest.mark.parametrize("cap", ["MAXCOUNT", "MAXSIZE"])
def test_what_a_cap_leaves_is_not_looked_at(c, cap):
    add(c, *range(1, 20001))
    read(c)
    c.now += 10

    def seconds(option):
        begun = time.process_time()
        for _ in range(100):
            assert len(read(c, "b", ">", "CLAIM", 10, option, 1)) == 1
        return time.process_time() - begun
    seconds(cap)                            # the records are put in order
    assert seconds(cap) < 10 * seconds("COUNT") + .05


# ---- claiming ------------------------------------------------------------------------------------

def test_claims(c):
    add(c, 1, 2, 3)
    read(c)
    c.now += 50
    assert numbers(c("XCLAIM", "s", "g", "b", 50, "1-0", "9-0")) == [1]
    assert c("XCLAIM", "s", "g", "b", 51, "2-0") == []
    assert c("XCLAIM", "s", "g", "b", 0, "2-0", "JUSTID") == [b"2-0"]
    assert c("XCLAIM", "s", "g", "b", 0, "3-0", "JUSTID", "RETRYCOUNT", 7, "IDLE", 30) == [b"3-0"]
    assert pending(c) == [(1, "b", 0, 2), (2, "b", 0, 1), (3, "b", 30, 7)]
    assert pending(c, "IDLE", 30, "-", "+", 10) == [(3, "b", 30, 7)]
    assert pending(c, "-", "+", 10, "a") == []


def test_an_id_twice_in_one_claim_is_claimed_twice(c):
    add(c, 1, 2)
    read(c)
    c.now += 10
    assert numbers(c("XCLAIM", "s", "g", "b", 0, "2-0", "1-0", "2-0")) == [2, 1, 2]
    assert pending(c) == [(1, "b", 0, 2), (2, "b", 0, 3)]
    c.now += 10
    assert numbers(c("XCLAIM", "s", "g", "b", 10, "2-0", "2-0")) == [2]


def test_a_claim_of_what_is_gone_removes_the_record(c):
    add(c, 1, 2)
    read(c)
    c("XDEL", "s", "1-0")
    assert numbers(c("XCLAIM", "s", "g", "b", 0, "1-0", "2-0", "1-0")) == [2]
    assert pending(c) == [(2, "b", 0, 2)]
    c("XDEL", "s", "2-0")
    assert c("XAUTOCLAIM", "s", "g", "b", 0, 0) == [b"0-0", [], [b"2-0"]]


def test_force_makes_a_record_but_gives_nothing_out(c):
    add(c, 1)
    assert c("XCLAIM", "s", "g", "b", 0, "1-0", "JUSTID") == []
    assert c("XCLAIM", "s", "g", "b", 0, "1-0", "FORCE", "JUSTID") == [b"1-0"]
    assert pending(c) == [(1, "b", 0, 1)] and read(c, "a") == [1]


def nack(c, *args):
    return c("XNACK", "s", "g", *args)


def test_what_is_given_back_is_nobodys_and_the_next_ones_at_once(c):
    add(c, 1, 2, 3, 4, 5)
    read(c, "a", ">", "COUNT", 4)
    read(c, "a", "0")
    c.now += 10
    assert nack(c, "SILENT", "IDS", 1, "1-0") == nack(c, "FAIL", "IDS", 1, "2-0") == 1
    assert nack(c, "FATAL", "IDS", 2, "3-0", "5-0") == 1
    assert nack(c, "FAIL", "RETRYCOUNT", 9, "IDS", 2, "4-0", "4-0") == 2
    most = 2**63 - 1
    held = [(1, "", -1, 1), (2, "", -1, 2), (3, "", -1, most), (4, "", -1, 9)]
    assert pending(c) == pending(c, "IDLE", 2**40, "-", "+", 10) == held
    assert c("XPENDING", "s", "g") == [4, b"1-0", b"4-0", []]
    assert consumers(c) == {"a": {"pending": 0, "idle": 10, "inactive": 10}}
    assert read(c, "a", "0") == [] and told(c)[0]["pending"] == 4
    full, = rows(dict(zip(*[iter(c("XINFO", "STREAM", "s", "FULL"))] * 2))[b"groups"])
    assert full["pel-count"] == full["nacked-count"] == 4
    assert full["pending"][0] == [b"1-0", b"", 0, 1]
    assert numbers(c("XCLAIM", "s", "g", "b", 2**40, "1-0")) == [1]
    assert c("XAUTOCLAIM", "s", "g", "b", 2**40, "-", "COUNT", 3) == [
        b"0-0", [[b"2-0", [b"f", b"2"]], [b"3-0", [b"f", b"3"]], [b"4-0", [b"f", b"4"]]], []]
    assert pending(c) == [(1, "b", 0, 2), (2, "b", 0, 3), (3, "b", 0, most), (4, "b", 0, 10)]
    read(c, "b", "0")
    assert pending(c)[2] == (3, "b", 0, most)
    assert nack(c, "FAIL", "IDS", 1, "1-0") == 1 and c("XACK", "s", "g", "1-0") == 1
    c.replica.check()


def test_giving_back_may_make_a_record_of_what_was_not_given(c):
    add(c, 1, 2, 3)
    assert nack(c, "FAIL", "IDS", 2, "1-0", "9-0") == 0
    assert nack(c, "FAIL", "IDS", 2, "1-0", "9-0", "FORCE") == 1
    assert nack(c, "FATAL", "FORCE", "IDS", 1, "2-0") == 1
    assert nack(c, "SILENT", "IDS", 1, "3-0", "FORCE", "RETRYCOUNT", 7) == 1
    assert pending(c) == [(1, "", -1, 0), (2, "", -1, 2**63 - 1), (3, "", -1, 7)]
    assert consumers(c) == {} and told(c)[0]["consumers"] == 0
    assert read(c, "a") == [1, 2, 3]


def test_a_consumer_without_a_name_is_somebody(c):
    add(c, 1, 2, 3)
    read(c, "a", ">", "COUNT", 2)
    nack(c, "FAIL", "IDS", 1, "1-0", "FORCE")
    assert read(c, "", ">") == [3] and list(consumers(c)) == ["", "a"]
    assert consumers(c)[""]["pending"] == 1 and read(c, "", "0") == [3]
    c("XCLAIM", "s", "g", "", 0, "2-0", "TIME", 0, "JUSTID")
    assert pending(c, "-", "+", 9, "") == [(2, "", NOW - 1, 1), (3, "", 0, 2)]
    dump = c("DUMP", "s")
    assert c("RESTORE", "t", 0, dump) == b"OK" and c("DUMP", "t") == dump
    assert pending(c, key="t") == [(1, "", -1, 1), *pending(c)[1:]]
    assert c("XGROUP", "DELCONSUMER", "s", "g", "") == 2
    assert pending(c) == [(1, "", -1, 1)] and list(consumers(c)) == ["a"]
    c.replica.check()


def test_what_is_given_back_is_copied_so(c):
    add(c, 1, 2)
    read(c)
    nack(c, "FAIL", "IDS", 1, "1-0")
    c("COPY", "s", "copy"), c("RESTORE", "again", 0, c("DUMP", "s"))
    c("RENAME", "s", "moved")
    for key in ("copy", "again", "moved"):
        assert pending(c, key=key) == [(1, "", -1, 1), (2, "a", 0, 1)]
        assert list(consumers(c, key)) == ["a"] and told(c, key)[0]["consumers"] == 1
    c.replica.check()


def test_of_two_words_about_an_owner_the_later_holds_and_an_ack_wins():
    a, b = Client("a"), Client("b")
    add(a, 1, 2, 3)
    a("XGROUP", "CREATE", "s", "g", 0)
    read(a, "x")
    exchange(a, b)
    nack(a, "FAIL", "IDS", 2, "1-0", "3-0")
    b.now += 1
    b("XCLAIM", "s", "g", "y", 0, "1-0", "JUSTID"), b("XACK", "s", "g", "3-0")
    a.now += 2
    nack(a, "FAIL", "IDS", 1, "2-0")
    exchange(a, b)
    assert pending(a)[1:] == pending(b)[1:] == [(2, "", -1, 1)]
    assert [p[:2] for p in pending(a)] == [p[:2] for p in pending(b)] == [(1, "y"), (2, "")]
    assert a.replica.digest() == b.replica.digest()
    assert sorted(consumers(a)) == sorted(consumers(b)) == ["x", "y"]


def test_refusals_of_giving_back(c):
    add(c, 1)
    read(c)
    for args, text in (
            (("SLOW", "IDS", 1, "1-0"), "mode must be SILENT, FAIL, or FATAL"),
            (("FAIL", "IDS", 0, "1-0"), "numids must be a positive integer"),
            (("FAIL", "IDS", 2**31, "1-0"), "numids must be a positive integer"),
            (("FAIL", "IDS", 2, "1-0"), "number of IDs doesn't match numids"),
            (("FAIL", "IDS", 1, "x"), "Invalid stream ID specified as stream command argument"),
            (("FAIL", "IDS", 1, "1-0", "RETRYCOUNT", -1),
             "Invalid RETRYCOUNT value, must be >= 0"),
            (("FAIL", "IDS", 1, "1-0", "RETRYCOUNT", "x"),
             "value is not an integer or out of range"),
            (("FAIL", "IDS", 1, "1-0", "RETRYCOUNT"), "Unrecognized XNACK option 'RETRYCOUNT'"),
            (("FAIL", "IDS", 1, "1-0", "2-0"), "Unrecognized XNACK option '2-0'"),
            (("FAIL", "FORCE", "FORCE", "FORCE"), "syntax error, expected IDS keyword")):
        assert c.error("XNACK", "s", "g", *args) == "ERR " + text
    assert pending(c) == [(1, "a", 0, 1)]
    assert c.error("XNACK", "s", "h", "FAIL", "IDS", 1, "1-0") == (
        "NOGROUP No such key 's' or consumer group 'h'")
    c("SET", "text", "v")
    assert c.error("XNACK", "text", "g", "FAIL", "IDS", 1, "1-0") == WRONG_TYPE


def test_lastid_gives_out_what_is_up_to_it(c):
    """An append-only file of Redis has one behind each XREADGROUP."""
    add(c, 1, 2, 3)
    c("XCLAIM", "s", "g", "a", 0, "1-0", "TIME", NOW, "RETRYCOUNT", 1, "FORCE", "JUSTID", "LASTID",
      "2-0")
    assert told(c)[0]["last-delivered-id"] == b"2-0" and read(c, "b") == [3]


def test_autoclaim_goes_on_where_it_stopped(c):
    add(c, *range(1, 6))
    read(c)
    c.now += 10
    cursor, found = "0", []
    while cursor != b"0-0":
        cursor, entries, _ = c("XAUTOCLAIM", "s", "g", "b", 10, cursor, "COUNT", 2)
        found += numbers(entries)
    assert found == [1, 2, 3, 4, 5] and {x[1] for x in pending(c)} == {"b"}


# ---- what is told --------------------------------------------------------------------------------

def test_lag_is_exact(c):
    """Redis does not know it where entries were removed."""
    def lag():
        g = told(c)[0]
        return g["entries-read"], g["lag"]
    assert lag()[1] == 0
    add(c, *range(1, 11))
    assert lag()[1] == 10
    read(c, "a", ">", "COUNT", 4)
    assert lag() == (4, 6)
    c("XDEL", "s", "2-0", "8-0")
    assert lag()[1] == 5
    c("XTRIM", "s", "MAXLEN", 2)
    assert lag()[1] == 2
    read(c)
    assert lag() == (10, 0)


def test_lag_counts_what_came_late():
    a, b = Client("a"), Client("b")
    a("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    exchange(a, b)
    add(a, 1, 3)
    add(b, 2, 4)
    read(b)
    exchange(a, b)
    assert told(b)[0]["lag"] == told(a)[0]["lag"] == 2
    assert read(b) == [1, 3]
    add(b, 7)
    add(a, 6)
    exchange(a, b)
    assert told(b)[0]["lag"] == 2                       # 6 arrived behind 7


def test_scripts_read_but_do_not_wait(c):
    assert "not allowed with BLOCK option from scripts" in c.error(
        "EVAL", "return redis.call('XREADGROUP', 'GROUP', 'g', 'a', 'BLOCK', 0, 'STREAMS', "
        "KEYS[1], '>')", 1, "s")
    add(c, 1)
    assert c("EVAL", "return redis.call('XREADGROUP', 'GROUP', 'g', 'a', 'STREAMS', KEYS[1], "
             "'>')[1][2][1][1]", 1, "s") == b"1-0"


# ---- waiting -------------------------------------------------------------------------------------

@pytest.fixture
def waiting():
    cs = clients(4)
    cs[0]("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    return cs


def wait(c, consumer="a", *more, key="s"):
    blocks(c, "XREADGROUP", "GROUP", "g", consumer, *more, "BLOCK", 0, "STREAMS", key, ">")


def test_an_entry_goes_to_who_came_first(waiting):
    a, b, d, e = waiting
    wait(b, "b")
    wait(d, "d")
    add(a, 1)
    assert got(b) == [[b"s", [[b"1-0", [b"f", b"1"]]]]] and got(d) is None
    add(a, 2)
    assert numbers(got(d)[0][1]) == [2] and got(b) is None
    assert pending(a) == [(1, "b", 0, 1), (2, "d", 0, 1)]


def test_readers_of_the_stream_and_of_another_group_are_served_as_well(waiting):
    a, b, d, e = waiting
    a("XGROUP", "CREATE", "s", "h", "$")
    wait(b, "b")
    blocks(d, "XREADGROUP", "GROUP", "h", "d", "BLOCK", 0, "STREAMS", "s", ">")
    blocks(e, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    add(a, 1)
    assert all(numbers(got(x)[0][1]) == [1] for x in (b, d, e))


def test_of_many_who_wait_with_one_group_few_are_looked_at(waiting):
    """One finds the entry and one that there is no more; who waits with another group, or takes
    over what has been pending, is looked at in any case."""
    a, b, d, e = waiting
    a("XGROUP", "CREATE", "s", "h", "$")
    others = [a.other() for _ in range(20)]
    wait(b, "b"), wait(d, "d")
    for i, x in enumerate(others):
        wait(x, f"x{i}")
    blocks(e, "XREADGROUP", "GROUP", "h", "e", "BLOCK", 0, "STREAMS", "s", ">")
    claims = a.other()
    wait(claims, "claims", "CLAIM", 5)
    a.now += 1000
    add(a, 1)
    assert numbers(got(b)[0][1]) == numbers(got(e)[0][1]) == [1] and got(d) is None
    seen = [x[x.index(b"name") + 1] for x in a("XINFO", "CONSUMERS", "s", "g")
            if x[x.index(b"idle") + 1] == 0]
    assert sorted(seen) == [b"b", b"claims", b"d"] and got(claims) is None
    add(a, 2, 3)
    assert numbers(got(d)[0][1]) == [2] and numbers(got(others[0])[0][1]) == [3]
    a("XGROUP", "DESTROY", "s", "g")
    assert all(got(x).startswith("NOGROUP") for x in others[1:])


def test_one_exec_serves_what_it_has_left(waiting):
    a, b, d, _ = waiting
    wait(b, "b", "COUNT", 1)
    wait(d, "d")
    a("MULTI")
    add_raw = [("XADD", "s", f"{i}-0", "f", i) for i in (1, 2, 3)]
    for argv in add_raw:
        a(*argv)
    a("XDEL", "s", "2-0")
    a("EXEC")
    assert numbers(got(b)[0][1]) == [1] and numbers(got(d)[0][1]) == [3]


def test_a_wait_ends_by_time(waiting):
    _, b, *_ = waiting
    blocks(b, "XREADGROUP", "GROUP", "g", "b", "BLOCK", 100, "STREAMS", "s", ">")
    later(b, 99)
    assert got(b) is None
    later(b, 1)
    assert b.session.take_replies() == b"*-1\r\n"


@pytest.mark.parametrize("commands, reply", [
    ("DEL s", NOGROUP), ("UNLINK s", NOGROUP), ("FLUSHALL", NOGROUP),
    ("XGROUP DESTROY s g", NOGROUP), ("PEXPIRE s 0", NOGROUP), ("DEL s;RPUSH s x", WRONG_TYPE),
    ("SET s x", WRONG_TYPE),
    ("DEL s;XADD s 1-0 f v", NOGROUP), ("SWAPDB 0 1", NOGROUP),
])
@pytest.mark.parametrize("at_once", [False, True])
def test_a_wait_ends_with_the_group(waiting, commands, reply, at_once):
    """After the first command, or after all of them in one transaction."""
    a, b, d, _ = waiting
    wait(b, "b")
    blocks(d, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    if at_once:
        a("MULTI")
    for command in commands.split(";")[:None if at_once else 1]:
        a(*command.split())
    if at_once:
        a("EXEC")
    assert got(b) == (reply if at_once or ";" not in commands else NOGROUP)


def test_a_wait_goes_on_where_another_group_goes(waiting):
    a, b, *_ = waiting
    a("XGROUP", "CREATE", "s", "h", "$")
    wait(b, "b")
    a("XGROUP", "DESTROY", "s", "h")
    a("XGROUP", "SETID", "s", "g", "$")
    assert got(b) is None
    add(a, 1)
    assert numbers(got(b)[0][1]) == [1]


def test_a_group_set_back_serves_who_waits(waiting):
    a, b, *_ = waiting
    add(a, 1)
    read(a)
    wait(b, "b")
    a("XGROUP", "SETID", "s", "g", "0")
    assert numbers(got(b)[0][1]) == [1]


def test_an_entry_of_a_peer_serves_who_waits(waiting):
    a, b, *_ = waiting
    peer = Client("p")
    exchange(a, peer)
    wait(b, "b")
    add(peer, 1)
    exchange(a, peer)
    a.executor.serve_waiting()
    assert numbers(got(b)[0][1]) == [1]


def test_a_peer_that_removes_the_group_ends_the_wait(waiting):
    a, b, *_ = waiting
    peer = Client("p")
    exchange(a, peer)
    wait(b, "b")
    peer("DEL", "s")
    exchange(a, peer)
    a.executor.serve_waiting()
    assert got(b) == NOGROUP


def test_in_a_transaction_nobody_waits(c):
    c("MULTI")
    c("XREADGROUP", "GROUP", "g", "a", "BLOCK", 0, "STREAMS", "s", ">")
    assert c("EXEC") == [None]


# ---- cost ----------------------------------------------------------------------------------------

def quick(limit: float, f, *argv):
    """Far above what it takes, far below what it would if it were not linear."""
    begun = time.process_time()
    reply = f(*argv)
    assert time.process_time() - begun < limit
    return reply


def test_much_is_pending_with_many_consumers():
    c = Client()
    n, owners = 20_000, 1_000
    c("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    for i in range(1, n + 1):
        c("XADD", "s", f"{i}-0", "f", "v")
    for i in range(owners):
        read(c, f"c{i}", ">", "COUNT", n // owners)
    assert quick(2, lambda: {r["pending"] for r in consumers(c).values()}) == {n // owners}
    assert len(quick(2, c, "XPENDING", "s", "g")[3]) == owners
    begun = time.process_time()
    for i in range(owners):
        assert len(read(c, f"c{i}", "0", "COUNT", 5)) == 5
        assert len(pending(c, "-", "+", 10, f"c{i}")) == 10
    assert time.process_time() - begun < 5
    assert quick(2, c, "XACK", "s", "g", *(f"{i}-0" for i in range(n, 0, -2)),
                 *(f"{i}-0" for i in range(1, n))) == n
    c.replica.check()


def test_names_are_bounded(c):
    """Each record holds both: a longer one times a million records would fill the memory."""
    long = "ERR the name of a group or consumer is longer than 512 bytes"
    most, over = "n" * 512, "n" * 513
    c("XADD", "named", "1-1", "f", "v")
    assert c.error("XGROUP", "CREATE", "named", over, 0) == long
    c("XGROUP", "CREATE", "named", most, 0)
    digest = c.replica.digest()
    for argv in (["XGROUP", "CREATECONSUMER", "named", most, over],
                 ["XREADGROUP", "GROUP", most, over, "STREAMS", "named", ">"],
                 ["XCLAIM", "named", most, over, 0, "1-1", "FORCE"],
                 ["XAUTOCLAIM", "named", most, over, 0, 0]):
        assert c.error(*argv) == long
    assert c.replica.digest() == digest
    assert len(c("XREADGROUP", "GROUP", most, most, "STREAMS", "named", ">")) == 1
    payload = c("DUMP", "named")
    c("RESTORE", "again", 0, payload)
    assert c("XPENDING", "again", most, "-", "+", 9)[0][1] == most.encode()


def test_consumers_that_are_gone_leave_nothing(c):
    for i in range(1, 601):
        c("XADD", "s", f"{i}-0", "f", "v")
    c("XREADGROUP", "GROUP", "g", "x", "STREAMS", "s", ">")
    before = probe_memory()[1]
    for i in range(500):
        name = f"{i}".ljust(512, "n")
        c("XGROUP", "CREATECONSUMER", "s", "g", name)
        c("XGROUP", "DELCONSUMER", "s", "g", name)
    assert probe_memory()[1] < before + 20_000

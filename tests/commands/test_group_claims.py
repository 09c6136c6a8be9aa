"""XREADGROUP with CLAIM, as Redis 8.4 documents it: what was pending for long comes first, each
entry with how long that was and how often it had been delivered; who waits is given what comes to
be pending for long enough. And which replica takes over what."""
from __future__ import annotations

import pytest

from crdtredis._core import probe_memory
from crdtredis.replication.delivering import Mode, Right
from tests.commands.run import NOW, Client, exchange
from tests.commands.test_blocking import blocks, clients, got, later
from tests.commands.test_groups import add, numbers, pending, read

CLAIM_OF_XREAD = ("ERR The CLAIM option is only supported by XREADGROUP. You called XREAD "
                  "instead.")


@pytest.fixture
def c():
    c = Client()
    add(c, 1, 2, 3)
    c("XGROUP", "CREATE", "s", "g", 0)
    return c


def claim(c, idle, consumer="b", *options):
    """(id, how long pending, how often delivered) of what it is given."""
    return aged(c("XREADGROUP", "GROUP", "g", consumer, "CLAIM", idle, *options, "STREAMS", "s",
                  ">"))


def aged(reply):
    if reply is None:
        return []
    assert all(fields[0] == b"f" for _, fields, _, _ in reply[0][1])
    return [(int(i.split(b"-")[0]), idle, n) for i, _, idle, n in reply[0][1]]


def waits(c, idle, consumer="b", ms=0):
    blocks(c, "XREADGROUP", "GROUP", "g", consumer, "BLOCK", ms, "CLAIM", idle, "STREAMS", "s", ">")


# ---- what is given -------------------------------------------------------------------------------

def test_what_is_pending_for_long_comes_before_what_is_new(c):
    read(c, "a", ">", "COUNT", 2)
    c.now += 50
    assert claim(c, 51) == [(3, 0, 0)], "nothing was pending for so long"
    assert claim(c, 51) == []
    c.now += 1
    assert claim(c, 51) == [(1, 51, 1), (2, 51, 1)]
    assert pending(c) == [(1, "b", 0, 2), (2, "b", 0, 2), (3, "b", 1, 1)]
    c.now += 60
    add(c, 4)
    assert claim(c, 0, "a", "COUNT", 4) == [(3, 61, 1), (1, 60, 2), (2, 60, 2), (4, 0, 0)]
    assert claim(c, 0, "a") == [(1, 0, 3), (2, 0, 3), (3, 0, 2), (4, 0, 1)]


def test_what_was_pending_the_longest_comes_first(c):
    read(c)
    for i, ago in ((1, 30), (2, 50), (3, 40)):
        c("XCLAIM", "s", "g", "a", 0, f"{i}-0", "IDLE", ago, "JUSTID")
    assert claim(c, 40, "b", "COUNT", 1) == [(2, 50, 1)]
    assert claim(c, 40) == [(3, 40, 1)] and claim(c, 30) == [(1, 30, 1)]
    add(c, 4)
    read(c)
    c.now += 5
    c("XACK", "s", "g", "2-0", "4-0")
    assert claim(c, 5) == [(1, 5, 2), (3, 5, 2)]


def test_what_was_given_back_comes_first_and_wakes_who_waits(c):
    read(c, "a")
    c.now += 50
    c("XNACK", "s", "g", "FAIL", "IDS", 1, "2-0")
    assert claim(c, 40, "b", "COUNT", 2) == [(2, c.now, 1), (1, 50, 1)]
    a, b = clients(2)
    add(a, 1)
    a("XGROUP", "CREATE", "s", "g", 0)
    read(a, "a")
    waits(b, 10**6)
    a("XNACK", "s", "g", "FAIL", "IDS", 1, "1-0")
    assert aged(got(b)) == [(1, a.now, 1)] and pending(a) == [(1, "b", 0, 2)]


def test_count_is_of_both(c):
    read(c, "a", ">", "COUNT", 1)
    c.now += 9
    assert claim(c, 9, "b", "COUNT", 2) == [(1, 9, 1), (2, 0, 0)]
    c.now += 9
    assert claim(c, 9, "b", "COUNT", 2) == [(1, 9, 2), (2, 9, 1)]
    assert claim(c, 9, "b", "COUNT", 2) == [(3, 0, 0)]


def test_noack_leaves_what_was_pending(c):
    read(c, "a", ">", "COUNT", 1)
    assert claim(c, 0, "b", "NOACK") == [(1, 0, 1), (2, 0, 0), (3, 0, 0)]
    assert pending(c) == [(1, "b", 0, 2)]


def test_history_is_as_without(c):
    read(c)
    c.now += 9
    assert read(c, "a", "0", "CLAIM", 1) == [1, 2, 3]
    assert c("XREADGROUP", "GROUP", "g", "b", "CLAIM", 1, "STREAMS", "s", "0") == [[b"s", []]]
    add(c, 4)
    reply = c("XREADGROUP", "CLAIM", 0, "GROUP", "g", "b", "STREAMS", "s", "s", ">", "0")
    assert [len(e) for e in reply[0][1]] == [4] * 4 and [len(e) for e in reply[1][1]] == [2] * 4


def test_several_streams_have_their_own(c):
    c("XADD", "t", "7-0", "f", 7), c("XADD", "t", "8-0", "f", 8)
    c("XGROUP", "CREATE", "t", "g", 0)
    c("XREADGROUP", "GROUP", "g", "a", "COUNT", 1, "STREAMS", "s", "t", ">", ">")
    c.now += 9
    reply = c("XREADGROUP", "GROUP", "g", "b", "CLAIM", 5, "STREAMS", "s", "t", ">", ">")
    assert [(key, [e[2:] for e in found]) for key, found in reply] == [
        (b"s", [[9, 1], [0, 0], [0, 0]]), (b"t", [[9, 1], [0, 0]])]
    three = c.other(resp=3)
    three.now += 9
    told = three("XREADGROUP", "GROUP", "g", "b", "CLAIM", 9, "STREAMS", "t", ">")
    assert [e[2:] for e in told[b"t"]] == [[9, 2], [9, 1]]


def test_another_group_of_the_stream_has_its_own(c):
    c("XGROUP", "CREATE", "s", "h", 0)
    read(c)
    c.now += 9
    read(c, group="h")
    assert claim(c, 9) == [(1, 9, 1), (2, 9, 1), (3, 9, 1)]
    assert [who for _, who, _, _ in pending(c, group="h")] == ["a"] * 3


def test_what_was_given_out_anew_comes_once_as_pending_and_once_as_new(c):
    read(c)
    c("XGROUP", "SETID", "s", "g", "1-0")
    c.now += 9
    assert claim(c, 9) == [(1, 9, 1), (2, 9, 1), (3, 9, 1), (2, 0, 0), (3, 0, 0)]
    assert [n for _, _, _, n in pending(c)] == [2, 1, 1]


def test_records_of_entries_that_are_gone_go(c):
    read(c)
    c("XDEL", "s", "2-0")
    c.now += 9
    assert claim(c, 9) == [(1, 9, 1), (3, 9, 1)]
    assert [i for i, *_ in pending(c)] == [1, 3]
    c("XTRIM", "s", "MAXLEN", 0)
    c.now += 9
    assert claim(c, 9) == [] and pending(c) == []


def test_records_of_entries_that_are_gone_hide_none_that_is_there(c):
    read(c)
    c("XDEL", "s", "1-0", "2-0")
    assert claim(c, 0, "b", "COUNT", 1) == [(3, 0, 1)]
    assert pending(c) == [(3, "b", 0, 2)]
    add(c, 4, 5, 6, 7)
    read(c, "a", ">", "COUNT", 3)
    c.now += 1
    c("XDEL", "s", "4-0", "5-0")
    assert claim(c, 0, "b", "COUNT", 2) == [(3, 1, 2), (6, 1, 1)], "before what is new"
    add(c, *range(8, 1000))
    read(c)
    c("XTRIM", "s", "MAXLEN", 1)
    assert claim(c, 0, "b", "COUNT", 1) == [(999, 0, 1)], "however many they are"


@pytest.mark.parametrize("idle", ["x", "5.5", "+10", "*10", "10e", "-0", "-5.5", ""])
def test_a_time_that_is_no_number_is_refused(c, idle):
    assert c.error("XREADGROUP", "GROUP", "g", "b", "CLAIM", idle, "STREAMS", "s",
                   ">") == "ERR min-idle-time is not an integer"


def test_what_is_refused(c):
    assert c.error("XREADGROUP", "GROUP", "g", "b", "CLAIM", -1, "STREAMS", "s",
                   ">") == "ERR min-idle-time must be a positive integer"
    assert c.error("XREAD", "COUNT", 2, "CLAIM", 10, "STREAMS", "s", 0) == CLAIM_OF_XREAD
    assert c.error("XREADGROUP", "GROUP", "g", "CLAIM", 50, "b", "STREAMS", "s",
                   ">") == "ERR syntax error"
    assert c.error("XREADGROUP", "GROUP", "none", "b", "CLAIM", 5, "STREAMS", "s",
                   ">").startswith("NOGROUP")
    read(c, "a", ">", "COUNT", 1)
    assert claim(c, 9223372036854775807) == [(2, 0, 0), (3, 0, 0)]


# ---- who waits -----------------------------------------------------------------------------------

@pytest.fixture
def three():
    cs = clients(3)
    add(cs[0], 1)
    cs[0]("XGROUP", "CREATE", "s", "g", 0)
    return cs


def test_who_waits_is_given_what_becomes_idle(three):
    a, b, _ = three
    read(a)
    a.now += 10
    waits(b, 100)
    later(b, 89)
    assert got(b) is None
    later(b, 1)
    assert aged(got(b)) == [(1, 100, 1)] and pending(a) == [(1, "b", 0, 2)]


def test_who_waits_is_given_what_stands_behind_many_that_are_gone(three):
    a, b, _ = three
    add(a, *range(2, 26))
    read(a)
    many = 1 << 14                              # GONE_MOST
    a("EVAL", f"for i = 26, {many + 1} do redis.call('XADD', 's', i, 'f', i) end", 0)
    read(a)
    a("XTRIM", "s", "MAXLEN", 1)
    blocks(b, "XREADGROUP", "GROUP", "g", "b", "BLOCK", 0, "COUNT", 1, "CLAIM", 0, "STREAMS", "s",
           ">")
    later(b, 1)
    assert aged(got(b)) == [(many + 1, 1, 1)] and pending(a) == [(many + 1, "b", 0, 2)]


def test_the_time_limit_holds(three):
    a, b, _ = three
    read(a)
    waits(b, 100, ms=50)
    later(b, 49)
    assert got(b) is None
    later(b, 1)
    assert b.session.take_replies() == b"*-1\r\n"
    waits(b, 100, ms=51)
    later(b, 50)
    assert aged(got(b)) == [(1, 100, 1)]


def test_what_is_new_is_given_meanwhile(three):
    a, b, _ = three
    read(a)
    waits(b, 100)
    later(b, 50)
    add(a, 2)
    assert aged(got(b)) == [(2, 0, 0)]


def test_of_two_who_wait_the_second_gets_what_the_first_leaves(three):
    a, b, d = three
    a("XACK", "s", "g", *["1-0"] * len(read(a)))
    waits(b, 100, "b")
    waits(d, 100, "d")
    later(a, 1)
    add(a, 2)
    assert aged(got(b)) == [(2, 0, 0)] and got(d) is None
    later(a, 99)
    assert got(d) is None
    later(a, 1)
    assert aged(got(d)) == [(2, 100, 1)]


def test_who_waits_goes_on_where_it_was_acknowledged_or_claimed(three):
    a, b, _ = three
    add(a, 2)
    read(a)
    waits(b, 100)
    a("XACK", "s", "g", "1-0")
    later(a, 60)
    a("XCLAIM", "s", "g", "a", 0, "2-0")
    later(a, 99)
    assert got(b) is None
    later(a, 1)
    assert aged(got(b)) == [(2, 100, 2)]


def test_in_a_transaction_nobody_waits(three):
    a, b, _ = three
    read(a)
    a.now += 10
    b("MULTI")
    b("XREADGROUP", "GROUP", "g", "b", "BLOCK", 0, "CLAIM", 10, "STREAMS", "s", ">")
    b("XREADGROUP", "GROUP", "g", "b", "BLOCK", 0, "CLAIM", 10, "STREAMS", "s", ">")
    first, second = b("EXEC")
    assert aged(first) == [(1, 10, 1)] and second is None


def test_a_wait_is_bounded_by_what_no_clock_reaches(three):
    a, b, _ = three
    read(a)
    waits(b, 9223372036854775807, ms=100)
    later(b, 99)
    assert got(b) is None
    later(b, 1)
    assert b.session.take_replies() == b"*-1\r\n"


# ---- replicas ------------------------------------------------------------------------------------

def two():
    a, b = Client("a"), Client("b", epoch=NOW + 1)
    a("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
    exchange(a, b)
    add(a, 1), add(b, 2)
    exchange(a, b)
    return a, b


def test_what_was_given_out_elsewhere_is_taken_over():
    a, b = two()
    read(a), exchange(a, b)
    assert claim(b, 5) == []
    a.now += 9
    b.now += 9
    assert claim(b, 5) == [(1, 9, 1), (2, 9, 1)]
    exchange(a, b)
    assert pending(a) == pending(b) == [(1, "b", 0, 2), (2, "b", 0, 2)]
    assert a.replica.digest() == b.replica.digest()


def test_a_record_of_two_deliveries_is_taken_over_once():
    """Both have given out all, while they were apart: the later holds."""
    a, b = two()
    read(a, "x")
    for node in (a, b):
        node.now += 4
    read(b, "y"), exchange(a, b)
    for node in (a, b):
        node.replica.check()
        node.now += 6
        assert claim(node, 7) == []
        node.now += 1
    assert claim(a, 7) == [(1, 7, 1), (2, 7, 1)]
    a.replica.check()
    exchange(a, b)
    b.replica.check()
    assert claim(b, 0) == [(1, 0, 2), (2, 0, 2)]


def portion(c, own: bool, rest: bool, but=frozenset()) -> None:
    c.executor.give(Mode.RIGHTS, [((0, b"s", b"g"), Right(own, rest, but, True))])


def claims(c, *options) -> list[int]:
    return [i for i, _, _ in claim(c, *options)]


def test_what_others_give_out_does_not_hide_what_comes_to_stand_before_it():
    a, b = two()
    add(a, 3, 4), add(b, 5)
    exchange(a, b)
    read(b), exchange(a, b)
    portion(a, True, False)
    a.now += 9
    assert claims(a, 0, "x", "COUNT", 1) == [1] and claims(a, 1) == [3, 4]
    assert claims(a, 1) == []
    a("XCLAIM", "s", "g", "y", 0, "3-0", "IDLE", 100, "JUSTID")
    assert claims(a, 50) == [3]
    exchange(a, b)
    b.now += 10
    b("XCLAIM", "s", "g", "y", 0, "4-0", "TIME", NOW - 90, "JUSTID")
    exchange(a, b)
    assert claims(a, 50) == [4]
    portion(a, True, True)
    assert claims(a, 5) == [2, 5]
    a.replica.check()


def test_what_others_give_out_does_not_hide_an_id_that_is_used_again():
    a, b = two()
    read(a), exchange(a, b)
    portion(a, True, False)
    a.now += 9
    assert claims(a, 1) == [1] and claims(a, 1) == []
    a("XTRIM", "s", "MAXLEN", 0), a("XSETID", "s", "1-0"), add(a, 2)
    assert claims(a, 1) == [2, 2], "which was b's; and is new"


def test_what_others_give_out_does_not_hide_what_shows_at_its_place():
    a, b, c = (Client(name, epoch=NOW + i) for i, name in enumerate("abc"))
    add(a, 2)
    b.now += 1
    add(b, 2), b("XGROUP", "CREATE", "s", "g", 0)
    exchange(b, c)
    b.replica.receive(a.replica.take_ops())
    assert read(b) == [2]
    portion(b, False, True)
    b.now += 9
    assert claims(b, 1) == [], "its own shows"
    c("XDEL", "s", "2-0")
    b.replica.receive(c.replica.take_ops())
    assert claims(b, 1) == [2, 2], "a's, which is new, too"


def test_groups_made_apart_give_each_once():
    a, b = Client("a"), Client("b", epoch=NOW + 1)
    a("XADD", "s", "1-0", "f", 1), exchange(a, b)
    for node, consumer in ((a, "x"), (b, "y")):
        node("XGROUP", "CREATE", "s", "g", 0)
        assert read(node, consumer) == [1]
    exchange(a, b)
    for node in (a, b):
        node.now += 9
        assert claim(node, 9, "z") == [(1, 9, 1)]
        node.replica.check()


def test_what_a_removal_had_not_seen_is_in_the_order_by_time():
    a, b = two()
    read(a), exchange(a, b)
    assert claim(b, 0) == [(1, 0, 1), (2, 0, 1)]
    add(b, 3)
    b("XGROUP", "CREATE", "s", "k", 0)      # it stays, and with it the order
    read(b, group="k")
    a("XGROUP", "CREATE", "s", "h", 0)
    read(a, group="h")
    a("DEL", "s"), exchange(a, b)
    b.replica.check()
    b("XGROUP", "CREATE", "s", "g", 0)
    assert claim(b, 0) == [(3, 0, 0)] and claim(b, 0) == [(3, 0, 1)]
    b.replica.check()


# ---- cost ----------------------------------------------------------------------------------------

def test_the_order_by_time_is_kept_as_records_come_and_go(c):
    assert claim(c, 100) == [(1, 0, 0), (2, 0, 0), (3, 0, 0)]
    before = probe_memory()[0]
    for i in range(10, 400):
        add(c, i)
        c.now += i % 3
        claim(c, 5, "abc"[i % 3], "COUNT", 4)
        if i % 5 == 0:
            c("XACK", "s", "g", f"{i - 1}-0", f"{i - 3}-0")
        if i % 50 == 0:
            c("XDEL", "s", f"{i}-0"), c("XGROUP", "DELCONSUMER", "s", "g", "a")
            c.replica.check()
    ids = [i for i, *_ in claim(c, 0, "b", "COUNT", 1000)]
    assert sorted(ids) == [i for i, *_ in pending(c, "-", "+", 1000)] == numbers(
        c("XREADGROUP", "GROUP", "g", "b", "STREAMS", "s", 0)[0][1])
    c("DEL", "s")
    while c.replica.collect_garbage(1000):
        pass
    c.replica.check()
    assert probe_memory()[0] <= before

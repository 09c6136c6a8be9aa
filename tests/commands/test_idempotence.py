"""XADD IDMP and IDMPAUTO, XCFGSET: what a producer adds again is there once, at any replica that
the first has come to. Replies and refusals are those of Redis 8.6."""
from __future__ import annotations

import gc
import itertools
import random

import pytest

from crdtredis._core import probe_memory
from tests.commands.run import Client, exchange
from tests.core.test_join import all_of, join
from tests.core.test_state import Node, stream, taken


@pytest.fixture
def c():
    return Client()


def add(c, iid, producer="p", value=1, key="s"):
    return c("XADD", key, "IDMP", producer, iid, "*", "f", value)


def auto(c, *pairs, producer="p"):
    return c("XADD", "s", "IDMPAUTO", producer, "*", *pairs)


def info(c, key="s") -> dict:
    told = c("XINFO", "STREAM", key)
    return {k.decode(): v for k, v in zip(told[::2], told[1::2])}


def tracked(c) -> tuple:
    told = info(c)
    return tuple(told[k] for k in ("pids-tracked", "iids-tracked", "iids-added",
                                   "iids-duplicates"))


# ---- one replica ---------------------------------------------------------------------------------

def test_what_is_added_again_is_there_once(c):
    first = add(c, "a")
    assert add(c, "a", value=2) == first and c("XLEN", "s") == 1
    assert c("XRANGE", "s", "-", "+") == [[first, [b"f", b"1"]]]
    assert add(c, "b") != first and add(c, "a", producer="q") != first
    assert c.effects("XADD", "s", "IDMP", "p", "a", "*", "f", "v") == 0
    assert tracked(c) == (2, 3, 3, 2)


def test_what_is_added_tells_by_itself(c):
    first = auto(c, "f", 1, "g", 2)
    assert auto(c, "g", 2, "f", 1) == first != auto(c, "g", 1, "f", 2)
    assert len({first, auto(c, "f", 1), auto(c, "f", 1, "f", 1), auto(c, "f1", ""),
                auto(c, "", "f1"), auto(c, "f", 1, "g", 2, producer="q")}) == 6
    assert auto(c, "f", 1, "f", 1) and c("XLEN", "s") == 7


def test_long_names_and_any_bytes(c):
    names = [b"\0\1\2\xff", b"x" * 64, b"x" * 65, b"x" * 65536, b"*", b"\0", b"\0\0"]
    ids = [add(c, n, producer=m) for n in names for m in names]
    assert len(set(ids)) == 49 and ids == [add(c, n, producer=m) for n in names for m in names]
    assert tracked(c) == (7, 49, 49, 49)
    c.replica.check()


def test_an_id_is_known_for_a_while(c):
    first = add(c, "a")
    c.now += 99_999
    assert add(c, "a") == first
    c.now += 1
    second = add(c, "a")
    assert second != first == c("XRANGE", "s", "-", "+")[0][0] and add(c, "a") == second
    c("XCFGSET", "s", "IDMP-DURATION", 1)
    third = add(c, "a")
    assert third != second, "a change forgets all"
    c.now += 1000
    assert add(c, "a") != third


def test_of_each_producer_so_many_are_known(c):
    add(c, "init"), c("XCFGSET", "s", "IDMP-MAXSIZE", 3)
    ids = []
    for i in range(4):
        c.now += 1
        ids += [add(c, i), add(c, i, producer="q")]
    assert [add(c, i) for i in (1, 2, 3)] == ids[2::2] and tracked(c)[:2] == (2, 6)
    c.now += 1
    assert add(c, 0) not in ids and add(c, 3) == ids[6]
    assert tracked(c) == (2, 6, 10, 4)
    c.replica.check()


@pytest.mark.parametrize("within", ["a ms", "a transaction"])
def test_of_what_one_ms_brings_the_first_go_first(c, within):
    """An op may add as many as are known, and so may a replica whose clock is behind others'."""
    add(c, "init"), c("XCFGSET", "s", "IDMP-MAXSIZE", 3)
    for names in (range(9), range(29, 20, -1)):
        ids = [] if within == "a ms" else c("MULTI") and []
        for i in names:
            ids.append(add(c, i))
            if within == "a ms":
                assert add(c, i) == ids[-1]
        ids = ids if within == "a ms" else c("EXEC")
        assert [add(c, i) for i in names[-3:]] == ids[-3:] and tracked(c)[1] == 3
    c.replica.check()


def test_producers_that_come_no_more_are_forgotten():
    gc.collect()                            # an Executor refers to itself
    nothing, c = probe_memory()[0], Client()
    for i in range(500):
        add(c, "a", producer=i)
    before = probe_memory()[1]
    c.now += 100_000
    for i in range(300):
        add(c, i)
    assert tracked(c)[:2] == (1, 100) and probe_memory()[1] < before
    c("DEL", "s")
    del c
    gc.collect()
    assert probe_memory()[0] == nothing


def test_what_has_run_out_goes_though_nobody_adds_anything():
    gc.collect()                            # an Executor refers to itself
    nothing, c = probe_memory()[0], Client()
    for i in range(300):
        add(c, i % 3, producer=i // 3)
        c.now += 100
    length, before = c("XLEN", "s"), probe_memory()[0]
    c.replica.tick()
    assert tracked(c)[:2] == (100, 300)
    c.now += 85_000
    c.replica.tick()
    assert 0 < tracked(c)[1] < 300 and probe_memory()[0] < before
    c.now += 60_000
    c.replica.tick()
    assert tracked(c)[:2] == (0, 0) and c("XLEN", "s") == length
    c.replica.check()
    first = add(c, 0)
    c("XCFGSET", "s", "IDMP-DURATION", 1)
    second = add(c, 0)
    for _ in range(3):
        c.now += 60_000
        c.replica.tick()
    assert tracked(c)[1] == 0 and add(c, 0) not in (first, second)
    c("DEL", "s")
    c.now += 60_000
    c.replica.tick()
    del c
    gc.collect()
    assert probe_memory()[0] == nothing


def test_removed_entries_are_not_added_again(c):
    first, second = add(c, "a"), add(c, "b")
    c("XDEL", "s", first), c("XTRIM", "s", "MAXLEN", 0)
    assert (add(c, "a"), add(c, "b")) == (first, second) and c("XLEN", "s") == 0
    c("DEL", "s")
    assert add(c, "a") != first


def test_in_a_transaction(c):
    c("MULTI")
    for iid in (1, 2, 1):
        add(c, iid)
    a, b, again = c("EXEC")
    assert a == again != b and c("XLEN", "s") == 2


def test_with_other_options(c):
    assert c("XADD", "s", "NOMKSTREAM", "IDMP", "p", "a", "*", "f", "v") is None
    first = c("XADD", "s", "IDMP", "p", "a", "KEEPREF", "MAXLEN", "~", 100, "LIMIT", 9, "*", "f", 1)
    assert c("XADD", "s", "MAXLEN", 0, "IDMP", "p", "a", "NOMKSTREAM", "*", "f", 2) == first
    assert c("XLEN", "s") == 1, "nor is anything trimmed"
    c("SET", "k", 1)
    assert c.error("XADD", "k", "IDMP", "p", "a", "*", "f", 1).startswith("WRONGTYPE")


@pytest.mark.parametrize("options, text", [
    (("IDMP", "p", "*", "f", "v"), "Invalid stream ID specified as stream command argument"),
    (("IDMP", "p", "i", "1-1", "f", "v"), "IDMP/IDMPAUTO can be used only with auto-generated IDs"),
    (("IDMPAUTO", "p", "5-*", "f", "v"), "IDMP/IDMPAUTO can be used only with auto-generated IDs"),
    (("IDMP", "p", "i", "IDMP", "q", "j", "*", "f", "v"),
     "IDMP/IDMPAUTO specified multiple times"),
    (("IDMPAUTO", "p", "IDMP", "q", "j", "*", "f", "v"), "IDMP/IDMPAUTO specified multiple times"),
    (("IDMP", "", "i", "*", "f", "v"), "IDMP requires a non-empty producer ID"),
    (("IDMP", "p", "", "*", "f", "v"), "IDMP requires a non-empty idempotent ID"),
    (("IDMPAUTO", "", "*", "f", "v"), "IDMPAUTO requires a non-empty producer ID")])
def test_what_xadd_refuses(c, options, text):
    assert c.error("XADD", "s", *options) == f"ERR {text}" and c("EXISTS", "s") == 0


def test_what_xcfgset_takes(c):
    assert c.error("XCFGSET", "s", "IDMP-DURATION", 5) == "ERR no such key"
    c("XADD", "s", "*", "f", "v")
    assert "idmp-duration" not in info(c)
    assert c("XCFGSET", "s", "IDMP-DURATION", 86400, "IDMP-MAXSIZE", 10000) == b"OK"
    assert c.effects("XCFGSET", "s", "IDMP-MAXSIZE", 10000) == 0
    assert c("XCFGSET", "s", "idmp-duration", 1) == b"OK"
    told = info(c)
    assert (told["idmp-duration"], told["idmp-maxsize"], tracked(c)) == (1, 10000, (0, 0, 0, 0))
    a = add(c, "a")
    assert c("XCFGSET", "s", "IDMP-DURATION", 1) == b"OK" and add(c, "a") == a
    full = c("XINFO", "STREAM", "s", "FULL")
    assert full[full.index(b"pids-tracked") + 1] == 1


def test_settings_say_what_xcfgset_does_not(c):
    c.executor.set_encoding_limits(stream_idmp_duration=5, stream_idmp_maxsize=2)
    first = add(c, "a")
    assert (info(c)["idmp-duration"], info(c)["idmp-maxsize"]) == (5, 2)
    c.now += 4999
    assert add(c, "a") == first and add(c, "b") and add(c, "c") and tracked(c)[1] == 2
    c("XCFGSET", "s", "IDMP-DURATION", 5)
    assert tracked(c)[1] == 2, "it says what holds already, so nothing is forgotten"
    c.executor.set_encoding_limits(stream_idmp_duration=50, stream_idmp_maxsize=20)
    assert (info(c)["idmp-duration"], info(c)["idmp-maxsize"]) == (5, 2), "from now on for good"
    add(c, "a", key="t")
    assert (info(c, "t")["idmp-duration"], info(c, "t")["idmp-maxsize"]) == (50, 20)


@pytest.mark.parametrize("options, text", [
    ((), "At least one parameter must be specified"),
    (("IDMP-DURATION",), "syntax error"), (("INVALID", 5), "syntax error"),
    (("IDMP-DURATION", 0), "IDMP-DURATION must be between 1 and 86400 seconds"),
    (("IDMP-DURATION", 86401), "IDMP-DURATION must be between 1 and 86400 seconds"),
    (("IDMP-MAXSIZE", -1), "IDMP-MAXSIZE must be between 1 and 10000 entries"),
    (("IDMP-MAXSIZE", 10001), "IDMP-MAXSIZE must be between 1 and 10000 entries"),
    (("IDMP-MAXSIZE", "3.14", "IDMP-DURATION"), "value is not an integer or out of range"),
    (("IDMP-DURATION", "000000000"), "value is not an integer or out of range")])
def test_what_xcfgset_refuses(c, options, text):
    c("XADD", "s", "*", "f", "v")
    assert c.error("XCFGSET", "s", *options) == f"ERR {text}"


def test_a_copy_knows_what_the_stream_knows(c):
    a, b = add(c, "a"), add(c, "b", producer="q")
    c("XCFGSET", "s", "IDMP-MAXSIZE", 50)
    a, b = add(c, "a"), add(c, "b", producer="q")
    c("COPY", "s", "t"), c("RENAME", "s", "u")
    for key in ("t", "u"):
        assert (add(c, "a", key=key), add(c, "b", producer="q", key=key)) == (a, b)
        assert info(c, key)["idmp-maxsize"] == 50
    c.replica.check()


def test_databases_that_are_swapped_know_what_they_knew(c):
    a = add(c, "a")
    c("XCFGSET", "s", "IDMP-MAXSIZE", 50)
    a, b = add(c, "a"), add(c, b"\0" * 100, producer="q" * 100)
    c("XGROUP", "CREATE", "s", "g", 0), c("COPY", "s", "t"), c("SET", "other", 1)
    other = add(c, "x", key="u")
    c("SWAPDB", 0, 1), c("SWAPDB", 1, 2), c("MOVE", "none", 1), c("SELECT", 2)
    for key in "st":
        assert (add(c, "a", key=key), add(c, b"\0" * 100, producer="q" * 100, key=key)) == (a, b)
        assert (info(c, key)["idmp-maxsize"], info(c, key)["groups"]) == (50, 1)
        assert c("XLEN", key) == 3
    assert add(c, "x", key="u") == other and info(c, "u")["idmp-maxsize"] == 100
    c.replica.check()


@pytest.mark.parametrize("command", ["COPY", "RENAME"])
def test_what_has_run_out_no_copy_knows(c, command):
    first = add(c, "a")
    c.now += 50_000
    second = add(c, "b")
    c.now += 50_000
    c(command, "s", "t")
    assert add(c, "a", key="t") != first and add(c, "b", key="t") == second


# ---- replicas ------------------------------------------------------------------------------------

def two():
    a, b = Client("a"), Client("b")
    return a, b


def same(*clients):
    assert len({c.replica.digest() for c in clients}) == 1
    for c in clients:
        c.replica.check()


def test_a_retry_elsewhere_adds_nothing():
    a, b = two()
    first = add(a, "a")
    exchange(a, b)
    assert add(b, "a") == first and b("XLEN", "s") == 1
    exchange(a, b)
    same(a, b)


def test_a_retry_that_comes_first_adds_another_and_then_all_answer_one():
    a, b = two()
    ids = add(a, "a"), add(b, "a")
    exchange(a, b)
    same(a, b)
    assert a("XLEN", "s") == b("XLEN", "s") == 2
    assert add(a, "a") == add(b, "a") == min(ids)
    for c in (a, b):
        c.now += 100_000
    assert add(a, "a") not in ids
    exchange(a, b)
    same(a, b)


@pytest.mark.parametrize("behind", [0, 1])
def test_a_copy_answers_what_the_stream_does(behind):
    clients = two()
    clients[behind].now -= 5
    ids = [add(c, "a") for c in clients]
    exchange(*clients)
    clients[0]("RENAME", "s", "t")
    exchange(*clients)
    assert [add(c, "a", key="t") for c in clients] == [min(ids)] * 2


def test_who_has_written_forgets_and_others_a_while_later():
    a, b = two()
    add(a, "a"), add(b, "b")
    exchange(a, b)
    for c in (a, b):
        c.now += 100_000
        c.replica.tick()
        c.replica.check()
    assert tracked(a)[1] == tracked(b)[1] == 1, "each its own"
    exchange(a, b)
    same(a, b)
    assert tracked(a)[1] == 0
    second = add(a, "a")
    exchange(a, b)
    b.now += 100_000
    b.replica.tick()
    assert tracked(b)[1] == 1 and add(b, "a") != second, "it is known no more, but A's to remove"
    b("XCFGSET", "s", "IDMP-DURATION", 2), b("XCFGSET", "s", "IDMP-DURATION", 1)
    exchange(a, b)
    a.now = b.now
    add(a, "c"), exchange(a, b)
    b.now += 1000
    for ms, there in ((0, 1), (9_999, 1), (60_000, 0)):
        b.now += ms
        b.replica.tick()
        assert tracked(b)[1] == there, "A is away for longer than it is waited for"
    a.now = b.now
    exchange(a, b)
    same(a, b)


def test_an_id_written_beside_the_sweep_of_an_older_one_stays():
    a, b = two()
    add(a, "a"), exchange(a, b)
    for c in (a, b):
        c.now += 100_000
    second = add(b, "a")
    a.replica.tick()
    exchange(a, b)
    same(a, b)
    assert add(a, "a") == add(b, "a") == second


def test_replicas_with_other_settings_hold_the_same():
    a, b = two()
    a.executor.set_encoding_limits(stream_idmp_duration=10, stream_idmp_maxsize=2)
    ids = []
    for i in range(3):
        ids.append(add(b, i))
        a.now += 1
        b.now += 1
    exchange(a, b)
    added = add(a, 3), add(b, 4)
    exchange(a, b)
    same(a, b)
    assert tracked(a)[1] == tracked(b)[1] == 3, "A forgot two that it had seen, B's last it had not"
    assert [add(c, 3) for c in (a, b)] == [added[0]] * 2 and add(b, 2) == ids[2]
    for c in (a, b):
        c.now += 10_000
    assert add(b, 4) == added[1] != add(a, 4), "known for B's 100 s, for A's 10"
    exchange(a, b)
    same(a, b)
    assert add(b, 4) == add(a, 4)


def test_what_either_forgets_is_forgotten_and_what_it_had_not_seen_stays():
    a, b = two()
    first = add(a, "a")
    exchange(a, b)
    a("XCFGSET", "s", "IDMP-DURATION", 5)
    second = add(b, "b")
    exchange(a, b)
    same(a, b)
    assert add(a, "b") == add(b, "b") == second and add(a, "a") != first
    b.now += 1
    a("XCFGSET", "s", "IDMP-DURATION", 6), b("XCFGSET", "s", "IDMP-DURATION", 7)
    exchange(a, b)
    same(a, b)
    assert info(a)["idmp-duration"] == info(b)["idmp-duration"] == 7


def test_a_deletion_leaves_what_it_had_not_seen():
    a, b = two()
    add(a, "a"), exchange(a, b)
    a("DEL", "s")
    second = add(b, "b")
    exchange(a, b)
    same(a, b)
    assert add(a, "b") == second and a("XLEN", "s") == 1 and tracked(b)[:2] == (1, 1)


def test_a_start_and_a_full_sync_know_what_was_added():
    a, b = two()
    ids = [add(a, i) for i in range(9)]
    a("XCFGSET", "s", "IDMP-MAXSIZE", 20)
    ids = [add(a, i) for i in range(9)]
    a.replica.take_ops()
    again = taken(stream(a.replica), "z")
    assert again.replica.digest() == a.replica.digest()
    again.replica.check()
    again.replica.now = a.now
    assert [again("XADD", "s", "IDMP", "p", i, "*", "f", 1) for i in range(9)] == ids


@pytest.mark.parametrize("most", [1, 300])
def test_a_full_sync_joins_what_both_know(most):
    a, b, c = Node("a"), Node("b", seed=2), Node("c", seed=3)
    for node, ids in ((a, "xy"), (b, "yz")):
        for i in ids:
            node("XADD", "s", "IDMP", "p", i, "*", "f", 1)
    b("XCFGSET", "s", "IDMP-MAXSIZE", 3)
    for i in "zw":
        b("XADD", "s", "IDMP", "q", i, "*", "f", "v")
    wanted = all_of(a.log, b.log)
    of_b = stream(b.replica, most)
    join(a.replica, of_b, most=3)
    assert a.replica.digest() == wanted.digest()
    c.receive(a.log), c.receive(b.log)
    assert len({tuple(node("XADD", "s", "IDMP", "q", i, "*", "f", 1) for i in "zw")
                for node in (a, b, c)}) == 1


def test_all_orders_of_a_few_come_to_the_same():
    """Each of three makes two of these, apart; then they hear of each other in any order."""
    rng = random.Random(5)
    for _ in range(40):
        cs = [Client(n) for n in "abc"]
        add(cs[0], "a"), add(cs[0], "b"), exchange(*cs)
        batches = []
        later = rng.choice([0, 5, 100_000])
        for c in cs:
            c.now += later + rng.randrange(3)
            for _ in range(2):
                rng.choice([lambda: add(c, rng.choice("abcd")),
                            lambda: auto(c, "f", rng.randrange(2)),
                            lambda: c("XTRIM", "s", "MAXLEN", 1), lambda: c("DEL", "s"),
                            lambda: c("EXISTS", "s") and c("XCFGSET", "s", "IDMP-MAXSIZE",
                                                           rng.choice([1, 2]))])()
            batches.append((c, c.replica.take_ops()))
        for c, order in zip(cs, itertools.permutations(batches)):
            for who, batch in order:
                if who is not c and batch:
                    c.replica.receive(batch)
        same(*cs)

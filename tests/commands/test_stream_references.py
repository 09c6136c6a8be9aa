"""Removing stream entries with regard to groups: XDELEX, XACKDEL, and what XADD and XTRIM take of
KEEPREF, DELREF, ACKED. Sequences beside a redis-server 8.2 are in tests/compat/test_newer.py."""
import random

import pytest

from tests.commands.run import Client, exchange


@pytest.fixture
def c():
    """Entries 1 to 6; g has given out 1 to 4, of which 1 and 2 are acknowledged, h 1 to 2."""
    c = Client()
    fill(c)
    return c


def fill(c, n: int = 6) -> None:
    for i in range(1, n + 1):
        c("XADD", "s", f"{i}-0", "f", i)
    for group, count, acked in (("g", 4, [1, 2]), ("h", 2, [1])):
        c("XGROUP", "CREATE", "s", group, 0)
        c("XREADGROUP", "GROUP", group, "c", "COUNT", count, "STREAMS", "s", ">")
        c("XACK", "s", group, *acked)


def left(c) -> list[int]:
    return [int(i.split(b"-")[0]) for i, _ in c("XRANGE", "s", "-", "+")]


def pending(c, group: str) -> list[int]:
    return [int(i.split(b"-")[0]) for i, *_ in c("XPENDING", "s", group, "-", "+", 100)]


def new(c, group: str) -> list[int]:
    reply = c("XREADGROUP", "GROUP", group, "c", "STREAMS", "s", ">")
    return [int(i.split(b"-")[0]) for i, _ in reply[0][1]] if reply else []


# ---- XDELEX --------------------------------------------------------------------------------------

@pytest.mark.parametrize("option", [[], ["KEEPREF"]])
def test_xdelex_leaves_what_groups_know(c, option):
    assert c("XDELEX", "s", *option, "IDS", 3, 3, 9, 3) == [1, -1, -1]
    assert (left(c), pending(c, "g")) == ([1, 2, 4, 5, 6], [3, 4])


def test_xdelex_removes_what_groups_know(c):
    assert c("XDELEX", "s", "IDS", 3, 2, 3, 9, "DELREF") == [1, 1, -1]
    assert (left(c), pending(c, "g"), pending(c, "h")) == ([1, 4, 5, 6], [4], [])
    assert c("XDEL", "s", 4) == 1
    assert c("XDELEX", "s", "DELREF", "IDS", 1, 4) == [-1] and pending(c, "g") == []


def test_xdelex_removes_what_no_group_needs(c):
    """1: read and acknowledged by both. 2: pending in h. 3: still to be given out by h. 9: h will
    come to it."""
    assert c("XDELEX", "s", "ACKED", "IDS", 6, 1, 2, 3, 9, 1, 2) == [1, 2, 2, 2, -1, 2]
    assert left(c) == [2, 3, 4, 5, 6]
    c("XACK", "s", "h", 2)
    assert c("XDELEX", "s", "ACKED", "IDS", 1, 2) == [1]
    c("XGROUP", "DESTROY", "s", "g"), c("XGROUP", "DESTROY", "s", "h")
    assert c("XDELEX", "s", "ACKED", "IDS", 2, 3, 9) == [1, -1]


def test_where_there_is_nothing(c):
    assert c("XDELEX", "none", "IDS", 2, 1, "x") == [-1, -1]
    assert c("XACKDEL", "none", "g", "IDS", 1, 1) == [-1]
    assert c("XACKDEL", "s", "none", "IDS", 2, 1, "x") == [-1, -1]
    assert c("EXISTS", "none") == 0


@pytest.mark.parametrize("command", [["XDELEX", "s"], ["XACKDEL", "s", "g"]])
def test_refusals_change_nothing(c, command):
    c("SET", "k", "v")
    before = c.replica.digest()
    for tail, refusal in [
            (["IDS", 0, 1], "ERR Number of IDs must be a positive integer"),
            (["IDS", "x", 1], "ERR Number of IDs must be a positive integer"),
            (["IDS", 2**63, 1], "ERR Number of IDs must be a positive integer"),
            (["IDS", 3, 1, 2], "ERR The `numids` parameter must match the number of arguments"),
            (["IDS", 2**62, 1], "ERR The `numids` parameter must match the number of arguments"),
            (["IDS", 1, 1, 2], "ERR syntax error"), (["FOO", "IDS", 1, 1], "ERR syntax error"),
            (["ACKED", "KEEPREF", "IDS", 1, 1], "ERR syntax error"),
            (["ACKED", "DELREF", 1], "ERR syntax error"),
            (["IDS", 2, 1, "x"], "ERR Invalid stream ID specified as stream command argument")]:
        assert c.error(*command, *tail) == refusal
    assert c.error(command[0], "k", *command[2:], "IDS", 1, 1).startswith("WRONGTYPE")
    assert c.replica.digest() == before


# ---- XACKDEL -------------------------------------------------------------------------------------

def test_xackdel(c):
    assert c("XACKDEL", "s", "g", "IDS", 4, 3, 3, 1, 9) == [1, -1, -1, -1]
    assert (left(c), pending(c, "g")) == ([1, 2, 4, 5, 6], [4])
    assert c("XACKDEL", "s", "h", "ACKED", "IDS", 1, 2) == [1] and left(c) == [1, 4, 5, 6]
    assert c("XACKDEL", "s", "g", "ACKED", "IDS", 1, 4) == [2]      # h has not given it out
    assert (left(c), pending(c, "g"), new(c, "h")) == ([1, 4, 5, 6], [], [4, 5, 6])


def test_xackdel_of_what_is_gone(c):
    c("XDEL", "s", 2, 3)
    assert c("XACKDEL", "s", "g", "IDS", 1, 3) == [1]
    assert c("XACKDEL", "s", "h", "IDS", 1, 2) == [1] and pending(c, "h") == []


def test_xackdel_for_all_groups(c):
    c("XREADGROUP", "GROUP", "h", "c", "STREAMS", "s", ">")
    assert c("XACKDEL", "s", "g", "DELREF", "IDS", 1, 3) == [1]
    assert pending(c, "h") == [2, 4, 5, 6]


# ---- XADD, XTRIM ---------------------------------------------------------------------------------

def test_trimming_removes_what_groups_know(c):
    assert c("XTRIM", "s", "MAXLEN", 3, "DELREF") == 3
    assert (left(c), pending(c, "g"), pending(c, "h")) == ([4, 5, 6], [4], [])
    c("XADD", "s", "DELREF", "MAXLEN", 1, "7-0", "f", "v")
    assert (left(c), pending(c, "g"), new(c, "g")) == ([7], [], [7])


def test_trimming_leaves_what_groups_know(c):
    assert c("XTRIM", "s", "KEEPREF", "MINID", 4) == 3 and pending(c, "g") == [3, 4]


def test_trimming_leaves_what_groups_need(c):
    assert c("XTRIM", "s", "MAXLEN", 0, "ACKED") == 1 and left(c) == [2, 3, 4, 5, 6]
    for group in ("g", "h"):
        c("XREADGROUP", "GROUP", group, "c", "STREAMS", "s", ">")
        c("XACK", "s", group, 5, 4)
    c("XADD", "s", "MAXLEN", 5, "ACKED", "7-0", "f", "v")
    assert left(c) == [2, 3, 5, 6, 7]               # the first that none needs
    assert c("XTRIM", "s", "MINID", 5, "ACKED") == 0
    assert c("XTRIM", "s", "MINID", 6, "ACKED") == 1 and left(c) == [2, 3, 6, 7]


@pytest.mark.parametrize("seed", range(8))
def test_trimming_beside_many_pending(seed):
    """Against what each group says of each entry by itself: runs of pending ones, gaps, what is
    gone, what is not given out yet, several groups."""
    rng, c = random.Random(seed), Client()
    for i in range(1, 400):
        c("XADD", "s", f"{i}-0", "f", i)
    for group in ("g", "h\xff")[:1 + seed % 2]:
        c("XGROUP", "CREATE", "s", group, rng.choice([0, 0, "50-0"]))
        for _ in range(rng.randrange(1, 8)):
            c("XREADGROUP", "GROUP", group, rng.choice("cd"), "COUNT", rng.randrange(60),
              *rng.choice([[], ["NOACK"]]), "STREAMS", "s", ">")
        for _ in range(rng.randrange(9)):
            first = rng.randrange(1, 400)
            c("XACK", "s", group, *range(first, first + rng.choice([1, 3, 40])))
    c("XDEL", "s", *rng.sample(range(1, 400), rng.choice([1, 100])))
    ids = left(c)
    twin = Client("b", epoch=1_700_000_000_001)
    exchange(c, twin)
    single = {i: twin("XDELEX", "s", "ACKED", "IDS", 1, i)[0] for i in ids}
    most = rng.choice([1000, 7, 0])
    gone = [i for i in ids if single[i] == 1][:most]
    assert c("XTRIM", "s", "MAXLEN", max(len(ids) - most, 0), "ACKED") == len(gone)
    assert left(c) == [i for i in ids if i not in gone]


def test_trimming_without_groups():
    c = Client()
    for i in range(1, 7):
        c("XADD", "s", "ACKED", "MAXLEN", 4, f"{i}-0", "f", i)
    assert left(c) == [3, 4, 5, 6]
    assert c("XTRIM", "s", "DELREF", "MAXLEN", 1) == 3


def test_one_option_only(c):
    assert c.error("XTRIM", "s", "KEEPREF", "ACKED", "MAXLEN", 3) == "ERR syntax error"
    assert c.error("XTRIM", "s", "ACKED") .startswith("ERR wrong number of arguments")
    assert c.error("XADD", "s", "ACKED", "DELREF", "*", "f", "v") == (
        "ERR Invalid stream ID specified as stream command argument")


def test_many(c):
    """More than are looked at together; first what is needed stands in the way."""
    n = 3000
    c = Client()
    fill(c, n)
    for group in ("g", "h"):
        c("XREADGROUP", "GROUP", group, "c", "STREAMS", "s", ">")
        c("XACK", "s", group, *range(1001, n + 1))
    assert c("XTRIM", "s", "MAXLEN", "=", 1500, "ACKED") == 1500
    assert left(c) == [*range(2, 1001), *range(2500, n + 1)]


# ---- two replicas --------------------------------------------------------------------------------

def test_each_knows_what_it_has_seen(c):
    b = Client("b")
    c("XGROUP", "DESTROY", "s", "h")
    exchange(c, b)
    c("XACK", "s", "g", 3)
    assert c("XDELEX", "s", "ACKED", "IDS", 2, 2, 3) == [1, 1]
    assert b("XDELEX", "s", "ACKED", "IDS", 2, 2, 3) == [1, 2]      # it has not seen the XACK
    b("XREADGROUP", "GROUP", "g", "d", "COUNT", 1, "STREAMS", "s", ">")
    assert c("XDELEX", "s", "DELREF", "IDS", 2, 4, 5) == [1, 1]
    exchange(c, b)
    assert left(c) == left(b) == [1, 6]
    assert pending(c, "g") == pending(b, "g") == [5]                # given out where not seen
    assert c.replica.digest() == b.replica.digest()


def test_acknowledged_beats_a_claim(c):
    b = Client("b")
    exchange(c, b)
    assert c("XACKDEL", "s", "g", "DELREF", "IDS", 1, 3) == [1]
    assert len(b("XCLAIM", "s", "g", "d", 0, 3)) == 1
    exchange(c, b)
    assert pending(c, "g") == pending(b, "g") == [4] and left(b) == [1, 2, 4, 5, 6]

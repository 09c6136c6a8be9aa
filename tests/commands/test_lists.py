"""List commands in one replica, where random sequences beside redis-server (tests/compat) meet too
rarely."""
from collections import deque
from itertools import product

import pytest

from tests.commands.run import Client


@pytest.fixture
def c():
    return Client()


@pytest.mark.parametrize("n,wherefrom,whereto",
                         list(product((1, 2, 5), ("LEFT", "RIGHT"), ("LEFT", "RIGHT"))))
def test_a_list_turned_round_is_never_empty(c, n, wherefrom, whereto):
    """LMOVE from a list to itself: its deadline stays, even where it has one element."""
    model = deque(b"%d" % i for i in range(n))
    c("RPUSH", "l", *model)
    c("PEXPIRE", "l", 100_000)
    for _ in range(2 * n + 1):
        element = model.popleft() if wherefrom == "LEFT" else model.pop()
        (model.appendleft if whereto == "LEFT" else model.append)(element)
        assert c("LMOVE", "l", "l", wherefrom, whereto) == element
        assert c("LRANGE", "l", 0, -1) == list(model) and c("PTTL", "l") == 100_000
    c.replica.check()


def test_moving_the_last_element_elsewhere_ends_the_list_and_its_deadline(c):
    c("RPUSH", "l", "a")
    c("PEXPIRE", "l", 100_000)
    assert c("RPOPLPUSH", "l", "m") == b"a"
    assert c("EXISTS", "l") == 0 and c("PTTL", "m") == -1
    c("RPUSH", "l", "b")
    assert c("PTTL", "l") == -1


def test_many_inserts_to_both_sides_of_the_newest(c):
    """Each answers the length, also where nothing but such inserts is left of the list (whose
    moving elsewhere was once a use after free)."""
    c("RPUSH", "l", "first", "newest-1", "last")
    c("LREM", "l", 1, "first")
    for i in range(600):
        if i == 2:
            assert c("LREM", "l", 1, "last") == c("LREM", "l", 1, "newest-1") == 1
        length = c("LLEN", "l")
        argv = ("BEFORE", "AFTER")[i % 2], f"newest{i - 1}", f"newest{i}"
        assert c("LINSERT", "l", *argv) == length + 1
    there = c("LRANGE", "l", 0, -1)
    assert len(there) == len(set(there)) == 600


# ---- LMOVEM --------------------------------------------------------------------------------------

SIDES = ("LEFT", "RIGHT")


def moved(lists: dict, source: str, to: str, from_, to_, *how) -> list | None:
    """What LMOVEM answers; lists is changed. All are taken before the first is given."""
    selector, most, order = how or ("COUNT", 1, "OBO")
    there = lists[source]
    if not there or (selector == "EXACTLY" and most > len(there)):
        return None
    n, left = min(most, len(there)), max(len(there) - most, 0)
    taken = there[:n] if from_ == "LEFT" else there[left:]
    lists[source] = there[n:] if from_ == "LEFT" else there[:left]
    if order == "OBO" and from_ == to_:
        taken = taken[::-1]
    lists[to] = taken + lists[to] if to_ == "LEFT" else lists[to] + taken
    return taken


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("from_,to_", list(product(SIDES, SIDES)))
def test_several_are_moved(resp, from_, to_):
    """Of every length, to another list and to itself, a list that is there or not."""
    c = Client(resp=resp)
    for length, there, same, how in product(
            range(5), (0, 2), (False, True),
            [(), *product(("COUNT", "EXACTLY"), (1, 2, 4, 9, 2**63 - 1), ("OBO", "BULK"))]):
        c("DEL", "l", "m")
        lists = {"l": [b"%d" % i for i in range(length)], "m": [b"x", b"y"][:there]}
        for key, values in lists.items():
            if values:
                c("RPUSH", key, *values)
        to = "l" if same else "m"
        want = moved(lists, "l", to, from_, to_, *how)
        argv = ("LMOVEM", "l", to, from_, to_, *how)
        if want is None:
            assert c.raw(*argv) == (b"*-1\r\n" if resp == 2 else b"_\r\n"), argv
        else:
            assert c(*argv) == want, argv
        for key, values in lists.items():
            assert c("LRANGE", key, 0, -1) == values, argv
            assert c("EXISTS", key) == (len(values) > 0)
        c.replica.check()


def test_one_by_one_to_another_list_is_as_many_single_moves(c):
    for from_, to_, n in product(SIDES, SIDES, (1, 3, 5)):
        c("DEL", "l", "m", "ll", "mm")
        for key in ("l", "ll"):
            c("RPUSH", key, *range(5))
        for key in ("m", "mm"):
            c("RPUSH", key, "x", "y")
        c("LMOVEM", "l", "m", from_, to_, "COUNT", n, "OBO")
        for _ in range(n):
            c("LMOVE", "ll", "mm", from_, to_)
        assert c("LRANGE", "l", 0, -1) == c("LRANGE", "ll", 0, -1)
        assert c("LRANGE", "m", 0, -1) == c("LRANGE", "mm", 0, -1)


@pytest.mark.parametrize("argv,text", [
    ("LMOVEM l m LEFT", "wrong number of arguments for 'lmovem' command"),
    ("LMOVEM l m LEFT RIGHT COUNT", "syntax error"),
    ("LMOVEM l m LEFT RIGHT COUNT 2", "syntax error"),
    ("LMOVEM l m LEFT RIGHT COUNT 2 OBO x", "syntax error"),
    ("LMOVEM l m LEFT RIGHT BAD 2 OBO", "syntax error"),
    ("LMOVEM l m LEFT RIGHT OBO COUNT 2", "syntax error"),
    ("LMOVEM l m LEFT RIGHT COUNT 2 BAD", "syntax error"),
    ("LMOVEM l m UP RIGHT COUNT x OBO", "syntax error"),
    ("LMOVEM l m LEFT DOWN COUNT 2 OBO", "syntax error"),
    *((f"LMOVEM l m LEFT RIGHT {word} {n} {order}", "count should be greater than 0")
      for word in ("COUNT", "EXACTLY") for n in ("0", "-1", "a", "1.5", str(2**63))
      for order in ("BULK", "BAD"))])
def test_what_lmovem_refuses(c, argv, text):
    c("RPUSH", "l", "a", "b", "c")
    assert c.error(*argv.split()) == "ERR " + text
    assert c("LRANGE", "l", 0, -1) == [b"a", b"b", b"c"] and c("EXISTS", "m") == 0


def test_lmovem_and_other_types(c):
    """Nothing is moved; and where there are too few, nobody looks at the destination."""
    wrong = "WRONGTYPE Operation against a key holding the wrong kind of value"
    c("SET", "s", "x")
    c("RPUSH", "l", "a", "b")
    assert c.error("LMOVEM", "s", "l", "LEFT", "RIGHT") == wrong
    assert c.error("LMOVEM", "l", "s", "LEFT", "RIGHT", "COUNT", 2, "BULK") == wrong
    assert c.error("LMOVEM", "s", "s", "LEFT", "LEFT") == wrong
    assert c("LMOVEM", "l", "s", "LEFT", "RIGHT", "EXACTLY", 3, "BULK") is None
    assert c("LMOVEM", "none", "s", "LEFT", "RIGHT") is None
    assert c("LRANGE", "l", 0, -1) == [b"a", b"b"] and c("GET", "s") == b"x"


def test_lmovem_and_deadlines(c):
    """A list that moves to itself keeps its own, one that goes loses it."""
    c("RPUSH", "l", *range(4))
    c("PEXPIRE", "l", 100_000)
    for from_, to_, order in product(SIDES, SIDES, ("OBO", "BULK")):
        c("LMOVEM", "l", "l", from_, to_, "COUNT", 9, order)
        assert c("PTTL", "l") == 100_000 and c("LLEN", "l") == 4
    c("LMOVEM", "l", "m", "LEFT", "LEFT", "EXACTLY", 4, "BULK")
    assert c("EXISTS", "l") == 0 and c("PTTL", "m") == -1
    c("RPUSH", "l", "b")
    assert c("PTTL", "l") == -1


def test_lmovem_is_one_op_or_none(c):
    c("RPUSH", "l", "a")
    assert c.effects("LMOVEM", "l", "m", "LEFT", "LEFT", "EXACTLY", 2, "OBO") == 0
    c("WATCH", "l", "m")
    c.other()("LMOVEM", "l", "m", "LEFT", "LEFT", "EXACTLY", 2, "OBO")
    c("MULTI")
    assert c("EXEC") == []
    c("WATCH", "m")
    assert c.other().effects("LMOVEM", "l", "m", "LEFT", "LEFT") == 1
    c("MULTI")
    assert c("EXEC") is None
    c("RPUSH", "l", *range(100))
    assert c.effects("LMOVEM", "l", "m", "LEFT", "LEFT", "COUNT", 50, "BULK") == 1


def test_values_of_all_forms_are_moved(c):
    """Numbers, empty and long ones, which lists hold in different ways; many at once."""
    values = [b"", b"7", b"-12345678901", b"x" * 100, b"y" * 70_000, b"0012", b"\x00\xff"] * 40
    c("RPUSH", "l", *values)
    assert c("LMOVEM", "l", "m", "RIGHT", "LEFT", "COUNT", 200, "BULK") == values[80:]
    assert c("LRANGE", "m", 0, -1) == values[80:] and c("LRANGE", "l", 0, -1) == values[:80]
    assert c("LMOVEM", "m", "m", "LEFT", "RIGHT", "COUNT", 150, "BULK") == values[80:230]
    assert c("LRANGE", "m", 0, -1) == values[230:] + values[80:230]
    c.replica.check()
    assert c.replica.stats()["torn"] == 0

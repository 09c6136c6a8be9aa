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

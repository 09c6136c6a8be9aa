"""What is said of clocks: which covers which, and what is lacking."""
from crdtredis import clocks


def test_clocks():
    assert (clocks.observed({1: 5}, {1: 5}) and clocks.observed({1: 5}, {})
            and not clocks.observed({1: 5}, {2: 1}))
    assert clocks.lacking({1: 5, 2: 3}, {1: 4, 2: 9, 3: 1}) == {2: 9, 3: 1}
    assert clocks.behind({1: 5, 2: 3}, {1: 4, 2: 9, 3: 1}) == 7
    clock = {1: 5, 2: 3}
    clocks.join(clock, {1: 4, 2: 9, 3: 1})
    assert clock == {1: 5, 2: 9, 3: 1}


def test_only_what_stands_still_is_overdue():
    assert clocks.overdue({1: 5}, {1: 9}, None) == {}                     # never compared before
    assert clocks.overdue({1: 5}, {1: 9}, {1: 4}) == {}                   # arriving
    # 1 stands still, 2 has moved
    assert clocks.overdue({1: 5, 2: 1}, {1: 9, 2: 2}, {1: 5}) == {1: 9}
    # an actor nobody has delivered a thing of
    assert clocks.overdue({}, {3: 1}, {}) == {3: 1}

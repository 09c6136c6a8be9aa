"""The public contract of concurrent commands on consumer groups, on three real server processes
(see test_semantics.py): what a group knows, and what is pending."""
from __future__ import annotations

import time

import pytest

from tests.real.cluster import until
from tests.real.test_semantics import LATER


def group(w, *ids):
    """g of stream s, with entries of these ids, which A's consumer `a` is given."""
    w.A("XGROUP", "CREATE", "s", "g", "0", "MKSTREAM")
    for i in ids:
        w.A("XADD", "s", f"{i}-1", "f", i)
    if ids:
        assert give(w.A, "a") == list(ids)
    w.S()


def give(replica, consumer):
    """The ids that the consumer is given there."""
    reply = replica("XREADGROUP", "GROUP", "g", consumer, "STREAMS", "s", ">")
    return [int(i.split(b"-")[0]) for i, _ in reply[0][1]] if reply else []


def pending(w):
    """id -> owner, alike at all replicas."""
    a, b, c = ({int(i.split(b"-")[0]): owner.decode() for i, owner, _, _ in
                replica("XPENDING", "s", "g", "-", "+", 100)} for replica in (w.A, w.B, w.C))
    assert a == b == c
    return a


def test_a_late_entry_is_new_to_a_group(w):
    group(w)
    w.apart()
    w.A("XADD", "s", "5-1", "f", 1)
    w.B("XADD", "s", "6-1", "f", 2)
    assert give(w.B, "b") == [6]
    w.S()
    got = []
    until(lambda: got.extend(give(w.B, "b")) or got == [5])
    w.S()
    assert pending(w) == {5: "b", 6: "b"} and give(w.A, "a") == []


def test_acknowledged_is_acknowledged(w):
    """Also where another consumer claims it."""
    group(w, 5, 6, 7)
    w.apart()
    assert w.A("XACK", "s", "g", "5-1", "6-1") == 2
    assert w.B("XCLAIM", "s", "g", "b", 0, "5-1", "7-1", "JUSTID") == [b"5-1", b"7-1"]
    w.S()
    assert pending(w) == {7: "b"}


@pytest.mark.parametrize("later", "BC")
def test_of_two_claims_the_later_holds(w, later):
    group(w, 5)
    w.apart()
    for name in "BC" if later == "C" else "CB":
        getattr(w, name)("XCLAIM", "s", "g", name, 0, "5-1")
        time.sleep(LATER)
    w.S()
    assert pending(w) == {5: later}


def test_a_delivery_survives_the_removal_of_its_consumer(w):
    group(w, 5)
    w.apart()
    w.A("XADD", "s", "6-1", "f", 2)
    assert give(w.A, "a") == [6]
    assert w.B("XGROUP", "DELCONSUMER", "s", "g", "a") == 1
    w.S()
    assert pending(w) == {6: "a"}


@pytest.mark.parametrize("removal", [("XGROUP", "DESTROY", "s", "g"), ("DEL", "s")])
def test_a_group_that_nobody_had_seen_survives(w, removal):
    group(w, 5)
    w.apart()
    assert w.A(*removal) == 1
    w.B("XGROUP", "DESTROY", "s", "g")
    w.B("XGROUP", "CREATE", "s", "g", "0")
    w.S()
    assert [row[1] for row in w.all("XINFO", "GROUPS", "s")] == [b"g"] and pending(w) == {}

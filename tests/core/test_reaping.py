"""Who removes what has expired: the replica that set the deadline at once, the others after a
grace; so a key costs one op, not one per replica."""
import pytest

from crdtredis._core import Replica, probe_get, probe_make

NOW = 1_700_000_000_000
GRACE = 10_000


def pair(epoch: int = 1) -> tuple[Replica, Replica]:
    a, b = (Replica(name, epoch, seed=1, expiry_grace=GRACE) for name in "ab")
    for r in (a, b):
        r.now = NOW
        r.declare("a", epoch)
        r.declare("b", epoch)
    return a, b


def expiring(r: Replica, at: int) -> bytes:
    probe_make(r, [("set", 0, b"k", b"v"), ("expire", 0, b"k", at)])
    return r.take_ops()


def removes(r: Replica, now: int) -> bool:
    r.now = now
    r.tick()
    return bool(r.take_ops())


def test_others_leave_a_grace_to_the_replica_that_set_the_deadline():
    a, b = pair()
    b.receive(expiring(a, NOW + 5))
    b.take_ops()
    assert not removes(b, NOW + 6) and probe_get(b, 0, b"k") is None      # hidden at once
    assert not removes(b, NOW + 5 + GRACE)
    # nobody else has, perhaps nobody else is there
    assert removes(b, NOW + 6 + GRACE)


def test_who_set_the_deadline_removes_the_key_at_once_and_nobody_else_has_to():
    a, b = pair()
    b.receive(expiring(a, NOW + 5))
    b.take_ops()
    a.now = NOW + 6
    a.tick()
    b.receive(a.take_ops())
    b.take_ops()
    assert b.keys() == (0, 0) and not removes(b, NOW + 10 * GRACE)


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_deadline_that_was_taken_back_removes_nothing(who):
    a, b = pair()
    b.receive(expiring(a, NOW + 5))
    b.take_ops()
    r = {"a": a, "b": b}[who]
    probe_make(r, [("expire", 0, b"k", 0)])
    assert r.take_ops() and not removes(r, NOW + 10 * GRACE) and probe_get(r, 0, b"k") == b"v"

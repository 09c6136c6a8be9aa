"""Consumer groups in the kernel: what two replicas make of deliveries, claims and rounds, what a
full sync and a checkpoint keep of them, bounds, and effects and items that mean nothing. All orders
of a few ops are in tests/simulation/test_interleavings.py, whole clusters in world.py."""
import random

import pytest

from crdtredis._core import Replica, StateReader, probe_groups, probe_memory
from crdtredis.errors import DamagedBatch, DamagedState
from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.test_join import all_of, join, same
from tests.core.test_state import Node, stream, taken
from tests.core.test_streams import checkpoint
from tests.simulation.oracle_groups import GROUPS
from tests.simulation.views import told_groups


READ = "XREADGROUP GROUP g x STREAMS s >"


def read(node, consumer="x", *options, group="g", key="s", after=">") -> list[str]:
    reply = node("XREADGROUP", "GROUP", group, consumer, *options, "STREAMS", key, after)
    return [i.decode() for i, _ in reply[0][1]] if reply else []


def pending(node, key="s", group="g") -> list[tuple]:
    return [(i.decode(), owner.decode(), n)
            for i, owner, _, n in node("XPENDING", key, group, "-", "+", 1000)]


def new(node, key=b"s") -> list[tuple]:
    return {g: told[1] for g, told in told_groups(node.replica, 0, key).items()}[b"g"]


def two(*ids) -> tuple[Node, Node]:
    """Replicas with entries of a and a group from the beginning."""
    a, b = Node("a"), Node("b", seed=2)
    for i in ids:
        a("XADD", "s", i, "f", "v")
    a("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
    b.receive(a.log)
    a.told, b.told = len(a.log), len(b.log)
    return a, b


def meet(a: Node, b: Node) -> None:
    to_a, to_b = b.log[b.told:], a.log[a.told:]
    a.told, b.told = len(a.log), len(b.log)
    a.receive(to_a), b.receive(to_b)
    a.replica.check(), b.replica.check()
    assert a.replica.digest() == b.replica.digest()
    assert told_groups(a.replica, 0, b"s") == told_groups(b.replica, 0, b"s")


def test_what_either_gave_out_is_given_out():
    a, b = two("1-1", "2-1", "3-1")
    assert read(a, "x", "COUNT", 2) == ["1-1", "2-1"] and read(b, "y", "COUNT", 1) == ["1-1"]
    meet(a, b)
    assert read(a, "x") == ["3-1"] and pending(b) == [("1-1", "y", 1), ("2-1", "x", 1)] or (
        pending(b) == [("1-1", "x", 1), ("2-1", "x", 1)])
    meet(a, b)
    assert read(b, "y") == []


def test_a_late_entry_with_an_old_id_is_new():
    a, b = two("5-1", "9-1")
    b("XADD", "s", "12-1", "f", "v")
    assert read(a) == ["5-1", "9-1"]
    a("XADD", "s", "20-1", "f", "v")
    assert read(a) == ["20-1"]
    meet(a, b)
    assert read(a) == ["12-1"] and read(a) == []


def test_a_group_is_behind_what_it_had_seen():
    a, b = two()
    b("XADD", "s", "5-1", "f", "v")
    a("XADD", "s", "7-1", "f", "v"), a("XGROUP", "SETID", "s", "g", "$")
    assert read(a) == []
    meet(a, b)
    assert read(a) == ["5-1"], "its id is below, but it had not been seen"


def test_a_round_counts_what_was_given_out_in_it():
    a, b = two("1-1", "2-1")
    a("XGROUP", "SETID", "s", "g", "1-1"), read(b)
    meet(a, b)
    assert read(b, "y") == ["2-1"]
    b.replica.now += 5
    a("XGROUP", "SETID", "s", "g", "2-1"), b("XGROUP", "SETID", "s", "g", "0")
    meet(a, b)
    assert new(a) == [(1, 1), (2, 1)] and read(a, "z") == ["1-1", "2-1"]


def test_what_hides_at_a_place_is_new_when_it_shows():
    a, b = two()
    a("XADD", "s", "5-1", "f", "a"), a("XADD", "s", "6-1", "f", "a")
    b.replica.now += 5
    b("XADD", "s", "5-1", "f", "b")
    to_a = b.log[b.told:]
    c = Node("c", seed=3)
    c.receive(b.log)                            # it knows b's only
    a.receive(to_a)
    assert read(a) == ["5-1", "6-1"] and read(a) == []
    c("XDEL", "s", "5-1")
    a.receive(c.log)
    assert read(a) == ["5-1"], "a's, which was a hole below 6-1"
    b.receive(a.log[a.told:]), b.receive(c.log)
    for node in (a, b):
        node.replica.check()
        assert new(node) == [] and node.replica.digest() == a.replica.digest()
    c("XDEL", "s", "5-1")
    for node in (a, b):
        node.receive(c.log)


@pytest.mark.parametrize("above", ["6-1", "20-1"])
def test_what_hides_below_a_top_that_was_set_back(above):
    a, b = two("10-1")
    assert read(a) == ["10-1"]
    a("XTRIM", "s", "MAXLEN", 0), a("XSETID", "s", "1-0")
    meet(a, b)
    a("XADD", "s", "5-1", "f", "a"), a("XADD", "s", above, "f", "a")
    b.replica.now += 5
    b("XADD", "s", "5-1", "f", "b")
    c = Node("c", seed=3)
    c.receive(b.log)
    a.receive(b.log[b.told:])
    assert read(a) == ["5-1", above]
    c("XDEL", "s", "5-1")                       # b's, for it knows no other
    a.receive(c.log)
    assert read(a) == ["5-1"], "a's"
    b.receive(a.log[a.told:]), b.receive(c.log)
    assert new(b) == [] and b.replica.digest() == a.replica.digest()


def test_what_comes_where_an_actor_had_nothing_for_long():
    a, b, c, d = (Node(name, seed=i) for i, name in enumerate("abcd", 1))
    a("XADD", "s", "1-1", "f", "a"), a("XADD", "s", "400-1", "f", "a")
    c.receive(a.log)
    b.replica.now += 5
    for i in range(100, 200):
        b("XADD", "s", f"{i}-1", "f", "b")
    c("XGROUP", "CREATE", "s", "g", 0)
    c.receive(b.log), d.receive(b.log)
    assert len(read(c)) == 102, "b's are walked over from 400-1 to 1-1"
    told = len(a.log)
    a("XTRIM", "s", "MAXLEN", 0), a("XSETID", "s", "1-1")
    a("XADD", "s", "150-1", "f", "a"), a("XADD", "s", "500-1", "f", "a")
    c.receive(a.log[told:])
    c.replica.check()
    assert read(c) == ["500-1"]
    d("XDEL", "s", "150-1")
    c.receive(d.log)
    assert read(c) == ["150-1"], "a's, which b's had hidden"
    c.replica.check()


def op(node, *commands) -> None:
    node("MULTI")
    for command in commands:
        node(*command.split())
    assert not [r for r in node("EXEC") if isinstance(r, Exception)]


@pytest.mark.parametrize("commands, left", [
    (["XADD s 10-1 f v", READ, "XTRIM s MAXLEN 0", "XSETID s 1-0", "XADD s 5-1 f v"], [(5, 1)]),
    (["XADD s 10-1 f v", READ, "XTRIM s MAXLEN 0", "XSETID s 1-0", "XADD s 10-1 f v"], [(10, 1)]),
    (["XADD s 10-1 f v", READ, "XTRIM s MAXLEN 0", "XSETID s 1-0", "XADD s 5-1 f v", READ], []),
    (["XADD s 10-1 f v", "XTRIM s MAXLEN 0", "XSETID s 1-0", "XADD s 5-1 f v",
      "XADD s 6-1 f v"], [(5, 1), (6, 1)]),
    (["XADD s 10-1 f v", "XGROUP SETID s g $", "XTRIM s MAXLEN 0", "XSETID s 1-0",
      "XADD s 5-1 f v", "XADD s 10-1 f v"], [(5, 1), (10, 1)]),
    (["XADD s 1-1 f v", "XGROUP SETID s g 9-0", "XADD s 5-1 f v"], [(5, 1)]),
    (["XADD s 1-1 f v", "XADD s 10-1 f v", READ, "COPY s c", "XTRIM c MAXLEN 0", "XSETID c 1-0",
      "XADD c 5-1 f v", "RENAME c s"], [(5, 1)])])
def test_what_an_op_adds_behind_a_word_on_a_group_is_new(commands, left):
    a, b = two()
    op(a, *commands)
    meet(a, b)
    assert new(a) == left
    assert read(started(b)) == [f"{ms}-{seq}" for ms, seq in left] == read(b)
    meet(a, b)
    assert read(a) == []


def apart(n: int) -> tuple[Node, Node]:
    """Each has made the group, not knowing of the other; a has given out n entries, and b's CREATE
    is the later."""
    a, b = Node("a"), Node("b", seed=2)
    a("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
    for i in range(1, n + 1):
        a("XADD", "s", f"{i}-1", "f", "v")
    b.replica.now += 5
    b("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
    assert read(a) == [f"{i}-1" for i in range(1, n + 1)]
    a.told = b.told = 0
    meet(a, b)
    return a, b


def test_what_was_given_out_apart_is_no_hole():
    a, b = apart(4000)
    before = probe_memory()[1]
    assert read(a) == read(b) == [], "either has been given out"
    a("XADD", "s", "5000-1", "f", "v")
    assert read(a) == ["5000-1"]
    meet(a, b)
    a("XADD", "s", "5001-1", "f", "v"), meet(a, b)
    assert read(b, "y") == ["5001-1"]
    meet(a, b)
    assert a("XPENDING", "s", "g")[0] == 4002 and probe_memory()[1] < before + 8000
    a("XTRIM", "s", "MAXLEN", 1)
    meet(a, b)
    assert read(a) == read(b) == []


def test_what_one_of_two_had_not_given_out_is_new():
    a, b = apart(3)
    a("XADD", "s", "4-1", "f", "v"), a("XADD", "s", "5-1", "f", "v")
    meet(a, b)
    assert read(b, "y", "COUNT", 1) == ["4-1"]
    assert read(a) == ["4-1", "5-1"]
    meet(a, b)
    assert read(a) == read(b) == []


def test_a_hole_goes_with_its_entry():
    a, b = two()
    a("XADD", "s", "5-1", "f", "a"), a("XADD", "s", "6-1", "f", "a")
    b.replica.now += 5
    b("XADD", "s", "5-1", "f", "b")
    a.receive(b.log[b.told:])
    b.receive(a.log[a.told:])
    a.told, b.told = len(a.log), len(b.log)
    read(a), b("XTRIM", "s", "MINID", "6-1")    # 5-1 of a is a hole, and goes
    meet(a, b)


def test_an_acknowledgement_beats_a_claim():
    a, b = two("1-1", "2-1")
    read(a)
    meet(a, b)
    a("XACK", "s", "g", "1-1")
    assert b("XCLAIM", "s", "g", "y", 0, "1-1", "2-1", "JUSTID") == [b"1-1", b"2-1"]
    meet(a, b)
    assert pending(a) == [("2-1", "y", 1)]


def test_a_delivery_that_an_acknowledgement_had_not_seen_stays():
    a, b = two("1-1")
    read(a)
    meet(a, b)
    b("XGROUP", "SETID", "s", "g", 0)
    assert read(b, "y") == ["1-1"]
    assert a("XACK", "s", "g", "1-1") == 1
    meet(a, b)
    assert pending(a) == [("1-1", "y", 1)]


def test_the_later_claim_holds():
    a, b = two("1-1")
    read(a)
    meet(a, b)
    b.replica.now += 5
    for node, consumer in ((a, "y"), (b, "z")):
        node("XCLAIM", "s", "g", consumer, 0, "1-1")
    meet(a, b)
    assert pending(a) == [("1-1", "z", 2)]


def test_a_group_that_was_destroyed_takes_all_with_it():
    a, b = two("1-1", "2-1")
    a("XGROUP", "DESTROY", "s", "g"), read(b), b("XGROUP", "CREATECONSUMER", "s", "g", "z")
    meet(a, b)
    assert probe_groups(a.replica, 0, b"s") == {}
    a("XGROUP", "CREATE", "s", "g", 0)
    meet(a, b)
    assert pending(a) == [] and a("XINFO", "CONSUMERS", "s", "g") == []


def test_two_that_did_not_know_of_each_other():
    a, b = Node("a"), Node("b", seed=2)
    a.told = b.told = 0
    for node in (a, b):
        node("XADD", "s", "*", "f", "v")
        node("XGROUP", "CREATE", "s", "g", 0)
    at_a, at_b = read(a, "x"), read(b, "y")
    assert len(at_a) == len(at_b) == 1
    meet(a, b)
    assert read(a) == [] and read(b, "y") == [], "what either has given out counts"
    assert [(o, n) for _, o, n in sorted(pending(b), key=lambda p: p[1])] == [("x", 1), ("y", 1)]
    a("XACK", "s", "g", *at_b)
    a("XGROUP", "DESTROY", "s", "g")
    meet(a, b)
    assert probe_groups(b.replica, 0, b"s") == {}


def worked(seed: int, n: int = 120) -> tuple[Node, Node]:
    """Two replicas that have met now and then, and have each done something since."""
    rng = random.Random(seed)
    a, b = two("1-1", "2-1")
    for i in range(n):
        node, other = rng.choice([(a, b), (b, a)])
        node.replica.now += rng.randrange(3)
        ids = [f"{rng.randrange(3, 90)}-1" for _ in range(3)]
        reads = "XREADGROUP", "GROUP", "g", rng.choice("xyz"), "COUNT", 3, "STREAMS", "s", ">"
        commands = [("XADD", "s", rng.choice(["*", f"{i + 3}-1"]), "f", i)] * 3 + [reads] * 3 + [
            ("XACK", "s", "g", *ids), ("XCLAIM", "s", "g", rng.choice("xyz"), 0, *ids, "FORCE"),
            ("XNACK", "s", "g", "FAIL", "IDS", 3, *ids, "FORCE"),
            ("XDEL", "s", *ids), ("XGROUP", "SETID", "s", "g", ids[0])]
        node(*rng.choice(commands))
        if rng.random() < 0.05:
            meet(a, b)
    return a, b


@pytest.mark.parametrize("most", [1, 300, 64 << 10])
def test_a_full_sync_joins_what_both_did(most):
    for seed in range(20):
        a, b = worked(seed)
        wanted = all_of(a.log, b.log)
        of_a, of_b = stream(a.replica, most), stream(b.replica, most)
        join(a.replica, of_b, most=3)
        join(b.replica, of_a, most=3)
        for node in (a, b):
            same(node.replica, wanted)
            assert told_groups(node.replica, 0, b"s") == told_groups(wanted, 0, b"s")


def hiding() -> tuple[Node, Node, Node]:
    """At a and b an entry of a hides behind one of b and is a hole, for a has given out the next; c
    knows b's alone."""
    a, b = two()
    a("XADD", "s", "5-1", "f", "a"), a("XADD", "s", "6-1", "f", "a")
    b.replica.now += 5
    b("XADD", "s", "5-1", "f", "b")
    c = Node("c", seed=3)
    c.receive(b.log)
    a.receive(b.log[b.told:])
    assert read(a) == ["5-1", "6-1"]
    b.receive(a.log[a.told:])
    return a, b, c


def test_a_full_sync_of_a_hole_that_one_has_given_out():
    a, b, c = hiding()
    c("XDEL", "s", "5-1")
    a.receive(c.log), b.receive(c.log)
    assert new(b) == [(5, 1)] and read(a) == ["5-1"]
    b("XADD", "s", "7-1", "f", "b")
    wanted = all_of(c.log, a.log, b.log)
    of_a, of_b = stream(a.replica), stream(b.replica)
    join(a.replica, of_b), join(b.replica, of_a)
    for node in (a, b):
        same(node.replica, wanted)
        assert new(node) == [(7, 1)]


def test_a_full_sync_of_a_hole_that_one_knows_to_be_gone():
    a, b, c = hiding()
    b("XTRIM", "s", "MAXLEN", 0), b("FLUSHALL")
    a("XADD", "s", "9-1", "f", "a")
    wanted = all_of(c.log, a.log, b.log)
    of_a, of_b = stream(a.replica), stream(b.replica)
    join(a.replica, of_b), join(b.replica, of_a)
    for node in (a, b):
        same(node.replica, wanted)


def test_a_full_sync_joins_what_was_counted():
    a, b = two("1-1")
    read(b, "y", "NOACK")
    a("XADD", "s", "2-1", "f", "v")         # so neither knows all that the other does
    wanted = all_of(a.log, b.log)
    of_a, of_b = stream(a.replica), stream(b.replica)
    join(a.replica, of_b), join(b.replica, of_a)
    for node in (a, b):
        same(node.replica, wanted)
        assert node("XINFO", "GROUPS", "s")[0][-4:] == [b"entries-read", 1, b"lag", 1]


def test_a_full_sync_of_what_was_under_a_group_that_is_gone():
    for seed in range(3):
        a, b = two("1-1", "2-1")
        b("FLUSHALL") if seed else b("XGROUP", "DESTROY", "s", "g")
        read(a), a("XADD", "s", "3-1", "f", "v")
        if seed == 2:
            b("XADD", "s", "4-1", "f", "v")
        wanted = all_of(a.log, b.log)
        of_a, of_b = stream(a.replica), stream(b.replica)
        join(a.replica, of_b), join(b.replica, of_a)
        for node in (a, b):
            same(node.replica, wanted)
            assert probe_groups(node.replica, 0, b"s") == {}


def restored(*ids) -> Node:
    """A replica with a stream that is no counter, so that nothing is left of it when it goes."""
    of, a = Node("d", seed=4), Node("a")
    for i in ids:
        of("XADD", "s", i, "f", "v")
    a("RESTORE", "s", 0, of("DUMP", "s"))
    return a


def test_an_empty_replica_takes_no_record_of_a_group_that_it_knows_to_be_gone():
    a, b = restored("1-1", "2-1"), Node("b", seed=2)
    a("XGROUP", "CREATE", "s", "g", 0)
    b.receive(a.log)
    b("FLUSHALL"), read(a)
    wanted = all_of(a.log, b.log)
    join(b.replica, stream(a.replica))
    same(b.replica, wanted)


def test_an_empty_replica_takes_no_hole_of_an_entry_that_it_knows_to_be_gone():
    a, b, c = restored("5-1", "6-1"), Node("b", seed=2), Node("c", seed=3)
    c.replica.now += 5
    c("XADD", "s", "5-1", "f", "c")
    b.receive(a.log), c.receive(a.log)
    b("FLUSHALL")
    c("XGROUP", "CREATE", "s", "g", 0)
    assert read(c) == ["5-1", "6-1"]            # a's 5-1, which hides, is a hole
    wanted = all_of(a.log, b.log, c.log)
    join(b.replica, stream(c.replica))
    same(b.replica, wanted)


def test_a_full_sync_keeps_the_later_word_about_an_owner():
    a, b = two("1-1", "2-1")
    read(a)
    meet(a, b)
    a("XCLAIM", "s", "g", "y", 0, "1-1")
    b("XCLAIM", "s", "g", "z", 0, "2-1")
    wanted = all_of(a.log, b.log)
    of_a, of_b = stream(a.replica), stream(b.replica)
    join(a.replica, of_b), join(b.replica, of_a)
    for node in (a, b):
        same(node.replica, wanted)
        assert pending(node) == [("1-1", "y", 2), ("2-1", "z", 2)]


@pytest.mark.parametrize("most", [1, 300, 64 << 10])
def test_a_checkpoint_keeps_them(most):
    a, _ = worked(7, 400)
    again = taken(checkpoint(a.replica, most), "a")
    assert again.replica.digest() == a.replica.digest()
    assert probe_groups(again.replica, 0, b"s") == probe_groups(a.replica, 0, b"s")
    again.replica.check()


def started(node) -> Node:
    """A process that has read what this one holds. Where its groups stood it does not know."""
    again = taken(checkpoint(node.replica, 300), "a")
    again.replica.check()
    assert probe_groups(again.replica, 0, b"s") == probe_groups(node.replica, 0, b"s")
    return again


def test_after_a_start_it_looks_where_something_may_be_new():
    for seed in range(12):
        for node in worked(seed):
            started(node)


def test_after_a_start_a_hole_is_new():
    a, _, c = hiding()
    c("XDEL", "s", "5-1")
    a.receive(c.log)
    assert read(started(a)) == ["5-1"]


def test_after_a_start_what_came_late_from_elsewhere_is_new():
    a, b = Node("a"), Node("b", seed=2)
    a("XADD", "s", "10-1", "f", "v"), a("XGROUP", "CREATE", "s", "g", "$")
    b("XADD", "s", "5-1", "f", "v")
    a.receive(b.log)
    assert read(started(a)) == ["5-1"]


def test_after_a_start_what_stands_below_a_top_that_was_set_back_is_new():
    a, _ = two("10-1")
    assert read(a) == ["10-1"]
    a("XTRIM", "s", "MAXLEN", 0), a("XSETID", "s", "1-0")
    a("XADD", "s", "5-1", "f", "a"), a("XADD", "s", "11-1", "f", "a")
    assert read(started(a)) == ["5-1", "11-1"]


@pytest.mark.parametrize("options", [(), ("NOACK",)])
def test_all_that_was_given_out_costs_a_place(options):
    a, b = two()
    for i in range(3000):
        (a if i % 2 else b)("XADD", "s", f"{i + 1}-1", "f", "v")
    meet(a, b)
    before = len(b"".join(stream(a.replica)))
    while ids := read(a, "x", "COUNT", 100, *options):
        options or a("XACK", "s", "g", *ids)
    meet(a, b)
    assert len(b"".join(stream(a.replica))) - before < 200


def test_nothing_is_left_behind():
    before = probe_memory()[0]
    a, b = worked(3, 500)
    a("DEL", "s"), b("FLUSHALL")
    a, b = worked(4)
    meet(a, b)
    a("DEL", "s")
    meet(a, b)
    assert a.replica.keys(0)[0] == b.replica.keys(0)[0] == 0
    while a.replica.collect_garbage(10) or b.replica.collect_garbage(10):
        pass
    del a, b
    assert probe_memory()[0] == before


ROUND = b"\0" + b"\0" * 16 + b"\0\0\1" + b"\0\0"
CREATE = b"\1\0\0\0\0\0\0\0\1"
WHO = CREATE + b"\1x\0\2"
PRODUCED = b"i\2\0p\0a"


@pytest.mark.parametrize("name, value", [
    (b"", b""), (b"z", b""), (b"gg", b""), (b"gg", ROUND + b"x"), (b"gg", ROUND[:-1]),
    (b"gg", b"\4" + ROUND[1:]), (b"gg", b"\2" + ROUND[1:]), (b"sg", ROUND[:-1] + b"\1\2"),
    (b"gg", ROUND[:-2] + b"\2\3" + b"\1" * 8 + b"\2\0"), (b"cg", WHO + b"x"), (b"cg", WHO[:-1]),
    (b"cg", CREATE + b"\7x\0\2"), (b"og", WHO + b"\1"), (b"og", WHO + b"\1" + b"\0" * 17),
    (b"ag", b"\2" + b"\0" * 16), (b"xg", b"\2x"), (b"dg", WHO + b"\0" * 17 + b"\1"),
    (b"dg", WHO + b"\0" * 17 + b"\xff\xff\xff\xff\xff\1"), (b"pg", b""),
    (PRODUCED, b"\0" * 15), (PRODUCED[:-2], b"\0" * 16), (PRODUCED + b"x" * 128, b"\0" * 16),
    (b"f", b"\2gg"), (b"f", b"\7" + PRODUCED), (b"f", b"\1i")])
def test_effects_that_mean_nothing_are_refused(name, value):
    a, peer = Replica("a", 1), Replica("peer", 1)
    for kind in (pb.ASSIGN, pb.REMOVE, pb.INCREMENT):
        x = pb.Effect(kind=kind, key=b"s", type=GROUPS, name=name, value=value)
        batch = pb.Batch(actors=[pb.Actor(id=peer.actor, replica="peer", epoch=1)],
                         runs=[pb.Run(actor=peer.actor, ops=[pb.Op(seq=1, stamp=1 << 16,
                                                                   effects=[x])])])
        if (kind, name, value) == (pb.REMOVE, b"gg", b""):
            continue                            # that is XGROUP DESTROY
        with pytest.raises(DamagedBatch):
            a.receive(batch.SerializeToString())


def test_effects_about_what_is_not_there_do_nothing():
    a, peer = Replica("a", 1), Replica("peer", 1)
    effects = [pb.Effect(kind=kind, key=b"s", type=GROUPS, name=name, value=value)
               for kind, name, value in [
                   (pb.REMOVE, b"gg", b""), (pb.ASSIGN, b"sg", ROUND), (pb.ASSIGN, b"cg", WHO),
                   (pb.ASSIGN, b"og", WHO + b"\1" + b"\1" * 16), (pb.ASSIGN, b"ag", b"\0"),
                   (pb.ASSIGN, b"xg", b"\1x\0"),
                   (pb.ASSIGN, b"dg", WHO + b"\0" * 17 + b"\1\3" + b"\1" * 8 + b"\1\1")]]
    a.receive(pb.Batch(actors=[pb.Actor(id=peer.actor, replica="peer", epoch=1)],
                       runs=[pb.Run(actor=peer.actor, ops=[
                           pb.Op(seq=1, stamp=1 << 16, effects=effects)])]).SerializeToString())
    a.check()
    assert a.keys(0) == (0, 0) and a.clock() == {("peer", 1): 1}


def test_no_flipped_byte_puts_anything_unsound_in():
    a, _ = worked(5)
    message = stream(a.replica)
    rng = random.Random(1)
    refused = 0
    for _ in range(1500):
        broken = [bytearray(m) for m in message]
        of = rng.choice(broken)
        of[rng.randrange(len(of))] ^= 1 << rng.randrange(8)
        z = Replica("z", 9, seed=3)
        z.now = a.replica.now
        reader = StateReader(z)
        try:
            for m in broken:
                reader.take(bytes(m))
        except DamagedState:
            refused += 1
            continue
        z.check()
    assert refused > 300

"""Streams in the kernel: what arrives late, what a checkpoint and a full sync keep of it, bounds,
and effects and items that mean nothing. The rules for whole clusters are in tests/simulation."""
import pytest

from crdtredis._core import (Replica, StateCheck, StateReader, StateWriter, bucket_map,
                             probe_memory, probe_records)
from crdtredis.errors import DamagedBatch, DamagedState
from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.test_buckets import digests
from tests.core.test_join import all_of, join, same
from tests.core.test_state import Node, stream, taken

FIELDS = b"\1\1f\1v"


def ids(node, last="0", key="s") -> list[str]:
    reply = node("XREAD", "STREAMS", key, last)
    return [i.decode() for i, _ in reply[0][1]] if reply else []


def interleaved(n: int = 100, step: int = 10) -> tuple[Node, Node]:
    """a has entries of its own and, behind each ten, such of b that came late; b the reverse."""
    a, b = Node("a"), Node("b", seed=2)
    told_a = told_b = 0
    for i in range(n):
        a("XADD", "s", f"{2 * i + 2}-0", "f", i)
        b("XADD", "s", f"{2 * i + 1}-0", "f", i)
        if i % step == step - 1:
            to_b, to_a = a.log[told_a:], b.log[told_b:]
            a.receive(to_a)
            b.receive(to_b)
            told_a, told_b = len(a.log), len(b.log)
    assert a.replica.digest() == b.replica.digest()
    return a, b


def checkpoint(replica: Replica, most: int) -> list[bytes]:
    walk, out = StateWriter(replica, home=True), []
    while record := walk.next(most):
        out.append(probe_records(record)[0][0])
    return out


def test_what_came_late_is_read_behind_what_was_there():
    a, b = Node("a"), Node("b", seed=2)
    for i in (10, 30):
        a("XADD", "s", f"{i}-1", "f", "v")
    assert ids(a) == ["10-1", "30-1"]
    b("XADD", "s", "20-1", "f", "v")
    a.receive(b.log)
    a("XADD", "s", "40-1", "f", "v")
    assert ids(a) == ["10-1", "30-1", "20-1", "40-1"]
    assert ids(a, "30-1") == ["20-1", "40-1"] and ids(a, "20-1") == ["40-1"]
    assert ids(a, "10-1") == ["30-1", "20-1", "40-1"]
    a("XDEL", "s", "20-1", "30-1")                      # who stands on what is gone stands there
    assert ids(a, "20-1") == ["40-1"] and ids(a, "30-1") == ["40-1"]
    b.receive(a.log)
    assert ids(b) == ["10-1", "40-1"]


def test_a_stream_that_was_deleted_elsewhere_keeps_its_readers():
    a, b = Node("a"), Node("b", seed=2)
    a("XADD", "s", "10-1", "f", "v")
    b("XADD", "s", "5-1", "f", "v")
    a("DEL", "s")
    a.receive(b.log)
    assert ids(a, "10-1") == ["5-1"], "a reader at what is gone"
    alone = Node("c")
    for i in ("10-1", "1-1"):
        alone("DEL", "s"), alone("XADD", "s", i, "f", "v")
    assert ids(alone, "0") == ["1-1"] and ids(alone, "10-1") == [], "as in Redis"


def test_a_stream_that_was_deleted_twice_keeps_its_readers():
    a, b = Node("a"), Node("b", seed=2)
    for i in ("10-1", "1-1"):
        a("XADD", "s", i, "f", "v"), a("DEL", "s")
    b("XADD", "s", "5-1", "f", "v")
    a.receive(b.log)
    assert ids(a, "10-1") == ids(a, "1-1") == ["5-1"]


def test_the_greatest_word_about_the_top_counts():
    a, b = Node("a"), Node("b", seed=2)
    a("XADD", "s", "7-1", "f", "v")
    b.replica.now += 5
    b("XADD", "s", "5-1", "f", "v")
    to_a = b.log
    b.receive(a.log), a.receive(to_a)
    for node in (a, b):
        assert node("XADD", "s", "6-1", "f", "v").args[0].startswith("ERR The ID specified")
        assert node("XADD", "s", "7-*", "f", "v") == b"7-2"


def test_a_trim_removes_what_it_observed_and_nothing_else():
    a, b, c = Node("a"), Node("b", seed=2), Node("c", seed=3)
    for i in (1, 5, 9):
        a("XADD", "s", f"{i}-1", "f", "v")
    b("XADD", "s", "2-1", "f", "v")
    a("XTRIM", "s", "MINID", "9-1")
    c.receive(b.log), c.receive(a.log)
    b.receive(a.log), a.receive(b.log)
    for node in (a, b, c):
        assert sorted(ids(node)) == ["2-1", "9-1"]
        assert node.replica.digest() == a.replica.digest()


def test_a_deletion_beside_that_of_an_entry():
    a, b = Node("a"), Node("b", seed=2)
    a("XADD", "s", "1-1", "f", "v")
    b.receive(a.log)
    told = len(a.log)
    a("DEL", "s"), b("XDEL", "s", "1-1")
    a.receive(b.log), b.receive(a.log[told:])
    for node in (a, b):
        assert node("EXISTS", "s") == 0 and node("TYPE", "s") == b"none"
        node.replica.check()
    assert a.replica.digest() == b.replica.digest()


@pytest.mark.parametrize("most", [1, 300, 64 << 10])
def test_a_checkpoint_keeps_the_order(most):
    a, b = interleaved()
    b("XDEL", "s", "21-0", "22-0")
    for node in (a, b):
        again = taken(checkpoint(node.replica, most), node.replica.id)
        assert again.replica.digest() == node.replica.digest()
        assert ids(again) == ids(node) != sorted(ids(node), key=lambda i: int(i[:-2]))
        for last in ("19-0", "20-0", "21-0", "22-0", "23-0", "120-0", "199-0"):
            assert ids(again, last) == ids(node, last)


@pytest.mark.parametrize("most", [1, 300, 64 << 10])
def test_a_full_sync_gives_the_state(most):
    a, b = interleaved()
    a("XDEL", "s", "21-0", "22-0"), a("XTRIM", "s", "MINID", "9-0")
    b("XADD", "s", "*", "f", "v"), b("XDEL", "s", "21-0")
    wanted = all_of(a.log, b.log)
    of_a, of_b = stream(a.replica, most), stream(b.replica, most)
    join(a.replica, of_b, most=3)
    join(b.replica, of_a, most=3)
    for node in (a, b):
        same(node.replica, wanted)
        assert len(ids(node)) == len(set(ids(node)))
    assert ids(taken(of_a)) == sorted(ids(taken(of_a)), key=lambda i: int(i.split("-")[0]))


def test_the_digest_of_a_large_one():
    a, b = interleaved()
    assert digests(a.replica, 1) == digests(b.replica)
    b("XSETID", "s", "900-0")
    assert any(bucket_map(digests(a.replica, 1), digests(b.replica)))
    a.receive(b.log)
    assert digests(a.replica, 1) == digests(b.replica)


def test_late_entries_that_are_gone_are_forgotten_in_the_end():
    a, b = Node("a"), Node("b", seed=2)
    a("XADD", "s", "1000000-0", "f", "v")
    before = a("MEMORY", "USAGE", "s", "SAMPLES", 0)
    for i in range(3000):
        b("XADD", "s", "MAXLEN", 3, f"{i + 1}-0", "f", "v")
    a.receive(b.log)
    assert a("XLEN", "s") == 4
    assert a("MEMORY", "USAGE", "s", "SAMPLES", 0) - before < 1100 * 130
    a.replica.check()


@pytest.mark.parametrize("removes", ["XDEL", "XTRIM"])
def test_late_entries_that_are_removed_are_forgotten_in_the_end(removes):
    a, b = Node("a"), Node("b", seed=2)
    a("XADD", "s", "1000000-0", "f", "v")
    before = a("MEMORY", "USAGE", "s", "SAMPLES", 0)
    for i in range(1, 3001):
        b("XADD", "s", f"{i}-0", "f", "v")
    a.receive(b.log)
    if removes == "XDEL":
        for i in range(1, 3001, 100):
            a("XDEL", "s", *(f"{j}-0" for j in range(i, i + 100)))
    else:
        a("XTRIM", "s", "MAXLEN", 1)
    assert a("XLEN", "s") == 1
    assert a("MEMORY", "USAGE", "s", "SAMPLES", 0) - before < 1100 * 130
    a.replica.check()


def test_long_runs_of_late_entries_are_passed_over_and_nothing_else():
    a, b = Node("a"), Node("b", seed=2)
    order = [1, 60, 900, 50, 51, *range(100, 350), 950, *range(901, 940), 1000]
    for i in order:
        node = a if i in (1, 60, 900, 950, 1000) else b
        node("XADD", "s", f"{i}-0", "f", "v")
        if node is b:
            a.receive(b.log)
            b.log = b""
    for gone in ([], [120], [100, 349], [50, 900], [60, 901, *range(130, 200)], [1, 950]):
        a("XDEL", "s", *(f"{i}-0" for i in gone), "7777-0")
        order = [i for i in order if i not in gone]
        for count in (1, 7, 80, 1000):
            got, last = [], "0"
            while reply := a("XREAD", "COUNT", count, "STREAMS", "s", last):
                got += [int(i[:-2]) for i, _ in reply[0][1]]
                last = f"{got[-1]}-0"
            assert got == order
    a.replica.check()


def test_nothing_is_left_behind():
    before = probe_memory()[0]
    a, b = interleaved(300)
    a("COPY", "s", "t"), a("RENAME", "s", "u"), b("DEL", "s"), b("FLUSHALL")
    while a.replica.collect_garbage(10) or b.replica.collect_garbage(10):
        pass
    del a, b
    assert probe_memory()[0] == before


@pytest.mark.parametrize("effect", [
    dict(name=b"\0" * 15 + b"\1", value=FIELDS, run_seq=2, whole=1),        # a run of a later op
    dict(name=b"\0" * 16, value=FIELDS),
    dict(name=b"\0" * 14 + b"\1", value=FIELDS),
    dict(name=b"\0" * 15 + b"\1", value=FIELDS + b"x"),
    dict(name=b"\0" * 15 + b"\1", value=b"\0"),
    dict(name=b"\0" * 15 + b"\1", value=b"\2\1f\1v"),
    dict(name=b"\0" * 15 + b"\1", value=b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"),
    dict(name=b"\0" * 15 + b"\1", value=FIELDS, run_seq=1),
    dict(name=b"\0" * 15 + b"\1", kind=pb.INCREMENT, run_seq=1, whole=1),
    dict(name=b"\0" * 15, kind=pb.REMOVE),
    dict(name=b"t", value=b"\0" * 15, type=pb.STREAM_HEAD),
    dict(name=b"x", value=b"\0" * 16, type=pb.STREAM_HEAD),
    dict(name=b"a", value=b"-1", type=pb.STREAM_HEAD),
    dict(name=b"a", kind=pb.INCREMENT, run_seq=1, whole=1, type=pb.STREAM_HEAD),
    dict(name=b"x", value=b"v", type=5),                                    # is not sent
])
def test_effects_that_mean_nothing_are_refused(effect):
    a, peer = Replica("a", 1), Replica("peer", 1)
    x = pb.Effect(**{"kind": pb.ASSIGN, "key": b"s", "type": pb.STREAM} | effect)
    batch = pb.Batch(actors=[pb.Actor(id=peer.actor, replica="peer", epoch=1)],
                     runs=[pb.Run(actor=peer.actor, ops=[pb.Op(seq=1, stamp=1 << 16,
                                                               effects=[x])])])
    with pytest.raises(DamagedBatch):
        a.receive(batch.SerializeToString())


def test_what_is_of_one_replica_is_taken_from_no_other():
    a, _ = interleaved()
    with pytest.raises(DamagedState):
        check = StateCheck(Replica("z", 1, seed=3))
        for message in checkpoint(a.replica, 64 << 10):
            check.take(message)
    with pytest.raises(DamagedState):
        reader = StateReader(Replica("z", 1, seed=3))
        for message in checkpoint(a.replica, 64 << 10):
            reader.take(message)


def test_what_a_checkpoint_holds_does_not_arrive_anew():
    """Added behind the walk, at the end, and before something that came late and was given."""
    a, b = Node("a"), Node("b", seed=2)
    for i in range(100):
        a("XADD", "s", f"{10 * i + 10}-0", "f", i)
    walk, out = StateWriter(a.replica, home=True), []
    for _ in range(40):
        out.append(probe_records(walk.next(1))[0][0])
    told = len(a.log)
    a("XADD", "s", "2000-0", "f", "new")
    b("XADD", "s", "995-0", "f", "late")
    a.receive(b.log)
    while record := walk.next(1):
        out.append(probe_records(record)[0][0])
    again = Node("a", 9, seed=2)
    again.replica.recovering = True
    reader = StateReader(again.replica)
    for message in out:
        reader.take(message)
    again.replica.receive(a.log[told:])
    again.replica.recovering = False
    assert again.replica.digest() == a.replica.digest()
    assert ids(again) == ids(a) and ids(a)[-2:] == ["2000-0", "995-0"]
    assert ids(again, "995-0") == []


def test_a_stream_that_was_deleted_counts_again_as_soon_as_it_has_an_entry():
    """Its head is still there, for another replica had counted in it; what tells that the key is
    there is not."""
    a, b = Node("a"), Node("b", seed=2)
    a("XADD", "s", "5-1", "f", "v")
    b.receive(a.log)
    b("XADD", "s", "6-1", "f", "v"), b("DEL", "s")
    assert b("DBSIZE") == 0 and b.replica.stats()["tombstones"] == 1
    b.replica.check()
    b("XADD", "s", "5-2", "f", "v")
    assert b("DBSIZE") == 1
    b.replica.check()
    assert b("XTRIM", "s", "MAXLEN", 0) == 1 and b("DBSIZE") == 1
    b("XADD", "s", "7-1", "f", "v")
    a.receive(b.log)
    for node in (a, b):
        node.replica.check()
        assert node("DBSIZE") == 1 and ids(node) == ["7-1"]
    assert a.replica.digest() == b.replica.digest()


def test_what_comes_again_at_the_start_is_not_above_all_that_is_there():
    """The log begins before the stream of the checkpoint, and with greater ids: of two writes at
    one of them there is one entry, until the deletion comes again."""
    a, b = Node("a"), Node("b", seed=2)
    walk, out = StateWriter(a.replica, home=True), []
    for node in (b, a):
        node("XADD", "s", "80-1", "f", "v"), node("XADD", "s", "90-1", "f", "v")
    a.receive(b.log)
    told = len(a.log)
    a("DEL", "s")
    b.receive(a.log)
    b("SET", "k", "v")                                  # it has seen the deletion
    a.receive(b.log)
    assert a.replica.collect() and a.replica.stats()["tombstones"] == 0, "of the stream all goes"
    a("XADD", "s", "5-1", "f", "v"), a("XADD", "s", "5-2", "f", "v")
    while record := walk.next(1):
        out.append(probe_records(record)[0][0])
    again = Node("a", 9, seed=3)
    again.replica.recovering = True
    reader = StateReader(again.replica)
    for message in out:
        reader.take(message)
    assert ids(again) == ["5-1", "5-2"]
    again.replica.receive(a.log[:told])
    assert again("XLEN", "s") == 4, "80-1 and 90-1 once each"
    again.replica.receive(a.log[told:])
    again.replica.recovering = False
    again.replica.check()
    assert again.replica.digest() == a.replica.digest()
    assert ids(again) == ids(a) == ["5-1", "5-2"]

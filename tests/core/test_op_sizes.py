"""How large things become: the records that the ops of a loop iteration are cut into, what is held
of a received op."""
import subprocess
import sys

import pytest

from crdtredis.replication import crdtredis_pb2 as pb
from crdtredis._core import Replica, probe_make, probe_records, probe_take
from crdtredis.errors import DamagedBatch

NOW = 1_700_000_000_000
LARGE = 1 << 20                         # bytes from which on an op keeps its buffer


def replica(name="a", **settings):
    r = Replica(name, NOW, seed=1, **settings)
    r.now = NOW
    return r


def ops(payload: bytes) -> list[tuple[int, int]]:
    """(actor, seq) of the ops of a Batch."""
    return [(run.actor, op.seq) for run in pb.Batch.FromString(payload).runs for op in run.ops]


def taken(r, most: int) -> list[bytes]:
    """The payloads of the records."""
    records = probe_take(r, most)
    payloads, status, _ = probe_records(b"".join(records))
    assert status == 0 and len(payloads) == len(records), "a record that cannot be read again"
    return payloads


@pytest.mark.parametrize("most", [1, 100, 1000, 10_000, 1 << 40])
def test_the_ops_of_an_iteration_are_cut_into_records_between_ops(most):
    a, b, other = replica("a"), replica("b"), replica("c")
    for i in range(200):
        probe_make(a, [("set", 0, b"k%d" % i, b"x" * (i * 7 % 300))])
        if i % 10 == 9:
            probe_make(other, [("set", 0, b"o%d" % i, b"y" * i)])
            a.declare("c", NOW)
            a.receive(other.take_ops())
    payloads = taken(a, most)
    for p in payloads:
        assert len(p) <= most or len(ops(p)) <= 1
    order = [dot for p in payloads for dot in ops(p)]
    assert len(order) == 220 and len(set(order)) == 220
    for actor in (a.actor, other.actor):
        seqs = [seq for who, seq in order if who == actor]
        assert seqs == list(range(1, len(seqs) + 1)), "the order of the ops"
    for p in payloads:
        b.receive(p)
    assert b.digest() == a.digest() and b.pending()["ops"] == 0
    assert a.take_ops() == b"" and not taken(a, most)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("size", [LARGE - 100, LARGE - 40, LARGE, 3 * LARGE])
@pytest.mark.parametrize("actors", [0, 1, 9, 16, 17, 18, 300])
def test_a_large_op_is_a_record_of_its_own(size, actors, compact):
    """Its head, which names what it depends on, is put before it in the buffer it was made in, or
    in a larger one."""
    a, b = replica("a"), replica("b")
    a.set_members({"a"}, True, compact)
    probe_make(a, [("set", 0, b"before", b"1")])
    for i in range(actors):
        other = replica(f"o{i}")
        probe_make(other, [("set", 0, b"of%d" % i, b"v")])
        a.receive(other.take_ops())
    probe_make(a, [("set", 0, b"large", b"x" * size), ("set", 0, b"with it", b"2")])
    probe_make(a, [("set", 0, b"after", b"3")])
    payloads = taken(a, 4 << 20)
    if size >= LARGE:
        assert [len(ops(p)) for p in payloads if len(p) >= LARGE] == [1]
    for p in payloads:
        b.receive(p)
    assert b.digest() == a.digest() and b.pending()["ops"] == 0
    passed_on = taken(b, 4 << 20)
    assert (sorted(dot for p in passed_on for dot in ops(p))
            == sorted(dot for p in payloads for dot in ops(p)))
    c = replica("c")
    for p in passed_on:
        c.receive(p)
    assert c.digest() == a.digest()


def test_what_is_not_taken_is_freed():
    a = replica()
    probe_make(a, [("set", 0, b"large", b"x" * LARGE)])
    del a


RECEIVER = """
import re, sys
from crdtredis._core import Replica
def peak():
    return int(re.search("VmHWM: *(.*) kB", open("/proc/self/status").read())[1]) << 10
batch = sys.stdin.buffer.read()
r = Replica("b", 1)
r.now = 1_700_000_000_000
before = peak()
r.receive(batch)
print(peak() - before, r.stats()["memory"], r.keys()[0])
"""


def test_a_received_op_is_not_held_in_decoded_form():
    """Half a million effects: decoded they are many times as large as their bytes."""
    a = replica("a")
    probe_make(a, [("member", 0, b"s", ("set", 2, b"%06d" % i, b"")) for i in range(500_000)])
    batch = a.take_ops()
    out = subprocess.run([sys.executable, "-c", RECEIVER], input=batch, stdout=subprocess.PIPE,
                         check=True, timeout=120).stdout
    grown, memory, keys = map(int, out.split())
    assert keys == 1 and len(batch) < 20_000_000
    assert grown < memory + 2 * len(batch), (
        f"{grown} bytes for {len(batch)}, of which {memory} stay")


@pytest.mark.parametrize("n", [1, 63, 64, 65, 66, 200, 1000])
def test_an_op_is_applied_whole_or_not_at_all_however_many_effects_it_has(n):
    a = replica("a")
    probe_make(a, [("set", 0, b"k%d" % i, b"v%d" % i) for i in range(n)])
    batch = a.take_ops()
    b = replica("b")
    b.receive(batch)
    assert b.digest() == a.digest()
    message = pb.Batch.FromString(batch)
    for at in sorted({0, n // 2, n - 1}):
        bad = pb.Batch.FromString(batch)
        bad.runs[0].ops[0].effects[at].kind = pb.FLUSH          # names a key: not sound
        c = replica("c")
        with pytest.raises(DamagedBatch):
            c.receive(bad.SerializeToString())
        assert c.keys() == (0, 0)
        strange = pb.Batch.FromString(batch)
        effect = strange.runs[0].ops[0].effects[at]
        effect.Clear()
        # nobody declared actor 77
        effect.kind, effect.key, effect.deadline, effect.stamp, effect.actor = (
                pb.DEADLINE, b"k", NOW, 1, 77)
        with pytest.raises(DamagedBatch):
            c.receive(strange.SerializeToString())
        assert c.keys() == (0, 0)
        c.receive(message.SerializeToString())
        assert c.digest() == a.digest()


def test_a_command_that_has_begun_is_not_refused_in_its_middle():
    """Where its sizes said too little the op is cut, and counted as torn."""
    a, b = replica("a"), replica("b")
    a.op_limit = 2000
    probe_make(a, [("set", 0, b"%d" % i, b"x" * 900) for i in range(6)])
    assert a.keys()[0] == 6 and a.stats()["torn"] == 1
    batch = a.take_ops()
    assert [seq for _, seq in ops(batch)] == [1, 2]
    b.receive(batch)
    assert b.digest() == a.digest()

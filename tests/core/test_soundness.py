"""What is encoded is accepted: an effect that no replica would take is not made."""
import subprocess
import sys

import pytest

from crdtredis._core import Replica
from crdtredis.errors import DamagedBatch
from crdtredis.replication import crdtredis_pb2 as pb

UNSOUND = """
import math, sys
from crdtredis._core import Replica, probe_make
from crdtredis._engine import Executor
r = Replica("a", 1, seed=1)
e = Executor(r)
s = e.session()
assert e.execute(s, [b"SET", b"k", b"v"]) == b"+OK\\r\\n"
first = r.take_ops()
before = r.digest(), r.clock(), r.keys()
# aborts in a debug build
assert not probe_make(r, [("member", 0, b"z", ("set", 3, b"m", math.nan))])
assert not probe_make(r, [("expire", 0, b"k", -5)])
assert (r.digest(), r.clock(), r.keys()) == before and r.take_ops() == b""
assert e.execute(s, [b"SET", b"l", b"v"]) == b"+OK\\r\\n"
r.check()
b = Replica("b", 1)
b.receive(first + r.take_ops())
assert b.digest() == r.digest()
print("refused", file=sys.stderr)
"""


def test_an_effect_that_no_replica_would_accept_is_not_made():
    done = subprocess.run([sys.executable, "-c", UNSOUND], capture_output=True, text=True)
    aborted = done.returncode == -6 and "an effect that no replica would accept" in done.stderr
    assert (done.returncode, done.stderr) == (0, "refused\n") or aborted, done.stderr


@pytest.mark.parametrize("effect", [
    dict(kind=pb.DEADLINE, key=b"k", deadline=5, stamp=1, actor=-1),
    dict(kind=pb.ASSIGN, key=b"k", type=pb.LIST, value=b"v",
         name=b"\x02\x00\x00" + b"ACTOR" + b"\x07\x00"),
    dict(kind=pb.ASSIGN, key=b"k", type=pb.LIST, value=b"v",
         name=b"\x01\x00\x00\x00" + b"ACTOR" + b"\x07\x00"),
])
@pytest.mark.parametrize("named", ["idle", "A"])
def test_an_actor_that_an_op_names_is_declared_in_the_log_and_to_others(effect, named):
    """A peer's op names an actor that has made no op: another, or this replica's own. No replica
    does so, but what is accepted must be known to whoever gets the op from here, the log first."""
    a, peer, idle = Replica("A", 1), Replica("peer", 1), Replica("idle", 1)
    id = {"idle": idle, "A": a}[named].actor
    effect = effect | ({"actor": id} if "actor" in effect
                       else {"name": effect["name"].replace(b"ACTOR", id.to_bytes(8, "little"))})
    op = pb.Op(seq=1, stamp=1 << 16, effects=[pb.Effect(**effect)])
    actors = [pb.Actor(id=r.actor, replica=r.id, epoch=r.epoch) for r in (peer, idle, a)]
    a.receive(pb.Batch(actors=actors,
                       runs=[pb.Run(actor=peer.actor, ops=[op])]).SerializeToString())
    logged = a.take_ops()
    again, other = Replica("A", 2), Replica("B", 1)
    again.recovering = True
    again.receive(logged)
    other.receive(logged)
    assert again.digest() == other.digest() == a.digest() and other.clock() == {("peer", 1): 1}


def test_a_dep_on_no_op_is_refused():
    def batch(dep):
        op = pb.Op(seq=1, stamp=1 << 16).SerializeToString() + b"\x1a" + bytes([len(dep)]) + dep + \
            pb.Op(effects=[pb.Effect(key=b"k")]).SerializeToString()
        run = pb.Run(actor=8).SerializeToString() + b"\x12" + bytes([len(op)]) + op
        return pb.Batch(actors=[pb.Actor(id=7, replica="X", epoch=1),
                                pb.Actor(id=8, replica="Y", epoch=1)]).SerializeToString() + \
            b"\x12" + bytes([len(run)]) + run

    dep = pb.Dep(actor=7).SerializeToString()
    for wrong in (dep, dep + b"\x10\x00"):
        with pytest.raises(DamagedBatch):
            Replica("A", 1).receive(batch(wrong))
    waits = Replica("A", 1)
    waits.receive(batch(dep + b"\x10\x01"))
    assert waits.pending()["ops"] == 1

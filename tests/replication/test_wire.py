"""Bodies and declarations; the generated classes against proto/."""
import ast
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crdtredis._core import Replica, batch_ranges, probe_make, slice_batch
from crdtredis.clocks import Actor, actor_id
from crdtredis.replication import crdtredis_pb2, replication_pb2, wire as w
from crdtredis.replication.wire import Refusal, proto
from crdtredis.storage.batch import declaration

ROOT = Path(__file__).parents[2]


def batch_of(n: int, name: str = "a") -> bytes:
    r = Replica(name, 1)
    for i in range(n):
        probe_make(r, [("set", 0, b"k%d" % i, b"v")])
    return r.take_ops()


def test_a_body_comes_back():
    head = proto.Push(session=7, since=3)
    for batch in (b"", b"\x12\x00", bytes(1000)):
        assert w.decode(proto.Push, w.encode(head, batch)) == (head, batch)


def test_cut_short_or_wild_bodies_are_refused():
    body = w.encode(proto.Hello(cluster="c", replica="a", clock=w.entries({1: 2})))
    chance = random.Random(1)
    for n in range(len(body)):
        with pytest.raises(Refusal):
            w.decode(proto.Hello, body[:n])
    with pytest.raises(Refusal):
        w.decode(proto.Hello, b"\xff\xff\xff\xff" + body)
    for _ in range(2000):
        wild = bytearray(body)
        wild[chance.randrange(len(wild))] = chance.randrange(256)
        try:
            w.decode(proto.Hello, bytes(wild))
        except Refusal as e:
            assert e.code == proto.MALFORMED


def test_declarations_are_read_from_the_front():
    actors = [Actor(actor_id(r, e), r, e) for r, e in (("a", 1), ("b", 2**60), ("é", 3))]
    assert w.declarations(declaration(actors)) == actors
    assert w.declarations(declaration(actors) + b"\x12\x00") == actors
    ops = batch_of(3)
    assert w.declarations(ops) == actors[:1]
    assert batch_ranges(declaration(actors) + ops) == [(actors[0].id, 1, 3)]


def test_a_declaration_that_lies_is_refused():
    good = declaration([Actor(actor_id("a", 1), "a", 1)])
    for bad in (declaration([Actor(5, "a", 1)]), good[:-1], b"\x0a",
                b"\x0a\xff\xff\xff\xff\xff\xff",
                b"\x0a\x02\xff\xff"):
        with pytest.raises(Refusal):
            w.declarations(bad)


def test_the_actor_id_is_the_kernels():
    assert Replica("some-replica", 1234567890123).actor == actor_id("some-replica", 1234567890123)


def oracle_ranges(batch):
    return [(r.actor, r.ops[0].seq, r.ops[-1].seq)
            for r in crdtredis_pb2.Batch.FromString(batch).runs if r.ops]


def oracle_cut(batch, clock):
    full = crdtredis_pb2.Batch.FromString(batch)
    out = crdtredis_pb2.Batch(actors=full.actors)
    for run in full.runs:
        ops = [o for o in run.ops if o.seq > clock.get(run.actor, 0)]
        if ops:
            out.runs.add(actor=run.actor, ops=ops)
    return out if out.runs else crdtredis_pb2.Batch()


def test_ranges_and_cuts_are_those_of_the_generated_classes():
    ops = b"".join(batch_of(n, name) for n, name in ((5, "a"), (1, "b"), (9, "c")))
    ids = [a for a, _, _ in batch_ranges(ops)]
    assert batch_ranges(ops) == oracle_ranges(ops)
    chance = random.Random(2)
    for _ in range(200):
        clock = {a: chance.randrange(11) for a in ids if chance.random() < 0.7}
        assert crdtredis_pb2.Batch.FromString(slice_batch(ops, clock)) == oracle_cut(ops, clock)


@pytest.mark.parametrize("module, source", [(crdtredis_pb2, "crdtredis.proto"),
                                            (replication_pb2, "replication.proto")])
def test_the_generated_classes_are_those_of_the_source(module, source, tmp_path):
    """Regenerates when the generator is there. Whatever its version, the schema inside must be the
    one committed."""
    pytest.importorskip("grpc_tools",
                        reason="pip install grpcio-tools, to compare the generated classes with "
                               "proto/")
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-Iproto",
                    f"--python_out={tmp_path}", f"proto/{source}"], cwd=ROOT, check=True)
    made = (tmp_path / source.replace(".proto", "_pb2.py")).read_text()
    serialized = re.search(r"AddSerializedFile\((b'.*')\)", made)[1]
    assert ast.literal_eval(serialized) == module.DESCRIPTOR.serialized_pb

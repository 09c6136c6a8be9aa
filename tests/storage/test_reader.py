"""The log as peers are served from it, read while it is being written."""
import os
import random
import threading
from dataclasses import replace

import pytest

from crdtredis._core import Replica, record
from crdtredis.replication import crdtredis_pb2 as pb
from crdtredis.storage import chain, check, segments
from crdtredis.storage.chain import header_of
from crdtredis.storage.format import (CutShort, FormatError, encode_header, read_batches,
                                      segment_numbers, segment_path)
from crdtredis.storage.identity import take_identity
from crdtredis.storage.reader import LogReader
from tests.storage.node import NOW, Node

pytestmark = pytest.mark.usefixtures("form")


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path, max_segment_size=3000)
    yield node
    node.close()


def peer():
    replica = Replica("b", 1)
    replica.now = NOW + 10_000_000
    return replica


def fed(reader, clock, replica=None):
    replica = replica or peer()
    for batch in reader.since(clock):
        replica.receive(batch)
    return replica


def test_from_the_beginning_it_gives_everything(node):
    node.fill(200)
    other = fed(LogReader(node.folder, node.log.writer.position), {})
    assert other.digest() == node.digest() and other.pending()["ops"] == 0


def test_it_begins_at_the_last_segment_that_the_clock_covers(node, form):
    node.fill(200)
    reader = LogReader(node.folder, node.log.writer.position)
    links = reader.links()
    for link in links:
        whole = sum(map(len, reader.since({})))
        part = sum(map(len, reader.since(link.header().clock)))
        size = sum(x.path.stat().st_size for x in links if x.number >= link.number)
        longer = 0 if form == "longer" else 11 * 200        # than what stands in the files
        assert part <= size + longer and (link is links[0]) == (part == whole)
        if link is not links[0]:
            # a peer with that clock can apply it, although the actors were declared in the first
            # segment
            actor = node.replica.actor
            assert link.header().clock[actor] > 0
            fresh = peer()
            for batch in reader.since(link.header().clock):
                fresh.receive(batch)
            assert fresh.pending()["ops"] == 200 - link.header().clock[actor]


def test_what_a_clock_lacks_is_complete(node):
    node.fill(100)
    reader = LogReader(node.folder, node.log.writer.position)
    other = fed(reader, {})
    node.fill(100, seed=2)
    fed(reader, other.clock_ids(), other)
    assert other.digest() == node.digest()


def test_an_actor_without_ops_that_an_op_named_is_declared_in_all_later_segments(node):
    """So who reads on from there knows it, as one who had that op does. Only a hostile peer makes
    such an op."""
    stranger, idle = Replica("stranger", 1), Replica("idle", 1)
    op = pb.Op(seq=1, stamp=1 << 16, effects=[
        pb.Effect(kind=pb.DEADLINE, key=b"k", deadline=2**60, stamp=1, actor=idle.actor)])
    node.replica.declare("known", 1)                # and never named
    node.replica.receive(pb.Batch(actors=[pb.Actor(id=r.actor, replica=r.id, epoch=r.epoch)
                                          for r in (stranger, idle)],
                                  runs=[pb.Run(actor=stranger.actor,
                                               ops=[op])]).SerializeToString())
    node.fill(200)
    links = LogReader(node.folder, node.log.writer.position).links()
    assert len(links) > 2
    for link in links[1:]:
        assert {name for _, name, _ in link.header().actors} == {"a", "stranger", "idle"}
    node.close()
    again = Node(node.folder, epoch=2)
    assert {name for _, name, _ in again.replica.declared()} == {"a", "stranger", "idle"}
    again.close()


def test_floor_is_where_the_oldest_segment_begins(node):
    node.fill(100)
    assert LogReader(node.folder, node.log.writer.position).floor() == {}


def test_it_follows_the_end_while_it_is_written_and_through_rotations(node):
    node.fill(10)
    reader = LogReader(node.folder, node.log.writer.position)
    other, iterations = peer(), 0
    for batch in reader.since({}):
        other.receive(batch)
        if iterations < 300:
            node.set(b"k", b"%d" % iterations)
            iterations += 1
    assert iterations == 300 and other.digest() == node.digest() and node.ends[-1][0] > 2


def test_it_reads_beside_a_writing_thread(node):
    done = threading.Event()

    def write():
        for i in range(4000):
            node.set(b"k%d" % (i % 10), b"%d" % i)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    other = peer()
    reader = LogReader(node.folder, node.log.writer.position, batch_bytes=500)
    while not done.is_set():
        fed(reader, other.clock_ids(), other)
        assert other.pending()["ops"] == 0
    writer.join()
    fed(reader, other.clock_ids(), other)
    assert other.digest() == node.digest()


def test_it_never_reads_beyond_the_published_end(node):
    node.fill(10)
    number, end = node.log.writer.position()
    with open(node.folder / f"segment-{number:016d}.log", "ab") as f:
        f.write(b"half a record")
    assert fed(LogReader(node.folder, node.log.writer.position), {}).digest() == node.digest()


def test_it_goes_on_when_the_segment_it_reads_becomes_void(node, monkeypatch):
    node.fill(10)
    node.log.sync()
    reader = LogReader(node.folder, node.log.writer.position, batch_bytes=100)
    other, n = peer(), 0
    for batch in reader.since({}):
        other.receive(batch)
        n += 1
        if n == 3:
            node.fill(3, seed=3)
            monkeypatch.setattr(segments.os, "fdatasync",
                                lambda fd: (_ for _ in ()).throw(OSError(5, os.strerror(5))))
            node.log.sync()
            monkeypatch.undo()
            assert node.log.tick() is None
            node.fill(3, seed=4)
    assert node.log.writer.position()[0] >= 2 and other.digest() == node.digest()


# ---- where it may begin --------------------------------------------------------------------------


def prefix(node, n):
    """A peer that has the first n ops."""
    other = peer()
    for batch in node.made[:n]:
        other.receive(batch)
    return other


def everybody_gets_everything(node):
    """Whatever part of the ops somebody has, the rest is found from there."""
    reader = LogReader(node.folder, node.log.writer.position)
    for n in range(0, len(node.made) + 1):
        other = prefix(node, n)
        fed(reader, other.clock_ids(), other)
        assert other.digest() == node.digest() and other.pending()["ops"] == 0, n


def refuse_writes(node):
    fd, null = node.log.writer.snapshot()[0], os.open("/dev/full", os.O_RDWR)
    os.dup2(null, fd)
    os.close(null)


def made(node, n):
    """n iterations of one op each, remembered; the last may be refused."""
    node.made = getattr(node, "made", [])
    for _ in range(n):
        node.set(b"k%d" % len(node.made), b"v" * 20)
        node.made.append(node.last)


def test_a_segment_begun_after_a_failed_write_is_no_beginning_for_who_lacks_what_stands_before_it(
        node):
    made(node, 100)
    refuse_writes(node)
    made(node, 1)
    assert node.log.tick() is None
    made(node, 20)
    everybody_gets_everything(node)


def test_nor_is_one_that_an_older_version_began_so(node):
    made(node, 100)
    refuse_writes(node)
    made(node, 1)
    assert node.log.tick() is None
    path = segment_path(node.folder, node.log.writer.position()[0])
    old = header_of(path, node.log.writer.position()[0], None)
    records = path.read_bytes()[old.size:]
    path.write_bytes(encode_header(replace(old, ceiling=old.clock)) + records)
    reader = LogReader(node.folder, lambda: (old.number, path.stat().st_size))
    for n in range(102):
        other = prefix(node, n)
        fed(reader, other.clock_ids(), other)
        assert other.digest() == node.digest()


def test_nor_is_one_whose_header_a_repair_rebuilt(tmp_path, form):
    take_identity(tmp_path, "a", 1)
    first = Node(tmp_path, max_segment_size=1500)
    made(first, 100)
    first.close()
    for number in (2, 3):
        with open(segment_path(tmp_path, number), "r+b") as f:
            f.write(b"garbage" * 5)
    assert check.main(str(tmp_path), True) == 0
    # what is left of the lost ceilings: that of the next header, which is no lower
    later = header_of(segment_path(tmp_path, 4), 4, "a").ceiling
    rebuilt = header_of(segment_path(tmp_path, 3), 3, "a")
    assert later and rebuilt.ceiling == later and rebuilt.short == (form == "short")
    again = Node(tmp_path, epoch=2, max_segment_size=1500)
    again.made = first.made
    everybody_gets_everything(again)
    made(again, 60)
    everybody_gets_everything(again)
    again.close()


def test_whoever_reads_gets_everything_whatever_went_wrong_before(tmp_path, monkeypatch):
    for seed in range(12):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        node = Node(folder, max_segment_size=rng.choice([600, 2000]))
        history = []
        for epoch in range(2, 5):
            node.made = history
            for _ in range(40):
                made(node, rng.randrange(1, 3))
                what = rng.random()
                if what < 0.1:
                    refuse_writes(node)
                elif what < 0.2:
                    with monkeypatch.context() as m:
                        m.setattr(segments.os, "fdatasync",
                                  lambda fd: (_ for _ in ()).throw(OSError(5, os.strerror(5))))
                        node.log.sync()
                elif what < 0.4:
                    node.log.sync()
                node.log.tick()
            node.log.tick()
            everybody_gets_everything(node)
            node.close()
            node = Node(folder, epoch=epoch, max_segment_size=rng.choice([600, 2000]))
        node.close()


def test_headers_are_read_once_not_once_for_every_segment(node, monkeypatch):
    while node.log.writer.position()[0] < 60:
        node.fill(1)
    opened = []
    real = chain.header_of
    monkeypatch.setattr(chain, "header_of", lambda path, *rest, **how: opened.append(path)
                        or real(path, *rest, **how))
    reader = LogReader(node.folder, node.log.writer.position)
    for _ in range(5):
        assert fed(reader, {}).digest() == node.digest()
    # the chain once, and the search for a beginning once a time
    assert len(opened) <= 60 + 5 * 60
    before = len(opened)
    while node.log.writer.position()[0] < 63:
        node.fill(1)
    clock = node.replica.clock_ids()
    for _ in range(5):
        fed(reader, clock)
    assert len(opened) - before <= 20 + 5 * 2


def test_ops_that_a_repaired_log_holds_but_could_not_apply_are_not_behind_a_later_beginning(
        tmp_path):
    """1 ... 9 are lost; a healed 10 ... 100 stands in earlier segments than 1 ... 9, which a peer
    gives back, and a crash follows at once."""
    take_identity(tmp_path, "a", 1)
    first = Node(tmp_path, max_segment_size=700)
    made(first, 60)
    first.close()
    with open(segment_path(tmp_path, 2), "r+b") as f:
        f.seek(-20, 2)
        f.write(b"\xff")
    assert check.main(str(tmp_path), True) == 0
    # begins a segment behind those that wait
    lost = Node(tmp_path, epoch=2, max_segment_size=1)
    assert lost.recovered.unapplied == {first.replica.actor: 60} and lost.recovered.waiting
    lost.close()
    last = segment_numbers(tmp_path)[-1]
    assert header_of(segment_path(tmp_path, last), last, None).ceiling == lost.recovered.unapplied
    healed = Node(tmp_path, epoch=3)
    for batch in first.made:
        healed.replica.receive(batch)
    # as if the process had ended after it logged only the op that was missing
    applied = healed.replica.clock_ids()[first.replica.actor]
    missing = lost.replica.clock_ids()[first.replica.actor]
    assert applied == 60 and missing < 60
    healed.log.writer.add(record(first.made[missing]))
    healed.log.close()
    again = Node(tmp_path, epoch=4, max_segment_size=700)
    again.made = first.made
    assert again.recovered.waiting == 0
    everybody_gets_everything(again)
    again.close()


def test_records_larger_than_what_is_read_at_once_are_held_once(tmp_path):
    """Each comes alone, as it stands in the file; a cut or a flipped bit in one is told as in any
    other."""
    payloads = [b"a" * 30, b"b" * 500, b"c" * 5000, b"d", b"e" * 1000]
    path = tmp_path / "file"
    data = b"".join(map(record, payloads))
    path.write_bytes(data)
    fd = os.open(path, os.O_RDWR)
    found = list(read_batches(fd, 0, len(data), 100, 200))
    assert (b"".join(batch for batch, _, _ in found) == b"".join(payloads)
            and found[-1][1] == len(data))
    assert ([batch for batch, _, _ in found if len(batch) > 200]
            == [p for p in payloads if len(p) > 200])
    begin = 38 + 508
    for end in (begin + 4, begin + 200, begin + 5000):
        with pytest.raises(CutShort) as e:
            list(read_batches(fd, 0, end, 100, 200))
        assert e.value.offset == begin
    for at in (begin + 5, begin + 100, begin + 5007):
        os.pwrite(fd, bytes([data[at] ^ 4]), at)
        with pytest.raises(FormatError) as e:
            list(read_batches(fd, 0, len(data), 100, 200))
        assert e.value.offset == begin
        os.pwrite(fd, data[at:at + 1], at)
    os.ftruncate(fd, begin + 3000)
    with pytest.raises(CutShort):
        list(read_batches(fd, 0, len(data), 100, 200))
    os.close(fd)


def test_who_stands_behind_what_goes_meanwhile_reads_on(node):
    """The first file is looked for, and goes before it is found."""
    node.fill(300)
    numbers = segment_numbers(node.folder)
    first = iter([1, 1])                    # for who will look again, and for who looks

    def began() -> int:
        found = next(first, numbers[3])
        if found == 1:
            for number in numbers[:3]:
                segment_path(node.folder, number).unlink(missing_ok=True)
        return found

    reader = LogReader(node.folder, node.log.writer.position, first=began)
    batch, behind = reader.read((numbers[-3], header_of(segment_path(node.folder, numbers[-3]),
                                                        numbers[-3], None).size))
    assert batch and behind[0] >= numbers[-3]

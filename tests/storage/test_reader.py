"""The log as peers are served from it, read while it is being written."""
import os
import threading

import pytest

from crdtredis._core import Replica
from crdtredis.storage import segments
from crdtredis.storage.reader import LogReader
from tests.storage.node import Node


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path, max_segment_size=3000)
    yield node
    node.close()


def peer():
    replica = Replica("b", 1)
    replica.now = 10_000_000
    return replica


def fed(reader, clock, replica=None):
    replica = replica or peer()
    for batch in reader.since(clock):
        replica.receive(batch)
    return replica


def test_from_the_beginning_it_gives_everything(node):
    node.fill(200)
    other = fed(LogReader(node.folder, node.log.writer.place), {})
    assert other.digest() == node.digest() and other.waiting()["ops"] == 0


def test_it_begins_at_the_last_segment_that_the_clock_covers(node):
    node.fill(200)
    reader = LogReader(node.folder, node.log.writer.place)
    links = reader.links()
    for link in links:
        whole = sum(map(len, reader.since({})))
        part = sum(map(len, reader.since(link.header.clock)))
        size = sum(x.path.stat().st_size for x in links if x.number >= link.number)
        assert part <= size and (link is links[0]) == (part == whole)
        if link is not links[0]:
            # a peer with that clock can apply it, although the actors were declared in the first segment
            actor = node.replica.actor
            assert link.header.clock[actor] > 0
            fresh = peer()
            for batch in reader.since(link.header.clock):
                fresh.receive(batch)
            assert fresh.waiting()["ops"] == 200 - link.header.clock[actor]


def test_what_a_clock_lacks_is_complete(node):
    node.fill(100)
    reader = LogReader(node.folder, node.log.writer.place)
    other = fed(reader, {})
    node.fill(100, seed=2)
    fed(reader, other.clock_ids(), other)
    assert other.digest() == node.digest()


def test_floor_is_where_the_oldest_segment_begins(node):
    node.fill(100)
    assert LogReader(node.folder, node.log.writer.place).floor() == {}


def test_it_follows_the_end_while_it_is_written_and_through_rotations(node):
    node.fill(10)
    reader = LogReader(node.folder, node.log.writer.place)
    other, turns = peer(), 0
    for batch in reader.since({}):
        other.receive(batch)
        if turns < 300:
            node.set(b"k", b"%d" % turns)
            turns += 1
    assert turns == 300 and other.digest() == node.digest() and node.ends[-1][0] > 2


def test_it_reads_beside_a_writing_thread(node):
    done = threading.Event()

    def write():
        for i in range(4000):
            node.set(b"k%d" % (i % 10), b"%d" % i)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    other = peer()
    reader = LogReader(node.folder, node.log.writer.place, batch_bytes=500)
    while not done.is_set():
        fed(reader, other.clock_ids(), other)
        assert other.waiting()["ops"] == 0
    writer.join()
    fed(reader, other.clock_ids(), other)
    assert other.digest() == node.digest()


def test_it_never_reads_beyond_the_published_end(node):
    node.fill(10)
    number, end = node.log.writer.place()
    with open(node.folder / f"segment-{number:016d}.log", "ab") as f:
        f.write(b"half a record")
    assert fed(LogReader(node.folder, node.log.writer.place), {}).digest() == node.digest()


def test_it_goes_on_when_the_segment_it_reads_becomes_void(node, monkeypatch):
    node.fill(10)
    node.log.sync()
    reader = LogReader(node.folder, node.log.writer.place, batch_bytes=100)
    other, n = peer(), 0
    for batch in reader.since({}):
        other.receive(batch)
        n += 1
        if n == 3:
            node.fill(3, seed=3)
            monkeypatch.setattr(segments.os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(5, os.strerror(5))))
            node.log.sync()
            monkeypatch.undo()
            assert node.log.tick() is None
            node.fill(3, seed=4)
    assert node.log.writer.place()[0] >= 2 and other.digest() == node.digest()

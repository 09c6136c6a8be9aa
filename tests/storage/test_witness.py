"""The page by which a restarted process knows that it may go on as the actor that was there."""
import itertools
import os
import struct
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

import pytest

from crdtredis._core import Replica, SegmentWriter
from crdtredis.clocks import actor_id
from crdtredis.errors import UndeclaredActor
from crdtredis.storage import witness
from crdtredis.storage.witness import (REST, SIZE, STRAYS, Sighting, is_next, name_of,
                                       open_witness, proves)
from tests.core.test_pending import NOW, parts, write
from tests.storage.node import Node

SHM = Path("/dev/shm")


@pytest.fixture
def page(tmp_path):
    """open(): the page of a directory; removed after the test."""
    opened = []

    def take(replica_id: str = "a", folder: Path = tmp_path):
        opened.append(open_witness(folder, replica_id))
        return opened[-1]
    take.path = SHM / name_of(os.stat(tmp_path))
    yield take
    for w in opened:
        w is None or w._page.closed or w.close()
    take.path.unlink(missing_ok=True)


def test_what_proves():
    seen = Sighting(7, 5, 3, (2, 100))
    assert is_next(seen, 7) and not is_next(seen, 8) and not is_next(None, 0)
    assert proves(seen, (2, 100), False, 3) and proves(seen, (3, 1), False, 3)
    for position, repaired, seq in [((2, 99), False, 3), ((1, 500), False, 3), (None, False, 3),
                                    ((2, 100), True, 3), ((2, 100), False, 2),
                                    ((2, 100), False, 4)]:
        assert not proves(seen, position, repaired, seq)


def test_it_says_what_it_was_told(page, tmp_path):
    w = page()
    assert w.testimony() is None
    w.bind(tmp_path, 7, 5, 3, (2, 100))
    assert w.testimony() == Sighting(7, 5, 3, (2, 100))
    w.words[0], w.words[2] = 4, 120
    w.beat()
    w.close()
    w = page()
    assert w.testimony() == Sighting(7, 5, 4, (2, 120))
    w.move(8)
    assert w.testimony() == Sighting(8, 5, 4, (2, 120))
    w.release()
    assert w.testimony() is None
    w.close()
    assert page().testimony() is None


def test_it_is_of_one_replica(page, tmp_path):
    w = page("a")
    w.bind(tmp_path, 7, 5, 3, (2, 100))
    w.close()
    assert page("b").testimony() is None


def test_no_byte_of_it_can_be_anything_that_a_start_stumbles_over(page, tmp_path):
    w = page()
    w.bind(tmp_path, 7, 5, 3, (2, 100))
    w.close()
    whole = page.path.read_bytes()
    for i in range(REST.size + 40):
        with open(page.path, "r+b") as f:
            f.write(whole[:i] + bytes([whole[i] ^ 0xff]) + whole[i + 1:])
        w = page()
        w.testimony()
        w.close()
    for size in (0, 1, SIZE - 1, SIZE + 1):
        with open(page.path, "r+b") as f:
            f.write(whole)
            f.truncate(size)
        w = page()
        assert w.testimony() is None
        w.close()


def test_one_holder_at_a_time(page):
    assert page() is not None and page() is None


def test_no_page_on_a_disk(page, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(Path(__file__).parent))
    assert page() is None
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "nowhere"))
    assert page() is None
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/dev/shm:/somewhere")
    assert page() is not None


def test_a_path_that_finds_no_room_has_no_page(page, monkeypatch):
    monkeypatch.setattr(witness, "PATH", SIZE - 4)
    assert page() is None


def test_strays_are_looked_for_a_while_only(page, tmp_path, monkeypatch):
    """Only this user's, only of directories that are gone, and no more than so many at a start."""
    assert STRAYS >= 100
    monkeypatch.setattr(witness, "STRAYS", 1)
    folders = [tmp_path / "x", tmp_path / "y"]
    for f in folders:
        f.mkdir()
        w = page("a", f)
        w.bind(f, 7, 5, 3, (2, 100))
        w.close()
    paths = [SHM / name_of(os.stat(f)) for f in folders]
    for f in folders:
        f.rmdir()
    monkeypatch.setattr(witness, "STRAYS", 1000)
    page()
    assert not any(p.exists() for p in paths)


LOOKING = """
import sys
from pathlib import Path
from crdtredis.storage.witness import remove_strays
print("begun", flush=True)
while True:
    remove_strays(Path(sys.argv[1]))
"""


def test_who_looks_for_strays_keeps_nobody_from_his_page(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir=SHM) as place:
        monkeypatch.setenv("RUNTIME_DIRECTORY", place)
        w = open_witness(tmp_path, "a")
        w.bind(tmp_path, 7, 5, 3, (2, 100))
        w.close()
        with subprocess.Popen([sys.executable, "-c", LOOKING, place],
                              stdout=subprocess.PIPE) as other:
            try:
                other.stdout.readline()
                end = time.monotonic() + 1
                while time.monotonic() < end:
                    w = open_witness(tmp_path, "a")
                    assert w is not None and w.testimony() is not None
                    w.close()
            finally:
                other.kill()


def test_the_log_is_followed(tmp_path):
    """Every byte of it, into the next segments and after failures, before anybody else knows."""
    words = array("L", [0, 0, 0])
    node = Node(tmp_path, max_segment_size=700)
    node.log.writer.testify(memoryview(words))
    for i in range(80):
        node.set(b"k", b"%d" % i)
        assert tuple(words[1:]) == node.log.writer.position()
    assert words[1] > 3
    node.log.writer.testify(None)
    node.set(b"k", b"v")
    assert tuple(words[1:]) < node.log.writer.position()
    node.close()
    with pytest.raises(ValueError, match="three words"):
        SegmentWriter().testify(memoryview(array("L", [0, 0])))


def test_an_actor_must_be_known_to_its_end():
    a, b = Replica("a", 1, seed=1), Replica("a", 2, seed=1)
    a.now = b.now = NOW
    first, second, third = (parts(write(a))[0] for _ in range(3))
    with pytest.raises(ValueError, match="not known"):
        b.resume(1)
    b.declare("a", 1)
    b.receive(first), b.receive(third)
    with pytest.raises(ValueError, match="not known here to its end"):
        b.resume(1)
    b.receive(second)
    b.resume(1)
    assert (b.actor, b.epoch, b.clock()) == (actor_id("a", 1), 1, {("a", 1): 3})
    write(b)
    assert b.clock() == {("a", 1): 4}
    with pytest.raises(RuntimeError, match="too late"):
        b.resume(1)
    with pytest.raises(UndeclaredActor):
        b.receive(parts_beyond(a, 5))


def parts_beyond(a: Replica, seq: int) -> bytes:
    """An op of the same actor that this process never made."""
    return next(itertools.islice((parts(write(a))[0] for _ in itertools.count()), seq - 4, None))


def test_what_it_goes_on_with_is_what_the_last_process_had():
    """Deps, stamps and seqs follow on, so that others see one actor without a gap."""
    a, other = Replica("a", 1, seed=1), Replica("o", 1, seed=1)
    a.now = other.now = NOW
    batches = [write(a, b"k", b"1")]
    foreign = write(other, b"k", b"2")
    a.receive(foreign)
    batches += [a.take_ops()]
    again = Replica("a", 2, seed=1)
    again.now = NOW - 1000
    again.recovering = True
    for batch in batches:
        again.receive(batch)
    again.recovering = False
    again.resume(1)
    op = write(again, b"k", b"3")
    other.receive(batches[0])
    other.receive(op)
    assert other.digest() == again.digest() and again.clock() == {("a", 1): 2, ("o", 1): 1}
    waits = Replica("w", 1, seed=1)
    waits.now = NOW
    waits.declare("o", 1)
    waits.receive(batches[0]), waits.receive(op)
    assert waits.pending()["ops"] == 1          # it has seen the other's
    assert struct.calcsize("L") == 8

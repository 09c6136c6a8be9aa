"""Checkpoints on disk: what a start brings back from one and the log behind it, and what becomes of
one that fails, is cut short, damaged, or overtaken by a failure of the log."""
import errno
import json
import os
import random
import shutil
import time
from pathlib import Path

import orjson
import pytest

from crdtredis._core import record
from crdtredis.storage import check, checkpoint
from crdtredis.storage.checkpoint import Checkpoints, checkpoint_numbers, checkpoint_path
from crdtredis.storage.format import FormatError
from crdtredis.storage.identity import take_identity
from crdtredis.storage.retention import Retention
from tests.storage.node import Node


class Loop:
    """What Checkpoints needs of the engine's."""

    def __init__(self, node: Node, most: int = 0, peers: dict[str, dict] | None = None) -> None:
        self.work, self.calls, self.peers = [], [], {} if peers is None else peers
        self.retention = Retention(node.folder, node.log, most, lambda: self.peers)
        self.checkpoints = Checkpoints(node.folder, node.replica, node.log, self.retention,
                                       node.recovered.begun_with, self.calls.append,
                                       self.work.append)

    def turn(self) -> None:
        while self.calls:
            self.calls.pop(0)()
        for work in list(self.work):
            if not work():
                self.work.remove(work)

    def finish(self) -> str | None:
        """Until the one under way has ended: why it failed."""
        end = time.monotonic() + 60
        while self.checkpoints.in_progress:
            assert time.monotonic() < end
            self.turn()
        return self.checkpoints.status().error


def node_with(folder, iterations: int = 50, **settings) -> tuple[Node, Loop]:
    node = Node(folder, **settings)
    node.fill(iterations)
    return node, Loop(node)


def again(node: Node, epoch: int) -> Node:
    """Killed and started."""
    os.close(node.log.writer.attach(-1, 0, 0, 0, 0, 0))
    return Node(node.folder, epoch)


def test_a_start_takes_the_checkpoint_and_the_log_behind_it(tmp_path):
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    assert loop.finish() is None
    node.fill(20, seed=2)
    digest, clock = node.digest(), node.replica.clock()
    back = again(node, 2)
    assert (back.digest(), back.replica.clock()) == (digest, clock)
    assert back.recovered.checkpoint == checkpoint_path(tmp_path, 1)
    assert back.recovered.records == 20
    assert back.recovered.ignored == ""


def test_what_happens_during_the_walk_is_in_the_log(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "StateWriter", small_pieces(checkpoint.StateWriter, 1))
    rng = random.Random(3)
    node, loop = node_with(tmp_path, max_segment_size=3000)
    epoch = 1
    for i in range(6):
        loop.checkpoints.begin()
        while loop.work or loop.checkpoints.in_progress:
            loop.turn()
            if loop.work and rng.random() < 0.3:
                node.fill(1, seed=rng.random())
        node.fill(rng.randrange(5), seed=i)
        digest, clock = node.digest(), node.replica.clock()
        epoch += 1
        node = again(node, epoch)
        assert (node.digest(), node.replica.clock()) == (digest, clock)
        assert checkpoint_numbers(tmp_path) == [i, i + 1][i == 0:]
        node.replica.check()
        loop = Loop(node)


def small_pieces(kind, most: int):
    class Small:
        def __init__(self, replica, **options):
            self.walk = kind(replica, **options)

        def next(self):
            return self.walk.next(most)
    return Small


def test_one_that_is_not_whole_does_not_count(tmp_path):
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    loop.turn()
    loop.turn()
    digest = node.digest()
    assert not checkpoint_numbers(tmp_path)
    loop.checkpoints.stop()
    assert loop.finish() == "the server stops"
    assert not list(tmp_path.glob("checkpoint*"))
    (tmp_path / "checkpoint-0000000000000001.ckpt.tmp").write_bytes(b"CRDTCHK1 left by a crash")
    back = again(node, 2)
    assert back.digest() == digest and back.recovered.checkpoint is None
    Loop(back)
    assert not list(tmp_path.glob("checkpoint*"))


def test_while_the_disk_is_nearly_full_none_is_made(tmp_path, monkeypatch):
    node, loop = node_with(tmp_path)
    monkeypatch.setattr(checkpoint, "KEEP_FREE", 1 << 60)
    loop.checkpoints.begin()
    assert "nearly full" in loop.finish()
    assert not list(tmp_path.glob("checkpoint*"))
    assert loop.checkpoints.status().failed == 1 and not loop.checkpoints.due(0)
    monkeypatch.undo()
    loop.checkpoints.begin()
    assert loop.finish() is None


@pytest.mark.parametrize("call", ["write", "fdatasync", "rename"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_failing_disk_leaves_nothing_behind(tmp_path, monkeypatch, call, error):
    node, loop = node_with(tmp_path)

    def fail(*args):
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as m:
        if call == "write":
            m.setattr(checkpoint, "write_all", fail)
        else:
            m.setattr(checkpoint.os, call, fail)
        loop.checkpoints.begin()
        assert os.strerror(error) in loop.finish()
    assert not list(tmp_path.glob("checkpoint*"))
    loop = Loop(again(node, 2)) if node.log.writer.is_failed else loop
    loop.checkpoints.begin()
    assert loop.finish() is None


def test_a_log_that_fails_meanwhile_voids_it(tmp_path):
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    loop.turn()
    node.log.writer.fail(errno.EIO, False)
    assert "log could not be forced" in loop.finish()
    assert node.log.tick() is None
    loop.checkpoints.begin()
    assert loop.finish() is None
    digest = node.digest()
    assert again(node, 2).digest() == digest


def test_a_segment_that_is_begun_during_the_sync_voids_nothing(tmp_path, monkeypatch):
    node, loop = node_with(tmp_path)
    sync, begun = node.log.sync, []

    def rotating(**how):
        if len(begun) < 3:
            sync_names = node.log._sync_names

            def then_rotate():
                found = sync_names()
                node.log._succeed()
                begun.append(1)
                monkeypatch.setattr(node.log, "_sync_names", sync_names)
                return found
            monkeypatch.setattr(node.log, "_sync_names", then_rotate)
        sync(**how)

    monkeypatch.setattr(node.log, "sync", rotating)
    monkeypatch.setattr(node.log, "_closed", Behind())
    loop.checkpoints.begin()
    assert loop.finish() is None and len(begun) >= 1
    digest = node.digest()
    assert again(node, 2).digest() == digest


class Behind(list):
    """A segment that was closed just now is not found before the next look."""

    fresh = 0

    def append(self, closed):
        self.fresh = 1
        super().append(closed)

    def __bool__(self):
        self.fresh, fresh = 0, self.fresh
        return not fresh and len(self) > 0


def damaged(path, at: int, cut: bool) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:at] if cut else data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])


@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_one_is_passed_over(tmp_path, cut):
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    assert loop.finish() is None
    found = checkpoint.open_checkpoint(tmp_path, 1, "a")
    digest, size = node.digest(), found.size
    between = [found.begin, *(after for _, after in checkpoint.read_records(found))][:-1]
    node.close()
    for at in sorted({0, 8, 9, 20, *range(30, size, 97), *between, size - 1}):
        folder = tmp_path.parent / f"{tmp_path.name}-{cut}-{at}"
        shutil.copytree(tmp_path, folder)
        damaged(checkpoint_path(folder, 1), at, cut)
        back = Node(folder, 2)
        assert back.digest() == digest
        assert back.recovered.checkpoint is None and "checkpoint-" in back.recovered.ignored
        back.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("reads", [0, 1])
def test_one_that_cannot_be_read_is_passed_over(tmp_path, monkeypatch, reads):
    """Its header, or what stands behind it: the log is whole all the same."""
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    assert loop.finish() is None
    digest = node.digest()

    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if reads:
        monkeypatch.setattr(checkpoint, "read_records", fail)
    else:
        path = checkpoint_path(tmp_path, 1)
        path.unlink()
        path.mkdir()
    back = again(node, 2)
    assert back.digest() == digest and back.recovered.checkpoint is None
    assert "checkpoint-0000000000000001.ckpt: " in back.recovered.ignored


def test_a_log_that_ends_within_the_walk_is_no_torn_end(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "StateWriter", small_pieces(checkpoint.StateWriter, 1))
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    for i in range(20):
        loop.turn()
        node.set(b"new", b"%d" % i)
    assert loop.finish() is None
    begin = node.ends[49][1]
    node.close()
    segment = tmp_path / "segment-0000000000000001.log"
    os.truncate(segment, begin + 30)
    back = Node(tmp_path, 2)
    assert back.recovered.checkpoint is None
    assert "the log does not reach offset" in back.recovered.ignored
    assert back.get(b"new") is None
    back.replica.check()


def test_a_repaired_log_is_replayed_whole(tmp_path, capsys):
    take_identity(tmp_path, "a", 1)
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    assert loop.finish() is None
    node.fill(10)
    node.close()
    segment = tmp_path / "segment-0000000000000001.log"
    damaged(segment, segment.stat().st_size // 2, False)
    assert check.main(str(tmp_path), True) == 0
    back = Node(tmp_path, 2)
    assert back.recovered.checkpoint is None and back.recovered.ignored == "the log was repaired"
    assert back.recovered.waiting
    assert Loop(back).checkpoints.begin() is None


def test_while_operations_wait_for_lost_ones_none_is_made(tmp_path):
    test_a_repaired_log_is_replayed_whole(tmp_path, None)
    back = Node(tmp_path, 3)
    loop = Loop(back)
    loop.checkpoints.begin()
    assert "wait for others" in loop.finish()


def test_check_reads_them(tmp_path, capsys):
    take_identity(tmp_path, "a", 1)
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    assert loop.finish() is None
    node.close()
    assert check.main(str(tmp_path), False) == 0
    assert "checkpoint-0000000000000001.ckpt: sound" in capsys.readouterr().out
    damaged(checkpoint_path(tmp_path, 1), 300, False)
    assert check.main(str(tmp_path), False) == 0
    assert "checkpoint-0000000000000001.ckpt: DAMAGED" in capsys.readouterr().out
    assert check.main(str(tmp_path), True) == 0
    assert not checkpoint_numbers(tmp_path)
    assert len(list(tmp_path.glob("checkpoint-*.damaged"))) == 1


def test_when_one_is_due(tmp_path):
    node, loop = node_with(tmp_path, 400, max_segment_size=3000)
    assert loop.checkpoints.due(3)
    loop.checkpoints.begin()
    assert not loop.checkpoints.due(3)
    assert loop.finish() is None
    assert not loop.checkpoints.due(3)
    for i in range(400):
        node.set(b"one", b"%d" % i)
    assert loop.checkpoints.due(1000)           # the log is more than twice the state


def test_the_header_says_whose_it_is(tmp_path):
    node, loop = node_with(tmp_path)
    loop.checkpoints.begin()
    assert loop.finish() is None
    with pytest.raises(FormatError, match="belongs to replica 'a', not to 'b'"):
        checkpoint.open_checkpoint(tmp_path, 1, "b")


def told_of_its_size(folder, told) -> tuple[Node, Path]:
    """A node and its checkpoint, whose header tells this of its elements; None: nothing."""
    node, loop = node_with(folder)
    loop.checkpoints.begin()
    assert loop.finish() is None
    path = checkpoint_path(folder, 1)
    data = path.read_bytes()
    end = 16 + int.from_bytes(data[8:12], "little")
    header = orjson.loads(data[16:end])
    assert sum(header.pop("elements")) == sum(node.replica.elements()) > 0
    if told is not None:
        header["elements"] = told
    path.write_bytes(data[:8] + record(json.dumps(header).encode()) + data[end:])
    return node, path


@pytest.mark.parametrize("told", [None, [], [1], [10 ** 18] * 99, [-1, 10 ** 30], [0] * 33])
def test_what_the_header_tells_of_the_size_is_no_more_than_a_hint(tmp_path, told):
    node, path = told_of_its_size(tmp_path, told)
    back = again(node, 2)
    assert back.digest() == node.digest()
    assert (back.recovered.checkpoint, back.recovered.ignored) == (path, "")
    assert back.replica.elements() == node.replica.elements()
    back.replica.check()
    assert sum(checkpoint.open_checkpoint(tmp_path, 1, "a").elements) <= path.stat().st_size // 4


@pytest.mark.parametrize("told", [7, [None], [[]], {"a": 1}, "x"])
def test_a_size_that_is_none_makes_it_another_file(tmp_path, told):
    node, _ = told_of_its_size(tmp_path, told)
    back = again(node, 2)
    assert back.digest() == node.digest()
    assert "the header is not what the format says" in back.recovered.ignored


def test_what_goes_while_it_is_walked_leaves_a_good_one(tmp_path, monkeypatch):
    """Its header tells of more than it holds."""
    monkeypatch.setattr(checkpoint, "StateWriter", small_pieces(checkpoint.StateWriter, 1))
    node, loop = node_with(tmp_path, iterations=300)
    loop.checkpoints.begin()
    loop.turn()
    for key in range(50):
        node.iterate(("delete", b"k%d" % key, b""))
    assert loop.finish() is None
    back = again(node, 2)
    assert back.digest() == node.digest()
    assert (back.recovered.checkpoint, back.recovered.ignored) == (checkpoint_path(tmp_path, 1), "")

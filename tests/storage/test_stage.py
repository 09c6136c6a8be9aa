"""Stages on disk: what is written is read back, joined at a start, and refused where it is not
whole."""
import errno
import io
import time
from types import SimpleNamespace

import pytest

from crdtredis._core import (BucketDigests, Replica, SegmentWriter, StateJoin, StateWriter,
                             bucket_map, record)
from crdtredis._engine import Executor
from crdtredis.clocks import Actor, join
from crdtredis.storage.backup import Backup
from crdtredis.storage.batch import declaration
from crdtredis.errors import EXIT_DATA, DamagedState
from crdtredis.storage.chain import read_chain
from crdtredis.storage.check import main
from crdtredis.storage.checkpoint import checkpoint_numbers
from crdtredis.storage.exchange import StateExchange
from crdtredis.storage.format import FormatError, segment_path
from crdtredis.storage.identity import Identity, store_identity
from crdtredis.storage.reader import LogReader
from crdtredis.storage.recovery import RecoveryError, recover
from crdtredis.storage.restore import restore
from crdtredis.storage.segments import SegmentLog
from crdtredis.storage.stage import (Contents, Draft, join_steps, open_stage, remove_strays,
                                     remove_superseded_stages, stage_numbers, stage_path, verify)


class Node:
    """A replica with commands. made: its ops so far, which go nowhere."""

    def __init__(self, name: str, epoch: int = 1) -> None:
        self.replica = Replica(name, epoch)
        self.replica.now = time.time_ns() // 1_000_000
        self.executor = Executor(self.replica)
        self.session = self.executor.session()
        self.made = b""

    def __call__(self, *argv) -> bytes:
        """Runs it; returns the Batch that was made."""
        self.executor.execute(self.session, [str(a).encode() for a in argv])
        batch = self.replica.take_ops()
        self.made += batch
        return batch

    def get(self, key: str) -> bytes:
        return self.executor.execute(self.session, [b"GET", key.encode()])

    def digest(self) -> str:
        return self.replica.digest()


def result(steps):
    while True:
        try:
            next(steps)
        except StopIteration as e:
            return e.value


def digests(replica):
    d = BucketDigests(replica)
    while d.step():
        pass
    return d.result()


def staged(folder, giver: Node, receiver: Node, number: int = 1, whole: bool = False):
    """(stage, contents) of what the receiver lacks of the giver, who writes meanwhile."""
    start = giver.replica.clock_ids()
    buckets = None if whole else bucket_map(digests(receiver.replica), digests(giver.replica))
    draft = Draft(folder, number, receiver.replica.id, giver.replica.id, buckets)
    writer = StateWriter(giver.replica, buckets)
    records, tail = 0, []
    while piece := writer.next(500):
        draft.put(piece)
        records += 1
        tail.append(giver("INCR", "meanwhile"))
    actors = tuple(Actor(*a) for a in giver.replica.declared())
    for batch in [declaration(actors), *tail]:
        draft.put(record(batch))
    contents = Contents(start, giver.replica.clock_ids(), actors, records, 1 + len(tail))
    stage = draft.complete(contents)
    assert result(verify(stage, receiver.replica)) == contents
    return draft.publish(), contents


@pytest.fixture
def pair():
    a, b = Node("a"), Node("b")
    for i in range(300):
        b.replica.receive(a("SET", f"k{i}", "v" * 50) + a("RPUSH", "l", i) + a("INCR", "n"))
    b.replica.take_ops()
    return a, b


def test_what_is_staged_is_joined(tmp_path, pair):
    a, b = pair
    lost = [a("SET", "new", 1), a("DEL", "k7"), a("INCRBY", "n", 5), a("LPOP", "l")]
    own = b("SET", "own", 2)
    stage, contents = staged(tmp_path, a, b)
    assert stage.number == 1 and stage.giver == "a" and 0 < len(stage.buckets) == 512
    for _ in join_steps(stage, contents, b.replica):
        pass
    a.replica.receive(own)
    assert b.digest() == a.digest() and len(lost) == 4
    assert b.replica.clock_ids() == a.replica.clock_ids()


def test_a_draft_that_is_discarded_leaves_nothing(tmp_path):
    draft = Draft(tmp_path, 3, "b", "a", None)
    assert [p.name for p in tmp_path.iterdir()] == ["stage-0000000000000003.state.tmp"]
    draft.discard()
    draft.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_disk_is_left_some_room(tmp_path, monkeypatch):
    draft = Draft(tmp_path, 3, "b", "a", None)
    monkeypatch.setattr("crdtredis.storage.stage.KEEP_FREE", 1 << 60)
    with pytest.raises(OSError, match="nearly full"):
        draft.put(b"x")
    with pytest.raises(OSError, match="nearly full"):
        Draft(tmp_path, 4, "b", "a", None)
    draft.discard()
    assert list(tmp_path.iterdir()) == []


def test_every_byte_counts(tmp_path, pair):
    a, b = pair
    a("SET", "new", 1)
    stage, _ = staged(tmp_path, a, b)
    data = stage.path.read_bytes()
    for at in range(0, len(data), 37):
        stage.path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1:])
        with pytest.raises(FormatError):
            result(verify(open_stage(stage.path, 1, "b"), b.replica))
    for at in range(0, len(data), 101):
        stage.path.write_bytes(data[:at])
        with pytest.raises(FormatError):
            result(verify(open_stage(stage.path, 1, "b"), b.replica))
    with pytest.raises(FormatError, match="belongs to replica 'b'"):
        stage.path.write_bytes(data)
        open_stage(stage.path, 1, "c")
    with pytest.raises(FormatError, match="another file"):
        open_stage(stage.path, 2, "b")


# ---- in the log ----------------------------------------------------------------------------------


class Logged:
    """A receiver with a log in a folder."""

    def __init__(self, folder) -> None:
        self.folder, self.node = folder, Node("b")
        self.log = SegmentLog(folder, "b", lambda: (self.node.replica.declared(),
                                                    self.node.replica.clock_ids()),
                              policy="no", writer=SegmentWriter())
        self.reader = LogReader(folder, self.log.writer.position)

    def write(self, batch: bytes) -> None:
        assert self.log.writer.add(record(batch))

    def run(self, *argv) -> None:
        self.write(self.node(*argv))

    def recovered(self) -> Replica:
        return self.recovered_in(self.folder)

    def recovered_in(self, folder) -> Replica:
        found = Replica("b", 99)
        found.now = self.node.replica.now
        recover(folder, "b", found)
        return found


@pytest.fixture
def joined(tmp_path):
    a, r = Node("a"), Logged(tmp_path)
    first = a("SET", "k", "old") + a("INCRBY", "n", 3)
    r.node.replica.receive(first)
    r.write(r.node.replica.take_ops())
    r.run("SET", "own", 1)
    a("DEL", "k"), a("SET", "j", "new"), a("INCRBY", "n", 4)
    stage, contents = staged(tmp_path, a, r.node)
    before = r.node.replica.clock_ids()
    r.log.begin_joined(stage.number, contents.actors, contents.clock)
    for _ in join_steps(stage, contents, r.node.replica):
        pass
    r.run("INCRBY", "n", 10)
    r.before, r.stage, r.giver = before, stage, a
    return r


class StillLoop:
    """What a join needs of one."""

    joining = False

    def __init__(self) -> None:
        self.work: list = []
        self.add_work = self.work.append


def begin_join(folder, r, stage, contents, before=None):
    """(loop, why the process is to end, outcomes) when the join has ended."""
    loop, failed, outcomes = StillLoop(), [], []
    loop.checkpoints = []
    checkpoints = SimpleNamespace(let_go=lambda: loop.checkpoints.append("go on"),
                                  begin=lambda: loop.checkpoints.append("begin"))
    StateExchange(folder, r.node.replica, r.log, checkpoints, loop, failed.append).join(
            stage, contents, before, lambda *outcome: outcomes.append(outcome))
    while loop.work[0]():
        pass
    return loop, failed, outcomes


class Failing:
    """A StateJoin that fails at a step: 0 is its beginning."""

    def __init__(self, fails_at: int, error: type[Exception]) -> None:
        self.left, self.error, self.done = fails_at, error, []

    def __call__(self, *argv):
        self.count("begin")
        self.joining = StateJoin(*argv)
        return self

    def __getattr__(self, name):
        def step(*argv):
            self.count(name)
            return getattr(self.joining, name)(*argv)
        return step

    def count(self, name):
        if self.left == 0:
            raise self.error("broken")
        self.left -= 1
        self.done.append(name)


@pytest.mark.parametrize("error", [OSError, MemoryError, RuntimeError, DamagedState])
def test_an_error_in_any_step_of_the_join_leaves_nobody_with_a_part_of_it(
        tmp_path, monkeypatch, error):
    """The process ends, without having let in a write, and the start joins all of it. Where that
    fails in turn, the start is refused, and the next one does it."""
    monkeypatch.setattr("crdtredis.storage.stage.SLICE", 20)
    monkeypatch.setattr("crdtredis.storage.exchange.SLICE", 0)
    a = Node("a")
    for i in range(30):
        a("SET", f"k{i}", i), a("RPUSH", "l", i), a("INCRBY", "n", i), a("HSET", "h", i, i)
    at, steps = 0, set()
    while True:
        folder = tmp_path / str(at)
        folder.mkdir()
        r = Logged(folder)
        r.run("SET", "own", 1), r.run("RPUSH", "l", "mine")
        expected = Node("y")
        stage, contents = staged(folder, a, r.node)
        expected.replica.receive(a.made + r.node.made)
        failing = Failing(at, error)
        with monkeypatch.context() as patched:
            patched.setattr("crdtredis.storage.stage.StateJoin", failing)
            loop, failed, outcomes = begin_join(folder, r, stage, contents)
        steps |= {*failing.done}
        if not failed:
            break
        assert loop.joining and outcomes == [] and loop.checkpoints == []
        r.log.close()
        failing = Failing(min(at, 10), error)                   # tables differ, and so do steps
        with monkeypatch.context() as patched:
            patched.setattr("crdtredis.storage.stage.StateJoin", failing)
            with pytest.raises((RecoveryError, error)):
                r.recovered()
        assert r.recovered().digest() == expected.digest()
        at += 1
    assert at > 12 and steps == {"begin", "take", "step", "apply", "finish"}
    assert len(outcomes) == 1 and loop.checkpoints == ["go on", "begin"] and not loop.joining
    assert r.node.digest() == expected.digest() and not r.node.replica.joining


def test_a_disk_that_fails_in_the_middle_of_the_join_ends_the_process(tmp_path, monkeypatch):
    """For memory holds a part of the stage, and the log names it: the next start joins it whole."""
    a, r = Node("a"), Logged(tmp_path)
    a("SET", "k", 1)
    stage, contents = staged(tmp_path, a, r.node)

    def broken(*argv):
        steps = join_steps(*argv)
        yield next(steps)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("crdtredis.storage.exchange.join_steps", broken)
    loop, failed, outcomes = begin_join(tmp_path, r, stage, contents)
    assert len(failed) == 1 and "the next start tries again" in failed[0]
    assert outcomes == [] and loop.joining
    r.log.close()
    found = Executor(r.recovered())
    assert found.execute(found.session(), [b"GET", b"k"]) == b"$1\r\n1\r\n"


def test_a_log_that_cannot_name_it_leaves_all_as_it_was(tmp_path, monkeypatch):
    a, r = Node("a"), Logged(tmp_path)
    a("SET", "k", 1)
    stage, contents = staged(tmp_path, a, r.node)

    def full(*argv):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(r.log, "begin_joined", full)
    loop, failed, ((error, _),) = begin_join(tmp_path, r, stage, contents)
    assert failed == [] and "No space left" in error and not loop.joining
    r.run("SET", "k", 2)


def test_a_start_joins_it_again(joined):
    digest = joined.node.digest()
    joined.log.close()
    found = joined.recovered()
    assert found.digest() == digest and found.clock_ids() == joined.node.replica.clock_ids()
    assert joined.recovered().digest() == digest


def test_a_start_right_after_the_segment_was_begun(joined):
    """Nothing was written behind it: a crash in the middle of the join."""
    joined.log.close()
    path = segment_path(joined.folder, 2)
    with open(path, "r+b") as f:
        f.truncate(read_chain(joined.folder, 2, "b")[-1].begin)
    found = Executor(joined.recovered())
    session = found.session()
    assert found.execute(session, [b"GET", b"n"]) == b"$1\r\n7\r\n"
    assert found.execute(session, [b"EXISTS", b"k", b"j", b"own"]) == b":2\r\n"


@pytest.mark.parametrize("damage", ["missing", "cut", "another's"])
def test_a_start_without_it_is_refused(joined, damage):
    joined.log.close()
    path = joined.stage.path
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.write_bytes(path.read_bytes().replace(b'"replica":"b"', b'"replica":"x"', 1))
    with pytest.raises(RecoveryError, match="stage-0000000000000001"):
        joined.recovered()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("damage", ["missing", "rotten"])
def test_a_repair_goes_on_without_it_and_what_builds_on_it_waits(joined, damage, capsys):
    joined.log.close()
    store_identity(joined.folder, Identity("b", 1))
    path = joined.stage.path
    if damage == "missing":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
    assert main(str(joined.folder), repair=False) == EXIT_DATA
    floor = LogReader(joined.folder, lambda: (2, segment_path(joined.folder, 2).stat().st_size)
                      ).floor()
    for _ in range(2):                  # once more changes nothing
        assert main(str(joined.folder), repair=True) == 0
        assert not path.exists()
    assert "goes on without stage-0000000000000001.state" in capsys.readouterr().out
    assert path.with_suffix(".damaged").exists() == (damage == "rotten")
    found = joined.recovered()
    assert found.clock_ids() == joined.before and found.pending()["ops"] == 1
    size = segment_path(joined.folder, 2).stat().st_size
    assert LogReader(joined.folder, lambda: (2, size)).floor() == floor
    # a peer has it still, and gives it once more
    back = Node("b")
    back.replica, back.executor = found, Executor(found)
    stage, contents = staged(joined.folder, joined.giver, back, number=2)
    for _ in join_steps(stage, contents, found):
        pass
    assert found.pending()["ops"] == 0
    clock = dict(joined.giver.replica.clock_ids())
    join(clock, joined.node.replica.clock_ids())
    assert found.clock_ids() == clock
    assert found.inspect(0, b"own") == joined.node.replica.inspect(0, b"own")


def test_an_earlier_version_refuses_the_segment(joined):
    assert b'"format":2' in segment_path(joined.folder, 2).read_bytes()
    assert b'"format":1' in segment_path(joined.folder, 1).read_bytes()


def test_the_log_does_not_hold_what_was_joined(joined):
    a = joined.giver.replica.actor
    floor = joined.reader.floor()
    # the giver's ops behind what had come by the log; and nothing of its own
    assert floor == {a: joined.giver.replica.clock_ids()[a]} and joined.before[a] < floor[a]
    links = joined.reader.links()
    assert [x.stage for x in links] == [None, 1]
    behind = b"".join(joined.reader.since({**joined.before, **floor}))
    assert behind


def test_what_no_segment_names_goes_at_a_start(joined):
    for n in (2, 3):
        stage_path(joined.folder, n).touch()
    (joined.folder / "stage-0000000000000004.state.tmp").touch()
    remove_strays(joined.folder, {link.stage for link in joined.reader.links()})
    assert stage_numbers(joined.folder) == [1] and not list(joined.folder.glob("*.tmp"))


def test_one_is_superseded_once_checkpoints_lie_behind_the_segment_that_names_it(joined):
    stage_path(joined.folder, 2).touch()                        # that nobody names yet
    for before, left in ((1, [1, 2]), (2, [2])):
        remove_superseded_stages(joined.folder, 2, 1, before)
        assert stage_numbers(joined.folder) == left
    # the log rotated between the beginning of this one and its join
    stage_path(joined.folder, 0).touch()
    joined.log.begin_joined(0, (), {})
    for before, left in ((1, [0, 2]), (2, [0, 2]), (3, [])):
        remove_superseded_stages(joined.folder, 3, 1, before)
        assert [n for n in stage_numbers(joined.folder) if n != 2 or before < 3] == left


def test_a_backup_ends_behind_the_checkpoints_that_are_in_it(joined, tmp_path, capsys, monkeypatch):
    """One that gets its name while the backup begins goes on where the log came to meanwhile."""
    store_identity(joined.folder, Identity("b", 1))

    def slow(folder):
        joined.run("SET", "meanwhile", 1)
        return checkpoint_numbers(folder)
    monkeypatch.setattr("crdtredis.storage.backup.checkpoint_numbers", slow)
    backup = Backup(joined.folder, joined.log)
    archive = io.BytesIO(b"".join(backup.read()))
    backup.close()
    assert restore(archive, tmp_path / "restored") == 0, capsys.readouterr().out
    found = Executor(joined.recovered_in(tmp_path / "restored"))
    assert found.execute(found.session(), [b"GET", b"meanwhile"]) == b"$1\r\n1\r\n"


def test_a_backup_has_those_that_its_segments_name(joined, tmp_path, capsys):
    store_identity(joined.folder, Identity("b", 1))
    joined.run("SET", "behind", 1)
    backup = Backup(joined.folder, joined.log)
    joined.run("SET", "not in it", 1)
    assert sorted(p.path.name[:6] for p in backup.parts) == [
        "identi", "segmen", "segmen", "stage-"]
    archive = io.BytesIO(b"".join(backup.read()))
    assert joined.log.pins == 1
    backup.close()
    assert joined.log.pins == 0
    to = tmp_path / "restored"
    assert restore(archive, to) == 0, capsys.readouterr().out
    found = Executor(joined.recovered_in(to))
    session = found.session()
    assert found.execute(session, [b"GET", b"behind"]) == b"$1\r\n1\r\n"
    assert found.execute(session, [b"GET", b"j"]) == b"$3\r\nnew\r\n"
    assert found.execute(session, [b"GET", b"not in it"]) == b"$-1\r\n"

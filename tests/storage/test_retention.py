"""How long the log stays: what checkpoints make superfluous goes, what somebody needs does not, and
whatever is left at any moment, a start brings everything back from it."""
import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from crdtredis._core import Replica, batch_ranges
from crdtredis.replication.oplog import Cursor, NeedsFullSync, OpLog
from crdtredis.storage import check, checkpoint, retention, segments
from crdtredis.storage.checkpoint import checkpoint_numbers, checkpoint_path
from crdtredis.storage.format import segment_numbers, segment_path
from crdtredis.storage.identity import take_identity
from crdtredis.storage.reader import LogReader, Removed
from crdtredis.storage.recovery import RecoveryError, recover
from tests.storage.node import Node
from tests.storage.test_checkpoint import Loop, again, damaged

MANY = 1 << 40


def node_in(folder, epoch=1, **loop) -> tuple[Node, Loop]:
    folder.mkdir(exist_ok=True)
    node = Node(folder, epoch, max_segment_size=2000)
    return node, Loop(node, **loop)


def rounds(node: Node, loop: Loop, n: int = 3, iterations: int = 60) -> None:
    """As many checkpoints, with log before each."""
    for i in range(n):
        node.fill(iterations, seed=i)
        loop.checkpoints.begin()
        assert loop.finish() is None


def back(folder: Path) -> Replica:
    replica = Replica("a", 99)
    recover(folder, "a", replica, change=False)
    replica.check()
    return replica


def positions(folder) -> list[tuple[int, int]]:
    return [checkpoint.open_checkpoint(folder, n, "a").position for n in checkpoint_numbers(folder)]


def is_whole(digest: str, folder: Path, scratch: Path) -> None:
    """A start brings everything back, from the newest checkpoint and from the one before."""
    assert back(folder).digest() == digest
    shutil.copytree(folder, scratch)
    damaged(checkpoint_path(scratch, checkpoint_numbers(scratch)[-1]), 300, False)
    assert back(scratch).digest() == digest
    shutil.rmtree(scratch)


def test_what_both_checkpoints_make_superfluous_goes(tmp_path):
    node, loop = node_in(tmp_path / "data")
    rounds(node, loop, 1)
    assert segment_numbers(node.folder)[0] == 1             # one checkpoint may be damaged
    for _ in range(4):
        rounds(node, loop, 1)
        older, newer = positions(node.folder)
        assert older < newer
        assert (segment_numbers(node.folder)
                == list(range(older[0], node.log.writer.position()[0] + 1)))
        assert node.log.first == older[0] > 1
        node.fill(5)
        is_whole(node.digest(), node.folder, tmp_path / "scratch")
    status = loop.retention.status()
    assert (status.first, status.kept, status.kept_bytes) == (node.log.first, 0, 0)
    assert status.removed == node.log.first - 1 and status.error is None
    node.log._look_around()
    assert node.log.status().missing is None
    node.close()


def test_each_step_of_a_removal_leaves_a_log_that_starts(tmp_path, monkeypatch):
    """In ascending order, and each on disk before the next."""
    node, loop = node_in(tmp_path / "data")
    rounds(node, loop, 1, 150)
    steps = []

    def unlink(path, missing_ok=False):
        real(path, missing_ok)
        image = tmp_path / f"image-{len(steps)}"
        shutil.copytree(node.folder, image)
        steps.append((path.name, image, node.digest()))     # nothing is done meanwhile

    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", unlink)
    synced = []
    for module in (checkpoint, segments):
        monkeypatch.setattr(module, "sync_directory", lambda folder: synced.append(len(steps)))
    rounds(node, loop, 2, 50)
    monkeypatch.undo()
    names = [name for name, _, _ in steps]
    third = names.index("checkpoint-0000000000000001.ckpt")     # goes with the third, first of all
    assert 4 < third < len(names) - 2
    assert names[:third] + names[third + 1:] == [segment_path(node.folder, n).name
                                                 for n in range(1, node.log.first)]
    assert set(synced) >= set(range(len(steps) + 1))
    for _, image, digest in steps:
        is_whole(digest, image, tmp_path / "scratch")
    node.close()


def test_a_replica_lives_on_through_checkpoints_removals_and_restarts(tmp_path):
    rng = random.Random(8)
    peers: dict[str, dict] = {}
    node, loop = node_in(tmp_path / "data", most=3000, peers=peers)
    before = 1
    for i in range(2, 14):
        for _ in range(rng.randrange(1, 4)):
            peers["b"] = rng.choice([{}, node.replica.clock_ids()])
            if rng.random() < 0.3:
                peers.pop("b")
            rounds(node, loop, 1, rng.randrange(1, 80))
            assert node.log.first >= before
            before = node.log.first
        node.fill(rng.randrange(30))
        is_whole(node.digest(), node.folder, tmp_path / "scratch")
        digest, clock = node.digest(), node.replica.clock()
        os.close(node.log.writer.attach(-1, 0, 0, 0, 0, 0))         # killed
        node = Node(node.folder, i, max_segment_size=2000)
        assert (node.digest(), node.replica.clock()) == (digest, clock)
        assert node.log.first == before
        loop = Loop(node, 3000, peers)
    assert before > 10
    node.close()


# ---- for whom it stays ---------------------------------------------------------------------------


def test_what_a_peer_has_not_acknowledged_stays_within_the_bound(tmp_path):
    node, loop = node_in(tmp_path, most=MANY, peers=(peers := {}))
    node.fill(60)
    peers |= {"b": node.replica.clock_ids(), "c": {}}
    first = node.log.writer.position()[0]
    rounds(node, loop)
    assert node.log.first == 1                              # of c nothing is known
    superseded = positions(tmp_path)[0][0] - 1
    status = loop.retention.status()
    assert (status.kept, status.kept_bytes) == (superseded, sum(
        segment_path(tmp_path, n).stat().st_size for n in range(1, superseded + 1)))
    peers["c"] = node.replica.clock_ids()
    rounds(node, loop, 1)
    assert node.log.first == first                          # from where b goes on
    fresh = Replica("b", 1)
    for batch in LogReader(tmp_path, node.log.writer.position,
                           first=lambda: node.log.first).since(peers["b"]):
        fresh.receive(batch)
    lacks = node.replica.clock_ids()[node.replica.actor] - peers["b"][node.replica.actor]
    assert fresh.pending()["ops"] >= lacks                  # nothing that it lacks is gone
    del peers["b"]
    peers["c"] = node.replica.clock_ids()
    rounds(node, loop, 1)
    assert node.log.first == positions(tmp_path)[0][0]
    assert loop.retention.given_up() == []
    node.close()


def test_beyond_the_bound_the_oldest_goes_and_it_is_told_for_whom(tmp_path, caplog):
    node, loop = node_in(tmp_path, most=5000, peers=(peers := {"b": {}, "c": {}}))
    rounds(node, loop, 1)
    for _ in range(8):
        rounds(node, loop, 1)
        status = loop.retention.status()
        assert status.kept_bytes <= 5000
        assert status.kept == positions(tmp_path)[0][0] - node.log.first
    assert status.kept_bytes > 2000 and node.log.first > 5
    assert loop.retention.given_up() == ["b", "c"]
    assert f"the log begins with segment {node.log.first} now: b, c may lack" in caplog.text
    peers["b"] = node.replica.clock_ids()
    assert loop.retention.given_up() == ["c"]
    del peers["c"]
    assert loop.retention.given_up() == []
    node.close()


def test_a_bound_of_nothing_keeps_nothing_for_peers(tmp_path):
    node, loop = node_in(tmp_path, most=0, peers={"b": {}})
    rounds(node, loop)
    assert node.log.first == positions(tmp_path)[0][0] > 1
    node.close()


def test_a_pin_keeps_the_log_whatever_the_bound_is(tmp_path):
    node, loop = node_in(tmp_path)
    node.fill(60)
    pin = node.log.pin(node.log.writer.position())
    rounds(node, loop, 5)
    assert node.log.first == pin.position[0] < positions(tmp_path)[0][0]
    assert loop.retention.status().pins == 1
    pin.release()
    rounds(node, loop, 1)
    assert node.log.first == positions(tmp_path)[0][0]
    node.close()


def test_a_disk_that_is_nearly_full_takes_what_is_kept_for_peers(tmp_path, monkeypatch):
    node, loop = node_in(tmp_path, most=MANY, peers={"b": {}})
    rounds(node, loop)
    assert node.log.first == 1
    monkeypatch.setattr(checkpoint, "room", lambda fd: 0 if node.log.first == 1 else MANY)
    superseded = positions(tmp_path)[0][0]
    rounds(node, loop, 1)
    assert node.log.first == superseded > 1 and loop.retention.given_up() == ["b"]
    monkeypatch.setattr(checkpoint, "room", lambda fd: 0)
    # after a restart it is known what is superfluous, too
    node = again(node, 2)
    loop = Loop(node, MANY, {"b": {}})
    assert loop.retention.status().kept > 0
    loop.checkpoints.begin()
    assert "nearly full" in loop.finish()
    assert node.log.first == positions(tmp_path)[0][0] and loop.retention.status().kept == 0
    node.close()


def test_a_log_that_cannot_be_written_takes_it_too(tmp_path, monkeypatch):
    node, loop = node_in(tmp_path, most=MANY, peers={"b": {}})
    loop.retention.relieve()
    rounds(node, loop)
    superseded = positions(tmp_path)[0][0]
    loop.retention.relieve()                                # there is room: that is not it
    assert node.log.first == 1
    monkeypatch.setattr(retention, "room", lambda folder: 0)
    loop.retention.relieve()
    loop.retention._relief.join()
    assert node.log.first == superseded > 1 and loop.retention.given_up() == ["b"]
    loop.retention.relieve()
    assert loop.retention.status().kept == 0
    node.close()


@pytest.mark.parametrize("failing", ["unlink", "sync"])
def test_a_removal_that_fails_is_told_and_gone_on_with(tmp_path, monkeypatch, failing):
    node, loop = node_in(tmp_path)
    rounds(node, loop, 1, 150)

    def fail(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def unlink(path, missing_ok=False):
        fail() if path.name == "segment-0000000000000002.log" else real(path, missing_ok)

    real = Path.unlink
    with monkeypatch.context() as m:
        if failing == "unlink":
            m.setattr(Path, "unlink", unlink)
        else:
            m.setattr(segments, "sync_directory",
                      lambda folder: segment_path(folder, 1).exists() or fail())
        rounds(node, loop, 1)
        assert "cannot be removed" in loop.retention.status().error
        assert segment_numbers(tmp_path)[0] == 2
        assert back(tmp_path).digest() == node.digest()
        if failing == "unlink":
            rounds(node, loop, 1)
            assert segment_numbers(tmp_path)[0] == 2        # none before an older one
    rounds(node, loop, 1)
    assert loop.retention.status().error is None
    assert segment_numbers(tmp_path)[0] == node.log.first == positions(tmp_path)[0][0]
    node.close()


# ---- readers -------------------------------------------------------------------------------------


def test_a_reader_whose_place_was_removed_is_told_so(tmp_path):
    node, loop = node_in(tmp_path)
    node.fill(60)
    reader = LogReader(tmp_path, node.log.writer.position, first=lambda: node.log.first)
    old = reader.find({})
    rounds(node, loop)
    with pytest.raises(Removed):
        reader.read(old)
    links = reader.links()
    assert links[0].number == node.log.first > 2
    floor = reader.floor()
    assert floor == links[0].header().ceiling != {}
    assert reader.find(floor) == (links[0].number, links[0].begin)
    fresh = LogReader(tmp_path, node.log.writer.position, first=lambda: node.log.first)
    assert fresh.floor() == floor and fresh.links() == links
    node.fill(60)
    assert reader.links() == LogReader(tmp_path, node.log.writer.position,
                                       first=lambda: node.log.first).links()
    node.close()


def test_reading_while_the_oldest_go(tmp_path, monkeypatch):
    """A file that goes between two looks at the links is no error."""
    node, loop = node_in(tmp_path)
    rounds(node, loop, 2)
    node.fill(150)
    reader = LogReader(tmp_path, node.log.writer.position, first=lambda: node.log.first)
    old = reader.links()
    real, done = type(old[0]).header, []

    def header(link):
        while not done and node.log.first < old[3].number:
            node.log.remove_first()
        done.append(1)
        return real(link)

    monkeypatch.setattr(type(old[0]), "header", header)
    assert reader.floor() == real(old[3]).ceiling
    done.clear()
    assert reader.find({}) == (old[3].number, old[3].begin)
    node.close()


def test_a_peer_under_which_the_log_is_removed_needs_a_full_sync(tmp_path):
    """It is told so, whether it was reading or comes back to its place; who has all that was
    removed reads on."""
    node, _ = node_in(tmp_path)
    reader = LogReader(tmp_path, node.log.writer.position, batch_bytes=100,
                       first=lambda: node.log.first)
    log, clocks = OpLog({}, reader, most_bytes=200), []
    for i in range(300):
        node.set(b"k%d" % i, b"v" * 20)
        assert log.append(node.last, 0.0)
        clocks.append(node.replica.clock_ids())
    actor = node.replica.actor
    behind, filtered, ahead = log.cursor({}), log.cursor({}, {actor}), log.cursor(clocks[200])
    others = log.cursor({}, {actor + 1})
    for cursor in (behind, filtered, ahead):
        assert log.older(cursor, 100)
    while reader.floor().get(actor, 0) < 100:
        assert node.log.remove_first()
    assert reader.floor()[actor] < 200
    for cursor in (behind, filtered, Cursor(dict(clocks[20]), at=-1)):
        with pytest.raises(NeedsFullSync) as e:
            log.older(cursor, 100)
        assert e.value.lost == reader.floor()
    filtered = log.cursor(clocks[200], {actor})
    with pytest.raises(NeedsFullSync):
        log.cursor(clocks[20])
    for cursor in (ahead, filtered):
        last = cursor.clock[actor]
        while chunk := log.older(cursor, 1000):
            for _, first, until in batch_ranges(chunk.batch):
                assert first == last + 1
                last = until
        assert last == 300
    assert not log.older(others, 100)                       # it lacks nothing that it wants
    node.close()


# ---- starts that cannot be -----------------------------------------------------------------------


@pytest.fixture
def shortened(tmp_path):
    """A directory whose log begins behind what was removed."""
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    take_identity(folder, "a", 1)
    node, loop = node_in(folder)
    rounds(node, loop)
    node.fill(40)
    node.close()
    return node


def refused(folder, match):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(RecoveryError, match=match):
        recover(folder, "a", Replica("a", 99))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("how", ["damaged", "header", "gone", "renamed away"])
def test_without_a_checkpoint_such_a_log_does_not_start(shortened, how):
    folder = shortened.folder
    for n in checkpoint_numbers(folder):
        path = checkpoint_path(folder, n)
        if how == "damaged":
            damaged(path, 300, False)
        elif how == "header":
            damaged(path, 20, False)
        elif how == "gone":
            path.unlink()
        else:
            path.rename(path.with_suffix(".damaged"))
    refused(folder, "holds what stood before" if how in ("damaged", "header") else "missing")


def test_nor_does_one_that_begins_behind_the_checkpoints(shortened):
    segment_path(shortened.folder, segment_numbers(shortened.folder)[0]).unlink()
    older, newer = positions(shortened.folder)
    assert older[0] < newer[0]
    assert back(shortened.folder).digest() == shortened.digest()        # the newer one will do
    for n in range(older[0], newer[0] + 1):
        segment_path(shortened.folder, n).unlink(missing_ok=True)
    refused(shortened.folder, "holds what stood before")


def test_nor_does_one_without_any_segment(shortened):
    for n in segment_numbers(shortened.folder):
        segment_path(shortened.folder, n).unlink()
    refused(shortened.folder, "no segment of the log is there")


def test_a_segment_that_is_missing_elsewhere_is_damage(shortened):
    numbers = segment_numbers(shortened.folder)
    segment_path(shortened.folder, numbers[2]).unlink()
    refused(shortened.folder, "missing")


# ---- check and repair ----------------------------------------------------------------------------


def test_check_finds_a_shortened_log_sound(shortened, capsys):
    folder = shortened.folder
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "LOCK"}
    for repair in (False, True):
        assert check.main(str(folder), repair) == 0
        out = capsys.readouterr().out
        assert "missing" not in out and "sound:" in out
        assert f"{checkpoint_path(folder, checkpoint_numbers(folder)[-1]).name}: the next" in out
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "LOCK"} == before


def test_repair_of_what_no_start_needs_loses_nothing(shortened):
    """Damage before the newest checkpoint's position."""
    path = segment_path(shortened.folder, segment_numbers(shortened.folder)[0])
    damaged(path, path.stat().st_size // 2, False)
    assert check.main(str(shortened.folder), True) == 0
    assert back(shortened.folder).digest() == shortened.digest()


def test_repair_behind_the_checkpoint_keeps_all_that_does_not_build_on_what_was_lost(shortened):
    folder = shortened.folder
    path = segment_path(folder, segment_numbers(folder)[-1])
    damaged(path, path.stat().st_size // 2, False)
    with open(path, "ab") as f:
        f.write(b"torn")
    assert check.main(str(folder), True) == 0
    replica = Replica("a", 99)
    found = recover(folder, "a", replica)
    assert found.waiting and found.checkpoint == checkpoint_path(folder,
                                                                 checkpoint_numbers(folder)[-1])
    # a peer gives back what was lost
    whole = shortened.replica.clock_ids()
    assert replica.clock_ids() != whole
    node = Node(folder, 7)
    loop = Loop(node)
    loop.checkpoints.begin()
    assert "wait for others" in loop.finish()               # and until then nothing is removed
    node.close()


def test_repair_of_the_segment_in_which_a_checkpoint_begins(tmp_path):
    """Its records move; nothing before the damage is lost."""
    take_identity(tmp_path, "a", 1)
    node, loop = node_in(tmp_path)
    rounds(node, loop)
    node.set(b"kept", b"1")
    digest, (number, end) = node.digest(), node.log.writer.position()
    assert positions(tmp_path)[-1][0] == number > 1
    node.set(b"lost", b"1")
    node.set(b"behind", b"1")
    node.close()
    damaged(segment_path(tmp_path, number), end + 12, False)
    assert check.main(str(tmp_path), True) == 0
    replica = Replica("a", 99)
    found = recover(tmp_path, "a", replica)
    assert replica.digest() == digest and found.waiting == 1
    assert found.checkpoint == checkpoint_path(tmp_path, 3)


def test_repair_sets_aside_a_checkpoint_whose_operations_the_log_lost_in_part(
        tmp_path, monkeypatch, capsys):
    """Damage between where its walk began and where it ended: the one before it, and the log."""
    take_identity(tmp_path, "a", 1)
    node, loop = node_in(tmp_path)
    rounds(node, loop, 2)
    node.fill(60)
    position = node.log.writer.position()
    monkeypatch.setattr(checkpoint, "StateWriter", small(checkpoint.StateWriter))
    loop.checkpoints.begin()
    for i in range(30):
        loop.turn()
        node.set(b"new%d" % i, b"%d" % i)
    assert loop.finish() is None
    node.close()
    older, newer = checkpoint_numbers(tmp_path)
    path = segment_path(tmp_path, position[0])
    damaged(path, position[1] + 60, False)
    assert check.main(str(tmp_path), True) == 0
    assert checkpoint_numbers(tmp_path) == [older]
    assert f"{checkpoint_path(tmp_path, newer).name}: set aside" in capsys.readouterr().out
    replica = Replica("a", 99)
    assert recover(tmp_path, "a", replica).checkpoint == checkpoint_path(tmp_path, older)
    replica.check()


def small(kind):
    class Small:
        def __init__(self, replica, **options):
            self.walk = kind(replica, **options)

        def next(self):
            return self.walk.next(1)
    return Small


def test_repair_without_any_checkpoint_leaves_a_log_that_waits_for_peers(shortened, capsys):
    folder, first = shortened.folder, segment_numbers(shortened.folder)[0]
    for n in checkpoint_numbers(folder):
        damaged(checkpoint_path(folder, n), 300, False)
    assert check.main(str(folder), False) != 0
    assert "holds what stood before" in capsys.readouterr().out
    assert check.main(str(folder), True) == 0
    out = capsys.readouterr().out
    assert "the log begins here now" in out and "wait for others" in out
    assert segment_numbers(folder)[0] == first and not checkpoint_numbers(folder)
    replica = Replica("a", 99)
    found = recover(folder, "a", replica)
    assert found.waiting and sum(replica.keys(db)[0] for db in range(16)) == 0
    for repair in (False, True):
        assert check.main(str(folder), repair) == 0
    # It serves nobody who lacks what stood before.
    last = segment_numbers(folder)[-1]
    reader = LogReader(folder, lambda: (last, segment_path(folder, last).stat().st_size))
    assert reader.floor() != {}


def test_a_lost_header_of_the_oldest_segment_is_rebuilt(shortened):
    folder = shortened.folder
    with open(segment_path(folder, segment_numbers(folder)[0]), "r+b") as f:
        f.write(b"garbage" * 5)
    assert check.main(str(folder), True) == 0
    assert back(folder).digest() == shortened.digest()



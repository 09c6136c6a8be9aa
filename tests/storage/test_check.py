"""crdt-redis check: says what is wrong, changes nothing; with --repair keeps what is sound and
leaves the original beside it."""
import os
import random
import resource
import shutil

import pytest

from crdtredis._core import Replica, probe_get, record
from crdtredis.errors import EXIT_DATA, StartError
from crdtredis.storage.batch import declaration, run, sized, varint
from crdtredis.storage.check import main
from crdtredis.storage.format import MAGIC, read_batches, read_header, segment_numbers, segment_path
from crdtredis.storage.identity import take_identity
from crdtredis.storage.lock import DirectoryLock
from crdtredis.storage.reader import LogReader
from crdtredis.storage.recovery import RecoveryError, recover
from tests.storage.node import Node

pytestmark = pytest.mark.usefixtures("form")


@pytest.fixture
def node(tmp_path):
    take_identity(tmp_path, "a", 1)
    node = Node(tmp_path, max_segment_size=4000)
    node.fill(200)
    node.close()
    assert node.ends[-1][0] >= 4
    return node


def files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name != "LOCK"}


def rot(folder, number, at=0.5, n=3):
    path = segment_path(folder, number)
    with open(path, "r+b") as f:
        f.seek(int(path.stat().st_size * at))
        f.write(b"\xa5" * n)


def test_a_sound_directory_is_found_sound(node, capsys):
    before = files(node.folder)
    assert main(str(node.folder), False) == 0
    out = capsys.readouterr().out
    assert "replica a" in out and "sound:" in out and "200 records" in out
    assert files(node.folder) == before


def test_damage_is_named_and_nothing_is_changed(node, capsys):
    rot(node.folder, 2)
    before = files(node.folder)
    assert main(str(node.folder), False) == EXIT_DATA
    out = capsys.readouterr().out
    assert ("segment-0000000000000002.log" in out and "DAMAGED at offset" in out
            and "--repair" in out)
    assert files(node.folder) == before


def test_repair_keeps_every_sound_record_and_the_damaged_original(node, capsys):
    rot(node.folder, 2)
    damaged = segment_path(node.folder, 2).read_bytes()
    assert main(str(node.folder), True) == 0
    out = capsys.readouterr().out
    assert "wait for others that were lost" in out
    assert (node.folder / "segment-0000000000000002.log.damaged").read_bytes() == damaged
    replica = Replica("a", 99)
    r = recover(node.folder, "a", replica)
    assert r.records == 199 and r.waiting > 0


@pytest.mark.parametrize("n", [1, 7, 300])
def test_bytes_that_were_inserted_cost_no_record(node, n):
    path = segment_path(node.folder, 2)
    raw = path.read_bytes()
    with open(path, "rb") as f:
        begin = read_header(f.fileno()).size
        _, at, _ = next(read_batches(f.fileno(), begin, len(raw), 1))
    path.write_bytes(raw[:at] + b"\xa5" * n + raw[at:])
    assert main(str(node.folder), True) == 0
    r = recover(node.folder, "a", Replica("a", 99))
    assert r.records == 200 and r.waiting == 0


def test_what_was_written_again_behind_damage_counts_once(node):
    """A write that failed, so that the log went on in the next segment."""
    path, later = segment_path(node.folder, 2), segment_path(node.folder, 3)
    with open(later, "rb") as f:
        begin = read_header(f.fileno()).size
        _, end, _ = next(read_batches(f.fileno(), begin, later.stat().st_size, 1))
    with open(path, "ab") as f:
        f.write(later.read_bytes()[begin:end])
    assert main(str(node.folder), False) == 0
    before = Replica("a", 99)
    recover(node.folder, "a", before)
    raw = path.read_bytes()
    with open(path, "rb") as f:
        _, at, _ = next(read_batches(f.fileno(), read_header(f.fileno()).size, len(raw), 1))
    path.write_bytes(raw[:at] + b"\xa5" * 3 + raw[at:])
    assert main(str(node.folder), True) == 0
    replica = Replica("a", 99)
    assert recover(node.folder, "a", replica).waiting == 0
    assert replica.digest() == before.digest()


def test_a_copy_is_repaired_and_the_original_stays(node, tmp_path, capsys):
    rot(node.folder, 2)
    before = files(node.folder)
    new = tmp_path / "new"
    assert main(str(node.folder), True, str(new)) == 0
    assert files(node.folder) == before
    name = segment_path(new, 2).name
    assert files(new)[name + ".damaged"] == before[name]
    assert recover(new, "a", Replica("a", 99)).records == 199
    with pytest.raises(StartError, match="there already"):
        main(str(node.folder), True, str(new))


def test_of_a_copy_that_fails_nothing_is_left(node, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            main(str(node.folder), True, str(tmp_path / "new"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "new").exists()


def test_after_a_repair_a_peer_heals_what_was_lost(node, tmp_path_factory):
    peer = tmp_path_factory.mktemp("peer")
    shutil.copytree(node.folder, peer, dirs_exist_ok=True)
    rot(node.folder, 2)
    assert main(str(node.folder), True) == 0
    mine = Node(node.folder, epoch=9)
    assert mine.recovered.waiting > 0 and mine.digest() != node.digest()
    last = segment_numbers(peer)[-1]
    for batch in LogReader(peer,
                           lambda: (last,
                                    segment_path(peer,
                                                 last).stat().st_size)).since(
                                                     mine.replica.clock_ids()):
        mine.replica.receive(batch)
    assert mine.digest() == node.digest() and mine.replica.pending()["ops"] == 0
    # and it stays healed, for what came from the peer is logged behind
    assert mine.log.writer.add(record(mine.replica.take_ops()))
    mine.close()
    again = Node(node.folder, epoch=10)
    assert again.digest() == node.digest() and again.recovered.waiting == 0
    again.close()


def test_a_repaired_directory_is_sound_and_repairing_it_again_changes_nothing(node):
    rot(node.folder, 1)
    rot(node.folder, 3)
    assert main(str(node.folder), True) == 0
    before = files(node.folder)
    assert main(str(node.folder), True) == 0
    assert main(str(node.folder), False) == 0
    assert files(node.folder) == before


@pytest.mark.parametrize("number", [1, 2, -1])
def test_a_lost_header_is_rebuilt(node, number):
    number = segment_numbers(node.folder)[number] if number < 0 else number
    with open(segment_path(node.folder, number), "r+b") as f:
        f.write(b"garbage" * 5)
    with pytest.raises(RecoveryError):
        recover(node.folder, "a", Replica("a", 99))
    assert main(str(node.folder), True) == 0
    replica = Replica("a", 99)
    assert recover(node.folder, "a", replica).records == 200 and replica.digest() == node.digest()


def test_a_missing_segment_is_replaced_by_an_empty_one(node):
    segment_path(node.folder, 2).unlink()
    assert main(str(node.folder), False) == EXIT_DATA
    assert main(str(node.folder), True) == 0
    assert recover(node.folder, "a", Replica("a", 99)).waiting > 0


@pytest.mark.parametrize("repair", [False, True])
def test_a_segment_with_a_number_far_away_is_named_at_once(node, repair):
    segment_path(node.folder, 3).rename(segment_path(node.folder, 9_999_999_999_999_999))
    before = files(node.folder)
    with pytest.raises(StartError, match="segment-9{16}.log: 9{15}[0-9] segments are missing "
                       "before it: if the file was renamed, give it its name again"):
        main(str(node.folder), repair)
    assert files(node.folder) == before


def test_a_closed_segment_that_lost_its_end_is_mended(node):
    path = segment_path(node.folder, 2)
    os.truncate(path, path.stat().st_size - 100)
    assert main(str(node.folder), False) == EXIT_DATA
    assert main(str(node.folder), True) == 0


def test_a_torn_tail_is_no_damage(node, capsys):
    last = segment_numbers(node.folder)[-1]
    os.truncate(segment_path(node.folder, last), segment_path(node.folder, last).stat().st_size - 3)
    assert main(str(node.folder), False) == 0
    assert "torn tail" in capsys.readouterr().out


def test_a_segment_that_was_only_being_created_is_no_damage(node):
    segment_path(node.folder, segment_numbers(node.folder)[-1] + 1).write_bytes(MAGIC)
    assert main(str(node.folder), False) == 0


def test_a_directory_in_use_is_refused(node):
    with DirectoryLock(node.folder), pytest.raises(StartError, match="in use"):
        main(str(node.folder), True)


def test_another_directory_is_refused(tmp_path, capsys):
    assert main(str(tmp_path), True) == EXIT_DATA
    assert "no data directory" in capsys.readouterr().out


def test_a_segment_of_another_replica_is_left_alone(node, tmp_path_factory):
    strange = tmp_path_factory.mktemp("b")
    other = Node(strange, replica_id="b")
    other.fill(5)
    other.close()
    shutil.copy(segment_path(strange, 1), segment_path(node.folder, 2))
    before = files(node.folder)
    assert main(str(node.folder), True) == EXIT_DATA
    assert files(node.folder) == before


def test_after_any_damage_repair_gives_a_directory_that_starts(tmp_path):
    rng = random.Random(7)
    source = tmp_path / "source"
    source.mkdir()
    take_identity(source, "a", 1)
    node = Node(source, max_segment_size=2000)
    node.fill(60)
    node.close()
    last = node.ends[-1][0]
    for round_ in range(150):
        folder = tmp_path / "copy"
        shutil.copytree(source, folder)
        for _ in range(rng.randrange(1, 4)):
            path = segment_path(folder, rng.randrange(1, last + 1))
            if not path.exists():
                continue
            data = bytearray(path.read_bytes())
            if not data:
                continue
            kind, at = rng.randrange(5), rng.randrange(len(data))
            if kind == 0:
                del data[at:]
            elif kind == 1:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 2:
                data[at:at + 300] = rng.randbytes(len(data[at:at + 300]))
            elif kind == 3:
                data[at:at] = rng.randbytes(20)
            if kind == 4 and rng.random() < 0.5:
                path.unlink()
            else:
                path.write_bytes(data)
        assert main(str(folder), True) == 0, round_
        replica = Replica("a", 99)
        recover(folder, "a", replica)
        assert recover(folder, "a", Replica("a", 100)).truncations == ()
        assert set(replica.clock()) <= {("a", 1)}
        shutil.rmtree(folder)


# ---- ops that cannot be applied ------------------------------------------------------------------


def op_of(replica, seq, effects):
    """An encoded Batch with one op; `effects` are encoded Effects."""
    body = b"\x08" + varint(seq) + b"\x11" + (replica.newest_stamp +
                                              1).to_bytes(8,
                                                          "little") + b"".join(
                                                              sized(4, e) for e in effects)
    return run(replica.actor, [body])


SOUND = b"\x1a\x01k\x32\x01v"                            # ASSIGN of a string
UNSOUND = b"\x08\x01\x1a\x01n\x40\x01\x50\x02\x28\x05"      # INCREMENT with fields out of order


@pytest.fixture
def refused(tmp_path):
    """A log with an op in its middle that no replica of this version takes."""
    take_identity(tmp_path, "a", 1)
    node = Node(tmp_path)
    node.fill(10)
    node.bad = node.replica.clock_ids()[node.replica.actor] + 1
    node.log.writer.add(record(op_of(node.replica, node.bad, [SOUND, UNSOUND])))
    for i in range(5):
        node.log.writer.add(record(op_of(node.replica, node.bad + 1 + i,
                                         [b"\x1a\x05after\x32\x01%d" % i])))
    node.close()
    return node


def test_an_op_that_cannot_be_applied_stops_the_start_and_is_named(refused, capsys):
    with pytest.raises(RecoveryError,
                       match=f"offset {refused.ends[9][1]}: op {refused.bad} of actor a/1, in the "
                             "sound record here, cannot be applied"):
        recover(refused.folder, "a", Replica("a", 99))
    before = files(refused.folder)
    assert main(str(refused.folder), False) == EXIT_DATA
    assert f"op {refused.bad} of actor a/1" in capsys.readouterr().out
    assert files(refused.folder) == before


def test_repair_puts_an_op_without_effect_in_its_place(refused, capsys):
    damaged = segment_path(refused.folder, 1).read_bytes()
    assert main(str(refused.folder), True) == 0
    assert (f"op {refused.bad} of actor a/1, in the sound record here, cannot be "
             "applied: set aside" in capsys.readouterr().out)
    assert (refused.folder / "segment-0000000000000001.log.damaged").read_bytes() == damaged
    replica = Replica("a", 99)
    r = recover(refused.folder, "a", replica)
    assert r.waiting == 0 and replica.clock_ids()[refused.replica.actor] == refused.bad + 5
    assert probe_get(replica, 0, b"after") == b"4" and probe_get(replica, 0, b"k") is None
    # a peer that is served from this log takes all of it, and both are equal
    peer = Replica("b", 1)
    peer.now = 1 << 41
    size = segment_path(refused.folder, 1).stat().st_size
    for batch in LogReader(refused.folder, lambda: (1, size)).since({}):
        peer.receive(batch)
    assert peer.digest() == replica.digest() and peer.pending()["ops"] == 0
    # twice does no more than once
    before = files(refused.folder)
    assert main(str(refused.folder), True) == 0 and files(refused.folder) == before


def test_a_record_that_is_no_batch_is_left_out_by_repair(node, capsys):
    last = segment_numbers(node.folder)[-1]
    path = segment_path(node.folder, last)
    path.write_bytes(path.read_bytes() + record(b"\x7a\x03abc"))
    assert (main(str(node.folder), False) == EXIT_DATA
            and "is no batch of this version" in capsys.readouterr().out)
    assert main(str(node.folder), True) == 0 and "left out" in capsys.readouterr().out
    assert recover(node.folder, "a", Replica("a", 99)).records == 200


def test_several_such_ops_in_several_segments_are_mended_at_once(tmp_path):
    take_identity(tmp_path, "a", 1)
    node = Node(tmp_path, max_segment_size=700)
    seq = 0
    for i in range(30):
        seq += 1
        batch = op_of(node.replica, seq,
                      [UNSOUND] if i % 7 == 3 else [b"\x1a\x02k%d\x32\x01v" % (i % 10)])
        if i == 0:
            batch = declaration([(node.replica.actor, "a", 1)]) + batch
        assert node.log.writer.add(record(batch))
        node.log.tick()
    node.close()
    assert segment_numbers(tmp_path)[-1] >= 3
    assert main(str(tmp_path), True) == 0
    replica = Replica("a", 99)
    assert (recover(tmp_path, "a", replica).waiting == 0
            and replica.clock_ids() == {node.replica.actor: 30})


def test_a_record_cut_out_of_the_middle_is_accepted_by_repair(node, capsys):
    """Every byte that is there is sound. The same in the newest segment and in two closed ones."""
    for number in (2, 3, segment_numbers(node.folder)[-1]):
        path = segment_path(node.folder, number)
        with open(path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            first, second = [after for _, after,
                             _ in read_batches(f.fileno(), read_header(f.fileno()).size, size,
                                               1)][:2]
        data = path.read_bytes()
        path.write_bytes(data[:first] + data[second:] + record(b"") * ((second - first) // 8))
    before = files(node.folder)
    assert main(str(node.folder), False) == EXIT_DATA
    assert "--repair" in capsys.readouterr().out and files(node.folder) == before
    assert main(str(node.folder), True) == 0
    assert recover(node.folder, "a", Replica("a", 99)).waiting > 0


# ---- check changes nothing -----------------------------------------------------------------------


def test_check_leaves_a_torn_end_where_it_is(node):
    last = segment_numbers(node.folder)[-1]
    with open(segment_path(node.folder, last), "ab") as f:
        f.write(b"torn")
    segment_path(node.folder, last + 1).write_bytes(MAGIC)
    before = files(node.folder)
    assert main(str(node.folder), False) == 0
    assert files(node.folder) == before


def test_what_a_loss_of_power_leaves_at_a_rotation_is_no_damage(tmp_path, capsys):
    take_identity(tmp_path, "a", 1)
    node = Node(tmp_path, max_segment_size=2000)
    node.fill(60)
    os.truncate(segment_path(tmp_path, 2), 900)
    before = files(tmp_path)
    assert main(str(tmp_path), False) == 0
    out = capsys.readouterr().out
    assert ("torn tail" in out and "behind the torn end: the next start sets it aside" in out
            and "DAMAGED" not in out)
    assert files(tmp_path) == before
    assert main(str(tmp_path), True) == 0 and files(tmp_path) == before

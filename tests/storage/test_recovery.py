"""The names of these tests are the specification of recovery."""
import os
import random
import shutil
from dataclasses import replace

import pytest

from crdtredis._core import Replica, record
from crdtredis.errors import StartError
from crdtredis.storage.batch import fields
from crdtredis.storage.chain import header_of
from crdtredis.storage.format import (MAGIC, Header, encode_header, read_header, segment_numbers,
                                      segment_path)
from crdtredis.storage.reader import LogReader
from crdtredis.storage.recovery import RecoveryError, behind, recover
from tests.storage.node import Node

pytestmark = pytest.mark.usefixtures("form")


@pytest.fixture
def one(tmp_path):
    """A directory with one segment of 50 iterations."""
    node = Node(tmp_path)
    node.fill(50)
    node.close()
    return node


@pytest.fixture
def many(tmp_path):
    """... with several segments."""
    node = Node(tmp_path, max_segment_size=4096)
    node.fill(200)
    node.close()
    assert node.ends[-1][0] >= 4
    return node


def again(folder):
    replica = Replica("a", 99)
    return recover(folder, "a", replica), replica


def state_after(folder, tmp, iterations, many=False):
    """Digest of a node that made only the first iterations."""
    node = Node(tmp, **({"max_segment_size": 4096} if many else {}))
    node.fill(iterations)
    node.close()
    return node.digest()


def change(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset, 0 if offset >= 0 else 2)
        f.write(data)


# ---- what comes back -----------------------------------------------------------------------------


def test_an_empty_directory_is_an_empty_log(tmp_path):
    r, replica = again(tmp_path)
    assert r.position is None and r.segments == r.records == 0 and replica.clock() == {}


def test_everything_written_comes_back(one):
    r, replica = again(one.folder)
    assert replica.digest() == one.digest() and replica.clock() == one.replica.clock()
    assert (r.segments, r.records, r.truncations, r.waiting, r.position) == (1, 50, (), 0,
                                                                             one.ends[-1])


def test_everything_in_many_segments_comes_back(many):
    r, replica = again(many.folder)
    assert replica.digest() == many.digest() and r.segments == many.ends[-1][0] and r.records == 200


def test_recovered_ops_are_not_logged_again(one):
    _, replica = again(one.folder)
    assert b"k1" not in replica.take_ops()


def test_an_actor_is_declared_with_its_first_op_and_never_again(one):
    node = Node(one.folder, epoch=2)
    assert node.replica.take_ops() == b""
    node.set(b"k", b"v")
    # only a/2
    assert [a for a in fields(node.last) if a[0] == 1] and node.last.count(b"\x12\x01a\x18") == 1
    node.set(b"k", b"w")
    assert b"\x12\x01a\x18" not in node.last
    node.close()
    r, replica = again(one.folder)
    assert replica.clock() == {("a", 1): 50, ("a", 2): 2} and r.waiting == 0
    other = Replica("b", 1)
    for batch in LogReader(one.folder, lambda: r.position).since({}):
        other.receive(batch)
    assert {(r, e) for _, r, e, _ in other.actors()} == {("a", 1), ("a", 2), ("b", 1)}


def test_a_process_start_without_an_op_leaves_no_trace(many):
    before = {p.name: p.read_bytes() for p in many.folder.glob("segment-*")}
    for epoch in range(2, 40):
        Node(many.folder, epoch=epoch, max_segment_size=1 << 20).close()
    assert {p.name: p.read_bytes() for p in many.folder.glob("segment-*")} == before
    node = Node(many.folder, epoch=50, max_segment_size=1)
    node.set(b"k", b"v")
    node.close()
    last = segment_numbers(many.folder)[-1]
    assert ({(r, e) for _, r, e in header_of(segment_path(many.folder, last), last, "a").actors}
            == {("a", 1), ("a", 50)})


def test_a_restart_goes_on_in_the_same_segment(one):
    node = Node(one.folder, epoch=2)
    assert node.digest() == one.digest()
    node.set(b"new", b"1")
    node.close()
    r, replica = again(one.folder)
    assert r.segments == 1 and replica.digest() == node.digest()


def test_a_restart_begins_a_new_segment_when_the_last_is_full(many):
    last = segment_numbers(many.folder)[-1]
    node = Node(many.folder, epoch=2, max_segment_size=1)
    assert node.log.writer.position()[0] == last + 1
    node.set(b"new", b"1")
    node.close()
    assert again(many.folder)[1].digest() == node.digest()


def test_many_restarts_keep_everything(tmp_path):
    digest, rng = None, random.Random(1)
    for epoch in range(1, 30):
        node = Node(tmp_path, epoch=epoch, max_segment_size=2000)
        assert digest in (None, node.digest())
        node.fill(rng.randrange(20), seed=epoch)
        digest = node.digest()
        if epoch % 3:
            node.close()                # else the process is killed
    assert len(again(tmp_path)[1].clock()) > 20


def test_a_record_larger_than_what_is_read_at_once_comes_back(tmp_path):
    node = Node(tmp_path)
    node.set(b"before", b"1")
    node.set(b"large", bytes(range(256)) * (40 << 10))
    node.set(b"after", b"2")
    node.close()
    seen = []
    replica = Replica("a", 99)
    r = recover(tmp_path, "a", replica, lambda done, total: seen.append((done, total)))
    assert replica.digest() == node.digest() and r.records == 3
    assert seen == sorted(seen) and seen[-1] == (node.ends[-1][1],) * 2


# ---- torn tails ----------------------------------------------------------------------------------


def test_a_torn_tail_is_cut_back_to_the_last_whole_record_and_reported(one, tmp_path_factory):
    path = segment_path(one.folder, 1)
    os.truncate(path, one.ends[-1][1] - 5)
    r, replica = again(one.folder)
    before = one.ends[-2][1]
    assert ([(c.path, c.offset, c.lost) for c in r.truncations]
            == [(path, before, one.ends[-1][1] - 5 - before)])
    assert path.stat().st_size == before and r.position == (1, before) and r.records == 49
    assert replica.digest() == state_after(one.folder, tmp_path_factory.mktemp("b"), 49)


def test_recovery_after_a_cut_is_clean(one):
    os.truncate(segment_path(one.folder, 1), one.ends[-1][1] - 5)
    first = again(one.folder)[1]
    r, second = again(one.folder)
    assert r.truncations == () and first.digest() == second.digest()


def test_zeros_at_the_end_are_a_torn_tail(one):
    with open(segment_path(one.folder, 1), "ab") as f:
        f.write(bytes(10000))
    r, replica = again(one.folder)
    assert r.truncations[0].lost == 10000 and replica.digest() == one.digest()


def test_garbage_at_the_end_is_a_torn_tail(one):
    with open(segment_path(one.folder, 1), "ab") as f:
        f.write(random.Random(1).randbytes(100000))
    r, replica = again(one.folder)
    assert r.truncations[0].lost == 100000 and replica.digest() == one.digest()


def test_a_damaged_last_record_is_a_torn_tail(one):
    change(segment_path(one.folder, 1), -1, b"\xff")
    assert again(one.folder)[0].records == 49


@pytest.mark.parametrize("content", [b"", MAGIC[:3], MAGIC, MAGIC + b"\x50\0\0\0", bytes(4096)])
def test_a_newest_segment_that_was_only_being_created_is_removed(many, content):
    last = segment_numbers(many.folder)[-1]
    segment_path(many.folder, last + 1).write_bytes(content)
    r, replica = again(many.folder)
    assert segment_numbers(many.folder)[-1] == last and replica.digest() == many.digest()
    assert [c.path for c in r.truncations] == [segment_path(many.folder, last + 1)]


def test_segments_behind_a_torn_end_are_set_aside_the_newest_first(many):
    """A crash in between leaves a log with a torn end, as before, and no gap."""
    newest = segment_numbers(many.folder)[-1]
    found = behind(many.folder, newest, 1)
    paths = [segment_path(many.folder, n) for n in range(newest, 1, -1)]
    assert len(paths) > 2 and [x.path for x in found] == paths


def test_a_first_segment_that_was_only_being_created_is_removed(tmp_path):
    segment_path(tmp_path, 1).write_bytes(MAGIC)
    assert again(tmp_path)[0].position is None and segment_numbers(tmp_path) == []


def test_drafts_of_segments_are_ignored_and_removed(one):
    draft = one.folder / "segment-0000000000000002.log.tmp"
    draft.write_bytes(b"half a head")
    node = Node(one.folder, epoch=2)
    assert node.digest() == one.digest() and not draft.exists()
    node.close()


# ---- what is refused, with nothing changed -------------------------------------------------------


def refused(folder, path, match):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(RecoveryError, match=match) as e:
        again(folder)
    assert (e.value.path == path and isinstance(e.value, StartError) and str(path) in str(e.value)
            and "crdt-redis check" in str(e.value))
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    return e.value.offset


def test_a_damaged_record_before_the_last_is_refused(one):
    path = segment_path(one.folder, 1)
    change(path, one.ends[20][1] + 12, b"\xff\xff")
    assert refused(one.folder, path, "a sound record follows at offset") == one.ends[20][1]


def test_a_length_that_rotted_is_no_torn_tail(one):
    path = segment_path(one.folder, 1)
    at = one.ends[20][1]
    change(path, at + 1, bytes([path.read_bytes()[at + 1] ^ 4]))        # 1024 more or less
    assert refused(one.folder, path, "a sound record follows at offset") == at


@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_damaged_record_in_a_closed_segment_is_refused(many, where):
    ends = [end for number, end in many.ends if number == 2]
    path = segment_path(many.folder, 2)
    change(path, (ends[2] if where == "middle" else path.stat().st_size) - 1, b"\xff")
    refused(many.folder, path, "damaged record")


def test_a_closed_segment_that_lost_its_end_is_refused_even_at_a_record_boundary(many):
    path = segment_path(many.folder, 2)
    end = next(end for number, end in many.ends if number == 2)
    os.truncate(path, end)
    assert refused(many.folder, path, "the file ends here") == end


def test_a_missing_segment_is_refused(many):
    segment_path(many.folder, 2).unlink()
    refused(many.folder, segment_path(many.folder, 2), "missing")


def test_a_missing_first_segment_is_refused(many):
    segment_path(many.folder, 1).unlink()
    refused(many.folder, segment_path(many.folder, 1), "missing")


def test_a_header_that_rotted_is_refused(many):
    for number in (1, segment_numbers(many.folder)[-1]):
        path = segment_path(many.folder, number)
        was = path.read_bytes()
        for offset in (0, 9, 13, 30):
            change(path, offset, b"\x7f")
            refused(many.folder, path,
                    "header record is damaged|does not begin with CRDTSEG1|ends within the header")
            path.write_bytes(was)


def test_a_newest_segment_whose_header_length_rotted_is_not_taken_for_a_new_one(one):
    change(segment_path(one.folder, 1), 9, b"\x7f")
    refused(one.folder, segment_path(one.folder, 1),
            "ends within the header, but sound records are there")


def test_a_segment_of_another_replica_is_refused(one):
    with pytest.raises(RecoveryError, match="belongs to replica 'a', not to 'b'"):
        recover(one.folder, "b", Replica("b", 1))


def test_a_renamed_segment_is_refused(one):
    segment_path(one.folder, 1).rename(segment_path(one.folder, 2))
    refused(one.folder, segment_path(one.folder, 2), "the header says segment 1")


def test_another_format_is_refused(tmp_path):
    data = encode_header(Header("a", 1, 0, (), {}, None)).replace(b'"format":1', b'"format":2')
    segment_path(tmp_path, 1).write_bytes(MAGIC + record(data[16:]))
    refused(tmp_path, segment_path(tmp_path, 1), "format 2, this program reads formats 1 and 3")


def test_another_replication_group_is_refused(tmp_path):
    data = encode_header(Header("a", 1, 0, (), {}, None))
    for group in (b"1", b"null"):
        payload = data[16:].replace(b'"format":1', b'"format":1,"group":' + group)
        segment_path(tmp_path, 1).write_bytes(MAGIC + record(payload))
        refused(tmp_path, segment_path(tmp_path, 1), "of replication group ")
    payload = data[16:].replace(b'"format":1', b'"format":1,"group":0')
    segment_path(tmp_path, 1).write_bytes(MAGIC + record(payload))
    recover(tmp_path, "a", Replica("a", 1))
    segment_path(tmp_path, 1).write_bytes(b"CRDTSEG2" + data[8:])
    refused(tmp_path, segment_path(tmp_path, 1), "no segment of this format version")


def test_a_sound_record_that_is_no_batch_is_refused(one):
    with open(segment_path(one.folder, 1), "ab") as f:
        f.write(record(b"\x7a\x03abc"))
    refused(one.folder, segment_path(one.folder, 1), "cannot be applied")


def test_ops_that_the_log_lost_are_refused_even_when_every_byte_is_sound(one):
    """A record cut out of the middle, as an editor or a bad copy might: the ops behind it would
    wait for ever."""
    path = segment_path(one.folder, 1)
    data = path.read_bytes()
    path.write_bytes(data[:one.ends[10][1]] + data[one.ends[11][1]:])
    refused(one.folder, path, "need others that the log does not hold")


def test_the_header_must_be_readable_json_of_the_right_shape(tmp_path):
    for payload in (b"", b"{}", b"[1]", b'{"format":1}',
                    b'{"format":1,"replica":"a","number":1,"created_ms":0,"actors":[1],"clock":{},"follows":null}'):
        segment_path(tmp_path, 1).write_bytes(MAGIC + record(payload))
        refused(tmp_path, segment_path(tmp_path, 1),
                "header is not what the format says|header record is damaged")


# ---- a thousand accidents ------------------------------------------------------------------------


def test_truncation_and_rot_at_random_places(tmp_path):
    """Whatever happens to the files, either the start is refused, or what comes back is what was
    there after some iteration, and then only iterations at the very end are missing. Never a crash,
    never a hole."""
    rng = random.Random(2026)
    source = tmp_path / "source"
    source.mkdir()
    node = Node(source, max_segment_size=3000)
    rng_fill = random.Random(1)
    digests = {0: node.digest()}
    for i in range(60):
        node.iterate(*(("set", b"k%d" % rng_fill.randrange(50), b"%d:" % i + rng_fill.randbytes(40))
                    for _ in range(3)))
        digests[i + 1] = node.digest()
    node.close()
    last = node.ends[-1][0]
    assert last >= 3
    iterations_before_last = sum(number < last for number, _ in node.ends)
    outcomes = {"refused": 0, "whole": 0, "cut": 0}
    for round_ in range(1000):
        folder = tmp_path / "copy"
        shutil.copytree(source, folder)
        kind = rng.choice(["truncate", "bit", "bytes", "zeros", "append", "truncate last"])
        number = last if kind == "truncate last" else rng.randrange(1, last + 1)
        path = segment_path(folder, number)
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data))
        if kind.startswith("truncate"):
            del data[at:]
        elif kind == "bit":
            data[at] ^= 1 << rng.randrange(8)
        elif kind == "bytes":
            data[at:at + 50] = rng.randbytes(len(data[at:at + 50]))
        elif kind == "zeros":
            data[at:at + 600] = bytes(len(data[at:at + 600]))
        else:
            data += rng.randbytes(rng.randrange(1, 2000))
        path.write_bytes(data)
        try:
            r, replica = again(folder)
        except RecoveryError as e:
            outcomes["refused"] += 1
            assert str(folder) in str(e) and e.offset >= 0
            assert not (kind == "append" and number == last or kind == "truncate last"), (
                (round_, kind, e))
        else:
            digest = replica.digest()
            if digest == digests[60]:
                outcomes["whole"] += 1
            else:
                outcomes["cut"] += 1
                n = next(t for t, d in digests.items() if d == digest)
                assert r.truncations or kind.startswith("truncate"), (round_, kind, n)
                assert n >= iterations_before_last, (round_, kind, n)
                assert n == 59 or kind in ("truncate", "truncate last", "bytes", "zeros"), (
                    round_, kind, n)
        shutil.rmtree(folder)
    assert min(outcomes.values()) > 30, outcomes


def test_a_read_that_gives_less_than_was_asked_for_is_not_the_end_of_the_file(many, monkeypatch):
    """As any read above 2 GiB less a page does: a record beyond that was read again and again."""
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: real(fd, min(n, 100), at))
    r, replica = again(many.folder)
    assert replica.digest() == many.digest() and r.records == 200


def test_read_header_never_fails_otherwise_than_it_says(tmp_path):
    from crdtredis.storage.format import FormatError
    rng = random.Random(3)
    header = Header("a", 1, 0, ((5, "a", 1),), {5: 7}, None)
    good = encode_header(header)
    path, outcomes = tmp_path / "x", {"refused": 0, "read": 0}
    for _ in range(500):
        data = bytearray(good + b"more")
        begin = rng.choice([0, 0, 0, len(good)])        # in the header, or behind it
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(begin, len(data))] = rng.randrange(256)
        path.write_bytes(data[:rng.randrange(len(data) + 1)] if rng.random() < 0.5 else data)
        fd = os.open(path, os.O_RDONLY)
        try:
            found = read_header(fd)
        except FormatError as e:
            outcomes["refused"] += 1
            assert str(e) and 0 <= e.offset <= len(data)
        else:
            # the checksum makes it certain that nothing was changed up to the end of the record
            outcomes["read"] += 1
            assert data.startswith(good) and found.size == len(good)
            assert replace(found, size=0) == replace(header, size=0)
        os.close(fd)
    assert outcomes["refused"] > 300 and outcomes["read"] > 10, outcomes

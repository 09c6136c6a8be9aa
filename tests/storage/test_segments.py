"""The open end of the log: rotation, policies, and what becomes of it when the disk refuses."""
import errno
import os
import resource
import shutil
import subprocess
import sys
import textwrap

import pytest

from crdtredis._core import Replica, records_join
from crdtredis.storage import segments
from crdtredis.storage.format import read_header, segment_numbers, segment_path
from crdtredis.storage.recovery import recover
from tests.storage.node import Node

pytestmark = pytest.mark.usefixtures("form")


def recovered(folder):
    replica = Replica("a", 99)
    recover(folder, "a", replica)
    return replica


def header(folder, number):
    fd = os.open(segment_path(folder, number), os.O_RDONLY)
    try:
        return read_header(fd)
    finally:
        os.close(fd)


# ---- the ordinary course -------------------------------------------------------------------------


def test_a_full_segment_gets_a_successor_whose_header_tells_clock_actors_and_place(tmp_path):
    node = Node(tmp_path, max_segment_size=600)
    while node.log.writer.position()[0] == 1:
        before = node.log.writer.position()[1]
        node.set(b"k", b"v" * 50)
    actor = node.replica.actor
    h = header(tmp_path, 2)
    assert ((h.replica, h.number, h.created_ms, h.actors, h.clock)
            == ("a", 2, 7, ((actor, "a", 1),), {actor: len(node.ends)}))
    assert h.follows == (1, segment_path(tmp_path, 1).stat().st_size) and h.follows[1] > before
    node.close()


def forms(folder, number):
    """{whether short} of the records that a segment holds."""
    path, h = segment_path(folder, number), header(folder, number)
    data, at, found = path.read_bytes(), h.size, set()
    while at < len(data):
        if data[at:at + 8] != segments.MARK:
            found.add(data[at + 3] >> 4 == 15)
        at = records_join(data, at, 1)[1]
    return found


def test_short_records_stand_only_where_the_header_says_so(tmp_path, form):
    """An older version refuses such a header; the records it would take for a torn end."""
    node = Node(tmp_path)
    node.fill(3)
    node.replica.set_members({"a"}, True, True)         # from now on all know it
    node.fill(10)
    node.log._succeed()
    node.fill(10)
    node.close()
    if form == "longer":
        assert forms(tmp_path, 1) == {False}
    assert forms(tmp_path, 2) == {True}
    for number, short in (1, form == "short"), (2, True):
        assert header(tmp_path, number).short == short
        assert (b'"format":3' in segment_path(tmp_path, number).read_bytes()) == short
    assert recovered(tmp_path).digest() == node.digest()


def test_what_is_behind_short_records_may_be_so_too(tmp_path, form):
    """Records may have to be written again in a later segment, as they are."""
    for epoch in (1, 2):
        node = Node(tmp_path, epoch=epoch)
        node.fill(10)
        node.log._may_shorten = lambda: False
        node.replica.set_members({"a"}, True, False)
        node.log._succeed()
        node.fill(10)
        node.close()
        if form == "short":
            assert header(tmp_path, epoch + 1).short
            assert (True in forms(tmp_path, epoch)) == (epoch == 1)
        Node.short = False
    assert recovered(tmp_path).digest() == node.digest()


def test_the_thread_makes_former_segments_and_the_open_one_durable_and_closes_the_former(
        tmp_path, monkeypatch):
    node = Node(tmp_path, max_segment_size=600)
    synced = []
    monkeypatch.setattr(segments.os, "fdatasync",
                        lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")[-8:-4]))
    before = len(os.listdir("/proc/self/fd"))
    node.fill(30)
    last = node.ends[-1][0]
    assert last > 3 and node.log.status().unsynced > 0
    node.log.sync()
    assert synced == [f"{n:04d}" for n in range(1, last + 1)]
    assert node.log.status().unsynced == 0 and len(os.listdir("/proc/self/fd")) == before
    node.log.sync()
    assert len(synced) == last              # nothing to do
    node.close()


def test_no_syncs_closed_segments_and_the_open_one_at_the_end(tmp_path, monkeypatch):
    node = Node(tmp_path, policy="no", max_segment_size=600)
    synced = []
    monkeypatch.setattr(segments.os, "fdatasync",
                        lambda fd: synced.append(int(os.readlink(f"/proc/self/fd/{fd}")[-8:-4])))
    node.fill(30)
    last = node.ends[-1][0]
    assert last > 3 and not synced
    node.log.sync()
    assert synced == list(range(1, last))
    node.close()
    assert synced[last - 1] == last


def test_always_is_durable_when_append_returns(tmp_path):
    node = Node(tmp_path, policy="always", max_segment_size=600)
    for i in range(20):
        node.set(b"k", b"%d" % i)
        assert node.log.status().unsynced == 0
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


def test_a_change_to_always_makes_everything_before_durable(tmp_path):
    node = Node(tmp_path, policy="everysec", max_segment_size=600)
    node.fill(20)
    node.log.configure(policy="always")
    assert node.log.status().unsynced == 0
    node.set(b"a", b"b")
    assert node.log.status().unsynced == 0 and node.log.status().policy == "always"
    node.close()


def test_a_smaller_maximum_takes_effect_with_the_next_iteration(tmp_path):
    node = Node(tmp_path)
    node.fill(20)
    node.log.configure(max_segment_size=500)
    node.set(b"a", b"b")
    assert node.log.writer.position()[0] == 2
    node.close()


def test_the_thread_runs_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SYNC_INTERVAL", 0.01)
    node = Node(tmp_path)
    node.log.start()
    node.fill(3)
    for _ in range(500):
        if node.log.status().unsynced == 0:
            break
        node.log._stop.wait(0.01)
    assert node.log.status().unsynced == 0 and node.log.status().syncs
    assert node.close() is None


MEG = b"x" * 1_000_000


def on_disk(folder, number) -> int:
    return segment_path(folder, number).stat().st_blocks * 512


def test_where_much_is_logged_room_is_set_aside_ahead_and_given_back_when_the_segment_is_left(
        tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "PLENTY", 0)
    node = Node(tmp_path, max_segment_size=6_000_000)
    node.set(b"k", b"little")
    node.log.ease()
    assert on_disk(tmp_path, 1) < 1_000_000, "not where little is logged"
    node.set(b"k", MEG)
    node.log.ease()
    size = segment_path(tmp_path, 1).stat().st_size
    assert on_disk(tmp_path, 1) >= size + segments.AHEAD - 8192 and size < 1_100_000, (
        "room, but not a longer file")
    for _ in range(6):
        node.set(b"k", MEG)
    node.log.ease()                         # the second segment
    node.log.sync()
    assert node.log.writer.position()[0] == 2
    assert on_disk(tmp_path, 1) < segment_path(tmp_path, 1).stat().st_size + 8192
    assert on_disk(tmp_path, 2) >= segments.AHEAD
    node.close()
    assert on_disk(tmp_path, 2) < segment_path(tmp_path, 2).stat().st_size + 8192
    assert recovered(tmp_path).clock() == node.replica.clock()


def test_room_that_a_killed_process_or_a_failed_segment_has_set_aside_is_given_back(
        tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "PLENTY", 0)
    node = Node(tmp_path, max_segment_size=3_000_000)
    node.set(b"k", MEG)
    node.log.ease()
    for _ in range(3):
        node.set(b"k", MEG)                 # the second segment, and then kill -9
    assert node.log.writer.position()[0] == 2 and on_disk(tmp_path, 1) >= segments.AHEAD
    node = Node(tmp_path, epoch=2, max_segment_size=30_000_000)
    assert on_disk(tmp_path, 1) < segment_path(tmp_path, 1).stat().st_size + 8192

    node.set(b"k", MEG)
    node.log.ease()
    assert on_disk(tmp_path, 2) >= segments.AHEAD
    monkeypatch.setattr(segments.os, "fdatasync", fail_with(errno.EIO))
    node.log.sync()
    monkeypatch.undo()
    assert node.log.tick() is None and node.log.writer.position()[0] == 3
    assert on_disk(tmp_path, 2) < segment_path(tmp_path, 2).stat().st_size + 8192
    node.close()
    assert recovered(tmp_path).clock() == node.replica.clock()


@pytest.mark.parametrize("why", [errno.EOPNOTSUPP, errno.ENOSPC])
def test_where_no_room_can_be_set_aside_the_log_goes_on(tmp_path, monkeypatch, why):
    def reserve(fd, begin, n):
        raise OSError(why, os.strerror(why))

    node = Node(tmp_path)
    monkeypatch.setattr(segments, "reserve", reserve)
    for _ in range(3):
        node.set(b"k", MEG)
        node.log.ease()
    assert node.log.status().failure is None and node.log.writer.is_open
    node.close()


def test_a_disk_that_fails_when_asked_to_begin_is_noticed(tmp_path, monkeypatch):
    def fail(fd, end):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    node = Node(tmp_path)
    monkeypatch.setattr(segments, "write_back", fail)
    node.set(b"k", MEG)
    node.log.ease()
    assert node.log.writer.is_failed
    assert node.log.tick() is None and node.log.status().failures == 1
    assert node.log.writer.is_open, "written again in a new segment, durable"
    node.close()
    assert recovered(tmp_path).clock() == node.replica.clock()


@pytest.mark.parametrize("policy", ["always", "no"])
def test_nothing_is_begun_early_where_every_iteration_is_synced_or_the_kernel_decides(
        tmp_path, monkeypatch, policy):
    node = Node(tmp_path, policy=policy)
    monkeypatch.setattr(segments, "write_back", lambda fd, end: pytest.fail("begun"))
    node.set(b"k", MEG)
    node.log.ease()
    node.close()


def test_when_a_successor_cannot_be_made_the_old_segment_goes_on(tmp_path, monkeypatch):
    node = Node(tmp_path, max_segment_size=600)
    monkeypatch.setattr(segments.os, "rename", fail_with(errno.EIO))
    node.fill(30)
    assert (node.log.writer.position()[0] == 1 and node.log.tick() is None
            and segment_numbers(tmp_path) == [1])
    monkeypatch.undo()
    node.fill(30)
    assert node.log.writer.position()[0] > 1
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


# ---- errors --------------------------------------------------------------------------------------


def fail_with(code):
    def call(*_):
        raise OSError(code, os.strerror(code))
    return call


def failing_fdatasync(monkeypatch, which, code=errno.EIO):
    real = os.fdatasync

    def call(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith(which):
            raise OSError(code, os.strerror(code))
        real(fd)
    monkeypatch.setattr(segments.os, "fdatasync", call)


def test_after_a_failed_fdatasync_writes_fail_until_what_is_in_doubt_is_durable_elsewhere(
        tmp_path, monkeypatch):
    node = Node(tmp_path)
    node.fill(10)
    node.log.sync()
    durable = node.log.writer.position()[1]
    node.fill(5, seed=2)
    failing_fdatasync(monkeypatch, "001.log")
    node.log.sync()
    assert node.log.writer.is_failed and node.log.writer.due
    monkeypatch.setattr(segments.os, "rename", fail_with(errno.EIO))
    assert not node.set(b"refused", b"x")
    assert "fdatasync of segment-0000000000000001.log failed: Input/output error" in node.log.tick()
    assert not node.log.writer.due and segment_numbers(tmp_path) == [1]
    monkeypatch.undo()
    assert node.log.tick() is None and node.log.writer.is_open
    assert header(tmp_path, 2).follows == (1, durable)
    assert node.set(b"accepted", b"y")
    node.close()
    assert node.log.status().failures == 1
    again = recovered(tmp_path)
    assert again.digest() == node.digest()
    # what was in doubt may rot now: it is void
    with open(segment_path(tmp_path, 1), "r+b") as f:
        f.truncate(durable + 10)
        f.seek(durable)
        f.write(b"rot")
    assert recovered(tmp_path).digest() == node.digest()


def test_a_failed_fdatasync_of_a_former_segment_voids_all_after_it(tmp_path, monkeypatch):
    node = Node(tmp_path, max_segment_size=600)
    node.fill(30)
    last = node.ends[-1][0]
    assert last >= 4
    failing_fdatasync(monkeypatch, "002.log")
    node.log.sync()
    # fails and heals within the tick: the new file can be written
    assert node.log.tick() is None
    monkeypatch.undo()
    assert header(tmp_path, last + 1).follows == header(tmp_path, 2).follows
    assert node.log.status().unsynced == 0
    node.fill(3)
    node.close()
    for number in range(2, last + 1):
        segment_path(tmp_path, number).write_bytes(b"")
    assert recovered(tmp_path).digest() == node.digest()


def test_what_is_in_doubt_and_cannot_be_read_back_keeps_the_log_failed(tmp_path, monkeypatch):
    node = Node(tmp_path)
    node.fill(10)
    failing_fdatasync(monkeypatch, "001.log")
    node.log.sync()
    monkeypatch.undo()
    with open(segment_path(tmp_path, 1), "r+b") as f:
        f.seek(300)
        f.write(b"\0" * 50)
    assert node.log.tick() and node.log.tick() and node.log.writer.is_failed
    assert segment_numbers(tmp_path) == [1] and not list(tmp_path.glob("*.tmp"))
    node.close()


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte."""
    where = tmp_path / "disk"
    where.mkdir()
    if (os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", where],
                                       capture_output=True).returncode):
        pytest.skip("needs the right to mount")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_on_a_full_disk_writes_fail_and_nothing_acknowledged_is_lost_and_room_heals_it(
        small_disk, policy):
    node = Node(small_disk, policy=policy, max_segment_size=200_000)
    i, acknowledged = 0, {}
    while True:
        key, value = b"k%d" % i, bytes([i % 256]) * 30_000
        if not node.set(key, value):
            break
        acknowledged[key] = value
        i += 1
    assert len(acknowledged) > 20
    assert node.log.tick().endswith("failed: No space left on device")
    number, end = node.log.writer.position()
    # the torn record was cut off again
    assert segment_path(small_disk, number).stat().st_size == end
    assert node.log.tick() and node.get(b"k3") == acknowledged[b"k3"]
    # killed now, everything acknowledged comes back
    copy = recovered(small_disk)
    assert copy.clock_ids() == {node.replica.actor: len(acknowledged)}
    # with room, the log opens again and even the loop iteration that failed is in it
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert node.log.tick() is None
    assert node.set(b"after", b"1")
    node.close()
    again = recovered(small_disk)
    assert (again.digest() == node.digest()
            and again.clock_ids() == {node.replica.actor: len(acknowledged) + 2})


def test_a_full_disk_during_rotation_leaves_no_half_segment(small_disk):
    node = Node(small_disk, max_segment_size=100_000)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(850_000))
    while node.set(b"k", os.urandom(9_000)):
        pass
    assert not list(small_disk.glob("*.tmp"))
    filler.unlink()
    assert node.log.tick() is None
    node.close()
    assert recovered(small_disk).digest() == node.digest()


def test_a_file_size_limit_is_a_write_error_like_any_other(tmp_path):
    """EFBIG in a process of its own, whose limit falls in the middle of a record."""
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from tests.storage.node import Node
        node = Node(Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        n = 0
        while node.set(b"k%d" % n, b"x" * 777):
            n += 1
        text = node.log.tick()
        print(n, node.log.writer.is_failed, text, sep="|")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(node.log.tick(), node.set(b"more", b"y"), sep="|")
        node.close()
        print(node.digest())
    """)
    r = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True,
                       check=True)
    first, second, digest = r.stdout.split()[0], r.stdout.splitlines()[1], r.stdout.splitlines()[2]
    # a fresh segment has room at once
    assert int(first.split("|")[0]) == 12 and "|False|None" in r.stdout.splitlines()[0]
    assert second == "None|True" and recovered(tmp_path).digest() == digest
    assert resource.getrlimit(resource.RLIMIT_FSIZE)


def test_a_descriptor_that_broke_is_a_write_error(tmp_path):
    """EBADF, as after an unmount by force."""
    node = Node(tmp_path)
    node.fill(5)
    fd = node.log.writer.snapshot()[0]
    null = os.open("/dev/full", os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)
    assert not node.set(b"a", b"1")
    assert node.log.tick() is None          # a new segment takes it
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


# ---- what is in doubt ----------------------------------------------------------------------------


def syncing_fails(monkeypatch, times=1):
    """fdatasync fails this often and then, as kernels do, says that all is well."""
    real, left = os.fdatasync, [times]

    def call(fd):
        if left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)
    monkeypatch.setattr(segments.os, "fdatasync", call)


def lose(folder, number, end):
    """What was behind this place never reached the disk."""
    with open(segment_path(folder, number), "r+b") as f:
        size = f.seek(0, 2)
        f.seek(end)
        f.write(bytes(size - end))


def test_a_sync_that_fails_while_a_successor_is_made_closes_the_log(tmp_path, monkeypatch):
    node = Node(tmp_path, max_segment_size=600)
    node.set(b"first", b"1")
    node.log.sync()
    durable = node.log.writer.position()[1]
    while node.log.writer.position()[1] < 500:
        node.set(b"k", b"v" * 30)
    rename = os.rename

    def slow(a, b):
        rename(a, b)
        monkeypatch.setattr(segments.os, "rename", rename)
        with monkeypatch.context() as m:
            syncing_fails(m)
            node.log.sync()                             # what the thread does meanwhile
    monkeypatch.setattr(segments.os, "rename", slow)
    node.set(b"k", b"v" * 100)
    assert node.log.writer.position()[0] == 2 and node.log.writer.is_failed
    assert not node.set(b"refused", b"x")
    assert node.log.tick() is None and node.log.status().failures == 1
    lose(tmp_path, 1, durable)
    node.set(b"accepted", b"y")
    node.log.sync()
    assert recovered(tmp_path).digest() == node.digest()
    # a later failure of another kind has nothing to do with it
    null = os.open("/dev/full", os.O_RDWR)
    os.dup2(null, node.log.writer.snapshot()[0])
    os.close(null)
    assert not node.set(b"refused", b"x2")
    assert node.log.tick() is None
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


def test_what_was_in_doubt_stays_so_however_often_the_kernel_is_asked_again(tmp_path, monkeypatch):
    node = Node(tmp_path, max_segment_size=600)
    node.fill(30)
    assert node.ends[-1][0] >= 3
    syncing_fails(monkeypatch)
    node.log.sync()
    monkeypatch.setattr(segments.os, "rename", fail_with(errno.ENOSPC))
    assert node.log.tick()
    unsynced = node.log.status().unsynced
    for _ in range(3):
        node.log.sync()                                 # the former ones would "succeed" now
    assert node.log.status().unsynced == unsynced
    monkeypatch.undo()
    assert node.log.tick() is None
    durable = header(tmp_path, 1).size
    lose(tmp_path, 1, durable)
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


def test_with_a_name_that_cannot_be_made_durable_the_file_behind_it_is_in_doubt(
        tmp_path, monkeypatch):
    node = Node(tmp_path, max_segment_size=600)
    node.log.sync()
    node.fill(10)
    last = node.ends[-1][0]
    assert last > 1
    monkeypatch.setattr(segments, "sync_directory", fail_with(errno.EIO))
    node.log.sync()
    assert node.log.writer.is_failed and node.log.tick() and node.log.status().unsynced > 0
    monkeypatch.undo()
    assert node.log.tick() is None
    node.close()
    for number in range(2, last + 1):
        segment_path(tmp_path, number).write_bytes(b"")
    assert recovered(tmp_path).digest() == node.digest()


def test_a_start_syncs_what_a_killed_process_had_closed_one_file_at_a_time(tmp_path, monkeypatch):
    node = Node(tmp_path, max_segment_size=600)
    node.fill(30)
    last = node.ends[-1][0]
    assert last > 3
    synced, opened = [], []
    monkeypatch.setattr(segments.os, "fdatasync",
                        lambda fd: synced.append(int(os.readlink(f"/proc/self/fd/{fd}")[-8:-4])) or
                        opened.append(len(os.listdir("/proc/self/fd"))))
    Node(tmp_path, epoch=2)
    assert synced == list(range(1, last + 1)) and max(opened) - min(opened) <= 1


def test_a_sync_that_fails_at_the_start_closes_the_log_and_does_not_stop_the_start(
        tmp_path, monkeypatch):
    first = Node(tmp_path)
    first.fill(10)
    syncing_fails(monkeypatch)
    node = Node(tmp_path, epoch=2)
    assert node.log.writer.is_failed and node.digest() == first.digest()
    assert node.log.tick() is None
    node.set(b"a", b"1")
    node.close()
    segment_path(tmp_path,
                 1).write_bytes(segment_path(tmp_path, 1).read_bytes()[:header(tmp_path, 1).size])
    assert recovered(tmp_path).digest() == node.digest()


def test_a_full_disk_at_the_start_does_not_stop_it_even_where_the_newest_segment_is_full(
        tmp_path, monkeypatch):
    first = Node(tmp_path)
    first.fill(10)
    monkeypatch.setattr(segments.os, "rename", fail_with(errno.ENOSPC))
    node = Node(tmp_path, epoch=2, max_segment_size=100)
    assert node.log.writer.position()[0] == 1 and node.set(b"a", b"1")
    monkeypatch.undo()
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


# ---- a log that begins its life failed -----------------------------------------------------------


def test_nothing_is_written_before_the_epoch_is_claimed(tmp_path):
    first = Node(tmp_path)
    first.fill(10)
    first.close()
    before = segment_path(tmp_path, 1).read_bytes()
    claims = [OSError(errno.ENOSPC, "No space left on device")] * 3

    def claim():
        if claims:
            raise claims.pop()

    node = Node(tmp_path, epoch=2, claim=claim)
    assert node.log.writer.is_failed and not node.set(b"a", b"1")
    assert node.log.tick() == "writing a new epoch to identity.json failed: No space left on device"
    assert segment_path(tmp_path, 1).read_bytes() == before and segment_numbers(tmp_path) == [1]
    node.log.tick()
    assert node.log.tick() is None and not claims
    assert node.set(b"b", b"2")
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


# ---- files that somebody takes away --------------------------------------------------------------


@pytest.mark.parametrize("how", ["removed", "moved away", "replaced", "copied"])
def test_an_open_segment_that_lost_its_name_is_written_again(tmp_path, how):
    node = Node(tmp_path)
    node.fill(20)
    path = segment_path(tmp_path, 1)
    if how == "removed":
        path.unlink()
    elif how == "moved away":
        path.rename(tmp_path / "elsewhere")
    elif how == "copied":                   # as where the directory gave way to a copy of it
        path.rename(tmp_path / "elsewhere")
        shutil.copy(tmp_path / "elsewhere", path)
    else:
        (tmp_path / "other").write_bytes(b"something else")
        (tmp_path / "other").rename(path)
    node.set(b"in the lost file", b"1")
    assert node.log.tick() is None
    assert recovered(tmp_path).digest() == node.digest()
    assert node.set(b"after", b"2")
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


def test_while_it_cannot_be_written_again_writes_are_refused(tmp_path, monkeypatch):
    node = Node(tmp_path)
    node.fill(20)
    segment_path(tmp_path, 1).unlink()
    with monkeypatch.context() as m:
        m.setattr(segments.os, "rename", fail_with(errno.ENOSPC))
        assert node.log.tick() and not node.set(b"a", b"1")
        assert node.log.tick()
    assert node.log.tick() is None and node.set(b"b", b"1")
    node.close()
    assert recovered(tmp_path).digest() == node.digest()


def test_a_closed_segment_that_was_removed_is_told(tmp_path):
    node = Node(tmp_path, max_segment_size=600)
    node.fill(30)
    node.log.sync()
    node.log._look_around()
    assert node.log.status().missing is None
    segment_path(tmp_path, 2).unlink()
    node.log._look_around()
    assert (node.log.status().missing
            == "segment-0000000000000002.log was removed: the next start will be refused")
    node.close()


def test_files_are_for_their_owner_only(tmp_path):
    node = Node(tmp_path, max_segment_size=600)
    node.fill(10)
    node.close()
    assert {p.stat().st_mode & 0o777 for p in tmp_path.glob("segment-*")} == {0o600}


# ---- kill -9 -------------------------------------------------------------------------------------


def test_kill_9_at_random_moments_loses_nothing_acknowledged(tmp_path):
    """The page cache survives the process, so this holds for every policy."""
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from tests.storage.node import Node
        node = Node(Path(sys.argv[1]), epoch=int(sys.argv[2]), max_segment_size=5000)
        node.log.start()
        n = 0
        while node.set(b"k", b"%d" % n):
            sys.stdout.write(f"{n}\\n")
            sys.stdout.flush()
            n += 1
    """)
    for epoch in range(1, 9):
        p = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(epoch)],
                             stdout=subprocess.PIPE, text=True)
        for _ in range(37 * epoch):
            p.stdout.readline()
        p.kill()
        rest = p.stdout.read().split("\n")[:-1]
        p.wait()
        last = int(rest[-1]) if rest else 37 * epoch - 1
        node = Node(tmp_path, epoch=100 + epoch)
        assert int(node.get(b"k")) in (last, last + 1)
        node.close()


# ---- removal -------------------------------------------------------------------------------------


def test_the_oldest_segments_are_removed_one_by_one_up_to_a_pin(tmp_path):
    node = Node(tmp_path, max_segment_size=600)
    node.fill(60)
    newest = node.log.writer.position()[0]
    pins = [node.log.pin((n, 100)) for n in (3, 3, 2)]
    assert node.log.first == 1 and node.log.remove_first() and not node.log.remove_first()
    pins[2].release()
    assert node.log.remove_first() and not node.log.remove_first()
    pins[0].release()
    pins[0].release()
    assert not node.log.remove_first()
    pins[1].release()
    with pytest.raises(LookupError, match="segment 2 was removed; the log begins with segment 3"):
        node.log.pin((2, 100))
    while node.log.remove_first():
        pass
    assert segment_numbers(tmp_path) == [newest] and node.log.first == newest > 4
    node.log._look_around()
    assert node.log.status().missing is None
    node.close()

"""identity.json and LOCK: who a process is, and that it is alone."""
import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from crdtredis.errors import EXIT_DATA, StartError
from crdtredis.storage import identity, lock
from crdtredis.storage.identity import (Identity, Left, newer_epoch, read_identity, store_identity,
                                        take_identity)
from crdtredis.storage.lock import DirectoryLock


def test_a_fresh_directory_takes_the_configured_id_and_the_time(tmp_path):
    assert take_identity(tmp_path, "eu-1", 5000) == Identity("eu-1", 5000)
    assert (json.loads((tmp_path / "identity.json").read_text())
            == {"format": 1, "replica_id": "eu-1", "epoch": 5000})


def test_without_a_configured_id_it_is_the_host_name_and_something_random(tmp_path):
    a = take_identity(tmp_path, None, 1, hostname="box 7/ü")
    assert a.replica_id.startswith("box-7---") and len(a.replica_id) == len("box-7---") + 8
    assert take_identity(tmp_path, "", 2).replica_id == a.replica_id


ABOVE = range(5001, 5001 + (1 << 20))


@pytest.mark.parametrize("now, expected", [(9000, [9000]), (5001, [5001]), (5000, ABOVE),
                                           (17, ABOVE)])
def test_every_start_takes_a_greater_epoch_even_when_the_clock_was_set_back(
        tmp_path, now, expected):
    take_identity(tmp_path, "a", 5000)
    assert take_identity(tmp_path, "a", now).epoch in expected


def test_two_starts_from_one_backup_under_a_clock_set_back_do_not_meet(tmp_path):
    store_identity(tmp_path, Identity("a", 5000))
    backup = (tmp_path / "identity.json").read_bytes()
    epochs = set()
    for _ in range(3):
        (tmp_path / "identity.json").write_bytes(backup)
        epochs.add(take_identity(tmp_path, "a", 17).epoch)
    assert len(epochs) == 3


def test_the_epoch_is_on_disk_before_it_is_returned_and_survives_a_crash_at_any_step(
        tmp_path, monkeypatch):
    """The steps are recorded: file synced, renamed, directory synced, in this order; a crash before
    each leaves a whole file."""
    take_identity(tmp_path, "a", 100)
    steps = []
    real = {name: getattr(os, name) for name in ("write", "fsync", "rename")}

    class Crash(BaseException):
        pass

    def spy(name):
        def call(*args):
            steps.append(name)
            if len(steps) == crash_at:
                raise Crash
            return real[name](*args)
        return call

    for name in real:
        monkeypatch.setattr(identity.os, name, spy(name))
    for crash_at in (1, 2, 3, 4):
        steps.clear()
        with pytest.raises(Crash):
            take_identity(tmp_path, "a", 200 * crash_at)
        assert read_identity(tmp_path).epoch == (100 if crash_at < 4 else 800)
    crash_at = 0
    steps.clear()
    take_identity(tmp_path, "a", 900)
    assert steps == ["write", "fsync", "rename", "fsync"]


def test_another_configured_id_is_refused(tmp_path):
    take_identity(tmp_path, "a", 1)
    with pytest.raises(StartError, match="belongs to replica 'a'.*'b'") as e:
        take_identity(tmp_path, "b", 2)
    assert e.value.code == EXIT_DATA and read_identity(tmp_path).epoch == 1


def test_a_newer_epoch_at_run_time_is_above_the_strangers(tmp_path):
    mine = take_identity(tmp_path, "a", 10)
    assert 99 < newer_epoch(tmp_path, mine, 99, 50).epoch
    assert read_identity(tmp_path).epoch > 99


@pytest.mark.parametrize("last", [2**63 - 2, 2**63 - 3 - (1 << 20), 2**62])
def test_an_epoch_is_stored_only_if_the_next_start_can_read_it(tmp_path, last):
    store_identity(tmp_path, Identity("a", last))
    try:
        taken = take_identity(tmp_path, "a", 1)
    except StartError as e:
        assert "leaves none above it" in str(e) and read_identity(tmp_path).epoch == last
    else:
        assert read_identity(tmp_path) == taken and taken.epoch > last


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format":2,"replica_id":"a","epoch":1}',
                                  '{"format":1,"replica_id":"","epoch":1}',
                                  '{"format":1,"replica_id":"a","epoch":0}',
                                  '{"format":1,"replica_id":"a","epoch":true}', "\0" * 40])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, text):
    (tmp_path / "identity.json").write_text(text)
    with pytest.raises(StartError, match="identity.json: damaged"):
        take_identity(tmp_path, "a", 1)
    assert (tmp_path / "identity.json").read_text() == text


def test_segments_without_an_identity_are_refused(tmp_path):
    (tmp_path / "segment-0000000000000001.log").write_bytes(b"")
    with pytest.raises(StartError, match="no identity.json"):
        take_identity(tmp_path, "a", 1)


def test_a_directory_that_cannot_be_written_stops_the_start(tmp_path):
    with pytest.raises(StartError, match="cannot be written"):
        take_identity(tmp_path / "missing", "a", 1)


def test_a_second_process_is_refused_and_told_who_holds_the_directory(tmp_path):
    code = ("import sys, pathlib; from crdtredis.storage.lock import DirectoryLock; "
            "DirectoryLock(pathlib.Path(sys.argv[1]))")
    with DirectoryLock(tmp_path):
        r = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True,
                           text=True)
        assert r.returncode and f"in use by another crdt-redis (process {os.getpid()})" in r.stderr
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 0


def test_the_lock_goes_with_its_process(tmp_path):
    (tmp_path / "LOCK").write_text("4711\n")
    with DirectoryLock(tmp_path):
        with pytest.raises(StartError):
            DirectoryLock(tmp_path)
    DirectoryLock(tmp_path).release()


def test_whoever_removes_the_file_lock_admits_nobody(tmp_path):
    with DirectoryLock(tmp_path):
        (tmp_path / "LOCK").unlink()
        with pytest.raises(StartError, match="in use by another"):
            DirectoryLock(tmp_path)


def test_a_version_that_locks_only_the_file_is_seen(tmp_path):
    with open(tmp_path / "LOCK", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(StartError, match="in use by another"):
            DirectoryLock(tmp_path)


@pytest.mark.parametrize("refused", ["LOCK", ""])
def test_one_of_the_two_locks_is_enough(tmp_path, monkeypatch, refused):
    """No room for the file; or a file system that cannot lock a directory."""
    real = os.open

    def call(path, *rest):
        if path == (tmp_path / refused if refused else tmp_path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *rest)
    monkeypatch.setattr(lock.os, "open", call)
    with DirectoryLock(tmp_path):
        with pytest.raises(StartError, match="in use by another"):
            DirectoryLock(tmp_path)


def test_on_a_full_disk_an_epoch_is_taken_that_is_stored_later(tmp_path, monkeypatch):
    take_identity(tmp_path, "a", 100)
    with monkeypatch.context() as m:
        m.setattr(identity.os, "write", lambda fd,
                  data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        mine = take_identity(tmp_path, "a", 200)
        assert mine == Identity("a", 200, stored=False) and read_identity(tmp_path).epoch == 100
    store_identity(tmp_path, mine)
    assert read_identity(tmp_path) == Identity("a", 200)


def test_files_are_for_their_owner_only(tmp_path):
    take_identity(tmp_path, "a", 1)
    with DirectoryLock(tmp_path):
        assert ({p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
                == {"identity.json": 0o600, "LOCK": 0o600})


def test_where_a_testimony_was_left_is_read_once(tmp_path):
    left = Left("http://10.0.0.1:8380", b"s" * 16)
    store_identity(tmp_path, Identity("a", 7, left=left))
    assert read_identity(tmp_path).left == left
    assert take_identity(tmp_path, None, 1000).left is None
    assert read_identity(tmp_path) == Identity("a", 1000)


@pytest.mark.parametrize("left", [
    7, "x", [], {"url": "http://a:1"}, {"url": 7, "secret": "00" * 16},
    {"url": "file:///x", "secret": "00" * 16}, {"url": "http://a:1", "secret": "00" * 15},
    {"url": "http://a:1", "secret": "x" * 32},
    {"url": "http://" + "a" * 1000, "secret": "00" * 16}])
def test_nonsense_there_is_told(tmp_path, left):
    (tmp_path / "identity.json").write_text(json.dumps(
        {"format": 1, "replica_id": "a", "epoch": 7, "left": left}))
    with pytest.raises(StartError, match="damaged"):
        read_identity(tmp_path)

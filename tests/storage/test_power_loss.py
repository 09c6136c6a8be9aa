"""Loss of power at any moment: the log that comes back is what was there after some iteration, and
nothing that was synced is missing.

The disk is simulated below the C library (faults.py): what counts is which calls were made, in
which order, not what this machine's file system happens to do.
"""
import os
import random
import shutil
import subprocess
import sys
import textwrap

import pytest

from crdtredis._core import Replica
from crdtredis.storage.format import segment_numbers, segment_path
from crdtredis.storage.recovery import RecoveryError, recover
from tests.storage.faults import KILL, Disk
from tests.storage.node import Node

pytestmark = pytest.mark.usefixtures("form")

# Writes iterations, syncs and rotates as its seed says; tells after each step what there is and
# what must not be lost any more.
WRITER = textwrap.dedent("""
    import os, random, sys
    from pathlib import Path
    from tests.storage.node import Node
    folder, policy = Path(sys.argv[1]), sys.argv[4]
    epoch, seed, steps = (int(sys.argv[i]) for i in (2, 3, 5))
    rng = random.Random(seed)
    node = Node(folder, epoch=epoch, policy=policy, max_segment_size=rng.choice([500, 900, 3000]))
    print("synced", node.digest(), flush=True)
    for i in range(steps):
        what = rng.random() if i < steps - 15 else 0        # at the end nothing is synced any more
        if what < 0.7:
            acknowledged = node.set(b"k%d" % i, rng.randbytes(rng.randrange(200)))
            synced = policy == "always" and acknowledged
            print("synced" if synced else "made", node.digest(), flush=True)
        elif what < 0.85:
            node.log.tick()
        elif what < 0.98:
            node.log.sync()
            if not node.log.writer.is_failed and policy != "no":
                print("synced", node.digest(), flush=True)
        else:
            node.log.configure(policy=policy)
    os._exit(0)
""")


def write(disk, epoch, seed, policy, steps=60):
    """The digests that the writer went through, and the number of those that must be there."""
    r = subprocess.run([sys.executable, "-c", WRITER, disk.folder, str(epoch), str(seed), policy,
                        str(steps)], capture_output=True, text=True,
                       env=os.environ | disk.environment)
    lines = [line.split() for line in r.stdout.splitlines()]
    assert lines, r.stderr
    return [d for _, d in lines], max(i for i, (what, _) in enumerate(lines) if what == "synced")


def back(folder):
    replica = Replica("a", 999)
    return recover(folder, "a", replica), replica.digest()


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "data").mkdir()
    disk = Disk(tmp_path / "data")
    yield disk
    disk.close()


@pytest.mark.parametrize("policy", ["everysec", "always", "no"])
def test_what_comes_back_is_a_prefix_that_holds_all_that_was_synced(disk, tmp_path, policy):
    rng = random.Random(policy)
    cut_in_closed = set_aside = 0
    for seed in range(8):
        digests, promised = write(disk, 1 + seed, seed, policy)
        for image in range(10):
            folder = disk.power_loss(rng if image else None, tmp_path / "image")
            before = len(segment_numbers(folder))
            found, digest = back(folder)
            assert digest in digests[promised:], (seed, image, found)
            again, same = back(folder)
            assert same == digest and again.truncations == ()
            cut_in_closed += len(found.truncations) > 1
            set_aside += sum(c.kept for c in found.truncations)
            assert before == again.segments + len([c for c in found.truncations if c.offset == 0])
        # the next life begins with one of these
        disk.power_loss(rng)
    if policy != "always":
        assert cut_in_closed and set_aside


def test_power_lost_again_while_the_torn_end_is_being_cut_off(disk, tmp_path):
    """The start dies at each of its own changes of the directory, and the next one does as if
    nothing had been."""
    rng = random.Random(5)
    crashes = 0
    for seed in range(20):
        shutil.rmtree(disk.folder)
        disk.folder.mkdir()
        disk.begin_again()
        disk.heal()
        digests, promised = write(disk, 1, seed, "everysec")
        disk.power_loss(rng)
        expected = back(shutil.copytree(disk.folder, tmp_path / "copy"))[1]
        assert expected in digests[promised:]
        for call in ("rename", "ftruncate", "fsync directory", "unlink"):
            rule = disk.fail(call, "", KILL, skip=rng.randrange(2), times=1)
            code = ("import sys, pathlib; from crdtredis._core import Replica; "
                    "from crdtredis.storage.recovery import recover; "
                    "recover(pathlib.Path(sys.argv[1]), 'a', Replica('a', 9))")
            crashes += subprocess.run([sys.executable, "-c", code, disk.folder],
                                      env=os.environ | disk.environment).returncode != 0
            assert disk.hits(rule) <= 1
            disk.heal()
            disk.power_loss(rng)
        assert back(disk.folder)[1] == expected
        shutil.rmtree(tmp_path / "copy")
    assert crashes > 5


# ---- the same by hand ----------------------------------------------------------------------------


@pytest.fixture
def rotated(tmp_path):
    """A node in its third segment or later of which nothing was ever synced but the first header,
    and the digest after each loop iteration."""
    node = Node(tmp_path / "x", max_segment_size=2000) if (tmp_path / "x").mkdir() is None else None
    node.history = []
    for i in range(60):
        node.set(b"k%d" % i, b"v" * 40)
        node.history.append(node.digest())
    assert node.ends[-1][0] >= 3
    return node


def test_a_closed_segment_that_was_not_on_disk_may_have_lost_its_end(rotated):
    number, end = next((n, e) for n, e in rotated.ends if n == 2)
    os.truncate(segment_path(rotated.folder, 2), end + 5)
    found, digest = back(rotated.folder)
    iterations = rotated.ends.index((2, end)) + 1
    assert digest == rotated.history[iterations - 1] and found.position == (2, end)
    assert (sorted(c.path.name for c in found.truncations if c.kept)
            == [segment_path(rotated.folder, n).name for n in range(3, rotated.ends[-1][0] + 1)])
    assert len(list(rotated.folder.glob("*.torn"))) == rotated.ends[-1][0] - 2
    # and it goes on from there
    node = Node(rotated.folder, epoch=9)
    node.set(b"after", b"1")
    node.close()
    assert back(node.folder)[1] == node.digest()


@pytest.mark.parametrize("left", [None, 0, 9, 40])
def test_a_closed_segment_that_was_not_on_disk_may_have_lost_its_name_or_header(rotated, left):
    if left is None:
        segment_path(rotated.folder, 2).unlink()
    else:
        os.truncate(segment_path(rotated.folder, 2), left)
    # ends are as of after the rotation that the iteration brought
    iterations = sum(n == 1 for n, _ in rotated.ends) + 1
    found, digest = back(rotated.folder)
    assert digest == rotated.history[iterations - 1] and found.position[0] == 1


def test_once_a_mark_says_that_it_is_on_disk_the_loss_of_its_end_is_damage(rotated):
    rotated.log.sync()
    rotated.log.tick()
    last = rotated.log.writer.position()[0]
    path = segment_path(rotated.folder, last - 1)
    os.truncate(path, path.stat().st_size - 5)
    with pytest.raises(RecoveryError, match="cut short|the file ends here"):
        back(rotated.folder)
    assert not list(rotated.folder.glob("*.torn"))


def test_what_was_on_disk_before_the_newest_segment_was_begun_is_damaged_when_it_is_lost(tmp_path):
    node = Node(tmp_path, max_segment_size=2000)
    while node.log.writer.position()[0] < 3:
        node.fill(1)
        node.log.sync()
    os.truncate(segment_path(tmp_path, 1), segment_path(tmp_path, 1).stat().st_size - 5)
    with pytest.raises(RecoveryError, match="cut short|the file ends here"):
        back(tmp_path)


def test_a_start_makes_durable_what_a_killed_process_left_and_says_so(rotated):
    node = Node(rotated.folder, epoch=9)
    assert node.recovered.unsynced is not None
    assert node.log.status().unsynced == 0
    node.log.tick()
    found, _ = back(rotated.folder)
    assert found.unsynced is None

"""How does a restarted process know that it may go on as the actor that the one before it was?

Every process start could be a new actor, and where nothing is proven it is one: no op of it can
then be mistaken for one of another process, whatever became of the disk. But actors stay in clocks
and counters, so a replica that restarts often should leave none behind. To go on as an actor, two
things must be certain:

  - the log holds every op which that actor ever gave out, else a dot would be made again;
  - it holds every op of others which that actor ever said it had, else peers would have let go of
    what they kept for it (tombstones), and count its next increment twice;

and nobody else may think the same of that actor. A log cannot prove that of itself: it may have
lost its end, be an old copy put back, or have a copy that runs elsewhere. So a *witness* does: one
page of memory that the kernel keeps, outside the data directory, from the process's first op on.
The engine writes there, before anything is given out, the seq of its newest op, and how far the log
reaches as soon as it does (SegmentWriter.reach): two words, no system call.

The page is a file on a tmpfs, mapped: it survives the process, however that ended, and nothing
else. It is not on the disk, so no loss of power, backup, snapshot or copy of the directory takes
it along; and it has one holder at a time (flock). A process may be the actor that it names if
(`is_next`, `proves`)

    identity.json, as the start finds it, is the one which that actor's last process wrote: nobody
    has used this directory since, and no older copy of it was put back;
    the log reaches as far as the witness has seen it reach, and was not repaired since;
    and it ends with the op that the witness has seen made last.

By induction nobody else ever was that actor: to be it one must have made it, under an epoch of
one's own, or hold the one page that names it. So these are new actors as before: the first process
after a boot, in a container that gets a /dev/shm of its own, on another machine, over a copy, after
a lost end, after a repair, where no tmpfs is to be had.

What could take the page along is an image of the machine's memory that is gone back to. There the
two clocks of the machine part: the one on the wall is set right, the one since the boot goes on
from the image. The page holds both as of the last second; where they disagree by more than PARTED
it proves nothing. (A clock that is set while no process runs has the same effect, and costs an
actor. A process that is resumed from an image finds out from its peers: plan.newer_epoch.)

Folder: $RUNTIME_DIRECTORY, which systemd sets, or an operator; else /dev/shm. Where that will not
be there for the next process (`lasts`), the testimony is left with a peer instead:
replication/keeping.py.
"""
from __future__ import annotations

import fcntl
import hashlib
import logging
import mmap
import os
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from crdtredis.storage.format import LogPosition

SIZE = 4096
FORMAT = b"crdtwit1"
# behind the words: bound, epoch of identity.json, epoch of the actor, ms on the wall, ms since the
# boot, inode of this file, whose it is
REST = struct.Struct("<6Q32s")
WORDS = len(FORMAT), 3 * 8              # as WITNESS_* in core/segment_writer.pxd
AT = sum(WORDS)
PARTED = 1000                           # ms
STRAYS = 1000                           # files of others looked at, at most
PATH = AT + REST.size                   # the directory's path: its length (2 bytes), its bytes

log = logging.getLogger("crdtredis.storage")


@dataclass(frozen=True)
class Sighting:
    """What a witness has seen."""
    epoch: int                          # of identity.json, as the last process wrote it
    actor_epoch: int                    # of the actor that it was
    seq: int                            # of that actor's newest op
    position: LogPosition               # the log reached as far at least


def is_next(seen: Sighting | None, epoch: int) -> bool:
    """Is this start the next on its directory after the process that was seen? epoch: of
    identity.json as found."""
    return seen is not None and seen.epoch == epoch


def proves(seen: Sighting, position: LogPosition | None, repaired: bool, seq: int) -> bool:
    """May the next process go on as the actor that was seen? position, repaired: where the
    recovered log ends, and whether anything of it was ever left out. seq: of the actor's newest op
    in it."""
    return (position is not None and position >= seen.position and not repaired
            and seq == seen.seq)


class Witness:
    """The page of a data directory, held until close(). `words` is the engine's part of it."""

    def __init__(self, fd: int, replica_id: str) -> None:
        self._fd = fd
        self._page = mmap.mmap(fd, SIZE)
        self._inode = os.fstat(fd).st_ino
        self._whose = hashlib.blake2b(boot_id() + replica_id.encode(), digest_size=32).digest()
        self.words = memoryview(self._page)[WORDS[0]:AT].cast("L")

    def testimony(self) -> Sighting | None:
        """What it says. None where it is new, or says nothing that could be relied on."""
        bound, epoch, actor, wall, boot, inode, whose = REST.unpack_from(self._page, AT)
        now, since = clocks()
        if (self._page[:len(FORMAT)] != FORMAT or not bound or inode != self._inode
                or whose != self._whose or abs((now - wall) - (since - boot)) > PARTED):
            return None
        seq, number, end = self.words
        return Sighting(epoch, actor, seq, (number, end))

    def move(self, epoch: int) -> None:
        """identity.json has another epoch now. The rest stands."""
        struct.pack_into("<Q", self._page, AT + 8, epoch)

    def bind(self, folder: Path, epoch: int, actor_epoch: int, seq: int,
             position: LogPosition) -> None:
        """From now on it is about this actor. A process that ends in the middle leaves a witness of
        nothing."""
        self.release()
        path = os.fsencode(folder)
        self._page[PATH:PATH + 2 + len(path)] = struct.pack("<H", len(path)) + path
        self.words[0], self.words[1], self.words[2] = seq, *position
        REST.pack_into(self._page, AT, 0, epoch, actor_epoch, *clocks(), self._inode, self._whose)
        self._page[:len(FORMAT)] = FORMAT
        struct.pack_into("<Q", self._page, AT, 1)

    def release(self) -> None:
        """It is about nobody."""
        struct.pack_into("<Q", self._page, AT, 0)

    def renew(self) -> None:
        """It is about whom it was before release()."""
        struct.pack_into("<Q", self._page, AT, 1)

    def beat(self) -> None:
        """Once a second: the clocks still agree."""
        struct.pack_into("<2Q", self._page, AT + 24, *clocks())

    def close(self) -> None:
        self.words.release()            # nobody uses them any more
        self._page.close()
        os.close(self._fd)              # and with it goes the lock


def open_witness(folder: Path, replica_id: str) -> Witness | None:
    """The page of this data directory, new where there is none. None where there cannot be one;
    nothing depends on it. The caller holds the lock of the directory."""
    place = Path(os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or "/dev/shm")
    fd = -1
    try:
        if len(os.fsencode(folder)) > SIZE - PATH - 2 or not in_memory(place):
            return None
        remove_strays(place)
        path = place / name_of(os.stat(folder))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        found = os.fstat(fd)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid()
                or found.st_mode & 0o077 or found.st_nlink != 1):
            raise PermissionError(f"{path} is not this user's own file")
        if found.st_size != SIZE:
            os.ftruncate(fd, 0)
            if os.write(fd, bytes(SIZE)) != SIZE:               # there is room for it from now on
                raise OSError("no room")
        return Witness(fd, replica_id)
    except (OSError, ValueError) as e:
        log.debug("no witness: %s", e)
        if fd >= 0:
            os.close(fd)
        return None


def name_of(found: os.stat_result) -> str:
    return f"crdt-redis-{found.st_dev:x}-{found.st_ino:x}"


def remove_strays(place: Path) -> None:
    """Pages whose directory is gone, as far as can be seen from here. No other is locked, not even
    for a moment: the next process of its directory may want it just then, and would be another
    actor without."""
    for path in sorted(place.glob("crdt-redis-*-*"))[:STRAYS]:
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as f:
                own = os.fstat(f.fileno())
                if own.st_uid == os.geteuid() and own.st_size == SIZE and is_stray(
                        path.name, f.read(SIZE)):
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
        except (OSError, ValueError, struct.error):
            continue                    # in use, or not ours to judge


def is_stray(name: str, page: bytes) -> bool:
    n, = struct.unpack_from("<H", page, PATH)
    try:
        return n > 0 and name_of(os.stat(page[PATH + 2:PATH + 2 + n])) != name
    except (FileNotFoundError, NotADirectoryError):
        return True


def in_memory(place: Path) -> bool:
    """Is this folder on a tmpfs, which no disk holds and no process's end takes away?"""
    device = os.stat(place).st_dev
    number = f"{os.major(device)}:{os.minor(device)}".encode()
    with open("/proc/self/mountinfo", "rb") as f:
        for line in f:
            words = line.split()
            if len(words) > 6 and words[2] == number:
                return words[words.index(b"-") + 1] == b"tmpfs"
    return False


def lasts() -> bool:
    """Is the page likely to be there when the next process starts? Not in a container, which gets
    another /dev/shm, unless somebody named a folder; nor when the machine is about to stop."""
    if not os.environ.get("RUNTIME_DIRECTORY") and (
            os.environ.get("container") or os.environ.get("KUBERNETES_SERVICE_HOST")
            or os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")):
        return False
    if not os.path.isdir("/run/systemd/system"):
        return True
    import subprocess

    try:
        told = subprocess.run(["systemctl", "is-system-running"], capture_output=True, timeout=1.0,
                              stdin=subprocess.DEVNULL, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return True
    return told.strip() != b"stopping"


def boot_id() -> bytes:
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as f:
            return f.read(64)
    except OSError:                     # hidden from this process: the tmpfs says enough
        return b""


def clocks() -> tuple[int, int]:
    """ms on the wall, and since the boot."""
    return time.time_ns() // 1_000_000, time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

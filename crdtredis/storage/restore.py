"""A data directory made of a backup, of the directory that `crdt-redis backup --follow` keeps
(shipping.py), or of another data directory: as it was in the end, or at a moment.

**What a moment means.** Every op has a stamp (hybrid logical time), which is never earlier than one
that its maker had observed. So all ops stamped up to a moment are a state that builds on nothing
outside: of each actor the first so many, of each op all that it depends on. It is the same at every
replica, as far as it has the ops, in whatever order they came. A transaction or script is one op,
so none is cut. (By the order of the log instead, what a peer had written before the moment and sent
after it would be missing.)

**How far back.** A checkpoint, and the state that a full sync brought, can only be taken in whole.
So back to the greatest stamp in the oldest checkpoint, and not behind one that a full sync brought.
The other end is when the backup began, or up to when the follower has heard that it has all.

**What is left out is still there**: in the logs of peers. As the same replica in the same cluster,
the restored one would get it back from them within seconds. So there is a moment only for a cluster
of its own, under another name: handshakes between the two are refused (plan.check_hello), and so is
a start of a former peer's directory under the new name (identity.py). No number is used twice: the
ops that are left out are of actors that no further process is (identity.py).

Such a directory begins anew: a checkpoint, and a log in which nothing stands yet; and nobody is
known as a member (members.py), so that nobody of the former cluster is called.

Everything is made, and checked, beside the directory, which gets its name in the end, or is not
there at all.
"""
from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson

from crdtredis._core import Replica, StateWriter, record
from crdtredis.clocks import Actor
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.members import MEMBERS
from crdtredis.storage import check
from crdtredis.storage.backup import NAMES, unpack
from crdtredis.storage.checkpoint import (FORMAT, MAGIC, checkpoint_numbers, checkpoint_path,
                                          open_checkpoint, verified)
from crdtredis.storage.format import (FormatError, Header, encode_header, opened, segment_numbers,
                                      segment_path, sync_directory)
from crdtredis.storage.chain import header_of
from crdtredis.storage.identity import Identity, epoch_above, read_identity, store_identity
from crdtredis.storage.lock import DirectoryLock
from crdtredis.storage.recovery import Headless, RecoveryError, TooEarly, recover
from crdtredis.storage.segments import copy_file, write_all
from crdtredis.storage.shipping import generations, heard
from crdtredis.storage.stage import stage_path

TRIES = 10                              # to copy what a follower changes meanwhile
BEGINNING = 2                           # number of the segment with which a log begins anew: one
                                        # that follows none would need no checkpoint
STAMP_MOST = (1 << 64) - 1


class NotCovered(StartError):
    """The moment lies outside of what there is; begin, end: ms."""

    def __init__(self, until: int, begin: int, end: int) -> None:
        super().__init__(f"{shown(until)} is not covered: what is there goes from "
                         f"{shown(begin) if begin else 'the beginning'} to {shown(end)}",
                         EXIT_CONFIG)


def restore(source: io.BufferedIOBase | Path, folder: Path, until: int | None = None,
            cluster: str | None = None) -> int:
    """Makes the directory, which does not exist or is empty, and prints what `crdt-redis check`
    says of it. source: an archive, or a directory. until: ms since 1970; what is stamped later is
    left out. cluster: the name of the new one. 0; StartError, OSError, and nothing is left there
    then."""
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StartError(f"{folder}: is not empty; a backup is restored into a new directory",
                         EXIT_CONFIG)
    if folder.is_mount():
        raise StartError(f"{folder}: is a mount point, which no new directory can replace; name "
                         "one below it", EXIT_CONFIG)
    draft = folder.with_name(folder.name + ".restoring")
    try:
        draft.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise StartError(f"{draft}: exists; remove it if no other restore runs",
                         EXIT_CONFIG) from None
    try:
        end = (copy(source, draft, until) if isinstance(source, Path)
               else unpack(source, draft))
        if cluster is not None:
            begin_anew(draft, cluster, until, end)
        if check.main(str(draft), False):
            raise StartError(f"{folder}: nothing was restored, for what came is damaged: see "
                             "above. Unpacked by hand (an archive is a tar) `crdt-redis check "
                             "--repair` keeps what is sound of it", EXIT_DATA)
        if folder.exists():
            folder.rmdir()
        os.rename(draft, folder)
        sync_directory(folder.parent)
    except RecoveryError as e:          # its path is of the draft
        raise StartError(f"{e.path.name}: offset {e.offset}: {e.reason}; nothing was restored",
                         EXIT_DATA) from None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError) as e:
        raise StartError(f"the archive is damaged or no backup: {e}; nothing was restored",
                         EXIT_DATA) from None
    finally:
        if draft.exists():
            shutil.rmtree(draft)
    return 0


# ---- directories ---------------------------------------------------------------------------------

def copy(source: Path, draft: Path, until: int | None) -> int:
    """Of a data directory that no server uses, or of the best generation in that of a follower,
    which may run. Up to when it holds all that was written, ms; 0: it does not say. StartError,
    OSError."""
    if (source / "identity.json").exists():
        with DirectoryLock(source):
            copy_files(source, draft)
        return 0
    for left in reversed(range(TRIES)):
        found = generations(source)
        if not found:
            raise StartError(f"{source}: is neither a data directory nor one that `crdt-redis "
                             "backup --follow` keeps", EXIT_CONFIG)
        try:
            chosen = found[-1] if until is None else next(
                (g for g in reversed(found) if begin_of(g) <= until), found[0])
            end = heard(chosen)         # first: it only grows
            copy_files(chosen, draft)
            return end
        except FileNotFoundError:       # the follower has removed it between two looks
            if not left:
                raise
            for path in draft.iterdir():
                path.unlink()
    raise AssertionError


def copy_files(source: Path, draft: Path) -> None:
    # segments in ascending order: a follower may be writing the newest
    for name in sorted(os.listdir(source)):
        if NAMES.fullmatch(name):
            copy_file(source / name, draft / name)
    sync_directory(draft)


def begin_of(folder: Path) -> int:
    """From when on (ms) it holds each state that there was; 0: from the beginning."""
    try:
        headers = [header_of(segment_path(folder, n), n, None) for n in segment_numbers(folder)]
        if not headers or headers[0].follows is None and all(
                stage_path(folder, h.joined.stage).exists() for h in headers if h.joined):
            return 0
    except FormatError:
        pass
    stamps = [STAMP_MOST]
    for number in checkpoint_numbers(folder):
        try:
            stamps.append(verified(open_checkpoint(folder, number, None))[1])
        except FormatError:
            pass
    return (min(stamps) >> 16) + 1


# ---- a cluster of its own ------------------------------------------------------------------------

def begin_anew(draft: Path, cluster: str, until: int | None, end: int) -> None:
    """Puts in the place of what is there a directory that belongs to this cluster, and holds the
    ops up to a moment. end: up to when all that was written is there, ms; 0: as far as the log
    tells. StartError, OSError."""
    identity = read_identity(draft)
    if identity is None:
        raise StartError("no identity.json: it is no backup", EXIT_DATA)
    if identity.cluster == cluster:
        raise StartError(f"it is of cluster {cluster!r} already: choose another name, so that "
                         "nobody there takes this one for a member", EXIT_CONFIG)
    identity = Identity(identity.replica_id, epoch_above(identity.epoch, now_ms()),
                        cluster=cluster)
    replica = taken_in(draft, identity, until, end)
    if members := replica.system_hash(MEMBERS):
        replica.system_set(MEMBERS, dict.fromkeys(members))
        replica.take_ops()
    for path in draft.iterdir():
        path.unlink()
    write_state(draft, replica)
    store_identity(draft, identity)


def taken_in(folder: Path, identity: Identity, until: int | None, end: int) -> Replica:
    def replica() -> Replica:
        found = Replica(identity.replica_id, identity.epoch, pending_limit=1 << 40)
        found.now = now_ms()
        return found

    found = replica()
    try:
        stamp = None if until is None else last_stamp(until)
        recovered = recover(folder, identity.replica_id, found, change=False, until=stamp)
        if recovered.waiting or recovered.left_out:
            raise StartError("the log was repaired, and operations in it wait for others: start "
                             "it beside its peers first", EXIT_DATA)
    except (Headless, TooEarly) as e:
        if until is None:
            raise
        whole = replica()
        recover(folder, identity.replica_id, whole, change=False)
        begin = (e.stamp >> 16) + 1 if e.stamp else begin_of(folder)
        raise NotCovered(until, begin, max(end, whole.newest_stamp >> 16)) from None
    if until is not None and until > end:
        whole = replica()
        recover(folder, identity.replica_id, whole, change=False)
        if until > (latest := whole.newest_stamp >> 16):
            raise NotCovered(until, begin_of(folder), max(end, latest))
    return found


def last_stamp(ms: int) -> int:
    return min(ms << 16 | 0xffff, STAMP_MOST)


def write_state(folder: Path, replica: Replica) -> None:
    """A checkpoint of it, and a log that goes on behind it."""
    clock = replica.clock_ids()
    header = encode_header(Header(
        replica.id, BEGINNING, now_ms(), tuple(Actor(*a) for a in replica.declared()), clock,
        (BEGINNING - 1, 0), ceiling=clock))
    position = BEGINNING, len(header)
    with opened(segment_path(folder, BEGINNING), os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        write_all(fd, header)
        os.fsync(fd)
    with opened(checkpoint_path(folder, 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL) as fd:
        write_all(fd, MAGIC + record(orjson.dumps(
            {"format": FORMAT, "replica": replica.id, "number": 1, "created_ms": now_ms(),
             "position": position})))
        writer = StateWriter(replica, home=True)
        while piece := writer.next():
            write_all(fd, piece)
        write_all(fd, record(orjson.dumps({"end": position})))
        os.fsync(fd)
    sync_directory(folder)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def shown(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"

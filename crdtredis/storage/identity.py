"""Who is this process? A replica for as long as its data lives, and an actor that never was before,
unless it can prove that it may be the one that the process before it was (witness.py).

identity.json keeps the replica id, the name of the cluster and the last epoch. Every start takes a
new epoch, the time in ms, and makes it durable before anything is written under it. So a dot can
never be issued twice:

  - a crash that lost the end of the log: the lost dots belong to the old epoch, and no further dot
    of that epoch is made;
  - a restored backup or a VM snapshot: its identity.json is old, but the wall clock is not, so the
    epoch differs from those of the time that was lost;
  - a copied disk: both copies take epochs of their own (in the same millisecond only if started in
    it; the handshake between replicas notices that).

If the clock does not stand behind the last epoch (it was set back), the epoch is the last one and a
random step of up to a million: from one restored backup, two starts under such a clock must not
take the same. An epoch is no time and nobody reads one out of it.

The name of the cluster stands there so that a directory cannot come into another cluster by a
setting alone. One that went back in time (restore.py) is of a cluster of its own, and what it left
out still stands in the directories of its former peers.

The file is replaced, never changed in place: temporary file, fsync, rename, fsync of the directory.
A crash leaves the old one or the new one.

On a full disk that cannot be done, and a server that was killed there must come up again all the
same, with what it has. It then takes an epoch that is not stored yet, and makes no op under it
before it is (SegmentLog's `claim`): clients read, writes are refused as on any full disk, and the
next start may take what epoch it likes, for nothing was made under this one.
"""
from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from crdtredis.errors import EXIT_DATA, StartError
from crdtredis.storage.format import opened, read_at, sync_directory

NAME = "identity.json"
REPLICA_ID = re.compile(r"[^\x00-\x20\x7f]{1,128}")
CLUSTER = r"[A-Za-z0-9._:-]{1,64}"
EPOCH_MAX = (1 << 63) - 1
EPOCH_STEP = 1 << 20
IDENTITY_MOST = 1 << 16               # bytes of the file that are looked at
SECRET = 16                           # bytes


@dataclass(frozen=True)
class Left:
    """Where the process before left its testimony (witness.py)."""
    url: str                            # of a peer's http_port
    secret: bytes                       # by which the peer gives it back


@dataclass(frozen=True)
class Identity:
    replica_id: str
    epoch: int
    stored: bool = True                 # False: it could not be written, and nothing may be made
                                        # under this epoch before it is
    left: Left | None = None            # None: nowhere
    cluster: str = ""                   # "": of any, as versions before wrote it


def is_url(text: Any) -> bool:
    return isinstance(text, str) and text.startswith(("http://", "https://")) and len(text) < 1000


def read_identity(folder: Path) -> Identity | None:
    """The identity on disk, None in a fresh directory. StartError when the file cannot be read or
    understood."""
    path = folder / NAME
    try:
        with opened(path) as fd:
            data = read_at(fd, IDENTITY_MOST, 0)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StartError(f"{path}: cannot be read: {e.strerror}", EXIT_DATA) from None
    try:
        j = orjson.loads(data)
        if j["format"] != 1:
            raise ValueError(f"format {j['format']!r}, this program reads format 1")
        left = j.get("left")
        found = Identity(j["replica_id"], j["epoch"], left=None if left is None else Left(
            left["url"], bytes.fromhex(left["secret"])), cluster=j.get("cluster", ""))
        if not isinstance(found.replica_id, str) or not REPLICA_ID.fullmatch(found.replica_id):
            raise ValueError("replica_id is no replica id")
        if type(found.epoch) is not int or not 0 < found.epoch < EPOCH_MAX:
            raise ValueError("epoch is no epoch")
        if found.left and not (is_url(found.left.url) and len(found.left.secret) == SECRET):
            raise ValueError("left is no peer and secret")
        if not isinstance(found.cluster, str) or not re.fullmatch(CLUSTER, found.cluster or "x"):
            raise ValueError("cluster is no name of one")
    except (ValueError, KeyError, TypeError) as e:
        raise StartError(f"{path}: damaged ({e}). Restore the file, or write "
                         f"{{\"format\":1,\"replica_id\":\"<the id>\",\"epoch\":1}} into it: "
                         "the next epoch is taken from the clock", EXIT_DATA) from None
    return found


def take_identity(folder: Path, configured: str | None, now_ms: int,
                  hostname: str | None = None, cluster: str = "") -> Identity:
    """The identity of this process start, durable when this returns, unless its `stored` is False.

    configured: the setting replica_id, None or "" when not given; cluster: cluster_name, likewise.
    StartError when they are not the directory's, or a fresh directory cannot be written. The caller
    holds the lock of the directory.
    """
    last = read_identity(folder)
    if last is None:
        if any(folder.glob("segment-*.log")):
            raise StartError(f"{folder} holds segments but no {NAME}: it is not the complete "
                             "directory of a replica", EXIT_DATA)
        chosen = configured or default_replica_id(hostname or socket.gethostname())
        if not REPLICA_ID.fullmatch(chosen):
            raise StartError(f"replica_id {chosen!r}: expected 1 to 128 characters without spaces",
                             EXIT_DATA)
        mine = Identity(chosen, max(1, now_ms), cluster=cluster)
    else:
        if configured and configured != last.replica_id:
            raise StartError(f"{folder} belongs to replica {last.replica_id!r}, but replica_id is "
                             f"configured as {configured!r}; "
                             "use the former, or another data_dir for a new replica", EXIT_DATA)
        if cluster and last.cluster and cluster != last.cluster:
            raise StartError(f"{folder} belongs to cluster {last.cluster!r}, but cluster_name is "
                             f"{cluster!r}: use the former, or an empty data_dir; `crdt-redis "
                             f"restore {folder} NEW_DIR --new-cluster {cluster}` makes a cluster "
                             "of its own of the data", EXIT_DATA)
        mine = Identity(last.replica_id, epoch_above(last.epoch, now_ms),
                        cluster=cluster or last.cluster)
    try:
        store_identity(folder, mine)
    except OSError as e:
        if last is None:
            raise StartError(f"{folder / NAME}: cannot be written: {e.strerror}",
                             EXIT_DATA) from None
        return replace(mine, stored=False)
    return mine


def newer_epoch(folder: Path, mine: Identity, above: int, now_ms: int) -> Identity:
    """A further epoch for this replica, above `above` too: somebody else has been using its id.
    Durable when this returns; OSError when it cannot be made so."""
    mine = replace(mine, epoch=epoch_above(max(mine.epoch, above), now_ms), left=None)
    store_identity(folder, mine)
    return mine


def epoch_above(last: int, now_ms: int) -> int:
    """StartError where the next start could not read it: an epoch far beyond all clocks, which only
    a changed file gives."""
    if last >= EPOCH_MAX - 1 - EPOCH_STEP:
        raise StartError(f"epoch {last} in {NAME} leaves none above it: write \"epoch\":1 there, "
                         "the next is taken from the clock", EXIT_DATA)
    return now_ms if now_ms > last else last + 1 + secrets.randbelow(EPOCH_STEP)


def default_replica_id(hostname: str) -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", hostname)[:100] or "replica"
    return f"{host}-{secrets.token_hex(4)}"


def store_identity(folder: Path, mine: Identity) -> None:
    """Make it durable. OSError; the old one is there then, or the new one."""
    path = folder / NAME
    told: dict[str, Any] = {"format": 1, "replica_id": mine.replica_id, "epoch": mine.epoch}
    if mine.left:
        told["left"] = {"url": mine.left.url, "secret": mine.left.secret.hex()}
    if mine.cluster:
        told["cluster"] = mine.cluster
    replace_file(path, orjson.dumps(told) + b"\n")


def replace_file(path: Path, data: bytes) -> None:
    """Make it durable. OSError; the old one is there then, or the new one."""
    fresh = path.with_name(path.name + ".tmp")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(fresh, path)
    sync_directory(path.parent)

"""`crdt-redis export`: takes a snapshot of a server (SYNC), or of the data directory of one that
does not run, to a file, or into a server of Redis's kind."""
from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from crdtredis.arguments import Arguments
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.moving.importing import Import, Read, look, mapped
from crdtredis.moving.progress import say
from crdtredis.moving.snapshot import LONGEST, Damaged, restoring
from crdtredis.moving.source import receive
from crdtredis.moving.target import Connection, ServerError, address
from crdtredis.moving.whole import whole

USAGE = """\
TARGET is one of
  FILE                      a snapshot ("RDB") that Redis 4.0 and later and Valkey load: stop that
                            server, put the file in the place of its dump.rdb, and start it (with
                            `appendonly no`: else it loads its append only file)
  -                         the same, to standard output
  FILE --commands           commands: redis-cli --pipe < FILE runs them on a server, which may be
                            of Redis 5.0 and later, or Valkey
  redis://[[user]:password@]host[:port]
                            such a server, into which all is written; keys there of other names
                            stay, unless --flush removes them first. It can be run again.
All databases are taken, with deadlines and libraries of functions, as they stand at one moment.
"""


def arguments() -> Arguments:
    p = Arguments("export", description="Takes all data to a file, or into another server.",
                  epilog=USAGE)
    p.add_argument("target", metavar="TARGET")
    p.add_argument("--from", dest="source", default="127.0.0.1:6379", metavar="SOURCE",
                   help="the running server: host:port, or redis://[[user]:password@]host:port; or "
                   "the data directory of one that does not run; without it 127.0.0.1:6379")
    p.add_argument("--commands", action="store_true", help="write commands in place of a snapshot")
    p.add_argument("--flush", action="store_true", help="remove all keys of the other server first")
    p.add_argument("--work-dir", metavar="DIR",
                   help="where a copy is kept meanwhile, for all but FILE; without it TMPDIR")
    return p


def main(args: Sequence[str]) -> int:
    """0: all was taken; 1: the server there has not taken all. StartError."""
    p = arguments()
    a = p.parse_args(args)
    live = "://" in a.target
    if (a.commands and (live or a.target == "-")) or (a.flush and not live):
        p.error("--commands goes with a FILE, --flush with redis://")
    try:
        if not live and a.target != "-" and not a.commands:
            return snapshot(a.source, Path(a.target))
        to = Import(Connection(address(a.target))) if live else None
        with tempfile.TemporaryFile(prefix="crdt-redis-export-", dir=a.work_dir) as f:
            fetch(a.source, f, quiet=a.target == "-")
            if a.target == "-":
                f.seek(0)
                shutil.copyfileobj(f, sys.stdout.buffer, 1 << 20)
                return 0
            r = held(f)
            if to is None:
                return commands(r, Path(a.target))
            to.prepare(a.flush, False)
            to.snapshot(r)
            return to.report()
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except ValueError as e:
        raise StartError(str(e), EXIT_CONFIG) from None
    except (ServerError, Damaged) as e:
        raise StartError(str(e), EXIT_DATA) from None
    except BrokenPipeError:
        raise
    except OSError as e:
        raise StartError(f"{e.filename or a.target}: {e.strerror}", EXIT_DATA) from None


def snapshot(source: str, to: Path) -> int:
    with whole(to) as f:
        fetch(source, f)
        r = held(f)
        size = len(r.view)
    say(f"{to}: {r.keys} keys, {r.libraries} libraries, {size} bytes")
    return 0


def commands(r: Read, to: Path) -> int:
    n = 0

    def expired() -> None:
        nonlocal n
        n += 1

    with whole(to) as f:
        for some in restoring(r.view, LONGEST, lambda why, name: None, expired):
            f.write(b"".join([s.raw for s in some]))
        size = f.tell()
    say(f"{to}: {r.keys - n} keys, {r.libraries} libraries, {size} bytes")
    return 0


def held(f: BinaryIO) -> Read:
    """What came, all of which is read and checked."""
    f.flush()
    path = Path(f"/proc/self/fd/{f.fileno()}")
    return look(path, *mapped([path]))


def fetch(source: str, f: BinaryIO, quiet: bool = False) -> None:
    if os.path.isdir(source):
        recovered(Path(source), f)
    elif "/" in source and "://" not in source:
        raise ValueError(f"{source}: no such directory")
    else:
        receive(Connection(address(source)), f, quiet)


def recovered(folder: Path, f: BinaryIO) -> None:
    """As the next start of the server would find it, of what is sound."""
    from crdtredis.commands.snapshot import write_snapshot
    from crdtredis.storage.check import replica_for
    from crdtredis.storage.identity import read_identity
    from crdtredis.storage.lock import DirectoryLock
    from crdtredis.storage.recovery import recover

    identity = read_identity(folder)
    if identity is None:
        raise StartError(f"{folder}: no identity.json: no data directory of a replica", EXIT_DATA)
    with DirectoryLock(folder):
        replica = replica_for(identity.replica_id, identity.epoch)
        recover(folder, identity.replica_id, replica, change=False)
        write_snapshot(replica, f.fileno())

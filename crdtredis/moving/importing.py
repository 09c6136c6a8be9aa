"""`crdt-redis import`: takes the data of another server into a running one.

From a file, all is read once before anything is written, so a damaged file changes nothing. Keys of
a snapshot replace those of the same name; running it twice gives the same. A log of commands (INCR
among them) begins with nothing, so it is only run where there is nothing. What cannot be taken is
counted and told, and the rest is taken.
"""
from __future__ import annotations

import mmap
import os
import re
import signal
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crdtredis.arguments import Arguments
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.moving import legacy, snapshot
from crdtredis.moving.commands import Command, Commands
from crdtredis.moving.progress import TOLD_EVERY, Progress, say
from crdtredis.moving.snapshot import Damaged, Key, Library, Sent, Snapshot
from crdtredis.moving.source import Source
from crdtredis.moving.target import Connection, Refused, ServerError, address, encode

USAGE = """\
SOURCE is one of
  dump.rdb                  a snapshot that Redis (2.6 to 8) or Valkey wrote
  appendonly.aof            an append only file, or the directory that holds several of one
  commands.txt              commands as Redis's protocol writes them
  store.json                the JSON store of an earlier server of this family, or the directory
                            that holds it
  redis://[:password@]host  a live server: all that it holds, then what is written there, until
                            this is interrupted (Ctrl-C, SIGTERM) or, with --once, until nothing
                            is left to take. To move without downtime: wait until it says that it
                            follows, stop the writers, wait until it is 0 bytes behind, interrupt
                            it, and start the writers at the new server.
"""
DATABASES = [b"%d" % i for i in range(16)]     # of the server that takes
BATCH = 500                     # commands
BATCH_BYTES = 4 << 20
PIECE = 1 << 20                 # bytes of a file of commands that are read at once
TRANSACTION = 256 << 20         # bytes of one that are held until it is whole
NAMED = 20                      # keys that are named of those that cannot be taken
# What a stream says that is no change.
PASSED_OVER = {b"PING", b"REPLCONF", b"MULTI", b"EXEC"}
# Errors that are the server's, not the command's: to go on would lose what follows.
FATAL = ("OOM", "MISCONF", "LOADING", "NOAUTH", "NOPERM", "BUSY", "READONLY", "CLOCK")


def arguments() -> Arguments:
    p = Arguments("import", description="Takes the data of another server into a running one.",
                  epilog=USAGE)
    p.add_argument("source", metavar="SOURCE")
    p.add_argument("--to", default="127.0.0.1:6379", metavar="ADDRESS",
                   help="the running server: host:port, or redis://[[user]:password@]host:port; "
                   "without it 127.0.0.1:6379")
    p.add_argument("--flush", action="store_true", help="remove all keys there first")
    p.add_argument("--once", action="store_true", help="do not follow a live server")
    p.add_argument("--work-dir", metavar="DIR",
                   help="where the copy of a live server is kept meanwhile; without it TMPDIR")
    return p


def main(args: Sequence[str]) -> int:
    """0: all was taken; 1: not all of it. StartError."""
    a = arguments().parse_args(args)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    source = a.source
    try:
        to = Import(Connection(address(a.to)))
        if "://" in source:
            a.source = str(address(source))         # without its password, for messages
            with tempfile.TemporaryDirectory(prefix="crdt-redis-import-", dir=a.work_dir) as folder:
                to.live(Source(address(source), Path(folder)), a.flush, a.once)
        elif re.fullmatch(r"[^/]+:[0-9]+", source) and not os.path.exists(source):
            raise ValueError(f"{source}: no such file; a live server is redis://{source}")
        else:
            to.files(Path(source), a.flush)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except ValueError as e:
        raise StartError(str(e), EXIT_CONFIG) from None
    except (ServerError, Damaged) as e:
        raise StartError(str(e), EXIT_DATA) from None
    except OSError as e:
        raise StartError(f"{e.filename or a.source}: {e.strerror}", EXIT_DATA) from None
    return to.report()


class Import:
    def __init__(self, to: Connection) -> None:
        self.to = to
        self.taken = Counter()              # by what they are: keys, libraries, commands
        self.untaken = Counter()            # by why
        self.named: list[str] = []
        self.db = -1                        # which is selected; -1: unknown
        self.elsewhere = False              # a log is at a database that is not there
        self.opened: list[Command] | None = None        # of a transaction that is not whole yet
        self.held = 0                       # their bytes

    # ---- files -----------------------------------------------------------------------------------

    def files(self, path: Path, flush: bool) -> None:
        paths = parts(path)
        read = [look(p, v) for p, v in zip(paths, mapped(paths))]
        self.prepare(flush, any(r.commands for r in read))
        for r in read:
            if r.is_store:
                self.store(r)
            elif r.keys or r.libraries:
                self.snapshot(r)
            if r.commands:
                self.log(r)

    def prepare(self, flush: bool, runs_commands: bool) -> None:
        if flush:
            self.to("FLUSHALL")
        elif runs_commands and any(self.keys_there()):
            raise ServerError(f"{self.to.to} holds keys, and commands are only run where there are "
                              "none: --flush removes them first")

    def keys_there(self) -> Iterator[int]:
        for db in range(len(DATABASES)):
            self.to("SELECT", str(db))
            yield self.to("DBSIZE")

    def begin(self) -> None:
        self.db = -1
        self.select(0, [])

    def snapshot(self, r: Read) -> None:
        self.take("keys", r.keys + r.libraries,
                  snapshot.restoring(r.view, self.longest(), self.leave, self.expired))

    def longest(self) -> int:
        """Bytes of an argument that the server takes."""
        reply, = self.to.run([encode([b"CONFIG", b"GET", b"proto-max-bulk-len"])])
        return int(reply[1]) if isinstance(reply, list) and len(reply) == 2 else snapshot.LONGEST

    def store(self, r: Read) -> None:
        self.begin()
        self.take("keys", r.keys, ([Sent("command" if i else "key", c[0].decode(), key, encode(c))
                                    for i, c in enumerate(commands)]
                                   for key, commands in legacy.read(r.view)))

    def take(self, what: str, total: int, all: Iterable[list[Sent]]) -> None:
        """All of it, of `total` things, each of which is several commands, or none."""
        batch: list[Sent] = []
        size = read = 0
        with Progress(what, total) as progress:
            for some in all:
                read += 1
                for s in some:
                    if s.what == "select":
                        self.select(int(s.argument), batch)
                    else:
                        batch.append(s)
                        size += len(s.raw)
                if len(batch) >= BATCH or size >= BATCH_BYTES:
                    self.send(batch)
                    progress.stand(read)
                    size = 0
            self.send(batch)
            progress.stand(read)

    def log(self, r: Read) -> None:
        self.begin()
        left = r.commands
        with Progress("bytes of commands", len(r.view) - r.begin) as progress:
            commands = Commands(r.begin)
            for piece in pieces(r):
                found = commands.feed(piece)[:left]
                left -= len(found)
                self.forward(found)
                progress.stand(commands.at - r.begin)

    # ---- a live server ---------------------------------------------------------------------------

    def live(self, source: Source, flush: bool, once: bool) -> None:
        copy = source.snapshot(once)
        r = look(copy, *mapped([copy]))
        os.unlink(copy)                     # its room is free once `r` is
        self.prepare(flush, False)
        self.snapshot(r)
        del r
        if (more := sum(self.keys_there()) - self.taken["key"]) > 0:
            say(f"{more} keys stand here that the snapshot did not hold; they stay")
        with interrupts(source.stop):
            self.follow(source, once)

    def follow(self, source: Source, once: bool) -> None:
        told = 0.0
        self.begin()
        for commands in source.commands():
            self.forward(commands)
            behind = source.received - source.read + self.held
            if once and not behind:
                return
            if time.monotonic() >= told:
                told = time.monotonic() + TOLD_EVERY
                say(f"following {source.address}: {self.taken['command']} commands, {behind} bytes "
                    "behind")
        if self.held:
            say(f"{source.address}: ends in the middle of a transaction, of which nothing is taken")
        if source.failure and not (once and not source.received):
            raise ServerError(f"{source.address}: {source.failure}; what came before was taken")

    # ---- commands --------------------------------------------------------------------------------

    def select(self, db: int, batch: list[Sent]) -> None:
        """Sends the batch first: where this is refused, what follows must not reach the database
        that was selected before."""
        if db != self.db:
            self.send(batch)
            self.to("SELECT", str(db))
            self.db = db

    def together(self, commands: list[Command]) -> Iterator[Command]:
        """Those of a transaction when it is whole, and not before; but no more than TRANSACTION
        bytes are held."""
        for c in commands:
            if c.name == b"MULTI":
                self.opened = []
            elif c.name == b"EXEC" or self.held > TRANSACTION:
                found, self.opened, self.held = self.opened or [], None, 0
                yield from [*found, c]
            elif self.opened is None:
                yield c
            else:
                self.opened.append(c)
                self.held += len(c.raw)

    def forward(self, commands: list[Command]) -> None:
        batch: list[Sent] = []
        size = 0
        for c in self.together(commands):
            if c.name == b"SELECT":
                self.elsewhere = c.argument not in DATABASES
                if not self.elsewhere:
                    self.db = -1
                    self.select(int(c.argument), batch)
            elif self.elsewhere and c.name not in PASSED_OVER:
                self.leave("commands in a database beyond 15", c.argument)
            elif c.name not in PASSED_OVER:
                raw = replacing(c.raw) if c.name == b"FUNCTION" else c.raw
                batch.append(Sent("command", c.name.decode("utf-8", "replace"), c.argument, raw))
                size += len(raw)
            if len(batch) >= BATCH or size >= BATCH_BYTES:
                self.send(batch)
                size = 0
        self.send(batch)

    def send(self, batch: list[Sent]) -> None:
        """And empties it."""
        for sent, reply in zip(batch, self.to.run([s.raw for s in batch])):
            if not isinstance(reply, Refused):
                self.taken[sent.what] += 1
                continue
            text = str(reply)
            if text.startswith(FATAL):
                raise ServerError(f"{self.to.to}: {text}; before that {self.taken['key']} keys "
                                  f"and {self.taken['command']} commands were taken")
            if text.startswith("ERR unknown command"):
                text = "unknown here"
            self.leave(f"{sent.name}: {text}", sent.argument)
        batch.clear()

    def expired(self) -> None:
        self.taken["expired"] += 1

    def leave(self, why: str, name: bytes) -> None:
        self.untaken[why] += 1
        if len(self.named) < NAMED:
            self.named.append(f"  {name[:200].decode('utf-8', 'backslashreplace')!r}: {why}")

    def report(self) -> int:
        t = self.taken
        say(f"taken: {t['key']} keys, {t['library']} libraries, {t['command']} commands; "
            f"{t['expired']} keys had expired")
        if not self.untaken:
            return 0
        say(f"not taken: {self.untaken.total()}")
        for why, n in self.untaken.most_common():
            say(f"  {n} x {why}")
        say("among them:")
        for line in self.named:
            say(line)
        return 1


def replacing(raw: bytes) -> bytes:
    """FUNCTION LOAD of a library that may be here already: it replaces that, as keys do."""
    array, *words = raw.split(b"\r\n", 5)
    if array != b"*3" or words[3].upper() != b"LOAD":
        return raw
    return b"\r\n".join([b"*4", *words[:4], b"$7", b"REPLACE", words[4]])


# ---- what files hold -----------------------------------------------------------------------------

class Read:
    """What one file holds."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.keys = self.libraries = self.commands = 0
        self.begin = 0                      # of the commands
        self.is_store = False


def parts(path: Path) -> list[Path]:
    """The files that make it up, in order."""
    if not path.is_dir():
        if path.suffix != ".manifest":
            return [path]
        manifests = [path]
    else:
        if store := legacy.store_path(path):
            return [store]
        manifests = sorted(path.glob("*.manifest"))
    if len(manifests) != 1:
        raise ServerError(f"{path}: {len(manifests)} manifests (*.manifest) there; expected one")
    found = {}
    for line in manifests[0].read_text("utf-8", "replace").splitlines():
        words = line.split()
        fields = {"file": "", "seq": "", **dict(zip(words[::2], words[1::2]))}
        if fields.get("type") in ("b", "i"):
            name, seq = fields["file"], fields["seq"]
            if not name or os.path.basename(name) != name or not seq.isdecimal():
                raise ServerError(f"{manifests[0]}: {line[:200]!r} names no file with a number")
            found[fields["type"], int(seq)] = manifests[0].parent / name
    return [found[k] for k in sorted(found)]            # base before increments


def mapped(paths: Iterable[Path]) -> list[memoryview]:
    """All bytes of each file, mapped; unmapped once nobody looks at them any more."""
    views = []
    for path in paths:
        if not stat.S_ISREG(os.stat(path).st_mode):         # a pipe seems to be empty
            raise ServerError(f"{path}: is no file that can be read twice")
        with open(path, "rb") as f:
            empty = os.fstat(f.fileno()).st_size == 0
            views.append(memoryview(b"" if empty
                                    else mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)))
    return views


def look(path: Path, view: memoryview) -> Read:
    """Reads all of it. Damaged, or ServerError where it is of no kind that is known."""
    r = Read(view)
    opened = None                       # commands before a MULTI without its EXEC
    start = bytes(view[:16])
    try:
        if start.startswith(snapshot.MAGICS):
            all = Snapshot(view)
            for entry in all.read():
                r.libraries += isinstance(entry, Library)
                r.keys += isinstance(entry, Key)
            r.begin = all.at
        elif start.lstrip()[:1] == b"{":
            r.keys, r.is_store = sum(1 for _ in legacy.read(view)), True
            return r
        elif start[:1] not in (b"*", b"#", b""):
            raise Damaged(0, "neither a snapshot nor commands")
        commands = Commands(r.begin)
        for piece in pieces(r):
            for c in commands.feed(piece):
                if c.name in (b"MULTI", b"EXEC"):
                    opened = r.commands if c.name == b"MULTI" else None
                r.commands += 1
    except Damaged as e:
        raise ServerError(f"{path}: {e}; nothing was taken") from None
    if commands.held:
        say(f"{path}: ends in the middle of a command, at byte {commands.at}; what stands before "
            "is taken")
    if opened is not None:
        say(f"{path}: ends in the middle of a transaction, of which nothing is taken")
        r.commands = opened
    return r


def pieces(r: Read) -> Iterator[bytes]:
    """Of its commands."""
    for at in range(r.begin, len(r.view), PIECE):
        yield bytes(r.view[at:at + PIECE])


@contextmanager
def interrupts(stop) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the following in order, the second one at once."""
    def handle(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop()
    before = [(n, signal.signal(n, handle)) for n in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for n, old in before:
            signal.signal(n, old)

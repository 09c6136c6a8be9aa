"""The command line: `crdt-redis [flags]` starts a server; `check`, `demo`, `import`,
`export`, `backup`, `restore`, `dump`, `--generate-config`, `--version` and `--help` do the rest.

Everything a call does not need is imported late: the answer to --version must not wait for the HTTP
library, nor a server's first PONG for the demo. Whatever stops a start is one line per fault on
standard error and an exit code of errors.py, never a traceback.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from crdtredis import __version__
from crdtredis.config import Config
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError
from crdtredis.settings import CONFIG_VARIABLE, example, help_text
from crdtredis.sources import ConfigError, Fault, near, parse_flags

USAGE = """\
crdt-redis: an active-active Redis. Every replica takes reads and writes, and all converge.

  crdt-redis [FILE] [flags]         start a server
  crdt-redis demo                   start three replicas on loopback and show them converge
  crdt-redis check DIR              examine the data directory of a server that is not
                                    running; keep what is sound of a damaged one (--help)
  crdt-redis dump DIR               print what a data directory holds, as lines of JSON
  crdt-redis import SOURCE          take the data of Redis or Valkey into a running server: from
                                    its files, or live (--help)
  crdt-redis export TARGET          take all data to a file, or into a server of Redis (--help)
  crdt-redis backup                 fetch a backup from a running server, once, or on and on with
                                    all that is written (--help)
  crdt-redis restore SOURCE DIR     make a data directory of a backup, as it was in the end or at
                                    a moment (--help)
  crdt-redis --generate-config      print a complete configuration file
  crdt-redis --version

  --config FILE
        Read settings from this file (or the one that CRDT_CONFIG names), JSON or a redis.conf; a
        FILE before the flags is the same. A setting's value is that of its flag, else of its
        environment variable, else of the file, else the default.
"""
CHECK = """\
usage: crdt-redis check [--repair [--to NEW]] DIR

Reads all of a data directory that no server uses, and changes nothing. It prints a line for each
file, damage with its offset and reason, what would be lost, and what the next start will do.

  --repair   keep all that is sound. A damaged file stays, as *.damaged, and a new one of its name
             holds what was sound in it. Start the replica beside its peers then, which give it
             back what they have, and look at /health. Running it again does no more.
  --to NEW   copy the directory to this new one, and repair the copy: DIR stays as it is.

It ends with 0 where all is sound, or has been repaired, and with 4 where not.
"""
DUMP = """\
usage: crdt-redis dump DIR

Prints what a data directory holds, each operation and each item of a state as a line of JSON. It
writes nothing and may be run beside the server. It ends with 4 where something cannot be read: a
line with "damaged" stands for that.

  crdt-redis dump data | jq -c 'select(.op.effects[]?.key == "k") | .op'      who wrote the key k
"""
# Flags that are no settings, and whether they take a value.
EXTRA = {"--config": True, "--generate-config": False, "--version": False, "--help": False}
COMMANDS = ("check", "demo", "import", "export", "backup", "restore", "dump")
# Seconds that a Python thread keeps the GIL while another one, the loop above all, waits for it.
SWITCH_INTERVAL = 0.001


def main(argv: Sequence[str] | None = None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if args[:1] == ["check"]:
            code = check(args[1:])
        elif args[:1] == ["demo"]:
            code = demo(args[1:])
        elif args[:1] == ["import"]:
            code = take_in(args[1:])
        elif args[:1] == ["dump"]:
            code = dump(args[1:])
        elif args[:1] == ["export"]:
            code = take_out(args[1:])
        elif args[:1] in (["backup"], ["restore"]):
            code = back_up(args)
        else:
            code = serve(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except ConfigError as e:
        return fail(str(e), EXIT_CONFIG)
    except StartError as e:
        return fail(str(e), e.code)
    except BrokenPipeError:
        # Whoever read our output has gone (`crdt-redis --help | head -1`); keep the interpreter
        # from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def fail(lines: str, code: int) -> int:
    for line in lines.splitlines():
        print(f"crdt-redis: {line}", file=sys.stderr)
    return code


def serve(args: list[str]) -> int:
    faults: list[Fault] = []
    file = ""
    if args and not args[0].startswith("-"):
        file = args.pop(0)
        if not (os.path.exists(file) or "/" in file or file.endswith((".conf", ".json"))):
            raise StartError(f"no such command or file: {file}{near(file, COMMANDS)}; crdt-redis "
                             "--help lists the commands", EXIT_CONFIG)
    args = ["--help" if a == "-h" else "--version" if a in ("-v", "-V") else a for a in args]
    flags, others = parse_flags(args, faults, EXTRA)
    if "--help" in others:
        print(USAGE + help_text())
        return 0
    if "--version" in others:
        print(f"crdt-redis {__version__}")
        return 0
    if "--generate-config" in others and not faults:
        print(example())
        return 0
    file = others.pop("--config", "") or file or os.environ.get(CONFIG_VARIABLE)
    config = Config.load(flags, os.environ, file or None, faults=faults)
    if others:
        named = ", ".join(f"{flag} {words}".strip() for flag, words in others.items())
        config.warnings.append(f"without effect here: {named}")
    keep_standard_descriptors()
    started = daemonize() if config.daemonize else lambda: None
    from crdtredis.server import Server

    sys.setswitchinterval(SWITCH_INTERVAL)
    server = Server(config)
    with pid_file(config.pidfile):
        started()
        return server.run()


def daemonize() -> Callable[[], None]:
    """Go on in a child in a session of its own. What returns there is to be called once the start
    has succeeded; only then this process ends, with 0, and with the child's exit code when it ends
    before. Until then messages reach the terminal."""
    read, write = os.pipe()
    child = os.fork()
    if child:
        os.close(write)
        started = os.read(read, 1)
        os._exit(0 if started else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
    os.close(read)
    os.setsid()

    def done() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.close(null)
        os.write(write, b"1")
        os.close(write)

    return done


@contextmanager
def pid_file(path: str) -> Iterator[None]:
    """The file with this process's id while the body runs. One that cannot be written is told and
    no reason to stop, as in Redis."""
    if path:
        try:
            with open(path, "w", encoding="ascii") as f:
                f.write(f"{os.getpid()}\n")
        except OSError as e:
            print(f"crdt-redis: pidfile {path} cannot be written: {e.strerror}", file=sys.stderr)
            path = ""
    try:
        yield
    finally:
        if path:
            with suppress(OSError):
                os.unlink(path)


def keep_standard_descriptors() -> None:
    """Where a caller closed 0, 1 or 2, the next file opened would take the number, and messages
    would be written into data."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def check(args: list[str]) -> int:
    if asks(args, CHECK):
        return 0
    repair = "--repair" in args
    rest = [a for a in args if a != "--repair"]
    to = None
    if repair and "--to" in rest[:-1]:
        at = rest.index("--to")
        to = rest[at + 1]
        del rest[at:at + 2]
    if len(rest) != 1 or rest[0].startswith("-"):
        raise StartError("usage: crdt-redis check [--repair [--to NEW]] DIR", EXIT_CONFIG)
    if not os.path.isdir(rest[0]):
        raise StartError(f"{rest[0]}: no such directory", EXIT_CONFIG)
    from crdtredis.storage.check import main as run
    from crdtredis.storage.identity import NAME

    try:
        if NAME not in os.listdir(rest[0]):
            raise StartError(f"{rest[0]}: no {NAME}: no data directory of a replica", EXIT_DATA)
        return run(rest[0], repair, to)
    except OSError as e:                # a disk that fails, or something there that is no file
        raise StartError(f"{e.filename or rest[0]}: {e.strerror}", EXIT_DATA) from None


def asks(args: list[str], text: str) -> bool:
    """For this text, with --help; it is printed then."""
    wanted = "--help" in args or "-h" in args
    if wanted:
        print(text, end="")
    return wanted


def dump(args: list[str]) -> int:
    if asks(args, DUMP):
        return 0
    if len(args) != 1 or args[0].startswith("-"):
        raise StartError("usage: crdt-redis dump DIR (what each line is: packaging/operation.md)",
                         EXIT_CONFIG)
    from crdtredis.storage.dump import main as run

    try:
        return run(args[0])
    except BrokenPipeError:
        raise
    except OSError as e:
        raise StartError(f"{e.filename or args[0]}: {e.strerror}", EXIT_DATA) from None


def take_in(args: list[str]) -> int:
    from crdtredis.moving.importing import main as run

    return run(args)


def take_out(args: list[str]) -> int:
    from crdtredis.moving.exporting import main as run

    return run(args)


def back_up(args: list[str]) -> int:
    from crdtredis.moving import backing_up

    return getattr(backing_up, args[0])(args[1:])


def demo(args: list[str]) -> int:
    if args:
        raise StartError("usage: crdt-redis demo (it takes no arguments)", EXIT_CONFIG)
    from crdtredis.demo import main as run

    return run()

"""The command line: `crdt-redis [flags]` starts a server; `check`, `demo`, `--generate-config`, `--version` and `--help` do the rest.

Everything a call does not need is imported late: the answer to --version must not wait for the HTTP library, nor a server's first
PONG for the demo. Whatever stops a start is one line per fault on standard error and an exit code of errors.py, never a traceback.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from crdtredis import __version__
from crdtredis.config import CONFIG_VARIABLE, Config, ConfigError, Fault, example, help_text, near, parse_flags
from crdtredis.errors import EXIT_CONFIG, StartError

USAGE = """\
crdt-redis: an active-active Redis. Every replica takes reads and writes, and all converge.

  crdt-redis [flags]                start a server
  crdt-redis demo                   start three replicas on loopback and show them converge
  crdt-redis check [--repair] DIR   examine the data directory of a server that is not running; keep what is sound
  crdt-redis --generate-config      print a complete configuration file
  crdt-redis --version

  --config FILE
        Read settings from this JSON file (or the one that CRDT_CONFIG names). A setting's value is that of its
        flag, else of its environment variable, else of the file, else the default.
"""
# Flags that are no settings, and whether they take a value.
EXTRA = {"--config": True, "--generate-config": False, "--version": False, "--help": False}
COMMANDS = ("check", "demo")


def main(argv: Sequence[str] | None = None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        if args[:1] == ["check"]:
            code = check(args[1:])
        elif args[:1] == ["demo"]:
            code = demo(args[1:])
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
        # Whoever read our output has gone (`crdt-redis --help | head -1`); keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def fail(lines: str, code: int) -> int:
    for line in lines.splitlines():
        print(f"crdt-redis: {line}", file=sys.stderr)
    return code


def serve(args: list[str]) -> int:
    faults: list[Fault] = []
    if args and not args[0].startswith("-"):
        raise StartError(f"no such command: {args[0]}{near(args[0], COMMANDS)}; crdt-redis --help lists them", EXIT_CONFIG)
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
    config = Config.load(flags, os.environ, others.get("--config") or os.environ.get(CONFIG_VARIABLE) or None, faults=faults)
    keep_standard_descriptors()
    from crdtredis.server import Server

    return Server(config).run()


def keep_standard_descriptors() -> None:
    """Where a caller closed 0, 1 or 2, the next file opened would take the number, and messages would be written into data."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def check(args: list[str]) -> int:
    repair = "--repair" in args
    rest = [a for a in args if a != "--repair"]
    if len(rest) != 1 or rest[0].startswith("-"):
        raise StartError("usage: crdt-redis check [--repair] DIR", EXIT_CONFIG)
    if not os.path.isdir(rest[0]):
        raise StartError(f"{rest[0]}: no such directory", EXIT_CONFIG)
    from crdtredis.storage.check import main as run

    return run(rest[0], repair)


def demo(args: list[str]) -> int:
    if args:
        raise StartError("usage: crdt-redis demo (it takes no arguments)", EXIT_CONFIG)
    from crdtredis.demo import main as run

    return run()

"""The command line: `crdt-redis [flags]` starts a server; the tools of tools.py,
`--generate-config`, `--version` and `--help` do the rest.

Everything a call does not need is imported late: the answer to --version must not wait for the HTTP
library, nor a server's first PONG for the demo. Whatever stops a start is one line per fault on
standard error and an exit code of errors.py, never a traceback.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from crdtredis.config import Config
from crdtredis.errors import EXIT_CONFIG, StartError
from crdtredis.settings import CONFIG_VARIABLE, example, help_text
from crdtredis.sources import ConfigError, Fault, near, parse_flags
from crdtredis.tools import TOOLS, usage, version

USAGE = f"""\
crdt-redis: an active-active Redis. Every replica takes reads and writes, and all converge.

  crdt-redis [FILE] [flags]         start a server
{usage()}
  crdt-redis --generate-config      print a complete configuration file
  crdt-redis --version

  --config FILE
        Read settings from this file (or the one that CRDT_CONFIG names), JSON or a redis.conf; a
        FILE before the flags is the same. A setting's value is that of its flag, else of its
        environment variable, else of the file, else the default.
"""
# Flags that are no settings, and whether they take a value.
EXTRA = {"--config": True, "--generate-config": False, "--version": False, "--help": False}
# Seconds that a Python thread keeps the GIL while another one, the loop above all, waits for it.
SWITCH_INTERVAL = 0.001


def main(argv: Sequence[str] | None = None) -> int:
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        tool = TOOLS.get(args[0]) if args else None
        code = tool.run(args[1:]) if tool else serve(args)
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
            raise StartError(f"no such command or file: {file}{near(file, TOOLS)}; crdt-redis "
                             "--help lists the commands", EXIT_CONFIG)
    args = ["--help" if a == "-h" else "--version" if a in ("-v", "-V") else a for a in args]
    flags, others = parse_flags(args, faults, EXTRA)
    if "--help" in others:
        print(USAGE + help_text())
        return 0
    if "--version" in others:
        return version([])
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

"""What `crdt-redis` does beside starting a server: its tools, one declaration each. From TOOLS come
what the command line runs, --help, the completions of shells and the manual page.

A tool's module is imported when it is asked for: none waits for what another needs.
"""
from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from crdtredis.arguments import Arguments
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, StartError


@dataclass(frozen=True)
class Tool:
    name: str
    arguments: str              # as the usage shows them
    summary: str
    code: str                   # "module:function" that runs it with its arguments
    parser: str = ""            # "module:function" that makes its Arguments
    settings: bool = False      # a server's flags are its flags, too

    def run(self, args: Sequence[str]) -> int:
        return found(self.code)(list(args))

    def arguments_of(self) -> Arguments:
        return found(self.parser)() if self.parser else Arguments(self.name)


TOOLS = {t.name: t for t in (
    Tool("demo", "", "start three replicas on loopback and show them converge", "tools:demo"),
    Tool("check", "DIR", "examine the data directory of a server that is not running; keep what "
         "is sound of a damaged one (--help)", "tools:check", "tools:check_arguments"),
    Tool("dump", "DIR", "print what a data directory holds, as lines of JSON", "tools:dump",
         "tools:dump_arguments"),
    Tool("import", "SOURCE", "take the data of Redis or Valkey into a running server: from its "
         "files, or live (--help)", "moving.importing:main", "moving.importing:arguments"),
    Tool("export", "TARGET", "take all data to a file, or into a server of Redis (--help)",
         "moving.exporting:main", "moving.exporting:arguments"),
    Tool("backup", "", "fetch a backup from a running server, once, or on and on with all that is "
         "written (--help)", "moving.backing_up:backup", "moving.backing_up:backup_arguments"),
    Tool("restore", "SOURCE DIR", "make a data directory of a backup, as it was in the end or at a "
         "moment (--help)", "moving.backing_up:restore", "moving.backing_up:restore_arguments"),
    Tool("healthcheck", "[flags]", "ask the running server of these flags whether all is well with "
         "it: 0, or 1 (--help)", "healthcheck:main", "healthcheck:arguments", settings=True),
    Tool("completion", "SHELL", "print what completes this command line in bash, zsh or fish",
         "manual:completion", "manual:completion_arguments"),
    Tool("man", "", "print the manual page, for `man -l -`", "manual:man"),
    Tool("version", "", "print the version, as --version does", "tools:version"),
)}


def found(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(import_module(f"crdtredis.{module}"), function)


def usage() -> str:
    """A line or more for each, as --help shows them."""
    lines = []
    for t in TOOLS.values():
        text = textwrap.wrap(t.summary, 62)
        lines.append(f"  {f'crdt-redis {t.name} {t.arguments}'.rstrip():<33} {text[0]}")
        lines += [" " * 36 + more for more in text[1:]]
    return "\n".join(lines)


# ---- those that need little ----------------------------------------------------------------------


def version(args: list[str]) -> int:
    from crdtredis import __version__

    Arguments("version").parse_args(args)
    print(f"crdt-redis {__version__}")
    return 0


def demo(args: list[str]) -> int:
    Arguments("demo", description="Starts three replicas on loopback, writes to them, and shows "
              "that they converge. Ctrl-C ends it.").parse_args(args)
    from crdtredis.demo import main as run

    return run()


def check_arguments() -> Arguments:
    p = Arguments("check", description="""\
Reads all of a data directory that no server uses, and changes nothing. It prints a line for each
file, damage with its offset and reason, what would be lost, and what the next start will do.""",
                  epilog="It ends with 0 where all is sound, or has been repaired, and with 4 "
                  "where not.")
    p.add_argument("--repair", action="store_true",
                   help="keep all that is sound. A damaged file stays, as *.damaged, and a new one "
                   "of its name holds what was sound in it. Start the replica beside its peers "
                   "then, which give it back what they have, and look at /health. Running it again "
                   "does no more")
    p.add_argument("--to", metavar="NEW", help="copy the directory to this new one, and repair the "
                   "copy: DIR stays as it is")
    p.add_argument("folder", metavar="DIR")
    return p


def check(args: list[str]) -> int:
    p = check_arguments()
    a = p.parse_args(args)
    if a.to is not None and not a.repair:
        p.error("--to goes with --repair")
    if not os.path.isdir(a.folder):
        raise StartError(f"{a.folder}: no such directory", EXIT_CONFIG)
    from crdtredis.storage.check import main as run
    from crdtredis.storage.identity import NAME

    try:
        if NAME not in os.listdir(a.folder):
            raise StartError(f"{a.folder}: no {NAME}: no data directory of a replica", EXIT_DATA)
        return run(a.folder, a.repair, a.to)
    except OSError as e:                # a disk that fails, or something there that is no file
        raise StartError(f"{e.filename or a.folder}: {e.strerror}", EXIT_DATA) from None


def dump_arguments() -> Arguments:
    p = Arguments("dump", description="""\
Prints what a data directory holds, each operation and each item of a state as a line of JSON. It
writes nothing and may be run beside the server. It ends with 4 where something cannot be read: a
line with "damaged" stands for that. What each line is: packaging/operation.md.""", epilog="""\
  crdt-redis dump data | jq -c 'select(.op.effects[]?.key == "k") | .op'    who wrote the key k""")
    p.add_argument("--secrets", action="store_true",
                   help="with the hashes of passwords of replicated users")
    p.add_argument("folder", metavar="DIR")
    return p


def dump(args: list[str]) -> int:
    a = dump_arguments().parse_args(args)
    folder = a.folder
    from crdtredis.storage.dump import main as run

    try:
        return run(folder, a.secrets)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise StartError(f"{e.filename or folder}: {e.strerror}", EXIT_DATA) from None

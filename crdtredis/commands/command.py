"""COMMAND and its subcommands: the command table, told to clients.

Everything is derived from commands/table.py. `COMMAND INFO` is ten elements: name, arity, flags,
first key, last key, step, access categories, tips, key specifications, subcommands. In RESP3 the
lists without an order are sets, and the descriptions are maps.
"""
import functools

from crdtredis._resp import Raw, Simple, encode_reply
from crdtredis.commands import usage
from crdtredis.commands.keys import matches
from crdtredis.commands.table import COMMANDS, Spec, command
from crdtredis.errors import (INVALID_ARGUMENTS, INVALID_COMMAND, INVALID_NUMBER_OF_ARGUMENTS,
                              NO_KEY_ARGUMENTS, PATTERN_TOO_LONG, SYNTAX, CommandError)

PATTERN_MOST = 4096         # bytes of all patterns of one command


def find(name: bytes) -> Spec | None:
    return COMMANDS.get(name.decode("latin-1").upper())


def subcommands(spec: Spec) -> list[Spec]:
    return [s for s in COMMANDS.values() if s.container == spec.name]


def top_level() -> list[Spec]:
    return [s for s in COMMANDS.values() if s.container is None]


def simple_set(words) -> set:
    return {Simple(w) for w in words}


def describe(spec: Spec) -> list:
    """The ten elements of COMMAND INFO."""
    specs = [{"flags": simple_set(k.access.split()), "begin_search": k.begin, "find_keys": k.rest}
             for k in spec.keys]
    return [spec.name.lower(), spec.arity, simple_set(spec.redis_flags), *spec.key_range,
            simple_set("@" + c for c in spec.categories), list(spec.tips), specs,
            [describe(s) for s in subcommands(spec)]]


def document(spec: Spec) -> dict:
    """COMMAND DOCS; "replicas" is our own: what concurrent replicas get."""
    out = {"summary": spec.summary, "since": spec.since, "group": spec.group,
           "complexity": spec.complexity}
    if spec.replicas:
        out["replicas"] = spec.replicas
    if arguments := usage.arguments(spec):
        out["arguments"] = arguments
    if under := subcommands(spec):
        out["subcommands"] = {s.name.lower(): document(s) for s in under}
    return out


@functools.cache
def told(how, spec: Spec, resp: int) -> Raw:
    """describe or document, as the bytes of the reply: they never change, and all of them together
    would hold the loop for 10 ms."""
    return Raw(encode_reply(how(spec), resp))


def keys_of(argv: list[bytes]) -> list[tuple[bytes, str]]:
    """The keys of the command that argv calls, and what becomes of each."""
    spec = find(argv[0])
    if spec is not None and "container" in spec.flags and len(argv) > 1:
        spec = find(argv[0] + b"|" + argv[1]) or spec
    if spec is None:
        raise CommandError(INVALID_COMMAND)
    if not spec.keys:
        raise CommandError(NO_KEY_ARGUMENTS)
    if len(argv) != spec.arity and (spec.arity > 0 or len(argv) < -spec.arity):
        raise CommandError(INVALID_NUMBER_OF_ARGUMENTS)
    found = spec.keys_in(argv)
    if not found and "no_mandatory_keys" not in spec.flags:
        raise CommandError(INVALID_ARGUMENTS)
    return [(argv[i], access) for i, access in found]


# ---- the commands --------------------------------------------------------------------------------

@command("COMMAND", arity=-1, flags="loading stale container", group="server", since="2.8.13",
         complexity="O(N) with the number of commands", tips="nondeterministic_output_order",
         categories="connection", summary="Describes every command.")
def command_all(session, argv):
    return [told(describe, s, session.resp) for s in top_level()]


def subcommand(synopsis: str, arity: int, summary: str, since: str = "7.0.0", tips: str = ""):
    one = synopsis in ("COUNT", "HELP")
    return command(f"COMMAND|{synopsis}", arity=arity, flags="loading stale", group="server",
                   since=since, complexity="O(1)" if one else "O(N) with the number of commands",
                   tips=tips, categories="connection", summary=summary)


@subcommand("COUNT", 2, "The number of commands.", "2.8.13")
def command_count(session, argv):
    return len(top_level())


@subcommand("INFO [command-name]...", -2, "Describes the named commands, or all.", "2.8.13",
            tips="nondeterministic_output_order")
def command_info(session, argv):
    if len(argv) == 2:
        return command_all(session, argv)
    return [told(describe, s, session.resp) if (s := find(name)) else None for name in argv[2:]]


@subcommand("DOCS [command-name]...", -2, "Documents the named commands, or all.",
            tips="nondeterministic_output_order")
def command_docs(session, argv):
    wanted = [s for name in argv[2:] if (s := find(name))] if len(argv) > 2 else top_level()
    return {s.name.lower(): told(document, s, session.resp) for s in wanted}


def check_patterns(patterns: list[bytes]) -> None:
    """Before they are compared with the names of commands or settings, which are short: what a
    pattern may cost grows with it."""
    if sum(map(len, patterns)) > PATTERN_MOST:
        raise CommandError(PATTERN_TOO_LONG)


@subcommand("LIST [FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]", -2,
            "The names of commands, filtered if asked for.", tips="nondeterministic_output_order")
def command_list(session, argv):
    if len(argv) == 2:
        return [s.name.lower() for s in COMMANDS.values()]
    if len(argv) != 5 or argv[2].upper() != b"FILTERBY":
        raise CommandError(SYNTAX)
    by, what = argv[3].upper(), argv[4]
    if by == b"MODULE":
        return []
    if by == b"ACLCAT":
        return [s.name.lower() for s in COMMANDS.values()
                if what.lower().decode("latin-1") in s.categories]
    if by == b"PATTERN":
        check_patterns([what])
        return [s.name.lower() for s in COMMANDS.values()
                if matches(what, s.name.lower().encode(), True)]
    raise CommandError(SYNTAX)


@subcommand("GETKEYS command [arg]...", -3, "The keys among the arguments of a command.", "2.8.13")
def command_getkeys(session, argv):
    return [key for key, _ in keys_of(argv[2:])]


@subcommand("GETKEYSANDFLAGS command [arg]...", -3,
            "The keys among the arguments of a command, and what it does to them.")
def command_getkeysandflags(session, argv):
    return [[key, simple_set(access.split())] for key, access in keys_of(argv[2:])]


@subcommand("HELP", 2, "Lists the subcommands.", "5.0.0")
def command_help(session, argv):
    return usage.help_lines("COMMAND")

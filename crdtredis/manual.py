"""The manual page and the completions of shells, from the declarations of settings (settings.py)
and tools (tools.py), as --help is.

Three shells, one model: the flags of the server, and of each tool, each with what may follow it.
Nothing asks a running server, and no shell runs this program to complete a word: what is printed
is a file for the shell's directory of completions.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from crdtredis import __version__
from crdtredis.arguments import Arguments
from crdtredis.errors import EXIT_ADDRESS, EXIT_CONFIG, EXIT_DATA, EXIT_FORCED
from crdtredis.kinds import Bool, Choice, Fixed
from crdtredis.settings import CONFIG_VARIABLE, SETTINGS, Setting, groups
from crdtredis.tools import TOOLS, Tool

PROGRAM = "crdt-redis"


@dataclass(frozen=True)
class Flag:
    names: tuple[str, ...]
    word: str                       # stands for its value; "": it takes none
    help: str
    values: tuple[str, ...] = ()    # all that there are
    is_path: bool = False

    @property
    def short(self) -> str:
        """The beginning of its help: what is worth a line."""
        return re.split(r"(?<=.{12})[.;:](?:\s|$)", self.help)[0]


CONFIG = Flag(("--config",), "FILE", f"Read settings from this file, JSON or a redis.conf; without "
              f"it from the one that {CONFIG_VARIABLE} names.", is_path=True)
SERVER = (CONFIG, Flag(("--generate-config",), "", "Print a complete configuration file."),
          Flag(("--help", "-h"), "", "Print all flags and tools."),
          Flag(("--version", "-v"), "", "Print the version."))
PATHS = {"FILE", "DIR", "NEW"}      # words for values that are paths


def of_setting(s: Setting) -> Flag:
    values: tuple[str, ...] = ()
    if isinstance(s.kind, Choice):
        values = s.kind.choices
    elif isinstance(s.kind, Bool):
        values = ("yes", "no")
    elif isinstance(s.kind, Fixed):
        values = (s.kind.text,) if s.kind.text else ()
    default = s.kind.to_text(s.initial)
    return Flag(s.flags, s.kind.word, s.help + (f" Default: {default}." if default else ""), values,
                s.kind.expected.startswith("a path") or s.name == "unixsocket")


def of_tool(tool: Tool) -> list[Flag]:
    """Its own flags, and its arguments as those of no name."""
    found = []
    for a in tool.arguments_of()._actions:
        word = "" if a.nargs == 0 else str(a.metavar or a.dest.upper())
        found.append(Flag(tuple(reversed(a.option_strings)), word, str(a.help or ""),
                          tuple(a.choices or ()), word in PATHS or word in ("SOURCE", "TARGET")))
    return found


def summary_of(tool: Tool) -> str:
    return tool.summary.removesuffix(" (--help)")


def flags(tool: Tool | None) -> list[Flag]:
    """All that begin with a dash; None: of the server."""
    settings = [of_setting(s) for s in SETTINGS]
    if tool is None:
        return [*SERVER, *settings]
    return ([f for f in of_tool(tool) if f.names]
            + (settings if tool.settings else []))


def arguments_of(tool: Tool) -> list[Flag]:
    return [f for f in of_tool(tool) if not f.names]


# ---- completion ----------------------------------------------------------------------------------


def completion_arguments() -> Arguments:
    p = Arguments("completion", description="""\
Prints what completes this command line in a shell: flags, their values, tools and paths.""",
                  epilog="""\
  crdt-redis completion bash > /etc/bash_completion.d/crdt-redis
  crdt-redis completion zsh > /usr/local/share/zsh/site-functions/_crdt-redis
  crdt-redis completion fish > ~/.config/fish/completions/crdt-redis.fish""")
    p.add_argument("shell", metavar="SHELL", choices=tuple(SHELLS), help=" or ".join(SHELLS))
    return p


def completion(args: list[str]) -> int:
    print("\n".join(SHELLS[completion_arguments().parse_args(args).shell]()))
    return 0


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def bash() -> Iterator[str]:
    def cases(known: list[Flag], indent: str) -> Iterator[str]:
        """What stands behind a flag."""
        paths = [n for f in known if f.is_path and f.word for n in f.names]
        if paths:
            yield f'{indent}{"|".join(paths)}) COMPREPLY=($(compgen -f -- "$cur")); return;;'
        by_values: dict[tuple[str, ...], list[str]] = {}
        for f in known:
            if f.word and not f.is_path:
                by_values.setdefault(f.values, []).extend(f.names)
        for values, names in by_values.items():
            reply = f'COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$cur")); '
            yield f'{indent}{"|".join(names)}) {reply if values else ""}return;;'

    def words(known: list[Flag]) -> str:
        return " ".join(n for f in known for n in f.names if n.startswith("--"))

    yield "# bash completion of crdt-redis, made by `crdt-redis completion bash`"
    yield "_crdt_redis() {"
    yield '    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words='
    yield "    COMPREPLY=()"
    yield "    case ${COMP_WORDS[1]} in"
    for tool in TOOLS.values():
        own = [f for f in of_tool(tool) if f.names]
        values = " ".join(v for a in arguments_of(tool) for v in a.values)
        yield f"    {tool.name})"
        yield "        [ $COMP_CWORD = 1 ] || {"
        yield '            case $prev in'
        yield from cases(own, " " * 16)
        yield "            esac"
        yield f'            words="{" ".join([words(own), values]).strip()}"'
        yield "        };;" if tool.settings else "            [[ $cur != -* ]] || prev=-"
        if not tool.settings:
            yield '            COMPREPLY=($(compgen -W "$words" -- "$cur"))'
            if any(a.is_path for a in arguments_of(tool)):
                yield '            [ $prev = - ] || COMPREPLY+=($(compgen -f -- "$cur"))'
            yield "            return"
            yield "        };;"
    yield "    esac"
    yield "    case $prev in"
    yield from cases(flags(None), " " * 8)
    yield "    esac"
    yield f'    words+=" {words(flags(None))}"'
    yield "    case $cur in"
    yield '    -*) COMPREPLY=($(compgen -W "$words" -- "$cur"));;'
    yield '    *) COMPREPLY=($(compgen -f -- "$cur"))'
    yield "       [ $COMP_CWORD != 1 ] ||"
    yield f'           COMPREPLY+=($(compgen -W "{" ".join(TOOLS)}" -- "$cur"));;'
    yield "    esac"
    yield "}"
    yield "complete -o filenames -F _crdt_redis crdt-redis"


def zsh() -> Iterator[str]:
    def plain(text: str) -> str:
        return re.sub(r"([\\:\[\]])", r"\\\1", text)

    def action(f: Flag) -> str:
        return ("_files" if f.is_path else f"({' '.join(f.values)})" if f.values else " ")

    def specs(known: list[Flag], more: list[Flag], indent: str) -> Iterator[str]:
        for f in known:
            for name in f.names:
                value = f":{plain(f.word)}:{action(f)}" if f.word else ""
                yield f"{indent}{quoted(f'*{name}[{plain(f.short)}]{value}')} \\"
        for a in more:
            yield f"{indent}{quoted(f':{plain(a.word)}:{action(a)}')} \\"

    yield "#compdef crdt-redis"
    yield "# zsh completion of crdt-redis, made by `crdt-redis completion zsh`"
    yield "_crdt_redis() {"
    yield "    local -a tools"
    yield "    tools=("
    for tool in TOOLS.values():
        yield f"        {quoted(f'{tool.name}:{summary_of(tool)}')}"
    yield "    )"
    yield "    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then"
    yield "        _describe -t tools tool tools"
    yield "        _files"
    yield "        return"
    yield "    fi"
    yield "    case $words[2] in"
    for tool in TOOLS.values():
        yield f"    {tool.name})"
        yield "        shift words"
        yield "        (( CURRENT-- ))"
        yield "        _arguments \\"
        yield from specs(flags(tool), arguments_of(tool), " " * 12)
        yield "            && return;;"
    yield "    *)"
    yield "        _arguments \\"
    yield from specs(flags(None), [Flag((), "FILE", "", is_path=True)], " " * 12)
    yield "            && return;;"
    yield "    esac"
    yield "}"
    yield '_crdt_redis "$@"'


def fish() -> Iterator[str]:
    yield "# fish completion of crdt-redis, made by `crdt-redis completion fish`"

    def lines(condition: str, known: list[Flag]) -> Iterator[str]:
        for f in known:
            long = [f"-l {n[2:]}" for n in f.names if n.startswith("--")]
            short = [f"-s {n[1:]}" for n in f.names if not n.startswith("--")]
            value = (" -r -F" if f.is_path else f" -x -a {quoted(' '.join(f.values))}" if f.values
                     else " -x" if f.word else "")
            for i, name in enumerate(long):
                names = " ".join([name, *(short if i == 0 else ())])
                yield (f"complete -c crdt-redis -n {quoted(condition)} {names}{value} "
                       f"-d {quoted(f.short)}")

    for tool in TOOLS.values():
        yield (f"complete -c crdt-redis -n __fish_use_subcommand -a {tool.name} "
               f"-d {quoted(summary_of(tool))}")
    servers = [t.name for t in TOOLS.values() if not t.settings]
    yield from lines(f"not __fish_seen_subcommand_from {' '.join(servers)}", flags(None))
    for tool in TOOLS.values():
        within = f"__fish_seen_subcommand_from {tool.name}"
        taken = {n for f in flags(None) for n in f.names} if tool.settings else set()
        yield from lines(within, [f for f in of_tool(tool) if f.names and not taken & set(f.names)])
        for a in arguments_of(tool):
            if a.values:
                yield (f"complete -c crdt-redis -f -n {quoted(within)} "
                       f"-a {quoted(' '.join(a.values))}")


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}


# ---- the manual page -----------------------------------------------------------------------------


def man(args: list[str]) -> int:
    Arguments("man", description="Prints the manual page: `crdt-redis man | man -l -` shows it."
              ).parse_args(args)
    print("\n".join(page()))
    return 0


def roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("~", "\\(ti")
    text = text.replace("^", "\\(ha").replace("'", "\\(aq").replace('"', "\\(dq")
    return re.sub(r"(?m)^(?=\.)", r"\\&", text)


def paragraphs(text: str) -> Iterator[str]:
    """One that is indented stands as it is."""
    for i, part in enumerate(re.split(r"\n\s*\n", text.strip("\n"))):
        lines = [roff(line.rstrip()) for line in part.splitlines()]
        yield from (".PP",) if i else ()
        if any(line.startswith("  ") for line in lines):
            yield from (".nf", *lines, ".fi")
        else:
            yield from lines


def listed(known: list[Flag]) -> Iterator[str]:
    for f in known:
        names = ", ".join(f"\\fB{roff(n)}\\fR" for n in f.names)
        yield ".TP"
        yield " ".join([names, *([f"\\fI{roff(f.word)}\\fR"] if f.word else [])]).strip()
        yield roff(f.help or f.word)


def page() -> Iterator[str]:
    """In the man macros that man-db, mandoc and groff read."""
    yield f'.TH CRDT\\-REDIS 1 "" "crdt\\-redis {__version__}" "User Commands"'
    yield from (".SH NAME", "crdt\\-redis \\- active\\-active Redis", ".SH SYNOPSIS")
    for name, arguments in (("", "[FILE] [flags]"), *((t.name, t.arguments or "[flags]" * any(
            f.names and "--help" not in f.names for f in of_tool(t))) for t in TOOLS.values())):
        yield from (".br",) if name else ()
        yield ".B " + roff(f"{PROGRAM} {name}".strip())
        yield from (f".I {roff(arguments)}",) if arguments else ()
    yield ".SH DESCRIPTION"
    yield roff("Every replica takes reads and writes, in memory, and all converge. It speaks "
               "Redis's protocol to clients, and HTTP to other replicas, operators and monitoring.")
    yield ".PP"
    yield roff("Without a tool's name it starts a server, in the foreground. A setting's value is "
               f"that of its flag, else of its environment variable, else of the FILE (or the one "
               f"that --config or {CONFIG_VARIABLE} names: JSON, or a redis.conf), else the "
               "default.")
    yield ".SH TOOLS"
    for tool in TOOLS.values():
        yield f".SS {roff(f'{PROGRAM} {tool.name} {tool.arguments}'.strip())}"
        p = tool.arguments_of()
        yield from paragraphs(p.description or summary_of(tool).capitalize() + ".")
        yield from listed([f for f in of_tool(tool) if f.help and "--help" not in f.names])
        yield from (".PP", *paragraphs(p.epilog)) if p.epilog else ()
    yield ".SH OPTIONS"
    yield from listed(list(SERVER))
    for group, members in groups().items():
        yield f".SS {roff(group)}"
        yield from listed([of_setting(s) for s in members])
    yield ".SH ENVIRONMENT"
    yield from listed([Flag((), CONFIG_VARIABLE, "The file to read settings from.")])
    for s in SETTINGS:
        yield from (".TP", f"\\fI{roff(s.variable)}\\fR", f"\\fB{roff(s.flags[0])}\\fR")
    for name, what in (("CREDENTIALS_DIRECTORY", "Where systemd puts credentials: files there that "
                        "are named as a secret setting is hold its value."),
                       ("RUNTIME_DIRECTORY", "A directory on a tmpfs, by which a restart knows "
                        "that the machine has stayed up."),
                       ("NOTIFY_SOCKET", "Where a service manager is told of start and stop."),
                       ("TMPDIR", "Where the executable unpacks itself, and tools keep copies; "
                        "/tmp without it.")):
        yield from listed([Flag((), name, what)])
    yield ".SH EXIT STATUS"
    for code, what in ((0, "All went well."), (1, "Anything unforeseen."),
                       (EXIT_CONFIG, "A setting or a flag is wrong."),
                       (EXIT_ADDRESS, "An address is in use."),
                       (EXIT_DATA, "The data directory is in use, damaged or another replica's."),
                       (EXIT_FORCED, "A second signal cut the stop short.")):
        yield from (".TP", str(code), roff(what))
    yield ".SH SIGNALS"
    for name, what in (("SIGTERM, SIGINT", "Finish what is under way, force the log to disk, end."),
                       ("SIGHUP", "Open log_file again and read the certificates again.")):
        yield from (".TP", name, roff(what))
    yield ".SH SEE ALSO"
    yield roff("redis-cli(1), redis-server(1)")

"""How the arguments of commands are written, and what follows from it: the arguments in COMMAND
DOCS (redis-cli makes its hints from them) and the HELP subcommands.

A registration begins with the synopsis, in the notation of manual pages: CAPITALS are typed as they
stand, lower case is filled in, [ ] may be left out, < > only groups, | separates alternatives, and
... repeats what is before it. `arguments` turns it into the tree that COMMAND DOCS answers.
"""
import re

from crdtredis._resp import Simple
from crdtredis.commands.table import COMMANDS, Spec, command

TYPES = {
    **dict.fromkeys(("key", "key1", "key2", "newkey", "source", "destination", "destkey"), "key"),
    **dict.fromkeys(("seconds", "milliseconds", "count", "offset", "start", "end", "db",
                     "destination-db", "index", "index1", "index2", "decrement",
                     "numreplicas", "numlocal", "numkeys", "stop", "rank", "num-matches", "len",
                     "timeout", "timeout-ms", "numfields", "cursor", "protover",
                     "min-match-len", "client-id", "ttl", "frequency", "version", "bit"),
                     "integer"),
    **dict.fromkeys(("unix-time-seconds", "unix-time-milliseconds"), "unix-time"),
    **dict.fromkeys(("longitude", "latitude", "radius", "width", "height"), "double"),
    **dict.fromkeys(("pattern", "by-pattern", "get-pattern"), "pattern"),
}

TOKEN = re.compile(r"\.\.\.|[][<>|]|[^][<>|\s.]+")


def arguments(spec: Spec) -> list[dict]:
    """The arguments of a command as COMMAND DOCS shows them; empty for one that takes none."""
    words = TOKEN.findall(spec.usage)
    found = sequence(words)
    assert not words, f"{spec.name}: unbalanced"
    keys = 0
    for a in found:
        if a["type"] == "key":
            a["key_spec_index"] = keys
            keys += 1
    return [dict(sorted(a.items(), key=lambda item: ORDER.index(item[0]))) for a in found]


ORDER = ["name", "type", "key_spec_index", "token", "flags", "arguments"]


def sequence(words: list[str]) -> list[dict]:
    """Reads up to the end, a closing bracket or a bar."""
    out: list[dict] = []
    while words and words[0] not in "]>|":
        word = words.pop(0)
        if word in "[<":
            a = alternatives(words)
            if words.pop(0) == "]":
                flag(a, "optional")
        elif word.isupper():
            a = {"name": word.lower(), "type": "pure-token", "token": word}
            if words and words[0] not in "[<]>|" and not words[0].isupper():
                following = words.pop(0)
                a = {"name": following, "type": TYPES.get(following, "string"), "token": word}
        else:
            a = {"name": word, "type": TYPES.get(word, "string")}
        if words and words[0] == "...":
            words.pop(0)
            flag(a, "multiple")
        out.append(a)
    return out


def alternatives(words: list[str]) -> dict:
    """What stands between brackets: one argument, a block of several, or a choice."""
    choices = [block(sequence(words))]
    while words and words[0] == "|":
        words.pop(0)
        choices.append(block(sequence(words)))
    if len(choices) == 1:
        return choices[0]
    return {"name": "option", "type": "oneof", "arguments": choices}


def block(items: list[dict]) -> dict:
    return (items[0] if len(items) == 1 else {"name": items[0]["name"], "type": "block",
                                              "arguments": items})


def flag(argument: dict, name: str) -> None:
    argument["flags"] = argument.get("flags", set()) | {Simple(name)}


def help_lines(container: str) -> list[Simple]:
    """The reply of a HELP subcommand."""
    out = [f"{container} <subcommand> [<arg> ...]. Subcommands:"]
    for spec in COMMANDS.values():
        if spec.container == container:
            out += synopsis(spec, spec.name.partition("|")[2])
    return [Simple(line) for line in out]


def synopsis(spec: Spec, name: str) -> list[str]:
    """Two lines of a HELP: how the command is written, and what it is for."""
    return [f"{name} {spec.usage}".rstrip(), f"    {spec.summary}"]


def container(name: str, group: str, since: str, summary: str, help_since: str = "") -> None:
    """Registers a command that does nothing but have subcommands, and its HELP."""
    command(name, arity=-2, flags="container", group=group, since=since,
            complexity="Depends on the subcommand", summary=summary)(help_of(name))
    command(f"{name}|HELP", arity=2, flags="loading stale", group=group,
            since=help_since or since, summary="Lists the subcommands.")(help_of(name))


def help_of(container: str):
    """The handler of a HELP subcommand."""
    return lambda session, argv: help_lines(container)

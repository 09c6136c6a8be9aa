"""Where settings come from: the command line, a JSON file, a redis.conf. Each is read to words or
JSON values, which settings.py's kinds then judge; what cannot be read becomes Faults.
"""
from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crdtredis import redisconf
from crdtredis.kinds import Bool, Int, Items, UserLines
from crdtredis.settings import BY_FLAG, BY_PUBLIC, SETTINGS, Setting

NEAR_MOST = 64                          # characters


def near(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' when something known is close, else ''."""
    import difflib

    # no slip, and to compare it takes a time that grows with its length squared
    if len(word) > NEAR_MOST:
        return ""
    found = difflib.get_close_matches(word, list(known), 1, 0.7)
    return f" (did you mean {found[0]}?)" if found else ""


@dataclass(frozen=True)
class Fault:
    setting: str            # as it was named
    # "flag --port", "environment CRDT_PEERS", "file /etc/x.json", "CONFIG SET", "PATCH /config"
    origin: str
    problem: str
    # "value", "unknown", "fixed" (not at run time) or "together" (settings that do not go together)
    reason: str = "value"

    def __str__(self) -> str:
        return (f"{self.setting} ({self.origin}): {self.problem}" if self.setting
                else f"{self.origin}: {self.problem}")


class ConfigError(Exception):
    """One or more faults; nothing was changed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


def unknown(name: str, origin: str, known: Iterable[str]) -> Fault:
    return Fault(name, origin, f"no such setting{near(name, known)}", "unknown")


def is_slip(word: str, meant: str) -> bool:
    """Whether a letter is missing, added or another one, or two stand the wrong way round."""
    same = len(os.path.commonprefix((word, meant)))
    word, meant = word[same:], meant[same:]
    same = len(os.path.commonprefix((word[::-1], meant[::-1])))
    word, meant = word[:len(word) - same], meant[:len(meant) - same]
    return max(len(word), len(meant)) <= 1 or len(word) == 2 and word == meant[::-1]


def read_value(setting: Setting, raw: Any, origin: str, faults: list[Fault], text: bool) -> Any:
    try:
        return setting.kind.from_text(raw) if text else setting.kind.from_json(raw)
    except (ValueError, KeyError, OverflowError):
        got = "another value" if setting.secret else json.dumps(raw, ensure_ascii=False)
        got = got if len(got) <= 80 else got[:77] + "..."
        faults.append(Fault(setting.name, origin, f"expected {setting.kind.expected}, not {got}"))
        return None


def parse_flags(argv: Sequence[str], faults: list[Fault],
                extra: Mapping[str, bool]) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Split the command line: ({setting: (text, flag)}, {other flag: text}).

    extra: flags that are no settings, and whether they take a value. A flag's value follows it, or
    an "=". A flag of a yes-or-no setting may stand alone. A list's flag may be repeated, and takes
    all words up to the next flag; so does a user's, each time for one more. What cannot be read is
    added to faults. A flag that is a directive of Redis's without effect here comes back among the
    others, with its words.
    """
    values: dict[str, tuple[str, str]] = {}
    others: dict[str, str] = {}

    def words() -> str:
        found = []
        while args and not args[0].startswith("--"):
            found.append(args.pop(0))
        return " ".join(found)

    args = list(argv)
    while args:
        arg = args.pop(0)
        flag, equals, value = arg.partition("=")
        if not flag.startswith("--"):
            faults.append(Fault(arg, "command line", "expected a flag, which begins with --",
                                "unknown"))
            continue
        setting = BY_FLAG.get(flag)
        if setting is None and flag[2:].lower() in redisconf.NO_EFFECT:
            others[flag] = value if equals else words()
            continue
        if setting is None and flag not in extra:
            refused = redisconf.REFUSED.get(flag[2:].lower())
            faults.append(Fault(flag, "command line", refused, "unknown") if refused
                          else unknown(flag, "command line", [*BY_FLAG, *extra]))
            if not equals and args and not args[0].startswith("--"):
                args.pop(0)
            continue
        alone = isinstance(setting.kind, Bool) if setting else not extra[flag]
        if not equals:
            if args and not args[0].startswith("--") and (setting or extra[flag]):
                many = setting and (setting.is_list or isinstance(setting.kind, UserLines))
                value = words() if many else args.pop(0)
            elif alone:
                value = "yes"
            else:
                faults.append(Fault(setting.name if setting else flag, f"flag {flag}",
                                    "expected a value after the flag"))
                continue
        if setting is None or setting.has_only(value):
            others[flag] = value
        elif setting.name in values and isinstance(setting.kind, Items):
            values[setting.name] = (f"{values[setting.name][0]},{value}", flag)
        elif setting.name in values and isinstance(setting.kind, UserLines):
            values[setting.name] = (f"{values[setting.name][0]}\n{value}", flag)
        else:
            values[setting.name] = (value, flag)
    return values, others


def read_text(path: str) -> str:
    """A configuration file. ConfigError where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except OSError as e:
        raise ConfigError([Fault("", f"file {path}",
                                 f"cannot be read: {os.strerror(e.errno or 0)}")]) from None


def parse_json(text: str, path: str) -> dict[str, Any]:
    """The file's object, comments ("_..." keys) included. ConfigError when it is no JSON object or
    names something twice."""
    origin = f"file {path}"
    faults: list[Fault] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in items:
            if key in seen and not key.startswith("_"):
                faults.append(Fault(key, origin, "stands there twice"))
            seen[key] = value
        return seen

    try:
        text.encode()                   # surrogates are bytes that are no UTF-8,
        data = json.loads(text, object_pairs_hook=pairs)
        # or escapes like \ud800, which are no characters either
        json.dumps(data, ensure_ascii=False).encode()
    except json.JSONDecodeError as e:
        problem = f"expected JSON: {e.msg} at line {e.lineno}, column {e.colno}"
        raise ConfigError([Fault("", origin, problem)]) from None
    except (ValueError, RecursionError):
        # or a number of thousands of digits, or a depth of thousands
        raise ConfigError([Fault("", origin, "expected JSON in UTF-8")]) from None
    if not isinstance(data, dict):
        faults.append(Fault("", origin, "expected a JSON object of settings"))
    if faults:
        raise ConfigError(faults)
    return data


def parse_redis_conf(text: str, path: str) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """What a redis.conf sets: ({setting: (text, origin)}, warnings). ConfigError with every
    fault."""
    values: dict[str, tuple[str, str]] = {}
    passed: list[str] = []
    strange: list[str] = []
    reduced: list[str] = []
    faults: list[Fault] = []
    try:
        lines = redisconf.read(path, text)
    except redisconf.SyntaxFault as e:
        raise ConfigError([Fault("", e.origin, str(e))]) from None
    except OSError as e:
        raise ConfigError([Fault("", f"file {e.filename}",
                                 f"cannot be read: {os.strerror(e.errno or 0)}")]) from None
    users = [line for line in lines if line.directive == "user"]
    if users:
        values["users"] = ("\n".join(" ".join(map(redisconf.quote, line.words))
                                      for line in users), users[0].origin)
    lines = [line for line in lines if line.directive != "user"]
    lists = {name: True for s in SETTINGS if s.is_list and s.name != "bind"
             for name in s.directives}
    for line in redisconf.merge(lines, lists).values():
        setting = BY_PUBLIC.get(line.directive.replace("_", "-"))
        joined = " ".join(line.words)
        if line.directive in redisconf.REFUSED and joined not in ("", "0"):
            faults.append(Fault(line.directive, line.origin,
                                f"{redisconf.REFUSED[line.directive]}: the server does not start "
                                "with less than the file asks for", "unknown"))
        elif setting is None and line.directive not in redisconf.NO_EFFECT:
            known = (*BY_PUBLIC, *redisconf.NO_EFFECT)
            if any(is_slip(line.directive, name) for name in known):
                faults.append(unknown(line.directive, line.origin, known))
            else:
                strange.append(line.directive + near(line.directive, known))
        elif setting is None or setting.has_only(joined):
            passed.append(f"{line.directive} {joined}".strip() if setting else line.directive)
        elif len(line.words) != 1 and not setting.is_list:
            faults.append(Fault(line.directive, line.origin,
                                f"expected one word, {setting.kind.expected}"))
        elif (isinstance(setting.kind, Int) and re.fullmatch("[0-9]{1,9}", joined)
                and setting.kind.high < int(joined) <= redisconf.MOST.get(line.directive, 0)):
            values[setting.name] = str(setting.kind.high), line.origin
            reduced.append(f"{line.directive} {joined} to {setting.kind.high}")
        else:
            values[setting.name] = joined, line.origin
    if faults:
        raise ConfigError(faults)
    parts = [f"{what}: {', '.join(found)}" for what,
             found in (("without effect here", passed), ("not known", strange),
                       ("reduced", reduced)) if found]
    return values, [f"file {path}: {'; '.join(parts)}"] if parts else []

"""What a setting's value may be: the kinds of settings, and how each reads and writes values.

In memory durations are integers in nanoseconds, sizes in bytes, lists are tuples.
"""
from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping
from typing import Any

NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
      "h": 3_600_000_000_000,
      "d": 86_400_000_000_000}
BYTES = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3,
         "gb": 1024**3, "t": 1000**4, "tb": 1024**4}
class Kind:
    """What a setting's value may be. from_json and from_text raise ValueError, and `expected` says
    what they would have taken."""

    expected = "text"
    word = "TEXT"

    def from_json(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError
        return self.from_text(value)

    def from_text(self, text: str) -> Any:
        raise NotImplementedError

    def over(self, value: Any, before: Any) -> Any:
        """What holds once `value` is given where `before` held."""
        return value

    def to_json(self, value: Any) -> Any:
        return value

    def to_text(self, value: Any) -> str:
        return str(value)


class Text(Kind):
    def __init__(self, expected: str = "text", pattern: str = "", longest: int = 4096) -> None:
        self.expected, self.pattern, self.longest = expected, re.compile(
                pattern or r"[^\0\r\n]*"), longest

    def from_text(self, text: str) -> str:
        if len(text) > self.longest or not self.pattern.fullmatch(text):
            raise ValueError
        return text


class Protocols(Kind):
    """Versions of TLS."""

    expected = "any of TLSv1 TLSv1.1 TLSv1.2 TLSv1.3, or nothing"

    def from_text(self, text: str) -> str:
        if not all(re.fullmatch(r"tlsv1(\.[1-3])?", word) for word in text.lower().split()):
            raise ValueError
        return text


class Peer(Kind):
    """An address of a replica's http_port, or nothing."""

    expected = '"host:port" or "http://host:port", or nothing'
    may_be_url = True

    def from_text(self, text: str) -> str:
        if text and not (is_peer(text) and (self.may_be_url or "/" not in text)):
            raise ValueError
        return text


class Endpoint(Peer):
    """An address for Redis clients, or nothing."""

    expected = '"host:port", or nothing'
    may_be_url = False


class Int(Kind):
    word = "N"

    def __init__(self, low: int, high: int, unit: str = "") -> None:
        self.low, self.high = low, high
        self.expected = f"a whole number{' of ' + unit if unit else ''} from {low} to {high}"

    def from_json(self, value: Any) -> int:
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError
        return value

    def from_text(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,20}", text):
            raise ValueError
        return self.from_json(int(text))


class Bool(Kind):
    expected = "true or false (yes or no in flags, the environment and CONFIG SET)"
    word = "yes|no"

    def from_json(self, value: Any) -> bool:
        if type(value) is not bool:
            raise ValueError
        return value

    def from_text(self, text: str) -> bool:
        return {"yes": True, "true": True, "1": True, "on": True, "no": False, "false": False,
                "0": False, "off": False}[text.lower()]

    def to_text(self, value: bool) -> str:
        return "yes" if value else "no"


class Choice(Kind):
    def __init__(self, *choices: str, also: Mapping[str, str] | None = None) -> None:
        self.choices, self.also = choices, {c.lower(): c for c in choices} | dict(also or {})
        self.expected = (" or ".join(f'"{c}"' for c in choices) if len(choices) < 3
                         else "one of " + ", ".join(choices))
        self.word = "|".join(choices)

    def from_text(self, text: str) -> str:
        text = text.lower()
        text = self.also.get(text, text)
        if text not in self.choices:
            raise ValueError
        return text


class Fixed(Kind):
    """A Redis setting that has one value here: reading works, setting it to that value works,
    anything else is refused."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
        self.expected = f"{json.dumps(value)}, the only value there is"
        self.word = self.text or '""'

    def from_json(self, value: Any) -> Any:
        if type(value) is not type(self.value) or value != self.value:
            raise ValueError
        return value

    def from_text(self, text: str) -> Any:
        if text.lower() != self.text:
            raise ValueError
        return self.value

    def to_text(self, value: Any) -> str:
        return self.text


class Duration(Kind):
    """Nanoseconds in memory. `unit` is what a bare integer counts; a duration is 0 (where `zero`
    says what that means) or in range."""

    word = "DURATION"

    def __init__(self, low: str, high: str, unit: str = "ns", zero: str = "") -> None:
        self.unit, self.zero = unit, zero
        self.low, self.high = parse_duration(low), parse_duration(high)
        self.expected = (f'a duration from {low} to {high}{f", or 0 ({zero})" if zero else ""}: '
                         'an integer of '
                         f'{ {"ns": "nanoseconds", "s": "seconds"}[unit] } or a string such as '
                         '"250ms" or "5s"')

    def check(self, ns: int) -> int:
        if not (ns == 0 and self.zero) and not self.low <= ns <= self.high:
            raise ValueError
        return ns

    def from_json(self, value: Any) -> int:
        if type(value) is int:
            return self.check(value * NS[self.unit])
        return super().from_json(value)

    def from_text(self, text: str) -> int:
        if re.fullmatch(r"[0-9]{1,20}", text):
            return self.check(int(text) * NS[self.unit])
        return self.check(parse_duration(text))

    def to_json(self, value: int) -> int | str:
        return (value // NS[self.unit] if self.unit != "ns" and value % NS[self.unit] == 0
                else format_duration(value))

    def to_text(self, value: int) -> str:
        return str(self.to_json(value))


class Size(Kind):
    word = "SIZE"

    def __init__(self, low: str, high: str, zero: str = "") -> None:
        self.low, self.high, self.zero = parse_size(low), parse_size(high), zero
        self.expected = (f'a size from {low} to {high}{f", or 0 ({zero})" if zero else ""}: an '
                         'integer of bytes or a string such as '
                         '"64mb"')

    def from_json(self, value: Any) -> int:
        if type(value) is int:
            if not (value == 0 and self.zero) and not self.low <= value <= self.high:
                raise ValueError
            return value
        return super().from_json(value)

    def from_text(self, text: str) -> int:
        return self.from_json(parse_size(text))


class Share(Size):
    """A size, or a percentage of max_memory: below 0."""

    def __init__(self) -> None:
        super().__init__("1", "1024tb", zero="no limit")
        self.expected += ', or a percentage of max_memory such as "5%"'

    def from_json(self, value: Any) -> int:
        return value if type(value) is int and -100 <= value < 0 else super().from_json(value)

    def from_text(self, text: str) -> int:
        if re.fullmatch(r"[0-9]{1,3}%", text):
            return self.from_json(-int(text[:-1]))
        return super().from_text(text)

    def to_json(self, value: int) -> Any:
        return self.to_text(value) if value < 0 else value

    def to_text(self, value: int) -> str:
        return f"{-value}%" if value < 0 else super().to_text(value)


class Octal(Kind):
    expected = ('file permissions in octal, as a string such as "700", or "0" for what the '
                'umask leaves')
    word = "MODE"

    def from_text(self, text: str) -> int:
        if not re.fullmatch(r"0?[0-7]{1,3}", text):
            raise ValueError
        return int(text, 8)

    def to_json(self, value: int) -> str:
        return self.to_text(value)

    def to_text(self, value: int) -> str:
        return f"{value:o}"


class Items(Kind):
    """A list of words: a JSON list, or text with commas or spaces between them."""

    word = "A,B"

    def __init__(self, expected: str, check: Callable[[str], bool], least: int = 0,
                 most: int = 1 << 20) -> None:
        self.expected, self.check, self.least, self.most = expected, check, least, most

    def from_json(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            return self.from_text(value)
        if (not isinstance(value, (list, tuple)) or not self.least <= len(value) <= self.most
            or not all(isinstance(v, str) and self.check(v) for v in value)):
            raise ValueError
        return tuple(dict.fromkeys(value))

    def from_text(self, text: str) -> tuple[str, ...]:
        return self.from_json([word for word in re.split(r"[,\s]+", text) if word])

    def to_json(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def to_text(self, value: tuple[str, ...]) -> str:
        return " ".join(value)


class UserLines(Kind):
    """Users: a JSON list of texts, or lines. Each is a name and rules, quoted as in a
    redis.conf."""

    expected = 'a list of users, such as ["alice on >secret ~cache:* +@read"], each name once'
    word = "USER"

    def from_json(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            return self.from_text(value)
        if (not isinstance(value, (list, tuple))
            or not all(isinstance(v, str) and v.strip() and not re.search(r"[\0\r\n]", v)
                       for v in value)):
            raise ValueError
        return tuple(value)

    def from_text(self, text: str) -> tuple[str, ...]:
        return self.from_json([line for line in text.split("\n") if line.strip()])

    def to_json(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def to_text(self, value: tuple[str, ...]) -> str:
        return "\n".join(value)


# Of notify-keyspace-events: where to say it, of what, and of whose doing.
EVENT_LETTERS = "KEg$lshzxetdmnLR"
ALL_EVENTS = "g$lshzxetd"               # the letter A


class Events(Kind):
    """Redis's notify-keyspace-events. As text, A stands for all of ALL_EVENTS, and K and E come
    behind the others."""

    expected = "letters of KEg$lshzxetdmnALR, or nothing"
    word = "LETTERS"

    def from_text(self, text: str) -> str:
        letters = text.replace("A", ALL_EVENTS)
        if not set(letters) <= set(EVENT_LETTERS):
            raise ValueError
        return "".join(x for x in EVENT_LETTERS if x in letters)

    def to_json(self, value: str) -> str:
        return self.to_text(value)

    def to_text(self, value: str) -> str:
        kinds = "".join(x for x in ALL_EVENTS if x in value)
        return ("A" if kinds == ALL_EVENTS else kinds) + "".join(x for x in "nKEmLR" if x in value)


class BufferLimits(Kind):
    """Redis's client-output-buffer-limit: (class, hard limit, soft limit, seconds over the soft
    one) four words at a time. A class that is not named keeps the limits it has."""

    expected = ('groups of "CLASS HARD SOFT SECONDS", with a class of normal, replica or pubsub, '
                'such as "normal 1gb 256mb 60"; a class that is not named keeps its limits')
    word = "LIMITS"
    classes = ("normal", "replica", "pubsub")

    def from_text(self, text: str) -> tuple[tuple[str, int, int, int], ...]:
        words = text.split()
        if not words or len(words) % 4:
            raise ValueError
        limits: dict[str, tuple[int, int, int]] = {}
        for i in range(0, len(words), 4):
            name = "replica" if words[i].lower() == "slave" else words[i].lower()
            if name not in self.classes or not re.fullmatch("[0-9]{1,9}", words[i + 3]):
                raise ValueError
            limits[name] = (parse_size(words[i + 1]), parse_size(words[i + 2]), int(words[i + 3]))
            if max(limits[name][:2]) >= 1 << 62:
                raise ValueError
        return tuple((name, *limit) for name, limit in limits.items())

    def over(self, value: tuple[tuple[str, int, int, int], ...],
             before: tuple[tuple[str, int, int, int], ...]) -> Any:
        limits = {group[0]: group for group in before} | {group[0]: group for group in value}
        return tuple(limits.values())

    def to_json(self, value: Any) -> str:
        return self.to_text(value)

    def to_text(self, value: Any) -> str:
        return " ".join(str(word) for group in value for word in group)


def parse_duration(text: str) -> int:
    """Nanoseconds in "250ms", "1.5s", "1h30m"; "0" is allowed bare. ValueError otherwise."""
    text = text.strip().lower()
    if text == "0":
        return 0
    if not re.fullmatch(r"(?:[0-9]{1,18}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h|d))+", text):
        raise ValueError
    total = 0
    for whole, fraction, unit in re.findall(r"([0-9]+)(?:\.([0-9]+))?(ns|us|µs|ms|s|m|h|d)", text):
        total += int(whole) * NS[unit] + (int(fraction) * NS[unit] // 10 ** len(fraction)
                                          if fraction else 0)
    return total


def format_duration(ns: int) -> str:
    """The shortest exact text in one unit: 5000000000 -> "5s", 1500000000 -> "1500ms"."""
    if ns == 0:
        return "0s"
    return next(f"{ns // NS[unit]}{unit}" for unit in ("h", "m", "s", "ms", "us", "ns")
                if ns % NS[unit] == 0)


def parse_size(text: str) -> int:
    """Bytes in "64mb", as in redis.conf: k, m, g are powers of 1000, kb, mb, gb of 1024. ValueError
    otherwise."""
    match = re.fullmatch(r"([0-9]{1,20})\s*([a-z]*)", text.strip().lower())
    if not match or match[2] not in BYTES:
        raise ValueError
    return int(match[1]) * BYTES[match[2]]


PEER_MOST = 300                         # characters: a host's name has 253 at most


def is_peer(text: str) -> bool:
    if len(text) > PEER_MOST:
        return False
    match = re.fullmatch(r"(?:https?://)?(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?",
                         text)
    return (bool(match) and 0 < int(match[2]) < 65536
            and (match[1] is None or is_ipv6(match[1])))


def is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True


def is_pattern(text: str) -> bool:
    return 0 < len(text) <= 1000 and "\0" not in text


def is_path(text: str) -> bool:
    return 0 < len(text) <= 4096 and "\0" not in text


def is_percentile(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,20})?", text)) and float(text) <= 100


def is_key_pattern(text: str) -> bool:
    return 0 < len(text.encode("utf-8", "surrogateescape")) <= 256 and "\0" not in text


def is_address(text: str) -> bool:
    """What `bind` takes: "*", a host name or an IP address; a leading "-" means: not having it is
    no fault."""
    return bool(re.fullmatch(r"-?(?:\*|::\*|[A-Za-z0-9._:-]+)", text)) and text != "-"


def is_loopback(address: str) -> bool:
    address = address.lstrip("-").lower()
    if address in ("localhost", "::1"):
        return True
    return bool(re.fullmatch(r"(?:::ffff:)?127(?:\.[0-9]{1,3}){3}", address))

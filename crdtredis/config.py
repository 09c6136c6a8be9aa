"""Settings: one declaration each, and everything that is derived from the declarations.

Where does a setting's value come from, what may it be, and what happens when it changes? SETTINGS
answers in one place. From it come the JSON file's validation, the command line flags, the
environment variables, CONFIG GET/SET/REWRITE, GET and PATCH /config, --generate-config, --help and
packaging/settings.md. A setting that is not declared here does not exist.

Precedence: flag, environment, file, default. A wrong value stops the start; all faults are reported
together, one line each: the setting, where the value came from, what was expected. Environment
variables that begin with CRDT_ but name no setting are no fault (other programs and build scripts
own some); they are returned as warnings.

Values in memory: durations are integers in nanoseconds, sizes in bytes, lists are tuples. In the
file a duration is an integer or a string such as "250ms"; an integer counts nanoseconds, except for
settings taken over from Redis (`timeout`, `tcp_keepalive`), where it counts seconds as it does
there. In CONFIG GET/SET a setting goes by Redis's name where Redis has one ("maxmemory"), else by
its own with dashes; both are understood with dashes or underscores.

Changes at run time: `change` checks everything first, then stores all values, then tells the
observers. An observer that raises ValueError undoes the whole change. Observers run in the thread
that changes; the server's hand over to the engine.

Secrets need stand neither in the file nor on the command line: `requirepass_file` and
`auth_token_file` name files that hold nothing else, and credentials of systemd by these settings'
names are found by themselves ($CREDENTIALS_DIRECTORY). A secret given outright goes before both.

Safe by default: listening on anything but loopback needs `requirepass` (clients) and `auth_token`
(peers), or `protected_mode` off.
"""
from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crdtredis import redisconf

NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
      "h": 3_600_000_000_000,
      "d": 86_400_000_000_000}
BYTES = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3,
         "gb": 1024**3, "t": 1000**4, "tb": 1024**4}
MASK = "********"


# ---- kinds of values -----------------------------------------------------------------------------


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
        self.choices, self.also = choices, also or {}
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

    def __init__(self, expected: str, check: Callable[[str], bool], least: int = 0) -> None:
        self.expected, self.check, self.least = expected, check, least

    def from_json(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            return self.from_text(value)
        if (not isinstance(value, (list, tuple)) or len(value) < self.least
            or not all(isinstance(v, str) and self.check(v) for v in value)):
            raise ValueError
        return tuple(dict.fromkeys(value))

    def from_text(self, text: str) -> tuple[str, ...]:
        return self.from_json([word for word in re.split(r"[,\s]+", text) if word])

    def to_json(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def to_text(self, value: tuple[str, ...]) -> str:
        return " ".join(value)


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
    match = re.fullmatch(r"(?:https?://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})/?",
                         text)
    return bool(match) and 0 < int(match[1]) < 65536


def is_address(text: str) -> bool:
    """What `bind` takes: "*", a host name or an IP address; a leading "-" means: not having it is
    no fault."""
    return bool(re.fullmatch(r"-?(?:\*|::\*|[A-Za-z0-9._:-]+)", text)) and text != "-"


def is_loopback(address: str) -> bool:
    address = address.lstrip("-").lower()
    if address in ("localhost", "::1"):
        return True
    return bool(re.fullmatch(r"(?:::ffff:)?127(?:\.[0-9]{1,3}){3}", address))


# ---- the declarations ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    name: str
    kind: Kind
    default: Any                    # as it would stand in the JSON file
    help: str
    group: str = ""                 # the heading under which --help and the reference show it
    live: bool = False              # may change at run time
    redis: str = ""                 # Redis's name for it, in CONFIG GET and SET
    flag: str = ""                  # a second flag
    env: str = ""                   # the variable's name where it is not CRDT_<NAME>
    secret: bool = False            # never shown by /config, faults or logs
    aliases: tuple[str, ...] = ()   # older names of Redis's, for CONFIG GET and SET

    @property
    def public(self) -> str:
        """The name in CONFIG GET."""
        return self.redis or self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return self.env or "CRDT_" + self.name.upper()

    @property
    def flags(self) -> tuple[str, ...]:
        """Ours, and Redis's where that differs: --max-memory and --maxmemory."""
        names = (self.flag, self.name.replace("_", "-"), self.redis)
        return tuple(dict.fromkeys(f"--{name}" for name in names if name))

    @property
    def is_list(self) -> bool:
        """Its value is several words: in a flag up to the next one, in a redis.conf to the line's
        end."""
        return isinstance(self.kind, (Items, BufferLimits)) or self.name == "save"

    @property
    def directives(self) -> tuple[str, ...]:
        """Its names in a redis.conf, the one to write first."""
        return tuple(dict.fromkeys(n.replace("_", "-")
                                   for n in (self.public, self.name, *self.aliases)))

    def words(self, value: Any) -> tuple[str, ...]:
        """The value as words of a redis.conf's line."""
        text = self.kind.to_text(value)
        return tuple(text.split()) or ("",) if self.is_list else (text,)

    @property
    def initial(self) -> Any:
        return self.kind.from_json(self.default)

    def has_only(self, text: str) -> bool:
        """Whether this is a setting of Redis's that has one value here, and the text asks for
        another."""
        return isinstance(self.kind, Fixed) and text.lower() != self.kind.text

    def show(self, value: Any) -> Any:
        """The value as JSON, a secret masked."""
        return (MASK if value else "") if self.secret else self.kind.to_json(value)


def _declare(group: str, *settings: Setting) -> list[Setting]:
    return [Setting(**{**s.__dict__, "group": group}) for s in settings]


S = Setting
SETTINGS: tuple[Setting, ...] = (
    *_declare(
        "Identity and data",
        S("replica_id", Text("up to 128 letters, digits and ._:-, or nothing", r"[A-Za-z0-9._:-]*",
                             128), "",
          "Name of this replica, unique in the cluster. Empty: the one in the data directory, or "
          "host name and a random suffix. It is "
          "kept in the data directory, and starting there with another one is refused."),
        S("cluster_name", Text("1 to 64 letters, digits and ._:-", r"[A-Za-z0-9._:-]+", 64),
          "default",
          "Replicas talk only to replicas of the same cluster name."),
        S("data_dir", Text("a path", r"[^\0]+"), "./data",
          "Directory of the segments, the identity and the lock. Made when missing.",
          redis="dir"),
    ),
    *_declare(
        "Clients",
        S("server_port", Int(0, 65535), 6379, "TCP port for Redis clients; 0: none.", redis="port",
          flag="port", env="CRDT_REDIS_PORT"),
        S("bind", Items('a list of addresses, such as ["127.0.0.1", "-::1"], or "*" for all',
                        is_address, 1), ["127.0.0.1", "-::1"],
          "Addresses to listen on, for clients and (unless http_bind is given) for HTTP. One with "
          "a leading - may be missing."),
        S("unixsocket", Text("a path of at most 107 bytes, or nothing", r"[^\0]*", 107), "",
          "Path of a Unix socket for Redis clients."),
        S("unixsocketperm", Octal(), "0",
          "Permissions of the Unix socket, in octal; 0: what the umask leaves."),
        S("requirepass", Text("a password without line breaks, in UTF-8, or nothing",
                              r"[^\0\r\n\ud800-\udfff]*", 512), "",
          "Password that clients must give with AUTH or HELLO.", live=True, secret=True),
        S("requirepass_file", Text("a path, or nothing", r"[^\0]*"), "",
          "File that holds the password, when requirepass is empty; else, the systemd credential "
          "requirepass."),
        S("protected_mode", Bool(), True,
          "Refuse to listen on anything but loopback without requirepass for clients and "
          "auth_token for peers.", live=True),
        S("max_connections", Int(1, 1_000_000), 10_000,
          "Client connections at a time; further ones get an error and are closed.",
          live=True, redis="maxclients"),
        S("timeout", Duration("1s", "8760h", "s", zero="never"), 0,
          "Close a client that has been idle for so long; 0: never.", live=True),
        S("tcp_keepalive", Duration("1s", "9h", "s", zero="off"), 300,
          "TCP keepalive period for client connections; 0: off.", live=True),
        S("tcp_backlog", Int(1, 65535), 511,
          "Length of the queue of connections not yet accepted."),
        S("client_output_buffer_limit", BufferLimits(),
          "normal 0 0 0 replica 268435456 67108864 60 pubsub 33554432 8388608 60",
          "Disconnect a client whose unread replies exceed the hard limit, or the soft one for so "
          "many seconds; 0: no limit.", live=True),
        S("client_query_buffer_limit", Size("1mb", "1024gb"), 1_073_741_824,
          "Disconnect a client whose unfinished command takes more than this.", live=True),
        # one value must fit an op (core/keyspace.pxd, OP_MOST) whatever else stands in it, and so
        # does the longest string
        S("proto_max_bulk_len", Size("1mb", "512mb"), 536_870_912,
          "Longest single argument of a command.", live=True),
        S("databases", Fixed(16), 16, "Number of databases."),
    ),
    *_declare(
        "Memory and disk",
        S("max_memory", Size("1", "1024tb", zero="no limit"), 0,
          "Refuse commands that would use more memory once the data takes this much; 0: no limit. "
          "Nothing is evicted.",
          live=True, redis="maxmemory"),
        S("maxmemory_policy", Fixed("noeviction"), "noeviction", "What happens at max_memory."),
        S("appendonly", Fixed(True), True, "Every write is logged before its reply leaves."),
        S("appendfsync", Choice("always", "everysec", "no"), "everysec",
          "When the log is forced to disk: before every reply, once a second, or when the system "
          "likes.", live=True),
        S("save", Fixed(""), "",
          "Redis's snapshot schedule: there are no snapshots, the log is the data."),
        S("max_segment_size", Size("64kb", "1gb"), 67_108_864,
          "A log segment is closed and a new one begun at this size.", live=True),
        S("compaction_threshold", Int(1, 1_000_000), 10,
          "Closed segments that trigger a checkpoint.", live=True),
        S("replication_log_size", Size("0", "1024tb"), 1_073_741_824,
          "Log kept on disk beyond what recovery needs, for peers that were away.", live=True),
    ),
    *_declare(
        "Replication",
        S("http_port", Int(0, 65535), 8080,
          "TCP port for peers, operators and metrics; 0: none (then no replication).",
          env="CRDT_HTTP_PORT"),
        S("http_bind", Items("a list of addresses, or an empty one", is_address), [],
          "Addresses for http_port; empty: those of bind."),
        S("http_max_connections", Int(8, 1_000_000), 256,
          "HTTP connections at a time. One that waits for its first request makes room for a new "
          "one; so many descriptors are kept for them."),
        S("peers", Items('a list of "host:port" or "http://host:port" with the peers\' http_port',
                         is_peer), [],
          "The other replicas, each with its HTTP port."),
        S("auth_token", Text("a token of visible ASCII characters, or nothing", r"[!-~]*", 512), "",
          "Bearer token that peers, operators and Prometheus must show for everything but GET "
          "/health; the same in all replicas.", secret=True),
        S("auth_token_file", Text("a path, or nothing", r"[^\0]*"), "",
          "File that holds the token, when auth_token is empty; else, the systemd credential "
          "auth_token."),
        S("allow_plain_peers", Bool(), False,
          "Send auth_token to peers on other machines over plain HTTP too, where whoever can "
          "listen reads it: for networks that are private "
          "or encrypted otherwise. Without it such a peer is refused; https:// and loopback always "
          "work.", live=True),
        S("sync_interval", Duration("10ms", "24h"), "5s",
          "Time between anti-entropy rounds with each peer.", live=True),
        S("sync_timeout", Duration("10ms", "24h"), "30s",
          "Longest time in which a request to a peer or its answer makes no progress.", live=True),
        S("retry_interval", Duration("1ms", "1h"), "1s",
          "First pause after a failed attempt; it doubles up to a cap.", live=True),
        S("max_retries", Int(0, 1_000_000), 3,
          "Failed attempts after which a peer counts as down (it is still tried).", live=True),
        S("gc_interval", Duration("10ms", "24h"), "60s",
          "Time between rounds of dropping what every peer has seen.", live=True),
        S("max_clock_skew", Duration("1ms", "24h"), "60s",
          "Hold back operations stamped further ahead of the local clock than this, until it gets "
          "there.", live=True),
        S("accept_stamps_until", Int(0, 32_503_680_000, "seconds since 1970"), 0,
          "Take it for the time until the clock gets there, where max_clock_skew is concerned: the "
          "way on after a replica's clock was "
          "wrong, set at every replica. 0: the clock alone counts.", live=True),
        S("enable_tls", Bool(), False,
          "TLS on http_port, and towards peers given without a scheme."),
        S("tls_cert_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Certificate chain in PEM format."),
        S("tls_key_file", Text("a path, or nothing", r"[^\0]*"), "", "Private key in PEM format."),
        S("tls_ca_file", Text("a path, or nothing", r"[^\0]*"), "",
          "Certificates that peers' certificates must lead to; empty: the system's."),
    ),
    *_declare(
        "Logging and monitoring",
        S("log_level",
          Choice("debug", "info", "warning", "error",
                 also={"verbose": "debug", "notice": "info", "nothing": "error"}), "info",
          "Least important messages to log.", live=True, redis="loglevel"),
        S("log_file", Text("a path, or nothing", r"[^\0]*"), "",
          "File to log to, opened again on SIGHUP; empty: standard error.",
          redis="logfile"),
        S("daemonize", Bool(), False,
          "Go on in the background once the start has succeeded; messages then go to log_file "
          "alone."),
        S("pidfile", Text("a path, or nothing", r"[^\0]*"), "",
          "File to hold the process id while the server runs."),
        S("log_format", Choice("text", "json"), "text",
          "Lines for people, or one JSON object per line.", live=True),
        S("slowlog_log_slower_than", Int(-1, 10**15, "microseconds"), 10_000,
          "SLOWLOG takes commands slower than this; 0: all, -1: none.", live=True),
        S("slowlog_max_len", Int(0, 1_000_000), 128, "Entries that SLOWLOG keeps.", live=True),
        S("latency_monitor_threshold", Int(0, 2**31 - 1, "milliseconds"), 0,
          "LATENCY takes events slower than this; 0: none.", live=True),
        S("enable_debug_command", Choice("no", "yes", "local"), "no",
          "Who may use DEBUG, which can make the server stand still: nobody, everybody, clients of "
          "this machine."),
        S("hz", Int(1, 500), 10, "Rounds of background work a second (expiry, idle clients).",
          live=True),
    ),
    *_declare(
        "What OBJECT ENCODING answers, and nothing else: values are held alike, large or small",
        S("hash_max_listpack_entries", Int(0, 2**31 - 1), 512,
          "A hash with more fields is called hashtable, not listpack.", live=True,
          aliases=("hash-max-ziplist-entries",)),
        S("hash_max_listpack_value", Int(0, 2**31 - 1, "bytes"), 64,
          "A hash with a longer field or value is called hashtable.", live=True,
          aliases=("hash-max-ziplist-value",)),
        S("set_max_intset_entries", Int(0, 2**31 - 1), 512,
          "A set of so many whole numbers at most is called intset.", live=True),
        S("set_max_listpack_entries", Int(0, 2**31 - 1), 128,
          "Any other set with more members is called hashtable, not listpack.", live=True),
        S("set_max_listpack_value", Int(0, 2**31 - 1, "bytes"), 64,
          "A set with a longer member is called hashtable.", live=True),
        S("zset_max_listpack_entries", Int(0, 2**31 - 1), 128,
          "A sorted set with more members is called skiplist, not listpack.", live=True,
          aliases=("zset-max-ziplist-entries",)),
        S("zset_max_listpack_value", Int(0, 2**31 - 1, "bytes"), 64,
          "A sorted set with a longer member is called skiplist.", live=True,
          aliases=("zset-max-ziplist-value",)),
        S("list_max_listpack_size", Int(-2**31, 2**31 - 1), -2,
          "A list with more elements, or, from -1 to -5 (or less), more than 4, 8, 16, 32 or 64 "
          "KiB, is called quicklist, not listpack.", live=True,
          aliases=("list-max-ziplist-size",)),
    ),
    *_declare(
        "Known to Redis, without effect here",
        S("supervised", Choice("no", "auto", "systemd", "upstart"), "no",
          "No effect: a service manager that asks to be told (NOTIFY_SOCKET) is."),
        S("list_compress_depth", Int(0, 2**31 - 1), 0, "No effect: lists are not compressed.",
          live=True),
        S("activerehashing", Bool(), True, "No effect: tables always grow step by step.",
          live=True),
        S("lazyfree_lazy_user_del", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_user_flush", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_server_del", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_expire", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("lazyfree_lazy_eviction", Bool(), False,
          "No effect: what is removed is always freed step by step.", live=True),
        S("activedefrag", Bool(), False, "No effect: memory is not rearranged.", live=True),
        S("maxmemory_samples", Int(1, 64), 5, "No effect: nothing is evicted.", live=True),
        S("lfu_log_factor", Int(0, 2**31 - 1), 10, "No effect: nothing is evicted.", live=True),
        S("lfu_decay_time", Int(0, 2**31 - 1), 1, "No effect: nothing is evicted.", live=True),
        S("rdbcompression", Bool(), True, "No effect: there are no snapshots.", live=True),
        S("rdbchecksum", Bool(), True, "No effect: there are no snapshots.", live=True),
        S("rdb_key_save_delay", Int(-2**31, 2**31 - 1, "microseconds"), 0,
          "No effect: there are no snapshots.", live=True),
        S("stop_writes_on_bgsave_error", Bool(), True,
          "No effect: while the log cannot be written, writes are always refused.", live=True),
        S("no_appendfsync_on_rewrite", Bool(), False, "No effect: the log is never rewritten.",
          live=True),
        S("auto_aof_rewrite_percentage", Int(0, 2**31 - 1), 100,
          "No effect: the log is never rewritten.", live=True),
        S("auto_aof_rewrite_min_size", Size("0", "1024tb"), 67_108_864,
          "No effect: the log is never rewritten.", live=True),
        S("aof_use_rdb_preamble", Bool(), True, "No effect: the log is never rewritten.",
          live=True),
    ),
    *_declare(
        "Redis mirror",
        S("redis_addr", Text('"host:port", or nothing',
                             r"(?:(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})?"), "",
          "A Redis server to mirror to. Accepted for existing files; this version has no mirror "
          "and says so at the start."),
        S("redis_db", Int(0, 15), 0, "The mirror's database."),
    ),
)

BY_NAME = {s.name: s for s in SETTINGS}
BY_FLAG = {flag: s for s in SETTINGS for flag in (*s.flags, *(f"--{alias}" for alias in s.aliases))}
BY_VARIABLE = {s.variable: s for s in SETTINGS}
# Any spelling of CONFIG GET and SET, with dashes: the setting's own name or Redis's.
BY_PUBLIC = {alias.replace("_", "-"): s for s in SETTINGS
             for alias in (s.name, s.public, *s.aliases)}
ENCODING_LIMITS = tuple(s.name for s in SETTINGS if "_max_listpack_" in s.name
                        or "_max_intset_" in s.name)
# Not a setting, since it says where the settings are.
CONFIG_VARIABLE = "CRDT_CONFIG"


NEAR_MOST = 64                          # characters


def near(word: str, known: Iterable[str]) -> str:
    """' (did you mean X?)' when something known is close, else ''."""
    import difflib

    # no slip, and to compare it takes a time that grows with its length squared
    if len(word) > NEAR_MOST:
        return ""
    found = difflib.get_close_matches(word, list(known), 1, 0.7)
    return f" (did you mean {found[0]}?)" if found else ""


# ---- faults --------------------------------------------------------------------------------------


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


def _unknown(name: str, origin: str, known: Iterable[str]) -> Fault:
    return Fault(name, origin, f"no such setting{near(name, known)}", "unknown")


def _read(setting: Setting, raw: Any, origin: str, faults: list[Fault], text: bool) -> Any:
    try:
        return setting.kind.from_text(raw) if text else setting.kind.from_json(raw)
    except (ValueError, KeyError, OverflowError):
        got = "another value" if setting.secret else json.dumps(raw, ensure_ascii=False)
        got = got if len(got) <= 80 else got[:77] + "..."
        faults.append(Fault(setting.name, origin, f"expected {setting.kind.expected}, not {got}"))
        return None


# ---- sources -------------------------------------------------------------------------------------


def parse_flags(argv: Sequence[str], faults: list[Fault],
                extra: Mapping[str, bool]) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Split the command line: ({setting: (text, flag)}, {other flag: text}).

    extra: flags that are no settings, and whether they take a value. A flag's value follows it, or
    an "=". A flag of a yes-or-no setting may stand alone. A list's flag may be repeated, and takes
    all words up to the next flag. What cannot be read is added to faults. A flag that is a
    directive of Redis's without effect here comes back among the others, with its words.
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
                          else _unknown(flag, "command line", [*BY_FLAG, *extra]))
            if not equals and args and not args[0].startswith("--"):
                args.pop(0)
            continue
        alone = isinstance(setting.kind, Bool) if setting else not extra[flag]
        if not equals:
            if args and not args[0].startswith("--") and (setting or extra[flag]):
                value = words() if setting and setting.is_list else args.pop(0)
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
    unknown: list[str] = []
    faults: list[Fault] = []
    try:
        lines = redisconf.read(path, text)
    except redisconf.SyntaxFault as e:
        raise ConfigError([Fault("", e.origin, str(e))]) from None
    except OSError as e:
        raise ConfigError([Fault("", f"file {e.filename}",
                                 f"cannot be read: {os.strerror(e.errno or 0)}")]) from None
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
            unknown.append(line.directive + near(line.directive,
                                                 (*BY_PUBLIC, *redisconf.NO_EFFECT)))
        elif setting is None or setting.has_only(joined):
            passed.append(f"{line.directive} {joined}".strip() if setting else line.directive)
        elif len(line.words) != 1 and not setting.is_list:
            faults.append(Fault(line.directive, line.origin,
                                f"expected one word, {setting.kind.expected}"))
        else:
            values[setting.name] = joined, line.origin
    if faults:
        raise ConfigError(faults)
    parts = [f"{what}: {', '.join(found)}" for what,
             found in (("without effect here", passed), ("not known", unknown)) if found]
    return values, [f"file {path}: {'; '.join(parts)}"] if parts else []


# ---- the configuration ---------------------------------------------------------------------------

Observer = Callable[[str, Any], None]


@dataclass
class Config:
    """The values in force. Read them as attributes; durations also by seconds() and ms()."""

    values: dict[str, Any] = field(default_factory=lambda: {s.name: s.initial for s in SETTINGS})
    # setting -> origin, for those that are not defaults
    origins: dict[str, str] = field(default_factory=dict)
    file: str | None = None
    warnings: list[str] = field(default_factory=list)
    _observers: list[tuple[frozenset[str], Observer]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(f"no setting {name}") from None

    @classmethod
    def of(cls, **values: Any) -> Config:
        """Defaults but for these, given as in the JSON file; for tests and embedded use. Raises
        ConfigError."""
        return cls.load(settings=values)

    @classmethod
    def load(cls, flags: Mapping[str, tuple[str, str]] | None = None,
             environ: Mapping[str, str] | None = None, file: str | None = None,
             settings: Mapping[str, Any] | None = None, faults: Iterable[Fault] = ()) -> Config:
        """Put the sources together, or raise ConfigError with every fault, those given included.

        flags: what parse_flags returned. settings: an object as the file would hold it, used in the
        file's place.
        """
        config, found = cls(file=file), list(faults)
        # setting -> (raw value, origin, is text)
        given: dict[str, tuple[Any, str, bool]] = {}
        if file is not None:
            try:
                text = read_text(file)
                if redisconf.is_redis_conf(file, text):
                    texts, config.warnings = parse_redis_conf(text, file)
                    given = {name: (raw, where, True) for name, (raw, where) in texts.items()}
                else:
                    settings = parse_json(text, file)
            except ConfigError as e:
                found += e.faults
        origin = f"file {file}" if file is not None else "settings"
        for name, raw in (settings or {}).items():
            if name in BY_NAME:
                given[name] = (raw, origin, False)
            elif not name.startswith("_"):
                hint = BY_PUBLIC.get(name.replace("_", "-"))
                found.append(Fault(name, origin, f"no such setting (here it is {hint.name})",
                                   "unknown") if hint
                             else _unknown(name, origin, BY_NAME))
        for variable, raw in (environ or {}).items():
            if variable in BY_VARIABLE:
                given[BY_VARIABLE[variable].name] = (raw, f"environment {variable}", True)
            elif variable.startswith("CRDT_") and variable != CONFIG_VARIABLE:
                config.warnings.append(f"environment {variable}: no such "
                                       f"setting{near(variable, BY_VARIABLE)}; ignored")
        for name, (raw, flag) in (flags or {}).items():
            given[name] = (raw, f"flag {flag}", True)
        for name, (raw, where, text) in given.items():
            count = len(found)
            value = _read(BY_NAME[name], raw, where, found, text)
            if len(found) == count:
                config.values[name] = BY_NAME[name].kind.over(value, config.values[name])
                config.origins[name] = where
        if (file is not None
            and any(s.secret and config.values[s.name] and config.origin(s.name).startswith("file ")
                    for s in SETTINGS)):
            config._warn_if_open(file)
        config._read_secrets(environ or {}, found)
        if not config.enable_tls and (config.tls_cert_file or config.tls_key_file):
            config.warnings.append("tls_cert_file and tls_key_file have no effect, since "
                                   "enable_tls is off: HTTP is in the clear")
        found += config._together(config.values)
        if found:
            raise ConfigError(found)
        return config

    def _read_secrets(self, environ: Mapping[str, str], faults: list[Fault]) -> None:
        for s in SETTINGS:
            if not s.secret:
                continue
            setting = f"{s.name}_file"
            path, origin = self.values[setting], self.origin(setting)
            if not path:
                path, origin = os.path.join(environ.get("CREDENTIALS_DIRECTORY", ""),
                                            s.name), "systemd credential"
                if "CREDENTIALS_DIRECTORY" not in environ or not os.path.exists(path):
                    continue
            if self.values[s.name]:
                self.warnings.append(f"{setting} ({origin}): not read, since {s.name} "
                                     f"({self.origin(s.name)}) is given")
                continue
            try:
                with open(path, "rb") as f:
                    text = f.read(4097).decode("utf-8", "surrogateescape")
            except OSError as e:
                faults.append(Fault(setting, origin,
                                    f"{path} cannot be read: {os.strerror(e.errno or 0)}"))
                continue
            text = text.removesuffix("\n").removesuffix("\r")
            value = _read(s, text, f"file {path}", faults, text=True)
            if value == "":
                faults.append(Fault(setting, origin, f"{path} is empty"))
            elif value:
                self.values[s.name], self.origins[s.name] = value, f"file {path}"
                self._warn_if_open(path)

    def _warn_if_open(self, path: str) -> None:
        if os.stat(path).st_mode & 0o007:
            self.warnings.append(f"file {path}: it holds a secret, and everybody on this machine "
                                 f"may read it (chmod o= {path})")

    # -- reading --

    def seconds(self, name: str) -> float:
        return self.values[name] / NS["s"]

    def ms(self, name: str) -> int:
        """A duration in whole milliseconds, at least 1 where it is not 0."""
        return -(-self.values[name] // NS["ms"])

    def origin(self, name: str) -> str:
        return self.origins.get(name, "default")

    @property
    def http_addresses(self) -> tuple[str, ...]:
        return self.http_bind or self.bind

    @property
    def peer_urls(self) -> tuple[str, ...]:
        """The peers, each once, as URLs without a slash at the end; one given as host:port gets
        https when TLS is on."""
        scheme = "https" if self.enable_tls else "http"
        return tuple(dict.fromkeys((peer if "://" in peer else f"{scheme}://{peer}").rstrip("/")
                                   for peer in self.peers))

    def get(self, patterns: Sequence[str], matches: Callable[[str, str], bool]) -> dict[str, str]:
        """CONFIG GET: glob patterns, in any case and with dashes or underscores -> {name: text}.
        Each setting once, under the spelling that matched: Redis's name, else its own. The data
        directory is shown whole, as in Redis. matches(pattern, name) knows globs; it is not asked
        about mere names."""
        asked, folded = set(patterns), {p.lower().replace("_", "-") for p in patterns}
        globs = [p for p in folded if is_glob(p)]
        shown: dict[str, str] = {}
        for s in SETTINGS:
            for name in (s.public, s.name, *s.aliases):
                dashed = name.replace("_", "-")
                if dashed in folded or any(matches(g, dashed) for g in globs):
                    text = s.kind.to_text(self.values[s.name])
                    shown[name if name == s.public or name in asked else dashed] = (
                        os.path.abspath(text) if s.name == "data_dir" else text)
                    break
        return shown

    def as_json(self) -> dict[str, Any]:
        """GET /config: every setting by its own name, secrets masked."""
        return {s.name: s.show(self.values[s.name]) for s in SETTINGS}

    # -- changing --

    def observe(self, names: Iterable[str], observer: Observer) -> None:
        """observer(name, value) is called after a change of one of these settings; ValueError with
        a reason undoes the change."""
        names = frozenset(names)
        assert all(BY_NAME[n].live for n in names), names
        self._observers.append((names, observer))

    def set_texts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """CONFIG SET: all or nothing. Names as in `get`. Raises ConfigError; each fault's `setting`
        is the name as given."""
        given = {}
        faults: list[Fault] = []
        for name, text in pairs:
            setting = BY_PUBLIC.get(name.lower().replace("_", "-"))
            if setting is None:
                faults.append(_unknown(name, "CONFIG SET", BY_PUBLIC))
            elif setting.name in given:
                faults.append(Fault(name, "CONFIG SET", "duplicate parameter"))
            else:
                given[setting.name] = (name, text)
        self._change(given, "CONFIG SET", faults, text=True)

    def patch(self, settings: Mapping[str, Any]) -> None:
        """PATCH /config: {name: JSON value}, all or nothing. A masked secret, as as_json shows it,
        changes nothing. Raises ConfigError."""
        given = {}
        faults: list[Fault] = []
        for name, value in settings.items():
            if name not in BY_NAME:
                faults.append(_unknown(name, "PATCH /config", BY_NAME))
            elif not (BY_NAME[name].secret and value == MASK):
                given[name] = (name, value)
        self._change(given, "PATCH /config", faults, text=False)

    def _change(self, given: Mapping[str, tuple[str, Any]], origin: str, faults: list[Fault],
                text: bool) -> None:
        new: dict[str, Any] = {}
        for name, (spelling, raw) in given.items():
            setting, found = BY_NAME[name], []
            value = _read(setting, raw, origin, found, text)
            if found:
                faults.append(Fault(spelling, origin, found[0].problem))
                continue
            value = setting.kind.over(value, self.values[name])
            if value != self.values[name]:
                if setting.live:
                    new[name] = value
                else:
                    faults.append(Fault(spelling, origin, "cannot change while the server runs",
                                        "fixed"))
        if not faults:
            faults += [f for f in self._together({**self.values, **new})
                       if f not in self._together(self.values)]
        if faults:
            raise ConfigError(faults)
        old = {name: self.values[name] for name in new}
        self.values.update(new)
        try:
            self._tell(new)
        except ValueError as e:
            self.values.update(old)
            self._tell(old)
            raise ConfigError([Fault(given[next(iter(new))][0], origin, str(e))]) from None
        except Exception:
            # an observer's own fault: what it did not bring into force is not shown as if it were
            self.values.update(old)
            raise
        self.origins.update(dict.fromkeys(new, origin))

    def _tell(self, changed: Mapping[str, Any]) -> None:
        for names, observer in self._observers:
            for name in changed.keys() & names:
                observer(name, changed[name])

    def rewrite(self) -> None:
        """CONFIG REWRITE: put what was changed at run time into the file, leaving its order and
        comments. ValueError without a file."""
        if self.file is None:
            raise ValueError("the server is running without a config file")
        changed = [s for s in SETTINGS if self.origin(s.name) in ("CONFIG SET", "PATCH /config")]
        text = read_text(self.file)
        if redisconf.is_redis_conf(self.file, text):
            text = redisconf.rewrite(text,
                                     {s.name: (s.directives, s.words(self.values[s.name]))
                                      for s in changed})
        else:
            data = parse_json(text, self.file)
            data.update({s.name: s.kind.to_json(self.values[s.name]) for s in changed})
            text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        path = os.path.realpath(self.file)
        mode = os.stat(path).st_mode & 0o777
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w",
                      encoding="utf-8",
                      errors="surrogateescape") as f:
                f.write(text)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)

    # -- settings that must go together --

    def _together(self, v: Mapping[str, Any]) -> list[Fault]:
        faults: list[Fault] = []

        def fault(name: str, problem: str) -> None:
            faults.append(Fault(name, self.origin(name), problem, "together"))

        if v["server_port"] == 0 and not v["unixsocket"]:
            fault("server_port", "expected a port, since there is no unixsocket either")
        if v["server_port"] and v["server_port"] == v["http_port"]:
            fault("http_port", f"expected another port than server_port, not {v['http_port']}")
        if v["peers"] and not v["http_port"]:
            fault("http_port", "expected a port, since there are peers")
        if v["enable_tls"]:
            for name in ("tls_cert_file", "tls_key_file"):
                if not os.access(v[name] or "-", os.R_OK):
                    fault(name,
                          "expected a readable PEM file, since enable_tls is on, not "
                          f"{json.dumps(v[name])}")
        if v["tls_ca_file"] and not os.access(v["tls_ca_file"], os.R_OK):
            fault("tls_ca_file",
                  f"expected a readable PEM file, not {json.dumps(v['tls_ca_file'])}")
        if v["protected_mode"]:
            for port, binding, addresses, secret in (("server_port", "bind", v["bind"],
                                                      "requirepass"),
                                                     ("http_port", "http_bind" if v["http_bind"]
                                                      else "bind",
                                                      v["http_bind"] or v["bind"], "auth_token")):
                outside = [a for a in addresses if not is_loopback(a)]
                if v[port] and outside and not v[secret]:
                    fault(secret,
                                  f"expected a value, since {binding} opens "
                                  f"{outside[0].lstrip('-')} to other machines "
                                  "(or turn protected_mode off)")
        return faults


def is_glob(pattern: str) -> bool:
    """Whether it may match anything but itself."""
    return any(c in pattern for c in "*?[\\")


# ---- what is printed -----------------------------------------------------------------------------


def example() -> str:
    """A complete configuration file with every default; each setting is preceded by a comment,
    "_<name>"."""
    lines: dict[str,
                                  Any] = {"_":
                                  "Settings of crdt-redis. Keys that begin with _ are comments. "
                                  "Durations are integers of nanoseconds (of seconds "
                                  "where the comment says so) or strings such as \"250ms\"; sizes "
                                  "are integers of bytes or strings such as \"64mb\"."}
    for s in SETTINGS:
        live = " May change at run time." if s.live else ""
        lines["_" + s.name] = f"{s.help} Expected: {s.kind.expected}.{live}"
        lines[s.name] = s.kind.to_json(s.initial)
    return json.dumps(lines, indent=2, ensure_ascii=False)


def groups() -> dict[str, list[Setting]]:
    out: dict[str, list[Setting]] = {}
    for s in SETTINGS:
        out.setdefault(s.group, []).append(s)
    return out


def help_text() -> str:
    """The settings as flags, for --help."""
    import textwrap

    lines = []
    for group, members in groups().items():
        lines.append(f"\n{group}:")
        for s in members:
            lines.append(f"  {', '.join(s.flags)} {s.kind.word}")
            default = s.kind.to_text(s.initial)
            lines += textwrap.wrap(s.help + (f" Default: {default}." if default else ""), 100,
                                   initial_indent=" " * 8,
                                   subsequent_indent=" " * 8)
    return "\n".join(lines)


# Those of which most need some; the README shows them.
COMMON = ("replica_id", "peers", "data_dir", "server_port", "bind", "http_port", "requirepass",
          "auth_token", "appendfsync", "max_memory",
          "sync_interval", "max_clock_skew", "log_file")


def reference(names: Iterable[str] = BY_NAME) -> str:
    """These settings as a Markdown table: all stand in packaging/settings.md, COMMON in the
    README."""
    rows = ["| setting | default | run time | flag, environment, CONFIG name | meaning |",
            "|---|---|---|---|---|"]
    for s in map(BY_NAME.__getitem__, names):
        default = s.kind.to_text(s.initial)
        spellings = " ".join(f"`{n}`" for n in (*s.flags, s.variable, s.public))
        rows.append(f"| `{s.name}` | {f'`{default}`' if default else ''} | "
                    f"{'yes' if s.live else ''} | {spellings} | {s.help} |".replace("  |", " |"))
    return "\n".join(rows)

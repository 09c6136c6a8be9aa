"""The command table: one registration says all about a command, and all else is derived from it.

A Python command is a function, registered by a decorator:

    @command("CONFIG|GET parameter...", arity=-3, flags="admin noscript loading stale",
             group="server", since="2.0.0", complexity="O(N) with the number of settings matched",
             summary="Answers the settings whose names match.")
    def config_get(session, argv): ...      # argv: list[bytes], argv[0] the name as sent

It returns what _resp's reply_object takes, or NO_REPLY, or raises errors.CommandError. A native
command is a C function `void f(Call *c) noexcept nogil` in a .pyx, registered in the same words:

    command("SADD key member...", arity=-3, flags="write denyoom fast", keys=(1, 1, 1),
            access="RW insert", group="set", since="1.0.0", complexity="O(N) with N members",
            summary="Adds members to a set; answers how many are new.",
            replicas="Concurrent adds are all kept.")(native(sadd))

- The first argument is the synopsis: the name, and how the arguments are written (commands/usage.py
  has the notation). A name with a bar is a subcommand. Its container is registered too; the
  subcommand's function runs if it has one, the container's otherwise (register None), and arity,
  flags and statistics are the subcommand's own.
- arity counts the name; negative means "at least".
- flags are Redis's (COMMAND INFO shows them), and six of our own, which it does not show: no_queue
  (runs at once inside MULTI), container (has subcommands), exec (EXEC itself), one_change (in
  rdb_changes_since_last_save it counts as one change, whatever the number of its effects),
  subscribed (allowed to subscribers that speak RESP2), and unseen (unknown to a user who may not
  run it, and no entry in ACL LOG, as in Redis: what clients' handshakes ask of any server).
- keys says where the keys stand, and access what becomes of them, in the words of COMMAND INFO ("RW
  access delete"; left out where it is "RO access"). A range is (first, last, step), counted from
  the name; a negative last counts from the end. Where several kinds of access or other ways to find
  keys are wanted, keys is a list of the classes below. access_of is for access that depends on the
  call ("variable_flags").
- tips are what COMMAND INFO tells the clients of a cluster.
- replicas says what concurrent replicas get, in a sentence; a command that writes must say it.

What is wrong is refused here, at import: see `check`.
"""
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

FLAGS = frozenset("""
    write readonly denyoom admin pubsub noscript blocking loading stale skip_monitor skip_slowlog
    asking fast no_auth may_replicate no_mandatory_keys movablekeys no_multi no_async_loading
    allow_busy
    no_queue container exec one_change subscribed unseen
""".split())
OWN_FLAGS = frozenset({"no_queue", "container", "exec", "one_change", "subscribed", "unseen"})
# Access categories that the group alone decides; the rest follows from the flags.
GROUP_CATEGORIES = {
    "generic": "keyspace", "string": "string", "bitmap": "bitmap", "hash": "hash", "list": "list",
    "set": "set", "sorted-set": "sortedset", "stream": "stream", "hyperloglog": "hyperloglog",
    "geo": "geo", "pubsub": "pubsub", "scripting": "scripting", "connection": "connection",
    "transactions": "transaction"}

# Keyspace notifications: (letter of the kind, event, rule, second event) -> commands. The rules are
# in engine/command.pxd; a command that is not here says what its effects say.
EVENTS = {
    ("$", "set", "set", ""): "set setex psetex setnx getset mset msetnx msetex",
    ("$", "append", "plain", ""): "append",
    ("$", "setrange", "plain", ""): "setrange",
    ("$", "setbit", "plain", ""): "setbit bitfield",
    ("$", "set", "store", ""): "bitop",
    ("$", "pfadd", "plain", ""): "pfadd pfmerge",
    ("$", "incrby", "plain", ""): "incr decr incrby decrby",
    ("$", "incrbyfloat", "plain", ""): "incrbyfloat",
    ("$", "incrby", "counter", "incrbyfloat"): "increx",
    ("g", "del", "delete", ""): "del unlink getdel delex delifeq",
    ("g", "", "deadline", ""): "expire pexpire expireat pexpireat persist getex",
    ("g", "rename_from", "pair", "rename_to"): "rename renamenx",
    ("g", "move_from", "pair", "move_to"): "move",
    ("g", "", "pair", "copy_to"): "copy",
    ("g", "restore", "anew", ""): "restore",
    ("g", "", "silent", ""): "swapdb pfdebug",
    ("l", "sortstore", "store", ""): "sort",
    ("l", "lpush", "plain", ""): "lpush lpushx",
    ("l", "rpush", "plain", ""): "rpush rpushx",
    ("l", "lpop", "plain", ""): "lpop blpop",
    ("l", "rpop", "plain", ""): "rpop brpop",
    ("l", "lpop", "ends", "rpop"): "lmpop blmpop",
    ("l", "rpop", "move", "lpush"): "lmove blmove lmovem blmovem rpoplpush brpoplpush",
    ("l", "linsert", "plain", ""): "linsert",
    ("l", "lset", "plain", ""): "lset",
    ("l", "lrem", "plain", ""): "lrem",
    ("l", "ltrim", "plain", ""): "ltrim",
    ("s", "sadd", "plain", ""): "sadd",
    ("s", "srem", "plain", ""): "srem",
    ("s", "spop", "plain", ""): "spop",
    ("s", "srem", "smove", "sadd"): "smove",
    ("s", "sinterstore", "store", ""): "sinterstore",
    ("s", "sunionstore", "store", ""): "sunionstore",
    ("s", "sdiffstore", "store", ""): "sdiffstore",
    ("h", "hset", "plain", ""): "hset hsetnx hmset",
    ("h", "hincrby", "plain", ""): "hincrby",
    ("h", "hincrbyfloat", "plain", ""): "hincrbyfloat",
    ("h", "hdel", "plain", ""): "hdel hgetdel",
    ("z", "zadd", "score", "zincr"): "zadd",
    ("z", "zincr", "plain", ""): "zincrby",
    ("z", "zadd", "plain", ""): "geoadd",
    ("z", "zrem", "plain", ""): "zrem",
    ("z", "zremrangebyscore", "plain", ""): "zremrangebyscore",
    ("z", "zremrangebyrank", "plain", ""): "zremrangebyrank",
    ("z", "zremrangebylex", "plain", ""): "zremrangebylex",
    ("z", "zpopmin", "plain", ""): "zpopmin bzpopmin",
    ("z", "zpopmax", "plain", ""): "zpopmax bzpopmax",
    ("z", "zpopmin", "ends", "zpopmax"): "zmpop bzmpop",
    ("z", "zunionstore", "store", ""): "zunionstore",
    ("z", "zinterstore", "store", ""): "zinterstore",
    ("z", "zdiffstore", "store", ""): "zdiffstore",
    ("z", "zrangestore", "store", ""): "zrangestore",
    ("z", "geosearchstore", "store", ""): "geosearchstore",
    ("z", "georadiusstore", "store", ""): "georadius georadiusbymember",
    ("t", "xadd", "trims", "xtrim"): "xadd",
    ("t", "xdel", "plain", ""): "xdel",
    ("t", "xtrim", "plain", ""): "xtrim",
    ("t", "xsetid", "plain", ""): "xsetid",
    ("t", "xgroup-create", "plain", ""): "xgroup|create",
    ("t", "xgroup-setid", "plain", ""): "xgroup|setid",
    ("t", "xgroup-destroy", "plain", ""): "xgroup|destroy",
    ("t", "xgroup-createconsumer", "plain", ""): "xgroup|createconsumer",
    ("t", "xgroup-delconsumer", "plain", ""): "xgroup|delconsumer",
    ("t", "xgroup-createconsumer", "consumer", ""): "xreadgroup xclaim xautoclaim",
}

NO_REPLY = object()     # of a Python command that says nothing (CLIENT REPLY OFF, SHUTDOWN)


# ---- keys ----------------------------------------------------------------------------------------
# Each class is a way to find keys among the arguments. `find` answers where they stand in argv,
# which satisfies the arity, or None where argv cannot be right: then the command has no keys.
# `begin` and `rest` are Redis's key specification: where to begin, and what to find there.

@dataclass(frozen=True, slots=True)
class KeyRange:
    """argv[first] (to argv[last], every step-th; a negative last counts from the end)."""
    access: str
    first: int
    last: int = 0           # 0: first
    step: int = 1

    def find(self, argv: list[bytes]) -> list[int] | None:
        last = self.last or self.first
        return list(range(self.first, (len(argv) + last if last < 0 else last) + 1, self.step))

    @property
    def begin(self) -> dict:
        return {"type": "index", "spec": {"index": self.first}}

    @property
    def rest(self) -> dict:
        last = self.last - self.first if self.last > 0 else self.last
        return range_spec(last, self.step)


@dataclass(frozen=True, slots=True)
class CountedKeys:
    """`numkeys key...`, numkeys at argv[at]; with a step of 2, a value behind each key."""
    access: str
    at: int
    step: int = 1

    def find(self, argv: list[bytes]) -> list[int] | None:
        n = int(argv[self.at]) if argv[self.at].isdigit() else 0
        places = range(self.at + 1, self.at + 1 + n * self.step, self.step)
        return list(places) if 0 < n and places[-1] + self.step <= len(argv) else None

    @property
    def begin(self) -> dict:
        return {"type": "index", "spec": {"index": self.at}}

    @property
    def rest(self) -> dict:
        return {"type": "keynum", "spec": {"keynumidx": 0, "firstkey": 1, "keystep": self.step}}


@dataclass(frozen=True, slots=True)
class KeyAfter:
    """What stands behind the first of this word from argv[start] on."""
    access: str
    word: str
    start: int

    def find(self, argv: list[bytes]) -> list[int] | None:
        options = [a.upper() for a in argv[self.start:-1]]
        word = self.word.encode()
        return [self.start + options.index(word) + 1] if word in options else []

    @property
    def begin(self) -> dict:
        return {"type": "keyword", "spec": {"keyword": self.word, "startfrom": self.start}}

    @property
    def rest(self) -> dict:
        return range_spec(0, 1)


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """The first half of what stands behind the first STREAMS that is no option's value. `start` is
    what the specification says, which knows of no options."""
    access: str
    start: int

    def find(self, argv: list[bytes]) -> list[int] | None:
        words, first = [a.upper() for a in argv], 1
        while words[first:first + 1] not in ([], [b"STREAMS"]):
            first += {b"GROUP": 3, b"COUNT": 2, b"BLOCK": 2, b"CLAIM": 2}.get(words[first], 1)
        first += 1
        n = len(argv) - first
        return list(range(first, first + n // 2)) if n > 0 and n % 2 == 0 else None

    @property
    def begin(self) -> dict:
        return {"type": "keyword", "spec": {"keyword": "STREAMS", "startfrom": self.start}}

    @property
    def rest(self) -> dict:
        return {"type": "range", "spec": {"lastkey": -1, "keystep": 1, "limit": 2}}


@dataclass(frozen=True, slots=True)
class OtherKeys:
    """Keys of which a specification cannot tell where they stand. `where` finds those in argv."""
    access: str
    where: Callable[[list[bytes]], list[int]] | None = None     # None: not even that can be told

    def find(self, argv: list[bytes]) -> list[int] | None:
        return self.where(argv) if self.where is not None else []

    @property
    def nowhere(self) -> bool:
        return self.where is None

    @property
    def begin(self) -> dict:
        return {"type": "unknown", "spec": {}}

    rest = begin


Keys = KeyRange | CountedKeys | KeyAfter | StreamKeys | OtherKeys


def range_spec(last: int, step: int) -> dict:
    return {"type": "range", "spec": {"lastkey": last, "keystep": step, "limit": 0}}


# ---- the table -----------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class Spec:
    """One command. See the module's text for the fields."""
    name: str
    usage: str              # the synopsis without the name
    arity: int
    flags: frozenset[str]
    keys: tuple[Keys, ...]
    access_of: Callable[[list[bytes]], str] | None
    group: str
    since: str
    complexity: str
    tips: tuple[str, ...]
    summary: str
    replicas: str
    categories: frozenset[str]
    handler: object

    @property
    def container(self) -> str | None:
        head, bar, _ = self.name.partition("|")
        return head if bar else None

    @property
    def movable(self) -> bool:
        """Are there keys whose places the arguments decide?"""
        return not all(isinstance(k, KeyRange) for k in self.keys)

    @property
    def key_range(self) -> tuple[int, int, int]:
        """First, last and step as COMMAND INFO shows them; zeros where no place is fixed."""
        ranges = [k for k in self.keys if isinstance(k, KeyRange)]
        if not ranges:
            return 0, 0, 0
        return ranges[0].first, ranges[-1].last or ranges[-1].first, ranges[-1].step

    @property
    def redis_flags(self) -> list[str]:
        """The flags that COMMAND INFO shows, in a fixed order."""
        shown = self.flags - OWN_FLAGS
        if self.group == "scripting":           # whether a script writes is the script's affair
            shown -= {"may_replicate"}
        if self.movable:
            shown |= {"movablekeys"}
        return sorted(shown)

    def keys_in(self, argv: list[bytes]) -> list[tuple[int, str]]:
        """Where in argv the keys stand, and what becomes of each; argv satisfies the arity."""
        out = []
        for keys in self.keys:
            found = keys.find(argv)
            if found is None:
                return []
            out += [(i, self.access_of(argv) if self.access_of else keys.access) for i in found]
        return out

    def key_positions(self, argv: list[bytes]) -> list[int]:
        return [i for i, _ in self.keys_in(argv)]


COMMANDS: dict[str, Spec] = {}


def command(synopsis: str, *, arity: int, group: str, since: str, summary: str,
            complexity: str = "O(1)", flags: str = "", keys=(), access: str = "", access_of=None,
            tips: str = "", replicas: str = "", categories: str = ""):
    """Registers the handler it is called with, and returns it.

    categories  beside the derived ones; "-name" takes one of these away.
    """
    name, _, usage = synopsis.partition(" ")

    def register(handler):
        flag_set, words = frozenset(flags.split()), categories.split()
        derived = {c for c in derive_categories(flag_set, group) if f"-{c}" not in words}
        found = keys
        if keys and isinstance(keys[0], int):
            found = [KeyRange(access or "RO access" * ("readonly" in flag_set), *keys)]
        spec = Spec(name, usage, arity, flag_set, tuple(found), access_of, group, since, complexity,
                    tuple(tips.split()), summary, replicas,
                    frozenset(derived | {w for w in words if w[0] != "-"}), handler)
        check(spec)
        COMMANDS[name] = spec
        return handler
    return register


def check(spec: Spec) -> None:
    """Refuses a registration that cannot be right: a mistake stops a test run, not a client."""
    def refuse(why: str):
        raise ValueError(f"command {spec.name}: {why}")

    if spec.name != spec.name.upper() or not spec.name or len(spec.name) > 47:
        refuse("the name is upper case and at most 47 bytes long")
    if spec.name in COMMANDS:
        refuse("registered twice")
    if unknown := spec.flags - FLAGS:
        refuse(f"unknown flags {sorted(unknown)}")
    if spec.flags >= {"write", "readonly"}:
        refuse("either it writes or it is readonly")
    if "write" in spec.flags and not spec.replicas:
        refuse("a command that writes says what concurrent replicas get")
    if spec.arity == 0 or (spec.container and abs(spec.arity) < 2):
        refuse("arity counts the name, and the subcommand's")
    required = abs(spec.arity) - 1
    for keys in spec.keys:
        if isinstance(keys, CountedKeys) and not 0 < keys.at <= required:
            refuse("arity does not reach the number of keys")
        if isinstance(keys, KeyRange):
            first, last, step = keys.first, keys.last or keys.first, keys.step
            if first < 1 or step < 1 or 0 <= last < first:
                refuse("keys are (first >= 1, last >= first or negative, step >= 1)")
            may_be_none = last < 0 and keys != spec.keys[0] or "no_mandatory_keys" in spec.flags
            if first > required and not may_be_none:
                refuse("arity does not reach the first key")
            if last > required or (spec.arity > 0 and last < 0 and required + 1 + last < first):
                refuse("arity does not reach the last key")
        if not keys.access:
            refuse("access says what becomes of its keys")
    if spec.handler is None and not spec.container:
        refuse("only a subcommand may leave the work to its container")


def derive_categories(flags: frozenset[str], group: str) -> frozenset[str]:
    """Redis's access categories, without the '@', by its own rules."""
    found = set()
    if group in GROUP_CATEGORIES and "container" not in flags:      # which its subcommands have
        found.add(GROUP_CATEGORIES[group])
    found |= flags & {"write", "admin", "pubsub", "fast", "blocking"}
    if "readonly" in flags and group not in ("scripting", "connection", "server", "transactions"):
        found.add("read")
    if "admin" in flags:
        found.add("dangerous")
    if "fast" not in flags:
        found.add("slow")
    return frozenset(found)


def load() -> dict[str, Spec]:
    """Imports every module of this package, each of which registers its commands."""
    package = importlib.import_module("crdtredis.commands")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"crdtredis.commands.{module}")
    for spec in COMMANDS.values():
        if spec.container and spec.container not in COMMANDS:
            raise ValueError(f"command {spec.name}: its container is not registered")
    return COMMANDS

"""The command table: one registration for every command, native or Python, from which all else is
derived.

A Python command is a Python function, registered by a decorator:

    @command("CONFIG|GET", arity=-3, flags="admin noscript loading stale", group="server",
    since="2.0.0",
             complexity="O(N) with the number of settings matched", summary="Answers the settings
             whose names match.")
    def config_get(session, argv): ...          # argv: list[bytes], argv[0] the name as sent; returns a reply object

It returns what _resp's reply_object takes, or NO_REPLY, or raises errors.CommandError. A native
command is a C function `void f(Call *c) noexcept nogil` in a .pyx and is registered by the same
call, in the same words:

    command("GET", arity=2, flags="readonly fast", keys=(1, 1, 1), group="string", since="1.0.0",
    ...)(native(get))

- arity counts the name; negative means "at least".
- flags are Redis's (COMMAND INFO shows them), and three of our own, which it does not show:
  no_queue (runs at once inside MULTI), container (has subcommands), exec (EXEC itself).
- keys is (first, last, step) as in COMMAND INFO, None, or a function argv -> list of positions of
  the keys.
- A name with a bar is a subcommand. Its container is registered too; the subcommand's function runs
  if it has one, the container's otherwise (register None), and arity, flags and statistics are the
  subcommand's own.
- replicas says what concurrent replicas get, in a sentence; a command that writes must say it.

What is wrong is refused here, at import: see `check`.
"""
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

FLAGS = frozenset("""
    write readonly denyoom admin pubsub noscript blocking loading stale skip_monitor skip_slowlog asking fast no_auth may_replicate
    no_mandatory_keys movablekeys no_multi no_async_loading allow_busy
    no_queue container exec
""".split())
OWN_FLAGS = frozenset({"no_queue", "container", "exec"})
# Access categories that the group alone decides; the rest follows from the flags.
GROUP_CATEGORIES = {"generic": "keyspace", "string": "string", "bitmap": "bitmap", "hash": "hash",
                    "list": "list", "set": "set",
                    "sorted-set": "sortedset", "stream": "stream", "hyperloglog": "hyperloglog",
                    "geo": "geo", "pubsub": "pubsub",
                    "scripting": "scripting", "connection": "connection",
                    "transactions": "transaction"}

NO_REPLY = object()     # what a Python command that says nothing returns (CLIENT REPLY OFF)


@dataclass(frozen=True, slots=True)
class Spec:
    """One command. See the module's text for the fields."""
    name: str
    arity: int
    flags: frozenset[str]
    keys: tuple[int, int, int] | Callable[[list[bytes]], list[int]] | None
    group: str
    since: str
    complexity: str
    summary: str
    replicas: str
    categories: frozenset[str]
    handler: object

    @property
    def container(self) -> str | None:
        head, bar, _ = self.name.partition("|")
        return head if bar else None

    @property
    def redis_flags(self) -> list[str]:
        """The flags that COMMAND INFO shows, in a fixed order."""
        shown = self.flags - OWN_FLAGS
        if callable(self.keys):
            shown |= {"movablekeys"}
        return sorted(shown)

    def key_positions(self, argv: list[bytes]) -> list[int]:
        """Where in argv the keys stand; argv satisfies the arity."""
        if self.keys is None:
            return []
        if callable(self.keys):
            return self.keys(argv)
        first, last, step = self.keys
        end = len(argv) + last if last < 0 else last
        return list(range(first, end + 1, step))


def counted_keys(at: int, target: bool = False) -> Callable[[list[bytes]], list[int]]:
    """For `keys`: where the keys of `numkeys key...` stand, numkeys at argv[at]; with target also
    argv[1]. A number that cannot be right has none."""
    def positions(argv: list[bytes]) -> list[int]:
        n = int(argv[at]) if argv[at].isdigit() else 0
        return [1] * target + list(range(at + 1, at + 1 + n)) if 0 < n < len(argv) - at else []
    return positions


def keyword_keys(start: int, *words: bytes) -> Callable[[list[bytes]], list[int]]:
    """For `keys`: argv[1], and what stands behind the first of each of the words from argv[start]
    on."""
    def positions(argv: list[bytes]) -> list[int]:
        options = [a.upper() for a in argv[start:-1]]
        return [1] + [start + options.index(w) + 1 for w in words if w in options]
    return positions


COMMANDS: dict[str, Spec] = {}


def command(name: str, *, arity: int, group: str, since: str, summary: str,
            complexity: str = "O(1)", flags: str = "",
            keys=None, replicas: str = "", categories: str = ""):
    """Registers the handler it is called with, and returns it. `categories` are beside the derived
    ones; "-name" takes one of these away."""
    def register(handler):
        flag_set, words = frozenset(flags.split()), categories.split()
        derived = {c for c in derive_categories(flag_set, group) if f"-{c}" not in words}
        spec = Spec(name, arity, flag_set, keys, group, since, complexity, summary, replicas,
                    frozenset(derived | {w for w in words if w[0] != "-"}), handler)
        check(spec)
        COMMANDS[name] = spec
        return handler
    return register


def check(spec: Spec) -> None:
    """Refuses a registration that cannot be right, so that a mistake stops the first test run and
    not a client."""
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
    if isinstance(spec.keys, tuple):
        first, last, step = spec.keys
        required = abs(spec.arity) - 1
        if first < 1 or step < 1 or (0 <= last < first):
            refuse("keys are (first >= 1, last >= first or negative, step >= 1)")
        if first > required and "no_mandatory_keys" not in spec.flags:
            refuse("arity does not reach the first key")
        if last > required or (spec.arity > 0 and last < 0 and required + 1 + last < first):
            refuse("arity does not reach the last key")
    if spec.handler is None and not spec.container:
        refuse("only a subcommand may leave the work to its container")


def derive_categories(flags: frozenset[str], group: str) -> frozenset[str]:
    """Redis's access categories, without the '@', by its own rules."""
    found = {GROUP_CATEGORIES[group]} if group in GROUP_CATEGORIES else set()
    for flag, category in (("write", "write"), ("admin", "admin"), ("pubsub", "pubsub"),
                           ("fast", "fast"), ("blocking", "blocking")):
        if flag in flags:
            found.add(category)
    if "readonly" in flags and group not in ("scripting", "connection", "server", "transactions"):
        found.add("read")
    if "admin" in flags:
        found.add("dangerous")
    if "fast" not in flags:
        found.add("slow")
    return frozenset(found)


def load() -> dict[str, Spec]:
    """Imports every module of this package, each of which registers its commands; answers the whole
    table."""
    package = importlib.import_module("crdtredis.commands")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"crdtredis.commands.{module}")
    for spec in COMMANDS.values():
        if spec.container and spec.container not in COMMANDS:
            raise ValueError(f"command {spec.name}: its container is not registered")
    return COMMANDS

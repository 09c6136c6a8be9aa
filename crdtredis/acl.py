"""Users: who may log in, and what each may do, in the rules of Redis's ACL.

    alice on #<sha256> ~cache:* %R~config:* resetchannels &news -@all +@read +set (~tmp:* +del)

A user has a name, is on or off, has passwords (SHA-256) or needs none, and selectors. The first
selector holds the rules given directly; each pair of parentheses is a further one. A command runs
if one selector allows it with all its keys and channels. Rules are read here and compiled to bits
and patterns (Account.set_rights), which engine/acl.pxi checks.

A change is all or nothing: rules are applied to a copy, which takes the user's place when all of
them are right. What the rules say is kept as Redis keeps it (`rules`), so that ACL LIST shows them
in the order and words in which they were given.

The default user is the one of clients that have not logged in. It may do everything and needs no
password, until `requirepass`, rules or a file say otherwise.
"""
from __future__ import annotations

import errno
import hashlib
import hmac
import logging
import os
import re
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from crdtredis import redisconf
from crdtredis.errors import (ACL_MODIFIER, ACL_PARENTHESIS, ACL_TOO_MANY, ACL_TOO_MANY_RULES,
                              ACL_UNREAD, ACL_USERNAME, ACL_USERNAME_TOO_LONG, CommandError)
from crdtredis.kinds import is_loopback

log = logging.getLogger(__name__)

CATEGORIES = ("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap",
              "hyperloglog", "geo", "stream", "pubsub", "admin", "fast", "slow", "blocking",
              "dangerous", "connection", "transaction", "scripting")
WORDS = 16                  # of 64 bits, as Selector.commands in engine/acl.pxd
READ, WRITE = 1, 2          # AclPermission there
USERS_MOST = 100_000
RULES_MOST = 10_000         # patterns, passwords, first arguments and selectors of one user
NAME_MOST = 256             # bytes
LOG_SAME = 60.0             # s in which refusals of one kind are one entry of the log
# what a reason is counted as
COUNTED = {"command": "cmd", "tls-cert": "tls_cert"}
LOG_LOOK = 10               # the newest entries that may be of that kind
SPACE = re.compile(rb"[\s\0]")

UNKNOWN = "Unknown command or category name in ACL"
WRONG = "Syntax error"
AFTER_ALL_KEYS = ("Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and "
                  "does not have any effect. Try 'resetkeys' to start with an empty list of "
                  "patterns")
AFTER_ALL_CHANNELS = ("Adding a pattern after the * pattern (or the 'allchannels' flag) is not "
                      "valid and does not have any effect. Try 'resetchannels' to start with an "
                      "empty list of channels")
NO_SUCH_PASSWORD = "The password you are trying to remove from the user does not exist"
BAD_HASH = ("The password hash must be exactly 64 characters and contain only lowercase "
            "hexadecimal characters")
OF_SUBCOMMAND = "Allowing first-arg of a subcommand is not supported"


class RuleError(ValueError):
    """A rule that cannot be applied, and why."""


def text_of(b: bytes) -> str:
    return b.decode("utf-8", "surrogateescape")


def bytes_of(s: str) -> bytes:
    return s.encode("utf-8", "surrogateescape")


def command_name(rule: str) -> str:
    """As in the command table; only letters of ASCII have another case."""
    return text_of(bytes_of(rule).upper())


class Commands:
    """What rules need to know of the command table: bits by the order of registration."""

    def __init__(self, specs: Mapping[str, Any]) -> None:
        self.index = {name: i for i, name in enumerate(specs)}
        if len(self.index) > 64 * WORDS:
            raise ValueError("there are more commands than bits for them")
        self.all = (1 << len(self.index)) - 1
        self.containers = {s.container for s in specs.values() if s.container}
        self.whole = {name: 1 << i for name, i in self.index.items()}
        for name, spec in specs.items():
            if spec.container:
                self.whole[spec.container] |= 1 << self.index[name]
        self.category = dict.fromkeys(CATEGORIES, 0)
        for name, spec in specs.items():
            for category in spec.categories:
                self.category[category] = self.category.get(category, 0) | self.whole[name]


class Selector:
    """A set of rules that a command has to fit as a whole."""

    def __init__(self, all_channels: bool = False) -> None:
        self.allowed = 0                            # bits by Commands.index
        self.all_commands = False                   # begins with +@all, not with -@all
        self.rules: dict[str, bool] = {}            # what followed that: "get" -> allowed
        self.parts: dict[str, dict[str, None]] = {}     # of these, "get" -> "get|a" and the like
        self.first_args: dict[str, dict[bytes, None]] = {}
        self.all_keys = False
        self.keys: dict[bytes, int] = {}            # pattern -> READ | WRITE
        self.all_channels = all_channels
        self.channels: dict[bytes, None] = {}

    def copy(self) -> Selector:
        other = Selector.__new__(Selector)
        other.__dict__.update(self.__dict__)
        other.rules, other.channels = dict(self.rules), dict(self.channels)
        other.keys = dict(self.keys)
        other.parts = {name: dict(parts) for name, parts in self.parts.items()}
        other.first_args = {name: dict(args) for name, args in self.first_args.items()}
        return other

    @property
    def size(self) -> int:
        return len(self.keys) + len(self.channels) + len(self.rules)

    # -- rules

    def apply(self, op: bytes, commands: Commands) -> None:
        """RuleError."""
        word = op.lower()
        if word in (b"allkeys", b"~*", b"resetkeys"):
            self.all_keys = word != b"resetkeys"
            self.keys.clear()
        elif word in (b"allchannels", b"&*", b"resetchannels"):
            self.all_channels = word != b"resetchannels"
            self.channels.clear()
        elif word in (b"allcommands", b"+@all", b"nocommands", b"-@all"):
            self.all_commands = word in (b"allcommands", b"+@all")
            self.allowed = commands.all if self.all_commands else 0
            self.rules.clear()
            self.parts.clear()
            self.first_args.clear()
        elif op[:1] in (b"~", b"%"):
            self._add_keys(op)
        elif op[:1] == b"&":
            if self.all_channels:
                raise RuleError(AFTER_ALL_CHANNELS)
            if SPACE.search(op):
                raise RuleError(WRONG)
            self.channels.setdefault(op[1:])
        elif op[:1] in (b"+", b"-") and op[1:2] == b"@":
            self._set_category(text_of(word[2:]), op[:1] == b"+", commands)
        elif op[:1] == b"+" and b"|" in op:
            self._add_part(op, commands)
        elif op[:1] in (b"+", b"-"):
            self._set(text_of(word[1:]), op[:1] == b"+", commands)
        else:
            raise RuleError(WRONG)

    def _add_keys(self, op: bytes) -> None:
        if self.all_keys:
            raise RuleError(AFTER_ALL_KEYS)
        found = re.fullmatch(rb"(?:~|%([rwRW]{1,2})~)([^\s\0]*)", op)
        if found is None or (found[1] or b"").lower() in (b"rr", b"ww"):
            raise RuleError(WRONG)
        permission = READ | WRITE
        if found[1] is not None:
            letters = found[1].lower()
            permission = READ * (b"r" in letters) | WRITE * (b"w" in letters)
        self.keys[found[2]] = self.keys.get(found[2], 0) | permission

    def _note(self, rule: str, allow: bool) -> None:
        """What was said before of the same command, or of its subcommands, is no longer so."""
        for said in (rule, *self.parts.pop(rule, ())):
            self.rules.pop(said, None)
        self.rules[rule] = allow
        name, bar, _ = rule.partition("|")
        if bar:
            self.parts.setdefault(name, {})[rule] = None

    def _put(self, bits: int, allow: bool) -> None:
        self.allowed = self.allowed | bits if allow else self.allowed & ~bits

    def _set_category(self, name: str, allow: bool, commands: Commands) -> None:
        if name not in CATEGORIES:
            raise RuleError(UNKNOWN)
        self._note("@" + name, allow)
        bits = commands.category[name]
        self._put(bits, allow)
        self.first_args = {c: a for c, a in self.first_args.items()
                           if not bits >> commands.index[c] & 1}

    def _set(self, name: str, allow: bool, commands: Commands) -> None:
        command = command_name(name)
        if command not in commands.index:
            raise RuleError(UNKNOWN)
        self._put(commands.whole[command], allow)
        self.first_args.pop(command, None)
        self._note(name, allow)

    def _add_part(self, op: bytes, commands: Commands) -> None:
        """+config|get, a subcommand; +select|0, a command with this first argument only."""
        name, _, part = text_of(op[1:]).rpartition("|")
        command = command_name(name)
        if command not in commands.index:
            raise RuleError(UNKNOWN)
        if "|" in command:
            raise RuleError(OF_SUBCOMMAND)
        if not part:
            raise RuleError(WRONG)
        if command in commands.containers:
            self._set(text_of(op[1:].lower()), True, commands)
            return
        self.first_args.setdefault(command, {}).setdefault(bytes_of(part).lower())
        self._note(text_of(op[1:].lower()), True)

    # -- what it is, told and compiled

    @property
    def command_rules(self) -> str:
        return " ".join(["+@all" if self.all_commands else "-@all",
                         *("-+"[allowed] + rule for rule, allowed in self.rules.items())])

    @property
    def key_rules(self) -> bytes:
        if self.all_keys:
            return b"~*"
        prefix = {READ: b"%R~", WRITE: b"%W~", READ | WRITE: b"~"}
        return b" ".join(prefix[permission] + key for key, permission in self.keys.items())

    @property
    def channel_rules(self) -> bytes:
        return b"&*" if self.all_channels else b" ".join(b"&" + c for c in self.channels)

    def describe(self) -> bytes:
        channels = [] if self.all_channels else [b"resetchannels"]
        return b" ".join(filter(None, [self.key_rules, *channels, self.channel_rules,
                                       bytes_of(self.command_rules)]))

    def compiled(self, commands: Commands) -> tuple:
        """For Account.set_rights."""
        firsts = [(commands.index[name], arg) for name, args in self.first_args.items()
                  for arg in args]
        return (self.allowed.to_bytes(8 * WORDS, "little"), self.allowed == commands.all, firsts,
                self.all_keys, [(permission, key) for key, permission in self.keys.items()],
                self.all_channels, list(self.channels))


class User:
    def __init__(self, name: bytes, all_channels: bool = False) -> None:
        self.name = name
        self.on = False
        self.nopass = False
        self.sanitize = True
        self.passwords: dict[str, None] = {}        # SHA-256, in hexadecimal
        self.selectors = [Selector(all_channels)]
        self.others = 0                             # rules in all selectors but the first
        self.unread = False                         # it has rules of a newer version: it is off
        self.account: Any = None                    # _engine.Account, once it is in force

    def copy(self) -> User:
        other = User(self.name)
        other.__dict__.update(self.__dict__)
        other.passwords = dict(self.passwords)
        other.selectors = [s.copy() for s in self.selectors]
        return other

    def apply(self, op: bytes, commands: Commands, all_channels: bool) -> None:
        """One rule; all_channels: what a new selector begins with. RuleError."""
        word = op.lower()
        if not op:
            return
        if word in (b"on", b"off"):
            self.on = word == b"on"
        elif word in (b"sanitize-payload", b"skip-sanitize-payload"):
            self.sanitize = word == b"sanitize-payload"
        elif word in (b"nopass", b"resetpass"):
            self.nopass = word == b"nopass"
            self.passwords.clear()
        elif op[:1] in (b">", b"#"):
            self.passwords.setdefault(self._hash(op))
            self.nopass = False
        elif op[:1] in (b"<", b"!"):
            hashed = self._hash(op)
            if hashed not in self.passwords:
                raise RuleError(NO_SUCH_PASSWORD)
            del self.passwords[hashed]
        elif op[:1] == b"(" and op[-1:] == b")":
            selector = Selector(all_channels)
            for inner in op[1:-1].split():
                selector.apply(inner, commands)
                self._limit(self.others + selector.size)
            self.selectors.append(selector)
            self.others += 1 + selector.size
        elif word == b"clearselectors":
            del self.selectors[1:]
            self.others = 0
        elif word == b"reset":
            self.on, self.nopass, self.sanitize = False, False, True
            self.passwords.clear()
            self.selectors, self.others = [Selector(all_channels)], 0
        else:
            self.selectors[0].apply(op, commands)
        self._limit(len(self.passwords) + 1 + self.selectors[0].size + self.others)

    @staticmethod
    def _limit(rules: int) -> None:
        if rules > RULES_MOST:
            raise CommandError(ACL_TOO_MANY_RULES)

    @staticmethod
    def _hash(op: bytes) -> str:
        if op[:1] in (b">", b"<"):
            return hashlib.sha256(op[1:]).hexdigest()
        if not re.fullmatch(rb"[0-9a-f]{64}", op[1:]):
            raise RuleError(BAD_HASH)
        return op[1:].decode()

    @property
    def flags(self) -> list[str]:
        return ["on" if self.on else "off", *["nopass"] * self.nopass,
                "sanitize-payload" if self.sanitize else "skip-sanitize-payload"]

    def describe(self) -> bytes:
        """The user as a line of a file, from its name on: rules that make the same user."""
        first, *others = [s.describe() for s in self.selectors]
        return b" ".join([self.name, *map(bytes_of, self.flags),
                          *(b"#" + bytes_of(p) for p in self.passwords), first,
                          *(b"(" + s + b")" for s in others)])

    def is_password(self, password: bytes) -> bool:
        hashed = hashlib.sha256(password).hexdigest()
        same = [hmac.compare_digest(hashed, p) for p in self.passwords]
        return self.nopass or any(same)


def joined(ops: Iterable[bytes]) -> list[bytes]:
    """Rules, with those in parentheses as one each. CommandError."""
    out: list[bytes] = []
    open_rule: list[bytes] = []
    for op in ops:
        if open_rule or (op[:1] == b"(" and op[-1:] != b")"):
            open_rule.append(op)
            if op[-1:] == b")" and len(open_rule) > 1:
                out.append(b" ".join(open_rule))
                open_rule = []
        else:
            out.append(op)
    if open_rule:
        raise CommandError(ACL_PARENTHESIS % text_of(open_rule[0]))
    return out


class FileError(Exception):
    """A file of users, or `user` lines, with mistakes: nothing was changed."""


class Users:
    """All users of one server, and the log of what was refused them.

    specs       the command table.
    default     the Account of the default user.
    clock       s since 1970.
    pending     what puts in the log what the engine has refused so far.
    shared      with replicate_acl, commands.shared_users.SharedUsers, which hears of each change
                before it is in force and may refuse it; else None.
    """

    # a client of _engine -> its row of CLIENT LIST; set by commands/acl.py
    describe_client: Callable[[Any], str] = staticmethod(lambda session: "")

    def __init__(self, specs: Mapping[str, Any], default: Any,
                 pending: Callable[[], None] = lambda: None,
                 clock: Callable[[], float] = time.time) -> None:
        self.commands = Commands(specs)
        self.clock = clock
        self.all_channels = False                   # acl-pubsub-default: of new users
        self.password: bytes | None = None          # requirepass
        self.users: dict[bytes, User] = {}
        self.pending = pending
        self._log: deque[dict] = deque()
        self.log_most = 128
        self.logged = 0                             # entries ever
        self._refused = dict.fromkeys(("auth", "cmd", "key", "channel", "tls_cert"), 0)
        self.root = default
        self.shared: Any = None
        self.put(self._new_default())

    # -- users

    @property
    def default(self) -> User:
        return self.users[b"default"]

    def _new_default(self) -> User:
        user = User(b"default")
        self._apply(user, [b"+@all", b"~*", b"&*", b"on"])
        self._set_password(user, self.password)
        return user

    def _apply(self, user: User, ops: Iterable[bytes]) -> None:
        for op in ops:
            user.apply(op, self.commands, self.all_channels)

    def put(self, user: User) -> list[int]:
        """Brings a user into force, in the place of the one of its name. The ids of its clients
        that are subscribed to what it may not listen to."""
        before = self.users.get(user.name)
        user.account = (before.account if before is not None
                        else self.root if user.name == b"default" else self.root.another(user.name))
        self.users[user.name] = user
        user.account.set_rights([s.compiled(self.commands) for s in user.selectors])
        if user.name == b"default":
            user.account.set_open(self.open)
        return user.account.forbidden_listeners()

    @staticmethod
    def _set_password(user: User, password: bytes | None) -> None:
        user.nopass = password is None
        user.passwords = ({} if password is None
                          else {hashlib.sha256(password).hexdigest(): None})

    def set_password(self, password: bytes | None) -> None:
        """requirepass: the one password of the default user; None: it needs none."""
        self.password = password
        own = self.users if self.shared is None else self.shared.own
        user = own.get(b"default", self.default).copy()
        self._set_password(user, password)
        own[b"default"] = user
        if not self.is_shared(b"default"):
            self.put(user)

    def is_shared(self, name: bytes) -> bool:
        return self.shared is not None and self.shared.has(name)

    def names(self) -> list[bytes]:
        return sorted(self.users)

    def set(self, name: bytes, ops: Sequence[bytes]) -> list[int]:
        """ACL SETUSER. The ids of clients to close; CommandError, and nothing was changed."""
        check_name(name)
        before = self.users.get(name)
        if before is None and len(self.users) >= USERS_MOST:
            raise CommandError(ACL_TOO_MANY)
        if before is not None and before.unread and (not ops or ops[0].lower() != b"reset"):
            raise CommandError(ACL_UNREAD % text_of(name))
        user = before.copy() if before is not None else User(name, self.all_channels)
        user.unread = False
        for op in joined(ops):
            try:
                user.apply(op, self.commands, self.all_channels)
            except RuleError as e:
                raise CommandError(ACL_MODIFIER % (text_of(op), e)) from None
        if self.shared is not None:
            self.shared.write({name: user})
        return self.put(user)

    def remove(self, names: Iterable[bytes]) -> tuple[int, list[int]]:
        """ACL DELUSER: how many there were; the ids of clients to close. CommandError, and nothing
        was changed."""
        there = {n for n in names
                 if n in self.users or (self.shared is not None and n in self.shared.fields)}
        if there and self.shared is not None:
            self.shared.write(dict.fromkeys(there))
        return len(there), [i for n in there for i in self.delete(n) or []]

    def delete(self, name: bytes) -> list[int] | None:
        """The ids of its clients, who are to be closed; None: there is no such user."""
        user = self.users.pop(name, None)
        return user.account.drop_clients() if user is not None else None

    def login(self, name: bytes, password: bytes) -> User | None:
        user = self.users.get(name)
        return user if user is not None and user.on and user.is_password(password) else None

    def login_by_certificate(self, session: Any, name: bytes) -> None:
        """A client showed one with this common name. Where that is no user who may log in, it
        stays who it is."""
        user = self.users.get(name)
        if user is not None and user.on:
            session.become(user.account)
        else:
            self.denied(session, "tls-cert", "toplevel", b"", name[:NAME_MOST])

    # -- files

    def read(self, lines: Iterable[tuple[str, list[bytes]]]) -> dict[bytes, User]:
        """Users of the words of lines `user NAME RULES`, each with where it stands. FileError with
        every mistake."""
        found: dict[bytes, User] = {}
        faults: list[str] = []
        for where, words in lines:
            if not words:
                continue
            if words[0] != b"user" or len(words) < 2:
                faults.append(f"{where} should start with user keyword followed by the username.")
                continue
            name = words[1]
            if name in found:
                faults.append(f"WARNING: Duplicate user '{text_of(name)}' found on line "
                              f"{where.rpartition(':')[2]}.")
                continue
            found[name] = user = User(name, self.all_channels)
            if SPACE.search(name) or len(name) > NAME_MOST:
                faults.append(f"{where}: username '{text_of(name)}' contains invalid characters.")
            faults += self._faults(user, words[2:], where)
        if len(found) > USERS_MOST:
            faults.append(ACL_TOO_MANY)
        if faults:
            raise FileError(" ".join(faults))
        return found

    def _faults(self, user: User, words: list[bytes], where: str) -> list[str]:
        faults: list[str] = []
        try:
            ops = joined(words)
        except CommandError:
            return [f"{where}: Unmatched parenthesis in selector definition."]
        for op in ops:
            try:
                user.apply(op, self.commands, self.all_channels)
            except RuleError as e:
                if str(e) == UNKNOWN:
                    faults.append(f"{where}: Error in applying operation '{text_of(op)}': {e}.")
                else:               # what follows may be wrong for that alone; it may be secret
                    return [*faults, f"{where}: {e}."]
            except CommandError as e:
                return [*faults, f"{where}: {e}."]
        return faults

    def replace(self, found: Mapping[bytes, User]) -> list[int]:
        """These are all users there are, with the default one as requirepass makes it where it is
        not among them. The ids of clients to close."""
        found = {b"default": self._new_default(), **found}
        closed: list[int] = []
        for name in [n for n in self.users if n not in found]:
            closed += self.delete(name) or []
        for user in found.values():
            closed += self.put(user)
        return closed

    def load(self, path: str) -> list[int]:
        """ACL LOAD: all or nothing. The ids of clients to close; FileError; CommandError."""
        found = self.read_file(path)
        if self.shared is not None:
            for name in found:                      # ACL SAVE wrote what is left of its rules
                if (before := self.users.get(name)) is not None and before.unread:
                    raise CommandError(ACL_UNREAD % text_of(name))
            there = self.users.keys() | self.shared.fields.keys() & self.shared.said.keys()
            self.shared.write({**dict.fromkeys(there - found.keys()), **found})
        return self.replace(found)

    def read_file(self, path: str) -> dict[bytes, User]:
        """The users of a file. FileError."""
        try:
            mode = os.stat(path).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):       # it might never end
                raise OSError(errno.EINVAL, "")
            with open(path, "rb") as f:
                text = f.read()
        except OSError as e:
            raise FileError(f"Error loading ACLs, opening file '{path}': "
                            f"{os.strerror(e.errno or 0)}") from None
        try:
            return self.read((f"{path}:{n}", line.split())
                             for n, line in enumerate(text.split(b"\n"), 1))
        except FileError as e:
            raise FileError(f"{e} WARNING: ACL errors detected, no change to the previously active "
                            "ACL rules was performed") from None

    def load_configured(self, config: Any) -> None:
        """The users of a config.Config, or of the file it names. FileError."""
        if config.aclfile:
            self.replace(self.read_file(config.aclfile))
        elif config.users:
            lines = []
            for n, line in enumerate(config.users, 1):
                try:
                    lines.append((f"user {n}", [b"user", *map(bytes_of, redisconf.split(line))]))
                except ValueError:
                    raise FileError(f"user {n}: unbalanced quotes") from None
            self.replace(self.read(lines))
        outside = [a.lstrip("-") for a in config.bind if not is_loopback(a)]
        listens = config.server_port or config.tls_port
        if config.protected_mode and listens and outside and self.open:
            raise FileError("expected a default user that is off or has a password, since bind "
                            f"opens {outside[0]} to other machines (or turn protected_mode off)")

    def save(self, path: str) -> None:
        """ACL SAVE. OSError, and the file is as it was."""
        temporary = f"{path}.tmp-{os.getpid()}"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
                f.writelines(b"user " + self.users[n].describe() + b"\n" for n in self.names())
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
        folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @property
    def open(self) -> bool:
        """Does the default user need no password?"""
        return self.default.on and self.default.nopass

    def lines(self) -> list[bytes]:
        """The users as they may stand in a configuration: without the default one where it is
        what requirepass makes of it, and without others that are replicated: nobody logs in as
        such a one while the next start loads."""
        plain = self._new_default().describe()
        users = self.users
        if self.shared is not None:
            users = {n: u for n, u in self.shared.own.items()
                     if n == b"default" or n not in self.shared.said}
        return [line for line in (users[n].describe() for n in sorted(users)) if line != plain]

    # -- the log

    @property
    def log(self) -> deque[dict]:
        """The latest first."""
        self.pending()
        return self._log

    @property
    def refused(self) -> dict[str, int]:
        """How often, by what it was for."""
        self.pending()
        return self._refused

    def denied(self, session: Any, reason: str, context: str, what: bytes, name: bytes) -> None:
        """A refusal that Python has made."""
        self.pending()
        self.log_denied(session, reason, context, what, name)

    def count_denied(self, reason: str, count: int) -> None:
        self._refused[COUNTED.get(reason, reason)] += count

    def log_denied(self, session: Any, reason: str, context: str, what: bytes, name: bytes,
                   count: int = 1, first: int = 0, last: int = 0) -> None:
        """session: of the client, None: it has gone. count refusals, the first and the last so
        many ms ago."""
        self.count_denied(reason, count)
        now = self.clock()
        row = self.describe_client(session) if session is not None else ""
        key = (reason, context, what, name)
        for i, entry in enumerate(islice(self._log, LOG_LOOK)):
            if entry["key"] == key and now - entry["updated"] <= LOG_SAME:
                del self._log[i]
                entry.update(count=entry["count"] + count, updated=now - last / 1000, client=row)
                break
        else:
            entry = {"key": key, "count": count, "client": row, "id": self.logged,
                     "created": now - first / 1000, "updated": now - last / 1000}
            self.logged += 1
        self._log.appendleft(entry)
        self.limit_log(self.log_most)

    def limit_log(self, most: int) -> None:
        self.log_most = most
        while len(self._log) > most:
            self._log.pop()


def check_name(name: bytes) -> None:
    if SPACE.search(name):
        raise CommandError(ACL_USERNAME)
    if len(name) > NAME_MOST:
        raise CommandError(ACL_USERNAME_TOO_LONG)

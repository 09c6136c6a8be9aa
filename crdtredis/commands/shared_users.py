"""Users that hold at all replicas, with `replicate_acl`.

The system's database holds a hash `users`. A field called as a user has the user's rules, as ACL
LIST gives them behind the name, passwords as SHA-256; so the later ACL SETUSER of a user holds,
whole, and one that ACL DELUSER has not observed survives it. A field `deleted ` and a name says
that the user was deleted; no name has a space.

    A: ACL SETUSER bob on +get ~a     B: ACL SETUSER bob on +set ~b     the later one, everywhere
    A: ACL DELUSER bob                B: ACL SETUSER bob off            bob, off

What is in force is a function of that hash and of the replica's own users, those of its
configuration or `aclfile` and those made while `replicate_acl` was off: of each name what the hash
says, rules or that it was deleted; where it says nothing, the own user. So all replicas have the
same users but for names that the hash does not know, and a user that was deleted does not come back
with a configuration that has it. (A deletion is remembered where a replica has such an own user,
also when others make the user anew and delete it again, and else for the last DELETED_MOST: users
that programs make and delete by the thousand must not fill the memory. A replica that has one and
learns of the deletion says so. Own users are never published by themselves: a replica that joins
with an old configuration would undo what the cluster has changed.)

Rules that this version does not understand make a user who is off and may do nothing: leaving the
user as it was could leave rights which that change took away. The hash keeps the rules for who
understands them, and the user can only be changed here with `reset` first.

Whoever may replicate may write all data, and so users. The bounds are for what peers do by mistake:
beyond them, in the order of names, users are not there, at all replicas alike.
"""
from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from crdtredis import audit, info
from crdtredis.acl import NAME_MOST, SPACE, RuleError, User, joined, text_of
from crdtredis.errors import (ACL_LINE_TOO_LONG, ACL_NOT_REPLICATED, ACL_TOO_MANY, CLOCK_AHEAD,
                              JOINING, LOADING, REPLICA_TOO_OLD, TOO_LARGE, CommandError)

log = logging.getLogger(__name__)

USERS = b"users"                        # the key
SYSTEM_DB = 16
DELETED = b"deleted "                   # a field begins so
DELETED_MOST = 1000
KEPT = b"kept"                          # of one of the replica's own users: always remembered
USERS_MOST = 10_000
LINE_MOST = 1 << 16                     # bytes of the rules of one user,
BYTES_MOST = 16 << 20                   # and of all
SHOWN = 10                              # names in a line of the log
SECRETS = (b"#", b">")                  # rules of passwords begin so


class SharedUsers:
    """Users.shared of a replica with `replicate_acl`.

    own     the users that the replica would have without the others, by name.
    fields  the hash, as last read or written.
    said    what of it holds, by name: rules; None: deleted.
    """

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.users, self.replica = executor.users, executor.replica
        self._clear()

    def _clear(self) -> None:
        self.own: dict[bytes, User] = {}
        # own users whose deletion is not yet said to be remembered
        self._unkept: set[bytes] = set()
        self.fields: dict[bytes, bytes] = {}
        self.said: dict[bytes, bytes | None] = {}
        self.n = self.size = 0                      # users in `fields`, and their bytes
        # Replica.users_changes when it was read; -1: `said` may not be what it says
        self.seen = -1

    # -- what is in force

    def begin(self) -> list[int]:
        """The users that there are now are the replica's own. The ids of clients to close."""
        self._clear()
        self.own = dict(self.users.users)
        return self.refresh(quiet=True)

    def begin_serving(self) -> list[int]:
        """begin, at the end of a start. Until then clients logged in as the replica's own users, or
        needed not: those are closed, too, who did so by what lets nobody in any longer."""
        closed, users = self.begin(), self.users.users
        past = {text_of(n) for n, u in self.own.items() if n in users and not admits(users[n], u)}
        if not past:
            return closed
        return closed + [row["id"] for row in self.executor.loop.clients() if row["user"] in past]

    def refresh(self, quiet: bool = False) -> list[int]:
        """Brings into force what has changed. quiet: it is no news. The ids of clients to close."""
        changes = self.replica.users_changes
        if changes == self.seen:
            return []
        known, self.seen, fields = self.seen >= 0, changes, self.replica.system_hash(USERS)
        if known and fields == self.fields:
            return []
        before, self.fields = self.said, fields
        self.said, self.n, self.size = admitted(fields)
        names = sorted({n for n, _ in before.items() ^ self.said.items()})
        closed: list[int] = []
        changed: dict[str, int] = {}
        for name in names:
            if name in before and before[name] is None and name not in self.said:
                continue                            # its deletion is no longer remembered
            past = self.users.users.get(name)
            closed += self._take(name)
            there = self.users.users.get(name)
            if past is not None and there is not None and not admits(there, past):
                changed[text_of(name)] = self._write(name).get("ms", 0)
            if name in self.own and self.said.get(name, b"") is None:
                self._unkept.add(name)
            if not quiet:
                self._tell(name)
        loop = self.executor.loop
        if changed and not quiet and loop is not None:
            closed += self._late(loop.clients(), changed)
        if self._unkept and loop is not None:
            loop.call_soon(self.remember)
        if names and not quiet:
            log.info("users changed by other replicas: %s%s",
                     ", ".join(repr(text_of(n)) for n in names[:SHOWN]),
                     f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        return closed

    def _late(self, clients: list[dict], changed: Mapping[str, int]) -> list[int]:
        """Those who have connected, by a second or more, after the user that they are was changed
        (ms) so that it would not have let them in: this replica, cut off or new, did not know."""
        now = self.replica.now
        return [row["id"] for row in clients
                if now - 1000 * (row["age"] + 1) > changed.get(row["user"], now)]

    def remember(self) -> None:
        """Says of deleted own users that their deletion is to be remembered."""
        fields = {DELETED + n: KEPT for n in self._unkept
                  if self.said.get(n, b"") is None and self.fields.get(DELETED + n, KEPT) != KEPT}
        try:
            if fields:
                self._check()
                self.replica.system_set(USERS, fields)
        except (CommandError, RuntimeError):
            return                                  # with the next change, then
        self._unkept.clear()

    def _take(self, name: bytes) -> list[int]:
        rules = self.said.get(name)
        if rules is not None:
            return self.users.put(self.read(name, rules))
        if name not in self.said and name in self.own:
            return self.users.put(self.own[name])
        return self.users.delete(name) or []

    def read(self, name: bytes, rules: bytes) -> User:
        """The user of a line; one who may do nothing where it is not understood."""
        try:
            return self._parse(name, rules)
        except Exception as e:                      # of any kind: it must not keep others' away
            log.error("the rules of user %r, which are replicated, are not understood here, so it "
                      "is off: %s", text_of(name), e)
            user = User(name)
            user.unread = True
            return user

    def _parse(self, name: bytes, rules: bytes) -> User:
        if len(rules) > LINE_MOST:
            raise CommandError(ACL_LINE_TOO_LONG)
        user = User(name)
        for op in joined(rules.split()):
            user.apply(op, self.users.commands, False)
        return user

    def _tell(self, name: bytes) -> None:
        """Puts a change that was made elsewhere into the audit log."""
        if not audit.is_on():
            return
        rules = self.said.get(name)
        write = self._write(DELETED + name if rules is None else name)
        words = [b"ACL", b"DELUSER", name]
        if rules is not None:
            words = [b"ACL", b"SETUSER", name, *(
                audit.REDACTED if rule[:1] in SECRETS else rule for rule in rules.split())]
        audit.replicated(write.get("actor", "").rpartition("/")[0], words)

    def _write(self, field: bytes) -> dict:
        """Who made that field what it is, and when."""
        found = self.replica.inspect_member(SYSTEM_DB, USERS, field) or {}
        return next(iter(found.get("hash", {}).get("writes", ())), {})

    # -- what is said to the others

    def has(self, name: bytes) -> bool:
        return self.said.get(name) is not None

    def write(self, changes: Mapping[bytes, User | None]) -> None:
        """Users as they shall be at all replicas; None: deleted. One op, or a part of the one under
        way. CommandError, and nothing was changed. The caller brings them into force here."""
        self._check()
        fields: dict[bytes, bytes | None] = {}
        n, size = self.n, self.size
        for name, user in changes.items():
            gone, before = DELETED + name, self.fields.get(name)
            if before is not None:
                n, size = n - 1, size - len(name) - len(before)
            if user is None:
                fields[name] = None
                if name != b"default":
                    kept = name in self.own or self.fields.get(gone) == KEPT
                    fields[gone] = KEPT if kept else b"%d" % self.replica.now
            else:
                fields[name] = rules = self._rules(user)
                n, size = n + 1, size + len(name) + len(rules)
                if self.fields.get(gone, KEPT) != KEPT:
                    fields[gone] = None
        if (n > USERS_MOST and n > self.n) or (size > BYTES_MOST and size > self.size):
            raise CommandError(ACL_TOO_MANY)
        fields.update(dict.fromkeys(self._forgotten(fields, n)))
        current = (self.seen == self.replica.users_changes and self.n <= USERS_MOST
                   and self.size <= BYTES_MOST)
        try:
            self.replica.system_set(USERS, fields)
        except RuntimeError:
            raise CommandError(JOINING if self.replica.joining else TOO_LARGE) from None
        for field, value in fields.items():
            if value is None:
                self.fields.pop(field, None)
            else:
                self.fields[field] = value
        for name in changes:
            self.said[name] = fields[name]
        if self.said.get(b"default", b"") is None:
            del self.said[b"default"]
        self.n, self.size = n, size
        self.seen = self.replica.users_changes if current else -1

    def _forgotten(self, fields: Mapping[bytes, bytes | None], users: int) -> list[bytes]:
        """The oldest deletions that need not be remembered any longer, with these changes."""
        if len(self.fields) + len(fields) - users <= DELETED_MOST:
            return []
        after = {**self.fields, **fields}
        gone = [f for f, v in after.items()
                if f.startswith(DELETED) and v is not None and v != KEPT]
        gone.sort(key=lambda f: (len(after[f]), after[f], f))
        return gone[:-DELETED_MOST]

    def _check(self) -> None:
        if self.executor.loading:
            raise CommandError(LOADING)
        if self.executor.misconf:
            raise CommandError(self.executor.misconf)
        if self.replica.runs_ahead:
            raise CommandError(CLOCK_AHEAD)
        sync = info.parts(self.executor).sync
        if sync is not None and (old := sync.too_old()):
            raise CommandError(REPLICA_TOO_OLD % old)

    def _rules(self, user: User) -> bytes:
        """As every replica reads them."""
        line = user.describe()
        rules = line[len(user.name) + 1:]
        try:
            same = self._parse(user.name, rules).describe() == line
        except RuleError:
            same = False
        if not same:
            raise CommandError(ACL_NOT_REPLICATED)
        return rules


def admits(user: User, own: User) -> bool:
    """Would whoever has logged in as `own` be let in as `user`?"""
    return not own.on or (user.on and (user.nopass or (
        not own.nopass and own.passwords.keys() <= user.passwords.keys())))


def admitted(fields: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes | None], int, int]:
    """What holds of a hash of users, whoever wrote it: (rules by name; None: deleted), how many
    users there are, and their bytes. The default user is never left out."""
    has_space = SPACE.search
    users = {f: v for f, v in fields.items() if len(f) <= NAME_MOST and not has_space(f)}
    n, size = len(users), sum(map(len, users)) + sum(map(len, users.values()))
    said: dict[bytes, bytes | None] = {
        f[len(DELETED):]: None for f in fields.keys() - users.keys() if f.startswith(DELETED)}
    said.pop(b"default", None)
    said.update(users)
    if n > USERS_MOST or size > BYTES_MOST:
        left, room = USERS_MOST, BYTES_MOST
        for name in sorted(users, key=lambda f: (f != b"default", f)):
            left, room = left - 1, room - len(name) - len(users[name])
            if (left < 0 or room < 0) and name != b"default":
                said[name] = None
    return said, n, size

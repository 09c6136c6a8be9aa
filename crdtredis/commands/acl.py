"""ACL: users and their rules, shown and changed. What a rule means is in crdtredis/acl.py."""
import logging
import secrets

from crdtredis._engine import session_row
from crdtredis._resp import Ordered, Simple
from crdtredis.acl import CATEGORIES, FileError, Selector, Users, text_of
from crdtredis.commands.table import COMMANDS, command
from crdtredis.commands.usage import container
from crdtredis.errors import (ACL_ARITY, ACL_DEFAULT_STAYS, ACL_DRYRUN_ARGUMENT, ACL_DRYRUN_COMMAND,
                              ACL_GENPASS, ACL_NO_COMMAND, ACL_NO_FILE, ACL_NO_USER, ACL_NOT_LOADED,
                              ACL_NOT_SAVED, UNKNOWN_CATEGORY, WRONG_ARITY, CommandError, integer)

log = logging.getLogger(__name__)
OK = Simple("OK")
FLAGS = "noscript loading stale"
DRYRUN_DENIED = {2: "key", 4: "channel"}        # Denied of engine/acl.pxd
COMMAND_DENIED = 1
GENPASS_MOST = 4096                             # bits


def describe_client(session) -> str:
    return " ".join(f"{name}={value}" for name, value in session_row(session).items())


Users.describe_client = staticmethod(describe_client)
container("ACL", "server", "6.0.0", "Users, and what each may do.")


def acl_command(synopsis: str, arity: int, summary: str, *, flags: str = "admin " + FLAGS,
                since: str = "6.0.0", complexity: str = "O(1)"):
    return command(f"ACL|{synopsis}", arity=arity, flags=flags, group="server", since=since,
                   complexity=complexity, summary=summary)


def close(session, ids) -> None:
    """Closes these connections, the caller's behind its reply."""
    for i in ids:
        if i == session.id:
            session.close()
        elif session.executor.loop is not None:
            session.executor.loop.kill_client(i)


def note_shared(session) -> None:
    """What is replicated is in the log before the reply goes out."""
    if session.executor.users.shared is not None:
        session.note_write()


def no_more_than(most: int, argv: list[bytes]) -> None:
    if len(argv) > most:
        raise CommandError(ACL_ARITY % text_of(argv[1]))


@acl_command("WHOAMI", 2, "The name of this connection's user.", flags=FLAGS)
def acl_whoami(session, argv):
    return session.user


@acl_command("USERS", 2, "The names of the users.", complexity="O(N) with N users")
def acl_users(session, argv):
    return session.executor.users.names()


@acl_command("LIST", 2, "The users, as lines of a file of users.", complexity="O(N) with N users")
def acl_list(session, argv):
    users = session.executor.users
    return [b"user " + users.users[name].describe() for name in users.names()]


def describe(selector: Selector) -> dict:
    return {"commands": selector.command_rules, "keys": selector.key_rules,
            "channels": selector.channel_rules}


@acl_command("GETUSER username", 3, "What a user may do.", complexity="O(N) with N rules")
def acl_getuser(session, argv):
    user = session.executor.users.users.get(argv[2])
    if user is None:
        return None
    return {"flags": Ordered(user.flags), "passwords": list(user.passwords),
            **describe(user.selectors[0]), "selectors": [describe(s) for s in user.selectors[1:]]}


@acl_command("SETUSER username [rule]...", -3, "Makes a user, or applies rules to one.",
             complexity="O(N) with N rules")
def acl_setuser(session, argv):
    close(session, session.executor.users.set(argv[2], argv[3:]))
    note_shared(session)
    return OK


@acl_command("DELUSER username...", -3, "Removes users, and closes their connections.",
             complexity="O(N) with N connections")
def acl_deluser(session, argv):
    if b"default" in argv[2:]:
        raise CommandError(ACL_DEFAULT_STAYS)
    n, ids = session.executor.users.remove(argv[2:])
    close(session, ids)
    note_shared(session)
    return n


@acl_command("CAT [category]", -2, "The categories of commands, or the commands of one.",
             flags=FLAGS)
def acl_cat(session, argv):
    no_more_than(3, argv)
    if len(argv) == 2:
        return list(CATEGORIES)
    wanted = text_of(argv[2]).lower()
    if wanted not in CATEGORIES:
        raise CommandError(UNKNOWN_CATEGORY % text_of(argv[2][:128]))
    return [s.name.lower() for s in COMMANDS.values() if wanted in s.categories]


@acl_command("GENPASS [bits]", -2, "A password that nobody guesses, in hexadecimal.", flags=FLAGS)
def acl_genpass(session, argv):
    no_more_than(3, argv)
    bits = integer(argv[2]) if len(argv) == 3 else 256
    if not 0 < bits <= GENPASS_MOST:
        raise CommandError(ACL_GENPASS)
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits]


@acl_command("DRYRUN username command [arg]...", -4, "Whether a user may run a command.",
             since="7.0.0")
def acl_dryrun(session, argv):
    name, line = argv[2], argv[3:]
    user = session.executor.users.users.get(name)
    if user is None:
        raise CommandError(ACL_NO_USER % text_of(name))
    found = session.executor.permits(user.account, line)
    if found is None:
        raise CommandError(ACL_NO_COMMAND % text_of(line[0]))
    spec = COMMANDS[text_of(line[0]).upper()]
    if "container" in spec.flags and len(line) > 1:
        spec = COMMANDS[f"{spec.name}|{text_of(line[1]).upper()}"]
    if len(line) != spec.arity and (spec.arity > 0 or len(line) < -spec.arity):
        raise CommandError(WRONG_ARITY % spec.name.lower())
    denied, at = found
    if denied == COMMAND_DENIED:
        return ACL_DRYRUN_COMMAND % (text_of(name), spec.name.lower())
    if denied:
        return ACL_DRYRUN_ARGUMENT % (text_of(name), text_of(line[at]), DRYRUN_DENIED[denied])
    return OK


@acl_command("LOG [count | RESET]", -2, "What was refused users lately.",
             complexity="O(N) with N entries")
def acl_log(session, argv):
    no_more_than(3, argv)
    users = session.executor.users
    if len(argv) == 3 and argv[2].upper() == b"RESET":
        users.log.clear()
        return OK
    count = max(integer(argv[2]), 0) if len(argv) == 3 else 10
    now = users.clock()
    rows = []
    for entry in list(users.log)[:count]:
        reason, context, what, name = entry["key"]
        rows.append({"count": entry["count"], "reason": reason, "context": context, "object": what,
                     "username": name, "age-seconds": max(now - entry["updated"], 0.0),
                     "client-info": entry["client"], "entry-id": entry["id"],
                     "timestamp-created": int(1000 * entry["created"]),
                     "timestamp-last-updated": int(1000 * entry["updated"])})
    return rows


def file_of(session) -> str:
    config = getattr(session.server, "config", None)
    path = getattr(config, "aclfile", "")
    if not path:
        raise CommandError(ACL_NO_FILE)
    return path


@acl_command("LOAD", 2, "Reads the file of users again.", complexity="O(N) with N users")
def acl_load(session, argv):
    try:
        close(session, session.executor.users.load(file_of(session)))
    except FileError as e:
        raise CommandError(ACL_NOT_LOADED % e) from None
    note_shared(session)
    return OK


@acl_command("SAVE", 2, "Writes the users to the file.", complexity="O(N) with N users")
def acl_save(session, argv):
    path = file_of(session)
    try:
        session.executor.users.save(path)
    except OSError as e:
        log.warning("Writing ACL file %s for ACL SAVE: %s", path, e.strerror)
        raise CommandError(ACL_NOT_SAVED) from None
    return OK

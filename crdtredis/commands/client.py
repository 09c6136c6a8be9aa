"""HELLO, AUTH and CLIENT: who a connection is, and what it may ask about others.

Users are in crdtredis/acl.py. Client-side caching (CLIENT TRACKING)
is in tracking.pyx.
"""
import re

from crdtredis import REDIS_VERSION
from crdtredis._engine import client_flags, session_row
from crdtredis._resp import Simple, Verbatim
from crdtredis.acl import NAME_MOST
from crdtredis.commands.table import NO_REPLY, command
from crdtredis.errors import (CLIENT_ARITY, CLIENT_ATTRIBUTE, CLIENT_DB, CLIENT_FLAGS, CLIENT_ID,
                              CLIENT_ID_NOT_POSITIVE, CLIENT_OPTION_POSITIVE, CLIENT_TYPE,
                              HELLO_NO_AUTH, HELLO_OPTION, MAINT_ENDPOINT, MAINT_RESP3, NO_PASSWORD,
                              NO_SUCH_CLIENT, NO_SUCH_USER, OPTION_NOT_INTEGER, PAUSE_MODE,
                              PROTOCOL_NOT_INTEGER, PROTOCOL_UNSUPPORTED, SPECIAL_CHARACTERS,
                              SYNTAX, UNBLOCK_REASON, WRONG_PASS, CommandError, integer,
                              time_limit)
from crdtredis.info import DATABASES

OK = Simple("OK")
CLIENT_TYPES = {b"normal": "normal", b"master": "master", b"primary": "master",
                b"slave": "replica", b"replica": "replica", b"pubsub": "pubsub"}
CLIENT_FLAG_LETTERS = set("AbBcdegiIMNoOPrRStTuUxCE")       # Redis's and Valkey's
FLAGS = "noscript loading stale"
ADMIN = "admin " + FLAGS


def text(arg: bytes) -> str:
    return arg.decode("utf-8", "surrogateescape")


def login(session, user: bytes, password: bytes) -> None:
    """WRONGPASS unless there is such a user, who may log in with this password."""
    users = session.executor.users
    found = users.login(user, password)
    if found is None:
        session.suspect()
        users.denied(session, "auth",
                     "multi" if session.flags & client_flags["MULTI"] else "toplevel", b"AUTH",
                     user[:NAME_MOST])
        raise CommandError(WRONG_PASS)
    session.become(found.account)


def printable(arg: bytes, error: str) -> str:
    if not re.fullmatch(rb"[!-~]*", arg):
        raise CommandError(error)
    return text(arg)


def no_more_than(most: int, argv: list[bytes]) -> None:
    """For subcommands whose arity has no upper bound in the command table, though they have one."""
    if len(argv) > most:
        raise CommandError(CLIENT_ARITY % text(argv[1]))


def set_name(session, name: bytes) -> None:
    session.name = printable(name, SPECIAL_CHARACTERS % "Client names")


@command("AUTH [username] password", arity=-2,
         flags="noscript loading stale fast no_auth allow_busy", group="connection", since="1.0.0",
         summary="Authenticates the connection.")
def auth(session, argv):
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    if len(argv) == 2:
        if session.executor.users.default.nopass:
            raise CommandError(NO_PASSWORD)
        login(session, b"default", argv[1])
    else:
        login(session, argv[1], argv[2])
    return OK


@command("HELLO [protover [AUTH username password] [SETNAME clientname]]", arity=-1,
         flags="noscript loading stale fast no_auth allow_busy", group="connection", since="6.0.0",
         summary="Shakes hands: protocol version, authentication, name.")
def hello(session, argv):
    resp = session.resp
    if len(argv) > 1:
        resp = integer(argv[1], PROTOCOL_NOT_INTEGER)
        if resp not in (2, 3):
            raise CommandError(PROTOCOL_UNSUPPORTED)
    name = credentials = None
    at = 2
    while at < len(argv):
        word, more = argv[at].upper(), len(argv) - at - 1
        if word == b"AUTH" and more >= 2:
            credentials = argv[at + 1], argv[at + 2]
            at += 3
        elif word == b"SETNAME" and more >= 1:
            name = argv[at + 1]
            printable(name, SPECIAL_CHARACTERS % "Client names")
            at += 2
        else:
            raise CommandError(HELLO_OPTION % text(argv[at]))
    if credentials is not None:             # the last ones that were given
        login(session, *credentials)
    if not session.authenticated:
        raise CommandError(HELLO_NO_AUTH)
    if name is not None:
        set_name(session, name)
    session.resp = resp
    return {"server": "redis", "version": REDIS_VERSION, "proto": resp, "id": session.id,
            "mode": "standalone", "role": "master",
            "modules": []}


@command("CLIENT", arity=-2, flags="container", group="connection", since="2.4.0",
         complexity="Depends on subcommand.", summary="A container for client connection commands.")
def client(session, argv):
    # reached with registered subcommands only, and each of those has a function
    raise CommandError(SYNTAX)


def subcommand(synopsis: str, *, arity: int, since: str, summary: str, flags: str = FLAGS,
               complexity: str = "O(1)", tips: str = ""):
    return command(f"CLIENT|{synopsis}", arity=arity, flags=flags, group="connection", since=since,
                   complexity=complexity, tips=tips, summary=summary)


@subcommand("ID", arity=2, since="5.0.0", summary="Answers the id of this connection.")
def client_id(session, argv):
    return session.id


@subcommand("GETNAME", arity=2, since="2.6.9", summary="Answers the name of this connection.")
def client_getname(session, argv):
    return session.name or None


@subcommand("SETNAME connection-name", arity=3, since="2.6.9", summary="Names this connection.")
def client_setname(session, argv):
    set_name(session, argv[2])
    return OK


@subcommand("SETINFO <LIB-NAME libname | LIB-VER libver>", arity=4, since="7.2.0",
            summary="Tells the name or version of the client library.")
def client_setinfo(session, argv):
    attribute = argv[2].lower()
    if attribute not in (b"lib-name", b"lib-ver"):
        raise CommandError(CLIENT_ATTRIBUTE % text(argv[2]))
    setattr(session, text(attribute).replace("-", "_"),
            printable(argv[3], SPECIAL_CHARACTERS % text(argv[2])))
    return OK


@subcommand("CAPA capability...", arity=-3, since="8.0.0",
            summary="What this client can do; here nothing follows from it, as for unknown ones.")
def client_capa(session, argv):
    return OK


def rows(session) -> list[dict]:
    """What CLIENT LIST shows: all connections, or just this client where there are none."""
    loop = session.executor.loop
    return loop.clients() if loop is not None else [session_row(session)]


def line(row: dict) -> str:
    return " ".join(f"{name}={value}" for name, value in row.items()) + "\n"


@subcommand("INFO", arity=2, since="6.2.0", tips="nondeterministic_output",
            summary="Describes this connection.")
def client_info(session, argv):
    return Verbatim(line(session_row(session)))


def client_type(arg: bytes) -> str:
    found = CLIENT_TYPES.get(arg.lower())
    if found is None:
        raise CommandError(CLIENT_TYPE % text(arg))
    return found


def type_of(row: dict) -> str:
    return "pubsub" if "P" in row["flags"] else "normal"


# ---- which connections ---------------------------------------------------------------------------
# The filters of CLIENT LIST and CLIENT KILL: Redis's, and those that Valkey added. A filter is made
# of its argument, and says of a row whether it fits. NOT- before the name of one wants the others.

def field_is(name: str):
    def of(value: bytes):
        wanted = text(value)
        return lambda row: row[name] == wanted
    return of


def of_type(value: bytes):
    wanted = client_type(value)
    return lambda row: type_of(row) == wanted


def of_user(users):
    def of(value: bytes):
        if value not in users:
            raise CommandError(NO_SUCH_USER % text(value))
        wanted = text(value)
        return lambda row: row["user"] == wanted
    return of


def of_db(value: bytes):
    wanted = integer(value, OPTION_NOT_INTEGER % "DB")
    if not 0 <= wanted < DATABASES:
        raise CommandError(CLIENT_DB % (DATABASES - 1))
    return lambda row: row["db"] == wanted


def of_ip(value: bytes):
    wanted = text(value)
    return lambda row: row["addr"].rpartition(":")[0].strip("[]") == wanted


def at_least(name: str, field: str):
    def of(value: bytes):
        least = integer(value, OPTION_NOT_INTEGER % name)
        if least < 1:
            raise CommandError(CLIENT_OPTION_POSITIVE % name)
        return lambda row: row[field] >= least
    return of


def with_flags(filter_name: str):
    def of(value: bytes):
        wanted = set(text(value))
        if not wanted <= CLIENT_FLAG_LETTERS:
            raise CommandError(CLIENT_FLAGS % (filter_name, text(value)))
        return lambda row: wanted <= set(row["flags"])
    return of


def other_than(make):
    def of(value: bytes):
        fits = make(value)
        return lambda row: not fits(row)
    return of


FILTERS = {b"TYPE": of_type, b"ADDR": field_is("addr"),
           b"LADDR": field_is("laddr"), b"NAME": field_is("name"),
           b"LIB-NAME": field_is("lib-name"), b"LIB-VER": field_is("lib-ver"), b"DB": of_db,
           b"IP": of_ip, b"FLAGS": with_flags("provided")}
FILTERS |= {b"NOT-" + name: other_than(make) for name, make in FILTERS.items()}
FILTERS[b"NOT-FLAGS"] = other_than(with_flags("NOT-FLAGS"))
FILTERS |= {b"IDLE": at_least("idle", "idle"), b"MAXAGE": at_least("maxage", "age")}
OPTIONS = {*FILTERS, b"ID", b"NOT-ID", b"USER", b"NOT-USER", b"SKIPME"}
FILTER_USAGE = (
    "ID client-id... | TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB> | USER username | "
    "ADDR addr | LADDR laddr | SKIPME <YES | NO> | MAXAGE maxage | FLAGS flags | NAME name | "
    "IDLE idle | LIB-NAME libname | LIB-VER libver | DB db | IP ip | NOT-ID client-id... | "
    "NOT-TYPE type | NOT-USER username | NOT-ADDR addr | NOT-LADDR laddr | NOT-FLAGS flags | "
    "NOT-NAME name | NOT-LIB-NAME libname | NOT-LIB-VER libver | NOT-DB db | NOT-IP ip")


def chosen(session, args: list[bytes], skip_me: bool, read_id) -> list[dict]:
    """The rows that all filters fit, in the order of the ids where some are asked for. skip_me: is
    this client left out, where SKIPME does not say? Of filters of one name the last holds, ids add
    up."""
    fits, ids, at = {}, {b"ID": [], b"NOT-ID": []}, 0
    user = of_user(session.executor.users.users)
    made = FILTERS | {b"USER": user, b"NOT-USER": other_than(user)}
    while at < len(args):
        word, value = args[at].upper(), args[at + 1] if at + 1 < len(args) else None
        if word not in OPTIONS or value is None:
            raise CommandError(SYNTAX)
        if word in ids:
            at += 1
            while at < len(args) and args[at].upper() not in OPTIONS:
                ids[word].append(read_id(args[at], ids[word]))
                at += 1
            if not ids[word]:
                raise CommandError(SYNTAX)
            continue
        if word == b"SKIPME":
            if value.upper() not in (b"YES", b"NO"):
                raise CommandError(SYNTAX)
            skip_me = value.upper() == b"YES"
        else:
            fits[word] = made[word](value)
        at += 2
    found = rows(session)
    if ids[b"ID"]:
        by_id = {row["id"]: row for row in found}
        found = [by_id[i] for i in ids[b"ID"] if i in by_id]
    return [row for row in found if row["id"] not in ids[b"NOT-ID"]
            and not (skip_me and row["id"] == session.id) and all(f(row) for f in fits.values())]


def id_to_kill(arg: bytes, before: list[int]) -> int:
    if before:
        integer(arg, SYNTAX)            # what follows an id may be meant as the next filter
    return integer(arg, CLIENT_ID_NOT_POSITIVE, low=1)


@subcommand(f"LIST [{FILTER_USAGE}]...", arity=-2, flags=ADMIN, since="2.4.0",
            complexity="O(N) where N is the number of client connections",
            tips="nondeterministic_output", summary="Describes the connections, all or some.")
def client_list(session, argv):
    found = chosen(session, argv[2:], False, lambda arg, _: integer(arg, CLIENT_ID))
    return Verbatim("".join(map(line, found)))


@subcommand(f"KILL <addr | [{FILTER_USAGE}]...>", arity=-3, flags=ADMIN, since="2.4.0",
            complexity="O(N) where N is the number of client connections",
            summary="Closes connections, by address or by filters.")
def client_kill(session, argv):
    if len(argv) == 3:
        found = chosen(session, [b"ADDR", argv[2]], False, None)
    else:
        found = chosen(session, argv[2:], True, id_to_kill)
    for row in {row["id"]: row for row in found}.values():
        if row["id"] == session.id:
            session.close()
        else:
            session.executor.loop.kill_client(row["id"])
    if len(argv) > 3:
        return len({row["id"] for row in found})
    if not found:
        raise CommandError(NO_SUCH_CLIENT)
    return OK


@subcommand("PAUSE timeout [WRITE | ALL]", arity=-3, flags=ADMIN, since="2.9.50",
            summary="Holds commands back, or those that write, for a time in milliseconds.")
def client_pause(session, argv):
    no_more_than(4, argv)
    modes = {b"WRITE": True, b"ALL": False}
    mode = argv[3].upper() if len(argv) == 4 else b"ALL"
    if mode not in modes:
        raise CommandError(PAUSE_MODE)
    ms = time_limit(argv[2], session.replica.now)
    if session.executor.loop is not None:
        session.executor.loop.pause(ms, modes[mode])
    return OK


@subcommand("UNPAUSE", arity=2, flags=ADMIN, since="6.2.0",
            complexity="O(N) Where N is the number of paused clients", summary="Ends CLIENT PAUSE.")
def client_unpause(session, argv):
    if session.executor.loop is not None:
        session.executor.loop.unpause()
    return OK


def on_off(arg: bytes) -> bool:
    if arg.upper() not in (b"ON", b"OFF"):
        raise CommandError(SYNTAX)
    return arg.upper() == b"ON"


@subcommand("REPLY <ON | OFF | SKIP>", arity=3, since="3.2.0",
            summary="Turns replies off, on, or off for the next command.")
def client_reply(session, argv):
    mode = argv[2].upper()
    if mode == b"ON":
        session.set_flag(client_flags["REPLY_OFF"] | client_flags["REPLY_SKIP"] |
                         client_flags["SKIP_NEXT"], False)
        return OK
    if mode == b"OFF":
        session.set_flag(client_flags["REPLY_OFF"], True)
    elif mode == b"SKIP":
        if not session.flags & client_flags["REPLY_OFF"]:
            session.set_flag(client_flags["SKIP_NEXT"], True)
    else:
        raise CommandError(SYNTAX)
    return NO_REPLY


@subcommand("MAINT_NOTIFICATIONS <ON [moving-endpoint-type <internal-ip | internal-fqdn | "
            "external-ip | external-fqdn | none>] | OFF>", arity=-3, flags=f"{FLAGS} unseen",
            since="8.0.0",
            summary="Whether this connection is told (MOVING) before the server stops.")
def client_maint_notifications(session, argv):
    on, endpoint = on_off(argv[2]), b"NONE"
    if len(argv) == 5 and on and argv[3].upper() == b"MOVING-ENDPOINT-TYPE":
        endpoint = argv[4].upper()
    elif len(argv) != 3:
        raise CommandError(SYNTAX)
    if endpoint not in (b"INTERNAL-IP", b"INTERNAL-FQDN", b"EXTERNAL-IP", b"EXTERNAL-FQDN",
                        b"NONE"):
        raise CommandError(MAINT_ENDPOINT)
    if on and session.resp != 3:
        raise CommandError(MAINT_RESP3)
    session.set_flag(client_flags["MOVES"], on)
    session.set_flag(client_flags["MOVES_BACK"], on and endpoint == b"NONE")
    return OK


@subcommand("NO-EVICT <ON | OFF>", arity=3, flags=ADMIN, since="7.0.0",
            summary="Whether maxmemory-clients leaves this connection alone.")
def client_no_evict(session, argv):
    session.set_flag(client_flags["NO_EVICT"], on_off(argv[2]))
    return OK


@subcommand("NO-TOUCH <ON | OFF>", arity=3, since="7.2.0",
            summary="Whether this connection's reads leave access times alone.")
def client_no_touch(session, argv):
    session.set_flag(client_flags["NO_TOUCH"], on_off(argv[2]))
    return OK


@subcommand("UNBLOCK client-id [TIMEOUT | ERROR]", arity=-3, flags=ADMIN, since="5.0.0",
            complexity="O(log N) where N is the number of client connections",
            summary="Ends another connection's wait, as by timeout or with an error.")
def client_unblock(session, argv):
    no_more_than(4, argv)
    reason = argv[3].upper() if len(argv) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise CommandError(UNBLOCK_REASON)
    wanted = integer(argv[2])
    loop = session.executor.loop
    other = loop.session_of(wanted) if loop is not None and wanted > 0 else None
    return int(other is not None and other.unblock(reason == b"ERROR"))


HELP = """\
CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CAPA <capability> [...]
    Tell what this client can do.
CACHING (YES|NO)
    Whether the keys of the next command are tracked, with OPTIN or OPTOUT.
GETNAME
    The name of this connection.
GETREDIR
    The connection that tracking messages go to; 0: this one; -1: tracking is off.
ID
    The id of this connection.
INFO
    A line about this connection.
KILL <ip:port>
    Close the connection from this address.
KILL <option> <value> [<option> <value> [...]]
    Close the connections that all of these fit. Options, all but the last three also with NOT-:
    * ID <client-id> [<client-id> ...]
    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)
    * USER <username>
    * ADDR <ip:port>, LADDR <ip:port>, IP <ip>
    * NAME <name>, LIB-NAME <name>, LIB-VER <version>
    * FLAGS <flags>
    * DB <db>
    * IDLE <seconds>
    * MAXAGE <seconds>
    * SKIPME (YES|NO)
LIST [<option> <value> [...]]
    A line about each connection that all of the options fit, which are those of KILL.
MAINT_NOTIFICATIONS (ON|OFF) [moving-endpoint-type <type>]
    Be told before the server stops.
NO-EVICT (ON|OFF)
    Be left alone by maxmemory-clients.
NO-TOUCH (ON|OFF)
    Leave the access times of keys alone.
PAUSE <timeout> [WRITE|ALL]
    Hold all commands, or those that write, back for so many milliseconds.
REPLY (ON|OFF|SKIP)
    Turn replies on or off, or off for one command.
SETINFO (LIB-NAME|LIB-VER) <value>
    Tell what library this is.
SETNAME <name>
    Name this connection.
TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]
    Be told when keys that were read change.
TRACKINGINFO
    The state of tracking.
UNBLOCK <clientid> [TIMEOUT|ERROR]
    End the wait of a connection.
UNPAUSE
    End a pause.
HELP
    This text.""".splitlines()


@subcommand("HELP", arity=2, flags="loading stale", since="5.0.0", summary="Lists the subcommands.")
def client_help(session, argv):
    return [Simple(text_line) for text_line in HELP]

"""DEBUG: for tests of the server and of clients, where `enable_debug_command` lets it."""
import logging
import time
from math import inf

from crdtredis import info
from crdtredis._resp import Raw, Simple, Verbatim, encode_reply
from crdtredis.commands.table import command
from crdtredis.errors import (DEBUG_NOT_ALLOWED, DEBUG_PROTOCOL, DEBUG_RESP2, DEBUG_SLEEP,
                              DEBUG_SUBCOMMAND, NOT_FLOAT, CommandError)
from crdtredis.kinds import is_loopback

log = logging.getLogger("crdtredis.debug")
OK = Simple("OK")

DEBUG_HELP = """\
DEBUG <subcommand> [<arg> ...]. Subcommands:
ERROR <text>
    Answers with this error: for tests of clients.
LOG <message>
    Writes the message to the log.
PROTOCOL <string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false>
    Answers with a value of this type: for tests of clients.
SET-ACTIVE-EXPIRE <0|1>
    Whether expired keys, which nobody sees, are removed.
SET-DISABLE-DENY-SCRIPTS <0|1>
    Whether scripts may call the commands that are not for them.
SLEEP <seconds>
    Stands still for so long; fractions are allowed.
HELP
    This text."""
# DEBUG PROTOCOL: the values that Redis's answers with, since tests compare them. Of the last two,
# what comes before a reply in RESP3.
VALUES = {"string": "Hello World", "integer": 12345, "double": 3.141,
          "bignum": 1234567999999999999999999999999999999, "null": None, "array": [0, 1, 2],
          "set": {0, 1, 2}, "map": {0: False, 1: True, 2: False},
          "verbatim": Verbatim("This is a verbatim\nstring"), "true": True, "false": False}
ATTRIBUTE = (b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n",
             "Some real reply following the attribute")
PUSH = b">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n", "Some real reply following the push reply"


def debug_sleep(session, arg: bytes):
    try:
        seconds = float(arg)
    except ValueError:
        raise CommandError(NOT_FLOAT) from None
    if 3600 < seconds < inf:
        raise CommandError(DEBUG_SLEEP)
    if 0 < seconds < inf:                   # any other is no time at all, as in Redis
        time.sleep(seconds)
    return OK


def debug_set_active_expire(session, arg: bytes):
    engine = info.parts(session.executor).engine
    if engine is not None:
        engine.active_expire = arg != b"0"
    return OK


def debug_set_disable_deny_scripts(session, arg: bytes):
    session.executor.scripts_run_all = arg != b"0"
    return OK


def debug_log(session, arg: bytes):
    log.warning("DEBUG LOG: %s", arg[:1024].decode("utf-8", "backslashreplace"))
    return OK


def debug_error(session, arg: bytes):
    raise CommandError(" ".join(arg.decode("utf-8", "surrogateescape").splitlines()))


def debug_protocol(session, arg: bytes):
    name = arg.decode("latin-1").lower()
    if name in VALUES:
        return VALUES[name]
    if name == "push" and session.resp < 3:
        raise CommandError(DEBUG_RESP2)
    if name not in ("attrib", "push"):
        raise CommandError(DEBUG_PROTOCOL % "|".join(VALUES))
    before, text = ATTRIBUTE if name == "attrib" else PUSH
    return Raw((before if session.resp >= 3 else b"") + encode_reply(text, session.resp))


def is_local(address: str) -> bool:
    """Is it that of a client on this machine, as CLIENT LIST shows it? Port 0 is that of a Unix
    socket."""
    host, _, port = address.rpartition(":")
    return port == "0" or is_loopback(host.strip("[]"))


DEBUG = {b"SLEEP": debug_sleep, b"SET-ACTIVE-EXPIRE": debug_set_active_expire,
         b"SET-DISABLE-DENY-SCRIPTS": debug_set_disable_deny_scripts,
         b"LOG": debug_log,
         b"ERROR": debug_error, b"PROTOCOL": debug_protocol}


@command("DEBUG subcommand [arg]...", arity=-2, flags="admin noscript loading stale",
         group="server", since="1.0.0", complexity="Depends on the subcommand",
         summary="For tests: lets the server stand still, keeps expired keys from being removed, "
                 "answers as it is told.")
def debug(session, argv):
    allowed = info.setting(session.executor, "enable_debug_command", "yes")
    if allowed == "no" or (allowed == "local" and not is_local(session.addr)):
        raise CommandError(DEBUG_NOT_ALLOWED)
    what = argv[1].upper()
    if what == b"HELP" and len(argv) == 2:
        return [Simple(line) for line in DEBUG_HELP.splitlines()]
    if what not in DEBUG or len(argv) != 3:
        shown = argv[1][:128].decode("utf-8", "replace")
        raise CommandError(DEBUG_SUBCOMMAND % (shown, len(argv) - 2))
    return DEBUG[what](session, argv[2])

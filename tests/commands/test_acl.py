"""Users: each command of the table and each of its keys refused to who has no right to it; rules;
EXEC, scripts, waiting clients and subscribers whose rights have changed; files; the log."""
import hashlib
import random
import re
import sys
from types import SimpleNamespace

import pytest

from crdtredis.acl import FileError, User, joined
from crdtredis.commands import table
from crdtredis.commands.table import CountedKeys, KeyAfter, StreamKeys
from tests.commands.run import Client
from tests.respclient import ReplyError

KEY = "NOPERM No permissions to access a key"
CHANNEL = "NOPERM No permissions to access a channel"
SPECS = {name: spec for name, spec in table.load().items() if not name.startswith("TEST.")}
KEYED = [name for name, spec in SPECS.items()
         if any(k.access != "not_key" and not getattr(k, "nowhere", False) for k in spec.keys)]


def command_refused(name: str, command: str) -> str:
    return f"NOPERM User {name} has no permissions to run the '{command}' command"


@pytest.fixture
def c():
    return Client()


def user(c, *rules, name="u", resp=2) -> Client:
    """A client logged in as a user who has these rules."""
    c("ACL", "SETUSER", name, "reset", "on", "nopass", *rules)
    other = c.other(resp)
    other("AUTH", name, "any")
    return other


def arguments(spec, key: bytes = b"key") -> list[bytes]:
    """A call that names as many keys as each of its specifications can, and satisfies the arity."""
    words = spec.name.encode().split(b"|")
    argv = words + [key] * (abs(spec.arity) - len(words))
    for keys in spec.keys:
        if isinstance(keys, CountedKeys):
            argv[keys.at] = b"2"
            argv += [key] * (keys.at + 1 + 2 * keys.step - len(argv))
        elif isinstance(keys, KeyAfter):
            argv += [b"1"] * (keys.start - len(argv)) + [keys.word.encode(), key]
        elif isinstance(keys, StreamKeys):
            argv[keys.start:] = [b"STREAMS", key, key, b"0", b"0"]
    if spec.name == "SORT":
        argv += [b"STORE", key]
    return argv


# ---- every command -------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SPECS)
def test_a_command_is_refused_to_who_has_no_right_to_it(c, name):
    spec = SPECS[name]
    command = name.lower()
    u = user(c, "allkeys", "allchannels", "+@all", f"-{command}")
    reply = u.raw(*arguments(spec)) if "no_auth" not in spec.flags else b""
    if name == "CLIENT|MAINT_NOTIFICATIONS":
        assert reply.startswith(b"-ERR unknown subcommand 'MAINT_NOTIFICATIONS'")
    elif "container" in spec.flags:     # which is named together with a subcommand
        assert reply.startswith(b"-ERR") or command_refused("u", command).encode() in reply
    elif "no_auth" not in spec.flags:
        because = "EXECABORT Transaction discarded because of: " * (name == "EXEC")
        assert reply == f"-{because}{command_refused('u', command)}\r\n".encode()
    account = c.executor.users.users[b"u"].account
    if "container" not in spec.flags:
        assert c.executor.permits(account, arguments(spec)) == (0 if "no_auth" in spec.flags else 1,
                                                                0)
        user(c, "allkeys", "allchannels", f"+{command}")
        assert c.executor.permits(account, arguments(spec)) == (0, 0)


@pytest.mark.parametrize("name", KEYED)
def test_each_key_is_refused_to_who_has_no_right_to_it(c, name):
    spec = SPECS[name]
    argv = arguments(spec, b"mine")
    places = spec.keys_in(argv)
    assert places
    u = user(c, "+@all", "allchannels", "~mine")
    account = c.executor.users.users[b"u"].account
    assert c.executor.permits(account, argv) == (0, 0)
    for at, access in places:
        other = [*argv[:at], b"other", *argv[at + 1:]]
        assert c.executor.permits(account, other) == (2, at)
        assert u.error(*other) == KEY
        reads = "access" in access.split()
        writes = bool({"insert", "update", "delete"} & set(access.split()))
        for rule, enough in (("%R~other", not writes), ("%W~other", not reads), ("~other", True)):
            user(c, "+@all", "~mine", rule)
            assert c.executor.permits(account, other) == ((0, 0) if enough else (2, at)), rule
        user(c, "+@all", "~mine")


@pytest.mark.parametrize("argv, reads, writes", [
    ("SET k v", False, True), ("SET k v GET", True, True), ("SET k get EX 1", False, True),
    ("SET k v EX 1 get", True, True), ("SET k v IFNE w", True, True), ("DELEX k", False, True),
    ("SET k v ifdeq w EX 1", True, True), ("DELEX k IFEQ v", True, True),
    ("DELIFEQ k v", False, True), ("MSETEX 1 k v", False, True),
    ("BITFIELD k GET u8 0", True, False),
    ("BITFIELD k GET u8 0 SET u8 0 1", True, True),
    ("BITFIELD k OVERFLOW SAT GET u8 0", True, False),
    ("BITFIELD k INCRBY u8 0 1", True, True), ("BITFIELD k GET u8", True, True),
    ("EXISTS k", False, False), ("STRLEN k", False, False), ("WATCH k", False, False),
    ("DEL k", False, True), ("GETDEL k", True, True), ("EVAL x 1 k", True, True),
    ("EVAL_RO x 1 k", True, False)])
def test_what_a_command_does_to_a_key(c, argv, reads, writes):
    user(c, "+@all")
    account = c.executor.users.users[b"u"].account
    for rule, enough in (("%R~k", not writes), ("%W~k", not reads), ("%RW~k", True),
                         ("%rw~k", True), ("~x", False)):
        user(c, "+@all", rule)
        assert (c.executor.permits(account, argv.encode().split())[0] == 0) == enough, rule


def test_selectors_do_not_add_up(c):
    u = user(c, "~a", "+get", "(~b +set)")
    c("SET", "a", "1")
    assert u("GET", "a") == b"1" and u("SET", "b", "2") == b"OK"
    assert u.error("SET", "a", "1") == u.error("GET", "b") == KEY
    assert u.error("DEL", "a") == command_refused("u", "del")
    c("ACL", "SETUSER", "u", "clearselectors")
    assert u.error("SET", "b", "2") == command_refused("u", "set")


def test_keys_whose_place_the_arguments_decide(c):
    u = user(c, "+@all", "~m*")
    for argv in ("EVAL x 1 o", "EVAL x 2 m o", "SORT m STORE o", "SORT m LIMIT 0 1 STORE o",
                 "SORT m STORE m STORE o", "ZUNIONSTORE m 2 m o", "ZUNION 2 m o",
                 "LMPOP 2 m o LEFT",
                 "GEORADIUS m 0 0 1 m STORE o", "GEORADIUS m 0 0 1 m STORE m STOREDIST o",
                 "GEORADIUS m 0 0 1 m STORE m STORE o", "BLMPOP 0 2 m o LEFT", "MSET m 1 o 2",
                 "MSETEX 2 m 1 o 2 EX 9", "MSETEX 3 m 1 m 2 o 3",
                 "OBJECT ENCODING o", "MEMORY USAGE o", "COPY m o", "BITOP AND m m o"):
        assert u.error(*argv.split()) == KEY, argv
    # the argument behind STORE is no option, whatever it says
    assert u.error("SORT", "m", "STORE", "get", "STORE", "other") == KEY
    assert u("SORT", "m", "LIMIT", "0", "1", "STORE", "m") == 0
    # what cannot be right has no keys, and is refused by the command
    assert "numkeys" in u.error("ZUNION", "x", "o") or "integer" in u.error("ZUNION", "x", "o")
    assert "can't be greater than number of args" in u.error("EVAL", "x", "9", "o")


@pytest.mark.parametrize("options", ["COUNT 1 GROUP g STREAMS", "NOACK GROUP g STREAMS",
                                     "GROUP x streams GROUP g STREAMS",
                                     "BLOCK 0 COUNT 1 GROUP STREAMS c",
                                     "CLAIM 0 GROUP g STREAMS"])
def test_a_consumer_or_group_called_streams_hides_no_key(c, options):
    call = ["XREADGROUP", *options.split(), "streams", "o", ">"]
    assert user(c, "+@all", "~streams").error(*call) == KEY
    assert c("COMMAND", "GETKEYS", *call) == [b"o"]
    assert user(c, "+@all", "~o").error(*call).startswith("NOGROUP")


def test_sort_by_and_get_want_all_keys(c):
    c("RPUSH", "m", "1")
    u = user(c, "+@all", "~m")
    by = "ERR BY option of SORT denied due to insufficient ACL permissions."
    get = "ERR GET option of SORT denied due to insufficient ACL permissions."
    for name in ("SORT", "SORT_RO"):
        assert u.error(name, "m", "BY", "w*") == by and u.error(name, "m", "GET", "x") == get
        assert u(name, "m", "BY", "nosort") == [b"1"]
    assert u.error("EVAL", "return redis.call('SORT', KEYS[1], 'GET', 'x*')", "1", "m").startswith(
        get)
    for rule in ("%R~*", "~*"):
        u = user(c, "+@all", "~m", *(["%W~m"] if rule == "%R~*" else ["resetkeys"]), rule)
        assert u("SORT", "m", "BY", "w*", "GET", "x*") == [None]
    u = user(c, "+@all", "%W~*", "~m")
    assert u.error("SORT", "m", "BY", "w*") == by


# ---- subcommands and first arguments -------------------------------------------------------------

def test_subcommands_and_first_arguments(c):
    u = user(c, "+client|id", "+select|0")
    assert u("CLIENT", "ID") == u.session.id and u("SELECT", "0") == b"OK"
    assert u.error("CLIENT", "INFO") == command_refused("u", "client|info")
    assert u.error("SELECT", "1") == command_refused("u", "select")
    u = user(c, "+@all", "-client|kill", "-config")
    assert u.error("CLIENT", "KILL", "x") == command_refused("u", "client|kill")
    assert u.error("CONFIG", "GET", "x") == command_refused("u", "config|get")
    c("ACL", "SETUSER", "u", "+config|get")
    assert u("CONFIG", "GET", "x") == []
    for rule, why in (("+client|none", "Unknown command or category name in ACL"),
                      ("+client|kill|x", "Allowing first-arg of a subcommand is not supported"),
                      ("+select|", "Syntax error"),
                      ("-select|0", "Unknown command or category name in ACL"),
                      ("+@none", "Unknown command or category name in ACL"),
                      ("none", "Syntax error"),
                      ("%X~k", "Syntax error"), ("~a b", "Syntax error"),
                      ("#abc", "The password hash must be exactly 64 characters and contain only "
                               "lowercase hexadecimal characters"),
                      ("<none", "The password you are trying to remove from the user does not "
                                "exist")):
        before = c("ACL", "LIST")
        assert (c.error("ACL", "SETUSER", "u", "+get", "~more", rule)
                == f"ERR Error in ACL SETUSER modifier '{rule}': {why}")
        assert c("ACL", "LIST") == before, "all or nothing"
    assert (c.error("ACL", "SETUSER", "u", "(+get", "~x")
            == "ERR Unmatched parenthesis in acl selector starting at '(+get'.")


def test_what_a_user_is_makes_the_same_user(c):
    rng = random.Random(3)
    names = [n.lower() for n in SPECS]
    categories = ["read", "write", "slow", "dangerous", "string"]
    for seed in range(200):
        rules = []
        for _ in range(rng.randrange(12)):
            rules.append(rng.choice([
                rng.choice("+-") + rng.choice(names),
                rng.choice("+-") + "@" + rng.choice(categories), "+select|0", "+@all", "-@all",
                "on", ">p", "%R~r*", "%W~r*", "resetkeys", "&ch*", "resetchannels", "(+get ~x)",
                "skip-sanitize-payload", "nopass"]))
        c("ACL", "SETUSER", "u", "reset", *rules)
        line = next(x for x in c("ACL", "LIST") if x.startswith(b"user u "))
        c("ACL", "SETUSER", "u", "reset", *line.split()[2:])
        assert next(x for x in c("ACL", "LIST") if x.startswith(b"user u ")) == line, seed
        a, b = User(b"v"), User(b"v")
        for op in joined(line.split()[2:]):
            a.apply(op, c.executor.users.commands, False)
        for op in [r.encode() for r in rules]:
            b.apply(op, c.executor.users.commands, False)
        assert a.describe() == b.describe(), rules
        assert [s.allowed for s in a.selectors] == [s.allowed for s in b.selectors], rules


# ---- logging in ----------------------------------------------------------------------------------

def test_users_and_passwords(c):
    assert c("ACL", "WHOAMI") == b"default"
    assert c("ACL", "LIST") == [b"user default on nopass sanitize-payload ~* &* +@all"]
    c("ACL", "SETUSER", "alice", "on", ">one", ">two", "+@all", "~*")
    a = c.other()
    for password in ("one", "two"):
        assert a("AUTH", "alice", password) == b"OK" and a("ACL", "WHOAMI") == b"alice"
        assert a("RESET") == b"RESET" and a("ACL", "WHOAMI") == b"default"
    wrong = "WRONGPASS invalid username-password pair or user is disabled."
    for name, password in (("alice", "x"), ("nobody", "one"), ("alice", "")):
        assert a.error("AUTH", name, password) == wrong
    assert a("HELLO", "2", "AUTH", "alice", "two") and a("ACL", "WHOAMI") == b"alice"
    assert b" user=alice " in a("CLIENT", "INFO")
    c("ACL", "SETUSER", "alice", "<one", "off")
    assert a("PING") == b"PONG", "who is logged in stays"
    assert c.other().error("AUTH", "alice", "two") == wrong
    found = c("ACL", "GETUSER", "alice")
    assert dict(zip(found[::2], found[1::2])) == {
        b"flags": [b"off", b"sanitize-payload"],
        b"passwords": [hashlib.sha256(b"two").hexdigest().encode()], b"commands": b"+@all",
        b"keys": b"~*", b"channels": b"", b"selectors": []}
    assert c("ACL", "GETUSER", "nobody") is None
    assert c("ACL", "USERS") == [b"alice", b"default"]
    for name in ("a b", "a\nb", b"a\0b"):
        assert c.error("ACL", "SETUSER", name) == ("ERR Usernames can't contain spaces or null "
                                                   "characters")
    assert c.error("ACL", "DELUSER", "alice", "default") == ("ERR The 'default' user cannot be "
                                                             "removed")
    assert c("ACL", "DELUSER", "alice", "nobody") == 1 and c("ACL", "USERS") == [b"default"]


def test_the_default_user_and_requirepass(c):
    c.executor.requirepass = b"secret"
    assert c("ACL", "LIST")[0].startswith(b"user default on sanitize-payload #")
    stranger = c.other()
    assert stranger.error("GET", "k") == "NOAUTH Authentication required."
    assert stranger.error("AUTH", "x").startswith("WRONGPASS")
    c("ACL", "SETUSER", "default", "nopass")
    assert stranger("GET", "k") is None and c.other()("GET", "k") is None
    assert stranger.error("AUTH", "x").startswith("ERR AUTH <password> called without any password")
    c("ACL", "SETUSER", "default", "-get")
    assert stranger.error("GET", "k") == command_refused("default", "get")
    c("ACL", "SETUSER", "default", "off")
    assert c.other().error("GET", "k") == "NOAUTH Authentication required."


def test_who_is_removed_is_nobody(c):
    u = user(c, "+@all", "~*")
    c("ACL", "SETUSER", "default", "resetpass")
    c("ACL", "DELUSER", "u")
    assert u.error("GET", "k") == "NOAUTH Authentication required."


def test_who_removes_himself_gets_no_rights_by_it(c):
    """What is left of the transaction would else run as the default user."""
    u = user(c, "+acl|deluser", "+multi", "+exec", "+eval", "+set", "~m")
    u("MULTI")
    for argv in (("ACL", "DELUSER", "u"), ("SET", "m", "1"),
                 ("EVAL", "return redis.call('SET', 'o', '1')", "0")):
        assert u(*argv) == b"QUEUED"
    removed, *left = u("EXEC")
    assert removed == 1 and all("NOPERM" in str(r) for r in left) and len(left) == 2
    assert c("EXISTS", "m", "o") == 0


# ---- rights that change --------------------------------------------------------------------------

def test_transactions(c):
    u = user(c, "+@all", "-del", "~m", "&ch")
    u("MULTI")
    assert u.error("DEL", "m") == command_refused("u", "del") and u.error("GET", "o") == KEY
    assert u.error("EXEC").startswith("EXECABORT")
    u("MULTI")
    for argv in (("SET", "m", "1"), ("GET", "m"), ("PUBLISH", "ch", "x"), ("PING",)):
        assert u(*argv) == b"QUEUED"
    c("ACL", "SETUSER", "u", "-set", "resetkeys", "resetchannels")
    changed = ("NOPERM ACLs rules changed between the moment the transaction was accumulated and "
               "the EXEC call. This command is no longer allowed for the following reason: ")
    replies = u("EXEC")
    assert [str(r) for r in replies[:3]] == [
        changed + "no permission to execute the command or subcommand",
        changed + "no permission to touch the specified keys",
        changed + "no permission to access one of the channels used as arguments to the command"]
    assert c("GET", "m") is None
    c("ACL", "SETUSER", "u", "-exec", "allkeys")
    u("MULTI")
    assert u.error("EXEC") == ("EXECABORT Transaction discarded because of: "
                               + command_refused("u", "exec"))


def test_scripts_have_the_rights_of_who_runs_them(c):
    u = user(c, "+eval", "+get", "~m*")
    call = "return redis.call(unpack(ARGV))"
    assert u("EVAL", call, "0", "GET", "m") is None
    failed = "ERR ACL failure in script: "
    for argv, why in ((("SET", "m", "1"), command_refused("u", "set")), (("GET", "o"), KEY)):
        assert u.error("EVAL", call, "0", *argv).startswith(failed + why.removeprefix("NOPERM "))
    may = "return redis.acl_check_cmd(unpack(ARGV)) and 1 or 0"
    assert [u("EVAL", may, "0", *argv) for argv in (("GET", "m"), ("GET", "o"), ("SET", "m", "1"))
            ] == [1, 0, 0]
    assert c("EVAL", call, "0", "SET", "o", "1") == b"OK"
    assert c("EVAL", may, "0", "SET", "o", "1") == 1
    assert "Invalid command" in u.error("EVAL", may, "0", "NONE")
    assert c("GET", "m") is None


def test_who_waits_is_asked_again_when_served(c):
    u, other = user(c, "+@all", "~m"), c.other()
    assert u.raw("BLPOP", "m", "0") == b"" and other.raw("BLPOP", "m", "0") == b""
    c("ACL", "SETUSER", "u", "-blpop")
    c("RPUSH", "m", "x")
    assert u.session.take_replies() == f"-{command_refused('u', 'blpop')}\r\n".encode()
    assert b"x" in other.session.take_replies() and c("EXISTS", "m") == 0
    calls, _, rejected, failed = c.executor.command_stats()["blpop"]
    assert (calls, rejected, failed) == (1, 1, 0)


def test_channels(c):
    u = user(c, "+@all", "&ch:*", "&news*", resp=3)
    for name in ("SUBSCRIBE", "SSUBSCRIBE", "PUBLISH", "SPUBLISH"):
        rest = ["m"] if name.endswith("PUBLISH") else []
        assert u.error(name, "other", *rest) == CHANNEL
        assert not u.raw(name, "ch:1", *rest).startswith(b"-")
    assert u.error("SUBSCRIBE", "ch:1", "other") == CHANNEL
    assert u.error("PSUBSCRIBE", "ch:1*") == CHANNEL, "a pattern has to be the very same"
    assert u.error("PSUBSCRIBE", "*") == CHANNEL
    assert not u.raw("PSUBSCRIBE", "ch:*", "news*").startswith(b"-")
    for name in ("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"):
        assert not u.raw(name, "other").startswith(b"-")
    users = c.executor.users
    assert users.set(b"u", [b"&more"]) == []
    assert users.set(b"u", [b"resetchannels", b"&ch:*"]) == [u.session.id]
    u("PUNSUBSCRIBE", "news*")
    assert users.set(b"u", [b"(&news +@all)"]) == []
    assert users.set(b"u", [b"clearselectors", b"resetchannels", b"&ch:1"]) == [u.session.id]


def test_new_users_may_listen_to_what_the_setting_says(c):
    c("ACL", "SETUSER", "a")
    c.executor.users.all_channels = True
    c("ACL", "SETUSER", "b", "(+get)")
    c("ACL", "SETUSER", "a", "reset")
    assert all(line.count(b"&*") == line.count(b"all") for line in c("ACL", "LIST")[:1])
    assert c("ACL", "LIST")[1] == b"user b off sanitize-payload &* -@all (&* -@all +get)"


# ---- what is told --------------------------------------------------------------------------------

def test_dryrun_genpass_cat(c):
    user(c, "+get", "+config|get", "~m", "&ch", "+publish")
    assert c("ACL", "DRYRUN", "u", "GET", "m") == b"OK"
    assert (c("ACL", "DRYRUN", "u", "GET", "o")
            == b"User u has no permissions to access the 'o' key")
    assert (c("ACL", "DRYRUN", "u", "PUBLISH", "x", "m")
            == b"User u has no permissions to access the 'x' channel")
    assert (c("ACL", "DRYRUN", "u", "config", "set", "a", "b")
            == b"User u has no permissions to run the 'config|set' command")
    assert c.error("ACL", "DRYRUN", "x", "GET", "m") == "ERR User 'x' not found"
    assert c.error("ACL", "DRYRUN", "u", "NONE") == "ERR Command 'NONE' not found"
    assert (c.error("ACL", "DRYRUN", "u", "GET") ==
            "ERR wrong number of arguments for 'get' command")
    assert re.fullmatch(rb"[0-9a-f]{64}", c("ACL", "GENPASS"))
    assert [len(c("ACL", "GENPASS", bits)) for bits in (1, 5, 4096)] == [1, 2, 1024]
    assert "up to 4096" in c.error("ACL", "GENPASS", "4097")
    assert b"keyspace" in c("ACL", "CAT") and b"config|set" in c("ACL", "CAT", "admin")
    assert c.error("ACL", "CAT", "none") == "ERR Unknown category 'none'"


def test_log(c):
    u = user(c, "+get", "+eval", "+multi", "+exec", "~m")
    for _ in range(2):
        u.error("GET", "o")
    u.error("SET", "m", "1")
    u("MULTI")
    u.error("DEL", "m")
    u.error("EXEC")
    u.error("EVAL", "return redis.call('GET', 'p')", "0")
    u.error("AUTH", "who", "x")
    rows = [dict(zip(row[::2], row[1::2])) for row in c("ACL", "LOG")]
    assert [(r[b"reason"], r[b"context"], r[b"object"], r[b"username"], r[b"count"])
            for r in rows] == [(b"auth", b"toplevel", b"AUTH", b"who", 1),
                               (b"key", b"lua", b"p", b"u", 1),
                               (b"command", b"multi", b"del", b"u", 1),
                               (b"command", b"toplevel", b"set", b"u", 1),
                               (b"key", b"toplevel", b"o", b"u", 2)]
    assert b" user=u " in rows[-1][b"client-info"]
    assert [re.search(rb" cmd=(\w+) ", r[b"client-info"])[1] for r in rows] == [
        b"auth", b"eval", b"del", b"set", b"get"]
    assert c.executor.users.refused == {"auth": 1, "cmd": 2, "key": 3, "channel": 0,
                                        "tls_cert": 0}
    c.executor.users.limit_log(2)
    assert len(c("ACL", "LOG", 10)) == 2 == len(c("ACL", "LOG", 2)) and c("ACL", "LOG", 0) == []
    c("ACL", "LOG", "RESET")
    assert c("ACL", "LOG") == []


def test_what_handshakes_ask_for_is_unknown_to_who_may_not(c):
    u = user(c, "+get", "~k")
    assert (u.error("CLIENT", "maint_notifications", "ON")
            == "ERR unknown subcommand 'maint_notifications'. Try CLIENT HELP.")
    assert c("ACL", "LOG") == [] and c.executor.users.refused["cmd"] == 0
    assert "'client|setinfo'" in u.error("CLIENT", "SETINFO", "LIB-NAME", "x")
    assert len(c("ACL", "LOG")) == 1
    c("ACL", "SETUSER", "u", "+client|maint_notifications")
    assert u("CLIENT", "MAINT_NOTIFICATIONS", "OFF") == b"OK"


def test_of_the_log_the_last_ten_are_counted_together(c):
    u = user(c, "+get", "~k")
    for i in range(15):
        u.error("GET", f"a{i}")
    u.error("GET", "a5")
    u.error("GET", "a4")                    # which is the eleventh: new
    rows = [dict(zip(row[::2], row[1::2])) for row in c("ACL", "LOG", 100)]
    assert [(int(r[b"object"][1:]), r[b"count"]) for r in rows] == [
        (4, 1), (5, 2), *((i, 1) for i in range(14, 5, -1)), *((i, 1) for i in range(4, -1, -1))]


def test_passwords_are_not_shown(c):
    c.executor.set_slowlog(0, 128)
    c("ACL", "SETUSER", "alice", ">secret")
    c.other().raw("AUTH", "alice", "secret")
    c.other().raw("HELLO", "2", "AUTH", "alice", "secret")
    for name in ("requirepass", "tls-key-file-pass", "redis_password", "auth_token", "masterauth"):
        c.raw("CONFIG", "SET", "hz", "9", name, "secret")
    assert b"secret" not in b" ".join(a for row in c.executor.slowlog() for a in row[3])


def test_conflicts_hold_values_of_keys_that_others_may_not_read(c):
    u = user(c, "~mine", "+@read", "+@all", "-@admin")
    assert u.error("CRDT.CONFLICTS") == command_refused("u", "crdt.conflicts")
    assert user(c, "~mine", "+@read").error("CRDT.CONFLICTS") == u.error("CRDT.CONFLICTS")


@pytest.mark.parametrize("rule", ["+get|%d", "~%d", "&%d", ">%d", "(~%d)"])
def test_a_rule_costs_the_same_however_many_there_are(c, rule):
    """Counted in steps of Python's; 10,000 rules of one user took half a minute."""
    steps = 0

    def count(frame, event, arg):
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return count

    users, costs = c.executor.users, []
    for n in (50, 400):
        ops, before = [(rule % i).encode() for i in range(n)], steps
        alice, tracing = User(b"alice"), sys.gettrace()
        sys.settrace(count)
        try:
            for op in ops:
                alice.apply(op, users.commands, False)
        finally:
            sys.settrace(tracing)
        costs.append((steps - before) / n)
    assert costs[1] < 1.5 * costs[0]


def test_rules_in_parentheses_are_counted_as_they_are_read(c):
    rules = b"(%b)" % b" ".join(b"~%d" % i for i in range(10_001))
    assert c.error("ACL", "SETUSER", "u", rules) == "ERR too many rules of one user"
    assert c.error("ACL", "SETUSER", "u", rules[:-1] + b" nonsense)") == \
        "ERR too many rules of one user"
    assert c("ACL", "USERS") == [b"default"]


# ---- files ---------------------------------------------------------------------------------------

def test_files(c, tmp_path):
    users, path = c.executor.users, tmp_path / "users.acl"
    c("ACL", "SETUSER", "alice", "on", ">p", "~a*", "%R~b*", "&ch", "+@read", "(+set ~x)")
    c("ACL", "SETUSER", "gone", "on", "nopass", "+@all")
    before = c("ACL", "LIST")
    users.save(str(path))
    gone = c.other()
    gone("AUTH", "gone", "x")
    path.write_text("".join(line for line in path.read_text().splitlines(True)
                            if " gone " not in line))
    assert users.load(str(path)) == [gone.session.id]
    assert c("ACL", "LIST") == [line for line in before if b" gone " not in line]
    for text, why in (("user bob +none", "Error in applying operation '+none': Unknown command or"),
                      ("user bob\nuser bob", "Duplicate user 'bob' found on line 2"),
                      ("bob on", ":1 should start with user keyword"),
                      ("user a >x y", "Syntax error"),
                      ("user a (+get", "Unmatched parenthesis")):
        path.write_text(text)
        with pytest.raises(FileError) as e:
            users.load(str(path))
        assert why in str(e.value) and "no change to the previously active" in str(e.value)
    with pytest.raises(FileError, match="No such file"):
        users.load(str(tmp_path / "none"))
    assert c("ACL", "USERS") == [b"alice", b"default"]
    assert c.error("ACL", "LOAD").startswith("ERR This Redis instance is not configured to use an")


def test_the_default_user_without_a_line_keeps_requirepass(c, tmp_path):
    c.executor.requirepass = b"secret"
    (tmp_path / "users").write_text("user alice on nopass +@all ~*\n")
    c.executor.users.load(str(tmp_path / "users"))
    assert c.other().error("PING") == "NOAUTH Authentication required."
    assert [line.split()[0] for line in c.executor.users.lines()] == [b"alice"]


@pytest.mark.parametrize("ports", [(1, 0), (0, 1)])
def test_users_do_not_open_the_server_to_other_machines(c, ports):
    config = SimpleNamespace(aclfile="", users=("a on",), bind=("127.0.0.1", "-10.0.0.1"),
                             protected_mode=True, server_port=ports[0], tls_port=ports[1])
    with pytest.raises(FileError, match="since bind opens 10.0.0.1"):
        c.executor.users.load_configured(config)
    for user in ("default on >p", "default off"):
        config.users = (user,)
        c.executor.users.load_configured(config)


# ---- beside Redis --------------------------------------------------------------------------------

RULES = ["~a*", "~b", "%R~r*", "%W~w*", "%RW~a", "allkeys", "resetkeys", "&ch*", "allchannels",
         "resetchannels", "+@all", "-@all", "+select|0", "+config|get", "-config|set", "+client",
         "-client|id", "nocommands", "allcommands", "(~c* +@all)", "(%R~d +get)", "clearselectors",
         "+object|none", "-select|0", "+@none", "~x y", "%~x", "%Q~x", "+", "none", "&a b"]
CALLS = ["GET a1", "SET a1 v", "SET a1 v GET", "GET r1", "SET r1 v", "SET w1 v", "GETDEL w1",
         "EXISTS w1", "MGET a b c", "MSET a 1 b 2", "COPY r1 w1", "EVAL x 2 a c", "EVAL x x a",
         "ZUNIONSTORE a 2 b c", "SORT r STORE w", "SORT a BY x*", "GEORADIUS a 0 0 1 m STORE b",
         "BITFIELD r GET u8 0", "BITFIELD r SET u8 0 1", "PUBLISH ch1 m", "PUBLISH x m",
         "SUBSCRIBE ch1 x", "PSUBSCRIBE ch*", "PSUBSCRIBE ch1*", "UNSUBSCRIBE x", "SELECT 0",
         "SELECT 1", "CONFIG GET x", "CONFIG SET x y", "CLIENT ID", "CLIENT KILL x", "FLUSHALL",
         "OBJECT ENCODING r", "PING", "AUTH x", "DEL c1", "LMOVE r w LEFT LEFT", "XX", "WATCH c",
         "LMPOP 2 a b LEFT", "SINTERCARD 2 r a", "DUMP d", "KEYS *", "MULTI", "TYPE d"]


def test_categories_are_those_of_redis(c, reference):
    """Of the commands that both have. In 7.2 WAIT is blocking, too."""
    names = {n.lower().encode() for n in SPECS} - {b"wait", b"pubsub|help"}
    with reference.connect() as theirs:
        categories = theirs("ACL", "CAT")
        assert set(categories) == set(c("ACL", "CAT"))
        held = {x: set(theirs("ACL", "CAT", x)) for x in categories}
        names &= set().union(*held.values())
        for x in categories:
            assert set(c("ACL", "CAT", x)) & names == held[x] & names, x


def test_rules_and_what_they_allow_are_those_of_redis(c, reference):
    """Redis 7.0 knows the same rules as 7.2, words refusals in another way, and its categories hold
    no subcommands."""
    rng = random.Random(5)
    categories = [x.decode() for x in c("ACL", "CAT")]
    with reference.connect() as theirs:
        names = {x.decode() for x in theirs("COMMAND", "LIST")} & {n.lower() for n in SPECS}
        names = sorted(n for n in names if "|" not in n)
        for seed in range(150):
            rules = [rng.choice([rng.choice(RULES), rng.choice("+-") + "@" + rng.choice(categories),
                                 rng.choice("+-") + rng.choice(names)])
                     for _ in range(rng.randrange(9))]
            categorical = any("@" in rule and "@all" not in rule for rule in rules)
            calls = [x.split() for x in CALLS
                     if not (categorical and x.startswith(("CLIENT", "CONFIG", "OBJECT")))]
            answers = []
            for server in (theirs, c):
                server("ACL", "DELUSER", "u")
                out = []
                for argv in [["ACL", "SETUSER", "u", "reset"],
                             *(["ACL", "SETUSER", "u", rule] for rule in rules),
                             *(["ACL", "DRYRUN", "u", *call] for call in calls)]:
                    try:
                        out.append(server(*argv))
                    except ReplyError as e:
                        out.append(str(e))
                answers.append([(x if isinstance(x, bytes) else str(x).encode())
                                .replace(b"This user has", b"User u has") for x in out])
            theirs("ACL", "DELUSER", "u")          # other tests list the users of this server
            for argv, expected, got in zip(["reset", *rules, *calls], *answers):
                assert got == expected, (seed, rules, argv)

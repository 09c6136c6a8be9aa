"""Users that hold at all replicas: which of two changes holds, what a replica's own users are
beside them, rules of versions to come, bounds, and what is never told."""
import contextlib
import logging
import random
from types import SimpleNamespace

import pytest

from crdtredis import audit
from crdtredis.commands import shared_users
from crdtredis.commands.shared_users import DELETED, USERS, SharedUsers
from crdtredis.errors import CommandError
from tests.commands.run import NOW, Client, exchange


class Replica(Client):
    """With replicate_acl, and own users as a configuration has them."""

    def __init__(self, name="a", own=(), executor=None, **options):
        super().__init__(name, executor=executor, **options)
        users = self.executor.users
        users.replace(users.read([("", f"user {line}".encode().split()) for line in own]))
        self.on()

    def on(self):
        self.executor.users.shared = self.shared = SharedUsers(self.executor)
        self.shared.begin()

    def off(self):
        self.executor.users.shared = None

    def refresh(self) -> list[int]:
        return self.shared.refresh()

    @property
    def hash(self) -> dict:
        return self.replica.system_hash(USERS)

    @property
    def names(self) -> list[bytes]:
        return self("ACL", "USERS")

    def line(self, name: str) -> bytes:
        return next((x for x in self("ACL", "LIST") if x.split()[1] == name.encode()), b"")


def sync(*replicas) -> None:
    exchange(*replicas)
    for r in replicas:
        if r.executor.users.shared is not None:
            r.refresh()
    assert len({r.replica.digest() for r in replicas}) == 1


@pytest.fixture
def pair():
    return Replica("a"), Replica("b")


# ---- which change holds --------------------------------------------------------------------------

def test_what_one_replica_says_holds_at_the_others(pair):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on", ">secret", "~b*", "%R~c*", "&n", "+@read", "-get", "+select|0",
      "(+set ~x)")
    sync(a, b)
    assert a("ACL", "LIST") == b("ACL", "LIST") and b("AUTH", "bob", "secret") == b"OK"
    assert b.error("GET", "b1").startswith("NOPERM") and b("STRLEN", "b1") == 0
    b("AUTH", "default", "")
    b("ACL", "SETUSER", "bob", "+get")                      # one more rule
    sync(a, b)
    assert a("ACL", "LIST") == b("ACL", "LIST") and b"+get" in a.line("bob")
    assert b("ACL", "DELUSER", "bob", "nobody") == 1
    sync(a, b)
    assert a.names == b.names == [b"default"]
    assert a.error("AUTH", "bob", "secret").startswith("WRONGPASS")


def test_of_two_changes_the_later_holds_whole(pair):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on", "+get", "~*")
    sync(a, b)
    a.now, b.now = NOW + 10, NOW + 5
    a("ACL", "SETUSER", "bob", "off")
    b("ACL", "SETUSER", "bob", "+set")
    sync(a, b)
    assert a.line("bob") == b.line("bob")
    assert b" off " in a.line("bob") and b"+set" not in a.line("bob")


def test_a_change_that_a_deletion_has_not_observed_survives_it(pair):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on", "+get", "~*")
    sync(a, b)
    a.now, b.now = NOW + 10, NOW + 5
    a("ACL", "DELUSER", "bob")
    b("ACL", "SETUSER", "bob", "+set")
    sync(a, b)
    assert a.line("bob") == b.line("bob") != b""
    a("ACL", "DELUSER", "bob")
    sync(a, b)
    assert a.names == b.names == [b"default"]
    b("ACL", "SETUSER", "bob")
    sync(a, b)
    assert b" off " in a.line("bob") and list(a.hash) == [b"bob"], "with no word of its deletion"


def test_replicas_that_change_users_at_random_agree():
    dice = random.Random(11)
    names = [b"u0", b"u1", b"u2", b"u3", b"default"]
    rules = [b"on", b"off", b"+set", b"-set", b">p", b"nopass", b"reset", b"resetkeys", b"~k",
             b"(+get ~z)", b"clearselectors"]
    for seed in range(8):
        replicas = [Replica(n, own=["u1 on +get ~*"] if n == "c" else (), epoch=NOW + seed)
                    for n in "abc"]
        made, got = [], dict.fromkeys(replicas, 0)

        def deliver(r, n, made=made, got=got):
            for batch in made[got[r]:n]:
                r.replica.receive(batch)
            got[r] = max(got[r], n)
            r.refresh()

        for _ in range(60):
            r, name = dice.choice(replicas), dice.choice(names)
            r.now += dice.randrange(3)
            with contextlib.suppress(CommandError):
                if name == b"default" or dice.random() < 0.6:
                    r.executor.users.set(name, dice.sample(rules, 3))
                else:
                    r.executor.users.remove([name])
            made += filter(None, [r.replica.take_ops()])
            deliver(r, dice.randrange(len(made) + 1))
        for r in replicas:
            deliver(r, len(made))
        assert len({r.replica.digest() for r in replicas}) == 1
        touched = {n.removeprefix(DELETED) for n in replicas[0].hash}
        lists = [[x for x in lines_of(r) if x.split()[1] in touched] for r in replicas]
        assert lists[0] == lists[1] == lists[2] and len(touched) > 3
        for r in replicas:
            assert [b"user " + r.executor.users.users[n].describe()
                    for n in r.executor.users.names()] == lines_of(r)


def lines_of(r) -> list[bytes]:
    """The users as they must be, read anew from the hash and the own users."""
    other = SharedUsers(SimpleNamespace(users=r.executor.users, replica=r.replica))
    said, _, _ = shared_users.admitted(r.hash)
    found = {n: u for n, u in r.shared.own.items() if n not in said}
    found |= {n: other.read(n, rules) for n, rules in said.items() if rules is not None}
    return [b"user " + found[n].describe() for n in sorted(found)]


# ---- a replica's own users -----------------------------------------------------------------------

def test_own_users_are_not_told_and_give_way():
    a, b = Replica("a", ["bob on +get ~*"]), Replica("b", ["bob on nopass +@all ~*", "eve on +get"])
    sync(a, b)
    assert a.hash == {} and b.names == [b"bob", b"default", b"eve"]
    a("ACL", "SETUSER", "bob", "-get")
    sync(a, b)
    assert a.line("bob") == b.line("bob") and b"-get" in b.line("bob")
    assert a.names == [b"bob", b"default"] and b.names == [b"bob", b"default", b"eve"]


def test_a_deleted_user_does_not_come_back_with_a_configuration():
    own = ["bob on nopass +@all ~*"]
    a, b, c = Replica("a", own), Replica("b", own), Replica("c")
    c("ACL", "SETUSER", "eve", "on")
    sync(a, b, c)
    assert a("ACL", "DELUSER", "bob") == 1, "though nobody has ever said anything of it"
    c("ACL", "DELUSER", "eve")
    sync(a, b, c)
    assert b.names == [b"default"]
    again = Replica(own=[*own, "eve on +@all"], executor=b.executor)
    assert again.names == [b"default"], "after a restart"
    a("ACL", "SETUSER", "bob", "off")
    exchange(a, again)
    again.refresh()
    assert b" off " in again.line("bob")


def test_deletions_are_remembered_for_a_while_and_of_own_users_always(monkeypatch):
    monkeypatch.setattr(shared_users, "DELETED_MOST", 3)
    a, b = Replica("a", ["bob on +@all"]), Replica("b", ["bob on +@all", "u0 on +@all"])
    a("ACL", "DELUSER", "bob")
    for i in range(6):
        a.now += 1
        a("ACL", "SETUSER", f"u{i}", "on")
        sync(a, b)
        a("ACL", "DELUSER", f"u{i}")
        sync(a, b)
        b.shared.remember()                 # as the loop does, soon
        sync(a, b)
    assert sorted(a.hash) == [DELETED + n for n in (b"bob", b"u0", b"u3", b"u4", b"u5")]
    assert b.names == [b"default"], "what was deleted stays so while this process lives"
    assert Replica(own=["u0 on +@all"], executor=b.executor).names == [b"default"], "and later"


def test_a_deletion_of_an_own_user_is_remembered_also_where_others_delete_it_again(monkeypatch):
    monkeypatch.setattr(shared_users, "DELETED_MOST", 3)
    own = ["bob on nopass +@all ~*"]
    a, b = Replica("a", own), Replica("b")
    a("ACL", "DELUSER", "bob")
    sync(a, b)
    b("ACL", "SETUSER", "bob", "on")
    sync(a, b)
    assert b" on " in a.line("bob")
    b("ACL", "DELUSER", "bob")
    for i in range(6):
        b.now += 1
        b("ACL", "SETUSER", f"u{i}", "on")
        b("ACL", "DELUSER", f"u{i}")
    sync(a, b)
    assert len(a.hash) == 4
    assert Replica(own=own, executor=a.executor).names == [b"default"]


def test_who_logged_in_by_what_holds_no_longer_while_a_start_loaded_is_closed():
    own = ["bob on >old +@all", "eve on >p", "off off >old", "cert on", "any on nopass", "same on",
           "gone on nopass"]
    a = Replica("a", own)
    for name, *rules in (("bob", "resetpass", ">new"), ("eve", ">more"), ("off", "on", ">new"),
                         ("cert", "+get"), ("any", ">p"), ("default", ">p")):
        a("ACL", "SETUSER", name, *rules)
    a("ACL", "DELUSER", "gone")
    users = a.executor.users
    users.shared = None
    users.set_password(None)
    users.replace(users.read([("", f"user {line}".encode().split()) for line in own]))
    gone = a.other()
    gone("AUTH", "gone", "")
    rows = [{"id": 100 + i, "user": n} for i, n in enumerate(
        ("bob", "eve", "off", "cert", "any", "same", "default", "nobody"))]
    users.shared = SharedUsers(SimpleNamespace(
        users=users, replica=a.replica, loop=SimpleNamespace(
            clients=lambda: rows, call_soon=lambda f: None)))
    assert users.shared.begin_serving() == [gone.session.id, 100, 104, 106]


def test_the_default_user_and_requirepass(pair):
    a, b = pair
    b.executor.requirepass = b"own"
    assert b.error("AUTH", "x").startswith("WRONGPASS") and b("AUTH", "own") == b"OK"
    assert a.error("ACL", "DELUSER", "default").startswith("ERR The 'default' user")
    a("ACL", "SETUSER", "default", ">theirs", "-flushall")
    sync(a, b)
    assert b.executor.users.is_shared(b"default") and a("ACL", "LIST") == b("ACL", "LIST")
    other = b.other()
    assert other.error("GET", "k").startswith("NOAUTH")
    assert other.error("AUTH", "own").startswith("WRONGPASS") and other("AUTH", "theirs") == b"OK"
    b.executor.requirepass = b"new"                         # as at a start: the own user's
    assert other("AUTH", "theirs") == b"OK"


def test_a_replica_that_has_it_off_passes_it_on():
    a, b, c = Replica("a"), Replica("b"), Replica("c")
    b.off()
    a("ACL", "SETUSER", "bob", "on", "+get", "~*")
    b("ACL", "SETUSER", "eve", "on")
    exchange(a, b, c)
    c.refresh()
    assert b("ACL", "DELUSER", "eve") == 1 and c.names == [b"bob", b"default"]
    b("ACL", "SETUSER", "bob", "nopass", "+@all", "~*")     # its own
    b("ACL", "SETUSER", "local", "on")
    b.on()
    assert b.line("bob") == a.line("bob") and b.names == [b"bob", b"default", b"local"]
    b.off()
    assert b.names == [b"bob", b"default", b"local"], "they stay, as its own"
    b("ACL", "DELUSER", "bob")
    sync(a, c)
    assert a.names == [b"bob", b"default"]


def test_configurations_are_written_without_what_is_replicated():
    a = Replica("a", ["bob on +get", "eve on +get"])
    a("ACL", "SETUSER", "new", "on")
    a("ACL", "SETUSER", "bob", "+set")
    assert [x.split()[0] for x in a.executor.users.lines()] == [b"eve"]


def test_a_default_user_that_is_closed_stays_so_in_a_configuration():
    a = Replica("a", ["default off resetkeys -@all"])
    a.executor.users.set(b"default", [b"on", b"nopass", b"+@all"])
    assert a.executor.users.lines() == [a.shared.own[b"default"].describe()]
    assert b"default off" in a.executor.users.lines()[0]


def test_a_file_of_users_is_loaded_for_all(tmp_path):
    file = tmp_path / "users.acl"
    server = SimpleNamespace(config=SimpleNamespace(aclfile=str(file)), sync=None)
    a, b = Replica("a", ["old on"], server=server), Replica("b", ["old on"])
    b("ACL", "SETUSER", "gone", "on")
    b("ACL", "SETUSER", "default", "-debug")
    sync(a, b)
    file.write_bytes(b"user bob on >secret +get ~*\n")
    assert a("ACL", "LOAD") == b"OK"
    sync(a, b)
    assert a.names == b.names == [b"bob", b"default"] and a("ACL", "LIST") == b("ACL", "LIST")
    assert b"-debug" not in b.line("default") and not b.executor.users.is_shared(b"default")
    file.write_bytes(b"user bob on +nocommand\n")
    before = a.hash
    assert a.error("ACL", "LOAD").startswith("ERR ") and a.hash == before
    a("ACL", "SAVE")
    assert file.read_bytes().splitlines() == a("ACL", "LIST")


# ---- what is not understood ----------------------------------------------------------------------

@pytest.mark.parametrize("rules", [b"on nopass ~* &* +@all +newcommand", b"on +@newcategory",
                                   b"on nopass ~* +@all newflag", b"on (+get", b"on #123", b"\xff",
                                   b"on nopass +@all " + b"~" + b"k" * (1 << 16)])
def test_rules_of_a_newer_version_make_a_user_who_may_nothing(pair, rules):
    a, b = pair
    for name in ("bob", "default"):
        a("ACL", "SETUSER", name, "on", "nopass", "+@all", "~*", "&*")
    sync(a, b)
    client = b.other()
    client("AUTH", "bob", "any")
    for name in (b"bob", b"default"):
        a.replica.system_set(USERS, {name: rules})
    sync(a, b)
    for who in (client, b):
        assert who.error("GET", "k").startswith("NOPERM")
    assert b.other().error("AUTH", "bob", "any").startswith("WRONGPASS")
    users = b.executor.users
    assert users.users[b"bob"].describe() == (
        b"bob off sanitize-payload resetchannels -@all")
    again = Replica(executor=b.executor)
    assert again.error("PING").startswith("NOPERM"), "nor after a restart"
    assert b.hash[b"bob"] == rules, "for those who understand it"
    with pytest.raises(Exception, match="newer version.*begin with reset"):
        users.set(b"bob", [b"+get"])
    users.set(b"bob", [b"reset", b"on", b"nopass", b"+get", b"~*"])
    users.set(b"default", [b"reset", b"on", b"nopass", b"+@all", b"~*"])
    client = b.other()
    client("AUTH", "bob", "any")
    assert client("GET", "k") is None and b("SET", "k", "v") == b"OK"


def test_names_that_are_none(pair):
    a, b = pair
    a.replica.system_set(USERS, {b"a b": b"on", b"n" * 257: b"on", b"x\0": b"on", b"deleted ": b"1",
                                 b"deleted default": b"1", b"deleted x y": b"", b"": b"on"})
    sync(a, b)
    assert a.names == b.names == [b"", b"default"]


def test_a_file_that_was_saved_does_not_take_away_what_is_not_understood(tmp_path):
    file = tmp_path / "users.acl"
    a = Replica("a", server=SimpleNamespace(config=SimpleNamespace(aclfile=str(file)), sync=None))
    a.replica.system_set(USERS, {b"bob": b"on nopass ~* +@all +newcommand"})
    a.refresh()
    before = a.hash
    a("ACL", "SAVE")
    assert "newer version" in a.error("ACL", "LOAD") and a.hash == before
    a("ACL", "DELUSER", "bob")
    assert a("ACL", "LOAD") == b"OK" and a.names == [b"bob", b"default"]


# ---- refusals and bounds -------------------------------------------------------------------------

def test_a_wrong_rule_changes_nothing(pair):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on")
    sync(a, b)
    before = a.hash
    for rules in (["+get", "wrong"], ["+nocommand"], ["(+get"], ["+select|a b"], ["<p"]):
        assert a.error("ACL", "SETUSER", "bob", *rules).startswith("ERR "), rules
    assert a.error("ACL", "SETUSER", "a b", "on").startswith("ERR ")
    assert a.hash == before and a("ACL", "LIST") == b("ACL", "LIST")
    assert a("ACL", "DELUSER", "nobody") == 0 and a.hash == before


def test_while_nothing_can_be_written_users_stay_as_they_are(pair):
    a, _ = pair
    a("ACL", "SETUSER", "bob", "on")
    before = a("ACL", "LIST"), a.hash

    def refused() -> str:
        errors = {a.error("ACL", "SETUSER", "bob", "+get").split()[0],
                  a.error("ACL", "DELUSER", "bob").split()[0]}
        assert (a("ACL", "LIST"), a.hash) == before
        return "".join(errors)

    a.executor.loading = True
    assert refused() == "LOADING"
    a.executor.loading = False
    a.executor.misconf = "no disk"
    assert refused() == "MISCONF"
    a.executor.misconf = None
    a.executor.server = SimpleNamespace(sync=SimpleNamespace(too_old=lambda: "old"))
    assert refused() == "ERR"


def test_bounds(pair, monkeypatch):
    a, b = pair
    monkeypatch.setattr(shared_users, "USERS_MOST", 3)
    for i in range(3):
        a("ACL", "SETUSER", f"a{i}", "on")
        b("ACL", "SETUSER", f"b{i}", "on")
    assert a.error("ACL", "SETUSER", "more", "on") == "ERR too many users"
    a("ACL", "SETUSER", "a0", "+get")
    sync(a, b)
    assert a.names == b.names == [b"a0", b"a1", b"a2", b"default"], "the same at both"
    assert a.error("ACL", "SETUSER", "a9", "on") == "ERR too many users"
    a("ACL", "SETUSER", "a1", "+get")
    assert b("ACL", "DELUSER", "b1", "b2", "a0") == 3, "also who is one too many"
    sync(a, b)
    assert a.names == b.names == [b"a1", b"a2", b"b0", b"default"]
    assert a("ACL", "LIST") == b("ACL", "LIST")
    monkeypatch.setattr(shared_users, "BYTES_MOST", 300)
    assert a.error("ACL", "SETUSER", "a1", "~" + "k" * 300) == "ERR too many users"
    assert a.error("ACL", "SETUSER", "a1", "~" + "k" * 65536).endswith("longer than 65536 bytes")


def test_with_too_many_a_replica_that_changes_users_has_those_that_others_have(
        monkeypatch, tmp_path):
    monkeypatch.setattr(shared_users, "USERS_MOST", 3)
    file = tmp_path / "users.acl"
    file.write_bytes(b"user z on +get\n")
    server = SimpleNamespace(config=SimpleNamespace(aclfile=str(file)), sync=None)
    a, b = Replica("a", server=server), Replica("b")
    for i in range(3):
        a("ACL", "SETUSER", f"a{i}", "on")
        b("ACL", "SETUSER", f"b{i}", "on")
    sync(a, b)
    b("ACL", "DELUSER", "a0")
    sync(a, b)
    assert a.names == b.names == [b"a1", b"a2", b"b0", b"default"]
    a("ACL", "LOAD")
    sync(a, b)
    assert a.names == b.names == [b"default", b"z"], "also those beyond the bound are deleted"


def test_deletions_that_meet_are_no_counters(pair):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on")
    sync(a, b)
    for r in pair:
        r("ACL", "DELUSER", "bob")
    sync(a, b)
    assert [m["integers"] for m in a.replica.meetings()] == [1] and a("CRDT.ADVICE") == []
    assert b"HINCRBY" not in a("CRDT.CONFLICTS", "TOP")[0]


def test_in_a_transaction_it_is_a_part_of_its_op(pair):
    a, b = pair
    before = sum(a.replica.clock().values())
    a("MULTI")
    a("SET", "k", "v")
    a("ACL", "SETUSER", "bob", "on", "+get", "~*")
    a("ACL", "SETUSER", "bob", "wrong")
    a("ACL", "DELUSER", "nobody")
    a("SET", "l", "v")
    assert [str(x)[:3] for x in a("EXEC")[:2]] and sum(a.replica.clock().values()) == before + 1
    sync(a, b)
    assert b.names == [b"bob", b"default"] and b("GET", "l") == b"v"


# ---- who is concerned at once --------------------------------------------------------------------

def test_clients_of_changed_users(pair):
    a, b = pair
    for name in ("gone", "listens", "stays"):
        a("ACL", "SETUSER", name, "on", "nopass", "+@all", "~*", "&*")
    sync(a, b)
    clients = {}
    for name in ("gone", "listens", "stays"):
        clients[name] = b.other(3)
        clients[name]("AUTH", name, "any")
        clients[name]("SUBSCRIBE", "ch")
    a("ACL", "DELUSER", "gone")
    a("ACL", "SETUSER", "listens", "resetchannels", "&other")
    a("ACL", "SETUSER", "stays", "resetchannels", "&ch", "-get")
    exchange(a, b)
    assert sorted(b.refresh()) == sorted(clients[n].session.id for n in ("gone", "listens"))
    assert clients["stays"].error("GET", "k").startswith("NOPERM")
    assert clients["gone"].error("GET", "k").startswith("NOAUTH")
    assert b.refresh() == []


def test_clients_who_came_after_the_change_by_what_it_took_away(pair):
    """To a replica that did not know of it, and knows now."""
    a, b = pair
    for name in ("eve", "bob"):
        a("ACL", "SETUSER", name, "on", ">old", "+@all")
    sync(a, b)
    a.now += 60_000
    a("ACL", "SETUSER", "eve", "<old", ">new")
    a("ACL", "SETUSER", "bob", ">new")
    a.now += 60_000
    b.now = a.now
    rows = [{"id": i, "user": user, "age": age} for i, (user, age) in enumerate((
        ("eve", 70), ("eve", 60), ("eve", 58), ("eve", 0), ("bob", 0), ("default", 0)))]
    b.shared.executor = SimpleNamespace(loop=SimpleNamespace(clients=lambda: rows))
    exchange(a, b)
    assert b.shared.refresh() == [2, 3]


def test_users_are_read_again_only_when_they_may_have_changed(pair, monkeypatch):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on")
    sync(a, b)
    read, whole = [], b.replica.system_hash
    b.shared.replica = SimpleNamespace(
        system_hash=lambda key: read.append(key) or whole(key),
        **{name: getattr(b.replica, name) for name in ("inspect_member", "now")})
    for key, times in (b"members", 0), (b"users2", 0), (USERS, 1):
        a.replica.system_set(key, {b"eve": b"on"})
        before = b.replica.system_changes
        exchange(a, b)
        assert b.replica.system_changes > before
        b.shared.replica.users_changes = b.replica.users_changes
        b.shared.refresh()
        assert len(read) == times, key


# ---- what it is and is not -----------------------------------------------------------------------

def test_no_password_is_told(pair):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on", ">secretword")
    ops = a.replica.take_ops()
    assert b"secretword" not in ops and b"bob" in ops
    assert "secretword" not in str(a.hash)
    b("ACL", "SETUSER", "bob", "on", ">otherword")
    b.replica.receive(ops)
    text = str(b.replica.conflicts()) + str(b.replica.meetings())
    assert "users" in text and "#" not in text and "sanitize" not in text


def test_no_key_and_not_flushed_with_keys(pair):
    a, b = pair
    a("ACL", "SETUSER", "bob", "on")
    assert a("DBSIZE") == 0 and a("EXISTS", "users") == 0
    for argv in (("SELECT", "16"), ("MOVE", "users", "16"), ("SWAPDB", "0", "16"),
                 ("COPY", "users", "x", "DB", "16")):
        assert a.error(*argv).startswith("ERR ")
    a("FLUSHALL")
    sync(a, b)
    assert b.names == [b"bob", b"default"]
    a.replica.system_set(b"functions", {b"l": b"x"})
    assert a("ACL", "USERS") == [b"bob", b"default"]


def test_the_audit_log_names_the_act_and_the_replica(pair, caplog):
    a, b = pair
    audit.enable(True)
    try:
        with caplog.at_level(logging.INFO):
            b("ACL", "SETUSER", "own", "on")
            caplog.clear()
            a("ACL", "SETUSER", "bob", "on", ">secret", "+get", "~k")
            exchange(a, b)
            b.refresh()
            a("ACL", "DELUSER", "bob")
            exchange(a, b)
            b.refresh()
    finally:
        audit.enable(False)
    found = [r.getMessage() for r in caplog.records if r.getMessage().startswith("replica ")]
    assert found == ["replica a: ACL SETUSER bob on sanitize-payload (redacted) ~k resetchannels "
                     "-@all +get", "replica a: ACL DELUSER bob"]
    assert "secret" not in caplog.text

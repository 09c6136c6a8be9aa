"""Users that hold at all replicas, between processes: cut apart, killed, started again, away for
too long, new; and what becomes of the clients of a user that another replica changes."""
import time

import pytest

from tests.real.cluster import Server, until
from tests.real.test_acl import is_closed, login
from tests.real.test_full_sync import QUICK, forget, info
from tests.respclient import ReplyError
from tests.storage.faults import Disk


@pytest.fixture
def users(cluster):
    def start(n: int = 2, **settings):
        return cluster(n, replicate_acl="yes", **settings)
    return start


def in_step(*servers) -> list[bytes]:
    until(lambda: len({s("CRDT.DIGEST") for s in servers}) == 1)
    # a full sync may be under way to its end
    until(lambda: len({tuple(s("ACL", "LIST")) for s in servers}) == 1)
    return servers[0]("ACL", "LIST")


def test_replicas_that_were_apart_agree_and_nobody_forgets(users):
    three = a, b, c = users(3)
    for name in ("bob", "eve", "zoe"):
        a("ACL", "SETUSER", name, "on", ">p", "~*", "+@all", "&*")
    three.sync()
    in_step(*three)
    three.pause()
    a("ACL", "DELUSER", "bob", "zoe")
    b("ACL", "SETUSER", "bob", "-get")
    c("ACL", "SETUSER", "eve", "off")
    c("ACL", "SETUSER", "new", "on", ">p", "+get", "~k")
    c.kill()                                                # the reply was given
    c.start()
    assert c("ACL", "USERS") == [b"bob", b"default", b"eve", b"new", b"zoe"]
    three.sync()
    before = in_step(*three)
    assert a("ACL", "USERS") == [b"bob", b"default", b"eve", b"new"]
    assert b" off " in before[2] and b"-get" in before[0]
    assert a("SAVE") == b"OK"
    for s in three:
        s.kill()
    for s in three:
        s.start()
        assert s("ACL", "LIST") == before, "from the log, or a checkpoint"


def test_clients_of_a_user_that_another_replica_changes(users):
    two = a, b = users(audit_log="yes")
    for name in ("gone", "less"):
        a("ACL", "SETUSER", name, "on", ">p", "+@all", "~*", "&*")
    two.sync()
    waits, listens, stays, blocked = (login(b, n) for n in ("gone", "less", "less", "less"))
    waits.send("BLPOP", "q", "0")
    blocked.send("BLPOP", "q", "0")
    listens("SUBSCRIBE", "ch")
    until(lambda: b"blocked_clients:2" in b("INFO", "clients"))
    with a.connect() as c:
        c.pipeline([("ACL", "SETUSER", "less", "resetchannels", "-get", "-blpop"),
                    ("ACL", "DELUSER", "gone"), ("SET", "flag", "1"), ("RPUSH", "q", "x")])
    assert is_closed(waits) and is_closed(listens)
    until(lambda: b("EXISTS", "flag"))
    with pytest.raises(ReplyError, match="no permissions to run the 'get' command"):
        stays("GET", "flag")
    assert str(blocked.read()).startswith("NOPERM")
    assert b("LLEN", "q") == 1, "nobody was served who may not have it any more"
    until(lambda: "audit: replica a: ACL DELUSER gone" in b.log_path.read_text())
    b("CONFIG", "SET", "replicate-acl", "no")
    a("ACL", "SETUSER", "less", "on", "+get")
    two.sync()
    with pytest.raises(ReplyError, match="NOPERM"):
        stays("GET", "flag")
    b("CONFIG", "SET", "replicate-acl", "yes")
    assert stays("GET", "flag") == b"1" and b("CONFIG", "GET", "replicate-acl")[1] == b"yes"
    b("CONFIG", "SET", "replicate-acl", "no")
    b("ACL", "SETUSER", "gone", "on", ">p", "+@all")        # its own
    own = login(b, "gone")
    assert own("CONFIG", "SET", "replicate-acl", "yes") == b"OK" and is_closed(own)
    a("ACL", "SETUSER", "default", ">x")
    two.sync()
    with pytest.raises(ReplyError, match="the default user is replicated"):
        b("CONFIG", "SET", "requirepass", "y")
    b("CONFIG", "SET", "replicate-acl", "no")
    assert b("CONFIG", "SET", "replicate-acl", "yes", "requirepass", "y") == b"OK", "users last"


def test_a_full_sync_and_a_new_replica_bring_users(users, tmp_path):
    a, b = users(**QUICK)
    for name in ("bob", "eve"):
        a("ACL", "SETUSER", name, "on", ">p", "+@all", "~*", "&*")
    a("CRDT.SYNC", 20_000)
    in_step(a, b)
    b.kill()
    a("ACL", "DELUSER", "bob")
    a("ACL", "SETUSER", "eve", "-get")
    forget(a)
    b.start()
    in_step(a, b)
    until(lambda: int(info(b)["full_syncs_joined"]) > 0)
    assert b("ACL", "USERS") == [b"default", b"eve"]
    file = tmp_path / "users.acl"
    file.write_text("user bob on nopass +@all ~*\nuser eve on nopass +@all ~*\nuser own on +get\n")
    new = Server("n", [a.address], replicate_acl="yes", aclfile=file, **QUICK).start()
    until(lambda: new("CRDT.DIGEST") == a("CRDT.DIGEST"))
    until(lambda: new("ACL", "USERS") == [b"default", b"eve", b"own"])
    assert new("ACL", "LIST")[1] == a("ACL", "LIST")[1]
    new("ACL", "SAVE")
    until(lambda: a("ACL", "USERS") == [b"default", b"eve"])
    new.kill()
    file.write_text("user bob on nopass +@all ~*\n")
    new.start()
    assert new("ACL", "USERS") == [b"default", b"eve"]
    new.dispose()


def test_who_logged_in_at_a_new_replica_by_what_the_cluster_took_away_is_closed(users, tmp_path):
    a, = users(1, **QUICK)
    a("ACL", "SETUSER", "bob", "on", ">new", "+@all")
    a("ACL", "SETUSER", "eve", "on", ">old", ">new", "+@all")
    changed = time.time()
    file = tmp_path / "users.acl"
    file.write_text("".join(f"user {name} on >old +@all\n" for name in ("bob", "eve", "own")))
    new = Server("n", replicate_acl="yes", aclfile=file, **QUICK).start()
    # clients know their age in seconds
    until(lambda: time.time() > changed + 2)
    bob, eve, own = (login(new, name, "old") for name in ("bob", "eve", "own"))
    new("CRDT.PEER", "ADD", a.address)
    assert is_closed(bob)
    assert eve("PING") == own("PING") == new("PING") == b"PONG"
    with pytest.raises(ReplyError, match="WRONGPASS"):
        login(new, "bob", "old")
    new.dispose()


def test_a_full_disk(users):
    """Nothing is changed there, by others neither; what they changed holds once there is room."""
    a, b = users(**QUICK)
    disk = Disk(a.data_dir)
    a.kill()
    a.start(**disk.environment)
    a("ACL", "SETUSER", "bob", "on", ">p", "+@all")
    before = in_step(a, b)
    disk.fill()
    with pytest.raises(ReplyError, match="MISCONF"):
        for i in range(1000):
            a("SET", i, bytes(100_000))
    for argv in ("SETUSER", "bob", "off"), ("SETUSER", "new", "on"), ("DELUSER", "bob"):
        with pytest.raises(ReplyError, match="MISCONF"):
            a("ACL", *argv)
    b("ACL", "SETUSER", "bob", "-get")
    b("ACL", "SETUSER", "eve", "on")
    assert a("ACL", "LIST") == before
    disk.heal()
    assert len(in_step(a, b)) == 3
    a.kill()
    a.start()
    assert in_step(a, b)[0].endswith(b"-get")
    disk.close()

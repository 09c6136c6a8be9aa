"""Users over sockets, in configurations and in files."""
import json
import os
import subprocess

import pytest

from tests.real.cluster import executable
from tests.respclient import Connection, ReplyError, encode


def login(server, name: str, password: str = "p") -> Connection:
    c = server.connect()
    c("AUTH", name, password)
    return c


def is_closed(c: Connection) -> bool:
    try:
        while c.socket.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def test_who_is_removed_or_may_listen_no_more_is_disconnected(server):
    s = server()
    for name in ("a", "b"):
        s("ACL", "SETUSER", name, "on", ">p", "+@all", "~*", "&*")
    gone, waits, stays, listens, other = (login(s, n) for n in "aabbb")
    waits.send("BLPOP", "q", "0")
    for c, channel in ((listens, "x"), (other, "ch")):
        c("SUBSCRIBE", channel)
    assert b" user=a " in gone("CLIENT", "INFO")
    s("ACL", "DELUSER", "a")
    assert is_closed(gone) and is_closed(waits)
    s("ACL", "SETUSER", "b", "resetchannels", "&ch")
    assert is_closed(listens) and stays("PING") == b"PONG"
    s("PUBLISH", "ch", "m")
    assert other.read() == [b"message", b"ch", b"m"]
    s("CLIENT", "KILL", "USER", "b")
    assert is_closed(other) and is_closed(stays)
    with pytest.raises(ReplyError, match="No such user 'a'"):
        s("CLIENT", "KILL", "USER", "a")
    s("ACL", "SETUSER", "c", "on", ">p", "+acl", "+@connection")
    own = login(s, "c")
    assert own("ACL", "DELUSER", "c") == 1 and is_closed(own), "its own reply it gets"


def test_rights_hold_for_what_is_in_a_pipeline_already(server):
    s = server()
    s("ACL", "SETUSER", "a", "on", ">p", "+set", "+get", "+acl", "~m*")
    with login(s, "a") as c:
        c.socket.sendall(b"".join(encode(*argv) for argv in (
            ("SET", "m", "1"), ("GET", "m"), ("GET", "o"), ("DEL", "m"),
            ("ACL", "SETUSER", "a", "-get"), ("GET", "m"), ("SET", "m", "2"))))
        found = []
        for _ in range(7):
            try:
                found.append(c.read())
            except ReplyError as e:
                found.append(e)
    assert [str(x) if isinstance(x, Exception) else x for x in found] == [
        b"OK", b"1", "NOPERM No permissions to access a key",
        "NOPERM User a has no permissions to run the 'del' command", b"OK",
        "NOPERM User a has no permissions to run the 'get' command", b"OK"]


@pytest.mark.parametrize("kind", ["conf", "json"])
def test_users_of_a_configuration_and_rewrite(server, tmp_path, kind):
    file = tmp_path / f"redis.{kind}"
    if kind == "conf":
        file.write_text('user alice on ">p q" ~a* (+set ~b)\nuser bob on nopass +@read\n# end\n')
    else:
        file.write_text(json.dumps({"users": ['alice on ">p q" ~a* (+set ~b)',
                                              "bob on nopass +@read"]}))
    file.chmod(0o600)
    s = server(config=file)
    assert s("ACL", "USERS") == [b"alice", b"bob", b"default"]
    with login(s, "alice", "p q") as c:
        assert c("SET", "b", "1") == b"OK"
    assert b"p q" not in s("CONFIG", "GET", "users")[1]
    s("ACL", "DELUSER", "bob")
    s("ACL", "SETUSER", "carol", "on", b"~\xff\"*", "&x", "+@all", "-config|set", "+select|0")
    s("ACL", "SETUSER", "default", "-flushall")
    before = s("ACL", "LIST")
    s("CONFIG", "REWRITE")
    text = file.read_text()
    assert "bob" not in text and "q\"" not in text and ("# end" in text or kind == "json")
    s.stop()
    s.start()
    assert s("ACL", "LIST") == before
    s("ACL", "SETUSER", "default", "+@all")
    s("CONFIG", "REWRITE")
    assert "default" not in file.read_text(), "it is what requirepass says"


def test_a_file_of_users(server, tmp_path):
    file = tmp_path / "users.acl"
    file.write_text("user alice on >p ~* +@all\nuser default on nopass ~* &* +@all -debug\n")
    s = server(aclfile=file)
    alice = login(s, "alice")
    s("ACL", "SETUSER", "bob", "on", "nopass")
    bob = login(s, "bob")
    file.write_text("user alice on >p ~* +@read\nuser alice off\n")
    with pytest.raises(ReplyError, match="Duplicate user 'alice' found on line 2"):
        s("ACL", "LOAD")
    s("ACL", "SAVE")
    assert sorted(file.read_bytes().splitlines()) == s("ACL", "LIST")
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("user alice on >p ~* +get\n")
    s("ACL", "LOAD")
    assert is_closed(bob) and s("ACL", "USERS") == [b"alice", b"default"]
    with pytest.raises(ReplyError, match="no permissions to run the 'set' command"):
        alice("SET", "k", "v")
    file.unlink()
    os.mkfifo(file)                     # nobody writes to it: whoever opened it would wait
    with pytest.raises(ReplyError, match="Invalid argument"):
        s("ACL", "LOAD")
    assert s("ACL", "USERS") == [b"alice", b"default"]


@pytest.mark.parametrize("text, flags, why", [
    ("user a +none\n", (), "Unknown command or category"), ("", ("--aclfile", "/none"), "/none"),
    ("user a on\nuser a on\n", (), "Duplicate user"),
    ("user a on\naclfile /none\n", (), "since there are users as well"),
    ("user a on\nbind *\nhttp-port 0\n", (), "expected a default user that is off or has a")])
def test_what_cannot_be_right_stops_the_start(tmp_path, text, flags, why):
    file = tmp_path / "redis.conf"
    file.write_text(f"port 0\nunixsocket {tmp_path}/s\n{text}" if "bind" not in text else text)
    done = subprocess.run([*executable(), str(file), "--data-dir", str(tmp_path / "d"),
                           "--http-port", "0", *flags], capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 2 and why in done.stderr, done.stderr

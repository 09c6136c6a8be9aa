"""What administrators do stands in the log, and no secret."""
import contextlib
import http.client
import logging
import re

import pytest

from crdtredis import audit
from crdtredis.commands import table
from tests.http.test_operators import ask, until
from tests.respclient import ReplyError


def lines(s) -> list[str]:
    """What the audit log of s says: who, and what."""
    return re.findall(r" audit(?:\.refused)?: (.*)", s.log_path.read_text())


def test_acts_of_administrators_are_logged_with_user_and_address(server):
    s = server(audit_log="yes", log_level="error", auth_token="t0ken")
    with s.connect() as c:
        address = dict(w.split("=", 1) for w in c("CLIENT", "INFO").decode().split())["addr"]
        c("ACL", "SETUSER", "app", "on", ">s3cret", "~*", "+@all", "-shutdown")
        c("CONFIG", "SET", "maxmemory", "100mb", "requirepass", "n3w")
        c("CONFIG", "GET", "*")                             # only asks
        c("SET", "k", "v")
        for wrong in ("CONFIG", "SET", "maxmemory", "soon"), ("ACL", "SETUSER", "app", "s3cret"), (
                "CRDT.PEER", "ADD", "http://u:pw@127.0.0.1:1"):
            with pytest.raises(ReplyError, match="soon|s3cret|A peer is"):
                c(*wrong)
        c("AUTH", "app", "s3cret")
        with pytest.raises(ReplyError, match="NOPERM"):     # in ACL LOG
            c("SHUTDOWN")
        c("MULTI")
        c("FLUSHALL")
        c("EXEC")
        c("EVAL", "return redis.call('FLUSHDB')", "0")
        c("ACL", "LOG")                                     # only asks
        c("ACL", "LOG", "RESET")
        c("CONFIG", "SET", "audit-log", "no")
        c("FLUSHALL")
        c("CONFIG", "SET", "audit-log", "yes")
    assert ask(s, "/config", "PATCH", {"hz": 20, "max_memory": 0}, token="t0ken")[0] == 200
    assert ask(s, "/stats", token="wrong")[0] == 401
    assert ask(s, "/backup", token="t0ken") and ask(s, "/stats", token="t0ken")
    found = lines(s)
    assert found[:2] == [f"default at {address}: ACL SETUSER app (redacted) (redacted) ~* +@all "
                         "-shutdown",
                         f"default at {address}: CONFIG SET maxmemory 100mb requirepass (redacted)"]
    assert found[2].startswith(f"default at {address}: CONFIG SET maxmemory soon: ERR ")
    assert found[3] == f"default at {address}: ACL SETUSER app (redacted): ERR"
    assert found[4] == f"default at {address}: CRDT.PEER ADD (redacted): ERR"
    assert found[5:] == [
        f"app at {address}: FLUSHALL", f"app at {address}: FLUSHDB",
        f"app at {address}: ACL LOG RESET", f"app at {address}: CONFIG SET audit-log no",
        f"app at {address}: CONFIG SET audit-log yes",
        "HTTP 127.0.0.1: PATCH /config hz max_memory: 200",
        "HTTP 127.0.0.1: GET /stats: 401", "HTTP 127.0.0.1: GET /backup"]
    assert not any(secret in s.log_path.read_text() for secret in ("s3cret", "n3w", "t0ken", "pw@"))


def test_the_commands_are_there():
    assert audit.COMMANDS <= set(table.load())


def test_every_line_is_there_however_many_they_are(server):
    s = server(audit_log="yes")
    with s.connect() as c:
        c.pipeline([("CONFIG", "RESETSTAT")] * 1000)
    assert len(lines(s)) == 1000


def test_words_are_shown_so_that_no_line_can_be_forged(caplog):
    audit.enable(True)
    caplog.set_level(logging.INFO, audit.log.name)
    words = [b"DEBUG", b"x\r\ny", b"", "é".encode(), b"\xff" * 200, *[b"w"] * 40]
    audit.command(b"a b\n", "[::1]:5", [(w[:128], len(w)) for w in words[:32]], len(words),
                  b"-ERR one\r\n+OK\r\n")
    audit.enable(False)
    assert caplog.messages == [
        r"'a b\n' at [::1]:5: DEBUG 'x\r\ny' '' é " + repr(b"\xff" * 128)[1:]
        + "... (72 more bytes)" + " w" * 27 + " ... (13 more): ERR one"]


def test_who_removes_himself_is_named_all_the_same(server):
    s = server(audit_log="yes")
    s("ACL", "SETUSER", "me", "on", ">p", "~*", "+@all")
    with s.connect() as c:
        c("AUTH", "me", "p")
        c.send("ACL", "DELUSER", "me")
        s("PING")
    until(lambda: any(line.startswith("me at ") and line.endswith(": ACL DELUSER me")
                      for line in lines(s)))


def test_strangers_do_not_fill_the_disk(server):
    s = server(audit_log="yes", auth_token="t0ken")
    until(lambda: ask(s, "/health"))
    with contextlib.closing(http.client.HTTPConnection(s.address)) as c:
        for method, path in [("GET", "/stats")] * 300 + [
                ("GET", "/backup"), ("POST", "/health"), ("TRACE", "/")] * 10:
            c.request(method, path)
            assert c.getresponse().read()
    assert sum(line.endswith(": 401") for line in lines(s)) == len(lines(s)) == 100
    assert ask(s, "/config", "PATCH", {"hz": 20}, token="t0ken")[0] == 200
    assert "HTTP 127.0.0.1: PATCH /config hz: 200" in lines(s)

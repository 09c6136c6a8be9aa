"""MONITOR: the same commands on redis-server and on ours are shown in the same lines."""
import re

import pytest

from tests.real.cluster import Server

COMMANDS = """SELECT 3|GET a|GET|NOSUCH|MULTI|SET a 1|GET a|EXEC|AUTH x y|AUTH x|auth a b c
HELLO 2 AUTH a b|HELLO 2 SETNAME n|CONFIG GET nosuch|SUBSCRIBE a|UNSUBSCRIBE a
EVAL return(redis.call('get','a')) 0|EVAL_RO return(1) 0|EVAL redis.call('select',5) 0
EVALSHA ffffffffffffffffffffffffffffffffffffffff 0|EVAL return(1) x|FCALL nosuch 0
MULTI|EVAL redis.call('set','b',1) 0|MONITOR|EXEC|MULTI|NOSUCH|EXEC|BLPOP l 0.01
PING SPECIAL|CLIENT GETNAME|MULTI|DISCARD|EXEC|RESET|PING""".replace(
    "\n", "|").replace("SPECIAL", '\x01"\\\n\t\r\a\b\x7f\xff').split("|")
OWN = """PING|MONITOR|GET a|MULTI|SET a 1|PING|EXEC|MULTI|PING|ECHO x|EXEC|EVAL return(1) 0
EVAL_RO return(1) 0|PUBLISH x 1|CLIENT REPLY SKIP|PING|PING|CLIENT REPLY OFF|PING
CLIENT REPLY ON|SUBSCRIBE x|PING|PUBLISH x 1|RESET|PING|MONITOR|HELLO 3|PING|SUBSCRIBE x
PUBLISH x 1|UNSUBSCRIBE|PING""".replace("\n", "|").split("|")


@pytest.fixture(scope="module")
def ours():
    server = Server(appendfsync="no").start()
    yield server
    server.dispose()


def shown(raw: bytes) -> bytes:
    """Without times and addresses, and without what HELLO says of version and id."""
    raw = re.sub(rb"\$\d\r\n7\.[\d.]+\r\n(\$5\r\nproto\r\n:\d\r\n\$2\r\nid\r\n):\d+", rb"\1", raw)
    return re.sub(rb"(?m)^\+\d{10}\.\d{6} \[(\d+ )(?:[\d.]+:\d+|(lua))\]", rb"+[\1\2]", raw)


def others(server) -> list[bytes]:
    """What the client and the one that monitors are sent, command by command."""
    server("FLUSHALL")
    out = []
    with server.connect() as monitor, server.connect() as c:
        monitor("MONITOR")
        for i, command in enumerate(COMMANDS):
            out.append(shown(raw_of(c, [w.encode("latin-1") for w in command.split(" ")])))
            # on one thread: what is shown before this is all
            server("PING", f"end of {i}")
            while f'"end of {i}"'.encode() not in (raw := monitor.raw()):
                out.append(shown(raw))
    return out


def raw_of(c, words) -> bytes:
    c.send(*words)
    return c.raw()


def test_what_others_do_is_shown_as_by_redis(reference, ours):
    assert others(ours) == others(reference)


def everything(server, commands) -> bytes:
    """All that a client that monitors is sent, for its own commands."""
    with server.connect() as monitor:
        monitor.send("MONITOR")
        for command in commands:
            monitor.send(*command.split(" "))
        monitor.send("ECHO", "the end")
        out = []
        while b"the end" not in (raw := monitor.raw()):
            out.append(shown(raw))
    return b"".join(out)


def test_its_own_commands_are_shown_as_by_redis(reference, ours):
    got, wanted = everything(ours, OWN), everything(reference, OWN)
    assert got == wanted


def test_client_list_tells_who_monitors(ours):
    with ours.connect() as c, ours.connect() as other:
        me = c("CLIENT", "ID")
        c("MONITOR")

        def flags():
            return re.search(rb"flags=(\w+)", other("CLIENT", "LIST", "ID", me))[1]
        assert flags() == b"O"
        assert b"id=%d " % me in other("CLIENT", "LIST", "TYPE", "normal")
        c("RESET")
        assert flags() == b"N"

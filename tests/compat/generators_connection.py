"""Random connection and transaction commands: MULTI, EXEC, DISCARD, WATCH, UNWATCH, PING, ECHO,
SELECT, HELLO, RESET, AUTH, CLIENT, and calls that no server knows. The ordinary commands that run
between MULTI and EXEC come from the other generators."""
from __future__ import annotations

from tests.compat.words import DATABASES, case, integer, key, text


def command(rng):
    return tuple([case(rng, (c := rng.choice(COMMANDS)(rng))[0]), *c[1:]])


def transaction(rng, inner):
    """MULTI, a few commands of `inner`, EXEC; sometimes abandoned, nested or broken."""
    out = []
    if rng.random() < 0.4:
        out.append(("WATCH", *[key(rng) for _ in range(rng.randint(1, 3))]))
    out.append(("MULTI",))
    out += [inner(rng) for _ in range(rng.randint(0, 5))]
    if rng.random() < 0.1:
        out.append(rng.choice([("MULTI",), ("WATCH", key(rng)), ("NOSUCH", "x"), ("GET",),
                               ("UNWATCH",)]))
    out.append(rng.choice([("EXEC",)] * 6 + [("DISCARD",), ("RESET",)]))
    return out


def _arity(rng):
    return rng.choice([("GET",), ("SET", "k"), ("PING", "a", "b"), ("ECHO",), ("SELECT",),
                       ("MULTI", "x"), ("EXEC", "x"), ("WATCH",),
                       ("DISCARD", "x"), ("MSET", "a"), ("INCR",), ("DEL",), ("CLIENT",),
                       ("COMMAND", "COUNT", "x"), ("UNWATCH", "x")])


def _unknown(rng):
    return rng.choice([("NOSUCH",), ("NOSUCH", "a", "b"), ("nosuch" * 40,),
                       ("NO\r\nSUCH", "x\r\ny"), ("",), ("GETT", key(rng)),
                       ("NOSUCH", *["argument" * 5] * 10), ("CLIENT", "NOSUCH"),
                       ("COMMAND", "NOSUCH"), ("CONFIG", "NOSUCH", "x"),
                       ("OBJECT", "NOSUCH", "k"), ("'quoted'", '"x"')])


def _client(rng):
    return rng.choice([("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "name"),
                       ("CLIENT", "SETNAME", "with space"), ("CLIENT", "SETNAME", ""),
                       ("CLIENT", "SETNAME", "line\n"), ("CLIENT", "ID"),
                       ("CLIENT", "NO-EVICT", "ON"), ("CLIENT", "NO-EVICT", "off"),
                       ("CLIENT", "NO-EVICT", "x"), ("CLIENT", "KILL", "TYPE", "nosuch"),
                       ("CLIENT", "KILL", "ID", "x"), ("CLIENT", "KILL", "127.0.0.1:1"),
                       ("CLIENT", "LIST", "TYPE", "nosuch"), ("CLIENT", "LIST", "ID", "x"),
                       ("CLIENT", "UNPAUSE"), ("CLIENT", "PAUSE", "x"),
                       ("CLIENT", "PAUSE", "-1"), ("CLIENT", "REPLY", "ON"),
                       ("CLIENT", "REPLY", "x"), ("CLIENT", "GETNAME", "x")])


def _hello(rng):
    return rng.choice([("HELLO",), ("HELLO", "2"), ("HELLO", "3"), ("HELLO", "3"), ("HELLO", "4"),
                       ("HELLO", "1"), ("HELLO", "x"), ("HELLO", "3", "SETNAME", "me"),
                       ("HELLO", "3", "SETNAME", "a b"), ("HELLO", "2", "NOSUCH"),
                       ("HELLO", "3", "AUTH", "default"), ("HELLO", "3", "AUTH", "nobody", "x")])


COMMANDS = [
    lambda r: ("PING",), lambda r: ("PING", text(r)), lambda r: ("ECHO", text(r)),
    lambda r: ("SELECT", str(r.randrange(DATABASES))),
    lambda r: ("SELECT", str(r.randrange(DATABASES))),
    lambda r: ("SELECT", r.choice(["16", "-1", "x", "", "1.0", "99999999999999999999"])),
    lambda r: ("MULTI",), lambda r: ("EXEC",), lambda r: ("DISCARD",), lambda r: ("UNWATCH",),
    lambda r: ("WATCH", key(r)),
    lambda r: ("RESET",), lambda r: ("AUTH", "x"), lambda r: ("AUTH", "default", "x"),
    lambda r: ("AUTH", "a", "b", "c"),
    lambda r: ("DBSIZE",), lambda r: ("LASTSAVE", "x"),
    lambda r: ("SWAPDB", str(r.randrange(DATABASES)), integer(r)),
    _arity, _unknown, _client, _hello,
]

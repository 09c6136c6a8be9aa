"""The page at /, for people: one replica as it is now, and what it asks for while it is shown.

    GET /                  the page itself (page.html), which holds no data: it asks for the token
                           where there is one. It loads nothing from elsewhere.
    GET /page/conflicts    the newest concurrent writes that were decided
    GET /page/advice       what could be done better, as CRDT.ADVICE has it
    GET /page/meetings     where most were: by beginning of keys, type and replicas
    GET /page/slow         the newest slow commands
    GET /page/keys         some keys of a database that match a pattern, and where to go on
    GET /page/key          what is kept of one key: value, writes, counter entries, deadlines

Keys and values are bytes: a key is named by its `id`, base64, and what is shown of it is text with
escapes. Nothing is changed by looking, not even when a key was last used. All but the page itself
is for operators (app.py).
"""
from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from crdtredis import info
from crdtredis._engine import Account, client_flags
from crdtredis.http.operated import Operated

SHOWN = 1000                            # bytes of a value
MEMBERS = 50                            # of a collection, and elements of a list
KEYS = 50                               # a search replies with, if there are as many
SCANS, SCANNED = 100, 100               # of a search, and keys looked at by each
NAMED = 4096                            # bytes of a key that can be asked for
# bytes of a key of which all is shown, and of members on average: more would hold clients up
SHOWN_WHOLE, MEMBER = 4 << 20, 4096
DATABASES = 16
ALL_RIGHTS = [(b"\xff" * 128, True, [], True, [], True, [])]

# how the first members of a type are read: command, and the one that counts them, what follows the
# key, columns
READS: dict[str, tuple[list[bytes], list[bytes], list[str]]] = {
    "hash": ([b"HSCAN", b"HLEN"], [b"0", b"COUNT", b"%d" % MEMBERS], ["Field", "Value"]),
    "set": ([b"SSCAN", b"SCARD"], [b"0", b"COUNT", b"%d" % MEMBERS], ["Member"]),
    "zset": ([b"ZRANGE", b"ZCARD"], [b"0", b"%d" % (MEMBERS - 1), b"WITHSCORES"],
             ["Member", "Score"]),
    "list": ([b"LRANGE", b"LLEN"], [b"0", b"%d" % (MEMBERS - 1)], ["Element"]),
    "string": ([b"GETRANGE", b""], [b"0", b"%d" % (SHOWN - 1)], ["Value"]),
}


def shown(value: Any) -> str:
    """Bytes as text, what is not printable escaped; numbers as they are."""
    if not isinstance(value, bytes):
        return str(value)
    text = value[:SHOWN].decode("utf-8", "surrogateescape")
    if not text.isprintable():
        text = repr(value[:SHOWN])[2:-1]
    return text + (f"... ({len(value)} bytes)" if len(value) > SHOWN else "")


def parse(reply: bytes, at: int = 0) -> tuple[Any, int]:
    """(the value at `at` of a reply in RESP2, where the next begins). ValueError: an error."""
    end = reply.index(b"\r\n", at)
    kind, line = reply[at:at + 1], reply[at + 1:end]
    at = end + 2
    if kind == b"-":
        raise ValueError(line.decode("utf-8", "replace"))
    if kind == b"+":
        return line, at
    n = int(line)
    if kind == b":" or n < 0:
        return (n if kind == b":" else None), at
    if kind == b"$":
        return reply[at:at + n], at + n + 2
    found = []
    for _ in range(n):
        value, at = parse(reply, at)
        found.append(value)
    return found, at


def conflict(c: dict[str, Any]) -> dict[str, Any]:
    """One of Replica.conflicts(), as texts."""
    for side in (c["winner"], c["loser"]):
        side["value"] = shown(side["value"])
        side["replica"] = side["actor"].rpartition("/")[0]
    return c | {"key": shown(c["key"]), "name": shown(c["name"])}


def hash_of(tag: bytes, page: bytes) -> str:
    """By which a browser knows what stands in this element of the page as ours."""
    part, = re.findall(b"<%s>(.*?)</%s>" % (tag, tag), page, re.S)
    return f"'sha256-{base64.b64encode(hashlib.sha256(part).digest()).decode()}'"


class Page:
    """ask: runs a function in the engine thread, as Operators.ask."""

    def __init__(self, server: Operated,
                 ask: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self.server, self.ask = server, ask
        self._account, self._session = Account(b"page"), None

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.page), web.get("/page/conflicts", self.conflicts),
                web.get("/page/meetings", self.meetings), web.get("/page/advice", self.advice),
                web.get("/page/slow", self.slow),
                web.get("/page/keys", self.keys), web.get("/page/key", self.key)]

    async def page(self, request: web.Request) -> web.Response:
        text = await asyncio.to_thread(Path(__file__).with_name("page.html").read_bytes)
        script, style = (hash_of(part, text) for part in (b"script", b"style"))
        return web.Response(body=text, content_type="text/html", charset="utf-8", headers={
            "Content-Security-Policy":
                f"default-src 'none'; connect-src 'self'; script-src {script}; style-src {style}; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store"})

    async def conflicts(self, request: web.Request) -> web.Response:
        count = number(request, "count", 10, 128)
        found = await self.ask(lambda: self.server.replica.conflicts(count))
        return web.json_response([conflict(c) for c in found])

    async def meetings(self, request: web.Request) -> web.Response:
        count = number(request, "count", 10, 128)
        found = await self.ask(lambda: self.server.replica.meetings(count))
        for m in found:
            rest = "" if m["prefix"] == m["latest"]["key"] else "*"
            m["keys"], m["latest"] = shown(m.pop("prefix")) + rest, conflict(m["latest"])
        return web.json_response(found)

    async def advice(self, request: web.Request) -> web.Response:
        return web.json_response(await self.ask(lambda: info.advised(self.server.executor)))

    async def slow(self, request: web.Request) -> web.Response:
        count = number(request, "count", 10, 1000)
        found = await self.ask(lambda: self.server.executor.slowlog(count))
        return web.json_response([
            {"id": id_, "seconds": seconds, "usec": usec, "args": [shown(a) for a in args],
             "address": address, "name": name}
            for id_, seconds, usec, args, address, name in found])

    async def keys(self, request: web.Request) -> web.Response:
        db = number(request, "db", 0, DATABASES - 1)
        cursor = number(request, "cursor", 0, (1 << 64) - 1)
        pattern = request.query.get("match", "*").encode("utf-8", "surrogateescape")

        def scan(cursor: bytes) -> tuple[bytes, list[dict[str, Any]]]:
            cursor, names = self.run(db, b"SCAN", cursor, b"MATCH", pattern,
                                     b"COUNT", b"%d" % SCANNED)
            return cursor, [{"id": base64.b64encode(name[:NAMED]).decode(), "key": shown(name),
                             "type": shown(self.run(db, b"TYPE", name)),
                             "memory": self.run(db, b"MEMORY", b"USAGE", name) or 0}
                            for name in names]

        at, found = b"%d" % cursor, []
        for _ in range(SCANS):          # each in a call of its own: the engine goes on in between
            at, more = await self.ask(lambda at=at: scan(at))       # type: ignore[misc]
            found += more
            if at == b"0" or len(found) >= KEYS:
                break
        return web.json_response({"cursor": at.decode(), "keys": found})

    async def key(self, request: web.Request) -> web.Response:
        db = number(request, "db", 0, DATABASES - 1)
        try:
            name = base64.b64decode(request.query.get("id", ""), validate=True)
        except ValueError:
            raise web.HTTPBadRequest(reason="expected id, as a search gives it") from None
        found = await self.ask(lambda: self.describe(db, name))
        if found is None:
            raise web.HTTPNotFound(reason="no such key")
        return web.json_response(found)

    # ---- in the engine thread --------------------------------------------------------------------

    def run(self, db: int, *argv: bytes) -> Any:
        """The reply to a command of a client of ours, who may read all. ValueError: an error."""
        executor = self.server.executor
        if self._session is None:
            self._account.set_rights(ALL_RIGHTS)
            self._session = executor.session()
            self._session.become(self._account)
            self._session.flags |= client_flags["NO_TOUCH"]
        if self._session.db != db:
            parse(executor.execute(self._session, [b"SELECT", b"%d" % db]))
        return parse(executor.execute(self._session, list(argv)))[0]

    def describe(self, db: int, name: bytes) -> dict[str, Any] | None:
        kind = shown(self.run(db, b"TYPE", name))
        size = self.run(db, b"MEMORY", b"USAGE", name) or 0
        if size > SHOWN_WHOLE:
            counts = READS[kind][0][1] if kind in READS else b""
            if size > MEMBER * (self.run(db, counts, name) if counts else 1):
                return {"key": shown(name), "tables": [], "facts": {
                    "Type": kind, "Memory": f"{size} bytes: too much to be shown here"}}
        state = self.server.replica.inspect(db, name)
        if state is None:
            return None
        tables: list[tuple[str, list[str], list[list[str]]]] = []
        if kind in READS:
            tables.append((f"Value{' (its beginning)' if kind != 'string' else ''}",
                           *self.members(db, name, kind)))
        for title, rows in (("Writes, the one that shows first", state["writes"]),
                            ("Deadlines", state["deadlines"])):
            if rows:
                tables.append((title, ["Value", "Actor", "Operation", "Time"],
                               [[shown(w["value"]), w["actor"], str(w["seq"]), str(w["ms"])]
                                for w in rows]))
        if state["counter_entries"]:
            tables.append(("Counter entries", ["Actor", "Total", "Cancelled", "Operation"],
                           [[c["actor"], shown(c["total"]), shown(c["cancelled"]), str(c["seq"])]
                            for c in state["counter_entries"]]))
        left = self.run(db, b"PTTL", name)
        facts = {"Type": kind if state["visible"] else "no value: what is kept of a removed key",
                 "Memory": f"{state['memory']} bytes",
                 "Ends": f"in {left / 1000:g} s" if left >= 0 else "never"}
        for what, c in state["collections"].items():
            facts[f"Members ({what})"] = f"{c['live']}, and {c['elements'] - c['live']} removed"
        if state.get("local"):
            facts["Local"] = "at this replica alone"
        return {"key": shown(name), "facts": facts, "tables": tables}

    def members(self, db: int, name: bytes, kind: str) -> tuple[list[str], list[list[str]]]:
        (command, _), rest, columns = READS[kind]
        found = self.run(db, command, name, *rest)
        if kind in ("hash", "set"):
            found = found[1]
        if kind == "string":
            found = [found]
        n = len(columns)
        return columns, [[shown(v) for v in found[i:i + n]]
                         for i in range(0, min(len(found), MEMBERS * n), n)]


def number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > most:
        raise web.HTTPBadRequest(reason=f"expected {name} to be 0 to {most}")
    return int(text)

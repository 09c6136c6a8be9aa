"""The local mirror: a Redis beside the server that is kept equal to what clients see of database 0.

The kernel lists what the mirror lacks (core/mirror.pxi), commands/mirror.pyx makes commands of it,
and this sends them, in the sync thread: a batch, its replies, the next one. Clients wait for none
of it but the making of a batch, which is a slice of the engine's time; after each the mirror rests
a multiple of that.

Whose the database there is says the key MARK in it: the id of the replica, and a token of this
connection's first claim. It must be empty, or have the mark of this replica; else it is refused,
and nothing there is touched. From then on it is the mirror's: what others write there goes with the
next pass. A pass sends every key, and removes what is there and not here. One is made after a
claim; after a connection is lost only where that Redis is another process, the mark has gone, or
more has changed than is listed.

What is on its way when a connection is lost may still be run by a Redis that hung: so whoever
connects first ends the connections that have its name.
"""
from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from crdtredis.commands import mirror as native
from crdtredis.moving.target import encode
from crdtredis.replication.faults import words
from crdtredis.replication.resolver import Resolver

log = logging.getLogger("crdtredis.mirror")

ROOM = 16 << 10, 256 << 10      # bytes of a batch, so that it takes less than LONG
IDLE = 0.02                     # s between two looks whether something has changed
CHECK = 1.0                     # s between two looks at the mark
PATIENCE = 5.0                  # s for a reply, and one more for each
RATE = 10 << 20                 # ... bytes
FULL_REST = 0.1                 # s after a batch of which its full memory refused something
RETRY = 0.1, 5.0                # s before a connection is tried again, doubled up to the second
SHARE, LONG_SHARE = 4, 50       # it rests so many times what a batch took; one of more than
LONG = 0.005                    # s
SCANNED = 1000                  # keys that are asked for at a time
REPLY_MOST = 64 << 20           # bytes
LAGS = 10.0                     # s from which on /health says it
# Errors that are not the command's: it is tried again.
FULL = b"OOM"                   # what is deleted still goes
PASSING = {b"MISCONF", b"READONLY", b"LOADING", b"NOAUTH", b"NOPERM", b"BUSY",
           b"MASTERDOWN", b"NOREPLICAS", b"CLUSTERDOWN", b"MOVED"}


class Refused(Exception):
    """The mirror cannot be served as things are there."""


class Target(NamedTuple):
    address: str                # host:port, or the path of a socket
    db: int
    user: str
    password: str


class Mirror:
    """call: runs a function in the engine thread. What INFO shows may be read by that thread."""

    def __init__(self, replica: Any, call: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        self.replica, self._call = replica, call
        self.target: Target | None = None
        self.state, self.error = "off", ""
        self.given_up, self.last_given_up = 0, b""
        self.connections = 0
        self._process = self._mark = b""            # of the mirror, as last claimed
        self._cursor, self._room = 0, ROOM[0]
        self._part = False                          # may be left of a copy that was not ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()

    # ---- the engine thread -----------------------------------------------------------------------

    def configure(self, target: Target | None) -> None:
        if target == self.target:
            return
        self.target = target
        self.state, self.error = ("connecting" if target else "off"), ""
        native.configure(self.replica, target is not None)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):             # the server is stopping
                self._loop.call_soon_threadsafe(self._changed.set)

    def fields(self) -> dict[str, Any]:
        """What INFO shows."""
        target, f = self.target, native.figures(self.replica)
        if target is None:
            return {"mirror_state": "off"}
        building = self.state == "following" and f["building"]
        return {"mirror_state": "building" if building else self.state,
                "mirror_address": target.address, "mirror_db": target.db,
                "mirror_up": int(self.state == "following"), "mirror_error": self.error,
                "mirror_lag_seconds": round(self.lag(), 3),
                "mirror_queued": f["queued"], "mirror_queued_bytes": f["queued_bytes"],
                "mirror_sent": f["sent"], "mirror_sent_bytes": f["sent_bytes"],
                "mirror_passes": f["passes"], "mirror_overflows": f["losses"],
                "mirror_connections": self.connections, "mirror_given_up": self.given_up}

    def lag(self) -> float:
        """Seconds for which the oldest change has not been there."""
        since = native.figures(self.replica)["since"]
        return max(self.replica.now - since, 1) / 1000 if since else 0.0

    def warnings(self) -> list[str]:
        if self.target is None:
            return []
        name, found = f"the mirror at {self.target.address}", []
        if self.state in ("lost", "refused"):
            found.append(f"{name} is not served: {self.error}")
        elif (lag := self.lag()) >= LAGS:
            found.append(f"{name} lags by {lag:.0f} s")
        if self.given_up:
            found.append(f"{name} took {self.given_up} values not, {self.last_given_up[:64]!r} "
                         "the last")
        return found

    # ---- the sync thread -------------------------------------------------------------------------

    async def run(self) -> None:
        """Until it is cancelled."""
        self._loop, self._resolver = asyncio.get_running_loop(), Resolver()
        delay = RETRY[0]
        while True:
            self._changed.clear()
            target = self.target
            if target is None:
                await self._changed.wait()
                continue
            begun = time.monotonic()
            try:
                await self._serve(target)
                continue
            except (Refused, ValueError, asyncio.LimitOverrunError) as e:
                state, error = "refused", str(e)
            except EOFError:
                state, error = "lost", "it closed the connection"
            except OSError as e:
                state, error = "lost", words(e)
            except Exception as e:
                log.exception("the mirror failed")
                state, error = "lost", repr(e)
            await self._call(lambda: native.put_back(self.replica))
            if self.target is not target:
                continue
            self._stands(target, state, error)
            delay = RETRY[0] if time.monotonic() - begun > RETRY[1] else min(2 * delay, RETRY[1])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    async def _serve(self, target: Target) -> None:
        """Until the target changes."""
        async with asyncio.timeout(PATIENCE):
            if "/" in target.address:
                streams = await asyncio.open_unix_connection(target.address)
            else:
                host, _, port = target.address.rpartition(":")
                streams = await self._connect(host.strip("[]"), int(port))
        link = Link(*streams)
        try:
            await self._claim(link, target)
            self.connections += 1
            log.info("the mirror at %s is followed", target.address)
            self.state, self.error = "following", ""
            self._cursor, self._part = 0, True
            checked = time.monotonic()
            while self.target is target:
                if not native.wants(self.replica) and time.monotonic() - checked < CHECK:
                    await asyncio.sleep(IDLE)
                    continue
                checked = time.monotonic()
                await asyncio.sleep(await self._step(link, target))
        finally:
            link.close()

    async def _connect(self, host: str, port: int
                       ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Of its addresses the first that takes it. The loop's own way looks names up in the
        threads that read the log for peers."""
        *others, last = await self._resolver.resolve(host, port, socket.AF_UNSPEC)
        for at in others:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(at["host"], port)
        return await asyncio.open_connection(last["host"], port)

    async def _claim(self, link: Link, target: Target) -> None:
        name = b"crdt-redis-mirror:" + self.replica.id.encode()
        if target.password:
            await link.ask([b"AUTH", *([target.user.encode()] if target.user else []),
                            target.password.encode()])
        info = dict(line.split(b":", 1) for line in (await link.ask([b"INFO"])).split(b"\r\n")
                    if b":" in line)
        if b"crdt_redis_version" in info:
            raise Refused("that is a crdt-redis, not a Redis")
        version = info.get(b"redis_version", b"?").decode("utf-8", "replace")
        if not version.partition(".")[0].isdigit() or int(version.partition(".")[0]) < 5:
            raise Refused(f"that is Redis {version}: expected 5.0 or later")
        if info.get(b"role", b"master") != b"master":
            raise Refused("that is a replica, which takes no writes")
        if info.get(b"cluster_enabled", b"0") != b"0":
            raise Refused("that is a node of a cluster")
        await link.ask([b"CLIENT", b"SETNAME", name])
        own = await link.ask([b"CLIENT", b"ID"])
        for line in (await link.ask([b"CLIENT", b"LIST"])).splitlines():
            other = dict(w.split(b"=", 1) for w in line.split(b" ") if b"=" in w)
            if other.get(b"name") == name and other[b"id"] != b"%d" % own:
                with contextlib.suppress(Refused):              # it has gone
                    await link.ask([b"CLIENT", b"KILL", b"ID", other[b"id"]])
        await link.ask([b"SELECT", b"%d" % target.db])
        mark, keys = await link.ask([b"GET", native.MARK]), await link.ask([b"DBSIZE"])
        process = info.get(b"run_id", b"")
        whose = (mark or b"").partition(b" ")[0].decode("utf-8", "replace")
        if whose and whose != self.replica.id:
            raise Refused(f"its database {target.db} is the mirror of replica {whose}: FLUSHDB "
                          "there, if that has gone")
        if not mark and keys and process != self._process:
            raise Refused(f"its database {target.db} has {keys} keys and is no mirror of this "
                          "replica: FLUSHDB there, or choose another redis_db")
        if not mark and keys:
            await self._swapped(link, target, info)
        if not mark or (process, mark) != (self._process, self._mark):
            new = f"{self.replica.id} {secrets.token_hex(8)}".encode()
            if not await link.ask([b"SET", native.MARK, new, *([] if mark else [b"NX"])]):
                raise Refused("another claims it at this moment")
            self._process, self._mark = process, new
            await self._call(lambda: native.lose(self.replica))

    async def _swapped(self, link: Link, target: Target, info: dict[bytes, bytes]) -> None:
        """Refused where SWAPDB has put the mirror into another database and another's data here."""
        for name in info:
            if name[:2] == b"db" and name[2:].isdigit() and int(name[2:]) != target.db:
                await link.ask([b"SELECT", name[2:]])
                if await link.ask([b"GET", native.MARK]) == self._mark:
                    raise Refused(f"the mirror has been swapped to database {int(name[2:])}: swap "
                                  f"it back, FLUSHDB database {target.db}, or set redis_db")
        await link.ask([b"SELECT", b"%d" % target.db])

    async def _step(self, link: Link, target: Target) -> float:
        """Seconds to rest."""
        def make() -> tuple[bool, bytes, int, bool, float]:
            begun, empty = time.thread_time(), False
            if native.begins_pass(self.replica):
                empty, self.given_up = native.begin_pass(self.replica), 0
            data, n = native.take(self.replica, self._room)
            return empty, data, n, native.sweeps(self.replica), time.thread_time() - begun

        empty, data, n, sweeps, took = await self._call(make)
        first = [[b"FLUSHDB"], [b"SET", native.MARK, self._mark]] if empty else []
        if self._part:
            first.append([b"DEL", native.PART])
        if await link.ask([b"GET", native.MARK]) != self._mark:     # before anything is written
            await self._call(lambda: native.lose(self.replica))
            raise Refused("it has been flushed, swapped or claimed by another")
        replies = await link.pipeline(b"".join(map(encode, first)) + data, n + len(first))
        refused = [i - len(first) for i, x in enumerate(replies) if x[:1] == b"-"]
        zeros = [i - len(first) for i, x in enumerate(replies) if x == b":0" and i >= len(first)]
        texts = {i: replies[i + len(first)][1:] for i in refused}
        for i, text in texts.items():
            if text.partition(b" ")[0] in PASSING or i < 0:
                raise Refused(text.decode("utf-8", "replace"))
        self._part = bool(refused)
        full = [text for text in texts.values() if text.startswith(FULL)]
        lost = await self._call(lambda: native.settle(self.replica, refused, zeros, bool(full)))
        if full:
            self._stands(target, "refused", full[0].decode("utf-8", "replace"))
        elif self.state != "following" and not native.figures(self.replica)["again"]:
            self._stands(target, "following", "")
        if refused and not full:
            log.warning("the mirror at %s refused %d commands: %s", link.name, len(refused),
                        texts[refused[-1]].decode("utf-8", "replace"))
        if refused:
            await asyncio.sleep(FULL_REST if full else CHECK)
        if lost:
            self.given_up += len(lost)
            self.last_given_up = lost[-1]
        if sweeps:
            await self._sweep(link)
        self._room = (max(self._room // 2, ROOM[0]) if took > LONG / 2
                      else min(self._room * 2, ROOM[1]))
        return took * (SHARE if took < LONG else LONG_SHARE)

    def _stands(self, target: Target, state: str, error: str) -> None:
        """It does with this one, unless there is another by now."""
        if self.target is target:
            if error and (state, error) != (self.state, self.error):
                log.warning("the mirror at %s: %s", target.address, error)
            self.state, self.error = state, error

    async def _sweep(self, link: Link) -> None:
        """Some of the keys there: those that are not here go."""
        cursor, names = await link.ask([b"SCAN", b"%d" % self._cursor, b"COUNT",
                                        b"%d" % SCANNED])
        self._cursor = int(cursor)
        names = [name for name in names if name != native.MARK]
        await self._call(lambda: native.missing(self.replica, names, self._cursor == 0))


class Link:
    """A connection. EOFError and OSError where it ends, TimeoutError where nothing comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.name = writer.get_extra_info("peername") or "its socket"

    def close(self) -> None:
        self.writer.transport.abort()

    async def ask(self, argv: list[bytes]) -> Any:
        """The reply to one command. Refused where that is an error."""
        async with asyncio.timeout(PATIENCE):
            self.writer.write(encode(argv))
            await self.writer.drain()
            return await self._reply()

    async def pipeline(self, data: bytes, n: int) -> list[bytes]:
        """Sends n commands: their replies are lines."""
        async with asyncio.timeout(PATIENCE + len(data) / RATE):
            self.writer.write(data)
            await self.writer.drain()
            got, have = [], 0
            while have < n:
                piece = await self.reader.read(1 << 16)
                if not piece:
                    ends = b"".join(got).splitlines()
                    if ends and ends[-1][:1] == b"-":           # it says why
                        raise Refused(ends[-1][1:].decode("utf-8", "replace"))
                    raise EOFError
                got.append(piece)
                have += piece.count(b"\n")
        return b"".join(got).split(b"\r\n")[:n]

    async def _reply(self) -> Any:
        line = await self.reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$" and 0 <= int(rest) <= REPLY_MOST:
            return (await self.reader.readexactly(int(rest) + 2))[:-2]
        if kind == b"$" and int(rest) < 0:
            return None
        if kind == b"*":
            return [await self._reply() for _ in range(int(rest))]
        if kind == b"-":
            raise Refused(rest.decode("utf-8", "replace"))
        raise Refused("that does not speak Redis's protocol")

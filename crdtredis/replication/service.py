"""The sync thread, seen from outside: `server.sync`. It owns a thread with an asyncio loop in which
the log tail, the sessions, the peers and HTTP live.

Every method here may be called from any thread, the engine's above all, and none of them waits:
they set a flag, read a few numbers, or leave a message for the loop. Who wants to wait for
replication (WAIT, CRDT.SYNC) hands over a callback; it is called in the engine thread (through
engine.call_soon), once, with the outcome, also when the time is up or the server stops.

Reading numbers across threads needs no lock: what is read is replaced or counted up by the loop's
thread alone, and a view that is a moment old is all that a status command promises. PAUSE is
stricter: its flags are set before the call returns, and the loop checks them wherever bytes would
cross. So is the list of peers, which ADD and REMOVE replace by another before they return: the next
command of the same pipeline sees it. Only the peers' tasks begin and end later.

Threads: the loop's, two that read segments, and one per host name that is being looked up
(replication/resolver.py).
"""
from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from crdtredis import clocks
from crdtredis._core import give_back_pages
from crdtredis._engine import CONSUMERS, GAP, LISTENS, OPS, PUBLISHED, RESULT
from crdtredis.clocks import Actor, Clock
from crdtredis.kinds import is_loopback
from crdtredis.members import own_field, removal, removed_field
from crdtredis.replication import keeping, plan
from crdtredis.replication.consumers import Consumers, Give
from crdtredis.replication.faults import words
from crdtredis.replication.giving import Giver
from crdtredis.replication.local import KernelView, LocalReplica, OwnIdentity
from crdtredis.replication.members import MEMBERS_MOST
from crdtredis.replication.messages import Messages
from crdtredis.replication.oplog import Segments
from crdtredis.replication.peer import APART, Peer, PeerInfo
from crdtredis.replication.receiving import Receiver, Receiving
from crdtredis.replication.registry import Arrival, Registry
from crdtredis.replication.resolver import Resolver
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.sessions import InboundSessions
from crdtredis.replication.tail import LogTail
from crdtredis.replication.verify import Verdict, Verifier
from crdtredis.replication.waiters import Waiter
from crdtredis.replication.wire import Refusal
from crdtredis.storage.exchange import StateExchange
from crdtredis.storage.witness import Sighting

log = logging.getLogger("crdtredis.replication")

STOP_PATIENCE = 5.0                     # seconds that a stop leaves to what is in flight
# seconds within which a reachable peer says something to a CRDT.SYNC
SYNC_PATIENCE = 5.0
SYSTEM_SINCE = 3                        # a version of the protocol: wire.SPEAKS
PATCHES_SINCE = 7
COMPACT_SINCE = 8
SYNCS = 16                              # CRDT.SYNCs at work; more wait for one of these


@dataclass(frozen=True)
class SyncOutcome:
    """Of CRDT.SYNC: the peers that have, and gave, everything; and those that are reachable but did
    not finish, or are not reachable."""
    synced: tuple[str, ...]
    unfinished: tuple[str, ...]
    unreachable: tuple[str, ...]


@dataclass(frozen=True)
class FullSyncStatus:
    """What INFO, /stats and /metrics show of full syncs."""
    source: str                         # the replica whose state is being taken in; "": none
    phase: str
    bytes: int                          # of it that are here
    joined: int                         # since the start, like the next two
    failed: int
    received_bytes: int
    last_bytes: int                     # of the last one that was joined, like the next two
    last_seconds: float                 # -1: none was
    last_pause: float                   # s for which writes waited
    error: str                          # why the last one failed; "": it did not
    giving: int                         # to others, now
    given: int                          # since the start, as
    given_bytes: int


class EngineLink:
    """tail.Engine over the real bridge."""

    def __init__(self, bridge: Any, call_soon: Callable[..., None]) -> None:
        self.bridge, self.call_soon = bridge, call_soon
        self.fd = bridge.fd
        self.want = lambda: bridge.set_wanted(True)
        self.receive = bridge.send_receive
        self.wait_for_more = bridge.wait_for_more
        self.soon = call_soon
        self.messages: Messages | None = None
        self.consumers: Consumers | None = None

    def drain(self) -> tuple[list[bytes], list[tuple[int, int]], bool]:
        batches, results, gap = [], [], False
        for kind, token, data in self.bridge.drain():
            if kind == OPS:
                batches.append(data)
            elif kind in (PUBLISHED, LISTENS):
                # behind the ops that were drained with it
                asyncio.get_running_loop().call_soon(self.messages.drained, kind, data)
            elif kind == CONSUMERS:
                asyncio.get_running_loop().call_soon(self.consumers.drained, data)
            elif kind == RESULT:
                results.append((token, int.from_bytes(data[:1], "little", signed=True)))
            else:
                gap |= kind == GAP
        return batches, results, gap

    async def call(self, function: Callable[[], Any]) -> Any:
        outcome: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            if outcome.set_running_or_notify_cancel():
                try:
                    outcome.set_result(function())
                except BaseException as e:
                    outcome.set_exception(e)

        self.call_soon(run)
        return await asyncio.wrap_future(outcome)


def settings_of(config: Any) -> plan.Settings:
    """What replication needs of a config.Config."""
    return plan.Settings(cluster=config.cluster_name, token=config.auth_token,
                         interval=config.seconds("sync_interval"),
                         timeout=config.seconds("sync_timeout"),
                         retry=config.seconds("retry_interval"), max_retries=config.max_retries,
                         skew=config.seconds("max_clock_skew"),
                         full_sync_rate=config.replication_rate_limit,
                         verify_interval=config.seconds("verify_interval"),
                         allow_plain=config.allow_plain_peers, advertise=config.advertised_url,
                         discovery=config.peer_discovery)


def local_replica_of(replica: Any, renew: Callable[[int], None],
                     logged: Callable[[], bool] = lambda: True,
                     give: Give = lambda mode, rights: (0, 0)) -> LocalReplica:
    """What replication needs of the kernel, which is recovered and not yet running. renew(above)
    makes an epoch above that one durable and has the replica go on under it; logged() says whether
    all that the kernel has is in the log. Both are called in the engine thread, like everything
    here but this function itself."""
    def actor() -> Actor:
        return Actor(replica.actor, replica.id, replica.epoch)

    def view() -> KernelView:
        return KernelView(replica.clock_ids(), {a[0]: Actor(*a) for a in replica.declared()},
                    replica.pending()["ops"], logged())

    def renewed(above: int) -> Actor:
        renew(above)
        return actor()

    def record_clock(peer: Actor, clock: Clock) -> int:
        replica.record_clock(peer.id, clock)
        return replica.pending()["ops"]

    now = view()
    return LocalReplica(actor(), now.actors, now.clock, renewed, view, record_clock, give)


class Service:
    """server.sync. Make it before the engine runs, start() it then; stop() ends the thread."""

    def __init__(self, local: LocalReplica, bridge: Any, call_soon: Callable[..., None],
                 segments: Segments, settings: plan.Settings,
                 peers: Iterable[str] = (),
                 serve: Callable[[Service], Awaitable[Any]] | None = None,
                 client_tls: ssl.SSLContext | None = None,
                 listening: Sequence[tuple[str, int]] = (),
                 exchange: StateExchange | None = None, scheme: str = "http",
                 trusted: object = None) -> None:
        """peers: URLs. serve: begins to serve HTTP; what it returns has a coroutine close().
        listening: addresses and ports where it does. exchange: for full syncs. scheme: of URLs
        of this replica. client_tls, trusted: as renew_tls has it."""
        self.call_soon = call_soon
        self.engine = EngineLink(bridge, call_soon)
        self.runtime = Runtime(local.actor.replica, settings)
        self.tail = LogTail(local, self.engine, segments, self.runtime)
        self.identity = OwnIdentity(local, self.engine.call, self.tail, self.runtime)
        self.registry = Registry(self.identity, self.tail, self.runtime, self.engine.soon)
        self.identity.url = self._own_url
        self.giver = Giver(self.tail, self.runtime, self.engine.call, exchange)
        self.receiver = Receiver(self.identity, self.tail, self.registry, self.runtime, self.giver,
                                 self.engine.call, exchange)
        self.verifier = Verifier(self.runtime, self.receiver, self.engine.call, exchange)
        self.sessions = InboundSessions(self.identity, self.tail, self.registry, self.runtime,
                                        self.giver)
        self.registry.callers = self.sessions.logged
        self.messages = self.runtime.messages = self.engine.messages = Messages(
                lambda: self.registry.peers, self.tail.send)
        self.consumers = self.runtime.consumers = self.engine.consumers = Consumers(
                local.actor.replica, self.registry, self.runtime, lambda: self.tail.head,
                self.engine.call, local.give)
        # coroutines that run as long as the thread does
        self.beside: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._urls, self._listening = list(peers), listening
        self._serve, self._scheme, self._trusted = serve, scheme, trusted
        self.runtime.tls = client_tls or True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: dict[Peer, asyncio.Task[None]] = {}
        self._changing = threading.Lock()                       # the list of peers
        self._stop: asyncio.Event | None = None
        # called in the engine thread, when records_to_write may have something
        self.on_meeting: Callable[[], Any] = lambda: None
        self.registry.met = lambda: self.engine.soon(self.on_meeting)
        self._waiting: set[asyncio.Task[None]] = set()
        self._syncs = asyncio.Semaphore(SYNCS)

    # ---- thread ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when HTTP is served; raises what `serve` does."""
        started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main(started)),
                                        name="sync", daemon=True)
        self._thread.start()
        started.result()

    def stop(self, patience: float = STOP_PATIENCE) -> None:
        """End it: no new requests, what is in flight may finish."""
        if self._thread and self._thread.is_alive():
            self._soon(self._stop.set)
            self._thread.join(patience)

    async def _main(self, started: concurrent.futures.Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2, "sync-read"))
        served = None
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60, resolver=Resolver())
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(),
                                         auto_decompress=False) as self.runtime.http:
            try:
                self.tail.start()
                if self._serve:
                    served = await self._serve(self)
                for url in self._urls:
                    self._begin(self._join(url))
                self._call_members()
                self.consumers.look()
            except BaseException as e:
                started.set_exception(e)
                self._stop_all()
                if served:
                    await served.close()
                return
            started.set_result(None)
            calling = self._loop.create_task(self._keep_calling())
            verifying = self._loop.create_task(self._verify_all())
            giving = self._loop.create_task(self._give_back_pages())
            beside = [self._loop.create_task(c()) for c in self.beside]
            await self._stop.wait()
            self._stop_all()
            await self.receiver.stop()
            tasks = [calling, verifying, giving, *beside, *self._tasks.values(), *self._waiting]
            for t in tasks:
                t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if served:
                await served.close()

    def leave(self, secret: bytes, seen: Sighting, before: Callable[[str], None]) -> str:
        """As keeping.leave, with the next peers in the order of what they lack. Waits. before: is
        called in another thread. OSError where it is not known whether one has it."""
        async def run() -> str:
            peers = sorted(self.registry.peers, key=lambda p: clocks.behind(p.acked,
                                                                            self.tail.head))
            async with asyncio.timeout(keeping.PATIENCE):
                return await keeping.leave(peers, secret, seen, before)

        if self._loop is None or self._loop.is_closed() or not self._thread.is_alive():
            return ""
        try:
            return asyncio.run_coroutine_threadsafe(run(), self._loop).result(
                2 * keeping.PATIENCE)
        except (aiohttp.ClientError, Refusal, TimeoutError) as e:
            raise OSError(words(e)) from e

    def _stop_all(self) -> None:
        self.runtime.stopping = True
        self.sessions.stop()
        self.tail.stop()

    def configure(self, config: Any) -> None:
        """Take over changed settings, whichever may change while it runs."""
        fresh = settings_of(config)

        def change() -> None:
            self.runtime.settings = fresh
            self._refresh()

        self._soon(change)

    def _soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Have the loop call it; nothing happens when the loop is gone."""
        if self._loop and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(function, *args)
            except RuntimeError:
                # closed between the two lines: the server is stopping
                pass

    # ---- peers -----------------------------------------------------------------------------------

    def peers(self) -> list[PeerInfo]:
        calls = self.sessions.silent()
        return [replace(p.info(), calls_ms=int(calls.get(p.replica or p.member, -0.001) * 1000))
                for p in list(self.registry.peers)]

    def logged(self) -> dict[str, Clock]:
        """What each known replica has in its log, as far as it has told: where it is called, or, of
        one that cannot be, where it calls."""
        called, calls = self.registry.logged(), self.sessions.logged()
        return called | {r: clock for r, clock in calls.items() if not called.get(r)}

    def full_syncs(self) -> FullSyncStatus:
        """From any thread."""
        now, counts, giver = self.receiver.now, self.receiver.counts, self.giver
        return FullSyncStatus(
            now.peer.replica if now else "", now.phase if now else "", now.bytes if now else 0,
            counts.joined, counts.failed, counts.bytes, counts.last_bytes, counts.last_seconds,
            counts.last_pause, self.receiver.error, sum(not g.over for g in
                                                        list(giver.givings.values())),
            giver.counts.given, giver.counts.bytes)

    def find(self, name: str) -> Peer:
        """By URL, host:port or replica id. Raises KeyError."""
        name = name.rstrip("/")
        for p in list(self.registry.peers):
            if name in (p.url, p.url.partition("://")[2]) or (p.replica and name == p.replica):
                return p
        raise KeyError(name)

    def add(self, url: str) -> None:
        """A removed replica there belongs to the cluster again. Raises ValueError where there is
        such a peer already, or are too many."""
        with self._changing:
            try:
                peer = self.find(url)
            except KeyError:
                if len(self.registry.peers) >= MEMBERS_MOST:
                    raise ValueError(f"there are {MEMBERS_MOST} peers, and no more are called"
                                     ) from None
                peer = self._join(url)
                peer.asked_for = self.registry.members.table
                self._soon(self._begin, peer)
                return
        if not self.registry.members.is_removed(peer.replica):
            raise ValueError(f"there is a peer {url} already")
        peer.asked_for = self.registry.members.table
        self._soon(peer.wanted.set)

    def take_back(self, replica: str) -> bool:
        """A removed replica, by its id, belongs to the cluster again, which it may never have been
        called in. False: none is removed by that name."""
        members = self.registry.members
        if not members.is_removed(replica):
            return False
        with self._changing:
            self.registry.asked_for = {**self.registry.asked_for, replica: members.table}
        self.engine.soon(self.on_meeting)
        return True

    def _join(self, url: str, member: str = "") -> Peer:
        peer = Peer(self.identity, self.tail, self.registry, self.runtime, url, member,
                    self.receiver)
        self.registry.peers = [*self.registry.peers, peer]
        return peer

    def _begin(self, peer: Peer) -> None:
        self._tasks[peer] = self._loop.create_task(peer.run())

    def remove(self, name: str) -> None:
        """Raises KeyError. Its own requests are still replied to: it is another replica's peer
        until removed there too."""
        with self._changing:
            self._leave(self.find(name))

    def members_there(self) -> set[str]:
        """Who belongs to the cluster, as far as is known here, this replica among them; none while
        that is not certain: it has peers, and no record. From any thread."""
        members = self.registry.members
        there = {r for r, m in members.table.items() if not m.removed}
        if members.own not in there and (there or self.registry.peers):
            return set()
        return there | {members.own}

    def replicas_there(self) -> set[str] | None:
        """Members, and who came by itself; None where that is not certain: somebody who is to be
        called was never met. From any thread."""
        members, removed = self.members_there(), self.registry.members.is_removed
        if not members or self.stranger():
            return None
        return members | {r for r in list(self.sessions.by_replica) if not removed(r)}

    def is_apart(self) -> bool:
        """Is one of those that there are, or may be, not connected with this replica now? From any
        thread."""
        there, peers = self.replicas_there(), list(self.registry.peers)
        called = {p.replica for p in peers}
        up = {p.replica for p in peers if p.state == "up"} | {
            r for r, seconds in self.sessions.silent().items()
            if r not in called and seconds <= self.runtime.settings.silence}
        return there is None or not there <= up | {self.registry.members.own}

    def knows_patches(self, new: bool) -> bool:
        """Does every replica that there is, or may be, understand changes of strings
        (core/patches.pxi)? One that was never met is taken for older, but by a replica that began
        with nothing (new), before it has what the others have: of a string it would write the piece
        alone, in place of all of it. From any thread. Once one was made that no longer matters
        (Replica.set_members)."""
        if new:
            peers = [p for p in list(self.registry.peers) if p.state != "self"]
            return (not self.sessions.older_than(PATCHES_SINCE)
                    and all(p.speaks >= PATCHES_SINCE for p in peers if p.speaks))
        return self.all_speak(PATCHES_SINCE)

    def knows_compact(self) -> bool:
        """Does every replica that there is, or may be, read the shorter form of effects
        (core/compact.pxi)? Not before it is certain who is there: a peer may hand on what is
        written here to one that this replica has not heard of. From any thread."""
        return bool(self.members_there()) and self.all_speak(COMPACT_SINCE)

    def all_speak(self, version: int) -> bool:
        """Has every replica that there is, or may be, been met, and does it speak this version of
        the protocol? From any thread."""
        peers = [p for p in list(self.registry.peers) if p.state != "self"]
        met = {p.replica for p in peers if p.speaks >= version}
        met |= {s.replica for s in list(self.sessions.by_replica.values())
                if s.speaks >= version}
        there = self.members_there() - {self.registry.members.own}
        there |= {p.replica or p.member or p.url for p in peers}
        return there <= met and not self.sessions.older_than(version)

    def stranger(self) -> str:
        """A peer that is no member yet, as far as is known here: its replica id, or its URL where
        it was never met; "": none is. From any thread."""
        table = self.registry.members.table
        urls = {m.url for m in table.values()}
        return next((p.replica or p.url for p in list(self.registry.peers)
                     if p.state != "self" and (p.replica or p.member) not in table
                     and (p.replica or p.url not in urls)), "")

    def tell_ended(self, told: bytes) -> None:
        """What replication/ended.py has peers know. From any thread."""
        self.runtime.ended = told

    def part_from(self, replica: str) -> None:
        """Remove every peer that is known to be this replica."""
        with self._changing:
            for p in self.registry.peers:
                if replica in (p.replica, p.member):
                    self._leave(p)

    def _leave(self, peer: Peer) -> None:
        self.registry.peers = [p for p in self.registry.peers if p is not peer]
        self._soon(self._end, peer)

    def _end(self, peer: Peer) -> None:
        self._tasks.pop(peer).cancel()
        self.receiver.refresh()
        self.registry.wake()
        self.consumers.look()

    # ---- members ---------------------------------------------------------------------------------

    def member(self, name: str) -> str:
        """The replica id of a member, or of one that is about to become one, by that, its URL or
        host:port, or any peer's address that it has. Raises KeyError."""
        name = name.rstrip("/")
        for replica, m in self.registry.members.table.items():
            if not m.removed and name in (replica, m.url, m.url.partition("://")[2]):
                return replica
        members, came = self.registry.members, name in self.sessions.by_replica
        replica = name if came and not members.is_removed(name) else self.find(name).replica
        if replica not in members.table and (replica in ("", members.own) or self.too_old()):
            raise KeyError(name)
        return replica

    def take_members(self, records: Mapping[bytes, bytes]) -> None:
        """The cluster's records have changed."""
        self.registry.members.update(records)
        self._soon(self._call_members)

    def records_to_write(self, now_ms: int) -> dict[bytes, bytes]:
        """What this replica should say of itself and of those that CRDT.PEER ADD took back, where
        the replicated records say otherwise."""
        members, out = self.registry.members, {}
        if self.too_old() or any(p.is_unmet for p in self.registry.peers):
            return {}
        up = [p for p in self.registry.peers if p.replica and p.state != "self"
              and p.here is not None and clocks.observed(self.tail.head, p.met)]
        for p in up:
            if members.takes_back(p.asked_for, p.replica):
                out[removed_field(p.replica)] = removal(False, now_ms)
            else:
                p.asked_for = None
        for replica, asked in self.registry.asked_for.items():
            if members.takes_back(asked, replica):
                out[removed_field(replica)] = removal(False, now_ms)
        own = members.own_record(self._own_urls(up), now_ms) if up else None
        if own is not None:
            out[own_field(members.own)] = own
        return out

    def too_old(self) -> str:
        """A replica that cannot read the system's database, and so would refuse all operations from
        the first one on that writes there; "" where none is known. From any thread."""
        return next((p.replica for p in self.registry.peers if p.replica and p.state != "self"
                     and p.speaks < SYSTEM_SINCE), "") or self.sessions.older_than(SYSTEM_SINCE)

    def _own_urls(self, up: Iterable[Peer]) -> list[str]:
        """Where others can call this replica, the best first: as configured, or by the addresses
        that it has towards those it has called itself."""
        if self.runtime.settings.advertise:
            return [self.runtime.settings.advertise]
        urls = []
        for host in sorted({p.here for p in up if p.here}, key=lambda h: (is_loopback(h), h)):
            host = host.removeprefix("::ffff:")
            port = next((port for at, port in self._listening
                         if at in (host, "::") or at == "0.0.0.0" and ":" not in host), 0)
            if port:
                urls.append(self._url(host, port))
        return urls

    def _url(self, host: str, port: int) -> str:
        return f"{self._scheme}://" + (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _own_url(self) -> str:
        """For those who may not know our record: what it says, or may come to say; "" while this
        replica listens everywhere and has called nobody."""
        members = self.registry.members
        mine = members.table.get(members.own)
        urls = [mine.url] if mine is not None and mine.url else self._own_urls(self.registry.peers)
        urls += [self._url(host, port) for host, port in self._listening
                 if host not in ("0.0.0.0", "::")]
        return urls[0] if urls else ""

    async def _keep_calling(self) -> None:
        while True:
            await asyncio.sleep(self.runtime.settings.interval)
            self._call_members()
            if self.registry.peers:
                self.registry.met()

    def _to_call(self) -> dict[str, str]:
        """Members, and those that call and whose record has not come: it may stand among operations
        that the log of nobody holds any more, which a full sync brings, and that one asks for."""
        members = self.registry.members
        strangers = {s.replica: s.url for s in self.sessions.by_replica.values()
                     if s.url and s.replica not in members.table}
        return strangers | members.to_call()

    def _call_members(self) -> None:
        """Peers are those that the configuration and operators name, and the members that none of
        these reaches."""
        members = self.registry.members
        wanted = self._to_call() if self.runtime.settings.discovery else {}
        with self._changing:
            for p in self.registry.peers:
                if (members.is_removed(p.replica) and not members.takes_back(p.asked_for, p.replica)
                        or p.member and wanted.get(p.member) != p.url):
                    self._leave(p)
            there = self.registry.peers
            for replica, url in wanted.items():
                if not any(p.url == url or p.replica == replica and p.state == "up"
                           for p in there):
                    self._soon(self._begin, self._join(url, replica))
        self.consumers.look()

    def pause(self, name: str) -> None:
        """Cut replication with a peer, or with all ("*"), in both directions, from now on. Raises
        KeyError."""
        self._set_paused(name, True)

    def resume(self, name: str) -> None:
        self._set_paused(name, False)

    def _set_paused(self, name: str, paused: bool) -> None:
        ids = self.registry.paused_ids
        if name == "*":
            self.registry.paused_all = paused
            if not paused:
                self.registry.paused_ids = frozenset()
                for p in list(self.registry.peers):
                    p.paused = False
        elif not any(p.replica == name for p in self.registry.peers) and (
                name in self.sessions.by_replica or name in ids):
            self.registry.paused_ids = ids | {name} if paused else ids - {name}
        else:
            peer = self.find(name)
            self.registry.paused_ids = ids - {peer.replica}
            # all others stay paused, now one by one
            if not paused and self.registry.paused_all:
                for p in list(self.registry.peers):
                    p.paused = True
                self.registry.paused_all = False
            peer.paused = paused
        self._soon(self._refresh)

    def renew_tls(self, tls: ssl.SSLContext | None, trusted: object) -> None:
        """With what peers are called from now on, and by whom they have to be certified; None: the
        system's authorities. trusted: equal where this says the same as before. Else all
        connections to peers are made anew. From any thread."""
        self._soon(self._renew_tls, tls or True, trusted)

    def _renew_tls(self, tls: ssl.SSLContext | bool, trusted: object) -> None:
        self.runtime.tls = tls
        for p in self.registry.peers:
            if trusted != self._trusted:
                p.begin_anew()
            elif not p.session:
                p.wanted.set()                  # it may take what it is shown now
        self._trusted = trusted

    def _refresh(self) -> None:
        for p in self.registry.peers:
            p.refresh()
        self.receiver.refresh()

    # ---- waiting ---------------------------------------------------------------------------------

    def acknowledged(self, actor: int, seq: int) -> int:
        """How many replicas have this op of one of our actors in their logs; (0, 0): how many
        replicas there are."""
        return self.registry.acknowledged(actor, seq)

    def when_acknowledged(self, actor: int, seq: int, count: int,
                          done: Callable[[int], None]) -> Callable[[], None]:
        """done(number) in the engine thread, when `count` replicas have that op in their logs. Call
        what is returned when nobody waits any more, in any case."""
        waiter = Waiter(actor, seq, count, done)
        self._soon(self.registry.wait, waiter)
        return lambda: self._soon(self.registry.waiters.leave, waiter)

    def when_here(self, clock: Clock, done: Callable[[], None]) -> Callable[[], None]:
        """done() in the engine thread, when the log here has all that the clock covers. Call what
        is returned when nobody waits any more, in any case."""
        arrival = Arrival(clock, done)

        async def begin() -> None:
            await self.tail.want()          # without peers nobody has asked for the clock yet
            self.registry.expect(arrival)

        self._start(begin)
        return lambda: self._soon(self.registry.expect_no_more, arrival)

    def when_synced(self, done: Callable[[SyncOutcome], None],
                    timeout: float | None = None) -> Callable[[], None]:
        """Bring every reachable peer and this replica to the same clock; done(outcome) in the
        engine thread, after `timeout` seconds at the latest (None: no limit). Call what is returned
        when nobody waits any more."""
        names = tuple(p.url for p in self.registry.peers)

        async def run() -> None:
            try:
                outcome = await self._synchronise(timeout)
            except asyncio.CancelledError:
                # the server is stopping, or nobody waits
                outcome = SyncOutcome((), (), names)
            except Exception:
                log.exception("waiting for replication failed")
                outcome = SyncOutcome((), (), names)
            self.call_soon(lambda: done(outcome))

        return self._start(run)

    def when_repaired(self, name: str, done: Callable[[str, Receiving | None], None]
                      ) -> Callable[[], None]:
        """Have this replica take in the peer's state, what differs of it; done(why it did not, or
        "", what was done) in the engine thread. Raises KeyError. Call what is returned when nobody
        waits any more: it goes on all the same."""
        peer = self.find(name)
        told: list[bool] = []

        def tell(error: str, now: Receiving | None) -> None:
            if not told:
                told.append(True)
                self.call_soon(lambda: done(error, now))

        def begin() -> None:
            if reason := self.receiver.refuses(peer):
                return tell(reason, None)
            task = self.receiver.begin(peer)
            now = self.receiver.now
            task.add_done_callback(lambda _: tell(self.receiver.error, now))

        self._soon(begin)
        return lambda: told.append(True)

    def when_verified(self, names: Iterable[str],
                      done: Callable[[list[tuple[str, Verdict | str]]], None]
                      ) -> Callable[[], None]:
        """Compare the state with that of these peers; done([(peer, verdict or why there is none)])
        in the engine thread. Raises KeyError. Call what is returned when nobody waits any more."""
        peers = [self.find(name) for name in names]

        async def run() -> None:
            found: list[tuple[str, Verdict | str]] = []
            for p in peers:
                found.append((p.replica or p.url, await self._verdict(p)))
            self.call_soon(lambda: done(found))

        return self._start(run)

    def _start(self, run: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Have the loop run it as a task. What is returned cancels that; from any thread."""
        tasks: list[asyncio.Task[None]] = []

        def begin() -> None:
            task = self._loop.create_task(run())
            tasks.append(task)
            # the loop itself keeps only weak references to tasks
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

        self._soon(begin)
        return lambda: self._soon(lambda: [t.cancel() for t in tasks])

    async def _verdict(self, peer: Peer) -> Verdict | str:
        try:
            return await self.verifier.verify(peer)
        except Refusal as e:
            return e.text
        except (OSError, aiohttp.ClientError) as e:
            return words(e)
        except RuntimeError as e:           # a state is being joined here
            return str(e)

    async def _give_back_pages(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            give_back_pages()

    async def _verify_all(self) -> None:
        """Every verify_interval, one peer after the other."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            interval = self.runtime.settings.verify_interval
            if interval and time.monotonic() - last >= interval:
                last = time.monotonic()
                for p in [p for p in self.registry.peers if p.state == "up"]:
                    found = await self._verdict(p)
                    if isinstance(found, str):
                        log.info("the state was not compared with that of %s: %s", p.replica,
                                 found)

    async def _synchronise(self, timeout: float | None) -> SyncOutcome:
        """First fetch everything any reachable peer has, then see that each has all of it: after
        this, whatever one replica had at the beginning is everywhere."""
        candidates = [p for p in self.registry.peers if p.state not in APART]
        asked: set[Peer] = set()
        here: set[Peer] = set()
        done: set[Peer] = set()
        patience = SYNC_PATIENCE if timeout is None else min(SYNC_PATIENCE, timeout / 2)

        async def fetch(p: Peer) -> None:
            async def compare() -> None:
                asked.add(p)
                await p.anti_entropy(everything=True)

            if await p.try_twice(compare):
                here.add(p)
            else:
                asked.discard(p)

        async def finish(p: Peer, target: Clock) -> None:
            if await p.try_twice(lambda: p.bring_up(target)):
                done.add(p)

        async def work() -> None:
            begun = time.monotonic()
            fetches = {p: asyncio.create_task(fetch(p)) for p in candidates}
            try:
                if fetches:
                    await asyncio.wait(fetches.values(), timeout=patience)
                for p, task in fetches.items():
                    # not a word: it is not reachable, and must not keep the others
                    if p.contact < begun and not task.done():
                        task.cancel()
                        asked.discard(p)
                await asyncio.gather(*fetches.values(), return_exceptions=True)
            finally:
                for task in fetches.values():
                    task.cancel()
            if not here:
                return
            view = await self.tail.view()
            target = dict(view.clock)
            for p in here:
                clocks.join(target, p.acked)
            await self.registry.until(lambda: clocks.observed(self.tail.head, target))
            await asyncio.gather(*(finish(p, target) for p in here), return_exceptions=True)

        try:
            async with asyncio.timeout(timeout), self._syncs:
                await work()
        except TimeoutError:
            pass
        # who has not told all it has keeps the others waiting
        unfinished = asked - here or here - done
        reached = {p.replica for p in done | unfinished}
        return SyncOutcome(tuple(p.url for p in done), tuple(p.url for p in unfinished),
                           tuple(p.url for p in candidates if p not in asked
                                 and p.state != "self"          # as has come out meanwhile
                                 and not (p.state == "standby" and p.replica in reached)))

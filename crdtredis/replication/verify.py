"""Do two replicas hold the same? Not whether they say so, but whether they do.

Replicas with equal clocks have equal states, or there is a fault: in this program, in a memory, on
a disk. So both make digests of their buckets of keys, tombstones left out, as of moments at which
their clocks are equal; buckets that change meanwhile are not compared. Of buckets that differ the
keys are told with a digest each, again at equal clocks, and those that differ are named.

Where writes go on, clocks are never equal for long: then it is said that nothing was compared.
"""
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from crdtredis.clocks import Clock
from crdtredis.replication.receiving import BUCKETS, DIGESTS, Receiver, unexpected
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.wire import Refusal, decode_keys, proto, to_clock

if TYPE_CHECKING:
    from crdtredis.replication.peer import Peer
    from crdtredis.storage.exchange import StateExchange

log = logging.getLogger("crdtredis.replication")

PATIENCE = 5.0                          # s for clocks to become equal
PAUSE = 0.05                            # s between two looks
BUCKETS_NAMED = 16                      # of those that differ, whose keys are compared
KEYS_NAMED = 100                        # of those that differ


@dataclass(frozen=True)
class Verdict:
    """compared: buckets, of 4096; differ: of these. keys: (database, key) of those that differ, 100
    at the most, of 16 buckets. at: Unix time."""
    peer: str
    compared: int
    differ: int
    keys: tuple[tuple[int, bytes], ...]
    at: float

    @property
    def text(self) -> str:
        named = ", ".join(f"db {db} {key[:64]!r}" for db, key in self.keys[:3])
        return (f"the data here and at {self.peer} differ in {self.differ} of {self.compared} "
                f"buckets of keys{f', for example {named}' if named else ''}: CRDT.VERIFY names "
                "keys, CRDT.REPAIR mends")


class Verifier:
    """verdicts: the last one of each replica, by its id."""

    def __init__(self, runtime: Runtime, receiver: Receiver,
                 call: Callable[[Callable[[], Any]], Awaitable[Any]],
                 exchange: StateExchange | None) -> None:
        self._runtime, self._receiver, self._call = runtime, receiver, call
        self._exchange = exchange
        self._one = asyncio.Lock()      # comparison at a time
        self.verdicts: dict[str, Verdict] = {}

    def differences(self) -> list[Verdict]:
        """Those that stand. From any thread."""
        return [v for v in list(self.verdicts.values()) if v.differ]

    async def verify(self, peer: Peer) -> Verdict | str:
        """What was found, or why nothing was compared. Raises what asking the peer does."""
        if self._exchange is None:
            return "this replica compares nothing"
        async with self._one:
            until = time.monotonic() + PATIENCE
            while True:
                if self._receiver.now is not None:
                    return f"a full sync from {self._receiver.now.peer.replica} is under way"
                if not peer.session or peer.is_paused:
                    return f"there is no connection to {peer.url}: {peer.state}"
                await peer.anti_entropy(everything=True)
                found = await _Comparison(self, peer).run()
                if found is not None:
                    before = self.verdicts.get(peer.replica)
                    self.verdicts[peer.replica] = found
                    if found.differ:
                        log.error("%s", found.text)
                    elif before is not None and before.differ:
                        log.info("the data here and at %s differ no more", peer.replica)
                    return found
                if time.monotonic() > until:
                    return (f"the clocks here and at {peer.replica} were not equal within "
                            f"{PATIENCE:g} s: writes go on")
                await asyncio.sleep(PAUSE)


class _Comparison:
    """One attempt."""

    def __init__(self, verifier: Verifier, peer: Peer) -> None:
        self._peer, self._runtime = peer, verifier._runtime
        self._call, self._exchange = verifier._call, verifier._exchange
        self._sync = 0
        self._clocks: tuple[Clock, Clock] = {}, {}
        self._mine: Any = None
        self._theirs: tuple[Any, bytes] | None = None
        self._wanted = b""              # buckets whose keys are asked for

    async def run(self) -> Verdict | None:
        """None: the clocks were not equal."""
        try:
            await self._ask(proto.Sync(digests=True, compare=True))
            mine = await self._own()
            if mine is None:
                return None
            theirs = self._theirs
            unsure = bytes(a | b for a, b in zip(mine[1], theirs[1], strict=True))
            sure = [i for i in range(BUCKETS) if not unsure[i // 8] >> i % 8 & 1]
            differ = [i for i in sure if mine[0][16 * i:16 * i + 16]
                      != theirs[0][16 * i:16 * i + 16]]
            keys: tuple[tuple[int, bytes], ...] = ()
            if differ:
                wanted = bytearray(BUCKETS // 8)
                for i in differ[:BUCKETS_NAMED]:
                    wanted[i // 8] |= 1 << i % 8
                await self._ask(proto.Sync(sync=self._sync, keys=True, buckets=bytes(wanted)))
                mine = await self._own()
                if mine is None:
                    return None
                here, there = mine[0], self._theirs[0]
                keys = tuple(sorted(k for k in here.keys() | there.keys()
                                    if here.get(k, bytes(16)) != there.get(k, bytes(16))))
            return Verdict(self._peer.replica, len(sure), len(differ), keys[:KEYS_NAMED],
                           time.time())
        finally:
            if self._sync:
                try:
                    await self._ask(proto.Sync(sync=self._sync, over=True))
                except (OSError, aiohttp.ClientError, TimeoutError, Refusal):
                    pass

    async def _ask(self, request: proto.Sync) -> None:
        self._theirs, self._wanted = None, request.buckets
        await self._peer.sync(request, self._take)

    async def _take(self, head: proto.Given, data: bytes) -> None:
        if head.step == proto.BEGUN:
            self._sync = head.sync
            mine, self._mine = await self._call(lambda: (self._exchange.clock(),
                                                         self._exchange.digests(False)))
            self._clocks = mine, to_clock(head.clock)
        elif head.step == proto.DIGESTS and len(data) == DIGESTS + BUCKETS // 8:
            self._theirs = data[:DIGESTS], data[DIGESTS:]
        elif head.step == proto.KEYS:
            keys, unsure = decode_keys(data)
            mine, self._mine = await self._call(
                    lambda: self._exchange.key_digests(self._wanted))
            self._clocks, self._theirs = (mine, to_clock(head.clock)), (keys, unsure)
        elif head.step != proto.OVER:
            raise unexpected(head)

    async def _own(self) -> Any:
        """This replica's part; None where the clocks were not equal."""
        if self._theirs is None or self._clocks[0] != self._clocks[1]:
            return None
        while await self._call(self._mine.step):
            pass
        return await self._call(self._mine.result)

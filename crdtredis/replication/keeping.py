"""What a replica that stops leaves with a peer, and wants back as it starts.

A restarted process goes on as the actor that the one before it was where a witness proves that
nothing was lost (storage/witness.py). The witness is a page of this machine's memory; where that
does not outlive the process, in a container or before the machine itself stops, its testimony goes
to a peer, who keeps it in memory, too, and gives it to whoever shows the secret that stands in the
stopped replica's directory: once.

It is the same induction: the testimony is in one place at a time. The page is about nobody before
the testimony is sent; a peer that gives it away has it no more; where a reply is lost, so is the
testimony, and the next process is a new actor, as it is where the peer was stopped meanwhile. Of
two copies of the directory one is given it, and only if its log reaches as far as that of the one
that stopped. An image of the peer's memory that is gone back to is noticed as there: its two clocks
have parted since.

A peer keeps one testimony of each replica, the newest, of REPLICAS at most.
"""
from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from crdtredis.replication import plan
from crdtredis.replication.resolver import Resolver
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.wire import CONTENT_TYPE, HEAD_MAX, Refusal, decode, encode, proto
from crdtredis.storage.identity import SECRET, Left
from crdtredis.storage.witness import PARTED, Sighting, clocks

if TYPE_CHECKING:
    from crdtredis.replication.peer import Peer

SINCE = 4                               # a version of the protocol: wire.SPEAKS
REPLICAS = 1000                         # whose testimony is kept
PATIENCE = 2.0                          # s for a peer's word, at a stop and at a start
# A refusal that is not the peer's own word on a request it understood: it may have it.
UNCLEAR = {proto.MALFORMED, proto.TOO_LARGE, proto.UNKNOWN}

log = logging.getLogger("crdtredis.replication")


@dataclass(frozen=True)
class _Kept:
    secret: bytes
    seen: Sighting
    parted: int                         # ms between the two clocks of this machine, then


def parted() -> int:
    wall, boot = clocks()
    return wall - boot


class Keeper:
    """The peer's side."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def keep(self, replica: str, request: proto.Keep) -> None:
        """Raises Refusal."""
        if len(request.secret) != SECRET:
            raise Refusal(proto.MALFORMED, f"a secret of {len(request.secret)} bytes")
        self._kept.pop(replica, None)
        self._kept[replica] = _Kept(request.secret, as_sighting(request.testimony), parted())
        if len(self._kept) > REPLICAS:
            self._kept.popitem(last=False)

    def claim(self, replica: str, secret: bytes) -> Sighting | None:
        """What is kept under this secret, from now on no more."""
        kept = self._kept.get(replica)
        if kept is None or kept.secret != secret:
            return None
        del self._kept[replica]
        return kept.seen if abs(parted() - kept.parted) <= PARTED else None


def as_testimony(seen: Sighting) -> proto.Testimony:
    number, end = seen.position
    return proto.Testimony(epoch=seen.epoch, actor_epoch=seen.actor_epoch, seq=seen.seq,
                           number=number, end=end)


def as_sighting(told: proto.Testimony) -> Sighting:
    return Sighting(told.epoch, told.actor_epoch, told.seq, (told.number, told.end))


async def leave(peers: Iterable[Peer], secret: bytes, seen: Sighting,
                before: Callable[[str], None]) -> str:
    """Leave it with the first of these peers that takes it: its URL. "": none has it. before: is
    told the URL that is tried next. Raises TimeoutError, OSError, aiohttp.ClientError or Refusal
    where one may have it, or may not."""
    for peer in peers:
        if peer.session and peer.state == "up" and peer.speaks >= SINCE:
            before(peer.url)
            try:
                await peer.keep(secret, as_testimony(seen))
            except aiohttp.ClientConnectorError as e:
                log.debug("%s: %s", peer.url, e)
            except Refusal as e:
                if e.code in UNCLEAR:
                    raise
                log.debug("%s does not keep it: %s", peer.url, e)
            else:
                return peer.url
    return ""


async def claim(left: Left, runtime: Runtime, tls: ssl.SSLContext | None) -> Sighting | None:
    """What was left there. None: nothing is, or it cannot be had."""
    if reason := plan.exposed(left.url, runtime.settings):
        log.debug("%s is not asked: %s", left.url, reason)
        return None
    try:
        async with (asyncio.timeout(PATIENCE),
                    aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True,
                                                                         resolver=Resolver()),
                                          cookie_jar=aiohttp.DummyCookieJar(),
                                          auto_decompress=False) as http,
                    http.post(f"{left.url}/replication/claim",
                              data=encode(proto.Claim(secret=left.secret)),
                              headers=runtime.headers, allow_redirects=False) as r):
            body = await r.content.read(HEAD_MAX)
        if r.status != 200 or r.content_type != CONTENT_TYPE:
            raise Refusal(proto.UNKNOWN, f"status {r.status}")
        kept, _ = decode(proto.Kept, body)
    except (OSError, TimeoutError, aiohttp.ClientError, Refusal, ValueError) as e:
        log.debug("%s does not give back what was left there: %s", left.url, e or type(e).__name__)
        return None
    if not kept.HasField("testimony"):
        return None
    return as_sighting(kept.testimony)

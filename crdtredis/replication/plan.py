"""Who gets what, when: the decisions of replication as pure functions of clocks. No socket, no time
of its own, no chance of its own.

How do ops reach every replica at least once, soon, and without every replica sending everything to
every other?

- *Push, own ops only.* A replica pushes the ops of its own actors (all epochs) to every peer, as
  they are made. In a full mesh that is each op once over each link.
- *Anti-entropy, everything.* Every sync_interval two replicas compare clocks (pull). What a peer
  has and this replica lacks is asked for only when it is *overdue*: lacking in the round before
  too, with nothing arrived from that actor since. Ops on their way from their origin are thus not
  fetched a second time, while those of an origin that cannot reach us arrive through a third
  replica. The same rule, one round later, lets a replica relay foreign ops to a peer that cannot
  ask for them.

A watermark is always a clock, one seq per actor, never a time: an op of an actor whose clock is
behind, or that took a detour, sorts before things already sent, and a watermark of time would
lose it for ever.

Worked example. A|C are cut off from each other, B reaches both. A makes a1..a9 and pushes them to
B. C compares clocks with B: lacks a9 but first sees so now; one round later still a0, nothing
moved: asks B for (a: 0) and gets a1..a9 from B's log.

What bounds it all: `Window` (requests in flight, per peer), `Settings.chunk_size` (bytes of a
request, unless it is one op; larger ops than wire.PART go in parts), and that a peer owns no queue:
it is a cursor into the one log, and falls back from memory to segments when it is slow.
"""
from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from crdtredis.clocks import Actor
from crdtredis.kinds import is_loopback
from crdtredis.replication.wire import PROTOCOL, Refusal, proto
from crdtredis.storage.identity import REPLICA_ID


@dataclass(frozen=True)
class Settings:
    """What replication needs of the configuration. Times in seconds, sizes in bytes."""
    cluster: str = "default"
    token: str = ""
    advertise: str = ""                 # URL at which others reach this replica; "": found out
    discovery: bool = True              # call members that nobody here has named
    allow_plain: bool = False           # the token may cross a network unencrypted
    interval: float = 5.0               # between anti-entropy rounds with one peer
    timeout: float = 30.0               # without progress of a request or its reply
    retry: float = 1.0                  # first pause after a failed attempt
    retry_cap: float = 30.0
    max_retries: int = 3
    skew: float = 60.0                  # allowed difference of wall clocks
    # bytes of ops per request; a loop iteration applies a chunk (about 2 ms), which clients may
    # notice
    chunk_size: int = 512 << 10
    window: int = 4                     # requests in flight per peer
    memory: int = 64 << 20              # recent ops kept in memory
    full_sync_rate: int = 0             # bytes a second that full syncs may send; 0: no limit
    verify_interval: float = 0.0        # between comparisons of the state with peers; 0: none
    inbound: int = 16 << 20             # bytes of ops received and not yet applied, of each peer
    # least time between two looks at what the engine has made, while it makes little,
    linger: float = 0.001
    linger_cap: float = 0.02            # and while it makes much
    linger_rate: float = 2_000_000      # bytes a second up to which it counts as little

    @property
    def silence(self) -> float:
        """After so long without a word a process counts as gone: one that lives compares clocks,
        or tries to, more often."""
        return 3 * self.interval + 2 * self.retry_cap

    @property
    def settle(self) -> float:
        """From the handshake to the first anti-entropy round: long enough for what is on its way to
        arrive."""
        return min(1.0, self.interval)


def exposed(url: str, settings: Settings) -> str:
    """Why the token must not be sent to this peer, "" where it may."""
    parts = urlsplit(url)
    if (not settings.token or settings.allow_plain or parts.scheme == "https"
        or is_loopback(parts.hostname or "")):
        return ""
    return (f"auth_token would cross the network unencrypted to {parts.netloc}: name the peer as "
            f"https://{parts.netloc} (enable_tls there), or, on a "
            "private network, set allow_plain_peers (CONFIG SET allow-plain-peers yes)")


# ---- the handshake -------------------------------------------------------------------------------


def check_hello(hello: proto.Hello, *, cluster: str, replica: str, process: int, now_ms: int,
          skew: float) -> None:
    """Raises Refusal when replication with the sender of this Hello must not be. Its text is read
    on both sides, so it names them."""
    if hello.replica and not REPLICA_ID.fullmatch(hello.replica):
        raise Refusal(proto.MALFORMED, f"no replica can be called {hello.replica[:128]!r}")
    if hello.version != PROTOCOL:
        raise Refusal(proto.WRONG_VERSION,
                                          f"{hello.replica} speaks replication protocol "
                                          f"{hello.version}, {replica} {PROTOCOL}: "
                                          "run versions that share one")
    if not hello.replica or not hello.epoch:
        raise Refusal(proto.MALFORMED, "the handshake names no replica or no epoch")
    if hello.group:
        raise Refusal(proto.WRONG_VERSION,
                      f"{hello.replica} speaks of replication group {hello.group}, {replica} knows "
                      "only group 0")
    if hello.cluster != cluster:
        raise Refusal(proto.WRONG_CLUSTER,
                      f"cluster_name is {hello.cluster!r} at {hello.replica} and {cluster!r} at "
                      f"{replica}")
    if hello.replica == replica and hello.process != process:
        raise Refusal(proto.SAME_REPLICA,
                      f"replica_id {replica!r} is used by two processes: give each replica its own")
    off = (hello.now - now_ms) / 1000
    if abs(off) > skew:
        raise Refusal(proto.CLOCK_SKEW,
                                       f"the wall clock of {hello.replica} is {abs(off):.1f} s "
                                       f"{'ahead of' if off > 0 else 'behind'} that of "
                                       f"{replica}, more than max_clock_skew ({skew:g} s)")


# ms: what is told of our own epochs beyond that is not believed
EPOCH_AHEAD = 86_400_000


def newer_epoch(own: Actor, clock: Mapping[int, int], told: Iterable[Actor],
                theirs: Mapping[int, int], now_ms: int) -> int | None:
    """The epoch that this replica's next one must exceed before it goes on, or None when all is
    well.

    own, clock: this replica's actor and its clock; told, theirs: the actors and the clock a peer
    sent. A peer that knows this replica in a later epoch, or with ops of its own actor that it
    never made, has come to know a later life of it (a restored backup, a resumed snapshot, a lost
    directory): from here on the same dots could be issued twice.

    A restored from yesterday's disk with a clock set back starts in epoch 5; B knows (A, 7). A must
    leave epoch 5 for one above 7.

    An epoch of earlier days, known here or not, is left behind already. One that lies more than
    EPOCH_AHEAD in the future is passed over: no epoch that is taken from here on comes near it, and
    to follow it would be to use up all there are at one peer's word.
    """
    epochs = [a.epoch for a in told if a.replica == own.replica
              and own.epoch < a.epoch <= now_ms + EPOCH_AHEAD]
    if theirs.get(own.id, 0) > clock.get(own.id, 0):
        epochs.append(own.epoch)
    return max(epochs, default=None)


class Renewals:
    """How often this replica may take a new epoch at a peer's word: each is an actor for ever, of
    which a cluster has 65535. One or two mend whatever has happened to a disk; more come from a
    second process with this replica's id, or from a peer that makes them up."""

    PER_MINUTE, PER_DAY = 3, 30

    def __init__(self) -> None:
        self._taken: list[float] = []   # of the last day

    def take(self, now: float) -> bool:
        """At this time (s)? It counts, if so."""
        self._taken = [t for t in self._taken if t > now - 86_400]
        if (len(self._taken) >= self.PER_DAY or sum(t > now - 60 for t in self._taken)
            >= self.PER_MINUTE):
            return False
        self._taken.append(now)
        return True


# ---- pace ----------------------------------------------------------------------------------------


def backoff(attempt: int, first: float, cap: float, chance: random.Random) -> float:
    """Seconds to wait after the attempt-th failure in a row (from 1): doubling up to cap, each
    drawn from its upper half so that replicas that failed together do not come back together."""
    return min(max(first, cap), first * 2 ** min(attempt - 1, 30)) * chance.uniform(0.5, 1.0)


BURST = 4                               # looks that need not wait for each other


class Pace:
    """How long to let the engine work between two looks: `linger` up to `linger_rate`, then in
    proportion, at most `linger_cap` or until a chunk is full. After a rest some looks follow each
    other at once (BURST); only their number over time is bounded.

    What a look costs (drain, a push to every peer, its reply) hardly depends on what it brings. At
    a few thousand small ops a second delay is what matters; at a hundred times as many a look every
    few ms brings a chunk or more, and the cost per op falls towards that of copying its bytes. Only
    own ops count, since only they are pushed: what came from peers must be replied to soon.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.rate = 0.0                 # bytes a second, smoothed over about half a second
        # when to look next, at the earliest; looks before then were ahead of their time
        self.due = 0.0
        self._at = 0.0

    def looked(self, size: int, now: float) -> None:
        """A look at this moment brought `size` bytes."""
        s = self.settings
        passed = max(now - self._at, 1e-6)
        weight = min(1.0, passed / 0.5)
        self.rate += (size / passed - self.rate) * weight
        self._at = now
        # a look that brings more than a chunk costs two pushes
        full = 0.85 * s.chunk_size / max(self.rate, 1.0)
        pause = max(s.linger, min(s.linger * self.rate / s.linger_rate, s.linger_cap, full))
        self.due = max(self.due, now - BURST * pause) + pause


class Window:
    """How many requests may be in flight: halves when the peer is busy, grows by one per window of
    successes, within 1..most."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = float(most)
        self.in_flight = 0

    @property
    def open(self) -> bool:
        return self.in_flight < int(self.size)

    def succeeded(self) -> None:
        self.size = min(float(self.most), self.size + 1 / self.size)

    def refused(self) -> None:
        self.size = max(1.0, self.size / 2)

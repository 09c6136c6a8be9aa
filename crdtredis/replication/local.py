"""Who this process is among the replicas: what it says of itself in handshakes, and what it learns
of itself there."""
from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crdtredis.clocks import Actor, Clock
from crdtredis.replication import plan
from crdtredis.replication.consumers import Give
from crdtredis.replication.runtime import Runtime
from crdtredis.replication.wire import PROTOCOL, SPEAKS, Refusal, entries, proto, to_clock

if TYPE_CHECKING:
    from crdtredis.replication.tail import LogTail

log = logging.getLogger("crdtredis.replication")


@dataclass(frozen=True)
class KernelView:
    """The kernel as of one moment."""
    clock: Clock
    actors: dict[int, Actor]            # that the log declares
    waiting: int = 0                    # ops held back, for their time or for what they depend on
    logged: bool = True                 # all of `clock` is in the log


@dataclass
class LocalReplica:
    """This process among the replicas. Functions for the engine thread: renew(epoch) makes an
    epoch above that one durable, writes under it from then on and returns the new actor; view()
    looks at the kernel; record_clock(actor, clock) tells it what a peer has, so that it can let go
    of what was kept for that one, and returns how many ops wait; give: see consumers.py."""
    actor: Actor
    actors: dict[int, Actor]            # that the log declares
    clock: Clock                        # of the log, at the start
    renew: Callable[[int], Actor]
    view: Callable[[], KernelView]
    record_clock: Callable[[Actor, Clock], int]
    give: Give = lambda mode, rights: (0, 0)
    process: int = field(default_factory=lambda: random.SystemRandom().getrandbits(63) | 1)


class OwnIdentity:
    """twin: what another process that called with our replica id was told, and when (monotonic)."""

    def __init__(self, local: LocalReplica, call: Callable[[Callable[[], Any]], Awaitable[Any]],
                 tail: LogTail, runtime: Runtime) -> None:
        """call: runs a function in the engine thread."""
        self._local, self._call, self._tail, self._runtime = local, call, tail, runtime
        self.twin = ("", 0.0)
        self.url: Callable[[], str] = lambda: ""                # where others can call us
        self._renewing = asyncio.Lock()
        self._renewals = plan.Renewals()

    @property
    def replica(self) -> str:
        return self._local.actor.replica

    @property
    def epoch(self) -> int:
        return self._local.actor.epoch

    @property
    def process(self) -> int:
        return self._local.process

    async def verify(self, hello: proto.Hello, declared: Iterable[Actor]) -> None:
        """What a peer's Hello tells about ourselves: maybe that we must take a newer epoch before
        going on."""
        async with self._renewing:
            above = plan.newer_epoch(self._local.actor, self._tail.head, declared,
                                     to_clock(hello.clock),
                                     int(time.time() * 1000))
            if above is not None:
                if not self._renewals.take(time.monotonic()):
                    raise Refusal(proto.SAME_REPLICA,
                                  f"{hello.replica} knows replica {self.replica} in a later life, "
                                  "which has happened too often of late: does another process use "
                                  "its id?")
                old = self._local.actor
                try:
                    new = await self._call(lambda: self._local.renew(above))
                except OSError as e:
                    # a full disk: nothing of ours was said to anybody
                    raise Refusal(proto.BUSY,
                                  f"{self.replica} cannot store a new epoch: {e.strerror}") from e
                self._local.actor = new
                self._tail.own_actors.add(new.id)
                log.warning("%s knows replica %s in a later life than this one (epoch %d): going "
                            "on as epoch %d",
                            hello.replica, self.replica, old.epoch, new.epoch)

    def hello(self, session: int = 0) -> tuple[proto.Hello, bytes]:
        own = self._local.actor
        hello = proto.Hello(
            version=PROTOCOL, cluster=self._runtime.settings.cluster, replica=own.replica,
            epoch=own.epoch, process=self.process, now=int(time.time() * 1000),
            clock=entries(self._tail.head), session=session, speaks=SPEAKS,
            url=self.url())
        return hello, self._tail.declarations_beyond(())

    def check_hello(self, hello: proto.Hello) -> None:
        try:
            settings = self._runtime.settings
            plan.check_hello(hello, cluster=settings.cluster, replica=self.replica,
                             process=self.process, now_ms=int(time.time() * 1000),
                             skew=settings.skew)
        except Refusal as e:
            if e.code == proto.SAME_REPLICA:
                self.twin = e.text, time.monotonic()
            raise

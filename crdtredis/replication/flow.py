"""How bodies move over a link: bounded in bytes, and given up when nothing moves, not when it takes
long.

- *ProgressLimit* is a time limit on progress. Each STEP bytes that move, in either direction, renew
  it, so a gigabyte over a slow line is no fault, and a line that stands still, or a peer that
  trickles, is one. What was written may still stand in buffers on the way, the systems' or a
  proxy's, where nobody sees it move, so the limit grows with it.
- *Budget* bounds the bytes of one sender that are held here and not yet applied. Each peer has its
  own (Traffic): one that uploads slowly, or is faster than the engine, keeps only itself waiting,
  in its own connections.
- *PartialOp* puts together one large op. It outlives connections and sessions, so that the op goes
  on where it stopped.

A body's bound is checked before it is read where its length is declared, and while it is read in
any case.
"""
from __future__ import annotations

import asyncio
import time
from collections import deque
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from crdtredis.replication.oplog import LargeOp
from crdtredis.replication.wire import CONTENT_TYPE, OP_MOST, Refusal, proto

if TYPE_CHECKING:
    from crdtredis.replication.stream import FrameLink

STEP = 64 << 10                         # bytes
# bytes that a line which is no fault brings over within one time limit
SLOW = 512 << 10
REPLIES = 4                             # with ops, under way to one peer


def progress_limit(seconds: float, unreplied: int) -> float:
    """How long to wait with so many bytes perhaps still on the way."""
    return seconds * (1 + unreplied / SLOW)


class ProgressLimit:
    """async with ProgressLimit(seconds) as p: ... p.moved(n) whenever bytes have come, p.wrote(n)
    when some were written. TimeoutError when it is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._limit, self._moved, self._wrote = seconds, asyncio.timeout(
                seconds), 0, 0
        self._at = time.monotonic()                             # when bytes moved last

    async def __aenter__(self) -> ProgressLimit:
        await self._limit.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError as e:
            raise TimeoutError(f"nothing moved for {self._seconds:g} s") from e

    def moved(self, n: int) -> None:
        self._moved += n
        self._at = time.monotonic()
        if self._moved >= STEP:
            self.alive()

    def alive(self) -> None:
        """What has moved is progress, however little it is."""
        self._moved = 0
        self._limit.reschedule(asyncio.get_running_loop().time() +
                               progress_limit(self._seconds, self._wrote))

    def wrote(self, n: int) -> None:
        self._wrote += n
        self.moved(n)

    def stands(self, seconds: float) -> bool:
        """Has nothing moved for so long, and what was written had time to arrive? From any
        thread."""
        return time.monotonic() - self._at > progress_limit(seconds, self._wrote)


class Budget:
    """Bytes that may be held at a time; one request larger than all of it passes alone. First come,
    first served."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def _fits(self, n: int) -> bool:
        return self.used == 0 or self.used + n <= self.most

    async def acquire(self, n: int) -> None:
        if not self._waiting and self._fits(n):
            self.used += n
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((n, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # it was given and nobody is there to take it
                self.release(n)
            elif (n, turn) in self._waiting:
                self._waiting.remove((n, turn))
                self._serve()
            raise

    def release(self, n: int) -> None:
        self.used -= n
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            n, turn = self._waiting.popleft()
            if not turn.cancelled():                            # else nobody waits any more
                self.used += n
                turn.set_result(None)


async def read(content: aiohttp.StreamReader, declared: int | None, most: int,
               patience: ProgressLimit) -> bytes:
    """A whole body. Refusal(TOO_LARGE) where it is, or claims to be, of more than `most` bytes."""
    parts, size = [], declared or 0
    if size <= most:
        size = 0
        while data := await content.readany():
            size += len(data)
            if size > most:
                break
            parts.append(data)
            patience.moved(len(data))
    if size > most:
        raise Refusal(proto.TOO_LARGE,
                      f"a body of {size} bytes or more, where at most {most} were expected")
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Body(aiohttp.Payload):
    """A head and the ops behind it, written one after the other in steps: putting them together, as
    aiohttp would with the HTTP headers once more, costs as much as sending them."""

    def __init__(self, *parts: bytes | memoryview, patience: ProgressLimit) -> None:
        super().__init__(parts, content_type=CONTENT_TYPE)
        self._size = sum(map(len, parts))
        self._patience = patience

    async def write(self, writer: AbstractStreamWriter) -> None:
        for part in self._value:
            view = memoryview(part)
            for at in range(0, len(view), STEP):
                step = view[at:at + STEP]
                await writer.write(step)
                self._patience.wrote(len(step))

    async def write_with_length(self, writer: AbstractStreamWriter,
                                content_length: int | None) -> None:
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return b"".join(self._value).decode(encoding, errors)


class PartialOp:
    """One op on its way in. Memory grows with what has come, never with what was announced."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._what = (0, 0, 0)                                  # actor, seq, size
        self._data = BytesIO()

    @property
    def have(self) -> int:
        return self._data.tell()

    def held(self, part: proto.Part) -> int:
        """How many bytes of this op are here, from its beginning."""
        return self.have if self._what == (part.actor, part.seq, part.size) else 0

    def next(self) -> proto.Part | None:
        """The next part wanted of the op that has begun."""
        actor, seq, size = self._what
        return proto.Part(actor=actor, seq=seq, size=size, at=self.have) if size else None

    def add(self, part: proto.Part, data: bytes) -> bytes | None:
        """The whole Batch once it is all here, and again until clear(). Bytes that do not continue
        what is here are ignored, but those for place 0 begin anew. Refusal: TOO_LARGE,
        MALFORMED."""
        if part.size > OP_MOST:
            raise Refusal(proto.TOO_LARGE, f"an op of {part.size} bytes is more than {OP_MOST}")
        if not 0 < part.at + len(data) <= part.size:
            raise Refusal(proto.MALFORMED, "a part of an op that reaches beyond its end")
        if part.at == 0:
            self.clear()
            self._what = (part.actor, part.seq, part.size)
        if self._what == (part.actor, part.seq, part.size):
            if part.at == self.have:
                self._data.write(data)
            if self.have == part.size:
                return self._data.getvalue()                    # the bytes themselves, no copy
        return None


class Traffic:
    """What is under way between this replica and one peer, on the side that replies."""

    def __init__(self, inbound: int) -> None:
        self.inbound = Budget(inbound)
        self.replies = asyncio.Semaphore(REPLIES)
        self.parts = PartialOp()
        self.lent: LargeOp | None = None                        # an op that it fetches in parts
        self.stream: FrameLink | None = None                    # on which it pushes
        self._end: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Let go of everything."""
        self.parts.clear()
        self.lend(None, 0.0)
        if self.stream:
            self.stream.close()

    def lend(self, large: LargeOp | None, seconds: float) -> None:
        """Keep this op at hand for so long, or until another."""
        if self._end:
            self._end.cancel()
        self.lent = large
        self._end = (asyncio.get_running_loop().call_later(seconds, self.lend, None, 0.0) if large
                     else None)

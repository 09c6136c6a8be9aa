"""What a full sync needs of the kernel, the log and the loop: the giver's walk, and the receiver's
join.

Everything here is for the engine's thread, between two iterations, and takes a slice of bounded
time: a piece of the state, some thousand elements of a digest or of a join. The rest (what to ask
of whom, files, sockets) is replication's and runs elsewhere.

**Giving** (`begin` to `Giving.release`): the clock and the log's position of one moment, the bucket
digests as of then, the state in pieces, each read at its own moment, and the log from that position
on, which stays pinned.

**Joining** (`join`): a stage that lies on disk, checked, comes to be part of the state.

    1  no checkpoint is under way, and none begins
    2  from here on writes and peers' ops wait (Loop.joining), and nothing expires
    3  what the comparison of digests presumed still holds: no op that the giver's clock covers has
       been applied since
    4  a new segment names the stage; it is durable before anything of the state is joined. A crash
       from here on loses nothing: a start joins the stage when it reaches that segment
    5  the state, then the tail, in slices; reads go on
    6  writes go on, and a checkpoint is begun, to make the stage superfluous

What fails before 4 leaves everything as it was. After it there is no way back in memory: should 5
fail, the process ends, and the next start joins from the beginning.
"""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from crdtredis._core import BucketDigests, KeyDigests, PatchHold, Replica, StateWriter
from crdtredis.clocks import Clock
from crdtredis.storage.checkpoint import Checkpoints
from crdtredis.storage.segments import Pin, SegmentLog
from crdtredis.storage.stage import Contents, Stage, join_steps, verify

SLICE = 0.001                           # s of the join in an iteration

log = logging.getLogger("crdtredis.storage")


class Giving:
    """One full sync, on the giver's side. clock: at its beginning; position: of the log then."""

    def __init__(self, replica: Replica, segments: SegmentLog, digests: bool,
                 tombstones: bool = True) -> None:
        """digests: they are wanted; tombstones count in them."""
        self._replica, self._log = replica, segments
        self._failures = segments.status().failures
        self.clock: Clock = replica.clock_ids()
        self.position = segments.writer.position()
        self._digests = BucketDigests(replica, tombstones) if digests else None
        self._hold: PatchHold | None = PatchHold(replica)
        self._begin: bytes = (self._digests or StateWriter(replica)).cursor()
        self._writer: StateWriter | None = None
        self._behind = b""              # the cursor of the record that the writer gave last
        self.pin: Pin = segments.pin(self.position, yields=True)

    def step_digests(self) -> tuple[bytes, bytes] | None:
        """A slice of the digests; (digests, unsure) when they are done."""
        if self._digests.step():
            return None
        found, self._digests = self._digests.result(), None
        return found

    def next(self, buckets: bytes | None, cursor: bytes) -> tuple[bytes, bytes]:
        """(the next record of these buckets behind a cursor, b"" being the beginning, and the
        cursor behind that record); (b"", ...) at the end."""
        if self._writer is None or cursor != self._behind:
            self._writer = StateWriter(self._replica, buckets, cursor or self._begin)
        found = self._writer.next()
        self._behind = self._writer.cursor()
        return found, self._behind

    def end(self) -> tuple[int, int]:
        """Where the log ends, when the walk has: what it gave holds ops up to there."""
        self._writer = None
        return self._log.writer.position()

    def is_sound(self) -> bool:
        """Has the log been whole all the time?"""
        status = self._log.status()
        return status.failure is None and status.failures == self._failures

    def release(self) -> None:
        """It is over. From any thread."""
        self._digests = self._writer = self._hold = None
        self.pin.release()


class Checking:
    """Looks at all of a stage, in slices."""

    def __init__(self, steps: Generator[int, None, Contents]) -> None:
        self._steps = steps
        self.contents: Contents | None = None   # when it is over

    def step(self) -> bool:
        """True while more is left. FormatError, OSError."""
        until = time.monotonic() + SLICE
        try:
            while time.monotonic() < until:
                next(self._steps)
            return True
        except StopIteration as e:
            self.contents = e.value
            return False


class StateExchange:
    """folder, log: of the replica."""

    def __init__(self, folder: Path, replica: Replica, segments: SegmentLog,
                 checkpoints: Checkpoints, loop: Any, fail: Callable[[str], None]) -> None:
        """fail: the process cannot go on, and why."""
        self.folder, self.log = folder, segments
        self._replica, self._checkpoints, self._loop = replica, checkpoints, loop
        self._fail = fail

    def clock(self) -> Clock:
        return self._replica.clock_ids()

    def keys(self) -> int:
        return sum(self._replica.shared_keys(db) for db in range(16))

    def digests(self, tombstones: bool = True) -> BucketDigests:
        return BucketDigests(self._replica, tombstones)

    def key_digests(self, buckets: bytes) -> tuple[Clock, KeyDigests]:
        """With the clock as of which they are."""
        return self.clock(), KeyDigests(self._replica, buckets)

    def begin(self, digests: bool, tombstones: bool = True) -> Giving:
        """OSError while the log cannot be written; RuntimeError for other reasons why not now."""
        status = self.log.status()
        if status.failure is not None or not self.log.writer.is_open:
            raise OSError(f"the log has failed: {status.failure}")
        return Giving(self._replica, self.log, digests, tombstones)

    def next_stage(self) -> int:
        """A number for a stage: no other of this replica's had it that was joined, for each join
        begins a segment."""
        return self.log.writer.position()[0]

    def check(self, stage: Stage) -> Checking:
        return Checking(verify(stage, self._replica))

    # ---- joining ---------------------------------------------------------------------------------

    def hold(self) -> bool:
        """From now on no checkpoint is begun. True once none is under way, so that join() may be
        called."""
        self._checkpoints.hold()
        return not self._checkpoints.in_progress

    def let_go_soon(self) -> None:
        """Where nothing is to be joined after all. From any thread."""
        self._loop.call_soon(self._checkpoints.let_go)

    def join(self, stage: Stage, contents: Contents, before: Clock | None,
             done: Callable[[str | None, float], None]) -> None:
        """Join it, and let checkpoints go on; done(why it was not joined or None, seconds for which
        writes waited) in the end.

        before: this replica's clock when its digests were begun; None where all buckets are
        joined."""
        steps = self._steps(stage, contents, before)
        begun = time.monotonic()

        def work() -> bool:
            if not self._loop.joining:
                # The rest comes when what this iteration has made is in the log.
                self._loop.joining = True
                return True
            error = None
            until = time.monotonic() + SLICE
            try:
                for _ in steps:
                    if time.monotonic() >= until:
                        return True
            except NotJoined as e:
                error = str(e)
            except Exception as e:
                log.critical("a checked state could not be joined", exc_info=e)
                self._fail(f"joining {stage.path.name} failed ({e!r}): the next start tries again")
                return False
            self._loop.joining = False
            self._checkpoints.let_go()
            if error is None:
                self._checkpoints.begin()
            done(error, time.monotonic() - begun)
            return False

        self._loop.add_work(work)

    def _steps(self, stage: Stage, contents: Contents, before: Clock | None) -> Iterator[int]:
        clock = self._replica.clock_ids()
        if before is not None:
            for actor, seq in contents.start.items():
                if min(clock.get(actor, 0), seq) != min(before.get(actor, 0), seq):
                    raise NotJoined("operations that the giver's state covers came by another way")
        if not self._replica.takes(contents.clock):
            raise NotJoined("the giver holds operations of processes that have ended which the "
                            "cluster has agreed not to take any more")
        try:
            self.log.begin_joined(stage.number, contents.actors, contents.clock)
        except OSError as e:
            raise NotJoined(str(e)) from None
        # From here on there is no way back, whatever it is that fails.
        yield from join_steps(stage, contents, self._replica)


class NotJoined(Exception):
    """It was given up before anything had changed."""

"""Full syncs in the simulated cluster: a node is given another's state while both work on.

What is real: the digests of buckets, the stream and its cursors, the look at all of it, the join in
steps. What is simulated is the way between the two, and the stage: messages in memory that a crash
of the receiver loses, and that a log which names them keeps (Joined).

    digests   the giver notes its clock and the place of its log, and sums up its buckets
    compare   the receiver knows that clock, and lets no op of it in any more; it sums up its own
    stream    pieces, of which the connection may break anywhere, and goes on behind the last
    stage     the end, and what the giver logged meanwhile, all of it on its disk
    join      in steps, when the receiver gives no stream itself; then the log names it
"""
from __future__ import annotations

from crdtredis._core import (BucketDigests, PatchHold, StateCheck, StateJoin, StateWriter,
                             batch_ranges, bucket_map)
from crdtredis.clocks import observed
from crdtredis.errors import DamagedState

AHEAD = "stamps that are further ahead"


class Joined:
    """In a log the place at which a state was joined."""
    messages: list[bytes]
    tail: list[bytes]
    buckets: bytes | None

    def join(self, replica) -> None:
        """At the start."""
        check(replica, self.messages, self.tail, self.buckets)
        joining = StateJoin(replica, self.buckets)
        for message in self.messages:
            more = joining.take(message)
            while more:
                more = joining.step()
        while joining.step():
            pass
        for batch in self.tail:
            joining.apply(batch)
        joining.finish()


def check(replica, messages, tail, buckets) -> None:
    state = StateCheck(replica, buckets)
    for message in messages:
        state.take(message)
    for batch in tail:
        state.tail(batch)
    assert state.whole, "the tail is behind the state"


class Sync:
    """Of one receiver; `Node.sync`. A step is a turn of the loop of either."""

    def __init__(self, node, giver):
        self.node, self.giver, self.process = node, giver, giver.replica
        self.dice = node.world.sync_dice
        self.hold: PatchHold | None = PatchHold(giver.replica)
        self.digests = BucketDigests(giver.replica)
        self.begin = len(giver.disk.records)
        self.start = giver.replica.clock_ids()
        self.cursor = self.digests.cursor()
        self.mine: BucketDigests | None = None
        self.compared = False
        self.buckets: bytes | None = None
        self.writer: StateWriter | None = None
        self.messages: list[bytes] = []
        self.tail: list[bytes] | None = None
        self.joining: StateJoin | None = None
        self.left: list[bytes] = []

    @property
    def gives(self) -> bool:
        """Is the giver still at it?"""
        return self.tail is None

    @classmethod
    def step(cls, node) -> None:
        """Begins one, or goes on with it."""
        if node.sync is None:
            giver = node.world.sync_dice.choice([n for n in node.world.nodes if n is not node])
            if node.connected(giver) and not giver.joining:
                node.sync = cls(node, giver)
            return
        for _ in range(node.world.sync_dice.choice([1, 1, 3, 20])):
            if node.sync is not None:
                node.sync.turn()

    @classmethod
    def whole(cls, node, giver) -> None:
        node.sync = cls(node, giver)
        cls.end(node)

    @classmethod
    def end(cls, node) -> None:
        """Whatever is under way at a node."""
        turns = 0
        while node.sync is not None:
            turns += 1
            if turns > 100_000 or node.sync.waits():
                node.sync.give_up()
            else:
                node.sync.turn()

    def give_up(self) -> None:
        assert self.joining is None
        self.node.replica.bar()
        self.node.sync = None
        self.node.end_iteration()

    def waits(self) -> bool:
        """Does this node give a stream itself?"""
        return self.joining is None and self.tail is not None and any(
            n.sync is not None and n.sync.giver is self.node and n.sync.gives
            and n.sync.process is self.node.replica for n in self.node.world.nodes)

    def turn(self) -> None:
        dice, node, giver = self.dice, self.node, self.giver
        node.replica.now = node.now()
        if self.joining is not None:
            return self.join()
        if self.tail is None:
            if giver.replica is not self.process:     # it has crashed
                return self.give_up()
            if giver.joining or not node.connected(giver):
                return
            giver.replica.now = giver.now()
        if self.mine is None:
            if not self.digests.step(dice.choice([1, 20, 1000])):
                for _, replica, epoch, _ in giver.replica.actors():
                    node.replica.declare(replica, epoch)
                node.replica.bar(self.start)
                node.end_iteration()
                self.mine = BucketDigests(node.replica)
        elif not self.compared:
            if not self.mine.step(dice.choice([1, 20, 1000])):
                self.compared = True
                if dice.random() < 0.8:
                    self.buckets = bucket_map(self.digests.result(), self.mine.result())
        elif self.tail is None:
            if self.writer is None or dice.random() < 0.1:
                self.writer = StateWriter(giver.replica, self.buckets, self.cursor)
            if record := self.writer.next(dice.choice([1, 1, 200, 64 << 10])):
                self.messages.append(record[8:])
                self.cursor = self.writer.cursor()
            else:
                giver.disk.synced = len(giver.disk.records)
                self.tail = giver.disk.batches(self.begin)
                self.digests = self.writer = self.hold = None
        elif not self.waits():
            self.begin_join()

    def begin_join(self) -> None:
        node, clock = self.node, dict(self.start)
        for batch in self.tail:
            clock |= {a: max(last, clock.get(a, 0)) for a, _, last in batch_ranges(batch)}
        if not node.replica.takes(clock):
            return self.give_up()
        try:
            check(node.replica, self.messages, self.tail, self.buckets)
        except DamagedState as e:
            assert AHEAD in str(e), f"a sound stream is refused: {e}"
            return self.give_up()
        node.walk = None
        node.world.say(f"{node.name} joins the state of {self.giver.name}")
        self.joining = StateJoin(node.replica, self.buckets)
        self.left = list(self.messages)
        self.more = False

    def join(self) -> None:
        most = self.dice.choice([1, 1, 5, 1000])
        if self.more:
            self.more = self.joining.step(most)
        elif self.left:
            self.more = self.joining.take(self.left.pop(0), most)
        elif not self.joining.step(most):
            self.finish()

    def finish(self) -> None:
        node, world = self.node, self.node.world
        for batch in self.tail:
            self.joining.apply(batch)
        self.joining.finish()
        joined = Joined()
        joined.messages, joined.tail, joined.buckets = self.messages, self.tail, self.buckets
        node.disk.records.append(joined)
        node.disk.synced = len(node.disk.records)
        node.testify()
        node.sync = None
        world.joins += 1
        node.replica.check()
        assert observed(node.replica.clock_ids(), self.start)
        node.end_iteration()
        world.say(f"{node.name} has joined it: {node.replica.clock()}")

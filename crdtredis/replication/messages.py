"""PUBLISH between replicas: who listens to what, and messages on their way. Runs in the sync
thread's loop.

    A's engine --published--> Messages --frames--> C's PushReceiver --heard--> C's engine
    A's engine <--interest--- Messages <--frames-- C's PushReceiver <--listens-- C's engine

On each stream of pushes (stream.py) the side that takes them tells the other what its clients
listen to, all of it first and then what changes; so a message goes to those alone who hear it, as a
frame between the pushes. A message is sent at most once: what a stream that broke, or one that
takes in too slowly, would have brought is dropped, and counted where that is seen. It names the
newest op of its replica, and the engine over there gives it out when that is applied, whichever way
the op came (engine/exchange.pxi).

A replica of an older build says nothing of messages, when it opens a stream or when it takes one,
and is never sent such a frame.

Bounds: what a peer listens to is at most IDS_MOST channels and PATTERNS_MOST patterns; beyond that
it is sent every message to a channel. What waits in a connection is at most BACKLOG. The engine
is told of it a piece at a time; what waits for that is the difference to what it knows, and what
streams that ended had named, of which no more is looked at either.
"""
from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from crdtredis._engine import HEARD, INTEREST, LISTENS, select_messages
from crdtredis.replication.wire import Refusal, proto

if TYPE_CHECKING:
    from crdtredis.replication.peer import Peer
    from crdtredis.replication.stream import FrameLink

HEADER = "X-Messages"                   # of a stream's request: its sender knows such frames
IDS_MOST = 1 << 20
PATTERNS_MOST = 1000
PATTERN_BYTES = 1 << 20
BACKLOG = 32 << 20                      # bytes
FRAME = 1 << 20                         # bytes of changes, about
PIECE = 64 << 10                        # bytes of changes that the engine is told at once, about
ENDED = 5000                            # changes of ended streams that are looked at for a piece
HEAD = 16                               # bytes before messages: actor and seq

PATTERN = 1                             # kind of topic: see engine/abroad.pxi
ALL = b"*"

Change = tuple[int, int, bytes]         # begun, kind, and 8 bytes of id or a pattern


def changes(data: bytes) -> Iterable[Change]:
    """Raises Refusal where they do not decode."""
    at, end = 0, len(data)
    while at < end:
        head = data[at:at + 2]
        size = int.from_bytes(data[at + 2:at + 6], "little") if head[1:] == b"\1" else 8
        begin = at + (6 if head[1:] == b"\1" else 2)
        at = begin + size
        if at > end or head[0] > 1 or head[1] > 2:
            raise Refusal(proto.MALFORMED, "what a peer listens to does not decode")
        yield head[0], head[1], data[begin:at]


def encoded(change: Change) -> bytes:
    begun, kind, what = change
    size = len(what).to_bytes(4, "little") if kind == PATTERN else b""
    return bytes((begun, kind)) + size + what


class Hears:
    """What the other end of a stream listens to."""

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.patterns: list[bytes] = []
        self._kinds: dict[int, int] = {}
        self._bytes = 0                                         # of patterns
        self._all = False

    def __bool__(self) -> bool:
        return bool(self.ids or self.patterns)

    def take(self, data: bytes) -> bytes:
        """Returns the changes that these were, for the engine. Raises Refusal, with none of them
        taken, where they do not decode."""
        told = list(changes(data))
        return b"".join(map(encoded, [c for change in told for c in self._take(change)]))

    def _take(self, change: Change) -> list[Change]:
        begun, kind, what = change
        if kind != PATTERN:
            id = int.from_bytes(what, "little")
            if begun == (id in self.ids):
                return []
            if not begun:
                self.ids.discard(id)
            elif len(self.ids) < IDS_MOST:
                self.ids.add(id)
            else:
                return self._hear_all()
            return [change]
        if begun == (what in self.patterns) or (self._all and what == ALL):
            return []
        if not begun:
            self.patterns.remove(what)
            self._bytes -= len(what)
        elif len(self.patterns) < PATTERNS_MOST and self._bytes + len(what) <= PATTERN_BYTES:
            self.patterns.append(what)
            self._bytes += len(what)
        else:
            return self._hear_all()
        return [change]

    def _hear_all(self) -> list[Change]:
        """From now on, as long as the stream lasts."""
        if self._all:
            return []
        self._all = True
        if ALL in self.patterns:
            return []
        self.patterns.append(ALL)
        return [(1, PATTERN, ALL)]

    def end(self) -> Iterator[Change]:
        """The changes that leave nothing: it listens to nothing any more, and the work is done as
        they are taken."""
        ids, patterns = self.ids, self.patterns
        self.ids, self.patterns = set(), []

        def gone() -> Iterator[Change]:
            while ids:
                yield 0, 0, ids.pop().to_bytes(8, "little")
            while patterns:
                yield 0, PATTERN, patterns.pop()
        return gone()


class Messages:
    def __init__(self, peers: Callable[[], Iterable[Peer]],
                 send: Callable[[int, bytes, Callable[[], None]], None]) -> None:
        """send(kind, data, done): hands the engine HEARD or INTEREST; done() when it has it."""
        self._peers, self._send = peers, send
        self.dropped = 0
        # what is listened to here: how many channels have this id; patterns
        self._ids: dict[tuple[int, bytes], int] = {}
        self._patterns: set[bytes] = set()
        self._told: dict[FrameLink, int] = {}                   # who is told, with which frame
        # what is listened to abroad: what the engine is not told yet, since it has not taken the
        # last; how many have begun more than have ceased
        self._telling = False
        self._untold: OrderedDict[tuple[int, bytes], int] = OrderedDict()
        self._ended: deque[Iterator[Change]] = deque()          # what streams leave, the rest of it

    def drained(self, kind: int, data: bytes) -> None:
        """The engine has said something."""
        if kind == LISTENS:
            self._listen(data)
        else:
            self._publish(data)

    # ---- what is listened to here ----------------------------------------------------------------

    def _listen(self, data: bytes) -> None:
        before = self._all() if data[:1] == b"\1" else []
        if before:
            self._ids, self._patterns = {}, set()
        fresh = [c for c in changes(data[1:]) if self._note(c)]
        if before:
            kept = {c[1:] for c in fresh}
            known = {c[1:] for c in before}
            fresh = ([(0, *c[1:]) for c in before if c[1:] not in kept]
                     + [c for c in fresh if c[1:] not in known])
        for link, kind in list(self._told.items()):
            self._tell(link, kind, fresh)

    def _note(self, change: Change) -> bool:
        """Is it one to others?"""
        begun, kind, what = change
        if kind == PATTERN:
            (self._patterns.add if begun else self._patterns.discard)(what)
            return True
        n = self._ids.get((kind, what), 0) + (1 if begun else -1)
        if n > 0:
            self._ids[kind, what] = n
        else:
            self._ids.pop((kind, what), None)
        return n == begun

    def _all(self) -> list[Change]:
        return ([(1, kind, what) for kind, what in self._ids]
                + [(1, PATTERN, p) for p in self._patterns])

    def _tell(self, link: FrameLink, kind: int, what: list[Change]) -> None:
        part: list[bytes] = []
        size = 0
        for data in map(encoded, what):
            part.append(data)
            size += len(data)
            if size > FRAME:
                link.send(kind, b"".join(part))
                part, size = [], 0
        if part:
            link.send(kind, b"".join(part))
        if link.backlog > BACKLOG:
            link.close(ConnectionError("what is listened to here is not taken in"))

    def join(self, link: FrameLink, kind: int) -> None:
        """Tell this stream's other end, by frames of this kind, until it leaves."""
        self._told[link] = kind
        self._tell(link, kind, self._all())

    def leave(self, link: FrameLink) -> None:
        self._told.pop(link, None)

    # ---- what is listened to abroad --------------------------------------------------------------

    def listens(self, hears: Hears, data: bytes) -> None:
        """The other end of a stream has begun or ceased to listen. Raises Refusal."""
        self._count(changes(hears.take(data)))
        # two for each that comes: a peer that comes and goes leaves no more and more behind
        self._look_at_ended(2 * len(data) // 6)
        self._go_on()

    def gone(self, hears: Hears) -> None:
        """The stream has ended. This takes no time, however much it was."""
        if hears:
            self._ended.append(hears.end())
        self._go_on()

    def _count(self, fresh: Iterable[Change]) -> int:
        """Returns how many there were."""
        i = 0
        for i, (begun, kind, what) in enumerate(fresh, 1):
            n = self._untold.pop((kind, what), 0) + (1 if begun else -1)
            if n:
                self._untold[kind, what] = n
        return i

    def _look_at_ended(self, most: int) -> None:
        while most > 0 and self._ended:
            n = self._count(islice(self._ended[0], most))
            if n < most:
                self._ended.popleft()
            most -= n

    def _go_on(self) -> None:
        if not self._telling:
            self._tell_engine()

    def _tell_engine(self) -> None:
        """A piece at a time: what begins and ceases while the engine has no time takes no room."""
        self._look_at_ended(ENDED)
        if not self._untold:                                    # they were what was not told yet
            self._look_at_ended(ENDED)
        part: list[bytes] = []
        size = 0
        while self._untold and size < PIECE:
            (kind, what), n = self._untold.popitem(last=False)
            part.append(encoded((n > 0, kind, what)) * abs(n))
            size += len(part[-1])
        self._telling = bool(part)
        if part:
            self._send(INTEREST, b"".join(part), self._tell_engine)

    # ---- messages --------------------------------------------------------------------------------

    def _publish(self, data: bytes) -> None:
        head, batch = data[:HEAD], data[HEAD:]
        for peer in self._peers():
            sender = peer.sender
            if sender is None or not sender.hears or peer.is_paused:
                continue
            part, n = select_messages(batch, sender.hears.ids, sender.hears.patterns)
            if n and not sender.messages(head, part):
                self.dropped += n

    def heard(self, data: bytes, done: Callable[[], None]) -> None:
        """Messages of a peer, for who listens here."""
        self._send(HEARD, data, done)

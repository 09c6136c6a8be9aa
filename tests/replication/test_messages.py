"""Who listens to what, as peers tell each other, and messages on streams: with replicas that know
of them, with older ones, and with hostile ones."""
import asyncio
import random
import struct

import pytest

from crdtredis._engine import HEARD, INTEREST, LISTENS, PUBLISHED, select_messages
from crdtredis.replication.messages import (ALL, BACKLOG, HEADER, IDS_MOST, PATTERN_BYTES,
                                            PATTERNS_MOST, Hears, Messages, changes, encoded)
from crdtredis.replication.stream import (LISTENING, MESSAGES, NO_HEAD, PUSH, REPLY, UPGRADE,
                                          PushSender)
from crdtredis.replication.wire import Refusal
from tests.replication.network import Network, until
from tests.replication.test_peers import all_up, run


def channel(id: int, begun: int = 1, kind: int = 0) -> bytes:
    return encoded((begun, kind, id.to_bytes(8, "little")))


def pattern(text: bytes, begun: int = 1) -> bytes:
    return encoded((begun, 1, text))


def message(id: int, name: bytes, text: bytes, kind: int = 0) -> bytes:
    return (id.to_bytes(8, "little") + len(name).to_bytes(4, "little")
            + len(text).to_bytes(4, "little") + bytes([kind]) + name + text)


class Link:
    closed, backlog = False, 0

    def __init__(self):
        self.frames = []

    def send(self, kind, *parts):
        self.frames.append((kind, b"".join(parts)))

    def close(self, why=None):
        self.closed = True

    def told(self) -> set:
        """What its other end takes us to listen to."""
        hears = Hears()
        for kind, body in self.frames:
            assert kind == LISTENING
            hears.take(body)
        return hears.ids | set(hears.patterns)


class Sender:
    def __init__(self, ids=(), patterns=(), full=False):
        self.hears, self.sent, self.full = Hears(), [], full
        self.hears.take(b"".join([*map(channel, ids), *map(pattern, patterns)]))

    def messages(self, head, batch):
        if not self.full:
            self.sent.append((head, batch))
        return not self.full


class Peer:
    def __init__(self, sender, is_paused=False):
        self.sender, self.is_paused = sender, is_paused


def hub(*peers):
    """With an engine that takes all at once."""
    to_engine = []

    def send(kind, data, done):
        to_engine.append((kind, data))
        done()
    return Messages(lambda: peers, send), to_engine


# ---- what is listened to -------------------------------------------------------------------------

def test_changes_that_do_not_decode():
    whole = channel(7) + pattern(b"news.*") + channel(9, 0, 2)
    assert list(changes(whole)) == [(1, 0, (7).to_bytes(8, "little")), (1, 1, b"news.*"),
                                    (0, 2, (9).to_bytes(8, "little"))]
    for data in (whole[:-1], whole[:12], b"\1", b"\2\0" + bytes(8), b"\1\3" + bytes(8),
                 b"\1\1\xff\xff\xff\xff"):
        with pytest.raises(Refusal, match="does not decode"):
            list(changes(data))


def test_only_what_changes_is_handed_on():
    hears = Hears()
    assert hears.take(channel(1) + channel(2) + pattern(b"a*")) == (
        channel(1) + channel(2) + pattern(b"a*"))
    assert hears.take(channel(1) + pattern(b"a*") + channel(3, 0) + pattern(b"b*", 0)) == b""
    assert hears.take(channel(1, 0)) == channel(1, 0)
    assert sorted(hears.end()) == sorted(changes(channel(2, 0) + pattern(b"a*", 0)))
    assert not hears


def test_who_listens_to_too_much_is_sent_everything():
    for beyond in (b"".join(map(channel, range(IDS_MOST + 5))),
                   b"".join(pattern(b"%d*" % i) for i in range(PATTERNS_MOST + 5)),
                   pattern(b"x" * PATTERN_BYTES) + pattern(b"y")):
        hears = Hears()
        handed_on = hears.take(beyond)
        assert handed_on.endswith(pattern(ALL)) and ALL in hears.patterns
        assert len(hears.ids) <= IDS_MOST and len(hears.patterns) <= PATTERNS_MOST + 1
        assert hears.take(pattern(ALL, 0) + pattern(ALL)) == b""
        assert list(hears.end()).count((0, 1, ALL)) == 1


def test_streams_are_told_everything_and_then_what_changes():
    messages, _ = hub()
    messages.drained(LISTENS, b"\0" + channel(1) + channel(2) + pattern(b"a*"))
    early, late = Link(), Link()
    messages.join(early, LISTENING)
    assert early.told() == {1, 2, b"a*"}
    messages.drained(LISTENS, b"\0" + channel(1, 0) + channel(3))
    messages.join(late, LISTENING)
    assert early.told() == late.told() == {2, 3, b"a*"}
    # two channels of one id
    messages.drained(LISTENS, b"\0" + channel(3))
    messages.drained(LISTENS, b"\0" + channel(3, 0))
    assert early.told() == {2, 3, b"a*"}
    # too much has changed: all of it anew
    messages.drained(LISTENS, b"\1" + channel(3) + channel(4) + pattern(b"b*"))
    assert early.told() == late.told() == {3, 4, b"b*"}
    n = len(late.frames)
    messages.leave(late)
    messages.drained(LISTENS, b"\0" + channel(5))
    assert len(late.frames) == n and 5 in early.told()


def test_a_random_history_of_what_is_listened_to():
    rng = random.Random(3)
    messages, _ = hub()
    links, here = [], {}
    for step in range(2000):
        id, begun = rng.randrange(30), rng.random() < 0.5
        if not begun and not here.get(id):
            continue
        here[id] = here.get(id, 0) + (1 if begun else -1)
        messages.drained(LISTENS, b"\0" + channel(id, int(begun)))
        if step % 100 == 0:
            whole = b"".join(channel(i) * n for i, n in here.items())
            messages.drained(LISTENS, b"\1" + whole)
            links.append(Link())
            messages.join(links[-1], LISTENING)
        assert all(link.told() == {i for i, n in here.items() if n} for link in links[-3:])


def test_who_does_not_take_it_in_is_let_go():
    messages, _ = hub()
    link = Link()
    messages.join(link, LISTENING)
    link.backlog = 1 << 30
    messages.drained(LISTENS, b"\0" + channel(1))
    assert link.closed


# ---- messages ------------------------------------------------------------------------------------

def test_each_peer_is_sent_what_it_hears():
    one, two, three, none = Sender([1]), Sender([2], [b"a*"]), Sender(patterns=[b"*"]), Sender()
    paused = Sender(patterns=[b"*"])
    messages, _ = hub(*map(Peer, (one, two, three, none)), Peer(paused, True), Peer(None))
    batch = [message(1, b"ab", b"1"), message(2, b"xy", b"2"), message(3, b"s", b"3", 2)]
    messages.drained(PUBLISHED, b"h" * 16 + b"".join(batch))
    assert one.sent == [(b"h" * 16, batch[0])]
    assert two.sent == [(b"h" * 16, batch[0] + batch[1])]
    assert three.sent == [(b"h" * 16, batch[0] + batch[1])]       # patterns are not for shards
    assert none.sent == paused.sent == [] and messages.dropped == 0
    slow = Sender([1, 2], full=True)
    messages, _ = hub(Peer(slow))
    messages.drained(PUBLISHED, b"h" * 16 + b"".join(batch))
    assert messages.dropped == 2


def test_messages_that_do_not_decode_are_left_out():
    good = message(1, b"a", b"b")
    for bad in (b"\0", good[:-1], message(1, b"a", b"b", 1), b"\xff" * 40):
        assert select_messages(good + bad, {1}, []) == (good, 1)


def test_interest_of_streams_reaches_the_engine():
    messages, to_engine = hub()
    hears = Hears()
    messages.listens(hears, channel(1) + pattern(b"a"))
    messages.listens(hears, channel(1))
    messages.gone(hears)
    messages.heard(b"x", lambda: None)
    assert to_engine == [(INTEREST, channel(1) + pattern(b"a")),
                         (INTEREST, channel(1, 0) + pattern(b"a", 0)), (HEARD, b"x")]


def test_who_says_what_does_not_decode_takes_nothing_from_others():
    messages, to_engine = hub()
    hears, bad = Hears(), Hears()
    messages.listens(hears, channel(1) + pattern(b"a"))
    with pytest.raises(Refusal):
        messages.listens(bad, channel(1) + pattern(b"a") + b"\2\2")
    messages.gone(bad)
    assert to_engine == [(INTEREST, channel(1) + pattern(b"a"))] and hears and not bad


def test_what_begins_and_ceases_while_the_engine_has_no_time_takes_no_room():
    sent = []
    messages = Messages(lambda: [], lambda kind, data, done: sent.append((kind, data, done)))
    a, b = Hears(), Hears()
    messages.listens(a, channel(1))
    for i in range(1000):
        messages.listens(a, b"".join(channel(n) for n in range(2, 100)))
        messages.listens(a, b"".join(channel(n, 0) for n in range(2, 99)))
    for hears in (a, b):
        messages.listens(hears, channel(500) + pattern(b"p" * 1000))
    messages.listens(a, channel(1, 0))
    assert len(sent) == 1
    sent[0][2]()
    (_, first, _), (kind, data, done) = sent
    assert kind == INTEREST and len(data) < 3000
    assert sorted(changes(data)) == sorted(changes(
        channel(99) + 2 * channel(500) + 2 * pattern(b"p" * 1000) + channel(1, 0)))
    done()
    assert len(sent) == 2
    messages.gone(a)
    messages.gone(b)
    assert sorted(changes(sent[2][1])) == sorted(changes(
        channel(99, 0) + channel(500, 0) + pattern(b"p" * 1000, 0)))
    sent[2][2]()
    assert sorted(changes(sent[3][1])) == sorted(changes(channel(500, 0)
                                                         + pattern(b"p" * 1000, 0)))


def test_what_a_stream_with_very_many_channels_leaves_is_looked_at_a_piece_at_a_time():
    sent, looked_at = [], []

    class Counted(Messages):
        def _count(self, fresh):
            looked_at.append(super()._count(fresh))
            return looked_at[-1]

    messages = Counted(lambda: [], lambda kind, data, done: sent.append((data, done)))
    many, few = Hears(), Hears()
    messages.listens(many, b"".join(map(channel, range(100_000))) + pattern(b"a*"))
    messages.listens(few, channel(7))
    for _, done in sent:
        done()                                          # and so on, as long as more is sent
    told = len(sent)
    looked_at.clear()
    messages.gone(many)
    messages.gone(few)
    assert not many and not few and sum(looked_at) <= 10_000
    at = told
    while at < len(sent):
        looked_at.clear()
        sent[at][1]()
        assert sum(looked_at) <= 10_000
        at += 1
    ends = sorted(c for data, _ in sent[told:] for c in changes(data))
    assert ends == sorted([(0, 0, n.to_bytes(8, "little")) for n in [7, *range(100_000)]]
                          + [(0, 1, b"a*")])


def test_a_peer_that_comes_and_goes_leaves_no_more_and_more_behind():
    sent = []
    messages = Messages(lambda: [], lambda kind, data, done: sent.append((data, done)))
    first = Hears()
    messages.listens(first, channel(1 << 40))           # which the engine does not take yet
    for i in range(30):
        hears = Hears()
        for n in range(10):
            messages.listens(hears, b"".join(map(channel, range(n * 1000, n * 1000 + 1000))))
        messages.gone(hears)
    for data, done in sent:
        done()                                          # and so on, as long as more is sent
    heard = {}
    for begun, kind, what in (c for data, _ in sent for c in changes(data)):
        heard[what] = heard.get(what, 0) + (1 if begun else -1)
    assert {n: what for n, what in enumerate(heard.values()) if what} == {0: 1}
    assert sum(len(data) for data, _ in sent) < 3 * 10_000 * 10


def test_the_engine_is_told_a_piece_at_a_time():
    messages, to_engine = hub()
    hears = Hears()
    messages.listens(hears, b"".join(map(channel, range(100_000))))
    assert len(to_engine) == 1_000_000 // (64 << 10) + 1
    assert max(len(data) for _, data in to_engine) <= (64 << 10) + 10
    assert b"".join(data for _, data in to_engine) == b"".join(map(channel, range(100_000)))


# ---- on streams ----------------------------------------------------------------------------------

class Caller:
    """A stream to a node, spoken by hand in the name of another."""

    def __init__(self, node, replica: str, headers: str = ""):
        self.node, self.replica, self.headers = node, replica, headers

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        session = self.node.sessions.by_replica[self.replica].key
        self.writer.write(("GET /replication/stream HTTP/1.1\r\nHost: x\r\n"
                           f"Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n{self.headers}"
                           f"X-Replica: {self.replica}\r\nX-Session: {session:x}\r\n"
                           "\r\n").encode())
        assert b" 101 " in await self.reader.readuntil(b"\r\n\r\n")
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    def send(self, kind: int, body: bytes) -> None:
        self.writer.write(struct.pack("<IB", len(body) + 1, kind) + body)

    async def frame(self) -> tuple[int, bytes] | None:
        """None where the stream has ended."""
        try:
            size, kind = struct.unpack("<IB", await self.reader.readexactly(5))
            return kind, await self.reader.readexactly(size - 1)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


@run
async def test_a_replica_that_does_not_know_of_messages_is_sent_none():
    """It gets replies only. From one that has not said that it knows of them, they are refused."""
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        b.pause(a)
        a.runtime.messages, to_engine = hub()
        a.runtime.messages.drained(LISTENS, b"\0" + channel(1))
        async with Caller(a, "b") as old:
            for id in (2, 3):
                old.send(PUSH, NO_HEAD)
                assert (await old.frame())[0] == REPLY
                a.runtime.messages.drained(LISTENS, b"\0" + channel(id))
            old.send(MESSAGES, b"h" * 16)
            assert await old.frame() is None
        assert to_engine == []


@run
async def test_a_replica_that_knows_is_told_after_its_first_frame():
    async with Network(2, interval=30.0) as (a, b):
        await all_up(a, b)
        b.pause(a)
        a.runtime.messages, to_engine = hub()
        a.runtime.messages.drained(LISTENS, b"\0" + channel(1))
        async with Caller(a, "b", f"{HEADER}: 1\r\n") as new:
            new.send(PUSH, NO_HEAD)
            assert await new.frame() == (LISTENING, channel(1))
            new.send(MESSAGES, b"h" * 16 + b"m")
            await until(lambda: to_engine == [(HEARD, b"h" * 16 + b"m")])
            a.runtime.messages.drained(LISTENS, b"\0" + channel(1, 0))
            frames = [await new.frame(), await new.frame()]
            assert (LISTENING, channel(1, 0)) in frames
        await until(lambda: not a.runtime.messages._told)


@run
async def test_a_replica_speaks_for_itself_alone():
    """Messages that wait for an op keep those of its actor behind them waiting."""
    async with Network(3, interval=30.0) as (a, b, c):
        await all_up(a, b, c)
        for peer in (b, c):
            peer.set("k", "v")
            await until(lambda: peer.replica.actor in a.tail.actors)
            peer.pause(a)
        a.runtime.messages, to_engine = hub()
        end = (2 ** 64 - 1).to_bytes(8, "little")
        own, foreign = (x.replica.actor.to_bytes(8, "little") + end + b"m" for x in (b, c))
        async with Caller(a, "b", f"{HEADER}: 1\r\n") as caller:
            caller.send(MESSAGES, own)
            await until(lambda: to_engine == [(HEARD, own)])
            caller.send(MESSAGES, foreign)
            assert await caller.frame() is None
        assert to_engine == [(HEARD, own)]


def test_a_stream_on_which_a_peer_says_what_is_none_ends():
    """What it was taken to listen to is forgotten with it."""
    messages, to_engine = hub()
    sender = PushSender(FakeTransport(), lambda *_: None, lambda *_: None, lambda n: 1.0, messages)
    sender.link.data_received(struct.pack("<IB", 11, LISTENING) + channel(1))
    assert sender.hears.ids == {1}
    sender.link.data_received(struct.pack("<IB", 3, LISTENING) + b"\7\7")
    assert sender.link.closed
    sender.link.connection_lost(None)
    assert to_engine == [(INTEREST, channel(1)), (INTEREST, channel(1, 0))]
    assert not sender.messages(b"h" * 16, b"m")


class FakeTransport:
    def __init__(self):
        self.written = []

    def get_protocol(self):
        return asyncio.Protocol()

    def set_protocol(self, protocol):
        pass

    def get_write_buffer_size(self):
        return sum(map(len, self.written))

    def write(self, data):
        self.written.append(data)

    def abort(self):
        pass


def test_what_a_stream_does_not_take_in_is_dropped():
    transport = FakeTransport()
    sender = PushSender(transport, lambda *_: None, lambda *_: None, lambda n: 1.0)
    n = 0
    while sender.messages(b"h" * 16, b"x" * (1 << 20)):
        n += 1
    assert BACKLOG >> 20 <= n <= (BACKLOG >> 20) + 1
    transport.written.clear()
    assert sender.messages(b"h" * 16, b"x")

"""Words about consumer groups on streams: what is said, when it is heard, who counts as linked, and
that the engine knows before others do."""
import asyncio
import functools
import random
from types import SimpleNamespace

import pytest

from crdtredis.replication import consumers as module
from crdtredis.replication.consumers import (BYTES_MOST, FRAME, GRACE, HELD, UNHEARD, UNREAD, WORDS,
                                             Consumers, changes)
from crdtredis.replication.delivering import Mode, Right
from crdtredis.replication.waiters import Waiters
from crdtredis.replication.wire import Refusal, decode, encode, proto

GROUP = 0, b"s", b"g"


def run(test):
    @functools.wraps(test)
    def synchronous(**fixtures):
        asyncio.run(asyncio.wait_for(test(**fixtures), 60))
    return synchronous


def told(begun: int, group=GROUP, whole=0) -> bytes:
    db, key, name = group
    return (bytes([whole, begun]) + db.to_bytes(4, "little") + len(key).to_bytes(4, "little")
            + len(name).to_bytes(4, "little") + key + name)


def peer(replica="", url="http://x", state="up", speaks=6, member=""):
    return SimpleNamespace(replica=replica, url=url, state=state, speaks=speaks, member=member)


class Link:
    """Of a stream, as its end here sees it."""

    def __init__(self, to=None):
        self.to, self.closed, self.backlog, self.frames = to, False, 0, []

    def send(self, kind, *parts):
        assert kind == WORDS
        self.frames.append(b"".join(parts))

    def close(self, why=None):
        self.closed = True

    def words(self) -> list:
        out, self.frames = [decode(proto.Consumers, f)[0] for f in self.frames], []
        return out


class One:
    """A replica's Consumers, with an engine that does at once what it is asked, or waits."""

    def __init__(self, name: str):
        self.name, self.time, self.clock = name, 0.0, {}
        self.newest = hash(name) & 0xffff, 0
        self.given: list = []                                   # calls of the engine
        self.rights: dict = {}
        self.ready = asyncio.Event()
        self.ready.set()
        self.registry = SimpleNamespace(
            peers=[], arrivals=Waiters(), cut_off=lambda replica: False,
            members=SimpleNamespace(own=name, to_call=dict, is_removed=lambda r: False))
        self.runtime = SimpleNamespace(settings=SimpleNamespace(interval=1000.0, discovery=True),
                                       stopping=False)
        self.it = Consumers(name, self.registry, self.runtime, lambda: self.clock, self.call,
                            self.give, lambda: self.time)

    async def call(self, function):
        await self.ready.wait()
        return function()

    def give(self, mode, rights):
        self.given.append((mode, rights))
        if len(self.given) > 1 and mode != self.given[-2][0]:
            self.rights.clear()
        self.rights |= dict(rights)
        return self.newest

    @property
    def mode(self):
        return self.given[-1][0] if self.given else None

    def arrive(self, actor, seq):
        """Its log has got this op."""
        self.clock[actor] = seq
        for go_on, _ in self.registry.arrivals.free(actor, [seq]):
            go_on(1)

    def come(self, yes=1, group=GROUP):
        self.it.drained(told(yes, group))


async def settle():
    for _ in range(50):
        await asyncio.sleep(0)


class Pair:
    """Two of them, and the streams both ways."""

    def __init__(self):
        self.a, self.b = One("a"), One("b")
        self.links, self.voices = {}, {}
        for x, y in ((self.a, self.b), (self.b, self.a)):
            x.registry.peers.append(peer(y.name))

    def stream(self, x, y, process=1):
        """One begins from x to y."""
        link = self.links[x.name] = Link(y)
        self.voices[x.name] = y.it.listen(Link(), x.name, process)
        x.it.speak(y.name, link)

    def carry(self, x):
        """What x has said since."""
        link = self.links[x.name]
        frames, link.frames = link.frames, []
        for frame in frames:
            link.to.it.came(self.voices[x.name], frame, lambda actor: None)
        return bool(frames)

    async def settle(self):
        more = True
        while more:
            await settle()
            more = self.carry(self.a) | self.carry(self.b)


async def pair() -> Pair:
    p = Pair()
    p.stream(p.a, p.b)
    p.stream(p.b, p.a)
    await p.settle()
    assert p.a.mode is p.b.mode is Mode.RIGHTS
    return p


@run
async def test_both_give_out_what_was_added_there():
    p = await pair()
    p.a.come()
    await p.settle()
    assert p.a.rights[GROUP] == Right(True, True, settled=True)
    assert p.b.rights[GROUP] == Right(False, False)
    assert p.b.it.readers(GROUP) == ["a"] and p.a.it.waits_for(GROUP) == []
    p.b.come()
    await p.settle()
    assert p.a.rights[GROUP] == Right(True, True, frozenset("b"), True)
    assert p.b.rights[GROUP] == Right(True, False, frozenset("a"), True)
    p.a.come(0)
    p.b.come(0)
    await p.settle()
    assert p.a.rights[GROUP] is p.b.rights[GROUP] is None
    assert not p.carry(p.a) and not p.carry(p.b), "there is no end to what they say"


@run
async def test_a_word_is_heard_behind_the_ops_before_it():
    p = await pair()
    p.a.come()
    await p.settle()
    p.a.newest = 7, 3
    p.a.come(0)
    await settle()
    p.a.newest = 7, 5
    p.a.come(1)
    await p.settle()
    assert p.b.it.readers(GROUP) == ["a"] and len(p.voices["a"].pending) == 2
    p.b.arrive(7, 2)
    assert p.b.it.readers(GROUP) == ["a"]
    p.b.arrive(7, 3)
    assert p.b.it.readers(GROUP) == []
    p.b.arrive(7, 9)
    assert p.b.it.readers(GROUP) == ["a"] and not p.voices["a"].pending
    assert p.voices["a"].bytes == 0


@run
async def test_the_engine_knows_before_others_do():
    """A word says what is given out no more: it must not be on its way before that is so."""
    p = await pair()
    p.a.come()
    await p.settle()
    p.a.ready.clear()
    p.b.come()
    await settle()
    p.carry(p.b)
    await settle()
    assert p.links["a"].frames == [] and p.a.it.readers(GROUP) == ["b"]
    p.a.newest = 7, 1                                           # what was given out until then
    p.a.ready.set()
    await settle()
    (word,) = p.links["a"].words()
    assert (word.actor, word.seq) == (7, 1) and word.heard
    assert p.a.rights[GROUP].but == {"b"}


@run
async def test_who_is_linked_with_nobody_gives_out_all():
    a = One("a")
    a.it.look()
    await settle()
    assert a.mode is Mode.ALL
    a.registry.peers += [peer("old", speaks=5), peer("a", state="self"),
                         peer("b", "http://b", state="standby")]
    a.it.look()
    await settle()
    assert a.mode is Mode.ALL, "none of these says anything"


@run
async def test_who_is_not_met_yet_counts_for_a_while():
    a = One("a")
    a.registry.peers.append(peer(url="http://x", state="connecting", speaks=0))
    a.registry.members.to_call = lambda: {"c": "http://c", "x": "http://x"}
    a.it.look()
    await settle()
    assert a.mode is Mode.NOTHING and a.it.delivering.linked == {"http://x", "c"}
    a.registry.members.is_removed = lambda r: r == "c"
    a.time = GRACE * 1000 + 1
    a.it.look()
    await settle()
    assert a.mode is Mode.ALL


@run
async def test_a_lost_link_counts_for_a_while():
    p = await pair()
    p.a.come()
    p.b.come()
    await p.settle()
    p.a.it.ended(p.voices["b"])
    p.a.it.hush(p.links["a"])
    await settle()
    assert p.a.rights[GROUP].but == {"b"}, "it may come again"
    p.a.time = GRACE * 1000 - 1
    p.a.it.look()
    assert p.a.it.delivering.linked == {"b"}
    p.a.time += 2
    p.a.it.look()
    await settle()
    assert p.a.mode is Mode.ALL and not p.a.it.delivering.words
    # and comes again, in which nothing is given out until it has spoken
    p.stream(p.a, p.b)
    p.stream(p.b, p.a)
    await settle()
    assert p.a.mode is Mode.NOTHING
    await p.settle()
    assert p.a.rights[GROUP] == Right(True, True, frozenset("b"), True)
    assert p.b.rights[GROUP] == Right(True, False, frozenset("a"), True)


@run
async def test_a_stream_that_begins_anew_says_all():
    p = await pair()
    p.a.come()
    p.b.come()
    await p.settle()
    p.stream(p.b, p.a)
    await settle()
    assert p.a.mode is Mode.NOTHING, "what it did meanwhile is not known"
    await p.settle()
    assert p.a.rights[GROUP] == Right(True, True, frozenset("b"), True)
    p.stream(p.b, p.a, process=2)                               # it has restarted
    await p.settle()
    assert p.a.it.readers(GROUP) == ["b"]


@run
async def test_who_cannot_be_called_counts_for_nothing():
    p = Pair()
    p.stream(p.b, p.a)
    await settle()
    p.carry(p.b)
    await settle()
    assert p.a.it.delivering.linked == {"b"}
    p.a.time = p.b.time = GRACE * 1000 + 1
    p.a.it.look()
    p.b.it.look()
    await settle()
    assert p.a.mode is p.b.mode is Mode.ALL
    p.stream(p.a, p.b)
    await p.settle()
    assert p.a.mode is p.b.mode is Mode.RIGHTS


@run
async def test_who_hears_nothing_does_not_count_for_ever():
    """Its log does not go on: it would be waited for as long as that lasts."""
    p = await pair()
    p.a.newest = 7, 1
    p.a.come()
    await p.settle()
    assert p.a.it.waits_for(GROUP) == ["b"] and not p.a.rights[GROUP].settled
    assert p.a.rights[GROUP].own, "these are its own in any case"
    p.a.time = UNHEARD + 1
    p.a.it.look()
    p.a.time += GRACE * 1000
    p.a.it.look()
    await settle()
    assert p.a.mode is Mode.ALL
    p.b.arrive(7, 1)
    await p.settle()
    p.a.it.look()
    await settle()
    assert p.a.mode is Mode.RIGHTS and p.a.rights[GROUP].settled


@run
async def test_whose_ops_do_not_come_does_not_count_for_ever():
    """Nothing is given out here until it was heard; but it may be that it never will."""
    p = Pair()
    p.b.newest = 7, 9
    p.stream(p.a, p.b)
    p.stream(p.b, p.a)
    await p.settle()
    for seq in range(5):                                        # it gets on, slowly
        p.a.arrive(7, seq)
        p.a.time += UNREAD - 1
        p.a.it.look()
        await settle()
        assert p.a.mode is Mode.NOTHING
    p.a.time += UNREAD + 1
    p.a.it.look()
    p.a.time += GRACE * 1000 + 1
    p.a.it.look()
    await settle()
    assert p.a.mode is Mode.ALL
    p.a.arrive(7, 9)
    p.a.it.look()
    await p.settle()
    assert p.a.mode is Mode.RIGHTS


@run
async def test_many_groups_go_in_parts(monkeypatch):
    monkeypatch.setattr(module, "FRAME", 500)
    p = await pair()
    groups = [(0, b"s%d" % i, b"g") for i in range(1200)]
    p.a.it.drained(b"\0" + b"".join(told(1, g)[1:] for g in groups))
    await settle()
    assert len(p.links["a"].frames) > 100
    frames = p.links["a"].frames
    last = frames.pop()
    p.carry(p.a)
    assert not any(p.b.it.readers(g) for g in groups), "it is one word"
    p.links["a"].frames.append(last)
    await p.settle()
    assert all(p.b.it.readers(g) == ["a"] for g in groups)
    assert all(p.a.rights[g].settled for g in groups)
    assert max(len(rights) for _, rights in p.a.given) <= module.PIECE
    # all anew: what is not said is there no more
    p.a.it.drained(told(1, groups[0], whole=1))
    await p.settle()
    assert [p.b.it.readers(g) for g in groups] == [["a"]] + [[]] * 1199


@run
async def test_what_changes_while_the_engine_is_told_is_not_said_too_early():
    """A third comes while a round is under way: it stops, and nothing is said of it."""
    p = await pair()
    p.a.ready.clear()
    p.a.come()
    await settle()
    p.a.registry.peers.append(peer("c"))
    p.a.it.listen(Link(), "c", 1)
    p.a.ready.set()
    await p.settle()
    assert p.a.mode is Mode.NOTHING and p.b.it.readers(GROUP) == ["a"]


@run
async def test_a_round_that_fails_begins_anew(caplog):
    p = await pair()
    broken = [True]

    def give(mode, rights):
        if rights and broken and broken.pop():
            raise MemoryError
        return One.give(p.a, mode, rights)
    p.a.it._give = give
    p.a.come()
    await settle()
    assert "looked at anew" in caplog.text
    p.a.it.look()
    await p.settle()
    assert p.a.rights[GROUP].settled and Mode.NOTHING in [m for m, _ in p.a.given[3:]]


@run
async def test_hostile_words():
    p = await pair()
    voice = p.voices["a"]

    def came(body, refuse=lambda actor: None):
        p.b.it.came(voice, body, refuse)

    def refuse(actor):
        raise Refusal(proto.MALFORMED, "foreign")
    word = proto.Consumers(actor=1, seq=1, number=9)
    for body in (b"", b"\xff" * 8, encode(proto.Consumers(groups=[
            proto.Consumed(key=b"k" * 4000, group=b"g" * 100, token=1)]))):
        with pytest.raises(Refusal):
            came(body)
    with pytest.raises(Refusal):
        came(encode(word), refuse)
    with pytest.raises(Refusal, match="cannot be heard"):
        word.groups.add(key=b"k" * 4000, token=1)
        for _ in range(BYTES_MOST // 4000):
            came(encode(word))
    assert len(voice.pending) < BYTES_MOST // 4000


@run
async def test_words_of_very_many_groups_are_refused_before_they_take_room(monkeypatch):
    """Each takes a few bytes on the way, and much more here."""
    monkeypatch.setattr(module, "BYTES_MOST", 2 << 20)
    p = await pair()
    voice = p.voices["a"]
    word = proto.Consumers(actor=1, seq=1, number=9, more=True)
    with pytest.raises(Refusal, match="too many"):
        p.b.it.came(voice, encode(word) + bytes(2 * FRAME), lambda actor: None)
    word.groups.extend(proto.Consumed(key=b"%d" % i, token=1) for i in range(500))
    with pytest.raises(Refusal, match="cannot be heard"):
        for _ in range(30):
            p.b.it.came(voice, encode(word), lambda actor: None)
    assert (2 << 20) / 400 < len(voice.part) <= (2 << 20) / HELD


@run
async def test_words_behind_one_that_names_too_many_groups_are_not_heard(monkeypatch):
    monkeypatch.setattr(module, "GROUPS_MOST", 10)
    p = await pair()
    voice = p.voices["a"]
    for i in range(3):
        word = proto.Consumers(actor=1, seq=1, number=5 + i)
        word.groups.extend(proto.Consumed(key=b"%d" % (20 * i + j), token=1) for j in range(20))
        p.b.it.came(voice, encode(word), lambda actor: None)
    p.b.arrive(1, 1)
    assert voice.link.closed and len(p.b.it.delivering.words["a"].groups) == 20


@run
async def test_a_replica_that_names_too_many_groups_is_let_go(monkeypatch):
    monkeypatch.setattr(module, "GROUPS_MOST", 10)
    p = await pair()
    p.a.it.drained(b"\0" + b"".join(told(1, (0, b"%d" % i, b"g"))[1:] for i in range(20)))
    await settle()
    p.carry(p.a)
    assert p.voices["a"].link.closed


@run
async def test_any_order_of_words_and_rounds_agrees():
    """At rest both know what the other has, and of each group one gives out the rest."""
    for seed in range(40):
        rng = random.Random(seed)
        p = await pair()
        groups = [(0, b"s", b"%d" % i) for i in range(5)]
        here = {"a": set(), "b": set()}
        for _ in range(60):
            x = rng.choice((p.a, p.b))
            roll = rng.random()
            if roll < 0.4:
                g = rng.choice(groups)
                x.come(g not in here[x.name], g)
                here[x.name] ^= {g}
            elif roll < 0.6:
                (x.ready.clear if rng.random() < 0.5 else x.ready.set)()
            elif roll < 0.8:
                p.carry(x)
            elif roll < 0.85:
                p.stream(x, p.b if x is p.a else p.a, rng.randrange(2))
            else:
                await asyncio.sleep(0)
        p.a.ready.set()
        p.b.ready.set()
        await p.settle()
        for g in groups:
            assert (p.b.it.readers(g) == ["a"]) == (g in here["a"])
            assert (p.a.it.readers(g) == ["b"]) == (g in here["b"])
            rest = [x.name for x in (p.a, p.b) if (x.rights.get(g) or Right(True, False)).rest]
            assert rest == sorted(n for n in here if g in here[n])[:1], seed


def test_what_the_engine_says():
    assert list(changes(told(1)[1:] + told(0, (3, b"", b"x"))[1:])) == [
        (True, GROUP), (False, (3, b"", b"x"))]

"""What is agreed on of processes that have ended: a model of a cluster in which machines lose their
memory and the end of their logs, directories are restored and copied, replicas come, go and are cut
off, and what was said comes late, twice or never. Checked: what one replica has closed, nobody who
was asked applies more of, ever; and in the end all is closed, everywhere alike."""
import os
import random

import pytest

from crdtredis.replication.ended import ACKS, MOST, Ack, Ended, decode, encode

SCHEDULES = int(os.environ.get("CRDT_ENDED_SCHEDULES", "150"))


class Disk:
    """log: the clock after each record. line: whether it is the one of its replica, not an older
    copy of it that has not taken over what its replica said meanwhile."""

    def __init__(self):
        self.log: list[dict] = [{}]
        self.synced = 0
        self.ended = b""
        self.line = True

    def copy(self):
        other = Disk()
        other.log, other.synced, other.ended = list(self.log), self.synced, self.ended
        return other


class Node:
    def __init__(self, world, name, number):
        self.world, self.name, self.number = world, name, number
        self.disk = Disk()
        self.backup = None
        self.members = {name}               # as the records here say
        self.up = False
        self.start()

    @property
    def clock(self):
        return self.disk.log[-1]

    def start(self):
        self.world.epoch += 1
        self.me = self.number << 32 | self.world.epoch
        self.ended = Ended(self.name, self.world.epoch, self.disk.ended)
        self.limits, self.closed, self.up = {}, set(), True
        self.keep()

    def stop(self, power):
        self.up = False
        if power:
            left = self.world.dice.randint(self.disk.synced, len(self.disk.log) - 1)
            del self.disk.log[left + 1:]

    def made(self):
        self.move({self.me: self.clock.get(self.me, 0) + 1})

    def move(self, more):
        self.disk.log.append({**self.clock, **more})

    def take(self, clock):
        """Ops up to there, as far as the kernel lets them in."""
        for a, seq in clock.items():
            if a == self.me or self.world.dice.random() < self.world.loss:
                continue
            seq = min(seq, max(self.limits[a], self.clock.get(a, 0)) if a in self.limits else seq)
            if seq > self.clock.get(a, 0):
                self.move({a: seq})

    def newest(self):
        known = {}
        for a in [*self.clock, self.me]:
            known[a >> 32] = max(a, known.get(a >> 32, 0))
        return known

    def keep(self):
        dice = self.world.dice

        def store(data):
            if dice.random() < self.world.full:
                raise OSError("no space")
            self.disk.ended, self.disk.synced = data, len(self.disk.log) - 1

        known = self.newest()
        ended = [a for a in self.clock if a != known[a >> 32]]
        try:
            self.ended.step(self.me, self.members, ended, self.clock, self.freeze, store)
        except OSError:
            return
        if not self.disk.line and self.ended.own.turn and all(
                self.ended.own.follows(v) for v in self.world.said.get(self.name, ())):
            self.disk.line = True
        if self.disk.line:
            self.world.said.setdefault(self.name, set()).add(self.ended.own.version)
        for a in self.ended.closed(self.members, self.clock):
            if a not in self.closed:
                self.closed.add(a)
                self.world.close(self, a, self.clock.get(a, 0))

    def freeze(self, limits):
        self.limits = dict(limits)

    def message(self):
        return self.name, dict(self.clock), self.ended.told(), set(self.members)

    def hear(self, message):
        sender, clock, told, members = message
        if sender in self.world.removed:
            return
        self.members = (self.members | members) - self.world.removed & (self.members | members)
        if told:
            self.ended.hear(told)
        if self.world.dice.random() < 0.7:
            self.keep()
        self.take(clock)
        if self.world.dice.random() < 0.7:
            self.keep()


class World:
    def __init__(self, seed):
        self.dice = dice = random.Random(seed)
        self.epoch = 0
        self.removed, self.closed, self.said, self.flying = set(), {}, {}, []
        self.full = dice.choice([0, 0, 0.5])
        self.loss = dice.choice([0, 0.3, 0.8])
        self.names = dict(enumerate("abcde"))
        self.restores, self.changes = dice.choice([0, 0, 0.05, 0.2]), dice.choice([0, 0.02, 0.1])
        self.talk = dice.choice([0.3, 0.6, 0.8])
        self.nodes = [Node(self, self.names[i], i) for i in range(dice.choice([2, 3, 3, 4]))]
        for n in self.nodes:
            n.members = {o.name for o in self.nodes}

    def close(self, node, actor, seq):
        """asked: whose disks must never hold more."""
        asked = {n.disk for n in self.nodes if n.name in node.members and n.disk.line}
        if not node.disk.line:
            return                          # its word is nobody's, and it will start anew
        assert self.closed.setdefault(actor, (seq, asked))[0] == seq, "closed at two seqs"
        self.closed[actor][1].update(asked)

    def check(self):
        for actor, (seq, asked) in self.closed.items():
            for n in self.nodes:
                if n.disk in asked and n.disk.line:
                    assert n.clock.get(actor, 0) <= seq, (
                        f"{n.name} has {n.clock[actor]} of {actor:x}, closed at {seq}")

    def step(self):
        dice = self.dice
        node = dice.choice(self.nodes)
        if not node.up:
            if dice.random() < 0.4:
                node.start()
            return
        if dice.random() < self.restores:
            if node.backup is None:
                node.backup = node.disk.copy()
            else:
                node.stop(False)
                node.disk, node.backup = node.backup, None
                node.disk.line = False
        elif dice.random() < self.changes:
            if dice.random() < 0.7 and len(self.nodes) < 5:
                number = len(self.nodes)
                new = Node(self, self.names[number], number)
                self.nodes.append(new)
                new.take(node.clock)        # it takes what there is, and is known of later
                new.members |= node.members
            elif len(self.nodes) - len(self.removed) > 2:
                self.removed.add(dice.choice(self.nodes).name)
        elif dice.random() < self.talk:
            if dice.random() < 0.5:
                self.flying.append((dice.choice(self.nodes), node.message()))
            elif self.flying:
                to, message = self.flying[dice.randrange(len(self.flying))]
                if dice.random() < 0.7:
                    self.flying.remove((to, message))
                if to.up and to.name != message[0]:
                    to.hear(message)
        elif (x := dice.random()) < 0.6:
            node.made()
        elif x < 0.7:
            node.disk.synced = len(node.disk.log) - 1
        else:
            node.stop(dice.random() < 0.8)

    def run(self):
        for _ in range(self.dice.randint(20, 150)):
            self.step()
            self.check()
        self.flying.clear()
        self.full = self.loss = 0
        there = [n for n in self.nodes if n.name not in self.removed]
        for n in self.nodes:
            n.stop(False)
            if n in there:
                n.start()
        for _ in range(14):
            for n in there:
                if n.ended.parted():
                    assert not any(n.disk in asked and n.disk.line and n.clock.get(a, 0) > seq
                                   for a, (seq, asked) in self.closed.items())
                    n.disk = Disk()         # it starts anew, with nothing
                    n.disk.line = False
                    n.start()
                for o in there:
                    if o is not n:
                        o.hear(n.message())
                        self.check()
        for n in there:
            n.keep()
        clocks = [n.clock for n in there]
        assert all(c == clocks[0] for c in clocks), f"{clocks}"
        ended = {a for a in clocks[0] if a < max(b for b in [*clocks[0], *(n.me for n in there)]
                                                 if b >> 32 == a >> 32)}
        # of an op that was told of, and is on no disk any more, who had it was restored, or new
        ended -= {a for n in there for a, seq in n.ended.own.last.items()
                  if seq > clocks[0].get(a, 0) and (self.restores or self.changes)}
        for n in there:
            assert n.closed >= ended, (n.name, n.ended.waits_for, ended - n.closed)


@pytest.mark.parametrize("part", range(3))
def test_what_is_closed_stays_so(part):
    for seed in range(part * SCHEDULES // 3, (part + 1) * SCHEDULES // 3):
        try:
            World(seed).run()
        except AssertionError as e:
            raise AssertionError(f"seed {seed}: {e}") from e


# ---- an example of each condition ----------------------------------------------------------------

X = 77                                  # an actor that has ended


class Member:
    def __init__(self, name, has, members="ab", stored=b"", me=1):
        self.name, self.clock, self.members, self.me = name, {X: has}, set(members), me
        self.lives, self.stored, self.limits, self.full = 0, stored, {}, False
        self.start()

    def start(self):
        self.lives += 1
        self.ended = Ended(self.name, hash((self.name, self.lives, self.me)) & 0xffff, self.stored)

    def step(self):
        def store(data):
            if self.full:
                raise OSError
            self.stored = data

        self.ended.step(self.me, self.members, [X], self.clock, self.freeze, store)

    def freeze(self, limits):
        self.limits = limits

    def take(self, seq):
        self.clock[X] = min(seq, self.limits.get(X, seq))

    @property
    def closed(self):
        return self.ended.closed(self.members, self.clock)

    def last(self):
        return {a.replica: a.last.get(X) for a in decode(self.ended.told() or b"[]")}.get(self.name)


def talk(*members, rounds=6):
    for _ in range(rounds):
        for m in members:
            for o in members:
                if o is not m and m.ended.told():
                    o.ended.hear(m.ended.told())
            m.step()


def test_the_last_op_is_agreed_on():
    a, b, c = (Member(n, has, "abc") for n, has in (("a", 5), ("b", 5), ("c", 6)))
    talk(a, b)
    assert a.limits == {} and not a.closed and a.ended.waits_for == "c"
    talk(a, b, c)
    assert a.limits == b.limits == c.limits == {X: 6} and not a.closed + b.closed + c.closed
    a.take(6)
    talk(a, b, c)
    assert not a.closed + b.closed + c.closed
    b.take(7)
    assert b.clock == {X: 6}
    talk(a, b, c)
    assert a.closed == b.closed == c.closed == [X]


def test_who_has_not_got_it_all_closes_nothing():
    a, b = Member("a", 5), Member("b", 5)
    talk(a, b)
    b.clock = {X: 4}                    # it has lost the end of its log
    assert a.closed == [X] and not b.closed


def test_nothing_is_told_that_is_not_on_disk():
    a, b = Member("a", 5), Member("b", 5)
    talk(a, b, rounds=1)
    assert a.last() is None
    a.full = True
    b.step()
    a.ended.hear(b.ended.told())
    with pytest.raises(OSError):
        a.step()
    assert a.last() is None and a.limits == {X: 5}
    a.full = False
    talk(a, b)
    a.start()
    assert a.last() == 5 and a.ended.limits() == {X: 5}


def test_who_comes_later_raises_nothing():
    a, b = Member("a", 5), Member("b", 5)
    talk(a, b)
    assert a.closed == b.closed == [X]
    n = Member("n", 6, "abn")
    a.members = b.members = n.members
    talk(a, b, n)
    assert a.limits == b.limits == {X: 5} and n.ended.parted() and not a.ended.parted()
    n = Member("m", 0, "abm")           # it starts anew, and as another
    a.members = b.members = n.members
    talk(a, b, n)
    n.take(9)
    talk(a, b, n)
    assert n.clock == {X: 5} and a.closed == b.closed == n.closed == [X]


def test_who_the_members_are_is_agreed_on():
    a, b, c = (Member(n, 5, "abc") for n in "abc")
    talk(a, b, c)
    c.take(5)
    a.members = {"a", "b"}
    a.step()
    b.ended.hear(a.ended.told())
    b.step()
    a.ended.hear(b.ended.told())
    a.step()
    assert not a.closed, "b would still believe c"
    b.members = a.members
    talk(a, b)
    assert a.closed == b.closed == [X]


def test_each_has_seen_what_the_others_say():
    a, b, c = (Member(n, 5, "abc") for n in "abc")
    talk(a, b, c)
    old = c.ended.told()
    c.clock = {X: 5, 5: 1}
    c.ended._life = 9                   # c says something new, which a alone hears
    c.ended.own = next(x for x in decode(old) if x.replica == "c")
    c.members = {"a", "b", "c", "d"}
    c.step()
    c.members = {"a", "b", "c"}
    c.step()
    a.ended.hear(c.ended.told())
    a.step()
    assert not a.closed and a.ended.waits_for == "b"
    talk(a, b, c)
    assert a.closed == [X]


def test_two_that_go_on_from_one_disk_say_two_things():
    a, b = Member("a", 5), Member("b", 5)
    talk(a, b)
    before, told = b.ended.own, a.ended.own
    a.members = {"a", "b", "c"}
    a.step()
    for life in 1, 2:
        b.ended = Ended("b", life, b.stored)
        b.ended.hear(a.ended.told())
        b.step()
        assert b.ended.own.version == (life, 1) and b.ended.own.follows(before.version)
        assert not before.follows(b.ended.own.version) and a.ended.own.follows(told.version)
        b.stored = encode([before, told])


def test_an_older_copy_is_not_believed_until_it_has_taken_over_what_was_said():
    a, b = Member("a", 5), Member("b", 5)
    talk(a, b, rounds=1)
    copy, told = b.stored, a.ended.told()
    talk(a, b)
    assert a.closed == [X]
    b = Member("b", 6, stored=copy, me=2)
    b.ended.hear(told)
    b.step()
    assert b.last() == 6                # it freezes what it holds
    a.ended.hear(encode([b.ended.own]))
    a.step()
    assert a.limits == {X: 5}
    talk(a, b)
    assert a.limits == {X: 5} and b.ended.parted() and not a.ended.parted()
    b = Member("b", 4, stored=copy, me=2)
    talk(a, b)
    assert not b.ended.parted() and b.limits == {X: 5}
    b.take(6)
    talk(a, b)
    assert a.closed == b.closed == [X]


def test_who_takes_over_keeps_what_it_had_frozen():
    a, b = Member("a", 5), Member("b", 5)
    talk(a, b, rounds=1)
    before = b.ended.told()
    other = Ack("b", (500, 1), 1, {}, {5: 1}, {"a": 0, "b": 0, "n": 0}, {})
    talk(a, b)
    assert b.limits == {X: 5} and before
    b.ended.hear(encode([other]))
    b.members = {"a", "b", "n"}
    n = Member("n", 6, "abn")
    n.ended.hear(b.ended.told())
    b.step()
    b.ended.hear(encode([Ack("n", (1, 1), 1, {}, {X: 6}, {r: 0 for r in "abn"}, {})]))
    b.step()
    assert b.limits[X] == 5 and list(b.ended.own.last) == [5, X]


def test_who_acts_as_that_actor_says_nothing_of_it():
    a, b = Member("a", 5), Member("b", 5, me=X)
    talk(a, b)
    assert b.last() is None and not a.closed


@pytest.mark.parametrize("data", [
    b"", b"x", b"{}", b"[1]", b"[{}]", b'[{"replica":1}]',
    b'[{"replica":"a","version":[1],"turn":1,"chain":[],"last":[],"members":[],"seen":[]}]',
    b'[{"replica":"a","version":[1,-1],"turn":1,"chain":[],"last":[],"members":[],"seen":[]}]',
    b'[{"replica":"a","version":[1,1],"turn":1,"chain":[],"last":[[1,1.5]],"members":[],"seen":[]}]',
    b'[{"replica":"a","version":[1,1],"turn":1,"chain":[],"last":[],"members":[[[],1]],"seen":[]}]',
    encode([Ack("b", (1, 1 << 62))]),
    encode([Ack("a", last=dict.fromkeys(range(MOST + 1), 1))]), encode([Ack("a")] * (ACKS + 1))])
def test_what_is_none_is_refused(data):
    if data == b"{}":
        assert decode(data) == []
        return
    with pytest.raises(ValueError):
        Ended("b", 1).hear(data)

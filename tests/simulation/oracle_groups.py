"""The oracle's part about consumer groups: what a stream's groups must show, read off the bare ops.

A name has a group for each XGROUP CREATE that nothing which had observed it destroyed. Each has a
round, begun by the CREATE or by the last XGROUP SETID that had observed it, which is behind the
entries that its op had observed up to an id. An entry that is there has been given out when a
delivery of that round lists it. It is new to the name where no group has given it out, and not all
are behind it.

A delivery leaves a record for each entry until an XACK, an XGROUP DELCONSUMER or a delivery of the
same id by the same group, which had observed it; it belongs to whom the latest of it and of the
XCLAIMs that had observed it names. A consumer is there while a word of it is that no XGROUP
DELCONSUMER had observed; one of the empty name that was never seen is nobody (XNACK).

Two effects of one op know each other by their order. A round that is behind an id which the same
op adds later shows to begin below it.
"""
from __future__ import annotations

from dataclasses import dataclass

GROUPS = 8                              # KeyType


class Bytes:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def raw(self, n: int) -> bytes:
        self.at += n
        assert self.at <= len(self.data)
        return self.data[self.at - n:self.at]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.raw(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        v = self.number()
        return v >> 1 ^ -(v & 1)

    def fixed(self) -> int:
        return int.from_bytes(self.raw(8), "little")

    def marks(self, with_id: bool) -> list[tuple]:
        """[(actor, seq, id)]"""
        out, actor = [], 0
        for _ in range(self.number()):
            seq = self.number()
            if seq & 1:
                actor = self.fixed()
            out.append((actor, seq >> 1, (self.number(), self.number()) if with_id else None))
        return out

    def ids(self) -> list[tuple]:
        return [packed(self.raw(16)) for _ in range(self.number())]

    def round(self) -> tuple[tuple, dict, list, list]:
        """Of a CREATE or a SETID: where it begins, {actor: seq} seen; of a copy up to where it has
        given out, but for which."""
        odd = self.number()
        assert self.raw(16) == bytes(16)
        start = self.number(), self.number()
        self.signed()
        seen = {actor: seq for actor, seq, _ in self.marks(False)}
        return start, seen, self.marks(True), self.marks(True) if odd == 2 else []


def packed(id: bytes) -> tuple[int, int]:
    return int.from_bytes(id[:8], "big"), int.from_bytes(id[8:], "big")


@dataclass
class Act:
    """An effect on a group."""
    op: object
    at: int                             # index in its op
    letter: str
    value: Bytes

    def __post_init__(self):
        v = self.value
        self.order = self.op.stamp, self.op.dot[0], self.at
        if self.letter in "doc":
            self.create = v.fixed(), v.number()
            self.consumer, self.time, self.deliveries = v.raw(v.number()), v.signed(), v.signed()
        if self.letter == "d":
            self.round = v.fixed(), v.fixed()
            flags = v.number()
            self.records, self.counts = not flags & 1, not flags & 2
            self.entries = v.marks(True)
        if self.letter == "x":
            self.consumer = v.raw(v.number())
        if self.letter in "oax":
            self.ids = v.ids()
        if self.letter in "gs" and v.data:
            self.start, self.seen, self.given, self.odd = v.round()

    def observed(self, other) -> bool:
        return self.at > other.at if self.op is other.op else self.op.observed(other.op.dot)


def shown(names: dict, creates: list[Act], acts: list[Act], places: dict, added: list) -> tuple:
    """One name: (last, new ids, consumers, [(id, owner, time, deliveries)]).

    creates: those that survive. places: {id: [(op, index)]} of the entries' writes that do. added:
    [(op, index, id)] of all that ever were.
    """
    groups = [Group(names, c, acts, places, added) for c in creates]
    new = []
    for id, writes in places.items():
        op, at = max(writes, key=lambda w: (w[0].stamp, w[0].dot[0]))
        if not (any(g.has_given(id, op, at) for g in groups)
                or all(g.is_behind(id, op, at) for g in groups)):
            new.append(id)
    owners: dict = {}
    for g in groups:
        for id, act, word in g.records():
            owners[id] = max(owners.get(id, (word.order,)), (word.order, word.consumer, word.time,
                                                            word.deliveries))
    return (max(g.last() for g in groups), sorted(new),
            {c for g in groups for c in g.consumers()},
            [(id, *owners[id][1:]) for id in sorted(owners)])


class Group:
    def __init__(self, names: dict, create: Act, acts: list[Act], places: dict, added: list):
        self.names = names
        name = next(i for i, n in names.items() if n == create.op.dot[0]), create.op.dot[1]
        self.acts = [a for a in acts if a.op is not create.op or a.at > create.at]
        self.mine = [a for a in self.acts if a.letter in "doc" and a.create == name]
        self.round = max([create, *(a for a in self.acts if a.letter == "s"
                                    and a.observed(create))], key=lambda a: a.order)
        self.given = {}                 # (actor, seq, id) -> the acts that list it
        who = self.round.op
        for a in self.mine:
            if (a.letter == "d" and a.counts and names[a.round[1]] == who.dot[0]
                    and a.round[0] == who.stamp and (a.op is not who or a.at > self.round.at)):
                for mark in a.entries:
                    self.given.setdefault(mark, []).append(a)
        self.start = self.round.start
        for op, at, id in added:
            if op is who and at > self.round.at and id <= self.start and (
                    op.dot[1] <= self.round.seen.get(self.mark(id, op)[0], 0)):
                self.start = (id[0], id[1] - 1) if id[1] else (id[0] - 1, 2 ** 64 - 1)
        for id, writes in places.items():
            for op, at in writes:
                assert op is who or id > self.start or (
                    self.is_behind(id, op, at) == who.observed(op.dot)), "what a round had seen"

    def mark(self, id, op) -> tuple:
        return next(i for i, n in self.names.items() if n == op.dot[0]), op.dot[1], id

    def is_behind(self, id, op, at) -> bool:
        actor, seq, _ = self.mark(id, op)
        return (id <= self.round.start and seq <= self.round.seen.get(actor, 0)
                and not self.comes_after(self.round, op, at))

    @staticmethod
    def comes_after(act, op, at) -> bool:
        """In the same op."""
        return op is act.op and at > act.at

    def has_given(self, id, op, at) -> bool:
        mark = self.mark(id, op)
        copied = mark not in self.round.odd and any(
            m >= mark for m in self.round.given if m[0] == mark[0])
        return copied and not self.comes_after(self.round, op, at) or any(
            not self.comes_after(a, op, at) for a in self.given.get(mark, ()))

    def last(self) -> tuple:
        last: dict = {}
        for actor, seq, id in [*self.round.given, *self.given]:
            if not (id <= self.start and seq <= self.round.seen.get(actor, 0)):
                last[actor] = max(last.get(actor, (0,)), (seq, id))
        return max([self.start, *(id for _, id in last.values())])

    def records(self):
        """(id, the delivery, the word about who owns it)"""
        for a in self.mine:
            for _, _, id in a.entries if a.letter == "d" and a.records else ():
                if any(b.observed(a) and (b.letter in "ax" and id in b.ids or b.letter == "d" and
                                          b.records and b in self.mine and any(
                                              id == i for _, _, i in b.entries))
                       for b in self.acts):
                    continue
                claims = [b for b in self.acts if b.letter == "o" and id in b.ids
                          and b.observed(a)]
                yield id, a, max([a, *claims], key=lambda w: w.order)

    def consumers(self):
        for a in self.mine:
            if (a.consumer or a.time or a.letter == "o") and not any(
                    b.letter == "x" and b.consumer == a.consumer and b.observed(a)
                    for b in self.acts):
                yield a.consumer

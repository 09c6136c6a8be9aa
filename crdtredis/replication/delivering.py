"""Which replica gives out an entry of a consumer group? The one where it was added, while the group
has a consumer there; else the first, by name, of those linked that have one.

There is no replicated state for it, only words between linked replicas: which groups have a
consumer here (a token each, new whenever one comes), and what was heard of the other's. A word
travels in the op stream, behind all ops that its sender's replica had made and taken over; so who
hears that another does not give any more has heard of all that it gave.

A replica gives out only what all that it is linked with know it may: each has told it so, by the
token. Two that know of each other's consumers choose alike. One that was linked and is no more
counts for nothing: what was heard of it is void, and so is what it has heard, until a new word:

    A and B have consumers of g.   B's last one goes: B says so, behind its last delivery.
    A hears it: B's entries are A's to give, for its own token has long been acknowledged.
    B's next one comes: B gives nothing until A's word has B's token; A gives none of B's from when
    it has heard B's word, and says so behind its last delivery of one.

No entry is given out twice without a lost link or a lost tail; each is given out as long as any
consumer is linked with a replica that holds it. Functions of what was said alone: no clock, no I/O.
"""
from __future__ import annotations

from dataclasses import dataclass, field

Token = tuple[int, int]
Group = tuple[int, bytes, bytes]        # database, key, name


@dataclass(frozen=True)
class Word:
    mine: dict[Group, Token]            # groups that have a consumer at the sender
    heard: dict[Group, Token]           # of the receiver's, as it was heard last


@dataclass
class Delivering:
    replica: str
    epoch: int                          # of this process: no other has its tokens
    made: int = 0
    mine: dict[Group, Token] = field(default_factory=dict)
    words: dict[str, Word] = field(default_factory=dict)
    linked: set[str] = field(default_factory=set)

    def consumes(self, group: Group, yes: bool) -> bool:
        """The first consumer of a group comes here, or the last one goes. True: a word is due."""
        if yes == (group in self.mine):
            return False
        if yes:
            self.made += 1
            self.mine[group] = self.epoch, self.made
        else:
            del self.mine[group]
        return True

    def link(self, replicas: set[str]) -> None:
        """Those that this one is linked with now. A link that was down meanwhile is to be left out
        once in between."""
        self.words = {r: w for r, w in self.words.items() if r in self.linked and r in replicas}
        self.linked = set(replicas)

    def word(self, to: str) -> Word:
        """What to say to a replica, behind all ops that are here."""
        heard = self.words.get(to)
        return Word(dict(self.mine), dict(heard.mine) if heard else {})

    def hear(self, of: str, word: Word) -> bool:
        """Behind all ops that it came behind. True: a word is due, for it says something new."""
        before = self.words.get(of)
        self.words[of] = word
        return before is None or before.mine != word.mine

    def givers(self, group: Group, replicas: set[str]) -> list[str]:
        """Of these replicas, those whose entries are given out here."""
        token = self.mine.get(group)
        words = [self.words.get(r) for r in self.linked]
        if token is None or not all(w and w.heard.get(group) == token for w in words):
            return []
        able = {r for r in self.linked if group in self.words[r].mine} | {self.replica}
        return [r for r in replicas if (r if r in able else min(able)) == self.replica]

"""Which replica gives out an entry of a consumer group? The one where it was added, while the group
has a consumer there; else the first, by name, of those linked that have one.

There is no replicated state for it, only words between linked replicas, numbered: which groups have
a consumer here (a token each, new whenever one comes), and the number of the other's word that was
heard last. A word is heard behind all ops that its sender's replica had made; so who hears that
another does not give any more has heard of all that it gave.

Who gives out another's entries must be known to have a consumer by all that it is linked with: each
has told it so, by the number. Two that know of each other's consumers choose alike.

    A and B have consumers of g.   B's last one goes: B says so, behind its last delivery.
    A hears it: B's entries are A's to give, for A's token has long been heard.
    B's next one comes: B gives nothing until A's word has B's token; A gives none of B's from when
    it has heard B's word, and says so behind its last delivery of one.

Its own entries a replica gives out without asking, as long as nobody else can have them to give:
where no other has a consumer, for another's token counts for nothing until it was heard here; and
where it had its own consumer before it heard of the other's, since whatever the other hears of that
names both. Only who comes after another waits for its word, then.

Who is linked and has not spoken yet stops all. One that was linked and is no more counts for
nothing. No entry is given out twice without a lost link or a lost tail; each is given out as long
as any consumer is linked with a replica that holds it. Functions of what was said alone: no clock,
no I/O.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

Group = tuple[int, bytes, bytes]        # database, key, name


class Mode(IntEnum):
    """Of a replica, for all groups. As in engine/consumers.pxd."""
    ALL = 0                             # nobody is linked: it gives out all
    RIGHTS = 1                          # as Right says
    NOTHING = 2                         # somebody has not spoken


@dataclass(frozen=True)
class Right:
    own: bool                           # gives out its own entries,
    rest: bool                          # and others',
    but: frozenset[str] = frozenset()   # except those of these replicas
    settled: bool = False               # nothing that has been said is on its way


# of a group that nobody has said anything of
UNSAID = Right(own=True, rest=False)


@dataclass
class Word:
    """What was heard of a replica."""
    number: int = 0
    heard: int = 0                      # of this one's
    groups: dict[Group, int] = field(default_factory=dict)     # that have a consumer there: tokens


@dataclass
class Delivering:
    replica: str
    number: int = 1                     # of the next word
    mine: dict[Group, int] = field(default_factory=dict)
    words: dict[str, Word] = field(default_factory=dict)
    linked: frozenset[str] = frozenset()
    # groups of which a replica may not know that they have a consumer here, by what was said while
    # they had none
    _before: dict[str, set[Group]] = field(default_factory=dict)
    _came: list[Group] = field(default_factory=list)            # by their tokens

    def consumes(self, group: Group, yes: bool) -> bool:
        """The first consumer of a group comes here, or the last one goes. True: that is new."""
        if yes == (group in self.mine):
            return False
        if yes:
            self.mine[group] = self.number
            self._came.append(group)
            if len(self._came) > 2 * len(self.mine) + 100:
                self._came = sorted(self.mine, key=self.mine.__getitem__)
        else:
            del self.mine[group]
            for replica, word in self.words.items():
                if group in word.groups:
                    self._before[replica].add(group)
        return True

    def link(self, replicas: Iterable[str]) -> bool:
        """Those that this one is linked with now. True: they are others."""
        before, self.linked = self.linked, frozenset(replicas)
        return self.linked != before

    def say(self) -> int:
        """The number of the word that says what is so now, to whomever it is said."""
        self.number += 1
        return self.number - 1

    def forget(self, replica: str) -> None:
        """It is to speak anew."""
        self.words.pop(replica, None)
        self._before.pop(replica, None)

    def hear(self, replica: str, number: int, heard: int, changes: Mapping[Group, int],
             again: bool = False) -> set[Group]:
        """Its next word, of which changes are groups and their tokens; 0: no consumer any more.
        again: it is the first of a process that has spoken before. Returns the groups about which
        this says something."""
        word = self.words.setdefault(replica, Word())
        before = self._before.setdefault(replica, set())
        about = set(changes)
        for group in reversed(self._came):
            token = self.mine.get(group, 0)
            if token and token <= word.heard:
                break
            if token <= heard:
                about.add(group)
        for group, token in changes.items():
            word.groups.pop(group, None)
            before.discard(group)
            if token:
                word.groups[group] = token
                if again or group not in self.mine:
                    before.add(group)
        word.number, word.heard = number, heard
        return about

    @property
    def mode(self) -> Mode:
        if not self.linked:
            return Mode.ALL
        return Mode.RIGHTS if self.linked <= self.words.keys() else Mode.NOTHING

    def _knows(self, replica: str, group: Group) -> bool:
        """Does it know of the consumer here, or will before it gives out anything?"""
        word = self.words[replica]
        return (word.heard >= self.mine[group]
                or group in word.groups and group not in self._before[replica])

    def unheard(self, group: Group) -> set[str]:
        """Who must speak before this one gives out what others added."""
        silent = self.linked - dict(self.words).keys()
        if silent or group not in self.mine:
            return set(silent)
        return {r for r in self.linked if not self._knows(r, group)}

    def right(self, group: Group) -> Right:
        """Where all have spoken."""
        able = [r for r in self.linked if group in self.words[r].groups]
        if group not in self.mine:
            return Right(own=not able, rest=False)
        unheard = self.unheard(group)
        settled = not unheard
        return Right(unheard.isdisjoint(able),
                     settled and all(self.replica < r for r in able),
                     frozenset(able) if settled else frozenset(), settled)

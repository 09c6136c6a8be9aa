"""The ring between two threads (engine/ring.pxi): every order of the steps of its producer and its
consumer, for small rings and few items.

The model has one transition for each access to shared memory. Memory is sequentially consistent, as
all of these accesses are in the source. Sleeping is futex's: whether the counter has moved on is
asked, and the thread put to sleep, in one step; a thread may also be woken for no reason. In each
state that can be reached:

    an item is put only where there is room, and taken once, in order
    what a producer has waited for is there
    somebody can go on, without being woken for no reason, until all is done: no wake-up is lost

Each property counts because a model with one step at the wrong place breaks it.
"""
from __future__ import annotations

from typing import NamedTuple

import pytest


class State(NamedTuple):
    producer: str = "put"
    consumer: str = "look"
    # shared
    tail: int = 0
    done: int = 0
    wanted: int = 0
    idle: int = 0
    items: tuple = ()
    worked: int = 0             # items that are done: what the work leaves in memory
    # the producer's own: items put, and to be put before it waits; what it has read
    put: int = 0
    left: tuple = ()
    saw: int = 0
    # the consumer's own
    taken: int = 0
    seen: int = 0


def producer(s: State, size: int, wrap: int, fault: str):
    """The states in which its next step may leave it."""
    at = s.producer
    if at == "put":
        assert (s.tail - s.done) % wrap < size, "no room"
        items = list(s.items)
        items[s.tail % size] = s.put
        yield s._replace(items=tuple(items), put=s.put + 1,
                         producer="look for idle" if fault == "looks first" else "move tail")
    elif at == "move tail":
        left = (s.left[0] - 1, *s.left[1:])
        after = "put" if left[0] else "wake" if fault == "looks first" else "look for idle"
        yield s._replace(tail=(s.tail + 1) % wrap, left=left, producer=after)
    elif at == "look for idle":
        after = "move tail" if fault == "looks first" else "wake"
        yield s._replace(saw=s.idle, producer=after)
    elif at == "wake":
        woken = s.saw and s.consumer == "asleep"
        yield s._replace(consumer="look again" if woken else s.consumer, producer="spin")
    elif at == "spin":
        over = s.done == s.tail
        yield s._replace(producer="awaited" if over else "want")
    elif at == "want":
        yield s._replace(wanted=s.tail, producer="look at done")
    elif at == "look at done":
        yield s._replace(saw=s.done, producer="awaited" if s.done == s.tail else "sleep")
    elif at == "sleep":
        sleeps = s.done == s.saw or fault == "sleeps blindly"
        yield s._replace(producer="asleep" if sleeps else "look at done")
    elif at == "awaited":
        assert s.worked == s.put, "the work is not done"
        left = s.left[1:]
        yield s._replace(left=left, producer="put" if left else "end")


def consumer(s: State, size: int, wrap: int, fault: str):
    at = s.consumer
    if at == "look":
        yield s._replace(consumer="take" if s.tail != s.done else
                         "look once more" if fault == "says idle last" else "say idle")
    elif at == "look once more":
        yield s._replace(consumer="take" if s.tail != s.done else "say idle", seen=s.done)
    elif at == "say idle":
        after = "sleep blindly" if fault == "says idle last" else "look again"
        yield s._replace(idle=1, consumer=after)
    elif at == "sleep blindly":
        yield s._replace(consumer="asleep")
    elif at == "look again":
        yield s._replace(consumer="busy" if s.tail != s.done else "sleep")
    elif at == "sleep":
        yield s._replace(consumer="asleep" if s.tail == s.done else "look again")
    elif at == "busy":
        yield s._replace(idle=0, consumer="take")
    elif at == "take":
        assert s.items[s.done % size] == s.taken, "another item"
        yield s._replace(taken=s.taken + 1, consumer="done" if fault == "done first" else "work")
    elif at == "work":
        after = "look for wanted" if fault == "done first" else "done"
        yield s._replace(worked=s.worked + 1, consumer=after)
    elif at == "done":
        after = "work" if fault == "done first" else "look for wanted"
        yield s._replace(done=(s.done + 1) % wrap, consumer=after)
    elif at == "look for wanted":
        yield s._replace(consumer="wake" if s.wanted == s.done else "look")
    elif at == "wake":
        woken = s.producer == "asleep"
        yield s._replace(producer="look at done" if woken else s.producer, consumer="look")


def explore(size: int, plan: tuple, begin: int = 0, fault: str = "") -> int:
    """States reached. begin: where the counters stand, which wrap at 4 times the size."""
    wrap = 4 * size
    first = State(tail=begin, done=begin, wanted=(begin - 1) % wrap, items=(None,) * size,
                  left=plan)
    reached, waiting = {first}, [first]
    while waiting:
        s = waiting.pop()
        steps = [*producer(s, size, wrap, fault), *consumer(s, size, wrap, fault)]
        assert steps or (s.producer, s.worked) == ("end", sum(plan)), "a wake-up is lost"
        if s.consumer == "asleep":              # for no reason
            steps.append(s._replace(consumer="look again"))
        if s.producer == "asleep":
            steps.append(s._replace(producer="look at done"))
        for step in steps:
            if step not in reached:
                reached.add(step)
                waiting.append(step)
    return len(reached)


PLANS = [(1, (1, 1, 1)), (1, (1,) * 6), (2, (2, 1, 2)), (2, (1, 2, 2, 1)), (3, (3, 1, 2)),
         (3, (2, 3, 3)), (4, (4, 4)), (4, (1, 3, 4, 2))]


@pytest.mark.parametrize("size, plan", PLANS)
def test_in_every_order(size, plan):
    for begin in range(4 * size):
        assert explore(size, plan, begin) > 20 * sum(plan) / 2


@pytest.mark.parametrize("fault, said", [("looks first", "a wake-up is lost"),
                                         ("says idle last", "a wake-up is lost"),
                                         ("sleeps blindly", "a wake-up is lost"),
                                         ("done first", "the work is not done")])
def test_a_step_at_the_wrong_place_is_found(fault, said):
    with pytest.raises(AssertionError, match=said):
        explore(2, (1, 2, 1), fault=fault)


def test_more_than_there_is_room_for_is_found():
    with pytest.raises(AssertionError, match="no room"):
        explore(2, (3,))

"""Who waits until how many replicas have logged what (WAIT), and who of them may go, however many
they are.

A waiter wants `count` replicas to have the op `seq` of one actor. Those that want the same count of
the same actor stand in one heap, the least seq in front, so what an acknowledgement costs depends
on how many it lets go:

    actor a:  count 1: 7 9 9 12     replicas have a up to 10 and 8: one replica has 10, two have 8,
              count 2: 8 11         so 7 9 9 and 8 go; nobody looked at 11 or beyond 12
              count 5: ...          never looked at while there are two replicas

Who leaves before (the client has gone, its time was up) is only marked; when half of all are, the
heaps are made anew. Pure: no thread, no time.
"""
from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

SWEEP = 64                              # marked ones that are never worth a sweep


@dataclass(eq=False)
class Waiter:
    actor: int                          # 0: any replica will do, whatever it has
    seq: int
    count: int                          # from 1
    done: Callable[[int], None] | None  # given the number of replicas; None: it has gone


class Waiters:
    def __init__(self) -> None:
        # actor -> count -> heap
        self._queues: dict[int, dict[int, list[tuple[int, int, Waiter]]]] = {}
        self._entered = 0               # so that equal seqs never compare waiters
        self._standing = self._gone = 0

    def __len__(self) -> int:
        return self._standing - self._gone

    @property
    def actors(self) -> list[int]:
        """Those that somebody waits for."""
        return list(self._queues)

    def enter(self, waiter: Waiter) -> None:
        self._entered += 1
        self._standing += 1
        queue = self._queues.setdefault(waiter.actor, {}).setdefault(waiter.count, [])
        heapq.heappush(queue, (waiter.seq, self._entered, waiter))

    def leave(self, waiter: Waiter) -> None:
        """It waits no longer. Nothing happens when it has gone already."""
        if waiter.done is None:
            return
        waiter.done = None
        self._gone += 1
        if self._gone > SWEEP and 2 * self._gone > self._standing:
            self._sweep()

    def free(self, actor: int, seqs: Sequence[int]) -> list[tuple[Callable[[int], None], int]]:
        """Takes out who may go. seqs: up to where each replica has this actor, greatest first. What
        to call, with what."""
        out = []
        queues = self._queues.get(actor, {})
        for count, reached in enumerate(seqs, 1):
            queue = queues.get(count, [])
            while queue and (queue[0][2].done is None or queue[0][0] <= reached):
                seq, _, waiter = heapq.heappop(queue)
                self._standing -= 1
                if waiter.done is None:
                    self._gone -= 1
                else:
                    out.append((waiter.done, sum(1 for s in seqs if s >= seq)))
                    waiter.done = None
            if not queue:
                queues.pop(count, None)
        if not queues:
            self._queues.pop(actor, None)
        return out

    def _sweep(self) -> None:
        for actor, queues in list(self._queues.items()):
            for count, queue in list(queues.items()):
                queue[:] = [x for x in queue if x[2].done is not None]
                heapq.heapify(queue)
                if not queue:
                    del queues[count]
            if not queues:
                del self._queues[actor]
        self._standing -= self._gone
        self._gone = 0

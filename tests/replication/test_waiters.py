"""Waiters against a model that looks at everybody, and that leaving frees."""
import random

import pytest

from crdtredis.replication.waiters import SWEEP, Waiter, Waiters


def freed(w: Waiters, actor: int, seqs) -> list[int]:
    out = []
    for done, n in w.free(actor, seqs):
        out.append(done(n))
    return out


def test_each_goes_when_so_many_replicas_have_it():
    w = Waiters()
    for seq, count in ((7, 1), (9, 1), (12, 1), (8, 2), (11, 2), (1, 5)):
        w.enter(Waiter(1, seq, count, lambda n, seq=seq: (seq, n)))
    assert sorted(freed(w, 1, [10, 8])) == [(7, 2), (8, 2), (9, 1)]
    assert len(w) == 3 and freed(w, 1, [10, 8]) == [] and freed(w, 2, [100, 100]) == []
    assert sorted(freed(w, 1, [20, 11])) == [(11, 2), (12, 1)]
    assert freed(w, 1, [1] * 5) == [(1, 5)] and len(w) == 0 and w.actors == []


@pytest.mark.parametrize("seed", range(30))
def test_against_a_model(seed):
    chance = random.Random(seed)
    w, model, number = Waiters(), {}, 0
    reached = {1: [0, 0, 0], 2: [0, 0, 0]}
    for _ in range(600):
        actor = chance.choice((1, 2))
        what = chance.random()
        if what < 0.5:
            number += 1
            waiter = Waiter(actor, reached[actor][0] + chance.randrange(-3, 20),
                            chance.randrange(1, 6), lambda n, number=number: (number, n))
            model[number] = waiter, waiter.seq, waiter.count, actor
            w.enter(waiter)
        elif what < 0.7 and model:
            gone = chance.choice(list(model))
            w.leave(model.pop(gone)[0])
        else:
            seqs = reached[actor] = sorted((s + chance.randrange(6) for s in reached[actor]),
                                           reverse=True)
            due = {k: sum(s >= seq for s in seqs) for k, (_, seq, count, a) in model.items()
                   if a == actor and sum(s >= seq for s in seqs) >= count}
            assert dict(freed(w, actor, seqs)) == due
            for k in due:
                del model[k]
        assert len(w) == len(model)


def test_who_leaves_is_forgotten_before_what_it_waited_for_comes():
    """As clients do that ask for more replicas than there are, and close."""
    w = Waiters()
    for round_ in range(100):
        waiters = [Waiter(1, 10 ** 9, round_ * 50 + k + 1, print) for k in range(50)]
        for x in waiters:
            w.enter(x)
        for x in waiters:
            w.leave(x)
            w.leave(x)
    assert len(w) == 0
    standing = sum(len(queue) for queues in w._queues.values() for queue in queues.values())
    assert standing <= 2 * SWEEP and len(w._queues.get(1, {})) <= 2 * SWEEP


def test_waking_looks_at_no_one_who_stays():
    """20,000 who wait for a third replica: an acknowledgement by two touches none of them."""
    class Seq(int):
        looked = 0

        def __le__(self, other):
            Seq.looked += 1
            return int(self) <= other

    w = Waiters()
    for k in range(20_000):
        w.enter(Waiter(1, Seq(k), 3, print))
    for k in range(1000):
        w.enter(Waiter(1, Seq(10 ** 6 + k), 1, print))
    for k in range(100):
        assert w.free(1, [k + 10, k]) == []
    assert Seq.looked == 100 and len(w) == 21_000

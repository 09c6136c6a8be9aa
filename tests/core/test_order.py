"""The order index against a sorted list."""
import bisect
import gc
import random

import pytest

from crdtredis._core import OrderProbe, probe_memory


@pytest.mark.parametrize("seed", range(8))
def test_order_is_a_sorted_list(seed):
    rng = random.Random(seed)
    gc.collect()
    before = probe_memory()[0]
    order, model, scores = OrderProbe(), [], {}
    size = rng.choice([5, 70, 300, 5000])
    spread = rng.choice([1, 10, 10**6])
    for step in range(6 * size):
        if len(model) < size and (not model or rng.random() < .6 - .4 * (step // size % 2)):
            name = b"%d" % rng.randrange(10 * size)
            if name in scores:
                continue
            score = rng.choice([rng.randrange(-spread, spread) / 4, step, 0.0, -0.0, float("inf"),
                                float("-inf")])
            scores[name] = score
            bisect.insort(model, (score, name))
            order.insert(score, name)
        elif model:
            score, name = model.pop(rng.choice([0, len(model) - 1, rng.randrange(len(model))]))
            del scores[name]
            order.remove(name)
        if step % 97 == 0 or len(model) < 4:
            assert order.check() == 0 and len(order) == len(model)
            if model:
                at = rng.randrange(len(model))
                assert order.at(at) == model[at][1]
                assert order.names_from(at) == [name for _, name in model[at:]]
                assert order.names_from(at, True) == [name for _, name in model[at::-1]]
                probe = rng.choice(model + [(rng.uniform(-spread, spread), b"5")])
                assert order.rank(*probe) == bisect.bisect_left(model, probe)
    assert order.at(len(model)) is None
    for _, name in model:
        order.remove(name)
    assert order.memory() == 0 and probe_memory()[0] == before


def test_ascending_fill_is_dense():
    order = OrderProbe()
    for i in range(10_000):
        order.insert(i, b"%d" % i)
    assert order.memory() / 10_000 < 19          # 16 bytes an item


def test_a_small_set_is_small():
    order = OrderProbe()
    for i in range(4):
        order.insert(i, b"%d" % i)
    assert order.memory() < 120

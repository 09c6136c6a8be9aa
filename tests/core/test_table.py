"""The element table against naive models: a set of keys, and for SCAN the guarantee as Redis words
it."""
import gc
import random

import pytest

from crdtredis._core import TableProbe, probe_memory


@pytest.fixture(autouse=True)
def memory_returns_to_its_baseline():
    gc.collect()                           # replicas of earlier tests
    before = probe_memory()
    yield
    assert probe_memory() == before


def key(i):
    return b"key:%d" % i


def sound(table, model):
    assert table.check() == 0
    assert len(table) == len(model)


def test_an_empty_table_owns_no_memory_before_and_after():
    table = TableProbe()
    assert (table.memory() == 0 and table.find(b"a") is None and table.random() is None
            and table.scan(0) == (0, []) and table.keys() == [])
    table.add(b"a")
    assert table.memory() == 8
    table.remove(b"a")
    assert table.memory() == 0 and table.check() == 0


def test_a_few_elements_take_a_word_each():
    table = TableProbe()
    for i in range(8):
        table.add(key(i))
        assert table.memory() == 8 * len(table) and table.check() == 0
        assert sorted(table.scan(5)[1]) == sorted(table.keys()) and table.scan(5)[0] == 0
    table.remove(key(2))
    assert table.memory() == 56 and sorted(table.keys()) == [key(i) for i in range(8) if i != 2]
    table.add(key(2))
    table.add(key(8))
    assert table.memory() == 128 and table.check() == 0
    for i in range(8):
        table.remove(key(i))
        assert table.memory() == (128 if len(table) > 4 else 8 * len(table))
        assert table.check() == 0
        assert sorted(table.keys()) == [key(j) for j in range(i + 1, 9)]
        assert all((table.find(key(j)) is None) == (j <= i) for j in range(9))


@pytest.mark.parametrize("seed", range(12))
def test_random_changes_agree_with_a_set(seed):
    """Sizes drift up and down by a factor of hundreds, so most changes fall into a growth or a
    shrinking under way."""
    rng = random.Random(seed)
    table, model = TableProbe(seed + 1), {}
    order = []
    resizing = 0
    for phase in range(10):
        grow = rng.random() if phase % 2 else 0.5 + rng.random() / 2
        for step in range(600):
            if rng.random() < grow or not order:
                k = key(rng.randrange(10**6))
                if k not in model:
                    table.add(k)
                    model[k] = len(order)
                    order.append(k)
            else:
                k = rng.choice(order)
                at, last = model.pop(k), order.pop()
                if last != k:
                    order[at] = last
                    model[last] = at
                table.remove(k)
            if order:
                k = rng.choice(order)
                assert table.find(k) == k
                if rng.random() < 0.1:
                    table.swap(k)
                    assert table.find(k) == k
            absent = key(rng.randrange(10**6))
            assert (table.find(absent) is None) == (absent not in model)
            resizing += table.resizing()
            if step % 20 == 0:
                sound(table, model)
                table.work(rng.randrange(3))
        sound(table, model)
        assert sorted(table.keys()) == sorted(model)
        assert all(table.find(k) == k for k in model)
    assert resizing > 100
    for k in list(model):
        table.remove(k)
        model.pop(k)
        if len(model) % 16 == 0:
            sound(table, model)
            assert all(table.find(k) for k in list(model)[:20])
    assert table.memory() == 0


@pytest.mark.parametrize("hashes", [
    # three homes at the beginning of every array
    lambda rng: rng.randrange(3),
    # at its end, so that clusters wrap around
    lambda rng: 0xffffffff - rng.randrange(3),
    lambda rng: rng.choice([0, 1, 0xffffffff, 0xfffffffe, 7, 0x00ffffff]),
    lambda rng: rng.getrandbits(32) & 0xff0f0f0f,
    lambda rng: rng.randrange(64) << 26])                       # one home until the table is huge
def test_colliding_hashes(hashes):
    rng = random.Random(5)
    table, model = TableProbe(), {}
    for step in range(3000):
        if (len(model) < 150 and (rng.random() < (0.65 if step // 500 % 2 == 0 else 0.25)
                                  or not model)):
            k = key(step)
            model[k] = hashes(rng)
            table.add(k, model[k])
        else:
            k = rng.choice(list(model))
            table.remove(k, model.pop(k))
        assert table.check(hashed=False) == 0
        if step % 10 == 0:
            assert all(table.find(k, h) == k for k, h in model.items())
            assert sorted(walk(table)) == sorted(model)
    table.clear()


@pytest.mark.parametrize("home", [lambda i: 0, lambda i: i < 200, lambda i: i & 1],
                         ids=["own", "pushed", "mixed"])
def test_a_distance_that_would_not_fit_makes_the_table_larger_at_once(home):
    """The homes of these fall together until the bucket hangs on bit 12, so more than 255 in a row
    have to give way."""
    table, hashes = TableProbe(), {}
    for i in range(600):
        hashes[key(i)] = (i % 7) << 12 | home(i)
        table.add(key(i), hashes[key(i)])
        assert table.check(hashed=False) == 0
    assert table.memory() >= 8 << 12
    assert all(table.find(k, h) == k for k, h in hashes.items())


@pytest.mark.parametrize("direction", ["growing", "shrinking"])
def test_no_change_moves_more_than_a_few_elements(direction):
    table = TableProbe(7)
    most = 0
    keys = [key(i) for i in range(20000)]
    for change, k in [(table.add, k) for k in keys] + [(table.remove, k) for k in keys]:
        before, resizing, size = table.left(), table.resizing(), len(table)
        change(k)
        if (direction == "growing") != (change == table.add):
            continue
        if resizing:
            most = max(most, before - table.left())
        elif table.resizing():
            most = max(most, size - table.left())
    # eight per change, one more for a removal from the old array itself, and at the start those
    # that wrapped around its end
    assert 8 <= most <= 48


def test_load_stays_between_its_bounds():
    table = TableProbe(3)
    for i in range(30000):
        table.add(key(i))
        slots = table.memory() / 8
        assert slots <= max(16, 16 / 13 * (2.5 if table.resizing() else 1.5) * (i + 1) + 16)
    for i in range(30000):
        table.remove(key(i))
        assert table.memory() <= 8 * max(4, 26 * (30000 - i - 1))
    assert table.memory() == 0


def walk(table):
    cursor, out = 0, []
    while True:
        cursor, some = table.scan(cursor)
        out += some
        if cursor == 0:
            return out


def test_scan_of_a_table_at_rest_visits_each_element_once():
    table = TableProbe(9)
    for i in range(1000):
        table.add(key(i))
        if i % 37 == 0 or table.resizing() and i % 5 == 0:
            assert sorted(walk(table)) == sorted(table.keys())


@pytest.mark.parametrize("seed", range(60))
def test_scan_visits_all_that_stays_whatever_else_changes(seed):
    rng = random.Random(seed)
    table = TableProbe(seed + 1)
    present = {key(i) for i in range(rng.choice([1, 5, 50, 400, 3000]))}
    for k in present:
        table.add(k)
    stayed, fresh = set(present), 10**6
    burst = rng.choice([0, 1, 5, 60, 500])
    grow = rng.random()
    cursor, visited, calls = 0, set(), 0
    while True:
        cursor, some = table.scan(cursor)
        assert set(some) <= present
        visited.update(some)
        calls += 1
        if cursor == 0:
            break
        if calls % 50 == 0:
            grow = rng.random()
        for _ in range(rng.randrange(burst + 1)):
            if rng.random() < grow and len(present) < 6000:
                fresh += 1
                table.add(key(fresh))
                present.add(key(fresh))
            elif present:
                k = next(iter(present)) if rng.random() < 0.9 else max(present)
                table.remove(k)
                present.remove(k)
                stayed.discard(k)
    assert stayed <= visited
    assert table.check() == 0


def test_scan_ends_for_any_cursor():
    rng = random.Random(11)
    table = TableProbe()
    for i in range(300):
        table.add(key(i))
    for _ in range(200):
        cursor = rng.getrandbits(64)
        for _ in range(1025):
            cursor, _ = table.scan(cursor)
            if cursor == 0:
                break
        assert cursor == 0


@pytest.mark.parametrize("count, removed", [(100, 0), (13, 0), (60, 0), (400, 392), (200, 170)])
def test_random_choice_is_uniform(count, removed):
    """Chi-square at a fixed seed; the bound is about six standard deviations above what a uniform
    choice gives."""
    table = TableProbe(99)
    for i in range(count):
        table.add(key(i))
    for i in range(removed):
        table.remove(key(i))
    kept = count - removed
    rounds = 400 * kept
    seen = dict.fromkeys(table.keys(), 0)
    for _ in range(rounds):
        seen[table.random()] += 1
    expected = rounds / kept
    chi = sum((n - expected) ** 2 / expected for n in seen.values())
    assert len(seen) == kept and chi < kept - 1 + 6 * (2 * kept) ** 0.5


def test_random_choice_draws_from_both_arrays_alike():
    table = TableProbe(5)
    i = 0
    while not (table.resizing() and 0.3 < table.left() / max(1, len(table)) < 0.7
               and len(table) > 60):
        table.add(key(i))
        i += 1
    test = dict.fromkeys(table.keys(), 0)
    for _ in range(300 * len(test)):
        test[table.random()] += 1
    chi = sum((n - 300) ** 2 / 300 for n in test.values())
    assert chi < len(test) - 1 + 6 * (2 * len(test)) ** 0.5

"""Sorted set commands through an Executor; with two of them, what concurrent commands do
(semantics: the rows for sorted sets, ZST-1 to ZST-4).

What redis-server answers to the same calls is tested in tests/compat."""
import random
import struct

import pytest

from tests.commands.local import Local, sync
from tests.commands.run import Client


@pytest.fixture
def c():
    return Client()


def pairs(flat):
    return list(zip(flat[::2], map(float, flat[1::2])))


# ---- one replica ---------------------------------------------------------------------------------

def test_add_counts_new_members_and_with_ch_changed_ones(c):
    assert c("ZADD", "z", 1, "a", 2, "b") == 2
    assert c("ZADD", "z", 1, "a", 3, "b", 4, "c") == 1
    assert c("ZADD", "z", "CH", 1, "a", 4, "b", 5, "d") == 2
    assert (pairs(c("ZRANGE", "z", 0, -1, "WITHSCORES")) == [(b"a", 1), (b"b", 4), (b"c", 4),
                                                             (b"d", 5)])


def test_add_options(c):
    c("ZADD", "z", 5, "a")
    assert c("ZADD", "z", "NX", "CH", 9, "a", 1, "b") == 1
    assert c("ZADD", "z", "XX", "CH", 6, "a", 1, "c") == 1
    assert c("ZADD", "z", "GT", "CH", 5, "a") == 0
    assert c("ZADD", "z", "LT", "CH", 5, "a") == 1
    assert c("ZADD", "z", "XX", "INCR", 1, "nobody") is None
    assert c("ZADD", "z", "GT", "INCR", -1, "a") is None
    assert c("ZADD", "z", "INCR", "1.5", "a") == b"6.5"


@pytest.mark.parametrize("argv, text", [
    (("ZADD", "z", "NX", "XX", 1, "a"),
     "ERR XX and NX options at the same time are not compatible"),
    (("ZADD", "z", "GT", "LT", 1, "a"),
     "ERR GT, LT, and/or NX options at the same time are not compatible"),
    (("ZADD", "z", "INCR", 1, "a", 2, "b"),
     "ERR INCR option supports a single increment-element pair"),
    (("ZADD", "z", 1, "a", "x", "b"), "ERR value is not a valid float"),
    (("ZADD", "z", "nan", "a"), "ERR value is not a valid float"),
    (("ZADD", "z", "NX", 1), "ERR syntax error"),
    (("ZINCRBY", "z", "NX", "a"), "ERR syntax error"),
    (("ZRANGE", "z", 0, 1, "LIMIT", 0, 1),
     "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"),
    (("ZRANGE", "z", "-", "+", "BYLEX", "WITHSCORES"),
     "ERR syntax error, WITHSCORES not supported in combination with BYLEX"),
    (("ZRANGE", "z", "x", 1, "BYSCORE"), "ERR min or max is not a float"),
    (("ZRANGEBYLEX", "z", "a", "+"), "ERR min or max not valid string range item"),
    (("ZPOPMIN", "z", -1), "ERR value is out of range, must be positive"),
    (("ZRANK", "z", "a", "WITHSCORES"), "ERR syntax error"),
    (("ZRANK", "z", "a", "WITHSCORE", "x"), "ERR wrong number of arguments for 'zrank' command")])
def test_refusals_change_nothing(c, argv, text):
    assert c.error(*argv) == text
    assert c.effects(*argv) == 0


def test_rank_with_score(c):
    c("ZADD", "z", 1, "a", "1.5", "b", 2, "c")
    assert c("ZRANK", "z", "b", "WITHSCORE") == [1, b"1.5"]
    assert c("ZREVRANK", "z", "a", "WITHSCORE") == [2, b"1"]
    assert c.raw("ZRANK", "z", "x", "WITHSCORE") == b"*-1\r\n"
    assert c.raw("ZRANK", "none", "x") == b"$-1\r\n"
    assert c.other(resp=3).raw("ZRANK", "z", "b", "WITHSCORE") == b"*2\r\n:1\r\n,1.5\r\n"


def test_replies_in_resp3(c):
    d = c.other(resp=3)
    d("ZADD", "z", 1, "a", "2.5", "b")
    assert (d.raw("ZRANGE", "z", 0, -1, "WITHSCORES")
            == b"*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n")
    assert d.raw("ZSCORE", "z", "b") == b",2.5\r\n"
    assert d.raw("ZPOPMIN", "z") == b"*2\r\n$1\r\na\r\n,1\r\n"
    assert d.raw("ZPOPMIN", "z", 1) == b"*1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n"


def test_an_increment_shows_what_redis_computes(c):
    rng = random.Random(5)
    for n in range(300):
        shown = 0.0
        for _ in range(rng.randint(1, 12)):
            step = rng.choice([rng.uniform(-1, 1), rng.uniform(-1e6, 1e6), 0.1, 0.2, 1e300, -1e300,
                               1e-300, 1e17, rng.randint(-5, 5),
                               struct.unpack("d", rng.randbytes(8))[0]])
            if step != step or shown + step != shown + step:
                continue
            if rng.random() < 0.2:
                shown = step
                c("ZADD", "z", repr(step), n)
                continue
            shown += step
            assert float(c("ZINCRBY", "z", repr(step), n)) == shown
            assert float(c("ZSCORE", "z", n)) == shown


def test_infinities(c):
    c("ZADD", "z", "inf", "a", "-inf", "b")
    assert c("ZINCRBY", "z", 5, "a") == b"inf"
    assert c.error("ZINCRBY", "z", "-inf", "a") == "ERR resulting score is not a number (NaN)"
    assert c("ZRANGEBYSCORE", "z", "-inf", "(inf") == [b"b"]
    assert c("ZRANGEBYSCORE", "z", "(-inf", "inf") == [b"a"]


def test_ranges_against_a_plain_list(c):
    rng = random.Random(3)
    model = {}
    for _ in range(400):
        model[b"%d" % rng.randrange(300)] = rng.choice([0.5, 1, 2, 2, 3, -1, float("inf"), 1e-9])
    for m, s in model.items():
        c("ZADD", "z", s, m)
    rows = sorted((s, m) for m, s in model.items())
    for _ in range(300):
        a, b = rng.choice([-1, 0, 0.5, 1, 2, 3, 1e9]), rng.choice([-1, 0, 0.5, 1, 2, 3,
                                                                   float("inf")])
        low_open, high_open = rng.random() < 0.4, rng.random() < 0.4
        inside = [m for s, m in rows if (a < s or (a == s and not low_open))
                  and (s < b or (s == b and not high_open))]
        low, high = "(" * low_open + repr(a), "(" * high_open + repr(b)
        offset, count = rng.randrange(5), rng.choice([-1, 0, 1, 7])
        assert c("ZCOUNT", "z", low, high) == len(inside)
        assert (c("ZRANGEBYSCORE", "z", low, high, "LIMIT", offset, count)
                == inside[offset:][:count if count >= 0 else None])
        assert (c("ZREVRANGEBYSCORE", "z", high, low, "LIMIT", offset, count)
                == inside[::-1][offset:][:count if count >= 0 else None])
        i, j = rng.randint(-320, 320), rng.randint(-320, 320)
        first, last = (x + len(rows) if x < 0 else x for x in (i, j))
        assert c("ZRANGE", "z", i, j) == [m for _, m in rows][max(first, 0):max(last + 1, 0)]
        assert (c("ZRANGE", "z", i, j, "REV") == [m for _,
                                                  m in rows][::-1][max(first, 0):max(last + 1, 0)])
    for n, (_, m) in enumerate(rows):
        assert (c("ZRANK", "z", m), c("ZREVRANK", "z", m)) == (n, len(rows) - 1 - n)


def test_a_range_of_names_where_scores_differ_but_sort_alike(c):
    """Redis leaves open what that is, yet answers what is meant."""
    names = [b"", b"a", b"aa", b"b", b"b\0", b"c", b"\xff"]
    c("ZADD", "z", *[x for i, n in enumerate(names) for x in (i, n)])
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            assert c("ZRANGEBYLEX", "z", b"[" + a, b"[" + b) == names[i:j + 1]
            assert c("ZRANGEBYLEX", "z", b"(" + a, b"(" + b) == names[i + 1:j]
            assert c("ZLEXCOUNT", "z", b"[" + a, b"(" + b) == max(j - i, 0)
    assert (c("ZRANGESTORE", "t", "z", "[aa", "+", "BYLEX") == 5
            and c("ZRANGE", "t", 0, 0, "WITHSCORES") == [b"aa", b"2"])


def test_ranges_of_names(c):
    names = sorted(b"%x" % n for n in range(0, 600, 3)) + [b""]
    c("ZADD", "z", *[x for n in names for x in (7, n)])
    names.sort()
    rng = random.Random(4)
    for _ in range(200):
        a, b = (b"%x" % rng.randrange(600) for _ in range(2))
        inside = [n for n in names if a <= n < b]
        assert c("ZRANGEBYLEX", "z", b"[" + a, b"(" + b) == inside
        assert c("ZREVRANGEBYLEX", "z", b"(" + b, b"[" + a) == inside[::-1]
        assert c("ZLEXCOUNT", "z", b"(" + a, b"+") == sum(n > a for n in names)
        assert c("ZLEXCOUNT", "z", b"-", b"[" + a) == sum(n <= a for n in names)
    assert c("ZRANGEBYLEX", "z", "-", "(0") == [b""]
    assert c("ZREMRANGEBYLEX", "z", "-", "[f") == sum(n <= b"f" for n in names)
    assert c("ZRANGE", "z", 0, -1) == [n for n in names if n > b"f"]


def test_removals_end_with_the_key(c):
    for last in [("ZREM", "z", "a", "b"), ("ZPOPMIN", "z", 2), ("ZPOPMAX", "z", 7),
                 ("ZREMRANGEBYRANK", "z", 0, -1),
                 ("ZREMRANGEBYSCORE", "z", "-inf", "inf"), ("ZREMRANGEBYLEX", "z", "-", "+")]:
        c("ZADD", "z", 1, "a", 1, "b")
        c("EXPIRE", "z", 100)
        assert c.effects(*last) == 1
        assert c("EXISTS", "z") == 0
        c("ZADD", "z", 1, "a")
        assert c("TTL", "z") == -1
        c("DEL", "z")


def test_pops_at_both_ends(c):
    c("ZADD", "z", 1, "a", 2, "b", 3, "c", 4, "d")
    assert c("ZPOPMIN", "z") == [b"a", b"1"]
    assert c("ZPOPMAX", "z", 2) == [b"d", b"4", b"c", b"3"]
    assert c("ZPOPMAX", "z", 0) == []
    assert c("ZRANGE", "z", 0, -1) == [b"b"]


def test_a_write_that_changes_nothing_makes_no_op(c):
    c("ZADD", "z", 1, "a")
    for argv in [("ZADD", "z", "NX", 2, "a"), ("ZADD", "z", "XX", 2, "b"),
                 ("ZADD", "z", "GT", 1, "a"), ("ZREM", "z", "x"), ("ZREM", "none", "x"),
                 ("ZREMRANGEBYSCORE", "z", 5, 6), ("ZPOPMIN", "z", 0), ("ZPOPMIN", "none"),
                 ("ZADD", "none", "XX", 1, "a")]:
        assert c.effects(*argv) == 0, argv
    assert c.effects("ZADD", "z", 1, "a") == 1              # it stands against a concurrent ZREM


def test_of_another_type(c):
    c("SET", "s", 1)
    for argv in [("ZADD", "s", 1, "a"), ("ZINCRBY", "s", 1, "a"), ("ZREM", "s", "a"),
                 ("ZCARD", "s"), ("ZRANGE", "s", 0, 1), ("ZPOPMIN", "s"), ("ZRANK", "s", "a"),
                 ("ZREMRANGEBYRANK", "s", 0, 1), ("ZCOUNT", "s", 0, 1), ("ZSCORE", "s", "a"),
                 ("ZMSCORE", "s", "a")]:
        assert c.error(*argv).startswith("WRONGTYPE")


# ---- two replicas --------------------------------------------------------------------------------

class Two:
    def __init__(self):
        self.a, self.b = Local("a"), Local("b")

    def sync(self):
        sync(self.a, self.b)
        assert self.a.replica.digest() == self.b.replica.digest()

    def both(self):
        replies = [pairs_of(r("ZRANGE", "z", 0, -1, "WITHSCORES")) for r in (self.a, self.b)]
        assert replies[0] == replies[1]
        return replies[0]


def pairs_of(raw):
    parts = raw.split(b"\r\n")[2::2]
    return [(m.decode(), float(s)) for m, s in zip(parts[::2], parts[1::2])]


@pytest.fixture
def two():
    return Two()


def test_zst_1_adds_one_after_the_other(two):
    two.a("ZADD", "z", "1.1", "x")
    two.sync()
    two.b("ZADD", "z", "1.2", "y")
    two.sync()
    assert two.both() == [("x", 1.1), ("y", 1.2)]


def test_zst_2_concurrent_scores(two):
    two.a("ZADD", "z", "1.1", "x")
    two.b.later(5)
    two.b("ZADD", "z", "2.1", "x")
    assert two.a("ZSCORE", "z", "x") == b"$3\r\n1.1\r\n"
    assert two.b("ZSCORE", "z", "x") == b"$3\r\n2.1\r\n"
    two.a.later(5)
    two.sync()
    assert two.both() == [("x", 2.1)]


def test_zst_3_concurrent_increments(two):
    two.a("ZADD", "z", "1.1", "x")
    two.sync()
    for r in (two.a, two.b):
        assert r("ZINCRBY", "z", 1, "x") == b"$3\r\n2.1\r\n"
    two.sync()
    assert two.both() == [("x", 3.1)]


def test_zst_4_removal_and_increment(two):
    two.a("ZADD", "z", "4.1", "x")
    two.sync()
    two.a("ZREM", "z", "x")
    assert two.b("ZINCRBY", "z", 2, "x") == b"$3\r\n6.1\r\n"
    assert two.a("ZSCORE", "z", "x") == b"$-1\r\n"
    two.sync()
    (name, score), = two.both()
    assert (name, round(score, 12)) == ("x", 2)


@pytest.mark.parametrize("at_a, at_b, expected", [
    (("ZADD", "z", 5, "m"), ("ZINCRBY", "z", 1, "m"), [("m", 6)]),
    (("ZREM", "z", "m"), ("ZINCRBY", "z", 3, "m"), [("m", 3)]),
    # the score it had: an add is an add
    (("ZREM", "z", "m"), ("ZADD", "z", 1, "m"), [("m", 1)]),
    (("ZREM", "z", "m"), ("ZADD", "z", 8, "m"), [("m", 8)]),
    (("ZPOPMIN", "z"), ("ZPOPMIN", "z"), []),
    (("ZPOPMAX", "z"), ("ZADD", "z", 4, "n"), [("n", 4)]),
    (("ZREMRANGEBYSCORE", "z", "-inf", "inf"), ("ZINCRBY", "z", 2, "m"), [("m", 2)]),
    (("DEL", "z"), ("ZADD", "z", 2, "n"), [("n", 2)]),
    (("ZINCRBY", "z", "inf", "m"), ("ZINCRBY", "z", "-inf", "m"), [("m", 0)]),
    (("ZADD", "z", "INCR", 4, "m"), ("ZADD", "z", "INCR", 5, "m"), [("m", 10)])])
def test_rows(two, at_a, at_b, expected):
    two.a("ZADD", "z", 1, "m")
    two.sync()
    two.a(*at_a)
    two.b(*at_b)
    two.sync()
    assert two.both() == expected


def test_infinity_less_infinity_can_be_counted_on_from(two):
    two.a("ZINCRBY", "z", "inf", "m")
    two.b("ZINCRBY", "z", "-inf", "m")
    two.sync()
    assert two.a("ZINCRBY", "z", 5, "m") == b"$1\r\n5\r\n"
    two.sync()
    assert two.both() == [("m", 5)]


def test_the_order_holds_whatever_arrives(two):
    rng = random.Random(8)
    for iteration in range(60):
        for r in (two.a, two.b):
            for _ in range(rng.randrange(6)):
                m = rng.randrange(40)
                r(*rng.choice([("ZADD", "z", rng.randrange(5), m),
                               ("ZINCRBY", "z", rng.choice(["0.1", "1", "-1"]), m),
                               ("ZREM", "z", m),
                               ("ZPOPMIN", "z"), ("ZREMRANGEBYRANK", "z", 3, 5), ("DEL", "z"),
                               ("ZADD", "z", "CH", "GT", 3, m)][:5 if iteration % 9 else 7]))
            r.later(1)
        two.sync()
        rows = two.both()
        assert rows == sorted(rows, key=lambda x: (x[1], x[0]))
        for n, (m, _) in enumerate(rows):
            assert two.a("ZRANK", "z", m) == b":%d\r\n" % n


# ---- several sets --------------------------------------------------------------------------------

def test_combining_sets_and_sorted_sets(c):
    c("ZADD", "x", 1, "a", 2, "b", 3, "c")
    c("ZADD", "y", 10, "b", 20, "c", 30, "d")
    c("SADD", "s", "c", "e")
    assert (c("ZUNION", 3, "x", "y", "s", "WITHSCORES") == [b"a", b"1", b"e", b"1", b"b", b"12",
                                                            b"c", b"24", b"d", b"30"])
    assert (c("ZINTER", 2, "x", "y", "WEIGHTS", 2, 1, "AGGREGATE", "MAX", "WITHSCORES")
            == [b"b", b"10", b"c", b"20"])
    assert c("ZDIFF", 2, "x", "s", "WITHSCORES") == [b"a", b"1", b"b", b"2"]
    assert c("ZINTERCARD", 2, "x", "y") == 2
    assert c("ZINTERCARD", 2, "x", "y", "LIMIT", 1) == 1
    assert c("ZUNION", 2, "none", "x") == [b"a", b"b", b"c"]
    assert c.error("ZUNION", 0, "x") == "ERR at least 1 input key is needed for 'zunion' command"


def test_a_store_form_may_read_its_target_and_is_one_op(c):
    c("ZADD", "x", 1, "a", 2, "b", 3, "c")
    assert c.effects("ZUNIONSTORE", "x", 2, "x", "x") == 1
    assert pairs(c("ZRANGE", "x", 0, -1, "WITHSCORES")) == [(b"a", 2), (b"b", 4), (b"c", 6)]
    assert c.effects("ZRANGESTORE", "x", "x", 1, 2) == 1
    assert c("ZRANGE", "x", 0, -1) == [b"b", b"c"]
    c("SET", "t", "text")
    assert c("ZRANGESTORE", "t", "x", 5, "inf", "BYSCORE") == 1
    assert c("TYPE", "t") == b"zset"
    assert c("ZINTERSTORE", "t", 2, "t", "none") == 0
    assert c("EXISTS", "t") == 0


def test_pop_from_the_first_that_is_there(c):
    c("ZADD", "y", 1, "a", 2, "b", 3, "c")
    assert c("ZMPOP", 2, "x", "y", "MAX", "COUNT", 2) == [b"y", [[b"c", b"3"], [b"b", b"2"]]]
    assert c("ZMPOP", 1, "y", "MIN") == [b"y", [[b"a", b"1"]]]
    assert c.raw("ZMPOP", 2, "x", "y", "MIN") == b"*-1\r\n"


def test_random_members_and_iteration(c):
    c("ZADD", "z", *[x for n in range(1000) for x in (n + 0.5, n)])
    assert len(set(c("ZRANDMEMBER", "z", 700))) == 700
    flat = c("ZRANDMEMBER", "z", -50, "WITHSCORES")
    assert all(float(s) == int(m) + 0.5 for m, s in zip(flat[::2], flat[1::2]))
    found, cursor = {}, b"0"
    while True:
        cursor, flat = c("ZSCAN", "z", cursor)
        found.update(pairs(flat))
        if cursor == b"0":
            break
    assert found == {b"%d" % n: n + 0.5 for n in range(1000)}


def test_a_store_and_a_concurrent_add(two):
    two.a("ZADD", "z", 1, "m")
    two.a("ZADD", "o", 7, "n")
    two.sync()
    two.a("ZUNIONSTORE", "z", 1, "o")
    two.b("ZADD", "z", 3, "p")
    two.b("ZINCRBY", "z", 4, "m")
    two.sync()
    assert two.both() == [("p", 3), ("m", 4), ("n", 7)]

"""Numbers at their limits and over several replicas: sums are exact, what is shown is what one
Redis would show, and whatever a command makes is accepted by every replica."""
import itertools
import random
from fractions import Fraction

import pytest

from tests.commands.extremes import BEFORE, COMMANDS, choices
from tests.commands.run import Client, exchange
from tests.core.model import number, number_text, rounded
from tests.respclient import ReplyError

MOST, LEAST = 2**63 - 1, -2**63


@pytest.fixture
def ab():
    a, b = Client("a"), Client("b")
    exchange(a, b)
    return a, b


def both(ab, *argv):
    """The reply that both give; their states are the same."""
    a, b = ab
    exchange(a, b)
    told = a(*argv)
    assert b(*argv) == told and a.replica.digest() == b.replica.digest()
    a.replica.check()
    b.replica.check()
    return told


# ---- what is left after a cancellation -----------------------------------------------------------
@pytest.mark.parametrize("base", ["123456789", "1e15", "0.3", "-7.7", "1e-30", "1e4000",
                                  "9223372036854775807", "-1e20"])
@pytest.mark.parametrize("step", ["0.1", "-0.3", "5", "1e-17", "123456789.123456789", "1e25"])
def test_an_increment_that_the_deleter_had_not_seen_is_left_exactly(base, step):
    for remove, read, add in [(["DEL", "k"], ["GET", "k"], lambda c, v: c("INCRBYFLOAT", "k", v)),
                              (["FLUSHALL"], ["GET", "k"], lambda c, v: c("INCRBYFLOAT", "k", v)),
                              (["HDEL", "h", "f"], ["HGET", "h", "f"], lambda c,
                               v: c("HINCRBYFLOAT", "h", "f", v)),
                              (["DEL", "h"], ["HGET", "h", "f"], lambda c,
                               v: c("HINCRBYFLOAT", "h", "f", v))]:
        lone, a, b = Client("l"), Client("a"), Client("b")
        add(lone, step)
        for first in (a, b):                              # of the remover's own, and of another's
            exchange(a, b)
            add(first, base)
            exchange(a, b)
            a(*remove)
            add(b, step)
            assert both((a, b), *read) == lone(*read), remove
            a(*remove)


@pytest.mark.parametrize("base", ["123456789", "1e300", "inf", "0.3", "-1e-300"])
@pytest.mark.parametrize("step", ["0.1", "5", "-1e-310", "1.7e308"])
def test_an_increment_of_a_score_that_the_remover_had_not_seen_is_left_exactly(base, step):
    for first, remove in itertools.product((0, 1), (["ZREM", "z", "m"], ["DEL", "z"], ["FLUSHDB"])):
        ab = a, b = Client("a"), Client("b")
        exchange(a, b)
        ab[first]("ZINCRBY", "z", base, "m")
        exchange(a, b)
        a(*remove)
        b("ZINCRBY", "z", step, "m")
        assert float(both(ab, "ZSCORE", "z", "m")) == float(step)
    a, b = Client("a"), Client("b")
    a("ZADD", "z", base, "m")
    exchange(a, b)
    a("ZREM", "z", "m")
    b("ZINCRBY", "z", step, "m")
    assert float(both((a, b), "ZSCORE", "z", "m")) == float(step)


def test_a_set_replaces_what_it_saw_and_the_rest_stays_on_top(ab):
    a, b = ab
    a("INCRBYFLOAT", "k", "123456789.1")
    exchange(a, b)
    a("SET", "k", "100")
    b("INCRBYFLOAT", "k", "0.1")
    assert both(ab, "GET", "k") == b"100.1"


def test_a_set_that_keeps_the_deadline_keeps_that_there_is_none(ab):
    """A's PERSIST is the later word on the deadline, and its SET takes the place of another
    type."""
    a, b = ab
    for command in (("HSET", "k", "f", "v"), ("EXPIRE", "k", 100)):
        a(*command)
    exchange(a, b)
    b("EXPIRE", "k", 5)
    a.now += 1
    a("PERSIST", "k")
    a("SET", "k", "x", "KEEPTTL")
    assert both(ab, "TTL", "k") == -1


def test_a_hidden_string_that_goes_leaves_its_word_that_there_is_no_deadline(ab):
    """The SET is the later word on the deadline; a hash of B's hides it, and a write to that hash
    removes it."""
    a, b = ab
    c = Client("c")
    a("HSET", "k", "f", "v")
    exchange(a, b, c)
    c("EXPIRE", "k", 5)
    late = c.replica.take_ops()
    b("HSET", "k", "g", "v")
    a.now += 1
    a("SET", "k", "x")
    assert both(ab, "TYPE", "k") == b"hash"
    a("HSET", "k", "h", "v")
    a.replica.receive(late)
    b.replica.receive(late)
    assert both(ab, "TTL", "k") == -1


# ---- counters of one process ---------------------------------------------------------------------
ADDS = {"k": (["INCRBY", "k"], [], ["GET", "k"]),
        "h": (["HINCRBY", "h", "f"], [], ["HGET", "h", "f"]),
        "z": (["ZINCRBY", "z"], ["m"], ["ZSCORE", "z", "m"])}


@pytest.mark.parametrize("key", ADDS)
def test_a_counter_of_one_process_takes_as_little_as_a_number(ab, key):
    """Whatever it was before, and however it came."""
    (name, after, read), (a, b) = ADDS[key], ab
    plain = {"k": ["SET", "k", 5], "h": ["HSET", "h", "f", 5], "z": ["ZADD", "z", 5, "m"]}[key]
    one = Client("c")
    one(*plain)
    a(*name, 2, *after)
    a(*name, 3, *after)
    assert both(ab, *read) == b"5" and both(ab, "MEMORY", "USAGE", key) <= one(
        "MEMORY", "USAGE", key) + 8
    alone, size = a.replica.inspect(0, key.encode()), a("MEMORY", "USAGE", key)
    assert b.replica.inspect(0, key.encode()) == alone
    a("EXPIRE", key, 100)
    a("PERSIST", key)
    a("MULTI")
    a(*name, 1, *after)
    a(*name, -1, *after)
    a("EXEC")
    assert both(ab, *read) == b"5"
    b(*name, 4, *after)
    assert both(ab, *read) == b"9" and both(ab, "MEMORY", "USAGE", key) > size
    a("DEL", key)
    b(*name, 1, *after)
    assert both(ab, *read) == b"1"
    a("FLUSHALL")
    b(*name, 1, *after)
    assert both(ab, *read) == b"1"


@pytest.mark.parametrize("key", ADDS)
@pytest.mark.parametrize("edge", [(1 << 23) - 1, -(1 << 23), (1 << 53) - 1])
@pytest.mark.parametrize("place", [0, 255, 256, 300])
def test_a_counter_of_one_process_outgrows_its_room(ab, key, edge, place):
    """Of 24 bits of total, and of 8 for the place of its first increment in an op."""
    (name, after, read), (a, b) = ADDS[key], ab
    a("MULTI")
    for i in range(place):
        a("INCR", i)
    a(*name, edge, *after)
    a("EXEC")
    if key == "k":
        assert a.replica.inspect(0, b"k")["counter_entries"][0]["run"][1] == place
    for step in 1, -1, -1, 1:
        assert int(both(ab, *read)) == edge
        assert a.replica.inspect(0, key.encode()) == b.replica.inspect(0, key.encode())
        a(*name, step, *after)
        edge += step
    b("DEL", key)
    a(*name, 7, *after)
    assert both(ab, *read) == b"8"         # with the last 1, which b had not seen


@pytest.mark.parametrize("key", ADDS)
def test_an_increment_beside_a_removal_of_the_counter_of_one_process(ab, key):
    (name, after, read), (a, b) = ADDS[key], ab
    one_of_it = {"k": ["GETDEL", "k"], "h": ["HDEL", "h", "f"], "z": ["ZREM", "z", "m"]}[key]
    for remove in ["DEL", key], ["FLUSHALL"], one_of_it, ["RENAME", key, "other"]:
        for first, second in (a, b), (b, a):
            first(*name, 7, *after)
            assert both(ab, *read) == b"7"
            second(*remove)
            first(*name, 2, *after)
            assert both(ab, *read) == b"2", remove
            first(*name, 0.5 if key == "z" else 1, *after)
            assert both(ab, *read) == (b"2.5" if key == "z" else b"3")
            first("FLUSHALL")
            assert both(ab, "DBSIZE") == 0


# ---- sums ----------------------------------------------------------------------------------------
def test_totals_beyond_64_bits_are_exact(ab):
    a, b = ab
    for _ in range(3):
        a("INCRBY", "k", MOST)
        b("INCRBY", "k", -MOST)
        a("HINCRBY", "h", "f", 9 - MOST)
        b("HINCRBY", "h", "f", MOST - 10)
        assert both(ab, "GET", "k") == b"0"
    assert [a("INCR", "k") for _ in range(5)] == [1, 2, 3, 4, 5]
    assert both(ab, "GET", "k") == b"5" and both(ab, "HGET", "h", "f") == b"-3"
    a("DEL", "k")
    b("INCRBY", "k", 7)
    assert both(ab, "GET", "k") == b"7"


def test_what_is_answered_is_what_is_read_at_the_limit(ab):
    a, b = ab
    a("INCRBY", "k", MOST)
    b("INCRBY", "k", MOST)
    assert both(ab, "GET", "k") == b"%d" % MOST
    assert a.error("INCR", "k") == "ERR increment or decrement would overflow"
    assert a("DECR", "k") == MOST - 1 and both(ab, "GET", "k") == b"%d" % (MOST - 1)
    assert (b("INCR", "k") == MOST and b("DECRBY", "k", 5) == MOST - 5 and both(ab, "GET", "k")
            == b"%d" % (MOST - 5))
    a("INCRBY", "k", -1)
    # more than one client's view: the sum again
    b("INCRBY", "k", -1)
    assert both(ab, "GET", "k") == b"%d" % MOST


def test_increments_beyond_64_bits_add_up_where_they_are_floats(ab):
    a, b = ab
    assert a("INCRBYFLOAT", "k", "1e19") == b("INCRBYFLOAT", "k", "1e19") == b"10000000000000000000"
    a("HINCRBYFLOAT", "h", "f", "-3e19")
    b("HINCRBYFLOAT", "h", "f", "1e19")
    assert (both(ab, "GET", "k") == b"20000000000000000000" and both(ab, "HGET", "h", "f")
            == b"-20000000000000000000")
    assert (b("INCRBYFLOAT", "k", "0.5") == b"20000000000000000000" and both(ab, "GET", "k")
            == b"20000000000000000000")
    a("DEL", "k")
    b("INCRBYFLOAT", "k", "0.25")
    assert both(ab, "GET", "k") == b"0.25"


def test_a_number_larger_than_the_type_can_be_taken_from_again(ab):
    a, b = ab
    a("INCRBYFLOAT", "k", "1.1e4932")
    b("INCRBYFLOAT", "k", "1.1e4932")
    assert len(both(ab, "GET", "k")) == 4933
    assert a.error("INCRBYFLOAT", "k", "1.1e4932") == "ERR increment would produce NaN or Infinity"
    a("INCRBYFLOAT", "k", "-1.1e4932")
    b("INCRBYFLOAT", "k", "-1.1e4932")
    assert both(ab, "GET", "k") == b"0"


def test_the_order_of_arrival_does_not_show():
    steps = ["0.1", "123456789.1", "-0.3", "1e20", "-1e20", "7", "1e-10"]
    clients = [Client(str(i)) for i in range(len(steps))]
    exchange(*clients)
    ops = []
    for c, step in zip(clients, steps):
        c("INCRBYFLOAT", "k", step)
        c("ZINCRBY", "z", step, "m")
        ops.append(c.replica.take_ops())
    shown = set()
    for order in itertools.islice(itertools.permutations(range(len(steps))), 0, 5040, 97):
        c = Client("reader")
        for name in clients:
            c.replica.declare(name.replica.id, name.replica.epoch)
        for i in order:
            c.replica.receive(ops[i])
        shown.add((c("GET", "k"), c("ZSCORE", "z", "m"), c.replica.digest()))
    assert len(shown) == 1
    value, score, _ = shown.pop()
    assert (value == number_text(rounded(sum(number(s.encode()) for s in steps)))
            and float(score) == float(sum(Fraction(float(s)) for s in steps)))


# ---- what is shown -------------------------------------------------------------------------------
def test_every_replica_shows_what_the_client_was_shown(ab):
    a, b = ab
    a("INCRBYFLOAT", "k", "123456789.1")
    for _ in range(20):
        for c in ab:
            told = c("INCRBYFLOAT", "k", "0.1")
            assert both(ab, "GET", "k") == told
            told = c("ZINCRBY", "z", "0.1", "m")
            assert both(ab, "ZSCORE", "z", "m") == told
    assert told == b"4.000000000000002"                    # as forty additions of doubles round it
    a("ZREM", "z", "m")
    b("ZINCRBY", "z", "0.1", "m")
    assert both(ab, "ZSCORE", "z", "m") == b"0.1"


def test_a_shown_number_counts_again_when_what_came_between_is_gone():
    a, b, c, d = (Client(name) for name in "abcd")
    exchange(a, b, c, d)
    for _ in range(9):
        a("ZINCRBY", "z", "0.1", "m")
    b("ZINCRBY", "z", "0.1", "m")
    of_a, of_b = a.replica.take_ops(), b.replica.take_ops()
    c.replica.receive(of_b)
    c("ZREM", "z", "m")                                     # b's alone
    of_c = c.replica.take_ops()
    for ops, score in ((of_a, b"0.8999999999999999"), (of_b, b"1"), (of_c, b"0.8999999999999999")):
        d.replica.receive(ops)
        assert d("ZSCORE", "z", "m") == score
        d.replica.check()


# ---- infinities ----------------------------------------------------------------------------------
def test_infinite_scores(ab):
    a, b = ab
    a("ZINCRBY", "z", "inf", "m")
    b("ZINCRBY", "z", "-inf", "m")
    assert both(ab, "ZSCORE", "z", "m") == b"0"
    assert a("ZINCRBY", "z", "-inf", "m") == b"-inf" and both(ab, "ZSCORE", "z", "m") == b"-inf"
    assert a.error("ZINCRBY", "z", "inf", "m") == "ERR resulting score is not a number (NaN)"
    assert (b("ZINCRBY", "z", "5", "m") == b"-inf" and both(ab, "ZRANGE", "z", 0, -1, "WITHSCORES")
            == [b"m", b"-inf"])
    a("ZREM", "z", "m")
    b("ZINCRBY", "z", "7", "m")
    assert both(ab, "ZSCORE", "z", "m") == b"7"
    assert (a("ZINCRBY", "z", "1.7e308", "m") and a("ZINCRBY", "z", "1.7e308", "m") == b"inf"
            and both(ab, "ZSCORE", "z", "m") == b"inf")
    assert b("ZINCRBY", "z", "-1.7e308", "m") == b"inf" and both(ab, "ZSCORE", "z", "m") == b"inf"


# ---- what is made is accepted --------------------------------------------------------------------
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("before", BEFORE)
def test_whatever_a_command_makes_is_accepted(command, before):
    """Twice in one replica, so that the second meets what the first left, and once in another that
    has not seen these."""
    every = list(itertools.product(*choices(command)))
    for argv in random.Random(command).sample(every, min(len(every), 40)):
        a, b, late = Client("a"), Client("b"), Client("late")
        exchange(a, b, late)
        for other in BEFORE[before]:
            a(*other.split())
        made = a.replica.take_ops()
        if made:
            b.replica.receive(made)
        for c in (a, a, b):
            try:
                c(*argv)
            except ReplyError as e:
                assert not str(e).startswith("ERR a result of this command")
        made += (there := b.replica.take_ops()) + (here := a.replica.take_ops())
        late.replica.receive(made)
        if here:
            b.replica.receive(here)
        if there:
            a.replica.receive(there)
        assert a.replica.digest() == b.replica.digest() == late.replica.digest(), argv
        for c in (a, b, late):
            c.replica.check()

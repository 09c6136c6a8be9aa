"""Where writes come from: what the kernel samples, and what is advised because of it."""
import itertools
import random

import pytest

from crdtredis import advice
from crdtredis._core import halve_origins
from tests.commands.run import Client, exchange

ONE_IN = 64
NUMBER = itertools.count()


def rows(c: Client) -> dict[tuple[int, bytes], dict]:
    return {(row["db"], row["prefix"]): row for row in c.replica.origins()["rows"]}


def lines(c: Client) -> list[bytes]:
    return c("CRDT.ADVICE")


def write(c: Client, prefix: str, n: int) -> None:
    """n writes to keys of this prefix, as members of new sets."""
    for i in range(0, n, 500):
        c("SADD", f"{prefix}{next(NUMBER)}", *range(min(500, n - i)))


def test_the_replicas_of_a_prefix():
    """As far as a sample goes: its 400 are right within 5 %, about."""
    a, b = Client("a"), Client("b")
    for c, carts, stats in ((a, 24_500, 10_000), (b, 500, 10_000)):
        write(c, "cart:", carts)
        write(c, "stats:", stats)
        exchange(a, b)
    for c in (a, b):
        found = c.replica.origins()
        assert found["one_in"] == ONE_IN and abs(found["sampled"] - 45_000 / ONE_IN) < 100
        cart, stats = rows(c)[0, b"cart:"], rows(c)[0, b"stats:"]
        assert sum(cart["by"].values()) == cart["sampled"]
        assert cart["sampled"] + stats["sampled"] == found["sampled"]
        assert .95 < cart["by"]["a"] / cart["sampled"] < 1
        assert .4 < stats["by"]["a"] / stats["sampled"] < .6


def test_no_rhythm_of_writes_hides_any():
    a = Client("a")
    for _ in range(800):                            # of ONE_IN effects each
        a("SADD", "often:", *range(ONE_IN - 2))
        a("SET", "rare:", "v")
        a("DEL", "often:")
    assert 4 <= rows(a)[0, b"rare:"]["sampled"] <= 25


def test_what_is_not_counted():
    """What stays at home, what removes a key, what the log brings back."""
    a = Client("a")
    a.replica.local_keys = [b"home:*"]
    write(a, "home:", 5000)
    for i in range(3000):
        a("SET", f"k:{i}", "v")
    before = rows(a)
    for i in range(3000):
        a("DEL", f"k:{i}")
    assert rows(a) == before and list(before) == [(0, b"k:")]
    ops, again = a.replica.take_ops(), Client("a", epoch=1)
    again.replica.recovering = True
    again.replica.receive(ops)
    assert again.replica.origins() == {"sampled": 0, "one_in": ONE_IN, "rows": []}


def test_however_many_prefixes_there_are():
    """The frequent one stays, and is not said to have what others had."""
    a = Client("a")
    for i in range(400):
        write(a, f"{i}:", 200)
        write(a, "often:", 100)
        a("SELECT", i % 16)
    found = a.replica.origins()
    assert len(found["rows"]) == 128 and found["sampled"] > 1000
    often = sum(row["sampled"] for (_, prefix), row in rows(a).items() if prefix == b"often:")
    assert .5 * 40_000 / ONE_IN < often < 1.2 * 40_000 / ONE_IN
    assert len(rows(Client("b"))) == 0


def test_more_replicas_than_are_told_apart():
    clients = [Client(f"r{i}") for i in range(11)]
    for c in clients:
        write(c, "k:", 2000)
        exchange(clients[0], c)
    by = rows(clients[0])[0, b"k:"]["by"]
    assert len(by) == 9 and by[""] > 0 and sum(by.values()) == rows(clients[0])[0, b"k:"]["sampled"]


def test_older_writes_count_for_less():
    a, b = Client("a"), Client("b")
    write(a, "k:", 20_000)
    before = rows(a)[0, b"k:"]["by"]["a"]
    halve_origins(a.replica)
    found = a.replica.origins()
    assert found["sampled"] == before // 2 == rows(a)[0, b"k:"]["by"]["a"]
    write(b, "k:", 10_000)
    exchange(a, b)
    by = rows(a)[0, b"k:"]["by"]
    assert .7 < by["a"] / by["b"] < 1.4
    for _ in range(40):
        halve_origins(a.replica)
    assert a.replica.origins()["sampled"] == 0 and lines(a) == []


# ---- what is advised -----------------------------------------------------------------------------


def test_a_prefix_that_one_replica_writes():
    a, b = Client("eu-1"), Client("us-1")
    for c, carts in (a, 9800), (b, 200):
        write(c, "cart:", carts)
        write(c, "stats:", 5000)
        exchange(a, b)
    for c in (a, b):
        line, = lines(c)
        assert b" writes to 'cart:*' (db 0) come from eu-1, which makes " in line
        assert 93 <= int(line.split()[0]) <= 99 and b"let all who write these keys do so" in line
    x, = a("CRDT.ADVICE", "VERBOSE")
    x = dict(zip(x[::2], x[1::2], strict=True))
    assert (x[b"kind"], x[b"db"], x[b"keys"], x[b"replica"]) == (b"home", 0, b"'cart:*'", b"eu-1")
    assert line == x[b"evidence"] + b": " + x[b"advice"]
    assert a("CRDT.ADVICE", 0) == [] and a("CRDT.ADVICE", 1) == [line]
    for wrong in (("x",), (-1,), (1, 2), ("VERBOSE", 1)):
        assert a.error("CRDT.ADVICE", *wrong) in (
            "ERR syntax error", "ERR value is not an integer or out of range")


def test_who_writes_nearly_all_makes_no_prefix_special():
    """And a lone replica is told nothing, nor is anybody of a few writes."""
    a, b = Client("a"), Client("b")
    write(a, "cart:", 10_000)
    write(a, "stats:", 10_000)
    assert lines(a) == []
    write(b, "stats:", 500)
    exchange(a, b)
    assert lines(a) == []
    for c in (a, b):
        write(c, "both:", 20_000)
    write(a, "few:", 300)
    exchange(a, b)
    assert b"few:" not in b"".join(lines(a)) and b"cart:" in b"".join(lines(a))


def test_a_hot_list_with_inserts_in_its_middle():
    a, chance = Client("a"), random.Random(1)
    for name in ("queue:1", "plan:1", "new:1"):
        a("RPUSH", name, *range(200))
    for i in range(4000):
        a("RPUSH", "queue:1", f"x{i}"), a("LPUSH", "queue:1", f"y{i}")
        a("LINSERT", "plan:1", "AFTER", chance.randrange(199), f"x{i}")
        a("LPOP", "queue:1"), a("LSET", "plan:1", -1, 199)
    queue, plan = rows(a)[0, b"queue:"], rows(a)[0, b"plan:"]
    assert queue["inside"] == 0 and queue["inserts"] > 80
    assert .8 * plan["inserts"] < plan["inside"] > 40 and 3000 < plan["longest"] <= 4200
    line, = lines(a)
    assert int(line.split()[0]) > 80 and b"lists 'plan:*' (db 0) here" in line
    assert b"a sorted set" in line
    # elements that others push while some are pushed here come between, and nobody put them there
    b = Client("b")
    exchange(a, b)
    for _ in range(40):
        for c in (a, b):
            c("RPUSH", "both:1", *range(100))
        exchange(a, b)
    assert rows(a)[0, b"both:"]["inside"] == 0 and rows(b)[0, b"both:"]["inside"] == 0
    assert 30 < rows(a)[0, b"both:"]["inserts"] < 100


def test_integers_that_meet():
    """As CRDT.CONFLICTS TOP has it, and before what only takes time."""
    a, b = Client("a"), Client("b")
    for i in range(7):
        for c in (a, b):
            c("SET", f"stats:{i}", f"{i + 1}{ord(c.replica.id)}")
            c("HSET", f"page:{i}", "hits", f"{i + 1}{ord(c.replica.id)}")
            c("SET", f"text:{i}", c.replica.id)
    exchange(a, b)
    for c in (a, b):
        write(c, "x:" if c is a else "y:", 10_000)
    exchange(a, b)
    found = lines(a)
    assert found[0] == (b"7 of 7 concurrent writes to 'stats:*' (string, db 0; a, b) were of "
                        b"integers, of which one was lost each time: INCRBY in place of SET keeps "
                        b"both")
    assert b"HINCRBY in place of HSET" in found[1] and len(found) == 4
    assert all(b" come from " in line for line in found[2:])


@pytest.mark.parametrize("prefix, cut, text", [(b"a:", True, "'a:*'"), (b"\xff\n", False,
                                                                         r"'\xff\n'")])
def test_keys_are_shown_as_texts(prefix, cut, text):
    assert advice.shown(prefix, cut) == text

"""The public contract of concurrent commands on hashes, sets, sorted sets and lists, where types
clash, and of their deadlines and transactions: every row of the table and every worked example, on
three real server processes (see test_semantics.py).
"""
import random
import time
from collections import Counter
from itertools import combinations

import pytest

from tests.real.cluster import until
from tests.respclient import ReplyError

# seconds between two commands of which one must have the later timestamp
LATER = 0.005
FAR = 4_000_000_000                             # a deadline, in seconds since 1970


def seed(w, *commands):
    """What all three have before they part."""
    for argv in commands:
        w.A(*argv)
    w.S()
    w.apart()


def fields(w, key):
    flat = w.A("HGETALL", key)
    for s in w.mesh:
        assert s("HLEN", key) == len(flat) // 2
    return {f: w.all("HGET", key, f) for f in flat[::2]}


def members(w, key):
    found = [set(s("SMEMBERS", key)) for s in w.mesh]
    assert found[0] == found[1] == found[2]
    return found[0]


def scores(w, key):
    flat = w.all("ZRANGE", key, 0, -1, "WITHSCORES")
    return dict(zip(flat[::2], flat[1::2]))


def elements(w, key):
    return w.all("LRANGE", key, 0, -1)


def in_order(w, first_is_later, first, second):
    """Two commands (server, argv ...) of which the second, or the first, has the later
    timestamp."""
    for server, *argv in [second, first] if first_is_later else [first, second]:
        server(*argv)
        time.sleep(LATER)


# ---- hashes --------------------------------------------------------------------------------------

def test_HSH_1_both_fields(w):
    w.apart()
    w.A("HSET", "h", "f1", "a")
    w.B("HSET", "h", "f2", "b")
    assert w.A("HLEN", "h") == 1
    w.S()
    assert fields(w, "h") == {b"f1": b"a", b"f2": b"b"}


@pytest.mark.parametrize("a_is_later", [True, False])
def test_hash_field_the_later_write_wins(w, a_is_later):
    seed(w, ("HSET", "h", "f", "old", "g", "1"))
    in_order(w, a_is_later, (w.A, "HSET", "h", "f", "a"), (w.B, "HSET", "h", "f", "b"))
    w.S()
    assert fields(w, "h") == {b"f": b"a" if a_is_later else b"b", b"g": b"1"}


def test_hash_counters_add_up(w):
    seed(w, ("HSET", "h", "f", "10"))
    assert w.A("HINCRBY", "h", "f", 1) == 11 and w.B("HINCRBY", "h", "f", 1) == 11
    w.C("HINCRBYFLOAT", "h", "g", "0.5")
    w.A("HINCRBY", "h", "g", 2)
    w.S()
    assert fields(w, "h") == {b"f": b"12", b"g": b"2.5"}


def test_hdel_leaves_what_it_did_not_see(w):
    seed(w, ("HSET", "h", "f", "old", "keep", "1"), ("HINCRBY", "h", "n", 10))
    assert w.A("HDEL", "h", "f", "n") == 2
    w.B("HSET", "h", "f", "v")
    assert w.B("HINCRBY", "h", "n", 3) == 13
    w.S()
    assert fields(w, "h") == {b"f": b"v", b"n": b"3", b"keep": b"1"}


def test_HFT_1_the_deadline_of_a_field(w):
    seed(w, ("HSET", "h", "f", "1", "g", "1"))
    assert w.A("HEXPIRE", "h", 100, "FIELDS", 1, "f") == [1]
    assert w.B("HINCRBY", "h", "f", 1) == 2
    assert w.C("HPEXPIRE", "h", 1, "FIELDS", 1, "g") == [1]
    w.S()
    assert fields(w, "h") == {b"f": b"2"}
    assert all(95 < ttl <= 100 and gone == -2
               for ttl, gone in (s("HTTL", "h", "FIELDS", 2, "f", "g") for s in w.mesh))


# ---- sets ----------------------------------------------------------------------------------------

def test_SET_1_both_members(w):
    w.apart()
    w.A("SADD", "s", "a")
    w.B("SADD", "s", "b")
    w.S()
    assert members(w, "s") == {b"a", b"b"}


def test_SET_2(w):
    seed(w, ("SADD", "s", "a", "b"))
    assert w.A("SREM", "s", "a") == 1 and w.A("SREM", "s", "c") == 0
    w.B("SADD", "s", "c")
    w.S()
    assert members(w, "s") == {b"b", b"c"}


def test_SET_3_delete_and_add(w):
    seed(w, ("SADD", "s", "e1"))
    w.A("SADD", "s", "e2")
    w.B("DEL", "s")
    assert w.A("SCARD", "s") == 2 and w.B("SCARD", "s") == 0
    w.S()
    assert members(w, "s") == {b"e2"}


def test_SET_4_add_wins(w):
    seed(w, ("SADD", "s", "x"))
    assert w.A("SREM", "s", "x") == 1
    # Redis answers 0: it is there. The add counts all the same
    w.B("SADD", "s", "x")
    w.S()
    assert members(w, "s") == {b"x"}


def test_spop_of_the_same_member(w):
    seed(w, ("SADD", "s", "only"))
    assert w.A("SPOP", "s") == w.B("SPOP", "s") == b"only"
    w.S()
    assert w.all("EXISTS", "s") == 0


# ---- sorted sets ---------------------------------------------------------------------------------

def test_ZST_1(w):
    w.A("ZADD", "z", "1.1", "x")
    w.S()
    w.B("ZADD", "z", "1.2", "y")
    w.S()
    assert w.all("ZRANGE", "z", 0, -1) == [b"x", b"y"]


@pytest.mark.parametrize("b_is_later", [True, False])
def test_ZST_2_the_later_score(w, b_is_later):
    w.apart()
    in_order(w, not b_is_later, (w.A, "ZADD", "z", "1.1", "x"), (w.B, "ZADD", "z", "2.1", "x"))
    assert float(w.A("ZSCORE", "z", "x")) == 1.1 and float(w.B("ZSCORE", "z", "x")) == 2.1
    w.S()
    assert float(w.all("ZSCORE", "z", "x")) == (2.1 if b_is_later else 1.1)


def test_ZST_3_increments_add_up(w):
    seed(w, ("ZADD", "z", "1.1", "x"))
    w.A("ZINCRBY", "z", 1, "x")
    w.B("ZINCRBY", "z", 1, "x")
    w.S()
    assert float(w.all("ZSCORE", "z", "x")) == pytest.approx(3.1, abs=1e-12)


def test_ZST_4_removal_takes_back_what_it_saw(w):
    seed(w, ("ZADD", "z", "4.1", "x"))
    w.A("ZREM", "z", "x")
    w.B("ZINCRBY", "z", 2, "x")
    assert w.A("ZSCORE", "z", "x") is None and float(w.B("ZSCORE", "z", "x")) == pytest.approx(6.1)
    w.S()
    assert float(w.all("ZSCORE", "z", "x")) == 2


@pytest.mark.parametrize("before", [None, "10"])
def test_zadd_and_zincrby(w, before):
    seed(w, *[("ZADD", "z", before, "m")] * (before is not None))
    w.A("ZADD", "z", 5, "m")
    w.B("ZINCRBY", "z", 1, "m")
    w.S()
    assert scores(w, "z") == {b"m": b"6"}


def test_zrem_and_zadd(w):
    seed(w, ("ZADD", "z", 1, "m", 2, "other"))
    w.A("ZREM", "z", "m")
    w.B("ZADD", "z", 3, "m")
    w.S()
    assert w.all("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"other", b"2", b"m", b"3"]


def test_infinity_less_infinity_is_0(w):
    seed(w, ("ZADD", "z", 1, "low", 2, "m"))
    w.A("ZINCRBY", "z", "inf", "m")
    w.B("ZINCRBY", "z", "-inf", "m")
    w.S()
    assert w.all("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"m", b"0", b"low", b"1"]


# ---- lists ---------------------------------------------------------------------------------------

def test_LST_1(w):
    w.A("LPUSH", "l", "hello")
    w.S()
    w.B("LPUSH", "l", "world")
    w.S()
    assert elements(w, "l") == [b"world", b"hello"]


@pytest.mark.parametrize("where", ["AFTER", "BEFORE"])
@pytest.mark.parametrize("around", [["x"], ["p", "x", "q"]])
def test_LST_2_inserts_beside_one_element(w, where, around):
    seed(w, ("RPUSH", "l", *around))
    w.A("LINSERT", "l", where, "x", "y1")
    w.B("LINSERT", "l", where, "x", "y2")
    w.S()
    found = elements(w, "l")
    at = found.index(b"x")
    assert set(found[at + 1:at + 3] if where == "AFTER" else found[at - 2:at]) == {b"y1", b"y2"}
    assert [e for e in found if e not in (b"y1", b"y2")] == [e.encode() for e in around]


@pytest.mark.parametrize("push", ["LPUSH", "RPUSH"])
def test_LST_3_delete_and_push(w, push):
    seed(w, ("LPUSH", "l", "x"))
    w.A(push, "l", "y")
    w.B("DEL", "l")
    w.S()
    assert elements(w, "l") == [b"y"]


def test_LST_4_pops_of_one_element(w):
    w.A("LPUSH", "l", "x", "y", "z")
    w.S()
    assert w.B("RPOP", "l") == b"x"
    w.S()
    assert w.A("RPOP", "l") == b"y"
    w.S()
    w.apart()
    assert w.A("RPOP", "l") == w.B("RPOP", "l") == b"z"
    w.S()
    assert w.all("EXISTS", "l") == 0


@pytest.mark.parametrize("push", ["LPUSH", "RPUSH"])
@pytest.mark.parametrize("singly", [True, False])
@pytest.mark.parametrize("before", [[], ["x"]])
def test_LST_5_runs_do_not_interleave(w, push, singly, before):
    seed(w, *[("RPUSH", "l", *before)] * bool(before))
    for i in range(3 if singly else 1):
        for s, name in ((w.A, "a"), (w.B, "b")):
            s(push, "l", *([f"{name}{i + 1}"] if singly else [f"{name}1", f"{name}2", f"{name}3"]))
    w.S()
    a, b = [b"a1", b"a2", b"a3"], [b"b1", b"b2", b"b3"]
    found = [e for e in elements(w, "l") if e != b"x"]
    assert found in ((a + b, b + a) if push == "RPUSH" else (a[::-1] + b[::-1], b[::-1] + a[::-1]))
    if before:
        assert elements(w, "l")[0 if push == "RPUSH" else -1] == b"x"


def test_pushes_at_both_ends(w):
    seed(w, ("RPUSH", "l", "m"))
    w.A("RPUSH", "l", "r1", "r2")
    w.B("LPUSH", "l", "h1", "h2")
    w.C("LPUSH", "l", "g")
    w.C("RPUSH", "l", "s")
    w.S()
    found = elements(w, "l")
    at = found.index(b"m")
    assert (found[:at] in ([b"g", b"h2", b"h1"], [b"h2", b"h1", b"g"])
            and found[at + 1:] in ([b"r1", b"r2", b"s"], [b"s", b"r1", b"r2"]))


def test_LST_6_a_queue_loses_nothing_and_leaves_no_memory(w):
    w.A("RPUSH", "q", *range(1000))
    w.S()
    popped = []
    for i in range(1000, 2000):
        popped.append(int(w.B("LPOP", "q")))
        w.A("RPUSH", "q", i)
    w.S()
    assert popped == list(range(1000))
    assert [int(e) for e in elements(w, "q")] == list(range(1000, 2000))
    w.C("RPUSH", "fresh", *range(1000, 2000))
    w.S()
    # elements that came one by one may be packed less tightly than those that came at once
    for s in w.mesh:
        assert (s("MEMORY", "USAGE", "q", "SAMPLES", 0) <= 1.5 * s("MEMORY", "USAGE", "fresh",
                                                                   "SAMPLES", 0))
    while w.B("LPOP", "q", 100):
        pass
    w.S()
    assert w.all("EXISTS", "q") == 0


@pytest.mark.parametrize("removal", [("LREM", "l", 0, "x"), ("LTRIM", "l", 1, 0),
                                     ("LTRIM", "l", 1, 1), ("LPOP", "l", 10)])
@pytest.mark.parametrize("push", ["LPUSH", "RPUSH"])
def test_removals_leave_pushed_elements(w, removal, push):
    seed(w, ("RPUSH", "l", "x", "y", "x"))
    w.A(*removal)
    left = w.A("LRANGE", "l", 0, -1)
    w.B(push, "l", "x", "new")
    w.S()
    found = elements(w, "l")
    assert sorted(found) == sorted([*left, b"x", b"new"])
    assert [e for e in found if e == b"y"] == [e for e in left if e == b"y"]


@pytest.mark.parametrize("a_is_later", [True, False])
def test_lset_the_later_value(w, a_is_later):
    seed(w, ("RPUSH", "l", "x", "y", "z"))
    in_order(w, a_is_later, (w.A, "LSET", "l", 1, "a"), (w.B, "LSET", "l", -2, "b"))
    w.S()
    assert elements(w, "l") == [b"x", b"a" if a_is_later else b"b", b"z"]


@pytest.mark.parametrize("removal", [("LREM", "l", 1, "y"), ("LTRIM", "l", 0, 0), ("RPOP", "l", 2),
                                     ("DEL", "l")])
@pytest.mark.parametrize("lset_is_later", [True, False])
def test_lset_of_an_element_that_is_removed(w, removal, lset_is_later):
    seed(w, ("RPUSH", "l", "x", "y", "z"))
    in_order(w, lset_is_later, (w.A, "LSET", "l", 1, "new"), (w.B, *removal))
    left = w.B("LRANGE", "l", 0, -1)
    w.S()
    assert elements(w, "l") == [e for e in (b"x", b"new", b"z") if e in left or e == b"new"]


def test_lset_means_the_element_and_not_the_index(w):
    seed(w, ("RPUSH", "l", "x", "y", "z"))
    w.A("LPUSH", "l", "first")
    w.B("LSET", "l", 0, "X")
    w.C("LPOP", "l")                            # also of x: LSET's value stays
    w.S()
    assert elements(w, "l") == [b"first", b"X", b"y", b"z"]


# ---- pops of several replicas: both clients get it, it goes once, nothing else goes --------------

POPS = {"set": ("SADD", ("SPOP", "k"), "SCARD"), "zset": ("ZADD", ("ZPOPMIN", "k"), "ZCARD"),
        "zset max": ("ZADD", ("ZPOPMAX", "k"), "ZCARD"),
        "list": ("RPUSH", ("LPOP", "k"), "LLEN"), "list tail": ("RPUSH", ("RPOP", "k"), "LLEN"),
        "lmpop": ("RPUSH", ("LMPOP", 1, "k", "LEFT", "COUNT", 1), "LLEN"),
        "zmpop": ("ZADD", ("ZMPOP", 1, "k", "MIN", "COUNT", 1), "ZCARD")}


def popped_name(kind, reply):
    """The member that a pop of one has answered."""
    if kind in ("lmpop", "zmpop"):
        reply = reply[1]
    while isinstance(reply, list):
        reply = reply[0]
    return reply


@pytest.mark.parametrize("kind", POPS)
def test_concurrent_pops_remove_what_was_answered_and_nothing_else(w, kind):
    add, pop, count = POPS[kind]
    names = [b"%d" % i for i in range(20)]
    seed(w, (add, "k",
             *([x for i, n in enumerate(names) for x in (i, n)] if add == "ZADD" else names)))
    given = {popped_name(kind, s(*pop)) for s in w.mesh for _ in range(4)}
    if kind != "set":
        assert len(given) == 4                  # all three were given the same
    w.A(add, "k", *([99, "new"] if add == "ZADD" else ["new"]))
    w.S()
    left = {"SADD": members, "ZADD": scores, "RPUSH": elements}[add](w, "k")
    assert set(left) == set(names) - given | {b"new"} and w.all(count, "k") == 21 - len(given)


def test_what_was_popped_and_added_again_stays(w):
    seed(w, ("SADD", "s", "m"), ("ZADD", "z", 1, "m"), ("RPUSH", "l", "m"))
    for s in (w.A, w.B):
        assert s("SPOP", "s") == b"m" and s("ZPOPMIN", "z")[0] == b"m" and s("LPOP", "l") == b"m"
    w.A("SADD", "s", "m")
    w.A("ZADD", "z", 2, "m")
    w.A("RPUSH", "l", "m")
    w.S()
    assert (members(w, "s") == {b"m"} and scores(w, "z") == {b"m": b"2"}
            and elements(w, "l") == [b"m"])


# ---- LMOVEM: what both take is given twice and removed once --------------------------------------

@pytest.mark.parametrize("order,block", [("BULK", [b"0", b"1", b"2"]), ("OBO", [b"2", b"1", b"0"])])
def test_several_elements_moved_by_two_replicas(w, order, block):
    """Each replica's stay together, in the order it gave them; a push to the source survives."""
    seed(w, ("RPUSH", "q", *range(5)), ("RPUSH", "to", "x"))
    assert w.A("LMOVEM", "q", "to", "LEFT", "LEFT", "COUNT", 3, order) == block
    assert w.B("LMOVEM", "q", "to", "LEFT", "LEFT", "EXACTLY", 3, order) == block
    w.C("LPUSH", "q", "new")
    w.S()
    assert elements(w, "q") == [b"new", b"3", b"4"]
    assert elements(w, "to") == block + block + [b"x"]


def test_an_element_moved_by_one_is_not_lost_when_another_empties_the_source(w):
    seed(w, ("RPUSH", "q", *range(4)))
    w.A("LMOVEM", "q", "to", "RIGHT", "LEFT", "COUNT", 9, "OBO")
    w.B("DEL", "q")
    w.C("LMOVEM", "q", "q", "LEFT", "LEFT", "EXACTLY", 2, "OBO")
    w.S()
    assert elements(w, "to") == [b"0", b"1", b"2", b"3"] and elements(w, "q") == [b"1", b"0"]


def test_many_moves_lose_nothing(w):
    """What random moves at three replicas that do not hear of each other leave: every element."""
    rng = random.Random(8)
    keys, sides, names = ["l0", "l1", "l2"], ["LEFT", "RIGHT"], [b"%d" % i for i in range(60)]
    seed(w, *[("RPUSH", key, *names[20 * i:20 * i + 20]) for i, key in enumerate(keys)])
    for turn in range(4):
        w.apart()
        for i in range(30):
            s = w.mesh[i % 3]
            reply = s("LMOVEM", rng.choice(keys), rng.choice(keys), *rng.choices(sides, k=2),
                      rng.choice(["COUNT", "EXACTLY"]), rng.randint(1, 12),
                      rng.choice(["OBO", "BULK"]))
            assert reply is None or set(reply) <= set(names)
            if i % 10 == 9:
                s("RPUSH", rng.choice(keys), f"{turn}-{i}")
                names.append(f"{turn}-{i}".encode())
        w.S()
        found = [e for key in keys for e in elements(w, key)]
        assert set(found) == set(names)
        for key in keys:                            # once each, else they grow without end
            for e, n in Counter(elements(w, key)).items():
                w.A("LREM", key, n - 1, e) if n > 1 else None
        w.S()


# ---- deadlines -----------------------------------------------------------------------------------

WRITES = {"hash": [("HSET", "k", "f", "1"), ("HINCRBY", "k", "g", "1")],
          "set": [("SADD", "k", "f"), ("SADD", "k", "g")],
          "zset": [("ZADD", "k", "1", "f"), ("ZINCRBY", "k", "1", "g")],
          "list": [("RPUSH", "k", "f"), ("LSET", "k", "0", "g")]}


@pytest.mark.parametrize("type", WRITES)
@pytest.mark.parametrize("b_is_later", [True, False])
def test_the_later_deadline_of_a_collection(w, type, b_is_later):
    seed(w, WRITES[type][0])
    in_order(w, not b_is_later, (w.A, "EXPIREAT", "k", FAR), (w.B, "EXPIREAT", "k", FAR + 40))
    w.S()
    assert w.all("EXPIRETIME", "k") == (FAR + 40 if b_is_later else FAR)
    w.apart()
    in_order(w, not b_is_later, (w.A, "EXPIREAT", "k", FAR), (w.B, "PERSIST", "k"))
    w.S()
    assert w.all("EXPIRETIME", "k") == (-1 if b_is_later else FAR)


@pytest.mark.parametrize("type", WRITES)
@pytest.mark.parametrize("write_is_later", [True, False])
def test_a_write_to_a_collection_keeps_the_new_deadline(w, type, write_is_later):
    first, second = WRITES[type]
    seed(w, first, ("EXPIREAT", "k", FAR + 1))
    in_order(w, write_is_later, (w.B, *second), (w.A, "EXPIREAT", "k", FAR))
    w.S()
    assert w.all("EXPIRETIME", "k") == FAR and w.all("TYPE", "k") == type.encode()
    assert (b"g" in (elements(w, "k") if type == "list" else fields(w, "k") if type == "hash"
                     else members(w, "k") if type == "set" else scores(w, "k")))


@pytest.mark.parametrize("type", WRITES)
def test_a_write_just_before_the_deadline_expires_with_it(w, type):
    first, second = WRITES[type]
    w.A(*first)
    w.A("PEXPIRE", "k", 2000)
    w.S()
    w.apart()
    w.B(*second)
    assert w.B("PTTL", "k") > 0, "the machine was too slow: the key expired before the write"
    while w.A("EXISTS", "k"):
        time.sleep(0.01)
    w.S()
    end = time.monotonic() + 10
    while any(s("EXISTS", "k") for s in w.mesh):
        assert time.monotonic() < end, "still there"
        time.sleep(0.01)
    time.sleep(0.2)
    assert w.all("EXISTS", "k") == 0


@pytest.mark.parametrize("type", ["hash", "set", "zset", "list"])
def test_a_write_after_the_deadline_starts_a_fresh_collection(w, type):
    old = {"hash": ("HSET", "k", "old", "1"), "set": ("SADD", "k", "old"),
           "zset": ("ZADD", "k", "1", "old"), "list": ("RPUSH", "k", "old")}[type]
    w.A(*old)
    w.A("PEXPIRE", "k", 100)
    w.S()
    w.apart()
    time.sleep(0.15)
    w.B(*WRITES[type][0])
    assert w.B("TTL", "k") == -1 and w.A("EXISTS", "k") == 0
    w.S()
    left = {"hash": fields, "set": members, "zset": scores, "list": elements}[type](w, "k")
    assert set(left) == {b"f"} and w.all("TTL", "k") == -1


def test_a_write_beside_a_set_that_a_clash_hides_keeps_it_without_a_deadline(w):
    """The SET was later than EXPIRE, so there is no deadline; HSET removes the SET, and must not
    bring the deadline back."""
    w.apart()
    w.B("HSET", "k", "f", "v")
    w.B("EXPIREAT", "k", FAR)
    time.sleep(LATER)
    w.A("SET", "k", "text")
    w.S()
    assert w.all("TYPE", "k") == b"hash" and w.all("TTL", "k") == -1
    w.C("HSET", "k", "g", "w")
    w.S()
    assert fields(w, "k") == {b"f": b"v", b"g": b"w"} and w.all("TTL", "k") == -1


# ---- keys ----------------------------------------------------------------------------------------

def test_rename_of_a_collection_and_a_write_to_the_old_name(w):
    seed(w, ("HSET", "h", "f", "1"), ("HINCRBY", "h", "n", 5), ("SADD", "s", "a"),
         ("ZADD", "z", 1, "a"), ("RPUSH", "l", "a", "b"))
    for k in "hszl":
        w.A("RENAME", k, k + "2")
    w.B("HSET", "h", "g", "2")
    w.B("HINCRBY", "h", "n", 7)
    w.B("SADD", "s", "b")
    w.B("ZADD", "z", 2, "b")
    w.B("RPUSH", "l", "c")
    w.S()
    assert (fields(w, "h2") == {b"f": b"1", b"n": b"5"}
            and fields(w, "h") == {b"g": b"2", b"n": b"7"})
    assert members(w, "s2") == {b"a"} and members(w, "s") == {b"b"}
    assert scores(w, "z2") == {b"a": b"1"} and scores(w, "z") == {b"b": b"2"}
    assert elements(w, "l2") == [b"a", b"b"] and elements(w, "l") == [b"c"]


@pytest.mark.parametrize("flush", ["FLUSHALL", "FLUSHDB"])
def test_flush_leaves_members_it_did_not_see(w, flush):
    seed(w, ("HSET", "h", "f", "1"), ("HINCRBY", "h", "n", 5), ("SADD", "s", "a"),
         ("ZADD", "z", 1, "a"), ("RPUSH", "l", "a", "b"), ("SADD", "gone", "x"))
    w.A(flush)
    assert w.A("DBSIZE") == 0
    w.B("HINCRBY", "h", "n", 7)
    w.B("SADD", "s", "b")
    w.B("ZINCRBY", "z", 2, "a")
    w.B("LSET", "l", 0, "A")
    w.S()
    assert (fields(w, "h") == {b"n": b"7"} and members(w, "s") == {b"b"}
            and scores(w, "z") == {b"a": b"2"} and elements(w, "l") == [b"A"])
    assert w.all("DBSIZE") == 4


def test_store_commands_replace_what_they_saw(w):
    seed(w, ("SADD", "a", "1", "2"), ("SADD", "b", "2", "3"), ("SADD", "to", "old"))
    w.A("SUNIONSTORE", "to", "a", "b")
    w.B("SADD", "to", "new")
    w.S()
    assert members(w, "to") == {b"1", b"2", b"3", b"new"}


# ---- clashes of types ----------------------------------------------------------------------------

KINDS = {"list": ("RPUSH", "k", "x"), "hash": ("HSET", "k", "f", "v"),
         "zset": ("ZADD", "k", "1", "x"), "set": ("SADD", "k", "x"), "string": ("SET", "k", "v")}
MORE = {"list": ("RPUSH", "k", "y"), "hash": ("HSET", "k", "g", "v"),
        "zset": ("ZADD", "k", "2", "y"), "set": ("SADD", "k", "y"), "string": ("APPEND", "k", "y")}


def test_TYP_1(w):
    w.apart()
    w.A("SET", "k", "v")
    w.B("SADD", "k", "m")
    w.S()
    assert w.all("TYPE", "k") == b"set"
    w.A("DEL", "k")
    w.S()
    assert w.all("EXISTS", "k") == 0


def collections(server) -> list:
    report = server("CRDT.INSPECT", "k")
    return dict(zip(report[::2], report[1::2]))[b"collections"]


@pytest.mark.parametrize("seen, hidden", list(combinations(KINDS, 2)))
def test_every_clash_shows_one_type_until_it_is_observed(w, seen, hidden):
    for end in ("DEL", "write"):
        w.apart()
        w.A(*KINDS[hidden])
        w.B(*KINDS[seen])
        w.S()
        assert w.all("TYPE", "k") == seen.encode()
        for s in w.mesh:
            report = s("CRDT.INSPECT", "k")
            told = dict(zip(report[::2], report[1::2]))
            assert (hidden.encode() in
                    told[b"collections"]) if hidden != "string" else told[
                        b"writes"], f"{hidden} is not reported: {told}"
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            w.C(*MORE[hidden])
        if end == "write":
            w.C(*MORE[seen])                    # observes the hidden value: it goes
            w.S()
            assert w.all("TYPE", "k") == seen.encode()
            # nor is a tombstone of it left
            until(lambda: hidden.encode() not in collections(w.A))
        w.A("DEL", "k")
        w.S()
        assert w.all("EXISTS", "k") == 0, "the hidden value came up"


def test_a_hidden_value_shows_when_the_other_is_removed_unseen(w):
    w.A("RPUSH", "k", "x")
    w.S()
    w.apart()
    w.A("DEL", "k")
    w.A("SET", "k", "v")
    w.B("RPUSH", "k", "y")
    w.C("RPOP", "k")
    w.S()
    assert w.all("TYPE", "k") == b"list" and elements(w, "k") == [b"y"]
    w.apart()
    w.B("DEL", "k")
    w.C("DEL", "k")
    w.S()
    assert w.all("EXISTS", "k") == 0


# ---- one atomic operation ------------------------------------------------------------------------

MOVES = {"SMOVE": (("SADD", "a", "m"), ("SMOVE", "a", "b", "m"), ("SMOVE", "b", "a", "m")),
         "LMOVE": (("RPUSH", "a", "m"), ("LMOVE", "a", "b", "LEFT", "RIGHT"),
                   ("LMOVE", "b", "a", "RIGHT", "LEFT")),
         "LMOVEM": (("RPUSH", "a", "m", "n"), ("LMOVEM", "a", "b", "LEFT", "LEFT", "EXACTLY", "2",
                                               "OBO"),
                    ("LMOVEM", "b", "a", "RIGHT", "LEFT", "EXACTLY", "2", "OBO")),
         "RENAME": (("HSET", "a", "f", "m"), ("RENAME", "a", "b"), ("RENAME", "b", "a")),
         "EXEC": (("ZADD", "a", "1", "m"), ("MULTI", "ZREM a m", "ZADD b 1 m"),
                  ("MULTI", "ZREM b m", "ZADD a 1 m"))}


@pytest.mark.parametrize("how", MOVES)
def test_a_reader_elsewhere_never_sees_half_of_it(w, how):
    first, there, back = MOVES[how]
    w.A(*first)
    w.S()
    with w.A.connect() as a, w.B.connect() as b:
        seen = set()
        for i in range(200):
            move = back if i % 2 else there
            a.pipeline([["MULTI"], *(c.split() for c in move[1:]), ["EXEC"]] if move[0] == "MULTI"
                       else [move])
            found = tuple(b.pipeline([["MULTI"], ["EXISTS", "a"], ["EXISTS", "b"], ["EXEC"]])[-1])
            assert sum(found) == 1
            seen.add(found)
        assert len(seen) == 2, "B never saw anything move: nothing was proved"


def test_a_transaction_over_all_types(w):
    seed(w, ("HSET", "h", "f", "1"), ("SADD", "s", "a"), ("ZADD", "z", 1, "a"), ("RPUSH", "l", "a"))
    replies = w.A.connect().pipeline([["MULTI"], ["HINCRBY", "h", "f", 2], ["HDEL", "h", "f"],
                                      ["HINCRBY", "h", "f", 5], ["SREM", "s", "a"],
                                      ["SADD", "s", "a"],
                                      ["ZINCRBY", "z", 2, "a"], ["LPOP", "l"],
                                      ["RPUSH", "l", "b", "c"],
                                      ["LMOVE", "l", "l2", "LEFT", "LEFT"], ["EXEC"]])
    assert replies[-1] == [3, 1, 5, 1, 1, b"3", b"a", 2, b"b"]
    w.B("HINCRBY", "h", "f", 100)
    w.B("SREM", "s", "a")
    w.B("ZREM", "z", "a")
    w.S()
    assert (fields(w, "h") == {b"f": b"105"} and members(w, "s") == {b"a"}
            and scores(w, "z") == {b"a": b"2"})
    assert elements(w, "l") == [b"c"] and elements(w, "l2") == [b"b"]


@pytest.mark.parametrize("write", [["HSET", "h", "g", "2"], ["HINCRBY", "h", "f", "1"],
                                   ["SREM", "s", "a"], ["ZINCRBY", "z", "1", "a"], ["LPOP", "l"],
                                   ["LSET", "l", "0", "b"], ["EXPIRE", "s", "100"]])
def test_watch_is_broken_by_a_remote_write_to_a_member(w, write):
    for argv in (("HSET", "h", "f", "1"), ("SADD", "s", "a"), ("ZADD", "z", 1, "a"),
                 ("RPUSH", "l", "a", "c")):
        w.A(*argv)
    w.S()
    with w.A.connect() as a:
        a("WATCH", write[1])
        w.B(*write)
        w.S()
        assert a.pipeline([["MULTI"], ["SET", "done", 1], ["EXEC"]])[-1] is None
        assert a.pipeline([["MULTI"], ["SET", "done", 1], ["EXEC"]])[-1] == [b"OK"]

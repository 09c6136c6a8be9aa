"""Set commands through an Executor. What redis-server answers to the same calls is tested in
tests/compat."""
import random

import pytest

from tests.commands.local import (NOT_INTEGER, NOW, NULL, SYNTAX, WRONG_TYPE, Local, array, bulk,
                                  error, num, sync)
from tests.respclient import decode


@pytest.fixture
def r():
    return Local()


def members(r: Local, key="s") -> set:
    found = decode(r("SMEMBERS", key))
    assert len(set(found)) == len(found) == decode(r("SCARD", key))
    return set(found)


def names(text: str) -> set:
    return {x.encode() for x in text.split()}


# ---- one set -------------------------------------------------------------------------------------

def test_sadd_and_srem_count(r):
    assert r("SADD", "s", "a", "b", "a", "") == num(3)
    assert r("SADD", "s", "a", "c") == num(1)
    assert members(r) == {b"", b"a", b"b", b"c"}
    assert r("SREM", "s", "a", "a", "x", "") == num(2)
    assert r("SREM", "s", "b", "c", "d", "b") == num(2)
    assert (r("EXISTS", "s"), r("SREM", "s", "a"), r("DBSIZE")) == (num(0), num(0), num(0))


def test_reads(r):
    r("SADD", "s", "a", "b")
    assert ((r("SISMEMBER", "s", "a"), r("SISMEMBER", "s", "x"), r("SISMEMBER", "x", "a"))
            == (num(1), num(0), num(0)))
    assert r("SMISMEMBER", "s", "a", "x", "b") == array(num(1), num(0), num(1))
    assert r("SMISMEMBER", "x", "a", "b") == array(num(0), num(0))
    assert (r("SCARD", "x"), r("SMEMBERS", "x")) == (num(0), array())


def test_resp3():
    r = Local(resp=3)
    for argv in [("SMEMBERS", "s"), ("SINTER", "s"), ("SUNION", "s", "t"), ("SDIFF", "s"),
                 ("SPOP", "s", 1)]:
        assert r(*argv) == b"~0\r\n", argv
    assert r("SRANDMEMBER", "s", 1) == array()
    assert r("SPOP", "s") == b"_\r\n"
    r("SADD", "s", "a")
    assert r("SMEMBERS", "s") == r("SINTER", "s") == b"~1\r\n" + bulk("a")
    assert r("SRANDMEMBER", "s", 1) == array(bulk("a"))
    assert r("SPOP", "s", 2) == b"~1\r\n" + bulk("a")


def test_the_last_member_takes_the_deadline_with_it(r):
    for argv in [("SREM", "s", "a"), ("SPOP", "s"), ("SPOP", "s", 1), ("SMOVE", "s", "t", "a")]:
        r("SADD", "s", "a")
        r("EXPIRE", "s", 100)
        r(*argv)
        assert r("EXISTS", "s") == num(0)
        r("SADD", "s", "a")
        assert r.deadline("s") == -1, argv


def test_an_expired_set_is_gone(r):
    r("SADD", "s", "a", "b")
    r("PEXPIRE", "s", 10)
    r.later(11)
    assert ((r("SMEMBERS", "s"), r("SPOP", "s"), r("SREM", "s", "a"), r("SINTER", "s"))
            == (array(), NULL, num(0), array()))
    assert r("SADD", "s", "a") == num(1)
    assert (members(r), r.deadline("s")) == (names("a"), -1)


def test_wrong_type(r):
    r("SET", "v", 1)
    r("SADD", "s", "a")
    for argv in [("SADD", "v", 1), ("SREM", "v", 1), ("SMEMBERS", "v"), ("SISMEMBER", "v", 1),
                 ("SMISMEMBER", "v", 1), ("SCARD", "v"), ("SPOP", "v"),
                 ("SPOP", "v", 1), ("SRANDMEMBER", "v"), ("SRANDMEMBER", "v", 1),
                 ("SMOVE", "v", "s", "a"), ("SMOVE", "s", "v", "a"),
                 ("SINTER", "none", "v"), ("SUNION", "s", "v"), ("SDIFF", "none", "v"),
                 ("SINTERCARD", 2, "none", "v"), ("SINTERSTORE", "d", "none", "v"),
                 ("SUNIONSTORE", "d", "v"), ("SDIFFSTORE", "d", "s", "v"), ("SSCAN", "v", 0)]:
        assert r(*argv) == WRONG_TYPE, argv
    assert r("SUNIONSTORE", "v", "s") == num(1), "a target of another type is replaced"
    assert r("TYPE", "v") == b"+set\r\n"


def test_smove(r):
    r("SADD", "s", "a", "b")
    r("SADD", "t", "b")
    assert r("SMOVE", "s", "t", "a") == num(1)
    assert r("SMOVE", "s", "t", "x") == r("SMOVE", "none", "t", "a") == num(0)
    assert r("SMOVE", "s", "t", "b") == num(1)
    assert (members(r), members(r, "t")) == (set(), names("a b"))
    assert (r("SMOVE", "t", "t", "a"), r("SMOVE", "t", "t", "x")) == (num(1), num(0))


# ---- random members ------------------------------------------------------------------------------

def test_spop(r):
    assert (r("SPOP", "none"), r("SPOP", "none", 3)) == (NULL, array())
    for n in (0, 1, 10, 34, 60, 99, 100, 1000):
        r("SADD", "s", *range(100))
        before = members(r)
        popped = decode(r("SPOP", "s", n))
        assert len(set(popped)) == len(popped) == min(n, 100)
        assert members(r) == before - set(popped)
        r.replica.check()
    r("SADD", "s", "a")
    assert (r("SPOP", "s"), r("EXISTS", "s")) == (bulk("a"), num(0))
    r("SADD", "s", "")
    assert r("SPOP", "s", 1) == array(bulk(""))
    for n in ("-1", "x", "", "9223372036854775808"):
        assert r("SPOP", "s", n) == error("ERR value is out of range, must be positive")
    assert r("SPOP", "s", 1, 2) == SYNTAX


def test_spop_empties_a_large_set(r):
    r("SADD", "s", *range(5000))
    popped = [x for _ in range(500)
              for x in decode(r("SPOP", "s", 7))] + [decode(r("SPOP", "s")) for _ in range(1500)]
    assert sorted(map(int, popped)) == list(range(5000))
    assert r("DBSIZE") == num(0)


def test_srandmember(r):
    assert ((r("SRANDMEMBER", "none"), r("SRANDMEMBER", "none", 3), r("SRANDMEMBER", "none", -3))
            == (NULL, array(), array()))
    r("SADD", "s", *range(100))
    for n in (1, 10, 40, 99, 100, 1000):
        some = decode(r("SRANDMEMBER", "s", n))
        assert len(set(some)) == len(some) == min(n, 100)
    assert len(decode(r("SRANDMEMBER", "s", -500))) == 500
    assert r("SRANDMEMBER", "s", 0) == array()
    assert r("SRANDMEMBER", "s", "x") == NOT_INTEGER
    assert r("SRANDMEMBER", "s",
             -9223372036854775808).startswith(b"-ERR value is out of range, value must between")
    assert r("SRANDMEMBER", "s", -9223372036854775807) == error("ERR value is out of range")
    assert r("SRANDMEMBER", "s", 1, 2) == SYNTAX


@pytest.mark.parametrize("count", [None, 1, 3, 10, 19, -5])
def test_random_choices_are_uniform(r, count):
    r("SADD", "s", *range(20))
    seen, rounds = [0] * 20, 4000
    for _ in range(rounds):
        chosen = decode(r("SRANDMEMBER", "s", *([] if count is None else [count])))
        for m in chosen if isinstance(chosen, list) else [chosen]:
            seen[int(m)] += 1
    expected = rounds * abs(count or 1) / 20
    assert sum((n - expected) ** 2 / expected for n in seen) < 45, (
        "chi squared, 19 degrees of freedom: p = 0.001 at 43.8")


# ---- several sets --------------------------------------------------------------------------------

def test_combining_against_python(r):
    rng = random.Random(1)
    for _ in range(300):
        sets = {k: {b"%d" % rng.randint(0, 30) for _ in range(rng.choice([0, 1, 5, 20]))}
                for k in "abcd"}
        r("FLUSHALL")
        for k, v in sets.items():
            if v:
                r("SADD", k, *v)
        keys = [rng.choice("abcd") for _ in range(rng.randint(1, 5))]
        operands = [sets[k] for k in keys]
        expected = {"SINTER": set.intersection(*operands), "SUNION": set.union(*operands),
                    "SDIFF": operands[0].difference(*operands[1:])}
        for name, result in expected.items():
            assert set(decode(r(name, *keys))) == result
            assert r(name + "STORE", "x", *keys) == num(len(result))
            assert members(r, "x") == result
        limit = rng.randint(0, 5)
        n = len(expected["SINTER"])
        assert (r("SINTERCARD", len(keys), *keys, "LIMIT", limit)
                == num(min(n, limit) if limit else n))
        target, name = rng.choice(keys), rng.choice(list(expected))
        assert r(name + "STORE", target, *keys) == num(len(expected[name]))
        assert members(r, target) == expected[name], "the target may be a source"
        r.replica.check()


def test_store_replaces_the_target_and_its_deadline(r):
    r("SADD", "s", "a")
    r("SET", "d", "v", "EX", 100)
    assert r("SUNIONSTORE", "d", "s") == num(1)
    assert r.deadline("d") == -1
    assert r("SINTERSTORE", "d", "s", "none") == num(0)
    assert r("EXISTS", "d") == num(0)


def test_sintercard_refusals(r):
    for n in ("0", "-1", "x"):
        assert r("SINTERCARD", n, "s") == error("ERR numkeys should be greater than 0")
    assert (r("SINTERCARD", 2, "s")
            == error("ERR Number of keys can't be greater than number of args"))
    for limit in ("-1", "x"):
        assert r("SINTERCARD", 1, "s", "LIMIT", limit) == error("ERR LIMIT can't be negative")
    assert r("SINTERCARD", 1, "s", "LIMIT") == r("SINTERCARD", 1, "s", "x") == SYNTAX
    assert (r("COMMAND", "GETKEYS", "SINTERCARD", 2, "a", "b", "LIMIT",
              1) == array(bulk("a"), bulk("b")))


def test_cards_of_unions_and_differences(r):
    r("SADD", "s", "a", "b", "c")
    r("SADD", "t", "c", "d", "e")
    r("SET", "v", 1)
    for command, answers in [("SUNIONCARD", (5, 3, 3)), ("SDIFFCARD", (2, 3, 3))]:
        assert r(command, 2, "s", "t") == num(answers[0]) == r(command, 3, "s", "none", "t")
        assert r(command, 1, "s") == num(answers[1]) and r(command, 1, "none") == num(0)
        for limit in (0, 1, 2, 4, 5, 6):
            assert r(command, 2, "s", "t", "limit", limit) == num(
                min(answers[0], limit) if limit else answers[0])
        assert r(command, 2, "s", "v") == WRONG_TYPE == r(command, 2, "none", "v")
        assert r(command, 0, "s") == error("ERR numkeys should be greater than 0")
        assert r(command, 2, "s") == error(
            "ERR Number of keys can't be greater than number of args")
        assert r(command, 1, "s", "LIMIT", -1) == error("ERR LIMIT can't be negative")
        assert r(command, 1, "s", "LIMIT") == SYNTAX == r(command, 1, "s", "x")
    assert r("SDIFFCARD", 2, "none", "s") == r("SDIFFCARD", 2, "s", "s") == num(0)
    assert r("SUNIONCARD", 2, "s", "t", "APPROX", "LIMIT", 3) == num(3)
    assert r("SUNIONCARD", 2, "s", "t", "LIMIT", 0, "approx") == num(5)
    assert r("SDIFFCARD", 2, "s", "t", "APPROX") == SYNTAX


# ---- SSCAN ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, 128, 129, 3000])
def test_sscan_finds_all(r, size):
    if size:
        r("SADD", "s", *range(size))
    cursor, found, calls = b"0", [], 0
    while calls == 0 or cursor != b"0":
        cursor, part = decode(r("SSCAN", "s", cursor))
        found += part
        calls += 1
    assert set(found) == {b"%d" % i for i in range(size)}
    assert (calls == 1) == (size <= 128), "a small set comes in one piece"


# ---- effects -------------------------------------------------------------------------------------

def test_what_changes_nothing_makes_no_op(r):
    r("SADD", "s", "a", "b", "c")
    r.ops()
    for argv in [("SREM", "s", "x"), ("SREM", "none", "a"), ("SPOP", "s", 0), ("SPOP", "none"),
                 ("SMOVE", "s", "t", "x"), ("SMOVE", "s", "s", "a"),
                 ("SINTERSTORE", "none", "s", "none2"), ("SMEMBERS", "s"), ("SRANDMEMBER", "s"),
                 ("SSCAN", "s", 0)]:
        r(*argv)
        assert r.ops() == 0, argv
    for argv in [("SADD", "s", "a"), ("SMOVE", "s", "t", "a"), ("SUNIONSTORE", "s", "s", "t"),
                 ("SPOP", "s", 2), ("SADD", "s", *range(100)), ("SPOP", "s", 90),
                 ("SREM", "t", "a")]:
        r(*argv)
        assert r.ops() == 1, argv


@pytest.mark.parametrize("given,encoding", [(range(512), "intset"), (range(513), "hashtable"),
                                            (["a", "1"], "listpack"), (["a" * 64], "listpack"),
                                            (["a" * 65], "hashtable"),
                                            ([f"m{i}" for i in range(128)], "listpack"),
                                            (["01"], "listpack"),
                                            ([f"m{i}" for i in range(129)], "hashtable")])
def test_encoding(r, given, encoding):
    r("SADD", "s", *given)
    assert r("OBJECT", "ENCODING", "s") == bulk(encoding)


def test_key_commands_carry_sets(r):
    r("SADD", "s", "a", "b")
    r("EXPIRE", "s", 50)
    assert r("COPY", "s", "t") == num(1)
    r("RENAME", "t", "u")
    assert r("MOVE", "u", 1) == num(1)
    r("SWAPDB", 0, 1)
    assert (members(r, "u"), r.deadline("u")) == (names("a b"), NOW + 50_000)
    assert decode(r("MEMORY", "USAGE", "u")) > 100


# ---- concurrency: the rows and examples of the contract ------------------------------------------

@pytest.fixture
def ab():
    return Local("a"), Local("b")


def same(*replicas, key="s"):
    first, *rest = (members(r, key) for r in replicas)
    assert all(x == first for x in rest)
    assert len({r.replica.digest() for r in replicas}) == 1
    for r in replicas:
        r.replica.check()
    return first


def test_SET_1_adds(ab):
    a, b = ab
    a("SADD", "s", "a")
    b("SADD", "s", "b")
    sync(a, b)
    assert same(a, b) == names("a b")


def test_SET_2_add_and_remove(ab):
    a, b = ab
    a("SADD", "s", "a", "b")
    sync(a, b)
    a("SREM", "s", "a")
    a("SREM", "s", "c")
    b("SADD", "s", "c")
    sync(a, b)
    assert same(a, b) == names("b c")


def test_SET_3_del_and_add(ab):
    a, b = ab
    a("SADD", "s", "e1")
    sync(a, b)
    a("SADD", "s", "e2")
    b("DEL", "s")
    assert (a("SCARD", "s"), b("SCARD", "s")) == (num(2), num(0))
    sync(a, b)
    assert same(a, b) == names("e2")


def test_SET_4_an_add_of_what_is_there_wins(ab):
    a, b = ab
    a("SADD", "s", "x")
    sync(a, b)
    a("SREM", "s", "x")
    assert b("SADD", "s", "x") == num(0)
    sync(a, b)
    assert same(a, b) == names("x")


def test_two_pops_of_one_member(ab):
    a, b = ab
    a("SADD", "s", "x")
    sync(a, b)
    assert a("SPOP", "s") == b("SPOP", "s", 5)[4:] == bulk("x")
    sync(a, b)
    assert same(a, b) == set()
    assert a("DBSIZE") == b("DBSIZE") == num(0)


def test_pop_of_all_and_add(ab):
    a, b = ab
    a("SADD", "s", *range(10))
    a("EXPIRE", "s", 100)
    sync(a, b)
    a("SPOP", "s", 10)
    b("SADD", "s", "x", 3)
    sync(a, b)
    assert same(a, b) == names("x 3")
    assert a.deadline("s") == b.deadline("s") == NOW + 100_000, "no key becomes immortal by a race"


def test_moves_to_different_targets(ab):
    a, b = ab
    a("SADD", "s", "x")
    sync(a, b)
    a("SMOVE", "s", "t", "x")
    b("SMOVE", "s", "u", "x")
    sync(a, b)
    assert same(a, b) == set()
    assert same(a, b, key="t") == same(a, b, key="u") == names("x")


def test_store_and_add_to_the_target(ab):
    a, b = ab
    a("SADD", "d", "old")
    a("SADD", "s", "new")
    sync(a, b)
    a("SUNIONSTORE", "d", "s")
    b("SADD", "d", "x")
    sync(a, b)
    assert same(a, b, key="d") == names("new x")


def test_TYP_1_a_set_shows_before_a_string(ab):
    a, b = ab
    a("SET", "s", "v")
    b("SADD", "s", "m")
    sync(a, b)
    assert a("TYPE", "s") == b("TYPE", "s") == b"+set\r\n"
    a("DEL", "s")
    sync(a, b)
    assert a("EXISTS", "s") == b("EXISTS", "s") == num(0)
    a("SET", "s", "v")
    b("SADD", "s", "m")
    sync(a, b)
    b("SADD", "s", "n")
    sync(a, b)
    b("SPOP", "s", 2)
    sync(a, b)
    assert a("TYPE", "s") == b("TYPE", "s") == b"+none\r\n", (
        "a write removes the hidden string it observed")


def test_random_histories_converge():
    """Two and three replicas, random commands, exchange now and then: equal states whenever all is
    exchanged."""
    for seed in range(60):
        rng = random.Random(seed)
        replicas = [Local(n) for n in "abc"[:rng.choice([2, 3])]]
        for _ in range(80):
            r = rng.choice(replicas)
            m, k, other = rng.choice("xyz"), rng.choice("st"), rng.choice("st")
            r(*rng.choice([("SADD", k, m), ("SADD", k, *"xyz"), ("SREM", k, m), ("SPOP", k),
                           ("SPOP", k, 2), ("SPOP", k, 9), ("SMOVE", k, other, m), ("DEL", k),
                           ("SUNIONSTORE", k, k, other), ("SDIFFSTORE", k, k, other),
                           ("SINTERSTORE", k, other, k), ("EXPIRE", k, 1000)]))
            r.later(rng.choice([0, 0, 1]))
            if rng.random() < 0.15:
                sync(*replicas)
        sync(*replicas)
        for k in "st":
            same(*replicas, key=k)

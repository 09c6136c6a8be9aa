"""HyperLogLog commands on one replica, against a naive reader of the form; and what concurrent
replicas get."""
import random
import time

import pytest

from tests.commands.local import NULL, OK, WRONG_TYPE, Local, array, bulk, error, num, sync
from tests.compat import differences, generators_hyperloglog
from tests.compat.harness import as_bytes
from tests.compat.words import KEYS
from tests.core.hyperloglog import REGISTERS, image, made_of, registers, shown
from tests.respclient import decode

NOT_HLL = error("WRONGTYPE Key is not a valid HyperLogLog string value.")
CORRUPTED = error("INVALIDOBJ Corrupted HLL object detected")


@pytest.fixture
def c():
    return Local()


def test_pfadd_says_whether_a_register_rose(c):
    assert c("PFADD", "h") == num(1) and c("PFADD", "h") == num(0)
    assert c("GET", "h") == bulk(made_of())
    assert c("PFADD", "h", "a", "b") == num(1) and c("PFADD", "h", "b", "a") == num(0)
    assert c("GET", "h") == bulk(made_of("a", "b"))
    assert c("TYPE", "h") == b"+string\r\n" and c("STRLEN", "h") == num(len(made_of("a", "b")))
    assert c.ops() and c("PFADD", "h", "a") == num(0) and not c.ops()


def test_pfcount_and_what_get_shows_of_it(c):
    assert c("PFCOUNT", "h") == num(0)
    c("PFADD", "h", "a", "b", "c")
    c.ops()
    head = b"HYLL\1\0\0\0\3\0\0\0\0\0\0"
    assert c("PFCOUNT", "h") == num(3) and c("GETRANGE", "h", 0, 15) == bulk(head + b"\0")
    assert not c.ops(), "counting makes no op"
    c("PFADD", "h", "a")
    c("EXPIRE", "h", 100)
    assert c("GETRANGE", "h", 0, 15) == bulk(head + b"\0")
    assert c("MGET", "h", "none") == array(bulk(head + b"\0" + made_of("a", "b", "c")[16:]), NULL)
    c("PFADD", "h", "d")
    assert c("GETRANGE", "h", 0, 15) == bulk(head + b"\x80")
    assert c("PFCOUNT", "h") == num(4) and c("PFCOUNT", "h", "none", "h") == num(4)
    c("SET", "h", made_of("a"))
    assert c("GET", "h") == bulk(made_of("a"))


def test_a_count_does_not_outlive_what_an_op_writes_twice(c):
    c("MULTI")
    c("PFADD", "h", "a")
    c("PFCOUNT", "h")
    c("SET", "h", made_of("a", "b"))
    assert c("EXEC") == array(num(1), num(1), OK)
    assert c("GET", "h") == bulk(made_of("a", "b")) and c("PFCOUNT", "h") == num(2)


def test_what_is_no_hyperloglog(c):
    c("SET", "s", "text")
    c("SADD", "set", "a")
    for key, reply in (("s", NOT_HLL), ("set", WRONG_TYPE)):
        assert c("PFADD", key, "a") == c("PFCOUNT", key) == c("PFCOUNT", "none", key) == reply
        assert c("PFMERGE", key) == c("PFMERGE", "new", key) == reply
        assert c("PFDEBUG", "ENCODING", key) == reply
    for damage in (made_of("a")[:-1], made_of("a") + b"hello", b"HYLL\1" + bytes(10) + b"\x80"):
        c("SET", "h", damage)
        assert c("PFCOUNT", "h") == c("PFMERGE", "new", "h") == CORRUPTED
        assert c("PFDEBUG", "TODENSE", "h") == CORRUPTED
    assert c("EXISTS", "new") == num(0)
    c("SET", "h", made_of("a", dense=True)[:-1])
    assert c("PFCOUNT", "h") == NOT_HLL
    assert c("PFDEBUG", "ENCODING", "none") == error("ERR The specified key does not exist")


def test_an_image_may_come_by_set_and_restore(c):
    c("SET", "h", made_of("a", "b"), "EX", 100)
    assert c("PFADD", "h", "a") == num(0) and c("PFADD", "h", "c") == num(1)
    assert c("GET", "h") == bulk(made_of("a", "b", "c")) and c("TTL", "h") == num(100)
    c("RESTORE", "r", 0, decode(c("DUMP", "h")))
    c("COPY", "h", "copy")
    assert c("PFCOUNT", "r") == c("PFCOUNT", "copy") == num(3)
    c("APPEND", "copy", "x")
    assert c("PFCOUNT", "copy", "r") == CORRUPTED


def test_pfmerge(c):
    c("PFADD", "x", "a", "b")
    c("SET", "y", made_of("b", "c", dense=True))
    assert c("PFMERGE", "sum", "x") == OK and c("GET", "sum") == bulk(made_of("a", "b"))
    assert c("PFMERGE", "sum", "y", "none") == OK
    assert c("GET", "sum") == bulk(made_of("a", "b", "c", dense=True))
    assert c("PFMERGE", "new") == OK and c("GET", "new") == bulk(made_of())


def test_pfdebug(c):
    c("PFADD", "h", "a")
    values = registers(made_of("a"))
    at = next(i for i, v in enumerate(values) if v)
    told = f"Z:{at} v:{values[at]},1 Z:{REGISTERS - at - 1}"
    assert c("PFDEBUG", "decode", "h") == bulk(told)
    assert c("PFDEBUG", "ENCODING", "h") == b"+sparse\r\n"
    assert c("PFDEBUG", "TODENSE", "h") == num(1) and c("PFDEBUG", "TODENSE", "h") == num(0)
    assert c("PFDEBUG", "ENCODING", "h") == b"+dense\r\n"
    assert decode(c("PFDEBUG", "GETREG", "h")) == values
    assert c("PFDEBUG", "DECODE", "h") == error("ERR HLL encoding is not sparse")
    assert c("PFDEBUG", "x", "h") == error("ERR Unknown PFDEBUG subcommand 'x'")
    assert c("PFSELFTEST") == OK


def test_registers_of_every_value_and_place(c):
    rng = random.Random(1)
    for dense, most in ((False, 32), (True, 51)):
        for _ in range(5):
            values = [rng.choice([0, 0, rng.randint(0, most), 1, 1]) for _ in range(REGISTERS)]
            c("SET", "h", image(values, dense))
            assert decode(c("PFDEBUG", "GETREG", "h")) == values


def test_the_form_follows_the_setting(c):
    c.executor.set_encoding_limits(hll_sparse_max_bytes=30)
    c("PFADD", "h", "a", "b", "c")
    assert c("PFDEBUG", "ENCODING", "h") == b"+sparse\r\n"
    c("PFADD", "h", "d", "e")
    assert c("GET", "h") == bulk(made_of("a", "b", "c", "d", "e", dense=True))


def test_the_error_is_what_theory_says(c):
    """Of 100 sums of independent ones: 0.81 % each, so 0.081 % in the mean and 0.81 % as spread."""
    errors = []
    for run in range(100):
        n = 10_000
        c("DEL", "h")
        c("PFADD", "h", *(f"{run}:{i}" for i in range(n)))
        errors.append(decode(c("PFCOUNT", "h")) / n - 1)
    mean = sum(errors) / len(errors)
    spread = (sum((e - mean) ** 2 for e in errors) / (len(errors) - 1)) ** 0.5
    assert abs(mean) < 4 * 0.00081 and 0.0081 * 0.7 < spread < 0.0081 * 1.3, (mean, spread)


@pytest.mark.parametrize("block", range(4))
def test_random_sequences(reference, block):
    with reference.connect() as theirs:
        for seed in range(block * 50, block * 50 + 50):
            rng, ours = random.Random(seed), Local()
            theirs("HELLO", 2)
            theirs("FLUSHALL")
            steps = [as_bytes(generators_hyperloglog.command(rng)) for _ in range(60)]
            steps += [(b"GET", k.encode("latin-1")) for k in [*KEYS, "big"]]
            for i, argv in enumerate(steps):
                ours.replica.now = int(time.time() * 1000)
                theirs.send(*argv)
                expected, got = theirs.raw(), ours(*argv)
                assert differences.same(argv, expected, got), (
                    f"seed {seed}: {expected!r} from Redis, {got!r} here, after {steps[:i + 1]}")


# ---- concurrent replicas -------------------------------------------------------------------------
def test_concurrent_hyperloglogs_are_shown_together():
    a, b, c = Local("a"), Local("b"), Local("c")
    a("PFADD", "h", "1")
    b("SET", "h", made_of("2", "3"))
    c("PFADD", "h", "4")
    sync(a, b, c)
    union = bulk(shown([made_of("1"), made_of("2", "3"), made_of("4")]))
    for r in (a, b, c):
        assert r("GET", "h") == union and r("PFCOUNT", "h") == num(4)
        assert r("CRDT.CONFLICTS") == b"*0\r\n", "nothing had to be decided"
    assert decode(a("GET", "h"))[15] == 0, "and that it was counted is shown"
    assert a("PFADD", "h", "5") == num(1)
    sync(a, b, c)
    assert b("PFCOUNT", "h") == num(5) and len(b.replica.inspect(0, b"h")["writes"]) == 1
    assert len({r.replica.digest() for r in (a, b, c)}) == 1


def test_a_hyperloglog_is_shown_before_a_later_text():
    a, b = Local("a"), Local("b")
    a("PFADD", "h", "1")
    b.later(1)
    b("SET", "h", "7")
    sync(a, b)
    for r in (a, b):
        assert r("PFCOUNT", "h") == num(1)
        assert r("INCR", "h") == error("ERR value is not an integer or out of range")
    b("SET", "h", "7")
    sync(a, b)
    assert a("INCR", "h") == num(8)


def test_a_removal_takes_what_it_had_seen_unless_it_is_written_again():
    a, b = Local("a"), Local("b")
    a("PFADD", "h", "1")
    sync(a, b)
    a("DEL", "h")
    b("PFADD", "h", "1", "2")
    sync(a, b)
    assert a("PFCOUNT", "h") == b("PFCOUNT", "h") == num(2)
    a("DEL", "h")
    assert b("PFADD", "h", "1") == num(0), "makes no op"
    sync(a, b)
    assert a("EXISTS", "h") == b("EXISTS", "h") == num(0)


def test_fields_are_never_merged():
    a, b = Local("a"), Local("b")
    a("HSET", "h", "f", made_of("1"))
    b.later(1)
    b("HSET", "h", "f", "7")
    sync(a, b)
    assert a("HGET", "h", "f") == b("HGET", "h", "f") == bulk("7")
    assert a("HINCRBY", "h", "f", 1) == num(8)


def test_two_views_at_once():
    a, b = Local("a"), Local("b")
    a("MSET", "x", made_of("1"), "y", made_of("3"))
    b("MSET", "x", made_of("2"), "y", made_of("4"))
    sync(a, b)
    assert a("STRLEN", "x") == a("STRLEN", "y")
    assert decode(a("LCS", "x", "y", "LEN")) < decode(a("STRLEN", "x"))


def test_keys_that_one_op_wrote_are_counted_each_for_itself(c):
    c("MULTI")
    for argv in (("PFADD", "x", "1"), ("PFADD", "y", "1", "2"), ("SELECT", 1),
                 ("PFADD", "x", "1", "2", "3"), ("SELECT", 0)):
        c(*argv)
    c("EXEC")
    assert c("PFCOUNT", "x") == num(1) and c("PFCOUNT", "y") == num(2)
    c("SELECT", 1)
    assert c("PFCOUNT", "x") == num(3)
    c("SELECT", 0)
    assert c("PFCOUNT", "x") == num(1)

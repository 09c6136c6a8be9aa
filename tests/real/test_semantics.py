"""The public contract of concurrent commands, on three real server processes.

Every worked example and every table row about strings, counters, keys, expiry, transactions, FLUSH*
and RENAME; collections and clashes of types are in test_semantics_collections.py. Replication is
paused in both directions at all three before the concurrent part and resumed after it; replies
before that are local. Every test runs twice, with the roles of the replicas exchanged, so that no
outcome hangs on which of them has the greater id, and ends with equal digests (conftest.py).
"""
import time

import pytest

from tests.core.hyperloglog import made_of
from tests.respclient import ReplyError

# seconds between two commands of which one must have the later timestamp
LATER = 0.005


# ---- worked examples -----------------------------------------------------------------------------

def test_STR_1(w):
    w.A("SET", "k", "a")
    time.sleep(LATER)
    w.B("SET", "k", "b")
    w.S()
    assert w.all("GET", "k") == b"b"
    w.A("SET", "k", "c")
    w.S()
    assert w.all("GET", "k") == b"c"
    w.apart()
    w.B("SET", "k", "d")
    assert w.B("GET", "k") == b"d" and w.A("GET", "k") == b"c"
    w.S()
    assert w.all("GET", "k") == b"d"


def test_STR_2(w):
    w.A("SET", "k", "v1")
    w.S()
    w.apart()
    assert w.A("DEL", "k") == 1
    w.B("SET", "k", "v3")
    assert w.A("GET", "k") is None
    w.S()
    assert w.all("GET", "k") == b"v3"


def test_CNT_1(w):
    w.apart()
    assert w.A("INCRBY", "c", 7) == 7
    assert w.B("INCRBY", "c", 3) == 3
    assert w.A("GET", "c") == b"7" and w.B("GET", "c") == b"3"
    w.S()
    assert w.all("GET", "c") == b"10"
    w.apart()
    w.A("DECRBY", "c", 3)
    w.B("INCRBY", "c", 6)
    w.S()
    assert w.all("GET", "c") == b"13"


def test_CNT_2(w):
    w.A("SET", "c", 10)
    w.S()
    w.apart()
    w.A("DEL", "c")
    w.B("INCRBY", "c", 5)
    assert w.A("EXISTS", "c") == 0 and w.B("GET", "c") == b"15"
    w.S()
    assert w.all("GET", "c") == b"5"


@pytest.mark.parametrize("how", ["SET", "INCRBY"])
def test_CNT_3(w, how):
    w.A(how, "c", 10)
    w.S()
    w.apart()
    w.A("DEL", "c")
    w.B("DEL", "c")
    assert w.C("INCR", "c") == 11
    w.S()
    assert w.all("GET", "c") == b"1"


@pytest.mark.parametrize("how", ["SET", "INCRBY"])
def test_CNT_4(w, how):
    w.A(how, "c", 10)
    w.S()
    w.apart()
    w.A("SET", "c", 100)
    assert w.B("INCRBY", "c", 5) == 15
    w.S()
    assert w.all("GET", "c") == b"105"


def test_BIT_1(w):
    w.A("SETBIT", "b", 7, 1)
    w.S()
    w.apart()
    w.A("SETBIT", "b", 1, 1)
    w.B("SETBIT", "b", 2, 1)
    w.S()
    assert w.all("GET", "b") == bytes([0b01100001])


def test_BIT_2(w):
    w.A("SETBIT", "b", 7, 1)
    w.S()
    w.apart()
    w.A("SETBIT", "b", 1, 1)
    w.B("DEL", "b")
    assert w.B("EXISTS", "b") == 0
    w.S()
    assert w.all("GET", "b") == bytes([0b01000000])


def test_APP_1(w):
    w.A("SET", "s", "x")
    w.S()
    w.apart()
    w.A("APPEND", "s", "a")
    w.B("APPEND", "s", "b")
    w.S()
    assert w.all("GET", "s") in (b"xab", b"xba")
    w.apart()
    w.A("SET", "s", "y")
    w.B("APPEND", "s", "c")
    w.S()
    assert w.all("GET", "s") == b"y"


def test_HLL_1(w):
    w.A("PFADD", "h", "a")
    w.S()
    w.apart()
    w.A("DEL", "h")
    w.B("PFADD", "h", "a", "b")
    w.S()
    assert w.all("PFCOUNT", "h") == 2
    w.apart()
    w.A("PFADD", "h", "c")
    w.B("PFADD", "h", "d")
    w.C("SET", "h", made_of("e"))
    w.S()
    assert w.all("PFCOUNT", "h") == 5 and w.all("TYPE", "h") == b"string"
    w.A("PFMERGE", "sum", "h", "none")
    w.S()
    assert w.all("PFCOUNT", "sum", "h") == 5
    w.apart()
    w.A("PFADD", "h", "f")
    time.sleep(LATER)
    w.B("SET", "h", "text")
    w.S()
    assert w.all("PFCOUNT", "h") == 6
    w.C("SET", "h", "text")
    w.S()
    assert w.all("GET", "h") == b"text"


def test_TTL_1(w):
    w.A("SET", "k", "v", "EX", 100)
    w.S()
    w.apart()
    w.A("EXPIRE", "k", 10)
    time.sleep(LATER)
    w.B("EXPIRE", "k", 50)
    assert 9 <= w.A("TTL", "k") <= 10
    w.S()
    for s in w.mesh:
        assert 48 <= s("TTL", "k") <= 50
    w.all("PEXPIRETIME", "k")


def test_TTL_2(w):
    w.A("SET", "k", 1, "PX", 3000)
    w.S()
    w.apart()
    assert w.B("INCR", "k") == 2, "the machine was too slow: the key expired before the increment"
    while w.A("EXISTS", "k"):
        time.sleep(0.01)
    time.sleep(0.2)
    w.S()
    end = time.monotonic() + 10
    while any(s("EXISTS", "k") for s in w.mesh):
        assert time.monotonic() < end, "still there"
        time.sleep(0.01)
    time.sleep(0.3)
    assert w.all("EXISTS", "k") == 0
    w.S()
    assert w.all("GET", "k") is None


def test_TXN_1(w):
    w.A("SET", "x", 0)
    w.A("SET", "y", 0)
    w.S()
    with w.A.connect() as a, w.B.connect() as b:
        seen = set()
        for i in range(1, 400):
            a.pipeline([["MULTI"], ["SET", "x", i], ["SET", "y", i], ["EXEC"]])
            x, y = b.pipeline([["MULTI"], ["GET", "x"], ["GET", "y"], ["EXEC"]])[-1]
            assert x == y
            seen.add(x)
        assert len(seen) > 3, "B never saw anything move: nothing was proved"


# ---- strings and counters ------------------------------------------------------------------------

def test_loser_stays_visible_in_inspect_until_the_next_write(w):
    w.apart()
    w.A("SET", "k", "first-value")
    time.sleep(LATER)
    w.B("SET", "k", "second-value")
    w.S()
    assert w.all("GET", "k") == b"second-value"
    for s in w.mesh:
        assert ("first-value" in str(s("CRDT.INSPECT", "k"))
                and "second-value" in str(s("CRDT.INSPECT", "k")))
    assert any("k" in str(x) for x in w.C("CRDT.CONFLICTS")), "the conflict is not reported"
    w.C("SET", "k", "third-value")
    w.S()
    for s in w.mesh:
        text = str(s("CRDT.INSPECT", "k"))
        assert "first-value" not in text and "second-value" not in text and "third-value" in text


@pytest.mark.parametrize("command", [("APPEND", "k", "-tail"), ("SETRANGE", "k", "1", "XY"),
                                     ("SETBIT", "k", "7", "1"),
                                     ("BITFIELD", "k", "SET", "u8", "0", "65")])
@pytest.mark.parametrize("set_is_later", [True, False])
def test_a_change_goes_with_the_value_it_was_made_in(w, command, set_is_later):
    w.A("SET", "k", "base")
    w.S()
    w.apart()
    if not set_is_later:
        w.A("SET", "k", "whole")
        time.sleep(LATER)
    w.B(*command)
    time.sleep(LATER)
    if set_is_later:
        w.A("SET", "k", "whole")
    w.S()
    assert w.all("GET", "k") == b"whole"


def test_float_increments_add_up_to_the_same_bytes(w):
    w.apart()
    w.A("INCRBYFLOAT", "f", "0.1")
    w.B("INCRBYFLOAT", "f", "0.2")
    w.C("INCRBYFLOAT", "f", "1e-7")
    w.A("INCRBYFLOAT", "f", "3.5")
    w.S()
    assert abs(float(w.all("GET", "f")) - 3.8000001) < 1e-12


def test_float_and_whole_increments_mix(w):
    w.apart()
    w.A("INCRBYFLOAT", "f", "0.5")
    w.B("INCRBY", "f", 2)
    w.S()
    assert w.all("GET", "f") == b"2.5"


def test_delete_takes_back_exactly_what_it_observed(w):
    w.A("INCRBY", "c", 10)
    w.S()
    w.B("INCRBY", "c", 1)
    w.S()
    w.apart()
    w.A("INCRBY", "c", 100)
    w.C("DEL", "c")
    w.B("INCRBY", "c", 20)
    w.S()
    assert w.all("GET", "c") == b"120"


def test_negative_increment_survives_a_delete(w):
    w.A("INCRBY", "c", 10)
    w.S()
    w.apart()
    w.A("INCRBY", "c", -4)
    w.B("DEL", "c")
    w.S()
    assert w.all("GET", "c") == b"-4"


def test_two_deletes_that_saw_different_sums(w):
    """Take-backs are compared by what they saw, not by size: the sum went down in between."""
    w.A("INCRBY", "c", 10)
    w.S()
    w.apart()
    w.B("DEL", "c")
    w.A("INCRBY", "c", -8)
    w.A("DEL", "c")
    w.S()
    assert w.all("EXISTS", "c") == 0


def test_text_hides_increments_until_observed(w):
    w.A("INCRBY", "k", 5)
    w.S()
    w.apart()
    w.A("SET", "k", "text")
    w.B("INCRBY", "k", 5)
    w.S()
    assert w.all("GET", "k") == b"text"
    assert all("5" in str(s("CRDT.INSPECT", "k")) for s in w.mesh)
    with pytest.raises(ReplyError, match="not an integer"):
        w.C("INCR", "k")
    w.C("SET", "k", 1)
    w.S()
    assert w.all("GET", "k") == b"1"


def test_sum_saturates_at_64_bits(w):
    top = 2**63 - 1
    w.apart()
    w.A("INCRBY", "c", top - 5)
    w.B("INCRBY", "c", 100)
    w.S()
    assert w.all("GET", "c") == b"%d" % top
    with pytest.raises(ReplyError, match="increment or decrement would overflow"):
        w.C("INCR", "c")
    w.apart()
    w.A("INCRBY", "d", -top)
    w.B("INCRBY", "d", -100)
    w.S()
    assert w.all("GET", "d") == b"%d" % -2**63


def test_increments_are_never_counted_twice(w):
    """Many small steps from everywhere, with links cut and restored meanwhile."""
    for _ in range(3):
        w.apart()
        for s in w.mesh:
            s.connect().pipeline([["INCR", "c"]] * 100)
        w.mesh.resume()
        for s in w.mesh:
            s.connect().pipeline([["INCR", "c"]] * 100)
    w.S()
    assert w.all("GET", "c") == b"1800"


# ---- expiry --------------------------------------------------------------------------------------

def test_later_persist_beats_expire(w):
    w.A("SET", "k", "v", "EX", 100)
    w.S()
    w.apart()
    w.A("EXPIRE", "k", 10)
    time.sleep(LATER)
    w.B("PERSIST", "k")
    w.S()
    assert w.all("TTL", "k") == -1


def test_later_expire_beats_persist(w):
    w.A("SET", "k", "v", "EX", 100)
    w.S()
    w.apart()
    w.B("PERSIST", "k")
    time.sleep(LATER)
    w.A("EXPIREAT", "k", 4_000_000_000)
    w.S()
    assert w.all("EXPIRETIME", "k") == 4_000_000_000


@pytest.mark.parametrize("write_is_later", [True, False])
def test_a_write_that_keeps_the_deadline_keeps_the_new_one(w, write_is_later):
    w.A("SET", "c", 1, "EX", 100)
    w.S()
    w.apart()
    if not write_is_later:
        w.B("INCR", "c")
        time.sleep(LATER)
    w.A("EXPIREAT", "c", 4_000_000_000)
    if write_is_later:
        time.sleep(LATER)
        w.B("INCR", "c")
    w.S()
    assert w.all("GET", "c") == b"2" and w.all("EXPIRETIME", "c") == 4_000_000_000


@pytest.mark.parametrize("set_is_later", [True, False])
def test_set_or_expire_the_later_decides_the_deadline(w, set_is_later):
    w.A("SET", "k", "old")
    w.S()
    w.apart()
    if set_is_later:
        w.B("EXPIREAT", "k", 4_000_000_000)
        time.sleep(LATER)
    w.A("SET", "k", "v")
    if not set_is_later:
        time.sleep(LATER)
        w.B("EXPIREAT", "k", 4_000_000_000)
    w.S()
    assert w.all("GET", "k") == b"v"
    assert w.all("EXPIRETIME", "k") == (-1 if set_is_later else 4_000_000_000)


def test_a_write_after_the_deadline_starts_fresh(w):
    w.A("SET", "c", 100, "PX", 150)
    w.S()
    w.apart()
    time.sleep(0.25)
    assert w.B("INCR", "c") == 1 and w.B("TTL", "c") == -1
    assert w.A("EXISTS", "c") == 0
    w.S()
    assert w.all("GET", "c") == b"1" and w.all("TTL", "c") == -1


def test_expired_keys_go_everywhere_and_stay_gone(w):
    for i in range(50):
        w.mesh[i % 3]("SET", f"t{i}", "v", "PX", 100 + i)
    w.S()
    end = time.monotonic() + 5
    while any(s("DBSIZE") for s in w.mesh):
        assert time.monotonic() < end, "keys were not reaped"
        time.sleep(0.02)
    w.S()
    assert w.all("DBSIZE") == 0


# ---- keys, FLUSH*, RENAME, transactions ----------------------------------------------------------

def test_rename_and_a_write_to_the_old_name(w):
    w.A("SET", "a", "observed")
    w.S()
    w.apart()
    w.A("RENAME", "a", "b")
    w.B("SET", "a", "new")
    w.S()
    assert w.all("GET", "b") == b"observed" and w.all("GET", "a") == b"new"


def test_rename_of_a_counter_and_an_increment(w):
    w.A("INCRBY", "a", 10)
    w.S()
    w.apart()
    w.A("RENAME", "a", "b")
    w.B("INCRBY", "a", 5)
    w.S()
    assert w.all("GET", "b") == b"10" and w.all("GET", "a") == b"5"


@pytest.mark.parametrize("flush", ["FLUSHALL", "FLUSHDB"])
def test_flush_leaves_what_it_did_not_see(w, flush):
    w.A("MSET", "a", 1, "b", 2)
    w.A("INCRBY", "c", 10)
    w.S()
    w.apart()
    w.A(flush)
    w.B("SET", "b", "new")
    w.B("INCRBY", "c", 5)
    w.C("SET", "d", "fresh")
    assert w.A("DBSIZE") == 0
    w.S()
    assert (sorted(w.all("MGET", "a", "b", "c", "d"), key=str)
            == sorted([None, b"new", b"5", b"fresh"], key=str))
    assert w.all("DBSIZE") == 3


def test_flushdb_touches_one_database(w):
    with w.A.connect() as a:
        a("SET", "k", "zero")
        a("SELECT", 1)
        a("SET", "k", "one")
        a("FLUSHDB")
    w.S()
    assert w.all("GET", "k") == b"zero"
    with w.B.connect() as b:
        b("SELECT", 1)
        assert b("GET", "k") is None


def test_mset_is_one_operation(w):
    with w.A.connect() as a, w.B.connect() as b:
        for i in range(200):
            a("MSET", "x", i, "y", i)
            x, y = b("MGET", "x", "y")
            assert x == y


def test_transaction_with_every_kind_of_effect(w):
    w.A("SET", "gone", 1)
    w.A("INCRBY", "c", 5)
    w.S()
    w.apart()
    replies = w.A.connect().pipeline([["MULTI"], ["INCR", "c"], ["DEL", "c"], ["INCRBY", "c", 7],
                                      ["DEL", "gone"], ["SET", "k", "v"],
                                      ["EXPIREAT", "k", 4_000_000_000], ["EXEC"]])
    assert replies[-1] == [6, 1, 7, 1, b"OK", 1]
    w.B("INCRBY", "c", 100)
    w.S()
    assert w.all("MGET", "c", "gone", "k") == [b"107", None, b"v"]
    assert w.all("EXPIRETIME", "k") == 4_000_000_000


def test_watch_is_broken_by_a_remote_write(w):
    w.A("SET", "k", 1)
    w.S()
    with w.A.connect() as a:
        a("WATCH", "k")
        w.B("SET", "k", 2)
        w.S()
        assert a.pipeline([["MULTI"], ["SET", "k", 3], ["EXEC"]])[-1] is None
    assert w.all("GET", "k") == b"2"


def test_what_stays_local(w):
    w.apart()
    assert w.A("SET", "lock", "a", "NX") == b"OK"
    assert w.B("SETNX", "lock", "b") == 1
    w.S()
    assert w.all("GET", "lock") in (b"a", b"b")


def test_move_copy_and_swapdb(w):
    w.A("SET", "m", "v")
    w.S()
    assert w.B("MOVE", "m", 2) == 1
    w.S()
    assert w.all("EXISTS", "m") == 0
    with w.C.connect() as c:
        c("SELECT", 2)
        assert c("GET", "m") == b"v"
        c("COPY", "m", "n")
        assert c("SWAPDB", 0, 2) == b"OK"
    w.S()
    assert w.all("MGET", "m", "n") == [b"v", b"v"]


def test_a_pair_with_no_path_but_a_third_replica(w):
    """A and B cannot reach each other; C hands on what it has."""
    w.A("CRDT.PEER", "PAUSE", w.B.name)
    w.B("CRDT.PEER", "PAUSE", w.A.name)
    w.A("SET", "k", "relayed")
    end = time.monotonic() + 15
    while w.B("GET", "k") != b"relayed":
        assert time.monotonic() < end, "C did not hand it on"
        time.sleep(0.05)

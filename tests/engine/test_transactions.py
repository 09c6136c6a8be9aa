"""MULTI, EXEC, DISCARD, WATCH: refusals, WATCH's view of other clients, peers and time, and that a
transaction is one op."""
from __future__ import annotations

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Executor
from tests.engine.conftest import NOW

OK, QUEUED = b"+OK\r\n", b"+QUEUED\r\n"
ABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


def test_runs_all_and_answers_in_order(run):
    assert (run("MULTI", "SET a 1", "INCR a", "GET a", "EXEC")
            == OK + QUEUED * 3 + b"*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n")
    assert run("MULTI", "EXEC") == OK + b"*0\r\n"


def test_an_error_inside_does_not_stop_the_rest(run):
    assert run("SET s x", "MULTI", "INCR s", "SET t y", "EXEC", "GET t") == (
        OK * 2 + QUEUED * 2 +
        b"*2\r\n-ERR value is not an integer or out of range\r\n+OK\r\n$1\r\ny\r\n")


@pytest.mark.parametrize("bad", ["NOPE", "GET", "CLIENT NOPE", "CLIENT SETNAME"])
def test_a_refusal_while_queueing_spoils_it(run, bad):
    assert (run("MULTI") == OK and run(bad).startswith(b"-ERR ") and run("SET a 1", "EXEC", "GET a")
            == QUEUED + ABORT + b"$-1\r\n")


def test_nesting_and_strays(run):
    assert run("EXEC", "DISCARD") == b"-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n"
    assert run("MULTI", "MULTI", "WATCH a", "PING", "EXEC") == (
        OK + b"-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n" +
        QUEUED + b"*1\r\n+PONG\r\n")
    assert (run("MULTI", "SET a 1", "DISCARD", "EXEC", "GET a")
            == OK + QUEUED + OK + b"-ERR EXEC without MULTI\r\n$-1\r\n")


def test_select_inside_and_after(run):
    assert run("MULTI", "SET a 0", "SELECT 3", "SET a 3", "EXEC", "GET a", "SELECT 0", "GET a") == (
        OK + QUEUED * 3 + b"*3\r\n" + OK * 3 + b"$1\r\n3\r\n" + OK + b"$1\r\n0\r\n")


def test_watch_sees_other_clients(run, executor):
    other = executor.session()
    for change, answer in (("SET k 2", b"*-1\r\n"), ("GETDEL k", b"*-1\r\n"),
                           ("GETEX k EX 100", b"*-1\r\n"), ("GET k", b"*1\r\n+PONG\r\n"),
                           ("SET other 1", b"*1\r\n+PONG\r\n")):
        run("SET k 1", "WATCH k nothing")
        run(change, session=other)
        assert run("MULTI", "PING", "EXEC") == OK + QUEUED + answer, change
        assert run("MULTI", "PING", "EXEC") == OK + QUEUED + b"*1\r\n+PONG\r\n", (
            "EXEC lets go of watched keys")


def test_watch_of_an_absent_key(run, executor):
    run("WATCH nothing")
    run("SET nothing 1", session=executor.session())
    assert run("MULTI", "EXEC") == OK + b"*-1\r\n"


def test_watch_sees_its_own_client(run):
    assert run("WATCH k", "SET k 1", "MULTI", "EXEC") == OK * 3 + b"*-1\r\n"
    assert run("WATCH k", "SET k 1", "UNWATCH", "MULTI", "EXEC") == OK * 4 + b"*0\r\n"
    assert run("WATCH k", "SET k 1", "MULTI", "DISCARD", "MULTI", "EXEC") == OK * 5 + b"*0\r\n"


def test_watch_is_of_a_database(run, executor):
    run("WATCH k")
    run("SELECT 1", "SET k 1", session=executor.session())
    assert run("MULTI", "EXEC") == OK + b"*0\r\n"


def test_watch_of_very_many_keys_and_of_one_again_and_again(run, executor):
    """Looking through the watched keys at each of them would take minutes."""
    run("WATCH k")
    other = executor.session()
    for round in range(3):
        assert run("WATCH " + " ".join(f"k{i}" for i in range(300_000))) == OK
        assert run("WATCH " + " ".join(["k"] * 300_000)) == OK
        if round == 1:
            run("SET k 1", session=other)
    assert run("MULTI", "EXEC") == OK + b"*-1\r\n"
    run("WATCH a b a b a b a b a b", "WATCH c", "MULTI", "EXEC", "WATCH a b a b a b a b a b")
    run("SET c 1", session=other)
    assert run("MULTI", "EXEC") == OK + b"*0\r\n"


def test_watch_sees_peers(run, replica):
    peer = Replica("b", NOW, seed=2)
    peer.now = NOW
    x = Executor(peer)
    run("SET k 1", "WATCH k")
    x.execute(x.session(), [b"SET", b"k", b"2"])
    replica.receive(peer.take_ops())
    assert run("MULTI", "EXEC") == OK + b"*-1\r\n"


def test_a_deadline_that_passes_after_watch_is_a_change(run, replica):
    run("SET k 1 PX 100", "WATCH k")
    replica.now += 200
    assert run("MULTI", "EXEC") == OK + b"*-1\r\n"


@pytest.mark.parametrize("reaped", [False, True])
def test_a_key_that_had_expired_before_watch_is_not(run, replica, reaped):
    run("SET k 1 PX 100")
    replica.now += 200
    run("WATCH k")
    if reaped:
        replica.now += 100_000
        replica.tick()
        assert replica.keys(0) == (0, 0)
    assert run("MULTI", "EXEC") == OK + b"*0\r\n"
    run("WATCH k", "SET k 2")
    assert run("MULTI", "EXEC") == OK + b"*-1\r\n"


def test_a_transaction_is_one_op(run, replica):
    run("SET a 1")
    before = replica.clock()
    run("MULTI", "SET x 1", "SET y 1", "INCR a", "EXEC")
    (seq,), (old,) = replica.clock().values(), before.values()
    assert seq == old + 1
    run("MULTI", "GET x", "EXEC")
    assert list(replica.clock().values()) == [seq], "reading makes no op"


def test_what_a_client_wrote(run):
    assert run.session.wrote == 0
    run("SET a 1")
    assert run.session.wrote == 1
    run("GET a", "MULTI", "INCR a", "INCR a", "EXEC")
    assert run.session.wrote == 2

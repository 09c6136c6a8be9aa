"""Times that clients give: whatever the number, the answer is Redis 7.2's, nobody is stuck, and the
loop sleeps afterwards."""
from __future__ import annotations

import gc
import logging
import time

import pytest

from crdtredis.logs import Brake
from tests.engine.conftest import encode, tokens
from tests.engine.test_blocking import blocked

INTERNAL, PONG = b"-ERR internal error\r\n", b"+PONG\r\n"
IN_SECONDS = ["BLPOP k {}", "BRPOP k {}", "BLMOVE k l LEFT LEFT {}", "BLMOVEM k l LEFT LEFT {}",
              "BRPOPLPUSH k l {}", "BLMPOP {} 1 k LEFT", "BZPOPMIN k {}", "BZPOPMAX k {}",
              "BZMPOP {} 1 k MIN"]
IN_MS = ["WAIT 1 {}", "WAITAOF 0 1 {}", "CLIENT PAUSE {} WRITE", "CRDT.SYNC {}"]
FLOATS = {"nan": "timeout is not a float or out of range", "-0.1": "timeout is negative",
          "-inf": "timeout is negative",
          "-1e308": "timeout is negative", "inf": "timeout is out of range",
          "1e308": "timeout is out of range",
          "9223372036854775807": "timeout is out of range",
          "9223372036854775": "timeout is out of range", "1e4000": "timeout is out of range",
          "1e5000": "timeout is not a float or out of range",
          "x": "timeout is not a float or out of range",
          "": "timeout is not a float or out of range"}
INTEGERS = {"-1": "timeout is negative", "-9223372036854775808": "timeout is negative",
            "9223372036854775807": "timeout is out of range",
            "9223372036854775808": "timeout is not an integer or out of range",
            "-9223372036854775809": "timeout is not an integer or out of range",
            "nan": "timeout is not an integer or out of range",
            "inf": "timeout is not an integer or out of range",
            "1e308": "timeout is not an integer or out of range",
            "1.5": "timeout is not an integer or out of range",
            "": "timeout is not an integer or out of range"}


def iterations(s) -> int:
    return s.on_engine(lambda: s.loop.stats()["iterations"])


def sleeps(s) -> None:
    """A loop with something due for ever does thousands of iterations in this time; one that sleeps
    does its ten rounds a second."""
    before = iterations(s)
    time.sleep(0.2)
    assert iterations(s) - before < 100


@pytest.mark.parametrize(("commands", "refusals"), [(IN_SECONDS, FLOATS), (IN_MS, INTEGERS)],
                         ids=["seconds", "milliseconds"])
def test_time_limits_that_are_none(served, commands, refusals):
    s = served()
    c = s.connect()
    for command in commands:
        for value, text in refusals.items():
            c.send([word.replace("{}", value).encode()
                    for word in command.split()]).expect(f"-ERR {text}\r\n".encode())
    blocked(s, 0)
    c.send("PING").expect(PONG)
    sleeps(s)


@pytest.mark.parametrize("command", [*IN_SECONDS, *IN_MS[:2]])
@pytest.mark.parametrize("much", [0, 5_000], ids=["for ever", "as long as can be"])
def test_waiting_as_long_as_can_be(served, command, much):
    s = served()
    c, d = s.connect(), s.connect()
    most = (2**63 - 1 - int(time.time() * 1000) - much) * (much > 0)
    c.send(command.format(most // 1000 if command in IN_SECONDS else most))
    blocked(s, 1)
    sleeps(s)
    d.send("WAIT 1 1").expect(b":0\r\n")
    d.send(f"CLIENT UNBLOCK {s.on_engine(s.loop.clients)[0]['id']} ERROR").expect(b":1\r\n")
    c.expect(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")
    blocked(s, 0)


def test_a_limit_of_less_than_a_millisecond_ends(served):
    s = served()
    c = s.connect()
    for value in ("0.0001", "1e-300", "0.00000000000000000001"):
        c.send(f"BLPOP k {value}").expect(b"*-1\r\n")


def test_a_pause_as_long_as_can_be_ends_on_request(served):
    s = served()
    c, d = s.connect(), s.connect()
    c.send(f"CLIENT PAUSE {2**63 - 1 - int(time.time() * 1000) - 5_000} WRITE").expect(b"+OK\r\n")
    d.send("SET k v")
    blocked(s, 1)
    sleeps(s)
    c.send("CLIENT UNPAUSE").expect(b"+OK\r\n")
    d.expect(b"+OK\r\n")


@pytest.mark.parametrize("when", ["at-once", "in-time", "reply"])
def test_a_command_that_fails_while_it_waits_frees_its_client(served, when):
    s = served()
    c, d = s.connect(), s.connect()
    c.send(f"TEST.DEFER.RAISE {when}", "PING").expect(INTERNAL + PONG)
    d.send("TEST.DEFER 1").expect(b"+TIMEOUT\r\n")
    blocked(s, 0)
    sleeps(s)


def test_a_command_that_refuses_while_it_waits_frees_its_client(served):
    c = served().connect()
    c.send("TEST.DEFER.RAISE refused", "PING").expect(b"-CODE as asked\r\n" + PONG)


def test_a_limit_beyond_the_clock_is_no_limit_set(served):
    s = served()
    c = s.connect()
    c.send(f"TEST.DEFER {2**63 - 1}", "PING").expect(INTERNAL + PONG)
    blocked(s, 0)


def test_tracebacks_that_a_client_can_cause_are_bounded(served, caplog):
    now = [0.0]
    brake = Brake(lambda: now[0])
    caplog.handler.addFilter(brake)
    c = served().connect()
    n = 1000
    c.raw(encode("TEST.RAISE now") * n).expect(INTERNAL * n)
    assert len(caplog.records) == brake.FAULTS
    now[0] += brake.PERIOD
    c.send("TEST.RAISE now").expect(INTERNAL)
    assert f"and {n - brake.FAULTS} times more" in caplog.records[-1].getMessage()
    assert len(caplog.records) == brake.FAULTS + 1


def test_the_brake_forgets_kinds_beyond_a_bound():
    brake = Brake()
    for i in range(3 * brake.KINDS):
        assert brake.filter(logging.LogRecord("crdtredis.x", logging.INFO, "", 0, f"message {i}",
                                              (), None))
    assert len(brake.kinds) <= brake.KINDS


def test_what_works_for_a_reply_hears_that_nobody_wants_it(served):
    """The client closed: nothing is kept for it, whatever time limit it gave."""
    s, ended = served(), []
    tokens.clear()
    for n in range(300):
        c = s.connect()
        c.send("TEST.DEFER 1000000000")
        s.wait(lambda n=n: len(tokens) == n + 1)
        tokens[n].ended = lambda n=n: ended.append(n)
        c.sock.close()
        s.wait(lambda n=n: len(ended) == n + 1)
    kind = type(tokens[0])
    tokens.clear()
    assert ended == list(range(300))
    assert s.on_engine(lambda: sum(isinstance(o, kind) for o in gc.get_objects())) < 150, (
        "the heap of time limits is swept")

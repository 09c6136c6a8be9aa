"""A replica whose clock once was two hours ahead: it says so and takes no writes, the others go on,
and an operator's word lets all of it in."""
import json
import pytest
import re
import time

from crdtredis._core import Replica, probe_make, record
from crdtredis.storage.recovery import recover
from crdtredis.storage.segments import SegmentLog
from tests.http.test_operators import ask
from tests.real.cluster import Cluster
from tests.respclient import ReplyError

AHEAD = 7200                    # seconds


def make_ahead(server, n: int = 50) -> int:
    """Puts a log in its data directory, of a process whose clock was ahead. Returns the Unix time
    up to which it stamped."""
    now = int(time.time() * 1000)
    server.data_dir.mkdir()
    (server.data_dir / "identity.json").write_text(json.dumps({"format": 1,
                                                               "replica_id": server.name,
                                                               "epoch": now - 1000}))
    replica = Replica(server.name, now - 1000)
    recovered = recover(server.data_dir, server.name, replica)
    log = SegmentLog(server.data_dir, server.name,
                     lambda: (replica.declared(), replica.clock_ids()), position=recovered.position)
    replica.now = now + AHEAD * 1000
    for i in range(n):
        probe_make(replica, [("set", 0, b"ahead:%d" % i, b"v")])
    assert log.writer.add(record(replica.take_ops()))
    assert log.close() is None
    return (replica.newest_stamp >> 16) // 1000 + 1


def health(server) -> tuple[int, list[str], list[str]]:
    status, _, text = ask(server, "/health")
    found = json.loads(text)
    return status, found["reasons"], found["warnings"]


def until(condition, timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def abc(processes):
    """a has been ahead; b and c never were."""
    c = Cluster(3)
    c.until = make_ahead(c[0])
    return c.start()


def accept(server, until) -> None:
    assert server("CONFIG", "SET", "accept-stamps-until", until) == b"OK"


def test_the_replica_itself_says_so_and_takes_no_writes(abc):
    a = abc[0]
    status, reasons, _ = health(a)
    assert (status == 503 and len(reasons) == 1
            and f"CONFIG SET accept-stamps-until {abc.until} at every replica" in reasons[0])
    for command in (("SET", "k", "v"), ("DEL", "ahead:1"), ("LPUSH", "l", "x"),
                    ("BLPOP", "l", "0")):
        with pytest.raises(ReplyError,
                           match="^CLOCKAHEAD Writes are refused: timestamps here are ahead of the "
                                 "clock"):
            a(*command)
    assert a("GET", "ahead:1") == b"v" and a("DBSIZE") == 50
    with a.connect() as c:
        assert c("MULTI") == b"OK"
        with pytest.raises(ReplyError, match="^CLOCKAHEAD"):
            c("SET", "k", "v")
        with pytest.raises(ReplyError, match="^EXECABORT"):
            c("EXEC")
    info = a("INFO", "crdt").decode()
    assert ("writes_refused_for_clock:1" in info
            and AHEAD - 60 < float(info.split("stamps_ahead_seconds:")[1].split()[0]) <= AHEAD)
    until(lambda: "more than max_clock_skew: writes are refused" in a.log())
    assert abc[1]("DBSIZE") == 0


def test_the_others_serve_on_and_warn(abc):
    _, b, c = abc
    b("SET", "from", "b")
    until(lambda: c("GET", "from") == b"b" and len(health(b)[2]) == len(health(c)[2]) == 1)
    for s in (b, c):
        status, reasons, (warning,) = health(s)
        assert status == 200 and not reasons and "operations of replica a are held (50)" in warning
        assert ("ops_held_for_clock_skew:50" in (info := s("INFO", "crdt").decode())
                and "held0:replica=a," in info)
        s("SET", f"by-{s.name}", "1")                           # their own stamps are not ahead
        assert "writes_refused_for_clock:0" in info
    until(lambda: "operations of replica a are held" in b.log())


def test_an_operators_word_at_every_replica_lets_everything_in_and_nothing_is_lost(abc):
    a, b, c = abc
    b("SET", "by-b", "1")
    until(lambda: "ops_held_for_clock_skew:50" in b("INFO", "crdt").decode()
          and "writes are refused" in a.log())
    accept(a, abc.until)
    assert a("SET", "late", "1") == b"OK" and health(a)[:2] == (200, [])
    accept(b, abc.until)
    until(lambda: b("DBSIZE") == 52)
    # What b makes now has seen a's ops: at c, which has accepted nothing, it waits behind them, and
    # c is well.
    assert b("SET", "after", "1") == b"OK" and health(b)[0] == 200
    # that a and b belong to the cluster may be among them, too
    until(lambda: int(re.search(rb"waiting_ops:(\d+)", c("INFO", "crdt"))[1]) >= 52)
    assert (health(c)[0] == 200 and len(health(c)[2]) == 1 and c("GET", "after") is None
            and c("GET", "by-b") == b"1")
    accept(c, abc.until)
    abc.sync()
    abc.assert_converged()
    for s in abc:
        assert s("DBSIZE") == 53 and health(s) == (200, [], [])
    for s in abc:
        s("INCR", "counter")
    abc.sync()
    assert [s("GET", "counter") for s in abc] == [b"3"] * 3
    until(lambda: "stamps of replica a are no longer too far ahead" in a.log())


def test_after_a_restart_the_word_is_asked_for_again_unless_it_is_written_down(abc, tmp_path):
    a, b, _ = abc
    for s in abc:
        accept(s, abc.until)
    abc.sync()
    for s in (a, b):                                            # b has taken in what a had stamped
        s.restart()
        assert health(s)[0] == 503
        with pytest.raises(ReplyError, match="^CLOCKAHEAD"):
            s("SET", "k", "v")
    for s in (a, b):
        s.settings["accept_stamps_until"] = abc.until
        s.restart()
        assert s("SET", "k", "v") == b"OK" and health(s)[0] == 200
    abc.sync()
    abc.assert_converged()


def test_a_word_too_small_is_not_enough(abc):
    a, b, _ = abc
    for s in (a, b):
        accept(s, abc.until - 300)
    assert health(a)[0] == 503
    time.sleep(0.3)
    assert b("DBSIZE") == 0

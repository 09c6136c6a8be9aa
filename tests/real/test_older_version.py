"""A cluster in which one replica runs the version before (older.py): operations go both ways, it is
sent nothing that it would refuse, and what waits for it comes once it is upgraded, or gone."""
import os
import select

import pytest

from crdtredis.replication import crdtredis_pb2 as ops
from crdtredis.storage.format import opened, read_batches, read_header
from tests.real.cluster import Server, until
from tests.real.older import Older
from tests.real.test_full_sync import after_rounds
from tests.real.test_members import QUICK, members, server, up                  # noqa: F401
from tests.respclient import ReplyError

LIBRARY = "#!lua name=l\nredis.register_function('f', function() return 'x' end)"


@pytest.fixture
def older():
    made = []

    def start(*argv) -> Older:
        made.append(Older(*argv))
        return made[-1]

    yield start
    for o in made:
        if o.thread.is_alive():
            o.stop()


def write(*servers) -> None:
    for i, s in enumerate(servers):
        for j in range(20):
            s("SET", f"{i}:{j}", j), s("RPUSH", "l", f"{i}:{j}"), s("INCRBY", "n", j)
            s("HSET", "h", i, j), s("SADD", "s", i, j), s("ZADD", "z", j, i), s("DEL", f"{i}:7")


def forms(of) -> set[bool]:
    """Of the operations in its log: have they the shorter form?"""
    found = set()
    for path in of.data_dir.glob("segment-*.log"):
        with opened(path) as fd:
            for batch, _, _ in read_batches(fd, read_header(fd).size, os.fstat(fd).st_size):
                found |= {bool(op.compact) for run in ops.Batch.FromString(batch).runs
                          for op in run.ops}
    return found


def shortened(of) -> set[bool]:
    """Of its segments: may they hold short records?"""
    found = set()
    for path in of.data_dir.glob("segment-*.log"):
        with opened(path) as fd:
            found.add(read_header(fd).short)
    return found


def same(old, *servers) -> None:
    until(lambda: {s("CRDT.DIGEST") for s in servers} == {old.digest()})


@pytest.fixture
def mixed(server, older):                                                       # noqa: F811
    """(a, b, old): a and b call each other and old, which has what they wrote, and they have what
    it wrote."""
    old = older()
    a = server("a", old, max_segment_size="1mb")
    b = server("b", a, old, max_segment_size="1mb")
    until(lambda: up(a) >= {"old"} and up(b) == {"a", "old"})
    until(lambda: up(a) == {"b", "old"})
    write(a, b, old)
    same(old, a, b)
    return a, b, old


def test_what_is_written_goes_both_ways_and_nothing_else_does(mixed):
    a, b, old = mixed
    with b.connect() as subscriber:
        subscriber("SUBSCRIBE", "ch")
        until(lambda: a("PUBLISH", "ch", "m") in (0, 1)
              and select.select([subscriber.socket], [], [], 0.05)[0])
        assert subscriber.read() == [b"message", b"ch", b"m"]
    with pytest.raises(ReplyError, match="^ERR Replica old .* knows nothing of this"):
        a("FUNCTION", "LOAD", LIBRARY)
    write(a, b, old)
    a("EVAL", "for i = 1, 50 do redis.call('SET', 'script:' .. i, i) end", 0)
    a("MULTI"), a("INCR", "n"), a("EXEC")
    for s in (a, b):
        old.exchange(s)
    same(old, a, b)
    assert old("GET", "n") == a("GET", "n") and old("GET", "script:50") == b"50"
    assert old.refused == [] and members(a) == members(b) == {}
    assert forms(a) == forms(b) == {False}
    # of each it was told who they are, and since then only operations
    assert old.heard and not any(b"members" in batch for batch in old.heard)


def test_users_are_not_changed_for_all_beside_it(mixed):
    a, b, old = mixed
    for s in (a, b):
        s("CONFIG", "SET", "replicate-acl", "yes")
        for argv in ("SETUSER", "bob", "on"), ("SETUSER", "default", ">p"):
            with pytest.raises(ReplyError, match="^ERR Replica old runs a version"):
                s("ACL", *argv)
        assert len(s("ACL", "LIST")) == 1
    write(a, b, old)
    same(old, a, b)
    assert old.refused == []


def test_until_it_is_known_which_version_a_peer_runs_nothing_is_written_that_it_might_refuse(
        server, older):                                                         # noqa: F811
    old = older()
    old.awake.clear()
    a = server("a", old)
    b = server("b", a, old)
    until(lambda: "b" in up(a) and "a" in up(b))
    after_rounds((a, b), 3)
    assert members(a) == members(b) == {}
    old.awake.set()
    until(lambda: up(a) == {"b", "old"} and up(b) == {"a", "old"})
    after_rounds((a, b), 3)
    write(a, b, old)
    same(old, a, b)
    assert members(a) == members(b) == {} and old.refused == []


def test_one_that_only_calls_holds_back_the_same(server, older):                # noqa: F811
    old, a, b = older(), server("a"), server("b")
    old.keep_calling(a, b)
    until(lambda: old.calls > 2)
    assert a("CRDT.PEER", "ADD", b.address) == b"OK"            # which calls back
    until(lambda: up(a) == {"b"} and up(b) == {"a"})
    after_rounds((a, b), 3)
    write(a, b, old)
    same(old, a, b)
    assert members(a) == members(b) == {} and old.refused == []


def test_once_it_is_upgraded_what_waited_comes(mixed):
    a, b, old = mixed
    old.exchange(a), old.exchange(b)
    old.stop()
    assert members(a) == {}
    new = Server("old", [a.address, b.address], **QUICK, max_segment_size="1mb")
    new.http_port = old.port
    new.start()
    try:
        until(lambda: all(set(members(s)) == {"a", "b", "old"} for s in (a, b, new)))
        assert a("FUNCTION", "LOAD", LIBRARY) == b"l"
        until(lambda: len({s("CRDT.DIGEST") for s in (a, b, new)}) == 1)
        assert new("FCALL", "f", 0) == b"x" and new("GET", "n") == a("GET", "n")
        for s in (a, b, new):           # and from now on effects have the shorter form
            until(lambda s=s: s("INCR", "n") and True in forms(s))
            assert shortened(s) == {False}
        for s in (a, b, new):           # and records in the next segment
            with s.connect() as c:
                c("SET", "filler", bytes(1 << 20))
            until(lambda s=s: s("INCR", "n") and shortened(s) == {False, True})
            s("INCR", "n")
            s.kill()
            s.start()
        until(lambda: len({s("CRDT.DIGEST") for s in (a, b, new)}) == 1)
        assert len({s("GET", "n") for s in (a, b, new)}) == 1
    finally:
        new.dispose()


def test_once_it_is_removed_what_waited_comes_and_it_gets_nothing_more(mixed):
    a, b, old = mixed
    heard = len(old.heard)
    for s in (a, b):
        assert s("CRDT.PEER", "REMOVE", old.address) == b"OK"
    until(lambda: {"a", "b"} <= set(members(a)) and {"a", "b"} <= set(members(b)))
    a("SET", "behind", 1)
    until(lambda: b("GET", "behind") == b"1")
    assert len(old.heard) == heard and old.refused == []
    assert a("FUNCTION", "LOAD", LIBRARY) == b"l"

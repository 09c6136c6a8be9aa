"""Scripts on real servers: what crosses to other replicas, what outlives the end of a server, and
libraries that rest on scripts."""
import pytest
import redis

from tests.real.cluster import Cluster, Server, until
from tests.respclient import ReplyError, encode

BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."


@pytest.fixture
def server():
    s = Server(busy_reply_threshold=1).start()
    yield s
    s.dispose()


def reply_of(connection, *argv):
    try:
        return connection(*argv)
    except ReplyError as e:
        return str(e)


def until_busy(server):
    with server.connect() as c:
        until(lambda: reply_of(c, "PING") == BUSY)


def test_the_effects_of_scripts_reach_every_replica_and_survive_restarts():
    cluster = Cluster(2).start()
    a, b = cluster
    script = ("for i = 1, 50 do redis.call('HSET', KEYS[1], i, math.random()) end "
              "redis.call('INCRBY', KEYS[2], 5) return redis.call('SPOP', KEYS[3])")
    for s in (a, b):
        s("SADD", "s", *range(20))
        s("EVAL", script, 3, "h", "n", "s")
    cluster.sync()
    cluster.assert_converged()
    assert a("GET", "n") == b("GET", "n") == b"10"
    digest = a("CRDT.DIGEST")
    a.restart()
    assert a("CRDT.DIGEST") == digest
    for s in cluster:
        s.dispose()


def test_loaded_scripts_run_at_every_replica_and_survive_restarts():
    cluster = Cluster(3).start()
    a, b, c = cluster
    script = a("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])")
    cluster.sync()
    assert [s("EVALSHA", script, 1, f"n{i}") for i, s in enumerate(cluster)] == [1, 1, 1]
    b.kill()
    b.start()
    a("BGSAVE")
    until(lambda: b"rdb_bgsave_in_progress:0" in a("INFO", "persistence"))
    a.restart()
    for s in (a, b):
        assert s("SCRIPT", "EXISTS", script) == [1]
    late = c("SCRIPT", "LOAD", "return 'late'")
    cluster.sync()
    b("SCRIPT", "FLUSH")
    cluster.sync()
    for s in cluster:
        assert s("SCRIPT", "EXISTS", script, late) == [0, 0]
        assert reply_of(s, "EVALSHA", script, 0).startswith("NOSCRIPT ")
    cluster.assert_converged()
    for s in cluster:
        s.dispose()


@pytest.mark.parametrize("wrote", [False, True])
def test_shutdown_nosave_ends_a_server_whose_script_does_not_end(server, wrote):
    """What such a script wrote was not acknowledged, and nothing of it is left."""
    server("SET", "before", 1)
    write = "redis.call('SET', 'half', 1) " * wrote
    with server.connect() as c:
        c.socket.sendall(encode("EVAL", write + "while true do end", 0))
        until_busy(server)
        with server.connect() as other:
            assert reply_of(other, "SHUTDOWN") == BUSY
            if wrote:
                assert reply_of(other, "SCRIPT", "KILL").startswith("UNKILLABLE ")
            other.socket.sendall(encode("SHUTDOWN", "NOSAVE"))
            server.process.wait(20)
    server.kill()
    server.start()
    assert server("EXISTS", "before", "half") == 1


def test_a_signal_ends_a_server_whose_script_does_not_end(server):
    with server.connect() as c:
        c.socket.sendall(encode("EVAL", "while true do end", 0))
        until_busy(server)
        assert server.stop() == 0
    server.start()
    assert server("PING") == b"PONG"


BUSY_FUNCTION = BUSY.replace("SCRIPT KILL", "FUNCTION KILL")
LIBRARY = """#!lua name=lib
redis.register_function('loop', function(keys) if keys[1] then redis.call('SET', keys[1], 1) end
while true do end end)
redis.register_function('f', function(keys, args) return redis.call('INCRBY', keys[1], args[1]) end)
"""


def test_a_function_that_does_not_end_is_killed_as_one(server):
    server("FUNCTION", "LOAD", LIBRARY)
    with server.connect() as c, server.connect() as other:
        c.send("FCALL", "loop", 0)
        until(lambda: reply_of(other, "PING") == BUSY_FUNCTION)
        stats = other("FUNCTION", "STATS")
        assert stats[1][:4] == [b"name", b"loop", b"command", [b"FCALL", b"loop", b"0"]]
        assert stats[1][5] >= 1 and stats[3] == [b"LUA", [b"libraries_count", 1,
                                                          b"functions_count", 2]]
        assert reply_of(other, "SCRIPT", "KILL") == BUSY_FUNCTION
        assert other("FUNCTION", "KILL") == b"OK"
        assert "Script killed by user" in str(c.read())
        assert reply_of(other, "FUNCTION", "KILL").startswith("NOTBUSY ")
        c.send("FCALL", "loop", 1, "k")
        until(lambda: reply_of(other, "PING") == BUSY_FUNCTION)
        assert reply_of(other, "FUNCTION", "KILL").startswith("UNKILLABLE ")
        other.socket.sendall(encode("SHUTDOWN", "NOSAVE"))
        server.process.wait(20)
    server.kill()
    server.start()
    assert server("EXISTS", "k") == 0 and server("FCALL", "f", 1, "n", 5) == 5


def test_functions_outlive_the_process_and_reach_new_replicas():
    a = Server("a").start()
    try:
        a("FUNCTION", "LOAD", LIBRARY)
        a.restart()
        assert a("FCALL", "f", 1, "n", 1) == 1
        a("SAVE")
        a("FUNCTION", "LOAD", "REPLACE", LIBRARY.replace("INCRBY", "DECRBY"))
        a.restart()
        assert a("FCALL", "f", 1, "n", 1) == 0
        b = Server("b", [a.address]).start()
        try:
            until(lambda: reply_of(b, "FCALL", "f", 1, "m", 1) == -1)
        finally:
            b.dispose()
    finally:
        a.dispose()


def test_the_time_of_a_script_can_be_set(server):
    assert server("CONFIG", "GET", "lua-time-limit") == [b"lua-time-limit", b"1"]
    server("CONFIG", "SET", "lua-time-limit", 0)
    assert server("CONFIG", "GET", "busy-reply-threshold") == [b"busy-reply-threshold", b"0"]
    assert server("EVAL", "for i = 1, 1e7 do end return 1", 0) == 1


def test_redis_py_scripts_and_locks(server):
    r = redis.Redis(port=server.port, decode_responses=True)
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [add(keys=["n"], args=[5]) for _ in range(2)] == [5, 10]
    r.script_flush()
    assert add(keys=["n"], args=[1]) == 11
    with r.pipeline() as pipe:
        add(keys=["n"], args=[1], client=pipe)
        assert pipe.execute() == [12]
    with r.lock("lock", timeout=100) as lock:
        assert not r.lock("lock").acquire(blocking=False)
        assert lock.extend(100) and lock.reacquire()
    assert r.lock("lock").acquire(blocking=False)
    r.close()

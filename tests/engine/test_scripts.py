"""Scripts under the loop: what other clients see while one runs, and how it is ended."""
import hashlib
import os
import random
import select
import socket

import pytest

from tests.lua import generated

BUSY = (b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN "
        b"NOSAVE.\r\n")
NOT_BUSY = b"-NOTBUSY No scripts in execution right now.\r\n"
KILLED = b"Script killed by user with SCRIPT KILL."


def evaluate(text, *args):
    return [b"EVAL", text.encode(), b"0", *args]


def line(client) -> bytes:
    """The next line of replies."""
    out = b""
    while not out.endswith(b"\r\n"):
        got = client.read(1)
        if not got:
            break
        out += got
    return out


def until_busy(client):
    """Asks until a script is found to run."""
    while True:
        client.send("PING")
        reply = line(client)
        if reply == BUSY:
            return
        assert reply == b"+PONG\r\n"


@pytest.fixture
def busy(served):
    """busy(text) -> (server, the client that runs it, another client); the script is slow at
    once."""
    def busy(text, **settings):
        s = served(**settings)
        s.executor.busy_reply_threshold = 1
        a, b = s.connect(), s.connect()
        a.send(evaluate(text))
        until_busy(b)
        return s, a, b
    return busy


@pytest.mark.parametrize("text", [
    "while true do end",
    "local f = function() while 1 do redis.call('ping') end end while 1 do pcall(f) end",
    "while 1 do pcall(function() while 1 do end end) end",
    "while 1 do redis.pcall('nosuch') end",
    "while 1 do redis.call('time') end",
    "return string.find(string.rep('a', 30000), '.-.-.-.-.-b')",
])
def test_a_slow_script_is_killed(busy, text):
    s, a, b = busy(text)
    b.send("SET k v").expect(BUSY)
    b.send("SCRIPT KILL").expect(b"+OK\r\n")
    assert KILLED in line(a)
    a.send("PING").expect(b"+PONG\r\n")
    b.send("PING", "SCRIPT KILL").expect(b"+PONG\r\n" + NOT_BUSY)


def test_what_is_sent_behind_a_slow_script_runs_after_it(busy):
    s, a, b = busy("while 1 do redis.call('ping') end")
    a.send("SET k 1", "GET k")
    b.send("SCRIPT KILL").expect(b"+OK\r\n")
    assert KILLED in line(a)
    a.expect(b"+OK\r\n$1\r\n1\r\n")


def test_a_pipeline_behind_a_slow_script(served):
    s = served()
    s.executor.busy_reply_threshold = 1
    a, b = s.connect(), s.connect()
    a.send("SET x 1", evaluate("while true do end"), "GET x", "PING")
    until_busy(b)
    b.send("SCRIPT KILL").expect(b"+OK\r\n")
    a.expect(b"+OK\r\n")
    assert KILLED in line(a)
    a.expect(b"$1\r\n1\r\n+PONG\r\n")


def test_a_script_that_has_written_cannot_be_killed(served):
    s = served()
    s.executor.busy_reply_threshold = 1
    s.executor.scripts_run_all = True
    a, b = s.connect(), s.connect()
    a.send(evaluate("redis.call('set', 'x', 'y') "
                    "while not redis.call('client', 'list'):find('name=enough') do end return 1"))
    until_busy(b)
    b.send("SCRIPT KILL")
    assert line(b).startswith(b"-UNKILLABLE ")
    b.send("GET x").expect(BUSY)
    b.send("HELLO 2 SETNAME enough")
    a.expect(b":1\r\n")
    assert b.read(4)
    s.connect().send("GET x").expect(b"$1\r\ny\r\n")


def test_clients_come_and_go_while_a_script_runs(busy):
    s, a, b = busy("while true do end")
    for _ in range(20):
        c = s.connect()
        c.send("PING").expect(BUSY)
        c.sock.close()
    s.connect().raw(b"PING\r\n" * 1000).expect(BUSY * 1000)
    s.connect().send("QUIT").expect(b"+OK\r\n")
    b.send("SCRIPT KILL").expect(b"+OK\r\n")
    assert KILLED in line(a)


def test_the_caller_leaves_while_its_script_runs(busy):
    s, a, b = busy("while true do end")
    a.sock.shutdown(socket.SHUT_RDWR)
    a.sock.close()
    b.send("PING").expect(BUSY)
    b.send("SCRIPT KILL").expect(b"+OK\r\n")
    b.send("PING").expect(b"+PONG\r\n")


def test_transactions_while_a_script_runs(busy):
    s, a, b = busy("while true do end")
    b.send("MULTI").expect(b"+OK\r\n")
    b.send("SET k v").expect(BUSY)
    b.send("DISCARD").expect(b"+OK\r\n")
    b.send("SCRIPT KILL").expect(b"+OK\r\n")
    assert KILLED in line(a)


def test_the_loop_ends_though_a_script_runs(busy):
    s, a, b = busy("while true do end")
    s.loop.stop()
    assert KILLED in line(a)


def test_one_who_waits_is_served_after_the_script(served):
    s = served()
    waiting, a = s.connect(), s.connect()
    waiting.send("BLPOP q 0")
    s.wait(lambda: s.loop.stats()["blocked"] == 1)
    a.send([b"EVAL", b"redis.call('rpush', KEYS[1], 1) redis.call('rpush', KEYS[1], 2) "
                     b"return redis.call('llen', KEYS[1])", b"1", b"q"]).expect(b":2\r\n")
    waiting.expect(b"*2\r\n$1\r\nq\r\n$1\r\n1\r\n")


def test_pause_holds_back_scripts_that_may_write(served):
    s = served()
    a, b = s.connect(), s.connect()
    text = "#!lua flags=no-writes\nreturn 2"
    loaded = hashlib.sha1(text.encode()).hexdigest()
    # as a peer loads it: not compiled here yet
    s.on_engine(lambda: s.replica.system_set(b"scripts", {loaded.encode(): text.encode()}))
    a.send("CLIENT PAUSE 100000 WRITE").expect(b"+OK\r\n")
    b.send([b"EVAL_RO", b"return 1", b"0"]).expect(b":1\r\n")
    b.send(evaluate("#!lua flags=no-writes\nreturn 1")).expect(b":1\r\n")
    b.send(f"EVALSHA {loaded} 0").expect(b":2\r\n")
    b.send(evaluate("return redis.call('set', 'k', 1)"))
    s.wait(lambda: s.loop.stats()["blocked"] == 1)
    a.send("CLIENT UNPAUSE").expect(b"+OK\r\n")
    b.expect(b"+OK\r\n")


READS = "#!lua flags=no-writes\nreturn 1"


@pytest.mark.parametrize("argv", [
    evaluate(READS), [b"EVALSHA", hashlib.sha1(READS.encode()).hexdigest().encode(), b"0"],
    [b"FCALL", b"reads", b"0"]])
def test_pause_lets_the_first_script_of_a_process_read(served, argv):
    """Nothing has been compiled yet."""
    s = served()
    a, b = s.connect(), s.connect()
    s.on_engine(lambda: s.replica.system_set(b"scripts", {
        hashlib.sha1(READS.encode()).hexdigest().encode(): READS.encode()}))
    s.on_engine(lambda: s.replica.system_set(b"functions", {b"l": (
        b"#!lua name=l\nredis.register_function{function_name='reads', flags={'no-writes'}, "
        b"callback=function() return 1 end}")}))
    a.send("CLIENT PAUSE 100000 WRITE").expect(b"+OK\r\n")
    b.send(argv).expect(b":1\r\n")


def test_pause_lets_a_script_be_loaded_here_which_others_get_later(served):
    s = served()
    a, b = s.connect(), s.connect()
    name = hashlib.sha1(READS.encode()).hexdigest()
    a.send("CLIENT PAUSE 100000 WRITE").expect(b"+OK\r\n")
    load = [b"SCRIPT", b"LOAD", READS.encode()]
    b.send(load, f"EVALSHA {name} 0").expect(f"$40\r\n{name}\r\n:1\r\n".encode())
    assert s.replica.system_hash(b"scripts") == {}
    a.send("CLIENT UNPAUSE", load).expect(f"+OK\r\n$40\r\n{name}\r\n".encode())
    assert s.replica.system_hash(b"scripts") == {name.encode(): READS.encode()}


def test_pause_lets_transactions_of_scripts_that_only_read_run(served):
    s = served()
    a, b, c = s.connect(), s.connect(), s.connect()
    library = ("#!lua name=l\nredis.register_function{function_name='f', %s"
               "callback=function() return 2 end}")
    reads, writes = library % "flags={'no-writes'}, ", library % ""
    a.send([b"FUNCTION", b"LOAD", reads.encode()]).expect(b"$1\r\nl\r\n")
    for client in (b, c):
        client.send("MULTI", evaluate(READS), "FCALL f 0").expect(b"+OK\r\n+QUEUED\r\n+QUEUED\r\n")
    a.send("CLIENT PAUSE 100000 WRITE").expect(b"+OK\r\n")
    b.send("EXEC").expect(b"*2\r\n:1\r\n:2\r\n")
    # another replica has replaced it
    s.on_engine(lambda: s.replica.system_set(b"functions", {b"l": writes.encode()}))
    c.send("EXEC")
    s.wait(lambda: s.loop.stats()["blocked"] == 1)
    a.send("CLIENT UNPAUSE").expect(b"+OK\r\n")
    c.expect(b"*2\r\n:1\r\n:2\r\n")


@pytest.mark.parametrize("name, argv", [("flush", "SCRIPT FLUSH"), ("flush", "FUNCTION FLUSH")])
def test_a_function_lets_no_subcommand_of_its_name_through_a_pause(served, name, argv):
    s = served()
    a, b = s.connect(), s.connect()
    a.send([b"FUNCTION", b"LOAD", (
        f"#!lua name=l\nredis.register_function{{function_name='{name}', flags={{'no-writes'}}, "
        "callback=function() return 1 end}").encode()]).expect(b"$1\r\nl\r\n")
    a.send("CLIENT PAUSE 100000 WRITE", f"FCALL {name} 0").expect(b"+OK\r\n:1\r\n")
    b.send(argv)
    s.wait(lambda: s.loop.stats()["blocked"] == 1)
    a.send("PING").expect(b"+PONG\r\n")
    assert b.silent()


def test_replies_of_scripts_in_resp3(served):
    c = served().connect()
    c.send("HELLO 3")
    c.send("PING")
    out = b""
    while not out.endswith(b"+PONG\r\n"):
        out += c.read(1)
    c.send("HSET h f v").expect(b":1\r\n")
    c.send(evaluate("redis.setresp(3) return redis.call('hgetall', 'h')")).expect(
        b"%1\r\n$1\r\nf\r\n$1\r\nv\r\n")
    c.send(evaluate("return redis.call('hgetall', 'h')")).expect(b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n")
    c.send(evaluate("return redis.call('get', 'nokey')")).expect(b"_\r\n")


def test_generated_scripts_under_the_loop(served):
    """Other clients are served meanwhile, each script ends or can be ended, and then all is as it
    was. (Those that have written cannot be ended, so these only read.)"""
    s = served()
    s.executor.busy_reply_threshold = 1
    a, b = s.connect(60), s.connect(60)

    def end(*argv):
        """The reply, after as many SCRIPT KILL as it takes."""
        a.send([*argv], "ECHO behind-it")
        got = b""
        while not got.endswith(b"$9\r\nbehind-it\r\n"):
            b.send("SCRIPT KILL")
            assert line(b).startswith((b"+OK", NOT_BUSY))
            if select.select([a.sock], [], [], 0.002)[0]:
                more = a.sock.recv(1 << 20)
                assert more, "the connection is gone"
                got += more
        return got

    a.send(evaluate(generated.SHARED.decode()))
    before = a.read(int(line(a)[1:]) + 2)
    for seed in range(int(os.environ.get("HOSTILE_SCRIPTS", "1000")) // 10):
        text = generated.script(random.Random(-seed))
        end(b"EVAL_RO", text.encode(), b"1", b"k", b"a")
        s.executor.busy_reply_threshold = 60_000
        a.send(evaluate(generated.SHARED.decode()))
        assert a.read(int(line(a)[1:]) + 2) == before, text
        s.executor.busy_reply_threshold = 1
    b.send("DBSIZE", "PING").expect(b":0\r\n+PONG\r\n")

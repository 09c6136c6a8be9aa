"""`crdt-redis import` between real servers."""
import base64
import os
import signal
import socket
import subprocess
import threading

import orjson
import pytest

from tests.commands.payloads import told
from tests.real.cluster import Reference, executable, until
from tests.respclient import encode


def run(*argv, code: int = 0) -> str:
    done = subprocess.run([*executable(), "import", *map(str, argv)], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def old(processes):
    """old(*options) -> a redis-server that runs."""
    return lambda *options: Reference(*options).start()


@pytest.fixture
def new(server):
    """A server of ours."""
    return server()


def fill(server, n: int = 600) -> None:
    for db in (0, 7):
        server("SELECT", db)
        with server.connect() as c:
            c("SELECT", db)
            c.pipeline([("SET", f"key:{i}", f"value {i}") for i in range(n)])
            c.pipeline([("RPUSH", "list", f"element {i}") for i in range(n)])
        server("HSET", "hash", *(x for i in range(300) for x in (f"f{i}", i)))
        server("ZADD", "zset", *(x for i in range(300) for x in (i / 8, f"m{i}")))
        server("SADD", "set", *range(100))
        server("SET", "later", "x", "PXAT", 4_000_000_000_000)
        server("SET", "binary", bytes(range(256)))
    server("SELECT", 0)


def dumps(server) -> dict:
    """What it holds, read by commands."""
    found = {}
    read = {b"string": ("GET",), b"list": ("LRANGE", 0, -1), b"hash": ("HGETALL",),
            b"zset": ("ZRANGE", 0, -1, "WITHSCORES"), b"set": ("SMEMBERS",)}
    with server.connect() as c:
        for db in range(16):
            c("SELECT", db)
            for key in c("KEYS", "*"):
                if (kind := c("TYPE", key)) not in read:
                    continue
                command, *rest = read[kind]
                value = c(command, key, *rest)
                if kind == b"hash":
                    value = sorted(zip(value[::2], value[1::2]))
                elif kind == b"set":
                    value = sorted(value)
                found[db, key] = kind, value, c("PEXPIRETIME", key)
    return found


def equal(a, b) -> bool:
    one, other = dumps(a), dumps(b)
    assert one.keys() == other.keys()
    for key in one:
        assert one[key] == other[key], key
    return True


def test_a_snapshot(old, new):
    source = old("--save", "")
    fill(source)
    source("SET", "gone", "x", "PX", 1)
    source("FUNCTION", "LOAD",
           "#!lua name=l\nredis.register_function('f', function() return 7 end)")
    source("SAVE")
    path = source.directory / "dump.rdb"
    new("SET", "key:0", "is replaced")
    for _ in range(2):
        out = run(path, "--to", f"127.0.0.1:{new.port}")
        assert "1212 keys, 1 libraries" in out and "not taken" not in out
        assert equal(source, new)
    assert new("FCALL", "f", 0) == 7
    new("SET", "stays", "x")
    run(path, "--to", f"redis://127.0.0.1:{new.port}", "--flush")
    assert equal(source, new)


def test_what_cannot_be_taken_is_told_and_the_rest_is_taken(old, new):
    source = old("--save", "", "--databases", "17")
    source("SET", "k", "v")
    source("SELECT", 16)
    source("SET", "far", "v")
    source("SAVE")
    out = run(source.directory / "dump.rdb", "--to", f"127.0.0.1:{new.port}", code=1)
    assert "taken: 1 keys" in out and "'far'" in out
    assert "not taken: 1\n  1 x key in a database beyond 15\n" in out
    assert new("GET", "k") == b"v"


def test_a_damaged_file_changes_nothing(old, new, tmp_path):
    source = old("--save", "")
    fill(source)
    source("SAVE")
    data = bytearray((source.directory / "dump.rdb").read_bytes())
    path = tmp_path / "dump.rdb"
    for damaged in (data[:-20], data[:100], data[:5000] + b"\xff" + data[5001:], b"x" * 1000):
        path.write_bytes(damaged)
        assert "nothing was taken" in run(path, "--to", f"127.0.0.1:{new.port}", code=4)
        assert new("DBSIZE") == 0


def test_append_only_files(old, new):
    source = old("--save", "", "--appendonly", "yes")
    fill(source, 500)
    source("BGREWRITEAOF")
    until(lambda: b"aof_rewrite_in_progress:0" in source("INFO", "persistence")
          and b"aof_rewrite_scheduled:0" in source("INFO", "persistence"))
    source("FUNCTION", "LOAD",
           "#!lua name=l\nredis.register_function('f', function() return 7 end)")
    for _ in range(5):
        source("INCR", "count")
        source("RPUSH", "list", "more")
    source("EVAL", "redis.call('SELECT', 3) redis.call('SET', 'by a script', 1) "
                   "redis.call('INCR', 'count')", 0)
    with source.connect() as c:
        c("MULTI")
        c("SELECT", 7)
        c("INCR", "count")
        c("EXEC")
    to = f"127.0.0.1:{new.port}"
    folder = source.directory / "appendonlydir"
    for how in ((), ("--flush",)):
        run(folder, "--to", to, *how)
        assert equal(source, new) and new("GET", "count") == b"5"
    assert "--flush removes them first" in run(folder, "--to", to, code=4)
    assert new("GET", "count") == b"5"
    last = max(folder.glob("*.incr.aof"), key=lambda p: int(p.name.split(".")[-3]))
    with open(last, "ab") as f:
        f.write(encode("INCR", "count")[:-3])
    out = run(folder / "appendonly.aof.manifest", "--flush", "--to", to)
    assert "ends in the middle of a command" in out and new("GET", "count") == b"5"


@pytest.mark.parametrize("how", ["snapshot", "log", "live"])
def test_what_databases_beyond_15_hold_goes_nowhere_else(old, new, how):
    source = old("--save", "", "--databases", "40", "--appendonly", "yes" if how == "log" else "no",
                 "--aof-use-rdb-preamble", "no")
    for db in (3, 20, 15):
        source("SELECT", db)
        source("SET", "k", f"of {db}")
        source("SET", f"only {db}", db)
        if db == 20:
            source("INCR", "n")
    argv = [source.directory / "dump.rdb"]
    if how == "snapshot":
        source("SAVE")
    elif how == "log":
        source("SELECT", 20)
        source("FLUSHDB")
        argv = [source.directory / "appendonlydir", "--flush"]
    else:
        argv = [f"redis://127.0.0.1:{source.port}", "--once"]
    if how != "log":
        new("SET", "k", "of 0")
    out = run(*argv, "--to", f"127.0.0.1:{new.port}", code=1)
    assert f"not taken: {4 if how == 'log' else 3}\n" in out and "beyond 15" in out
    assert "'only 20'" in out
    assert new("GET", "k") == (None if how == "log" else b"of 0")
    for db in (3, 15):
        new("SELECT", db)
        assert sorted(new("KEYS", "*")) == [b"k", f"only {db}".encode()]
        assert new("GET", "k") == f"of {db}".encode()


def test_a_log_that_ends_in_a_transaction(new, tmp_path):
    path = tmp_path / "appendonly.aof"
    start = (encode("MULTI") + encode("INCR", "a") + encode("EXEC") + encode("INCR", "a"))
    path.write_bytes(start + encode("MULTI") + encode("DECR", "a") + encode("INCR", "b")[:-2])
    out = run(path, "--to", f"127.0.0.1:{new.port}")
    assert "in the middle of a transaction" in out and "taken: 0 keys, 0 libraries, 2" in out
    assert (new("GET", "a"), new("EXISTS", "b")) == (b"2", 0)
    # of several files, what is in the next one stands alone
    (tmp_path / "next").write_bytes(encode("INCR", "a"))
    manifest = tmp_path / "appendonly.manifest"
    manifest.write_text("file appendonly.aof seq 1 type i\nfile next seq 2 type i\n")
    assert "libraries, 3" in run(manifest, "--flush", "--to", f"127.0.0.1:{new.port}")
    assert (new("GET", "a"), new("EXISTS", "b")) == (b"3", 0)


def test_a_value_that_the_server_does_not_take_does_not_end_it(old, new):
    source = old("--save", "")
    for i in range(4):
        source("SET", f"k{i}", os.urandom(2 << 20 if i == 1 else 10))
    source("SAVE")
    new("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    out = run(source.directory / "dump.rdb", "--to", f"127.0.0.1:{new.port}", code=1)
    assert "taken: 3 keys" in out and "'k1': larger than proto-max-bulk-len" in out
    assert new("EXISTS", "k0", "k2", "k3") == 3


def test_a_copy_that_is_ended_leaves_nothing(new, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as source:
        process = subprocess.Popen(
            [*executable(), "import", f"redis://127.0.0.1:{source.getsockname()[1]}", "--to",
             f"127.0.0.1:{new.port}", "--work-dir", tmp_path], stdout=subprocess.PIPE)
        try:
            connection, _ = source.accept()
            connection.recv(100)
            connection.sendall(b"+OK\r\n$1000000\r\nREDIS0009")
            until(lambda: list(tmp_path.rglob("snapshot")))
            process.send_signal(signal.SIGTERM)
            assert b"interrupted" in process.communicate(timeout=60)[0]
        finally:
            process.kill()
            process.wait()
            connection.close()
    assert process.returncode == 130 and not list(tmp_path.iterdir())


def test_a_file_of_commands(new, tmp_path):
    path = tmp_path / "commands"
    path.write_bytes(encode("SET", "a", 1) + encode("NOSUCH", "b") + encode("INCR", "a")
                     + encode("LPUSH", "a", 1))
    out = run(path, "--to", f"127.0.0.1:{new.port}", code=1)
    assert "NOSUCH: unknown here" in out and "LPUSH: WRONGTYPE" in out and "2 commands" in out
    assert new("GET", "a") == b"2"


def test_the_json_store_of_an_earlier_server(server):
    new = server()
    store = new.data_dir / "store.json"
    store.write_bytes(orjson.dumps({
        "s": {"type": 0, "data": base64.b64encode(b"\xff\x00").decode(),
              "expire_at": "2033-05-18T03:33:20Z"},
        "l": {"type": 3, "data": base64.b64encode(orjson.dumps(
            {"elements": [{"value": "a"}, {"value": "b"}]})).decode()}}))
    new.restart()
    until(lambda: f"`crdt-redis import {store} --to 127.0.0.1:{new.port}`" in new.log())
    for _ in range(2):
        assert "taken: 2 keys" in run(new.data_dir, "--to", f"127.0.0.1:{new.port}")
        assert new("GET", "s") == b"\xff\x00" and new("PEXPIRETIME", "s") == 2_000_000_000_000
        assert new("LRANGE", "l", 0, -1) == [b"a", b"b"]
    store.write_bytes(b'{"s": 1}')
    assert "nothing was taken" in run(store, "--to", f"127.0.0.1:{new.port}", code=4)


class Writer(threading.Thread):
    """A client that counts, at the server it is told, until it is stopped."""

    def __init__(self, server):
        super().__init__()
        self.server, self.written, self.running = server, 0, True
        self.start()

    def run(self):
        with self.server.connect() as c:
            while self.running:
                self.written += 1
                for reply in c.pipeline([
                        ("INCR", "written"), ("RPUSH", "writes", self.written),
                        ("HINCRBY", "by ten", self.written % 10, 1),
                        ("SET", f"until:{self.written % 50}", "x", "EX", 1000),
                        ("SPOP", "set"), ("SADD", "set", self.written)]):
                    assert not isinstance(reply, Exception)

    def stop(self):
        self.running = False
        self.join()


def test_a_live_server_is_followed_until_the_writers_move(old, new):
    source = old("--save", "")
    fill(source)
    source("CONFIG", "SET", "requirepass", "a/b?c")
    connect = source.connect
    source.connect = lambda **options: connect(password="a/b?c", **options)
    writer = Writer(source)
    process = subprocess.Popen(
        [*executable(), "import", f"redis://:a%2Fb%3Fc@127.0.0.1:{source.port}", "--to",
         f"127.0.0.1:{new.port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        first = writer.written
        until(lambda: int(new("GET", "written") or 0) > first + 20)
        writer.stop()
        until(lambda: new("GET", "written") == b"%d" % writer.written)
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, out
    assert f"following 127.0.0.1:{source.port}" in out
    mine, theirs = dumps(new), dumps(source)
    assert mine.keys() == theirs.keys()
    for key in theirs:
        assert mine[key][:2] == theirs[key][:2], key
        assert abs(mine[key][2] - theirs[key][2]) < 5000, key
    assert new("LRANGE", "writes", 0, -1) == [b"%d" % i for i in range(1, writer.written + 1)]
    after = Writer(new)
    until(lambda: after.written > 5)
    after.stop()
    assert new("GET", "written") == b"%d" % (writer.written + after.written)


def test_consumer_groups_are_followed(old, new):
    source = old("--save", "")

    def read(*options):
        return source("XREADGROUP", "GROUP", "g", "c", *options, "STREAMS", "s", ">")

    def state(server):
        g = told(server, "s")[b"groups"].get(b"g", {})
        return [g.get(name) for name in (b"last-delivered-id", b"entries-read", b"pending")]
    for i in range(1, 9):
        source("XADD", "s", f"{i}-1", "f", "v")
    source("XGROUP", "CREATE", "s", "g", 0)
    read("COUNT", 2), source("XACK", "s", "g", "1-1")
    process = subprocess.Popen(
        [*executable(), "import", f"redis://127.0.0.1:{source.port}", "--to",
         f"127.0.0.1:{new.port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: new("EXISTS", "s") and state(new) == state(source))
        read("COUNT", 2), source("XACK", "s", "g", "3-1", "2-1"), read("COUNT", 1, "NOACK")
        source("XCLAIM", "s", "g", "d", 0, "4-1")
        read("COUNT", 1), source("XACK", "s", "g", "6-1"), source("SET", "end", "1")
        until(lambda: new("GET", "end"))
        assert state(new) == state(source) and state(new)[0] == b"6-1"
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, out
    assert new("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")[0][1][0][0] == b"7-1"


def test_a_copy_of_a_live_server(old, new):
    source = old("--save", "")
    fill(source, 300)
    new("SET", "mine", "1")
    out = run(f"redis://127.0.0.1:{source.port}", "--once", "--to", f"127.0.0.1:{new.port}")
    assert "1 keys stand here that the snapshot did not hold" in out
    assert new("DEL", "mine") == 1 and equal(source, new)


def test_a_source_that_goes_is_told(old, new):
    source = old("--save", "")
    source("SET", "k", "v")
    process = subprocess.Popen(
        [*executable(), "import", f"127.0.0.1:{source.port}".join(["redis://", ""]), "--to",
         f"127.0.0.1:{new.port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(lambda: new("GET", "k") == b"v")
        source.kill()
        out = process.communicate(timeout=60)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 4 and "what came before was taken" in out, out


@pytest.mark.parametrize("ends", ["interrupted", "broken"])
def test_of_a_transaction_that_has_not_come_whole_nothing_is_taken(old, new, tmp_path, ends):
    empty = old("--save", "")
    empty("SAVE")
    snapshot = (empty.directory / "dump.rdb").read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as source:
        process = subprocess.Popen(
            [*executable(), "import", f"redis://127.0.0.1:{source.getsockname()[1]}", "--to",
             f"127.0.0.1:{new.port}"], stdout=subprocess.PIPE, text=True)
        try:
            connection, _ = source.accept()
            connection.recv(100)
            connection.sendall(b"+OK\r\n$%d\r\n" % len(snapshot) + snapshot)
            connection.sendall(b"".join(encode(*c) for c in (
                ("SELECT", 0), ("MULTI",), ("SET", "a", 1), ("SET", "b", 1), ("EXEC",),
                ("MULTI",), ("SET", "c", 1), ("SET", "d", 1))))
            until(lambda: new("GET", "b") == b"1")
            lines = iter(process.stdout.readline, "")
            behind = len(encode("SET", "c", 1) + encode("SET", "d", 1))
            assert any(f"{behind} bytes behind" in line for line in lines)
            assert new("MGET", "c", "d") == [None, None]
            if ends == "interrupted":
                process.send_signal(signal.SIGINT)
            else:
                connection.close()
            out = process.communicate(timeout=60)[0]
        finally:
            process.kill()
            process.wait()
            connection.close()
    assert "in the middle of a transaction, of which nothing is taken" in out
    assert new("MGET", "a", "b", "c", "d") == [b"1", b"1", None, None]


def test_what_is_wrong_is_said_in_one_line(new, tmp_path):
    to = f"127.0.0.1:{new.port}"
    for n, line in enumerate(("type i seq 1", "file a.aof type i", "file a.aof type i seq x",
                              "file ../a.aof type b seq 1")):
        (tmp_path / f"{n}.manifest").write_text(line)
    os.mkfifo(tmp_path / "pipe")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for argv, code, text in [
                ((tmp_path / "nosuch", "--to", to), 4, "No such file or directory"),
                ((tmp_path, "--to", to), 4, "4 manifests"),
                *[((tmp_path / f"{n}.manifest", "--to", to), 4, "names no file with a number")
                  for n in range(4)],
                ((tmp_path / "pipe", "--to", to), 4, "no file that can be read twice"),
                ((__file__, "--to", f"127.0.0.1:{port}"), 4, "cannot be reached"),
                ((__file__, "--to", to), 4, "neither a snapshot nor commands; nothing was taken"),
                ((__file__, "--to", "http://x"), 2, "expected redis://"),
                (("127.0.0.1:1", "--to", to), 2, "a live server is redis://127.0.0.1:1"),
                ((f"redis://127.0.0.1:{port}", "--to", to), 4, "cannot be reached"),
                ((f"redis://:pass@127.0.0.1:{port}", "--work-dir", "/nosuch", "--to", to), 4,
                 "No such file or directory"),
                ((f"redis://127.0.0.1:{new.port}", "--to", to), 4, "No server of Redis can")]:
            out = run(*argv, code=code)
            assert text in out and out.count("\n") == 1, out
    empty = tmp_path / "empty"
    empty.touch()
    assert "taken: 0 keys" in run(empty, "--to", to)


def test_a_server_that_takes_no_more_ends_it(old, new):
    source = old("--save", "")
    fill(source)
    source("SAVE")
    new("CONFIG", "SET", "maxmemory", "1")
    out = run(source.directory / "dump.rdb", "--to", f"127.0.0.1:{new.port}", code=4)
    assert "OOM" in out
    assert os.listdir(source.directory)

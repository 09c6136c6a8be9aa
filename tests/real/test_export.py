"""`crdt-redis export` and SYNC, between real servers."""
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from tests.real.cluster import Reference, executable, until
from tests.real.test_import import equal, fill

LIBRARY = "#!lua name=l\nredis.register_function('f', function() return 7 end)"
LATER = 4_000_000_000_000


def run(*argv, code: int = 0, preexec_fn=None, text: bool = True):
    done = subprocess.run([*executable(), *map(str, argv)], capture_output=True, text=text,
                          timeout=120, preexec_fn=preexec_fn)
    assert done.returncode == code, done.stdout + done.stderr
    assert not text or "Traceback" not in done.stderr
    return done.stdout + done.stderr if text else done.stdout


@pytest.fixture
def loaded(processes):
    """loaded(path) -> a redis-server that has loaded this snapshot."""
    def start(path):
        other = Reference("--save", "")
        shutil.copy(path, other.directory / "dump.rdb")
        return other.start()
    return start


@pytest.fixture
def redis(processes):
    return Reference("--save", "").start()


def fill_all(server, n: int, databases=range(16), members: int = 200_000) -> None:
    """About n keys, n / 16 in each database: each type, and each way in which its values are
    written; in database 15 one of each with so many members."""
    with server.connect() as c:
        for db in databases:
            c("SELECT", db)
            for begin in range(0, n // 16, 1000):
                c.pipeline([x for i in range(begin, min(begin + 1000, n // 16)) for x in (
                    ("SET", f"s:{i}", f"value {i}" * (i % 7)),
                    ("SET", f"n:{i}", (-1) ** i * 7 ** (i % 23)),
                    ("SET", struct.pack("<Q", i) + b"\r\n\xff\0", os.urandom(i % 40), "PXAT",
                     LATER + i),
                    ("RPUSH", f"l:{i}", i, "x" * (i % 100), os.urandom(3)),
                    ("SADD", f"i:{i}", i, -i, i << 20, (i << 40) + 1),
                    ("SADD", f"m:{i}", i, "member", os.urandom(8)),
                    ("ZADD", f"z:{i}", i / 3, "a", -i, "b", "inf", "c", 1e300, "d"),
                    ("HSET", f"h:{i}", "f", i, "g" * 30, os.urandom(20)))[:8 - i % 3]])
            c("SET", "compresses", "abc" * 100_000)
            c("INCRBYFLOAT", "float", "3.25")
            c("SETBIT", "bits", 70_000, 1)
            c("GEOADD", "geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")
        c("SELECT", 15)
        c("SET", "large", os.urandom(30 << 20))
        for i in range(0, members, 10_000):
            c.pipeline([("RPUSH", "long", *range(i, i + 10_000)),
                        ("SADD", "many", *range(i, i + 10_000)),
                        ("ZADD", "wide", *(x for j in range(i, i + 10_000) for x in (j / 7, j))),
                        ("HSET", "fields", *(x for j in range(i, i + 10_000)
                                             for x in (j, f"v{j}")))])
    server("FUNCTION", "LOAD", LIBRARY)


def everything(server, databases=range(16)) -> dict:
    """{(db, key): (type, value, deadline)}, many at a time."""
    read = {b"string": lambda k: ("GET", k), b"list": lambda k: ("LRANGE", k, 0, -1),
            b"hash": lambda k: ("HGETALL", k), b"set": lambda k: ("SMEMBERS", k),
            b"zset": lambda k: ("ZRANGE", k, 0, -1, "WITHSCORES")}
    found = {}
    with server.connect() as c:
        for db in databases:
            c("SELECT", db)
            names = c("KEYS", "*")
            for i in range(0, len(names), 2000):
                some = names[i:i + 2000]
                kinds = c.pipeline([("TYPE", k) for k in some])
                values = c.pipeline([read[t](k) for t, k in zip(kinds, some)])
                ends = c.pipeline([("PEXPIRETIME", k) for k in some])
                for key, kind, value, end in zip(some, kinds, values, ends):
                    if kind == b"hash":
                        value = sorted(zip(value[::2], value[1::2]))
                    elif kind == b"set":
                        value = sorted(value)
                    elif kind == b"zset":           # as text, 7.0 shows more digits
                        value = list(zip(value[::2], map(float, value[1::2])))
                    found[db, key] = kind, value, end
    return found


def assert_same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for key in one:
        assert one[key] == other[key], key


def test_100000_keys_of_every_kind_loaded_by_a_redis_server(server, loaded, redis, tmp_path):
    a = server()
    fill_all(a, 14_500)
    held = everything(a)
    assert len(held) > 100_000
    out = run("export", tmp_path / "dump.rdb", "--from", f"127.0.0.1:{a.port}")
    assert f"{len(held)} keys, 1 libraries" in out
    other = loaded(tmp_path / "dump.rdb")
    assert_same(everything(other), held)
    assert other("FCALL", "f", 0) == 7
    other.dispose()
    run("export", tmp_path / "commands", "--commands", "--from", f"127.0.0.1:{a.port}")
    with open(tmp_path / "commands", "rb") as f:
        done = subprocess.run(["redis-cli", "-p", str(redis.port), "--pipe"], stdin=f,
                              capture_output=True, text=True)
    assert "errors: 0" in done.stdout
    assert_same(everything(redis), held)
    assert redis("FCALL", "f", 0) == 7


def test_a_server_of_ours_is_copied_by_another(server):
    a, b = server(), server()
    fill(a)
    for argv in (("import", f"redis://127.0.0.1:{a.port}", "--once", "--to", f"127.0.0.1:{b.port}"),
                 ("export", f"redis://127.0.0.1:{b.port}", "--from", f"127.0.0.1:{a.port}")):
        b("FLUSHALL")
        assert "1212 keys" in run(*argv)
        assert equal(a, b)


def test_into_a_live_redis_and_again(server, redis):
    a = server()
    fill(a)
    a("FUNCTION", "LOAD", LIBRARY)
    redis("SET", "key:0", "is replaced")
    redis("SET", "stays", 1)
    to = f"redis://127.0.0.1:{redis.port}"
    for _ in range(2):
        out = run("export", to, "--from", f"redis://127.0.0.1:{a.port}")
        assert "1212 keys, 1 libraries" in out and "not taken" not in out
        assert redis("DEL", "stays") == 1 and equal(a, redis)
        redis("SET", "stays", 1)
    run("export", to, "--from", f"127.0.0.1:{a.port}", "--flush")
    assert equal(a, redis) and redis("FCALL", "f", 0) == 7
    redis("CONFIG", "SET", "maxmemory", 1)
    out = run("export", to, "--from", f"127.0.0.1:{a.port}", code=4)
    assert "OOM" in out and "before that 0 keys and 0 commands were taken" in out
    assert "\n0 of 1213 keys\n" in out


def test_out_of_a_data_directory(server, loaded, tmp_path):
    a = server("a", local_keys="home:*")
    b = server("b", peers=[a.address])
    fill(a)
    a("SAVE")
    a("SET", "home:1", "x")
    b("SET", "home:1", "is hidden")
    b("CRDT.SYNC")
    a("SET", "behind the checkpoint", 1)
    assert "is in use" in run("export", tmp_path / "x", "--from", a.data_dir, code=4)
    held = everything(a)
    assert held[0, b"home:1"][1] == b"x" and a("OBJECT", "LOCAL", "home:1") == 1
    run("export", tmp_path / "live.rdb", "--from", f"127.0.0.1:{a.port}")
    a.stop()
    before = {p.name: p.read_bytes() for p in a.data_dir.iterdir()}
    run("export", tmp_path / "dump.rdb", "--from", a.data_dir)
    after = {p.name: p.read_bytes() for p in a.data_dir.iterdir()}
    assert before | {"LOCK": b""} == after | {"LOCK": b""}
    for name in "dump.rdb", "live.rdb":
        other = loaded(tmp_path / name)
        assert_same(everything(other), held)
        assert int(other("INFO", "keyspace").decode().split("db0:keys=")[1].split(",")[0]) == len(
            [1 for db, _ in held if db == 0])
        other.dispose()


def test_one_moment_while_clients_write(server, loaded, tmp_path):
    """Of two counters that are always written together a snapshot has the same."""
    a = server()
    fill_all(a, 2000)
    running = True

    def write():
        with a.connect() as c:
            while running:
                c.pipeline([("MULTI",), ("INCR", "a"), ("RPUSH", "b", "x"), ("EXEC",)])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(3):
            before = int(a("GET", "a") or 0)
            run("export", tmp_path / f"{i}", "--from", f"127.0.0.1:{a.port}")
            other = loaded(tmp_path / f"{i}")
            assert before <= int(other("GET", "a")) == other("LLEN", "b") <= int(a("GET", "a"))
            other.dispose()
    finally:
        running = False
        thread.join()


def test_nothing_is_left_where_it_fails(server, tmp_path):
    a = server()
    fill_all(a, 2000)
    source = f"127.0.0.1:{a.port}"
    target = tmp_path / "dump.rdb"
    target.write_bytes(b"as it was")

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    for how in ((), ("--commands", "--work-dir", tmp_path)):
        assert "too large" in run("export", target, "--from", source, *how, code=4,
                                  preexec_fn=small)
        until(lambda: not children(a.pid))
    a("CONFIG", "SET", "requirepass", "secret")
    for argv, code, words in [
            ((target, "--from", source), 4, "NOAUTH"),
            ((target, "--from", "127.0.0.1:1"), 4, "cannot be reached"),
            ((target, "--from", tmp_path), 4, "no identity.json"),
            ((tmp_path / "none" / "x", "--from", f"redis://:secret@{source}"), 4, "No such file"),
            ((target, "--flush"), 2, "--flush with redis://"),
            (("redis://h/x/y",), 2, "expected redis://")]:
        assert words in run("export", *argv, code=code)
    assert [p.name for p in tmp_path.iterdir()] == ["dump.rdb"]
    assert target.read_bytes() == b"as it was"
    whole = run("export", "-", "--from", f"redis://:secret@{source}", text=False)
    assert whole[:5] == b"REDIS" and len(whole) > 30 << 20


def test_what_is_no_file_stays(server, tmp_path):
    """As a device would, which root could replace."""
    a = server()
    a("SET", "k", "v")
    source = f"127.0.0.1:{a.port}"
    pipe, link, there = tmp_path / "pipe", tmp_path / "link", tmp_path / "there"
    os.mkfifo(pipe)
    for target in (pipe, tmp_path):
        for how in ((), ("--commands",)):
            assert "no file that could be replaced" in run("export", target, "--from", source,
                                                           *how, code=4)
    assert pipe.is_fifo()
    link.symlink_to(there)
    run("export", link, "--from", source)
    assert link.is_symlink() and there.read_bytes()[:5] == b"REDIS"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "pipe", "there"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_nothing_behind(how, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as s:       # sends a part, and no more
        export = subprocess.Popen([*executable(), "export", str(tmp_path / "x"), "--from",
                                   f"127.0.0.1:{s.getsockname()[1]}"], stderr=subprocess.PIPE,
                                  preexec_fn=lambda: signal.signal(how, signal.SIG_DFL))
        with s.accept()[0] as to:
            to.sendall(b"$1000000\r\n" + bytes(300_000))
            until(lambda: any(p.stat().st_size for p in tmp_path.iterdir()))
            export.send_signal(how)
            assert b"Traceback" not in export.communicate(timeout=60)[1]
    assert export.returncode == 128 + how and not list(tmp_path.iterdir())


def test_redis_cli_takes_a_snapshot(server, loaded, tmp_path):
    a = server()
    fill(a)
    a("FUNCTION", "LOAD", LIBRARY)
    cli = ["redis-cli", "-p", str(a.port)]
    subprocess.run([*cli, "--rdb", tmp_path / "dump.rdb"], check=True, capture_output=True)
    other = loaded(tmp_path / "dump.rdb")
    assert equal(a, other) and other("FCALL", "f", 0) == 7
    subprocess.run([*cli, "--functions-rdb", tmp_path / "functions.rdb"], check=True,
                   capture_output=True)
    other = loaded(tmp_path / "functions.rdb")
    assert other("DBSIZE") == 0 and other("FCALL", "f", 0) == 7
    until(lambda: b"total_forks:2" in a("INFO", "stats"))


def test_a_replica_of_redis_is_refused(server, redis):
    a = server()
    redis("SET", "stays", 1)
    redis("REPLICAOF", "127.0.0.1", a.port)
    until(lambda: b"master_link_status:down" in redis("INFO", "replication"))
    with pytest.raises(Exception, match="No server of Redis can follow"):
        a("PSYNC", "?", -1)
    time.sleep(2)
    assert b"total_forks:0" in a("INFO", "stats")
    redis("REPLICAOF", "NO", "ONE")
    assert redis("GET", "stays") == b"1"


def children(pid: int) -> list[int]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as f:
                found += map(int, f.read().split())
        except (FileNotFoundError, ProcessLookupError):
            pass                        # a thread that ended meanwhile
    return found


def read_all(s) -> int:
    n = 0
    while piece := s.recv(1 << 20):
        n += len(piece)
    return n


def test_a_slow_reader_keeps_nobody_waiting(server, tmp_path):
    a = server()
    a("SET", "large", os.urandom(60 << 20))
    with socket.create_connection(("127.0.0.1", a.port)) as slow:
        slow.sendall(b"SYNC\r\n")
        assert slow.recv(1) == b"$"
        for i in range(2000):
            assert a("INCR", "n") == i + 1
        assert "being sent already" in run("export", tmp_path / "x", "--from",
                                           f"127.0.0.1:{a.port}", code=4)
        with pytest.raises(Exception, match="being sent already"):
            a("SYNC")
        rest = read_all(slow)
        assert rest > 60 << 20
    until(lambda: not children(a.pid))
    run("export", tmp_path / "x", "--from", f"127.0.0.1:{a.port}")


def test_who_goes_in_the_middle_or_a_server_that_ends(server):
    a = server()
    a("SET", "large", os.urandom(60 << 20))
    with socket.create_connection(("127.0.0.1", a.port)) as gone:
        gone.sendall(b"SYNC\r\n")
        assert gone.recv(1) == b"$"
    until(lambda: not children(a.pid))
    assert a("PING") == b"PONG"
    with socket.create_connection(("127.0.0.1", a.port)) as last:
        last.sendall(b"PING\r\nSYNC\r\n")
        assert last.recv(7) == b"+PONG\r\n" and last.recv(1) == b"$"
        [child] = children(a.pid)
        a.kill()
        until(lambda: not os.path.exists(f"/proc/{child}"))
        assert read_all(last) < 60 << 20


def test_what_is_no_moment_for_a_snapshot(server):
    a = server()
    with a.connect() as c:
        c("MULTI")
        with pytest.raises(Exception, match="not allowed inside a transaction"):
            c("SYNC")
    with pytest.raises(Exception, match="not allowed from script"):
        a("EVAL", "return redis.call('SYNC')", 0)
    for argv in (("REPLCONF", "capa"), ("REPLCONF", "x", "y"),
                 ("REPLCONF", "rdb-filter-only", "keys")):
        with pytest.raises(Exception, match="syntax error|Unrecognized"):
            a(*argv)
    assert a("REPLCONF") == b"OK"

"""One server as a process: start, stop, signals, sockets, logs, settings at run time, loading."""
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

from tests.http.test_operators import until as until_it_listens
from tests.real.cluster import ROOT, Server, executable, free_port, until
from tests.respclient import Connection, ReplyError


def wait_for(condition, what: str, timeout: float = 10.0):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout} s: {what}")


def wait_end(server, timeout: float = 20.0) -> int:
    code = server.process.wait(timeout)
    server.process = None
    server._disconnect()
    return code


# ---- stopping ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_order(server, number):
    s = server()
    for i in range(50):
        s("SET", i, i)
    os.kill(s.pid, number)
    assert wait_end(s) == 0
    assert f"stopped ({number.name})" in s.log()
    s.start()
    assert s("DBSIZE") == 50


def test_a_signal_sent_to_the_process_and_its_group_is_one(server):
    """As timeout(1) does: SIGTERM twice within a moment."""
    s = server()
    s("SET", "k", "v")
    os.kill(s.pid, signal.SIGSTOP)                  # so that both are there when it looks
    os.kill(s.pid, signal.SIGTERM)
    os.kill(s.pid, signal.SIGINT)
    os.kill(s.pid, signal.SIGCONT)
    assert wait_end(s) == 0 and "stopped (SIG" in s.log()


def test_what_was_acknowledged_before_the_signal_is_there_after_it(server):
    s = server(appendfsync="no")
    with s.connect() as c:
        for i in range(2000):
            c.send("INCR", "n")
        os.kill(s.pid, signal.SIGTERM)
        acknowledged = 0
        try:
            while True:
                acknowledged = max(acknowledged, c.read())
        except (OSError, EOFError, ValueError):
            pass
    assert wait_end(s) == 0
    s.start()
    assert int(s("GET", "n") or 0) >= acknowledged


@pytest.mark.parametrize("argv", [["SHUTDOWN"], ["SHUTDOWN", "NOSAVE"], ["SHUTDOWN", "SAVE"]])
def test_shutdown(server, argv):
    s = server()
    s("SET", "a", "1")
    with s.connect() as c:
        c.send(*argv)
        assert wait_end(s) == 0
    s.start()
    assert s("GET", "a") == b"1"


def test_sighup_opens_the_log_file_again(server, tmp_path):
    path = tmp_path / "server.log"
    s = server(log_file=path)
    wait_for(lambda: "ready" in path.read_text(), "the end of the start")
    assert "ready" not in s.log()
    path.rename(tmp_path / "old.log")
    os.kill(s.pid, signal.SIGHUP)
    wait_for(path.exists, "a new log file")
    s("CONFIG", "SET", "loglevel", "debug")
    assert s.stop() == 0
    assert "log file opened again" in path.read_text() and "stopped" in path.read_text()
    assert "stopped" not in (tmp_path / "old.log").read_text()


def test_json_log(server):
    s = server(log_format="json")
    wait_for(lambda: "ready" in s.log(1000), "the end of the start")
    s.stop()
    lines = [json.loads(line) for line in s.log(1000).splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert any("ready" in line["message"] for line in lines)


def test_text_log_and_level(server):
    s = server(log_level="warning")
    s.stop()
    assert s.log(1000) == ""
    s = server(log_level="info")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) +\w+: ",
                        line) for line in s.log(1000).splitlines())


# ---- sockets ----

def test_listens_on_loopback_only_by_default(server):
    s = server()
    with open("/proc/net/tcp") as f:
        listening = [line.split()[1] for line in f if line.split()[3] == "0A"]
    mine = [a for a in listening if int(a.split(":")[1], 16) in (s.port, s.http_port)]
    assert mine and all(a.startswith("0100007F:") for a in mine)


def test_unix_socket(server, tmp_path):
    path = tmp_path / "redis.sock"
    s = server(unixsocket=path, unixsocketperm="700")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with Connection(str(path)) as c:
        assert c("PING") == b"PONG"
        c("SET", "a", "1")
    assert s("GET", "a") == b"1"
    s.kill()
    s.start()                       # the socket file the killed process left is replaced
    with Connection(str(path)) as c:
        assert c("GET", "a") == b"1"
    s.stop()
    assert not path.exists()


@pytest.mark.parametrize("name", ["x" + 40 * "é", "xx" + 40 * "é", os.fsdecode(b"\xff\xfe")])
def test_a_unix_socket_with_any_name(server, name):
    """More than CLIENT LIST shows of it, cut within a character or before it; bytes that are no
    character."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = os.path.join(folder, name)
        server(unixsocket=path)
        with Connection(path) as c:
            assert b"addr=/tmp/" in c("CLIENT", "LIST") and b"flags=U" in c("CLIENT", "INFO")


def test_debug_is_for_those_whom_the_setting_lets(server, tmp_path):
    """As redis-server 7 has it: nobody, unless the configuration says so."""
    s = server()
    with pytest.raises(ReplyError,
                       match="ERR DEBUG command not allowed. If the enable-debug-command option"):
        s("DEBUG", "SLEEP", "0")
    with pytest.raises(ReplyError, match="immutable"):
        s("CONFIG", "SET", "enable-debug-command", "yes")
    assert server(enable_debug_command="yes")("DEBUG", "SLEEP", "0") == b"OK"
    path = str(tmp_path / "s")
    assert server(enable_debug_command="local", unixsocket=path)("DEBUG", "SLEEP", "0") == b"OK"
    with Connection(path) as c:
        assert c("DEBUG", "SLEEP", "0") == b"OK"


def test_io_threads(server):
    """They take part where many clients are ready at a time, and INFO tells so."""
    s = server(io_threads=3, enable_debug_command="yes")
    with pytest.raises(ReplyError, match="immutable"):
        s("CONFIG", "SET", "io-threads", "2")
    assert s("CONFIG", "GET", "io-threads")[1] == b"3"

    def info():
        return dict(line.split(b":", 1) for line in s("INFO").split(b"\r\n") if b":" in line)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(s.connect()) for _ in range(60)]
        for i in range(3):
            s.connect().send("DEBUG", "SLEEP", "0.2")
            for c in clients:
                c.send("ECHO", str(i))
            assert [c.read() for c in clients] == [str(i).encode()] * 60
        found = info()
        assert found[b"io_threads_active"] == b"1"
        assert int(found[b"io_threaded_reads_processed"]) >= 60
        assert int(found[b"io_threaded_writes_processed"]) >= 60
    names = [f.read_text().strip() for f in Path(f"/proc/{s.pid}/task").glob("*/comm")]
    assert sorted(n for n in names if n.startswith("io_")) == ["io_1", "io_2"]
    assert s.stop() == 0


def test_a_unix_socket_in_use_is_not_taken_over(server, tmp_path):
    path = tmp_path / "redis.sock"
    server(unixsocket=path)
    other = Server("b", unixsocket=path)
    with pytest.raises(AssertionError, match="ended with 3"):
        other.start()
    assert "Address already in use" in other.log()
    with Connection(str(path)) as c:
        assert c("PING") == b"PONG"


def test_only_a_unix_socket(tmp_path, processes):
    s = Server("a", unixsocket=tmp_path / "s")
    s.port = 0
    s.start(wait=False)

    def answers():
        try:
            with Connection(str(tmp_path / "s")) as c:
                return c("PING") == b"PONG"
        except (OSError, ReplyError):
            return False
    wait_for(answers, "PONG over the Unix socket")


def test_restart_at_once_on_the_same_port(server):
    s = server()
    clients = [s.connect() for _ in range(10)]
    s.stop()
    s.start()
    assert s("PING") == b"PONG"
    for c in clients:
        c.close()


def test_password(server):
    s = Server("a", requirepass="secret")
    s.start(wait=False)

    def connected():
        try:
            return s.connect(password="secret")
        except (OSError, ReplyError):
            return None
    with wait_for(connected, "an answer") as c:
        assert c("PING") == b"PONG"
        with s.connect() as stranger:
            with pytest.raises(ReplyError, match="NOAUTH"):
                stranger("GET", "a")
        c("CONFIG", "SET", "requirepass", "other")
        with pytest.raises(ReplyError, match="WRONGPASS"):
            s.connect(password="secret")
        s.connect(password="other").close()


# ---- settings at run time ----

def test_config_set_takes_effect(server):
    s = server()
    s("CONFIG", "SET", "maxclients", "2")
    assert s("CONFIG", "GET", "maxclients") == [b"maxclients", b"2"]
    a = s.connect()
    with s.connect() as c:
        with pytest.raises((ReplyError, OSError)):
            c("PING")
    a.close()
    s("CONFIG", "SET", "maxclients", "100", "hash-max-ziplist-value", "3", "list-max-listpack-size",
      "2")
    s("HSET", "h", "f", "four")
    s("RPUSH", "l", 1, 2)
    assert ((s("OBJECT", "ENCODING", "h"), s("OBJECT", "ENCODING", "l"))
            == (b"hashtable", b"listpack"))
    s("RPUSH", "l", 3)
    assert s("OBJECT", "ENCODING", "l") == b"quicklist"
    s("CONFIG", "SET", "maxmemory", "1mb", "appendfsync", "always", "slowlog-log-slower-than", "0")
    with pytest.raises(ReplyError, match="OOM"):
        for i in range(100):
            s("SET", i, "x" * 100_000)
    with pytest.raises(ReplyError, match="maxmemory"):
        s("CONFIG", "SET", "maxmemory", "lots")
    assert s("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"1048576"]


def test_the_page_and_the_metrics_are_part_of_it(server):
    s = server()

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://{s.address}{path}", timeout=10) as reply:
            return reply.read().decode()

    assert "<title>crdt-redis</title>" in until_it_listens(lambda: get("/"))
    assert "crdt_redis_uptime_seconds" in get("/metrics") and get("/page/keys").startswith("{")


def test_config_rewrite(server, tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"_hz": "comment", "hz": 20}))
    s = server(config=file)
    s("CONFIG", "SET", "hz", "30")
    s("CONFIG", "REWRITE")
    assert json.loads(file.read_text()) == {"_hz": "comment", "hz": 30}


def test_environment(processes):
    s = Server("a")
    s.start(CRDT_MAX_RETRIES="9", CRDT_LOG_FORMAT="json", CRDT_HZZ="1")
    assert s("CONFIG", "GET", "max-retries") == [b"max-retries", b"9"]
    assert "CRDT_HZZ: no such setting" in s.log(1000)


# ---- loading ----

def test_clients_are_answered_while_it_loads(server):
    s = server(appendfsync="no")
    with s.connect() as c:
        for _ in range(20):
            for i in range(5000):
                c.send("SET", f"key:{_}:{i}", "v" * 200)
            for i in range(5000):
                c.read()
    assert s.stop() == 0
    s.start(wait=False)
    replies = []
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with s.connect() as c:
                replies.append(str(c("GET", "key:0:0")))
        except OSError:
            time.sleep(0.002)
            continue
        except ReplyError as e:
            replies.append(str(e))
            continue
        break
    assert replies[-1] == str(b"v" * 200)
    assert any(r.startswith("LOADING ") for r in replies), "never seen loading"
    assert all(r.startswith("LOADING ") for r in replies[:-1])
    assert s("DBSIZE") == 100_000


def test_closed_standard_descriptors_take_no_data(tmp_path):
    port = free_port()
    command = " ".join([*executable(),
                        f"--port {port} --http-port 0 --data-dir {tmp_path}/d --log-level debug"])
    process = subprocess.Popen(["/bin/sh", "-c", f"exec {command} <&- >&- 2>&-"], cwd=ROOT)
    try:
        def answers():
            try:
                with Connection(port) as c:
                    return c("SET", "a", "1")
            except (OSError, ReplyError):
                return None
        wait_for(answers, "an answer")
    finally:
        process.terminate()
        assert process.wait(20) == 0
    for path in (tmp_path / "d").iterdir():
        assert b"info " not in path.read_bytes(), path


def test_nothing_outlives_it(server):
    """No thread, process or file keeps the data directory: the next start has it at once."""
    s = server()
    for _ in range(5):
        assert s.stop() == 0
        s.start()
    assert (sorted(p.name for p in s.data_dir.iterdir()) == ["LOCK", "identity.json",
                                                             "segment-0000000000000001.log"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))


@pytest.mark.parametrize("words", ["* -::*", "127.0.0.1 localhost", "-::* *"])
def test_an_address_that_is_named_twice_is_listened_at_once(processes, words):
    s = Server(bind=words, protected_mode="no").start()
    assert s("PING") == b"PONG"
    socket.create_connection(("127.0.0.1", s.http_port)).close()


# ---- the service manager ----

class Manager:
    """What systemd listens on with Type=notify."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(30)
        self.socket.bind(address)

    def next(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told_of_start_and_stop(processes, abstract):
    s = Server()
    address = f"@crdt-redis-test-{s.port}" if abstract else str(s.directory / "notify")
    manager = Manager("\0" + address[1:] if abstract else address)
    s.start(wait=False, NOTIFY_SOCKET=address)
    assert "READY=1" in manager.next()
    assert s("SET", "k", "v") == b"OK"                  # it is served, with no LOADING any more
    assert b"process_supervised:systemd" in s("INFO", "server")
    s.process.terminate()
    assert "STOPPING=1" in manager.next()
    assert s.process.wait(20) == 0
    manager.socket.close()


def test_a_service_manager_that_has_gone_is_no_fault(processes):
    s = Server()
    s.start(NOTIFY_SOCKET=str(s.directory / "nobody"))
    assert s("PING") == b"PONG"
    for address in ("relative", "vsock:1:2", "\udcff"):
        s.kill()
        s.start(NOTIFY_SOCKET=address)
        assert s("PING") == b"PONG"


def test_a_service_manager_that_watches_is_told_of_life_while_a_script_runs_on_too(processes):
    s = Server(busy_reply_threshold=1)
    address = str(s.directory / "notify")
    manager = Manager(address)
    s.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="9000000")

    def told_again():
        while "WATCHDOG=1" not in manager.next():
            pass

    told_again()
    with s.connect() as c, s.connect() as other:
        c.send("EVAL", "while true do end", "0")

        def is_busy():
            try:
                return other("PING") != b"PONG"
            except ReplyError as e:
                return str(e).startswith("BUSY")

        until(is_busy)
        manager.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while manager.next():       # what it was told before
                pass
        manager.socket.settimeout(30)
        told_again()
        assert is_busy()
        assert other("SCRIPT", "KILL") == b"OK"
    manager.socket.close()


def test_a_service_manager_that_watches_another_process_is_told_of_no_life(processes):
    s = Server()
    address = str(s.directory / "notify")
    manager = Manager(address)
    s.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="9000000", WATCHDOG_PID="1")
    told = []
    while "READY=1" not in told:
        told += manager.next()
    s.stop()
    while "STOPPING=1" not in told:
        told += manager.next()
    assert "WATCHDOG=1" not in told
    manager.socket.close()


def test_secrets_of_a_process_come_from_credentials(processes):
    s = Server()
    credentials = s.directory / "credentials"
    credentials.mkdir()
    for name in ("requirepass", "auth_token"):
        (credentials / name).write_text(f"{name}-secret\n")
        (credentials / name).chmod(0o400)
    s.settings["bind"] = "0.0.0.0"                      # which wants both
    s.start(wait=False, CREDENTIALS_DIRECTORY=str(credentials))

    def answers():
        try:
            with s.connect(password="requirepass-secret") as c:
                return c("PING") == b"PONG"
        except OSError:
            assert s.process.poll() is None, s.log()
    wait_for(answers, "PONG", 30)
    assert "secret" not in Path(f"/proc/{s.pid}/cmdline").read_text() + s.log()


def test_the_unit_hands_over_what_only_root_reads():
    unit = (ROOT / "packaging" / "crdt-redis.service").read_text()
    assert ("\nType=notify\n" in unit
            and "\nLoadCredential=crdt-redis.json:/etc/crdt-redis.json\n" in unit)
    command, = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert "${CREDENTIALS_DIRECTORY}/crdt-redis.json" in command and "/etc/" not in command


def test_what_every_part_says_reaches_the_log_file():
    """The log of the process hangs on "crdtredis"; a part that logs under another name is not
    heard."""
    for path in (ROOT / "crdtredis").rglob("*.p*"):
        if path.suffix in (".py", ".pyx", ".pxi"):
            for name in re.findall(r"""getLogger\("([^"]*)""", path.read_text()):
                assert name.startswith("crdtredis.") or path.name == "logs.py", (
                    f"{path.name}: {name}")


def test_storage_messages_reach_the_log_file(processes):
    s = Server(log_file="messages.log")
    s.start()
    s("SET", "k", "v")
    s.kill()
    with open(max(s.data_dir.glob("segment-*.log")), "ab") as f:
        f.write(b"torn")
    s.start()
    assert "torn tail" in (s.directory / "messages.log").read_text()

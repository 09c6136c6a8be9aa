"""A redis.conf: how it is read, what applies, what is named, what stops the start, and that CONFIG
REWRITE keeps it."""
import os
import subprocess
import time

import pytest

from crdtredis import redisconf
from crdtredis.config import Config
from crdtredis.sources import ConfigError, parse_flags
from tests.real.cluster import ROOT, executable, free_port
from tests.respclient import Connection


def load(tmp_path, text, name="redis.conf"):
    file = tmp_path / name
    file.write_text(text, errors="surrogateescape")
    file.chmod(0o600)
    return Config.load(file=str(file))


def faults(tmp_path, text):
    with pytest.raises(ConfigError) as e:
        load(tmp_path, text)
    return str(e.value)


@pytest.mark.parametrize("line, words", [
    ("maxmemory 100mb", ["maxmemory", "100mb"]), ("  a\tb  c ", ["a", "b", "c"]),
    ('a ""', ["a", ""]), ("a ''", ["a", ""]),
    ('requirepass "a b\\"c\\x41\\n"', ["requirepass", 'a b"cA\n']),
    ("requirepass 'it\\'s \\n'", ["requirepass", "it's \\n"]),
    ('a "\\xe2\\x82\\xac"', ["a", "€"]), ("a #b", ["a", "#b"])])
def test_words(line, words):
    assert redisconf.split(line) == words


@pytest.mark.parametrize("line", ['a "b', "a 'b", 'a "b"c', "a b\"c", "a 'b'\"c\""])
def test_unbalanced_quotes(line, tmp_path):
    with pytest.raises(ValueError):
        redisconf.split(line)
    assert ("line 2): expected a directive" in faults(tmp_path,
                                                      f"port 1\n{line}\n").replace(
                                                          "line 2:", "line 2):"))


def test_words_come_back_as_they_were_quoted():
    for word in ("", "a", "a b", 'a"b', "a\\b", "a'b", "\t\n", "#x", "\x7f", "é"):
        assert redisconf.split(f"x {redisconf.quote(word)}") == ["x", word]


def test_what_applies(tmp_path):
    config = load(tmp_path, """# comment
port 7000
BIND 127.0.0.1 -::1
dir /var/lib/redis
maxmemory 100mb
loglevel notice
timeout 30
requirepass "pass word"
client-output-buffer-limit normal 1mb 0 0
client-output-buffer-limit pubsub 32mb 8mb 60
hash-max-ziplist-entries 7
peers 127.0.0.1:8081 127.0.0.1:8082
maxmemory 200mb
""")
    assert ((config.server_port, config.bind, config.data_dir) == (7000, ("127.0.0.1", "-::1"),
                                                                   "/var/lib/redis"))
    assert ((config.max_memory, config.log_level, config.seconds("timeout"))
            == (200 << 20, "info", 30))
    assert (config.requirepass, config.hash_max_listpack_entries) == ("pass word", 7)
    assert (config.client_output_buffer_limit[0] == ("normal", 1 << 20, 0, 0)
            and config.client_output_buffer_limit[2][1] == 32 << 20)
    assert config.peers == ("127.0.0.1:8081", "127.0.0.1:8082") and config.warnings == []
    assert config.origin("max_memory") == f"file {tmp_path}/redis.conf, line 13"


def test_what_has_no_effect_is_one_warning(tmp_path):
    config = load(tmp_path,
                  "appendonly no\nsave 900 1\nsave 60 100\ndatabases 32\nreplicaof a 1\nnonsense "
                  "x\nprot 7\nrdbchecksum yes\n")
    assert config.warnings == [f"file {tmp_path}/redis.conf: without effect here: appendonly no, "
                               "save 900 1 60 100, databases 32, "
                               "replicaof; not known: nonsense, prot (did you mean port?)"]


@pytest.mark.parametrize("line", ["user default on nopass ~* +@all", "aclfile /etc/users.acl",
                                  'rename-command FLUSHALL ""', "tls-port 6380"])
def test_what_would_leave_something_open_stops_the_start(tmp_path, line):
    assert "does not start with less than the file asks for" in faults(tmp_path, line)


def test_what_closes_nothing_does_not(tmp_path):
    assert load(tmp_path, 'tls-port 0\naclfile ""\n').server_port == 6379


@pytest.mark.parametrize("line, part", [
    ("port x", "expected a whole number"), ("port 1 2", "expected one word"),
    ("maxmemory", "expected one word"),
    ("loglevel loud", "expected one of"),
    ("include /nonexistent.conf", "cannot be read: No such file"),
    ("include", "expected include FILE")])
def test_wrong_values_are_faults(tmp_path, line, part):
    assert part in faults(tmp_path, line)


def test_include(tmp_path):
    (tmp_path / "more").mkdir()
    for i in (1, 2):
        (tmp_path / "more" / f"{i}.conf").write_text(f"hz {i}0\n")
    assert load(tmp_path, f"hz 5\ninclude {tmp_path}/more/*.conf\n").hz == 20
    assert load(tmp_path, f"include {tmp_path}/more/2.conf\nhz 5\n").hz == 5
    assert load(tmp_path, f"include {tmp_path}/none/*.conf\n").hz == 10
    (tmp_path / "more" / "1.conf").write_text(f"include {tmp_path}/redis.conf\n")
    assert "is included already" in faults(tmp_path, f"include {tmp_path}/more/1.conf")


def test_flags_as_redis_spells_them():
    found: list = []
    flags, others = parse_flags(["--maxmemory", "1gb", "--save", "900", "1", "300", "10",
                                 "--appendonly", "no", "--dir", "/x", "--loglevel",
                                 "verbose", "--bind", "127.0.0.1", "::1", "--replica-read-only",
                                 "yes", "--save="], found, {})
    config = Config.load(flags, faults=found)
    assert ((config.max_memory, config.data_dir, config.log_level, config.bind)
            == (1 << 30, "/x", "debug", ("127.0.0.1", "::1")))
    assert others == {"--save": "900 1 300 10", "--appendonly": "no", "--replica-read-only": "yes"}
    parse_flags(["--tls-port", "6380"], found, {})
    assert ([str(f.problem) for f in found]
            == ["Redis clients connect in the clear here; enable_tls is for HTTP"])


def test_rewrite_keeps_lines_and_order(tmp_path):
    config = load(tmp_path, "# mine\nport 7000\nmaxmemory 1gb\n\nloglevel notice\nmaxmemory 2gb\n")
    config.set_texts([("maxmemory", "100mb"), ("requirepass", 'a "b'),
                      ("client-output-buffer-limit", "normal 1 2 3")])
    config.rewrite()
    assert (tmp_path / "redis.conf").read_text() == (
        "# mine\nport 7000\nmaxmemory 104857600\n\nloglevel notice\n# Generated by CONFIG REWRITE\n"
        'requirepass "a \\"b"\nclient-output-buffer-limit normal 1 2 3 replica 268435456 67108864 '
        '60 pubsub 33554432 8388608 60\n')
    again = Config.load(file=str(tmp_path / "redis.conf"))
    assert again.requirepass == 'a "b' and again.max_memory == 100 << 20 and again.warnings == []
    again.set_texts([("hz", "20")])
    again.rewrite()
    assert (tmp_path / "redis.conf").read_text().endswith("pubsub 33554432 8388608 60\nhz 20\n")


def test_a_daemon_from_a_redis_conf(tmp_path):
    port = free_port()
    (tmp_path / "redis.conf").write_text(f"port {port}\ndaemonize yes\npidfile "
                                         f"{tmp_path}/r.pid\nlogfile {tmp_path}/r.log\ndir "
                                         f"{tmp_path}/d\n")
    start = [*executable(), str(tmp_path / "redis.conf"), "--http-port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(start, capture_output=True, text=True, timeout=60, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    pid = int((tmp_path / "r.pid").read_text())
    assert os.getsid(pid) == pid
    client = Connection(port)
    assert client("CONFIG", "GET", "dir") == [b"dir", f"{tmp_path}/d".encode()]
    # A second one fails in the foreground, in its own words and with its exit code, and leaves the
    # first one's pid file alone.
    second = subprocess.run(start, capture_output=True, text=True, timeout=60, env=environment)
    assert second.returncode in (3, 4) and int((tmp_path / "r.pid").read_text()) == pid
    client.send("SHUTDOWN")
    deadline = time.monotonic() + 60
    while (tmp_path / "r.pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "stopped" in (tmp_path / "r.log").read_text()

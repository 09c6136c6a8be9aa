"""Configuration: every setting from every source, precedence, faults by name, changes at run time,
and what is printed."""
import json
import os
import re
import stat

import pytest

from crdtredis.commands.keys import matches
from crdtredis.config import Config
from crdtredis.kinds import (format_duration, is_loopback, is_peer, parse_duration, parse_size)
from crdtredis.settings import (BY_NAME, BY_PUBLIC, COMMON, MASK, SETTINGS, example, help_text,
                                reference)
from crdtredis.sources import ConfigError, Fault, parse_flags

FIXED_NAMES = {      # those that existing deployments use, with their defaults
    "server_port": 6379, "http_port": 8080, "replica_id": "", "data_dir": "./data", "peers": (),
    "max_segment_size": 67108864,
    "compaction_threshold": 10, "sync_interval": 5 * 10**9, "gc_interval": 60 * 10**9,
    "sync_timeout": 30 * 10**9, "max_retries": 3,
    "retry_interval": 10**9, "auth_token": "", "enable_tls": False, "tls_cert_file": "",
    "tls_key_file": "", "log_file": "",
    "log_level": "info", "log_format": "text", "max_connections": 10000, "max_memory": 0,
    "redis_addr": "", "redis_db": 0,
    "cluster_name": "default",
}


def faults_of(call, *args, **kwargs) -> list[str]:
    with pytest.raises(ConfigError) as e:
        call(*args, **kwargs)
    assert str(e.value).splitlines() == [str(f) for f in e.value.faults], "one line per fault"
    return [str(f) for f in e.value.faults]


def load_flags(*argv, **sources) -> Config:
    faults: list[Fault] = []
    values, _ = parse_flags(argv, faults, {"--config": True, "--version": False})
    return Config.load(flags=values, faults=faults, **sources)


# ---- declarations ----

def test_fixed_names_and_defaults():
    assert {name: Config().values[name] for name in FIXED_NAMES} == FIXED_NAMES


def test_declarations_are_sound():
    assert len(BY_NAME) == len(SETTINGS)
    spellings = [n for s in SETTINGS for n in {s.name.replace("_", "-"), s.public, *s.aliases}]
    assert len(spellings) == len(set(spellings)) == len(BY_PUBLIC), (
        "two settings share a spelling in CONFIG")
    flags = [f for s in SETTINGS for f in s.flags]
    assert len(flags) == len(set(flags))
    for s in SETTINGS:
        assert s.help.endswith(".") and s.group, s.name
        assert s.kind.from_text(s.kind.to_text(s.initial)) == s.initial, s.name
        assert s.kind.from_json(json.loads(json.dumps(s.kind.to_json(s.initial)))) == s.initial, (
            s.name)


@pytest.mark.parametrize("variable, name", [
    ("CRDT_REDIS_PORT", "server_port"), ("CRDT_HTTP_PORT", "http_port"),
    ("CRDT_REPLICA_ID", "replica_id"),
    ("CRDT_DATA_DIR", "data_dir"), ("CRDT_PEERS", "peers"), ("CRDT_CLUSTER_NAME", "cluster_name"),
    ("CRDT_AUTH_TOKEN", "auth_token"),
    ("CRDT_LOG_LEVEL", "log_level"), ("CRDT_LOG_FILE", "log_file"),
    ("CRDT_MAX_MEMORY", "max_memory")])
def test_environment_names(variable, name):
    text, value = {"server_port": ("7000", 7000), "http_port": ("7001", 7001),
                   "peers": ("a:1, b:2", ("a:1", "b:2")),
                   "log_level": ("debug", "debug"),
                   "max_memory": ("64mb", 64 << 20)}.get(name, ("x", "x"))
    config = Config.load(environ={variable: text, "PATH": "/bin"})
    assert (config.values[name] == value and config.origin(name) == f"environment {variable}"
            and not config.warnings)


# ---- values ----

@pytest.mark.parametrize("text, ns", [("0", 0), ("250ms", 250_000_000), ("5s", 5 * 10**9),
                                      ("1.5s", 1_500_000_000), ("1h30m", 5400 * 10**9),
                                      ("7us", 7000), ("7µs", 7000), ("3ns", 3),
                                      ("2d", 172_800 * 10**9)])
def test_duration(text, ns):
    assert parse_duration(text) == ns
    assert parse_duration(format_duration(ns)) == ns


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5sec", "1e3s", "∞", "5s3"])
def test_bad_duration(text):
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("text, n", [("0", 0), ("17", 17), ("64mb", 64 << 20), ("64M", 64_000_000),
                                     ("1Gb", 1 << 30), ("2k", 2000),
                                     ("2kb", 2048), ("5b", 5)])
def test_size(text, n):
    assert parse_size(text) == n


@pytest.mark.parametrize("text", ["", "mb", "-1", "1.5mb", "1mib", "0x10"])
def test_bad_size(text):
    with pytest.raises(ValueError):
        parse_size(text)


def test_a_bare_integer_counts_nanoseconds_but_for_redis_settings():
    config = Config.of(sync_interval=250_000_000, retry_interval="1500ms", timeout=300,
                       tcp_keepalive="1m")
    assert ((config.seconds("sync_interval"), config.ms("retry_interval"),
             config.seconds("timeout")) == (0.25, 1500, 300.0))
    assert config.tcp_keepalive == 60 * 10**9


@pytest.mark.parametrize("address, is_it", [("127.0.0.1", True), ("127.9.9.9", True),
                                            ("-::1", True), ("localhost", True), ("*", False),
                                            ("0.0.0.0", False), ("::", False),
                                            ("127.0.0.1.example", False), ("10.0.0.1", False)])
def test_loopback(address, is_it):
    assert is_loopback(address) is is_it


@pytest.mark.parametrize("peer, good", [("a:1", True), ("http://a.b:8080", True),
                                        ("https://[::1]:8080/", True), ("[::1]:80", True),
                                        ("[10.0.0.5]:80", False), ("[1.2.3]:80", False),
                                        ("[::ffff:10.0.0.5]:80", True), ("[:::]:80", False),
                                        ("a", False), ("a:0", False), ("a:65536", False),
                                        ("ftp://a:1", False), ("a:1/path", False),
                                        ("a" * 253 + ":65535", True), ("a" * 300 + ":1", False)])
def test_peer_addresses(peer, good):
    assert is_peer(peer) is good


def test_peer_urls():
    config = Config.of(peers=["a:1", "http://b:2/", "https://c:3", "a:1", "http://a:1/", "b:2"])
    assert config.peer_urls == ("http://a:1", "http://b:2", "https://c:3")


# ---- sources ----

def test_precedence(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"_": "a comment", "server_port": 1, "http_port": 2,
                                "log_level": "error"}))
    config = load_flags("--port", "11", file=str(file),
                        environ={"CRDT_REDIS_PORT": "21", "CRDT_HTTP_PORT": "22"})
    assert ((config.server_port, config.http_port, config.log_level, config.max_retries)
            == (11, 22, "error", 3))
    assert [config.origin(n) for n in ("server_port", "http_port", "log_level", "max_retries")] == [
        "flag --port", "environment CRDT_HTTP_PORT", f"file {file}", "default"]


def test_flags_in_all_their_forms():
    config = load_flags("--server-port=7", "--peers", "a:1", "--peers=b:2,c:3",
                        "--protected-mode=no", "--sync-interval", "1s", "--requirepass", "-x")
    assert ((config.server_port, config.peers, config.protected_mode, config.requirepass)
            == (7, ("a:1", "b:2", "c:3"), False, "-x"))
    values, others = parse_flags(["--version", "--protected-mode", "--port", "1", "--config=f"], [],
                                 {"--config": True, "--version": False})
    assert values == {"protected_mode": ("yes", "--protected-mode"), "server_port": ("1", "--port")}
    assert (others == {"--version": "", "--config": "f"}
            or others == {"--version": "yes", "--config": "f"})


def test_every_fault_is_named_at_once(tmp_path):
    file = tmp_path / "c.json"
    file.write_text('{"server_port": "6379", "max_memry": 1, "port": 1, "enable_tls": "yes", '
                    '"max_retries": 1.0, "hz": null}')
    lines = faults_of(load_flags, "--http-port", "99999", "--log-levle", "debug", "--peers",
                      "--data-dir=x", "stray", file=str(file),
                      environ={"CRDT_SYNC_INTERVAL": "soon", "CRDT_MAX_MEMORI": "1"})
    text = "\n".join(lines)
    assert len(lines) == 11, text
    for part in ("--log-levle (command line): no such setting (did you mean --log-level?)",
                 "peers (flag --peers): expected a value after the flag",
                 "stray (command line): expected a flag, which begins with --",
                 f'server_port (file {file}): expected a whole number from 0 to 65535, not "6379"',
                 f"max_memry (file {file}): no such setting (did you mean max_memory?)",
                 f"port (file {file}): no such setting (here it is server_port)",
                 f'enable_tls (file {file}): expected true or false (yes or no in flags, the '
                 'environment and CONFIG SET), not "yes"',
                 f"hz (file {file}): expected a whole number from 1 to 500, not null",
                 "http_port (flag --http-port): expected a whole number from 0 to 65535, not "
                 "\"99999\"",
                 "sync_interval (environment CRDT_SYNC_INTERVAL): expected a duration"):
        assert part in text


def test_every_setting_refuses_nonsense_by_name():
    for s in SETTINGS:
        for raw in ({"a": 1}, ["\0"], None, "\0"):
            line, = faults_of(Config.of, **{s.name: raw})
            assert line.startswith(f"{s.name} (settings): expected "), line


def test_unknown_environment_variables_are_warnings():
    config = Config.load(environ={"CRDT_REDIS_PROT": "1", "CRDT_CONFIG": "x", "OTHER": "1"})
    assert (config.warnings
            == ["environment CRDT_REDIS_PROT: no such setting (did you mean CRDT_REDIS_PORT?); "
                "ignored"])


def test_a_password_that_is_no_utf8_is_refused_in_every_source(tmp_path):
    conf, secret = tmp_path / "redis.conf", tmp_path / "secret"
    secret.write_bytes(b"\xff\n")
    for content in (b"requirepass \xff\n", b'requirepass "\\xff"\n',
                    b"requirepass-file %b\n" % bytes(secret)):
        conf.write_bytes(content)
        line, = faults_of(Config.load, file=str(conf))
        assert "expected a password without line breaks, in UTF-8" in line
    assert "in UTF-8" in faults_of(Config.load, environ={"CRDT_REQUIREPASS": "\udcff"})[0]
    config = Config.of()
    with pytest.raises(ConfigError):
        config.set_texts([("requirepass", "\udcff")])
    assert config.requirepass == ""


def test_secrets_are_in_no_fault():
    for name in ("requirepass", "auth_token"):
        assert "s3cret" not in "".join(faults_of(Config.of, **{name: "s3cret\r\n"}))


@pytest.mark.parametrize("content, what", [
    (b"", "expected JSON: "), (b"{", "at line 1, column 2"),
    (b"[]", "expected a JSON object of settings"), (b'{"a": "\xff"}', "UTF-8"),
    (b'{"hz": 1, "hz": 2}', "hz (file FILE): stands there twice"),
    (b"[" * 100_000, "expected JSON"),
    (b'{"max_memory": ' + b"9" * 5000 + b"}", "expected JSON"),
    (b'{"pidfile": "\\ud800"}', "UTF-8")])
def test_bad_files(tmp_path, content, what):
    file = tmp_path / "c.json"
    file.write_bytes(content)
    line, = faults_of(Config.load, file=str(file))
    assert what.replace("FILE", str(file)) in line and str(file) in line


def test_missing_file():
    assert (faults_of(Config.load, file="/nonexistent/c.json")
            == ["file /nonexistent/c.json: cannot be read: No such file or directory"])


# ---- settings that go together ----

def test_safe_by_default():
    lines = faults_of(Config.of, bind=["127.0.0.1", "10.0.0.1"])
    assert (len(lines) == 2
            and lines[0].startswith("requirepass (default): expected a value, since bind "
                                    "opens 10.0.0.1"))
    assert lines[1].startswith("auth_token (default): ")
    assert faults_of(Config.of, bind="*", requirepass="x") == [lines[1].replace("10.0.0.1", "*")]
    assert "since http_bind opens 0.0.0.0" in faults_of(Config.of, http_bind=["0.0.0.0"])[0]
    Config.of(bind="*", requirepass="x", auth_token="y")
    Config.of(bind="*", protected_mode=False)
    Config.of(bind="*", requirepass="x", http_port=0)


def test_what_does_not_go_together(tmp_path):
    for name in ("metrics_token", "operator_token"):        # replication would stand open
        assert f"{name} (settings): expected auth_token" in faults_of(Config.of, **{name: "m"})[0]
    assert "since there is no unixsocket" in faults_of(Config.of, server_port=0)[0]
    Config.of(server_port=0, unixsocket="/tmp/x")
    assert "another port than server_port" in faults_of(Config.of, server_port=7, http_port=7)[0]
    assert "since there are peers" in faults_of(Config.of, peers=["a:1"], http_port=0)[0]
    lines = faults_of(Config.of, enable_tls=True, tls_cert_file=str(tmp_path / "none"))
    assert [line.split()[0] for line in lines] == ["tls_cert_file", "tls_key_file"]


# ---- CONFIG GET, SET, REWRITE and /config ----

def get(config, patterns):
    return config.get(patterns, lambda glob, name: matches(glob.encode(), name.encode()))


def test_certificates_of_peers_want_tls_and_an_authority():
    lines = faults_of(Config.of, tls_auth_peers="yes")
    assert [line.split()[0] for line in lines] == ["enable_tls", "tls_ca_file"]
    for name, value in (("tls_peer_names", ["a"]), ("tls_client_cert_file", "/x"),
                        ("tls_client_key_file", "/x")):
        line, = faults_of(Config.of, **{name: value})
        assert line.split()[0] == name.replace("cert", "key"), line


def test_config_get():
    config = Config.of(max_memory="64mb", timeout=30, peers=["a:1", "b:2"])
    assert get(config, ["maxmemory"]) == {"maxmemory": str(64 << 20)}
    assert get(config, ["MAX_MEMORY"]) == {"max-memory": str(64 << 20)}
    assert get(config, ["server_port", "port"]) == {"port": "6379"}
    assert get(config, ["server_port"]) == {"server_port": "6379"}
    assert get(config, ["timeout", "peers", "sync-interval", "protected-mode", "none"]) == {
        "timeout": "30", "peers": "a:1 b:2", "sync-interval": "5s", "protected-mode": "yes"}
    assert (get(config, ["save"]) == {"save": ""} and get(config, ["appendonly"])
            == {"appendonly": "yes"})
    assert set(get(config, ["*"])) == {s.public for s in SETTINGS}
    assert get(config, ["hash-max-ziplist-value"]) == {"hash-max-ziplist-value": "64"}, (
        "an older name of Redis's")
    assert get(config, ["hash-max-*"]) == {"hash-max-listpack-entries": "512",
                                           "hash-max-listpack-value": "64"}, "each once"
    assert get(config, ["tcp-*"]) == {"tcp-keepalive": "300", "tcp-backlog": "511"}
    assert get(config, ["dir"]) == {"dir": os.path.abspath("data")}


def test_config_set_is_all_or_nothing():
    config, told = Config(), []
    config.observe(["max_memory", "timeout"], lambda name, value: told.append((name, value)))
    config.set_texts([("maxmemory", "1gb"), ("TIMEOUT", "5"), ("appendfsync", "always"),
                      ("save", ""), ("port", "6379")])
    assert ((config.max_memory, config.seconds("timeout"), config.appendfsync)
            == (1 << 30, 5.0, "always"))
    assert sorted(told) == [("max_memory", 1 << 30), ("timeout", 5 * 10**9)]
    assert config.origin("max_memory") == "CONFIG SET" and config.origin("save") == "default"
    lines = faults_of(config.set_texts, [("maxmemory", "2gb"), ("hz", "0"), ("port", "1"),
                                         ("maxmemry", "1"), ("max_memory", "1mb")])
    assert [line.split(" (")[0] for line in lines] == ["maxmemry", "max_memory", "hz", "port"]
    assert config.max_memory == 1 << 30 and len(told) == 2


def test_output_limits_of_one_class_leave_the_others():
    """As in Redis, in every source."""
    rest = (("replica", 268435456, 67108864, 60), ("pubsub", 33554432, 8388608, 60))
    config = Config.of(client_output_buffer_limit="normal 1mb 0 0")
    assert config.client_output_buffer_limit == (("normal", 1 << 20, 0, 0), *rest)
    config.set_texts([("client-output-buffer-limit", "pubsub 1 2 3")])
    assert (config.client_output_buffer_limit == (("normal", 1 << 20, 0, 0), rest[0],
                                                  ("pubsub", 1, 2, 3)))
    config.patch({"client_output_buffer_limit": "slave 4 5 6 normal 0 0 0"})
    assert (config.client_output_buffer_limit == (("normal", 0, 0, 0), ("replica", 4, 5, 6),
                                                  ("pubsub", 1, 2, 3)))
    flags, _ = parse_flags(["--client-output-buffer-limit", "normal", "7", "8", "9"], [], {})
    assert Config.load(flags).client_output_buffer_limit == (("normal", 7, 8, 9), *rest)


def test_certificates_that_nothing_uses_are_a_warning(tmp_path):
    config = Config.of(tls_cert_file=str(tmp_path / "cert"))
    assert (config.warnings
            == ["tls_cert_file and tls_key_file have no effect, since enable_tls is off and there "
                "is no tls_port: all is in the clear"])
    assert Config.of().warnings == []


def test_an_observer_can_refuse():
    config, told = Config(), []

    def observer(name, value):
        told.append((name, value))
        if value == 200:
            raise ValueError("no room for 200")
    config.observe(["hz"], observer)
    assert (faults_of(config.set_texts, [("hz", "200"), ("max_retries", "9")])
            == ["hz (CONFIG SET): no room for 200"])
    assert (config.hz, config.max_retries, told) == (10, 3, [("hz", 200), ("hz", 10)])


def test_safety_holds_at_run_time():
    config = Config.of(bind="*", requirepass="x", auth_token="y")
    assert "requirepass" in faults_of(config.set_texts, [("requirepass", "")])[0]
    assert config.requirepass == "x"
    config.set_texts([("protected-mode", "no"), ("requirepass", "")])


def test_tokens_that_are_the_same_open_the_same():
    for name, others in (("operator_token", ["auth_token"]),
                         ("metrics_token", ["auth_token", "operator_token"])):
        for other in others:
            tokens = {"auth_token": "a", "operator_token": "b", "metrics_token": "c"}
            warning, = Config.of(**tokens | {name: tokens[other]}).warnings
            assert warning.startswith(f"{name}: another token is the same")
    assert Config.of(**tokens).warnings == Config.of(auth_token="a").warnings == []


def test_who_may_read_settings_has_no_token_by_it():
    tokens = {"auth_token": "a", "operator_token": "b", "metrics_token": "c"}
    config = Config.of(**tokens, requirepass="p")
    for patterns in (["*"], list(tokens)):
        shown = get(config, patterns)
        assert [shown[name.replace("_", "-")] for name in tokens] == [MASK] * 3
    assert get(config, ["requirepass"]) == {"requirepass": "p"}         # as in Redis


def test_http_config():
    config = Config.of(auth_token="tok", log_level="debug")
    shown = config.as_json()
    assert ((shown["auth_token"], shown["requirepass"], shown["log_level"], shown["sync_interval"])
            == (MASK, "", "debug", "5s"))
    json.dumps(shown)
    config.patch({**shown, "max_memory": "1mb", "requirepass": "new", "sync_interval": 10**9})
    assert ((config.auth_token, config.max_memory, config.requirepass, config.sync_interval)
            == ("tok", 1 << 20, "new", 10**9))
    lines = faults_of(config.patch, {"max_memry": 1, "hz": "10", "data_dir": "/x"})
    assert [line.split(" (")[0] for line in lines] == ["max_memry", "hz", "data_dir"]


def test_rewrite(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"_hz": "comment", "hz": 20, "log_level": "error"}))
    os.chmod(file, 0o600)
    config = Config.load(file=str(file), environ={"CRDT_MAX_RETRIES": "7"})
    config.set_texts([("hz", "30"), ("sync-interval", "3s")])
    config.rewrite()
    assert (json.loads(file.read_text()) == {"_hz": "comment", "hz": 30, "log_level": "error",
                                             "sync_interval": "3s"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and os.listdir(tmp_path) == ["c.json"]
    with pytest.raises(ValueError):
        Config().rewrite()


# ---- what is printed ----

def test_the_example_is_complete_and_loads_back(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(example())
    assert Config.load(file=str(file)).values == Config().values
    keys = list(json.loads(example()))
    for s in SETTINGS:
        assert keys[keys.index(s.name) - 1] == "_" + s.name, "each setting follows its comment"


def test_what_the_texts_of_settings_name_is_there():
    for s in SETTINGS:
        named = re.findall(r"\b(?!crdt_redis_)[a-z]+(?:_[a-z]+)+\b", s.help)
        assert set(named) <= set(BY_NAME), s.name
        assert "never rewritten" not in s.help and "no snapshots" not in s.help, (
            "checkpoints take the place of the log")


def test_help_and_reference_name_every_setting():
    for s in SETTINGS:
        assert all(flag in help_text() for flag in s.flags)
        assert f"| `{s.name}` |" in reference()


@pytest.mark.parametrize("name, names", [("README.md", COMMON), ("packaging/settings.md", BY_NAME)])
def test_the_pages_have_the_reference(name, names):
    """Between its markers a page holds reference() as it is now: python -c 'from crdtredis.settings
    import reference; print(reference())'"""
    with open(os.path.join(os.path.dirname(__file__), "..", name), encoding="utf-8") as f:
        text = f.read()
    assert (text.split("<!-- reference -->\n")[1].split("\n<!-- end of reference -->")[0]
            == reference(names))


# ---- secrets from files ----

def secret_file(path, text: bytes, mode=0o600) -> str:
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("name", ["requirepass", "auth_token"])
@pytest.mark.parametrize("text", [b"s3cret", b"s3cret\n", b"s3cret\r\n"])
def test_a_secret_from_a_file(tmp_path, name, text):
    path = secret_file(tmp_path / "secret", text)
    config = Config.of(**{f"{name}_file": path})
    assert (config.values[name] == "s3cret" and config.origin(name) == f"file {path}"
            and not config.warnings)
    assert config.as_json()[name] == MASK and "s3cret" not in json.dumps(config.as_json())
    assert load_flags("--bind", "0.0.0.0", f"--{name}-file".replace("_", "-"), path,
                      f"--{'auth-token' if name == 'requirepass' else 'requirepass'}",
                      "x").values[name] == "s3cret"


def test_every_secret_has_a_file():
    for s in SETTINGS:
        assert not s.secret or f"{s.name}_file" in BY_NAME or s.name == "users"     # aclfile


def test_faults_of_secret_files(tmp_path):
    missing = str(tmp_path / "missing")
    unreadable = f"{missing} cannot be read: No such file or directory"
    assert (faults_of(Config.of, requirepass_file=missing)
            == [f"requirepass_file (settings): {unreadable}"])
    for text, problem in ((b"", "is empty"), (b"\n", "is empty"),
                          (b"two\nlines", "expected a password"),
                          (b"x" * 5000, "expected a password"),
                          (b"nul\0", "expected a password")):
        found = faults_of(Config.of, requirepass_file=secret_file(tmp_path / "s", text))
        assert (len(found) == 1 and problem in found[0]
                and "lines" not in found[0].replace("line breaks", ""))
    assert ("expected a token" in faults_of(Config.of,
                                            auth_token_file=secret_file(
                                                tmp_path / "s", b"with space"))[0])


def test_a_secret_given_outright_goes_before_a_file(tmp_path):
    path = secret_file(tmp_path / "secret", b"from-file")
    config = Config.of(requirepass="given", requirepass_file=path)
    assert (config.requirepass == "given" and config.warnings
            == ["requirepass_file (settings): not read, since requirepass (settings) is given"])
    assert Config.of(requirepass="", requirepass_file=path).requirepass == "from-file"


def test_systemd_credentials_are_found_by_name(tmp_path):
    secret_file(tmp_path / "requirepass", b"p\n")
    config = Config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (config.requirepass, config.auth_token) == ("p", "") and not config.warnings
    other = secret_file(tmp_path / "other", b"q\n")
    assert (Config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)},
                        settings={"requirepass_file": other}).requirepass == "q")
    assert ("not read" in Config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)},
                                      settings={"requirepass": "r"}).warnings[0])
    assert Config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}).requirepass == ""


def test_a_secret_that_everybody_may_read_is_a_warning(tmp_path):
    assert ("everybody" in Config.of(requirepass_file=secret_file(tmp_path / "s", b"x",
                                                                  0o644)).warnings[0])
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"requirepass": "x"}))
    file.chmod(0o644)
    assert "everybody" in Config.load(file=str(file)).warnings[0]
    file.chmod(0o640)
    assert not Config.load(file=str(file)).warnings
    file.write_text(json.dumps({"requirepass": ""}))
    file.chmod(0o644)
    assert not Config.load(file=str(file)).warnings


def test_a_secret_changed_at_run_time_holds_after_a_rewrite(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"requirepass_file": secret_file(tmp_path / "s", b"old")}))
    config = Config.load(file=str(file))
    config.set_texts([("requirepass", "new")])
    config.rewrite()
    assert Config.load(file=str(file)).requirepass == "new"

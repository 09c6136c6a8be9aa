"""The command line as a user types it: real processes, exit codes, one line per fault, no
traceback."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crdtredis import __version__
from crdtredis.settings import SETTINGS, example
from crdtredis.tools import TOOLS
from tests.real.cluster import ROOT, executable, free_port


def run(*args, env=None, cwd=None, timeout=30):
    environment = {k: v for k, v in os.environ.items()
                   if not k.startswith("CRDT_")} | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run([*executable(), *map(str, args)], capture_output=True, text=True,
                          timeout=timeout, env=environment, cwd=cwd)


def refused(result, code: int, *parts: str) -> None:
    assert result.returncode == code, result
    assert result.stdout == "" and "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert lines and all(line.startswith("crdt-redis: ") for line in lines), result.stderr
    for part in parts:
        assert part in result.stderr


def test_version_and_help():
    assert run("--version").stdout == run("version").stdout == f"crdt-redis {__version__}\n"
    text = run("--help").stdout
    for s in SETTINGS:
        assert all(flag in text for flag in s.flags)
    for word in ("crdt-redis demo", "crdt-redis check DIR", "--generate-config",
                 "--config FILE", "Clients:", "Replication:"):
        assert word in text
    assert run("-h").stdout == text


def test_generate_config_loads_back(tmp_path):
    result = run("--generate-config")
    assert result.returncode == 0 and result.stdout == example() + "\n"
    file = tmp_path / "c.json"
    file.write_text(result.stdout)
    # It is accepted: what stops the start is the second, wrong source.
    refused(run("--config", file, "--hz", "0"), 2, "hz (flag --hz)")
    assert len(run("--config", file, "--hz", "0").stderr.splitlines()) == 1


def test_wrong_settings_are_all_named(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"max_memry": 1, "log_level": "loud"}))
    result = run("--config", file, "--http-port", "x", env={"CRDT_PEERS": "nonsense"})
    refused(result, 2, "max_memry", "did you mean max_memory?", f"log_level (file {file})",
            "http_port (flag --http-port)",
            "peers (environment CRDT_PEERS)")
    assert len(result.stderr.splitlines()) == 4
    refused(run(env={"CRDT_CONFIG": str(file)}), 2, f"log_level (file {file})")


@pytest.mark.parametrize("args, part", [
    (["check", "--help"], "keep all that is sound"), (["dump", "-h"], "a line of JSON"),
    *[([name, "--help"], "usage: crdt-redis " + name) for name in TOOLS]])
def test_each_tool_says_what_it_does(args, part):
    found = run(*args)
    assert found.returncode == 0 and part in found.stdout and found.stderr == ""


@pytest.mark.parametrize("args, part", [
    (["dmeo"], "no such command or file: dmeo (did you mean demo?)"),
    (["--prot", "1"], "did you mean --port?"), (["--port"], "expected a value"),
    (["--config", "/nonexistent.json"], "cannot be read: No such file or directory"),
    (["check"], "usage: crdt-redis check"), (["check", "--to", "x", "y"], "goes with --repair"),
    (["dump"], "usage: crdt-redis dump"), (["backup", "--fro"], "expected one argument"),
    (["check", "/nonexistent"], "no such directory"), (["demo", "x"], "usage: crdt-redis demo"),
    (["--log-file", "/nonexistent/x.log"], "cannot be opened: No such file or directory"),
    (["--bind", "0.0.0.0"], "protected_mode"),
    (["--enable-tls"], "expected a readable PEM file")])
def test_mistakes(args, part, tmp_path):
    refused(run(*args, cwd=tmp_path), 2, part)


@pytest.mark.parametrize("tool", [["check"], ["check", "--repair"], ["dump"]])
def test_a_directory_that_is_no_replicas_is_left_as_it_is(tool, tmp_path):
    refused(run(*tool, tmp_path), 4, "no data directory of a replica")
    assert not os.listdir(tmp_path)


def test_a_closed_pipe_is_no_error():
    for args in (["--help"], ["--version"], ["--generate-config"]):
        process = subprocess.Popen([*executable(), *args], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE,
                                   env=os.environ | {"PYTHONPATH": str(ROOT)})
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 0, args


def test_little_is_imported_for_little():
    """--version must not wait for the compiled modules or the HTTP library."""
    code = ("import sys; from crdtredis.cli import main; main(['--version']); "
            "sys.exit(any(m.split('.')[0] in ('aiohttp', 'google', 'asyncio', 'logging') or "
            "m.startswith('crdtredis._') for m in sys.modules))")
    assert (subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
                           stdout=subprocess.DEVNULL).returncode == 0)


def test_port_in_use(tmp_path, server):
    first = server()
    refused_log = run("--port", first.port, "--http-port", free_port(), "--data-dir",
                      tmp_path / "d")
    assert (refused_log.returncode == 3
            and f"cannot listen on 127.0.0.1:{first.port} (port): Address already in use" in
            refused_log.stderr)
    result = run("--port", free_port(), "--http-port", first.http_port, "--data-dir",
                 tmp_path / "d")
    taken = f"cannot listen on 127.0.0.1:{first.http_port} (http_port): Address already in use"
    assert result.returncode == 3 and taken in result.stderr
    assert "Traceback" not in result.stderr


def test_data_directory_in_use(server):
    first = server()
    result = run("--port", free_port(), "--http-port", free_port(), "--data-dir", first.data_dir)
    assert (result.returncode == 4 and f"(process {first.pid})" in result.stderr
            and "Traceback" not in result.stderr)
    assert first("PING") == b"PONG"


def test_another_replica_id_is_refused(server):
    first = server(name="one")
    first.stop()
    result = run("--port", first.port, "--http-port", first.http_port, "--data-dir", first.data_dir,
                 "--replica-id", "two")
    assert result.returncode == 4 and "belongs to replica 'one'" in result.stderr


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """cert and key belong together; other is another key, locked has a passphrase, none is no
    PEM."""
    folder = tmp_path_factory.mktemp("pem")
    for key, cert in (("key", "cert"), ("other", "unused")):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                        folder / key, "-out", folder / cert, "-days", "2",
                        "-subj", "/CN=localhost"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-aes128", "-passout", "pass:word", "-in", folder / "key",
                    "-out", folder / "locked"], check=True,
                   capture_output=True)
    (folder / "none").write_text("no PEM\n")
    return folder


@pytest.mark.parametrize("cert, key, ca, said", [
    ("cert", "other", "cert", "the key is not that of the certificate"),
    ("cert", "locked", "cert",
     "expected a certificate chain and its key, without a passphrase or with "
     "tls_key_file_pass, in PEM format"),
    ("none", "key", "cert",
     "expected a certificate chain and its key, without a passphrase or with "
     "tls_key_file_pass, in PEM format"),
    ("key", "cert", "cert",
     "expected a certificate chain and its key, without a passphrase or with "
     "tls_key_file_pass, in PEM format"),
    ("cert", "key", "none", "expected certificates in PEM format")])
def test_tls_files_are_judged_before_anybody_is_served(pem, tmp_path, cert, key, ca, said):
    result = run("--port", free_port(), "--http-port", free_port(), "--data-dir", tmp_path / "d",
                 "--enable-tls", "--tls-cert-file", pem / cert,
                 "--tls-key-file", pem / key, "--tls-ca-file", pem / ca)
    assert (result.returncode == 2 and said in result.stderr
            and str(pem / (ca if ca == "none" else cert)) in result.stderr)
    assert "connect with" not in result.stderr and not (tmp_path / "d").exists()


def test_a_fifo_is_no_certificate(pem, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    result = run("--port", 0, "--tls-port", free_port(), "--http-port", 0, "--data-dir",
                 tmp_path / "d", "--tls-auth-clients", "no", "--tls-cert-file", pem / "cert",
                 "--tls-key-file", tmp_path / "fifo")
    assert result.returncode == 2
    assert f"tls_key_file {tmp_path / 'fifo'}: expected a file" in result.stderr


def test_data_directory_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--port", free_port(), "--http-port", free_port(), "--data-dir", tmp_path / "file")
    assert (result.returncode == 4 and f"data_dir {tmp_path / 'file'} is no directory" in
            result.stderr)


def test_data_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--port", free_port(), "--http-port", free_port(), "--data-dir",
                 tmp_path / "file" / "d")
    assert result.returncode == 4 and "cannot be made: Not a directory" in result.stderr


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")],
                         ids=["directory", "fifo", "device"])
@pytest.mark.parametrize("what", ["segment-*.log", "identity.json"])
def test_something_else_where_a_file_should_be(server, put, what):
    first = server()
    first("SET", "k", "v")
    first.stop()
    path, = first.data_dir.glob(what)
    path.unlink()
    put(path)
    for how in ((), ("--repair",)):
        result = run("check", *how, first.data_dir)
        assert result.returncode == 4 and "Traceback" not in result.stderr
        assert path.name in result.stdout + result.stderr
    with pytest.raises(AssertionError, match=f"ended with 4(.|\n)*{path.name}.* no regular file"):
        first.start()


def test_check_of_a_sound_and_a_damaged_directory(server):
    first = server()
    for i in range(100):
        first("SET", f"key:{i}", "v" * 100)
    first.stop()
    assert run("check", first.data_dir).returncode == 0
    segment, = first.data_dir.glob("segment-*.log")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xff
    segment.write_bytes(data)
    result = run("check", first.data_dir)
    assert (result.returncode != 0 and segment.name in result.stdout + result.stderr
            and "Traceback" not in result.stderr)
    started = run("--port", first.port, "--http-port", first.http_port, "--data-dir",
                  first.data_dir)
    assert started.returncode == 4 and segment.name in started.stderr and "offset" in started.stderr
    assert run("check", "--repair", first.data_dir).returncode == 0
    assert run("check", first.data_dir).returncode == 0

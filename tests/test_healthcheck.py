"""`crdt-redis healthcheck`, at real servers and at sockets that reply as a server that is not well
would."""
import contextlib
import socket
import threading

import pytest

from tests.real.cluster import Server, free_port, until
from tests.real.test_tls import KEY, openssl
from tests.test_cli import run

NO_HTTP = ("--http-port", 0)


def check(*args, **options):
    return run("healthcheck", *args, **options)


def well(result, said: str) -> None:
    assert (result.returncode, result.stdout, result.stderr) == (0, said + "\n", ""), result


def ill(result, *said: str) -> None:
    assert result.returncode == 1 and result.stdout == "", result
    assert all(line.startswith("crdt-redis: ") for line in result.stderr.splitlines())
    for part in said:
        assert part in result.stderr, result.stderr


@contextlib.contextmanager
def answering(*pieces: bytes, ends=True):
    """(port, what it was sent) of what sends these to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        got = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    c, _ = s.accept()
                    with c:
                        got.append(c.recv(4096))
                        for piece in pieces:
                            c.sendall(piece)
                        while not ends and c.recv(1):
                            pass

        threading.Thread(target=serve, daemon=True).start()
        yield s.getsockname()[1], got
        s.shutdown(socket.SHUT_RDWR)


def test_a_server_that_is_well(server, tmp_path):
    s = server()
    port, http = ("--port", s.port), ("--http-port", s.http_port)
    well(check(*port, *http), "/health: 200")
    well(check(*port, *http, "--alive"), "PING: +PONG")
    well(check(*port, *NO_HTTP), "PING: +PONG")
    well(check(*port, *NO_HTTP, "--bind", "0.0.0.0", "--protected-mode", "no"), "PING: +PONG")
    file = tmp_path / "redis.conf"
    file.write_text(f"port {s.port}\nhttp-port 0\n")
    well(check(file), "PING: +PONG")
    well(check("--config", file), "PING: +PONG")
    well(check(env={"CRDT_CONFIG": str(file)}), "PING: +PONG")
    well(check(env={"CRDT_HTTP_PORT": str(s.http_port)}), "/health: 200")
    s.stop()
    ill(check(*port, *http), f"127.0.0.1:{s.http_port}: Connection refused")
    ill(check(*port, *http, "--alive"), f"127.0.0.1:{s.port}: Connection refused")


def test_password_token_and_unix_socket(processes, tmp_path):
    s = Server(requirepass="pw", auth_token="a-token", unixsocket=tmp_path / "s").start(wait=False)
    secrets = ("--requirepass", "pw", "--auth-token", "a-token")
    until(lambda: check("--http-port", s.http_port, *secrets).returncode == 0)
    well(check("--http-port", s.http_port), "/health: 200")
    asked = "PING: -NOAUTH Authentication required."
    well(check("--port", s.port, *NO_HTTP), asked)
    well(check("--port", 0, "--unixsocket", tmp_path / "s", *NO_HTTP, *secrets), asked)


def test_no_secret_is_shown():
    with answering(b"+PONG\r\n") as (port, got):
        secrets = ("--requirepass", "secret-word", "--auth-token", "secret-token")
        well(check("--port", port, *NO_HTTP, *secrets), "PING: +PONG")
        ill(check("--http-port", port, *secrets), "/health: ", "is that its http_port?")
        assert got[0] == b"PING\r\n" and got[1].startswith(b"GET /health")
        assert not any(b"secret" in x for x in got)


@pytest.mark.parametrize("clients", ["yes", "no"])
def test_tls(server, tmp_path, clients):
    made = openssl("req", "-x509", *KEY, "-keyout", tmp_path / "key", "-out", tmp_path / "cert",
                   "-subj", "/CN=elsewhere.example", "-days", 2)
    assert made.returncode == 0, made.stderr
    files = {"tls_cert_file": tmp_path / "cert", "tls_key_file": tmp_path / "key",
             "tls_ca_file": tmp_path / "cert", "tls_auth_clients": clients}
    tls = free_port()
    s = server(enable_tls="yes", tls_port=tls, **files)
    flags = [x for k, v in files.items() for x in (f"--{k.replace('_', '-')}", v)]
    well(check("--port", 0, "--tls-port", tls, *NO_HTTP, *flags), "PING: +PONG")
    well(check("--http-port", s.http_port, "--enable-tls", *flags), "/health: 200")
    ill(check("--http-port", s.http_port), "/health")


def test_what_a_server_says_of_itself():
    with answering(b"-LOADING crdt-redis is loading the dataset in memory\r\n") as (port, _):
        ill(check("--port", port, *NO_HTTP), "PING: -LOADING crdt-redis is loading")
        assert check("--port", port, *NO_HTTP, "--alive").returncode == 0
    body = b'{"status": "failing", "reasons": ["the disk is full", "a clock"]}'
    reply = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with answering(reply) as (port, _):
        ill(check("--http-port", port), "/health: 503: the disk is full; a clock")
    for body in (b'{"reasons": 5}', b"[" * 60_000, b"5"):
        with answering(b"HTTP/1.1 503 No\r\nContent-Length: %d\r\n\r\n%s" % (
                len(body), body)) as (port, _):
            ill(check("--http-port", port), "/health: 503: " + body[:9].decode())
    with answering(b"SSH-2.0-x\r\n") as (port, _):
        ill(check("--port", port, *NO_HTTP, "--alive"), "PING: SSH-2.0-x")
    with answering() as (port, _):
        ill(check("--port", port, *NO_HTTP, "--alive"), "closed the connection without a reply")
        ill(check("--http-port", port), "/health")


@pytest.mark.parametrize("sent", [b"", b"+PO", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_its_time_is_bounded(sent):
    with answering(sent, ends=False) as (port, _):
        where = ("--port", port, *NO_HTTP) if sent == b"+PO" else ("--http-port", port)
        ill(check(*where, "--within", "300ms"), "no reply within 0.3 s")


def test_mistakes_are_ill_too():
    ill(check("--prot", "1"), "did you mean --port?")
    ill(check("--within", "soon"), "--within (command line): expected a time")
    ill(check("/nonexistent.conf"), "cannot be read")
    ill(check("--within"), "expected one argument")

"""Certificates that peers show which call (tls_auth_peers): who is refused, who is cut off while
connected, who is not, and what HTTP serves to all others meanwhile.

The certificates are made with the openssl executable.
"""
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from crdtredis.replication.wire import CONTENT_TYPE
from tests.real.certificates import KEY, Authority, of_replica
from tests.real.cluster import Server, free_port, until
from tests.respclient import ReplyError

PROTO = {"Content-Type": CONTENT_TYPE, "X-Replica": "x"}


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """The authority of a, b, client, eu (for eu.test) and server (for servers alone); of revoked,
    and expired; foreign is another's, and own its own. none, some, a_too: lists that have nobody,
    revoked, and a besides."""
    folder = tmp_path_factory.mktemp("pem")
    ca = Authority(folder)
    for name in ("a", "b", "client", "revoked"):
        ca.sign(name)
    ca.sign("server", extensions="extendedKeyUsage=serverAuth")
    ca.sign("expired", days=-1)
    eu = ca.sign("eu", names="DNS:eu.test")
    (folder / "eu.pem").write_text("".join(path.read_text() for path in eu))
    ca.none = ca.list_revoked()
    ca.some = ca.list_revoked("revoked")
    ca.a_too = ca.list_revoked("a")
    other = Authority(folder, "foreign-ca")
    other.sign("foreign")
    other._openssl("req", "-x509", *KEY, "-keyout", folder / "own.key", "-out", folder / "own.crt",
                   "-subj", "/CN=own", "-days", 9)
    return ca


def pair(pem, name):
    return pem.folder / f"{name}.crt", pem.folder / f"{name}.key"


def shows(pem, name):
    return dict(zip(("tls_client_cert_file", "tls_client_key_file"), pair(pem, name)))


def context_of(pem, name=""):
    context = ssl.create_default_context(cafile=pem.file)
    if name:
        context.load_cert_chain(*pair(pem, name))
    return context


def ask(server, context, method="POST", path="/replication/handshake", headers=PROTO, body=b""):
    """(status, body) of a request; 0 where the connection is ended instead."""
    c = http.client.HTTPSConnection("localhost", server.http_port, timeout=20, context=context)
    with contextlib.closing(c):
        try:
            c.request(method, path, body, headers)
            r = c.getresponse()
            return r.status, r.read()
        except (OSError, http.client.HTTPException):
            return 0, b""


@pytest.fixture(scope="module")
def wary(pem):
    """Wants certificates of a, b and client, by their common names."""
    server = Server("w", **of_replica(pair(pem, "a"), pem, tls_auth_peers="yes",
                                      tls_crl_file=pem.some, tls_peer_names="a,B,client",
                                      tls_more_certs=pem.folder / "eu.pem"))
    server.start()
    yield server
    server.dispose()


@pytest.mark.parametrize("name, status, said", [
    ("a", 400, ""), ("b", 400, ""),                     # as far as that: there is no message in it
    ("", 401, "it has shown no certificate, and tls_auth_peers wants one"),
    ("expired", 0, "its certificate is not accepted: certificate has expired"),
    ("foreign", 0, "its certificate is not accepted: unable to get local issuer certificate"),
    ("own", 0, "its certificate is not accepted: self-signed certificate"),
    ("revoked", 0, "its certificate is not accepted: certificate revoked"),
    ("server", 0, "its certificate is not accepted: unsuitable certificate purpose")])
def test_who_may_call_as_a_peer(wary, pem, name, status, said):
    found, body = ask(wary, context_of(pem, name))
    assert found == status and (status != 401 or said.encode() in body), body
    if said:
        until(lambda: f"127.0.0.1 is refused: {said}" in wary.log())
    for path in ("push", "pull", "sync", "keep", "claim", "stream", "lend"):
        method = "GET" if path in ("stream", "lend") else "POST"
        assert ask(wary, context_of(pem, name), method, f"/replication/{path}")[0] == status


def test_whom_a_replica_calls(server, pem):
    """It sends nothing to who shows a certificate that will not do, and says what is wrong."""
    said = {"expired": b"certificate has expired", "eu": b"IP address mismatch",
            "revoked": b"certificate revoked", "own": b"self-signed certificate",
            "foreign": b"unable to get local issuer certificate"}
    with contextlib.ExitStack() as stack:
        ports = {name: free_port() for name in said}
        others = [stack.enter_context(subprocess.Popen(
            ["openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-cert", cert, "-key",
             key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
            for port, (cert, key) in ((port, pair(pem, name)) for name, port in ports.items())]
        a = server(peers=[f"127.0.0.1:{port}" for port in ports.values()],
                   **of_replica(pair(pem, "a"), pem, tls_crl_file=pem.some))
        for name, port in ports.items():
            until(lambda: said[name] in peer(a, f"127.0.0.1:{port} "))
        for other in others:
            other.kill()
            assert other.stdout.read() == b""


def test_a_certificate_for_other_names_is_refused(wary, pem):
    wary("CONFIG", "SET", "tls-peer-names", "b *.example.org localhost.")
    status, body = ask(wary, context_of(pem, "a"))
    assert status == 401 and b"for localhost, 127.0.0.1, a: tls_peer_names has none" in body
    assert ask(wary, context_of(pem, "b"))[0] == 400
    for names, status in (("127.0.0.1", 400), ("LOCALHOST", 400), ("*.0.0.1", 400), ("*", 401),
                          ("*.a", 401)):
        wary("CONFIG", "SET", "tls-peer-names", names)
        assert ask(wary, context_of(pem, "a"))[0] == status, names
    wary("CONFIG", "SET", "tls-peer-names", "a,B,client")


def test_the_name_that_is_asked_for_makes_no_difference(wary, pem):
    for name, status in ("a", b" 400 "), ("", b" 401 "), ("revoked", b""), ("foreign", b""):
        got = b""
        with contextlib.suppress(OSError), context_of(pem, name).wrap_socket(
                socket.create_connection(("127.0.0.1", wary.http_port)),
                server_hostname="eu.test") as s:
            s.sendall(b"POST /replication/push HTTP/1.1\r\nHost: x\r\n\r\n")
            got = s.recv(100)
        assert status in got and bool(status) == bool(got), (name, got)


def test_others_than_peers_need_none(wary, pem):
    for method, path, body in (("GET", "/health", b""), ("GET", "/metrics", b""),
                               ("GET", "/stats", b""), ("GET", "/v1/bdbs", b""), ("GET", "/", b""),
                               ("PATCH", "/config", b'{"log_level": "info"}')):
        found = ask(wary, context_of(pem), method, path, {"Content-Type": "application/json"}, body)
        assert found[0] == 200, (path, found)


def test_who_was_let_in_before_its_certificate_was_revoked(wary, pem):
    """On the same connection, and as it resumes the session of it."""
    for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
        context = context_of(pem, "a")
        context.maximum_version = version
        with contextlib.closing(http.client.HTTPSConnection("localhost", wary.http_port, timeout=20,
                                                            context=context)) as c:
            for revoked, status in ((pem.none, 400), (pem.a_too, 401)):
                wary("CONFIG", "SET", "tls-crl-file", revoked)
                c.request("POST", "/replication/handshake", b"", PROTO)
                assert (r := c.getresponse()).status == status
                r.read()
            c.request("GET", "/health")
            assert (r := c.getresponse()).status == 200
            r.read()
            session = c.sock.session
        with socket.create_connection(("127.0.0.1", wary.http_port)) as s:
            with contextlib.suppress(OSError), context.wrap_socket(
                    s, server_hostname="localhost", session=session) as again:
                again.sendall(b"POST /replication/handshake HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b" 401 " in (again.recv(100) or b" 401 ")
    wary("CONFIG", "SET", "tls-crl-file", pem.some)


def peer(server, name):
    return b"".join(line for line in server("CRDT.PEERS") if name.encode() in line)


def counted(server, what):
    """Of its only peer."""
    found = ask(server, ssl._create_unverified_context(), "GET", "/metrics", {})[1].decode()
    return sum(float(line.split()[-1]) for line in found.splitlines()
               if line.startswith(f"crdt_redis_peer_{what}_total"))


def test_a_peer_whose_certificate_is_revoked_while_connected_is_cut_off(processes, pem, tmp_path):
    """By whom it calls, at once; others stay connected. Whom it may call again it finds again."""
    lists = tmp_path / "lists"
    shutil.copy(pem.some, lists)
    w = Server("w", **of_replica(pair(pem, "client"), pem, tls_auth_peers="yes",
                                 peer_discovery="no", tls_crl_file=lists)).start()
    a, b = (Server(name, [w.address], peer_discovery="no", **of_replica(
        pair(pem, name), pem, sync_interval="1h")).start() for name in "ab")
    until(lambda: b": up" in peer(a, w.address) and b": up" in peer(b, w.address))
    # from now on all is on the stream
    until(lambda: counted(a, "anti_entropy_rounds"))
    before = counted(b, "handshakes")
    shutil.copy(pem.a_too, lists)
    os.kill(w.pid, 1)
    until(lambda: b": refused" in peer(a, w.address))
    assert "127.0.0.1 is refused: its certificate is not accepted: certificate revoked" in w.log()
    b("SET", "from b", "v"), a("SET", "from a", "v")
    until(lambda: w("GET", "from b") == b"v")
    assert counted(b, "handshakes") == before and w("GET", "from a") is None
    shutil.copy(pem.some, lists)
    w("CONFIG", "SET", "tls-crl-file", lists)
    until(lambda: a("CRDT.SYNC", 1000) and w("GET", "from a") == b"v")
    # an authority that goes is as good as all its certificates revoked
    w("CONFIG", "SET", "tls-ca-cert-file", pem.folder / "foreign-ca.crt", "tls-crl-file", "")
    until(lambda: b": refused" in peer(a, w.address) and b": refused" in peer(b, w.address))


@pytest.mark.parametrize("what", ["certificate", "list"])
def test_what_expires_while_connected(processes, pem, tmp_path, what):
    """Who shows it is cut off soon, and back with a new one. When it will, is told before."""
    lists = tmp_path / "lists"
    shutil.copy(pem.none, lists)
    w = Server("w", **of_replica(pair(pem, "client"), pem, tls_auth_peers="yes",
                                 peer_discovery="no", tls_crl_file=lists)).start()
    a = Server("a", [w.address], peer_discovery="no", **of_replica(
        pair(pem, "b"), pem, sync_interval="1h")).start()
    until(lambda: b": up" in peer(a, w.address))
    if what == "certificate":
        cert, key = pem.sign("brief", seconds=12)
        a("CONFIG", "SET", "tls-client-cert-file", cert, "tls-client-key-file", key)
        a("CRDT.PEER", "PAUSE", "*"), a("CRDT.PEER", "RESUME", "*")     # it is shown from now on
        assert b"tls_client_cert_file_days_left:0\r\n" in a("INFO", "server")
        assert "tls_client_cert_file: a certificate expires in 0.0 days" in ask(
            a, context_of(pem), "GET", "/health", {})[1].decode()
    else:
        shutil.copy(pem.list_revoked(seconds=12), lists)
        w("CONFIG", "SET", "tls-crl-file", lists)
        assert "tls_crl_file: a revocation list expires in 0.0 days" in ask(
            w, context_of(pem), "GET", "/health", {})[1].decode()
    with w.connect() as c:                              # on the stream
        a("SET", "before", "v")
        until(lambda: c("GET", "before") == b"v")
    until(lambda: b": refused" in peer(a, w.address))
    assert {"list": "is not accepted: CRL has expired",
            "certificate": "is not accepted: certificate has expired"}[what] in w.log()
    if what == "certificate":
        a("CONFIG", "SET", "tls-client-cert-file", pair(pem, "b")[0], "tls-client-key-file",
          pair(pem, "b")[1])
    else:
        shutil.copy(pem.list_revoked(), lists)
        w("CONFIG", "SET", "tls-crl-file", lists)
    a("SET", "after", "v")
    until(lambda: w("GET", "after") == b"v")


def test_when_the_certificate_of_a_peer_expires_is_told(processes, pem):
    w = Server("w", **of_replica(pem.sign("soon", days=3), pem)).start()
    a = Server("a", [w.address], peer_discovery="no", **of_replica(pair(pem, "a"), pem)).start()
    until(lambda: b"its certificate expires in 3.0 days" in peer(a, w.address))
    [found] = [p for p in json.loads(ask(a, context_of(pem), "GET", "/stats", {})[1])["peers"]]
    assert 2.9 < (found["certificate_ends"] - time.time()) / 86400 <= 3


def test_it_is_turned_on_while_peers_are_connected(processes, pem):
    """Who shows none is cut off, and is back at once when it does."""
    w = Server("w", **of_replica(pair(pem, "client"), pem)).start()
    a = Server("a", [f"https://{w.address}"], peer_discovery="no", tls_ca_file=pem.file,
               sync_interval="50ms", retry_interval="50ms").start()
    up = lambda: b": up" in peer(a, w.address)              # noqa: E731
    until(up)
    w("CONFIG", "SET", "tls-auth-peers", "optional")
    a("CRDT.SYNC", 30_000)
    assert up()
    w("CONFIG", "SET", "tls-auth-peers", "yes")
    until(lambda: b"unauthorized: its caller is no peer: it has shown no certificate" in peer(
        a, w.address))
    cert, key = pair(pem, "a")
    for values, said in (((pem.folder / "absent", key), "tls_client_cert_file .*cannot be read"),
                         ((cert, pem.folder / "b.key"), "the key is not that of the certificate"),
                         ((pem.folder / "ca.cnf", key), "expected a certificate"),
                         ((pem.folder, key), "expected a file"),
                         (pair(pem, "server"), "a certificate that clients may show"),
                         ((cert, ""), "tls_client_key_file.*or neither")):
        with pytest.raises(ReplyError, match=said):
            a("CONFIG", "SET", "tls-client-cert-file", values[0], "tls-client-key-file", values[1])
        assert a("CONFIG", "GET", "tls-client-cert-file")[1] == b""
    a("CONFIG", "SET", "tls-client-cert-file", cert, "tls-client-key-file", key)
    until(up)
    a("CONFIG", "SET", "tls-client-cert-file", "", "tls-client-key-file", "")
    w("CONFIG", "SET", "tls-auth-peers", "no")
    until(lambda: a("CRDT.SYNC", 1000) and up())


def test_a_certificate_for_servers_alone_is_not_shown(processes, pem):
    """So where none is wanted, or one may be shown, nothing fails."""
    w = Server("w", **of_replica(pair(pem, "client"), pem, tls_auth_peers="optional")).start()
    a = Server("a", [w.address], peer_discovery="no", **of_replica(pair(pem, "server"), pem))
    a.start()
    until(lambda: b": up" in peer(a, w.address))
    w("CONFIG", "SET", "tls-auth-peers", "yes")
    until(lambda: b"it has shown no certificate" in peer(a, w.address))
    assert "server.crt is for servers alone (its extended key usage)" in a.log()
    a.stop()
    a.settings |= shows(pem, "expired")
    a.start()
    until(lambda: b"it may not accept this replica's certificate" in peer(a, w.address))

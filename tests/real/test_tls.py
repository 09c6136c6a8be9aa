"""Clients over TLS: every client that people use, certificates of all kinds, changes while the
server runs, and peers that do not keep to the protocol.

The certificates are made here, with the openssl executable.
"""
import contextlib
import ctypes
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request

import _ssl
import pytest
import redis

from tests.real.certificates import Authority
from tests.real.cluster import ROOT, Server, free_port, until
from tests.respclient import Connection, ReplyError

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*argv, stdin="", timeout=20):
    return subprocess.run(["openssl", *map(str, argv)], input=stdin, capture_output=True,
                          text=True, timeout=timeout)


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """ca; server, other (server's too), client, expired: signed by it; foreign: by foreign-ca;
    own: by itself. Each as NAME.crt and NAME.key; locked.key: server.key with a passphrase.
    eu.pem, us.pem: certificate and key of eu.test, and of us.test and *.us.test, signed by ca.
    none.crl, client.crl, other.crl: lists of ca without any, with client, with other, too;
    foreign.crl: of foreign-ca."""
    folder = tmp_path_factory.mktemp("pem")

    def made(*argv):
        result = openssl(*argv)
        assert result.returncode == 0, result.stderr

    def sign(name, ca, *options):
        made("req", *KEY, "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr",
             "-subj", f"/CN={name}")
        made("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / f"{ca}.crt", "-CAkey",
             folder / f"{ca}.key", "-CAcreateserial", "-out", folder / f"{name}.crt", *options)

    for name in ("ca", "foreign-ca", "own"):
        made("req", "-x509", *KEY, "-keyout", folder / f"{name}.key", "-out",
             folder / f"{name}.crt", "-subj", f"/CN={name}", "-days", 9)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "other"):
        sign(name, "ca", "-days", 9, "-extfile", folder / "names")
    sign("client", "ca", "-days", 9)
    sign("expired", "ca", "-days", -1)
    sign("foreign", "foreign-ca", "-days", 9)
    for name, names in ("eu", "DNS:eu.test"), ("us", "DNS:us.test,DNS:*.us.test"):
        (folder / "names").write_text(f"subjectAltName={names}\n")
        sign(name, "ca", "-days", 9, "-extfile", folder / "names")
        (folder / f"{name}.pem").write_text((folder / f"{name}.crt").read_text()
                                            + (folder / f"{name}.key").read_text())
    (folder / "index").touch()
    (folder / "ca.cnf").write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder / 'index'}\n"
                                   "default_md=sha256\ndefault_crl_days=9\n")

    def crl(name, ca, *options):
        made("ca", "-config", folder / "ca.cnf", "-cert", folder / f"{ca}.crt", "-keyfile",
             folder / f"{ca}.key", *(options or ("-gencrl", "-out", folder / f"{name}.crl")))

    crl("none", "ca")
    crl("foreign", "foreign-ca")
    crl("", "ca", "-revoke", folder / "client.crt")
    crl("client", "ca")
    crl("", "ca", "-revoke", folder / "other.crt")
    crl("other", "ca")
    made("ec", "-in", folder / "server.key", "-aes256", "-passout", "pass:sesame", "-out",
         folder / "locked.key")
    return folder


class Secure(Connection):
    """A connection over TLS. client: the name of the certificate that it shows."""

    def __init__(self, server, pem, client="", high=None, **options):
        super().__init__(server.settings["tls_port"], **options)
        context = ssl.create_default_context(cafile=pem / "ca.crt")
        if client:
            context.load_cert_chain(pem / f"{client}.crt", pem / f"{client}.key")
        if high:
            context.maximum_version = high
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        except BaseException:
            self.socket.close()
            raise


def flags(pem, **settings):
    return {"tls_port": free_port(), "tls_cert_file": pem / "server.crt",
            "tls_key_file": pem / "server.key", "tls_ca_file": pem / "ca.crt",
            "tls_auth_clients": "no"} | settings


@pytest.fixture(scope="module")
def shared(pem):
    """One server for the tests that leave it as it was."""
    server = Server("a", **flags(pem)).start()
    yield server
    server.dispose()


def info(server, name):
    return int(dict(line.split(b":", 1) for line in server("INFO").split(b"\r\n")
                    if b":" in line)[name.encode()])


def is_well(server, pem):
    """It serves clients of both ports, and nothing is left of whoever was there before."""
    with Secure(server, pem) as c:
        assert c("PING") == b"PONG" and server("PING") == b"PONG"
    until(lambda: info(server, "connected_clients") == 1)
    return True


# ---- clients -------------------------------------------------------------------------------------


def test_redis_cli(shared, pem):
    result = subprocess.run(["redis-cli", "--tls", "--cacert", pem / "ca.crt", "-p",
                             str(shared.settings["tls_port"])], input="SET cli 1\nINCR cli\n",
                            capture_output=True, text=True, timeout=20)
    assert result.stdout.split() == ["OK", "2"] and shared("GET", "cli") == b"2"


def test_redis_py(shared, pem):
    with redis.Redis(port=shared.settings["tls_port"], ssl=True,
                     ssl_ca_certs=str(pem / "ca.crt")) as r:
        with r.pipeline() as p:
            for i in range(2000):
                p.rpush("list", i)
            assert p.execute() == list(range(1, 2001))
        assert r.lrange("list", 0, -1) == [b"%d" % i for i in range(2000)]
        listener = r.pubsub(ignore_subscribe_messages=True)
        listener.subscribe("news")
        until(lambda: shared("PUBLISH", "news", "hello") == 1)
        until(lambda: (m := listener.get_message()) and m["data"] == b"hello")
        listener.close()
    shared("DEL", "list")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_s_client(shared, pem, version):
    result = openssl("s_client", version, "-connect", f"localhost:{shared.settings['tls_port']}",
                     "-CAfile", pem / "ca.crt", "-verify_return_error", "-quiet",
                     stdin="PING\r\nQUIT\r\n")
    assert "+PONG\n+OK" in result.stdout.replace("\r", "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_all_bytes_come_whatever_the_socket_takes(shared, pem, version):
    """Large arguments and replies, small ones in between, and a client that does not read for a
    while: records are cut anywhere."""
    value = random.Random(1).randbytes(3_000_000)
    with Secure(shared, pem, high=version) as c:
        assert c("SET", "large", value) == b"OK"
        for i in range(8):
            c.send("GET", "large")
            c.send("ECHO", f"small {i}")
            c.send("GETRANGE", "large", 0, 30_000)
        until(lambda: any(int(field.split(b"=")[1]) > 1_000_000
                          for field in shared("CLIENT", "LIST").split()
                          if field.startswith(b"omem=")))
        for i in range(8):
            same = [c.read() == x for x in (value, f"small {i}".encode(), value[:30_001])]
            assert all(same), (i, same)     # no comparison of megabytes in words
        assert c("PING") == b"PONG"
    shared("DEL", "large")


def test_a_client_that_waits_is_served(shared, pem):
    with Secure(shared, pem) as c:
        c.send("BLPOP", "queue", 0)
        c.send("PING")
        until(lambda: info(shared, "blocked_clients") == 1)
        shared("RPUSH", "queue", "x")
        assert c.read() == [b"queue", b"x"] and c.read() == b"PONG"


def test_who_has_said_all_gets_its_replies(shared, pem):
    """close_notify, and the end of the socket's direction, are no reason to drop replies."""
    context = ssl.create_default_context(cafile=pem / "ca.crt")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", shared.settings["tls_port"])) as s:
        s.settimeout(20)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                s.sendall(outgoing.read())
                incoming.write(s.recv(65536))
        tls.write(b"PING\r\n" * 5000)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        s.sendall(outgoing.read())
        s.shutdown(socket.SHUT_WR)
        while data := s.recv(65536):
            incoming.write(data)
        got = b""
        with contextlib.suppress(ssl.SSLError):
            while data := tls.read(1 << 20):
                got += data
    assert got == b"+PONG\r\n" * 5000


def test_sessions_are_resumed_unless_told_otherwise(shared, pem):
    context = ssl.create_default_context(cafile=pem / "ca.crt")

    def connect(session=None):
        s = socket.create_connection(("127.0.0.1", shared.settings["tls_port"]))
        with context.wrap_socket(s, server_hostname="localhost", session=session) as c:
            c.sendall(b"PING\r\n")
            assert c.recv(100) == b"+PONG\r\n"
            return c.session, c.session_reused
    assert connect(connect()[0])[1]
    shared("CONFIG", "SET", "tls-session-caching", "no")
    assert not connect(connect()[0])[1]
    shared("CONFIG", "SET", "tls-session-caching", "yes")


def test_tls_alone(processes, pem):
    """port 0; the key has a passphrase, and clients a password."""
    server = Server("a", **flags(pem, tls_key_file=pem / "locked.key", requirepass="secret",
                                 tls_key_file_pass="sesame"))
    server.port = 0
    server.start(wait=False)
    until(lambda: "ready, " in server.log())
    assert f"127.0.0.1:{server.settings['tls_port']} (TLS)" in server.log()
    with Secure(server, pem) as c:
        with pytest.raises(ReplyError, match="NOAUTH"):
            c("GET", "k")
        assert c("AUTH", "secret") == b"OK"
        assert b"tcp_port:%d\r\n" % server.settings["tls_port"] in c("INFO", "server")
        assert c("CONFIG", "GET", "port")[1] == b"0"
    assert server.stop() == 0


def test_the_port_is_changed_while_it_runs(server, pem):
    """Who is connected stays; what cannot be had changes nothing."""
    one, two, taken = free_port(), free_port(), socket.create_server(("127.0.0.1", 0))
    files = [x for name, value in flags(pem).items() if name != "tls_port"
             for x in (name.replace("_", "-").replace("ca-file", "ca-cert-file"), value)]
    a = server()
    a.settings["tls_port"] = one
    with pytest.raises(ReplyError, match="expected a readable PEM file, since there is a tls_port"):
        a("CONFIG", "SET", "tls-port", one)
    a("CONFIG", "SET", "tls-port", one, *files)
    with Secure(a, pem) as old:
        assert old("PING") == b"PONG" and a("CONFIG", "GET", "tls-port")[1] == b"%d" % one
        for port, said in ((taken.getsockname()[1], "Address already in use"),
                           (a.port, "expected another port than"), ("x", "expected")):
            with pytest.raises(ReplyError, match=said):
                a("CONFIG", "SET", "tls-port", port)
            assert connects(a, pem) and a("CONFIG", "GET", "tls-port")[1] == b"%d" % one
        # not this one, though the other setting comes too late
        with pytest.raises(ReplyError, match="No such file"):
            a("CONFIG", "SET", "tls-port", two, "tls-ca-cert-dir", pem / "absent")
        assert connects(a, pem) and old("PING") == b"PONG"
        for _ in range(20):                             # more often than there is room for sockets
            a("CONFIG", "SET", "tls-port", two)
            a.settings["tls_port"], one, two = two, two, one
            assert connects(a, pem) and old("PING") == b"PONG"
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", two))
        a("CONFIG", "SET", "tls-port", 0)
        assert not connects(a, pem) and old("PING") == b"PONG"
        a("CONFIG", "SET", "tls-port", one)
        assert connects(a, pem)
    taken.close()
    assert a.stop() == 0


# ---- who may connect -----------------------------------------------------------------------------


def connects(server, pem, client=""):
    """Whether a client with this certificate is served, and why not."""
    try:
        with Secure(server, pem, client) as c:
            return c("PING") == b"PONG"
    except (OSError, EOFError, AssertionError):
        return False


@pytest.mark.parametrize("client, said", [
    ("", "it has shown no certificate, and tls_auth_clients wants one"),
    ("expired", "its certificate is not accepted: certificate has expired"),
    ("foreign", "its certificate is not accepted: unable to get local issuer certificate"),
    ("own", "its certificate is not accepted: self-signed certificate")])
def test_clients_whose_certificate_will_not_do(shared, pem, client, said):
    shared("CONFIG", "SET", "tls-auth-clients", "yes")
    failed = info(shared, "tls_handshakes_failed")
    assert connects(shared, pem, "client") and not connects(shared, pem, client)
    until(lambda: info(shared, "tls_handshakes_failed") == failed + 1)
    until(lambda: said in shared.log(1))
    shared("CONFIG", "SET", "tls-auth-clients", "optional")
    assert connects(shared, pem, client) == (client == "") and connects(shared, pem, "client")
    shared("CONFIG", "SET", "tls-auth-clients", "no")
    assert connects(shared, pem, client)


def test_a_certificate_names_its_user(server, pem):
    a = server(**flags(pem, tls_auth_clients="optional", tls_auth_clients_user="CN"))
    a("ACL", "SETUSER", "client", "on", "+@all", "~mine:*")

    def who(client=""):
        with Secure(a, pem, client) as c:
            return c("ACL", "WHOAMI").decode()

    with Secure(a, pem, "client") as c:
        assert c("ACL", "WHOAMI") == b"client" and c("SET", "mine:1", "v") == b"OK"
        with pytest.raises(ReplyError, match="NOPERM"):
            c("GET", "other")
        assert b" user=client " in a("CLIENT", "LIST")
    # who resumes a session is who it was
    context, session = ssl.create_default_context(cafile=pem / "ca.crt"), None
    context.load_cert_chain(pem / "client.crt", pem / "client.key")
    for resumed in (False, True):
        s = socket.create_connection(("127.0.0.1", a.settings["tls_port"]))
        with context.wrap_socket(s, server_hostname="localhost", session=session) as tls:
            tls.sendall(b"ACL WHOAMI\r\n")
            assert tls.recv(100) == b"$6\r\nclient\r\n" and tls.session_reused == resumed
            session = tls.session
    # no certificate; one of nobody; one of somebody who may not
    assert who() == who("server") == "default"
    a("ACL", "SETUSER", "client", "off")
    assert who("client") == "default"
    rows = [dict(zip(row[::2], row[1::2])) for row in a("ACL", "LOG")]
    assert [(row[b"reason"], row[b"object"], row[b"username"]) for row in rows
            if row[b"reason"] == b"tls-cert"] == [(b"tls-cert", b"", b"client"),
                                                  (b"tls-cert", b"", b"server")]
    assert info(a, "acl_access_denied_tls_cert") == 2
    # a password that others need is none that it needs
    a("ACL", "SETUSER", "client", "on")
    a("CONFIG", "SET", "requirepass", "secret")
    assert who("client") == "client"
    with Secure(a, pem) as c, pytest.raises(ReplyError, match="NOAUTH"):
        c("ACL", "WHOAMI")
    with a.connect() as c:
        c("AUTH", "secret")
        c("CONFIG", "SET", "tls-auth-clients-user", "off")
    with Secure(a, pem, "client") as c, pytest.raises(ReplyError, match="NOAUTH"):
        c("ACL", "WHOAMI")


VERSIONS = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def resumed(server, pem, version, context=None, session=None):
    """A client with a certificate, which may resume a session: its context, and the session."""
    if context is None:
        context = ssl.create_default_context(cafile=pem / "ca.crt")
        context.load_cert_chain(pem / "client.crt", pem / "client.key")
        context.maximum_version = version
    s = socket.create_connection(("127.0.0.1", server.settings["tls_port"]))
    with context.wrap_socket(s, server_hostname="localhost", session=session) as tls:
        tls.sendall(b"PING\r\n")
        assert tls.recv(100) == b"+PONG\r\n"
        return context, tls.session


def test_a_revoked_certificate_is_refused(server, pem, tmp_path):
    """From the next connection on. The file takes a list of each authority that leads to one."""
    lists = tmp_path / "lists"
    shutil.copy(pem / "none.crl", lists)
    a = server(**flags(pem, tls_auth_clients="yes", tls_crl_file=lists))
    with Secure(a, pem, "client") as old:
        assert connects(a, pem, "client") and connects(a, pem, "server")
        sessions = [resumed(a, pem, version) for version in VERSIONS]
        shutil.copy(pem / "client.crl", lists)
        a("CONFIG", "SET", "tls-crl-file", lists)
        assert not connects(a, pem, "client") and connects(a, pem, "server")
        for version, session in zip(VERSIONS, sessions, strict=True):
            with pytest.raises((OSError, AssertionError)):
                resumed(a, pem, version, *session)
        until(lambda: "its certificate is not accepted: certificate revoked" in a.log())
        assert is_ended(old)            # also who was connected
        shutil.copy(pem / "none.crl", lists)
        os.kill(a.pid, 1)
        until(lambda: "certificates read again" in a.log())
        assert connects(a, pem, "client")
    # a list of another authority says nothing of this one's, and what is no list is refused
    a("CONFIG", "SET", "tls-crl-file", pem / "foreign.crl")
    assert not connects(a, pem, "client")
    until(lambda: "its certificate is not accepted: unable to get certificate CRL" in a.log())
    lists.write_text((pem / "foreign.crl").read_text() + (pem / "client.crl").read_text())
    a("CONFIG", "SET", "tls-crl-file", lists)
    assert connects(a, pem, "server") and not connects(a, pem, "client")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 30)
    lists.write_text((pem / "foreign-ca.crt").read_text())
    for path, said in ((lists, "expected revocation lists in PEM format"),
                       (tmp_path / "absent", "cannot be read"), (tmp_path, "expected a file"),
                       (tmp_path / "huge", "expected at most 128 MiB")):
        with pytest.raises(ReplyError, match=f"tls_crl_file.*{said}"):
            a("CONFIG", "SET", "tls-crl-file", path)
    # who brings a certificate of an authority in the lists' file is not let in by that
    lists.write_text((pem / "foreign-ca.crt").read_text() + (pem / "none.crl").read_text())
    a("CONFIG", "SET", "tls-crl-file", lists)
    assert connects(a, pem, "client") and not connects(a, pem, "foreign")
    a("CONFIG", "SET", "tls-crl-file", "")
    assert connects(a, pem, "client")


def is_ended(client) -> bool:
    """Waits for it."""
    client.socket.settimeout(20)
    try:
        while client.socket.recv(1000):
            pass
    except ConnectionError:
        pass
    return True


def connected(server, authority, pair, session=None):
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(*pair)
    c = Connection(server.settings["tls_port"])
    c.socket = context.wrap_socket(c.socket, server_hostname="localhost", session=session)
    c("PING")
    return c, context, c.socket.session


@pytest.mark.parametrize("threads", [1, 2])
def test_whose_certificate_holds_no_more_is_cut_off(server, tmp_path, threads):
    """While it waits, subscribes, or sends. A resumed session, which shows none, brings none back.
    All others stay."""
    ca = Authority(tmp_path)
    own, kept, gone = (ca.sign(name) for name in ("server", "kept", "gone"))
    a = server(tls_port=free_port(), tls_cert_file=own[0], tls_key_file=own[1],
               tls_ca_file=ca.file, tls_crl_file=ca.list_revoked(), tls_auth_clients="optional",
               io_threads=threads)
    stays = [connected(a, ca, kept)[0], a.connect()]
    bare = Connection(a.settings["tls_port"])
    bare.socket = ssl.create_default_context(cafile=ca.file).wrap_socket(
        bare.socket, server_hostname="localhost")
    stays.append(bare)
    going = [connected(a, ca, gone)[0] for _ in range(3)]
    going[0].send("BLPOP", "nothing", 0)
    going[1]("SUBSCRIBE", "channel")
    # it expires
    short = ca.sign("short", seconds=6)
    leaves, context, session = connected(a, ca, short)
    assert is_ended(leaves)
    until(lambda: "its certificate has expired" in a.log())
    c = socket.create_connection(("127.0.0.1", a.settings["tls_port"]))
    with contextlib.suppress(OSError), context.wrap_socket(
            c, server_hostname="localhost", session=session) as c:
        c.sendall(b"PING\r\n")
        assert c.recv(100) == b""
    assert going[2]("PING") == b"PONG"
    # it is revoked
    a("CONFIG", "SET", "tls-crl-file", ca.list_revoked("gone"))
    assert all(is_ended(c) for c in going)
    until(lambda: a.log().count("its certificate was revoked") == 3)
    assert info(a, "tls_errors") >= 4
    time.sleep(1.5)                     # all have been looked at
    assert all(c("PING") == b"PONG" for c in stays)
    # nobody asks for certificates any more
    a("CONFIG", "SET", "tls-auth-clients", "no")
    a("CONFIG", "SET", "tls-crl-file", ca.list_revoked("kept"))
    time.sleep(1.5)
    assert all(c("PING") == b"PONG" for c in stays)
    a("CONFIG", "SET", "tls-auth-clients", "yes")
    assert is_ended(stays[0])
    assert all(c("PING") == b"PONG" for c in stays[1:])


def flapping(a, authority, lists, whole, pairs, rounds):
    """Whole and broken lists come and go while clients do: pairs[0] stands in the second of two
    whole ones. How often that was refused, and pairs[1] let in."""
    counts, faults, over = [0, 0], [], threading.Event()
    # the round, and whether pairs[0] may be let in: who comes while lists change may, too
    phase = [(0, True)]

    def come_and_go(i):
        while not over.is_set():
            before = phase[0]
            try:
                connected(a, authority, pairs[i])[0].close()
                came = True
            except (OSError, AssertionError, IndexError):
                came = False
            if i and not came:
                faults.append("one with a valid certificate was refused")
            if not i and came and not before[1] and phase[0] == before:
                faults.append("a revoked one was let in")
            counts[i] += came if i else not came

    def work(c):
        while not over.is_set():
            try:
                assert c("PING") == b"PONG"
            except Exception as e:
                faults.append(f"one that was connected was dropped: {e!r}")
                return

    stays = [connected(a, authority, pairs[1])[0] for _ in range(3)] + [a.connect()]
    threads = [threading.Thread(target=come_and_go, args=(i,)) for i in (0, 1, 1)]
    threads += [threading.Thread(target=work, args=(c,)) for c in stays]
    for t in threads:
        t.start()
    try:
        for n in range(rounds):
            revokes = n % 2
            phase[0] = (n, True)
            lists.write_text(whole[revokes])
            assert a("CONFIG", "SET", "tls-crl-file", lists) == b"OK"
            phase[0] = (n, not revokes)
            lists.write_text(whole[not revokes][:200])
            with pytest.raises(ReplyError, match="expected revocation lists"):
                a("CONFIG", "SET", "tls-crl-file", lists)
            time.sleep(0.01)
    finally:
        over.set()
        for t in threads:
            t.join()
    for c in stays:
        c.close()
    assert not faults, faults[:5]
    return counts


def test_lists_that_flap(server, tmp_path):
    ca = Authority(tmp_path)
    own, kept, gone = (ca.sign(name) for name in ("server", "kept", "gone"))
    lists = tmp_path / "lists"
    whole = [ca.list_revoked().read_text(), ca.list_revoked("gone").read_text()]
    lists.write_text(whole[0])
    a = server(tls_port=free_port(), tls_cert_file=own[0], tls_key_file=own[1],
               tls_ca_file=ca.file, tls_crl_file=lists, tls_auth_clients="yes")

    def held():
        until(lambda: info(a, "connected_clients") == 1)
        with open(f"/proc/{a.pid}/statm") as f:
            return len(os.listdir(f"/proc/{a.pid}/fd")), int(f.read().split()[1]) * 4096

    flapping(a, ca, lists, whole, (gone, kept), 20)
    fds, rss = held()
    refused, came = flapping(a, ca, lists, whole, (gone, kept), 60)
    assert refused and came
    after = held()
    assert after[0] <= fds and after[1] - rss < 8 << 20, (fds, rss, after)


def named(server, pem, name, port=0):
    """The common name of the certificate that a client of this name sees."""
    result = openssl("s_client", "-connect", f"localhost:{port or server.settings['tls_port']}",
                     "-CAfile", pem / "ca.crt", *(("-servername", name) if name else
                                                  ("-noservername",)), stdin="QUIT\r\n")
    return result.stdout.partition("subject=")[2].partition("\n")[0].replace("CN", "").strip(" =")


def of_peers(pem, name, **settings):
    return {"enable_tls": "yes", "tls_cert_file": pem / f"{name}.crt", "tls_key_file":
            pem / f"{name}.key", "tls_ca_file": pem / "ca.crt", "sync_interval": "50ms",
            "retry_interval": "50ms"} | settings


def test_a_peer_whose_certificate_is_revoked_is_refused(processes, pem, tmp_path):
    """At once, though the connections to it were there. So it is where there is no list."""
    def peer(said):
        found, = a("CRDT.PEERS")
        return said in found

    lists, authorities = tmp_path / "lists", tmp_path / "authorities"
    shutil.copy(pem / "none.crl", lists)
    shutil.copy(pem / "ca.crt", authorities)
    a = Server("a", **of_peers(pem, "server", tls_crl_file=lists, tls_ca_file=authorities))
    b = Server("b", **of_peers(pem, "other"))
    a.peers = [b.address]
    b.start(), a.start()
    a("CRDT.SYNC", 30_000)
    for path, said in (("other.crl", b"(tls_crl_file): certificate revoked"),
                       ("client.crl", b": up"),
                       ("foreign.crl", b"(tls_crl_file): unable to get certificate CRL")):
        shutil.copy(pem / path, lists)
        a("CONFIG", "SET", "tls-crl-file", lists)
        until(lambda said=said: peer(said))
    # what makes an authority of somebody is not in the lists' file
    lists.write_text((pem / "ca.crt").read_text() + (pem / "none.crl").read_text())
    shutil.copy(pem / "foreign-ca.crt", authorities)
    os.kill(a.pid, 1)
    until(lambda: peer(b"(tls_ca_file): unable to get"))
    shutil.copy(pem / "ca.crt", authorities)
    os.kill(a.pid, 1)
    until(lambda: peer(b": up"))
    a("SET", "k", "v")
    a("CRDT.SYNC", 30_000)
    assert b("GET", "k") == b"v"
    for path, said in ((authorities, "expected revocation lists in PEM format"),
                       (tmp_path / "absent", "cannot be read"), (tmp_path, "expected a file")):
        with pytest.raises(ReplyError, match=f"tls_crl_file.*{said}"):
            a("CONFIG", "SET", "tls-crl-file", path)
    assert peer(b": up")


def test_who_calls_a_peer_by_name_gets_its_certificate(server, pem, tmp_path):
    a = server(**of_peers(pem, "server", tls_more_certs=f"{pem / 'eu.pem'},{pem / 'us.pem'}"))
    asked = ("eu.test", "x.us.test", "EU.TEST", "localhost", "nowhere", "")
    port = a.http_port
    assert [named(a, pem, name, port) for name in asked] == ["eu", "us", "eu", "server", "server",
                                                             "server"]
    context = ssl.create_default_context(cafile=pem / "ca.crt")
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)),
                             server_hostname="eu.test") as s:
        a("CONFIG", "SET", "tls-more-certs", pem / "us.pem")
        s.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.0 200")
    assert [named(a, pem, name, port) for name in ("eu.test", "us.test")] == ["server", "us"]
    with pytest.raises(ReplyError, match=f"tls_more_certs {pem / 'eu.crt'}.*private key"):
        a("CONFIG", "SET", "tls-more-certs", pem / "eu.crt")
    assert named(a, pem, "us.test", port) == "us"


def test_authorities_of_clients_make_no_peer_speak_tls(processes, pem):
    """With tls_port alone HTTP is plain, and so is the address that others are told."""
    b = Server("b", sync_interval="50ms").start()
    a = Server("a", sync_interval="50ms", **flags(pem))
    a.peers = [b.address]
    a.start()
    until(lambda: f"http://{a.address} a: up".encode() in b"".join(b("CRDT.PEERS")))


def test_a_client_gets_the_certificate_of_the_name_it_asks_for(server, pem, tmp_path):
    a = server(**flags(pem, tls_auth_clients="optional", tls_auth_clients_user="CN",
                       tls_more_certs=f"{pem / 'eu.pem'},{pem / 'us.pem'}"))
    asked = ("eu.test", "us.test", "x.us.test", "x.y.us.test", "EU.TEST", "localhost", "nowhere",
             "")
    assert [named(a, pem, name) for name in asked] == [
        "eu", "us", "us", "server", "eu", "server", "server", "server"]
    # who may connect, and as whom, does not depend on it
    a("ACL", "SETUSER", "client", "on", "+@all")
    context = ssl.create_default_context(cafile=pem / "ca.crt")
    for client, who in ("client", "client"), ("foreign", None):
        context.load_cert_chain(pem / f"{client}.crt", pem / f"{client}.key")
        s = socket.create_connection(("127.0.0.1", a.settings["tls_port"]))
        try:
            with context.wrap_socket(s, server_hostname="x.us.test") as tls:
                tls.sendall(b"ACL WHOAMI\r\n")
                assert tls.recv(100) == f"${len(who)}\r\n{who}\r\n".encode()
        except OSError:
            assert who is None
    # a session is resumed, whatever the certificate was
    context, session = ssl.create_default_context(cafile=pem / "ca.crt"), None
    for reused in False, True:
        s = socket.create_connection(("127.0.0.1", a.settings["tls_port"]))
        with context.wrap_socket(s, server_hostname="eu.test", session=session) as tls:
            tls.sendall(b"PING\r\n")
            assert tls.recv(100) == b"+PONG\r\n" and tls.session_reused == reused
            session = tls.session
    # changed while a handshake is under way, and while clients are connected
    half = socket.create_connection(("127.0.0.1", a.settings["tls_port"]))
    half.sendall(b"\x16\x03\x01\x02")
    with Secure(a, pem) as old:
        shutil.copy(pem / "eu.pem", tmp_path / "one.pem")
        a("CONFIG", "SET", "tls-more-certs", tmp_path / "one.pem")
        assert [named(a, pem, name) for name in ("eu.test", "us.test")] == ["eu", "server"]
        shutil.copy(pem / "us.pem", tmp_path / "one.pem")
        a("CONFIG", "SET", "tls-more-certs", tmp_path / "one.pem")
        assert [named(a, pem, name) for name in ("eu.test", "us.test")] == ["server", "us"]
        assert old("PING") == b"PONG"
    half.close()
    (tmp_path / "none").write_text("none")
    for path, said in ((tmp_path / "none", "expected a certificate"), (tmp_path, "expected a file"),
                       (pem / "eu.crt", "expected a private key"),
                       (tmp_path / "absent", "cannot be read")):
        with pytest.raises(ReplyError, match=f"tls_more_certs {path}.*{said}"):
            a("CONFIG", "SET", "tls-more-certs", f"{pem / 'eu.pem'} {path}")
    assert named(a, pem, "us.test") == "us"
    a("CONFIG", "SET", "tls-more-certs", "")
    assert named(a, pem, "us.test") == "server"


def test_protocols_and_ciphers(shared, pem):
    only = ssl.TLSVersion.TLSv1_2
    shared("CONFIG", "SET", "tls-protocols", "TLSv1.3")
    with pytest.raises(OSError):
        Secure(shared, pem, high=only)
    until(lambda: "it wants a version of TLS that tls_protocols does not have" in shared.log(1))
    shared("CONFIG", "SET", "tls-protocols", "TLSv1.2", "tls-ciphers",
           "ECDHE-ECDSA-CHACHA20-POLY1305")
    with Secure(shared, pem) as c:
        assert c.socket.version() == "TLSv1.2" and "CHACHA20" in c.socket.cipher()[0]
    shared("CONFIG", "SET", "tls-protocols", "", "tls-ciphers", "", "tls-ciphersuites",
           "TLS_CHACHA20_POLY1305_SHA256")
    with Secure(shared, pem) as c:
        assert c.socket.cipher()[0] == "TLS_CHACHA20_POLY1305_SHA256"
    shared("CONFIG", "SET", "tls-ciphersuites", "")
    for ciphers, accepted in ("", False), ("DEFAULT", True):
        shared("CONFIG", "SET", "tls-ciphers", ciphers)
        for weak in ("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"):
            said = openssl("s_client", "-tls1_2", "-cipher", weak, "-connect",
                           f"localhost:{shared.settings['tls_port']}").stdout
            assert (f"Cipher is {weak}" in said) == accepted, said
    shared("CONFIG", "SET", "tls-ciphers", "")
    for name, value in (("tls-protocols", "SSLv3"), ("tls-ciphers", "none"),
                        ("tls-ciphersuites", "none")):
        with pytest.raises(ReplyError):
            shared("CONFIG", "SET", name, value)
        assert shared("CONFIG", "GET", name)[1] == b""
    assert connects(shared, pem)


@pytest.mark.parametrize("data, said", [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "it speaks HTTP in the clear"),
    (b"*1\r\n$4\r\nPING\r\n", "it does not speak TLS")])
def test_other_protocols_are_named(shared, pem, data, said):
    with socket.create_connection(("127.0.0.1", shared.settings["tls_port"])) as s:
        s.sendall(data)
        until(lambda: said in shared.log(1))
    assert is_well(shared, pem)


def test_who_finds_no_room_is_closed(server, pem):
    a = server(**flags(pem, max_connections=3))
    with Secure(a, pem) as one:
        assert one("PING") == a("PING")             # now its handshake is over there, too
        with Secure(a, pem) as two:
            assert two("PING") == a("PING")
            with pytest.raises(OSError):
                Secure(a, pem)
            ids = [dict(f.split(b"=", 1) for f in line.split())[b"id"]
                   for line in a("CLIENT", "LIST").splitlines()]
            me = b"%d" % a("CLIENT", "ID")
            assert [a("CLIENT", "KILL", "ID", i) for i in ids if i != me] == [1, 1]
            assert one.socket.recv(1) == b""
    until(lambda: connects(a, pem))


def test_handshakes_that_do_not_end_leave_room(server, pem):
    """Where there are few places they take half of them."""
    a = server(**flags(pem, max_connections=20, tls_handshake_timeout="100s"))
    slow = [socket.create_connection(("127.0.0.1", a.settings["tls_port"])) for _ in range(60)]
    until(lambda: connects(a, pem))
    assert info(a, "connected_clients") < 20
    for s in slow:
        s.close()
    assert is_well(a, pem)


def test_replies_that_nobody_reads(server, pem):
    a = server(**flags(pem, client_output_buffer_limit="normal 10mb 0 0"))
    a("SET", "k", b"x" * 3_000_000)
    with Secure(a, pem) as c:
        for _ in range(20):
            c.send("GET", "k")
        until(lambda: info(a, "connected_clients") == 1)


# ---- changes -------------------------------------------------------------------------------------


def shown(server, pem):
    with Secure(server, pem) as c:
        return c.socket.getpeercert()["subject"][0][0][1]


def test_new_certificates_without_dropping_anyone(server, pem, tmp_path):
    for kind in ("crt", "key"):
        shutil.copy(pem / f"server.{kind}", tmp_path / f"mine.{kind}")
    mine = {"tls_cert_file": tmp_path / "mine.crt", "tls_key_file": tmp_path / "mine.key"}
    a = server(**flags(pem, **mine))
    with Secure(a, pem) as old:
        assert shown(a, pem) == "server"
        # another file
        assert a("CONFIG", "SET", "tls-cert-file", pem / "other.crt", "tls-key-file",
                 pem / "other.key") == b"OK"
        assert shown(a, pem) == "other"
        # a broken one, and one that is not there, are refused
        (tmp_path / "broken").write_text("none")
        os.mkfifo(tmp_path / "fifo")
        # what a wrong passphrase deciphers looks like a key at times, and is none
        (tmp_path / "odd.key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n"
                                          "-----END ENCRYPTED PRIVATE KEY-----\n")
        for name, value, said in (
                ("tls-cert-file", tmp_path / "broken", "expected a certificate"),
                ("tls-key-file", pem / "server.key", "the key is not that of the certificate"),
                ("tls-key-file", pem / "locked.key", "tls_key_file_pass does not open it"),
                ("tls-key-file", tmp_path / "odd.key", "tls_key_file_pass does not open it"),
                ("tls-key-file", tmp_path / "fifo", "expected a file"),
                ("tls-ca-cert-dir", tmp_path / "none", "cannot be read: No such file"),
                ("tls-ca-cert-file", tmp_path / "broken", "expected certificates in PEM format"),
                ("tls-cert-file", tmp_path / "none", "expected a readable PEM file")):
            with pytest.raises(ReplyError, match=said):
                a("CONFIG", "SET", "maxmemory", 1 << 30, name, value)
            assert a("CONFIG", "GET", "maxmemory")[1] == b"0"
        assert shown(a, pem) == "other"
        # the same path again, with another file there: by CONFIG SET, and by a signal
        a("CONFIG", "SET", "tls-cert-file", mine["tls_cert_file"], "tls-key-file",
          mine["tls_key_file"])
        for kind in ("crt", "key"):
            shutil.copy(pem / f"other.{kind}", tmp_path / f"mine.{kind}")
        assert shown(a, pem) == "server"
        a("CONFIG", "SET", "tls-cert-file", mine["tls_cert_file"])
        assert shown(a, pem) == "other"
        shutil.copy(tmp_path / "broken", tmp_path / "mine.crt")
        os.kill(a.pid, 1)
        until(lambda: "TLS goes on with the certificates it has" in a.log())
        assert shown(a, pem) == "other"
        for kind in ("crt", "key"):
            shutil.copy(pem / f"server.{kind}", tmp_path / f"mine.{kind}")
        os.kill(a.pid, 1)
        until(lambda: "certificates read again" in a.log())
        assert shown(a, pem) == "server" and old("PING") == b"PONG"


def test_when_certificates_expire_is_told(server, pem):
    """By each setting that names one: as figures, and with a warning before."""
    s = server(**flags(pem, tls_more_certs=pem / "eu.pem", requirepass="", metrics_token="m",
                       auth_token="t"))

    def seen():
        with Secure(s, pem) as c:
            found = dict(re.findall(r"(tls_\w+)_days_left:(-?\d+)", c("INFO", "server").decode()))
        lines = http_get(s, "/metrics", "m")
        ends = dict(re.findall(r'certificate_end_time_seconds{setting="(\w+)"} (\S+)', lines))
        assert found == {k: str(int((float(v) - time.time()) // 86400)) for k, v in ends.items()}
        return found, json.loads(http_get(s, "/health", "t"))["warnings"]

    found, warnings = seen()
    assert found == {"tls_cert_file": "8", "tls_more_certs": "8", "tls_ca_file": "8"}
    assert warnings == [f"{name}: a certificate expires in 9.0 days" for name in found]
    s("CONFIG", "SET", "tls-crl-file", pem / "none.crl", "tls-more-certs", "")
    found, warnings = seen()
    assert found == {"tls_cert_file": "8", "tls_ca_file": "8", "tls_crl_file": "8"}
    assert len(warnings) == 2
    s("CONFIG", "SET", "tls-crl-file", "", "tls-cert-file", pem / "expired.crt", "tls-key-file",
      pem / "expired.key")
    assert b"tls_cert_file_days_left:-2" in s("INFO", "server") or (
        b"tls_cert_file_days_left:-1" in s("INFO", "server"))
    assert "tls_cert_file: a certificate has expired" in json.loads(
        http_get(s, "/health", "t"))["warnings"]


def http_get(server, path, token):
    with urllib.request.urlopen(urllib.request.Request(
            f"http://{server.address}{path}", headers={"Authorization": f"Bearer {token}"}),
            timeout=20) as r:
        return r.read().decode()


def test_a_stop_says_what_is_due_and_farewell(server, pem):
    a = server(**flags(pem))
    a("SET", "k", b"x" * 3_000_000)
    with Secure(a, pem) as c:
        c.send("GET", "k")
        until(lambda: b"cmd=get" in a("CLIENT", "LIST"))
        a.process.terminate()
        assert len(c.read()) == 3_000_000
        # close_notify: else the end would be an error, for the bytes might be cut off
        c.socket.suppress_ragged_eofs = False
        assert c.socket.recv(1) == b""
    assert a.process.wait(20) == 0
    a.process = None


# ---- peers that do not keep to it ----------------------------------------------------------------


def client_hello(pem):
    context = ssl.create_default_context(cafile=pem / "ca.crt")
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("what", ["random", "huge", "empty", "half", "cut", "twice",
                                  "mutated"])
def test_what_is_no_handshake(shared, pem, what):
    hello, chance = client_hello(pem), random.Random(what)
    attempts = {
        "random": [chance.randbytes(chance.randrange(1, 40_000)) for _ in range(20)],
        # records, and handshake messages, of all lengths that can be said
        "huge": [b"\x16\x03\x01\xff\xff" + b"\x01\xff\xff\xff" + bytes(70_000),
                 b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(300_000),
                 b"\x80\xff" + bytes(70_000)],
        "empty": [b"\x16\x03\x01\x00\x00" * 20_000, b"\x15\x03\x01\x00\x02\x01\x00" * 20_000,
                  b"\x14\x03\x03\x00\x01\x01" * 20_000],
        "half": [hello[:n] for n in range(0, len(hello), 40)],
        "cut": [hello], "twice": [hello * 50],
        "mutated": [bytes(b ^ (chance.randrange(60) == 0) << chance.randrange(8) for b in hello)
                    for _ in range(60)],
    }[what]
    for data in attempts:
        with socket.create_connection(("127.0.0.1", shared.settings["tls_port"])) as s:
            s.settimeout(0.3)
            with contextlib.suppress(ConnectionError, TimeoutError):
                s.sendall(data)
                if what not in ("half", "cut"):
                    s.recv(1)
            if what == "cut":       # a reset rather than an end
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert is_well(shared, pem)


@pytest.mark.parametrize("end", ["garbage", "reset"])
def test_what_breaks_off_within_the_stream(shared, pem, end):
    broken = info(shared, "tls_errors")
    c = Secure(shared, pem)
    assert c("PING") == b"PONG"
    fd = c.socket.detach()
    with socket.socket(fileno=fd) as raw:
        if end == "garbage":
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            until(lambda: info(shared, "tls_errors") == broken + 1)
        else:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert is_well(shared, pem)


def test_handshakes_that_do_not_end(server, pem):
    """More than may be under way: the earliest make room, the others end when their time is up, and
    clients are served meanwhile."""
    a = server(**flags(pem, tls_handshake_timeout="2s"))
    hello = client_hello(pem)[:100]
    slow = [socket.create_connection(("127.0.0.1", a.settings["tls_port"])) for _ in range(1200)]
    for s in slow:
        s.send(hello)
    with Secure(a, pem) as c:
        assert c("PING") == b"PONG" == a("PING")
    until(lambda: info(a, "tls_handshakes_failed") == 1200)
    log = a.log()
    assert ("it made room for others" in log and "it took longer than tls_handshake_timeout" in log
            or "more of late" in log or log.count("TLS with client") == 20)
    assert log.count("TLS with client") <= 21
    for s in slow:
        s.close()
    assert is_well(a, pem)


@pytest.mark.parametrize("threads", [2, 4])
def test_handshakes_and_records_in_threads(server, pem, threads):
    """Clients that shake hands, talk, and go, and some that never end a handshake."""
    a = server(**flags(pem, io_threads=threads))
    hello = client_hello(pem)[:100]
    slow = [socket.create_connection(("127.0.0.1", a.settings["tls_port"])) for _ in range(50)]
    for s in slow:
        s.send(hello)
    failed = []

    def talk(name):
        try:
            for i in range(4):
                with Secure(a, pem) as c:
                    value = name.encode() * (1 if i % 2 else 50_000)
                    assert c("SET", name, value) == b"OK" and c("GET", name) == value
                    for _ in range(20):
                        assert c("STRLEN", name) == len(value)
        except BaseException as e:
            failed.append(e)
    talkers = [threading.Thread(target=talk, args=(f"k{i}",)) for i in range(40)]
    for t in talkers:
        t.start()
    for t in talkers:
        t.join()
    assert failed == []
    assert info(a, "tls_handshakes") == 160 <= info(a, "io_threaded_reads_processed")
    for s in slow:
        s.close()
    assert is_well(a, pem)


def test_renegotiation_is_refused(shared, pem):
    with subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect",
                           f"localhost:{shared.settings['tls_port']}", "-CAfile", pem / "ca.crt"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as client:
        client.stdin.write(b"PING\r\n")
        client.stdin.flush()
        while b"+PONG" not in (line := client.stdout.readline()):
            assert line
        client.stdin.write(b"R\n")
        client.stdin.flush()
        assert b"no renegotiation" in client.communicate(timeout=20)[0]
    assert is_well(shared, pem)


class Raw:
    """A client of TLSv1.3 by OpenSSL itself, which does what no library offers."""

    def __init__(self, port):
        self.lib = ctypes.CDLL(_ssl.__file__)
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        self.socket = socket.create_connection(("127.0.0.1", port))
        context = ctypes.c_void_p(self.lib.SSL_CTX_new(ctypes.c_void_p(
            self.lib.TLS_client_method())))
        self.ssl = ctypes.c_void_p(self.lib.SSL_new(context))
        self.lib.SSL_set_fd(self.ssl, self.socket.fileno())
        assert self.lib.SSL_connect(self.ssl) == 1

    def update(self, asks):
        """Sends a key update, and perhaps asks for one."""
        self.lib.SSL_key_update(self.ssl, asks)
        return self.lib.SSL_do_handshake(self.ssl) == 1

    def __call__(self, command):
        self.lib.SSL_write(self.ssl, command, len(command))
        buffer = ctypes.create_string_buffer(1000)
        n = self.lib.SSL_read(self.ssl, buffer, 1000)
        return buffer.raw[:max(n, 0)]


def test_keys_are_updated_and_not_for_ever(shared, pem):
    c = Raw(shared.settings["tls_port"])
    for asks in (0, 1, 1, 0, 1):
        assert c.update(asks) and c(b"PING\r\n") == b"+PONG\r\n"
    broken, begun = info(shared, "tls_errors"), time.monotonic()
    for _ in range(10_000):
        if not c.update(0):
            break
    until(lambda: info(shared, "tls_errors") == broken + 1)
    assert time.monotonic() - begun < 30
    c.socket.close()
    assert is_well(shared, pem)


def test_an_engine_without_it_loads_no_openssl():
    """A server's HTTP does, by way of Python."""
    program = ("from crdtredis._core import Replica; from crdtredis._engine import Executor, Loop;"
               "Loop(Executor(Replica('a', 1))).listen_tcp('127.0.0.1', 0);"
               "assert 'libssl' not in open('/proc/self/maps').read()")
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)

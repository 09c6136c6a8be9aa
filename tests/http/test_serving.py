"""Connections that stand still, and more of them than there is room for: aiohttp behind our
listener, with little timeouts."""
from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import gc
import os
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc

import pytest
from aiohttp import web

from crdtredis.http import serving
from crdtredis.http.serving import BEGINS, DISPLACES, Sparing, Timeouts, log_refused, serve
from crdtredis.sockets import listening

REQUEST = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
LITTLE = Timeouts(headers=0.3, stall=0.3, idle=0.6)
LONG = 20.0                             # seconds after which a test gives up; none takes as long


class Site:
    """GET /x replies at once, /big with 64 MB; POST /body tells the size of what came; GET /hang
    replies when told to."""

    def __init__(self, limit=8, timeouts=LITTLE, tls=None):
        self.sockets = [listening("127.0.0.1", 0, 512)]
        self.port = self.sockets[0].getsockname()[1]
        self.go = self.loop = self.listener = None
        started = threading.Event()

        async def main():
            self.loop, self.go, self.end = asyncio.get_running_loop(), asyncio.Event(
                    ), asyncio.Event()
            app = web.Application(client_max_size=1 << 30)
            app.add_routes([web.get("/x", self.at_once), web.get("/big", self.big),
                            web.get("/hang", self.hang), web.post("/body", self.body)])
            served = await serve(app, self.sockets, limit, tls, 0.1, timeouts)
            self.listener = served.listener
            started.set()
            await self.end.wait()
            await served.close()

        self.thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
        self.thread.start()
        assert started.wait(LONG)

    async def at_once(self, request):
        return web.Response(text="x")

    async def big(self, request):
        return web.Response(body=b"y" * (64 << 20))

    async def hang(self, request):
        await self.go.wait()
        return web.Response(text="went")

    async def body(self, request):
        return web.Response(text=str(len(await request.read())))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), LONG)

    def until(self, condition):
        end = time.monotonic() + LONG
        while not condition():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)

    def close(self):
        self.loop.call_soon_threadsafe(self.go.set)
        self.loop.call_soon_threadsafe(self.end.set)
        self.thread.join(LONG)
        assert not self.thread.is_alive()
        for s in self.sockets:
            s.close()


@pytest.fixture
def site():
    made = []

    def make(**options):
        made.append(Site(**options))
        return made[-1]
    yield make
    for s in made:
        s.close()


def reply(c: socket.socket) -> bytes:
    """The body of one short reply, b"" when the connection was ended instead."""
    got = b""
    try:
        while b"\r\n\r\n" not in got or not got.partition(b"\r\n\r\n")[2]:
            more = c.recv(1 << 16)
            if not more:
                return b""
            got += more
    except ConnectionResetError:
        return b""
    return got.partition(b"\r\n\r\n")[2]


def is_ended(c: socket.socket) -> bool:
    """Waits for the end."""
    try:
        while c.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("sent",
                         [b"", b"G", REQUEST[:-2], b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Le"])
def test_headers_that_do_not_come(site, sent):
    s = site()
    with s.connect() as c:
        c.sendall(sent)
        assert is_ended(c)
    s.until(lambda: not s.listener.open)
    assert s.listener.late == 1


def test_headers_that_come_byte_by_byte_for_ever(site):
    s = site()
    with s.connect() as c:
        with pytest.raises(OSError):
            for i in range(10_000):
                c.sendall(REQUEST[:24] + b"x" if i == 0 else b"x")
                time.sleep(0.01)
    s.until(lambda: s.listener.late == 1)


def test_headers_of_a_second_request_that_do_not_come(site):
    s = site()
    with s.connect() as c:
        c.sendall(REQUEST)
        assert reply(c) == b"x"
        c.sendall(REQUEST[:10])
        assert is_ended(c)


def test_a_connection_is_kept_between_requests_and_ended_when_idle(site):
    s = site(timeouts=Timeouts(headers=0.1, stall=0.1, idle=1.5))
    with s.connect() as c:
        for _ in range(3):
            c.sendall(REQUEST)
            assert reply(c) == b"x"
            time.sleep(0.4)             # longer than headers and stall
        assert is_ended(c)


def test_a_body_that_stops(site):
    s = site()
    with s.connect() as c:
        c.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        assert is_ended(c)
    s.until(lambda: s.listener.late == 1)


def test_a_body_that_comes_slowly_is_waited_for(site):
    s = site(timeouts=Timeouts(headers=2, stall=2, idle=2))
    with s.connect() as c:
        c.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n")
        for _ in range(30):             # three seconds in all
            c.sendall(b"x")
            time.sleep(0.1)
        assert reply(c) == b"30"


def test_a_reply_that_nobody_reads(site):
    s = site()
    with s.connect() as c:
        c.sendall(REQUEST.replace(b"/x", b"/big"))
        s.until(lambda: s.listener.late == 1)
        s.until(lambda: not s.listener.open)


def test_a_reply_that_is_read_slowly_is_sent_whole(site):
    s = site(timeouts=Timeouts(headers=1, stall=1, idle=1))
    with s.connect() as c:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        c.sendall(REQUEST.replace(b"/x", b"/big"))
        got = 0
        while got < 64 << 20:
            more = len(c.recv(1 << 20))
            assert more, f"ended after {got} bytes"
            got += more
            time.sleep(0.004)


def test_a_handler_that_takes_its_time_is_not_hurried(site):
    s = site(timeouts=Timeouts(headers=0.1, stall=0.1, idle=0.1))
    with s.connect() as c:
        c.sendall(REQUEST.replace(b"/x", b"/hang"))
        time.sleep(0.6)
        s.loop.call_soon_threadsafe(s.go.set)
        assert reply(c) == b"went"


def test_half_sent_requests_keep_nobody_out(site):
    s = site(limit=8, timeouts=Timeouts())
    regular = s.connect()
    regular.sendall(REQUEST)
    assert reply(regular) == b"x"
    half = [s.connect() for _ in range(100)]
    for c in half:
        c.sendall(REQUEST[:20])
    with s.connect() as c:
        c.sendall(REQUEST)
        assert reply(c) == b"x"
    regular.sendall(REQUEST)            # it had asked before: the others went first
    assert reply(regular) == b"x"
    assert len(s.listener.open) <= 8 and s.listener.displaced >= 90
    for c in [regular, *half]:
        c.close()


def test_a_crowd_at_the_door_takes_few_descriptors_beyond_the_limit(site):
    """Whoever makes room for another keeps its descriptor until the loop closes it: the log may
    need the next one."""
    s = site(limit=8)
    there, held, most = threading.Event(), threading.Event(), []
    s.loop.call_soon_threadsafe(lambda: (there.set(), held.wait(LONG)))
    there.wait(LONG)
    crowd = [s.connect() for _ in range(60)]
    for c in crowd:
        c.sendall(REQUEST[:20])
    before, make_room = len(os.listdir("/proc/self/fd")), s.listener._make_room

    def counted():
        most.append(len(os.listdir("/proc/self/fd")) - before)
        return make_room()
    s.listener._make_room = counted
    held.set()
    s.until(lambda: s.listener.displaced == 52 and len(most) == 52)
    assert max(most) <= 8 + 2 * DISPLACES
    for c in crowd:
        c.close()


def test_while_all_are_at_work_a_newcomer_is_closed(site):
    s = site(limit=4, timeouts=Timeouts())
    busy = [s.connect() for _ in range(4)]
    for c in busy:
        c.sendall(REQUEST.replace(b"/x", b"/hang"))
    s.until(lambda: sum(c.request is not None for c in s.listener.open) == 4)
    with s.connect() as c:
        assert is_ended(c)
    assert s.listener.refused == 1
    s.loop.call_soon_threadsafe(s.go.set)
    for c in busy:
        assert reply(c) == b"went"
        c.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    where = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout",
                    where / "key.pem", "-out", where / "cert.pem", "-days", "2",
                    "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    return where


@pytest.fixture
def tls_site(site, certificate):
    def make(**options):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        return site(tls=tls, **options)
    return make


class Tls:
    """A client that says one thing at a time."""

    def __init__(self, s: Site, certificate, at: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", s.port), LONG, source_address=(at, 0))
        self.from_it, self.to_it = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=certificate / "cert.pem")
        self.tls = context.wrap_bio(self.from_it, self.to_it, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self.hello = self.to_it.read()

    def say(self, step):
        """What it makes of that, once it is done."""
        while True:
            try:
                made = step()
            except ssl.SSLWantReadError:
                made = None
            self.socket.sendall(self.to_it.read())
            if made is not None:
                return made
            self.from_it.write(self.socket.recv(1 << 16))

    def shake(self) -> None:
        self.say(lambda: self.tls.do_handshake() or True)

    def ask(self) -> bytes:
        self.say(lambda: self.tls.write(REQUEST))
        got = b""
        while b"\r\n\r\nx" not in got:
            got += self.say(lambda: self.tls.read(1000))
        return got

    def close(self) -> None:
        self.socket.close()


def shaking(s: Site) -> int:
    return sum(c.begun for c in list(s.listener.open))


def in_loop(s: Site) -> None:
    """Twice: what is ready has had its turn."""
    for _ in "12":
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), s.loop).result(LONG)


def test_handshakes_that_do_not_come_are_counted(tls_site, certificate):
    s = tls_site(limit=4, timeouts=Timeouts(headers=1))
    silent = [s.connect() for _ in range(20)]
    s.until(lambda: s.listener.displaced >= 16)
    client = ssl.create_default_context(cafile=certificate / "cert.pem")
    with s.connect() as raw, client.wrap_socket(raw, server_hostname="localhost") as c:
        c.sendall(REQUEST)
        assert reply(c) == b"x"
    for c in silent:
        assert is_ended(c)              # the last ones after their time
        c.close()
    s.until(lambda: not s.listener.open)


def test_a_handshake_that_does_not_come_takes_little_memory(tls_site, certificate):
    s = tls_site(limit=64, timeouts=Timeouts(headers=LONG))
    for hello, most in (False, 8 << 10), (True, 128 << 10):
        clients = [Tls(s, certificate) for _ in range(50)]
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            if hello:
                for c in clients:
                    c.socket.sendall(c.hello)
                s.until(lambda: shaking(s) == 50)
            s.until(lambda: len(s.listener.open) == 50)
            in_loop(s)
            assert tracemalloc.get_traced_memory()[0] - before < 50 * most
        finally:
            tracemalloc.stop()
        for c in clients:
            c.close()
        s.until(lambda: not s.listener.open)


@pytest.mark.parametrize("how", ["late", "gone", "displaced", "garbage", "silent", "whole"])
def test_nothing_of_a_handshake_that_has_ended_waits_for_the_collector(tls_site, certificate, how):
    s = tls_site(limit=64, timeouts=Timeouts(headers=1 if how == "late" else LONG))

    def held():
        return [x for x in gc.get_objects()
                if isinstance(x, (asyncio.sslproto.SSLProtocol, ssl.SSLObject, web.RequestHandler))]
    gc.collect()
    gc.disable()
    try:
        before = len(held())
        clients = [Tls(s, certificate) for _ in range(200 if how == "displaced" else 20)]
        for c in clients:
            if how == "whole":
                c.socket.sendall(c.hello)
                c.shake()
                assert c.ask()
            elif how != "silent":
                c.socket.sendall(c.hello + b"no record of TLS" * (how == "garbage"))
        if how in ("late", "garbage", "displaced"):
            if how == "late":
                s.until(lambda: s.listener.late == 20)
            if how == "displaced":
                s.until(lambda: s.listener.displaced >= 136)
                for c in clients:
                    c.close()
            s.until(lambda: not s.listener.open)
        for c in clients:
            c.close()
        s.until(lambda: not s.listener.open)
        in_loop(s)
        del c, clients
        assert len(held()) == before
    finally:
        gc.enable()


def test_a_handshake_begins_when_its_first_message_is_whole(tls_site, certificate):
    s = tls_site(timeouts=Timeouts(headers=LONG))
    c = Tls(s, certificate)
    for at in range(0, len(c.hello) - 1, 100):
        c.socket.sendall(c.hello[at:min(at + 100, len(c.hello) - 1)])
        s.until(lambda: s.listener.open)
        in_loop(s)
        assert not shaking(s) and s.listener.silent
    c.socket.sendall(c.hello[-1:])
    c.shake()
    assert c.ask()
    c.close()


@pytest.mark.parametrize("sent", [b"G", REQUEST, b"\x16\x03\x01\xff\xff" + b"x" * (1 << 16),
                                  b"\x16\x03\x01\0\0", b"\x16\x03\x01\0\4abcd"])
def test_what_begins_no_handshake(tls_site, sent):
    """Also where the other end says no more: asyncio finds out what it is."""
    s = tls_site(timeouts=Timeouts(headers=LONG))
    with s.connect() as c:
        with contextlib.suppress(OSError):      # it may be over by then
            c.sendall(sent)
            c.shutdown(socket.SHUT_WR)
        assert is_ended(c)
    s.until(lambda: not s.listener.open)


def test_handshakes_begin_for_each_address_in_turn(tls_site, certificate):
    """Who comes behind a crowd of one address waits for few of them."""
    s = tls_site(limit=64, timeouts=Timeouts(headers=LONG))
    there, held, begun = threading.Event(), threading.Event(), []
    connect = s.listener._connect

    def noted(c, x):
        begun.append(c.at)
        return connect(c, x)
    s.listener._connect = noted
    s.loop.call_soon_threadsafe(lambda: (there.set(), held.wait(LONG)))
    there.wait(LONG)
    crowd = [Tls(s, certificate, "127.0.0.2") for _ in range(50)]
    honest = Tls(s, certificate)
    for c in (*crowd, honest):
        c.socket.sendall(c.hello)
    held.set()
    honest.shake()
    assert honest.ask()
    s.until(lambda: len(begun) == 51)
    # it was accepted in the fourth turn, of 16 each
    assert begun.index("127.0.0.1") <= 5 * BEGINS
    for c in (*crowd, honest):
        c.close()


def test_many_handshakes_under_way(tls_site, certificate, monkeypatch):
    """The earliest of the address that has most of them makes room."""
    monkeypatch.setattr(serving, "HANDSHAKES", 4)
    s = tls_site(limit=64, timeouts=Timeouts(headers=LONG))
    honest = Tls(s, certificate)
    honest.socket.sendall(honest.hello)
    s.until(lambda: shaking(s) == 1)
    crowd = []
    for i in range(20):
        crowd.append(Tls(s, certificate, "127.0.0.2"))
        crowd[-1].socket.sendall(crowd[-1].hello)
        s.until(lambda: s.listener.displaced == max(i - 2, 0))
        assert len(s.listener.shaking) <= 4
    honest.shake()
    assert honest.ask()
    for c in (*crowd, honest):
        c.close()


@pytest.mark.parametrize("squats", ["shaking", "shaken"])
def test_squatters_keep_nobody_out(tls_site, certificate, squats):
    s = tls_site(limit=16, timeouts=Timeouts(headers=LONG))
    first = Tls(s, certificate)         # through its handshake, and does not ask yet
    first.socket.sendall(first.hello)
    first.shake()
    crowd = []
    for _ in range(60):
        crowd.append(Tls(s, certificate, "127.0.0.1" if squats == "shaking" else "127.0.0.2"))
        crowd[-1].socket.sendall(crowd[-1].hello)
        if squats == "shaken":
            crowd[-1].shake()
    second = Tls(s, certificate)
    second.socket.sendall(second.hello)
    second.shake()
    assert first.ask() and second.ask()
    assert s.listener.displaced >= 40
    for c in (*crowd, first, second):
        c.close()


def test_a_thousand_silent_connections_at_https(server, certificate):
    """Others are replied to meanwhile, and memory stays where it is."""
    s = server(enable_tls="yes", tls_cert_file=certificate / "cert.pem",
               tls_key_file=certificate / "key.pem")
    context = ssl.create_default_context(cafile=certificate / "cert.pem")

    def health() -> float:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", s.http_port), LONG) as raw, \
                context.wrap_socket(raw, server_hostname="localhost") as c:
            c.sendall(REQUEST.replace(b"/x", b"/health"))
            assert b'"ok"' in reply(c)
        return time.monotonic() - begun

    def rss() -> int:
        with open(f"/proc/{s.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    health()
    before, silent, took = rss(), [], []
    for i in range(1000):
        silent.append(socket.create_connection(("127.0.0.1", s.http_port), LONG))
        if i % 50 == 49:
            took.append(health())
    assert sorted(took)[len(took) // 2] < 1
    assert rss() - before < 8 << 20
    for c in silent:
        c.close()


def test_out_of_descriptors_is_no_end(site):
    """accept() fails for a while: what waits in the backlog is served afterwards."""
    s = site()

    class Exhausted:
        def __init__(self, real, times):
            self.real, self.times = real, times

        def accept(self):
            self.times -= 1
            if self.times >= 0:
                raise OSError(24, "Too many open files")
            return self.real.accept()

        def fileno(self):
            return self.real.fileno()

    def exhaust():
        s.listener.stop()
        s.listener.sockets = [Exhausted(s.sockets[0], 2)]
        s.loop.add_reader(s.listener.sockets[0], s.listener._accept, s.listener.sockets[0])

    s.loop.call_soon_threadsafe(exhaust)
    with s.connect() as c:
        c.sendall(REQUEST)
        assert reply(c) == b"x"


def test_http_cannot_use_up_the_descriptors_of_redis_clients(server):
    """A server with few descriptors and a thousand half-sent requests: redis clients and operators
    come in all the same."""
    s = server(http_max_connections="64")
    half = [socket.create_connection(("127.0.0.1", s.http_port), LONG) for _ in range(1000)]
    for c in half:
        try:
            c.sendall(REQUEST[:20])
        except OSError:
            pass                        # it has been displaced already
    clients = [s.connect() for _ in range(50)]
    assert all(c("PING") == b"PONG" for c in clients)
    with socket.create_connection(("127.0.0.1", s.http_port), LONG) as c:
        c.sendall(REQUEST.replace(b"/x", b"/health").replace(b"Host: a", b"Host: localhost"))
        assert b'"ok"' in reply(c)
    assert len(os.listdir(f"/proc/{s.pid}/fd")) < 64 + 50 + 64
    for c in (*half, *clients):
        c.close()



def test_who_is_refused_again_and_again_is_told_of_once_a_minute(caplog):
    now = 0.0
    tell = Sparing(lambda: now)
    for i in range(100):
        tell("10.0.0.1", "it is late"), tell("10.0.0.2", "it is late"), tell(f"10.1.0.{i}", "no")
    assert len(caplog.messages) == Sparing.MOST
    assert caplog.messages[:2] == [f"10.0.0.{i} is refused: it is late" for i in (1, 2)]
    caplog.clear()
    now = 60.0
    tell("10.0.0.1", "it is late")
    assert caplog.messages == [f"{300 - Sparing.MOST} more requests were refused so",
                               "10.0.0.1 is refused: it is late"]


@pytest.mark.parametrize("data, said", [
    (b"GET /x HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"a" * 9000), "Got more than 8190 bytes"),
    (b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 9000), "Got more than 8190 bytes"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\n%b\r\n" % (b"X: 1\r\n" * 300), "Too many headers"),
    (b"no request at all\r\n\r\n", ""),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
     "Can not decode content-encoding"),
    (b"GET /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "")])
def test_a_malformed_request_is_a_line_in_the_log_at_most(caplog, data, said):
    log_refused.told.clear()
    site = Site()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", site.port), timeout=LONG) as s:
            s.sendall(data)
            while s.recv(1000):
                pass
    site.close()
    assert len(caplog.records) <= 1 and not any(r.exc_info for r in caplog.records)
    assert said in caplog.text and "aaa" not in caplog.text

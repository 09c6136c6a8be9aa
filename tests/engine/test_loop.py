"""The loop over real sockets: how requests arrive, how replies leave, who is closed when, and that
nobody disturbs others."""
from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import struct
import sys
import threading
import time

import pytest

from crdtredis._core import BlocksProbe, SegmentWriter
from tests.engine.conftest import encode, resident, tokens, with_threads

PONG, OK = b"+PONG\r\n", b"+OK\r\n"


def open_files():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def watched() -> int:
    """Descriptors on which the loops of this process wait."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" in os.readlink(f"/proc/self/fd/{fd}"):
                with open(f"/proc/self/fdinfo/{fd}") as f:
                    found += f.read().count("tfd:")
        except FileNotFoundError:
            continue
    return found


def test_no_event_comes_of_a_connection_that_another_process_has_too(served):
    """As a child does that sends a snapshot: for the system it is not closed then."""
    s = served()
    s.connect().send("PING").expect(PONG)
    row, = s.on_engine(s.loop.clients)
    held = os.dup(s.on_engine(lambda: s.loop.session_of(row["id"])).fd)
    before = watched()
    s.on_engine(lambda: s.loop.kill_client(row["id"]))
    s.wait(lambda: not s.loop.clients())
    assert watched() == before - 1
    os.close(held)


@with_threads
def test_one_request_in_single_bytes(served):
    c = served().connect()
    for byte in encode("SET k value") + encode("GET k"):
        c.raw(bytes([byte]))
    c.expect(OK + b"$5\r\nvalue\r\n")


@with_threads
def test_commands_run_in_the_order_they_came_in(served):
    """Many clients send while the server is busy: all are found ready at once."""
    s = served()
    busy, clients = s.connect(), [s.connect() for _ in range(50)]
    for c in clients:
        c.send("PING").expect(PONG)
    busy.send("DEBUG SLEEP 0.3")
    time.sleep(0.1)
    for i, c in enumerate(clients):
        c.send(f"RPUSH l {i}")
    busy.expect(OK)
    for i, c in enumerate(clients):
        c.expect(b":%d\r\n" % (i + 1))


@with_threads
def test_pipelines_of_every_size(served):
    s = served()
    for n in (1, 2, 999, 1000, 1001, 5000, 100_000):
        c = s.connect()
        sender = threading.Thread(target=c.raw, args=(encode("PING") * n,))
        sender.start()
        c.expect(PONG * n)
        sender.join()


def test_a_pipeline_sent_before_any_reply_is_read(served):
    c = served().connect()
    n = 300
    c.raw(encode("TEST.BIG 100000") * n + encode("PING"))
    time.sleep(0.2)
    one = b"$100000\r\n" + b"x" * 100_000 + b"\r\n"
    for _ in range(n):
        c.expect(one)
    c.expect(PONG)


def test_inline_commands(served):
    c = served().connect()
    c.raw(b"PING\r\n\r\nPING\nset k 'a b'\r\nget k\r\n")
    c.expect(PONG * 2 + OK + b"$3\r\na b\r\n")


@pytest.mark.parametrize("size", [1, 16 << 10, (64 << 10) - 20, 64 << 10, 1 << 20, 40 << 20])
def test_values_of_every_size(served, size):
    c = served().connect()
    value = os.urandom(min(size, 1 << 16)) * max(size >> 16, 1)
    sender = threading.Thread(target=c.raw, args=(encode([b"SET", b"k", value]) + encode("GET k"),))
    sender.start()
    c.expect(OK + b"$%d\r\n" % len(value))
    assert c.read(len(value)) == value
    c.expect(b"\r\n")
    sender.join()


@with_threads
def test_protocol_errors_answer_what_came_before_and_close(served):
    s = served()
    other = s.connect()
    c = s.connect()
    c.raw(encode("PING") + b"*1\r\n$x\r\n" + encode("PING"))
    assert c.closed() == PONG + b"-ERR Protocol error: invalid bulk length\r\n"
    other.send("PING").expect(PONG)


def test_strangers_are_held_short(served):
    s = served()
    s.executor.requirepass = b"secret"
    c = s.connect()
    c.send("PING").expect(b"-NOAUTH Authentication required.\r\n")
    c.raw(b"*11\r\n")
    assert c.closed() == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    c = s.connect()
    c.send("AUTH secret",
           [b"ECHO", b"x" * 20_000]).expect(OK + b"$20000\r\n" + b"x" * 20_000 + b"\r\n")


def test_strangers_who_read_no_replies_are_closed(served):
    s = served()
    s.executor.requirepass = b"secret"
    c, other = s.connect(), s.connect()
    other.send("AUTH secret").expect(OK)
    c.send(*["PING"] * 1000).expect(b"-NOAUTH Authentication required.\r\n" * 1000)
    with contextlib.suppress(OSError):
        for _ in range(100):                # more than the sockets' buffers take
            c.raw(encode("PING") * 10_000)
    assert s.loop.stats()["closed_output"] == 1
    s.wait(lambda: s.loop.connected == 1)
    other.send("TEST.BIG 3000000").expect(b"$3000000\r\n" + b"x" * 3_000_000 + b"\r\n")


@with_threads
def test_strangers_do_not_hold_up_who_is_logged_in(served):
    """Wrong passwords are many in each of their reads; they have their turns."""
    s = served()
    s.executor.requirepass = b"secret"
    other, strangers = s.connect(), [s.connect() for _ in range(20)]
    other.send("AUTH secret").expect(OK)

    def crowd():                            # all is there when the next iteration begins
        for c in strangers:
            c.send(*["AUTH wrong"] * 500)
        other.send("ACL LOG 1")

    s.on_engine(crowd)
    other.expect(b"*1\r\n*20\r\n$5\r\ncount\r\n:")
    refused = b"".join(iter(lambda: other.read(1), b"\r"))
    assert 0 < int(refused) <= 20 * 16
    wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    for c in strangers:
        c.expect(wrong * 500)
    strangers[0].send("AUTH secret", *["PING"] * 100).expect(OK + PONG * 100)


def test_strangers_have_their_turns_one_after_the_other(served):
    """However many of them have however much to say, who has come last is heard."""
    s = served()
    s.executor.requirepass = b"secret"
    crowd, last = [s.connect() for _ in range(200)], s.connect()
    pings = encode("PING") * 2000

    def come():
        for c in crowd:
            c.raw(pings)
        last.send("AUTH secret", "INFO errorstats")

    s.on_engine(come)
    last.expect(OK)
    told = b""
    while not (found := re.search(rb"NOAUTH:count=(\d+)\r", told)):
        told += last.read(1)
    assert 0 < int(found[1]) <= 200 * 16
    for c in crowd:
        c.expect(b"-NOAUTH Authentication required.\r\n" * 2000)


def test_who_tries_passwords_holds_up_no_first_login(served):
    """But only others who do: each has one wrong one for nothing. So has who is logged in."""
    s = served()
    s.executor.requirepass = b"secret"
    wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
    crowd, last = [s.connect() for _ in range(100)], s.connect()
    for i, c in enumerate(crowd):
        c.send(*["AUTH secret"] * (i % 2), "AUTH wrong").expect(OK * (i % 2) + wrong)

    def come():
        for c in crowd:
            c.send(*["AUTH wrong"] * 300)
        last.send("AUTH secret", "ACL LOG 1")

    s.on_engine(come)
    last.expect(OK + b"*1\r\n*20\r\n$5\r\ncount\r\n:")
    refused = int(b"".join(iter(lambda: last.read(1), b"\r")))
    assert 100 < refused <= 100 + 50 + 50 * 16      # what one iteration may bring
    for c in crowd:
        c.expect(wrong * 300)
    crowd[1].send("PING", *["PING"] * 100).expect(PONG * 101)


def test_what_users_are_refused_is_in_the_log_when_somebody_looks(served):
    """It is told then, ten times a second, and before they go, not with each command."""
    s = served()
    admin, user = s.connect(), s.connect()
    admin.send("ACL SETUSER u on >u ~k +get +hello +client|setname").expect(OK)
    user.send("AUTH u u", "CLIENT SETNAME x").expect(OK * 2)
    command = b"-NOPERM User u has no permissions to run the 'set' command\r\n"
    key = b"-NOPERM No permissions to access a key\r\n"

    def rows():
        """[(count, object, user's name, the client's name, its command)], the latest first."""
        found = s.on_engine(lambda: list(s.executor.users.log))
        return [(e["count"], e["key"][2], e["key"][3], *re.findall(
            r" name=(\S*) .*cmd=(\S+)", e["client"])) for e in found]

    user.send(*["SET k v"] * 500).expect(command * 500)
    user.send("GET a", "GET b", "SET k v", "GET k").expect(key * 2 + command + b"$-1\r\n")
    said = [(501, b"set", b"u", ("x", "set")), (1, b"b", b"u", ("x", "get")),
            (1, b"a", b"u", ("x", "get"))]
    assert rows() == said
    assert s.executor.users.refused == dict(auth=0, cmd=501, key=2, channel=0, tls_cert=0)
    # of very many the latest
    user.send(*[f"GET a{i}" for i in range(1000)]).expect(key * 1000)
    assert [r[1] for r in rows()] == [b"a%d" % i for i in range(999, 871, -1)]
    assert s.executor.users.refused["key"] == 1002
    admin.send("ACL LOG RESET").expect(OK)
    user.send("GET c", "GET d").expect(key * 2)
    user.sock.close()
    s.wait(lambda: s.loop.connected == 1)
    assert rows() == [(1, b"d", b"u", ("x", "get")), (1, b"c", b"u", ("x", "get"))]


HTTP = b"%b / HTTP/1.1\r\nHost: localhost:6379\r\nContent-Type: text/plain\r\n\r\nSET k evil\r\n"


@pytest.mark.parametrize("request_", [
    HTTP % b"POST", HTTP % b"GET", HTTP % b"PUT", HTTP % b"BREW", HTTP.lower() % b"post",
    b"PING\r\n" + HTTP % b"POST",
    b"host: x\r\nSET k evil\r\n", b"POST\r\nSET k evil\r\n",
    encode("PING") + encode("pOsT /") + encode("SET k evil"),
    encode("SET j 1") * 20 + encode("Host: x") + encode("SET k evil") * 20,
    encode("MULTI") + encode("PING") + encode("POST /") + encode("SET k evil") + encode("EXEC"),
    encode("CLIENT PAUSE 100000 WRITE") + encode("POST /") + encode("SET k evil"),
], ids=lambda r: r[:24].decode().split("\r\n")[0])
@pytest.mark.parametrize("password", [None, b"secret"])
def test_what_a_browser_sends_is_not_run(served, request_, password, caplog):
    s = served()
    s.executor.requirepass = password
    c, d = s.connect(), s.connect()
    if password and request_[:1] == b"*":
        c.send("AUTH secret").expect(OK)
    c.raw(request_)
    assert b"evil" not in c.closed()
    if password:
        d.send("AUTH secret").expect(OK)
    d.send("GET k").expect(b"$-1\r\n")
    assert sum("SECURITY ATTACK" in r.getMessage() for r in caplog.records) == 1


def test_browsers_are_told_of_once_a_minute(served, caplog):
    s = served()
    for _ in range(50):
        assert s.connect().raw(HTTP % b"POST").closed() == b""
    assert len(caplog.records) == 1 and "127.0.0.1:" in caplog.text


def test_words_that_only_begin_like_http(served):
    c = served().connect()
    for word in ("POSTS", "HOST", "Host:x"):
        c.send(word).expect(b"-ERR unknown command '%b', with args beginning with: \r\n" %
                            word.encode())
    c.send("PING").expect(PONG)


@with_threads
def test_quit_answers_then_closes_and_ignores_the_rest(served):
    c = served().connect()
    c.send("PING", "QUIT", "PING")
    assert c.closed() == PONG + OK


@with_threads
def test_half_closed_clients_get_their_replies(served):
    s = served()
    for n in (1, 5000):
        c = s.connect()
        c.raw(encode("PING") * n)
        c.sock.shutdown(socket.SHUT_WR)
        assert c.closed() == PONG * n
    c = s.connect()
    c.send("TEST.BIG 30000000")
    c.sock.shutdown(socket.SHUT_WR)
    time.sleep(0.2)
    assert len(c.closed()) == 30_000_000 + 13
    s.wait(lambda: s.loop.connected == 0)


@with_threads
def test_slow_readers_wait_alone(served):
    s = served()
    slow, quick = s.connect(), s.connect()
    for _ in range(20):
        slow.send("TEST.BIG 1000000")
    for _ in range(100):
        quick.send("PING").expect(PONG)
    s.wait(lambda: s.executor.command_stats()["test.big"][0] == 20)
    rows = s.on_engine(s.loop.clients)
    assert rows[0]["omem"] > 5_000_000 and rows[0]["events"] == "rw" and rows[1]["omem"] == 0
    one = b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n"
    for _ in range(20):
        slow.expect(one)
    slow.send("PING").expect(PONG)
    assert s.on_engine(s.loop.clients)[0]["omem"] == 0


@with_threads
def test_small_replies_to_a_slow_reader_are_put_together(served):
    s = served()
    slow, quick = s.connect(), s.connect()
    slow.send("TEST.BIG 8000000")
    for i in range(2000):
        slow.raw(encode("PING"))
        if i % 10 == 0:
            quick.send("PING").expect(PONG)
    s.wait(lambda: s.executor.command_stats().get("ping", (0,))[0] == 2200)
    assert s.on_engine(s.loop.clients)[0]["oll"] < 20
    slow.expect(b"$8000000\r\n" + b"x" * 8_000_000 + b"\r\n" + PONG * 2000)


@with_threads
def test_hard_output_limit(served):
    s = served(output_hard=5_000_000)
    slow, quick = s.connect(), s.connect()
    # in one piece: the server may close before it has run them all
    slow.send(*["TEST.BIG 1000000"] * 30)
    s.wait(lambda: s.loop.stats()["closed_output"] == 1)
    assert len(slow.closed()) < 30_000_000
    quick.send("PING").expect(PONG)


@with_threads
@pytest.mark.parametrize("n", [1, 20])
def test_the_hard_limit_counts_all_that_an_iteration_made(served, n):
    """The socket would take 150 KB at once: what counts is what was made, as in Redis."""
    s = served(output_hard=100_000)
    c, other = s.connect(), s.connect()
    c.send(f"TEST.BIG {90_000 // n}").expect(b"$%d\r\n%b\r\n" % (90_000 // n, b"x" * (90_000 // n)))
    c.send(*[f"TEST.BIG {150_000 // n}"] * n)
    assert c.closed() == b""
    other.send("PING").expect(PONG)
    assert s.loop.stats()["closed_output"] == 1


BIG = ["GET big", "MGET" + " big" * 5, "MGET" + " small" * 50, "TEST.BIG 5000000"]


@with_threads
@pytest.mark.parametrize("much", BIG)
def test_replies_that_nobody_wants_are_under_no_limit(served, much):
    """CLIENT REPLY OFF and SKIP: what was said before stays whole, and what comes after is
    heard."""
    s = served(output_hard=1_000_000)
    c, other = s.connect(), s.connect()
    other.send(f"SET big {'x' * 900_000}", f"SET small {'x' * 60_000}",
               "RPUSH l " + "x" * 2_000_000).expect(OK + OK + b":1\r\n")
    before = b"$6\r\nbefore\r\n"
    c.send("ECHO before", "CLIENT REPLY SKIP", much, "PING").expect(before + PONG)
    c.send("ECHO before", "CLIENT REPLY OFF", much, much, "CLIENT REPLY ON",
           "PING").expect(before + OK + PONG)
    c.send("CLIENT REPLY OFF", "MULTI", much, much, "EXEC", "CLIENT REPLY ON").expect(OK)
    c.send("CLIENT REPLY OFF", "BLPOP l 0", "BLPOP l 0", "CLIENT REPLY ON")     # the second waits
    other.send("RPUSH l " + "x" * 2_000_000).expect(b":1\r\n")
    c.expect(OK)
    assert s.loop.stats()["closed_output"] == 0


@pytest.mark.parametrize("much", BIG[1:])
def test_too_much_closes_whatever_was_dropped_after_it(served, much):
    s = served(output_hard=1_000_000)
    c, other = s.connect(), s.connect()
    other.send(f"SET big {'x' * 900_000}", f"SET small {'x' * 60_000}").expect(OK + OK)
    c.send("MULTI", much, "CLIENT REPLY OFF", "GET small", "EXEC")
    assert len(c.closed()) < 100
    assert s.loop.stats()["closed_output"] == 1


@with_threads
def test_soft_output_limit(served):
    s = served(output_soft=1_000_000, output_soft_seconds=1, hz=100)
    slow = s.connect()
    begun = time.monotonic()
    slow.send(*["TEST.BIG 1000000"] * 20)
    s.wait(lambda: s.loop.connected == 0)
    assert s.loop.stats()["closed_output"] == 1 and time.monotonic() - begun > 1


def holds(client, what):
    """Has this client hold about 2 MB, of this kind."""
    if what == "replies":
        client.send(*["TEST.BIG 100000"] * 100)             # a part is in the system's buffers
    elif what == "an unfinished command":
        client.raw(b"*2\r\n$4\r\nECHO\r\n$3000000\r\n" + b"x" * 2_000_000)
    elif what == "a transaction":
        client.send("MULTI", *[f"SET k {'x' * 100_000}"] * 20)
    elif what == "subscriptions":
        client.send(*(f"SUBSCRIBE {i}" for i in range(30_000)))
    else:
        client.send(*(f"WATCH {i}" for i in range(100_000)))


HELD = ["replies", "an unfinished command", "a transaction", "subscriptions", "watched keys"]


@with_threads
@pytest.mark.parametrize("what", HELD)
def test_clients_that_take_most_go_first(served, what):
    s = served(clients_most=1_500_000)
    small = [s.connect() for _ in range(3)]
    for c in small:
        c.send("MULTI", f"SET k {'x' * 100_000}").expect(OK + b"+QUEUED\r\n")
    with contextlib.suppress(OSError):
        holds(s.connect(), what)
    s.wait(lambda: s.loop.stats()["evicted"] == 1)
    assert s.loop.connected == 3
    for c in small:
        c.send("EXEC").expect(b"*1\r\n" + OK)


@with_threads
def test_who_is_exempt_is_not_evicted_and_does_not_count(served):
    s = served(clients_most=1_500_000)
    exempt, small = s.connect(), s.connect()
    exempt.send("CLIENT NO-EVICT ON").expect(OK)
    holds(exempt, "a transaction")
    exempt.expect(OK + b"+QUEUED\r\n" * 20)
    small.send("PING").expect(PONG)
    assert s.loop.stats()["evicted"] == 0
    exempt.send("DISCARD", "CLIENT NO-EVICT OFF").expect(OK + OK)
    holds(exempt, "a transaction")
    s.wait(lambda: s.loop.connected == 1)
    assert s.loop.stats()["evicted"] == 1


def test_a_limit_that_comes_later_holds_for_those_that_are_there(served):
    s = served()
    large, small = s.connect(), s.connect()
    holds(large, "a transaction")
    large.expect(OK + b"+QUEUED\r\n" * 20)
    s.loop.call_soon(lambda: setattr(s.loop, "clients_most", 1_500_000))
    s.wait(lambda: s.loop.stats()["evicted"] == 1)
    small.send("PING").expect(PONG)


@with_threads
@pytest.mark.parametrize("start", [b"*1000\r\n$4\r\nMGET\r\n", b"*1\r\n$5\r\nMULTI\r\n"])
def test_query_buffer_limit(served, start):
    s = served(query_limit=5_000_000)
    c = s.connect()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        c.raw(start)
        for _ in range(30):
            c.raw(b"$1000000\r\n" + b"x" * 1_000_000 + b"\r\n" if b"MGET" in start
                  else encode([b"ECHO", b"x" * 1_000_000]))
            time.sleep(0.005)
    assert s.loop.stats()["closed_query"] == 1


@with_threads
def test_max_clients(served):
    s = served(max_clients=3)
    clients = [s.connect() for _ in range(3)]
    for c in clients:
        c.send("PING").expect(PONG)
    assert s.connect().closed() == b"-ERR max number of clients reached\r\n"
    clients[0].sock.close()
    s.wait(lambda: s.loop.connected == 2)
    s.connect().send("PING").expect(PONG)
    assert s.loop.stats()["rejected"] == 1


@with_threads
def test_idle_clients_are_closed_and_busy_ones_are_not(served):
    s = served(timeout=2, hz=100)
    idle, busy, waiting = s.connect(), s.connect(), s.connect()
    waiting.send("TEST.DEFER")
    s.wait(lambda: s.loop.stats()["blocked"] == 1 and s.loop.connected == 3)
    while s.loop.connected == 3:
        busy.send("PING").expect(PONG)
        time.sleep(0.02)
    assert idle.closed() == b""
    assert s.loop.stats()["timed_out"] == 1 and s.loop.connected == 2


@with_threads
def test_burst_of_connections(served):
    s = served()
    before = open_files()
    clients = [s.connect() for _ in range(1000)]
    for c in clients:
        c.send("PING")
    for c in clients:
        c.expect(PONG)
    assert s.loop.connected == 1000
    for c in clients:
        c.sock.close()
    s.sockets.clear()
    s.wait(lambda: s.loop.connected == 0)
    assert open_files() == before


@with_threads
def test_resets_in_the_middle_leave_no_descriptor(served):
    s = served()
    before = open_files()
    for i in range(200):
        with socket.create_connection(("127.0.0.1", s.port)) as c:
            c.sendall(encode("SET k v") * 10 + b"*3\r\n$3\r\nSET"[:i % 12])
            if i % 3 == 0:
                c.sendall(encode("TEST.BIG 5000000"))
            if i % 2:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.wait(lambda: s.loop.connected == 0)
    assert open_files() == before
    s.connect().send("GET k").expect(b"$1\r\nv\r\n")


@with_threads
def test_unix_socket(served, tmp_path):
    s = served()
    path = str(tmp_path / "s")
    open(path, "w").close()
    s.on_engine(lambda: s.loop.listen_unix(path, 0o700))
    assert os.stat(path).st_mode & 0o777 == 0o700
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    c = s.adopt(sock)
    c.send("PING").expect(PONG)
    (row,) = s.on_engine(s.loop.clients)
    assert row["addr"] == row["laddr"] == f"{path[:60]}:0" and "U" in row["flags"]
    assert path[:60] in s.loop.addresses()
    c.send("TEST.BIG 5000000").expect(b"$5000000\r\n" + b"x" * 5_000_000 + b"\r\n")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_ipv6(served):
    s = served()
    port = s.on_engine(lambda: s.loop.listen_tcp("::1", 0))
    c = s.adopt(socket.create_connection(("::1", port)))
    c.send("CLIENT INFO")
    assert b" addr=[::1]:" in c.sock.recv(4096)


def test_accepted_sockets_inherit_nodelay_and_keepalive(served):
    s = served()
    s.on_engine(lambda: setattr(s.loop, "tcp_keepalive", 120))
    s.connect().send("PING").expect(PONG)
    (row,) = s.on_engine(s.loop.clients)
    with socket.socket(fileno=os.dup(row["fd"])) as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 120


# ---- CLIENT --------------------------------------------------------------------------------------

@with_threads
def test_client_list_and_kill(served):
    s = served()
    a, b, c = (s.connect() for _ in range(3))
    a.send("CLIENT SETNAME first").expect(OK)
    a.send("CLIENT LIST")
    size = int(a.sock.makefile("rb", 0).readline()[1:])
    text = a.read(size + 2).decode()
    assert (text.count("\n") == 4 - 1 + text.count("\r\n") - 0
            and text.startswith("id=1 addr=127.0.0.1:"))
    fields = dict(f.split("=", 1) for f in text.splitlines()[0].split(" "))
    assert (fields["name"] == "first" and fields["cmd"] == "client|list"
            and fields["laddr"] == f"127.0.0.1:{s.port}")
    port = b.sock.getsockname()[1]
    a.send(f"CLIENT KILL 127.0.0.1:{port}").expect(OK)
    assert b.closed() == b""
    a.send(f"CLIENT KILL 127.0.0.1:{port}").expect(b"-ERR No such client\r\n")
    a.send("CLIENT KILL ID 3 TYPE normal").expect(b":1\r\n")
    assert c.closed() == b""
    a.send("PING").expect(PONG)
    a.send("CLIENT KILL SKIPME no ID 1", "PING")
    assert a.closed() == b":1\r\n"


def test_filters_of_clients(served):
    """Those of Redis and of Valkey, and what they refuse."""
    s = served()
    a, b, c, d = (s.connect() for _ in range(4))
    b.send("CLIENT CAPA redirect x", "CLIENT SETNAME b", "CLIENT SETINFO lib-name redis-py",
           "CLIENT SETINFO lib-ver 7").expect(OK * 4)
    c.send("SELECT 3", "CLIENT NO-EVICT on").expect(OK * 2)
    d.send("SUBSCRIBE x").expect(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n")
    ports = [x.sock.getsockname()[1] for x in (a, b, c, d)]

    def listed(filters: str) -> str:
        a.send(f"CLIENT LIST {filters}".rstrip())
        head = a.sock.makefile("rb", 0).readline()
        if head[:1] == b"-":
            return head.decode().strip()
        rows = a.read(int(head[1:]) + 2).decode().splitlines()
        return " ".join(row.split("=")[1].split(" ")[0] for row in rows if row)

    for filters, ids in [
            ("", "1 2 3 4"), ("ID 3 1 3 99", "3 1 3"), ("ID 1 2 3 TYPE normal NAME b", "2"),
            ("ID 1 ID 2", "1 2"), ("NOT-ID 1 3", "2 4"), ("ID 1 2 NOT-ID 2", "1"),
            ("TYPE pubsub", "4"), ("NOT-TYPE pubsub", "1 2 3"), ("TYPE primary", ""),
            ("TYPE pubsub TYPE normal", "1 2 3"), ("NAME b", "2"), ("NOT-NAME b", "1 3 4"),
            ("LIB-NAME redis-py", "2"), ("NOT-LIB-NAME redis-py", "1 3 4"), ("LIB-VER 7", "2"),
            ("NOT-LIB-VER 7 DB 0", "1 4"), ("DB 3", "3"), ("NOT-DB 3", "1 2 4"), ("FLAGS P", "4"),
            ("FLAGS e NAME none", ""), ("FLAGS e", "3"), ("NOT-FLAGS N", "3 4"), ("FLAGS eP", ""),
            (f"ADDR 127.0.0.1:{ports[1]}", "2"), (f"NOT-ADDR 127.0.0.1:{ports[1]}", "1 3 4"),
            (f"LADDR 127.0.0.1:{s.port}", "1 2 3 4"), ("IP 127.0.0.1", "1 2 3 4"),
            ("NOT-IP 127.0.0.1", ""), ("USER default SKIPME yes", "2 3 4"), ("MAXAGE 3600", ""),
            ("NOT-USER default", ""), ("SKIPME no", "1 2 3 4"), ("IDLE 3600", "")]:
        assert listed(filters) == ids, filters
    for filters, refusal in [
            ("ID", "syntax error"), ("ID x", "Invalid client ID"), ("FOO x", "syntax error"),
            ("ID TYPE normal", "syntax error"), ("TYPE x", "Unknown client type 'x'"),
            ("TYPE", "syntax error"),
            ("USER x", "No such user 'x'"), ("NOT-USER x", "No such user 'x'"),
            ("DB 16", "DB number should be between 0 and 15"), ("SKIPME x", "syntax error"),
            ("DB x", "DB is not an integer or out of range"), ("NOT-IDLE 1", "syntax error"),
            ("IDLE x", "idle is not an integer or out of range"),
            ("IDLE 0", "idle should be greater than 0"), ("NOT-SKIPME yes", "syntax error"),
            ("MAXAGE x", "maxage is not an integer or out of range"),
            ("MAXAGE -1", "maxage should be greater than 0"),
            ("FLAGS z", "Unknown flags found in the provided filter: z"),
            ("NOT-FLAGS z", "Unknown flags found in the NOT-FLAGS filter: z")]:
        assert listed(filters) == f"-ERR {refusal}", filters
    for kill, reply in [("ID x", b"-ERR client-id should be greater than 0\r\n"),
                        ("ID 0", b"-ERR client-id should be greater than 0\r\n"),
                        ("ID 10 0", b"-ERR client-id should be greater than 0\r\n"),
                        ("ID 10 x", b"-ERR syntax error\r\n"),
                        ("NAME x", b":0\r\n"), ("DB 3 NOT-ID 1 2", b":1\r\n"),
                        ("ID 2 4 2", b":2\r\n"), ("LIB-NAME redis-py", b":0\r\n"),
                        ("MAXAGE 3600 SKIPME no", b":0\r\n"), ("USER default", b":0\r\n")]:
        a.send(f"CLIENT KILL {kill}").expect(reply)
    assert c.closed() == b.closed() == d.closed() == b""
    a.send("CLIENT KILL IP 127.0.0.1 SKIPME no")
    assert a.closed() == b":1\r\n"


@with_threads
def test_age_and_idleness(served):
    s = served()
    a, b = s.connect(), s.connect()
    a.send("PING").expect(PONG)
    b.send("PING").expect(PONG)
    s.wait(lambda: all(c["age"] >= 1 and c["idle"] >= 1 for c in s.loop.clients()))
    a.send("CLIENT KILL IDLE 1").expect(b":1\r\n")
    assert b.closed() == b""
    a.send("CLIENT KILL MAXAGE 1 SKIPME no").expect(b":1\r\n")
    assert a.closed() == b""


@with_threads
def test_killing_a_slow_reader(served):
    s = served()
    slow, other = s.connect(), s.connect()
    for _ in range(10):
        slow.send("TEST.BIG 1000000")
    s.wait(lambda: s.loop.clients()[0]["omem"] > 1_000_000)
    other.send("CLIENT KILL ID 1").expect(b":1\r\n")
    s.wait(lambda: s.loop.connected == 1)


@with_threads
def test_pause_holds_writes_back(served):
    s = served()
    a, b = s.connect(), s.connect()
    a.send("CLIENT PAUSE 100000 WRITE", "GET k").expect(OK + b"$-1\r\n")
    b.send("GET k", "SET k 1", "GET k").expect(b"$-1\r\n")
    assert b.silent()
    a.send("MULTI", "GET k", "EXEC").expect(OK + b"+QUEUED\r\n*1\r\n$-1\r\n")
    a.send("CLIENT UNPAUSE").expect(OK)
    b.expect(OK + b"$1\r\n1\r\n")


def test_a_pause_does_not_hold_refusals_back(served):
    s = served()
    a, b = s.connect(), s.connect()
    for mode in ("WRITE", "ALL"):
        a.send(f"CLIENT PAUSE 100000 {mode}").expect(OK)
        b.send("SET k", "NOPE", "CLIENT NOPE")
        b.expect(b"-ERR wrong number of arguments for 'set' command\r\n-ERR unknown command "
                 b"'NOPE', with args beginning with: \r\n"
                 b"-ERR unknown subcommand 'NOPE'. Try CLIENT HELP.\r\n")
        if mode == "WRITE":
            a.send("CLIENT UNPAUSE").expect(OK)


@with_threads
def test_pause_of_all_ends_by_itself(served):
    s = served()
    a, b = s.connect(), s.connect()
    begun = time.monotonic()
    a.send("CLIENT PAUSE 300").expect(OK)
    b.send("PING", "PING")
    b.expect(PONG * 2)
    assert time.monotonic() - begun > 0.25


@with_threads
def test_a_paused_client_may_go(served):
    s = served()
    a, b = s.connect(), s.connect()
    a.send("CLIENT PAUSE 100000 WRITE").expect(OK)
    b.send("SET k 1")
    s.wait(lambda: s.loop.stats()["blocked"] == 1)
    b.sock.close()
    s.wait(lambda: s.loop.connected == 1)
    a.send("CLIENT UNPAUSE", "GET k").expect(OK + b"$-1\r\n")


def test_a_join_holds_writes_back_and_nothing_else_ends_that(served):
    s = served()
    a, b = s.connect(), s.connect()
    a.send("SET k 0", "SET gone x PX 1", "MULTI", "SET m 7").expect(OK * 3 + b"+QUEUED\r\n")
    s.on_engine(lambda: setattr(s.loop, "joining", True))
    b.send("GET k", "INCR k", "GET k").expect(b"$1\r\n0\r\n")
    a.send("EXEC")
    s.wait(lambda: s.loop.stats()["blocked"] == 2)
    other = s.connect()
    other.send("CLIENT PAUSE 1 ALL").expect(OK)
    other.send("CLIENT UNPAUSE").expect(OK)
    other.send("CLIENT PAUSE 100000 WRITE", "GET k").expect(OK + b"$1\r\n0\r\n")
    assert a.silent() and b.silent()
    before = s.on_engine(lambda: s.replica.stats()["changes"])
    s.on_engine(lambda: setattr(s.loop, "joining", False))
    assert a.silent() and b.silent()                            # the pause is still there
    assert s.on_engine(lambda: s.replica.stats()["changes"]) == before      # nothing has expired
    other.send("CLIENT UNPAUSE").expect(OK)
    a.expect(b"*1\r\n" + OK)
    b.expect(b":1\r\n$1\r\n1\r\n")


def test_deferred_replies(served):
    s = served()
    a, b = s.connect(), s.connect()
    a.send("TEST.DEFER", "PING")
    b.send("TEST.DEFER 50").expect(b"+TIMEOUT\r\n")
    assert a.silent()
    token = next(t for t in reversed(tokens) if not t.done)
    assert s.on_engine(lambda: token.resolve([1, 2]))
    a.expect(b"*2\r\n:1\r\n:2\r\n" + PONG)
    def blocked():
        return s.loop.stats()["blocked"] == 1
    a.send("TEST.DEFER", "PING")
    s.wait(blocked)
    b.send("CLIENT UNBLOCK 1 ERROR").expect(b":1\r\n")
    a.expect(b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n" + PONG)
    a.send("TEST.DEFER")
    s.wait(blocked)
    b.send("CLIENT UNBLOCK 1").expect(b":1\r\n")
    a.expect(b"+TIMEOUT\r\n")
    a.send("TEST.DEFER")
    s.wait(blocked)
    a.sock.close()
    s.wait(lambda: s.loop.connected == 1)
    assert not s.on_engine(lambda: tokens[-1].resolve(1))


@with_threads
def test_a_blocked_client_that_goes_at_once_is_noticed(served):
    s = served()
    for _ in range(20):
        s.connect().send("PING", "TEST.DEFER").sock.close()
    s.wait(lambda: s.loop.stats()["accepted"] == 20 and s.loop.connected == 0)


def test_an_expired_key_that_was_looked_at_counts_no_more(served):
    """SET k v PX 5; GET k until it is nil; DBSIZE."""
    s = served()
    c = s.connect()
    for n in range(20):
        c.send("SET k v PX 5").expect(OK)
        while c.send("GET k").read(5) != b"$-1\r\n":
            c.read(2)
        c.send("DBSIZE").expect(b":0\r\n")
        assert s.replica.stats()["expired"] == n + 1


def test_many_keys_expire_soon_after_their_deadline(served):
    s = served()
    c = s.connect()
    for i in range(0, 5000, 100):
        c.send(*(f"SET k{j} v PX 100" for j in range(i, i + 100))).expect(OK * 100)
    s.wait(lambda: s.replica.keys(0) == (0, 0))


def test_tombstones_are_let_go_of_in_rounds(served):
    from tests.engine.test_bridge import batch_of

    s = served(collect_every=1 << 40)
    batch, peer = batch_of("INCR c")
    c = s.connect()

    s.on_engine(lambda: s.replica.receive(batch))
    c.send("DEL c").expect(b":1\r\n")
    assert s.replica.stats()["tombstones"] == 1
    s.on_engine(lambda: s.replica.record_clock(peer.actor, s.replica.clock_ids()))
    iterations = s.loop.stats()["iterations"]
    s.wait(lambda: s.loop.stats()["iterations"] > iterations + 10)
    time.sleep(0.3)                         # some rounds of cron
    assert s.replica.stats()["tombstones"] == 1, "the first round is over, and the next is far off"
    s.loop.next_collect = 0
    s.wait(lambda: s.replica.stats()["tombstones"] == 0)


# ---- Python beside the loop ----------------------------------------------------------------------

def test_call_soon_every_second_and_work(served):
    s = served()
    ticks, work = [], iter([True, None, False, True])
    s.on_engine(lambda: s.loop.every_second(lambda: ticks.append(s.replica.now)))
    s.on_engine(lambda: s.loop.add_work(lambda: next(work)))
    s.wait(lambda: len(ticks) == 3)
    assert all(later - earlier > 900 for earlier, later in zip(ticks, ticks[1:]))
    assert next(work) is True, "work ends at the first False"


def test_failing_callbacks_are_logged(served, caplog):
    s = served()
    s.loop.call_soon(lambda: 1 / 0)
    s.connect().send("PING").expect(PONG)
    assert "ZeroDivisionError" in caplog.text


@with_threads
def test_stop_sends_what_is_queued(served):
    s = served()
    c = s.connect()
    c.send("TEST.BIG 20000000")
    s.wait(lambda: s.loop.clients()[0]["omem"] > 100_000)
    stopped = []
    s.loop.on_stop.append(lambda: stopped.append(1))
    s.loop.stop()
    assert len(c.closed()) == 20_000_000 + 13
    s.thread.join(5)
    assert stopped == [1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", s.port))


def test_native_commands_go_on_beside_a_thread_that_holds_the_gil(served):
    """A loop iteration of native commands never asks for the GIL: one that did would wait for the
    loop below, which never lets go of it."""
    s = served()
    c = s.connect()
    c.send("PING", "SET k 1", "INCR k", "MULTI", "GET k", "EXEC", "SELECT 1", "SELECT 0")
    c.read(len(PONG + OK + b":2\r\n" + OK + b"+QUEUED\r\n*1\r\n$1\r\n2\r\n" + OK + OK))
    payload = encode("SET k 2") + encode("GET k") + encode("INCR k") + encode("PING")
    answer = OK + b"$1\r\n2\r\n:3\r\n" + PONG
    # The client is a process of its own: here every thread would wait for the GIL.
    program = f"""
import socket, time
s = socket.create_connection(("127.0.0.1", {s.port}))
for i in range(200):
    s.sendall({payload!r})
    got = b""
    while len(got) < {len(answer)}:
        got += s.recv(100)
    assert got == {answer!r}, got
print("done")
"""
    import subprocess
    old = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        begun = time.monotonic()
        client = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        while s.executor.stats()["commands"] < 808 and time.monotonic() - begun < 60:
            pass        # pure Python that never lets go
        done = s.executor.stats()["commands"]
    finally:
        sys.setswitchinterval(old)
    assert client.communicate(timeout=20)[0] == b"done\n"
    assert done >= 808


# ---- the log -------------------------------------------------------------------------------------

def attached(path, size=0):
    writer = SegmentWriter()
    writer.attach(os.open(path, os.O_CREAT | os.O_RDWR), 1, size, 0, 1 << 40, 0)
    return writer


@with_threads
def test_what_is_acknowledged_is_in_the_log(served, tmp_path):
    path = tmp_path / "log"
    s = served(log=attached(path))
    c = s.connect()
    for i in range(100):
        before = path.stat().st_size
        c.send(f"SET k{i} v").expect(OK)
        assert path.stat().st_size > before
    size = path.stat().st_size
    c.send("GET k1", "MULTI", "EXEC").expect(b"$1\r\nv\r\n" + OK + b"*0\r\n")
    assert path.stat().st_size == size


@with_threads
def test_nobody_is_told_of_a_write_that_could_not_be_logged(served, tmp_path):
    writer = attached(tmp_path / "log")
    s = served(log=writer)
    c, reader = s.connect(), s.connect()
    c.send("SET b 1").expect(OK)
    s.on_engine(lambda: writer.attach(os.open("/dev/full", os.O_WRONLY), 1, 0, 0, 1 << 40, 0))
    refusal = b"-MISCONF Errors writing to the AOF file: No space left on device\r\n"
    c.send("GET a", "SET a 1", "PING").expect(refusal * 3)
    reader.send("PING", "GET a").expect(PONG + b"$1\r\n1\r\n")
    c.send("SET a 2", "GET a").expect(refusal + b"$1\r\n1\r\n")
    pending = writer.waiting()
    assert pending

    path = tmp_path / "next"
    path.write_bytes(pending)
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    s.on_engine(lambda: writer.attach(fd, 2, len(pending), 0, 1 << 40, 0))
    c.send("SET a 3", "GET a").expect(OK + b"$1\r\n3\r\n")
    assert path.stat().st_size > len(pending)


# ---- looking ahead in a pipeline -----------------------------------------------------------------

def test_what_was_parsed_ahead_waits_when_its_iteration_does_not_come(served):
    """A batch is parsed before its first command runs; whatever that does to the client, the rest
    is run as if parsed afterwards."""
    s = served()
    c = s.connect()
    c.send("GET a", "TEST.DEFER 30", "SET a 1", "GET a", "TEST.DEFER 30", "GET a")
    c.expect(b"$-1\r\n+TIMEOUT\r\n" + OK + b"$1\r\n1\r\n+TIMEOUT\r\n$1\r\n1\r\n")
    c.send("CLIENT PAUSE 50 WRITE", "GET a", "SET a 2", "GET a", "GET a")
    c.expect(OK + b"$1\r\n1\r\n" + OK + b"$1\r\n2\r\n" * 2)
    c.send("SET a 1", "QUIT", "SET a 9")
    assert c.closed() == OK * 2
    s.connect().send("GET a").expect(b"$1\r\n1\r\n")


@with_threads
def test_authentication_changes_within_a_pipeline(served):
    s = served()
    s.executor.requirepass = b"secret"
    c = s.connect()
    many = "MGET " + " ".join("k" * 20 for _ in range(20))
    c.send("AUTH secret", many, "PING", "RESET", "PING", "AUTH secret", "PING")
    c.expect(OK + b"*20\r\n" + b"$-1\r\n" * 20 + PONG +
             b"+RESET\r\n-NOAUTH Authentication required.\r\n" + OK + PONG)
    c.send("PING", "RESET", many, "PING")
    assert (c.closed()
            == PONG + b"+RESET\r\n-ERR Protocol error: unauthenticated multibulk length\r\n")


def test_batches_end_where_they_must(served):
    s = served()
    c = s.connect()
    wide = "MGET " + " ".join(f"k{i}" for i in range(100))
    answer = b"*100\r\n" + b"$-1\r\n" * 100
    c.raw(encode("PING") + b"*0\r\n" + encode("PING") + b"\r\n" + encode("PING") +
          b"ECHO 'a b'\r\n" + encode(wide) + encode(wide)
          + encode("MGET " + "x " * 199 + "x") + encode("PING") + encode("SET k v")[:-5])
    c.expect(PONG * 3 + b"$3\r\na b\r\n" + answer * 2 + b"*200\r\n" + b"$-1\r\n" * 200 + PONG)
    c.raw(encode("SET k v")[-5:] + encode("GET k") + b"*1\r\n!\r\n")
    assert c.closed() == OK + b"$1\r\nv\r\n-ERR Protocol error: expected '$', got '!'\r\n"


@with_threads
def test_databases_change_within_a_batch(served):
    c = served().connect()
    c.send("SET k 0", "SELECT 1", "GET k", "SET k 1", "SELECT 0", "GET k", "MULTI", "SELECT 1",
           "GET k", "EXEC", "GET k")
    c.expect(OK * 2 + b"$-1\r\n" + OK * 2 + b"$1\r\n0\r\n" + OK + b"+QUEUED\r\n" * 2 + b"*2\r\n" +
             OK + b"$1\r\n1\r\n$1\r\n1\r\n")


def test_memory_returns_to_its_baseline(served):
    """Connections, pipelines, large values, blocked and paused clients, transactions: nothing of
    them stays."""
    s = served()

    def once():
        clients = [s.connect() for _ in range(20)]
        for c in clients:
            c.send("MULTI", "SET k v", "GET k", "EXEC", "CLIENT SETNAME x", "TEST.DEFER 1", "PING",
                   "WATCH a b c d e f", "MULTI", "PING")
            c.send([b"ECHO", b"x" * 200_000])
        for c in clients:
            c.sock.close()
        s.sockets.clear()
        s.wait(lambda: s.loop.connected == 0)
    for _ in range(10):
        once()
    before = resident()
    for _ in range(60):
        once()
    assert resident() - before < 4 << 20


def test_the_pages_of_slabs_that_stay_empty_go_back(served):
    """Of fewer than are worth a look at the whole heap."""
    s = served()
    blocks = BlocksProbe()

    def once():
        for at in [blocks.add(512, 1) for _ in range(10_000)]:
            blocks.free(at)
        return BlocksProbe.empty()
    if s.on_engine(once):                   # under a sanitizer there are none
        assert s.on_engine(once) > 64
        s.wait(lambda: BlocksProbe.empty() < 16)


def test_who_was_told_to_move_may_write_before_it_reads_that(served):
    """To a closed connection that would be reset: MOVING would be lost, and whose address it is."""
    s = served()
    s.loop.moving_to = b"other:1"
    c, stays = s.connect(), s.connect()
    c.send("HELLO 3", "CLIENT MAINT_NOTIFICATIONS ON")
    stays.send("PING").expect(PONG)
    s.wait(lambda: [row["resp"] for row in s.loop.clients()] == [3, 2])
    c.send("PING")
    s.wait(lambda: [row["cmd"] for row in s.loop.clients()] == ["ping", "ping"])
    s.loop.stop()
    s.thread.join(10)
    over = threading.Event()
    threading.Thread(target=lambda: (s.loop.see_off(60_000), s.loop.close(), over.set()),
                     daemon=True).start()
    for _ in range(20):
        c.send("PING")
        assert c.sock.getpeername() and not over.wait(0.01)
    assert b"MOVING" in c.closed() and stays.closed() == b""
    c.sock.close()
    assert over.wait(10)
    s.loop.see_off(60_000)                  # nobody is there

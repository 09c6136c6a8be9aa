"""A connection lent for a full sync, spoken by hand in the name of the giver: what does not come
next ends it, and costs the receiver nothing. That states come over it is tests/real/
test_full_sync.py's."""
import asyncio
import random
import socket
import struct
import time
from types import SimpleNamespace

import pytest

from crdtredis.clocks import actor_id
from crdtredis.replication.giving import Giver
from crdtredis.replication.lending import ASK, END, GIVEN, OFFER, Lender
from crdtredis.replication.receiving import FRAME_MOST
from crdtredis.replication.stream import UPGRADE
from crdtredis.replication.wire import decode, encode, proto
from tests.real.cluster import until
from tests.real.test_false_handshakes import shake_hands
from tests.real.test_full_sync import QUICK, info

HERE = {actor_id("evil", 7): 3}                 # ops that the receiver lacks


class Lent:
    def __init__(self, server, session: int | None = None):
        if session is None:
            status, hello, _ = shake_hands(server)
            assert status == 200
            session = hello.session
        self.socket = socket.create_connection(("127.0.0.1", server.http_port), 10)
        self.socket.sendall((
            "GET /replication/lend HTTP/1.1\r\nHost: x\r\n"
            f"Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n"
            f"X-Replica: evil\r\nX-Session: {session:x}\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline().strip():
            pass

    def send(self, kind: int, body: bytes = b"", size: int | None = None) -> None:
        self.socket.sendall(struct.pack("<IB", len(body) + 1 if size is None else size, kind)
                            + body)

    def offer(self, clock: dict = HERE) -> None:
        self.send(OFFER, encode(proto.Pull(clock=[proto.ClockEntry(actor=a, seq=s)
                                                  for a, s in clock.items()])))

    def asked(self):
        """The next request; None where the connection has ended."""
        try:
            head = self.file.read(5)
            if len(head) < 5:
                return None
            size, kind = struct.unpack("<IB", head)
            assert kind == ASK
            return decode(proto.Sync, self.file.read(size - 1))[0]
        except ConnectionError:
            return None


@pytest.fixture
def receiver(server):
    return server(**QUICK, sync_timeout="2s")


def gives_up(a, why: str) -> None:
    until(lambda: why in info(a)["full_sync_error"])
    assert info(a)["full_sync_from"] == "" and a("SET", "k", "v") == b"OK"


@pytest.mark.parametrize("kind, body, size", [
    (GIVEN, encode(proto.Given()), None), (END, b"", None), (ASK, b"", None), (9, b"", None),
    (OFFER, b"\xff\xff\xff\xff", None), (OFFER, b"", None), (OFFER, b"", FRAME_MOST + 100),
    (OFFER, b"", 0)])
def test_a_frame_that_does_not_come_next_ends_it(receiver, kind, body, size):
    lent = Lent(receiver)
    assert lent.status == 101
    lent.send(kind, body, size)
    assert lent.asked() is None
    assert receiver("PING") == b"PONG" and info(receiver)["full_syncs_failed"] == "0"


def test_who_has_no_session_lends_nothing(receiver):
    assert Lent(receiver, session=5).status == 409


def test_what_lacks_nothing_asks_for_nothing(receiver):
    lent = Lent(receiver)
    lent.offer({})
    lent.offer({})
    lent.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        lent.socket.recv(1)


def test_a_way_that_offers_nothing_ends(receiver):
    """It would take the place of a stream."""
    silent, other = Lent(receiver), Lent(receiver)
    other.offer({})
    silent.socket.settimeout(20)
    assert silent.asked() is None
    other.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        other.socket.recv(1)


def test_the_newest_way_of_a_replica_is_its_only_one(receiver):
    first, second = Lent(receiver), None
    first.offer({})
    second = Lent(receiver)                     # its handshake made the session another
    second.offer({})
    first.offer({})
    assert first.asked() is None
    second.offer()
    assert second.asked().digests is False


def test_a_reply_is_refused_or_breaks_off(receiver):
    a = receiver
    lent = Lent(a)
    lent.offer()
    assert lent.asked() is not None
    lent.send(GIVEN, encode(proto.Given(step=proto.REFUSED, refusal=proto.Refusal(
        code=proto.BUSY, text="not now"))))
    lent.send(END)
    gives_up(a, "not now")
    until(lambda: lent.offer() or info(a)["full_sync_from"])
    assert lent.asked() is not None             # on the same connection
    lent.send(GIVEN, encode(proto.Given(step=proto.TAIL)))
    gives_up(a, "does not come next")
    assert lent.asked() is None
    lent = Lent(a)
    until(lambda: lent.offer() or info(a)["full_sync_from"])
    lent.asked()
    lent.socket.close()
    lent.file.close()
    gives_up(a, "ended")


def test_a_giver_that_says_nothing_is_given_up(receiver):
    lent = Lent(receiver)
    lent.offer()
    assert lent.asked() is not None
    began = time.monotonic()
    gives_up(receiver, "nothing moved for 2 s")
    assert time.monotonic() - began < 30


def test_what_is_not_taken_in_is_not_read(receiver):
    """Gigabytes of a stream that the receiver has not asked for do not gather in its memory."""
    lent = Lent(receiver)
    lent.offer()
    assert lent.asked() is not None
    before = int(receiver("INFO", "memory").split(b"used_memory_rss:")[1].split()[0])
    body = encode(proto.Given(step=proto.WAIT), b"x" * (1 << 20))
    lent.socket.settimeout(5)
    for _ in range(300):                        # it is taken in as fast as it comes, and let go
        lent.send(GIVEN, body)
    after = int(receiver("INFO", "memory").split(b"used_memory_rss:")[1].split()[0])
    assert after - before < 100 << 20


# ---- the giver's side ----------------------------------------------------------------------------

class Line(asyncio.Transport):
    """To nowhere."""

    def __init__(self):
        super().__init__()
        self.sent, self.aborted = b"", False
        self.protocol = asyncio.Protocol()

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        self.sent += data

    def abort(self):
        self.aborted = True


class Begun:
    clock, released = {}, False

    def release(self):
        self.released = True


def lend(call) -> tuple[Lender, Giver, Line, Begun]:
    begun, line = Begun(), Line()
    runtime = SimpleNamespace(chance=random.Random(1), settings=SimpleNamespace(timeout=5.0))
    giver = Giver(None, runtime, call, SimpleNamespace(begin=lambda digests, tombstones: begun))
    lender = Lender(line, giver, runtime, "b", 1)
    ask = encode(proto.Sync())
    lender.link.data_received(struct.pack("<IB", len(ask) + 1, ASK) + ask)
    return lender, giver, line, begun


def test_a_full_sync_that_begins_as_the_connection_ends_does_not_hold_the_log_for_good():
    async def check():
        async def call(function):
            out = function()
            lender.link.connection_lost(None)
            await asyncio.sleep(0)
            return out

        lender, giver, _, begun = lend(call)
        await asyncio.wait({lender._task})
        assert lender._task.exception() is None
        assert len(giver.givings) == 1 and not begun.released
        giver.stop()
        assert begun.released

    asyncio.run(check())


def test_what_fails_at_the_giver_ends_the_connection_at_once(caplog):
    async def check():
        async def call(function):
            raise ZeroDivisionError

        lender, _, line, _ = lend(call)
        await asyncio.wait({lender._task})
        assert lender._task.exception() is None and line.aborted and not line.sent

    asyncio.run(check())
    assert "could not be given to b" in caplog.text


def test_offers_that_nobody_reads_do_not_gather():
    async def check():
        lender, _, line, _ = lend(None)
        lender.link.pause_writing()
        lender.offer(HERE)
        assert not line.sent
        lender.link.resume_writing()
        lender.offer(HERE)
        assert line.sent[4] == OFFER
        lender._task.cancel()

    asyncio.run(check())

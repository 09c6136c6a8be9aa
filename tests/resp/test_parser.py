"""The request parser: the same commands however the bytes are cut, Redis's answers to broken ones,
and memory in proportion."""
from __future__ import annotations

import random
import socket

import pytest

from crdtredis._resp import ProtocolError, RequestParser
from tests.real.cluster import Reference
from tests.resp import blobs
from tests.respclient import Connection, encode

ERR = "ERR Protocol error: "


def parse(pieces, **options):
    """All commands and the error text, if any, that a parser makes of the pieces."""
    parser, commands = RequestParser(**options), []
    for piece in pieces:
        try:
            commands += parser.feed(piece)
        except ProtocolError as e:
            return commands + e.commands, str(e)
    return commands, None


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    ends = sorted(rng.choices(range(len(data) + 1), k=rng.randrange(1, 12)))
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)])]


# ---- what a request means ------------------------------------------------------------------------

@pytest.mark.parametrize("data, argv", [
    (b"*1\r\n$4\r\nPING\r\n", [b"PING"]),
    (b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", [b"GET", b""]),
    (b"*1\r\n$7\r\na\r\n$3\r\n\r\n", [b"a\r\n$3\r\n"]),
    (b"*1\r\n$2\r\nabXY", [b"ab"]),                     # what ends a bulk string is not looked at
    (b"*0\r\n", []), (b"*-1\r\n", []), (b"\r\n", []), (b"\n", []), (b"   \r\n", []),
    (b"PING\r\n", [b"PING"]), (b"PING\n", [b"PING"]), (b"  a \t b  \r\n", [b"a", b"b"]),
    (rb'"\x41\x6a\n\r\t\b\a\q\\\""' + b"\r\n", [b'Aj\n\r\t\b\aq\\"']),
    (rb"'a\'b\n'" + b"\r\n", [rb"a'b\n"]),
    (rb'"\x4" "\xzz"' + b"\r\n", [b"x4", b"xzz"]),
    (b'x"y z" ' + b"u'v w'\r\n", [b"xy z", b"uv w"]),
    (b"\"\" ''\r\n", [b"", b""]),
    (b"a\rb\r\n", [b"a", b"b"]),
    (b"a\0b\r\n", [b"a\0b"]),
])
def test_one_request(data, argv):
    assert parse([data]) == ([argv], None)
    assert parse([data * 3]) == ([argv] * 3, None)
    assert parse([bytes([b]) for b in data]) == ([argv], None)


@pytest.mark.parametrize("data, text", [
    (b"*x\r\n", "invalid multibulk length"), (b"*\r\n", "invalid multibulk length"),
    (b"*01\r\n", "invalid multibulk length"),
    (b"*+1\r\n", "invalid multibulk length"), (b"*2147483648\r\n", "invalid multibulk length"),
    (b"*1\r\n$-1\r\n", "invalid bulk length"), (b"*1\r\n$x\r\n", "invalid bulk length"),
    (b"*1\r\n$\r\n", "invalid bulk length"),
    (b"*1\r\n$536870913\r\n", "invalid bulk length"),
    (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
    (b"*1\r\nfoo\r\n", "expected '$', got 'f'"), (b"*1\r\n*1\r\n", "expected '$', got '*'"),
    (b'SET "a\r\n', "unbalanced quotes in request"),
    (b"SET 'a'b\r\n", "unbalanced quotes in request"),
    (b"a" * 65537, "too big inline request"), (b"*" + b"1" * 65536, "too big mbulk count string"),
    (b"*1\r\n$" + b"1" * 65536, "too big bulk count string"),
])
def test_broken_requests(data, text):
    good = b"*1\r\n$4\r\nPING\r\n"
    assert parse([good + data]) == ([[b"PING"]], ERR + text)
    assert parse([bytes([b]) for b in good + data]) == ([[b"PING"]], ERR + text)


def test_an_error_is_final():
    parser = RequestParser()
    for data in (b"*x\r\n", b"", b"*1\r\n$4\r\nPING\r\n"):
        with pytest.raises(ProtocolError, match="invalid multibulk length") as e:
            parser.feed(data)
        assert e.value.commands == []


def test_limits_are_exact():
    assert parse([b"a" * 65536 + b"\n"])[0] == [[b"a" * 65536]]
    assert parse([b"a" * 65536])[1] is None
    assert parse([b"*1\r\n$8\r\n"], max_bulk=8)[1] is None
    assert parse([b"*1\r\n$9\r\n"], max_bulk=8)[1] == ERR + "invalid bulk length"
    assert (parse([b"*1\r\n$9223372036854775807\r\n"], max_bulk=2**63 - 1)[1]
            == ERR + "invalid bulk length")
    assert parse([b"*1\r\n$9223372036854775806\r\nx"], max_bulk=2**63 - 1) == ([], None)


def test_strangers_are_held_short():
    assert parse([b"*10\r\n$16384\r\n"], authenticated=False)[1] is None
    assert parse([b"*11\r\n"], authenticated=False)[1] == ERR + "unauthenticated multibulk length"
    assert (parse([b"*1\r\n$16385\r\n"], authenticated=False)[1]
            == ERR + "unauthenticated bulk length")
    parser = RequestParser(authenticated=False)
    parser.feed(b"*2\r\n$4\r\n")
    parser.authenticated = True
    assert parser.feed(b"AUTH\r\n$20000\r\n" + b"p" * 20000 + b"\r\n") == [[b"AUTH", b"p" * 20000]]


# ---- every cut -----------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(300))
def test_cuts_change_nothing(seed):
    rng = random.Random(seed)
    data = blobs.stream(rng)
    whole = parse([data])
    assert parse([bytes([b]) for b in data]) == whole
    for at in range(len(data)):
        assert parse([data[:at], data[at:]]) == whole
    for _ in range(5):
        assert parse(cut(data, rng)) == whole


@pytest.mark.parametrize("seed", range(20))
def test_cuts_of_large_commands_change_nothing(seed):
    """Sizes around every step of the buffer, so that it slides, grows and shrinks with arguments in
    it."""
    rng = random.Random(seed)
    sizes = [0, 1, 100, 8190, 8192, 16370, 16384, 32766, 32768, 65536, 70000, 300000]
    commands = [[bytes([97 + i]) * (rng.choice(sizes) + rng.randrange(3))
                 for i in range(rng.randrange(1, 6))]
                for _ in range(rng.randrange(1, 5))]
    commands += [[b"k%d" % i for i in range(3000)], [b"PING"]]
    rng.shuffle(commands)
    data = b"".join(encode(*c) for c in commands)
    assert parse([data]) == (commands, None)
    for _ in range(3):
        assert parse(cut(data, rng)) == (commands, None)
    step = rng.choice([997, 4096, 16384])
    assert parse([data[i:i + step] for i in range(0, len(data), step)]) == (commands, None)


# ---- memory --------------------------------------------------------------------------------------

def test_memory_follows_what_arrived_not_what_was_announced():
    parser = RequestParser()
    parser.feed(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n")
    assert parser.room <= 1 << 20 and parser.memory <= (1 << 20) + 4096
    arrived = 0
    for _ in range(200):
        parser.feed(b"x" * 65536)
        arrived += 65536
        assert parser.memory <= 2 * arrived + (2 << 20)


def test_many_announced_arguments_cost_nothing():
    parser = RequestParser()
    parser.feed(b"*2147483647\r\n")
    assert parser.memory < 20000


@pytest.mark.parametrize("size", [40_000, 1 << 20, 16 << 20, 64 << 20])
def test_a_large_argument_costs_linear_work(size):
    """Fed in 4 KB pieces: the buffer grows a few times only, and ends not much larger than the
    argument."""
    parser, sizes = RequestParser(), set()
    parser.feed(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % size)
    piece = b"x" * 4096
    for _ in range(size // 4096):
        assert parser.feed(piece) == []
        sizes.add(parser.memory)
    assert len(sizes) <= 8 + (size >> 20).bit_length()
    assert max(sizes) <= 1.3 * size + 1000
    [[_, _, value]] = parser.feed(b"x" * (size % 4096) + b"\r\n")
    assert value == b"x" * size
    assert parser.memory <= 66000 + 16 * 1024


def test_room_is_never_too_small():
    parser, rng = RequestParser(), random.Random(5)
    for _ in range(2000):
        assert parser.room >= 8192
        parser.feed(encode(b"SET", b"k", b"v" * rng.randrange(20000))[:-rng.randrange(1, 10)]
                    if rng.random() < 0.01
                    else encode(b"PING"))


def test_memory_goes_back():
    parser = RequestParser()
    first = parser.feed(b"PING\r\n") and parser.memory
    parser.feed(encode(b"SET", b"k", b"v" * (8 << 20)))
    parser.feed(encode(*[b"x"] * 100_000))
    assert parser.memory <= first
    # the next command has already begun
    parser.feed(encode(b"SET", b"k", b"v" * 1_100_000) + b"*1\r\n$4\r\n")
    assert parser.memory > 1 << 20
    assert parser.room and parser.memory <= 2 * first
    assert parser.feed(b"PING\r\n") == [[b"PING"]]
    parser.trim()
    assert parser.memory < 1000
    parser.feed(b"*2\r\n$4\r\nECHO\r\n$3\r\na")
    parser.trim()
    assert parser.feed(b"bc\r\n") == [[b"ECHO", b"abc"]]


# ---- against Redis -------------------------------------------------------------------------------

def answer(port: int, data: bytes) -> bytes:
    """All a server sends back for these bytes before it closes."""
    with socket.create_connection(("127.0.0.1", port), 20) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        out = b""
        while piece := s.recv(65536):
            out += piece
        return out


def same_as_redis(port: int, data: bytes, **options):
    """Redis answers the bytes as it answers the commands and the error that our parser finds in
    them."""
    commands, error = parse([data], **options)
    expected = answer(port, b"".join(encode(*c) for c in commands if c))
    if error:
        expected += b"-" + error.encode("utf-8",
                                        "surrogateescape").translate(
                                            bytes.maketrans(b"\r\n", b"  ")) + b"\r\n"
    assert answer(port, data) == expected


@pytest.mark.parametrize("data",
                         blobs.BAD + blobs.EMPTY + [b"ECHO " + u + b"\r\n"
                                                    for u in blobs.UNBALANCED + blobs.QUOTED]
                         + [b"a" * 70000, b"*" + b"1" * 70000, b"*1\r\n$" + b"1" * 70000,
                            b"*1048577\r\n$4\r\n"],
                         ids=lambda d: repr(d[:24]))
def test_single_requests_as_redis(reference, data):
    if b"\xff" not in data:
        same_as_redis(reference.port, b"*1\r\n$4\r\nPING\r\n" + data)


@pytest.mark.parametrize("seed", range(40))
def test_random_streams_as_redis(reference, seed):
    rng = random.Random(seed)
    for _ in range(25):
        same_as_redis(reference.port, blobs.stream(rng))


def test_strangers_as_redis(processes):
    port = Reference().start().port
    with Connection(port) as redis:
        redis("CONFIG", "SET", "requirepass", "secret")
    for data in (b"*10\r\n" + b"$1\r\na\r\n" * 10, b"*11\r\n",
                 b"*2\r\n$4\r\nECHO\r\n$16384\r\n" + b"x" * 16384 + b"\r\n", b"*1\r\n$16385\r\n",
                 b"*1\r\n$536870913\r\n", b"*2147483648\r\n"):
        same_as_redis(port, data, authenticated=False)

"""Reading commands as servers write them down."""
import random

import pytest

from crdtredis.moving.commands import LONGEST, Command, Commands
from crdtredis.moving.snapshot import Damaged
from tests.respclient import encode

STREAM = [encode("select", 0), encode("SET", "k", b"\r\n$3\r\nfoo\r\n*1\r\n"), encode("PING"),
          encode("MSET", *(str(i) for i in range(40))), encode("SET", "", ""),
          encode("SET", "large", b"x" * 100_000)]


def read(data: bytes, size: int) -> list[Command]:
    commands, found = Commands(), []
    for at in range(0, len(data), size):
        found += commands.feed(data[at:at + size])
    assert commands.at + commands.held == len(data)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096, 1 << 20])
def test_however_they_are_cut(size):
    data = b"#TS:1700000000\r\n\n".join(STREAM)
    found = read(data, size)
    assert [c.raw for c in found] == STREAM
    assert [c.name for c in found] == [b"SELECT", b"SET", b"PING", b"MSET", b"SET", b"SET"]
    assert [c.argument for c in found] == [b"0", b"k", b"", b"0", b"", b"large"]


def test_one_that_is_cut_off_stays():
    data = b"".join(STREAM)
    for cut in sorted(random.Random(1).sample(range(len(data)), 200)):
        commands = Commands(1000)
        found = commands.feed(data[:cut])
        whole = b"".join(c.raw for c in found)
        assert data.startswith(whole)
        assert commands.at == 1000 + len(whole) and commands.held == cut - len(whole)


@pytest.mark.parametrize("data, at", [
    (b"SET k v\r\n", 0), (b"*x\r\n", 0), (b"*1\n$1\r\na\r\n", 0), (b"*-1\r\n", 0),
    (b"*1048577\r\n", 0), (b"*\r\n", 0), (b"*1\r\n*1\r\n", 4),
    (b"*1\r\n$%d\r\n" % (LONGEST + 1), 4),
    (b"*1\r\n$1\r\nabc", 9), (b"*1\r\n$-1\r\n", 4), (b"*" + b"1" * 70, 0), (b"#" * 2000, 0),
    (encode("PING") + b"x", 14), (b"*+1\r\n", 0), (b"*1_0\r\n", 0),
])
def test_what_is_none_is_refused(data, at):
    for size in (1, len(data)):
        with pytest.raises(Damaged) as e:
            read(data, size)
        assert e.value.at == at


def test_a_large_one_in_small_pieces_takes_no_longer():
    commands = Commands()
    data = encode("SET", "k", bytes(20 << 20))
    found = []
    for at in range(0, len(data), 1 << 14):
        found += commands.feed(data[at:at + (1 << 14)])
    assert [c.raw == data for c in found] == [True]

"""Reading snapshot files, some that redis-server wrote and some made by hand."""
import random
from collections import Counter

import pytest

from crdtredis._core import Replica
from crdtredis._engine import Executor
from crdtredis._resp import RequestParser
from crdtredis.moving import snapshot
from crdtredis.moving.commands import Commands
from crdtredis.moving.snapshot import Damaged, Key, Library, Snapshot, payload, restoring
from tests.commands.payloads import crc64, length, text
from tests.real.cluster import Reference


def sealed(body: bytes, head: bytes = b"REDIS0011") -> bytes:
    data = head + body + b"\xff"
    return data + crc64(data).to_bytes(8, "little")


def read(data: bytes) -> list:
    return list(Snapshot(memoryview(data)).read())


@pytest.fixture(scope="module")
def written():
    """(what redis-server wrote, its DUMPs by (db, key))."""
    server = Reference("--save", "", "--hash-max-listpack-entries", "8", "--set-max-intset-entries",
                       "8", "--zset-max-listpack-entries", "8", "--list-max-listpack-size",
                       "4").start()
    try:
        rng = random.Random(2)
        for db in (0, 3, 15):
            server("SELECT", db)
            for n in (1, 5, 20, 300):
                server("SADD", f"ints{n}", *range(n))
                server("SADD", f"set{n}", *(f"m{i}" for i in range(n)))
                server("RPUSH", f"list{n}", *(rng.choice([i, f"e{i}", "x" * 100])
                                              for i in range(n)))
                server("HSET", f"hash{n}", *(x for i in range(n) for x in (f"f{i}", i)))
                server("ZADD", f"zset{n}", *(x for i in range(n) for x in (i / 3, f"m{i}")))
            for i, value in enumerate((b"", b"12", b"70000", bytes(range(256)), b"ab" * 5000)):
                server("SET", f"string{i}", value)
            server("SET", "later", "x", "PXAT", 4_000_000_000_123)
        server("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() end)")
        server("XADD", "stream", "1-1", "f", "v")
        server("XGROUP", "CREATE", "stream", "g", "0")
        server("XREADGROUP", "GROUP", "g", "c", "STREAMS", "stream", ">")
        server("SAVE")
        dumps = {}
        for db in (0, 3, 15):
            server("SELECT", db)
            for key in server("KEYS", "*"):
                dumps[db, key] = server("DUMP", key)
        yield (server.directory / "dump.rdb").read_bytes(), dumps
    finally:
        server.dispose()


def test_what_redis_wrote(written):
    data, dumps = written
    found = read(data)
    keys = {(e.db, e.name): e for e in found if isinstance(e, Key)}
    assert keys.keys() == dumps.keys()
    assert not any(e.untaken for e in keys.values())
    assert {e.name: e.deadline for e in keys.values() if e.deadline} == {
        b"later": 4_000_000_000_123}
    assert [e.text[:13] for e in found if isinstance(e, Library)] == [b"#!lua name=l\n"]
    view = memoryview(data)
    executor = Executor(Replica("a", 1_700_000_000_000))
    session = executor.session()
    for (db, name), key in keys.items():
        made = payload(view, key)
        assert made[:-10] == dumps[db, name][:-10]
        assert executor.execute(session, [b"RESTORE", b"%d:%b" % (db, name), b"0",
                                          made]) == b"+OK\r\n"
    assert b"1-1" in executor.execute(session, [b"XPENDING", b"15:stream", b"g"])


def test_large_collections_are_made_part_by_part(written, monkeypatch):
    data, dumps = written
    monkeypatch.setattr(snapshot, "LARGE", -1)
    monkeypatch.setattr(snapshot, "PART", 7)
    executor = Executor(Replica("a", 1_700_000_000_000))
    parts, restored = executor.session(), executor.session()
    untaken = []
    seen = Counter()
    for some in restoring(memoryview(data), 1 << 20, lambda why, name: untaken.append(why),
                          None):
        for sent in some:
            commands = Commands().feed(sent.raw)
            assert [c.name.decode() for c in commands] == [sent.name]
            seen[sent.what, sent.name] += 1
            reply = executor.execute(parts, words(sent.raw))
            assert not reply.startswith(b"-"), (sent, reply)
    assert untaken == [] and seen["library", "FUNCTION"] == 1
    assert seen["key", "RESTORE"] == 3 * 6 + 1 and seen["key", "DEL"] == 3 * 20
    assert seen["part", "RPUSH"] == 3 * (1 + 1 + 3 + 43)
    for (db, key), dump in dumps.items():
        for session in parts, restored:
            executor.execute(session, [b"SELECT", b"%d" % db])
        if key == b"stream":
            continue
        executor.execute(restored, [b"RESTORE", b"r:" + key, b"0", dump])
        kind = executor.execute(parts, [b"TYPE", key])
        assert kind == executor.execute(restored, [b"TYPE", b"r:" + key])
        name, *rest = {b"+list\r\n": [b"LRANGE", b"0", b"-1"], b"+hash\r\n": [b"HGETALL"],
                       b"+zset\r\n": [b"ZRANGE", b"0", b"-1", b"WITHSCORES"],
                       b"+set\r\n": [b"SMEMBERS"], b"+string\r\n": [b"GET"]}[kind]
        one, other = (executor.execute(parts, [name, k, *rest]).split(b"\r\n")
                      for k in (key, b"r:" + key))
        if kind in (b"+hash\r\n", b"+set\r\n"):
            one, other = sorted(one), sorted(other)
        assert one == other, key


def words(raw: bytes) -> list[bytes]:
    [argv] = RequestParser().feed(raw)
    return argv


def test_a_file_that_ends_too_early_is_damaged_wherever_that_is(written):
    data, _ = written
    for cut in {*range(0, 200), *random.Random(3).sample(range(len(data)), 500), len(data) - 1}:
        with pytest.raises(Damaged):
            read(data[:cut])


def test_a_changed_byte_is_seen(written):
    data, _ = written
    for at in {*range(0, 100), *random.Random(4).sample(range(len(data)), 500)}:
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(Damaged):
            read(bytes(changed))


def test_bytes_of_a_stranger_are_refused_and_no_more():
    rng = random.Random(5)
    for _ in range(3000):
        try:
            read(b"REDIS0011" + rng.randbytes(rng.randrange(60)))
        except Damaged:
            pass


def module(name: str) -> bytes:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    n = 0
    for c in name:
        n = n << 6 | letters.index(c)
    return b"\x81" + (n << 10 | 1).to_bytes(8, "big")


PARTS = b"\x01\x05\x02\x40\x80\x03abcd\x04abcdefgh\x05" + text(b"hello") + b"\x00"


@pytest.mark.parametrize("body, expected", [
    (b"\x07" + text(b"k") + module("ReJSON-RL") + PARTS, "value of module ReJSON-RL"),
])
def test_what_cannot_be_taken_is_passed_over(body, expected):
    plain = b"\x00" + text(b"other") + text(b"v")
    first, second = read(sealed(body + plain))
    assert (first.name, first.untaken, second.name) == (b"k", expected, b"other")


def test_hashes_of_valkey_whose_fields_have_deadlines():
    body = (b"\x16" + text(b"k") + length(2) + text(b"f") + text(b"v") + (5).to_bytes(8, "little")
            + text(b"g") + text(b"w") + b"\xff" * 8)
    data = memoryview(sealed(body, b"VALKEY080"))
    (key,) = read(data)
    assert not key.untaken
    assert payload(data, key)[-10:-8] == b"P\x00", "Valkey's version"
    with pytest.raises(Damaged, match="unknown type 22"):
        read(sealed(body))
    with pytest.raises(Damaged):
        read(sealed(b"\x18" + body[1:], b"VALKEY080"))


def test_what_stands_beside_values():
    value = text(b"k") + text(b"v")
    found = read(sealed(
        b"\xfa" + text(b"redis-ver") + text(b"7.2.4") + b"\xfb\x01\x01" + b"\xf4\x01\x02\x03"
        + b"\xf7" + module("ReJSON-RL") + b"\x02\x02" + b"\x02\x01\x00"
        + b"\xfd\xff\xff\xff\x7f\x00" + value + b"\xf9\x05\xf8\x07\x00" + value
        + b"\xfe\x0f\xfc\x01\x00\x00\x00\x00\x00\x00\x00\x00" + value))
    assert [(e.db, e.deadline, e.untaken) for e in found] == [
        (0, 0, "what module ReJSON-RL keeps besides"), (0, 0x7fffffff * 1000, ""), (0, 0, ""),
        (15, 1, "")]


def test_files_without_a_checksum():
    old = b"REDIS0004\x00" + text(b"k") + text(b"v") + b"\xff"
    assert len(read(old)) == 1
    without = b"REDIS0009\x00" + text(b"k") + text(b"v") + b"\xff" + bytes(8)
    assert len(read(without)) == 1


@pytest.mark.parametrize("data", [b"", b"REDIS", b"REDISXXXX\xff", b"GARBAGE!!\xff",
                                  sealed(b"\x63" + text(b"k")), sealed(b"\xf6"), sealed(b"\xf3"),
                                  sealed(b"\x07" + text(b"k") + module("ReJSON-RL") + b"\x09"),
                                  sealed(b"\xfe\x82")])
def test_what_nobody_knows_is_refused(data):
    with pytest.raises(Damaged):
        read(data)

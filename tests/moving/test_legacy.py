"""The JSON store of an earlier server."""
import base64
import struct

import orjson
import pytest

from crdtredis.moving.legacy import read, store_path
from crdtredis.moving.snapshot import Damaged


def value(kind: int, data: bytes | dict, **more) -> dict:
    if isinstance(data, dict):
        data = orjson.dumps(data)
    return {"type": kind, "data": base64.b64encode(data).decode(), "timestamp": 0,
            "replica_id": "r", "vector_clock": None} | more


def one(v: dict) -> list[list[bytes]]:
    found = dict(read(orjson.dumps({"k": v})))
    if not found:
        return []
    first, *rest = found[b"k"]
    assert first == [b"DEL", b"k"]
    return rest


@pytest.mark.parametrize("v, expected", [
    (value(0, bytes(range(256))), [b"SET", b"k", bytes(range(256))]),
    (value(0, b""), [b"SET", b"k", b""]),
    ({"type": 0, "data": None}, [b"SET", b"k", b""]),
    (value(1, struct.pack(">q", -2**63)), [b"SET", b"k", b"-9223372036854775808"]),
    (value(2, struct.pack(">d", 0.1)), [b"SET", b"k", b"0.1"]),
    (value(2, struct.pack(">d", 1e20)), [b"SET", b"k", b"100000000000000000000"]),
    (value(2, struct.pack(">d", -0.0)), [b"SET", b"k", b"0"]),
    (value(3, {"elements": [{"value": "a"}, {"value": "b", "deleted": True},
                            {"value": "\u00e9", "deleted": False}]}),
     [b"RPUSH", b"k", b"a", "\u00e9".encode()]),
    (value(4, {"elements": {"a": {"id": "1"}, "b": {"id": "2"}}, "tombstones": {"2": 5}}),
     [b"SADD", b"k", b"a"]),
    (value(5, {"fields": {"a": {"value": "x", "id": "1"}, "b": {"value": "y", "id": "2"},
                          "c": {"value": "", "field_type": 1, "counter_value": 25,
                                "counter_scale": 10},
                          "d": {"field_type": 1, "counter_value": -7, "counter_scale": 1}},
               "tombstones": {"2": 1}}),
     [b"HSET", b"k", b"a", b"x", b"c", b"2.5", b"d", b"-7"]),
    (value(6, {"elements": {"a": {"score": 1.5, "delta": 2},
                            "b": {"score": 1, "is_removed": True}}}),
     [b"ZADD", b"k", b"3.5", b"a"]),
])
def test_each_type(v, expected):
    assert one(v) == [expected]


@pytest.mark.parametrize("v", [
    value(3, b""), value(3, {"elements": None}), value(4, {"elements": {}}),
    value(3, {"elements": [{"value": "a", "deleted": True}]})])
def test_what_is_empty_is_no_key(v):
    assert one(v) == []


@pytest.mark.parametrize("more, at", [
    ({"expire_at": "2033-05-18T03:33:20Z"}, 2_000_000_000_000),
    ({"expire_at": "2033-05-18T05:33:20.5+02:00"}, 2_000_000_000_500),
    ({"expire_at": "0001-01-01T00:00:00Z"}, None), ({"expire_at": None}, None),
    ({"ttl": 100, "timestamp": 2_000_000_000_000_000_000}, 2_000_000_100_000),
    ({"ttl": 100, "timestamp": 2_000_000_000_000}, 2_000_000_100_000),
    ({"ttl": 0}, None)])
def test_deadlines(more, at):
    expected = [] if at is None else [[b"PEXPIREAT", b"k", b"%d" % at]]
    assert one(value(0, b"v", **more))[1:] == expected


def test_large_collections_take_several_commands():
    commands = one(value(3, {"elements": [{"value": str(i)} for i in range(2500)]}))
    assert [len(c) - 2 for c in commands] == [1000, 1000, 500]


@pytest.mark.parametrize("data", [
    b"", b"[]", b"{", b'{"k": 1}', b'{"k": {}}', b'{"k": {"type": 7, "data": ""}}',
    b'{"k": {"type": 0, "data": "!"}}', b'{"k": {"type": 1, "data": "AA=="}}',
    b'{"k": {"type": 3, "data": "AA=="}}', orjson.dumps({"k": value(6, {"elements": {"a": {}}})}),
    orjson.dumps({"k": value(2, struct.pack(">d", float("nan")))}),
    orjson.dumps({"k": value(5, {"fields": {"a": {"field_type": 1, "counter_value": 1,
                                                  "counter_scale": "x"}}})}),
    orjson.dumps({"k": value(0, b"", expire_at="soon")})])
def test_what_is_no_store_is_refused(data):
    with pytest.raises(Damaged):
        list(read(data))


def test_where_it_stands(tmp_path):
    assert store_path(tmp_path) is None
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").touch()
    assert store_path(tmp_path) == tmp_path / "store" / "store.json"
    (tmp_path / "store.json").touch()
    assert store_path(tmp_path) == tmp_path / "store.json"

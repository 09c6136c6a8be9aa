"""The JSON store of an earlier server of this family: one file, `store.json`, with everything that
its keys held. Its operation log (`oplog.json`) is not needed."""
from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import orjson

from crdtredis.moving.snapshot import Damaged

STRING, COUNTER, FLOAT, LIST, SET, HASH, ZSET = range(7)
NANOSECONDS = 10 ** 15          # a timestamp from there on; below it is in milliseconds
PER_COMMAND = 1000              # elements


def store_path(folder: Path) -> Path | None:
    """Of the store that a data directory holds; None: of none."""
    for path in (folder / "store.json", folder / "store" / "store.json"):
        if path.is_file():
            return path
    return None


def read(data: bytes | memoryview) -> Iterator[tuple[bytes, list[list[bytes]]]]:
    """For each key that holds something: (key, commands that make it). Damaged, perhaps after
    some."""
    try:
        store = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        raise Damaged(e.pos, e.msg) from None
    if not isinstance(store, dict):
        raise Damaged(0, "this is no store: not a JSON object")
    for name, value in store.items():
        key = name.encode()
        try:
            commands = made(key, value)
            if commands:
                yield key, [[b"DEL", key], *commands, *deadline(key, value)]
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError,
                struct.error) as e:
            raise Damaged(0, f"key {name[:100]!r}: not what a store holds: {e!r}") from None


def made(key: bytes, value: dict) -> list[list[bytes]]:
    kind = value["type"]
    data = base64.b64decode(value.get("data") or "", validate=True)
    if kind == STRING:
        return [[b"SET", key, data]]
    if kind == COUNTER:
        return [[b"SET", key, b"%d" % struct.unpack(">q", data)]]
    if kind == FLOAT:
        return [[b"SET", key, number(struct.unpack(">d", data)[0])]]
    held = orjson.loads(data or b"{}")
    elements = (held.get("fields") if kind == HASH else held.get("elements")) or {}
    gone = held.get("tombstones") or {}
    if kind == LIST:
        return split(b"RPUSH", key, [(e["value"].encode(),) for e in elements or []
                                     if not e.get("deleted")])
    alive = [(k, e) for k, e in elements.items() if e.get("id") not in gone]
    if kind == SET:
        return split(b"SADD", key, [(k.encode(),) for k, _ in alive])
    if kind == HASH:
        return split(b"HSET", key, [(k.encode(), field(e)) for k, e in alive])
    if kind == ZSET:
        return split(b"ZADD", key, [(number(e["score"] + (e.get("delta") or 0)), k.encode())
                                    for k, e in alive if not e.get("is_removed")])
    raise ValueError(f"type {kind}")


def split(name: bytes, key: bytes, elements: list[tuple[bytes, ...]]) -> list[list[bytes]]:
    return [[name, key, *(part for e in elements[i:i + PER_COMMAND] for part in e)]
            for i in range(0, len(elements), PER_COMMAND)]


def field(e: dict) -> bytes:
    if not e.get("field_type"):
        return e["value"].encode()
    return decimal(Decimal(e["counter_value"]) / Decimal(e.get("counter_scale") or 1))


def number(v: float) -> bytes:
    if math.isinf(v):
        return b"inf" if v > 0 else b"-inf"
    if math.isnan(v):
        raise ValueError("no number")
    return decimal(Decimal(repr(float(v))))


def decimal(v: Decimal) -> bytes:
    """Without an exponent, as Redis writes it."""
    text = format(v, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return b"0" if text in ("-0", "") else text.encode()


def deadline(key: bytes, value: dict) -> list[list[bytes]]:
    at = value.get("expire_at")
    if at and not at.startswith("0001-"):
        seconds = datetime.fromisoformat(at).timestamp()
    elif value.get("ttl"):
        stamp = value["timestamp"]
        seconds = stamp / (10 ** 9 if stamp >= NANOSECONDS else 1000) + value["ttl"]
    else:
        return []
    return [[b"PEXPIREAT", key, b"%d" % int(seconds * 1000)]]

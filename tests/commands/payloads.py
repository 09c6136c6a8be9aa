"""Redis's payloads, written by hand: every form that a server from 2.x to 7.2 has produced for its
five types of values.

The encoders follow the formats and not crdtredis/commands/rdb.pyx, which is tested against them.
They are simple and slow, and take more freedom than Redis does (`Choice`): a text that could be a
number may be raw, and so on. A value is bytes (string), a list of bytes (list), a set of bytes, a
dict of bytes (hash), or a dict of floats (sorted set).

    FORMS["hash ziplist"](choice, {b"f": b"v"})     # the body: type byte and value
    seal(body, version)                             # what RESTORE takes
"""
from __future__ import annotations

import random
import struct

TABLE = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x95AC9329AC4BC9B5 if _byte & 1 else 0)
    TABLE.append(_byte)


def crc64(data: bytes) -> int:
    crc = 0
    for b in data:
        crc = TABLE[(crc ^ b) & 255] ^ crc >> 8
    return crc


def seal(body: bytes, version: int = 10) -> bytes:
    body += version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


class Choice:
    """Which of several right ways an encoder takes. Without a seed, the one that Redis takes."""

    def __init__(self, seed: int | None = None):
        self.rng = random.Random(seed) if seed is not None else None

    def __call__(self, usual: bool) -> bool:
        return usual if self.rng is None else self.rng.random() < 0.5


def integer(text: bytes, bits: int = 64) -> int | None:
    """The number that a text is in canonical form, if it fits."""
    try:
        n = int(text)
    except ValueError:
        return None
    return n if str(n).encode() == text and -1 << bits - 1 <= n < 1 << bits - 1 else None


def fit(n: int, sizes) -> int:
    return next(size for size in sizes if -1 << 8 * size - 1 <= n < 1 << 8 * size - 1)


def signed(n: int, size: int) -> bytes:
    return n.to_bytes(size, "little", signed=True)


# ---- lengths and texts ---------------------------------------------------------------------------
def length(n: int, choice=Choice()) -> bytes:
    if n < 64 and choice(True):
        return bytes([n])
    if n < 1 << 14 and choice(True):
        return bytes([0x40 | n >> 8, n & 255])
    if n < 1 << 32 and choice(True):
        return b"\x80" + n.to_bytes(4, "big")
    return b"\x81" + n.to_bytes(8, "big")


def lzf(data: bytes) -> bytes:
    """Repetitions are found by asking bytes.rfind."""
    out, plain, i = b"", b"", 0

    def literals():
        return b"".join(bytes([len(plain[k:k + 32]) - 1]) + plain[k:k + 32]
                        for k in range(0, len(plain), 32))

    while i < len(data):
        n, at = 0, -1
        while n < 264 and i + n < len(data):
            found = data.find(data[i:i + n + 1], max(0, i - 8192), i + n)
            if found < 0 or found >= i:
                break
            n, at = n + 1, found
        if n < 3:
            plain += data[i:i + 1]
            i += 1
            continue
        out += literals()
        plain = b""
        back, code = i - at - 1, n - 2
        out += bytes([min(code, 7) << 5 | back >> 8]) + (bytes([code - 7]) if code >= 7
                                                         else b"") + bytes([back & 255])
        i += n
    return out + literals()


def text(data: bytes, choice=Choice()) -> bytes:
    n = integer(data, 32)
    if n is not None and choice(True):
        size = fit(n, (1, 2, 4))
        return bytes([0xC0 | (size // 2 if size < 4 else 2)]) + signed(n, size)
    if len(data) > 20 and choice(True):
        packed = lzf(data)
        if len(packed) < len(data):
            return b"\xc3" + length(len(packed), choice) + length(len(data), choice) + packed
    return length(len(data), choice) + data


# ---- packed forms --------------------------------------------------------------------------------
def listpack(items, choice=Choice()) -> bytes:
    out = b""
    for item in items:
        n = integer(item)
        if n is not None and choice(True):
            if 0 <= n < 128 and choice(True):
                entry = bytes([n])
            elif -4096 <= n < 4096 and choice(True):
                entry = bytes([0xC0 | (n & 0x1FFF) >> 8, n & 255])
            else:
                size = fit(n, (2, 3, 4, 8))
                entry = bytes([{2: 0xF1, 3: 0xF2, 4: 0xF3, 8: 0xF4}[size]]) + signed(n, size)
        elif len(item) < 64 and choice(True):
            entry = bytes([0x80 | len(item)]) + item
        elif len(item) < 4096 and choice(True):
            entry = bytes([0xE0 | len(item) >> 8, len(item) & 255]) + item
        else:
            entry = b"\xf0" + struct.pack("<I", len(item)) + item
        n = len(entry)
        # one less than the bits would hold
        more = 0 if n < 128 else 1 if n < 16383 else 2 if n < 2097151 else 3
        out += entry + bytes([n >> 7 * i & 127 | (128 if i < more else 0)
                              for i in range(more, -1, -1)])
    count = len(items) if len(items) < 65535 and choice(True) else 65535
    return struct.pack("<IH", len(out) + 7, count) + out + b"\xff"


def ziplist(items, choice=Choice()) -> bytes:
    out, before, tail = b"", 0, 10
    for item in items:
        tail = 10 + len(out)
        entry = (bytes([before]) if before < 254 and choice(True)
                 else b"\xfe" + struct.pack("<I", before))
        n = integer(item)
        if n is not None and len(item) < 32 and choice(True):
            if 0 <= n <= 12 and choice(True):
                entry += bytes([0xF1 + n])
            else:
                size = fit(n, (1, 2, 3, 4, 8))
                entry += bytes([{1: 0xFE, 2: 0xC0, 3: 0xF0, 4: 0xD0,
                                 8: 0xE0}[size]]) + signed(n, size)
        elif len(item) < 64 and choice(True):
            entry += bytes([len(item)]) + item
        elif len(item) < 1 << 14 and choice(True):
            entry += bytes([0x40 | len(item) >> 8, len(item) & 255]) + item
        else:
            entry += b"\x80" + struct.pack(">I", len(item)) + item
        before = len(entry)
        out += entry
    count = len(items) if len(items) < 65535 and choice(True) else 65535
    return struct.pack("<IIH", len(out) + 11, tail, count) + out + b"\xff"


def zipmap(pairs: dict, choice=Choice()) -> bytes:
    def size(n):
        return bytes([n]) if n < 254 else b"\xfe" + struct.pack("<I", n)

    out = bytes([len(pairs) if len(pairs) < 254 and choice(True) else 254])
    for name, value in pairs.items():
        unused = 0 if choice(True) else 3
        out += size(len(name)) + name + size(len(value)) + bytes([unused]) + value + b"?" * unused
    return out + b"\xff"


def intset(members, choice=Choice()) -> bytes:
    numbers = sorted(map(int, members))
    size = next(s for s in (2, 4, 8) if all(-1 << 8 * s - 1 <= n < 1 << 8 * s - 1 for n in numbers)
                and (s == 8 or choice(True)))
    return struct.pack("<II", size, len(numbers)) + b"".join(signed(n, size) for n in numbers)


# ---- values --------------------------------------------------------------------------------------
def shown(score: float) -> bytes:
    """As Redis writes a score: whole numbers without a point, others with 17 digits."""
    return b"%d" % int(score) if abs(score) < 1 << 52 and score == int(score) else b"%.17g" % score


def score_text(score: float) -> bytes:
    if score in (float("inf"), float("-inf")):
        return b"\xfe" if score > 0 else b"\xff"
    return bytes([len(shown(score))]) + shown(score)


def flat(pairs: dict) -> list[bytes]:
    return [x for name, value in pairs.items()
            for x in (name, shown(value) if isinstance(value, float) else value)]


def texts(items, choice) -> bytes:
    return b"".join(text(x, choice) for x in items)


def nodes(items, choice, pack, plain=False) -> bytes:
    """A quicklist: the items in nodes of a few."""
    parts, items = [], list(items)
    while items:
        if plain and choice(len(items[0]) > 1000) and items[0]:
            parts.append(b"\x01" + text(items.pop(0), choice))
        else:
            n = 1 + len(items[:40]) // 2
            parts.append((b"\x02" if plain else b"") + text(pack(items[:n], choice), choice))
            del items[:n]
    return length(len(parts), choice) + b"".join(parts)


FORMS = {
    "string": lambda c, v: b"\x00" + text(v, c),
    "list": lambda c, v: b"\x01" + length(len(v), c) + texts(v, c),
    "list ziplist": lambda c, v: b"\x0a" + text(ziplist(v, c), c),
    "list quicklist": lambda c, v: b"\x0e" + nodes(v, c, ziplist),
    "list quicklist2": lambda c, v: b"\x12" + nodes(v, c, listpack, True),
    "set": lambda c, v: b"\x02" + length(len(v), c) + texts(v, c),
    "set intset": lambda c, v: b"\x0b" + text(intset(v, c), c),
    "set listpack": lambda c, v: b"\x14" + text(listpack(list(v), c), c),
    "hash": lambda c, v: b"\x04" + length(len(v), c) + texts(flat(v), c),
    "hash zipmap": lambda c, v: b"\x09" + text(zipmap(v, c), c),
    "hash ziplist": lambda c, v: b"\x0d" + text(ziplist(flat(v), c), c),
    "hash listpack": lambda c, v: b"\x10" + text(listpack(flat(v), c), c),
    "zset": lambda c, v: b"\x03" + length(len(v), c) + b"".join(text(m, c) + score_text(s) for m,
                                                                s in v.items()),
    "zset 2": lambda c,
    v: b"\x05" + length(len(v), c) + b"".join(text(m, c) + struct.pack("<d", s) for m,
                                              s in v.items()),
    "zset ziplist": lambda c, v: b"\x0c" + text(ziplist(flat(v), c), c),
    "zset listpack": lambda c, v: b"\x11" + text(listpack(flat(v), c), c),
}


# ---- streams -------------------------------------------------------------------------------------
# A stream is a list of (id, [name, value...]), the id as (ms, seq).

def block(entries: list, choice, gone: int = 0) -> bytes:
    """A block with its id; `gone` removed entries stand before the first that is there."""
    first, common = entries[0]
    names = common[::2]
    items: list = [b"%d" % len(entries), b"%d" % gone, b"%d" % len(names), *names, b"0"]
    for i, (at, fields) in enumerate([((first[0], first[1]), common)] * gone + entries):
        same = fields[::2] == names and choice(True)
        removed = i < gone
        own = fields[1::2] if same else [b"%d" % (len(fields) // 2), *fields]
        items += [b"%d" % (2 * same + removed), b"%d" % (at[0] - first[0]),
                  b"%d" % (at[1] - first[1]), *own, b"%d" % (3 + len(own))]
    return (text(first[0].to_bytes(8, "big") + first[1].to_bytes(8, "big"), choice)
            + text(listpack(items, choice), choice))


def stream(entries: list, version: int = 3, choice=Choice(), *, size: int = 100, top=None,
           gone=(0, 0), added=None, groups: bytes | None = None, removed: int = 0) -> bytes:
    blocks = [entries[i:i + size] for i in range(0, len(entries), size)]
    first = entries[0][0] if entries else (0, 0)
    top = top or (entries[-1][0] if entries else (0, 0))
    numbers = [len(entries), *top]
    if version > 1:
        numbers += [*first, *gone, len(entries) if added is None else added]
    return (bytes([{1: 15, 2: 19, 3: 21}[version]]) + length(len(blocks), choice)
            + b"".join(block(b, choice, removed) for b in blocks)
            + b"".join(length(n, choice) for n in numbers)
            + (groups if groups is not None else length(0, choice)))


def raw_id(id: tuple) -> bytes:
    return id[0].to_bytes(8, "big") + id[1].to_bytes(8, "big")


def group(name: bytes, version: int = 3, choice=Choice(), *, last=(0, 0), read: int = -1,
          records=(), consumers=()) -> bytes:
    """records: (id, at, deliveries), consumers: (name, seen, active, ids)."""
    out = text(name, choice) + b"".join(length(n, choice) for n in last)
    if version > 1:
        out += length(read % (1 << 64), choice)
    out += length(len(records), choice)
    for id, at, n in records:
        out += raw_id(id) + at.to_bytes(8, "little", signed=True) + length(n, choice)
    out += length(len(consumers), choice)
    for name, seen, active, ids in consumers:
        out += text(name, choice) + seen.to_bytes(8, "little", signed=True)
        if version == 3:
            out += active.to_bytes(8, "little", signed=True)
        out += length(len(ids), choice) + b"".join(map(raw_id, ids))
    return out


# ---- keys, whatever server they are in -----------------------------------------------------------
def write(call, key: str, kind: str, value) -> None:
    """Makes a key by ordinary commands."""
    if kind == "string":
        call("SET", key, value)
    else:
        items = (flat(value) if kind == "hash"
                 else [x for m, s in value.items() for x in (shown(s), m)] if kind == "zset"
                 else list(value))
        for i in range(0, len(items), 1000):
            call({"list": "RPUSH", "set": "SADD", "hash": "HSET", "zset": "ZADD"}[kind], key,
                 *items[i:i + 1000])


def read(call, key: str):
    """Its value, None for no key."""
    kind = call("TYPE", key).decode()
    if kind == "none":
        return None
    if kind == "string":
        return call("GET", key)
    if kind == "list":
        return call("LRANGE", key, 0, -1)
    if kind == "set":
        return set(call("SMEMBERS", key))
    if kind == "stream":
        return told(call, key)
    flat_reply = (call("HGETALL", key) if kind == "hash"
                  else call("ZRANGE", key, 0, -1, "WITHSCORES"))
    pairs = dict(zip(flat_reply[::2], flat_reply[1::2]))
    return {m: float(s) for m, s in pairs.items()} if kind == "zset" else pairs


def told(call, key, times=False) -> dict:
    """What XINFO STREAM FULL says that servers have in common. times: also when consumers were
    active."""
    def pairs(v):
        return dict(v) if isinstance(v, dict) else dict(zip(v[::2], v[1::2], strict=True))
    about = pairs(call("XINFO", "STREAM", key, "FULL", "COUNT", 0))
    for name in b"radix-tree-keys", b"radix-tree-nodes":
        del about[name]
    about[b"groups"] = {g[b"name"]: g for g in map(pairs, about[b"groups"])}
    for g in about[b"groups"].values():
        assert len(g[b"pending"]) == g[b"pel-count"]
        g[b"consumers"] = {c[b"name"]: c for c in map(pairs, g[b"consumers"])}
        assert sum(c[b"pel-count"] for c in g[b"consumers"].values()) == g[b"pel-count"]
        for c in g[b"consumers"].values():
            if not times:
                c.pop(b"active-time", None)
        del g[b"lag"]
    return about

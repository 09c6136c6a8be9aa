"""crdt-redis dump DIR: what a data directory holds, as JSON, one line for each thing.

    {"file": "segment-...", "replica": ..., ...}        a file begins: what its header says
    {"op": {"actor": "a", "epoch": 1, "seq": 7, "time": ..., "deps": {...}, "effects": [...]},
     "file": ..., "offset": ...}                        offset: of the record that holds it
    {"item": {...}, "file": ..., "offset": ...}         of a checkpoint or stage (proto/state.proto)
    {"damaged": reason, "file": ..., "offset": ...}     what follows goes on behind it

Names and values are strings where they are UTF-8, else {"base64": ...}; positions of list elements
are base64. Hashes of passwords, of users of the cluster, are masked unless asked for. Files are
read one after the other, each from its beginning: what the log has left out (format.py, the chain)
is shown, too. Nothing is written or locked, so it may be run beside the server; of what that is
just writing, the last line says that it ends there.

What proto/ says is the schema here: `Schema` has, for each field, its name and what reads it.
"""
from __future__ import annotations

import base64
import math
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson

from crdtredis._core import plain_op
from crdtredis.errors import EXIT_CONFIG, EXIT_DATA, DamagedBatch, StartError
from crdtredis.storage.batch import HOME_ACTOR, HOME_DB, Op, fields, ops_of
from crdtredis.storage.check import next_record
from crdtredis.storage.checkpoint import checkpoint_numbers, checkpoint_path, open_checkpoint
from crdtredis.storage.format import (FormatError, opened, read_batches, read_header,
                                      segment_numbers, segment_path)
from crdtredis.storage.stage import open_stage, stage_numbers, stage_path

Schema = dict[int, tuple[str, Callable]]        # a name that ends in []: there may be several
SYSTEM_DB = HOME_DB - 1
KINDS = "ASSIGN", "INCREMENT", "REMOVE", "DELETE", "DEADLINE", "FLUSH", "CLEAR", "PATCH"
TYPES = ("STRING", "HASH", "SET", "ZSET", "LIST", "FIELD_DEADLINE", "STREAM", "STREAM_HEAD",
         "STREAM_GROUPS")
SORTS = "SAME", "KEY", *TYPES[1:]
USERS = SYSTEM_DB, "users"                      # of the whole cluster: rules by name
SCORE = 8                                       # bytes


def main(folder: str, secrets: bool = False) -> int:
    """Print it to standard output. 0, or EXIT_DATA where something is damaged. StartError, OSError.
    """

    where = Path(folder)
    if not where.is_dir():
        raise StartError(f"{where}: no such directory", EXIT_CONFIG)
    if not (segment_numbers(where) or checkpoint_numbers(where) or stage_numbers(where)):
        raise StartError(f"{where}: no data directory of a replica", EXIT_DATA)
    names = Names(secrets)
    damaged = False
    for line in lines(where, names):
        damaged |= "damaged" in line
        sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()
    return EXIT_DATA if damaged else 0


def mask(rules: bytes) -> bytes:
    """Rules of a user without what passwords are hashed to."""
    return re.sub(rb"(?<![^ ])#[^ ]*", b"#(redacted)", rules)


def lines(folder: Path, names: Names) -> Iterator[dict]:
    for number in checkpoint_numbers(folder):
        yield from there(state(checkpoint_path(folder, number),
                               lambda n=number: open_checkpoint(folder, n, None), names))
    for number in stage_numbers(folder):
        path = stage_path(folder, number)
        yield from there(state(path, lambda n=number, p=path: open_stage(p, n, None), names))
    for number in segment_numbers(folder):
        yield from there(log(segment_path(folder, number), names))


def there(of: Iterator[dict]) -> Iterator[dict]:
    """Of a file that the server may have removed since it was listed: nothing then."""
    try:
        yield from of
    except FileNotFoundError:
        pass


def damage(path: Path, e: FormatError) -> dict:
    return {"damaged": e.reason, "file": path.name, "offset": e.offset}


def log(path: Path, names: Names) -> Iterator[dict]:
    begin = 0
    try:
        with opened(path) as fd:
            header = read_header(fd)
        begin = header.size
        names.learn(header.actors)
        yield {"file": path.name, "replica": header.replica, "created": time(header.created_ms),
               "follows": header.follows, "repaired": header.repaired,
               "stage": header.joined.stage if header.joined else None}
    except FormatError as e:
        yield damage(path, e)
    for offset, found in records(path, begin):
        if isinstance(found, FormatError):
            yield damage(path, found)
            continue
        try:
            names.declared(found)
            for op in ops_of(found):
                yield {"op": names.op(op), "file": path.name, "offset": offset}
        except (FormatError, KeyError) as e:        # one that must be there is not
            yield {"damaged": f"what the record holds: {e}", "file": path.name, "offset": offset}


def state(path: Path, look: Callable, names: Names) -> Iterator[dict]:
    try:
        begin = look().begin
        yield {"file": path.name, "position": getattr(look(), "position", None)}
    except FormatError as e:
        yield damage(path, e)
        return
    db, key = 0, None
    for offset, found in records(path, begin):
        if isinstance(found, FormatError):
            yield damage(path, found)
            continue
        if found[:1] != b"\x12":                # no piece: the head, the end, the footer
            continue
        sort = "SAME"
        try:
            for _, _, piece, _, _ in fields(found):
                for number, _, body, _, _ in fields(piece):
                    if number != 3:
                        continue
                    item = message(body, ITEM)
                    sort = item["sort"] = item.get("sort", sort)
                    if (db, key) == USERS and isinstance(item.get("value"), bytes):
                        item["value"] = names.masked(item["value"])
                    clear(item, sort)
                    if sort == "KEY":
                        db, key = item.pop("db", 0), item.pop("name", "")
                    yield {"item": {**database(db), "key": key, **item}, "file": path.name,
                           "offset": offset}
        except (FormatError, TypeError, IndexError) as e:
            yield {"damaged": f"what the record holds: {e}", "file": path.name, "offset": offset}


def records(path: Path, begin: int) -> Iterator[tuple[int, bytes | FormatError]]:
    """(offset, payload) of each record that is sound, and what stands between them."""
    with opened(path) as fd:
        end = os.fstat(fd).st_size
        at = begin or next_record(fd, 0, end)
        while at < end:
            try:
                for payload, after, _ in read_batches(fd, at, end, 1):
                    yield at, payload
                    at = after
                return
            except FormatError as e:
                yield e.offset, e
                at = next_record(fd, e.offset + 1, end)


def plain(op: Op) -> bytes:
    """It with its effects as in protobuf; as it is where they are damaged."""
    try:
        return plain_op(op.raw, op.actor)
    except DamagedBatch as e:
        raise FormatError(0, str(e)) from None


class Names:
    """Of actors. secrets: hashes of passwords are shown."""

    def __init__(self, secrets: bool = False) -> None:
        self.of = {HOME_ACTOR: ("local", 0)}
        self.masked = (lambda rules: rules) if secrets else mask

    def learn(self, actors) -> None:
        for actor, replica, epoch in actors:
            self.of[actor] = replica, epoch

    def declared(self, batch: bytes) -> None:
        for number, _, body, _, _ in fields(batch):
            if number == 1:
                a = message(body, ACTOR)
                self.of[a["id"]] = a.get("replica", ""), a.get("epoch", 0)

    def name(self, actor: int) -> str:
        replica, epoch = self.of.get(actor, (f"unknown {actor:016x}", 0))
        return f"{replica}/{epoch}"

    def op(self, op: Op) -> dict:
        m = message(plain(op), OP)
        replica, epoch = self.of.get(op.actor, (f"unknown {op.actor:016x}", 0))
        return {"actor": replica, "epoch": epoch, "seq": op.seq,
                "time": time(m.get("stamp", 0) >> 16), "stamp": m.get("stamp", 0),
                "deps": {self.name(d["actor"]): d.get("seq", 0) for d in m.get("deps", ())},
                "effects": [self.effect(e) for e in m.get("effects", ())]}

    def effect(self, e: dict) -> dict:
        e = {"kind": "ASSIGN", **database(e.pop("db", 0)), **e}
        if e["kind"] in ("ASSIGN", "INCREMENT", "REMOVE", "CLEAR"):
            e.setdefault("type", "STRING")
        if e["kind"] == "ASSIGN" and e["type"] != "SET":
            e.setdefault("value", b"")
        if (e["db"], e.get("key")) == ("system", USERS[1]) and "value" in e:
            e["value"] = self.masked(e["value"])
        clear(e, e.get("type", ""))
        if e["kind"] == "PATCH":                        # proto/crdtredis.proto
            e |= {"root": {"actor": e.pop("actor"), "seq": e.pop("deadline", 0)}
                  if "actor" in e else None}
        elif "deadline" in e:
            e["deadline"] = moment(e["deadline"])
        for x in (e, e.get("root") or {}, *e.get("observed", ())):
            if "actor" in x:
                x["actor"] = self.name(x["actor"])
        return e


def clear(x: dict, type: str) -> None:
    """Name and value as what they are."""
    if "name" in x and type == "LIST":
        x["position"] = packed(x.pop("name"))
    elif "name" in x:
        x["name"] = readable(x["name"])
    if "value" in x:
        score = type == "ZSET" and len(x["value"]) == SCORE
        x["value"] = (shown_float(struct.unpack("<d", x["value"])[0]) if score
                      else readable(x["value"]))


# ---- messages ------------------------------------------------------------------------------------

def message(data: bytes, schema: Schema) -> dict:
    """FormatError where it is none."""
    if not isinstance(data, bytes):
        raise FormatError(0, "no message")
    out: dict = {}
    for number, _, value, begin, _ in fields(data):
        if number not in schema:
            raise FormatError(begin, f"field {number}")
        name, read = schema[number]
        try:
            value = read(value)
        except (AttributeError, IndexError, TypeError, ValueError) as e:
            raise FormatError(begin, f"{name}: {e}") from None
        if name.endswith("[]"):
            out.setdefault(name[:-2], []).append(value)
        else:
            out[name] = value
    return out


def readable(b: bytes):
    try:
        return b.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(b).decode()}


def raw(b: bytes) -> bytes:
    if not isinstance(b, bytes):
        raise TypeError("no bytes")
    return b


def whole(n: int) -> int:
    return n & (1 << 64) - 1


def signed(n: int) -> int:
    """zigzag"""
    n = whole(n)
    return n >> 1 ^ -(n & 1)


def fixed(b: bytes) -> int:
    if len(b) > 8:
        raise ValueError("too long")
    return int.from_bytes(b, "little")


def yes(n: int) -> bool:
    return bool(n)


def one_of(names: tuple[str, ...]) -> Callable[[int], str]:
    return lambda n: names[n]


def fraction(b: bytes):
    """An 80-bit number, as near to it as a double comes."""
    mantissa, rest = fixed(b[:8]), fixed(b[8:])
    sign = -1.0 if rest & 0x8000 else 1.0
    if rest & 0x7fff == 0x7fff:
        return shown_float(sign * math.inf)
    try:
        return sign * math.ldexp(mantissa, (rest & 0x7fff) - 16383 - 63)
    except OverflowError:
        return f"{'-' if sign < 0 else ''}{mantissa}*2^{(rest & 0x7fff) - 16446}"


def shown_float(v: float):
    return v if math.isfinite(v) else str(v)        # JSON has no infinity


def time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


def moment(ms: int) -> str:
    return time(whole(ms)) if ms else "none"


def packed(b: bytes) -> str:
    return base64.b64encode(b).decode()


def database(db: int) -> dict:
    return ({"db": db - HOME_DB, "local": True} if db >= HOME_DB
            else {"db": "system" if db == SYSTEM_DB else db})


def several(schema: Schema) -> Callable[[bytes], dict]:
    return lambda b: message(b, schema)


def exact(b: bytes) -> str:
    m = message(b, {1: ("low", signed), 2: ("limbs", raw), 3: ("plus", whole),
                    4: ("minus", whole)})
    limbs = int.from_bytes(m.get("limbs", b""), "little", signed=True)
    # hexadecimal: Python makes no decimals of thousands of digits
    return f"{limbs:#x}*2^{64 * m.get('low', 0)} +{m.get('plus', 0)}inf -{m.get('minus', 0)}inf"


ACTOR: Schema = {1: ("id", fixed), 2: ("replica", bytes.decode), 3: ("epoch", whole)}
DEP: Schema = {1: ("actor", fixed), 2: ("seq", whole)}
OBSERVED: Schema = {
    1: ("actor", fixed), 2: ("run_seq", whole), 3: ("run_index", whole), 4: ("seq", whole),
    5: ("whole", signed), 6: ("fraction", fraction), 7: ("type", one_of(TYPES)),
    8: ("name", readable), 9: ("key", readable), 10: ("exact", exact)}
EFFECT: Schema = {
    1: ("kind", one_of(KINDS)), 2: ("db", whole), 3: ("key", readable), 4: ("type", one_of(TYPES)),
    5: ("name", raw), 6: ("value", raw), 7: ("keep", yes), 8: ("run_seq", whole),
    9: ("run_index", whole), 10: ("whole", signed), 11: ("fraction", fraction),
    12: ("observed[]", several(OBSERVED)), 13: ("deadline", whole), 14: ("stamp", fixed),
    15: ("actor", fixed), 16: ("exact", exact), 17: ("shown", fraction), 18: ("context", fixed),
    19: ("wide", yes)}
OP: Schema = {1: ("seq", whole), 2: ("stamp", fixed), 3: ("deps[]", several(DEP)),
              4: ("effects[]", several(EFFECT))}
# Of items; who wrote them and when is told by differences from the item before, and left as it is.
WRITE: Schema = {1: ("value", readable), 2: ("actor", whole), 3: ("seq", signed),
                 4: ("stamp", signed), 5: ("keeps", yes), 6: ("by", whole),
                 7: ("deadline", moment), 8: ("loose", yes)}
COUNTER: Schema = {
    1: ("actor", whole), 2: ("seq", signed), 3: ("run", whole), 4: ("run_index", whole),
    5: ("whole", signed), 6: ("fraction", fraction), 7: ("exact", exact),
    8: ("cancelled_seq", whole), 9: ("cancelled_whole", signed),
    10: ("cancelled_fraction", fraction), 11: ("cancelled_exact", exact), 12: ("by_actor", whole),
    13: ("by_seq", whole), 14: ("shown", fraction), 15: ("context", fixed), 16: ("wide", yes)}
ITEM: Schema = {
    1: ("sort", one_of(SORTS)), 2: ("name", raw), 3: ("value", raw), 4: ("actor", whole),
    5: ("seq", signed), 6: ("stamp", signed), 7: ("flags", whole), 8: ("db", whole),
    9: ("stride", whole), 10: ("gaps", packed), 11: ("values[]", readable),
    12: ("writes[]", several(WRITE)), 13: ("deadlines[]", several(WRITE)),
    14: ("counters[]", several(COUNTER)), 15: ("patches", packed)}

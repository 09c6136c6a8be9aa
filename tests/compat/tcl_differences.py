"""Redis 7.0.15's own suite (see tcl.py): how many tests its units have for an external server, and which of them fail here, for a reason."""
from __future__ import annotations

UNITS: dict[str, int] = {
    "type/string": 75, "type/list": 220, "type/list-2": 2, "type/list-3": 11, "type/set": 95, "type/zset": 308, "type/hash": 72, "type/incr": 23,
    "expire": 58, "scan": 17, "keyspace": 52, "multi": 39, "sort": 52, "dump": 11, "geo": 59, "bitops": 45, "bitfield": 16, "protocol": 19, "other": 17,
}
# What a server of 7.2 calls otherwise than one of 7.0. Sets can be told to be as in 7.0, and are; of lists, encodings are not compared.
SETTINGS = {"set_max_listpack_entries": 0}
WITHOUT_ENCODINGS = {"type/list", "type/list-2", "type/list-3", "sort", "keyspace"}
# unit -> patterns of tests that would wait for ever for what is not there, and keep those after them from running
HANGING: dict[str, list[str]] = {}
# unit -> (pattern of the test's name, why it fails)
DIFFERENCES: dict[str, list[tuple[str, str]]] = {}

"""Data directories that earlier versions wrote: this version loads them and shows the same.

golden/0.1.0.tar.gz was written by two processes of replica a, the first of which was killed, beside
two of a replica b that was cut off for a while. So its four segments hold every type, actor
declarations, values, counters and list positions of four actors, concurrent writes of one place,
hidden types, tombstones, deadlines, transactions, and databases that were flushed and swapped.
expected.json in it is what that version showed to clients, and its digest.
"""
import json
import tarfile
from pathlib import Path

import pytest

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.tar.gz"))
READ = {"string": ("GET",), "hash": ("HGETALL",), "set": ("SMEMBERS",),
        "zset": ("ZRANGE", 0, -1, "WITHSCORES"), "list": ("LRANGE", 0, -1)}


def content(server, key: bytes, kind: str):
    """As in expected.json: what has no order of its own is sorted."""
    command, *rest = READ[kind]
    found = server(command, key, *rest)
    if kind == "string":
        return found.decode("latin-1")
    found = [x.decode("latin-1") for x in found]
    if kind == "set":
        return sorted(found)
    if kind == "hash":
        return [x for pair in sorted(zip(found[::2], found[1::2])) for x in pair]
    return found


def shown(server) -> dict:
    """{"db key": [type, content, deadline in ms]} of every key."""
    found = {}
    for db in range(16):
        server("SELECT", db)
        for key in server("KEYS", "*"):
            kind = str(server("TYPE", key), "ascii")
            shown_as = [kind, content(server, key, kind), server("PEXPIRETIME", key)]
            found[f"{db} {key.decode('latin-1')}"] = shown_as
    server("SELECT", 0)
    return found


def test_there_is_a_directory():
    assert GOLDEN


@pytest.mark.parametrize("archive", GOLDEN, ids=lambda p: p.name)
def test_a_directory_of_an_earlier_version_loads(archive, server, tmp_path):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    expected = json.loads((tmp_path / "expected.json").read_text())
    s = server(expected["replica"], data_dir=str(tmp_path / "data"))
    assert shown(s) == expected["keys"]
    assert str(s("CRDT.DIGEST"), "ascii") == expected["digest"]
    s("SET", "written by this version", "1")
    digest = s("CRDT.DIGEST")
    s.restart()
    assert s("CRDT.DIGEST") == digest and s("GET", "written by this version") == b"1"

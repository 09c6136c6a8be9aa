"""Data directories that earlier versions wrote: this version loads them and shows the same.

golden/0.1.0.tar.gz was written by two processes of replica a, the first of which was killed, beside
two of a replica b that was cut off for a while. So its four segments hold every type, actor
declarations, values, counters and list positions of four actors, concurrent writes of one place,
hidden types, tombstones, deadlines, transactions, and databases that were flushed and swapped.
expected.json in it is what that version showed to clients, and its digest.

golden/0.1.0-full-sync.tar.gz is of a replica b that was killed behind a checkpoint, missed what a
did, and took in a's state: a segment of format 2 names the stage, and behind it stands what b wrote
then. Checkpoint, stage and both segments hold the system's database: libraries of functions, some
replaced and deleted, and members.
"""
import json
import tarfile
from pathlib import Path

import pytest

from crdtredis.storage.chain import read_chain
from tests.real.test_members import members

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


def test_what_the_second_one_consists_of(tmp_path):
    with tarfile.open(GOLDEN[0].with_name("0.1.0-full-sync.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    links = read_chain(tmp_path / "data", 2, "b")
    assert [link.stage for link in links] == [None, 1]
    assert [b'"format":2' in p.read_bytes() for p in sorted(tmp_path.glob("data/segment-*"))] == [
        False, True]
    for file in ("checkpoint-*", "stage-*", "segment-*1.log", "segment-*2.log"):
        (path,) = tmp_path.glob("data/" + file)
        assert b"functions" in path.read_bytes(), path


@pytest.mark.parametrize("checkpoints", [True, False], ids=["checkpoint", "log alone"])
@pytest.mark.parametrize("archive", GOLDEN, ids=lambda p: p.name)
def test_a_directory_of_an_earlier_version_loads(archive, checkpoints, server, tmp_path):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    for checkpoint in tmp_path.glob("data/checkpoint-*"):
        if not checkpoints:
            checkpoint.unlink()
    expected = json.loads((tmp_path / "expected.json").read_text())
    s = server(expected["replica"], data_dir=str(tmp_path / "data"))
    assert shown(s) == expected["keys"]
    assert str(s("CRDT.DIGEST"), "ascii") == expected["digest"]
    assert {f: s("FCALL", f, 0, "x").decode() for f in expected.get("functions", ())} == \
        expected.get("functions", {})
    assert {r: m["url"].decode() for r, m in members(s).items()} == expected.get("members", {})
    s("SET", "written by this version", "1")
    digest = s("CRDT.DIGEST")
    s.restart()
    assert s("CRDT.DIGEST") == digest and s("GET", "written by this version") == b"1"

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

golden/0.1.0-short.tar.gz is of a replica a that had no peers at first, saved, was killed, and then
wrote beside a replica b: a segment of format 3 with effects and records of the shorter form, of
every kind but CLEAR, on shared keys and on such as stay at home.
"""
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from crdtredis._core import records_join
from crdtredis.replication import crdtredis_pb2 as pb
from crdtredis.storage import check
from crdtredis.storage.chain import read_chain
from crdtredis.storage.format import opened, read_header
from tests.core.compact import effects_of
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


def test_what_the_third_one_consists_of(tmp_path):
    with tarfile.open(GOLDEN[0].with_name("0.1.0-short.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    (path,) = tmp_path.glob("data/segment-*")
    data, forms, kinds = path.read_bytes(), Counter(), set()
    with opened(path) as fd:
        header = read_header(fd)
    assert header.short and b'"format":3' in data
    at = header.size
    while at < len(data):
        short = data[at + 3] >> 4 == 15
        batch, at, *_ = records_join(data, at, 1)
        for run in pb.Batch.FromString(batch).runs:
            for op in run.ops:
                forms[short, bool(op.compact)] += 1
                kinds |= {(e.kind, e.type) for e in effects_of(op, run.actor)}
    # also such as were written before the other was met
    assert forms[True, True] > 1500 and forms[False, True] > 200 and forms[False, False] > 200
    assert forms[True, False] == 0
    assert {k for k, _ in kinds} == set(pb.Kind.values()) - {pb.CLEAR} and len(kinds) == 16


@pytest.mark.parametrize("archive", GOLDEN, ids=lambda p: p.name)
def test_nothing_is_wrong_with_it(archive, tmp_path, capsys):
    """Nor with a checkpoint that has keys which stay at home: a repair would set it aside."""
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    before = sorted(p.name for p in (tmp_path / "data").iterdir() if p.name != "LOCK")
    assert check.main(str(tmp_path / "data"), True) == 0
    assert "DAMAGED" not in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "data").iterdir() if p.name != "LOCK") == before


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

"""`crdt-redis dump`: what a data directory of a real server holds, as lines of JSON."""
import random
import subprocess

import orjson
import pytest

from tests.real.cluster import executable


def dump(folder, code: int = 0, *flags: str) -> list[dict]:
    done = subprocess.run([*executable(), "dump", *flags, str(folder)], capture_output=True,
                          timeout=60)
    assert done.returncode == code and not done.stderr, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(a directory with a checkpoint and two segments, its lines)"""
    from tests.real.cluster import Server

    a = Server("a", local_keys="home:*").start()
    try:
        for argv in [("SET", "s", b"\xff\0", "PXAT", 4_000_000_000_123), ("INCRBY", "n", -7),
                     ("INCRBYFLOAT", "f", "0.5"), ("INCRBYFLOAT", "wide", "1e4930"),
                     ("INCRBYFLOAT", "wide", "-1e-4900"),
                     ("RPUSH", "l", "x", "y"), ("SADD", "set", "m"),
                     ("ZADD", "z", "2.5", "m", "-inf", "i"), ("HSET", "h", "field", "value"),
                     ("SET", "home:1", "stays"), ("XADD", "x", "1-1", "f", "v"),
                     ("XGROUP", "CREATE", "x", "g", "0"), ("SET", "r", "base"),
                     ("APPEND", "r", "more"), ("APPEND", "t", "piece"), ("SETBIT", "t", 4, 1),
                     ("SAVE",), ("DEL", "n", "s"), ("LPOP", "l"),
                     ("FLUSHALL",), ("SET", "last", "one")]:
            a(*argv)
        a.stop()
        yield a.data_dir, dump(a.data_dir)
    finally:
        a.dispose()


def test_each_op_with_its_effects(written):
    folder, lines = written
    ops = [x["op"] for x in lines if "op" in x]
    assert {op["actor"] for op in ops} == {"a", "local"}
    mine = [op for op in ops if op["actor"] == "a"]
    assert [op["seq"] for op in mine] == list(range(1, len(mine) + 1))
    assert all(op["time"].startswith("20") and op["epoch"] == mine[0]["epoch"] for op in mine)
    assert mine[0]["effects"] == [
        {"kind": "ASSIGN", "db": 0, "key": "s", "type": "STRING", "value": {"base64": "/wA="}},
        {"kind": "DEADLINE", "db": 0, "key": "s", "deadline": "2096-10-02T07:06:40.123+00:00"}]
    effects = [e for op in ops for e in op["effects"]]
    of = {e["key"]: e for e in effects if e["kind"] in ("ASSIGN", "INCREMENT") and "key" in e}
    assert of["n"]["whole"] == -7 and of["f"]["fraction"] == 0.5
    assert [e["value"] for e in effects if e.get("type") == "LIST" and "value" in e] == ["x", "y"]
    assert [e["value"] for e in effects if e.get("type") == "ZSET"] == [2.5, "-inf"]
    assert of["h"] == {"kind": "ASSIGN", "db": 0, "key": "h", "type": "HASH", "name": "field",
                       "value": "value"}
    assert of["set"] == {"kind": "ASSIGN", "db": 0, "key": "set", "type": "SET", "name": "m"}
    assert of["home:1"] == {"kind": "ASSIGN", "db": 0, "local": True, "key": "home:1",
                            "type": "STRING", "value": "stays"}
    # more decimals than Python makes of an integer
    digits, power = of["wide"]["exact"].split()[0].split("*2^")
    assert 10 ** 4929 < int(digits, 16) >> -int(power) < 10 ** 4931
    delete = next(e for e in effects if e["kind"] == "DELETE" and e["key"] == "n")
    assert delete["observed"][0]["whole"] == -7 and delete["observed"][0]["actor"].startswith("a/")
    assert {e["kind"] for e in effects} >= {"FLUSH", "REMOVE"}
    assert {e.get("type") for e in effects} >= {"STREAM", "STREAM_HEAD", "STREAM_GROUPS"}
    rooted, *loose = [e for e in effects if e["kind"] == "PATCH"]
    seq = next(op["seq"] for op in mine if op["effects"][0].get("value") == "base")
    assert rooted == {"kind": "PATCH", "db": 0, "key": "r", "value": "more", "keep": True,
                      "run_seq": 4, "root": {"actor": mine[0]["actor"] + f"/{mine[0]['epoch']}",
                                             "seq": seq}}
    assert loose == [{"kind": "PATCH", "db": 0, "key": "t", "value": "piece", "keep": True,
                      "root": None},
                     {"kind": "PATCH", "db": 0, "key": "t", "value": "\b", "run_seq": 4,
                      "run_index": 3, "root": None}]


def test_the_state_of_a_checkpoint(written):
    _, lines = written
    items = {(x["item"]["key"], x["item"].get("name")): x["item"] for x in lines if "item" in x}
    assert items["h", "field"]["value"] == "value" and items["z", "m"]["value"] == 2.5
    assert items["s", None]["value"] == {"base64": "/wA="}
    assert items["n", None]["counters"][0]["whole"] == -7
    assert items["l", None]["values"] == ["x", "y"]
    assert items["r", None]["value"] == "basemore" and items["t", None]["flags"] & 16
    assert any(x["item"]["sort"] == "STREAM" for x in lines if "item" in x)
    assert items["home:1", None]["local"] and ("set", "m") in items
    assert items["s", None]["deadlines"][0]["deadline"] == "2096-10-02T07:06:40.123+00:00"


def test_nothing_is_written(written):
    folder, lines = written
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    assert dump(folder) == lines
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_damage_is_told_and_passed_over(written, tmp_path):
    folder, lines = written
    path = min(folder.glob("segment-*"))
    data = bytearray(path.read_bytes())
    third = [x for x in lines if "op" in x and x["file"] == path.name][2]
    data[third["offset"] + 9] ^= 1
    (tmp_path / path.name).write_bytes(data)
    found = dump(tmp_path, code=4)
    damaged = [x for x in found if "damaged" in x]
    assert [(x["file"], x["offset"]) for x in damaged] == [(path.name, third["offset"])]
    rest = [x for x in lines if x["file"] == path.name and x.get("offset") != third["offset"]]
    assert [x for x in found if "damaged" not in x] == rest
    (tmp_path / path.name).write_bytes(path.read_bytes()[:-3])
    assert "damaged" in dump(tmp_path, code=4)[-1]
    done = subprocess.run([*executable(), "dump", str(tmp_path / "none")], capture_output=True,
                          text=True)
    assert done.returncode == 2 and "no such directory" in done.stderr


def test_a_file_that_goes_meanwhile(written, tmp_path):
    """The server at work has made a checkpoint, and removed what that supersedes."""
    import shutil

    from crdtredis.storage import dump as dumping

    folder, lines = written
    path = min(folder.glob("segment-*"))
    shutil.copy(path, tmp_path)
    (next_one := tmp_path / "segment-0000000000000002.log").touch()
    walk = dumping.lines(tmp_path, dumping.Names())
    found = [next(walk)]
    next_one.unlink()
    found += walk
    assert found == [x for x in lines if x["file"] == path.name]


def test_bytes_of_any_kind_are_damage_and_no_more(written, tmp_path):
    from pathlib import Path

    from crdtredis._core import record
    from crdtredis.storage import dump as dumping

    folder, lines = written
    rng = random.Random(1)
    for path in (min(folder.glob("segment-*")), min(folder.glob("checkpoint-*"))):
        data = path.read_bytes()
        for _ in range(150):
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(data))] = rng.randrange(256)
            (tmp_path / path.name).write_bytes(changed[:rng.randrange(len(data) + 1)]
                                               if rng.random() < 0.3 else changed)
            orjson.dumps(list(dumping.lines(Path(tmp_path), dumping.Names())))
    # sound as bytes, but none of what they should be
    begin = next(x["offset"] for x in lines if "op" in x)
    head = min(folder.glob("segment-*")).read_bytes()[:begin]
    bodies = [x for x in (rng.randbytes(rng.randrange(1, 60)) for _ in range(500))]
    (tmp_path / min(folder.glob("segment-*")).name).write_bytes(
        head + b"".join(record(x) for x in bodies))
    found = orjson.loads(orjson.dumps(list(dumping.lines(Path(tmp_path), dumping.Names()))))
    assert sum("damaged" in x for x in found) > 400


def test_hashes_of_passwords_are_shown_to_who_asks(processes):
    from tests.real.cluster import Server

    a = Server("a", replicate_acl="yes").start()
    a("ACL", "SETUSER", "bob", "on", ">secret", "~#k", "+get")
    a("SAVE")
    a("ACL", "SETUSER", "eve", ">secret", b"~\xff", "+get")
    a("SET", "users", "#stays")
    a.stop()
    hashed = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    text = str(dump(a.data_dir))
    assert hashed not in text and "#(redacted)" in text and "'#stays'" in text
    shown = str(dump(a.data_dir, 0, "--secrets"))
    # of eve all is in base64, for her pattern
    assert shown.count(hashed) == 2 and len(shown) > len(text)

"""Consumer groups in copies: COPY, RENAME, MOVE, SWAPDB, DUMP and RESTORE, also of groups that have
entries to give out below what they gave out last; payloads of every form, and damaged ones."""
import random

import pytest

from crdtredis._core import probe_memory
from tests.commands import payloads
from tests.commands.payloads import length, raw_id, seal, told
from tests.commands.run import NOW, Client
from tests.compat.test_group_exchange import history
from tests.core.test_groups import meet, new, pending, read, two
from tests.core.test_state import Node
from tests.respclient import ReplyError
from tests.simulation.views import told_groups


@pytest.fixture
def c():
    return Client()


def run(c, seed):
    for argv in history(random.Random(seed)):
        c.now += 1
        try:
            c(*argv)
        except ReplyError:
            pass


@pytest.mark.parametrize("seed", range(40))
def test_a_copy_is_as_the_original(c, seed):
    run(c, seed)
    before = told(c, "s", times=True)
    c.now += 1000
    assert c("COPY", "s", "t") == 1 and told(c, "t", times=True) == before
    c("RENAME", "t", "u"), c("MOVE", "u", 1), c("SELECT", 1), c("SWAPDB", 0, 1)
    assert told(c, "s", times=True) == before
    c.replica.check()
    c("COPY", "s", "t")
    for g in before[b"groups"]:
        for command in (("XADD", "500-1", "f", "v"), ("XGROUP", "CREATE", g, 0),
                        ("XREADGROUP", g, 2), ("XACK", g, "1-1", "2-1", "3-1"),
                        ("XDEL", "3-1"), ("XREADGROUP", g, 100)):
            assert done(c, "t", *command) == done(c, "s", *command)
            assert told(c, "t", times=True) == told(c, "s", times=True)
    c.replica.check()


def done(c, key, name, *rest):
    try:
        if name == "XREADGROUP":
            reply = c(name, "GROUP", rest[0], "x", "COUNT", rest[1], "STREAMS", key, ">")
            return reply and reply[0][1]
        if name == "XGROUP":
            return c(name, rest[0], key, *rest[1:])
        return c(name, key, *rest)
    except ReplyError as e:
        return str(e)


def late():
    """A group that has given out 5-1 to 20-1 at a, where 12-1 and 13-1 came then."""
    a, b = two("5-1", "9-1")
    b("XADD", "s", "12-1", "f", "v"), b("XADD", "s", "13-1", "f", "v")
    a("XADD", "s", "20-1", "f", "v")
    assert read(a) == ["5-1", "9-1", "20-1"]
    meet(a, b)
    assert new(a) == [(12, 1), (13, 1)]
    return a, b


def test_what_comes_late_is_given_out_by_a_copy():
    a, b = late()
    a("XACK", "s", "g", "5-1")
    a("COPY", "s", "t")
    assert told_groups(a.replica, 0, b"t") == told_groups(a.replica, 0, b"s")
    a("RENAME", "t", "u"), a("XADD", "u", "30-1", "f", "v")
    assert read(a, "x", "COUNT", 1, key="u") == ["12-1"]
    meet(a, b)
    assert told_groups(a.replica, 0, b"u") == told_groups(b.replica, 0, b"u")
    assert read(b, key="u") == ["13-1", "30-1"] and read(b, key="u") == []


def test_what_comes_late_is_not_lost_in_a_payload():
    """A group of Redis has given out all up to an id: some is given out again."""
    a, b = late()
    read(a, "x", "COUNT", 1)
    c = Client()
    assert c("RESTORE", "s", 0, a("DUMP", "s")) == b"OK"
    [g] = told(c, "s")[b"groups"].values()
    assert (g[b"last-delivered-id"], g[b"entries-read"]) == (b"13-0", 3)
    assert [i for i, _ in c("XREADGROUP", "GROUP", "g", "y", "STREAMS", "s", ">")[0][1]] == [
        b"13-1", b"20-1"]
    assert [row[:2] for row in c("XPENDING", "s", "g", "-", "+", 10)] == [
        [b"5-1", b"x"], [b"9-1", b"x"], [b"12-1", b"x"], [b"13-1", b"y"], [b"20-1", b"y"]]


def test_two_renames_at_once_give_out_nothing_again():
    a, b = two("1-1", "2-1", "3-1")
    read(a, "x", "COUNT", 2)
    meet(a, b)
    b.replica.now += 5
    a("RENAME", "s", "t"), b("RENAME", "s", "t")
    meet_at(a, b, b"t")
    assert new(a, b"t") == [(3, 1)] and len(pending(b, "t")) == 2


def meet_at(a, b, key):
    to_a, to_b = b.log[b.told:], a.log[a.told:]
    a.told, b.told = len(a.log), len(b.log)
    a.receive(to_a), b.receive(to_b)
    a.replica.check(), b.replica.check()
    assert a.replica.digest() == b.replica.digest()
    assert told_groups(a.replica, 0, key) == told_groups(b.replica, 0, key)


def test_a_new_round_of_a_copy():
    a, b = two("1-1", "2-1", "3-1")
    read(a)
    a("RENAME", "s", "t")
    a("XGROUP", "SETID", "t", "g", "1-1")
    assert new(a, b"t") == [(2, 1), (3, 1)]


def test_a_copy_over_itself_and_over_another(c):
    run(c, 3)
    before = told(c, "s")
    c("XADD", "t", "1-1", "f", "v"), c("XGROUP", "CREATE", "t", "other", 0)
    c("XREADGROUP", "GROUP", "other", "z", "STREAMS", "t", ">")
    c("COPY", "s", "t", "REPLACE")
    assert told(c, "t") == before
    c("RESTORE", "t", 0, c("DUMP", "s"), "REPLACE")
    assert told(c, "t") == before


# ---- payloads ------------------------------------------------------------------------------------

VERSIONS = {15: 1, 19: 2, 21: 3}

def stream(type: int, *groups: bytes, added=3) -> bytes:
    """Without entries."""
    return payloads.stream([], VERSIONS[type], top=(9, 1), added=added,
                           groups=length(len(groups)) + b"".join(groups))


def group(type: int, name=b"g", read=2, records=((3, NOW, 1), (5, NOW + 1, 7)),
          consumers=((b"x", (3,)), (b"y", (5,)))) -> bytes:
    return payloads.group(
        name, VERSIONS[type], last=(5, 1), read=read,
        records=[((ms, 1), at, n) for ms, at, n in records],
        consumers=[(name, NOW + 5, NOW + 4, [(ms, 1) for ms in ids]) for name, ids in consumers])


@pytest.mark.parametrize("type", [15, 19, 21])
def test_each_form(c, type):
    body = stream(type, group(type), group(type, b"h", read=-1, records=(), consumers=()))
    assert c("RESTORE", "s", 0, seal(body, 11)) == b"OK"
    about = told(c, "s", times=True)
    g, h = about[b"groups"][b"g"], about[b"groups"][b"h"]
    assert g[b"last-delivered-id"] == b"5-1"
    assert (g[b"entries-read"], h[b"entries-read"]) == ((0, 0) if type == 15 else (2, None))
    assert g[b"pending"] == [[b"3-1", b"x", NOW, 1], [b"5-1", b"y", NOW + 1, 7]]
    assert g[b"consumers"][b"y"] == {
        b"name": b"y", b"seen-time": NOW + 5, b"active-time": NOW + 4 + (type != 21),
        b"pel-count": 1, b"pending": [[b"5-1", NOW + 1, 7]]}
    assert c("DUMP", "s") == seal(stream(19, *(
        group(19, read=0 if type == 15 else 2), group(
            19, b"h", read=0 if type == 15 else -1, records=(), consumers=())),
        added=0 if type == 15 else 3), 10)


HOSTILE = {
    "a record of nobody": dict(consumers=((b"x", (3,)),)),
    "a record of two": dict(consumers=((b"x", (3, 5)), (b"y", (5,)))),
    "a record of one twice": dict(consumers=((b"x", (3, 3, 5)),)),
    "a record that is not the group's": dict(consumers=((b"x", (3, 4, 5)),)),
    "the same record twice": dict(records=((3, 0, 1), (5, 0, 1), (3, 0, 1))),
    "a consumer twice": dict(consumers=((b"x", (3,)), (b"x", (5,)))),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("type", [15, 19, 21])
def test_false_groups(c, type, name):
    c("SET", "s", "v")
    c.error("RESTORE", "s", 0, b"")
    used = probe_memory()
    body = stream(type, group(type, **HOSTILE[name]))
    assert c.error("RESTORE", "s", 0, seal(body, 11), "REPLACE") == "ERR Bad data format"
    assert c("GET", "s") == b"v" and probe_memory() == used


def test_a_group_twice_and_consumers_of_two_groups(c):
    assert c.error("RESTORE", "s", 0, seal(stream(19, group(19), group(19)))) == (
        "ERR Bad data format")
    assert c("RESTORE", "s", 0, seal(stream(19, group(19), group(19, b"x")))) == b"OK"
    assert c("XPENDING", "s", "x", "-", "+", 9) and len(c("XINFO", "CONSUMERS", "s", "g")) == 2


def test_records_in_any_order(c):
    body = stream(19, group(19, records=((5, NOW, 7), (3, NOW, 1), (4, NOW, 1)),
                            consumers=((b"x", (5, 3)), (b"", (4,)))))
    assert c("RESTORE", "s", 0, seal(body)) == b"OK"
    assert [row[:2] for row in c("XPENDING", "s", "g", "-", "+", 9)] == [
        [b"3-1", b"x"], [b"4-1", b""], [b"5-1", b"x"]]


def test_each_end_of_a_payload_and_false_counts(c):
    body = stream(21, group(21), group(21, b"h"))
    for n in range(len(body)):
        assert c.error("RESTORE", "s", 0, seal(body[:n], 11)).startswith("ERR Bad data format")
    for n in (255, 1 << 31, 1 << 62):
        damaged = body.replace(length(2) + raw_id((3, 1)), length(n) + raw_id((3, 1)))
        assert damaged != body
        assert c.error("RESTORE", "s", 0, seal(damaged, 11)) == "ERR Bad data format"
    assert c("EXISTS", "s") == 0


def test_names_in_payloads_are_bounded(c):
    """Each record takes that of its group and its owner."""
    for most, over in ((b"n" * 512, b"c"), (b"n" * 513, b"c"), (b"n", b"c" * 513)):
        body = stream(19, group(19, most, records=((1, NOW, 1),), consumers=((over, (1,)),)))
        if len(most) > 512 or len(over) > 512:
            assert c.error("RESTORE", "s", 0, seal(body)) == "ERR Bad data format"
        else:
            c("RESTORE", "t", 0, seal(body))
    assert c("EXISTS", "s", "t") == 1


def test_a_record_whose_owner_went_with_another_group():
    a, b = two("1-1", "2-1")
    c = Node("c", seed=3)
    a("XGROUP", "DESTROY", "s", "g")
    meet(a, b), c.receive(a.log)
    before = len(c.log)
    a("XGROUP", "CREATE", "s", "g", 0)
    read(a)
    b.replica.now += 5
    b("XGROUP", "CREATE", "s", "g", 0)
    c.receive(b.log[b.told:])
    a.receive(b.log[b.told:])
    a("XCLAIM", "s", "g", "y", 0, "1-1")        # y is one of b's group, the later
    c("XGROUP", "DESTROY", "s", "g")
    a.receive(c.log[before:])
    assert [row[:2] for row in pending(a)] == [("1-1", "y"), ("2-1", "x")]
    assert [row[1] for row in a("XINFO", "CONSUMERS", "s", "g")] == [b"x"]
    other = Client()
    assert other("RESTORE", "s", 0, a("DUMP", "s")) == b"OK"
    for copy in (lambda: other("XPENDING", "s", "g"), lambda: (a("COPY", "s", "t"),
                                                               a("XPENDING", "t", "g"))[1]):
        assert copy() == [2, b"1-1", b"2-1", [[b"x", b"1"], [b"y", b"1"]]]

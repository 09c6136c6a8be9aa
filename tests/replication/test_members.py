"""Records of members, and what is to be done with them."""
import pytest

from crdtredis.members import (Member, own_field, read_member, read_removal, removal,
                               removed_field)
from crdtredis.replication.members import MEMBERS_MOST, Members
from crdtredis.replication.wire import Refusal, proto


def members(own="a", **table: Member) -> Members:
    m = Members(own)
    m.update(records(**table))
    return m


def records(**table: Member) -> dict[bytes, bytes]:
    return ({own_field(name): member.record() for name, member in table.items()}
            | {removed_field(name): removal(True, m.since) for name, m in table.items()
               if m.removed})


@pytest.mark.parametrize("member", [Member("", 1), Member("http://h:1", 2 ** 40),
                                    Member("https://[::1]:65535", 5)])
def test_a_record_is_read_as_it_was_written(member):
    assert read_member(member.record()) == member


@pytest.mark.parametrize("record", [
    b"", b"x", b"[]", b"{}", b'{"url":"h:1","since":1}', b'{"url":"http://h:0","since":1}',
    b'{"url":"http://h:1/x","since":1}', b'{"url":"","since":-1}', b'{"url":"","since":1.5}',
    b'{"url":"","since":true}', b'{"url":""}', b'{"removed":true,"since":1}',
    b'{"url":"http://' + b"h" * 300 + b':1","since":1}'])
def test_what_is_no_record_is_passed_over(record, caplog):
    with pytest.raises(ValueError):
        read_member(record)
    m = Members("a")
    m.update({b"b": record, b"c": Member("http://c:1", 1).record(), b"\xff": b"", b"x y": b""})
    assert m.to_call() == {"c": "http://c:1"} and len(caplog.records) == 3


@pytest.mark.parametrize("record", [
    b"", b"[]", b"{}", b'{"removed":true}', b'{"removed":1,"since":1}', b'{"url":"","since":1}',
    b'{"removed":true,"since":-1}', b'{"removed":true,"since":true}'])
def test_what_says_of_no_removal_is_passed_over(record, caplog):
    with pytest.raises(ValueError):
        read_removal(record)
    m = Members("a")
    m.update({removed_field("b"): record, b"removed ": removal(True, 1),
              b"removed x y": removal(True, 1), removed_field("c"): removal(True, 1)})
    assert m.table == {"c": Member("", 1, removed=True)} and len(caplog.records) == 3


def test_a_replica_that_writes_its_address_stays_removed():
    m = members(d=Member("http://d:1", 1, removed=True))
    asked = m.table
    m.update(records(d=Member("http://d:1", 1, removed=True))
             | {own_field("d"): Member("http://d:2", 9).record()})
    assert m.table == {"d": Member("http://d:2", 1, removed=True)}
    assert m.takes_back(asked, "d") and not m.takes_back(None, "d")
    m.update({removed_field("d"): removal(False, 3),
              own_field("d"): Member("http://d:2", 9).record()})
    assert m.table == {"d": Member("http://d:2", 9)} and not m.takes_back(asked, "d")


def test_an_add_takes_back_who_was_removed_before_it_and_nobody_else():
    m = members(d=Member("http://d:1", 1))
    before = m.table
    m.update(records(d=Member("http://d:1", 5, removed=True)))
    assert not m.takes_back(before, "d") and not m.takes_back({}, "d")
    asked = m.table
    assert m.takes_back(asked, "d") and not m.takes_back(asked, "nosuch")
    m.update(records(d=Member("http://d:1", 6, removed=True)))
    assert not m.takes_back(asked, "d")                                 # removed once more


def test_whom_to_call():
    m = members(a=Member("http://a:1", 1), b=Member("http://b:1", 1), c=Member("", 1),
                d=Member("http://d:1", 1, removed=True))
    assert m.to_call() == {"b": "http://b:1"}
    assert m.is_removed("d") and not m.is_removed("b") and not m.is_removed("nosuch")
    m.refuse_removed("b")
    with pytest.raises(Refusal, match="^d was removed from the cluster") as e:
        m.refuse_removed("d")
    assert e.value.code == proto.REMOVED


def test_there_is_a_bound(caplog):
    m = members(**{f"r{i}": Member(f"http://h:{i + 1}", 1) for i in range(MEMBERS_MOST + 5)})
    assert len(m.to_call()) == MEMBERS_MOST and "1005 members" in caplog.text


def test_own_record():
    assert read_member(members().own_record(["http://a:1", "http://x:1"], 7)) == Member(
        "http://a:1", 7)
    assert read_member(members().own_record([], 7)) == Member("", 7)
    mine = members(a=Member("http://x:1", 1))
    assert mine.own_record(["http://a:1", "http://x:1"], 7) is None     # it need not change
    assert read_member(mine.own_record(["http://a:1"], 7)).url == "http://a:1"
    assert members(a=Member("http://x:1", 1, removed=True)).own_record(["http://a:1"], 7) is None


def test_a_loopback_address_gives_way():
    at_home = members(a=Member("http://127.0.0.1:1", 1))
    assert at_home.own_record(["http://127.0.0.1:1"], 7) is None
    found = at_home.own_record(["http://10.0.0.1:1", "http://127.0.0.1:1"], 7)
    assert read_member(found).url == "http://10.0.0.1:1"

"""Records of members, and what is to be done with them."""
import pytest

from crdtredis.members import Member, read_member
from crdtredis.replication.members import MEMBERS_MOST, Members
from crdtredis.replication.wire import Refusal, proto


def members(own="a", **table: Member) -> Members:
    m = Members(own)
    m.update({name.encode(): member.record() for name, member in table.items()})
    return m


@pytest.mark.parametrize("member", [Member("", 1), Member("http://h:1", 2 ** 40, True),
                                    Member("https://[::1]:65535", 5)])
def test_a_record_is_read_as_it_was_written(member):
    assert read_member(member.record()) == member


@pytest.mark.parametrize("record", [
    b"", b"x", b"[]", b"{}", b'{"url":"h:1","since":1,"removed":false}',
    b'{"url":"http://h:0","since":1,"removed":false}',
    b'{"url":"http://h:1/x","since":1,"removed":false}',
    b'{"url":"","since":-1,"removed":false}', b'{"url":"","since":1.5,"removed":false}',
    b'{"url":"","since":true,"removed":false}', b'{"url":"","since":1,"removed":0}',
    b'{"url":"http://' + b"h" * 300 + b':1","since":1,"removed":false}'])
def test_what_is_no_record_is_passed_over(record, caplog):
    with pytest.raises(ValueError):
        read_member(record)
    m = Members("a")
    m.update({b"b": record, b"c": Member("http://c:1", 1).record(), b"\xff": b"", b"x y": b""})
    assert m.to_call() == {"c": "http://c:1"} and len(caplog.records) == 3


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

"""The public contract of concurrent commands on streams, on three real server processes (see
test_semantics.py)."""
from tests.real.cluster import until
from tests.respclient import decode, encode


def entries(w, key: str = "s") -> list:
    return w.all("XRANGE", key, "-", "+")


def ids(reply) -> list[bytes]:
    return [i for i, _ in reply[0][1]] if reply else []


def test_STR_1_all_entries_and_each_to_a_reader_once(w):
    """A XADD s * f 1 || B XADD s * f 2: both, in one order. A reader at A that had A's gets B's."""
    w.apart()
    with w.A.connect() as reader:
        mine = w.A("XADD", "s", "*", "f", 1)
        assert ids(reader("XREAD", "BLOCK", 5000, "STREAMS", "s", 0)) == [mine]
        yours = w.B("XADD", "s", "*", "f", 2)
        reader.socket.sendall(encode("XREAD", "BLOCK", 20000, "STREAMS", "s", mine))
        until(lambda: b"flags=b" in w.A("CLIENT", "LIST"))
        w.S()
        assert ids(decode(reader.raw())) == [yours]
        assert reader("XREAD", "STREAMS", "s", yours) is None
    assert [i for i, _ in entries(w)] == sorted(
        (mine, yours), key=lambda i: tuple(map(int, i.split(b"-")))) and w.all("XLEN", "s") == 2


def test_an_older_id_from_elsewhere_is_not_skipped(w):
    w.apart()
    w.A("XADD", "s", "5-1", "f", 1)
    w.B("XADD", "s", "6-1", "f", 2)
    assert ids(w.B("XREAD", "STREAMS", "s", 0)) == [b"6-1"]
    w.S()
    assert ids(w.B("XREAD", "STREAMS", "s", "6-1")) == [b"5-1"]
    assert ids(w.A("XREAD", "STREAMS", "s", "5-1")) == [b"6-1"]
    assert [i for i, _ in entries(w)] == [b"5-1", b"6-1"]


def test_an_explicit_id_is_a_place(w):
    w.apart()
    w.A("XADD", "s", "5-1", "f", "a")
    w.B("XADD", "s", "5-1", "f", "b")
    w.S()
    (entry,) = entries(w)
    assert entry[0] == b"5-1" and entry[1][1] in (b"a", b"b")


def test_removals_leave_what_they_did_not_see(w):
    w.A("XADD", "s", "1-1", "f", 1)
    w.A("XADD", "t", "1-1", "f", 1)
    w.A("XADD", "u", "1-1", "f", 1)
    w.S()
    w.apart()
    w.A("XTRIM", "s", "MAXLEN", 0)
    w.A("XDEL", "t", "1-1")
    w.A("DEL", "u")
    for key in "stu":
        w.B("XADD", key, "2-1", "f", 2)
    w.S()
    for key in "stu":
        assert [i for i, _ in entries(w, key)] == [b"2-1"]
        told = w.all("XINFO", "STREAM", key)
        assert dict(zip(told[::2], told[1::2]))[b"last-generated-id"] == b"2-1"


def test_the_greatest_top_counts(w):
    w.A("XADD", "s", "1-1", "f", 1)
    w.S()
    w.apart()
    w.A("XSETID", "s", "9-9")
    w.B("XADD", "s", "10-1", "f", 1)
    w.C("XADD", "s", "3-1", "f", 1)
    w.S()
    told = dict(zip(*[iter(w.all("XINFO", "STREAM", "s"))] * 2))
    assert told[b"last-generated-id"] == b"10-1" and told[b"entries-added"] == 3
    assert told[b"length"] == 3

"""Records: whole ones are read back; a cut is told from damage; nothing that was damaged is ever
read as whole."""
import random
import time

import pytest

from crdtredis._core import (Replica, probe_crc32c, probe_record, probe_records, record,
                             record_find, records_join)
from crdtredis._engine import Executor
from crdtredis.replication import crdtredis_pb2 as pb
from crdtredis.storage.format import CutShort, FormatError, opened, read_records

CUT_SHORT, DAMAGED = -1, -2


def test_the_bytes_are_length_checksum_payload():
    record = probe_record(b"abc", before=b"xy")
    assert record[:2] == b"xy"
    length = (3).to_bytes(4, "little")
    assert record[2:] == length + probe_crc32c(length + b"abc").to_bytes(4, "little") + b"abc"


def test_records_are_read_back_in_order():
    payloads = [b"", b"a", random.Random(1).randbytes(5000), b"", b"z" * 77]
    data = b"".join(map(probe_record, payloads))
    assert probe_records(data) == (payloads, 0, len(data))


def test_no_bytes_are_the_end():
    assert probe_records(b"") == ([], 0, 0)


def test_every_cut_gives_the_records_before_it():
    payloads = [b"", b"first", b"x" * 30]
    data, whole = b"", [0]
    for p in payloads:
        data += probe_record(p)
        whole.append(len(data))
    for cut in range(len(data)):
        count = sum(end <= cut for end in whole) - 1
        status = 0 if cut in whole else CUT_SHORT
        assert probe_records(data[:cut]) == (payloads[:count], status, whole[count])


def test_every_flipped_bit_is_found():
    first, second = probe_record(b"the first one"), probe_record(b"the second")
    data = first + second
    for bit in range(len(first) * 8):
        bad = bytearray(data)
        bad[bit // 8] ^= 1 << bit % 8
        payloads, status, at = probe_records(bytes(bad))
        assert payloads == [] and status in (CUT_SHORT, DAMAGED) and at == 0


def test_zeros_are_damage():
    whole = probe_record(b"sound")
    assert probe_records(whole + bytes(4096)) == ([b"sound"], DAMAGED, len(whole))


def test_an_absurd_length_allocates_nothing_and_is_not_whole():
    assert probe_records(b"\xff" * 64)[1] == DAMAGED
    assert probe_records(b"\xff\xff\xff\x7f" + bytes(60))[1] == CUT_SHORT


def test_random_bytes_are_never_a_record():
    rng = random.Random(4)
    for _ in range(2000):
        data = rng.randbytes(rng.randrange(1, 64))
        assert probe_records(data)[0] == []


# ---- short records -------------------------------------------------------------------------------

class Writer:
    """A replica that makes effects in the shorter form."""

    def __init__(self, now: int = 1_700_000_000_000, short: bool = True):
        self.replica = Replica("a", 1, seed=1)
        self.replica.set_members({"a"}, True, short)
        self.replica.now = now
        self.executor = Executor(self.replica)
        self.session = self.executor.session(2)
        self("SET", "first", "declares the actor")

    def __call__(self, *argv) -> bytes:
        self.executor.execute(self.session, [str(x).encode() for x in argv])
        return self.replica.take_ops() or b""


def test_a_record_of_one_op_is_short_and_says_all_of_it():
    w, rng = Writer(), random.Random(3)
    data, batches = b"", []
    for i in range(2000):
        w.replica.now += rng.choice([0, 0, 0, 1, 1 << rng.randrange(36)]) if i < 1900 else 0
        w.replica.now = min(w.replica.now, 2_500_000_000_000)
        batch = w(*rng.choice([("SET", "k", i), ("SADD", "s", i, -i), ("LPUSH", "l", i),
                               ("LPOP", "l"),
                               ("APPEND", "a", "x" * rng.choice([1, 100, 1900, 3000])),
                               ("INCR", "n"), ("DEL", "s")]))
        stamp = pb.Batch.FromString(batch).runs[0].ops[0].stamp if batch else 0
        if not batch:
            continue
        short, plain = record(batch, True), record(batch)
        fits = (stamp & 0xffff) < 64 and len(batch) < 2000
        assert len(short) < len(plain) - 9 if fits else len(batch) > 2000 or short == plain
        for form in (short, plain):
            assert records_join(form, 0, 1) == (batch, len(form), 1, 0, 1)
        data += short if rng.random() < .8 else plain
        batches.append(batch)
        if rng.random() < .1:
            data += record(b"")
    joined, end, count, marks, status = records_join(data, 0, 1 << 30)
    assert (joined, end, count, status) == (b"".join(batches), len(data), len(batches), 0)
    assert marks > 100 and len({len(b) for b in batches}) > 20


@pytest.mark.parametrize("batch", [
    b"",
    Writer(short=False)("SET", "k", "v"),                       # effects in the longer form
    Writer(now=1_500_000_000_000)("SET", "k", "v"),             # before 2020
    Writer(now=1 << 43)("SET", "k", "v"),                       # beyond 2159
    Writer()("SET", "k", "v") + Writer()("SET", "k", "v"),      # two runs
    Writer()("SET", "k", "v" * 2100),
    b"\x12\x00", b"\x0a\x00", b"anything"])
def test_others_have_no_short_form(batch):
    assert record(batch, True) == record(batch)


def test_the_first_op_declares_its_actor_in_a_longer_record():
    w = Writer.__new__(Writer)
    w.replica = Replica("a", 1, seed=1)
    w.replica.set_members({"a"}, True, True)
    w.replica.now = 1_700_000_000_000
    w.executor = Executor(w.replica)
    w.session = w.executor.session(2)
    batch = w("SET", "k", "v")
    assert pb.Batch.FromString(batch).actors and record(batch, True) == record(batch)


def test_damage_of_a_short_record_is_seen():
    w = Writer()
    one, two = record(w("SET", "k", "v"), True), record(w("INCR", "n"), True)
    for at in range(len(one)):
        for bit in range(8):
            bad = bytearray(one + two)
            bad[at] ^= 1 << bit
            joined, end, count, _, status = records_join(bytes(bad), 0, 1 << 30)
            assert (joined, end, count) == (b"", 0, 0) and status < 0
            assert record_find(bytes(bad), 0) == len(one)
    for n in range(len(two)):
        *_, count, _, status = records_join(one + two[:n], 0, 1 << 30)
        assert (count, status) == (1, -1 if n else 0)
        assert record_find(one + two[:n], 1) == -1
    assert record_find(b"\xff" * 100 + two, 0) == 100


def test_what_is_no_short_record_is_seen_at_a_glance():
    """Where a value of ones is torn, each of its bytes could begin one of 2 KB."""
    ones = b"\xff" * (1 << 20)
    begun = time.process_time()
    for _ in range(512):
        probe_crc32c(ones)
    most = time.process_time() - begun
    begun = time.process_time()
    assert record_find(ones, 0) == -1
    assert time.process_time() - begun < most


def test_short_records_in_pieces_of_a_file(tmp_path):
    w = Writer()
    batches = [w("SET", f"k{i}", "v" * (i * 7 % 900)) for i in range(300)]
    data = b"".join(record(b, True) for b in batches) + record(b"")
    path = tmp_path / "segment"
    path.write_bytes(data + b"behind the end")
    with opened(path) as fd:
        for size in (16, 100, 1000, 1 << 20):
            found = list(read_records(fd, 0, len(data), 1, size))
            assert [x[0] for x in found if x[2]] == batches and sum(x[3] for x in found) == 1
            assert [x[1] for x in found][-1] == len(data)
        for cut in (1, 7, 9, 20):
            with pytest.raises(CutShort):
                list(read_records(fd, 0, len(data) - 8 - cut, 1, 64))
        with pytest.raises(FormatError):
            list(read_records(fd, 3, len(data), 1, 64))


def test_a_short_record_byte_for_byte():
    """As it stands in logs, for ever."""
    w = Writer()
    batch = w("SADD", "s", "a", "b")
    op = pb.Batch.FromString(batch).runs[0].ops[0]
    ms, counter = op.stamp >> 16, op.stamp & 0xffff
    ms -= 1_577_836_800_000
    body = (w.replica.actor.to_bytes(8, "little") + (ms >> 10).to_bytes(4, "little") + b"\x02"
            + b"\x10\x01\x01s\x01a\x81\x01b")
    word = (15 << 28 | counter << 22 | (ms & 1023) << 12 | len(body)).to_bytes(4, "little")
    assert record(batch, True) == word + probe_crc32c(word + body).to_bytes(4, "little") + body

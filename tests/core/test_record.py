"""Records: whole ones are read back; a cut is told from damage; nothing that was damaged is ever
read as whole."""
import random

from crdtredis._core import probe_crc32c, probe_record, probe_records

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

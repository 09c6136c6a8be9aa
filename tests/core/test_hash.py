"""SipHash-1-3 against an independent Python version of the algorithm, CRC-32C against a bit-by-bit
one and published vectors."""
import random

import pytest

from crdtredis._core import probe_crc32c, probe_siphash

MASK = (1 << 64) - 1


def sip(data, k0, k1, rounds=1, final=3):
    """The algorithm as its authors describe it, with big integers and no cleverness. (2, 4) rounds
    is the original, whose vectors are public."""
    def rot(x, b):
        return (x << b | x >> 64 - b) & MASK

    def round_(v0, v1, v2, v3):
        v0 = v0 + v1 & MASK
        v1 = rot(v1, 13) ^ v0
        v0 = rot(v0, 32)
        v2 = v2 + v3 & MASK
        v3 = rot(v3, 16) ^ v2
        v0 = v0 + v3 & MASK
        v3 = rot(v3, 21) ^ v0
        v2 = v2 + v1 & MASK
        v1 = rot(v1, 17) ^ v2
        return v0, v1, rot(v2, 32), v3

    v = (k0 ^ int.from_bytes(b"somepseu", "big"), k1 ^ int.from_bytes(b"dorandom", "big"),
         k0 ^ int.from_bytes(b"lygenera", "big"), k1 ^ int.from_bytes(b"tedbytes", "big"))
    padded = data + bytes(7 - len(data) % 8) + bytes([len(data) & 255])
    for at in range(0, len(padded), 8):
        m = int.from_bytes(padded[at:at + 8], "little")
        v = (v[0], v[1], v[2], v[3] ^ m)
        for _ in range(rounds):
            v = round_(*v)
        v = (v[0] ^ m, v[1], v[2], v[3])
    v = (v[0], v[1], v[2] ^ 255, v[3])
    for _ in range(final):
        v = round_(*v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def crc(data, start=0):
    sum_ = start ^ 0xffffffff
    for byte in data:
        sum_ ^= byte
        for _ in range(8):
            sum_ = sum_ >> 1 ^ (0x82f63b78 if sum_ & 1 else 0)
    return sum_ ^ 0xffffffff


def test_the_reference_itself_gives_the_published_vector_of_siphash_2_4():
    assert sip(bytes(range(15)), 0x0706050403020100, 0x0f0e0d0c0b0a0908, 2, 4) == 0xa129ca6149be45e5


def test_siphash_1_3_agrees_with_the_reference_at_every_length():
    rng = random.Random(1)
    for n in [*range(70), 1000]:
        data, k0, k1 = rng.randbytes(n), rng.getrandbits(64), rng.getrandbits(64)
        whole, upper = probe_siphash(data, k0, k1)
        assert whole == sip(data, k0, k1) and upper == whole >> 32


@pytest.mark.parametrize("by_tables", [False, True])
@pytest.mark.parametrize("data, expected", [
    (b"", 0), (b"123456789", 0xE3069283),
    # RFC 3720, appendix B.4
    (bytes(32), 0x8a9136aa), (b"\xff" * 32, 0x62a8ab43), (bytes(range(32)), 0x46dd794e),
    (bytes(range(31, -1, -1)), 0x113fdb5c)])
def test_crc32c_gives_the_published_vectors(data, expected, by_tables):
    assert probe_crc32c(data, 0, by_tables) == expected == crc(data)


def test_crc32c_by_hardware_and_by_tables_agree_at_every_length_and_alignment():
    rng = random.Random(2)
    data = memoryview(rng.randbytes(200))
    for begin in range(9):
        for end in range(begin, begin + 90):
            expected = crc(data[begin:end])
            assert (probe_crc32c(data[begin:end]) == probe_crc32c(data[begin:end], 0, True)
                    == expected)


def test_crc32c_can_be_chained():
    data = random.Random(3).randbytes(100)
    for cut in range(101):
        assert probe_crc32c(data[cut:], probe_crc32c(data[:cut])) == crc(data)

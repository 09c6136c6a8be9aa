"""Bitmap commands on one replica, checked against examples and against Python's own big integers;
and what concurrent replicas get."""
import random

import pytest

from tests.commands.local import NOT_INTEGER, NULL, OK, SYNTAX, Local, array, bulk, error, num, sync

BAD_OFFSET = error("ERR bit offset is not an integer or out of range")
BAD_BIT = error("ERR bit is not an integer or out of range")
BAD_TYPE = error("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not "
                 "supported but i64 is.")
MAX, MIN = 2**63 - 1, -2**63


@pytest.fixture
def c():
    return Local()


def bits_of(data: bytes) -> str:
    return "".join(f"{b:08b}" for b in data)


# ---- SETBIT, GETBIT ------------------------------------------------------------------------------
def test_setbit_getbit(c):
    assert c("SETBIT", "k", 7, 1) == num(0) and c("GET", "k") == bulk(b"\1")
    assert c("SETBIT", "k", 7, 0) == num(1) and c("GET", "k") == bulk(b"\0")
    assert c("SETBIT", "k", 16, 1) == num(0) and c("GET", "k") == bulk(b"\0\0\x80")
    assert (c("GETBIT", "k", 16) == num(1) and c("GETBIT", "k", 17) == num(0)
            and c("GETBIT", "k", 100_000) == num(0))
    assert c("GETBIT", "missing", 0) == num(0)
    c("INCRBY", "n", 1)                                    # "1" is 0b00110001
    assert [c("GETBIT", "n", i) for i in range(8)] == [num(int(b)) for b in "00110001"]
    assert c("SETBIT", "n", 6, 1) == num(0) and c("INCR", "n") == num(4)


def test_setbit_without_change_makes_no_effect(c):
    c("SETBIT", "k", 100, 0)
    assert c("STRLEN", "k") == num(13) and c.ops()
    assert c("SETBIT", "k", 100, 0) == num(0) and not c.ops()
    assert c("SETBIT", "k", 104, 0) == num(0) and c("STRLEN", "k") == num(14) and c.ops()


def test_setbit_refuses(c):
    for offset in ("x", "-1", "", "#1", 512 << 23, MAX, MAX + 1):
        assert c("SETBIT", "k", offset, 1) == BAD_OFFSET == c("GETBIT", "k", offset)
    for bit in ("2", "-1", "x", ""):
        assert c("SETBIT", "k", 0, bit) == BAD_BIT
    assert c("GETBIT", "k", (512 << 23) - 1) == num(0) and not c.ops()


# ---- BITCOUNT, BITPOS ----------------------------------------------------------------------------
def test_bitcount_examples(c):
    c("SET", "k", "foobar")
    assert (c("BITCOUNT", "k") == num(26) and c("BITCOUNT", "k", 0, 0) == num(4)
            and c("BITCOUNT", "k", 1, 1, "byte") == num(6))
    assert c("BITCOUNT", "k", 5, 30, "BIT") == num(17) and c("BITCOUNT", "k", -2, -1) == num(7)
    assert (c("BITCOUNT", "k", 0) == SYNTAX == c("BITCOUNT", "k", 0, 1, "x")
            == c("BITCOUNT", "k", 0, 1, "BIT", "x"))
    assert c("BITCOUNT", "k", "x", 1) == NOT_INTEGER
    c("RPUSH", "l", "a")
    # before the key is looked up, as in Redis 8
    for key in ("missing", "l"):
        assert c("BITCOUNT", key, 1) == SYNTAX == c("BITCOUNT", key, 0, 1, "x")
        assert c("BITCOUNT", key, "x", 1) == NOT_INTEGER
        assert c("BITPOS", key, 1, 0, 1, "x") == SYNTAX == c("BITPOS", key, 1, 0, 1, "BIT", 2)
        assert c("BITPOS", key, 1, "x") == NOT_INTEGER
    assert c("BITCOUNT", "missing", -1, -2) == num(0)
    c("SET", "k", "")
    assert c("BITCOUNT", "k") == num(0) == c("BITCOUNT", "k", 0, -1)


def test_bitpos_examples(c):
    c("SET", "k", b"\xff\xf0\x00")
    assert (c("BITPOS", "k", 0) == num(12) and c("BITPOS", "k", 1, 2) == num(-1)
            and c("BITPOS", "k", 1, 7, 15, "BIT") == num(7))
    c("SET", "k", b"\xff\xff\xff")
    # zeros go on beyond the string
    assert c("BITPOS", "k", 0) == num(24) and c("BITPOS", "k", 0, 1) == num(24)
    # but not beyond a given end
    assert c("BITPOS", "k", 0, 0, -1) == num(-1) and c("BITPOS", "k", 0, 5) == num(-1)
    assert c("BITPOS", "missing", 0) == num(0) and c("BITPOS", "missing", 1) == num(-1)
    assert (c("BITPOS", "k", 2) == error("ERR The bit argument must be 1 or 0.")
            and c("BITPOS", "k", "x") == NOT_INTEGER)
    assert (c("BITPOS", "k", 1, 0, 1, "x") == SYNTAX and c("BITPOS", "k", 1, 0, 1, "BIT", "x")
            == SYNTAX)
    c("SET", "k", "")
    assert c("BITPOS", "k", 0) == num(-1) == c("BITPOS", "k", 1)


@pytest.mark.parametrize("seed", range(20))
def test_counting_and_finding_agree_with_strings_of_digits(c, seed):
    rng = random.Random(seed)
    size = rng.choice([1, 7, 8, 9, 31, 255, 256, 257, 1000])
    fill = rng.choice([lambda: rng.randrange(256),
                       lambda: rng.choice([0, 0, 0, 0, 0, 0, 0, 1 << rng.randrange(8)]),
                       lambda: 255])
    data = bytes(fill() for _ in range(size))
    c("SET", "k", data)
    digits = bits_of(data)
    for _ in range(60):
        first, last = sorted(rng.randrange(size * 8) for _ in range(2))
        part = digits[first:last + 1]
        assert c("BITCOUNT", "k", first, last, "BIT") == num(part.count("1"))
        for bit in "01":
            at = part.find(bit)
            assert c("BITPOS", "k", bit, first, last, "BIT") == num(at if at < 0 else first + at)
        first, last = first // 8, last // 8
        assert c("BITCOUNT", "k", first, last) == num(digits[first * 8:last * 8 + 8].count("1"))
        at = digits.find("1", first * 8)
        assert c("BITPOS", "k", 1, first) == num(at)


# ---- BITOP ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(10))
def test_bitop_agrees_with_big_integers(c, seed):
    rng = random.Random(seed)
    values = [rng.randbytes(rng.choice([0, 1, 7, 8, 9, 16, 100])) for _ in range(rng.randint(1, 5))]
    size = max(map(len, values))
    numbers = [int.from_bytes(v.ljust(size, b"\0"), "big") for v in values]
    for i, v in enumerate(values):
        c("SET", f"k{i}", v)
    for name, op in (("AND", int.__and__), ("OR", int.__or__), ("XOR", int.__xor__)):
        expected = numbers[0]
        for n in numbers[1:]:
            expected = op(expected, n)
        assert c("BITOP", name, "to", *[f"k{i}" for i in range(len(values))]) == num(size)
        assert c("GET", "to") == (bulk(expected.to_bytes(size, "big")) if size else NULL)
    assert c("BITOP", "not", "to", "k0") == num(len(values[0]))
    if values[0]:
        assert c("GET", "to") == bulk(bytes(255 - b for b in values[0]))


def test_bitop_examples(c):
    c("MSET", "a", "foobar", "b", "abcdef", "to", "old")
    c("EXPIRE", "to", 100)
    assert (c("BITOP", "AND", "to", "a", "b") == num(6) and c("GET", "to") == bulk("`bc`ab")
            and c.deadline("to") == -1)
    assert c("BITOP", "AND", "to", "a", "missing") == num(6) and c("GET", "to") == bulk(b"\0" * 6)
    assert c("BITOP", "OR", "to", "missing", "gone") == num(0) and c("EXISTS", "to") == num(0)
    c.ops()
    assert c("BITOP", "OR", "to", "missing") == num(0) and not c.ops()
    assert (c("BITOP", "NOT", "to", "a", "b")
            == error("ERR BITOP NOT must be called with a single source key."))
    assert c("BITOP", "NAND", "to", "a") == SYNTAX
    c("INCRBY", "n", 12)
    c("INCRBY", "m", 34)
    # counters share one scratch place
    assert c("BITOP", "XOR", "to", "n", "m", "n") == num(2) and c("GET", "to") == bulk("34")


# ---- BITFIELD ------------------------------------------------------------------------------------
def test_bitfield_examples(c):
    assert c("BITFIELD", "k", "INCRBY", "i5", 100, 1, "GET", "u4", 0) == array(num(1), num(0))
    assert (c("BITFIELD", "k", "SET", "u8", "#1", 255, "GET", "u8", "#1", "GET", "i8",
              8) == array(num(0), num(255), num(-1)))
    assert c("BITFIELD", "k") == array()
    assert c("BITFIELD_RO", "k", "GET", "u8", 8, "GET", "u8", 100_000) == array(num(255), num(0))
    assert (c("BITFIELD_RO", "missing", "GET", "i64", 3) == array(num(0)) and c("EXISTS", "missing")
            == num(0))
    assert (c("BITFIELD_RO", "k", "SET", "u8", 0,
              1) == error("ERR BITFIELD_RO only supports the GET subcommand"))


def test_bitfield_overflow(c):
    for _ in range(2):
        c("BITFIELD", "k", "INCRBY", "u2", 100, 1, "OVERFLOW", "SAT", "INCRBY", "u2", 102, 1)
    call = ("BITFIELD", "k", "INCRBY", "u2", 100, 1, "OVERFLOW", "SAT", "INCRBY", "u2", 102, 1)
    assert c(*call) == array(num(3), num(3)) and c(*call) == array(num(0), num(3))
    assert c("BITFIELD", "k", "OVERFLOW", "FAIL", "INCRBY", "u2", 102, 1) == array(NULL)
    assert c("BITFIELD", "i", "SET", "i8", 0, 127, "INCRBY", "i8", 0, 1) == array(num(0), num(-128))
    assert (c("BITFIELD", "i", "OVERFLOW", "SAT", "INCRBY", "i8", 0, -1, "SET", "i8", 0, 1000,
              "GET", "i8", 0) == array(num(-128), num(-128), num(127)))
    assert (c("BITFIELD", "i", "OVERFLOW", "SAT", "SET", "i8", 0, MIN, "GET", "i8",
              0) == array(num(127), num(-128)))
    assert (c("BITFIELD", "j", "SET", "i64", 0, MAX, "INCRBY", "i64", 0,
              1) == array(num(0), num(MIN)))
    assert (c("BITFIELD", "j", "OVERFLOW", "SAT", "INCRBY", "i64", 0, MIN, "OVERFLOW", "FAIL",
              "INCRBY", "i64", 0, -1) == array(num(MIN), NULL))
    assert (c("BITFIELD", "u", "OVERFLOW", "SAT", "SET", "u63", 0, -1, "GET", "u63", 0, "INCRBY",
              "u63", 0, MIN) == array(num(0), num(MAX), num(0)))


def test_bitfield_fail_still_grows_the_string(c):
    assert c("BITFIELD", "k", "OVERFLOW", "FAIL", "INCRBY", "u2", 0, 100) == array(NULL)
    assert c("GET", "k") == bulk(b"\0")
    c.ops()
    assert (c("BITFIELD", "k", "OVERFLOW", "FAIL", "INCRBY", "u2", 0, 100, "SET", "u8", 0,
              0) == array(NULL, num(0)) and not c.ops())


@pytest.mark.parametrize("words, reply", [
    (["GET"], SYNTAX), (["GET", "u8"], SYNTAX), (["SET", "u8", "0"], SYNTAX),
    (["OVERFLOW"], SYNTAX), (["MUL", "u8", "0", "1"], SYNTAX),
    (["OVERFLOW", "x"], error("ERR Invalid OVERFLOW type specified")),
    (["GET", "u64", "0"], BAD_TYPE), (["GET", "i65", "0"], BAD_TYPE),
    (["GET", "u0", "0"], BAD_TYPE), (["GET", "x8", "0"], BAD_TYPE), (["GET", "", "0"], BAD_TYPE),
    (["GET", "U8", "0"], BAD_TYPE),
    (["GET", "u8", "-1"], BAD_OFFSET), (["GET", "u8", "#"], BAD_OFFSET),
    (["GET", "u8", "x"], BAD_OFFSET), (["GET", "u8", str(512 << 23)], BAD_OFFSET),
    (["GET", "u8", "#2305843009213693953"], BAD_OFFSET), (["SET", "u8", "0", "x"], NOT_INTEGER),
    (["SET", "u8", "0", "1", "GET", "u64", "0"], BAD_TYPE)])
def test_bitfield_refuses(c, words, reply):
    assert c("BITFIELD", "k", *words) == reply
    assert c("EXISTS", "k") == num(0)


@pytest.mark.parametrize("seed", range(20))
def test_fields_agree_with_big_integers(c, seed):
    """SET and GET of random fields, at any offset and width, beside a string of binary digits."""
    rng = random.Random(seed)
    digits = ["0"] * 400
    c("SET", "k", b"\0" * 50)
    for _ in range(100):
        bits = rng.randint(1, 63)
        at = rng.randrange(400 - bits)
        value = rng.getrandbits(bits)
        old = int("".join(digits[at:at + bits]), 2)
        assert c("BITFIELD", "k", "SET", f"u{bits}", at, value) == array(num(old))
        digits[at:at + bits] = f"{value:0{bits}b}"
        text = "".join(digits)
        at = rng.randrange(400 - 64)
        raw = int(text[at:at + 64], 2)
        assert c("BITFIELD_RO", "k", "GET", "i64", at) == array(num(raw - (raw >> 63 << 64)))
    assert c("GET", "k") == bulk(int("".join(digits), 2).to_bytes(50, "big"))


# ---- concurrent replicas -------------------------------------------------------------------------
def test_concurrent_bits_are_all_kept():
    a, b = Local("a"), Local("b")
    assert a("SETBIT", "k", 0, 1) == num(0)
    sync(a, b)
    a("SETBIT", "k", 1, 1)
    b.later(1)
    b("BITFIELD", "k", "SET", "u1", 2, 1)
    sync(a, b)
    assert a("GET", "k") == b("GET", "k") == bulk(b"\xe0")
    assert OK == a("SET", "k", "x")

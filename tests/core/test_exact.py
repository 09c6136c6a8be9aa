"""Sums without rounding, against Python's fractions."""
import math
import random
from fractions import Fraction

from crdtredis._core import probe_same_text, probe_sum
from crdtredis.replication import crdtredis_pb2 as pb
from tests.core.model import rounded
from tests.simulation.oracle import exact_value, extended_value

LEAST, GREATEST = Fraction(2) ** -16445, (2**64 - 1) * Fraction(2) ** (16384 - 64)


def extended(value: Fraction) -> bytes:
    """The 80-bit number that value is."""
    size = abs(value)
    exponent = (max(math.floor(math.log2(size.numerator) - math.log2(size.denominator)), -16382)
                if size else 0)
    while size >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > -16382 and size and size < Fraction(2) ** exponent:
        exponent -= 1
    mantissa = size / Fraction(2) ** (exponent - 63)
    assert mantissa.denominator == 1 and mantissa < 2**64
    field = exponent + 16383 if mantissa >= 2**63 else 0
    return int(mantissa).to_bytes(8, "little") + (field | (value < 0) << 15).to_bytes(2, "little")


def total_value(total) -> Fraction:
    whole, fraction, exact = total
    return (exact_value(pb.Exact.FromString(exact)) if exact else extended_value(fraction)
            if fraction else Fraction(whole))


def nearest(value: Fraction, bits: int, least: int) -> Fraction:
    """With a mantissa of so many bits of which none counts less than 2^least."""
    near = rounded(value, bits)
    unit = Fraction(2) ** least
    return near if abs(near) >= unit * 2 ** (bits - 1) else round(value / unit) * unit


def random_term(rng):
    if rng.random() < 0.3:
        return rng.choice([0, 1, -1, 2**63 - 1, -2**63, rng.getrandbits(63), -rng.getrandbits(20)])
    bits = rng.choice([1, 2, 53, 64])
    exponent = rng.choice([0, 0, 0, -70, 63, 64, -64, -128, 1000, -1074, 16383, -16445, -16400,
                           rng.randrange(-16445, 16383)])
    mantissa = (rng.getrandbits(bits) | 1 | 1 << bits - 1) * rng.choice([1, -1])
    exponent = max(min(exponent, 16384 - bits), -16445)
    return extended(mantissa * Fraction(2) ** exponent)


def of(term) -> Fraction:
    return Fraction(term) if isinstance(term, int) else extended_value(term)


def check(terms):
    exact = sum(-of(t[0]) if isinstance(t, tuple) else of(t) for t in terms)
    total, real, double = probe_sum(terms)
    assert total_value(total) == exact
    if -2**63 <= exact < 2**63 and exact.denominator == 1:
        assert total == (exact, b"", b"")
    near = nearest(exact, 64, -16445)
    if abs(near) <= GREATEST:
        assert extended_value(real) == near
    near = nearest(exact, 53, -1074)
    assert (double == (float(near) if abs(near) < Fraction(2) ** 1024 else math.inf if near > 0
                       else -math.inf))
    return total


def test_random_sums():
    rng = random.Random(1)
    for _ in range(4000):
        terms = [random_term(rng) for _ in range(rng.choice([1, 2, 2, 3, 8]))]
        check(terms)
        # what is cancelled again leaves nothing
        check([*terms, *((t,) for t in terms)])
        kept = rng.randrange(len(terms))
        assert (total_value(check([*terms, *((t,) for i, t in enumerate(terms) if i != kept)]))
                == of(terms[kept]))


def test_halves_are_rounded_to_the_even_neighbour():
    for bits, at in ((64, 1), (53, 2)):
        top = 2**bits
        for low in (top - 2, top - 1, top // 2, top // 2 + 1):
            for rest in (Fraction(1, 2), Fraction(1, 2) + LEAST, Fraction(1, 2) - LEAST):
                for sign in (1, -1):
                    check([extended(Fraction(sign * low)), extended(Fraction(sign, 2)),
                           extended(sign * (rest - Fraction(1, 2)))])


def test_the_ends_of_the_range():
    for v in (LEAST, GREATEST, Fraction(2) ** -16382, Fraction(2) ** -16382 - LEAST,
              Fraction(2) ** -1074, Fraction(2) ** -1075):
        for sign in (1, -1):
            check([extended(sign * v)])
            check([extended(sign * v)] * 5)
            check([extended(GREATEST), extended(sign * v)])
    assert len(check([extended(GREATEST)] * 100 + [extended(LEAST)])[2]) > 4000


def test_infinities_are_counted():
    plus, minus, nan = (b"\0" * 7 + b"\x80\xff\x7f", b"\0" * 7 + b"\x80\xff\xff",
                        b"\0" * 7 + b"\xc0\xff\x7f")
    assert probe_sum([plus])[::2] == ((0, plus, b""), math.inf)
    assert probe_sum([minus])[::2] == ((0, minus, b""), -math.inf)
    for terms in ([plus, minus], [nan]):
        (whole, fraction, exact), real, double = probe_sum(terms)
        assert ((whole, fraction, pb.Exact.FromString(exact), double)
                == (0, b"", pb.Exact(plus=1, minus=1), 0))
    (_, _, exact), _, double = probe_sum([plus, 5, plus])
    assert (pb.Exact.FromString(exact) == pb.Exact(limbs=(5).to_bytes(8, "little"), plus=2)
            and double == math.inf)


def test_texts_are_compared_without_writing_them():
    rng = random.Random(2)
    equal = 0
    for _ in range(20000):
        near = rng.choice([0, 1, 127, 128, rng.randrange(200),
                           Fraction(rng.randrange(10**18), 10**17), Fraction(1, 2 * 10**17)])
        v, w = (extended(rounded(Fraction(near + Fraction(rng.randrange(-30, 30),
                                                          rng.choice([10**18, 10**19, 2**70,
                                                                      2**56]))) *
                                                                      rng.choice([1, 1, -1])))
                for _ in range(2))
        same, one, other = probe_same_text(v, w)
        assert same == (one == other), (one, other)
        equal += same
    assert 2000 < equal < 18000

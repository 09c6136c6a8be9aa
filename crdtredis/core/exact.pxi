# Sums without rounding.
#
# What an actor added to a counter is one total, and what another has observed of it is cancelled:
# what is left must be exactly what was added since, in every replica. Rounded numbers cannot do
# that:
#
#     INCRBYFLOAT k 123456789, synced;  A: INCRBYFLOAT k 0.1  ||  B: DEL k
#     with 64 bits of mantissa:  (123456789 + 0.1) - 123456789 = 0.09999999999854481
#
# So a total is an integer of as many bits as it takes, times a power of two: limbs of 64 bits at
# multiples of 64, from that of the highest bit to that of the lowest, in two's complement. Clients
# add 64-bit integers and 80-bit or 64-bit floating point numbers, so every sum lies between
# LIMB_LOW and LIMB_HIGH: 4 KB at the most; 123456789.1 takes 24 bytes. A total that is a 64-bit
# integer, as nearly every counter's is, takes none of this. Rounding happens once, when a sum is
# read.
#
# Infinities, which scores can be, are counted by sign, so that they too can be cancelled.
#
# Not chosen: sums of two or three floating point numbers with their exact errors (exact only while
# the terms are near one another in size); decimal numbers (what Redis shows is what binary rounding
# makes of them).
#
# On x86-64 a long double lies in memory as the 80-bit number of the wire format. Elsewhere
# (binary128) it is taken apart, and rounded to the same mantissa. Everything after that is done
# with integers, so it is the same everywhere.

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_need, copy_span, span

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>
    #include <string.h>
    static void crdt_extended_store(char *out, long double v) {
    #if defined(__x86_64__)
        memcpy(out, &v, 10);
    #else
        int e; uint16_t se = signbit(v) ? 0x8000 : 0; uint64_t m = 0; long double f =
        frexpl(fabsl(v), &e); if (isinf(v)) { m = 1ULL << 63; se |= 0x7fff; } else if (v != 0 && e <
        -16381) { m = (uint64_t)rintl(ldexpl(f, 64 + e + 16381)); se |= m >> 63; } else if (v != 0)
        { m = (uint64_t)rintl(ldexpl(f, 64)); if (m == 0) { m = 1ULL << 63; e++; } se |=
        (uint16_t)(e + 16382); } memcpy(out, &m, 8); memcpy(out + 8, &se, 2);
    #endif
    }
    #define crdt_clz(x) __builtin_clzll(x)
    #define crdt_ctz(x) __builtin_ctzll(x)
    """
    void c_extended_store "crdt_extended_store"(char *out, long double v) noexcept nogil
    int clz "crdt_clz"(uint64_t x) noexcept nogil
    int ctz "crdt_ctz"(uint64_t x) noexcept nogil
    long double ldexpl(long double m, int e) noexcept nogil
    long double INFINITY

cdef enum:
    LEAST_BIT = -16445      # exponents of the lowest bit of the least 80-bit number,
    GREATEST_BIT = 16383    # of the highest bit of the greatest,
    LEAST_NORMAL = -16382   # and of the highest bit of the least that has a full mantissa


cdef void extended_store(char *out, long double v) noexcept nogil:
    c_extended_store(out, v)


cdef long double extended_load(const char *p) noexcept nogil:
    cdef Sum s
    sum_zero(&s)
    sum_add_extended(&s, p)
    return sum_real(&s)


# ---- adding --------------------------------------------------------------------------------------

cdef void sum_zero(Sum *s) noexcept nogil:
    s.low = s.n = 0
    s.plus = s.minus = 0


cdef inline uint64_t sign_of(const uint64_t *limb, int n) noexcept nogil:
    """What all limbs above are: 0 or all ones."""
    return 0 - (limb[n - 1] >> 63) if n else 0


cdef void sum_add_limbs(Sum *s, const uint64_t *limb, int low, int n, int negate) noexcept nogil:
    """Adds a number laid out as a Sum is, or takes it away. The limbs may be superfluous, but lie
    within the bounds of a Sum."""
    cdef uint64_t flip = 0 - <uint64_t>negate
    cdef uint64_t above = sign_of(limb, n) ^ flip
    cdef uint64_t fill, x
    cdef uint64_t carry = negate
    cdef int i, below, n_needed
    if n == 0:
        return
    if s.n == 0:
        s.low = low
    fill = sign_of(s.limb, s.n)
    if low < s.low:
        below = s.low - low
        memmove(s.limb + below, s.limb, s.n * sizeof(uint64_t))
        memset(s.limb, 0, below * sizeof(uint64_t))
        s.n += below
        s.low = low
    below = low - s.low
    n_needed = max(s.n, below + n) + 1      # a limb for what is carried, and the sign
    while s.n < n_needed:
        s.limb[s.n] = fill
        s.n += 1
    for i in range(below, s.n):
        x = limb[i - below] ^ flip if i - below < n else above
        s.limb[i] += carry
        carry = s.limb[i] < carry
        s.limb[i] += x
        carry += s.limb[i] < x
    sum_trim(s)


cdef void sum_trim(Sum *s) noexcept nogil:
    cdef int zeros = 0
    while s.n > 1 and s.limb[s.n - 1] == sign_of(s.limb, s.n - 1):
        s.n -= 1
    if s.n == 1 and s.limb[0] == 0:
        s.n = 0
    while zeros < s.n and s.limb[zeros] == 0:
        zeros += 1
    if zeros:
        s.n -= zeros
        s.low += zeros
        memmove(s.limb, s.limb + zeros, s.n * sizeof(uint64_t))
    if s.n == 0:
        s.low = 0


cdef void sum_add_whole(Sum *s, int64_t v) noexcept nogil:
    cdef uint64_t limb = <uint64_t>v
    sum_add_limbs(s, &limb, 0, 1, 0)


cdef inline int limb_of(int bit) noexcept nogil:
    return bit >> 6                         # rounds down


cdef void sum_add_extended(Sum *s, const char *p) noexcept nogil:
    """Any ten bytes. Not a number: an infinity of each sign."""
    cdef uint64_t limb[3]
    cdef uint64_t m
    cdef uint16_t se
    cdef int bit, exponent
    memcpy(&m, p, 8)
    memcpy(&se, p + 8, 2)
    exponent = se & 0x7fff
    if exponent == 0x7fff:
        s.plus += se >> 15 == 0 or m << 1 != 0
        s.minus += se >> 15 == 1 or m << 1 != 0
        return
    bit = max(exponent, 1) - 1 + LEAST_BIT
    limb[0] = m << (bit & 63)
    limb[1] = m >> (64 - (bit & 63)) if bit & 63 else 0
    limb[2] = 0
    sum_add_limbs(s, limb, limb_of(bit), 3, se >> 15)


cdef void sum_add_real(Sum *s, long double v) noexcept nogil:
    cdef char bytes[EXTENDED]
    extended_store(bytes, v)
    sum_add_extended(s, bytes)


cdef inline const uint64_t *limbs_of(const Limbs *x) noexcept nogil:
    return <const uint64_t*>(x + 1)


cdef inline void sum_add_finite(Sum *s, const Number *v, int negate) noexcept nogil:
    cdef uint64_t limb = <uint64_t>v.whole
    if v.more == NULL:
        sum_add_limbs(s, &limb, 0, 1, negate)
    else:
        sum_add_limbs(s, limbs_of(v.more), v.more.low, v.more.n, negate)


cdef void sum_add_number(Sum *s, const Number *v) noexcept nogil:
    sum_add_finite(s, v, 0)
    if v.more != NULL:
        s.plus += v.more.plus
        s.minus += v.more.minus


cdef void sum_add_difference(Sum *s, const Number *v, const Number *less) noexcept nogil:
    sum_add_finite(s, v, 0)
    sum_add_finite(s, less, 1)
    if v.more != NULL:
        s.plus += v.more.plus > (less.more.plus if less.more != NULL else 0)
        s.minus += v.more.minus > (less.more.minus if less.more != NULL else 0)


# ---- reading -------------------------------------------------------------------------------------

cdef int sum_whole(const Sum *s, int64_t *out) noexcept nogil:
    out[0] = 0
    if s.plus or s.minus or s.low < 0:      # the lowest limb is not 0
        return 0
    if s.n == 0:
        return 1
    if s.n == 1 and s.low == 0:
        out[0] = <int64_t>s.limb[0]
        return 1
    out[0] = INT64_MIN if sign_of(s.limb, s.n) else INT64_MAX
    return 2


cdef inline int highest_bit(const Sum *s) noexcept nogil:
    """Exponent of the highest bit of a number above 0."""
    cdef int i = s.n - 1
    while s.limb[i] == 0:                   # a limb that holds nothing but the sign
        i -= 1
    return (s.low + i) * 64 + 63 - clz(s.limb[i])


cdef inline int lowest_bit(const Sum *s) noexcept nogil:
    """Exponent of the lowest bit of a number that is not 0."""
    return s.low * 64 + ctz(s.limb[0])


cdef inline uint64_t limb_at(const Sum *s, int place) noexcept nogil:
    """Of a number above 0."""
    return s.limb[place - s.low] if 0 <= place - s.low < s.n else 0


cdef uint64_t bits_from(const Sum *s, int bit) noexcept nogil:
    """64 bits of a number above 0, of which the lowest has the exponent `bit`."""
    cdef int shift = bit & 63
    cdef uint64_t v = limb_at(s, limb_of(bit)) >> shift
    return v | limb_at(s, limb_of(bit) + 1) << (64 - shift) if shift else v


cdef int sum_size(const Sum *s, Sum *size) noexcept nogil:
    """*size := s without its sign, which is the answer: 1 where it is negative."""
    cdef int negative = sign_of(s.limb, s.n) != 0
    sum_zero(size)
    sum_add_limbs(size, s.limb, s.low, s.n, negative)
    return negative


cdef long double sum_rounded(const Sum *s, int bits, int least) noexcept nogil:
    """To a mantissa of at most 64 bits, of which none has an exponent below `least`."""
    cdef Sum size
    cdef uint64_t m
    cdef long double v
    cdef int bit, negative
    if s.plus or s.minus:
        return 0 if s.plus and s.minus else INFINITY if s.plus else -INFINITY
    if s.n == 0:
        return 0
    negative = sum_size(s, &size)
    bit = max(highest_bit(&size) - bits + 1, least)
    m = bits_from(&size, bit)
    # up where the rest is above a half, or a half and m odd: the bit below m says so with the one
    # below the rest, or with m's last
    if bits_from(&size, bit - 1) & 1 and (m & 1 or lowest_bit(&size) < bit - 1):
        m += 1
        if m == 0:                          # of 64 bits
            m = <uint64_t>1 << 63
            bit += 1
    v = ldexpl(<long double>m, bit)
    return -v if negative else v


cdef long double sum_real(const Sum *s) noexcept nogil:
    return sum_rounded(s, 64, LEAST_BIT)


cdef double sum_double(const Sum *s) noexcept nogil:
    return <double>sum_rounded(s, 53, -1074)


# ---- in ops and in memory ------------------------------------------------------------------------

cdef void sum_total(const Sum *s, Buffer *b, Total *out) noexcept nogil:
    cdef Sum size
    cdef uint64_t m
    cdef uint16_t se
    cdef int high, low
    memset(out, 0, sizeof(Total))
    b.n = 0
    if sum_whole(s, &out.whole) == 1:
        return
    out.whole = 0
    if s.plus + s.minus == 1 and s.n == 0:
        m = <uint64_t>1 << 63
        se = 0x7fff | s.minus << 15
    else:
        se = sum_size(s, &size) << 15
        high = highest_bit(&size) if size.n else 0
        low = lowest_bit(&size) if size.n else 0
        if s.plus or s.minus or high - low > 63 or not LEAST_NORMAL <= high <= GREATEST_BIT:
            encode_exact(b, s)
            out.exact = span(b.p, b.n)
            return
        m = bits_from(&size, high - 63)
        se |= <uint16_t>(high - LEAST_NORMAL + 1)
    buffer_add(b, &m, 8)
    buffer_add(b, &se, 2)
    out.fraction = span(b.p, b.n)


cdef void number_total(const Number *v, Buffer *b, Total *out) noexcept nogil:
    cdef Sum s
    if v.more == NULL:
        memset(out, 0, sizeof(Total))
        out.whole = v.whole
        return
    sum_zero(&s)
    sum_add_number(&s, v)
    sum_total(&s, b, out)


cdef void number_take(Number *v, const Total *t) noexcept nogil:
    cdef Sum s
    if v.more != NULL:
        number_free(v)
    v.whole = t.whole
    if t.fraction.n == 0 and t.exact.n == 0:
        return
    sum_zero(&s)
    if t.fraction.n:
        sum_add_extended(&s, t.fraction.p)
    else:
        decode_exact(t.exact, &s)           # was examined when it came
    if sum_whole(&s, &v.whole) == 1:
        return
    v.more = <Limbs*>mem_alloc(sizeof(Limbs) + s.n * sizeof(uint64_t))
    v.more.low = s.low
    v.more.n = s.n
    v.more.plus = s.plus
    v.more.minus = s.minus
    memcpy(v.more + 1, s.limb, s.n * sizeof(uint64_t))


cdef size_t number_room(const Number *v) noexcept nogil:
    return 48 + v.more.n * sizeof(uint64_t) if v.more != NULL else 0


cdef void number_free(Number *v) noexcept nogil:
    mem_free(v.more)
    v.more = NULL


# ---- wire form -----------------------------------------------------------------------------------

cdef void encode_exact(Buffer *b, const Sum *s) noexcept nogil:
    """The body of a message Exact."""
    cdef char *p = buffer_need(b, s.n * sizeof(uint64_t) + 48)
    cdef char *start = p
    if s.low:
        p[0] = 1 << 3
        p = put_varint(p + 1, zigzag(s.low))
    if s.n:
        # both supported machines are little endian
        p = put_span(p, 2 << 3 | 2, span(<const char*>s.limb, s.n * sizeof(uint64_t)))
    if s.plus:
        p[0] = 3 << 3
        p = put_varint(p + 1, s.plus)
    if s.minus:
        p[0] = 4 << 3
        p = put_varint(p + 1, s.minus)
    b.n += p - start


cdef int decode_exact(Span body, Sum *out) noexcept nogil:
    """*out, to which infinities and limbs are added: 1, or -1 where the bytes are no message
    Exact."""
    cdef const char *p = body.p
    cdef uint64_t limb[LIMB_HIGH - LIMB_LOW]
    cdef uint32_t before = 0
    cdef Field f
    cdef int64_t low = 0
    cdef size_t n = 0
    cdef int r
    while True:
        r = get_field(&p, body.p + body.n, &f)
        if r != 1:
            break
        if f.number <= before:
            return -1
        before = f.number
        if f.number == 1 and f.wire == 0:
            low = unzigzag(f.v)
        elif (f.number == 2 and f.wire == 2 and f.s.n % sizeof(uint64_t) == 0
              and f.s.n <= sizeof(limb)):
            n = f.s.n // sizeof(uint64_t)
            copy_span(<char*>limb, f.s)
        elif f.number == 3 and f.wire == 0 and f.v >> COUNT_BITS == 0:
            out.plus += f.v
        elif f.number == 4 and f.wire == 0 and f.v >> COUNT_BITS == 0:
            out.minus += f.v
        else:
            return -1
    if r < 0 or low < LIMB_LOW or low > LIMB_HIGH or low + <int64_t>n > LIMB_HIGH:
        return -1
    sum_add_limbs(out, limb, <int>low, <int>n, 0)
    return 1


cdef int exact_is_sound(Span body) noexcept nogil:
    cdef Sum s
    sum_zero(&s)
    return decode_exact(body, &s) == 1

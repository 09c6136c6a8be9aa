# Numbers in text, exactly as Redis reads and writes them. Header only, shared by the codec and the
# kernel.
#
# Integers are Redis's own strict form, one text per value. Real numbers are read by the C library
# (so hexadecimal and "infinity" are accepted, as in Redis) in the C locale, which Python leaves in
# force as long as nobody calls setlocale for numbers. Doubles, which only replies need, are in
# resp/numbers.pxi.

from libc cimport errno as c
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtold
from libc.string cimport memchr, memcpy

cdef extern from *:
    """
    static const char crdt_pairs[] =
        "00010203040506070809101112131415161718192021222324"
        "25262728293031323334353637383940414243444546474849"
        "50515253545556575859606162636465666768697071727374"
        "75767778798081828384858687888990919293949596979899";
    """
    const char *PAIRS "crdt_pairs"

cdef enum:
    # bytes for any long double in decimal, and what a text of one must stay below
    REAL_TEXT = 5120


cdef inline int is_space(char c) noexcept nogil:
    return c == 32 or 9 <= c <= 13


cdef inline int parse_int64(const char *p, size_t n, int64_t *out) noexcept nogil:
    """1 if the span is a 64-bit integer in its only canonical form (no '+', no leading zero, no
    space), else 0."""
    cdef int negative = n > 0 and p[0] == c'-'
    cdef size_t i = negative
    cdef uint64_t v = 0, digit, most = <uint64_t>INT64_MAX + negative
    if n == i or n > 20:
        return 0
    if p[i] == c'0':
        if n > 1:
            return 0
        out[0] = 0
        return 1
    while i < n:
        digit = <unsigned char>p[i] - 48
        if digit > 9 or v > (most - digit) // 10:
            return 0
        v = v * 10 + digit
        i += 1
    out[0] = <int64_t>(0 - v if negative else v)
    return 1


cdef inline int format_uint64(uint64_t v, char *out) noexcept nogil:
    """Writes v and returns the length; out holds at least 20 bytes."""
    cdef int n = 1
    cdef uint64_t rest = v
    while rest >= 100:
        rest //= 100
        n += 2
    n += rest >= 10
    cdef char *at = out + n
    while v >= 100:
        at -= 2
        memcpy(at, PAIRS + v % 100 * 2, 2)
        v //= 100
    if v >= 10:
        memcpy(out, PAIRS + v * 2, 2)
    else:
        out[0] = <char>(48 + v)
    return n


cdef inline int format_int64(int64_t v, char *out) noexcept nogil:
    """Writes v and returns the length; out holds at least 20 bytes."""
    if v >= 0:
        return format_uint64(<uint64_t>v, out)
    out[0] = c'-'
    return 1 + format_uint64(0 - <uint64_t>v, out + 1)


cdef inline int parse_long_double(const char *p, size_t n, long double *out) noexcept nogil:
    """1 if the whole span is a number (infinity allowed, nan and leading space not, nor what
    overflows or vanishes), else 0."""
    cdef char text[REAL_TEXT]
    cdef char *end
    if n == 0 or n >= REAL_TEXT or is_space(p[0]):
        return 0
    memcpy(text, p, n)
    text[n] = 0
    c.errno = 0
    cdef long double v = strtold(text, &end)
    # v - v: not 0 for an infinity
    if end != text + n or v != v or (c.errno == c.ERANGE and (v == 0 or v - v != 0)):
        return 0
    out[0] = v
    return 1


cdef inline int format_long_double(long double v, char *out) noexcept nogil:
    """INCRBYFLOAT's form: 17 decimals less the zeros at the end, never "-0". Returns the length;
    out holds REAL_TEXT bytes."""
    cdef int n = snprintf(out, REAL_TEXT, b"%.17Lf", v)
    if memchr(out, c'.', n) != NULL:                # "inf" has none
        while out[n - 1] == c'0':
            n -= 1
        n -= out[n - 1] == c'.'
    if n == 2 and out[0] == c'-' and out[1] == c'0':
        out[0] = c'0'
        n = 1
    return n

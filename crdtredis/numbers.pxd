# Numbers in text, exactly as Redis reads and writes them. Header only, shared by the codec and the kernel.

from libc.errno cimport ERANGE, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <ctype.h>
    #include <math.h>
    #include <stdio.h>
    #include <stdlib.h>
    static inline int crdt_isspace(char c) { return isspace((unsigned char)c); }
    static inline int crdt_isinf(long double v) { return isinf(v); }
    static inline int crdt_isnan(long double v) { return isnan(v); }
    static inline int crdt_print_real(char *out, size_t n, long double v) { return snprintf(out, n, "%.17Lf", v); }
    """
    int crdt_isspace(char c) noexcept nogil
    int crdt_isinf(long double v) noexcept nogil
    int crdt_isnan(long double v) noexcept nogil
    int crdt_print_real(char *out, size_t n, long double v) noexcept nogil
    long double strtold(const char *p, char **end) noexcept nogil

cdef enum:
    REAL_TEXT = 5120        # longest text of a long double, in either direction


cdef inline int parse_int64(const char *p, size_t n, int64_t *out) noexcept nogil:
    """1 if the span is a 64-bit integer in its only canonical form (no '+', no leading zero, no space), else 0."""
    cdef size_t i = 0
    cdef int negative = 0
    cdef uint64_t v
    cdef int d
    if n == 0 or n > 20:
        return 0
    if p[0] == c'-':
        negative = 1
        i = 1
        if n == 1:
            return 0
    d = p[i] - c'0'
    if d < 0 or d > 9:
        return 0
    if d == 0 and (n > 1):
        return 0
    v = d
    i += 1
    while i < n:
        d = p[i] - c'0'
        if d < 0 or d > 9:
            return 0
        if v > 1844674407370955161ULL or (v == 1844674407370955161ULL and d > 5):
            return 0
        v = v * 10 + d
        i += 1
    if negative:
        if v > 9223372036854775808ULL:
            return 0
        out[0] = <int64_t>(0 - v)
    else:
        if v > 9223372036854775807ULL:
            return 0
        out[0] = <int64_t>v
    return 1


cdef inline int format_int64(int64_t v, char *out) noexcept nogil:
    """Writes v and returns the length; out holds at least 20 bytes."""
    cdef char digits[20]
    cdef int n = 0, at = 0
    cdef uint64_t u = <uint64_t>v
    if v < 0:
        out[0] = c'-'
        at = 1
        u = 0 - u
    while True:
        digits[n] = c'0' + <char>(u % 10)
        n += 1
        u //= 10
        if u == 0:
            break
    while n:
        n -= 1
        out[at] = digits[n]
        at += 1
    return at


cdef inline int parse_long_double(const char *p, size_t n, long double *out) noexcept nogil:
    """1 if the whole span is a number (inf allowed, nan and leading space not), else 0."""
    cdef char text[5121]
    cdef char *end
    cdef long double v
    if n == 0 or n > REAL_TEXT or crdt_isspace(p[0]):
        return 0
    memcpy(text, p, n)
    text[n] = 0
    (&errno)[0] = 0
    v = strtold(text, &end)
    if end != text + n or crdt_isnan(v) or (errno == ERANGE and (crdt_isinf(v) or v == 0)):
        return 0
    out[0] = v
    return 1


cdef inline int format_long_double(long double v, char *out) noexcept nogil:
    """INCRBYFLOAT's form: 17 decimals less trailing zeros. Writes v and returns the length; out holds REAL_TEXT bytes."""
    cdef int n
    if crdt_isinf(v):
        memcpy(out, "-inf" if v < 0 else "inf", 4)
        return 4 if v < 0 else 3
    n = crdt_print_real(out, REAL_TEXT, v)
    while out[n - 1] == c'0':
        n -= 1
    if out[n - 1] == c'.':
        n -= 1
    if n == 2 and out[0] == c'-' and out[1] == c'0':
        out[0] = c'0'
        n = 1
    return n

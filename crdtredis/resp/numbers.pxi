# How is a double read and written?
#
# Scores are compared as text by clients, so the form is part of the protocol: the shortest digits
# that read back as the same double, so 0.1 is "0.1", although the stored value is nearer to
# 0.1000000000000000055. Whole numbers up to 2^62 are written in full; otherwise Redis 7.2's layout
# rules decide between decimal and scientific (see format_double). The digits are found by trying
# 15, 16 and 17 through the C library: correct by construction, about a microsecond, and no
# hot path writes doubles.
#
# Integers and long doubles, which the kernel needs too, are in crdtredis/numbers.pxd.
#
# Limit: a text of 5 KiB or more is refused, as Redis does for long doubles (its ZADD would take
# it).

from libc cimport errno as c
from libc.math cimport isinf, isnan
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod
from libc.string cimport memcpy, memmove, memset

from crdtredis.numbers cimport REAL_TEXT, format_int64, format_uint64, is_space


cdef int parse_double(const char *p, size_t n, double *out) noexcept nogil:
    cdef char text[REAL_TEXT]
    cdef char *end
    if n == 0 or n >= REAL_TEXT or is_space(p[0]):
        return 0
    memcpy(text, p, n)
    text[n] = 0
    c.errno = 0
    cdef double v = strtod(text, &end)
    if end != text + n or isnan(v) or (c.errno == c.ERANGE and (isinf(v) or v == 0)):
        return 0
    out[0] = v
    return 1


cdef int format_double(double v, char *out) noexcept nogil:
    """With D the n significant digits, v = D * 10^scale = d.ddd * 10^power:

    scale >= 0, and no more than six zeros to append   123000
    scale < 0, and few decimals or a small power       0.000123   1234.5678901
    else                                               1.23e-7   1.2345678901e+5
    """
    cdef char text[32]
    cdef char *at = out
    cdef int n, power, scale, digits = 15
    if isnan(v):
        memcpy(out, b"nan", 3)
        return 3
    if v < 0 or (v == 0 and 1 / v < 0):
        at[0] = 45
        at += 1
        v = -v
    if isinf(v):
        memcpy(at, b"inf", 3)
        return <int>(at - out) + 3
    if v <= <double>(<int64_t>1 << 62) and v == <double><int64_t>v:
        return <int>(at - out) + format_int64(<int64_t>v, at)
    if v < 2.2250738585072014e-308:
        digits = 1                          # a subnormal carries fewer digits than 15
    while True:
        snprintf(text, sizeof(text), b"%.*e", digits - 1, v)
        if digits == 17 or strtod(text, NULL) == v:
            break
        digits += 1
    # text is "d.ddde-xx", or "de-xx" for one digit: bring the digits together, and drop zeros at
    # their end
    power = exponent(text + digits + (digits > 1))
    memmove(text + 1, text + 2, digits)
    n = digits
    while text[n - 1] == 48:
        n -= 1
    scale = power - (n - 1)
    cdef int size = power if power >= 0 else -power
    if scale >= 0 and size < n + 7:
        memcpy(at, text, n)
        memset(at + n, 48, scale)
        at += n + scale
    elif scale < 0 and (scale > -7 or size < 4):
        if power < 0:
            memset(at, 48, 1 + size)
            at[1] = 46
            memcpy(at + 1 + size, text, n)
            at += 1 + size + n
        else:
            memcpy(at, text, power + 1)
            at[power + 1] = 46
            memcpy(at + power + 2, text + power + 1, n - power - 1)
            at += n + 1
    else:
        at[0] = text[0]
        at += 1
        if n > 1:
            at[0] = 46
            memcpy(at + 1, text + 1, n - 1)
            at += n
        at[0] = 101
        at[1] = 43 if power >= 0 else 45
        at += 2 + format_uint64(size, at + 2)
    return <int>(at - out)


cdef int exponent(const char *p) noexcept nogil:
    """The number in "e-07" or "e+123"."""
    cdef int v = 0
    cdef const char *digit = p + 2
    while digit[0]:
        v = v * 10 + digit[0] - 48
        digit += 1
    return -v if p[1] == 45 else v

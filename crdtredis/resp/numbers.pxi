# Which texts are numbers, and how is a number written?
#
# Both are part of the protocol: clients compare scores as text, and INCR refuses " 1" and "01". Integers are Redis's own strict
# form, one text per value. Floating point is read by the C library (so hexadecimal and "infinity" are accepted, as in Redis) in the C
# locale, which Python leaves in force as long as nobody calls setlocale for numbers.
#
# A double is written in the shortest form that reads back as the same double: 0.1 is "0.1", although the stored value is nearer to
# 0.1000000000000000055. Whole numbers up to 2^62 are written in full; otherwise Redis 7.2's layout rules decide between decimal and
# scientific (see format_double). Doubles are formatted by trying 15, 16 and 17 digits through the C library: correct by
# construction, about a microsecond, and nothing hot writes them.
#
# Limit: a floating-point text of 5 KiB or more is refused, as Redis does for INCRBYFLOAT (its ZADD would take it).

from libc cimport errno as c
from libc.math cimport isinf, isnan
from libc.stdint cimport INT64_MAX
from libc.stdio cimport snprintf
from libc.stdlib cimport strtod, strtold

cdef enum:
    REAL_TEXT = 5120        # bytes for any long double in decimal, and the limit for texts

cdef const char *PAIRS = (b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                          b"5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899")


cdef inline int is_space(char c) noexcept nogil:
    return c == 32 or 9 <= c <= 13


cdef int parse_int64(const char *p, size_t n, int64_t *out) noexcept nogil:
    cdef int negative = n > 0 and p[0] == 45
    cdef size_t i = negative
    cdef uint64_t v = 0, digit, most = <uint64_t>INT64_MAX + negative
    if n == i or n > 20:
        return 0
    if p[i] == 48:
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


cdef int parse_long_double(const char *p, size_t n, long double *out) noexcept nogil:
    cdef char text[REAL_TEXT]
    cdef char *end
    if n == 0 or n >= REAL_TEXT or is_space(p[0]):
        return 0
    memcpy(text, p, n)
    text[n] = 0
    c.errno = 0
    cdef long double v = strtold(text, &end)
    if end != text + n or v != v or (c.errno == c.ERANGE and (v == 0 or v - v != 0)):      # v - v: not 0 for an infinity
        return 0
    out[0] = v
    return 1


cdef inline int format_uint64(uint64_t v, char *out) noexcept nogil:
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


cdef int format_int64(int64_t v, char *out) noexcept nogil:
    if v >= 0:
        return format_uint64(<uint64_t>v, out)
    out[0] = 45
    return 1 + format_uint64(0 - <uint64_t>v, out + 1)


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
    # text is "d.ddde-xx", or "de-xx" for one digit: bring the digits together, and drop zeros at their end
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


cdef int format_long_double(long double v, char *out) noexcept nogil:
    """17 decimals less the zeros at the end, and never "-0"."""
    cdef int n = snprintf(out, REAL_TEXT, b"%.17Lf", v)
    if memchr(out, 46, n) != NULL:
        while out[n - 1] == 48:
            n -= 1
        n -= out[n - 1] == 46
    if n == 2 and out[0] == 45 and out[1] == 48:
        out[0] = 48
        n = 1
    return n

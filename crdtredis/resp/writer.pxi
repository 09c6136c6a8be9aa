# Replies to bytes, in the dialect the client asked for.
#
# Every function reserves the room for its whole element once and then writes without further
# checks. RESP2 has fewer types: there a map is an array of twice the length, a set or a push an
# array, a boolean an integer, and doubles, big numbers and verbatim strings are bulk strings.

# A client's unsent replies have a limit, beyond which it is closed and sees none of them, unless it
# wants none (CLIENT REPLY). So what one command goes on to make beyond it is dropped as it is made:
# its part of the buffer is begun anew when it is full.

from libc.string cimport memcpy, strlen

from crdtredis.buffer cimport buffer_grow
from crdtredis.numbers cimport format_int64, format_uint64


cdef void reply_grow(Reply *r, size_t more) noexcept nogil:
    """Room for `more` bytes, which there is not."""
    if r.most and (r.over or r.buf.n + more > r.most):
        r.over = 1
        r.buf.n = min(r.keep, r.buf.n)
        if r.buf.cap - r.buf.n >= more:
            return
    buffer_grow(&r.buf, more)


cdef inline char *reply_need(Reply *r, size_t more) noexcept nogil:
    """As buffer_need."""
    if r.buf.cap - r.buf.n < more:
        reply_grow(r, more)
    return r.buf.p + r.buf.n


cdef inline void reply_add(Reply *r, const void *p, size_t n) noexcept nogil:
    if n:
        memcpy(reply_need(r, n), p, n)
        r.buf.n += n


cdef inline char *put_end(char *at) noexcept nogil:
    at[0] = 13
    at[1] = 10
    return at + 2


cdef inline void put_header(Reply *r, char sign, int64_t n) noexcept nogil:
    """A sign, a number and the end of the line."""
    cdef char *at = reply_need(r, 24)
    at[0] = sign
    r.buf.n = put_end(at + 1 + format_int64(n, at + 1)) - r.buf.p


cdef inline void put_line(Reply *r, const char *p, size_t n) noexcept nogil:
    """The bytes and the end of the line."""
    cdef char *at = reply_need(r, n + 2)
    if n:
        memcpy(at, p, n)
    put_end(at + n)
    r.buf.n += n + 2


cdef void reply_raw(Reply *r, const char *p, size_t n) noexcept nogil:
    reply_add(r, p, n)


cdef void reply_ok(Reply *r) noexcept nogil:
    memcpy(reply_need(r, 5), b"+OK\r\n", 5)
    r.buf.n += 5


cdef void reply_simple(Reply *r, const char *text) noexcept nogil:
    reply_add(r, b"+", 1)
    put_line(r, text, strlen(text))


cdef void reply_error(Reply *r, const char *text) noexcept nogil:
    reply_error_span(r, text, strlen(text))


cdef void reply_error_span(Reply *r, const char *p, size_t n) noexcept nogil:
    cdef size_t i, at
    while n and (p[n - 1] == 13 or p[n - 1] == 10):
        n -= 1
    reply_add(r, b"-", 1)
    put_line(r, p, n)
    at = r.buf.n - n - 2
    for i in range(at, at + n):
        if r.buf.p[i] == 13 or r.buf.p[i] == 10:
            r.buf.p[i] = 32


cdef void reply_int(Reply *r, int64_t v) noexcept nogil:
    put_header(r, 58, v)


cdef void reply_bulk(Reply *r, const char *p, size_t n) noexcept nogil:
    cdef char *at = reply_need(r, n + 32)
    at[0] = 36
    at = put_end(at + 1 + format_uint64(n, at + 1))
    if n:
        memcpy(at, p, n)
    r.buf.n = put_end(at + n) - r.buf.p


cdef void reply_null(Reply *r) noexcept nogil:
    if r.resp == 3:
        reply_add(r, b"_\r\n", 3)
    else:
        reply_add(r, b"$-1\r\n", 5)


cdef void reply_null_array(Reply *r) noexcept nogil:
    if r.resp == 3:
        reply_add(r, b"_\r\n", 3)
    else:
        reply_add(r, b"*-1\r\n", 5)


cdef void reply_array(Reply *r, int64_t n) noexcept nogil:
    put_header(r, 42, n)


cdef void reply_map(Reply *r, int64_t pairs) noexcept nogil:
    if r.resp == 3:
        put_header(r, 37, pairs)
    else:
        put_header(r, 42, pairs * 2)


cdef void reply_set(Reply *r, int64_t n) noexcept nogil:
    put_header(r, 126 if r.resp == 3 else 42, n)


cdef void reply_push(Reply *r, int64_t n) noexcept nogil:
    put_header(r, 62 if r.resp == 3 else 42, n)


cdef void reply_double(Reply *r, double v) noexcept nogil:
    cdef char text[40]
    cdef int n = format_double(v, text)
    if r.resp == 3:
        reply_add(r, b",", 1)
        put_line(r, text, n)
    else:
        reply_bulk(r, text, n)


cdef void reply_bool(Reply *r, int v) noexcept nogil:
    if r.resp == 3:
        reply_add(r, b"#t\r\n" if v else b"#f\r\n", 4)
    else:
        put_header(r, 58, v != 0)


cdef void reply_bignum(Reply *r, const char *digits, size_t n) noexcept nogil:
    if r.resp == 3:
        reply_add(r, b"(", 1)
        put_line(r, digits, n)
    else:
        reply_bulk(r, digits, n)


cdef void reply_verbatim(Reply *r, const char *kind, const char *p, size_t n) noexcept nogil:
    """`kind` has three letters."""
    if r.resp == 3:
        put_header(r, 61, n + 4)
        reply_add(r, kind, 3)
        reply_add(r, b":", 1)
        put_line(r, p, n)
    else:
        reply_bulk(r, p, n)

# Replies. Every function appends one complete element (or the header of an aggregate) in the
# dialect of r.resp (2 or 3).

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from crdtredis.buffer cimport Buffer

cdef struct Reply:
    Buffer buf
    int resp
    # there was more than `most`: what is here is not whole, and nobody shall see it
    int over
    size_t most             # bytes; 0: no limit
    size_t keep             # bytes of earlier replies, which stay whole when this one is `over`

cdef void reply_raw(Reply *r, const char *p, size_t n) noexcept nogil
cdef void reply_ok(Reply *r) noexcept nogil
# NUL-terminated, no CR or LF
cdef void reply_simple(Reply *r, const char *text) noexcept nogil
# NUL-terminated, with its code: "ERR ..."; CR and LF become spaces
cdef void reply_error(Reply *r, const char *text) noexcept nogil
cdef void reply_error_span(Reply *r, const char *p, size_t n) noexcept nogil
cdef void reply_int(Reply *r, int64_t v) noexcept nogil
cdef void reply_bulk(Reply *r, const char *p, size_t n) noexcept nogil
cdef void reply_null(Reply *r) noexcept nogil                                  # $-1 or _
cdef void reply_null_array(Reply *r) noexcept nogil                            # *-1 or _
cdef void reply_array(Reply *r, int64_t n) noexcept nogil
cdef void reply_map(Reply *r, int64_t pairs) noexcept nogil                    # %n, or *2n
cdef void reply_set(Reply *r, int64_t n) noexcept nogil                        # ~n, or *n
cdef void reply_push(Reply *r, int64_t n) noexcept nogil                       # >n, or *n
# ,v or a bulk string; see format_double
cdef void reply_double(Reply *r, double v) noexcept nogil
cdef void reply_bool(Reply *r, int v) noexcept nogil                           # #t/#f, or :1/:0
# (n, or a bulk string
cdef void reply_bignum(Reply *r, const char *digits, size_t n) noexcept nogil
# =n txt:..., or a bulk string
cdef void reply_verbatim(Reply *r, const char *kind, const char *p, size_t n) noexcept nogil

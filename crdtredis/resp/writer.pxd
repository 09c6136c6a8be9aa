# Replies. Every function appends one complete element (or the header of an aggregate) in the dialect of r.resp (2 or 3).

cdef struct Reply:
    Buffer buf
    int resp

cdef void reply_raw(Reply *r, const char *p, size_t n) noexcept nogil
cdef void reply_ok(Reply *r) noexcept nogil
cdef void reply_simple(Reply *r, const char *text) noexcept nogil              # NUL-terminated, no CR or LF
cdef void reply_error(Reply *r, const char *text) noexcept nogil               # NUL-terminated, with its code: "ERR ..."; CR and LF become spaces
cdef void reply_error_span(Reply *r, const char *p, size_t n) noexcept nogil
cdef void reply_int(Reply *r, int64_t v) noexcept nogil
cdef void reply_bulk(Reply *r, const char *p, size_t n) noexcept nogil
cdef void reply_null(Reply *r) noexcept nogil                                  # $-1 or _
cdef void reply_null_array(Reply *r) noexcept nogil                            # *-1 or _
cdef void reply_array(Reply *r, int64_t n) noexcept nogil
cdef void reply_map(Reply *r, int64_t pairs) noexcept nogil                    # %n, or *2n
cdef void reply_set(Reply *r, int64_t n) noexcept nogil                        # ~n, or *n
cdef void reply_push(Reply *r, int64_t n) noexcept nogil                       # >n, or *n
cdef void reply_double(Reply *r, double v) noexcept nogil                      # ,v or a bulk string; Redis's %.17g and inf/-inf/nan
cdef void reply_bool(Reply *r, int v) noexcept nogil                           # #t/#f, or :1/:0
cdef void reply_bignum(Reply *r, const char *digits, size_t n) noexcept nogil  # (n, or a bulk string
cdef void reply_verbatim(Reply *r, const char *kind, const char *p, size_t n) noexcept nogil   # =n txt:..., or a bulk string
# A reply made by a plain Python command: None, bool, int, float, bytes (bulk), str (bulk, UTF-8), list/tuple, dict (map), set/frozenset,
# and the marker classes of _resp: Simple(str), Failure(str), Verbatim(str), Push(list), NullArray, Raw(bytes).
cdef int reply_object(Reply *r, object value) except -1

# Numbers in text, exactly as Redis reads and writes them. Return 1 if the whole span is a valid number, else 0.
cdef int parse_int64(const char *p, size_t n, int64_t *out) noexcept nogil            # string2ll: no sign '+', no leading zeros or spaces
cdef int parse_double(const char *p, size_t n, double *out) noexcept nogil            # as getDoubleFromObject: no spaces, inf allowed, nan not
cdef int parse_long_double(const char *p, size_t n, long double *out) noexcept nogil
cdef int format_int64(int64_t v, char *out) noexcept nogil                            # returns length; out holds >= 21 bytes
cdef int format_double(double v, char *out) noexcept nogil                            # as in replies; out holds >= 40 bytes
cdef int format_long_double(long double v, char *out) noexcept nogil                  # INCRBYFLOAT's: %.17Lf less trailing zeros; out holds >= 5 KiB

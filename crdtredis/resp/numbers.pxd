# Numbers in text, exactly as Redis 7.2 reads and writes them.

# Return 1 and set *out if the whole span is a valid number, else 0 and leave *out alone.
cdef int parse_int64(const char *p, size_t n, int64_t *out) noexcept nogil            # no '+', no leading zeros, no spaces
cdef int parse_double(const char *p, size_t n, double *out) noexcept nogil            # no spaces; inf and hexadecimal allowed, nan not
cdef int parse_long_double(const char *p, size_t n, long double *out) noexcept nogil  # the same
# Write without a NUL and return the length.
cdef int format_int64(int64_t v, char *out) noexcept nogil                            # `out` holds >= 21 bytes
cdef int format_double(double v, char *out) noexcept nogil                            # as in replies; `out` holds >= 40 bytes
cdef int format_long_double(long double v, char *out) noexcept nogil                  # as INCRBYFLOAT stores it; `out` holds >= 5 KiB

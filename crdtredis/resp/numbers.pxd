# Doubles in text, exactly as Redis 7.2 reads and writes them. Integers and long doubles:
# crdtredis/numbers.pxd.

from libc.stddef cimport size_t

# 1 and *out if the whole span is a number (no spaces; infinity and hexadecimal allowed, nan not),
# else 0.
cdef int parse_double(const char *p, size_t n, double *out) noexcept nogil
# As in replies; returns the length. `out` holds at least 40 bytes.
cdef int format_double(double v, char *out) noexcept nogil

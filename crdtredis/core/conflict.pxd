# See core/conflict.pxi.

from libc.stdint cimport uint32_t
from libc.string cimport memchr

from crdtredis.buffer cimport Span, span

# What stands for all keys that begin so: a key up to and with its first colon, without one the
# whole of it, at most MEETING_PREFIX bytes.
cdef inline Span key_beginning(Span key) noexcept nogil:
    cdef uint32_t n = <uint32_t>key.n if key.n < MEETING_PREFIX else MEETING_PREFIX
    cdef const char *colon = <const char*>memchr(key.p, b':', n)
    return span(key.p, colon - key.p + 1 if colon != NULL else n)

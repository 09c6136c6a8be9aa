# Records: what a segment file consists of, and what tells a whole one from a torn or a damaged one.
#
#     [length of the payload: u32 LE][CRC-32C of those 4 bytes and the payload: u32 LE][payload]
#
# The checksum covers the length too, so a flipped bit in the length cannot make a shorter record
# look whole, and a stretch of zeros, which some file systems leave after a crash, is damage: the
# sum of four zero bytes is not zero.
#
# The record is built in place: the caller makes room for the head, lets the encoder append the
# payload, and then the head is filled in. Nothing is copied, and the bytes behind the head are what
# peers are sent.
#
# A record holds ops up to RECORD_FULL bytes, or one op. So what a reader must hold at once is
# bounded by the largest op, and a loop iteration that made more is several records; after a crash
# between them the log ends with a whole op like any other.
#
# A reader sees "cut short" where the bytes end inside a record: at the end of the newest segment
# that is a write a crash interrupted, anywhere else damage. Which one it is, storage/recovery.py
# decides; here are only the bytes.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort
from libc.string cimport memcpy

from crdtredis.buffer cimport Buffer, Span, buffer_need, span


cdef void store32(char *p, uint32_t x) noexcept nogil:
    memcpy(p, &x, 4)


cdef size_t record_begin(Buffer *b) noexcept nogil:
    cdef size_t at = b.n
    buffer_need(b, RECORD_HEAD)
    b.n += RECORD_HEAD
    return at


cdef void record_end(Buffer *b, size_t at, Span rest) noexcept nogil:
    cdef size_t n = b.n - at - RECORD_HEAD
    cdef char *head = b.p + at
    cdef uint32_t crc
    # never: no op is as large. What cannot be read again must not be written
    if n + rest.n > RECORD_MAX:
        fprintf(stderr, "crdt-redis: a record of %zu bytes\n", n + rest.n)
        abort()
    store32(head, <uint32_t>(n + rest.n))
    crc = crc32c(crc32c(0, head, 4), head + RECORD_HEAD, n)
    store32(head + 4, crc32c(crc, rest.p, rest.n) if rest.n else crc)


cdef int record_next(const char **p, const char *end, Span *payload) noexcept nogil:
    cdef const char *head = p[0]
    cdef size_t left = end - head
    cdef uint32_t n, crc
    if left == 0:
        return 0
    if left < RECORD_HEAD:
        return -1
    memcpy(&n, head, 4)
    memcpy(&crc, head + 4, 4)
    if n > RECORD_MAX:
        return -2
    if n > left - RECORD_HEAD:
        return -1
    if crc32c(crc32c(0, head, 4), head + RECORD_HEAD, n) != crc:
        return -2
    payload[0] = span(head + RECORD_HEAD, n)
    p[0] = head + RECORD_HEAD + n
    return 1

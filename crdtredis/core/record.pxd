# Appending records to a segment: [length u32 LE][CRC-32C u32 LE of length and payload][payload: an
# encoded Batch].

from libc.stddef cimport size_t

from crdtredis.buffer cimport Buffer, Span

cdef enum:
    RECORD_HEAD = 8
    RECORD_MAX = 0xefffffff  # bytes of payload: longer ones would look like short records
    RECORD_FULL = 4 << 20    # bytes from which on a record takes no further op

# Wraps the payload that b holds from `at` on, where record_begin left room for the head.
cdef size_t record_begin(Buffer *b) noexcept nogil                             # returns `at`
# ... and `rest`, which is written behind b's bytes.
cdef void record_end(Buffer *b, size_t at, Span rest) noexcept nogil
# One record at the cursor: 1 and the payload; 0 at the end of the bytes; -1 cut short; -2 damaged
# (length or checksum).
cdef int record_next(const char **p, const char *end, Span *payload) noexcept nogil

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
# **Short records.** One client that waits for each reply makes records of one op, in which a head,
# a run and a stamp are more than what was done. A record of no more than SHORT_MOST bytes of one op
# that has nothing but effects in the shorter form (core/compact.pxi) is
#
#     [word: u32 LE][CRC-32C: u32 LE of word and what follows][actor: 8 bytes][ms: u32 LE]
#     [seq (varint)][what the field `compact` holds]
#
#     word     15 << 28 | counter << 22 | low 10 bits of ms << 12 | bytes behind the checksum
#     ms       of the stamp, since 2020; here without those bits
#     counter  of the stamp, below 64
#
# It says all that the longer one says, in 11 bytes less, and of one Batch there is one short form.
# No payload is so long that its length looks like such a word. They stand only in segments whose
# header says so (storage/format.py): an older version would take them for a torn end. Whoever reads
# records is given payloads, an encoded Batch each, whatever their form (record_take).
#
# A record holds ops up to RECORD_FULL bytes, or one op. So what a reader must hold at once is
# bounded by the largest op, and a loop iteration that made more is several records; after a crash
# between them the log ends with a whole op like any other.
#
# A reader sees "cut short" where the bytes end inside a record: at the end of the newest segment
# that is a write a crash interrupted, anywhere else damage. Which one it is, storage/recovery.py
# decides; here are only the bytes.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort
from libc.string cimport memcpy

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_need, copy_span, span


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


# ---- short records -------------------------------------------------------------------------------

cdef enum:
    SHORT = 15              # of the word the highest 4 bits,
    SHORT_MOST = 2047       # the lowest: bytes behind the checksum
    SHORT_HEAD = 24         # bytes of it before the effects, at most
    SHORT_MS_BITS = 10      # of ms, from bit
    SHORT_MS = 12           # on
    SHORT_COUNTER = 22
    SHORT_COUNTERS = 64

cdef uint64_t SHORT_SINCE = 1577836800000      # ms since 1970


cdef inline size_t short_body(uint64_t seq, size_t rest) noexcept nogil:
    """Bytes of the op that a short record stands for."""
    return 11 + varint_size(seq) + varint_size(rest) + rest


cdef size_t record_shorten(Span longer, char *out) noexcept nogil:
    """The short form of a record, into `out` (RECORD_HEAD + SHORT_MOST bytes): how long it is; 0:
    it has none."""
    cdef const char *p = longer.p + RECORD_HEAD
    cdef const char *end = longer.p + longer.n
    cdef const char *q
    cdef char *to
    cdef Field run, actor, op, seq, stamp, x
    cdef uint64_t ms
    cdef size_t n
    if get_field(&p, end, &run) != 1 or run.number != 2 or run.wire != 2 or p != end:
        return 0
    q = run.s.p
    if (get_field(&q, end, &actor) != 1 or actor.number != 1 or actor.wire != 1
            or get_field(&q, end, &op) != 1 or op.number != 2 or op.wire != 2 or q != end):
        return 0
    q = op.s.p
    if (get_field(&q, end, &seq) != 1 or seq.number != 1 or seq.wire != 0
            or get_field(&q, end, &stamp) != 1 or stamp.number != 2 or stamp.wire != 1
            or get_field(&q, end, &x) != 1 or x.number != 5 or x.wire != 2 or q != end):
        return 0
    ms = (stamp.v >> 16) - SHORT_SINCE
    if (stamp.v >> 16 < SHORT_SINCE or ms >> (32 + SHORT_MS_BITS)
            or (stamp.v & 0xffff) >= SHORT_COUNTERS or x.s.n > SHORT_MOST - SHORT_HEAD):
        return 0
    n = short_body(seq.v, x.s.n)
    n += 1 + varint_size(n)
    if longer.n != RECORD_HEAD + 10 + varint_size(n + 9) + n:   # a number is longer than need be
        return 0
    to = put_fixed64(out + RECORD_HEAD, actor.v)
    store32(to, <uint32_t>(ms >> SHORT_MS_BITS))
    to = put_varint(to + 4, seq.v)
    copy_span(to, x.s)
    n = to + x.s.n - out - RECORD_HEAD
    store32(out, <uint32_t>SHORT << 28 | <uint32_t>(stamp.v & 0xffff) << SHORT_COUNTER
            | <uint32_t>(ms & ((1 << SHORT_MS_BITS) - 1)) << SHORT_MS | <uint32_t>n)
    store32(out + 4, crc32c(crc32c(0, out, 4), out + RECORD_HEAD, n))
    return n + RECORD_HEAD


cdef int take_short(const char **p, const char *end, uint32_t word, Buffer *b) noexcept nogil:
    cdef const char *q = p[0] + RECORD_HEAD
    cdef size_t n = word & SHORT_MOST, rest, body
    cdef const char *last = q + n
    cdef uint64_t actor, ms, seq
    cdef uint32_t crc, high
    cdef char *to
    if n > <size_t>(end - q):
        return -1
    memcpy(&crc, p[0] + 4, 4)
    if crc32c(crc32c(0, p[0], 4), q, n) != crc or n < 13:
        return -2
    memcpy(&actor, q, 8)
    memcpy(&high, q + 8, 4)
    q += 12
    if not get_varint(&q, last, &seq):
        return -2
    ms = SHORT_SINCE + (<uint64_t>high << SHORT_MS_BITS
                        | (word >> SHORT_MS & ((1 << SHORT_MS_BITS) - 1)))
    rest = last - q
    body = short_body(seq, rest)
    to = buffer_need(b, RUN_HEAD + 60 + rest)
    to = put_run_head(to, actor, 1 + varint_size(body) + body)
    to[0] = 2 << 3 | 2
    to = put_varint(to + 1, body)
    to[0] = 1 << 3
    to = put_varint(to + 1, seq)
    to[0] = 2 << 3 | 1
    to = put_fixed64(to + 1, ms << 16 | (word >> SHORT_COUNTER & (SHORT_COUNTERS - 1)))
    to = put_span(to, 5 << 3 | 2, span(q, rest))
    b.n = to - b.p
    p[0] = last
    return 1


cdef int record_take(const char **p, const char *end, Buffer *b) noexcept nogil:
    """As record_next, for a record of either form, whose payload goes behind what b holds."""
    cdef Span payload
    cdef uint32_t word
    cdef int r
    if end - p[0] >= RECORD_HEAD:
        memcpy(&word, p[0], 4)
        if word >> 28 == SHORT:
            return take_short(p, end, word, b)
    r = record_next(p, end, &payload)
    if r == 1:
        buffer_add(b, payload.p, payload.n)
    return r

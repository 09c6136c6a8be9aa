# How does the state of a replica become bytes that another, or the same after a restart, can take
# in?
#
# proto/state.proto says what stands where. This part holds what writer and reader share: fields
# appended to a buffer, and the strict decoders of items. As for ops, fields ascend and what is not
# known is refused.
#
# Nothing here is compressed by a library: what makes the state large, beside the values, is names
# of actors, dots and stamps, and those are told by differences. A plain key costs some 15 bytes
# beside its name and value, less than the op that made it; a member or list element of the same op
# as the one before it costs 4 or 2.

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span, span)


# ---- writing -------------------------------------------------------------------------------------

cdef inline void add_number(Buffer *b, int field, uint64_t v) noexcept nogil:
    if v:
        b.n = put_varint(put_varint(buffer_need(b, 12), <uint64_t>field << 3), v) - b.p


cdef inline void add_varint(Buffer *b, uint64_t v) noexcept nogil:
    b.n = put_varint(buffer_need(b, 10), v) - b.p


cdef inline void add_fixed(Buffer *b, int field, uint64_t v) noexcept nogil:
    if v:
        b.n = put_fixed64(put_varint(buffer_need(b, 10), <uint64_t>field << 3 | 1), v) - b.p


cdef inline void add_field(Buffer *b, int field, Span s) noexcept nogil:
    """A length-delimited field, which may be empty."""
    cdef char *p = buffer_need(b, s.n + 12)
    p = put_varint(put_varint(p, <uint64_t>field << 3 | 2), s.n)
    copy_span(p, s)
    b.n = p + s.n - b.p


cdef inline void add_span(Buffer *b, int field, Span s) noexcept nogil:
    if s.n:
        add_field(b, field, s)


cdef inline void add_total(Buffer *b, int whole, const Total *t) noexcept nogil:
    """Fields `whole`, fraction and exact, which follow each other."""
    add_number(b, whole, zigzag(t.whole) if t.fraction.n == 0 and t.exact.n == 0 else 0)
    add_span(b, whole + 1, t.fraction)
    add_span(b, whole + 2, t.exact)


# ---- reading -------------------------------------------------------------------------------------

cdef inline void gather(Span *s, const char *from_, const char *to) noexcept nogil:
    """One more field of a repeated one, which stand together."""
    if s.n == 0:
        s.p = from_
    s.n = to - s.p


cdef int decode_item(Span body, StateItem *out) noexcept nogil:
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef const char *at
    cdef uint32_t before = 0
    cdef Field f
    cdef int r
    memset(out, 0, sizeof(StateItem))
    out.name.p = out.value.p = out.gaps.p = out.values.p = b""
    out.writes.p = out.deadlines.p = out.counters.p = out.patches.p = b""
    while True:
        at = p
        r = get_field(&p, end, &f)
        if r != 1:
            return r if r else 1
        if f.number < before or (f.number == before and f.number < 11
                                 or f.number == before == 15):
            return -1
        before = f.number
        if f.number == 1 and f.wire == 0 and SORT_KEY <= f.v < SORTS:
            out.sort = <int>f.v
        elif f.number == 2 and f.wire == 2 and f.s.n <= MAX_BYTES:
            out.name = f.s
        elif f.number == 3 and f.wire == 2 and f.s.n <= MAX_BYTES:
            out.value = f.s
        elif f.number == 4 and f.wire == 0 and f.v <= MAX_ACTORS:
            out.actor = <uint32_t>f.v
        elif f.number == 5 and f.wire == 0:
            out.seq = f.v
        elif f.number == 6 and f.wire == 0:
            out.stamp = f.v
            out.stamped = 1
        elif f.number == 7 and f.wire == 0 and f.v < 64:
            out.flags = <uint32_t>f.v
        elif f.number == 8 and f.wire == 0 and f.v < DATABASES:
            out.db = <uint32_t>f.v
        elif f.number == 9 and f.wire == 0 and f.v < STRIDE_NEW:
            out.stride = <uint32_t>f.v
        elif f.number == 10 and f.wire == 2:
            out.gaps = f.s
        elif f.number == 11 and f.wire == 2 and f.s.n <= LARGEST_PACKED:
            gather(&out.values, at, p)
        elif f.number == 12 and f.wire == 2:
            gather(&out.writes, at, p)
        elif f.number == 13 and f.wire == 2:
            gather(&out.deadlines, at, p)
        elif f.number == 14 and f.wire == 2:
            gather(&out.counters, at, p)
        elif f.number == 15 and f.wire == 2:
            out.patches = f.s
        else:
            return -1


cdef int decode_write(Span body, StateWrite *out) noexcept nogil:
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef uint32_t before = 0
    cdef Field f
    cdef int r
    memset(out, 0, sizeof(StateWrite))
    out.value.p = b""
    while True:
        r = get_field(&p, end, &f)
        if r != 1:
            return r if r else 1
        if f.number <= before:
            return -1
        before = f.number
        if f.number == 1 and f.wire == 2 and f.s.n <= MAX_BYTES:
            out.value = f.s
        elif f.number == 2 and f.wire == 0 and f.v <= MAX_ACTORS:
            out.actor = <uint32_t>f.v
        elif f.number == 3 and f.wire == 0:
            out.seq = f.v
        elif f.number == 4 and f.wire == 0:
            out.stamp = f.v
            out.stamped = 1
        elif f.number == 5 and f.wire == 0 and f.v == 1:
            out.keeps = 1
        elif f.number == 6 and f.wire == 0 and f.v <= MAX_ACTORS:
            out.by = <uint32_t>f.v
        elif f.number == 7 and f.wire == 0 and f.v >> 63 == 0:
            out.deadline = f.v
        elif f.number == 8 and f.wire == 0 and f.v == 1:
            out.loose = 1
        else:
            return -1


cdef int decode_counter(Span body, StateCounter *out) noexcept nogil:
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef uint32_t before = 0
    cdef Field f
    cdef int r
    memset(out, 0, sizeof(StateCounter))
    while True:
        r = get_field(&p, end, &f)
        if r != 1:
            break
        if f.number <= before:
            return -1
        before = f.number
        if f.number == 1 and f.wire == 0 and f.v <= MAX_ACTORS:
            out.actor = <uint32_t>f.v
        elif f.number == 2 and f.wire == 0:
            out.seq = f.v
        elif f.number == 3 and f.wire == 0:
            out.run = f.v
        elif f.number == 4 and f.wire == 0 and f.v >> 32 == 0:
            out.run_index = <uint32_t>f.v
        elif f.number == 5 and f.wire == 0:
            out.total.whole = unzigzag(f.v)
        elif f.number == 6 and f.wire == 2 and f.s.n == EXTENDED:
            out.total.fraction = f.s
        elif f.number == 7 and f.wire == 2 and exact_is_sound(f.s):
            out.total.exact = f.s
        elif f.number == 8 and f.wire == 0:
            out.cancelled_seq = f.v
        elif f.number == 9 and f.wire == 0:
            out.cancelled.whole = unzigzag(f.v)
        elif f.number == 10 and f.wire == 2 and f.s.n == EXTENDED:
            out.cancelled.fraction = f.s
        elif f.number == 11 and f.wire == 2 and exact_is_sound(f.s):
            out.cancelled.exact = f.s
        elif f.number == 12 and f.wire == 0 and 0 < f.v <= MAX_ACTORS:
            out.by_actor = <uint32_t>f.v
        elif f.number == 13 and f.wire == 0 and f.v >> SEQ_BITS == 0:
            out.by_seq = f.v
        elif f.number == 14 and f.wire == 2 and f.s.n == EXTENDED:
            out.shown = f.s
        elif f.number == 15 and f.wire == 1:
            out.context = f.v
        elif f.number == 16 and f.wire == 0 and f.v == 1:
            out.wide = 1
        else:
            return -1
    return (-1 if r < 0 or not total_is_sound(&out.total) or not total_is_sound(&out.cancelled)
            else 1)

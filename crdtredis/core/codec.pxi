# The op codec: protobuf wire format of proto/crdtredis.proto, written and read without the
# generated classes.
#
# The encoder emits fields in ascending order and omits defaults, which is what the generated
# classes emit, byte for byte (see tests/core/test_codec.py). The decoder is stricter than protobuf:
# fields must ascend, repeated ones stand together, every field, kind and type must be known, every
# length fit in what is left. An op that says something this version does not understand is refused
# whole, because applying the rest of it would make replicas differ for ever.
#
# A tag is field << 3 | wire type: 0 varint, 1 fixed64, 2 length-delimited.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strlen

from crdtredis.buffer cimport Buffer, Span, buffer_need, span


cdef inline char *put_total(char *p, int whole_tag, const Total *t) noexcept nogil:
    """Field `whole`, or `fraction`, which is the next."""
    if t.fraction.n:
        return put_span(p, whole_tag + 8 | 2, t.fraction)
    if t.whole == 0:
        return p
    p[0] = <char>whole_tag
    return put_varint(p + 1, zigzag(t.whole))


# ---- encoding ------------------------------------------------------------------------------------

cdef void encode_effect(Buffer *b, const Effect *x) noexcept nogil:
    cdef size_t body = effect_size(x)
    cdef char *p = buffer_need(b, body + 11)
    cdef char *start = p
    p[0] = <char>(4 << 3 | 2)
    p = put_varint(p + 1, body)
    if x.kind:
        p[0] = 1 << 3
        p = put_varint(p + 1, x.kind)
    if x.db:
        p[0] = 2 << 3
        p = put_varint(p + 1, x.db)
    if x.key.n:
        p = put_span(p, 3 << 3 | 2, x.key)
    if x.type:
        p[0] = 4 << 3
        p = put_varint(p + 1, x.type)
    if x.name.n:
        p = put_span(p, 5 << 3 | 2, x.name)
    if x.value.n:
        p = put_span(p, 6 << 3 | 2, x.value)
    if x.keep:
        p[0] = 7 << 3
        p[1] = 1
        p += 2
    if x.run_seq:
        p[0] = 8 << 3
        p = put_varint(p + 1, x.run_seq)
    if x.run_index:
        p[0] = 9 << 3
        p = put_varint(p + 1, x.run_index)
    if x.kind == INCREMENT or x.run_seq:
        p = put_total(p, 10 << 3, &x.total)
    p = put_rare(p, x, x.actor)
    b.n += p - start


cdef char *put_rare(char *p, const Effect *x, uint64_t actor) noexcept nogil:
    """The fields from 12 on."""
    if x.observed.n:
        memcpy(p, x.observed.p, x.observed.n)
        p += x.observed.n
    if x.deadline:
        p[0] = 13 << 3
        p = put_varint(p + 1, <uint64_t>x.deadline)
    if x.stamp:
        p[0] = 14 << 3 | 1
        p = put_fixed64(p + 1, x.stamp)
    if actor:
        p[0] = 15 << 3 | 1
        p = put_fixed64(p + 1, actor)
    if x.kind == INCREMENT:
        if x.total.exact.n:
            p = put_span(put_far(p, 16 << 3 | 2), 1, x.total.exact)
        if x.shown.n:
            p = put_span(put_far(p, 17 << 3 | 2), 1, x.shown)
        if x.context:
            p = put_far(p, 18 << 3 | 1)
            p[0] = 1
            p = put_fixed64(p + 1, x.context)
        if x.wide:
            p = put_far(p, 19 << 3)
            p[0] = p[1] = 1
            p += 2
    return p


cdef inline size_t total_size(const Total *t) noexcept nogil:
    """Without the tag of an Exact, which depends on where it stands."""
    return span_size(t.fraction) if t.fraction.n else number_size(zigzag(t.whole))


cdef size_t effect_size(const Effect *x) noexcept nogil:
    cdef size_t n = (number_size(x.kind) + number_size(x.db) + span_size(x.key) +
                     number_size(x.type) + span_size(x.name)
                     + span_size(x.value) + (2 if x.keep else 0) + number_size(x.run_seq) +
                     number_size(x.run_index) + rare_size(x, x.actor))
    if x.kind == INCREMENT or x.run_seq:
        n += total_size(&x.total)
    return n


cdef size_t rare_size(const Effect *x, uint64_t actor) noexcept nogil:
    cdef size_t n = (x.observed.n + number_size(<uint64_t>x.deadline) + (9 if x.stamp else 0) +
                     (9 if actor else 0))
    if x.kind == INCREMENT:
        n += far_size(x.total.exact) + far_size(x.shown) + (
                10 if x.context else 0) + (3 if x.wide else 0)
    return n


cdef void encode_observed(Buffer *b, const ObservedCount *s) noexcept nogil:
    cdef size_t body = (9 + number_size(s.run_seq) + number_size(s.run_index) + number_size(s.seq) +
                        total_size(&s.total)
                        + number_size(s.type) + span_size(s.name) + span_size(s.key) +
                        span_size(s.total.exact))
    cdef char *p = buffer_need(b, body + 11)
    cdef char *start = p
    p[0] = <char>(12 << 3 | 2)
    p = put_varint(p + 1, body)
    p[0] = 1 << 3 | 1
    p = put_fixed64(p + 1, s.actor)
    if s.run_seq:
        p[0] = 2 << 3
        p = put_varint(p + 1, s.run_seq)
    if s.run_index:
        p[0] = 3 << 3
        p = put_varint(p + 1, s.run_index)
    if s.seq:
        p[0] = 4 << 3
        p = put_varint(p + 1, s.seq)
    p = put_total(p, 5 << 3, &s.total)
    if s.type:
        p[0] = 7 << 3
        p = put_varint(p + 1, s.type)
    if s.name.n:
        p = put_span(p, 8 << 3 | 2, s.name)
    if s.key.n:
        p = put_span(p, 9 << 3 | 2, s.key)
    if s.total.exact.n:
        p = put_span(p, 10 << 3 | 2, s.total.exact)
    b.n += p - start


cdef void encode_dep(Buffer *b, uint64_t actor, uint64_t seq) noexcept nogil:
    cdef char *p = buffer_need(b, 32)
    cdef char *start = p
    p[0] = 3 << 3 | 2
    p[1] = <char>(9 + number_size(seq))
    p[2] = 1 << 3 | 1
    p = put_fixed64(p + 3, actor)
    if seq:
        p[0] = 2 << 3
        p = put_varint(p + 1, seq)
    b.n += p - start


# ---- decoding ------------------------------------------------------------------------------------

cdef int decode_op(Span raw, OpHead *h) noexcept nogil:
    cdef Field f
    cdef const char *p = raw.p
    cdef const char *end = raw.p + raw.n
    cdef const char *at
    cdef uint32_t before = 0
    cdef int r
    memset(h, 0, sizeof(OpHead))
    h.deps = span(p, 0)
    h.effects = span(p, 0)
    while True:
        at = p
        r = get_field(&p, end, &f)
        if r != 1:
            break
        if f.number < before or (f.number == before and f.number != 3 and f.number != 4):
            return -1
        before = f.number
        if f.number == 1 and f.wire == 0:
            h.seq = f.v
        elif f.number == 2 and f.wire == 1:
            h.stamp = f.v
        elif f.number == 3 and f.wire == 2:
            if h.deps.n == 0:
                h.deps.p = at
            h.deps.n = p - h.deps.p
        elif f.number == 4 and f.wire == 2:
            if h.effects.n == 0:
                h.effects.p = at
            h.effects.n = p - h.effects.p
        elif f.number == 5 and f.wire == 2 and h.effects.n == 0:
            h.effects = f.s
            h.compact = 1
        else:
            return -1
    return -1 if r < 0 or h.seq == 0 or h.seq >> SEQ_BITS or h.stamp == 0 else 1


cdef int decode_dep(const char **p, const char *end, uint64_t *actor, uint64_t *seq) noexcept nogil:
    cdef Span body
    cdef Field f
    cdef const char *q
    cdef int r = get_message(p, end, 3, &body)
    if r != 1:
        return r
    q = body.p
    if get_field(&q, body.p + body.n, &f) != 1 or f.number != 1 or f.wire != 1:
        return -1
    actor[0] = f.v
    if (get_field(&q, body.p + body.n, &f) != 1 or f.number != 2 or f.wire != 0
        or q != body.p + body.n or f.v >> SEQ_BITS or f.v == 0):
        # 0 is no op, and who gets this from here need not know an actor without one
        return -1
    seq[0] = f.v
    return 1


cdef inline int total_is_sound(const Total *t) noexcept nogil:
    """Has it one form?"""
    return (t.whole != 0) + (t.fraction.n != 0) + (t.exact.n != 0) <= 1


cdef int decode_observed(const char **p, const char *end, ObservedCount *out) noexcept nogil:
    cdef Span body
    cdef Field f
    cdef const char *q
    cdef uint32_t before = 0
    cdef int r = get_message(p, end, 12, &body)
    if r != 1:
        return r
    memset(out, 0, sizeof(ObservedCount))
    # never NULL: memcmp must not be given that, even for 0 bytes
    out.name.p = out.key.p = b""
    q = body.p
    while True:
        r = get_field(&q, body.p + body.n, &f)
        if r != 1:
            break
        if f.number <= before:
            return -1
        before = f.number
        if f.number == 1 and f.wire == 1:
            out.actor = f.v
        elif f.number == 2 and f.wire == 0:
            out.run_seq = f.v
        elif f.number == 3 and f.wire == 0 and f.v >> 32 == 0:
            out.run_index = <uint32_t>f.v
        elif f.number == 4 and f.wire == 0:
            out.seq = f.v
        elif f.number == 5 and f.wire == 0:
            out.total.whole = unzigzag(f.v)
        elif f.number == 6 and f.wire == 2 and f.s.n == EXTENDED:
            out.total.fraction = f.s
        elif f.number == 7 and f.wire == 0 and is_sent(f.v):
            out.type = <int>f.v
        elif f.number == 8 and f.wire == 2:
            out.name = f.s
        elif f.number == 9 and f.wire == 2:
            out.key = f.s
        elif f.number == 10 and f.wire == 2 and exact_is_sound(f.s):
            out.total.exact = f.s
        else:
            return -1
    return -1 if r < 0 or not total_is_sound(&out.total) else 1


cdef int decode_effect(const char **p, const char *end, Effect *out) noexcept nogil:
    cdef Span body
    cdef int r = get_message(p, end, 4, &body)
    if r != 1:
        return r
    clear_effect(out, body.p)
    return 1 if decode_fields(body, 0, out) and total_is_sound(&out.total) else -1


cdef inline void clear_effect(Effect *out, const char *p) noexcept nogil:
    """Its texts are never NULL."""
    memset(out, 0, sizeof(Effect))
    out.key = out.name = out.value = out.observed = span(p, 0)


cdef int decode_fields(Span body, uint32_t before, Effect *out) noexcept nogil:
    """Those of an Effect, all behind the field `before`: 1, or 0 where they are damaged."""
    cdef Field f
    cdef const char *q = body.p
    cdef const char *at
    cdef const char *last = body.p + body.n
    cdef ObservedCount s
    cdef int r
    while True:
        at = q
        r = get_field(&q, last, &f)
        if r != 1:
            break
        if f.number < before or (f.number == before and f.number != 12):
            return 0
        before = f.number
        if f.number == 1 and f.wire == 0 and f.v <= PATCH:
            out.kind = <int>f.v
        elif f.number == 2 and f.wire == 0 and f.v < DATABASES:
            out.db = <uint32_t>f.v
        elif f.number == 3 and f.wire == 2 and f.s.n <= MAX_BYTES:
            out.key = f.s
        elif f.number == 4 and f.wire == 0 and is_sent(f.v):
            out.type = <int>f.v
        elif f.number == 5 and f.wire == 2 and f.s.n <= MAX_BYTES:
            out.name = f.s
        elif f.number == 6 and f.wire == 2 and f.s.n <= MAX_BYTES:
            out.value = f.s
        elif f.number == 7 and f.wire == 0 and f.v == 1:
            out.keep = 1
        elif f.number == 8 and f.wire == 0:
            out.run_seq = f.v
        elif f.number == 9 and f.wire == 0 and f.v >> 32 == 0:
            out.run_index = <uint32_t>f.v
        elif f.number == 10 and f.wire == 0:
            out.total.whole = unzigzag(f.v)
        elif f.number == 11 and f.wire == 2 and f.s.n == EXTENDED:
            out.total.fraction = f.s
        elif f.number == 12 and f.wire == 2:
            if out.observed.n == 0:
                out.observed.p = at
            out.observed.n = q - out.observed.p
            if decode_observed(&at, q, &s) != 1:
                return 0
        elif f.number == 13 and f.wire == 0 and f.v >> 63 == 0:
            out.deadline = <int64_t>f.v
        elif f.number == 14 and f.wire == 1:
            out.stamp = f.v
        elif f.number == 15 and f.wire == 1:
            out.actor = f.v
        elif f.number == 16 and f.wire == 2 and exact_is_sound(f.s):
            out.total.exact = f.s
        elif f.number == 17 and f.wire == 2 and f.s.n == EXTENDED:
            out.shown = f.s
        elif f.number == 18 and f.wire == 1:
            out.context = f.v
        elif f.number == 19 and f.wire == 0 and f.v == 1:
            out.wide = 1
        else:
            return 0
    return r == 0


cdef char *put_run_head(char *p, uint64_t actor, size_t n) noexcept nogil:
    """What stands before n bytes of ops."""
    p[0] = 2 << 3 | 2
    p = put_varint(p + 1, n + 9)
    p[0] = 1 << 3 | 1
    return put_fixed64(p + 1, actor)


cdef void add_run(Buffer *b, uint64_t actor, Span ops) noexcept nogil:
    cdef char *p = put_run_head(buffer_need(b, ops.n + RUN_HEAD), actor, ops.n)
    memcpy(p, ops.p, ops.n)
    b.n = p + ops.n - b.p


cdef void encode_actor(Buffer *b, const Actor *a) noexcept nogil:
    """With the tag and length of Batch.actors."""
    cdef Span replica = span(a.replica, strlen(a.replica))
    cdef size_t body = 9 + span_size(replica) + number_size(a.epoch)
    cdef char *p = buffer_need(b, body + 11)
    cdef char *begin = p
    p[0] = 1 << 3 | 2
    p = put_varint(p + 1, body)
    p[0] = 1 << 3 | 1
    p = put_fixed64(p + 1, a.id)
    p = put_span(p, 2 << 3 | 2, replica)
    if a.epoch:
        p[0] = 3 << 3
        p = put_varint(p + 1, a.epoch)
    b.n += p - begin

# The effects of an op in a shorter form (Op.compact), since protocol 8.
#
# Protobuf has each effect say its length, what each of its fields is, and again what the effect
# before said: of SADD with five members, 7 bytes of a member's 21 are the key and the type. Here an
# effect is
#
#     head     1 byte: kind | type << 3, and then 1 byte, C_*, db (varint) with C_DB, and the key
#              (length, a varint, and bytes); or C_SAME | C_*: kind, db, type and key are those of
#              the effect before
#     name     with C_NAME, as the key; never empty, no more than the value
#     value    with C_VALUE
#     run_seq  with C_RUN, a varint, not 0
#     whole    with C_WHOLE, zigzag, not 0
#     rest     with C_REST: a length (varint), and what else the Effect has of fields, as in
#              protobuf: run_index and those from `fraction` on
#
# C_KEEP is `keep`. C_OWN: `actor` is the op's, which has changed what it wrote itself (PATCH).
#
#     SADD s a b   ->   02 01 01 's' 01 'a'   81 01 'b'
#
# Of one effect there is one form, but that it may say again what the one before said. What an
# effect means does not depend on its form. An op has either form, not both. Nothing reaches beyond
# the op: whoever hands ops on need not know what stands in them.

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t, uint8_t
from libc.string cimport memcmp, memset

from crdtredis.buffer cimport Buffer, Span, buffer_free, buffer_need, copy_span, span

cdef enum:
    C_NAME = 1
    C_VALUE = 2
    C_KEEP = 4
    C_RUN = 8
    C_WHOLE = 16
    C_OWN = 32
    C_REST = 64
    C_DB = 128              # of the second byte,
    C_SAME = 128            # of the first
    COMPACT_ROOM = 80       # bytes of an effect without its texts and the rest, at most


cdef inline char *put_text(char *p, Span s) noexcept nogil:
    p = put_varint(p, s.n)
    copy_span(p, s)
    return p + s.n


cdef inline int get_text(const char **p, const char *end, Span *s) noexcept nogil:
    cdef uint64_t n
    if not get_varint(p, end, &n) or n > MAX_BYTES or n > <uint64_t>(end - p[0]):
        return 0
    s[0] = span(p[0], <size_t>n)
    p[0] += n
    return 1


cdef void encode_compact(Buffer *b, const Effect *x, Before *before) noexcept nogil:
    cdef int counts = x.kind == INCREMENT or x.run_seq != 0
    cdef int whole = counts and x.total.fraction.n == 0 and x.total.whole != 0
    cdef int own = x.actor != 0 and x.actor == before.actor
    cdef uint64_t actor = 0 if own else x.actor
    cdef size_t rest = (number_size(x.run_index) + rare_size(x, actor)
                        + (span_size(x.total.fraction) if counts else 0))
    cdef char *p = buffer_need(b, COMPACT_ROOM + x.key.n + x.name.n + x.value.n + rest)
    cdef char *start = p
    cdef int fields = ((C_NAME if x.name.n else 0) | (C_VALUE if x.value.n else 0)
                       | (C_KEEP if x.keep else 0) | (C_RUN if x.run_seq else 0)
                       | (C_WHOLE if whole else 0) | (C_OWN if own else 0)
                       | (C_REST if rest else 0))
    if (before.any and x.kind == before.kind and x.db == before.db and x.type == before.type
            and x.key.n == before.key_n
            and (x.key.n == 0 or memcmp(x.key.p, b.p + before.key_at, x.key.n) == 0)):
        p[0] = <char>(C_SAME | fields)
        p += 1
    else:
        p[0] = <char>(x.kind | x.type << 3)
        p[1] = <char>(fields | (C_DB if x.db else 0))
        p += 2
        if x.db:
            p = put_varint(p, x.db)
        p = put_text(p, x.key)
        before.any = 1
        before.kind = x.kind
        before.type = x.type
        before.db = x.db
        before.key_at = p - x.key.n - b.p
        before.key_n = x.key.n
    if x.name.n:
        p = put_text(p, x.name)
    if x.value.n:
        p = put_text(p, x.value)
    if x.run_seq:
        p = put_varint(p, x.run_seq)
    if whole:
        p = put_varint(p, zigzag(x.total.whole))
    if rest:
        p = put_varint(p, rest)
        if x.run_index:
            p[0] = 9 << 3
            p = put_varint(p + 1, x.run_index)
        if counts and x.total.fraction.n:
            p = put_span(p, 11 << 3 | 2, x.total.fraction)
        p = put_rare(p, x, actor)
    b.n += p - start


cdef int decode_compact(Effects *at, Effect *out) noexcept nogil:
    cdef const char *p = at.p
    cdef const char *end = at.end
    cdef Before *before = &at.before
    cdef int head, fields
    cdef uint64_t v, whole = 0
    cdef Span rest
    if p == end:
        return 0
    clear_effect(out, p)
    head = <uint8_t>p[0]
    fields = head & ~C_SAME
    p += 1
    if head & C_SAME:
        if not before.any:
            return -1
        out.kind = before.kind
        out.type = before.type
        out.db = before.db
        out.key = span(at.begin + before.key_at, before.key_n)
    else:
        if p == end or not is_sent(head >> 3):
            return -1
        before.any = 1
        before.kind = out.kind = head & 7
        before.type = out.type = head >> 3
        fields = <uint8_t>p[0]
        p += 1
        if fields & C_DB:
            if not get_varint(&p, end, &v) or v == 0 or v >= DATABASES:
                return -1
            out.db = <uint32_t>v
        if not get_text(&p, end, &out.key):
            return -1
        before.db = out.db
        before.key_at = out.key.p - at.begin
        before.key_n = out.key.n
    if fields & C_NAME and (not get_text(&p, end, &out.name) or out.name.n == 0):
        return -1
    if fields & C_VALUE and (not get_text(&p, end, &out.value) or out.value.n == 0):
        return -1
    if fields & C_RUN and (not get_varint(&p, end, &out.run_seq) or out.run_seq == 0):
        return -1
    if fields & C_WHOLE and (not get_varint(&p, end, &whole) or whole == 0):
        return -1
    if fields & C_REST:
        # field 10 is `whole`, and what stands before 9 has a place of its own
        if (not get_text(&p, end, &rest) or rest.n == 0 or not decode_fields(rest, 8, out)
                or out.total.whole or (fields & C_OWN and out.actor)):
            return -1
    out.keep = (fields & C_KEEP) != 0
    out.total.whole = unzigzag(whole)
    if fields & C_OWN:
        out.actor = before.actor
    at.p = p
    return 1 if total_is_sound(&out.total) else -1


cdef void begin_effects(Effects *at, const OpHead *h, uint64_t actor) noexcept nogil:
    memset(at, 0, sizeof(Effects))
    at.begin = at.p = h.effects.p
    at.end = h.effects.p + h.effects.n
    at.compact = h.compact
    at.before.actor = actor


cdef int take_effect(Effects *at, Effect *out) noexcept nogil:
    return decode_compact(at, out) if at.compact else decode_effect(&at.p, at.end, out)


def plain_op(bytes op not None, uint64_t actor):
    """The body of an op of this actor (id) with its effects as in protobuf. DamagedBatch where it
    is none."""
    cdef Span raw = span(op, len(op))
    cdef OpHead h
    cdef Effects at
    cdef Effect x
    cdef Buffer b
    cdef int r
    if decode_op(raw, &h) < 0:
        raise DamagedBatch("a damaged op")
    if not h.compact:
        return op
    memset(&b, 0, sizeof(Buffer))
    begin_effects(&at, &h, actor)
    while True:
        r = take_effect(&at, &x)
        if r != 1:
            break
        encode_effect(&b, &x)
    # what stands before the field, which is the last
    plain = op[:len(op) - h.effects.n - varint_size(h.effects.n) - 1] + b.p[:b.n]
    buffer_free(&b)
    if r < 0:
        raise DamagedBatch("a damaged effect")
    return plain

# Protobuf's wire format: varints, fields, messages. What stands in them is in core/codec.pxi.
#
# A tag is field << 3 | wire type: 0 varint, 1 fixed64, 2 length-delimited.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy

from crdtredis.buffer cimport Span, copy_span, span


cdef inline size_t varint_size(uint64_t v) noexcept nogil:
    cdef size_t n = 1
    while v >= 128:
        v >>= 7
        n += 1
    return n


cdef inline char *put_varint(char *p, uint64_t v) noexcept nogil:
    while v >= 128:
        p[0] = <char>(v | 128)
        p += 1
        v >>= 7
    p[0] = <char>v
    return p + 1


cdef inline char *put_fixed64(char *p, uint64_t v) noexcept nogil:
    memcpy(p, &v, 8)                       # both supported machines are little endian
    return p + 8


cdef inline char *put_span(char *p, int tag, Span s) noexcept nogil:
    p[0] = <char>tag
    p = put_varint(p + 1, s.n)
    copy_span(p, s)
    return p + s.n


cdef inline char *put_far(char *p, int tag) noexcept nogil:
    """Of a tag of two bytes, fields 16 to 31, the first. The second is 1."""
    p[0] = <char>(tag & 127 | 128)
    return p + 1


cdef inline uint64_t zigzag(int64_t v) noexcept nogil:
    return (<uint64_t>v << 1) ^ <uint64_t>(v >> 63)


cdef inline int64_t unzigzag(uint64_t v) noexcept nogil:
    return <int64_t>(v >> 1) ^ -<int64_t>(v & 1)


cdef inline size_t span_size(Span s) noexcept nogil:
    return 1 + varint_size(s.n) + s.n if s.n else 0


cdef inline size_t number_size(uint64_t v) noexcept nogil:
    return 1 + varint_size(v) if v else 0


cdef inline size_t far_size(Span s) noexcept nogil:
    return 1 + span_size(s) if s.n else 0


cdef inline uint64_t big_endian(const char *p) noexcept nogil:
    """8 bytes."""
    cdef uint64_t v = 0
    cdef int i
    for i in range(8):
        v = v << 8 | <uint8_t>p[i]
    return v


cdef inline void put_big_endian(char *to, uint64_t v) noexcept nogil:
    cdef int i
    for i in range(8):
        to[i] = <char>(v >> (56 - 8 * i))


cdef int get_varint(const char **p, const char *end, uint64_t *v) noexcept nogil:
    cdef uint64_t x = 0
    cdef int shift = 0
    cdef uint8_t c
    while p[0] < end and shift < 64:
        c = <uint8_t>p[0][0]
        p[0] += 1
        if shift == 63 and c > 1:
            return 0
        x |= <uint64_t>(c & 127) << shift
        if c < 128:
            v[0] = x
            return 1
        shift += 7
    return 0


cdef int get_field(const char **p, const char *end, Field *f) noexcept nogil:
    """The field at the cursor: 1; 0 at the end; -1 where there is none."""
    cdef uint64_t tag
    if p[0] == end:
        return 0
    if not get_varint(p, end, &tag) or tag >> 3 == 0 or tag >> 3 > 1000:
        return -1
    f.number = <uint32_t>(tag >> 3)
    f.wire = <uint32_t>(tag & 7)
    if f.wire == 0:
        return 1 if get_varint(p, end, &f.v) else -1
    if f.wire == 1:
        if end - p[0] < 8:
            return -1
        memcpy(&f.v, p[0], 8)
        p[0] += 8
        return 1
    if f.wire == 2:
        if not get_varint(p, end, &f.v) or f.v > <uint64_t>(end - p[0]):
            return -1
        f.s = span(p[0], <size_t>f.v)
        p[0] += f.v
        return 1
    return -1


cdef int get_message(const char **p, const char *end, uint32_t number, Span *body) noexcept nogil:
    """The next element of repeated message field `number`: 1, 0 at the end, -1 where something else
    stands."""
    cdef Field f
    cdef int r = get_field(p, end, &f)
    if r != 1:
        return r
    if f.number != number or f.wire != 2:
        return -1
    body[0] = f.s
    return 1

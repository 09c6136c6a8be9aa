# Ids and fields of stream entries, as clients write and are told them, and as the kernel keeps
# them. Header only: all functions are inline.
#
# An id is two numbers of 64 bits, `ms-seq`. The fields of an entry are one value to the kernel: the
# number of pairs, then name and value of each behind its length, all as varints.

from libc cimport errno as c
from libc.stddef cimport size_t
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.stdlib cimport strtoull
from libc.string cimport memcpy, strlen

from crdtredis._core cimport StreamId
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_need, span
from crdtredis.numbers cimport format_uint64, parse_int64

cdef enum:
    ID_TEXT = 44                # bytes of an id as text, at most
    LONGEST_ID = 127            # of what a client gives
    GROUP_NAME_MOST = 512       # bytes of a name of a group or consumer: each record has both


cdef inline StreamId stream_id(uint64_t ms, uint64_t seq) noexcept nogil:
    cdef StreamId id
    id.ms = ms
    id.seq = seq
    return id


cdef inline int id_order(StreamId a, StreamId b) noexcept nogil:
    """-1, 0 or 1."""
    if a.ms != b.ms:
        return 1 if a.ms > b.ms else -1
    return (a.seq > b.seq) - (a.seq < b.seq)


cdef inline int id_up(StreamId *id) noexcept nogil:
    """To the next id; 0 where there is none."""
    if id.seq != UINT64_MAX:
        id.seq += 1
    elif id.ms != UINT64_MAX:
        id.ms += 1
        id.seq = 0
    else:
        return 0
    return 1


cdef inline int id_down(StreamId *id) noexcept nogil:
    """To the one before; 0 where there is none."""
    if id.seq:
        id.seq -= 1
    elif id.ms:
        id.ms -= 1
        id.seq = UINT64_MAX
    else:
        return 0
    return 1


cdef inline size_t format_id(StreamId id, char *out) noexcept nogil:
    """At most ID_TEXT bytes; how many."""
    cdef size_t n = format_uint64(id.ms, out)
    out[n] = c'-'
    return n + 1 + format_uint64(id.seq, out + n + 1)


cdef inline int is_one(Span text, char wanted) noexcept nogil:
    """Is it this character, in C's eyes?"""
    return text.n > 0 and text.p[0] == wanted and (text.n == 1 or text.p[1] == 0)


cdef inline int read_number(const char *text, uint64_t *out) noexcept nogil:
    """A number from 0 on, as Redis reads one: what is no plain number of 63 bits is strtoull's."""
    cdef char *end
    cdef int64_t plain
    if parse_int64(text, strlen(text), &plain):
        out[0] = <uint64_t>plain
        return plain >= 0
    c.errno = 0
    out[0] = strtoull(text, &end, 10)
    return c.errno == 0 and text[0] != 0 and end[0] == 0


cdef inline void copy_text(char *out, Span text) noexcept nogil:
    if text.n:
        memcpy(out, text.p, text.n)
    out[text.n] = 0


cdef inline int parse_id(Span text, StreamId *id, uint64_t missing, int *whole) noexcept nogil:
    """`ms-seq`, or `ms` alone, with `missing` behind it; 0: it is none. Where `whole` is not NULL,
    `ms-*` is one too, with 0 in *whole."""
    cdef char copy[128]
    cdef char *seq = NULL
    cdef int i = 0
    if text.n > LONGEST_ID:
        return 0
    copy_text(copy, text)
    if whole != NULL:
        whole[0] = 1
    while copy[i]:
        if copy[i] == c'-':
            copy[i] = 0
            seq = copy + i + 1
            break
        i += 1
    id.seq = missing
    if not read_number(copy, &id.ms):
        return 0
    if seq != NULL and whole != NULL and seq[0] == c'*' and seq[1] == 0:
        whole[0] = 0
        id.seq = 0
        return 1
    return seq == NULL or read_number(seq, &id.seq)


cdef inline int parse_uint64(Span text, uint64_t *out) noexcept nogil:
    cdef char copy[128]
    if text.n > LONGEST_ID:
        return 0
    copy_text(copy, text)
    return read_number(copy, out)


# ---- fields --------------------------------------------------------------------------------------
cdef inline void put_varint(Buffer *b, uint64_t v) noexcept nogil:
    cdef unsigned char *p = <unsigned char*>buffer_need(b, 10)
    cdef int n = 0
    while v >= 128:
        p[n] = <unsigned char>(v | 128)
        n += 1
        v >>= 7
    p[n] = <unsigned char>v
    b.n += n + 1


cdef inline int take_varint(Span *at, uint64_t *out) noexcept nogil:
    cdef int shift = 0
    cdef unsigned char byte
    out[0] = 0
    while at.n and shift < 64:
        byte = <unsigned char>at.p[0]
        at.p += 1
        at.n -= 1
        out[0] |= <uint64_t>(byte & 127) << shift
        if byte < 128:
            return 1
        shift += 7
    return 0


cdef inline void put_text(Buffer *b, Span text) noexcept nogil:
    put_varint(b, text.n)
    buffer_add(b, text.p, text.n)


cdef inline uint64_t take_pairs(Span *at) noexcept nogil:
    """How many pairs follow. What a peer sent is believed no further than its bytes go."""
    cdef uint64_t n
    if not take_varint(at, &n) or n > at.n // 2:
        return 0
    return n


cdef inline Span take_text(Span *at) noexcept nogil:
    """The next name or value; empty where the bytes end."""
    cdef uint64_t n
    cdef Span text
    if not take_varint(at, &n) or n > at.n:
        at.n = 0
        return span(NULL, 0)
    text = span(at.p, n)
    at.p += n
    at.n -= n
    return text

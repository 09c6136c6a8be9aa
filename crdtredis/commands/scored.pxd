# What the commands of sorted sets share: answering a member with its score, and storing a result. Header only: all functions are inline.
#
# In RESP3 a member with its score is an array of two, in RESP2 the two follow one another, so the header of the whole differs as well.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

from crdtredis._core cimport T_ZSET, Element, Kernel, element_key, key_delete, key_find, key_visible, member_set
from crdtredis._engine cimport Call
from crdtredis._resp cimport reply_array, reply_bulk, reply_double, reply_int
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

# One member of a result. The Element is of a source, which is not changed as long as the result is in use.
cdef struct Scored:
    Element *m
    double score


cdef inline Span score_span(const double *score) noexcept nogil:
    """A member's value."""
    return span(<const char*>score, sizeof(double))


cdef inline void reply_scored_header(Call *c, size_t n, int with_scores) noexcept nogil:
    reply_array(c.reply, n * 2 if with_scores and c.reply.resp == 2 else n)


cdef inline void reply_scored(Call *c, Element *m, double score, int with_scores) noexcept nogil:
    if with_scores and c.reply.resp > 2:
        reply_array(c.reply, 2)
    reply_bulk(c.reply, element_key(m), m.klen)
    if with_scores:
        reply_double(c.reply, score)


cdef inline void store_scored(Call *c, Span key, Buffer *members) noexcept nogil:
    """key := the members (of Scored), whatever it held, in one op; without any it is gone. Answers their number. Names are copied first:
    the target may be a source."""
    cdef Kernel *k = c.kernel
    cdef Scored *all = <Scored*>members.p
    cdef size_t n = members.n // sizeof(Scored), i, at = 0
    cdef Buffer copy
    cdef uint32_t klen
    cdef double score
    cdef Element *e
    memset(&copy, 0, sizeof(Buffer))
    for i in range(n):
        buffer_add(&copy, &all[i].score, sizeof(double))
        buffer_add(&copy, &all[i].m.klen, sizeof(uint32_t))
        buffer_add(&copy, element_key(all[i].m), all[i].m.klen)
    e = key_find(k, c.db, key)
    if e != NULL and (n or key_visible(k, e)):
        key_delete(k, c.db, e)
        e = key_find(k, c.db, key)                          # concurrent increments may have left stubs
    for i in range(n):
        memcpy(&score, copy.p + at, sizeof(double))
        score += 0.0                                        # a stored zero has no sign
        memcpy(&klen, copy.p + at + sizeof(double), sizeof(uint32_t))
        at += sizeof(double) + sizeof(uint32_t)
        e = member_set(k, c.db, key, e, T_ZSET, span(copy.p + at, klen), score_span(&score))
        at += klen
    reply_int(c.reply, n)
    buffer_free(&copy)

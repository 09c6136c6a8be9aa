# What the commands of sorted sets share: adding members, answering one with its score, storing a
# result. Header only: all functions are inline.
#
# In RESP3 a member with its score is an array of two, in RESP2 the two follow one another, so the
# header of the whole differs as well.

from libc.math cimport isnan
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from crdtredis._core cimport (T_ZSET, Collection, Element, Kernel, element_key, element_klen,
                              key_member, key_prepare, key_type, member_add, member_score,
                              member_set, op_room)
from crdtredis._engine cimport Call, refuse
from crdtredis._resp cimport reply_array, reply_bulk, reply_double, reply_int, reply_null
from crdtredis.buffer cimport Buffer, Span, span
from crdtredis.commands.common cimport REFUSED
from crdtredis.commands.members cimport find_typed, store_members
from crdtredis.errors cimport SCORE_NAN

# One member of a result. The Element is of a source, which is not changed as long as the result is
# in use.
cdef struct Scored:
    Element *m
    double score


cdef inline Span score_span(const double *score) noexcept nogil:
    """A member's value."""
    return span(<const char*>score, sizeof(double))


cdef inline void reply_scored(Call *c, Element *m, double score, int with_scores) noexcept nogil:
    if with_scores and c.reply.resp > 2:
        reply_array(c.reply, 2)
    reply_bulk(c.reply, element_key(m), element_klen(m))
    if with_scores:
        reply_double(c.reply, score)


# ---- adding --------------------------------------------------------------------------------------
cdef enum AddOption:
    NX = 1
    XX = 2
    GT = 4
    LT = 8
    CH = 16
    INCR = 32


cdef inline void add_scored(Call *c, int options, const double *scores, int n, const Span *names,
                            int step) noexcept nogil:
    """ZADD to argv[1], whose options and scores have been read: the i-th name is names[i * step].
    With INCR there is one, and its score is what to add."""
    cdef Kernel *k = c.kernel
    cdef int64_t added = 0, changed = 0
    cdef int i, prepared = 0
    cdef double old, score
    cdef long double shown
    cdef Span key = c.argv[1], name
    cdef Element *e
    cdef Element *m
    cdef size_t bytes = 0
    for i in range(n):
        bytes += names[i * step].n + sizeof(double)
    if (find_typed(c, key, T_ZSET, &e) == REFUSED
        or not op_room(k, c.db, <size_t>n, key.n, bytes)):
        return
    for i in range(n):
        name = names[i * step]
        score = scores[i]
        old = 0
        m = key_member(k, e, T_ZSET, name) if key_type(k, e) == T_ZSET else NULL
        if m != NULL:
            if options & NX:
                continue
            old = member_score(k, m)
            if options & INCR:
                score += old
                if isnan(score):                            # nothing has been written
                    refuse(c, SCORE_NAN)
                    return
            if (options & LT and score >= old) or (options & GT and score <= old):
                continue
            changed += score != old
        elif options & XX:
            continue
        else:
            added += 1
        if not prepared:
            e = key_prepare(k, c.db, key, e, T_ZSET)
            prepared = 1
        if options & INCR:
            shown = score                                   # as Redis rounds it
            e = member_add(k, c.db, key, e, T_ZSET, name, scores[i], &shown)
        else:
            e = member_set(k, c.db, key, e, T_ZSET, name, score_span(&score))
    c.changes = added + changed
    if not options & INCR:
        reply_int(c.reply, added + changed if options & CH else added)
    elif prepared:
        reply_double(c.reply, member_score(k, key_member(k, e, T_ZSET, name)))
    else:
        reply_null(c.reply)


# ---- storing -------------------------------------------------------------------------------------
cdef inline void store_scored(Call *c, Span key, Buffer *members) noexcept nogil:
    """key := the members (of Scored), whatever it held; without any it is gone. Answers their
    number."""
    cdef Scored *all = <Scored*>members.p
    cdef size_t i
    for i in range(members.n // sizeof(Scored)):
        all[i].score += 0.0                                 # a stored zero has no sign
    store_members(c, key, T_ZSET, members, sizeof(Scored))

# Consumer groups as they are elsewhere: what COPY, RENAME and RESTORE put behind the entries of a
# new stream and its head. Each returns what stands under the key then.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

# group_put: `last` is last-delivered-id, `waiting` what of the entries up to there is not given
# out. Then the records, several of one owner, time and number of deliveries, and the consumers,
# since records say of theirs that it is there and when it was active.
cdef struct MadeGroup:
    uint64_t actor
    uint64_t seq

cdef Element *group_put(Kernel *k, uint32_t db, Span key, Element *e, Span name, StreamId last,
                        int64_t read, int shared, const StreamId *waiting, size_t n,
                        MadeGroup *made) noexcept nogil
cdef Element *records_put(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                          MadeGroup made, const PendingView *p, const StreamId *ids,
                          size_t n) noexcept nogil
cdef Element *consumer_put(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                           MadeGroup made, Span name, int64_t seen,
                           int64_t active) noexcept nogil
# All groups of stream s, as bytes from which they can be put when it is gone; and how much that
# takes in an op, at most.
cdef void groups_carry(Kernel *k, Collection *s, Buffer *b) noexcept nogil
cdef Element *groups_put(Kernel *k, uint32_t db, Span key, Element *e, Span carried) noexcept nogil
cdef size_t groups_size(Kernel *k, Collection *s, size_t key) noexcept nogil

# The same of a group, n records of one word, or a consumer. names: bytes of key, group and owner.
cdef inline size_t records_size(size_t names, size_t n) noexcept nogil:
    return 160 + names + 32 * n

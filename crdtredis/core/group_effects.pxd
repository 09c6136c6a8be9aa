# Consumer groups: making effects. What commands call, behind key_prepare(.., T_STREAM); each
# returns what stands under the key then.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t

from crdtredis.buffer cimport Span

cdef enum:
    # entries that one delivery says were given out elsewhere; and bytes that one op takes for such
    ELSEWHERE_MOST = 1000000
    ELSEWHERE_ROOM = 64 << 20

# XGROUP CREATE. The stream may be missing (MKSTREAM). read: entries-read, -1: not said. shared:
# every replica gives out all; a SETID leaves it.
cdef Element *group_create(Kernel *k, uint32_t db, Span key, Element *e, Span name, StreamId start,
                           int64_t read, int shared=*) noexcept nogil
cdef Element *group_set(Kernel *k, uint32_t db, Span key, Element *e, Span name, StreamId start,
                        int64_t read) noexcept nogil
cdef Element *group_destroy(Kernel *k, uint32_t db, Span key, Element *e, Span name) noexcept nogil
# A consumer is there from then on, and seen now. `active`: it was given something.
cdef Element *consumer_touch(Kernel *k, uint32_t db, Span key, Element *e, Span group, Span name,
                             int active) noexcept nogil
cdef Element *consumer_remove(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                              Span name) noexcept nogil
# Gives entries out: marks, and records unless noack.
cdef Element *group_deliver(Kernel *k, uint32_t db, Span key, Element *e, Span group, Span consumer,
                            const StreamId *ids, size_t n, int noack) noexcept nogil
# XACK: removes the records seen of ids.
cdef Element *pending_remove(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                             const StreamId *ids, size_t n) noexcept nogil
# ... in all groups, and how many bytes at most that makes.
cdef size_t references_size(Collection *s, size_t n) noexcept nogil
cdef Element *references_remove(Kernel *k, uint32_t db, Span key, Element *e, const StreamId *ids,
                                size_t n) noexcept nogil
# XCLAIM: the records of ids are the consumer's. All are there; or none is, and they are made. The
# empty name, at 0: they are nobody's (XNACK).
cdef Element *pending_claim(Kernel *k, uint32_t db, Span key, Element *e, Span group, Span consumer,
                            const StreamId *ids, size_t n, int64_t at,
                            int64_t deliveries) noexcept nogil

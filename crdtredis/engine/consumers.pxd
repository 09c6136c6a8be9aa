# Who reads groups of streams here, and which entries are given out to them. See consumers.pxi.

from libc.stdint cimport int64_t, uint32_t

from crdtredis._core cimport Portion
from crdtredis.buffer cimport Buffer, Span

cdef enum:
    CONSUMED_MOST = 100_000         # groups that have a consumer here,
    CONSUMED_BYTES = 64 << 20       # and what they take
    CONSUMED_NAME = 4096            # bytes of key and group: longer ones are given out everywhere
    CONSUMED_CHANGES = 16 << 20     # bytes of Consumers.changes

# A group that has a consumer here, or of which the sync thread has said who gives it out. Key and
# group follow.
cdef struct Consumed:
    Consumed *next          # in its chain
    Consumed *earlier       # by `used`, of those with a consumer here
    Consumed *later
    int64_t used            # ms, Dispatch.steady: the last XREADGROUP; -1: it has no consumer here
    int said                # `right` was said,
    int settled             # and nothing that is on its way will change it
    Portion right            # whose names are malloced
    uint32_t hash
    uint32_t db
    uint32_t key_n
    uint32_t group_n

# Of a group that a client reads: notes that it has a consumer here. Which entries are given to it;
# NULL: all. settled: this will not change for what is already on its way.
cdef const Portion *consume(Dispatch *d, uint32_t db, Span key, Span group, int shared,
                           int *settled) noexcept nogil
# Which entries would be given out, without a consumer.
cdef const Portion *giving_of(Dispatch *d, uint32_t db, Span key, Span group, int shared,
                             int *settled) noexcept nogil
# Those that nobody has read for Consumers.patience and nobody waits for have no consumer any more.
cdef void end_consumed(Dispatch *d) noexcept nogil
# All that have a consumer here, as changes.
cdef void list_consumed(Dispatch *d, Buffer *b) noexcept nogil
cdef void give_mode(Dispatch *d, int mode) noexcept nogil
# right NULL: nothing is said of the group any more. Who waits for its key looks again.
cdef void give_right(Dispatch *d, uint32_t db, Span key, Span group, const Portion *right,
                     int settled) noexcept nogil
cdef void consumers_free(Dispatch *d) noexcept nogil

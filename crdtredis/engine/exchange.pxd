# Messages from and to other replicas.

from libc.stdint cimport int64_t, uint64_t

from crdtredis._core cimport Actor, Kernel
from crdtredis.buffer cimport Buffer

cdef enum:
    PARKED_MOST = 10_000            # batches that wait for ops
    PARKED_BYTES = 16 << 20         # ... and what they take
    PARKED_MS = 60_000              # how long one waits

# Messages of another replica that wait for the op they stand behind. They follow.
cdef struct Parked:
    Parked *next
    uint64_t actor
    uint64_t seq
    int64_t until           # ms, Dispatch.steady
    size_t n
    size_t left             # of n bytes, not yet given out

# p: [actor, u64][seq, u64], then messages that go to subscribers here once that op is applied.
cdef void take_heard(Dispatch *d, const char *p, size_t n) noexcept nogil
# Is there so much that waits for time alone that no more is to be taken from peers before it is
# given out?
cdef int messages_pend(const Abroad *a) noexcept nogil
# Those whose op is applied now, and those whose time is up.
cdef void release_parked(Dispatch *d) noexcept nogil
# The changes that make up all that is listened to here.
cdef void list_topics(Dispatch *d, Buffer *b) noexcept nogil
# The actor that made this replica's newest op.
cdef Actor *newest_own(Kernel *k) noexcept nogil
cdef void parked_free(Dispatch *d) noexcept nogil

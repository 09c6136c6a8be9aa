# A bounded ring between two threads, and how each sleeps until the other has done something.

from libc.stdint cimport uint32_t

cdef enum:
    RING = 64               # items; a power of two

# One producer, one consumer. tail - done items are in it, RING at most; both counters wrap. An item
# leaves it when the consumer has done with it. What a thread writes has cache lines of its own.
cdef struct Ring:
    # of the producer
    uint32_t tail           # items put so far. The consumer sleeps on it
    uint32_t wanted         # the producer is woken when `done` comes to it
    void *items[64]         # RING
    char apart[64]
    # of the consumer
    uint32_t done           # items taken and done with so far. The producer sleeps on it
    uint32_t idle           # the consumer sleeps, or is about to
    char apart_too[64]

# The producer's side. There must be room: it never waits for it.
cdef void ring_put(Ring *r, void *item) noexcept nogil
cdef void ring_wake(Ring *r) noexcept nogil         # after one or several: if the consumer sleeps
cdef void ring_await(Ring *r, uint32_t done) noexcept nogil     # until so many are done with
cdef int ring_has(Ring *r, uint32_t done) noexcept nogil        # whether they are
# The consumer's: the earliest item, for which it waits; and that it is done with.
cdef void *ring_next(Ring *r) noexcept nogil
cdef void ring_over(Ring *r) noexcept nogil

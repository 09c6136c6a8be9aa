# Putting a stream of state into an empty replica (core/take.pxi).

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Buffer, Span

cdef enum TakingStage:
    TAKING_HEAD = 0
    TAKING_PIECES = 1
    TAKING_OVER = 2         # the End has come
    TAKING_BROKEN = 3       # something else has: nothing more is taken

cdef struct Taking:
    Kernel *k
    int stage               # what is expected
    # the table, by index
    uint32_t n
    uint32_t cap
    uint16_t *slots
    uint64_t *begin         # the clock as the stream began, to be the replica's in the end
    uint64_t *clock         # the giver's, as of the piece
    uint32_t *mark          # the last of the places, counted on, at which it was named
    uint32_t places
    uint8_t *known          # by slot: it is in the table
    # the piece under way
    Told at
    int keyed               # items of collections have a key to be of
    uint32_t db
    Span key
    # that key, with its collections open for what is to come; NULL: they are not
    Element *e
    Collection *c
    int was_live
    Buffer steps            # scratch
    # counts
    uint64_t pieces
    uint64_t count          # items

cdef void taking_begin(Taking *t, Kernel *k) noexcept nogil
cdef void taking_free(Taking *t) noexcept nogil
# One State. 1; 0 where the stream does not go on with this; -1 where the bytes are not what the
# format says: nothing of them was put in.
cdef int take(Taking *t, Span payload) noexcept nogil

# Taking in a stream of state (core/take.pxi).

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Buffer, Span

cdef enum TakingStage:
    TAKING_HEAD = 0
    TAKING_PIECES = 1
    TAKING_OVER = 2         # the End has come
    TAKING_BROKEN = 3       # something else has: nothing more is taken

# Of so many items of a piece the hashes of the names are kept from looking at it until it is put
# in; about 3,000 fit into 64 KiB.
cdef enum:
    HASHES = 1024
    SLOTS_AHEAD = 16        # so many items before it is put in, the slots of one are asked for,
    ELEMENTS_AHEAD = 8      # and so many before, what stands in them

cdef enum Taken:
    TAKEN = 1
    TAKEN_NOT = 0           # the stream does not go on with this
    TAKEN_BAD = -1          # the bytes are not what the format says
    # an actor contradicts a known one, or is one too many; or it is this process, and made no such
    # op
    TAKEN_ACTOR = -2
    TAKEN_AHEAD = -3        # there are stamps that are too far ahead of the clock
    TAKEN_OTHER = -4        # a key of a bucket that was not asked for

cdef struct Taking:
    Kernel *k
    Joining join
    int looks               # no more than that: nothing is put in
    int refused             # a Taken below TAKEN_BAD: why, where it is not the bytes
    int stage               # what is expected
    # the table, by index
    uint32_t n
    uint32_t cap
    uint16_t *slots
    uint64_t *begin         # the clock as the stream began, to be the replica's in the end
    uint64_t *clock         # the giver's, as of the piece
    uint32_t *mark          # the last of the places, counted on, at which it was named
    uint32_t cells
    uint8_t *known          # by slot: it is in the table
    int alike               # deps of the actor that came last are as they were told, no more
    uint64_t newest         # stamp that was met
    uint64_t last           # stamp that the End says
    VersionVector tail      # the clock that the giver's further ops have come to
    # items of the piece under way that are not put in yet
    const char *next
    const char *end
    # the piece under way
    uint32_t items          # that it has,
    uint32_t item           # and how many of them were looked at in this pass, or put in
    uint32_t hashes[HASHES]     # of the names of the first; of those that have none anything
    Told at
    int keyed               # items of collections have a key to be of
    uint32_t db
    Span key
    # that key, with its collections open for what is to come; NULL: they are not
    Element *e
    Collection *c
    int was_live
    Buffer steps            # scratch: a position
    Buffer places           # scratch: elements of a list, as Placed
    # counts
    uint64_t pieces
    uint64_t count          # items

cdef void taking_begin(Taking *t, Kernel *k) noexcept nogil
cdef void taking_free(Taking *t) noexcept nogil
# One State, a Taken: where it is not TAKEN, nothing of it was put in. Of a piece some items may be
# left, which take_some puts in; till then the bytes must stay.
cdef int take(Taking *t, Span payload) noexcept nogil
# Goes on with about `most` items, elements of lists counted one by one; 1 while more are left.
cdef int take_some(Taking *t, int64_t most) noexcept nogil
# An encoded Batch of what the giver logged since the stream began, behind the End: a Taken. Looks
# at it, or puts it in.
cdef int take_tail(Taking *t, Span batch) noexcept nogil
# The clock becomes that of the beginning.
cdef void taking_settle(Taking *t) noexcept nogil

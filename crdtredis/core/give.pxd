# The walk through the state of a replica that goes on working meanwhile (core/give.pxi).

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Buffer, Span

cdef enum GivingStage:
    GIVING_HEAD = 0
    GIVING_PIECES = 1
    GIVING_END = 2
    GIVING_OVER = 3

cdef struct Giving:
    Kernel *k
    int stage               # what comes next
    # buckets whose keys are given (core/buckets.pxi)
    int some                # not all
    uint8_t buckets[512]
    # as of the beginning
    Buffer begin            # the body of the Head
    # the table: actors in the order in which they were told
    uint16_t *index         # by slot: 1 + index; 0: not told yet
    uint32_t index_cap
    uint32_t actors         # that are told
    VersionVector clock               # by slot, as last told
    # the piece under way
    Told at
    Buffer declared         # actors that it appends to the table
    Buffer moved            # what changed in the clock
    Buffer items
    Buffer head             # scratch: of an item, what stands before its value,
    Buffer tail             # what stands behind it up to the writes,
    Buffer more             # and from there on
    Buffer body             # scratch: a write, a counter entry, a position
    Buffer steps            # scratch
    # where the walk is
    uint32_t databases      # how many of them are walked: SHARED, or all
    uint32_t db             # that many: it is over
    uint64_t cursor         # a bucket of the database's table
    int passed              # that was its last
    # keys of the bucket before it that are walked in pieces: size (8 bytes), bytes
    Buffer large
    size_t large_at         # the first of them that is not done begins here
    int type                # of it: the collection that is being walked, from T_HASH on
    uint64_t member         # a bucket of the collection's table
    # of a list: the position of the last element that was given, and of the one that was the last
    # when its walk began; of a stream ids, and of its late entries numbers
    Buffer after
    Buffer until
    uint64_t ops            # Kernel.streams.ops as of the beginning
    # counts
    uint64_t pieces
    uint64_t count          # items

# home: keys that stay at home are given, too.
cdef void giving_begin(Giving *g, Kernel *k, int home) noexcept nogil
# Where it is, appended to b, and going on there: -1 where the bytes are not what this process has
# said so.
cdef void giving_tell(Giving *g, Buffer *b) noexcept nogil
cdef int giving_resume(Giving *g, Kernel *k, Span told) noexcept nogil
cdef void giving_free(Giving *g) noexcept nogil
# The next State of the stream, of about `most` bytes, as the payload of a record that `b` begins
# and `rest` ends: 1, 0 when the End was given. The span is good until the next call.
cdef int give(Giving *g, size_t most, Buffer *b, size_t *at, Span *rest) noexcept nogil

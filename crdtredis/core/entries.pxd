# The entries of a stream by id, whether they stand by themselves or in blocks. See
# core/entries.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

cdef struct StreamId:
    uint64_t ms
    uint64_t seq

cdef enum:
    STREAM_ID = 16          # bytes of an id as the name of a member
    SEAL_HOLD = 64          # entries before the end that stay by themselves, at least,
    SEAL_HOLD_MOST = 1 << 16    # and at most
    SEAL_LEAST = 8          # entries that are worth a block
    SEAL_BYTES = 4096       # of fields in a block, about

# What a stream's entries in blocks come to, and which are to be sealed next.
cdef struct Sealing:
    size_t n                # entries in blocks
    size_t blocks
    size_t bytes            # of these
    StreamId begin          # below it nothing is to be sealed
    # the lowest id of what came below that, and of a block that was opened or lost half of its
    # entries, if any (`reopened`) since core/sweep.pxi came by
    StreamId opened
    int reopened
    int still               # since then no entry has come
    uint32_t hold           # entries before the end that are left alone: what is late comes there
    uint32_t wait           # entries that are to come before there is anything to seal

# It is the first of what follows the order of a stream.
cdef inline Sealing *sealing_of(const Collection *c) noexcept nogil:
    return <Sealing*>(<char*>c + sizeof(Collection) + sizeof(Order))

cdef inline int id_below(StreamId x, StreamId y) noexcept nogil:
    return x.ms < y.ms or (x.ms == y.ms and x.seq < y.seq)

# as the name of a member: both numbers big endian
cdef StreamId id_of(const char *name) noexcept nogil
cdef void put_id(char *to, StreamId id) noexcept nogil

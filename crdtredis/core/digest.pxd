# Digests of the state: of all of it, and by buckets. See core/digest.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Buffer, Span

cdef struct Digest:
    Kernel *k
    uint32_t db
    int type
    Span key                # of the collection whose members are being added
    int tombstones          # they are told, too
    uint64_t *sum           # two words
    Buffer b
    # a list element's: its position, which in memory names slots, as it is sent
    Buffer name
    Buffer total
    Buffer totals           # of a counter entry, as they are sent

# The sums of all buckets, or of each key in some of them, a little at a time while the replica goes
# on working.
cdef struct Digesting:
    Digest d                # d.db: SHARED: it is over
    uint64_t begun          # Kernel.changes then
    uint64_t *sums          # two words by bucket, or by key
    const uint8_t *some     # of the keys in these buckets, NULL: of the buckets
    uint32_t keys           # how many there are,
    uint32_t keys_cap
    Buffer names            # and of each its database and size (4 bytes each), and its bytes
    int64_t most            # elements that are left of this step
    uint64_t cursor         # a bucket of the database's table
    int passed              # that was its last
    # keys of the bucket before it that are summed up in parts: place among the sums and size (8
    # bytes each), bytes
    Buffer large
    size_t large_at         # the first of them that is not done begins here
    Span key                # it
    int type                # of it: the collection under way, from T_HASH on
    uint64_t member         # a bucket of the collection's table
    size_t rank             # elements of a list that are done

cdef void digesting_begin(Digesting *g, Kernel *k, int tombstones) noexcept nogil
# some: a bitmap that stays
cdef void digesting_keys(Digesting *g, Kernel *k, const uint8_t *some) noexcept nogil
cdef void digesting_free(Digesting *g) noexcept nogil
# Goes on with about `most` elements; 1 while more are left.
cdef int digesting_step(Digesting *g, int64_t most) noexcept nogil

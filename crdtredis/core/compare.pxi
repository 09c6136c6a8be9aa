# Which keys differ? Where the digests of a bucket do, both sides tell the digests of its keys.

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

cdef enum:
    NAMES_MOST = 16 << 20   # bytes of names, with their lengths, that are told


cdef class KeyDigests:
    """A digest of each key in some buckets of a Replica that goes on working, from now on: step()
    until it says False, then result(). Tombstones do not count.

    buckets: a bitmap of 512 bytes.
    """
    def __cinit__(self, Replica replica not None, bytes buckets not None):
        if len(buckets) != BUCKETS_MAP:
            raise ValueError("no bitmap of buckets")
        self.replica = replica
        self.buckets = buckets
        self.more = 1
        digesting_keys(&self.g, &replica.k, <const uint8_t*><const char*>buckets)

    def __dealloc__(self):
        digesting_free(&self.g)

    def step(self, int64_t most=1000):
        """Goes on with about `most` elements; True while more are left. OverflowError where there
        are too many keys. Cost: linear in `most`, and the values' bytes."""
        with nogil:
            self.more = digesting_step(&self.g, most)
        if self.g.names.n > NAMES_MOST:
            raise OverflowError("too many keys to compare them one by one")
        return bool(self.more)

    def result(self):
        """({(db, key): 16 bytes}, a bitmap of the buckets whose keys were changed since this was
        made). A key without a write, a live counter entry or a deadline has 16 zeros."""
        cdef uint32_t head[2]
        cdef size_t at = 0
        cdef uint32_t i
        if self.more:
            raise RuntimeError("the digests are not whole yet")
        out = {}
        for i in range(self.g.keys):
            memcpy(head, self.g.names.p + at, sizeof(head))
            at += sizeof(head)
            out[head[0], self.g.names.p[at:at + head[1]]] = (<char*>&self.g.sums[2 * i])[:16]
            at += head[1]
        unsure = bytearray(BUCKETS_MAP)
        for i in range(BUCKETS):
            if self.replica.k.touched.at[i] > self.g.begun:
                unsure[i >> 3] |= 1 << (i & 7)
        return out, bytes(unsure)

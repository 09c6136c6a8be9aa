# Buckets of keys: two replicas that compare their states do not compare keys, but sums over 4096
# parts of the keyspace (core/digest.pxi). A key is in the bucket that a hash of its database and
# name says, which all replicas share; so whoever chooses names can fill one bucket, and gains
# nothing but a longer comparison.
#
# A sum takes time, and keys change meanwhile. So while somebody sums up, every change of a key
# leaves its time at the bucket: what changed since he began is unsure. Time is Kernel.changes, the
# count of effects; a change without an effect (a tombstone that is let go of) counts as the next.

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Span


cdef uint32_t bucket_of(uint32_t db, Span key) noexcept nogil:
    cdef uint64_t hash_key[2]
    hash_key[0] = <uint64_t>0x637264746275636b
    hash_key[1] = db
    return siphash(key.p, key.n, hash_key) % BUCKETS


cdef inline int bucket_is_in(const uint8_t *map, uint32_t bucket) noexcept nogil:
    return map[bucket >> 3] >> (bucket & 7) & 1


cdef void buckets_watch(Kernel *k) noexcept nogil:
    if k.touched.at == NULL:
        k.touched.at = <uint64_t*>mem_zalloc(BUCKETS * sizeof(uint64_t))
    k.touched.holders += 1


cdef void buckets_leave(Kernel *k) noexcept nogil:
    k.touched.holders -= 1
    if k.touched.holders == 0:
        mem_free(k.touched.at)
        k.touched.at = NULL


cdef inline void touch_key(Kernel *k, uint32_t db, Span key) noexcept nogil:
    if k.touched.at != NULL and db < HOME_DB:
        k.touched.at[bucket_of(db, key)] = k.changes + 1


cdef void touch_buckets(Kernel *k) noexcept nogil:
    """All of them."""
    cdef uint32_t i
    for i in range(BUCKETS if k.touched.at != NULL else 0):
        k.touched.at[i] = k.changes + 1

# Buckets of keys: what two replicas compare first. See core/buckets.pxi.

from libc.stdint cimport uint32_t

from crdtredis.buffer cimport Span

cdef enum:
    BUCKETS = 4096
    BUCKETS_MAP = 512       # bytes of a bitmap of them

# the same in every replica
cdef uint32_t bucket_of(uint32_t db, Span key) noexcept nogil
# Between these, Kernel.touched says when the keys of each bucket were last changed.
cdef void buckets_watch(Kernel *k) noexcept nogil
cdef void buckets_leave(Kernel *k) noexcept nogil

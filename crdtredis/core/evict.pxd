# Eviction: which key goes next. See core/evict.pxi; when, and how many, says the owner.

from libc.stddef cimport size_t

cdef enum:
    EVICTION_POOL = 16      # candidates that are kept, as in Redis
    SHARE_MS = 10           # after which shares go round

# Makes the DEL of one key, between op_begin and op_end. 0: no key may be evicted.
cdef int evict_key(Kernel *k) noexcept nogil
cdef void eviction_free(Kernel *k) noexcept nogil

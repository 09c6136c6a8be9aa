# Where writes come from, by beginning of keys. See core/origins.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef enum:
    ORIGIN_GAP = 64         # of so many writes one is looked at, on average
    ORIGIN_REPLICAS = 8     # that are told apart under a prefix

cdef void origins_init(Origins *all, uint64_t seed)
cdef void origins_free(Origins *all) noexcept nogil
# An effect has been applied.
cdef inline void note_origin(Kernel *k, const Applying *op, const Effect *x) noexcept nogil:
    k.origins.wait -= 1
    if k.origins.wait == 0:
        sample_origin(k, op, x)
# An element is about to come into a list of n, behind the first `before` of them; or (n: 0) none
# comes.
cdef inline void note_insert(Kernel *k, const Applying *op, size_t before,
                             size_t n) noexcept nogil:
    k.origins.inside = 0 < before < n
    k.origins.insert = n if op.local else 0
cdef void sample_origin(Kernel *k, const Applying *op, const Effect *x) noexcept nogil

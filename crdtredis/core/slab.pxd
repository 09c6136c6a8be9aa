# Small blocks of memory without a header each: see core/slab.pxi. Of mem_alloc and its like only.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint8_t

cdef enum:
    SMALL_BLOCK = 512       # bytes of the largest

cdef enum SlabKind:
    SLAB_BRIEF = 0
    SLAB_KEPT = 1

cdef struct Slab:
    uint32_t next           # of its list, by number; 0: none
    uint32_t prev
    uint8_t kind            # SLAB_*
    # in units of 8 bytes:
    uint8_t size            # of a block; 0: the slab is empty
    uint16_t fresh          # where the part begins that was never given out
    uint16_t free           # the last block that was freed, and 1; 0: none
    uint16_t used           # blocks

# n of 1 to SMALL_BLOCK, rounded up to 8 bytes; NULL where there is none: malloc may have it
cdef void *slab_alloc(size_t n, int kind) noexcept nogil
cdef void slab_free(void *p) noexcept nogil
cdef int is_slab(const void *p) noexcept nogil             # whether slab_alloc gave it
cdef size_t slab_size(const void *p) noexcept nogil        # of a block, as rounded
cdef int slab_kind(const void *p) noexcept nogil
# Gives the pages of so many empty slabs back to the system; 1 while there are more.
cdef int slabs_give(int most) noexcept nogil
cdef size_t slabs_bytes() noexcept nogil                   # of the slabs that are not empty
cdef size_t slabs_empty() noexcept nogil                   # those that are, and have their pages

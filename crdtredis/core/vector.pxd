# Version vectors by slot, whose parts are shared where many say the same. See core/vector.pxi.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef enum:
    PAGE_SLOTS = 64
    PAGE_STEP = 8           # slots by which a page grows

# The seqs of `n` slots that follow each other, at most PAGE_SLOTS; those beyond are 0. They follow
# the struct.
cdef struct Page:
    uint32_t holders        # vectors; of a page of several nothing is changed
    uint32_t n

# What lies beyond `n` pages is 0, and so is a page that is NULL.
cdef struct VersionVector:
    Page **pages
    uint32_t n

cdef inline uint64_t *page_seqs(const Page *p) noexcept nogil:
    return <uint64_t*>(p + 1)

cdef inline uint64_t page_get(const Page *p, uint32_t at) noexcept nogil:
    return page_seqs(p)[at] if p != NULL and at < p.n else 0

cdef inline uint64_t vector_get(const VersionVector *r, uint16_t slot) noexcept nogil:
    cdef uint32_t i = slot // PAGE_SLOTS
    return page_get(r.pages[i], slot % PAGE_SLOTS) if i < r.n else 0

cdef void vector_put(VersionVector *r, uint16_t slot, uint64_t seq) noexcept nogil

# to seq, if it is below
cdef inline void vector_raise(VersionVector *r, uint16_t slot, uint64_t seq) noexcept nogil:
    if vector_get(r, slot) < seq:
        vector_put(r, slot, seq)

# What stands in it is lost.
cdef void vector_copy(VersionVector *r, const VersionVector *of) noexcept nogil
# To what either says.
cdef void vector_join(VersionVector *r, const VersionVector *of) noexcept nogil
# Shares with `common`, the newest pages of all that share, what they have alike.
cdef void vector_share(VersionVector *r, VersionVector *common) noexcept nogil
cdef void vector_free(VersionVector *r) noexcept nogil

# Version vectors: how does a replica remember what each of thousands of actors had seen?
#
# Of most of them the process has ended, and the next one of that replica has seen all that it had:
# their vectors are alike but for few slots. As plain arrays they would take N * N words, 2 GB for
# the 16384 actors that are left of restarts where nothing is proven (storage/witness.py). So a
# vector is pages of 64 slots, and pages that say the same are shared: `vector_share` compares each
# with the one that was shared last in its place. Two or so of each actor are its own, that where
# those live who go on and that where it found its predecessor:
#
#     a/1: [b 1, a/1 0]                                 a/99: [b 7, a/1 9, ...] [...]  own own
#     a/2: [b 2, a/1 9]                                 a/150: [b 8, ...] [...] [...]  own = own
#
# A page that has several holders is copied before it is changed. A vector of few actors, as one of
# each large collection is, is one short page.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset


cdef void page_drop(Page *p) noexcept nogil:
    if p != NULL:
        p.holders -= 1
        if p.holders == 0:
            mem_free(p)


cdef Page *page_own(Page *p, uint32_t n) noexcept nogil:
    """p, or a copy if others hold it, with room for n slots at least."""
    cdef uint32_t had = p.n if p != NULL else 0
    cdef Page *own
    if p != NULL and p.holders == 1 and had >= n:
        return p
    n = max(n, had)
    own = <Page*>mem_alloc(sizeof(Page) + n * sizeof(uint64_t))
    own.holders = 1
    own.n = n
    if had:
        memcpy(page_seqs(own), page_seqs(p), had * sizeof(uint64_t))
    memset(page_seqs(own) + had, 0, (n - had) * sizeof(uint64_t))
    page_drop(p)
    return own


cdef void vector_grow(VersionVector *r, uint32_t n) noexcept nogil:
    if n > r.n:
        r.pages = <Page**>mem_realloc(r.pages, n * sizeof(Page*))
        memset(r.pages + r.n, 0, (n - r.n) * sizeof(Page*))
        r.n = n


cdef void vector_put(VersionVector *r, uint16_t slot, uint64_t seq) noexcept nogil:
    cdef uint32_t i = slot // PAGE_SLOTS, at = slot % PAGE_SLOTS
    vector_grow(r, i + 1)
    r.pages[i] = page_own(r.pages[i], (at // PAGE_STEP + 1) * PAGE_STEP)
    page_seqs(r.pages[i])[at] = seq


cdef void vector_copy(VersionVector *r, const VersionVector *of) noexcept nogil:
    cdef uint32_t i
    vector_free(r)
    vector_grow(r, of.n)
    for i in range(of.n):
        r.pages[i] = of.pages[i]
        if r.pages[i] != NULL:
            r.pages[i].holders += 1


cdef void vector_join(VersionVector *r, const VersionVector *of) noexcept nogil:
    cdef uint32_t i, at
    for i in range(of.n):
        for at in range(of.pages[i].n if of.pages[i] != NULL else 0):
            if page_get(of.pages[i], at):
                vector_raise(r, <uint16_t>(i * PAGE_SLOTS + at), page_get(of.pages[i], at))


cdef void vector_share(VersionVector *r, VersionVector *common) noexcept nogil:
    cdef Page *p
    cdef Page *same
    cdef uint32_t i
    if r.n < 2:
        return
    vector_grow(common, r.n)
    for i in range(r.n):
        p, same = r.pages[i], common.pages[i]
        if p == NULL or p.holders > 1:
            continue
        if (same != NULL and same.n == p.n
                and memcmp(page_seqs(p), page_seqs(same), p.n * sizeof(uint64_t)) == 0):
            page_drop(p)
            r.pages[i] = same
        else:
            page_drop(same)
            common.pages[i] = p
        r.pages[i].holders += 1


cdef void vector_free(VersionVector *r) noexcept nogil:
    cdef uint32_t i
    for i in range(r.n):
        page_drop(r.pages[i])
    mem_free(r.pages)
    memset(r, 0, sizeof(VersionVector))

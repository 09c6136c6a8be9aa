# Spans and growable byte buffers, shared by every compiled module. Header only: all functions are
# inline.
#
# Memory: a failed allocation ends the process with a message, as it does in Redis; every size that
# a client, a peer or a file can choose is bounded before it gets here. A Buffer is freed by whoever
# owns the struct that holds it.

from libc.stddef cimport size_t
from libc.stdio cimport fputs, stderr
from libc.stdlib cimport abort, free, realloc
from libc.string cimport memcpy


cdef extern from *:
    """
    #include <sys/mman.h>
    #define LARGE_BLOCK ((size_t)32 << 20)
    /* A block that malloc maps by itself, about to be filled: a fault per 2 MiB in place of one per
       4 KiB, which took longer than the copying. */
    static inline void huge_pages(void *p, size_t n) {
    #ifdef MADV_HUGEPAGE
        size_t from = ((size_t)p + 4095) & ~(size_t)4095, to = ((size_t)p + n) & ~(size_t)4095;
        if (n >= LARGE_BLOCK) madvise((void *)from, to - from, MADV_HUGEPAGE);
    #endif
    }
    """
    void huge_pages(void *p, size_t n) noexcept nogil


cdef struct Span:
    const char *p
    size_t n


cdef struct Buffer:
    char *p
    size_t n            # bytes in use
    size_t cap          # bytes allocated


cdef inline Span span(const char *p, size_t n) noexcept nogil:
    cdef Span s
    s.p = p
    s.n = n
    return s


cdef inline void copy_span(char *to, Span s) noexcept nogil:
    if s.n:                                # an empty span may point nowhere
        memcpy(to, s.p, s.n)


cdef inline void *need_memory(void *p) noexcept nogil:
    """What malloc and its like have just returned."""
    if p == NULL:
        fputs("crdt-redis: out of memory\n", stderr)
        abort()
    return p


cdef inline void buffer_resize(Buffer *b, size_t cap) noexcept nogil:
    """Allocate exactly `cap` bytes, more than 0 and not fewer than are in use."""
    cdef char *p = <char*>need_memory(realloc(b.p, cap))
    huge_pages(p, cap)
    b.p = p
    b.cap = cap


cdef inline void buffer_grow(Buffer *b, size_t more) noexcept nogil:
    """Cold part of buffer_need: at least doubles, so that appending is amortised O(1)."""
    cdef size_t cap = b.cap * 2 if b.cap else 256
    buffer_resize(b, cap if cap > b.n + more else b.n + more)


cdef inline char *buffer_need(Buffer *b, size_t more) noexcept nogil:
    """Make room for `more` bytes and return where they go. The caller adds what it wrote to b.n."""
    if b.cap - b.n < more:
        buffer_grow(b, more)
    return b.p + b.n


cdef inline void buffer_add(Buffer *b, const void *p, size_t n) noexcept nogil:
    if n:
        memcpy(buffer_need(b, n), p, n)
        b.n += n


cdef inline void buffer_free(Buffer *b) noexcept nogil:
    free(b.p)
    b.p = NULL
    b.n = 0
    b.cap = 0

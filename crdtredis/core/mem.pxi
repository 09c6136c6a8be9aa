# How much memory does the keyspace hold, and does it give all of it back?
#
# Every allocation of the kernel goes through here, so both answers are a counter and not a walk.
# Small blocks come from slabs (core/slab.pxi), larger ones from malloc. The bytes counted are what
# is really set aside: of malloc's blocks the usable size it reports plus its own word in front. The
# figure leaves out what is free in slabs and in malloc's lists; RSS, which INFO shows beside it,
# includes that.
#
# The counters are plain integers: the keyspace belongs to one thread at a time (the engine's; at
# start the recovering one; in tests the test's), and what crosses to other threads is Python bytes.
# The allocator is the C library's. A faster one can be preloaded without a change here as long as
# it provides malloc_usable_size.
#
# Out of memory ends the process with one line on stderr: sizes that a client, a peer or a file may
# choose are bounded before they get here, max_memory refuses writes long before, and half-applied
# operations would be worse than a restart.
#
# The C library keeps small freed blocks aside and joins them all together at the next free of a
# large one: after a million members were freed, a stop of a third of a second. So it is told to
# join each as it is freed.
#
# Debug builds overwrite what is freed, so that a use after free reads nonsense soon instead of old
# truth for a while; and they end where something happens that must not.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.stdio cimport fprintf, stderr
from libc.stdlib cimport abort, calloc, malloc, realloc
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport huge_pages

cdef extern from *:
    """
    #include <malloc.h>
    #include <string.h>
    #ifdef CRDT_DEBUG
    #define mem_poison(p, n) memset((p), 0xdd, (n))
    #define mem_assert_not(what) (fprintf(stderr, "crdt-redis: %s\\n", what), abort())
    #else
    #define mem_poison(p, n) ((void)0)
    #define mem_assert_not(what) ((void)0)
    #endif
    """
    void mem_poison(void *p, size_t n) noexcept nogil
    void mem_assert_not(const char *what) noexcept nogil     # this must not be reached

mallopt(M_MXFAST, 0)

cdef size_t mem_bytes = 0
cdef int64_t mem_blocks = 0


cdef void mem_exhausted(size_t n) noexcept nogil:
    fprintf(stderr, "crdt-redis: out of memory (asked for %zu bytes with %zu in use)\n", n,
            mem_bytes)
    abort()


cdef size_t mem_room(const void *p) noexcept nogil:
    return slab_size(p) if is_slab(p) else malloc_usable_size(<void*>p)


cdef size_t mem_size(const void *p) noexcept nogil:
    if is_slab(p):
        return slab_size(p)
    return malloc_usable_size(<void*>p) + sizeof(size_t) if p != NULL else 0


cdef void *mem_counted(void *p, size_t n) noexcept nogil:
    global mem_bytes, mem_blocks
    if p == NULL:
        mem_exhausted(n)
    mem_bytes += mem_size(p)
    mem_blocks += 1
    return p


cdef void *mem_small(size_t n, int kind) noexcept nogil:
    """NULL where malloc is to be asked."""
    cdef void *p = slab_alloc(n, kind) if 0 < n <= SMALL_BLOCK else NULL
    return mem_counted(p, n) if p != NULL else NULL


cdef void *mem_alloc_as(size_t n, int kind) noexcept nogil:
    cdef void *p = mem_small(n, kind)
    if p != NULL:
        return p
    p = malloc(n)
    huge_pages(p, n)
    return mem_counted(p, n)


cdef void *mem_alloc(size_t n) noexcept nogil:
    return mem_alloc_as(n, SLAB_BRIEF)


cdef void *mem_alloc_kept(size_t n) noexcept nogil:
    return mem_alloc_as(n, SLAB_KEPT)


cdef void *mem_zalloc(size_t n) noexcept nogil:
    cdef void *p = mem_small(n, SLAB_BRIEF)
    if p != NULL:
        return memset(p, 0, n)
    p = calloc(1, n)
    huge_pages(p, n)
    return mem_counted(p, n)


cdef void *mem_realloc(void *p, size_t n) noexcept nogil:
    global mem_bytes, mem_blocks
    cdef size_t room
    cdef void *moved
    if p == NULL:
        return mem_alloc(n)
    if is_slab(p) or n <= SMALL_BLOCK:
        room = mem_room(p)
        if is_slab(p) and n <= room < n + 8:
            return p
        moved = mem_alloc_as(n, slab_kind(p) if is_slab(p) else SLAB_BRIEF)
        memcpy(moved, p, min(n, room))
        mem_free(p)
        return moved
    mem_bytes -= mem_size(p)
    mem_blocks -= 1
    p = realloc(p, n)
    huge_pages(p, n)
    return mem_counted(p, n)


cdef void mem_free(void *p) noexcept nogil:
    global mem_bytes, mem_blocks
    if p == NULL:
        return
    mem_bytes -= mem_size(p)
    mem_blocks -= 1
    mem_poison(p, mem_room(p))
    if is_slab(p):
        slab_free(p)
    else:
        pages_free(p)


cdef size_t mem_used() noexcept nogil:
    return mem_bytes


cdef int64_t mem_live() noexcept nogil:
    return mem_blocks

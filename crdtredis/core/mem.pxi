# How much memory does the keyspace hold, and does it give all of it back?
#
# Every allocation of the kernel goes through here, so both answers are a counter and not a walk.
# The bytes counted are what malloc really set aside: the usable size it reports plus its own word
# in front of each block. The figure leaves out what malloc keeps in its free lists; RSS, which INFO
# shows beside it, includes that.
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

from crdtredis.buffer cimport huge_pages

cdef extern from *:
    """
    #include <malloc.h>
    #include <string.h>
    #ifdef CRDT_DEBUG
    #define mem_poison(p) memset((p), 0xdd, malloc_usable_size(p))
    #define mem_assert_not(what) (fprintf(stderr, "crdt-redis: %s\\n", what), abort())
    #else
    #define mem_poison(p) ((void)0)
    #define mem_assert_not(what) ((void)0)
    #endif
    """
    void mem_poison(void *p) noexcept nogil
    void mem_assert_not(const char *what) noexcept nogil     # this must not be reached

mallopt(M_MXFAST, 0)

cdef size_t mem_bytes = 0
cdef int64_t mem_blocks = 0


cdef void mem_exhausted(size_t n) noexcept nogil:
    fprintf(stderr, "crdt-redis: out of memory (asked for %zu bytes with %zu in use)\n", n,
            mem_bytes)
    abort()


cdef void *mem_counted(void *p, size_t n) noexcept nogil:
    global mem_bytes, mem_blocks
    if p == NULL:
        mem_exhausted(n)
    huge_pages(p, n)
    mem_bytes += malloc_usable_size(p) + sizeof(size_t)
    mem_blocks += 1
    return p


cdef void *mem_alloc(size_t n) noexcept nogil:
    return mem_counted(malloc(n), n)


cdef void *mem_zalloc(size_t n) noexcept nogil:
    return mem_counted(calloc(1, n), n)


cdef void *mem_realloc(void *p, size_t n) noexcept nogil:
    global mem_bytes, mem_blocks
    if p != NULL:
        mem_bytes -= malloc_usable_size(p) + sizeof(size_t)
        mem_blocks -= 1
    return mem_counted(realloc(p, n), n)


cdef void mem_free(void *p) noexcept nogil:
    global mem_bytes, mem_blocks
    if p != NULL:
        mem_bytes -= malloc_usable_size(p) + sizeof(size_t)
        mem_blocks -= 1
        mem_poison(p)
        pages_free(p)


cdef size_t mem_used() noexcept nogil:
    return mem_bytes


cdef int64_t mem_live() noexcept nogil:
    return mem_blocks

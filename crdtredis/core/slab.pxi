# What does a small block of memory take, beyond its own bytes?
#
# With malloc a word in front of each and 16-byte steps: 12 bytes a block, where most of what a
# keyspace holds is one block of 40 to 100 bytes an element. Here nothing but the rounding to 8
# bytes: a slab is 64 KiB of blocks of one size, and an address says which slab it lies in.
#
#     the addresses  | slab 1 | slab 2 | slab 3 |  ...  as many as the machine has memory, reserved
#                       24       56       24            at the start; a slab has pages when used
#     slabs[i]       size, where the fresh part begins, the last block freed, how many are in use
#     slab_room[k][c]    the slabs of blocks of 8c bytes, of kind k, that have room
#
# What is kept for long, a key and a collection that is packed, stands apart from what it was before
# (core/packed.pxi): else nearly each slab of those blocks would go on with a few of them.
#
# A freed block holds, in its first two bytes, which was freed before it. A slab of which no block
# is in use is empty: it is the first to be taken again, for whatever size, until slabs_give gives
# its pages back.
#
# One lock for all: a server's keyspace belongs to one thread, so nobody waits for it; but a test
# may run several servers in one process. A child that is forked finds it open.
#
# Where the addresses cannot be had (a limit of the address space), or all are in use, or a
# sanitizer is to see each block by itself, slab_alloc says so by NULL, and mem_alloc asks malloc.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <pthread.h>
    #include <sched.h>
    #include <sys/mman.h>
    #include <unistd.h>
    #define SLAB_BYTES ((size_t)1 << 16)
    #if defined(__SANITIZE_ADDRESS__)
    #define SLABS_WANTED 0
    #elif defined(__has_feature)
    #if __has_feature(address_sanitizer)
    #define SLABS_WANTED 0
    #endif
    #endif
    #ifndef SLABS_WANTED
    #define SLABS_WANTED 1
    #endif

    static char slab_locked;
    static void slab_lock(void) {
        while (__atomic_test_and_set(&slab_locked, __ATOMIC_ACQUIRE)) sched_yield();
    }
    static void slab_unlock(void) { __atomic_clear(&slab_locked, __ATOMIC_RELEASE); }

    /* Addresses without memory: of *n slabs of `each` bytes of description, which *slabs is, as
       much as the machine has memory; NULL: not to be had. */
    static char *slabs_reserve(size_t *n, size_t each, void *slabs) {
        size_t most = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / SLAB_BYTES;
        size_t head = (most * each + SLAB_BYTES - 1) & ~(SLAB_BYTES - 1);
        char *p = SLABS_WANTED
            ? mmap(NULL, head + (most + 1) * SLAB_BYTES, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            : MAP_FAILED;
        if (p == MAP_FAILED || pthread_atfork(slab_lock, slab_unlock, slab_unlock)) return NULL;
        p = (char *)(((size_t)p + SLAB_BYTES - 1) & ~(SLAB_BYTES - 1));
        *n = most;
        *(char **)slabs = p;
        return p + head;
    }
    static int open_addresses(void *p, size_t n) {
        if (mprotect(p, n, PROT_READ | PROT_WRITE)) return 0;
        madvise(p, n, MADV_HUGEPAGE);
        return 1;
    }
    """
    int MADV_DONTNEED
    int madvise(void *p, size_t n, int advice) noexcept nogil
    void slab_lock() noexcept nogil
    void slab_unlock() noexcept nogil
    char *slabs_reserve(size_t *n, size_t each, void *slabs) noexcept nogil
    int open_addresses(void *p, size_t n) noexcept nogil

cdef enum:
    SLAB_SHIFT = 16
    SLAB_UNITS = 8192           # of 8 bytes, in a slab
    SLABS_OPENED = 4096         # whose addresses are opened at once: whole pages of descriptions

cdef Slab *slabs = NULL
cdef size_t slabs_most = 0      # slabs that there are addresses for
cdef char *slabs_base = slabs_reserve(&slabs_most, sizeof(Slab), &slabs)
cdef uint32_t slabs_opened = 0  # slabs below this number have their addresses open,
cdef uint32_t slabs_begun = 1   # below this were in use once: number 0 never is
cdef uint32_t slab_room[2][65]  # by kind and size: the first with room
cdef uint32_t slabs_warm = 0    # the first that is empty and has pages,
cdef uint32_t slabs_cold = 0    # and has none
cdef size_t slabs_warm_n = 0
cdef size_t slabs_used = 0      # that are not empty

memset(slab_room, 0, sizeof(slab_room))


cdef void slab_link(uint32_t *head, uint32_t i) noexcept nogil:
    slabs[i].prev = 0
    slabs[i].next = head[0]
    slabs[head[0]].prev = i
    head[0] = i


cdef void slab_unlink(uint32_t *head, uint32_t i) noexcept nogil:
    cdef Slab *s = &slabs[i]
    slabs[s.next].prev = s.prev
    if s.prev:
        slabs[s.prev].next = s.next
    else:
        head[0] = s.next


cdef uint32_t slabs_more() noexcept nogil:
    """The number of a slab that was never in use; 0 where there is none."""
    global slabs_opened, slabs_begun
    cdef size_t more = min(<size_t>SLABS_OPENED, slabs_most - slabs_opened)
    if slabs_begun >= slabs_opened:
        if (slabs_begun >= slabs_opened + more
                or not open_addresses(&slabs[slabs_opened], more * sizeof(Slab))
                or not open_addresses(slabs_base + (<size_t>slabs_opened << SLAB_SHIFT),
                                      more << SLAB_SHIFT)):
            return 0
        slabs_opened += <uint32_t>more
    slabs_begun += 1
    return slabs_begun - 1


cdef uint32_t slab_begin(uint32_t size, int kind) noexcept nogil:
    """A slab of blocks of this size and kind, at the head of slab_room; 0 where there is none."""
    global slabs_used, slabs_warm_n
    cdef uint32_t i = slabs_warm
    if i:
        slab_unlink(&slabs_warm, i)
        slabs_warm_n -= 1
    elif slabs_cold:
        i = slabs_cold
        slab_unlink(&slabs_cold, i)
    else:
        i = slabs_more()
        if i == 0:
            return 0
    slabs_used += 1
    slabs[i].kind = <uint8_t>kind
    slabs[i].size = <uint8_t>size
    slabs[i].fresh = 0
    slabs[i].free = 0
    slab_link(&slab_room[kind][size], i)
    return i


cdef inline int slab_full(const Slab *s) noexcept nogil:
    return s.free == 0 and s.fresh + s.size > SLAB_UNITS


cdef void *slab_alloc(size_t n, int kind) noexcept nogil:
    cdef uint32_t size = <uint32_t>((n + 7) >> 3)
    cdef uint32_t i
    cdef Slab *s
    cdef char *p
    slab_lock()
    i = slab_room[kind][size]
    if i == 0:
        i = slab_begin(size, kind)
        if i == 0:
            slab_unlock()
            return NULL
    s = &slabs[i]
    p = slabs_base + (<size_t>i << SLAB_SHIFT)
    if s.free:
        p += <size_t>(s.free - 1) << 3
        s.free = (<uint16_t*>p)[0]
    else:
        p += <size_t>s.fresh << 3
        s.fresh += <uint16_t>size
    s.used += 1
    if slab_full(s):
        slab_unlink(&slab_room[kind][size], i)
    slab_unlock()
    return p


cdef void slab_free(void *p) noexcept nogil:
    global slabs_used, slabs_warm_n
    cdef size_t at = <size_t>(<char*>p - slabs_base)
    cdef uint32_t i = <uint32_t>(at >> SLAB_SHIFT)
    cdef Slab *s
    cdef int full
    slab_lock()
    s = &slabs[i]
    full = slab_full(s)
    (<uint16_t*>p)[0] = s.free
    s.free = <uint16_t>(((at & ((1 << SLAB_SHIFT) - 1)) >> 3) + 1)
    s.used -= 1
    if s.used == 0:
        if not full:
            slab_unlink(&slab_room[s.kind][s.size], i)
        s.size = 0
        slabs_used -= 1
        slab_link(&slabs_warm, i)
        slabs_warm_n += 1
    elif full:
        slab_link(&slab_room[s.kind][s.size], i)
    slab_unlock()


cdef inline int is_slab(const void *p) noexcept nogil:
    return <size_t>(<const char*>p - slabs_base) < slabs_most << SLAB_SHIFT


cdef inline size_t slab_size(const void *p) noexcept nogil:
    return <size_t>slabs[<size_t>(<const char*>p - slabs_base) >> SLAB_SHIFT].size << 3


cdef inline int slab_kind(const void *p) noexcept nogil:
    return slabs[<size_t>(<const char*>p - slabs_base) >> SLAB_SHIFT].kind


cdef int slabs_give(int most) noexcept nogil:
    global slabs_warm, slabs_cold, slabs_warm_n
    cdef uint32_t i
    slab_lock()
    while slabs_warm and most:
        i = slabs_warm
        slab_unlink(&slabs_warm, i)
        madvise(slabs_base + (<size_t>i << SLAB_SHIFT), 1 << SLAB_SHIFT, MADV_DONTNEED)
        slab_link(&slabs_cold, i)
        slabs_warm_n -= 1
        most -= 1
    slab_unlock()
    return slabs_warm != 0


cdef size_t slabs_bytes() noexcept nogil:
    return slabs_used << SLAB_SHIFT


cdef size_t slabs_empty() noexcept nogil:
    return slabs_warm_n

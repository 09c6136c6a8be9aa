# When much is deleted, how does the system get its memory back without a stop of the server?
#
# The system takes about 0.1 ms for each MiB of pages it is given, whoever asks and however: munmap
# of a string of 100 MB, the C library's own trimming of the end of the heap, malloc_trim. Neither
# of these can be cut into pieces, and malloc_trim in another thread holds the lock that the next
# malloc waits for. So pages go back here, a MiB or two per loop iteration:
#
#   - blocks of LARGE bytes and more, such as the slots of a table that has grown, which nothing
#     will fill as well again; malloc maps those of MAPPED bytes by themselves. One that is freed is
#     put on a list; its pages go from its end on, with madvise, and free() comes last and finds
#     little left to do.
#   - slabs (core/slab.pxi) that were empty all through a second, and before the heap all of them;
#   - the heap: blocks of malloc that were freed have joined to large free ones. Those are taken
#     from malloc one by one, their pages are given back, and they are kept until no more are to be
#     had: then all of them are freed. What malloc gives from beyond the end that the heap had shows
#     that it has no free block of the size left; then smaller ones are looked for.
#
# The heap is given back once much less of it is in use than before (GIVE bytes) and nothing more is
# being freed, so a server whose data comes and goes pays a page fault for each page a few times a
# second at the worst. The C library's own trimming is off.
#
# What comes and goes between two looks nobody has seen in use: large messages, what scripts hold.
# So once a second the pages that the process has are compared with what is in use. Where there are
# more by EXCESS and an eighth than there ever were beyond that at the least (Python's memory), the
# heap is given back. Each try costs page faults: the next one comes REST looks later at the
# soonest, and twice as late each time that less than GIVE came back, since the rest may be in use
# where nobody counts it, or lie in holes that are too small; but soon where half of what is in use
# has gone.
#
# The heap of the sync thread holds what crosses to peers. malloc_trim gives back its holes; its end
# only goes with a free() in that thread, while the C library's own trimming is on for a moment. So
# that thread does both, once a second if it is to. malloc_trim takes every heap's lock for as long
# as it goes through it: 190 ms for the engine's, with 300,000 blocks in use among free ones; so
# only where at most TRIM_MOST is in use.
#
# Where malloc is another library's, or the caller is not the main thread, all addresses lie beyond
# the heap's end, and nothing is done.

from libc.stddef cimport ptrdiff_t, size_t
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc

cdef extern from *:
    """
    #include <fcntl.h>
    #include <malloc.h>
    #include <stdlib.h>
    #include <sys/mman.h>
    #include <unistd.h>
    /* Pages that the process has; 0 where the system does not say. */
    static size_t pages_resident(void) {
        static int fd = -1;
        char text[128];
        char *at;
        ssize_t n;
        if (fd < 0) fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
        n = pread(fd, text, sizeof(text) - 1, 0);
        if (n <= 0) return 0;
        text[n] = 0;
        strtoull(text, &at, 10);
        return strtoull(at, NULL, 10);
    }
    /* A free() that looks at the end of the thread's heap: of a block of 64 KiB at least. */
    static void trim_end(void) {
        void *volatile p = malloc(1 << 17);     /* else the compiler leaves both out */
        free(p);
    }
    """
    size_t pages_resident() noexcept nogil
    void trim_end() noexcept nogil
    int malloc_trim(size_t pad) noexcept nogil
    int M_MXFAST
    int M_TRIM_THRESHOLD
    int M_MMAP_THRESHOLD
    int mallopt(int what, int value) noexcept nogil
    size_t malloc_usable_size(void *p) noexcept nogil
    void *sbrk(ptrdiff_t n) noexcept nogil
    int getpagesize() noexcept nogil

cdef enum:
    MAPPED = 32 << 20           # bytes; the most that malloc can be told
    LARGE = 4 << 20             # bytes
    SLICE = 1 << 20             # bytes of the heap given back at once
    HUGE = 2 << 20              # bytes of a large page, where such blocks have them
    SLICE_LEAST = 1 << 16       # smaller pieces of free memory are left
    GIVE = 16 << 20             # bytes
    HELD_SLICE = 64             # blocks freed in a slice
    EXCESS = 32 << 20           # bytes
    REST = 5                    # looks, one a second
    REST_MOST = 320
    TRIM_MOST = 8 << 20         # bytes
    SLABS_GIVEN = 16            # slabs given back in a slice: a MiB; fewer are left
    SLABS_WATCHED = 10          # times that they are looked at until it is said that they are empty

mallopt(M_TRIM_THRESHOLD, -1)
mallopt(M_MMAP_THRESHOLD, MAPPED)

# The head of a block whose pages are going back, or have gone.
cdef struct Freed:
    Freed *next
    size_t n                    # bytes from its start that still have pages

cdef size_t page = getpagesize()
cdef int pages_sliced = 0
cdef Freed *pages_large = NULL
cdef Freed *pages_held = NULL
cdef size_t pages_slice = 0     # bytes of the free blocks that are looked for; 0: none are
cdef size_t pages_most = 0      # bytes in use, at most since memory was given back
cdef size_t pages_last = 0      # when watched last
cdef size_t other_bytes = <size_t>-1    # resident and not in use, at least so far
cdef size_t other_before = 0    # ... when a try began; 0: it has been looked at since
cdef uint32_t pages_rest = REST     # looks between two tries
cdef uint32_t pages_resting = 0     # looks to come before the next
cdef size_t pages_tried = 0     # bytes in use when the last began
cdef size_t slabs_least = <size_t>-1    # that were empty whenever looked at, so far
cdef int slabs_watched = 0      # times
cdef size_t slabs_spare = 0     # of them are to go
cdef int trim_others = 0        # the heap of the sync thread is to be given back, too,
cdef int trim_now = 0           # ... once this one has been


cdef void pages_slices(int on) noexcept nogil:
    global pages_sliced
    pages_sliced = on
    while not on and pages_due():
        pages_give()


cdef void pages_free(void *p) noexcept nogil:
    global pages_large
    cdef Freed *f = <Freed*>p
    cdef size_t n = malloc_usable_size(p)
    if n < LARGE or not pages_sliced:
        free(p)
        return
    f.n = n
    f.next = pages_large
    pages_large = f


cdef void pages_drop(Freed *f, size_t begin, size_t end) noexcept nogil:
    """Gives back the pages that lie wholly between these offsets; the head of the block stays."""
    cdef size_t a = <size_t>f + (begin if begin > sizeof(Freed) else sizeof(Freed))
    a = (a + page - 1) & ~<size_t>(page - 1)
    cdef size_t z = (<size_t>f + end) & ~<size_t>(page - 1)
    if z > a:
        madvise(<void*>a, z - a, MADV_DONTNEED)


cdef void pages_watch(size_t n) noexcept nogil:
    global slabs_least, slabs_watched, slabs_spare
    slabs_least = min(slabs_least, slabs_empty())
    slabs_watched += 1
    if slabs_watched == SLABS_WATCHED:
        slabs_spare = slabs_least if slabs_least >= SLABS_GIVEN else 0
        slabs_least = <size_t>-1
        slabs_watched = 0
    if n > pages_most:
        pages_more(n)
    elif n >= pages_last and pages_most - n > GIVE:
        pages_begin(n)
    pages_now(n)


cdef void pages_look(size_t used) noexcept nogil:
    global other_bytes, other_before, pages_rest, pages_resting, pages_tried
    cdef size_t resident = pages_resident() * page
    cdef size_t other = resident - used if resident > used else 0
    if resident == 0 or pages_due() or trim_now:
        return
    if other_before:
        pages_rest = REST if other + GIVE < other_before else min(2 * pages_rest, REST_MOST)
        pages_resting = pages_rest
        other_before = 0
    if other < other_bytes:
        other_bytes = other
    if used < pages_tried // 2:             # what was in the way may have gone
        pages_rest = REST
        pages_resting = 0
    if pages_resting:
        pages_resting -= 1
    elif other > other_bytes + EXCESS + used // 8:
        other_before = other
        pages_tried = used
        pages_purge(used)


cdef void pages_more(size_t n) noexcept nogil:
    global pages_most
    pages_most = n


cdef void pages_now(size_t n) noexcept nogil:
    global pages_last
    pages_last = n


cdef void pages_begin(size_t n) noexcept nogil:
    global pages_slice
    pages_more(n)
    pages_slice = SLICE


cdef void pages_purge(size_t n) noexcept nogil:
    global trim_others
    pages_begin(n)
    trim_others = n < TRIM_MOST


cdef int pages_due() noexcept nogil:
    return pages_large != NULL or slabs_spare or pages_slice or pages_held != NULL or trim_others


cdef void pages_give() noexcept nogil:
    global pages_large, slabs_spare
    cdef Freed *f = pages_large
    cdef size_t begin
    if f == NULL and slabs_spare:
        slabs_spare -= min(slabs_spare, <size_t>SLABS_GIVEN)
        slabs_give(SLABS_GIVEN)
    elif f == NULL:
        pages_give_heap()
    elif f.n > 2 * HUGE:
        # a large page goes as a whole
        begin = ((<size_t>f + f.n - HUGE) & ~<size_t>(HUGE - 1)) - <size_t>f
        pages_drop(f, begin, f.n)
        f.n = begin
    else:
        pages_large = f.next
        pages_drop(f, 0, f.n)              # free() keeps those of the heap
        free(f)


cdef void pages_give_heap() noexcept nogil:
    global pages_held, pages_slice, trim_others, trim_now
    cdef char *end = <char*>sbrk(0)
    cdef Freed *f
    cdef int i
    if pages_slice:
        if slabs_give(SLABS_GIVEN):
            return
        f = <Freed*>malloc(pages_slice)
        if f == NULL or <char*>f + pages_slice > end:
            free(f)
            pages_slice = pages_slice // 4 if pages_slice > SLICE_LEAST else 0
            return
        pages_drop(f, 0, pages_slice)
        f.next = pages_held
        pages_held = f
        return
    for i in range(HELD_SLICE):
        f = pages_held
        if f == NULL:
            break
        pages_held = f.next
        free(f)
    if pages_held == NULL and trim_others:
        trim_others = 0
        trim_now = 1


def give_back_pages():
    """Gives back what is free in the calling thread's heap, if that is due."""
    global trim_now
    if not trim_now:
        return
    trim_now = 0
    with nogil:
        malloc_trim(0)
        mallopt(M_TRIM_THRESHOLD, SLICE)
        trim_end()
        mallopt(M_TRIM_THRESHOLD, -1)

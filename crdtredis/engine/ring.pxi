# How does one thread hand work to another, and learn that it is done, with no lock?
#
#     producer                                    consumer
#     items[tail % RING] = x; tail += 1           waits until tail != done; x = items[done % RING]
#     if idle: wake(tail)                         works; done += 1
#     waits until done has come to `wanted`       if done == wanted: wake(done)
#
# Each counter has one writer. Its store is the last step, so who reads the counter finds the item,
# or what the work has made of it. Who finds nothing looks again for a moment (SPINS), since a
# system call on either side costs more, and then sleeps on the other's counter (futex).
#
# No wake-up is lost: who is about to sleep says so first (idle, wanted) and looks at the counter
# once more; who moves the counter does so first and then looks whether the other sleeps. In
# whatever order these four steps happen (they are sequentially consistent), one of the two sees
# what the other did. And futex itself does not put to sleep where the counter has moved on.
#
# tests/engine/test_ring.py goes through all orders of these steps.

from libc.stdint cimport int32_t, uint32_t

cdef extern from * nogil:
    """
    #include <limits.h>
    #include <linux/futex.h>
    #include <stdint.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #define crdt_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
    #define crdt_store(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
    #if defined(__x86_64__) || defined(__i386__)
    #define crdt_breathe() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define crdt_breathe() __asm__ volatile("yield")
    #else
    #define crdt_breathe() ((void)0)
    #endif
    static inline void crdt_sleep_on(uint32_t *p, uint32_t seen) {
        syscall(SYS_futex, p, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    }
    static inline void crdt_wake(uint32_t *p) {
        syscall(SYS_futex, p, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    """
    uint32_t load "crdt_load"(uint32_t *p)
    void store "crdt_store"(uint32_t *p, uint32_t v)
    void breathe "crdt_breathe"()
    void sleep_on "crdt_sleep_on"(uint32_t *p, uint32_t seen)   # unless it differs; may wake early
    void wake_at "crdt_wake"(uint32_t *p)

cdef enum:
    SPINS = 50              # a microsecond or two


cdef void ring_put(Ring *r, void *item) noexcept nogil:
    r.items[r.tail % RING] = item
    store(&r.tail, r.tail + 1)


cdef void ring_wake(Ring *r) noexcept nogil:
    if load(&r.idle):
        wake_at(&r.tail)


cdef int ring_has(Ring *r, uint32_t done) noexcept nogil:
    return <int32_t>(load(&r.done) - done) >= 0


cdef void ring_await(Ring *r, uint32_t done) noexcept nogil:
    cdef uint32_t seen
    cdef int i
    for i in range(SPINS):
        if ring_has(r, done):
            return
        breathe()
    store(&r.wanted, done)
    while True:
        seen = load(&r.done)
        if <int32_t>(seen - done) >= 0:
            return
        sleep_on(&r.done, seen)


cdef void *ring_next(Ring *r) noexcept nogil:
    cdef int i
    for i in range(SPINS):
        if load(&r.tail) != r.done:
            return r.items[r.done % RING]
        breathe()
    store(&r.idle, 1)
    while load(&r.tail) == r.done:
        sleep_on(&r.tail, r.done)
    store(&r.idle, 0)
    return r.items[r.done % RING]


cdef void ring_over(Ring *r) noexcept nogil:
    store(&r.done, r.done + 1)
    if load(&r.wanted) == r.done:
        wake_at(&r.done)

# How long commands take.
#
# Time per command is the difference of two readings of the cycle counter (8 ns each; the end of one
# command is the start of the next). It serves statistics and the slow log.

import time

cdef extern from *:
    """
    #include <time.h>
    static inline uint64_t cycles(void) {
    #if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
    #elif defined(__aarch64__)
        uint64_t t;
        __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
        return t;
    #else
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
    #endif
    }
    static inline int highest_bit(uint64_t x) { return 63 - __builtin_clzll(x | 1); }
    """
    uint64_t cycles() noexcept nogil
    int highest_bit(uint64_t x) noexcept nogil


cdef void stopwatch_init(Stopwatch *w, double per_usec) noexcept nogil:
    cdef int i
    w.per_usec = per_usec
    for i in range(LATENCIES - 1):
        w.bounds[i] = <uint64_t>(per_usec * (1 << i))
    w.shift = highest_bit(w.bounds[0])


cdef inline void note_latency(Stopwatch *w, Command *cmd, uint64_t ticks) noexcept nogil:
    """A power of two of ticks is at most one off from that of microseconds."""
    cdef int i = highest_bit(ticks) - w.shift
    if i < 0:
        i = 0
    elif i >= LATENCIES:
        i = LATENCIES - 1
    i += i < LATENCIES - 1 and ticks > w.bounds[i]
    cmd.took[i] += 1


cdef double calibrated():
    """Ticks of the cycle counter per microsecond, measured once over 2 ms: good to a thousandth."""
    global ticks_per_usec
    if ticks_per_usec == 0:
        begun = time.perf_counter_ns()
        first = cycles()
        while time.perf_counter_ns() - begun < 2_000_000:
            pass
        last = cycles()
        ticks_per_usec = (last - first) * 1000.0 / (time.perf_counter_ns() - begun)
    return ticks_per_usec


cdef double ticks_per_usec = 0

# LATENCY: of each kind of event the newest samples that took at least latency-monitor-threshold,
# one for each second. Commands cost nothing for it: the slow log and this look at those only that
# take as long as the shorter of their two thresholds (Stopwatch.long_from).

from libc.string cimport memset

EVENT_NAMES = ("command", "fast-command", "command-unblocking", "expire-cycle", "aof-write",
               "receive-ops", "eviction-cycle", "eviction-del")


cdef void note_event(Latency *l, int event, uint64_t ticks, double per_usec,
                     int64_t at) noexcept nogil:
    cdef Samples *s = &l.events[event]
    cdef uint64_t ms = <uint64_t>(<double>ticks / per_usec / 1000)
    cdef Sample *last = &s.kept[(s.made - 1) % SAMPLES]
    if ms > s.longest:
        s.longest = ms
    if s.made and last.at == at:
        if ms > last.ms:
            last.ms = ms
        return
    s.kept[s.made % SAMPLES].at = at
    s.kept[s.made % SAMPLES].ms = ms
    s.made += 1


cdef int forget_event(Latency *l, int event) noexcept nogil:
    cdef int had = l.events[event].made != 0
    memset(&l.events[event], 0, sizeof(Samples))
    return had


cdef inline uint64_t event_begins(Latency *l) noexcept nogil:
    return cycles() if l.ticks != <uint64_t>-1 else 0


cdef void event_ends(Dispatch *d, int event, uint64_t begun) noexcept nogil:
    cdef uint64_t took
    if begun:
        took = cycles() - begun
        if took >= d.latency.ticks:
            note_event(&d.latency, event, took, d.stopwatch.per_usec, d.kernel.now // 1000)

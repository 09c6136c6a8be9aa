# LATENCY: what has taken long, event by event.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum LatencyEvent:
    LATENCY_COMMAND = 0
    LATENCY_FAST = 1          # a command that says it is fast
    LATENCY_UNBLOCKING = 2    # a command that had waited for its key
    LATENCY_EXPIRE = 3        # active expiry in one iteration
    LATENCY_LOG = 4           # one iteration's ops into the log
    LATENCY_RECEIVE = 5       # what peers sent, in one iteration
    LATENCY_EVICTION = 6      # eviction in one go
    LATENCY_EVICTION_DEL = 7  # of one key
    LATENCY_EVENTS = 8

cdef enum:
    SAMPLES = 160           # that are kept of each event

cdef struct Sample:
    int64_t at              # seconds since 1970
    uint64_t ms             # the longest of that second

# Sample number i stands at i % SAMPLES.
cdef struct Samples:
    Sample kept[160]        # SAMPLES
    uint64_t made
    uint64_t longest        # ms, ever

cdef struct Latency:
    uint64_t ticks          # threshold, of the cycle counter; the greatest number: off
    Samples events[8]       # LATENCY_EVENTS

# ticks: how long it took, at least the threshold. at: seconds since 1970.
cdef void note_event(Latency *l, int event, uint64_t ticks, double per_usec,
                     int64_t at) noexcept nogil
# Forgets the samples of one event; 1: there were some.
cdef int forget_event(Latency *l, int event) noexcept nogil
# Of something that is no command: when it begins, and its end.
cdef uint64_t event_begins(Latency *l) noexcept nogil
cdef void event_ends(Dispatch *d, int event, uint64_t begun) noexcept nogil

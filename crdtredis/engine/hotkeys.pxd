# HOTKEYS: which keys cost the most, by time and by bytes.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum HotMetric:
    HOT_CPU = 0             # ticks of the cycle counter
    HOT_NET = 1             # bytes of requests and replies
    HOT_METRICS = 2

cdef enum:
    HOT_SPARE = 10          # keys that are counted for each one that is shown
    HOT_NAME = 4096         # bytes that are kept of a key

cdef struct HotKey:
    uint64_t cost           # what it has cost, and perhaps
    uint64_t others         # ... so much of that was of keys in whose place it came
    uint64_t hash
    size_t n                # bytes of the key; HOT_NAME of them at most are kept
    char *name
    uint32_t at             # place in HotTable.heap
    HotKey *next            # in its chain

# The keys of one metric. Whichever has cost the least makes room for a new one.
cdef struct HotTable:
    HotKey **heap           # the least first
    HotKey **chains         # by hash
    uint32_t mask           # chains less one
    uint32_t n
    uint32_t most           # keys; 0: nobody wants to know

cdef struct HotKeys:
    int active
    HotTable tables[2]      # by HotMetric
    uint32_t shown          # keys, of each metric
    uint32_t sample         # one command in so many
    uint64_t seed
    int64_t begun           # ms since 1970,
    int64_t since           # ... and on Dispatch.steady
    int64_t limit           # ms until it ends by itself; 0: it does not
    int64_t lasted          # ms, once it has ended
    # of all commands with keys, and of those that were sampled
    uint64_t ticks
    uint64_t bytes
    uint64_t sampled
    double user             # s of the process at the beginning
    double system

# A command has run. replied: bytes.
cdef void note_hot(Dispatch *d, Command *cmd, Span *argv, int argc, uint64_t ticks,
                   size_t replied) noexcept nogil
# Whether commands are counted now. Ends it where its time is up.
cdef int hot_active(Dispatch *d) noexcept nogil
cdef void hot_start(Dispatch *d, int cpu, int net, uint32_t top) noexcept nogil
cdef void hot_stop(Dispatch *d) noexcept nogil
cdef void hot_free(Dispatch *d) noexcept nogil
# The keys of a metric that have cost the most, the greatest first, into found; how many.
cdef uint32_t hot_found(const HotTable *t, uint32_t most, HotKey **found) noexcept nogil
# What it has cost at least.
cdef uint64_t hot_cost(const HotKey *e) noexcept nogil
# From how many ticks on a command is looked at: after a threshold has changed.
cdef void look_from(Dispatch *d) noexcept nogil
# Bytes of a request in RESP.
cdef size_t request_size(Span *argv, int argc) noexcept nogil

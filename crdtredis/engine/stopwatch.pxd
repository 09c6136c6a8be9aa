# How long commands take, by the cycle counter.

from libc.stdint cimport uint64_t

# Times are in ticks of the cycle counter and are turned into µs only when somebody asks.
cdef struct Stopwatch:
    uint64_t at             # the counter at the end of the last command: the start of the next
    double per_usec         # ticks
    uint64_t bounds[23]     # ticks of 1, 2, 4 ... µs: what Command.took counts by
    int shift               # highest bit of the first of them
    int untracked           # Command.took does not count
    uint64_t long_from      # ticks from which on the slow log or LATENCY may want to know

cdef void stopwatch_init(Stopwatch *w, double per_usec) noexcept nogil
cdef void note_latency(Stopwatch *w, Command *cmd, uint64_t ticks) noexcept nogil

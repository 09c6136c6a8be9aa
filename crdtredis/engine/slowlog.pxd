# The logs of COMMANDLOG, each a ring of the newest commands that cost much: time (the slow log), or
# bytes of the request or of the reply.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

# The logs of a Dispatch, by what a command cost.
cdef enum CommandCost:
    COST_TIME = 0
    COST_REQUEST = 1
    COST_REPLY = 2
    COSTS = 3

cdef struct SlowEntry:
    uint64_t id
    int64_t at              # seconds since 1970
    uint64_t cost           # µs, or bytes
    Buffer args             # packed as in Client.queue, shortened
    char addr[64]           # of the client
    char name[64]

# Entry number i stands at i % size.
cdef struct SlowLog:
    uint64_t least          # threshold: of the cycle counter, or bytes; the greatest number: off
    SlowEntry *entries
    uint32_t size
    uint64_t made           # entries ever made

# Keeps the arguments as Redis does: 32 at most, 128 bytes of each, and says how much is left out.
# at: seconds since 1970.
cdef void note_slow(SlowLog *slow, Client *client, Span *argv, int argc, uint64_t cost,
                    int64_t at) noexcept nogil
cdef void slowlog_resize(SlowLog *slow, uint32_t size) noexcept nogil           # the newest stay
cdef void slowlog_free(SlowLog *slow) noexcept nogil
# Is this argument a name or a password? Nobody is shown it.
cdef int hides(Span *argv, int argc, int i) noexcept nogil

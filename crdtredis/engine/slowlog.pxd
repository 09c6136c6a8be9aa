# The slow log: a ring of the newest commands that took long.

cdef struct SlowEntry:
    uint64_t id
    int64_t at              # seconds since 1970
    uint64_t usec
    Buffer args             # as in Client.queue, shortened
    char addr[64]
    char name[64]

cdef void note_slow(Dispatch *d, Client *client, Span *argv, int argc,
                    uint64_t ticks) noexcept nogil
cdef void resize_slowlog(Dispatch *d, uint32_t most) noexcept nogil

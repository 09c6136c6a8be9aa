# MULTI, EXEC, DISCARD, WATCH: the work, for commands/transactions.pyx.

cdef struct Watched:
    Watch *watch
    uint64_t version        # at WATCH time
    int expired             # the key had already expired then: its going away is no change

cdef void exec_queued(Call *c) noexcept nogil
# queue, flags and watches
cdef void drop_transaction(Dispatch *d, Client *client) noexcept nogil
# WATCH of one key, in the client's database
cdef void watch_key_for(Dispatch *d, Client *client, Span key) noexcept nogil
cdef void unwatch_all(Dispatch *d, Client *client) noexcept nogil

# Serving clients that wait for keys, and ending their waits.

# Whoever waits for a key that was touched; inside an op, nobody yet.
cdef void serve_ready(Dispatch *d) noexcept nogil
cdef int may_serve(Dispatch *d) noexcept nogil
cdef void expire_waiting(Dispatch *d) noexcept nogil                            # whose time is up
# Ends a wait with an error; NULL: as its time limit does.
cdef void give_up(Dispatch *d, Client *client, const char *error) noexcept nogil

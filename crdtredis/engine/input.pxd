# Reading what clients send, and running it.

cdef void begin_shares(Connections self) noexcept nogil         # of an iteration
cdef void process(Connections self, Conn *c) noexcept nogil     # one client's share of an iteration

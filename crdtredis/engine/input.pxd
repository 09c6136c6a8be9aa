# Reading what clients send, and running it.

cdef void process(Connections self, Conn *c) noexcept nogil     # one client's share of an iteration

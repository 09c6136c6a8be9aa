# Reading what clients send, and running it.

cdef void begin_shares(Connections self) noexcept nogil         # of an iteration
cdef void process(Connections self, Conn *c) noexcept nogil     # one client's share of an iteration
# Gives threads what they are to read of c and those ready behind it, up to Connections.unread.
cdef void read_ahead(Connections self, Conn *c) noexcept nogil
# `process`, when a thread has read what it was given.
cdef void process_read(Connections self, Conn *c) noexcept nogil

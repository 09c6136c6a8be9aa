# Sending clients what they are owed.

# The end of an iteration: replies go out, and clients that are to be closed are marked.
cdef void send_all(Connections self, int poll) noexcept nogil
# client-output-buffer-limit: above the hard limit, or above the soft one for too long, the client
# is dropped.
cdef void check_output(Connections self, Conn *c) noexcept nogil

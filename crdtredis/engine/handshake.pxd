# When the handshakes of TLS go on, and which end.

# For a connection that was just accepted; 0 without memory.
cdef int begin_shaking(Connections self, Conn *c, uint32_t most) noexcept nogil
# Whether a handshake is under way, or a thread has just ended it.
cdef int is_shaking(Connections self, Conn *c) noexcept nogil
# 1: it is over, and the client may be read.
cdef int go_on_shaking(Connections self, Conn *c) noexcept nogil
# After any event of its socket.
cdef void wake_tls(Connections self, Conn *c) noexcept nogil
# Closes a client whose certificate has expired, or was revoked by lists that were read anew.
# 1: it did.
cdef int end_invalid(Connections self, Conn *c) noexcept nogil
cdef void end_late_handshakes(Connections self) noexcept nogil

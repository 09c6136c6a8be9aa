# What is due for clients that do nothing.

# A slice of them, so that each is looked at about once a second when this is called hz times.
cdef void check_idle(Connections self, int hz) noexcept nogil

# The Replica, as Python sees it. See core/replica.pxi.

from libc.stdint cimport uint16_t, uint64_t

cdef class Replica:
    """See core/replica.pxi."""
    cdef Kernel k
    cdef readonly str id    # the replica's
    cdef act_as(self, uint64_t epoch)
    cdef str name(self, uint16_t slot)
    cdef dict write(self, uint64_t dot, uint64_t stamp, uint16_t actor, int clears, value)
    cdef dict conflict(self, const Conflict *c)
    cdef describe_value(self, Element *e, dict out)
    cdef describe(self, Cell *c, list writes, list counts)

# The state given out and taken in, as Python sees it. See core/stream.pxi.

from crdtredis.buffer cimport Buffer

cdef class BucketDigests:
    cdef Digesting g
    cdef Replica replica
    cdef Buffer start
    cdef int more

cdef class PatchHold:
    cdef Replica replica

cdef class StateWriter:
    cdef Giving g
    cdef PatchHold hold
    cdef Replica replica
    cdef Buffer record

cdef class StateTaker:
    cdef Taking t
    cdef Replica replica

cdef class StateReader(StateTaker):
    pass

cdef class StateCheck(StateTaker):
    pass

cdef class StateJoin(StateTaker):
    cdef bytes payload      # the piece of which items are left
    cdef int more

# The keys of some buckets, each with its digest: what two replicas compare where their buckets
# differ.

cdef class KeyDigests:
    cdef Replica replica
    cdef Digesting g
    cdef bytes buckets
    cdef int more

# The deadline register of a key, and the heap of those that this replica looks at.

from libc.stdint cimport int64_t

cdef enum:
    NEVER = 0x7fffffffffffffff

# ms since 1970; -1: none
cdef int64_t key_deadline(Kernel *k, Element *e) noexcept nogil

# What keys hold, in the form in which Redis saves it.

from libc.stddef cimport size_t

from crdtredis._core cimport Element, Kernel
from crdtredis.buffer cimport Buffer, Span

cdef enum:
    DRAINED = 1 << 20           # bytes

# Empties the buffer.
ctypedef void (*Drain)(void *arg) noexcept nogil

# Appends what a visible key shows: a type byte, the name unless it is NULL, and the value. drain,
# unless it is NULL, is called whenever b holds DRAINED bytes, at most one text more.
cdef void put_value(Buffer *b, Kernel *k, Element *e, const Span *name, Drain drain,
                    void *arg) noexcept nogil
# Appends the groups of a stream, as a stream without entries that has not had any.
cdef void put_groups_alone(Buffer *b, Kernel *k, Element *e) noexcept nogil
# Appends version and checksum to a value without a name, which is all that b holds.
cdef void seal_value(Buffer *b) noexcept nogil

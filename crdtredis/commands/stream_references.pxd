# What groups have to do with the removal of entries: options of XADD, XTRIM, XDELEX, XACKDEL.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from crdtredis._core cimport Collection, Element, Kernel, StreamId
from crdtredis._engine cimport Call
from crdtredis.buffer cimport Buffer, Span

cdef enum References:
    NO_REFERENCES               # the option is none of these
    KEEPREF                     # groups keep what they know of entries that go
    DELREF                      # records of it go, too
    ACKED                       # only what each group has given out and has no record of, goes

cdef References references_option(Span arg) noexcept nogil
# Of the first entries (of all, unless `within`) ids of such as no group needs, at most n.
cdef void unreferenced(Kernel *k, Collection *s, int64_t n, int within, Buffer *ids) noexcept nogil

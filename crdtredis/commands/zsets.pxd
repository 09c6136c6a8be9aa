# What blocking.pyx needs of the sorted set commands: of a set that is there; e is what key_find
# gave.

from libc.stdint cimport int64_t

from crdtredis._core cimport Collection, Element
from crdtredis._engine cimport Call
from crdtredis.buffer cimport Span

# answers member and score, without a header
cdef void pop_one(Call *c, Span key, Element *e, Collection *z, int greatest) noexcept nogil
# ZMPOP's answer
cdef void pop_several(Call *c, Span key, Element *e, Collection *z, int64_t count,
                      int greatest) noexcept nogil

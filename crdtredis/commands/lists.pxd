# What blocking.pyx needs of the list commands.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

from crdtredis._core cimport Collection, Element
from crdtredis._engine cimport Call
from crdtredis.buffer cimport Span

# LEFT or RIGHT; 0 after a refusal
cdef int read_side(Call *c, Span arg, int *tail) noexcept nogil
# Of a list that is there; e is what key_find gave. Each answers.
cdef void pop(Call *c, Span key, Element *e, size_t n, int tail) noexcept nogil
cdef void pop_several(Call *c, Span key, Element *e, Collection *l, int64_t count,
                      int tail) noexcept nogil
# from argv[1] to argv[2]
cdef void move(Call *c, int from_tail, int to_tail) noexcept nogil

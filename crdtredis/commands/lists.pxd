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
# From argv[1] to argv[2].
cdef void move(Call *c, int from_tail, int to_tail) noexcept nogil

# What LMOVEM and BLMOVEM take and how.
cdef struct Moves:
    int from_tail
    int to_tail
    int64_t most
    int exactly                 # all of these or none
    int one_by_one

# What stands from argv[at] on; 0 after a refusal.
cdef int read_moves(Call *c, int at, Moves *m) noexcept nogil
# From argv[1] to argv[2]; 0 where there are too few: nothing has been replied then.
cdef int move_several(Call *c, const Moves *m) noexcept nogil

# The one walk over what lies under a key. See core/walk.pxi.

from crdtredis.buffer cimport Span

# Over every cell under a key, tombstones and deadline included, in no order ...
cdef void walk_key(Walk *w, Kernel *k, Element *e) noexcept nogil
# ... or over what clients are shown of a visible key (WALK_SHOWN, WALK_BACKWARDS): of a string one
# cell, whose name is the key; of other types the members or elements.
cdef void walk_shown(Walk *w, Kernel *k, Element *e, int how) noexcept nogil
cdef int walk_next(Walk *w) noexcept nogil             # 1 where it stands on a cell
# What is shown there, as an ASSIGN would take it: good until the next step or string_view.
cdef Span walk_value(Kernel *k, Walk *w) noexcept nogil
cdef void walk_end(Walk *w) noexcept nogil             # needed behind walk_key only

# The elements of a list. See core/list.pxi.

from libc.stddef cimport size_t

from crdtredis.buffer cimport Span

# Walking a list: 1 while the cursor stands on an element, whose value stays where it is until the
# list changes.
cdef int list_seek(Collection *c, size_t index, ListCursor *at) noexcept nogil
cdef int list_next(ListCursor *at) noexcept nogil
cdef int list_prev(ListCursor *at) noexcept nogil
cdef Span list_value(Kernel *k, const ListCursor *at) noexcept nogil
# the value of an element that is there
cdef Span list_view(Kernel *k, Collection *c, size_t index) noexcept nogil

# Giving the pages of freed memory back to the system, a slice at a time: see core/pages.pxi.

from libc.stddef cimport size_t

# whether somebody calls pages_give: else large blocks are freed at once
cdef void pages_slices(int on) noexcept nogil
# free() of a block that may be large, and that mem_free does not count
cdef void pages_free(void *p) noexcept nogil
# ten times a second or so: has much been freed?
cdef void pages_watch(size_t used) noexcept nogil
# once a second: does the process have many more pages than are in use?
cdef void pages_look(size_t used) noexcept nogil
cdef void pages_purge(size_t used) noexcept nogil         # begin now, however little it is
cdef int pages_due() noexcept nogil                       # whether pages_give has something to do
cdef void pages_give() noexcept nogil                     # one slice

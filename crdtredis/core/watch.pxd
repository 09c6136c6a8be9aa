# Watched keys. See core/watch.pxi.

from libc.stdint cimport uint32_t

from crdtredis.buffer cimport Span

cdef Watch *watch_hold(Kernel *k, uint32_t db, Span key) noexcept nogil
cdef void watch_release(Kernel *k, Watch *w) noexcept nogil
# at the end of Kernel.watched.ready
cdef void watch_put_ready(Kernel *k, Watch *w) noexcept nogil
# the first of Kernel.watched.ready, to be released; NULL: none
cdef Watch *watch_take_ready(Kernel *k) noexcept nogil
# For a command that changed nothing but counts as a change in Redis; every effect does it by
# itself.
cdef void key_modified(Kernel *k, uint32_t db, Span key) noexcept nogil
# Kernel.watched.active anew: after a wish to know of effects has changed.
cdef void watch_active(Kernel *k) noexcept nogil

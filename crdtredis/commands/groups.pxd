# What XINFO shares with the commands of groups.

from libc.stddef cimport size_t

from crdtredis._core cimport GroupView
from crdtredis._engine cimport Call
from crdtredis.buffer cimport Buffer, Span

# ConsumerViews by name, as long as nothing changes, into a buffer that the caller frees; how many.
cdef size_t list_consumers(Call *c, const GroupView *g, Buffer *out) noexcept nogil
# NOGROUP
cdef void refuse_group_of(Call *c, Span group, Span key) noexcept nogil

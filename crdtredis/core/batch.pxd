# Batches as bytes. See core/batch.pxi.

from crdtredis.buffer cimport Buffer, Span

# What others may have of a record's payload.
cdef int leave_home(Span batch, Buffer *out) noexcept nogil

# Finished ops that are to be logged and sent. See core/outbox.pxi.

from libc.stddef cimport size_t

cdef enum:
    # bytes from which on a finished op keeps its buffer, which goes to the log and to the sync
    # thread uncopied
    LARGE_OP = 1 << 20
    # bytes before an op's effects, where its head and that of its record are written
    HEAD_ROOM = 256

cdef int has_ops(Kernel *k) noexcept nogil
# The next finished ops, and the actors declared since the last call, as one record with an encoded
# Batch of about `most` bytes, or one op if it is larger; they are forgotten here. 0: there are
# none. The record begun is whole but for record_end.
cdef int take_record(Kernel *k, Record *r, size_t most) noexcept nogil

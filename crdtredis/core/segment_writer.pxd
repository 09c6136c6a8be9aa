# The open end of the log: one segment file that the engine thread appends to, and what is known
# about its durability.

from libc.stdint cimport int64_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

cdef enum LogState:
    LOG_CLOSED = 0
    LOG_OPEN = 1
    # a write or fdatasync failed: refuse writes (-MISCONF) until storage/segments.py has begun a
    # new file
    LOG_FAILED = 2

cdef enum LogPolicy:
    LOG_NO = 0
    LOG_EVERYSEC = 1
    LOG_ALWAYS = 2

# words of a witness
cdef enum:
    WITNESS_SEQ = 0         # of the newest own op that may be in the log
    WITNESS_NUMBER = 1      # the log reaches up to there, and so do those to whom it was told
    WITNESS_END = 2
    WITNESS_WORDS = 3

cdef class SegmentWriter:
    """See core/segment_writer.pxi. The engine reads `state` before a write command, calls append
    once per iteration, and `wants_tick` after it."""
    # the file; changed by the engine thread only
    cdef int fd             # -1: none
    cdef readonly uint64_t number
    cdef int64_t end        # bytes of header and whole records; other threads may read up to here
    cdef int64_t durable    # of these, known to be on disk; changed by whoever called fdatasync
    cdef int64_t limit      # bytes from which on the segment wants a successor
    cdef int policy
    cdef public bint short  # its records may have the shorter form (core/record.pxi)
    # the failure that closed the file
    cdef int state
    cdef int error          # errno
    cdef int syncing        # it was fdatasync that failed: nothing after `durable` can be relied on
    cdef int noted          # log.tick() has observed the failure
    # what a restart may rely on (storage/witness.py): its words, or NULL. `lent` keeps them
    cdef uint64_t *witness
    cdef object lent
    cdef Buffer pending     # records that could not be written; they go first into the next file

    # 0: written, and on disk where the policy is `always`. -1: the log has failed; what was given
    # is kept and written later, but nothing of this loop iteration may be acknowledged. more:
    # further records of the iteration follow, and the last of them will see to the disk. `rest`
    # follows the bytes of `record`.
    cdef int append(self, Span record, Span rest, int more) noexcept nogil
    cdef int put(self, Span bytes) noexcept nogil
    cdef void reach(self, int64_t end) noexcept nogil
    # 1: log.tick() has something to do (a successor is due, or a failure is to be told). The owner
    # also calls tick once a second.
    cdef int wants_tick(self) noexcept nogil
    cdef int sync_now(self) noexcept nogil
    cdef void failed(self, int error, int syncing) noexcept nogil

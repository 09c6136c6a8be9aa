# Taking ops in. See core/receive.pxi.

from libc.stddef cimport size_t

cdef enum:
    # effects of a received op that are decoded once; the others again when they are applied
    DECODED_KEPT = 64
    # actors that may be known before newcomers are counted: all that others know must come to a new
    # replica at once
    FREELY = 49152
    # actors beyond these that peers may declare at once; then one every NEWCOMER_MS
    NEWCOMERS = 1024
    NEWCOMER_MS = 10000

# What became of a Batch: for the kernel, for the engine's RESULT messages, and for Python
# (_core.ReceiveStatus).
cdef enum Received:
    RECEIVED_ALL = 0        # every op is applied, known already, or waits for what it depends on
    RECEIVED_BAD = -1       # the bytes are not a Batch; ops before the bad one are applied
    # the causal buffer is full, or a state is being joined; send it again later
    RECEIVED_FULL = -2
    # a run of an actor nobody declared, or a declaration that contradicts a known one
    RECEIVED_UNDECLARED = -3
    # applied, but the log could not take it: send it again later. The kernel itself never says so
    RECEIVED_UNLOGGED = -4
    RECEIVED_CROWD = -5     # more new actors at once than are taken in

# Applies waiting ops that may be applied by now, as many as take about `most` bytes. 1 while more
# of them are left: then it is to be called again soon. Called now and then in any case, for those
# that wait for the clock on the wall.
cdef int retry_pending(Kernel *k, size_t most) noexcept nogil
cdef int receive(Kernel *k, const char *p, size_t n) noexcept nogil

# What an iteration made, on its way to the log and to the sync thread.

from libc.stdint cimport uint32_t, uint64_t

from crdtredis._core cimport Record, SegmentWriter

# A result owed to the sync thread once the iteration is logged.
cdef struct Owed:
    Message *message        # the RECEIVE
    int status

cdef class Journal:
    """The log and the bridge of a loop; either may be None."""
    cdef Dispatch *d
    cdef readonly SegmentWriter log
    cdef readonly Bridge bridge
    # to the log
    cdef Record record
    cdef uint64_t own_logged            # seq of the newest own op when ops were last logged
    # from the sync thread
    cdef int signalled                  # the bridge has something
    cdef int more                       # time was up before it and the causal buffer had given all
    cdef Owed *owed
    cdef uint32_t owed_n
    cdef uint32_t owed_cap

# Applies what peers sent, within RECEIVE_US.
cdef void receive_messages(Journal self) noexcept nogil
# There is something for log_ops or give_results.
cdef int unlogged(Journal self) noexcept nogil
# The iteration's ops into the log, in records of at most so many bytes, then to the sync thread.
# 0: the log could not take them; no client may be told of a write.
cdef int log_ops(Journal self, size_t record_limit) noexcept nogil
# Messages to the sync thread, and what is listened to here.
cdef void give_messages(Journal self) noexcept nogil
cdef void give_results(Journal self, int logged) noexcept nogil
# Follows the state of the log, which its own thread may change: writes are refused while it has
# failed.
cdef void check_log(Journal self) noexcept nogil

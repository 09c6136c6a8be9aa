# The Executor: the command table of one replica, its settings, its statistics.

cdef class Native:
    """Carries a NativeHandler through Python to the registration: command("GET",
    ...)(native(get))."""
    cdef NativeHandler f

cdef Native native(NativeHandler f)

cdef class Executor:
    cdef Dispatch d
    cdef readonly Replica replica
    cdef public object server
    cdef object password                # bytes, or None: see requirepass
    cdef list handlers                  # keeps the Python callables and the specs alive
    cdef list deferred                  # heap of (deadline, number, Token)
    cdef uint64_t deferred_n
    cdef Py_ssize_t deferred_done       # tokens of the heap that were done since it was last swept
    cdef object pending                 # exception of a signal handler, for the loop to raise
    cdef readonly dict specs            # name -> table.Spec

    cdef build_table(self)
    cdef set_guard(self, uint32_t bit, bint on)

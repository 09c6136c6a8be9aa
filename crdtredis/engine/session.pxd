# Clients as Python commands see them.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef class Token:
    """A reply still owed to a client whose command called session.defer()."""
    cdef Session session
    cdef readonly object deadline       # ms, Dispatch.steady; None: no limit
    cdef object on_timeout
    cdef readonly bint done
    # called once when nothing is owed any more: it was given, or the client has gone
    cdef public object ended

cdef class Deferred:
    cdef list heap                      # of (deadline, number, Token)
    cdef uint64_t number                # of the newest
    cdef Py_ssize_t done_n              # of the heap's that were done since it was last swept

    cdef add(self, Token token)
    cdef void done(self) noexcept
    cdef int64_t first(self)
    cdef int64_t expire(self, int64_t now)

cdef class Session:
    """One client, as Python commands see it."""
    cdef Client *c                      # NULL once the client is gone
    cdef Client own                     # the client itself where there is no connection
    cdef Dispatch *d
    cdef Deferred deferred
    cdef readonly object executor
    cdef readonly Token token           # the deferred reply outstanding, or None
    cdef readonly uint64_t id
    cdef public object replconf         # what REPLCONF said: {option: value}, or None

# The handler of every Python command: Command.python is called with the GIL held.
cdef void run_python(Call *c) noexcept nogil
cdef Session session_of(Dispatch *d, Client *client)        # made when there is none yet
cdef Session new_session(Dispatch *d, Client *client)
cdef void end_session(Dispatch *d, Client *client) noexcept nogil   # the client has gone

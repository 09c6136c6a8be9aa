# Clients, and what Python commands see of them.

cdef void reset_client(Dispatch *d, Client *client) noexcept nogil              # RESET

cdef void client_init(Dispatch *d, Client *c, int resp) noexcept nogil
cdef void client_free(Dispatch *d, Client *c) noexcept nogil

cdef class Token:
    """A reply still owed to a client whose command called session.defer()."""
    cdef Session session
    cdef readonly object deadline       # Dispatch.steady, None: no limit
    cdef object on_timeout
    cdef readonly bint done
    # called once when nothing is owed any more: answered, its time was up, or the client has gone
    cdef public object ended

cdef class Session:
    """One client, as Python commands see it."""
    cdef Client *c                      # NULL once the client is gone
    cdef Client own                     # the client itself where there is no connection
    cdef readonly Executor executor
    cdef readonly Token token           # the deferred reply outstanding, or None
    cdef readonly uint64_t id
    cdef public object user

# The life of a client, whether it has a connection or not.

cdef void client_init(Dispatch *d, Client *c, int resp) noexcept nogil
# Everything but its Session, which end_session ends.
cdef void client_free(Dispatch *d, Client *c) noexcept nogil
# RESET: as if newly connected, but for the id and the connection itself.
cdef void reset_client(Dispatch *d, Client *client) noexcept nogil
# For CLIENT LIST: its names, and the address it connected to.
cdef str text_of(const char *p)
cdef void set_text(char **where, str value)
cdef str local_address(Client *c)

# Listening sockets, and what is accepted of those who connect.

from libc.stdint cimport uint32_t

cdef enum:
    LISTENERS = 16
    # epoll data of what is no connection: below any address
    TAG_WAKE = 1
    TAG_BRIDGE = 2
    TAG_SIGNAL = 3
    TAG_LISTENER = 16       # and the number of the listener
    TAGS = 4096             # all are below

# May connections wait to be accepted?
cdef enum Backlog:
    BACKLOG_NONE = 0
    BACKLOG_NOW = 1         # the socket said so, or the burst was long
    BACKLOG_LATER = 2       # there were no descriptors or no memory: cron makes it BACKLOG_NOW

cdef struct Listener:
    int fd                  # -1: closed
    int is_unix
    int is_tls
    int backlog             # Backlog
    char path[64]           # of a Unix socket: what is shown of it

cdef class Listeners(Connections):
    cdef Listener listeners[16]         # LISTENERS
    cdef int listener_n
    # who is accepted
    cdef uint32_t limit                 # connections at a time: see max_clients
    cdef public uint32_t reserve        # descriptors left to everything but clients
    cdef public bint protected_mode     # reject other hosts while there is no password
    cdef int keepalive                  # s, 0: off

    cdef void close_listener(self, int i) noexcept nogil
    cdef void close_listeners(self) noexcept nogil
    cdef add_listener(self, s, str path, bint tls)

cdef void accept_all(Listeners self) noexcept nogil
cdef int accepting(Listeners self) noexcept nogil       # connections wait to be accepted

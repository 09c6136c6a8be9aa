# What a client holds between MULTI and EXEC: queued commands and watched keys.

from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Span
from crdtredis._core cimport Kernel, Watch

# What a client sees of a key; and what has expired, so that the one effect which removes it will be
# no change. Time alone makes a state greater.
cdef enum SeenState:
    SEEN_VISIBLE = 1
    SEEN_HOME_EXPIRED = 2   # a key at home has expired, so that the shared one of its name is shown
    SEEN_EXPIRED = 4        # what is found has expired

cdef struct Watched:
    Watch *watch
    uint64_t version        # at WATCH time
    uint32_t state          # SeenState then

cdef void drop_transaction(Dispatch *d, Client *client) noexcept nogil  # queue, flags, watches
# WATCH of one key in the client's database.
cdef void watch_key_for(Dispatch *d, Client *client, Span key) noexcept nogil
cdef void unwatch_all(Dispatch *d, Client *client) noexcept nogil
# 1 when EXEC must refuse: an effect, from here or from a peer, has touched a watched key, or its
# deadline has passed since WATCH.
cdef int watched_changed(Dispatch *d, Client *client) noexcept nogil

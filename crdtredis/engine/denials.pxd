# What was refused users and ACL LOG has not been told of yet.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum:
    DENIALS = 128           # that are kept; as many as ACL LOG has unless told otherwise

# Equal ones count as one, as in ACL LOG. The user's name follows, and behind it the object.
cdef struct Denial:
    Client *client          # of the last; NULL: it has gone
    void *command           # Command: what it had called
    int denied              # Denied
    int context             # AclContext
    uint64_t count
    int64_t first           # ms, Dispatch.steady
    int64_t last
    size_t name_n
    size_t what_n

cdef struct Denials:
    Denial *kept[128]       # DENIALS; the latest is the last
    uint32_t n
    uint64_t dropped[5]     # by Denied: how often those were refused that found no room

cdef void denial_add(Denials *x, const Denial *one, Span name, Span what) noexcept nogil
cdef Span denial_name(const Denial *one) noexcept nogil
cdef Span denial_what(const Denial *one) noexcept nogil
# It goes.
cdef void denials_forget(Denials *x, Client *client) noexcept nogil
cdef void denials_free(Denials *x) noexcept nogil

# Client-side caching: who is to be told that a key has changed.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum:
    TRACKED_MOST = 1_000_000            # Tracking.most
    TRACKED_BYTES = 1 << 30             # that keys and who has read them may take
    PREFIXES_EACH = 1024                # of one client
    PREFIX_BYTES = 64 << 20             # that all prefixes may take
    TRACK_MODES = CLIENT_BCAST | CLIENT_OPTIN | CLIENT_OPTOUT | CLIENT_NOLOOP

# One client that tracks, has done so, or gets the messages of one that does. It stays as long as
# anything points to it, the client itself maybe gone.
cdef struct Tracker:
    Client *client          # NULL: it has gone
    uint32_t holders        # its client, keys, and those that redirect to it
    Tracker *target         # who gets its messages; NULL: itself
    uint64_t target_id
    Prefix **prefixes       # of BCAST, sorted
    uint32_t prefix_n
    Tracker *prev           # of those that track
    Tracker *next

# A key that was read by clients that track. Its bytes follow.
cdef struct Tracked:
    Tracked *next           # in its chain
    uint32_t hash
    uint32_t n
    uint32_t readers_n
    uint32_t readers_cap
    Tracker **readers       # sorted by address

# A prefix of BCAST that somebody has. Its bytes follow.
cdef struct Prefix:
    uint32_t n
    uint32_t clients_n
    uint32_t clients_cap
    Tracker **clients       # the earliest first

cdef Span prefix_name(const Prefix *p) noexcept nogil
# CLIENT TRACKING ON. modes: of TRACK_MODES. target: whom the messages go to, NULL: the client.
cdef void track_begin(Dispatch *d, Client *client, uint32_t modes, Client *target,
                      const Span *prefixes, int n) noexcept nogil
cdef void track_end(Dispatch *d, Client *client) noexcept nogil         # where it has begun
cdef void track_gone(Dispatch *d, Client *client) noexcept nogil        # the client goes
# A command that reads has run.
cdef void track_reads(Dispatch *d, Client *caller, Command *cmd, Span *argv,
                      int argc) noexcept nogil
# Whose id its messages go to: 0, its own; -1: it does not track.
cdef int64_t track_target(const Client *client) noexcept nogil
# This key has changed, or all have. caller: whose command did it, who is told behind its reply;
# NULL: nobody's.
cdef void track_change(Dispatch *d, Client *caller, Span key) noexcept nogil
cdef void track_flush(Dispatch *d, Client *caller) noexcept nogil
# What is due at the end of an iteration: broadcasts, and what is tracked beyond the limit.
cdef void track_iteration(Dispatch *d) noexcept nogil
cdef void track_free(Dispatch *d) noexcept nogil
# Whether a command has to say what it reads, and effects which keys they touch: after either wish
# has changed.
cdef void update_wishes(Dispatch *d) noexcept nogil

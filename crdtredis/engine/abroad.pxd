# What other replicas listen to, and what is to be sent to them.

from libc.stdint cimport int64_t, uint64_t

from crdtredis.buffer cimport Span

cdef enum:
    MESSAGE_HEAD = 17       # bytes before a message's channel: see abroad.pxi
    # bytes of a channel and message that go abroad together; larger ones stay at home
    MESSAGE_MOST = 16 << 20
    ABROAD_MOST = 64 << 20  # bytes of messages that an iteration may send
    CHANGES_MOST = 16 << 20 # bytes of Abroad.changes

# A channel that peers listen to. Peers' patterns are in a list of their own, with the text behind.
cdef struct Heard:
    Heard *next
    uint64_t id             # topic_id; of a pattern: bytes of text
    uint64_t peers

# The same for all replicas.
cdef uint64_t topic_id(int kind, Span name) noexcept nogil
# 1 for channels of keyspace notifications and patterns for them alone: each replica has its own.
cdef int is_own_event(Span name) noexcept nogil
# Somebody here has begun (1) or ceased (0) to listen to a topic.
cdef void note_topic(Dispatch *d, int kind, Span name, int begun) noexcept nogil
cdef void add_change(Buffer *b, int kind, Span name, int begun) noexcept nogil
# What peers have begun and ceased to listen to, in the encoding of note_topic's changes.
cdef void hear_changes(Dispatch *d, const char *p, size_t n) noexcept nogil
# Leaves the message for the end of the iteration, if a peer listens to it.
cdef void send_abroad(Dispatch *d, int kind, Span channel, Span message) noexcept nogil
# The next of a batch of messages; 0 at its end, or where what follows is none.
cdef int next_message(const char **p, const char *end, int *kind, Span *channel,
                      Span *message) noexcept nogil
cdef void set_local_patterns(Dispatch *d, const Span *patterns, int n) noexcept nogil
# left: of GLOB_STEPS.
cdef int matches_one(Span pattern, Span name, int64_t *left) noexcept nogil
cdef void abroad_free(Dispatch *d) noexcept nogil

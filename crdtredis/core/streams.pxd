# Streams: entries by id, and in the order in which they arrived here. See core/streams.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Span

# Where a reader stands in the order of arrival: it has got what arrived in order of ids up to `id`,
# and of what came late that up to `number`.
cdef struct StreamPlace:
    StreamId id
    uint64_t number

# What follows the order of a Collection of type T_STREAM, whose members are the entries by id.
cdef struct Stream:
    Sealing sealing         # sealing_of
    StreamId newest         # the greatest id that has ever arrived here
    # What arrived behind a greater one: by id an element whose dot is its number and whose value is
    # what `newest` was then. Some are of entries that are gone.
    Table late
    Order arrived           # these by number
    # of how many ops of the log this state was when it was read; counts while recovering only
    uint64_t contains
    int floored             # `newest` has been raised to the floor of its key
    uint64_t produced       # entries that this process has added under idempotent ids,
    uint64_t refused        # and that it had already
    # From the one id to the other all came late: a long run of such that readers pass over.
    StreamId run_begin
    StreamId run_end

cdef inline Stream *stream_of(const Collection *c) noexcept nogil:
    return <Stream*>(<char*>c + sizeof(Collection) + sizeof(Order))

# Which entries of a consumer group this replica gives out (replication/delivering.py).
cdef struct Portion:
    int own                 # those that it added itself,
    int rest                # and those of others,
    Span but                # except of these replicas: each name with a NUL behind it

# A walk over entries that clients see, while nothing changes.
cdef struct StreamCursor:
    Kernel *k
    Collection *c
    int step                # 1 or -1: in the order of ids, or backwards; 0: in that of arrival
    OrderCursor order       # at the next one by id
    Item *item              # there; NULL: none
    OrderCursor arrived     # of arrival: at the next one that came late
    Item *late
    # NULL: all are wanted; else only entries of which it says so as it stands on them (there), and
    # behind the last one it is called, too
    int (*wants)(StreamCursor *at, int there) noexcept nogil
    Span group              # of whom it asks
    const Portion *by        # and which of those this replica gives out; NULL: all
    # what it stands on
    StreamId id
    Item on
    OrderCursor on_at

cdef enum:
    FLOORS = 1024
    HEAD_EFFECTS = 3        # that stream_set_id makes, at most

# c is what key_collection(k, e, T_STREAM) gives, also of a stream without entries.
cdef size_t stream_len(Collection *c) noexcept nogil
# entries from the one id to the other, both included
cdef size_t stream_between(Collection *c, StreamId first, StreamId last) noexcept nogil
cdef StreamId stream_top(Collection *c) noexcept nogil                   # last-generated-id
cdef StreamId stream_max_deleted(Collection *c) noexcept nogil           # 0-0: none
cdef uint64_t stream_added(Kernel *k, Collection *c) noexcept nogil      # entries-added
# By id: the first entry from `id` on (reverse: the last up to it) is what stream_next comes to
# first. By arrival: what arrived behind a place. stream_next: 1 while it stands on one.
cdef void stream_seek(Kernel *k, Collection *c, StreamId id, int reverse,
                      StreamCursor *at) noexcept nogil
cdef void stream_after(Kernel *k, Collection *c, StreamPlace place,
                       StreamCursor *at) noexcept nogil
cdef int stream_next(StreamCursor *at) noexcept nogil
# As they show: good until the next change or call.
cdef Span stream_fields(StreamCursor *at) noexcept nogil
# By id: is there one of this id? It stands on it then; it comes to it at once where that is next.
cdef int stream_find(StreamCursor *at, StreamId id) noexcept nogil
# The place of a reader that got `id` last, whether that is still there or not, or begins there; and
# of one that wants only what is yet to come (`$`). c may be NULL.
cdef StreamPlace stream_place(Kernel *k, Collection *c, StreamId id) noexcept nogil
cdef StreamPlace stream_end(Kernel *k, Collection *c) noexcept nogil
# The id of `*`: above the stream's top (c may be NULL), and unlike any that another process makes.
# It counts as used. 0: none is above the top.
cdef int stream_star(Kernel *k, Collection *c, StreamId *id) noexcept nogil

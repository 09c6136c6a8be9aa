# Consumer groups as commands see them. A group is named by the dot of its CREATE, marks say which
# entries it has given out, a delivery makes a pending record of its own.
#
# s is what key_collection(k, e, T_STREAM) gives. Views and spans are dead after the next change of
# the key.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span

# Of the CREATEs of a name the latest, as clients see it.
cdef struct GroupView:
    Span name
    StreamId last           # last-delivered-id: the greatest that was given out, or begun behind
    int64_t read            # entries-read; -1: not known
    int64_t lag             # entries that are still to be given out; -1: not known
    size_t consumers
    size_t pending
    size_t unowned          # of the pending
    int shared              # every replica gives out all
    int creates             # that have made it, and one more while a state is joined
    void *of                # the kernel's

cdef struct ConsumerView:
    Span name
    int64_t seen            # ms since 1970 of its last call,
    int64_t active          # ... and of its last delivery or claim; -1: none
    size_t pending

cdef enum:
    GONE_MOST = 1 << 14

cdef struct PendingView:
    StreamId id
    Span owner
    int64_t at              # ms since 1970 of the last delivery; 0, and no owner's name: nobody's
    int64_t deliveries

cdef inline int is_unowned(const PendingView *p) noexcept nogil:
    return p.at == 0 and p.owner.n == 0

# ---- reading -------------------------------------------------------------------------------------

cdef int group_find(Kernel *k, Collection *s, Span name, GroupView *out) noexcept nogil
cdef size_t group_count(Kernel *k, Collection *s) noexcept nogil
# Makes g.pending, g.unowned and g.consumers exact; O(records) where several CREATEs have made the
# name.
cdef void group_counted(Kernel *k, GroupView *g) noexcept nogil
# By name: start with *at = 0; 0 at the end. Counted.
cdef int group_next(Kernel *k, Collection *s, size_t *at, GroupView *out) noexcept nogil
cdef int consumer_find(Kernel *k, const GroupView *g, Span name, ConsumerView *out) noexcept nogil
cdef int consumer_next(Kernel *k, const GroupView *g, size_t *at,
                       ConsumerView *out) noexcept nogil
cdef int consumer_there(const GroupView *g, Span name, size_t *at) noexcept nogil
# It is seen now. A matter of this replica, of which no effect is made.
cdef void consumer_called(Kernel *k, const GroupView *g, Span name) noexcept nogil
# The first record from an id on, of one consumer unless owner.p is NULL; 0: there is none.
cdef int pending_from(Kernel *k, const GroupView *g, StreamId id, Span owner,
                      PendingView *out) noexcept nogil
cdef int pending_last(Kernel *k, const GroupView *g, PendingView *out) noexcept nogil
# Of pending entries that this portion gives out (NULL: all) at most `most` that were last delivered
# at `until` or before, the earliest first: PendingView, whose owner is not told. gone: the ids of
# those on the way there that are not there any more, GONE_MOST at most. *next: when the next one
# was delivered, -1: there is none; too early rather than too late.
cdef void group_idle(Kernel *k, Collection *s, const GroupView *g, const Portion *by, int64_t until,
                     size_t most, Buffer *out, Buffer *gone, int64_t *next) noexcept nogil
# Entries that the group has not given out, in order of arrival: then stream_next. by: and that this
# replica gives out; NULL: all.
cdef void group_new(Kernel *k, Collection *s, const GroupView *g, const Portion *by,
                    StreamCursor *at) noexcept nogil
# Adds the ids of those up to the last id that the group has given out. O(1) where none came late.
cdef void group_passed_over(Kernel *k, Collection *s, const GroupView *g,
                            Buffer *ids) noexcept nogil
# Of n ids, in order: out[i] := is some group still to give that entry out, or is it pending in one?
# Where it is not there: will the group come to that id?
cdef void group_references(Kernel *k, Collection *s, const StreamId *ids, size_t n,
                           uint8_t *out) noexcept nogil

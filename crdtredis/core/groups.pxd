# Consumer groups of streams: their marks. See core/groups.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

from crdtredis.buffer cimport Buffer

# Of one entry: whose op brought it, by the actor's id, and which.
cdef struct Mark:
    uint64_t actor
    uint64_t seq
    StreamId id

# What one XGROUP CREATE has become: its marks. See core/groups.pxi.
cdef struct Marks:
    uint64_t dot            # of the CREATE
    uint64_t stamp          # the round: of the CREATE or of the last SETID,
    uint64_t actor          # and whose that was
    int shared
    StreamId start
    int64_t read            # entries-read, as it was said then; -1: it was not; COUNTED
    Buffer seen             # Mark: of each actor the last entry that the round's op had observed
    Buffer given            # of each actor the last entry that was given out
    Buffer odd              # entries for which the two say the wrong thing

# Where to begin to look for what a group has to give out: a matter of this replica alone.
cdef struct Places:
    int known               # the first two are
    StreamPlace given       # all that arrived up to there has been given out,
    StreamPlace others      # or up to there is not for those to give out
    uint64_t by             # of whom portion_mark has this; 0: of nobody
    uint64_t idle           # in by_time, where a CREATE made the group: below that key all records
    uint64_t idle_by        # are of entries that those do not give out; 0: nobody

# What follows the order of a Collection of type T_GROUPS.
cdef struct Groups:
    Table places            # by the group's name: Places
    # The records of one owner side by side, by id: those whose one write says who that is; and
    # under key 0 those of several writes.
    Order by_owner
    # Of a group side by side, by the time of their last delivery: all records, once somebody has
    # asked for that.
    Order by_time
    int timed
    uint64_t said_by        # the dot of the op that spoke last of what is given out
    # by group and name, when a consumer called here last (ms)
    Table calls
    Buffer marks            # Marks of the group that was looked at last,
    # Idempotent ids (core/produced.pxi) by producer and age
    Order produced
    size_t looked           # which of them, by name, the next XADD looks at first
    size_t swept            # and the walk of core/sweep.pxi that is under way,
    int64_t next_out        # ms: when the first of those that it left runs out; 0: it left none
    int64_t look_at         # ms: when the next walk begins
    size_t loaded           # so many; the first is of the latest CREATE
    StreamId passed         # of a walk: the entry that it came to last,
    int some                # if any,
    int passing             # and whether none so far was new: PASSING_GIVEN; or none was one that
    uint64_t by             # this portion gives out: PASSING_OTHERS

cdef inline Groups *groups_data(const Collection *c) noexcept nogil:
    return <Groups*>(<char*>c + sizeof(Collection) + sizeof(Order))

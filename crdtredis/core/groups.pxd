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

# What follows the order of a Collection of type T_GROUPS.
cdef struct Groups:
    # By the group's name a StreamPlace: all that arrived up to there has been given out. A matter
    # of this replica, and no more than a place to begin to look.
    Table places
    # The records of one owner side by side, by id: those whose one write says who that is; and
    # under key 0 those of several writes.
    Order by_owner
    # by group and name, when a consumer called here last (ms)
    Table calls
    Buffer marks            # Marks of the group that was looked at last,
    size_t loaded           # so many; the first is of the latest CREATE
    StreamId passed         # of a walk: the last entry before the first that is new
    int passing             # 1: none was new so far; 2: and there was one before

cdef inline Groups *groups_data(const Collection *c) noexcept nogil:
    return <Groups*>(<char*>c + sizeof(Collection) + sizeof(Order))

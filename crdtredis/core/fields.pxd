# Deadlines of hash fields: see core/fields.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint64_t

# What is said about a deadline, of a key or of a field.
cdef enum Stated:
    STATED_NOT = 0          # nobody said anything
    STATED_DEADLINE = 1     # a deadline write counts
    STATED_CLEAR = 2        # a write to the content that cleared it counts

# What follows the order of a Collection of type T_DEADLINES, whose members are the registers by
# field.
cdef struct Fields:
    Collection *hash        # the fields; NULL: there are none
    # ms: when this replica removes deadlines whose fields have gone, whatever comes meanwhile; 0:
    # it knows of none
    int64_t tidy_at
    int64_t again_at        # ms: when it does so once more, for what came meanwhile; 0: nothing did
    uint64_t cursor         # a bucket of the table: where that goes on

cdef inline Fields *fields_of(Collection *deadlines) noexcept nogil:
    return <Fields*>(<char*>deadlines + sizeof(Collection) + sizeof(Order))

cdef inline Collection *deadlines_of(const Collection *hash) noexcept nogil:
    """Of its fields; NULL: none has any. They stand next to each other under the key."""
    cdef Collection *c = hash.next
    return c if c != NULL and c.type == T_DEADLINES else NULL

cdef inline int shown_as(int type) noexcept nogil:
    """The type that what lies in a collection of this one is part of."""
    if type == T_STREAM_HEAD or type == T_GROUPS:
        return T_STREAM
    return T_HASH if type == T_DEADLINES else type

# ms since 1970 of a field that is there; -1: none
cdef int64_t field_deadline(Kernel *k, const Collection *hash, Element *m) noexcept nogil
# Has a field's deadline passed? Then clients do not see it.
cdef int field_lapsed(Kernel *k, const Collection *hash, Element *m) noexcept nogil
# How many live members clients do not see, because their deadline has passed.
cdef size_t members_lapsed(Kernel *k, const Collection *c) noexcept nogil

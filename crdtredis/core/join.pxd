# Joining another replica's state with what is here. See core/join.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from crdtredis.buffer cimport Buffer, Span

cdef struct Joining:
    Kernel *k
    VersionVector begin     # by slot: the giver's clock as the stream began
    # something was here before: what no piece names goes in the end, so what one names is marked
    int removes
    # as the stream began, the giver had all that is here: where one dot says two things, and where
    # one side lacks what both have observed, his state is right, and this one's has been falsified
    int rules
    int some                # only of these buckets
    uint8_t buckets[512]
    int changed             # the key under way
    # what the giver had folded as the stream began; and it, or this replica, lacks what the other
    # had (core/fold.pxi)
    VersionVector folded
    int late
    int64_t most            # elements that are left of this step
    uint64_t *named         # scratch, by slot: 0 between two cells
    # the op of nobody that had observed what `begin` covers: `actors` knows but him
    Applying op
    Actors actors
    Actor nobody
    # the list that pieces walk through: its database (4 bytes) and key; empty: none
    Buffer list
    Buffer after            # the position up to which that is done, as steps; empty: nothing is
    Buffer steps            # scratch
    # the last walk: over what no piece named. SHARED: it is over
    uint32_t db
    uint64_t cursor         # a bucket of the database's table
    int passed              # that was its last
    Buffer keys             # scratch: elements of the bucket
    # keys of the bucket before it that are walked in parts: size (8 bytes), bytes
    Buffer large
    size_t large_at         # the first of them that is not done begins here
    int type                # of it: the collection under way, from T_HASH on
    uint64_t member         # a bucket of the collection's table

cdef void joining_begin(Joining *j, Kernel *k) noexcept nogil
cdef void joining_free(Joining *j) noexcept nogil
# As `begin` is known.
cdef void joining_start(Joining *j) noexcept nogil
cdef void joining_folded(Joining *j) noexcept nogil
# The cell here := what it and theirs, which is used up, come to: 1 where that changed anything.
cdef int cell_join(Joining *j, Counted *counted, Cell *mine, Cell *theirs) noexcept nogil
# The same of key e, which has a cell. texts: the giver's, whose patches are in a chain, those of
# later places first; used up.
cdef Element *texts_join(Joining *j, uint32_t db, Element *e, Cell *theirs,
                         Text *texts) noexcept nogil
cdef void texts_chain_free(Text *texts) noexcept nogil
# Has this replica observed a dot before the join? Then what is not here is gone, but for where the
# giver's state rules.
cdef int observed_before(const Joining *j, uint64_t dot) noexcept nogil
# Is what stands in e what an item says, both under one dot, or does nobody look at that?
cdef int plain_stays(const Joining *j, Element *e, uint32_t flags, uint64_t stamp,
                     Span value) noexcept nogil
# The own cell of e, a key or a member of a collection that is out of the counts, which goes where
# nothing is left. Returns what has become of it, with the marks.
cdef Element *element_join(Joining *j, uint32_t db, Table *t, size_t *live, Element *e,
                           Cell *theirs) noexcept nogil
# An element of a list as the giver has it: packed, with its value, or a cell, which is used up.
cdef void packed_join(Joining *j, uint32_t db, Collection *c, Span position,
                      Span value) noexcept nogil
cdef void single_join(Joining *j, uint32_t db, Collection *c, Span position,
                      Cell *theirs) noexcept nogil
# The walk through the giver's list has come to a position ("" for the end): what stands between
# that and where it was goes, if it may. rank: of the first element behind where it was, and moves
# on with it. there: whether an element that is not assigned to has this position and value. 0 where
# the step was too short for it.
cdef int list_pass(Joining *j, Collection *c, Span position, Span value, size_t *rank,
                   int *there) noexcept nogil
cdef size_t list_behind(Joining *j, Collection *c) noexcept nogil
# Ends the walk through j.list, unless it is of this key (NULL: of none). 0 as above.
cdef int list_leave(Joining *j, uint32_t db, const Span *key) noexcept nogil
# Of an item of a consumer group: does it belong to what this replica knows to be gone? And what it
# says of entries that are gone goes.
cdef int create_went(Joining *j, Collection *c, Span name) noexcept nogil
cdef void marks_told(Joining *j, Collection *stream, Span name, Cell *theirs) noexcept nogil
# What becomes known of a change of a key, if there was one.
cdef void joined(Joining *j, uint32_t db, Span key) noexcept nogil
# Behind the last piece: removes what none has named; 1 while more is left.
cdef int joining_tidy(Joining *j) noexcept nogil

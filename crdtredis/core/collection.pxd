# Collections, and what each type of them does. See core/collection.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span, span

# A place in a list.
cdef struct ListCursor:
    OrderCursor order
    Block *block
    uint32_t at             # index in the block

cdef enum WalkOrder:
    WALK_FORWARDS = 0       # in the type's order where it has one
    WALK_BACKWARDS = 1      # from the end

# A walk over cells or over what clients are shown, while nothing changes. See core/walk.pxd.
cdef struct Walk:
    Actors *actors
    int order
    int stage               # of a walk over a whole key
    Element *key            # ... which is this
    Collection *c           # where it walks; NULL: at the key's own cells
    int (*step)(Walk *w) noexcept nogil     # to what is next; NULL: that of c's table
    size_t pos
    ListCursor at
    # what it stands on
    int type
    int is_deadline
    Span name               # the member's; of a list's cell the element's position, as steps
    Element *e              # whose cell it is; NULL: a list element's, or a deadline's
    # of a walk over cells; NULL: one write, which is
    Cell *cell
    uint64_t dot
    uint64_t stamp          # 0: it needs none
    uint16_t flags
    Span value
    double score            # where walk_value has put it
    DeadlineRoom room       # of a joint deadline
    LoneRoom lone           # of a lone counter entry
    Buffer steps
    Kernel *k               # of a walk over what is shown

cdef inline void walk_name(Walk *w, Element *e) noexcept nogil:
    """Puts w on e."""
    w.e = e
    w.name = element_name(e)

# What is a type's own. NULL: as of a table of members.
cdef struct CollectionType:
    int rank                # of several live types under a key the one of the lowest rank shows
    size_t extra            # bytes that follow the Collection, zeroed
    void (*open)(Kernel *k, Collection *c) noexcept nogil
    # Frees what no table holds, *most pieces at most, counted down; c.live says how far it has
    # come. 1 while more is left.
    int (*free_some)(Collection *c, int *most) noexcept nogil
    size_t (*memory)(Collection *c) noexcept nogil              # bytes of the content
    # what lies behind its order is in `garbage` now, and empty here
    void (*forget)(Collection *c) noexcept nogil
    # member m has come into its order, or is about to leave it
    void (*ordered)(Kernel *k, Collection *c, Element *m, int there) noexcept nogil
    # it goes: nothing is in it, and nothing shows it
    void (*dropped)(Kernel *k, Element *e, Collection *c) noexcept nogil
    int (*sound)(const Effect *x) noexcept nogil                # ASSIGN, INCREMENT, REMOVE
    Element *(*apply)(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil
    void (*remove)(const Applying *op, Collection *c) noexcept nogil    # what op observed of all
    int (*check)(Kernel *k, Collection *c) noexcept nogil       # 0, or what is broken
    # Walk.step over cells, and over what clients are shown: 1 where there is a next one
    int (*cells)(Walk *w) noexcept nogil
    int (*shown)(Walk *w) noexcept nogil

cdef enum:
    # members or elements: of no more, none is worth remembering or putting off
    SMALL_COLLECTION = 64

cdef enum:
    MEMORY_SAMPLES = 8

cdef inline Collection *head_of(const Collection *stream) noexcept nogil:
    """What a stream knows beside its entries; NULL: nothing. They stand next to each other under
    the key, and where there is a head there is a stream, be it without entries."""
    cdef Collection *c = stream.next
    return c if c != NULL and c.type == T_STREAM_HEAD else NULL

cdef inline Collection *groups_of(const Collection *stream) noexcept nogil:
    """Of a stream; NULL: it has none. They stand behind its head."""
    cdef Collection *c = stream.next
    if c != NULL and c.type == T_STREAM_HEAD:
        c = c.next
    return c if c != NULL and c.type == T_GROUPS else NULL

cdef double member_score(Kernel *k, Element *m) noexcept nogil
# is it a field whose deadline has passed?
cdef int member_lapsed(Kernel *k, const Collection *c, Element *m) noexcept nogil
# a member that clients see, or NULL
cdef Element *member_find(Kernel *k, Collection *c, Span name) noexcept nogil

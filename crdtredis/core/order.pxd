# The order of a sorted set's members or a list's elements: which is the n-th, and how many stand before this one, both in O(log n).
#
# A B+ tree with counts. An item is a member and a hint, an integer that orders as the score (or the position) begins; members with equal
# hints are ordered by name, which is a position where `positions` is set. See core/order.pxi.

cdef struct Item:
    uint64_t hint
    Element *e

cdef struct Order:
    void *root              # Leaf or Branch; NULL when empty
    size_t n
    int height              # branches above a leaf
    Actors *positions       # lists: who the actors in positions are; NULL: names are bytes

# A place between items; moves in both directions without a search.
cdef struct OrderCursor:
    void *leaf
    uint32_t at

cdef void order_free(Order *o) noexcept nogil                                  # frees the tree, not the members; leaves it empty
cdef void order_insert(Order *o, uint64_t hint, Element *e) noexcept nogil
cdef void order_remove(Order *o, uint64_t hint, Element *e) noexcept nogil     # it must be there, with its name still readable
cdef void order_insert_at(Order *o, size_t rank, uint64_t hint, Element *e) noexcept nogil     # the same, where the rank is known
cdef size_t order_rank(Order *o, uint64_t hint, Span name) noexcept nogil      # items before (hint, name); name may be of nobody
cdef Item *order_at(Order *o, size_t rank, OrderCursor *at) noexcept nogil     # NULL beyond the end; `at` stands on the item
cdef Item *order_next(OrderCursor *at) noexcept nogil                          # NULL at the end
cdef Item *order_prev(OrderCursor *at) noexcept nogil
cdef size_t order_memory(const Order *o) noexcept nogil
cdef int order_check(Order *o) noexcept nogil                                  # every invariant: 0 sound, else the number of the broken one

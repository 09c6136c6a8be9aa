# The order of a sorted set's members or a list's elements: which is the n-th, and how many stand
# before this one, both in O(log n).
#
# A B+ tree with counts. Of a sorted set, an item is a member and a sort key, an integer that orders
# as the score does; members with equal ones are ordered by name. Of a list, an item is a block,
# which counts as many as it holds elements. Of a stream, an item is an entry, or a block of such
# (core/sealed.pxi), which counts as many as it holds. See core/order.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Span

cdef struct Item:
    uint64_t sort_key       # lists: elements of the block
    Element *e              # lists: a Block; streams: perhaps what sealed_item gives

cdef struct Order:
    void *root              # Leaf or Branch; NULL when empty
    size_t n                # members, or elements
    int height              # branches above a leaf
    int weighed             # streams: there are, or were, blocks among the items
    Actors *positions       # lists: who the actors in positions are; NULL: a sorted set

# A place between items; moves in both directions without a search.
cdef struct OrderCursor:
    void *leaf
    uint32_t at
    uint32_t within         # which element of the block; order_next and order_prev leave it

# frees the tree, not the members; leaves it empty
cdef void order_free(Order *o) noexcept nogil
# The same a little at a time, for a tree that is not used any more: at most *most nodes, counted
# down; 1 while more is left.
cdef int order_free_some(Order *o, int *most) noexcept nogil
cdef void order_insert(Order *o, uint64_t sort_key, Element *e) noexcept nogil
# it must be there, with its name still readable
cdef void order_remove(Order *o, uint64_t sort_key, Element *e) noexcept nogil
# By rank; where there are blocks, the item that holds the element of this rank.
cdef void order_insert_at(Order *o, size_t rank, Item item) noexcept nogil
cdef void order_change_at(Order *o, size_t rank, Item item) noexcept nogil
cdef void order_remove_at(Order *o, size_t rank) noexcept nogil
# The item at this rank, of which that is the first, and those behind it, so many.
cdef void order_cut(Order *o, size_t rank, uint32_t items) noexcept nogil
# Lists: the last block that begins at or before a position; *rank elements stand before it. NULL
# where all are behind.
cdef Block *order_search(Order *o, Span position, size_t *rank) noexcept nogil
# what the order of a sorted set compares
cdef uint64_t score_sort_key(double score) noexcept nogil
# items before (sort_key, name); name may be of nobody
cdef size_t order_rank(Order *o, uint64_t sort_key, Span name) noexcept nogil
# NULL beyond the end; `at` stands on the item
cdef Item *order_at(Order *o, size_t rank, OrderCursor *at) noexcept nogil
cdef Item *order_next(OrderCursor *at) noexcept nogil                          # NULL at the end
# The first that is not before (sort_key, name), of a sorted set, for a cursor that is not behind it
# or, with leaf NULL, stands nowhere yet. Where it is near it costs no search.
cdef Item *order_forward(Order *o, OrderCursor *at, uint64_t sort_key, Span name) noexcept nogil
cdef Item *order_prev(OrderCursor *at) noexcept nogil
cdef size_t order_memory(const Order *o) noexcept nogil
# every invariant: 0 sound, else the number of the broken one
cdef int order_check(Order *o) noexcept nogil

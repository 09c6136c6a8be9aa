# The order index of sorted sets and lists: a B+ tree with counts.
#
# Of a list, the items are blocks: each counts as many elements as it holds, and ranks are of
# elements. Of a stream, some are. Else the three are the same.
#
# Leaves hold up to 64 items in order and are linked in both directions; branches hold for each
# child its first item and how many items lie below it, so ranks are sums along one path. Against a
# skip list: 16 bytes an item and a sixth for slack instead of about 60, and a search touches three
# or four nodes, comparing integers (sort keys) nearly all the time. Members with equal scores are
# told apart by name.
#
# The first item of a child stands in its branch as a copy and names a living member always: whoever
# changes the first item of a node corrects the copies on the way up. A full node splits in half,
# but where an item goes behind everything the new node takes it alone, so that sets filled in
# ascending order are full. A node that falls below a quarter is joined to a neighbour where both
# fit into three quarters. A set of a few members is one leaf of the size it needs.

from libc.limits cimport INT_MAX
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from crdtredis.buffer cimport Buffer, Span, buffer_free, span

cdef enum:
    LEAF_ITEMS = 64
    EXACT_ITEMS = 8         # a root of no more is as large as these need
    BRANCH_CHILDREN = 32
    FORWARD = 8             # items that are walked over before a search

cdef struct Leaf:
    uint32_t n
    uint32_t cap            # items allocated, which follow the struct
    Leaf *prev
    Leaf *next

cdef struct Branch:
    uint32_t n
    void *child[32]
    size_t count[32]        # items below the child
    Item low[32]            # first item below the child

# What a split leaves behind for the parent: the new right-hand node.
cdef struct Split:
    void *node


cdef uint64_t score_sort_key(double score) noexcept nogil:
    """An integer that orders as the score does."""
    cdef int64_t bits
    if score == 0:
        score = 0                          # -0 is 0
    memcpy(&bits, &score, 8)
    return <uint64_t>bits ^ (<uint64_t>1 << 63) if bits >= 0 else ~<uint64_t>bits


cdef inline Item *leaf_items(Leaf *l) noexcept nogil:
    return <Item*>(<char*>l + sizeof(Leaf))


cdef inline size_t item_weight(const Order *o, const Item *i) noexcept nogil:
    cdef size_t n
    if o.positions != NULL:
        return i.sort_key
    n = sealed_n(i.e)
    return n if n else 1


cdef int compare_names(Element *e, Span name) noexcept nogil:
    """Below, equal to or above 0 as e's name is before, equal to or after `name`: by bytes, and
    then the shorter first."""
    cdef size_t n
    cdef int r
    cdef uint64_t x, y
    if sealed_n(e):                        # the ms are the same
        x = sealed_seq(sealed_of(e), 0)
        y = big_endian(name.p + sizeof(uint64_t))
        return (x > y) - (x < y)
    n = element_klen(e) if element_klen(e) < name.n else name.n
    r = memcmp(element_key(e), name.p, n) if n else 0
    return r if r else (element_klen(e) > name.n) - (element_klen(e) < name.n)


cdef inline int item_before(Order *o, const Item *i, uint64_t sort_key, Span name,
                            int or_equal) noexcept nogil:
    cdef Block *b = <Block*>i.e
    if o.positions != NULL:
        return compare_to_place(o.positions, b, block_head(b), name) < or_equal
    return i.sort_key < sort_key or (i.sort_key == sort_key and compare_names(i.e, name) < or_equal)


cdef uint32_t leaf_position(Order *o, Leaf *l, uint64_t sort_key, Span name,
                            int or_equal) noexcept nogil:
    """Number of items of l before (sort_key, name), or not behind it."""
    cdef uint32_t low = 0, high = l.n, mid
    while low < high:
        mid = (low + high) // 2
        if item_before(o, &leaf_items(l)[mid], sort_key, name, or_equal):
            low = mid + 1
        else:
            high = mid
    return low


cdef uint32_t branch_position(Order *o, Branch *b, uint64_t sort_key, Span name) noexcept nogil:
    """The child in which (sort_key, name) is or belongs: the last one whose first item is not
    behind it."""
    cdef uint32_t low = 1, high = b.n, mid
    while low < high:
        mid = (low + high) // 2
        if item_before(o, &b.low[mid], sort_key, name, 1):
            low = mid + 1
        else:
            high = mid
    return low - 1


cdef uint32_t branch_of_rank(Branch *b, size_t n, size_t *rank, int inserting) noexcept nogil:
    """The child that holds the item of this rank, which becomes its rank there; an insertion at a
    seam goes to the left child. n: items below b. The tail, where most come, is looked at first."""
    cdef uint32_t i = b.n - 1
    cdef size_t before = n - b.count[i]
    if rank[0] >= before + inserting:
        rank[0] -= before
        return i
    i = 0
    while rank[0] >= b.count[i] + inserting:
        rank[0] -= b.count[i]
        i += 1
    return i


cdef uint32_t leaf_of_rank(const Order *o, Leaf *l, size_t n, size_t *rank) noexcept nogil:
    """The item that holds the element of this rank, which becomes its rank there. n: elements in
    l."""
    cdef uint32_t i = 0
    cdef size_t last
    if o.positions == NULL and not o.weighed:
        i = <uint32_t>rank[0]
        rank[0] = 0
        return i
    if rank[0] >= n:
        rank[0] -= n
        return l.n
    last = item_weight(o, &leaf_items(l)[l.n - 1])
    if rank[0] >= n - last:
        rank[0] -= n - last
        return l.n - 1
    while rank[0] >= item_weight(o, &leaf_items(l)[i]):
        rank[0] -= item_weight(o, &leaf_items(l)[i])
        i += 1
    return i


cdef inline Item *first_item(void *node, int height) noexcept nogil:
    return &(<Branch*>node).low[0] if height else &leaf_items(<Leaf*>node)[0]


cdef size_t node_count(const Order *o, void *node, int height) noexcept nogil:
    cdef Branch *b = <Branch*>node
    cdef Leaf *l = <Leaf*>node
    cdef size_t n = 0
    cdef uint32_t i
    if height == 0:
        if o.positions == NULL and not o.weighed:
            return l.n
        for i in range(l.n):
            n += item_weight(o, &leaf_items(l)[i])
        return n
    for i in range(b.n):
        n += b.count[i]
    return n


cdef Leaf *leaf_new(uint32_t cap) noexcept nogil:
    cdef Leaf *l = <Leaf*>mem_alloc(sizeof(Leaf) + cap * sizeof(Item))
    memset(l, 0, sizeof(Leaf))
    l.cap = cap
    return l


# ---- insertion -----------------------------------------------------------------------------------

cdef Leaf *leaf_insert(Leaf *l, uint32_t at, Item item, Split *split) noexcept nogil:
    """Returns l, which a small leaf that grows leaves for another place (only ever a root)."""
    cdef Leaf *right
    cdef uint32_t keep
    if l.n == l.cap and l.cap < LEAF_ITEMS:
        l.cap = min(l.cap + (l.cap // 2 if l.cap >= EXACT_ITEMS else 1),
                    <uint32_t>LEAF_ITEMS)
        l = <Leaf*>mem_realloc(l, sizeof(Leaf) + l.cap * sizeof(Item))
    if l.n == LEAF_ITEMS:
        right = leaf_new(LEAF_ITEMS)
        keep = LEAF_ITEMS if at == LEAF_ITEMS and l.next == NULL else LEAF_ITEMS // 2
        right.n = LEAF_ITEMS - keep
        memcpy(leaf_items(right), leaf_items(l) + keep, right.n * sizeof(Item))
        l.n = keep
        right.prev = l
        right.next = l.next
        if right.next != NULL:
            right.next.prev = right
        l.next = right
        split.node = right
        if at > keep or keep == LEAF_ITEMS:
            leaf_place(right, at - keep, item)
        else:
            leaf_place(l, at, item)
        return l
    leaf_place(l, at, item)
    return l


cdef void leaf_place(Leaf *l, uint32_t at, Item item) noexcept nogil:
    cdef Item *v = leaf_items(l)
    memmove(v + at + 1, v + at, (l.n - at) * sizeof(Item))
    v[at] = item
    l.n += 1


cdef void branch_place(const Order *o, Branch *b, uint32_t at, void *child,
                       int child_height) noexcept nogil:
    memmove(&b.child[at + 1], &b.child[at], (b.n - at) * sizeof(void*))
    memmove(&b.count[at + 1], &b.count[at], (b.n - at) * sizeof(size_t))
    memmove(&b.low[at + 1], &b.low[at], (b.n - at) * sizeof(Item))
    b.child[at] = child
    b.count[at] = node_count(o, child, child_height)
    b.low[at] = first_item(child, child_height)[0]
    b.n += 1


cdef void branch_move(Branch *to, Branch *b, uint32_t begin) noexcept nogil:
    """Appends b's children from `begin` on to another branch."""
    cdef uint32_t n = b.n - begin
    memcpy(&to.child[to.n], &b.child[begin], n * sizeof(void*))
    memcpy(&to.count[to.n], &b.count[begin], n * sizeof(size_t))
    memcpy(&to.low[to.n], &b.low[begin], n * sizeof(Item))
    to.n += n
    b.n = begin


cdef void *node_insert(const Order *o, void *node, int height, size_t n, size_t rank, Item item,
                       Split *split) noexcept nogil:
    cdef Branch *b = <Branch*>node
    cdef Branch *right
    cdef uint32_t at
    cdef Split below
    split.node = NULL
    if height == 0:
        at = leaf_of_rank(o, <Leaf*>node, n, &rank)
        return leaf_insert(<Leaf*>node, at, item, split)
    at = branch_of_rank(b, n, &rank, 1)
    node_insert(o, b.child[at], height - 1, b.count[at], rank, item, &below)
    b.low[at] = first_item(b.child[at], height - 1)[0]
    if below.node == NULL:
        b.count[at] += item_weight(o, &item)
        return b
    b.count[at] = node_count(o, b.child[at], height - 1)
    if b.n == BRANCH_CHILDREN:
        right = <Branch*>mem_alloc(sizeof(Branch))
        right.n = 0
        branch_move(right, b, BRANCH_CHILDREN - 1 if at == BRANCH_CHILDREN - 1
                    else BRANCH_CHILDREN // 2)
        split.node = right
        if at + 1 > b.n:
            branch_place(o, right, at + 1 - b.n, below.node, height - 1)
            return b
    branch_place(o, b, at + 1, below.node, height - 1)
    return b


cdef void order_insert_at(Order *o, size_t rank, Item item) noexcept nogil:
    cdef Split split
    cdef Branch *root
    if o.root == NULL:
        o.root = leaf_new(1)
        o.height = 0
    o.root = node_insert(o, o.root, o.height, o.n, rank, item, &split)
    o.n += item_weight(o, &item)
    if split.node != NULL:
        root = <Branch*>mem_alloc(sizeof(Branch))
        root.n = 0
        branch_place(o, root, 0, o.root, o.height)
        branch_place(o, root, 1, split.node, o.height)
        o.root = root
        o.height += 1


cdef Item *last_item(const Order *o) noexcept nogil:
    """Of one that is not empty."""
    cdef void *node = o.root
    cdef int height
    for height in range(o.height):
        node = (<Branch*>node).child[(<Branch*>node).n - 1]
    return leaf_items(<Leaf*>node) + (<Leaf*>node).n - 1


cdef void order_insert(Order *o, uint64_t sort_key, Element *e) noexcept nogil:
    cdef Item item
    cdef size_t rank = o.n
    item.sort_key = sort_key
    item.e = e
    # entries of streams and what is pending come in order, and so behind all there is
    if rank and not item_before(o, last_item(o), sort_key, element_name(e), 0):
        rank = order_rank(o, sort_key, element_name(e))
    order_insert_at(o, rank, item)


cdef int64_t node_change(const Order *o, void *node, int height, size_t n, size_t rank,
                         Item item) noexcept nogil:
    """Returns how many elements there are more."""
    cdef Branch *b = <Branch*>node
    cdef Leaf *l = <Leaf*>node
    cdef uint32_t at
    cdef int64_t more
    if height == 0:
        at = leaf_of_rank(o, l, n, &rank)
        more = <int64_t>item_weight(o, &item) - <int64_t>item_weight(o, &leaf_items(l)[at])
        leaf_items(l)[at] = item
        return more
    at = branch_of_rank(b, n, &rank, 0)
    more = node_change(o, b.child[at], height - 1, b.count[at], rank, item)
    b.count[at] += more
    b.low[at] = first_item(b.child[at], height - 1)[0]
    return more


cdef void order_change_at(Order *o, size_t rank, Item item) noexcept nogil:
    o.n += node_change(o, o.root, o.height, o.n, rank, item)


# ---- removal -------------------------------------------------------------------------------------

cdef void node_join(Branch *b, uint32_t at, int height) noexcept nogil:
    """Moves everything of child at + 1 to child `at`; height is the children's."""
    cdef Leaf *l = <Leaf*>b.child[at]
    cdef Leaf *r = <Leaf*>b.child[at + 1]
    if height:
        branch_move(<Branch*>b.child[at], <Branch*>b.child[at + 1], 0)
    else:
        memcpy(leaf_items(l) + l.n, leaf_items(r), r.n * sizeof(Item))
        l.n += r.n
        l.next = r.next
        if r.next != NULL:
            r.next.prev = l
    mem_free(b.child[at + 1])
    b.count[at] += b.count[at + 1]
    b.low[at] = first_item(b.child[at], height)[0]
    branch_drop(b, at + 1)


cdef void branch_drop(Branch *b, uint32_t at) noexcept nogil:
    b.n -= 1
    memmove(&b.child[at], &b.child[at + 1], (b.n - at) * sizeof(void*))
    memmove(&b.count[at], &b.count[at + 1], (b.n - at) * sizeof(size_t))
    memmove(&b.low[at], &b.low[at + 1], (b.n - at) * sizeof(Item))


cdef void node_unlink(void *node, int height) noexcept nogil:
    """Frees an empty node."""
    cdef Leaf *l = <Leaf*>node
    if height == 0:
        if l.prev != NULL:
            l.prev.next = l.next
        if l.next != NULL:
            l.next.prev = l.prev
    mem_free(node)


cdef inline uint32_t node_fill(void *node, int height) noexcept nogil:
    return (<Branch*>node).n if height else (<Leaf*>node).n


cdef size_t node_remove(const Order *o, void *node, int height, size_t n, size_t rank,
                        uint32_t *items) noexcept nogil:
    """As many items as stand in one leaf, counted down. Returns how many elements went. n: elements
    below it before, as in the others."""
    cdef Branch *b = <Branch*>node
    cdef Leaf *l = <Leaf*>node
    cdef uint32_t at, full, fill, i, cut
    cdef size_t fewer = 0
    if height == 0:
        at = leaf_of_rank(o, l, n, &rank)
        cut = min(items[0], l.n - at)
        for i in range(at, at + cut):
            fewer += item_weight(o, &leaf_items(l)[i])
        l.n -= cut
        memmove(leaf_items(l) + at, leaf_items(l) + at + cut, (l.n - at) * sizeof(Item))
        items[0] -= cut
        return fewer
    at = branch_of_rank(b, n, &rank, 0)
    fewer = node_remove(o, b.child[at], height - 1, b.count[at], rank, items)
    b.count[at] -= fewer
    full = BRANCH_CHILDREN if height > 1 else LEAF_ITEMS
    fill = node_fill(b.child[at], height - 1)
    if fill == 0:
        node_unlink(b.child[at], height - 1)
        branch_drop(b, at)
        return fewer
    b.low[at] = first_item(b.child[at], height - 1)[0]
    if fill < full // 4 and b.n > 1:
        if at + 1 == b.n:
            at -= 1
        if node_fill(b.child[at], height - 1) + node_fill(b.child[at + 1],
                                                          height - 1) <= full - full // 4:
            node_join(b, at, height - 1)
    return fewer


cdef void order_remove(Order *o, uint64_t sort_key, Element *e) noexcept nogil:
    order_remove_at(o, order_rank(o, sort_key, element_name(e)))


cdef void order_remove_at(Order *o, size_t rank) noexcept nogil:
    order_cut(o, rank, 1)


cdef void order_cut(Order *o, size_t rank, uint32_t items) noexcept nogil:
    cdef void *root
    while items:
        o.n -= node_remove(o, o.root, o.height, o.n, rank, &items)
        while o.height and (<Branch*>o.root).n == 1:
            root = (<Branch*>o.root).child[0]
            mem_free(o.root)
            o.root = root
            o.height -= 1
    if o.n == 0:
        order_free(o)


cdef int node_free(void *node, int height, int *most) noexcept nogil:
    cdef Branch *b = <Branch*>node
    while height and b.n:
        if not node_free(b.child[b.n - 1], height - 1, most):
            return 0
        b.n -= 1
    if most[0] <= 0:
        return 0
    most[0] -= 1
    mem_free(node)
    return 1


cdef inline void order_forget(Order *o) noexcept nogil:
    """Leaves it empty; the nodes are another's now, or freed."""
    o.root = NULL
    o.n = 0
    o.height = o.weighed = 0


cdef int order_free_some(Order *o, int *most) noexcept nogil:
    if o.root != NULL and not node_free(o.root, o.height, most):
        return 1
    order_forget(o)
    return 0


cdef void order_free(Order *o) noexcept nogil:
    cdef int most = INT_MAX
    order_free_some(o, &most)


# ---- looking -------------------------------------------------------------------------------------

cdef size_t order_rank(Order *o, uint64_t sort_key, Span name) noexcept nogil:
    cdef void *node = o.root
    cdef int height = o.height
    cdef size_t rank = 0
    cdef uint32_t at, i
    if node == NULL:
        return 0
    while height:
        at = branch_position(o, <Branch*>node, sort_key, name)
        for i in range(at):
            rank += (<Branch*>node).count[i]
        node = (<Branch*>node).child[at]
        height -= 1
    at = leaf_position(o, <Leaf*>node, sort_key, name, 0)
    if not o.weighed:
        return rank + at
    for i in range(at):
        rank += item_weight(o, &leaf_items(<Leaf*>node)[i])
    return rank


cdef Block *order_search(Order *o, Span position, size_t *rank) noexcept nogil:
    cdef void *node = o.root
    cdef int height = o.height
    cdef size_t n = o.n
    cdef uint32_t at, i
    cdef Leaf *l
    rank[0] = 0
    if node == NULL:
        return NULL
    while height:
        at = (<Branch*>node).n - 1         # the tail is worth a look of its own here, too
        if item_before(o, &(<Branch*>node).low[at], 0, position, 1):
            rank[0] += n - (<Branch*>node).count[at]
        else:
            at = branch_position(o, <Branch*>node, 0, position)
            for i in range(at):
                rank[0] += (<Branch*>node).count[i]
        n = (<Branch*>node).count[at]
        node = (<Branch*>node).child[at]
        height -= 1
    l = <Leaf*>node
    at = l.n
    if item_before(o, &leaf_items(l)[at - 1], 0, position, 1):
        rank[0] += n - leaf_items(l)[at - 1].sort_key
    else:
        at = leaf_position(o, l, 0, position, 1)
        if at == 0:
            return NULL
        for i in range(at - 1):
            rank[0] += leaf_items(l)[i].sort_key
    return <Block*>leaf_items(l)[at - 1].e


cdef Item *order_at(Order *o, size_t rank, OrderCursor *cursor) noexcept nogil:
    cdef void *node = o.root
    cdef int height = o.height
    cdef size_t n = o.n
    cdef uint32_t at
    if rank >= n:
        return NULL
    while height:
        at = branch_of_rank(<Branch*>node, n, &rank, 0)
        n = (<Branch*>node).count[at]
        node = (<Branch*>node).child[at]
        height -= 1
    cursor.leaf = node
    cursor.at = leaf_of_rank(o, <Leaf*>node, n, &rank)
    cursor.within = <uint32_t>rank
    return leaf_items(<Leaf*>node) + cursor.at


cdef inline Item *cursor_item(OrderCursor *cursor) noexcept nogil:
    """What it stands on."""
    return leaf_items(<Leaf*>cursor.leaf) + cursor.at


cdef Item *order_next(OrderCursor *cursor) noexcept nogil:
    cdef Leaf *l = <Leaf*>cursor.leaf
    cursor.at += 1
    while cursor.at >= l.n:
        l = l.next
        if l == NULL:
            return NULL
        cursor.leaf = l
        cursor.at = 0
    return leaf_items(l) + cursor.at


cdef Item *order_forward(Order *o, OrderCursor *cursor, uint64_t sort_key,
                         Span name) noexcept nogil:
    cdef Leaf *l = <Leaf*>cursor.leaf
    cdef Item *item
    cdef int i
    if l != NULL:
        item = leaf_items(l) + cursor.at if cursor.at < l.n else NULL
        for i in range(FORWARD):
            if item == NULL or not item_before(o, item, sort_key, name, 0):
                return item
            item = order_next(cursor)
    return order_at(o, order_rank(o, sort_key, name), cursor)


cdef Item *order_prev(OrderCursor *cursor) noexcept nogil:
    cdef Leaf *l = <Leaf*>cursor.leaf
    while cursor.at == 0:
        l = l.prev
        if l == NULL:
            return NULL
        cursor.leaf = l
        cursor.at = l.n
    cursor.at -= 1
    return leaf_items(l) + cursor.at


cdef size_t node_memory(void *node, int height) noexcept nogil:
    cdef size_t n = mem_size(node)
    cdef uint32_t i
    if height:
        for i in range((<Branch*>node).n):
            n += node_memory((<Branch*>node).child[i], height - 1)
    return n


cdef size_t order_memory(const Order *o) noexcept nogil:
    return node_memory(o.root, o.height) if o.root != NULL else 0


cdef int items_ordered(Order *o, const Item *x, const Item *y) noexcept nogil:
    cdef Buffer head
    cdef int r
    cdef char name[16]
    if sealed_n(y.e):
        put_big_endian(name, sealed_ms(sealed_of(y.e), 0))
        put_big_endian(name + 8, sealed_seq(sealed_of(y.e), 0))
        return item_before(o, x, y.sort_key, span(name, sizeof(name)), 0)
    if o.positions == NULL:
        return item_before(o, x, y.sort_key, element_name(y.e), 0)
    memset(&head, 0, sizeof(Buffer))
    block_position(<Block*>y.e, block_head(<Block*>y.e), &head)
    r = compare_to_place(o.positions, <Block*>x.e, block_tail(<Block*>x.e),
                         span(head.p, head.n)) < 0
    buffer_free(&head)
    return r


cdef int node_check(Order *o, void *node, int height, int is_root) noexcept nogil:
    cdef Branch *b = <Branch*>node
    cdef Leaf *l = <Leaf*>node
    cdef uint32_t i
    cdef int r
    cdef Item *v
    if height == 0:
        v = leaf_items(l)
        if l.n == 0 or l.n > l.cap or l.cap > LEAF_ITEMS:
            return 1
        for i in range(1, l.n):
            if not items_ordered(o, &v[i - 1], &v[i]):
                return 2
        if (l.next != NULL
            and (l.next.prev != l or not items_ordered(o, &v[l.n - 1], leaf_items(l.next)))):
            return 3
        return 0
    if b.n == 0 or (is_root and b.n < 2):
        return 4
    for i in range(b.n):
        if b.count[i] != node_count(o, b.child[i], height - 1) or b.count[i] == 0:
            return 5
        if (b.low[i].e != first_item(b.child[i], height - 1).e
            or b.low[i].sort_key != first_item(b.child[i], height - 1).sort_key):
            return 6
        r = node_check(o, b.child[i], height - 1, 0)
        if r:
            return r
    return 0


cdef int order_check(Order *o) noexcept nogil:
    if o.root == NULL:
        return 7 if o.n or o.height else 0
    if node_count(o, o.root, o.height) != o.n:
        return 8
    return node_check(o, o.root, o.height, 1)

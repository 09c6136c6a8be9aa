# The elements of a list: reading them, and what effects do to them.
#
# A list is blocks (core/block.pxi) in an order (core/order.pxi) that counts their elements. It is
# fully described by which positions it holds and by the writes of each; how these are divided into
# blocks differs between replicas and means nothing.
#
# An element is a cell under a name, which is its position, so the rules of cells hold
# (core/cell.pxi); no two inserts ever name the same position. What is special is that an insert's
# write needs no stamp: whoever assigns to the element, or removes it, has observed that write.
#
#     A: LSET l 0 x   ||   B: LPOP l of the same element   ->   in both orders: the insert's write
#                     goes, A's stays: x, at its old place
#
# Where B's removal comes first, A's assign finds no element and makes one at the position: as a
# block of its own, with a Cell.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span, span


cdef inline Item block_item(Block *b) noexcept nogil:
    cdef Item item
    item.sort_key = b.n
    item.e = <Element*>b
    return item


# ---- reading -------------------------------------------------------------------------------------

cdef int list_seek(Collection *c, size_t index, ListCursor *at) noexcept nogil:
    cdef Item *item = order_at(order_of(c), index, &at.order)
    if item == NULL:
        return 0
    at.block = <Block*>item.e
    at.at = at.order.within
    return 1


cdef int list_next(ListCursor *at) noexcept nogil:
    cdef Item *item
    at.at += 1
    if at.at < at.block.n:
        return 1
    item = order_next(&at.order)
    if item == NULL:
        return 0
    at.block = <Block*>item.e
    at.at = 0
    return 1


cdef int list_prev(ListCursor *at) noexcept nogil:
    cdef Item *item
    if at.at == 0:
        item = order_prev(&at.order)
        if item == NULL:
            return 0
        at.block = <Block*>item.e
        at.at = at.block.n
    at.at -= 1
    return 1


cdef Span list_value(Kernel *k, const ListCursor *at) noexcept nogil:
    return block_value(&k.actors, at.block, at.at)


cdef Span list_view(Kernel *k, Collection *c, size_t index) noexcept nogil:
    cdef ListCursor at
    list_seek(c, index, &at)
    return list_value(k, &at)


cdef Span list_position(Collection *c, size_t index, Buffer *to) noexcept nogil:
    """Appends the steps of an element that is there. The span is good until the buffer grows."""
    cdef ListCursor at
    cdef Place place
    cdef size_t begin = to.n
    list_seek(c, index, &at)
    place = block_place_of(at.block, page_place(at.block, at.at))
    block_position(at.block, &place, to)
    return span(to.p + begin, to.n - begin)


cdef size_t list_memory(Collection *c) noexcept nogil:
    """Bytes of the blocks, estimated from some of them."""
    cdef OrderCursor at
    cdef Item *item
    cdef size_t bytes = 0, elements = 0, i
    for i in range(MEMORY_SAMPLES):
        item = order_at(order_of(c), order_of(c).n // MEMORY_SAMPLES * i, &at)
        bytes += mem_size(item.e) + cell_memory(&(<Block*>item.e).cell)
        elements += item.sort_key
    return bytes * order_of(c).n // elements + order_memory(order_of(c))


# ---- changing ------------------------------------------------------------------------------------

cdef Block *list_cut(Collection *c, size_t rank, Block *b, uint32_t i) noexcept nogil:
    """Cuts block b, before which `rank` elements stand, before its element i, where that is inside.
    Returns what b is then."""
    cdef Block *rest
    if 0 < i < b.n:
        rest = block_cut(&b, i)
        order_change_at(order_of(c), rank, block_item(b))
        order_insert_at(order_of(c), rank + b.n, block_item(rest))
    return b


cdef int list_append(Collection *c, size_t rank, Block *b, Span position,
                     Span value) noexcept nogil:
    """Appends to the page of block b, if that leads to `position`."""
    cdef Step *s = position_steps(position) + position_depth(position) - 1
    cdef Place place
    if not of_run(b, position):
        return 0
    place.offset = s.offset
    place.own = s.own
    place.index = s.own_index
    if not block_append(&b, &place, value):
        return 0
    order_change_at(order_of(c), rank, block_item(b))
    return 1


cdef void list_put(Collection *c, Block *b, size_t rank, uint32_t i, Span position,
                   Span value) noexcept nogil:
    """Puts a new element behind the first i elements of b (NULL: before all that there is),
    packed."""
    cdef OrderCursor at
    cdef Item *next
    if b != NULL:
        b = list_cut(c, rank, b, i)
        if b.direction >= 0 and list_append(c, rank, b, position, value):
            return
        rank += b.n
    next = order_at(order_of(c), rank, &at)
    if (next == NULL or (<Block*>next.e).direction > 0
        or not list_append(c, rank, <Block*>next.e, position, value)):
        order_insert_at(order_of(c), rank, block_item(block_new(position, value)))


cdef void list_assign(Kernel *k, const Applying *op, const Effect *x, Collection *c, Block *b,
                      size_t rank, uint32_t i, int found,
                      Span position) noexcept nogil:
    """A new element, or another value for the one at index i of b. As with every cell: removes the
    writes that op observed, adds its own."""
    cdef uint64_t dot = make_dot(op.slot, op.seq)
    cdef uint64_t own = position_steps(position)[position_depth(position) - 1].own
    cdef Block *single = NULL
    cdef Span value
    if not found and own == dot and x.value.n <= LARGEST_PACKED:
        list_put(c, b, rank, i, position, x.value)
        return
    if found and own == dot and block_packed(b):
        value = block_value(&k.actors, b, i)
        if value.n == x.value.n and memcmp(value.p, x.value.p, value.n) == 0:
            return                         # a checkpoint held it, and the log brings it again
    if b != NULL and (not found or block_packed(b)):
        b = list_cut(c, rank, b, i)
        if i:
            rank += b.n
    if not found:
        single = block_new(position, span(NULL, 0))
        order_insert_at(order_of(c), rank, block_item(single))
    elif block_packed(b):
        single = list_single(k, c, rank, position)
    else:
        single = b
    cell_remove_writes(&single.cell, op)
    # An insert counts without a stamp here too. It meets another write only where a peer made up a
    # position that names the dot of an op yet to come:
    #     A: RPUSH l v, its op n   ||   P: x at the position that A's op n will give
    # In both orders the cell holds v without a stamp and x with one, so x is shown.
    cell_add_write(&single.cell, dot, op.stamp if own != dot else 0, op.slot, 0, x.value)
    if single.cell.writes.next != NULL:
        note_conflict(k, x, &single.cell)


cdef Block *list_single(Kernel *k, Collection *c, size_t rank, Span position) noexcept nogil:
    """Takes the packed element at index `rank`, the first of its block, out into a block with a
    cell."""
    cdef OrderCursor at
    cdef Block *b = <Block*>order_at(order_of(c), rank, &at).e
    cdef Block *single = block_new(position, span(NULL, 0))
    b = list_cut(c, rank, b, 1)
    cell_add_write(&single.cell, b.first.own, 0, dot_slot(b.first.own), 0,
                   block_value(&k.actors, b, 0))
    order_change_at(order_of(c), rank, block_item(single))
    block_free(b)
    return single


cdef void list_take(const Applying *op, Collection *c, Block *b, size_t rank, uint32_t i,
                    Span position) noexcept nogil:
    """Removes what op observed of the element at index i of b."""
    if block_packed(b):
        if not observed(op, position_steps(position)[position_depth(position) - 1].own):
            return
        if b.n > 1:
            b = block_remove(b, i)
            order_change_at(order_of(c), rank, block_item(b))
            return
    else:
        cell_remove_writes(&b.cell, op)
        if b.cell.writes != NULL:
            return
    order_remove_at(order_of(c), rank)
    block_free(b)


cdef int list_write_packed(Kernel *k, const Applying *op, const Effect *x, Element *e,
                           Span position) noexcept nogil:
    """As packed_write: a new element behind the last of the page, or the removal of one of
    several."""
    cdef uint64_t dot = make_dot(op.slot, op.seq)
    cdef Step *s = position_steps(position) + position_depth(position) - 1
    cdef Buffer *to = &k.packing.made
    cdef size_t n = packed_n(e)
    cdef Place place
    cdef Block *b
    cdef uint32_t i
    cdef int done = 0, found
    if (k.joining or (x.kind == ASSIGN and (s.own != dot or x.value.n > PACKED_BYTES))
            or is_opened_now(k)):
        return 0
    b = unpack_block(e, NULL)
    if x.kind == ASSIGN:
        place.offset = s.offset
        place.own = s.own
        place.index = s.own_index
        done = of_run(b, position) and block_append(&b, &place, x.value)
    elif b.n > 1 and compare_to_place(&k.actors, b, block_head(b), position) <= 0:
        i = block_search(&k.actors, b, position, &found)
        done = found and observed(op, s.own)
        if done:
            b = block_remove(b, i)
    if done:
        packed_head(to, T_LIST, b.n)
        done = b.n <= PACKED_MEMBERS and pack_block(b, to) and to.n <= PACKED_BYTES
    if done:
        packed_free(e)
        packed_put(e, to)
        if x.kind == ASSIGN:
            note_insert(k, op, n if b.direction > 0 else 0, n)
    block_free(b)
    return done


cdef Element *apply_to_list(Kernel *k, const Applying *op, const Effect *x,
                            Element *e) noexcept nogil:
    """ASSIGN and REMOVE of an element: the effects on a cell, whose name is a position."""
    cdef Database *d = &k.db[x.db]
    cdef Collection *c = NULL
    cdef Block *b
    cdef Span position
    cdef size_t rank
    cdef uint32_t i = 0
    cdef int was_live, found = 0
    k.scratch.position.n = 0
    if decode_position(&k.actors, &k.scratch.position, x.name, make_dot(op.slot, op.seq),
                       op.index) != 1:
        return e                           # never: apply_op has looked
    position = span(k.scratch.position.p, k.scratch.position.n)
    if e == NULL:
        if x.kind == REMOVE:
            return NULL
        e = key_new(k, &d.table, x.key)
    if is_packed(e) and packed_type(e) == T_LIST and list_write_packed(k, op, x, e, position):
        return e
    was_live = element_live(e)
    if x.kind == ASSIGN:
        e = open_collections(k, x.db, e)
        c = collection_open(k, e, T_LIST)
    else:
        c = element_collection(k, e, T_LIST)
    if c == NULL:
        return e
    b = order_search(order_of(c), position, &rank)
    if b != NULL:
        i = block_search(&k.actors, b, position, &found)
    if x.kind == ASSIGN:
        note_insert(k, op, rank + i, 0 if found else order_of(c).n)
        if not found:
            list_recent(c)[1] = list_recent(c)[0]
            list_recent(c)[0] = make_dot(op.slot, op.seq)
        list_assign(k, op, x, c, b, rank, i, found, position)
        note_written(op, c)
    elif found:
        list_take(op, c, b, rank, i, position)
    c.live = order_of(c).n
    return reencode(k, &d.table, &d.live, e, was_live)


# ---- the whole list ------------------------------------------------------------------------------

cdef Block *block_unobserved(const Applying *op, Block *b) noexcept nogil:
    """What op had not observed of b: b, part of it, or NULL. The dots ascend along the page, so one
    cut tells."""
    cdef Place place = b.first
    cdef Block *rest
    cdef uint32_t p = b.begin
    if not block_packed(b):
        cell_remove_writes(&b.cell, op)
        if b.cell.writes != NULL:
            return b
    elif not observed(op, b.first.own):
        return b
    elif not observed(op, b.last.own):
        while observed(op, place.own):
            p += 1
            place_forward(b, p, &place)
        rest = block_cut(&b, p - b.begin if b.direction > 0 else b.begin + b.n - p)
        if rest.first.own == place.own:
            block_free(b)
            return rest
        block_free(rest)
        return b
    block_free(b)
    return NULL


cdef void list_remove_observed(const Applying *op, Collection *c) noexcept nogil:
    """Removes what op observed. Looks at every block, and into those of which it observed a
    part."""
    cdef Order old = order_of(c)[0]
    cdef OrderCursor at
    cdef Block *b
    cdef Item *item = order_at(&old, 0, &at)
    order_forget(order_of(c))
    while item != NULL:
        b = block_unobserved(op, <Block*>item.e)
        if b != NULL:
            order_insert_at(order_of(c), order_of(c).n, block_item(b))
        item = order_next(&at)
    order_free(&old)
    c.live = order_of(c).n


cdef int list_free_some(Collection *c, int *most) noexcept nogil:
    """Frees blocks of a list that is not used any more, and then its order; c.live says how far it
    has come. 1 while more is left."""
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), c.live, &at)
    while item != NULL and most[0] > 0:
        most[0] -= 1
        c.live += item.sort_key
        block_free(<Block*>item.e)
        item = order_next(&at)
    return item != NULL or order_free_some(order_of(c), most)


cdef int list_shown(Walk *w) noexcept nogil:
    if w.pos == 0:
        if not list_seek(w.c, order_of(w.c).n - 1 if w.order == WALK_BACKWARDS else 0, &w.at):
            return 0
        w.pos = 1
    elif not (list_prev(&w.at) if w.order == WALK_BACKWARDS else list_next(&w.at)):
        return 0
    w.value = block_value(w.actors, w.at.block, w.at.at)
    return 1


cdef int list_cells(Walk *w) noexcept nogil:
    cdef Place place
    if not list_shown(w):
        return 0
    place = block_place_of(w.at.block, page_place(w.at.block, w.at.at))
    w.steps.n = 0
    block_position(w.at.block, &place, &w.steps)
    w.name = span(w.steps.p, w.steps.n)
    w.e = NULL
    w.cell = NULL if block_packed(w.at.block) else &w.at.block.cell
    w.dot = place.own
    w.stamp = w.flags = 0                  # an insert needs no stamp
    return 1


cdef int list_sound(const Effect *x) noexcept nogil:
    """An element is no counter."""
    return x.kind != INCREMENT and x.observed.n == 0


cdef int list_check(Kernel *k, Collection *c) noexcept nogil:
    """0 sound, else the number of the broken invariant, that of a block in hundreds."""
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), 0, &at)
    if order_of(c).n == 0 or order_of(c).n != c.live or table_count(&c.table) or c.cells:
        return 1
    while item != NULL:
        if item.sort_key != (<Block*>item.e).n:
            return 2
        if block_check(<Block*>item.e):
            return 100 * block_check(<Block*>item.e)
        item = order_next(&at)
    return 0


cdef void list_open(Kernel *k, Collection *c) noexcept nogil:
    order_of(c).positions = &k.actors


cdef void fill_list() noexcept:
    cdef CollectionType *t = &types[<int>T_LIST]
    t.rank = 0
    t.extra = sizeof(Order) + 2 * sizeof(uint64_t)     # order_of, list_recent
    t.open = list_open
    t.free_some = list_free_some
    t.memory = list_memory
    t.sound = list_sound
    t.apply = apply_to_list
    t.remove = list_remove_observed
    t.check = list_check
    t.cells = list_cells
    t.shown = list_shown


fill_list()

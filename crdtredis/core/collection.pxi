# Collections: what lies under a key beside a string, and what each type of them does.
#
# A hash, a set and a sorted set are tables of members, which are elements as keys are, each with a
# cell; a sorted set also has an order. A list is an order of blocks (core/list.pxi). What a type
# does in a way of its own stands in its row of `types`; a part above this one may fill a row in.
#
#     to add a type    a file that fills in its row (core/list.pxi is the model), its kind in
#                      core/codec.pxd and proto/, and its commands

from libc.limits cimport INT_MAX
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Span, buffer_free, span


cdef inline size_t collection_size(Collection *c) noexcept nogil:
    """Members, tombstones included, or elements."""
    return (order_of(c).n if c.type == T_LIST or c.type == T_STREAM
            else table_count(&c.table))


cdef inline int is_sorted(const Collection *c) noexcept nogil:
    """Are its live members in its order, by member_sort_key?"""
    return c.type == T_ZSET or c.type == T_STREAM or c.type == T_GROUPS


cdef inline int has_order(const Collection *c) noexcept nogil:
    return c.type == T_LIST or c.type == T_DEADLINES or is_sorted(c)


cdef void collection_free(Collection *c) noexcept nogil:
    cdef int most = INT_MAX
    c.live = 0                             # where free_some begins
    while types[c.type].free_some(c, &most):
        most = INT_MAX
    table_clear(&c.table, free_visited, NULL)
    if c.written != NULL:
        vector_free(c.written)
        mem_free(c.written)
    mem_free(c)


cdef inline int may_drop(Collection *c) noexcept nogil:
    cdef Collection *head = head_of(c) if c.type == T_STREAM else NULL
    cdef Collection *groups = groups_of(c) if c.type == T_STREAM else NULL
    return (collection_size(c) == 0 and not (c.type == T_PATCHES and c.named)
            and (head == NULL or collection_size(head) == 0)
            and (groups == NULL or collection_size(groups) == 0))


cdef void drop_empty_collections(Kernel *k, Element *e) noexcept nogil:
    """Of E_ENTRY."""
    cdef Collection *first = element_held(e)
    cdef Collection **at = &first
    cdef Collection *c
    if is_packed(e):
        return
    while at[0] != NULL:
        c = at[0]
        if may_drop(c):
            if types[c.type].dropped != NULL:
                types[c.type].dropped(k, e, c)
            if c.type == T_HASH and deadlines_of(c) != NULL:
                fields_of(c.next).hash = NULL
            at[0] = c.next
            collection_free(c)
        else:
            at = &c.next
    element_put_collections(e, first)


cdef uint64_t name_sort_key(Span name) noexcept nogil:
    """By what an order of names by their bytes compares first."""
    cdef uint64_t v = 0
    cdef size_t i
    for i in range(8):
        v = v << 8 | (<uint8_t>name.p[i] if i < name.n else 0)
    return v


cdef uint64_t member_sort_key(Kernel *k, Collection *c, Element *m) noexcept nogil:
    """By what the order of a sorted set or a stream compares first."""
    if c.type == T_STREAM:
        return big_endian(element_key(m))
    if c.type == T_GROUPS:
        return name_sort_key(element_name(m))
    return score_sort_key(member_score(k, m))


cdef double member_score(Kernel *k, Element *m) noexcept nogil:
    """A sorted set's."""
    cdef double score
    cdef Reading r
    if m.meta & E_PLAIN:
        memcpy(&score, element_value(m), 8)
        return score
    r = element_reading(k, m)
    return shown_score(&k.actors, &r)


cdef Element *member_find(Kernel *k, Collection *c, Span name) noexcept nogil:
    cdef Element *m = table_find(&c.table, name.p, name.n, key_hash(k, name.p, name.n))
    return m if m != NULL and value_live(m) and not member_lapsed(k, c, m) else NULL


cdef int member_lapsed(Kernel *k, const Collection *c, Element *m) noexcept nogil:
    return c.type == T_HASH and field_lapsed(k, c, m)


cdef void unindex(Kernel *k, Collection *c, Element *m) noexcept nogil:
    """Before a change of member m (NULL: none yet): takes it out of the counts and the order."""
    cdef Element *d
    if m == NULL:
        return
    if not m.meta & E_PLAIN:
        c.cells -= 1
        c.tombstones -= m.meta & E_CELL and has_tombstone(element_cell(m))
    if is_sorted(c) and value_live(m):
        order_remove(order_of(c), member_sort_key(k, c, m), m)
        if types[c.type].ordered != NULL:
            types[c.type].ordered(k, c, m, 0)
    elif c.type == T_DEADLINES:
        register_out(k, c, field_of(c, m), m)
    elif c.type == T_HASH:
        d = register_of(c, m)
        if d != NULL:
            register_out(k, deadlines_of(c), m, d)


cdef void reindex(Kernel *k, Collection *c, Span name, uint32_t hash) noexcept nogil:
    """After it: puts in what stands there now, which may have moved, or gone."""
    reindex_member(k, c, name, hash, table_find(&c.table, name.p, name.n, hash))


cdef void reindex_member(Kernel *k, Collection *c, Span name, uint32_t hash,
                         Element *m) noexcept nogil:
    """The same, where it is known that this is m, or with NULL, nothing."""
    if m != NULL:
        index_member(k, c, m)
    elif c.type == T_HASH:
        field_changed(k, c, name, hash, NULL)


cdef void count_member(Collection *c, Element *m) noexcept nogil:
    if not m.meta & E_PLAIN:
        c.cells += 1
        c.tombstones += m.meta & E_CELL and has_tombstone(element_cell(m))


cdef inline size_t *live_of(Collection *c, size_t *none) noexcept nogil:
    """Where the live members of c are counted: those that show nothing are not."""
    return none if c.type == T_DEADLINES else &c.live


cdef void index_member(Kernel *k, Collection *c, Element *m) noexcept nogil:
    count_member(c, m)
    if is_sorted(c) and value_live(m):
        order_insert(order_of(c), member_sort_key(k, c, m), m)
        if types[c.type].ordered != NULL:
            types[c.type].ordered(k, c, m, 1)
    elif c.type == T_DEADLINES:
        register_in(k, c, field_of(c, m), m)
    elif c.type == T_HASH:
        field_changed(k, c, element_name(m), m.hash, m)


cdef void note_written(const Applying *op, Collection *c) noexcept nogil:
    """After an assign to c: its dot counts, and of a collection that has just become large, all
    dots."""
    cdef Walk w
    if c.written == NULL:
        if collection_size(c) <= SMALL_COLLECTION:
            return
        c.written = <VersionVector*>mem_zalloc(sizeof(VersionVector))
        walk_begin(&w, op.actors)
        walk_open(&w, c)
        while walk_cell(&w):
            if w.cell == NULL:
                vector_raise(c.written, dot_slot(w.dot), dot_seq(w.dot))
            else:
                vector_raise_writes(c.written, w.cell)
        walk_end(&w)
    vector_raise(c.written, op.slot, op.seq)


cdef int all_observed(const Applying *op, const Collection *c) noexcept nogil:
    """Has op surely observed every write of c? Where not, one has to look."""
    return op.local or (c.written != NULL and vector_observed(op, c.written))


cdef void discard(Kernel *k, Collection *c) noexcept nogil:
    """Empties c of all its members, which are freed later, a little at a time."""
    cdef size_t size = sizeof(Collection) + types[c.type].extra
    cdef Collection *rest = <Collection*>mem_alloc(size)
    memcpy(rest, c, size)
    rest.next = k.garbage
    rest.live = 0
    k.garbage = rest
    table_init(&c.table)
    if has_order(c):
        order_forget(order_of(c))
    if types[c.type].forget != NULL:
        types[c.type].forget(c)
    c.written = NULL
    c.live = 0


# ---- tables of members ---------------------------------------------------------------------------

cdef int members_free_some(Collection *c, int *most) noexcept nogil:
    """Nothing: the members are freed by who asks, a table at a time."""
    return 0


cdef size_t members_memory(Collection *c) noexcept nogil:
    """Bytes of the members, estimated from some of them."""
    cdef size_t members = 0, pos = 0
    cdef Element *m
    cdef int i = 0
    while i < MEMORY_SAMPLES:
        m = table_next(&c.table, &pos)
        if m == NULL:
            break
        members += mem_size(element_allocation(m))
        if m.meta & E_CELL:
            members += cell_memory(element_cell(m))
        i += 1
    return members * table_count(&c.table) // i if i else 0


# ---- sorted sets ---------------------------------------------------------------------------------

cdef int zset_free_some(Collection *c, int *most) noexcept nogil:
    return order_free_some(order_of(c), most)


cdef size_t zset_memory(Collection *c) noexcept nogil:
    return members_memory(c) + order_memory(order_of(c))


cdef int zset_shown(Walk *w) noexcept nogil:
    cdef Order *o = order_of(w.c)
    cdef Item *item
    if w.pos == 0:
        item = order_at(o, o.n - 1 if w.order == WALK_BACKWARDS else 0, &w.at.order)
        w.pos = 1
    elif w.order == WALK_BACKWARDS:
        item = order_prev(&w.at.order)
    else:
        item = order_next(&w.at.order)
    if item == NULL:
        return 0
    walk_name(w, item.e)
    return 1


cdef int zset_sound(const Effect *x) noexcept nogil:
    """A score is 8 bytes, and no NaN."""
    cdef double score
    if x.kind != ASSIGN:
        return 1
    if x.value.n != 8:
        return 0
    memcpy(&score, x.value.p, 8)
    return score == score


cdef int zset_check(Kernel *k, Collection *c) noexcept nogil:
    """0 sound, else the number of the broken invariant."""
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), 0, &at)
    cdef Element *m
    if order_of(c).n != c.live:
        return 1
    while item != NULL:
        m = item.e
        if item.sort_key != member_sort_key(k, c, m):
            return 2
        if table_find(&c.table, element_key(m), element_klen(m), m.hash) != m:
            return 3
        item = order_next(&at)
    return 0


# ---- sets ----------------------------------------------------------------------------------------

cdef int set_sound(const Effect *x) noexcept nogil:
    """A member has no value."""
    return x.kind != ASSIGN or x.value.n == 0


# ---- a walk over cells ---------------------------------------------------------------------------

cdef void walk_begin(Walk *w, Actors *a) noexcept nogil:
    memset(w, 0, sizeof(Walk))
    w.actors = a


cdef inline void walk_open(Walk *w, Collection *c) noexcept nogil:
    """Before a walk over the cells of c."""
    w.c = c
    w.pos = 0
    w.type = c.type
    w.step = types[c.type].cells


cdef inline int walk_cell(Walk *w) noexcept nogil:
    """To the next cell of what is open: 1 where there is one."""
    cdef Element *m
    if w.step != NULL:
        return w.step(w)
    m = table_next(&w.c.table, &w.pos)
    if m == NULL:
        return 0
    walk_element(w, m)
    return 1


cdef void walk_end(Walk *w) noexcept nogil:
    buffer_free(&w.steps)


cdef inline void walk_element(Walk *w, Element *e) noexcept nogil:
    """Puts w on the cell of e."""
    walk_name(w, e)
    if e.meta & E_PLAIN:
        w.cell = NULL
        w.dot = e.dot
        w.stamp = element_stamp(e)
        w.flags = W_CLEARS if e.meta & E_CLEARS else 0
        w.value = element_content(e)
    else:
        w.cell = cell_of(e, &w.lone)


# ---- the types -----------------------------------------------------------------------------------

# by T_*, of which there are T_COUNT
cdef CollectionType types[10]


cdef void fill_types() noexcept:
    cdef CollectionType members
    cdef int type
    memset(&members, 0, sizeof(CollectionType))
    members.free_some = members_free_some
    members.memory = members_memory
    for type in range(T_COUNT):
        types[type] = members
    types[<int>T_STRING].rank = 4          # only as garbage: a database that is let go of
    types[<int>T_HASH].rank = 1
    types[<int>T_SET].rank = 3
    types[<int>T_SET].sound = set_sound
    types[<int>T_ZSET].rank = 2
    types[<int>T_ZSET].extra = sizeof(Order)
    types[<int>T_ZSET].free_some = zset_free_some
    types[<int>T_ZSET].memory = zset_memory
    types[<int>T_ZSET].sound = zset_sound
    types[<int>T_ZSET].check = zset_check
    types[<int>T_ZSET].shown = zset_shown
    types[<int>T_DEADLINES].extra = sizeof(Order) + sizeof(Fields)     # order_of, fields_of
    types[<int>T_DEADLINES].free_some = zset_free_some
    types[<int>T_DEADLINES].memory = zset_memory
    types[<int>T_DEADLINES].check = fields_check


fill_types()

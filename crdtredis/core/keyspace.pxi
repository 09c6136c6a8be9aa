# The keyspace: databases and keys, what of them is visible, how much memory they take, and how it
# is freed. What effects do to keys is in core/apply.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Span, buffer_add, span

# ---- encodings -----------------------------------------------------------------------------------

cdef Element *open_collections(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    """Key e with room for collections."""
    if e.meta & E_ENTRY:
        part_deadline(k, e)
        return e
    e = element_convert(k, &k.db[db].table, e, (e.meta & 0xff) | E_ENTRY,
                        element_content(e))
    under_at(e)[0] = 1
    return e


cdef Element *open_entry(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    """Key e with an Entry."""
    cdef Entry *x
    e = open_collections(k, db, e)
    if element_entry(e) == NULL:
        x = entry_new(e, db)
        x.collections = element_held(e)
        under_at(e)[0] = <uint64_t>x
    return e


cdef void close_entry(Kernel *k, Element *e) noexcept nogil:
    """Frees the Entry of e, whose deadline is empty."""
    cdef Entry *x = element_entry(e)
    under_at(e)[0] = <uint64_t>element_held(e) | 1
    heap_remove(k, x)
    mem_free(x)


cdef void key_free(Kernel *k, Element *e) noexcept nogil:
    """Frees a detached key and all that lies under it."""
    cdef Entry *x = element_entry(e)
    cdef Collection *c
    cdef Collection *next
    if is_packed(e):
        packed_free(e)
    c = element_held(e)
    while c != NULL:
        next = c.next
        collection_free(c)
        c = next
    if x != NULL:
        heap_remove(k, x)
        cell_free(&x.deadline)
        mem_free(x)
    elif is_joint(e):
        joint_remove(k, e)
    element_free(e)


cdef void free_visited_key(void *arg, Element *e) noexcept nogil:
    """A TableVisit."""
    key_free(<Kernel*>arg, e)


cdef Element *reencode(Kernel *k, Table *t, size_t *live, Element *e, int was_live) noexcept nogil:
    """After a change of a key or member of t: the smallest encoding that holds what e holds, the
    count of live ones, the heap. Returns what e has become; NULL where nothing is left of it."""
    cdef uint32_t flags = e.meta & 0xff
    cdef Entry *x = element_entry(e)
    cdef Span value = element_content(e)
    cdef Cell c
    cdef Lone lone
    cdef Write *w = NULL
    cdef int was_cell = e.meta & E_CELL
    if flags & E_CELL:
        c = element_cell(e)[0]
        w = c.writes
        if cell_empty(&c):
            flags &= ~<uint32_t>E_CELL
            w = NULL
        elif (w != NULL and w.next == NULL and c.counts == NULL and w.actor == dot_slot(w.dot)
              and not w.flags & W_LOOSE):
            flags = (flags & ~<uint32_t>E_CELL) | E_PLAIN | (E_CLEARS if w.flags & W_CLEARS else 0)
            value = span(write_value(w), w.n)
        else:
            w = NULL
            if may_be_lone(&c):
                lone = lone_new(make_dot(c.counts.actor, c.counts.seq), c.counts.run_seq,
                                c.counts.run_index, c.counts.total.whole)
                flags = (flags & ~<uint32_t>E_CELL) | lone_flags(lone)
    if flags & E_ENTRY:
        drop_empty_collections(k, e)
        if (x != NULL and cell_empty(&x.deadline)
                and element_collection(k, e, T_DEADLINES) == NULL):
            close_entry(k, e)
            x = NULL
        if x == NULL and element_held(e) == NULL and not is_joint(e):
            flags &= ~<uint32_t>E_ENTRY
    if flags & (E_VALUE | E_ENTRY) == 0:
        live[0] -= was_live
        table_remove(t, e)
        element_free(e)
        return NULL
    if flags != e.meta & 0xff:
        e = element_convert(k, t, e, flags, value)
        if flags & E_ENTRY and element_held(e) != NULL and not is_packed(e):
            pack_later(k, e)               # it was remembered where it stood before
        if w != NULL:
            e.dot = w.dot
            e.stamp = w.stamp
            mem_free(w)
        elif was_cell and is_lone(e):
            lone_put(e, lone)
            count_free(c.counts)
    if x != NULL:
        join_deadline(k, e)
    live[0] += element_live(e) - was_live
    return e


# ---- reading -------------------------------------------------------------------------------------

cdef Element *key_in(Kernel *k, uint32_t db, Span key) noexcept nogil:
    return table_find(&k.db[db].table, key.p, key.n, siphash(key.p, key.n, k.hash_key))


cdef void keys_prefetch(Kernel *k, uint32_t db, const Span *keys, int n, int step) noexcept nogil:
    """In a keyspace greater than the caches nearly all of a look-up is two waits for memory, for
    the slot and then for the element it points to. One key cannot do without; for several, all
    slots are asked for, then all elements."""
    cdef uint32_t hashes[KEYS_PREFETCHED]
    cdef Table *t = &k.db[db].table
    cdef int i
    n = min(n, <int>KEYS_PREFETCHED)
    for i in range(n):
        hashes[i] = siphash(keys[i * step].p, keys[i * step].n, k.hash_key)
        table_prefetch_slots(t, hashes[i])
    for i in range(n):
        table_prefetch_element(t, hashes[i])


cdef uint32_t key_prefetch(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef uint32_t hash = key_hash(k, key.p, key.n)
    table_prefetch_slots(&k.db[db].table, hash)
    return hash


cdef void hash_prefetch(Kernel *k, uint32_t db, uint32_t hash) noexcept nogil:
    table_prefetch_element(&k.db[db].table, hash)


cdef int key_visible(Kernel *k, Element *e) noexcept nogil:
    return key_type(k, e) != T_NONE


cdef int live_type(Kernel *k, Element *e) noexcept nogil:
    """The type that shows where several are live, the same in every replica: stream, list, hash,
    sorted set, set, string. A hash of which no field is seen is none."""
    cdef Collection *c = element_held(e)
    cdef int best = T_NONE
    if is_packed(e):
        return packed_type(e)              # before any string
    while c != NULL:
        if live_members(c) > members_lapsed(k, c) and (
                best == T_NONE or types[c.type].rank < types[best].rank):
            best = c.type
        c = c.next
    best = shown_as(best)
    return best if best != T_NONE else T_STRING if value_live(e) else T_NONE


cdef int key_type(Kernel *k, Element *e) noexcept nogil:
    cdef int64_t deadline
    if e == NULL:
        return T_NONE
    if not e.meta & E_ENTRY:
        return T_STRING if value_live(e) else T_NONE
    deadline = key_deadline(k, e)
    return live_type(k, e) if deadline < 0 or k.now <= deadline else T_NONE


cdef Collection *key_collection(Kernel *k, Element *e, int type) noexcept nogil:
    return element_collection(k, e, type) if key_type(k, e) == type else NULL


cdef Collection *key_view(Kernel *k, Element *e, int type) noexcept nogil:
    return element_view(k, e, type) if key_type(k, e) == type else NULL


cdef size_t key_size(Kernel *k, Element *e, int type) noexcept nogil:
    cdef Collection *c
    if key_type(k, e) != type:
        return 0
    if is_packed(e):
        return packed_n(e)
    c = element_collection(k, e, type)
    return c.live - members_lapsed(k, c)


cdef Element *key_member(Kernel *k, Element *e, int type, Span name) noexcept nogil:
    if is_packed(e):
        return packed_member(k, e, name)
    return member_find(k, element_collection(k, e, type), name)


cdef enum:
    FEW_BYTES = 64 << 10    # of k.scratch.few


cdef inline size_t random_tries(Table *t, size_t live) noexcept nogil:
    """How many draws to make, until one is live, before all are looked at: enough nearly always,
    and few beside a look at all."""
    return 100 + (16 * table_count(t) // live if live >= MANY_LIVE else 0)


cdef inline int random_takes(Kernel *k, size_t n) noexcept nogil:
    """Does the n-th of some take the place of the one chosen among those before? So each is as
    likely in the end."""
    return (next_random(&k.seed) >> 32) * n >> 32 == 0


cdef inline int may_be_chosen(Kernel *k, const Collection *c, Element *e) noexcept nogil:
    """c: what e is a member of; NULL: e is a key."""
    return value_live(e) and not member_lapsed(k, c, e) if c != NULL else key_visible(k, e)


cdef Element *random_among_few(Kernel *k, const Collection *c, Table *t,
                               size_t live) noexcept nogil:
    """One of the `live` elements of a table that holds far more tombstones, or NULL. c: what they
    are members of; NULL: they are keys, of which some may be expired.

    A look at all elements, 90 ms for 500,000, leaves the names of the live ones in k.scratch.few.
    When as many of those names as there are live elements stand for one, they stand for all: so no
    change has to tell k.scratch.few anything, and what it holds may be of another table. Of many
    commands or draws in a row only the first looks at all, and each after an element has been
    added."""
    cdef Element *found = NULL
    cdef Element *e
    cdef size_t at = 0, n = 0
    cdef uint32_t size
    cdef const char *name
    while at < k.scratch.few.n:
        memcpy(&size, k.scratch.few.p + at, 4)
        name = k.scratch.few.p + at + 4
        at += 4 + size
        e = table_find(t, name, size, key_hash(k, name, size))
        if e != NULL and may_be_chosen(k, c, e):
            n += 1
            if random_takes(k, n):
                found = e
    if n == live:
        return found
    found = NULL
    n = at = k.scratch.few.n = 0
    while True:
        e = table_next(t, &at)
        if e == NULL:
            return found
        if may_be_chosen(k, c, e):
            n += 1
            if random_takes(k, n):
                found = e
            if k.scratch.few.n + 4 + element_klen(e) <= FEW_BYTES:
                size = element_klen(e)
                buffer_add(&k.scratch.few, &size, 4)
                buffer_add(&k.scratch.few, element_key(e), size)


cdef Element *member_random(Kernel *k, Collection *c) noexcept nogil:
    cdef Element *m
    cdef size_t shown = c.live - members_lapsed(k, c)
    for _ in range(random_tries(&c.table, shown)):
        m = table_random(&c.table, &k.seed)
        if may_be_chosen(k, c, m):
            return m
    return random_among_few(k, c, &c.table, shown)


cdef Span member_view(Kernel *k, Element *m) noexcept nogil:
    return field_view(k, m)


cdef size_t key_memory(Kernel *k, Element *e) noexcept nogil:
    cdef size_t n = mem_size(element_allocation(e))
    cdef Entry *x = element_entry(e)
    cdef Collection *c = element_unpacked(e)
    if is_packed(e):
        n += mem_size(element_packed(e))
    if e.meta & E_CELL:
        n += cell_memory(element_cell(e))
    if x != NULL:
        n += mem_size(x) + cell_memory(&x.deadline)
    while c != NULL:
        n += mem_size(c) + table_memory(&c.table) + types[c.type].memory(c)
        c = c.next
    return n


cdef Element *key_random(Kernel *k, uint32_t db) noexcept nogil:
    cdef Table *t = &k.db[db].table
    cdef Element *e
    for _ in range(random_tries(t, k.db[db].live)):
        e = table_random(t, &k.seed)
        if e == NULL or key_visible(k, e):
            return e
    return random_among_few(k, NULL, t, k.db[db].live)


# ---- freeing a little at a time ------------------------------------------------------------------

cdef void discard_database(Kernel *k, uint32_t db) noexcept nogil:
    """Empties a database of which nothing is to stay; its keys are freed later, as garbage of type
    T_STRING."""
    cdef Database *d = &k.db[db]
    cdef Collection *rest = <Collection*>mem_alloc(sizeof(Collection))
    memset(rest, 0, sizeof(Collection))
    rest.type = T_STRING
    rest.table = d.table
    rest.next = k.garbage
    k.garbage = rest
    table_init(&d.table)
    d.table.key = k.hash_key
    d.live = d.expiring = d.subexpiring = 0
    memset(&d.counted, 0, sizeof(Counted))
    heap_forget(k, db)
    vector_free(&d.written)


cdef void free_key(Kernel *k, Element *e) noexcept nogil:
    """One key of a discarded database: what it holds of collections becomes garbage of its own."""
    cdef Entry *x = element_entry(e)
    cdef Collection *c
    cdef Collection *next
    if is_packed(e):
        packed_free(e)
    c = element_held(e)
    if x != NULL:
        x.heap = 0                         # the heap has forgotten it, and so have the counts
        x.expiring = 0
    while c != NULL:
        next = c.next
        if collection_size(c) > SMALL_COLLECTION:
            c.live = 0
            c.next = k.garbage.next        # behind the database, which is being worked on
            k.garbage.next = c
        else:
            collection_free(c)
        c = next
    if is_joint(e):
        under_at(e)[0] = 1
    elif e.meta & E_ENTRY:
        element_put_collections(e, NULL)
    key_free(k, e)


cdef int free_garbage(Kernel *k, int most) noexcept nogil:
    cdef Collection *c
    cdef Element *m
    cdef size_t pos
    while k.garbage != NULL and most > 0:
        c = k.garbage
        if types[c.type].free_some(c, &most):
            break
        pos = c.live                       # in garbage: where to go on in the table
        while most > 0:
            m = table_next(&c.table, &pos)
            if m == NULL:
                break
            if c.type == T_STRING:
                free_key(k, m)
            else:
                element_free(m)
            most -= 1
        c.live = pos
        if most > 0:
            k.garbage = c.next
            table_clear(&c.table, NULL, NULL)
            collection_free(c)
    return k.garbage != NULL

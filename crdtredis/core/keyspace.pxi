# The keyspace: elements and their encodings, deadlines, what is visible, and what is watched.
#
# A key is one allocation as long as it is what nearly all keys are: a string with one write
# (E_PLAIN). Only what needs more has more: a Cell before the key (E_CELL) for concurrent writes and
# for counters, an Entry (E_ENTRY) for a deadline. `reencode` brings a key back to the smallest
# shape that holds its state, and removes it when it holds none.
#
# Deadlines. A deadline is a register of its own, so EXPIRE never competes with a write to the
# value. Three rules tie it to the content it guards:
#   - A write that keeps the deadline asserts it again under its own dot, with the old stamp. So who
#     deletes without having observed the write leaves both of them:
#         A: expires k at its deadline  ||  B: INCR k just before
#         -> the increment, and the deadline
#   - SET clears the deadline: it removes the deadline writes it observed, and its own stamp
#     outranks those that it could not observe (E_CLEARS, W_CLEARS):
#         A: SET k v  ||  B: EXPIRE k 10  ->  v, and the later stamp decides the deadline
#     A write that removes such a SET but keeps the deadline states "no deadline" with the SET's
#     stamp in its place.
#   - A passed deadline hides the key at once, by the local clock; removing it is an op like any
#     other (`active_expiry`). A write to a hidden key removes it first, so that nothing of it
#     comes back.
#
# What effects do to all this is in core/apply.pxi.

cdef inline void copy_span(char *to, Span s) noexcept nogil:
    if s.n:                                # an empty span may point nowhere
        memcpy(to, s.p, s.n)


cdef inline Entry *element_entry(Element *e) noexcept nogil:
    return (<Entry**>(<char*>e + E_HEAD))[0] if e.meta & E_ENTRY else NULL


cdef inline Cell *element_cell(Element *e) noexcept nogil:
    return <Cell*>(<char*>e + E_HEAD + (8 if e.meta & E_ENTRY else 0))


cdef inline uint32_t access_second(Kernel *k) noexcept nogil:
    return <uint32_t>(k.now // 1000) & 0xffffff


cdef int value_live(Element *e) noexcept nogil:
    """Does the element's own cell (a string's, a member's) hold anything?"""
    return 1 if e.meta & E_PLAIN else cell_live(element_cell(e)) if e.meta & E_CELL else 0


cdef int element_live(Element *e) noexcept nogil:
    """Does the key or member hold anything, of whatever type?"""
    cdef Collection *c
    if value_live(e):
        return 1
    if e.meta & E_ENTRY:
        c = element_entry(e).collections
        while c != NULL:
            if c.live:
                return 1
            c = c.next
    return 0


# ---- encodings -----------------------------------------------------------------------------------

cdef Element *element_new(Kernel *k, Span key, uint32_t hash, uint32_t flags,
                          size_t vlen) noexcept nogil:
    """A detached element; Entry pointer, cell and value are for the caller to fill (the first two
    are zero)."""
    cdef size_t before = element_before_key(flags)
    cdef Element *e = <Element*>mem_alloc(before + key.n + vlen)
    memset(e, 0, before)
    e.hash = hash
    e.klen = <uint32_t>key.n
    e.vlen = <uint32_t>vlen
    e.meta = flags | access_second(k) << 8
    copy_span(<char*>e + before, key)
    return e


cdef Element *element_convert(Kernel *k, Table *t, Element *e, uint32_t flags,
                              Span value) noexcept nogil:
    """e in another encoding, at the same place of t. Entry and cell go along where both encodings
    have them; `value` (which may lie in e) is copied for E_PLAIN."""
    cdef Element *x = element_new(k, span(element_key(e), e.klen), e.hash, flags, value.n)
    x.dot = e.dot
    element_put_stamp(x, element_stamp(e))
    x.meta = flags | (e.meta & ~<uint32_t>0xff)
    copy_span(element_value(x), value)
    if flags & e.meta & E_ENTRY:
        (<Entry**>(<char*>x + E_HEAD))[0] = element_entry(e)
        element_entry(x).owner = x
    if flags & e.meta & E_CELL:
        element_cell(x)[0] = element_cell(e)[0]
    table_swap(t, e, x)
    mem_free(e)
    return x


cdef Element *element_assign(Kernel *k, Table *t, Element *e, uint32_t flags,
                             Span value) noexcept nogil:
    """A plain value over a plain one: in place where the allocation fits without waste."""
    cdef size_t size = element_before_key(e.meta) + e.klen + value.n
    cdef size_t room = malloc_usable_size(e)
    if (flags & (E_ENTRY | E_BARE) == e.meta & (E_ENTRY | E_BARE) and size <= room
        and room - size <= 24 + size // 8):
        if value.n:
            memmove(element_value(e), value.p, value.n)
        e.vlen = <uint32_t>value.n
        e.meta = flags | (e.meta & ~<uint32_t>0xff)
        return e
    return element_convert(k, t, e, flags, value)


cdef Element *open_cell(Kernel *k, Table *t, Element *e) noexcept nogil:
    """e with a Cell; a plain write becomes a Write in it. Its value, if any, is in the cell
    only."""
    cdef Cell c
    cdef uint16_t slot
    if e.meta & E_CELL:
        return e
    c.writes = NULL
    c.counts = NULL
    if e.meta & E_PLAIN:
        slot = dot_slot(e.dot)
        cell_add_write(&c, e.dot, element_stamp(e), slot, W_CLEARS if e.meta & E_CLEARS else 0,
                       span(element_value(e), e.vlen))
    e = element_convert(k, t, e, (e.meta & E_ENTRY) | E_CELL, span(NULL, 0))
    element_cell(e)[0] = c
    return e


cdef Element *open_entry(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    cdef Entry *x
    if e.meta & E_ENTRY:
        return e
    e = element_convert(k, &k.db[db].table, e, (e.meta & 0xff) | E_ENTRY,
                        span(element_value(e), e.vlen))
    x = <Entry*>mem_alloc(sizeof(Entry))
    memset(x, 0, sizeof(Entry))
    x.owner = e
    x.db = <uint16_t>db
    (<Entry**>(<char*>e + E_HEAD))[0] = x
    return e


cdef void element_free(Kernel *k, Element *e) noexcept nogil:
    """Frees a detached element and all it holds."""
    cdef Entry *x = element_entry(e)
    cdef Collection *c
    if e.meta & E_CELL:
        forget_counts(k, element_cell(e))
        cell_free(element_cell(e))
    if x != NULL:
        heap_remove(k, x)
        cell_free(&x.deadline)
        while x.collections != NULL:
            c = x.collections
            x.collections = c.next
            collection_free(k, c)
        mem_free(x)
    mem_free(e)


cdef void forget_counts(Kernel *k, Cell *c) noexcept nogil:
    cdef Count *t = c.counts
    while t != NULL:
        k.tombstones -= is_tombstone(t)
        t = t.next


cdef Element *reencode(Kernel *k, Table *t, size_t *live, Element *e, int was_live) noexcept nogil:
    """After a change of a key or member of t: the smallest encoding that holds what e holds, the
    count of live ones, the heap. Returns what e has become; NULL where nothing is left of it."""
    cdef uint32_t flags = e.meta & 0xff
    cdef Entry *x = element_entry(e)
    cdef Span value = span(element_value(e), e.vlen)
    cdef Cell c
    cdef Write *w = NULL
    if flags & E_CELL:
        c = element_cell(e)[0]
        w = c.writes
        if cell_empty(&c):
            flags &= ~<uint32_t>E_CELL
            w = NULL
        elif w != NULL and w.next == NULL and c.counts == NULL and w.actor == dot_slot(w.dot):
            flags = (flags & ~<uint32_t>E_CELL) | E_PLAIN | (E_CLEARS if w.flags & W_CLEARS else 0)
            value = span(write_value(w), w.n)
        else:
            w = NULL
    if x != NULL:
        drop_empty_collections(k, x)
        if cell_empty(&x.deadline) and x.collections == NULL:
            flags &= ~<uint32_t>E_ENTRY
            heap_remove(k, x)
            mem_free(x)
            x = NULL
    if flags & (E_PLAIN | E_CELL | E_ENTRY) == 0:
        live[0] -= was_live
        table_remove(t, e)
        mem_free(e)
        return NULL
    if flags != e.meta & 0xff:
        e = element_convert(k, t, e, flags, value)
        if w != NULL:
            e.dot = w.dot
            e.stamp = w.stamp
            mem_free(w)
    if x != NULL:
        heap_place(k, x)
    live[0] += element_live(e) - was_live
    return e


# ---- deadlines -----------------------------------------------------------------------------------

cdef enum Stated:
    STATED_NOT = 0          # nobody said anything about a deadline
    STATED_DEADLINE = 1     # a deadline write counts
    STATED_CLEAR = 2        # a SET that cleared it counts


cdef int stated_deadline(Kernel *k, Element *e, int64_t *deadline, uint64_t *stamp,
                         uint16_t *actor) noexcept nogil:
    """What the deadline register says: the latest of its own writes and of the SETs that cleared
    it."""
    cdef Entry *x = element_entry(e)
    cdef Write *w = cell_winner(&k.actors, &x.deadline) if x != NULL else NULL
    cdef Write *s = NULL
    cdef uint64_t clear_stamp = 0
    cdef uint16_t clear_actor = 0
    deadline[0] = 0
    if e.meta & E_CLEARS:
        clear_stamp = e.stamp
        clear_actor = dot_slot(e.dot)
    elif e.meta & E_CELL:
        s = element_cell(e).writes
        while s != NULL:
            if (s.flags & W_CLEARS
                and (clear_stamp == 0 or later(&k.actors, s.stamp, s.actor, clear_stamp,
                                               clear_actor))):
                clear_stamp = s.stamp
                clear_actor = s.actor
            s = s.next
    if w != NULL and (clear_stamp == 0
                      or not later(&k.actors, clear_stamp, clear_actor, w.stamp, w.actor)):
        memcpy(deadline, write_value(w), 8)
        stamp[0] = w.stamp
        actor[0] = w.actor
        return STATED_DEADLINE
    if clear_stamp == 0:
        return STATED_NOT
    stamp[0] = clear_stamp
    actor[0] = clear_actor
    return STATED_CLEAR


cdef int64_t key_deadline(Kernel *k, Element *e) noexcept nogil:
    cdef int64_t deadline
    cdef uint64_t stamp
    cdef uint16_t actor
    if not e.meta & E_ENTRY or element_entry(e).deadline.writes == NULL:
        return -1
    stated_deadline(k, e, &deadline, &stamp, &actor)
    return deadline if deadline else -1


cdef void heap_set(Kernel *k, uint32_t i, HeapItem item) noexcept nogil:
    k.heap[i] = item
    item.entry.heap = i + 1


cdef void heap_sift(Kernel *k, uint32_t i) noexcept nogil:
    """Moves the item at i to where it belongs, up or down."""
    cdef HeapItem item = k.heap[i]
    while i and k.heap[(i - 1) // 2].at > item.at:
        heap_set(k, i, k.heap[(i - 1) // 2])
        i = (i - 1) // 2
    heap_sink(k, i, item)


cdef void heap_sink(Kernel *k, uint32_t i, HeapItem item) noexcept nogil:
    """Puts the item at i, or further down where an earlier one stands below."""
    cdef uint32_t j
    while True:
        j = 2 * i + 1
        if j >= k.heap_n:
            break
        if j + 1 < k.heap_n and k.heap[j + 1].at < k.heap[j].at:
            j += 1
        if k.heap[j].at >= item.at:
            break
        heap_set(k, i, k.heap[j])
        i = j
    heap_set(k, i, item)


cdef inline void count_expiring(Kernel *k, Entry *x, int expiring) noexcept nogil:
    k.db[x.db].expiring += <size_t>(expiring - x.expiring)
    x.expiring = <uint16_t>expiring


cdef void heap_remove(Kernel *k, Entry *x) noexcept nogil:
    cdef uint32_t i
    if x.heap == 0:
        return
    count_expiring(k, x, 0)
    i = x.heap - 1
    x.heap = 0
    k.heap_n -= 1
    k.db[x.db].timed -= 1
    if i < k.heap_n:
        heap_set(k, i, k.heap[k.heap_n])
        heap_sift(k, i)


cdef void heap_forget(Kernel *k, uint32_t db) noexcept nogil:
    """Leaves out all keys of a database. Their entries are not told. O(1) where no other has
    deadlines."""
    cdef uint32_t i, n = 0
    if k.heap_n > k.db[db].timed:
        for i in range(k.heap_n):
            if k.heap[i].entry.db != db:
                heap_set(k, n, k.heap[i])
                n += 1
    k.heap_n = n
    k.db[db].timed = 0
    for i in range(n // 2, 0, -1):
        heap_sink(k, i - 1, k.heap[i - 1])


cdef void heap_place(Kernel *k, Entry *x) noexcept nogil:
    """When should this replica look at the key? At its deadline where a process of this replica set
    it, after a grace where another did; and a deadline without content (DEL || EXPIRE) is cleared
    away in the same way, counted from when it was set."""
    cdef int64_t deadline, at
    cdef uint64_t stamp = 0
    cdef uint16_t actor = 0
    cdef int live
    if cell_empty(&x.deadline):
        heap_remove(k, x)
        return
    live = element_live(x.owner)
    stated_deadline(k, x.owner, &deadline, &stamp, &actor)
    if live and deadline == 0:
        heap_remove(k, x)
        return
    at = min(deadline, <int64_t>1 << 62) + 1 if live else <int64_t>(stamp >> 16) + 1000
    if k.actors.v[actor].replica_slot != k.actors.v[k.me].replica_slot:
        at += k.expiry_grace
    if x.heap == 0:
        if k.heap_n == k.heap_cap:
            k.heap_cap = k.heap_cap * 2 if k.heap_cap else 64
            k.heap = <HeapItem*>mem_realloc(k.heap, k.heap_cap * sizeof(HeapItem))
        x.heap = k.heap_n + 1
        k.heap_n += 1
        k.db[x.db].timed += 1
    k.heap[x.heap - 1].at = at
    k.heap[x.heap - 1].entry = x
    count_expiring(k, x, live)
    heap_sift(k, x.heap - 1)


# ---- reading -------------------------------------------------------------------------------------

cdef uint32_t key_hash(Kernel *k, const char *p, size_t n) noexcept nogil:
    return siphash(p, n, k.hash_key)


cdef Element *key_find(Kernel *k, uint32_t db, Span key) noexcept nogil:
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
    cdef int64_t deadline
    if e == NULL or not element_live(e):
        return 0
    if e.meta & E_ENTRY:
        deadline = key_deadline(k, e)
        return deadline < 0 or k.now <= deadline
    return 1


cdef int live_type(Element *e) noexcept nogil:
    """The type that shows where several are live, the same in every replica: list, hash, sorted
    set, set, string."""
    cdef Collection *c = element_entry(e).collections if e.meta & E_ENTRY else NULL
    cdef int best = T_NONE
    while c != NULL:
        if c.live and (best == T_NONE or type_rank(c.type) < type_rank(best)):
            best = c.type
        c = c.next
    return best if best != T_NONE else T_STRING if value_live(e) else T_NONE


cdef inline int type_rank(int type) noexcept nogil:
    return 0 if type == T_LIST else 1 if type == T_HASH else 2 if type == T_ZSET else 3


cdef int key_type(Kernel *k, Element *e) noexcept nogil:
    return live_type(e) if key_visible(k, e) else T_NONE


cdef Collection *key_collection(Kernel *k, Element *e, int type) noexcept nogil:
    return entry_collection(element_entry(e), type) if key_type(k, e) == type else NULL


cdef Element *member_find(Kernel *k, Collection *c, Span name) noexcept nogil:
    cdef Element *m = table_find(&c.table, name.p, name.n, key_hash(k, name.p, name.n))
    return m if m != NULL and value_live(m) else NULL


cdef enum:
    FEW_BYTES = 4096        # of k.few


cdef inline size_t random_tries(Table *t, size_t live) noexcept nogil:
    """How many draws to make, until one is live, before all are looked at: enough nearly always,
    and few beside a look at all."""
    return 100 + (4 * table_count(t) // live if live >= 64 else 0)


cdef inline int random_takes(Kernel *k, size_t n) noexcept nogil:
    """Does the n-th of some take the place of the one chosen among those before? So each is as
    likely in the end."""
    return (next_random(&k.seed) >> 32) * n >> 32 == 0


cdef inline int may_be_chosen(Kernel *k, Element *e, int keys) noexcept nogil:
    return key_visible(k, e) if keys else value_live(e)


cdef Element *random_among_few(Kernel *k, Table *t, size_t live, int keys) noexcept nogil:
    """One of the `live` elements of a table that holds far more tombstones, or NULL. keys: a table
    of keys, of which some may be expired.

    A look at all elements, 90 ms for 500,000, leaves the names of the live ones in k.few. When as
    many of those names as there are live elements stand for one, they stand for all: so no change
    has to tell k.few anything, and what it holds may be of another table. Of many commands or draws
    in a row only the first looks at all, and each after an element has been added."""
    cdef Element *found = NULL
    cdef Element *e
    cdef size_t at = 0, n = 0
    cdef uint32_t size
    cdef const char *name
    while at < k.few.n:
        memcpy(&size, k.few.p + at, 4)
        name = k.few.p + at + 4
        at += 4 + size
        e = table_find(t, name, size, key_hash(k, name, size))
        if e != NULL and may_be_chosen(k, e, keys):
            n += 1
            if random_takes(k, n):
                found = e
    if n == live:
        return found
    found = NULL
    n = at = k.few.n = 0
    while True:
        e = table_next(t, &at)
        if e == NULL:
            return found
        if may_be_chosen(k, e, keys):
            n += 1
            if random_takes(k, n):
                found = e
            if k.few.n + 4 + e.klen <= FEW_BYTES:
                size = e.klen
                buffer_add(&k.few, &size, 4)
                buffer_add(&k.few, element_key(e), size)


cdef Element *member_random(Kernel *k, Collection *c) noexcept nogil:
    cdef Element *m
    for _ in range(random_tries(&c.table, c.live)):
        m = table_random(&c.table, &k.seed)
        if value_live(m):
            return m
    return random_among_few(k, &c.table, c.live, 0)


cdef Span member_view(Kernel *k, Element *m) noexcept nogil:
    return string_view(k, m)


cdef double member_score(Kernel *k, Element *m) noexcept nogil:
    """A sorted set's."""
    cdef double score
    cdef Reading r
    if m.meta & E_PLAIN:
        memcpy(&score, element_value(m), 8)
        return score
    r = element_reading(k, m)
    return shown_score(&k.actors, &r)


cdef void key_touch(Kernel *k, Element *e) noexcept nogil:
    e.meta = (e.meta & 0xff) | access_second(k) << 8


cdef int64_t key_idle(Kernel *k, Element *e) noexcept nogil:
    return (access_second(k) - (e.meta >> 8)) & 0xffffff


cdef void key_set_idle(Kernel *k, Element *e, int64_t seconds) noexcept nogil:
    cdef uint32_t ago = <uint32_t>min(seconds, <int64_t>0xffffff)
    e.meta = (e.meta & 0xff) | (access_second(k) - ago) << 8


cdef size_t cell_memory(const Cell *c) noexcept nogil:
    cdef size_t n = 0
    cdef Write *w = c.writes
    cdef Count *t = c.counts
    while w != NULL:
        n += malloc_usable_size(w)
        w = w.next
    while t != NULL:
        n += malloc_usable_size(t) + malloc_usable_size(t.total.more) + malloc_usable_size(
                t.cancelled.more) + malloc_usable_size(t.shown)
        t = t.next
    return n


cdef size_t key_memory(Kernel *k, Element *e) noexcept nogil:
    cdef size_t n = malloc_usable_size(e) + 8
    cdef size_t members, pos
    cdef Collection *c
    cdef Element *m
    cdef int i
    if e.meta & E_CELL:
        n += cell_memory(element_cell(e))
    if not e.meta & E_ENTRY:
        return n
    n += malloc_usable_size(element_entry(e)) + cell_memory(&element_entry(e).deadline)
    c = element_entry(e).collections
    while c != NULL:
        members = pos = 0
        i = 0
        while i < MEMORY_SAMPLES:
            m = table_next(&c.table, &pos)
            if m == NULL:
                break
            members += key_memory(k, m) - 8
            i += 1
        if c.type == T_LIST:
            n += list_memory(c)
        n += sizeof(Collection) + table_memory(&c.table) + order_memory(&c.order) + (
                members * table_count(&c.table) // i if i else 0)
        c = c.next
    return n


cdef Element *key_random(Kernel *k, uint32_t db) noexcept nogil:
    cdef Table *t = &k.db[db].table
    cdef Element *e
    for _ in range(random_tries(t, k.db[db].live)):
        e = table_random(t, &k.seed)
        if e == NULL or key_visible(k, e):
            return e
    return random_among_few(k, t, k.db[db].live, 1)


cdef Span string_view(Kernel *k, Element *e) noexcept nogil:
    cdef int64_t whole
    cdef long double real
    cdef Reading r
    cdef int kind
    if e.meta & E_PLAIN:
        return span(element_value(e), e.vlen)
    r = element_reading(k, e)
    if r.dot and next_count(&r, NULL) == NULL:
        return r.value
    kind = shown_number(&k.actors, &r, &whole, &real)
    if kind == NO_NUMBER:
        return r.value                     # text hides the counter entries
    return span(k.number, format_long_double(real, k.number) if kind == REAL
                else format_int64(whole, k.number))


cdef Reading element_reading(Kernel *k, Element *e) noexcept nogil:
    """Of e's own cell, which may be none (NULL: no element); without anything in the place of a
    counter entry."""
    cdef Reading r
    cdef Write *w
    memset(&r, 0, sizeof(Reading))
    if e != NULL and e.meta & E_PLAIN:
        r.dot = e.dot
        r.value = span(element_value(e), e.vlen)
    elif e != NULL and e.meta & E_CELL:
        r.counts = element_cell(e).counts
        w = cell_winner(&k.actors, element_cell(e))
        if w != NULL:
            r.dot = w.dot
            r.value = span(write_value(w), w.n)
    return r


cdef int string_int(Kernel *k, Element *e, int64_t *out) noexcept nogil:
    cdef long double real
    cdef Reading r
    cdef int kind
    if e.meta & E_PLAIN:
        return WHOLE if parse_int64(element_value(e), e.vlen, out) else NO_NUMBER
    r = element_reading(k, e)
    if r.dot and next_count(&r, NULL) == NULL:
        return WHOLE if parse_int64(r.value.p, r.value.n, out) else NO_NUMBER
    kind = shown_number(&k.actors, &r, out, &real)
    return kind if kind != REAL else NO_NUMBER


# ---- watching ------------------------------------------------------------------------------------

cdef enum:
    WATCH_CHAINS = 64       # at least; they double when there are more watched keys


cdef Watch *watch_find(Kernel *k, uint32_t db, Span key, uint32_t hash) noexcept nogil:
    cdef Watch *w = k.watches[hash & k.watch_mask] if k.watches != NULL else NULL
    while (w != NULL and not (w.hash == hash and w.db == db and w.n == key.n
                              and memcmp(watch_key(w).p, key.p, key.n) == 0)):
        w = w.next
    return w


cdef void watch_chains(Kernel *k, uint32_t n) noexcept nogil:
    """Spreads the watched keys over n chains, a power of two."""
    cdef Watch **old = k.watches
    cdef Watch **at
    cdef Watch *w
    cdef Watch *next
    cdef uint32_t i
    k.watches = <Watch**>mem_alloc(n * sizeof(Watch*))
    memset(k.watches, 0, n * sizeof(Watch*))
    for i in range(k.watch_mask + 1 if old != NULL else 0):
        w = old[i]
        while w != NULL:
            next = w.next
            at = &k.watches[w.hash & (n - 1)]
            w.next = at[0]
            at[0] = w
            w = next
    k.watch_mask = n - 1
    mem_free(old)


cdef Watch *watch_hold(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef uint32_t hash = key_hash(k, key.p, key.n)
    cdef Watch *w = watch_find(k, db, key, hash)
    cdef Watch **at
    if w == NULL:
        if k.watches == NULL:
            watch_chains(k, WATCH_CHAINS)
        elif k.watch_n > k.watch_mask:
            watch_chains(k, 2 * (k.watch_mask + 1))
        w = <Watch*>mem_alloc(sizeof(Watch) + key.n)
        memset(w, 0, sizeof(Watch))
        w.hash = hash
        w.db = db
        w.n = key.n
        copy_span(<char*>w + sizeof(Watch), key)
        at = &k.watches[hash & k.watch_mask]
        w.next = at[0]
        at[0] = w
        k.watch_n += 1
    w.holders += 1
    return w


cdef void watch_release(Kernel *k, Watch *w) noexcept nogil:
    cdef Watch **at
    w.holders -= 1
    if w.holders:
        return
    at = &k.watches[w.hash & k.watch_mask]
    while at[0] != w:
        at = &at[0].next
    at[0] = w.next
    mem_free(w)
    k.watch_n -= 1
    if k.watch_n == 0:
        mem_free(k.watches)
        k.watches = NULL


cdef inline void note_watch(Kernel *k, Watch *w) noexcept nogil:
    w.version += 1
    if w.waiters != NULL:
        watch_put_ready(k, w)


cdef void watch_put_ready(Kernel *k, Watch *w) noexcept nogil:
    if not w.ready:
        w.ready = 1
        w.holders += 1
        w.next_ready = NULL
        if k.ready == NULL:
            k.ready = w
        else:
            k.ready_last.next_ready = w
        k.ready_last = w


cdef Watch *watch_take_ready(Kernel *k) noexcept nogil:
    cdef Watch *w = k.ready
    if w != NULL:
        k.ready = w.next_ready
        w.ready = 0
    return w


cdef void note_touched(Kernel *k, uint32_t db, Span key, uint32_t hash) noexcept nogil:
    cdef Watch *w = watch_find(k, db, key, hash)
    if w != NULL:
        note_watch(k, w)


cdef void key_modified(Kernel *k, uint32_t db, Span key) noexcept nogil:
    if k.watch_n:
        note_touched(k, db, key, key_hash(k, key.p, key.n))


cdef void touch_all(Kernel *k, uint32_t db) noexcept nogil:
    cdef Watch *w
    cdef uint32_t i
    for i in range(k.watch_mask + 1 if k.watch_n else 0):
        w = k.watches[i]
        while w != NULL:
            if w.db == db and key_find(k, db, watch_key(w)) != NULL:
                note_watch(k, w)
            w = w.next

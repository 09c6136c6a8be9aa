# The keyspace: elements and their shapes, what is visible, deadlines, and the effects on keys.
#
# A key is one allocation as long as it is what nearly all keys are: a string with one write (E_PLAIN). Only what needs more
# has more: a Cell before the key (E_CELL) for concurrent writes and for counters, an Entry (E_ENTRY) for a deadline.
# `settle` brings a key back to the smallest shape that holds its state, and removes it when it holds none.
#
# Deadlines. A deadline is a register of its own, so EXPIRE never competes with a write to the value. Three rules tie it to the
# content it guards:
#   - A write that keeps the deadline asserts it again under its own dot, with the old stamp. So who deletes without having seen
#     the write leaves both of them:  A: reaps k at its deadline  ||  B: INCR k just before  ->  the increment, and the deadline.
#   - SET clears the deadline: it removes the deadline writes it observed, and its own stamp outranks those that it could not
#     see (E_CLEARS, W_CLEARS):       A: SET k v  ||  B: EXPIRE k 10  ->  v, and the later stamp decides the deadline.
#     A write that removes such a SET but keeps the deadline states "no deadline" with the SET's stamp in its place.
#   - A passed deadline hides the key at once, by the local clock; removing it is an op like any other (`reap`). A write to a
#     hidden key removes it first, so that nothing of it comes back.
#
# Every apply_* below is a function of the op and the state alone. Each is given the element under the key, or NULL.

from libc.stdlib cimport calloc

cdef extern from "malloc.h" nogil:
    size_t malloc_usable_size(void *p)


cdef inline void copy_span(char *to, Span s) noexcept nogil:
    if s.n:                                # an empty span may point nowhere
        memcpy(to, s.p, s.n)


cdef inline Entry *element_entry(Element *e) noexcept nogil:
    return (<Entry**>(<char*>e + E_HEAD))[0] if e.meta & E_ENTRY else NULL


cdef inline Cell *element_cell(Element *e) noexcept nogil:
    return <Cell*>(<char*>e + E_HEAD + (8 if e.meta & E_ENTRY else 0))


cdef inline uint32_t access_second(Kernel *k) noexcept nogil:
    return <uint32_t>(k.now // 1000) & 0xffffff


cdef inline int element_live(Element *e) noexcept nogil:
    if e.meta & E_PLAIN:
        return 1
    if e.meta & E_CELL:
        return cell_live(element_cell(e))
    return 0


# ---- shapes --------------------------------------------------------------------------------------------------------

cdef Element *element_new(Kernel *k, Span key, uint32_t hash, uint32_t flags, size_t vlen) noexcept nogil:
    """A detached element; Entry pointer, cell and value are for the caller to fill (the first two are zero)."""
    cdef size_t before = element_before_key(flags)
    cdef Element *e = <Element*>mem_alloc(before + key.n + vlen)
    memset(e, 0, before)
    e.hash = hash
    e.klen = <uint32_t>key.n
    e.vlen = <uint32_t>vlen
    e.meta = flags | access_second(k) << 8
    copy_span(<char*>e + before, key)
    return e


cdef Element *element_reshape(Kernel *k, Table *t, Element *e, uint32_t flags, Span value) noexcept nogil:
    """e in another shape, at the same place of t. Entry and cell go along where both shapes have them; `value` (which may lie in e)
    is copied for E_PLAIN."""
    cdef Element *x = element_new(k, span(element_key(e), e.klen), e.hash, flags, value.n)
    x.dot = e.dot
    x.stamp = e.stamp
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


cdef Element *element_assign(Kernel *k, Table *t, Element *e, uint32_t flags, Span value) noexcept nogil:
    """A plain value over a plain one: in place where the allocation fits without waste."""
    cdef size_t size = element_before_key(e.meta) + e.klen + value.n
    cdef size_t room = malloc_usable_size(e)
    if flags & E_ENTRY == e.meta & E_ENTRY and size <= room and room - size <= 24 + size // 8:
        if value.n:
            memmove(element_value(e), value.p, value.n)
        e.vlen = <uint32_t>value.n
        e.meta = flags | (e.meta & ~<uint32_t>0xff)
        return e
    return element_reshape(k, t, e, flags, value)


cdef Element *open_cell(Kernel *k, Table *t, Element *e) noexcept nogil:
    """e with a Cell; a plain write becomes a Write in it. Its value, if any, is in the cell only."""
    cdef Cell c
    cdef uint16_t slot
    if e.meta & E_CELL:
        return e
    c.writes = NULL
    c.tallies = NULL
    if e.meta & E_PLAIN:
        slot = dot_slot(e.dot)
        cell_add_write(&c, e.dot, e.stamp, slot, W_CLEARS if e.meta & E_CLEARS else 0, span(element_value(e), e.vlen))
    e = element_reshape(k, t, e, (e.meta & E_ENTRY) | E_CELL, span(NULL, 0))
    element_cell(e)[0] = c
    return e


cdef Element *open_entry(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    cdef Entry *x
    if e.meta & E_ENTRY:
        return e
    e = element_reshape(k, &k.db[db].table, e, (e.meta & 0xff) | E_ENTRY, span(element_value(e), e.vlen))
    x = <Entry*>mem_alloc(sizeof(Entry))
    memset(x, 0, sizeof(Entry))
    x.owner = e
    x.db = db
    (<Entry**>(<char*>e + E_HEAD))[0] = x
    return e


cdef void element_free(Kernel *k, Element *e) noexcept nogil:
    """Frees a detached element and all it holds."""
    cdef Entry *x = element_entry(e)
    if e.meta & E_CELL:
        forget_tallies(k, element_cell(e))
        cell_free(element_cell(e))
    if x != NULL:
        heap_remove(k, x)
        cell_free(&x.deadline)
        mem_free(x)
    mem_free(e)


cdef void forget_tallies(Kernel *k, Cell *c) noexcept nogil:
    cdef Tally *t = c.tallies
    while t != NULL:
        k.stubs -= tally_is_stub(t)
        t = t.next


cdef void settle(Kernel *k, uint32_t db, Element *e, int was_live) noexcept nogil:
    """After a change: the smallest shape that holds what e holds, the count of live keys, the heap. e may be gone afterwards."""
    cdef Table *t = &k.db[db].table
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
            value = span(NULL, 0)
            w = NULL
        elif w != NULL and w.next == NULL and c.tallies == NULL and w.actor == dot_slot(w.dot):
            flags = (flags & ~<uint32_t>E_CELL) | E_PLAIN | (E_CLEARS if w.flags & W_CLEARS else 0)
            value = span(write_value(w), w.n)
        else:
            w = NULL
    if x != NULL and cell_empty(&x.deadline) and x.collections == NULL:
        flags &= ~<uint32_t>E_ENTRY
        heap_remove(k, x)
        mem_free(x)
        x = NULL
    if flags & (E_PLAIN | E_CELL | E_ENTRY) == 0:
        k.db[db].live -= was_live
        table_remove(t, e)
        mem_free(e)
        return
    if flags != e.meta & 0xff:
        e = element_reshape(k, t, e, flags, value)
        if w != NULL:
            e.dot = w.dot
            e.stamp = w.stamp
            mem_free(w)
    if x != NULL:
        heap_place(k, x)
    k.db[db].live += element_live(e) - was_live


# ---- deadlines -----------------------------------------------------------------------------------------------------

cdef enum Stated:
    STATED_NOT = 0          # nobody said anything about a deadline
    STATED_DEADLINE = 1     # a deadline write counts
    STATED_CLEAR = 2        # a SET that cleared it counts


cdef int stated_deadline(Kernel *k, Element *e, int64_t *deadline, uint64_t *stamp, uint16_t *actor) noexcept nogil:
    """What the deadline register says: the latest of its own writes and of the SETs that cleared it."""
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
            if s.flags & W_CLEARS and (clear_stamp == 0 or later(&k.actors, s.stamp, s.actor, clear_stamp, clear_actor)):
                clear_stamp = s.stamp
                clear_actor = s.actor
            s = s.next
    if w != NULL and (clear_stamp == 0 or not later(&k.actors, clear_stamp, clear_actor, w.stamp, w.actor)):
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
    if not e.meta & E_ENTRY:
        return -1
    stated_deadline(k, e, &deadline, &stamp, &actor)
    return deadline if deadline else -1


cdef void heap_set(Kernel *k, uint32_t i, HeapItem item) noexcept nogil:
    k.heap[i] = item
    item.entry.heap = i + 1


cdef void heap_sift(Kernel *k, uint32_t i) noexcept nogil:
    """Moves the item at i to where it belongs, up or down."""
    cdef HeapItem item = k.heap[i]
    cdef uint32_t j
    while i and k.heap[(i - 1) // 2].at > item.at:
        heap_set(k, i, k.heap[(i - 1) // 2])
        i = (i - 1) // 2
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


cdef void heap_remove(Kernel *k, Entry *x) noexcept nogil:
    cdef uint32_t i
    if x.heap == 0:
        return
    i = x.heap - 1
    x.heap = 0
    k.heap_n -= 1
    if i < k.heap_n:
        heap_set(k, i, k.heap[k.heap_n])
        heap_sift(k, i)


cdef void heap_place(Kernel *k, Entry *x) noexcept nogil:
    """When should this replica look at the key? At its deadline where a process of this replica set it, after a grace where
    another did; and a deadline without content (DEL || EXPIRE) is cleared away in the same way, counted from when it was set."""
    cdef int64_t deadline, at
    cdef uint64_t stamp = 0
    cdef uint16_t actor = 0
    cdef int live = element_live(x.owner)
    stated_deadline(k, x.owner, &deadline, &stamp, &actor)
    if (live and deadline == 0) or cell_empty(&x.deadline):
        heap_remove(k, x)
        return
    at = deadline + 1 if live else <int64_t>(stamp >> 16) + 1000
    if k.actors.v[actor].replica_slot != k.actors.v[k.me].replica_slot:
        at += k.reap_grace
    if x.heap == 0:
        if k.heap_n == k.heap_cap:
            k.heap_cap = k.heap_cap * 2 if k.heap_cap else 64
            k.heap = <HeapItem*>mem_realloc(k.heap, k.heap_cap * sizeof(HeapItem))
        x.heap = k.heap_n + 1
        k.heap_n += 1
    k.heap[x.heap - 1].at = at
    k.heap[x.heap - 1].entry = x
    heap_sift(k, x.heap - 1)


# ---- applying effects ----------------------------------------------------------------------------------------------

cdef void note_conflict(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    """Remembers the two latest of the writes that stand side by side in e."""
    cdef Conflict *c = &k.conflict[k.conflicts % CONFLICTS]
    cdef Write *w[2]
    cdef Write *x = element_cell(e).writes
    cdef int i
    w[0] = cell_winner(&k.actors, element_cell(e))
    w[1] = NULL
    while x != NULL:
        if x != w[0] and (w[1] == NULL or later(&k.actors, x.stamp, x.actor, w[1].stamp, w[1].actor)):
            w[1] = x
        x = x.next
    k.conflicts += 1
    c.at = k.now
    c.db = db
    c.key_n = e.klen if e.klen < CONFLICT_TEXT else CONFLICT_TEXT
    memcpy(c.key, element_key(e), c.key_n)
    for i in range(2):
        c.actor[i] = w[i].actor
        c.stamp[i] = w[i].stamp
        c.n[i] = w[i].n if w[i].n < CONFLICT_TEXT else CONFLICT_TEXT
        memcpy(c.value[i], write_value(w[i]), c.n[i])


cdef void apply_assign(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    """value := x.value. Removes the writes and takes back the tallies that op observed, adds its own write. Any two such effects
    commute: each removes only what it had seen, and neither had seen the other unless it is applied after it."""
    cdef Database *d = &k.db[x.db]
    cdef uint32_t flags = E_PLAIN if x.keep else E_PLAIN | E_CLEARS
    cdef uint64_t dot = make_dot(op.slot, op.seq)
    cdef Cell *c
    cdef Entry *entry
    cdef int was_live
    if e == NULL:
        e = element_new(k, x.key, key_hash(k, x.key.p, x.key.n), flags, x.value.n)
        copy_span(element_value(e), x.value)
        e.dot = dot
        e.stamp = op.stamp
        table_add(&d.table, e)
        d.live += 1
        return
    if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN and observed(op, e.dot):
        e = element_assign(k, &d.table, e, flags, x.value)
        e.dot = dot
        e.stamp = op.stamp
        return
    was_live = element_live(e)
    entry = element_entry(e)
    if entry != NULL and not x.keep:
        cell_remove_writes(&entry.deadline, op)
    e = open_cell(k, &d.table, e)
    c = element_cell(e)
    cell_remove_writes(c, op)
    cell_take_back(k, c, op, x.seen)
    cell_add_write(c, dot, op.stamp, op.slot, 0 if x.keep else W_CLEARS, x.value)
    if c.writes.next != NULL:
        note_conflict(k, x.db, e)
    settle(k, x.db, e, was_live)


cdef void apply_increment(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    cdef Database *d = &k.db[x.db]
    cdef int was_live = 0
    if e == NULL:
        e = element_new(k, x.key, key_hash(k, x.key.p, x.key.n), E_CELL, 0)
        table_add(&d.table, e)
    else:
        was_live = element_live(e)
        e = open_cell(k, &d.table, e)
    cell_increment(k, element_cell(e), op, x.run_seq, x.run_index, x.total)
    d.live += cell_live(element_cell(e)) - was_live
    if e.meta & E_ENTRY:
        heap_place(k, element_entry(e))


cdef void apply_removal(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    """REMOVE: the string under the key; DELETE: the deadline too. What op did not observe stays."""
    cdef Database *d = &k.db[x.db]
    cdef int was_live
    if e == NULL:
        return
    if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN:
        if observed(op, e.dot):
            d.live -= 1
            table_remove(&d.table, e)
            mem_free(e)
        return
    was_live = element_live(e)
    if x.kind == DELETE and e.meta & E_ENTRY:
        cell_remove_writes(&element_entry(e).deadline, op)
    e = open_cell(k, &d.table, e)
    cell_remove_writes(element_cell(e), op)
    cell_take_back(k, element_cell(e), op, x.seen)
    settle(k, x.db, e, was_live)


cdef void apply_deadline(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    """The deadline register := x.deadline, with op's own stamp or, asserted again, with the stamp it had."""
    cdef Database *d = &k.db[x.db]
    cdef uint16_t actor = op.slot
    cdef uint64_t stamp = op.stamp
    cdef Entry *entry
    if x.stamp:
        stamp = x.stamp
        actor = actors_find(&k.actors, x.actor)
    if e == NULL:
        e = element_new(k, x.key, key_hash(k, x.key.p, x.key.n), 0, 0)
        table_add(&d.table, e)
    e = open_entry(k, x.db, e)
    entry = element_entry(e)
    cell_remove_writes(&entry.deadline, op)
    cell_add_write(&entry.deadline, make_dot(op.slot, op.seq), stamp, actor, W_NUMBER, span(<const char*>&x.deadline, 8))
    heap_place(k, entry)


cdef void apply_flush(Kernel *k, const Applying *op, const Effect *x) noexcept nogil:
    """Removes what op observed from every key of a database. The tallies it saw are listed by key; everything else is told by dots,
    key by key as in DELETE, so it commutes with all that DELETE commutes with."""
    cdef Database *d = &k.db[x.db]
    cdef Table old
    cdef const char *p = x.seen.p
    cdef SeenTally s
    cdef Element *e
    cdef Effect one
    cdef uint16_t slot
    cdef size_t pos = 0
    touch_all(k, x.db)
    while decode_seen(&p, x.seen.p + x.seen.n, &s) == 1:
        e = key_find(k, x.db, s.key)
        slot = actors_find(&k.actors, s.actor)
        if e != NULL and e.meta & E_CELL and slot != NO_SLOT:
            d.live -= cell_live(element_cell(e))
            cell_take_back_one(k, element_cell(e), op, slot, &s)
            d.live += cell_live(element_cell(e))
    old = d.table
    table_init(&d.table)
    memset(&one, 0, sizeof(Effect))
    one.kind = DELETE
    one.db = x.db
    while True:
        e = table_next(&old, &pos)
        if e == NULL:
            break
        if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN and observed(op, e.dot):
            d.live -= 1
            mem_free(e)
        else:
            table_add(&d.table, e)
            apply_removal(k, op, &one, e)
    table_clear(&old, NULL, NULL)


cdef void apply_effect(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    if x.kind == ASSIGN:
        apply_assign(k, op, x, e)
    elif x.kind == INCREMENT:
        apply_increment(k, op, x, e)
    elif x.kind == DEADLINE:
        apply_deadline(k, op, x, e)
    elif x.kind == FLUSH:
        apply_flush(k, op, x)
    else:
        apply_removal(k, op, x, e)
    k.changes += 1
    if k.watch_n and x.kind != FLUSH:
        touch(k, x.db, x.key)


# ---- reading -------------------------------------------------------------------------------------------------------

cdef uint32_t key_hash(Kernel *k, const char *p, size_t n) noexcept nogil:
    return siphash(p, n, k.hash_key)


cdef Element *key_find(Kernel *k, uint32_t db, Span key) noexcept nogil:
    return table_find(&k.db[db].table, key.p, key.n, siphash(key.p, key.n, k.hash_key))


cdef int key_visible(Kernel *k, Element *e) noexcept nogil:
    cdef int64_t deadline
    if e == NULL or not element_live(e):
        return 0
    if e.meta & E_ENTRY:
        deadline = key_deadline(k, e)
        return deadline < 0 or k.now <= deadline
    return 1


cdef int key_type(Kernel *k, Element *e) noexcept nogil:
    return T_STRING if key_visible(k, e) else T_NONE


cdef void key_touch(Kernel *k, Element *e) noexcept nogil:
    e.meta = (e.meta & 0xff) | access_second(k) << 8


cdef int64_t key_idle(Kernel *k, Element *e) noexcept nogil:
    return (access_second(k) - (e.meta >> 8)) & 0xffffff


cdef size_t cell_memory(const Cell *c) noexcept nogil:
    cdef size_t n = 0
    cdef Write *w = c.writes
    cdef Tally *t = c.tallies
    while w != NULL:
        n += malloc_usable_size(w)
        w = w.next
    while t != NULL:
        n += malloc_usable_size(t)
        t = t.next
    return n


cdef size_t key_memory(Kernel *k, Element *e) noexcept nogil:
    cdef size_t n = malloc_usable_size(e) + 8
    if e.meta & E_CELL:
        n += cell_memory(element_cell(e))
    if e.meta & E_ENTRY:
        n += malloc_usable_size(element_entry(e)) + cell_memory(&element_entry(e).deadline)
    return n


cdef Element *key_random(Kernel *k, uint32_t db) noexcept nogil:
    cdef Table *t = &k.db[db].table
    cdef Element *e
    cdef size_t pos = 0
    cdef int i
    for i in range(100):
        e = table_random(t, &k.seed)
        if e == NULL or key_visible(k, e):
            return e
    while True:                            # nearly all keys are expired or stubs
        e = table_next(t, &pos)
        if e == NULL or key_visible(k, e):
            return e


cdef Span string_view(Kernel *k, Element *e) noexcept nogil:
    cdef Cell *c
    cdef Write *w
    cdef int64_t whole
    cdef long double real
    cdef int kind
    if e.meta & E_PLAIN:
        return span(element_value(e), e.vlen)
    c = element_cell(e)
    w = cell_winner(&k.actors, c)
    if w != NULL and not has_live_tally(c):
        return span(write_value(w), w.n)
    kind = cell_number(&k.actors, c, &whole, &real)
    if kind == 1:
        return span(k.number, format_int64(whole, k.number))
    if kind == 2:
        return span(k.number, format_long_double(real, k.number))
    return span(write_value(w), w.n)       # text hides the tallies


cdef int has_live_tally(const Cell *c) noexcept nogil:
    cdef const Tally *t = c.tallies
    while t != NULL and tally_is_stub(t):
        t = t.next
    return t != NULL


cdef int string_int(Kernel *k, Element *e, int64_t *out) noexcept nogil:
    cdef long double real
    if e.meta & E_PLAIN:
        return parse_int64(element_value(e), e.vlen, out)
    return cell_number(&k.actors, element_cell(e), out, &real) == 1


cdef int string_real(Kernel *k, Element *e, long double *out) noexcept nogil:
    cdef int64_t whole
    cdef int kind
    if e.meta & E_PLAIN:
        return parse_long_double(element_value(e), e.vlen, out)
    kind = cell_number(&k.actors, element_cell(e), &whole, out)
    if kind == 1:
        out[0] = <long double>whole
    return kind != 0


# ---- watching ------------------------------------------------------------------------------------------------------

cdef inline Watch **watch_bucket(Kernel *k, Span key) noexcept nogil:
    return &k.watches[siphash(key.p, key.n, k.hash_key) & 63]


cdef inline char *watch_key(Watch *w) noexcept nogil:
    return <char*>w + sizeof(Watch)


cdef Watch *watch_find(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef Watch *w = watch_bucket(k, key)[0]
    while w != NULL and not (w.db == db and w.n == key.n and memcmp(watch_key(w), key.p, key.n) == 0):
        w = w.next
    return w


cdef Watch *watch_hold(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef Watch *w = watch_find(k, db, key)
    cdef Watch **at
    if w == NULL:
        w = <Watch*>mem_alloc(sizeof(Watch) + key.n)
        memset(w, 0, sizeof(Watch))
        w.db = db
        w.n = key.n
        copy_span(watch_key(w), key)
        at = watch_bucket(k, key)
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
    at = watch_bucket(k, span(watch_key(w), w.n))
    while at[0] != w:
        at = &at[0].next
    at[0] = w.next
    mem_free(w)
    k.watch_n -= 1


cdef void touch(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef Watch *w = watch_find(k, db, key)
    if w != NULL:
        w.version += 1


cdef void touch_all(Kernel *k, uint32_t db) noexcept nogil:
    cdef Watch *w
    cdef int i
    if k.watch_n:
        for i in range(64):
            w = k.watches[i]
            while w != NULL:
                if w.db == db and key_find(k, db, span(watch_key(w), w.n)) != NULL:
                    w.version += 1
                w = w.next

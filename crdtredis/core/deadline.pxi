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
#   - A deadline that came with the value, as of SET k v EX 10, needs no dot or stamp of its own.
#     It is joint (core/element.pxi), which is only how it is held.
#   - A passed deadline hides the key at once, by the local clock; removing it is an op like any
#     other (`active_expiry`). A write to a hidden key removes it first, so that nothing of it
#     comes back.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef int stated_deadline(Kernel *k, Element *e, int64_t *deadline, uint64_t *stamp,
                         uint16_t *actor) noexcept nogil:
    """What the deadline register says: the latest of its own writes and of the SETs that cleared
    it."""
    cdef DeadlineRoom room
    cdef const Cell *c = deadline_cell(k, e, &room)
    cdef Write *w = cell_winner(&k.actors, c) if c != NULL else NULL
    cdef uint64_t clear_stamp = 0
    cdef uint16_t clear_actor = 0
    cdef int cleared = cleared_at(k, e, W_CLEARS, &clear_stamp, &clear_actor)
    deadline[0] = 0
    if w != NULL and (not cleared
                      or not later(&k.actors, clear_stamp, clear_actor, w.stamp, w.actor)):
        memcpy(deadline, write_value(w), 8)
        stamp[0] = w.stamp
        actor[0] = w.actor
        return STATED_DEADLINE
    if not cleared:
        return STATED_NOT
    stamp[0] = clear_stamp
    actor[0] = clear_actor
    return STATED_CLEAR


cdef int64_t key_deadline(Kernel *k, Element *e) noexcept nogil:
    cdef int64_t deadline
    cdef uint64_t stamp
    cdef uint16_t actor
    cdef Entry *x = element_entry(e)
    if is_joint(e):
        return joint_deadline(k, e)        # the SET it came with is not later
    if x == NULL or x.deadline.writes == NULL:
        return -1
    stated_deadline(k, e, &deadline, &stamp, &actor)
    return deadline if deadline else -1


cdef inline Element *item_owner(const HeapItem *item) noexcept nogil:
    return <Element*>(item.of - 1) if item.of & 1 else (<Entry*>item.of).owner


cdef inline uint32_t item_db(const HeapItem *item) noexcept nogil:
    return joint_db(<Element*>(item.of - 1)) if item.of & 1 else (<Entry*>item.of).db


cdef inline void heap_set(Kernel *k, uint32_t i, HeapItem item) noexcept nogil:
    cdef uint64_t *under
    k.deadlines.heap[i] = item
    if item.of & 1:
        under = under_at(<Element*>(item.of - 1))
        under[0] = low_bits(under[0], 32) | <uint64_t>(i + 1) << 32
    else:
        (<Entry*>item.of).heap = i + 1


cdef void heap_sift(Kernel *k, uint32_t i) noexcept nogil:
    """Moves the item at i to where it belongs, up or down."""
    cdef HeapItem item = k.deadlines.heap[i]
    while i and k.deadlines.heap[(i - 1) // 2].at > item.at:
        heap_set(k, i, k.deadlines.heap[(i - 1) // 2])
        i = (i - 1) // 2
    heap_sink(k, i, item)


cdef void heap_sink(Kernel *k, uint32_t i, HeapItem item) noexcept nogil:
    """Puts the item at i, or further down where an earlier one stands below."""
    cdef uint32_t j
    while True:
        j = 2 * i + 1
        if j >= k.deadlines.n:
            break
        if j + 1 < k.deadlines.n and k.deadlines.heap[j + 1].at < k.deadlines.heap[j].at:
            j += 1
        if k.deadlines.heap[j].at >= item.at:
            break
        heap_set(k, i, k.deadlines.heap[j])
        i = j
    heap_set(k, i, item)


cdef inline void count_expiring(Kernel *k, Entry *x, int expiring) noexcept nogil:
    k.db[x.db].expiring += <size_t>((expiring & 1) - (x.expiring & 1))
    k.db[x.db].subexpiring += <size_t>((expiring >> 1) - (x.expiring >> 1))
    x.expiring = <uint8_t>expiring


cdef void heap_add(Kernel *k, uint32_t db, HeapItem item) noexcept nogil:
    cdef Deadlines *d = &k.deadlines
    if d.n == d.cap:
        d.cap = d.cap * 2 if d.cap else 64
        d.heap = <HeapItem*>mem_realloc(d.heap, d.cap * sizeof(HeapItem))
    d.n += 1
    k.db[db].timed += 1
    d.heap[d.n - 1] = item
    heap_sift(k, d.n - 1)


cdef void heap_drop(Kernel *k, uint32_t db, uint32_t i) noexcept nogil:
    k.deadlines.n -= 1
    k.db[db].timed -= 1
    if i < k.deadlines.n:
        heap_set(k, i, k.deadlines.heap[k.deadlines.n])
        heap_sift(k, i)


cdef void heap_remove(Kernel *k, Entry *x) noexcept nogil:
    cdef uint32_t i = x.heap
    if i:
        count_expiring(k, x, 0)
        x.heap = 0
        heap_drop(k, x.db, i - 1)


cdef void heap_forget(Kernel *k, uint32_t db) noexcept nogil:
    """Leaves out all keys of a database. They are not told. O(1) where no other has
    deadlines."""
    cdef uint32_t i, n = 0
    if k.deadlines.n > k.db[db].timed:
        for i in range(k.deadlines.n):
            if item_db(&k.deadlines.heap[i]) != db:
                heap_set(k, n, k.deadlines.heap[i])
                n += 1
    k.deadlines.n = n
    k.db[db].timed = 0
    for i in range(n // 2, 0, -1):
        heap_sink(k, i - 1, k.deadlines.heap[i - 1])


cdef inline int64_t grace_of(Kernel *k, uint16_t actor) noexcept nogil:
    """How long after a deadline this replica waits for the one of the actor that set it."""
    return k.deadlines.grace if (k.actors.v[actor].replica_slot
                                 != k.actors.v[k.me].replica_slot) else 0


cdef int64_t key_due(Kernel *k, Entry *x) noexcept nogil:
    """When should this replica look at the key for its own deadline? Then, where a process of this
    replica set it, after a grace where another did; and a deadline without content (DEL || EXPIRE)
    is cleared away in the same way, counted from when it was set."""
    cdef int64_t deadline
    cdef uint64_t stamp = 0
    cdef uint16_t actor = 0
    cdef int live
    if cell_empty(&x.deadline):
        return NEVER
    live = element_live(x.owner)
    stated_deadline(k, x.owner, &deadline, &stamp, &actor)
    if live and deadline == 0:
        return NEVER
    return (min(deadline, <int64_t>1 << 62) + 1 if live
            else <int64_t>(stamp >> 16) + 1000) + grace_of(k, actor)


cdef int64_t field_due(Kernel *k, Collection *deadlines, Element *d) noexcept nogil:
    """The same for a field, by its register d, which counts."""
    cdef int64_t deadline
    cdef uint64_t stamp = 0
    cdef uint16_t actor = 0
    field_stated(k, field_of(deadlines, d), d, &deadline, &stamp, &actor)
    return min(deadline, <int64_t>1 << 62) + 1 + grace_of(k, actor)


cdef int64_t fields_due(Kernel *k, Collection *deadlines) noexcept nogil:
    """And for the first of the fields; those behind it wait for it."""
    cdef OrderCursor cursor
    cdef int64_t at = NEVER
    if order_of(deadlines).n:
        at = field_due(k, deadlines, order_at(order_of(deadlines), 0, &cursor).e)
    return min(at, fields_of(deadlines).tidy_at) if fields_of(deadlines).tidy_at else at


cdef void heap_place(Kernel *k, Entry *x) noexcept nogil:
    """When should this replica look at the key, or at a field?"""
    cdef Collection *c = element_collection(k, x.owner, T_DEADLINES)
    cdef int64_t due = key_due(k, x)
    cdef int64_t at = min(due, fields_due(k, c)) if c != NULL else due
    cdef HeapItem item
    if at == NEVER:
        heap_remove(k, x)
        return
    count_expiring(k, x, (1 if due != NEVER and element_live(x.owner) else 0)
                   | (2 if c != NULL and order_of(c).n else 0))
    if x.heap:
        k.deadlines.heap[x.heap - 1].at = at
        heap_sift(k, x.heap - 1)
        return
    item.at = at
    item.of = <uint64_t>x
    heap_add(k, x.db, item)


# ---- joint deadlines -----------------------------------------------------------------------------

cdef void joint_put(Kernel *k, uint32_t db, Element *e, int64_t at) noexcept nogil:
    """Key e, of E_ENTRY and nothing in the word, has a joint deadline."""
    cdef HeapItem item
    cdef uint64_t late = <uint64_t>(1 + grace_of(k, dot_slot(e.dot)))
    under_at(e)[0] = JOINT | <uint64_t>db << 2 | late << 8
    item.at = at + <int64_t>late
    item.of = <uint64_t>e | 1
    heap_add(k, db, item)
    k.db[db].expiring += 1


cdef void joint_remove(Kernel *k, Element *e) noexcept nogil:
    """And has it no more, and still nothing else in the word."""
    cdef uint32_t db = joint_db(e)
    k.db[db].expiring -= 1
    heap_drop(k, db, <uint32_t>(under_at(e)[0] >> 32) - 1)
    under_at(e)[0] = 1


cdef void join_deadline(Kernel *k, Element *e) noexcept nogil:
    """After a change of key e, which has an Entry: its place in the heap; a deadline that can be
    joint is."""
    cdef Entry *x = element_entry(e)
    cdef Write *w = x.deadline.writes
    cdef uint32_t db = x.db
    cdef int64_t at
    if x.collections == NULL and w != NULL and w.next == NULL:
        memcpy(&at, write_value(w), sizeof(at))
        if may_be_joint(k, e, w.dot, w.stamp, w.actor, at):
            heap_remove(k, x)
            mem_free(w)
            mem_free(x)
            joint_put(k, db, e, at)
            return
    heap_place(k, x)

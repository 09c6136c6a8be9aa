# Tombstones: counter entries of which everything is cancelled, kept until no increment can come
# that does not know of it (tombstone_may_go). This is how they are found again, a few buckets at a
# time.
#
# One place goes round all databases, in rounds of which the owner says when each begins: bucket by
# bucket of a database's table as SCAN does, and in it place by place: each key's own cell, then its
# collections, each again bucket by bucket. Collections without tombstones are passed over, and
# nothing is looked at while there are none at all. The place is kept as numbers, so whatever is
# removed meanwhile leaves nothing dangling; where a bucket has changed, a place may be passed over,
# and the next round comes to it.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from crdtredis.buffer cimport Buffer, buffer_add, buffer_free, span


cdef int tombstone_may_go(Kernel *k, const Count *t) noexcept nogil:
    """May t be let go? Only when no increment made without knowing of the cancellation can still
    come: its actor has observed the cancellation, and all it did before that is applied here.

    Of a process that has ended without having observed it, this never becomes true. That nobody's
    clock names further ops of it proves nothing, for they can lie in a causal buffer or be on their
    way; so such tombstones stay until the members have agreed on its last op
    (replication/ended.py): then, too, all that it did is applied here.
    """
    cdef Actors *a = &k.actors
    return t.actor == k.me or t.actor == k.home.slot or (
        actor_observed(a, t.actor, dot_slot(t.rare.cancelled_by)) >= dot_seq(t.rare.cancelled_by)
        and actor_is_here(a, t.actor)) or (
        a.v[t.actor].closed)


cdef void cell_forget_tombstones(Kernel *k, Counted *counted, Cell *c) noexcept nogil:
    cdef Count *t = c.counts
    cdef Count *next
    while t != NULL:
        next = t.next
        if is_tombstone(t) and tombstone_may_go(k, t):
            cell_drop_count(counted, c, t)
        t = next


cdef void gather_key(void *arg, Element *e) noexcept nogil:
    if e.meta & (E_CELL | E_ENTRY):
        buffer_add(<Buffer*>arg, &e, sizeof(Element*))


cdef void gather_tombstone(void *arg, Element *m) noexcept nogil:
    if m.meta & E_CELL and has_tombstone(element_cell(m)):
        buffer_add(<Buffer*>arg, &m, sizeof(Element*))


cdef void collect_members(Kernel *k, Element *e, Collection *c, Buffer *found,
                          int *most) noexcept nogil:
    """Some buckets of a collection under key e."""
    cdef Database *d = &k.db[k.search.db]
    cdef Element *m
    cdef size_t i
    cdef int live
    while c.tombstones:
        found.n = 0
        k.search.member = table_scan(&c.table, k.search.member, gather_tombstone, found)
        for i in range(found.n // sizeof(Element*)):
            m = (<Element**>found.p)[i]
            live = value_live(m)
            touch_key(k, k.search.db, element_name(e))
            unindex(k, c, m)
            cell_forget_tombstones(k, &d.counted, element_cell(m))
            m = reencode(k, &c.table, &c.live, m, live)
            if m != NULL:
                index_member(k, c, m)
        if table_count(&c.table) == 0:
            k.search.member = 0           # the next place moves up
            reencode(k, &d.table, &d.live, e, element_live(e))
            return
        most[0] -= 1
        if k.search.member == 0:
            break
        if most[0] <= 0:
            return
    k.search.member = 0
    k.search.place += 1


cdef int collect_place(Kernel *k, Buffer *keys, Buffer *found, int *most) noexcept nogil:
    """The next place in a bucket with these keys; 0 when there is none."""
    cdef Database *d = &k.db[k.search.db]
    cdef uint32_t left = k.search.place
    cdef Collection *c
    cdef Element *e
    cdef size_t i
    cdef int live
    for i in range(keys.n // sizeof(Element*)):
        e = (<Element**>keys.p)[i]
        c = element_unpacked(e)
        if left == 0:
            k.search.place += 1
            if e.meta & E_CELL and has_tombstone(element_cell(e)):
                touch_key(k, k.search.db, element_name(e))
                live = element_live(e)
                cell_forget_tombstones(k, &d.counted, element_cell(e))
                k.search.place -= reencode(k, &d.table, &d.live, e, live) == NULL
            return 1
        left -= 1
        if is_packed(e):                   # a place, with no tombstones in it
            if left == 0:
                k.search.member = 0        # of what stood there before
                k.search.place += 1
                return 1
            left -= 1
        while c != NULL:
            if left == 0:
                collect_members(k, e, c, found, most)
                return 1
            left -= 1
            c = c.next
    return 0


cdef int collect(Kernel *k, int most) noexcept nogil:
    cdef Buffer keys, found
    cdef uint64_t next
    cdef int over = 0
    memset(&keys, 0, sizeof(Buffer))
    memset(&found, 0, sizeof(Buffer))
    if k.joining:
        return 1
    while most > 0 and kernel_tombstones(k) and not over:
        most -= 1
        keys.n = 0
        next = table_scan(&k.db[k.search.db].table, k.search.cursor, gather_key, &keys)
        if collect_place(k, &keys, &found, &most):
            continue
        k.search.cursor = next
        k.search.place = 0
        if next == 0:
            k.search.db = (k.search.db + 1) % DATABASES
            over = k.search.db == 0
    buffer_free(&keys)
    buffer_free(&found)
    return over or kernel_tombstones(k) == 0

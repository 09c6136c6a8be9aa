# Deadlines of hash fields. The rules are those of keys (core/deadline.pxi), with a field in the
# place of a key: a register of its own, beside the field's cell; what removes the field's content
# removes the deadlines that it saw; HSET clears a deadline and is told by its stamp to those it has
# not seen; HINCRBY and HSETEX KEEPTTL assert the deadline again. One thing is the other way round:
# a write to a field is one that clears unless it says that it keeps (E_KEEPS).
#
#     f is 1, synced.  A: HEXPIRE h 100 FIELDS 1 f  ||  B: HINCRBY h f 1  ->  2, with A's deadline
#     A: HEXPIRE h 100 FIELDS 1 f  ||  B: HSET h f 3, later   ->  3, and no deadline
#
# The registers are members of a second collection under the key, of type T_DEADLINES, right behind
# the hash. So a hash without any costs nothing, and the digest, the state as bytes and the joining
# of it go over the registers as over all members. It counts no live members: it shows nothing. Its
# order holds the deadlines that count now, of fields that are there, by time: who is due, and how
# many are due and not gone yet, is found there. It follows both cells, so whoever changes a field
# or a register takes it out before and puts it in afterwards (unindex, index_member).
#
# A passed deadline hides its field at once, by the local clock; removing it is an op like any other
# (active_expiry). A deadline without a field (HDEL || HEXPIRE) is removed the same way.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint64_t
from libc.string cimport memcpy

from crdtredis.buffer cimport Span, span


cdef int cleared_at(Kernel *k, Element *e, uint32_t clears, uint64_t *stamp,
                    uint16_t *actor) noexcept nogil:
    """The latest of e's writes that cleared the deadline, those whose W_CLEARS is `clears`: 1, or 0
    where there is none."""
    cdef Write *s
    cdef int found = 0
    if e.meta & E_PLAIN:
        if (W_CLEARS if e.meta & E_CLEARS else 0) != clears:
            return 0
        stamp[0] = e.stamp
        actor[0] = dot_slot(e.dot)
        return 1
    s = element_cell(e).writes if e.meta & E_CELL else NULL
    while s != NULL:
        if s.flags & W_CLEARS == clears and (
                not found or later(&k.actors, s.stamp, s.actor, stamp[0], actor[0])):
            found = 1
            stamp[0] = s.stamp
            actor[0] = s.actor
        s = s.next
    return found


cdef int field_stated(Kernel *k, Element *m, Element *d, int64_t *deadline, uint64_t *stamp,
                      uint16_t *actor) noexcept nogil:
    """What is said about the deadline of field m by its register d (NULL: none): the latest of the
    register's writes and of those of the field that cleared it."""
    cdef uint64_t clear_stamp = 0
    cdef uint16_t clear_actor = 0
    cdef int cleared = cleared_at(k, m, 0, &clear_stamp, &clear_actor)
    cdef Write *w
    deadline[0] = 0
    if d != NULL and d.meta & E_PLAIN:
        memcpy(deadline, element_value(d), sizeof(int64_t))
        stamp[0] = d.stamp
        actor[0] = dot_slot(d.dot)
    elif d != NULL:
        w = cell_winner(&k.actors, element_cell(d))
        memcpy(deadline, write_value(w), sizeof(int64_t))
        stamp[0] = w.stamp
        actor[0] = w.actor
    if d != NULL and not (cleared and later(&k.actors, clear_stamp, clear_actor, stamp[0],
                                            actor[0])):
        return STATED_DEADLINE
    deadline[0] = 0
    stamp[0] = clear_stamp
    actor[0] = clear_actor
    return STATED_CLEAR if cleared else STATED_NOT


cdef Element *register_of(const Collection *hash, Element *m) noexcept nogil:
    """Of field m; NULL: it has none."""
    cdef Collection *c = deadlines_of(hash)
    return table_find(&c.table, element_key(m), element_klen(m), m.hash) if c != NULL else NULL


cdef int64_t due_at(Kernel *k, Element *m, Element *d) noexcept nogil:
    """ms; 0: the register d says nothing that counts."""
    cdef int64_t deadline
    cdef uint64_t stamp
    cdef uint16_t actor
    if m == NULL or not value_live(m):
        return 0
    field_stated(k, m, d, &deadline, &stamp, &actor)
    return deadline


cdef int64_t field_deadline(Kernel *k, const Collection *hash, Element *m) noexcept nogil:
    cdef Element *d = register_of(hash, m)
    cdef int64_t deadline = due_at(k, m, d) if d != NULL else 0
    return deadline if deadline else -1


cdef inline int64_t first_due(Collection *deadlines) noexcept nogil:
    """0: no field is ever due."""
    cdef OrderCursor at
    if order_of(deadlines).n == 0:
        return 0
    return <int64_t>order_at(order_of(deadlines), 0, &at).sort_key


cdef size_t members_lapsed(Kernel *k, const Collection *c) noexcept nogil:
    cdef Collection *deadlines = deadlines_of(c) if c.type == T_HASH else NULL
    if deadlines == NULL or order_of(deadlines).n == 0 or first_due(deadlines) >= k.now:
        return 0
    return order_rank(order_of(deadlines), <uint64_t>k.now, span(b"", 0))


cdef int field_lapsed(Kernel *k, const Collection *hash, Element *m) noexcept nogil:
    cdef Collection *deadlines = deadlines_of(hash)
    cdef int64_t deadline
    if deadlines == NULL or order_of(deadlines).n == 0 or first_due(deadlines) >= k.now:
        return 0
    deadline = field_deadline(k, hash, m)
    return deadline >= 0 and deadline < k.now


# ---- the order of those that count ---------------------------------------------------------------

cdef Element *field_of(Collection *deadlines, Element *d) noexcept nogil:
    """The field of register d; NULL: there is none."""
    cdef Collection *hash = fields_of(deadlines).hash
    return (table_find(&hash.table, element_key(d), element_klen(d), d.hash)
            if hash != NULL else NULL)


cdef void register_out(Kernel *k, Collection *deadlines, Element *m, Element *d) noexcept nogil:
    """Before a change of field m (NULL: none) or of its register d."""
    cdef int64_t at = due_at(k, m, d)
    if at:
        order_remove(order_of(deadlines), <uint64_t>at, d)


cdef void tidy_later(Collection *deadlines, int64_t at) noexcept nogil:
    """At this time there is something to be removed. Work that is due already is not put off."""
    cdef Fields *fields = fields_of(deadlines)
    if fields.tidy_at == 0:
        fields.tidy_at = at
    else:
        fields.again_at = max(fields.again_at, at)


cdef void register_in(Kernel *k, Collection *deadlines, Element *m, Element *d) noexcept nogil:
    """After it. One without a field is to be removed, a while after it was set."""
    cdef int64_t at = due_at(k, m, d), deadline
    cdef uint64_t stamp = 0
    cdef Write *w
    if at:
        order_insert(order_of(deadlines), <uint64_t>at, d)
    elif m == NULL or not value_live(m):
        if d.meta & E_PLAIN:
            stamp = d.stamp
        else:
            w = element_cell(d).writes
            while w != NULL:
                stamp = max(stamp, w.stamp)
                w = w.next
        tidy_later(deadlines, <int64_t>(stamp >> 16) + 1000 + k.deadlines.grace)


cdef void field_changed(Kernel *k, Collection *hash, Span name, uint32_t hash_of,
                        Element *m) noexcept nogil:
    """Field m is what a change has left under this name (NULL: nothing)."""
    cdef Collection *deadlines = deadlines_of(hash)
    cdef Element *d = NULL
    if deadlines != NULL:
        d = table_find(&deadlines.table, name.p, name.n, hash_of)
    if d != NULL:
        register_in(k, deadlines, m, d)


cdef void fields_reorder(Kernel *k, Collection *deadlines) noexcept nogil:
    """Makes the order anew, after many fields or registers have gone at once."""
    cdef size_t pos = 0
    cdef Element *d
    order_free(order_of(deadlines))
    while True:
        d = table_next(&deadlines.table, &pos)
        if d == NULL:
            break
        register_in(k, deadlines, field_of(deadlines, d), d)


cdef int fields_check(Kernel *k, Collection *deadlines) noexcept nogil:
    """0 sound, else the number of the broken invariant."""
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(deadlines), 0, &at)
    cdef Element *d
    cdef size_t pos = 0, due = 0
    while item != NULL:
        if item.sort_key != <uint64_t>due_at(k, field_of(deadlines, item.e), item.e):
            return 1
        if table_find(&deadlines.table, element_key(item.e), element_klen(item.e),
                      item.e.hash) != item.e:
            return 2
        item = order_next(&at)
    while True:
        d = table_next(&deadlines.table, &pos)
        if d == NULL:
            break
        due += due_at(k, field_of(deadlines, d), d) != 0
    if due != order_of(deadlines).n:
        return 3
    return 4 if deadlines.live else 0

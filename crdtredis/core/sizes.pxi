# How large may an op become, and what becomes of a command that would make it larger?
#
# An op is applied everywhere at once or not yet, so it is held whole by whoever logs, sends or
# receives it, and its size must have a bound: OP_MOST bytes of effects. A command is refused before
# it makes anything that does not fit, with its state untouched:
#
#     MULTI; COPY a b; COPY a c; EXEC   with 400 MB under a   ->   the first copy is made, the
#                                       second answers with an error
#
# So whoever is about to make effects asks first (op_room), by sizes that are never too small: a
# handler that makes several, and the functions here that make one. For most commands that is an
# addition; where the simple bound is too large, some look at what is there.
#
# Removing what somebody increments is different: it lists the counter entries it cancels, may
# need any number of bytes, and must always be possible. Outside of a transaction it is cut: entries
# are cancelled in pieces, as removals of members or of keys, in ops of their own, and what is left
# goes in the last. A peer may see a part of it gone; that cannot be helped, and only happens with
# millions of counters in one place.
#
# Should a size be too small nevertheless, the op is closed in the middle of the command (start): it
# is torn, but can be logged and sent.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t

from crdtredis.buffer cimport span


cdef int op_fits(Kernel *k, uint32_t db, size_t n, size_t key, size_t bytes) noexcept nogil:
    # No effect lists more than one counter entry of an actor, and no counter entry is listed twice.
    cdef size_t entries = k.db[db].counted.entries, exact = k.db[db].counted.exact
    cdef size_t counts, listed
    if k.home.on and db < SYSTEM_DB:
        entries += k.db[HOME_DB + db].counted.entries
        exact += k.db[HOME_DB + db].counted.exact
    counts = min(n * (k.actors.n - 1), entries)     # a place has entries of home, or of others
    listed = counts * COUNT_ROOM + min(counts * EXACT_ROOM, exact)
    return op_used(k) + (n + 3) * (EFFECT_ROOM + key) + listed + bytes <= k.open.most


cdef int op_room(Kernel *k, uint32_t db, size_t n, size_t key, size_t bytes) noexcept nogil:
    if k.open.refused:
        return 0
    if k.changes == k.open.began and not op_fits(k, db, n, key, bytes):
        k.open.refused = REFUSED_LARGE
        return 0
    return 1


cdef size_t removal_size(Kernel *k, Element *e) noexcept nogil:
    k.scratch.listed.n = 0
    list_key(k, e, T_NONE, span(NULL, 0), k.open.most)
    return EFFECT_ROOM + element_klen(e) + k.scratch.listed.n


cdef size_t remainder_size(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    cdef Collection *c
    if (e == NULL or (k.db[db].counted.entries == 0
                      and (db >= SYSTEM_DB or k.db[HOME_DB + db].counted.entries == 0))):
        return 0
    c = element_collections(k, e)
    if key_visible(k, e) and (c == NULL or (c.next == NULL and not value_live(e))):
        return 0
    return removal_size(k, e)


cdef size_t flush_size(Kernel *k, uint32_t db) noexcept nogil:
    cdef size_t home = 0
    if db < SYSTEM_DB:
        list_database(k, HOME_DB + db)
        home = EFFECT_ROOM + k.scratch.listed.n
    list_database(k, db)
    return EFFECT_ROOM + k.scratch.listed.n + home


cdef size_t copy_size(Kernel *k, Element *e, size_t key) noexcept nogil:
    cdef Walk w
    cdef size_t bytes = 0, n = 1
    walk_shown(&w, k, e, WALK_FORWARDS)
    if w.type == T_STREAM:
        n += HEAD_EFFECTS
        bytes += groups_size(k, w.c, key) + produced_size(w.c, key)
    while walk_next(&w):
        n += 1
        bytes += walk_value(k, &w).n
        if w.type == T_LIST:
            bytes += 2 * STEP_ROOM
        elif w.type != T_STRING:
            bytes += w.name.n
            if walk_deadline(k, &w) >= 0:
                n += 1
                bytes += w.name.n
    return n * (EFFECT_ROOM + key) + bytes


cdef size_t place_size(Collection *c) noexcept nogil:
    """Looks at every block."""
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), 0, &at)
    cdef size_t depth = 0
    while item != NULL:
        depth = max(depth, <size_t>(<Block*>item.e).depth)
        item = order_next(&at)
    return depth * STEP_ROOM


# ---- removals too large for one op ---------------------------------------------------------------

cdef int may_refuse(Kernel *k) noexcept nogil:
    """A removal that does not fit: is it refused? In a transaction, if the command has made nothing
    yet. Else it is cut."""
    return k.open.depth > 1 and k.changes == k.open.began


cdef int op_cut(Kernel *k, uint32_t db, size_t key) noexcept nogil:
    """Closes the op before a removal that lists what is in k.scratch.listed; 0 where that is too
    large for any op."""
    k.open.torn += k.open.depth > 1
    close_early(k)
    return op_fits(k, db, 0, key, k.scratch.listed.n)


cdef int list_database(Kernel *k, uint32_t db) noexcept nogil:
    """The live counter entries of a database in k.scratch.listed; 0 where they are more than an op
    can hold, of which it has as many."""
    cdef Element *e
    cdef size_t pos = 0
    k.scratch.listed.n = 0
    while k.db[db].counted.entries:
        e = table_next(&k.db[db].table, &pos)
        if e == NULL:
            break
        if not list_key(k, e, T_NONE, element_name(e), k.open.most):
            return 0
    return 1

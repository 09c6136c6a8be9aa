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

cdef inline size_t op_used(Kernel *k) noexcept nogil:
    return k.effects.n - HEAD_ROOM if k.has_op else 0


cdef int op_fits(Kernel *k, uint32_t db, size_t n, size_t key, size_t bytes) noexcept nogil:
    # No effect lists more than one counter entry of an actor, and no counter entry is listed twice.
    cdef size_t counts = min(n * k.actors.n, k.db[db].counts)
    cdef size_t listed = counts * COUNT_ROOM + min(counts * EXACT_ROOM, k.db[db].exact)
    return op_used(k) + (n + 3) * (EFFECT_ROOM + key) + listed + bytes <= k.op_most


cdef int op_room(Kernel *k, uint32_t db, size_t n, size_t key, size_t bytes) noexcept nogil:
    if k.refused:
        return 0
    if k.changes == k.began and not op_fits(k, db, n, key, bytes):
        k.refused = REFUSED_LARGE
        return 0
    return 1


cdef void close_early(Kernel *k) noexcept nogil:
    """The next effect begins another op."""
    if k.has_op:
        k.has_op = 0
        close_op(k)


cdef size_t removal_size(Kernel *k, Element *e) noexcept nogil:
    k.listed.n = 0
    list_key(k, e, T_NONE, span(NULL, 0), k.op_most)
    return EFFECT_ROOM + e.klen + k.listed.n


cdef size_t remainder_size(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    cdef Collection *c
    if e == NULL or k.db[db].counts == 0:
        return 0
    c = element_entry(e).collections if e.meta & E_ENTRY else NULL
    if key_visible(k, e) and (c == NULL or (c.next == NULL and not value_live(e))):
        return 0
    return removal_size(k, e)


cdef size_t flush_size(Kernel *k, uint32_t db) noexcept nogil:
    list_database(k, db)
    return EFFECT_ROOM + k.listed.n


cdef size_t copy_size(Kernel *k, Element *e, size_t key) noexcept nogil:
    cdef int type = key_type(k, e)
    cdef Collection *c
    cdef Element *m
    cdef ListCursor at
    cdef size_t bytes = 0, pos = 0
    cdef int more
    if type == T_STRING:
        return 2 * (EFFECT_ROOM + key) + string_view(k, e).n
    c = entry_collection(element_entry(e), type)
    more = type == T_LIST and list_seek(c, 0, &at)
    while more:
        bytes += 2 * STEP_ROOM + list_value(k, &at).n
        more = list_next(&at)
    m = table_next(&c.table, &pos)
    while m != NULL:
        if value_live(m):
            bytes += m.klen + (8 if type == T_ZSET else member_view(k, m).n if type == T_HASH
                               else 0)
        m = table_next(&c.table, &pos)
    return (c.live + 1) * (EFFECT_ROOM + key) + bytes


cdef size_t place_size(Collection *c) noexcept nogil:
    """Looks at every block."""
    cdef OrderCursor at
    cdef Item *item = order_at(&c.order, 0, &at)
    cdef size_t depth = 0
    while item != NULL:
        depth = max(depth, <size_t>(<Block*>item.e).depth)
        item = order_next(&at)
    return depth * STEP_ROOM


# ---- removals too large for one op ---------------------------------------------------------------

cdef int may_refuse(Kernel *k) noexcept nogil:
    """A removal that does not fit: is it refused? In a transaction, if the command has made nothing
    yet. Else it is cut."""
    return k.depth > 1 and k.changes == k.began


cdef int op_cut(Kernel *k, uint32_t db, size_t key) noexcept nogil:
    """Closes the op before a removal that lists what is in k.listed; 0 where that is too large for
    any op."""
    k.torn += k.depth > 1
    close_early(k)
    return op_fits(k, db, 0, key, k.listed.n)


cdef void gather_listed(Table *t, Buffer *to) noexcept nogil:
    """Appends the members that have live counter entries."""
    cdef size_t pos = 0
    cdef Element *m = table_next(t, &pos)
    while m != NULL:
        if m.meta & E_CELL and cell_live(element_cell(m)) and element_cell(m).counts != NULL:
            buffer_add(to, &m, sizeof(Element*))
        m = table_next(t, &pos)


cdef Element *shed_members(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    """Removes the members of a key that have counter entries one by one, in as many ops as that
    takes. Returns what stands under it then."""
    cdef Buffer key, name, members
    cdef Collection *c
    cdef Element *m
    cdef size_t i
    cdef int type
    memset(&key, 0, sizeof(Buffer))
    memset(&name, 0, sizeof(Buffer))
    memset(&members, 0, sizeof(Buffer))
    buffer_add(&key, element_key(e), e.klen)
    for type in range(T_COUNT):
        c = entry_collection(element_entry(e), type) if e != NULL and e.meta & E_ENTRY else NULL
        members.n = 0
        if c != NULL and c.cells:
            gather_listed(&c.table, &members)
        for i in range(members.n // sizeof(Element*)):
            m = (<Element**>members.p)[i]
            name.n = 0
            buffer_add(&name, element_key(m), m.klen)
            if op_used(k) > OP_PIECE or not op_fits(k, db, 1, key.n, name.n):
                close_early(k)
            e = member_remove(k, db, span(key.p, key.n), e, type, span(name.p, name.n))
    close_early(k)
    buffer_free(&key)
    buffer_free(&name)
    buffer_free(&members)
    return e


cdef int list_database(Kernel *k, uint32_t db) noexcept nogil:
    """The live counter entries of a database in k.listed; 0 where they are more than an op can
    hold, of which it has as many."""
    cdef Element *e
    cdef size_t pos = 0
    k.listed.n = 0
    while k.db[db].counts:
        e = table_next(&k.db[db].table, &pos)
        if e == NULL:
            break
        if not list_key(k, e, T_NONE, span(element_key(e), e.klen), k.op_most):
            return 0
    return 1


cdef void shed_keys(Kernel *k, uint32_t db) noexcept nogil:
    """Deletes the keys of a database that have counter entries one by one, in as many ops as that
    takes."""
    cdef Buffer keys
    cdef Element *e
    cdef size_t pos = 0, i
    memset(&keys, 0, sizeof(Buffer))
    e = table_next(&k.db[db].table, &pos)
    while e != NULL:
        k.listed.n = 0
        if not list_key(k, e, T_NONE, span(NULL, 0), 0):
            buffer_add(&keys, &e, sizeof(Element*))
        e = table_next(&k.db[db].table, &pos)
    for i in range(keys.n // sizeof(Element*)):
        if op_used(k) > OP_PIECE:
            close_early(k)
        remove_key(k, db, (<Element**>keys.p)[i], 0)
    close_early(k)
    buffer_free(&keys)

# The one walk over what lies under a key. Over its cells, on which the digest stands:
#
#     walk_key(&w, k, e)
#     while walk_next_cell(&w):
#         w.type, w.name, w.cell ...       # the place, and the cell there
#     walk_end(&w)
#
# A cell that is one plain write has no struct (w.cell is NULL): w.dot, w.stamp, w.flags and w.value
# say all of it. And over what clients are shown, on which COPY, RENAME, SWAPDB and DUMP stand:
#
#     walk_shown(&w, k, e, WALK_FORWARDS)
#     while walk_next(&w):
#         w.type, w.name, walk_value(k, &w)
#
# What a type does in a way of its own is the row's (CollectionType.cells, shown). Nothing may
# change under the key meanwhile.

from crdtredis.buffer cimport span


cdef void walk_key(Walk *w, Kernel *k, Element *e) noexcept nogil:
    walk_begin(w, &k.actors)
    w.k = k
    w.key = e
    w.step = key_cells


cdef int key_cells(Walk *w) noexcept nogil:
    """The key's own cells: its value's and its deadline's."""
    cdef Cell *deadline
    w.type = T_STRING
    if w.stage == 0:
        w.stage = 1
        if w.key.meta & E_VALUE:
            walk_element(w, w.key)
            return 1
    deadline = deadline_cell(w.k, w.key, &w.room) if w.stage == 1 else NULL
    w.is_deadline = deadline != NULL
    w.stage = 2
    if w.is_deadline:
        w.name = element_name(w.key)
        w.e = NULL
        w.cell = deadline
    return w.is_deadline


cdef int walk_next_cell(Walk *w) noexcept nogil:
    cdef Collection *c
    while not walk_cell(w):
        c = w.c.next if w.c != NULL else element_collections(w.k, w.key)
        if c == NULL:
            return 0
        walk_open(w, c)
    return 1


cdef void walk_shown(Walk *w, Kernel *k, Element *e, int order) noexcept nogil:
    walk_begin(w, &k.actors)
    w.k = k
    w.key = e
    w.order = order
    w.type = key_type(k, e)
    if w.type == T_STRING:
        w.step = string_shown
    else:
        w.c = element_collection(k, e, w.type)
        w.step = types[w.type].shown
        if w.type == T_HASH and members_lapsed(k, w.c):
            w.step = fields_shown


cdef int fields_shown(Walk *w) noexcept nogil:
    """Of a hash in which some are not."""
    cdef Element *m = table_next(&w.c.table, &w.pos)
    while m != NULL and (not value_live(m) or field_lapsed(w.k, w.c, m)):
        m = table_next(&w.c.table, &w.pos)
    if m == NULL:
        return 0
    walk_name(w, m)
    return 1


cdef int64_t walk_deadline(Kernel *k, Walk *w) noexcept nogil:
    return field_deadline(k, w.c, w.e) if w.type == T_HASH else -1


cdef int string_shown(Walk *w) noexcept nogil:
    if w.pos:
        return 0
    w.pos = 1
    walk_name(w, w.key)
    return 1

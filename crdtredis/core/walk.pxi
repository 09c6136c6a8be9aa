# The one walk over what lies under a key: digest, COPY, RENAME, SWAPDB and DUMP stand on it.
#
#     walk_key(&w, k, e)
#     while walk_next(&w):
#         w.type, w.name, w.cell ...       # the place, and the cell there
#     walk_end(&w)
#
# A cell that is one plain write has no struct (w.cell is NULL): w.dot, w.stamp, w.flags and w.value
# say all of it. What a type does in a way of its own is the row's (CollectionType.walk). Nothing
# may change under the key meanwhile.

from crdtredis.buffer cimport Span, span

cdef enum:
    WALK_AT_VALUE = 0       # the key's own cell is next
    WALK_AT_DEADLINE = 1
    WALK_AT_MEMBERS = 2     # w.c's


cdef void walk_key(Walk *w, Kernel *k, Element *e) noexcept nogil:
    walk_begin(w, &k.actors, NULL, WALK_CELLS)
    w.key = e


cdef void walk_shown(Walk *w, Kernel *k, Element *e, int how) noexcept nogil:
    cdef int type = key_type(k, e)
    walk_begin(w, &k.actors, NULL if type == T_STRING else entry_collection(element_entry(e), type),
               how)
    w.key = e
    w.stage = WALK_AT_VALUE if type == T_STRING else WALK_AT_MEMBERS


cdef int walk_next(Walk *w) noexcept nogil:
    cdef Entry *x
    if w.stage == WALK_AT_VALUE:
        w.stage = WALK_AT_DEADLINE if w.how == WALK_CELLS else WALK_AT_MEMBERS
        w.type = T_STRING
        if w.key.meta & (E_PLAIN | E_CELL):
            walk_element(w, w.key)
            return 1
    if w.stage == WALK_AT_DEADLINE:
        w.stage = WALK_AT_MEMBERS
        x = element_entry(w.key)
        if x != NULL:
            walk_open(w, x.collections)
            if not cell_empty(&x.deadline):
                w.is_deadline = 1
                w.type = T_STRING
                w.name = span(element_key(w.key), w.key.klen)
                w.e = NULL
                w.cell = &x.deadline
                return 1
    if w.is_deadline:
        w.is_deadline = 0
        walk_open(w, w.c)
    while w.c != NULL:
        if types[w.c.type].walk(w):
            return 1
        walk_open(w, w.c.next if w.how == WALK_CELLS else NULL)
    return 0


cdef Span walk_value(Kernel *k, Walk *w) noexcept nogil:
    if w.type == T_LIST:
        return w.value
    if w.type == T_SET:
        return span(NULL, 0)
    if w.type == T_ZSET:
        w.score = member_score(k, w.e)
        return span(<const char*>&w.score, sizeof(w.score))
    return string_view(k, w.e)

# The one walk over what lies under a key. See core/walk.pxi.

from crdtredis.buffer cimport Span, span

# Over every cell under a key, tombstones and deadline included, in no order ...
cdef void walk_key(Walk *w, Kernel *k, Element *e) noexcept nogil
cdef int walk_next_cell(Walk *w) noexcept nogil        # 1 where it stands on one
cdef void walk_end(Walk *w) noexcept nogil
# ... or over what clients are shown of a visible key: of a string one element, whose name is the
# key; of other types the members, or the elements, which have no names.
cdef void walk_shown(Walk *w, Kernel *k, Element *e, int order) noexcept nogil
# the deadline of the field where it stands, ms; -1: none
cdef int64_t walk_deadline(Kernel *k, Walk *w) noexcept nogil

cdef inline int walk_next(Walk *w) noexcept nogil:
    """1 where it stands on what is shown. Inline: what a step costs is most of DUMP."""
    cdef Element *m
    if w.step != NULL:
        return w.step(w)
    m = table_next(&w.c.table, &w.pos)
    while m != NULL and not (m.meta & E_PLAIN or value_live(m)):
        m = table_next(&w.c.table, &w.pos)
    if m == NULL:
        return 0
    walk_name(w, m)
    return 1

cdef inline Span walk_value(Kernel *k, Walk *w) noexcept nogil:
    """What is shown there, as an ASSIGN would take it: good until the next step or string_view."""
    if w.type == T_LIST:
        return w.value
    if w.type == T_SET:
        return span(NULL, 0)
    if w.type == T_ZSET:
        w.score = member_score(k, w.e)
        return span(<const char*>&w.score, sizeof(w.score))
    return string_view(k, w.e) if w.type == T_STRING else field_view(k, w.e)

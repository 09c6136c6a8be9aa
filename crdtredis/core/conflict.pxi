# Concurrent writes that had to be decided, for CRDT.CONFLICTS.

from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from crdtredis.buffer cimport copy_span, span


cdef void note_conflict(Kernel *k, const Effect *at, const Cell *cell) noexcept nogil:
    """Remembers the two latest of the writes that stand side by side."""
    cdef Conflict *c = &k.conflicts.ring[k.conflicts.n % CONFLICTS]
    cdef Write *w[2]
    cdef Write *x = cell.writes
    cdef int i
    w[0] = cell_winner(&k.actors, cell)
    w[1] = NULL
    while x != NULL:
        if (x != w[0]
            and (w[1] == NULL or later(&k.actors, x.stamp, x.actor, w[1].stamp, w[1].actor))):
            w[1] = x
        x = x.next
    k.conflicts.n += 1
    c.at = k.now
    c.db = at.db
    c.type = at.type
    c.key_n = <uint32_t>(at.key.n if at.key.n < CONFLICT_TEXT else CONFLICT_TEXT)
    copy_span(c.key, span(at.key.p, c.key_n))
    c.name_n = <uint32_t>(at.name.n if at.name.n < CONFLICT_TEXT else CONFLICT_TEXT)
    copy_span(c.name, span(at.name.p, c.name_n))
    for i in range(2):
        c.actor[i] = w[i].actor
        c.stamp[i] = w[i].stamp
        c.n[i] = w[i].n if w[i].n < CONFLICT_TEXT else CONFLICT_TEXT
        memcpy(c.value[i], write_value(w[i]), c.n[i])

# The cell: one register and one counter in one, the only building block of replicated state.
#
# Writes. An assign removes the writes it observed and adds its own. So two writes stand side by
# side exactly when neither origin had observed the other; the winner is the later by (stamp,
# replica id, epoch), which is a total order that agrees with causality. Which writes remain depends
# only on the set of ops: a write is there unless an applied op observed it.
#
# Counter entries. A cell keeps the increments of each actor as one running total, which belongs to
# a run of that actor. An increment carries the new total, never a step: applied twice, it changes
# nothing. A removal cannot take a counter entry away, for its actor may have added to it meanwhile.
# Instead the remover lists the counter entries as it observed them, and that much is cancelled:
#
#     A: INCRBY c 10  (A's counter entry: seq 1, total 10), synced
#     A: INCRBY c 2   (seq 2, total 12)   ||   B: DEL c, which lists (A, seq 1, total 10)
#     A applies the delete after its increment:  total 12, cancelled 10 as of seq 1  -> 2
#     B applies the increment after its delete:  total 12, cancelled 10 as of seq 1  -> 2
#
# Of two cancellations, the one as of the greater seq holds. The greater sum would be wrong:
# increments can be negative. A counter entry of which everything is cancelled is a tombstone. It
# adds nothing. It stays until its actor is known to have observed the cancellation, and all that
# the actor did before has arrived: until then an increment like A's second may come, and must count
# only its own part. An actor that has observed its own counter entry cancelled begins a new run,
# which replaces the older one. A run is named by seq and effect index, since one transaction may
# increment, delete and increment again.
#
# Totals are exact (core/exact.pxi): a counter entry is the sum of what its clients added, to the
# last bit, so that what is left after a cancellation is what was added since.
#
# What a cell shows, where it is a counter, is in core/shown.pxi.

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Span, copy_span


cdef Rare RARE_NONE
memset(&RARE_NONE, 0, sizeof(Rare))


cdef int later(Actors *a, uint64_t stamp1, uint16_t actor1, uint64_t stamp2,
               uint16_t actor2) noexcept nogil:
    if stamp1 != stamp2:
        return stamp1 > stamp2
    return a.v[actor1].rank > a.v[actor2].rank


cdef int cell_live(const Cell *c) noexcept nogil:
    cdef const Count *t = c.counts
    if c.writes != NULL:
        return 1
    while t != NULL:
        if not is_tombstone(t):
            return 1
        t = t.next
    return 0


cdef int cell_empty(const Cell *c) noexcept nogil:
    return c.writes == NULL and c.counts == NULL


cdef int has_tombstone(const Cell *c) noexcept nogil:
    cdef const Count *t = c.counts
    while t != NULL and not is_tombstone(t):
        t = t.next
    return t != NULL


cdef Write *cell_winner(Actors *a, const Cell *c) noexcept nogil:
    cdef Write *best = c.writes
    cdef Write *w
    if best == NULL:
        return NULL
    w = best.next
    while w != NULL:
        if best.flags & W_LOOSE or (not w.flags & W_LOOSE and later(
                a, w.stamp, w.actor, best.stamp, best.actor)):
            best = w
        w = w.next
    return best


cdef void cell_free(Cell *c) noexcept nogil:
    cdef Write *w = c.writes
    cdef Write *wn
    cdef Count *t = c.counts
    cdef Count *tn
    while w != NULL:
        wn = w.next
        mem_free(w)
        w = wn
    while t != NULL:
        tn = t.next
        count_free(t)
        t = tn
    c.writes = NULL
    c.counts = NULL


cdef void count_free(Count *t) noexcept nogil:
    number_free(&t.total)
    rare_free(t)
    mem_free(t)


cdef void rare_free(Count *t) noexcept nogil:
    if t.rare != &RARE_NONE:
        number_free(&t.rare.cancelled)
        mem_free(t.rare.shown)
        mem_free(t.rare)
        t.rare = &RARE_NONE


cdef Rare *count_rare(Count *t) noexcept nogil:
    """To be changed."""
    if t.rare == &RARE_NONE:
        t.rare = <Rare*>mem_zalloc(sizeof(Rare))
    return t.rare


# ---- effects on one cell -------------------------------------------------------------------------

cdef Count *cell_count(const Cell *c, uint16_t actor) noexcept nogil:
    cdef Count *t = c.counts
    while t != NULL and t.actor != actor:
        t = t.next
    return t


cdef void cell_drop_count(Counted *counted, Cell *c, Count *gone) noexcept nogil:
    cdef Count **at = &c.counts
    counted.entries -= 1
    counted.exact -= number_room(&gone.total)
    counted.tombstones -= is_tombstone(gone)
    while at[0] != gone:
        at = &at[0].next
    at[0] = gone.next
    count_free(gone)


cdef void cell_remove_others(Cell *c, const Applying *op, uint64_t keep) noexcept nogil:
    """Removes the writes that op observed, but for the one of dot `keep` (0: for none) and a loose
    text. Order is free: a write goes as soon as, and only if, an op that observed it is applied,
    and causal delivery brings the write before that op."""
    cdef Write **at = &c.writes
    cdef Write *w
    while at[0] != NULL:
        w = at[0]
        if w.dot != keep and observed(op, w.dot) and not w.flags & W_LOOSE:
            at[0] = w.next
            mem_free(w)
        else:
            at = &w.next


cdef void cell_remove_writes(Cell *c, const Applying *op) noexcept nogil:
    cell_remove_others(c, op, 0)


cdef void cell_cancel(Cell *c, const Applying *op, Span counts) noexcept nogil:
    """Cancels the counter entries listed in `counts`, as of their listed seq. Order is free: for
    each run the cancellation of the greatest seq holds, whichever comes first, and the counter
    entry's own total only grows in seq."""
    cdef const char *p = counts.p
    cdef const char *end = counts.p + counts.n
    cdef ObservedCount s
    cdef uint16_t slot
    while decode_observed(&p, end, &s) == 1:
        slot = actors_find(op.actors, s.actor)
        if slot != NO_SLOT:
            cell_cancel_one(c, op, slot, &s)


cdef void cell_cancel_one(Cell *c, const Applying *op, uint16_t slot,
                          const ObservedCount *s) noexcept nogil:
    cdef Count *t = cell_count(c, slot)
    cdef Rare *r
    if (t == NULL or t.run_seq != s.run_seq or t.run_index != s.run_index
            or s.seq <= t.rare.cancelled_seq):
        return
    op.counted.tombstones -= is_tombstone(t)
    r = count_rare(t)
    r.cancelled_seq = s.seq
    number_take(&r.cancelled, &s.total)
    r.cancelled_by = make_dot(op.slot, op.seq)
    op.counted.tombstones += is_tombstone(t)
    if is_tombstone(t) and slot == op.slot:
        # its actor cancelled it itself, so has observed it: it needs no tombstone
        cell_drop_count(op.counted, c, t)


cdef Write *cell_add_write(Cell *c, uint64_t dot, uint64_t stamp, uint16_t actor, uint16_t flags,
                           Span value) noexcept nogil:
    cdef Write *w = <Write*>mem_alloc(sizeof(Write) + value.n)
    w.next = c.writes
    w.dot = dot
    w.stamp = stamp
    w.actor = actor
    w.flags = flags
    w.n = <uint32_t>value.n
    copy_span(write_value(w), value)
    c.writes = w
    return w


cdef void count_move(Counted *counted, Count *t, uint64_t seq, const Effect *x) noexcept nogil:
    t.seq = seq
    t.wide = <uint16_t>x.wide
    counted.exact -= number_room(&t.total)
    number_take(&t.total, &x.total)
    counted.exact += number_room(&t.total)
    if x.shown.n:
        count_show(t, x.context, x.shown)
    elif t.rare.cancelled_seq == 0:
        rare_free(t)
    elif t.rare.shown != NULL:
        mem_free(t.rare.shown)
        t.rare.shown = NULL


cdef Count *count_new(uint16_t actor) noexcept nogil:
    cdef Count *t = <Count*>mem_zalloc(sizeof(Count))
    t.actor = actor
    t.rare = &RARE_NONE
    return t


cdef void count_show(Count *t, uint64_t context, Span number) noexcept nogil:
    cdef Rare *r = count_rare(t)
    if r.shown == NULL:
        r.shown = <Shown*>mem_alloc(sizeof(Shown))
    r.shown.context = context
    memcpy(r.shown.number, number.p, EXTENDED)


cdef void cell_increment(Cell *c, const Applying *op, const Effect *x) noexcept nogil:
    """The actor's own counter entry moves to a new total. Its increments of one run arrive in the
    order they were made, and an older one met again (replay) is passed over by its seq; so the
    newest total stands in the end."""
    cdef Count *t = cell_count(c, op.slot)
    cdef Counted *counted = op.counted
    cdef Count **at
    if t != NULL:
        if t.run_seq == x.run_seq and t.run_index == x.run_index:
            if op.seq >= t.seq:
                counted.tombstones -= is_tombstone(t)
                count_move(counted, t, op.seq, x)
                counted.tombstones += is_tombstone(t)
            return
        if t.run_seq > x.run_seq or (t.run_seq == x.run_seq and t.run_index > x.run_index):
            return
        cell_drop_count(counted, c, t)
    counted.entries += 1
    t = count_new(op.slot)
    t.run_seq = x.run_seq
    t.run_index = x.run_index
    count_move(counted, t, op.seq, x)
    at = &c.counts
    while (at[0] != NULL
           and op.actors.v[at[0].actor].rank < op.actors.v[op.slot].rank):
        at = &at[0].next
    t.next = at[0]
    at[0] = t


cdef int vector_observed(const Applying *op, const VersionVector *r) noexcept nogil:
    cdef uint64_t seq
    cdef uint32_t i, at
    for i in range(r.n):
        for at in range(r.pages[i].n if r.pages[i] != NULL else 0):
            seq = page_seqs(r.pages[i])[at]
            if seq and not observed(op, make_dot(<uint16_t>(i * PAGE_SLOTS + at), seq)):
                return 0
    return 1


cdef void vector_raise_writes(VersionVector *r, const Cell *c) noexcept nogil:
    cdef Write *w = c.writes
    while w != NULL:
        vector_raise(r, dot_slot(w.dot), dot_seq(w.dot))
        w = w.next

# The cell: one register and one counter in one, the only building block of replicated state.
#
# Writes. An assign removes the writes it observed and adds its own. So two writes stand side by
# side exactly when neither origin had seen the other; the winner is the later by (timestamp,
# replica id, epoch), which is a total order that agrees with causality. Which writes remain depends
# only on the set of ops: a write is there unless an applied op observed it.
#
# Tallies. Each actor's increments of one cell are kept as one running total, named by the run that
# it belongs to. An increment carries the new total, never a step: applied twice it changes nothing.
# What removes a cell cannot remove a tally, for its actor may have added to it meanwhile; instead
# the remover lists the tallies as it saw them, and that much is taken back:
#
#     A: INCRBY c 10  (A's tally: seq 1, total 10), synced
#     A: INCRBY c 2   (seq 2, total 12)   ||   B: DEL c, which lists (A, seq 1, total 10)
#     A applies the delete after its increment:  total 12, back 10 as of seq 1  -> 2
#     B applies the increment after its delete:  total 12, back 10 as of seq 1  -> 2
#
# Of two take-backs the one as of the greater seq holds, not the greater sum: increments can be
# negative. A tally of which everything is taken back is a stub: it adds nothing, and stays until
# its actor is known to have seen the take-back and all it did before has arrived; for until then an
# increment like A's second may come and must count only its own part. A new run (after the actor
# itself has seen its tally taken back) replaces an older one. A run is named by seq and effect
# index, since one transaction may increment, delete and increment again.
#
# Totals are exact (core/exact.pxi): a tally is the sum of what its clients added, to the last bit,
# so that what is left after a take-back is what was added since.
#
# What a cell shows, where it is a counter, is in core/shown.pxi.

cdef int later(Actors *a, uint64_t stamp1, uint16_t actor1, uint64_t stamp2,
               uint16_t actor2) noexcept nogil:
    if stamp1 != stamp2:
        return stamp1 > stamp2
    return a.v[actor1].rank > a.v[actor2].rank


cdef int cell_live(const Cell *c) noexcept nogil:
    cdef const Tally *t = c.tallies
    if c.writes != NULL:
        return 1
    while t != NULL:
        if not tally_is_stub(t):
            return 1
        t = t.next
    return 0


cdef int cell_empty(const Cell *c) noexcept nogil:
    return c.writes == NULL and c.tallies == NULL


cdef Write *cell_winner(Actors *a, const Cell *c) noexcept nogil:
    cdef Write *best = c.writes
    cdef Write *w
    if best == NULL:
        return NULL
    w = best.next
    while w != NULL:
        if later(a, w.stamp, w.actor, best.stamp, best.actor):
            best = w
        w = w.next
    return best


cdef void cell_free(Cell *c) noexcept nogil:
    cdef Write *w = c.writes
    cdef Write *wn
    cdef Tally *t = c.tallies
    cdef Tally *tn
    while w != NULL:
        wn = w.next
        mem_free(w)
        w = wn
    while t != NULL:
        tn = t.next
        tally_free(t)
        t = tn
    c.writes = NULL
    c.tallies = NULL


cdef void tally_free(Tally *t) noexcept nogil:
    number_free(&t.total)
    number_free(&t.back)
    mem_free(t.shown)
    mem_free(t)


# ---- effects on one cell -------------------------------------------------------------------------

cdef Tally *cell_tally(const Cell *c, uint16_t actor) noexcept nogil:
    cdef Tally *t = c.tallies
    while t != NULL and t.actor != actor:
        t = t.next
    return t


cdef void cell_drop_tally(Kernel *k, Cell *c, Tally *gone) noexcept nogil:
    cdef Tally **at = &c.tallies
    k.db[k.in_db].tallies -= 1
    k.db[k.in_db].exact -= number_room(&gone.total)
    while at[0] != gone:
        at = &at[0].next
    at[0] = gone.next
    tally_free(gone)


cdef void cell_remove_writes(Cell *c, const Applying *op) noexcept nogil:
    """Removes the writes that op observed. Order is free: a write goes as soon as, and only if, an
    op that observed it is applied, and causal delivery brings the write before that op."""
    cdef Write **at = &c.writes
    cdef Write *w
    while at[0] != NULL:
        w = at[0]
        if observed(op, w.dot):
            at[0] = w.next
            mem_free(w)
        else:
            at = &w.next


cdef void cell_take_back(Kernel *k, Cell *c, const Applying *op, Span seen) noexcept nogil:
    """Takes back the tallies listed in `seen`, as of their listed seq. Order is free: for each run
    the take-back of the greatest seq holds, whichever comes first, and the tally's own total only
    grows in seq."""
    cdef const char *p = seen.p
    cdef const char *end = seen.p + seen.n
    cdef SeenTally s
    cdef uint16_t slot
    while decode_seen(&p, end, &s) == 1:
        slot = actors_find(&k.actors, s.actor)
        if slot != NO_SLOT:
            cell_take_back_one(k, c, op, slot, &s)


cdef void cell_take_back_one(Kernel *k, Cell *c, const Applying *op, uint16_t slot,
                             const SeenTally *s) noexcept nogil:
    cdef Tally *t = cell_tally(c, slot)
    cdef int was_stub
    if t == NULL or t.run_seq != s.run_seq or t.run_index != s.run_index or s.seq <= t.back_seq:
        return
    was_stub = tally_is_stub(t)
    t.back_seq = s.seq
    number_take(&t.back, &s.total)
    t.reset = make_dot(op.slot, op.seq)
    if tally_is_stub(t):
        # its actor took it back itself, so has seen it: it needs no stub
        if slot == op.slot:
            cell_drop_tally(k, c, t)
            k.stubs -= was_stub
        else:
            k.stubs += 1 - was_stub


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


cdef void tally_move(Kernel *k, Tally *t, uint64_t seq, const Effect *x) noexcept nogil:
    t.seq = seq
    t.wide = <uint16_t>x.wide
    k.db[k.in_db].exact -= number_room(&t.total)
    number_take(&t.total, &x.total)
    k.db[k.in_db].exact += number_room(&t.total)
    if x.shown.n == 0:
        if t.shown != NULL:
            mem_free(t.shown)
            t.shown = NULL
        return
    if t.shown == NULL:
        t.shown = <Shown*>mem_alloc(sizeof(Shown))
    t.shown.context = x.context
    memcpy(t.shown.number, x.shown.p, EXTENDED)


cdef void cell_increment(Kernel *k, Cell *c, const Applying *op, const Effect *x) noexcept nogil:
    """The actor's own tally moves to a new total. Its increments of one run arrive in the order
    they were made, and an older one met again (replay) is passed over by its seq; so the newest
    total stands in the end."""
    cdef Tally *t = cell_tally(c, op.slot)
    cdef Tally **at
    if t != NULL:
        if t.run_seq == x.run_seq and t.run_index == x.run_index:
            if op.seq >= t.seq:
                k.stubs -= tally_is_stub(t)
                tally_move(k, t, op.seq, x)
                k.stubs += tally_is_stub(t)
            return
        if t.run_seq > x.run_seq or (t.run_seq == x.run_seq and t.run_index > x.run_index):
            return
        k.stubs -= tally_is_stub(t)
        cell_drop_tally(k, c, t)
    k.db[k.in_db].tallies += 1
    t = <Tally*>mem_zalloc(sizeof(Tally))
    t.actor = op.slot
    t.run_seq = x.run_seq
    t.run_index = x.run_index
    tally_move(k, t, op.seq, x)
    at = &c.tallies
    while at[0] != NULL and k.actors.v[at[0].actor].rank < k.actors.v[op.slot].rank:
        at = &at[0].next
    t.next = at[0]
    at[0] = t


cdef int stub_may_go(Kernel *k, const Tally *t) noexcept nogil:
    """May t be let go? Only when no increment made without knowing of the take-back can still come:
    its actor has seen the take-back, and all it did before that is applied here.

    Of a process that has ended without having seen it, this never becomes true. That nobody's clock
    names further ops of it proves nothing, for they can lie in a waiting room or be on their way;
    so such stubs stay, at most as many as the process left live tallies.
    """
    cdef Actors *a = &k.actors
    return t.actor == k.me or (actor_has_seen(a, t.actor, dot_slot(t.reset)) >= dot_seq(t.reset)
                               and a.v[t.actor].applied >= actor_has_seen(a, t.actor, t.actor))


cdef void cell_forget_stubs(Kernel *k, Cell *c) noexcept nogil:
    cdef Tally *t = c.tallies
    cdef Tally *next
    while t != NULL:
        next = t.next
        if tally_is_stub(t) and stub_may_go(k, t):
            cell_drop_tally(k, c, t)
            k.stubs -= 1
        t = next

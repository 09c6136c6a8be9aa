# The one entrance for remote ops, whatever brought them: a push, a pull, a relay, the log at the
# start.
#
# An op is applied when it is the next of its actor and everything it had observed is applied too
# (causal delivery); one that is known is dropped; any other waits in a bounded room, as bytes
# (core/pending.pxi). An op is checked whole when it comes: what waits is sound, names none but
# declared actors, and is applied without being asked again.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint64_t

from crdtredis.buffer cimport Span, span


cdef int names_position(Kernel *k, const Effect *x, uint64_t dot) noexcept nogil:
    """As decode_position for the position that x names; 1 where it needs none."""
    if x.type != T_LIST or x.kind > REMOVE:
        return 1
    k.scratch.position.n = 0
    return decode_position(&k.actors, &k.scratch.position, x.name, dot, 0)


cdef int examine(Kernel *k, uint16_t slot, const OpHead *h, int home) noexcept nogil:
    """Looks at all effects and keeps the first; their number, or -1 when one is not sound, or not
    of a key that stays at home as `home` says. An
    effect decoded takes far more room than its bytes, so of a large op the others are decoded again
    one by one (next_effect). All actors that an effect names must be declared."""
    cdef Effects at
    cdef Effect other
    cdef Effect *x
    cdef int n = 0
    cdef int r
    begin_effects(&at, h, k.actors.v[slot].id)
    while True:
        x = &k.inbox.decoded[n] if n < DECODED_KEPT else &other
        if n == DECODED_KEPT:
            k.inbox.forms.rest = at
        r = take_effect(&at, x)
        if r == 0:
            return n if n else -1
        if (r < 0 or (x.db >= HOME_DB) != home or not effect_is_sound(x, h.seq, h.stamp)
                or names_position(k, x, 0) != 1
                or (x.actor and actors_find(&k.actors, x.actor) == NO_SLOT)):
            return -1
        n += 1


cdef inline Effect *next_effect(Kernel *k, int i, Effect *other) noexcept nogil:
    """The i-th effect of the op that has been examined, asked for in order; `other` lends its
    room."""
    if i < DECODED_KEPT:
        return &k.inbox.decoded[i]
    take_effect(&k.inbox.forms.rest, other)
    return other


cdef inline void declare_named(Kernel *k, const Effect *x) noexcept nogil:
    """Declares the actors that x names, which has just been applied: the log and other replicas get
    the op from here, and refuse it where they do not know them. What an honest replica names has
    made an op that came before and is declared with that, so only a hostile peer's ops need this.
    When the op comes would be too early: it may wait, and its actors be declared with ops of their
    own till then."""
    cdef const Step *s = <const Step*>k.scratch.position.p
    cdef size_t i
    if x.actor:
        declare(k, actors_find(&k.actors, x.actor))
    elif x.type == T_LIST and x.kind <= REMOVE:         # apply_to_list has left the position there
        for i in range(k.scratch.position.n // sizeof(Step)):
            declare(k, dot_slot(s[i].own))
            declare(k, dot_slot(s[i].run))


cdef void apply_op(Kernel *k, uint16_t slot, const OpHead *h, int effects, Span raw,
                   int lent) noexcept nogil:
    """Applies an op that is the next, and examined."""
    cdef Applying op
    cdef const char *p = h.deps.p
    cdef uint64_t actor, seq
    cdef Effect other
    cdef Effect *x
    cdef int i
    while decode_dep(&p, h.deps.p + h.deps.n, &actor, &seq) == 1:
        vector_raise(&k.actors.v[slot].deps, actors_find(&k.actors, actor), seq)
    if h.deps.n > PAGE_SLOTS:
        vector_share(&k.actors.v[slot].deps, &k.actors.common)
    op.slot = slot
    op.seq = h.seq
    op.stamp = h.stamp
    op.local = 0
    op.actors = &k.actors
    for i in range(effects):
        x = next_effect(k, i, &other)
        op.counted = &k.db[x.db].counted
        op.index = i
        apply_effect(k, &op, x, NULL if x.kind == FLUSH else key_in(k, x.db, x.key))
        declare_named(k, x)
    k.actors.v[slot].applied = h.seq
    k.streams.ops += 1
    k.open.deps_changed = 1
    if h.stamp > k.newest_stamp:
        k.newest_stamp = h.stamp
    if not k.inbox.recovering:
        note_delay(k, slot, h.stamp)
        keep_received(k, slot, h.seq, raw, lent)
    if table_count(&k.pending.ops):
        wake(k, slot)


cdef int receive_home(Kernel *k, Span raw) noexcept nogil:
    """An op on keys that stay at home, from the log. It depends on no other than those before it,
    of which a repaired log may have lost some."""
    cdef OpHead h
    cdef int effects = -1
    if not k.inbox.recovering or decode_op(raw, &h) < 0 or h.deps.n:
        return RECEIVED_BAD
    if h.seq <= k.actors.v[k.home.slot].applied:
        return RECEIVED_ALL
    effects = examine(k, k.home.slot, &h, 1)
    if effects < 0:
        return RECEIVED_BAD
    k.home.on = 1
    apply_op(k, k.home.slot, &h, effects, raw, 0)
    return RECEIVED_ALL


cdef int receive_op(Kernel *k, uint16_t slot, Span raw, const OpHead *h) noexcept nogil:
    cdef uint16_t of = 0
    cdef uint64_t until = 0
    cdef int effects, why
    if h.seq <= k.actors.v[slot].applied:
        return RECEIVED_ALL
    if slot == k.me:
        # an op of this very process that it never made: somebody else has its identity
        return RECEIVED_UNDECLARED
    if pending_find(k, slot, h.seq) != NULL:
        return RECEIVED_ALL
    why = blocked(k, slot, h, &of, &until)
    if why == BLOCKED_UNDECLARED:
        return RECEIVED_UNDECLARED
    effects = examine(k, slot, h, 0) if why >= 0 else -1
    if effects < 0:
        return RECEIVED_BAD
    if why == BLOCKED_NOT:
        apply_op(k, slot, h, effects, raw, k.inbox.lending)
        return RECEIVED_ALL
    if pending_is_full(k, slot, raw.n):
        return RECEIVED_FULL
    pending_put(k, slot, h.seq, raw)
    if why != BLOCKED_BY_OWN and k.actors.v[slot].backlog.state == BACKLOG_IDLE:
        put_off(k, slot, why, of, until)
    return RECEIVED_ALL


# ---- batches -------------------------------------------------------------------------------------

cdef int newcomer_may_come(Kernel *k) noexcept nogil:
    """Actors with ops are never forgotten, and of slots there are 65535, one of them for keys that
    stay at home: no peer may use the last quarter up before people notice."""
    cdef int64_t gone
    if k.actors.n - 1 < FREELY:
        return 1
    if k.now < k.inbox.newcomers_at or k.now - k.inbox.newcomers_at >= NEWCOMER_MS:
        gone = max(<int64_t>0, (k.now - k.inbox.newcomers_at) // NEWCOMER_MS)
        k.inbox.newcomers = max(<int64_t>0, k.inbox.newcomers - gone)
        k.inbox.newcomers_at = k.now
    if k.inbox.newcomers == NEWCOMERS:
        return 0
    k.inbox.newcomers += 1
    return 1


cdef int receive_actor(Kernel *k, Span body) noexcept nogil:
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef Field f
    cdef uint64_t id
    cdef uint16_t slot
    cdef Span replica
    if get_field(&p, end, &f) != 1 or f.number != 1 or f.wire != 1:
        return RECEIVED_BAD
    id = f.v
    if get_field(&p, end, &f) != 1 or f.number != 2 or f.wire != 2 or f.s.n > MAX_REPLICA_ID:
        return RECEIVED_BAD
    replica = f.s
    if get_field(&p, end, &f) != 1 or f.number != 3 or f.wire != 0 or f.v == 0 or p != end:
        return RECEIVED_BAD
    if id == HOME_ACTOR and not k.inbox.recovering:
        return RECEIVED_BAD
    if (actors_find(&k.actors, id) == NO_SLOT and not k.inbox.recovering
        and not newcomer_may_come(k)):
        return RECEIVED_CROWD
    slot = actors_declare(&k.actors, id, replica.p, replica.n, f.v)
    if slot == NO_SLOT:
        return RECEIVED_UNDECLARED
    k.actors.v[slot].logged |= k.inbox.recovering
    return RECEIVED_ALL


cdef int receive_run(Kernel *k, Span body) noexcept nogil:
    """Ends with an op that finds the causal buffer full: what follows waits for it, and would take
    the room that it needs."""
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef Field f
    cdef OpHead h
    cdef Span raw, home
    cdef uint16_t slot
    cdef int r
    if get_field(&p, end, &f) != 1 or f.number != 1 or f.wire != 1:
        return RECEIVED_BAD
    slot = actors_find(&k.actors, f.v)
    if slot == NO_SLOT:
        return RECEIVED_UNDECLARED
    while True:
        r = next_op(&p, end, &raw, &home)
        if r == 0:
            return RECEIVED_ALL
        if r < 0:
            return RECEIVED_BAD
        if slot == k.home.slot:
            r = receive_home(k, raw)
        elif decode_op(raw, &h) < 0:
            return RECEIVED_BAD
        else:
            r = receive_op(k, slot, raw, &h)
        if r == RECEIVED_ALL and home.p != NULL:
            r = receive_home(k, home)
        if r != RECEIVED_ALL:
            return r


cdef int receive(Kernel *k, const char *p, size_t n) noexcept nogil:
    cdef const char *end = p + n
    cdef Field f
    cdef int r, result = RECEIVED_ALL
    if k.joining:
        return RECEIVED_FULL
    while True:
        r = get_field(&p, end, &f)
        if r == 0:
            break
        if r == 1 and f.number == 1 and f.wire == 2:
            r = receive_actor(k, f.s)
        elif r == 1 and f.number == 2 and f.wire == 2:
            r = receive_run(k, f.s)
        else:
            r = RECEIVED_BAD
        if r == RECEIVED_FULL:
            result = r
        elif r != RECEIVED_ALL:
            result = r
            break
    retry_pending(k, PENDING_SLICE)         # it has what came settle, too
    return result


cdef int retry_pending(Kernel *k, size_t most) noexcept nogil:
    cdef Backlog *b
    cdef Element *m
    cdef OpHead h
    cdef Span raw
    cdef uint16_t slot, first, of = 0
    cdef uint64_t until = 0
    cdef int why
    if k.joining:
        return 0
    while (k.pending.held
           and <int64_t>k.actors.v[k.pending.held - 1].backlog.until <= latest_stamp(k)):
        first = k.pending.held
        k.pending.held = heap_rest(&k.actors, first)
        b = &k.actors.v[first - 1].backlog
        b.state = BACKLOG_IDLE
        k.pending.held_ops -= b.n
        look_at(k, first - 1)
    while k.pending.ready and most > 0:
        slot = k.pending.ready - 1
        b = &k.actors.v[slot].backlog
        m = pending_find(k, slot, k.actors.v[slot].applied + 1)
        why = BLOCKED_BY_OWN
        if m != NULL:
            raw = element_content(m)
            decode_op(raw, &h)
            why = blocked(k, slot, &h, &of, &until)
        if why == BLOCKED_NOT:
            apply_op(k, slot, &h, examine(k, slot, &h, 0), raw, 0)   # it was examined when it came
            most -= min(most, pending_size(element_vlen(m)))
            pending_take(k, slot, m)
            continue
        k.pending.ready = b.next
        b.state = BACKLOG_IDLE
        if why != BLOCKED_BY_OWN:
            put_off(k, slot, why, of, until)
    texts_settle(k)
    return k.pending.ready != 0

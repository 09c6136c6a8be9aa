# The one entrance for remote ops, whatever brought them: a push, a pull, a relay, the log at the
# start.
#
# An op is applied when it is the next of its actor and everything it had observed is applied too
# (causal delivery); one that is known is dropped; any other waits in a bounded room, as bytes
# (core/pending.pxi). An op is checked whole when it comes: what waits is sound, names none but
# declared actors, and is applied without being asked again.

cdef int effect_is_sound(const Effect *x, uint64_t seq, uint64_t stamp) noexcept nogil:
    """Does an effect of the op of this seq and stamp mean something? Of those that come, what the
    wire format allows and the meaning does not is refused; of those made here, what is no good to
    be told to others (core/effects.pxi), so what the decoder refuses is looked at, too."""
    cdef const char *p = x.observed.p
    cdef ObservedCount s
    if x.key.n > MAX_BYTES or x.name.n > MAX_BYTES or x.value.n > MAX_BYTES:
        return 0
    if ((x.type != T_STRING and x.kind > REMOVE and x.kind != CLEAR)
        or (x.name.n and (x.type == T_STRING or x.kind > REMOVE))):
        # a type that this version does not hold, or a name where there are no members
        return 0
    if (x.kind == ASSIGN
        and ((x.type == T_SET and x.value.n) or (x.type == T_ZSET and not is_score(x.value)))):
        return 0
    if x.type == T_LIST and x.kind <= REMOVE and (x.kind == INCREMENT or x.observed.n):
        return 0
    if x.kind != INCREMENT and (x.total.exact.n or x.shown.n or x.context or x.wide):
        return 0
    if x.kind == INCREMENT:
        return 0 < x.run_seq <= seq and x.observed.n == 0 and (x.shown.n or x.context == 0)
    if x.kind == DEADLINE:
        return (x.stamp == 0) == (x.actor == 0) and x.stamp <= stamp and x.deadline >= 0
    if x.kind == FLUSH:
        return x.key.n == 0
    if x.observed.n == 0:
        return 1
    while decode_observed(&p, x.observed.p + x.observed.n, &s) == 1:
        if (s.key.n or (x.kind <= REMOVE and (s.type != T_STRING or s.name.n))
            or (x.kind == CLEAR and s.type != x.type)):
            return 0
    return 1


cdef int is_score(Span value) noexcept nogil:
    cdef double score
    if value.n != 8:
        return 0
    memcpy(&score, value.p, 8)
    return score == score


cdef int names_position(Kernel *k, const Effect *x, uint64_t dot) noexcept nogil:
    """As decode_position for the position that x names; 1 where it needs none."""
    if x.type != T_LIST or x.kind > REMOVE:
        return 1
    k.position.n = 0
    return decode_position(&k.actors, &k.position, x.name, dot)


cdef int examine(Kernel *k, const OpHead *h) noexcept nogil:
    """Looks at all effects and keeps the first; their number, or -1 when one is not sound. An
    effect decoded takes far more room than its bytes, so of a large op the others are decoded again
    one by one (next_effect). All actors that an effect names must be declared."""
    cdef const char *p = h.effects.p
    cdef Effect other
    cdef Effect *x
    cdef int n = 0
    cdef int r
    while True:
        x = &k.decoded[n] if n < DECODED_KEPT else &other
        if n == DECODED_KEPT:
            k.decoded_rest = p
        r = decode_effect(&p, h.effects.p + h.effects.n, x)
        if r == 0:
            return n if n else -1
        if (r < 0 or not effect_is_sound(x, h.seq, h.stamp) or names_position(k, x, 0) != 1
                or (x.actor and actors_find(&k.actors, x.actor) == NO_SLOT)):
            return -1
        n += 1


cdef inline Effect *next_effect(Kernel *k, const OpHead *h, int i, Effect *other) noexcept nogil:
    """The i-th effect of the op that has been examined, asked for in order; `other` lends its
    room."""
    if i < DECODED_KEPT:
        return &k.decoded[i]
    decode_effect(&k.decoded_rest, h.effects.p + h.effects.n, other)
    return other


cdef inline void declare_named(Kernel *k, const Effect *x) noexcept nogil:
    """Declares the actors that x names, which has just been applied: the log and other replicas get
    the op from here, and refuse it where they do not know them. What an honest replica names has
    made an op that came before and is declared with that, so only a hostile peer's ops need this.
    When the op comes would be too early: it may wait, and its actors be declared with ops of their
    own till then."""
    cdef const Step *s = <const Step*>k.position.p
    cdef size_t i
    if x.actor:
        declare(k, actors_find(&k.actors, x.actor))
    elif x.type == T_LIST and x.kind <= REMOVE:         # apply_to_list has left the position there
        for i in range(k.position.n // sizeof(Step)):
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
    op.slot = slot
    op.seq = h.seq
    op.stamp = h.stamp
    op.local = 0
    op.actors = &k.actors
    for i in range(effects):
        x = next_effect(k, h, i, &other)
        apply_effect(k, &op, x, NULL if x.kind == FLUSH else key_find(k, x.db, x.key))
        declare_named(k, x)
    k.actors.v[slot].applied = h.seq
    k.deps_changed = 1
    if h.stamp > k.newest_stamp:
        k.newest_stamp = h.stamp
    if not k.recovering:
        keep_received(k, slot, h.seq, raw, lent)
    if table_count(&k.pending.ops):
        wake(k, slot)


cdef void keep_received(Kernel *k, uint16_t slot, uint64_t seq, Span raw, int lent) noexcept nogil:
    """Puts an applied op with those that are to be logged and sent on. lent: its bytes stay until
    then, so a large one is not copied."""
    cdef Run *r = run_extend(k, slot, seq) if raw.n < LARGE_OP else run_begin(k, slot, seq)
    cdef Buffer *b = &k.ops if raw.n < LARGE_OP else &r.large
    cdef char *p
    k.ops_size += raw.n
    if raw.n >= LARGE_OP and lent:
        r.lent = raw
        return
    if raw.n >= LARGE_OP:
        buffer_resize(b, HEAD_ROOM + 11 + raw.n)
        r.begin = b.n = HEAD_ROOM
    p = buffer_need(b, raw.n + 11)
    p[0] = 2 << 3 | 2
    p = put_varint(p + 1, raw.n)
    memcpy(p, raw.p, raw.n)
    b.n = p + raw.n - b.p
    r.end = b.n


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
    effects = examine(k, h) if why >= 0 else -1
    if effects < 0:
        return RECEIVED_BAD
    if why == BLOCKED_NOT:
        apply_op(k, slot, h, effects, raw, k.lending)
        return RECEIVED_ALL
    if pending_is_full(k, slot, raw.n):
        return RECEIVED_FULL
    pending_put(k, slot, h.seq, raw)
    if why != BLOCKED_BY_OWN and k.actors.v[slot].backlog.state == BACKLOG_IDLE:
        put_off(k, slot, why, of, until)
    return RECEIVED_ALL


# ---- batches -------------------------------------------------------------------------------------

cdef int newcomer_may_come(Kernel *k) noexcept nogil:
    """Actors with ops are never forgotten, and of slots there are 65535: no peer may use the last
    quarter up before people notice."""
    if k.actors.n < FREELY:
        return 1
    if k.now < k.newcomers_at or k.now - k.newcomers_at >= NEWCOMER_MS:
        k.newcomers = max(<int64_t>0,
                          k.newcomers - max(<int64_t>0, (k.now - k.newcomers_at) // NEWCOMER_MS))
        k.newcomers_at = k.now
    if k.newcomers == NEWCOMERS:
        return 0
    k.newcomers += 1
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
    if actors_find(&k.actors, id) == NO_SLOT and not k.recovering and not newcomer_may_come(k):
        return RECEIVED_CROWD
    slot = actors_declare(&k.actors, id, replica.p, replica.n, f.v)
    if slot == NO_SLOT:
        return RECEIVED_UNDECLARED
    k.actors.v[slot].logged |= k.recovering
    return RECEIVED_ALL


cdef int receive_run(Kernel *k, Span body) noexcept nogil:
    """Ends with an op that finds the causal buffer full: what follows waits for it, and would take
    the room that it needs."""
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef Field f
    cdef OpHead h
    cdef Span raw
    cdef uint16_t slot
    cdef int r
    if get_field(&p, end, &f) != 1 or f.number != 1 or f.wire != 1:
        return RECEIVED_BAD
    slot = actors_find(&k.actors, f.v)
    if slot == NO_SLOT:
        return RECEIVED_UNDECLARED
    while True:
        r = get_message(&p, end, 2, &raw)
        if r == 0:
            return RECEIVED_ALL
        if r < 0 or decode_op(raw, &h) < 0:
            return RECEIVED_BAD
        r = receive_op(k, slot, raw, &h)
        if r != RECEIVED_ALL:
            return r


cdef int receive(Kernel *k, const char *p, size_t n) noexcept nogil:
    cdef const char *end = p + n
    cdef Field f
    cdef int r, result = RECEIVED_ALL
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
    retry_pending(k, PENDING_SLICE)
    return result


# ---- what is to be logged and sent ---------------------------------------------------------------

cdef int has_ops(Kernel *k) noexcept nogil:
    return k.run_n > 0


cdef void encode_actor(Buffer *b, const Actor *a) noexcept nogil:
    """With the tag and length of Batch.actors."""
    cdef Span replica = span(a.replica, strlen(a.replica))
    cdef size_t body = 9 + span_size(replica) + number_size(a.epoch)
    cdef char *p = buffer_need(b, body + 11)
    cdef char *begin = p
    p[0] = 1 << 3 | 2
    p = put_varint(p + 1, body)
    p[0] = 1 << 3 | 1
    p = put_fixed64(p + 1, a.id)
    p = put_span(p, 2 << 3 | 2, replica)
    if a.epoch:
        p[0] = 3 << 3
        p = put_varint(p + 1, a.epoch)
    b.n += p - begin


cdef size_t run_part(Kernel *k, const Run *r, size_t room, int one) noexcept nogil:
    """Bytes of the first ops of a run that go into `room` bytes. one: at least of the first,
    however large."""
    cdef const char *begin = k.ops.p + r.begin
    cdef const char *end = k.ops.p + r.end
    cdef const char *p = begin
    cdef const char *at = begin
    cdef Span op
    if r.end - r.begin <= room:
        return r.end - r.begin
    while (get_message(&p, end, 2, &op) == 1
           and (<size_t>(p - begin) <= room or (one and at == begin))):
        at = p
    return at - begin


cdef int take_record(Kernel *k, Record *r, size_t most) noexcept nogil:
    cdef Buffer *b = &r.buf
    cdef Run *run
    cdef size_t n
    if not has_ops(k):
        return 0
    r.large = 0
    r.rest = span(NULL, 0)
    b.n = 0
    r.at = record_begin(b)
    if k.declarations.n:
        buffer_add(b, k.declarations.p, k.declarations.n)
        k.declarations.n = 0
    while k.run_at < k.run_n:
        run = &k.runs[k.run_at]
        if run.large.p != NULL or run.lent.p != NULL:
            if b.n == RECORD_HEAD:
                take_large(k, run, r)
                k.run_at += 1
            break
        n = b.n - RECORD_HEAD + RUN_HEAD
        n = run_part(k, run, most - n if n < most else 0, b.n == RECORD_HEAD)
        if n == 0:
            break
        add_run(b, k.actors.v[run.slot].id, span(k.ops.p + run.begin, n))
        run.begin += n
        if run.begin < run.end:
            break
        k.run_at += 1
    if k.run_at == k.run_n:
        k.run_at = k.run_n = 0
        k.ops_size = k.ops.n = 0
        if k.ops.cap > 4 << 20:
            buffer_free(&k.ops)
    return 1


cdef void take_large(Kernel *k, Run *run, Record *r) noexcept nogil:
    """Makes the buffer of a large op the record's, with the heads right before the op. Of a lent
    one only the heads are put into the record."""
    cdef size_t n = run.large.n - run.begin
    cdef char *p
    if run.lent.p != NULL:
        n = 1 + varint_size(run.lent.n) + run.lent.n        # as Batch.Run.ops
        p = put_run_head(buffer_need(&r.buf, RUN_HEAD + 11), k.actors.v[run.slot].id, n)
        p[0] = 2 << 3 | 2
        r.buf.n = put_varint(p + 1, run.lent.n) - r.buf.p
        r.rest = run.lent
        return
    buffer_free(&r.buf)
    r.buf = run.large
    r.large = 1
    r.at = run.begin - 10 - varint_size(n + 9) - RECORD_HEAD
    put_run_head(r.buf.p + r.at + RECORD_HEAD, k.actors.v[run.slot].id, n)

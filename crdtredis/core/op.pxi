# The op that is being made: opened by its first effect, closed by the outermost op_end.
#
# What we encode we must accept: an op that the decoder refuses would be acknowledged, and then keep
# this replica from starting and its peers from going on. So every effect passes the check that
# received ones pass (core/soundness.pxi). Commands see to it that none fails: where one would, a
# debug build aborts, and a release build makes nothing of that effect and has the command answered
# with an error.
#
# It has two halves, of which nearly always only one is begun: the effects on keys that all replicas
# share, and those on keys that stay at home (core/home.pxi).

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from crdtredis.buffer cimport Buffer, Span, buffer_free, buffer_need, copy_span, span


cdef inline size_t op_used(Kernel *k) noexcept nogil:
    return ((k.open.effects.n - HEAD_ROOM if k.open.has_op else 0)
            + (k.open.other.effects.n - HEAD_ROOM if k.open.other.has_op else 0))


cdef inline uint16_t op_slot(Kernel *k) noexcept nogil:
    """Who makes the effects of the half under way."""
    return k.home.slot if k.open.home else k.me


cdef inline int is_compact(Kernel *k) noexcept nogil:
    return k.inbox.forms.compact[k.open.home]


cdef void turn_to(Kernel *k, int home) noexcept nogil:
    """Has the next effects go to this half."""
    cdef Half h
    if home == k.open.home:
        return
    h.has_op = k.open.has_op
    h.effect_count = k.open.effect_count
    h.op = k.open.op
    h.effects = k.open.effects
    k.open.has_op = k.open.other.has_op
    k.open.effect_count = k.open.other.effect_count
    k.open.op = k.open.other.op
    k.open.effects = k.open.other.effects
    k.open.other = h
    k.open.home = home
    k.actors.hidden = 0 if home else k.home.slot + 1


cdef int close_halves(Kernel *k) noexcept nogil:
    """What is open of both. 1 when an op was finished."""
    cdef int shared = 0
    turn_to(k, 0)
    if k.open.has_op:
        k.open.has_op = 0
        shared = close_op(k)
    if not k.open.other.has_op:
        return shared
    turn_to(k, 1)
    k.open.has_op = 0
    if shared:
        put_behind(k)
    else:
        shared = close_op(k)
    turn_to(k, 0)
    return shared


cdef void close_early(Kernel *k) noexcept nogil:
    """The next effect begins another op."""
    cdef int home = k.open.home
    close_halves(k)
    turn_to(k, home)


cdef void op_begin(Kernel *k) noexcept nogil:
    k.open.depth += 1
    k.open.began = k.changes
    k.open.refused = 0
    k.home.left = 0


cdef int op_end(Kernel *k) noexcept nogil:
    k.open.depth -= 1
    k.open.refused = 0
    k.home.left = 0
    if k.open.depth or not (k.open.has_op or k.open.other.has_op):
        return 0
    if k.open.home or k.open.other.has_op:
        return close_halves(k)
    k.open.has_op = 0
    return close_op(k)


cdef void open_op(Kernel *k) noexcept nogil:
    cdef uint64_t wall = <uint64_t>k.now << 16
    k.open.has_op = 1
    k.newest_stamp = wall if wall > k.newest_stamp else k.newest_stamp + 1
    k.open.op.slot = op_slot(k)
    k.open.op.seq = k.actors.v[k.open.op.slot].applied + 1
    k.open.op.stamp = k.newest_stamp
    k.open.op.local = 1
    k.open.op.actors = &k.actors
    k.open.effect_count = 0
    k.open.effects.n = 0
    buffer_need(&k.open.effects, HEAD_ROOM)
    k.open.effects.n = HEAD_ROOM
    k.inbox.forms.compact[k.open.home] = k.inbox.forms.compacts
    k.inbox.forms.before[k.open.home].any = 0
    k.inbox.forms.before[k.open.home].actor = k.actors.v[k.open.op.slot].id


cdef int close_op(Kernel *k) noexcept nogil:
    """Encodes the finished op of this half behind the others, and moves the clock to it. 0 where
    there is none: its only effect was refused. Leaves k.scratch.listed alone: see close_early."""
    cdef uint16_t slot = k.open.op.slot
    cdef Actor *me = &k.actors.v[slot]
    cdef uint32_t i
    cdef size_t head, body
    cdef char *p
    cdef Run *r
    if k.open.effect_count == 0:
        return 0
    k.scratch.made.n = 0
    if k.open.deps_changed and not k.open.home:
        for i in range(k.actors.n):
            if (i != slot and i != k.home.slot
                    and k.actors.v[i].applied > vector_get(&me.deps, <uint16_t>i)):
                encode_dep(&k.scratch.made, k.actors.v[i].id, k.actors.v[i].applied)
                vector_raise(&me.deps, <uint16_t>i, k.actors.v[i].applied)
        if k.scratch.made.n > PAGE_SLOTS:
            vector_share(&me.deps, &k.actors.common)
        k.open.deps_changed = 0
    head = op_head_size(k) + k.scratch.made.n
    body = head + k.open.effects.n - HEAD_ROOM
    if body < LARGE_OP:
        r = run_extend(k, slot, k.open.op.seq)
        p = put_op_head(k, buffer_need(&k.outbox.ops, body + 11), body)
        memcpy(p, k.open.effects.p + HEAD_ROOM, k.open.effects.n - HEAD_ROOM)
        k.outbox.ops.n = p + k.open.effects.n - HEAD_ROOM - k.outbox.ops.p
        r.end = k.outbox.ops.n
    else:
        r = run_begin(k, slot, k.open.op.seq)
        head += 1 + varint_size(body)
        r.begin = HEAD_ROOM - head
        if head + RUN_HEAD + RECORD_HEAD > HEAD_ROOM:      # deps on many actors
            buffer_need(&k.open.effects, head)
            memmove(k.open.effects.p + HEAD_ROOM + head, k.open.effects.p + HEAD_ROOM,
                    k.open.effects.n - HEAD_ROOM)
            r.begin = HEAD_ROOM
        put_op_head(k, k.open.effects.p + r.begin, body)    # which says how long the effects are
        if r.begin == HEAD_ROOM:
            k.open.effects.n += head
        r.large = k.open.effects
        memset(&k.open.effects, 0, sizeof(Buffer))
    k.outbox.size += body
    me.applied = k.open.op.seq
    k.streams.ops += 1
    # a giant value or transaction is no reason to keep its size for ever
    if k.open.effects.cap > LARGE_OP:
        buffer_free(&k.open.effects)
    return 1


cdef void put_behind(Kernel *k) noexcept nogil:
    """As close_op, for the half that stays at home of an op whose shared half has just been closed:
    as Batch.Run.home, right behind that."""
    cdef Run *r = &k.outbox.runs[k.outbox.n - 1]
    cdef Buffer *b = &r.large if r.large.p != NULL else &k.outbox.ops
    cdef Span effects = span(k.open.effects.p + HEAD_ROOM, k.open.effects.n - HEAD_ROOM)
    cdef size_t body = op_head_size(k) + effects.n
    cdef char *p
    if k.open.effect_count == 0:
        return
    k.scratch.made.n = 0
    p = buffer_need(b, body + 11)
    copy_span(put_op_head(k, p, body), effects)
    p[0] = 3 << 3 | 2
    b.n += 1 + varint_size(body) + body
    if b == &k.outbox.ops:
        r.end = b.n
    r.home = 1
    k.outbox.size += body
    k.actors.v[k.home.slot].applied = k.open.op.seq
    k.streams.ops += 1
    if k.open.effects.cap > LARGE_OP:
        buffer_free(&k.open.effects)


cdef inline size_t op_head_size(Kernel *k) noexcept nogil:
    """Bytes before the effects, without the deps."""
    return (number_size(k.open.op.seq) + 9
            + (1 + varint_size(k.open.effects.n - HEAD_ROOM) if is_compact(k) else 0))


cdef char *put_op_head(Kernel *k, char *p, size_t body) noexcept nogil:
    """Batch.Run.ops' tag and length, and what stands before the effects. The deps are in
    k.scratch.made."""
    p[0] = 2 << 3 | 2
    p = put_varint(p + 1, body)
    p[0] = 1 << 3
    p = put_varint(p + 1, k.open.op.seq)
    p[0] = 2 << 3 | 1
    p = put_fixed64(p + 1, k.open.op.stamp)
    copy_span(p, span(k.scratch.made.p, k.scratch.made.n))
    p += k.scratch.made.n
    if is_compact(k):
        p[0] = 5 << 3 | 2
        p = put_varint(p + 1, k.open.effects.n - HEAD_ROOM)
    return p


cdef inline void put_effect(Kernel *k, const Effect *x) noexcept nogil:
    if is_compact(k):
        encode_compact(&k.open.effects, x, &k.inbox.forms.before[k.open.home])
    else:
        encode_effect(&k.open.effects, x)
    k.open.op.index = k.open.effect_count
    k.open.effect_count += 1


cdef Element *make(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """One effect of the open op: encoded, then applied to e, which is what stands under its key.
    Returns what apply_effect does."""
    if not may_be_made(k, x):
        return e
    put_effect(k, x)
    k.open.op.counted = &k.db[x.db].counted
    return apply_effect(k, &k.open.op, x, e)


cdef inline int may_be_made(Kernel *k, const Effect *x) noexcept nogil:
    if k.joining:
        k.open.refused = REFUSED_JOINING
        return 0
    if effect_is_sound(x, k.open.op.seq, k.open.op.stamp):
        return 1
    mem_assert_not("an effect that no replica would accept")
    k.open.refused = REFUSED_UNSOUND
    return 0


cdef void begin_effect(Kernel *k, Effect *x, int kind, uint32_t db, Span key) noexcept nogil:
    if op_used(k) > k.open.most:             # never: see core/sizes.pxi
        close_early(k)
        k.open.torn += 1
    if (db >= HOME_DB) != k.open.home:
        turn_to(k, db >= HOME_DB)
    if not k.open.has_op:
        open_op(k)
    memset(x, 0, sizeof(Effect))
    x.kind = kind
    x.db = db
    x.key = key


cdef void make_of_own_key(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """make() for an effect whose key lies in e."""
    cdef Effects at
    cdef Effect copy
    cdef size_t begin = k.open.effects.n
    if not may_be_made(k, x):
        return
    at.compact = is_compact(k)
    at.before = k.inbox.forms.before[k.open.home]
    put_effect(k, x)
    at.begin = k.open.effects.p
    at.p = at.begin + begin
    at.end = at.begin + k.open.effects.n
    take_effect(&at, &copy)
    k.open.op.counted = &k.db[x.db].counted
    apply_effect(k, &k.open.op, &copy, e)


cdef void list_cell(Kernel *k, Element *e, int type, Span name, Span key) noexcept nogil:
    """Adds the live counter entries of one cell to k.scratch.listed, with the place that the kind
    of effect asks for."""
    cdef LoneRoom room
    cdef const Cell *c = cell_of(e, &room)
    cdef const Count *t = c.counts if c != NULL else NULL
    cdef ObservedCount s
    while t != NULL:
        if not is_tombstone(t):
            memset(&s, 0, sizeof(ObservedCount))
            s.actor = k.actors.v[t.actor].id
            s.run_seq = t.run_seq
            s.run_index = t.run_index
            s.seq = t.seq
            number_total(&t.total, &k.scratch.total, &s.total)
            s.type = type
            s.name = name
            s.key = key
            encode_observed(&k.scratch.listed, &s)
        t = t.next


cdef int list_key(Kernel *k, Element *e, int only, Span key, size_t most) noexcept nogil:
    """Adds the live counter entries of everything under a key, or of one type (T_NONE: all). 0 once
    k.scratch.listed is longer than `most`, where it ends."""
    cdef Collection *c = element_collections(k, e)
    cdef Element *m
    cdef size_t pos
    if only == T_NONE or only == T_STRING:
        list_cell(k, e, T_STRING, span(NULL, 0), key)
    while c != NULL:
        if c.cells and (only == T_NONE or only == shown_as(c.type)):
            pos = 0
            while True:
                m = table_next(&c.table, &pos)
                if m == NULL or k.scratch.listed.n > most:
                    break
                list_cell(k, m, c.type, element_name(m), key)
        c = c.next
    return k.scratch.listed.n <= most

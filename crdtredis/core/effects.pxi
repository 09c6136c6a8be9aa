# Making ops: what the command handlers call (keyspace.pxd, "local effects"). Each function encodes an effect into the open op
# and applies it with the function that remote ops go through, so a replica cannot do to itself what it does not tell others.
#
# The op is opened by its first effect and closed by the outermost op_end. It observes everything that is here, its own earlier
# effects included.

cdef void op_begin(Kernel *k) noexcept nogil:
    k.depth += 1


cdef int op_end(Kernel *k) noexcept nogil:
    k.depth -= 1
    if k.depth or not k.has_op:
        return 0
    k.has_op = 0
    close_op(k)
    return 1


cdef void open_op(Kernel *k) noexcept nogil:
    cdef uint64_t wall = <uint64_t>k.now << 16
    k.has_op = 1
    k.hlc = wall if wall > k.hlc else k.hlc + 1
    k.op.slot = k.me
    k.op.seq = k.actors.v[k.me].applied + 1
    k.op.stamp = k.hlc
    k.op.local = 1
    k.op.actors = &k.actors
    k.effect_count = 0
    k.effects.n = 0


cdef void close_op(Kernel *k) noexcept nogil:
    """Encodes the finished op behind the others, and moves the clock to it."""
    cdef Actor *me = &k.actors.v[k.me]
    cdef uint32_t i
    cdef size_t body
    cdef char *p
    k.seen.n = 0
    if k.deps_changed:
        for i in range(k.actors.n):
            if i != k.me and k.actors.v[i].applied > row_get(&me.deps, <uint16_t>i):
                encode_dep(&k.seen, k.actors.v[i].id, k.actors.v[i].applied)
                row_raise(&me.deps, <uint16_t>i, k.actors.v[i].applied)
        k.deps_changed = 0
    body = number_size(k.op.seq) + 9 + k.seen.n + k.effects.n
    run_extend(k, k.me, k.op.seq)
    p = buffer_need(&k.ops, body + 11)
    p[0] = 2 << 3 | 2
    p = put_varint(p + 1, body)
    p[0] = 1 << 3
    p = put_varint(p + 1, k.op.seq)
    p[0] = 2 << 3 | 1
    p = put_fixed64(p + 1, k.op.stamp)
    k.ops.n = p - k.ops.p
    buffer_add(&k.ops, k.seen.p, k.seen.n)
    buffer_add(&k.ops, k.effects.p, k.effects.n)
    me.applied = k.op.seq
    if k.effects.cap > 1 << 20:            # a giant value or transaction is no reason to keep its size for ever
        buffer_free(&k.effects)


cdef void run_extend(Kernel *k, uint16_t slot, uint64_t seq) noexcept nogil:
    """Says that the op about to be appended to k.ops is (slot, seq)."""
    cdef Run *r
    if k.run_n:
        r = &k.runs[k.run_n - 1]
        if r.slot == slot and r.last == seq - 1:
            r.last = seq
            return
    if k.run_n == k.run_cap:
        k.run_cap = k.run_cap * 2 if k.run_cap else 16
        k.runs = <Run*>mem_realloc(k.runs, k.run_cap * sizeof(Run))
    r = &k.runs[k.run_n]
    k.run_n += 1
    r.slot = slot
    r.first = seq
    r.last = seq
    r.begin = k.ops.n


cdef void make(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """One effect of the open op: encoded, then applied to e, which is what stands under its key."""
    encode_effect(&k.effects, x)
    k.effect_count += 1
    apply_effect(k, &k.op, x, e)


cdef void start(Kernel *k, Effect *x, int kind, uint32_t db, Span key) noexcept nogil:
    if not k.has_op:
        open_op(k)
    memset(x, 0, sizeof(Effect))
    x.kind = kind
    x.db = db
    x.key = key


cdef void list_tallies(Kernel *k, Effect *x, Element *e, int name_key) noexcept nogil:
    """Adds the live tallies of e to x.seen, which lies in the scratch buffer k.seen."""
    cdef const Tally *t
    cdef SeenTally s
    if not e.meta & E_CELL:
        return
    t = element_cell(e).tallies
    while t != NULL:
        if not tally_is_stub(t):
            memset(&s, 0, sizeof(SeenTally))
            s.actor = k.actors.v[t.actor].id
            s.run_seq = t.run_seq
            s.run_index = t.run_index
            s.seq = t.seq
            s.total = t.total
            if name_key:
                s.key = span(element_key(e), e.klen)
            encode_seen(&k.seen, &s)
        t = t.next
    x.seen = span(k.seen.p, k.seen.n)


cdef Element *prepare(Kernel *k, uint32_t db, Span key, Element *e, int removes_value) noexcept nogil:
    """Begins a write to `key` that keeps its deadline: an expired or invisible remainder goes first; a deadline is asserted again, and
    so is its absence where the SET that stated it is about to be removed. Returns what stands under the key then."""
    cdef Effect x
    cdef int64_t deadline
    cdef uint64_t stamp
    cdef uint16_t actor
    cdef int stated
    if e == NULL:
        return NULL
    if not key_visible(k, e):
        key_delete(k, db, e)
        return key_find(k, db, key)
    if not e.meta & E_ENTRY and not removes_value:
        return e
    stated = stated_deadline(k, e, &deadline, &stamp, &actor)
    if stated == STATED_DEADLINE or (stated == STATED_CLEAR and removes_value):
        start(k, &x, DEADLINE, db, key)
        x.deadline = deadline
        x.stamp = stamp
        x.actor = k.actors.v[actor].id
        make(k, &x, e)
        return key_find(k, db, key)
    return e


cdef void string_set(Kernel *k, uint32_t db, Span key, Element *e, Span value, int keep_deadline) noexcept nogil:
    cdef Effect x
    if e != NULL and (keep_deadline or not key_visible(k, e)):
        e = prepare(k, db, key, e, 1)
    start(k, &x, ASSIGN, db, key)
    x.value = value
    x.keep = keep_deadline
    if e != NULL and e.meta & E_CELL:
        k.seen.n = 0
        list_tallies(k, &x, e, 0)
    make(k, &x, e)


cdef void string_add(Kernel *k, uint32_t db, Span key, Element *e, long double step) noexcept nogil:
    cdef Effect x
    cdef Tally *t = NULL
    e = prepare(k, db, key, e, 0)
    start(k, &x, INCREMENT, db, key)
    if e != NULL and e.meta & E_CELL:
        t = cell_tally(element_cell(e), k.me)
    if t != NULL and not tally_is_stub(t):
        x.run_seq = t.run_seq
        x.run_index = t.run_index
        x.total = t.total + step
    else:
        x.run_seq = k.op.seq
        x.run_index = k.effect_count
        x.total = step
    make(k, &x, e)


cdef void key_delete(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    cdef Effect x
    start(k, &x, DELETE, db, span(element_key(e), e.klen))
    k.seen.n = 0
    list_tallies(k, &x, e, 0)
    # The key's bytes lie in e, which apply may free: they are read from the encoded effect instead.
    make_of_own_key(k, &x, e)


cdef void make_of_own_key(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """make() for an effect whose key lies in e."""
    cdef size_t at = k.effects.n
    cdef const char *p
    cdef Effect copy
    encode_effect(&k.effects, x)
    k.effect_count += 1
    p = k.effects.p + at
    decode_effect(&p, k.effects.p + k.effects.n, &copy)
    apply_effect(k, &k.op, &copy, e)


cdef void key_expire(Kernel *k, uint32_t db, Element *e, int64_t deadline) noexcept nogil:
    cdef Effect x
    start(k, &x, DEADLINE, db, span(element_key(e), e.klen))
    x.deadline = deadline
    make_of_own_key(k, &x, e)


cdef void db_flush(Kernel *k, uint32_t db) noexcept nogil:
    cdef Effect x
    cdef Element *e
    cdef size_t pos = 0
    if table_count(&k.db[db].table) == 0:
        return
    start(k, &x, FLUSH, db, span(NULL, 0))
    k.seen.n = 0
    while True:
        e = table_next(&k.db[db].table, &pos)
        if e == NULL:
            break
        list_tallies(k, &x, e, 1)
    make(k, &x, NULL)
    if k.seen.cap > 1 << 20:
        buffer_free(&k.seen)


cdef int64_t reap(Kernel *k, int most) noexcept nogil:
    cdef Element *e
    cdef Entry *x
    cdef int64_t wait
    while k.heap_n and most > 0:
        x = k.heap[0].entry
        e = x.owner
        if k.heap[0].at > k.now:
            wait = k.heap[0].at - k.now
            return wait
        most -= 1
        k.expired += element_live(e)
        op_begin(k)
        key_delete(k, x.db, e)
        op_end(k)
    return 0 if k.heap_n else -1

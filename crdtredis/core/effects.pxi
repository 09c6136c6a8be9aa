# Making ops: what the command handlers call (keyspace.pxd, "local effects"). Each function encodes
# an effect into the open op and applies it with the function that remote ops go through, so a
# replica cannot do to itself what it does not tell others.
#
# The op is opened by its first effect and closed by the outermost op_end. It observes everything
# that is here, its own earlier effects included.
#
# What we encode we must accept: an op that the decoder refuses would be acknowledged, and then keep
# this replica from starting and its peers from going on. So every effect passes the check that
# received ones pass. Commands see to it that none fails: where one would, a debug build aborts, and
# a release build makes nothing of that effect and has the command answered with an error.

cdef void op_begin(Kernel *k) noexcept nogil:
    k.depth += 1
    k.began = k.changes
    k.refused = 0


cdef int op_end(Kernel *k) noexcept nogil:
    k.depth -= 1
    k.refused = 0
    if k.depth or not k.has_op:
        return 0
    k.has_op = 0
    return close_op(k)


cdef void open_op(Kernel *k) noexcept nogil:
    cdef uint64_t wall = <uint64_t>k.now << 16
    k.has_op = 1
    k.newest_stamp = wall if wall > k.newest_stamp else k.newest_stamp + 1
    k.op.slot = k.me
    k.op.seq = k.actors.v[k.me].applied + 1
    k.op.stamp = k.newest_stamp
    k.op.local = 1
    k.op.actors = &k.actors
    k.effect_count = 0
    k.effects.n = 0
    buffer_need(&k.effects, HEAD_ROOM)
    k.effects.n = HEAD_ROOM


cdef int close_op(Kernel *k) noexcept nogil:
    """Encodes the finished op behind the others, and moves the clock to it. 0 where there is none:
    its only effect was refused. Leaves k.listed alone: see close_early."""
    cdef Actor *me = &k.actors.v[k.me]
    cdef uint32_t i
    cdef size_t head, body
    cdef char *p
    cdef Run *r
    if k.effect_count == 0:
        return 0
    k.made.n = 0
    if k.deps_changed:
        for i in range(k.actors.n):
            if i != k.me and k.actors.v[i].applied > vector_get(&me.deps, <uint16_t>i):
                encode_dep(&k.made, k.actors.v[i].id, k.actors.v[i].applied)
                vector_raise(&me.deps, <uint16_t>i, k.actors.v[i].applied)
        k.deps_changed = 0
    head = number_size(k.op.seq) + 9 + k.made.n
    body = head + k.effects.n - HEAD_ROOM
    if body < LARGE_OP:
        r = run_extend(k, k.me, k.op.seq)
        p = put_op_head(k, buffer_need(&k.ops, body + 11), body)
        memcpy(p, k.effects.p + HEAD_ROOM, k.effects.n - HEAD_ROOM)
        k.ops.n = p + k.effects.n - HEAD_ROOM - k.ops.p
        r.end = k.ops.n
    else:
        r = run_begin(k, k.me, k.op.seq)
        head += 1 + varint_size(body)
        r.begin = HEAD_ROOM - head
        if head + RUN_HEAD + RECORD_HEAD > HEAD_ROOM:      # deps on many actors
            buffer_need(&k.effects, head)
            memmove(k.effects.p + HEAD_ROOM + head, k.effects.p + HEAD_ROOM,
                    k.effects.n - HEAD_ROOM)
            k.effects.n += head
            r.begin = HEAD_ROOM
        put_op_head(k, k.effects.p + r.begin, body)
        r.large = k.effects
        memset(&k.effects, 0, sizeof(Buffer))
    k.ops_size += body
    me.applied = k.op.seq
    # a giant value or transaction is no reason to keep its size for ever
    if k.effects.cap > LARGE_OP:
        buffer_free(&k.effects)
    return 1


cdef char *put_op_head(Kernel *k, char *p, size_t body) noexcept nogil:
    """Batch.Run.ops' tag and length, and what stands before the effects. The deps are in k.made."""
    p[0] = 2 << 3 | 2
    p = put_varint(p + 1, body)
    p[0] = 1 << 3
    p = put_varint(p + 1, k.op.seq)
    p[0] = 2 << 3 | 1
    p = put_fixed64(p + 1, k.op.stamp)
    copy_span(p, span(k.made.p, k.made.n))
    return p + k.made.n


cdef Run *run_extend(Kernel *k, uint16_t slot, uint64_t seq) noexcept nogil:
    """The run of the op (slot, seq), which is about to be appended to k.ops."""
    cdef Run *r = &k.runs[k.run_n - 1] if k.run_n else NULL
    if r == NULL or r.slot != slot or r.last != seq - 1 or r.large.p != NULL or r.lent.p != NULL:
        return run_begin(k, slot, seq)
    r.last = seq
    return r


cdef inline void declare(Kernel *k, uint16_t slot) noexcept nogil:
    """Has the log name an actor with the next op, unless it does already."""
    if not k.actors.v[slot].logged:
        k.actors.v[slot].logged = 1
        encode_actor(&k.declarations, &k.actors.v[slot])


cdef Run *run_begin(Kernel *k, uint16_t slot, uint64_t seq) noexcept nogil:
    """As run_extend, but a run of its own. Here an actor is declared, with its first op: one that
    makes none leaves no trace."""
    cdef Run *r
    declare(k, slot)
    if k.run_n == k.run_cap:
        k.run_cap = k.run_cap * 2 if k.run_cap else 16
        k.runs = <Run*>mem_realloc(k.runs, k.run_cap * sizeof(Run))
    r = &k.runs[k.run_n]
    k.run_n += 1
    memset(r, 0, sizeof(Run))
    r.slot = slot
    r.last = seq
    r.begin = k.ops.n
    return r


cdef Element *make(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """One effect of the open op: encoded, then applied to e, which is what stands under its key.
    Returns what apply_effect does."""
    if not may_be_made(k, x):
        return e
    encode_effect(&k.effects, x)
    k.effect_count += 1
    return apply_effect(k, &k.op, x, e)


cdef inline int may_be_made(Kernel *k, const Effect *x) noexcept nogil:
    if effect_is_sound(x, k.op.seq, k.op.stamp):
        return 1
    mem_assert_not("an effect that no replica would accept")
    k.refused = REFUSED_UNSOUND
    return 0


cdef void start(Kernel *k, Effect *x, int kind, uint32_t db, Span key) noexcept nogil:
    if op_used(k) > k.op_most:             # never: see core/sizes.pxi
        close_early(k)
        k.torn += 1
    if not k.has_op:
        open_op(k)
    memset(x, 0, sizeof(Effect))
    x.kind = kind
    x.db = db
    x.key = key


cdef void list_cell(Kernel *k, Element *e, int type, Span name, Span key) noexcept nogil:
    """Adds the live counter entries of one cell to k.listed, with the place that the kind of effect
    asks for."""
    cdef const Count *t = element_cell(e).counts if e.meta & E_CELL else NULL
    cdef ObservedCount s
    while t != NULL:
        if not is_tombstone(t):
            memset(&s, 0, sizeof(ObservedCount))
            s.actor = k.actors.v[t.actor].id
            s.run_seq = t.run_seq
            s.run_index = t.run_index
            s.seq = t.seq
            number_total(&t.total, &k.total, &s.total)
            s.type = type
            s.name = name
            s.key = key
            encode_observed(&k.listed, &s)
        t = t.next


cdef int list_key(Kernel *k, Element *e, int only, Span key, size_t most) noexcept nogil:
    """Adds the live counter entries of everything under a key, or of one type (T_NONE: all). 0 once
    k.listed is longer than `most`, where it ends."""
    cdef Collection *c = element_entry(e).collections if e.meta & E_ENTRY else NULL
    cdef Element *m
    cdef size_t pos
    if only == T_NONE or only == T_STRING:
        list_cell(k, e, T_STRING, span(NULL, 0), key)
    while c != NULL:
        if c.cells and (only == T_NONE or only == c.type):
            pos = 0
            while True:
                m = table_next(&c.table, &pos)
                if m == NULL or k.listed.n > most:
                    break
                list_cell(k, m, c.type, span(element_key(m), m.klen), key)
        c = c.next
    return k.listed.n <= most


cdef Element *prepare(Kernel *k, uint32_t db, Span key, Element *e,
                      int removes_value) noexcept nogil:
    """Begins a write to `key` that keeps its deadline: an expired or invisible remainder goes
    first; a deadline is asserted again, and so is its absence where the SET that stated it is about
    to be removed. Returns what stands under the key then."""
    cdef Effect x
    cdef int64_t deadline
    cdef uint64_t stamp
    cdef uint16_t actor
    cdef int stated
    if e == NULL:
        return NULL
    if not key_visible(k, e):
        remove_key(k, db, e, 0)
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


cdef void string_set(Kernel *k, uint32_t db, Span key, Element *e, Span value,
                     int keep_deadline) noexcept nogil:
    cdef Effect x
    # in a transaction, what is removed first cannot be an op of its own
    if not op_room(k, db, 1, key.n,
                   value.n + (removal_size(k, e) if k.depth > 1 and e != NULL and e.meta & E_ENTRY
                              else 0)):
        return
    if e != NULL and e.meta & E_ENTRY and element_entry(e).collections != NULL:
        e = replace_collections(k, db, key, e, keep_deadline)
    elif e != NULL and (keep_deadline or not key_visible(k, e)):
        e = prepare(k, db, key, e, 1)
    start(k, &x, ASSIGN, db, key)
    x.value = value
    x.keep = keep_deadline
    if e != NULL and e.meta & E_CELL:
        k.listed.n = 0
        list_cell(k, e, T_STRING, span(NULL, 0), span(NULL, 0))
        x.observed = span(k.listed.p, k.listed.n)
    make(k, &x, e)


cdef Element *replace_collections(Kernel *k, uint32_t db, Span key, Element *e,
                                  int keep_deadline) noexcept nogil:
    """A string is about to take the place of another type: all that is there goes, but for what is
    said about a deadline that is to be kept. That
    there is none is such a word, too:  A: PERSIST h, then SET h x KEEPTTL  ||  B: EXPIRE h 5,
                                        earlier  ->  no deadline."""
    cdef Effect x
    cdef int64_t deadline = 0
    cdef uint64_t stamp
    cdef uint16_t actor
    cdef int stated = stated_deadline(k, e, &deadline, &stamp,
                                      &actor) if keep_deadline and key_visible(k, e) else STATED_NOT
    remove_key(k, db, e, 0)
    e = key_find(k, db, key)
    if stated != STATED_NOT:
        start(k, &x, DEADLINE, db, key)
        x.deadline = deadline
        x.stamp = stamp
        x.actor = k.actors.v[actor].id
        make(k, &x, e)
        e = key_find(k, db, key)
    return e


cdef void string_add(Kernel *k, uint32_t db, Span key, Element *e, long double step,
                     const long double *wanted) noexcept nogil:
    cdef Effect x
    cdef char shown[EXTENDED]
    e = prepare(k, db, key, e, 0)
    start(k, &x, INCREMENT, db, key)
    set_run(k, &x, e, step, wanted, shown)
    make(k, &x, e)


cdef void set_run(Kernel *k, Effect *x, Element *e, long double step, const long double *wanted,
                  char *shown) noexcept nogil:
    """The new total of this actor's own counter entry in e (NULL: none yet): its run goes on, or a
    new one begins. `shown` is room for what must be shown where that is not the sum."""
    cdef Count *t = cell_count(element_cell(e), k.me) if e != NULL and e.meta & E_CELL else NULL
    cdef Number nothing
    if t != NULL and not is_tombstone(t):
        x.run_seq = t.run_seq
        x.run_index = t.run_index
        x.wide = t.wide
        total_after(k, &t.total, step, &x.total)
    else:
        t = NULL
        x.run_seq = k.op.seq
        x.run_index = k.effect_count
        memset(&nothing, 0, sizeof(Number))
        total_after(k, &nothing, step, &x.total)
    if wanted != NULL:
        if x.type != T_ZSET and (is_beyond(step) or is_beyond(wanted[0])):
            x.wide = 1
        set_shown(k, x, e, t, wanted[0], shown)


cdef void set_shown(Kernel *k, Effect *x, Element *e, const Count *t, long double wanted,
                    char *shown) noexcept nogil:
    """Where the sum will not be shown as `wanted`, x says that this is to be shown. t: the counter
    entry that moves to x.total, NULL: a new one."""
    cdef Count mine
    cdef Reading r = element_reading(k, e)
    memset(&mine, 0, sizeof(Count))
    if t != NULL:
        mine = t[0]
    mine.actor = k.me
    mine.run_seq = x.run_seq
    mine.run_index = x.run_index
    mine.seq = k.op.seq
    mine.wide = <uint16_t>x.wide
    mine.shown = NULL
    mine.total.more = NULL                  # t's
    number_take(&mine.total, &x.total)
    r.mine = &mine
    if not shows(&k.actors, &r, x.type == T_ZSET, wanted):
        extended_store(shown, wanted)
        x.shown = span(shown, EXTENDED)
        x.context = reading_context(&k.actors, &r)
    number_free(&mine.total)


cdef void total_after(Kernel *k, const Number *total, long double step, Total *out) noexcept nogil:
    """total + step, lying in k.total."""
    cdef Sum sum
    cdef int128 whole
    if total.more == NULL and is_whole(step):
        whole = <int128>total.whole + <int64_t>step
        out.whole = <int64_t>whole
        if whole == <int128>out.whole:
            return
    sum_zero(&sum)
    sum_add_number(&sum, total)
    sum_add_real(&sum, step)
    sum_total(&sum, &k.total, out)


cdef void key_delete(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    if not k.refused:
        remove_key(k, db, e, 1)


cdef void remove_key(Kernel *k, uint32_t db, Element *e, int refusable) noexcept nogil:
    """refusable: where it does not fit a transaction, the command is refused. It never is where the
    handler has gone beyond that."""
    cdef Effect x
    cdef uint32_t klen = e.klen
    k.listed.n = 0
    if (not list_key(k, e, T_NONE, span(NULL, 0), k.op_most)
        or not op_fits(k, db, 0, klen, k.listed.n)):
        if may_refuse(k) and refusable:
            k.refused = REFUSED_LARGE
            return
        if not op_cut(k, db, klen):
            e = shed_members(k, db, e)
            if e == NULL:
                return
            k.listed.n = 0
            list_key(k, e, T_NONE, span(NULL, 0), k.op_most)
    start(k, &x, DELETE, db, span(element_key(e), e.klen))
    x.observed = span(k.listed.p, k.listed.n)
    # The key's bytes lie in e, which apply may free: they are read from the encoded effect instead.
    make_of_own_key(k, &x, e)
    if k.listed.cap > LARGE_OP:
        buffer_free(&k.listed)


cdef void make_of_own_key(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """make() for an effect whose key lies in e."""
    cdef size_t at = k.effects.n
    cdef const char *p
    cdef Effect copy
    if not may_be_made(k, x):
        return
    encode_effect(&k.effects, x)
    k.effect_count += 1
    p = k.effects.p + at
    decode_effect(&p, k.effects.p + k.effects.n, &copy)
    apply_effect(k, &k.op, &copy, e)


cdef void key_expire(Kernel *k, uint32_t db, Element *e, int64_t deadline) noexcept nogil:
    cdef Effect x
    if not op_room(k, db, 1, e.klen if e != NULL else 0, 0):
        return
    start(k, &x, DEADLINE, db, span(element_key(e), e.klen))
    x.deadline = deadline
    make_of_own_key(k, &x, e)


cdef void db_flush(Kernel *k, uint32_t db) noexcept nogil:
    cdef Effect x
    if k.refused or table_count(&k.db[db].table) == 0:
        return
    if not list_database(k, db) or not op_fits(k, db, 0, 0, k.listed.n):
        if may_refuse(k):
            k.refused = REFUSED_LARGE
            return
        if not op_cut(k, db, 0):
            shed_keys(k, db)
            list_database(k, db)
    start(k, &x, FLUSH, db, span(NULL, 0))
    x.observed = span(k.listed.p, k.listed.n)
    make(k, &x, NULL)
    if k.listed.cap > LARGE_OP:
        buffer_free(&k.listed)


cdef Element *key_prepare(Kernel *k, uint32_t db, Span key, Element *e, int type) noexcept nogil:
    cdef Effect x
    cdef Collection *c
    cdef int other
    # A SET that a clash has hidden may be what says that there is no deadline.
    e = prepare(k, db, key, e, type != T_STRING and e != NULL and value_live(e))
    if e == NULL:
        return NULL
    for other in range(T_COUNT):
        if other == type or e == NULL:
            continue
        c = entry_collection(element_entry(e), other) if e.meta & E_ENTRY else NULL
        if (other == T_STRING and value_live(e)) or (c != NULL and c.live):
            start(k, &x, CLEAR, db, key)
            x.type = other
            k.listed.n = 0
            list_key(k, e, other, span(NULL, 0), <size_t>-1)
            x.observed = span(k.listed.p, k.listed.n)
            make(k, &x, e)
            e = key_find(k, db, key)
    return e


cdef Element *member_of(Element *e, int type, Span name, uint32_t hash) noexcept nogil:
    cdef Collection *c = entry_collection(element_entry(e),
                                          type) if e != NULL and e.meta & E_ENTRY else NULL
    return table_find(&c.table, name.p, name.n, hash) if c != NULL else NULL


cdef Element *make_member(Kernel *k, Effect *x, Element *e, Element *m, int type,
                          Span name) noexcept nogil:
    """make() for a member: lists the counter entries that an assign or a removal cancels."""
    x.type = type
    x.name = name
    if x.kind != INCREMENT and m != NULL and m.meta & E_CELL:
        k.listed.n = 0
        list_cell(k, m, T_STRING, span(NULL, 0), span(NULL, 0))
        x.observed = span(k.listed.p, k.listed.n)
    return make(k, x, e)


cdef Element *member_set(Kernel *k, uint32_t db, Span key, Element *e, int type, Span name,
                         Span value) noexcept nogil:
    cdef Effect x
    start(k, &x, ASSIGN, db, key)
    x.value = value
    return make_member(k, &x, e, member_of(e, type, name, key_hash(k, name.p, name.n)), type, name)


cdef Element *member_add(Kernel *k, uint32_t db, Span key, Element *e, int type, Span name,
                         long double step,
                         const long double *wanted) noexcept nogil:
    cdef Effect x
    cdef char shown[EXTENDED]
    cdef Element *m = member_of(e, type, name, key_hash(k, name.p, name.n))
    start(k, &x, INCREMENT, db, key)
    x.type = type
    set_run(k, &x, m, step, wanted, shown)
    return make_member(k, &x, e, m, type, name)


cdef Element *member_remove(Kernel *k, uint32_t db, Span key, Element *e, int type,
                            Span name) noexcept nogil:
    cdef Effect x
    start(k, &x, REMOVE, db, key)
    return make_member(k, &x, e, member_of(e, type, name, key_hash(k, name.p, name.n)), type, name)


cdef Element *make_element(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """make() for the list element at the position in k.position."""
    k.made.n = 0
    encode_position(&k.actors, &k.made, span(k.position.p, k.position.n), make_dot(k.me, k.op.seq))
    x.type = T_LIST
    x.name = span(k.made.p, k.made.n)
    return make(k, x, e)


cdef int list_place(Kernel *k, Collection *c, size_t index) noexcept nogil:
    """A position before the element at `index`, into k.position: 1; 0 where there is no room."""
    cdef size_t n = c.live if c != NULL else 0
    cdef size_t middle = 0, end
    cdef int later = 0
    cdef uint64_t own = make_dot(k.me, k.op.seq if k.has_op else k.actors.v[k.me].applied + 1)
    k.made.n = k.position.n = 0
    if index:
        middle = list_position(c, index - 1, &k.made).n
    if index < n:
        list_position(c, index, &k.made)
    end = k.made.n
    if 0 < index < n:
        later = later_in_run(span(k.made.p, middle), span(k.made.p + middle, end - middle),
                             list_recent(c))
    if (later < 0 and index >= 2) or (later > 0 and index + 1 < n):
        list_position(c, index - 2 if later < 0 else index + 1, &k.made)
    return between(&k.actors, span(k.made.p, middle), span(k.made.p + middle, end - middle),
                   span(k.made.p + end, k.made.n - end), list_recent(c) if c != NULL else NULL,
                   own, k.effect_count if k.has_op else 0, &k.position)


cdef Element *list_insert(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                          Span value) noexcept nogil:
    cdef Effect x
    cdef Collection *c = NULL
    if e != NULL and e.meta & E_ENTRY:
        c = entry_collection(element_entry(e), T_LIST)
    if not list_place(k, c, index):
        return NULL                        # no op has been begun for it
    start(k, &x, ASSIGN, db, key)
    x.value = value
    return make_element(k, &x, e)


cdef Element *list_remove(Kernel *k, uint32_t db, Span key, Element *e,
                          size_t index) noexcept nogil:
    cdef Effect x
    start(k, &x, REMOVE, db, key)
    k.position.n = 0
    list_position(entry_collection(element_entry(e), T_LIST), index, &k.position)
    return make_element(k, &x, e)


cdef Element *list_set(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                       Span value) noexcept nogil:
    cdef Effect x
    start(k, &x, ASSIGN, db, key)
    x.value = value
    k.position.n = 0
    list_position(entry_collection(element_entry(e), T_LIST), index, &k.position)
    return make_element(k, &x, e)


cdef int key_copy(Kernel *k, Element *e, uint32_t to_db, Span to, size_t bytes) noexcept nogil:
    cdef int type = key_type(k, e)
    cdef int64_t deadline = key_deadline(k, e)
    cdef Element *there = key_find(k, to_db, to)
    cdef Collection *c
    cdef Element *m
    cdef Span v
    cdef ListCursor at
    cdef OrderCursor place
    cdef Item *item
    cdef double score
    cdef size_t pos = 0
    cdef int more
    if there == e:
        return 1
    bytes += copy_size(k, e, to.n) + (removal_size(k, there) if there != NULL else 0)
    if not op_room(k, to_db, 0, to.n, bytes):
        return 0
    if type == T_STRING:
        v = string_view(k, e)
        string_set(k, to_db, to, there, v, 0)
    else:
        if there != NULL:
            key_delete(k, to_db, there)
        there = key_find(k, to_db, to)     # tombstones stay
        c = entry_collection(element_entry(e), type)
        more = type == T_LIST and list_seek(c, 0, &at)
        while more:
            there = list_insert(k, to_db, to, there, pos, list_value(k, &at))
            pos += 1
            more = list_next(&at)
        item = order_at(&c.order, 0, &place) if type == T_ZSET else NULL
        while item != NULL:                # in order, so that each goes to the end
            score = member_score(k, item.e)
            there = member_set(k, to_db, to, there, type, span(element_key(item.e), item.e.klen),
                               span(<const char*>&score, 8))
            item = order_next(&place)
        m = table_next(&c.table, &pos) if type == T_HASH or type == T_SET else NULL
        while m != NULL:
            if value_live(m):
                v = member_view(k, m) if type == T_HASH else span(NULL, 0)
                there = member_set(k, to_db, to, there, type, span(element_key(m), m.klen), v)
            m = table_next(&c.table, &pos)
    if deadline >= 0:
        key_expire(k, to_db, key_find(k, to_db, to), deadline)
    return 1


cdef int64_t active_expiry(Kernel *k, int most) noexcept nogil:
    cdef Element *e
    cdef Entry *x
    cdef int64_t wait
    if stamps_run_ahead(k):
        return -1
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

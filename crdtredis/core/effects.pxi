# Making effects: what the command handlers call. Each function encodes an effect into the open op
# (core/op.pxi) and applies it with the function that remote ops go through, so a replica cannot do
# to itself what it does not tell others. It observes everything that is here, the op's own earlier
# effects included.
#
# Commands name a client's database; which of its two the effect is made in is said where it begins
# (home_of), and what is called from there on names that one.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

cdef enum:
    EXPIRED_FIELDS = 100    # how many of a hash go in one op


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
        return key_in(k, db, key)
    if not e.meta & E_ENTRY and not removes_value:
        return e
    stated = stated_deadline(k, e, &deadline, &stamp, &actor)
    if stated == STATED_DEADLINE or (stated == STATED_CLEAR and removes_value):
        begin_effect(k, &x, DEADLINE, db, key)
        x.deadline = deadline
        x.stamp = stamp
        x.actor = k.actors.v[actor].id
        make(k, &x, e)
        return key_in(k, db, key)
    return e


cdef void make_string(Kernel *k, uint32_t db, Span key, Element *e, Span value,
                      int keep_deadline) noexcept nogil:
    """The effect of a SET, in place of what e (NULL: nothing) holds of a string."""
    cdef Effect x
    begin_effect(k, &x, ASSIGN, db, key)
    x.value = value
    x.keep = keep_deadline
    if e != NULL and not e.meta & E_PLAIN:
        k.scratch.listed.n = 0
        list_cell(k, e, T_STRING, span(NULL, 0), span(NULL, 0))
        x.observed = span(k.scratch.listed.p, k.scratch.listed.n)
    make(k, &x, e)


cdef void string_set(Kernel *k, uint32_t db, Span key, Element *e, Span value,
                     int keep_deadline) noexcept nogil:
    db = home_of(k, db, key, &e)
    # in a transaction, what is removed first cannot be an op of its own
    cdef size_t bytes = value.n
    if k.open.depth > 1 and e != NULL and e.meta & E_ENTRY:
        bytes += removal_size(k, e)
    if not op_room(k, db, 1, key.n, bytes):
        return
    if e != NULL and element_held(e) != NULL:
        e = replace_collections(k, db, key, e, keep_deadline)
    elif e != NULL and (keep_deadline or not key_visible(k, e)):
        e = prepare(k, db, key, e, 1)
    make_string(k, db, key, e, value, keep_deadline)


cdef int may_change(Kernel *k, Element *e) noexcept nogil:
    """Not what increments are part of, nor a HyperLogLog, and not where the key has so many patches
    that it is time for a new beginning."""
    cdef Collection *c
    if k.texts.off > 0:
        return 0
    if e == NULL or not key_visible(k, e):
        return 1
    if is_lone(e) or (e.meta & E_CELL and element_cell(e).counts != NULL):
        return 0
    c = patches_held(e)
    if c != NULL and (patched_of(c).n >= PATCHES_MOST or patched_of(c).bytes >= PATCHES_BYTES):
        return 0
    return not is_image(string_view(k, e))


cdef int string_change(Kernel *k, uint32_t db, Span key, Element *e, int appends, uint64_t first,
                       Span value, uint32_t unused) noexcept nogil:
    cdef Write *w
    cdef Effect x
    cdef uint64_t root = 0
    db = home_of(k, db, key, &e)
    if (not may_change(k, e) or value.n == 0
            or (first if appends else first >> 3) + value.n > STRING_MOST):
        return 0
    if not op_room(k, db, 1, key.n, value.n + EFFECT_ROOM):
        return 1
    e = prepare(k, db, key, e, 0)
    begin_effect(k, &x, PATCH, db, key)
    x.value = value
    x.keep = appends
    x.run_seq = first
    x.run_index = unused
    if e != NULL and e.meta & E_PLAIN:
        root = e.dot
    elif e != NULL and e.meta & E_CELL:
        w = cell_winner(&k.actors, element_cell(e))
        root = w.dot if w != NULL and not w.flags & W_LOOSE else 0
    if root:
        x.actor = k.actors.v[dot_slot(root)].id
        x.deadline = <int64_t>dot_seq(root)
    make(k, &x, e)
    return 1


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
    e = key_in(k, db, key)
    if stated != STATED_NOT:
        begin_effect(k, &x, DEADLINE, db, key)
        x.deadline = deadline
        x.stamp = stamp
        x.actor = k.actors.v[actor].id
        make(k, &x, e)
        e = key_in(k, db, key)
    return e


cdef void string_add(Kernel *k, uint32_t db, Span key, Element *e, long double step,
                     const long double *wanted) noexcept nogil:
    cdef Effect x
    cdef char shown[EXTENDED]
    db = home_of(k, db, key, &e)
    e = prepare(k, db, key, e, 0)
    begin_effect(k, &x, INCREMENT, db, key)
    set_run(k, &x, e, step, wanted, shown)
    make(k, &x, e)


cdef void set_run(Kernel *k, Effect *x, Element *e, long double step, const long double *wanted,
                  char *shown) noexcept nogil:
    """The new total of this actor's own counter entry in e (NULL: none yet): its run goes on, or a
    new one begins. `shown` is room for what must be shown where that is not the sum."""
    cdef Count *t = NULL
    cdef Number nothing
    cdef LoneRoom room
    cdef const Cell *c = cell_of(e, &room) if e != NULL else NULL
    if c != NULL:
        t = cell_count(c, k.open.op.slot)
    if t != NULL and not is_tombstone(t):
        x.run_seq = t.run_seq
        x.run_index = t.run_index
        x.wide = t.wide
        total_after(k, &t.total, step, &x.total)
    else:
        t = NULL
        x.run_seq = k.open.op.seq
        x.run_index = k.open.effect_count
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
    cdef Rare rare = t.rare[0] if t != NULL else RARE_NONE
    cdef Reading r = element_reading(k, e)
    memset(&mine, 0, sizeof(Count))
    if t != NULL:
        mine = t[0]
    rare.shown = NULL
    mine.rare = &rare
    mine.actor = k.open.op.slot
    mine.run_seq = x.run_seq
    mine.run_index = x.run_index
    mine.seq = k.open.op.seq
    mine.wide = <uint16_t>x.wide
    mine.total.more = NULL                  # t's
    number_take(&mine.total, &x.total)
    r.mine = &mine
    if not shows(&k.actors, &r, x.type == T_ZSET, wanted):
        extended_store(shown, wanted)
        x.shown = span(shown, EXTENDED)
        x.context = reading_context(&k.actors, &r)
    number_free(&mine.total)


cdef void total_after(Kernel *k, const Number *total, long double step, Total *out) noexcept nogil:
    """total + step, lying in k.scratch.total."""
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
    sum_total(&sum, &k.scratch.total, out)


cdef void key_delete(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    cdef Span key = element_name(e)
    cdef Element *hidden
    cdef uint32_t of
    if k.open.refused:
        return
    of = home_of(k, db, key, &e)
    if of == db and k.home.on and db < SYSTEM_DB:
        # what takes its place may belong at home, where an expired remainder would hide it
        hidden = home_find(k, db, key)
        if hidden != NULL:
            remove_key(k, HOME_DB + db, hidden, 1)
    elif of != db and key_visible(k, e):
        k.home.left = left_mark(k, key)
        k.home.left_db = db
    if not k.open.refused:
        remove_key(k, of, e, 1)


cdef void remove_key(Kernel *k, uint32_t db, Element *e, int refusable) noexcept nogil:
    """refusable: where it does not fit a transaction, the command is refused. It never is where the
    handler has gone beyond that."""
    cdef Effect x
    cdef uint32_t klen = element_klen(e)
    k.scratch.listed.n = 0
    if (not list_key(k, e, T_NONE, span(NULL, 0), k.open.most)
        or not op_fits(k, db, 0, klen, k.scratch.listed.n)):
        if may_refuse(k) and refusable:
            k.open.refused = REFUSED_LARGE
            return
        if not op_cut(k, db, klen):
            e = shed_members(k, db, e)
            if e == NULL:
                return
            k.scratch.listed.n = 0
            list_key(k, e, T_NONE, span(NULL, 0), k.open.most)
    begin_effect(k, &x, DELETE, db, element_name(e))
    x.observed = span(k.scratch.listed.p, k.scratch.listed.n)
    # The key's bytes lie in e, which apply may free: they are read from the encoded effect instead.
    make_of_own_key(k, &x, e)
    if k.scratch.listed.cap > LARGE_OP:
        buffer_free(&k.scratch.listed)


cdef void key_expire(Kernel *k, uint32_t db, Element *e, int64_t deadline) noexcept nogil:
    cdef Effect x
    if not op_room(k, db, 1, element_klen(e) if e != NULL else 0, 0):
        return
    db = home_of(k, db, element_name(e), &e)
    begin_effect(k, &x, DEADLINE, db, element_name(e))
    x.deadline = deadline
    make_of_own_key(k, &x, e)


cdef void db_flush(Kernel *k, uint32_t db) noexcept nogil:
    cdef Effect x
    if db < SYSTEM_DB and table_count(&k.db[HOME_DB + db].table):
        db_flush(k, HOME_DB + db)
    if k.open.refused or table_count(&k.db[db].table) == 0:
        return
    if not list_database(k, db) or not op_fits(k, db, 0, 0, k.scratch.listed.n):
        if may_refuse(k):
            k.open.refused = REFUSED_LARGE
            return
        if not op_cut(k, db, 0):
            shed_keys(k, db)
            list_database(k, db)
    begin_effect(k, &x, FLUSH, db, span(NULL, 0))
    x.observed = span(k.scratch.listed.p, k.scratch.listed.n)
    make(k, &x, NULL)
    if k.scratch.listed.cap > LARGE_OP:
        buffer_free(&k.scratch.listed)


cdef int holds_only(Element *e, int type) noexcept nogil:
    """Is surely nothing of another type under key e?"""
    cdef Collection *c = element_unpacked(e)
    if type != T_STRING and value_live(e):
        return 0
    while c != NULL and shown_as(c.type) == type:
        c = c.next
    return c == NULL and not (is_packed(e) and packed_type(e) != type)


cdef Element *key_prepare(Kernel *k, uint32_t db, Span key, Element *e, int type) noexcept nogil:
    cdef Effect x
    cdef Collection *c
    cdef int other
    db = home_of(k, db, key, &e)
    # A SET that a clash has hidden may be what says that there is no deadline.
    e = prepare(k, db, key, e, type != T_STRING and e != NULL and value_live(e))
    if e == NULL or holds_only(e, type):
        return e
    for other in range(T_COUNT):
        if shown_as(other) == type or e == NULL:
            continue
        c = element_collection(k, e, other)
        if (other == T_STRING and value_live(e)) or (c != NULL and live_members(c)):
            begin_effect(k, &x, CLEAR, db, key)
            x.type = shown_as(other)
            k.scratch.listed.n = 0
            list_key(k, e, x.type, span(NULL, 0), <size_t>-1)
            x.observed = span(k.scratch.listed.p, k.scratch.listed.n)
            make(k, &x, e)
            e = key_in(k, db, key)
    return e


cdef Element *written_member(Kernel *k, Element *e, int type, Span name) noexcept nogil:
    """What an assign or a removal may have to list; of a packed key, nothing."""
    if e == NULL or is_packed(e):
        return NULL
    return member_of(k, e, type, name, key_hash(k, name.p, name.n))


cdef Element *member_of(Kernel *k, Element *e, int type, Span name, uint32_t hash) noexcept nogil:
    cdef Collection *c = element_collection(k, e, type) if e != NULL else NULL
    return table_find(&c.table, name.p, name.n, hash) if c != NULL else NULL


cdef Element *make_member(Kernel *k, Effect *x, Element *e, Element *m, int type,
                          Span name) noexcept nogil:
    """make() for a member: lists the counter entries that an assign or a removal cancels."""
    x.type = type
    x.name = name
    if x.kind != INCREMENT and m != NULL and not m.meta & E_PLAIN:
        k.scratch.listed.n = 0
        list_cell(k, m, T_STRING, span(NULL, 0), span(NULL, 0))
        x.observed = span(k.scratch.listed.p, k.scratch.listed.n)
    return make(k, x, e)


cdef Element *member_set(Kernel *k, uint32_t db, Span key, Element *e, int type, Span name,
                         Span value) noexcept nogil:
    cdef Effect x
    db = home_of(k, db, key, &e)
    begin_effect(k, &x, ASSIGN, db, key)
    x.value = value
    return make_member(k, &x, e, written_member(k, e, type, name), type, name)


cdef Element *make_field_deadline(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                                  int64_t deadline, uint64_t stamp,
                                  uint16_t actor) noexcept nogil:
    """stamp 0: set now; else asserted again, as it was set then by this actor."""
    cdef Effect x
    begin_effect(k, &x, DEADLINE, db, key)
    x.type = T_HASH
    x.name = name
    x.deadline = deadline
    x.stamp = stamp
    x.actor = k.actors.v[actor].id if stamp else 0
    return make(k, &x, e)


cdef Element *prepare_field(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                            int removes_value) noexcept nogil:
    """As `prepare`, for a field. Where none has ever had a deadline, only a write that removes what
    says that there is none has anything to assert."""
    cdef uint32_t hash = key_hash(k, name.p, name.n)
    cdef Collection *c = element_collection(k, e, T_DEADLINES) if e != NULL else NULL
    cdef Element *d = table_find(&c.table, name.p, name.n, hash) if c != NULL else NULL
    cdef Element *m = member_of(k, e, T_HASH, name, hash)
    cdef int live = m != NULL and value_live(m)
    cdef Effect x
    cdef int64_t deadline
    cdef uint64_t stamp = 0
    cdef uint16_t actor = 0
    cdef int stated
    if d != NULL and (not live or field_lapsed(k, element_collection(k, e, T_HASH), m)):
        begin_effect(k, &x, REMOVE, db, key)
        return make_member(k, &x, e, m, T_HASH, name)
    if not live or (d == NULL and not removes_value):
        return e
    stated = field_stated(k, m, d, &deadline, &stamp, &actor)
    if stated == STATED_DEADLINE or (stated == STATED_CLEAR and removes_value):
        return make_field_deadline(k, db, key, e, name, deadline, stamp, actor)
    return e


cdef Element *field_keep(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                         Span value) noexcept nogil:
    cdef Effect x
    db = home_of(k, db, key, &e)
    e = prepare_field(k, db, key, e, name, 1)
    begin_effect(k, &x, ASSIGN, db, key)
    x.value = value
    x.keep = 1
    return make_member(k, &x, e, member_of(k, e, T_HASH, name, key_hash(k, name.p, name.n)), T_HASH,
                       name)


cdef Element *field_expire(Kernel *k, uint32_t db, Span key, Element *e, Span name,
                           int64_t deadline) noexcept nogil:
    db = home_of(k, db, key, &e)
    return make_field_deadline(k, db, key, e, name, deadline, 0, 0)


cdef Element *member_add(Kernel *k, uint32_t db, Span key, Element *e, int type, Span name,
                         long double step,
                         const long double *wanted) noexcept nogil:
    cdef Effect x
    cdef char shown[EXTENDED]
    cdef Element *m
    db = home_of(k, db, key, &e)
    if type == T_HASH:
        e = prepare_field(k, db, key, e, name, 0)
    m = member_of(k, e, type, name, key_hash(k, name.p, name.n))
    begin_effect(k, &x, INCREMENT, db, key)
    x.type = type
    set_run(k, &x, m, step, wanted, shown)
    return make_member(k, &x, e, m, type, name)


cdef Element *member_remove(Kernel *k, uint32_t db, Span key, Element *e, int type,
                            Span name) noexcept nogil:
    cdef Effect x
    db = home_of(k, db, key, &e)
    begin_effect(k, &x, REMOVE, db, key)
    return make_member(k, &x, e, written_member(k, e, type, name), type, name)


cdef Element *make_element(Kernel *k, Effect *x, Element *e) noexcept nogil:
    """make() for the list element at the position in k.scratch.position."""
    k.scratch.made.n = 0
    encode_position(&k.actors, &k.scratch.made,
                    span(k.scratch.position.p, k.scratch.position.n),
                    make_dot(k.open.op.slot, k.open.op.seq),
                    k.open.effect_count if is_compact(k) else -1)
    x.type = T_LIST
    x.name = span(k.scratch.made.p, k.scratch.made.n)
    return make(k, x, e)


cdef Element *make_element_at(Kernel *k, Effect *x, Element *e, size_t index) noexcept nogil:
    cdef size_t views = k.packing.views.n
    k.scratch.position.n = 0
    list_position(element_view(k, e, T_LIST), index, &k.scratch.position)
    k.packing.views.n = views
    return make_element(k, x, e)


cdef int list_place(Kernel *k, Collection *c, size_t index) noexcept nogil:
    """A position before the element at `index`, into k.scratch.position: 1; 0 where there is no
    room."""
    cdef OpenOp *op = &k.open
    cdef Buffer *b = &k.scratch.made
    cdef size_t n = c.live if c != NULL else 0
    cdef size_t middle = 0, end
    cdef int later = 0
    cdef uint16_t slot = op_slot(k)
    cdef uint64_t own = make_dot(slot, op.op.seq if op.has_op else k.actors.v[slot].applied + 1)
    b.n = k.scratch.position.n = 0
    if index:
        middle = list_position(c, index - 1, b).n
    if index < n:
        list_position(c, index, b)
    end = b.n
    if 0 < index < n:
        later = later_in_run(span(b.p, middle), span(b.p + middle, end - middle), list_recent(c))
    if (later < 0 and index >= 2) or (later > 0 and index + 1 < n):
        list_position(c, index - 2 if later < 0 else index + 1, b)
    return between(&k.actors, span(b.p, middle), span(b.p + middle, end - middle),
                   span(b.p + end, b.n - end), list_recent(c) if c != NULL else NULL,
                   own, op.effect_count if op.has_op else 0, &k.scratch.position)


cdef Element *list_insert(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                          Span value) noexcept nogil:
    cdef Effect x
    cdef size_t views = k.packing.views.n
    cdef int placed
    db = home_of(k, db, key, &e)
    turn_to(k, db >= HOME_DB)
    placed = list_place(k, element_view(k, e, T_LIST) if e != NULL else NULL, index)
    k.packing.views.n = views
    if not placed:
        return NULL                        # no op has been begun for it
    begin_effect(k, &x, ASSIGN, db, key)
    x.value = value
    return make_element(k, &x, e)


cdef Element *list_remove(Kernel *k, uint32_t db, Span key, Element *e,
                          size_t index) noexcept nogil:
    cdef Effect x
    db = home_of(k, db, key, &e)
    begin_effect(k, &x, REMOVE, db, key)
    return make_element_at(k, &x, e, index)


cdef Element *list_set(Kernel *k, uint32_t db, Span key, Element *e, size_t index,
                       Span value) noexcept nogil:
    cdef Effect x
    db = home_of(k, db, key, &e)
    begin_effect(k, &x, ASSIGN, db, key)
    x.value = value
    return make_element_at(k, &x, e, index)


# ---- streams -------------------------------------------------------------------------------------

cdef Element *stream_add(Kernel *k, uint32_t db, Span key, Element *e, StreamId id,
                         Span fields) noexcept nogil:
    cdef Effect x
    cdef char name[16]
    cdef Collection *c
    db = home_of(k, db, key, &e)
    put_id(name, id)
    begin_effect(k, &x, ASSIGN, db, key)
    x.type = T_STREAM
    x.name = span(name, STREAM_ID)
    x.value = fields
    c = element_collection(k, e, T_STREAM) if e != NULL else NULL
    set_run(k, &x, head_member(c, HEAD_ADDED) if c != NULL else NULL, 1, NULL, NULL)
    return make(k, &x, e)


cdef Element *stream_remove(Kernel *k, uint32_t db, Span key, Element *e, const StreamId *ids,
                            size_t n) noexcept nogil:
    cdef StreamId last = stream_max_deleted(element_collection(k, e, T_STREAM))
    cdef char name[16]
    cdef size_t i
    for i in range(n):
        if id_below(last, ids[i]):
            last = ids[i]
        put_id(name, ids[i])
        e = member_remove(k, db, key, e, T_STREAM, span(name, STREAM_ID))
    put_id(name, last)
    return set_head(k, db, key, e, HEAD_DELETED, span(name, STREAM_ID))


cdef Element *set_head(Kernel *k, uint32_t db, Span key, Element *e, char name,
                       Span value) noexcept nogil:
    return member_set(k, db, key, e, T_STREAM_HEAD, span(&name, 1), value)


cdef Element *stream_trim(Kernel *k, uint32_t db, Span key, Element *e,
                          StreamId last) noexcept nogil:
    cdef Effect x
    cdef char name[16]
    db = home_of(k, db, key, &e)
    put_id(name, last)
    begin_effect(k, &x, REMOVE, db, key)
    x.type = T_STREAM
    x.name = span(name, STREAM_ID)
    x.keep = 1
    return make(k, &x, e)


cdef Element *stream_set_id(Kernel *k, uint32_t db, Span key, Element *e, StreamId top,
                            int64_t added, StreamId max_deleted) noexcept nogil:
    cdef char name[16]
    cdef char number[24]
    put_id(name, top)
    e = set_head(k, db, key, e, HEAD_TOP, span(name, STREAM_ID))
    if added >= 0:
        e = set_head(k, db, key, e, HEAD_ADDED, span(number, format_int64(added, number)))
    if max_deleted.ms or max_deleted.seq:
        put_id(name, max_deleted)
        e = set_head(k, db, key, e, HEAD_DELETED, span(name, STREAM_ID))
    return e


cdef Element *put_shown(Kernel *k, uint32_t db, Span key, Element *e, int type, size_t i, Span name,
                        Span value) noexcept nogil:
    if type == T_STRING:
        string_set(k, db, key, e, value, 0)
        return NULL
    if type == T_LIST:
        return list_insert(k, db, key, e, i, value)
    return member_set(k, db, key, e, type, name, value)


cdef int key_copy(Kernel *k, Element *e, uint32_t to_db, Span to, size_t bytes) noexcept nogil:
    cdef int64_t deadline = key_deadline(k, e), due
    cdef Element *there = key_find(k, to_db, to)
    cdef Buffer groups
    cdef Walk w
    cdef size_t i = 0
    memset(&groups, 0, sizeof(Buffer))
    if there == e:
        return 1
    bytes += copy_size(k, e, to.n) + (removal_size(k, there) if there != NULL else 0)
    if not op_room(k, to_db, 0, to.n, bytes):
        return 0
    if there != NULL and key_type(k, e) != T_STRING:
        key_delete(k, to_db, there)
        there = key_find(k, to_db, to)     # tombstones stay
    walk_shown(&w, k, e, WALK_FORWARDS)
    while walk_next(&w):
        there = put_shown(k, to_db, to, there, w.type, i, w.name, walk_value(k, &w))
        i += 1
        due = walk_deadline(k, &w)
        if due >= 0:
            there = field_expire(k, to_db, to, there, w.name, due)
    if w.type == T_STREAM:
        there = put_head(k, to_db, to, there, w.c)
        groups_carry(k, w.c, &groups)
        there = groups_put(k, to_db, to, there, span(groups.p, groups.n))
        groups.n = 0
        produced_carry(k, w.c, &groups)
        there = produced_load(k, to_db, to, there, span(groups.p, groups.n))
        buffer_free(&groups)
    if deadline >= 0:
        key_expire(k, to_db, key_find(k, to_db, to), deadline)
    return 1


cdef Element *put_head(Kernel *k, uint32_t db, Span key, Element *e,
                       Collection *stream) noexcept nogil:
    """What a copy knows beside its entries is what the stream knows."""
    return stream_set_id(k, db, key, e, stream_top(stream),
                         <int64_t>stream_added(k, stream), stream_max_deleted(stream))


cdef int64_t active_expiry(Kernel *k, int most) noexcept nogil:
    cdef Element *e
    cdef HeapItem first
    if stamps_run_ahead(k) or k.joining:
        return -1
    while k.deadlines.n and most > 0:
        first = k.deadlines.heap[0]
        e = item_owner(&first)
        if first.at > k.now:
            return first.at - k.now
        most -= 1
        op_begin(k)
        if is_joint(e) or key_due(k, element_entry(e)) <= k.now:
            k.expired += element_live(e)
            remove_key(k, item_db(&first), e, 0)
        else:
            most -= expire_fields(k, item_db(&first), e)
        op_end(k)
    return 0 if k.deadlines.n else -1


cdef void gather_register(void *arg, Element *d) noexcept nogil:
    """A TableVisit."""
    buffer_add(<Buffer*>arg, &d, sizeof(Element*))


cdef int gather_lapsed(Kernel *k, Collection *c, Buffer *found) noexcept nogil:
    """Fields that are due, the first few: 1; else deadlines whose fields have gone, in a few
    buckets: 0. One that lies in the grace for whoever set its deadline stays, and so do those
    behind it."""
    cdef Fields *fields = fields_of(c)
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), 0, &at)
    cdef Element **seen
    cdef size_t i, n
    cdef int buckets = EXPIRED_FIELDS
    while (item != NULL and field_due(k, c, item.e) <= k.now
           and found.n < EXPIRED_FIELDS * sizeof(Element*)):
        gather_register(found, item.e)
        item = order_next(&at)
    if found.n:
        return 1
    while found.n == 0 and fields.tidy_at and fields.tidy_at <= k.now and buckets:
        buckets -= 1
        fields.cursor = table_scan(&c.table, fields.cursor, gather_register, found)
        seen = <Element**>found.p
        n = 0
        for i in range(found.n // sizeof(Element*)):
            if field_of(c, seen[i]) == NULL or not value_live(field_of(c, seen[i])):
                seen[n] = seen[i]
                n += 1
        found.n = n * sizeof(Element*)
        if fields.cursor == 0:
            fields.tidy_at = fields.again_at
            fields.again_at = 0
    return 0


cdef int expire_fields(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    """Removes some fields whose deadline has passed, and with the last one the key's deadline;
    returns how many."""
    cdef Collection *c = element_collection(k, e, T_DEADLINES)
    cdef Buffer found, key, names
    cdef Entry *x = element_entry(e)
    cdef Element *d
    cdef Span name
    cdef size_t i, at = 0
    cdef int lapsed
    memset(&found, 0, sizeof(Buffer))
    memset(&key, 0, sizeof(Buffer))
    memset(&names, 0, sizeof(Buffer))
    buffer_add(&key, element_key(e), element_klen(e))
    lapsed = gather_lapsed(k, c, &found)
    for i in range(found.n // sizeof(Element*)):
        d = (<Element**>found.p)[i]
        name = element_name(d)
        buffer_add(&names, &name.n, sizeof(size_t))
        buffer_add(&names, name.p, name.n)
    heap_place(k, x)                       # where there was nothing to remove
    while at < names.n and e != NULL and op_used(k) <= OP_PIECE:
        memcpy(&name.n, names.p + at, sizeof(size_t))
        name.p = names.p + at + sizeof(size_t)
        at += sizeof(size_t) + name.n
        e = member_remove(k, db, span(key.p, key.n), e, T_HASH, name)
        k.expired_fields += lapsed
    if e != NULL and at < names.n and not lapsed:           # the op is full
        tidy_later(element_collection(k, e, T_DEADLINES), k.now)
        heap_place(k, element_entry(e))
    if e != NULL and not element_live(e) and e.meta & E_ENTRY and key_deadline(k, e) >= 0:
        remove_key(k, db, e, 0)
    i = found.n // sizeof(Element*)
    buffer_free(&found)
    buffer_free(&key)
    buffer_free(&names)
    return <int>i


# ---- removals too large for one op ---------------------------------------------------------------

cdef void gather_listed(Table *t, Buffer *to) noexcept nogil:
    """Appends the members that have live counter entries."""
    cdef size_t pos = 0
    cdef Element *m = table_next(t, &pos)
    while m != NULL:
        if is_lone(m) or (m.meta & E_CELL and cell_live(element_cell(m))
                          and element_cell(m).counts != NULL):
            buffer_add(to, &m, sizeof(Element*))
        m = table_next(t, &pos)


cdef Element *shed_members(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    """Removes the members of a key that have counter entries one by one, in as many ops as that
    takes. Returns what stands under it then."""
    cdef Buffer key, name, members
    cdef Collection *c
    cdef Element *m
    cdef size_t i
    cdef int type
    memset(&key, 0, sizeof(Buffer))
    memset(&name, 0, sizeof(Buffer))
    memset(&members, 0, sizeof(Buffer))
    buffer_add(&key, element_key(e), element_klen(e))
    for type in range(T_COUNT):
        c = element_collection(k, e, type) if e != NULL else NULL
        members.n = 0
        if c != NULL and c.cells:
            gather_listed(&c.table, &members)
        for i in range(members.n // sizeof(Element*)):
            m = (<Element**>members.p)[i]
            name.n = 0
            buffer_add(&name, element_key(m), element_klen(m))
            if op_used(k) > OP_PIECE or not op_fits(k, db, 1, key.n, name.n):
                close_early(k)
            e = member_remove(k, db, span(key.p, key.n), e, type, span(name.p, name.n))
    close_early(k)
    buffer_free(&key)
    buffer_free(&name)
    buffer_free(&members)
    return e


cdef void shed_keys(Kernel *k, uint32_t db) noexcept nogil:
    """Deletes the keys of a database that have counter entries one by one, in as many ops as that
    takes."""
    cdef Buffer keys
    cdef Element *e
    cdef size_t pos = 0, i
    memset(&keys, 0, sizeof(Buffer))
    e = table_next(&k.db[db].table, &pos)
    while e != NULL:
        k.scratch.listed.n = 0
        if not list_key(k, e, T_NONE, span(NULL, 0), 0):
            buffer_add(&keys, &e, sizeof(Element*))
        e = table_next(&k.db[db].table, &pos)
    for i in range(keys.n // sizeof(Element*)):
        if op_used(k) > OP_PIECE:
            close_early(k)
        remove_key(k, db, (<Element**>keys.p)[i], 0)
    close_early(k)
    buffer_free(&keys)

# Applying effects: what an op, made here or received, does to the state.
#
# Every apply_* is a function of the op and the state alone: no clock on the wall, no chance. Each
# is given the element under the key, or NULL. Replicas apply concurrent ops in different orders and
# must come out equal; that rests on the cell (core/cell.pxi), whose writes and counter entries
# change only by what an op observed or is itself. Everything above the cell is derived: a
# collection is its members, a key is there as long as anything under it is live, the order index
# follows the scores.
#
#     A: SREM s a  (observes the add of a)   ||   B: SADD s a
#     A applies B's add after its removal:  a, under B's dot.
#     B applies A's removal: it does not observe B's dot  ->  a stays
#
# Applied twice, an effect changes nothing the second time where its op is known (receive drops it);
# a full state is never needed for that. Removing a collection of which everything is observed and
# plain costs O(1): its members are freed later. That a remote op has observed everything is told by
# its version vector, so no member is looked at.

from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport Span, copy_span, span

# of Kernel.system_changes, whose upper half counts those of users
cdef uint64_t USERS_CHANGE = <uint64_t>1 << 32

# ---- collections ---------------------------------------------------------------------------------

cdef void collection_remove(Kernel *k, const Applying *op, Collection *c,
                            Span counts) noexcept nogil:
    """Removes what op observed of a whole collection. `counts` lists the counter entries it
    observed, by type and name."""
    cdef const char *p = counts.p
    cdef ObservedCount s
    cdef Table old
    cdef Element *m
    cdef uint16_t slot
    cdef size_t pos = 0, none
    cdef int live
    if c.cells == 0 and collection_size(c) > SMALL_COLLECTION and all_observed(op, c):
        discard(k, c)
        return
    if types[c.type].remove != NULL:
        types[c.type].remove(op, c)
        return
    if c.type == T_STREAM:
        remove_up_to(k, op, c, NULL)
        return
    if has_order(c):
        order_free(order_of(c))
    if c.type == T_GROUPS:
        order_free(&groups_data(c).by_owner)
        order_free(&groups_data(c).by_time)
        order_free(&groups_data(c).produced)
    if c.cells:
        while decode_observed(&p, counts.p + counts.n, &s) == 1:
            slot = actors_find(&k.actors, s.actor)
            m = NULL
            if s.type == c.type and slot != NO_SLOT:
                m = table_find(&c.table, s.name.p, s.name.n, key_hash(k, s.name.p, s.name.n))
            if m != NULL and not m.meta & E_PLAIN:
                m = open_cell(k, &c.table, m)
                live = value_live(m)
                cell_cancel_one(element_cell(m), op, slot, &s)
                c.live += value_live(m) - live
    old = c.table
    table_init(&c.table)
    c.cells = c.tombstones = 0
    while True:
        m = table_next(&old, &pos)
        if m == NULL:
            break
        if m.meta & E_PLAIN and observed(op, m.dot):
            live_of(c, &none)[0] -= 1
            element_free(m)
            continue
        table_add(&c.table, m, m.hash)
        if m.meta & E_CELL:
            live = value_live(m)
            cell_remove_writes(element_cell(m), op)
            reencode(k, &c.table, live_of(c, &none), m, live)
    table_clear(&old, NULL, NULL)
    pos = 0
    while True:
        m = table_next(&c.table, &pos)
        if m == NULL:
            break
        count_member(c, m)
        if is_sorted(c) and value_live(m):
            order_insert(order_of(c), member_sort_key(k, c, m), m)
            if types[c.type].ordered != NULL:
                types[c.type].ordered(k, c, m, 1)
    if c.type == T_GROUPS:
        groups_removed(k, op, c)


# ---- applying effects ----------------------------------------------------------------------------

# The effects on one cell, wherever it is: the string of a key, or a member of a collection. t is
# the table it is in, `live` its count of live elements, name its key there, e what stands there or
# NULL.


cdef Element *assign_in(Kernel *k, const Applying *op, const Effect *x, Table *t, size_t *live,
                        Span name, uint32_t hash, Element *e,
                        uint32_t flags) noexcept nogil:
    """value := x.value. Removes the writes and cancels the counter entries that op observed, adds
    its own write; returns what stands there then. Any two such effects commute: each removes only
    what it had observed, and neither had observed the other unless it is applied after it."""
    cdef uint64_t dot = make_dot(op.slot, op.seq)
    cdef Cell *c
    cdef Span v
    cdef int was_live
    if e == NULL:
        e = element_new(k, name, hash, flags, x.value.n)
        copy_span(element_value(e), x.value)
        e.dot = dot
        element_put_stamp(e, op.stamp)
        table_add(t, e, hash)
        live[0] += 1
        return e
    if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN and observed(op, e.dot):
        e = element_assign(k, t, e, flags, x.value)
        e.dot = dot
        element_put_stamp(e, op.stamp)
        return e
    was_live = element_live(e)
    e = open_cell(k, t, e)
    c = element_cell(e)
    cell_remove_writes(c, op)
    cell_cancel(c, op, x.observed)
    cell_add_write(c, dot, op.stamp, op.slot, W_CLEARS if flags & E_CLEARS else 0, x.value)
    # two writes of a set's member say the same, and HyperLogLogs are merged
    if (c.writes.next != NULL and x.type != T_SET
            and x.type != T_STREAM_HEAD and x.type != T_GROUPS
            and not (x.type == T_STRING and images_shown(c, &k.scratch.image, &v))):
        note_conflict(k, x, c)
    return reencode(k, t, live, e, was_live)


cdef Element *increment_in(Kernel *k, const Applying *op, const Effect *x, Table *t, size_t *live,
                           Span name, uint32_t hash,
                           Element *e) noexcept nogil:
    cdef uint64_t dot = make_dot(op.slot, op.seq)
    cdef int was_live = 0
    cdef int is_small = (x.total.fraction.n == 0 and x.total.exact.n == 0 and x.shown.n == 0
                         and not x.wide and x.run_index <= 0xffff)
    cdef uint32_t member = 0 if x.type == T_STRING else E_MEMBER
    cdef Lone lone = lone_new(dot, x.run_seq, x.run_index, x.total.whole)
    cdef Lone before
    if e == NULL and is_small:
        e = element_new(k, name, hash, member | lone_flags(lone), 0)
        lone_put(e, lone)
        table_add(t, e, hash)
        op.counted.entries += 1
        live[0] += 1
        return e
    if e != NULL and is_small and is_lone(e):
        before = lone_of(e)
        if dot_slot(before.dot) == op.slot and before.run == lone.run:
            # its increments arrive in the order in which they were made, or again
            if dot >= before.dot:
                if lone_flags(lone) & ~e.meta:
                    e = element_convert(k, t, e, e.meta & 0xff | E_WIDE, span(NULL, 0))
                lone_put(e, lone)
            return e
    if e == NULL:
        e = element_new(k, name, hash, member | E_CELL, 0)
        table_add(t, e, hash)
    else:
        was_live = element_live(e)
        e = open_cell(k, t, e)
    cell_increment(element_cell(e), op, x)
    live[0] += element_live(e) - was_live
    return e


cdef Element *remove_in(Kernel *k, const Applying *op, const Effect *x, Table *t, size_t *live,
                        Element *e) noexcept nogil:
    """Returns what is left, or NULL."""
    cdef int was_live
    if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN:
        if not observed(op, e.dot):
            return e
        live[0] -= 1
        table_remove(t, e)
        element_free(e)
        return NULL
    was_live = element_live(e)
    e = open_cell(k, t, e)
    cell_remove_writes(element_cell(e), op)
    cell_cancel(element_cell(e), op, x.observed)
    return reencode(k, t, live, e, was_live)


cdef void change_member(Kernel *k, const Applying *op, const Effect *x, Collection *c, Element *m,
                        uint32_t hash) noexcept nogil:
    """m: what stands in c under x.name, or NULL, where x removes nothing. Whether the key is still
    there is for the caller to see."""
    unindex(k, c, m)
    if x.kind == ASSIGN:
        m = assign_in(k, op, x, &c.table, &c.live, x.name, hash, m, E_MEMBER | E_PLAIN | (
                      E_BARE if x.type == T_SET else E_KEEPS if x.type == T_HASH and x.keep else 0))
        note_written(op, c)
    elif x.kind == INCREMENT:
        m = increment_in(k, op, x, &c.table, &c.live, x.name, hash, m)
    else:
        m = remove_in(k, op, x, &c.table, &c.live, m)
    if x.type == T_HASH and x.kind != INCREMENT and not x.keep:
        register_remove(k, op, deadlines_of(c), x.name, hash)
    reindex_member(k, c, x.name, hash, m)


cdef Element *apply_to_member(Kernel *k, const Applying *op, const Effect *x,
                              Element *e) noexcept nogil:
    """ASSIGN, INCREMENT and REMOVE of a member. The member's cell follows the rules of every cell,
    and a collection is no more than its members, so nothing new is to be argued; a key is there as
    long as any member is. What removes a field's content removes its deadline, too, as far as op
    had observed that."""
    cdef Database *d = &k.db[x.db]
    cdef Span name = x.name
    cdef uint32_t hash = key_hash(k, name.p, name.n)
    cdef Collection *c = NULL
    cdef Element *m = NULL
    cdef int was_live
    if e == NULL:
        if x.kind == REMOVE:
            return NULL
        e = key_new(k, &d.table, x.key)
    if is_packed(e) and packed_write(k, op, x, e):
        return e
    was_live = element_live(e)
    if x.kind == REMOVE:
        c = element_collection(k, e, x.type)
        m = table_find(&c.table, name.p, name.n, hash) if c != NULL else NULL
        if m == NULL:
            if x.type == T_HASH:
                register_remove(k, op, element_collection(k, e, T_DEADLINES), name, hash)
                return reencode(k, &d.table, &d.live, e, was_live)
            return e
    else:
        e = open_collections(k, x.db, e)
        if x.type == T_STREAM_HEAD or x.type == T_GROUPS:
            collection_open(k, e, T_STREAM)
        c = collection_open(k, e, x.type)
        m = table_find(&c.table, name.p, name.n, hash)
    change_member(k, op, x, c, m, hash)
    return reencode(k, &d.table, &d.live, e, was_live)


cdef void mark_added(Kernel *k, const Applying *op, Collection *groups, StreamId id) noexcept nogil:
    """op has added an entry behind what it said of groups: of them none has given it out, nor
    begun behind it."""
    cdef char letter = G_GROUP
    cdef uint64_t me = k.actors.v[op.slot].id
    cdef OrderCursor at
    cdef Buffer value
    cdef Element *g
    cdef Marks m
    cdef Mark x
    cdef Said w
    cdef size_t rank, i
    x.actor = me
    x.seq = op.seq
    x.id = id
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    g = first_from(groups, span(&letter, 1), &rank, &at)
    while g != NULL and element_key(g)[0] == G_GROUP:
        i = 0
        while nth_write(g, i, &w):
            i += 1
            if not marks_decode(w.value, &m):
                continue
            if is_behind(&m, &x) and m.stamp == op.stamp and m.actor == me:
                m.start = id_down(id)
            elif is_behind(&m, &x) or not is_given_out(&m, &x):
                continue
            if is_given_out(&m, &x):
                mark_put(&m.odd, &x)
            marks_encode(&m, &value)
            g = write_change(k, groups, g, w.dot, content(&value))
        rank += 1
        g = order_at(order_of(groups), rank, &at).e if rank < order_of(groups).n else NULL
    buffer_free(&value)
    marks_free(&m)


cdef void record_returns(Kernel *k, Collection *c, StreamId id) noexcept nogil:
    """An entry comes to an id where none was: whose it is to give out now, if it is pending, no
    place knows."""
    cdef size_t i = 0
    cdef Element *group = nth_group(c, i) if groups_data(c).timed else NULL
    while group != NULL:
        if is_pending(c, name_group(group), id):
            forget_places(c)
            return
        i += 1
        group = nth_group(c, i)


cdef Element *apply_to_head(Kernel *k, const Applying *op, const Effect *x, Element *e,
                            Collection *c) noexcept nogil:
    """c: the stream, whose key stays as it is, for there are entries; or NULL."""
    cdef Element *m = head_member(c, x.name.p[0]) if c != NULL else NULL
    if m == NULL:
        return apply_to_member(k, op, x, e)
    change_member(k, op, x, head_of(c), m, m.hash)
    return e


cdef Element *apply_to_stream(Kernel *k, const Applying *op, const Effect *x,
                              Element *e) noexcept nogil:
    """Effects on entries. What adds one assigns to the top, too, and may count: those are effects
    on cells of the head."""
    cdef uint32_t hash = key_hash(k, x.name.p, x.name.n)
    cdef Collection *c = element_collection(k, e, T_STREAM) if e != NULL else NULL
    cdef Element *m = NULL
    cdef int there
    cdef int stays = x.kind == ASSIGN and c != NULL and c.live  # the key, before and after
    cdef Collection *groups = groups_of(c) if c != NULL else NULL
    cdef char name
    cdef Effect y
    if c != NULL:
        m = (entry_under(k, c, x.name, hash) if x.kind == ASSIGN
             else table_find(&c.table, x.name.p, x.name.n, hash))
    there = m != NULL
    if x.kind == REMOVE and x.keep:
        e = apply_trim(k, op, x, e)
    else:
        if x.kind == REMOVE or there:
            groups_cut(k, op, groups, id_of(x.name.p), id_of(x.name.p))
        if x.kind == REMOVE and m == NULL and c != NULL:
            e = remove_sealed(k, op, x, e, c)
        elif stays:
            change_member(k, op, x, c, m, hash)
        else:
            e = apply_to_member(k, op, x, e)
    if not stays:
        c = element_collection(k, e, T_STREAM) if e != NULL else NULL
    if groups != NULL and there and c != NULL and table_find(&c.table, x.name.p, x.name.n,
                                                             hash) != NULL:
        forget_places(groups)
    if x.kind == REMOVE:
        if c != NULL and not k.inbox.recovering:
            forget_late(k, c)
        return e
    if groups != NULL and groups_data(groups).said_by == make_dot(op.slot, op.seq):
        mark_added(k, op, groups, id_of(x.name.p))
    if groups != NULL and not there and not id_below(stream_of(c).newest, id_of(x.name.p)):
        record_returns(k, groups, id_of(x.name.p))
    if not there:
        stream_arrived(k, c, x.key, x.name, hash, op.local)
    memset(&y, 0, sizeof(Effect))
    y.kind = ASSIGN
    y.type = T_STREAM_HEAD
    y.db = x.db
    y.key = x.key
    y.name = span(&name, 1)
    name = HEAD_TOP
    y.value = x.name
    e = apply_to_head(k, op, &y, e, c if stays else NULL)
    if x.run_seq:
        name = HEAD_ADDED
        y.kind = INCREMENT
        y.value = span(NULL, 0)
        y.run_seq = x.run_seq
        y.run_index = x.run_index
        y.total = x.total
        e = apply_to_head(k, op, &y, e, c if stays else NULL)
    if not there:
        seal_behind(k, c, id_of(x.name.p))
    return e


cdef uint64_t observed_in(const Applying *op, const Sealed *b, uint32_t from_,
                          uint32_t to) noexcept nogil:
    """Of its entries between these places those that op observed."""
    cdef uint64_t found = 0
    cdef uint32_t i
    for i in range(from_, to):
        if op.local or observed(op, sealed_dot(b, i)):
            found |= <uint64_t>1 << i
    return found


cdef Element *remove_sealed(Kernel *k, const Applying *op, const Effect *x, Element *e,
                            Collection *c) noexcept nogil:
    """An entry that does not stand by itself, if it is there."""
    cdef Database *d = &k.db[x.db]
    cdef StreamId id = id_of(x.name.p)
    cdef int was_live = element_live(e)
    cdef OrderCursor at
    cdef Item *item
    cdef size_t rank
    rank = entry_seek(c, id, &at, &item)
    if item == NULL or not sealed_n(item.e) or not is_at(item, &at, id):
        return e
    sealed_cut(k, c, rank - at.within, sealed_of(item.e),
              observed_in(op, sealed_of(item.e), at.within, at.within + 1))
    return reencode(k, &d.table, &d.live, e, was_live)


cdef size_t remove_up_to(Kernel *k, const Applying *op, Collection *c,
                         const StreamId *last) noexcept nogil:
    """Of all entries up to an id (NULL: of all) what op observed goes. How many are left of
    them."""
    cdef Order *o = order_of(c)
    cdef size_t rank = 0, n
    cdef OrderCursor at
    cdef Effect x
    cdef Item *item
    cdef Element *m
    cdef Sealed *b
    cdef uint32_t upto
    cdef uint64_t gone
    memset(&x, 0, sizeof(Effect))
    while True:
        item = order_at(o, rank, &at)
        if item == NULL or (last != NULL and id_below(last[0], entry_id(item, &at))):
            return rank
        m = item.e
        n = o.n
        if sealed_n(m):
            b = sealed_of(m)
            upto = b.n if last == NULL else sealed_rank(b, last.ms, last.seq)
            upto += upto < b.n and not id_below(last[0], sealed_id(b, upto))
            gone = observed_in(op, b, 0, upto)
            sealed_cut(k, c, rank, b, gone)
            rank += upto - bits_set(gone)
        elif m.meta & E_PLAIN and observed(op, m.dot):
            order_remove_at(o, rank)
            c.live -= 1
            table_remove(&c.table, m)
            element_free(m)
        else:
            unindex(k, c, m)
            m = remove_in(k, op, &x, &c.table, &c.live, m)
            if m != NULL:
                index_member(k, c, m)
            rank += o.n == n


cdef Element *apply_trim(Kernel *k, const Applying *op, const Effect *x,
                         Element *e) noexcept nogil:
    """Of all entries up to an id what op observed goes."""
    cdef Database *d = &k.db[x.db]
    cdef Collection *c = element_collection(k, e, T_STREAM) if e != NULL else NULL
    cdef Collection *groups = groups_of(c) if c != NULL else NULL
    cdef StreamId last = id_of(x.name.p), first
    cdef int was_live = element_live(e) if e != NULL else 0
    memset(&first, 0, sizeof(StreamId))
    groups_cut(k, op, groups, first, last)
    if c == NULL:
        return e
    if remove_up_to(k, op, c, &last) and groups != NULL:
        forget_places(groups)
    return reencode(k, &d.table, &d.live, e, was_live)


types[<int>T_STREAM].apply = apply_to_stream


cdef Element *remove_deadline(Kernel *k, const Applying *op, uint32_t db,
                              Element *e) noexcept nogil:
    """What op observed of the deadline of key e. A joint one goes at once, and E_ENTRY with it."""
    if element_entry(e) != NULL:
        cell_remove_writes(&element_entry(e).deadline, op)
    elif is_joint(e) and observed(op, e.dot):
        joint_remove(k, e)
        return element_convert(k, &k.db[db].table, e, e.meta & 0xff & ~<uint32_t>E_ENTRY,
                               element_content(e))
    return e


cdef void apply_assign(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    if e != NULL and e.meta & (E_CELL | E_ENTRY):
        patches_cut(k, op, x.db, e, 0)
    if e != NULL and e.meta & E_ENTRY and not x.keep:
        e = remove_deadline(k, op, x.db, e)
    assign_in(k, op, x, &k.db[x.db].table, &k.db[x.db].live, x.key,
              key_hash(k, x.key.p, x.key.n) if e == NULL else 0, e,
              E_PLAIN if x.keep else E_PLAIN | E_CLEARS)


cdef void apply_increment(Kernel *k, const Applying *op, const Effect *x,
                          Element *e) noexcept nogil:
    e = increment_in(k, op, x, &k.db[x.db].table, &k.db[x.db].live, x.key,
                     key_hash(k, x.key.p, x.key.n) if e == NULL else 0, e)
    if element_entry(e) != NULL:
        heap_place(k, element_entry(e))


cdef void apply_removal(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    """REMOVE: the string under the key; CLEAR: one type; DELETE: all types and the deadline. What
    op did not observe stays."""
    cdef Database *d = &k.db[x.db]
    cdef Collection *c
    cdef int was_live
    if e == NULL:
        return
    if e.meta & (E_CELL | E_ENTRY) and (x.kind != CLEAR or x.type == T_STRING):
        patches_cut(k, op, x.db, e, 0)
    if e.meta & E_ENTRY and x.kind == DELETE:
        e = remove_deadline(k, op, x.db, e)
    if not e.meta & E_ENTRY:
        if x.kind != CLEAR or x.type == T_STRING:
            remove_in(k, op, x, &d.table, &d.live, e)
        return
    was_live = element_live(e)
    c = element_collections(k, e)
    while c != NULL:
        if x.kind == DELETE or (x.kind == CLEAR and x.type == shown_as(c.type)):
            collection_remove(k, op, c, x.observed)
        c = c.next
    c = element_collection(k, e, T_DEADLINES)
    if c != NULL:
        fields_reorder(k, c)
    if x.kind != CLEAR or x.type == T_STRING:
        e = open_cell(k, &d.table, e)
        cell_remove_writes(element_cell(e), op)
        cell_cancel(element_cell(e), op, x.observed)
    reencode(k, &d.table, &d.live, e, was_live)


cdef void apply_deadline(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    """The deadline register := x.deadline, with op's own stamp or, asserted again, with the stamp
    it had."""
    cdef Database *d = &k.db[x.db]
    cdef uint16_t actor = op.slot
    cdef uint64_t stamp = op.stamp
    cdef Entry *entry
    if x.stamp:
        stamp = x.stamp
        actor = actors_find(&k.actors, x.actor)
    if e == NULL:
        e = key_new(k, &d.table, x.key)
    if (not e.meta & E_ENTRY
            and may_be_joint(k, e, make_dot(op.slot, op.seq), stamp, actor, x.deadline)):
        joint_put(k, x.db, open_collections(k, x.db, e), x.deadline)
        return
    e = open_entry(k, x.db, e)
    entry = element_entry(e)
    cell_remove_writes(&entry.deadline, op)
    cell_add_write(&entry.deadline, make_dot(op.slot, op.seq), stamp, actor, W_NUMBER,
                   span(<const char*>&x.deadline, 8))
    join_deadline(k, e)


cdef Element *apply_field_deadline(Kernel *k, const Applying *op, const Effect *x,
                                   Element *e) noexcept nogil:
    """The same of the field x.name of a hash."""
    cdef Database *db = &k.db[x.db]
    cdef uint32_t hash = key_hash(k, x.name.p, x.name.n)
    cdef uint64_t stamp = x.stamp if x.stamp else op.stamp
    cdef uint16_t actor = actors_find(&k.actors, x.actor) if x.stamp else op.slot
    cdef Span value = span(<const char*>&x.deadline, sizeof(x.deadline))
    cdef size_t none = 0
    cdef Collection *c
    cdef Element *m
    cdef int was_live
    if e == NULL:
        e = key_new(k, &db.table, x.key)
    was_live = element_live(e)
    e = open_entry(k, x.db, e)
    c = collection_open(k, e, T_DEADLINES)
    m = table_find(&c.table, x.name.p, x.name.n, hash)
    unindex(k, c, m)
    if m == NULL:
        m = element_new(k, x.name, hash, E_MEMBER | E_CELL, 0)
        table_add(&c.table, m, hash)
    m = open_cell(k, &c.table, m)
    cell_remove_writes(element_cell(m), op)
    cell_add_write(element_cell(m), make_dot(op.slot, op.seq), stamp, actor, 0, value)
    index_member(k, c, reencode(k, &c.table, &none, m, 0))
    note_written(op, c)
    return reencode(k, &db.table, &db.live, e, was_live)


cdef void register_remove(Kernel *k, const Applying *op, Collection *c, Span name,
                          uint32_t hash) noexcept nogil:
    """What op observed of the deadlines of a field that is out of the counts and the order. c: the
    registers, or NULL."""
    cdef Element *m = table_find(&c.table, name.p, name.n, hash) if c != NULL else NULL
    cdef size_t none = 0
    if m == NULL:
        return
    c.cells -= (m.meta & E_CELL) != 0
    m = open_cell(k, &c.table, m)
    cell_remove_writes(element_cell(m), op)
    m = reencode(k, &c.table, &none, m, 0)
    c.cells += m != NULL and (m.meta & E_CELL) != 0


cdef void flush_count(Kernel *k, const Applying *op, uint32_t db,
                      const ObservedCount *s) noexcept nogil:
    """Cancels one of the counter entries that a FLUSH lists by key, type and name."""
    cdef uint16_t slot = actors_find(&k.actors, s.actor)
    cdef Element *e = key_in(k, db, s.key)
    cdef Collection *c = NULL
    cdef Element *m = e
    cdef int was_live
    if e == NULL or slot == NO_SLOT:
        return
    if s.type != T_STRING:
        c = element_collection(k, e, s.type)
        m = (table_find(&c.table, s.name.p, s.name.n, key_hash(k, s.name.p, s.name.n)) if c != NULL
             else NULL)
    if m == NULL or m.meta & E_PLAIN or not m.meta & E_VALUE:
        return
    was_live = element_live(e)
    if c != NULL:
        unindex(k, c, m)
        c.live -= value_live(m)
        m = open_cell(k, &c.table, m)
    else:
        m = e = open_cell(k, &k.db[db].table, e)
    cell_cancel_one(element_cell(m), op, slot, s)
    if c != NULL:
        c.live += value_live(m)
        reindex(k, c, s.name, m.hash)
    k.db[db].live += element_live(e) - was_live


cdef int leaves_no_count(Kernel *k, const Applying *op, const Effect *x) noexcept nogil:
    """Are all counter entries in the database op's own actor's, which it cancels itself and so
    needs no tombstone of? Where there are tombstones, in whatever database, they are looked for one
    by one. So another's increment that op had not observed keeps a database from being let go of,
    whatever the version vector says."""
    cdef const char *p = x.observed.p
    cdef ObservedCount s
    cdef size_t own = 0
    if kernel_tombstones(k):
        return op.counted.entries == 0
    while op.counted.entries and decode_observed(&p, x.observed.p + x.observed.n, &s) == 1:
        own += actors_find(&k.actors, s.actor) == op.slot
    return own == op.counted.entries


cdef void apply_flush(Kernel *k, const Applying *op, const Effect *x) noexcept nogil:
    """Removes what op observed from every key of a database. The counter entries it observed are
    listed by key; everything else is told by dots, key by key as in DELETE, so it commutes with all
    that DELETE commutes with. Where op has observed everything that is here, which the version
    vector tell, and no tombstone would stay, nothing is left and no key is looked at; a write that
    comes later finds the same empty database either way:

        A: FLUSHDB   ||   B: SET k v
        B applies the flush: (B, 1) in its version vector is not observed, so k is looked at, and
        stays.  A applies the SET: k is there.
    """
    cdef Database *d = &k.db[x.db]
    cdef Table old
    cdef const char *p = x.observed.p
    cdef ObservedCount s
    cdef Element *e
    cdef Effect one
    cdef size_t pos = 0
    touch_all(k, x.db)
    if (op.local or vector_observed(op, &d.written)) and leaves_no_count(k, op, x):
        discard_database(k, x.db)
        return
    while decode_observed(&p, x.observed.p + x.observed.n, &s) == 1:
        flush_count(k, op, x.db, &s)
    old = d.table
    table_init(&d.table)
    d.table.key = k.hash_key
    memset(&one, 0, sizeof(Effect))
    one.kind = DELETE
    one.db = x.db
    while True:
        e = table_next(&old, &pos)
        if e == NULL:
            break
        if e.meta & (E_PLAIN | E_ENTRY) == E_PLAIN and observed(op, e.dot):
            d.live -= 1
            element_free(e)
        else:
            table_add(&d.table, e, element_hash(k, e))
            apply_removal(k, op, &one, e)
    table_clear(&old, NULL, NULL)


cdef int removes_lapsed(Kernel *k, const Effect *x, Element *e) noexcept nogil:
    """Does it remove a field whose deadline has passed?"""
    cdef Collection *c = element_collection(k, e, T_HASH) if e != NULL else NULL
    cdef Element *m = NULL
    if c != NULL and members_lapsed(k, c):
        m = table_find(&c.table, x.name.p, x.name.n, key_hash(k, x.name.p, x.name.n))
    return m != NULL and field_lapsed(k, c, m)


cdef Element *apply_effect(Kernel *k, const Applying *op, const Effect *x,
                           Element *e) noexcept nogil:
    """For an effect on a member, returns what stands under the key then."""
    cdef Element *left = NULL
    cdef uint32_t hash = 0
    cdef int before = 0
    if x.kind <= INCREMENT or x.kind == DEADLINE or x.kind == PATCH:
        vector_raise(&k.db[x.db].written, op.slot, op.seq)
    if k.touched.at != NULL and x.db < HOME_DB:
        if x.kind == FLUSH:
            touch_buckets(k)
        else:
            touch_key(k, x.db, x.key)
    if k.watched.active and x.kind != FLUSH:
        hash = key_hash(k, x.key.p, x.key.n)
        before = state_before(k, e)
        if x.kind == REMOVE and x.type == T_HASH and removes_lapsed(k, x, e):
            before |= FIELD_LAPSED
    if e != NULL:
        key_written(k, e, op.seq)
    elif k.eviction.policy & EVICT_LFU and x.kind != FLUSH:
        k.eviction.counted_seq = op.seq             # a new key starts with its count
        k.eviction.counted_hash = key_hash(k, x.key.p, x.key.n)
    if x.type != T_STRING and x.kind <= REMOVE:
        if types[x.type].apply != NULL:
            left = types[x.type].apply(k, op, x, e)
        else:
            left = apply_to_member(k, op, x, e)
    elif x.kind == ASSIGN:
        apply_assign(k, op, x, e)
    elif x.kind == PATCH:
        apply_patch(k, op, x, e)
    elif x.kind == INCREMENT:
        apply_increment(k, op, x, e)
    elif x.kind == DEADLINE and x.type == T_HASH:
        left = apply_field_deadline(k, op, x, e)
    elif x.kind == DEADLINE:
        apply_deadline(k, op, x, e)
    elif x.kind == FLUSH:
        apply_flush(k, op, x)
    else:
        apply_removal(k, op, x, e)
    note_origin(k, op, x)
    k.changes += 1
    if x.db == SYSTEM_DB:
        k.system_changes += 1
        if x.kind == FLUSH or (x.key.n == 5 and memcmp(x.key.p, b"users", 5) == 0):
            k.system_changes += USERS_CHANGE
    if x.kind == FLUSH and k.watched.active and not k.inbox.recovering:
        k.notices.dropped += k.notices.on != 0          # it does not name its keys
        if shown_db(x.db) == 0:
            mirror_lose(k)
    if k.watched.active and x.kind != FLUSH:
        note_touched(k, x.db, x.key, hash)
        if k.notices.on and not k.inbox.recovering:
            add_notice(k, op, x, before)
        if k.mirror.on:
            mirror_note(k, x, hash, before, left)
    return left

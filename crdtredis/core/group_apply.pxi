# Applying effects on consumer groups. What they come to, and why their order is no matter, is in
# core/groups.pxi; what stands in them in core/group_effects.pxi.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span


cdef void member_remove_observed(Kernel *k, const Applying *op, const Effect *x, Collection *c,
                                 Element *m, Buffer *name) noexcept nogil:
    """name: scratch."""
    cdef uint32_t hash = m.hash
    name.n = 0
    buffer_add(name, element_key(m), element_klen(m))
    unindex(k, c, m)
    remove_in(k, op, x, &c.table, &c.live, m)
    reindex(k, c, content(name), hash)


cdef void remove_behind(Kernel *k, const Applying *op, const Effect *x, Collection *c,
                        Span head) noexcept nogil:
    """What op observed of the members whose names begin so."""
    cdef size_t rank, n
    cdef OrderCursor at
    cdef Element *m = first_from(c, head, &rank, &at)
    cdef Item *item
    cdef Buffer name
    memset(&name, 0, sizeof(Buffer))
    while m != NULL and begins_with(m, head):
        n = order_of(c).n
        member_remove_observed(k, op, x, c, m, &name)
        rank += order_of(c).n == n
        item = order_at(order_of(c), rank, &at)
        m = item.e if item != NULL else NULL
    buffer_free(&name)


cdef void member_effect(Effect *y, const Effect *x, int kind) noexcept nogil:
    """An effect on one cell that x comes to."""
    memset(y, 0, sizeof(Effect))
    y.kind = kind
    y.type = T_GROUPS
    y.db = x.db
    y.key = x.key


cdef Element *apply_create(Kernel *k, const Applying *op, const Effect *x,
                           Element *e) noexcept nogil:
    cdef Database *d = &k.db[x.db]
    cdef Span group = span(x.name.p + 1, x.name.n - 1)
    cdef Collection *c
    cdef Buffer value
    cdef Marks m
    cdef Effect y
    cdef int was_live
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    member_effect(&y, x, x.kind)
    y.name = x.name
    if x.kind == ASSIGN:
        marks_decode(x.value, &m)
        m.stamp = op.stamp
        m.actor = k.actors.v[op.slot].id
        marks_encode(&m, &value)
        y.value = content(&value)
    e = apply_to_member(k, op, &y, e)
    buffer_free(&value)
    marks_free(&m)
    c = element_collection(k, e, T_GROUPS) if e != NULL else NULL
    if c == NULL:
        return e
    was_live = element_live(e)
    groups_data(c).said_by = make_dot(op.slot, op.seq)
    forget_place(k, c, group)
    drop_orphans(k, c, group)
    return reencode(k, &d.table, &d.live, e, was_live)


cdef void apply_setid(Kernel *k, const Applying *op, const Effect *x,
                      Collection *c) noexcept nogil:
    """A round begins in what op observed."""
    cdef Element *group = find_group(k, c, span(x.name.p + 1, x.name.n - 1))
    cdef uint64_t me = k.actors.v[op.slot].id
    cdef Buffer value
    cdef Marks m, new
    cdef Said w
    cdef size_t i = 0
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    memset(&new, 0, sizeof(Marks))
    groups_data(c).said_by = make_dot(op.slot, op.seq)
    marks_decode(x.value, &new)
    new.stamp = op.stamp
    new.actor = me
    while group != NULL and nth_write(group, i, &w):
        i += 1
        if (observed(op, w.dot) and marks_decode(w.value, &m)
                and round_order(&k.actors, m.stamp, m.actor, op.stamp, me) <= 0):
            new.shared = m.shared
            marks_encode(&new, &value)
            group = write_change(k, c, group, w.dot, content(&value))
    forget_place(k, c, span(x.name.p + 1, x.name.n - 1))
    buffer_free(&value)
    marks_free(&m)
    marks_free(&new)


cdef Element *apply_give_out(Kernel *k, const Applying *op, const Effect *x, Element *e,
                             int letter) noexcept nogil:
    """G_DELIVER, G_CONSUMER. Where the CREATE is gone nothing is left of it."""
    cdef Collection *c = element_collection(k, e, T_GROUPS)
    cdef Collection *stream = element_collection(k, e, T_STREAM)
    cdef Span name = span(x.name.p + 1, x.name.n - 1)
    cdef Element *group = find_group(k, c, name)
    cdef const char *p
    cdef const char *end = x.value.p + x.value.n
    cdef Buffer value
    cdef Marks m
    cdef Given g
    cdef Owned own
    cdef Mark entry
    cdef Effect y
    cdef Said w
    cdef uint64_t i
    if (not given_decode(x.value, letter, &g) or group == NULL
            or not write_of(group, create_dot(k, g.create_actor, g.create_seq), &w)):
        return e
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    memset(&entry, 0, sizeof(Mark))
    p = g.p
    if (letter == G_DELIVER and not g.flags & G_NO_MARKS and marks_decode(w.value, &m)
            and m.stamp == g.round_stamp and m.actor == g.round_actor):
        for i in range(g.n):
            get_mark(&p, end, &entry, 1)
            mark_given(k, stream, &m, &entry)
        groups_data(c).said_by = make_dot(op.slot, op.seq)
        m.read = COUNTED
        marks_encode(&m, &value)
        write_change(k, c, group, w.dot, content(&value))
    marks_free(&m)
    e = put_consumer(k, op, x, e, &g, letter)
    own.stamp = op.stamp
    own.actor = k.actors.v[op.slot].id
    own.at = g.at
    own.deliveries = g.deliveries
    own.owner = g.consumer
    member_effect(&y, x, ASSIGN)
    p = g.p
    memset(&entry, 0, sizeof(Mark))
    for i in range(g.n if letter == G_DELIVER and not g.flags & G_NO_RECORDS else 0):
        get_mark(&p, end, &entry, 1)
        name_begin(&k.scratch.position, G_RECORD, name)
        add_id(&k.scratch.position, entry.id)
        name_create(&k.scratch.position, g.create_actor, g.create_seq)
        owned_encode(&own, &value)
        y.name = content(&k.scratch.position)
        y.value = content(&value)
        e = apply_to_member(k, op, &y, e)
    buffer_free(&value)
    return e


cdef Element *put_consumer(Kernel *k, const Applying *op, const Effect *x, Element *e,
                           const Given *g, int letter) noexcept nogil:
    """Its CREATE is there."""
    cdef Buffer value
    cdef Effect y
    memset(&value, 0, sizeof(Buffer))
    append_varint(&value, zigzag(g.at))
    append_varint(&value, zigzag(g.deliveries if letter == G_CONSUMER else g.at))
    member_effect(&y, x, ASSIGN)
    name_begin(&k.scratch.position, G_CONSUMER, span(x.name.p + 1, x.name.n - 1))
    add_bytes(&k.scratch.position, g.consumer)
    name_create(&k.scratch.position, g.create_actor, g.create_seq)
    y.name = content(&k.scratch.position)
    y.value = content(&value)
    e = apply_to_member(k, op, &y, e)
    buffer_free(&value)
    return e


cdef Element *apply_claim(Kernel *k, const Applying *op, const Effect *x,
                          Element *e) noexcept nogil:
    """The records that op observed have another owner, unless one was named later."""
    cdef Collection *c = element_collection(k, e, T_GROUPS)
    cdef Span name = span(x.name.p + 1, x.name.n - 1)
    cdef Element *group = find_group(k, c, name)
    cdef Element *m
    cdef OrderCursor at
    cdef Buffer head, value
    cdef Owned own, old
    cdef Given g
    cdef Said w
    cdef size_t rank, n, j
    cdef uint64_t i
    if not given_decode(x.value, G_CLAIM, &g):
        return e
    memset(&head, 0, sizeof(Buffer))
    memset(&value, 0, sizeof(Buffer))
    own.stamp = op.stamp
    own.actor = k.actors.v[op.slot].id
    own.at = g.at
    own.deliveries = g.deliveries
    own.owner = g.consumer
    owned_encode(&own, &value)
    for i in range(g.n):
        name_begin(&head, G_RECORD, name)
        buffer_add(&head, g.p + i * STREAM_ID, STREAM_ID)
        m = first_from(c, content(&head), &rank, &at)
        while m != NULL and begins_with(m, content(&head)):
            j = 0
            while nth_write(m, j, &w):
                j += 1
                if (observed(op, w.dot) and owned_decode(w.value, &old)
                        and round_order(&k.actors, old.stamp, old.actor, own.stamp,
                                        own.actor) <= 0):
                    m = write_change(k, c, m, w.dot, content(&value))
            rank += 1
            m = order_at(order_of(c), rank, &at).e if rank < order_of(c).n else NULL
    if (group != NULL
            and write_of(group, create_dot(k, g.create_actor, g.create_seq), &w)):
        g.at = <int64_t>(op.stamp >> 16)
        e = put_consumer(k, op, x, e, &g, G_CLAIM)
    buffer_free(&head)
    buffer_free(&value)
    return e


cdef void apply_ack(Kernel *k, const Applying *op, const Effect *x, Collection *c,
                    int letter) noexcept nogil:
    """G_ACK, G_DISMISS."""
    cdef Span name = span(x.name.p + 1, x.name.n - 1)
    cdef const char *p = x.value.p
    cdef const char *end = x.value.p + x.value.n
    cdef Span consumer
    cdef Buffer head
    cdef StreamId id
    cdef Effect y
    cdef uint64_t n, i
    memset(&head, 0, sizeof(Buffer))
    member_effect(&y, x, REMOVE)
    if letter == G_DISMISS:
        get_bytes(&p, end, &consumer)
        name_begin(&head, G_CONSUMER, name)
        add_bytes(&head, consumer)
        remove_behind(k, op, &y, c, content(&head))
    for i in range(n if ids_decode(&p, end, &n, &id) else 0):
        name_begin(&head, G_RECORD, name)
        buffer_add(&head, p + i * STREAM_ID, STREAM_ID)
        remove_behind(k, op, &y, c, content(&head))
    buffer_free(&head)


cdef void apply_forget(Kernel *k, const Applying *op, const Effect *x,
                       Collection *c) noexcept nogil:
    """Ids of producers that op observed."""
    cdef const char *p = x.value.p
    cdef const char *end = x.value.p + x.value.n
    cdef char letter = G_PRODUCED
    cdef Buffer name
    cdef Effect y
    cdef Element *m
    cdef Span s
    memset(&name, 0, sizeof(Buffer))
    member_effect(&y, x, REMOVE)
    if x.value.n == 0:
        remove_behind(k, op, &y, c, span(&letter, 1))
    while p < end and get_bytes(&p, end, &s):
        m = table_find(&c.table, s.p, s.n, key_hash(k, s.p, s.n))
        if m != NULL:
            member_remove_observed(k, op, &y, c, m, &name)
    buffer_free(&name)


cdef Element *apply_to_groups(Kernel *k, const Applying *op, const Effect *x,
                              Element *e) noexcept nogil:
    cdef Database *d = &k.db[x.db]
    cdef Collection *c = element_collection(k, e, T_GROUPS) if e != NULL else NULL
    cdef int letter = x.name.p[0], was_live
    if letter == G_GROUP:
        return apply_create(k, op, x, e)
    if letter == G_PRODUCED:
        return apply_to_member(k, op, x, e)
    if c == NULL:
        return e
    if letter == G_DELIVER or letter == G_CONSUMER:
        return apply_give_out(k, op, x, e, letter)
    if letter == G_CLAIM:
        return apply_claim(k, op, x, e)
    was_live = element_live(e)
    if letter == G_SETID:
        apply_setid(k, op, x, c)
    elif letter == G_FORGET:
        apply_forget(k, op, x, c)
    else:
        apply_ack(k, op, x, c, letter)
    return reencode(k, &d.table, &d.live, e, was_live)


types[<int>T_GROUPS].apply = apply_to_groups

# Consumer groups: making effects, of the kinds that core/group_copy.pxi lists.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span


cdef void gather_seen(Kernel *k, Collection *stream, Buffer *seen) noexcept nogil:
    """Of each actor that has written to the stream its last op there; or one after that."""
    cdef OrderCursor at
    cdef Item *item
    cdef size_t i
    cdef Mark x
    cdef Mark *y
    cdef Said w
    cdef uint32_t slot
    memset(&x, 0, sizeof(Mark))
    if stream.written != NULL:
        for slot in range(k.actors.n):
            x.actor = k.actors.v[slot].id
            x.seq = vector_get(stream.written, <uint16_t>slot)
            if x.seq:
                mark_put(seen, &x)
        return
    item = order_at(order_of(stream), 0, &at)
    while item != NULL:
        i = 0
        while nth_of_entry(item, &at, i, &w):
            i += 1
            x.actor = k.actors.v[dot_slot(w.dot)].id
            x.seq = dot_seq(w.dot)
            y = of_actor(seen, x.actor)
            if y == NULL:
                mark_put(seen, &x)
            else:
                y.seq = max(y.seq, x.seq)
        item = entry_next(&at)


cdef Element *make_round(Kernel *k, uint32_t db, Span key, Element *e, int letter, Span name,
                         StreamId start, int64_t read, int shared) noexcept nogil:
    cdef Buffer value
    cdef Marks m
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    m.start = start
    m.read = read
    m.shared = shared
    gather_seen(k, element_collection(k, e, T_STREAM), &m.seen)
    marks_encode(&m, &value)
    e = make_of_group(k, db, key, e, ASSIGN, letter, name, &value)
    buffer_free(&value)
    marks_free(&m)
    return e


cdef Element *group_create(Kernel *k, uint32_t db, Span key, Element *e, Span name, StreamId start,
                           int64_t read, int shared=0) noexcept nogil:
    """With a word about the top, by which the stream is there."""
    cdef Collection *s = element_collection(k, e, T_STREAM) if e != NULL else NULL
    cdef StreamId none, top
    memset(&none, 0, sizeof(StreamId))
    top = stream_top(s) if s != NULL else none
    e = stream_set_id(k, db, key, e, top, -1, none)
    return make_round(k, db, key, e, G_GROUP, name, start, read, shared)


cdef Element *group_set(Kernel *k, uint32_t db, Span key, Element *e, Span name, StreamId start,
                        int64_t read) noexcept nogil:
    return make_round(k, db, key, e, G_SETID, name, start, read, 0)


cdef Element *group_destroy(Kernel *k, uint32_t db, Span key, Element *e, Span name) noexcept nogil:
    return make_of_group(k, db, key, e, REMOVE, G_GROUP, name, NULL)


cdef int given_begin(Kernel *k, Element *e, Span group, Span consumer, GroupView *view,
                     Given *g) noexcept nogil:
    """What an effect says that is about the CREATE of the name that takes what happens; 0: there is
    none."""
    cdef Marks *m
    if not group_find(k, element_collection(k, e, T_STREAM), group, view):
        return 0
    m = marks_of(<Collection*>view.of)
    memset(g, 0, sizeof(Given))
    g.create_actor = k.actors.v[dot_slot(m.dot)].id
    g.create_seq = dot_seq(m.dot)
    g.round_stamp = m.stamp
    g.round_actor = m.actor
    g.consumer = consumer
    g.at = k.now
    g.deliveries = 1
    return 1


cdef Element *consumer_touch(Kernel *k, uint32_t db, Span key, Element *e, Span group, Span name,
                             int active) noexcept nogil:
    """What gives or claims says that its consumer is there, and active."""
    cdef GroupView view
    cdef Buffer value
    cdef Given g
    cdef size_t at
    if (active or not given_begin(k, e, group, name, &view, &g)
            or consumer_there(&view, name, &at)):
        return e
    memset(&value, 0, sizeof(Buffer))
    g.deliveries = -1
    given_encode(&g, G_CONSUMER, &value)
    e = make_of_group(k, db, key, e, ASSIGN, G_CONSUMER, group, &value)
    buffer_free(&value)
    return e


cdef Element *consumer_remove(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                              Span name) noexcept nogil:
    cdef GroupView view
    cdef PendingView p
    cdef Buffer value, ids
    cdef StreamId id
    cdef size_t n = 0
    if not group_find(k, element_collection(k, e, T_STREAM), group, &view):
        return e
    consumer_forget(k, &view, name)
    memset(&value, 0, sizeof(Buffer))
    memset(&ids, 0, sizeof(Buffer))
    memset(&id, 0, sizeof(StreamId))
    while pending_from(k, &view, id, name, &p):
        add_id(&ids, p.id)
        n += 1
        id = p.id
        id.seq += 1
        id.ms += id.seq == 0
        if id.ms == 0 and id.seq == 0:
            break
    add_bytes(&value, name)
    append_varint(&value, n)
    buffer_add(&value, ids.p, ids.n)
    e = make_of_group(k, db, key, e, ASSIGN, G_DISMISS, group, &value)
    buffer_free(&value)
    buffer_free(&ids)
    return e


cdef Element *give_marks(Kernel *k, uint32_t db, Span key, Element *e, Span group, Given *g,
                         const Buffer *marks) noexcept nogil:
    cdef Buffer value
    cdef uint64_t actor = 0
    cdef size_t i
    memset(&value, 0, sizeof(Buffer))
    g.n = mark_count(marks)
    given_encode(g, G_DELIVER, &value)
    for i in range(g.n):
        add_mark(&value, mark_at(marks, i), &actor, 1)
    e = make_of_group(k, db, key, e, ASSIGN, G_DELIVER, group, &value)
    buffer_free(&value)
    return e


cdef void gather_marks(Kernel *k, Element *e, const StreamId *ids, size_t n,
                       Buffer *marks) noexcept nogil:
    """Of entries that are there."""
    cdef Collection *s = element_collection(k, e, T_STREAM)
    cdef Mark x
    cdef size_t i
    for i in range(n):
        x = entry_mark(k, entry_of(k, s, ids[i]))
        buffer_add(marks, &x, sizeof(Mark))


cdef Element *give_out(Kernel *k, uint32_t db, Span key, Element *e, Span group, Given *g,
                       const StreamId *ids, size_t n) noexcept nogil:
    cdef Buffer marks
    memset(&marks, 0, sizeof(Buffer))
    gather_marks(k, e, ids, n, &marks)
    e = give_marks(k, db, key, e, group, g, &marks)
    buffer_free(&marks)
    return e


cdef void gather_elsewhere(Kernel *k, Element *e, Collection *c, const Buffer *marks,
                           Buffer *out) noexcept nogil:
    """What would be a hole of the latest CREATE as it gives out `marks`, although another of the
    name has given it out: two that two replicas made while they were apart, and read for long."""
    cdef const Marks *v = marks_of(c)
    cdef Buffer tops
    cdef Marks m
    cdef const Mark *x
    cdef Mark *top
    cdef size_t i, j
    memset(&tops, 0, sizeof(Buffer))
    for i in range(mark_count(marks)):
        x = mark_at(marks, i)
        top = of_actor(&tops, x.actor)
        if top == NULL:
            mark_put(&tops, x)
        elif mark_order(top, x) < 0:
            top[0] = x[0]
    m = v[0]
    memset(&m.odd, 0, sizeof(Buffer))
    for i in range(mark_count(&tops)):
        x = mark_at(&tops, i)
        note_holes(k, element_collection(k, e, T_STREAM), &m, of_actor(&m.given, x.actor), x)
    for i in range(mark_count(&m.odd)):
        x = mark_at(&m.odd, i)
        for j in range(1, groups_data(c).loaded):
            if is_given_out(&v[j], x) and mark_count(out) < ELSEWHERE_MOST:
                buffer_add(out, x, sizeof(Mark))
                break
    buffer_free(&m.odd)
    buffer_free(&tops)


cdef Element *group_deliver(Kernel *k, uint32_t db, Span key, Element *e, Span group, Span consumer,
                            const StreamId *ids, size_t n, int noack) noexcept nogil:
    cdef GroupView view
    cdef Buffer marks, elsewhere
    cdef Given g
    if not given_begin(k, e, group, consumer, &view, &g):
        return e
    memset(&marks, 0, sizeof(Buffer))
    memset(&elsewhere, 0, sizeof(Buffer))
    gather_marks(k, e, ids, n, &marks)
    if groups_data(<Collection*>view.of).loaded > 1:
        gather_elsewhere(k, e, <Collection*>view.of, &marks, &elsewhere)
    if elsewhere.n and op_used(k) <= OP_PIECE:      # not for each of many streams
        g.flags = G_NO_RECORDS
        e = give_marks(k, db, key, e, group, &g, &elsewhere)
    g.flags = G_NO_RECORDS if noack else 0
    e = give_marks(k, db, key, e, group, &g, &marks)
    buffer_free(&marks)
    buffer_free(&elsewhere)
    return e


cdef Element *pending_remove(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                             const StreamId *ids, size_t n) noexcept nogil:
    cdef Buffer value
    cdef size_t i
    memset(&value, 0, sizeof(Buffer))
    append_varint(&value, n)
    for i in range(n):
        add_id(&value, ids[i])
    e = make_of_group(k, db, key, e, ASSIGN, G_ACK, group, &value)
    buffer_free(&value)
    return e


cdef size_t references_size(Collection *s, size_t n) noexcept nogil:
    """Without what each effect takes: there is one for each group at most."""
    cdef Collection *c = groups_of(s)
    cdef Element *group
    cdef size_t i = 0, size = 0
    group = nth_group(c, 0)
    while group != NULL:
        size += element_klen(group) + STREAM_ID * min(n, count_of(c, G_RECORD, name_group(group)))
        i += 1
        group = nth_group(c, i)
    return size


cdef Element *references_remove(Kernel *k, uint32_t db, Span key, Element *e, const StreamId *ids,
                                size_t n) noexcept nogil:
    cdef Collection *c = groups_of(key_collection(k, e, T_STREAM))
    cdef Buffer name, found
    cdef Element *group
    cdef size_t i, j = 0
    memset(&name, 0, sizeof(Buffer))
    memset(&found, 0, sizeof(Buffer))
    group = nth_group(c, j)
    while group != NULL:            # the removal of records moves no group
        name.n = found.n = 0
        buffer_add(&name, name_group(group).p, name_group(group).n)
        for i in range(n if count_of(c, G_RECORD, name_group(group)) else 0):
            if is_pending(c, name_group(group), ids[i]):
                buffer_add(&found, &ids[i], sizeof(StreamId))
        if found.n:
            e = pending_remove(k, db, key, e, content(&name), <StreamId*>found.p,
                               found.n // sizeof(StreamId))
            c = groups_of(key_collection(k, e, T_STREAM))
        j += 1
        group = nth_group(c, j)
    buffer_free(&name)
    buffer_free(&found)
    return e


cdef Element *pending_claim(Kernel *k, uint32_t db, Span key, Element *e, Span group, Span consumer,
                            const StreamId *ids, size_t n, int64_t at,
                            int64_t deliveries) noexcept nogil:
    cdef GroupView view
    cdef PendingView p
    cdef Buffer value
    cdef Given g
    cdef Span nobody = span(NULL, 0)
    cdef size_t i
    if not given_begin(k, e, group, consumer, &view, &g):
        return e
    g.at = at
    g.deliveries = deliveries
    if not pending_from(k, &view, ids[0], nobody, &p) or id_below(ids[0], p.id):
        g.flags = G_NO_MARKS
        return give_out(k, db, key, e, group, &g, ids, n)
    if at == 0 and consumer.n == 0:
        g.create_seq = 0                   # so that no consumer comes with it
    memset(&value, 0, sizeof(Buffer))
    g.n = n
    given_encode(&g, G_CLAIM, &value)
    for i in range(n):
        add_id(&value, ids[i])
    e = make_of_group(k, db, key, e, ASSIGN, G_CLAIM, group, &value)
    buffer_free(&value)
    return e

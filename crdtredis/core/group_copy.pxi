# A consumer group as it is elsewhere: what COPY, RENAME and RESTORE put behind the entries of a new
# stream and its head. Why the copy gives out what the original would is in core/groups.pxi.
#
# Effects on groups are each one of type T_GROUPS, whose name says which it is, and which group it
# is about:
#
#     ASSIGN "g" group    a CREATE: its marks, the round left open; of a copy also what is given out
#     REMOVE "g" group    XGROUP DESTROY
#     ASSIGN "s" group    XGROUP SETID: as a CREATE
#     ASSIGN "d" group    a delivery: which CREATE and round, to whom, and the entries, with dots
#     ASSIGN "o" group    XCLAIM of records that are there: to whom, and the ids
#     ASSIGN "c" group    a consumer: when it was seen and, in place of deliveries, active
#     ASSIGN "a" group    XACK: the ids
#     ASSIGN "x" group    XGROUP DELCONSUMER: the consumer, and the ids of its records
#     ASSIGN "i" name     an idempotent id of a producer: the id of its entry (core/produced.pxi)
#     ASSIGN "f"          names of such that are forgotten; none: all

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span


cdef Element *make_of_group(Kernel *k, uint32_t db, Span key, Element *e, int kind, int letter,
                            Span group, const Buffer *value) noexcept nogil:
    cdef Effect x
    cdef Buffer name
    cdef char c = <char>letter
    memset(&name, 0, sizeof(Buffer))
    buffer_add(&name, &c, 1)
    buffer_add(&name, group.p, group.n)
    db = home_of(k, db, key, &e)
    begin_effect(k, &x, kind, db, key)
    x.type = T_GROUPS
    x.name = content(&name)
    if value != NULL:
        x.value = content(value)
    e = make(k, &x, e)
    buffer_free(&name)
    return e


cdef Element *group_put(Kernel *k, uint32_t db, Span key, Element *e, Span name, StreamId last,
                        int64_t read, int shared, const StreamId *waiting, size_t n,
                        MadeGroup *made) noexcept nogil:
    cdef Collection *s = element_collection(k, e, T_STREAM)
    cdef StreamCursor at
    cdef GroupView view
    cdef Buffer value
    cdef Marks m
    cdef Mark x
    cdef uint64_t dot
    cdef size_t i
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    m.start = last
    m.read = read
    m.shared = shared
    stream_seek(k, s, last, 1, &at)
    if stream_next(&at):
        x = place_mark(k, &at.on, &at.on_at)
        mark_put(&m.given, &x)
    for i in range(n):
        x = entry_mark(k, entry_of(k, s, waiting[i]))
        mark_put(&m.odd, &x)
    marks_encode(&m, &value)
    e = make_of_group(k, db, key, e, ASSIGN, G_GROUP, name, &value)
    buffer_free(&value)
    marks_free(&m)
    if group_find(k, element_collection(k, e, T_STREAM), name, &view):
        dot = marks_of(<Collection*>view.of).dot
        made.actor = k.actors.v[dot_slot(dot)].id
        made.seq = dot_seq(dot)
    return e


cdef Element *consumer_put(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                           MadeGroup made, Span name, int64_t seen,
                           int64_t active) noexcept nogil:
    cdef Buffer value
    cdef Given g
    memset(&value, 0, sizeof(Buffer))
    memset(&g, 0, sizeof(Given))
    g.create_actor = made.actor
    g.create_seq = made.seq
    g.consumer = name
    g.at = seen
    g.deliveries = active
    given_encode(&g, G_CONSUMER, &value)
    e = make_of_group(k, db, key, e, ASSIGN, G_CONSUMER, group, &value)
    buffer_free(&value)
    return e


cdef Element *records_put(Kernel *k, uint32_t db, Span key, Element *e, Span group,
                          MadeGroup made, const PendingView *p, const StreamId *ids,
                          size_t n) noexcept nogil:
    """As a delivery that is no matter of the marks, so the entries need not be there."""
    cdef Buffer value
    cdef uint64_t actor = 0
    cdef Given g
    cdef Mark x
    cdef size_t i
    memset(&value, 0, sizeof(Buffer))
    memset(&g, 0, sizeof(Given))
    memset(&x, 0, sizeof(Mark))
    g.create_actor = made.actor
    g.create_seq = made.seq
    g.consumer = p.owner
    g.at = p.at
    g.deliveries = p.deliveries
    g.flags = G_NO_MARKS
    g.n = n
    given_encode(&g, G_DELIVER, &value)
    for i in range(n):
        x.id = ids[i]
        add_mark(&value, &x, &actor, 1)
    e = make_of_group(k, db, key, e, ASSIGN, G_DELIVER, group, &value)
    buffer_free(&value)
    return e


# ---- all of a stream, which may be gone ---------------------------------------------------------

# A part of what is carried over. Then come the group's name, the owner's, and the ids.
cdef struct Carried:
    int letter              # G_GROUP: ids are those that wait; G_RECORD; G_CONSUMER
    int shared
    size_t group            # bytes,
    size_t owner            # bytes,
    size_t n                # ids
    StreamId last
    int64_t[2] said         # entries-read; at and deliveries; seen and active


cdef void carry_part(Buffer *b, const Carried *x, Span group, Span owner,
                     const Buffer *ids) noexcept nogil:
    cdef Carried y = x[0]
    y.group = group.n
    y.owner = owner.n
    y.n = ids.n // sizeof(StreamId) if ids != NULL else 0
    buffer_add(b, &y, sizeof(Carried))
    buffer_add(b, group.p, group.n)
    buffer_add(b, owner.p, owner.n)
    if y.n:
        buffer_add(b, ids.p, ids.n)


cdef inline int is_same_word(const PendingView *a, const PendingView *b) noexcept nogil:
    return (a.at == b.at and a.deliveries == b.deliveries and a.owner.n == b.owner.n
            and (a.owner.n == 0 or memcmp(a.owner.p, b.owner.p, a.owner.n) == 0))


cdef void carry_run(Buffer *b, const GroupView *g, const PendingView *p,
                    Buffer *ids) noexcept nogil:
    """Records of these ids, which are used up."""
    cdef Carried x
    if ids.n:
        memset(&x, 0, sizeof(Carried))
        x.letter = G_RECORD
        x.said[0] = p.at
        x.said[1] = p.deliveries
        carry_part(b, &x, g.name, p.owner, ids)
    ids.n = 0


cdef void carry_records(Kernel *k, const GroupView *g, Buffer *b, Buffer *ids) noexcept nogil:
    """ids: scratch, empty."""
    cdef Collection *c = <Collection*>g.of
    cdef PendingView p, before
    cdef OrderCursor at
    cdef Buffer head
    cdef size_t rank
    cdef Element *m
    memset(&before, 0, sizeof(PendingView))
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, G_RECORD, g.name)
    m = first_from(c, content(&head), &rank, &at)
    while m != NULL and begins_with(m, content(&head)):
        m = pending_at(k, m, content(&head), &at, &p)
        if not is_same_word(&p, &before):
            carry_run(b, g, &before, ids)
        buffer_add(ids, &p.id, sizeof(StreamId))
        before = p
    carry_run(b, g, &before, ids)
    buffer_free(&head)


cdef void groups_carry(Kernel *k, Collection *s, Buffer *b) noexcept nogil:
    cdef ConsumerView c
    cdef GroupView g
    cdef Carried x
    cdef Buffer ids
    cdef size_t at = 0, j
    memset(&ids, 0, sizeof(Buffer))
    while group_next(k, s, &at, &g):
        memset(&x, 0, sizeof(Carried))
        x.letter = G_GROUP
        x.shared = g.shared
        x.last = g.last
        x.said[0] = read_said(<Collection*>g.of)
        group_passed_over(k, s, &g, &ids)
        carry_part(b, &x, g.name, span(NULL, 0), &ids)
        ids.n = 0
        carry_records(k, &g, b, &ids)
        x.letter = G_CONSUMER
        j = 0
        while next_consumer(k, &g, &j, &c):
            x.said[0] = c.seen
            x.said[1] = c.active
            carry_part(b, &x, g.name, c.name, NULL)
    buffer_free(&ids)


cdef const char *carried_part(const char *p, Carried *x, Span *group, Span *owner,
                              Buffer *ids) noexcept nogil:
    """Returns where the next one begins."""
    memcpy(x, p, sizeof(Carried))
    group[0] = span(p + sizeof(Carried), x.group)
    owner[0] = span(group.p + x.group, x.owner)
    ids.n = 0
    buffer_add(ids, owner.p + x.owner, x.n * sizeof(StreamId))
    return owner.p + x.owner + x.n * sizeof(StreamId)


cdef Element *groups_put(Kernel *k, uint32_t db, Span key, Element *e, Span carried) noexcept nogil:
    cdef const char *p = carried.p
    cdef Carried x
    cdef MadeGroup made
    cdef PendingView word
    cdef Span group
    cdef Buffer ids
    cdef StreamId *v
    memset(&ids, 0, sizeof(Buffer))
    memset(&made, 0, sizeof(MadeGroup))
    while p < carried.p + carried.n:
        p = carried_part(p, &x, &group, &word.owner, &ids)
        v = <StreamId*>ids.p
        if x.letter == G_GROUP:
            e = group_put(k, db, key, e, group, x.last, x.said[0], x.shared, v, x.n, &made)
        elif x.letter == G_CONSUMER:
            e = consumer_put(k, db, key, e, group, made, word.owner, x.said[0], x.said[1])
        else:
            word.at = x.said[0]
            word.deliveries = x.said[1]
            e = records_put(k, db, key, e, group, made, &word, v, x.n)
    buffer_free(&ids)
    return e


cdef size_t groups_size(Kernel *k, Collection *s, size_t key) noexcept nogil:
    cdef Buffer b, ids
    cdef Carried x
    cdef Span group, owner
    cdef size_t bytes = 0
    cdef const char *p
    if group_count(k, s) == 0:
        return 0
    memset(&b, 0, sizeof(Buffer))
    memset(&ids, 0, sizeof(Buffer))
    groups_carry(k, s, &b)
    p = b.p
    while p < b.p + b.n:
        p = carried_part(p, &x, &group, &owner, &ids)
        bytes += records_size(key + x.group + x.owner, x.n)
    buffer_free(&ids)
    buffer_free(&b)
    return bytes

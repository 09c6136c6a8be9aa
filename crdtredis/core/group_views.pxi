# Consumer groups as clients see them: groups by name, consumers, what is pending, and what is new.
# A name that several CREATEs have made is one group.

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strcmp, strlen

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, copy_span, span

cdef enum:
    ABOVE_MOST = 64         # entries that is_above looks at
    FURTHER_MOST = 1000     # records of others that group_idle looks at for the next one


cdef StreamId last_delivered(Collection *c) noexcept nogil:
    """Of the group whose marks are loaded: the greatest id given out, or begun behind."""
    cdef const Marks *v = marks_of(c)
    cdef const Mark *x
    cdef StreamId last
    cdef size_t i, j
    memset(&last, 0, sizeof(StreamId))
    for i in range(groups_data(c).loaded):
        if id_below(last, v[i].start):
            last = v[i].start
        for j in range(mark_count(&v[i].given)):
            x = mark_at(&v[i].given, j)
            if id_below(last, x.id):
                last = x.id
    return last


cdef size_t count_of(Collection *c, int letter, Span group) noexcept nogil:
    cdef Buffer head
    cdef size_t begin, end
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, letter, group)
    range_behind(c, &head, &begin, &end)
    buffer_free(&head)
    return end - begin


cdef int group_view(Kernel *k, Collection *c, Element *m, GroupView *out) noexcept nogil:
    """But for how much is read and is to be. Of several CREATEs no less than what is pending, and
    no fewer than the consumers (group_counted)."""
    cdef Marks *v
    load_marks(k, c, m)
    memset(out, 0, sizeof(GroupView))
    out.name = name_group(m)
    out.of = c
    out.read = out.lag = -1
    v = marks_of(c)
    out.shared = groups_data(c).loaded and v[0].shared
    # records of one that went may stand there until the join is over
    out.creates = <int>groups_data(c).loaded + (k.joining != 0)
    out.last = last_delivered(c)
    out.pending = count_of(c, G_RECORD, out.name)
    out.consumers = count_of(c, G_CONSUMER, out.name)
    return 1


cdef void group_counted(Kernel *k, GroupView *g) noexcept nogil:
    cdef Collection *c = <Collection*>g.of
    cdef ConsumerView consumer
    cdef Buffer head
    cdef size_t begin, end, i = 0
    g.unowned = count_owned(k, g, nobody_key(k, g.name), span(NULL, 0))
    if g.creates > 1:
        memset(&head, 0, sizeof(Buffer))
        name_begin(&head, G_RECORD, g.name)
        range_behind(c, &head, &begin, &end)
        buffer_free(&head)
        g.pending = count_ids(c, begin, end)
    elif not is_nobody_there(g):
        g.consumers = count_of(c, G_CONSUMER, g.name)
        return
    g.consumers = 0
    while next_consumer(k, g, &i, &consumer):
        g.consumers += 1


cdef int group_find(Kernel *k, Collection *s, Span name, GroupView *out) noexcept nogil:
    cdef Collection *c = groups_of(s)
    cdef Element *m = find_group(k, c, name) if c != NULL else NULL
    return m != NULL and group_view(k, c, m, out)


cdef size_t group_count(Kernel *k, Collection *s) noexcept nogil:
    cdef Collection *c = groups_of(s)
    cdef char letter = G_GROUP
    cdef OrderCursor at
    cdef size_t rank, n = 0
    cdef Element *m = first_from(c, span(&letter, 1), &rank, &at) if c != NULL else NULL
    while m != NULL and element_key(m)[0] == G_GROUP:
        n += 1
        m = next_in_order(&at)
    return n


cdef Element *nth_group(Collection *c, size_t n) noexcept nogil:
    """By name; c may be NULL. NULL: there are no more."""
    cdef char letter = G_GROUP
    cdef OrderCursor at
    cdef size_t rank
    cdef Item *item
    if c == NULL:
        return NULL
    first_from(c, span(&letter, 1), &rank, &at)
    item = order_at(order_of(c), rank + n, &at)
    return item.e if item != NULL and element_key(item.e)[0] == G_GROUP else NULL


cdef int gave_all_before(Collection *c, Collection *s, StreamId id) noexcept nogil:
    """Of the first entry that is new to the group that was looked at last: are all behind it new,
    too?"""
    cdef Marks *v = marks_of(c)
    cdef size_t i
    if stream_of(s).arrived.n or groups_data(c).loaded != 1 or v.odd.n or not id_below(v.start, id):
        return 0
    for i in range(mark_count(&v.given)):
        if not id_below(mark_at(&v.given, i).id, id):
            return 0
    return 1


cdef void group_passed_over(Kernel *k, Collection *s, const GroupView *g,
                            Buffer *ids) noexcept nogil:
    cdef StreamCursor at
    cdef int more
    group_new(k, s, g, NULL, &at)
    more = stream_next(&at) and not gave_all_before(<Collection*>g.of, s, at.id)
    while more:
        if not id_below(g.last, at.id):
            buffer_add(ids, &at.id, sizeof(StreamId))
        more = stream_next(&at)


cdef int group_next(Kernel *k, Collection *s, size_t *at, GroupView *out) noexcept nogil:
    cdef Collection *c = groups_of(s)
    cdef StreamCursor walk
    cdef Element *m = nth_group(c, at[0])
    if m == NULL:
        return 0
    at[0] += 1
    group_view(k, c, m, out)
    group_counted(k, out)
    group_new(k, s, out, NULL, &walk)
    out.lag = 0
    if stream_next(&walk):
        if gave_all_before(c, s, walk.id):
            out.lag = <int64_t>(stream_len(s) - rank_of(s, walk.id))
        else:
            out.lag = 1
            while stream_next(&walk):
                out.lag += 1
    out.read = read_said(c)
    if out.read == COUNTED:
        out.read = max(<int64_t>stream_added(k, s) - out.lag, <int64_t>0)
    return 1


cdef int64_t read_said(Collection *c) noexcept nogil:
    """entries-read of the group that was looked at last, as it was said; COUNTED where any of its
    CREATEs has counted."""
    cdef Marks *v = marks_of(c)
    cdef int64_t read = v[0].read if groups_data(c).loaded else -1
    cdef size_t i
    for i in range(groups_data(c).loaded):
        if v[i].read == COUNTED:
            read = COUNTED
    return read


cdef int next_consumer(Kernel *k, const GroupView *g, size_t *at,
                       ConsumerView *out) noexcept nogil:
    """But for what is pending. *at: members that are behind. One of the empty name that was never
    seen is none: XNACK and RESTORE leave it."""
    cdef Collection *c = <Collection*>g.of
    cdef const char *p
    cdef OrderCursor cursor
    cdef Buffer head
    cdef int64_t seen, active
    cdef size_t rank
    cdef Element *m
    cdef Said w
    cdef Span name
    cdef size_t i
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, G_CONSUMER, g.name)
    m = first_from(c, content(&head), &rank, &cursor)
    m = order_at(order_of(c), rank + at[0], &cursor).e if rank + at[0] < order_of(c).n else NULL
    if m == NULL or not begins_with(m, content(&head)):
        buffer_free(&head)
        return 0
    memset(out, 0, sizeof(ConsumerView))
    out.name = name_consumer(m)
    out.active = -1
    while m != NULL and begins_with(m, content(&head)):
        name = name_consumer(m)
        if name.n != out.name.n or (name.n and memcmp(name.p, out.name.p, name.n)):
            break
        i = 0
        while nth_write(m, i, &w):
            i += 1
            p = w.value.p
            if get_signed(&p, p + w.value.n, &seen) and get_signed(&p, w.value.p + w.value.n,
                                                                   &active):
                out.seen = max(out.seen, seen)
                out.active = max(out.active, active)
        at[0] += 1
        m = next_in_order(&cursor)
    if out.name.n == 0 and out.seen == 0:
        buffer_free(&head)
        return next_consumer(k, g, at, out)
    name_begin(&head, G_CONSUMER, g.name)
    add_bytes(&head, out.name)
    m = table_find(&groups_data(c).calls, head.p, head.n, key_hash(k, head.p, head.n))
    if m != NULL:
        memcpy(&seen, element_value(m), sizeof(seen))
        out.seen = max(out.seen, seen)
    buffer_free(&head)
    return 1


cdef void consumer_called(Kernel *k, const GroupView *g, Span name) noexcept nogil:
    cdef Collection *c = <Collection*>g.of
    cdef Table *calls = &groups_data(c).calls
    cdef Buffer b
    cdef Element *x
    cdef uint32_t hash
    memset(&b, 0, sizeof(Buffer))
    name_begin(&b, G_CONSUMER, g.name)
    add_bytes(&b, name)
    hash = key_hash(k, b.p, b.n)
    x = table_find(calls, b.p, b.n, hash)
    if x == NULL:
        if table_count(calls) > table_count(&c.table):          # of consumers that are gone
            table_clear(calls, free_visited, NULL)
            table_init(calls)
        x = element_new(k, content(&b), hash, E_MEMBER | E_PLAIN | E_BARE, sizeof(k.now))
        table_add(calls, x, hash)
    memcpy(element_value(x), &k.now, sizeof(k.now))
    buffer_free(&b)


cdef void consumer_forget(Kernel *k, const GroupView *g, Span name) noexcept nogil:
    """Its calls."""
    cdef Table *calls = &groups_data(<Collection*>g.of).calls
    cdef Buffer b
    cdef Element *x
    memset(&b, 0, sizeof(Buffer))
    name_begin(&b, G_CONSUMER, g.name)
    add_bytes(&b, name)
    x = table_find(calls, b.p, b.n, key_hash(k, b.p, b.n))
    if x != NULL:
        table_remove(calls, x)
        element_free(x)
    buffer_free(&b)


cdef Element *owned_from(Collection *c, uint64_t key, Span name, Span head,
                         OrderCursor *at) noexcept nogil:
    """In by_owner under a key the first record whose name is not before `name` and begins with
    `head`."""
    cdef Order *o = &groups_data(c).by_owner
    cdef Item *item = order_at(o, order_rank(o, key, name), at)
    return item.e if item != NULL and item.sort_key == key and begins_with(item.e, head) else NULL


cdef Element *owned_next(Span head, OrderCursor *at) noexcept nogil:
    """Under key 0."""
    cdef Item *item = order_next(at)
    return item.e if item != NULL and item.sort_key == 0 and begins_with(item.e, head) else NULL


cdef size_t count_owned(Kernel *k, const GroupView *g, uint64_t key, Span owner) noexcept nogil:
    """Records of an owner, of whose key that is in by_owner; owner.p: NULL: of nobody."""
    cdef Collection *c = <Collection*>g.of
    cdef Order *o = &groups_data(c).by_owner
    cdef Span nothing = span(b"", 0)
    cdef OrderCursor at
    cdef PendingView p
    cdef Buffer head
    cdef Element *m
    cdef size_t n = 0, rank
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, G_RECORD, g.name)
    if g.creates == 1:
        n = order_rank(o, key + 1, nothing) - order_rank(o, key, nothing)
        m = owned_from(c, 0, content(&head), content(&head), &at)
        while m != NULL:
            pending_of(k, m, &p)
            n += is_owner(&p, owner)
            m = owned_next(content(&head), &at)
    else:
        m = first_from(c, content(&head), &rank, &at)
        while m != NULL and begins_with(m, content(&head)):
            m = pending_at(k, m, content(&head), &at, &p)
            n += is_owner(&p, owner)
    buffer_free(&head)
    return n


cdef int consumer_next(Kernel *k, const GroupView *g, size_t *at,
                       ConsumerView *out) noexcept nogil:
    if not next_consumer(k, g, at, out):
        return 0
    out.pending = count_owned(k, g, owner_key(k, g.name, out.name), out.name)
    return 1


cdef int was_seen(Element *m) noexcept nogil:
    """Does a write of a consumer say when?"""
    cdef const char *p
    cdef int64_t seen = 0
    cdef size_t i = 0
    cdef Said w
    while seen == 0 and nth_write(m, i, &w):
        i += 1
        p = w.value.p
        get_signed(&p, p + w.value.n, &seen)
    return seen != 0


cdef int consumer_there(const GroupView *g, Span name, size_t *at) noexcept nogil:
    """*at: where consumer_next comes to it first."""
    cdef Collection *c = <Collection*>g.of
    cdef OrderCursor cursor
    cdef Buffer head
    cdef size_t first, rank
    cdef Element *m
    cdef int there = 0
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, G_CONSUMER, g.name)
    first_from(c, content(&head), &first, &cursor)
    add_bytes(&head, name)
    m = first_from(c, content(&head), &rank, &cursor)
    while m != NULL and not there and begins_with(m, content(&head)):
        there = name.n or was_seen(m)
        m = next_in_order(&cursor)
    at[0] = rank - first
    buffer_free(&head)
    return there


cdef int is_nobody_there(const GroupView *g) noexcept nogil:
    """Is there a consumer of the empty name that is none?"""
    cdef Collection *c = <Collection*>g.of
    cdef OrderCursor cursor
    cdef Buffer head
    cdef size_t rank
    cdef Element *m
    cdef int there
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, G_CONSUMER, g.name)
    add_bytes(&head, span(b"", 0))
    m = first_from(c, content(&head), &rank, &cursor)
    there = m != NULL and begins_with(m, content(&head)) and not was_seen(m)
    buffer_free(&head)
    return there


cdef int consumer_find(Kernel *k, const GroupView *g, Span name, ConsumerView *out) noexcept nogil:
    cdef size_t at
    return consumer_there(g, name, &at) and consumer_next(k, g, &at, out)


cdef inline int is_owner(const PendingView *p, Span name) noexcept nogil:
    """name.p: NULL: of what nobody owns."""
    return is_unowned(p) == (name.p == NULL) and p.owner.n == name.n and (
        name.n == 0 or memcmp(p.owner.p, name.p, name.n) == 0)


cdef void pending_of(Kernel *k, Element *m, PendingView *out) noexcept nogil:
    """What the only record of an id says."""
    pending_at(k, m, span(b"", 0), NULL, out)


cdef Element *pending_at(Kernel *k, Element *m, Span head, OrderCursor *at,
                         PendingView *out) noexcept nogil:
    """The latest word of the records of m's id, on which `at` stands; returns what is behind. at:
    NULL: of m alone."""
    cdef StreamId id = name_id(m)
    cdef Owned own, best
    cdef int some = 0
    cdef Said w
    cdef size_t i
    memset(&best, 0, sizeof(Owned))
    while m != NULL and begins_with(m, head) and not id_below(id, name_id(m)):
        i = 0
        while nth_write(m, i, &w):
            i += 1
            if owned_decode(w.value, &own) and (not some or round_order(
                    &k.actors, own.stamp, own.actor, best.stamp, best.actor) > 0):
                best = own
                some = 1
        m = next_in_order(at) if at != NULL else NULL
    out.id = id
    out.owner = best.owner
    out.at = best.at
    out.deliveries = best.deliveries
    return m


cdef int pending_from(Kernel *k, const GroupView *g, StreamId id, Span owner,
                      PendingView *out) noexcept nogil:
    cdef Collection *c = <Collection*>g.of
    cdef OrderCursor at
    cdef Buffer head, name
    cdef size_t rank
    cdef Element *m
    cdef Element *plain
    cdef int found = 0
    memset(&head, 0, sizeof(Buffer))
    memset(&name, 0, sizeof(Buffer))
    name_begin(&head, G_RECORD, g.name)
    buffer_add(&name, head.p, head.n)
    add_id(&name, id)
    if owner.p != NULL and g.creates == 1:
        plain = owned_from(c, owner_key(k, g.name, owner), content(&name), content(&head), &at)
        m = owned_from(c, 0, content(&name), content(&head), &at)
        while m != NULL and not found and (plain == NULL or id_below(name_id(m), name_id(plain))):
            pending_of(k, m, out)
            found = is_owner(out, owner)
            m = owned_next(content(&head), &at)
        if not found and plain != NULL:
            pending_of(k, plain, out)
            found = 1
    else:
        m = first_from(c, content(&name), &rank, &at)
        while m != NULL and begins_with(m, content(&head)) and not found:
            m = pending_at(k, m, content(&head), &at, out)
            found = owner.p == NULL or is_owner(out, owner)
    buffer_free(&head)
    buffer_free(&name)
    return found


cdef int pending_last(Kernel *k, const GroupView *g, PendingView *out) noexcept nogil:
    cdef Collection *c = <Collection*>g.of
    cdef OrderCursor at
    cdef Buffer head
    cdef size_t begin, end
    cdef Span anybody
    anybody.p = NULL
    anybody.n = 0
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, G_RECORD, g.name)
    range_behind(c, &head, &begin, &end)
    buffer_free(&head)
    return begin < end and pending_from(k, g, name_id(order_at(order_of(c), end - 1, &at).e),
                                        anybody, out)


cdef int gives_out(Kernel *k, const Portion *by, uint64_t actor) noexcept nogil:
    """Does this replica give out what that process has added?"""
    cdef const Actors *a = &k.actors
    cdef uint16_t slot = actors_find(&k.actors, actor)
    cdef const char *p
    if by == NULL:
        return 1
    p = by.but.p
    if slot != NO_SLOT and a.v[slot].replica_slot == a.v[k.me].replica_slot:
        return by.own
    while slot != NO_SLOT and by.rest and p < by.but.p + by.but.n:
        if strcmp(p, a.v[slot].replica) == 0:
            return 0
        p += strlen(p) + 1
    return by.rest


cdef inline uint64_t portion_mark(Kernel *k, const Portion *by) noexcept nogil:
    """Two that have the same give out the same, but by chance."""
    return (siphash64(by.but.p, by.but.n, k.hash_key) << 3
            | 4 | (by.own != 0) << 1 | (by.rest != 0))


cdef void keep_place(StreamCursor *at, Groups *g, int passing) noexcept nogil:
    """What the walk has come to so far need not be looked at again."""
    cdef Places places
    places = places_of(at.k, g, at.group)
    places.known = 1
    if passing & PASSING_GIVEN:
        places.given = stream_place(at.k, at.c, g.passed)
    if passing & PASSING_OTHERS:
        places.others = stream_place(at.k, at.c, g.passed)
        places.by = g.by
    keep_places(at.k, g, at.group, &places)


cdef int is_wanted(StreamCursor *at, int there) noexcept nogil:
    """Is the entry on which it stands (not there: the walk is over) new to the group that was
    looked at last, and this replica's to give out?"""
    cdef Groups *g = groups_data(groups_of(at.c))
    cdef Mark mark
    cdef int is_new = 0, mine = 0, ends
    if there:
        mark = place_mark(at.k, &at.on, &at.on_at)
        is_new = not is_delivered(g, &mark)
        mine = is_new and gives_out(at.k, at.by, mark.actor)
    ends = g.passing & ((PASSING_GIVEN if not there or is_new else 0)
                        | (PASSING_OTHERS if not there or mine else 0))
    if ends and g.some:
        keep_place(at, g, ends)
    g.passing &= ~ends
    if g.passing:
        g.passed = mark.id
        g.some = 1
    return mine


cdef StreamId id_down(StreamId id) noexcept nogil:
    """Of 0-0 the same."""
    if id.ms or id.seq:
        id.ms -= id.seq == 0
        id.seq -= 1
    return id


cdef int is_above(Kernel *k, Collection *s, const Mark *last) noexcept nogil:
    """Has all that its actor wrote behind `last` ids above it, surely? Those of an actor are in
    order of seq, so the last one up to there tells; it is looked for a while."""
    cdef OrderCursor at
    cdef Item *item
    cdef Said w
    cdef size_t i, n = ABOVE_MOST
    cdef int of_it = 0, newer = 0
    item = last_up_to(s, last.id, &at)
    while item != NULL and n and not of_it:
        i = 0
        while nth_of_entry(item, &at, i, &w):
            i += 1
            if k.actors.v[dot_slot(w.dot)].id == last.actor:
                of_it = 1
                newer |= dot_seq(w.dot) > last.seq
        n -= 1
        item = entry_prev(&at)
    return not newer and (of_it or item == NULL)


cdef StreamId new_from(Kernel *k, Collection *s) noexcept nogil:
    """Of the group that was looked at last, where no place is known, as after a start: what is new
    to it has this id or one above.

    What an actor has given out of it is up to a mark, and what it has not is behind that, a hole,
    or, without a mark, behind where the round began; so it is enough to know what each has written:

        100 entries of a, all given out; 5 of b, none: b's lowest id.  a adds one: above a's mark
    """
    cdef const Marks *v = marks_of(groups_of(s))
    cdef const Written *x
    cdef const Mark *last
    cdef const Mark *seen
    cdef StreamId low, id
    cdef uint64_t actor
    cdef size_t i
    memset(&low, 0, sizeof(StreamId))
    if groups_data(groups_of(s)).loaded != 1:
        return low
    memset(&low, 0xff, sizeof(StreamId))
    for i in range(mark_count(&v.odd)):
        id = mark_at(&v.odd, i).id
        low = id if id_below(id, low) else low
    for i in range(writers_of(s).n // sizeof(Written)):
        x = <const Written*>writers_of(s).p + i
        actor = k.actors.v[x.slot].id
        last = of_actor(&v.given, actor)
        seen = of_actor(&v.seen, actor)
        if last != NULL and x.seq < last.seq:
            continue
        id = x.id
        if last != NULL and id_below(id, last.id) and is_above(k, s, last):
            id = last.id
        if seen != NULL and x.seq <= seen.seq and id_below(id, v.start):
            id = v.start
        low = id if id_below(id, low) else low
    return low


cdef int begins_right(Kernel *k, Collection *s, const GroupView *g) noexcept nogil:
    """For a check: is all in front of where the group would begin to look given out?"""
    cdef Collection *c = <Collection*>g.of
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(s), 0, &at)
    cdef StreamId low
    cdef Mark mark
    load_marks(k, c, find_group(k, c, g.name))
    low = new_from(k, s)
    while item != NULL and id_below(entry_id(item, &at), low):
        mark = place_mark(k, item, &at)
        if not is_delivered(groups_data(c), &mark):
            return 0
        item = entry_next(&at)
    return 1


cdef void group_new(Kernel *k, Collection *s, const GroupView *g, const Portion *by,
                    StreamCursor *at) noexcept nogil:
    cdef Collection *c = <Collection*>g.of
    cdef Groups *data = groups_data(c)
    cdef Places places = places_of(k, data, g.name)
    cdef StreamPlace place = places.given
    load_marks(k, c, find_group(k, c, g.name))
    if not places.known:
        place.id = id_down(new_from(k, s))      # what came late stands behind a greater id
    data.by = portion_mark(k, by) if by != NULL else 0
    data.some = 0
    data.passing = PASSING_GIVEN | PASSING_OTHERS if by != NULL else PASSING_GIVEN
    if by != NULL and places.by == data.by:
        place = places.others
        data.passing = PASSING_OTHERS
    stream_after(k, s, place, at)
    at.wants = is_wanted
    at.group = g.name
    at.by = by


cdef int record_at(Kernel *k, const GroupView *g, Element *m, PendingView *out) noexcept nogil:
    """What holds of the id of a record; 0 where another record of it says that."""
    cdef int64_t time = <int64_t>(record_time(k, m) & ((<uint64_t>1 << TIME_BITS) - 1))
    cdef StreamId id = name_id(m)
    cdef Span anybody
    anybody.p = NULL
    anybody.n = 0
    if g.creates == 1:
        pending_of(k, m, out)
        return 1
    return pending_from(k, g, id, anybody, out) and out.at == time


cdef void group_idle(Kernel *k, Collection *s, const GroupView *g, const Portion *by, int64_t until,
                     size_t most, Buffer *out, Buffer *gone, int64_t *next) noexcept nogil:
    cdef Collection *c = <Collection*>g.of
    cdef Order *o = &groups_data(c).by_time
    cdef Places places = places_of(k, groups_data(c), g.name)
    cdef uint64_t mark = portion_mark(k, by) if by != NULL and g.creates == 1 else 0
    cdef uint64_t begin = time_key(k, g.name, 0), end = time_key(k, g.name, INT64_MAX)
    cdef Element *entry
    cdef OrderCursor at
    cdef PendingView p, before
    cdef Buffer head
    cdef size_t n = 0, further = 0
    cdef Item *item
    next[0] = -1
    time_records(k, c)
    memset(&head, 0, sizeof(Buffer))
    memset(&before, 0, sizeof(PendingView))
    name_begin(&head, G_RECORD, g.name)
    if mark and places.idle_by == mark:
        begin = places.idle
    places.idle = end
    item = order_at(o, order_rank(o, begin, span(b"", 0)), &at)
    while item != NULL and item.sort_key <= end and n < most:
        if begins_with(item.e, content(&head)) and record_at(k, g, item.e, &p) and not (
                n and p.id.ms == before.id.ms and p.id.seq == before.id.seq):
            entry = entry_of(k, s, p.id)
            further += p.at > until
            if entry == NULL or further == FURTHER_MOST or gives_out(
                    k, by, entry_mark(k, entry).actor):
                places.idle = min(places.idle, item.sort_key)
                if p.at > until or gone.n == GONE_MOST * sizeof(StreamId):
                    next[0] = p.at
                    break
                if entry == NULL:
                    buffer_add(gone, &p.id, sizeof(StreamId))
                else:
                    buffer_add(out, &p, sizeof(PendingView))
                    before = p
                    n += 1
        item = order_next(&at)
    if mark:
        places.idle_by = mark
        keep_places(k, groups_data(c), g.name, &places)
    buffer_free(&head)


cdef int is_pending(Collection *c, Span group, StreamId id) noexcept nogil:
    cdef OrderCursor at
    cdef Buffer name
    cdef size_t rank
    cdef Element *m
    cdef int yes
    memset(&name, 0, sizeof(Buffer))
    name_begin(&name, G_RECORD, group)
    add_id(&name, id)
    m = first_from(c, content(&name), &rank, &at)
    yes = m != NULL and begins_with(m, content(&name))
    buffer_free(&name)
    return yes


cdef void group_references(Kernel *k, Collection *s, const StreamId *ids, size_t n,
                           uint8_t *out) noexcept nogil:
    cdef Collection *c = groups_of(s)
    cdef OrderCursor waits_at
    cdef Item *waits
    cdef Element *entry
    cdef Element *group
    cdef Buffer name
    cdef Mark mark
    cdef size_t i, j = 0, left = n, head
    memset(out, 0, n)
    memset(&name, 0, sizeof(Buffer))
    group = nth_group(c, j)
    while group != NULL and left:
        load_marks(k, c, group)
        name_begin(&name, G_RECORD, name_group(group))
        head = name.n
        waits_at.leaf = NULL
        for i in range(n):
            if out[i]:
                continue
            name.n = head
            add_id(&name, ids[i])
            waits = order_forward(order_of(c), &waits_at, name_sort_key(content(&name)),
                                  content(&name))
            out[i] = waits != NULL and begins_with(waits.e, content(&name))
            if not out[i]:
                entry = entry_of(k, s, ids[i])
                if entry != NULL:
                    mark = entry_mark(k, entry)
                    out[i] = not is_delivered(groups_data(c), &mark)
                else:
                    out[i] = id_below(last_delivered(c), ids[i])
            left -= out[i] != 0
        j += 1
        group = nth_group(c, j)
    buffer_free(&name)

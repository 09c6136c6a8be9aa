# Streams: what are entries, what is in their order, and what does a reader get?
#
# An entry is a member's cell like any other: its name is the id, its value the fields, packed. So
# the rules are those of a hash's field, and nothing new is to be argued: a write stays unless an op
# that observed it assigned there or removed it; two that stand side by side under one explicit id
# are both kept, and the later shows.
#
#     A: XADD s 5-1 f 1   ||   B: XADD s 5-1 f 2, later       ->  5-1: f 2, in both
#     A: XTRIM s MAXLEN 0 ||   B: XADD s 6-1 f 3              ->  6-1. A's effect removes what is up
#         to the last id that A had, as far as A observed it; B's write it did not, be its id small
#         or great, and whichever of the two arrives first
#
# What a stream knows beside them are cells of a second collection right behind it, its head:
#
#     "t"   last-generated-id: each write says an id. An XADD or XSETID replaces those it observed,
#           and of those that are left the greatest counts. That differs from a register only in
#           what is shown; which writes are left is told by what each op observed, in any order
#               A: XADD s 5-1   ||   B: XADD s 7-1      ->  writes {5-1, 7-1}: the top is 7-1
#               then A: XSETID s 6-0 || B: XADD s 8-1   ->  {6-0, 8-1}: 8-1
#     "d"   max-deleted-entry-id: likewise, of XDEL
#     "a"   entries-added: a counter; XSETID .. ENTRIESADDED assigns to it
#     "c"   what XCFGSET says: a register, two numbers in place of an id's
#
# Whatever was assigned at the same time, no stream is shown to end below what was deleted, or to
# have had fewer entries than it has: clients and other servers rely on both.
#
# An XADD is one effect, which assigns to the entry and to "t" and adds to "a": each of the three is
# an effect on one cell. A stream is there as long as "t" is, also without entries: whatever removes
# all that "t" holds has observed all that was added before, so no entry is left alone.
#
# Order of arrival. XREAD gives what arrived here behind what the reader got last, whatever its id.
# It is a matter of this replica: no effect reads it, and neither digest nor op has it. Nearly all
# entries arrive in the order of their ids; only what comes behind a greater one is remembered:
#
#     A: adds 10-1 and 30-1, which are read.  B: added 20-1, which arrives now
#     late: 20-1 -> (number 1, behind 30-1).  A reader at 30-1 gets 20-1, then 40-1; one at 10-1
#     gets 30-1, 20-1, 40-1; one at 20-1 stands behind 30-1 and number 1, and gets 40-1
#
# So the order is: in order of ids what was not late, and behind each all that came late when it was
# the newest. An id that is not known as late is taken as one that was not, there or removed; so
# readers may stand on what is gone. Who reads from an id that never was gets what is above it, and
# what came late when something above it was the newest: too much rather than too little. Late ones
# that are gone are forgotten when there are far more of them than entries; a reader who stands on
# one may then get again what it had. An explicit id that is removed and used again is late, if at
# all, by its second arrival: no promise, as the contract says.
#
# A stream that is deleted leaves a floor, the newest id it had: what an op from elsewhere that had
# not seen the deletion brings counts as behind it. Of floors the last FLOORS are known, and none
# after a restart or FLUSHDB.
#
# A checkpoint holds `newest` and the late ones, and says of how many ops of the log it is the state
# (Stream.contains). Those come again at the start, and change no order: they are counted, and what
# they bring is in the state, or was removed, or is among the late ones that the checkpoint names.
# What comes behind them arrives as it did. A full sync gives entries in order of ids, and they
# arrive so: those of each process in the order in which it made them.
#
# Ids of `*` are a tick of the hybrid clock, new for each, and 16 bits that no other process that is
# known here could choose: (tick >> 16, (tick & 0xffff) << 16 | low). Below 2^53, as long as the
# clock is not set back, so that JavaScript reads them exactly.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memmove, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

cdef enum:
    HEAD_DELETED = 100      # "d",
    HEAD_ADDED = 97         # "a",
    HEAD_IDEMPOTENCE = 99   # "c": names of members of a head; see also HEAD_TOP
    LATE_SPARE = 1024       # late entries, more than twice the entries there, that are remembered
    LATE_RUN = 64           # late entries side by side that readers are to pass over at once
    LOW_BITS = 16

# Of an actor that has written entries here, since this process began: it stands behind the Stream,
# in a Buffer of these, the one that wrote last in front.
cdef struct Written:
    uint16_t slot
    uint64_t seq            # the greatest of them,
    StreamId id             # and the lowest: those of entries that are gone count, too
    StreamId gap_begin      # between the one id and the other it has no entry
    StreamId gap_end


# ---- ids -----------------------------------------------------------------------------------------

cdef uint16_t choose_low(Kernel *k) noexcept nogil:
    """One of the four parts of this actor's id that is no part of another's. So of two processes it
    is enough that one knows the other."""
    cdef uint64_t mine = k.actors.v[k.me].id, other
    cdef uint32_t slot
    cdef int i, j, free
    for i in range(4):
        free = 1
        for slot in range(k.actors.n):
            other = k.actors.v[slot].id if slot != k.me and slot != k.home.slot else ~mine
            for j in range(4):
                free &= <uint16_t>(other >> 16 * j) != <uint16_t>(mine >> 16 * i)
        if free:
            return <uint16_t>(mine >> 16 * i)
    return <uint16_t>mine


cdef int stream_star(Kernel *k, Collection *c, StreamId *id) noexcept nogil:
    cdef StreamId top
    cdef uint64_t wall = <uint64_t>k.now << 16
    cdef uint64_t tick = k.open.op.stamp if k.open.has_op else max(wall, k.newest_stamp + 1)
    memset(&top, 0, sizeof(StreamId))
    if c != NULL:
        top = stream_top(c)
    if k.streams.low_of != k.actors.n:
        k.streams.low = choose_low(k)
        k.streams.low_of = k.actors.n
    tick = max(tick, k.streams.made + 1)
    id.ms = tick >> 16
    id.seq = (tick & 0xffff) << LOW_BITS | k.streams.low
    if not id_below(top, id[0]):
        id.ms = top.ms
        id.seq = ((top.seq >> LOW_BITS) + 1) << LOW_BITS | k.streams.low
        if top.seq >> LOW_BITS == <uint64_t>-1 >> LOW_BITS:
            id.ms += 1
            id.seq = k.streams.low
            if id.ms == 0:
                return 0
    if id.ms == tick >> 16:
        k.streams.made = max(tick, id.ms << 16 | min(id.seq >> LOW_BITS, <uint64_t>0xffff))
        k.newest_stamp = max(k.newest_stamp, k.streams.made)
    return 1


# ---- the head ------------------------------------------------------------------------------------

cdef Element *head_member(Collection *c, int name) noexcept nogil:
    """Of stream c; NULL: there is none. It has four at the most."""
    cdef Collection *h = head_of(c)
    cdef size_t pos = 0
    cdef Element *m = table_next(&h.table, &pos) if h != NULL else NULL
    while m != NULL and element_key(m)[0] != name:
        m = table_next(&h.table, &pos)
    return m


cdef StreamId head_id(Collection *c, int name) noexcept nogil:
    """The greatest id that is written there; 0-0: none."""
    cdef Element *m = head_member(c, name)
    cdef StreamId best, id
    cdef Write *w
    memset(&best, 0, sizeof(StreamId))
    if m == NULL:
        return best
    if m.meta & E_PLAIN:
        return id_of(element_value(m)) if element_vlen(m) == STREAM_ID else best
    w = element_cell(m).writes if m.meta & E_CELL else NULL
    while w != NULL:
        if w.n == STREAM_ID:
            id = id_of(write_value(w))
            if id_below(best, id):
                best = id
        w = w.next
    return best


cdef StreamId stream_top(Collection *c) noexcept nogil:
    cdef StreamId top = head_id(c, HEAD_TOP), deleted = stream_max_deleted(c)
    return deleted if id_below(top, deleted) else top


cdef StreamId stream_max_deleted(Collection *c) noexcept nogil:
    return head_id(c, HEAD_DELETED)


cdef uint64_t stream_added(Kernel *k, Collection *c) noexcept nogil:
    cdef Element *m = head_member(c, HEAD_ADDED)
    cdef int64_t n = 0
    if m != NULL and value_live(m) and field_int(k, m, &n) == NO_NUMBER:
        n = 0
    return max(<uint64_t>max(n, <int64_t>0), order_of(c).n)


cdef Element *entry_of(Kernel *k, Collection *s, StreamId id) noexcept nogil:
    """NULL: it has gone."""
    cdef char name[16]
    put_id(name, id)
    return entry_find(k, s, span(name, STREAM_ID), key_hash(k, name, STREAM_ID))


cdef Element *entry_under(Kernel *k, Collection *s, Span name, uint32_t hash) noexcept nogil:
    """Before it changes, or comes. NULL: none is there; an id above all that arrived tells that
    without a look."""
    if not k.inbox.recovering and id_below(stream_of(s).newest, id_of(name.p)):
        return NULL
    open_for_entry(k, s, id_of(name.p))
    return table_find(&s.table, name.p, name.n, hash)


cdef size_t stream_len(Collection *c) noexcept nogil:
    return order_of(c).n


cdef size_t stream_between(Collection *c, StreamId first, StreamId last) noexcept nogil:
    cdef OrderCursor at
    cdef Item *item
    cdef size_t below = rank_of(c, first), upto = entry_seek(c, last, &at, &item)
    if item != NULL and is_at(item, &at, last):
        upto += 1
    return upto - below if below < upto else 0


# ---- who has written -----------------------------------------------------------------------------

cdef inline Buffer *writers_of(const Collection *c) noexcept nogil:
    return <Buffer*>(<char*>stream_of(c) + sizeof(Stream))


cdef void note_writer(Collection *c, uint64_t dot, StreamId id) noexcept nogil:
    cdef Buffer *b = writers_of(c)
    cdef Written *v = <Written*>b.p
    cdef Written x
    cdef size_t i = 0
    while i < b.n // sizeof(Written) and v[i].slot != dot_slot(dot):
        i += 1
    if i == b.n // sizeof(Written):
        x.slot = dot_slot(dot)
        x.seq = dot_seq(dot)
        x.id = x.gap_begin = x.gap_end = id
        buffer_add(b, &x, sizeof(Written))
        v = <Written*>b.p
    x = v[i]
    x.seq = max(x.seq, dot_seq(dot))
    if id_below(id, x.id):
        x.id = id
    if id_below(x.gap_begin, id) and id_below(id, x.gap_end):
        x.gap_end = id
    memmove(v + 1, v, i * sizeof(Written))
    v[0] = x


cdef void note_writers(Kernel *k, Collection *c, Element *m, int there) noexcept nogil:
    """An entry comes into the order, or goes."""
    cdef Write *w
    if not there:
        return
    if m.meta & E_PLAIN:
        note_writer(c, m.dot, id_of(element_key(m)))
        return
    w = element_cell(m).writes if m.meta & E_CELL else NULL
    while w != NULL:
        note_writer(c, w.dot, id_of(element_key(m)))
        w = w.next


cdef int writers_known(Collection *c) noexcept nogil:
    """For a check: is every write that is there counted, and in no gap?"""
    cdef Written *v = <Written*>writers_of(c).p
    cdef size_t n = writers_of(c).n // sizeof(Written), i
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), 0, &at)
    cdef StreamId id
    cdef Write *w
    cdef uint64_t dot
    while item != NULL:
        w = NULL
        if sealed_n(item.e):
            dot = sealed_dot(sealed_of(item.e), at.within)
        else:
            w = element_cell(item.e).writes if item.e.meta & E_CELL else NULL
            dot = item.e.dot if item.e.meta & E_PLAIN else w.dot
        while True:
            i = 0
            while i < n and v[i].slot != dot_slot(dot):
                i += 1
            id = entry_id(item, &at)
            if i == n or v[i].seq < dot_seq(dot) or id_below(id, v[i].id) or (
                    id_below(v[i].gap_begin, id) and id_below(id, v[i].gap_end)):
                return 0
            w = w.next if w != NULL else NULL
            if w == NULL:
                break
            dot = w.dot
        item = entry_next(&at)
    return 1


# ---- arrival -------------------------------------------------------------------------------------

cdef inline StreamId behind(Element *late) noexcept nogil:
    """What was the newest when it arrived."""
    cdef StreamId id
    memcpy(&id, element_value(late), sizeof(StreamId))
    return id


cdef inline Element *find_late(Collection *c, const char *name, uint32_t hash) noexcept nogil:
    return table_find(&stream_of(c).late, name, STREAM_ID, hash)


cdef void late_remove(Stream *s, Element *x) noexcept nogil:
    order_remove(&s.arrived, x.dot, x)
    table_remove(&s.late, x)
    element_free(x)


cdef void late_add(Kernel *k, Stream *s, Span name, uint32_t hash, StreamId newest) noexcept nogil:
    cdef Element *x = table_find(&s.late, name.p, name.n, hash)
    if x != NULL:
        late_remove(s, x)
    x = element_new(k, name, hash, E_MEMBER | E_PLAIN | E_BARE, sizeof(StreamId))
    memcpy(element_value(x), &newest, sizeof(StreamId))
    k.streams.arrivals += 1
    x.dot = k.streams.arrivals
    table_add(&s.late, x, hash)
    order_insert(&s.arrived, x.dot, x)


cdef void late_clear(Stream *s) noexcept nogil:
    memset(&s.run_begin, 0, sizeof(StreamId))
    memset(&s.run_end, 0, sizeof(StreamId))
    order_free(&s.arrived)
    table_clear(&s.late, free_visited, NULL)
    table_init(&s.late)


cdef void forget_late(Kernel *k, Collection *c) noexcept nogil:
    """Of late entries that are gone the first, where they are far more than those there."""
    cdef Stream *s = stream_of(c)
    cdef size_t rank = 0
    cdef OrderCursor at
    cdef Element *x
    if table_count(&s.late) <= 2 * order_of(c).n + LATE_SPARE:
        return
    while table_count(&s.late) > order_of(c).n + LATE_SPARE // 2:
        x = order_at(&s.arrived, rank, &at).e
        if entry_find(k, c, element_name(x), x.hash) != NULL:
            rank += 1
        else:
            late_remove(s, x)


cdef inline int is_contained(Kernel *k, const Stream *s) noexcept nogil:
    """Is what is applied in the state that the checkpoint held?"""
    return k.inbox.recovering and k.streams.ops < s.contains


cdef StreamId floor_of(Kernel *k, uint32_t key, uint32_t *at) noexcept nogil:
    """0-0 where none is known. *at: where it stands; FLOORS: nowhere. at may be NULL."""
    cdef StreamId floor
    cdef uint32_t i
    memset(&floor, 0, sizeof(StreamId))
    for i in range(min(k.streams.floored, <uint32_t>FLOORS)):
        if k.streams.floors[i].hash == key:
            floor.ms = k.streams.floors[i].newest[0]
            floor.seq = k.streams.floors[i].newest[1]
            break
    else:
        i = FLOORS
    if at != NULL:
        at[0] = i
    return floor


cdef void stream_arrived(Kernel *k, Collection *c, Span key, Span name, uint32_t hash,
                         int local) noexcept nogil:
    """An entry stands at a place where none was. key: the stream's. local: this replica has seen
    what became of the stream before."""
    cdef Stream *s = stream_of(c)
    cdef StreamId id = id_of(name.p), floor
    cdef Element *x
    if is_contained(k, s):
        return
    if not local and not s.floored:
        s.floored = 1
        floor = floor_of(k, key_hash(k, key.p, key.n), NULL)
        if id_below(s.newest, floor):
            s.newest = floor
    if id_below(s.newest, id):
        x = find_late(c, name.p, hash)
        if x != NULL:
            late_remove(s, x)
        s.newest = id
        return
    late_add(k, s, name, hash, s.newest)
    forget_late(k, c)


cdef void stream_dropped(Kernel *k, Element *e, Collection *c) noexcept nogil:
    cdef StreamId newest = stream_of(c).newest
    cdef uint32_t at, hash = element_hash(k, e)
    cdef StreamId floor = floor_of(k, hash, &at)
    if at == FLOORS:
        at = k.streams.floored % FLOORS
        k.streams.floored += 1
        if k.streams.floored == 2 * FLOORS:
            k.streams.floored = FLOORS
    if id_below(newest, floor):             # what was read before the deletion before
        newest = floor
    k.streams.floors[at].hash = hash
    k.streams.floors[at].newest[0] = newest.ms
    k.streams.floors[at].newest[1] = newest.seq


# ---- reading -------------------------------------------------------------------------------------

cdef StreamPlace stream_place(Kernel *k, Collection *c, StreamId id) noexcept nogil:
    cdef StreamPlace place
    cdef Element *x = NULL
    cdef char name[16]
    place.id = id
    place.number = 0
    if c != NULL and table_count(&stream_of(c).late):
        put_id(name, id)
        x = find_late(c, name, key_hash(k, name, STREAM_ID))
    if x != NULL:
        place.id = behind(x)
        place.number = x.dot
    return place


cdef StreamPlace stream_end(Kernel *k, Collection *c) noexcept nogil:
    cdef StreamPlace place
    memset(&place, 0, sizeof(StreamPlace))
    if c != NULL:
        place.id = stream_of(c).newest
    place.number = k.streams.arrivals
    return place


cdef void stream_seek(Kernel *k, Collection *c, StreamId id, int reverse,
                      StreamCursor *at) noexcept nogil:
    at.k = k
    at.c = c
    at.step = -1 if reverse else 1
    at.wants = NULL
    at.by = NULL
    if reverse:
        at.item = last_up_to(c, id, &at.order)
    else:
        entry_seek(c, id, &at.order, &at.item)


cdef void stream_after(Kernel *k, Collection *c, StreamPlace place,
                       StreamCursor *at) noexcept nogil:
    cdef Order *arrived = &stream_of(c).arrived
    cdef size_t low, high = arrived.n, middle
    at.k = k
    at.c = c
    at.step = 0
    at.wants = NULL
    at.by = NULL
    entry_seek(c, place.id, &at.order, &at.item)
    if at.item != NULL and is_at(at.item, &at.order, place.id):
        at.item = entry_next(&at.order)
    low = order_rank(arrived, place.number + 1, span(b"", 0))
    while low < high:                      # the later they came, the newer was what was there
        middle = (low + high) // 2
        if id_below(behind(order_at(arrived, middle, &at.arrived).e), place.id):
            low = middle + 1
        else:
            high = middle
    at.late = order_at(arrived, low, &at.arrived)


cdef void skip_late(StreamCursor *at) noexcept nogil:
    """By id, to the next that was not late. No such comes into a run of late ones any more, since
    it is above all there is; so a long run is walked once."""
    cdef Stream *s = stream_of(at.c)
    cdef StreamId first, last
    cdef size_t n = 0
    cdef char name[16]
    while at.item != NULL:
        last = entry_id(at.item, &at.order)
        put_id(name, last)
        if find_late(at.c, name, key_hash(at.k, name, STREAM_ID)) == NULL:
            break
        if n == 0:
            first = last
        n += 1
        if id_below(last, s.run_end) and not id_below(last, s.run_begin):
            entry_seek(at.c, s.run_end, &at.order, &at.item)
            last = s.run_end
        else:
            at.item = entry_next(&at.order)
    if n > LATE_RUN and (rank_of(at.c, last) - rank_of(at.c, first)
                         > rank_of(at.c, s.run_end) - rank_of(at.c, s.run_begin)):
        s.run_begin = first
        s.run_end = last


cdef inline void stand_there(StreamCursor *at) noexcept nogil:
    """On the next one by id."""
    at.on = at.item[0]
    at.on_at = at.order
    at.item = entry_next(&at.order) if at.step >= 0 else entry_prev(&at.order)


cdef int next_arrived(StreamCursor *at) noexcept nogil:
    cdef int there = 0
    while at.late != NULL and not there:
        there = entry_place(at.k, at.c, element_name(at.late.e), at.late.e.hash, &at.on,
                            &at.on_at)
        if not there:
            at.late = order_next(&at.arrived)
    if table_count(&stream_of(at.c).late):
        skip_late(at)
    if at.item != NULL and (not there or not id_below(behind(at.late.e),
                                                      entry_id(at.item, &at.order))):
        stand_there(at)
        return 1
    if there:
        at.late = order_next(&at.arrived)
    return there


cdef int stream_next(StreamCursor *at) noexcept nogil:
    cdef int there
    while True:
        there = at.step != 0 and at.item != NULL
        if there:
            stand_there(at)
        elif at.step == 0:
            there = next_arrived(at)
        if there:
            at.id = entry_id(&at.on, &at.on_at)
        if at.wants == NULL or at.wants(at, there) or not there:
            return there


cdef Span stream_fields(StreamCursor *at) noexcept nogil:
    cdef Buffer *room = &at.k.scratch.entry
    cdef SealedEntry x
    cdef size_t n
    if not sealed_n(at.on.e):
        return field_view(at.k, at.on.e)
    sealed_fields(sealed_of(at.on.e), at.on_at.within, &x)
    n = fields_size(sealed_of(at.on.e), &x)
    room.n = 0
    fields_put(sealed_of(at.on.e), &x, buffer_need(room, n))
    return span(room.p, n)


cdef int stream_find(StreamCursor *at, StreamId id) noexcept nogil:
    if at.item == NULL or not is_at(at.item, &at.order, id):
        stream_seek(at.k, at.c, id, 0, at)
    return at.item != NULL and is_at(at.item, &at.order, id) and stream_next(at)


# ---- the types -----------------------------------------------------------------------------------

cdef int fields_sound(Span v) noexcept nogil:
    """The number of pairs, and then each field and value behind its length."""
    cdef const char *p = v.p
    cdef const char *end = v.p + v.n
    cdef uint64_t pairs, n
    if not get_varint(&p, end, &pairs) or pairs == 0 or pairs > v.n:
        return 0
    for _ in range(2 * pairs):
        if not get_varint(&p, end, &n) or n > <uint64_t>(end - p):
            return 0
        p += n
    return p == end


cdef int stream_name_sound(Span name) noexcept nogil:
    cdef int i
    if name.n != STREAM_ID:
        return 0
    for i in range(STREAM_ID):
        if name.p[i]:
            return 1
    return 0


cdef int head_name_sound(Span name) noexcept nogil:
    return name.n == 1 and (name.p[0] == HEAD_TOP or name.p[0] == HEAD_DELETED
                            or name.p[0] == HEAD_ADDED or name.p[0] == HEAD_IDEMPOTENCE)


cdef int head_value_sound(Span name, Span value) noexcept nogil:
    """An id, or a number as text."""
    cdef int64_t n
    if name.p[0] == HEAD_ADDED:
        return parse_int64(value.p, value.n, &n) and n >= 0
    return value.n == STREAM_ID


cdef int stream_sound(const Effect *x) noexcept nogil:
    if not stream_name_sound(x.name) or x.observed.n:
        return 0
    if x.kind == REMOVE:
        return 1
    return (x.kind == ASSIGN and fields_sound(x.value) and x.total.fraction.n == 0
            and (x.run_seq != 0) == (x.total.whole != 0))


cdef int head_sound(const Effect *x) noexcept nogil:
    if not head_name_sound(x.name) or x.kind == INCREMENT:
        return 0
    return x.kind == REMOVE or head_value_sound(x.name, x.value)


cdef int stream_free_some(Collection *c, int *most) noexcept nogil:
    cdef Stream *s = stream_of(c)
    cdef OrderCursor at
    if blocks_free_some(c, most) or order_free_some(order_of(c), most):
        return 1
    while s.arrived.n:
        if most[0] <= 0:
            return 1
        most[0] -= 1
        late_remove(s, order_at(&s.arrived, s.arrived.n - 1, &at).e)
    table_clear(&s.late, NULL, NULL)
    buffer_free(writers_of(c))
    return 0


cdef void stream_forget(Collection *c) noexcept nogil:
    memset(sealing_of(c), 0, sizeof(Sealing))
    table_init(&stream_of(c).late)
    order_forget(&stream_of(c).arrived)
    memset(writers_of(c), 0, sizeof(Buffer))


cdef size_t stream_memory(Collection *c) noexcept nogil:
    cdef Stream *s = stream_of(c)
    return (members_memory(c) + s.sealing.bytes + order_memory(order_of(c))
            + order_memory(&s.arrived)
            + writers_of(c).cap + table_memory(&s.late)
            + table_count(&s.late) * (24 + STREAM_ID + sizeof(StreamId)))


cdef int stream_check(Kernel *k, Collection *c) noexcept nogil:
    """0 sound, else the number of the broken invariant."""
    cdef Stream *s = stream_of(c)
    cdef OrderCursor at
    cdef Item *item
    cdef StreamId newest
    if entries_check(k, c):
        return 100 + entries_check(k, c)
    item = last_up_to(c, s.newest, &at)
    if order_of(c).n and (item == NULL or entry_next(&at) != NULL):
        return 4
    if order_check(&s.arrived) or s.arrived.n != table_count(&s.late):
        return 5
    memset(&newest, 0, sizeof(StreamId))
    item = order_at(&s.arrived, 0, &at)
    while item != NULL:
        if (item.sort_key != item.e.dot or item.e.dot > k.streams.arrivals
                or find_late(c, element_key(item.e), item.e.hash) != item.e):
            return 6
        if id_below(behind(item.e), newest) or id_below(behind(item.e), id_of(element_key(item.e))):
            return 7
        newest = behind(item.e)
        item = order_next(&at)
    if id_below(s.newest, newest):
        return 8
    return 9 if not writers_known(c) else 0


cdef int head_check(Kernel *k, Collection *c) noexcept nogil:
    cdef size_t pos = 0
    cdef Element *m = table_next(&c.table, &pos)
    while m != NULL:
        if not head_name_sound(element_name(m)):
            return 1
        m = table_next(&c.table, &pos)
    return 0


cdef void fill_stream() noexcept:
    cdef CollectionType *t = &types[<int>T_STREAM]
    t.rank = -1
    t.extra = sizeof(Order) + sizeof(Stream) + sizeof(Buffer)  # order_of, stream_of, writers_of
    t.ordered = note_writers
    t.free_some = stream_free_some
    t.memory = stream_memory
    t.forget = stream_forget
    t.dropped = stream_dropped
    t.sound = stream_sound
    t.check = stream_check
    t.cells = entries_cells
    t.shown = entries_shown
    t = &types[<int>T_STREAM_HEAD]
    t.rank = -1
    t.sound = head_sound
    t.check = head_check


fill_stream()

# Taking the state in: the other side of core/give.pxi, for a replica that holds nothing yet as for
# one that joins it with what it holds (core/join.pxi).
#
# A piece is looked at whole before any of it is put in: the same functions go over it twice, first
# to see that all of it is sound, then to act (`act`). What they refuse: what proto/state.proto
# does not allow, a dot that the giver's clock of that piece does not cover, two writes of one
# actor at one place (a later one has always observed the earlier; only a loose text may stay beside
# a late one, see core/fold.pxi), and what no op could have put where it stands. The second pass may
# stop between two items, and goes on there.
#
# A stream that another replica sent is looked at to its end before any of it is put in (`looks`),
# and so are the ops that follow: what is wrong with them is found while nothing has happened yet.
# Then what is not in the format is refused, too: stamps too far ahead, keys that were not asked
# for, ops of this process that it never made.
#
# The clock is set when the stream has ended, and to that of its beginning.
#
# What is derived is derived anew: order, counts, heap of deadlines, the newest dots, how list
# elements are packed. Those of one block come in the order in which they were pushed, so they are
# packed as they were.

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span, span)


cdef void taking_begin(Taking *t, Kernel *k) noexcept nogil:
    memset(t, 0, sizeof(Taking))
    t.k = k
    joining_begin(&t.join, k)


cdef void taking_free(Taking *t) noexcept nogil:
    mem_free(t.slots)
    mem_free(t.begin)
    mem_free(t.clock)
    mem_free(t.mark)
    mem_free(t.known)
    vector_free(&t.tail)
    buffer_free(&t.steps)
    buffer_free(&t.places)
    joining_free(&t.join)


# ---- actors and clocks ---------------------------------------------------------------------------

cdef int take_actor(Taking *t, Span body) noexcept nogil:
    """Declares it, and appends it to the table."""
    cdef const char *p = body.p
    cdef uint16_t slot
    cdef Field f
    cdef int r = receive_actor(t.k, body) if t.n < MAX_ACTORS else RECEIVED_CROWD
    if r != RECEIVED_ALL:
        t.refused = TAKEN_ACTOR if r != RECEIVED_BAD else TAKEN_BAD
        return -1
    get_field(&p, body.p + body.n, &f)     # its id
    slot = actors_find(&t.k.actors, f.v)
    if t.known == NULL:
        t.known = <uint8_t*>mem_zalloc(MAX_ACTORS)
    if t.known[slot]:
        return -1
    t.known[slot] = 1
    if t.n == t.cap:
        t.cap = t.cap * 2 if t.cap else 16
        t.slots = <uint16_t*>mem_realloc(t.slots, t.cap * sizeof(uint16_t))
        t.begin = <uint64_t*>mem_realloc(t.begin, t.cap * sizeof(uint64_t))
        t.clock = <uint64_t*>mem_realloc(t.clock, t.cap * sizeof(uint64_t))
        t.mark = <uint32_t*>mem_realloc(t.mark, t.cap * sizeof(uint32_t))
    t.slots[t.n] = slot
    t.begin[t.n] = t.clock[t.n] = 0
    t.mark[t.n] = 0
    t.n += 1
    return 1


cdef int may_claim(Taking *t, uint64_t index, uint64_t seq) noexcept nogil:
    """-1 where the giver would have an op of this very process that it never made."""
    if t.looks and t.slots[index] == t.k.me and seq > t.k.actors.v[t.k.me].applied:
        t.refused = TAKEN_ACTOR
        return -1
    return 1


cdef int take_moved(Taking *t, Span pairs) noexcept nogil:
    """Pairs of index and seq: the giver's clock moves on."""
    cdef const char *p = pairs.p
    cdef const char *end = pairs.p + pairs.n
    cdef uint64_t index, seq
    while p < end:
        if (not get_varint(&p, end, &index) or not get_varint(&p, end, &seq) or index >= t.n
                or seq >> SEQ_BITS or seq <= t.clock[index] or may_claim(t, index, seq) < 0):
            return -1
        t.clock[index] = seq
    return 1


cdef int take_row(Taking *t, Span body, uint32_t of, uint64_t *row, int act) noexcept nogil:
    """The deps of the actor at index `of`; row: those of the one before. Of an actor of whom
    nothing is known here they are those of the one before, but for what is told to differ."""
    cdef VersionVector *deps = &t.k.actors.v[t.slots[of]].deps
    cdef const char *p = body.p
    cdef const char *end
    cdef uint64_t passed, change
    cdef uint32_t i = 0
    cdef Field f
    if body.n == 0:
        end = p
    elif (get_field(&p, body.p + body.n, &f) != 1 or f.number != 1 or f.wire != 2
            or p != body.p + body.n):
        return -1
    else:
        p = f.s.p
        end = p + f.s.n
    t.alike = act and deps.n == 0 and (of == 0 or t.alike)
    if t.alike and of:
        vector_copy(deps, &t.k.actors.v[t.slots[of - 1]].deps)
    while p < end:
        if (not get_varint(&p, end, &passed) or not get_varint(&p, end, &change)
                or passed >= t.n - i):
            return -1
        i += <uint32_t>passed
        row[i] += <uint64_t>unzigzag(change)
        if row[i] > t.begin[i]:
            return -1                      # what an op had seen is applied where the op is
        if t.alike:
            vector_put(deps, t.slots[i], row[i])
        i += 1
    for i in range(t.n if act and not t.alike else 0):
        vector_raise(deps, t.slots[i], row[i])
    if act and not t.alike:
        vector_share(deps, &t.k.actors.common)
    return 1


cdef int take_rows(Taking *t, const char *p, const char *end, int act) noexcept nogil:
    cdef uint64_t *row = <uint64_t*>mem_zalloc((t.n + 1) * sizeof(uint64_t))
    cdef uint32_t of = 0
    cdef Span body
    cdef int r
    while True:
        r = get_message(&p, end, 6, &body)
        if r == 1:
            r = take_row(t, body, of, row, act) if of < t.n else -1
        if r != 1:
            break
        of += 1
    mem_free(row)
    return 1 if r == 0 and of == t.n else -1


cdef int take_folded(Taking *t, const char *p, const char *end, uint32_t field,
                     VersionVector *to) noexcept nogil:
    """A field of pairs (index, seq), which is all there is."""
    cdef uint64_t index, seq
    cdef const char *q
    cdef Field f
    if get_field(&p, end, &f) != 1 or f.number != field or f.wire != 2 or p != end:
        return -1
    q = f.s.p
    while q < f.s.p + f.s.n:
        if (not get_varint(&q, f.s.p + f.s.n, &index) or index >= t.n
                or not get_varint(&q, f.s.p + f.s.n, &seq) or seq == 0 or seq > t.clock[index]):
            return -1
        vector_raise(to, t.slots[index], seq)
    return 1


cdef int take_head(Taking *t, Span body) noexcept nogil:
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef const char *at = p
    cdef const char *q
    cdef const char *last
    cdef uint32_t i = 0
    cdef uint64_t stamp = 0
    cdef Field f
    cdef int r
    if get_field(&p, end, &f) != 1 or f.number != 1 or f.wire != 0 or f.v != STATE_VERSION:
        return -1
    while True:
        at = p
        r = get_field(&p, end, &f)
        if r != 1 or f.number > 4:
            break
        if f.number == 3 and f.wire == 1 and stamp == 0 and t.n == 0:
            stamp = f.v
        elif f.number != 4 or f.wire != 2 or take_actor(t, f.s) < 0:
            return -1
    if r == 1 and f.number == 5 and f.wire == 2:
        q = f.s.p
        while q < f.s.p + f.s.n:
            if (i == t.n or not get_varint(&q, f.s.p + f.s.n, &t.begin[i])
                    or t.begin[i] >> SEQ_BITS or may_claim(t, i, t.begin[i]) < 0):
                return -1
            t.clock[i] = t.begin[i]
            vector_raise(&t.join.begin, t.slots[i], t.begin[i])
            i += 1
        at = p
    if r < 0 or i != t.n:
        return -1
    last = p = at
    while get_field(&p, end, &f) == 1 and f.number == 6:
        last = p
    if (take_rows(t, at, last, 0) < 0
            or (last < end and take_folded(t, last, end, 7, &t.join.folded) < 0)):
        return -1
    t.newest = stamp
    t.stage = TAKING_PIECES
    joining_start(&t.join)
    joining_folded(&t.join)
    if t.looks:
        return 1
    take_rows(t, at, last, 1)
    if last < end:
        t.k.texts.off = -1
    if t.k.inbox.recovering:
        vector_join(&t.k.texts.folded, &t.join.folded)
    t.k.newest_stamp = max(t.k.newest_stamp, stamp)
    return 1


cdef int take_end(Taking *t, Span body) noexcept nogil:
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef const char *at
    cdef VersionVector loaded
    cdef uint64_t v[3]
    cdef uint32_t before = 1, i
    cdef Field f
    cdef int r
    memset(v, 0, sizeof(v))
    memset(&loaded, 0, sizeof(VersionVector))
    while True:
        at = p
        r = get_field(&p, end, &f)
        if r != 1:
            break
        if f.number < before or (f.number == before and before > 1):
            return -1
        before = f.number
        if f.number == 1 and f.wire == 2 and take_actor(t, f.s) == 1:
            continue
        if f.number == 2 and f.wire == 2 and take_moved(t, f.s) == 1:
            continue
        if 3 <= f.number <= 5 and f.wire == (1 if f.number == 3 else 0):
            v[f.number - 3] = f.v
            continue
        if f.number == 6 and p == end and take_folded(t, at, end, 6, &loaded) == 1:
            continue
        vector_free(&loaded)
        return -1
    if not t.looks:
        vector_join(&t.k.texts.loaded, &loaded)
    vector_free(&loaded)
    if r < 0 or v[1] != t.pieces or v[2] != t.count:
        return -1
    t.last = v[0]
    if t.looks and t.newest > t.last:
        return -1
    if t.looks and is_ahead(t, t.last):
        return -1
    for i in range(t.n):
        vector_raise(&t.tail, t.slots[i], t.begin[i])
    t.stage = TAKING_OVER
    return 1


cdef int is_ahead(Taking *t, uint64_t stamp) noexcept nogil:
    """As an op of that stamp would wait (core/pending.pxi)."""
    if t.k.inbox.recovering or <int64_t>(stamp >> 16) <= latest_stamp(t.k):
        return 0
    t.refused = TAKEN_AHEAD
    return 1


cdef void taking_settle(Taking *t) noexcept nogil:
    cdef Actor *x
    cdef uint32_t i
    for i in range(t.n):
        x = &t.k.actors.v[t.slots[i]]
        x.applied = max(x.applied, t.begin[i])
    t.k.newest_stamp = max(t.k.newest_stamp, t.last)
    t.k.open.deps_changed = 1
    vector_join(&t.k.texts.folded, &t.join.folded)


# ---- dots and stamps -----------------------------------------------------------------------------

cdef int take_dot(Taking *t, uint32_t actor, uint64_t seq, uint64_t *dot,
        uint32_t *index) noexcept nogil:
    """From the fields: 1 and the dot, which the giver's clock covers."""
    if actor:
        t.at.actor = actor - 1
    index[0] = t.at.actor
    t.at.seq += <uint64_t>unzigzag(seq)
    if index[0] >= t.n or t.at.seq == 0 or t.at.seq > t.clock[index[0]]:
        return -1
    dot[0] = make_dot(t.slots[index[0]], t.at.seq)
    return 1


cdef inline int take_stamp(Taking *t, int has_none, uint64_t change, int stamped,
        uint64_t *stamp) noexcept nogil:
    stamp[0] = 0
    if has_none:
        return -1 if stamped else 1
    t.at.stamp += <uint64_t>unzigzag(change)
    stamp[0] = t.at.stamp
    t.newest = max(t.newest, stamp[0])
    return 1 if stamp[0] else -1


cdef inline int new_at_place(Taking *t, uint32_t index) noexcept nogil:
    """Is it the first time that this actor is named at the place number t.cells?"""
    if t.mark[index] == t.cells:
        return 0
    t.mark[index] = t.cells
    return 1


cdef void next_place(Taking *t) noexcept nogil:
    t.cells += 1
    if t.cells == 0:
        memset(t.mark, 0, t.n * sizeof(uint32_t))
        t.cells = 1


# ---- cells ---------------------------------------------------------------------------------------

cdef enum:
    HEAD_VALUE = 20         # bytes of a value in the head of a stream, at most

cdef int value_is_sound(int sort, Span value) noexcept nogil:
    """As no op could have left another there."""
    cdef double score
    if sort == SORT_SET:
        return value.n == 0
    if sort == SORT_STREAM:
        return fields_sound(value)
    if sort == SORT_STREAM_HEAD:
        return value.n <= HEAD_VALUE
    if sort != SORT_ZSET:
        return 1
    if value.n != sizeof(score):
        return 0
    memcpy(&score, value.p, sizeof(score))
    return score == score


cdef inline int clears_bit(int sort, int keeps) noexcept nogil:
    """W_CLEARS of a key's write that cleared the deadline, and of a field's that kept it."""
    return sort == SORT_KEY and not keeps or sort == SORT_HASH and keeps


cdef int take_writes(Taking *t, const StateItem *x, int sort, uint64_t own,
        Cell *to) noexcept nogil:
    """All writes of the item; to: where they go, NULL: nowhere. own: dot of a list element's
    insert."""
    cdef const char *p = x.writes.p
    cdef const char *end = x.writes.p + x.writes.n
    cdef uint64_t dot, stamp
    cdef uint32_t index
    cdef StateWrite w
    cdef Span body
    cdef int r, loose
    if x.flags & ITEM_NO_WRITE:
        return (-1 if x.flags & ITEM_LOOSE or x.value.n or x.actor or x.seq or x.stamped
                or x.writes.n or x.flags & ITEM_KEEPS else 1)
    next_place(t)
    if (take_dot(t, x.actor, x.seq, &dot, &index) < 0
            or take_stamp(t, sort == SORT_SET or dot == own, x.stamp, x.stamped, &stamp) < 0):
        return -1
    if not value_is_sound(sort, x.value):
        return -1
    if not x.flags & ITEM_LOOSE:
        new_at_place(t, index)
    if to != NULL:
        cell_add_write(to, dot, stamp, dot_slot(dot), W_LOOSE if x.flags & ITEM_LOOSE else
                       W_CLEARS if clears_bit(sort, x.flags & ITEM_KEEPS) else 0, x.value)
    loose = x.flags & ITEM_LOOSE != 0
    if loose and (sort != SORT_KEY or not x.flags & ITEM_KEEPS):
        return -1
    while True:
        r = get_message(&p, end, 12, &body)
        if r != 1:
            return r if r else 1
        if (decode_write(body, &w) < 0 or w.by or w.deadline
                or (w.keeps and sort != SORT_KEY and sort != SORT_HASH)
                or not value_is_sound(sort, w.value)):
            return -1
        if (take_dot(t, w.actor, w.seq, &dot, &index) < 0
                or take_stamp(t, sort == SORT_SET or dot == own, w.stamp, w.stamped, &stamp) < 0):
            return -1
        if w.loose and (loose or sort != SORT_KEY or not w.keeps):
            return -1
        if not w.loose and not new_at_place(t, index):
            return -1
        loose |= w.loose
        if to != NULL:
            cell_add_write(to, dot, stamp, dot_slot(dot), W_LOOSE if w.loose else
                           W_CLEARS if clears_bit(sort, w.keeps) else 0, w.value)


cdef int take_deadlines(Taking *t, const StateItem *x, Cell *to,
                        uint16_t flags) noexcept nogil:
    cdef const char *p = x.deadlines.p
    cdef const char *end = x.deadlines.p + x.deadlines.n
    cdef uint64_t dot, stamp
    cdef uint32_t index
    cdef StateWrite w
    cdef Span body
    cdef int r
    next_place(t)
    while True:
        r = get_message(&p, end, 13, &body)
        if r != 1:
            return r if r else 1
        if (decode_write(body, &w) < 0 or w.value.n or w.keeps or w.loose or w.by > t.n
                or <int64_t>w.deadline < 0):
            return -1
        if (take_dot(t, w.actor, w.seq, &dot, &index) < 0
                or take_stamp(t, 0, w.stamp, w.stamped, &stamp) < 0):
            return -1
        if not new_at_place(t, index):
            return -1
        if to != NULL:
            vector_raise(&t.k.db[t.db].written, dot_slot(dot), dot_seq(dot))
            cell_add_write(to, dot, stamp, t.slots[w.by - 1] if w.by else dot_slot(dot), flags,
                    span(<const char*>&w.deadline, 8))


cdef int take_counters(Taking *t, const StateItem *x, Cell *to) noexcept nogil:
    cdef const char *p = x.counters.p
    cdef const char *end = x.counters.p + x.counters.n
    cdef uint64_t dot
    cdef uint32_t index
    cdef StateCounter y
    cdef Span body
    cdef int r
    next_place(t)
    while True:
        r = get_message(&p, end, 14, &body)
        if r != 1:
            return r if r else 1
        if (decode_counter(body, &y) < 0 or take_dot(t, y.actor, y.seq, &dot, &index) < 0
                or not new_at_place(t, index)):
            return -1
        if y.run >= dot_seq(dot) or (y.context and y.shown.n == 0) or y.by_actor > t.n:
            return -1
        if (y.cancelled_seq == 0) != (y.by_actor == 0) or (y.by_actor == 0) != (y.by_seq == 0):
            return -1
        if y.by_seq and y.by_seq > t.clock[y.by_actor - 1]:
            return -1
        if (y.cancelled_seq == 0 and (y.cancelled.whole or y.cancelled.fraction.n
                or y.cancelled.exact.n)):
            return -1
        if to != NULL:
            put_counter(t, dot, &y, to)


cdef void put_counter(Taking *t, uint64_t dot, const StateCounter *y, Cell *to) noexcept nogil:
    """Nothing counts it yet."""
    cdef Count *x = count_new(dot_slot(dot))
    cdef Count **at = &to.counts
    cdef Rare *r
    x.seq = dot_seq(dot)
    x.run_seq = x.seq - y.run
    x.run_index = y.run_index
    x.wide = <uint16_t>y.wide
    number_take(&x.total, &y.total)
    if y.cancelled_seq:
        r = count_rare(x)
        r.cancelled_seq = y.cancelled_seq
        r.cancelled_by = make_dot(t.slots[y.by_actor - 1], y.by_seq)
        number_take(&r.cancelled, &y.cancelled)
    if y.shown.n:
        count_show(x, y.context, y.shown)
    vector_raise(&t.k.db[t.db].written, x.actor, x.seq)
    while at[0] != NULL and t.k.actors.v[at[0].actor].rank < t.k.actors.v[x.actor].rank:
        at = &at[0].next
    x.next = at[0]
    at[0] = x


cdef int take_cell(Taking *t, const StateItem *x, int sort, Cell *to) noexcept nogil:
    """Everything at the item's place but its deadline, which goes between writes and counter
    entries."""
    cdef Write *w
    if to != NULL:
        to.writes = NULL
        to.counts = NULL
    if take_writes(t, x, sort, 0, to) < 0:
        return -1
    w = to.writes if to != NULL else NULL
    while w != NULL:
        vector_raise(&t.k.db[t.db].written, dot_slot(w.dot), dot_seq(w.dot))
        w = w.next
    return 1


# ---- keys ----------------------------------------------------------------------------------------

cdef void close_key(Taking *t) noexcept nogil:
    """Its collections have got what the piece had for them."""
    cdef Database *d = &t.k.db[t.db]
    if t.e != NULL:
        reencode(t.k, &d.table, &d.live, t.e, t.was_live)
    joined(&t.join, t.db, t.key)
    t.e = NULL
    t.c = NULL


cdef inline int takes_plain(const StateItem *x) noexcept nogil:
    """Is it one write and nothing else?"""
    return (not x.flags & (ITEM_NO_WRITE | ITEM_LOOSE) and x.writes.n == 0 and x.deadlines.n == 0
            and x.counters.n == 0 and x.patches.n == 0)


cdef int take_whole_dot(Taking *t, const char **p, const char *end, uint64_t *dot) noexcept nogil:
    """As give_whole_dot; 0: none, -1 where it is none that the giver has."""
    cdef uint64_t index, seq
    dot[0] = 0
    if not get_varint(p, end, &index) or index > t.n:
        return -1
    if index == 0:
        return 0
    if not get_varint(p, end, &seq) or seq == 0 or seq > t.clock[index - 1]:
        return -1
    dot[0] = make_dot(t.slots[index - 1], seq)
    return 1


cdef int take_patch(Taking *t, const char **p, const char *end, uint64_t dot, Patch *last,
                    Text *to) noexcept nogil:
    """last: the one before it, whose place is lower; of dot 0 where it is the first."""
    cdef uint64_t v[5]
    cdef Patch it
    cdef Effect x
    cdef Patch *y
    cdef int i
    for i in range(5):
        if not get_varint(p, end, &v[i]):
            return -1
    memset(&x, 0, sizeof(Effect))
    x.keep = v[2] & 1
    x.run_index = <uint32_t>(v[2] >> 1)
    x.run_seq = v[3]
    x.value = span(p[0], v[4])
    if (v[0] == 0 or v[1] >> 32 or v[2] >> 4 or v[4] > <size_t>(end - p[0])
            or not patch_is_sound(&x)):
        return -1
    it.dot = dot
    it.stamp = v[0]
    it.index = <uint32_t>v[1]
    if last.dot and not place_before(&t.k.actors, last, &it):
        return -1
    last[0] = it
    p[0] += v[4]
    t.newest = max(t.newest, v[0])
    if to == NULL:
        return 1
    vector_raise(&t.k.db[t.db].written, dot_slot(dot), dot_seq(dot))
    t.k.texts.off = -1
    y = patch_new(dot, v[0], <uint32_t>v[1], &x)
    y.next = to.first
    to.first = y
    return 1


cdef int take_patches(Taking *t, const StateItem *x, Text **to) noexcept nogil:
    """to: where the texts go; NULL: nowhere."""
    cdef const char *p = x.patches.p
    cdef const char *end = x.patches.p + x.patches.n
    cdef Text text
    cdef Text *y = NULL
    cdef Patch last
    cdef uint64_t dot
    cdef int r
    while p < end:
        last.dot = 0
        memset(&text, 0, sizeof(Text))
        if take_whole_dot(t, &p, end, &text.root) < 0:
            return -1
        if text.root == 0 and (take_whole_dot(t, &p, end, &text.last) < 0
                               or not get_varint(&p, end, &text.upto)
                               or (text.last == 0) != (text.upto == 0)):
            return -1
        if to != NULL:
            y = <Text*>mem_alloc(sizeof(Text))
            y[0] = text
            y.next = to[0]
            to[0] = y
        while True:
            r = take_whole_dot(t, &p, end, &dot)
            if r < 0 or (r and take_patch(t, &p, end, dot, &last, y) < 0):
                return -1
            if r == 0:
                break
    return 1


cdef uint32_t hash_ahead(Taking *t, Table *table, Span name) noexcept nogil:
    """That of the item that is put in, into this table. Asks for what the next ones will need, if
    they are of this table, too: a start would wait for slots most of the time."""
    cdef uint32_t n = min(t.items, <uint32_t>HASHES)
    if t.item >= n:
        return key_hash(t.k, name.p, name.n)
    if t.item + SLOTS_AHEAD < n:
        table_prefetch_slots(table, t.hashes[t.item + SLOTS_AHEAD])
    if t.item + ELEMENTS_AHEAD < n:
        table_prefetch_element(table, t.hashes[t.item + ELEMENTS_AHEAD])
    return t.hashes[t.item]


cdef int take_key(Taking *t, const StateItem *x, int act) noexcept nogil:
    cdef Kernel *k = t.k
    cdef Joining *j = &t.join
    cdef Database *d
    cdef Element *e = NULL
    cdef Cell value, deadline
    cdef uint32_t hash, flags
    cdef uint64_t dot, stamp
    cdef uint32_t index
    cdef int was_live
    cdef Text *texts = NULL
    if (x.stride or x.gaps.n or x.values.n or x.flags & ITEM_BACKWARDS
            or (x.db >= SHARED and not k.inbox.recovering)):
        return -1
    if j.some and not bucket_is_in(j.buckets, bucket_of(x.db, x.name)):
        t.refused = TAKEN_OTHER
        return -1
    t.keyed = 1
    t.db = x.db
    t.key = x.name
    if not act:
        return (1 if take_cell(t, x, SORT_KEY, NULL) == 1 and take_deadlines(t, x, NULL, 0) == 1
                and take_counters(t, x, NULL) == 1 and take_patches(t, x, NULL) == 1
                and (x.patches.n == 0 or not x.flags & ITEM_NO_WRITE) else -1)
    k.home.on |= x.db >= HOME_DB
    if x.flags & ITEM_MARKED:
        mark_text(k, x.db, x.name)
    d = &k.db[x.db]
    hash = hash_ahead(t, &d.table, x.name)
    e = table_find(&d.table, x.name.p, x.name.n, hash)
    flags = E_PLAIN if x.flags & ITEM_KEEPS else E_PLAIN | E_CLEARS
    value.writes = deadline.writes = NULL
    value.counts = deadline.counts = NULL
    if takes_plain(x):
        take_dot(t, x.actor, x.seq, &dot, &index)
        take_stamp(t, 0, x.stamp, x.stamped, &stamp)
        vector_raise(&d.written, dot_slot(dot), dot_seq(dot))
        if e == NULL:
            if not observed_before(j, dot):
                e = put_plain(k, &d.table, &d.live, x, hash, flags, dot, stamp)
                e.meta |= E_NAMED * j.removes
                j.changed = 1
            return 1
        if (e.meta & E_PLAIN and e.dot == dot and plain_stays(j, e, flags, stamp, x.value)
                and patches_held(e) == NULL and (
                    not j.late or bytes_same(element_content(e), x.value))):
            e.meta |= E_NAMED * j.removes
            return 1
        cell_add_write(&value, dot, stamp, dot_slot(dot), W_CLEARS if flags & E_CLEARS else 0,
                       x.value)
    else:
        take_cell(t, x, SORT_KEY, &value)
        take_deadlines(t, x, &deadline, W_NUMBER)
        take_counters(t, x, &value)
        take_patches(t, x, &texts)
        if x.flags & ITEM_NO_WRITE and x.counters.n == 0 and x.deadlines.n == 0:
            return 1                       # it names no more than the key
    if e == NULL:
        e = key_new(k, &d.table, x.name)
    was_live = element_live(e)
    if not x.flags & ITEM_NO_WRITE or x.counters.n:
        e = texts_join(j, x.db, open_cell(k, &d.table, e), &value, texts)
        e.meta |= E_NAMED * j.removes
    if x.deadlines.n:
        e = open_entry(k, x.db, e)
        cell_join(j, &d.counted, &element_entry(e).deadline, &deadline)
        e.meta |= E_DEADLINE_NAMED * j.removes
    reencode(k, &d.table, &d.live, e, was_live)
    return 1


cdef Element *put_plain(Kernel *k, Table *table, size_t *live, const StateItem *x, uint32_t hash,
        uint32_t flags, uint64_t dot,
                        uint64_t stamp) noexcept nogil:
    cdef Element *e = element_new(k, x.name, hash, flags, x.value.n)
    copy_span(element_value(e), x.value)
    e.dot = dot
    element_put_stamp(e, stamp)
    table_add(table, e, hash)
    live[0] += 1
    return e


# ---- collections ---------------------------------------------------------------------------------

cdef void open_for(Taking *t, int type) noexcept nogil:
    """t.c is the collection of this type under the key, t.e the key."""
    cdef Kernel *k = t.k
    cdef Element *e = t.e
    if t.c != NULL and t.c.type == type:
        return
    if e == NULL:
        e = key_in(k, t.db, t.key)
        if e == NULL:
            e = key_new(k, &k.db[t.db].table, t.key)
        t.was_live = element_live(e)
        t.e = open_collections(k, t.db, e)
    if type == T_DEADLINES:
        t.e = open_entry(k, t.db, t.e)
    elif type == T_STREAM_HEAD or type == T_GROUPS:
        collection_open(k, t.e, T_STREAM)
    t.c = collection_open(k, t.e, type)


cdef void note_dot(Taking *t, uint64_t dot) noexcept nogil:
    """Of a write in t.c."""
    cdef Applying op
    op.slot = dot_slot(dot)
    op.seq = dot_seq(dot)
    note_written(&op, t.c)
    vector_raise(&t.k.db[t.db].written, op.slot, op.seq)


cdef void note_dots(Taking *t, const Write *w) noexcept nogil:
    while w != NULL:
        note_dot(t, w.dot)
        w = w.next


cdef int take_member(Taking *t, const StateItem *x, int sort, int act) noexcept nogil:
    cdef Kernel *k = t.k
    cdef Element *m
    cdef Cell cell
    cdef uint64_t dot, stamp
    cdef uint32_t hash, index
    cdef uint32_t flags = E_MEMBER | E_PLAIN | (E_BARE if sort == SORT_SET else 0)
    if x.flags & ITEM_KEEPS:
        flags |= E_KEEPS
    if (not t.keyed or x.db or x.stride or x.gaps.n or x.values.n or x.deadlines.n
            or x.flags & ~<uint32_t>(ITEM_NO_WRITE | (ITEM_KEEPS if sort == SORT_HASH else 0))):
        return -1
    if x.flags & ITEM_NO_WRITE and x.counters.n == 0:
        return -1
    if ((sort == SORT_STREAM and (x.counters.n or not stream_name_sound(x.name)))
            or (sort == SORT_STREAM_HEAD and not head_name_sound(x.name))
            or (sort == SORT_GROUPS and (x.counters.n or not groups_name_sound(x.name)))):
        return -1
    if sort == SORT_GROUPS:
        return take_of_group(t, x, act)
    if not act:
        return 1 if take_cell(t, x, sort, NULL) == 1 and take_counters(t, x, NULL) == 1 else -1
    open_for(t, sort - 1)
    hash = hash_ahead(t, &t.c.table, x.name)
    m = table_find(&t.c.table, x.name.p, x.name.n, hash)
    if takes_plain(x):
        take_dot(t, x.actor, x.seq, &dot, &index)
        take_stamp(t, sort == SORT_SET, x.stamp, x.stamped, &stamp)
        if sort == SORT_STREAM and m == NULL:
            if stays_sealed(t, x, flags, dot, stamp):
                return 1
            m = table_find(&t.c.table, x.name.p, x.name.n, hash)
        if m == NULL:
            if observed_before(&t.join, dot):
                return 1
            m = put_plain(k, &t.c.table, &t.c.live, x, hash, flags, dot, stamp)
            index_member(k, t.c, m)
            note_dot(t, dot)
            m.meta |= E_NAMED * t.join.removes
            t.join.changed = 1
            if sort == SORT_STREAM:
                stream_arrived(k, t.c, element_name(t.e), x.name, hash, 0)
                seal_behind(k, t.c, id_of(x.name.p))
            return 1
        if (m.meta & E_PLAIN and m.dot == dot
                and plain_stays(&t.join, m, flags, stamp, x.value)):
            m.meta |= E_NAMED * t.join.removes
            return 1
        cell.writes = NULL
        cell.counts = NULL
        cell_add_write(&cell, dot, stamp, dot_slot(dot), W_CLEARS if flags & E_KEEPS else 0,
                       x.value)
    else:
        take_cell(t, x, sort, &cell)
        take_counters(t, x, &cell)
        if sort == SORT_STREAM and m == NULL and open_around(k, t.c, id_of(x.name.p)):
            m = table_find(&t.c.table, x.name.p, x.name.n, hash)
    join_member(t, x.name, hash, m, &cell)
    return 1


cdef int stays_sealed(Taking *t, const StateItem *x, uint32_t flags, uint64_t dot,
                      uint64_t stamp) noexcept nogil:
    """Is an entry that does not stand by itself here as it is there? Then it is marked. Else it
    stands by itself now, or is not here, and may come."""
    cdef Collection *c = t.c
    cdef OrderCursor at
    cdef Item *item
    cdef Element *m
    if sealing_of(c).n == 0 or is_above_all(c, id_of(x.name.p)):
        return 0
    entry_seek(c, id_of(x.name.p), &at, &item)
    if item != NULL and sealed_n(item.e) and is_at(item, &at, id_of(x.name.p)):
        m = entry_element(item, &at, &t.k.scratch.entry)
        if m.dot == dot and plain_stays(&t.join, m, flags, stamp, x.value):
            if t.join.removes:
                sealed_of(item.e).named |= row_bit(sealed_of(item.e), at.within)
            return 1
    elif observed_before(&t.join, dot):
        return 1                           # it has gone here
    open_around(t.k, c, id_of(x.name.p))
    return 0


cdef int take_of_group(Taking *t, const StateItem *x, int act) noexcept nogil:
    """A group's name, a consumer or a record, whose name is sound."""
    cdef Element *m
    cdef Write *w
    cdef Cell cell
    cdef uint32_t hash
    cdef int sound = 1
    if not act:
        cell.writes = NULL
        cell.counts = NULL
        sound = take_writes(t, x, SORT_GROUPS, 0, &cell) == 1
        w = cell.writes
        while w != NULL:
            sound &= groups_value_sound(x.name, span(write_value(w), w.n))
            w = w.next
        cell_free(&cell)
        return 1 if sound else -1
    open_for(t, T_GROUPS)
    take_cell(t, x, SORT_GROUPS, &cell)
    hash = key_hash(t.k, x.name.p, x.name.n)
    m = table_find(&t.c.table, x.name.p, x.name.n, hash)
    if m == NULL and create_went(&t.join, t.c, x.name):
        cell_free(&cell)
        return 1
    marks_told(&t.join, element_collection(t.k, t.e, T_STREAM), x.name, &cell)
    m = groups_meet(t.k, t.c, m, &cell, t.join.rules)
    t.join.changed = 1
    join_member(t, x.name, hash, m, &cell)
    return 1


cdef void join_member(Taking *t, Span name, uint32_t hash, Element *m,
                      Cell *cell) noexcept nogil:
    """m: what stands in t.c under this name, or NULL."""
    cdef Kernel *k = t.k
    cdef size_t none = 0
    cdef int there = m != NULL
    note_dots(t, cell.writes)
    if there:
        unindex(k, t.c, m)
    else:
        m = element_new(k, name, hash, E_MEMBER | E_CELL, 0)
        table_add(&t.c.table, m, hash)
    m = element_join(&t.join, t.db, &t.c.table, live_of(t.c, &none), m, cell)
    if m != NULL:
        m.meta |= E_NAMED * t.join.removes
    reindex(k, t.c, name, hash)
    if t.c.type == T_STREAM and m != NULL and not there:
        stream_arrived(k, t.c, element_name(t.e), name, hash, 0)
    if t.c.type == T_STREAM and there and groups_of(t.c) != NULL:
        forget_places(groups_of(t.c))


cdef int take_late(Taking *t, const StateItem *x, int act) noexcept nogil:
    """Of a checkpoint: an entry that came late, or, without a name, `newest` before all these."""
    cdef const char *p = x.value.p + STREAM_ID
    cdef const char *end = x.value.p + x.value.n
    cdef uint64_t ops
    cdef Stream *s
    if (not t.keyed or x.db or x.stride or x.gaps.n or x.values.n or x.writes.n or x.deadlines.n
            or x.counters.n or x.actor or x.seq or x.stamped or not t.k.inbox.recovering
            or x.flags != (ITEM_NO_WRITE | ITEM_LATE) or x.value.n < STREAM_ID
            or (x.name.n and (x.value.n != STREAM_ID or not stream_name_sound(x.name)))
            or (x.name.n == 0 and (not get_varint(&p, end, &ops) or p != end))):
        return -1
    if not act:
        return 1
    open_for(t, T_STREAM)
    s = stream_of(t.c)
    if x.name.n:
        late_add(t.k, s, x.name, key_hash(t.k, x.name.p, x.name.n), id_of(x.value.p))
        return 1
    late_clear(s)
    s.newest = id_of(x.value.p)
    s.contains = t.k.streams.ops + ops
    return 1


cdef int take_register(Taking *t, const StateItem *x, int act) noexcept nogil:
    """The deadlines of a field."""
    cdef Element *m
    cdef Cell cell
    cdef uint32_t hash
    if (not t.keyed or x.db or x.stride or x.gaps.n or x.values.n or x.counters.n
            or x.flags != ITEM_NO_WRITE or x.deadlines.n == 0
            or take_cell(t, x, SORT_KEY, NULL) < 0):
        return -1
    if not act:
        return take_deadlines(t, x, NULL, 0)
    open_for(t, T_DEADLINES)
    hash = key_hash(t.k, x.name.p, x.name.n)
    cell.writes = NULL
    cell.counts = NULL
    take_deadlines(t, x, &cell, 0)
    m = table_find(&t.c.table, x.name.p, x.name.n, hash)
    join_member(t, x.name, hash, m, &cell)
    return 1


# ---- lists ---------------------------------------------------------------------------------------

# An element of a list item: the last step of its position, and its value.
cdef struct Placed:
    int64_t offset
    uint64_t own
    uint32_t own_index
    int there               # it is here, as it was inserted
    Span value


cdef int take_step_dot(Taking *t, const char **p, const char *end, uint32_t *index, uint64_t *dot,
        uint32_t *at) noexcept nogil:
    """index NO_ACTOR: the actor stands here, and is left there."""
    cdef uint64_t v, seq
    if index[0] == NO_ACTOR:
        if not get_varint(p, end, &v) or v >= t.n:
            return -1
        index[0] = <uint32_t>v
    if not get_varint(p, end, &seq) or seq == 0 or seq >> SEQ_BITS or not get_index(p, end, at):
        return -1
    dot[0] = make_dot(t.slots[index[0]], seq)
    return 1


cdef int take_position(Taking *t, Span name, uint32_t *own) noexcept nogil:
    """Leaves the steps in t.steps, and the index of the last one's own actor in *own."""
    cdef const char *p = name.p
    cdef const char *end = name.p + name.n
    cdef uint32_t depth = 0, index
    cdef uint64_t v
    cdef uint8_t flags
    cdef Step s
    t.steps.n = 0
    while p < end:
        memset(&s, 0, sizeof(Step))
        flags = <uint8_t>p[0]
        p += 1
        depth += 1
        if ((flags != 0 and flags != STEP_RUN_IS_OWN and flags != STEP_RUN_OF_OWN)
                or depth > MAX_STEPS):
            return -1
        if not get_varint(&p, end, &v):
            return -1
        s.major = unzigzag(v)
        if not get_varint(&p, end, &v):
            return -1
        s.offset = unzigzag(v)
        own[0] = NO_ACTOR
        if take_step_dot(t, &p, end, own, &s.own, &s.own_index) < 0:
            return -1
        s.run = s.own
        s.run_index = s.own_index
        if flags != STEP_RUN_IS_OWN:
            index = own[0] if flags else NO_ACTOR
            if take_step_dot(t, &p, end, &index, &s.run, &s.run_index) < 0:
                return -1
        buffer_add(&t.steps, &s, sizeof(Step))
    return 1 if depth and s.major > INT64_MIN else -1


cdef inline void list_step(Taking *t, const Placed *x) noexcept nogil:
    """Makes the last step in t.steps that of x."""
    cdef Step *s = <Step*>(t.steps.p + t.steps.n) - 1
    s.offset = x.offset
    s.own = x.own
    s.own_index = x.own_index


cdef int list_places(Taking *t, const StateItem *x, uint32_t own) noexcept nogil:
    """Its elements, in the order in which they were pushed, into t.places. own: index of the actor.
    How many; -1 where the item says something else."""
    cdef const char *p = x.values.p
    cdef const char *end = x.values.p + x.values.n
    cdef const char *g = x.gaps.p
    cdef const char *gaps_end = x.gaps.p + x.gaps.n
    cdef Step *s = <Step*>(t.steps.p + t.steps.n) - 1
    cdef uint32_t depth = <uint32_t>(t.steps.n // sizeof(Step))
    cdef uint64_t index, seqs, offsets
    cdef Placed y
    cdef uint32_t n = 0
    cdef int r
    y.offset = s.offset
    y.own = s.own
    y.own_index = s.own_index
    y.there = 0
    t.places.n = 0
    while True:
        r = get_message(&p, end, 11, &y.value)
        if r != 1:
            break
        if n:
            offsets = <uint64_t>offset_step(depth)
            index = 0
            if x.stride:
                seqs = x.stride - 1
                index = 0 if seqs else <uint64_t>y.own_index + 1
            else:
                if not get_varint(&g, gaps_end, &seqs):
                    return -1
                if seqs & 1:
                    if (not get_varint(&g, gaps_end, &index)
                            or not get_varint(&g, gaps_end, &offsets)):
                        return -1
                elif seqs == 0:
                    index = <uint64_t>y.own_index + 1
                seqs >>= 1
            if (index >> 32 or seqs >> SEQ_BITS or dot_seq(y.own) + seqs > t.clock[own]
                    or n == MOST_PACKED):
                return -1
            y.own += seqs
            y.own_index = <uint32_t>index
            y.offset = <int64_t>(<uint64_t>y.offset + (0 - offsets if x.flags else offsets))
        elif dot_seq(y.own) > t.clock[own]:
            return -1
        n += 1
        buffer_add(&t.places, &y, sizeof(Placed))
    return (-1 if r < 0 or g != gaps_end or (n == 1 and (x.stride or x.flags)) else <int>n)


cdef int list_walk(Taking *t, uint32_t n, int backwards) noexcept nogil:
    """The giver's walk through its list comes to these elements, the only one where n is 0; 0 where
    the step is too short for it. Where it comes to some once more (a block that has grown is given
    again as a whole), nothing goes that it has passed: what went there since is in the tail."""
    cdef Joining *j = &t.join
    cdef Placed *places = <Placed*>t.places.p
    cdef Placed one
    cdef Placed *x = &one
    cdef uint32_t i, db = t.db
    cdef size_t rank
    if j.list.n == 0:
        buffer_add(&j.list, &db, sizeof(db))
        buffer_add(&j.list, t.key.p, t.key.n)
        j.after.n = 0
    one.value = span(NULL, 0)
    rank = list_behind(j, t.c)
    for i in range(n if n else 1):
        if n:
            x = &places[n - 1 - i if backwards else i]
            list_step(t, x)
        if not list_pass(j, t.c, span(t.steps.p, t.steps.n), x.value, &rank, &x.there):
            return 0
    return 1


cdef int take_list(Taking *t, const StateItem *x, int act) noexcept nogil:
    """0 where the step is too short for it: it is to be given again."""
    cdef uint32_t own, i
    cdef uint64_t dot
    cdef Placed *places
    cdef Cell cell
    cdef int n = 0
    if (not t.keyed or x.db or x.deadlines.n or x.counters.n or x.flags & ~<uint32_t>ITEM_BACKWARDS
            or take_position(t, x.name, &own) < 0):
        return -1
    dot = (<Step*>(t.steps.p + t.steps.n) - 1).own
    if x.values.n:
        if x.value.n or x.actor or x.seq or x.stamped or x.writes.n:
            return -1
        n = list_places(t, x, own)
        if n < 0:
            return -1
    elif x.flags or x.stride or x.gaps.n:
        return -1
    if act:
        open_for(t, T_LIST)
        if t.join.removes:
            t.c.named = 1
            if not list_walk(t, n, x.flags & ITEM_BACKWARDS):
                return 0
    if n == 0:
        cell.writes = NULL
        cell.counts = NULL
        if take_writes(t, x, SORT_LIST, dot, &cell if act else NULL) < 0:
            return -1
        if act:
            note_dots(t, cell.writes)
            single_join(&t.join, t.db, t.c, span(t.steps.p, t.steps.n), &cell)
        return 1
    places = <Placed*>t.places.p
    for i in range(n if act else 0):
        if places[i].there:
            continue
        list_step(t, &places[i])
        packed_join(&t.join, t.db, t.c, span(t.steps.p, t.steps.n), places[i].value)
        note_dot(t, places[i].own)
    t.join.most -= n * act
    return 1


# ---- the stream ----------------------------------------------------------------------------------

cdef int take_items(Taking *t, int act) noexcept nogil:
    """Those from t.next on, while t.join.most lasts: 1 where none is left, 0 where some are."""
    cdef Told before
    cdef StateItem x
    cdef Span body
    cdef const char *p
    cdef int sort, r = 1
    while t.next < t.end:
        if t.join.most <= 0:
            r = 0
            break
        p = t.next
        before = t.at
        r = get_message(&p, t.end, 3, &body)
        if r != 1 or decode_item(body, &x) < 0:
            r = -1
            break
        if x.patches.n and (x.sort if x.sort else t.at.sort) != SORT_KEY:
            r = -1
            break
        if x.sort == t.at.sort and x.sort:
            r = -1                         # it would go without saying
            break
        sort = t.at.sort = x.sort if x.sort else t.at.sort
        if not act and not t.looks and sort != SORT_LIST and t.item < HASHES:
            t.hashes[t.item] = key_hash(t.k, x.name.p, x.name.n)
        if act and sort == SORT_KEY:
            close_key(t)
        if act and sort == SORT_KEY and not list_leave(&t.join, x.db, &x.name):
            r = 0
        elif sort == SORT_KEY:
            r = take_key(t, &x, act)
        elif sort == SORT_LIST:
            r = take_list(t, &x, act)
        elif sort == SORT_DEADLINES:
            r = take_register(t, &x, act)
        elif sort == SORT_STREAM and x.flags & ITEM_LATE:
            r = take_late(t, &x, act)
        else:
            r = take_member(t, &x, sort, act) if sort else -1
        if r == 0:
            t.at = before
        if r != 1:
            break
        t.join.most -= act
        t.count += act or t.looks
        t.item += 1
        t.next = p
    if act:
        close_key(t)
    return r


cdef void items_begin(Taking *t, const char *p, const char *end) noexcept nogil:
    memset(&t.at, 0, sizeof(Told))
    t.at.actor = NO_ACTOR
    t.keyed = 0
    t.item = 0
    t.next = p
    t.end = end


cdef int take_piece(Taking *t, Span body) noexcept nogil:
    cdef const char *p = body.p
    cdef const char *end = body.p + body.n
    cdef const char *at = p
    cdef uint32_t before = 1
    cdef Field f
    cdef int r
    while True:
        at = p
        r = get_field(&p, end, &f)
        if r != 1 or f.number == 3:
            break
        if f.number < before or (f.number == before and before == 2) or f.wire != 2:
            return -1
        before = f.number
        if f.number > 2 or (take_actor(t, f.s) if f.number == 1 else take_moved(t, f.s)) < 0:
            return -1
    items_begin(t, at, end)
    t.join.most = INT64_MAX
    if r != 1 or take_items(t, 0) < 0:
        return -1
    t.items = t.item
    t.pieces += 1
    if not t.looks:
        items_begin(t, at, end)
    return 1


cdef int take_some(Taking *t, int64_t most) noexcept nogil:
    t.join.most = most
    return t.next < t.end and take_items(t, 1) == 0


cdef int take(Taking *t, Span payload) noexcept nogil:
    cdef const char *p = payload.p
    cdef const char *end = payload.p + payload.n
    cdef Field f
    cdef int r = TAKEN_BAD
    t.refused = TAKEN_BAD
    if get_field(&p, end, &f) == 1 and f.wire == 2 and p == end:
        if (f.number != 1 and t.stage == TAKING_HEAD or f.number == 1 and t.stage != TAKING_HEAD
                or t.stage > TAKING_PIECES):
            r = TAKEN_NOT
        elif f.number == 1:
            r = take_head(t, f.s)
        elif f.number == 2:
            r = take_piece(t, f.s)
        elif f.number == 3:
            r = take_end(t, f.s)
    if r != TAKEN:
        t.stage = TAKING_BROKEN
    return r if r >= 0 else t.refused


# ---- the ops behind it ---------------------------------------------------------------------------

cdef int take_tail_op(Taking *t, uint16_t slot, Span raw) noexcept nogil:
    """In the giver's order every op is the next of its actor, and what it had observed stands
    before it."""
    cdef Kernel *k = t.k
    cdef const char *p
    cdef uint64_t actor, seq
    cdef uint16_t at
    cdef OpHead h
    cdef int n, r, recovering
    if decode_op(raw, &h) < 0:
        return TAKEN_BAD
    if h.seq <= vector_get(&t.tail, slot):
        return TAKEN
    if slot == k.me and h.seq > k.actors.v[slot].applied:
        return TAKEN_ACTOR
    if h.seq != vector_get(&t.tail, slot) + 1:
        return TAKEN_NOT
    p = h.deps.p
    while True:
        r = decode_dep(&p, h.deps.p + h.deps.n, &actor, &seq)
        if r == 0:
            break
        at = actors_find(&k.actors, actor)
        if r < 0 or at == slot:
            return TAKEN_BAD
        if at == NO_SLOT:
            return TAKEN_ACTOR
        if seq > vector_get(&t.tail, at):
            return TAKEN_NOT
    n = examine(k, slot, &h, 0)
    if n < 0:
        return TAKEN_BAD
    if t.looks and is_ahead(t, h.stamp):
        return TAKEN_AHEAD
    vector_raise(&t.tail, slot, h.seq)
    if not t.looks and h.seq > k.actors.v[slot].applied:
        recovering = k.inbox.recovering
        k.inbox.recovering = 1             # it is in no log of this replica, nor needs it be
        apply_op(k, slot, &h, n, raw, 0)
        k.inbox.recovering = recovering
    return TAKEN


cdef int take_tail(Taking *t, Span batch) noexcept nogil:
    cdef const char *p = batch.p
    cdef const char *end = batch.p + batch.n
    cdef const char *q
    cdef Field f, g
    cdef Span raw
    cdef uint16_t slot
    cdef int r
    while True:
        r = get_field(&p, end, &f)
        if r == 0:
            texts_settle(t.k)
            return TAKEN
        if r < 0 or f.wire != 2 or f.number > 2:
            return TAKEN_BAD
        if f.number == 1:
            r = receive_actor(t.k, f.s)
            if r != RECEIVED_ALL:
                return TAKEN_BAD if r == RECEIVED_BAD else TAKEN_ACTOR
            continue
        q = f.s.p
        if get_field(&q, f.s.p + f.s.n, &g) != 1 or g.number != 1 or g.wire != 1:
            return TAKEN_BAD
        slot = actors_find(&t.k.actors, g.v)
        if slot == NO_SLOT:
            return TAKEN_ACTOR
        while True:
            r = get_message(&q, f.s.p + f.s.n, 2, &raw)
            if r == 0:
                break
            r = take_tail_op(t, slot, raw) if r > 0 else TAKEN_BAD
            if r != TAKEN:
                return r

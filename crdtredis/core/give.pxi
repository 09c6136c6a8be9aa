# Giving out the state: how is a keyspace read, a little at a time, while it changes?
#
# The walk goes bucket by bucket through the table of each database, as SCAN does, and gives each
# key as it is *then*. So the stream is no picture of any one moment. What it is:
#
#   - An element (a string, a deadline, a member, a list element) that is there from the walk's
#     beginning to its end is given, once or more, each time as it is at that moment. One that is
#     there for a part of that time may be given or not.
#   - Everything that happens after the walk began is in the log from that place on.
#
# So whoever takes the elements, sets the clock to that of the *beginning*, and applies every op
# that was logged since, has the state that is here. Each element is a cell of its own
# (core/cell.pxi), and no effect looks from one cell at another, but for those on consumer groups
# (core/groups.pxi says why they may); so it is enough to look at one of them, read at a moment
# between the beginning and the end of the log. It then holds ops that the
# log brings once more:
#
#     SET k 1 (op 1), walk begins, SET k 2 (op 2), k is read: {2 of op 2}. The log brings op 2: it
#     has observed itself, and is put in its
#     own place.
#     walk begins, SET k 1 (op 2), DEL k (op 3), k is not met. The log brings op 2: k is there; and
#     op 3, which had observed it: k is gone.
#     The log is whole (it was on disk before the stream counted), so whatever an op brings back,
#     its successors take away again.
#     walk begins, a member is added, read, removed and added again: the removal had not observed
#     the second add, whose dot is above its deps,
#     and leaves it.
#     A counter entry (seq 5, total 9) is read; the log brings (seq 4, total 7), which is passed
#     over, as an older one always is.
#     A counter entry is cancelled as of seq 5, its tombstone is let go of, and not met. The log
#     brings the increment (seq 5), so the entry is
#     there again, and the op that cancelled it, so it is a tombstone again, which goes when
#     somebody looks for those. The
#     increment cannot be older than the beginning while the cancelling is not: then the entry
#     would have been there
#     all the time until the tombstone went, which an increment older than the beginning cannot
#     bring back.
#     A deadline is a cell like any other. What a SET did to it is told by the SET's own stamp,
#     wherever each of the two was read.
#     An element of a list is read behind an LSET: its insert, which the log brings again, is a
#     write that the LSET had observed; so both stand
#     side by side until the log brings the LSET, which removes it.
#     A key that is deleted and made again while its members are walked: what the walk still meets
#     is new, and what it passes over is new, too.
#
# Ops that wait for others (core/waiting.pxi) are not in the stream: nobody was told that they are
# here, and the log does not hold them. A clock of the beginning claims none of them.
#
# A large key is given in pieces, each read at its own moment. Nothing of the walk points into the
# keyspace between two calls: of a large key it remembers the name, a bucket, or the position that
# came last.

from libc.stddef cimport size_t
from libc.stdint cimport INT64_MIN, int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span, span)


cdef enum:
    # members or elements of a collection that is given out with its key: no packed one is put down
    WALKED_WHOLE = 64

cdef const char *ZERO_ID = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


# A row of deps says at this index so much more than the row before.
cdef struct Change:
    uint32_t at
    int64_t by


cdef inline int is_given(Giving *g, uint32_t slot) noexcept nogil:
    cdef Actor *x = &g.k.actors.v[slot]
    return (x.applied and g.databases > HOME_DB if slot == g.k.home.slot
            else x.logged or x.applied)


cdef int by_index(const void *x, const void *y) noexcept nogil:
    cdef uint32_t left = (<const Change*>x).at, right = (<const Change*>y).at
    return (left > right) - (left < right)


cdef void row_changes(Buffer *out, const VersionVector *r, const VersionVector *before,
                      const uint32_t *at) noexcept nogil:
    """In what r differs, by index; at: by slot, the index + 1, 0 where an actor is not given. Cost:
    that of what the two do not share."""
    cdef const Page *x
    cdef const Page *y
    cdef Change c
    cdef uint32_t i, j
    for i in range(max(r.n, before.n)):
        x = r.pages[i] if i < r.n else NULL
        y = before.pages[i] if i < before.n else NULL
        for j in range(PAGE_SLOTS if x != y else 0):
            c.by = <int64_t>(page_get(x, j) - page_get(y, j))
            if c.by and at[i * PAGE_SLOTS + j]:
                c.at = at[i * PAGE_SLOTS + j] - 1
                buffer_add(out, <const char*>&c, sizeof(Change))
    if out.n:
        qsort(out.p, out.n // sizeof(Change), sizeof(Change), by_index)


cdef void giving_begin(Giving *g, Kernel *k, int home) noexcept nogil:
    """What is true now is what the Head will say."""
    cdef Actors *a = &k.actors
    cdef Actor *x
    cdef VersionVector nothing
    cdef const VersionVector *before = &nothing
    cdef Buffer changes
    cdef Change *c
    cdef uint32_t *at = <uint32_t*>mem_zalloc(a.n * sizeof(uint32_t))
    cdef uint32_t i, j, told, n = 0
    memset(g, 0, sizeof(Giving))
    memset(&nothing, 0, sizeof(VersionVector))
    memset(&changes, 0, sizeof(Buffer))
    g.k = k
    g.ops = k.streams.ops
    g.databases = DATABASES if home else SHARED
    g.type = T_HASH
    g.stage = GIVING_HEAD
    add_number(&g.begin, 1, STATE_VERSION)
    add_fixed(&g.begin, 3, k.newest_stamp)
    for i in range(a.n):
        x = &a.v[a.ordered[i]]
        if is_given(g, a.ordered[i]):
            giving_index(g, a.ordered[i])
            vector_raise(&g.clock, a.ordered[i], x.applied)
            add_varint(&g.tail, x.applied)
    # The actors are encoded as those of a piece, whose tag is another.
    for i in range(a.n):
        x = &a.v[a.ordered[i]]
        if is_given(g, a.ordered[i]):
            g.head.n = 0
            encode_actor(&g.head, x)
            g.head.p[0] = 4 << 3 | 2
            buffer_add(&g.begin, g.head.p, g.head.n)
            n += 1
            at[a.ordered[i]] = n
    add_span(&g.begin, 5, span(g.tail.p, g.tail.n))
    for i in range(a.n):
        x = &a.v[a.ordered[i]]
        if not is_given(g, a.ordered[i]):
            continue
        changes.n = 0
        row_changes(&changes, &x.deps, before, at)
        g.more.n = 0
        told = 0
        for j in range(<uint32_t>(changes.n // sizeof(Change))):
            c = <Change*>changes.p + j
            add_varint(&g.more, c.at - told)
            add_varint(&g.more, zigzag(c.by))
            told = c.at + 1
        g.tail.n = 0
        add_span(&g.tail, 1, span(g.more.p, g.more.n))
        add_field(&g.begin, 6, span(g.tail.p, g.tail.n))
        before = &x.deps
    buffer_free(&changes)
    mem_free(at)
    give_folded(g, &g.begin, 7)
    g.tail.n = g.more.n = g.declared.n = 0         # the Head has told the actors


cdef void give_folded(Giving *g, Buffer *b, int field) noexcept nogil:
    cdef uint32_t slot
    cdef uint64_t seq
    g.tail.n = 0
    for slot in range(g.k.actors.n):
        seq = vector_get(&g.k.texts.folded, <uint16_t>slot)
        if seq:
            add_varint(&g.tail, giving_index(g, <uint16_t>slot))
            add_varint(&g.tail, seq)
    add_span(b, field, span(g.tail.p, g.tail.n))


cdef void giving_tell(Giving *g, Buffer *b) noexcept nogil:
    cdef uint16_t *slots = <uint16_t*>mem_alloc((g.actors + 1) * sizeof(uint16_t))
    cdef size_t begin = b.n
    cdef uint64_t tag
    cdef uint32_t i
    buffer_need(b, sizeof(tag))
    b.n += sizeof(tag)
    add_varint(b, g.stage)
    add_varint(b, g.db)
    add_varint(b, g.cursor)
    add_varint(b, g.passed)
    add_varint(b, g.type)
    add_varint(b, g.member)
    add_varint(b, g.pieces)
    add_varint(b, g.count)
    add_varint(b, g.actors)
    for i in range(g.index_cap):
        if g.index[i]:
            slots[g.index[i] - 1] = <uint16_t>i
    for i in range(g.actors):
        add_varint(b, slots[i])
        add_varint(b, vector_get(&g.clock, slots[i]))
    mem_free(slots)
    add_field(b, 1, span(g.begin.p, g.begin.n))
    add_field(b, 2, span(g.large.p + g.large_at, g.large.n - g.large_at))
    add_field(b, 3, span(g.after.p, g.after.n))
    add_field(b, 4, span(g.until.p, g.until.n))
    tag = siphash64(b.p + begin + sizeof(tag), b.n - begin - sizeof(tag), g.k.hash_key)
    memcpy(b.p + begin, &tag, sizeof(tag))


cdef int giving_resume(Giving *g, Kernel *k, Span told) noexcept nogil:
    """Nobody but this process can tell the key of the tag, so what bears it is as it was told."""
    cdef const char *p = told.p + sizeof(uint64_t)
    cdef const char *end = told.p + told.n
    cdef uint64_t numbers[9]
    cdef uint64_t tag, slot, seq
    cdef uint32_t i
    cdef Field f
    memset(g, 0, sizeof(Giving))
    g.k = k
    g.databases = SHARED
    if told.n < sizeof(tag):
        return -1
    memcpy(&tag, told.p, sizeof(tag))
    if tag != siphash64(p, told.n - sizeof(tag), k.hash_key):
        return -1
    for i in range(9):
        get_varint(&p, end, &numbers[i])
    g.stage = <int>numbers[0]
    g.db = <uint32_t>numbers[1]
    g.cursor = numbers[2]
    g.passed = <int>numbers[3]
    g.type = <int>numbers[4]
    g.member = numbers[5]
    g.pieces = numbers[6]
    g.count = numbers[7]
    for i in range(<uint32_t>numbers[8]):
        get_varint(&p, end, &slot)
        get_varint(&p, end, &seq)
        giving_index(g, <uint16_t>slot)
        vector_raise(&g.clock, <uint16_t>slot, seq)
    g.declared.n = 0
    get_field(&p, end, &f)
    buffer_add(&g.begin, f.s.p, f.s.n)
    get_field(&p, end, &f)
    buffer_add(&g.large, f.s.p, f.s.n)
    get_field(&p, end, &f)
    buffer_add(&g.after, f.s.p, f.s.n)
    get_field(&p, end, &f)
    buffer_add(&g.until, f.s.p, f.s.n)
    return 1


cdef void giving_free(Giving *g) noexcept nogil:
    mem_free(g.index)
    vector_free(&g.clock)
    buffer_free(&g.begin)
    buffer_free(&g.declared)
    buffer_free(&g.moved)
    buffer_free(&g.items)
    buffer_free(&g.head)
    buffer_free(&g.tail)
    buffer_free(&g.more)
    buffer_free(&g.body)
    buffer_free(&g.steps)
    buffer_free(&g.large)
    buffer_free(&g.after)
    buffer_free(&g.until)


# ---- dots and stamps -----------------------------------------------------------------------------

cdef uint32_t giving_index(Giving *g, uint16_t slot) noexcept nogil:
    """The actor's index in the table, to which it is appended if need be."""
    cdef uint32_t cap
    if slot >= g.index_cap:
        cap = max(<uint32_t>slot + 1, g.index_cap * 2)
        g.index = <uint16_t*>mem_realloc(g.index, cap * sizeof(uint16_t))
        memset(g.index + g.index_cap, 0, (cap - g.index_cap) * sizeof(uint16_t))
        g.index_cap = cap
    if g.index[slot] == 0:
        g.actors += 1
        g.index[slot] = <uint16_t>g.actors
        encode_actor(&g.declared, &g.k.actors.v[slot])
    return g.index[slot] - 1


cdef inline void give_dot(Giving *g, Buffer *b, int field, uint64_t dot) noexcept nogil:
    """Fields actor and seq."""
    cdef uint32_t index = giving_index(g, dot_slot(dot))
    if index != g.at.actor:
        add_number(b, field, index + 1)
        g.at.actor = index
    add_number(b, field + 1, zigzag(<int64_t>(dot_seq(dot) - g.at.seq)))
    g.at.seq = dot_seq(dot)


cdef inline void give_stamp(Giving *g, Buffer *b, int field, int sort,
        uint64_t stamp) noexcept nogil:
    """Nothing where there is none."""
    if sort != SORT_SET and stamp:
        add_number(b, field, zigzag(<int64_t>(stamp - g.at.stamp)))
        g.at.stamp = stamp


# ---- cells ---------------------------------------------------------------------------------------

cdef inline uint32_t keeps_flag(int sort, uint32_t bit) noexcept nogil:
    """bit: that of a key's write that cleared the deadline, of a field's that kept it."""
    if sort == SORT_KEY:
        return 0 if bit else ITEM_KEEPS
    return ITEM_KEEPS if sort == SORT_HASH and bit else 0


cdef Span give_writes(Giving *g, int sort, const Cell *c, uint32_t *flags) noexcept nogil:
    """The first write in the item's own fields, the others as messages; returns the first one's
    value."""
    cdef Write *w = c.writes
    cdef Write *first = w
    if w == NULL:
        flags[0] |= ITEM_NO_WRITE
        return span(NULL, 0)
    flags[0] |= keeps_flag(sort, w.flags & W_CLEARS) | (ITEM_LOOSE if w.flags & W_LOOSE else 0)
    give_dot(g, &g.tail, 4, w.dot)
    give_stamp(g, &g.tail, 6, sort, w.stamp)
    w = w.next
    while w != NULL:
        g.body.n = 0
        add_span(&g.body, 1, span(write_value(w), w.n))
        give_dot(g, &g.body, 2, w.dot)
        give_stamp(g, &g.body, 4, sort, w.stamp)
        add_number(&g.body, 5, keeps_flag(sort, w.flags & W_CLEARS) != 0)
        add_number(&g.body, 8, (w.flags & W_LOOSE) != 0)
        add_field(&g.more, 12, span(g.body.p, g.body.n))
        w = w.next
    return span(write_value(first), first.n)


cdef void give_deadlines(Giving *g, const Cell *c) noexcept nogil:
    """NULL: none."""
    cdef Write *w = c.writes if c != NULL else NULL
    cdef int64_t ms
    while w != NULL:
        g.body.n = 0
        give_dot(g, &g.body, 2, w.dot)
        give_stamp(g, &g.body, 4, SORT_KEY, w.stamp)
        if w.actor != dot_slot(w.dot):
            add_number(&g.body, 6, giving_index(g, w.actor) + 1)
        memcpy(&ms, write_value(w), sizeof(ms))
        add_number(&g.body, 7, <uint64_t>ms)
        add_field(&g.more, 13, span(g.body.p, g.body.n))
        w = w.next


cdef void give_counters(Giving *g, const Cell *c) noexcept nogil:
    cdef const Count *t = c.counts
    cdef Total total
    while t != NULL:
        g.body.n = 0
        give_dot(g, &g.body, 1, make_dot(t.actor, t.seq))
        add_number(&g.body, 3, t.seq - t.run_seq)
        add_number(&g.body, 4, t.run_index)
        number_total(&t.total, &g.steps, &total)
        add_total(&g.body, 5, &total)
        if t.rare.cancelled_seq:
            add_number(&g.body, 8, t.rare.cancelled_seq)
            number_total(&t.rare.cancelled, &g.steps, &total)
            add_total(&g.body, 9, &total)
            add_number(&g.body, 12, giving_index(g, dot_slot(t.rare.cancelled_by)) + 1)
            add_number(&g.body, 13, dot_seq(t.rare.cancelled_by))
        if t.rare.shown != NULL:
            add_span(&g.body, 14, span(t.rare.shown.number, EXTENDED))
            add_fixed(&g.body, 15, t.rare.shown.context)
        add_number(&g.body, 16, t.wide)
        add_field(&g.more, 14, span(g.body.p, g.body.n))
        t = t.next


# ---- items ---------------------------------------------------------------------------------------

cdef void give_item(Giving *g, int sort, Span name, Span value) noexcept nogil:
    """Of g.tail and g.more, which are empty then, and what stands before them."""
    cdef size_t n
    cdef char *p
    g.head.n = 0
    if sort != g.at.sort:
        add_number(&g.head, 1, sort)
        g.at.sort = sort
    n = g.head.n + span_size(name) + span_size(value) + g.tail.n + g.more.n
    p = buffer_need(&g.items, n + 11)
    p[0] = 3 << 3 | 2
    p = put_varint(p + 1, n)
    copy_span(p, span(g.head.p, g.head.n))
    p += g.head.n
    if name.n:
        p = put_span(p, 2 << 3 | 2, name)
    if value.n:
        p = put_span(p, 3 << 3 | 2, value)
    copy_span(p, span(g.tail.p, g.tail.n))
    p += g.tail.n
    copy_span(p, span(g.more.p, g.more.n))
    g.items.n = p + g.more.n - g.items.p
    g.tail.n = g.more.n = 0
    g.count += 1


cdef void give_element(Giving *g, int sort, Element *e, uint32_t db) noexcept nogil:
    """A key without its collections, or a member."""
    cdef DeadlineRoom room
    cdef LoneRoom lone
    cdef const Cell *c = cell_of(e, &lone)
    cdef Span value = span(NULL, 0)
    cdef uint32_t flags = 0
    cdef Collection *patches = patches_held(e) if sort == SORT_KEY else NULL
    if sort == SORT_DEADLINES:
        give_register(g, e)
        return
    if patches != NULL:
        patches_undo(g.k, db, e, patches)
    if e.meta & E_PLAIN:
        value = element_content(e)
        give_dot(g, &g.tail, 4, e.dot)
        give_stamp(g, &g.tail, 6, sort, element_stamp(e))
        flags = keeps_flag(sort, e.meta & E_CLEARS)
    elif c != NULL:
        value = give_writes(g, sort, c, &flags)
    else:
        flags = ITEM_NO_WRITE
    if sort == SORT_KEY and is_marked(g.k, db, element_name(e)):
        flags |= ITEM_MARKED
    add_number(&g.tail, 7, flags)
    add_number(&g.tail, 8, db)
    if e.meta & E_ENTRY:
        give_deadlines(g, deadline_cell(g.k, e, &room))
    if c != NULL:
        give_counters(g, c)
    if patches != NULL:
        give_patches(g, patches)
    give_item(g, sort, element_name(e), value)
    if patches != NULL:
        patches_redo(g.k, db, e, patches)


cdef void give_patches(Giving *g, Collection *c) noexcept nogil:
    """The writes were given without them."""
    cdef Buffer *b = &g.body
    cdef Text *t = patched_of(c).texts
    cdef Patch *p
    b.n = 0
    while t != NULL:
        give_whole_dot(g, b, t.root)
        if t.root == 0:
            give_whole_dot(g, b, t.last)
            add_varint(b, t.upto)
        p = t.first
        while p != NULL:
            give_whole_dot(g, b, p.dot)
            add_varint(b, p.stamp)
            add_varint(b, p.index)
            add_varint(b, p.appends | p.unused << 1)
            add_varint(b, p.at)
            add_varint(b, p.n)
            buffer_add(b, patch_bytes(p), p.n)
            p = p.next
        give_whole_dot(g, b, 0)
        t = t.next
    add_span(&g.more, 15, span(b.p, b.n))


cdef void give_whole_dot(Giving *g, Buffer *b, uint64_t dot) noexcept nogil:
    """0: none."""
    add_varint(b, giving_index(g, dot_slot(dot)) + 1 if dot else 0)
    if dot:
        add_varint(b, dot_seq(dot))


cdef void give_register(Giving *g, Element *e) noexcept nogil:
    """The deadlines of a field."""
    cdef int64_t ms
    add_number(&g.tail, 7, ITEM_NO_WRITE)
    if e.meta & E_CELL:
        give_deadlines(g, element_cell(e))
    else:
        g.body.n = 0
        give_dot(g, &g.body, 2, e.dot)
        give_stamp(g, &g.body, 4, SORT_DEADLINES, e.stamp)
        memcpy(&ms, element_value(e), sizeof(ms))
        add_number(&g.body, 7, <uint64_t>ms)
        add_field(&g.more, 13, span(g.body.p, g.body.n))
    give_item(g, SORT_DEADLINES, element_name(e), span(NULL, 0))


cdef void give_name(Giving *g, Span key) noexcept nogil:
    """The key that the next items are of."""
    add_number(&g.tail, 7, ITEM_NO_WRITE)
    add_number(&g.tail, 8, g.db)
    give_item(g, SORT_KEY, key, span(NULL, 0))


cdef void give_position(Giving *g, Buffer *b, Span steps) noexcept nogil:
    cdef Step *s = position_steps(steps)
    cdef uint32_t i
    cdef int flags
    for i in range(position_depth(steps)):
        flags = 0
        if s[i].run == s[i].own and s[i].run_index == s[i].own_index:
            flags = STEP_RUN_IS_OWN
        elif dot_slot(s[i].run) == dot_slot(s[i].own):
            flags = STEP_RUN_OF_OWN
        buffer_need(b, 1)[0] = <char>flags
        b.n += 1
        add_varint(b, zigzag(s[i].major))
        add_varint(b, zigzag(s[i].offset))
        add_varint(b, giving_index(g, dot_slot(s[i].own)))
        add_varint(b, dot_seq(s[i].own))
        add_varint(b, s[i].own_index)
        if flags == 0:
            add_varint(b, giving_index(g, dot_slot(s[i].run)))
        if flags != STEP_RUN_IS_OWN:
            add_varint(b, dot_seq(s[i].run))
            add_varint(b, s[i].run_index)


cdef void give_block(Giving *g, Block *b) noexcept nogil:
    cdef Span value = span(NULL, 0)
    cdef uint32_t flags = 0, p
    cdef const char *at
    cdef Gap gap
    g.steps.n = g.body.n = 0
    block_position(b, &b.first, &g.steps)
    if block_packed(b):
        if b.n > 1:
            add_number(&g.tail, 7, ITEM_BACKWARDS if b.direction < 0 else 0)
            add_number(&g.tail, 9, b.stride)
            if b.stride == STRIDE_NONE:
                for p in range(b.begin + 1, b.begin + b.n):
                    read_gap(b, p, &gap)
                    b_gap(&g.body, &gap)
                add_span(&g.tail, 10, span(g.body.p, g.body.n))
        for p in range(b.begin, b.begin + b.n):
            at = read_gap(b, p, &gap)
            add_field(&g.tail, 11, span(at, block_page(b) + page_end(b, p)[0] - at))
    else:
        value = give_writes(g, SORT_LIST, &b.cell, &flags)
    g.body.n = 0
    give_position(g, &g.body, span(g.steps.p, g.steps.n))
    give_item(g, SORT_LIST, span(g.body.p, g.body.n), value)


cdef inline void b_gap(Buffer *b, const Gap *g) noexcept nogil:
    b.n = put_gap(buffer_need(b, LONGEST_GAP), g) - b.p


# ---- the walk ------------------------------------------------------------------------------------

cdef void visit_key(void *arg, Element *e) noexcept nogil:
    """Gives a key, and its collections where they are small; a large one is put down to be
    walked, and so is one of few elements that turns out to be more than a piece: what it gave
    until then it takes back, for the elements of a list are given in one walk (core/join.pxi)."""
    cdef Giving *g = <Giving*>arg
    cdef char *packed
    if g.some and not bucket_is_in(g.buckets, bucket_of(g.db, element_name(e))):
        return
    packed = key_open(g.k, e)
    give_open_key(g, e)
    key_close(e, packed)


cdef void give_open_key(Giving *g, Element *e) noexcept nogil:
    cdef Collection *c = element_held(e)
    cdef size_t elements = 0, most, n, items
    cdef uint64_t count
    cdef Told at
    give_element(g, SORT_KEY, e, g.db)
    most = g.items.n + PIECE
    at = g.at
    items = g.items.n
    count = g.count
    while c != NULL:
        elements += collection_size(c)
        c = c.next
    if elements <= WALKED_WHOLE:
        c = element_held(e)
        while c != NULL and give_collection(g, c, most):
            c = c.next
        if c == NULL:
            return
        g.at = at
        g.items.n = items
        g.count = count
    n = element_klen(e)
    buffer_add(&g.large, &n, sizeof(n))
    buffer_add(&g.large, element_key(e), n)


cdef void visit_member(void *arg, Element *m) noexcept nogil:
    cdef Giving *g = <Giving*>arg
    give_element(g, g.type + 1, m, 0)


cdef int give_collection(Giving *g, Collection *c, size_t most) noexcept nogil:
    """All of it, at once: 1. 0 where that would be more than `most` bytes of items."""
    cdef OrderCursor at
    cdef Item *item
    cdef Element *m
    cdef size_t pos = 0
    if c.type == T_STREAM:
        g.member = 0
        pos = give_stream(g, c, most)
        g.member = g.after.n = g.until.n = 0
        return pos == 0
    if c.type != T_LIST:
        m = table_next(&c.table, &pos)
        while m != NULL and g.items.n < most:
            give_element(g, c.type + 1, m, 0)
            m = table_next(&c.table, &pos)
        return m == NULL
    item = order_at(order_of(c), 0, &at)
    while item != NULL and g.items.n < most:
        give_block(g, <Block*>item.e)
        item = order_next(&at)
    return item == NULL


cdef int give_list(Giving *g, Collection *c, size_t most) noexcept nogil:
    """Blocks behind the position that came last, up to the one that was the last when the walk of
    the list began: what is pushed behind
    it is in the log, and would keep the walk from ending. 1 while more is left."""
    cdef Actors *a = &g.k.actors
    cdef OrderCursor at
    cdef Item *item = NULL
    cdef Block *b = NULL
    cdef size_t rank = 0
    if g.until.n == 0:
        b = <Block*>order_at(order_of(c), order_of(c).n - 1, &at).e
        block_position(b, block_tail(b), &g.until)
        b = NULL
    if g.after.n:
        b = order_search(order_of(c), span(g.after.p, g.after.n), &rank)
    item = order_at(order_of(c), rank, &at)
    if b != NULL and compare_to_place(a, b, block_tail(b), span(g.after.p, g.after.n)) <= 0:
        item = order_next(&at)
    while item != NULL:
        b = <Block*>item.e
        if compare_to_place(a, b, block_head(b), span(g.until.p, g.until.n)) > 0:
            return 0
        if g.items.n >= most:
            return 1
        give_block(g, b)
        g.after.n = 0
        block_position(b, block_tail(b), &g.after)
        item = order_next(&at)
    return 0


cdef int give_stream(Giving *g, Collection *c, size_t most) noexcept nogil:
    """Entries behind the one that came last, up to the one that was the last when the walk of them
    began. Then, in a checkpoint, `newest` and how many ops that is the state of, and those that
    came late. 1 while more is left."""
    cdef Stream *s = stream_of(c)
    cdef OrderCursor at
    cdef Item *item
    cdef Element *m
    cdef StreamId last
    if g.member == 0:
        if g.until.n == 0:
            item = order_at(order_of(c), order_of(c).n - 1, &at) if order_of(c).n else NULL
            buffer_add(&g.until, ZERO_ID, STREAM_ID)
            if item != NULL:
                put_id(g.until.p, entry_id(item, &at))
        last = id_of(g.until.p)
        item = order_at(order_of(c), 0, &at)
        if g.after.n:
            entry_seek(c, id_of(g.after.p), &at, &item)
            if item != NULL and is_at(item, &at, id_of(g.after.p)):
                item = entry_next(&at)
        while item != NULL and not id_below(last, entry_id(item, &at)):
            if g.items.n >= most:
                return 1
            m = entry_element(item, &at, &g.k.scratch.entry)
            give_element(g, SORT_STREAM, m, 0)
            g.after.n = 0
            buffer_add(&g.after, element_key(m), STREAM_ID)
            item = entry_next(&at)
        if g.databases <= HOME_DB:
            return 0
        g.member = 1
        g.after.n = g.until.n = 0
        buffer_add(&g.after, ZERO_ID, sizeof(uint64_t))
        buffer_add(&g.until, &g.k.streams.arrivals, sizeof(uint64_t))
        g.body.n = 0
        buffer_add(&g.body, ZERO_ID, STREAM_ID)
        put_id(g.body.p, s.newest)
        add_varint(&g.body, g.k.streams.ops - g.ops)
        give_late(g, span(NULL, 0), span(g.body.p, g.body.n))
    return give_arrived(g, s, most)


cdef int give_arrived(Giving *g, Stream *s, size_t most) noexcept nogil:
    cdef uint64_t after, until
    cdef OrderCursor at
    cdef Item *item
    cdef char behind_id[16]
    memcpy(&after, g.after.p, sizeof(after))
    memcpy(&until, g.until.p, sizeof(until))
    item = order_at(&s.arrived, order_rank(&s.arrived, after + 1, span(b"", 0)), &at)
    while item != NULL and item.sort_key <= until:
        if g.items.n >= most:
            return 1
        put_id(behind_id, behind(item.e))
        give_late(g, span(element_key(item.e), STREAM_ID), span(behind_id, STREAM_ID))
        memcpy(g.after.p, &item.sort_key, sizeof(after))
        item = order_next(&at)
    return 0


cdef void give_late(Giving *g, Span name, Span value) noexcept nogil:
    add_number(&g.tail, 7, ITEM_NO_WRITE | ITEM_LATE)
    give_item(g, SORT_STREAM, name, value)


cdef void give_large(Giving *g, size_t most) noexcept nogil:
    """Goes on with the first of the large keys: as it is now, which may be no more, or another of
    the same name."""
    cdef Kernel *k = g.k
    cdef Collection *c
    cdef Element *e
    cdef Span key
    cdef int more
    memcpy(&key.n, g.large.p + g.large_at, sizeof(key.n))
    key.p = g.large.p + g.large_at + sizeof(key.n)
    e = key_in(k, g.db, key)
    if e != NULL and e.meta & E_ENTRY:
        give_name(g, key)
        most = max(most, g.items.n + 1)        # a name may be longer than a piece
        while g.type < T_COUNT:
            c = element_collection(k, e, g.type)
            if c != NULL:
                more = 1
                if g.type == T_LIST:
                    more = give_list(g, c, most)
                elif g.type == T_STREAM:
                    more = give_stream(g, c, most)
                while g.type != T_LIST and g.type != T_STREAM and more and g.items.n < most:
                    g.member = table_scan(&c.table, g.member, visit_member, g)
                    more = g.member != 0
                if more:
                    return
            g.type += 1
            g.member = 0                   # c may have gone in the middle of its walk
            g.after.n = g.until.n = 0
    g.type = T_HASH
    g.large_at += sizeof(key.n) + key.n
    if g.large_at == g.large.n:
        g.large_at = g.large.n = 0


cdef void give_items(Giving *g, size_t most) noexcept nogil:
    while g.db < g.databases and g.items.n < most:
        if g.large.n:
            give_large(g, most)
            continue
        if g.passed:
            g.passed = 0
            g.db += 1
            continue
        g.cursor = table_scan(&g.k.db[g.db].table, g.cursor, visit_key, g)
        g.passed = g.cursor == 0


# ---- the stream ----------------------------------------------------------------------------------

cdef void tell_clock(Giving *g) noexcept nogil:
    """What changed in it since it was told last."""
    cdef Actors *a = &g.k.actors
    cdef uint32_t slot
    g.moved.n = 0
    for slot in range(a.n):
        if (a.v[slot].applied != vector_get(&g.clock, <uint16_t>slot)
                and (slot != g.k.home.slot or g.databases > HOME_DB)):
            add_varint(&g.moved, giving_index(g, <uint16_t>slot))
            add_varint(&g.moved, a.v[slot].applied)
            vector_raise(&g.clock, <uint16_t>slot, a.v[slot].applied)


cdef int give(Giving *g, size_t most, Buffer *b, size_t *at, Span *rest) noexcept nogil:
    cdef size_t n
    b.n = 0
    at[0] = record_begin(b)
    rest[0] = span(NULL, 0)
    if g.stage == GIVING_HEAD:
        add_field(b, 1, span(g.begin.p, g.begin.n))
        buffer_free(&g.begin)
        g.stage = GIVING_PIECES
        return 1
    if g.stage == GIVING_PIECES:
        memset(&g.at, 0, sizeof(Told))
        g.at.actor = NO_ACTOR
        g.items.n = g.declared.n = 0
        tell_clock(g)
        give_items(g, most)
        if g.items.n:
            n = (g.declared.n + (1 + varint_size(g.moved.n) + g.moved.n if g.moved.n
                    else 0) + g.items.n)
            b.n = put_varint(put_varint(buffer_need(b, 12), 2 << 3 | 2), n) - b.p
            buffer_add(b, g.declared.p, g.declared.n)
            add_span(b, 2, span(g.moved.p, g.moved.n))
            rest[0] = span(g.items.p, g.items.n)
            g.pieces += 1
            return 1
        g.stage = GIVING_END
    if g.stage == GIVING_OVER:
        return 0
    n = g.declared.n
    g.body.n = 0
    add_span(&g.body, 2, span(g.moved.p, g.moved.n))
    add_fixed(&g.body, 3, g.k.newest_stamp)
    add_number(&g.body, 4, g.pieces)
    add_number(&g.body, 5, g.count)
    give_folded(g, &g.body, 6)
    n = g.declared.n
    b.n = put_varint(put_varint(buffer_need(b, 12), 3 << 3 | 2), n + g.body.n) - b.p
    buffer_add(b, g.declared.p, n)
    buffer_add(b, g.body.p, g.body.n)
    g.stage = GIVING_OVER
    return 1

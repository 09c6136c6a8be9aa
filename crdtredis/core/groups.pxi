# Consumer groups: which entries has a group given out, to whom, and what do two replicas make of
# it?
#
# They are members of a third collection of a stream, behind its head, and each is a cell like any
# other (core/cell.pxi): a write stays unless an op that observed it assigned there or removed it.
#
#     "g" group                       a write for each XGROUP CREATE, whose dot names what it made:
#                                     a name has several where CREATEs did not know of each other
#     "c" group consumer create       a consumer of what that CREATE made: when it was seen
#     "p" group id create             a record of an entry that is pending: a write for each
#                                     delivery, which replaces those that it observed
#
# XACK and XGROUP DELCONSUMER remove the writes they observed, so a delivery they had not seen stays
# pending. XGROUP DESTROY and DEL remove the CREATEs they observed. Consumers and records whose
# CREATE is not there mean nothing, and go as soon as it does, or do not come in:
#
#     A: XGROUP DESTROY s g   ||   B: XREADGROUP .. s >
#     A applies B's delivery: there is no such CREATE: nothing. B applies A's removal: the CREATE
#     goes, and with it the record, although A had not seen it
#
# New are two things that a write's value is, beside what was written. They only grow, and what two
# make of them is the same in any order; where two replicas hold the same write, a full sync joins
# its values (groups_meet).
#
# A record says who owns it: the latest word of those who have said so (stamp, then actor), the
# delivery's first. XCLAIM speaks about the writes it observed, and about none that is gone; so a
# concurrent XACK wins. XNACK says that nobody owns it: the empty name, last delivered at 0, as if
# XCLAIM had been told so. It names no CREATE, so it brings no consumer; and a consumer of the empty
# name that was never seen is none.
#
#     A: XNACK s g FAIL IDS 1 5-1   ||   B: XCLAIM s g c 0 5-1, later   ->   c's in both: one word
#     A: XNACK s g FAIL IDS 1 5-1   ||   B: XACK s g 5-1                ->   gone in both
#
# A CREATE's value are the group's marks: a round, which entries it began behind, and which of the
# others were given out since. XGROUP SETID begins a round in all CREATEs it observed; of two rounds
# the later holds, and what was given out in another round does not count in it. An entry that the
# round's op had not observed is new, whatever its id is. The marks, for entries that are there:
#
#     begun behind    the id is not above `start`, and the op had observed the entry: told by the
#                     last op of each actor that had written there (`seen`). Nothing more is kept
#     given out       of each actor, the last one given out (`given`, by seq, then id), and what is
#                     up to it, but for the holes (`odd`). Of an entry that the round began behind,
#                     which is given out where another CREATE of the name has it to give, that is
#                     said one by one, in `odd` as well
#
# A delivery lists entries with their dots. It raises `given`, and what is there between the old and
# the new and is not listed becomes a hole; a hole that is listed goes. The order of two deliveries
# is no matter:
#
#     entries 3, 4, 5 of one actor are there.  A gives out 5   ||   B gives out 3
#     A: up to 5, holes 3 4; then B's: hole 4.     B: up to 3; then A's: up to 5, hole 4
#
# `given` is the greatest that was listed, be the entry there or gone; a hole is what is there, is
# not above, and was not listed. Each is a function of the deliveries and of the entries that are
# there. That deliveries read what entries there are is the one rule that looks from one cell at
# another, and safe for this reason: an actor's ops arrive in their order, and whoever gave out its
# entry of seq n had seen all up to n; so here, too, all up to n have come before the delivery, and
# what comes later has a greater seq. And whoever removes an entry removes its hole, by what it
# observed at that id, be the entry still there or not.
#
# So a state that is read while it changes (core/give.pxi), entries at one moment and marks at
# another, and the log behind it come to what is here:
#
#     the marks hold a delivery that the log brings again: `given` is there already, and its holes
#     are, or have been given out or removed by what the log brings behind it
#     the marks do not hold it: all ops before it are there when the log brings it, so what lies
#     below is what was there when it was made here
#     a hole stands in the marks whose entry was read before it came: the log brings that; or whose
#     entry was gone when entries were read: the log brings what removed it, and that removes the
#     hole by its id
#     a CREATE is read and a record of it not, or the reverse: the log brings what is missing, from
#     the CREATE on; where it brings its removal, whatever names it goes
#
# For each actor, entries that are there are in order of their ids as they are in order of seq, for
# an XADD is above all that its maker has; so what is between two of them is found by id. But what
# was given out last may be gone, and the top have been set back since. So what is behind it is
# looked for from the new one backwards, as far as the first that is not behind it:
#
#     A has given out its 10-1.  A: XTRIM s MAXLEN 0; XSETID s 1-0; XADD s 5-1; XADD s 20-1
#     ||   B: XADD s 5-1, later, so it shows.  A gives out B's 5-1 and its 20-1: A's 5-1, of a seq
#     behind that of 10-1, is a hole.  C, which knew B's only, removes that: A's shows, and is new
#
# Within one op the ids tell what came first, unless it sets the top back, or has begun a round
# behind ids that are yet to come. An entry that it adds behind a word on a group is new to that
# round: a hole where the op has given out what has its id or one above; and a round that this op
# began behind that id, begins below it. For whoever adds has nothing with that id or one above, so
# such entries as the round was behind are gone, here, and wherever the op is applied.
#
# A group that is put here as it is elsewhere, by COPY, RENAME or RESTORE, is a CREATE that has its
# first delivery in it: `given` is the greatest entry up to last-delivered-id, and what of those
# below had not been given out is a hole. All these entries are of the same op, just before it; so
# whoever applies it has the same entries there. `start` is for show then: nothing was begun behind,
# for no op of others was seen. So where two replicas rename a stream at once, what the copy that
# shows had given out is given out, whichever CREATE is the later.
#
# Who gives out what is not decided here, but said by who knows which replicas are linked, and what
# they have said to each other (replication/delivering.py): group_new is asked for what was not
# given out and is this replica's to give.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span, span

cdef enum:
    # first letters of names of members,
    G_GROUP = 103           # "g"
    G_CONSUMER = 99         # "c"
    G_RECORD = 112          # "p"
    # and, with the first two, of names in effects. The group's name follows.
    G_SETID = 115           # "s"
    G_DELIVER = 100         # "d"
    G_CLAIM = 111           # "o"
    G_ACK = 97              # "a"
    G_DISMISS = 120         # "x"
    # idempotent ids: see core/produced.pxi
    G_PRODUCED = 105        # "i", of a member,
    G_FORGET = 102          # "f": of an effect, which lists such; all where it lists none
    PRODUCED_NAME_MOST = 132    # bytes of the one
    CREATE_ID = 16          # bytes that name a CREATE: its actor's id and its seq
    # of a delivery
    G_NO_RECORDS = 1
    G_NO_MARKS = 2
    TIME_BITS = 44          # of ms since 1970
    # of Groups.passing
    PASSING_GIVEN = 1
    PASSING_OTHERS = 2
    # of marks
    G_SHARED = 1
    G_ODD = 2
    GAP_LEAST = 64          # entries of others that it is worth while to remember
    COUNTED = -2            # in place of entries-read: something was given out since it was said

# A write of a member.
cdef struct Said:
    uint64_t dot
    uint64_t stamp
    uint16_t actor
    Span value

# What a record says.
cdef struct Owned:
    uint64_t stamp          # of who said so,
    uint64_t actor          # and whose that was
    int64_t at
    int64_t deliveries
    Span owner

# The fields of a delivery, a claim, a consumer.
cdef struct Given:
    uint64_t create_actor
    uint64_t create_seq
    uint64_t round_stamp
    uint64_t round_actor
    uint64_t flags
    Span consumer
    int64_t at
    int64_t deliveries
    const char *p           # entries or ids,
    uint64_t n              # so many


# ---- bytes ---------------------------------------------------------------------------------------

cdef int get_fixed(const char **p, const char *end, uint64_t *v) noexcept nogil:
    if end - p[0] < 8:
        return 0
    memcpy(v, p[0], 8)
    p[0] += 8
    return 1


cdef int get_signed(const char **p, const char *end, int64_t *v) noexcept nogil:
    cdef uint64_t u
    if not get_varint(p, end, &u):
        return 0
    v[0] = unzigzag(u)
    return 1


cdef int get_bytes(const char **p, const char *end, Span *v) noexcept nogil:
    cdef uint64_t n
    if not get_varint(p, end, &n) or n > <uint64_t>(end - p[0]):
        return 0
    v[0] = span(p[0], n)
    p[0] += n
    return 1


cdef void append_varint(Buffer *b, uint64_t v) noexcept nogil:
    cdef char *p = buffer_need(b, 10)
    b.n += put_varint(p, v) - p


cdef void add_bytes(Buffer *b, Span v) noexcept nogil:
    append_varint(b, v.n)
    buffer_add(b, v.p, v.n)


cdef inline Mark *mark_at(const Buffer *b, size_t i) noexcept nogil:
    return <Mark*>b.p + i


cdef inline size_t mark_count(const Buffer *b) noexcept nogil:
    return b.n // sizeof(Mark)


cdef void add_mark(Buffer *b, const Mark *x, uint64_t *actor, int with_id) noexcept nogil:
    append_varint(b, x.seq << 1 | (x.actor != actor[0]))
    if x.actor != actor[0]:
        buffer_add(b, &x.actor, 8)
        actor[0] = x.actor
    if with_id:
        append_varint(b, x.id.ms)
        append_varint(b, x.id.seq)


cdef int get_mark(const char **p, const char *end, Mark *x, int with_id) noexcept nogil:
    """x: the one before."""
    cdef uint64_t seq
    if not get_varint(p, end, &seq) or (seq & 1 and not get_fixed(p, end, &x.actor)):
        return 0
    x.seq = seq >> 1
    x.id.ms = x.id.seq = 0
    return not with_id or (get_varint(p, end, &x.id.ms) and get_varint(p, end, &x.id.seq))


cdef void add_marks(Buffer *b, const Buffer *marks, int with_id) noexcept nogil:
    cdef uint64_t actor = 0
    cdef size_t i
    append_varint(b, mark_count(marks))
    for i in range(mark_count(marks)):
        add_mark(b, mark_at(marks, i), &actor, with_id)


cdef int get_marks(const char **p, const char *end, Buffer *marks, int with_id) noexcept nogil:
    """In order, as all are kept."""
    cdef uint64_t n
    cdef Mark x, before
    memset(&x, 0, sizeof(Mark))
    marks.n = 0
    if not get_varint(p, end, &n) or n > <uint64_t>(end - p[0]):
        return 0
    for _ in range(n):
        before = x
        if not get_mark(p, end, &x, with_id):
            return 0
        if marks.n and mark_order(&before, &x) >= 0:
            return 0
        buffer_add(marks, &x, sizeof(Mark))
    return 1


cdef int marks_decode(Span v, Marks *m) noexcept nogil:
    cdef const char *p = v.p
    cdef const char *end = v.p + v.n
    cdef uint64_t flags
    m.seen.n = m.given.n = m.odd.n = 0
    if (not get_varint(&p, end, &flags) or not get_fixed(&p, end, &m.stamp)
            or not get_fixed(&p, end, &m.actor) or not get_varint(&p, end, &m.start.ms)
            or not get_varint(&p, end, &m.start.seq) or not get_signed(&p, end, &m.read)
            or not get_marks(&p, end, &m.seen, 0) or not get_marks(&p, end, &m.given, 1)
            or (flags & G_ODD and not get_marks(&p, end, &m.odd, 1))):
        return 0
    m.shared = flags & G_SHARED
    return p == end and flags <= (G_SHARED | G_ODD) and (mark_count(&m.odd) > 0) == (
        flags & G_ODD != 0)


cdef void marks_encode(const Marks *m, Buffer *b) noexcept nogil:
    b.n = 0
    append_varint(b, (G_SHARED if m.shared else 0) | (G_ODD if m.odd.n else 0))
    buffer_add(b, &m.stamp, 8)
    buffer_add(b, &m.actor, 8)
    append_varint(b, m.start.ms)
    append_varint(b, m.start.seq)
    append_varint(b, zigzag(m.read))
    add_marks(b, &m.seen, 0)
    add_marks(b, &m.given, 1)
    if m.odd.n:
        add_marks(b, &m.odd, 1)


cdef void marks_free(Marks *m) noexcept nogil:
    buffer_free(&m.seen)
    buffer_free(&m.given)
    buffer_free(&m.odd)


cdef int owned_decode(Span v, Owned *x) noexcept nogil:
    cdef const char *p = v.p
    cdef const char *end = v.p + v.n
    if (not get_fixed(&p, end, &x.stamp) or not get_fixed(&p, end, &x.actor)
            or not get_signed(&p, end, &x.at) or not get_signed(&p, end, &x.deliveries)):
        return 0
    x.owner = span(p, end - p)
    return 1


cdef void owned_encode(const Owned *x, Buffer *b) noexcept nogil:
    b.n = 0
    buffer_add(b, &x.stamp, 8)
    buffer_add(b, &x.actor, 8)
    append_varint(b, zigzag(x.at))
    append_varint(b, zigzag(x.deliveries))
    buffer_add(b, x.owner.p, x.owner.n)


cdef int given_decode(Span v, int letter, Given *x) noexcept nogil:
    """Of effects that name a CREATE: G_DELIVER, G_CLAIM, G_CONSUMER."""
    cdef const char *p = v.p
    cdef const char *end = v.p + v.n
    cdef StreamId id
    cdef Mark mark
    cdef uint64_t i
    memset(x, 0, sizeof(Given))
    memset(&mark, 0, sizeof(Mark))
    if (not get_fixed(&p, end, &x.create_actor) or not get_varint(&p, end, &x.create_seq)
            or not get_bytes(&p, end, &x.consumer) or not get_signed(&p, end, &x.at)
            or not get_signed(&p, end, &x.deliveries)):
        return 0
    if letter == G_CONSUMER:
        return p == end
    if letter == G_CLAIM:
        x.p = p
        return ids_decode(&x.p, end, &x.n, &id)
    if (not get_fixed(&p, end, &x.round_stamp) or not get_fixed(&p, end, &x.round_actor)
            or not get_varint(&p, end, &x.flags) or not get_varint(&p, end, &x.n)
            or x.n > <uint64_t>(end - p)):
        return 0
    x.p = p
    for i in range(x.n):
        if not get_mark(&p, end, &mark, 1):
            return 0
    return p == end


cdef void given_encode(const Given *x, int letter, Buffer *b) noexcept nogil:
    """The entries or ids are appended behind it."""
    b.n = 0
    buffer_add(b, &x.create_actor, 8)
    append_varint(b, x.create_seq)
    add_bytes(b, x.consumer)
    append_varint(b, zigzag(x.at))
    append_varint(b, zigzag(x.deliveries))
    if letter == G_DELIVER:
        buffer_add(b, &x.round_stamp, 8)
        buffer_add(b, &x.round_actor, 8)
        append_varint(b, x.flags)
    if letter != G_CONSUMER:
        append_varint(b, x.n)


cdef int ids_decode(const char **p, const char *end, uint64_t *n, StreamId *id) noexcept nogil:
    """A list of ids to the end: *p stands on the first."""
    if not get_varint(p, end, n) or n[0] > <uint64_t>(end - p[0]) // STREAM_ID:
        return 0
    return end - p[0] == <int64_t>(n[0] * STREAM_ID)


cdef void add_id(Buffer *b, StreamId id) noexcept nogil:
    cdef char bytes[16]
    put_id(bytes, id)
    buffer_add(b, bytes, STREAM_ID)


# ---- names ---------------------------------------------------------------------------------------

cdef void name_begin(Buffer *b, int letter, Span group) noexcept nogil:
    """What the names of all consumers or all records of a group begin with."""
    cdef char c = <char>letter
    b.n = 0
    buffer_add(b, &c, 1)
    add_bytes(b, group)


cdef void name_create(Buffer *b, uint64_t actor, uint64_t seq) noexcept nogil:
    buffer_add(b, &actor, 8)
    buffer_add(b, &seq, 8)


cdef inline Span content(const Buffer *b) noexcept nogil:
    return span(b.p, b.n)


cdef inline int begins_with(const Element *m, Span head) noexcept nogil:
    return element_klen(m) >= head.n and memcmp(element_key(<Element*>m), head.p, head.n) == 0


cdef Element *first_from(Collection *c, Span name, size_t *rank, OrderCursor *at) noexcept nogil:
    """The first member whose name is not before `name`."""
    cdef Item *item
    rank[0] = order_rank(order_of(c), name_sort_key(name), name)
    item = order_at(order_of(c), rank[0], at)
    return item.e if item != NULL else NULL


cdef inline Element *next_in_order(OrderCursor *at) noexcept nogil:
    cdef Item *item = order_next(at)
    return item.e if item != NULL else NULL


cdef void range_behind(Collection *c, Buffer *head, size_t *begin, size_t *end) noexcept nogil:
    """By rank, the members whose names begin with `head`, which is used up: its first byte is not
    the greatest."""
    begin[0] = order_rank(order_of(c), name_sort_key(content(head)), content(head))
    while <uint8_t>head.p[head.n - 1] == 255:
        head.n -= 1
    head.p[head.n - 1] = <char>(<uint8_t>head.p[head.n - 1] + 1)
    end[0] = order_rank(order_of(c), name_sort_key(content(head)), content(head))


cdef size_t count_ids(Collection *c, size_t begin, size_t end) noexcept nogil:
    """Of the records of these ranks, which may be several of an id."""
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), begin, &at)
    cdef StreamId id
    cdef size_t n = 0, i
    for i in range(end - begin):
        n += 1 if n == 0 or id_below(id, name_id(item.e)) else 0
        id = name_id(item.e)
        item = order_next(&at)
    return n


cdef Element *find_group(Kernel *k, Collection *c, Span group) noexcept nogil:
    """Its CREATEs, or NULL."""
    cdef Buffer name
    cdef char letter = G_GROUP
    cdef Element *m
    memset(&name, 0, sizeof(Buffer))
    buffer_add(&name, &letter, 1)
    buffer_add(&name, group.p, group.n)
    m = table_find(&c.table, name.p, name.n, key_hash(k, name.p, name.n))
    buffer_free(&name)
    return m


cdef int groups_name_sound(Span name) noexcept nogil:
    """Of a member."""
    cdef const char *p = name.p + 1
    cdef const char *end = name.p + name.n
    cdef Span s
    if name.n == 0 or name.p[0] == G_GROUP:
        return name.n > 0
    if name.p[0] == G_PRODUCED:
        return (name.n <= PRODUCED_NAME_MOST and get_bytes(&p, end, &s) and s.n > 0
                and p < end)
    if (name.p[0] != G_CONSUMER and name.p[0] != G_RECORD) or not get_bytes(&p, end, &s):
        return 0
    if name.p[0] == G_RECORD:
        return end - p == STREAM_ID + CREATE_ID
    return get_bytes(&p, end, &s) and end - p == CREATE_ID


cdef Span name_of_group(Span name) noexcept nogil:
    """From the name of a member, which is sound."""
    cdef const char *p = name.p + 1
    cdef Span s
    if name.p[0] == G_GROUP:
        return span(p, name.n - 1)
    get_bytes(&p, name.p + name.n, &s)
    return s


cdef inline Span name_group(Element *m) noexcept nogil:
    return name_of_group(element_name(m))


cdef Span name_consumer(Element *m) noexcept nogil:
    cdef const char *p = element_key(m) + 1
    cdef const char *end = element_key(m) + element_klen(m)
    cdef Span s
    get_bytes(&p, end, &s)
    get_bytes(&p, end, &s)
    return s


cdef inline StreamId name_id(Element *m) noexcept nogil:
    """Of a record."""
    return id_of(element_key(m) + element_klen(m) - STREAM_ID - CREATE_ID)


# ---- writes --------------------------------------------------------------------------------------

cdef int nth_write(Element *m, size_t i, Said *out) noexcept nogil:
    """The i-th write of a member; 0 at the end."""
    cdef Write *w
    if m.meta & E_PLAIN:
        out.dot = m.dot
        out.stamp = element_stamp(m)
        out.actor = dot_slot(m.dot)
        out.value = element_content(m)
        return i == 0
    w = element_cell(m).writes if m.meta & E_CELL else NULL
    while w != NULL and i:
        w = w.next
        i -= 1
    if w == NULL:
        return 0
    out.dot = w.dot
    out.stamp = w.stamp
    out.actor = w.actor
    out.value = span(write_value(w), w.n)
    return 1


cdef int nth_of_entry(const Item *item, const OrderCursor *at, size_t i, Said *out) noexcept nogil:
    """The same of the entry of a stream at this place; of one in a block only the dot."""
    if not sealed_n(item.e):
        return nth_write(item.e, i, out)
    out.dot = sealed_dot(sealed_of(item.e), at.within)
    return i == 0


cdef int write_of(Element *m, uint64_t dot, Said *out) noexcept nogil:
    cdef size_t i = 0
    while nth_write(m, i, out):
        if out.dot == dot:
            return 1
        i += 1
    return 0


cdef Element *write_change(Kernel *k, Collection *c, Element *m, uint64_t dot,
                           Span value) noexcept nogil:
    """The write of this dot says another thing. Returns what m has become."""
    cdef Write **at
    cdef Write *w
    cdef Write *x
    unindex(k, c, m)
    if m.meta & E_PLAIN:
        m = element_assign(k, &c.table, m, m.meta & 0xff, value)
    else:
        at = &element_cell(m).writes
        while at[0].dot != dot:
            at = &at[0].next
        w = at[0]
        x = <Write*>mem_alloc(sizeof(Write) + value.n)
        memcpy(x, w, sizeof(Write))
        x.n = <uint32_t>value.n
        copy_span(write_value(x), value)
        at[0] = x
        mem_free(w)
    index_member(k, c, m)
    return m


cdef uint64_t create_dot(Kernel *k, uint64_t actor, uint64_t seq) noexcept nogil:
    """0: of nobody who is known here."""
    cdef uint16_t slot = actors_find(&k.actors, actor)
    return make_dot(slot, seq) if slot != NO_SLOT and seq and seq >> SEQ_BITS == 0 else 0


cdef int is_orphan(Kernel *k, Collection *c, Element *m) noexcept nogil:
    """A consumer or a record whose CREATE is not there."""
    cdef Element *g = find_group(k, c, name_group(m))
    cdef const char *p = element_key(m) + element_klen(m) - CREATE_ID
    cdef uint64_t actor, seq
    cdef Said w
    memcpy(&actor, p, 8)
    memcpy(&seq, p + 8, 8)
    return g == NULL or not write_of(g, create_dot(k, actor, seq), &w)


cdef uint64_t owner_key(Kernel *k, Span group, Span owner) noexcept nogil:
    """What the records of an owner have in common in by_owner: not 0, and by chance only that of
    another."""
    cdef Buffer b
    cdef uint64_t key
    memset(&b, 0, sizeof(Buffer))
    add_bytes(&b, group)
    buffer_add(&b, owner.p, owner.n)
    key = siphash64(b.p, b.n, k.hash_key) | 1
    buffer_free(&b)
    return key


cdef uint64_t nobody_key(Kernel *k, Span group) noexcept nogil:
    """The same of records that nobody owns."""
    return owner_key(k, group, span(b"", 0)) ^ <uint64_t>1 << 63


cdef uint64_t record_key(Kernel *k, Element *m) noexcept nogil:
    cdef Owned own
    if not m.meta & E_PLAIN or not owned_decode(element_content(m), &own):
        return 0
    if own.at == 0 and own.owner.n == 0:
        return nobody_key(k, name_group(m))
    return owner_key(k, name_group(m), own.owner)


cdef uint64_t time_key(Kernel *k, Span group, int64_t at) noexcept nogil:
    """Under what a record stands in by_time. Those of two groups stand side by side only by
    chance."""
    cdef uint64_t time = <uint64_t>min(max(at, <int64_t>0), (<int64_t>1 << TIME_BITS) - 1)
    return <uint64_t>key_hash(k, group.p, group.n) >> (TIME_BITS - 32) << TIME_BITS | time


cdef uint64_t record_time(Kernel *k, Element *m) noexcept nogil:
    """Of several writes the last time: whichever of them holds, it is not later."""
    cdef int64_t at = 0
    cdef size_t i = 0
    cdef Owned own
    cdef Said w
    while nth_write(m, i, &w):
        i += 1
        if owned_decode(w.value, &own):
            at = max(at, own.at)
    return time_key(k, name_group(m), at)


cdef inline int is_record(Element *m) noexcept nogil:
    return element_klen(m) and element_key(m)[0] == G_RECORD


cdef void time_records(Kernel *k, Collection *c) noexcept nogil:
    """From now on by_time holds them."""
    cdef Groups *g = groups_data(c)
    cdef char letter = G_RECORD
    cdef OrderCursor at
    cdef size_t rank
    cdef Element *m
    if g.timed:
        return
    g.timed = 1
    m = first_from(c, span(&letter, 1), &rank, &at)
    while m != NULL and is_record(m):
        order_insert(&g.by_time, record_time(k, m), m)
        m = next_in_order(&at)


cdef Places places_of(Kernel *k, Groups *g, Span group) noexcept nogil:
    """Of a group; nothing is known where there are none."""
    cdef Element *x = table_find(&g.places, group.p, group.n, key_hash(k, group.p, group.n))
    cdef Places places
    memset(&places, 0, sizeof(Places))
    if x != NULL:
        memcpy(&places, element_value(x), sizeof(Places))
    return places


cdef void keep_places(Kernel *k, Groups *g, Span group, const Places *places) noexcept nogil:
    cdef uint32_t hash = key_hash(k, group.p, group.n)
    cdef Element *x = table_find(&g.places, group.p, group.n, hash)
    if x == NULL:
        x = element_new(k, group, hash, E_MEMBER | E_PLAIN | E_BARE, sizeof(Places))
        table_add(&g.places, x, hash)
    memcpy(element_value(x), places, sizeof(Places))


cdef void time_record(Kernel *k, Groups *g, Element *m) noexcept nogil:
    cdef uint64_t key = record_time(k, m)
    cdef Places places
    order_insert(&g.by_time, key, m)
    if table_count(&g.places):
        places = places_of(k, g, name_group(m))
        if key < places.idle:
            places.idle = key
            keep_places(k, g, name_group(m), &places)


cdef inline int is_produced(Element *m) noexcept nogil:
    return element_klen(m) and element_key(m)[0] == G_PRODUCED


cdef int64_t born_at(Element *m) noexcept nogil:
    """ms since 1970, of the last write."""
    cdef int64_t at = 0
    cdef size_t i = 0
    cdef Said w
    while nth_write(m, i, &w):
        i += 1
        at = max(at, <int64_t>(w.stamp >> 16))
    return at


cdef Span producer_head(Element *m) noexcept nogil:
    """What the names of all ids of the same producer begin with."""
    cdef const char *p = element_key(m) + 1
    cdef Span s
    get_bytes(&p, element_key(m) + element_klen(m), &s)
    return span(element_key(m), p - element_key(m))


cdef uint64_t produced_key(Kernel *k, Element *m) noexcept nogil:
    return time_key(k, producer_head(m), born_at(m))


cdef void order_records(Kernel *k, Collection *c, Element *m, int there) noexcept nogil:
    """By owner and by time; ids of producers by their age."""
    cdef Groups *g = groups_data(c)
    if is_produced(m) and there:
        order_insert(&g.produced, produced_key(k, m), m)
    elif is_produced(m):
        order_remove(&g.produced, produced_key(k, m), m)
    if not is_record(m):
        return
    if there:
        order_insert(&g.by_owner, record_key(k, m), m)
    else:
        order_remove(&g.by_owner, record_key(k, m), m)
    if g.timed and there:
        time_record(k, g, m)
    elif g.timed:
        order_remove(&g.by_time, record_time(k, m), m)


cdef void drop_member(Kernel *k, Collection *c, Element *m) noexcept nogil:
    unindex(k, c, m)
    c.live -= value_live(m)
    table_remove(&c.table, m)
    element_free(m)


cdef void drop_orphans_behind(Kernel *k, Collection *c, Span head) noexcept nogil:
    """Among the members whose names begin so."""
    cdef size_t rank
    cdef OrderCursor at
    cdef Element *m = first_from(c, head, &rank, &at)
    cdef Item *item
    while m != NULL and begins_with(m, head):
        if is_orphan(k, c, m):
            drop_member(k, c, m)
        else:
            rank += 1
        item = order_at(order_of(c), rank, &at)
        m = item.e if item != NULL else NULL


cdef void drop_orphans(Kernel *k, Collection *c, Span group) noexcept nogil:
    cdef Buffer head
    memset(&head, 0, sizeof(Buffer))
    name_begin(&head, G_CONSUMER, group)
    drop_orphans_behind(k, c, content(&head))
    name_begin(&head, G_RECORD, group)
    drop_orphans_behind(k, c, content(&head))
    buffer_free(&head)


# ---- marks ---------------------------------------------------------------------------------------

cdef inline int order_of_two(uint64_t x, uint64_t y) noexcept nogil:
    return (x > y) - (x < y)


cdef int mark_order(const Mark *x, const Mark *y) noexcept nogil:
    if x.actor != y.actor:
        return order_of_two(x.actor, y.actor)
    if x.seq != y.seq:
        return order_of_two(x.seq, y.seq)
    if x.id.ms != y.id.ms:
        return order_of_two(x.id.ms, y.id.ms)
    return order_of_two(x.id.seq, y.id.seq)


cdef size_t mark_rank(const Buffer *b, const Mark *x) noexcept nogil:
    """Of those in b how many are before x."""
    cdef size_t low = 0, high = mark_count(b), middle
    while low < high:
        middle = (low + high) // 2
        if mark_order(mark_at(b, middle), x) < 0:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline int mark_is(const Buffer *b, size_t i, const Mark *x) noexcept nogil:
    return i < mark_count(b) and mark_order(mark_at(b, i), x) == 0


cdef void mark_put(Buffer *b, const Mark *x) noexcept nogil:
    cdef size_t i = mark_rank(b, x), n = b.n
    if mark_is(b, i, x):
        return
    buffer_need(b, sizeof(Mark))
    b.n = n + sizeof(Mark)
    memmove(mark_at(b, i + 1), mark_at(b, i), n - i * sizeof(Mark))
    mark_at(b, i)[0] = x[0]


cdef void mark_take(Buffer *b, size_t i) noexcept nogil:
    memmove(mark_at(b, i), mark_at(b, i + 1), b.n - (i + 1) * sizeof(Mark))
    b.n -= sizeof(Mark)


cdef Mark *of_actor(const Buffer *b, uint64_t actor) noexcept nogil:
    """`seen` and `given` hold one of each."""
    cdef Mark x
    cdef size_t i
    memset(&x, 0, sizeof(Mark))
    x.actor = actor
    i = mark_rank(b, &x)
    return mark_at(b, i) if i < mark_count(b) and mark_at(b, i).actor == actor else NULL


cdef int is_behind(const Marks *m, const Mark *x) noexcept nogil:
    """Did the round begin behind entry x?"""
    cdef const Mark *seen
    if id_below(m.start, x.id):
        return 0
    seen = of_actor(&m.seen, x.actor)
    return seen != NULL and x.seq <= seen.seq


cdef int is_given_out(const Marks *m, const Mark *x) noexcept nogil:
    """Entry x, which is there."""
    cdef const Mark *last
    cdef int odd = m.odd.n and mark_is(&m.odd, mark_rank(&m.odd, x), x)
    if is_behind(m, x):
        return odd
    last = of_actor(&m.given, x.actor)
    return last != NULL and mark_order(x, last) <= 0 and not odd


cdef Mark entry_mark(Kernel *k, Element *m) noexcept nogil:
    """Of the write that shows."""
    cdef Mark x
    cdef uint64_t dot = m.dot if m.meta & E_PLAIN else cell_winner(&k.actors,
                                                                   element_cell(m)).dot
    x.actor = k.actors.v[dot_slot(dot)].id
    x.seq = dot_seq(dot)
    x.id = id_of(element_key(m))
    return x


cdef Mark place_mark(Kernel *k, const Item *item, const OrderCursor *at) noexcept nogil:
    """The same of the entry at this place."""
    cdef Mark x
    cdef uint64_t dot
    if not sealed_n(item.e):
        return entry_mark(k, item.e)
    dot = sealed_dot(sealed_of(item.e), at.within)
    x.actor = k.actors.v[dot_slot(dot)].id
    x.seq = dot_seq(dot)
    x.id = entry_id(item, at)
    return x


cdef Written *written_by(Kernel *k, Collection *stream, uint64_t actor) noexcept nogil:
    """NULL: nothing of it has come here since this process began."""
    cdef const Buffer *b = writers_of(stream)
    cdef Written *v = <Written*>b.p
    cdef size_t i
    for i in range(b.n // sizeof(Written)):
        if k.actors.v[v[i].slot].id == actor:
            return v + i
    return NULL


cdef int note_writes(Kernel *k, const Item *item, const OrderCursor *at, Marks *m,
                     const Mark *last, const Mark *x) noexcept nogil:
    """Of the entry at this place what is of x's actor: a hole where it is behind `last` and before
    x. Returns 0: none is; 1; or 2 where one is not behind `last`."""
    cdef Said w
    cdef Mark y
    cdef size_t i = 0
    cdef int found = 0
    y.id = entry_id(item, at)
    while nth_of_entry(item, at, i, &w):
        i += 1
        y.actor = k.actors.v[dot_slot(w.dot)].id
        y.seq = dot_seq(w.dot)
        if y.actor != x.actor:
            continue
        if last != NULL and mark_order(&y, last) <= 0:
            return 2
        found = 1
        if mark_order(&y, x) < 0 and not is_behind(m, &y):
            mark_put(&m.odd, &y)
    return found


cdef void note_holes(Kernel *k, Collection *stream, Marks *m, const Mark *last,
                     const Mark *x) noexcept nogil:
    """What is there of the actor behind `last` (NULL: its first) and before x: backwards from x.
    Between its entries there may be many of others, which are walked over once."""
    cdef Written *written = written_by(k, stream, x.actor)
    cdef StreamId id, begin, end = x.id
    cdef OrderCursor at
    cdef Item *item
    cdef size_t others = 0
    cdef int found = 0
    memset(&begin, 0, sizeof(StreamId))
    item = last_up_to(stream, x.id, &at) if written != NULL else NULL
    while item != NULL and found != 2:
        id = entry_id(item, &at)
        if id_below(id, written.id):
            break
        if id_below(written.gap_begin, id) and id_below(id, written.gap_end):
            item = last_up_to(stream, written.gap_begin, &at)
            continue
        found = note_writes(k, item, &at, m, last, x)
        others += found == 0
        if found == 1:
            end = id
            others = 0
        elif found == 2:
            begin = id
        item = entry_prev(&at)
    if others > GAP_LEAST and (rank_of(stream, end) - rank_of(stream, begin) > rank_of(
            stream, written.gap_end) - rank_of(stream, written.gap_begin)):
        written.gap_begin = begin
        written.gap_end = end


cdef void mark_given(Kernel *k, Collection *stream, Marks *m, const Mark *x) noexcept nogil:
    cdef Mark *last
    cdef size_t i
    cdef Element *e
    cdef Said w
    if is_behind(m, x):
        e = entry_of(k, stream, x.id)
        if e != NULL and write_of(e, create_dot(k, x.actor, x.seq), &w):
            mark_put(&m.odd, x)
        return
    last = of_actor(&m.given, x.actor)
    if last != NULL and mark_order(x, last) <= 0:
        i = mark_rank(&m.odd, x)
        if mark_is(&m.odd, i, x):
            mark_take(&m.odd, i)
        return
    note_holes(k, stream, m, last, x)
    if last != NULL:
        last[0] = x[0]
    else:
        mark_put(&m.given, x)


cdef int round_order(Actors *a, uint64_t stamp1, uint64_t actor1, uint64_t stamp2,
                     uint64_t actor2) noexcept nogil:
    """Of two words, by when and by whom they were said: above 0 where the first is the later."""
    cdef uint16_t x, y
    if stamp1 != stamp2:
        return order_of_two(stamp1, stamp2)
    if actor1 == actor2:
        return 0
    x = actors_find(a, actor1)
    y = actors_find(a, actor2)
    if x == NO_SLOT or y == NO_SLOT:
        return order_of_two(actor1, actor2)
    return 1 if later(a, stamp1, x, stamp2, y) else -1


cdef void join_odd(const Marks *of, const Marks *other, Marks *out) noexcept nogil:
    """A hole of one where the other has not given out either, and what either gave out of what it
    began behind."""
    cdef const Mark *last
    cdef Mark *x
    cdef size_t i
    for i in range(mark_count(&of.odd)):
        x = mark_at(&of.odd, i)
        last = of_actor(&other.given, x.actor)
        if (is_behind(of, x) or last == NULL or mark_order(x, last) > 0
                or mark_is(&other.odd, mark_rank(&other.odd, x), x)):
            mark_put(&out.odd, x)


cdef void marks_join(Kernel *k, Span mine, Span theirs, Buffer *out) noexcept nogil:
    """What two replicas know of the marks of one CREATE."""
    cdef Marks a, b, both
    cdef Mark *x
    cdef Mark *y
    cdef size_t i
    cdef int which
    memset(&a, 0, sizeof(Marks))
    memset(&b, 0, sizeof(Marks))
    memset(&both, 0, sizeof(Marks))
    out.n = 0
    if not marks_decode(mine, &a):
        which = -1
    elif not marks_decode(theirs, &b):
        which = 1
    else:
        which = round_order(&k.actors, a.stamp, a.actor, b.stamp, b.actor)
    if which:
        buffer_add(out, mine.p if which > 0 else theirs.p, mine.n if which > 0 else theirs.n)
    else:
        join_odd(&a, &b, &both)
        join_odd(&b, &a, &both)
        for i in range(mark_count(&b.given)):
            y = mark_at(&b.given, i)
            x = of_actor(&a.given, y.actor)
            if x == NULL:
                mark_put(&a.given, y)
            elif mark_order(x, y) < 0:
                x[0] = y[0]
        a.odd, both.odd = both.odd, a.odd
        a.read = min(a.read, b.read)       # as it was said, unless either has counted
        marks_encode(&a, out)
    marks_free(&a)
    marks_free(&b)
    marks_free(&both)


# ---- a group and its marks -----------------------------------------------------------------------

cdef void load_marks(Kernel *k, Collection *c, Element *group) noexcept nogil:
    """Into groups_data(c).marks; that of the latest CREATE comes first."""
    cdef Groups *g = groups_data(c)
    cdef Marks *v
    cdef Marks other
    cdef Said w, best
    cdef size_t i = 0
    g.loaded = 0
    while nth_write(group, i, &w):
        if g.marks.n == i * sizeof(Marks):
            memset(buffer_need(&g.marks, sizeof(Marks)), 0, sizeof(Marks))
            g.marks.n += sizeof(Marks)
        v = <Marks*>g.marks.p
        i += 1
        if not marks_decode(w.value, &v[g.loaded]):
            continue
        v[g.loaded].dot = w.dot
        if g.loaded == 0:
            best = w
        elif later(&k.actors, w.stamp, w.actor, best.stamp, best.actor):
            best = w
            other = v[0]
            v[0] = v[g.loaded]
            v[g.loaded] = other
        g.loaded += 1


cdef inline Marks *marks_of(const Collection *c) noexcept nogil:
    return <Marks*>groups_data(c).marks.p


cdef int is_delivered(const Groups *g, const Mark *x) noexcept nogil:
    """Given out by any CREATE of the name, or begun behind by all."""
    cdef const Marks *v = <const Marks*>g.marks.p
    cdef size_t i
    for i in range(g.loaded):
        if is_given_out(&v[i], x):
            return 1
    for i in range(g.loaded):
        if not is_behind(&v[i], x):
            return 0
    return 1


cdef void forget_places(Collection *c) noexcept nogil:
    """Something may be new before them."""
    cdef Groups *g = groups_data(c)
    table_clear(&g.places, free_visited, NULL)
    table_init(&g.places)


cdef void forget_place(Kernel *k, Collection *c, Span group) noexcept nogil:
    """That of one group."""
    cdef Groups *g = groups_data(c)
    cdef Element *x = table_find(&g.places, group.p, group.n, key_hash(k, group.p, group.n))
    if x != NULL:
        table_remove(&g.places, x)
        element_free(x)


# ---- applying ------------------------------------------------------------------------------------

cdef int cut_marks(const Applying *op, Marks *m, StreamId from_, StreamId to) noexcept nogil:
    """What op observed of entries with these ids is gone. 1 where that changed anything."""
    cdef size_t i, n = mark_count(&m.odd), left = 0
    cdef uint16_t slot
    cdef Mark *x
    for i in range(n):
        x = mark_at(&m.odd, i)
        slot = actors_find(op.actors, x.actor)
        if (not id_below(x.id, from_) and not id_below(to, x.id)
                and (op.local or (slot != NO_SLOT and observed(op, make_dot(slot, x.seq))))):
            continue
        mark_at(&m.odd, left)[0] = x[0]
        left += 1
    m.odd.n = left * sizeof(Mark)
    return left != n


cdef void groups_cut(Kernel *k, const Applying *op, Collection *c, StreamId from_,
                     StreamId to) noexcept nogil:
    """Before entries with these ids go, as far as op observed them. c: NULL: there are no groups.
    """
    cdef char letter = G_GROUP
    cdef OrderCursor at
    cdef Buffer value
    cdef Element *g
    cdef Marks m
    cdef Said w
    cdef size_t rank, i
    if c == NULL:
        return
    memset(&value, 0, sizeof(Buffer))
    memset(&m, 0, sizeof(Marks))
    g = first_from(c, span(&letter, 1), &rank, &at)
    while g != NULL and element_key(g)[0] == G_GROUP:
        i = 0
        while nth_write(g, i, &w):
            i += 1
            if (w.value.n and w.value.p[0] & G_ODD and marks_decode(w.value, &m)
                    and cut_marks(op, &m, from_, to)):
                marks_encode(&m, &value)
                g = write_change(k, c, g, w.dot, content(&value))
        rank += 1
        g = order_at(order_of(c), rank, &at).e if rank < order_of(c).n else NULL
    buffer_free(&value)
    marks_free(&m)


cdef void groups_removed(Kernel *k, const Applying *op, Collection *c) noexcept nogil:
    """After what op observed of all members has gone, and of the entries."""
    cdef StreamId first, last
    memset(&first, 0, sizeof(StreamId))
    memset(&last, 0xff, sizeof(StreamId))
    forget_places(c)
    drop_all_orphans(k, c)
    groups_cut(k, op, c, first, last)


cdef void drop_all_orphans(Kernel *k, Collection *c) noexcept nogil:
    cdef char letter = G_CONSUMER
    drop_orphans_behind(k, c, span(&letter, 1))
    letter = G_RECORD
    drop_orphans_behind(k, c, span(&letter, 1))


# ---- joining -------------------------------------------------------------------------------------

cdef Element *groups_meet(Kernel *k, Collection *c, Element *m, Cell *theirs,
                          int rules) noexcept nogil:
    """Before the writes of a member are joined: those that both hold come to say the same. rules:
    theirs is right. Returns what m has become."""
    cdef Write **at = &theirs.writes
    cdef Write *y
    cdef Write *x
    cdef Buffer value
    cdef Owned mine, other
    cdef Said w
    forget_places(c)
    memset(&value, 0, sizeof(Buffer))
    while m != NULL and at[0] != NULL:
        y = at[0]
        if write_of(m, y.dot, &w):
            value.n = 0
            if element_key(m)[0] == G_GROUP and not rules:
                marks_join(k, w.value, span(write_value(y), y.n), &value)
            elif (element_key(m)[0] == G_RECORD and not rules and owned_decode(w.value, &mine)
                    and owned_decode(span(write_value(y), y.n), &other)
                    and round_order(&k.actors, mine.stamp, mine.actor, other.stamp,
                                    other.actor) >= 0):
                buffer_add(&value, w.value.p, w.value.n)
            else:
                buffer_add(&value, write_value(y), y.n)
            x = <Write*>mem_alloc(sizeof(Write) + value.n)
            memcpy(x, y, sizeof(Write))
            x.n = <uint32_t>value.n
            copy_span(write_value(x), content(&value))
            at[0] = x
            mem_free(y)
            if not (w.value.n == value.n and memcmp(w.value.p, value.p, value.n) == 0):
                m = write_change(k, c, m, w.dot, content(&value))
        at = &at[0].next
    buffer_free(&value)
    return m


# ---- the type ------------------------------------------------------------------------------------

cdef int groups_sound(const Effect *x) noexcept nogil:
    cdef const char *p = x.value.p
    cdef const char *end = x.value.p + x.value.n
    cdef int letter = x.name.p[0] if x.name.n else 0, sound
    cdef uint64_t n
    cdef StreamId id
    cdef Span s
    cdef Marks m
    cdef Given g
    if x.kind == INCREMENT or x.observed.n or (x.kind == REMOVE and letter != G_GROUP):
        return 0
    if letter == G_PRODUCED:
        return groups_name_sound(x.name) and x.value.n == STREAM_ID
    if letter == G_FORGET:
        while p < end:
            if not get_bytes(&p, end, &s) or s.n == 0 or s.p[0] != G_PRODUCED or (
                    not groups_name_sound(s)):
                return 0
        return 1
    if letter == G_GROUP or letter == G_SETID:
        if x.kind == REMOVE:
            return x.value.n == 0
        memset(&m, 0, sizeof(Marks))
        sound = marks_decode(x.value, &m) and (letter == G_GROUP
                                               or (m.given.n == 0 and m.odd.n == 0))
        marks_free(&m)
        return sound
    if letter == G_DELIVER or letter == G_CLAIM or letter == G_CONSUMER:
        return given_decode(x.value, letter, &g)
    if letter == G_DISMISS and not get_bytes(&p, end, &s):
        return 0
    return (letter == G_ACK or letter == G_DISMISS) and ids_decode(&p, end, &n, &id)


cdef int groups_value_sound(Span name, Span value) noexcept nogil:
    """Of a member whose name is sound."""
    cdef const char *p = value.p
    cdef const char *end = value.p + value.n
    cdef int64_t seen, active
    cdef Owned own
    cdef Marks m
    cdef int sound
    if name.p[0] == G_PRODUCED:
        return value.n == STREAM_ID
    if name.p[0] == G_RECORD:
        return owned_decode(value, &own)
    if name.p[0] == G_CONSUMER:
        return get_signed(&p, end, &seen) and get_signed(&p, end, &active) and p == end
    memset(&m, 0, sizeof(Marks))
    sound = marks_decode(value, &m)
    marks_free(&m)
    return sound


cdef int groups_free_some(Collection *c, int *most) noexcept nogil:
    cdef Groups *g = groups_data(c)
    cdef size_t i
    if (order_free_some(order_of(c), most) or order_free_some(&g.by_owner, most)
            or order_free_some(&g.by_time, most) or order_free_some(&g.produced, most)):
        return 1
    table_clear(&g.places, free_visited, NULL)
    table_clear(&g.calls, free_visited, NULL)
    for i in range(g.marks.n // sizeof(Marks)):
        marks_free(&marks_of(c)[i])
    buffer_free(&g.marks)
    return 0


cdef void groups_forget(Collection *c) noexcept nogil:
    memset(groups_data(c), 0, sizeof(Groups))
    table_init(&groups_data(c).places)
    table_init(&groups_data(c).calls)


cdef size_t groups_memory(Collection *c) noexcept nogil:
    cdef Groups *g = groups_data(c)
    return (zset_memory(c) + order_memory(&g.by_owner) + order_memory(&g.by_time)
            + order_memory(&g.produced))


cdef int groups_check(Kernel *k, Collection *c) noexcept nogil:
    """0 sound, else the number of the broken invariant."""
    cdef OrderCursor at, other
    cdef Item *item = order_at(order_of(c), 0, &at)
    cdef Item *owned
    cdef Span name
    cdef Said w
    cdef size_t i, rank, records = 0, ids = 0
    if order_of(c).n != c.live or table_count(&c.table) != c.live:
        return 1
    if order_check(&groups_data(c).by_owner) or order_check(&groups_data(c).produced):
        return 5
    while item != NULL:
        name = element_name(item.e)
        if item.sort_key != name_sort_key(name) or not groups_name_sound(name):
            return 2
        if table_find(&c.table, name.p, name.n, item.e.hash) != item.e:
            return 3
        i = 0
        while nth_write(item.e, i, &w):
            i += 1
            if not groups_value_sound(name, w.value):
                return 4
        if is_produced(item.e):
            ids += 1
            rank = order_rank(&groups_data(c).produced, produced_key(k, item.e), name)
            owned = order_at(&groups_data(c).produced, rank, &other)
            if owned == NULL or owned.e != item.e:
                return 7
        if is_record(item.e):
            records += 1
            rank = order_rank(&groups_data(c).by_owner, record_key(k, item.e), name)
            owned = order_at(&groups_data(c).by_owner, rank, &other)
            if owned == NULL or owned.e != item.e:
                return 5
            rank = order_rank(&groups_data(c).by_time, record_time(k, item.e), name)
            owned = order_at(&groups_data(c).by_time, rank, &other)
            if groups_data(c).timed and (owned == NULL or owned.e != item.e):
                return 6
        item = order_next(&at)
    if order_check(&groups_data(c).by_time) or (groups_data(c).by_time.n
                                                != (records if groups_data(c).timed else 0)):
        return 6
    if ids != groups_data(c).produced.n:
        return 7
    return 0 if records == groups_data(c).by_owner.n else 5


cdef void fill_groups() noexcept:
    cdef CollectionType *t = &types[<int>T_GROUPS]
    t.rank = -1
    t.extra = sizeof(Order) + sizeof(Groups)           # order_of, groups_data
    t.free_some = groups_free_some
    t.memory = groups_memory
    t.ordered = order_records
    t.forget = groups_forget
    t.sound = groups_sound
    t.check = groups_check


fill_groups()

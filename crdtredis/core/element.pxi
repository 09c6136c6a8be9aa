# Elements: a key or a member in memory, and the encodings that its cell has in it.
#
# An element is one allocation as long as it is what nearly all are: one write (E_PLAIN). Only what
# needs more has more: a Cell (E_CELL) for concurrent writes and for counters; of a key, a word
# (E_ENTRY) for what is no string, and for a deadline. `reencode` (core/keyspace.pxi) brings an
# element back to the smallest encoding that holds its state.
#
#     HSET h f v              ->  pointer: Collection | 1
#     then EXPIRE h 10        ->  pointer: Entry, and in it the Collection
#     SET k v EX 10           ->  2 | database << 2 | late << 8 | (place in the heap + 1) << 32
#
# The last is a joint deadline: its only write is that of the op that wrote the plain value, with
# its dot and stamp. When it is stands in the heap alone: `late` ms before the time there.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, copy_span, span
from crdtredis.numbers cimport format_int64, format_long_double, parse_int64
from crdtredis.xxh3 cimport xxh3

cdef enum:
    FREQUENCY_FIRST = 5     # as in Redis
    JOINT = 2               # the last two bits of the word of a joint deadline
    LATE_MOST = 0xffffff    # ms
    HEAD_TOP = 116          # "t", the name of a register: see core/streams.pxi


cdef inline uint64_t *under_at(Element *e) noexcept nogil:
    """Of E_ENTRY: the word."""
    return <uint64_t*>(element_key(e) - sizeof(uint64_t))


cdef inline int is_joint(Element *e) noexcept nogil:
    return e.meta & E_ENTRY and under_at(e)[0] & 3 == JOINT


cdef inline Entry *element_entry(Element *e) noexcept nogil:
    return <Entry*>under_at(e)[0] if e.meta & E_ENTRY and not under_at(e)[0] & 3 else NULL


cdef inline Collection *element_held(Element *e) noexcept nogil:
    """What a key holds beside a string, as it is held: see core/packed.pxi."""
    if not e.meta & E_ENTRY:
        return NULL
    if under_at(e)[0] & 1:
        return <Collection*>(under_at(e)[0] - 1)
    return (<Entry*>under_at(e)[0]).collections if not under_at(e)[0] & JOINT else NULL


cdef inline void element_put_collections(Element *e, Collection *c) noexcept nogil:
    """Of E_ENTRY; nothing beside a joint deadline, where c is NULL."""
    if under_at(e)[0] & 1:
        under_at(e)[0] = <uint64_t>c | 1
    elif not under_at(e)[0] & JOINT:
        (<Entry*>under_at(e)[0]).collections = c


cdef inline int is_packed(Element *e) noexcept nogil:
    return (<size_t>element_held(e) & 2) != 0


cdef inline Collection *element_unpacked(Element *e) noexcept nogil:
    """What a key holds beside a string where that is not packed, or NULL."""
    return NULL if is_packed(e) else element_held(e)


cdef inline HeapItem *joint_item(Kernel *k, Element *e) noexcept nogil:
    """Where the heap has key e, whose deadline is joint."""
    return &k.deadlines.heap[(under_at(e)[0] >> 32) - 1]


cdef inline int64_t joint_deadline(Kernel *k, Element *e) noexcept nogil:
    return joint_item(k, e).at - <int64_t>(under_at(e)[0] >> 8 & LATE_MOST)


cdef inline uint32_t joint_db(Element *e) noexcept nogil:
    return <uint32_t>(under_at(e)[0] >> 2 & 63)


cdef inline Cell *element_cell(Element *e) noexcept nogil:
    return <Cell*>&e.dot


cdef inline uint64_t low_bits(uint64_t x, int bits) noexcept nogil:
    return x & ((<uint64_t>1 << bits) - 1)


cdef inline Lone lone_of(const Element *e) noexcept nogil:
    """The counter entry of a lone one."""
    cdef const uint64_t *word = &e.dot
    cdef Lone x
    if e.meta & E_WIDE:
        return (<const Lone*>word)[0]
    x.dot = word[0] >> 48 << 48 | low_bits(word[0], 40)
    x.run = word[1] >> 24 << 16 | (word[0] >> 40 & 0xff)
    x.total = <int64_t>(word[1] << 40) >> 40
    return x


cdef inline uint32_t lone_flags(Lone x) noexcept nogil:
    """E_LONE, and E_WIDE where two words do not hold it."""
    if (dot_seq(x.dot) >> 40 or x.run >> 56 or x.run & 0xff00
            or x.total != <int64_t>(<uint64_t>x.total << 40) >> 40):
        return E_LONE | E_WIDE
    return E_LONE


cdef inline void lone_put(Element *e, Lone x) noexcept nogil:
    """Into an element that has room for it."""
    cdef uint64_t *word = &e.dot
    if e.meta & E_WIDE:
        (<Lone*>word)[0] = x
        return
    word[0] = x.dot | (x.run & 0xff) << 40
    word[1] = x.run >> 16 << 24 | low_bits(<uint64_t>x.total, 24)


cdef inline uint32_t access_second(Kernel *k) noexcept nogil:
    return <uint32_t>(k.now // 1000) & 0xffffff


cdef inline uint32_t access_minute(Kernel *k) noexcept nogil:
    return <uint32_t>(k.now // 60_000) & 0xffff


cdef inline uint32_t first_access(Kernel *k) noexcept nogil:
    """Of a new key. Under an LFU policy it must not be the next to go."""
    return access_minute(k) << 8 | FREQUENCY_FIRST if k.eviction.policy & EVICT_LFU else (
        access_second(k))


cdef uint32_t key_hash(Kernel *k, const char *p, size_t n) noexcept nogil:
    return siphash(p, n, k.hash_key)


cdef inline uint32_t element_hash(Kernel *k, Element *e) noexcept nogil:
    return e.hash if e.meta & E_MEMBER else key_hash(k, element_key(e), element_klen(e))


cdef int value_live(Element *e) noexcept nogil:
    """Does the element's own cell (a string's, a member's) hold anything?"""
    return e.meta & (E_PLAIN | E_LONE) != 0 or (e.meta & E_CELL and cell_live(element_cell(e)))


cdef size_t live_members(Collection *c) noexcept nogil:
    """Of c, those that make its key exist: of a stream's head that is the register of its top."""
    cdef size_t pos = 0
    cdef Element *m
    if c.type == T_GROUPS:
        return 0                           # whoever makes one says something about the top
    if c.type != T_STREAM_HEAD:
        return c.live
    while c.live:
        m = table_next(&c.table, &pos)
        if m == NULL:
            return 0
        if element_key(m)[0] == HEAD_TOP and value_live(m):
            return 1
    return 0


cdef int element_live(Element *e) noexcept nogil:
    """Does the key or member hold anything, of whatever type?"""
    cdef Collection *c
    if value_live(e) or is_packed(e):
        return 1
    c = element_held(e)
    while c != NULL:
        if live_members(c):
            return 1
        c = c.next
    return 0


cdef inline int are_short(uint32_t flags, size_t klen, size_t vlen) noexcept nogil:
    """Need these lengths no room of their own?"""
    return (klen <= SHORT_KLEN and vlen <= SHORT_VLEN if flags & E_MEMBER
            else klen <= KEY_SHORT_KLEN and vlen <= KEY_SHORT_VLEN)


cdef inline void *element_allocation(Element *e) noexcept nogil:
    return <char*>e + element_begin(e)


cdef inline size_t element_size(uint32_t flags, size_t klen, size_t vlen) noexcept nogil:
    """Bytes of an allocation."""
    return element_before_key(flags) - (8 if are_short(flags, klen, vlen) else 0) + klen + vlen


cdef inline Element *element_in(void *p, Span key, uint32_t hash, uint32_t flags,
                                size_t vlen) noexcept nogil:
    """As element_new, in room of element_size."""
    cdef size_t before = element_before_key(flags)
    cdef size_t begin = 8 if are_short(flags, key.n, vlen) else 0
    cdef Element *e = <Element*>(<char*>p - begin)
    memset(p, 0, before - begin)
    e.hash = hash
    e.meta = flags
    element_put_lengths(e, key.n, vlen)
    copy_span(<char*>e + before, key)
    return e


cdef Element *element_new(Kernel *k, Span key, uint32_t hash, uint32_t flags,
                          size_t vlen) noexcept nogil:
    """A detached element; pointer, cell and value are for the caller to fill (the first two are
    zero). hash: of a member."""
    cdef size_t size = element_size(flags, key.n, vlen)
    cdef void *p = mem_alloc(size) if flags & E_MEMBER else mem_alloc_kept(size)
    cdef Element *e = element_in(p, key, hash, flags, vlen)
    if not flags & E_MEMBER:
        e.meta |= first_access(k) << 8
    return e


cdef Element *key_new(Kernel *k, Table *t, Span name) noexcept nogil:
    """A key with nothing under it yet."""
    cdef Element *e = element_new(k, name, 0, 0, 0)
    table_add(t, e, key_hash(k, name.p, name.n))
    return e


cdef inline void element_moved(Kernel *k, Element *e) noexcept nogil:
    """Tells what refers to key e where it is now."""
    if is_joint(e):
        joint_item(k, e).of = <uint64_t>e | 1
    elif element_entry(e) != NULL:
        element_entry(e).owner = e


cdef Element *element_convert(Kernel *k, Table *t, Element *e, uint32_t flags,
                              Span value) noexcept nogil:
    """e in another encoding, at the same place of t. Its word and cell go along where both
    encodings have them; `value` (which may lie in e) is copied for E_PLAIN."""
    cdef Element *x = element_new(k, element_name(e), e.hash, flags | (e.meta & E_MEMBER), value.n)
    if not x.meta & E_MEMBER:
        x.meta = flags | (e.meta & ~<uint32_t>0xff)
    if flags & e.meta & E_PLAIN:
        x.dot = e.dot
        element_put_stamp(x, element_stamp(e))
    copy_span(element_value(x), value)
    if flags & e.meta & E_ENTRY:
        under_at(x)[0] = under_at(e)[0]
        element_moved(k, x)
    if flags & e.meta & E_CELL:
        element_cell(x)[0] = element_cell(e)[0]
    if is_lone(x) and is_lone(e):
        lone_put(x, lone_of(e))
    table_swap(t, e, x)
    mem_free(element_allocation(e))
    return x


cdef Element *element_assign(Kernel *k, Table *t, Element *e, uint32_t flags,
                             Span value) noexcept nogil:
    """A plain value over a plain one: in place where the allocation fits without waste."""
    cdef size_t klen = element_klen(e), begin = element_begin(e)
    cdef size_t size = element_before_key(e.meta) - begin + klen + value.n
    cdef size_t room = mem_room(element_allocation(e))
    if (flags & (E_ENTRY | E_BARE) == e.meta & (E_ENTRY | E_BARE) and size <= room
            and room - size <= 24 + size // 8 and (begin != 0) == are_short(e.meta, klen, value.n)):
        if value.n:
            memmove(element_value(e), value.p, value.n)
        e.meta = flags | (e.meta & (~<uint32_t>0xff | E_MEMBER))
        element_put_lengths(e, klen, value.n)
        return e
    return element_convert(k, t, e, flags, value)


# ---- joint deadlines -----------------------------------------------------------------------------

cdef Cell *deadline_cell(Kernel *k, Element *e, DeadlineRoom *room) noexcept nogil:
    """The register of key e, to read it; in `room` where it is joint. NULL where there is none."""
    cdef Entry *x = element_entry(e)
    if not is_joint(e):
        return &x.deadline if x != NULL and not cell_empty(&x.deadline) else NULL
    room.cell.writes = &room.write
    room.cell.counts = NULL
    room.write.next = NULL
    room.write.dot = e.dot
    room.write.stamp = e.stamp
    room.write.actor = dot_slot(e.dot)
    room.write.flags = W_NUMBER
    room.write.n = sizeof(int64_t)
    room.at = joint_deadline(k, e)
    return &room.cell


cdef inline Entry *entry_new(Element *e, uint32_t db) noexcept nogil:
    cdef Entry *x = <Entry*>memset(mem_alloc_kept(sizeof(Entry)), 0, sizeof(Entry))
    x.owner = e
    x.db = <uint16_t>db
    return x


cdef void part_deadline(Kernel *k, Element *e) noexcept nogil:
    """Before a change of key e's value or deadline: what is joint gets a write of its own."""
    cdef int64_t at
    cdef Entry *x
    if not is_joint(e):
        return
    at = joint_deadline(k, e)
    x = entry_new(e, joint_db(e))
    x.heap = <uint32_t>(under_at(e)[0] >> 32)
    x.expiring = 1
    joint_item(k, e).of = <uint64_t>x
    under_at(e)[0] = <uint64_t>x
    cell_add_write(&x.deadline, e.dot, e.stamp, dot_slot(e.dot), W_NUMBER,
                   span(<const char*>&at, sizeof(at)))


cdef inline int may_be_joint(Kernel *k, const Element *e, uint64_t dot, uint64_t stamp,
                             uint16_t actor, int64_t at) noexcept nogil:
    """A deadline write: is it that of e's plain value, but for what it says?"""
    return (e.meta & E_PLAIN and e.dot == dot and e.stamp == stamp and dot_slot(dot) == actor
            and 0 < at < <int64_t>1 << 62 and k.deadlines.grace < LATE_MOST)


# ---- cells ---------------------------------------------------------------------------------------

cdef void lone_count(Element *e, Count *t) noexcept nogil:
    cdef Lone x = lone_of(e)
    memset(t, 0, sizeof(Count))
    t.actor = dot_slot(x.dot)
    t.seq = dot_seq(x.dot)
    t.run_seq = x.run >> 16
    t.run_index = x.run & 0xffff
    t.total.whole = x.total
    t.rare = &RARE_NONE


cdef int may_be_lone(const Cell *c) noexcept nogil:
    cdef const Count *t = c.counts
    return (c.writes == NULL and t != NULL and t.next == NULL and t.rare == &RARE_NONE
            and t.total.more == NULL and not t.wide and t.run_index <= 0xffff)


cdef inline Lone lone_new(uint64_t dot, uint64_t run_seq, uint32_t run_index,
                          int64_t total) noexcept nogil:
    cdef Lone x
    x.dot = dot
    x.run = run_seq << 16 | run_index
    x.total = total
    return x


cdef Cell *cell_of(Element *e, LoneRoom *room) noexcept nogil:
    """e's own cell, to read it; a lone one's is made up in `room`. NULL where it is one plain
    write, or none."""
    if e.meta & E_CELL:
        return element_cell(e)
    if not is_lone(e):
        return NULL
    lone_count(e, &room.count)
    room.cell.writes = NULL
    room.cell.counts = &room.count
    return &room.cell


cdef Element *open_cell(Kernel *k, Table *t, Element *e) noexcept nogil:
    """e with a Cell; a plain write becomes a Write in it, a lone counter entry a Count. Its value,
    if any, is in the cell only."""
    cdef Cell c
    cdef uint16_t slot
    if e.meta & E_CELL:
        return e
    part_deadline(k, e)
    c.writes = NULL
    c.counts = NULL
    if e.meta & E_PLAIN:
        slot = dot_slot(e.dot)
        cell_add_write(&c, e.dot, element_stamp(e), slot, W_CLEARS if e.meta & E_CLEARS else 0,
                       element_content(e))
    elif is_lone(e):
        c.counts = count_new(0)
        lone_count(e, c.counts)
    e = element_convert(k, t, e, (e.meta & (E_ENTRY | E_MARKS)) | E_CELL, span(NULL, 0))
    element_cell(e)[0] = c
    return e


cdef void element_free(Element *e) noexcept nogil:
    """Frees a detached element and its cell."""
    if e.meta & E_CELL:
        cell_free(element_cell(e))
    mem_free(element_allocation(e))


cdef void free_visited(void *arg, Element *e) noexcept nogil:
    """A TableVisit."""
    element_free(e)


cdef size_t cell_memory(const Cell *c) noexcept nogil:
    cdef size_t n = 0
    cdef Write *w = c.writes
    cdef Count *t = c.counts
    while w != NULL:
        n += mem_size(w)
        w = w.next
    while t != NULL:
        n += mem_size(t) + mem_size(t.total.more)
        if t.rare != &RARE_NONE:
            n += mem_size(t.rare) + mem_size(t.rare.cancelled.more) + mem_size(t.rare.shown)
        t = t.next
    return n


cdef Reading element_reading(Kernel *k, Element *e) noexcept nogil:
    """Of e's own cell, which may be none (NULL: no element); without anything in the place of a
    counter entry."""
    cdef Reading r
    cdef Write *w
    memset(&r, 0, sizeof(Reading))
    if e != NULL and e.meta & E_PLAIN:
        r.dot = e.dot
        r.value = element_content(e)
    elif e != NULL and is_lone(e):
        r.is_lone = 1
        lone_count(e, &r.lone)
    elif e != NULL and e.meta & E_CELL:
        r.counts = element_cell(e).counts
        w = cell_winner(&k.actors, element_cell(e))
        if w != NULL:
            r.dot = w.dot
            r.value = span(write_value(w), w.n)
    return r


cdef Cardinality *cardinality_of(Kernel *k, Element *e, Span image, uint64_t *of) noexcept nogil:
    """Where it would stand. *of: a hash of the writes of e, and, since one op may write several
    keys, of e's key and what it shows."""
    cdef Write *w = element_cell(e).writes if e.meta & E_CELL else NULL
    of[0] = siphash64(<const char*>&e.dot, sizeof(e.dot), k.hash_key) if e.meta & E_PLAIN else 0
    while w != NULL:
        of[0] += siphash64(<const char*>&w.dot, sizeof(w.dot), k.hash_key)
        w = w.next
    of[0] += (xxh3(image.p + HLL_HEAD, image.n - HLL_HEAD)
              ^ <uint64_t>element_hash(k, e) << 32) + image.p[4]
    return &k.cardinalities[(of[0] ^ of[0] >> 32) & (CARDINALITIES - 1)]


cdef int is_open(Kernel *k, uint64_t dot) noexcept nogil:
    """Is it of the op that is being made, which may write once more?"""
    return dot_seq(dot) > k.actors.v[dot_slot(dot)].applied


cdef void cardinality_put(Kernel *k, Element *e, Span image, uint64_t n) noexcept nogil:
    cdef uint64_t of
    cdef Cardinality *c = cardinality_of(k, e, image, &of)
    cdef Write *w = element_cell(e).writes if e.meta & E_CELL else NULL
    if e.meta & E_PLAIN and is_open(k, e.dot):
        return
    while w != NULL:
        if is_open(k, w.dot):
            return
        w = w.next
    c.of = of
    c.n = n


cdef Span counted_view(Kernel *k, Element *e, Span v) noexcept nogil:
    """An image as e shows it: with its cardinality, if it was counted."""
    cdef uint64_t of
    cdef Cardinality *c
    cdef Buffer *b = &k.scratch.image
    if image_counted(v):
        return v
    c = cardinality_of(k, e, v, &of)
    if c.of != of:
        return v
    if v.p != b.p:
        b.n = 0
        buffer_add(b, v.p, v.n)
    memcpy(b.p + 8, &c.n, 8)
    return span(b.p, b.n)


cdef Span string_view(Kernel *k, Element *e) noexcept nogil:
    cdef Span v
    if e.meta & E_PLAIN:
        v = element_content(e)
    elif not (e.meta & E_CELL and images_shown(element_cell(e), &k.scratch.image, &v)):
        v = field_view(k, e)
    return counted_view(k, e, v) if is_image(v) else v


cdef Span field_view(Kernel *k, Element *e) noexcept nogil:
    cdef int64_t whole
    cdef long double real
    cdef Reading r
    cdef int kind
    if e.meta & E_PLAIN:
        return element_content(e)
    r = element_reading(k, e)
    if r.dot and next_count(&r, NULL) == NULL:
        return r.value
    kind = shown_number(&k.actors, &r, &whole, &real)
    if kind == NO_NUMBER:
        return r.value                     # text hides the counter entries
    return span(k.scratch.number, format_long_double(real, k.scratch.number) if kind == REAL
                else format_int64(whole, k.scratch.number))


cdef int string_int(Kernel *k, Element *e, int64_t *out) noexcept nogil:
    cdef Span v
    if e.meta & E_CELL and images_shown(element_cell(e), &k.scratch.image, &v):
        return NO_NUMBER
    return field_int(k, e, out)


cdef int field_int(Kernel *k, Element *e, int64_t *out) noexcept nogil:
    cdef long double real
    cdef Reading r
    cdef int kind
    if e.meta & E_PLAIN:
        return WHOLE if parse_int64(element_value(e), element_vlen(e), out) else NO_NUMBER
    if is_lone(e):
        out[0] = lone_of(e).total
        return WHOLE
    r = element_reading(k, e)
    if r.dot and next_count(&r, NULL) == NULL:
        return WHOLE if parse_int64(r.value.p, r.value.n, out) else NO_NUMBER
    kind = shown_number(&k.actors, &r, out, &real)
    return kind if kind != REAL else NO_NUMBER


cdef uint32_t key_frequency(Kernel *k, Element *e) noexcept nogil:
    cdef uint32_t count = e.meta >> 8 & 0xff
    cdef uint32_t passed
    if k.eviction.decay == 0:
        return count
    passed = ((access_minute(k) - (e.meta >> 16)) & 0xffff) // k.eviction.decay
    return count - passed if passed < count else 0


cdef void key_set_frequency(Kernel *k, Element *e, uint32_t frequency) noexcept nogil:
    e.meta = (e.meta & 0xff) | frequency << 8 | access_minute(k) << 16


cdef void count_access(Kernel *k, Element *e) noexcept nogil:
    """The greater the count, the less likely is it to grow."""
    cdef uint32_t count = key_frequency(k, e)
    cdef double above = count - FREQUENCY_FIRST if count > FREQUENCY_FIRST else 0
    if count < 255 and <double>(next_random(&k.seed) >> 32) * (
            above * k.eviction.log_factor + 1) < <double>(<uint64_t>1 << 32):
        count += 1
    key_set_frequency(k, e, count)


cdef void key_touch(Kernel *k, Element *e) noexcept nogil:
    if k.eviction.policy & EVICT_LFU:
        count_access(k, e)
    else:
        e.meta = (e.meta & 0xff) | access_second(k) << 8


cdef void key_written(Kernel *k, Element *e, uint64_t seq) noexcept nogil:
    cdef uint32_t hash
    if not k.eviction.policy & EVICT_LFU:
        e.meta = (e.meta & 0xff) | access_second(k) << 8
        return
    hash = element_hash(k, e)
    if k.eviction.counted_seq != seq or k.eviction.counted_hash != hash:
        k.eviction.counted_seq = seq
        k.eviction.counted_hash = hash
        count_access(k, e)


cdef int64_t key_idle(Kernel *k, Element *e) noexcept nogil:
    return (access_second(k) - (e.meta >> 8)) & 0xffffff


cdef void key_set_idle(Kernel *k, Element *e, int64_t seconds) noexcept nogil:
    cdef uint32_t ago = <uint32_t>min(seconds, <int64_t>0xffffff)
    e.meta = (e.meta & 0xff) | (access_second(k) - ago) << 8

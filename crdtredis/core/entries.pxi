# The entries of a stream: how does one come to them, whether or not they are sealed in blocks?
#
# The order of a stream holds entries, which are elements and stand in its table, too, and blocks
# (core/sealed.pxi), which stand nowhere else. A place is an OrderCursor: its item, and of a block
# the entry `within`. Who reads goes from place to place, and where an entry is in a block it gets
# an element that is made for it (entry_element). Nothing that replicas share, no digest, checkpoint
# or op, tells how an entry is held.
#
#     item     5-1        [9-1 12-1 13-1 20-1]   21-4      ids rise through all of them, and none
#     rank     0           1   2    3    4       5         stands by itself between those of a block
#
# Who changes an entry, or puts one between two of a block, opens that first: its entries stand by
# themselves again. Who only takes entries out has the block made anew without them (sealed_cut), so
# a trim or an XDEL opens nothing; the first ones of a block go without that.
#
# What comes late comes near the end, mostly: entries that another replica made as those here were
# made. So the last entries are left alone (Sealing.hold): as many as it takes, for each that had to
# open a block puts the bound at twice its distance, from where it sinks by and by. Before them
# whatever can be is sealed as further entries come, a block at a time. What was opened is sealed
# again behind a look of core/sweep.pxi, and so is all of a stream to which nothing comes any more.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span, span

cdef enum:
    SEAL_LOOKS = 256        # items that are looked at as an entry comes
    HOLD_SINKS = 7          # by a 128th for each block

# What goes into a block.
cdef struct Gathered:
    uint32_t n
    uint64_t named
    SealedEntry v[64]       # SEALED_ENTRIES; fields.p: how far into `bytes`
    Buffer *bytes


cdef StreamId id_of(const char *name) noexcept nogil:
    cdef StreamId id
    id.ms = big_endian(name)
    id.seq = big_endian(name + 8)
    return id


cdef void put_id(char *to, StreamId id) noexcept nogil:
    put_big_endian(to, id.ms)
    put_big_endian(to + 8, id.seq)


# ---- places --------------------------------------------------------------------------------------

cdef inline StreamId sealed_id(const Sealed *b, uint32_t i) noexcept nogil:
    cdef StreamId id
    id.ms = sealed_ms(b, i)
    id.seq = sealed_seq(b, i)
    return id


cdef inline StreamId entry_id(const Item *item, const OrderCursor *at) noexcept nogil:
    return (sealed_id(sealed_of(item.e), at.within) if sealed_n(item.e)
            else id_of(element_key(item.e)))


cdef inline int is_at(const Item *item, const OrderCursor *at, StreamId id) noexcept nogil:
    cdef StreamId x = entry_id(item, at)
    return x.ms == id.ms and x.seq == id.seq


cdef inline Item *entry_next(OrderCursor *at) noexcept nogil:
    if at.within + 1 < sealed_n(cursor_item(at).e):
        at.within += 1
        return cursor_item(at)
    at.within = 0
    return order_next(at)


cdef Item *entry_prev(OrderCursor *at) noexcept nogil:
    cdef Item *item
    if at.within:
        at.within -= 1
        return cursor_item(at)
    item = order_prev(at)
    if item != NULL and sealed_n(item.e):
        at.within = sealed_n(item.e) - 1
    return item


cdef size_t entry_seek(Collection *c, StreamId id, OrderCursor *at, Item **item) noexcept nogil:
    """Stands on the first whose id is not below `id`, or NULL. Entries before it."""
    cdef Order *o = order_of(c)
    cdef size_t rank
    cdef uint32_t n, i
    cdef char name[16]
    put_id(name, id)
    rank = order_rank(o, id.ms, span(name, STREAM_ID))
    if rank and sealing_of(c).n:
        item[0] = order_at(o, rank - 1, at)
        n = sealed_n(item[0].e)
        i = sealed_rank(sealed_of(item[0].e), id.ms, id.seq) if n else 0
        if i < n:
            at.within = i
            return rank - n + i
    item[0] = order_at(o, rank, at)
    return rank


cdef size_t rank_of(Collection *c, StreamId id) noexcept nogil:
    """Entries below it."""
    cdef OrderCursor at
    cdef Item *item
    return entry_seek(c, id, &at, &item)


cdef Item *last_up_to(Collection *c, StreamId id, OrderCursor *at) noexcept nogil:
    """The last entry whose id is not above `id`, or NULL."""
    cdef Item *item
    cdef size_t rank = entry_seek(c, id, at, &item)
    if item == NULL or not is_at(item, at, id):
        item = order_at(order_of(c), rank - 1, at) if rank else NULL
    return item


cdef int is_above_all(Collection *c, StreamId id) noexcept nogil:
    """Are all entries that are there below it?"""
    cdef OrderCursor at
    cdef Order *o = order_of(c)
    cdef Item *item
    if o.n == 0:
        return 1
    item = last_item(o)
    at.within = sealed_n(item.e) - 1
    return id_below(entry_id(item, &at), id)


# ---- reading -------------------------------------------------------------------------------------

cdef Element *entry_element(const Item *item, const OrderCursor *at, Buffer *room) noexcept nogil:
    """To read it: of one in a block good until the next in this room. That has no hash."""
    cdef const Sealed *b = sealed_of(item.e)
    cdef SealedEntry x
    cdef StreamId id
    cdef Element *e
    cdef size_t n
    cdef char name[16]
    cdef uint32_t flags = E_MEMBER | E_PLAIN
    if sealed_n(item.e) == 0:
        return item.e
    sealed_get(b, at.within, &x)
    id.ms = x.ms
    id.seq = x.seq
    put_id(name, id)
    flags |= E_NAMED if b.named & row_bit(b, at.within) else 0
    n = fields_size(b, &x)
    room.n = 0
    e = element_in(buffer_need(room, element_size(flags, STREAM_ID, n)), span(name, STREAM_ID), 0,
                   flags, n)
    e.dot = x.dot
    e.stamp = x.stamp
    fields_put(b, &x, element_value(e))
    return e


cdef int entry_place(Kernel *k, Collection *c, Span name, uint32_t hash, Item *on,
                     OrderCursor *at) noexcept nogil:
    """Where the entry of this id is: *on and at.within; 0: it is not there."""
    cdef Item *item
    on.e = table_find(&c.table, name.p, name.n, hash)
    at.within = 0
    if on.e != NULL or sealing_of(c).n == 0:
        return on.e != NULL
    entry_seek(c, id_of(name.p), at, &item)
    if item == NULL or not is_at(item, at, id_of(name.p)):
        return 0
    on[0] = item[0]
    return 1


cdef Element *entry_find(Kernel *k, Collection *c, Span name, uint32_t hash) noexcept nogil:
    """The entry of this id, to read it: good until the next call. NULL: it is not there."""
    cdef OrderCursor at
    cdef Item on
    if not entry_place(k, c, name, hash, &on, &at):
        return NULL
    return entry_element(&on, &at, &k.scratch.entry)


# ---- blocks --------------------------------------------------------------------------------------

cdef inline void note_opened(Sealing *s, StreamId id) noexcept nogil:
    if not s.reopened or id_below(id, s.opened):
        s.opened = id
    s.reopened = 1


cdef inline void sealed_free(Sealing *s, Sealed *b) noexcept nogil:
    s.n -= b.n
    s.blocks -= 1
    s.bytes -= mem_size(b)
    mem_free(b)


cdef inline Item sealed_placed(Sealing *s, Sealed *b) noexcept nogil:
    """Of a new one."""
    cdef Item item
    s.n += b.n
    s.blocks += 1
    s.bytes += mem_size(b)
    item.sort_key = sealed_ms(b, 0)
    item.e = sealed_item(b)
    return item


cdef void sealed_open(Kernel *k, Collection *c, size_t rank, Sealed *b) noexcept nogil:
    """rank: of its first entry."""
    cdef OrderCursor at
    cdef Item item
    cdef Item whole
    cdef Element *m
    cdef Element *e
    cdef uint32_t i, hash
    whole.e = sealed_item(b)
    note_opened(sealing_of(c), sealed_id(b, 0))
    order_remove_at(order_of(c), rank)
    for i in range(b.n):
        at.within = i
        m = entry_element(&whole, &at, &k.scratch.entry)
        hash = key_hash(k, element_key(m), STREAM_ID)
        e = element_new(k, element_name(m), hash, m.meta & 0xff, element_vlen(m))
        e.dot = m.dot
        e.stamp = m.stamp
        copy_span(element_value(e), element_content(m))
        table_add(&c.table, e, hash)
        item.sort_key = sealed_ms(b, i)
        item.e = e
        order_insert_at(order_of(c), rank + i, item)
    sealed_free(sealing_of(c), b)


cdef int open_around(Kernel *k, Collection *c, StreamId id) noexcept nogil:
    """Before an entry of this id changes, or comes. 1 where that opened a block."""
    cdef OrderCursor at
    cdef Item *item
    cdef size_t rank
    if sealing_of(c).n == 0 or is_above_all(c, id):
        return 0
    rank = entry_seek(c, id, &at, &item)
    if item == NULL or sealed_n(item.e) == 0 or (at.within == 0 and not is_at(item, &at, id)):
        return 0
    sealed_open(k, c, rank - at.within, sealed_of(item.e))
    return 1


cdef void gather_begin(Gathered *g, Kernel *k) noexcept nogil:
    g.n = 0
    g.named = 0
    g.bytes = &k.scratch.gathered
    g.bytes.n = 0


cdef void gather_block(Gathered *g, const Sealed *b, uint64_t but) noexcept nogil:
    """Of its entries all but those."""
    cdef SealedEntry *x
    cdef uint32_t i
    cdef size_t n
    for i in range(b.n):
        if but >> i & 1:
            continue
        x = &g.v[g.n]
        sealed_get(b, i, x)
        n = fields_size(b, x)
        fields_put(b, x, buffer_need(g.bytes, n))
        x.fields = span(<const char*>g.bytes.n, n)
        g.bytes.n += n
        g.named |= <uint64_t>(b.named & row_bit(b, i) != 0) << g.n
        g.n += 1


cdef void gather_element(Gathered *g, Element *m) noexcept nogil:
    cdef SealedEntry *x = &g.v[g.n]
    cdef StreamId id = id_of(element_key(m))
    x.ms = id.ms
    x.seq = id.seq
    x.dot = m.dot
    x.stamp = m.stamp
    x.fields = span(<const char*>g.bytes.n, element_vlen(m))
    buffer_add(g.bytes, element_value(m), element_vlen(m))
    g.named |= <uint64_t>(m.meta & E_NAMED != 0) << g.n
    g.n += 1


cdef Sealed *gathered_seal(Gathered *g) noexcept nogil:
    cdef uint32_t i
    for i in range(g.n):
        g.v[i].fields.p = g.bytes.p + <size_t>g.v[i].fields.p
    return sealed_new(g.v, g.n, g.named)


cdef void sealed_cut(Kernel *k, Collection *c, size_t rank, Sealed *b,
                     uint64_t gone) noexcept nogil:
    """Takes entries out of it. rank: of its first."""
    cdef Sealing *s = sealing_of(c)
    cdef int n = bits_set(gone)
    cdef Gathered g
    cdef Item item
    if n == 0:
        return
    c.live -= n
    if b.n - n < SEALED_ENTRIES // 2 and n < b.n:
        note_opened(s, sealed_id(b, 0))
    if n == b.n:
        order_remove_at(order_of(c), rank)
    elif gone & gone + 1 == 0:             # its first ones
        b.skip += n
        b.n -= n
        s.n -= n
        item.sort_key = sealed_ms(b, 0)
        item.e = sealed_item(b)
        order_change_at(order_of(c), rank, item)
        return
    else:
        gather_begin(&g, k)
        gather_block(&g, b, gone)
        order_change_at(order_of(c), rank, sealed_placed(s, gathered_seal(&g)))
    sealed_free(s, b)


# ---- sealing -------------------------------------------------------------------------------------

cdef inline size_t sealable(const Item *item) noexcept nogil:
    """Entries of an item that may go into a block; 0: it has to stay as it is."""
    cdef Element *e = item.e
    if sealed_n(e):
        return sealed_n(e)
    return (e.meta & 0xff & ~<uint32_t>E_NAMED == E_MEMBER | E_PLAIN
            and element_vlen(e) <= SEALED_FIELDS)


cdef inline size_t sealed_bytes(const Item *item) noexcept nogil:
    return mem_size(sealed_of(item.e)) if sealed_n(item.e) else element_vlen(item.e)


cdef void seal_items(Kernel *k, Collection *c, size_t rank, OrderCursor at,
                     uint32_t items) noexcept nogil:
    """All of them sealable; rank: of the first, on which `at` stands."""
    cdef Sealing *s = sealing_of(c)
    cdef Order *o = order_of(c)
    cdef Element *old[64]                  # SEALED_ENTRIES
    cdef Gathered g
    cdef uint32_t i
    gather_begin(&g, k)
    for i in range(items):
        old[i] = cursor_item(&at).e
        if sealed_n(old[i]):
            gather_block(&g, sealed_of(old[i]), 0)
        else:
            gather_element(&g, old[i])
        order_next(&at)
    order_cut(o, rank, items)
    for i in range(items):
        if sealed_n(old[i]):
            sealed_free(s, sealed_of(old[i]))
        else:
            table_remove(&c.table, old[i])
            element_free(old[i])
    o.weighed = 1
    order_insert_at(o, rank, sealed_placed(s, gathered_seal(&g)))


cdef size_t seal_some(Kernel *k, Collection *c, size_t hold, int *most,
                      size_t least) noexcept nogil:
    """From Sealing.begin on, but for the last `hold` entries; looks at *most items, counted down.
    least: of how many entries a block is made; 0: of SEAL_LEAST, and not while it may still grow.
    How many entries it has left that were to be looked at."""
    cdef Sealing *s = sealing_of(c)
    cdef Order *o = order_of(c)
    cdef OrderCursor at, ahead
    cdef Item *item
    cdef Item *next
    cdef size_t rank, end = o.n - min(hold, o.n), n, bytes
    cdef uint32_t items
    if s.blocks == 0:
        memset(&s.begin, 0, sizeof(StreamId))
    rank = entry_seek(c, s.begin, &at, &item)
    rank -= at.within if item != NULL else 0
    at.within = 0
    while item != NULL and rank < end and most[0] > 0:
        ahead = at
        next = item
        items = 0
        n = bytes = 0
        while (next != NULL and sealable(next) and n + sealable(next) <= SEALED_ENTRIES
               and rank + n + sealable(next) <= end
               and (items == 0 or bytes + sealed_bytes(next) <= SEAL_BYTES)):
            n += sealable(next)
            bytes += sealed_bytes(next)
            items += 1
            next = order_next(&ahead)
        most[0] -= items + 1
        # it may still grow
        if next == NULL or (sealable(next) and n + sealable(next) <= SEALED_ENTRIES
                            and bytes + sealed_bytes(next) <= SEAL_BYTES):
            if least and items > 1 and n >= least:
                seal_items(k, c, rank, at, items)
                item = order_at(o, rank, &at)
            break
        if items > 1 and n >= (least if least else SEAL_LEAST):
            seal_items(k, c, rank, at, items)
            item = order_at(o, rank + n, &at)
        elif items:
            at = ahead
            item = next
        else:
            n = 1                          # one that stays as it is
            item = order_next(&at)
        rank += n
    if item == NULL and o.n:
        item = last_item(o)
    at.within = 0
    if item != NULL:
        s.begin = entry_id(item, &at)
    return end - rank if rank < end else 0


cdef void seal_behind(Kernel *k, Collection *c, StreamId id) noexcept nogil:
    """An entry has come."""
    cdef Sealing *s = sealing_of(c)
    cdef int most = SEAL_LOOKS
    cdef size_t left, blocks = s.blocks
    s.still = 0
    if id_below(id, s.begin):
        note_opened(s, id)
    if s.wait:
        s.wait -= 1
        return
    left = seal_some(k, c, max(s.hold, <uint32_t>SEAL_HOLD), &most, 0)
    s.wait = SEALED_ENTRIES - <uint32_t>left if left < SEALED_ENTRIES else 0
    if s.blocks > blocks:
        s.hold -= s.hold >> HOLD_SINKS


cdef void open_for_entry(Kernel *k, Collection *c, StreamId id) noexcept nogil:
    """Before one comes, or what is there is written again."""
    cdef Sealing *s = sealing_of(c)
    cdef size_t further
    if open_around(k, c, id):
        further = 2 * (order_of(c).n - rank_of(c, id))
        s.hold = max(s.hold, <uint32_t>min(further, <size_t>SEAL_HOLD_MOST))


cdef void seal_quiet(Kernel *k, Collection *c, int *most) noexcept nogil:
    """Now and then: what was opened, and all of one to which nothing has come since the last
    time."""
    cdef Sealing *s = sealing_of(c)
    if s.reopened and id_below(s.opened, s.begin):
        s.begin = s.opened
    s.reopened = 0
    seal_some(k, c, 0 if s.still else max(s.hold, <uint32_t>SEAL_HOLD), most,
              SEAL_LEAST if s.still else 0)
    s.still = 1


# ---- the type ------------------------------------------------------------------------------------

cdef int blocks_free_some(Collection *c, int *most) noexcept nogil:
    """As CollectionType.free_some: before the order goes."""
    cdef Order *o = order_of(c)
    cdef Element *e
    while sealing_of(c).blocks:
        if most[0] <= 0:
            return 1
        most[0] -= 1
        e = last_item(o).e
        order_remove_at(o, o.n - 1)
        if sealed_n(e):
            sealed_free(sealing_of(c), sealed_of(e))
    return 0


cdef Element *entries_step(Walk *w) noexcept nogil:
    """The next one, or NULL. Its room is another than that of look-ups, for what is shown is what
    others are made of."""
    cdef Order *o = order_of(w.c)
    cdef Item *item
    if w.pos == 0:
        w.pos = 1
        item = order_at(o, o.n - 1 if w.order == WALK_BACKWARDS else 0, &w.at.order)
    elif w.order == WALK_BACKWARDS:
        item = entry_prev(&w.at.order)
    else:
        item = entry_next(&w.at.order)
    return entry_element(item, &w.at.order, &w.steps) if item != NULL else NULL


cdef int entries_cells(Walk *w) noexcept nogil:
    """Walk.step: all of them are live."""
    cdef Element *m = entries_step(w)
    if m != NULL:
        walk_element(w, m)
    return m != NULL


cdef int entries_shown(Walk *w) noexcept nogil:
    cdef Element *m = entries_step(w)
    if m != NULL:
        walk_name(w, m)
    else:
        buffer_free(&w.steps)
    return m != NULL


cdef int entries_check(Kernel *k, Collection *c) noexcept nogil:
    """0 sound, else the number of the broken invariant."""
    cdef Sealing *s = sealing_of(c)
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), 0, &at)
    cdef size_t n = 0, blocks = 0, bytes = 0
    cdef StreamId id, last
    cdef SealedEntry x
    cdef Sealed *b
    memset(&last, 0, sizeof(StreamId))
    if order_of(c).n != c.live or table_count(&c.table) + s.n != c.live:
        return 1
    while item != NULL:
        id = entry_id(item, &at)
        if not id_below(last, id):
            return 2
        last = id
        if at.within == 0 and item.sort_key != id.ms:
            return 3
        if sealed_n(item.e) and at.within == 0:
            b = sealed_of(item.e)
            if (b.n != sealed_n(item.e) or b.n + b.skip > SEALED_ENTRIES
                    or b.names > SEALED_FIELDS):
                return 4
            if b.named and not k.joining:
                return 8
            n += b.n
            blocks += 1
            bytes += mem_size(b)
        if sealed_n(item.e):
            sealed_get(sealed_of(item.e), at.within, &x)
            if not dot_seq(x.dot) or not x.stamp or fields_size(sealed_of(item.e),
                                                                &x) > SEALED_FIELDS:
                return 5
        elif (element_klen(item.e) != STREAM_ID
              or table_find(&c.table, element_key(item.e), STREAM_ID, item.e.hash) != item.e):
            return 6
        item = entry_next(&at)
    return 7 if n != s.n or blocks != s.blocks or bytes != s.bytes else 0

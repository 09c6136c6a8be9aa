# What does a small collection take while nobody looks at it?
#
# A set of five as a Collection, a table and five elements takes 220 bytes, most of it structure.
# Packed it is one allocation, members one after the other, at the very place where the pointer to
# the Collection would be, with its bit 1 set:
#
#     SADD s a bb   ->   | T_SET | 2 | head of a, dot | a | head of bb | bb |
#
#     head       a varint: bytes of the name << 2 | PACKED_OTHER | PACKED_SPECIAL
#     OTHER      it is of another op than the one before: how far dot and stamp (of a set's member
#                only the dot) are from that one's follow, as zigzag varints
#     then       the name; of a hash the length of the value, a varint, and the value; of a sorted
#                set the score
#     SPECIAL    of a hash E_KEEPS; of a sorted set, the score is a whole number, a zigzag varint
#
# A list of one block is its head and the elements as they stand in its page, each behind its
# length.
#
# A form means nothing: packing and unpacking give the same cells, and every command does the same
# to both.
#
#     one member is read      as it stands (packed_member)
#     a command reads it      as a Collection in k.packing.views, which takes no allocation and is
#                             good until the next command (element_view)
#     a plain write           to a member, or at an end of a list, is one pass over the bytes
#                             (packed_write; list_write_packed)
#     all else                has it unpacked first (element_collections); the element stays where
#                             it is
#
# What was unpacked is remembered, and packed when nobody has come to it for PACK_AFTER, or where
# more than PACK_KEPT were opened since (PACK_FEW before any key is evicted for it); never while a
# command runs. Of the reads and writes of packed ones each OPENED_OF-th unpacks: so what is in use
# soon is as fast as it can be, and what is met once in a while stays packed, for unpacking and
# packing again costs more than either. What looks at all keys and changes none (the digest, a state
# as bytes) unpacks into allocations of its own, and puts the same bytes back (key_open).
#
# Only what is plain is packed: members that are one write each, under a key that holds one
# collection.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, int8_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy, memmove, memset

from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span,
                               span)

cdef enum:
    PACKED_OTHER = 1
    PACKED_SPECIAL = 2
    PACKED_HEAD = 64        # bytes at most of what comes before a name or a value, and of a score
    QUEUE_SLACK = 1 << 16   # bytes that are moved up at once
    VIEWS = 64 << 10        # bytes of k.packing.views,
    VIEW_MOST = 8 << 10     # and of a view at most
    OPENED_OF = 13          # no power of two, in which clients' patterns may go

# A member as it is read.
cdef struct PackedMember:
    const char *p           # the next one
    const char *end
    uint64_t dot
    uint64_t stamp
    uint32_t flags          # E_*
    Span name
    Span value
    double score            # what `value` is, of a sorted set

# An opened one.
cdef struct Opened:
    Element *e              # of the key, if that is still there
    uint32_t hash
    uint32_t at             # ms, the lower bits


cdef inline char *element_packed(Element *e) noexcept nogil:
    """Of a key that is packed."""
    return <char*>(<size_t>element_held(e) - 2)


cdef inline int packed_type(Element *e) noexcept nogil:
    return element_packed(e)[0]


cdef inline size_t packed_n(Element *e) noexcept nogil:
    return element_packed(e)[1]


cdef inline const char *packed_end(Element *e) noexcept nogil:
    return element_packed(e) + mem_room(element_packed(e))


cdef inline void packed_head(Buffer *to, int type, size_t n) noexcept nogil:
    """Begins one."""
    cdef char *p
    to.n = 0
    p = buffer_need(to, 2)
    p[0] = <char>type
    p[1] = <char>n
    to.n = 2


cdef inline void packed_put(Element *e, const Buffer *b) noexcept nogil:
    cdef char *p = <char*>mem_alloc_kept(b.n)
    memcpy(p, b.p, b.n)
    element_put_collections(e, <Collection*>(p + 2))


cdef inline void *view_alloc(Buffer *view, size_t n) noexcept nogil:
    """n bytes, of what is left of a view; NULL: an allocation of their own."""
    cdef char *p
    if view == NULL:
        return mem_alloc(n)
    p = view.p + view.n
    view.n += (n + 7) & ~<size_t>7
    return p


cdef inline Leaf *open_leaf(Collection *c, uint32_t n, Buffer *view) noexcept nogil:
    """The one leaf, of n items, of the order of c, whose live ones have been counted."""
    cdef Leaf *leaf = <Leaf*>view_alloc(view, sizeof(Leaf) + n * sizeof(Item))
    memset(leaf, 0, sizeof(Leaf))
    leaf.n = leaf.cap = n
    order_of(c).root = leaf
    order_of(c).n = c.live
    return leaf


cdef void packed_free(Element *e) noexcept nogil:
    """What lies under a packed key goes."""
    mem_free(element_packed(e))
    element_put_collections(e, NULL)


# ---- lists ---------------------------------------------------------------------------------------

cdef inline Place block_end(const Block *b) noexcept nogil:
    """The place of the last element, found from the first."""
    cdef Place place = b.first
    cdef uint32_t p
    for p in range(b.begin + 1, b.begin + b.n):
        place_forward(b, p, &place)
    return place


cdef int pack_block(const Block *b, Buffer *to) noexcept nogil:
    """0 where it cannot be."""
    cdef Place end
    cdef uint32_t i, begin, n
    cdef char *p
    if not block_packed(b) or b.depth != 1 or b.used - page_begin(b, b.begin) > PACKED_BYTES:
        return 0
    end = block_end(b)
    if end.own != b.last.own or end.offset != b.last.offset or end.index != b.last.index:
        return 0
    p = buffer_need(to, 2 * PACKED_HEAD + PACKED_BYTES + 2 * b.n)
    p[0] = <char>b.direction
    p[1] = <char>b.stride
    p = put_varint(p + 2, b.run)
    p = put_varint(p, b.run_index)
    p = put_varint(p, zigzag(b.major))
    p = put_varint(p, zigzag(b.first.offset))
    p = put_varint(p, zigzag(<int64_t>(b.first.own - b.run)))
    p = put_varint(p, b.first.index)
    for i in range(b.n):
        begin = page_begin(b, b.begin + i)
        n = page_end(b, b.begin + i)[0] - begin
        p = put_varint(p, n)
        memcpy(p, block_page(b) + begin, n)
        p += n
    to.n = p - to.p
    return 1


cdef Block *unpack_block(Element *e, Buffer *view) noexcept nogil:
    """The block of a packed list."""
    cdef uint64_t v[6]
    cdef uint64_t size = 0
    cdef const char *p = element_packed(e) + 2
    cdef const char *end = packed_end(e)
    cdef int8_t direction = <int8_t>p[0]
    cdef uint8_t stride = <uint8_t>p[1]
    cdef uint32_t i, n = <uint32_t>packed_n(e), used = 0
    cdef const char *at
    cdef Block *b
    p += 2
    for i in range(6):
        get_varint(&p, end, &v[i])
    at = p
    for i in range(n):
        get_varint(&at, end, &size)
        at += size
        used += <uint32_t>size
    b = <Block*>view_alloc(view, sizeof(Block) + ((used + 2 * n + 1) & ~<uint32_t>1))
    memset(b, 0, sizeof(Block))
    b.n = n
    b.cap = (used + 2 * n + 1) & ~<uint32_t>1
    b.depth = 1
    b.direction = direction
    b.stride = stride
    b.run = v[0]
    b.run_index = <uint32_t>v[1]
    b.major = unzigzag(v[2])
    b.first.offset = unzigzag(v[3])
    b.first.own = b.run + <uint64_t>unzigzag(v[4])
    b.first.index = <uint32_t>v[5]
    for i in range(n):
        get_varint(&p, end, &size)
        memcpy(block_page(b) + b.used, p, size)
        p += size
        b.used += <uint32_t>size
        page_end(b, i)[0] = <uint16_t>b.used
    b.last = block_end(b)
    return b


# ---- tables of members ---------------------------------------------------------------------------

cdef inline int is_integer(double score) noexcept nogil:
    """Is it a whole number, and no -0?"""
    cdef double back = <double><int64_t>score
    return memcmp(&back, &score, sizeof(score)) == 0


cdef inline void packed_begin(PackedMember *m, const char *p, const char *end) noexcept nogil:
    m.p = p
    m.end = end
    m.dot = m.stamp = 0


cdef void put_member(Buffer *to, int type, const PackedMember *m,
                     PackedMember *before) noexcept nogil:
    """Appends a member; the dot and stamp of `before` become its own."""
    cdef uint64_t head = <uint64_t>m.name.n << 2
    cdef char *p = buffer_need(to, 2 * PACKED_HEAD + m.name.n + m.value.n)
    if type == T_ZSET:
        if -1e15 < m.score < 1e15 and is_integer(m.score):
            head |= PACKED_SPECIAL
    elif type == T_HASH and m.flags & E_KEEPS:
        head |= PACKED_SPECIAL
    if m.dot != before.dot or m.stamp != before.stamp:
        p = put_varint(p, head | PACKED_OTHER)
        p = put_varint(p, zigzag(<int64_t>(m.dot - before.dot)))
        if type != T_SET:
            p = put_varint(p, zigzag(<int64_t>(m.stamp - before.stamp)))
        before.dot = m.dot
        before.stamp = m.stamp
    else:
        p = put_varint(p, head)
    copy_span(p, m.name)
    p += m.name.n
    if type == T_HASH:
        p = put_varint(p, m.value.n)
        copy_span(p, m.value)
        p += m.value.n
    elif head & PACKED_SPECIAL:
        p = put_varint(p, zigzag(<int64_t>m.score))
    elif type == T_ZSET:
        memcpy(p, &m.score, 8)
        p += 8
    to.n = p - to.p


cdef int pack_member(Buffer *to, int type, Element *m, PackedMember *before) noexcept nogil:
    """0 where it cannot be."""
    cdef PackedMember x
    if (m.meta & (E_PLAIN | E_MARKS) != E_PLAIN or (m.meta & E_BARE != 0) != (type == T_SET)
            or element_klen(m) + element_vlen(m) > PACKED_BYTES):
        return 0
    x.dot = m.dot
    x.stamp = element_stamp(m)
    x.flags = m.meta
    x.name = element_name(m)
    x.value = element_content(m)
    if type == T_ZSET:
        memcpy(&x.score, x.value.p, 8)
    put_member(to, type, &x, before)
    return to.n <= PACKED_BYTES


cdef int pack_members(Collection *c, Buffer *to) noexcept nogil:
    """In the order of a sorted set, else in that of the table."""
    cdef OrderCursor at
    cdef Item *item = NULL
    cdef Element *m
    cdef PackedMember before
    cdef size_t pos = 0
    packed_begin(&before, NULL, NULL)
    if c.type == T_ZSET:
        item = order_at(order_of(c), 0, &at)
        while item != NULL and pack_member(to, T_ZSET, item.e, &before):
            item = order_next(&at)
        return item == NULL
    while True:
        m = table_next(&c.table, &pos)
        if m == NULL:
            return 1
        if not pack_member(to, c.type, m, &before):
            return 0


cdef void packed_next(int type, PackedMember *m) noexcept nogil:
    """The next member from m.p on."""
    cdef uint64_t head = 0, v = 0
    get_varint(&m.p, m.end, &head)
    if head & PACKED_OTHER:
        get_varint(&m.p, m.end, &v)
        m.dot += <uint64_t>unzigzag(v)
        if type != T_SET:
            get_varint(&m.p, m.end, &v)
            m.stamp += <uint64_t>unzigzag(v)
    m.name = span(m.p, head >> 2)
    m.p += m.name.n
    m.value = span(NULL, 0)
    m.flags = E_MEMBER | E_PLAIN | (E_BARE if type == T_SET else 0)
    if type == T_HASH:
        m.flags |= E_KEEPS if head & PACKED_SPECIAL else 0
        get_varint(&m.p, m.end, &v)
        m.value = span(m.p, v)
        m.p += v
    elif type == T_ZSET:
        if head & PACKED_SPECIAL:
            get_varint(&m.p, m.end, &v)
            m.score = <double>unzigzag(v)
        else:
            memcpy(&m.score, m.p, 8)
            m.p += 8
        m.value = span(<const char*>&m.score, 8)


cdef Element *packed_element(Kernel *k, const PackedMember *m, uint32_t hash,
                             Buffer *view) noexcept nogil:
    cdef void *p = view_alloc(view, element_size(m.flags, m.name.n, m.value.n))
    cdef Element *e = element_in(p, m.name, hash, m.flags, m.value.n)
    e.dot = m.dot
    element_put_stamp(e, m.stamp)
    copy_span(element_value(e), m.value)
    return e


cdef void unpack_members(Kernel *k, Collection *c, Element *of, Buffer *view) noexcept nogil:
    """The members that lie packed under `of`. In a view they have the same order as where they are
    unpacked: who asks for HKEYS and then for HVALS may meet both."""
    cdef PackedMember m
    cdef uint32_t i, n = <uint32_t>c.live
    cdef size_t slots = slots_for(n)
    cdef Leaf *leaf = open_leaf(c, n, view) if c.type == T_ZSET else NULL
    cdef Element *e
    packed_begin(&m, element_packed(of) + 2, packed_end(of))
    if view != NULL:
        c.table.array.slots = <uint64_t*>view_alloc(view, slots * sizeof(uint64_t))
        memset(c.table.array.slots, 0, slots * sizeof(uint64_t))
        c.table.array.last = <uint32_t>slots - 1 if n > FEW else 0
    else:
        table_reserve(&c.table, n)
    for i in range(n):
        packed_next(c.type, &m)
        e = packed_element(k, &m, key_hash(k, m.name.p, m.name.n), view)
        table_put(&c.table, e)
        if leaf != NULL:
            leaf_items(leaf)[i].sort_key = score_sort_key(m.score)
            leaf_items(leaf)[i].e = e


cdef inline int is_named(const PackedMember *m, Span name) noexcept nogil:
    return m.name.n == name.n and (name.n == 0 or memcmp(m.name.p, name.p, name.n) == 0)


cdef Element *packed_member(Kernel *k, Element *e, Span name) noexcept nogil:
    """A member under a packed key, to read it: good until the next call or view. NULL: there is
    none."""
    cdef Buffer *views = &k.packing.views
    cdef size_t begin = views.n
    cdef PackedMember m
    cdef Element *found
    cdef uint32_t i
    packed_begin(&m, element_packed(e) + 2, packed_end(e))
    for i in range(<uint32_t>packed_n(e)):
        packed_next(packed_type(e), &m)
        if is_named(&m, name):
            buffer_need(views, VIEWS - begin)
            found = packed_element(k, &m, 0, views)
            views.n = begin
            return found
    return NULL


cdef inline int is_opened_now(Kernel *k) noexcept nogil:
    """Of those that come to what is packed: does this one unpack it?"""
    k.packing.asked += 1
    return k.packing.asked % OPENED_OF == 0


cdef int stands_before(const PackedMember *a, const PackedMember *b) noexcept nogil:
    """In a sorted set."""
    cdef uint64_t first = score_sort_key(a.score), second = score_sort_key(b.score)
    cdef size_t n = min(a.name.n, b.name.n)
    cdef int r = memcmp(a.name.p, b.name.p, n) if n else 0
    if first != second:
        return first < second
    return r < 0 if r else a.name.n < b.name.n


cdef int packed_write(Kernel *k, const Applying *op, const Effect *x, Element *e) noexcept nogil:
    """ASSIGN or REMOVE of a member under packed key e, as they are applied to what is unpacked: 1.
    0, and nothing has changed: it has to be unpacked, since a member that op had not observed is in
    the way, or nothing would be left, or too much."""
    cdef Buffer *to = &k.packing.made
    cdef PackedMember m, new, before
    cdef int type = packed_type(e), found = 0, put = x.kind == REMOVE
    cdef uint32_t i, n = <uint32_t>packed_n(e)
    if (x.kind == INCREMENT or x.type != type or k.joining or is_opened_now(k)
            or x.name.n + x.value.n > PACKED_BYTES):
        return 0
    packed_begin(&m, element_packed(e) + 2, packed_end(e))
    packed_begin(&before, NULL, NULL)
    new.dot = make_dot(op.slot, op.seq)
    new.stamp = op.stamp if type != T_SET else 0
    new.flags = E_KEEPS if type == T_HASH and x.keep else 0
    new.name = x.name
    new.value = x.value
    if type == T_ZSET and not put:
        memcpy(&new.score, x.value.p, 8)
    packed_head(to, type, n)
    for i in range(n):
        packed_next(type, &m)
        if is_named(&m, x.name):
            if not observed(op, m.dot):
                return 0
            found = 1
            if not put and type != T_ZSET:
                put_member(to, type, &new, &before)
                put = 1
            continue
        if not put and type == T_ZSET and stands_before(&new, &m):
            put_member(to, type, &new, &before)
            put = 1
        put_member(to, type, &m, &before)
    if not put:
        put_member(to, type, &new, &before)
    if x.kind == REMOVE:
        n -= found
    else:
        n += not found
    if n == 0 or n > PACKED_MEMBERS or to.n > PACKED_BYTES:
        return 0
    to.p[1] = <char>n
    packed_free(e)
    packed_put(e, to)
    return 1


# ---- both ----------------------------------------------------------------------------------------

cdef inline int may_pack(const Collection *c) noexcept nogil:
    return (c != NULL and c.next == NULL and 0 < c.live <= PACKED_MEMBERS and c.cells == 0
            and c.tombstones == 0 and not c.named
            and (c.type == T_LIST or ((c.type == T_HASH or c.type == T_SET or c.type == T_ZSET)
                                      and table_count(&c.table) == c.live)))


cdef int key_pack(Kernel *k, Element *e) noexcept nogil:
    cdef Collection *c = element_held(e)
    cdef Buffer *b = &k.packing.made
    cdef OrderCursor at
    cdef Block *block
    if is_packed(e):
        return 1
    if not may_pack(c):
        return 0
    packed_head(b, c.type, c.live)
    if c.type == T_LIST:
        block = <Block*>order_at(order_of(c), 0, &at).e
        if block.n != c.live or not pack_block(block, b):
            return 0
    elif not pack_members(c, b):
        return 0
    if b.n > PACKED_BYTES:
        return 0
    collection_free(c)
    packed_put(e, b)
    return 1


cdef Collection *packed_open(Kernel *k, Element *e, Buffer *view) noexcept nogil:
    """What lies packed under e, unpacked; NULL: into allocations of its own."""
    cdef int type = packed_type(e)
    cdef size_t size = sizeof(Collection) + types[type].extra
    cdef Collection *c = <Collection*>view_alloc(view, size)
    cdef Leaf *leaf
    memset(c, 0, size)
    c.type = type
    c.live = packed_n(e)
    if types[type].open != NULL:
        types[type].open(k, c)
    if type == T_LIST:
        leaf = open_leaf(c, 1, view)
        leaf_items(leaf)[0].sort_key = c.live
        leaf_items(leaf)[0].e = <Element*>unpack_block(e, view)
    else:
        unpack_members(k, c, e, view)
    return c


cdef Collection *key_unpack(Kernel *k, Element *e) noexcept nogil:
    cdef Collection *c = packed_open(k, e, NULL)
    mem_free(element_packed(e))
    element_put_collections(e, c)
    return c


cdef char *key_open(Kernel *k, Element *e) noexcept nogil:
    cdef char *p
    if not is_packed(e):
        return NULL
    p = element_packed(e)
    element_put_collections(e, packed_open(k, e, NULL))
    return p


cdef void key_close(Element *e, char *p) noexcept nogil:
    if p != NULL:
        collection_free(element_held(e))
        element_put_collections(e, <Collection*>(p + 2))


cdef Collection *element_collections(Kernel *k, Element *e) noexcept nogil:
    """What key e holds beside a string, the first of it, or NULL."""
    if not is_packed(e):
        return element_held(e)
    pack_later(k, e)
    return key_unpack(k, e)


cdef Collection *element_collection(Kernel *k, Element *e, int type) noexcept nogil:
    """What key e holds of this type, or NULL."""
    cdef Collection *c
    if is_packed(e) and packed_type(e) != type:
        return NULL
    c = element_collections(k, e)
    while c != NULL and c.type != <uint32_t>type:
        c = c.next
    return c


cdef Collection *element_view(Kernel *k, Element *e, int type) noexcept nogil:
    """The same to read it, and no more: what is packed is good until the next command, and is
    unpacked where there is no room for another view, and now and then."""
    cdef Buffer *views = &k.packing.views
    if (not is_packed(e) or packed_type(e) != type or views.n + 2 * VIEW_MOST > VIEWS
            or is_opened_now(k)):
        return element_collection(k, e, type)
    buffer_need(views, VIEWS - views.n)
    return packed_open(k, e, views)


cdef Collection *collection_open(Kernel *k, Element *e, int type) noexcept nogil:
    """The same, of E_ENTRY; a new one where there is none."""
    cdef Collection *c = element_collection(k, e, type)
    cdef const CollectionType *t = &types[type]
    if c == NULL:
        c = <Collection*>mem_zalloc(sizeof(Collection) + t.extra)
        c.type = type
        if t.open != NULL:
            t.open(k, c)
        k.streams.opened += type == T_STREAM
        enter_collection(k, e, c)
        pack_later(k, e)
    return c


cdef void enter_collection(Kernel *k, Element *e, Collection *c) noexcept nogil:
    """Puts a new one under its key: the deadlines of fields right behind their hash, the head of a
    stream right behind that."""
    cdef Collection *first = element_collections(k, e)
    cdef Collection **at = &first
    cdef Collection *hash = element_collection(k, e, T_HASH)
    if c.type == T_DEADLINES and hash != NULL:
        at = &hash.next
    elif c.type == T_STREAM_HEAD:
        at = &element_collection(k, e, T_STREAM).next
    elif c.type == T_GROUPS:
        at = &element_collection(k, e, T_STREAM).next
        if at[0] != NULL and at[0].type == T_STREAM_HEAD:
            at = &at[0].next
    elif c.type == T_HASH:
        while at[0] != NULL and at[0].type != T_DEADLINES:
            at = &at[0].next
    c.next = at[0]
    at[0] = c
    element_put_collections(e, first)
    if c.type == T_DEADLINES:
        fields_of(c).hash = hash
    elif c.type == T_HASH and c.next != NULL:
        fields_of(c.next).hash = c


# ---- when ----------------------------------------------------------------------------------------

cdef void pack_later(Kernel *k, Element *e) noexcept nogil:
    """Key e has been opened, or looked at."""
    cdef Buffer *b = &k.packing.opened
    cdef Opened x
    if (b.n - k.packing.at) // sizeof(Opened) >= PACK_MOST:
        return
    x.e = e
    x.hash = element_hash(k, e)
    x.at = <uint32_t>k.now
    buffer_add(b, &x, sizeof(Opened))


cdef int is_key(Kernel *k, const Opened *x) noexcept nogil:
    """Is the key still there? Those of SYSTEM_DB are looked at every second, and stay open: what
    memory they took each time would evict others' keys."""
    cdef int db
    for db in range(DATABASES):
        if db != SYSTEM_DB and table_holds(&k.db[db].table, x.e, x.hash):
            return 1
    return 0


cdef int pack_due(Kernel *k, int most, size_t kept=PACK_KEPT) noexcept nogil:
    cdef Buffer *b = &k.packing.opened
    cdef size_t end = b.n               # what is put off now is not looked at again
    cdef Opened x
    cdef uint32_t age, after
    cdef int many
    while k.packing.at < end and most > 0:
        memcpy(&x, b.p + k.packing.at, sizeof(Opened))
        many = (b.n - k.packing.at) // sizeof(Opened) > kept
        age = <uint32_t>k.now - x.at
        if not many and age < PACK_AFTER:
            break
        k.packing.at += sizeof(Opened)
        most -= 1
        if not is_key(k, &x) or not x.e.meta & E_ENTRY:
            continue
        # seconds from when it was opened to when somebody came to it
        after = (x.e.meta >> 8) - <uint32_t>((k.now - age) // 1000) & 0xffffff
        if (not many and not k.eviction.policy & EVICT_LFU and 0 < after < 1 << 23) or (
                not key_pack(k, x.e) and k.joining):
            pack_later(k, x.e)
        elif is_packed(x.e):
            most -= <int>packed_n(x.e) >> 3
    if k.packing.at == b.n:
        k.packing.at = b.n = 0
        if b.cap > QUEUE_SLACK:
            buffer_free(b)
    elif k.packing.at > QUEUE_SLACK and k.packing.at > b.n // 2:
        memmove(b.p, b.p + k.packing.at, b.n - k.packing.at)
        b.n -= k.packing.at
        k.packing.at = 0
    return most <= 0

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
# Nothing is changed in this form: whoever asks for the collections of a key by element_collections
# has them unpacked first, and the element stays where it is. A single member is read as it stands
# (packed_member), and so is what is asked of many keys at once: which type, is it live, its memory;
# the digest and the state as bytes unpack and pack again. What was opened or unpacked is
# remembered, and packed when nobody has come to it for PACK_AFTER, or where more than PACK_KEPT
# were opened since (PACK_FEW before any key is evicted for it); never while a command runs. So what
# is in use is as it was, and a form means nothing: packing and unpacking give the same cells.
#
# Not chosen: commands that work on the packed bytes. It would take a second way of doing all that
# a member can undergo, for what unpacking costs: a microsecond for five members.
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


cdef int pack_list(Collection *c, Buffer *to) noexcept nogil:
    """0 where it cannot be."""
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(c), 0, &at)
    cdef Block *b = <Block*>item.e
    cdef Place end
    cdef uint32_t i, begin, n
    cdef char *p
    if item.sort_key != c.live or not block_packed(b) or b.depth != 1:
        return 0
    if b.used - page_begin(b, b.begin) > PACKED_BYTES:
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


cdef void unpack_list(Kernel *k, Collection *c, const char *p, const char *end,
                      uint32_t n) noexcept nogil:
    cdef uint64_t v[6]
    cdef uint64_t size = 0
    cdef int8_t direction = <int8_t>p[0]
    cdef uint8_t stride = <uint8_t>p[1]
    cdef uint32_t i, used = 0
    cdef const char *at
    cdef Block *b
    cdef Item item
    p += 2
    for i in range(6):
        get_varint(&p, end, &v[i])
    at = p
    for i in range(n):
        get_varint(&at, end, &size)
        at += size
        used += <uint32_t>size
    b = <Block*>mem_alloc(sizeof(Block) + ((used + 2 * n + 1) & ~<uint32_t>1))
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
    order_of(c).positions = &k.actors
    item.sort_key = n
    item.e = <Element*>b
    order_insert_at(order_of(c), 0, item)


# ---- tables of members ---------------------------------------------------------------------------

cdef inline int is_integer(double score) noexcept nogil:
    """Is it a whole number, and no -0?"""
    cdef double back = <double><int64_t>score
    return memcmp(&back, &score, sizeof(score)) == 0


cdef int pack_member(Buffer *to, int type, Element *m, uint64_t *dot,
                     uint64_t *stamp) noexcept nogil:
    """0 where it cannot be. Dot and stamp: of the member before."""
    cdef size_t n = element_klen(m), vlen = element_vlen(m)
    cdef uint64_t head = <uint64_t>n << 2
    cdef double score = 0
    cdef int64_t whole
    cdef char *p
    if (m.meta & (E_PLAIN | E_MARKS) != E_PLAIN or (m.meta & E_BARE != 0) != (type == T_SET)
            or n + vlen > PACKED_BYTES):
        return 0
    p = buffer_need(to, 2 * PACKED_HEAD + n + vlen)
    if type == T_HASH and m.meta & E_KEEPS:
        head |= PACKED_SPECIAL
    elif type == T_ZSET:
        memcpy(&score, element_value(m), 8)
        if -1e15 < score < 1e15 and is_integer(score):
            head |= PACKED_SPECIAL
    if m.dot != dot[0] or element_stamp(m) != stamp[0]:
        p = put_varint(p, head | PACKED_OTHER)
        p = put_varint(p, zigzag(<int64_t>(m.dot - dot[0])))
        if type != T_SET:
            p = put_varint(p, zigzag(<int64_t>(element_stamp(m) - stamp[0])))
        dot[0] = m.dot
        stamp[0] = element_stamp(m)
    else:
        p = put_varint(p, head)
    memcpy(p, element_key(m), n)
    p += n
    if type == T_HASH:
        p = put_varint(p, vlen)
        memcpy(p, element_value(m), vlen)
        p += vlen
    elif head & PACKED_SPECIAL:
        p = put_varint(p, zigzag(<int64_t>score))
    elif type == T_ZSET:
        memcpy(p, &score, 8)
        p += 8
    to.n = p - to.p
    return 1


cdef int pack_members(Collection *c, Buffer *to) noexcept nogil:
    """In the order of a sorted set, else in that of the table."""
    cdef OrderCursor at
    cdef Item *item = NULL
    cdef Element *m
    cdef uint64_t dot = 0, stamp = 0
    cdef size_t pos = 0
    if c.type == T_ZSET:
        item = order_at(order_of(c), 0, &at)
        while item != NULL and pack_member(to, T_ZSET, item.e, &dot, &stamp):
            item = order_next(&at)
        return item == NULL
    while True:
        m = table_next(&c.table, &pos)
        if m == NULL:
            return 1
        if not pack_member(to, c.type, m, &dot, &stamp):
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


cdef Element *packed_element(Kernel *k, const PackedMember *m, uint32_t hash) noexcept nogil:
    cdef Element *e = element_new(k, m.name, hash, m.flags, m.value.n)
    e.dot = m.dot
    element_put_stamp(e, m.stamp)
    copy_span(element_value(e), m.value)
    return e


cdef inline void packed_begin(PackedMember *m, const char *p, const char *end) noexcept nogil:
    m.p = p
    m.end = end
    m.dot = m.stamp = 0


cdef void unpack_members(Kernel *k, Collection *c, const char *p, const char *end,
                         uint32_t n) noexcept nogil:
    cdef PackedMember m
    cdef uint32_t i
    cdef Leaf *leaf = NULL
    cdef Element *e
    packed_begin(&m, p, end)
    table_reserve(&c.table, n)
    if c.type == T_ZSET:
        leaf = leaf_new(n)
        leaf.n = n
        order_of(c).root = leaf
        order_of(c).n = n
    for i in range(n):
        packed_next(c.type, &m)
        e = packed_element(k, &m, key_hash(k, m.name.p, m.name.n))
        table_put(&c.table, e)
        if leaf != NULL:
            leaf_items(leaf)[i].sort_key = score_sort_key(m.score)
            leaf_items(leaf)[i].e = e


cdef Element *packed_member(Kernel *k, Element *e, Span name) noexcept nogil:
    """A member under a packed key, to read it: good until the next call. NULL: there is none."""
    cdef PackedMember m
    cdef uint32_t i
    cdef Element **read = &k.packing.read
    packed_begin(&m, element_packed(e) + 2, element_packed(e) + mem_room(element_packed(e)))
    for i in range(<uint32_t>packed_n(e)):
        packed_next(packed_type(e), &m)
        if m.name.n == name.n and memcmp(m.name.p, name.p, name.n) == 0:
            packed_read_free(k)
            read[0] = packed_element(k, &m, 0)
            return read[0]
    return NULL


cdef void packed_read_free(Kernel *k) noexcept nogil:
    if k.packing.read != NULL:
        element_free(k.packing.read)
        k.packing.read = NULL


# ---- both ----------------------------------------------------------------------------------------

cdef inline size_t packed_extra(int type) noexcept nogil:
    """Bytes that follow a Collection."""
    return (sizeof(Order) if type == T_ZSET
            else sizeof(Order) + 2 * sizeof(uint64_t) if type == T_LIST else 0)


cdef inline int may_pack(const Collection *c) noexcept nogil:
    return (c != NULL and c.next == NULL and 0 < c.live <= PACKED_MEMBERS and c.cells == 0
            and c.tombstones == 0 and not c.named
            and (c.type == T_LIST or ((c.type == T_HASH or c.type == T_SET or c.type == T_ZSET)
                                      and table_count(&c.table) == c.live)))


cdef int key_pack(Kernel *k, Element *e) noexcept nogil:
    cdef Collection *c = element_held(e)
    cdef Buffer *b = &k.packing.made
    cdef OrderCursor at
    cdef char head[2]
    cdef char *p
    if is_packed(e):
        return 1
    if not may_pack(c):
        return 0
    head[0] = <char>c.type
    head[1] = <char>c.live
    b.n = 0
    buffer_add(b, head, 2)
    if not (pack_list(c, b) if c.type == T_LIST else pack_members(c, b)) or b.n > PACKED_BYTES:
        return 0
    p = <char*>mem_alloc_kept(b.n)
    memcpy(p, b.p, b.n)
    if c.type == T_LIST:
        block_free(<Block*>order_at(order_of(c), 0, &at).e)
    if c.type == T_LIST or c.type == T_ZSET:
        order_free(order_of(c))
    table_clear(&c.table, free_visited, NULL)
    if c.written != NULL:
        vector_free(c.written)
        mem_free(c.written)
    mem_free(c)
    element_put_collections(e, <Collection*>(p + 2))
    return 1


cdef Collection *key_unpack(Kernel *k, Element *e) noexcept nogil:
    cdef char *p = element_packed(e)
    cdef const char *end = p + mem_room(p)
    cdef Collection *c = <Collection*>mem_zalloc(sizeof(Collection) + packed_extra(p[0]))
    c.type = <uint32_t>p[0]
    c.live = <size_t>p[1]
    if c.type == T_LIST:
        unpack_list(k, c, p + 2, end, <uint32_t>c.live)
    else:
        unpack_members(k, c, p + 2, end, <uint32_t>c.live)
    mem_free(p)
    element_put_collections(e, c)
    return c


cdef int key_open(Kernel *k, Element *e) noexcept nogil:
    if not is_packed(e):
        return 0
    key_unpack(k, e)
    return 1


cdef Collection *element_collections(Kernel *k, Element *e) noexcept nogil:
    """What key e holds beside a string, the first of it, or NULL."""
    if not is_packed(e):
        return element_held(e)
    pack_later(k, e)
    return key_unpack(k, e)


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

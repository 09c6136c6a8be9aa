# cython: language_level=3
"""Reading and writing values in the form in which Redis saves them. The contract is rdb.pxd.

A value is a type byte (which its caller has read) and what follows it. There are two layers:

- Lengths and texts. A length is 1, 2, 5 or 9 bytes, told apart by the upper bits of the first. A
  text is a length and so many bytes, or a number of 8, 16 or 32 bits, or compressed by LZF.
- A collection is either a count and so many texts, or one text that holds a packed form: listpack,
  ziplist, zipmap or intset, each the memory of a Redis server of some age, copied out. Lists since
  3.2 are several such texts, one for each node.

Bytes are hostile. Each read is checked against what is left; a count is never believed before its
elements have been seen, so nothing is allocated for it. The one thing that becomes larger than its
bytes is a compressed text: at best 3 bytes become 264, so a claim of more than 88 times the
compressed size is false, and one of more than RDB_LONGEST is refused.

Packed forms also say things twice (their size, their count, each element's length once more behind
or after it). Redis walks them in both directions and so checks all of it; here the same is refused,
so that what one server refuses the other does too.
"""
from libc.math cimport INFINITY
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int8_t, int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memmove, memset

from crdtredis._core cimport (T_HASH, T_LIST, T_NONE, T_SET, T_STREAM, T_STRING, T_ZSET, StreamId,
                              put_id)
from crdtredis._resp cimport parse_double
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.stream_blocks cimport (BLOCK_BAD, BLOCK_ENTRY, BlockReader, block_begin,
                                               block_element, block_ended, block_free)
from crdtredis.commands.stream_ids cimport GROUP_NAME_MOST, id_order, stream_id
from crdtredis.numbers cimport format_int64, parse_int64

cdef enum:
    TEXT_NUMBER_8 = 0       # what the last 6 bits of a length that is none say
    TEXT_NUMBER_16 = 1
    TEXT_NUMBER_32 = 2
    TEXT_LZF = 3
    LENGTH_32 = 0x80        # the whole first byte of the longer lengths
    LENGTH_64 = 0x81
    NODE_PLAIN = 1          # of a list since 7.0: one element, or a listpack of them
    NODE_PACKED = 2
    SCORE_NAN = 253         # in place of the length of a score's text
    SCORE_INF = 254
    SCORE_MINUS_INF = 255
    DUE_MOST = 0xffffffffffff       # ms: Redis reads no later deadline of a field

# A text that has been read: s points into the bytes read, or to what this holds.
cdef struct Text:
    Span s
    char digits[24]
    Buffer own              # decompressed

cdef struct Reader:
    RdbCursor *at
    int kind                # T_*
    RdbVisit visit
    void *arg
    size_t visited
    # in a packed form: the name of a pair has been read, its value has not; 2: of a field with a
    # deadline both have
    int half
    int triples             # fields with deadlines, packed
    Text name
    Text value
    Text third              # a deadline
    Text packed             # the packed form that name and value lie in
    BlockReader block       # of a stream,
    StreamId first          # its first entry,
    Buffer pending          # of a group of its: RdbPending; those that are taken: deliveries -1
    Buffer owned            # and of a consumer


# ---- numbers as bytes ----------------------------------------------------------------------------
# All are little endian but the lengths; the machines this runs on are little endian.
cdef inline uint64_t little(const unsigned char *p, int n) noexcept nogil:
    cdef uint64_t v = 0
    memcpy(&v, p, n)
    return v


cdef inline int64_t signed_little(const unsigned char *p, int n) noexcept nogil:
    return <int64_t>(little(p, n) << (64 - 8 * n)) >> (64 - 8 * n)


cdef inline uint64_t big(const unsigned char *p, int n) noexcept nogil:
    cdef uint64_t v = 0
    cdef int i
    for i in range(n):
        v = v << 8 | p[i]
    return v


# ---- lengths and texts ---------------------------------------------------------------------------
cdef inline const unsigned char *take(RdbCursor *at, uint64_t n) noexcept nogil:
    """The next n bytes, or NULL where there are not so many."""
    cdef const unsigned char *p = at.p
    if n > at.left:
        return NULL
    at.p += n
    at.left -= n
    return p


cdef int read_length(RdbCursor *at, uint64_t *out, int *special) noexcept nogil:
    """1, or 0 where there is none. `special` (may be NULL: refused) is set for what is not a length
    but says how a text is encoded."""
    cdef const unsigned char *p = take(at, 1)
    cdef unsigned char head
    cdef int more
    if p == NULL:
        return 0
    head = p[0]
    if special != NULL:
        special[0] = head >= 0xc0
    if head >= 0xc0:
        out[0] = head & 0x3f
        return special != NULL
    if head < 0x40:
        out[0] = head
        return 1
    if head < 0x80:
        more = 1
    elif head == LENGTH_32:
        more = 4
    elif head == LENGTH_64:
        more = 8
    else:
        return 0
    p = take(at, more)
    if p == NULL:
        return 0
    out[0] = big(p, more)
    if more == 1:
        out[0] |= <uint64_t>(head & 0x3f) << 8
    return 1


cdef int read_count(RdbCursor *at, uint64_t *out) noexcept nogil:
    """How many elements follow, not 0; each takes a byte at least."""
    return read_length(at, out, NULL) and 0 < out[0] <= at.left


cdef inline void set_number(Text *t, int64_t v) noexcept nogil:
    t.s = span(t.digits, format_int64(v, t.digits))


cdef int read_text(RdbCursor *at, Text *t) noexcept nogil:
    cdef uint64_t n
    cdef int special, size
    cdef const unsigned char *p
    if not read_length(at, &n, &special):
        return 0
    if special and n == TEXT_LZF:
        return read_compressed(at, t)
    if special:
        if n > TEXT_NUMBER_32:
            return 0
        size = 1 << n
        p = take(at, size)
        if p == NULL:
            return 0
        set_number(t, signed_little(p, size))
        return 1
    p = take(at, n)
    if p == NULL or n > RDB_LONGEST:
        return 0
    t.s = span(<const char*>p, n)
    return 1


cdef int read_compressed(RdbCursor *at, Text *t) noexcept nogil:
    cdef uint64_t compressed, n
    cdef const unsigned char *p
    if not read_length(at, &compressed, NULL) or not read_length(at, &n, NULL):
        return 0
    p = take(at, compressed)
    if p == NULL or n > RDB_LONGEST or n > compressed * 88:
        return 0
    if not expand(p, compressed, <unsigned char*>buffer_need(&t.own, n), n):
        return 0
    t.s = span(t.own.p, n)
    return 1


cdef int expand(const unsigned char *p, size_t n, unsigned char *out, size_t size) noexcept nogil:
    """LZF: n bytes that stand for `size`. A byte below 32 is followed by so many bytes and one
    more, to be copied. Another one holds a length (3 bits; 7: a further byte adds to it) and, with
    the byte that follows, how far back that many bytes and two are repeated from."""
    cdef size_t i = 0, o = 0, length, back, k
    cdef unsigned char head
    while i < n:
        head = p[i]
        i += 1
        if head < 32:
            length = head + 1
            if length > n - i or length > size - o:
                return 0
            memcpy(out + o, p + i, length)
            i += length
            o += length
            continue
        length = (head >> 5) + 2
        if length == 9:
            if i == n:
                return 0
            length += p[i]
            i += 1
        if i == n:
            return 0
        back = (<size_t>(head & 31) << 8 | p[i]) + 1
        i += 1
        if back > o or length > size - o:
            return 0
        if back >= length:
            memcpy(out + o, out + o - back, length)
        else:                               # it repeats bytes of its own beginning
            for k in range(length):
                out[o + k] = out[o + k - back]
        o += length
    return o == size


# ---- handing on ----------------------------------------------------------------------------------
cdef inline int hand_on(Reader *r, Span name, Span value) noexcept nogil:
    r.visited += 1
    return r.visit(r.arg, name, value) if r.at.due <= <int64_t>DUE_MOST else RDB_BAD


cdef inline int hand_on_score(Reader *r, double score) noexcept nogil:
    """With r.name."""
    if score != score:
        return RDB_BAD
    score += 0.0                            # a stored zero has no sign
    return hand_on(r, r.name.s, span(<const char*>&score, sizeof(double)))


cdef int packed_entry(Reader *r, Span s) noexcept nogil:
    """One entry of a packed form: an element, or half of one."""
    cdef double score
    if r.kind == T_STREAM:
        return stream_element(r, s)
    if r.kind == T_LIST:
        return hand_on(r, span(NULL, 0), s)
    if r.kind == T_SET:
        return hand_on(r, s, span(NULL, 0))
    if r.triples and r.half == 1:
        r.half = 2
        r.value.s = s
        return RDB_GOOD
    if r.half == 2:
        r.half = 0
        if not parse_int64(s.p, s.n, &r.at.due) or r.at.due < 0:
            return RDB_BAD
        return hand_on(r, r.name.s, r.value.s)
    r.half = not r.half
    if r.half:
        r.name.s = s
        return RDB_GOOD
    if r.kind == T_HASH:
        return hand_on(r, r.name.s, s)
    return hand_on_score(r, score) if parse_double(s.p, s.n, &score) else RDB_BAD


cdef int stream_element(Reader *r, Span s) noexcept nogil:
    cdef char name[16]
    cdef int step = block_element(&r.block, s)
    if step == BLOCK_ENTRY:
        if r.visited == 0:
            r.first = r.block.id
        put_id(name, r.block.id)
        return hand_on(r, span(name, 16), span(r.block.fields.p, r.block.fields.n))
    return RDB_BAD if step == BLOCK_BAD else RDB_GOOD


cdef int packed_number(Reader *r, int64_t v) noexcept nogil:
    cdef Text *t = &r.value if r.half == 1 else &r.third if r.half else &r.name
    set_number(t, v)
    return packed_entry(r, t.s)


# ---- packed forms --------------------------------------------------------------------------------
cdef int read_listpack(Reader *r, Span packed) noexcept nogil:
    """Size (4 bytes), count (2; 65535: unknown), entries, 255. An entry: a head that tells kind and
    length, bytes, and the size of both in 7 bits a byte, to be read backwards."""
    cdef const unsigned char *p = <const unsigned char*>packed.p
    cdef const unsigned char *end
    cdef uint64_t said, count = 0, size
    cdef unsigned char head
    cdef size_t left
    cdef int before, back, status
    if packed.n < 7 or little(p, 4) != packed.n or p[packed.n - 1] != 255:
        return RDB_BAD
    end = p + packed.n - 1
    said = little(p + 4, 2)
    p += 6
    while p < end:
        head = p[0]
        left = end - p
        before = 1                          # bytes before a string
        if head < 0x80:
            size = 1
        elif head < 0xc0:
            size = 1 + (head & 0x3f)
        elif head < 0xe0:
            size = 2
        elif head < 0xf0:
            if left < 2:
                return RDB_BAD
            before = 2
            size = 2 + (<uint64_t>(head & 0x0f) << 8 | p[1])
        elif head == 0xf0:
            if left < 5:
                return RDB_BAD
            before = 5
            size = 5 + little(p + 1, 4)
        elif head <= 0xf4:
            size = 9 if head == 0xf4 else head - 0xee
        else:
            return RDB_BAD
        back = (1 if size <= 127 else 2 if size < 16383 else 3 if size < 2097151 else 4
                if size < 268435455 else 5)
        if size > left or <size_t>back > left - size or not backwards(p + size, back, size):
            return RDB_BAD
        if head < 0x80:
            status = packed_number(r, head)
        elif head < 0xc0 or 0xe0 <= head <= 0xf0:
            status = packed_entry(r, span(<const char*>p + before, size - before))
        elif head < 0xe0:
            status = packed_number(r, <int64_t>((<uint64_t>(head & 0x1f) << 8 | p[1]) << 51) >> 51)
        else:
            status = packed_number(r, signed_little(p + 1, <int>size - 1))
        if status != RDB_GOOD:
            return status
        count += 1
        p += size + back
    return RDB_GOOD if said == count or said == 65535 else RDB_BAD


cdef int backwards(const unsigned char *p, int n, uint64_t size) noexcept nogil:
    """Do the n bytes at p, read from the last on, say `size`? All but the first have their upper
    bit set."""
    cdef uint64_t v = 0
    cdef int i
    for i in range(n):
        if (p[i] >= 128) != (i > 0):
            return 0
        v = v << 7 | (p[i] & 127)
    return v == size


cdef int read_ziplist(Reader *r, Span packed) noexcept nogil:
    """Size (4 bytes), where the last entry is (4), count (2; 65535: unknown), entries, 255. An
    entry: the size of the one before it (1 byte, or 254 and 4), a head that tells kind and length,
    bytes."""
    cdef const unsigned char *begin = <const unsigned char*>packed.p
    cdef const unsigned char *end
    cdef const unsigned char *p
    cdef const unsigned char *entry = NULL
    cdef uint64_t said, count = 0, before = 0, n
    cdef unsigned char head
    cdef int status
    if (packed.n < 11 or little(begin, 4) != packed.n or begin[packed.n - 1] != 255
        or little(begin + 4, 4) > packed.n - 1):
        return RDB_BAD
    end = begin + packed.n - 1
    p = begin + 10
    said = little(begin + 8, 2)
    while p < end:
        entry = p
        if p[0] < 254:
            n = p[0]
            p += 1
        elif p[0] == 254 and end - p > 5:
            n = little(p + 1, 4)
            p += 5
        else:
            return RDB_BAD
        if n != before or p == end:
            return RDB_BAD
        head = p[0]
        p += 1
        if head < 0xc0:
            n = head & 0x3f
            if head >= 0x80:
                if end - p < 4:
                    return RDB_BAD
                n = big(p, 4)
                p += 4
            elif head >= 0x40:
                if p == end:
                    return RDB_BAD
                n = n << 8 | p[0]
                p += 1
            if n > <uint64_t>(end - p):
                return RDB_BAD
            status = packed_entry(r, span(<const char*>p, n))
        elif 0xf1 <= head <= 0xfd:
            n = 0
            status = packed_number(r, head - 0xf1)
        else:
            n = (1 if head == 0xfe else 2 if head == 0xc0 else 3 if head == 0xf0 else 4
                 if head == 0xd0 else 8 if head == 0xe0 else 0)
            if n == 0 or n > <uint64_t>(end - p):
                return RDB_BAD
            status = packed_number(r, signed_little(p, <int>n))
        if status != RDB_GOOD:
            return status
        p += n
        before = p - entry
        count += 1
    if entry != NULL and entry != begin + little(begin + 4, 4):
        return RDB_BAD
    return RDB_GOOD if said == count or said == 65535 else RDB_BAD


cdef int zipmap_length(RdbCursor *at, uint64_t *out) noexcept nogil:
    """1 byte, or 254 and 4."""
    cdef const unsigned char *p = take(at, 1)
    if p == NULL or p[0] == 255:
        return 0
    out[0] = p[0]
    if p[0] == 254:
        p = take(at, 4)
        if p == NULL:
            return 0
        out[0] = little(p, 4)
        # Redis steps over it by the length it would have written
        return out[0] >= 254
    return 1


cdef int read_zipmap(Reader *r, Span packed) noexcept nogil:
    """Count (1 byte; 254 and above: unknown), pairs, 255. A pair: name, value, each after its
    length, and between the value's length and the value a byte that tells how many unused ones
    follow it."""
    cdef RdbCursor at
    cdef const unsigned char *p
    cdef uint64_t said, count = 0, n
    cdef Span name
    cdef unsigned char unused
    cdef int status
    if packed.n < 2 or <unsigned char>packed.p[packed.n - 1] != 255:
        return RDB_BAD
    at.p = <const unsigned char*>packed.p + 1
    at.left = packed.n - 2
    said = <unsigned char>packed.p[0]
    while at.left:
        if not zipmap_length(&at, &n):
            return RDB_BAD
        p = take(&at, n)
        if p == NULL:
            return RDB_BAD
        name = span(<const char*>p, n)
        if not zipmap_length(&at, &n):
            return RDB_BAD
        p = take(&at, 1)
        if p == NULL:
            return RDB_BAD
        unused = p[0]
        p = take(&at, n)
        if p == NULL or take(&at, unused) == NULL:
            return RDB_BAD
        status = hand_on(r, name, span(<const char*>p, n))
        if status != RDB_GOOD:
            return status
        count += 1
    return RDB_GOOD if said == count or said >= 254 else RDB_BAD


cdef int read_intset(Reader *r, Span packed) noexcept nogil:
    """Bytes of each number (4 bytes), count (4), the numbers in ascending order."""
    cdef const unsigned char *p = <const unsigned char*>packed.p
    cdef uint64_t size, count, i
    cdef int64_t v, last = 0
    cdef int status
    if packed.n < 8:
        return RDB_BAD
    size = little(p, 4)
    count = little(p + 4, 4)
    if ((size != 2 and size != 4 and size != 8) or count != (packed.n - 8) // size
        or (packed.n - 8) % size):
        return RDB_BAD
    p += 8
    for i in range(count):
        v = signed_little(p + i * size, <int>size)
        if i and v <= last:
            return RDB_BAD
        last = v
        status = packed_number(r, v)
        if status != RDB_GOOD:
            return status
    return RDB_GOOD


# ---- values --------------------------------------------------------------------------------------
cdef int rdb_kind(int type) noexcept nogil:
    if type == RDB_STRING:
        return T_STRING
    if (type == RDB_LIST or type == RDB_LIST_ZIPLIST or type == RDB_LIST_QUICKLIST
        or type == RDB_LIST_QUICKLIST_2):
        return T_LIST
    if type == RDB_SET or type == RDB_SET_INTSET or type == RDB_SET_LISTPACK:
        return T_SET
    if (type == RDB_ZSET or type == RDB_ZSET_2 or type == RDB_ZSET_ZIPLIST
        or type == RDB_ZSET_LISTPACK):
        return T_ZSET
    if (type == RDB_HASH or type == RDB_HASH_ZIPMAP or type == RDB_HASH_ZIPLIST
        or type == RDB_HASH_LISTPACK or type == RDB_HASH_DUE or type == RDB_HASH_LISTPACK_DUE
        or type == RDB_HASH_VALKEY):
        return T_HASH
    if type == RDB_STREAM or type == RDB_STREAM_2 or type == RDB_STREAM_3:
        return T_STREAM
    return T_NONE


cdef int rdb_read(RdbCursor *at, int type, RdbVisit visit, void *arg) noexcept nogil:
    cdef Reader r
    cdef int status
    memset(&r, 0, sizeof(Reader))
    r.at = at
    r.kind = rdb_kind(type)
    r.visit = visit
    r.arg = arg
    at.due = 0
    at.part = RDB_ELEMENT
    if (type == RDB_STRING or type == RDB_LIST or type == RDB_SET or type == RDB_HASH
        or type == RDB_ZSET or type == RDB_ZSET_2):
        status = read_elements(&r, type)
    elif type == RDB_LIST_QUICKLIST or type == RDB_LIST_QUICKLIST_2:
        status = read_quicklist(&r, type)
    elif type == RDB_HASH_DUE or type == RDB_HASH_VALKEY:
        status = read_fields(&r, type)
    elif r.kind == T_STREAM:
        status = read_stream(&r, type)
    elif (r.kind != T_NONE and (type != RDB_HASH_LISTPACK_DUE or take(at, 8) != NULL)
            and read_text(at, &r.packed)):
        r.triples = type == RDB_HASH_LISTPACK_DUE
        status = read_packed(&r, type)
    else:
        status = RDB_BAD
    if status == RDB_GOOD and ((r.visited == 0 and r.kind != T_STREAM) or r.half):
        status = RDB_BAD
    buffer_free(&r.name.own)
    buffer_free(&r.value.own)
    buffer_free(&r.third.own)
    buffer_free(&r.packed.own)
    buffer_free(&r.pending)
    buffer_free(&r.owned)
    block_free(&r.block)
    return status


cdef int read_elements(Reader *r, int type) noexcept nogil:
    """A count and so many elements; a string is one without a count."""
    cdef uint64_t count = 1
    cdef double score
    cdef int status
    if type != RDB_STRING and not read_count(r.at, &count):
        return RDB_BAD
    while count:
        count -= 1
        if r.kind != T_STRING and r.kind != T_LIST and not read_text(r.at, &r.name):
            return RDB_BAD
        if r.kind == T_ZSET:
            if not (read_score(r.at, &score) if type == RDB_ZSET_2
                    else read_score_text(r.at, &score)):
                return RDB_BAD
            status = hand_on_score(r, score)
        else:
            if r.kind != T_SET and not read_text(r.at, &r.value):
                return RDB_BAD
            status = hand_on(r, r.name.s, r.value.s)
        if status != RDB_GOOD:
            return status
    return RDB_GOOD


cdef int read_fields(Reader *r, int type) noexcept nogil:
    """The earliest deadline (8 bytes), a count, and so many fields: how much later its deadline is,
    and 1 more (0: it has none), name, value. Valkey's: a count, and so many fields: name, value,
    deadline (8 bytes; -1: it has none)."""
    cdef const unsigned char *p = NULL
    cdef uint64_t count = 0, later = 0
    cdef int64_t first = 0
    cdef int status
    if type == RDB_HASH_DUE:
        p = take(r.at, 8)
        if p == NULL:
            return RDB_BAD
        first = signed_little(p, 8)
    if not read_count(r.at, &count) or first < 0:
        return RDB_BAD
    while count:
        count -= 1
        if ((type == RDB_HASH_DUE and (not read_length(r.at, &later, NULL) or later > DUE_MOST
                                       or first > DUE_MOST))
                or not read_text(r.at, &r.name) or not read_text(r.at, &r.value)):
            return RDB_BAD
        if type == RDB_HASH_DUE:
            r.at.due = first + <int64_t>later - 1 if later else 0
        else:
            p = take(r.at, 8)
            r.at.due = signed_little(p, 8) if p != NULL else 0
            if p == NULL or r.at.due < -1 or r.at.due == 0:
                return RDB_BAD
            r.at.due = max(r.at.due, <int64_t>0)
        status = hand_on(r, r.name.s, r.value.s)
        if status != RDB_GOOD:
            return status
    return RDB_GOOD


cdef int read_stream_id(RdbCursor *at, StreamId *id) noexcept nogil:
    return read_length(at, &id.ms, NULL) and read_length(at, &id.seq, NULL)


cdef int read_blocks(Reader *r) noexcept nogil:
    """A count and so many blocks, each behind its id."""
    cdef uint64_t count
    cdef const unsigned char *p
    cdef int status
    if not read_length(r.at, &count, NULL):
        return RDB_BAD
    while count:
        count -= 1
        if not read_text(r.at, &r.name) or r.name.s.n != 16:
            return RDB_BAD
        p = <const unsigned char*>r.name.s.p
        block_begin(&r.block, stream_id(big(p, 8), big(p + 8, 8)))
        if not read_text(r.at, &r.packed):
            return RDB_BAD
        status = read_listpack(r, r.packed.s)
        if status != RDB_GOOD:
            return status
        if not block_ended(&r.block):
            return RDB_BAD
    return RDB_GOOD


cdef int64_t read_by_then(const Reader *r, uint64_t n, StreamId last) noexcept nogil:
    """entries-read of a group in the oldest form, which does not say it, as Redis takes it to be;
    n: entries."""
    cdef int order = id_order(last, r.at.top)
    if n == 0 or order >= 0:
        return 0 if n == 0 else <int64_t>n if order == 0 else -1
    order = id_order(last, r.first)
    return -1 if order > 0 else order + 1


cdef int by_id(const void *a, const void *b) noexcept nogil:
    return id_order((<const RdbPending*>a).id, (<const RdbPending*>b).id)


cdef int read_pending(Reader *r) noexcept nogil:
    """A count and so many: id (16 bytes, big endian), time (8), number of deliveries. Into
    r.pending, in order."""
    cdef uint64_t n, i, deliveries
    cdef const unsigned char *p
    cdef RdbPending x
    cdef RdbPending *v
    cdef int ordered = 1
    r.pending.n = 0
    if not read_length(r.at, &n, NULL) or n > r.at.left // 25:
        return RDB_BAD
    for i in range(n):
        p = take(r.at, 24)
        if p == NULL or not read_length(r.at, &deliveries, NULL):
            return RDB_BAD
        x.id = stream_id(big(p, 8), big(p + 8, 8))
        x.at = signed_little(p + 16, 8)
        x.deliveries = <int64_t>min(deliveries, <uint64_t>INT64_MAX)
        v = <RdbPending*>r.pending.p + i
        ordered &= i == 0 or id_order((v - 1).id, x.id) < 0
        buffer_add(&r.pending, &x, sizeof(RdbPending))
    v = <RdbPending*>r.pending.p
    if not ordered:
        qsort(v, n, sizeof(RdbPending), by_id)
        for i in range(1, n):
            if id_order(v[i - 1].id, v[i].id) == 0:
                return RDB_BAD
    return RDB_GOOD


cdef int take_pending(Reader *r, StreamId id) noexcept nogil:
    """Appends to r.owned the entry of r.pending that has this id, which is no other's then; 0:
    there is none."""
    cdef RdbPending *v = <RdbPending*>r.pending.p
    cdef size_t low = 0, high = r.pending.n // sizeof(RdbPending), middle
    while low < high:
        middle = (low + high) // 2
        if id_order(v[middle].id, id) < 0:
            low = middle + 1
        else:
            high = middle
    if (low == r.pending.n // sizeof(RdbPending) or id_order(v[low].id, id)
            or v[low].deliveries < 0):
        return 0
    buffer_add(&r.owned, &v[low], sizeof(RdbPending))
    v[low].deliveries = -1
    return 1


cdef int read_consumer(Reader *r, int type, size_t *owned) noexcept nogil:
    """Name, when it was seen (8 bytes), in the newest form when it was active (8), a count and so
    many ids of the group's pending entries."""
    cdef RdbConsumer x
    cdef uint64_t n, i
    cdef const unsigned char *p
    if not read_text(r.at, &r.value) or r.value.s.n > GROUP_NAME_MOST:
        return RDB_BAD
    p = take(r.at, 16 if type == RDB_STREAM_3 else 8)
    if p == NULL or not read_length(r.at, &n, NULL) or n > r.at.left // 16:
        return RDB_BAD
    x.seen = signed_little(p, 8)
    x.active = signed_little(p + 8, 8) if type == RDB_STREAM_3 else x.seen
    r.owned.n = 0
    buffer_add(&r.owned, &x, sizeof(RdbConsumer))
    for i in range(n):
        p = take(r.at, 16)
        if not take_pending(r, stream_id(big(p, 8), big(p + 8, 8))):
            return RDB_BAD
    owned[0] += n
    r.at.part = RDB_CONSUMER
    return r.visit(r.arg, r.value.s, span(r.owned.p, r.owned.n))


cdef int read_group(Reader *r, int type, uint64_t entries) noexcept nogil:
    """Name, last-delivered-id, in newer forms entries-read, pending entries; a count and so many
    consumers."""
    cdef RdbGroup x
    cdef uint64_t n
    cdef size_t owned = 0
    cdef int status
    if (not read_text(r.at, &r.name) or r.name.s.n > GROUP_NAME_MOST
            or not read_stream_id(r.at, &x.last)):
        return RDB_BAD
    if type == RDB_STREAM:
        x.read = read_by_then(r, entries, x.last)
    elif read_length(r.at, &n, NULL):
        x.read = max(<int64_t>n, <int64_t>-1)
    else:
        return RDB_BAD
    r.at.part = RDB_GROUP
    status = r.visit(r.arg, r.name.s, span(<const char*>&x, sizeof(RdbGroup)))
    if status == RDB_GOOD:
        status = read_pending(r)
    if status == RDB_GOOD and not read_length(r.at, &n, NULL):
        status = RDB_BAD
    while status == RDB_GOOD and n:
        n -= 1
        status = read_consumer(r, type, &owned)
    if status == RDB_GOOD and owned != r.pending.n // sizeof(RdbPending):
        status = RDB_BAD
    return status


cdef int read_stream(Reader *r, int type) noexcept nogil:
    """Blocks, the number of entries, the last generated id, in newer forms the first id, the
    greatest removed one and how many entries were added; then a count and so many groups."""
    cdef RdbCursor *at = r.at
    cdef uint64_t n, groups
    cdef StreamId first
    cdef int status = read_blocks(r)
    if status != RDB_GOOD:
        return status
    if not read_length(at, &n, NULL) or not read_stream_id(at, &at.top):
        return RDB_BAD
    at.max_deleted = stream_id(0, 0)
    at.added = n
    if type != RDB_STREAM and not (read_stream_id(at, &first)
                                   and read_stream_id(at, &at.max_deleted)
                                   and read_length(at, &at.added, NULL)):
        return RDB_BAD
    if (n != r.visited or id_order(at.top, r.block.last) < 0 or at.added > <uint64_t>INT64_MAX
            or not read_length(at, &groups, NULL)):
        return RDB_BAD
    while status == RDB_GOOD and groups:
        groups -= 1
        status = read_group(r, type, n)
    return status


cdef int read_score(RdbCursor *at, double *out) noexcept nogil:
    cdef const unsigned char *p = take(at, sizeof(double))
    if p == NULL:
        return 0
    memcpy(out, p, sizeof(double))
    return 1


cdef int read_score_text(RdbCursor *at, double *out) noexcept nogil:
    cdef const unsigned char *p = take(at, 1)
    cdef int n
    if p == NULL or p[0] == SCORE_NAN:
        return 0
    n = p[0]
    if n == SCORE_INF or n == SCORE_MINUS_INF:
        out[0] = INFINITY if n == SCORE_INF else -INFINITY
        return 1
    p = take(at, n)
    return p != NULL and parse_double(<const char*>p, n, out)


cdef int read_quicklist(Reader *r, int type) noexcept nogil:
    cdef uint64_t count, container = NODE_PACKED
    cdef int status
    if not read_count(r.at, &count):
        return RDB_BAD
    while count:
        count -= 1
        if (type == RDB_LIST_QUICKLIST_2 and not (read_length(r.at, &container, NULL)
                                                  and NODE_PLAIN <= container <= NODE_PACKED)):
            return RDB_BAD
        if not read_text(r.at, &r.packed) or r.packed.s.n == 0:
            return RDB_BAD
        if container == NODE_PLAIN:
            status = hand_on(r, span(NULL, 0), r.packed.s)
        elif type == RDB_LIST_QUICKLIST_2:
            status = read_listpack(r, r.packed.s)
        else:
            status = read_ziplist(r, r.packed.s)
        if status != RDB_GOOD:
            return status
    return RDB_GOOD


cdef int read_packed(Reader *r, int type) noexcept nogil:
    if type == RDB_HASH_ZIPMAP:
        return read_zipmap(r, r.packed.s)
    if type == RDB_SET_INTSET:
        return read_intset(r, r.packed.s)
    if type == RDB_LIST_ZIPLIST or type == RDB_ZSET_ZIPLIST or type == RDB_HASH_ZIPLIST:
        return read_ziplist(r, r.packed.s)
    return read_listpack(r, r.packed.s)


# ---- version and checksum ------------------------------------------------------------------------
# CRC-64 with Jones's polynomial, reflected, from 0 and not inverted. REMAINDERS[i][b]: of byte b
# with i zero bytes behind it.
cdef uint64_t REMAINDERS[8][256]


cdef void make_remainders() noexcept nogil:
    cdef uint64_t v
    cdef int i, k
    for i in range(256):
        v = i
        for k in range(8):
            v = v >> 1 ^ (<uint64_t>0x95ac9329ac4bc9b5 if v & 1 else 0)
        REMAINDERS[0][i] = v
    for k in range(1, 8):
        for i in range(256):
            v = REMAINDERS[k - 1][i]
            REMAINDERS[k][i] = v >> 8 ^ REMAINDERS[0][v & 255]


make_remainders()


cdef uint64_t rdb_checksum(uint64_t before, Span s) noexcept nogil:
    """Eight bytes at a time."""
    cdef const unsigned char *p = <const unsigned char*>s.p
    cdef size_t n = s.n
    cdef uint64_t v = before
    cdef int i
    while n >= 8:
        v ^= little(p, 8)
        v = (REMAINDERS[7][v & 255] ^ REMAINDERS[6][v >> 8 &
                                                    255] ^ REMAINDERS[5][
                                                        v >> 16 &
                                                        255] ^ REMAINDERS[4][v >> 24 & 255]
             ^ REMAINDERS[3][v >> 32 & 255] ^ REMAINDERS[2][v >> 40 &
                                                            255] ^ REMAINDERS[1][
                                                                v >> 48 &
                                                                255] ^ REMAINDERS[0][v >> 56])
        p += 8
        n -= 8
    for i in range(<int>n):
        v = v >> 8 ^ REMAINDERS[0][(v ^ p[i]) & 255]
    return v


cdef int rdb_sealed(Span payload) noexcept nogil:
    cdef const unsigned char *trailer
    cdef int version
    if payload.n < RDB_TRAILER:
        return 0
    trailer = <const unsigned char*>payload.p + payload.n - RDB_TRAILER
    version = <int>little(trailer, 2)
    if version != RDB_VALKEY if payload.p[0] == RDB_HASH_VALKEY else (
            version > RDB_NEWEST and version != RDB_VALKEY):
        return 0
    return little(trailer + 2, 8) == rdb_checksum(0, span(payload.p, payload.n - 8))


cdef void rdb_seal(Buffer *b, int version) noexcept nogil:
    cdef uint16_t v = <uint16_t>version
    cdef uint64_t sum
    buffer_add(b, &v, 2)
    sum = rdb_checksum(0, span(b.p, b.n))
    buffer_add(b, &sum, 8)


def sealed(bytes value, int version=0):
    """A value with its type byte, as bytes -> what RESTORE takes: version (0: one that has the
    type) and checksum appended."""
    cdef Buffer b
    memset(&b, 0, sizeof(Buffer))
    if version == 0:
        version = RDB_VALKEY if value and value[0] == RDB_HASH_VALKEY else RDB_WRITTEN
    buffer_add(&b, <const char*>value, len(value))
    rdb_seal(&b, version)
    try:
        return b.p[:b.n]
    finally:
        buffer_free(&b)


# ---- for Python: files ---------------------------------------------------------------------------
cdef RdbCursor cursor(const unsigned char[::1] data, size_t at) except *:
    cdef RdbCursor c
    if at > <size_t>len(data):
        raise ValueError("behind the end")
    c.left = <size_t>len(data) - at
    c.p = &data[at] if c.left else NULL
    return c


def length_at(const unsigned char[::1] data, size_t at):
    """(length, where it ends). ValueError where there is none."""
    cdef RdbCursor c = cursor(data, at)
    cdef uint64_t n
    if not read_length(&c, &n, NULL):
        raise ValueError("no length")
    return n, <size_t>len(data) - c.left


def text_at(const unsigned char[::1] data, size_t at):
    """(text, where it ends). ValueError where there is none."""
    cdef RdbCursor c = cursor(data, at)
    cdef Text text
    memset(&text, 0, sizeof(Text))
    try:
        if not read_text(&c, &text):
            raise ValueError("no text")
        return text.s.p[:text.s.n], <size_t>len(data) - c.left
    finally:
        buffer_free(&text.own)


cdef int pass_over(void *arg, Span name, Span value) noexcept nogil:
    return RDB_GOOD


def value_end(const unsigned char[::1] data, size_t at, int type):
    """Where the value that begins at `at`, behind its type byte, ends. ValueError where it is none
    of this type, NotImplementedError for types that RESTORE does not take."""
    cdef RdbCursor c = cursor(data, at)
    cdef int status
    if rdb_kind(type) == T_NONE:
        raise NotImplementedError(type)
    with nogil:
        status = rdb_read(&c, type, pass_over, NULL)
    if status != RDB_GOOD:
        raise ValueError("the value is damaged")
    return <size_t>len(data) - c.left


cdef int gather(void *all, Span name, Span value) noexcept with gil:
    (<list>all).append((name.p[:name.n], value.p[:value.n]))
    return RDB_GOOD


def elements(const unsigned char[::1] data, size_t at, int type):
    """[(name, value)], as RdbVisit has them, of the value that begins at `at`, behind its type
    byte. ValueError."""
    cdef RdbCursor c = cursor(data, at)
    cdef list found = []
    if rdb_read(&c, type, gather, <void*>found) != RDB_GOOD:
        raise ValueError("the value is damaged")
    return found


def crc64(const unsigned char[::1] data):
    """The checksum of all of it, as a file or a dumped value ends in."""
    cdef uint64_t sum
    cdef Span all = span(<const char*>&data[0], <size_t>len(data)) if len(data) else span(NULL, 0)
    with nogil:
        sum = rdb_checksum(0, all)
    return sum


# ---- writing -------------------------------------------------------------------------------------
cdef enum:
    SHORTEST_COMPRESSED = 21    # bytes of a text for which compression is tried, as in Redis
    LONGEST_REPEAT = 264
    FARTHEST_REPEAT = 8192
    MOST_PLACES = 1 << 13
    HEAD_ROOM = 32              # bytes: more than a compressed text's head has


cdef void rdb_put_length(Buffer *b, uint64_t n) noexcept nogil:
    cdef unsigned char *p = <unsigned char*>buffer_need(b, 9)
    cdef int bytes_more = 0, i
    if n < 1 << 6:
        p[0] = <unsigned char>n
    elif n < 1 << 14:
        p[0] = <unsigned char>(0x40 | n >> 8)
        bytes_more = 1
    elif n <= <uint64_t>0xffffffff:
        p[0] = LENGTH_32
        bytes_more = 4
    else:
        p[0] = LENGTH_64
        bytes_more = 8
    for i in range(bytes_more):
        p[1 + i] = <unsigned char>(n >> 8 * (bytes_more - 1 - i))
    b.n += 1 + bytes_more


cdef void rdb_put_double(Buffer *b, double v) noexcept nogil:
    buffer_add(b, &v, sizeof(double))


cdef void rdb_put_text(Buffer *b, Span text) noexcept nogil:
    cdef int64_t v
    cdef int size
    cdef char *p
    if text.n <= 11 and parse_int64(text.p, text.n, &v) and v == <int32_t>v:
        size = 1 if v == <int8_t>v else 2 if v == <int16_t>v else 4
        p = buffer_need(b, 5)
        p[0] = <char>(0xc0 | (TEXT_NUMBER_8 if size == 1 else TEXT_NUMBER_16 if size == 2
                              else TEXT_NUMBER_32))
        memcpy(p + 1, &v, size)
        b.n += 1 + size
    elif text.n < SHORTEST_COMPRESSED or not put_compressed(b, text):
        rdb_put_length(b, text.n)
        buffer_add(b, text.p, text.n)


cdef int put_compressed(Buffer *b, Span text) noexcept nogil:
    """Appends text as LZF and returns 1, or leaves b alone where that is not shorter."""
    # The lengths come first, but how long the compressed text is shows last: it is moved up to
    # them.
    cdef char *out = buffer_need(b, HEAD_ROOM + text.n)
    cdef size_t n = compress(<const unsigned char*>text.p, text.n, <unsigned char*>out + HEAD_ROOM,
                             text.n - 7)
    if n == 0:
        return 0
    out[0] = <char>(0xc0 | TEXT_LZF)
    b.n += 1
    rdb_put_length(b, n)
    rdb_put_length(b, text.n)
    memmove(b.p + b.n, out + HEAD_ROOM, n)
    b.n += n
    return 1


cdef size_t compress(const unsigned char *p, size_t n, unsigned char *out,
                     size_t most) noexcept nogil:
    """LZF, see expand: how many bytes it took, 0 for more than `most`. Repetitions are looked for
    at the last place where the same three bytes stood, or others of the same hash."""
    cdef uint32_t places[MOST_PLACES]       # + 1; 0: none
    cdef int bits = 6
    cdef size_t i = 0, o = 0, plain = 0, at, length, longest, size
    cdef uint32_t h
    while bits < 13 and n >> bits:
        bits += 1
    memset(places, 0, sizeof(uint32_t) << bits)
    while i + 3 <= n:
        h = <uint32_t>(((<uint32_t>p[i] << 16 | <uint32_t>p[i + 1] << 8 | p[i + 2]) * <
                        uint32_t>2654435761) >> (32 - bits))
        at = places[h]
        places[h] = <uint32_t>i + 1
        if at == 0 or i - at >= FARTHEST_REPEAT or memcmp(p + at - 1, p + i, 3) != 0:
            i += 1
            continue
        longest = min(n - i, <size_t>LONGEST_REPEAT)
        length = 3
        while length < longest and p[at - 1 + length] == p[i + length]:
            length += 1
        if not put_plain(p, plain, i, out, &o, most) or most - o < 3:
            return 0
        at = i - at                         # how far back, less 1
        size = length - 2
        out[o] = <unsigned char>((size if size < 7 else 7) << 5 | at >> 8)
        o += 1
        if size >= 7:
            out[o] = <unsigned char>(size - 7)
            o += 1
        out[o] = <unsigned char>at
        o += 1
        i += length
        plain = i
    return o if put_plain(p, plain, n, out, &o, most) else 0


cdef int put_plain(const unsigned char *p, size_t begin, size_t end, unsigned char *out, size_t *o,
                   size_t most) noexcept nogil:
    cdef size_t n
    while begin < end:
        n = min(end - begin, <size_t>32)
        if n + 1 > most - o[0]:
            return 0
        out[o[0]] = <unsigned char>(n - 1)
        memcpy(out + o[0] + 1, p + begin, n)
        o[0] += n + 1
        begin += n
    return 1

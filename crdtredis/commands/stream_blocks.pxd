# The packed blocks in which Redis saves the entries of a stream: listpacks, read element by element
# and written. Header only: all functions are inline.
#
#     block     entries, removed entries, n, the n names that most have, 0; then for each entry
#     entry     flags (1: removed, 2: it has just these names), id less the block's as ms and seq,
#               values; or their number, and name and value of each; how many elements these are
#
# The block's id stands before it. All is checked; a count is believed when its elements have come.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from crdtredis._core cimport StreamId
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.stream_ids cimport (id_order, put_text, put_varint, stream_id, take_pairs,
                                            take_text)
from crdtredis.numbers cimport parse_int64

cdef enum:
    ENTRY_REMOVED = 1
    ENTRY_SAME = 2
    BLOCK_ENTRIES = 100         # of a block that is written
    BLOCK_BYTES = 4096          # ... of names and values: behind so many no entry is added

cdef enum BlockStage:
    BLOCK_LIVE
    BLOCK_GONE
    BLOCK_COUNT
    BLOCK_NAMES
    BLOCK_ZERO
    ENTRY_FLAGS
    ENTRY_MS
    ENTRY_SEQ
    ENTRY_COUNT
    ENTRY_TEXTS
    ENTRY_SIZE

cdef enum BlockStep:
    BLOCK_BAD = -1
    BLOCK_MORE = 0
    BLOCK_ENTRY = 1             # an entry has been read: id, fields

cdef struct BlockReader:
    StreamId first              # the block's id
    StreamId last               # of the last entry read; 0-0: none, in any block
    BlockStage stage
    int64_t live                # entries that are still to come
    int64_t gone
    int64_t names_n
    Buffer names                # each behind its length
    # the entry under way
    int64_t flags
    StreamId id
    int64_t left                # texts that are still to come
    int64_t elements            # that it has had
    Span name                   # with ENTRY_SAME: the next names
    Buffer fields


cdef inline void block_begin(BlockReader *r, StreamId first) noexcept nogil:
    r.first = first
    r.stage = BLOCK_LIVE
    r.names.n = 0


cdef inline int block_ended(const BlockReader *r) noexcept nogil:
    return r.stage == ENTRY_FLAGS and r.live == 0 and r.gone == 0


cdef inline void block_free(BlockReader *r) noexcept nogil:
    buffer_free(&r.names)
    buffer_free(&r.fields)


cdef inline int entry_begins(BlockReader *r, int64_t pairs) noexcept nogil:
    """Its texts come next."""
    if pairs < 1 or pairs > 1 << 30:
        return BLOCK_BAD
    r.left = pairs if r.flags & ENTRY_SAME else 2 * pairs
    r.name = span(r.names.p, r.names.n)
    r.fields.n = 0
    put_varint(&r.fields, pairs)
    r.stage = ENTRY_TEXTS
    return BLOCK_MORE


cdef inline int entry_ends(BlockReader *r, int64_t said) noexcept nogil:
    r.stage = ENTRY_FLAGS
    if said != r.elements or (r.flags & ENTRY_REMOVED and r.gone == 0) or (
            not r.flags & ENTRY_REMOVED and r.live == 0):
        return BLOCK_BAD
    if r.flags & ENTRY_REMOVED:
        r.gone -= 1
        return BLOCK_MORE
    r.live -= 1
    if id_order(r.id, r.last) <= 0:
        return BLOCK_BAD
    r.last = r.id
    return BLOCK_ENTRY


cdef inline int block_number(BlockReader *r, int64_t v) noexcept nogil:
    """The next element, where it is to be a number."""
    if r.stage == BLOCK_LIVE or r.stage == BLOCK_GONE:
        if v < 0:
            return BLOCK_BAD
        if r.stage == BLOCK_LIVE:
            r.live = v
        else:
            r.gone = v
        r.stage = BLOCK_GONE if r.stage == BLOCK_LIVE else BLOCK_COUNT
    elif r.stage == BLOCK_COUNT:
        if v < 1:
            return BLOCK_BAD
        r.names_n = r.left = v
        r.stage = BLOCK_NAMES
    elif r.stage == BLOCK_ZERO:
        if v != 0:
            return BLOCK_BAD
        r.stage = ENTRY_FLAGS
    elif r.stage == ENTRY_FLAGS:
        if v & ~<int64_t>(ENTRY_REMOVED | ENTRY_SAME):
            return BLOCK_BAD
        r.flags = v
        r.elements = 0
        r.stage = ENTRY_MS
    elif r.stage == ENTRY_MS:
        r.id.ms = r.first.ms + <uint64_t>v
        r.stage = ENTRY_SEQ
    elif r.stage == ENTRY_SEQ:
        r.id.seq = r.first.seq + <uint64_t>v
        r.stage = ENTRY_COUNT
        if r.flags & ENTRY_SAME:
            r.elements += 1
            return entry_begins(r, r.names_n)
    elif r.stage == ENTRY_COUNT:
        r.elements += 1
        return entry_begins(r, v)
    else:
        return entry_ends(r, v)
    r.elements += 1
    return BLOCK_MORE


cdef inline int block_element(BlockReader *r, Span s) noexcept nogil:
    """The next element of the listpack, numbers as text too: a BlockStep."""
    cdef int64_t v
    cdef Span name
    if r.stage == BLOCK_NAMES:
        put_text(&r.names, s)
        r.left -= 1
        if r.left == 0:
            r.stage = BLOCK_ZERO
        return BLOCK_MORE
    if r.stage == ENTRY_TEXTS:
        if r.flags & ENTRY_SAME:
            name = take_text(&r.name)
            put_text(&r.fields, name)
        put_text(&r.fields, s)
        r.elements += 1
        r.left -= 1
        if r.left == 0:
            r.stage = ENTRY_SIZE
        return BLOCK_MORE
    return block_number(r, v) if parse_int64(s.p, s.n, &v) else BLOCK_BAD


# ---- writing -------------------------------------------------------------------------------------
cdef struct BlockWriter:
    StreamId first
    int64_t entries
    size_t bytes                # of their names and values
    uint64_t elements
    Buffer names                # as packed fields have them, the values included: of the first
    Buffer packed               # the entries


cdef inline void put_back(Buffer *b, size_t size) noexcept nogil:
    """The size of the entry before, to be read backwards."""
    cdef unsigned char *p = <unsigned char*>buffer_need(b, 5)
    cdef int n = (1 if size <= 127 else 2 if size < 16383 else 3 if size < 2097151 else 4
                  if size < 268435455 else 5)
    cdef int i
    for i in range(n):
        p[i] = <unsigned char>((size >> 7 * (n - 1 - i) & 127) | (128 if i else 0))
    b.n += n


cdef inline void pack_number(Buffer *b, int64_t v) noexcept nogil:
    cdef unsigned char *p = <unsigned char*>buffer_need(b, 9)
    cdef int size
    if 0 <= v <= 127:
        p[0] = <unsigned char>v
        size = 1
    elif -4096 <= v <= 4095:
        p[0] = <unsigned char>(0xc0 | (v >> 8 & 0x1f))
        p[1] = <unsigned char>(v & 255)
        size = 2
    else:
        size = (2 if -32768 <= v <= 32767 else 3 if -8388608 <= v <= 8388607 else 4
                if -2147483648 <= v <= 2147483647 else 8)
        p[0] = <unsigned char>(0xf4 if size == 8 else 0xef + size)
        memcpy(p + 1, &v, size)
        size += 1
    b.n += size
    put_back(b, size)


cdef inline void pack_text(Buffer *b, Span s) noexcept nogil:
    cdef unsigned char *p
    cdef int64_t v
    cdef int before
    if s.n <= 20 and parse_int64(s.p, s.n, &v):
        pack_number(b, v)
        return
    p = <unsigned char*>buffer_need(b, 5)
    if s.n < 64:
        p[0] = <unsigned char>(0x80 | s.n)
        before = 1
    elif s.n < 4096:
        p[0] = <unsigned char>(0xe0 | s.n >> 8)
        p[1] = <unsigned char>(s.n & 255)
        before = 2
    else:
        p[0] = 0xf0
        memcpy(p + 1, &s.n, 4)
        before = 5
    b.n += before
    buffer_add(b, s.p, s.n)
    put_back(b, before + s.n)


cdef inline int same_names(Span x, Span y) noexcept nogil:
    """Have two entries' fields the same names, in the same order?"""
    cdef uint64_t n = take_pairs(&x), i
    cdef Span a, b
    if take_pairs(&y) != n:
        return 0
    for i in range(2 * n):
        a = take_text(&x)
        b = take_text(&y)
        if i % 2 == 0 and (a.n != b.n or (a.n and memcmp(a.p, b.p, a.n) != 0)):
            return 0
    return 1


cdef inline int block_full(int64_t entries, size_t bytes) noexcept nogil:
    return entries == BLOCK_ENTRIES or bytes >= BLOCK_BYTES


cdef inline void block_add(BlockWriter *w, StreamId id, Span fields) noexcept nogil:
    cdef Span all = fields, text
    cdef uint64_t n = take_pairs(&fields), i
    cdef int same
    if w.entries == 0:
        w.first = id
        w.names.n = w.packed.n = 0
        buffer_add(&w.names, all.p, all.n)
        w.elements = n + 4
    same = same_names(span(w.names.p, w.names.n), all)
    pack_number(&w.packed, ENTRY_SAME if same else 0)
    pack_number(&w.packed, <int64_t>(id.ms - w.first.ms))
    pack_number(&w.packed, <int64_t>(id.seq - w.first.seq))
    if not same:
        pack_number(&w.packed, <int64_t>n)
    for i in range(2 * n):
        text = take_text(&fields)
        if i % 2 or not same:
            pack_text(&w.packed, text)
    pack_number(&w.packed, <int64_t>(3 + n if same else 4 + 2 * n))
    w.elements += 4 + n if same else 5 + 2 * n
    w.entries += 1
    w.bytes += all.n


cdef inline void block_finish(BlockWriter *w, Buffer *out) noexcept nogil:
    """out := the listpack; then the writer is empty."""
    cdef Span names = span(w.names.p, w.names.n), text
    cdef uint64_t n = take_pairs(&names), i
    cdef uint64_t count = min(w.elements, <uint64_t>65535)
    out.n = 0
    memset(buffer_need(out, 6), 0, 6)
    out.n = 6
    pack_number(out, w.entries)
    pack_number(out, 0)
    pack_number(out, <int64_t>n)
    for i in range(2 * n):
        text = take_text(&names)
        if i % 2 == 0:
            pack_text(out, text)
    pack_number(out, 0)
    buffer_add(out, w.packed.p, w.packed.n)
    buffer_need(out, 1)[0] = <char>255
    out.n += 1
    memcpy(out.p, &out.n, 4)
    memcpy(out.p + 4, &count, 2)
    w.entries = 0
    w.bytes = 0


cdef inline void block_discard(BlockWriter *w) noexcept nogil:
    buffer_free(&w.names)
    buffer_free(&w.packed)

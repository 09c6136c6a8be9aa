# How is a list held in little more than the bytes of its elements?
#
# One replica mostly pushed the elements that stand side by side, one after the other: they are of
# one run, their offsets are in steps of one, the dots of their inserts in steps that repeat. A
# Block holds up to a page of such elements. Its head holds what they share. Of each element the
# page holds the value, where that ends, and a Gap, in front of the value, where neighbours' dots
# are not equally far apart: how the element differs from the one before, a byte as a rule.
#
#     RPUSH l a bb c    ->    head: run, offsets 0 to 2, the push's dot, indexes 0 to 2
#
#     | Block | steps above the last | page: cap bytes                                         |
#                                    | a | bb | c |   free   | uint16 ends, backwards: 4, 3, 1 |
#                                                 ^ used
#     The element at place p ends at the uint16 number p from the page's end, and begins where the
#     one before it ends.
#
# No stamp is held: an insert's stamp never decides anything, for whoever assigns to an element
# has observed its insert. An element that was assigned to (LSET), and one too large for a page, is
# a block of its own with a Cell.
#
# The page is in the order of pushing, so LPUSH appends as RPUSH does and `direction` tells how to
# read it. Popping at the page's begin moves `begin` along, at its end it shortens `used`: both
# O(1). In the middle the rest of the page moves up. An insert in the middle of a block cuts it in
# two. A block takes at most PAGE bytes, and a few more where it gave up its stride when it was
# full.

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t, int8_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.string cimport memcmp, memcpy, memmove, memset

from crdtredis.buffer cimport Buffer, Span, buffer_add, span

cdef enum:
    PAGE = 8184             # bytes a block takes: two pages of the machine's with malloc's own word
    LARGEST_PACKED = 2048   # bytes of value
    MOST_PACKED = 512       # elements: a place without a stride is found by walking
    LONGEST_GAP = 30        # bytes, as written in a page

# What tells an element from the one before it: the two are `seqs` and `offsets` apart. In a page:
# (seqs << 1) where the offset is the next one and the index too (0 in another op); else (seqs << 1
# | 1), index, offsets.
cdef struct Gap:
    uint64_t seqs
    uint64_t offsets
    uint32_t index          # meaningful where not plain
    int plain


cdef inline Step *block_steps(Block *b) noexcept nogil:
    return <Step*>(<char*>b + sizeof(Block))


cdef inline char *block_page(const Block *b) noexcept nogil:
    return <char*>b + sizeof(Block) + (b.depth - 1) * sizeof(Step)


cdef inline uint16_t *page_end(const Block *b, uint32_t p) noexcept nogil:
    """Where the element at place p of the page ends."""
    return <uint16_t*>(block_page(b) + b.cap) - 1 - p


cdef inline uint32_t page_begin(const Block *b, uint32_t p) noexcept nogil:
    return page_end(b, p - 1)[0] if p else 0


cdef inline uint32_t page_place(const Block *b, uint32_t at) noexcept nogil:
    """The place in the page of the element at index `at` of the block, and the reverse."""
    return b.begin + (b.n - 1 - at if b.direction < 0 else at)


cdef const char *read_gap(const Block *b, uint32_t p, Gap *g) noexcept nogil:
    """What the element at place p says; returns where its value begins."""
    cdef const char *at = block_page(b) + page_begin(b, p)
    cdef const char *end = block_page(b) + page_end(b, p)[0]
    cdef uint64_t v = 0
    g.offsets = offset_step(b.depth)
    g.plain = 1
    if b.stride != STRIDE_NONE:
        g.seqs = b.stride - 1
        return at
    get_varint(&at, end, &v)
    g.seqs = v >> 1
    if v & 1:
        g.plain = 0
        get_varint(&at, end, &v)
        g.index = <uint32_t>v
        get_varint(&at, end, &g.offsets)
    return at


cdef inline char *put_gap(char *to, const Gap *g) noexcept nogil:
    if g.plain:
        return put_varint(to, g.seqs << 1)
    return put_varint(put_varint(put_varint(to, g.seqs << 1 | 1), g.index), g.offsets)


cdef Span block_value(Actors *a, Block *b, uint32_t at) noexcept nogil:
    """The value of the element at index `at` of the block."""
    cdef uint32_t p
    cdef Gap g
    cdef const char *value
    cdef Write *w
    if not block_packed(b):
        w = cell_winner(a, &b.cell)
        return span(write_value(w), w.n)
    p = page_place(b, at)
    value = read_gap(b, p, &g)
    return span(value, block_page(b) + page_end(b, p)[0] - value)


cdef inline int64_t offset_on(const Block *b, int64_t offset, uint64_t by) noexcept nogil:
    """The offset that is `by` further along the page."""
    return <int64_t>(<uint64_t>offset + (0 - by if b.direction < 0 else by))


cdef inline void place_forward(const Block *b, uint32_t p, Place *place) noexcept nogil:
    """From the element before p to p."""
    cdef Gap g
    read_gap(b, p, &g)
    place.own += g.seqs
    place.offset = offset_on(b, place.offset, g.offsets)
    place.index = g.index if not g.plain else 0 if g.seqs else place.index + 1


cdef Place block_place_of(Block *b, uint32_t p) noexcept nogil:
    """Of the element at place p of the page. O(p) without a stride."""
    cdef Place place = b.first
    cdef uint32_t i
    if p == b.begin + b.n - 1:
        return b.last
    if b.stride != STRIDE_NONE and p > b.begin:
        i = p - b.begin
        place.own += <uint64_t>i * (b.stride - 1)
        place.offset = offset_on(b, place.offset, i * <uint64_t>offset_step(b.depth))
        place.index = place.index + i if b.stride == 1 else 0
        return place
    for i in range(b.begin + 1, p + 1):
        place_forward(b, i, &place)
    return place


cdef int compare_to_place(Actors *a, Block *b, const Place *place, Span position) noexcept nogil:
    """Below, equal to or above 0 as the element of b at `place` stands before, at or behind a
    position."""
    cdef Step *q = position_steps(position)
    cdef uint32_t depth = position_depth(position)
    cdef Step last
    cdef uint32_t i
    cdef int r
    for i in range(min(<uint32_t>b.depth - 1, depth)):
        r = compare_steps(a, &block_steps(b)[i], &q[i])
        if r:
            return r
    if b.depth > depth:
        return 1
    last = block_step(b, place)
    r = compare_steps(a, &last, &q[b.depth - 1])
    return r if r else -1 if depth > b.depth else 0


cdef inline Step block_step(const Block *b, const Place *place) noexcept nogil:
    """The last step of a position."""
    cdef Step s
    s.major = b.major
    s.run = b.run
    s.run_index = b.run_index
    s.offset = place.offset
    s.own = place.own
    s.own_index = place.index
    return s


cdef void block_position(Block *b, const Place *place, Buffer *to) noexcept nogil:
    """Appends the steps of the element at `place`."""
    cdef Step last = block_step(b, place)
    buffer_add(to, block_steps(b), (b.depth - 1) * sizeof(Step))
    buffer_add(to, &last, sizeof(Step))


cdef int of_run(Block *b, Span position) noexcept nogil:
    """Is it a position of the run of b?"""
    cdef Step *q = position_steps(position)
    if (position_depth(position) != b.depth
        or memcmp(block_steps(b), q, (b.depth - 1) * sizeof(Step))):
        return 0
    q += b.depth - 1
    return q.major == b.major and q.run == b.run and q.run_index == b.run_index


cdef uint32_t block_search(Actors *a, Block *b, Span position, int *found) noexcept nogil:
    """How many elements of b stand before a position that is not before b's head; and whether one
    has it."""
    cdef int64_t offset = position_steps(position)[b.depth -
                                                   1].offset if position_depth(
                                                       position) >= b.depth else 0
    cdef Place place = b.first
    cdef uint32_t p = b.begin
    cdef uint64_t way
    cdef int r = compare_to_place(a, b, block_tail(b), position)
    found[0] = 0
    if r <= 0:                             # the tail, or behind it
        found[0] = r == 0
        return b.n - (r == 0)
    if compare_to_place(a, b, block_head(b), position) == 0:
        found[0] = 1
        return 0
    # In the run, between head and tail: whatever stands there has the block's steps up to the
    # offset.
    if b.stride != STRIDE_NONE:
        way = <uint64_t>offset - <uint64_t>b.first.offset
        p += <uint32_t>((way if b.direction > 0 else 0 - way) // <uint64_t>offset_step(b.depth))
        place = block_place_of(b, p)
    while place.offset < offset if b.direction > 0 else place.offset > offset:
        p += 1
        place_forward(b, p, &place)
    # p is the first place of the page at the offset, or past it.
    r = compare_to_place(a, b, &place, position)
    found[0] = r == 0
    p -= b.begin
    if b.direction > 0:
        return p + (r < 0)
    return b.n - p - (r >= 0)


# ---- making --------------------------------------------------------------------------------------

cdef Block *block_new(Span position, Span value) noexcept nogil:
    """One element; for one that is not packed, the caller adds a write to the cell."""
    cdef Step *s = position_steps(position) + position_depth(position) - 1
    cdef uint32_t cap = <uint32_t>(value.n + 3) & ~<uint32_t>1
    cdef Block *b = <Block*>mem_alloc(sizeof(Block) + position.n - sizeof(Step) + cap)
    memset(b, 0, sizeof(Block))
    b.n = 1
    b.cap = cap
    b.major = s.major
    b.run = s.run
    b.run_index = s.run_index
    b.depth = <uint16_t>position_depth(position)
    b.stride = STRIDE_NEW
    b.first.offset = s.offset
    b.first.own = s.own
    b.first.index = s.own_index
    b.last = b.first
    memcpy(block_steps(b), position.p, position.n - sizeof(Step))
    if value.n:
        memcpy(block_page(b), value.p, value.n)
    b.used = <uint32_t>value.n
    page_end(b, 0)[0] = <uint16_t>b.used
    return b


cdef void block_free(Block *b) noexcept nogil:
    cell_free(&b.cell)
    mem_free(b)


cdef inline uint32_t largest_page(const Block *b) noexcept nogil:
    cdef size_t head = sizeof(Block) + (b.depth - 1) * sizeof(Step)
    return <uint32_t>(PAGE - head) if head + 2 * LARGEST_PACKED < PAGE else 2 * LARGEST_PACKED


cdef Block *block_part(const Block *b, uint32_t p, uint32_t n, uint32_t cap) noexcept nogil:
    """A new block of n elements of the page from p on, in a page of `cap` bytes. Its places are for
    the caller to set."""
    cdef size_t head = sizeof(Block) + (b.depth - 1) * sizeof(Step)
    cdef Block *x
    cdef uint32_t from_ = page_begin(b, p), i
    cap = (cap + 1) & ~<uint32_t>1
    x = <Block*>mem_alloc(head + cap)
    memcpy(x, b, head)
    x.cap = cap
    x.begin = 0
    x.n = n
    x.used = page_end(b, p + n - 1)[0] - from_
    memcpy(block_page(x), block_page(b) + from_, x.used)
    for i in range(n):
        page_end(x, i)[0] = <uint16_t>(page_end(b, p + i)[0] - from_)
    if n == 1:
        x.direction = 0
    return x


cdef inline uint32_t live_bytes(const Block *b) noexcept nogil:
    return b.used - page_begin(b, b.begin) + 2 * b.n


cdef Block *block_resize(Block *b, uint32_t cap) noexcept nogil:
    cdef Block *x = block_part(b, b.begin, b.n, cap)
    mem_free(b)
    return x


cdef inline Block *block_trim(Block *b) noexcept nogil:
    """Gives back what a block that has become nearly empty takes."""
    return block_resize(b, 2 * live_bytes(b)) if b.cap > 512 and 4 * live_bytes(b) < b.cap else b


cdef Block *block_give_up_stride(Block *b, uint32_t cap) noexcept nogil:
    """Every element says how it differs from the one before, in two bytes at most, for a stride is
    below 256."""
    cdef Block *x
    cdef Gap g
    cdef char *to
    cdef const char *from_
    cdef uint32_t i, n
    read_gap(b, b.begin, &g)
    if b.n == 1:
        g.seqs = 0
    x = block_part(b, b.begin, b.n, cap)
    x.stride = STRIDE_NONE
    to = block_page(x)
    for i in range(b.n):
        to = put_gap(to, &g)
        from_ = block_page(b) + page_begin(b, b.begin + i)
        n = page_end(b, b.begin + i)[0] - page_begin(b, b.begin + i)
        memcpy(to, from_, n)
        to += n
        page_end(x, i)[0] = <uint16_t>(to - block_page(x))
    x.used = <uint32_t>(to - block_page(x))
    mem_free(b)
    return x


cdef int gap_between(const Block *b, const Place *place, Gap *g, int *direction) noexcept nogil:
    """How `place` differs from the last one of the page; 0 where it cannot follow it."""
    cdef const Place *last = &b.last
    if dot_slot(place.own) != dot_slot(last.own) or place.offset == last.offset:
        return 0
    direction[0] = 1 if place.offset > last.offset else -1
    if ((b.direction and b.direction != direction[0]) or place.own < last.own
        or (place.own == last.own and place.index <= last.index)):
        return 0
    g.seqs = place.own - last.own
    g.index = place.index
    g.offsets = (<uint64_t>place.offset - <uint64_t>last.offset if direction[0] > 0
                 else <uint64_t>last.offset - <uint64_t>place.offset)
    g.plain = (g.offsets == <uint64_t>offset_step(b.depth)
               and place.index == (0 if g.seqs else last.index + 1))
    return 1


cdef int block_append(Block **at, const Place *place, Span value) noexcept nogil:
    """Appends an element of the run to the page. 1, and the block may have moved; 0 where it does
    not fit."""
    cdef Block *b = at[0]
    cdef Gap g
    cdef int direction
    cdef char *to
    cdef uint32_t need, follows
    cdef int gives_up
    if (not block_packed(b) or b.n == MOST_PACKED or value.n > LARGEST_PACKED
        or not gap_between(b, place, &g, &direction)):
        return 0
    follows = <uint32_t>(g.seqs + 1) if g.plain and g.seqs < STRIDE_NEW - 1 else STRIDE_NONE
    if b.stride == STRIDE_NEW and follows:
        b.stride = <uint8_t>follows
    gives_up = b.stride != STRIDE_NONE and b.stride != follows
    need = <uint32_t>value.n + 2 + (0 if b.stride and not gives_up else LONGEST_GAP)
    if gives_up or need > b.cap - b.used - 2 * (b.begin + b.n):
        need += live_bytes(b) + (2 * b.n if gives_up else 0)
        if need > largest_page(b):
            return 0
        need = min(2 * need if need > 256 else need + need // 2, largest_page(b))
        b = at[0] = block_give_up_stride(b, need) if gives_up else block_resize(b, need)
    to = block_page(b) + b.used
    if b.stride == STRIDE_NONE:
        to = put_gap(to, &g)
    if value.n:
        memcpy(to, value.p, value.n)
    b.used = <uint32_t>(to + value.n - block_page(b))
    page_end(b, b.begin + b.n)[0] = <uint16_t>b.used
    b.n += 1
    b.direction = <int8_t>direction
    b.last = place[0]
    return 1


# ---- taking apart --------------------------------------------------------------------------------

cdef Block *block_cut(Block **at, uint32_t i) noexcept nogil:
    """Cuts b before its element at index i, which is neither 0 nor n: *at is what stands before,
    the new block the rest."""
    cdef Block *b = at[0]
    # the first place of the page that goes into its own block
    cdef uint32_t p = page_place(b, i) + (b.direction < 0)
    cdef Place left = block_place_of(b, p - 1)
    cdef Place right = left
    cdef Block *x
    cdef Block *rest
    place_forward(b, p, &right)
    x = block_part(b, b.begin, p - b.begin,
                   page_end(b, p - 1)[0] - page_begin(b, b.begin) + 2 * (p - b.begin))
    rest = block_part(b, p, b.begin + b.n - p, b.used - page_begin(b, p) + 2 * (b.begin + b.n - p))
    x.last = left
    rest.first = right
    if b.direction < 0:
        x, rest = rest, x
    mem_free(b)
    at[0] = x
    return rest


cdef void page_remove_last(Block *b) noexcept nogil:
    cdef uint32_t p = b.begin + b.n - 1
    cdef Gap g
    cdef uint32_t q
    b.used = page_begin(b, p)
    b.n -= 1
    if b.n == 1:
        b.last = b.first
        b.direction = 0
        return
    read_gap(b, p, &g)
    b.last.own -= g.seqs
    b.last.offset = offset_on(b, b.last.offset, 0 - g.offsets)
    if g.plain and g.seqs == 0:
        b.last.index -= 1
        return
    # as the one before it says: so many plain ones of its op before it
    b.last.index = 0
    q = p - 1
    while q > b.begin:
        read_gap(b, q, &g)
        if not g.plain or g.seqs:
            break
        q -= 1
    b.last.index = (b.first.index if q == b.begin else 0 if g.plain else g.index) + p - 1 - q


cdef Block *block_remove(Block *b, uint32_t i) noexcept nogil:
    """Removes the element at index i of a block of more than one; returns the block, which may have
    moved."""
    cdef uint32_t p = page_place(b, i)
    cdef uint32_t q, end = b.begin + b.n
    cdef Place next
    cdef Gap g, h
    cdef char code[LONGEST_GAP]
    cdef const char *value
    cdef char *to
    cdef char *rest
    cdef uint32_t size, n
    cdef int32_t by
    if p == end - 1:
        page_remove_last(b)
        return block_trim(b)
    if p == b.begin:
        place_forward(b, p + 1, &b.first)
        b.begin += 1
        b.n -= 1
        if b.n == 1:
            b.direction = 0
        return block_trim(b)
    if b.stride != STRIDE_NONE:
        b = block_give_up_stride(b, live_bytes(b) + 2 * b.n + LONGEST_GAP)
        p = page_place(b, i)
        end = b.begin + b.n
    elif b.cap - b.used - 2 * end < LONGEST_GAP:
        # the one that is left may be longer than the two that it replaces
        b = block_resize(b, live_bytes(b) + 2 * LONGEST_GAP)
        p = page_place(b, i)
        end = b.begin + b.n
    next = block_place_of(b, p + 1)
    read_gap(b, p, &g)
    value = read_gap(b, p + 1, &h)
    n = <uint32_t>(block_page(b) + page_end(b, p + 1)[0] - value)
    g.seqs += h.seqs
    g.offsets += h.offsets
    g.index = next.index
    g.plain = 0
    size = <uint32_t>(put_gap(code, &g) - code)
    by = <int32_t>(page_begin(b, p) + size + n) - <int32_t>page_end(b, p + 1)[0]
    to = block_page(b) + page_begin(b, p)
    rest = block_page(b) + page_end(b, p + 1)[0]
    if by > 0:
        memmove(rest + by, rest, b.used - page_end(b, p + 1)[0])
    memmove(to + size, value, n)
    memcpy(to, code, size)
    if by < 0:
        memmove(rest + by, rest, b.used - page_end(b, p + 1)[0])
    b.used += by
    for q in range(p, end - 1):
        page_end(b, q)[0] = <uint16_t>(page_end(b, q + 1)[0] + by)
    b.n -= 1
    return block_trim(b)


cdef int block_check(Block *b) noexcept nogil:
    """Every invariant: 0 sound, else the number of the broken one."""
    cdef Place place = b.first
    cdef uint32_t p, before
    cdef Write *w = b.cell.writes
    if b.n == 0 or b.depth == 0 or b.cell.counts != NULL:
        return 1
    if not block_packed(b):
        return 0 if b.n == 1 else 2
    if (b.used + 2 * (b.begin + b.n) > b.cap or b.cap & 1 or page_end(b, b.begin + b.n - 1)[0]
        != b.used):
        return 3
    if (b.n == 1) != (b.direction == 0) or (b.stride == STRIDE_NEW and b.n > 1):
        return 4
    for p in range(b.begin + 1, b.begin + b.n):
        if page_end(b, p)[0] < page_end(b, p - 1)[0]:
            return 5
        place_forward(b, p, &place)
    if place.offset != b.last.offset or place.own != b.last.own or place.index != b.last.index:
        return 6
    return 0

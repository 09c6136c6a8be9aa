# cython: language_level=3
"""Sorted set commands on one key. Those that combine several are in zset_algebra.pyx, those that
block in blocking.pyx.

A sorted set is a table of members, each with a cell: a score that was assigned, as a register, and
counter entries of increments. ZADD assigns, and so takes back the increments it observed; ZINCRBY
and ZADD INCR count, so what two replicas add concurrently adds up:

    A: ZINCRBY z 1 m   ||   B: ZINCRBY z 1 m      -> +2
    A: ZADD z 5 m      ||   B: ZINCRBY z 1 m      -> 6

Beside the table stands the order of the members by (score, name), with counts. So every range, by
rank, score or name, is first brought into one form, a Slice of ranks, at the price of two searches;
counting needs no more than that.

ZADD of the score that is there makes an effect, too: it stands against a concurrent ZREM. What an
option forbids (NX, XX, GT, LT) makes none. Removals name members; a command that removes all there
are deletes the key: the same, in one effect.

Limit. A range by name means something only where all scores are equal, as in Redis. Where they are
not, what is answered is not what Redis would answer.
"""
from libc.math cimport isnan
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport strtod
from libc.string cimport memcmp, memcpy, memset

from crdtredis._core cimport (T_ZSET, Collection, Element, Item, Kernel, OrderCursor, element_key,
                              element_klen, key_collection, key_delete, key_prepare, member_find,
                              member_score, op_room, order_at, order_next, order_of, order_prev,
                              order_rank, score_sort_key)
from crdtredis._engine cimport (Call, is_word, native, refuse, refuse_arity, refuse_float,
                                refuse_syntax)
from crdtredis._resp cimport (format_double, parse_double, reply_array, reply_bulk, reply_double,
                              reply_int, reply_null, reply_null_array)
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport FOUND, MISSING, REFUSED, read_int
from crdtredis.commands.members cimport (find_first, find_members, member_live, member_name,
                                         read_count, read_member, read_members, read_pops,
                                         read_random, remove_member, remove_members,
                                         reply_members_header, reply_random, reply_size)
from crdtredis.commands.scanning cimport Scan, scan_add, scan_matches, scan_members
from crdtredis.commands.scored cimport (CH, GT, INCR, LT, NX, XX, Scored, add_scored, reply_scored,
                                        store_scored)
from crdtredis.errors cimport (GT_LT_AND_NX, INCR_PAIRS, LIMIT_BY_RANK, MIN_MAX_NOT_FLOAT,
                               MIN_MAX_NOT_NAME, WITHSCORES_BY_NAME, XX_AND_NX)
from crdtredis.numbers cimport REAL_TEXT, parse_int64

from functools import partial

from crdtredis.commands.table import CountedKeys, KeyRange, command


# ---- ranges --------------------------------------------------------------------------------------
cdef enum By:
    BY_ANY                  # what the options say, ranks if they say nothing
    BY_RANK
    BY_SCORE
    BY_NAME

cdef enum Direction:
    EITHER                  # what the options say, forward if they say nothing
    FORWARD
    REVERSE

# One end of a range by score or name.
cdef struct Bound:
    int open                # the bound itself is outside
    # by name: -1 for "-", before every name; 1 for "+", behind every name; else 0
    int edge
    double score
    Span name

# A range as a client states it.
cdef struct Range:
    By by
    Direction direction
    int with_scores
    int64_t first           # by rank, inclusive, negative ones counting from the end
    int64_t last
    Bound low               # by score or name
    Bound high
    int64_t offset          # LIMIT
    int64_t count           # below 0: all

cdef enum:
    NESTED = 2              # as with_scores: an array for each member in RESP2, too

# The same as what it comes to: n members from a rank on, ranks counting from the least whatever the
# direction.
cdef struct Slice:
    size_t first
    size_t n


cdef int read_score_bound(Call *c, Span arg, Bound *b) noexcept nogil:
    """As C's strtod reads it, with white space before the number, and up to a NUL; empty text is
    0."""
    cdef char text[REAL_TEXT]
    cdef char *end
    cdef size_t n
    b.open = arg.n > 0 and arg.p[0] == c'('
    n = arg.n - b.open
    if n < REAL_TEXT:
        if n:
            memcpy(text, arg.p + b.open, n)
        text[n] = 0
        b.score = strtod(text, &end)
        if end[0] == 0 and not isnan(b.score):
            return 1
    refuse(c, MIN_MAX_NOT_FLOAT)
    return 0


cdef int read_name_bound(Call *c, Span arg, Bound *b) noexcept nogil:
    cdef char first = arg.p[0] if arg.n else 0
    if first == c'[' or first == c'(':
        b.open = first == c'('
        b.edge = 0
        b.name = span(arg.p + 1, arg.n - 1)
        return 1
    if (first == c'-' or first == c'+') and (arg.n == 1 or arg.p[1] == 0):
        b.open = 1
        b.edge = 1 if first == c'+' else -1
        return 1
    refuse(c, MIN_MAX_NOT_NAME)
    return 0


cdef int read_bounds(Call *c, int i, Range *r) noexcept nogil:
    """The ends argv[i] and argv[i + 1] of a range of a known kind; 0 after a refusal."""
    cdef Span low = c.argv[i], high = c.argv[i + 1]
    if r.by == BY_RANK:
        return read_int(c, low, &r.first) and read_int(c, high, &r.last)
    if r.direction == REVERSE:
        low, high = high, low
    if r.by == BY_SCORE:
        return read_score_bound(c, low, &r.low) and read_score_bound(c, high, &r.high)
    return read_name_bound(c, low, &r.low) and read_name_bound(c, high, &r.high)


cdef int read_range(Call *c, int i, By by, Direction direction, int storing,
                    Range *r) noexcept nogil:
    """The range argv[i] and argv[i + 1] with the options behind it; 0 after a refusal."""
    cdef int j = i + 2
    memset(r, 0, sizeof(Range))
    r.by = by
    r.direction = direction
    r.count = -1
    while j < c.argc:
        if not storing and is_word(c.argv[j], "WITHSCORES"):
            r.with_scores = 1
        elif is_word(c.argv[j], "LIMIT") and j + 2 < c.argc:
            if (not read_int(c, c.argv[j + 1], &r.offset)
                or not read_int(c, c.argv[j + 2], &r.count)):
                return 0
            j += 2
        elif r.direction == EITHER and is_word(c.argv[j], "REV"):
            r.direction = REVERSE
        elif r.by == BY_ANY and is_word(c.argv[j], "BYLEX"):
            r.by = BY_NAME
        elif r.by == BY_ANY and is_word(c.argv[j], "BYSCORE"):
            r.by = BY_SCORE
        else:
            refuse_syntax(c)
            return 0
        j += 1
    if r.by == BY_ANY:
        r.by = BY_RANK
    if r.count != -1 and r.by == BY_RANK:
        refuse(c, LIMIT_BY_RANK)
        return 0
    if r.with_scores and r.by == BY_NAME:
        refuse(c, WITHSCORES_BY_NAME)
        return 0
    return read_bounds(c, i, r)


cdef size_t names_before(Collection *z, Span name, int or_equal) noexcept nogil:
    """How many members have a lesser name, or this one, told by halving: members of different
    scores may be in the order of their names too."""
    cdef OrderCursor at
    cdef Element *e
    cdef size_t low = 0, high = order_of(z).n, middle
    cdef int order
    while low < high:
        middle = (low + high) // 2
        e = order_at(order_of(z), middle, &at).e
        order = (memcmp(element_key(e), name.p, min(<size_t>element_klen(e), name.n))
                 if name.n else 0)
        if order == 0:
            order = (element_klen(e) > name.n) - (element_klen(e) < name.n)
        if order < 0 or (order == 0 and or_equal):
            low = middle + 1
        else:
            high = middle
    return low


cdef size_t items_before(Collection *z, By by, Bound *b, int or_equal) noexcept nogil:
    """How many members stand before a bound, or on it."""
    cdef OrderCursor at
    cdef Item *item
    cdef uint64_t sort_key
    cdef size_t rank
    # sort keys of neighbouring doubles are neighbours
    if by == BY_SCORE:
        return order_rank(order_of(z), score_sort_key(b.score) + or_equal, span(NULL, 0))
    if b.edge:
        return order_of(z).n if b.edge > 0 else 0
    sort_key = order_at(order_of(z), 0, &at).sort_key
    if order_at(order_of(z), order_of(z).n - 1, &at).sort_key != sort_key:
        return names_before(z, b.name, or_equal)
    rank = order_rank(order_of(z), sort_key, b.name)
    item = order_at(order_of(z), rank, &at) if or_equal else NULL
    if item != NULL and item.sort_key == sort_key and element_klen(item.e) == b.name.n and (
            b.name.n == 0 or memcmp(element_key(item.e), b.name.p, b.name.n) == 0):
        rank += 1
    return rank


cdef Slice find_slice(Collection *z, Range *r) noexcept nogil:
    cdef int64_t size = <int64_t>order_of(z).n, first = r.first, last = r.last
    cdef size_t low, high
    cdef Slice s
    s.first = s.n = 0
    if r.by == BY_RANK:
        if first < 0:
            first = first + size if first + size > 0 else 0
        if last < 0:
            last += size
        if last >= size:
            last = size - 1
        if first <= last:
            s.first = size - 1 - last if r.direction == REVERSE else first
            s.n = last - first + 1
        return s
    low = items_before(z, r.by, &r.low, r.low.open)
    high = items_before(z, r.by, &r.high, not r.high.open)
    if low >= high or r.offset < 0 or <size_t>r.offset >= high - low:
        return s
    s.first = low
    s.n = high - low - <size_t>r.offset
    if r.direction != REVERSE:
        s.first += <size_t>r.offset
    if r.count >= 0 and <size_t>r.count < s.n:
        if r.direction == REVERSE:
            s.first += s.n - <size_t>r.count
        s.n = <size_t>r.count
    return s


cdef inline Item *slice_begin(Collection *z, Slice *s, Direction direction,
                              OrderCursor *at) noexcept nogil:
    """The member to start with, NULL for an empty slice; then slice_next s.n - 1 times."""
    return (order_at(order_of(z), s.first + s.n - 1 if direction == REVERSE else s.first, at) if s.n
            else NULL)


cdef inline Item *slice_next(OrderCursor *at, Direction direction) noexcept nogil:
    return order_prev(at) if direction == REVERSE else order_next(at)


cdef void reply_slice(Call *c, Collection *z, Slice *s, Direction direction,
                      int with_scores) noexcept nogil:
    """The members, without a header."""
    cdef OrderCursor at
    cdef Item *item = slice_begin(z, s, direction, &at)
    cdef size_t i
    for i in range(s.n):
        if with_scores == NESTED and c.reply.resp == 2:
            reply_array(c.reply, 2)
        reply_scored(c, item.e, member_score(c.kernel, item.e) if with_scores else 0, with_scores)
        item = slice_next(&at, direction)


cdef void remove_slice(Call *c, Span key, Element *e, Collection *z, Slice *s) noexcept nogil:
    """Removes members of key, whose element is e. A name is copied first, for it goes with its
    member."""
    cdef Kernel *k = c.kernel
    cdef OrderCursor at
    cdef Item *item
    cdef Buffer name
    cdef size_t i, bytes = 0
    if s.n == 0:
        return
    c.changes = s.n
    if s.n == z.live:
        key_delete(k, c.db, e)
        return
    item = order_at(order_of(z), s.first, &at)
    for i in range(s.n):
        bytes += element_klen(item.e)
        item = order_next(&at)
    if not op_room(k, c.db, s.n, key.n, bytes):
        return
    memset(&name, 0, sizeof(Buffer))
    e = key_prepare(k, c.db, key, e, T_ZSET)
    z = key_collection(k, e, T_ZSET)
    for i in range(s.n):
        e = remove_member(c, key, e, T_ZSET, order_at(order_of(z), s.first, &at).e, &name)
    buffer_free(&name)


# ---- writing -------------------------------------------------------------------------------------
cdef inline int read_score(Call *c, Span arg, double *out) noexcept nogil:
    cdef int64_t whole
    if arg.n < 16 and parse_int64(arg.p, arg.n, &whole):    # exact, and most scores are
        out[0] = <double>whole
        return 1
    if parse_double(arg.p, arg.n, out):
        out[0] += 0.0                                       # a stored zero has no sign
        return 1
    refuse_float(c)
    return 0


cdef int read_add_options(Call *c, int *options) noexcept nogil:
    """The options of ZADD from argv[2] on, added to those given; returns where the first score
    stands, 0 after a refusal."""
    cdef int i = 2, o
    while i < c.argc:
        if is_word(c.argv[i], "NX"):
            options[0] |= NX
        elif is_word(c.argv[i], "XX"):
            options[0] |= XX
        elif is_word(c.argv[i], "GT"):
            options[0] |= GT
        elif is_word(c.argv[i], "LT"):
            options[0] |= LT
        elif is_word(c.argv[i], "CH"):
            options[0] |= CH
        elif is_word(c.argv[i], "INCR"):
            options[0] |= INCR
        else:
            break
        i += 1
    o = options[0]
    if i == c.argc or (c.argc - i) % 2:
        refuse_syntax(c)
    elif o & NX and o & XX:
        refuse(c, XX_AND_NX)
    elif (o & NX and o & (GT | LT)) or (o & GT and o & LT):
        refuse(c, GT_LT_AND_NX)
    elif o & INCR and c.argc - i > 2:
        refuse(c, INCR_PAIRS)
    else:
        return i
    return 0


cdef void add(Call *c, int options) noexcept nogil:
    cdef int first = read_add_options(c, &options), i, pairs = (c.argc - first) // 2
    cdef double one
    cdef double *scores = &one
    cdef Buffer many
    if first == 0:
        return
    memset(&many, 0, sizeof(Buffer))
    if pairs > 1:
        scores = <double*>buffer_need(&many, pairs * sizeof(double))
    # a number that is none spoils the whole command
    for i in range(pairs):
        if not read_score(c, c.argv[first + 2 * i], &scores[i]):
            break
    else:
        add_scored(c, options, scores, pairs, c.argv + first + 1, 2)
    buffer_free(&many)


cdef void zadd(Call *c) noexcept nogil:
    add(c, 0)


cdef void zincrby(Call *c) noexcept nogil:
    add(c, INCR)


cdef void zrem(Call *c) noexcept nogil:
    remove_members(c, T_ZSET)


cdef void remove_range(Call *c, By by) noexcept nogil:
    cdef Collection *z
    cdef Element *e
    cdef Range r
    cdef Slice s
    memset(&r, 0, sizeof(Range))
    r.by = by
    r.count = -1
    if not read_bounds(c, 2, &r) or find_members(c, c.argv[1], T_ZSET, &e, &z) == REFUSED:
        return
    s.n = 0
    if z != NULL:
        s = find_slice(z, &r)
        remove_slice(c, c.argv[1], e, z, &s)
    reply_int(c.reply, s.n)


cdef void zremrangebyrank(Call *c) noexcept nogil:
    remove_range(c, BY_RANK)


cdef void zremrangebyscore(Call *c) noexcept nogil:
    remove_range(c, BY_SCORE)


cdef void zremrangebylex(Call *c) noexcept nogil:
    remove_range(c, BY_NAME)


cdef Slice end_of(Collection *z, int64_t n, int greatest) noexcept nogil:
    """At most n members with the least scores, or the greatest."""
    cdef Slice s
    s.n = min(<size_t>n, z.live)
    s.first = z.live - s.n if greatest else 0
    return s


cdef void pop_one(Call *c, Span key, Element *e, Collection *z, int greatest) noexcept nogil:
    cdef Slice s = end_of(z, 1, greatest)
    cdef OrderCursor at
    cdef Item *item = order_at(order_of(z), s.first, &at)
    reply_scored(c, item.e, 0, 0)
    reply_double(c.reply, member_score(c.kernel, item.e))
    remove_slice(c, key, e, z, &s)


cdef void pop_several(Call *c, Span key, Element *e, Collection *z, int64_t count,
                      int greatest) noexcept nogil:
    cdef Slice s = end_of(z, count, greatest)
    reply_array(c.reply, 2)
    reply_bulk(c.reply, key.p, key.n)
    reply_array(c.reply, s.n)
    reply_slice(c, z, &s, REVERSE if greatest else FORWARD, NESTED)
    remove_slice(c, key, e, z, &s)


cdef void pop(Call *c, int greatest) noexcept nogil:
    """ZPOPMIN and ZPOPMAX. With a count, RESP3 has an array for each member; without, the one
    member stands flat in either."""
    cdef Collection *z
    cdef Element *e
    cdef int64_t n = 1
    cdef Slice s
    if c.argc > 3:
        refuse_syntax(c)
        return
    if c.argc == 3 and not read_count(c, c.argv[2], &n):
        return
    if find_members(c, c.argv[1], T_ZSET, &e, &z) == REFUSED:
        return
    if z == NULL or n == 0:
        reply_array(c.reply, 0)
    elif c.argc == 3:
        s = end_of(z, n, greatest)
        reply_members_header(c, s.n, 1)
        reply_slice(c, z, &s, REVERSE if greatest else FORWARD, 1)
        remove_slice(c, c.argv[1], e, z, &s)
    else:
        reply_array(c.reply, 2)
        pop_one(c, c.argv[1], e, z, greatest)


cdef void zmpop(Call *c) noexcept nogil:
    cdef Collection *z
    cdef Element *e
    cdef int64_t count
    cdef int keys, greatest, i, found
    if not read_pops(c, 1, "MIN", "MAX", &keys, &greatest, &count):
        return
    found = find_first(c, T_ZSET, 2, keys, &i, &e, &z)
    if found == FOUND:
        pop_several(c, c.argv[i], e, z, count, greatest)
    elif found == MISSING:
        reply_null_array(c.reply)


cdef void zpopmin(Call *c) noexcept nogil:
    pop(c, 0)


cdef void zpopmax(Call *c) noexcept nogil:
    pop(c, 1)


# ---- reading -------------------------------------------------------------------------------------
cdef void zcard(Call *c) noexcept nogil:
    reply_size(c, T_ZSET)


cdef inline void reply_score(Call *c, Element *m) noexcept nogil:
    if m != NULL:
        reply_double(c.reply, member_score(c.kernel, m))
    else:
        reply_null(c.reply)


cdef void zscore(Call *c) noexcept nogil:
    cdef Element *m
    if read_member(c, c.argv[1], T_ZSET, c.argv[2], &m) != REFUSED:
        reply_score(c, m)


cdef void zmscore(Call *c) noexcept nogil:
    cdef Collection *z
    cdef int i
    if read_members(c, c.argv[1], T_ZSET, &z) == REFUSED:
        return
    reply_array(c.reply, c.argc - 2)
    for i in range(2, c.argc):
        reply_score(c, member_find(c.kernel, z, c.argv[i]) if z != NULL else NULL)


cdef void rank(Call *c, Direction direction) noexcept nogil:
    cdef Collection *z
    cdef Element *m = NULL
    cdef double score
    cdef size_t n
    cdef int with_score = c.argc > 3
    if c.argc > 4:
        refuse_arity(c)
        return
    if with_score and not is_word(c.argv[3], "WITHSCORE"):
        refuse_syntax(c)
        return
    if read_members(c, c.argv[1], T_ZSET, &z) == REFUSED:
        return
    if z != NULL:
        m = member_find(c.kernel, z, c.argv[2])
    if m == NULL:
        if with_score:
            reply_null_array(c.reply)
        else:
            reply_null(c.reply)
        return
    score = member_score(c.kernel, m)
    n = order_rank(order_of(z), score_sort_key(score), c.argv[2])
    if with_score:
        reply_array(c.reply, 2)
    reply_int(c.reply, z.live - 1 - n if direction == REVERSE else n)
    if with_score:
        reply_double(c.reply, score)


cdef void zrank(Call *c) noexcept nogil:
    rank(c, FORWARD)


cdef void zrevrank(Call *c) noexcept nogil:
    rank(c, REVERSE)


cdef void count_range(Call *c, By by) noexcept nogil:
    cdef Collection *z
    cdef Range r
    memset(&r, 0, sizeof(Range))
    r.by = by
    r.count = -1
    if read_bounds(c, 2, &r) and read_members(c, c.argv[1], T_ZSET, &z) != REFUSED:
        reply_int(c.reply, find_slice(z, &r).n if z != NULL else 0)


cdef void zcount(Call *c) noexcept nogil:
    count_range(c, BY_SCORE)


cdef void zlexcount(Call *c) noexcept nogil:
    count_range(c, BY_NAME)


cdef void answer_range(Call *c, By by, Direction direction) noexcept nogil:
    cdef Collection *z
    cdef Range r
    cdef Slice s
    if (not read_range(c, 2, by, direction, 0, &r) or read_members(c, c.argv[1], T_ZSET, &z)
        == REFUSED):
        return
    if z == NULL:
        reply_array(c.reply, 0)
        return
    s = find_slice(z, &r)
    reply_members_header(c, s.n, r.with_scores)
    reply_slice(c, z, &s, r.direction, r.with_scores)


cdef void zrangestore(Call *c) noexcept nogil:
    cdef Collection *z
    cdef OrderCursor at
    cdef Item *item
    cdef Buffer members
    cdef Scored one
    cdef Range r
    cdef Slice s
    cdef size_t i
    if (not read_range(c, 3, BY_ANY, EITHER, 1, &r) or read_members(c, c.argv[2], T_ZSET, &z)
        == REFUSED):
        return
    memset(&members, 0, sizeof(Buffer))
    if z != NULL:
        s = find_slice(z, &r)
        item = slice_begin(z, &s, FORWARD, &at)
        for i in range(s.n):
            one.m = item.e
            one.score = member_score(c.kernel, item.e)
            buffer_add(&members, &one, sizeof(one))
            item = order_next(&at)
    store_scored(c, c.argv[1], &members)
    buffer_free(&members)


cdef void zrange(Call *c) noexcept nogil:
    answer_range(c, BY_ANY, EITHER)


cdef void zrevrange(Call *c) noexcept nogil:
    answer_range(c, BY_RANK, REVERSE)


cdef void zrangebyscore(Call *c) noexcept nogil:
    answer_range(c, BY_SCORE, FORWARD)


cdef void zrevrangebyscore(Call *c) noexcept nogil:
    answer_range(c, BY_SCORE, REVERSE)


cdef void zrangebylex(Call *c) noexcept nogil:
    answer_range(c, BY_NAME, FORWARD)


cdef void zrevrangebylex(Call *c) noexcept nogil:
    answer_range(c, BY_NAME, REVERSE)


# ---- random members, iteration -------------------------------------------------------------------
cdef void reply_chosen(Call *c, Element *m, int with_score) noexcept nogil:
    reply_scored(c, m, member_score(c.kernel, m), with_score)


cdef void zrandmember(Call *c) noexcept nogil:
    cdef int64_t n = 0
    cdef int with_scores
    cdef Collection *z
    if read_random(c, "WITHSCORES", &n, &with_scores) and (
            read_members(c, c.argv[1], T_ZSET, &z) != REFUSED):
        reply_random(c, z, n, with_scores, reply_chosen)


cdef void visit_member(void *arg, Element *m) noexcept nogil:
    cdef Scan *s = <Scan*>arg
    cdef char text[64]
    if scan_matches(s, m) and member_live(m):
        scan_add(s, member_name(m))
        scan_add(s, span(text, format_double(member_score(s.kernel, m), text)))


cdef void zscan(Call *c) noexcept nogil:
    scan_members(c, T_ZSET, visit_member)


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="sorted-set")
SEARCH = "O(log(N)) with N members"
SLICE = "O(log(N)+M) with N members and M answered"
REMOVAL = "O(log(N)*M) with N members and M removed"
ADDS = ("Of concurrent scores of one member the one with the later timestamp wins; concurrent "
        "increments are added to it; a member that is added "
        "survives a concurrent removal. With INCR as ZINCRBY. NX, XX, GT and LT test what this "
        "replica sees.")
COUNTS = ("Concurrent increments of a member add up: none is lost, none counts twice. After a "
          "concurrent removal the increment is left.")
REMOVES = ("Removes what this replica had seen of each member. A member that is added concurrently "
           "stays; of a concurrent increment the increment "
           "is left.")
POPS = ("Two replicas can be given the same member. It is gone after sync, unless it was added or "
        "incremented concurrently.")

_of_one_key("ZADD key [NX | XX] [GT | LT] [CH] [INCR] <score member>...", arity=-4,
        flags="write denyoom fast", access="RW update", since="1.2.0",
        complexity="O(log(N)) per member, with N members",
        summary="Adds members to a sorted set, or changes their scores.",
        replicas=ADDS)(native(zadd))
_of_one_key("ZINCRBY key increment member", arity=4, flags="write denyoom fast",
        access="RW access update", since="1.2.0", complexity=SEARCH,
        summary="Adds to the score of a member of a sorted set.", replicas=COUNTS)(native(zincrby))
_of_one_key("ZREM key member...", arity=-3, flags="write fast", access="RW delete", since="1.2.0",
        complexity=REMOVAL, summary="Removes members of a sorted set; answers how many there were.",
        replicas=REMOVES)(native(zrem))
for _synopsis, _since, _of, _handler in [
        ("ZREMRANGEBYRANK key start stop", "2.0.0", "ranks", native(zremrangebyrank)),
        ("ZREMRANGEBYSCORE key min max", "1.2.0", "scores", native(zremrangebyscore)),
        ("ZREMRANGEBYLEX key min max", "2.8.9", "names", native(zremrangebylex))]:
    _of_one_key(_synopsis, arity=4, flags="write", access="RW delete", since=_since,
            complexity=REMOVAL,
            summary=f"Removes the members of a sorted set in a range of {_of}.",
            replicas=REMOVES)(_handler)
_of_one_key("ZPOPMIN key [count]", arity=-2, flags="write fast", access="RW access delete",
        since="5.0.0", complexity=REMOVAL,
        summary="Removes and answers the members with the least scores.",
        replicas=POPS)(native(zpopmin))
_of_one_key("ZPOPMAX key [count]", arity=-2, flags="write fast", access="RW access delete",
        since="5.0.0", complexity=REMOVAL,
        summary="Removes and answers the members with the greatest scores.",
        replicas=POPS)(native(zpopmax))
command("ZMPOP numkeys key... <MIN | MAX> [COUNT count]", arity=-4, flags="write",
        keys=[CountedKeys("RW access delete", 1)], group="sorted-set", since="7.0.0",
        complexity=REMOVAL,
        summary="Removes and answers members of the first of several sorted sets that is there.",
        replicas=POPS)(native(zmpop))
_of_one_key("ZCARD key", arity=2, flags="readonly fast", access="RO", since="1.2.0",
        summary="The number of members of a sorted set.")(native(zcard))
_of_one_key("ZSCORE key member", arity=3, flags="readonly fast", since="1.2.0",
        summary="The score of a member of a sorted set.")(native(zscore))
_of_one_key("ZMSCORE key member...", arity=-3, flags="readonly fast", since="6.2.0",
        complexity="O(N) with N members asked for",
        summary="The scores of several members of a sorted set.")(native(zmscore))
_of_one_key("ZRANK key member [WITHSCORE]", arity=-3, flags="readonly fast", since="2.0.0",
        complexity=SEARCH,
        summary="How many members of a sorted set stand before a member.")(native(zrank))
_of_one_key("ZREVRANK key member [WITHSCORE]", arity=-3, flags="readonly fast", since="2.0.0",
        complexity=SEARCH,
        summary="How many members of a sorted set stand behind a member.")(native(zrevrank))
_of_one_key("ZCOUNT key min max", arity=4, flags="readonly fast", since="2.0.0", complexity=SEARCH,
        summary="The number of members with scores in a range.")(native(zcount))
_of_one_key("ZLEXCOUNT key min max", arity=4, flags="readonly fast", since="2.8.9",
        complexity=SEARCH,
        summary="The number of members with names in a range, where all scores are equal.")(
        native(zlexcount))
_of_one_key("ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        arity=-4, flags="readonly", since="1.2.0", complexity=SLICE,
        summary="Members of a sorted set in a range of ranks, scores or names.")(native(zrange))
for _synopsis, _since, _what, _options, _handler in [
        ("ZREVRANGE key start stop [WITHSCORES]", "1.2.0", "ranks from the greatest score on",
         "REV", native(zrevrange)),
        ("ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]", "1.0.5", "scores",
         "BYSCORE", native(zrangebyscore)),
        ("ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]", "2.2.0",
         "scores from the greatest on", "BYSCORE and REV", native(zrevrangebyscore)),
        ("ZRANGEBYLEX key min max [LIMIT offset count]", "2.8.9", "names",
         "BYLEX", native(zrangebylex)),
        ("ZREVRANGEBYLEX key max min [LIMIT offset count]", "2.8.9", "names from the last on",
         "BYLEX and REV", native(zrevrangebylex))]:
    _of_one_key(_synopsis, arity=-4, flags="readonly", since=_since, complexity=SLICE,
            summary=f"Members in a range of {_what}; ZRANGE with {_options}.")(_handler)
command("ZRANGESTORE destination source min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
        arity=-5, flags="write denyoom one_change",
        keys=[KeyRange("OW update", 1), KeyRange("RO access", 2)], group="sorted-set",
        since="6.2.0", complexity=SLICE,
        summary="Stores members of a sorted set in a range of ranks, scores or names.",
        replicas="Replaces what this replica had seen of the target by what it saw of the "
                 "source. A concurrent add to the target survives.")(native(zrangestore))
_of_one_key("ZRANDMEMBER key [count [WITHSCORES]]", arity=-2, flags="readonly", since="6.2.0",
        complexity="O(N) with N members answered, or of the set if that is most of it",
        tips="nondeterministic_output",
        summary="Members of a sorted set chosen at random.")(native(zrandmember))
_of_one_key("ZSCAN key cursor [MATCH pattern] [COUNT count]", arity=-3, flags="readonly",
        since="2.8.0", complexity="O(1) per call, O(N) for a whole iteration",
        tips="nondeterministic_output",
        summary="Iterates over the members of a sorted set and their scores.")(native(zscan))

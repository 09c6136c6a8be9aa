# cython: language_level=3
"""SORT and SORT_RO: the elements of a list, set or sorted set in order, by themselves or by what
keys made of them hold.

The elements are copied first, one after the other into one buffer (a text there is its length, its
bytes and a NUL), so they stay what they are whatever is looked up or written afterwards. A Row is
an element on its way: the number or text to sort by, and the element itself. Rows that compare
equal keep their first order.

By number, equal ones are ordered as texts, so the order is the same wherever the elements came
from. A text is a number if strtod says so, as in Redis: with white space before it, hexadecimal,
infinity; the empty one is 0.

STORE is one op that deletes the target and pushes the result. As everywhere, what is replicated is
the result, not the sorting.

What is not Redis's: ALPHA compares all bytes. Redis asks the locale, and without STORE looks no
further than the first NUL. And with BY and LIMIT Redis's partial sorting leaves rows that compare
equal in any order.
"""
from libc cimport errno as err
from libc.math cimport isnan
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport qsort, strtod
from libc.string cimport memchr, memcmp, memcpy, memset

from crdtredis._core cimport (STEP_ROOM, T_HASH, T_LIST, T_NONE, T_SET, T_STRING, T_ZSET,
                              Collection, Element, Item, Kernel, ListCursor, OrderCursor,
                              key_collection, key_find, key_type, list_insert, list_next, list_prev,
                              list_seek, list_value, member_find, member_view, order_at, order_next,
                              order_of, order_prev, string_view)
from crdtredis._engine cimport (CLIENT_SCRIPT, Call, acl_reads_all, is_word, native, refuse,
                                refuse_syntax)
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_null
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport REFUSED, read_int, touch
from crdtredis.commands.members cimport member_name, next_member, read_any, replace_key
from crdtredis.errors cimport SORT_BY_DENIED, SORT_GET_DENIED, SORT_NOT_FLOAT
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import KeyRange, OtherKeys, command

cdef enum:
    LENGTH = sizeof(uint32_t)           # bytes before a text

cdef struct Row:
    double score                        # to sort by, unless ALPHA
    # to sort by with ALPHA: a text, NULL (which comes first) for none
    const char *by
    const char *name                    # the element: a text. They lie in the first order.

cdef enum Kind:
    NOTHING                             # a constant: there is no such value
    ITSELF                              # "#"
    STRING                              # a string key
    FIELD                               # a field of a hash

# What BY or GET says: the element's name stands between `before` and `after`.
cdef struct Pattern:
    Kind kind
    Span before
    Span after
    Span field

# A command as read, and what it works with.
cdef struct Sorting:
    Collection *source                  # NULL: no such key
    int desc
    int alpha
    int by                              # sort by what a pattern finds
    int unsorted                        # BY a constant
    Pattern pattern
    int64_t skip                        # LIMIT
    int64_t most                        # below 0: all
    Span *target                        # NULL: answer
    Buffer gets                         # of Pattern
    Buffer names                        # texts
    Buffer weights                      # texts
    Buffer rows                         # of Row
    Buffer key                          # scratch: a key made of a pattern; a number to read
    Buffer result                       # texts to store


# ---- texts ---------------------------------------------------------------------------------------
cdef inline size_t add_text(Buffer *b, Span v) noexcept nogil:
    """Where it stands. Pointers to texts are made once no more are added."""
    cdef size_t at = b.n
    cdef uint32_t n = <uint32_t>v.n                         # no value is longer than MAX_BYTES
    cdef char *p = buffer_need(b, LENGTH + v.n + 1)
    memcpy(p, &n, LENGTH)
    if v.n:
        memcpy(p + LENGTH, v.p, v.n)
    p[LENGTH + v.n] = 0
    b.n += LENGTH + v.n + 1
    return at


cdef inline Span text_span(const char *text) noexcept nogil:
    cdef uint32_t n
    memcpy(&n, text, LENGTH)
    return span(text + LENGTH, n)


cdef inline int compare_texts(const char *a, const char *b) noexcept nogil:
    cdef Span x = text_span(a), y = text_span(b)
    cdef int r = memcmp(x.p, y.p, min(x.n, y.n))
    return r if r else (x.n > y.n) - (x.n < y.n)


cdef inline int read_score(const char *p, size_t n, double *out) noexcept nogil:
    """Reads a number that a NUL follows."""
    cdef int64_t whole
    cdef char *end
    if parse_int64(p, n, &whole):
        out[0] = <double>whole
        return 1
    err.errno = 0
    out[0] = strtod(p, &end)
    return end[0] == 0 and err.errno != err.ERANGE and not isnan(out[0])


# ---- patterns ------------------------------------------------------------------------------------
cdef Pattern read_pattern(Span text) noexcept nogil:
    cdef Pattern p
    cdef const char *star = <const char*>memchr(text.p, c'*', text.n) if text.n else NULL
    cdef size_t i
    memset(&p, 0, sizeof(p))
    if star == NULL:
        p.kind = ITSELF if text.n == 1 and text.p[0] == c'#' else NOTHING
        return p
    p.kind = STRING
    p.before = span(text.p, star - text.p)
    p.after = span(star + 1, text.n - p.before.n - 1)
    for i in range(2, p.after.n):                           # "->" with a field behind it
        if p.after.p[i - 2] == c'-' and p.after.p[i - 1] == c'>':
            p.kind = FIELD
            p.field = span(p.after.p + i, p.after.n - i)
            p.after.n = i - 2
            break
    return p


cdef int find_value(Call *c, const Pattern *p, Span name, Buffer *key, Span *out) noexcept nogil:
    """What the pattern finds for an element: valid until the next look-up. 0 if there is no such
    value."""
    cdef Kernel *k = c.kernel
    cdef Collection *fields
    cdef Element *e
    if p.kind == ITSELF:
        out[0] = name
    if p.kind == ITSELF or p.kind == NOTHING:
        return p.kind == ITSELF
    key.n = 0
    buffer_add(key, p.before.p, p.before.n)
    buffer_add(key, name.p, name.n)
    buffer_add(key, p.after.p, p.after.n)
    e = key_find(k, c.db, span(key.p, key.n))
    if key_type(k, e) == T_NONE:
        c.stats.misses += 1
        return 0
    c.stats.hits += 1
    touch(c, e)
    if p.kind == STRING:
        if key_type(k, e) != T_STRING:
            return 0
        out[0] = string_view(k, e)
        return 1
    fields = key_collection(k, e, T_HASH)
    e = member_find(k, fields, p.field) if fields != NULL else NULL
    if e == NULL:
        return 0
    out[0] = member_view(k, e)
    return 1


# ---- reading the command -------------------------------------------------------------------------
cdef int read_options(Call *c, int read_only, Sorting *s) noexcept nogil:
    """0 after a refusal."""
    cdef Pattern p
    cdef int i = 2, left
    while i < c.argc:
        left = c.argc - i - 1
        if is_word(c.argv[i], "ASC"):
            s.desc = 0
        elif is_word(c.argv[i], "DESC"):
            s.desc = 1
        elif is_word(c.argv[i], "ALPHA"):
            s.alpha = 1
        elif is_word(c.argv[i], "LIMIT") and left >= 2:
            if not read_int(c, c.argv[i + 1], &s.skip) or not read_int(c, c.argv[i + 2], &s.most):
                return 0
            i += 2
        elif not read_only and is_word(c.argv[i], "STORE") and left >= 1:
            i += 1
            s.target = &c.argv[i]
        elif is_word(c.argv[i], "BY") and left >= 1:
            i += 1
            s.pattern = read_pattern(c.argv[i])
            s.by = 1
            if s.pattern.kind == NOTHING or s.pattern.kind == ITSELF:
                s.unsorted = 1                              # also if another BY follows
            elif not acl_reads_all(c):
                refuse(c, SORT_BY_DENIED)
                return 0
        elif is_word(c.argv[i], "GET") and left >= 1:
            i += 1
            if not acl_reads_all(c):
                refuse(c, SORT_GET_DENIED)
                return 0
            p = read_pattern(c.argv[i])
            buffer_add(&s.gets, &p, sizeof(p))
        else:
            refuse_syntax(c)
            return 0
        i += 1
    return 1


# ---- loading -------------------------------------------------------------------------------------
cdef inline void add_row(Sorting *s, Span name) noexcept nogil:
    cdef Row row
    row.score = 0
    row.by = NULL
    row.name = <const char*>add_text(&s.names, name)        # made a pointer by load
    buffer_add(&s.rows, &row, sizeof(row))


cdef void load_list(Call *c, Sorting *s, size_t first, size_t n, int backwards) noexcept nogil:
    cdef Collection *l = s.source
    cdef ListCursor at
    cdef size_t i
    cdef int more = list_seek(l, l.live - 1 - first if backwards else first, &at) if n else 0
    for i in range(n):
        if not more:
            break
        add_row(s, list_value(c.kernel, &at))
        more = list_prev(&at) if backwards else list_next(&at)


cdef void load_zset(Sorting *s, size_t first, size_t n, int backwards) noexcept nogil:
    cdef Collection *z = s.source
    cdef OrderCursor at
    cdef size_t i
    cdef Item *item = order_at(order_of(z), z.live - 1 - first if backwards else first,
                               &at) if n else NULL
    for i in range(n):
        add_row(s, member_name(item.e))
        item = order_prev(&at) if backwards else order_next(&at)


cdef void load_set(Sorting *s) noexcept nogil:
    cdef size_t at = 0
    cdef Element *m = next_member(s.source, &at)
    while m != NULL:
        add_row(s, member_name(m))
        m = next_member(s.source, &at)


cdef void load(Call *c, Sorting *s, size_t *first, size_t *n) noexcept nogil:
    """Makes the rows: all, or of a sequence that stays as it is, those asked for. *first and *n:
    which rows are asked for."""
    cdef size_t size = s.source.live if s.source != NULL else 0, i
    cdef Row *rows
    first[0] = min(<size_t>max(s.skip, <int64_t>0), size)
    n[0] = size - first[0] if s.most < 0 else min(<size_t>s.most, size - first[0])
    if s.source == NULL:
        return
    if s.source.type == T_SET:
        load_set(s)
    elif s.unsorted:
        if s.source.type == T_LIST:
            load_list(c, s, first[0], n[0], s.desc)
        else:
            load_zset(s, first[0], n[0], s.desc)
        first[0] = 0
    elif s.source.type == T_LIST:
        load_list(c, s, 0, size, 0)
    else:
        load_zset(s, 0, size, 0)
    rows = <Row*>s.rows.p
    for i in range(s.rows.n // sizeof(Row)):
        rows[i].name = s.names.p + <size_t>rows[i].name


cdef int weigh(Call *c, Sorting *s) noexcept nogil:
    """Gives every row what to sort by; 0 if something is not a number that should be one."""
    cdef Row *rows = <Row*>s.rows.p
    cdef Row *row
    cdef Span name, v
    cdef size_t i, n = s.rows.n // sizeof(Row)
    cdef int sound = 1
    for i in range(n):
        row = &rows[i]
        name = text_span(row.name)
        if not s.by:
            row.by = row.name
            if not s.alpha and not read_score(name.p, name.n, &row.score):
                sound = 0
        elif not find_value(c, &s.pattern, name, &s.key, &v):
            continue
        elif s.alpha:
            row.by = <const char*>(add_text(&s.weights, v) + 1)
        else:
            s.key.n = 0
            add_text(&s.key, v)
            if not read_score(s.key.p + LENGTH, s.key.n - LENGTH - 1, &row.score):
                sound = 0
    if s.by:
        for i in range(n):
            if rows[i].by != NULL:
                rows[i].by = s.weights.p + <size_t>rows[i].by - 1
    return sound


# ---- sorting -------------------------------------------------------------------------------------
cdef inline int compare_scores(const Row *a, const Row *b) noexcept nogil:
    return ((a.score > b.score) - (a.score < b.score) if a.score != b.score
            else compare_texts(a.name, b.name))


cdef inline int compare_weights(const Row *a, const Row *b) noexcept nogil:
    if a.by == NULL or b.by == NULL:
        return (a.by != NULL) - (b.by != NULL)
    return compare_texts(a.by, b.by)


cdef inline int as_loaded(const Row *a, const Row *b) noexcept nogil:
    return (a.name > b.name) - (a.name < b.name)


cdef int score_up(const void *a, const void *b) noexcept nogil:
    cdef int r = compare_scores(<const Row*>a, <const Row*>b)
    return r if r else as_loaded(<const Row*>a, <const Row*>b)


cdef int score_down(const void *a, const void *b) noexcept nogil:
    cdef int r = compare_scores(<const Row*>b, <const Row*>a)
    return r if r else as_loaded(<const Row*>a, <const Row*>b)


cdef int weight_up(const void *a, const void *b) noexcept nogil:
    cdef int r = compare_weights(<const Row*>a, <const Row*>b)
    return r if r else as_loaded(<const Row*>a, <const Row*>b)


cdef int weight_down(const void *a, const void *b) noexcept nogil:
    cdef int r = compare_weights(<const Row*>b, <const Row*>a)
    return r if r else as_loaded(<const Row*>a, <const Row*>b)


cdef void sort_rows(Sorting *s) noexcept nogil:
    cdef size_t n = s.rows.n // sizeof(Row)
    if n and s.alpha:
        qsort(s.rows.p, n, sizeof(Row), weight_down if s.desc else weight_up)
    elif n:
        qsort(s.rows.p, n, sizeof(Row), score_down if s.desc else score_up)


# ---- the result ----------------------------------------------------------------------------------
cdef void answer(Call *c, Sorting *s, size_t first, size_t n) noexcept nogil:
    cdef const Pattern *gets = <const Pattern*>s.gets.p
    cdef size_t i, j, columns = s.gets.n // sizeof(Pattern)
    cdef Span name, v
    reply_array(c.reply, n * max(columns, <size_t>1))
    for i in range(first, first + n):
        name = text_span((<Row*>s.rows.p)[i].name)
        if columns == 0:
            reply_bulk(c.reply, name.p, name.n)
        for j in range(columns):
            if find_value(c, &gets[j], name, &s.key, &v):
                reply_bulk(c.reply, v.p, v.n)
            else:
                reply_null(c.reply)


cdef void store(Call *c, Sorting *s, size_t first, size_t n) noexcept nogil:
    """target := the result, whatever it held; without any it is gone. Answers the number of
    elements. Values are gathered first: the target may be a source."""
    cdef Kernel *k = c.kernel
    cdef const Pattern *gets = <const Pattern*>s.gets.p
    cdef size_t i, j, columns = s.gets.n // sizeof(Pattern), length = n * max(columns, <size_t>1)
    cdef const char *text
    cdef Span name, v
    cdef Element *e
    for i in range(first, first + n):
        name = text_span((<Row*>s.rows.p)[i].name)
        if columns == 0:
            add_text(&s.result, name)
        for j in range(columns):
            if not find_value(c, &gets[j], name, &s.key, &v):
                v.n = 0
            add_text(&s.result, v)
    if not replace_key(c, s.target[0], length, s.result.n + 2 * STEP_ROOM * length, &e):
        return
    text = s.result.p
    for i in range(length):
        v = text_span(text)
        e = list_insert(k, c.db, s.target[0], e, i, v)
        text += LENGTH + v.n + 1
    reply_int(c.reply, length)


# ---- commands ------------------------------------------------------------------------------------
cdef void run(Call *c, Sorting *s, int read_only) noexcept nogil:
    cdef size_t first = 0, n = 0
    if (not read_options(c, read_only, s)
        or read_any(c, c.argv[1], 1 << T_LIST | 1 << T_SET | 1 << T_ZSET, &s.source) == REFUSED):
        return
    if (s.unsorted and (s.target != NULL or c.client.flags & CLIENT_SCRIPT)
            and s.source != NULL and s.source.type == T_SET):
        # what is stored, or seen by a script, has some order, not the table's
        s.unsorted = s.by = 0
        s.alpha = 1
    load(c, s, &first, &n)
    if not s.unsorted:
        if not weigh(c, s):
            refuse(c, SORT_NOT_FLOAT)
            return
        sort_rows(s)
    if s.target != NULL:
        store(c, s, first, n)
    else:
        answer(c, s, first, n)


cdef void sort_command(Call *c, int read_only) noexcept nogil:
    cdef Sorting s
    memset(&s, 0, sizeof(Sorting))
    s.most = -1
    run(c, &s, read_only)
    buffer_free(&s.gets)
    buffer_free(&s.names)
    buffer_free(&s.weights)
    buffer_free(&s.rows)
    buffer_free(&s.key)
    buffer_free(&s.result)


cdef void sort(Call *c) noexcept nogil:
    sort_command(c, 0)


cdef void sort_ro(Call *c) noexcept nogil:
    sort_command(c, 1)


# ---- registration --------------------------------------------------------------------------------
def _target(argv: list[bytes]) -> list[int]:
    """Where the target stands, which the last STORE names; not in what other options take."""
    target, i = [], 2
    while i < len(argv):
        word = argv[i].upper()
        if word == b"STORE" and i + 1 < len(argv):
            target = [i + 1]
        i += {b"LIMIT": 3, b"GET": 2, b"BY": 2, b"STORE": 2}.get(word, 1)
    return target


SORTING = ("O(N*log(N)) with N elements; O(M) with M answered of a list or sorted set that "
           "stays as it is")

command("SORT key [BY by-pattern] [LIMIT offset count] [GET get-pattern]... [ASC | DESC] [ALPHA] "
        "[STORE destination]", arity=-2, flags="write denyoom",
        keys=[KeyRange("RO access", 1), OtherKeys("RO access"), OtherKeys("OW update", _target)],
        group="generic", since="1.0.0", complexity=SORTING,
        categories="-keyspace set sortedset list dangerous",
        summary="The elements of a list, set or sorted set in order, answered or stored.",
        replicas="Replaces what this replica had seen of the target by what it sorted. Elements "
                 "pushed to the target concurrently stay.")(native(sort))
command("SORT_RO key [BY by-pattern] [LIMIT offset count] [GET get-pattern]... [ASC | DESC] "
        "[ALPHA]", arity=-2, flags="readonly",
        keys=[KeyRange("RO access", 1), OtherKeys("RO access")], group="generic", since="7.0.0",
        complexity=SORTING, categories="-keyspace set sortedset list dangerous",
        summary="The elements of a list, set or sorted set in order.")(native(sort_ro))

# SCAN and its kin: cursor, options and the walk over a table, the same for keys and for members.
# Header only: all functions are inline.
#
# A command reads its cursor and its options into a Scan, walks a table with a visitor of its own,
# which appends what it finds to scan.found, and answers. What is found gathers in a reply of its
# own, because its number stands before it.
#
# The promise is the table's (table_scan): what is present from the first call to the last is
# visited at least once. A visitor is given tombstones, too, and passes them over.

from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from crdtredis._core cimport (T_HASH, Collection, Element, Kernel, Table, TableVisit, element_key,
                              element_klen, table_count, table_scan)
from crdtredis._engine cimport Call, is_word, refuse, refuse_int, refuse_syntax
from crdtredis._resp cimport Reply, reply_array, reply_bulk, reply_raw
from crdtredis.buffer cimport Span, buffer_free
from crdtredis.commands.common cimport FOUND, MISSING, REFUSED
from crdtredis.glob cimport GLOB_STEPS, glob_is_all, glob_match
from crdtredis.commands.members cimport read_members
from crdtredis.errors cimport INVALID_CURSOR, NOVALUES_ELSEWHERE
from crdtredis.numbers cimport format_uint64, parse_int64

cdef enum:
    # members: a collection of no more is answered at once, as Redis does with compact ones
    ANSWERED_AT_ONCE = 128

cdef struct Scan:
    Kernel *kernel
    uint32_t db
    Span pattern
    int64_t steps               # that comparing with it may still take
    int all                     # the pattern is "*", or there is none
    int type                    # T_*, or -1 for every type: for the visitor
    Collection *members         # HSCAN and its like
    int of_fields               # HSCAN: NOVALUES may be given,
    int names_only              # and was
    int64_t count               # elements to look at in this call
    int64_t visited             # elements looked at
    int64_t n                   # replies in `found`
    Reply found


cdef inline void scan_init(Scan *s, Call *c) noexcept nogil:
    memset(s, 0, sizeof(Scan))
    s.kernel = c.kernel
    s.db = c.db
    s.all = 1
    s.type = -1
    s.count = 10
    s.steps = GLOB_STEPS
    s.found.resp = c.reply.resp
    s.found.most = c.reply.most


cdef inline void scan_pattern(Scan *s, Span pattern) noexcept nogil:
    s.pattern = pattern
    s.all = glob_is_all(pattern.p, pattern.n)


cdef inline int scan_matches(Scan *s, Element *e) noexcept nogil:
    """For visitors: counts the element as looked at; does its name match?"""
    s.visited += 1
    return s.all or glob_match(s.pattern.p, s.pattern.n, element_key(e), element_klen(e), 0,
                              &s.steps)


cdef inline void scan_add(Scan *s, Span text) noexcept nogil:
    s.n += 1
    reply_bulk(&s.found, text.p, text.n)


cdef inline int read_cursor(Call *c, Span text, uint64_t *out) noexcept nogil:
    """As C's strtoul: an optional sign (minus wraps), digits up to a NUL; but no white space before
    it. Empty text is 0. Or a refusal."""
    cdef uint64_t v = 0
    cdef size_t i = 0
    cdef int minus = 0, digits = 0, sound = 1, d
    if text.n and (text.p[0] == c'-' or text.p[0] == c'+'):
        minus = text.p[0] == c'-'
        i = 1
    while sound and i < text.n and text.p[i] != 0:
        d = text.p[i] - c'0'
        sound = 0 <= d <= 9 and v <= (<uint64_t>-1 - d) // 10
        v = v * 10 + d
        digits = 1
        i += 1
    if not sound or (i and not digits):
        refuse(c, INVALID_CURSOR)
        return 0
    out[0] = 0 - v if minus else v
    return 1


cdef inline int read_scan_options(Call *c, int i, Scan *s, Span *type) noexcept nogil:
    """MATCH, COUNT, NOVALUES and, where `type` is not NULL, TYPE, from argv[i] on; 0 after a
    refusal."""
    while i < c.argc:
        if is_word(c.argv[i], "NOVALUES"):
            if not s.of_fields:
                refuse(c, NOVALUES_ELSEWHERE)
                return 0
            s.names_only = 1
            i += 1
            continue
        if i + 1 == c.argc:
            refuse_syntax(c)
            return 0
        if is_word(c.argv[i], "COUNT"):
            if not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, &s.count):
                refuse_int(c)
                return 0
            if s.count < 1:
                refuse_syntax(c)
                return 0
        elif is_word(c.argv[i], "MATCH"):
            scan_pattern(s, c.argv[i + 1])
        elif type != NULL and is_word(c.argv[i], "TYPE"):
            type[0] = c.argv[i + 1]
        else:
            refuse_syntax(c)
            return 0
        i += 2
    return 1


cdef inline uint64_t scan_walk(Scan *s, Table *t, uint64_t cursor, TableVisit visit) noexcept nogil:
    """Visits about s.count elements from the cursor on; returns the next one."""
    # A table that has just lost most of its elements is mostly empty buckets: look at so many at
    # most, and come back.
    cdef int64_t buckets = s.count * 10 if s.count < INT64_MAX // 10 else INT64_MAX
    while True:
        cursor = table_scan(t, cursor, visit, s)
        buckets -= 1
        if cursor == 0 or s.visited >= s.count or buckets <= 0:
            return cursor


cdef inline void scan_answer_found(Scan *s, Reply *r) noexcept nogil:
    reply_array(r, s.n)
    reply_raw(r, s.found.buf.p, s.found.buf.n)
    r.over |= s.found.over
    buffer_free(&s.found.buf)


cdef inline void scan_answer(Scan *s, Reply *r, uint64_t cursor) noexcept nogil:
    cdef char digits[20]
    reply_array(r, 2)
    reply_bulk(r, digits, format_uint64(cursor, digits))
    scan_answer_found(s, r)


cdef inline void scan_members(Call *c, int type, TableVisit visit) noexcept nogil:
    """HSCAN, SSCAN and ZSCAN: `key cursor` and options."""
    cdef Scan s
    cdef Collection *members
    cdef uint64_t cursor
    cdef int found
    scan_init(&s, c)
    s.of_fields = type == T_HASH
    if not read_cursor(c, c.argv[2], &cursor):
        return
    found = read_members(c, c.argv[1], type, &members)
    if found == REFUSED or (found == FOUND and not read_scan_options(c, 3, &s, NULL)):
        return
    if found == MISSING:
        cursor = 0
    else:
        if table_count(&members.table) <= ANSWERED_AT_ONCE:
            s.count = INT64_MAX
        s.members = members
        cursor = scan_walk(&s, &members.table, cursor, visit)
    scan_answer(&s, c.reply, cursor)

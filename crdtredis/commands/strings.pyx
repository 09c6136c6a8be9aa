"""String commands: SET and GET and their kin, counters, and LCS.

A handler looks its key up, decides, makes at most one kernel call per key, and answers. Options,
replies, error texts and the order in which errors are found are those of Redis 7.2.

What replicates is the outcome, never the command: a value as a whole (SET, APPEND, SETRANGE: one
register, so of two concurrent writes the later timestamp wins), an increment (INCR and its kin:
concurrent ones add up), a deadline in ms since 1970, a removal. So APPEND and SETRANGE cost
O(length of the whole value), where Redis changes a value in place; the alternative, a text type
with mergeable edits, would make every GET dearer for the sake of commands whose concurrent use has
no meaning that two clients would agree on.

A deadline that has already passed (SET EXAT, GETEX PXAT) is a removal, on the spot. A command that
would change nothing (APPEND of nothing to a key that is there, SETRANGE of nothing, PERSIST without
a deadline) makes no effect.

A counter is shown by formatting it into the kernel's one scratch place, so a view of it lasts until
the next one: what needs two at a time (LCS) copies the first.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from crdtredis._core cimport (EFFECT_ROOM, NO_NUMBER, T_NONE, T_STRING, WHOLE, Element, Kernel,
                              key_deadline, key_delete, key_expire, key_find, key_modified,
                              key_type, key_visible, op_room, remainder_size, string_add,
                              string_int, string_set, string_view)
from crdtredis._engine cimport (Call, is_word, native, refuse, refuse_arity, refuse_float,
                                refuse_int, refuse_syntax)
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_map, reply_null, reply_ok
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport (FOUND, MAX_STRING, MISSING, REFUSED, args_size, clamp_range,
                                        copy_grown, find_string, prefetch_keys, read_deadline,
                                        read_int, read_string, size_allowed, touch)
from crdtredis.errors cimport (DECREMENT_OVERFLOW, INCREMENT_NOT_FINITE, INCREMENT_OVERFLOW,
                               LCS_LENGTH_AND_INDEXES, LCS_NOT_STRINGS, LCS_NO_MEMORY,
                               LCS_TOO_LARGE, OFFSET_RANGE)
from crdtredis.numbers cimport REAL_TEXT, format_long_double, parse_int64, parse_long_double

from crdtredis.commands.table import command

cdef extern from "<math.h>" nogil:
    bint isfinite(long double v)

# Options of SET and GETEX. Within each of the two groups of rivals, at most one can be given (but
# that one repeatedly).
cdef enum Option:
    O_NX = 1
    O_XX = 2
    O_GET = 4
    O_KEEPTTL = 8
    O_PERSIST = 16
    O_EX = 32
    O_PX = 64
    O_EXAT = 128
    O_PXAT = 256
    O_CONDITIONS = 3            # NX, XX
    O_EXPIRES = 480             # EX, PX, EXAT, PXAT: followed by a time
    O_LIFETIME = 504            # KEEPTTL, PERSIST and those
    O_OF_SET = 495
    O_OF_GETEX = 496


# ---- options and values --------------------------------------------------------------------------
cdef uint32_t option(Span w) noexcept nogil:
    """The option that w names, 0 if none."""
    if w.n == 2:
        return (O_EX if is_word(w, b"EX") else O_PX if is_word(w, b"PX") else O_NX
                if is_word(w, b"NX")
                else O_XX if is_word(w, b"XX") else 0)
    if w.n == 3:
        return O_GET if is_word(w, b"GET") else 0
    if w.n == 4:
        return O_EXAT if is_word(w, b"EXAT") else O_PXAT if is_word(w, b"PXAT") else 0
    return O_KEEPTTL if is_word(w, b"KEEPTTL") else O_PERSIST if is_word(w, b"PERSIST") else 0


cdef int read_options(Call *c, int i, uint32_t allowed, uint32_t *options,
                      Span *expire) noexcept nogil:
    """Read argv[i:] as options; 0 after a refusal."""
    cdef uint32_t o, rivals
    options[0] = 0
    while i < c.argc:
        o = option(c.argv[i]) & allowed
        rivals = O_LIFETIME if o & O_LIFETIME else O_CONDITIONS if o & O_CONDITIONS else 0
        if o == 0 or options[0] & rivals & ~o:
            refuse_syntax(c)
            return 0
        if o & O_EXPIRES:
            i += 1
            if i == c.argc:
                refuse_syntax(c)
                return 0
            expire[0] = c.argv[i]
        options[0] |= o
        i += 1
    return 1


cdef int option_deadline(Call *c, uint32_t options, Span expire, int64_t *deadline) noexcept nogil:
    """The deadline that EX, PX, EXAT or PXAT asks for, in ms since 1970; 0 after a refusal."""
    return read_deadline(c, expire, 1000 if options & (O_EX | O_EXAT) else 1,
                         options & (O_EX | O_PX), deadline)


cdef void drop(Call *c, Element *e) noexcept nogil:
    """Remove what is visible under a key, if anything is."""
    if key_visible(c.kernel, e):
        key_delete(c.kernel, c.db, e)


cdef void store_until(Call *c, Element *e, Span value, int64_t deadline) noexcept nogil:
    """argv[1] := value, until the deadline; e is what key_find gave."""
    if deadline <= c.kernel.now:
        drop(c, e)
        return
    string_set(c.kernel, c.db, c.argv[1], e, value, 0)
    key_expire(c.kernel, c.db, key_find(c.kernel, c.db, c.argv[1]), deadline)


cdef inline void reply_value(Call *c, Element *e) noexcept nogil:
    cdef Span v = string_view(c.kernel, e)
    reply_bulk(c.reply, v.p, v.n)


cdef int reply_old(Call *c, Element **e) noexcept nogil:
    """Answer the string under argv[1], or null; 0 after a refusal."""
    cdef int found = read_string(c, 1, e)
    if found == FOUND:
        reply_value(c, e[0])
    elif found == MISSING:
        reply_null(c.reply)
    return found != REFUSED


# ---- SET and its kin -----------------------------------------------------------------------------
cdef void set_(Call *c) noexcept nogil:
    cdef uint32_t options = 0
    cdef int64_t deadline = 0
    cdef int there
    cdef Span expire
    cdef Element *e
    if c.argc > 3:
        if not read_options(c, 3, O_OF_SET, &options, &expire):
            return
        if options & O_EXPIRES and not option_deadline(c, options, expire, &deadline):
            return
    if options & O_GET:
        if not reply_old(c, &e):
            return
    else:
        e = key_find(c.kernel, c.db, c.argv[1])
    if options & O_CONDITIONS:
        there = key_visible(c.kernel, e)
        if there == (1 if options & O_NX else 0):
            if not options & O_GET:
                reply_null(c.reply)
            return
    if options & O_EXPIRES:
        store_until(c, e, c.argv[2], deadline)
    else:
        string_set(c.kernel, c.db, c.argv[1], e, c.argv[2], options & O_KEEPTTL)
    if not options & O_GET:
        reply_ok(c.reply)


cdef void setnx(Call *c) noexcept nogil:
    cdef Element *e = key_find(c.kernel, c.db, c.argv[1])
    cdef int there = key_visible(c.kernel, e)
    if not there:
        string_set(c.kernel, c.db, c.argv[1], e, c.argv[2], 0)
    reply_int(c.reply, not there)


cdef void set_for(Call *c, int64_t unit) noexcept nogil:
    cdef int64_t deadline
    if not read_deadline(c, c.argv[2], unit, 1, &deadline):
        return
    store_until(c, key_find(c.kernel, c.db, c.argv[1]), c.argv[3], deadline)
    reply_ok(c.reply)


cdef void setex(Call *c) noexcept nogil:
    set_for(c, 1000)


cdef void psetex(Call *c) noexcept nogil:
    set_for(c, 1)


cdef void getset(Call *c) noexcept nogil:
    cdef Element *e
    if reply_old(c, &e):
        string_set(c.kernel, c.db, c.argv[1], e, c.argv[2], 0)


cdef int pairs_fit(Call *c) noexcept nogil:
    """Is there room in the op for all that is to be set, and for the removal of what has expired
    there? Where not, the client is told."""
    cdef size_t bytes = args_size(c, 1)
    cdef int i
    for i in range(1, c.argc, 2):
        bytes += EFFECT_ROOM + c.argv[i].n + remainder_size(c.kernel, c.db,
                                                            key_find(c.kernel, c.db, c.argv[i]))
    return op_room(c.kernel, c.db, c.argc // 2, 0, bytes)


cdef void mset(Call *c) noexcept nogil:
    cdef int i
    if c.argc % 2 == 0:
        refuse_arity(c)
        return
    if not pairs_fit(c):
        return
    for i in range(1, c.argc, 2):
        prefetch_keys(c, i, 2)
        string_set(c.kernel, c.db, c.argv[i], key_find(c.kernel, c.db, c.argv[i]), c.argv[i + 1], 0)
    reply_ok(c.reply)


cdef void msetnx(Call *c) noexcept nogil:
    cdef int i
    if c.argc % 2 == 0:
        refuse_arity(c)
        return
    for i in range(1, c.argc, 2):
        prefetch_keys(c, i, 2)
        if key_visible(c.kernel, key_find(c.kernel, c.db, c.argv[i])):
            reply_int(c.reply, 0)
            return
    if not pairs_fit(c):
        return
    for i in range(1, c.argc, 2):
        prefetch_keys(c, i, 2)
        string_set(c.kernel, c.db, c.argv[i], key_find(c.kernel, c.db, c.argv[i]), c.argv[i + 1], 0)
    reply_int(c.reply, 1)


# ---- GET and its kin -----------------------------------------------------------------------------
cdef void get(Call *c) noexcept nogil:
    cdef Element *e
    reply_old(c, &e)


cdef void getdel(Call *c) noexcept nogil:
    cdef Element *e
    if reply_old(c, &e):
        drop(c, e)


cdef void getex(Call *c) noexcept nogil:
    cdef uint32_t options
    cdef int64_t deadline = 0
    cdef Span expire
    cdef Element *e
    cdef int found
    if not read_options(c, 2, O_OF_GETEX, &options, &expire):
        return
    found = read_string(c, 1, &e)
    if found != FOUND:
        if found == MISSING:
            reply_null(c.reply)
        return
    if options & O_EXPIRES and not option_deadline(c, options, expire, &deadline):
        return
    reply_value(c, e)
    if options & O_EXPIRES:
        if deadline <= c.kernel.now:
            key_delete(c.kernel, c.db, e)
        else:
            key_expire(c.kernel, c.db, e, deadline)
    elif options & O_PERSIST and key_deadline(c.kernel, e) >= 0:
        key_expire(c.kernel, c.db, e, 0)


cdef void mget(Call *c) noexcept nogil:
    cdef int i, type
    cdef Element *e
    reply_array(c.reply, c.argc - 1)
    for i in range(1, c.argc):
        prefetch_keys(c, i, 1)
        e = key_find(c.kernel, c.db, c.argv[i])
        type = key_type(c.kernel, e)
        if type == T_NONE:
            c.stats.misses += 1
        else:
            c.stats.hits += 1
        if type == T_STRING:
            touch(c, e)
            reply_value(c, e)
        else:
            reply_null(c.reply)


cdef void strlen_(Call *c) noexcept nogil:
    cdef Element *e
    cdef int found = read_string(c, 1, &e)
    if found != REFUSED:
        reply_int(c.reply, <int64_t>string_view(c.kernel, e).n if found else 0)


cdef void getrange(Call *c) noexcept nogil:
    cdef int64_t first, last
    cdef Element *e
    cdef Span v
    if not read_int(c, c.argv[2], &first) or not read_int(c, c.argv[3], &last):
        return
    cdef int found = read_string(c, 1, &e)
    if found == REFUSED:
        return
    v = string_view(c.kernel, e) if found else span(b"", 0)
    if first < 0 and last < 0 and first > last:
        v.n = 0
    clamp_range(&first, &last, <int64_t>v.n)
    if v.n == 0 or first > last:
        reply_bulk(c.reply, b"", 0)
    else:
        reply_bulk(c.reply, v.p + first, last - first + 1)


# ---- changing a part -----------------------------------------------------------------------------
cdef void append(Call *c) noexcept nogil:
    cdef Element *e
    cdef Span tail = c.argv[2], v
    cdef Buffer b
    cdef int found = find_string(c, 1, &e)
    if found == REFUSED:
        return
    if found == MISSING:
        string_set(c.kernel, c.db, c.argv[1], e, tail, 1)
        reply_int(c.reply, tail.n)
        return
    v = string_view(c.kernel, e)
    if not size_allowed(c, v.n + tail.n):
        return
    reply_int(c.reply, v.n + tail.n)
    if tail.n:
        b = copy_grown(v, v.n + tail.n)
        memcpy(b.p + v.n, tail.p, tail.n)
        string_set(c.kernel, c.db, c.argv[1], e, span(b.p, b.n), 1)
        buffer_free(&b)
    else:
        key_modified(c.kernel, c.db, c.argv[1])     # to whoever watches it, as in Redis
        c.changes = 1


cdef void setrange(Call *c) noexcept nogil:
    cdef int64_t offset
    cdef Element *e
    cdef Span part = c.argv[3], v
    cdef Buffer b
    cdef int found
    if not read_int(c, c.argv[2], &offset):
        return
    if offset < 0:
        refuse(c, OFFSET_RANGE)
        return
    found = find_string(c, 1, &e)
    if found == REFUSED:
        return
    v = string_view(c.kernel, e) if found else span(b"", 0)
    if part.n == 0:
        reply_int(c.reply, v.n)
        return
    if not size_allowed(c, <size_t>offset + part.n):
        return
    b = copy_grown(v, <size_t>offset + part.n)
    memcpy(b.p + offset, part.p, part.n)
    string_set(c.kernel, c.db, c.argv[1], e, span(b.p, b.n), 1)
    reply_int(c.reply, b.n)
    buffer_free(&b)


# ---- counters ------------------------------------------------------------------------------------
cdef void add(Call *c, int64_t step) noexcept nogil:
    cdef Element *e
    cdef int64_t v = 0
    cdef Span text
    cdef long double wanted
    cdef int kind = WHOLE, found = find_string(c, 1, &e)
    if found == REFUSED:
        return
    if found:
        kind = string_int(c.kernel, e, &v)
    if kind == NO_NUMBER:
        # fractions that add up to what is shown as a whole number are one, too
        text = string_view(c.kernel, e)
        if not parse_int64(text.p, text.n, &v):
            refuse_int(c)
            return
    if v > INT64_MAX - step if step > 0 else v < INT64_MIN - step:
        refuse(c, INCREMENT_OVERFLOW)
        return
    wanted = v + step
    string_add(c.kernel, c.db, c.argv[1], e, step, &wanted if kind != WHOLE else NULL)
    reply_int(c.reply, v + step)


cdef void incr(Call *c) noexcept nogil:
    add(c, 1)


cdef void decr(Call *c) noexcept nogil:
    add(c, -1)


cdef void incrby(Call *c) noexcept nogil:
    cdef int64_t step
    if read_int(c, c.argv[2], &step):
        add(c, step)


cdef void decrby(Call *c) noexcept nogil:
    cdef int64_t step
    if not read_int(c, c.argv[2], &step):
        return
    if step == INT64_MIN:
        refuse(c, DECREMENT_OVERFLOW)
        return
    add(c, -step)


# Redis keeps the text, so each increment starts from the 17 decimals shown, and is rounded; the
# kernel keeps what was added, and shows what Redis would as long as nothing concurrent is known.
cdef void incrbyfloat(Call *c) noexcept nogil:
    cdef Element *e
    cdef char number[REAL_TEXT]
    cdef long double v = 0, step, wanted
    cdef Span text
    cdef int found = find_string(c, 1, &e)
    if found == REFUSED:
        return
    if found:
        text = string_view(c.kernel, e)
        if not parse_long_double(text.p, text.n, &v):
            refuse_float(c)
            return
    if not parse_long_double(c.argv[2].p, c.argv[2].n, &step):
        refuse_float(c)
        return
    wanted = v + step
    if not isfinite(wanted):
        refuse(c, INCREMENT_NOT_FINITE)
        return
    string_add(c.kernel, c.db, c.argv[1], e, step, &wanted)
    reply_bulk(c.reply, number, format_long_double(wanted, number))


# ---- LCS -----------------------------------------------------------------------------------------
# A stretch that both strings share: from a[a_first] and b[b_first] on, n bytes.
cdef struct Stretch:
    uint32_t a_first
    uint32_t b_first
    uint32_t n


cdef uint32_t *lcs_table(Span a, Span b) noexcept nogil:
    """Lengths of the longest common subsequences of all prefixes: row i, column j stands for a[:i]
    and b[:j]. NULL: no memory."""
    cdef size_t width = b.n + 1, i, j
    cdef uint32_t *table = <uint32_t*>malloc((a.n + 1) * width * sizeof(uint32_t))
    cdef uint32_t *row
    cdef uint32_t *above
    cdef char ch
    if table == NULL:
        return NULL
    memset(table, 0, width * sizeof(uint32_t))
    for i in range(a.n):
        above = table + i * width
        row = above + width
        ch = a.p[i]
        row[0] = 0
        for j in range(b.n):
            row[j + 1] = above[j] + 1 if ch == b.p[j] else max(above[j + 1], row[j])
    return table


cdef void lcs_walk(const uint32_t *table, Span a, Span b, Buffer *stretches) noexcept nogil:
    """The stretches of one longest common subsequence, last one first. Where several are longest,
    the walk back from the ends prefers to shorten b: that choice is visible, and it is Redis's."""
    cdef size_t width = b.n + 1, i = a.n, j = b.n
    cdef Stretch s
    s.n = 0
    while i and j:
        if a.p[i - 1] == b.p[j - 1]:
            i -= 1
            j -= 1
            s.a_first = <uint32_t>i
            s.b_first = <uint32_t>j
            s.n += 1
            continue
        if s.n:
            buffer_add(stretches, &s, sizeof(s))
            s.n = 0
        if table[(i - 1) * width + j] > table[i * width + j - 1]:
            i -= 1
        else:
            j -= 1
    if s.n:
        buffer_add(stretches, &s, sizeof(s))


cdef void lcs_reply_stretches(Call *c, Stretch *s, size_t n, int64_t shortest,
                              int with_length) noexcept nogil:
    cdef size_t i
    cdef int64_t shown = 0
    for i in range(n):
        shown += s[i].n >= shortest
    reply_array(c.reply, shown)
    for i in range(n):
        if s[i].n < shortest:
            continue
        reply_array(c.reply, 3 if with_length else 2)
        reply_array(c.reply, 2)
        reply_int(c.reply, s[i].a_first)
        reply_int(c.reply, <int64_t>s[i].a_first + s[i].n - 1)
        reply_array(c.reply, 2)
        reply_int(c.reply, s[i].b_first)
        reply_int(c.reply, <int64_t>s[i].b_first + s[i].n - 1)
        if with_length:
            reply_int(c.reply, s[i].n)


cdef void lcs_reply(Call *c, Span a, Span b, int want_length, int want_stretches, int64_t shortest,
                    int with_length) noexcept nogil:
    cdef uint32_t *table
    cdef uint32_t length
    cdef Buffer stretches
    cdef Buffer text
    cdef Stretch *s
    cdef size_t n
    if (a.n + 1) * (b.n + 1) * sizeof(uint32_t) > MAX_STRING:
        refuse(c, LCS_TOO_LARGE)
        return
    table = lcs_table(a, b)
    if table == NULL:
        refuse(c, LCS_NO_MEMORY)
        return
    length = table[a.n * (b.n + 1) + b.n]
    if want_length:
        reply_int(c.reply, length)
        free(table)
        return
    memset(&stretches, 0, sizeof(stretches))
    lcs_walk(table, a, b, &stretches)
    free(table)
    s = <Stretch*>stretches.p
    n = stretches.n // sizeof(Stretch)
    if want_stretches:
        reply_map(c.reply, 2)
        reply_bulk(c.reply, b"matches", 7)
        lcs_reply_stretches(c, s, n, shortest, with_length)
        reply_bulk(c.reply, b"len", 3)
        reply_int(c.reply, length)
    else:
        memset(&text, 0, sizeof(text))
        buffer_need(&text, length)
        while n:
            n -= 1
            buffer_add(&text, a.p + s[n].a_first, s[n].n)
        reply_bulk(c.reply, text.p, text.n)
        buffer_free(&text)
    buffer_free(&stretches)


cdef void lcs(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Element *e
    cdef Span v[2]
    cdef Buffer copy
    cdef int i, type, want_length = 0, want_stretches = 0, with_length = 0
    cdef int64_t shortest = 0
    memset(&copy, 0, sizeof(copy))
    for i in range(2):
        e = key_find(k, c.db, c.argv[1 + i])
        type = key_type(k, e)
        if type == T_NONE:
            c.stats.misses += 1
        else:
            c.stats.hits += 1
        if type != T_NONE and type != T_STRING:
            refuse(c, LCS_NOT_STRINGS)
            buffer_free(&copy)
            return
        v[i] = span(b"", 0)
        if type == T_STRING:
            touch(c, e)
            v[i] = string_view(k, e)
        if i == 0 and v[0].p == <const char*>k.scratch.number:
            buffer_add(&copy, v[0].p, v[0].n)
            v[0].p = copy.p
    i = 3
    while i < c.argc:
        if is_word(c.argv[i], b"IDX"):
            want_stretches = 1
        elif is_word(c.argv[i], b"LEN"):
            want_length = 1
        elif is_word(c.argv[i], b"WITHMATCHLEN"):
            with_length = 1
        elif is_word(c.argv[i], b"MINMATCHLEN") and i + 1 < c.argc:
            i += 1
            if not read_int(c, c.argv[i], &shortest):
                break
        else:
            refuse_syntax(c)
            break
        i += 1
    else:
        if want_length and want_stretches:
            refuse(c, LCS_LENGTH_AND_INDEXES)
        else:
            lcs_reply(c, v[0], v[1], want_length, want_stretches, shortest, with_length)
    buffer_free(&copy)


# ---- registration --------------------------------------------------------------------------------
ONE_REGISTER = ("The value is one register: of concurrent writes the one with the later timestamp "
                "wins as a whole.")
LOCAL_TEST = ("The test is local: two replicas can both succeed concurrently, and then the later "
              "timestamp wins.")
SUM = ("Concurrent increments add up: none is lost, none counts twice. As a source of unique "
       "numbers it is local to one replica.")

def _access_of_set(argv: list[bytes]) -> str:
    return "RW access update" if b"GET" in (a.upper() for a in argv[3:]) else "OW update"


command("SET key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
        "PXAT unix-time-milliseconds | KEEPTTL]", arity=-3, flags="write denyoom one_change",
        keys=(1, 1, 1), access="RW access update variable_flags", access_of=_access_of_set,
        group="string", since="1.0.0",
        summary="Sets a key to a string, whatever it held before, and its lifetime if one is "
                "given.",
        replicas=(ONE_REGISTER + " An increment made meanwhile survives on top of a number. NX, "
                  "XX and GET look at this replica only."))(native(set_))
command("SETNX key value", arity=3, flags="write denyoom fast", keys=(1, 1, 1), access="OW insert",
        group="string", since="1.0.0", summary="Sets a key to a string if the key is not there.",
        replicas=LOCAL_TEST)(native(setnx))
command("SETEX key seconds value", arity=4, flags="write denyoom one_change", keys=(1, 1, 1),
        access="OW update", group="string", since="2.0.0",
        summary="Sets a key to a string and its lifetime in seconds.",
        replicas=ONE_REGISTER + " The deadline is a register of its own.")(native(setex))
command("PSETEX key milliseconds value", arity=4, flags="write denyoom one_change", keys=(1, 1, 1),
        access="OW update", group="string", since="2.6.0",
        summary="Sets a key to a string and its lifetime in milliseconds.",
        replicas=ONE_REGISTER + " The deadline is a register of its own.")(native(psetex))
command("GETSET key value", arity=3, flags="write denyoom fast", keys=(1, 1, 1),
        access="RW access update", group="string", since="1.0.0",
        summary="Sets a key to a string and answers the one it held.",
        replicas=(ONE_REGISTER + " The old value is this replica's: two replicas can both be "
                  "given the same one."))(native(getset))
command("MSET <key value>...", arity=-3, flags="write denyoom", keys=(1, -1, 2), access="OW update",
        group="string", since="1.0.1", complexity="O(N) with N keys",
        tips="request_policy:multi_shard response_policy:all_succeeded",
        summary="Sets several keys to strings at once.",
        replicas="Every replica applies all of its writes at once. Each key is a register of its "
                 "own: the later timestamp wins.")(native(mset))
command("MSETNX <key value>...", arity=-3, flags="write denyoom", keys=(1, -1, 2),
        access="OW insert", group="string", since="1.0.1", complexity="O(N) with N keys",
        tips="request_policy:multi_shard response_policy:agg_min",
        summary="Sets several keys to strings at once if none of them is there.",
        replicas=LOCAL_TEST + " Every replica applies all of its writes at once.")(native(msetnx))
command("GET key", arity=2, flags="readonly fast", keys=(1, 1, 1), group="string", since="1.0.0",
        summary="Answers the string that a key holds.")(native(get))
command("GETDEL key", arity=2, flags="write fast", keys=(1, 1, 1), access="RW access delete",
        group="string", since="6.2.0",
        summary="Answers the string that a key holds, and removes the key.",
        replicas="Two replicas can both be given the value. A concurrent write survives the "
                 "removal.")(native(getdel))
command("GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
        "unix-time-milliseconds | PERSIST]", arity=-2, flags="write fast one_change",
        keys=(1, 1, 1), access="RW access update", group="string", since="6.2.0",
        summary="Answers the string that a key holds, and sets or removes its lifetime.",
        replicas="The deadline is a register: of concurrent changes the one with the later "
                 "timestamp wins.")(native(getex))
command("MGET key...", arity=-2, flags="readonly fast", keys=(1, -1, 1), group="string",
        since="1.0.0", complexity="O(N) with N keys", tips="request_policy:multi_shard",
        summary="Answers the strings that several keys hold.")(native(mget))
command("STRLEN key", arity=2, flags="readonly fast", keys=(1, 1, 1), access="RO", group="string",
        since="2.2.0",
        summary="Answers the length of the string that a key holds, in bytes.")(native(strlen_))
command("GETRANGE key start end", arity=4, flags="readonly", keys=(1, 1, 1), group="string",
        since="2.4.0", complexity="O(N) with N bytes answered",
        summary="Answers a part of the string that a key holds.")(native(getrange))
command("SUBSTR key start end", arity=4, flags="readonly", keys=(1, 1, 1), group="string",
        since="1.0.0", complexity="O(N) with N bytes answered",
        summary="GETRANGE by its old name.")(native(getrange))
command("APPEND key value", arity=3, flags="write denyoom fast one_change", keys=(1, 1, 1),
        access="RW insert", group="string", since="2.0.0",
        complexity="O(N) with N bytes of the whole value",
        summary="Appends to the string that a key holds.", replicas=ONE_REGISTER)(native(append))
command("SETRANGE key offset value", arity=4, flags="write denyoom one_change", keys=(1, 1, 1),
        access="RW update", group="string", since="2.2.0",
        complexity="O(N) with N bytes of the whole value",
        summary="Overwrites a part of the string that a key holds.",
        replicas=ONE_REGISTER)(native(setrange))
command("INCR key", arity=2, flags="write denyoom fast", keys=(1, 1, 1), access="RW access update",
        group="string", since="1.0.0", summary="Adds one to the whole number that a key holds.",
        replicas=SUM)(native(incr))
command("DECR key", arity=2, flags="write denyoom fast", keys=(1, 1, 1), access="RW access update",
        group="string", since="1.0.0",
        summary="Subtracts one from the whole number that a key holds.", replicas=SUM)(native(decr))
command("INCRBY key increment", arity=3, flags="write denyoom fast", keys=(1, 1, 1),
        access="RW access update", group="string", since="1.0.0",
        summary="Adds to the whole number that a key holds.", replicas=SUM)(native(incrby))
command("DECRBY key decrement", arity=3, flags="write denyoom fast", keys=(1, 1, 1),
        access="RW access update", group="string", since="1.0.0",
        summary="Subtracts from the whole number that a key holds.", replicas=SUM)(native(decrby))
command("INCRBYFLOAT key increment", arity=3, flags="write denyoom fast", keys=(1, 1, 1),
        access="RW access update", group="string", since="2.6.0",
        summary="Adds to the number that a key holds.",
        replicas="Concurrent increments add up, to the same bytes in every replica.")(
        native(incrbyfloat))
command("LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]", arity=-3,
        flags="readonly", keys=(1, 2, 1), group="string", since="7.0.0",
        complexity="O(N*M) with N and M bytes of the two strings",
        summary="Answers the longest common subsequence of two strings, its length, or where it "
                "lies.")(native(lcs))

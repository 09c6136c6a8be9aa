"""The counters among the strings: INCR and its kin, and INCREX.

What replicates is what was added, so concurrent increments add up. INCREX's bounds are about what
this replica shows; what it adds is cut to them before it is an increment like others.
"""
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memset

from crdtredis._core cimport (NO_NUMBER, WHOLE, Element, key_deadline, key_expire, key_find,
                              key_visible, string_add, string_int, string_view)
from crdtredis._engine cimport (Call, is_word, native, refuse, refuse_float, refuse_int,
                                refuse_syntax)
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_raw
from crdtredis.buffer cimport Span
from crdtredis.commands.common cimport REFUSED, find_string, read_int
from crdtredis.commands.options cimport (O_EXPIRES, O_OF_INCREX, O_PERSIST, Options, drop, option,
                                         option_deadline)
from crdtredis.errors cimport (APPLIED_OVERFLOW, BOUNDS_CROSSED, BYFLOAT_INFINITE,
                               DECREMENT_OVERFLOW, ENX_ALONE, INCREMENT_NOT_FINITE,
                               INCREMENT_OVERFLOW, OPTION_NOT_FLOAT, OPTION_NOT_INTEGER,
                               VALUE_INFINITE)
from crdtredis.numbers cimport REAL_TEXT, format_long_double, parse_int64, parse_long_double

from crdtredis.commands.table import command

cdef extern from "<math.h>" nogil:
    bint isfinite(long double v)

cdef extern from "<float.h>" nogil:
    const long double LDBL_MAX


cdef int read_counter(Call *c, Element **e, int64_t *v, int *kind) noexcept nogil:
    """The whole number under argv[1], 0 where nothing is; 0 after a refusal."""
    cdef Span text
    cdef int found = find_string(c, 1, e)
    if found == REFUSED:
        return 0
    v[0] = 0
    kind[0] = string_int(c.kernel, e[0], v) if found else <int>WHOLE
    if kind[0] == NO_NUMBER:
        # fractions that add up to what is shown as a whole number are one, too
        text = string_view(c.kernel, e[0])
        if not parse_int64(text.p, text.n, v):
            refuse_int(c)
            return 0
    return 1


cdef int read_sum(Call *c, Element **e, long double *v) noexcept nogil:
    """The same for any number."""
    cdef Span text
    cdef int found = find_string(c, 1, e)
    if found == REFUSED:
        return 0
    v[0] = 0
    if found:
        text = string_view(c.kernel, e[0])
        if not parse_long_double(text.p, text.n, v):
            refuse_float(c)
            return 0
    return 1


cdef void add(Call *c, int64_t step) noexcept nogil:
    cdef Element *e
    cdef int64_t v
    cdef long double wanted
    cdef int kind
    if not read_counter(c, &e, &v, &kind):
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
    cdef long double v, step, wanted
    if not read_sum(c, &e, &v):
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


# ---- INCREX --------------------------------------------------------------------------------------
# A condition of its own: bounds, and whether a result beyond them is cut to them.
cdef struct Bounded:
    Span step               # BYINT or BYFLOAT, p == NULL: by one
    Span low                # LBOUND, UBOUND; p == NULL: those of the type
    Span high
    int real                # BYFLOAT
    int saturate
    int only_new            # ENX
    Options options


cdef int read_bounded(Call *c, Bounded *b) noexcept nogil:
    """INCREX's options, none of which may be repeated; 0 after a refusal."""
    cdef int i = 2, more
    cdef uint32_t o
    cdef Span *to
    memset(b, 0, sizeof(Bounded))
    while i < c.argc:
        more = i + 1 < c.argc
        to = (&b.step if is_word(c.argv[i], b"BYINT") or is_word(c.argv[i], b"BYFLOAT")
              else &b.low if is_word(c.argv[i], b"LBOUND")
              else &b.high if is_word(c.argv[i], b"UBOUND") else NULL)
        o = option(c.argv[i]) & O_OF_INCREX
        if to != NULL and more and to.p == NULL:
            b.real |= is_word(c.argv[i], b"BYFLOAT")
            to[0] = c.argv[i + 1]
            i += 1
        elif is_word(c.argv[i], b"SATURATE") and not b.saturate:
            b.saturate = 1
        elif is_word(c.argv[i], b"ENX") and not b.only_new and not b.options.given & O_PERSIST:
            b.only_new = 1
        elif o == O_PERSIST and not b.options.given and not b.only_new:
            b.options.given = o
        elif o & O_EXPIRES and not b.options.given and more:
            b.options.given = o
            b.options.expire = c.argv[i + 1]
            i += 1
        else:
            refuse_syntax(c)
            return 0
        i += 1
    if b.only_new and not b.options.given:
        refuse(c, ENX_ALONE)
        return 0
    return 1


cdef void refuse_option(Call *c, const char *text, const char *name) noexcept nogil:
    cdef char named[80]
    snprintf(named, sizeof(named), text, name)
    refuse(c, named)


cdef int read_whole(Call *c, Span arg, const char *name, int64_t *out) noexcept nogil:
    """An option's number, unchanged where it was not given; 0 after a refusal."""
    if arg.p == NULL or parse_int64(arg.p, arg.n, out):
        return 1
    refuse_option(c, OPTION_NOT_INTEGER, name)
    return 0


cdef int read_real(Call *c, Span arg, const char *name, long double *out) noexcept nogil:
    if arg.p == NULL or parse_long_double(arg.p, arg.n, out):
        return 1
    refuse_option(c, OPTION_NOT_FLOAT, name)
    return 0


cdef void reply_real(Call *c, long double v) noexcept nogil:
    cdef char number[REAL_TEXT]
    cdef int n = format_long_double(v, number)
    if c.reply.resp == 2:
        reply_bulk(c.reply, number, n)
    else:
        reply_raw(c.reply, b",", 1)
        reply_raw(c.reply, number, n)
        reply_raw(c.reply, b"\r\n", 2)


cdef void add_bounded(Call *c, Bounded *b, Element *e, long double step, const long double *wanted,
                      int64_t deadline) noexcept nogil:
    """Adds to argv[1], and gives it the lifetime that was asked for."""
    cdef int expires = (b.options.given & O_EXPIRES != 0
                        and not (b.only_new and key_visible(c.kernel, e)
                                 and key_deadline(c.kernel, e) >= 0))
    if expires and deadline <= c.kernel.now:
        drop(c, e)
        return
    string_add(c.kernel, c.db, c.argv[1], e, step, wanted)
    e = key_find(c.kernel, c.db, c.argv[1])
    c.changes = 1
    if expires or b.options.given & O_PERSIST and key_deadline(c.kernel, e) >= 0:
        key_expire(c.kernel, c.db, e, deadline)
        c.changes = 2                       # by which the notification tells


cdef void add_whole(Call *c, Bounded *b) noexcept nogil:
    cdef int64_t step = 1, low = INT64_MIN, high = INT64_MAX, v = 0, sum, deadline = 0
    cdef int over, under, beyond, kind
    cdef long double wanted
    cdef Element *e
    if (not read_whole(c, b.step, b"Increment", &step) or not read_whole(c, b.low, b"LBOUND", &low)
            or not read_whole(c, b.high, b"UBOUND", &high)):
        return
    if low > high:
        refuse(c, BOUNDS_CROSSED)
        return
    if (not option_deadline(c, &b.options, &deadline)
            or not read_counter(c, &e, &v, &kind)):
        return
    over = step > 0 and v > INT64_MAX - step
    under = step < 0 and v < INT64_MIN - step
    sum = INT64_MAX if over else INT64_MIN if under else v + step
    beyond = over or under or sum < low or sum > high
    if beyond:
        sum = min(max(sum, low), high) if b.saturate else v
        if sum >= v if <int64_t>(<uint64_t>sum - <uint64_t>v) < 0 else sum < v:
            refuse(c, APPLIED_OVERFLOW)
            return
    step = sum - v
    if not beyond or b.saturate:
        wanted = sum
        add_bounded(c, b, e, step, &wanted if kind != WHOLE else NULL, deadline)
    reply_array(c.reply, 2)
    reply_int(c.reply, sum)
    reply_int(c.reply, step)


cdef void add_real(Call *c, Bounded *b) noexcept nogil:
    cdef long double step = 0, low = -LDBL_MAX, high = LDBL_MAX, v = 0, wanted
    cdef int64_t deadline = 0
    cdef int beyond
    cdef Element *e
    if not read_real(c, b.step, b"Increment", &step):
        return
    if not isfinite(step):
        refuse(c, BYFLOAT_INFINITE)
        return
    if (not read_real(c, b.low, b"LBOUND", &low) or not read_real(c, b.high, b"UBOUND", &high)):
        return
    if low > high:
        refuse(c, BOUNDS_CROSSED)
        return
    if not option_deadline(c, &b.options, &deadline) or not read_sum(c, &e, &v):
        return
    if not isfinite(v):
        refuse(c, VALUE_INFINITE)
        return
    wanted = v + step
    beyond = not isfinite(wanted) or wanted < low or wanted > high
    if beyond:
        wanted = min(max(wanted, low), high) if b.saturate else v
    step = wanted - v if beyond else step
    if not isfinite(step) or not isfinite(wanted):
        refuse(c, INCREMENT_NOT_FINITE)
        return
    if not beyond or b.saturate:
        add_bounded(c, b, e, step, &wanted, deadline)
    reply_array(c.reply, 2)
    reply_real(c, wanted)
    reply_real(c, step)


cdef void increx(Call *c) noexcept nogil:
    cdef Bounded b
    if not read_bounded(c, &b):
        return
    if b.real:
        add_real(c, &b)
    else:
        add_whole(c, &b)


# ---- registration --------------------------------------------------------------------------------
SUM = ("Concurrent increments add up: none is lost, none counts twice. As a source of unique "
       "numbers it is local to one replica.")

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
command("INCREX key [BYFLOAT increment | BYINT increment] [LBOUND lowerbound] [UBOUND upperbound] "
        "[SATURATE] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
        "unix-time-milliseconds | PERSIST] [ENX]", arity=-2, flags="write denyoom fast one_change",
        keys=(1, 1, 1), access="RW access update", group="string", since="8.8.0",
        summary="Adds to the number that a key holds, within bounds, and sets or removes its "
                "lifetime.",
        replicas="Concurrent increments add up. The bounds are looked at by the replica that adds, "
                 "so together they can pass a bound. The deadline is a register of its own.")(
        native(increx))

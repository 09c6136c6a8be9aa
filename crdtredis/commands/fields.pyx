# cython: language_level=3
"""Deadlines of hash fields: HEXPIRE and its kin, HGETEX, HSETEX.

A deadline is a register of its own beside the field (core/fields.pxi), so HEXPIRE never competes
with a write to the value, and a passed one hides the field at once. A time that has passed already
removes the field, as HDEL does. Replies, refusals and the order in which arguments are looked at
are those of Redis 8.2.
"""
from libc.stdint cimport int64_t
from libc.string cimport memset, strlen

from crdtredis._core cimport (T_HASH, Collection, Element, Kernel, field_deadline, field_expire,
                              field_keep, key_collection, key_prepare, member_find, member_remove,
                              member_set, member_view, op_room)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_arity, refuse_syntax
from crdtredis._resp cimport reply_array, reply_bulk, reply_error_span, reply_int, reply_null
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free
from crdtredis.commands.common cimport REFUSED, args_fit, args_size, read_int, refuse_named
from crdtredis.commands.members cimport end_removal, find_members, read_members
from crdtredis.errors cimport (FIELDS_COUNT, FIELDS_MISSING, FIELDS_NOT_ABOVE_0,
                               FIELDS_NOT_POSITIVE, FIELDS_NUMBER, FIELD_CONDITIONS, FIELD_TIMES,
                               FIELD_TIME_NEGATIVE, INVALID_EXPIRE, UNKNOWN_ARGUMENT)
from crdtredis.numbers cimport parse_int64

from functools import partial

from crdtredis.commands.table import command

cdef enum:
    LATEST = 70368744177663     # ms since 1970: no field has a later deadline, in Redis either
    INT32_MOST = 2147483647

# What HEXPIRE answers of a field.
cdef enum Answer:
    NO_FIELD = -2
    NO_DEADLINE = -1
    NOT_SET = 0                 # a condition is not met
    SET = 1
    REMOVED = 2


# ---- reading arguments ---------------------------------------------------------------------------
cdef int read_time(Call *c, Span arg, int64_t unit, int64_t base, int64_t *out) noexcept nogil:
    """`unit` ms each, counted from `base`, as ms since 1970; 0 after a refusal."""
    if not read_int(c, arg, out):
        return 0
    if out[0] < 0:
        refuse(c, FIELD_TIME_NEGATIVE)
        return 0
    if out[0] > LATEST // unit or out[0] * unit > LATEST - base:
        refuse_named(c, INVALID_EXPIRE)
        return 0
    out[0] = out[0] * unit + base
    return 1


cdef int read_fields(Call *c, int at, const char *not_positive) noexcept nogil:
    """`FIELDS numfields field...` from argv[at] on, to the end; 0 after a refusal."""
    cdef int64_t n
    if at >= c.argc or not is_word(c.argv[at], "FIELDS"):
        refuse(c, FIELDS_MISSING)
    elif at + 1 >= c.argc or not parse_int64(c.argv[at + 1].p, c.argv[at + 1].n, &n) or n < 1:
        refuse(c, not_positive)
    elif n != c.argc - at - 2:
        refuse(c, FIELDS_COUNT)
    else:
        return 1
    return 0


cdef int time_option(Call *c, int i, int64_t *unit, int64_t *base) noexcept nogil:
    """Is argv[i] EX, PX, EXAT or PXAT?"""
    cdef int seconds = is_word(c.argv[i], "EX") or is_word(c.argv[i], "EXAT")
    cdef int relative = is_word(c.argv[i], "EX") or is_word(c.argv[i], "PX")
    unit[0] = 1000 if seconds else 1
    base[0] = c.kernel.now if relative else 0
    return seconds or relative or is_word(c.argv[i], "PXAT")


# ---- writing -------------------------------------------------------------------------------------
# A key under way: what the effects before have left of it.
cdef struct Writing:
    Element *e
    Collection *h               # NULL: the hash has gone
    int removed                 # fields; before the first, the key is prepared


cdef void remove_field(Call *c, Writing *w, Span field) noexcept nogil:
    cdef Kernel *k = c.kernel
    if not w.removed:
        w.e = key_prepare(k, c.db, c.argv[1], w.e, T_HASH)
    w.e = member_remove(k, c.db, c.argv[1], w.e, T_HASH, field)
    w.h = key_collection(k, w.e, T_HASH)
    w.removed = 1


cdef void expire_field(Call *c, Writing *w, Span field, int64_t when) noexcept nogil:
    """0: never."""
    w.e = field_expire(c.kernel, c.db, c.argv[1], w.e, field, when)
    w.h = key_collection(c.kernel, w.e, T_HASH)


cdef void expire_generic(Call *c, int64_t unit, int64_t base) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef int nx, xx, gt, lt, i, at = 3
    cdef int64_t when, current
    cdef Writing w
    cdef Element *m
    w.removed = 0
    if find_members(c, c.argv[1], T_HASH, &w.e, &w.h) == REFUSED:
        return
    if not read_time(c, c.argv[2], unit, base, &when):
        return
    nx = is_word(c.argv[3], "NX")
    xx = is_word(c.argv[3], "XX")
    gt = is_word(c.argv[3], "GT")
    lt = is_word(c.argv[3], "LT")
    at += nx or xx or gt or lt
    if not read_fields(c, at, FIELDS_NOT_ABOVE_0) or not args_fit(c, at + 2, 1):
        return
    reply_array(c.reply, c.argc - at - 2)
    for i in range(at + 2, c.argc):
        m = member_find(k, w.h, c.argv[i]) if w.h != NULL else NULL
        current = field_deadline(k, w.h, m) if m != NULL else -1
        if m == NULL:
            reply_int(c.reply, NO_FIELD)
        elif ((nx and current != -1) or (xx and current == -1)
                or (gt and (current == -1 or when <= current))
                or (lt and current != -1 and when >= current)):
            # without a deadline a field lives for ever: no time is greater, every time is less
            reply_int(c.reply, NOT_SET)
        elif when <= k.now:
            remove_field(c, &w, c.argv[i])
            reply_int(c.reply, REMOVED)
        else:
            expire_field(c, &w, c.argv[i], when)
            reply_int(c.reply, SET)
    if w.removed:
        end_removal(c, c.argv[1], w.e)


cdef void hexpire(Call *c) noexcept nogil:
    expire_generic(c, 1000, c.kernel.now)


cdef void hpexpire(Call *c) noexcept nogil:
    expire_generic(c, 1, c.kernel.now)


cdef void hexpireat(Call *c) noexcept nogil:
    expire_generic(c, 1000, 0)


cdef void hpexpireat(Call *c) noexcept nogil:
    expire_generic(c, 1, 0)


cdef void hpersist(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Writing w
    cdef Element *m
    cdef int i
    if (find_members(c, c.argv[1], T_HASH, &w.e, &w.h) == REFUSED
            or not read_fields(c, 2, FIELDS_NOT_POSITIVE) or not args_fit(c, 4, 1)):
        return
    reply_array(c.reply, c.argc - 4)
    for i in range(4, c.argc):
        m = member_find(k, w.h, c.argv[i]) if w.h != NULL else NULL
        if m == NULL:
            reply_int(c.reply, NO_FIELD)
        elif field_deadline(k, w.h, m) < 0:
            reply_int(c.reply, NO_DEADLINE)
        else:
            expire_field(c, &w, c.argv[i], 0)
            reply_int(c.reply, SET)


cdef void hgetex(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef int64_t unit, base, when = -1              # -1: left alone; 0: never
    cdef int i, at = 2
    cdef Writing w
    cdef Element *m
    cdef Span v
    w.removed = 0
    if find_members(c, c.argv[1], T_HASH, &w.e, &w.h) == REFUSED:
        return
    if time_option(c, 2, &unit, &base):
        at = 4
        if not read_time(c, c.argv[3], unit, base, &when):
            return
        when = max(when, <int64_t>1)
    elif is_word(c.argv[2], "PERSIST"):
        at = 3
        when = 0
    if not read_fields(c, at, FIELDS_NOT_POSITIVE) or not args_fit(c, at + 2, 1):
        return
    reply_array(c.reply, c.argc - at - 2)
    for i in range(at + 2, c.argc):
        m = member_find(k, w.h, c.argv[i]) if w.h != NULL else NULL
        if m == NULL:
            reply_null(c.reply)
            continue
        v = member_view(k, m)
        reply_bulk(c.reply, v.p, v.n)
        if when > k.now or (when == 0 and field_deadline(k, w.h, m) >= 0):
            expire_field(c, &w, c.argv[i], when)
        elif when > 0:
            remove_field(c, &w, c.argv[i])
    if w.removed:
        end_removal(c, c.argv[1], w.e)


# What HSETEX is to do.
cdef struct Setting:
    int nx                      # the hash is to be new,
    int xx                      # to be there;
    int fnx                     # all fields are
    int fxx
    int keep
    int64_t when                # ms; -1: no time is given
    int first                   # the fields and values begin at argv[first]


cdef void refuse_argument(Call *c, Span argument) noexcept nogil:
    cdef Buffer text
    memset(&text, 0, sizeof(Buffer))
    buffer_add(&text, UNKNOWN_ARGUMENT, strlen(UNKNOWN_ARGUMENT))
    buffer_add(&text, argument.p, min(argument.n, <size_t>128))
    reply_error_span(c.reply, text.p, text.n)
    buffer_free(&text)


cdef int read_setting(Call *c, Setting *s) noexcept nogil:
    """0 after a refusal."""
    cdef int64_t unit, base, n
    cdef int i = 2
    memset(s, 0, sizeof(Setting))
    s.when = -1
    while i < c.argc:
        if is_word(c.argv[i], "FNX") or is_word(c.argv[i], "FXX"):
            if s.fnx or s.fxx:
                refuse(c, FIELD_CONDITIONS)
                return 0
            s.fnx = is_word(c.argv[i], "FNX")
            s.fxx = not s.fnx
        elif is_word(c.argv[i], "NX") or is_word(c.argv[i], "XX"):
            s.nx |= is_word(c.argv[i], "NX")
            s.xx |= is_word(c.argv[i], "XX")
            if s.nx and s.xx:
                refuse_syntax(c)
                return 0
        elif is_word(c.argv[i], "KEEPTTL") or time_option(c, i, &unit, &base):
            if s.keep or s.when >= 0:
                refuse(c, FIELD_TIMES)
                return 0
            s.keep = is_word(c.argv[i], "KEEPTTL")
            if not s.keep:
                i += 1
                if i == c.argc:
                    refuse_arity(c)
                    return 0
                if not read_time(c, c.argv[i], unit, base, &s.when):
                    return 0
        elif is_word(c.argv[i], "FIELDS"):
            if (i + 1 == c.argc or not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, &n)
                    or n < 1 or n > INT32_MOST):
                refuse(c, FIELDS_NUMBER)
                return 0
            s.first = i + 2
            if 2 * n != c.argc - s.first:
                break
            return 1
        else:
            refuse_argument(c, c.argv[i])
            return 0
        i += 1
    refuse_arity(c)
    return 0


cdef int may_set(Call *c, const Setting *s, Collection *h) noexcept nogil:
    """Are the hash and all fields new, or there, where that is asked for?"""
    cdef int i, there
    if s.xx if h == NULL else s.nx:
        return 0
    for i in range(s.first, c.argc if s.fnx or s.fxx else s.first, 2):
        there = h != NULL and member_find(c.kernel, h, c.argv[i]) != NULL
        if there == s.fnx:
            return 0
    return 1


cdef void hsetex(Call *c) noexcept nogil:
    """A time that has passed removes the fields: nobody would see what is set."""
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Setting s
    cdef Writing w
    cdef Element *m
    cdef size_t names = 0
    cdef int i
    w.removed = 0
    if (not read_setting(c, &s) or find_members(c, key, T_HASH, &w.e, &w.h) == REFUSED):
        return
    if not may_set(c, &s, w.h):
        reply_int(c.reply, 0)
        return
    for i in range(s.first, c.argc, 2):
        names += c.argv[i].n
    if not op_room(k, c.db, <size_t>(c.argc - s.first), key.n, args_size(c, s.first) + names):
        return
    if 0 <= s.when <= k.now:
        for i in range(s.first, c.argc, 2):
            if w.h != NULL and member_find(k, w.h, c.argv[i]) != NULL:
                remove_field(c, &w, c.argv[i])
        if w.removed:
            end_removal(c, key, w.e)
        reply_int(c.reply, 1)
        return
    w.e = key_prepare(k, c.db, key, w.e, T_HASH)
    for i in range(s.first, c.argc, 2):
        w.h = key_collection(k, w.e, T_HASH)
        m = member_find(k, w.h, c.argv[i]) if w.h != NULL and s.keep else NULL
        if m != NULL:
            w.e = field_keep(k, c.db, key, w.e, c.argv[i], c.argv[i + 1])
        else:
            w.e = member_set(k, c.db, key, w.e, T_HASH, c.argv[i], c.argv[i + 1])
        if s.when >= 0:
            expire_field(c, &w, c.argv[i], s.when)
    reply_int(c.reply, 1)


# ---- reading -------------------------------------------------------------------------------------
cdef void answer_times(Call *c, int64_t unit, int64_t base) noexcept nogil:
    """Deadlines in `unit` ms each, counted from `base`, rounded up."""
    cdef Kernel *k = c.kernel
    cdef Collection *h
    cdef Element *m
    cdef int64_t at
    cdef int i
    if (read_members(c, c.argv[1], T_HASH, &h) == REFUSED
            or not read_fields(c, 2, FIELDS_NOT_POSITIVE)):
        return
    reply_array(c.reply, c.argc - 4)
    for i in range(4, c.argc):
        m = member_find(k, h, c.argv[i]) if h != NULL else NULL
        at = field_deadline(k, h, m) if m != NULL else -1
        if m == NULL:
            reply_int(c.reply, NO_FIELD)
        elif at < 0:
            reply_int(c.reply, NO_DEADLINE)
        else:
            reply_int(c.reply, (at - base + unit - 1) // unit)


cdef void httl(Call *c) noexcept nogil:
    answer_times(c, 1000, c.kernel.now)


cdef void hpttl(Call *c) noexcept nogil:
    answer_times(c, 1, c.kernel.now)


cdef void hexpiretime(Call *c) noexcept nogil:
    answer_times(c, 1000, 0)


cdef void hpexpiretime(Call *c) noexcept nogil:
    answer_times(c, 1, 0)


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="hash")
DEADLINES = ("The deadline is a register of the field: of concurrent HEXPIRE, HPERSIST and HSET "
             "the later timestamp decides it; a concurrent HINCRBY is kept and gets it. A time in "
             "the past removes what this replica had seen of the field.")
_writes = partial(_of_one_key, flags="write fast", access="RW update", replicas=DEADLINES,
                  complexity="O(N) with N fields")
_reads = partial(_of_one_key, flags="readonly fast", complexity="O(N) with N fields")

for _name, _time, _handler, _summary in (
        ("HEXPIRE", "seconds", native(hexpire), "Sets fields' time to live in seconds."),
        ("HPEXPIRE", "milliseconds", native(hpexpire),
         "Sets fields' time to live in milliseconds."),
        ("HEXPIREAT", "unix-time-seconds", native(hexpireat),
         "Sets fields' deadline as a Unix time in seconds."),
        ("HPEXPIREAT", "unix-time-milliseconds", native(hpexpireat),
         "Sets fields' deadline as a Unix time in milliseconds.")):
    _writes(f"{_name} key {_time} [NX | XX | GT | LT] FIELDS numfields field...", arity=-6,
            since="7.4.0", summary=_summary)(_handler)
_writes("HPERSIST key FIELDS numfields field...", arity=-5, since="7.4.0",
        summary="Removes fields' deadlines.")(native(hpersist))
_writes("HGETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
        "PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field...", arity=-5,
        access="RW access update", since="8.0.0",
        summary="Answers the values of fields, and sets or removes their deadlines.")(
        native(hgetex))
_writes("HSETEX key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
        "PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields <field value>...", arity=-6,
        flags="write denyoom fast", since="8.0.0",
        summary="Sets fields of a hash with a deadline, all or none; answers whether it did.",
        replicas="Every field is a register of its own, and its deadline is another: of concurrent "
                 "writes to either the later timestamp wins. FNX and FXX are tested here alone: "
                 "two replicas can both succeed.")(native(hsetex))
for _name, _handler, _tips, _summary in (
        ("HTTL", native(httl), "nondeterministic_output",
         "Seconds until fields expire; -1 without a deadline, -2 without the field."),
        ("HPTTL", native(hpttl), "nondeterministic_output",
         "Milliseconds until fields expire; -1 without a deadline, -2 without the field."),
        ("HEXPIRETIME", native(hexpiretime), "",
         "Fields' deadlines as Unix times in seconds; -1 and -2 as HTTL."),
        ("HPEXPIRETIME", native(hpexpiretime), "",
         "Fields' deadlines as Unix times in milliseconds; -1 and -2 as HTTL.")):
    _reads(f"{_name} key FIELDS numfields field...", arity=-5, access="RO access", since="7.4.0",
           tips=_tips, summary=_summary)(_handler)

# cython: language_level=3
"""Hash commands.

A hash is a table of fields, each with a cell of its own: so what concurrent commands do to one
field is what they would do to a string of that name, and fields do not meet. The hash is there as
long as a field is.

A handler looks its key up, decides, and then writes field by field in the open op: key_prepare
once, and member_set, member_add or member_remove for each field, each of which takes the key's
element as the one before has left it. A command that changes nothing (HSETNX of a field that is
there, HDEL of one that is not) makes no effect; HSET of the value that is there makes one, for a
write is a write: it stands against a concurrent HDEL.

A field that was incremented is shown by formatting its sum into the kernel's one scratch place, so
a view of it lasts until the next. Replies are written while the table is walked; nothing is
gathered first.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from crdtredis._core cimport (NO_NUMBER, T_HASH, WHOLE, Collection, Element, Kernel, field_int,
                              key_collection, key_member, key_prepare, key_size, member_add,
                              member_find, member_lapsed, member_remove, member_set, member_view)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_arity, refuse_float
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_map, reply_null, reply_ok
from crdtredis.buffer cimport Span
from crdtredis.commands.common cimport FOUND, MISSING, REFUSED, args_fit, read_int
from crdtredis.commands.members cimport (end_removal, find_members, find_typed, member_live,
                                         member_name, members_shown, next_shown_member,
                                         read_member, read_members, read_random, remove_members,
                                         reply_random, reply_size)
from crdtredis.commands.scanning cimport Scan, scan_add, scan_matches, scan_members
from crdtredis.errors cimport (FIELDS_COUNT, FIELDS_MISSING, FIELDS_NOT_POSITIVE, HASH_NOT_FLOAT,
                               HASH_NOT_INTEGER, INCREMENT_NOT_FINITE, INCREMENT_OVERFLOW,
                               NOT_FINITE)
from crdtredis.numbers cimport REAL_TEXT, format_long_double, parse_int64, parse_long_double

from functools import partial

from crdtredis.commands.table import command

cdef extern from "<math.h>" nogil:
    bint isfinite(long double v)

# What HGETALL and its parts, and HRANDFIELD, answer of each field.
cdef enum Part:
    FIELD = 1
    VALUE = 2


cdef inline void reply_span(Call *c, Span v) noexcept nogil:
    reply_bulk(c.reply, v.p, v.n)


cdef inline void reply_field(Call *c, Element *m, int parts) noexcept nogil:
    if parts & FIELD:
        reply_span(c, member_name(m))
    if parts & VALUE:
        reply_span(c, member_view(c.kernel, m))


# ---- writing -------------------------------------------------------------------------------------
cdef int64_t set_fields(Call *c) noexcept nogil:
    """HSET and HMSET: how many fields are new, -1 after a refusal."""
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Element *e
    cdef int64_t before
    cdef int i
    if c.argc % 2:
        refuse_arity(c)
        return -1
    if find_typed(c, key, T_HASH, &e) == REFUSED or not args_fit(c, 2, 2):
        return -1
    before = key_size(k, e, T_HASH)
    e = key_prepare(k, c.db, key, e, T_HASH)
    for i in range(2, c.argc, 2):
        e = member_set(k, c.db, key, e, T_HASH, c.argv[i], c.argv[i + 1])
    return <int64_t>key_size(k, e, T_HASH) - before


cdef void hset(Call *c) noexcept nogil:
    cdef int64_t new = set_fields(c)
    if new >= 0:
        reply_int(c.reply, new)


cdef void hmset(Call *c) noexcept nogil:
    if set_fields(c) >= 0:
        reply_ok(c.reply)


cdef void hsetnx(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Element *e
    cdef int found = find_typed(c, key, T_HASH, &e)
    if found == REFUSED:
        return
    if found == FOUND and key_member(k, e, T_HASH, c.argv[2]) != NULL:
        reply_int(c.reply, 0)
        return
    e = key_prepare(k, c.db, key, e, T_HASH)
    member_set(k, c.db, key, e, T_HASH, c.argv[2], c.argv[3])
    reply_int(c.reply, 1)


cdef void hdel(Call *c) noexcept nogil:
    remove_members(c, T_HASH)


cdef void hgetdel(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Collection *h
    cdef Element *e
    cdef Element *m
    cdef int64_t n
    cdef int i, removed = 0
    if find_members(c, key, T_HASH, &e, &h) == REFUSED:
        return
    if not is_word(c.argv[2], "FIELDS"):
        refuse(c, FIELDS_MISSING)
    elif not parse_int64(c.argv[3].p, c.argv[3].n, &n) or n < 1:
        refuse(c, FIELDS_NOT_POSITIVE)
    elif n != c.argc - 4:
        refuse(c, FIELDS_COUNT)
    elif args_fit(c, 4, 1):
        reply_array(c.reply, n)
        for i in range(4, c.argc):
            m = member_find(k, h, c.argv[i]) if h != NULL else NULL
            if m == NULL:
                reply_null(c.reply)
                continue
            reply_field(c, m, VALUE)
            if not removed:
                e = key_prepare(k, c.db, key, e, T_HASH)
            e = member_remove(k, c.db, key, e, T_HASH, c.argv[i])
            h = key_collection(k, e, T_HASH)
            removed = 1
        if removed:
            end_removal(c, key, e)


# ---- counters ------------------------------------------------------------------------------------
cdef void hincrby(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1], field = c.argv[2], text
    cdef int64_t step, v = 0
    cdef long double wanted
    cdef Collection *h
    cdef Element *e
    cdef Element *m = NULL
    cdef int kind = WHOLE
    if not read_int(c, c.argv[3], &step):
        return
    if find_members(c, key, T_HASH, &e, &h) == REFUSED:
        return
    if h != NULL:
        m = member_find(k, h, field)
    if m != NULL:
        kind = field_int(k, m, &v)
    if kind == NO_NUMBER:
        # fractions that add up to what is shown as a whole number are one, too
        text = member_view(k, m)
        if not parse_int64(text.p, text.n, &v):
            refuse(c, HASH_NOT_INTEGER)
            return
    if v > INT64_MAX - step if step > 0 else v < INT64_MIN - step:
        refuse(c, INCREMENT_OVERFLOW)
        return
    wanted = v + step
    e = key_prepare(k, c.db, key, e, T_HASH)
    member_add(k, c.db, key, e, T_HASH, field, step, &wanted if kind != WHOLE else NULL)
    reply_int(c.reply, v + step)


# Shown as Redis rounds it: see INCRBYFLOAT.
cdef void hincrbyfloat(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1], field = c.argv[2], text
    cdef char number[REAL_TEXT]
    cdef long double v = 0, step, wanted
    cdef Collection *h
    cdef Element *e
    cdef Element *m = NULL
    if not parse_long_double(c.argv[3].p, c.argv[3].n, &step):
        refuse_float(c)
        return
    if not isfinite(step):
        refuse(c, NOT_FINITE)
        return
    if find_members(c, key, T_HASH, &e, &h) == REFUSED:
        return
    if h != NULL:
        m = member_find(k, h, field)
    if m != NULL:
        text = member_view(k, m)
        if not parse_long_double(text.p, text.n, &v):
            refuse(c, HASH_NOT_FLOAT)
            return
    wanted = v + step
    if not isfinite(wanted):
        refuse(c, INCREMENT_NOT_FINITE)
        return
    e = key_prepare(k, c.db, key, e, T_HASH)
    member_add(k, c.db, key, e, T_HASH, field, step, &wanted)
    reply_bulk(c.reply, number, format_long_double(wanted, number))


# ---- reading -------------------------------------------------------------------------------------
cdef inline int read_field(Call *c, Element **m) noexcept nogil:
    """The field argv[2] of argv[1]; *m is NULL unless FOUND."""
    return read_member(c, c.argv[1], T_HASH, c.argv[2], m)


cdef void hget(Call *c) noexcept nogil:
    cdef Element *m
    cdef int found = read_field(c, &m)
    if found == FOUND:
        reply_field(c, m, VALUE)
    elif found == MISSING:
        reply_null(c.reply)


cdef void hexists(Call *c) noexcept nogil:
    cdef Element *m
    cdef int found = read_field(c, &m)
    if found != REFUSED:
        reply_int(c.reply, found == FOUND)


cdef void hstrlen(Call *c) noexcept nogil:
    cdef Element *m
    cdef int found = read_field(c, &m)
    if found != REFUSED:
        reply_int(c.reply, <int64_t>member_view(c.kernel, m).n if found == FOUND else 0)


cdef void hmget(Call *c) noexcept nogil:
    cdef Collection *h
    cdef Element *m
    cdef int i
    if read_members(c, c.argv[1], T_HASH, &h) == REFUSED:
        return
    reply_array(c.reply, c.argc - 2)
    for i in range(2, c.argc):
        m = member_find(c.kernel, h, c.argv[i]) if h != NULL else NULL
        if m != NULL:
            reply_field(c, m, VALUE)
        else:
            reply_null(c.reply)


cdef void hlen(Call *c) noexcept nogil:
    reply_size(c, T_HASH)


cdef void answer_all(Call *c, int parts) noexcept nogil:
    cdef Collection *h
    cdef Element *m
    cdef size_t at = 0
    if read_members(c, c.argv[1], T_HASH, &h) == REFUSED:
        return
    if parts == FIELD | VALUE:
        reply_map(c.reply, members_shown(c.kernel, h))
    else:
        reply_array(c.reply, members_shown(c.kernel, h))
    if h == NULL:
        return
    m = next_shown_member(c.kernel, h, &at)
    while m != NULL:
        reply_field(c, m, parts)
        m = next_shown_member(c.kernel, h, &at)


cdef void hgetall(Call *c) noexcept nogil:
    answer_all(c, FIELD | VALUE)


cdef void hkeys(Call *c) noexcept nogil:
    answer_all(c, FIELD)


cdef void hvals(Call *c) noexcept nogil:
    answer_all(c, VALUE)


cdef void reply_chosen(Call *c, Element *m, int with_value) noexcept nogil:
    if with_value and c.reply.resp > 2:
        reply_array(c.reply, 2)
    reply_field(c, m, FIELD | VALUE if with_value else FIELD)


cdef void hrandfield(Call *c) noexcept nogil:
    cdef int64_t n = 0
    cdef int with_values
    cdef Collection *h
    if read_random(c, "WITHVALUES", &n, &with_values) and (
            read_members(c, c.argv[1], T_HASH, &h) != REFUSED):
        reply_random(c, h, n, with_values, reply_chosen)


cdef void visit_field(void *arg, Element *m) noexcept nogil:
    cdef Scan *s = <Scan*>arg
    if scan_matches(s, m) and member_live(m) and not member_lapsed(s.kernel, s.members, m):
        scan_add(s, member_name(m))
        if not s.names_only:
            scan_add(s, member_view(s.kernel, m))


cdef void hscan(Call *c) noexcept nogil:
    scan_members(c, T_HASH, visit_field)


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="hash")
FIELDS = ("Every field is a register of its own: of concurrent writes to one field the one with "
          "the later timestamp wins, writes to different "
          "fields do not meet, and a write survives a concurrent removal.")
LOCAL_TEST = ("The test is local: two replicas can both succeed concurrently, and then the later "
              "timestamp wins.")
REMOVES = ("Removes what this replica had seen of each field. A concurrent HSET survives; of a "
           "concurrent HINCRBY the increment is left.")
SUM = "Concurrent increments of a field add up: none is lost, none counts twice."

_of_one_key("HSET key <field value>...", arity=-4, flags="write denyoom fast", access="RW update",
        since="2.0.0", complexity="O(N) with N fields",
        summary="Sets fields of a hash; answers how many of them are new.",
        replicas=FIELDS)(native(hset))
_of_one_key("HMSET key <field value>...", arity=-4, flags="write denyoom fast", access="RW update",
        since="2.0.0", complexity="O(N) with N fields",
        summary="Sets fields of a hash; HSET by its old name, answers OK.",
        replicas=FIELDS)(native(hmset))
_of_one_key("HSETNX key field value", arity=4, flags="write denyoom fast", access="RW insert",
        since="2.0.0", summary="Sets a field of a hash if it is not there.",
        replicas=LOCAL_TEST)(native(hsetnx))
_of_one_key("HDEL key field...", arity=-3, flags="write fast", access="RW delete", since="2.0.0",
        complexity="O(N) with N fields",
        summary="Removes fields of a hash; answers how many there were.",
        replicas=REMOVES)(native(hdel))
_of_one_key("HGETDEL key FIELDS numfields field...", arity=-5, flags="write fast",
        access="RW access delete", since="8.0.0", complexity="O(N) with N fields",
        summary="Answers the values of fields of a hash and removes these.",
        replicas="Two replicas can both be given a value. " + REMOVES)(native(hgetdel))
_of_one_key("HINCRBY key field increment", arity=4, flags="write denyoom fast",
        access="RW access update", since="2.0.0",
        summary="Adds to the whole number in a field of a hash.", replicas=SUM)(native(hincrby))
_of_one_key("HINCRBYFLOAT key field increment", arity=4, flags="write denyoom fast",
        access="RW access update", since="2.6.0",
        summary="Adds to the number in a field of a hash.",
        replicas=SUM + " Every replica shows the same bytes.")(native(hincrbyfloat))
_of_one_key("HGET key field", arity=3, flags="readonly fast", since="2.0.0",
        summary="The value of a field of a hash.")(native(hget))
_of_one_key("HMGET key field...", arity=-3, flags="readonly fast", since="2.0.0",
        complexity="O(N) with N fields",
        summary="The values of several fields of a hash.")(native(hmget))
_of_one_key("HEXISTS key field", arity=3, flags="readonly fast", access="RO", since="2.0.0",
        summary="Whether a hash has a field.")(native(hexists))
_of_one_key("HSTRLEN key field", arity=3, flags="readonly fast", access="RO", since="3.2.0",
        summary="The length of a field's value, in bytes.")(native(hstrlen))
_of_one_key("HLEN key", arity=2, flags="readonly fast", access="RO", since="2.0.0",
        summary="The number of fields of a hash.")(native(hlen))
_of_one_key("HGETALL key", arity=2, flags="readonly", since="2.0.0",
        complexity="O(N) with N fields of the hash", tips="nondeterministic_output_order",
        summary="All fields of a hash and their values.")(native(hgetall))
_of_one_key("HKEYS key", arity=2, flags="readonly", since="2.0.0",
        complexity="O(N) with N fields of the hash", tips="nondeterministic_output_order",
        summary="All fields of a hash.")(native(hkeys))
_of_one_key("HVALS key", arity=2, flags="readonly", since="2.0.0",
        complexity="O(N) with N fields of the hash", tips="nondeterministic_output_order",
        summary="All values of a hash.")(native(hvals))
_of_one_key("HRANDFIELD key [count [WITHVALUES]]", arity=-2, flags="readonly", since="6.2.0",
        complexity="O(N) with N fields answered, or of the hash if that is most of it",
        tips="nondeterministic_output",
        summary="Fields of a hash chosen at random.")(native(hrandfield))
_of_one_key("HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]", arity=-3,
        flags="readonly", since="2.8.0",
        complexity="O(1) per call, O(N) for a whole iteration",
        tips="nondeterministic_output",
        summary="Iterates over the fields of a hash, and their values unless NOVALUES is given.")(
        native(hscan))

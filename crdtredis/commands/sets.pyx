# cython: language_level=3
"""Set commands.

A set is a table of members, each with a cell without a value. An add is an assignment: it removes
the adds it observed and stands under a dot of its own, so a concurrent removal, which had not seen
it, leaves it. Hence SADD of a member that is there makes an effect, too, though it answers 0:

    A: SREM s a   ||   B: SADD s a, where a is a member already      ->  a stays

SREM, SPOP and SMOVE name the members they remove; of a member that is not there they make no
effect.

Combining. SINTER, SUNION and SDIFF, their STORE forms and those that count choose among the members
of the sources as Element*, in a scratch Buffer: no name is copied, the number is known before the
first member is answered, and SUNION tells repetitions apart with a table that borrows the members
themselves. A STORE form then copies the names, since its target may be one of the sources, deletes
the target and writes it anew, in one op.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.stdlib cimport qsort
from libc.string cimport memset

from crdtredis._core cimport (T_SET, Collection, Element, Kernel, Table, element_key, element_klen,
                              key_delete, key_find, key_prepare, key_size, member_find,
                              member_random, member_remove, member_set, op_room, table_add,
                              table_clear, table_find, table_init)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_syntax
from crdtredis._resp cimport reply_array, reply_bulk, reply_int, reply_null, reply_set
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span
from crdtredis.commands.common cimport FOUND, MISSING, REFUSED, args_fit
from crdtredis.commands.members cimport (choose, end_removal, find_members, find_typed, has_member,
                                         member_live, member_name, next_member, read_choice,
                                         read_count, read_member, read_members, remove_member,
                                         remove_members, reply_random, reply_size, store_members)
from crdtredis.commands.scanning cimport Scan, scan_add, scan_matches, scan_members
from crdtredis.errors cimport LIMIT_NEGATIVE, NUMKEYS_NOT_POSITIVE, TOO_MANY_KEYS
from crdtredis.numbers cimport parse_int64

from functools import partial

from crdtredis.commands.table import CountedKeys, KeyRange, command


cdef inline Span nothing() noexcept nogil:
    """A member's value."""
    return span(NULL, 0)


cdef inline void reply_member(Call *c, Element *m) noexcept nogil:
    reply_bulk(c.reply, element_key(m), element_klen(m))


cdef void reply_chosen(Call *c, Element *m, int with_value) noexcept nogil:
    reply_member(c, m)


cdef inline size_t count_of(Buffer *members) noexcept nogil:
    return members.n // sizeof(Element*)


cdef inline void reply_members(Call *c, Buffer *members) noexcept nogil:
    cdef size_t i
    for i in range(count_of(members)):
        reply_member(c, (<Element**>members.p)[i])


# ---- one set -------------------------------------------------------------------------------------
cdef void sadd(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Element *e
    cdef int64_t before
    cdef int i
    if find_typed(c, key, T_SET, &e) == REFUSED or not args_fit(c, 2, 1):
        return
    before = key_size(k, e, T_SET)
    e = key_prepare(k, c.db, key, e, T_SET)
    for i in range(2, c.argc):
        e = member_set(k, c.db, key, e, T_SET, c.argv[i], nothing())
    c.changes = <int64_t>key_size(k, e, T_SET) - before
    reply_int(c.reply, c.changes)


cdef void srem(Call *c) noexcept nogil:
    remove_members(c, T_SET)


cdef void smove(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span source = c.argv[1], target = c.argv[2], member = c.argv[3]
    cdef Collection *s
    cdef Collection *t
    cdef Element *e
    cdef Element *to
    cdef int found = find_members(c, source, T_SET, &e, &s)
    if found == MISSING:
        reply_int(c.reply, 0)
    if found != FOUND or find_members(c, target, T_SET, &to, &t) == REFUSED:
        return
    if member_find(k, s, member) == NULL:
        reply_int(c.reply, 0)
        return
    if s != t and op_room(k, c.db, 2, max(source.n, target.n), 2 * member.n):
        c.changes = 2 - (t != NULL and member_find(k, t, member) != NULL)
        e = key_prepare(k, c.db, source, e, T_SET)
        end_removal(c, source, member_remove(k, c.db, source, e, T_SET, member))
        to = key_prepare(k, c.db, target, key_find(k, c.db, target), T_SET)
        member_set(k, c.db, target, to, T_SET, member, nothing())
    reply_int(c.reply, 1)


cdef void scard(Call *c) noexcept nogil:
    reply_size(c, T_SET)


cdef void sismember(Call *c) noexcept nogil:
    cdef Element *m
    cdef int found = read_member(c, c.argv[1], T_SET, c.argv[2], &m)
    if found != REFUSED:
        reply_int(c.reply, found == FOUND)


cdef void smismember(Call *c) noexcept nogil:
    cdef Collection *s
    cdef int i
    if read_members(c, c.argv[1], T_SET, &s) == REFUSED:
        return
    reply_array(c.reply, c.argc - 2)
    for i in range(2, c.argc):
        reply_int(c.reply, s != NULL and member_find(c.kernel, s, c.argv[i]) != NULL)


cdef void smembers(Call *c) noexcept nogil:
    cdef Collection *s
    cdef Element *m
    cdef size_t at = 0
    if read_members(c, c.argv[1], T_SET, &s) == REFUSED:
        return
    reply_set(c.reply, s.live if s != NULL else 0)
    if s == NULL:
        return
    m = next_member(s, &at)
    while m != NULL:
        reply_member(c, m)
        m = next_member(s, &at)


cdef void visit_member(void *arg, Element *m) noexcept nogil:
    cdef Scan *s = <Scan*>arg
    if scan_matches(s, m) and member_live(m):
        scan_add(s, member_name(m))


cdef void sscan(Call *c) noexcept nogil:
    scan_members(c, T_SET, visit_member)


# ---- random members ------------------------------------------------------------------------------
cdef void remove_chosen(Call *c, Element *e, Element **chosen, size_t n) noexcept nogil:
    """Removes members of argv[1], of which e is given."""
    cdef Span key = c.argv[1]
    cdef Buffer name
    cdef size_t i, bytes = 0
    for i in range(n):
        bytes += element_klen(chosen[i])
    if not op_room(c.kernel, c.db, n, key.n, bytes):
        return
    memset(&name, 0, sizeof(Buffer))
    e = key_prepare(c.kernel, c.db, key, e, T_SET)
    for i in range(n):
        e = remove_member(c, key, e, T_SET, chosen[i], &name)
    buffer_free(&name)
    end_removal(c, key, e)


cdef void spop(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef int64_t n = 0
    cdef Collection *s
    cdef Element *e
    cdef Element *m
    cdef Buffer chosen
    if c.argc > 3:
        refuse_syntax(c)
        return
    if c.argc == 3 and not read_count(c, c.argv[2], &n):
        return
    if find_members(c, c.argv[1], T_SET, &e, &s) == REFUSED:
        return
    if c.argc == 2:
        if s == NULL:
            reply_null(c.reply)
            return
        m = member_random(k, s)
        reply_member(c, m)
        remove_chosen(c, e, &m, 1)
        return
    if s == NULL or n == 0:
        reply_set(c.reply, 0)
        return
    memset(&chosen, 0, sizeof(Buffer))
    choose(k, s, min(<size_t>n, s.live), &chosen)
    reply_set(c.reply, count_of(&chosen))
    reply_members(c, &chosen)
    if <size_t>n >= s.live:
        c.changes = s.live
        # all that was observed: the same, in one effect
        key_delete(k, c.db, e)
    else:
        remove_chosen(c, e, <Element**>chosen.p, n)
    buffer_free(&chosen)


cdef void srandmember(Call *c) noexcept nogil:
    cdef int64_t n = 0
    cdef Collection *s
    if c.argc > 3:
        refuse_syntax(c)
    elif (c.argc == 2 or read_choice(c, c.argv[2], &n)) and (
            read_members(c, c.argv[1], T_SET, &s) != REFUSED):
        reply_random(c, s, n, 0, reply_chosen)


# ---- several sets --------------------------------------------------------------------------------
cdef enum Combining:
    INTERSECTION
    UNION
    DIFFERENCE


# The sources of a command. A key that is not there is a NULL.
cdef struct Sources:
    Buffer sets             # of Collection*
    size_t n
    size_t missing


cdef int read_sources(Call *c, int first, int n, Sources *out) noexcept nogil:
    """n keys from argv[first] on; 0 after a refusal. Every key's type is looked at, whatever came
    before. The caller frees out.sets."""
    cdef Collection *s
    cdef int i
    memset(out, 0, sizeof(Sources))
    for i in range(first, first + n):
        if read_members(c, c.argv[i], T_SET, &s) == REFUSED:
            buffer_free(&out.sets)
            return 0
        buffer_add(&out.sets, &s, sizeof(s))
        out.missing += s == NULL
    out.n = n
    return 1


cdef int by_size(const void *a, const void *b) noexcept nogil:
    cdef size_t n = (<Collection**>a)[0].live, m = (<Collection**>b)[0].live
    return (n > m) - (n < m)


cdef void intersect(Sources *from_, size_t most, Buffer *out) noexcept nogil:
    """The members that all have, at most `most` of them: the smallest set's, each looked up in the
    next larger ones."""
    cdef Collection **sets = <Collection**>from_.sets.p
    cdef Element *m
    cdef size_t at = 0, i
    if from_.missing:
        return
    qsort(sets, from_.n, sizeof(Collection*), by_size)
    m = next_member(sets[0], &at)
    while m != NULL and most:
        for i in range(1, from_.n):
            if sets[i] != sets[0] and not has_member(sets[i], m):
                break
        else:
            buffer_add(out, &m, sizeof(m))
            most -= 1
        m = next_member(sets[0], &at)


cdef void unite(Sources *from_, size_t most, Buffer *out) noexcept nogil:
    """The members that any has, at most `most` of them."""
    cdef Collection **sets = <Collection**>from_.sets.p
    cdef Table seen
    cdef Element *m
    cdef size_t i, at
    table_init(&seen)
    for i in range(from_.n):
        if sets[i] == NULL:
            continue
        at = 0
        m = next_member(sets[i], &at)
        while m != NULL and most:
            if table_find(&seen, element_key(m), element_klen(m), m.hash) == NULL:
                table_add(&seen, m, m.hash)
                buffer_add(out, &m, sizeof(m))
                most -= 1
            m = next_member(sets[i], &at)
    table_clear(&seen, NULL, NULL)


cdef void subtract(Sources *from_, size_t most, Buffer *out) noexcept nogil:
    """The first set's members that no other has, at most `most` of them."""
    cdef Collection **sets = <Collection**>from_.sets.p
    cdef Element *m
    cdef size_t at = 0, i
    if sets[0] == NULL:
        return
    m = next_member(sets[0], &at)
    while m != NULL and most:
        for i in range(1, from_.n):
            if sets[i] != NULL and has_member(sets[i], m):
                break
        else:
            buffer_add(out, &m, sizeof(m))
            most -= 1
        m = next_member(sets[0], &at)


cdef int combine(Call *c, int first, int n, Combining how, size_t most,
                 Buffer *out) noexcept nogil:
    """Chooses among the members of n keys from argv[first] on, at most `most`; 0 after a refusal.
    The caller frees out."""
    cdef Sources from_
    memset(out, 0, sizeof(Buffer))
    if not read_sources(c, first, n, &from_):
        return 0
    if how == INTERSECTION:
        intersect(&from_, most, out)
    elif how == UNION:
        unite(&from_, most, out)
    else:
        subtract(&from_, most, out)
    buffer_free(&from_.sets)
    return 1


cdef void answer_combined(Call *c, Combining how) noexcept nogil:
    cdef Buffer members
    if combine(c, 1, c.argc - 1, how, <size_t>-1, &members):
        reply_set(c.reply, count_of(&members))
        reply_members(c, &members)
        buffer_free(&members)


cdef void store_combined(Call *c, Combining how) noexcept nogil:
    """argv[1] := the combination of the others, whatever it held; an empty one leaves no key."""
    cdef Buffer members
    if combine(c, 2, c.argc - 2, how, <size_t>-1, &members):
        store_members(c, c.argv[1], T_SET, &members, sizeof(Element*))
        buffer_free(&members)


cdef void sinter(Call *c) noexcept nogil:
    answer_combined(c, INTERSECTION)


cdef void sunion(Call *c) noexcept nogil:
    answer_combined(c, UNION)


cdef void sdiff(Call *c) noexcept nogil:
    answer_combined(c, DIFFERENCE)


cdef void sinterstore(Call *c) noexcept nogil:
    store_combined(c, INTERSECTION)


cdef void sunionstore(Call *c) noexcept nogil:
    store_combined(c, UNION)


cdef void sdiffstore(Call *c) noexcept nogil:
    store_combined(c, DIFFERENCE)


cdef void count_combined(Call *c, Combining how) noexcept nogil:
    """`numkeys key... [LIMIT limit]`. A union takes APPROX, too, and is counted exactly all the
    same."""
    cdef Buffer members
    cdef int64_t n, limit = 0
    cdef int i
    if not parse_int64(c.argv[1].p, c.argv[1].n, &n) or n < 1:
        refuse(c, NUMKEYS_NOT_POSITIVE)
        return
    if n > c.argc - 2:
        refuse(c, TOO_MANY_KEYS)
        return
    i = 2 + n
    while i < c.argc:
        if how == UNION and is_word(c.argv[i], "APPROX"):
            i += 1
            continue
        if not is_word(c.argv[i], "LIMIT") or i + 1 == c.argc:
            refuse_syntax(c)
            return
        if not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, &limit) or limit < 0:
            refuse(c, LIMIT_NEGATIVE)
            return
        i += 2
    if combine(c, 2, <int>n, how, limit if limit else <size_t>-1, &members):
        reply_int(c.reply, count_of(&members))
        buffer_free(&members)


cdef void sintercard(Call *c) noexcept nogil:
    count_combined(c, INTERSECTION)


cdef void sunioncard(Call *c) noexcept nogil:
    count_combined(c, UNION)


cdef void sdiffcard(Call *c) noexcept nogil:
    count_combined(c, DIFFERENCE)


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="set")
ADDS = ("Concurrent adds are all kept, and an add survives a concurrent removal, also the add of a "
        "member that was there already.")
REMOVES = "Removes what this replica had seen. A member that is added concurrently stays."
STORES = ("Replaces what this replica had seen of the target by what it saw of the sources. A "
          "concurrent add to the target survives.")
INTERSECTING = "O(N*M) with N members of the smallest set and M sets"

_of_one_key("SADD key member...", arity=-3, flags="write denyoom fast", access="RW insert",
        since="1.0.0", complexity="O(N) with N members",
        summary="Adds members to a set; answers how many are new.", replicas=ADDS)(native(sadd))
_of_one_key("SREM key member...", arity=-3, flags="write fast", access="RW delete", since="1.0.0",
        complexity="O(N) with N members",
        summary="Removes members of a set; answers how many there were.",
        replicas=REMOVES)(native(srem))
command("SMOVE source destination member", arity=4, flags="write fast",
        keys=[KeyRange("RW access delete", 1), KeyRange("RW insert", 2)], group="set",
        since="1.0.0", summary="Moves a member from a set to another.",
        replicas="Every replica applies removal and add at once. Two replicas that move one "
                 "member to different sets concurrently leave it in both.")(native(smove))
_of_one_key("SPOP key [count]", arity=-2, flags="write fast", access="RW access delete",
        since="1.0.0",
        complexity="O(N) with N members answered, or of the set if that is most of it",
        tips="nondeterministic_output",
        summary="Removes and answers members of a set chosen at random.",
        replicas="Two replicas can be given the same member. It is gone after sync, unless it "
                 "was added concurrently.")(native(spop))
_of_one_key("SCARD key", arity=2, flags="readonly fast", access="RO", since="1.0.0",
        summary="The number of members of a set.")(native(scard))
_of_one_key("SISMEMBER key member", arity=3, flags="readonly fast", access="RO", since="1.0.0",
        summary="Whether a set has a member.")(native(sismember))
_of_one_key("SMISMEMBER key member...", arity=-3, flags="readonly fast", since="6.2.0",
        complexity="O(N) with N members asked for",
        summary="Which of several members a set has.")(native(smismember))
_of_one_key("SMEMBERS key", arity=2, flags="readonly", since="1.0.0",
        complexity="O(N) with N members of the set", tips="nondeterministic_output_order",
        summary="All members of a set.")(native(smembers))
_of_one_key("SRANDMEMBER key [count]", arity=-2, flags="readonly", since="1.0.0",
        complexity="O(N) with N members answered, or of the set if that is most of it",
        tips="nondeterministic_output",
        summary="Members of a set chosen at random.")(native(srandmember))
_of_one_key("SSCAN key cursor [MATCH pattern] [COUNT count]", arity=-3, flags="readonly",
        since="2.8.0", complexity="O(1) per call, O(N) for a whole iteration",
        tips="nondeterministic_output",
        summary="Iterates over the members of a set.")(native(sscan))
for _name, _cost, _what, _access, _answering, _storing in [
        ("SINTER", INTERSECTING, "members that all of several sets have", "RW update",
         native(sinter), native(sinterstore)),
        ("SUNION", "O(N) with the members of all sets", "members that any of several sets has",
         "OW update", native(sunion), native(sunionstore)),
        ("SDIFF", "O(N*M) with N members of the first set and M sets",
         "members of a set that none of the others has", "OW update", native(sdiff),
         native(sdiffstore))]:
    command(f"{_name} key...", arity=-2, flags="readonly", keys=(1, -1, 1), group="set",
            since="1.0.0", complexity=_cost, tips="nondeterministic_output_order",
            summary=f"The {_what}.")(_answering)
    command(f"{_name}STORE destination key...", arity=-3, flags="write denyoom one_change",
            keys=[KeyRange(_access, 1), KeyRange("RO access", 2, -1)], group="set", since="1.0.0",
            complexity=_cost, summary=f"Stores the {_what}.", replicas=STORES)(_storing)
command("SINTERCARD numkeys key... [LIMIT limit]", arity=-3, flags="readonly",
        keys=[CountedKeys("RO access", 1)], group="set", since="7.0.0", complexity=INTERSECTING,
        summary="How many members all of several sets have.")(native(sintercard))
command("SUNIONCARD numkeys key... [APPROX] [LIMIT limit]", arity=-3, flags="readonly",
        keys=[CountedKeys("RO access", 1)], group="set", since="8.10.0",
        complexity="O(N) with the members of all sets",
        summary="How many members any of several sets has.")(native(sunioncard))
command("SDIFFCARD numkeys key... [LIMIT limit]", arity=-3, flags="readonly",
        keys=[CountedKeys("RO access", 1)], group="set", since="8.10.0",
        complexity="O(N*M) with N members of the first set and M sets",
        summary="How many members of a set none of the others has.")(native(sdiffcard))

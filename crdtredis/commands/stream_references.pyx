# cython: language_level=3
"""XDELEX and XACKDEL: removing entries with regard to the groups that still need them.

A group needs an entry that it is still to give out, and one that is pending in it; both as this
replica knows them. A delivery that it has not seen yet stays pending, with an entry that is gone,
as after XDEL:

    A: XACKDEL s g ACKED IDS 1 5-1   ||   B: XCLAIM s g other 0 5-1
    the entry is gone; B's claim says nothing, since XACK removed the record that it speaks of
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport qsort
from libc.string cimport memset

from crdtredis._core cimport (T_STREAM, Collection, Element, GroupView, Kernel, PendingView,
                              StreamCursor, StreamId, group_count, group_find, group_references,
                              key_collection, key_prepare, op_room, pending_from, pending_remove,
                              references_remove, references_size, stream_next, stream_remove,
                              stream_seek)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_syntax
from crdtredis._resp cimport reply_array, reply_int
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport REFUSED
from crdtredis.commands.members cimport find_members
from crdtredis.commands.stream_ids cimport id_order, parse_id, stream_id
from crdtredis.errors cimport ID_INVALID, IDS_COUNT, IDS_NOT_POSITIVE
from crdtredis.numbers cimport parse_int64

from functools import partial

from crdtredis.commands.table import command

cdef enum:
    AT_ONCE = 512               # entries that are looked at together

# An id of the command, and what is answered.
cdef enum Answer:
    NOT_THERE = -1
    GONE = 1
    STAYS = 2                   # some group needs it

cdef struct Asked:
    StreamId id
    int at                      # its place in the command
    Answer answer

cdef struct Removing:
    References references
    int first                   # argv of the first id,
    int n                       # of so many


cdef References references_option(Span arg) noexcept nogil:
    if is_word(arg, "KEEPREF"):
        return KEEPREF
    if is_word(arg, "DELREF"):
        return DELREF
    return ACKED if is_word(arg, "ACKED") else NO_REFERENCES


cdef void unreferenced(Kernel *k, Collection *s, int64_t n, int within, Buffer *ids) noexcept nogil:
    cdef StreamId some[AT_ONCE]
    cdef uint8_t needed[AT_ONCE]
    cdef StreamCursor at
    cdef int64_t looked = 0, found = 0
    cdef size_t count = AT_ONCE, i
    stream_seek(k, s, stream_id(0, 0), 0, &at)
    while count == AT_ONCE and found < n:
        count = 0
        while count < AT_ONCE and not (within and looked == n) and stream_next(&at):
            some[count] = at.id
            count += 1
            looked += 1
        group_references(k, s, some, count, needed)
        for i in range(count):
            if found < n and not needed[i]:
                buffer_add(ids, &some[i], sizeof(StreamId))
                found += 1


cdef int read_removing(Call *c, int i, Removing *o) noexcept nogil:
    """0 after a refusal."""
    cdef References option
    cdef int64_t n
    memset(o, 0, sizeof(Removing))
    while i < c.argc:
        option = references_option(c.argv[i])
        if is_word(c.argv[i], "IDS") and i + 1 < c.argc:
            if not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, &n) or n <= 0:
                refuse(c, IDS_NOT_POSITIVE)
                return 0
            o.first = i + 2
            if n > c.argc - o.first:
                refuse(c, IDS_COUNT)
                return 0
            o.n = <int>n
            i = o.first + o.n
            continue
        if option == NO_REFERENCES or o.references != NO_REFERENCES:
            break
        o.references = option
        i += 1
    if i < c.argc or o.n == 0:
        refuse_syntax(c)
        return 0
    return 1


cdef int by_id(const void *a, const void *b) noexcept nogil:
    cdef const Asked *x = <const Asked*>a
    cdef const Asked *y = <const Asked*>b
    return id_order(x.id, y.id) if id_order(x.id, y.id) else x.at - y.at


cdef int by_place(const void *a, const void *b) noexcept nogil:
    return (<const Asked*>a).at - (<const Asked*>b).at


cdef int has_entry(Kernel *k, Collection *s, StreamId id) noexcept nogil:
    cdef StreamCursor at
    stream_seek(k, s, id, 0, &at)
    return stream_next(&at) and id_order(at.id, id) == 0


cdef int has_record(Kernel *k, const GroupView *g, StreamId id) noexcept nogil:
    cdef PendingView p
    return pending_from(k, g, id, span(NULL, 0), &p) and id_order(p.id, id) == 0


cdef size_t choose(Kernel *k, const GroupView *g, Asked *v, size_t n, StreamId *ids) noexcept nogil:
    """v is in order. Its ids (where g is not NULL: those pending in it) are GONE for now; each
    once."""
    cdef size_t i, found = 0
    for i in range(n):
        if i and id_order(v[i - 1].id, v[i].id) == 0:
            continue
        if g == NULL or has_record(k, g, v[i].id):
            v[i].answer = GONE
            ids[found] = v[i].id
            found += 1
    return found


cdef size_t keep_needed(Kernel *k, Collection *s, Asked *v, size_t n, StreamId *ids,
                        size_t found) noexcept nogil:
    """Of what is GONE so far, what some group needs STAYS, and leaves ids."""
    cdef Buffer needed
    cdef uint8_t *yes
    cdef size_t i, j = 0, left = 0
    memset(&needed, 0, sizeof(Buffer))
    yes = <uint8_t*>buffer_need(&needed, found + 1)
    group_references(k, s, ids, found, yes)
    for i in range(n):
        if v[i].answer != GONE:
            continue
        if yes[j]:
            v[i].answer = STAYS
        else:
            ids[left] = ids[j]
            left += 1
        j += 1
    buffer_free(&needed)
    return left


cdef size_t keep_there(Kernel *k, Collection *s, int by_entry, Asked *v, size_t n,
                       StreamId *ids) noexcept nogil:
    """Of what is GONE so far, what has an entry stays in ids; where by_entry, the rest is
    NOT_THERE, as is what was named before."""
    cdef size_t i, j = 0, left = 0
    cdef int there
    for i in range(n):
        if v[i].answer == GONE:
            there = has_entry(k, s, ids[j])
            if there:
                ids[left] = ids[j]
                left += 1
            elif by_entry:
                v[i].answer = NOT_THERE
            j += 1
        elif by_entry and i and v[i - 1].answer != GONE and id_order(v[i - 1].id, v[i].id) == 0:
            v[i].answer = v[i - 1].answer
    return left


cdef void remove_asked(Call *c, int options, Span group) noexcept nogil:
    """XDELEX; where group.p is not NULL XACKDEL, with records in place of entries."""
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Removing o
    cdef GroupView g
    cdef Collection *s
    cdef Element *e
    cdef Buffer asked, chosen
    cdef StreamId *ids
    cdef Asked *v
    cdef size_t n, groups
    cdef int j, there
    if find_members(c, key, T_STREAM, &e, &s) == REFUSED or not read_removing(c, options, &o):
        return
    there = s != NULL and (group.p == NULL or group_find(k, s, group, &g))
    memset(&asked, 0, sizeof(Buffer))
    memset(&chosen, 0, sizeof(Buffer))
    v = <Asked*>buffer_need(&asked, <size_t>o.n * sizeof(Asked))
    ids = <StreamId*>buffer_need(&chosen, <size_t>o.n * sizeof(StreamId))
    c.changes = 0
    for j in range(o.n):
        v[j].at = j
        v[j].answer = NOT_THERE
        if there and not parse_id(c.argv[o.first + j], &v[j].id, 0, NULL):
            refuse(c, ID_INVALID)
            buffer_free(&asked)
            buffer_free(&chosen)
            return
    if there:
        qsort(v, o.n, sizeof(Asked), by_id)
        n = choose(k, &g if group.p != NULL else NULL, v, o.n, ids)
        groups = group_count(k, s) if o.references == DELREF else 0
        if not op_room(k, c.db, 2 * n + 2 + groups, key.n,
                       group.n + 32 * n + (references_size(s, n) if groups else 0)):
            buffer_free(&asked)
            buffer_free(&chosen)
            return
        if n and (group.p != NULL or o.references == DELREF):
            e = key_prepare(k, c.db, key, e, T_STREAM)
        if n and group.p != NULL:
            e = pending_remove(k, c.db, key, e, group, ids, n)
            c.changes = n
        if o.references == DELREF:
            e = references_remove(k, c.db, key, e, ids, n)
        s = key_collection(k, e, T_STREAM)
        if o.references == ACKED:
            n = keep_needed(k, s, v, o.n, ids, n)
        n = keep_there(k, s, group.p == NULL, v, o.n, ids)
        if n:
            e = key_prepare(k, c.db, key, e, T_STREAM)
            stream_remove(k, c.db, key, e, ids, n)
        c.changes += n
        qsort(v, o.n, sizeof(Asked), by_place)
    reply_array(c.reply, o.n)
    for j in range(o.n):
        reply_int(c.reply, v[j].answer)
    buffer_free(&asked)
    buffer_free(&chosen)


cdef void xdelex(Call *c) noexcept nogil:
    remove_asked(c, 2, span(NULL, 0))


cdef void xackdel(Call *c) noexcept nogil:
    remove_asked(c, 3, c.argv[2])


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="stream", since="8.2.0", flags="write fast",
                      complexity="O(N) with N ids, for each group")
_of_one_key("XDELEX key [KEEPREF | DELREF | ACKED] IDS numids id...", arity=-5, access="RW delete",
            summary="Removes entries; answers for each 1, -1 where there is none, 2 where a group "
                    "still needs it (ACKED).",
            replicas="As XDEL. What groups need is what this replica has seen of them; a delivery "
                     "that it had not seen stays pending.")(native(xdelex))
_of_one_key("XACKDEL key group [KEEPREF | DELREF | ACKED] IDS numids id...", arity=-6,
            access="RW update delete",
            summary="Acknowledges and removes entries; answers for each 1, -1 where it is not "
                    "pending, 2 where it stays since another group needs it (ACKED).",
            replicas="As XACK and XDEL. What groups need is what this replica has seen of them; a "
                     "delivery that it had not seen stays pending.")(native(xackdel))

# cython: language_level=3
"""Streams: adding, reading, trimming.

Entries stand in two orders. XRANGE and all that removes goes by id. XREAD goes by arrival: what
came to this replica behind the entry whose id the reader names, whatever its id is, so that an
entry that a peer added with an older id is not skipped:

    A: XADD s 5-1 f 1   ||   B: XADD s 6-1 f 2;   a reader at B, which has had 6-1, then gets 5-1

An id that this replica has never seen names a place among the others. On a replica without peers
both orders are one, as in Redis.

Trimming names a greatest id: what was seen up to there goes, and entries that arrive later stay
until the next trim. `~` removes whole hundreds (stream-node-max-entries), as Redis does as long as
its nodes are full.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint64_t
from libc.stdlib cimport qsort
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memset

from crdtredis._core cimport (Collection, Element, Idempotence, KNOWN_MOST, Kernel,
                              PRODUCED_EFFECTS, PRODUCED_ROOM, SECONDS_MOST, STREAM_ID,
                              StreamCursor, StreamId, StreamPlace, T_STREAM, group_count,
                              idempotence_of, idempotence_set, key_collection, key_find,
                              key_prepare, member_remove, op_room, produced_find, produced_name,
                              produced_name_hashed, produced_put, put_id, references_remove,
                              references_size, stream_add, stream_added, stream_after,
                              stream_between, stream_end, stream_fields, stream_len,
                              stream_max_deleted, stream_next, stream_place, stream_remove,
                              stream_seek, stream_set_id, stream_star, stream_top,
                              stream_trim)
from crdtredis._engine cimport (CLIENT_IN_EXEC, CLIENT_SCRIPT, Call, is_word, native, refuse,
                                refuse_arity, refuse_int, refuse_syntax, wait_for_keys)
from crdtredis._resp cimport (reply_array, reply_bulk, reply_int, reply_map, reply_null,
                              reply_null_array, reply_ok)
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport REFUSED, args_size, read_int
from crdtredis.commands.members cimport find_members, read_members
from crdtredis.commands.stream_ids cimport (ID_TEXT, format_id, id_down, id_order, id_up, is_one,
                                            parse_id, parse_uint64, put_text, put_varint, stream_id,
                                            take_pairs, take_text)
from crdtredis.commands.stream_references cimport (ACKED, DELREF, KEEPREF, NO_REFERENCES,
                                                   References, references_option, unreferenced)
from crdtredis.errors cimport (CLAIM_OF_XREADGROUP, ENTRIES_ADDED_NEGATIVE, ENTRIES_ADDED_SMALL,
                               GROUP_OF_XREADGROUP, ID_EXHAUSTED, ID_INVALID, ID_NOT_ABOVE,
                               ID_ZERO, IDMP_DURATION, IDMP_GIVEN, IDMP_ID, IDMP_MAXSIZE,
                               IDMP_NOTHING, IDMP_PRODUCER, IDMP_TWICE, IDMPAUTO_PRODUCER,
                               INTERVAL_END, INTERVAL_START, LIMIT_ALONE,
                               LIMIT_ARGUMENT_NEGATIVE, LIMIT_EXACT, MAXLEN_AND_MINID,
                               MAXLEN_NEGATIVE, NEW_OF_XREADGROUP, NOACK_OF_XREADGROUP,
                               NO_STRATEGY, NO_SUCH_KEY, READ_MAXCOUNT, READ_MAXCOUNT_BELOW,
                               READ_MAXSIZE, SETID_BELOW_DELETED, SETID_BELOW_GIVEN,
                               SETID_BELOW_TOP, STREAM_ARITY, TIMEOUT_NEGATIVE,
                               TIMEOUT_NOT_INTEGER, TIMEOUT_OUT_OF_RANGE, XREAD_BLOCKS,
                               XREAD_UNBALANCED)
from crdtredis.numbers cimport format_uint64, parse_int64

from functools import partial

from crdtredis.commands.table import StreamKeys, command

cdef enum:
    TRIM_LIMIT_MOST = 1000000   # entries that `~` looks at, at most
    PLACE_TEXT = ID_TEXT + 24   # bytes


# ---- reading arguments ---------------------------------------------------------------------------
cdef int read_id(Call *c, Span arg, StreamId *id, uint64_t missing, int *whole) noexcept nogil:
    """As parse_id; 0 after a refusal."""
    if parse_id(arg, id, missing, whole):
        return 1
    refuse(c, ID_INVALID)
    return 0


cdef int read_bound(Call *c, Span arg, StreamId *id, int is_end) noexcept nogil:
    """An end of an interval: `-`, `+`, an id, or `(` and an id that is outside. 0 after a
    refusal."""
    cdef int open_ = arg.n > 1 and arg.p[0] == c'('
    if not open_ and is_one(arg, c'-'):
        id[0] = stream_id(0, 0)
    elif not open_ and is_one(arg, c'+'):
        id[0] = stream_id(UINT64_MAX, UINT64_MAX)
    elif not read_id(c, span(arg.p + open_, arg.n - open_), id, UINT64_MAX if is_end else 0, NULL):
        return 0
    if open_ and not (id_down(id) if is_end else id_up(id)):
        refuse(c, INTERVAL_END if is_end else INTERVAL_START)
        return 0
    return 1


cdef enum Strategy:
    TRIM_NOT
    TRIM_MAXLEN
    TRIM_MINID

# What XADD and XTRIM are asked for.
cdef struct Adding:
    int given                   # an id, or `ms-*`
    int whole                   # ... is an id
    StreamId id
    int only_existing           # NOMKSTREAM
    Strategy strategy
    int about                   # `~`
    int64_t limit               # entries; 0: none
    int64_t length              # MAXLEN
    StreamId least              # MINID
    References references
    int producer                # IDMP, IDMPAUTO: argv that names it; 0: none
    int iid                     # likewise; 0: what is added tells


cdef int read_strategy(Call *c, int *i, Adding *a) noexcept nogil:
    """MAXLEN or MINID, which argv[*i] is, with what follows; 0 after a refusal."""
    cdef int is_length = is_word(c.argv[i[0]], "MAXLEN")
    if a.strategy != TRIM_NOT:
        refuse(c, MAXLEN_AND_MINID)
        return 0
    i[0] += 1
    a.about = 0
    if i[0] + 1 < c.argc and (is_one(c.argv[i[0]], c'~') or is_one(c.argv[i[0]], c'=')):
        a.about = c.argv[i[0]].p[0] == c'~'
        i[0] += 1
    if is_length:
        if not read_int(c, c.argv[i[0]], &a.length):
            return 0
        if a.length < 0:
            refuse(c, MAXLEN_NEGATIVE)
            return 0
    elif not read_id(c, c.argv[i[0]], &a.least, 0, NULL):
        return 0
    a.strategy = TRIM_MAXLEN if is_length else TRIM_MINID
    return 1


cdef int read_producer(Call *c, int *i, Adding *a) noexcept nogil:
    """IDMP or IDMPAUTO, which argv[*i] is, with what follows; 0 after a refusal."""
    cdef int is_auto = is_word(c.argv[i[0]], "IDMPAUTO")
    if a.producer:
        refuse(c, IDMP_TWICE)
        return 0
    a.producer = i[0] + 1
    a.iid = 0 if is_auto else i[0] + 2
    i[0] += 1 if is_auto else 2
    if c.argv[a.producer].n == 0:
        refuse(c, IDMPAUTO_PRODUCER if is_auto else IDMP_PRODUCER)
    elif not is_auto and c.argv[a.iid].n == 0:
        refuse(c, IDMP_ID)
    else:
        return 1
    return 0


cdef int read_adding(Call *c, int adds, Adding *a) noexcept nogil:
    """The options of XADD and XTRIM from argv[2] on: where the id stands, or where they end; 0
    after a refusal."""
    cdef int i = 2, more, limited = 0
    cdef int64_t node
    memset(a, 0, sizeof(Adding))
    while i < c.argc:
        more = i + 1 < c.argc
        if adds and is_one(c.argv[i], c'*'):
            break
        if more and (is_word(c.argv[i], "MAXLEN") or is_word(c.argv[i], "MINID")):
            if not read_strategy(c, &i, a):
                return 0
        elif more and is_word(c.argv[i], "LIMIT"):
            i += 1
            if not read_int(c, c.argv[i], &a.limit):
                return 0
            if a.limit < 0:
                refuse(c, LIMIT_ARGUMENT_NEGATIVE)
                return 0
            limited = 1
        elif references_option(c.argv[i]) != NO_REFERENCES and a.references == NO_REFERENCES:
            a.references = references_option(c.argv[i])
        elif adds and is_word(c.argv[i], "NOMKSTREAM"):
            a.only_existing = 1
        elif adds and ((more and is_word(c.argv[i], "IDMPAUTO"))
                       or (i + 2 < c.argc and is_word(c.argv[i], "IDMP"))):
            if not read_producer(c, &i, a):
                return 0
        elif adds:
            if not read_id(c, c.argv[i], &a.id, 0, &a.whole):
                return 0
            a.given = 1
            break
        else:
            refuse_syntax(c)
            return 0
        i += 1
    if a.limit and a.strategy == TRIM_NOT:
        refuse(c, LIMIT_ALONE)
    elif not adds and a.strategy == TRIM_NOT:
        refuse(c, NO_STRATEGY)
    elif limited and not a.about:
        refuse(c, LIMIT_EXACT)
    elif a.producer and a.given:
        refuse(c, IDMP_GIVEN)
    else:
        if a.about and not limited:
            node = c.dispatch.encoding.stream_node
            a.limit = 100 * node if 0 < node <= TRIM_LIMIT_MOST // 100 else (
                TRIM_LIMIT_MOST if node > 0 else 10000)
        return i
    return 0


cdef int read_count(Call *c, Span arg, int64_t *count) noexcept nogil:
    """What is below zero is 0; 0 after a refusal."""
    if not read_int(c, arg, count):
        return 0
    count[0] = max(count[0], <int64_t>0)
    return 1


# ---- answering entries ---------------------------------------------------------------------------
cdef void reply_id(Call *c, StreamId id) noexcept nogil:
    cdef char text[ID_TEXT]
    reply_bulk(c.reply, text, format_id(id, text))


cdef void reply_entry(Call *c, StreamId id, Span fields, int more=0) noexcept nogil:
    cdef Span text
    cdef uint64_t n = take_pairs(&fields), i
    reply_array(c.reply, 2 + more)
    reply_id(c, id)
    reply_array(c.reply, 2 * n)
    for i in range(2 * n):
        text = take_text(&fields)
        reply_bulk(c.reply, text.p, text.n)


cdef size_t reply_range(Call *c, Collection *s, StreamId first, StreamId last, int64_t count,
                        int reverse, int bare) noexcept nogil:
    """Entries by id, at most `count` where it is not 0, in an array unless they are to stand bare;
    how many. Reverse: from the last on."""
    cdef Kernel *k = c.kernel
    cdef StreamCursor at
    cdef size_t n = stream_between(s, first, last), i
    if count:
        n = min(n, <size_t>count)
    if not bare:
        reply_array(c.reply, n)
    stream_seek(k, s, last if reverse else first, reverse, &at)
    for i in range(n):
        stream_next(&at)
        reply_entry(c, at.id, stream_fields(&at))
    return n


cdef void xrange_generic(Call *c, int reverse) noexcept nogil:
    cdef Collection *s
    cdef StreamId first, last
    cdef int64_t count = -1
    cdef int i
    if (not read_bound(c, c.argv[3 if reverse else 2], &first, 0)
            or not read_bound(c, c.argv[2 if reverse else 3], &last, 1)):
        return
    for i in range(4, c.argc, 2):
        if not is_word(c.argv[i], "COUNT") or i + 1 == c.argc:
            refuse_syntax(c)
            return
        if not read_count(c, c.argv[i + 1], &count):
            return
    if read_members(c, c.argv[1], T_STREAM, &s) == REFUSED:
        return
    if s == NULL:
        reply_array(c.reply, 0)
    elif count == 0:
        reply_null_array(c.reply)
    else:
        reply_range(c, s, first, last, max(count, <int64_t>0), reverse, 0)


cdef void xrange(Call *c) noexcept nogil:
    xrange_generic(c, 0)


cdef void xrevrange(Call *c) noexcept nogil:
    xrange_generic(c, 1)


cdef void xlen(Call *c) noexcept nogil:
    cdef Collection *s
    if read_members(c, c.argv[1], T_STREAM, &s) != REFUSED:
        reply_int(c.reply, stream_len(s) if s != NULL else 0)


# ---- adding --------------------------------------------------------------------------------------
cdef int choose_id(Call *c, Collection *s, Adding *a) noexcept nogil:
    """a.id := the new entry's; 0 after a refusal."""
    cdef StreamId top = stream_top(s) if s != NULL else stream_id(0, 0)
    if ((top.ms == UINT64_MAX and top.seq == UINT64_MAX)
            or (not a.given and not stream_star(c.kernel, s, &a.id))):
        refuse(c, ID_EXHAUSTED)
        return 0
    if a.given and not a.whole and a.id.ms == top.ms:
        a.id.seq = top.seq + (top.seq != UINT64_MAX)
    if id_order(a.id, top) <= 0:
        refuse(c, ID_NOT_ABOVE)
        return 0
    return 1


cdef int64_t surplus(Kernel *k, Collection *s, const Adding *a, int64_t node) noexcept nogil:
    """How many entries the strategy is to remove, the first ones."""
    cdef int64_t length = <int64_t>stream_len(s), n, before
    cdef StreamId last = a.least
    if a.strategy == TRIM_MAXLEN:
        n = max(length - a.length, <int64_t>0)
    else:
        n = <int64_t>stream_between(s, stream_id(0, 0), last) if id_down(&last) else 0
    if a.limit:
        n = min(n, a.limit)
    if a.about and n < length:                  # up to where a node of Redis's would begin
        before = max(<int64_t>stream_added(k, s) - length, <int64_t>0)
        n = max(n - (before + n) % node, <int64_t>0)
    return n


cdef inline int64_t node_of(Call *c) noexcept nogil:
    return c.dispatch.encoding.stream_node if c.dispatch.encoding.stream_node > 0 else 100


cdef int trim_room(Call *c, Collection *s, Adding *a, size_t n, size_t bytes) noexcept nogil:
    """op_room for n effects more and for a trim. Where there are no groups, none needs anything."""
    cdef size_t most = 1, groups = group_count(c.kernel, s) if s != NULL else 0
    if groups == 0 or a.strategy == TRIM_NOT:
        a.references = KEEPREF
    if a.references == ACKED or a.references == DELREF:
        most += <size_t>(surplus(c.kernel, s, a, 1) + 1)
        bytes += references_size(s, most) if a.references == DELREF else STREAM_ID * most
    if a.references == DELREF:
        n += groups
    return op_room(c.kernel, c.db, n + (most if a.references == ACKED else 1), c.argv[1].n, bytes)


cdef int64_t trim_acked(Call *c, Collection *s, Element *e, const Adding *a,
                        int64_t n) noexcept nogil:
    cdef Buffer ids
    cdef char name[16]
    cdef int64_t i
    memset(&ids, 0, sizeof(Buffer))
    unreferenced(c.kernel, s, n, a.about or a.strategy == TRIM_MINID, &ids)
    n = <int64_t>(ids.n // sizeof(StreamId))
    for i in range(n):
        put_id(name, (<StreamId*>ids.p)[i])
        e = member_remove(c.kernel, c.db, c.argv[1], e, T_STREAM, span(name, STREAM_ID))
    buffer_free(&ids)
    return n


cdef int64_t trim(Call *c, Element *e, const Adding *a) noexcept nogil:
    """Behind trim_room. How many entries went."""
    cdef Kernel *k = c.kernel
    cdef Collection *s = key_collection(k, e, T_STREAM)
    cdef int64_t n = surplus(k, s, a, node_of(c)), i
    cdef StreamCursor at
    cdef Buffer ids
    if n == 0:
        return 0
    if a.references == ACKED:
        return trim_acked(c, s, e, a, n)
    memset(&ids, 0, sizeof(Buffer))
    stream_seek(k, s, stream_id(0, 0), 0, &at)
    for i in range(n):
        stream_next(&at)
        if a.references == DELREF:
            buffer_add(&ids, &at.id, sizeof(StreamId))
    e = stream_trim(k, c.db, c.argv[1], e, at.id)
    if ids.n:
        references_remove(k, c.db, c.argv[1], e, <StreamId*>ids.p, ids.n // sizeof(StreamId))
    buffer_free(&ids)
    return n


cdef void name_produced(Call *c, const Adding *a, int first, Buffer *name) noexcept nogil:
    """By what it is known that a producer has added this. first: of the fields."""
    memset(name, 0, sizeof(Buffer))
    if a.iid:
        produced_name(name, c.argv[a.producer], c.argv[a.iid])
    elif a.producer:
        produced_name_hashed(name, c.argv[a.producer], c.argv + first, c.argc - first)


cdef void xadd(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef Adding a
    cdef Collection *s
    cdef Element *e
    cdef Buffer fields, name
    cdef int first = read_adding(c, 1, &a) + 1, i
    if first == 1:
        return
    if first + 1 >= c.argc or (c.argc - first) % 2:
        refuse_arity(c)
        return
    if a.given and a.whole and a.id.ms == 0 and a.id.seq == 0:
        refuse(c, ID_ZERO)
        return
    if find_members(c, key, T_STREAM, &e, &s) == REFUSED:
        return
    if s == NULL and a.only_existing:
        reply_null(c.reply)
        return
    name_produced(c, &a, first, &name)
    if a.producer and produced_find(k, s, span(name.p, name.n), &a.id):
        c.changes = 0
        reply_id(c, a.id)
        buffer_free(&name)
        return
    if (not trim_room(c, s, &a, 3 + PRODUCED_EFFECTS, args_size(c, first) + (
            PRODUCED_ROOM if a.producer else 0) + 10 * <size_t>(c.argc - first))
            or not choose_id(c, s, &a)):
        buffer_free(&name)
        return
    memset(&fields, 0, sizeof(Buffer))
    put_varint(&fields, (c.argc - first) // 2)
    for i in range(first, c.argc):
        put_text(&fields, c.argv[i])
    e = key_prepare(k, c.db, key, e, T_STREAM)
    e = stream_add(k, c.db, key, e, a.id, span(fields.p, fields.n))
    buffer_free(&fields)
    if a.producer:
        e = produced_put(k, c.db, key, e, span(name.p, name.n), a.id)
    buffer_free(&name)
    c.changes = 1
    if a.strategy != TRIM_NOT:
        trim(c, e, &a)
    reply_id(c, a.id)


cdef void xcfgset(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef int64_t seconds = 0, most = 0
    cdef Idempotence said, before
    cdef Collection *s
    cdef Element *e
    cdef int i
    if c.argc == 2:
        refuse(c, IDMP_NOTHING)
        return
    for i in range(2, c.argc, 2):
        if i + 1 < c.argc and is_word(c.argv[i], "IDMP-DURATION"):
            if not read_int(c, c.argv[i + 1], &seconds):
                return
            if not 0 < seconds <= SECONDS_MOST:
                refuse(c, IDMP_DURATION)
                return
        elif i + 1 < c.argc and is_word(c.argv[i], "IDMP-MAXSIZE"):
            if not read_int(c, c.argv[i + 1], &most):
                return
            if not 0 < most <= KNOWN_MOST:
                refuse(c, IDMP_MAXSIZE)
                return
        else:
            refuse_syntax(c)
            return
    if find_members(c, c.argv[1], T_STREAM, &e, &s) == REFUSED:
        return
    if s == NULL:
        refuse(c, NO_SUCH_KEY)
        return
    said = before = idempotence_of(k, s)
    said.seconds = seconds if seconds else before.seconds
    said.most = most if most else before.most
    c.changes = 0
    if not before.of_stream or said.seconds != before.seconds or said.most != before.most:
        if not op_room(k, c.db, 2, c.argv[1].n, 64):
            return
        e = key_prepare(k, c.db, c.argv[1], e, T_STREAM)
        idempotence_set(k, c.db, c.argv[1], e, said)
        c.changes = 1
    reply_ok(c.reply)


# ---- removing ------------------------------------------------------------------------------------
cdef void xtrim(Call *c) noexcept nogil:
    cdef Adding a
    cdef Collection *s
    cdef Element *e
    if read_adding(c, 0, &a) == 0 or find_members(c, c.argv[1], T_STREAM, &e, &s) == REFUSED:
        return
    c.changes = 0
    if s != NULL:
        if not trim_room(c, s, &a, 0, 0):
            return
        c.changes = trim(c, e, &a)
    reply_int(c.reply, c.changes)


cdef int by_id(const void *a, const void *b) noexcept nogil:
    return id_order((<const StreamId*>a)[0], (<const StreamId*>b)[0])


cdef void xdel(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef StreamCursor at
    cdef StreamId id
    cdef StreamId *ids
    cdef Collection *s
    cdef Element *e
    cdef Buffer found
    cdef size_t n = 0, i
    if find_members(c, key, T_STREAM, &e, &s) == REFUSED:
        return
    memset(&found, 0, sizeof(Buffer))
    if s != NULL:
        for i in range(2, c.argc):
            if not read_id(c, c.argv[i], &id, 0, NULL):
                buffer_free(&found)
                return
            stream_seek(k, s, id, 0, &at)
            if stream_next(&at) and id_order(at.id, id) == 0:
                buffer_add(&found, &id, sizeof(StreamId))
    ids = <StreamId*>found.p
    if found.n:
        qsort(ids, found.n // sizeof(StreamId), sizeof(StreamId), by_id)
    for i in range(found.n // sizeof(StreamId)):
        if n == 0 or id_order(ids[n - 1], ids[i]):
            ids[n] = ids[i]
            n += 1
    if n and op_room(k, c.db, n + 1, key.n, 16 * n):
        e = key_prepare(k, c.db, key, e, T_STREAM)
        stream_remove(k, c.db, key, e, ids, n)
    c.changes = n
    buffer_free(&found)
    reply_int(c.reply, n)


cdef int last_entry(Kernel *k, Collection *s, StreamCursor *at) noexcept nogil:
    """1 where it stands on it."""
    stream_seek(k, s, stream_id(UINT64_MAX, UINT64_MAX), 1, at)
    return stream_next(at)


cdef void xsetid(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1]
    cdef StreamId id, deleted = stream_id(0, 0)
    cdef int64_t added = -1
    cdef StreamCursor at
    cdef Collection *s
    cdef Element *e
    cdef int i
    if not read_id(c, c.argv[2], &id, 0, NULL):
        return
    for i in range(3, c.argc, 2):
        if i + 1 < c.argc and is_word(c.argv[i], "ENTRIESADDED"):
            if not read_int(c, c.argv[i + 1], &added):
                return
            if added < 0:
                refuse(c, ENTRIES_ADDED_NEGATIVE)
                return
        elif i + 1 < c.argc and is_word(c.argv[i], "MAXDELETEDID"):
            if not read_id(c, c.argv[i + 1], &deleted, 0, NULL):
                return
            if id_order(id, deleted) < 0:
                refuse(c, SETID_BELOW_GIVEN)
                return
        else:
            refuse_syntax(c)
            return
    if find_members(c, key, T_STREAM, &e, &s) == REFUSED:
        return
    if s == NULL:
        refuse(c, NO_SUCH_KEY)
    elif id_order(id, stream_max_deleted(s)) < 0:
        refuse(c, SETID_BELOW_DELETED)
    elif last_entry(k, s, &at) and id_order(id, at.id) < 0:
        refuse(c, SETID_BELOW_TOP)
    elif added != -1 and stream_len(s) > <size_t>added:
        refuse(c, ENTRIES_ADDED_SMALL)
    elif op_room(k, c.db, 3, key.n, 64):
        e = key_prepare(k, c.db, key, e, T_STREAM)
        stream_set_id(k, c.db, key, e, id, added, deleted)
        c.changes = 1
        reply_ok(c.reply)


# ---- reading what came ---------------------------------------------------------------------------
# What XREAD asks of one stream.
cdef struct Asked:
    StreamPlace place           # what arrived behind it,
    int last                    # or the last entry
    size_t n                    # entries to give


cdef void begin_reading(Kernel *k, Collection *s, const Asked *x, StreamCursor *at) noexcept nogil:
    if x.last:
        stream_seek(k, s, stream_id(UINT64_MAX, UINT64_MAX), 1, at)
    else:
        stream_after(k, s, x.place, at)


cdef size_t put_place(StreamPlace place, char *out) noexcept nogil:
    """`$` with what it stands for, PLACE_TEXT bytes at most; how many."""
    cdef size_t n = 1 + format_id(place.id, out + 1)
    out[0] = c'$'
    out[n] = c'-'
    return n + 1 + format_uint64(place.number, out + n + 1)


cdef int parse_place(Span text, StreamPlace *out) noexcept nogil:
    """What put_place has made."""
    cdef size_t n = text.n
    if n == 0 or text.p[0] != c'$':
        return 0
    while text.p[n - 1] != c'-':
        n -= 1
        if n == 1:
            return 0
    return (parse_id(span(text.p + 1, n - 2), &out.id, 0, NULL)
            and parse_uint64(span(text.p + n, text.n - n), &out.number))


cdef int read_asked(Call *c, Span key, Span from_, Asked *x) noexcept nogil:
    """0 after a refusal. From a client that waits, whose place has been noted, it is none."""
    cdef Collection *s = NULL
    cdef Element *e
    cdef StreamId id
    memset(x, 0, sizeof(Asked))
    if c.client.wait == NULL and find_members(c, key, T_STREAM, &e, &s) == REFUSED:
        return 0
    if c.client.wait != NULL:
        s = find_stream(c, key)
    if is_one(from_, c'$'):
        x.place = stream_end(c.kernel, s)
    elif is_one(from_, c'+'):
        x.last = 1
    elif is_one(from_, c'>'):
        refuse(c, NEW_OF_XREADGROUP)
        return 0
    elif c.client.wait == NULL or not parse_place(from_, &x.place):
        if not read_id(c, from_, &id, 0, NULL):
            return 0
        x.place = stream_place(c.kernel, s, id)
    return 1


cdef Collection *find_stream(Call *c, Span key) noexcept nogil:
    """Without a word of what else the key holds."""
    return key_collection(c.kernel, key_find(c.kernel, c.db, key), T_STREAM)


cdef void refuse_blocking(Call *c) noexcept nogil:
    cdef char text[256]
    snprintf(text, sizeof(text), XREAD_BLOCKS, <int>min(c.argv[0].n, <size_t>64), c.argv[0].p)
    refuse(c, text)


cdef int read_block(Call *c, Span arg, int64_t *ms) noexcept nogil:
    """A time limit in ms; 0 after a refusal."""
    if c.client.flags & CLIENT_SCRIPT:
        refuse_blocking(c)
        return 0
    if c.client.wait != NULL:                   # it has been read
        ms[0] = 0
        return 1
    if not parse_int64(arg.p, arg.n, ms):
        refuse(c, TIMEOUT_NOT_INTEGER)
    elif ms[0] < 0:
        refuse(c, TIMEOUT_NEGATIVE)
    elif ms[0] > INT64_MAX - c.kernel.now:
        refuse(c, TIMEOUT_OUT_OF_RANGE)
    else:
        return 1
    return 0


cdef void cap_begin(ReadCap *cap) noexcept nogil:
    cap.entries = cap.bytes = INT64_MAX
    cap.some = 0


cdef int read_cap(Call *c, int *i, ReadCap *cap) noexcept nogil:
    cdef int64_t *to = NULL
    if i[0] + 1 < c.argc and is_word(c.argv[i[0]], "MAXCOUNT"):
        to = &cap.entries
    elif i[0] + 1 < c.argc and is_word(c.argv[i[0]], "MAXSIZE"):
        to = &cap.bytes
    if to == NULL:
        refuse_syntax(c)
        return 0
    if not read_int(c, c.argv[i[0] + 1], to):
        return 0
    if to[0] <= 0:
        refuse(c, READ_MAXCOUNT if to == &cap.entries else READ_MAXSIZE)
        return 0
    i[0] += 1
    return 1


cdef int check_cap(Call *c, const ReadCap *cap, int64_t count) noexcept nogil:
    if count > cap.entries:
        refuse(c, READ_MAXCOUNT_BELOW)
    return count <= cap.entries


cdef inline int64_t bulk_size(size_t n) noexcept nogil:
    """Bytes of a reply."""
    cdef char digits[24]
    return <int64_t>(n + format_uint64(n, digits) + 5)


cdef int cap_takes(ReadCap *cap, StreamId id, StreamCursor *at) noexcept nogil:
    cdef char text[ID_TEXT]
    cdef Span fields
    cdef int64_t size
    cdef uint64_t n = 0, i
    if cap.bytes != INT64_MAX:
        size = bulk_size(format_id(id, text)) + 4
        if at != NULL:
            fields = stream_fields(at)
            n = 2 * take_pairs(&fields)
        size += 3 + format_uint64(n, text)
        for i in range(n):
            size += bulk_size(take_text(&fields).n)
        if cap.some and size > cap.bytes:
            cap.entries = 0
        cap.bytes = max(cap.bytes - size, <int64_t>0)
    if cap.entries <= 0:
        return 0
    cap.entries -= 1
    cap.some = 1
    return 1


# How XREAD reads.
cdef struct ReadOptions:
    int64_t timeout             # ms; -1: it does not wait
    int64_t count               # 0: all
    ReadCap cap
    int first                   # the first key is argv[first],
    int n                       # of so many; as many ids follow


cdef int read_options(Call *c, ReadOptions *o) noexcept nogil:
    """0 after a refusal."""
    cdef int i = 1, more
    o.timeout = -1
    o.count = 0
    o.first = 0
    cap_begin(&o.cap)
    while i < c.argc and not o.first:
        more = c.argc - i - 1
        if more and is_word(c.argv[i], "BLOCK"):
            i += 1
            if not read_block(c, c.argv[i], &o.timeout):
                return 0
        elif more and is_word(c.argv[i], "COUNT"):
            i += 1
            if not read_count(c, c.argv[i], &o.count):
                return 0
        elif more and is_word(c.argv[i], "STREAMS"):
            o.first = i + 1
        elif more >= 2 and is_word(c.argv[i], "GROUP"):
            refuse(c, GROUP_OF_XREADGROUP)
            return 0
        elif is_word(c.argv[i], "NOACK"):
            refuse(c, NOACK_OF_XREADGROUP)
            return 0
        elif more and is_word(c.argv[i], "CLAIM"):
            refuse(c, CLAIM_OF_XREADGROUP)
            return 0
        elif not read_cap(c, &i, &o.cap):
            return 0
        i += 1
    if not o.first:
        refuse_syntax(c)
        return 0
    if (c.argc - o.first) % 2:
        refuse(c, XREAD_UNBALANCED)
        return 0
    o.n = (c.argc - o.first) // 2
    return check_cap(c, &o.cap, o.count)


cdef size_t entries_asked(Kernel *k, Collection *s, const Asked *x, int64_t most,
                          ReadCap *cap) noexcept nogil:
    """How many there are, at most `most` where that is not 0. s may be NULL."""
    cdef StreamCursor at
    cdef size_t n = 0
    if s == NULL:
        return 0
    if x.last:
        most = 1
    begin_reading(k, s, x, &at)
    while ((most == 0 or n < <size_t>most) and stream_next(&at)
           and cap_takes(cap, at.id, &at)):
        n += 1
    return n


cdef void reply_read(Call *c, const ReadOptions *o, const Asked *asked, int n) noexcept nogil:
    """The n streams of which there is something to give."""
    cdef StreamCursor at
    cdef size_t j
    cdef int i
    if c.reply.resp == 2:
        reply_array(c.reply, n)
    else:
        reply_map(c.reply, n)
    for i in range(o.n):
        if not asked[i].n:
            continue
        if c.reply.resp == 2:
            reply_array(c.reply, 2)
        reply_bulk(c.reply, c.argv[o.first + i].p, c.argv[o.first + i].n)
        reply_array(c.reply, asked[i].n)
        begin_reading(c.kernel, find_stream(c, c.argv[o.first + i]), asked + i, &at)
        for j in range(asked[i].n):
            stream_next(&at)
            reply_entry(c, at.id, stream_fields(&at))


cdef void wait_for_entries(Call *c, const ReadOptions *o, const Asked *asked) noexcept nogil:
    """`$` becomes what it stands for now."""
    cdef Buffer texts, kept
    cdef Span *ids = c.argv + o.first + o.n
    cdef char *text
    cdef int i
    memset(&texts, 0, sizeof(Buffer))
    memset(&kept, 0, sizeof(Buffer))
    buffer_add(&kept, ids, o.n * sizeof(Span))
    text = buffer_need(&texts, <size_t>o.n * PLACE_TEXT)
    for i in range(o.n):
        if is_one(ids[i], c'$'):
            ids[i] = span(text, put_place(asked[i].place, text))
        text += PLACE_TEXT
    wait_for_keys(c, T_STREAM, o.first, o.n, o.timeout)
    memcpy(ids, kept.p, o.n * sizeof(Span))
    buffer_free(&texts)
    buffer_free(&kept)


cdef void xread(Call *c) noexcept nogil:
    cdef ReadOptions o
    cdef Buffer b
    cdef Asked *asked
    cdef int i, there = 0
    if not read_options(c, &o):
        return
    memset(&b, 0, sizeof(Buffer))
    asked = <Asked*>buffer_need(&b, o.n * sizeof(Asked) + 1)
    for i in range(o.n):
        if not read_asked(c, c.argv[o.first + i], c.argv[o.first + o.n + i], asked + i):
            buffer_free(&b)
            return
    for i in range(o.n):
        asked[i].n = entries_asked(c.kernel, find_stream(c, c.argv[o.first + i]), asked + i,
                                   o.count, &o.cap)
        there += asked[i].n > 0
    if there:
        reply_read(c, &o, asked, there)
    elif o.timeout == -1 or c.client.flags & CLIENT_IN_EXEC:
        reply_null_array(c.reply)
    else:
        wait_for_entries(c, &o, asked)
    buffer_free(&b)


cdef void refuse_subcommand(Call *c, const char *container) noexcept nogil:
    cdef char text[256]
    snprintf(text, sizeof(text), STREAM_ARITY, <int>min(c.argv[1].n, <size_t>128), c.argv[1].p,
             container)
    refuse(c, text)


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="stream", since="5.0.0")

_of_one_key("XADD key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [IDMPAUTO producer | IDMP producer "
            "id] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> <field value>...",
            arity=-5,
            flags="write denyoom fast", access="RW update",
            tips="nondeterministic_output",
            complexity="O(1), and O(N) with N entries that are trimmed",
            summary="Appends an entry; answers its id.",
            replicas="Concurrent entries are all kept. Ids made by `*` are unique over all "
                     "replicas; of two entries with the same explicit id the later shows. Trimming "
                     "removes what this replica had seen up to an id. IDMP finds what was added at "
                     "any replica, once it has come here.")(native(xadd))
_of_one_key("XCFGSET key [IDMP-DURATION seconds] [IDMP-MAXSIZE count]", arity=-2,
            flags="write denyoom fast", access="RW update", since="8.6.0",
            summary="Sets how long and how many idempotent ids are known, of each producer.",
            replicas="Of concurrent ones the later holds; each forgets the ids that its replica "
                     "had seen.")(native(xcfgset))
_of_one_key("XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] "
            "[KEEPREF | DELREF | ACKED]", arity=-4, flags="write",
            access="RW delete", tips="nondeterministic_output",
            complexity="O(N) with N entries that are removed",
            summary="Removes the first entries; answers how many.",
            replicas="What this replica had seen up to an id goes; entries added concurrently stay "
                     "until the next trim, whatever their ids.")(native(xtrim))
_of_one_key("XDEL key id...", arity=-3, flags="write fast", access="RW delete",
            complexity="O(log(N)) for each id", summary="Removes entries; answers how many.",
            replicas="An entry that was written anew under the same id concurrently stays.")(
            native(xdel))
_of_one_key("XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
            arity=-3, flags="write denyoom fast", access="RW update",
            summary="Sets the last generated id of a stream.",
            replicas="Of concurrent ones, and the ids of concurrent XADDs, the greatest counts.")(
            native(xsetid))
_of_one_key("XLEN key", arity=2, flags="readonly fast", access="RO", summary="How many entries.")(
            native(xlen))
_of_one_key("XRANGE key start end [COUNT count]", arity=-4, flags="readonly", access="RO access",
            complexity="O(log(N)+M) with M entries answered", summary="Entries in order of ids.")(
            native(xrange))
_of_one_key("XREVRANGE key end start [COUNT count]", arity=-4, flags="readonly",
            access="RO access", complexity="O(log(N)+M) with M entries answered",
            summary="Entries in order of ids, the last first.")(native(xrevrange))
command("XREAD [COUNT count] [MAXCOUNT maxcount] [MAXSIZE maxsize] [BLOCK milliseconds] STREAMS "
        "key... id...", arity=-4,
        flags="readonly blocking movablekeys", keys=[StreamKeys("RO access", 1)], group="stream",
        since="5.0.0", complexity="O(N) with N entries answered",
        summary="Entries that came behind those of these ids; waits for some.")(native(xread))

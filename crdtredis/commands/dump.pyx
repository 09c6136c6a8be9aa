# cython: language_level=3
"""DUMP and RESTORE: a key's value as bytes that any Redis server takes, and back.

DUMP writes what all servers since 4.0 read: texts after a count, and sets of whole numbers packed.
RESTORE reads all forms that Redis has ever written for strings, lists, sets, sorted sets, hashes
and streams (rdb.pyx), up to those of 8. A hash whose fields have deadlines is written as 7.4 reads
it, a stream as 7.0 does.

In that form a group has given out all up to an id. A group here may have entries below that are
still to be given out, which came late from other replicas: it is written as if it had given out
what is below the first of them. So whoever restores it gives out some again rather than some never.

RESTORE is all or nothing: the payload is read to its end before the first effect is made. What it
holds is collected in one buffer of at most OP_MOST bytes, since it becomes one op; so a small
payload that stands for more than that is refused while it unfolds, not after.

For other replicas a restored value is new: REPLACE deletes what was there and adds the members
under dots of its own. Idle times stay local, as all access times do.
"""
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset

from crdtredis._core cimport (EVICT_LFU, T_HASH, T_LIST, T_SET, T_STREAM, T_STRING, T_ZSET,
                              WALK_BACKWARDS, WALK_FORWARDS, Collection, ConsumerView, Element,
                              GroupView, Kernel, MadeGroup, PendingView, StreamCursor, StreamId,
                              Walk, consumer_find, consumer_next, consumer_put, deadlines_of,
                              field_expire, group_count, group_next, group_passed_over,
                              group_put, key_collection, key_delete, key_expire, key_find,
                              key_hash, key_set_frequency, key_set_idle, key_type, key_visible,
                              is_unowned, member_score, pending_from, records_put,
                              records_size, put_id, put_shown, removal_size, stream_added,
                              stream_fields, stream_max_deleted, stream_next, stream_seek,
                              stream_set_id, stream_top, walk_deadline, walk_next, walk_shown,
                              walk_value)
from crdtredis._engine cimport Call, is_word, native, refuse, refuse_syntax, refuse_too_large
from crdtredis._resp cimport reply_bulk, reply_null, reply_ok
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need, span
from crdtredis.commands.common cimport MAX_STRING, read_int, refuse_named, touch
from crdtredis.commands.members cimport members_shown
from crdtredis.commands.rdb cimport (RDB_BAD, RDB_CONSUMER, RDB_ELEMENT, RDB_GOOD, RDB_GROUP,
                                     RDB_HASH, RDB_HASH_DUE, RDB_LIST, RDB_SET, RDB_SET_INTSET,
                                     RDB_STREAM_2, RDB_STRING, RDB_TRAILER, RDB_WRITTEN,
                                     RDB_WRITTEN_DUE, RDB_WRITTEN_STREAM, RDB_ZSET_2, RdbConsumer,
                                     RdbCursor, RdbGroup, RdbPending, rdb_kind, rdb_put_double,
                                     rdb_put_length, rdb_put_text, rdb_read, rdb_seal, rdb_sealed)
from crdtredis.commands.stream_blocks cimport (BlockWriter, block_add, block_discard, block_finish,
                                               block_full)
from crdtredis.commands.stream_ids cimport id_down, id_order, id_up, stream_id
from crdtredis.errors cimport (FREQ_RANGE, IDLETIME_NEGATIVE, INVALID_EXPIRE, KEY_EXISTS,
                               PAYLOAD_DAMAGED, PAYLOAD_NOT_SEALED, TTL_NEGATIVE)
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import command


# ---- DUMP ----------------------------------------------------------------------------------------
cdef int[5] RDB_KINDS               # by T_*
RDB_KINDS[:] = [RDB_STRING, RDB_HASH, RDB_SET, RDB_ZSET_2, RDB_LIST]

cdef enum:
    MOST_PACKED = 512           # members: beyond, Redis by default does not pack numbers either


cdef void put_head(Buffer *b, int type, const Span *name) noexcept nogil:
    buffer_need(b, 1)[0] = <char>type
    b.n += 1
    if name != NULL:
        rdb_put_text(b, name[0])


cdef int by_value(const void *a, const void *b) noexcept nogil:
    cdef int64_t x = (<const int64_t*>a)[0], y = (<const int64_t*>b)[0]
    return (x > y) - (x < y)


cdef int put_intset(Buffer *b, Kernel *k, Element *e, const Span *name) noexcept nogil:
    """Appends a set of whole numbers, packed, and returns 1; or leaves b alone, where another
    member is met."""
    cdef Buffer numbers, packed
    cdef int64_t *v
    cdef int64_t number
    cdef uint32_t size, count
    cdef size_t i, n = key_collection(k, e, T_SET).live
    cdef Walk w
    memset(&numbers, 0, sizeof(Buffer))
    walk_shown(&w, k, e, WALK_FORWARDS)
    while n <= MOST_PACKED and walk_next(&w) and parse_int64(w.name.p, w.name.n, &number):
        buffer_add(&numbers, &number, sizeof(int64_t))
    count = <uint32_t>(numbers.n // sizeof(int64_t))
    if count < n:
        buffer_free(&numbers)
        return 0
    v = <int64_t*>numbers.p
    qsort(v, count, sizeof(int64_t), by_value)
    number = max(v[count - 1], -1 - v[0])
    size = 2 if number < 1 << 15 else 4 if number < <int64_t>1 << 31 else 8
    memset(&packed, 0, sizeof(Buffer))
    buffer_add(&packed, &size, 4)
    buffer_add(&packed, &count, 4)
    for i in range(count):
        buffer_add(&packed, &v[i], size)
    put_head(b, RDB_SET_INTSET, name)
    rdb_put_text(b, span(packed.p, packed.n))
    buffer_free(&packed)
    buffer_free(&numbers)
    return 1


cdef int64_t first_deadline(Kernel *k, Element *e) noexcept nogil:
    """The earliest of the fields that clients see of a hash; -1: none has any."""
    cdef int64_t first = -1, at
    cdef Walk w
    if deadlines_of(key_collection(k, e, T_HASH)) == NULL:
        return -1
    walk_shown(&w, k, e, WALK_FORWARDS)
    while walk_next(&w):
        at = walk_deadline(k, &w)
        if at >= 0 and (first < 0 or at < first):
            first = at
    return first


cdef void seal_value(Buffer *b) noexcept nogil:
    rdb_seal(b, RDB_WRITTEN_DUE if b.p[0] == RDB_HASH_DUE else
             RDB_WRITTEN_STREAM if b.p[0] == RDB_STREAM_2 else RDB_WRITTEN)


cdef uint64_t count_blocks(Kernel *k, Collection *s) noexcept nogil:
    """As put_stream makes them."""
    cdef StreamCursor at
    cdef uint64_t n = 0
    cdef int64_t entries = 0
    cdef size_t bytes = 0
    stream_seek(k, s, stream_id(0, 0), 0, &at)
    while stream_next(&at):
        n += entries == 0
        entries += 1
        bytes += stream_fields(&at).n
        if block_full(entries, bytes):
            entries = 0
            bytes = 0
    return n


cdef void put_block(Buffer *b, BlockWriter *w, Buffer *packed) noexcept nogil:
    cdef char id[16]
    put_id(id, w.first)
    block_finish(w, packed)
    rdb_put_length(b, 16)                   # as bytes, whatever they look like
    buffer_add(b, id, 16)
    rdb_put_text(b, span(packed.p, packed.n))


cdef void put_number_pair(Buffer *b, StreamId id) noexcept nogil:
    rdb_put_length(b, id.ms)
    rdb_put_length(b, id.seq)


cdef StreamId given_up_to(Kernel *k, Collection *s, GroupView *g) noexcept nogil:
    """The last-delivered-id; g.read is made to fit."""
    cdef StreamId last = g.last
    cdef StreamCursor at
    cdef Buffer ids
    cdef StreamId *v
    cdef size_t i
    memset(&ids, 0, sizeof(Buffer))
    group_passed_over(k, s, g, &ids)
    v = <StreamId*>ids.p
    for i in range(ids.n // sizeof(StreamId)):
        if id_order(v[i], last) <= 0:
            last = v[i]
            id_down(&last)
    buffer_free(&ids)
    if id_order(last, g.last):
        g.read = <int64_t>stream_added(k, s)
        stream_seek(k, s, last, 0, &at)
        while stream_next(&at):
            g.read -= id_order(last, at.id) < 0
    return last


cdef void put_owned(Buffer *b, Kernel *k, const GroupView *g, Span owner, int64_t seen, size_t n,
                    const PendingView *more, size_t more_n, Drain drain, void *arg) noexcept nogil:
    """A consumer; n: of how many records; and then more."""
    cdef StreamId id = stream_id(0, 0)
    cdef PendingView p
    cdef char bytes[16]
    cdef size_t i
    rdb_put_text(b, owner)
    buffer_add(b, &seen, sizeof(int64_t))
    rdb_put_length(b, n + more_n)
    for i in range(more_n):
        put_id(bytes, more[i].id)
        buffer_add(b, bytes, 16)
        if drain != NULL and b.n >= DRAINED:
            drain(arg)
    while n and pending_from(k, g, id, owner, &p):
        n -= 1
        put_id(bytes, p.id)
        buffer_add(b, bytes, 16)
        id = p.id
        id_up(&id)
        if drain != NULL and b.n >= DRAINED:
            drain(arg)


cdef void put_pending(Buffer *b, Kernel *k, const GroupView *g, Drain drain,
                      void *arg) noexcept nogil:
    """All records."""
    cdef StreamId id = stream_id(0, 0)
    cdef PendingView p
    cdef char bytes[16]
    cdef size_t n = g.pending
    rdb_put_length(b, n)
    while n and pending_from(k, g, id, span(NULL, 0), &p):
        n -= 1
        put_id(bytes, p.id)
        buffer_add(b, bytes, 16)
        buffer_add(b, &p.at, sizeof(int64_t))
        rdb_put_length(b, <uint64_t>max(p.deliveries, <int64_t>0))
        id = p.id
        id_up(&id)
        if drain != NULL and b.n >= DRAINED:
            drain(arg)


cdef int by_owner(const void *a, const void *b) noexcept nogil:
    cdef Span x = (<const PendingView*>a).owner, y = (<const PendingView*>b).owner
    if x.n != y.n:
        return -1 if x.n < y.n else 1
    return memcmp(x.p, y.p, x.n) if x.n else 0


cdef int by_owner_and_id(const void *a, const void *b) noexcept nogil:
    cdef int order = by_owner(a, b)
    return order if order else id_order((<const PendingView*>a).id, (<const PendingView*>b).id)


cdef void gather_strangers(Kernel *k, const GroupView *g, Buffer *out) noexcept nogil:
    """Records of owners that are no consumers (PendingView), by owner: what nobody owns, and one
    where the CREATE of a concurrent group went, with the consumer, to which a record of another
    CREATE had been claimed."""
    cdef StreamId id = stream_id(0, 0)
    cdef size_t at = 0, left = g.pending
    cdef ConsumerView x
    cdef PendingView p
    while consumer_next(k, g, &at, &x):
        left -= x.pending
    while left and pending_from(k, g, id, span(NULL, 0), &p):
        if is_unowned(&p) or not consumer_find(k, g, p.owner, &x):
            buffer_add(out, &p, sizeof(PendingView))
            left -= 1
        id = p.id
        id_up(&id)
    if out.n:
        qsort(out.p, out.n // sizeof(PendingView), sizeof(PendingView), by_owner_and_id)


cdef void put_groups(Buffer *b, Kernel *k, Collection *s, Drain drain, void *arg) noexcept nogil:
    cdef GroupView g
    cdef ConsumerView x
    cdef PendingView *v
    cdef Buffer strangers
    cdef size_t at = 0, j, i, n, owners, nobodys
    memset(&strangers, 0, sizeof(Buffer))
    rdb_put_length(b, group_count(k, s))
    while group_next(k, s, &at, &g):
        strangers.n = 0
        rdb_put_text(b, g.name)
        put_number_pair(b, given_up_to(k, s, &g))
        rdb_put_length(b, <uint64_t>g.read)
        put_pending(b, k, &g, drain, arg)
        gather_strangers(k, &g, &strangers)
        v = <PendingView*>strangers.p
        n = strangers.n // sizeof(PendingView)
        nobodys = 0                         # of the empty name, which a consumer may have, too
        while nobodys < n and v[nobodys].owner.n == 0 and consumer_find(k, &g, v[0].owner, &x):
            nobodys += 1
        owners = n > nobodys
        for i in range(nobodys + 1, n):
            owners += by_owner(&v[i - 1], &v[i]) != 0
        rdb_put_length(b, g.consumers + owners)
        j = 0
        while consumer_next(k, &g, &j, &x):
            put_owned(b, k, &g, x.name, x.seen, x.pending, v, 0 if x.name.n else nobodys, drain,
                      arg)
        i = nobodys
        while i < n:
            j = i + 1
            while j < n and by_owner(&v[i], &v[j]) == 0:
                j += 1
            put_owned(b, k, &g, v[i].owner, v[i].at, 0, v + i, j - i, drain, arg)
            i = j
    buffer_free(&strangers)


cdef void put_groups_alone(Buffer *b, Kernel *k, Element *e) noexcept nogil:
    put_head(b, RDB_STREAM_2, NULL)
    memset(buffer_need(b, 9), 0, 9)         # blocks, entries, three ids, entries-added
    b.n += 9
    put_groups(b, k, key_collection(k, e, T_STREAM), NULL, NULL)


cdef void put_stream(Buffer *b, Kernel *k, Collection *s, Drain drain, void *arg) noexcept nogil:
    cdef StreamCursor at
    cdef StreamId first = stream_id(0, 0)
    cdef BlockWriter w
    cdef Buffer packed
    cdef uint64_t n = 0
    memset(&w, 0, sizeof(BlockWriter))
    memset(&packed, 0, sizeof(Buffer))
    rdb_put_length(b, count_blocks(k, s))
    stream_seek(k, s, first, 0, &at)
    while stream_next(&at):
        if n == 0:
            first = at.id
        n += 1
        block_add(&w, at.id, stream_fields(&at))
        if block_full(w.entries, w.bytes):
            put_block(b, &w, &packed)
            if drain != NULL and b.n >= DRAINED:
                drain(arg)
    if w.entries:
        put_block(b, &w, &packed)
    rdb_put_length(b, n)
    put_number_pair(b, stream_top(s))
    put_number_pair(b, first)
    put_number_pair(b, stream_max_deleted(s))
    rdb_put_length(b, stream_added(k, s))
    put_groups(b, k, s, drain, arg)
    block_discard(&w)
    buffer_free(&packed)


cdef void put_value(Buffer *b, Kernel *k, Element *e, const Span *name, Drain drain,
                    void *arg) noexcept nogil:
    """A sorted set is put from the greatest score on, as Redis does: it inserts fastest at the
    head."""
    cdef int type = key_type(k, e)
    cdef int64_t first = first_deadline(k, e) if type == T_HASH else -1
    cdef Walk w
    if type == T_SET and put_intset(b, k, e, name):
        return
    if type == T_STREAM:
        put_head(b, RDB_STREAM_2, name)
        put_stream(b, k, key_collection(k, e, T_STREAM), drain, arg)
        return
    put_head(b, RDB_HASH_DUE if first >= 0 else RDB_KINDS[type], name)
    if first >= 0:
        buffer_add(b, &first, sizeof(int64_t))
    if type != T_STRING:
        rdb_put_length(b, members_shown(k, key_collection(k, e, type)))
    walk_shown(&w, k, e, WALK_BACKWARDS if type == T_ZSET else WALK_FORWARDS)
    while walk_next(&w):
        if first >= 0:
            rdb_put_length(b, max(walk_deadline(k, &w) - first + 1, <int64_t>0))
        if type != T_STRING and type != T_LIST:
            rdb_put_text(b, w.name)
        if type == T_ZSET:
            rdb_put_double(b, member_score(k, w.e))
        elif type != T_SET:
            rdb_put_text(b, walk_value(k, &w))
        if drain != NULL and b.n >= DRAINED:
            drain(arg)


cdef void dump(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Element *e = key_find(k, c.db, c.argv[1])
    cdef Buffer out
    if not key_visible(k, e):
        c.stats.misses += 1
        reply_null(c.reply)
        return
    c.stats.hits += 1
    touch(c, e)
    memset(&out, 0, sizeof(Buffer))
    put_value(&out, k, e, NULL, NULL, NULL)
    seal_value(&out)
    reply_bulk(c.reply, out.p, out.n)
    buffer_free(&out)


# ---- collecting what a payload holds -------------------------------------------------------------
cdef enum:
    TOO_MUCH = 1                # beside RdbStatus: more than one op may hold
    EFFECT_SIZE = 32            # bytes of an encoded effect beside key, name and value, at most ...
    PLACE_SIZE = 64             # ... and of the place of a list element

# Before each element in Collected.all; name and value follow, and as many bytes as bring the next
# one to a multiple of four.
cdef struct Found:
    uint32_t hash               # of the name
    uint32_t name               # bytes
    uint32_t value
    # of a hash's field: its deadline in ms, as 8 bytes; 0: none. Of a stream's: its RdbPart, and
    # the number of the group whose consumer it is
    uint32_t[2] due

# All elements of a payload, and where names are unique a hash table of them with open addressing,
# which tells a name that comes twice.
cdef struct Collected:
    Kernel *k
    int kind                    # T_*
    RdbCursor at
    size_t key                  # bytes: each effect repeats it
    size_t room                 # bytes of effects that may still be made
    size_t n
    size_t named                # of these, in the table
    uint32_t groups             # of a stream: so far,
    size_t group                # bytes of the last one's name
    Buffer all
    Buffer table                # uint32_t: an element's offset in `all` + 1, 0: free
    size_t mask                 # slots of the table - 1


cdef inline size_t found_size(const Found *f) noexcept nogil:
    return sizeof(Found) + ((<size_t>f.name + f.value + 3) & ~<size_t>3)


cdef inline const char *found_name(const Found *f) noexcept nogil:
    return <const char*>f + sizeof(Found)


cdef void grow_table(Collected *x) noexcept nogil:
    cdef size_t at = 0, i
    cdef uint32_t *slots
    cdef Found *f
    x.mask = x.mask * 2 + 1 if x.mask else 15
    slots = <uint32_t*>buffer_need(&x.table, (x.mask + 1) * sizeof(uint32_t))
    memset(slots, 0, (x.mask + 1) * sizeof(uint32_t))
    while at < x.all.n:
        f = <Found*>(x.all.p + at)
        i = f.hash & x.mask
        while slots[i]:
            i = (i + 1) & x.mask
        if x.kind != T_STREAM or f.due[0] != RDB_ELEMENT:
            slots[i] = <uint32_t>at + 1
        at += found_size(f)


cdef int add_name(Collected *x, Span name, const Found *new) noexcept nogil:
    """Enters the element that is about to be appended; 0 where one of that name is there."""
    cdef uint32_t hash = new.hash
    cdef uint32_t *slots
    cdef size_t i
    cdef Found *f
    x.named += 1
    if x.named * 2 > x.mask:
        grow_table(x)
    slots = <uint32_t*>x.table.p
    i = hash & x.mask
    while slots[i]:
        f = <Found*>(x.all.p + slots[i] - 1)
        if (f.hash == hash and f.name == name.n
                and (name.n == 0 or memcmp(found_name(f), name.p, name.n) == 0)
                and (x.kind != T_STREAM or memcmp(f.due, new.due, sizeof(f.due)) == 0)):
            return 0
        i = (i + 1) & x.mask
    slots[i] = <uint32_t>x.all.n + 1
    return 1


cdef RdbPending pending_of(const char *consumer, size_t i) noexcept nogil:
    """Behind an RdbConsumer."""
    cdef RdbPending p
    memcpy(&p, consumer + sizeof(RdbConsumer) + i * sizeof(RdbPending), sizeof(RdbPending))
    return p


cdef size_t run_of(Span consumer, size_t i) noexcept nogil:
    """How many of its records from the i-th on were delivered at one time, and as often."""
    cdef size_t n = (consumer.n - sizeof(RdbConsumer)) // sizeof(RdbPending), j = i + 1
    cdef RdbPending first, p
    if i >= n:
        return 0
    first = pending_of(consumer.p, i)
    while j < n:
        p = pending_of(consumer.p, j)
        if p.at != first.at or p.deliveries != first.deliveries:
            break
        j += 1
    return j - i


cdef size_t part_size(Collected *x, Span name, Span value) noexcept nogil:
    """Of what is made of a group or a consumer."""
    cdef size_t bytes, i = 0, n
    if x.at.part == RDB_GROUP:
        x.group = name.n
        return records_size(x.key + name.n, 0)
    bytes = records_size(x.key + x.group + name.n, 0)
    n = run_of(value, i)
    while n:
        bytes += records_size(x.key + x.group + name.n, n)
        i += n
        n = run_of(value, i)
    return bytes


cdef int collect(void *arg, Span name, Span value) noexcept nogil:
    """An RdbVisit."""
    cdef Collected *x = <Collected*>arg
    cdef size_t effect = EFFECT_SIZE + (PLACE_SIZE if x.kind == T_LIST
                                        else 0) + x.key + name.n + value.n
    cdef int part = x.at.part
    cdef Found f
    if part:
        effect = part_size(x, name, value)
    if effect > x.room or (value.n > MAX_STRING and not part):
        return TOO_MUCH
    x.room -= effect
    if x.at.due:
        if x.at.due < x.k.now:
            return RDB_GOOD             # it has gone
        x.room -= min(x.room, EFFECT_SIZE + x.key + name.n)
    memcpy(f.due, &x.at.due, sizeof(f.due))
    f.hash = 0
    f.name = <uint32_t>name.n
    f.value = <uint32_t>value.n
    if part:
        x.groups += part == RDB_GROUP
        f.due[0] = part
        f.due[1] = x.groups if part == RDB_CONSUMER else 0
    if (x.kind != T_LIST and x.kind != T_STRING and x.kind != T_STREAM) or part:
        f.hash = key_hash(x.k, name.p, name.n) + (f.due[1] * <uint32_t>2654435761 if part else 0)
        if not add_name(x, name, &f):
            return RDB_BAD
    buffer_need(&x.all, found_size(&f))
    memcpy(x.all.p + x.all.n, &f, sizeof(Found))
    if name.n:
        memcpy(x.all.p + x.all.n + sizeof(Found), name.p, name.n)
    if value.n:
        memcpy(x.all.p + x.all.n + sizeof(Found) + name.n, value.p, value.n)
    x.all.n += found_size(&f)
    x.n += 1
    return RDB_GOOD


cdef int collect_payload(Collected *x, Span payload) noexcept nogil:
    """1, or the first thing that is wrong with it."""
    cdef int type = <unsigned char>payload.p[0], status
    x.at.p = <const unsigned char*>payload.p + 1
    x.at.left = payload.n - 1 - RDB_TRAILER
    x.kind = rdb_kind(type)
    status = rdb_read(&x.at, type, collect, x)
    return RDB_BAD if status == RDB_GOOD and x.at.left else status


# ---- RESTORE -------------------------------------------------------------------------------------
cdef Element *put_consumer(Call *c, Element *e, Span group, MadeGroup made, Span name,
                           Span value) noexcept nogil:
    cdef size_t i = 0, j, n = run_of(value, 0)
    cdef Kernel *k = c.kernel
    cdef RdbConsumer x
    cdef RdbPending p
    cdef PendingView view
    cdef Buffer ids
    memset(&ids, 0, sizeof(Buffer))
    while n:
        ids.n = 0
        for j in range(i, i + n):
            p = pending_of(value.p, j)
            buffer_add(&ids, &p.id, sizeof(StreamId))
        view.owner = name
        view.at = p.at
        view.deliveries = p.deliveries
        e = records_put(k, c.db, c.argv[1], e, group, made, &view, <StreamId*>ids.p, n)
        i += n
        n = run_of(value, i)
    memcpy(&x, value.p, sizeof(RdbConsumer))
    buffer_free(&ids)
    if name.n == 0 and x.seen == 0:
        return e                            # what nobody owns
    return consumer_put(k, c.db, c.argv[1], e, group, made, name, x.seen, x.active)


cdef inline Found *found_at(Collected *x, size_t *at, Span *name, Span *value) noexcept nogil:
    """*at moves on."""
    cdef Found *f = <Found*>(x.all.p + at[0])
    at[0] += found_size(f)
    name[0] = span(found_name(f), f.name)
    value[0] = span(name.p + f.name, f.value)
    return f


cdef void put_collected_groups(Call *c, Collected *x, Element *e, size_t at) noexcept nogil:
    cdef Span name, value, group
    cdef MadeGroup made
    cdef RdbGroup g
    while at < x.all.n:
        if found_at(x, &at, &name, &value).due[0] == RDB_CONSUMER:
            e = put_consumer(c, e, group, made, name, value)
            continue
        group = name
        memcpy(&g, value.p, sizeof(RdbGroup))
        e = group_put(c.kernel, c.db, c.argv[1], e, name, g.last, g.read, 0, NULL, 0, &made)


cdef void put_collected(Call *c, Collected *x) noexcept nogil:
    """The key := what was collected, whatever it held."""
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1], name, value
    cdef Element *e = key_find(k, c.db, key)
    cdef int64_t due
    cdef size_t at = 0, i
    cdef Found *f
    if e != NULL and x.kind != T_STRING:
        key_delete(k, c.db, e)
        e = key_find(k, c.db, key)          # concurrent increments may have left tombstones
    for i in range(x.n - x.named if x.kind == T_STREAM else x.n):
        f = found_at(x, &at, &name, &value)
        e = put_shown(k, c.db, key, e, x.kind, i, name, value)
        memcpy(&due, f.due, sizeof(due))
        if due:
            e = field_expire(k, c.db, key, e, name, due)
    if x.kind == T_STREAM:
        e = stream_set_id(k, c.db, key, e, x.at.top, <int64_t>x.at.added, x.at.max_deleted)
        put_collected_groups(c, x, e, at)


cdef int read_restore_options(Call *c, int *replace, int *absolute, int64_t *idle,
                              int64_t *freq) noexcept nogil:
    """0 after a refusal. idle and freq are -1 where they are not given."""
    cdef int i = 4
    while i < c.argc:
        if is_word(c.argv[i], "REPLACE"):
            replace[0] = 1
        elif is_word(c.argv[i], "ABSTTL"):
            absolute[0] = 1
        elif is_word(c.argv[i], "IDLETIME") and i + 1 < c.argc and freq[0] == -1:
            i += 1
            if not read_int(c, c.argv[i], idle):
                return 0
            if idle[0] < 0:
                refuse(c, IDLETIME_NEGATIVE)
                return 0
        elif is_word(c.argv[i], "FREQ") and i + 1 < c.argc and idle[0] == -1:
            i += 1
            if not read_int(c, c.argv[i], freq):
                return 0
            if freq[0] < 0 or freq[0] > 255:
                refuse(c, FREQ_RANGE)
                return 0
        else:
            refuse_syntax(c)
            return 0
        i += 1
    return 1


cdef void restore(Call *c) noexcept nogil:
    cdef Kernel *k = c.kernel
    cdef Span key = c.argv[1], payload = c.argv[3]
    cdef int replace = 0, absolute = 0, there, status
    cdef int64_t idle = -1, freq = -1, deadline
    cdef Element *e
    cdef size_t used
    cdef Collected found
    if not read_restore_options(c, &replace, &absolute, &idle, &freq):
        return
    e = key_find(k, c.db, key)
    there = key_visible(k, e)
    if there and not replace:
        refuse(c, KEY_EXISTS)
        return
    if not read_int(c, c.argv[2], &deadline):
        return
    if deadline < 0:
        refuse(c, TTL_NEGATIVE)
        return
    if not rdb_sealed(payload):
        refuse(c, PAYLOAD_NOT_SEALED)
        return
    memset(&found, 0, sizeof(Collected))
    found.k = k
    found.key = key.n
    used = (k.open.effects.n if k.open.has_op else 0) + (removal_size(k, e) if e != NULL
                                               else 0) + 6 * (EFFECT_SIZE + key.n)
    found.room = k.open.most - used if used < k.open.most else 0
    status = collect_payload(&found, payload)
    if status == TOO_MUCH:
        refuse_too_large(c)
    elif status != RDB_GOOD:
        refuse(c, PAYLOAD_DAMAGED)
    elif deadline and not absolute and deadline > INT64_MAX - k.now:
        refuse_named(c, INVALID_EXPIRE)
    else:
        if deadline and not absolute:
            deadline += k.now
        if (deadline and deadline <= k.now) or (found.n == 0 and found.kind != T_STREAM):
            if there:
                key_delete(k, c.db, key_find(k, c.db, key))
        else:
            put_collected(c, &found)
            if deadline:
                key_expire(k, c.db, key_find(k, c.db, key), deadline)
            if not k.eviction.policy & EVICT_LFU:
                key_set_idle(k, key_find(k, c.db, key), max(idle, <int64_t>0))
            elif freq >= 0:
                key_set_frequency(k, key_find(k, c.db, key), <uint32_t>freq)
        reply_ok(c.reply)
    buffer_free(&found.all)
    buffer_free(&found.table)


# ---- registration --------------------------------------------------------------------------------
command("DUMP key", arity=2, flags="readonly", keys=(1, 1, 1), group="generic", since="2.6.0",
        complexity="O(size of the value)", tips="nondeterministic_output",
        summary="The value of a key as bytes that RESTORE takes, here and in Redis.")(native(dump))
command("RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        arity=-4, flags="write denyoom one_change", keys=(1, 1, 1), access="OW update",
        group="generic", since="2.6.0", complexity="O(size of the value)", categories="dangerous",
        summary="Makes a key from what DUMP gave, here or in Redis.",
        replicas="The key is assigned as if it were new, like SET, or DEL and adds, in one "
                 "operation: with REPLACE what this replica had seen goes, and what was written "
                 "concurrently survives. Whether the key is free is decided locally.")(
        native(restore))

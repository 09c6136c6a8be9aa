# cython: language_level=3
"""Consumer groups of streams: XGROUP, XREADGROUP, XACK, XNACK, XPENDING, XCLAIM, XAUTOCLAIM.

A group knows of each entry whether it has given it out, whatever its id is, so an entry that comes
late from a peer is new to it. What is given out where, and what two replicas do to one record, is
the kernel's (core/groups.pxi). Replies, refusals and the order in which arguments are looked at are
those of Redis 7.2; CLAIM is that of 8.4, XNACK that of 8.8, MAXCOUNT and MAXSIZE those of 8.10.
"""
from libc.limits cimport INT_MAX
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, UINT64_MAX, int64_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memchr, memcmp, memset, strlen

from crdtredis._core cimport (ELSEWHERE_ROOM, GONE_MOST, STREAM_ID, T_STREAM, Collection,
                              ConsumerView, Element, GroupView, PendingView, StreamCursor,
                              StreamId, consumer_called, consumer_find, consumer_next,
                              consumer_remove, consumer_there, consumer_touch, group_counted,
                              group_create, group_deliver, group_destroy, group_find, group_idle,
                              group_new, group_set, is_unowned, key_prepare, op_room,
                              pending_claim, pending_from, pending_last, pending_remove,
                              siphash64, stream_fields, stream_find, stream_len, stream_next,
                              stream_seek, stream_top)
from crdtredis._engine cimport (CLIENT_IN_EXEC, CLIENT_SCRIPT, Call, consume, is_word, native,
                                refuse, refuse_syntax, wait_for_keys, wait_is_over,
                                wait_to_answer, wait_to_look)
from crdtredis._resp cimport (reply_array, reply_bulk, reply_error_span, reply_int, reply_map,
                              reply_null, reply_null_array, reply_ok)
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, buffer_need
from crdtredis.commands.common cimport REFUSED, read_int
from crdtredis.commands.members cimport find_members
from crdtredis.commands.stream_ids cimport (GROUP_NAME_MOST, id_order, id_up, is_one,
                                            parse_id, stream_id)
from crdtredis.commands.streams cimport (ReadCap, by_id, cap_begin, cap_takes, check_cap,
                                         find_stream, read_block, read_bound, read_cap, read_count,
                                         read_id, refuse_subcommand, reply_entry, reply_id)
from crdtredis.errors cimport (AUTOCLAIM_COUNT, AUTOCLAIM_IDLE, CLAIM_IDLE, CLAIM_IDLE_OPTION,
                               CLAIM_RETRYCOUNT, CLAIM_TIME, DOLLAR_OF_XREAD,
                               ENTRIES_READ_NEGATIVE, GROUP_EXISTS, GROUP_MISSING, GROUP_NAME_LONG,
                               GROUP_NEEDS_KEY, NACK_IDS, NACK_MODE, NACK_RETRYCOUNT,
                               NACK_NUMIDS, NACK_WITHOUT_IDS, READ_CLAIM_IDLE,
                               READ_CLAIM_NEGATIVE, XREADGROUP_UNBALANCED)
from crdtredis.numbers cimport format_int64, parse_int64

from functools import partial

from crdtredis.commands.table import StreamKeys, command
from crdtredis.commands.usage import container

cdef enum:
    ATTEMPTS = 10               # records that XAUTOCLAIM looks at for each that it may answer
    GIVEN_MOST = 1000000        # entries of a key that one call gives to a consumer
    GIVEN_LEAST = 17            # bytes of one in a reply
    GIVEN_ROOM = 40             # bytes of one in an op,
    CLAIM_ROOM = 128            # and of a claim
    SETTLE_MS = 1000            # XREADGROUP waits so long for what other replicas say

cdef int64_t FOREVER = <int64_t>1 << 60         # ms
cdef StreamId ZERO
ZERO.ms = ZERO.seq = 0
cdef Span NOBODY
NOBODY.p = NULL
NOBODY.n = 0
cdef Span NAMELESS
NAMELESS.p = b""
NAMELESS.n = 0


# ---- refusals ------------------------------------------------------------------------------------
cdef void add_text(Buffer *b, const char *text) noexcept nogil:
    buffer_add(b, text, strlen(text))


cdef void add_name(Buffer *b, Span name) noexcept nogil:
    """Up to a NUL, as Redis prints it."""
    cdef const char *end = <const char*>memchr(name.p, 0, name.n) if name.n else NULL
    cdef size_t n = <size_t>(end - name.p) if end != NULL else name.n
    buffer_add(b, "'", 1)
    buffer_add(b, name.p, min(n, <size_t>256))
    buffer_add(b, "'", 1)


cdef void refuse_names(Call *c, const char *what, Span x, const char *what2, Span y,
                       const char *where) noexcept nogil:
    cdef Buffer text
    memset(&text, 0, sizeof(Buffer))
    add_text(&text, what)
    add_name(&text, x)
    add_text(&text, what2)
    add_name(&text, y)
    add_text(&text, where)
    reply_error_span(c.reply, text.p, text.n)
    buffer_free(&text)


cdef void refuse_group(Call *c, Span key, Span group, const char *where) noexcept nogil:
    refuse_names(c, "NOGROUP No such key ", key, " or consumer group ", group, where)


cdef void refuse_group_of(Call *c, Span group, Span key) noexcept nogil:
    refuse_names(c, "NOGROUP No such consumer group ", group, " for key name ", key, "")


cdef int fits_name(Call *c, Span name) noexcept nogil:
    """0 after a refusal."""
    if name.n > GROUP_NAME_MOST:
        refuse(c, GROUP_NAME_LONG)
    return name.n <= GROUP_NAME_MOST


# A group under way: what the effects before have left of the key.
cdef struct Under:
    Span key
    Span name
    Element *e
    Collection *s
    GroupView g
    int prepared
    # XREADGROUP
    int64_t given               # entries that are answered; -1: it says nothing
    size_t claimed              # the first of them were pending
    int removed                 # records of entries that are gone were
    int64_t next                # when what is pending next was delivered; -1: nothing is

# Of an entry that was pending how long it was, and how often it had been delivered.
cdef struct Age:
    int64_t idle
    int64_t deliveries


cdef int find_group(Call *c, Span key, Span name, Under *u) noexcept nogil:
    """REFUSED for another type; 0 for no such group."""
    memset(u, 0, sizeof(Under))
    u.key = key
    u.name = name
    if find_members(c, key, T_STREAM, &u.e, &u.s) == REFUSED:
        return REFUSED
    return u.s != NULL and group_find(c.kernel, u.s, name, &u.g)


cdef void again(Call *c, Under *u) noexcept nogil:
    """After an effect: the views anew."""
    u.s = find_stream(c, u.key)
    group_find(c.kernel, u.s, u.name, &u.g)


cdef void prepare(Call *c, Under *u) noexcept nogil:
    if not u.prepared:
        u.e = key_prepare(c.kernel, c.db, u.key, u.e, T_STREAM)
        u.prepared = 1


cdef int touch_consumer(Call *c, Under *u, Span consumer) noexcept nogil:
    """1: it is new."""
    cdef size_t at
    consumer_called(c.kernel, &u.g, consumer)
    if consumer_there(&u.g, consumer, &at):
        return 0
    prepare(c, u)
    u.e = consumer_touch(c.kernel, c.db, u.key, u.e, u.name, consumer, 0)
    again(c, u)
    return 1


# ---- XGROUP --------------------------------------------------------------------------------------
cdef int read_start(Call *c, Collection *s, int strict, StreamId *start) noexcept nogil:
    """argv[4], `$` being the last id; 0 after a refusal."""
    if is_one(c.argv[4], c'$'):
        start[0] = stream_top(s) if s != NULL else ZERO
        return 1
    if not strict and (is_one(c.argv[4], c'-') or is_one(c.argv[4], c'+')):
        start[0] = ZERO if c.argv[4].p[0] == c'-' else stream_id(UINT64_MAX, UINT64_MAX)
        return 1
    return read_id(c, c.argv[4], start, 0, NULL)


cdef int read_group_options(Call *c, int creates, int *make, int *shared,
                            int64_t *read) noexcept nogil:
    """0 after a refusal."""
    cdef int i = 5
    make[0] = shared[0] = 0
    read[0] = -1
    while i < c.argc:
        if creates and is_word(c.argv[i], "MKSTREAM"):
            make[0] = 1
        elif creates and is_word(c.argv[i], "SHARED"):
            shared[0] = 1
        elif is_word(c.argv[i], "ENTRIESREAD") and i + 1 < c.argc:
            i += 1
            if not read_int(c, c.argv[i], read):
                return 0
            if read[0] < -1:
                refuse(c, ENTRIES_READ_NEGATIVE)
                return 0
        else:
            refuse_subcommand(c, "XGROUP")
            return 0
        i += 1
    return 1


cdef void xgroup_create(Call *c) noexcept nogil:
    cdef Under u
    cdef StreamId start
    cdef int64_t read
    cdef int make, shared, found
    if not read_group_options(c, 1, &make, &shared, &read):
        return
    found = find_group(c, c.argv[2], c.argv[3], &u)
    if found == REFUSED:
        return
    if u.s == NULL and not make:
        refuse(c, GROUP_NEEDS_KEY)
    elif read_start(c, u.s, 1, &start):
        if found:
            refuse(c, GROUP_EXISTS)
        elif fits_name(c, u.name) and op_room(c.kernel, c.db, 4, u.key.n, u.name.n):
            prepare(c, &u)
            group_create(c.kernel, c.db, u.key, u.e, u.name, start, read, shared)
            c.changes = 1
            reply_ok(c.reply)


cdef int find_named(Call *c, Under *u) noexcept nogil:
    """The group argv[3] of argv[2]; 0 after a refusal."""
    cdef int found = find_group(c, c.argv[2], c.argv[3], u)
    if found == REFUSED:
        return 0
    if u.s == NULL:
        refuse(c, GROUP_NEEDS_KEY)
    elif not found:
        refuse_group_of(c, u.name, u.key)
    return found


cdef void xgroup_setid(Call *c) noexcept nogil:
    cdef Under u
    cdef StreamId start
    cdef int64_t read
    cdef int make, shared
    if (read_group_options(c, 0, &make, &shared, &read) and find_named(c, &u)
            and read_start(c, u.s, 0, &start) and op_room(c.kernel, c.db, 2, u.key.n, u.name.n)):
        prepare(c, &u)
        group_set(c.kernel, c.db, u.key, u.e, u.name, start, read)
        c.changes = 1
        reply_ok(c.reply)


cdef void xgroup_destroy(Call *c) noexcept nogil:
    cdef Under u
    cdef int found = find_group(c, c.argv[2], c.argv[3], &u)
    if found == REFUSED:
        return
    if u.s == NULL:
        refuse(c, GROUP_NEEDS_KEY)
        return
    if found:
        prepare(c, &u)
        group_destroy(c.kernel, c.db, u.key, u.e, u.name)
    c.changes = found
    reply_int(c.reply, found)


cdef void xgroup_createconsumer(Call *c) noexcept nogil:
    cdef Under u
    if (find_named(c, &u) and fits_name(c, c.argv[4])
            and op_room(c.kernel, c.db, 2, u.key.n, u.name.n + c.argv[4].n)):
        c.changes = touch_consumer(c, &u, c.argv[4])
        reply_int(c.reply, c.changes)


cdef void xgroup_delconsumer(Call *c) noexcept nogil:
    cdef Under u
    cdef ConsumerView consumer
    cdef int64_t pending = 0
    if not find_named(c, &u):
        return
    c.changes = 0
    if consumer_find(c.kernel, &u.g, c.argv[4], &consumer):
        pending = <int64_t>consumer.pending
        if not op_room(c.kernel, c.db, 2, u.key.n,
                       u.name.n + c.argv[4].n + STREAM_ID * consumer.pending):
            return
        prepare(c, &u)
        consumer_remove(c.kernel, c.db, u.key, u.e, u.name, c.argv[4])
        c.changes = 1
    reply_int(c.reply, pending)


# ---- runs of records -----------------------------------------------------------------------------
# Many records change alike: ids in their order, in one effect.
cdef enum RunKind:
    RUN_CLAIMS              # records become the consumer's
    RUN_MAKES               # ... that are not there yet
    RUN_REMOVES

cdef struct Run:
    Span consumer
    int64_t at              # ms: the time that is noted
    RunKind kind
    int64_t deliveries
    StreamId last
    Buffer ids
    StreamCursor entry          # somewhere in the stream


cdef void run_begin(Call *c, Under *u, Run *r, Span consumer, int64_t at) noexcept nogil:
    memset(r, 0, sizeof(Run))
    r.consumer = consumer
    r.at = at
    stream_seek(c.kernel, u.s, ZERO, 0, &r.entry)


cdef void run_flush(Call *c, Under *u, Run *r) noexcept nogil:
    cdef size_t n = r.ids.n // sizeof(StreamId)
    if n == 0:
        return
    prepare(c, u)
    if r.kind == RUN_REMOVES:
        u.e = pending_remove(c.kernel, c.db, u.key, u.e, u.name, <StreamId*>r.ids.p, n)
    else:
        u.e = pending_claim(c.kernel, c.db, u.key, u.e, u.name, r.consumer, <StreamId*>r.ids.p, n,
                            r.at, r.deliveries)
    again(c, u)
    r.ids.n = 0
    stream_seek(c.kernel, u.s, r.last, 0, &r.entry)


cdef void run_end(Call *c, Under *u, Run *r) noexcept nogil:
    run_flush(c, u, r)
    buffer_free(&r.ids)


cdef inline int64_t once_more(int64_t deliveries) noexcept nogil:
    return deliveries + (deliveries != INT64_MAX)


cdef void run_add(Call *c, Under *u, Run *r, RunKind kind, StreamId id,
                  int64_t deliveries) noexcept nogil:
    if kind != r.kind or deliveries != r.deliveries:
        run_flush(c, u, r)
    r.kind = kind
    r.deliveries = deliveries
    r.last = id
    buffer_add(&r.ids, &id, sizeof(StreamId))


# ---- XREADGROUP ----------------------------------------------------------------------------------
cdef struct GroupRead:
    Span group
    Span consumer
    int64_t timeout             # ms; -1: it does not wait
    int64_t count               # 0: all
    ReadCap *cap
    int64_t idle                # CLAIM: ms; -1: it takes over nothing
    int noack
    int first                   # the first key is argv[first],
    int n                       # of so many; as many ids follow


cdef int read_reading(Call *c, GroupRead *o, ReadCap *cap) noexcept nogil:
    """0 after a refusal."""
    cdef int i = 1, more
    memset(o, 0, sizeof(GroupRead))
    o.timeout = o.idle = -1
    o.cap = cap
    cap_begin(cap)
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
        elif more and is_word(c.argv[i], "CLAIM"):
            i += 1
            if not read_number(c, c.argv[i], READ_CLAIM_IDLE, &o.idle):
                return 0
            if o.idle < 0:
                refuse(c, READ_CLAIM_NEGATIVE)
                return 0
        elif more >= 2 and is_word(c.argv[i], "GROUP"):
            o.group = c.argv[i + 1]
            o.consumer = c.argv[i + 2]
            i += 2
        elif is_word(c.argv[i], "NOACK"):
            o.noack = 1
        elif more and is_word(c.argv[i], "STREAMS"):
            o.first = i + 1
        elif not read_cap(c, &i, cap):
            return 0
        i += 1
    if not o.first:
        refuse_syntax(c)
    elif (c.argc - o.first) % 2:
        refuse(c, XREADGROUP_UNBALANCED)
    elif o.group.p == NULL:
        refuse(c, GROUP_MISSING)
    elif fits_name(c, o.consumer):
        o.n = (c.argc - o.first) // 2
        return check_cap(c, cap, o.count)
    return 0


cdef int check_reading(Call *c, const GroupRead *o, Under *u) noexcept nogil:
    """Are all groups and ids there? 0 after a refusal. u: of each key, as it is before all effects.
    """
    cdef StreamId id
    cdef Span from_
    cdef int i, found
    for i in range(o.n):
        from_ = c.argv[o.first + o.n + i]
        found = find_group(c, c.argv[o.first + i], o.group, u + i)
        if found == REFUSED:
            return 0
        if not found:
            refuse_group(c, u[i].key, o.group, " in XREADGROUP with GROUP option")
            return 0
        if is_one(from_, c'$'):
            refuse(c, DOLLAR_OF_XREAD)
            return 0
        if not is_one(from_, c'>') and not read_id(c, from_, &id, 0, NULL):
            return 0
    return 1


cdef inline size_t most_given(const GroupRead *o) noexcept nogil:
    """Entries of a key, at most."""
    cdef size_t most = min(<size_t>o.count - 1, <size_t>GIVEN_MOST - 1) + 1
    return min(most, <size_t>o.cap.entries, <size_t>o.cap.bytes // GIVEN_LEAST + 1)


cdef int reading_fits(Call *c, const GroupRead *o, const Under *u) noexcept nogil:
    """Is there room in the op for what may be given? 0 after a refusal."""
    cdef size_t bytes = 0, effects = 0, most = most_given(o), keys = 0
    cdef int i, elsewhere = 0
    for i in range(o.n):
        keys = max(keys, u[i].key.n)
        if is_one(c.argv[o.first + o.n + i], c'>'):
            bytes += GIVEN_ROOM * min(most, stream_len(u[i].s))
        if o.idle >= 0 or not is_one(c.argv[o.first + o.n + i], c'>'):
            effects += min(most, u[i].g.pending)
        if o.idle >= 0:
            bytes += STREAM_ID * min(<size_t>GONE_MOST, u[i].g.pending)
        effects += 3
        elsewhere |= u[i].g.creates > 1
    return op_room(c.kernel, c.db, effects, keys, (ELSEWHERE_ROOM if elsewhere else 0)
                   + bytes + effects * (o.group.n + o.consumer.n + CLAIM_ROOM))


cdef int waits_for_others(Call *c, const GroupRead *o, const Under *u) noexcept nogil:
    """Have other replicas not said yet what they give out? Then a client that does not block waits
    for that all the same."""
    cdef int i, settled = 1
    if o.timeout != -1 or c.client.flags & (CLIENT_IN_EXEC | CLIENT_SCRIPT) or (
            wait_is_over(c.client)):
        return 0
    for i in range(o.n):
        if is_one(c.argv[o.first + o.n + i], c'>'):
            consume(c.dispatch, c.db, u[i].key, u[i].name, u[i].g.shared, &settled)
            if not settled:
                return 1
    return 0


cdef size_t give_idle(Call *c, Under *u, const GroupRead *o, size_t most, Buffer *ids,
                      Buffer *ages) noexcept nogil:
    """Has the consumer take over what is pending and idle, the longest first; how many."""
    cdef Buffer found, gone
    cdef PendingView *p
    cdef size_t n = 0, i
    cdef int settled
    cdef Age age
    cdef Run run
    memset(&found, 0, sizeof(Buffer))
    memset(&gone, 0, sizeof(Buffer))
    run_begin(c, u, &run, o.consumer, c.kernel.now)
    group_idle(c.kernel, u.s, &u.g,
               consume(c.dispatch, c.db, u.key, u.name, u.g.shared, &settled),
               max(c.kernel.now - o.idle, <int64_t>0), most, &found, &gone, &u.next)
    for i in range(found.n // sizeof(PendingView)):
        p = <PendingView*>found.p + i
        if not stream_find(&run.entry, p.id) or not cap_takes(o.cap, p.id, &run.entry):
            break
        n += 1
        buffer_add(ids, &p.id, sizeof(StreamId))
        age.idle = max(c.kernel.now - p.at, <int64_t>0)
        age.deliveries = p.deliveries
        buffer_add(ages, &age, sizeof(Age))
        run_add(c, u, &run, RUN_CLAIMS, p.id, once_more(p.deliveries))
    for i in range(gone.n // sizeof(StreamId)):
        run_add(c, u, &run, RUN_REMOVES, (<StreamId*>gone.p)[i], 0)
    u.removed = gone.n > 0
    run_end(c, u, &run)
    buffer_free(&found)
    buffer_free(&gone)
    return n


cdef size_t give_new(Call *c, Under *u, const GroupRead *o, size_t most,
                     Buffer *ids) noexcept nogil:
    """Gives the consumer entries that are new; how many."""
    cdef StreamCursor at
    cdef size_t n = 0, begin = ids.n
    cdef int settled
    group_new(c.kernel, u.s, &u.g, consume(c.dispatch, c.db, u.key, u.name, u.g.shared, &settled),
              &at)
    while n < most and stream_next(&at) and cap_takes(o.cap, at.id, &at):
        buffer_add(ids, &at.id, sizeof(StreamId))
        n += 1
    if n:
        prepare(c, u)
        u.e = group_deliver(c.kernel, c.db, u.key, u.e, u.name, o.consumer,
                            <StreamId*>(ids.p + begin), n, o.noack)
    return n


cdef size_t give_again(Call *c, Under *u, const GroupRead *o, StreamId after, size_t most,
                       Buffer *ids) noexcept nogil:
    """Of the consumer's records behind an id: how many. Those whose entries are there count as
    delivered once more."""
    cdef size_t n = 0
    cdef int more = id_up(&after), there
    cdef PendingView p
    cdef Run run
    run_begin(c, u, &run, o.consumer, c.kernel.now)
    while n < most and more and pending_from(c.kernel, &u.g, after, o.consumer, &p):
        after = p.id
        there = stream_find(&run.entry, after)
        if not cap_takes(o.cap, after, &run.entry if there else NULL):
            break
        buffer_add(ids, &after, sizeof(StreamId))
        n += 1
        if there:
            run_add(c, u, &run, RUN_CLAIMS, after, once_more(p.deliveries))
        more = id_up(&after)
    run_end(c, u, &run)
    return n


cdef void give(Call *c, Under *u, const GroupRead *o, Span from_, Buffer *ids,
               Buffer *ages) noexcept nogil:
    cdef size_t most = most_given(o)
    cdef StreamId after
    u.claimed = u.removed = 0
    u.next = u.given = -1
    if o.cap.entries <= 0:
        return
    if is_one(from_, c'>'):
        if o.idle >= 0:
            u.claimed = give_idle(c, u, o, most, ids, ages)
        u.given = <int64_t>u.claimed
        if u.claimed < most:
            u.given += <int64_t>give_new(c, u, o, most - u.claimed, ids)
        u.given = u.given if u.given else -1
    else:
        parse_id(from_, &after, 0, NULL)
        u.given = <int64_t>give_again(c, u, o, after, most, ids)


cdef void reply_aged(Call *c, Collection *s, const StreamId *ids, size_t n, const Age *ages,
                     size_t claimed) noexcept nogil:
    """With how long each has been pending, and how often it was delivered: those that are new not
    at all. All are there."""
    cdef StreamCursor at
    cdef size_t i
    reply_array(c.reply, n)
    stream_seek(c.kernel, s, ids[0], 0, &at)
    for i in range(n):
        stream_find(&at, ids[i])
        reply_entry(c, at.id, stream_fields(&at), 2)
        reply_int(c.reply, ages[i].idle if i < claimed else 0)
        reply_int(c.reply, ages[i].deliveries if i < claimed else 0)


cdef void reply_given(Call *c, Collection *s, const StreamId *ids, size_t n) noexcept nogil:
    """Of entries that are gone the id alone."""
    cdef StreamCursor at
    cdef size_t i
    reply_array(c.reply, n)
    if n:
        stream_seek(c.kernel, s, ids[0], 0, &at)
    for i in range(n):
        if stream_find(&at, ids[i]):
            reply_entry(c, at.id, stream_fields(&at))
        else:
            reply_array(c.reply, 2)
            reply_id(c, ids[i])
            reply_null_array(c.reply)


cdef void wait_for_more(Call *c, const GroupRead *o, const Under *u) noexcept nogil:
    """Until something is new, or has been pending for long enough."""
    cdef int64_t next = -1
    cdef int i
    wait_for_keys(c, T_STREAM, o.first, o.n, o.timeout)
    if o.idle < 0:                              # what is new is new for every consumer
        c.client.wait.alike = siphash64(o.group.p, o.group.n, c.kernel.hash_key) | 1
    for i in range(o.n):
        if u[i].next >= 0 and (next < 0 or u[i].next < next):
            next = u[i].next
    if next >= 0:
        wait_to_look(c, min(o.idle, FOREVER) + min(next, FOREVER) - c.kernel.now)


cdef void xreadgroup(Call *c) noexcept nogil:
    cdef GroupRead o
    cdef ReadCap cap
    cdef Buffer room, ids, ages
    cdef Under *u
    cdef StreamId *next
    cdef Age *age
    cdef int i, there = 0, made = 0, removed = 0
    if not read_reading(c, &o, &cap):
        return
    memset(&ids, 0, sizeof(Buffer))
    memset(&ages, 0, sizeof(Buffer))
    memset(&room, 0, sizeof(Buffer))
    u = <Under*>buffer_need(&room, <size_t>o.n * sizeof(Under) + 1)
    if not check_reading(c, &o, u) or not reading_fits(c, &o, u):
        buffer_free(&room)
        return
    if waits_for_others(c, &o, u):
        buffer_free(&room)
        wait_to_answer(c, T_STREAM, o.first, o.n, SETTLE_MS)
        return
    for i in range(o.n):
        if i:                                   # it may be the key before
            find_group(c, c.argv[o.first + i], o.group, u + i)
        made += touch_consumer(c, u + i, o.consumer)
        give(c, u + i, &o, c.argv[o.first + o.n + i], &ids, &ages)
        there += u[i].given >= 0
        removed |= u[i].removed
    c.changes = 2 if made else <int64_t>(ids.n > 0 or removed)
    if there and c.reply.resp == 2:
        reply_array(c.reply, there)
    elif there:
        reply_map(c.reply, there)
    next = <StreamId*>ids.p
    age = <Age*>ages.p
    for i in range(o.n):
        if u[i].given < 0:
            continue
        if c.reply.resp == 2:
            reply_array(c.reply, 2)
        reply_bulk(c.reply, c.argv[o.first + i].p, c.argv[o.first + i].n)
        if o.idle >= 0 and is_one(c.argv[o.first + o.n + i], c'>'):
            reply_aged(c, find_stream(c, c.argv[o.first + i]), next, <size_t>u[i].given, age,
                       u[i].claimed)
            age += u[i].claimed
        else:
            reply_given(c, find_stream(c, c.argv[o.first + i]), next, <size_t>u[i].given)
        next += u[i].given
    if not there and (o.timeout == -1 or c.client.flags & CLIENT_IN_EXEC):
        reply_null_array(c.reply)
    elif not there:
        wait_for_more(c, &o, u)
    buffer_free(&room)
    buffer_free(&ids)
    buffer_free(&ages)


# ---- XACK, XPENDING ------------------------------------------------------------------------------
cdef void xack(Call *c) noexcept nogil:
    cdef Under u
    cdef PendingView p
    cdef StreamId id
    cdef Buffer ids
    cdef StreamId *v
    cdef size_t n = 0, i
    cdef int found = find_group(c, c.argv[1], c.argv[2], &u), k
    if found == REFUSED:
        return
    memset(&ids, 0, sizeof(Buffer))
    for k in range(3, c.argc if found else 3):
        if not read_id(c, c.argv[k], &id, 0, NULL):
            buffer_free(&ids)
            return
        buffer_add(&ids, &id, sizeof(StreamId))
    v = <StreamId*>ids.p
    if ids.n > sizeof(StreamId):
        qsort(v, ids.n // sizeof(StreamId), sizeof(StreamId), by_id)
    for i in range(ids.n // sizeof(StreamId)):
        id = v[i]
        if (n == 0 or id_order(v[n - 1], id)) and find_pending(c, &u, id, &p):
            v[n] = id
            n += 1
    if n and op_room(c.kernel, c.db, 1, u.key.n, u.name.n + STREAM_ID * n):
        prepare(c, &u)
        pending_remove(c.kernel, c.db, u.key, u.e, u.name, v, n)
    buffer_free(&ids)
    c.changes = n
    reply_int(c.reply, n)


cdef int find_pending(Call *c, const Under *u, StreamId id, PendingView *p) noexcept nogil:
    return pending_from(c.kernel, &u.g, id, NOBODY, p) and id_order(p.id, id) == 0


cdef int by_name(const void *a, const void *b) noexcept nogil:
    cdef Span x = (<const ConsumerView*>a).name, y = (<const ConsumerView*>b).name
    cdef int order = memcmp(x.p, y.p, min(x.n, y.n)) if x.n and y.n else 0
    return order if order else (x.n > y.n) - (x.n < y.n)


cdef size_t list_consumers(Call *c, const GroupView *g, Buffer *out) noexcept nogil:
    cdef ConsumerView x
    cdef size_t at = 0, n
    memset(out, 0, sizeof(Buffer))
    while consumer_next(c.kernel, g, &at, &x):
        buffer_add(out, &x, sizeof(ConsumerView))
    n = out.n // sizeof(ConsumerView)
    if n > 1:
        qsort(out.p, n, sizeof(ConsumerView), by_name)
    return n


cdef void reply_summary(Call *c, Under *u) noexcept nogil:
    cdef PendingView p
    cdef Buffer all
    cdef ConsumerView *x
    cdef char digits[24]
    cdef size_t n, i, some = 0
    group_counted(c.kernel, &u.g)
    reply_array(c.reply, 4)
    reply_int(c.reply, u.g.pending)
    if u.g.pending == 0:
        reply_null(c.reply)
        reply_null(c.reply)
        reply_null_array(c.reply)
        return
    pending_from(c.kernel, &u.g, ZERO, NOBODY, &p)
    reply_id(c, p.id)
    pending_last(c.kernel, &u.g, &p)
    reply_id(c, p.id)
    n = list_consumers(c, &u.g, &all)
    x = <ConsumerView*>all.p
    for i in range(n):
        some += x[i].pending > 0
    reply_array(c.reply, some)
    for i in range(n):
        if x[i].pending:
            reply_array(c.reply, 2)
            reply_bulk(c.reply, x[i].name.p, x[i].name.n)
            reply_bulk(c.reply, digits, format_int64(<int64_t>x[i].pending, digits))
    buffer_free(&all)


cdef void xpending(Call *c) noexcept nogil:
    cdef Under u
    cdef StreamId first, last, id
    cdef int64_t idle = 0, count
    cdef Span owner = NOBODY
    cdef ConsumerView x
    cdef PendingView p
    cdef Buffer found_all
    cdef size_t n = 0, i
    cdef int at = 3, found, more = 1
    if c.argc != 3 and (c.argc < 6 or c.argc > 9):
        refuse_syntax(c)
        return
    if c.argc > 3:
        if is_word(c.argv[3], "IDLE"):
            if not read_int(c, c.argv[4], &idle):
                return
            if c.argc < 8:
                refuse_syntax(c)
                return
            at = 5
        if (not read_count(c, c.argv[at + 2], &count) or not read_bound(c, c.argv[at], &first, 0)
                or not read_bound(c, c.argv[at + 1], &last, 1)):
            return
        if at + 3 < c.argc:
            owner = c.argv[at + 3]
    found = find_group(c, c.argv[1], c.argv[2], &u)
    if found == REFUSED:
        return
    if not found:
        refuse_group(c, u.key, u.name, "")
        return
    if c.argc == 3:
        reply_summary(c, &u)
        return
    if owner.p != NULL and not consumer_find(c.kernel, &u.g, owner, &x):
        reply_array(c.reply, 0)
        return
    memset(&found_all, 0, sizeof(Buffer))
    id = first
    while (more and n < <size_t>count and pending_from(c.kernel, &u.g, id, owner, &p)
           and id_order(p.id, last) <= 0):
        id = p.id
        more = id_up(&id)
        if not idle or is_unowned(&p) or c.kernel.now - p.at >= idle:
            buffer_add(&found_all, &p, sizeof(PendingView))
            n += 1
    reply_array(c.reply, n)
    for i in range(n):
        p = (<PendingView*>found_all.p)[i]
        reply_array(c.reply, 4)
        reply_id(c, p.id)
        reply_bulk(c.reply, p.owner.p, p.owner.n)
        reply_int(c.reply, -1 if is_unowned(&p) else max(c.kernel.now - p.at, <int64_t>0))
        reply_int(c.reply, p.deliveries)
    buffer_free(&found_all)


cdef int find_next(Call *c, Under *u, Run *run, StreamId id, PendingView *p) noexcept nogil:
    """The record of what is to come into a run."""
    if run.ids.n and id_order(run.last, id) >= 0:
        run_flush(c, u, run)                    # which may have changed it
    return find_pending(c, u, id, p)


# ---- XCLAIM, XAUTOCLAIM --------------------------------------------------------------------------
cdef struct Claim:
    int64_t idle                # ms at least
    int64_t at                  # ms: the time that is noted
    int64_t deliveries          # -1: one more
    int force
    int just_ids
    StreamId last               # LASTID


cdef int read_number(Call *c, Span arg, const char *refusal, int64_t *out) noexcept nogil:
    if parse_int64(arg.p, arg.n, out):
        return 1
    refuse(c, refusal)
    return 0


cdef void refuse_option(Call *c, const char *what, Span option) noexcept nogil:
    cdef Buffer text
    memset(&text, 0, sizeof(Buffer))
    add_text(&text, what)
    add_name(&text, option)
    reply_error_span(c.reply, text.p, text.n)
    buffer_free(&text)


cdef int read_claim(Call *c, int i, Claim *x) noexcept nogil:
    """The options of XCLAIM from argv[i] on; 0 after a refusal."""
    cdef int64_t when = -1
    cdef int more
    x.deliveries = -1
    x.force = x.just_ids = 0
    x.last = ZERO
    while i < c.argc:
        more = i + 1 < c.argc
        if is_word(c.argv[i], "FORCE"):
            x.force = 1
        elif is_word(c.argv[i], "JUSTID"):
            x.just_ids = 1
        elif more and is_word(c.argv[i], "IDLE"):
            i += 1
            if not read_number(c, c.argv[i], CLAIM_IDLE_OPTION, &when):
                return 0
            when = c.kernel.now - when if when >= 0 else c.kernel.now
        elif more and is_word(c.argv[i], "TIME"):
            i += 1
            if not read_number(c, c.argv[i], CLAIM_TIME, &when):
                return 0
        elif more and is_word(c.argv[i], "RETRYCOUNT"):
            i += 1
            if not read_number(c, c.argv[i], CLAIM_RETRYCOUNT, &x.deliveries):
                return 0
        elif more and is_word(c.argv[i], "LASTID"):
            i += 1
            if not read_id(c, c.argv[i], &x.last, 0, NULL):
                return 0
        else:
            refuse_option(c, "ERR Unrecognized XCLAIM option ", c.argv[i])
            return 0
        i += 1
    x.at = when if 0 <= when <= c.kernel.now else c.kernel.now
    if c.argv[3].n == 0:
        x.at = max(x.at, <int64_t>1)            # at 0 it would be nobody's
    return 1


cdef int claim_one(Call *c, Under *u, Run *run, const Claim *x, StreamId id,
                   Buffer *claimed, Buffer *gone) noexcept nogil:
    """Is it the consumer's now, or has its entry gone, and so has the record?"""
    cdef PendingView p
    cdef int64_t deliveries
    cdef int there
    there = find_next(c, u, run, id, &p)
    if not stream_find(&run.entry, id):
        if there:
            run_add(c, u, run, RUN_REMOVES, id, 0)
            buffer_add(gone, &id, sizeof(StreamId))
        return there
    if not there and not x.force or (there and x.idle and not is_unowned(&p)
                                     and c.kernel.now - p.at < x.idle):
        return 0
    deliveries = p.deliveries if there else 1
    if x.deliveries >= 0:
        deliveries = x.deliveries
    elif not x.just_ids:
        deliveries = once_more(deliveries)
    run_add(c, u, run, RUN_CLAIMS if there else RUN_MAKES, id, deliveries)
    buffer_add(claimed, &id, sizeof(StreamId))
    return 1


cdef void reply_claimed(Call *c, Under *u, const Buffer *ids, int just_ids) noexcept nogil:
    cdef StreamId *v = <StreamId*>ids.p
    cdef size_t n = ids.n // sizeof(StreamId), i
    if not just_ids:
        reply_given(c, u.s, v, n)
        return
    reply_array(c.reply, n)
    for i in range(n):
        reply_id(c, v[i])


cdef void give_up_to(Call *c, Under *u, Span consumer, StreamId last) noexcept nogil:
    """XCLAIM LASTID, which an append-only file of Redis has: what is new up to there has been given
    out."""
    cdef StreamCursor at
    cdef Buffer ids
    memset(&ids, 0, sizeof(Buffer))
    group_new(c.kernel, u.s, &u.g, NULL, &at)
    while ids.n // sizeof(StreamId) < GIVEN_MOST and stream_next(&at):
        if id_order(at.id, last) <= 0:
            buffer_add(&ids, &at.id, sizeof(StreamId))
    if ids.n:
        prepare(c, u)
        u.e = group_deliver(c.kernel, c.db, u.key, u.e, u.name, consumer, <StreamId*>ids.p,
                            ids.n // sizeof(StreamId), 1)
        again(c, u)
    buffer_free(&ids)


cdef void xclaim(Call *c) noexcept nogil:
    cdef Under u
    cdef Claim x
    cdef StreamId id
    cdef Buffer claimed, gone
    cdef Run run
    cdef int found = find_group(c, c.argv[1], c.argv[2], &u), last = 5, i, made, new
    if found == REFUSED:
        return
    if not found:
        refuse_group(c, u.key, u.name, "")
        return
    if not fits_name(c, c.argv[3]) or not read_number(c, c.argv[4], CLAIM_IDLE, &x.idle):
        return
    while last < c.argc and parse_id(c.argv[last], &id, 0, NULL):
        last += 1
    if not read_claim(c, last, &x):
        return
    new = id_order(x.last, u.g.last) > 0
    if not op_room(c.kernel, c.db, <size_t>last + 2, u.key.n + u.name.n + c.argv[3].n + CLAIM_ROOM,
                   GIVEN_ROOM * min(stream_len(u.s), <size_t>GIVEN_MOST)
                   + (ELSEWHERE_ROOM if u.g.creates > 1 else 0) if new else 0):
        return
    memset(&claimed, 0, sizeof(Buffer))
    memset(&gone, 0, sizeof(Buffer))
    made = touch_consumer(c, &u, c.argv[3])
    if new:
        give_up_to(c, &u, c.argv[3], x.last)
    run_begin(c, &u, &run, c.argv[3], x.at)
    for i in range(5, last):
        parse_id(c.argv[i], &id, 0, NULL)
        claim_one(c, &u, &run, &x, id, &claimed, &gone)
    run_end(c, &u, &run)
    c.changes = 2 if made else <int64_t>(claimed.n + gone.n > 0)
    reply_claimed(c, &u, &claimed, x.just_ids)
    buffer_free(&claimed)
    buffer_free(&gone)


cdef void xautoclaim(Call *c) noexcept nogil:
    cdef Under u
    cdef Claim x
    cdef StreamId id
    cdef PendingView p
    cdef Buffer claimed, gone
    cdef Run run
    cdef int64_t count = 100, attempts
    cdef int i = 6, found, more = 1, made
    memset(&x, 0, sizeof(Claim))
    if not read_number(c, c.argv[4], AUTOCLAIM_IDLE, &x.idle) or not read_bound(c, c.argv[5], &id,
                                                                                0):
        return
    while i < c.argc:
        if i + 1 < c.argc and is_word(c.argv[i], "COUNT"):
            i += 1
            if not parse_int64(c.argv[i].p, c.argv[i].n, &count) or not (
                    1 <= count <= INT64_MAX // 16):
                refuse(c, AUTOCLAIM_COUNT)
                return
        elif is_word(c.argv[i], "JUSTID"):
            x.just_ids = 1
        else:
            refuse_syntax(c)
            return
        i += 1
    found = find_group(c, c.argv[1], c.argv[2], &u)
    if found == REFUSED:
        return
    if not found:
        refuse_group(c, u.key, u.name, "")
        return
    if not fits_name(c, c.argv[3]):
        return
    x.at = c.kernel.now
    x.deliveries = -1
    attempts = min(count, <int64_t>GIVEN_MOST) * ATTEMPTS
    if not op_room(c.kernel, c.db, <size_t>min(count, <int64_t>u.g.pending) + 2, u.key.n,
                   (<size_t>min(count, <int64_t>u.g.pending) + 2) * (
                       u.name.n + c.argv[3].n + CLAIM_ROOM)):
        return
    memset(&claimed, 0, sizeof(Buffer))
    memset(&gone, 0, sizeof(Buffer))
    made = touch_consumer(c, &u, c.argv[3])
    run_begin(c, &u, &run, c.argv[3], x.at)
    while attempts and count and more and pending_from(c.kernel, &u.g, id, NOBODY, &p):
        attempts -= 1
        id = p.id
        count -= claim_one(c, &u, &run, &x, id, &claimed, &gone)
        more = id_up(&id)
    run_end(c, &u, &run)
    c.changes = 2 if made else <int64_t>(claimed.n + gone.n > 0)
    reply_array(c.reply, 3)
    reply_id(c, p.id if more and pending_from(c.kernel, &u.g, id, NOBODY, &p) else ZERO)
    reply_claimed(c, &u, &claimed, x.just_ids)
    reply_claimed(c, &u, &gone, 1)
    buffer_free(&claimed)
    buffer_free(&gone)


# ---- XNACK ---------------------------------------------------------------------------------------
cdef enum NackMode:
    NACK_SILENT
    NACK_FAIL
    NACK_FATAL

cdef struct Nack:
    NackMode mode
    int first                   # the first id is argv[first],
    int n                       # of so many
    int force
    int64_t deliveries          # RETRYCOUNT; -1: as the mode says


cdef int read_nack(Call *c, Nack *x) noexcept nogil:
    """From argv[3] on; 0 after a refusal."""
    cdef int64_t n
    cdef int i = 4, more
    memset(x, 0, sizeof(Nack))
    x.deliveries = -1
    if is_word(c.argv[3], "SILENT"):
        x.mode = NACK_SILENT
    elif is_word(c.argv[3], "FAIL"):
        x.mode = NACK_FAIL
    elif is_word(c.argv[3], "FATAL"):
        x.mode = NACK_FATAL
    else:
        refuse(c, NACK_MODE)
        return 0
    while i < c.argc:
        more = c.argc - i - 1
        if more and is_word(c.argv[i], "IDS"):
            if not parse_int64(c.argv[i + 1].p, c.argv[i + 1].n, &n) or not 1 <= n <= INT_MAX:
                refuse(c, NACK_NUMIDS)
                return 0
            x.first = i + 2
            if n > c.argc - x.first:
                refuse(c, NACK_IDS)
                return 0
            x.n = <int>n
            i = x.first + x.n - 1
        elif is_word(c.argv[i], "FORCE"):
            x.force = 1
        elif more and is_word(c.argv[i], "RETRYCOUNT"):
            i += 1
            if not read_int(c, c.argv[i], &x.deliveries):
                return 0
            if x.deliveries < 0:
                refuse(c, NACK_RETRYCOUNT)
                return 0
        else:
            refuse_option(c, "ERR Unrecognized XNACK option ", c.argv[i])
            return 0
        i += 1
    if not x.first:
        refuse(c, NACK_WITHOUT_IDS)
    return x.first


cdef int nack_one(Call *c, Under *u, Run *run, const Nack *x, StreamId id) noexcept nogil:
    cdef PendingView p
    cdef int64_t deliveries = x.deliveries
    cdef int there
    there = find_next(c, u, run, id, &p)
    if not there and not (x.force and stream_find(&run.entry, id)):
        return 0
    if deliveries < 0:
        deliveries = INT64_MAX if x.mode == NACK_FATAL else p.deliveries if there else 0
        deliveries -= x.mode == NACK_SILENT and deliveries > 0
    run_add(c, u, run, RUN_CLAIMS if there else RUN_MAKES, id, deliveries)
    return 1


cdef void xnack(Call *c) noexcept nogil:
    cdef Under u
    cdef Nack x
    cdef StreamId id
    cdef Run run
    cdef int found = find_group(c, c.argv[1], c.argv[2], &u), i, n = 0
    if found == REFUSED:
        return
    if not found:
        refuse_group(c, u.key, u.name, "")
        return
    if not read_nack(c, &x):
        return
    for i in range(x.first, x.first + x.n):
        if not read_id(c, c.argv[i], &id, 0, NULL):
            return
    if not op_room(c.kernel, c.db, <size_t>x.n, u.key.n + u.name.n + CLAIM_ROOM, 0):
        return
    run_begin(c, &u, &run, NAMELESS, 0)
    for i in range(x.first, x.first + x.n):
        parse_id(c.argv[i], &id, 0, NULL)
        n += nack_one(c, &u, &run, &x, id)
    run_end(c, &u, &run)
    c.changes = n
    reply_int(c.reply, n)


# ---- registration --------------------------------------------------------------------------------
_of_one_key = partial(command, keys=(1, 1, 1), group="stream", since="5.0.0")
_xgroup = partial(command, keys=(2, 2, 1), group="stream", since="5.0.0",
                  flags="write denyoom", access="RW insert")

container("XGROUP", "stream", "5.0.0", "Makes, changes and removes consumer groups.")
_xgroup("XGROUP|CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read] [SHARED]", arity=-5,
        summary="Makes a consumer group.",
        replicas="Of groups of one name that two replicas made, the later takes what happens; "
                 "what either has given out counts as given.")(native(xgroup_create))
_xgroup("XGROUP|SETID key group <id | $> [ENTRIESREAD entries-read]", arity=-5, flags="write",
        access="RW update", summary="Has a group begin anew behind an id.",
        replicas="What is given out concurrently does not count in the new round.")(
        native(xgroup_setid))
_xgroup("XGROUP|DESTROY key group", arity=4, flags="write", access="RW delete",
        complexity="O(N) with N pending entries", summary="Removes a group.",
        replicas="A group of this name that this replica had not seen survives.")(
        native(xgroup_destroy))
_xgroup("XGROUP|CREATECONSUMER key group consumer", arity=5, since="6.2.0",
        summary="Makes a consumer.", replicas="It is there once.")(native(xgroup_createconsumer))
_xgroup("XGROUP|DELCONSUMER key group consumer", arity=5, flags="write", access="RW delete",
        summary="Removes a consumer with its pending entries; answers their number.",
        replicas="What it was given concurrently stays pending, as its own.")(
        native(xgroup_delconsumer))
command("XREADGROUP GROUP group consumer [COUNT count] [MAXCOUNT maxcount] [MAXSIZE maxsize] "
        "[BLOCK milliseconds] [CLAIM min-idle-time] [NOACK] STREAMS key... id...",
        arity=-7, flags="write blocking movablekeys",
        keys=[StreamKeys("RO access", 4)], group="stream", since="5.0.0",
        complexity="O(M) with M entries answered",
        summary="Entries that a group gives to a consumer; waits for some.",
        replicas="An entry is given out at the replica where it was added; where no consumer of "
                 "the group lives there, at the first live replica that has one.")(
        native(xreadgroup))
_of_one_key("XACK key group id...", arity=-4, flags="write fast", access="RW update",
            complexity="O(1) for each id", summary="Removes entries from those that are pending.",
            replicas="A delivery that this replica had not seen stays pending.")(native(xack))
_of_one_key("XNACK key group <SILENT | FAIL | FATAL> IDS numids id... [RETRYCOUNT count] [FORCE]",
            arity=-7, flags="write fast", access="RW update", since="8.8.0",
            complexity="O(1) for each id",
            summary="Gives pending entries back to the group: they are nobody's, and whoever "
                    "claims gets them first.",
            replicas="The owner of a pending entry is a register; a concurrent XACK wins.")(
            native(xnack))
_of_one_key("XPENDING key group [[IDLE min-idle-time] start end count [consumer]]", arity=-3,
            flags="readonly", access="RO access", tips="nondeterministic_output",
            complexity="O(N) with N entries answered", summary="The pending entries of a group.")(
            native(xpending))
_of_one_key("XCLAIM key group consumer min-idle-time id... [IDLE ms] [TIME unix-time-milliseconds] "
            "[RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]", arity=-6, flags="write fast",
            access="RW update", tips="nondeterministic_output",
            complexity="O(log N) with N pending entries", summary="Takes over pending entries.",
            replicas="The owner of a pending entry is a register; a concurrent XACK wins.")(
            native(xclaim))
_of_one_key("XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]", arity=-6,
            flags="write fast", access="RW access delete", since="6.2.0",
            tips="nondeterministic_output", complexity="O(1) if COUNT is small",
            summary="Takes over pending entries that are idle.",
            replicas="The owner of a pending entry is a register; a concurrent XACK wins.")(
            native(xautoclaim))

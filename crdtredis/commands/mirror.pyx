# cython: language_level=3
"""What a mirror lacks (core/mirror.pxi), as commands that bring it there.

A string is set, a collection restored from what DUMP gives. One that is LARGE is copied part by
part under another name, PART, while it changes: each member that is there all the time is met, what
changes is listed besides, and at the end the copy takes the key's place. A list or stream is taken
at one moment whatever its size.

MARK, the name of the key by which a mirror is known, and PART are not mirrored.

All of it in the engine thread, unless a function says otherwise.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memset, strlen

from crdtredis._core cimport (DIRTY_DEADLINE, DIRTY_KEY, DIRTY_MEMBER, MIRROR_OVER, T_HASH, T_LIST,
                              T_SET, T_STREAM, T_STRING, T_ZSET, WALK_FORWARDS, Collection, Dirty,
                              Element, Kernel, Mirror, Replica, StreamCursor, StreamId, Walk,
                              dirty_key, dirty_name, element_klen, element_name, element_vlen,
                              field_deadline, key_collection, key_deadline, key_find, key_hash,
                              key_memory, key_type, key_visible, member_find, member_lapsed,
                              member_score, member_view, mirror_again, mirror_arrived,
                              mirror_begin_pass, mirror_find, mirror_lacks, mirror_lose,
                              mirror_put_back, mirror_sent, mirror_set, mirror_since, mirror_take,
                              mirror_walk, stream_added, stream_fields, stream_max_deleted,
                              stream_next, stream_seek, stream_top, string_view, table_scan,
                              value_live, walk_next, walk_shown, walk_value)
from crdtredis._resp cimport Reply, format_double, reply_array, reply_bulk
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span
from crdtredis.commands.dump cimport put_groups_alone, put_value, seal_value
from crdtredis.commands.stream_ids cimport ID_TEXT, format_id, stream_id, take_pairs, take_text
from crdtredis.numbers cimport format_int64

MARK = b"crdt-redis-mirror"
PART = MARK + b":part"

cdef enum:
    COMMANDS_MOST = 1000        # of a batch
    LARGE_MEMBERS = 5000        # a collection of more is copied part by part,
    LARGE = 1 << 20             # ... or of so many bytes; of a list
    LARGE_LIST = 64 << 20
    STEP = 500                  # members of one command
    STEP_BYTES = 256 << 10      # ... or bytes
    LATE = 1000                 # ms that the mirror's clock may be ahead

cdef const char *MARK_NAME = "crdt-redis-mirror"
cdef const char *PART_NAME = "crdt-redis-mirror:part"

cdef const char *ADDS[7]             # by T_*
cdef const char *REMOVES[7]
ADDS[:] = [NULL, "HSET", "SADD", "ZADD", "RPUSH", NULL, NULL]
REMOVES[:] = [NULL, "HDEL", "SREM", "ZREM", NULL, NULL, NULL]

# A batch that is being made.
cdef struct Batch:
    Kernel *k
    Reply r
    uint32_t n                  # commands
    Buffer found                # of Element*: members that are to be added
    Collection *collection      # ... which are of this


cdef inline void word(Batch *b, const char *text) noexcept nogil:
    reply_bulk(&b.r, text, strlen(text))


cdef inline void text(Batch *b, Span s) noexcept nogil:
    reply_bulk(&b.r, s.p, s.n)


cdef void begin(Batch *b, int argc, const char *name) noexcept nogil:
    b.n += 1
    reply_array(&b.r, argc)
    word(b, name)


cdef void number(Batch *b, int64_t v) noexcept nogil:
    cdef char digits[24]
    reply_bulk(&b.r, digits, format_int64(v, digits))


cdef void score(Batch *b, double v) noexcept nogil:
    cdef char digits[64]
    reply_bulk(&b.r, digits, format_double(v, digits))


# ---- one key -------------------------------------------------------------------------------------

cdef void put_deadline(Batch *b, Span key, int64_t at) noexcept nogil:
    """at: -1, where there is none."""
    begin(b, 3 if at >= 0 else 2, "PEXPIREAT" if at >= 0 else "PERSIST")
    text(b, key)
    if at >= 0:
        number(b, at)


cdef void put_member(Batch *b, int type, Element *m) noexcept nogil:
    if type == T_ZSET:
        score(b, member_score(b.k, m))
    text(b, element_name(m))
    if type == T_HASH:
        text(b, member_view(b.k, m))


cdef void put_due(Batch *b, Span key, Collection *c, Element *m) noexcept nogil:
    """The deadline of m, where it is a field that has one."""
    cdef int64_t at = field_deadline(b.k, c, m) if c.type == T_HASH else -1
    if at < 0:
        return
    begin(b, 6, "HPEXPIREAT")
    text(b, key)
    number(b, at)
    word(b, "FIELDS")
    word(b, "1")
    text(b, element_name(m))


cdef void put_restore(Batch *b, Element *e, Span key, int64_t at, int groups_alone) noexcept nogil:
    cdef Buffer payload
    memset(&payload, 0, sizeof(Buffer))
    if groups_alone:
        put_groups_alone(&payload, b.k, e)
    else:
        put_value(&payload, b.k, e, NULL, NULL, NULL)
    seal_value(&payload)
    begin(b, 6, "RESTORE")
    text(b, key)
    number(b, at if at >= 0 else 0)
    text(b, span(payload.p, payload.n))
    word(b, "REPLACE")
    word(b, "ABSTTL")
    buffer_free(&payload)


cdef void end_copy(Batch *b, Span key, int64_t at) noexcept nogil:
    if at >= 0:
        put_deadline(b, span(PART_NAME, strlen(PART_NAME)), at)
    begin(b, 3, "RENAME")
    word(b, PART_NAME)
    text(b, key)


cdef void put_list(Batch *b, Element *e, Span key, int64_t at) noexcept nogil:
    """A long one, to which no single command adds all. All of it at once, since what changes moves
    what is behind it."""
    cdef size_t left = key_collection(b.k, e, T_LIST).live, i
    cdef Walk w
    begin(b, 2, "DEL")
    word(b, PART_NAME)
    walk_shown(&w, b.k, e, WALK_FORWARDS)
    while left:
        i = left if left < STEP else STEP
        left -= i
        begin(b, <int>i + 2, "RPUSH")
        word(b, PART_NAME)
        while i and walk_next(&w):
            i -= 1
            text(b, walk_value(b.k, &w))
    end_copy(b, key, at)


cdef void put_id(Batch *b, StreamId id) noexcept nogil:
    cdef char digits[ID_TEXT]
    reply_bulk(&b.r, digits, format_id(id, digits))


cdef void put_stream(Batch *b, Element *e, Span key, int64_t at) noexcept nogil:
    """A long one: its groups, of a stream without entries, and those one by one, as put_list."""
    cdef Collection *s = key_collection(b.k, e, T_STREAM)
    cdef StreamCursor entry
    cdef Span fields
    cdef uint64_t n, i
    put_restore(b, e, span(PART_NAME, strlen(PART_NAME)), -1, 1)
    stream_seek(b.k, s, stream_id(0, 0), 0, &entry)
    while stream_next(&entry):
        fields = stream_fields(&entry)
        n = 2 * take_pairs(&fields)
        begin(b, <int>n + 3, "XADD")
        word(b, PART_NAME)
        put_id(b, entry.id)
        for i in range(n):
            text(b, take_text(&fields))
    begin(b, 7, "XSETID")
    word(b, PART_NAME)
    put_id(b, stream_top(s))
    word(b, "ENTRIESADDED")
    number(b, <int64_t>stream_added(b.k, s))
    word(b, "MAXDELETEDID")
    put_id(b, stream_max_deleted(s))
    end_copy(b, key, at)


cdef void put_key(Batch *b, Dirty *x, Element *e) noexcept nogil:
    """A large collection is only begun: Mirror.copied."""
    cdef Kernel *k = b.k
    cdef Span key = dirty_key(x)
    cdef int type = key_type(k, e)
    cdef int64_t at = key_deadline(k, e)
    cdef size_t live
    if type == T_STRING:
        begin(b, 3, "SET")
        text(b, key)
        text(b, string_view(k, e))
        if at >= 0:
            put_deadline(b, key, at)
        return
    live = key_collection(k, e, type).live
    if type == T_LIST:
        if key_memory(k, e) > LARGE_LIST:
            put_list(b, e, key, at)
            return
    elif type == T_STREAM:
        if live and key_memory(k, e) > LARGE_LIST:
            put_stream(b, e, key, at)
            return
    elif live > LARGE_MEMBERS or key_memory(k, e) > LARGE:
        begin(b, 2, "DEL")
        word(b, PART_NAME)
        k.mirror.copied = x
        k.mirror.copied_to = 0
        k.mirror.copied_type = type
        return
    put_restore(b, e, key, at, 0)


cdef void put(Batch *b, Dirty *x) noexcept nogil:
    cdef Kernel *k = b.k
    cdef Span key = dirty_key(x)
    cdef Element *e = key_find(k, 0, key)
    cdef Element *m
    cdef int type = key_type(k, e)
    cdef int64_t at = key_deadline(k, e) if key_visible(k, e) else -1
    x.until = at if at >= 0 and x.what != DIRTY_KEY else 0
    if not key_visible(k, e):
        begin(b, 2, "DEL")
        text(b, key)
    elif x.what == DIRTY_DEADLINE:
        put_deadline(b, key, at)
    elif x.what == DIRTY_MEMBER and REMOVES[type] != NULL:
        m = member_find(k, key_collection(k, e, type), dirty_name(x))
        if m != NULL:
            begin(b, 3 if type == T_SET else 4, ADDS[type])
            text(b, key)
            put_member(b, type, m)
            put_due(b, key, key_collection(k, e, type), m)
        else:
            begin(b, 3, REMOVES[type])
            text(b, key)
            text(b, dirty_name(x))
    else:
        put_key(b, x, e)


# ---- a large collection --------------------------------------------------------------------------

cdef void visit_member(void *arg, Element *m) noexcept nogil:
    cdef Batch *b = <Batch*>arg
    if value_live(m) and not member_lapsed(b.k, b.collection, m):
        buffer_add(&b.found, &m, sizeof(Element*))


cdef int copy_some(Batch *b, Collection *c) noexcept nogil:
    """One command's worth; 0 at the end."""
    cdef Mirror *m = &b.k.mirror
    cdef int type = m.copied_type
    cdef Element **v
    cdef size_t n, i = 0, j, first = 0, bytes
    b.found.n = 0
    b.collection = c
    while b.found.n < STEP * sizeof(Element*):
        m.copied_to = table_scan(&c.table, m.copied_to, visit_member, b)
        if m.copied_to == 0:
            break
    v = <Element**>b.found.p
    n = b.found.n // sizeof(Element*)
    while i < n:
        j = i
        bytes = 0
        while j < n and bytes < STEP_BYTES:
            bytes += element_klen(v[j]) + element_vlen(v[j])
            j += 1
        begin(b, 2 + <int>(j - i) * (1 if type == T_SET else 2), ADDS[type])
        word(b, PART_NAME)
        while i < j:
            put_member(b, type, v[i])
            i += 1
        while first < j:
            put_due(b, span(PART_NAME, strlen(PART_NAME)), c, v[first])
            first += 1
    return m.copied_to != 0


cdef void copy_on(Batch *b, size_t room) noexcept nogil:
    """What is listed as a whole meanwhile, or has gone, is begun again when its time comes."""
    cdef Kernel *k = b.k
    cdef Mirror *m = &k.mirror
    cdef Dirty *x = m.copied
    cdef Span key = dirty_key(x)
    cdef uint32_t hash = key_hash(k, key.p, key.n), n = b.n
    cdef Element *e = key_find(k, 0, key)
    cdef Collection *c = key_collection(k, e, m.copied_type)
    if c == NULL or mirror_find(k, key, hash, DIRTY_KEY, span(NULL, 0)) != NULL:
        begin(b, 2, "DEL")
        word(b, PART_NAME)
        mirror_again(k, x)
    else:
        while b.r.buf.n < room:
            if not copy_some(b, c):
                end_copy(b, key, key_deadline(k, e))
                break
        else:
            return
    m.copied = NULL
    x.commands += b.n - n
    mirror_sent(k, x)


# ---- batches -------------------------------------------------------------------------------------

cdef inline int is_ours(Span key) noexcept nogil:
    cdef size_t n = strlen(MARK_NAME)
    return ((key.n == n or key.n == strlen(PART_NAME))
            and memcmp(key.p, PART_NAME, key.n) == 0)


cdef void fill(Batch *b, size_t room) noexcept nogil:
    cdef Kernel *k = b.k
    cdef Dirty *x
    cdef Span key
    cdef uint32_t n
    mirror_walk(k)
    if k.mirror.copied != NULL:
        k.mirror.copied.commands = 0
    while b.r.buf.n < room and b.n < COMMANDS_MOST:
        if k.mirror.copied != NULL:
            copy_on(b, room)
            continue
        x = mirror_take(k)
        if x == NULL:
            break
        key = dirty_key(x)
        if is_ours(key) or (x.what != DIRTY_KEY
                            and mirror_find(k, key, key_hash(k, key.p, key.n), DIRTY_KEY,
                                            span(NULL, 0)) != NULL):
            free(x)
            continue
        n = b.n
        put(b, x)
        x.commands = b.n - n
        k.mirror.taken += 1
        if k.mirror.copied != x:
            mirror_sent(k, x)


def configure(Replica replica not None, bint on, size_t most=32 << 20):
    """A mirror is wanted, of which nothing is known; or is not. most: bytes that may be listed."""
    mirror_set(&replica.k, on, most)


def lose(Replica replica not None):
    """A pass is due: what is at the mirror is not what it was."""
    mirror_put_back(&replica.k)
    mirror_lose(&replica.k)


def begins_pass(Replica replica not None) -> bool:
    """One is due, and the one before has looked at all."""
    cdef Mirror *m = &replica.k.mirror
    return bool(m.lost_since and m.stage == MIRROR_OVER and (m.swept or not m.pass_since))


def sweeps(Replica replica not None) -> bool:
    """There is a pass, which has not looked at all that is at the mirror."""
    return bool(replica.k.mirror.pass_since and not replica.k.mirror.swept)


def begin_pass(Replica replica not None) -> bool:
    """True: there is no key."""
    cdef Kernel *k = &replica.k
    mirror_begin_pass(k)
    return not replica.keys(0)[0]


def take(Replica replica not None, size_t room):
    """(commands as they are sent, how many) that bring what is lacking: a little more than `room`
    bytes at most, unless a value is larger. They are on their way then: settle() or put_back()
    follows."""
    cdef Batch b
    memset(&b, 0, sizeof(Batch))
    b.k = &replica.k
    b.r.resp = 2
    fill(&b, room)
    out = b.r.buf.p[:b.r.buf.n] if b.r.buf.n else b""
    replica.k.mirror.bytes_sent += b.r.buf.n
    buffer_free(&b.r.buf)
    buffer_free(&b.found)
    return out, b.n


def settle(Replica replica not None, refused, zeros, bint full=False) -> list:
    """What was on its way has arrived, but for the commands of these numbers: those that were
    refused, and those whose reply was 0. A key that was sent as a whole, and refused, is given up,
    and told, unless the mirror's memory is full. Listed are the keys of what else was refused, of a
    deadline that found no key, and of a change that may have come when the key had expired there,
    so that it made another. Where anything was refused, what is copied begins again: PART is to be
    deleted before what is taken next."""
    cdef Kernel *k = &replica.k
    cdef Dirty *x = k.mirror.sent
    cdef uint32_t at = 0
    cdef Span key
    failed = set(refused)
    lost = []
    for i in sorted(failed.union(zeros)):
        while x != NULL and at + x.commands <= <uint32_t>i:
            at += x.commands
            x = x.later
        if x == NULL:                       # a part of a large one
            break
        if i not in failed and x.what != DIRTY_DEADLINE:
            continue
        if x.what == DIRTY_KEY and x.commands == 1 and not full:
            key = dirty_key(x)
            lost.append(key.p[:key.n])
        else:
            mirror_again(k, x)
    if failed and k.mirror.copied != NULL:
        mirror_again(k, k.mirror.copied)
        free(k.mirror.copied)
        k.mirror.copied = NULL
    x = k.mirror.sent
    while x != NULL:
        if x.until and x.until <= k.now + LATE:
            mirror_again(k, x)
        x = x.later
    mirror_arrived(k)
    return lost


def put_back(Replica replica not None):
    mirror_put_back(&replica.k)


def missing(Replica replica not None, list keys, bint over):
    """These are at the mirror: those that are not here are listed. over: there are no more."""
    cdef Kernel *k = &replica.k
    cdef bytes name
    cdef Span key
    for name in keys:
        key = span(name, <size_t>len(name))
        if not key_visible(k, key_find(k, 0, key)):
            mirror_lacks(k, key, key_hash(k, key.p, key.n), DIRTY_KEY, span(NULL, 0))
    if over:
        k.mirror.swept = 1


def wants(Replica replica not None) -> bool:
    """Is there anything to do? From any thread: a moment late at worst."""
    cdef Mirror *m = &replica.k.mirror
    return bool(m.n or m.lost_since or m.pass_since or m.copied != NULL)


def figures(Replica replica not None) -> dict:
    """since: Unix time in ms from which on something is lacking; 0: nothing is. building: what
    there was before the mirror, or too much, is lacking. again: so is what was refused."""
    cdef Mirror *m = &replica.k.mirror
    return {"since": mirror_since(&replica.k), "queued": m.n, "queued_bytes": m.bytes,
            "building": bool(m.lost_since or m.pass_since), "again": bool(m.again_since),
            "passes": m.passes,
            "losses": m.losses, "sent": m.taken, "sent_bytes": m.bytes_sent}

# Keyspace notifications: messages that say what was done to keys.
#
#     SET k v  ->  __keyspace@0__:k set,  __keyevent@0__:set k
#
# A replica fires them for its own clients' commands and for ops of its peers alike, wherever what
# is visible changes, and to its own subscribers alone. A command's event is Redis's, from the
# command table; of a peer's op only the effects are known, so an event is derived from these: set,
# incrby, hset, hdel, hincrby, sadd, srem, zadd, zrem, zincr, linsert, lrem, xadd, xdel, xtrim,
# xsetid, xgroup-create, expire, persist, del; of what else becomes of a group there is none.
# `expired` fires where the key is reaped, which one replica does, and the others fire nothing: to
# them it was hidden already. `evicted` fires where the key is evicted; the others fire del. FLUSHDB
# and SWAPDB fire nothing, as in Redis; peers of who swaps fire what the effects say.
#
# The kernel lists the keys that effects touched (core/notices.pxi), and only while they are wanted:
# for this, or to tell clients that keep what they have read (tracking.pxi).

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcmp, strlen

from crdtredis._core cimport (ASSIGN, DEADLINE, FIELD_DUE, FIELD_LAPSED, FIELD_PERSISTS, PATCH,
                              HAS_DEADLINE, INCREMENT, IS_LOCAL, IS_VISIBLE, REMOVE, T_HASH,
                              T_LIST, T_GROUPS, T_SET, T_STREAM, T_STREAM_HEAD, T_STRING, T_ZSET,
                              WAS_LIVE, WAS_VISIBLE, Notice, key_find, key_visible, merge_state,
                              next_notice, notice_key)
from crdtredis.buffer cimport Buffer, Span, buffer_add, span
from crdtredis.numbers cimport format_uint64, parse_int64


cdef inline Client *caller_of(Dispatch *d, Client *client) noexcept nogil:
    return (d.scripting.run.caller if client != NULL and client.flags & CLIENT_SCRIPT
            and d.scripting.run != NULL else client)


# ---- firing --------------------------------------------------------------------------------------

cdef void channel_of(Buffer *b, const char *prefix, uint32_t db, Span rest) noexcept nogil:
    cdef char number[24]
    b.n = 0
    buffer_add(b, prefix, strlen(prefix))
    buffer_add(b, number, format_uint64(db, number))
    buffer_add(b, <const char*>"__:", 3)
    buffer_add(b, rest.p, rest.n)


cdef void fire_at(Dispatch *d, Client *caller, uint32_t kind, const char *event, uint32_t db,
                  Span key) noexcept nogil:
    cdef Buffer *b = &d.notify.channel
    cdef Span name = span(event, strlen(event))
    if not d.notify.flags & kind or d.pubsub.topic_n == 0:
        return
    if d.notify.flags & NOTIFY_KEYSPACE:
        channel_of(b, "__keyspace@", db, key)
        publish(d, caller, TOPIC_CHANNEL, span(b.p, b.n), name)
    if d.notify.flags & NOTIFY_KEYEVENT:
        channel_of(b, "__keyevent@", db, name)
        publish(d, caller, TOPIC_CHANNEL, span(b.p, b.n), key)


cdef void fire(Dispatch *d, Client *caller, uint32_t kind, const char *event,
               const Notice *t) noexcept nogil:
    fire_at(d, caller, kind, event, t.db, notice_key(t))


cdef inline int is_wanted(Dispatch *d, const Notice *t) noexcept nogil:
    """L and R: only what was done here, or only what was done elsewhere."""
    cdef uint32_t wanted = d.notify.flags & (NOTIFY_LOCAL | NOTIFY_REMOTE)
    return (wanted == 0 or wanted == (NOTIFY_LOCAL | NOTIFY_REMOTE)
            or (wanted == NOTIFY_LOCAL) == ((t.state & IS_LOCAL) != 0))


cdef inline int has_gone(const Notice *t) noexcept nogil:
    return t.state & WAS_VISIBLE and not t.state & IS_VISIBLE


cdef void fire_new(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    fire(d, caller, NOTIFY_NEW, "new", t)


cdef void fire_before(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    if t.state & (WAS_LIVE | WAS_VISIBLE | IS_LOCAL) == (WAS_LIVE | IS_LOCAL):
        fire(d, caller, NOTIFY_EXPIRED, "expired", t)
    if t.state & (WAS_VISIBLE | IS_VISIBLE) == IS_VISIBLE:
        fire_new(d, caller, t)


cdef void fire_gone(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    if has_gone(t):
        fire(d, caller, NOTIFY_GENERIC, "del", t)


cdef void fire_deadline(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    cdef const char *event = "expire" if t.state & HAS_DEADLINE else "persist"
    fire(d, caller, NOTIFY_GENERIC, event, t)


cdef void fire_lapsed(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    """Fields were removed whose deadline had passed. To other replicas they were hidden already."""
    if t.state & IS_LOCAL:
        fire(d, caller, NOTIFY_HASH, "hexpired", t)
        if not t.state & IS_VISIBLE:
            fire(d, caller, NOTIFY_GENERIC, "del", t)


# ---- what effects say ----------------------------------------------------------------------------

cdef void fire_stream(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    """A removal that is no trimming says the greatest removed id, too."""
    cdef int head = (t.types & 1 << <int>T_STREAM_HEAD) != 0
    cdef int removal = (t.kinds & 1 << <int>REMOVE) != 0
    if not t.types & 1 << <int>T_STREAM:
        fire(d, caller, NOTIFY_STREAM,
             "xgroup-create" if t.types & 1 << <int>T_GROUPS else "xsetid", t)
        return
    if t.kinds & 1 << <int>ASSIGN and not (head and removal):
        fire(d, caller, NOTIFY_STREAM, "xadd", t)
    if removal:
        fire(d, caller, NOTIFY_STREAM, "xdel" if head else "xtrim", t)


cdef void fire_effects(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    cdef int removal = (t.kinds & 1 << <int>REMOVE) != 0
    cdef int increment = (t.kinds & 1 << <int>INCREMENT) != 0
    cdef const char *event
    if t.state & FIELD_LAPSED:
        fire_lapsed(d, caller, t)
        return
    fire_before(d, caller, t)
    if not t.state & (WAS_VISIBLE | IS_VISIBLE):
        pass
    elif has_gone(t):
        if t.state & IS_LOCAL and removal and t.types & 1 << <int>T_HASH:
            fire(d, caller, NOTIFY_HASH, "hdel", t)
    elif t.kinds == <uint32_t>1 << <int>DEADLINE and t.types:
        if t.state & (FIELD_DUE | FIELD_PERSISTS):
            event = "hexpire" if t.state & FIELD_DUE else "hpersist"
            fire(d, caller, NOTIFY_HASH, event, t)
    elif t.kinds == <uint32_t>1 << <int>DEADLINE:
        fire_deadline(d, caller, t)
    elif t.kinds & 1 << <int>PATCH:
        fire(d, caller, NOTIFY_STRING, "setrange", t)
    elif t.types & 1 << <int>T_LIST:
        event = "lrem" if removal else "linsert"
        fire(d, caller, NOTIFY_LIST, event, t)
    elif t.types & 1 << <int>T_HASH:
        event = "hdel" if removal else "hincrby" if increment else "hset"
        fire(d, caller, NOTIFY_HASH, event, t)
        if t.state & FIELD_DUE and not removal:
            fire(d, caller, NOTIFY_HASH, "hexpire", t)
    elif t.types & 1 << <int>T_SET:
        event = "srem" if removal else "sadd"
        fire(d, caller, NOTIFY_SET, event, t)
    elif t.types & 1 << <int>T_ZSET:
        event = "zrem" if removal else "zincr" if increment else "zadd"
        fire(d, caller, NOTIFY_ZSET, event, t)
    elif t.types & (1 << <int>T_STREAM | 1 << <int>T_STREAM_HEAD):
        fire_stream(d, caller, t)
    elif t.types & 1 << <int>T_STRING and not removal:
        event = "incrby" if increment else "set"
        fire(d, caller, NOTIFY_STRING, event, t)
    fire_gone(d, caller, t)


cdef void invalidate_touched(Dispatch *d, Client *caller, int64_t changes) noexcept nogil:
    """For client-side caching. A command that changed nothing, by Redis's count, may have removed
    what had expired."""
    cdef size_t at = 0
    cdef Notice *n = next_notice(d.kernel, &at)
    cdef int seen
    if d.kernel.notices.dropped != d.tracking.dropped:
        track_flush(d, caller)
    while n != NULL:
        seen = n.state & (WAS_VISIBLE | IS_VISIBLE)
        if (seen == IS_VISIBLE
                or n.state & WAS_LIVE and (changes or seen != WAS_VISIBLE | IS_VISIBLE)):
            track_change(d, caller, notice_key(n))
        n = next_notice(d.kernel, &at)


cdef void notify_others(Dispatch *d) noexcept nogil:
    cdef size_t at = 0
    cdef Notice *n = next_notice(d.kernel, &at)
    if d.tracking.clients:
        invalidate_touched(d, NULL, -1)
    while n != NULL and d.notify.flags:
        if is_wanted(d, n):
            fire_effects(d, NULL, n)
        n = next_notice(d.kernel, &at)
    d.kernel.notices.rows.n = 0


cdef void notify_evicted(Dispatch *d) noexcept nogil:
    cdef size_t at = 0
    cdef Notice *n = next_notice(d.kernel, &at)
    if d.tracking.clients:
        invalidate_touched(d, NULL, -1)
    while n != NULL and d.notify.flags:
        if is_wanted(d, n) and has_gone(n):
            fire(d, NULL, NOTIFY_EVICTED, "evicted", n)
        n = next_notice(d.kernel, &at)
    d.kernel.notices.rows.n = 0


# ---- what commands say ---------------------------------------------------------------------------

cdef int is_after(Span *argv, int argc, int from_, const char *word) noexcept nogil:
    cdef int i
    for i in range(from_, argc):
        if is_word(argv[i], word):
            return 1
    return 0


cdef int from_the_end(Command *cmd, Span *argv, int argc) noexcept nogil:
    """LMPOP and ZMPOP, which say it behind their keys: RIGHT or MAX?"""
    cdef int at = 2 if cmd.name[0] == c'b' else 1
    cdef int64_t keys = 0
    if not parse_int64(argv[at].p, argv[at].n, &keys) or not 0 < keys < argc - at - 1:
        return 0
    at += 1 + <int>keys
    return is_word(argv[at], "RIGHT") or is_word(argv[at], "MAX")


cdef int sets_deadline(Command *cmd, Span *argv, int argc) noexcept nogil:
    """SET or MSETEX with a time, SETEX and PSETEX."""
    cdef int64_t keys = 0
    cdef int i = 3
    if cmd.arity == 4:
        return 1
    if cmd.first_key == 0 and parse_int64(argv[1].p, argv[1].n, &keys):
        i = 2 + 2 * <int>keys                       # MSETEX
    while i < argc:
        if (is_word(argv[i], "EX") or is_word(argv[i], "PX") or is_word(argv[i], "EXAT")
                or is_word(argv[i], "PXAT")):
            return 1
        # what stands behind IFEQ and its like is a value
        i += 2 if argv[i].n > 3 and is_word(span(argv[i].p, 2), "IF") else 1
    return 0


cdef inline void fire_anew(Dispatch *d, Client *caller, const Notice *t) noexcept nogil:
    """fire_before for a key whose value was removed first."""
    fire_before(d, caller, t)
    if t.state & (WAS_VISIBLE | IS_VISIBLE) == WAS_VISIBLE | IS_VISIBLE:
        fire_new(d, caller, t)


cdef void fire_command(Dispatch *d, Client *caller, Command *cmd, Span *argv, int argc,
                       const Notice *t, int64_t changes) noexcept nogil:
    cdef const char *event = cmd.event
    cdef int lasts = cmd.event_rule == EVENT_PLAIN or cmd.event_rule == EVENT_ENDS
    if cmd.event_rule == EVENT_ANEW:
        fire_anew(d, caller, t)
    else:
        fire_before(d, caller, t)
    if changes == 0:                    # SADD of what is there: an effect, but no change
        pass
    elif cmd.event_rule == EVENT_DEADLINE:
        if t.state & IS_VISIBLE:
            fire_deadline(d, caller, t)
    elif cmd.event_rule == EVENT_CONSUMER:
        if changes > 1:
            fire(d, caller, cmd.event_class, event, t)
    elif cmd.event_rule != EVENT_DELETE and (t.state & IS_VISIBLE
                                             or (lasts and t.state & WAS_VISIBLE)):
        if cmd.event_rule == EVENT_ENDS and from_the_end(cmd, argv, argc):
            event = cmd.event2
        elif (cmd.event_rule == EVENT_SCORE and is_after(argv, argc, 2, "INCR")
                or cmd.event_rule == EVENT_COUNTER and is_after(argv, argc, 2, "BYFLOAT")):
            event = cmd.event2
        fire(d, caller, cmd.event_class, event, t)
        if (cmd.event_rule == EVENT_SET and t.state & HAS_DEADLINE
                and sets_deadline(cmd, argv, argc)):
            fire(d, caller, NOTIFY_GENERIC, "expire", t)
        elif cmd.event_rule == EVENT_COUNTER and changes > 1:
            fire_deadline(d, caller, t)
        elif cmd.event_rule == EVENT_TRIMS and t.kinds & 1 << <int>REMOVE:
            fire(d, caller, cmd.event_class, cmd.event2, t)
    fire_gone(d, caller, t)


cdef inline int is_key(const Notice *n, Span key) noexcept nogil:
    cdef Span other = notice_key(n)
    return other.n == key.n and (key.n == 0 or memcmp(other.p, key.p, key.n) == 0)


cdef Notice *joined(Notice *earlier, Notice *n) noexcept nogil:
    """What a command did to a key, of which there was a notice before; NULL: there was none."""
    if earlier == NULL:
        return n
    earlier.kinds |= n.kinds
    earlier.types |= n.types
    merge_state(earlier, n.state)
    return earlier


cdef void fire_pair(Dispatch *d, Client *caller, Command *cmd, Span *argv, int argc,
                    const Notice *source, const Notice *target, int64_t changes) noexcept nogil:
    """Of a command that takes from one key and gives to another. Either may be untouched: NULL."""
    cdef const char *taken = cmd.event
    cdef const char *given = cmd.event2
    cdef const Notice *t = target if target != NULL else source
    if cmd.event_rule == EVENT_MOVE:
        if argc >= 5:
            taken = "lpop" if is_word(argv[3], "LEFT") else "rpop"
            given = "lpush" if is_word(argv[4], "LEFT") else "rpush"
        # where both are one key, it was touched as the source
        fire_before(d, caller, t)
        fire(d, caller, NOTIFY_LIST, given, t)
        if source != NULL:
            fire(d, caller, NOTIFY_LIST, taken, source)
            fire_gone(d, caller, source)
    elif cmd.event_rule == EVENT_SMOVE:
        if source != NULL:
            fire(d, caller, NOTIFY_SET, taken, source)
            fire_gone(d, caller, source)
        if target != NULL and changes > 1:
            fire_before(d, caller, target)
            fire(d, caller, NOTIFY_SET, given, target)
    else:
        if target != NULL:
            fire_anew(d, caller, target)
        if source != NULL:
            fire(d, caller, NOTIFY_GENERIC, taken, source)
        if target != NULL:
            fire(d, caller, NOTIFY_GENERIC, given, target)


cdef void notify_command(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                         int64_t changes) noexcept nogil:
    cdef Client *caller = caller_of(d, client)
    cdef size_t at = 0
    cdef Notice *n = next_notice(d.kernel, &at)
    cdef Notice *source = NULL
    cdef Notice *target = NULL
    if d.tracking.clients:
        invalidate_touched(d, caller, changes)
    while n != NULL and d.notify.flags and cmd.event_rule != EVENT_SILENT:
        if not is_wanted(d, n):
            pass
        elif cmd.event_rule == EVENT_NONE:
            fire_effects(d, caller, n)
        elif cmd.event_rule < EVENT_PAIR:
            fire_command(d, caller, cmd, argv, argc, n, changes)
        elif n.db == client.db and is_key(n, argv[1]):
            source = joined(source, n)
        else:
            target = joined(target, n)
        n = next_notice(d.kernel, &at)
    if source != NULL or target != NULL:
        fire_pair(d, caller, cmd, argv, argc, source, target, changes)
    d.kernel.notices.rows.n = 0


cdef void notify_misses(Dispatch *d, Client *client, Command *cmd, Span *argv,
                        int argc) noexcept nogil:
    cdef int last = cmd.last_key if cmd.last_key >= 0 else argc + cmd.last_key
    cdef int i = cmd.first_key
    cdef int step = cmd.key_step
    if cmd.read_streams:
        i = stream_keys(cmd.read_streams, argv, argc, &last)
        step = 1
    while 0 < i <= last and i < argc:
        if not key_visible(d.kernel, key_find(d.kernel, client.db, argv[i])):
            fire_at(d, caller_of(d, client), NOTIFY_MISS, "keymiss", client.db, argv[i])
        i += step


cdef void note_reads(Dispatch *d, Client *client, Command *cmd, Span *argv,
                     int argc) noexcept nogil:
    if d.tracking.clients:
        track_reads(d, caller_of(d, client), cmd, argv, argc)
    if d.notify.flags & NOTIFY_MISS:
        notify_misses(d, client, cmd, argv, argc)

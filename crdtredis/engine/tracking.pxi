# Client-side caching (CLIENT TRACKING): a client keeps what it has read, and is told when that is
# out of date.
#
#     A: CLIENT TRACKING ON; GET k      B: SET k v     ->  A is sent  invalidate [k]
#
# Of each key there is a list of those that have read it. With its next change they are told once,
# and it is forgotten. With BCAST nothing is kept of reads: the keys of an iteration's changes go to
# the clients whose prefixes they have, at the end of the iteration. As in Redis, databases are not
# told apart. A change is whatever touches what can be seen of the key: commands and ops of peers
# alike. What is not listed key by key (FLUSHALL, the join of a peer's state, more notices than are
# kept) makes everything invalid, which is a null in place of keys.
#
# The table is bounded in keys (tracking_table_max_keys) and in bytes: beyond that a key is
# forgotten, and who has read it is told as if it had changed. When the last client ends tracking,
# the table goes. Nothing of this is looked at while nobody tracks.
#
# A message goes to the client itself if it speaks RESP3, or to the one it redirects to, there as
# a message of the channel __redis__:invalidate if that subscribes to anything and speaks RESP2.

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from crdtredis._core cimport key_hash, notices_set
from crdtredis._resp cimport (Reply, reply_array, reply_bulk, reply_int, reply_null, reply_push)
from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span,
                               need_memory, span)
from crdtredis.numbers cimport parse_int64

cdef enum:
    TRACK_CHAINS = 64       # at least; they double when there are more keys
    CHANGED_MOST = 16 << 20 # bytes of changes that wait for the end of the iteration
    FEW_PREFIXES = 32       # so many are asked at each change whether it matters

# A key that was changed in this iteration. Its bytes follow.
cdef struct Changed:
    uint64_t author         # the client's id; 0: nobody's
    uint64_t n

# What is to be said, and the messages that say it: by RESP2 (to a subscriber) and RESP3.
cdef struct Word:
    Span keys               # encoded; empty: everything is invalid
    Shared *made[2]


cdef inline Span prefix_name(const Prefix *p) noexcept nogil:
    return span(<const char*>p + sizeof(Prefix), p.n)


cdef inline Span tracked_key(const Tracked *x) noexcept nogil:
    return span(<const char*>x + sizeof(Tracked), x.n)


cdef inline Span changed_key(const Changed *x) noexcept nogil:
    return span(<const char*>x + sizeof(Changed), x.n)


cdef inline int begins_with(Span key, Span prefix) noexcept nogil:
    return key.n >= prefix.n and (prefix.n == 0 or memcmp(key.p, prefix.p, prefix.n) == 0)


cdef inline int compare(Span a, Span b) noexcept nogil:
    cdef size_t n = a.n if a.n < b.n else b.n
    cdef int order = memcmp(a.p, b.p, n) if n else 0
    return order if order else (a.n > b.n) - (a.n < b.n)


cdef void update_wishes(Dispatch *d) noexcept nogil:
    d.reads = d.tracking.clients != 0 or d.notify.flags & NOTIFY_MISS
    notices_set(d.kernel, d.tracking.clients != 0 or d.notify.flags != 0)


# ---- who tracks ----------------------------------------------------------------------------------

cdef Tracker *tracker_of(Client *client) noexcept nogil:
    """Made where there is none."""
    if client.tracker == NULL:
        client.tracker = <Tracker*>need_memory(calloc(1, sizeof(Tracker)))
        client.tracker.client = client
        client.tracker.holders = 1
    return client.tracker


cdef void release_tracker(Tracker *t) noexcept nogil:
    t.holders -= 1
    if t.holders == 0:
        free(t)


cdef void set_target(Tracker *t, Client *target) noexcept nogil:
    cdef Tracker *old = t.target
    t.target = NULL
    t.target_id = 0
    if target != NULL:
        t.target = tracker_of(target)
        t.target.holders += 1
        t.target_id = target.id
    if old != NULL:
        release_tracker(old)


cdef uint32_t prefix_place(Prefix **v, uint32_t n, Span name) noexcept nogil:
    """The first of these that is not less."""
    cdef uint32_t low = 0, high = n, middle
    while low < high:
        middle = (low + high) // 2
        if compare(prefix_name(v[middle]), name) < 0:
            low = middle + 1
        else:
            high = middle
    return low


cdef Prefix **insert_prefix(Prefix **v, uint32_t *n, Prefix *p) noexcept nogil:
    cdef uint32_t at = prefix_place(v, n[0], prefix_name(p))
    v = <Prefix**>need_memory(realloc(v, (n[0] + 1) * sizeof(Prefix*)))
    memmove(v + at + 1, v + at, (n[0] - at) * sizeof(Prefix*))
    v[at] = p
    n[0] += 1
    return v


cdef void add_prefix(Dispatch *d, Tracker *t, Span name) noexcept nogil:
    cdef Tracking *k = &d.tracking
    cdef uint32_t at = prefix_place(t.prefixes, t.prefix_n, name)
    cdef Prefix *p
    if at < t.prefix_n and compare(prefix_name(t.prefixes[at]), name) == 0:
        return
    at = prefix_place(k.prefixes, k.prefix_n, name)
    if at < k.prefix_n and compare(prefix_name(k.prefixes[at]), name) == 0:
        p = k.prefixes[at]
    else:
        p = <Prefix*>need_memory(calloc(1, sizeof(Prefix) + name.n))
        p.n = <uint32_t>name.n
        copy_span(<char*>p + sizeof(Prefix), name)
        k.prefixes = insert_prefix(k.prefixes, &k.prefix_n, p)
        k.prefix_bytes += sizeof(Prefix) + name.n
    if p.clients_n == p.clients_cap:
        p.clients_cap = 2 * p.clients_cap + 1
        p.clients = <Tracker**>need_memory(realloc(p.clients, p.clients_cap * sizeof(Tracker*)))
    p.clients[p.clients_n] = t
    p.clients_n += 1
    k.prefix_bytes += 2 * sizeof(void*)
    t.prefixes = insert_prefix(t.prefixes, &t.prefix_n, p)


cdef void drop_prefixes(Dispatch *d, Tracker *t) noexcept nogil:
    cdef Tracking *k = &d.tracking
    cdef Prefix *p
    cdef uint32_t i, at
    for i in range(t.prefix_n):
        p = t.prefixes[i]
        at = 0
        while p.clients[at] != t:
            at += 1
        p.clients_n -= 1
        memmove(p.clients + at, p.clients + at + 1, (p.clients_n - at) * sizeof(Tracker*))
        k.prefix_bytes -= 2 * sizeof(void*)
        if p.clients_n == 0:
            at = prefix_place(k.prefixes, k.prefix_n, prefix_name(p))
            k.prefix_n -= 1
            memmove(k.prefixes + at, k.prefixes + at + 1, (k.prefix_n - at) * sizeof(Prefix*))
            k.prefix_bytes -= sizeof(Prefix) + p.n
            free(p.clients)
            free(p)
    free(t.prefixes)
    t.prefixes = NULL
    t.prefix_n = 0


cdef void track_begin(Dispatch *d, Client *client, uint32_t modes, Client *target,
                      const Span *prefixes, int n) noexcept nogil:
    cdef Tracker *t = tracker_of(client)
    cdef int i
    if not client.flags & CLIENT_TRACKING:
        d.tracking.clients += 1
        t.prev = NULL
        t.next = d.tracking.first
        if t.next != NULL:
            t.next.prev = t
        d.tracking.first = t
        if d.tracking.clients == 1:
            d.tracking.dropped = d.kernel.notices.dropped
        update_wishes(d)
    client.flags = (client.flags & ~<uint32_t>(TRACK_MODES | CLIENT_BROKEN) | modes
                    | CLIENT_TRACKING)
    set_target(t, target)
    for i in range(n):
        add_prefix(d, t, prefixes[i])
    if modes & CLIENT_BCAST and n == 0:
        add_prefix(d, t, span("", 0))


cdef void track_end(Dispatch *d, Client *client) noexcept nogil:
    cdef Tracker *t = client.tracker
    if not client.flags & CLIENT_TRACKING:
        return
    client.flags &= ~<uint32_t>(TRACK_MODES | CLIENT_TRACKING | CLIENT_BROKEN | CLIENT_CACHING)
    set_target(t, NULL)
    drop_prefixes(d, t)
    if t.prev != NULL:
        t.prev.next = t.next
    else:
        d.tracking.first = t.next
    if t.next != NULL:
        t.next.prev = t.prev
    d.tracking.clients -= 1
    if d.tracking.clients == 0:
        track_free(d)
        update_wishes(d)


cdef void track_gone(Dispatch *d, Client *client) noexcept nogil:
    cdef Tracker *t = client.tracker
    track_end(d, client)
    if t != NULL:
        client.tracker = NULL
        t.client = NULL
        release_tracker(t)


cdef int64_t track_target(const Client *client) noexcept nogil:
    return <int64_t>client.tracker.target_id if client.flags & CLIENT_TRACKING else -1


# ---- messages ------------------------------------------------------------------------------------

cdef Shared *make_word(const Word *w, int resp3) noexcept nogil:
    cdef Reply r
    shared_begin(&r, 3 if resp3 else 2, w.keys.n + 128)
    if resp3:
        reply_push(&r, 2)
        reply_bulk(&r, "invalidate", 10)
    else:
        reply_array(&r, 3)
        reply_bulk(&r, "message", 7)
        reply_bulk(&r, "__redis__:invalidate", 20)
    if w.keys.n:
        buffer_add(&r.buf, w.keys.p, w.keys.n)
    else:
        reply_null(&r)
    return shared_of(&r.buf)


cdef void say_broken(Dispatch *d, Client *caller, Tracker *t) noexcept nogil:
    """Who gets its messages has gone."""
    cdef Reply r
    cdef Shared *m
    t.client.flags |= CLIENT_BROKEN
    if t.client.reply.resp == 3:
        shared_begin(&r, 3, 64)
        reply_push(&r, 2)
        reply_bulk(&r, "tracking-redir-broken", 21)
        reply_int(&r, <int64_t>t.target_id)
        m = shared_of(&r.buf)
        push_to(d, t.client, m, t.client == caller)
        let_go(m)


cdef void say(Dispatch *d, Client *caller, Tracker *t, Word *w) noexcept nogil:
    cdef Client *to = t.client
    cdef int resp3
    if t.target != NULL:
        to = t.target.client
        if to == NULL:
            say_broken(d, caller, t)
            return
    resp3 = to.reply.resp == 3
    if not resp3 and (t.target == NULL or not to.flags & CLIENT_SUBSCRIBED):
        return
    if w.made[resp3] == NULL:
        w.made[resp3] = make_word(w, resp3)
    push_to(d, to, w.made[resp3], to == caller)


cdef void word_end(Word *w) noexcept nogil:
    let_go(w.made[0])
    let_go(w.made[1])


# ---- keys that were read -------------------------------------------------------------------------

cdef Tracked **tracked_at(Dispatch *d, Span key, uint32_t hash) noexcept nogil:
    """Where the pointer to this key stands, or would."""
    cdef Tracked **at = &d.tracking.keys[hash & d.tracking.key_mask]
    while at[0] != NULL and not (at[0].hash == hash and at[0].n == key.n
                                 and (key.n == 0
                                      or memcmp(tracked_key(at[0]).p, key.p, key.n) == 0)):
        at = &at[0].next
    return at


cdef void tracked_chains(Tracking *k, uint32_t n) noexcept nogil:
    """Spreads the keys over n chains, a power of two."""
    cdef Tracked **old = k.keys
    cdef Tracked *x
    cdef Tracked *next
    cdef uint32_t i
    k.keys = <Tracked**>need_memory(calloc(n, sizeof(Tracked*)))
    for i in range(k.key_mask + 1 if old != NULL else 0):
        x = old[i]
        while x != NULL:
            next = x.next
            x.next = k.keys[x.hash & (n - 1)]
            k.keys[x.hash & (n - 1)] = x
            x = next
    k.key_mask = n - 1
    free(old)


cdef void drop_tracked(Tracking *k, Tracked **at) noexcept nogil:
    cdef Tracked *x = at[0]
    cdef uint32_t i
    at[0] = x.next
    for i in range(x.readers_n):
        release_tracker(x.readers[i])
    k.key_n -= 1
    k.items -= x.readers_n
    k.bytes -= sizeof(Tracked) + x.n + x.readers_cap * sizeof(Tracker*)
    free(x.readers)
    free(x)


cdef void add_reader(Tracking *k, Tracked *x, Tracker *t) noexcept nogil:
    cdef uint32_t low = 0, high = x.readers_n, middle
    while low < high:
        middle = (low + high) // 2
        if <size_t>x.readers[middle] < <size_t>t:
            low = middle + 1
        else:
            high = middle
    if low < x.readers_n and x.readers[low] == t:
        return
    if x.readers_n == x.readers_cap:
        middle = 2 * x.readers_cap if x.readers_cap else 1
        k.bytes += (middle - x.readers_cap) * sizeof(Tracker*)
        x.readers_cap = middle
        x.readers = <Tracker**>need_memory(realloc(x.readers, middle * sizeof(Tracker*)))
    memmove(x.readers + low + 1, x.readers + low, (x.readers_n - low) * sizeof(Tracker*))
    x.readers[low] = t
    x.readers_n += 1
    k.items += 1
    t.holders += 1


cdef void remember(Dispatch *d, Tracker *t, Span key) noexcept nogil:
    cdef Tracking *k = &d.tracking
    cdef uint32_t hash = key_hash(d.kernel, key.p, key.n)
    cdef Tracked **at
    if k.keys == NULL:
        tracked_chains(k, TRACK_CHAINS)
    elif k.key_n > k.key_mask:
        tracked_chains(k, 2 * (k.key_mask + 1))
    at = tracked_at(d, key, hash)
    if at[0] == NULL:
        at[0] = <Tracked*>need_memory(calloc(1, sizeof(Tracked) + key.n))
        at[0].hash = hash
        at[0].n = <uint32_t>key.n
        copy_span(<char*>at[0] + sizeof(Tracked), key)
        k.key_n += 1
        k.bytes += sizeof(Tracked) + key.n
    add_reader(k, at[0], t)


cdef void forget(Dispatch *d, Client *caller, uint64_t author, Tracked **at) noexcept nogil:
    """Tells those that have read this key, but for who made the change and does not want to know
    of its own."""
    cdef Tracked *x = at[0]
    cdef Tracker *t
    cdef Reply r
    cdef Word w
    cdef uint32_t i
    memset(&r, 0, sizeof(Reply))
    memset(&w, 0, sizeof(Word))
    reply_array(&r, 1)
    reply_bulk(&r, tracked_key(x).p, x.n)
    w.keys = span(r.buf.p, r.buf.n)
    for i in range(x.readers_n):
        t = x.readers[i]
        if (t.client != NULL
                and t.client.flags & (CLIENT_TRACKING | CLIENT_BCAST) == CLIENT_TRACKING
                and not (t.client.flags & CLIENT_NOLOOP and t.client.id == author)):
            say(d, caller, t, &w)
    word_end(&w)
    buffer_free(&r.buf)
    drop_tracked(&d.tracking, at)


cdef void forget_surplus(Dispatch *d, Client *caller) noexcept nogil:
    """Keys go from one chain after the other, in each the one that came first to it."""
    cdef Tracking *k = &d.tracking
    cdef Tracked **at
    while k.key_n and ((k.most and k.key_n > k.most) or k.bytes > TRACKED_BYTES):
        k.forget_at = (k.forget_at + 1) & k.key_mask
        at = &k.keys[k.forget_at]
        if at[0] != NULL:
            forget(d, caller, 0, at)


cdef void track_reads(Dispatch *d, Client *caller, Command *cmd, Span *argv,
                      int argc) noexcept nogil:
    cdef int64_t n
    cdef int i = cmd.read_first
    cdef int last = cmd.read_last if cmd.read_last >= 0 else argc + cmd.read_last
    cdef int step = cmd.key_step if cmd.key_step else 1
    if (caller.flags & (CLIENT_TRACKING | CLIENT_BCAST) != CLIENT_TRACKING
            or caller.flags & (CLIENT_OPTIN | CLIENT_CACHING) == CLIENT_OPTIN
            or caller.flags & (CLIENT_OPTOUT | CLIENT_CACHING) == CLIENT_OPTOUT | CLIENT_CACHING):
        return
    if cmd.read_count:
        i = cmd.read_count + 1
        if (not parse_int64(argv[i - 1].p, argv[i - 1].n, &n) or not 0 < n <= argc - i):
            return
        last = i + <int>n - 1
    elif cmd.read_streams:
        i = stream_keys(cmd.read_streams, argv, argc, &last)
    while 0 < i <= last and i < argc:
        remember(d, caller.tracker, argv[i])
        i += step
    forget_surplus(d, caller)


# ---- changes -------------------------------------------------------------------------------------

cdef int is_broadcast(Tracking *k, Span key) noexcept nogil:
    cdef uint32_t i
    if k.prefix_n > FEW_PREFIXES:
        return 1
    for i in range(k.prefix_n):
        if begins_with(key, prefix_name(k.prefixes[i])):
            return 1
    return 0


cdef inline size_t changed_size(uint64_t n) noexcept nogil:
    return (sizeof(Changed) + n + 7) & ~<size_t>7


cdef void note_changed(Dispatch *d, Client *caller, Span key) noexcept nogil:
    cdef Buffer *b = &d.tracking.changed
    cdef Changed *x
    if b.n and b.n + changed_size(key.n) > CHANGED_MOST:
        broadcast(d, caller)
    x = <Changed*>buffer_need(b, changed_size(key.n))
    b.n += changed_size(key.n)
    x.author = caller.id if caller != NULL else 0
    x.n = key.n
    copy_span(<char*>x + sizeof(Changed), key)


cdef void track_change(Dispatch *d, Client *caller, Span key) noexcept nogil:
    cdef Tracked **at
    if d.tracking.prefix_n and is_broadcast(&d.tracking, key):
        note_changed(d, caller, key)
    if d.tracking.key_n:
        at = tracked_at(d, key, key_hash(d.kernel, key.p, key.n))
        if at[0] != NULL:
            forget(d, caller, caller.id if caller != NULL else 0, at)


cdef void forget_keys(Tracking *k) noexcept nogil:
    cdef uint32_t i
    for i in range(k.key_mask + 1 if k.keys != NULL else 0):
        while k.keys[i] != NULL:
            drop_tracked(k, &k.keys[i])
    free(k.keys)
    k.keys = NULL
    k.key_mask = 0


cdef void track_flush(Dispatch *d, Client *caller) noexcept nogil:
    cdef Tracker *t = d.tracking.first
    cdef Word w
    d.tracking.dropped = d.kernel.notices.dropped
    if d.tracking.clients == 0:
        return
    memset(&w, 0, sizeof(Word))
    while t != NULL:
        say(d, caller, t, &w)
        t = t.next
    word_end(&w)
    forget_keys(&d.tracking)


# ---- broadcasts ----------------------------------------------------------------------------------

cdef int compare_changed(const void *a, const void *b) noexcept nogil:
    """By key; of one key the earliest first."""
    cdef const Changed *x = (<const Changed**>a)[0]
    cdef const Changed *y = (<const Changed**>b)[0]
    cdef int order = compare(changed_key(x), changed_key(y))
    return order if order else (<size_t>x > <size_t>y) - (<size_t>x < <size_t>y)


cdef size_t sort_changed(Buffer *b, Changed **v) noexcept nogil:
    """The changes in the order of their keys, each once; returns how many. What several have
    changed is nobody's own."""
    cdef size_t at = 0, n = 0, kept = 0, i
    while at < b.n:
        v[n] = <Changed*>(b.p + at)
        at += changed_size(v[n].n)
        n += 1
    qsort(v, n, sizeof(Changed*), compare_changed)
    for i in range(n):
        if i + 1 < n and compare(changed_key(v[i]), changed_key(v[i + 1])) == 0:
            if v[i].author != v[i + 1].author:
                v[i + 1].author = 0
        else:
            v[kept] = v[i]
            kept += 1
    return kept


cdef void say_changes(Dispatch *d, Client *caller, Tracker *t, Changed **v, size_t n,
                      uint64_t but, Word *w) noexcept nogil:
    """These keys, without what the author `but` has changed. w: the word, if it was made already;
    its keys are freed with it."""
    cdef Reply r
    cdef size_t i, kept = 0
    if w.keys.n == 0:
        for i in range(n):
            kept += but == 0 or v[i].author != but
        if kept == 0:
            return
        memset(&r, 0, sizeof(Reply))
        reply_array(&r, <int64_t>kept)
        for i in range(n):
            if but == 0 or v[i].author != but:
                reply_bulk(&r, changed_key(v[i]).p, v[i].n)
        w.keys = span(r.buf.p, r.buf.n)
    say(d, caller, t, w)


cdef void say_prefix(Dispatch *d, Client *caller, Prefix *p, Changed **v, size_t n) noexcept nogil:
    cdef Word all, own
    cdef Tracker *t
    cdef uint32_t i
    memset(&all, 0, sizeof(Word))
    for i in range(p.clients_n):
        t = p.clients[i]
        if t.client.flags & CLIENT_NOLOOP:
            memset(&own, 0, sizeof(Word))
            say_changes(d, caller, t, v, n, t.client.id, &own)
            word_end(&own)
            free(<void*>own.keys.p)
        else:
            say_changes(d, caller, t, v, n, 0, &all)
    word_end(&all)
    free(<void*>all.keys.p)


cdef void broadcast(Dispatch *d, Client *caller) noexcept nogil:
    cdef Tracking *k = &d.tracking
    cdef Changed **v = <Changed**>need_memory(
            malloc(k.changed.n // sizeof(Changed) * sizeof(Changed*)))
    cdef size_t n = sort_changed(&k.changed, v)
    cdef size_t low, high, middle
    cdef Span name
    cdef uint32_t i
    for i in range(k.prefix_n):
        name = prefix_name(k.prefixes[i])
        low = 0
        high = n
        while low < high:
            middle = (low + high) // 2
            if compare(changed_key(v[middle]), name) < 0:
                low = middle + 1
            else:
                high = middle
        while high < n and begins_with(changed_key(v[high]), name):
            high += 1
        if high > low:
            say_prefix(d, caller, k.prefixes[i], v + low, high - low)
    free(v)
    k.changed.n = 0


cdef void track_iteration(Dispatch *d) noexcept nogil:
    if d.tracking.changed.n:
        broadcast(d, NULL)
    forget_surplus(d, NULL)


cdef void track_free(Dispatch *d) noexcept nogil:
    forget_keys(&d.tracking)
    buffer_free(&d.tracking.changed)
    free(d.tracking.prefixes)
    d.tracking.prefixes = NULL

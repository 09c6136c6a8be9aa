# Who reads groups of streams here, and which entries are given out to them?
#
# Where replicas are linked, an entry is to be given out by one of them (replication/delivering.py),
# and that depends on where a group has consumers. A group has one here from an XREADGROUP `>` on,
# as long as a client waits with one, and for `patience` after the last. The sync thread is told as
# it begins and ends:
#
#     change = [1: begun, 0: ended][db, u32][bytes of key, u32][bytes of group, u32][key][group]
#
# little endian, and says what is to be given out: nothing that it has not allowed. Of a group that
# it has said nothing of, what was added here: no other replica may give that out then.
#
# Keys that stay at home are given out here, and nobody is told of them. So are names too long to be
# told, by every replica.

from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from crdtredis._core cimport (T_STREAM, Portion, Watch, is_home, key_hash, watch_hold,
                              watch_put_ready, watch_release)
from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_need, copy_span,
                               need_memory, span)

cdef enum:
    CONSUMED_CHAINS = 64
    CONSUMED_SLICE = 10000          # groups, and clients that wait, that are looked at in one go


cdef inline Span consumed_key(const Consumed *x) noexcept nogil:
    return span(<const char*>x + sizeof(Consumed), x.key_n)


cdef inline Span consumed_group(const Consumed *x) noexcept nogil:
    return span(<const char*>x + sizeof(Consumed) + x.key_n, x.group_n)


cdef inline size_t consumed_size(const Consumed *x) noexcept nogil:
    return sizeof(Consumed) + x.key_n + x.group_n


# ---- the table -----------------------------------------------------------------------------------

cdef inline uint32_t consumed_hash(Dispatch *d, uint32_t db, Span key, Span group) noexcept nogil:
    return (key_hash(d.kernel, key.p, key.n) * <uint32_t>31
            + key_hash(d.kernel, group.p, group.n) + db)


cdef Consumed *consumed_find(Dispatch *d, uint32_t hash, uint32_t db, Span key,
                             Span group) noexcept nogil:
    cdef Consumers *s = &d.consumers
    cdef Consumed *x = s.chains[hash & s.mask] if s.chains != NULL else NULL
    while x != NULL and not (x.hash == hash and x.db == db and x.key_n == key.n
                             and x.group_n == group.n
                             and memcmp(consumed_key(x).p, key.p, key.n) == 0
                             and memcmp(consumed_group(x).p, group.p, group.n) == 0):
        x = x.next
    return x


cdef void consumed_chains(Consumers *s, uint32_t n) noexcept nogil:
    cdef Consumed **old = s.chains
    cdef Consumed **at
    cdef Consumed *x
    cdef Consumed *next
    cdef uint32_t i, old_n = s.mask + 1 if old != NULL else 0
    s.chains = <Consumed**>need_memory(calloc(n, sizeof(Consumed*)))
    s.mask = n - 1
    for i in range(old_n):
        x = old[i]
        while x != NULL:
            next = x.next
            at = &s.chains[x.hash & s.mask]
            x.next = at[0]
            at[0] = x
            x = next
    free(old)


cdef Consumed *consumed_add(Dispatch *d, uint32_t hash, uint32_t db, Span key,
                            Span group) noexcept nogil:
    cdef Consumers *s = &d.consumers
    cdef Consumed *x = <Consumed*>need_memory(malloc(sizeof(Consumed) + key.n + group.n))
    cdef Consumed **at
    memset(x, 0, sizeof(Consumed))
    x.used = -1
    x.hash = hash
    x.db = db
    x.key_n = <uint32_t>key.n
    x.group_n = <uint32_t>group.n
    copy_span(<char*>x + sizeof(Consumed), key)
    copy_span(<char*>x + sizeof(Consumed) + key.n, group)
    if s.chains == NULL:
        consumed_chains(s, CONSUMED_CHAINS)
    elif s.n > s.mask:
        consumed_chains(s, 2 * (s.mask + 1))
    at = &s.chains[hash & s.mask]
    x.next = at[0]
    at[0] = x
    s.n += 1
    return x


cdef void consumed_drop(Consumers *s, Consumed *x) noexcept nogil:
    """Unless it is still of use."""
    cdef Consumed **at = &s.chains[x.hash & s.mask]
    if x.said or x.used >= 0:
        return
    while at[0] != x:
        at = &at[0].next
    at[0] = x.next
    s.n -= 1
    free(x)


# ---- who reads -----------------------------------------------------------------------------------

cdef void consumed_leave(Consumers *s, Consumed *x) noexcept nogil:
    """The list of those with a consumer here."""
    if x.earlier != NULL:
        x.earlier.later = x.later
    else:
        s.first = x.later
    if x.later != NULL:
        x.later.earlier = x.earlier
    else:
        s.last = x.earlier
    x.earlier = x.later = NULL


cdef void consumed_use(Dispatch *d, Consumed *x) noexcept nogil:
    """Now, the last of the list."""
    cdef Consumers *s = &d.consumers
    if s.last != x:
        if x.used >= 0:
            consumed_leave(s, x)
        x.earlier = s.last
        if s.last != NULL:
            s.last.later = x
        else:
            s.first = x
        s.last = x
    x.used = d.steady


cdef void add_consumed(Buffer *b, const Consumed *x, int begun) noexcept nogil:
    cdef char *p = buffer_need(b, 13 + x.key_n + x.group_n)
    p[0] = <char>begun
    memcpy(p + 1, &x.db, 4)
    memcpy(p + 5, &x.key_n, 4)
    memcpy(p + 9, &x.group_n, 4)
    copy_span(p + 13, consumed_key(x))
    copy_span(p + 13 + x.key_n, consumed_group(x))
    b.n += 13 + x.key_n + x.group_n


cdef void tell_consumed(Consumers *s, const Consumed *x, int begun) noexcept nogil:
    """Where changes are many and nobody fetches them, all will be told anew."""
    if not s.tell or s.whole:
        return
    if s.changes.n > CONSUMED_CHANGES:
        s.whole = 1
        buffer_free(&s.changes)
        return
    add_consumed(&s.changes, x, begun)


cdef void consumed_end(Dispatch *d, Consumed *x) noexcept nogil:
    cdef Consumers *s = &d.consumers
    consumed_leave(s, x)
    x.used = -1
    s.used_n -= 1
    s.bytes -= consumed_size(x)
    tell_consumed(s, x, 0)
    consumed_drop(s, x)


cdef int waits_with(Dispatch *d, Wait *w, Span group) noexcept nogil:
    """Is it an XREADGROUP of this group?"""
    cdef Span *v
    cdef int n, i = 1, same = 0
    unpack_command(w.args.p, &d.waiting.argv, &d.waiting.argv_cap, &n)
    v = d.waiting.argv
    while i + 1 < n and not is_word(v[i], "STREAMS"):
        if is_word(v[i], "GROUP"):
            same = v[i + 1].n == group.n and memcmp(v[i + 1].p, group.p, group.n) == 0
        i += option_words(v[i])
    return same


cdef int is_awaited(Dispatch *d, const Consumed *x, int64_t *work) noexcept nogil:
    """Does a client wait with it? Where very many wait at its key, or no work is left, one of them
    will be taken for it."""
    cdef Watch *watch = watch_hold(d.kernel, x.db, consumed_key(x))
    cdef Waiter *w = NULL
    cdef int found = 0
    if watch.waiters != NULL:
        w = (<WaitQueue*>watch.waiters + <int>T_STREAM).first
    while w != NULL and not found:
        work[0] -= 1 + <int64_t>(w.wait.args.n >> 8)
        found = work[0] < 0 or waits_with(d, w.wait, consumed_group(x))
        w = w.next
    watch_release(d.kernel, watch)
    return found


cdef void end_consumed(Dispatch *d) noexcept nogil:
    cdef Consumers *s = &d.consumers
    cdef uint32_t n = s.used_n
    cdef int64_t work = CONSUMED_SLICE
    while n and work > 0 and s.first.used + s.patience <= d.steady:
        n -= 1
        work -= 1
        if is_awaited(d, s.first, &work):
            consumed_use(d, s.first)
        else:
            consumed_end(d, s.first)


cdef void list_consumed(Dispatch *d, Buffer *b) noexcept nogil:
    cdef Consumed *x = d.consumers.first
    while x != NULL:
        add_consumed(b, x, 1)
        x = x.later


# ---- what is given out ---------------------------------------------------------------------------

cdef const Portion *right_of(Consumers *s, const Consumed *x, int *settled) noexcept nogil:
    settled[0] = 0
    if s.mode == GIVE_NOTHING:
        return &s.nothing
    if x == NULL or not x.said:
        return &s.own
    settled[0] = x.settled
    return &x.right


cdef const Portion *giving_of(Dispatch *d, uint32_t db, Span key, Span group, int shared,
                             int *settled) noexcept nogil:
    settled[0] = 1
    if (d.consumers.mode == GIVE_ALL or shared or key.n + group.n > CONSUMED_NAME
            or is_home(d.kernel, db, key)):
        return NULL
    return right_of(&d.consumers, consumed_find(d, consumed_hash(d, db, key, group), db, key,
                                                group), settled)


cdef const Portion *consume(Dispatch *d, uint32_t db, Span key, Span group, int shared,
                           int *settled) noexcept nogil:
    cdef Consumers *s = &d.consumers
    cdef uint32_t hash
    cdef Consumed *x
    settled[0] = 1
    if (not s.tell or shared or key.n + group.n > CONSUMED_NAME or is_home(d.kernel, db, key)):
        return giving_of(d, db, key, group, shared, settled)
    hash = consumed_hash(d, db, key, group)
    x = consumed_find(d, hash, db, key, group)
    if x == NULL:
        x = consumed_add(d, hash, db, key, group)
    if x.used < 0:
        s.used_n += 1
        s.bytes += consumed_size(x)
        tell_consumed(s, x, 1)
    consumed_use(d, x)
    while (s.used_n > CONSUMED_MOST or s.bytes > CONSUMED_BYTES) and s.first != x:
        consumed_end(d, s.first)
    return right_of(s, x, settled) if s.mode != GIVE_ALL else NULL


cdef void wake_consumers(Dispatch *d, uint32_t db, Span key) noexcept nogil:
    cdef Watch *watch = watch_hold(d.kernel, db, key)
    if watch.waiters != NULL:
        watch_put_ready(d.kernel, watch)
    watch_release(d.kernel, watch)


cdef void give_mode(Dispatch *d, int mode) noexcept nogil:
    """What was said before does not hold any more."""
    cdef Consumers *s = &d.consumers
    cdef Consumed *x
    cdef Consumed *next
    cdef uint32_t i
    if mode == s.mode:
        return
    s.mode = mode
    s.own.own = 1
    for i in range(s.mask + 1 if s.chains != NULL else 0):
        x = s.chains[i]
        while x != NULL:
            next = x.next
            free(<void*>x.right.but.p)
            memset(&x.right, 0, sizeof(Portion))
            x.said = 0
            if x.used >= 0:
                wake_consumers(d, x.db, consumed_key(x))
            consumed_drop(s, x)
            x = next


cdef void give_right(Dispatch *d, uint32_t db, Span key, Span group, const Portion *right,
                     int settled) noexcept nogil:
    cdef uint32_t hash = consumed_hash(d, db, key, group)
    cdef Consumed *x = consumed_find(d, hash, db, key, group)
    cdef char *p
    if x == NULL:
        if right == NULL:
            return
        x = consumed_add(d, hash, db, key, group)
    free(<void*>x.right.but.p)
    memset(&x.right, 0, sizeof(Portion))
    x.said = right != NULL
    x.settled = settled
    if right != NULL:
        x.right = right[0]
        p = <char*>need_memory(malloc(right.but.n + 1))
        copy_span(p, right.but)
        x.right.but = span(p, right.but.n)
    wake_consumers(d, db, key)
    consumed_drop(&d.consumers, x)


cdef void consumers_free(Dispatch *d) noexcept nogil:
    cdef Consumers *s = &d.consumers
    cdef Consumed *x
    cdef uint32_t i
    for i in range(s.mask + 1 if s.chains != NULL else 0):
        while s.chains[i] != NULL:
            x = s.chains[i]
            s.chains[i] = x.next
            free(<void*>x.right.but.p)
            free(x)
    free(s.chains)
    buffer_free(&s.changes)

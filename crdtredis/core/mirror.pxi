# What a mirror lacks: a Redis that is kept equal to what clients see of database 0.
#
# Every effect lists its key as one that the mirror lacks, at most once however often it changes;
# what the key holds is looked up when it is sent. Of a large collection only the member is listed,
# or the deadline, as long as the key is not listed as a whole. So the list is bounded by the keys,
# and by `most` bytes: beyond that all of it is dropped, and nothing is listed until a pass begins,
# which lists every key that is here, a few at a time, while whoever runs it looks for those at the
# mirror that are not. A pass that runs when that happens goes on to its end, and another follows:
# however fast keys change, each is sent again and again.
#
#     SET k 1; SET k 2; HSET h f 1         ->  lacking: k, h (or of h, if it is large: f)
#     FLUSHALL, the join of a peer's state ->  a pass is due
#
# Why the mirror comes out equal: at any time each key there is as here, or what differs is listed,
# on its way, or still to be found by the pass. What is on its way is listed anew where it changes,
# put back where it does not arrive, and where it is refused listed again, behind the others: of a
# Redis whose memory is full, what has gone here must go before anything else comes. While no mirror
# is wanted, none of this is looked at (Kernel.watched.active).

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memset

from crdtredis.buffer cimport Span, copy_span, need_memory, span

cdef enum:
    MIRROR_CHAINS = 64      # at least; they double when more is listed
    MIRROR_MEMBERS = 256    # a collection of more members is sent member by member
    MIRROR_AHEAD = 1000     # keys that a pass lists before they are sent
    # buckets that a step of it looks at, at most, and also where so much is listed already
    MIRROR_BUCKETS = 4000
    MIRROR_FEW = 64
    MIRROR_FREED = 8        # of what was dropped, with each effect


cdef inline size_t dirty_size(const Dirty *x) noexcept nogil:
    return sizeof(Dirty) + x.n + x.name_n


cdef void free_dirty(Dirty **first) noexcept nogil:
    cdef Dirty *x
    while first[0] != NULL:
        x = first[0]
        first[0] = x.later
        free(x)


cdef void drop_listed(Mirror *m) noexcept nogil:
    """Hundreds of thousands, perhaps: no client waits until all are freed."""
    if m.first != NULL:
        m.last.later = m.dropped
        m.dropped = m.first
    m.first = m.last = NULL
    free(m.chains)
    m.chains = NULL
    m.chain_n = m.n = 0
    m.bytes = 0


cdef void free_dropped(Mirror *m, int n) noexcept nogil:
    cdef Dirty *x
    while n and m.dropped != NULL:
        n -= 1
        x = m.dropped
        m.dropped = x.later
        free(x)


cdef void mirror_set(Kernel *k, int on, size_t most) noexcept nogil:
    cdef Mirror *m = &k.mirror
    drop_listed(m)
    free_dirty(&m.dropped)
    free_dirty(&m.sent)
    free(m.copied)
    memset(m, 0, sizeof(Mirror))
    m.on = on
    m.most = most
    m.stage = MIRROR_OVER
    if on:
        m.lost_since = k.now
    watch_active(k)


# ---- the list ------------------------------------------------------------------------------------

cdef inline uint32_t dirty_hash(Kernel *k, uint32_t hash, int what, Span name) noexcept nogil:
    if what == DIRTY_MEMBER:
        return hash * <uint32_t>31 + key_hash(k, name.p, name.n)
    return hash + <uint32_t>what


cdef Dirty *mirror_find(Kernel *k, Span key, uint32_t hash, int what, Span name) noexcept nogil:
    cdef Dirty *x = NULL
    hash = dirty_hash(k, hash, what, name)
    if k.mirror.chains != NULL:
        x = k.mirror.chains[hash & (k.mirror.chain_n - 1)]
    while (x != NULL and not (x.hash == hash and x.what == <uint32_t>what and x.n == key.n
                              and x.name_n == name.n
                              and memcmp(dirty_key(x).p, key.p, key.n) == 0
                              and (name.n == 0
                                   or memcmp(dirty_name(x).p, name.p, name.n) == 0))):
        x = x.next
    return x


cdef void spread_dirty(Mirror *m, uint32_t n) noexcept nogil:
    """Over n chains, a power of two."""
    cdef Dirty **old = m.chains
    cdef Dirty *x
    cdef Dirty *next
    cdef uint32_t i
    m.chains = <Dirty**>need_memory(calloc(n, sizeof(Dirty*)))
    for i in range(m.chain_n):
        x = old[i]
        while x != NULL:
            next = x.next
            x.next = m.chains[x.hash & (n - 1)]
            m.chains[x.hash & (n - 1)] = x
            x = next
    m.chain_n = n
    free(old)


cdef void list_dirty(Mirror *m, Dirty *x) noexcept nogil:
    """Enters it in its chain; whoever calls this has put it in its order."""
    if m.n >= m.chain_n:
        spread_dirty(m, 2 * m.chain_n if m.chain_n else MIRROR_CHAINS)
    x.next = m.chains[x.hash & (m.chain_n - 1)]
    m.chains[x.hash & (m.chain_n - 1)] = x
    m.n += 1
    m.bytes += dirty_size(x)


cdef void mirror_lacks(Kernel *k, Span key, uint32_t hash, int what, Span name) noexcept nogil:
    cdef Mirror *m = &k.mirror
    cdef size_t size = sizeof(Dirty) + key.n + name.n
    cdef Dirty *x
    if (mirror_find(k, key, hash, DIRTY_KEY, span(NULL, 0)) != NULL
            or (what != DIRTY_KEY and mirror_find(k, key, hash, what, name) != NULL)):
        return
    if m.n and m.bytes + size > m.most:
        mirror_lose(k)
        return
    x = <Dirty*>need_memory(malloc(size))
    memset(x, 0, sizeof(Dirty))
    m.listed += 1
    x.number = m.listed
    x.since = k.now
    x.hash = dirty_hash(k, hash, what, name)
    x.what = <uint32_t>what
    x.n = <uint32_t>key.n
    x.name_n = <uint32_t>name.n
    copy_span(<char*>x + sizeof(Dirty), key)
    copy_span(<char*>x + sizeof(Dirty) + key.n, name)
    if m.last == NULL:
        m.first = x
    else:
        m.last.later = x
    m.last = x
    list_dirty(m, x)


cdef void mirror_again(Kernel *k, const Dirty *x) noexcept nogil:
    cdef Mirror *m = &k.mirror
    cdef Span key = dirty_key(x)
    mirror_lacks(k, key, key_hash(k, key.p, key.n), DIRTY_KEY, span(NULL, 0))
    if not m.again_since or x.since < m.again_since:
        m.again_since = x.since
    m.again_until = m.listed


cdef void mirror_lose(Kernel *k) noexcept nogil:
    cdef Mirror *m = &k.mirror
    if m.on and not m.lost_since:
        m.lost_since = m.first.since if m.first != NULL else k.now
        if m.again_since:
            m.lost_since = min(m.lost_since, m.again_since)
            m.again_since = 0
        m.losses += 1
        drop_listed(m)


cdef void mirror_note(Kernel *k, const Effect *x, uint32_t hash, int before,
                      Element *e) noexcept nogil:
    """A key that was not visible may be missing there, so it is sent as a whole."""
    cdef int what = DIRTY_KEY
    cdef Span name = span(NULL, 0)
    free_dropped(&k.mirror, MIRROR_FREED)
    if shown_db(x.db) != 0 or k.mirror.lost_since:
        return
    if before & WAS_VISIBLE:
        if x.kind == DEADLINE and x.type == T_STRING:
            what = DIRTY_DEADLINE
        elif (e != NULL and e.meta & E_ENTRY and x.type != T_LIST and x.type != T_STREAM
                and key_type(k, e) == x.type
                and key_size(k, e, x.type) > MIRROR_MEMBERS):
            what = DIRTY_MEMBER
            name = x.name
    mirror_lacks(k, x.key, hash, what, name)


# ---- a pass --------------------------------------------------------------------------------------

cdef void mirror_begin_pass(Kernel *k) noexcept nogil:
    cdef Mirror *m = &k.mirror
    if not m.pass_since:
        m.pass_since = m.lost_since
    m.lost_since = 0
    m.stage = 0
    m.cursor = 0
    m.swept = 0


cdef void visit_for_mirror(void *arg, Element *e) noexcept nogil:
    cdef Kernel *k = <Kernel*>arg
    if key_visible(k, e):
        mirror_lacks(k, element_name(e), element_hash(k, e), DIRTY_KEY, span(NULL, 0))


cdef void mirror_walk(Kernel *k) noexcept nogil:
    """First over the keys that all replicas share, then over those that stay at home."""
    cdef Mirror *m = &k.mirror
    cdef int i = 0
    free_dropped(m, MIRROR_AHEAD)
    while (m.stage < MIRROR_OVER and m.bytes < m.most // 2
            and (i < MIRROR_FEW or (i < MIRROR_BUCKETS and m.n < MIRROR_AHEAD))):
        m.cursor = table_scan(&k.db[HOME_DB if m.stage else 0].table, m.cursor, visit_for_mirror,
                              k)
        m.stage += m.cursor == 0
        i += 1
    if m.stage == MIRROR_OVER and m.swept == 1:
        m.swept = 2
        m.until = m.listed


# ---- on its way ----------------------------------------------------------------------------------

cdef Dirty *mirror_take(Kernel *k) noexcept nogil:
    cdef Mirror *m = &k.mirror
    cdef Dirty *x = m.first
    cdef Dirty **at
    if x == NULL:
        return NULL
    at = &m.chains[x.hash & (m.chain_n - 1)]
    while at[0] != x:
        at = &at[0].next
    at[0] = x.next
    m.first = x.later
    m.n -= 1
    m.bytes -= dirty_size(x)
    if m.first == NULL:
        drop_listed(m)
    x.later = NULL
    return x


cdef void mirror_sent(Kernel *k, Dirty *x) noexcept nogil:
    cdef Mirror *m = &k.mirror
    if m.sent == NULL:
        m.sent = x
    else:
        m.sent_last.later = x
    m.sent_last = x


cdef void mirror_arrived(Kernel *k) noexcept nogil:
    """Of a pass, the last too, perhaps."""
    cdef Mirror *m = &k.mirror
    free_dirty(&m.sent)
    if m.first == NULL or m.first.number > m.again_until:
        m.again_since = 0
    if (m.pass_since and m.swept == 2 and m.copied == NULL
            and (m.first == NULL or m.first.number > m.until)):
        m.pass_since = 0
        m.passes += 1


cdef void mirror_put_back(Kernel *k) noexcept nogil:
    """Before all that is listed. What has changed meanwhile is listed twice then, which does no
    harm."""
    cdef Mirror *m = &k.mirror
    cdef Dirty *x
    if m.copied != NULL:
        mirror_sent(k, m.copied)
        m.copied = NULL
    if m.sent == NULL:
        return
    m.sent_last.later = m.first
    if m.last == NULL:
        m.last = m.sent_last
    x = m.first
    m.first = m.sent
    while m.sent != x:
        m.sent.next = NULL
        list_dirty(m, m.sent)
        m.sent = m.sent.later
    m.sent = NULL


cdef int64_t mirror_since(const Kernel *k) noexcept nogil:
    cdef const Mirror *m = &k.mirror
    cdef int64_t since = 0
    cdef int64_t[6] found = [m.lost_since, m.pass_since, m.again_since,
                             m.first.since if m.first != NULL else 0,
                             m.sent.since if m.sent != NULL else 0,
                             m.copied.since if m.copied != NULL else 0]
    for i in range(6):
        if found[i] and (since == 0 or found[i] < since):
            since = found[i]
    return since

# Eviction: which key goes next, of those that the policy lets go?
#
# As in Redis the answer is a good one, not the best: a few keys are sampled at random, the 16 best
# of all samples so far are kept in a pool, and the best of these goes. An eviction is a DEL of what
# was seen, an op like any other:
#
#     A: evicts k    ||    B: SET k v      ->  v, at both: the write survives
#
# so replicas agree, and nothing is lost that came in meanwhile. What a key's accesses were, each
# replica knows for itself: reads are not replicated.
#
# Replicas that evict at the same time would often choose the same key, the oldest. Nothing is wrong
# with that, but two writes would then be paid for with one key, and memory stay above the limit. So
# each takes its own share of the keys, by the hash that all replicas share (core/buckets.pxi):
#
#     two replicas, time in steps of 10 ms           step 7          step 8
#     keys of even buckets are evicted by            A               B
#     keys of odd buckets                            B               A
#
# Shares go round, for one that stayed would run dry where one replica takes most of the writes:
# new keys fall into all shares alike, but it would pay for all of them from its own. So each share
# is looked through by everybody in turn. It is a random sample of all keys, so what goes is as old
# as elsewhere, as long as a step sees much less than a share go: of a cache that is replaced as a
# whole within tens of milliseconds, some hits are lost. Where clocks differ by more than a step,
# shares overlap now and then, and no harm is done. A share that holds nothing to evict (few keys
# have a deadline) is no reason to refuse a write: then any key may go.
#
# Keys that stay at home are evicted by whoever has them; what the cluster knows of itself is not.

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_free, span

cdef enum:
    DRAWS = 8               # for each sample, times the number of shares


cdef inline int in_share(Kernel *k, uint32_t db, Span key) noexcept nogil:
    if k.eviction.shares < 2 or db >= HOME_DB:
        return 1
    return (bucket_of(db, key) + <uint64_t>k.eviction.turn) % (
        k.eviction.shares) == k.eviction.share


cdef inline int may_evict(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    if e == NULL or db == SYSTEM_DB or not element_live(e):
        return 0
    return not k.eviction.policy & EVICT_VOLATILE or key_deadline(k, e) >= 0


cdef Element *draw(Kernel *k, uint32_t *db) noexcept nogil:
    """A random element of those that the policy looks at: one with a deadline, or any."""
    cdef HeapItem *item
    cdef uint64_t all = 0, at
    cdef uint32_t i
    if k.eviction.policy & EVICT_VOLATILE:
        if k.deadlines.n == 0:
            return NULL
        item = &k.deadlines.heap[(next_random(&k.seed) >> 32) * k.deadlines.n >> 32]
        db[0] = item_db(item)
        return item_owner(item)
    for i in range(DATABASES):
        all += table_count(&k.db[i].table) if i != SYSTEM_DB else 0
    at = (next_random(&k.seed) >> 32) * all >> 32
    for i in range(DATABASES):
        if i == SYSTEM_DB:
            continue
        if at < table_count(&k.db[i].table):
            db[0] = i
            return table_random(&k.db[i].table, &k.seed)
        at -= table_count(&k.db[i].table)
    return NULL


cdef uint64_t score_of(Kernel *k, Element *e) noexcept nogil:
    if k.eviction.policy & EVICT_LFU:
        return 255 - key_frequency(k, e)
    if k.eviction.policy & EVICT_TTL:
        return ~<uint64_t>key_deadline(k, e)
    return <uint64_t>key_idle(k, e)


cdef void pool_add(Kernel *k, uint32_t db, Element *e) noexcept nogil:
    cdef Candidate *pool = k.eviction.pool
    cdef uint64_t score = score_of(k, e)
    cdef uint32_t n = k.eviction.pooled, i = 0, j
    cdef Buffer key
    while i < n and pool[i].score < score:
        i += 1
    if n < EVICTION_POOL:
        key = pool[n].key
        for j in range(n, i, -1):
            pool[j] = pool[j - 1]
        k.eviction.pooled += 1
    elif i == 0:
        return
    else:
        key = pool[0].key
        i -= 1
        for j in range(i):
            pool[j] = pool[j + 1]
    key.n = 0
    buffer_add(&key, element_key(e), element_klen(e))
    pool[i].score = score
    pool[i].db = db
    pool[i].key = key


cdef void pool_fill(Kernel *k, int anyones) noexcept nogil:
    cdef uint32_t samples = 0, draws = 0, db = 0
    cdef Element *e
    while samples < k.eviction.samples and draws < DRAWS * k.eviction.samples * k.eviction.shares:
        draws += 1
        e = draw(k, &db)
        if e == NULL:
            break
        if may_evict(k, db, e) and (anyones or in_share(k, db, element_name(e))):
            pool_add(k, db, e)
            samples += 1


cdef void pool_drop(Kernel *k, uint32_t i) noexcept nogil:
    cdef Candidate *pool = k.eviction.pool
    cdef Buffer key = pool[i].key
    k.eviction.pooled -= 1
    for i in range(i, k.eviction.pooled):
        pool[i] = pool[i + 1]
    pool[k.eviction.pooled].key = key


cdef Element *pool_take(Kernel *k, uint32_t *db, int anyones) noexcept nogil:
    """The best that may still be evicted. What is not in this replica's share now stays for when it
    is."""
    cdef Candidate *c
    cdef Element *e
    cdef Span key
    cdef uint32_t i
    for i in range(k.eviction.pooled, 0, -1):
        c = &k.eviction.pool[i - 1]
        key = span(c.key.p, c.key.n)
        if not anyones and not in_share(k, c.db, key):
            continue
        db[0] = c.db
        e = key_in(k, c.db, key)
        pool_drop(k, i - 1)
        if may_evict(k, db[0], e):
            return e
    return NULL


cdef Element *random_candidate(Kernel *k, uint32_t *db, int anyones) noexcept nogil:
    cdef Element *e
    for _ in range(DRAWS * k.eviction.shares):
        e = draw(k, db)
        if may_evict(k, db[0], e) and (anyones or in_share(k, db[0], element_name(e))):
            return e
    return NULL


cdef Element *candidate(Kernel *k, uint32_t *db) noexcept nogil:
    cdef Element *e = NULL
    cdef uint32_t i
    cdef int anyones
    k.eviction.turn = k.now // SHARE_MS
    for anyones in range(2):
        if k.eviction.policy & EVICT_RANDOM:
            e = random_candidate(k, db, anyones)
        else:
            pool_fill(k, anyones)
            e = pool_take(k, db, anyones)
            if e == NULL and k.eviction.pooled:     # full of what is in others' shares now
                k.eviction.pooled = 0
                pool_fill(k, anyones)
                e = pool_take(k, db, anyones)
        if e != NULL:
            return e
    # few of many that are there are alive
    for i in range(DATABASES if not k.eviction.policy & EVICT_VOLATILE else 0):
        if i != SYSTEM_DB and k.db[i].live:
            e = key_random(k, i)
            if e != NULL:
                db[0] = i
                return e
    return NULL


cdef int evict_key(Kernel *k) noexcept nogil:
    cdef uint32_t db = 0
    cdef Element *e = candidate(k, &db)
    if e == NULL:
        return 0
    remove_key(k, db, e, 0)
    k.eviction.evicted += not k.open.refused
    return not k.open.refused


cdef void eviction_free(Kernel *k) noexcept nogil:
    cdef int i
    for i in range(EVICTION_POOL):
        buffer_free(&k.eviction.pool[i].key)

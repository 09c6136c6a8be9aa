# Watched keys: by WATCH, and by clients that wait at a key.
#
# Keys stand in chains by hash, each with a version that grows with every effect on it, local or
# remote.

from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memset

from crdtredis.buffer cimport Span, copy_span

cdef enum:
    WATCH_CHAINS = 64       # at least; they double when there are more watched keys


cdef void watch_active(Kernel *k) noexcept nogil:
    k.watched.active = (k.watched.n + <uint32_t>(k.notices.on != 0)
                        + <uint32_t>(k.mirror.on != 0))


cdef Watch *watch_find(Kernel *k, uint32_t db, Span key, uint32_t hash) noexcept nogil:
    cdef Watch *w = k.watched.chains[hash & k.watched.mask] if k.watched.chains != NULL else NULL
    while (w != NULL and not (w.hash == hash and w.db == db and w.n == key.n
                              and memcmp(watch_key(w).p, key.p, key.n) == 0)):
        w = w.next
    return w


cdef void watch_chains(Kernel *k, uint32_t n) noexcept nogil:
    """Spreads the watched keys over n chains, a power of two."""
    cdef Watch **old = k.watched.chains
    cdef Watch **at
    cdef Watch *w
    cdef Watch *next
    cdef uint32_t i
    k.watched.chains = <Watch**>mem_alloc(n * sizeof(Watch*))
    memset(k.watched.chains, 0, n * sizeof(Watch*))
    for i in range(k.watched.mask + 1 if old != NULL else 0):
        w = old[i]
        while w != NULL:
            next = w.next
            at = &k.watched.chains[w.hash & (n - 1)]
            w.next = at[0]
            at[0] = w
            w = next
    k.watched.mask = n - 1
    mem_free(old)


cdef Watch *watch_hold(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef uint32_t hash = key_hash(k, key.p, key.n)
    cdef Watch *w = watch_find(k, db, key, hash)
    cdef Watch **at
    if w == NULL:
        if k.watched.chains == NULL:
            watch_chains(k, WATCH_CHAINS)
        elif k.watched.n > k.watched.mask:
            watch_chains(k, 2 * (k.watched.mask + 1))
        w = <Watch*>mem_alloc(sizeof(Watch) + key.n)
        memset(w, 0, sizeof(Watch))
        w.hash = hash
        w.db = db
        w.n = key.n
        copy_span(<char*>w + sizeof(Watch), key)
        at = &k.watched.chains[hash & k.watched.mask]
        w.next = at[0]
        at[0] = w
        k.watched.n += 1
        k.watched.active += 1
    w.holders += 1
    return w


cdef void watch_release(Kernel *k, Watch *w) noexcept nogil:
    cdef Watch **at
    w.holders -= 1
    if w.holders:
        return
    at = &k.watched.chains[w.hash & k.watched.mask]
    while at[0] != w:
        at = &at[0].next
    at[0] = w.next
    mem_free(w)
    k.watched.n -= 1
    k.watched.active -= 1
    if k.watched.n == 0:
        mem_free(k.watched.chains)
        k.watched.chains = NULL


cdef inline void note_watch(Kernel *k, Watch *w) noexcept nogil:
    w.version += 1
    if w.waiters != NULL:
        watch_put_ready(k, w)


cdef void watch_put_ready(Kernel *k, Watch *w) noexcept nogil:
    if not w.ready:
        w.ready = 1
        w.holders += 1
        w.next_ready = NULL
        if k.watched.ready == NULL:
            k.watched.ready = w
        else:
            k.watched.ready_last.next_ready = w
        k.watched.ready_last = w


cdef Watch *watch_take_ready(Kernel *k) noexcept nogil:
    cdef Watch *w = k.watched.ready
    if w != NULL:
        k.watched.ready = w.next_ready
        w.ready = 0
    return w


cdef void note_touched(Kernel *k, uint32_t db, Span key, uint32_t hash) noexcept nogil:
    """What a key at home hides has not changed for clients."""
    cdef Watch *w = watch_find(k, shown_db(db), key, hash)
    if w != NULL and not is_hidden(k, db, key):
        note_watch(k, w)


cdef void key_modified(Kernel *k, uint32_t db, Span key) noexcept nogil:
    if k.watched.n:
        note_touched(k, db, key, key_hash(k, key.p, key.n))


cdef void touch_all(Kernel *k, uint32_t db) noexcept nogil:
    cdef Watch *w
    cdef uint32_t i
    for i in range(k.watched.mask + 1 if k.watched.n else 0):
        w = k.watched.chains[i]
        while w != NULL:
            if (w.db == shown_db(db) and key_in(k, db, watch_key(w)) != NULL
                    and not is_hidden(k, db, watch_key(w))):
                note_watch(k, w)
            w = w.next

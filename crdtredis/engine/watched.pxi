# What a client holds between MULTI and EXEC, and what WATCH looks for.
#
# WATCH holds the kernel's Watch of a key, whose version every effect on the key raises, from here
# or from a peer, and EXEC compares versions.

from libc.stdint cimport uint32_t
from libc.stdlib cimport free, qsort, realloc

from crdtredis._core cimport (Element, home_find, key_deadline, key_find, key_visible, watch_hold,
                              watch_key, watch_release)
from crdtredis.buffer cimport buffer_free, need_memory


cdef void drop_transaction(Dispatch *d, Client *client) noexcept nogil:
    buffer_free(&client.queue)
    client.queued = 0
    client.queue_flags = 0
    client.flags &= ~<uint32_t>(CLIENT_MULTI | CLIENT_DIRTY | CLIENT_IN_EXEC)
    unwatch_all(d, client)


cdef void unwatch_all(Dispatch *d, Client *client) noexcept nogil:
    cdef uint32_t i
    for i in range(client.watched_n):
        watch_release(d.kernel, client.watched[i].watch)
    client.watched_n = 0
    if client.watched_cap > 64:
        free(client.watched)
        client.watched = NULL
        client.watched_cap = 0


cdef inline int is_expired(Kernel *k, Element *e) noexcept nogil:
    """There, but past its deadline: not yet removed by an op."""
    return e != NULL and 0 <= key_deadline(k, e) < k.now


cdef uint32_t seen_state(Kernel *k, uint32_t db, Span key) noexcept nogil:
    cdef Element *e = key_find(k, db, key)
    cdef Element *home = home_find(k, db, key) if k.home.on else NULL
    cdef uint32_t state = SEEN_VISIBLE if key_visible(k, e) else 0
    if is_expired(k, e):
        state |= SEEN_EXPIRED
    if home != e and is_expired(k, home):
        state |= SEEN_HOME_EXPIRED
    return state


cdef void watch_key_for(Dispatch *d, Client *client, Span key) noexcept nogil:
    cdef Watch *w = watch_hold(d.kernel, client.db, key)
    if client.watched_n == client.watched_cap:
        watched_once(d, client)
        if client.watched_n >= client.watched_cap // 2:
            client.watched_cap = client.watched_cap * 2 if client.watched_cap else 4
            client.watched = <Watched*>need_memory(realloc(client.watched,
                                                           sizeof(Watched) * client.watched_cap))
    client.watched[client.watched_n].watch = w
    client.watched[client.watched_n].version = w.version
    client.watched[client.watched_n].state = seen_state(d.kernel, client.db, key)
    client.watched_n += 1


cdef int by_watch(const void *a, const void *b) noexcept nogil:
    cdef const Watched *x = <const Watched*>a
    cdef const Watched *y = <const Watched*>b
    if x.watch != y.watch:
        return -1 if x.watch < y.watch else 1
    if x.version != y.version:
        return -1 if x.version < y.version else 1
    return <int>x.state - <int>y.state


cdef void watched_once(Dispatch *d, Client *client) noexcept nogil:
    """Of several entries of one key only the oldest, which asks for most. Looking for the key at
    each WATCH would take a time that is squared in their number."""
    cdef uint32_t i
    cdef uint32_t n = 0
    if client.watched_n == 0:
        return
    qsort(client.watched, client.watched_n, sizeof(Watched), by_watch)
    for i in range(client.watched_n):
        if n and client.watched[n - 1].watch == client.watched[i].watch:
            watch_release(d.kernel, client.watched[i].watch)
        else:
            client.watched[n] = client.watched[i]
            n += 1
    client.watched_n = n


cdef int watched_changed(Dispatch *d, Client *client) noexcept nogil:
    """What had expired before WATCH was absent to its client already: the one effect that removes
    it is no change."""
    cdef uint32_t i, state, removed
    cdef Watched *x
    for i in range(client.watched_n):
        x = &client.watched[i]
        state = seen_state(d.kernel, x.watch.db, watch_key(x.watch))
        removed = (x.state & ~state) >> 1
        if (state & ~x.state or (x.state ^ state) & SEEN_VISIBLE
                or x.watch.version - x.version != (removed & 1) + (removed >> 1)):
            return 1
    return 0

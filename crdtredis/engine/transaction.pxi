# MULTI, EXEC, DISCARD and WATCH: the work behind commands/transactions.pyx.
#
# Queued commands are flat bytes in Client.queue, since the parser's buffer moves on. EXEC runs them
# between one op_begin and op_end, so all their effects are one op, applied everywhere at once or
# not yet. WATCH holds the kernel's Watch of a key, whose version every effect on the key raises,
# from here or from a peer, and EXEC compares versions.

from libc.stdlib cimport qsort

from crdtredis._core cimport (Element, key_deadline, key_find, key_visible, watch_hold, watch_key,
                              watch_release)
from crdtredis.errors cimport EXEC_ABORTED, EXEC_WITHOUT_MULTI


cdef void exec_queued(Call *c) noexcept nogil:
    """EXEC: the queued commands as one op, or a refusal. The effects of all of them are applied,
    logged and sent together."""
    cdef Client *client = c.client
    cdef Dispatch *d = c.dispatch
    cdef Buffer queue = client.queue
    cdef uint32_t n = client.queued
    cdef uint32_t i, before
    cdef size_t at
    cdef const char *p = queue.p
    cdef Span *argv = NULL
    cdef int cap = 0
    cdef int argc = 0
    cdef int over
    cdef Command *me = client.command
    cdef Command *cmd
    if not client.flags & CLIENT_MULTI:
        refuse(c, EXEC_WITHOUT_MULTI)
        return
    if client.flags & CLIENT_DIRTY:
        drop_transaction(d, client)
        refuse(c, EXEC_ABORTED)
        return
    if watched_changed(d, client):
        drop_transaction(d, client)
        reply_null_array(c.reply)
        return
    unwatch_all(d, client)
    memset(&client.queue, 0, sizeof(Buffer))
    client.flags |= CLIENT_IN_EXEC
    client.flags &= ~<uint32_t>CLIENT_MULTI
    d.stats.transactions += 1
    reply_array(c.reply, n)
    op_begin(d.kernel)
    for i in range(n):
        p = unpack_command(p, &argv, &cap, &argc)
        cmd = find_command(d, argv[0])
        if cmd.flags & C_CONTAINER and argc > 1:
            cmd = find_subcommand(d, cmd, argv[1])
        at = c.reply.buf.n
        over = c.reply.over
        if not over:
            c.reply.keep = at
        before = client.flags
        if not remainders_fit(d, client, cmd, argv, argc):
            refuse_too_large(c)            # what has run stands, as after any error inside EXEC
        else:
            call_command(d, client, cmd, argv, argc)
        if before & client.flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP):
            drop_reply(c.reply, at, over)
    if op_end(d.kernel):
        mark_wrote(d, client)
    client.command = me
    free(argv)
    buffer_free(&queue)
    drop_transaction(d, client)


cdef int remainders_fit(Dispatch *d, Client *client, Command *cmd, Span *argv,
                        int argc) noexcept nogil:
    """Does what a command of EXEC will first remove of its keys fit the op, unless it is huge
    always? Alone it would be an op of its own."""
    cdef size_t bytes = 0
    cdef int last = cmd.last_key if cmd.last_key >= 0 else argc + cmd.last_key
    cdef int i = cmd.first_key if cmd.flags & C_WRITE else 0
    while 0 < i <= last:
        bytes += remainder_size(d.kernel, client.db, key_find(d.kernel, client.db, argv[i]))
        i += cmd.key_step
    return bytes == 0 or op_fits(d.kernel, client.db, 0, 0, bytes)


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


cdef inline int is_expired(Kernel *k, uint32_t db, Span key) noexcept nogil:
    """There, but past its deadline: not yet removed by an op."""
    cdef Element *e = key_find(k, db, key)
    cdef int64_t at
    if e == NULL:
        return 0
    at = key_deadline(k, e)
    return 0 <= at < k.now


cdef void watch_key_for(Dispatch *d, Client *client, Span key) noexcept nogil:
    """WATCH of one key in the client's database."""
    cdef Watch *w = watch_hold(d.kernel, client.db, key)
    if client.watched_n == client.watched_cap:
        watched_once(d, client)
        if client.watched_n >= client.watched_cap // 2:
            client.watched_cap = client.watched_cap * 2 if client.watched_cap else 4
            client.watched = <Watched*>need_memory(realloc(client.watched,
                                                           sizeof(Watched) * client.watched_cap))
    client.watched[client.watched_n].watch = w
    client.watched[client.watched_n].version = w.version
    client.watched[client.watched_n].expired = is_expired(d.kernel, client.db, key)
    client.watched_n += 1


cdef int by_watch(const void *a, const void *b) noexcept nogil:
    cdef const Watched *x = <const Watched*>a
    cdef const Watched *y = <const Watched*>b
    if x.watch != y.watch:
        return -1 if x.watch < y.watch else 1
    if x.version != y.version:
        return -1 if x.version < y.version else 1
    return x.expired - y.expired


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
    """1 when EXEC must refuse: a watched key was touched by an effect, here or from a peer, or its
    deadline has passed since WATCH.

    A key that had expired before WATCH was absent to its client already: the one effect that
    removes it is no change.
    """
    cdef uint32_t i
    cdef Watched *x
    for i in range(client.watched_n):
        x = &client.watched[i]
        if x.expired:
            if (x.watch.version - x.version > 1
                or key_visible(d.kernel, key_find(d.kernel, x.watch.db, watch_key(x.watch)))):
                return 1
        elif x.watch.version != x.version or is_expired(d.kernel, x.watch.db, watch_key(x.watch)):
            return 1
    return 0

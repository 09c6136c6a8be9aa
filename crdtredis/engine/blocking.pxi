# When is a client served that waits for a key, and in which order?
#
# BLPOP finds nothing: the client is put into a wait queue at each of its keys, and its command is
# kept. The queues hang on the kernel's Watch of the key, so any effect on the key, whatever command
# or peer it comes from, is noticed in the one place that WATCH relies on, and costs nobody anything
# while no key is watched. The kernel only lists the key as ready. After the command, after the
# whole of EXEC, and at the end of the iteration for what peers sent, `serve_ready` looks at each of
# these keys: as long as it holds the type that somebody waits for, the one who came first has his
# command run again, by the same handler. So he takes the first of his keys, in the order of his
# arguments, that has something.
#
#     A waits at k; then B at l, k; then C at k.  RPUSH k x y  ->  A takes x, B takes y, C waits on.
#
# What is served is as good as a command of its own: one op, its effects on other keys make those
# ready in turn (BLMOVE), until nothing is left. It terminates since whoever is served has left all
# his lines. One element for ten thousand waiting clients costs one of them.
#
# An iteration ends when its ops are many; who is left is served in the next one.
#
# While commands that write are held back or refused (CLIENT PAUSE, loading, a log that cannot be
# written), keys stay ready and nobody is served; time limits run on. What happens at `max_memory`
# is decided when a command is called, not again when it is served.
#
# A wait is local to a replica: an element that two replicas see, each with a client waiting, is
# taken at both, as by LPOP || LPOP.

from crdtredis._core cimport T_COUNT, key_type, watch_put_ready, watch_take_ready
from crdtredis.errors cimport UNBLOCKED


cdef inline Waiter *waiters_of(Wait *w) noexcept nogil:
    return <Waiter*>(<char*>w + sizeof(Wait))


cdef inline size_t wait_memory(const Wait *w) noexcept nogil:
    return sizeof(Wait) + w.n * sizeof(Waiter) + w.args.cap


# ---- time limits ---------------------------------------------------------------------------------

cdef inline void timeout_set(Dispatch *d, uint32_t i, Wait *w) noexcept nogil:
    d.timeouts[i] = w
    w.timeout = i + 1


cdef void timeout_sift(Dispatch *d, uint32_t i) noexcept nogil:
    """Moves the one at i to where it belongs, up or down."""
    cdef Wait *w = d.timeouts[i]
    cdef uint32_t j
    while i and d.timeouts[(i - 1) // 2].deadline > w.deadline:
        timeout_set(d, i, d.timeouts[(i - 1) // 2])
        i = (i - 1) // 2
    while True:
        j = 2 * i + 1
        if j >= d.timeout_n:
            break
        if j + 1 < d.timeout_n and d.timeouts[j + 1].deadline < d.timeouts[j].deadline:
            j += 1
        if d.timeouts[j].deadline >= w.deadline:
            break
        timeout_set(d, i, d.timeouts[j])
        i = j
    timeout_set(d, i, w)


cdef void timeout_add(Dispatch *d, Wait *w) noexcept nogil:
    if d.timeout_n == d.timeout_cap:
        d.timeout_cap = 2 * d.timeout_cap if d.timeout_cap else 64
        d.timeouts = <Wait**>need_memory(realloc(d.timeouts, d.timeout_cap * sizeof(Wait*)))
    timeout_set(d, d.timeout_n, w)
    d.timeout_n += 1
    timeout_sift(d, d.timeout_n - 1)


cdef void timeout_remove(Dispatch *d, Wait *w) noexcept nogil:
    cdef uint32_t i = w.timeout - 1
    w.timeout = 0
    d.timeout_n -= 1
    if i < d.timeout_n:
        timeout_set(d, i, d.timeouts[d.timeout_n])
        timeout_sift(d, i)


cdef void expire_waiting(Dispatch *d) noexcept nogil:
    while d.timeout_n and d.timeouts[0].deadline <= d.steady:
        give_up(d, d.timeouts[0].client, NULL)


# ---- beginning and ending a wait -----------------------------------------------------------------

cdef void wait_for_keys(Call *c, int type, int first, int n, int64_t timeout_ms) noexcept nogil:
    cdef Dispatch *d = c.dispatch
    cdef Wait *w
    cdef Waiter *x
    cdef Watch *watch
    cdef WaitQueue *queue
    cdef int i
    if c.client.wait != NULL:
        return                                  # called again, and there is still nothing
    w = <Wait*>need_memory(malloc(sizeof(Wait) + <size_t>n * sizeof(Waiter)))
    memset(w, 0, sizeof(Wait))
    w.client = c.client
    w.type = type
    w.ticks = cycles() - d.tick
    pack_command(&w.args, c.argv, c.argc)
    for i in range(n):
        watch = watch_hold(d.kernel, c.db, c.argv[first + i])
        if watch.waiters == NULL:
            watch.waiters = need_memory(calloc(T_COUNT, sizeof(WaitQueue)))
            d.waited_keys += 1
        queue = <WaitQueue*>watch.waiters + type
        if queue.last != NULL and queue.last.wait == w:
            watch_release(d.kernel, watch)      # the same key once more
            continue
        x = waiters_of(w) + w.n
        w.n += 1
        x.wait = w
        x.watch = watch
        x.next = NULL
        x.prev = queue.last
        if x.prev != NULL:
            x.prev.next = x
        else:
            queue.first = x
        queue.last = x
    if timeout_ms:
        w.deadline = d.steady + timeout_ms
        timeout_add(d, w)
    c.client.wait = w
    c.client.flags |= CLIENT_BLOCKED


cdef void leave_queue(Dispatch *d, Waiter *x, int type) noexcept nogil:
    cdef WaitQueue *queues = <WaitQueue*>x.watch.waiters
    cdef int i
    if x.prev != NULL:
        x.prev.next = x.next
    else:
        queues[type].first = x.next
    if x.next != NULL:
        x.next.prev = x.prev
    else:
        queues[type].last = x.prev
    for i in range(T_COUNT):
        if queues[i].first != NULL:
            break
    else:
        free(queues)
        x.watch.waiters = NULL
        d.waited_keys -= 1
    watch_release(d.kernel, x.watch)


cdef void stop_waiting(Dispatch *d, Client *client) noexcept nogil:
    cdef Wait *w = client.wait
    cdef uint32_t i
    if w == NULL:
        return
    for i in range(w.n):
        leave_queue(d, waiters_of(w) + i, w.type)
    if w.timeout:
        timeout_remove(d, w)
    buffer_free(&w.args)
    free(w)
    client.wait = NULL
    client.flags &= ~<uint32_t>CLIENT_BLOCKED


cdef inline void begin_answer(Dispatch *d, Client *client) noexcept nogil:
    """Before a reply to a client outside of its own turn."""
    if client.fd >= 0:
        begin_iteration(<Loop>d.loop, <Conn*>client)
    client.reply.keep = client.reply.buf.n


cdef void end_answer(Dispatch *d, Client *client, size_t at) noexcept nogil:
    """After it: the reply begins at `at`, and the client may go on."""
    finish_reply(client, at, client.flags)
    if client.fd >= 0:
        (<Conn*>client).iteration_replies += client.reply.buf.n > at
        d.wake(d.loop, client)


cdef void give_up(Dispatch *d, Client *client, const char *error) noexcept nogil:
    cdef size_t at
    begin_answer(d, client)
    at = client.reply.buf.n
    if error != NULL:
        reply_error(&client.reply, error)
    else:
        reply_null_array(&client.reply)
    count_reply(d, client, client.command, at)
    stop_waiting(d, client)
    end_answer(d, client, at)


# ---- serving -------------------------------------------------------------------------------------

cdef inline int may_serve(Dispatch *d) noexcept nogil:
    return (d.kernel.depth == 0
            and not d.guard & (GUARD_LOADING | GUARD_MISCONF | GUARD_CLOCK | GUARD_PAUSE_ALL |
                               GUARD_PAUSE_WRITE))


cdef inline int iteration_is_full(Dispatch *d) noexcept nogil:
    return d.loop != NULL and d.kernel.ops_size > (<Loop>d.loop).iteration_limit


cdef void serve_ready(Dispatch *d) noexcept nogil:
    cdef Watch *watch
    while may_serve(d) and not iteration_is_full(d):
        watch = watch_take_ready(d.kernel)
        if watch == NULL:
            return
        serve_key(d, watch)
        watch_release(d.kernel, watch)


cdef void serve_key(Dispatch *d, Watch *watch) noexcept nogil:
    cdef int type = key_type(d.kernel, key_find(d.kernel, watch.db, watch_key(watch)))
    cdef Waiter *x
    cdef Waiter *next
    if type >= T_COUNT or watch.waiters == NULL:
        return
    x = (<WaitQueue*>watch.waiters + type).first
    while (x != NULL and not iteration_is_full(d)
           and key_type(d.kernel, key_find(d.kernel, watch.db, watch_key(watch))) == type):
        # a client stands in a queue once, and only the one that is served leaves
        next = x.next
        run_again(d, x.wait)
        x = next
    if x != NULL and iteration_is_full(d):
        watch_put_ready(d.kernel, watch)


cdef void run_again(Dispatch *d, Wait *w) noexcept nogil:
    cdef Client *client = w.client
    cdef Command *cmd = client.command
    cdef uint64_t begun = cycles()
    cdef uint64_t took
    cdef size_t at
    cdef int argc
    if (client.flags & CLIENT_KILLED
        or (client.fd >= 0 and (<Conn*>client).state & (CONN_HUNGUP | CONN_DEAD))):
        # nobody would get it; the iteration's end frees the client
        return
    begin_answer(d, client)
    at = client.reply.buf.n
    unpack_command(w.args.p, &d.again, &d.again_cap, &argc)
    run_handler(d, client, cmd, d.again, argc)
    if client.reply.buf.n == at:
        return
    took = cycles() - begun
    cmd.ticks += took
    note_latency(d, cmd, w.ticks + took)
    count_reply(d, client, cmd, at)
    if w.ticks + took >= d.slow_ticks and not cmd.flags & C_SKIP_SLOWLOG:
        note_slow(d, client, d.again, argc, w.ticks + took)
    stop_waiting(d, client)
    end_answer(d, client, at)

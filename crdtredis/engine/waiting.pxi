# The wait queues of keys, and the time limits of those who wait.
#
# The queues hang on the kernel's Watch of a key (Watch.waiters), one for each type. A wait stands
# in one queue at each of its keys and leaves all of them at once.

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

from crdtredis._core cimport T_COUNT, T_STREAM, watch_hold, watch_release
from crdtredis.buffer cimport buffer_free, need_memory

cdef int64_t LOOK_MOST = <int64_t>1 << 40       # ms


cdef inline Waiter *waiters_of(Wait *w) noexcept nogil:
    return <Waiter*>(<char*>w + sizeof(Wait))


cdef inline size_t wait_memory(const Wait *w) noexcept nogil:
    return sizeof(Wait) + w.n * sizeof(Waiter) + w.args.cap


# ---- time limits ---------------------------------------------------------------------------------

cdef inline void timeout_set(Waiting *q, uint32_t i, Wait *w) noexcept nogil:
    q.timeouts[i] = w
    w.timeout = i + 1


cdef void timeout_sift(Waiting *q, uint32_t i) noexcept nogil:
    """Moves the one at i to where it belongs, up or down."""
    cdef Wait *w = q.timeouts[i]
    cdef uint32_t j
    while i and q.timeouts[(i - 1) // 2].deadline > w.deadline:
        timeout_set(q, i, q.timeouts[(i - 1) // 2])
        i = (i - 1) // 2
    while True:
        j = 2 * i + 1
        if j >= q.timeout_n:
            break
        if j + 1 < q.timeout_n and q.timeouts[j + 1].deadline < q.timeouts[j].deadline:
            j += 1
        if q.timeouts[j].deadline >= w.deadline:
            break
        timeout_set(q, i, q.timeouts[j])
        i = j
    timeout_set(q, i, w)


cdef void timeout_add(Waiting *q, Wait *w) noexcept nogil:
    if q.timeout_n == q.timeout_cap:
        q.timeout_cap = 2 * q.timeout_cap if q.timeout_cap else 64
        q.timeouts = <Wait**>need_memory(realloc(q.timeouts, q.timeout_cap * sizeof(Wait*)))
    timeout_set(q, q.timeout_n, w)
    q.timeout_n += 1
    timeout_sift(q, q.timeout_n - 1)


cdef void timeout_remove(Waiting *q, Wait *w) noexcept nogil:
    cdef uint32_t i = w.timeout - 1
    w.timeout = 0
    q.timeout_n -= 1
    if i < q.timeout_n:
        timeout_set(q, i, q.timeouts[q.timeout_n])
        timeout_sift(q, i)


cdef void wait_deadline(Dispatch *d, Wait *w, int64_t at) noexcept nogil:
    if w.timeout:
        timeout_remove(&d.waiting, w)
    w.deadline = at
    if at:
        timeout_add(&d.waiting, w)


cdef void count_reader(Dispatch *d, const Wait *w, WaitQueue *queue, int step) noexcept nogil:
    if w.reads:
        d.waiting.read_keys -= queue.readers > 0
        queue.readers += step
        d.waiting.read_keys += queue.readers > 0


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
    w.reads = type == T_STREAM and c.client.command.flags & C_WRITE != 0
    w.ticks = cycles() - d.stopwatch.at
    pack_command(&w.args, c.argv, c.argc)
    for i in range(n):
        watch = watch_hold(d.kernel, c.db, c.argv[first + i])
        if watch.waiters == NULL:
            watch.waiters = need_memory(calloc(T_COUNT, sizeof(WaitQueue)))
            d.waiting.keys += 1
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
        count_reader(d, w, queue, 1)
    if timeout_ms:
        w.end = d.steady + timeout_ms
        wait_deadline(d, w, w.end)
    c.client.wait = w
    c.client.flags |= CLIENT_BLOCKED


cdef void wait_to_answer(Call *c, int type, int first, int n, int64_t timeout_ms) noexcept nogil:
    wait_for_keys(c, type, first, n, timeout_ms)
    c.client.wait.answers = 1


cdef int wait_is_over(const Client *client) noexcept nogil:
    return client.wait != NULL and client.wait.answers == 2


cdef void wait_to_look(Call *c, int64_t after_ms) noexcept nogil:
    cdef Wait *w = c.client.wait
    cdef int64_t at = c.dispatch.steady + min(max(after_ms, <int64_t>1), LOOK_MOST)
    wait_deadline(c.dispatch, w, at if w.end == 0 or at < w.end else w.end)


cdef void leave_queue(Dispatch *d, Waiter *x, int type) noexcept nogil:
    cdef WaitQueue *queues = <WaitQueue*>x.watch.waiters
    cdef int i
    count_reader(d, x.wait, queues + type, -1)
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
        d.waiting.keys -= 1
    watch_release(d.kernel, x.watch)


cdef void stop_waiting(Dispatch *d, Client *client) noexcept nogil:
    cdef Wait *w = client.wait
    cdef uint32_t i
    if w == NULL:
        return
    for i in range(w.n):
        leave_queue(d, waiters_of(w) + i, w.type)
    if w.timeout:
        timeout_remove(&d.waiting, w)
    buffer_free(&w.args)
    free(w)
    client.wait = NULL
    client.flags &= ~<uint32_t>CLIENT_BLOCKED

# When is a client served that waits for a key, and in which order?
#
# BLPOP finds nothing: the client is put into a wait queue at each of its keys, and its command is
# kept (waiting.pxi). Any effect on a key, whatever command or peer it comes from, is noticed where
# WATCH notices it, and costs nothing while no key is watched: the kernel lists the key as ready.
# After the command, after the whole of EXEC, and at the end of the iteration for what peers sent,
# `serve_ready` looks at these keys. As long as a key holds the type that somebody waits for, the
# same handler runs the command of the client that came first. So that client takes the first of its
# keys, in the order of its arguments, that has something.
#
#     A waits at k; then B at l, k; then C at k.
#     RPUSH k x y  ->  A takes x, B takes y, C waits on.
#
# A served command is as good as a client's own: it is one op, and its effects on other keys make
# those ready in turn (BLMOVE), until nothing is left. That ends, since a client that is served has
# left all its queues. XREADGROUP is run again as well where the stream is no more, which it answers
# by an error. One element for ten thousand waiting clients costs one of them; and one entry of a
# stream two of those who read it as consumers of one group: where the second is given nothing, the
# others would not be, either (Wait.alike), and are passed over.
#
# An iteration ends when its ops are many; the clients that are left are served in the next one.
#
# While commands that write are held back or refused (CLIENT PAUSE, loading, a log that cannot be
# written), keys stay ready and nobody is served; time limits run on. What happens at `max_memory`
# is decided when a command is called, not again when it is served.
#
# A wait is local to a replica: an element that two replicas see, each with a client waiting, is
# taken at both, as by LPOP || LPOP.

from libc.stdint cimport uint64_t

from crdtredis._core cimport (T_COUNT, T_STREAM, Watch, key_find, key_type, watch_key,
                              watch_put_ready, watch_release, watch_take_ready)
from crdtredis._resp cimport reply_error, reply_null_array

cdef enum:
    LOOK_LATER = 10         # ms
    IN_VAIN = 8             # groups of which it is remembered that there is nothing


# ---- ending a wait -------------------------------------------------------------------------------

cdef void give_up(Dispatch *d, Client *client, const char *error) noexcept nogil:
    cdef size_t at
    begin_reply(d, client)
    at = client.reply.buf.n
    if error != NULL:
        reply_error(&client.reply, error)
    else:
        reply_null_array(&client.reply)
    count_reply(d, client, client.command, at)
    stop_waiting(d, client)
    end_reply(d, client, at)


cdef void look_again(Dispatch *d, Wait *w) noexcept nogil:
    """The handler of a wait has asked for it. Later, where nobody is served now."""
    cdef int64_t later = d.steady + LOOK_LATER
    if may_serve(d) and not iteration_is_full(d):
        wait_deadline(d, w, w.end)
        run_again(d, w)
    else:
        wait_deadline(d, w, later if w.end == 0 or later < w.end else w.end)


cdef void expire_waiting(Dispatch *d) noexcept nogil:
    cdef Client *client
    cdef Wait *w
    while d.waiting.timeout_n and d.waiting.timeouts[0].deadline <= d.steady:
        w = d.waiting.timeouts[0]
        client = w.client
        if w.end == 0 or w.end > d.steady:
            look_again(d, w)
            continue
        if client.wait.answers and may_serve(d):
            client.wait.answers = 2
            run_again(d, client.wait)
        if client.wait != NULL:
            give_up(d, client, NULL)


# ---- serving -------------------------------------------------------------------------------------

cdef inline int may_serve(Dispatch *d) noexcept nogil:
    return (d.kernel.open.depth == 0
            and not d.guard & (GUARD_LOADING | GUARD_MISCONF | GUARD_CLOCK | GUARD_WAIT))


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
    cdef uint64_t[8] vain               # IN_VAIN
    cdef size_t n = 0, i
    if type != T_STREAM:
        refuse_readers(d, watch)
    if type >= T_COUNT or watch.waiters == NULL:
        return
    x = (<WaitQueue*>watch.waiters + type).first
    while (x != NULL and not iteration_is_full(d)
           and key_type(d.kernel, key_find(d.kernel, watch.db, watch_key(watch))) == type):
        # a client stands in a queue once, and only the one that is served leaves
        next = x.next
        i = 0
        while i < n and x.wait.alike != vain[i]:
            i += 1
        # Who is to be called again for the time looks for himself: he may leave before.
        if i == n and run_again(d, x.wait) and x.wait.alike and x.wait.deadline == x.wait.end and (
                n < IN_VAIN):
            vain[n] = x.wait.alike
            n += 1
        x = next
    if x != NULL and iteration_is_full(d):
        watch_put_ready(d.kernel, watch)


cdef void refuse_readers(Dispatch *d, Watch *watch) noexcept nogil:
    """Who waits as a consumer of a group is told that there is no stream any more."""
    cdef Waiter *x
    cdef Waiter *next
    if watch.waiters == NULL or not (<WaitQueue*>watch.waiters + <int>T_STREAM).readers:
        return
    x = (<WaitQueue*>watch.waiters + <int>T_STREAM).first
    while x != NULL:
        next = x.next
        if x.wait.reads:
            run_again(d, x.wait)
        x = next


cdef int denied_when_served(Dispatch *d, Client *client, int argc) noexcept nogil:
    """1 when the user may not run any more what it waits with: the wait ends, and counts as a call
    that was rejected, not as one that failed."""
    cdef Command *cmd = client.command
    cdef uint64_t failed = cmd.failed
    cdef char text[512]
    cdef int at
    cdef int denied = acl_check(d, client, cmd, d.waiting.argv, argc, &at)
    if denied == DENIED_NOTHING:
        return 0
    cmd.rejected += 1
    if cmd.calls:                       # unless CONFIG RESETSTAT came in between
        cmd.calls -= 1
    acl_note(d, client, cmd, denied, ACL_TOPLEVEL, d.waiting.argv, at)
    acl_text(text, sizeof(text), client, cmd, denied)
    give_up(d, client, text)
    cmd.failed = failed
    return 1


cdef int run_again(Dispatch *d, Wait *w) noexcept nogil:
    """1: the handler has found nothing, and w waits on."""
    cdef Client *client = w.client
    cdef Command *cmd = client.command
    cdef uint64_t begun = cycles()
    cdef uint64_t took
    cdef size_t at, replied
    cdef int argc
    if client.flags & CLIENT_KILLED or (client.fd >= 0 and d.port.gone(d.port.owner, client)):
        # nobody would get it; the iteration's end frees the client
        return 0
    begin_reply(d, client)
    at = client.reply.buf.n
    unpack_command(w.args.p, &d.waiting.argv, &d.waiting.argv_cap, &argc)
    if client.flags & CLIENT_LIMITED and denied_when_served(d, client, argc):
        return 0
    run_handler(d, client, cmd, d.waiting.argv, argc)
    if client.reply.buf.n == at:
        return 1
    took = cycles() - begun
    cmd.ticks += took
    if not d.stopwatch.untracked:
        note_latency(&d.stopwatch, cmd, w.ticks + took)
    if took >= d.latency.ticks:
        note_event(&d.latency, LATENCY_UNBLOCKING, took, d.stopwatch.per_usec, d.kernel.now // 1000)
    count_reply(d, client, cmd, at)
    note_if_slow(d, client, cmd, d.waiting.argv, argc, w.ticks + took)
    replied = client.reply.buf.n - at if client.reply.buf.n > at else 0
    if d.hot != NULL:
        note_hot(d, cmd, d.waiting.argv, argc, w.ticks + took, replied)
    note_large(d, client, cmd, d.waiting.argv, argc, replied)
    stop_waiting(d, client)
    end_reply(d, client, at)
    return 0

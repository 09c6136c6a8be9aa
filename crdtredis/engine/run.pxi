# Running a handler: a command that writes is one op, and what it makes is bounded before it runs.

from libc.stdint cimport int64_t

from crdtredis._core cimport REFUSED_JOINING, REFUSED_LARGE, op_begin, op_end, op_room
from crdtredis.errors cimport JOINING, TOO_LARGE, UNSOUND_RESULT


cdef inline size_t size_of(Span *argv, int argc) noexcept nogil:
    cdef size_t n = 0
    cdef int i
    for i in range(argc):
        n += argv[i].n
    return n


cdef void call_command(Dispatch *d, Client *client, Command *cmd, Span *argv,
                       int argc) noexcept nogil:
    cdef size_t at = client.reply.buf.n
    cdef size_t replied
    cdef uint64_t begun = d.stopwatch.at
    cdef uint64_t now
    client.command = cmd
    run_handler(d, client, cmd, argv, argc)
    now = cycles()
    d.stopwatch.at = now
    now -= begun
    cmd.ticks += now
    cmd.calls += 1
    if not (client.flags & CLIENT_BLOCKED or d.stopwatch.untracked):
        note_latency(&d.stopwatch, cmd, now)
    d.stats.commands += 1
    count_reply(d, client, cmd, at)
    if d.monitors != NULL and not cmd.flags & C_SKIP_MONITOR:
        monitor_show(d, client, cmd, argv, argc)
    replied = client.reply.buf.n - at if client.reply.buf.n > at else 0
    if now >= d.stopwatch.long_from:
        note_long(d, client, cmd, argv, argc, now, replied)
    if (replied >= d.logs[<int>COST_REPLY].least
            or size_of(argv, argc) + 20 * <size_t>argc >= d.logs[<int>COST_REQUEST].least):
        note_large(d, client, cmd, argv, argc, replied)


cdef void note_long(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                    uint64_t ticks, size_t replied) noexcept nogil:
    if ticks >= d.latency.ticks:
        note_event(&d.latency, LATENCY_FAST if cmd.flags & C_FAST else LATENCY_COMMAND, ticks,
                   d.stopwatch.per_usec, d.kernel.now // 1000)
    if not client.flags & (CLIENT_BLOCKED | CLIENT_SCRIPT):
        note_if_slow(d, client, cmd, argv, argc, ticks)
        if d.hot != NULL:
            note_hot(d, cmd, argv, argc, ticks, replied)
            d.stopwatch.at = cycles()           # which is not the next command's time


cdef void note_if_slow(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                       uint64_t ticks) noexcept nogil:
    if ticks >= d.logs[<int>COST_TIME].least and not cmd.flags & C_SKIP_SLOWLOG:
        note_slow(&d.logs[<int>COST_TIME], client, argv, argc,
                  <uint64_t>(<double>ticks / d.stopwatch.per_usec), d.kernel.now // 1000)


cdef void note_large(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc,
                     size_t replied) noexcept nogil:
    """What the request takes in RESP is counted exactly here: at most 20 bytes more an argument."""
    cdef size_t asked
    if cmd.flags & C_SKIP_SLOWLOG or client.flags & CLIENT_SCRIPT:
        return
    asked = request_size(argv, argc)
    if asked >= d.logs[<int>COST_REQUEST].least and not client.flags & CLIENT_BLOCKED:
        note_slow(&d.logs[<int>COST_REQUEST], client, argv, argc, asked, d.kernel.now // 1000)
    if replied >= d.logs[<int>COST_REPLY].least:
        note_slow(&d.logs[<int>COST_REPLY], client, argv, argc, replied, d.kernel.now // 1000)


cdef inline void count_changes(Dispatch *d, Command *cmd, Call *c, uint64_t effects) noexcept nogil:
    if c.changes < 0 and cmd.flags & C_ONE_CHANGE and effects:
        c.changes = 1
    if c.changes >= 0:
        d.stats.changes += c.changes - <int64_t>effects


cdef inline void run_handler(Dispatch *d, Client *client, Command *cmd, Span *argv,
                             int argc) noexcept nogil:
    cdef size_t at = client.reply.buf.n
    cdef Call c
    cdef uint64_t before = d.kernel.changes
    c.kernel = d.kernel
    c.client = client
    c.reply = &client.reply
    c.stats = &d.stats
    c.argv = argv
    c.argc = argc
    c.db = client.db
    c.dispatch = d
    c.changes = -1
    d.kernel.packing.views.n = 0
    if cmd.flags & C_WRITE:
        op_begin(d.kernel)
        # What one effect may hold of the arguments. The handler asks for what more it makes.
        if (not cmd.flags & C_DENYOOM
                or op_room(d.kernel, client.db, 1, argv[1].n if argc > 1 else 0,
                           size_of(argv, argc))):
            cmd.handler(&c)
        if d.kernel.open.refused:
            client.reply.buf.n = at
            refuse(&c, TOO_LARGE if d.kernel.open.refused == REFUSED_LARGE
                   else JOINING if d.kernel.open.refused == REFUSED_JOINING else UNSOUND_RESULT)
        else:
            count_changes(d, cmd, &c, d.kernel.changes - before)
        if op_end(d.kernel):
            mark_wrote(d, client)
        if d.kernel.notices.rows.n:
            notify_command(d, client, cmd, argv, argc, c.changes)
    else:
        cmd.handler(&c)
        if d.reads and cmd.flags & C_READONLY:
            note_reads(d, client, cmd, argv, argc)


cdef inline void mark_wrote(Dispatch *d, Client *client) noexcept nogil:
    client.flags |= CLIENT_WROTE
    client.wrote = d.kernel.actors.v[d.kernel.me].applied
    client.wrote_as = d.kernel.actors.v[d.kernel.me].id

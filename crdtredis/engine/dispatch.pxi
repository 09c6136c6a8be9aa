# Dispatch: which command runs, whether it may, and what is counted.
#
# execute() runs one complete command for one client and appends its reply to client.reply. It knows
# no socket: the loop calls it with what it has parsed, and so do unit tests and the simulation
# (Executor.execute). In the common case, a known command with enough arguments, a client that is
# authenticated and not in MULTI, nothing wrong with the server, it costs one hash look-up, one test
# of flags and the handler.
#
# The order in which a command is refused is Redis's: unknown, arity, NOAUTH, not in MULTI, OOM,
# MISCONF, LOADING; then our CLOCKAHEAD; then MULTI queues it. A refusal while queueing spoils the
# transaction: EXEC answers EXECABORT.
#
# Time per command is the difference of two readings of the cycle counter (8 ns each; the end of one
# command is the start of the next), which serves statistics and the slow log; it is turned into
# microseconds only when somebody asks.

from crdtredis._core cimport (REFUSED_LARGE, key_find, mem_used, op_begin, op_end, op_fits, op_room,
                              remainder_size, stamps_run_ahead)
from crdtredis.errors cimport (CLOCK_AHEAD, EXEC_REFUSED, LOADING, NOT_IN_TRANSACTION, NO_AUTH,
                               OUT_OF_MEMORY, TOO_LARGE, UNKNOWN_COMMAND, UNKNOWN_SUBCOMMAND,
                               UNSOUND_RESULT, WRONG_ARITY)

cdef extern from *:
    """
    #include <time.h>
    static inline uint64_t cycles(void) {
    #if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
    #elif defined(__aarch64__)
        uint64_t t;
        __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
        return t;
    #else
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
    #endif
    }
    """
    uint64_t cycles() noexcept nogil

cdef extern from *:
    """
    static inline int highest_bit(uint64_t x) { return 63 - __builtin_clzll(x | 1); }
    """
    int highest_bit(uint64_t x) noexcept nogil


# ---- look-up -------------------------------------------------------------------------------------

cdef inline uint32_t name_hash(const char *p, size_t n, uint32_t h) noexcept nogil:
    """FNV-1a over the lower-cased name; continued over "|sub" for a subcommand."""
    cdef size_t i
    for i in range(n):
        h = (h ^ <uint8_t>lower(p[i])) * 16777619
    return h


cdef inline int same_name(const char *name, const char *p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if name[i] != lower(p[i]):
            return 0
    return 1


cdef Command *find_command(Dispatch *d, Span name) noexcept nogil:
    cdef uint32_t h = name_hash(name.p, name.n, 2166136261)
    cdef uint32_t i = h & d.mask
    cdef Command *cmd
    while True:
        cmd = d.table[i]
        if cmd == NULL:
            return NULL
        if (cmd.hash == h and cmd.name_n == name.n and not cmd.flags & C_SUBCOMMAND
            and same_name(cmd.name, name.p, name.n)):
            return cmd
        i = (i + 1) & d.mask


cdef Command *find_subcommand(Dispatch *d, Command *container, Span sub) noexcept nogil:
    cdef uint32_t h = (container.hash ^ c'|') * 16777619
    cdef uint32_t n = container.name_n
    cdef uint32_t i
    cdef Command *cmd
    h = name_hash(sub.p, sub.n, h)
    i = h & d.mask
    while True:
        cmd = d.table[i]
        if cmd == NULL:
            return NULL
        if (cmd.hash == h and cmd.name_n == n + 1 + sub.n and memcmp(cmd.name, container.name, n)
                == 0 and cmd.name[n] == c'|'
                and same_name(cmd.name + n + 1, sub.p, sub.n)):
            return cmd
        i = (i + 1) & d.mask


# ---- refusals ------------------------------------------------------------------------------------

cdef enum:
    TEXT_MAX = 512


cdef size_t shown(char *out, Span arg, size_t most) noexcept nogil:
    """Copies at most `most` bytes, up to a NUL, as "%.128s" does."""
    cdef size_t n = 0
    while n < arg.n and n < most and arg.p[n] != 0:
        out[n] = arg.p[n]
        n += 1
    out[n] = 0
    return n


cdef void reject(Dispatch *d, Client *client, Command *cmd, const char *text) noexcept nogil:
    """A command that is not run. In MULTI the transaction is spoiled; EXEC itself is aborted."""
    cdef char abort_text[TEXT_MAX + 64]
    if cmd != NULL:
        cmd.rejected += 1
    if client.flags & CLIENT_MULTI:
        client.flags |= CLIENT_DIRTY
    if cmd != NULL and cmd.flags & C_EXEC:
        snprintf(abort_text, sizeof(abort_text), EXEC_REFUSED,
                 text + 4 if memcmp(text, <const char*>"ERR ", 4) == 0 else text)
        drop_transaction(d, client)
        reply_error(&client.reply, abort_text)
    else:
        reply_error(&client.reply, text)


cdef void reject_unknown(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    """Name and arguments are repeated, 128 bytes of each at most."""
    cdef char text[TEXT_MAX]
    cdef char arg[SHOWN_ARG + 1]
    cdef char args[SHOWN_ARG + 8]
    cdef size_t n = 0
    cdef size_t k
    cdef int i
    args[0] = 0
    for i in range(1, argc):
        if n >= SHOWN_ARG:
            break
        k = shown(arg, argv[i], SHOWN_ARG - n)
        args[n] = c"'"
        memcpy(args + n + 1, arg, k)
        n += k + 3
        args[n - 2] = c"'"
        args[n - 1] = c' '
        args[n] = 0
    shown(arg, argv[0], SHOWN_ARG)
    snprintf(text, sizeof(text), UNKNOWN_COMMAND, arg,
             args)
    reject(d, client, NULL, text)


cdef void close_http(Dispatch *d, Client *client) noexcept nogil:
    """A browser talks HTTP to us, made to by a web page whose request body holds commands
    (cross-protocol scripting): its connection ends with the first line that only HTTP has, before
    any of the body is run, and unanswered. Browsers send Host: before a body, whatever the
    method."""
    client.flags |= CLIENT_KILLED
    if d.steady >= d.next_http_warning:
        d.next_http_warning = d.steady + 60_000
        take_gil(d)
        warn_of_http(client)


cdef void warn_of_http(Client *client) noexcept with gil:
    log.warning("Possible SECURITY ATTACK detected. It looks like somebody is sending POST or "
                "Host: commands to Redis. This is likely due to an "
                "attacker attempting to use Cross Protocol Scripting to compromise your Redis "
                "instance. Connection from %s aborted.",
                client.addr.decode("utf-8", "replace"))


cdef void reject_subcommand(Dispatch *d, Client *client, Command *container,
                            Span sub) noexcept nogil:
    cdef char text[TEXT_MAX]
    cdef char arg[SHOWN_ARG + 1]
    cdef char name[NAME_MAX]
    cdef uint32_t i
    shown(arg, sub, SHOWN_ARG)
    for i in range(container.name_n):
        name[i] = container.name[i] - 32 if c'a' <= container.name[i] <= c'z' else container.name[i]
    name[container.name_n] = 0
    snprintf(text, sizeof(text), UNKNOWN_SUBCOMMAND, arg, name)
    reject(d, client, NULL, text)


cdef int rejected(Dispatch *d, Client *client, Command *cmd) noexcept nogil:
    """Everything but name and arity: 1 when the command has been answered with a refusal."""
    cdef uint32_t effective = cmd.flags
    if cmd.flags & C_EXEC:
        effective |= client.queue_flags & (C_WRITE | C_DENYOOM)
    if not client.flags & CLIENT_AUTHENTICATED and not cmd.flags & C_NO_AUTH:
        reject(d, client, cmd, NO_AUTH)
        return 1
    if client.flags & CLIENT_MULTI and cmd.flags & C_NO_MULTI:
        reject(d, client, cmd, NOT_IN_TRANSACTION)
        return 1
    if effective & C_DENYOOM and d.guard & GUARD_OOM and mem_used() > d.max_memory:
        reject(d, client, cmd, OUT_OF_MEMORY)
        return 1
    if d.guard & GUARD_MISCONF and effective & C_WRITE:
        reject(d, client, cmd, d.misconf)
        return 1
    if d.guard & GUARD_LOADING and not cmd.flags & C_LOADING:
        reject(d, client, cmd, LOADING)
        return 1
    if d.guard & GUARD_CLOCK and effective & C_WRITE:
        reject(d, client, cmd, CLOCK_AHEAD)
        return 1
    return 0


cdef void steady_alone(Dispatch *d) noexcept nogil:
    if d.loop == NULL:
        d.steady = d.kernel.now


cdef void watch_clock(Dispatch *d) noexcept nogil:
    """What is written while the timestamps run ahead would be held back by every replica with a
    right clock, and acknowledged all the same."""
    if stamps_run_ahead(d.kernel):
        d.guard |= GUARD_CLOCK
    else:
        d.guard &= ~<uint32_t>GUARD_CLOCK


cdef void count_error(Dispatch *d, const char *p, size_t n) noexcept nogil:
    """p: an error reply from its '-' on. Counted by its code; "ERR" where it has none."""
    cdef ErrorCount *e
    cdef size_t k = 1
    cdef int i
    d.stats.errors += 1
    while k < n and k < 32 and p[k] != c' ' and p[k] != c'\r':
        k += 1
    if k == 32:
        return
    for i in range(ERROR_CODES):
        e = &d.error_counts[i]
        if e.count == 0:
            memcpy(e.code, p + 1, k - 1)
            e.code[k - 1] = 0
        if memcmp(e.code, p + 1, k - 1) == 0 and e.code[k - 1] == 0:
            e.count += 1
            return


# ---- running -------------------------------------------------------------------------------------

cdef void call_command(Dispatch *d, Client *client, Command *cmd, Span *argv,
                       int argc) noexcept nogil:
    """Runs the handler and counts it. What it owes a client that it blocks is for run_again."""
    cdef size_t at = client.reply.buf.n
    cdef uint64_t begun = d.tick
    cdef uint64_t now
    client.command = cmd
    run_handler(d, client, cmd, argv, argc)
    now = cycles()
    d.tick = now
    now -= begun
    cmd.ticks += now
    cmd.calls += 1
    if not client.flags & CLIENT_BLOCKED:
        note_latency(d, cmd, now)
    d.stats.commands += 1
    count_reply(d, client, cmd, at)
    if now >= d.slow_ticks and not cmd.flags & C_SKIP_SLOWLOG and not client.flags & CLIENT_BLOCKED:
        note_slow(d, client, argv, argc, now)


cdef inline void note_latency(Dispatch *d, Command *cmd, uint64_t ticks) noexcept nogil:
    """A power of two of ticks is at most one off from that of microseconds."""
    cdef int i = highest_bit(ticks) - d.latency_shift
    if i < 0:
        i = 0
    elif i >= LATENCIES:
        i = LATENCIES - 1
    i += i < LATENCIES - 1 and ticks > d.latency_bound[i]
    cmd.took[i] += 1


cdef inline size_t size_of(Span *argv, int argc) noexcept nogil:
    cdef size_t n = 0
    cdef int i
    for i in range(argc):
        n += argv[i].n
    return n


cdef inline void count_changes(Dispatch *d, Command *cmd, Call *c, uint64_t effects) noexcept nogil:
    if c.changes < 0 and cmd.flags & C_ONE_CHANGE and effects:
        c.changes = 1
    if c.changes >= 0:
        d.stats.changes += c.changes - <int64_t>effects


cdef inline void run_handler(Dispatch *d, Client *client, Command *cmd, Span *argv,
                             int argc) noexcept nogil:
    """The only place that does. A command that writes is one op, or part of the one of EXEC."""
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
    if cmd.flags & C_WRITE:
        op_begin(d.kernel)
        # What one effect may hold of the arguments. The handler asks for what more it makes.
        if (cmd.flags & C_DENYOOM and not op_room(d.kernel, client.db, 1, argv[1].n if argc > 1
                                                  else 0, size_of(argv, argc))):
            pass
        elif cmd.native != NULL:
            cmd.native(&c)
        else:
            take_gil(d)
            run_python(d, client, cmd, argv, argc)
        if d.kernel.refused:
            client.reply.buf.n = at
            refuse(&c, TOO_LARGE if d.kernel.refused == REFUSED_LARGE else UNSOUND_RESULT)
        else:
            count_changes(d, cmd, &c, d.kernel.changes - before)
        if op_end(d.kernel):
            mark_wrote(d, client)
    elif cmd.native != NULL:
        cmd.native(&c)
    else:
        take_gil(d)
        run_python(d, client, cmd, argv, argc)


cdef inline void count_reply(Dispatch *d, Client *client, Command *cmd, size_t at) noexcept nogil:
    """An error among the replies counts as one of cmd's. The command's reply begins at `at`."""
    if client.reply.buf.n > at and client.reply.buf.p[at] == c'-':
        cmd.failed += 1
        count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)


cdef inline void mark_wrote(Dispatch *d, Client *client) noexcept nogil:
    client.flags |= CLIENT_WROTE
    client.wrote = d.kernel.actors.v[d.kernel.me].applied
    client.wrote_as = d.kernel.actors.v[d.kernel.me].id


cdef void execute(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    execute_found(d, client, find_command(d, argv[0]), argv, argc)


cdef void execute_found(Dispatch *d, Client *client, Command *cmd, Span *argv,
                        int argc) noexcept nogil:
    cdef size_t at = client.reply.buf.n
    cdef uint32_t before = client.flags
    cdef Command *container
    cdef char text[TEXT_MAX]
    client.reply.keep = at
    if cmd != NULL and cmd.flags & C_CONTAINER and argc > 1:
        container = cmd
        cmd = find_subcommand(d, container, argv[1])
        if cmd == NULL:
            reject_subcommand(d, client, container, argv[1])
            count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)
            finish_reply(client, at, before)
            return
    if cmd == NULL and (is_word(argv[0], "POST") or is_word(argv[0], "HOST:")):
        close_http(d, client)
        return
    if cmd == NULL:
        reject_unknown(d, client, argv, argc)
    elif argc != cmd.arity and (cmd.arity > 0 or argc < -cmd.arity):
        snprintf(text, sizeof(text), WRONG_ARITY, cmd.name)
        reject(d, client, cmd, text)
    elif (d.guard == 0 and client.flags & (CLIENT_MULTI | CLIENT_AUTHENTICATED)
          == CLIENT_AUTHENTICATED):
        call_command(d, client, cmd, argv, argc)
        finish_reply(client, at, before)
        if d.kernel.ready != NULL:
            serve_ready(d)
        return
    elif not rejected(d, client, cmd):
        if client.flags & CLIENT_MULTI and not cmd.flags & C_NO_QUEUE:
            if client.queue.n + size_of(argv, argc) > d.kernel.op_most:
                reject(d, client, cmd, TOO_LARGE)
            else:
                pack_command(&client.queue, argv, argc)
                client.queued += 1
                client.queue_flags |= cmd.flags
                reply_simple(&client.reply, "QUEUED")
        else:
            call_command(d, client, cmd, argv, argc)
        finish_reply(client, at, before)
        if d.kernel.ready != NULL:
            serve_ready(d)
        return
    count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)
    finish_reply(client, at, before)


cdef inline void drop_reply(Reply *r, size_t at, int over) noexcept nogil:
    """Back to its state before a command: `at` bytes, and whether they were over."""
    r.buf.n = at
    r.over = over
    if at == 0 and r.buf.cap > KEEP_REPLY:
        buffer_free(&r.buf)


cdef inline void finish_reply(Client *client, size_t at, uint32_t before) noexcept nogil:
    """CLIENT REPLY OFF and SKIP drop what a command said, if they hold before it (flags) and after
    it, however much it was. One that has blocked its client is not over yet."""
    if before & client.flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP):
        drop_reply(&client.reply, at, 0)
    if client.flags & (CLIENT_REPLY_SKIP | CLIENT_SKIP_NEXT) and not client.flags & CLIENT_BLOCKED:
        client.flags &= ~<uint32_t>CLIENT_REPLY_SKIP
        if client.flags & CLIENT_SKIP_NEXT:
            client.flags = client.flags & ~<uint32_t>CLIENT_SKIP_NEXT | CLIENT_REPLY_SKIP


cdef int must_wait(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    cdef Command *cmd = find_command(d, argv[0])
    if cmd != NULL and cmd.flags & C_CONTAINER and argc > 1:
        cmd = find_subcommand(d, cmd, argv[1])
    if cmd == NULL or (argc != cmd.arity and (cmd.arity > 0 or argc < -cmd.arity)):
        return 0                                            # refused at once
    if not client.flags & CLIENT_AUTHENTICATED and not cmd.flags & C_NO_AUTH:
        return 0
    if d.guard & GUARD_PAUSE_ALL:
        return 1
    return (cmd.flags & C_WRITE) != 0 or (cmd.flags & C_EXEC and client.queue_flags & C_WRITE)

# From argv to reply: which command it is, and whether it may run.
#
# execute() runs one complete command for one client and appends its reply to client.reply. It knows
# no socket: the loop calls it with what it has parsed, and so do unit tests and the simulation
# (Executor.execute). In the common case, a known command with enough arguments, a client that is
# authenticated, may do everything and is not in MULTI, nothing wrong with the server, it costs one
# hash look-up, one test of flags and the handler.
#
# The order in which a command is refused is Redis's: unknown, arity, NOAUTH, not in MULTI, NOPERM,
# BUSY, OOM, MISCONF, not for subscribers, LOADING, our CLOCKAHEAD, not for MONITOR; then MULTI
# queues it.
# A refusal while queueing spoils the transaction: EXEC replies EXECABORT.

from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from crdtredis._resp cimport reply_error, reply_simple
from crdtredis.errors cimport (CLOCK_AHEAD, EXEC_REFUSED, LOADING, MONITOR_KEYSPACE,
                               NOT_IN_SUBSCRIPTION, NOT_IN_TRANSACTION, NO_AUTH, OUT_OF_MEMORY,
                               TOO_LARGE, UNKNOWN_COMMAND, UNKNOWN_SUBCOMMAND, WRONG_ARITY)

cdef enum:
    TEXT_MAX = 512          # bytes of a refusal
    SHOWN_ARG = 128         # of an unknown command and of its arguments that are repeated



# ---- what is not run -----------------------------------------------------------------------------

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
    else:
        client.flags &= ~<uint32_t>CLIENT_CACHING
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
    snprintf(text, sizeof(text), UNKNOWN_COMMAND, arg, args)
    reject(d, client, NULL, text)


cdef void close_http(Dispatch *d, Client *client) noexcept nogil:
    """A browser talks HTTP to us, made to by a web page whose request body holds commands
    (cross-protocol scripting): its connection ends with the first line that only HTTP has, before
    any of the body is run, and without a reply. Browsers send Host: before a body, whatever the
    method."""
    client.flags |= CLIENT_KILLED
    if d.steady >= d.next_http_warning:
        d.next_http_warning = d.steady + 60_000
        take_gil(&d.gil)
        warn_of_http(client)


cdef void warn_of_http(Client *client) noexcept with gil:
    log.warning("Possible SECURITY ATTACK detected. It looks like somebody is sending POST or "
                "Host: commands to Redis. This is likely due to an attacker attempting to use "
                "Cross Protocol Scripting to compromise your Redis instance. Connection from %s "
                "aborted.",
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


cdef int is_denied(Dispatch *d, Client *client, Command *cmd, Span *argv, int argc) noexcept nogil:
    """1 when the user may not run it."""
    cdef char text[TEXT_MAX]
    cdef int at
    cdef int denied = acl_check(d, client, cmd, argv, argc, &at)
    if denied == DENIED_NOTHING:
        return 0
    client.command = cmd
    if denied == DENIED_COMMAND and cmd.flags & C_UNSEEN:
        reject_subcommand(d, client, find_command(&d.table, argv[0]), argv[1])
        return 1
    acl_note(d, client, cmd, denied, ACL_MULTI if client.flags & CLIENT_MULTI else ACL_TOPLEVEL,
             argv, at)
    acl_text(text, sizeof(text), client, cmd, denied)
    reject(d, client, cmd, text)
    return 1


cdef int is_rejected(Dispatch *d, Client *client, Command *cmd, Span *argv,
                     int argc) noexcept nogil:
    """1 when the command was refused, for whatever but its name and arity."""
    cdef uint32_t effective = cmd.flags
    cdef char text[TEXT_MAX]
    if cmd.flags & C_EXEC:
        effective |= client.queue_flags & (C_WRITE | C_DENYOOM)
    if not client.flags & CLIENT_AUTHENTICATED and not cmd.flags & C_NO_AUTH:
        reject(d, client, cmd, NO_AUTH)
        return 1
    if client.flags & CLIENT_MULTI and cmd.flags & C_NO_MULTI:
        reject(d, client, cmd, NOT_IN_TRANSACTION)
        return 1
    if client.flags & CLIENT_LIMITED and is_denied(d, client, cmd, argv, argc):
        return 1
    if d.guard & GUARD_BUSY and not cmd.flags & C_ALLOW_BUSY:
        reject(d, client, cmd, d.scripting.busy_text)
        return 1
    # a script's own commands ask no more: room is made before it
    if (effective & (C_DENYOOM | C_MAY_REPLICATE) and d.guard & GUARD_OOM
            and not has_room(d) and effective & C_DENYOOM):
        reject(d, client, cmd, OUT_OF_MEMORY)
        return 1
    if d.guard & GUARD_MISCONF and effective & C_WRITE:
        reject(d, client, cmd, d.misconf)
        return 1
    if (client.flags & CLIENT_SUBSCRIBED and client.reply.resp == 2
            and not cmd.flags & C_SUBSCRIBED):
        snprintf(text, sizeof(text), NOT_IN_SUBSCRIPTION, cmd.name)
        reject(d, client, cmd, text)
        return 1
    if d.guard & GUARD_LOADING and not cmd.flags & C_LOADING:
        reject(d, client, cmd, LOADING)
        return 1
    if d.guard & GUARD_CLOCK and effective & C_WRITE:
        reject(d, client, cmd, CLOCK_AHEAD)
        return 1
    if (client.flags & CLIENT_MONITOR
            and effective & (C_WRITE | C_MAY_REPLICATE | C_READONLY)):
        reject(d, client, cmd, MONITOR_KEYSPACE)
        return 1
    return 0


# ---- what is -------------------------------------------------------------------------------------

cdef void execute(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    execute_found(d, client, find_command(&d.table, argv[0]), argv, argc)


cdef void execute_found(Dispatch *d, Client *client, Command *cmd, Span *argv,
                        int argc) noexcept nogil:
    cdef size_t at = client.reply.buf.n
    cdef uint32_t before = client.flags
    cdef Command *container
    cdef char text[TEXT_MAX]
    client.reply.keep = at
    if cmd != NULL and cmd.flags & C_CONTAINER and argc > 1:
        container = cmd
        cmd = find_subcommand(&d.table, container, argv[1])
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
    elif not arity_fits(cmd, argc):
        snprintf(text, sizeof(text), WRONG_ARITY, cmd.name)
        reject(d, client, cmd, text)
    elif (d.guard == 0 and client.flags & (CLIENT_MULTI | CLIENT_AUTHENTICATED
                                               | CLIENT_SUBSCRIBED | CLIENT_MONITOR
                                               | CLIENT_LIMITED)
          == CLIENT_AUTHENTICATED):
        call_command(d, client, cmd, argv, argc)
        finish_reply(client, at, before)
        if d.kernel.watched.ready != NULL:
            serve_ready(d)
        return
    elif not is_rejected(d, client, cmd, argv, argc):
        if client.flags & CLIENT_MULTI and not cmd.flags & C_NO_QUEUE:
            if client.queue.n + size_of(argv, argc) > d.kernel.open.most:
                reject(d, client, cmd, TOO_LARGE)
            else:
                pack_command(&client.queue, argv, argc)
                client.queued += 1
                client.queue_flags |= cmd.flags
                reply_simple(&client.reply, "QUEUED")
        else:
            call_command(d, client, cmd, argv, argc)
        finish_reply(client, at, before)
        if d.kernel.watched.ready != NULL:
            serve_ready(d)
        return
    count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)
    finish_reply(client, at, before)


cdef int reads(Dispatch *d, Command *cmd, Span *argv) noexcept nogil:
    """It changes nothing, nor may what it runs."""
    return (not cmd.flags & (C_WRITE | C_MAY_REPLICATE)
            or (cmd.reads_only != NULL and cmd.reads_only(d, argv[1])))


cdef int queue_reads(Dispatch *d, Client *client) noexcept nogil:
    """Asked of each script again: one of this name may write that did not when it was queued."""
    cdef const char *p = client.queue.p
    cdef Span *argv = NULL
    cdef uint32_t i
    cdef int all_read = not client.queue_flags & C_WRITE
    cdef int cap = 0
    cdef int argc = 0
    for i in range(client.queued if client.queue_flags & C_MAY_REPLICATE else 0):
        if not all_read:
            break
        p = unpack_command(p, &argv, &cap, &argc)
        all_read = reads(d, find_whole_command(&d.table, argv, argc), argv)
    free(argv)
    return all_read


cdef int must_wait(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil:
    cdef Command *cmd = find_whole_command(&d.table, argv, argc)
    if cmd == NULL or not arity_fits(cmd, argc):
        return 0                                            # rejected at once
    if (client.flags & CLIENT_MONITOR
            or (not client.flags & CLIENT_AUTHENTICATED and not cmd.flags & C_NO_AUTH)):
        return 0
    if d.guard & GUARD_PAUSE_ALL:
        return 1
    return not (queue_reads(d, client) if cmd.flags & C_EXEC else reads(d, cmd, argv))

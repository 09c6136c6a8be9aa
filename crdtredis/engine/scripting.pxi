# Scripts: how the commands they call are run, and what others see while a script runs for long.
#
# A script is one op: it begins and ends here, and the commands between are parts of it, as those of
# EXEC are. They run for a client of their own (script_client), with its own database and dialect,
# so what a script selects is nothing to its caller. Nobody blocks in it. Time stands still: the
# kernel's clock moves between iterations.
#
# What a script's command is refused for is Redis's list: unknown, arity, not for scripts, a write
# in a script that only reads; and, as long as the script has written nothing, what would refuse it
# outside. Once it has written it goes on whatever happens, since half a script is worse.
#
# A script that runs for longer than busy_ms lets the loop serve other clients now and then
# (script_tick). Until it ends they are refused with BUSY, but for the commands that may be run all
# the same (allow_busy). Ops of peers wait. SCRIPT KILL ends a script that has written nothing. What
# a script has written cannot be taken back, and half of it must not be made an op: so the end of
# the server (SHUTDOWN NOSAVE, a signal) while such a script runs is the end of the process, as if
# it had been killed. Nothing of the script is in the log then, nor acknowledged.

from libc.stdint cimport INT64_MAX, int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from crdtredis._core cimport op_begin, op_end
from crdtredis._resp cimport reply_error
from crdtredis.buffer cimport Span, buffer_free, need_memory, span
from crdtredis.errors cimport (BUSY_FUNCTION, BUSY_SCRIPT, CLOCK_AHEAD, NOT_FROM_SCRIPT,
                               OUT_OF_MEMORY, SCRIPT_ARITY, SCRIPT_NO_PERMISSION,
                               SCRIPT_READ_ONLY_TEXT, SCRIPT_UNKNOWN, TOO_LARGE)

cdef enum:
    SCRIPT_REPLY = 64 << 10     # bytes of the buffer for replies that are kept


cdef Client *script_client_of(Dispatch *d) noexcept nogil:
    if d.scripting.client == NULL:
        d.scripting.client = <Client*>need_memory(malloc(sizeof(Client)))
        client_init(d, d.scripting.client, 2)
        leave_user(d.scripting.client)            # its caller's rights hold
        d.newest_client -= 1                      # it has no number
        d.scripting.client.id = 0
    return d.scripting.client


cdef void scripting_free(Dispatch *d) noexcept nogil:
    if d.scripting.client != NULL:
        client_free(d, d.scripting.client)
        free(d.scripting.client)


cdef void script_begin(Call *c, ScriptRun *run, uint32_t flags) noexcept nogil:
    cdef Dispatch *d = c.dispatch
    memset(run, 0, sizeof(ScriptRun))
    run.dispatch = d
    run.caller = c.client
    run.argv = c.argv
    run.argc = c.argc
    run.begun = d.steady
    run.client = script_client_of(d)
    run.flags = flags
    run.out_of_memory = d.guard & GUARD_OOM and is_full(d)
    run.client.db = c.db
    run.client.flags = (CLIENT_AUTHENTICATED | CLIENT_IN_EXEC | CLIENT_SCRIPT
                        | c.client.flags & CLIENT_NO_TOUCH)
    run.client.active = d.steady
    run.slow_at = INT64_MAX
    if d.loop != NULL and d.scripting.busy_ms > 0:
        run.slow_at = d.steady + d.scripting.busy_ms
    d.scripting.busy_text = BUSY_FUNCTION if flags & SCRIPT_FUNCTION else BUSY_SCRIPT
    d.scripting.run = run
    op_begin(d.kernel)


cdef void script_end(ScriptRun *run) noexcept nogil:
    cdef Dispatch *d = run.dispatch
    d.scripting.run = NULL
    d.guard &= ~<uint32_t>GUARD_BUSY
    if op_end(d.kernel):
        mark_wrote(d, run.caller)
    run.client.reply.buf.n = 0
    if run.client.reply.buf.cap > SCRIPT_REPLY:
        buffer_free(&run.client.reply.buf)
    end_session(d, run.client)


cdef void script_refuse(ScriptRun *run, Command *cmd, const char *text) noexcept nogil:
    if cmd != NULL:
        cmd.rejected += 1
    reply_error(&run.client.reply, text)
    count_error(run.dispatch, run.client.reply.buf.p, run.client.reply.buf.n)


cdef int denied_in_script(ScriptRun *run, Command *cmd, Span *argv, int argc) noexcept nogil:
    """1 when the user who runs the script may not run this."""
    cdef char text[TEXT_MAX]
    cdef char whole[TEXT_MAX + 64]
    cdef int at
    cdef int denied = acl_check(run.dispatch, run.caller, cmd, argv, argc, &at)
    if denied == DENIED_NOTHING:
        return 0
    acl_note(run.dispatch, run.caller, cmd, denied, ACL_SCRIPT, argv, at)
    acl_text(text, sizeof(text), run.caller, cmd, denied)
    snprintf(whole, sizeof(whole), SCRIPT_NO_PERMISSION, text + 7)      # behind "NOPERM "
    script_refuse(run, cmd, whole)
    return 1


cdef void script_call(ScriptRun *run, Span *argv, int argc, int resp, Span *reply) noexcept nogil:
    cdef Dispatch *d = run.dispatch
    cdef Client *client = run.client
    cdef Command *cmd = find_whole_command(&d.table, argv, argc)
    client.reply.buf.n = 0
    client.reply.over = 0
    client.reply.keep = 0
    client.reply.resp = resp
    if cmd == NULL:
        script_refuse(run, NULL, SCRIPT_UNKNOWN)
    elif not arity_fits(cmd, argc):
        script_refuse(run, cmd, SCRIPT_ARITY)
    elif cmd.flags & C_NOSCRIPT and not d.scripting.all_commands:
        script_refuse(run, cmd, NOT_FROM_SCRIPT)
    elif run.caller.flags & CLIENT_LIMITED and denied_in_script(run, cmd, argv, argc):
        pass
    elif cmd.flags & (C_WRITE | C_MAY_REPLICATE) and run.flags & SCRIPT_READ_ONLY:
        script_refuse(run, cmd, SCRIPT_READ_ONLY_TEXT)
    elif (cmd.flags & C_DENYOOM and run.out_of_memory and not run.wrote
          and not run.flags & SCRIPT_ALLOW_OOM):
        script_refuse(run, cmd, OUT_OF_MEMORY)
    elif cmd.flags & C_WRITE and not run.wrote and d.guard & GUARD_MISCONF:
        script_refuse(run, cmd, d.misconf)
    elif cmd.flags & C_WRITE and not run.wrote and d.guard & GUARD_CLOCK:
        script_refuse(run, cmd, CLOCK_AHEAD)
    elif not remainders_fit(d, client, cmd, argv, argc):
        script_refuse(run, cmd, TOO_LARGE)
    else:
        run.wrote |= (cmd.flags & C_WRITE) != 0
        d.stopwatch.at = cycles()
        call_command(d, client, cmd, argv, argc)
    reply[0] = span(client.reply.buf.p, client.reply.buf.n)


cdef int script_tick(ScriptRun *run, int64_t now) noexcept nogil:
    cdef Dispatch *d = run.dispatch
    share_gil(&d.gil)
    if now < run.slow_at:
        return 0
    if not run.busy:
        run.busy = 1
        warn_of_slow_script(run)
    d.guard |= GUARD_BUSY
    if d.scripting.serve_others != NULL:
        d.scripting.serve_others(d.loop)
    return run.killed


cdef void warn_of_slow_script(ScriptRun *run) noexcept nogil:
    take_gil(&run.dispatch.gil)
    say_slow_script(run)


cdef void say_slow_script(ScriptRun *run) noexcept with gil:
    log.warning("Slow script detected: still in execution after %d milliseconds. You can try "
                "killing the script using the SCRIPT KILL command. Client %s.",
                run.dispatch.scripting.busy_ms, run.caller.addr.decode("utf-8", "replace"))


cdef int script_allowed(Dispatch *d, Span *argv, int argc) noexcept nogil:
    cdef Command *cmd = find_whole_command(&d.table, argv, argc)
    cdef Client *caller = d.scripting.run.caller if d.scripting.run != NULL else NULL
    cdef int at
    if cmd == NULL:
        return -1
    return (caller == NULL or not caller.flags & CLIENT_LIMITED
            or acl_check(d, caller, cmd, argv, argc, &at) == DENIED_NOTHING)


cdef int script_kill(Dispatch *d, int function) noexcept nogil:
    if d.scripting.run == NULL:
        return 0
    if (d.scripting.run.flags & SCRIPT_FUNCTION != 0) != function:
        return -2
    if d.scripting.run.wrote:
        return -1
    d.scripting.run.killed = 1
    return 1

# EXEC: the queued commands as one op.
#
# Queued commands are flat bytes in Client.queue, since the parser's buffer moves on. EXEC runs them
# between one op_begin and op_end, so all their effects are one op, applied everywhere at once or
# not yet.

from libc.stdint cimport uint32_t
from libc.stdlib cimport free
from libc.string cimport memset

from crdtredis._core cimport key_find, op_begin, op_end, op_fits, remainder_size
from crdtredis._resp cimport reply_array, reply_null_array
from crdtredis.buffer cimport Buffer, Span, buffer_free
from crdtredis.errors cimport EXEC_ABORTED, EXEC_WITHOUT_MULTI, NO_PERMISSION_ANY_MORE


cdef void exec_queued(Call *c) noexcept nogil:
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
        cmd = find_whole_command(&d.table, argv, argc)
        at = c.reply.buf.n
        over = c.reply.over
        if not over:
            c.reply.keep = at
        before = client.flags
        if not remainders_fit(d, client, cmd, argv, argc):
            refuse_too_large(c)            # what has run stands, as after any error inside EXEC
        elif client.flags & CLIENT_LIMITED and denied_in_exec(c, me, cmd, argv, argc):
            count_error(d, c.reply.buf.p + at, c.reply.buf.n - at)
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


cdef int denied_in_exec(Call *c, Command *exec_, Command *cmd, Span *argv,
                        int argc) noexcept nogil:
    """1 when the user may not run it any more."""
    cdef char text[TEXT_MAX]
    cdef int at
    cdef int denied = acl_check(c.dispatch, c.client, cmd, argv, argc, &at)
    if denied == DENIED_NOTHING:
        return 0
    c.client.command = exec_
    acl_note(c.dispatch, c.client, cmd, denied, ACL_MULTI, argv, at)
    snprintf(text, sizeof(text), NO_PERMISSION_ANY_MORE,
             <const char*>b"no permission to execute the command or subcommand"
             if denied == DENIED_COMMAND
             else <const char*>b"no permission to touch the specified keys"
             if denied == DENIED_KEY
             else <const char*>b"no permission to access one of the channels used as arguments to "
                               b"the command")
    refuse(c, text)
    return 1


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

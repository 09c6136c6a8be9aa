# Connection commands that cost nothing but their dispatch: PING, ECHO, SELECT, QUIT, RESET,
# MONITOR. The others are in client.py.

from libc.stdint cimport int64_t, uint32_t

from crdtredis._core cimport SYSTEM_DB
from crdtredis._engine cimport (CLIENT_CLOSE, CLIENT_IN_EXEC, CLIENT_MONITOR, CLIENT_SUBSCRIBED,
                                Call, monitor_begin, native, refuse, refuse_arity, refuse_int,
                                reset_client)
from crdtredis._resp cimport reply_array, reply_bulk, reply_ok, reply_simple
from crdtredis.errors cimport DB_INDEX, MONITOR_IN_EXEC
from crdtredis.numbers cimport parse_int64

from crdtredis.commands.table import command


cdef void ping(Call *c) noexcept nogil:
    if c.argc > 2:
        refuse_arity(c)
    elif c.client.flags & CLIENT_SUBSCRIBED and c.reply.resp == 2:
        # told from a reply by its form
        reply_array(c.reply, 2)
        reply_bulk(c.reply, "pong", 4)
        reply_bulk(c.reply, c.argv[c.argc - 1].p, c.argv[1].n if c.argc == 2 else 0)
    elif c.argc == 2:
        reply_bulk(c.reply, c.argv[1].p, c.argv[1].n)
    else:
        reply_simple(c.reply, "PONG")


cdef void echo(Call *c) noexcept nogil:
    reply_bulk(c.reply, c.argv[1].p, c.argv[1].n)


cdef void select(Call *c) noexcept nogil:
    cdef int64_t db
    if not parse_int64(c.argv[1].p, c.argv[1].n, &db):
        refuse_int(c)
    elif db < 0 or db >= SYSTEM_DB:
        refuse(c, DB_INDEX)
    else:
        c.client.db = <uint32_t>db
        reply_ok(c.reply)


cdef void quit(Call *c) noexcept nogil:
    c.client.flags |= CLIENT_CLOSE
    reply_ok(c.reply)


cdef void reset(Call *c) noexcept nogil:
    reset_client(c.dispatch, c.client)
    reply_simple(c.reply, "RESET")


cdef void monitor(Call *c) noexcept nogil:
    if c.client.flags & CLIENT_IN_EXEC:
        refuse(c, MONITOR_IN_EXEC)
    elif not c.client.flags & CLIENT_MONITOR:           # a second time: no reply, as in Redis
        monitor_begin(c.dispatch, c.client)
        reply_ok(c.reply)


command("PING [message]", arity=-1, flags="fast subscribed", group="connection", since="1.0.0",
        tips="request_policy:all_shards response_policy:all_succeeded",
        summary="Answers PONG, or its argument.")(native(ping))
command("ECHO message", arity=2, flags="loading stale fast", group="connection", since="1.0.0",
        summary="Answers its argument.")(native(echo))
command("SELECT index", arity=2, flags="loading stale fast", group="connection", since="1.0.0",
        summary="Changes the database of this connection.")(native(select))
command("QUIT", arity=-1,
        flags="noscript loading stale fast no_auth allow_busy no_queue subscribed",
        group="connection", since="1.0.0",
        summary="Closes the connection once the replies so far are sent.")(native(quit))
command("RESET", arity=1,
        flags="noscript loading stale fast no_auth allow_busy no_queue subscribed",
        group="connection", since="6.2.0",
        summary="Puts the connection back as it was when it was new.")(native(reset))
command("MONITOR", arity=1, flags="admin noscript loading stale", group="server", since="1.0.0",
        summary="Shows this connection every command that runs here.")(native(monitor))

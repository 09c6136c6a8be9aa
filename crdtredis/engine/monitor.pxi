# MONITOR: every command that runs is shown to the clients that asked for it, as one line.
#
#     +1700000000.123456 [0 127.0.0.1:50000] "set" "k" "v"
#     +1700000000.123457 [0 lua] "get" "k"
#
# A command is shown when it has run, so behind those of its script or transaction, but scripts
# before their own. Not shown are commands that were refused, those of administrators, and
# passwords. A line is a message (pubsub.pxi), so a client that monitors and does not read costs
# memory up to an output limit: its class is normal, and where that has none, replica.

from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport strlen

from crdtredis._resp cimport Reply
from crdtredis.buffer cimport Buffer, Span, buffer_add, buffer_need


cdef void monitor_begin(Dispatch *d, Client *client) noexcept nogil:
    client.flags |= CLIENT_MONITOR
    client.next_monitor = d.monitors
    client.prev_monitor = NULL
    if d.monitors != NULL:
        d.monitors.prev_monitor = client
    d.monitors = client


cdef void monitor_end(Dispatch *d, Client *client) noexcept nogil:
    if not client.flags & CLIENT_MONITOR:
        return
    client.flags &= ~<uint32_t>CLIENT_MONITOR
    if client.prev_monitor != NULL:
        client.prev_monitor.next_monitor = client.next_monitor
    else:
        d.monitors = client.next_monitor
    if client.next_monitor != NULL:
        client.next_monitor.prev_monitor = client.prev_monitor


cdef void add_shown(Buffer *b, Span arg) noexcept nogil:
    """The argument in quotes, with what is not printable escaped."""
    cdef char *out = buffer_need(b, 4 * arg.n + 2)
    cdef const char *digits = "0123456789abcdef"
    cdef size_t n = 1, i
    cdef uint8_t ch
    cdef char letter
    out[0] = c'"'
    for i in range(arg.n):
        ch = <uint8_t>arg.p[i]
        letter = (<char>ch if ch == c'\\' or ch == c'"' else c'n' if ch == c'\n' else
                  c'r' if ch == c'\r' else c't' if ch == c'\t' else c'a' if ch == c'\a' else
                  c'b' if ch == c'\b' else 0)
        if letter:
            out[n] = c'\\'
            out[n + 1] = letter
            n += 2
        elif 32 <= ch < 127:
            out[n] = <char>ch
            n += 1
        else:
            out[n] = c'\\'
            out[n + 1] = c'x'
            out[n + 2] = digits[ch >> 4]
            out[n + 3] = digits[ch & 15]
            n += 4
    out[n] = c'"'
    b.n += n + 1


cdef Shared *monitor_line(Client *client, Span *argv, int argc) noexcept nogil:
    cdef Reply r
    cdef timespec t
    cdef char head[128]
    cdef int i
    clock_gettime(CLOCK_REALTIME, &t)
    i = snprintf(head, sizeof(head), "+%ld.%06ld [%u ", t.tv_sec, t.tv_nsec // 1000, client.db)
    shared_begin(&r, 2, 128)
    buffer_add(&r.buf, head, <size_t>i)
    if client.flags & CLIENT_SCRIPT:
        buffer_add(&r.buf, "lua", 3)
    elif client.flags & CLIENT_UNIX:
        buffer_add(&r.buf, "unix:", 5)
        buffer_add(&r.buf, client.addr, strlen(client.addr) - 2)        # without its port, ":0"
    else:
        buffer_add(&r.buf, client.addr, strlen(client.addr))
    buffer_add(&r.buf, "]", 1)
    for i in range(argc):
        buffer_add(&r.buf, " ", 1)
        if hides(argv, argc, i):
            buffer_add(&r.buf, "\"(redacted)\"", 12)
        else:
            add_shown(&r.buf, argv[i])
    buffer_add(&r.buf, "\r\n", 2)
    return shared_of(&r.buf)


cdef void monitor_show(Dispatch *d, Client *client, Command *cmd, Span *argv,
                       int argc) noexcept nogil:
    cdef Client *to = d.monitors
    cdef Shared *line
    if to == NULL or cmd.flags & C_ADMIN or d.guard & GUARD_LOADING:
        return
    line = monitor_line(client, argv, argc)
    while to != NULL:
        if not to.flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP):
            push_to(d, to, line, 0)
        to = to.next_monitor
    let_go(line)

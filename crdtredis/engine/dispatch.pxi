# What the parts that run commands share: time, counts of errors, the ends of replies.

import logging

from libc.string cimport memcmp, memcpy

from crdtredis._core cimport stamps_run_ahead
from crdtredis.buffer cimport buffer_free

cdef object log = logging.getLogger("crdtredis.engine")

cdef enum:
    KEEP_REPLY = 64 << 10   # bytes; a larger reply buffer is given back once it is empty


cdef void steady_alone(Dispatch *d) noexcept nogil:
    if d.loop == NULL:
        d.steady = d.kernel.now


cdef void check_clock(Dispatch *d) noexcept nogil:
    """What is written while the stamps run ahead would be held back by every replica with a right
    clock, and acknowledged all the same."""
    if stamps_run_ahead(d.kernel):
        d.guard |= GUARD_CLOCK
    else:
        d.guard &= ~<uint32_t>GUARD_CLOCK


cdef inline int iteration_is_full(Dispatch *d) noexcept nogil:
    return d.kernel.outbox.size > d.ops_limit


# ---- errors that are counted ---------------------------------------------------------------------

cdef void count_error(Dispatch *d, const char *p, size_t n) noexcept nogil:
    cdef ErrorCount *e
    cdef size_t k = 1
    cdef int i
    d.stats.errors += 1
    while k < n and k < 32 and p[k] != c' ' and p[k] != c'\r':
        k += 1
    if k == 32:
        return
    for i in range(ERROR_CODES):
        e = &d.errors[i]
        if e.count == 0:
            memcpy(e.code, p + 1, k - 1)
            e.code[k - 1] = 0
        if memcmp(e.code, p + 1, k - 1) == 0 and e.code[k - 1] == 0:
            e.count += 1
            return


cdef inline void count_reply(Dispatch *d, Client *client, Command *cmd, size_t at) noexcept nogil:
    if client.reply.buf.n > at and client.reply.buf.p[at] == c'-':
        cmd.failed += 1
        if client.flags & CLIENT_COUNTED:
            client.flags &= ~<uint32_t>CLIENT_COUNTED
        else:
            count_error(d, client.reply.buf.p + at, client.reply.buf.n - at)


# ---- replies -------------------------------------------------------------------------------------

cdef inline void begin_reply(Dispatch *d, Client *client) noexcept nogil:
    if client.fd >= 0:
        d.port.begin_reply(d.port.owner, client)
    client.reply.keep = client.reply.buf.n


cdef void end_reply(Dispatch *d, Client *client, size_t at) noexcept nogil:
    finish_reply(client, at, client.flags)
    if client.fd >= 0:
        d.port.wake(d.port.owner, client, client.reply.buf.n > at)


cdef inline void drop_reply(Reply *r, size_t at, int over) noexcept nogil:
    """Back to its state before a command: `at` bytes, and whether they were over."""
    r.buf.n = at
    r.over = over
    if at == 0 and r.buf.cap > KEEP_REPLY:
        buffer_free(&r.buf)


cdef void place_pushes(Client *client) noexcept nogil:
    """Those that waited for the end of the command."""
    cdef Push *p = <Push*>client.pushes.p
    cdef size_t i = client.pushes.n // sizeof(Push)
    client.flags &= ~<uint32_t>CLIENT_PUSHED
    while i and p[i - 1].at == <size_t>LATE:
        i -= 1
        p[i].at = client.reply.buf.n


cdef void end_caching(Client *client) noexcept nogil:
    """CLIENT CACHING holds for the next command that is not of CLIENT, or the transaction that it
    begins."""
    if (not client.flags & CLIENT_MULTI
            and memcmp(client.command.name, <const char*>b"client|", 7) != 0):
        client.flags &= ~<uint32_t>CLIENT_CACHING


cdef inline void finish_reply(Client *client, size_t at, uint32_t before) noexcept nogil:
    if before & client.flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP):
        drop_reply(&client.reply, at, 0)
    if (not client.flags & (CLIENT_REPLY_SKIP | CLIENT_SKIP_NEXT | CLIENT_PUSHED
                             | CLIENT_CACHING)
            or client.flags & CLIENT_BLOCKED):
        return
    if client.flags & CLIENT_PUSHED:
        place_pushes(client)
    if client.flags & CLIENT_CACHING:
        end_caching(client)
    if client.flags & (CLIENT_REPLY_SKIP | CLIENT_SKIP_NEXT):
        client.flags &= ~<uint32_t>CLIENT_REPLY_SKIP
        if client.flags & CLIENT_SKIP_NEXT:
            client.flags = client.flags & ~<uint32_t>CLIENT_SKIP_NEXT | CLIENT_REPLY_SKIP

# What is due for clients that do nothing: timeouts, soft limits, memory given back.

from libc.stdint cimport int64_t, uint32_t

from crdtredis._resp cimport parser_trim
from crdtredis.buffer cimport buffer_free

cdef enum:
    IDLE_MS = 2000          # after which a client's empty buffers are given back


cdef void check_idle(Connections self, int hz) noexcept nogil:
    cdef uint32_t n = self.connected // <uint32_t>hz + 5
    cdef Conn *c
    cdef int64_t idle
    if self.cron_at == NULL:
        self.memory_so_far = 0
    while n and self.first != NULL:
        n -= 1
        c = self.cron_at
        if c == NULL:
            c = self.first
        self.cron_at = c.next
        self.memory_so_far += client_memory(&c.client, c)
        if self.most_memory:
            count_memory(self, c)
        idle = self.d.steady - c.client.active
        if end_invalid(self, c):
            pass
        elif (self.timeout and idle > self.timeout * 1000
                and not c.client.flags & (CLIENT_BLOCKED | CLIENT_SUBSCRIBED | CLIENT_MONITOR)):
            self.counts.timed_out += 1
            kill(self, c)
        elif c.out_head != NULL:
            check_output(self, c)
        elif idle > IDLE_MS and c.client.reply.buf.n == 0:
            buffer_free(&c.client.reply.buf)
            if c.parser.buf.n == 0 and not c.client.flags & CLIENT_BLOCKED:
                parser_trim(&c.parser)
        if self.cron_at == NULL:
            break
    if self.cron_at == NULL:
        self.memory = self.memory_so_far

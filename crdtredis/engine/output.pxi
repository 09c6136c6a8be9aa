# Sending clients what they are owed. What a socket does not take waits in blocks of its connection.

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from crdtredis._resp cimport Reply
from crdtredis.buffer cimport (Buffer, Span, buffer_add, buffer_free, buffer_grow, need_memory,
                               span)

cdef enum:
    SMALL_REST = 16 << 10   # unsent bytes that are copied together rather than kept as a block
    SMALL_MESSAGE = 512     # bytes of a message that is copied rather than shared
    SEND_SLICE = 4 << 20    # bytes one client may be sent in an iteration
    # unread bytes for which who is not logged in is dropped, as in Redis
    STRANGER_REST = 16 << 10


cdef void send_all(Connections self, int poll) noexcept nogil:
    cdef Conn *c = self.to_send
    cdef Conn *next
    # while a script lets others speak, the list of jobs is that of an interrupted process_ready
    cdef int threads = self.threads != NULL and self.d.scripting.run == NULL
    self.to_send = NULL
    if threads:
        begin_jobs(self.threads)
    while c != NULL:
        next = c.next_send
        c.state &= ~<uint32_t>CONN_SEND
        if c.client.flags & CLIENT_KILLED or not may_send(self, c):
            kill(self, c)
        elif not threads or not (c.out_head != NULL or c.client.reply.buf.n):
            send_conn(self, c, NULL)
        elif prepare_job(self.threads, c, JOB_SEND) == NULL:
            send_jobs(self)
            begin_jobs(self.threads)
            prepare_job(self.threads, c, JOB_SEND)
        if self.most_memory:
            count_memory(self, c)
        c = next
    if threads:
        if poll:
            prepare_poll(self.threads, self.ep)
        send_jobs(self)


cdef void send_jobs(Connections self) noexcept nogil:
    cdef Threads *t = self.threads
    cdef int given = give_jobs(t)
    cdef uint32_t i
    if given:
        await_all(t)
    for i in range(t.jobs_n):
        if t.jobs[i].kind == JOB_POLL:
            t.polled_n = max(<int>t.jobs[i].got, 0)
            break
        send_conn(self, t.jobs[i].conn, &t.jobs[i] if given else NULL)
        self.counts.threaded_writes += <uint32_t>given
        if self.most_memory:
            count_memory(self, t.jobs[i].conn)
    if given:
        self.threaded_at = self.d.steady


cdef inline int may_send(Connections self, Conn *c) noexcept nogil:
    """All that it is owed is then in its reply buffer, or in its blocks. 0: that is too much."""
    cdef Reply *r = &c.client.reply
    # What one iteration made counts whole, as in Redis, whether the socket would take it or not.
    cdef size_t limit = hard_limit(self, &c.client)
    if r.over or (limit and c.out_bytes + r.buf.n + c.client.push_bytes > limit):
        self.counts.closed_output += 1
        return 0
    if c.client.pushes.n:
        keep_pushes(self, c)
    if c.out_head != NULL and r.buf.n:
        keep_rest(self, c, 0)
    return 1


cdef inline ssize_t sent_by(Conn *c, Job *j) noexcept nogil:
    """As offer(), which a thread has called if j is not NULL."""
    if j == NULL:
        return offer(c)
    return j.got if j.got >= 0 else fail_with(j.error)


cdef void send_conn(Connections self, Conn *c, Job *j) noexcept nogil:
    cdef Reply *r = &c.client.reply
    cdef ssize_t sent
    if c.out_head == NULL:
        if r.buf.n:
            sent = sent_by(c, j)
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    self.counts.broken += c.tls != NULL
                    kill(self, c)
                    return
                sent = 0
            self.counts.net_out += <uint64_t>sent
            if <size_t>sent == r.buf.n:
                r.buf.n = 0
                if r.buf.cap > KEEP_REPLY:
                    buffer_free(&r.buf)
            else:
                keep_rest(self, c, <size_t>sent)
                want_out(self, c, 1)
                if c.tls != NULL and sent:
                    add_send(self, c)       # perhaps only its share was used up
    elif not write_out(self, c, j):
        return
    if c.out_head != NULL:
        check_output(self, c)
    elif c.client.flags & CLIENT_CLOSE:
        kill(self, c)


cdef OutBlock *add_block(Conn *c) noexcept nogil:
    cdef OutBlock *o = <OutBlock*>need_memory(calloc(1, sizeof(OutBlock)))
    if c.out_tail != NULL:
        c.out_tail.next = o
    else:
        c.out_head = o
    c.out_tail = o
    c.out_blocks += 1
    return o


cdef void keep_bytes(Conn *c, const char *p, size_t n, int many) noexcept nogil:
    """A copy goes to the end of the queue. many: more will follow."""
    cdef OutBlock *o = c.out_tail
    if n == 0:
        return
    if o == NULL or o.shared != NULL or o.buf.n >= SMALL_REST:
        o = add_block(c)
        if many:
            buffer_grow(&o.buf, SMALL_REST)
    buffer_add(&o.buf, p, n)
    c.out_bytes += n


cdef void keep_pushes(Connections self, Conn *c) noexcept nogil:
    """Replies and the messages between them go to the end of the queue: small messages are put
    together, of the others there is one copy for all who get it."""
    cdef Buffer *b = &c.client.reply.buf
    cdef Push *p = <Push*>c.client.pushes.p
    cdef size_t n = c.client.pushes.n // sizeof(Push)
    cdef size_t i, to, at = 0
    cdef OutBlock *o
    for i in range(n):
        to = p[i].at if p[i].at < b.n else b.n
        if to > at:
            keep_bytes(c, b.p + at, to - at, 0)
            at = to
        if p[i].message.n <= SMALL_MESSAGE and (n > 1 or c.out_tail != NULL
                                                and c.out_tail.shared == NULL):
            keep_bytes(c, <char*>p[i].message + sizeof(Shared), p[i].message.n, n > 8)
        else:
            o = add_block(c)
            o.shared = p[i].message
            o.shared.holders += 1
            c.out_bytes += o.shared.n
    keep_bytes(c, b.p + at, b.n - at, 0)
    b.n = 0
    if b.cap > KEEP_REPLY:
        buffer_free(b)
    drop_pushes(&c.client)
    if c.client.pushes.cap > KEEP_REPLY:
        buffer_free(&c.client.pushes)


cdef void keep_rest(Connections self, Conn *c, size_t sent) noexcept nogil:
    """What the socket did not take of the reply buffer goes to the end of the queue."""
    cdef Buffer *b = &c.client.reply.buf
    cdef OutBlock *o = c.out_tail
    cdef size_t rest = b.n - sent
    c.out_bytes += rest
    if o != NULL and o.shared == NULL and rest <= SMALL_REST and o.buf.n < SMALL_REST:
        buffer_add(&o.buf, b.p + sent, rest)
        b.n = 0
        return
    o = add_block(c)
    if rest <= SMALL_REST:
        buffer_add(&o.buf, b.p + sent, rest)
        b.n = 0
    else:
        o.buf = b[0]
        o.sent = sent
        memset(b, 0, sizeof(Buffer))


cdef int write_out(Connections self, Conn *c, Job *j) noexcept nogil:
    """Sends queued blocks until the socket is full; 0 when the connection broke. j: the first call
    was made by a thread."""
    cdef OutBlock *o
    cdef size_t total = 0
    cdef size_t most = SEND_TLS if c.tls != NULL else SEND_SLICE
    cdef size_t left
    cdef ssize_t sent
    while c.out_head != NULL and total < most:
        sent = sent_by(c, j)
        j = NULL
        if sent < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                want_out(self, c, 1)
                return 1
            self.counts.broken += c.tls != NULL
            kill(self, c)
            return 0
        self.counts.net_out += <uint64_t>sent
        total += <size_t>sent
        c.client.active = self.d.steady
        c.out_bytes -= <size_t>sent
        left = <size_t>sent
        while left:
            o = c.out_head
            if left < block_bytes(o).n - o.sent:
                o.sent += left
                break
            left -= block_bytes(o).n - o.sent
            c.out_head = o.next
            if c.out_head == NULL:
                c.out_tail = NULL
            c.out_blocks -= 1
            free_block(o)
    if c.out_head == NULL:
        c.soft_since = 0
        want_out(self, c, 0)
    else:
        # its share of the iteration is used up, and edges come only after a short send
        add_send(self, c)
    return 1


cdef void check_output(Connections self, Conn *c) noexcept nogil:
    """client-output-buffer-limit: above the hard limit, or above the soft one for too long, the
    client is dropped. Whoever is not logged in needs few replies, and reads them: no setting lets
    strangers fill the memory."""
    cdef int subscribed = c.client.flags & (CLIENT_SUBSCRIBED | CLIENT_MONITOR) == CLIENT_SUBSCRIBED
    cdef size_t hard = hard_limit(self, &c.client)
    cdef size_t soft = self.pubsub_soft if subscribed else self.output_soft
    cdef int64_t seconds = self.pubsub_soft_seconds if subscribed else self.output_soft_seconds
    if not c.client.flags & CLIENT_AUTHENTICATED:
        hard = STRANGER_REST
    if hard and c.out_bytes > hard:
        self.counts.closed_output += 1
        kill(self, c)
    elif soft and c.out_bytes > soft:
        if c.soft_since == 0:
            c.soft_since = self.d.steady
        elif self.d.steady - c.soft_since > seconds * 1000:
            self.counts.closed_output += 1
            kill(self, c)
    else:
        c.soft_since = 0

# Reading what clients send, and running it.
#
# Clients share one read buffer, lent to the one that is being read and kept by it only if a command
# is cut in the middle: ten thousand idle clients own no buffer, and the bytes that are parsed are
# in the cache.
#
# Who is not logged in has little to say, and each wrong password costs as much as ten commands: an
# iteration spends STRANGER_NS on all of these together, and as much on those who gave a wrong one,
# logged in or not. So who tries passwords holds up others who do, and no first login.

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from crdtredis._core cimport hash_prefetch, key_prefetch
from crdtredis._resp cimport (PARSE_MORE, PARSE_READY, Parser, parser_back, parser_fed,
                              parser_follows, parser_next, parser_room, parser_trim, reply_error)
from crdtredis.buffer cimport Buffer, Span, buffer_free, buffer_grow

cdef extern from * nogil:
    void prefetch "__builtin_prefetch"(const void *p)

cdef enum:
    READ_SIZE = 128 << 10   # bytes of the shared read buffer
    READ_KEPT = 1 << 20     # ... once a second; a large command has it grow
    READ_SLICE = 256 << 10  # bytes one client may read in an iteration
    RUN_SLICE = 1000        # commands it may run
    STRANGER_SLICE = 16     # ... when it is not logged in
    STRANGER_NS = 500_000   # of an iteration
    REPLY_SLICE = 1 << 20   # bytes of replies after which it waits for the next iteration


cdef void lend(Connections self, Conn *c) noexcept nogil:
    """The shared buffer to a parser that has none."""
    if c.parser.buf.p == NULL:
        if self.shared.p == NULL:
            buffer_grow(&self.shared, READ_SIZE)
        c.parser.buf = self.shared
        memset(&self.shared, 0, sizeof(Buffer))


cdef void take_back(Connections self, Conn *c) noexcept nogil:
    """... and back, unless a command is cut in the middle."""
    cdef Parser *p = &c.parser
    if p.buf.p == NULL:
        return
    if p.buf.n == 0 and self.shared.p == NULL and p.buf.cap >= READ_SIZE:
        self.shared = p.buf
        memset(&p.buf, 0, sizeof(Buffer))
    elif (p.buf.n == 0
          or (p.bulk < READ_SIZE
              and (c.client.flags & CLIENT_BLOCKED or not c.state & CONN_UNPARSED))):
        parser_trim(p)


cdef void begin_shares(Connections self) noexcept nogil:
    self.handshake_ns = self.stranger_ns[0] = self.stranger_ns[1] = 0


cdef void read_ahead(Connections self, Conn *c) noexcept nogil:
    """Has threads read what c and those behind it have sent, of whom `process` would read, once:
    it then takes that, unless the client is to be closed by then. Who is not logged in is not worth
    it; nobody but a client itself blocks it."""
    cdef Threads *t = self.threads
    cdef Job *j
    cdef uint32_t i
    begin_jobs(t)
    while c != NULL and t.jobs_n < JOBS:
        if c.tls != NULL and c.tls.flags & TLS_HANDSHAKE:
            if not (c.state & CONN_DEAD or c.client.flags & CLIENT_KILLED):
                c.tls.room = TLS_ROOM
                prepare_job(t, c, JOB_SHAKE)
        elif (c.state & (CONN_READABLE | CONN_UNPARSED | CONN_DEAD) == CONN_READABLE
              and c.client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED | CLIENT_SUSPECT |
                                    CLIENT_AUTHENTICATED) == CLIENT_AUTHENTICATED
              and not c.held.n):
            if c.tls != NULL:
                c.tls.room = TLS_ROOM
            prepare_job(t, c, JOB_READ)
        c = c.next_ready
    self.unread = c
    if give_jobs(t):
        for i in range(t.jobs_n):
            t.jobs[i].conn.job = i + 1
        self.counts.threaded_reads += t.jobs_n
        self.threaded_at = self.d.steady


cdef void process_read(Connections self, Conn *c) noexcept nogil:
    """`process`, when what a thread does for it is done."""
    cdef Job *j
    if c.job:
        j = &self.threads.jobs[c.job - 1]
        await_job(j)
        if j == j.bundle.first:
            expect_bundle(self, j.bundle)
    process(self, c)
    c.job = 0


cdef void expect_bundle(Connections self, Bundle *b) noexcept nogil:
    """What another core has read is on its way here before it is parsed, and so are the clients and
    the keys: as in run_pipeline, of many clients with a command each."""
    cdef Job *j
    cdef uint32_t i
    for i in range(b.n):
        j = &b.first[i]
        prefetch(j.p)
        prefetch(&j.conn.client.reply)
        prefetch(&j.conn.parser)
        prefetch(&j.conn.iteration)
    for i in range(b.n):
        j = &b.first[i]
        if j.key.p != NULL:
            j.hash = key_prefetch(self.d.kernel, j.conn.client.db, j.key)
    for i in range(b.n):
        j = &b.first[i]
        if j.key.p != NULL:
            hash_prefetch(self.d.kernel, j.conn.client.db, j.hash)


cdef void process(Connections self, Conn *c) noexcept nogil:
    """One client's share of an iteration."""
    cdef Client *client = &c.client
    cdef size_t budget = READ_SLICE
    cdef size_t room
    cdef ssize_t got
    cdef char *p
    cdef uint32_t left = RUN_SLICE
    cdef int64_t begun = 0
    cdef int64_t *spent = &self.stranger_ns[client.flags & CLIENT_SUSPECT != 0]
    if c.state & CONN_DEAD or client.flags & (CLIENT_CLOSE | CLIENT_KILLED):
        return
    if c.tls != NULL and not c.job:
        c.tls.room = TLS_ROOM
    if is_shaking(self, c) and not go_on_shaking(self, c):
        return
    if client.flags & CLIENT_BLOCKED:
        if c.state & CONN_HUNGUP:
            client.flags |= CLIENT_KILLED
            add_send(self, c)
        return
    if client.flags & (CLIENT_AUTHENTICATED | CLIENT_SUSPECT) != CLIENT_AUTHENTICATED:
        if spent[0] > STRANGER_NS and not c.job:
            add_passed_over(self, c)
            return
        if client.flags & CLIENT_AUTHENTICATED:     # until its next wrong one it is as others
            client.flags &= ~<uint32_t>CLIENT_SUSPECT
        left = STRANGER_SLICE
        begun = clock_ns(CLOCK_MONOTONIC)
    begin_replies(self, c)
    client.active = self.d.steady
    self.d.stopwatch.at = cycles()
    if c.held.n:
        run_held(self, c)
    lend(self, c)
    if c.state & CONN_UNPARSED:
        c.state &= ~<uint32_t>CONN_UNPARSED
        run_commands(self, c, &left)
    while (c.state & (CONN_READABLE | CONN_UNPARSED) == CONN_READABLE and budget
           and not client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED)):
        if c.job:
            got = take_read(self.threads, c, &room)
        else:
            p = parser_room(&c.parser, &room)
            if room > budget:
                room = budget
            got = tls_recv(c.tls, p, room) if c.tls != NULL else recv(client.fd, p, room, 0)
        if got > 0:
            parser_fed(&c.parser, <size_t>got)
            self.counts.net_in += <uint64_t>got
            budget -= <size_t>got
            if <size_t>got < room and c.tls == NULL and not c.state & CONN_HUNGUP:
                c.state &= ~<uint32_t>CONN_READABLE
            self.d.stopwatch.at = cycles()
            run_commands(self, c, &left)
            if c.parser.buf.n - c.parser.start + client.queue.n > self.query_limit:
                self.counts.closed_query += 1
                client.flags |= CLIENT_KILLED
        elif got == 0:
            # It will send no more, but may still be reading: it gets its replies, then
            # the connection is closed.
            c.state &= ~<uint32_t>CONN_READABLE
            client.flags |= CLIENT_KILLED if client.flags & CLIENT_BLOCKED else CLIENT_CLOSE
        elif errno == EAGAIN:
            c.state &= ~<uint32_t>CONN_READABLE
            if c.tls != NULL and c.tls.flags & TLS_WANTS_OUT:
                want_out(self, c, 1)
        elif errno == EBUSY:
            budget = 0
        elif errno != EINTR:
            client.flags |= CLIENT_KILLED
            self.counts.broken += c.tls != NULL
    take_back(self, c)
    if self.most_memory:
        count_memory(self, c)
    if client.flags & CLIENT_BLOCKED and c.state & CONN_HUNGUP:
        # nobody is waiting any more, and no event will say so again
        client.flags |= CLIENT_KILLED
    if client.reply.buf.n or client.reply.over or client.flags & (CLIENT_CLOSE | CLIENT_KILLED):
        add_send(self, c)
    if (c.state & (CONN_READABLE | CONN_UNPARSED)
        and not client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED)):
        add_ready(self, c)
    if begun:
        spent[0] += clock_ns(CLOCK_MONOTONIC) - begun


cdef int run_commands(Connections self, Conn *c, uint32_t *left) noexcept nogil:
    """Runs what the parser has, until more bytes are needed (0) or the client must wait (1)."""
    cdef Client *client = &c.client
    cdef Parser *p = &c.parser
    cdef Dispatch *d = self.d
    cdef size_t at
    cdef int status
    cdef uint32_t before = client.flags & CLIENT_SUSPECT
    while True:
        if client.flags & CLIENT_SUSPECT > before:
            left[0] = 0
        if client.flags & CLIENT_BLOCKED and p.pos == p.buf.n:
            # says that there is no more, and lets go of the buffer: the wait may be long
            parser_next(p)
            return 1
        if (left[0] == 0 or client.reply.buf.n > REPLY_SLICE or client.reply.over
                or (iteration_is_full(d) and d.scripting.run == NULL)
                or client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED)):
            c.state |= CONN_UNPARSED
            return 1
        p.authenticated = (client.flags & CLIENT_AUTHENTICATED) != 0
        status = parser_next(p)
        if status == PARSE_READY:
            if p.argc == 0:
                continue
            if d.guard & GUARD_WAIT and must_wait(d, client, p.argv, p.argc):
                pack_command(&c.held, p.argv, p.argc)
                client.flags |= CLIENT_BLOCKED | CLIENT_POSTPONED
            elif (p.authenticated and d.scripting.run == NULL and parser_follows(p)
                  and p.argc <= PREFETCH_ARGS):
                run_pipeline(self, c, left)
            else:
                left[0] -= 1
                at = client.reply.buf.n
                execute(d, client, p.argv, p.argc)
                c.replies += client.reply.buf.n > at
        elif status == PARSE_MORE:
            return 0
        else:
            reply_error(&client.reply, p.error)
            client.flags |= CLIENT_CLOSE
            return 1


cdef void run_pipeline(Connections self, Conn *c, uint32_t *left) noexcept nogil:
    """Runs the command in the parser and those that follow it in the pipeline, a batch of them.

    Finding a key costs two reads that nothing in the cache knows of: the slot, and the element it
    points to. In a table of any size waiting for them is the most expensive part of a command. So a
    batch is parsed first, and while the later commands are being looked at, the memory that the
    earlier ones will want is on its way. These are hints: a batch that SELECTs another database, or
    removes what was fetched, runs no less correctly. What cannot run after all (the client was
    blocked, say) goes back to the parser.
    """
    cdef Client *client = &c.client
    cdef Parser *p = &c.parser
    cdef Dispatch *d = self.d
    cdef Prefetched *a
    cdef Span *room = self.prefetch_args
    cdef int n = 0
    cdef int i
    cdef size_t at
    while True:
        a = &self.prefetched[n]
        a.at = p.start
        a.argv = room
        a.argc = p.argc
        memcpy(room, p.argv, sizeof(Span) * <size_t>p.argc)
        room += p.argc
        a.command = find_command(&d.table, a.argv[0])
        if a.command != NULL and 0 < a.command.first_key < a.argc:
            a.hash = key_prefetch(self.d.kernel, client.db, a.argv[a.command.first_key])
        n += 1
        if (n == PREFETCH or <uint32_t>n == left[0] or not parser_follows(p)
            or parser_next(p) != PARSE_READY):
            break       # what is cut off, or wrong, the parser will say again
        if p.argc == 0 or p.argc > self.prefetch_args + PREFETCH_ARGS - room:
            parser_back(p, p.start)
            break
    for i in range(n):
        a = &self.prefetched[i]
        if a.command != NULL and 0 < a.command.first_key < a.argc:
            hash_prefetch(self.d.kernel, client.db, a.hash)
    for i in range(n):
        a = &self.prefetched[i]
        if i and (client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED |
                                  CLIENT_AUTHENTICATED) != CLIENT_AUTHENTICATED
                  or client.reply.buf.n > REPLY_SLICE or client.reply.over or iteration_is_full(d)
                  or d.guard & GUARD_WAIT):
            parser_back(p, a.at)
            return
        left[0] -= 1
        at = client.reply.buf.n
        execute_found(d, client, a.command, a.argv, a.argc)
        c.replies += client.reply.buf.n > at


cdef void run_held(Connections self, Conn *c) noexcept nogil:
    """The command that CLIENT PAUSE, or a join, held back."""
    cdef Buffer held = c.held
    cdef Span *argv = NULL
    cdef int cap = 0
    cdef int argc = 0
    cdef size_t at = c.client.reply.buf.n
    unpack_command(held.p, &argv, &cap, &argc)
    if self.d.guard & GUARD_WAIT and must_wait(self.d, &c.client, argv, argc):
        c.client.flags |= CLIENT_BLOCKED | CLIENT_POSTPONED
        free(argv)
        return
    memset(&c.held, 0, sizeof(Buffer))
    execute(self.d, &c.client, argv, argc)
    c.replies += c.client.reply.buf.n > at
    free(argv)
    buffer_free(&held)

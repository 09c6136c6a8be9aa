# Connections: accepting them, reading and running what they send, sending what they are owed,
# closing them.
#
# System calls are what an unpipelined request costs, so there are two for each, recv and send, and
# epoll's shared among all that are ready. Sockets are edge-triggered: registered once and never
# touched again unless a send falls short, and the kernel does not put a ready socket back on its
# list to look at it once more. The price is that nobody says twice that a socket has bytes: a
# client that was left before its socket was empty stays on our own list (CONN_READABLE).
# TCP_NODELAY and keepalive are set on the listening socket, from which Linux's accepted sockets
# inherit them.
#
# Fairness: within an iteration a client may read 256 KiB, run 1,000 commands and gather 1 MiB of
# replies; what it wants beyond that, it gets in the next iteration, after the others. Clients share
# one read buffer, lent to whoever is being read and kept by him only if a command is cut in the
# middle: ten thousand idle clients own no buffer, and the bytes parsed are hot in the cache.
#
# A connection is freed at the end of an iteration only (free_dead), when no list and no event
# refers to it.

from crdtredis._core cimport hash_prefetch, key_prefetch
from crdtredis._resp cimport parser_back, parser_follows
from crdtredis.buffer cimport buffer_grow

cdef enum:
    READ_SIZE = 128 << 10   # of the shared read buffer
    READ_SLICE = 256 << 10  # bytes one client may read in an iteration
    # bytes of ops after which all clients wait for the next iteration, where they are logged and
    # sent
    OPS_SLICE = 32 << 20
    RUN_SLICE = 1000        # commands it may run
    REPLY_SLICE = 1 << 20   # bytes of replies after which it waits for the next iteration
    KEEP_REPLY = 64 << 10   # a larger reply buffer is given back once it is sent
    # unsent bytes that are copied together rather than kept as a block of their own
    SMALL_REST = 16 << 10
    SEND_SLICE = 4 << 20    # bytes one client may be sent in an iteration
    IOVECS = 64
    ACCEPT_SLICE = 1000
    AHEAD = 16              # commands of a pipeline that are parsed before the first of them runs
    AHEAD_ARGS = 128        # and their arguments


cdef void loop_wake(void *loop, Client *client) noexcept nogil:
    """A reply was added, or the client may go on, outside of its own turn at the parser."""
    cdef Conn *c = <Conn*>client
    client.active = (<Loop>loop).mono
    add_send(<Loop>loop, c)
    if (not client.flags & CLIENT_BLOCKED
        and (c.held.n or c.state & (CONN_READABLE | CONN_UNPARSED))):
        add_ready(<Loop>loop, c)


cdef void begin_iteration(Loop self, Conn *c) noexcept nogil:
    """Before the first reply to c in an iteration, or one that may be."""
    if c.iteration != self.iterations:
        c.iteration = self.iterations
        c.iteration_at = c.client.reply.buf.n
        c.iteration_replies = 0
        c.client.reply.most = 0
        if self.output_hard:
            c.client.reply.most = (self.output_hard - c.out_bytes if self.output_hard > c.out_bytes
                                   else 1)
        c.client.flags &= ~<uint32_t>CLIENT_WROTE


cdef inline void add_ready(Loop self, Conn *c) noexcept nogil:
    if not c.state & (CONN_READY | CONN_DEAD):
        c.state |= CONN_READY
        c.next_ready = self.ready
        self.ready = c


cdef inline void add_send(Loop self, Conn *c) noexcept nogil:
    if not c.state & (CONN_SEND | CONN_DEAD):
        c.state |= CONN_SEND
        c.next_send = self.send_list
        self.send_list = c


# ---- accept --------------------------------------------------------------------------------------

cdef void accept_all(Loop self) noexcept nogil:
    cdef int i
    for i in range(self.listener_n):
        if self.listeners[i].pending == 1:
            accept_from(self, &self.listeners[i])


cdef void accept_from(Loop self, Listener *l) noexcept nogil:
    cdef sockaddr_storage a
    cdef socklen_t n
    cdef epoll_event e
    cdef Conn *c
    cdef int fd, i
    for i in range(ACCEPT_SLICE):
        n = sizeof(a)
        fd = accept4(l.fd, <sockaddr*>&a, &n, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EINTR or errno == ECONNABORTED:
                continue
            # Out of descriptors or memory: the connections stay in the backlog, and the next cron
            # run tries again.
            l.pending = (2 if errno == EMFILE or errno == ENFILE or errno == ENOBUFS
                         or errno == ENOMEM else 0)
            return
        self.accepted += 1
        if self.connected >= self.max_clients_:
            reject_socket(self, fd, "-ERR max number of clients reached\r\n")
            continue
        if self.protected_mode and not self.d.need_auth and not is_loopback(&a):
            reject_socket(self, fd,
                                   "-DENIED crdt-redis runs in protected mode: without a password "
                                   "it serves this host only. Set "
                                   "requirepass, or turn protected_mode off.\r\n")
            continue
        c = <Conn*>need_memory(calloc(1, sizeof(Conn)))
        client_init(self.d, &c.client, 2)
        c.client.fd = fd
        if l.is_unix:
            c.client.flags |= CLIENT_UNIX
        format_address(c.client.addr, sizeof(c.client.addr), &a, l.path)
        parser_init(&c.parser, self.max_bulk)
        e.events = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET
        e.data.ptr = c
        if epoll_ctl(self.ep, EPOLL_CTL_ADD, fd, &e) != 0:
            close(fd)
            parser_free(&c.parser)
            client_free(self.d, &c.client)
            free(c)
            continue
        c.next = self.conns
        if c.next != NULL:
            c.next.prev = c
        self.conns = c
        self.connected += 1


cdef void reject_socket(Loop self, int fd, const char *text) noexcept nogil:
    self.rejected += 1
    send(fd, text, strlen(text), MSG_NOSIGNAL)
    close(fd)

# ---- read and run --------------------------------------------------------------------------------

cdef void lend(Loop self, Conn *c) noexcept nogil:
    """The shared buffer to a parser that has none."""
    if c.parser.buf.p == NULL:
        if self.shared.p == NULL:
            buffer_grow(&self.shared, READ_SIZE)
        c.parser.buf = self.shared
        memset(&self.shared, 0, sizeof(Buffer))


cdef void take_back(Loop self, Conn *c) noexcept nogil:
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


cdef void process(Loop self, Conn *c) noexcept nogil:
    """One client's share of an iteration."""
    cdef Client *client = &c.client
    cdef size_t budget = READ_SLICE
    cdef size_t room
    cdef ssize_t got
    cdef char *p
    cdef uint32_t left = RUN_SLICE
    if c.state & CONN_DEAD or client.flags & (CLIENT_CLOSE | CLIENT_KILLED):
        return
    if client.flags & CLIENT_BLOCKED:
        if c.state & CONN_HUNGUP:
            client.flags |= CLIENT_KILLED
            add_send(self, c)
        return
    begin_iteration(self, c)
    client.active = self.mono
    self.d.tick = cycles()
    if c.held.n:
        run_held(self, c)
    lend(self, c)
    if c.state & CONN_UNPARSED:
        c.state &= ~<uint32_t>CONN_UNPARSED
        run_commands(self, c, &left)
    while (c.state & (CONN_READABLE | CONN_UNPARSED) == CONN_READABLE and budget
           and not client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED)):
        p = parser_room(&c.parser, &room)
        if room > budget:
            room = budget
        got = recv(client.fd, p, room, 0)
        if got > 0:
            parser_fed(&c.parser, <size_t>got)
            self.net_in += <uint64_t>got
            budget -= <size_t>got
            if <size_t>got < room and not c.state & CONN_HUNGUP:
                c.state &= ~<uint32_t>CONN_READABLE
            self.d.tick = cycles()
            run_commands(self, c, &left)
            if c.parser.buf.n - c.parser.start + client.queue.n > self.query_limit:
                self.closed_query += 1
                client.flags |= CLIENT_KILLED
        elif got == 0:
            # It will send no more, but may still be reading: what it asked for is answered, then
            # the connection is closed.
            c.state &= ~<uint32_t>CONN_READABLE
            client.flags |= CLIENT_KILLED if client.flags & CLIENT_BLOCKED else CLIENT_CLOSE
        elif errno == EAGAIN:
            c.state &= ~<uint32_t>CONN_READABLE
        elif errno != EINTR:
            client.flags |= CLIENT_KILLED
    take_back(self, c)
    if client.flags & CLIENT_BLOCKED and c.state & CONN_HUNGUP:
        # nobody is waiting any more, and no event will say so again
        client.flags |= CLIENT_KILLED
    if client.reply.buf.n or client.reply.over or client.flags & (CLIENT_CLOSE | CLIENT_KILLED):
        add_send(self, c)
    if (c.state & (CONN_READABLE | CONN_UNPARSED)
        and not client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED)):
        add_ready(self, c)


cdef int run_commands(Loop self, Conn *c, uint32_t *left) noexcept nogil:
    """Runs what the parser has, until more bytes are needed (0) or the client must wait (1)."""
    cdef Client *client = &c.client
    cdef Parser *p = &c.parser
    cdef Dispatch *d = self.d
    cdef size_t at
    cdef int status
    while True:
        if client.flags & CLIENT_BLOCKED and p.pos == p.buf.n:
            # says that there is no more, and lets go of the buffer: the wait may be long
            parser_next(p)
            return 1
        if (left[0] == 0 or client.reply.buf.n > REPLY_SLICE or client.reply.over
            or iteration_is_full(d)
                or client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED)):
            c.state |= CONN_UNPARSED
            return 1
        p.authenticated = (client.flags & CLIENT_AUTHENTICATED) != 0
        status = parser_next(p)
        if status == PARSE_READY:
            if p.argc == 0:
                continue
            if (d.guard & (GUARD_PAUSE_ALL | GUARD_PAUSE_WRITE)
                and must_wait(d, client, p.argv, p.argc)):
                pack_command(&c.held, p.argv, p.argc)
                client.flags |= CLIENT_BLOCKED | CLIENT_POSTPONED
            elif p.authenticated and parser_follows(p) and p.argc <= AHEAD_ARGS:
                run_ahead(self, c, left)
            else:
                left[0] -= 1
                at = client.reply.buf.n
                execute(d, client, p.argv, p.argc)
                c.iteration_replies += client.reply.buf.n > at
        elif status == PARSE_MORE:
            return 0
        else:
            reply_error(&client.reply, p.error)
            client.flags |= CLIENT_CLOSE
            return 1


cdef void run_ahead(Loop self, Conn *c, uint32_t *left) noexcept nogil:
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
    cdef Ahead *a
    cdef Span *room = self.ahead_args
    cdef int n = 0
    cdef int i
    cdef size_t at
    while True:
        a = &self.ahead[n]
        a.at = p.start
        a.argv = room
        a.argc = p.argc
        memcpy(room, p.argv, sizeof(Span) * <size_t>p.argc)
        room += p.argc
        a.command = find_command(d, a.argv[0])
        if a.command != NULL and 0 < a.command.first_key < a.argc:
            a.hash = key_prefetch(self.k, client.db, a.argv[a.command.first_key])
        n += 1
        if (n == AHEAD or <uint32_t>n == left[0] or not parser_follows(p)
            or parser_next(p) != PARSE_READY):
            break       # what is cut off, or wrong, the parser will say again
        if p.argc == 0 or p.argc > self.ahead_args + AHEAD_ARGS - room:
            parser_back(p, p.start)
            break
    for i in range(n):
        a = &self.ahead[i]
        if a.command != NULL and 0 < a.command.first_key < a.argc:
            hash_prefetch(self.k, client.db, a.hash)
    for i in range(n):
        a = &self.ahead[i]
        if i and (client.flags & (CLIENT_CLOSE | CLIENT_KILLED | CLIENT_BLOCKED |
                                  CLIENT_AUTHENTICATED) != CLIENT_AUTHENTICATED
                  or client.reply.buf.n > REPLY_SLICE or client.reply.over or iteration_is_full(d)
                  or d.guard & (GUARD_PAUSE_ALL | GUARD_PAUSE_WRITE)):
            parser_back(p, a.at)
            return
        left[0] -= 1
        at = client.reply.buf.n
        execute_found(d, client, a.command, a.argv, a.argc)
        c.iteration_replies += client.reply.buf.n > at


cdef void run_held(Loop self, Conn *c) noexcept nogil:
    """The command that CLIENT PAUSE held back."""
    cdef Buffer held = c.held
    cdef Span *argv = NULL
    cdef int cap = 0
    cdef int argc = 0
    cdef size_t at = c.client.reply.buf.n
    memset(&c.held, 0, sizeof(Buffer))
    unpack_command(held.p, &argv, &cap, &argc)
    execute(self.d, &c.client, argv, argc)
    c.iteration_replies += c.client.reply.buf.n > at
    free(argv)
    buffer_free(&held)


# ---- replies to sockets --------------------------------------------------------------------------

cdef void send_all(Loop self) noexcept nogil:
    cdef Conn *c = self.send_list
    cdef Conn *next
    self.send_list = NULL
    while c != NULL:
        next = c.next_send
        c.state &= ~<uint32_t>CONN_SEND
        if c.client.flags & CLIENT_KILLED:
            kill(self, c)
        else:
            send_conn(self, c)
        c = next


cdef void send_conn(Loop self, Conn *c) noexcept nogil:
    cdef Reply *r = &c.client.reply
    cdef ssize_t sent
    # What one iteration made counts whole, as in Redis, whether the socket would take it or not.
    if r.over or (self.output_hard and c.out_bytes + r.buf.n > self.output_hard):
        self.closed_output += 1
        kill(self, c)
        return
    if c.out_head == NULL:
        if r.buf.n:
            sent = send(c.client.fd, r.buf.p, r.buf.n, MSG_NOSIGNAL)
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    kill(self, c)
                    return
                sent = 0
            self.net_out += <uint64_t>sent
            if <size_t>sent == r.buf.n:
                r.buf.n = 0
                if r.buf.cap > KEEP_REPLY:
                    buffer_free(&r.buf)
            else:
                keep_rest(self, c, <size_t>sent)
                want_out(self, c, 1)
    else:
        if r.buf.n:
            keep_rest(self, c, 0)
        if not write_out(self, c):
            return
    if c.out_head != NULL:
        check_output(self, c)
    elif c.client.flags & CLIENT_CLOSE:
        kill(self, c)


cdef void keep_rest(Loop self, Conn *c, size_t sent) noexcept nogil:
    """What the socket did not take of the reply buffer goes to the end of the queue."""
    cdef Buffer *b = &c.client.reply.buf
    cdef OutBlock *o = c.out_tail
    cdef size_t rest = b.n - sent
    c.out_bytes += rest
    if o != NULL and rest <= SMALL_REST and o.buf.n < SMALL_REST:
        buffer_add(&o.buf, b.p + sent, rest)
        b.n = 0
        return
    o = <OutBlock*>need_memory(calloc(1, sizeof(OutBlock)))
    if rest <= SMALL_REST:
        buffer_add(&o.buf, b.p + sent, rest)
        b.n = 0
    else:
        o.buf = b[0]
        o.sent = sent
        memset(b, 0, sizeof(Buffer))
    if c.out_tail != NULL:
        c.out_tail.next = o
    else:
        c.out_head = o
    c.out_tail = o
    c.out_blocks += 1


cdef int write_out(Loop self, Conn *c) noexcept nogil:
    """Sends queued blocks until the socket is full; 0 when the connection broke."""
    cdef iovec iov[IOVECS]
    cdef msghdr m
    cdef OutBlock *o
    cdef size_t total = 0
    cdef size_t left
    cdef ssize_t sent
    cdef int n
    memset(&m, 0, sizeof(m))
    m.msg_iov = iov
    while c.out_head != NULL and total < SEND_SLICE:
        o = c.out_head
        n = 0
        while o != NULL and n < IOVECS:
            iov[n].iov_base = o.buf.p + o.sent
            iov[n].iov_len = o.buf.n - o.sent
            n += 1
            o = o.next
        m.msg_iovlen = <size_t>n
        sent = sendmsg(c.client.fd, &m, MSG_NOSIGNAL)
        if sent < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                want_out(self, c, 1)
                return 1
            kill(self, c)
            return 0
        self.net_out += <uint64_t>sent
        total += <size_t>sent
        c.client.active = self.mono
        c.out_bytes -= <size_t>sent
        left = <size_t>sent
        while left:
            o = c.out_head
            if left < o.buf.n - o.sent:
                o.sent += left
                break
            left -= o.buf.n - o.sent
            c.out_head = o.next
            if c.out_head == NULL:
                c.out_tail = NULL
            c.out_blocks -= 1
            buffer_free(&o.buf)
            free(o)
    if c.out_head == NULL:
        c.soft_since = 0
        want_out(self, c, 0)
    else:
        # its share of the iteration is used up, and edges come only after a short send
        add_send(self, c)
    return 1


cdef void want_out(Loop self, Conn *c, int on) noexcept nogil:
    cdef epoll_event e
    if on == ((c.state & CONN_WANTS_OUT) != 0):
        return
    c.state ^= CONN_WANTS_OUT
    e.events = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET
    if on:
        e.events |= EPOLLOUT
    e.data.ptr = c
    epoll_ctl(self.ep, EPOLL_CTL_MOD, c.client.fd, &e)


cdef void check_output(Loop self, Conn *c) noexcept nogil:
    """client-output-buffer-limit: above the hard limit, or above the soft one for too long, the
    client is dropped."""
    if self.output_hard and c.out_bytes > self.output_hard:
        self.closed_output += 1
        kill(self, c)
    elif self.output_soft and c.out_bytes > self.output_soft:
        if c.soft_since == 0:
            c.soft_since = self.mono
        elif self.mono - c.soft_since > self.output_soft_seconds * 1000:
            self.closed_output += 1
            kill(self, c)
    else:
        c.soft_since = 0

# ---- the end of a connection ---------------------------------------------------------------------

cdef void kill(Loop self, Conn *c) noexcept nogil:
    if c.state & CONN_DEAD:
        return
    c.state |= CONN_DEAD
    c.next_dead = self.dead
    self.dead = c


cdef void free_dead(Loop self) noexcept nogil:
    """At the end of the iteration, when no list and no event refers to them."""
    cdef Conn *c
    cdef Conn **at
    cdef OutBlock *o
    if self.dead == NULL:
        return
    # A dead one may still stand on the lists of the next iteration.
    at = &self.ready
    while at[0] != NULL:
        if at[0].state & CONN_DEAD:
            at[0] = at[0].next_ready
        else:
            at = &at[0].next_ready
    at = &self.send_list
    while at[0] != NULL:
        if at[0].state & CONN_DEAD:
            at[0] = at[0].next_send
        else:
            at = &at[0].next_send
    while self.dead != NULL:
        c = self.dead
        self.dead = c.next_dead
        if self.cron_at == c:
            self.cron_at = c.next
        if c.prev != NULL:
            c.prev.next = c.next
        else:
            self.conns = c.next
        if c.next != NULL:
            c.next.prev = c.prev
        self.connected -= 1
        close(c.client.fd)
        while c.out_head != NULL:
            o = c.out_head
            c.out_head = o.next
            buffer_free(&o.buf)
            free(o)
        buffer_free(&c.held)
        parser_free(&c.parser)
        client_free(self.d, &c.client)
        free(c)


cdef void check_idle(Loop self) noexcept nogil:
    """A slice of the clients, so that each is looked at about once a second: timeouts, soft limits,
    memory given back."""
    cdef uint32_t n = self.connected // <uint32_t>self.hz_ + 5
    cdef Conn *c
    cdef int64_t idle
    while n and self.conns != NULL:
        n -= 1
        c = self.cron_at
        if c == NULL:
            c = self.conns
        self.cron_at = c.next
        idle = self.mono - c.client.active
        if self.timeout and idle > self.timeout * 1000 and not c.client.flags & CLIENT_BLOCKED:
            self.timed_out += 1
            kill(self, c)
        elif c.out_head != NULL:
            check_output(self, c)
        elif idle > 2000 and c.client.reply.buf.n == 0:
            buffer_free(&c.client.reply.buf)
            if c.parser.buf.n == 0 and not c.client.flags & CLIENT_BLOCKED:
                parser_trim(&c.parser)
        if self.cron_at == NULL:
            return


# ---- what CLIENT LIST says -----------------------------------------------------------------------

cdef str local_address(Client *c):
    cdef sockaddr_storage a
    cdef socklen_t n = sizeof(a)
    cdef char text[64]
    if c.flags & CLIENT_UNIX:
        return c.addr.decode()
    if getsockname(c.fd, <sockaddr*>&a, &n) != 0:
        return ""
    format_address(text, sizeof(text), &a, b"")
    return text.decode()


cdef dict client_row(Client *c, Conn *conn):
    """Every field of CLIENT LIST, in its order."""
    cdef size_t qbuf = conn.parser.buf.n - conn.parser.start if conn != NULL else 0
    cdef size_t memory = sizeof(Conn) + c.reply.buf.cap + c.queue.cap + (
            wait_memory(c.wait) if c.wait != NULL else 0)
    flags = "".join(letter for bit, letter in ((CLIENT_MULTI, "x"), (CLIENT_BLOCKED, "b"),
                                               (CLIENT_CLOSE, "c"), (CLIENT_KILLED, "A"),
                                               (CLIENT_UNIX, "U"), (CLIENT_NO_EVICT, "e"),
                                               (CLIENT_NO_TOUCH, "T")) if c.flags & bit)
    if conn != NULL:
        memory += parser_memory(&conn.parser) + conn.out_bytes
    now = c.active if conn == NULL else clock_ms(CLOCK_MONOTONIC)
    session = <Session>c.session if c.session != NULL else None
    return {
        "id": c.id, "addr": c.addr.decode(), "laddr": local_address(c) if c.fd >= 0 else "",
        "fd": c.fd, "name": text_of(c.name),
        "age": max(now - c.created, 0) // 1000, "idle": max(now - c.active, 0) // 1000,
        "flags": flags or "N", "db": c.db,
        "sub": 0, "psub": 0, "ssub": 0, "multi": c.queued if c.flags & CLIENT_MULTI else -1,
        "qbuf": qbuf,
        "qbuf-free": conn.parser.buf.cap - conn.parser.buf.n if conn != NULL else 0,
        "argv-mem": c.wait.args.n if c.wait != NULL else 0, "multi-mem": c.queue.n,
        "rbs": c.reply.buf.cap, "rbp": c.reply.buf.n, "obl": c.reply.buf.n,
        "oll": conn.out_blocks if conn != NULL else 0,
        "omem": conn.out_bytes if conn != NULL else 0, "tot-mem": memory,
        "events": "rw" if conn != NULL and conn.state & CONN_WANTS_OUT else "r",
        "cmd": c.command.name.decode() if c.command != NULL else "NULL",
        "user": session.user if session is not None else "default",
        "redir": -1, "resp": c.reply.resp, "lib-name": text_of(c.lib_name),
        "lib-ver": text_of(c.lib_ver),
    }


def session_row(Session session) -> dict:
    """The row of one client (CLIENT INFO)."""
    return client_row(session.c, <Conn*>session.c if session.c.fd >= 0 else NULL)

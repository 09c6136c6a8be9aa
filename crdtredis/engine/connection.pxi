# The connections of a loop: their lists, their part in an iteration, their end.
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
# replies; what it wants beyond that, it gets in the next iteration, after the others.
#
# A connection is freed at the end of an iteration only (free_dead), when no list and no event
# refers to it.

from libc.errno cimport errno
from libc.stdlib cimport free
from libc.string cimport memset, strerror

from crdtredis._resp cimport (Reply, parser_free, parser_memory, reply_bulk, reply_error, reply_int,
                              reply_null, reply_push)
from crdtredis.buffer cimport buffer_free

cdef enum:
    OPS_SLICE = 32 << 20    # bytes of ops, see Dispatch.ops_limit
    MOVING_S = 30           # s for which clients are told that the server may be away


cdef class Connections:
    """The connections of an Executor's clients. A Loop is built on it.

    executor    what runs their commands.
    """

    def __cinit__(self, Executor executor, *_, **__):
        self.ep = -1
        self.executor = executor
        self.d = &executor.d
        self.query_limit = 1 << 30
        self.max_bulk = 512 << 20
        self.moving_to = b""
        self.handshake_timeout = 10_000
        self.d.ops_limit = OPS_SLICE
        self.d.port.owner = <void*>self
        self.d.port.begin_reply = port_begin_reply
        self.d.port.wake = port_wake
        self.d.port.pushed = port_pushed
        self.d.port.gone = port_gone
        self.d.port.find = port_find
        self.ep = epoll_create1(EPOLL_CLOEXEC)

    def __dealloc__(self):
        self.close_all()
        if self.ep >= 0:
            close(self.ep)
        if self.d != NULL and self.d.port.owner == <void*>self:
            memset(&self.d.port, 0, sizeof(ClientPort))
            self.d.ops_limit = <size_t>-1
        buffer_free(&self.shared)

    @property
    def iteration_limit(self) -> int:
        """Bytes of ops after which all clients, and peers, wait for the next iteration, where they
        are logged and sent."""
        return self.d.ops_limit

    @iteration_limit.setter
    def iteration_limit(self, size_t value):
        self.d.ops_limit = value

    @property
    def clients_most(self) -> int:
        """Bytes that clients may take together; beyond that, those are closed that take most. 0: no
        limit."""
        return self.most_memory

    @clients_most.setter
    def clients_most(self, size_t value):
        cdef Conn *c = self.first
        self.most_memory = value
        while c != NULL:
            count_memory(self, c)
            c = c.next

    cdef int add_fd(self, int fd, uint64_t tag) except -1:
        cdef epoll_event e
        e.events = EPOLLIN | <uint32_t>EPOLLET
        e.data.u64 = tag
        if epoll_ctl(self.ep, EPOLL_CTL_ADD, fd, &e) != 0:
            raise OSError(errno, strerror(errno).decode())
        return 0

    cdef void close_all(self) noexcept nogil:
        cdef Conn *c = self.first
        while c != NULL:
            kill(self, c)
            c = c.next
        free_dead(self)

    cdef Conn *find(self, uint64_t id) noexcept nogil:
        cdef Conn *c = self.first
        while c != NULL and (c.client.id != id or c.state & CONN_DEAD):
            c = c.next
        return c

    def clients(self) -> list[dict]:
        """One row per connection, oldest first, as CLIENT LIST shows it."""
        cdef Conn *c = self.first
        out = []
        while c != NULL:
            if not c.state & CONN_DEAD:
                out.append(client_row(&c.client, c))
            c = c.next
        out.reverse()
        return out

    def session_of(self, uint64_t id) -> Session | None:
        """The session of a connected client."""
        cdef Conn *c = self.find(id)
        return session_of(self.d, &c.client) if c != NULL else None

    def unsent(self, uint64_t id) -> int:
        """Bytes of replies that the socket of a connected client has not taken."""
        cdef Conn *c = self.find(id)
        return c.out_bytes + c.client.reply.buf.n if c != NULL else 0

    def kill_client(self, uint64_t id) -> bool:
        """Closes a connection at the end of the iteration, unsent replies or not."""
        cdef Conn *c = self.find(id)
        if c == NULL:
            return False
        c.client.flags |= CLIENT_KILLED
        add_send(self, c)
        return True

    def tell_moving(self):
        """Pushes MOVING to those who asked for it (CLIENT MAINT_NOTIFICATIONS): they may go to
        moving_to. Without that, those who want no address are told to come back in a while, and the
        others are told nothing."""
        cdef Conn *c = self.first
        cdef Shared *away = self.moving(len(self.moving_to) > 0)
        cdef Shared *back = self.moving(False)
        while c != NULL:
            if c.client.flags & CLIENT_MOVES and c.client.reply.resp == 3:
                if c.client.flags & CLIENT_MOVES_BACK:
                    push_to(self.d, &c.client, back, 0)
                elif self.moving_to:
                    push_to(self.d, &c.client, away, 0)
            c = c.next
        let_go(away)
        let_go(back)

    cdef Shared *moving(self, bint away) noexcept:
        """Held once. Its number is the time, so that no two stops are taken for one."""
        cdef Reply r
        cdef Shared *m
        shared_begin(&r, 3, 128 + <size_t>len(self.moving_to))
        reply_push(&r, 4)
        reply_bulk(&r, "MOVING", 6)
        reply_int(&r, self.d.kernel.now)
        reply_int(&r, MOVING_S)
        if away:
            reply_bulk(&r, self.moving_to, <size_t>len(self.moving_to))
        else:
            reply_null(&r)
        m = shared_of(&r.buf)
        m.holders = 1
        return m

    def pause(self, int64_t ms, bint writes_only):
        """CLIENT PAUSE: commands wait, or those that write. A pause is made longer or stricter by
        another, never shorter or laxer."""
        until = self.d.steady + ms
        if self.d.guard & (GUARD_PAUSE_ALL | GUARD_PAUSE_WRITE):
            until = max(until, self.d.pause_until)
            writes_only = writes_only and not self.d.guard & GUARD_PAUSE_ALL
        self.d.pause_until = until
        self.d.guard = self.d.guard & ~<uint32_t>(GUARD_PAUSE_ALL | GUARD_PAUSE_WRITE)
        self.d.guard |= GUARD_PAUSE_WRITE if writes_only else GUARD_PAUSE_ALL

    def unpause(self):
        end_pause(self)


cdef void end_pause(Connections self) noexcept nogil:
    self.d.pause_until = 0
    self.d.guard &= ~<uint32_t>(GUARD_PAUSE_ALL | GUARD_PAUSE_WRITE)
    resume_postponed(self)


cdef void resume_postponed(Connections self) noexcept nogil:
    cdef Conn *c = self.first
    while c != NULL:
        if c.client.flags & CLIENT_POSTPONED:
            c.client.flags &= ~<uint32_t>(CLIENT_POSTPONED | CLIENT_BLOCKED)
            add_ready(self, c)
        c = c.next


# ---- lists ---------------------------------------------------------------------------------------

cdef inline void add_ready(Connections self, Conn *c) noexcept nogil:
    if not c.state & (CONN_READY | CONN_DEAD):
        c.state |= CONN_READY
        c.next_ready = self.ready
        self.ready = c


cdef inline void add_send(Connections self, Conn *c) noexcept nogil:
    if not c.state & (CONN_SEND | CONN_DEAD):
        c.state |= CONN_SEND
        c.next_send = self.to_send
        self.to_send = c


cdef void add_conn(Connections self, Conn *c) noexcept nogil:
    c.next = self.first
    if c.next != NULL:
        c.next.prev = c
    self.first = c
    self.connected += 1


cdef inline void add_passed_over(Connections self, Conn *c) noexcept nogil:
    """It was ready, and gets its share in the next iteration before the others."""
    c.state |= CONN_READY
    c.next_ready = self.passed_over
    self.passed_over = c


cdef inline void take_list(Conn **newest, Conn **out) noexcept nogil:
    cdef Conn *c
    while newest[0] != NULL:
        c = newest[0]
        newest[0] = c.next_ready
        c.next_ready = out[0]
        out[0] = c


cdef Conn *take_ready(Connections self) noexcept nogil:
    """The lists have the newest first, and commands run in the order they came in. A client that is
    not done is put on a new list."""
    cdef Conn *out = NULL
    take_list(&self.ready, &out)
    take_list(&self.passed_over, &out)
    return out


cdef void drop_dead(Conn **at) noexcept nogil:
    """From a list of those that are ready."""
    while at[0] != NULL:
        if at[0].state & CONN_DEAD:
            at[0] = at[0].next_ready
        else:
            at = &at[0].next_ready


cdef void want_out(Connections self, Conn *c, int on) noexcept nogil:
    cdef epoll_event e
    if on == ((c.state & CONN_WANTS_OUT) != 0):
        return
    c.state ^= CONN_WANTS_OUT
    e.events = EPOLLIN | EPOLLRDHUP | <uint32_t>EPOLLET
    if on:
        e.events |= EPOLLOUT
    e.data.ptr = c
    epoll_ctl(self.ep, EPOLL_CTL_MOD, c.client.fd, &e)


# ---- replies in an iteration ---------------------------------------------------------------------

cdef inline size_t hard_limit(Connections self, Client *client) noexcept nogil:
    if client.flags & (CLIENT_SUBSCRIBED | CLIENT_MONITOR):
        return self.monitor_hard if client.flags & CLIENT_MONITOR else self.pubsub_hard
    return self.output_hard


cdef void begin_replies(Connections self, Conn *c) noexcept nogil:
    cdef size_t limit
    if c.iteration != self.iterations:
        c.iteration = self.iterations
        c.reply_at = c.client.reply.buf.n
        c.replies = 0
        c.client.reply.most = 0
        limit = hard_limit(self, &c.client)
        if limit:
            c.client.reply.most = limit - c.out_bytes if limit > c.out_bytes else 1
        c.client.flags &= ~<uint32_t>CLIENT_WROTE


cdef void port_begin_reply(void *owner, Client *client) noexcept nogil:
    begin_replies(<Connections>owner, <Conn*>client)


cdef void port_wake(void *owner, Client *client, uint32_t replies) noexcept nogil:
    wake_conn(<Connections>owner, <Conn*>client, replies)


cdef inline void wake_conn(Connections self, Conn *c, uint32_t replies) noexcept nogil:
    c.replies += replies
    c.client.active = self.d.steady
    add_send(self, c)
    if (not c.client.flags & CLIENT_BLOCKED
            and (c.held.n or c.state & (CONN_READABLE | CONN_UNPARSED))):
        add_ready(self, c)


cdef void port_pushed(void *owner, Client *client) noexcept nogil:
    note_push(<Connections>owner, <Conn*>client)


cdef void note_push(Connections self, Conn *c) noexcept nogil:
    """Whoever is over the limit is let go of at once: an iteration may bring any number of
    messages. Who has not asked for each, but tracks keys, is as who monitors."""
    cdef size_t limit = hard_limit(self, &c.client)
    if limit == 0 and not c.client.flags & CLIENT_SUBSCRIBED:
        limit = self.monitor_hard
    add_send(self, c)
    if limit and c.out_bytes + c.client.reply.buf.n + c.client.push_bytes > limit:
        self.counts.closed_output += 1
        c.client.flags |= CLIENT_KILLED
        drop_pushes(&c.client)


cdef Client *port_find(void *owner, uint64_t id) noexcept nogil:
    return <Client*>(<Connections>owner).find(id)


cdef int port_gone(void *owner, Client *client) noexcept nogil:
    return ((<Conn*>client).state & (CONN_HUNGUP | CONN_DEAD)) != 0


cdef void refuse_writers(Connections self) noexcept nogil:
    """Nobody whose write is not logged is told that it was done."""
    cdef Conn *c = self.to_send
    cdef Push *pushes
    cdef size_t j
    cdef uint32_t i
    while c != NULL:
        if c.client.flags & CLIENT_WROTE and c.iteration == self.iterations:
            c.client.reply.buf.n = c.reply_at
            for i in range(c.replies):
                reply_error(&c.client.reply, self.d.misconf)
            # messages are no replies: they go out behind the errors
            pushes = <Push*>c.client.pushes.p
            for j in range(c.client.pushes.n // sizeof(Push)):
                if pushes[j].at > c.reply_at:
                    pushes[j].at = c.client.reply.buf.n
        c = c.next_send


# ---- the end of a connection ---------------------------------------------------------------------

cdef void kill(Connections self, Conn *c) noexcept nogil:
    if c.state & CONN_DEAD:
        return
    c.state |= CONN_DEAD
    c.next_dead = self.dead
    self.dead = c


cdef void free_block(OutBlock *o) noexcept nogil:
    buffer_free(&o.buf)
    let_go(o.shared)
    free(o)


cdef void free_dead(Connections self) noexcept nogil:
    """At the end of the iteration, when no list and no event refers to them."""
    cdef Conn *c
    cdef Conn **at
    cdef OutBlock *o
    if self.dead == NULL:
        return
    tell_denials(self.d)
    # A dead one may still stand on the lists of the next iteration.
    drop_dead(&self.ready)
    drop_dead(&self.passed_over)
    at = &self.to_send
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
            self.first = c.next
        if c.next != NULL:
            c.next.prev = c.prev
        self.connected -= 1
        self.evictable -= c.counted
        self.memory_gone += client_memory(&c.client, c)
        if c.tls != NULL:
            tls_queue_remove(&self.handshakes, c.tls)
            tls_end(c.tls)
        # closing is not enough where a child process has the socket, too
        epoll_ctl(self.ep, EPOLL_CTL_DEL, c.client.fd, NULL)
        close(c.client.fd)
        while c.out_head != NULL:
            o = c.out_head
            c.out_head = o.next
            free_block(o)
        buffer_free(&c.held)
        parser_free(&c.parser)
        client_free(self.d, &c.client)
        end_session(self.d, &c.client)
        free(c)


# ---- what clients take ---------------------------------------------------------------------------

cdef void count_memory(Connections self, Conn *c) noexcept nogil:
    self.evictable -= c.counted
    c.counted = 0
    if self.most_memory and not (c.client.flags & CLIENT_NO_EVICT or c.state & CONN_DEAD):
        c.counted = client_memory(&c.client, c)
        self.evictable += c.counted


cdef void evict_clients(Connections self) noexcept nogil:
    """In rounds, each through all clients: those go that take at least half of the most that one
    takes."""
    cdef size_t most
    cdef Conn *c
    while self.evictable > self.most_memory:
        most = 0
        c = self.first
        while c != NULL:
            most = max(most, c.counted)
            c = c.next
        c = self.first
        while c != NULL and self.evictable > self.most_memory:
            if c.counted > most // 2:
                self.counts.evicted += 1
                kill(self, c)
                count_memory(self, c)
            c = c.next


# ---- what CLIENT LIST says -----------------------------------------------------------------------

cdef size_t client_memory(Client *c, Conn *conn) noexcept nogil:
    cdef size_t n = sizeof(Conn) + c.reply.buf.cap + c.queue.cap + c.pushes.cap
    n += c.watched_cap * sizeof(Watched)
    n += sizeof(Subscription) * (c.subscribed[0] + c.subscribed[1] + c.subscribed[2])
    if c.wait != NULL:
        n += wait_memory(c.wait)
    if conn != NULL:
        n += parser_memory(&conn.parser) + conn.held.cap + conn.out_bytes
        if conn.tls != NULL:
            n += TLS_MEMORY
    return n


cdef dict client_row(Client *c, Conn *conn):
    """Every field of CLIENT LIST, in its order."""
    cdef size_t qbuf = conn.parser.buf.n - conn.parser.start if conn != NULL else 0
    flags = "".join(letter for bit, letter in ((CLIENT_MONITOR, "O"), (CLIENT_SUBSCRIBED, "P"),
                                               (CLIENT_MULTI, "x"), (CLIENT_BLOCKED, "b"),
                                               (CLIENT_TRACKING, "t"), (CLIENT_BROKEN, "R"),
                                               (CLIENT_BCAST, "B"),
                                               (CLIENT_CLOSE, "c"), (CLIENT_KILLED, "A"),
                                               (CLIENT_UNIX, "U"), (CLIENT_NO_EVICT, "e"),
                                               (CLIENT_NO_TOUCH, "T")) if c.flags & bit)
    now = c.active if conn == NULL else clock_ms(CLOCK_MONOTONIC)
    return {
        "id": c.id, "addr": c.addr.decode(), "laddr": local_address(c) if c.fd >= 0 else "",
        "fd": c.fd, "name": text_of(c.name),
        "age": max(now - c.created, 0) // 1000, "idle": max(now - c.active, 0) // 1000,
        "flags": flags or "N", "db": c.db,
        "sub": c.subscribed[<int>TOPIC_CHANNEL], "psub": c.subscribed[<int>TOPIC_PATTERN],
        "ssub": c.subscribed[<int>TOPIC_SHARD], "multi": c.queued if c.flags & CLIENT_MULTI else -1,
        "qbuf": qbuf,
        "qbuf-free": conn.parser.buf.cap - conn.parser.buf.n if conn != NULL else 0,
        "argv-mem": c.wait.args.n if c.wait != NULL else 0, "multi-mem": c.queue.n,
        "rbs": c.reply.buf.cap, "rbp": c.reply.buf.n, "obl": c.reply.buf.n,
        "oll": conn.out_blocks if conn != NULL else 0,
        "omem": conn.out_bytes if conn != NULL else 0, "tot-mem": client_memory(c, conn),
        "events": "rw" if conn != NULL and conn.state & CONN_WANTS_OUT else "r",
        "cmd": c.command.name.decode() if c.command != NULL else "NULL",
        "user": text_of(c.user.name.p) if c.user != NULL else "",
        "redir": track_target(c), "resp": c.reply.resp, "lib-name": text_of(c.lib_name),
        "lib-ver": text_of(c.lib_ver),
    }


def session_row(Session session) -> dict:
    """The row of one client (CLIENT INFO)."""
    return client_row(session.c, <Conn*>session.c if session.c.fd >= 0 else NULL)

# The loop: what one iteration does, and in which order.
#
#   1  epoll_wait; the clock is read once
#   2  accept what waits; call_soon and periodic callbacks, deferred replies that are due
#   3  for every client that has bytes: read, parse, run, replies into its buffer
#   4  apply what peers sent (within a time budget), reap expired keys, serve who waited for what
#      came
#   5  the iteration's ops: one record, one append to the log; the same bytes to the sync thread
#   6  replies to the sockets, connections to be closed closed
#
# A reply leaves in step 6 only, so no client is told of a write that step 5 has not logged. Should
# the log fail, the replies of those who wrote in this iteration are replaced by errors; the log
# keeps the record for its next file, and until that is open writes, ops from peers and the reaping
# of expired keys are refused or left.
#
# The GIL is held from an iteration's first Python call to its end and never otherwise.
#
# Not here: TLS.

import collections
import os
import resource
import signal
import socket

from cpython.exc cimport PyErr_CheckSignals

from crdtredis._core cimport (LOG_FAILED, LOG_OPEN, RECORD_FULL, RECORD_HEAD, PENDING_SLICE,
                              active_expiry, collect, free_garbage, has_ops, pages_due,
                              pages_give, pages_slices, pages_watch, receive, record_end,
                              retry_pending, table_work, take_record)
from crdtredis.errors cimport LOG_NOT_WRITTEN

cdef enum:
    EVENTS = 1024           # per epoll_wait
    TAG_WAKE = 1            # epoll data of what is no connection: below any address
    TAG_BRIDGE = 2
    TAG_SIGNAL = 3
    TAG_LISTENER = 16
    LISTENERS = 16
    REAP_SLICE = 100        # keys
    # keys of flushed databases and members of deleted collections freed in an iteration
    FREE_SLICE = 1000
    REHASH_SLICE = 2000     # elements per database and cron run
    COLLECT_SLICE = 1000    # buckets looked at for tombstones per cron run
    RECEIVE_US = 2000       # time for peers' ops in an iteration
    FLUSH_MS = 1000         # for unsent replies at the end


cdef class Loop:
    """Serves an Executor's commands to sockets, on the thread that calls run().

    executor    what runs the commands.
    log         the SegmentWriter that takes each iteration's record before its replies leave; None:
                nothing is logged.
    log_tick    called when the log wants it (SegmentWriter.wants_tick).
    bridge      the crossing to the sync thread; None: no replication.

    Everything but call_soon() and stop() belongs to the thread of run(), or to the time before it.
    """

    def __cinit__(self, Executor executor, SegmentWriter log=None, Bridge bridge=None,
                  log_tick=None):
        self.ep = self.wake_fd = self.signal_fd = self.signal_write_fd = -1
        self.executor = executor
        self.d = &executor.d
        self.k = executor.d.kernel
        self.bridge = bridge
        self.calls = collections.deque()
        self.periodic = []
        self.work = []
        self.on_stop = []
        self.events = need_memory(malloc(sizeof(epoll_event) * EVENTS))
        self.next_python = -1
        self.timeout = 0
        self.keepalive = 300
        self.hz_ = 10
        self.query_limit = 1 << 30
        self.iteration_limit = OPS_SLICE
        self.record_limit = RECORD_FULL
        self.max_bulk = 512 << 20
        self.protected_mode = True
        self.active_expire = True
        self.collect_every = 60_000
        self.ep = epoll_create1(EPOLL_CLOEXEC)
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.signal_fd, self.signal_write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch_fd(self.wake_fd, TAG_WAKE)
        self.watch_fd(self.signal_fd, TAG_SIGNAL)
        if bridge is not None:
            self.watch_fd(bridge.engine_fd, TAG_BRIDGE)
        self.log = log
        self.log_tick = log_tick
        self.reserve = 32
        # whoever has settings asks for as many files
        self.max_clients_ = 10000
        self.d.loop = <void*>self
        self.d.wake = loop_wake
        self.set_clock()

    def __dealloc__(self):
        cdef int i
        while self.conns != NULL:
            kill(self, self.conns)
            free_dead(self)
        for i in range(self.listener_n):
            if self.listeners[i].fd >= 0:
                close(self.listeners[i].fd)
        for fd in (self.ep, self.wake_fd, self.signal_fd, self.signal_write_fd):
            if fd >= 0:
                close(fd)
        if self.d != NULL and self.d.loop == <void*>self:
            self.d.loop = NULL
            self.d.wake = NULL
        buffer_free(&self.shared)
        buffer_free(&self.record.buf)
        for i in range(<int>self.owed_n):
            give_back(self.owed[i].message)
        free(self.owed)
        free(self.events)

    cdef int watch_fd(self, int fd, uint64_t tag) except -1:
        cdef epoll_event e
        e.events = EPOLLIN | <uint32_t>EPOLLET
        e.data.u64 = tag
        if epoll_ctl(self.ep, EPOLL_CTL_ADD, fd, &e) != 0:
            raise OSError(errno, strerror(errno).decode())
        return 0

    # ---- settings --------------------------------------------------------------------------------

    @property
    def max_clients(self) -> int:
        return self.max_clients_

    @max_clients.setter
    def max_clients(self, uint32_t value):
        """As many as the limit of open files allows, with `reserve` descriptors left for everything
        else."""
        need = value + self.reserve
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < need:
            allowed = need if hard == resource.RLIM_INFINITY else min(need, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            if allowed < need:
                log.warning("max_connections %d needs %d open files, and %d are allowed: "
                            "%d connections", value, need, allowed,
                            max(allowed - self.reserve, 1))
                value = max(allowed - self.reserve, 1)
        self.max_clients_ = value

    @property
    def hz(self) -> int:
        return self.hz_

    @hz.setter
    def hz(self, int value):
        self.hz_ = min(max(value, 1), 500)

    @property
    def tcp_keepalive(self) -> int:
        return self.keepalive

    @tcp_keepalive.setter
    def tcp_keepalive(self, int seconds):
        """For connections accepted from now on; 0: off."""
        cdef int i
        self.keepalive = seconds
        for i in range(self.listener_n):
            if not self.listeners[i].is_unix:
                with socket.socket(fileno=os.dup(self.listeners[i].fd)) as s:
                    self.set_keepalive(s)

    def set_keepalive(self, s):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1 if self.keepalive else 0)
        if self.keepalive:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self.keepalive)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(self.keepalive // 3, 1))
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

    def listen_tcp(self, str host, int port, int backlog=511) -> int:
        """Listens on one address (IPv4 or IPv6); port 0 picks one. Answers the port. OSError where
        that is impossible."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        s = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.set_keepalive(s)
            s.bind((host, port))
            s.listen(backlog)
            port = s.getsockname()[1]
            self.add_listener(s, "")
        except BaseException:
            s.close()
            raise
        return port

    def listen_unix(self, str path, int perm=0, int backlog=511):
        """Listens on a Unix socket; a socket file left over from an earlier process is replaced.
        perm 0: as the umask has it."""
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            s.bind(path)
            if perm:
                os.chmod(path, perm)
            s.listen(backlog)
            self.add_listener(s, path)
        except BaseException:
            s.close()
            raise

    cdef add_listener(self, s, str path):
        cdef Listener *l
        # What is shown of it: whole characters of UTF-8, whatever bytes the path has.
        cdef bytes name = path.encode("utf-8", "replace")[:60].decode("utf-8", "ignore").encode()
        if self.listener_n == LISTENERS:
            raise OSError("too many addresses to listen on")
        l = &self.listeners[self.listener_n]
        self.watch_fd(s.fileno(), TAG_LISTENER + self.listener_n)
        l.fd = s.detach()
        l.is_unix = bool(path)
        l.pending = 1
        memcpy(l.path, PyBytes_AS_STRING(name), len(name) + 1)
        self.listener_n += 1

    def addresses(self) -> list[str]:
        """Where it listens: "ip:port", "[ip]:port", or the path of a Unix socket."""
        cdef sockaddr_storage a
        cdef socklen_t n
        cdef char text[64]
        cdef int i
        out = []
        for i in range(self.listener_n):
            if self.listeners[i].is_unix:
                out.append(self.listeners[i].path.decode())
            elif self.listeners[i].fd >= 0:
                n = sizeof(a)
                getsockname(self.listeners[i].fd, <sockaddr*>&a, &n)
                format_address(text, sizeof(text), &a, b"")
                out.append(text.decode())
        return out

    # ---- from Python -----------------------------------------------------------------------------

    def call_soon(self, fn):
        """Has fn() called on the engine thread, in its next iteration. From any thread. What it
        raises is logged."""
        self.calls.append(fn)
        signal_fd(self.wake_fd)

    def stop(self):
        """Ends run() after the iteration under way. From any thread, and from a signal handler."""
        self.stopping = 1
        signal_fd(self.wake_fd)

    def every(self, double seconds, fn):
        """Has fn() called on the engine thread every so many seconds, at least 1: each call takes
        the GIL."""
        if seconds < 1:
            raise ValueError("at least a second apart")
        due = clock_ms(CLOCK_MONOTONIC) + int(seconds * 1000)
        self.periodic.append([due, int(seconds * 1000), fn])
        self.next_python = min(item[0] for item in self.periodic)

    def add_work(self, fn):
        """Has fn() called in every iteration, with no waiting between iterations, until it answers
        False: recovery, in slices."""
        self.work.append(fn)
        self.working = 1
        signal_fd(self.wake_fd)

    def run(self):
        """Serves until stop(), or until a signal handler raises, which is raised here after an
        orderly end."""
        is_main = False
        old = -1
        try:
            old = signal.set_wakeup_fd(self.signal_write_fd, warn_on_full_buffer=False)
            is_main = True
        except ValueError:
            pass        # not the main thread: signals are somebody else's affair
        self.next_cron = clock_ms(CLOCK_MONOTONIC)
        self.d.in_loop = 1
        try:
            with nogil:
                pages_slices(1)
                while not self.stopping:
                    self.iterate()
                pages_slices(0)
                self.wind_down()
        finally:
            self.d.in_loop = 0
            if is_main:
                signal.set_wakeup_fd(old)
        if self.executor.pending is not None:
            pending, self.executor.pending = self.executor.pending, None
            raise pending

    def close(self):
        """Closes listening sockets and connections at once. For loops that are not running."""
        cdef int i
        for i in range(self.listener_n):
            if self.listeners[i].fd >= 0:
                close(self.listeners[i].fd)
                self.listeners[i].fd = -1
        while self.conns != NULL:
            kill(self, self.conns)
            free_dead(self)

    def stats(self) -> dict:
        """Counters since the start, and rates per second over the last 16 cron runs."""
        cdef uint32_t blocked = 0
        cdef Conn *c = self.conns
        while c != NULL:
            blocked += (c.client.flags & CLIENT_BLOCKED) != 0
            c = c.next
        return {"connected": self.connected, "blocked": blocked, "timeouts": self.d.timeout_n,
                "waited_keys": self.d.waited_keys,
                "accepted": self.accepted, "rejected": self.rejected,
                "net_in": self.net_in, "net_out": self.net_out, "iterations": self.iterations,
                "timed_out": self.timed_out,
                "closed_output": self.closed_output, "closed_query": self.closed_query,
                "ops_per_second": rate_of(&self.ops_rate), "in_per_second": rate_of(&self.in_rate),
                "out_per_second": rate_of(&self.out_rate)}

    def clients(self) -> list[dict]:
        """One row per connection, oldest first, as CLIENT LIST shows it."""
        cdef Conn *c = self.conns
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
        return session_of(self.executor, &c.client) if c != NULL else None

    def kill_client(self, uint64_t id) -> bool:
        """Closes a connection at the end of the iteration, unsent replies or not."""
        cdef Conn *c = self.find(id)
        if c == NULL:
            return False
        c.client.flags |= CLIENT_KILLED
        add_send(self, c)
        return True

    cdef Conn *find(self, uint64_t id) noexcept:
        cdef Conn *c = self.conns
        while c != NULL and (c.client.id != id or c.state & CONN_DEAD):
            c = c.next
        return c

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
        self.end_pause()

    # ---- the iteration ---------------------------------------------------------------------------

    cdef void set_clock(self) noexcept nogil:
        self.now = clock_ms(CLOCK_REALTIME)
        self.mono = self.d.steady = clock_ms(CLOCK_MONOTONIC)
        self.k.now = self.now

    cdef int wait_ms(self) noexcept nogil:
        """How long epoll_wait may sleep."""
        cdef int64_t ms
        cdef int i
        if (self.ready != NULL or self.received_more or self.k.garbage != NULL
            or (self.k.ready != NULL and may_serve(self.d)) or self.working or self.stopping):
            return 0
        if pages_due():
            return 0
        for i in range(self.listener_n):
            if self.listeners[i].pending == 1:
                return 0
        ms = self.next_cron - self.mono
        if self.k.heap_n and self.next_reap - self.mono < ms:
            ms = self.next_reap - self.mono
        if self.d.next_deferred >= 0 and self.d.next_deferred - self.mono < ms:
            ms = self.d.next_deferred - self.mono
        if self.d.timeout_n and self.d.timeouts[0].deadline - self.mono < ms:
            ms = self.d.timeouts[0].deadline - self.mono
        if self.d.pause_until and self.d.pause_until - self.mono < ms:
            ms = self.d.pause_until - self.mono
        return <int>ms if ms > 0 else 0

    cdef void iterate(self) noexcept nogil:
        cdef epoll_event *events = <epoll_event*>self.events
        cdef epoll_event *e
        cdef Conn *c
        cdef Conn *ready
        cdef int i, n
        cdef int accepting = 0
        n = epoll_wait(self.ep, events, EVENTS, self.wait_ms())
        self.iterations += 1
        self.set_clock()
        watch_clock(self.d)
        for i in range(n):
            e = &events[i]
            if e.data.u64 >= 4096:
                c = <Conn*>e.data.ptr
                if e.events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                    c.state |= CONN_READABLE
                    if e.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                        c.state |= CONN_HUNGUP
                    add_ready(self, c)
                if e.events & EPOLLOUT:
                    add_send(self, c)
            elif e.data.u64 >= TAG_LISTENER:
                self.listeners[e.data.u64 - TAG_LISTENER].pending = 1
            elif e.data.u64 == TAG_WAKE:
                self.calls_ready = 1
            elif e.data.u64 == TAG_BRIDGE:
                self.bridge_ready = 1
            elif e.data.u64 == TAG_SIGNAL:
                take_gil(self.d)
                loop_signals(self)
        accept_all(self)
        if self.calls_ready:
            self.calls_ready = 0
            take_gil(self.d)
            loop_calls(self)
        if self.working:
            take_gil(self.d)
            loop_work(self)
        if self.next_python >= 0 and self.mono >= self.next_python:
            take_gil(self.d)
            loop_periodic(self)
        if self.d.next_deferred >= 0 and self.mono >= self.d.next_deferred:
            take_gil(self.d)
            loop_deferred(self)
        expire_waiting(self.d)
        if self.d.pause_until and self.mono >= self.d.pause_until:
            self.end_pause()
        if self.mono >= self.next_cron:
            self.cron()
        if self.log is not None:
            self.watch_log()
        # The list has the newest first, and commands run in the order they came in. Who is not done
        # is put on a new list.
        ready = NULL
        while self.ready != NULL:
            c = self.ready
            self.ready = c.next_ready
            c.next_ready = ready
            ready = c
        while ready != NULL:
            c = ready
            ready = c.next_ready
            c.state &= ~<uint32_t>CONN_READY
            process(self, c)
        if self.bridge_ready or self.received_more:
            self.receive_messages()
        # Also in the iteration in which somebody may have looked at a key that has just expired:
        # with the next command it does not count any more.
        if self.mono >= self.next_reap or (self.k.heap_n and self.k.heap[0].at <= self.k.now):
            self.reap_due()
        if self.k.ready != NULL:
            serve_ready(self.d)
        if self.k.garbage != NULL:
            free_garbage(self.k, FREE_SLICE)
        elif pages_due():
            pages_give()
        # While loading there is nothing to log to; what the kernel will want to say first, its
        # actors, waits for the open log.
        if (has_ops(self.k) or self.owed_n) and not self.d.guard & GUARD_LOADING:
            self.log_iteration()
        if self.log is not None:
            self.tick_log()
        send_all(self)
        free_dead(self)
        drop_gil(self.d)
        if self.d.interrupted:
            self.stopping = 1

    cdef void end_pause(self) noexcept nogil:
        cdef Conn *c = self.conns
        self.d.pause_until = 0
        self.d.guard &= ~<uint32_t>(GUARD_PAUSE_ALL | GUARD_PAUSE_WRITE)
        while c != NULL:
            if c.client.flags & CLIENT_POSTPONED:
                c.client.flags &= ~<uint32_t>(CLIENT_POSTPONED | CLIENT_BLOCKED)
                add_ready(self, c)
            c = c.next

    # ---- peers, deadlines, the log ---------------------------------------------------------------

    cdef void receive_messages(self) noexcept nogil:
        """What may leave the causal buffer goes before what has just come: so that the room does
        not grow while there is no time for both."""
        cdef uint64_t begun = cycles()
        cdef uint64_t most = <uint64_t>(RECEIVE_US * self.d.ticks_per_usec)
        cdef uint64_t count
        cdef Message *b
        if self.bridge_ready:
            self.bridge_ready = 0
            read(self.bridge.engine_fd, &count, 8)
        self.received_more = 1
        while True:
            if self.d.guard & GUARD_MISCONF or not retry_pending(self.k, PENDING_SLICE):
                b = self.bridge.take() if self.bridge is not None else NULL
                if b == NULL:
                    self.received_more = 0
                    return
                self.receive_message(b)
            if cycles() - begun > most or iteration_is_full(self.d):
                return

    cdef void receive_message(self, Message *b) noexcept nogil:
        cdef int status = RESULT_UNLOGGED
        if not self.d.guard & GUARD_MISCONF:
            # the message stays until log_iteration, in this very iteration
            self.k.lending = not self.d.guard & GUARD_LOADING
            status = receive(self.k, b.bytes, b.n)
            self.k.lending = 0
        if self.owed_n == self.owed_cap:
            self.owed_cap = self.owed_cap * 2 if self.owed_cap else 16
            self.owed = <Owed*>need_memory(realloc(self.owed,
                                                        sizeof(Owed) * self.owed_cap))
        self.owed[self.owed_n].message = b
        self.owed[self.owed_n].status = status
        self.owed_n += 1

    cdef void reap_due(self) noexcept nogil:
        cdef int64_t ms
        if (not self.active_expire
            or self.d.guard & (GUARD_LOADING | GUARD_MISCONF | GUARD_PAUSE_ALL |
                               GUARD_PAUSE_WRITE)):
            self.next_reap = self.mono + 100
            return
        ms = active_expiry(self.k, REAP_SLICE)
        self.next_reap = self.mono + (ms if 0 <= ms < 100 else 100)

    cdef void log_iteration(self) noexcept nogil:
        """The iteration's ops into the log, then to the sync thread, with the answers to what it
        handed in. They are several records where they are many, and the sync thread is given each
        by itself: neither holds more at a time than a record or one op."""
        cdef Record *r = &self.record
        cdef Span head
        cdef uint64_t newest = self.k.actors.v[self.k.me].applied
        cdef int own = newest != self.own_logged
        cdef int logged = 1
        cdef uint32_t i
        self.own_logged = newest
        while take_record(self.k, r, self.record_limit):
            record_end(&r.buf, r.at, r.rest)
            head = span(r.buf.p + r.at, r.buf.n - r.at)
            if self.log is not None and self.log.append(head, r.rest, self.k.run_n > 0) != 0:
                logged = 0
            elif self.bridge is not None and self.bridge.wanted:
                head = span(head.p + RECORD_HEAD, head.n - RECORD_HEAD)
                if r.rest.n:
                    self.bridge.put_received(head, r.rest, self.message_of(r.rest.p))
                elif r.large:
                    self.bridge.put_large(&r.buf, r.at + RECORD_HEAD, own)
                else:
                    self.bridge.put_ops(head.p, head.n, own)
        if r.buf.cap > 2 * RECORD_FULL:
            buffer_free(&r.buf)
        if not logged:
            self.log_failed()
        for i in range(self.owed_n):
            self.bridge.put_result(self.owed[i].message, self.owed[i].status if logged
                                   else RESULT_UNLOGGED)
        self.owed_n = 0

    cdef Message *message_of(self, const char *p) noexcept nogil:
        """The RECEIVE of this iteration in whose bytes p lies."""
        cdef uint32_t i = 0
        while not self.owed[i].message.bytes <= p < self.owed[i].message.bytes + self.owed[
                i].message.n:
            i += 1
        return self.owed[i].message

    cdef void watch_log(self) noexcept nogil:
        """Follows the state of the log, which its own thread may change: writes are refused while
        it has failed."""
        if self.log.state == LOG_FAILED:
            if not self.d.guard & GUARD_MISCONF:
                snprintf(self.d.misconf, sizeof(self.d.misconf), LOG_NOT_WRITTEN,
                         strerror(self.log.error))
                self.d.guard |= GUARD_MISCONF
        elif self.d.guard & GUARD_MISCONF and self.log.state == LOG_OPEN:
            self.d.guard &= ~<uint32_t>GUARD_MISCONF
            if self.bridge is not None and self.bridge.wanted:
                # what waited is in the log now
                self.bridge.put(new_message(MESSAGE_GAP, 0, NULL, 0), 1)

    cdef void tick_log(self) noexcept nogil:
        """Lets the log do what is due, a new segment above all. Its header says what stands before
        it, by the kernel's clock: so this is done only where all that the kernel has applied was
        handed to the log."""
        if (self.log_tick is not None and not has_ops(self.k)
            and (self.tick_due or self.log.wants_tick())):
            self.tick_due = 0
            take_gil(self.d)
            loop_log_tick(self)
            self.watch_log()

    cdef void log_failed(self) noexcept nogil:
        """Nobody whose write is not logged is told that it was done."""
        cdef Conn *c = self.send_list
        cdef uint32_t i
        self.watch_log()
        self.tick_log()
        while c != NULL:
            if c.client.flags & CLIENT_WROTE and c.iteration == self.iterations:
                c.client.reply.buf.n = c.iteration_at
                for i in range(c.iteration_replies):
                    reply_error(&c.client.reply, self.d.misconf)
            c = c.next_send

    # ---- cron ------------------------------------------------------------------------------------

    cdef void cron(self) noexcept nogil:
        cdef int i
        self.cron_n += 1
        self.tick_due |= self.cron_n % <uint64_t>self.hz_ == 0
        self.next_cron = self.mono + 1000 // self.hz_
        for i in range(16):
            table_work(&self.k.db[i].table, REHASH_SLICE)
        if not self.d.guard & (GUARD_LOADING | GUARD_MISCONF):
            self.received_more |= retry_pending(self.k, PENDING_SLICE)
            if self.mono >= self.next_collect and collect(self.k, COLLECT_SLICE):
                self.next_collect = self.mono + self.collect_every
        for i in range(self.listener_n):
            if self.listeners[i].pending == 2:
                self.listeners[i].pending = 1
        pages_watch()
        rate_sample(&self.ops_rate, self.d.stats.commands, self.hz_)
        rate_sample(&self.in_rate, self.net_in, self.hz_)
        rate_sample(&self.out_rate, self.net_out, self.hz_)
        check_idle(self)

    # ---- the end ---------------------------------------------------------------------------------

    cdef void wind_down(self) noexcept nogil:
        """The last iteration is logged and answered: no new connections; on_stop; then a moment for
        replies that are still queued."""
        cdef epoll_event *events = <epoll_event*>self.events
        cdef Conn *c
        cdef int64_t deadline
        cdef int i, n, waiting
        for i in range(self.listener_n):
            close(self.listeners[i].fd)
            self.listeners[i].fd = -1
            self.listeners[i].pending = 0
        take_gil(self.d)
        loop_stopping(self)
        drop_gil(self.d)
        deadline = clock_ms(CLOCK_MONOTONIC) + FLUSH_MS
        while True:
            self.set_clock()
            waiting = 0
            c = self.conns
            while c != NULL:
                waiting += c.out_head != NULL
                c = c.next
            if not waiting or self.mono >= deadline:
                break
            n = epoll_wait(self.ep, events, EVENTS, 20)
            for i in range(n):
                if events[i].data.u64 >= 4096 and events[i].events & EPOLLOUT:
                    send_conn(self, <Conn*>events[i].data.ptr)
            free_dead(self)
        c = self.conns
        while c != NULL:
            kill(self, c)
            c = c.next
        free_dead(self)
        drop_gil(self.d)


# ---- the loop's Python side ----------------------------------------------------------------------

cdef void loop_calls(Loop self) noexcept with gil:
    cdef uint64_t count
    read(self.wake_fd, &count, 8)
    for _ in range(len(self.calls)):
        guarded(self, self.calls.popleft())


cdef void loop_work(Loop self) noexcept with gil:
    for fn in list(self.work):
        if guarded(self, fn) is False or self.stopping:
            self.work.remove(fn)
    self.working = len(self.work) > 0


cdef void loop_periodic(Loop self) noexcept with gil:
    for item in self.periodic:
        if self.mono >= item[0]:
            item[0] = self.mono + item[1]
            guarded(self, item[2])
    self.next_python = min(item[0] for item in self.periodic)


cdef void loop_log_tick(Loop self) noexcept with gil:
    guarded(self, self.log_tick)


cdef void loop_deferred(Loop self) noexcept with gil:
    guarded(self, self.executor.expire_deferred)


cdef void loop_stopping(Loop self) noexcept with gil:
    for fn in self.on_stop:
        guarded(self, fn)


cdef void loop_signals(Loop self) noexcept with gil:
    """The interpreter runs its signal handlers here, since nothing else on this thread may do so
    for a long time."""
    cdef char scratch[64]
    while read(self.signal_fd, scratch, sizeof(scratch)) > 0:
        pass
    guarded(self, check_signals)


def check_signals():
    PyErr_CheckSignals()


cdef object guarded(Loop self, fn):
    """fn(), whatever it raises. Answers False when it failed."""
    try:
        return fn()
    except Exception:
        log.exception("%r failed", fn)
    except BaseException as e:
        self.executor.pending = e
        self.stopping = 1
    return False


cdef void rate_sample(Rate *r, uint64_t total, int hz) noexcept nogil:
    r.samples[r.at % 16] = (total - r.last) * <uint64_t>hz
    r.last = total
    r.at += 1


cdef uint64_t rate_of(Rate *r) noexcept:
    cdef uint64_t sum = 0
    cdef int i
    for i in range(16):
        sum += r.samples[i]
    return sum // 16

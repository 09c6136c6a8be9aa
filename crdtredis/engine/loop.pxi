# The loop: what one iteration does, and in which order.
#
#   1  epoll_wait; the clock is read once
#   2  accept what waits; callbacks, deferred replies that are due, cron
#   3  for every client that has bytes: read, parse, run, replies into its buffer
#   4  apply what peers sent (within a time budget), expire keys, make room, serve clients that wait
#   5  the iteration's ops: one record, one append to the log; the same bytes to the sync thread
#   6  replies to the sockets, connections to be closed closed
#
# A reply leaves in step 6 only, so no client is told of a write that step 5 has not logged. Should
# the log fail, the replies of those who wrote in this iteration are replaced by errors.
#
# The GIL is held from an iteration's first Python call to its end and never otherwise.

import collections
import os
import signal
import sys

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdlib cimport free, malloc
from posix.unistd cimport usleep

from crdtredis._core cimport (DATABASES, PENDING_SLICE, RECORD_FULL, SegmentWriter, active_expiry,
                              collect, free_garbage, has_ops, kernel_tombstones, mem_used,
                              mirror_lose, pack_due, pages_due, pages_give, pages_look,
                              pages_slices, pages_watch, retry_pending, sweep_streams, table_work,
                              texts_work)
from crdtredis.buffer cimport buffer_free, need_memory

cdef enum:
    EVENTS = 1024           # per epoll_wait
    EXPIRE_SLICE = 100      # keys
    SWEEP_SLICE = 1000      # buckets of keys, and idempotent ids, looked at for what has run out
    FREE_SLICE = 1000       # keys of flushed databases and members of collections per iteration
    PACK_SLICE = 2000       # small collections per iteration,
    PACK_OWED = 1 << 15     # which, where more bytes of them are remembered, is
    PACK_MS = 10            # never later than this
    REHASH_SLICE = 2000     # elements per database and cron run
    COLLECT_SLICE = 1000    # buckets looked at for tombstones per cron run,
    COLLECT_OWED = 16_000   # and where their memory is lacking: some milliseconds
    TEXTS_SLICE = 20_000    # patches folded, or keys that have some looked at, per cron run
    SEE_OFF_MS = 1000       # for who is told to move
    FLUSH_MS = 1000         # for unsent replies at the end
    ACTIVE_MS = 1000        # for which threads count as active after their last job
    OWED_MS = 100           # until tombstones of evicted keys are looked for
    DRAIN_READS = 64        # of 16 KiB that a client has sent, at the end


cdef void collect_some(Loop self) noexcept nogil:
    """Goes on with a round of letting tombstones go: soon and fast where memory is lacking, as long
    as some go. Those of ended processes may stay."""
    cdef int lacking = self.d.room.owed or (self.d.room.over_since and not self.collects_none)
    cdef int most = COLLECT_OWED if lacking and not self.collects_none else COLLECT_SLICE
    cdef int64_t before = kernel_tombstones(self.k)
    cdef int over
    if lacking:
        self.next_collect = min(self.next_collect, self.d.steady + OWED_MS)
    if self.d.steady < self.next_collect:
        return
    over = collect(self.k, most)
    self.collected += before - kernel_tombstones(self.k)
    if over or self.collected:
        self.collects_none = self.collected == 0
    if over:
        self.collected = 0
        self.next_collect = self.d.steady + self.collect_every


cdef class Loop(Listeners):
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
        self.wake_fd = self.signal_fd = self.signal_write_fd = -1
        self.k = self.d.kernel
        self.journal = Journal.__new__(Journal, executor, log, bridge)
        self.log_tick = log_tick
        self.record_limit = RECORD_FULL
        self.calls = collections.deque()
        self.seconds = []
        self.work = []
        self.on_stop = []
        self.events = need_memory(malloc(sizeof(epoll_event) * EVENTS))
        self.hz_ = 10
        self.active_expire = True
        self.collect_every = 60_000
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.signal_fd, self.signal_write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.add_fd(self.wake_fd, TAG_WAKE)
        self.add_fd(self.signal_fd, TAG_SIGNAL)
        if bridge is not None:
            self.add_fd(bridge.engine_fd, TAG_BRIDGE)
        self.d.loop = <void*>self
        self.d.abroad.tell = self.d.consumers.tell = bridge is not None
        self.d.scripting.serve_others = loop_serve_others
        self.set_clock()

    def __dealloc__(self):
        threads_end(self.threads)
        self.threads = NULL
        for fd in (self.wake_fd, self.signal_fd, self.signal_write_fd):
            if fd >= 0:
                close(fd)
        if self.d != NULL and self.d.loop == <void*>self:
            self.d.loop = NULL
            self.d.scripting.serve_others = NULL
        free(self.events)

    # ---- from Python -----------------------------------------------------------------------------

    @property
    def hz(self) -> int:
        return self.hz_

    @hz.setter
    def hz(self, int value):
        self.hz_ = min(max(value, 1), 500)

    def call_soon(self, fn):
        """Has fn() called on the engine thread, in its next iteration. From any thread. What it
        raises is logged."""
        self.calls.append(fn)
        signal_fd(self.wake_fd)

    def stop(self):
        """Ends run() after the iteration under way. From any thread, and from a signal handler."""
        self.stopping = 1
        signal_fd(self.wake_fd)

    def every_second(self, fn):
        """Has fn() called on the engine thread once a second: each call takes the GIL."""
        self.seconds.append(fn)
        self.seconds_n += 1

    def add_work(self, fn):
        """Has fn() called in every iteration, with no waiting between iterations, until it returns
        False: recovery, in slices."""
        self.work.append(fn)
        self.working = 1
        signal_fd(self.wake_fd)

    @property
    def joining(self) -> bool:
        """While True, clients are served what reads, and nothing but the callbacks of add_work()
        changes the keyspace: commands that write and what peers sent wait, nothing expires and no
        tombstone goes."""
        return (self.d.guard & GUARD_JOIN) != 0

    @joining.setter
    def joining(self, bint value):
        self.executor.set_guard(GUARD_JOIN, value)
        if not value:
            self.journal.more = 1
            resume_postponed(self)
            track_flush(self.d, NULL)                   # whatever the state has changed
            mirror_lose(self.k)

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
        gil_begin(&self.d.gil, sys.getswitchinterval())
        try:
            with nogil:
                pages_slices(1)
                while not self.stopping:
                    self.iterate()
                pages_slices(0)
                self.wind_down()
        finally:
            self.d.gil.in_loop = 0
            if is_main:
                signal.set_wakeup_fd(old)
        if self.executor.pending is not None:
            pending, self.executor.pending = self.executor.pending, None
            raise pending

    @property
    def io_threads(self) -> int:
        """Threads that make calls on sockets, the engine's among them: 1 to IO_THREADS, 1 at first.
        Set by a thread that runs no loop; OSError where they cannot be started."""
        return 1 + self.threads.n if self.threads != NULL else 1

    @io_threads.setter
    def io_threads(self, uint32_t value):
        if not 1 <= value <= IO_THREADS:
            raise ValueError(f"io_threads: expected 1 to {IO_THREADS}")
        threads_end(self.threads)
        error = threads_start(&self.threads, value)
        if error:
            raise OSError(error, f"an I/O thread cannot be started: {os.strerror(error)}")

    @property
    def io_least(self) -> int:
        """Calls for which a thread is woken: for fewer the engine makes them itself."""
        return self.threads.least if self.threads != NULL else 0

    @io_least.setter
    def io_least(self, uint32_t value):
        if self.threads != NULL:
            self.threads.least = max(value, 1)

    def close(self):
        """Closes listening sockets and connections at once, and ends the I/O threads. For loops
        that are not running."""
        self.close_listeners()
        self.close_all()
        threads_end(self.threads)
        self.threads = NULL

    def see_off(self, int64_t ms=SEE_OFF_MS) -> None:
        """Holds the connections of those who were told to move until they have ended them, `ms` at
        most. Who writes to a closed one is reset before it reads that; these it can still read,
        and whose address it is (redis-py asks). For loops that have run, before close()."""
        cdef int64_t deadline = clock_ms(CLOCK_MONOTONIC) + ms
        while still_there(self) and clock_ms(CLOCK_MONOTONIC) < deadline:
            with nogil:
                usleep(10_000)
            PyErr_CheckSignals()

    def stats(self) -> dict:
        """Counters since the start, and rates per second over the last 16 cron runs."""
        cdef uint32_t blocked = 0
        cdef Conn *c = self.first
        while c != NULL:
            blocked += (c.client.flags & CLIENT_BLOCKED) != 0
            c = c.next
        return {
            "connected": self.connected, "blocked": blocked,
            "gil_handed": self.d.gil.handed,
            "timeouts": self.d.waiting.timeout_n, "waited_keys": self.d.waiting.keys,
            "read_keys": self.d.waiting.read_keys,
            "accepted": self.counts.accepted, "rejected": self.counts.rejected,
            "net_in": self.counts.net_in, "net_out": self.counts.net_out,
            "iterations": self.iterations, "timed_out": self.counts.timed_out,
            "evicted": self.counts.evicted, "client_memory": self.memory,
            "closed_output": self.counts.closed_output,
            "closed_query": self.counts.closed_query,
            "ops_per_second": rate_of(&self.ops_rate), "in_per_second": rate_of(&self.in_rate),
            "out_per_second": rate_of(&self.out_rate),
            "tls_handshakes": self.counts.shaken, "tls_failed": self.counts.unshaken,
            "tls_errors": self.counts.broken, "tls_shaking": self.handshakes.n,
            "threaded_reads": self.counts.threaded_reads,
            "threaded_writes": self.counts.threaded_writes,
            "threads_active": (self.threads != NULL and self.threaded_at > 0
                               and self.d.steady - self.threaded_at < ACTIVE_MS),
        }

    # ---- the iteration ---------------------------------------------------------------------------

    cdef void set_clock(self) noexcept nogil:
        self.k.now = clock_ms(CLOCK_REALTIME)
        self.d.steady = clock_ms(CLOCK_MONOTONIC)

    cdef int wait_ms(self) noexcept nogil:
        cdef int64_t ms
        if (self.ready != NULL or self.passed_over != NULL or self.to_send != NULL
                or accepting(self)
                or self.journal.more or self.k.garbage != NULL
                or (self.k.watched.ready != NULL and may_serve(self.d))
                or self.working or self.stopping or self.d.abroad.more
                or pages_due() or self.d.room.more):
            return 0
        ms = self.next_cron - self.d.steady
        if self.k.packing.opened.n > PACK_OWED:
            ms = min(ms, <int64_t>PACK_MS)
        if self.k.deadlines.n and self.next_expiry - self.d.steady < ms:
            ms = self.next_expiry - self.d.steady
        if self.d.next_deferred >= 0 and self.d.next_deferred - self.d.steady < ms:
            ms = self.d.next_deferred - self.d.steady
        if self.d.waiting.timeout_n and self.d.waiting.timeouts[0].deadline - self.d.steady < ms:
            ms = self.d.waiting.timeouts[0].deadline - self.d.steady
        if self.d.pause_until and self.d.pause_until - self.d.steady < ms:
            ms = self.d.pause_until - self.d.steady
        return <int>ms if ms > 0 else 0

    cdef void take_events(self, epoll_event *events, int n) noexcept nogil:
        cdef epoll_event *e
        cdef Conn *c
        cdef int i
        for i in range(n):
            e = &events[i]
            if e.data.u64 >= TAGS:
                c = <Conn*>e.data.ptr
                if e.events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                    c.state |= CONN_READABLE
                    if e.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                        c.state |= CONN_HUNGUP
                    add_ready(self, c)
                if e.events & EPOLLOUT:
                    add_send(self, c)
                if c.tls != NULL:
                    wake_tls(self, c)
            elif e.data.u64 >= TAG_LISTENER:
                self.listeners[e.data.u64 - TAG_LISTENER].backlog = BACKLOG_NOW
            elif e.data.u64 == TAG_WAKE:
                self.calls_ready = 1
            elif e.data.u64 == TAG_BRIDGE:
                self.journal.signalled = 1
            elif e.data.u64 == TAG_SIGNAL:
                take_gil(&self.d.gil)
                loop_signals(self)

    cdef void run_callbacks(self) noexcept nogil:
        """Callbacks, and deferred replies that are due."""
        if self.calls_ready:
            self.calls_ready = 0
            take_gil(&self.d.gil)
            loop_calls(self)
        if self.working:
            take_gil(&self.d.gil)
            loop_work(self)
        if self.d.next_deferred >= 0 and self.d.steady >= self.d.next_deferred:
            take_gil(&self.d.gil)
            loop_deferred(self)

    cdef int wait(self) noexcept nogil:
        """How many events there are; waits for some while nothing else is to be done."""
        cdef epoll_event *events = <epoll_event*>self.events
        cdef int ms = self.wait_ms()
        cdef int n
        if self.threads != NULL and self.threads.polled_n:      # taken already
            self.threads.polled_n = 0
            return 0
        if self.d.gil.held:
            n = epoll_wait(self.ep, events, EVENTS, 0)
            if n or not ms:
                return n
            drop_gil(&self.d.gil)
        return epoll_wait(self.ep, events, EVENTS, ms)

    cdef void iterate(self) noexcept nogil:
        cdef int n = self.wait()
        cdef uint64_t begun
        cdef size_t used
        self.iterations += 1
        begin_shares(self)
        self.set_clock()
        check_clock(self.d)
        self.take_events(<epoll_event*>self.events, n)
        accept_all(self)
        self.run_callbacks()
        expire_waiting(self.d)
        if self.d.pause_until and self.d.steady >= self.d.pause_until:
            end_pause(self)
        if self.d.steady >= self.next_cron:
            self.cron()
        if self.k.notices.on:
            notify_others(self.d)                       # what was done outside of commands so far
        check_log(self.journal)
        self.heed_users()
        self.process_ready()
        if (self.journal.signalled or self.journal.more) and not self.d.guard & GUARD_JOIN:
            begun = event_begins(&self.d.latency)
            used = mem_used()
            receive_messages(self.journal)
            note_foreign(self.d, used)
            event_ends(self.d, LATENCY_RECEIVE, begun)
            self.heed_users()
        if self.d.abroad.parked != NULL:
            release_parked(self.d)
        # Also in the iteration in which somebody may have looked at a key that has just expired:
        # with the next command it does not count any more.
        if (self.d.steady >= self.next_expiry
                or (self.k.deadlines.n and self.k.deadlines.heap[0].at <= self.k.now)):
            self.expire_due()
        if self.d.guard & GUARD_OOM:
            evict_due(self.d)
        if self.k.watched.ready != NULL:
            serve_ready(self.d)
        if self.d.tracking.clients:
            track_iteration(self.d)
        if self.k.packing.opened.n:
            pack_due(self.k, PACK_SLICE)
        if self.k.garbage != NULL:
            free_garbage(self.k, FREE_SLICE)
        elif pages_due():
            pages_give()
        # While loading there is nothing to log to; what the kernel will want to say first, its
        # actors, waits for the open log.
        if unlogged(self.journal) and not self.d.guard & GUARD_LOADING:
            self.log_iteration()
        if (self.d.abroad.out.n or self.d.abroad.changes.n or self.d.abroad.whole
                or self.d.consumers.changes.n or self.d.consumers.whole):
            give_messages(self.journal)
        self.tick_log()
        send_all(self, 1)
        if self.threads != NULL:
            self.take_events(self.threads.polled, self.threads.polled_n)
        if self.most_memory:
            evict_clients(self)
        free_dead(self)
        share_gil(&self.d.gil)
        if self.d.interrupted:
            self.stopping = 1

    cdef void heed_users(self) noexcept nogil:
        """What peers have changed of users, or a full sync, holds for the next command."""
        if self.k.system_changes != self.users_seen and self.on_users_change is not None:
            self.users_seen = self.k.system_changes
            take_gil(&self.d.gil)
            loop_users_change(self)

    cdef void process_ready(self) noexcept nogil:
        """Every ready client's share, but for the one whose script runs."""
        cdef Conn *c
        cdef Conn *caller = NULL
        cdef int kept = 0
        if self.threads != NULL and self.d.scripting.run == NULL:
            self.process_threaded()
            return
        if self.d.scripting.run != NULL:
            caller = <Conn*>self.d.scripting.run.caller
        self.turn = take_ready(self)
        while self.turn != NULL:
            c = self.turn
            self.turn = c.next_ready
            c.state &= ~<uint32_t>CONN_READY
            if c == caller:
                kept = 1
            elif c.job:
                process_read(self, c)
            else:
                process(self, c)
        if kept:
            add_ready(self, caller)

    cdef void process_threaded(self) noexcept nogil:
        """The same with the help of threads. Those whose handshakes go on come after the others of
        their list of jobs, so that these need not wait for them."""
        cdef Conn *c
        cdef Conn *late = NULL
        self.turn = self.unread = take_ready(self)
        while self.turn != NULL or late != NULL:
            c = self.turn
            if late != NULL and (c == NULL or c == self.unread):
                c = late
                late = c.next_ready
            else:
                if c == self.unread:
                    read_ahead(self, c)
                self.turn = c.next_ready
                if c.job and is_shaking(self, c):
                    c.next_ready = late
                    late = c
                    continue
            c.state &= ~<uint32_t>CONN_READY
            process_read(self, c)

    cdef void serve_others(self) noexcept nogil:
        """What other clients have sent is read, and refused for the most part. A client that has a
        reply of this iteration already gets it with the iteration's end, since it may speak of
        writes that are not logged yet."""
        cdef Conn *held = self.to_send
        cdef epoll_event *events = <epoll_event*>self.events
        cdef Conn *c
        self.to_send = NULL
        while self.turn != NULL:                # those that the script keeps waiting
            c = self.turn
            self.turn = c.next_ready
            c.next_ready = self.ready
            self.ready = c
        self.d.steady = clock_ms(CLOCK_MONOTONIC)
        self.tell_life()
        begin_shares(self)
        if self.threads != NULL:
            await_all(self.threads)
            doubt_reads(self.threads)
        self.take_events(events, epoll_wait(self.ep, events, EVENTS, 0))
        accept_all(self)
        self.process_ready()
        c = self.to_send
        while c != NULL:
            c.iteration = 0                     # its next reply is the first again
            c = c.next_send
        send_all(self, 0)
        self.to_send = held
        share_gil(&self.d.gil)
        if self.stopping:
            if self.d.scripting.run.wrote:
                abandon()
            self.d.scripting.run.killed = 1

    cdef void tell_life(self) noexcept nogil:
        if self.on_life is not None and self.d.steady >= self.next_life:
            self.next_life = self.d.steady + 1000
            take_gil(&self.d.gil)
            loop_life(self)

    cdef void expire_due(self) noexcept nogil:
        cdef int64_t ms
        cdef uint64_t begun
        if (not self.active_expire
            or self.d.guard & (GUARD_LOADING | GUARD_MISCONF | GUARD_WAIT)):
            self.next_expiry = self.d.steady + 100
            return
        begun = event_begins(&self.d.latency)
        ms = active_expiry(self.k, EXPIRE_SLICE)
        sweep_streams(self.k, SWEEP_SLICE)
        event_ends(self.d, LATENCY_EXPIRE, begun)
        if self.k.notices.rows.n:
            notify_others(self.d)
        self.next_expiry = self.d.steady + (ms if 0 <= ms < 100 else 100)

    cdef void log_iteration(self) noexcept nogil:
        cdef uint64_t begun = event_begins(&self.d.latency)
        cdef int logged = log_ops(self.journal, self.record_limit)
        event_ends(self.d, LATENCY_LOG, begun)
        if not logged:
            check_log(self.journal)
            self.tick_log()
            refuse_writers(self)
        give_results(self.journal, logged)

    cdef void tick_log(self) noexcept nogil:
        """Lets the log do what is due, a new segment above all. Its header says what stands before
        it, by the kernel's clock: so this is done only where all that the kernel has applied was
        handed to the log."""
        if (self.log_tick is not None and self.journal.log is not None and not has_ops(self.k)
                and (self.tick_due or self.journal.log.wants_tick())):
            self.tick_due = 0
            take_gil(&self.d.gil)
            loop_log_tick(self)
            check_log(self.journal)

    # ---- cron ------------------------------------------------------------------------------------

    cdef void cron(self) noexcept nogil:
        cdef size_t used
        cdef int i
        self.cron_n += 1
        self.next_cron = self.d.steady + 1000 // self.hz_
        self.tell_life()
        tell_denials(self.d)
        if self.cron_n % <uint64_t>self.hz_ == 0:
            self.tick_due = 1
            if self.seconds_n:
                take_gil(&self.d.gil)
                loop_second(self)
        if self.k.system_changes != self.system_seen and self.on_system_change is not None:
            self.system_seen = self.k.system_changes
            take_gil(&self.d.gil)
            loop_system_change(self)
        for i in range(DATABASES):
            table_work(&self.k.db[i].table, REHASH_SLICE)
        if not self.d.guard & (GUARD_LOADING | GUARD_MISCONF | GUARD_JOIN):
            self.journal.more |= retry_pending(self.k, PENDING_SLICE)
            collect_some(self)
            texts_work(self.k, TEXTS_SLICE)
            if self.k.notices.rows.n:
                notify_others(self.d)
        end_consumed(self.d)
        for i in range(self.listener_n):
            if self.listeners[i].backlog == BACKLOG_LATER:
                self.listeners[i].backlog = BACKLOG_NOW
        used = mem_used() + self.memory + self.d.pubsub.bytes + self.d.tracking.bytes
        pages_watch(used + self.memory_gone)
        self.memory_gone = 0
        if self.cron_n % <uint64_t>self.hz_ == 1 % <uint64_t>self.hz_:     # with the first, too
            if self.shared.cap > READ_KEPT:
                buffer_free(&self.shared)
            pages_look(used)
        rate_sample(&self.ops_rate, self.d.stats.commands, self.hz_)
        rate_sample(&self.in_rate, self.counts.net_in, self.hz_)
        rate_sample(&self.out_rate, self.counts.net_out, self.hz_)
        check_idle(self, self.hz_)
        end_late_handshakes(self)

    # ---- the end ---------------------------------------------------------------------------------

    cdef void wind_down(self) noexcept nogil:
        """After the last iteration: no new connections; those who asked for it are told; on_stop;
        then a moment for replies that are still queued."""
        cdef epoll_event *events = <epoll_event*>self.events
        cdef Conn *c
        cdef int64_t deadline
        cdef int i, n, waiting
        self.close_listeners()
        take_gil(&self.d.gil)
        loop_moving(self)
        send_all(self, 0)
        free_dead(self)
        loop_stopping(self)
        drop_gil(&self.d.gil)
        deadline = clock_ms(CLOCK_MONOTONIC) + FLUSH_MS
        while True:
            self.set_clock()
            waiting = 0
            c = self.first
            while c != NULL:
                waiting += c.out_head != NULL
                c = c.next
            if not waiting or self.d.steady >= deadline:
                break
            n = epoll_wait(self.ep, events, EVENTS, 20 if self.to_send == NULL else 0)
            for i in range(n):
                if events[i].data.u64 >= TAGS and events[i].events & EPOLLOUT:
                    add_send(self, <Conn*>events[i].data.ptr)
            send_all(self, 0)
            free_dead(self)
        end_all(self, deadline)
        drop_gil(&self.d.gil)


cdef void end_all(Loop self, int64_t deadline) noexcept nogil:
    """Ends what clients are sent. What is unread when a connection is closed, or comes later, would
    have the system reset it, and the client might not get the last that it was sent: MOVING. So
    what has come is read, within bounds, and dropped, and close() closes the connections: when the
    rest of the server has stopped, too."""
    cdef char scratch[16384]
    cdef Conn *c = self.first
    cdef int i
    while c != NULL:
        if c.tls != NULL:
            tls_farewell(c.tls)
        shutdown(c.client.fd, SHUT_WR)
        for i in range(DRAIN_READS if clock_ms(CLOCK_MONOTONIC) < deadline else 0):
            if recv(c.client.fd, scratch, sizeof(scratch), 0) <= 0:
                break
        c = c.next


cdef int still_there(Loop self) noexcept nogil:
    """How many of those who were told to move have not ended their connection. What they send is
    dropped."""
    cdef char scratch[16384]
    cdef Conn *c = self.first
    cdef int i, there = 0
    cdef ssize_t n
    while c != NULL:
        if c.client.flags & CLIENT_MOVES and c.client.reply.resp == 3:
            n = 1
            i = 0
            while n > 0 and i < DRAIN_READS:
                n = recv(c.client.fd, scratch, sizeof(scratch), 0)
                i += 1
            if n == 0 or (n < 0 and errno != EAGAIN and errno != EINTR):
                c.client.flags &= ~<uint32_t>CLIENT_MOVES
            else:
                there += 1
        c = c.next
    return there


# ---- the loop's Python side ----------------------------------------------------------------------

cdef void loop_serve_others(void *loop) noexcept nogil:
    (<Loop>loop).serve_others()


cdef void abandon() noexcept with gil:
    """The end of the process in the middle of a script that has written: see scripting.pxi."""
    log.warning("The server ends while a script runs that has written: what it wrote is lost")
    logging.shutdown()
    os._exit(0)


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


cdef void loop_second(Loop self) noexcept with gil:
    for fn in self.seconds:
        guarded(self, fn)


cdef void loop_life(Loop self) noexcept with gil:
    guarded(self, self.on_life)


cdef void loop_system_change(Loop self) noexcept with gil:
    guarded(self, self.on_system_change)


cdef void loop_users_change(Loop self) noexcept with gil:
    guarded(self, self.on_users_change)


cdef void loop_log_tick(Loop self) noexcept with gil:
    guarded(self, self.log_tick)


cdef void loop_deferred(Loop self) noexcept with gil:
    guarded(self, self.executor.expire_deferred)


cdef void loop_moving(Loop self) noexcept with gil:
    guarded(self, self.tell_moving)


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
    """fn(), whatever it raises; False when it failed."""
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

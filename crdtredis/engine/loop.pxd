# epoll loop and connections: see engine/loop.pxi.

cdef struct Listener:
    int fd
    int is_unix
    int pending             # accept stopped early: the burst was long, or descriptors ran out
    char path[64]

# A result owed to the sync thread once the iteration is logged.
cdef struct Owed:
    Message *message        # the RECEIVE
    int status

# Bytes or commands per second over the last 16 samples.
cdef struct Rate:
    uint64_t last
    uint64_t samples[16]
    uint32_t at

cdef class Loop:
    cdef readonly Executor executor
    cdef Dispatch *d
    cdef Kernel *k
    cdef readonly Bridge bridge
    cdef readonly SegmentWriter log     # None: nothing is logged
    cdef object log_tick
    # descriptors
    cdef int ep
    cdef int wake_fd                    # eventfd: call_soon, stop
    cdef int signal_fd                  # read end of the pipe for signal.set_wakeup_fd
    cdef readonly int signal_write_fd
    cdef Listener listeners[16]
    cdef int listener_n
    cdef void *events                   # struct epoll_event[]
    # connections
    cdef Conn *conns                    # newest first
    cdef Conn *cron_at                  # where the next slice of idle checks begins
    cdef Conn *ready
    cdef Conn *send_list
    cdef Conn *dead
    cdef readonly uint32_t connected
    cdef Ahead ahead[16]
    cdef Span ahead_args[128]
    cdef Buffer shared                  # read buffer lent to one parser at a time
    # one iteration
    cdef int64_t now                    # wall clock, ms
    cdef int64_t mono                   # monotonic, ms
    cdef Record record
    cdef Owed *owed
    cdef uint32_t owed_n
    cdef uint32_t owed_cap
    cdef uint64_t own_logged            # seq of the newest own op when an iteration was last logged
    # time was up before the causal buffer and the bridge's queue had given all they could
    cdef int received_more
    cdef int bridge_ready
    cdef int calls_ready
    # what is due
    cdef int64_t next_cron
    cdef int64_t next_python
    cdef int64_t next_reap
    # when the next round of letting tombstones go begins, or goes on
    cdef public int64_t next_collect
    cdef uint64_t cron_n
    # a second has passed since the log was last asked whether something is due
    cdef int tick_due
    cdef int working                    # `work` is not empty
    cdef int stopping
    cdef object calls                   # deque of callables for call_soon
    cdef list periodic                  # [due, interval, callable]
    cdef list work
    # called once, when the last iteration is done and before replies are flushed
    cdef public list on_stop
    # settings
    cdef uint32_t max_clients_
    cdef public uint32_t reserve        # descriptors left to everything but clients
    cdef public int64_t timeout         # s of idleness after which a client is closed, 0: never
    cdef int keepalive                  # s
    cdef int hz_
    cdef public size_t output_hard      # bytes, 0: no limit
    cdef public size_t output_soft
    cdef public int64_t output_soft_seconds
    cdef public size_t query_limit      # bytes of unfinished commands and MULTI queue
    # bytes of ops after which all clients, and peers, wait for the next iteration
    cdef public size_t iteration_limit
    cdef public size_t record_limit     # bytes of a record of the log, unless one op is larger
    cdef public int64_t max_bulk        # bytes of one argument
    # refuse strangers from other hosts while there is no password
    cdef public bint protected_mode
    # ms between the end of one such round and the beginning of the next
    cdef public int64_t collect_every
    cdef public bint active_expire      # reap without being asked: DEBUG SET-ACTIVE-EXPIRE
    # statistics
    cdef uint64_t accepted
    cdef uint64_t rejected
    cdef uint64_t closed_output         # for exceeding an output limit
    cdef uint64_t closed_query
    cdef uint64_t timed_out
    cdef uint64_t net_in
    cdef uint64_t net_out
    cdef uint64_t iterations
    cdef Rate ops_rate
    cdef Rate in_rate
    cdef Rate out_rate

    cdef int watch_fd(self, int fd, uint64_t tag) except -1
    cdef add_listener(self, s, str path)
    cdef Conn *find(self, uint64_t id) noexcept
    cdef void iterate(self) noexcept nogil
    cdef int wait_ms(self) noexcept nogil
    cdef void set_clock(self) noexcept nogil
    cdef void end_pause(self) noexcept nogil
    cdef void receive_messages(self) noexcept nogil
    cdef void receive_message(self, Message *b) noexcept nogil
    cdef void reap_due(self) noexcept nogil
    cdef void log_iteration(self) noexcept nogil
    cdef Message *message_of(self, const char *p) noexcept nogil
    cdef void watch_log(self) noexcept nogil
    cdef void tick_log(self) noexcept nogil
    cdef void log_failed(self) noexcept nogil
    cdef void cron(self) noexcept nogil
    cdef void wind_down(self) noexcept nogil

# The loop: one thread, one epoll, one iteration after the other.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis._core cimport Kernel

# Bytes or commands per second over the last 16 samples.
cdef struct Rate:
    uint64_t last           # total at the newest sample
    uint64_t samples[16]    # per second
    uint32_t at             # samples ever taken

cdef class Loop(Listeners):
    cdef Kernel *k
    # the log and the sync thread
    cdef Journal journal
    cdef object log_tick
    cdef int tick_due                   # a second has passed since the log was last asked
    # descriptors
    cdef int wake_fd                    # eventfd: call_soon, stop
    cdef int signal_fd                  # read end of the pipe for signal.set_wakeup_fd
    cdef readonly int signal_write_fd
    cdef void *events                   # struct epoll_event[EVENTS]
    cdef Conn *turn                     # ready ones whose turn in this iteration has not come
    # when what is due: ms, Dispatch.steady
    cdef int64_t next_cron
    cdef int64_t next_expiry            # active expiry
    cdef public int64_t next_collect    # the next round of letting tombstones go begins, or goes on
    cdef int64_t collected              # tombstones that this round has let go
    cdef int collects_none              # it, or the one before, has let none go
    cdef uint64_t cron_n                # runs so far
    # Python callables
    cdef object calls                   # deque, for call_soon
    cdef int calls_ready
    cdef list seconds                   # once a second
    cdef int seconds_n
    # called within a run of cron of a change in the system's database
    cdef public object on_system_change
    cdef uint64_t system_seen           # Kernel.system_changes of which it was told
    # called of such a change before clients' commands run, and before those who wait are served
    cdef public object on_users_change
    cdef uint64_t users_seen
    # called about once a second, also while a script runs on and on; None: nobody asks
    cdef public object on_life
    cdef int64_t next_life              # ms, Dispatch.steady
    cdef list work
    cdef int working                    # `work` is not empty
    cdef public list on_stop            # after the last iteration, before replies are flushed
    cdef int stopping
    # settings
    cdef int hz_                        # cron runs per second
    cdef public size_t record_limit     # bytes of a record of the log, unless one op is larger
    cdef public int64_t collect_every   # ms between the end of one such round and the next
    cdef public bint active_expire      # DEBUG SET-ACTIVE-EXPIRE
    # statistics
    cdef Rate ops_rate
    cdef Rate in_rate
    cdef Rate out_rate

    cdef void iterate(self) noexcept nogil
    cdef void process_ready(self) noexcept nogil
    cdef void process_threaded(self) noexcept nogil
    cdef void serve_others(self) noexcept nogil     # while a script runs
    cdef void tell_life(self) noexcept nogil
    cdef void heed_users(self) noexcept nogil
    cdef int wait_ms(self) noexcept nogil   # how long epoll_wait may sleep
    cdef int wait(self) noexcept nogil      # for events, while nothing else is to be done: how many
    cdef void set_clock(self) noexcept nogil
    cdef void take_events(self, epoll_event *events, int n) noexcept nogil
    cdef void run_callbacks(self) noexcept nogil
    cdef void expire_due(self) noexcept nogil
    cdef void log_iteration(self) noexcept nogil
    cdef void tick_log(self) noexcept nogil
    cdef void cron(self) noexcept nogil
    cdef void wind_down(self) noexcept nogil

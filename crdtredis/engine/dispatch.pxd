# Dispatch: from argv to reply, with no socket in sight (tests and the simulation stand on this).

cdef enum CommandFlag:
    C_WRITE = 1             # runs between op_begin and op_end
    C_READONLY = 2
    C_DENYOOM = 4
    C_FAST = 8
    C_LOADING = 16          # allowed while loading
    C_STALE = 32
    C_NO_AUTH = 64
    C_NO_MULTI = 128        # refused inside MULTI
    C_NO_QUEUE = 256        # runs at once inside MULTI: EXEC, DISCARD, MULTI, WATCH, QUIT, RESET
    C_NOSCRIPT = 512
    C_ADMIN = 1024
    C_BLOCKING = 2048
    C_MOVABLEKEYS = 4096
    C_SKIP_SLOWLOG = 8192
    C_CONTAINER = 16384     # has subcommands, which are found as "name|sub"
    # found through its container only: a client's "config|get" names nothing
    C_SUBCOMMAND = 65536
    C_ONE_CHANGE = 131072   # Redis counts it as one change, however many effects it takes here
    # EXEC itself: what the queued commands are refused for, it is refused for
    C_EXEC = 32768

cdef enum:
    NAME_MAX = 48           # of a command, with its subcommand
    ERROR_CODES = 128
    LATENCIES = 24          # the last but one bound is 4.2 s

cdef struct Command:
    char name[48]           # lower case; "client|list" for a subcommand
    uint32_t name_n
    uint32_t hash
    int arity
    uint32_t flags
    int first_key           # 0: none that can be told from the table
    int last_key            # negative: from the end
    int key_step
    NativeHandler native    # NULL: plain
    void *python            # borrowed Python callable(session, argv: list[bytes]) -> reply object
    # statistics since CONFIG RESETSTAT
    uint64_t calls
    uint64_t ticks          # of the cycle counter
    uint64_t rejected
    uint64_t failed
    # LATENCIES: calls that took up to 1, 2, 4 ... µs; the last ones, longer than the bound before
    uint64_t took[24]

cdef struct ErrorCount:
    char code[32]
    uint64_t count

# What refuses commands, as bits, so that the common case is one test.
cdef enum Guard:
    GUARD_LOADING = 1
    GUARD_MISCONF = 2
    GUARD_OOM = 4           # there is a max_memory to compare with
    GUARD_PAUSE_ALL = 8
    GUARD_PAUSE_WRITE = 16
    GUARD_CLOCK = 32        # the timestamps run ahead of the clock: see watch_clock

# Up to where OBJECT ENCODING calls a collection small: Redis's settings, which hold nothing
# together here. See keys.pyx.
cdef struct EncodingLimits:
    int64_t entries[5]      # by KeyType: members
    int64_t value[5]        # bytes of a name or value
    int64_t whole           # members of a set of whole numbers
    int64_t list_size       # of a list: elements, or, from -1 to -5, 4 to 64 KiB in all

# Everything dispatch needs without a Python object; an Executor owns one.
cdef struct Dispatch:
    Kernel *kernel
    Command **table         # open addressing over Command.hash
    uint32_t mask
    uint32_t guard
    size_t max_memory       # bytes of keyspace, 0: no limit
    int need_auth           # new clients start unauthenticated
    char misconf[256]       # what -MISCONF says
    Stats stats
    ErrorCount error_counts[128]
    # Time that no clock set right, or wrong, moves: ms since some moment. What waits, is paused or
    # idle is measured by it.
    int64_t steady
    uint64_t tick           # cycle counter at the end of the last command: the start of the next
    double ticks_per_usec
    uint64_t latency_bound[23]      # in ticks: 1, 2, 4 ... µs
    int latency_shift               # highest bit of the first of them
    # slow log: a ring
    int64_t slow_usec       # threshold, negative: off
    uint64_t slow_ticks
    SlowEntry *slow
    uint32_t slow_max
    uint64_t slow_n         # entries ever made
    EncodingLimits encoding
    # deferred replies and CLIENT PAUSE
    int64_t next_deferred   # `steady` when the first deferred reply times out, -1: none
    int64_t pause_until     # the same
    # clients that wait for keys (engine/blocking.pxi)
    uint32_t waited_keys    # how many keys somebody waits for
    Wait **timeouts         # heap by deadline, of those that have one
    uint32_t timeout_n
    uint32_t timeout_cap
    Span *again             # argv of the command that is run again
    int again_cap
    uint64_t next_client
    int64_t next_http_warning   # `steady` before which no further one is logged
    # the GIL, held from an iteration's first Python command to the iteration's end
    int in_loop
    int gil_held
    int gil_state
    int interrupted         # a signal handler raised inside a Python command
    void *self              # the Executor
    void *loop              # the Loop, NULL without one
    void (*wake)(void *loop, Client *c) noexcept nogil    # the client got a reply or may go on

# Without a loop, which sets it in every iteration, `steady` is the replica's time.
cdef void steady_alone(Dispatch *d) noexcept nogil
# Sets GUARD_CLOCK or takes it away, after the clock or the timestamps have moved.
cdef void watch_clock(Dispatch *d) noexcept nogil
# Runs one complete command: look-up, arity, authentication, MULTI queueing, loading/MISCONF/OOM
# refusals, the handler, statistics, slow log. Appends the reply to client.reply. Takes the GIL only
# for Python commands.
cdef void execute(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil
# The same for a name that has been looked up: cmd is find_command's answer.
cdef void execute_found(Dispatch *d, Client *client, Command *cmd, Span *argv,
                        int argc) noexcept nogil
# 1 when CLIENT PAUSE holds this command back: the caller keeps it and executes it later.
cdef int must_wait(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil
# The only place that runs a handler; EXEC calls it for each queued command.
cdef void call_command(Dispatch *d, Client *client, Command *cmd, Span *argv,
                       int argc) noexcept nogil
cdef Command *find_command(Dispatch *d, Span name) noexcept nogil

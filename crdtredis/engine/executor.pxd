# The command table and dispatch: from argv to reply, with no socket in sight (tests and the simulation stand on this).

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
    C_EXEC = 32768          # EXEC itself: what the queued commands are refused for, it is refused for

cdef enum:
    NAME_MAX = 48           # of a command, with its subcommand
    ERROR_CODES = 128

cdef struct Command:
    char name[48]           # lower case; "client|list" for a subcommand
    uint32_t name_n
    uint32_t hash
    int arity
    uint32_t flags
    HotHandler hot          # NULL: plain
    void *plain             # borrowed Python callable(session, argv: list[bytes]) -> reply object
    # statistics since CONFIG RESETSTAT
    uint64_t calls
    uint64_t ticks          # of the cycle counter
    uint64_t rejected
    uint64_t failed

cdef struct ErrorCount:
    char code[32]
    uint64_t count

cdef struct SlowEntry:
    uint64_t id
    int64_t at              # seconds since 1970
    uint64_t usec
    Buffer args             # as in Client.queue, shortened
    char addr[64]
    char name[64]

# What refuses commands, as bits, so that the common case is one test.
cdef enum Guard:
    GUARD_LOADING = 1
    GUARD_MISCONF = 2
    GUARD_OOM = 4
    GUARD_PAUSE_ALL = 8
    GUARD_PAUSE_WRITE = 16

# Everything dispatch needs without a Python object; an Executor owns one.
cdef struct Dispatch:
    Kernel *kernel
    Command **table         # open addressing over Command.hash
    uint32_t mask
    uint32_t guard
    int need_auth           # new clients start unauthenticated
    char misconf[256]       # what -MISCONF says
    Stats stats
    ErrorCount error_counts[128]
    uint64_t tick           # cycle counter at the end of the last command: the start of the next
    double ticks_per_usec
    # slow log: a ring
    int64_t slow_usec       # threshold, negative: off
    uint64_t slow_ticks
    SlowEntry *slow
    uint32_t slow_max
    uint64_t slow_n         # entries ever made
    # deferred replies and CLIENT PAUSE
    int64_t next_deferred   # ms when the first deferred reply times out, -1: none
    int64_t pause_until     # ms
    uint64_t next_client
    # the GIL, held from a turn's first plain command to the turn's end
    int in_loop
    int gil_held
    int gil_state
    int interrupted         # a signal handler raised inside a plain command
    void *self              # the Executor
    void *loop              # the Loop, NULL without one
    void (*wake)(void *loop, Client *c) noexcept nogil    # the client got a reply or may go on

cdef class Hot:
    """Carries a HotHandler through Python to the registration: command("GET", ...)(hot(get))."""
    cdef HotHandler f

cdef Hot hot(HotHandler f)

# Runs one complete command: look-up, arity, authentication, MULTI queueing, loading/MISCONF/OOM refusals, the handler, statistics,
# slow log. Appends the reply to client.reply. Takes the GIL only for plain commands.
cdef void execute(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil
# 1 when CLIENT PAUSE holds this command back: the caller keeps it and executes it later.
cdef int must_wait(Dispatch *d, Client *client, Span *argv, int argc) noexcept nogil
# EXEC and DISCARD's work, for commands/transactions.pyx.
cdef void exec_queued(Call *c) noexcept nogil
cdef void drop_transaction(Dispatch *d, Client *client) noexcept nogil          # queue, flags and watches
cdef void watch_key_for(Dispatch *d, Client *client, Span key) noexcept nogil   # WATCH of one key, in the client's database
cdef void unwatch_all(Dispatch *d, Client *client) noexcept nogil
cdef void reset_client(Dispatch *d, Client *client) noexcept nogil              # RESET

cdef void client_init(Dispatch *d, Client *c, int resp) noexcept nogil
cdef void client_free(Dispatch *d, Client *c) noexcept nogil
# Commands as flat bytes (Client.queue): append one; read one back into argv, which grows and is kept by the caller.
cdef void pack_command(Buffer *b, Span *argv, int argc) noexcept nogil
cdef const char *unpack_command(const char *p, Span **argv, int *cap, int *argc) noexcept nogil

# Standard refusals, so that texts live in one place.
cdef void fail_arity(Call *c) noexcept nogil
cdef void fail_syntax(Call *c) noexcept nogil
cdef void fail_type(Call *c) noexcept nogil              # WRONGTYPE
cdef void fail_int(Call *c) noexcept nogil               # not an integer or out of range
cdef void fail_float(Call *c) noexcept nogil             # not a valid float
cdef void fail(Call *c, const char *text) noexcept nogil # any other: "ERR ...", without the '-'
# Case-insensitive comparison of an argument with an upper-case ASCII word.
cdef int is_word(Span arg, const char *word) noexcept nogil

cdef class Token:
    """A reply still owed to a client whose command called session.defer()."""
    cdef Session session
    cdef readonly object deadline       # ms, None: no limit
    cdef object on_timeout
    cdef readonly bint done

cdef class Session:
    """One client, as plain commands see it."""
    cdef Client *c                      # NULL once the client is gone
    cdef Client own                     # the client itself where there is no connection
    cdef readonly Executor executor
    cdef readonly Token token           # the deferred reply outstanding, or None
    cdef readonly uint64_t id
    cdef public object user

cdef class Executor:
    cdef Dispatch d
    cdef readonly Replica replica
    cdef public object server
    cdef object password                # bytes, or None: see requirepass
    cdef list handlers                  # keeps the plain callables and the specs alive
    cdef list deferred                  # heap of (deadline, number, Token)
    cdef uint64_t deferred_n
    cdef object pending                 # exception of a signal handler, for the loop to raise
    cdef readonly dict specs            # name -> table.Spec

    cdef build_table(self)
    cdef set_guard(self, uint32_t bit, bint on)

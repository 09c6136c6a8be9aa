# The command table and dispatch: from argv to reply, with no socket in sight (tests and the simulation stand on this).

cdef enum CommandFlag:
    C_WRITE = 1
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

cdef struct Command:
    char name[32]           # lower case
    int arity
    uint32_t flags
    HotHandler hot          # NULL: plain
    void *plain             # borrowed Python callable(session, argv: list[bytes]) -> reply object
    # statistics since CONFIG RESETSTAT
    uint64_t calls
    uint64_t usec
    uint64_t rejected
    uint64_t failed

cdef class Hot:
    """Carries a HotHandler through Python to the registration: command("GET", hot(get), ...)."""
    cdef HotHandler f

cdef Hot hot(HotHandler f)

# Runs one complete command: look-up, arity, authentication, MULTI queueing, loading/MISCONF/OOM refusals, the handler, statistics,
# slow log. Appends the reply to client.reply. Takes the GIL only for plain commands.
cdef void execute(void *executor, Client *client, Span *argv, int argc) noexcept nogil
cdef void client_init(Client *c, uint64_t id, int resp) noexcept nogil
cdef void client_free(void *executor, Client *c) noexcept nogil
# Standard refusals, so that texts live in one place.
cdef void fail_arity(Call *c) noexcept nogil
cdef void fail_syntax(Call *c) noexcept nogil
cdef void fail_type(Call *c) noexcept nogil              # WRONGTYPE
cdef void fail_int(Call *c) noexcept nogil               # not an integer or out of range
cdef void fail_float(Call *c) noexcept nogil             # not a valid float
# Case-insensitive comparison of an argument with an upper-case ASCII word.
cdef int is_word(Span arg, const char *word) noexcept nogil

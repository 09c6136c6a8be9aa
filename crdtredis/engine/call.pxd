# What a command is given, native or Python, and what a client is.

cdef enum ClientFlag:
    CLIENT_MULTI = 1        # between MULTI and EXEC
    CLIENT_DIRTY = 2        # a command was refused while queueing: EXEC answers EXECABORT
    CLIENT_CLOSE = 4        # close once the replies so far are sent
    CLIENT_AUTHENTICATED = 8
    CLIENT_REPLY_OFF = 16   # CLIENT REPLY OFF
    CLIENT_REPLY_SKIP = 32  # ... SKIP: this command's reply is dropped
    # it is owed a reply (it waits for keys, or a command has deferred): nothing more is parsed from
    # it
    CLIENT_BLOCKED = 64
    CLIENT_NO_TOUCH = 128
    CLIENT_NO_EVICT = 256
    CLIENT_IN_EXEC = 512
    CLIENT_SKIP_NEXT = 1024 # CLIENT REPLY SKIP was just run
    CLIENT_KILLED = 2048    # close at the end of the iteration, unsent replies or not
    CLIENT_WROTE = 4096     # it made an op in this iteration: its replies wait for the log
    CLIENT_POSTPONED = 8192 # its next command waits for the end of CLIENT PAUSE
    CLIENT_UNIX = 16384     # connected over the Unix socket

# The state of one client as commands see it; a Connection (loop.pxd) begins with one, and a Python
# Session without a socket owns one.
cdef struct Client:
    uint64_t id
    uint32_t db
    uint32_t flags
    Reply reply             # replies not yet handed to the socket
    # MULTI
    # queued commands: per command uint32 argc, then per argument uint32 length and bytes
    Buffer queue
    uint32_t queued
    uint32_t queue_flags    # CommandFlags of all queued commands
    Watched *watched
    uint32_t watched_n
    uint32_t watched_cap
    # for CLIENT LIST and SLOWLOG
    void *session           # owned reference to its Session once a Python command ran, else NULL
    Command *command        # of the last call
    int64_t created         # Dispatch.steady
    int64_t active          # ... of the last command
    uint64_t wrote          # own seq after its last write: what WAIT waits for,
    # ... and the actor whose seq it is: this replica's may be another by then
    uint64_t wrote_as
    Wait *wait              # for keys (BLPOP and its like), else NULL
    int fd                  # -1 without a socket
    char *name              # CLIENT SETNAME, SETINFO: allocated, NULL when not set
    char *lib_name
    char *lib_ver
    char addr[64]           # "ip:port", "[ip]:port", or the path of the Unix socket and ":0"

# What the commands of one Executor count together.
cdef struct Stats:
    uint64_t commands
    uint64_t hits           # keyspace_hits and keyspace_misses: bumped by the reading commands
    uint64_t misses
    uint64_t errors         # error replies of any kind
    uint64_t transactions   # EXECs that ran
    # what Redis would count as changes of own commands, less the effects they made
    int64_t changes

cdef struct Call:
    Kernel *kernel
    Client *client
    Reply *reply            # &client.reply
    Stats *stats
    Span *argv              # argv[0] is the command name as sent
    int argc
    uint32_t db             # client.db
    Dispatch *dispatch      # the Executor this call runs in
    # what Redis counts as changes, where that is not the number of effects; -1: it is
    int64_t changes

ctypedef void (*NativeHandler)(Call *c) noexcept nogil

# Standard refusals, so that texts live in one place.
cdef void refuse_arity(Call *c) noexcept nogil
cdef void refuse_syntax(Call *c) noexcept nogil
cdef void refuse_type(Call *c) noexcept nogil            # WRONGTYPE
cdef void refuse_int(Call *c) noexcept nogil             # not an integer or out of range
cdef void refuse_float(Call *c) noexcept nogil           # not a valid float
cdef void refuse_too_large(Call *c) noexcept nogil       # transaction too large
cdef void refuse(Call *c, const char *text) noexcept nogil # any other: "ERR ...", without the '-'
# Case-insensitive comparison of an argument with an upper-case ASCII word.
cdef int is_word(Span arg, const char *word) noexcept nogil
# Commands as flat bytes (Client.queue): append one; read one back into argv, which grows and is
# kept by the caller.
cdef void pack_command(Buffer *b, Span *argv, int argc) noexcept nogil
cdef const char *unpack_command(const char *p, Span **argv, int *cap, int *argc) noexcept nogil

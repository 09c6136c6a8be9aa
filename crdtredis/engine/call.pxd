# What a command is given, native or Python, and what a client is.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span
from crdtredis._core cimport Kernel
from crdtredis._resp cimport Reply

cdef enum ClientFlag:
    CLIENT_MULTI = 1        # between MULTI and EXEC
    CLIENT_DIRTY = 2        # a command was rejected instead of queued: EXEC replies EXECABORT
    CLIENT_CLOSE = 4        # close once the replies so far are sent
    CLIENT_AUTHENTICATED = 8
    CLIENT_REPLY_OFF = 16   # CLIENT REPLY OFF
    CLIENT_REPLY_SKIP = 32  # ... SKIP: this command's reply is dropped
    CLIENT_BLOCKED = 64     # a command of it waits or has deferred its reply: parse no more
    CLIENT_NO_TOUCH = 128
    CLIENT_NO_EVICT = 256
    CLIENT_IN_EXEC = 512
    CLIENT_SKIP_NEXT = 1024 # CLIENT REPLY SKIP was just run
    CLIENT_KILLED = 2048    # close at the end of the iteration, unsent replies or not
    CLIENT_WROTE = 4096     # it made an op in this iteration: its replies wait for the log
    CLIENT_POSTPONED = 8192 # its next command waits for the end of CLIENT PAUSE
    CLIENT_UNIX = 16384     # connected over the Unix socket
    CLIENT_SCRIPT = 32768   # the one whom a script's commands see
    # the error it is replied with was counted when a command of its script made it
    CLIENT_COUNTED = 65536
    CLIENT_SUBSCRIBED = 131072      # it listens to a channel or pattern
    CLIENT_PUSHED = 262144  # messages wait for the end of the command that it runs
    CLIENT_MONITOR = 524288 # it is shown what others do
    CLIENT_TRACKING = 1048576       # it is told when what it has read changes: CLIENT TRACKING
    CLIENT_BCAST = 2097152  # ... and its modes
    CLIENT_OPTIN = 4194304
    CLIENT_OPTOUT = 8388608
    CLIENT_NOLOOP = 16777216
    CLIENT_CACHING = 33554432       # CLIENT CACHING was just run
    CLIENT_BROKEN = 67108864        # who gets its messages has gone
    CLIENT_MOVES = 134217728        # it is told before the server stops: MAINT_NOTIFICATIONS
    CLIENT_MOVES_BACK = 268435456   # ... and comes back to where it was, so needs no address
    CLIENT_SUSPECT = 536870912      # its last password was wrong
    CLIENT_LIMITED = 1073741824     # its user may not do everything: see acl.pxi

# A message on its way to those who share it. Its bytes follow.
cdef struct Shared:
    size_t holders
    size_t n

cdef enum:
    LATE = -1               # see Push.at

# A message that goes out before the byte of the reply buffer that stands at `at`.
cdef struct Push:
    Shared *message
    size_t at               # LATE: behind the reply to the command that runs

# One client as commands see it. A Conn (connection.pxd) begins with one; a Session without a socket
# owns one.
cdef struct Client:
    uint64_t id
    uint32_t db
    uint32_t flags          # ClientFlag
    int fd                  # -1 without a socket
    Reply reply             # replies not yet handed to the socket
    # publish and subscribe (pubsub.pxi)
    Buffer pushes           # messages for it, as Push: they stand between its replies
    size_t push_bytes       # that they take
    Subscription *subscriptions         # the earliest first
    Subscription *subscribed_last
    uint32_t subscribed[3]  # how many, by TopicKind
    # client-side caching (tracking.pxi); NULL: it has had nothing to do with it
    Tracker *tracker
    # those of MONITOR (monitor.pxi)
    Client *prev_monitor
    Client *next_monitor
    # MULTI and WATCH (watched.pxi)
    Buffer queue            # queued commands, packed one after the other: see pack_command
    uint32_t queued         # how many
    uint32_t queue_flags    # CommandFlags of all of them
    Watched *watched
    uint32_t watched_n
    uint32_t watched_cap
    # what it waits for (waiting.pxi), NULL: nothing
    Wait *wait
    # whose it is (acl.pxi)
    User *user
    Client *prev_of_user
    Client *next_of_user
    # its Session: an owned reference, NULL before its first Python command
    void *session
    # what WAIT waits for: its last write
    uint64_t wrote          # seq of that op; 0: it has written nothing
    uint64_t wrote_as       # the op's actor: this replica may be another by now
    # for CLIENT LIST and SLOWLOG
    Command *command        # of the last call
    int64_t created         # ms, Dispatch.steady
    int64_t active          # ms of the last command
    char *name              # CLIENT SETNAME, SETINFO: allocated, NULL when not set
    char *lib_name
    char *lib_ver
    char addr[64]           # "ip:port", "[ip]:port", or the path of the Unix socket and ":0"

# What the commands of one Executor count together, since the start or CONFIG RESETSTAT.
cdef struct Stats:
    uint64_t commands
    uint64_t hits           # keyspace_hits and keyspace_misses: bumped by the reading commands
    uint64_t misses
    uint64_t errors         # error replies of any kind
    uint64_t transactions   # EXECs that ran
    int64_t changes         # what Redis counts as changes of own commands, less their effects

cdef struct Call:
    Kernel *kernel
    Dispatch *dispatch      # the Executor this call runs in
    Client *client
    Reply *reply            # &client.reply
    Stats *stats
    Span *argv              # argv[0] is the command's name as sent
    int argc
    uint32_t db             # client.db
    int64_t changes         # what Redis counts as changes; -1: the number of effects

# Standard refusals, so that texts live in one place.
cdef void refuse_arity(Call *c) noexcept nogil
cdef void refuse_syntax(Call *c) noexcept nogil
cdef void refuse_type(Call *c) noexcept nogil               # WRONGTYPE
cdef void refuse_int(Call *c) noexcept nogil                # not an integer or out of range
cdef void refuse_float(Call *c) noexcept nogil              # not a valid float
cdef void refuse_too_large(Call *c) noexcept nogil          # more than an op may hold
cdef void refuse(Call *c, const char *text) noexcept nogil  # any other: "ERR ...", without the '-'
# Case-insensitive comparison of an argument with an upper-case ASCII word.
cdef int is_word(Span arg, const char *word) noexcept nogil
# Where the first key of XREAD stands, behind the STREAMS that is looked for from argv[first] on,
# and the last, which is before it where there is none. As many ids follow.
cdef int stream_keys(int first, Span *argv, int argc, int *last) noexcept nogil
# A command as flat bytes: uint32 argc, then for each argument uint32 length and bytes. The one
# appends it; the other points argv, which grows and is kept by the caller, into the bytes at p, and
# returns where the next command begins.
cdef void pack_command(Buffer *b, Span *argv, int argc) noexcept nogil
cdef const char *unpack_command(const char *p, Span **argv, int *cap, int *argc) noexcept nogil

# What the executor knows of a command, and how a name finds it.

from libc.stdint cimport uint32_t, uint64_t

from crdtredis.buffer cimport Span

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
    C_EXEC = 32768          # EXEC: what its queued commands are refused for, it is refused for
    C_SUBCOMMAND = 65536    # found through its container only: "config|get" itself names nothing
    C_ALLOW_BUSY = 262144   # allowed while a script runs for long
    C_MAY_REPLICATE = 524288        # it may call what writes: EVAL
    C_SUBSCRIBED = 1048576  # allowed to subscribers that speak RESP2
    C_SKIP_MONITOR = 2097152        # shown to MONITOR before it runs: EVAL
    C_UNSEEN = 4194304      # unknown to a user who may not run it, and no entry in ACL LOG
    C_ONE_CHANGE = 131072   # Redis counts it as one change, however many effects it takes here

# How a command's keys are found among its arguments.
cdef enum KeyKind:
    KEYS_RANGE = 0          # argv[first] to argv[last], every step-th; a negative last from the end
    KEYS_COUNTED = 1        # behind their number, which is argv[first]
    KEYS_AFTER = 2          # behind the word, from argv[first] on
    KEYS_SORTED = 3         # the target of SORT
    KEYS_STREAMS = 4        # the first half of what is behind STREAMS, from argv[first] on

# What a key needs, beyond AclPermission: what the arguments say.
cdef enum KeyNeeds:
    NEEDS_OF_SET = 16
    NEEDS_OF_BITFIELD = 32
    NEEDS_OF_DELEX = 64

cdef struct KeySpec:
    int kind                # KeyKind
    int needs               # AclPermission, or KeyNeeds
    int first
    int last                # 0: first
    int step
    char word[12]

# Which arguments of a command are channels.
cdef enum ChannelKind:
    CHANNEL_NONE = 0
    CHANNEL_ONE = 1         # argv[1]
    CHANNEL_ALL = 2         # all
    CHANNEL_PATTERNS = 3    # all, and they are patterns

cdef enum:
    KEY_SPECS = 4
    NAME_MAX = 48           # bytes of a command's name with its subcommand and the NUL
    LATENCIES = 24          # ranges of time; the last bound is 4.2 s

# How a command's keyspace notification is made: Command.event where nothing else is said, and `del`
# behind it where the key has gone.
cdef enum EventRule:
    EVENT_NONE = 0          # none of its own: as the effects say
    EVENT_PLAIN = 1
    EVENT_STORE = 2         # nothing but `del` where the key has gone
    EVENT_SET = 3           # ... and `expire` where a time was given
    EVENT_SCORE = 4         # ... and event2 with the option INCR
    EVENT_DELETE = 5        # `del` alone
    EVENT_DEADLINE = 6      # expire or persist
    EVENT_ENDS = 7          # as PLAIN; event2 with RIGHT or MAX
    EVENT_ANEW = 8          # as STORE, and the key is new even if it was there
    EVENT_COUNTER = 9       # event2 with BYFLOAT; and expire or persist where changes > 1
    EVENT_TRIMS = 10        # and event2 where entries were trimmed
    EVENT_CONSUMER = 11     # where changes > 1: a consumer was made
    EVENT_SILENT = 12       # nothing at all
    # from here on of two keys: event of the first, event2 of the other
    EVENT_PAIR = 13         # the other is new even if it was there
    EVENT_MOVE = 14         # of lists
    EVENT_SMOVE = 15        # of sets

ctypedef void (*NativeHandler)(Call *c) noexcept nogil
# whether argv[1], a script or its name, says that it writes nothing
ctypedef int (*ReadsOnly)(Dispatch *d, Span script) noexcept nogil

cdef struct Command:
    # look-up: lower case, "client|list" for a subcommand
    char name[48]           # NAME_MAX
    uint32_t name_n
    uint32_t hash
    # what its registration says
    int arity               # counts the name; negative: at least so many
    uint32_t flags
    int first_key           # in argv; 0: none that can be told from the table
    int last_key            # negative: from the end
    int key_step
    # of one that reads, for client-side caching: the same, or where the number of its keys stands
    int read_first
    int read_last
    int read_count          # 0: the keys do not follow their number
    int read_streams        # 0: they are not behind STREAMS, which is looked for from here on
    # what runs it: never NULL; run_python for a command that is written in Python
    NativeHandler handler
    void *python            # then: borrowed callable(session, argv: list[bytes]) -> reply object
    ReadsOnly reads_only    # of one that runs a script which may write; else NULL
    # its keyspace notification
    int event_rule          # EventRule
    uint32_t event_class    # NotifyFlag
    char event[24]
    char event2[24]
    # what users need for it (acl.pxi)
    uint32_t index          # in the table, in the order of registration
    int key_n
    KeySpec keys[4]         # KEY_SPECS
    int channels            # ChannelKind
    # statistics since CONFIG RESETSTAT
    uint64_t calls
    uint64_t ticks          # of the cycle counter, all calls together
    uint64_t rejected       # calls that were not run
    uint64_t failed         # calls that replied with an error
    uint64_t took[24]       # LATENCIES: calls of up to 1, 2, 4 ... µs; last, all that took longer
    # of `ticks`, those that `took` has not counted; while it counts nothing, less all `ticks`
    uint64_t untimed

# Open addressing over Command.hash; at most half full, so a look-up meets a NULL.
cdef struct CommandTable:
    Command **slots
    uint32_t mask           # slots - 1; a power of two less one

cdef uint32_t name_hash(const char *p, size_t n, uint32_t h) noexcept nogil
# The command of this name in any case; NULL: none.
cdef Command *find_command(CommandTable *t, Span name) noexcept nogil
cdef Command *find_subcommand(CommandTable *t, Command *container, Span sub) noexcept nogil
# Both: the subcommand where `argv` names one of a container, which itself is found without one.
cdef Command *find_whole_command(CommandTable *t, Span *argv, int argc) noexcept nogil
# Whether a command may have this many arguments.
cdef int arity_fits(Command *cmd, int argc) noexcept nogil
cdef void command_table_init(CommandTable *t, uint32_t commands) noexcept nogil
cdef void command_table_free(CommandTable *t) noexcept nogil
cdef void command_table_add(CommandTable *t, Command *cmd) noexcept nogil      # takes it

# What every part needs that runs commands: one Dispatch per Executor, without a Python object.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span
from crdtredis._core cimport Kernel, Portion
from crdtredis._resp cimport Reply

cdef enum:
    ERROR_CODES = 128       # different ones that are counted

cdef struct ErrorCount:
    char code[32]           # the first word of an error reply
    uint64_t count

# What refuses commands or holds them back, as bits, so that the common case is one test.
cdef enum Guard:
    GUARD_LOADING = 1
    GUARD_MISCONF = 2       # the log cannot be written
    GUARD_OOM = 4           # there is a max_memory to compare with
    GUARD_PAUSE_ALL = 8     # CLIENT PAUSE
    GUARD_PAUSE_WRITE = 16
    GUARD_BUSY = 64         # a script runs for long
    GUARD_CLOCK = 32        # stamps run ahead of the clock: see check_clock
    GUARD_JOIN = 128        # a peer's state is joined: nothing else changes the keyspace
    # What writes waits: CLIENT PAUSE, or a join
    GUARD_WAIT = GUARD_PAUSE_ALL | GUARD_PAUSE_WRITE | GUARD_JOIN

# Up to where OBJECT ENCODING calls a collection small: Redis's settings, which hold nothing
# together here. See keys.pyx. And up to where a HyperLogLog is sparse.
cdef struct EncodingLimits:
    int64_t entries[5]      # by KeyType: members
    int64_t value[5]        # bytes of a name or value
    int64_t whole           # members of a set of whole numbers
    int64_t list_size       # of a list: elements, or, from -1 to -5, 4 to 64 KiB in all
    int64_t hll_sparse      # bytes of a HyperLogLog
    int64_t stream_node     # entries that XTRIM with `~` removes at once; 0: not said

# What a reply needs of the connection it goes to, when it comes outside of that client's own share
# of a loop iteration: all that serving and sessions know of sockets. It is called for clients with
# an fd only. Without a loop there are none, and all is NULL.
cdef struct ClientPort:
    void *owner
    # before the reply is written
    void (*begin_reply)(void *owner, Client *c) noexcept nogil
    # after it: the client is to be sent `replies` more of them, and may go on
    void (*wake)(void *owner, Client *c, uint32_t replies) noexcept nogil
    # a message of so many bytes has been put into client.pushes
    void (*pushed)(void *owner, Client *c) noexcept nogil
    # the one of this id; NULL: there is none
    Client *(*find)(void *owner, uint64_t id) noexcept nogil
    # whether nobody would get it
    int (*gone)(void *owner, Client *c) noexcept nogil

# Clients that wait for keys (waiting.pxi).
cdef struct Waiting:
    uint32_t keys           # how many keys somebody waits for,
    uint32_t read_keys      # ... somebody of XREADGROUP
    Wait **timeouts         # heap by deadline, of the waits that have one
    uint32_t timeout_n
    uint32_t timeout_cap
    Span *argv              # of the command that is run again
    int argv_cap

# What one may listen to. Replicas tell each other these.
cdef enum TopicKind:
    TOPIC_CHANNEL = 0
    TOPIC_PATTERN = 1
    TOPIC_SHARD = 2         # a channel of SSUBSCRIBE

# Who listens to what (pubsub.pxi).
cdef struct PubSub:
    Topic **topics          # chains by hash
    uint32_t topic_mask     # chains less one
    uint32_t topic_n
    uint32_t counts[3]      # of them, by TopicKind
    Topic *first_pattern
    Topic *last_pattern
    Subscription **pairs    # chains by client and topic
    uint32_t pair_mask
    uint32_t pair_n
    size_t bytes            # that all these take
    uint32_t clients        # with a subscription
    # beyond which SUBSCRIBE is refused: bytes, and subscriptions of one client
    size_t most
    uint32_t most_each

# What other replicas listen to, and messages to and from them (abroad.pxi, exchange.pxi).
cdef struct Abroad:
    # what is listened to here: changes, for the sync thread; else all is to be told anew
    int tell                # there is a sync thread
    int whole
    Buffer changes
    # what is listened to abroad: chains by id, and patterns
    Heard **heard
    uint32_t heard_mask
    uint32_t heard_n
    Heard *heard_patterns
    # patterns of channels whose messages stay at home
    Span *local
    uint32_t local_n
    # messages
    Buffer out              # of this iteration
    Parked *parked          # received ones that wait for ops, the earliest first
    Parked *parked_last
    uint32_t parked_n
    size_t parked_bytes
    int more                # there was no time for all that may be given out
    uint64_t sent           # since the start
    uint64_t received
    uint64_t dropped

cdef enum GiveMode:
    GIVE_ALL = 0            # no replica is linked: all is given out here
    GIVE_RIGHTS = 1         # what was said of each group
    GIVE_NOTHING = 2        # it is not known yet what others give out

# Groups of streams with consumers here, and what is given out (consumers.pxi).
cdef struct Consumers:
    int mode                # GiveMode
    int64_t patience        # ms that a group has a consumer after an XREADGROUP
    Consumed **chains       # by hash
    uint32_t mask           # chains less one
    uint32_t n
    Consumed *first         # with a consumer here: the one that was read the longest ago,
    Consumed *last
    uint32_t used_n         # so many,
    size_t bytes            # which take so much
    Portion own              # of groups of which nothing was said
    Portion nothing
    # what has changed, for the sync thread; else all is to be told anew
    int tell                # there is a sync thread
    int whole
    Buffer changes

# Of notify-keyspace-events, in the order of the letters KEg$lshzxetdmnLR.
cdef enum NotifyFlag:
    NOTIFY_KEYSPACE = 1
    NOTIFY_KEYEVENT = 2
    NOTIFY_GENERIC = 4
    NOTIFY_STRING = 8
    NOTIFY_LIST = 16
    NOTIFY_SET = 32
    NOTIFY_HASH = 64
    NOTIFY_ZSET = 128
    NOTIFY_EXPIRED = 256
    NOTIFY_EVICTED = 512
    NOTIFY_STREAM = 1024
    NOTIFY_MISS = 4096
    NOTIFY_NEW = 8192
    NOTIFY_LOCAL = 16384    # only what was done here
    NOTIFY_REMOTE = 32768   # only what was done elsewhere

# Keyspace notifications (notify.pxi).
cdef struct Notify:
    uint32_t flags          # NotifyFlag; 0: none are made
    Buffer channel          # room for a name

# Client-side caching (tracking.pxi).
cdef struct Tracking:
    uint32_t clients        # that track; 0: nothing else of this is used
    Tracker *first
    # keys that were read: chains by hash
    Tracked **keys
    uint32_t key_mask       # chains less one
    uint32_t key_n
    uint32_t forget_at      # the chain that is not looked at next when there are too many
    uint64_t items          # readers of all keys
    size_t bytes            # that keys and readers take
    size_t most             # keys beyond which some are forgotten; 0: no limit
    # prefixes that somebody has, sorted, and changes of this iteration that they wait for
    Prefix **prefixes
    uint32_t prefix_n
    size_t prefix_bytes     # that they take
    Buffer changed
    uint64_t dropped        # Kernel.notices.dropped up to which everything was said to be invalid

# Scripts (scripting.pxi).
cdef struct Scripting:
    ScriptRun *run          # the one that runs, else NULL
    Client *client          # whom its commands see; NULL before the first script
    void *cache             # what commands/scripting.pyx keeps here, owned by the Executor
    void *functions         # what commands/functions.pyx does, likewise
    const char *busy_text   # what others are told while what runs takes long
    int64_t busy_ms         # after so long a script is slow; 0: never
    size_t memory           # bytes that scripts may hold
    int all_commands        # they may call also what is not for scripts: DEBUG
    # other clients are served while a script runs; NULL without a loop
    void (*serve_others)(void *loop) noexcept nogil

# Room for what commands write (evict.pxi).
cdef struct Room:
    uint64_t ticks          # that eviction may take in one go, of the cycle counter
    int more                # it took that long: it goes on in the next iteration
    int none                # memory is at its limit, and nothing is left to evict
    # bytes beyond the limit that other replicas' writes made, and are left for them to make good
    size_t foreign
    size_t least            # the fewest that these have been since the last look,
    int64_t due             # and when the next one is (Dispatch.steady); 0: there are none
    uint32_t part           # one part in so many of them is then taken on
    # bytes of evicted counters that go once all replicas know of it: of so many tombstones
    size_t owed
    int64_t owed_tombstones
    int64_t over_since      # Dispatch.steady since when memory is beyond the limit; 0: it is not
    int64_t over_ms         # that it has been altogether, before that

cdef struct Dispatch:
    Kernel *kernel
    CommandTable table
    # What refuses commands: bits of Guard, and what they need.
    uint32_t guard
    int need_auth           # new clients start unauthenticated
    User *default_user      # whose new clients are
    size_t max_memory       # bytes of keyspace, 0: no limit
    Room room
    size_t ops_limit        # bytes of ops after which all clients wait for the next iteration
    char misconf[256]       # what -MISCONF says
    # Time that no clock set right, or wrong, moves: ms since some moment. What waits, is paused or
    # idle is measured by it. Deadlines on it:
    int64_t steady
    int64_t next_deferred   # when the first deferred reply times out, -1: none
    int64_t pause_until     # the end of CLIENT PAUSE, 0: none
    int64_t next_http_warning   # no further one is logged before
    # Statistics.
    Stopwatch stopwatch
    Stats stats
    ErrorCount errors[128]  # ERROR_CODES; the first with a count of 0 ends them
    SlowLog logs[3]         # by CommandCost
    Latency latency
    Denials denials
    EncodingLimits encoding
    # Clients.
    uint64_t newest_client  # id
    Waiting waiting
    PubSub pubsub
    Abroad abroad
    Consumers consumers
    Notify notify
    Client *monitors        # of MONITOR; NULL: nobody
    Tracking tracking
    int reads               # somebody wants to know what commands read
    Scripting scripting
    ClientPort port
    # Python: borrowed references, and what it left behind.
    Gil gil
    void *executor          # the Executor
    void *loop              # the Loop, NULL without one
    int interrupted         # a signal handler raised inside a Python command
    # Which keys cost the most (hotkeys.pxi).
    HotKeys *hot            # NULL: nobody has asked

# Without a loop, which sets it in every iteration, `steady` is the replica's time.
cdef void steady_alone(Dispatch *d) noexcept nogil
# Sets GUARD_CLOCK or takes it away, after the clock or the stamps have moved.
cdef void check_clock(Dispatch *d) noexcept nogil
# 1: the iteration's ops are many enough to be logged before more are made.
cdef int iteration_is_full(Dispatch *d) noexcept nogil
# p: an error reply from its '-' on. Counted by its code.
cdef void count_error(Dispatch *d, const char *p, size_t n) noexcept nogil
# An error among the replies counts as one of cmd's. The command's reply begins at `at`.
cdef void count_reply(Dispatch *d, Client *client, Command *cmd, size_t at) noexcept nogil
# A reply outside of the client's own share of an iteration: begin_reply; write it; end_reply with
# the length of client.reply.buf at which it began.
cdef void begin_reply(Dispatch *d, Client *client) noexcept nogil
cdef void end_reply(Dispatch *d, Client *client, size_t at) noexcept nogil
# CLIENT REPLY OFF and SKIP drop what a command said, if they hold before it (flags) and after it,
# however much it was. A command that has blocked its client is not over yet.
cdef void finish_reply(Client *client, size_t at, uint32_t before) noexcept nogil
cdef void drop_reply(Reply *r, size_t at, int over) noexcept nogil

# Connections: what the loop holds of each client's socket, and of all of them together.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from crdtredis.buffer cimport Buffer, Span
from crdtredis._resp cimport Parser

cdef enum ConnState:
    CONN_READY = 1          # on the list of those to be read and run in the next iteration
    CONN_READABLE = 2       # the socket may hold more (edge-triggered: nobody says so twice)
    CONN_UNPARSED = 4       # its share was used up: whole commands may be left in the parser
    CONN_HUNGUP = 8         # the peer shut down its side, or the socket broke: read to the end
    CONN_WANTS_OUT = 16     # EPOLLOUT is registered: the socket did not take all
    CONN_SEND = 32          # on the list of those to be looked at when the iteration ends
    CONN_DEAD = 64          # on the list of those to be freed when the iteration ends

# Replies that the socket did not take. Blocks own their bytes; small rests are put together, large
# ones move without a copy.
cdef struct OutBlock:
    OutBlock *next
    Buffer buf
    Shared *shared          # in its place; NULL: none
    size_t sent

cdef struct Conn:
    Client client           # first, so that a Client with an fd is a Conn
    uint32_t state          # ConnState
    uint32_t job            # what threads read for it: 1 + place in Threads.jobs; 0: nothing
    Tls *tls                # NULL: in the clear
    # what it sent
    Parser parser
    Buffer held             # a command that CLIENT PAUSE holds back, packed as in Client.queue
    # what it is owed beyond client.reply
    OutBlock *out_head
    OutBlock *out_tail
    size_t out_bytes        # unsent bytes in those blocks
    size_t out_blocks
    size_t counted          # of Connections.evictable
    int64_t soft_since      # ms since when the soft output limit is exceeded, 0: it is not
    # replies of one iteration; without meaning in others
    uint64_t iteration      # which
    size_t reply_at         # client.reply.buf.n when the first of them began
    uint32_t replies        # commands that replied
    # lists of Connections
    Conn *prev
    Conn *next
    Conn *next_ready
    Conn *next_send
    Conn *next_dead

cdef enum:
    PREFETCH = 16           # commands of a pipeline that are parsed before the first of them runs
    PREFETCH_ARGS = 128     # and their arguments

# A command that was parsed before the ones in front of it have run.
cdef struct Prefetched:
    size_t at               # where it begins in the parser's buffer
    Command *command
    Span *argv              # into Connections.prefetch_args
    int argc
    uint32_t hash           # of its first key

# Since the start.
cdef struct ConnCounts:
    uint64_t accepted
    uint64_t rejected       # too many, or from another host in protected mode
    uint64_t closed_output  # for exceeding an output limit
    uint64_t closed_query
    uint64_t timed_out
    uint64_t evicted        # for maxmemory_clients
    uint64_t net_in         # bytes
    uint64_t net_out
    uint64_t shaken         # handshakes of TLS that were completed; that failed, all ways
    uint64_t unshaken
    uint64_t broken         # TLS connections ended by an error after that
    uint64_t threaded_reads         # calls that a thread made; handshakes count as reads
    uint64_t threaded_writes

cdef class Connections:
    cdef readonly Executor executor
    cdef Dispatch *d
    cdef int ep                         # epoll's descriptor
    cdef uint64_t iterations            # of the loop, this one included
    # lists: all, the newest first; where the next slice of idle checks begins; see ConnState
    cdef Conn *first
    cdef Conn *cron_at
    cdef Conn *ready
    cdef Conn *passed_over          # ready as well, before those
    cdef Conn *to_send
    cdef Conn *dead
    # threads for calls on sockets, NULL: none; of those ready, the first for which none has read
    # yet; ms, Dispatch.steady, when they last had something to do
    cdef Threads *threads
    cdef Conn *unread
    cdef int64_t threaded_at
    cdef readonly uint32_t connected    # how many
    # bytes that all took when check_idle came to each; of those that it has come to in this round
    cdef size_t memory
    cdef size_t memory_so_far
    cdef size_t memory_gone         # of those that ended since the last look at it
    # bytes that all may take together, 0: no limit; those that all took when each was looked at
    cdef size_t most_memory
    cdef size_t evictable
    # reading: the buffer lent to one parser at a time, and commands of one pipeline
    cdef Buffer shared
    cdef Prefetched prefetched[16]      # PREFETCH
    cdef Span prefetch_args[128]        # PREFETCH_ARGS
    # limits, in bytes where nothing else is said; of the output, 0: none
    cdef public size_t output_hard
    cdef public size_t output_soft
    cdef public int64_t output_soft_seconds
    cdef public size_t pubsub_hard      # the same for subscribers
    cdef public size_t pubsub_soft
    cdef public int64_t pubsub_soft_seconds
    cdef public size_t monitor_hard     # of those that MONITOR
    cdef public size_t query_limit      # of unfinished commands and MULTI queue
    cdef public int64_t max_bulk        # of one argument
    # "host:port" that clients of MAINT_NOTIFICATIONS are sent to before a stop; empty: none
    cdef public bytes moving_to
    cdef public int64_t timeout         # s of idleness after which a client is closed, 0: never
    cdef ConnCounts counts
    # TLS: for those accepted from now on; handshakes under way, and what they have cost in this
    # iteration; how long one may take, in ms; the minute in which failures are logged, how many
    # were, and how many were not
    cdef public TlsContext tls
    cdef TlsQueue handshakes
    cdef int64_t handshake_ns
    # what who is not logged in has cost in this iteration, and who gave a wrong password last
    cdef int64_t stranger_ns[2]
    cdef public int64_t handshake_timeout
    # called with the session of who has shaken hands, and the name in its certificate; None: nobody
    cdef public object on_certificate
    cdef int64_t failures_since
    cdef uint32_t failures_logged
    cdef uint32_t failures_left_out

    cdef Shared *moving(self, bint away) noexcept
    cdef int add_fd(self, int fd, uint64_t tag) except -1
    cdef void close_all(self) noexcept nogil
    cdef Conn *find(self, uint64_t id) noexcept nogil

cdef size_t hard_limit(Connections self, Client *client) noexcept nogil
cdef void add_conn(Connections self, Conn *c) noexcept nogil        # a new one
cdef void add_ready(Connections self, Conn *c) noexcept nogil
cdef void add_send(Connections self, Conn *c) noexcept nogil
# ... which was ready, but has had no share in this iteration
cdef void add_passed_over(Connections self, Conn *c) noexcept nogil
cdef Conn *take_ready(Connections self) noexcept nogil      # those ready, the earliest first
# Before the first reply to c in an iteration, or one that may be.
cdef void begin_replies(Connections self, Conn *c) noexcept nogil
# The log has not taken the iteration: errors in place of the replies of those who wrote.
cdef void refuse_writers(Connections self) noexcept nogil
cdef void end_pause(Connections self) noexcept nogil                # of CLIENT PAUSE
# Runs what CLIENT PAUSE or a join held back, unless the other still does so.
cdef void resume_postponed(Connections self) noexcept nogil
# Has events say when the socket takes more, or ends that.
cdef void want_out(Connections self, Conn *c, int on) noexcept nogil
# Closes it at the iteration's end, when free_dead is called.
cdef void kill(Connections self, Conn *c) noexcept nogil
cdef void free_dead(Connections self) noexcept nogil
cdef void free_block(OutBlock *o) noexcept nogil
# Bytes that it takes; conn NULL: a client without a connection.
cdef size_t client_memory(Client *c, Conn *conn) noexcept nogil
# Looks at what it takes.
cdef void count_memory(Connections self, Conn *c) noexcept nogil
# Closes those that take most, until the others take no more than they may.
cdef void evict_clients(Connections self) noexcept nogil
# A row of CLIENT LIST; conn NULL: a client without a connection.
cdef dict client_row(Client *c, Conn *conn)

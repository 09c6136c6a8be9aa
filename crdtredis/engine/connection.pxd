# Connections: see engine/connection.pxi.

cdef enum ConnState:
    CONN_READY = 1          # on the list of those to be read and run in the next iteration
    CONN_READABLE = 2       # the socket may hold more (edge-triggered: nobody says so twice)
    # whole commands may be left in the parser: its share of the iteration was used up
    CONN_UNPARSED = 4
    CONN_HUNGUP = 8         # the peer shut down its side, or the socket broke: read to the end
    CONN_WANTS_OUT = 16     # EPOLLOUT is registered: the socket did not take all
    CONN_SEND = 32          # on the list of those to be looked at when the iteration ends
    CONN_DEAD = 64          # on the list of those to be freed when the iteration ends

# Replies that the socket did not take. Blocks own their bytes; small rests are put together, large
# ones move without a copy.
cdef struct OutBlock:
    OutBlock *next
    Buffer buf
    size_t sent

cdef struct Conn:
    Client client           # first, so that a Client with an fd is a Conn
    uint32_t state
    Parser parser
    OutBlock *out_head
    OutBlock *out_tail
    size_t out_bytes        # unsent bytes in those blocks
    size_t out_blocks
    int64_t soft_since      # ms since when the soft output limit is exceeded, 0: it is not
    # within one iteration, and dead in others
    uint64_t iteration      # which
    size_t iteration_at     # client.reply.buf.n when the iteration's first reply began
    uint32_t iteration_replies  # commands that answered
    Buffer held             # a command that CLIENT PAUSE holds back
    # lists
    Conn *prev
    Conn *next
    Conn *next_ready
    Conn *next_send
    Conn *next_dead

# A command that has been parsed before its turn.
cdef struct Ahead:
    size_t at               # where it begins in the parser's buffer
    Command *command
    Span *argv              # into Loop.ahead_args
    int argc
    uint32_t hash           # of its first key

cdef void accept_all(Loop self) noexcept nogil
cdef void process(Loop self, Conn *c) noexcept nogil                # one client's share
# the end of the iteration: replies, and the marking of who is to be closed
cdef void send_all(Loop self) noexcept nogil
cdef void send_conn(Loop self, Conn *c) noexcept nogil
cdef void kill(Loop self, Conn *c) noexcept nogil  # close it at the iteration's end
cdef void free_dead(Loop self) noexcept nogil
cdef void check_idle(Loop self) noexcept nogil                      # a slice of cron

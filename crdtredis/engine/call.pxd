# What a command is given, hot or plain, and what a client is.

cdef enum ClientFlag:
    CLIENT_MULTI = 1        # between MULTI and EXEC
    CLIENT_DIRTY = 2        # a command was refused while queueing: EXEC answers EXECABORT
    CLIENT_CLOSE = 4        # close once the replies so far are sent
    CLIENT_AUTHENTICATED = 8
    CLIENT_REPLY_OFF = 16   # CLIENT REPLY OFF
    CLIENT_REPLY_SKIP = 32  # ... SKIP: the next command's reply is dropped
    CLIENT_BLOCKED = 64     # a deferred reply is outstanding: nothing more is parsed from it
    CLIENT_NO_TOUCH = 128
    CLIENT_NO_EVICT = 256
    CLIENT_IN_EXEC = 512

cdef struct Watched:
    Watch *watch
    uint64_t version        # at WATCH time
    int expired             # the key had already expired then: its going away is no change

# The state of one client as commands see it; a Connection (loop.pxd) holds one, and so does a Python Session.
cdef struct Client:
    uint64_t id
    uint32_t db
    uint32_t flags
    Reply reply             # replies not yet handed to the socket
    # MULTI
    Buffer queue            # queued commands: per command uint32 argc, then per argument uint32 length and bytes
    uint32_t queued
    Watched *watched
    uint32_t watched_n
    uint32_t watched_cap
    # for CLIENT LIST and SLOWLOG
    void *session           # borrowed Session once a plain command has run, else NULL
    void *command           # Command of the last call
    int64_t created         # ms
    int64_t active          # ms of the last command

cdef struct Call:
    Kernel *kernel
    Client *client
    Reply *reply            # &client.reply
    Span *argv              # argv[0] is the command name as sent
    int argc
    uint32_t db             # client.db
    void *executor          # borrowed Executor

ctypedef void (*HotHandler)(Call *c) noexcept nogil

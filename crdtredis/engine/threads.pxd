# The socket work of connections, on other cores.

from libc.stdint cimport uint32_t

cdef enum:
    JOBS = 256              # given out at a time, at most
    POLLED = 1024           # events that one job takes
    IO_THREADS = 64         # of a server at most, the engine's among them

cdef enum JobKind:
    JOB_READ
    JOB_SHAKE               # go on with a handshake
    JOB_SEND
    JOB_POLL                # take the events that there are by then

# A call on one connection's socket. While a thread has it, the engine changes nothing of what the
# call uses: the socket, its TLS, and the bytes that are read or sent.
cdef struct Job:
    Conn *conn              # NULL: none, of JOB_POLL
    Bundle *bundle          # that it is part of
    JobKind kind
    int fd                  # of the socket, or epoll's
    int error               # errno, where the call has failed
    int lent                # p is one of the pieces of Threads.room
    char *p                 # where what is read goes,
    size_t n                # at most so much
    # of JOB_READ, bytes that nobody has taken yet, and what ended it, 0 or -1 (1: nothing), which
    # comes behind these; else what the call returned
    ssize_t got
    ssize_t last
    # of JOB_READ, perhaps its first command's key (NULL: not known), and the hash of that
    Span key
    uint32_t hash

# Jobs that one thread does one after the other: an item of its ring.
cdef struct Bundle:
    Job *first              # NULL: the thread ends
    uint32_t n
    Ring *ring
    uint32_t done           # when Ring.done has come to this, they are done

cdef struct Threads:
    uint32_t n              # beside the engine's
    uint32_t jobs_n         # prepared, or given out
    uint32_t shakes         # of them
    int polled_n            # events of the last JOB_POLL that the loop has taken from `polled`
    uint32_t least          # jobs for which a thread is woken; else the engine does them itself
    Ring *rings             # one for each thread
    void *ids               # pthread_t[n]
    char *room              # for what is read: JOBS pieces
    Job jobs[256]           # JOBS
    Bundle bundles[256]     # JOBS
    epoll_event polled[1024]        # POLLED

# n - 1 threads. 0 without an error, else its errno: then there are none.
cdef int threads_start(Threads **out, uint32_t n) noexcept nogil
cdef void threads_end(Threads *t) noexcept nogil
# A new list, when nobody needs the one before any more.
cdef void begin_jobs(Threads *t) noexcept nogil
# One more; NULL: there are JOBS of them, or enough handshakes.
cdef Job *prepare_job(Threads *t, Conn *c, JobKind kind) noexcept nogil
# JOB_POLL behind the others, if there is room and they will be given out.
cdef void prepare_poll(Threads *t, int ep) noexcept nogil
# 1: those prepared are under way; 0: they are not worth it.
cdef int give_jobs(Threads *t) noexcept nogil
cdef void await_job(Job *j) noexcept nogil
cdef void await_all(Threads *t) noexcept nogil
# As recv and tls_recv would have returned, errno included; once or twice: then c.job is 0. What was
# read is in the parser's room. room: bytes that were asked for.
cdef ssize_t take_read(Threads *t, Conn *c, size_t *room) noexcept nogil
# Events have come since: whoever takes what was read asks the socket once more.
cdef void doubt_reads(Threads *t) noexcept nogil
# Offers the socket what the client is owed next: as send(). The engine without threads, too.
cdef ssize_t offer(Conn *c) noexcept nogil
cdef Span block_bytes(const OutBlock *o) noexcept nogil

# How do other cores help, and everything that a connection can be stays what it is?
#
# Of a request that comes alone, most is system calls on its socket. With io_threads more
# than 1 the engine, which alone owns connections, parses and runs commands, has threads do these
# calls. Twice an iteration it makes a list of jobs (Job), hands them out in bundles, one ring for
# each thread (ring.pxi), and takes the results in the order of the list:
#
#     engine    epoll | prepare, give | wait 1, run 1 | wait 2, run 2 | log | prepare, give | wait
#     thread 1                        | read 1, read 3 ...                          | send 1 ...
#     thread 2                        | read 2, read 4 ...                          | send 2 ...
#
# So a thread makes one kind of call on a socket that it was given for this call, and knows nothing
# of clients. Whatever changes a connection (order, MULTI, limits, CLIENT KILL, the end) is done by
# the engine between the calls, by the code that does it without threads: taking a result stands
# where else the call stands. Replies leave after the log, as ever. Nothing is under way between
# iterations, nor while a script lets others speak (await_all).
#
# The last thread that sends asks epoll, too (JOB_POLL): the events that there are by then begin the
# next iteration, and the engine has made no call for them. They are taken before any connection is
# freed. And a thread that has read looks for the command's key (first_key), so that the engine has
# all keys of a bundle on their way from memory before it runs the first command (expect_bundle).
#
# What is read goes into the parser's buffer where the connection has one (a command is cut in the
# middle), else into one of JOBS pieces of memory, from which the engine copies it: so idle clients
# own no buffer, as ever.
#
# A thread is woken for `least` jobs, since to wake it and to wait costs as much as some calls: an
# engine that keeps up makes few calls at a time, and makes them itself. A handshake is worth it
# alone. Each is a bundle of its own, SHAKES for each thread at a time, so that others do not wait
# for long.
#
# Threads never have the GIL. They have no signals: these are the main thread's.
#
# Not chosen: threads that own connections, and parse (Redis 8): then all that an iteration does to
# a connection would be a message. And sharing the calls with the engine: it is the engine that
# the cores wait for.

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from crdtredis._resp cimport parser_room
from crdtredis.buffer cimport Span, need_memory, span

cdef extern from "<pthread.h>" nogil:
    ctypedef unsigned long pthread_t
    ctypedef void *(*ThreadMain)(void *) noexcept nogil
    int pthread_create(pthread_t *id, void *attr, ThreadMain main, void *arg)
    int pthread_join(pthread_t id, void **result)
    int pthread_setname_np(pthread_t id, const char *name)

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <signal.h>
    /* The thread that is started in between has no signals. */
    static inline void crdt_block_signals(sigset_t *before) {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, before);
    }
    static inline void crdt_restore_signals(const sigset_t *before) {
        pthread_sigmask(SIG_SETMASK, before, NULL);
    }
    """
    ctypedef struct sigset_t:
        pass
    void block_signals "crdt_block_signals"(sigset_t *before)
    void restore_signals "crdt_restore_signals"(const sigset_t *before)

cdef enum:
    PIECE = 16 << 10        # bytes of room for what one job reads,
    PIECE_STEP = PIECE + 192        # and from one to the next: not all in the same cache lines
    LEAST = 16              # see Threads.least
    SHAKES = 2              # handshakes for each thread
    READ_MOST = 256 << 10   # bytes that a job reads into a parser's own buffer
    IOVECS = 64


# ---- threads -------------------------------------------------------------------------------------

cdef int threads_start(Threads **out, uint32_t n) noexcept nogil:
    cdef Threads *t
    cdef sigset_t before
    cdef char name[16]
    cdef int error = 0
    out[0] = NULL
    if n <= 1:
        return 0
    t = <Threads*>need_memory(calloc(1, sizeof(Threads)))
    t.rings = <Ring*>need_memory(calloc(n, sizeof(Ring)))
    t.ids = need_memory(calloc(n, sizeof(pthread_t)))
    t.room = <char*>need_memory(malloc(JOBS * PIECE_STEP))
    t.least = LEAST
    block_signals(&before)
    while t.n < n - 1 and not error:
        error = pthread_create(<pthread_t*>t.ids + t.n, NULL, io_main, &t.rings[t.n])
        if not error:
            snprintf(name, sizeof(name), "io_%u", t.n + 1)
            pthread_setname_np((<pthread_t*>t.ids)[t.n], name)
            t.n += 1
    restore_signals(&before)
    if error:
        threads_end(t)
    else:
        out[0] = t
    return error


cdef void threads_end(Threads *t) noexcept nogil:
    cdef Bundle last
    cdef uint32_t i
    if t == NULL:
        return
    memset(&last, 0, sizeof(Bundle))
    await_all(t)
    for i in range(t.n):
        ring_put(&t.rings[i], &last)
        ring_wake(&t.rings[i])
    for i in range(t.n):
        pthread_join((<pthread_t*>t.ids)[i], NULL)
    free(t.rings)
    free(t.ids)
    free(t.room)
    free(t)


cdef void *io_main(void *arg) noexcept nogil:
    cdef Ring *r = <Ring*>arg
    cdef Bundle *b
    cdef uint32_t i
    while True:
        b = <Bundle*>ring_next(r)
        if b.first == NULL:
            return NULL
        for i in range(b.n):
            do_job(&b.first[i])
        ring_over(r)


cdef void do_job(Job *j) noexcept nogil:
    cdef Conn *c = j.conn
    if j.kind == JOB_READ:
        read_some(j, c.tls)
        if j.lent:
            j.key = first_key(j.p, j.p + j.got)
    elif j.kind == JOB_SEND:
        j.got = offer(c)
        j.error = errno
    elif j.kind == JOB_POLL:
        j.got = epoll_wait(j.fd, <epoll_event*>j.p, POLLED, 0)
    else:
        j.got = tls_handshake(c.tls)


cdef void read_some(Job *j, Tls *tls) noexcept nogil:
    """One recv, or as many records as the socket has and there is room for."""
    cdef ssize_t got
    j.got = 0
    j.last = 1
    while True:
        if tls != NULL:
            got = tls_recv(tls, j.p + j.got, j.n - <size_t>j.got)
        else:
            got = recv(j.fd, j.p, j.n, 0)
        if got > 0:
            j.got += got
            if tls == NULL or <size_t>j.got == j.n:
                return
        elif got == 0 or errno != EINTR:
            j.last = got
            j.error = errno
            return


cdef Span first_key(const char *p, const char *end) noexcept nogil:
    """The second argument of a command that comes whole: most commands' first key."""
    cdef uint32_t n = 0
    cdef int i
    for i in range(3):                  # "*N", and "$N" before both arguments
        p += n + 2 * (n > 0)
        n = 0
        if end - p < 4 or p[0] != (c"$" if i else c"*"):
            return span(NULL, 0)
        p += 1
        while p < end and c"0" <= p[0] <= c"9" and n < PIECE:
            n = n * 10 + <uint32_t>(p[0] - c"0")
            p += 1
        p += 2
        if end - p < <ssize_t>n or n == 0:
            return span(NULL, 0)
        if i == 0:
            n = 0
    return span(p, n)


# ---- giving them work ----------------------------------------------------------------------------

cdef void begin_jobs(Threads *t) noexcept nogil:
    t.jobs_n = 0
    t.shakes = 0


cdef Job *prepare_job(Threads *t, Conn *c, JobKind kind) noexcept nogil:
    cdef Job *j = &t.jobs[t.jobs_n]
    if t.jobs_n == JOBS:
        return NULL
    j.lent = 0
    j.key = span(NULL, 0)
    if kind == JOB_SHAKE:
        if t.shakes == SHAKES * t.n:
            return NULL
        t.shakes += 1
    elif kind == JOB_READ:
        if c.parser.buf.p != NULL:
            j.p = parser_room(&c.parser, &j.n)
            j.n = min(j.n, <size_t>READ_MOST)
        else:
            j.lent = 1
            j.p = t.room + t.jobs_n * PIECE_STEP
            j.n = PIECE
    j.conn = c
    j.fd = c.client.fd
    j.kind = kind
    t.jobs_n += 1
    return j


cdef void prepare_poll(Threads *t, int ep) noexcept nogil:
    cdef Job *j = &t.jobs[t.jobs_n]
    if t.least <= t.jobs_n < JOBS:
        j.conn = NULL
        j.fd = ep
        j.kind = JOB_POLL
        j.p = <char*>t.polled
        t.jobs_n += 1


cdef int give_jobs(Threads *t) noexcept nogil:
    """Two bundles for each thread, and handshakes: the engine goes on with what the first have done
    meanwhile."""
    cdef uint32_t used = min(t.n, max(t.jobs_n // t.least + t.shakes, <uint32_t>1))
    cdef uint32_t most = max((t.jobs_n + 2 * used - 1) // (2 * used), <uint32_t>1)
    cdef uint32_t at = 0
    cdef uint32_t i = 0
    cdef Bundle *b
    cdef Ring *r
    if t.jobs_n < t.least and not t.shakes:
        return 0
    while at < t.jobs_n:
        b = &t.bundles[i]
        r = &t.rings[i % used]
        b.first = &t.jobs[at]
        b.n = 0
        b.ring = r
        b.done = r.tail + 1
        while True:
            t.jobs[at].bundle = b
            b.n += 1
            at += 1
            if (at == t.jobs_n or b.n == most or t.jobs[at].kind == JOB_SHAKE
                    or t.jobs[at - 1].kind == JOB_SHAKE):
                break
        ring_put(r, b)
        i += 1
    for i in range(used):
        ring_wake(&t.rings[i])
    return 1


cdef void await_job(Job *j) noexcept nogil:
    ring_await(j.bundle.ring, j.bundle.done)


cdef void await_all(Threads *t) noexcept nogil:
    """The last thread first: the others began earlier, so as a rule they are done by then, too, and
    the engine has slept once."""
    cdef uint32_t i = t.n
    while i:
        i -= 1
        ring_await(&t.rings[i], t.rings[i].tail)


# ---- what was read -------------------------------------------------------------------------------

cdef ssize_t take_read(Threads *t, Conn *c, size_t *room) noexcept nogil:
    cdef Job *j = &t.jobs[c.job - 1]
    cdef ssize_t got = j.got
    cdef size_t parsers
    room[0] = j.n
    if got > 0:
        j.got = 0
        if j.lent:
            memcpy(parser_room(&c.parser, &parsers), j.p, <size_t>got)
        if j.last == 1:
            c.job = 0
        return got
    c.job = 0
    return j.last if j.last >= 0 else fail_with(j.error)


cdef void doubt_reads(Threads *t) noexcept nogil:
    cdef uint32_t i
    cdef Job *j
    for i in range(t.jobs_n):
        j = &t.jobs[i]
        if j.last == 1:
            j.n = <size_t>j.got         # all that was asked for
        elif j.last < 0 and j.error == EAGAIN:
            j.error = EINTR


# ---- sending -------------------------------------------------------------------------------------

cdef inline Span block_bytes(const OutBlock *o) noexcept nogil:
    if o.shared != NULL:
        return span(<const char*>o.shared + sizeof(Shared), o.shared.n)
    return span(o.buf.p, o.buf.n)


cdef ssize_t offer(Conn *c) noexcept nogil:
    cdef iovec iov[IOVECS]
    cdef msghdr m
    cdef OutBlock *o = c.out_head
    cdef Span s
    if o == NULL:
        s = span(c.client.reply.buf.p, c.client.reply.buf.n)
        if c.tls == NULL:
            return send(c.client.fd, s.p, s.n, MSG_NOSIGNAL)
    else:
        s = block_bytes(o)
        s = span(s.p + o.sent, s.n - o.sent)
    if c.tls != NULL:
        return tls_send(c.tls, s.p, s.n)
    memset(&m, 0, sizeof(m))
    m.msg_iov = iov
    while o != NULL and m.msg_iovlen < IOVECS:
        s = block_bytes(o)
        iov[m.msg_iovlen].iov_base = <char*>s.p + o.sent
        iov[m.msg_iovlen].iov_len = s.n - o.sent
        m.msg_iovlen += 1
        o = o.next
    return sendmsg(c.client.fd, &m, MSG_NOSIGNAL)
